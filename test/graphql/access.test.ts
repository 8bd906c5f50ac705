import { beforeAll, describe, expect, test } from "@jest/globals";
import { getIntrospectionQuery } from "graphql";
import request from "supertest";
import { generateApiKey } from "../../src/api_keys.ts";
import { createGraphqlSetting, type GraphqlSetting, isInvalid } from "../support/graphql.ts";
import { createTestApp } from "../support/http.ts";

let setting: GraphqlSetting;

beforeAll(async () => {
  setting = await createGraphqlSetting();
  // The same metric, system and trigger in both tenants; ann and amy in the default one, bob in acme.
  for (const [tenant, users] of [["default", ["ann", "amy"]], ["acme", ["bob"]]] as const) {
    const { createMetric, createPointsSystem } = (await setting.get(
      `mutation {
        createMetric(input: { metric: { key: "words", name: "Words" } }) { metric { id } }
        createPointsSystem(input: { pointsSystem: { key: "xp", name: "XP" } }) { pointsSystem { id } }
      }`,
      { tenant },
    )) as { createMetric: { metric: { id: string } }; createPointsSystem: { pointsSystem: { id: string } } };
    await setting.get(
      `mutation ($system: UUID!, $metric: UUID!) {
        createPointsTrigger(input: { pointsTrigger: {
          systemId: $system, type: metric, points: 1, metricId: $metric, metricThreshold: 1, status: active
        } }) { clientMutationId }
      }`,
      { tenant, variables: { system: createPointsSystem.pointsSystem.id, metric: createMetric.metric.id } },
    );
    for (const userId of users) {
      await setting.get(
        `mutation ($userId: String!) { recordEvent(input: { metricKey: "words", userId: $userId, value: "5" }) { result } }`,
        { tenant, variables: { userId } },
      );
    }
  }
});

describe("a key", () => {
  const post = (headers: Record<string, string>): request.Test =>
    request(setting.app).post("/graphql").set(headers).send({ query: "{ __typename }" });

  test("that is missing or wrong is answered with 401 in words", async () => {
    const unknown = generateApiKey().secret;
    const almost = `${setting.adminKey.secret.slice(0, -1)}x`;
    for (const headers of [{}, { "X-API-KEY": "" }, { "X-API-KEY": "nonsense" }, { "X-API-KEY": unknown }, { "X-API-KEY": almost }]) {
      const response = await post(headers as Record<string, string>).expect(401);
      expect(response.body).toEqual({ error: expect.stringContaining("API key") });
    }
  });

  test("of a user acts in its own tenant only", async () => {
    const response = await post({ "X-API-KEY": setting.annsKey.secret, "Tenant-ID": "acme" }).expect(403);
    expect(response.body).toEqual({ error: expect.any(String) });
  });

  test("of an administrator acts in an existing tenant only", async () => {
    const { errors } = await setting.ask(`{ users { nodes { id } } }`, { tenant: "nowhere" });
    expect(errors).toMatchObject([{ extensions: { code: "LR001" } }]);
  });
});

const everything = `{
  users { nodes { id } }
  metricEvents { nodes { userId } }
  userMetrics { nodes { userId } }
  pointsBalances { nodes { userId } }
  pointsAwards { nodes { userId id } }
}`;

/** The users that appear in a reading of everything. */
const usersIn = (data: Readonly<Record<string, unknown>>): string[] => [
  ...new Set(
    Object.values(data as Record<string, { nodes: { id?: string; userId?: string }[] }>).flatMap(({ nodes }) =>
      nodes.map(({ id, userId }) => userId ?? id ?? ""),
    ),
  ),
].sort();

describe("reading everything shows", () => {
  test("an administrator the users of the tenant it names", async () => {
    expect(usersIn(await setting.get(everything))).toEqual(["amy", "ann"]);
    expect(usersIn(await setting.get(everything, { tenant: "acme" }))).toEqual(["bob"]);
  });

  test("a user itself alone", async () => {
    expect(usersIn(await setting.get(everything, { key: setting.annsKey }))).toEqual(["ann"]);
    expect(usersIn(await setting.get(everything, { key: setting.bobsKey }))).toEqual(["bob"]);
  });
});

describe("a user", () => {
  test("finds nothing of somebody else's, by whatever ID", async () => {
    const { pointsAwards } = (await setting.get(`{ pointsAwards(filter: { userId: { equalTo: "amy" } }) { nodes { id } } }`)) as {
      pointsAwards: { nodes: [{ id: string }] };
    };
    const found = await setting.get(`query ($id: UUID!) { user(id: "amy") { id } pointsAward(id: $id) { points } }`, {
      key: setting.annsKey,
      variables: { id: pointsAwards.nodes[0].id },
    });
    expect(found).toEqual({ user: null, pointsAward: null });
    const { errors } = await setting.ask(`query ($id: UUID!) { explainAward(awardId: $id) }`, {
      key: setting.annsKey,
      variables: { id: pointsAwards.nodes[0].id },
    });
    expect(errors).toMatchObject([{ extensions: { code: "LR005" } }]);
  });

  test.each([
    `{ userPoints(systemKey: "xp", userId: "amy") }`,
    `{ userProfile(userId: "amy") }`,
    `{ balanceAsOf(systemKey: "xp", userId: "amy", asOf: "2030-01-01T00:00:00Z") }`,
    `mutation { recordEvent(input: { metricKey: "words", userId: "amy" }) { result } }`,
    `mutation { identifyUser(input: { userId: "amy", profile: { name: "Mallory" } }) { result } }`,
    `mutation { updateUser(input: { userId: "amy", profile: { name: "Mallory" } }) { result } }`,
    `mutation { adjustPoints(input: { systemKey: "xp", userId: "amy", points: 5, reason: "no" }) { result } }`,
    `mutation { adjustPoints(input: { systemKey: "xp", userId: "ann", points: 5, reason: "for me" }) { result } }`,
    `mutation { createMetric(input: { metric: { key: "mine", name: "Mine" } }) { clientMutationId } }`,
  ])("is forbidden %s", async (query) => {
    const { errors } = await setting.ask(query, { key: setting.annsKey });
    expect(errors).toMatchObject([{ extensions: { code: "LR041" } }]);
  });

  test("records its own events and reads its own points", async () => {
    const { recordEvent } = await setting.get(
      `mutation { recordEvent(input: { metricKey: "words", userId: "bob", value: "2" }) { result } }`,
      { key: setting.bobsKey },
    );
    expect(recordEvent).toMatchObject({ result: { total: 7, points: { xp: { added: 2, total: 7 } } } });
    expect(await setting.get(`{ userPoints(systemKey: "xp", userId: "bob") }`, { key: setting.bobsKey })).toMatchObject({
      userPoints: { total: 7 },
    });
  });

  test("changes no configuration", async () => {
    const { pointsSystems } = (await setting.get(`{ pointsSystems { nodes { id } } }`, { key: setting.annsKey })) as {
      pointsSystems: { nodes: [{ id: string }] };
    };
    const { errors } = await setting.ask(
      `mutation ($id: UUID!) { updatePointsSystem(input: { id: $id, patch: { name: "Mine" } }) { clientMutationId } }`,
      { key: setting.annsKey, variables: { id: pointsSystems.nodes[0].id } },
    );
    expect(errors).toHaveLength(1);
    expect(await setting.get(`{ pointsSystems { nodes { name } } }`)).toEqual({ pointsSystems: { nodes: [{ name: "XP" }] } });
  });
});

describe("there is no way to write", () => {
  test.each([
    "createPointsAward", "updatePointsAward", "deletePointsAward",
    "createPointsBalance", "updatePointsBalance", "deletePointsBalance",
    "createMetricEvent", "updateMetricEvent", "deleteMetricEvent",
    "createUserMetric", "updateUserMetric", "deleteUserMetric",
    "createPointsTriggerCount", "updatePointsTriggerCount",
    "createUser", "deleteUser",
    "createTenant", "updateTenant", "deleteTenant",
    "createApiKey", "updateApiKey", "createFirstAdminKey", "ensureAdminKey",
    "deleteMetric", "deletePointsSystem", "deletePointsTrigger",
    "erasesUser", "verify", "fail", "maintainPartitions",
  ])("by %s, even for an administrator", async (mutation) => {
    const answer = await setting.ask(`mutation { ${mutation}(input: {}) { clientMutationId } }`);
    expect(isInvalid(answer, mutation)).toBe(true);
  });

  test.each([
    ["MetricInput.tenantId", `createMetric(input: { metric: { key: "k", name: "N", tenantId: "00000000-0000-7000-8000-000000000000" } })`, "tenantId"],
    ["MetricInput.id", `createMetric(input: { metric: { key: "k", name: "N", id: "00000000-0000-7000-8000-000000000000" } })`, "id"],
    ["PointsTriggerPatch.activatedAt", `updatePointsTrigger(input: { id: "00000000-0000-7000-8000-000000000000", patch: { activatedAt: "2020-01-01" } })`, "activatedAt"],
  ])("%s", async (_what, mutation, name) => {
    const answer = await setting.ask(`mutation { ${mutation} { clientMutationId } }`);
    expect(isInvalid(answer, name)).toBe(true);
  });

  test.each(["tenants", "apiKeys", "pointsTotals", "idempotencyKeys", "pointsRules", "pointsTriggerCounts", "currentTenantId"])(
    "or to read %s",
    async (field) => {
      expect(isInvalid(await setting.ask(`{ ${field} { nodes { id } } }`), field)).toBe(true);
    },
  );
});

describe("introspection and the IDE", () => {
  test("introspection is for admin keys", async () => {
    const forAdmin = await setting.ask(getIntrospectionQuery());
    expect(forAdmin.data).toHaveProperty("__schema");
    for (const query of [getIntrospectionQuery(), `{ __type(name: "User") { name } }`, `{ ...F } fragment F on Query { __schema { description } }`]) {
      const forUser = await setting.ask(query, { key: setting.annsKey });
      expect(forUser).toMatchObject({ status: 403, errors: [{ message: "Introspection is for admin keys." }] });
    }
    expect(await setting.get(`{ __typename }`, { key: setting.annsKey })).toEqual({ __typename: "Query" });
  });

  test("the IDE opens for nobody but an admin key outside development", async () => {
    const open = (headers: Record<string, string>): request.Test =>
      request(setting.app).get("/graphql").set({ Accept: "text/html", ...headers });
    const refused = await open({}).expect(405).expect("Allow", "POST");
    expect(refused.body).toEqual({ error: "Send GraphQL by POST." });
    await open({ "X-API-KEY": setting.annsKey.secret }).expect(405);
    const page = await open({ "X-API-KEY": setting.adminKey.secret }).expect(200);
    expect(page.text).toContain("<!DOCTYPE html>");
  });

  test("in development the IDE opens for everybody, and introspection for every key", async () => {
    const app = createTestApp(setting.database.pools, { config: { isDevelopment: true } });
    const page = await request(app).get("/graphql").set("Accept", "text/html").expect(200).expect("Content-Type", /html/);
    const script = /from "(\/graphql\/ide\/ruru\.js)"/.exec(page.text)?.[1] ?? "";
    await request(app).get(script).expect(200).expect("Content-Type", /javascript/);
    const answer = await request(app)
      .post("/graphql")
      .set("X-API-KEY", setting.annsKey.secret)
      .send({ query: getIntrospectionQuery() })
      .expect(200);
    expect(answer.body).toHaveProperty("data.__schema");
    await request(app).post("/graphql").send({ query: getIntrospectionQuery() }).expect(401);
  });
});
