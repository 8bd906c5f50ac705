import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, verify } from "../../support/engine.ts";
import { aMetric, anAttribute, aUser, type Database, type Metric } from "../../support/factories.ts";

/** Rules LB1 and S3. That ranks follow whatever befalls one streak is also part of test/sql/streaks/histories.test.ts. */

/** So many days before now, at noon UTC: far from midnight. */
const daysAgo = (days: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * 86_400_000).toISOString();
};
const dayAgo = (days: number): string => daysAgo(days).slice(0, 10);

async function aStreakBoard(db: Database, columns: Record<string, unknown> = {}): Promise<void> {
  const values: Record<string, unknown> = { key: "flames", name: "Flames", rank_by: "streak", status: "active", starts_on: "2020-01-01", ...columns };
  await db.query(
    `insert into laurel.leaderboards (${Object.keys(values).join(", ")}) values (${Object.keys(values).map((_, no) => `$${no + 1}`).join(", ")})`, Object.values(values));
}

/** An event on each of these days, recorded in this order. */
const practise = (db: Database, metric: Metric, user: string, ...days: number[]): Promise<void> =>
  insertEvents(db, days.map((day) => ({ metric: metric.key, user, at: day === 0 ? new Date().toISOString() : daysAgo(day) })));

async function rankings(db: Database, userAttributes = ""): Promise<string[]> {
  const found = await db.query<{ board: { rankings: { userId: string; rank: number; value: number }[] } }>(
    "select laurel.leaderboard_rankings('flames', user_attributes => $1) as board", [userAttributes]);
  return first(found.rows).board.rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
}

/** What anybody who looked at this moment would see. */
async function rankingsAt(db: Database, moment: string): Promise<string[]> {
  const found = await db.query<{ place: string }>(
    `select concat_ws(' ', s.rank, s.user_id, s.value) as place from laurel.leaderboards b
     cross join lateral laurel_private.leaderboard_standing(laurel_private.rule_of(b), b.starts_on, '{}', $1) s
     where b.key = 'flames' order by s.rank`, [moment]);
  return found.rows.map(({ place }) => place);
}

const change = (db: Database, operation: string, ...users: string[]) =>
  db.query("select laurel_private.change_streaks($1, $2)", [operation, JSON.stringify(users.map((userId, index) => ({ index, item: { userId } })))]);

const upkeep = async (db: Database, at: string): Promise<void> => {
  while (((await db.query("select from laurel_private.upkeep_streaks($1, 10)", [at])).rowCount ?? 0) > 0);
};

describe("a leaderboard of streaks", () => {
  test("ranks by current length, among equals those who got there first, and answers an event that extends one", async () => {
    await withRollback(async (db) => {
      await aStreakBoard(db);
      const metric = await aMetric(db);
      await practise(db, metric, "ada", 2, 1);
      await practise(db, metric, "bob", 1);
      expect(await rankings(db)).toEqual(["1 ada 2", "2 bob 1"]);
      const answer = await record(db, { metric: metric.key, user: "bob" });
      expect(answer.leaderboards).toMatchObject({ flames: { key: "flames", rankBy: "streak", rank: 2, previousRank: 2, threshold: 0, start: "2020-01-01", end: null } });
      expect(await rankings(db)).toEqual(["1 ada 2", "2 bob 2"]);
      // The streak is no longer for it.
      expect((await record(db, { metric: metric.key, user: "bob" })).leaderboards).toEqual({});
      // What was missed is brought in: the length is reached with it, though it happened long ago.
      await practise(db, metric, "cem", 0);
      await practise(db, metric, "cem", 1);
      expect(await rankings(db)).toEqual(["1 ada 2", "2 bob 2", "3 cem 2"]);
      expect((await record(db, { metric: metric.key, user: "bob", at: daysAgo(2) })).leaderboards).toMatchObject({ flames: { rank: 1, previousRank: 2 } });
      expect(await verify(db)).toEqual([]);
    });
  });

  test("shows nobody whose streak is lost, from the moment it is, whether or not anything was done then", async () => {
    await withRollback(async (db) => {
      await aStreakBoard(db);
      const metric = await aMetric(db);
      await db.query(`select laurel.update_streak_settings('{"freezes": {"startCount": 0, "maxCount": 2}}')`);
      await practise(db, metric, "ada", 2, 1, 0);
      await practise(db, metric, "bob", 1, 0);
      await change(db, "freezes", "bob");
      expect(await rankingsAt(db, `${dayAgo(-1)}T23:59:59Z`)).toEqual(["1 ada 3", "2 bob 2"]);
      expect(await rankingsAt(db, `${dayAgo(-2)}T00:00:00Z`)).toEqual(["1 bob 2"]);
      expect(await rankingsAt(db, `${dayAgo(-2)}T23:59:59Z`)).toEqual(["1 bob 2"]);
      expect(await rankingsAt(db, `${dayAgo(-3)}T00:00:00Z`)).toEqual([]);
      await upkeep(db, `${dayAgo(-2)}T00:00:00Z`);
      expect(await rankingsAt(db, `${dayAgo(-2)}T00:00:00Z`)).toEqual(["1 bob 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("follows resets, restorations and whoever switches its streak off", async () => {
    await withRollback(async (db) => {
      await aStreakBoard(db);
      const metric = await aMetric(db);
      await practise(db, metric, "ada", 1, 0);
      await practise(db, metric, "bob", 1, 0);
      await change(db, "reset", "ada");
      expect(await rankings(db)).toEqual(["1 bob 2"]);
      await change(db, "restore", "ada");
      expect(await rankings(db)).toEqual(["1 ada 2", "2 bob 2"]);
      await db.query(`select laurel.update_user_preferences('ada', '{"streak": {"enabled": false}}')`);
      expect(await rankings(db)).toEqual(["1 bob 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("enters those who have a streak when it is activated", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await practise(db, metric, "ada", 2, 1, 0);
      await practise(db, metric, "bob", 1);
      await practise(db, metric, "cem", 9, 8);
      await aStreakBoard(db);
      // It waits for transactions that go by rules without the leaderboard: this one is not such.
      await db.query("update laurel_private.leaderboard_backfills set begins_after = '3'");
      for (const expected of [[], ["1 ada 3"], ["1 ada 3", "2 bob 1"]]) {
        expect(await rankings(db)).toEqual(expected);
        await db.query("select laurel_private.backfill_leaderboards(1)");
      }
      await db.query("select laurel_private.backfill_leaderboards(10)");
      expect(first((await db.query<{ left: number }>("select count(*)::int as left from laurel_private.leaderboard_backfills where finished_at is null")).rows).left).toBe(0);
      expect(await rankings(db)).toEqual(["1 ada 3", "2 bob 1"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("stands still once its last day is over, whatever becomes of the streaks", async () => {
    await withRollback(async (db) => {
      await aStreakBoard(db, { ends_on: dayAgo(0) });
      const metric = await aMetric(db);
      await practise(db, metric, "ada", 2, 1, 0);
      await practise(db, metric, "bob", 2, 1);
      await practise(db, metric, "cem", 3, 2);
      for (const moment of [0, -1, -3]) expect(await rankingsAt(db, daysAgo(moment))).toEqual(["1 ada 3", "2 bob 2"]);
      await upkeep(db, daysAgo(-3));
      expect(await rankingsAt(db, daysAgo(-3))).toEqual(["1 ada 3", "2 bob 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("is shown when it begins, with the streaks of before", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aStreakBoard(db, { starts_on: dayAgo(-3) });
      await practise(db, metric, "ada", 1);
      expect((await record(db, { metric: metric.key, user: "ada" })).leaderboards).toEqual({});
      expect(await rankings(db)).toEqual([]);
      expect(first((await db.query<{ place: object }>("select laurel.user_leaderboard('flames', 'ada') as place")).rows).place).toMatchObject({ status: "scheduled", rank: null, value: null });
      await db.query("update laurel.leaderboards set status = 'inactive' where key = 'flames'");
      await db.query("update laurel.leaderboards set status = 'active', starts_on = $1 where key = 'flames'", [dayAgo(0)]);
      await db.query("update laurel_private.leaderboard_backfills set begins_after = '3'");
      await db.query("select laurel_private.backfill_leaderboards()");
      expect(await rankings(db)).toEqual(["1 ada 2"]);
    });
  });

  test("ranks groups by themselves", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "city" });
      await aStreakBoard(db, { breakdown_attributes: ["city"], max_participants: 1 });
      const metric = await aMetric(db);
      for (const [id, city] of [["ada", "Rome"], ["bob", "Oslo"], ["cem", "Rome"]] as const) await aUser(db, { id, attributes: { city } });
      await practise(db, metric, "ada", 1, 0);
      await practise(db, metric, "bob", 0);
      expect((await record(db, { metric: metric.key, user: "cem" })).leaderboards).toMatchObject({ flames: { rank: null, previousRank: null, threshold: 2, breakdownAttributeValue: "Rome" } });
      expect(await rankings(db, "city:Rome")).toEqual(["1 ada 2"]);
      expect(await rankings(db, "city:Oslo")).toEqual(["1 bob 1"]);
      await db.query(`select laurel.identify_user('ada', '{"attributes": {"city": "Oslo"}}')`);
      expect(await rankings(db, "city:Rome")).toEqual(["1 cem 1"]);
      expect(await rankings(db, "city:Oslo")).toEqual(["1 ada 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });
});
