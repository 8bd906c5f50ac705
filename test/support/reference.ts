import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { projectDirectory } from "../../src/config.ts";

/** One of the documents of the HTTP contract. */
export type ReferenceApi = "application" | "admin";

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name?: string; readonly in?: string; readonly required?: boolean }[];
  readonly responses: Record<string, { readonly content?: Record<string, unknown>; readonly $ref?: string }>;
}

interface Document {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, unknown> };
  readonly webhooks?: Record<string, unknown>;
}

/** The contract as data, which lies outside of the repository. */
export interface Reference {
  /** The faults of an answer to an operation, in words; none when it is as the contract says. */
  faultsOf: (answer: {
    readonly api: ReferenceApi;
    readonly method: string;
    /** The path as the contract writes it: `/users/{id}`. */
    readonly path: string;
    readonly status: number;
    readonly body: unknown;
  }) => string[];
  /** The faults of a webhook's body. */
  faultsOfWebhook: (type: string, body: unknown) => string[];
  has: (api: ReferenceApi, method: string, path: string) => boolean;
  operation: (api: ReferenceApi, method: string, path: string) => Operation | undefined;
  /** The statuses that the contract documents for an operation. */
  statusesOf: (api: ReferenceApi, method: string, path: string) => number[];
  /** Every operation, as "api method path"; those of the additions too. */
  operations: () => string[];
}

const directory = resolve(projectDirectory, process.env["LAUREL_REFERENCE_DIR"] ?? "../shared/reference");

/** Where the contract should be; named by tests that are skipped because it is not. */
export const referenceDirectory: string = directory;

/** Reads the contract; undefined when it is not there. */
export function readReference(): Reference | undefined {
  if (!existsSync(join(directory, "application.json"))) return undefined;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv);
  const documents = {} as Record<ReferenceApi, Document>;
  for (const api of ["application", "admin"] as const) {
    const read = (name: string): Document => JSON.parse(readFileSync(join(directory, name), "utf8")) as Document;
    // The additions replace schemas and operations, and add some.
    const [base, additions] = [read(`${api}.json`), read(`${api}-additions.json`)];
    const paths = { ...base.paths };
    for (const [path, methods] of Object.entries(additions.paths)) paths[path] = { ...paths[path], ...methods };
    const schemas = { ...base.components.schemas, ...additions.components.schemas };
    const document = { ...base, paths, components: { ...base.components, schemas } };
    documents[api] = document;
    ajv.addSchema(document, `${api}.json`);
  }
  const operationOf = (api: ReferenceApi, method: string, path: string): Operation | undefined =>
    documents[api].paths[path]?.[method];
  return {
    operation: operationOf,
    statusesOf: (api, method, path) => Object.keys(operationOf(api, method, path)?.responses ?? {}).map(Number),
    operations: () =>
      (["application", "admin"] as const).flatMap((api) =>
        Object.entries(documents[api].paths).flatMap(([path, methods]) =>
          Object.keys(methods)
            .filter((method) => ["get", "post", "put", "patch", "delete"].includes(method))
            .map((method) => `${api} ${method} ${path}`),
        ),
      ),
    faultsOfWebhook: (type, body) => {
      if (documents.application.webhooks?.[type] === undefined) return [`the contract has no webhook ${type}`];
      const validate = ajv.compile({
        $ref: `application.json#/webhooks/${escapePointer(type)}/post/requestBody/content/application~1json/schema`,
      });
      if (validate(body)) return [];
      return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message ?? ""}`);
    },
    has: (api, method, path) => operationOf(api, method, path) !== undefined,
    faultsOf: ({ api, method, path, status, body }) => {
      const responses = operationOf(api, method, path)?.responses ?? {};
      const isOurOwn = responses[status] === undefined;
      // The contract names a few statuses of errors only; all errors have the one form.
      if (isOurOwn && status < 400) return [`the contract has no status ${status} for ${method} ${path}`];
      const schema = isOurOwn
        ? `${api}.json#/components/schemas/${api === "admin" ? "AdminErrorBody" : "ErrorBody"}`
        : `${api}.json#/paths/${escapePointer(path)}/${method}/responses/${status}/content/application~1json/schema`;
      const validate = ajv.compile({ $ref: schema });
      if (validate(body)) return [];
      return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message ?? ""}`);
    },
  };
}

function escapePointer(path: string): string {
  return encodeURIComponent(path.replaceAll("~", "~0").replaceAll("/", "~1"));
}
