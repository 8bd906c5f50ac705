import { beforeAll, describe, expect, test } from "@jest/globals";
import { Validator } from "@seriousme/openapi-schema-validator";
import request from "supertest";
import { adminOperations } from "../../src/rest/admin.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import { readReference } from "../support/reference.ts";
import { type RestApi, startRestApi } from "../support/rest.ts";

interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, {
    readonly operationId: string;
    readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean }[];
    readonly responses: Record<string, unknown>;
  }>>;
}

const reference = readReference();
const describeReference = reference === undefined ? describe.skip : describe;
const apis = [["application", applicationOperations], ["admin", adminOperations]] as const;
let rest: RestApi;

beforeAll(async () => {
  rest = await startRestApi();
});

const documentOf = async (api: string): Promise<Document> => {
  const response = await request(rest.app).get(`/openapi/${api}.json`).expect(200).expect("Content-Type", /json/);
  return response.body as Document;
};

describe.each(apis)("the %s API's document", (api, operations) => {
  test("is valid OpenAPI 3.1", async () => {
    const found = await new Validator().validate(structuredClone(await documentOf(api)) as unknown as Record<string, unknown>);
    expect(found).toMatchObject({ valid: true });
    expect((await documentOf(api)).openapi).toBe("3.1.0");
  });

  test("has what is served, and nothing else", async () => {
    const { paths } = await documentOf(api);
    const described = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
    expect(described.sort()).toEqual(operations.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`).sort());
  });

  test("refers to nothing that is not in it", async () => {
    const text = JSON.stringify(await documentOf(api));
    const { components } = JSON.parse(text) as { components: { schemas: object } };
    const referred = new Set([...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name));
    expect(referred.size).toBeGreaterThan(5);
    expect(Object.keys(components.schemas)).toEqual(expect.arrayContaining([...referred]));
    expect(text).not.toContain("$defs");
  });
});

describeReference("what the contract has as well", () => {
  test.each(apis.map(([api]) => api))("of the %s API has its operationIds, parameters and statuses", async (api) => {
    const { paths } = await documentOf(api);
    const differences: string[] = [];
    let compared = 0;
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, ours] of Object.entries(methods)) {
        const theirs = reference?.operation(api, method, path);
        if (theirs === undefined) continue;
        compared += 1;
        const address = `${method} ${path}`;
        if (theirs.operationId !== ours.operationId) differences.push(`${address}: ${ours.operationId} is ${theirs.operationId}`);
        for (const parameter of theirs.parameters ?? []) {
          if (parameter.in === "header") continue;
          const own = ours.parameters.find((one) => one.name === parameter.name && one.in === parameter.in);
          if (own === undefined) differences.push(`${address}: no ${parameter.in} parameter ${String(parameter.name)}`);
          else if (own.required !== (parameter.required ?? false)) differences.push(`${address}: ${own.name} is required or not`);
        }
        for (const status of Object.keys(theirs.responses)) {
          // A body that is no JSON can only come where there is a body.
          if (status === "400" && method === "get") continue;
          if (ours.responses[status] === undefined) differences.push(`${address}: no status ${status}`);
        }
      }
    }
    expect(differences).toEqual([]);
    expect(compared).toBeGreaterThan(15);
  });
});

describe("the documentation page", () => {
  test("shows both APIs with a viewer of our own server, under a policy that lets in nothing else", async () => {
    const page = await request(rest.app).get("/docs").expect(200).expect("Content-Type", /html/);
    expect(page.text).not.toMatch(/https?:/);
    expect(page.headers["content-security-policy"]).toContain("default-src 'none'");
    const start = await request(rest.app).get("/docs/start.js").expect(200).expect("Content-Type", /javascript/);
    for (const api of ["application", "admin"]) expect(start.text).toContain(`/openapi/${api}.json`);
    for (const [, file = ""] of page.text.matchAll(/(?:src|href)="([^"]+)"/g)) await request(rest.app).get(file).expect(200);
    await request(rest.app).get("/docs/viewer/../../package.json").expect(404);
    await request(rest.app).get("/docs/other").expect(404);
  });
});
