import { beforeAll, describe, expect, test } from "@jest/globals";
import { DatabaseError } from "pg";
import { type BadCall, badCalls } from "../support/bad_calls.ts";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";
import { createStoredState, internals } from "../support/inputs.ts";

/**
 * The same wrong calls by SQL, by INSERT and by GraphQL: the catalogue's error with its sentence, and nothing stored
 * (rule K2, section 8). REST's are in test/rest/bad_input.test.ts.
 */

let setting: GraphqlSetting;
let storedState: () => Promise<unknown>;
/** What is stored; it stays so all along. */
let before: unknown;
let functions: Map<string, { readonly writes: boolean; readonly types: ReadonlyMap<string, string> }>;

beforeAll(async () => {
  setting = await createGraphqlSetting();
  const { owner } = setting.database.pools;
  await owner.query(`
    insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user'), ('device', 'Device', 'event');
    insert into laurel.metrics (key, name) values ('words', 'Words'), ('gone', 'Gone');
    update laurel.metrics set archived_at = now() where key = 'gone';
    insert into laurel.points_systems (key, name) values ('xp', 'XP');
    insert into laurel.achievements (key, name, kind, status) values ('done', 'Done', 'api', 'active');
    insert into laurel.achievements (key, name, kind, status, metric_id, metric_value) select 'five', 'Five', 'metric', 'active', id, 5 from laurel.metrics where key = 'words';
    select laurel.record_event('words', 'known')`);
  const found = await owner.query<{ name: string; writes: boolean; names: string[]; types: string[] }>(`
    select p.proname as name, p.provolatile = 'v' as writes, p.proargnames as names,
      array(select format_type(t, null) from unnest(p.proargtypes) with ordinality x (t, no) order by no) as types
    from pg_proc p where p.pronamespace = 'laurel'::regnamespace and p.proargnames is not null`);
  functions = new Map(found.rows.map(({ name, writes, names, types }) =>
    [name, { writes, types: new Map(names.map((one, no) => [one, types[no] ?? ""])) }]));
  storedState = await createStoredState(owner);
  before = await storedState();
});

const camel = (name: string): string => name.replaceAll(/_(\w)/g, (_all, letter: string) => letter.toUpperCase());

test("there are as many classes as the surfaces share", () => {
  expect(badCalls.length).toBeGreaterThan(90);
  expect(new Set(badCalls.map(([what]) => what)).size).toBe(badCalls.length);
});

/** Tries a statement as a service, and an administrator where only one may; the error must be whole. */
async function refusedBySql(text: string, values: readonly unknown[], code: string): Promise<void> {
  const error: unknown = await setting.database.pools.admin.query(text, [...values]).then(() => undefined, (thrown: unknown) => thrown);
  if (!(error instanceof DatabaseError)) throw new Error(`no error of the database's: ${String(error)}`);
  expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringMatching(/\.$/) });
  expect([Boolean(error.detail), Boolean(error.hint), internals.test(error.message)]).toEqual([true, true, false]);
  expect(await storedState()).toEqual(before);
}

describe("by SQL", () => {
  test.each(badCalls)("%s", async (_what, called, args, code) => {
    const types = functions.get(called)?.types;
    const names = Object.keys(args);
    const call = names.map((name, no) => `${name} => $${no + 1}::${types?.get(name) ?? ""}`).join(", ");
    const values = names.map((name) => (types?.get(name) === "jsonb" ? JSON.stringify(args[name]) : args[name]));
    await refusedBySql(`select laurel.${called}(${call})`, values, code);
  });
});

const events = badCalls.filter(([, called, args]) => called === "record_event" && !("profile" in args));

describe("by INSERT, alone and among sound rows", () => {
  test("there are as many", () => {
    expect(events.length).toBeGreaterThan(30);
  });

  test.each(events)("%s", async (_what, _called, args, code) => {
    const names = Object.keys(args);
    const values = names.map((name) => (name === "attributes" ? JSON.stringify(args[name]) : args[name]));
    const places = names.map((_name, no) => `$${no + 1}`).join(", ");
    await refusedBySql(`insert into laurel.metric_events (${names.join(", ")}) values (${places})`, values, code);
    const sound: Record<string, string> = { metric_key: "'words'", user_id: "'new'" };
    const others = names.map((name) => sound[name] ?? "default").join(", ");
    await refusedBySql(`insert into laurel.metric_events (${names.join(", ")}) values (${others}), (${places}), (${others})`, values, code);
  });
});

describe("by GraphQL", () => {
  const declared = (called: string, name: string): string => {
    const type = functions.get(called)?.types.get(name) ?? "";
    const scalar = { text: "String", numeric: "BigFloat", integer: "Int", jsonb: "JSON", date: "Date", uuid: "UUID", "timestamp with time zone": "Datetime" }[type];
    return `$${name}: ${scalar ?? ""}!`;
  };
  const queryOf = ([, called, args]: BadCall): string => {
    const names = Object.keys(args);
    const given = names.map((name) => `${camel(name)}: $${name}`).join(", ");
    const variables = names.map((name) => declared(called, name)).join(", ");
    return functions.get(called)?.writes === true
      ? `mutation (${variables}) { ${camel(called)}(input: { ${given} }) { clientMutationId } }`
      : `query (${variables}) { ${camel(called)}(${given}) }`;
  };

  test.each(badCalls)("%s", async (...bad) => {
    const [, , args, code] = bad;
      const answer = await setting.ask(queryOf(bad), { variables: args });
    expect(answer.errors).toEqual([expect.objectContaining({ message: expect.stringMatching(/\.$/), extensions: expect.objectContaining({ code, hint: expect.any(String) }) })]);
    expect(Object.keys(answer.errors?.[0]?.extensions ?? {}).filter((key) => !["code", "field", "hint"].includes(key))).toEqual([]);
    expect(answer.errors?.map(({ message }) => internals.test(message))).toEqual([false]);
    expect(await storedState()).toEqual(before);
  });

  test.each([
    ["no document", { query: "" }],
    ["a document that is none", { query: "{ user(" }],
    ["an unknown field", { query: "{ secrets }" }],
    ["an unknown argument", { query: '{ user(id: "known", all: true) { id } }' }],
    ["a missing argument", { query: "{ userPoints }" }],
    ["a field without its selection", { query: '{ user(id: "known") }' }],
    ["a selection of a plain value", { query: '{ user(id: "known") { id { x } } }' }],
    ["an unknown operation", { query: "query A { __typename }", operationName: "B" }],
    ["an undeclared variable", { query: "{ user(id: $id) { id } }" }],
    ["an unused variable", { query: 'query ($x: Int) { user(id: "known") { id } }' }],
    ["a number for an ID", { query: "{ user(id: 5) { id } }" }],
    ["a missing variable", { query: "query ($id: String!) { user(id: $id) { id } }" }],
    ["a variable of another type", { query: "query ($id: String!) { user(id: $id) { id } }", variables: { id: 5 } }],
    ["an object for a variable", { query: "query ($id: String!) { user(id: $id) { id } }", variables: { id: { a: 1 } } }],
    ["no UUID for an award", { query: '{ explainAward(awardId: "x") }' }],
    ["a day that is not", { query: 'query ($day: Date!) { metricEventSummary(metricKey: "words", userId: "known", aggregation: "daily", startOn: $day, endOn: "2026-03-01") }', variables: { day: "2026-02-30" } }],
    ["a moment in words", { query: 'query ($at: Datetime!) { balanceAsOf(systemKey: "xp", userId: "known", asOf: $at) }', variables: { at: "someday" } }],
    ["words for a value", { query: 'mutation { recordEvent(input: { metricKey: "words", userId: "known", value: "many" }) { result } }' }],
    ["points beyond 32 bits", { query: 'mutation { adjustPoints(input: { systemKey: "xp", userId: "known", points: 3000000000, reason: "x" }) { result } }' }],
    ["half a point", { query: 'mutation { adjustPoints(input: { systemKey: "xp", userId: "known", points: 0.5, reason: "x" }) { result } }' }],
    ["NUL in a user ID", { query: 'mutation ($id: String!) { recordEvent(input: { metricKey: "words", userId: $id }) { result } }', variables: { id: "a\0b" } }],
    ["NUL in an attribute", { query: 'mutation ($a: JSON!) { recordEvent(input: { metricKey: "words", userId: "known", attributes: $a }) { result } }', variables: { a: { device: "\0" } } }],
    ["NUL in a filter", { query: 'query ($id: String!) { users(filter: { id: { equalTo: $id } }) { nodes { id } } }', variables: { id: "\0" } }],
    ["half a surrogate pair in an attribute", { query: 'mutation ($a: JSON!) { recordEvent(input: { metricKey: "words", userId: "known", attributes: $a }) { result } }', variables: { a: { device: "\ud800" } } }],
    ["a level's key with spaces", { query: 'mutation ($system: UUID!) { createPointsLevel(input: { pointsLevel: { systemId: $system, key: "a b", name: "L", points: 1 } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["a level of a system that is not", { query: 'mutation { createPointsLevel(input: { pointsLevel: { systemId: "00000000-0000-7000-8000-000000000000", key: "a", name: "L", points: 1 } }) { clientMutationId } }' }],
    ["a level below 0", { query: 'mutation ($system: UUID!) { createPointsLevel(input: { pointsLevel: { systemId: $system, key: "a", name: "L", points: -1 } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["a boost by 1", { query: 'mutation ($system: UUID!) { createPointsBoost(input: { pointsBoost: { systemId: $system, name: "B", multiplier: "1", startsOn: "2026-01-01" } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["a boost by NaN", { query: 'mutation ($system: UUID!) { createPointsBoost(input: { pointsBoost: { systemId: $system, name: "B", multiplier: "NaN", startsOn: "2026-01-01" } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["a metric with the key of another", { query: 'mutation { createMetric(input: { metric: { key: "words", name: "Words" } }) { clientMutationId } }' }],
    ["a trigger of 0 points", { query: 'mutation ($system: UUID!) { createPointsTrigger(input: { pointsTrigger: { systemId: $system, type: user_creation, points: 0 } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["an unknown kind of trigger", { query: 'mutation ($system: UUID!) { createPointsTrigger(input: { pointsTrigger: { systemId: $system, type: magic, points: 1 } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["a trigger of another tenant's metric", { query: 'mutation ($system: UUID!) { createPointsTrigger(input: { pointsTrigger: { systemId: $system, type: metric, points: 1, metricId: "00000000-0000-7000-8000-000000000000", metricThreshold: 1 } }) { clientMutationId } }', variables: { system: "{system}" } }],
    ["writing a ledger row", { query: "mutation { createPointsAward(input: {}) { clientMutationId } }" }],
    ["writing a total", { query: 'mutation { updatePointsBalance(input: { userId: "known", patch: { total: "5" } }) { clientMutationId } }' }],
    ["changing a metric that is not", { query: 'mutation { updateMetric(input: { id: "00000000-0000-7000-8000-000000000000", patch: { name: "N" } }) { clientMutationId } }' }],
  ])("and of its own: %s", async (_what, sent) => {
      const found = await setting.database.pools.owner.query<{ id: string }>("select id from laurel.points_systems");
    const variables = JSON.parse(JSON.stringify("variables" in sent ? sent.variables : {}).replace("{system}", found.rows[0]?.id ?? "")) as Record<string, unknown>;
    const answer = await setting.ask(sent.query, { variables, ...("operationName" in sent ? { operationName: sent.operationName } : {}) });
    expect(answer.status).toBeLessThan(500);
    expect(answer.text).not.toContain('"INTERNAL"');
    const messages = answer.errors?.map(({ message }) => message) ?? [(JSON.parse(answer.text) as { error?: string }).error ?? ""];
    expect(messages).not.toEqual([""]);
    for (const message of messages) expect(message).not.toMatch(/relation|constraint|violates|invalid input|pg_|plpgsql|laurel_private|node_modules|\.ts\b|SQLSTATE/i);
    expect(await storedState()).toEqual(before);
  });
});
