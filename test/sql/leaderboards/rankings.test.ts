import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, refusal, verify } from "../../support/engine.ts";
import { aMetric, anAttribute, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";

/** Rule LB1, by hand; against a model in test/properties/leaderboards.test.ts. */

const dayMs = 86_400_000;
const day = (ahead: number): string => new Date(Date.now() + ahead * dayMs).toISOString().slice(0, 10);

async function aBoard(db: Database, columns: Record<string, unknown>): Promise<void> {
  const values: Record<string, unknown> = { key: "top", name: "Top", status: "active", starts_on: day(-30), ...columns };
  await db.query(
    `insert into laurel.leaderboards (${Object.keys(values).join(", ")}) values (${Object.keys(values).map((_, no) => `$${no + 1}`).join(", ")})`, Object.values(values));
}

interface Board { status: string; rankings: { userId: string; rank: number; value: number }[] }
async function rankings(db: Database, call = "'top'"): Promise<string[]> {
  const found = await db.query<{ board: Board }>(`select laurel.leaderboard_rankings(${call}) as board`);
  return first(found.rows).board.rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
}

describe("rankings", () => {
  test("by metric: the sum of what was added, among equals who got there first", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const other = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id });
      await insertEvents(db, [
        { metric: metric.key, user: "ada", value: 5 }, { metric: metric.key, user: "bob", value: 7 }, { metric: other.key, user: "cem", value: 99 },
        { metric: metric.key, user: "dan", value: -1 }, { metric: metric.key, user: "eve", value: 0 },
      ]);
      expect(await rankings(db)).toEqual(["1 bob 7", "2 ada 5"]);
      const caught = await record(db, { metric: metric.key, user: "ada", value: 2 });
      // Equal now, but bob was there first.
      expect(caught.leaderboards).toMatchObject({ top: { rank: 2, previousRank: 2, threshold: 0 } });
      // Down and up again: now ada was.
      await insertEvents(db, [{ metric: metric.key, user: "bob", value: -1 }, { metric: metric.key, user: "bob", value: 1 }]);
      expect(await rankings(db)).toEqual(["1 ada 7", "2 bob 7"]);
      const passed = await record(db, { metric: metric.key, user: "bob", value: "0.5" });
      expect(passed.leaderboards).toMatchObject({ top: { rank: 1, previousRank: 2 } });
      expect(await rankings(db)).toEqual(["1 bob 7", "2 ada 7"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("by points: what was earned, deducted and adjusted since the start", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { max_points: 20 });
      await aTrigger(db, { system, metric, points: 6 });
      await aBoard(db, { rank_by: "points", system_id: system.id });
      await insertEvents(db, [{ metric: metric.key, user: "ada", value: 2 }, { metric: metric.key, user: "bob", value: 1 }, { metric: metric.key, user: "ada", at: `${day(-31)}T12:00:00Z` }]);
      // 12 + 6 of before the start are 18: two more are all the cap leaves.
      expect(await rankings(db)).toEqual(["1 ada 12", "2 bob 6"]);
      expect((await record(db, { metric: metric.key, user: "ada" })).leaderboards).toMatchObject({ top: { rank: 1, previousRank: 1 } });
      expect(await rankings(db)).toEqual(["1 ada 14", "2 bob 6"]);
      await db.query("select laurel.adjust_points($1, 'bob', 10, 'A present')", [system.key]);
      await db.query("select laurel.adjust_points($1, 'ada', -5, 'A fine')", [system.key]);
      expect(await rankings(db)).toEqual(["1 bob 16", "2 ada 9"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("hold as many as the leaderboard has participants; who is pushed off is back when others fall", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, max_participants: 2 });
      const send = async (user: string, value: number) => (await record(db, { metric: metric.key, user, value })).leaderboards["top"];
      expect(await send("ada", 5)).toMatchObject({ rank: 1, previousRank: null, threshold: 0 });
      expect(await send("bob", 4)).toMatchObject({ rank: 2, previousRank: null, threshold: 4 });
      expect(await send("cem", 4)).toMatchObject({ rank: null, previousRank: null, threshold: 4 });
      expect(await send("cem", 1)).toMatchObject({ rank: 2, previousRank: null, threshold: 5 });
      expect(await rankings(db)).toEqual(["1 ada 5", "2 cem 5"]);
      expect(await send("ada", -5)).toMatchObject({ rank: null, previousRank: 1, threshold: 4 });
      expect(await rankings(db)).toEqual(["1 cem 5", "2 bob 4"]);
    });
  });

  test("are of one run each, and refused for a run that never was", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, starts_on: day(-8), run_unit: "day", run_interval: 7, ends_on: day(20) });
      // Recorded now, a run of before is final only 36 hours after its last day: it is day -2.
      await insertEvents(db, [{ metric: metric.key, user: "ada", value: 3 }, { metric: metric.key, user: "bob", value: 2, at: `${day(-9)}T12:00:00Z` }]);
      expect(await rankings(db)).toEqual(["1 ada 3"]);
      expect(await rankings(db, `'top', run_on => '${day(-1)}'`)).toEqual(["1 ada 3"]);
      expect(await rankings(db, `'top', run_on => '${day(-8)}'`)).toEqual([]);
      for (const never of [day(-9), day(8), day(21), "1999-01-01"]) {
        expect(await refusal(db, () => rankings(db, `'top', run_on => '${never}'`))).toMatchObject({ code: "LR009" });
      }
      expect(await refusal(db, () => rankings(db, "'nonsuch'"))).toMatchObject({ code: "LR008" });
    });
  });

  test("can be read in parts: limit, offset, around a user", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, max_participants: 12 });
      await insertEvents(db, Array.from({ length: 14 }, (_, n) => ({ metric: metric.key, user: `u${String(n + 1).padStart(2, "0")}`, value: 100 - n })));
      expect(await rankings(db)).toHaveLength(10);
      expect(await rankings(db, "'top', 12")).toHaveLength(12);
      expect(await refusal(db, () => rankings(db, "'top', 13"))).toMatchObject({ code: "LR028" });
      expect(await rankings(db, "'top', 0")).toEqual([]);
      expect(await refusal(db, () => rankings(db, "'top', -1"))).toMatchObject({ code: "LR028" });
      expect(await rankings(db, "'top', 5, 10")).toEqual(["11 u11 90", "12 u12 89"]);
      expect(await rankings(db, "'top', 5, 12")).toEqual([]);
      expect(await refusal(db, () => rankings(db, "'top', 5, -1"))).toMatchObject({ code: "LR028" });
      expect(await rankings(db, "'top', 2, user_id => 'u04'")).toEqual(["4 u04 97", "5 u05 96"]);
      expect(await rankings(db, "'top', 2, 1, user_id => 'u04'")).toEqual(["5 u05 96", "6 u06 95"]);
      expect(await rankings(db, "'top', 2, user_id => 'u13'")).toEqual([]);
      expect(await rankings(db, "'top', 2, user_id => 'stranger'")).toEqual([]);
    });
  });

  test("count within the daily time window, in each user's time zone, its start included and its end not", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, start_time: "22:00", end_time: "06:00" });
      await aUser(db, { id: "kyo", tz: "Asia/Tokyo" });
      const at = (user: string, time: string) => ({ metric: metric.key, user, at: `${day(-3)}T${time}Z` });
      await insertEvents(db, [
        // 22:00, 05:59:59 in UTC; 06:00 and 21:59:59 are outside.
        at("ada", "22:00:00"), at("ada", "05:59:59.999"), at("ada", "06:00:00"), at("ada", "21:59:59.999"),
        // 22:00 in Tokyo is 13:00 in UTC, 06:00 is 21:00.
        at("kyo", "13:00:00"), at("kyo", "20:59:59"), at("kyo", "21:00:00"), at("kyo", "12:59:59"), at("kyo", "16:00:00"),
      ]);
      expect(await rankings(db)).toEqual(["1 kyo 3", "2 ada 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("of groups ask for the group; those who lack an attribute are in none", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "city" });
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, breakdown_attributes: ["city", "plan"] });
      for (const [id, attributes] of [["ada", { city: "Rome", plan: "pro" }], ["bob", { city: "Rome", plan: "free" }], ["cem", { city: "Rome" }]] as const) {
        await aUser(db, { id, attributes: { ...attributes } });
      }
      await insertEvents(db, ["ada", "bob", "cem"].map((user, n) => ({ metric: metric.key, user, value: n + 1 })));
      expect(await rankings(db, "'top', user_attributes => 'city:Rome,plan:pro'")).toEqual(["1 ada 1"]);
      expect(await rankings(db, "'top', user_attributes => 'city:Rome'")).toEqual(["1 bob 2", "2 ada 1"]);
      expect((await record(db, { metric: metric.key, user: "cem" })).leaderboards).toMatchObject({
        top: { rank: null, previousRank: null, breakdownAttributeValues: [{ key: "city", value: "Rome" }] } });
      expect(await refusal(db, () => rankings(db))).toMatchObject({ code: "LR028" });
      expect(await refusal(db, () => rankings(db, "'top', user_attributes => 'city'"))).toMatchObject({ code: "LR013" });
      expect(await refusal(db, () => rankings(db, "'top', user_attributes => 'zodiac:lion'"))).toMatchObject({ code: "LR012" });
      expect(await verify(db)).toEqual([]);
    });
  });

  test("become final once the last day is over in the last time zone", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, starts_on: day(0), ends_on: day(0) });
      // Nothing is written down while history is still looked up.
      await db.query("update laurel_private.leaderboard_backfills set finished_at = now()");
      await record(db, { metric: metric.key, user: "ada" });
      const state = async (moment: string) => {
        while (first((await db.query<{ count: number }>("select laurel_private.upkeep_leaderboards($1) as count", [moment])).rows).count > 0);
        return first((await db.query<{ status: string; finished: boolean; days: number }>(
          `select b.status, r.finished_at is not null as finished, (select count(*)::int from laurel_private.leaderboard_days d where d.rank = 1) as days
           from laurel.leaderboards b join laurel_private.leaderboard_runs r on r.leaderboard_id = b.id`)).rows);
      };
      expect(await state(`${day(1)}T11:44:59Z`)).toEqual({ status: "active", finished: false, days: 1 });
      expect(await state(`${day(1)}T11:59:59Z`)).toEqual({ status: "active", finished: false, days: 1 });
      expect(await state(`${day(1)}T12:15:00Z`)).toEqual({ status: "finished", finished: true, days: 1 });
      // Asked again, for any moment, nothing is done twice.
      expect(await state(`${day(1)}T11:00:00Z`)).toEqual({ status: "finished", finished: true, days: 1 });
      expect(await verify(db)).toEqual([]);
      expect((await record(db, { metric: metric.key, user: "bob" })).leaderboards).toEqual({});
      expect(await rankings(db)).toEqual(["1 ada 1"]);
    });
  });
});

describe("verify()", () => {
  test.each([
    ["the value", "update laurel.leaderboard_entries set value = value + 1 where user_id = 'ada' and leaderboard_id = $1", "leaderboard_value_is_the_sum_of_its_run"],
    ["what it was reached with", "update laurel.leaderboard_entries set reached_id = laurel_private.uuid_v7() where user_id = 'ada' and leaderboard_id = $1", "leaderboard_value_is_the_sum_of_its_run"],
    ["an entry that is gone", "delete from laurel.leaderboard_entries where user_id = 'ada' and leaderboard_id = $1", "leaderboard_value_is_the_sum_of_its_run"],
    ["an entry of another run", "update laurel.leaderboard_entries set run_on = run_on - 7 where user_id = 'ada' and leaderboard_id = $1", "leaderboard_value_is_the_sum_of_its_run"],
    ["the group", "update laurel.leaderboard_entries set group_id = laurel_private.uuid_v7() where user_id = 'ada' and leaderboard_id = $1", "leaderboard_group_follows_the_user"],
    ["the group's values", `update laurel.leaderboard_entries set breakdown = '{"city": "Oslo"}' where user_id = 'ada' and leaderboard_id = $1`, "leaderboard_group_follows_the_user"],
    ["whose entry it is", "update laurel.leaderboard_entries set leaderboard_id = laurel_private.uuid_v7() where user_id = 'ada' and leaderboard_id = $1", "leaderboard_entry_is_of_a_leaderboard_of_the_tenant"],
    ["the day seen last", "update laurel_private.leaderboard_days set is_latest = false where user_id = 'ada' and leaderboard_id = $1", "leaderboard_day_seen_last_is_marked"],
    ["the length of a streak", "update laurel.leaderboard_entries set value = value + 1 where user_id = 'ada' and leaderboard_id = (select id from laurel.leaderboards where key = 'flames' and $1::uuid is not null)", "leaderboard_value_is_the_length_of_the_streak"],
    ["the event of a streak", "update laurel.leaderboard_entries set reached_id = laurel_private.uuid_v7() where user_id = 'ada' and leaderboard_id = (select id from laurel.leaderboards where key = 'flames' and $1::uuid is not null)", "leaderboard_value_is_the_length_of_the_streak"],
    ["until when a streak holds", "update laurel.leaderboard_entries set holds_until = null where user_id = 'ada' and leaderboard_id = (select id from laurel.leaderboards where key = 'flames' and $1::uuid is not null)", "leaderboard_value_is_the_length_of_the_streak"],
    ["an entry of a streak that is gone", "delete from laurel.leaderboard_entries where user_id = 'ada' and leaderboard_id = (select id from laurel.leaderboards where key = 'flames' and $1::uuid is not null)", "leaderboard_value_is_the_length_of_the_streak"],
    ["how many entries passed a mark", "update laurel_private.leaderboard_marks set counts = array[2] where leaderboard_id = $1", "leaderboard_mark_counts_entries"],
    ["a move over a mark that is gone", "delete from laurel_private.leaderboard_moves where leaderboard_id = $1", "leaderboard_mark_counts_entries"],
  ])("sees %s corrupted", async (_, statement, invariant) => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "city" });
      const metric = await aMetric(db);
      await aBoard(db, { rank_by: "metric", metric_id: metric.id, breakdown_attributes: ["city"], run_unit: "day", run_interval: 7 });
      await aBoard(db, { key: "flames", rank_by: "streak" });
      await db.query("update laurel_private.leaderboard_backfills set finished_at = now()");
      await aUser(db, { id: "ada", attributes: { city: "Rome" } });
      await record(db, { metric: metric.key, user: "ada", value: 4 });
      await db.query("select laurel_private.upkeep_leaderboards(clock_timestamp())");
      // One mark, passed by nobody, until she does.
      await db.query(
        `insert into laurel_private.leaderboard_marks (tenant_id, leaderboard_id, generation, run_on, group_id, marks_id, mark_values, mark_ids, counts)
         select tenant_id, leaderboard_id, generation, run_on, group_id, laurel_private.uuid_v7(), '{5}', array[laurel_private.uuid_v7()], '{0}'
         from laurel.leaderboard_entries where holds_until is null`);
      await record(db, { metric: metric.key, user: "ada", value: 2 });
      expect(await verify(db)).toEqual([]);
      const { id } = first((await db.query<{ id: string }>("select id from laurel.leaderboards where key = 'top'")).rows);
      await db.query("set local session_replication_role = replica");
      expect((await db.query(statement, [id])).rowCount).toBeGreaterThan(0);
      await db.query("set local session_replication_role = origin");
      expect((await verify(db)).map((row) => row.invariant)).toContain(invariant);
    });
  });
});

test("an erased user is on no leaderboard, in no history, and others move up", async () => {
  await withRollback(async (db) => {
    const metric = await aMetric(db);
    await aBoard(db, { rank_by: "metric", metric_id: metric.id });
    await aBoard(db, { key: "flames", rank_by: "streak" });
    for (const [user, value] of [["ada", 5], ["bob", 4]] as const) await record(db, { metric: metric.key, user, value });
    await db.query("select laurel_private.upkeep_leaderboards(clock_timestamp())");
    await db.query("select laurel.erase_user('ada')");
    expect(await rankings(db)).toEqual(["1 bob 4"]);
    expect(await rankings(db, "'flames'")).toEqual(["1 bob 1"]);
    for (const table of ["laurel.leaderboard_entries", "laurel_private.leaderboard_days"]) {
      expect((await db.query(`select from ${table} where user_id = 'ada'`)).rowCount).toBe(0);
    }
    expect(await verify(db)).toEqual([]);
  });
});
