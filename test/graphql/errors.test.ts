import { describe, expect, test } from "@jest/globals";
import { GraphQLError } from "graphql";
import { DatabaseError } from "pg";
import { pino } from "pino";
import { createErrorMask } from "../../src/graphql/errors.ts";
import { createGraphqlSetting } from "../support/graphql.ts";

const lines: string[] = [];
const mask = createErrorMask({
  logger: pino({}, { write: (line: string) => lines.push(line) }),
  sentences: new Map([
    ["levels.levels_are_nice", { sentence: "A level is nice.", field: null }],
    ["levels.level_names_are_short", { sentence: "A level's name is short.", field: "badge_url" }],
  ]),
});

const masked = (fields: Partial<DatabaseError>): GraphQLError => {
  const cause = Object.assign(new DatabaseError("select secret from hidden", 0, "error"), fields);
  return mask(new GraphQLError(cause.message, { originalError: cause, path: ["field"] }));
};

describe("an error", () => {
  test.each<[string, Partial<DatabaseError>, string, Record<string, unknown>]>([
    ["of ours keeps message, code and hint", { code: "LR003", message: "No metric.", hint: "Make one." }, "No metric.", { code: "LR003", hint: "Make one." }],
    ["of ours names the field that it is about", { code: "LR060", message: "No.", column: "kinds[0].users" }, "No.", { code: "LR060", field: "kinds[0].users" }],
    ["of a missing column names it as GraphQL does", { code: "23502", column: "metric_id" }, "The request contradicts what is stored already.", { code: "LR020", field: "metricId" }],
    ["of a constraint is told by its sentence", { code: "23514", table: "levels", constraint: "levels_are_nice" }, "A level is nice.", { code: "LR020" }],
    ["of a constraint on one column names it", { code: "23514", table: "levels", constraint: "level_names_are_short" }, "A level's name is short.", { code: "LR020", field: "badgeUrl" }],
    ["of a unique constraint has its own code", { code: "23505", table: "levels", constraint: "levels_are_nice" }, "A level is nice.", { code: "LR021" }],
    ["of a constraint without a sentence is told in general", { code: "23514", constraint: "other" }, "The request contradicts what is stored already.", { code: "LR020" }],
    ["of a missing privilege is forbidden", { code: "42501" }, "This key may not do that.", { code: "LR041" }],
    ["of a timeout says to try again", { code: "57014" }, "The database did not answer in time. Try again shortly.", { code: "UNAVAILABLE" }],
  ])("%s", (_what, fields, message, extensions) => {
    const { message: shown, extensions: told, path } = masked(fields);
    expect({ shown, told, path }).toEqual({ shown: message, told: extensions, path: ["field"] });
  });

  test.each<[string, GraphQLError]>([
    ["of SQL", masked({ code: "42P01" })],
    ["of our own making", mask(new GraphQLError("x", { originalError: new TypeError("secret is undefined") }))],
  ])("%s is masked, logged, and found by its ID", (_what, error) => {
    expect(JSON.stringify(error)).not.toContain("secret");
    expect(error.message).toMatch(/^Something went wrong\./);
    const { requestId } = error.extensions as { requestId: string };
    expect(error.message).toContain(requestId);
    expect(lines.filter((line) => line.includes(requestId) && line.includes("secret"))).toHaveLength(1);
  });

  test("of GraphQL's own passes", () => {
    const error = new GraphQLError("Cannot query field");
    expect(mask(error)).toBe(error);
  });
});

test("a refused argument is named over HTTP by the name that REST has for it", async () => {
  const { database, ask } = await createGraphqlSetting();
  await database.pools.owner.query("insert into laurel.points_systems (key, name) values ('xp', 'XP')");
  const answer = await ask(`mutation { previewPoints(input: { systemKey: "xp", scenario: { days: 366, kinds: [{ name: "A", users: 1, events: [] }] } }) { result } }`);
  expect(answer.errors).toMatchObject([{ extensions: { code: "LR060", field: "days" } }]);
});

test("a fault inside a function is masked over HTTP, and shows nothing of it", async () => {
  const { database, ask } = await createGraphqlSetting();
  await database.pools.owner.query(
    `create or replace function laurel.balance_as_of(system_key text, user_id text, as_of timestamptz) returns bigint
     language plpgsql stable as $$ begin return (select secret from hidden_table); end $$`,
  );
  const answer = await ask(`{ balanceAsOf(systemKey: "a", userId: "b", asOf: "2020-01-01T00:00:00Z") }`);
  expect(answer.errors).toMatchObject([{ message: expect.stringMatching(/^Something went wrong/), extensions: { code: "INTERNAL" } }]);
  expect(answer.text).not.toMatch(/hidden_table|secret|balance_as_of/);
});
