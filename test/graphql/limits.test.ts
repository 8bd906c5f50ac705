import { beforeAll, describe, expect, jest, test } from "@jest/globals";
import { buildSchema, getIntrospectionQuery } from "graphql";
import request from "supertest";
import { defaultLimits, measureDocument } from "../../src/graphql/limits.ts";
import { largestBodyBytes } from "../../src/graphql/preset.ts";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";

const schema = buildSchema(`
  type Query { users(first: Int! = 10): Users! me: User }
  type Users { nodes: [User!]! }
  type User { id: ID! friend: User! awards(first: Int! = 10): Awards! }
  type Awards { nodes: [Award!]! }
  type Award { id: ID! }
`);

const refusalOf = (query: string, variables: Record<string, unknown> = {}, limits = {}): string | undefined =>
  measureDocument(schema, query, variables, { ...defaultLimits, ...limits }).refusal;

/** me { friend { friend { … id } } }: n fields deep. */
const deep = (n: number): string => `{ me { ${"friend { ".repeat(n - 2)} id ${"} ".repeat(n - 2)} } }`;

describe("measuring a document", () => {
  test("allows the depth and refuses one more", () => {
    expect(refusalOf(deep(5), {}, { depth: 5 })).toBeUndefined();
    expect(refusalOf(deep(6), {}, { depth: 5 })).toBe("The query is 6 fields deep; at most 5 are allowed.");
  });

  test("allows the number of fields and refuses one more", () => {
    expect(refusalOf(`{ me { id id id } }`, {}, { fields: 4 })).toBeUndefined();
    expect(refusalOf(`{ me { id id id id } }`, {}, { fields: 4 })).toMatch(/has 5 fields/);
  });

  test("allows the number of aliases and refuses one more", () => {
    expect(refusalOf(`{ a: me { b: id } }`, {}, { aliases: 2 })).toBeUndefined();
    expect(refusalOf(`{ a: me { b: id c: id } }`, {}, { aliases: 2 })).toMatch(/has 3 aliases/);
  });

  test("counts a fragment wherever it is spread: 2^30 fields in 30 lines", () => {
    const doubling = Array.from({ length: 30 }, (_, i) => `fragment F${i} on User { ...F${i + 1} ...F${i + 1} }`);
    const bomb = `{ me { ...F0 } } ${doubling.join("\n")} fragment F30 on User { id }`;
    expect(refusalOf(bomb)).toBe(`The query has ${2 ** 30 + 1} fields; at most 500 are allowed.`);
  });

  test("ends for a fragment that spreads itself", () => {
    expect(refusalOf(`{ me { ...F } } fragment F on User { friend { ...F } }`)).toBeUndefined();
  });

  test("multiplies pages: 10 users with 10 awards each are 10 × (1 + 10) rows", () => {
    const query = `{ users { nodes { awards { nodes { id } } } } }`;
    expect(refusalOf(query, {}, { rows: 110 })).toBeUndefined();
    expect(refusalOf(query, {}, { rows: 109 })).toMatch(/could return 110 rows/);
  });

  test("takes pages from variables and their defaults", () => {
    const query = `query ($n: Int! = 50) { users(first: $n) { nodes { id } } }`;
    expect(refusalOf(query, {}, { rows: 49 })).toMatch(/could return 50 rows/);
    expect(refusalOf(query, { n: 49 }, { rows: 49 })).toBeUndefined();
  });

  test.each([0, 100])("allows a page of %i", (n) => {
    expect(refusalOf(`{ users(first: ${n}) { nodes { id } } }`)).toBeUndefined();
    expect(refusalOf(`query ($n: Int!) { users(first: $n) { nodes { id } } }`, { n })).toBeUndefined();
  });

  test.each([-1, 101, 1e12])("refuses a page of %d", (n) => {
    const refusal = "users: first is a number from 0 to 100; read on with after.";
    expect(refusalOf(`query ($n: Int!) { users(first: $n) { nodes { id } } }`, { n })).toBe(refusal);
    expect(refusalOf(`{ users(first: ${n}) { nodes { id } } }`)).toBe(refusal);
  });

  test("allows the tokens and refuses more", () => {
    expect(refusalOf(`{ me { id } }`, {}, { tokens: 6 })).toBeUndefined();
    expect(refusalOf(`{ me { id id } }`, {}, { tokens: 6 })).toMatch(/more tha[nt] 6 tokens/);
  });

  test("lets the IDE's introspection through", () => {
    expect(measureDocument(schema, getIntrospectionQuery(), {})).toEqual({ refusal: undefined, introspects: true, subscribes: false });
  });
});

describe("over HTTP", () => {
  let setting: GraphqlSetting;

  beforeAll(async () => {
    setting = await createGraphqlSetting();
  });

  test("a thousand aliases are refused at once, and in words", async () => {
    const aliases = Array.from({ length: 1000 }, (_, i) => `a${i}: users { nodes { id } }`);
    const answer = await setting.ask(`{ ${aliases.join(" ")} }`);
    expect(answer).toMatchObject({ status: 400, errors: [{ message: expect.stringContaining("more tha") }] });
  });

  test("a page over the limit is refused", async () => {
    const answer = await setting.ask(`query ($n: Int!) { users(first: $n) { nodes { id } } }`, { variables: { n: 101 } });
    expect(answer).toMatchObject({
      status: 400,
      data: undefined,
      errors: [{ message: "users: first is a number from 0 to 100; read on with after.", extensions: { code: "REFUSED" } }],
    });
  });

  test("a null page is refused", async () => {
    const answer = await setting.ask(`query ($n: Int) { users(first: $n) { nodes { id } } }`, { variables: { n: null } });
    expect(answer).toMatchObject({ status: 400, errors: [{ extensions: { code: "REFUSED" } }] });
  });

  test("a null or empty filter filters nothing", async () => {
    for (const filter of [null, {}]) {
      const answer = await setting.ask("query ($filter: UserFilter) { users(first: 1, filter: $filter) { nodes { id } } }", { variables: { filter } });
      expect(answer).toMatchObject({ status: 200, data: { users: { nodes: [] } } });
      expect(answer.errors).toBeUndefined();
    }
  });

  test("lists are read page by page", async () => {
    for (const key of ["a", "b", "c"]) {
      await setting.get(`mutation ($key: Key!) { createMetric(input: { metric: { key: $key, name: "M" } }) { clientMutationId } }`, {
        variables: { key },
      });
    }
    const page = `query ($after: Cursor) { metrics(first: 2, after: $after) { nodes { key } pageInfo { hasNextPage endCursor } } }`;
    const { metrics: first } = await setting.get(page);
    expect(first).toMatchObject({ nodes: [{ key: "a" }, { key: "b" }], pageInfo: { hasNextPage: true } });
    const { pageInfo } = first as { pageInfo: { endCursor: string } };
    expect(await setting.get(page, { variables: { after: pageInfo.endCursor } })).toMatchObject({
      metrics: { nodes: [{ key: "c" }], pageInfo: { hasNextPage: false } },
    });
  });

  test("a body over the limit is answered with 413, one that is no JSON with 400", async () => {
    const post = (body: string, type = "application/json"): request.Test =>
      request(setting.app).post("/graphql").set("X-API-KEY", setting.adminKey.secret).set("Content-Type", type).send(body);
    const query = (size: number): string => {
      const body = JSON.stringify({ query: "{ __typename }", padding: "" });
      return body.replace('""', `"${"x".repeat(size - body.length)}"`);
    };
    await post(query(largestBodyBytes)).expect(200);
    const tooLarge = await post(query(largestBodyBytes + 1)).expect(413);
    expect(tooLarge.body).toEqual({ error: expect.stringContaining("too large") });
    const broken = await post("{").expect(400);
    expect(broken.body).toEqual({ error: "The body is not valid JSON." });
    for (const body of ["[]", "null", `"text"`, "5", `{"query":5}`, `{"query":"{ __typename }","variables":[]}`, "{}"]) {
      const response = await post(body);
      expect([body, response.status]).toEqual([body, 400]);
    }
    await post("query=%7B__typename%7D", "application/x-www-form-urlencoded").expect(415);
    await post("{ __typename }", "text/plain").expect(415);
  });

  test("a cursor of the caller's own making is refused, or finds nothing", async () => {
    // The library says so on the console as well.
    const spoken = jest.spyOn(console, "error").mockImplementation(() => undefined);
    for (const after of ["garbage", Buffer.from("[]").toString("base64"), Buffer.from(`["x","y"]`).toString("base64")]) {
      const answer = await setting.ask(`query ($after: Cursor) { metrics(after: $after) { nodes { key } } }`, { variables: { after } });
      expect(answer.errors?.[0]?.message).toMatch(/cursor/i);
    }
    spoken.mockRestore();
  });
});
