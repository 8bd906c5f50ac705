import { beforeAll, describe, expect, test } from "@jest/globals";
import {
  buildClientSchema, getIntrospectionQuery, getNamedType, type GraphQLField, type GraphQLOutputType, type GraphQLSchema, type IntrospectionQuery, isLeafType, isObjectType,
} from "graphql";
import { createGraphqlSetting, type AskOptions, type GraphqlAnswer, type GraphqlSetting } from "../support/graphql.ts";

/**
 * Rules K3 and Q9, field by field: what an application key sees and does through each root field of the schema. A
 * field without an expectation fails the first test.
 */

/** What the key of a user reads: its own rows; its tenant's, like an administrator; or it is refused. */
type Reach = "own" | "tenant" | "forbidden";

const lists: Readonly<Record<string, Reach>> = {
  achievements: "tenant",
  attributes: "tenant",
  auditEntries: "forbidden",
  leaderboardEntries: "own",
  findUsers: "forbidden",
  latestEvents: "forbidden",
  leaderboards: "tenant",
  metricEvents: "own",
  metrics: "tenant",
  pointsAwards: "own",
  pointsBalances: "own",
  pointsBoosts: "tenant",
  pointsLevels: "tenant",
  pointsSystems: "tenant",
  pointsTriggers: "tenant",
  userAchievements: "own",
  userMetrics: "own",
  users: "own",
  webhookAttempts: "forbidden",
  webhookDeliveries: "forbidden",
  webhookEndpoints: "forbidden",
  webhookMessages: "forbidden",
};

/** Fields that find one row by its ID, with the list that has it. */
const singles: Readonly<Record<string, string>> = {
  achievement: "achievements",
  attribute: "attributes",
  auditEntry: "auditEntries",
  leaderboard: "leaderboards",
  metric: "metrics",
  pointsAward: "pointsAwards",
  pointsBoost: "pointsBoosts",
  pointsLevel: "pointsLevels",
  pointsSystem: "pointsSystems",
  pointsTrigger: "pointsTriggers",
  user: "users",
  webhookAttempt: "webhookAttempts",
  webhookEndpoint: "webhookEndpoints",
  webhookMessage: "webhookMessages",
};

/** Functions about one user, as calls with the user's ID in place of `$`: whoever acts for one user asks about no other. */
const aboutUsers: Readonly<Record<string, string>> = {
  balanceAsOf: `systemKey: "xp", userId: $, asOf: "2100-01-01T00:00:00Z"`,
  metricEventSummary: `metricKey: "words", userId: $, aggregation: "daily", startOn: "2026-01-01", endOn: "2026-01-02"`,
  pointsEventSummary: `systemKey: "xp", userId: $, aggregation: "daily", startOn: "2026-01-01", endOn: "2026-01-02"`,
  userAchievementList: `userId: $`,
  userAwards: `systemKey: "xp", userId: $`,
  userLeaderboard: `leaderboardKey: "top", userId: $`,
  userMetricTotal: `metricKey: "words", userId: $`,
  userMetricTotals: `userId: $`,
  userPoints: `systemKey: "xp", userId: $`,
  userPointsBoosts: `systemKey: "xp", userId: $`,
  userPreferences: `userId: $`,
  userProfile: `userId: $`,
  userStreak: `userId: $, historyPeriods: 2`,
  userWrapped: `userId: $, year: 2026`,
};

/** Functions about the tenant. */
const aboutTenants: Readonly<Record<string, { readonly call: string; readonly user: "tenant" | "forbidden" }>> = {
  describeAchievements: { call: `userAttributes: ""`, user: "tenant" },
  describeLeaderboards: { call: `includeFinished: true`, user: "tenant" },
  leaderboardRankings: { call: `leaderboardKey: "top"`, user: "tenant" },
  describePointsBoosts: { call: `systemKey: "xp"`, user: "tenant" },
  describePointsLevels: { call: `systemKey: "xp"`, user: "tenant" },
  describePointsSystem: { call: `systemKey: "xp"`, user: "tenant" },
  pointsEarned: { call: `systemKey: "xp", fromOn: "2026-01-01", toOn: "2026-01-31"`, user: "forbidden" },
  pointsBreakdown: { call: `systemKey: "xp", fromOn: "2026-01-01", toOn: "2026-01-31"`, user: "forbidden" },
  pointsByUsers: { call: `systemKey: "xp", fromOn: "2026-01-01", toOn: "2026-01-31"`, user: "forbidden" },
  pointsInFirstDays: { call: `systemKey: "xp", fromOn: "2026-01-01", toOn: "2026-01-31"`, user: "forbidden" },
  pointsInsights: { call: `systemKey: "xp", fromOn: "2026-01-01", toOn: "2026-01-31"`, user: "forbidden" },
  pointsSummary: { call: `systemKey: "xp"`, user: "tenant" },
  pointsLevelSummary: { call: `systemKey: "xp"`, user: "tenant" },
  exportUser: { call: `userId: "ann"`, user: "forbidden" },
  listStreaks: { call: `userIds: ["ann", "amy"]`, user: "forbidden" },
  streakRankings: { call: `type: "active"`, user: "tenant" },
};

/** Tested on its own below. */
const otherQueries = ["explainAward", "streakSettings"];

/** Inputs by mutation, valid for an administrator of the default tenant; `{pointsSystems}` is an ID from that list. */
const mutations: Readonly<Record<string, { readonly input: string; readonly user: "own" | "forbidden" }>> = {
  adjustPoints: { input: `systemKey: "xp", userId: $, points: 1, reason: "Test"`, user: "forbidden" },
  backtestPoints: { input: `systemKey: "xp", request: { from: "2026-01-01", to: "2026-01-02" }`, user: "forbidden" },
  completeAchievement: { input: `achievementKey: "done", userId: $`, user: "own" },
  createAchievement: { input: `achievement: { key: "fresh", name: "F", kind: api }`, user: "forbidden" },
  createAttribute: { input: `attribute: { key: "fresh", name: "Fresh", type: user }`, user: "forbidden" },
  createLeaderboard: { input: `leaderboard: { key: "fresh", name: "F", rankBy: streak }`, user: "forbidden" },
  createMetric: { input: `metric: { key: "fresh", name: "Fresh" }`, user: "forbidden" },
  createPointsBoost: { input: `pointsBoost: { systemId: "{pointsSystems}", name: "B", multiplier: "2", startsOn: "2026-01-01" }`, user: "forbidden" },
  createPointsLevel: { input: `pointsLevel: { systemId: "{pointsSystems}", key: "fresh", name: "F", points: 77 }`, user: "forbidden" },
  createPointsSystem: { input: `pointsSystem: { key: "fresh", name: "F" }`, user: "forbidden" },
  createPointsTrigger: { input: `pointsTrigger: { systemId: "{pointsSystems}", type: user_creation, points: 1 }`, user: "forbidden" },
  createWebhookEndpoint: { input: `webhookEndpoint: { url: "https://example.com/fresh", eventTypes: ["points.changed"] }`, user: "forbidden" },
  deleteAttribute: { input: `id: "{attributes}"`, user: "forbidden" },
  deletePointsLevel: { input: `id: "{pointsLevels}"`, user: "forbidden" },
  estimatePoints: { input: `systemKey: "xp", amounts: { words: 3 }`, user: "forbidden" },
  deleteWebhookEndpoint: { input: `id: "{webhookEndpoints}"`, user: "forbidden" },
  eraseUser: { input: `userId: $`, user: "forbidden" },
  identifyUser: { input: `userId: $, profile: { name: "N" }`, user: "own" },
  previewPoints: { input: `systemKey: "xp", scenario: { days: 1, kinds: [{ name: "A", users: 1, events: [{ metric: "words", perDay: 1 }] }] }`, user: "forbidden" },
  recordEvent: { input: `metricKey: "words", userId: $`, user: "own" },
  replayWebhookEndpoint: { input: `endpointId: "{webhookEndpoints}"`, user: "forbidden" },
  replayWebhookMessage: { input: `messageId: "{webhookMessages}"`, user: "forbidden" },
  sendTestWebhook: { input: `endpointId: "{webhookEndpoints}"`, user: "forbidden" },
  updateAchievement: { input: `id: "{achievements}", patch: { name: "N" }`, user: "forbidden" },
  updateAttribute: { input: `id: "{attributes}", patch: { name: "N" }`, user: "forbidden" },
  updateLeaderboard: { input: `id: "{leaderboards}", patch: { name: "N" }`, user: "forbidden" },
  updateMetric: { input: `id: "{metrics}", patch: { name: "N" }`, user: "forbidden" },
  updatePointsBoost: { input: `id: "{pointsBoosts}", patch: { name: "N" }`, user: "forbidden" },
  updatePointsLevel: { input: `id: "{pointsLevels}", patch: { name: "N" }`, user: "forbidden" },
  updatePointsSystem: { input: `id: "{pointsSystems}", patch: { name: "N" }`, user: "forbidden" },
  updatePointsTrigger: { input: `id: "{pointsTriggers}", patch: { points: 2 }`, user: "forbidden" },
  updateStreakSettings: { input: `changes: { evaluationMode: "AND" }`, user: "forbidden" },
  updateUser: { input: `userId: $, profile: { name: "N" }`, user: "own" },
  updateUserPreferences: { input: `userId: $, preferences: {}`, user: "own" },
  updateWebhookEndpoint: { input: `id: "{webhookEndpoints}", patch: { isActive: true }`, user: "forbidden" },
};

let setting: GraphqlSetting;
let schema: GraphQLSchema;
const asAnn: () => AskOptions = () => ({ key: setting.annsKey });

beforeAll(async () => {
  setting = await createGraphqlSetting();
  const { owner } = setting.database.pools;
  for (const [tenant, users] of [["default", ["ann", "amy"]], ["acme", ["bob"]]] as const) {
    const client = await owner.connect();
    await client.query("begin");
    await client.query("select set_config('laurel.tenant', $1, true)", [tenant]);
    await client.query(`
      insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user');
      insert into laurel.metrics (key, name) values ('words', 'Words');
      insert into laurel.points_systems (key, name) values ('xp', 'XP');
      insert into laurel.points_levels (system_id, key, name, points)
        select id, 'low', 'Low', 0 from laurel.points_systems where tenant_id = laurel.current_tenant_id();
      insert into laurel.achievements (key, name, kind, status) values ('done', 'Done', 'api', 'active');
      insert into laurel.leaderboards (key, name, rank_by, metric_id, status)
        select 'top', 'Top', 'metric', id, 'active' from laurel.metrics where tenant_id = laurel.current_tenant_id();
      insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold)
        select s.id, 'metric', 1, 'active', m.id, 1 from laurel.points_systems s join laurel.metrics m using (tenant_id)
        where tenant_id = laurel.current_tenant_id();
      insert into laurel.points_boosts (system_id, name, multiplier, starts_on)
        select id, 'B', 2, '2026-01-01' from laurel.points_systems where tenant_id = laurel.current_tenant_id();
      insert into laurel.webhook_endpoints (url, event_types) values
        ('https://example.com/a', '{points.changed,achievement.completed}'), ('https://example.com/b', '{points.changed}')`);
    for (const user of users) {
      await client.query("select laurel.record_event('words', $1, 5), laurel.complete_achievement('done', $1)", [user]);
    }
    await client.query(`
      insert into laurel.webhook_attempts (message_id, endpoint_id, tenant_id, attempted_at, latency_ms, status, response)
      select d.message_id, d.endpoint_id, d.tenant_id, now(), 5, 200, 'ok' from laurel.webhook_deliveries d
      where d.tenant_id = laurel.current_tenant_id()`);
    await client.query("commit");
    client.release();
    // What administrators do is audited.
    await setting.get(`mutation { createAttribute(input: { attribute: { key: "seen", name: "Seen", type: event } }) { clientMutationId } }`, { tenant });
  }
  const { data } = await setting.ask(getIntrospectionQuery());
  schema = buildClientSchema(data as unknown as IntrospectionQuery);
});

const rootFields = (type: "Query" | "Mutation" | "Subscription"): Record<string, GraphQLField<unknown, unknown>> => {
  const found = schema.getType(type);
  if (!isObjectType(found)) throw new Error(`no ${type}`);
  return found.getFields();
};

const typeOf = (field: { type: GraphQLOutputType } | undefined): string => (field === undefined ? "" : getNamedType(field.type).name);

/** All fields of a row that are plain values, so that whatever leaks is in the answer. */
function leaves(typeName: string): string {
  const type = schema.getType(typeName);
  if (!isObjectType(type)) throw new Error(typeName);
  return Object.values(type.getFields())
    .filter((field) => isLeafType(getNamedType(field.type)) && field.args.length === 0)
    .map(({ name }) => name)
    .join(" ");
}

type Row = Readonly<Record<string, unknown>>;

async function rowsOf(list: string, options: AskOptions): Promise<Row[]> {
  const connection = schema.getType(typeOf(rootFields("Query")[list]));
  if (!isObjectType(connection)) throw new Error(list);
  const row = typeOf(connection.getFields()["nodes"]);
  const answer = await setting.ask(`{ ${list}(first: 100) { nodes { ${leaves(row)} } } }`, options);
  if (code(answer) === "LR041") return [];
  expect(answer.errors).toBeUndefined();
  // Admin keys and tenants are no tenant's: every administrator sees what became of them.
  return (answer.data?.[list] as { nodes: Row[] }).nodes.filter((row) => !["api_keys", "tenants"].includes(String(row["kind"])));
}

const code = (answer: GraphqlAnswer): unknown => answer.errors?.[0]?.extensions?.code;

test("every root field has an expectation", () => {
  expect(Object.keys(rootFields("Query")).sort()).toEqual(
    [...Object.keys(lists), ...Object.keys(singles), ...Object.keys(aboutUsers), ...Object.keys(aboutTenants), ...otherQueries].sort(),
  );
  expect(Object.keys(rootFields("Mutation")).sort()).toEqual(Object.keys(mutations).sort());
  // Its authorisation: subscriptions.test.ts
  expect(Object.keys(rootFields("Subscription"))).toEqual(["userBalances"]);
});

test.each(Object.entries(lists))("%s: an application key reads %s", async (list, reach) => {
  const inTenant = await rowsOf(list, {});
  const inOther = await rowsOf(list, { tenant: "acme" });
  const own = await rowsOf(list, asAnn());
  expect(inTenant.length).toBeGreaterThan(0);
  expect(inOther.length).toBeGreaterThan(0);
  // No row is in two tenants.
  const texts = new Set(inTenant.map((row) => JSON.stringify(row)));
  expect(inOther.filter((row) => texts.has(JSON.stringify(row)))).toEqual([]);
  if (reach === "tenant") expect(own).toEqual(inTenant);
  else if (reach === "forbidden") expect(own).toEqual([]);
  else {
    const belongsToAnn = (row: Row): boolean => (row["userId"] ?? row["id"]) === "ann";
    expect(own).toEqual(inTenant.filter(belongsToAnn));
    expect(own.length).toBeGreaterThan(0);
    expect(own.length).toBeLessThan(inTenant.length);
  }
});

test.each(Object.entries(singles))("%s: finds by ID what %s shows, and nothing else", async (field, list) => {
  const type = typeOf(rootFields("Query")[field]);
  const ask = async (id: unknown, options: AskOptions): Promise<unknown> =>
    (await setting.ask(`{ ${field}(id: ${JSON.stringify(id)}) { ${leaves(type)} } }`, options)).data?.[field];
  const own = await rowsOf(list, asAnn());
  const ownIds = new Set(own.map((row) => row["id"]));
  for (const row of await rowsOf(list, {})) {
    expect(await ask(row["id"], {})).toEqual(row);
    expect(await ask(row["id"], { tenant: "acme" })).toBeNull();
    expect(await ask(row["id"], asAnn())).toEqual(ownIds.has(row["id"]) ? row : null);
  }
  for (const row of await rowsOf(list, { tenant: "acme" })) expect(await ask(row["id"], asAnn())).toBeNull();
});

test.each(Object.entries(aboutUsers))("%s: an application key asks about its own user alone", async (field, call) => {
  const ask = (user: string, options: AskOptions): Promise<GraphqlAnswer> =>
    setting.ask(`{ ${field}(${call.replace("$", JSON.stringify(user))}) }`, options);
  const byAdmin = await ask("ann", {});
  expect(byAdmin.errors).toBeUndefined();
  expect((await ask("ann", asAnn())).data).toEqual(byAdmin.data);
  // Somebody, somebody of another tenant, and nobody look alike.
  for (const user of ["amy", "bob", "nobody"]) expect(code(await ask(user, asAnn()))).toBe("LR041");
  for (const user of ["bob", "nobody"]) expect(code(await ask(user, {}))).toBe("LR002");
});

test.each(Object.entries(aboutTenants))("%s: what it answers an application key", async (field, { call, user }) => {
  const byAdmin = await setting.ask(`{ ${field}(${call}) }`);
  expect(byAdmin.errors).toBeUndefined();
  const byAnn = await setting.ask(`{ ${field}(${call}) }`, asAnn());
  if (user === "tenant") expect(byAnn.data).toEqual(byAdmin.data);
  else expect(code(byAnn)).toBe("LR041");
});

test("explainAward explains one's own awards", async () => {
  const ask = (id: unknown, options: AskOptions): Promise<GraphqlAnswer> =>
    setting.ask(`{ explainAward(awardId: ${JSON.stringify(id)}) }`, options);
  for (const row of await rowsOf("pointsAwards", {})) {
    expect((await ask(row["id"], {})).errors).toBeUndefined();
    expect(code(await ask(row["id"], { tenant: "acme" }))).toBe("LR005");
    expect(code(await ask(row["id"], asAnn()))).toBe(row["userId"] === "ann" ? undefined : "LR005");
  }
});

test("streakSettings are every user's to know, of the own tenant", async () => {
  await setting.get(`mutation { updateStreakSettings(input: { changes: { frequency: "weekly" } }) { result } }`, { tenant: "acme" });
  const frequency = async (options: AskOptions): Promise<unknown> =>
    ((await setting.ask("{ streakSettings }", options)).data?.["streakSettings"] as { frequency: string }).frequency;
  expect([await frequency({}), await frequency(asAnn()), await frequency({ tenant: "acme" })]).toEqual(["daily", "daily", "weekly"]);
});

describe("mutations", () => {
  const counts = async (): Promise<unknown> =>
    (
      await setting.database.pools.owner.query<{ counts: unknown }>(
        `select jsonb_object_agg(c.relname, (xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %s', c.oid::regclass), false, true, '')))[1]::text) as counts
         from pg_class c where c.relnamespace = 'laurel'::regnamespace and c.relkind in ('r', 'p')`,
      )
    ).rows[0]?.counts;

  test.each(Object.entries(mutations))("%s: whom it serves", async (field, { input, user }) => {
    let written = input;
    for (const list of Object.keys(lists)) {
      if (!written.includes(`{${list}}`)) continue;
      const [row] = await rowsOf(list, {});
      written = written.replace(`{${list}}`, String(row?.["id"]));
    }
    const call = (who: string): string => `mutation { ${field}(input: { ${written.replace("$", JSON.stringify(who))} }) { clientMutationId } }`;
    const before = await counts();
    // For somebody else, or on what is the tenant's.
    for (const who of user === "own" ? ["amy", "bob", "nobody"] : ["ann", "amy"]) {
      const refused = await setting.ask(call(who), asAnn());
      expect([who, code(refused)]).toEqual([who, "LR041"]);
    }
    expect(await counts()).toEqual(before);
    if (user === "own") expect((await setting.ask(call("ann"), asAnn())).errors).toBeUndefined();
    // An administrator of another tenant finds nothing of this one's.
    if (/id: "|systemId/i.test(written)) expect((await setting.ask(call("ann"), { tenant: "acme" })).errors).toHaveLength(1);
    // What is refused above is not refused for being wrong.
    expect((await setting.ask(call("amy"), {})).errors).toBeUndefined();
  });
});
