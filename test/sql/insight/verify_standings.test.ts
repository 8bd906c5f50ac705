import { describe, expect, test } from "@jest/globals";
import { startingFrom, withRollback } from "../../support/database.ts";
import { first, insertEvents, record, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database } from "../../support/factories.ts";

/** Standings of a week, a month and this year, all of what is in them written days before they were counted. */
async function countedStandings(db: Database): Promise<void> {
  const words = await aMetric(db, { key: "words" });
  const xp = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system: xp, metric: words, every: 1, points: 2 });
  await insertEvents(db, [1, 1, 2, 5, 5, 5, 9].map((value, n) => ({ metric: "words", user: `u${n}`, value })));
  await count(db, "2 days");
}

async function count(db: Database, later: string): Promise<void> {
  const next = async (): Promise<number> =>
    first((await db.query<{ n: number }>("select laurel_private.count_standings(now() + $1::interval) as n", [later])).rows).n;
  // As if there were many users.
  await db.query("insert into laurel_private.user_counts (tenant_id, segment_id, joined_on, users) values (laurel.current_tenant_id(), laurel_private.everybody(), current_date, 20000)");
  while ((await next()) > 0);
  await db.query("delete from laurel_private.user_counts where users = 20000");
}

const broken = async (db: Database): Promise<string[]> => [...new Set((await verify(db)).map(({ invariant }) => invariant))];

/** Behind every check, as nobody but the owner can. */
async function corrupt(db: Database, statement: string): Promise<void> {
  await db.query("set constraints all immediate");
  await db.query("set local session_replication_role = replica");
  expect((await db.query(statement)).rowCount).toBeGreaterThan(0);
  await db.query("set local session_replication_role = origin");
}

/** Standings of a year: one row per metric and system. */
const ofTheYear = "last_on - first_on > 300 and exists (select from laurel.points_systems y where y.id = source_id)";

test("standings as they were counted are in order, whatever comes later", async () => {
  await withRollback(async (db) => {
    await countedStandings(db);
    expect(first((await db.query<{ n: number }>("select count(*)::int as n from laurel_private.standings where cardinality(most) = 4")).rows).n).toBeGreaterThanOrEqual(6);
    expect(await verify(db)).toEqual([]);
    await db.query("update laurel_private.standing_periods set counted_at = greatest(now(), first_on)");
    await record(db, { metric: "words", user: "u0", value: 30 });
    await record(db, { metric: "words", user: "new", value: 3 });
    expect(await verify(db)).toEqual([]);
  });
});

describe("verify() finds", () => {
  // Triggers and constraints put to sleep once: PostgreSQL plans everything anew when they are.
  const unguarded = startingFrom(async (db) => {
    await countedStandings(db);
    await db.query("set constraints all immediate");
    await db.query("set local session_replication_role = replica");
  });

  test.each([
    ["a step too high", `update laurel_private.standings set most[2] = most[2] + 1 where ${ofTheYear}`, ["standings_are_those_of_their_count"]],
    ["another percentile", `update laurel_private.standings set percentiles[2] = percentiles[2] - 0.1 where ${ofTheYear}`, ["standings_are_those_of_their_count"]],
    ["a missing step", `update laurel_private.standings set most = most[:3], percentiles = percentiles[:3] where ${ofTheYear}`, ["standings_are_those_of_their_count"]],
    ["steps in disorder", `update laurel_private.standings set most = array[most[2], most[1], most[3], most[4]] where ${ofTheYear}`, ["standings_rise", "standings_are_those_of_their_count"]],
    ["percentiles that fall", `update laurel_private.standings set percentiles[3] = 1 where ${ofTheYear}`, ["standings_rise", "standings_are_those_of_their_count"]],
    ["more than all", `update laurel_private.standings set percentiles[4] = 100.1 where ${ofTheYear}`, ["standings_rise", "standings_are_those_of_their_count"]],
    ["nobody at the bottom", `update laurel_private.standings set percentiles[1] = 0.1 where ${ofTheYear}`, ["standings_rise", "standings_are_those_of_their_count"]],
    ["a step of nothing", `update laurel_private.standings set most[4] = null where ${ofTheYear}`, ["standings_rise", "standings_are_those_of_their_count"]],
    ["missing standings", `delete from laurel_private.standings where ${ofTheYear}`, ["standings_are_those_of_their_count"]],
    ["standings of nothing", `insert into laurel_private.standings select tenant_id, first_on, last_on, gen_random_uuid(), most, percentiles from laurel_private.standings where ${ofTheYear}`, ["standings_are_those_of_their_count"]],
    ["a period that is none", "update laurel_private.standing_periods set last_on = last_on - 1 where last_on - first_on = 6", ["standings_are_of_a_week_month_or_year"]],
    ["a count before the period", "update laurel_private.standing_periods set counted_at = first_on - interval '2 days'", ["standings_are_of_a_week_month_or_year"]],
  ])("%s", async (_what, statement, invariants) => {
    await unguarded(async (db) => {
      expect((await db.query(statement)).rowCount).toBeGreaterThan(0);
      expect(await broken(db)).toEqual(expect.arrayContaining(invariants));
    });
  });

  test("an event that was there at the count, and is gone", async () => {
    await unguarded(async (db) => {
      expect((await db.query("delete from laurel.metric_events where user_id = 'u6'")).rowCount).toBeGreaterThan(0);
      expect(await broken(db)).toContain("standings_are_those_of_their_count");
    });
  });
});

describe("verify() leaves alone what nobody can count any more:", () => {
  test.each([
    ["what was written on the day of the count", "select", "1 hour"],
    ["standings from before a user was erased", "select laurel.erase_user('u6')", "1 hour"],
    ["periods of users whose time zone changed", `select laurel.identify_user('u6', '{"tz": "Pacific/Kiritimati"}')`, "2 days"],
  ])("%s", async (_what, statement, later) => {
    await withRollback(async (db) => {
      await countedStandings(db);
      await db.query("delete from laurel_private.standing_periods");
      await count(db, later);
      await db.query(statement);
      // The clock of the count runs two days ahead; the change came after it.
      await db.query("update laurel_private.time_zone_changes set changed_at = now() + interval '2 days'");
      await corrupt(db, `update laurel_private.standings set most[2] = most[2] + 1 where ${ofTheYear}`);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a user's erasure says when, not whose", async () => {
    await withRollback(async (db) => {
      await countedStandings(db);
      await db.query("select laurel.erase_user('u6')");
      expect((await db.query("select * from laurel_private.last_erasures")).fields.map(({ name }) => name)).toEqual(["tenant_id", "erased_at"]);
      await db.query("update laurel_private.last_erasures set erased_at = now() + interval '2 days'");
      expect(await verify(db)).toEqual([]);
      // Counted anew, they are those of the users who are left.
      await count(db, "4 days");
      expect(await verify(db)).toEqual([]);
    });
  });
});
