import { beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  buildClientSchema, getIntrospectionQuery, getNamedType, type GraphQLField, type GraphQLInputType, type GraphQLSchema, type IntrospectionQuery, isEnumType,
  isInputObjectType, isLeafType, isListType, isNonNullType, isObjectType,
} from "graphql";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";
import { createStoredState, internals, json, number, seedOf, text } from "../support/inputs.ts";

/**
 * Every root field against arguments of about their types, wrong in every place by turns: GraphQL's own refusals or
 * Laurel's, each with a sentence, never a fault of ours or PostgreSQL's words (rules K2, K3), and what is refused stores
 * nothing. Repeat a failure with LAUREL_TEST_SEED; LAUREL_TEST_RUNS makes more of them.
 */

const runs = Number(process.env["LAUREL_TEST_RUNS"] ?? 8);
const seed = seedOf("GraphQL inputs");

let setting: GraphqlSetting;
let schema: GraphQLSchema;
let storedState: () => Promise<string>;
/** What is stored, as long as nothing was done since it was looked at. */
let stored: string | undefined;
let ids: string[];

beforeAll(async () => {
  setting = await createGraphqlSetting();
  const { owner } = setting.database.pools;
  await owner.query(`
    insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user'), ('device', 'Device', 'event');
    insert into laurel.metrics (key, name) values ('words', 'Words');
    insert into laurel.points_systems (key, name) values ('xp', 'XP');
    insert into laurel.points_levels (system_id, key, name, points) select id, 'low', 'Low', 0 from laurel.points_systems;
    insert into laurel.achievements (key, name, kind, status) values ('done', 'Done', 'api', 'active');
    insert into laurel.points_triggers (system_id, type, points, status) select id, 'user_creation', 1, 'active' from laurel.points_systems;
    insert into laurel.points_boosts (system_id, name, multiplier, starts_on) select id, 'B', 2, '2026-01-01' from laurel.points_systems;
    select laurel.identify_user('ann')`);
  const found = await owner.query<{ id: string }>(`
    select id from laurel.metrics union all select id from laurel.points_systems union all select id from laurel.points_levels union all
    select id from laurel.points_triggers union all select id from laurel.points_boosts union all select id from laurel.achievements union all
    select id from laurel.points_awards`);
  ids = found.rows.map(({ id }) => id);
  const { data } = await setting.ask(getIntrospectionQuery());
  schema = buildClientSchema(data as unknown as IntrospectionQuery);
  storedState = await createStoredState(owner);
});

const mostly = (sound: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 5, arbitrary: sound }, { weight: 3, arbitrary: text }, { weight: 1, arbitrary: number }, { weight: 1, arbitrary: json });

/** Values for a type. Lists and objects are filled to a few levels: filters within filters never end. */
function valueOf(type: GraphQLInputType, name: string, depth = 0): fc.Arbitrary<unknown> {
  if (isNonNullType(type)) return fc.oneof({ weight: 12, arbitrary: valueOf(type.ofType, name, depth) }, { weight: 1, arbitrary: fc.constant(null) });
  if (isListType(type)) return fc.array(valueOf(type.ofType, name, depth + 1), { maxLength: 2 });
  if (isEnumType(type)) return mostly(fc.constantFrom(...type.getValues().map((one) => one.name)));
  if (isInputObjectType(type)) {
    const fields = Object.values(type.getFields()).filter((field) => depth < 3 || isNonNullType(field.type));
    return fc.record(Object.fromEntries(fields.map((field) => [field.name, valueOf(field.type, field.name, depth + 1)])), {
      requiredKeys: fields.filter((field) => isNonNullType(field.type)).map((field) => field.name),
      noNullPrototype: true,
    });
  }
  switch (getNamedType(type).name) {
    case "Int":
      return mostly(fc.constantFrom(0, 1, 10, 100, -1, 101, 2 ** 31 - 1));
    case "Boolean":
      return mostly(fc.boolean());
    case "BigFloat":
    case "BigInt":
      return mostly(fc.constantFrom("1", "0", "-1", "2.5", "999999999999999.999999999", "9223372036854775807", "NaN"));
    case "UUID":
      return mostly(fc.constantFrom(...ids));
    case "Date":
      return mostly(fc.constantFrom("2026-01-01", "2026-02-01", "2027-12-31"));
    case "Datetime":
      return mostly(fc.constantFrom("2026-01-01T00:00:00Z", "2020-02-29T23:59:59+14:00"));
    case "JSON":
      return mostly(fc.oneof(json, fc.constantFrom({}, { plan: "pro" }, { attributes: { plan: "pro" } }, { tz: "Europe/London" })));
    default:
      return mostly(fc.constantFrom(...(soundTexts[name] ?? ["a"])));
  }
}

const soundTexts: Readonly<Record<string, readonly string[]>> = {
  metricKey: ["words"], systemKey: ["xp"], achievementKey: ["done"], userId: ["ann"], id: ["ann"], aggregation: ["daily", "weekly", "monthly"], userAttributes: ["plan:pro", ""],
};

/** All plain values of what a field answers. */
function selectionOf(field: GraphQLField<unknown, unknown>): string {
  const type = getNamedType(field.type);
  if (isLeafType(type)) return "";
  if (!isObjectType(type)) throw new Error(type.name);
  const inner = type.getFields()["nodes"];
  const holder = inner === undefined ? type : getNamedType(inner.type);
  if (!isObjectType(holder)) throw new Error(holder.name);
  const leaves = Object.values(holder.getFields()).filter((one) => isLeafType(getNamedType(one.type)) && one.args.length === 0).map((one) => one.name);
  return inner === undefined ? `{ ${leaves.join(" ")} }` : `{ nodes { ${leaves.join(" ")} } pageInfo { hasNextPage endCursor } }`;
}

const tally = { done: 0, refused: 0, fields: 0 };

test.each(["query", "mutation"] as const)("the fields of %s", async (operation) => {
  const root = operation === "query" ? schema.getQueryType() : schema.getMutationType();
  const fields = Object.values(root?.getFields() ?? {}).filter((field) => field.args.length > 0);
  expect(fields.length).toBeGreaterThan(20);
  for (const field of fields) {
    tally.fields += 1;
    const declared = field.args.map((argument) => `$${argument.name}: ${String(argument.type)}`).join(", ");
    const given = field.args.map((argument) => `${argument.name}: $${argument.name}`).join(", ");
    const query = `${operation} (${declared}) { ${field.name}(${given}) ${selectionOf(field)} }`;
    const variables = fc.record(
      Object.fromEntries(field.args.map((argument) => [argument.name, valueOf(argument.type, argument.name)])),
      { requiredKeys: field.args.filter(({ type }) => isNonNullType(type)).map(({ name }) => name), noNullPrototype: true },
    );
    await fc.assert(
      fc.asyncProperty(variables, async (values) => {
        const before = operation === "mutation" ? (stored ??= await storedState()) : undefined;
        const answer = await setting.ask(query, { variables: values });
        const about = JSON.stringify({ query, values, answer: answer.text });
        expect(answer.status < 500 || about).toBe(true);
        expect(answer.text.includes('"INTERNAL"') ? about : "").toBe("");
        if (answer.errors === undefined && answer.status === 200) {
          tally.done += 1;
          stored = undefined;
          return;
        }
        tally.refused += 1;
        // A body too large, or a null byte in JSON, is refused before GraphQL: {"error": …}.
        for (const { message } of answer.errors ?? []) {
          // GraphQL's own words about a variable repeat what was sent.
          if (message.startsWith("Variable ")) continue;
          expect(internals.test(message) ? about : "").toBe("");
        }
        if (before !== undefined) expect((stored = await storedState()) === before || about).toBe(true);
      }),
      { seed, numRuns: runs },
    );
  }
});

test("both what is right and what is wrong were tried", () => {
  process.stdout.write(`GraphQL inputs: ${tally.fields} fields, ${tally.done} requests done, ${tally.refused} refused\n`);
  expect(tally.done).toBeGreaterThan(tally.fields / 4);
  expect(tally.refused).toBeGreaterThan(tally.fields);
});
