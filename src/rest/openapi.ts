import { z } from "zod";
import { adminOperations } from "./admin.ts";
import { errorAnswer } from "./answers.ts";
import { applicationOperations } from "./application.ts";
import type { Api, Operation } from "./operations.ts";

/** An OpenAPI 3.1 document of what is served: made from the same shapes that requests and, in tests, answers are held against. */
export interface OpenApiDocument {
  readonly openapi: "3.1.0";
  readonly paths: Readonly<Record<string, Readonly<Record<string, object>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

const apis = {
  application: { title: "Laurel application API", server: "/v1", operations: applicationOperations },
  admin: { title: "Laurel admin API", server: "/admin/v1", operations: adminOperations },
} as const;

const refusalNouns: Readonly<Record<number, string>> = {
  400: "The body is not JSON.",
  401: "The key is missing, wrong or revoked, or of the other kind.",
  403: "The key may not do this.",
  404: "Something that was named does not exist.",
  422: "What was sent breaks a rule; nothing was stored.",
  429: "Too many requests; Retry-After says when to try again.",
  503: "The database is away; Retry-After says when to try again.",
};

/** Describes one of the APIs. */
export function describeApi(api: Api): OpenApiDocument {
  const { title, server, operations } = apis[api];
  const schemas: Record<string, object> = {};
  const schemaOf = (shape: z.ZodType): object => hoist(shape, schemas);
  schemaOf(errorAnswer);
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of operations) {
    const path = operation.path.replaceAll(/:(\w+)/g, "{$1}");
    (paths[path] ??= {})[operation.method] = describeOperation(operation, schemaOf);
  }
  return {
    openapi: "3.1.0",
    info: {
      title,
      version: "1",
      description: "Points for what users do. Every refusal is an object with error, in words, and, where it is about one thing of the request, field: its name.",
    },
    servers: [{ url: server }],
    security: [{ key: [] }],
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: { key: { type: "apiKey", in: "header", name: "X-API-KEY" } },
      schemas,
    },
  } as OpenApiDocument;
}

function describeOperation(operation: Operation, schemaOf: (shape: z.ZodType) => object): object {
  const { id, tag, summary, path, query, headers = {}, body, answers, refusals = [] } = operation;
  const json = (shape: z.ZodType): object => ({ "application/json": { schema: schemaOf(shape) } });
  const statuses = [...new Set([401, 422, 429, 503, ...refusals])].sort();
  return {
    operationId: id,
    tags: [tag],
    summary,
    parameters: [
      ...[...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => ({ name, in: "path", required: true, schema: pathSchema(operation, name) })),
      ...Object.entries(query?.shape ?? {}).map(([name, shape]) => ({
        name,
        in: "query",
        required: !z.safeParse(shape as z.ZodType, undefined).success,
        schema: schemaOf(shape as z.ZodType),
      })),
      { name: "Tenant-ID", in: "header", required: false, description: "The tenant's customer ID; the default tenant without it.", schema: { type: "string" } },
      ...Object.entries(headers).map(([name, description]) => ({ name, in: "header", required: false, description, schema: { type: "string" } })),
    ],
    ...(body === undefined ? {} : { requestBody: { required: true, content: json(body) } }),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, shape]) => [status, { description: summary, content: json(shape) }])),
      ...Object.fromEntries(statuses.map((status) => [status, { description: refusalNouns[status] ?? "Refused.", content: json(errorAnswer) }])),
    },
  };
}

/** The admin API names things by our IDs, the application API by the caller's own keys. */
function pathSchema({ api, path }: Operation, name: string): object {
  const isOurs = api === "admin" && !path.startsWith("/users/") && (name === "id" || name === "systemId");
  return isOurs ? { type: "string", format: "uuid" } : { type: "string" };
}

/** A shape as JSON Schema; its named parts go to `schemas`, where OpenAPI looks for them. */
function hoist(shape: z.ZodType, schemas: Record<string, object>): object {
  // As input, so that answers may get more properties one day.
  const { $schema, ...whole } = z.toJSONSchema(shape, { io: "input", unrepresentable: "any" });
  if ($schema?.includes("2020-12") !== true) throw new Error("OpenAPI 3.1 speaks JSON Schema 2020-12");
  const text = JSON.stringify(whole).replaceAll('"#/$defs/', '"#/components/schemas/');
  const { $defs, ...schema } = JSON.parse(text) as { $defs?: Record<string, object>; id?: string };
  for (const [name, part] of Object.entries($defs ?? {})) schemas[name] = withoutId(part);
  const { id } = schema;
  if (id === undefined) return schema;
  schemas[id] = withoutId(schema);
  return { $ref: `#/components/schemas/${id}` };
}

function withoutId(schema: object): object {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => name !== "id"));
}
