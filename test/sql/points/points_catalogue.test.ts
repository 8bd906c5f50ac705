import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, first, record, refusal } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAttribute, aSystem, aTenant, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules RP1, RP3, RP5, L1, L4, B2 and B3: what everybody may read of a points system. */

const ask = async <T>(db: Database, call: string, values: unknown[] = []): Promise<T> =>
  first((await db.query<{ answer: T }>(`select ${call} as answer`, values)).rows).answer;

/** A system where each user has as many points as given. */
async function aSystemWithTotals(db: Database, totals: Readonly<Record<string, number>>) {
  const metric = await aMetric(db);
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, metric, points: 1 });
  for (const [user, value] of Object.entries(totals)) {
    if (value === 0) await aUser(db, { id: user });
    else await record(db, { metric: metric.key, user, value });
  }
  return system;
}

type Range = { from: number; to: number; users: number };
const filled = (ranges: Range[]) => ranges.filter(({ users }) => users > 0);

describe("points_summary() (RP1)", () => {
  test.each([
    // The highest total, and the width of the ten ranges above 0.
    [0, 1],
    [1, 1],
    [9, 1],
    [10, 1],
    [11, 10],
    [100, 10],
    [101, 100],
    [1_000, 100],
    [1_001, 1_000],
  ])("with %i points as the highest total, ranges are %i wide", async (highest, width) => {
    await withRollback(async (db) => {
      await aSystemWithTotals(db, { ada: highest });
      const ranges = await ask<Range[]>(db, "laurel.points_summary('xp')");
      expect(ranges.map(({ from, to }) => [from, to])).toEqual([
        [0, 0],
        ...Array.from({ length: 10 }, (_none, no) => [no * width + 1, (no + 1) * width]),
      ]);
      expect(filled(ranges)).toEqual([
        expect.objectContaining({ users: 1, from: highest === 0 ? 0 : Math.floor((highest - 1) / width) * width + 1 }),
      ]);
    });
  });

  test("counts every user of the tenant, on both sides of each bound", async () => {
    await withRollback(async (db) => {
      await aSystemWithTotals(db, { a: 0, b: 0, c: 1, d: 10, e: 11, f: 20, g: 21, h: 100 });
      expect(filled(await ask<Range[]>(db, "laurel.points_summary('xp')"))).toEqual([
        { from: 0, to: 0, users: 2 },
        { from: 1, to: 10, users: 2 },
        { from: 11, to: 20, users: 2 },
        { from: 21, to: 30, users: 1 },
        { from: 91, to: 100, users: 1 },
      ]);
      await actFor(db, await aTenant(db));
      await aSystem(db, { key: "xp" });
      expect(filled(await ask<Range[]>(db, "laurel.points_summary('xp')"))).toEqual([]);
    });
  });

  test("is narrowed to users with these attributes, the highest total too", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      await anAttribute(db, { key: "team" });
      await aSystemWithTotals(db, { ada: 7, bob: 5000 });
      await db.query(`select laurel.identify_user('ada', '{"attributes": {"plan": "pro", "team": "a:b"}}')`);
      expect(filled(await ask<Range[]>(db, "laurel.points_summary('xp', 'plan:pro,team:a:b')"))).toEqual([{ from: 7, to: 7, users: 1 }]);
      expect(filled(await ask<Range[]>(db, "laurel.points_summary('xp', 'plan:free')"))).toEqual([]);
      expect(filled(await ask<Range[]>(db, "laurel.points_summary('xp', '')"))).toHaveLength(2);
      expect(await refusal(db, () => ask(db, "laurel.points_summary('xp', 'plan')"))).toEqual(lr("LR013"));
      expect(await refusal(db, () => ask(db, "laurel.points_summary('xp', ':pro')"))).toEqual(lr("LR013"));
      expect(await refusal(db, () => ask(db, "laurel.points_summary('xp', 'plan:pro,')"))).toEqual(lr("LR013"));
      expect(await refusal(db, () => ask(db, "laurel.points_summary('xp', 'age:7')"))).toEqual(lr("LR012", "age"));
    });
  });

  test("lets a user see the counts of everybody, and nothing else of anybody", async () => {
    await withRollback(async (db) => {
      await aSystemWithTotals(db, { ada: 3, bob: 4 });
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      const seen = await as(db, "laurel_user", () => ask<Range[]>(db, "laurel.points_summary('xp')"));
      expect(filled(seen)).toEqual([{ from: 3, to: 3, users: 1 }, { from: 4, to: 4, users: 1 }]);
    });
  });
});

describe("a filter by users' attributes", () => {
  const parsed = (db: Database, filter: string) => ask<Record<string, string>>(db, "laurel_private.parse_user_attributes(laurel.current_tenant_id(), $1)", [filter]);
  const withAttributes = (work: (db: Database) => Promise<void>): Promise<void> =>
    withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      await anAttribute(db, { key: "home-city" });
      await work(db);
    });

  test.each<[string, Record<string, string>]>([
    ["", {}],
    ["plan:pro", { plan: "pro" }],
    ["plan:pro,home-city:Rome", { plan: "pro", "home-city": "Rome" }],
    // As they were always read: the first colon divides, nothing else means anything, the last of two wins.
    ["plan:a:b:,home-city:", { plan: "a:b:", "home-city": "" }],
    ["plan:50%2C,home-city:a\\b\\", { plan: "50%2C", "home-city": "a\\b\\" }],
    ['plan:"a",home-city:{"b"}', { plan: '"a"', "home-city": '{"b"}' }],
    ["plan: a ,plan:b", { plan: "b" }],
    // What holds commas, as JSON.
    ['{"home-city": "London, Ontario", "plan": "a:b"}', { plan: "a:b", "home-city": "London, Ontario" }],
    [String.raw`{"plan":"\\,\"\u00e9😀"}`, { plan: '\\,"é😀' }],
    ["{}", {}],
  ])("%s is read as %j", async (filter, attributes) => {
    await withAttributes(async (db) => {
      expect(await parsed(db, filter)).toEqual(attributes);
    });
  });

  test.each([
    ["plan", "LR013"], [",", "LR013"], ["plan:a,", "LR013"], ["plan:London, Ontario", "LR013"], [":a", "LR013"], [" plan:a", "LR012"], ["nope:a", "LR012"],
    ["{", "LR013"], ['{"plan": "a"', "LR013"], ['{"plan": "a"} ,', "LR013"], ["{plan:a}", "LR013"], ["{'plan': 'a'}", "LR013"], [String.raw`{"plan": "\x"}`, "LR013"],
    [String.raw`{"plan": "\u0000"}`, "LR013"], [String.raw`{"plan": "\ud800"}`, "LR013"], ['{"plan": 1}', "LR013"], ['{"plan": null}', "LR013"], ['{"plan": ["a"]}', "LR013"],
    ['{"nope": "a"}', "LR012"], ['{"": "a"}', "LR012"], ["{".repeat(20_000), "LR013"], [`{"plan": ${"[".repeat(20_000)}`, "LR013"], [`{"plan": "${"x".repeat(1001)}"}`, "LR013"],
  ])("%s is refused", async (filter, code) => {
    await withAttributes(async (db) => {
      expect(await refusal(db, () => parsed(db, filter))).toMatchObject({ code, field: "userAttributes" });
    });
  });

  test("narrows a summary to users whose value holds a comma", async () => {
    await withAttributes(async (db) => {
      await aSystemWithTotals(db, { a: 5, b: 7 });
      await db.query(`select laurel.identify_user('b', '{"attributes": {"plan": "a, b"}}')`);
      const found = await ask<{ users: number }[]>(db, "laurel.points_summary('xp', $1)", [JSON.stringify({ plan: "a, b" })]);
      expect(found.map(({ users }) => users)).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    });
  });
});

describe("points_level_summary() (L4)", () => {
  type Level = { level: { key: string }; users: number };
  const summary = async (db: Database) =>
    (await ask<Level[]>(db, "laurel.points_level_summary('xp')")).map(({ level, users }) => [level.key, users]);

  test("counts every user at its level, users without points with a total of 0, and none below all levels", async () => {
    await withRollback(async (db) => {
      const system = await aSystemWithTotals(db, { a: 0, b: 9, c: 10, d: 19, e: 20, f: 500 });
      await aLevel(db, { system, key: "high", points: 20 });
      await aLevel(db, { system, key: "low", points: 10 });
      await aLevel(db, { system, key: "far", points: 501 });
      expect(await summary(db)).toEqual([["low", 2], ["high", 2], ["far", 0]]);
      await aLevel(db, { system, key: "start", points: 0 });
      expect(await summary(db)).toEqual([["start", 2], ["low", 2], ["high", 2], ["far", 0]]);
    });
  });

  test("refuses a system without levels, one that is archived and one that is not there", async () => {
    await withRollback(async (db) => {
      const system = await aSystemWithTotals(db, { a: 1 });
      expect(await refusal(db, () => summary(db))).toEqual(lr("LR024", "xp"));
      await db.query("update laurel.points_systems set archived_at = now() where id = $1", [system.id]);
      expect(await refusal(db, () => summary(db))).toEqual(lr("LR004", "xp"));
    });
  });
});

describe("describe_points_system()", () => {
  test("shows active triggers only (RP3), oldest first", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system, metric, points: 3 });
      await aTrigger(db, { system, metric, points: 4, status: "inactive" });
      await aTrigger(db, { system, type: "streak", streak_length: 7, points: 5 });
      const found = await ask<{ triggers: { points: number; type: string }[] }>(db, "laurel.describe_points_system('xp')");
      expect(found.triggers.map(({ type, points }) => [type, points])).toEqual([["metric", 3], ["streak", 5]]);
    });
  });
});

describe("boosts", () => {
  const names = (boosts: readonly { name: string; status: string }[]) => boosts.map(({ name, status }) => `${name} ${status}`);

  test("of a system are those that are for no single user, finished ones only when asked for (B3)", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db, { key: "xp" });
      await aUser(db, { id: "ada" });
      const today = first((await db.query<{ today: string }>("select (now() at time zone 'UTC')::date::text as today")).rows).today;
      await aBoost(db, { system, name: "ends today", ends_on: today });
      await aBoost(db, { system, name: "ended", ends_on: "2000-01-02" });
      await aBoost(db, { system, name: "later", starts_on: "2999-01-01" });
      await aBoost(db, { system, name: "inactive", is_active: false });
      await aBoost(db, { system, name: "ada's", user_id: "ada" });
      type Boosts = { name: string; status: string }[];
      expect(names(await ask<Boosts>(db, "laurel.describe_points_boosts('xp', false)"))).toEqual(["ends today active", "later scheduled"]);
      expect(names(await ask<Boosts>(db, "laurel.describe_points_boosts('xp', true)"))).toEqual([
        "ends today active", "ended finished", "later scheduled",
      ]);
    });
  });

  test("of a user are those that apply on its own day (B2): own ones, and others whose filter it matches", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const system = await aSystem(db, { key: "xp" });
      // Kiritimati is 25 hours ahead of Niue's neighbour Pago Pago: never the same day.
      await aUser(db, { id: "early", tz: "Pacific/Kiritimati", attributes: { plan: "pro" } });
      await aUser(db, { id: "late", tz: "Pacific/Pago_Pago" });
      const day = async (zone: string) =>
        first((await db.query<{ day: string }>("select (now() at time zone $1)::date::text as day", [zone])).rows).day;
      await aBoost(db, { system, name: "begins early", starts_on: await day("Pacific/Kiritimati") });
      await aBoost(db, { system, name: "ends late", ends_on: await day("Pacific/Pago_Pago") });
      await aBoost(db, { system, name: "pro", user_attributes: { plan: "pro" } });
      await aBoost(db, { system, name: "own", user_id: "late" });
      const of = async (user: string) => names(await ask<{ name: string; status: string }[]>(db, "laurel.user_points_boosts('xp', $1)", [user]));
      expect(await of("early")).toEqual(["begins early active", "pro active"]);
      expect(await of("late")).toEqual(["ends late active", "own active"]);
      expect(await refusal(db, () => of("nobody"))).toEqual(lr("LR002", "nobody"));
    });
  });
});

describe("user_awards() (RP4)", () => {
  test("pages through the whole ledger, latest sequence first, each row with its explanation", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { key: "xp", max_points: 6 });
      await aTrigger(db, { system, metric, points: 1 });
      for (let no = 0; no < 4; no += 1) await record(db, { metric: metric.key, user: "ada", value: 2 });
      type Page = { awards: { sequence: number; total: number; explanation: { sentence: string } }[]; nextCursor: string | null };
      const sequences: number[] = [];
      let cursor: string | null = null;
      do {
        const page: Page = await ask(db, "laurel.user_awards('xp', 'ada', 2, $1::bigint)", [cursor]);
        sequences.push(...page.awards.map(({ sequence }) => sequence));
        expect(page.awards.every(({ total, explanation }) => explanation.sentence.endsWith(`→ ${total}.`))).toBe(true);
        cursor = page.nextCursor;
      } while (cursor !== null);
      // The fourth event changed nothing: the cap was reached.
      expect(sequences).toEqual([3, 2, 1]);
    });
  });
});
