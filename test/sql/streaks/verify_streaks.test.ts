import { describe, expect, test } from "@jest/globals";
import { startingFrom, withRollback } from "../../support/database.ts";
import { first, insertEvents, record, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database } from "../../support/factories.ts";

/** Rule Q8 for streaks: every derived thing, corrupted on purpose, is reported under its own name. */

const dayMs = 86_400_000;

/** So many days before now, at noon UTC. */
const daysAgo = (days: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * dayMs).toISOString();
};

/** As nobody but the owner can, behind every trigger. */
async function behindTriggers(db: Database, statement: string): Promise<void> {
  await db.query("set local session_replication_role = replica");
  const done = await db.query(statement);
  expect({ statement, found: done.rowCount !== 0 }).toEqual({ statement, found: true });
  await db.query("set local session_replication_role = origin");
}

/**
 * Ada has a streak that is over, and one that runs and was saved by a freeze. Bob has a sum that does not satisfy his
 * day yet, and an answer that holds until it ends.
 */
async function livedThroughStreaks(db: Database): Promise<void> {
  const words = await aMetric(db, { key: "words" });
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, type: "streak", points: 5, streak_length: 2 });
  await db.query("select laurel.update_streak_settings($1)", [
    JSON.stringify({ metrics: [{ key: "words", threshold: 2 }], freezes: { startCount: 1, maxCount: 2 } }),
  ]);
  await insertEvents(db, [9, 8, 1].map((days) => ({ metric: words.key, user: "ada", value: 2, at: daysAgo(days) })));
  await record(db, { metric: words.key, user: "ada", value: 2 });
  const later = new Date(Date.now() + 2 * dayMs);
  for (let left = 1; left > 0; ) {
    left = (await db.query("select * from laurel_private.upkeep_streaks($1)", [later])).rows.length;
  }
  // Sums are judged of periods that began after the last change of the settings.
  await behindTriggers(db, "update laurel_private.streak_settings set updated_at = '2020-01-01'");
  await record(db, { metric: words.key, user: "bob", value: 1 });
}

test("what is derived of streaks is in order, and there is some of each", async () => {
  await withRollback(async (db) => {
    await livedThroughStreaks(db);
    const { rows } = await db.query(
      `select (select count(*)::int from laurel_private.streak_runs where user_id = 'ada') as runs,
         (select length from laurel_private.user_streaks where user_id = 'ada') as length,
         (select count(*)::int from laurel_private.streak_periods where kind = 'frozen') as frozen,
         (select sum(total)::int from laurel_private.streak_progress where user_id = 'bob') as progress,
         (select streak_answer is not null and streak_version is not null from laurel_private.user_states where user_id = 'bob') as "isKept"`,
    );
    expect(first(rows)).toEqual({ runs: 2, length: 2, frozen: 1, progress: 1, isKept: true });
    expect(await verify(db)).toEqual([]);
  });
});

describe("verify() sees", () => {
  // Triggers put to sleep once: PostgreSQL plans everything anew when they are.
  const unguarded = startingFrom(async (db) => {
    await livedThroughStreaks(db);
    await db.query("set constraints all immediate");
    await db.query("set local session_replication_role = replica");
  });

  test.each([
    ["a length", "ada", "streak_length_is_the_number_of_satisfied_periods",
      "update laurel_private.streak_runs set length = length + 1 where user_id = 'ada' and is_over"],
    ["a satisfied period that is missing", "ada", "streak_length_is_the_number_of_satisfied_periods",
      "delete from laurel_private.streak_periods where user_id = 'ada' and kind = 'satisfied' and period_start = (select max(period_start) from laurel_private.streak_periods where kind = 'satisfied')"],
    ["a frozen period made a satisfied one", "ada", "streak_length_is_the_number_of_satisfied_periods",
      "update laurel_private.streak_periods p set kind = 'satisfied', event_id = (select o.event_id from laurel_private.streak_periods o where o.event_id is not null limit 1) where kind = 'frozen'"],
    ["a bridged period that is missing", "ada", "streak_is_kept_through_every_period",
      "delete from laurel_private.streak_periods where user_id = 'ada' and kind = 'frozen'"],
    ["a run kept for longer", "ada", "streak_is_kept_through_every_period",
      "update laurel_private.streak_runs set through_period = through_period + 1 where user_id = 'ada' and not is_over"],
    ["a run's last period", "ada", "streak_ends_with_its_last_satisfied_period",
      "update laurel_private.streak_runs set last_period = first_period where user_id = 'ada' and is_over"],
    ["a missing run", "ada", "satisfied_period_is_in_one_streak",
      "delete from laurel_private.streak_runs where user_id = 'ada' and is_over"],
    ["a run inside of another", "ada", "satisfied_period_is_in_one_streak",
      `insert into laurel_private.streak_runs select (jsonb_populate_record(r, jsonb_build_object('first_period', r.last_period, 'length', 1))).*
       from laurel_private.streak_runs r where user_id = 'ada' and is_over`],
    ["the event of a period", "ada", "satisfied_period_has_its_event",
      "update laurel_private.streak_periods set event_id = gen_random_uuid() where user_id = 'ada' and kind = 'satisfied'"],
    ["the day of a period's event", "ada", "satisfied_period_has_its_event",
      "update laurel.metric_events set occurred_at = occurred_at - interval '3 days' where user_id = 'ada'"],
    ["a run that is over", "ada", "only_the_latest_streak_runs",
      "update laurel_private.streak_runs set is_over = false where user_id = 'ada' and is_over"],
    ["a run that runs", "ada", "current_streak_is_the_latest_that_runs",
      "update laurel_private.streak_runs set is_over = true where user_id = 'ada' and not is_over"],
    ["the current length", "ada", "current_streak_is_the_latest_that_runs",
      "update laurel_private.user_streaks set length = 1 where user_id = 'ada'"],
    ["the longest length", "ada", "longest_streak_was_reached",
      "update laurel_private.user_streaks set longest = 3 where user_id = 'ada'"],
    ["freezes in hand", "ada", "freezes_are_the_sum_of_their_changes",
      "update laurel_private.user_streaks set freezes = freezes + 1 where user_id = 'ada'"],
    ["a change of freezes that is missing", "bob", "freezes_are_the_sum_of_their_changes",
      "delete from laurel_private.streak_freezes where user_id = 'bob' and cause = 'start'"],
    ["a freeze that was used", "ada", "frozen_period_used_a_freeze",
      "delete from laurel_private.streak_freezes where user_id = 'ada' and cause = 'consumed'"],
    ["the length an award was for", "ada", "award_for_a_streak_has_its_length",
      "update laurel.points_awards set streak_length = null where user_id = 'ada' and cause = 'streak'"],
    ["a sum of progress", "bob", "streak_progress_is_the_sum_of_its_period",
      "update laurel_private.streak_progress set total = total + 1 where user_id = 'bob'"],
    ["an answer's text", "bob", "kept_streak_answer_is_that_of_the_streak",
      `update laurel_private.user_states set streak_answer = replace(streak_answer, '"length": 0', '"length": 1') where user_id = 'bob'`],
    ["an answer that says satisfied", "bob", "kept_streak_answer_is_that_of_the_streak",
      "update laurel_private.user_states set streak_is_satisfied = true where user_id = 'bob'"],
    ["an answer that holds too early", "bob", "kept_streak_answer_is_that_of_the_streak",
      "update laurel_private.user_states set streak_valid_from = streak_valid_from - interval '1 hour' where user_id = 'bob'"],
    ["an answer that holds too long", "bob", "kept_streak_answer_is_that_of_the_streak",
      "update laurel_private.user_states set streak_valid_until = streak_valid_until + interval '1 hour' where user_id = 'bob'"],
    ["an answer of a state that is missing", "bob", "kept_streak_answer_is_that_of_the_streak",
      "delete from laurel_private.user_streaks where user_id = 'bob'"],
  ])("%s, corrupted", async (_, user, invariant, statement) => {
    await unguarded(async (db) => {
      expect({ statement, found: (await db.query(statement)).rowCount !== 0 }).toEqual({ statement, found: true });
      expect(await verify(db)).toContainEqual(expect.objectContaining({ invariant, user_id: user }));
    });
  });
});
