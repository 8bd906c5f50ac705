import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { type EventInput, type EventResponse, insertEvents, record, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, anAchievement, type Database } from "../../support/factories.ts";
import { randomFrom } from "../../support/random.ts";

/** record_event()'s own lane and the lane of many come to the same, whatever an event does to a streak. */

const noonDaysAgo = (days: number, minutes: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * 86_400_000 + minutes * 60_000).toISOString();
};

/** Days mostly in order, some of them missed, some late, some events that do not count. */
function history(seed: number): readonly Omit<EventInput, "user" | "metric">[] {
  const random = randomFrom(seed);
  const past = Array.from({ length: 30 }, (_, step) => ({
    at: noonDaysAgo(Math.max(1, 12 - Math.floor(step / 3) + (random() < 0.15 ? Math.ceil(random() * 4) : 0)), step),
    value: [1, 1, 2, 0, -1][Math.floor(random() * 5)] ?? 1,
    attributes: random() < 0.3 ? { kind: "gold" } : {},
  })).filter(() => random() < 0.7);
  return [...past, { value: 1 }, { value: 2 }];
}

async function configure(db: Database): Promise<string> {
  await db.query("insert into laurel.attributes (key, name, type) values ('kind', 'Kind', 'event')");
  await db.query(
    "select laurel.update_streak_settings($1)",
    [{ freezes: { startCount: 1, maxCount: 2, autoEarnInterval: 4, autoEarnAmount: 1 } }],
  );
  const metric = await aMetric(db);
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, metric, points: 2 });
  await aTrigger(db, { system, metric, points: 3, every: 2, event_attributes: { kind: "gold" } });
  await aTrigger(db, { system, type: "streak", points: 5, streak_length: 3 });
  const days = await anAchievement(db, { kind: "streak", streak_length: 2 });
  const total = await anAchievement(db, { metric, metric_value: 7 });
  const both = await anAchievement(db, { prerequisites: [days, total] });
  await aTrigger(db, { system, type: "achievement", points: 100, achievement_id: both.id });
  await db.query(
    `insert into laurel.leaderboards (key, name, status, rank_by, metric_id, system_id, starts_on, run_unit, run_interval)
     values ('by-metric', 'Metric', 'active', 'metric', $1, null, current_date - 20, 'day', 3),
       ('by-points', 'Points', 'active', 'points', null, $2, current_date - 20, null, null),
       ('by-streak', 'Streak', 'active', 'streak', null, null, current_date - 20, null, null)`,
    [metric.id, system.id],
  );
  return metric.key;
}

/** Everything that is kept of a user, without IDs and moments of writing. */
async function kept(db: Database, user: string): Promise<unknown> {
  const rows = async (statement: string): Promise<unknown[]> => (await db.query<Record<string, unknown>>(statement, [user])).rows;
  return {
    awards: await rows(
      "select to_jsonb(a) - '{id,event_id,user_id,occurred_at}'::text[] as award from laurel.points_awards a where user_id = $1 order by id",
    ),
    streak: await rows("select laurel.user_streak($1, 20) - 'extended' as streak"),
    periods: await rows("select period_start, kind from laurel_private.streak_periods where user_id = $1 order by 1"),
    runs: await rows(
      "select first_period, last_period, through_period, length, is_over, is_closed from laurel_private.streak_runs where user_id = $1 order by 1",
    ),
    freezes: await rows("select cause, change, freezes, on_date from laurel_private.streak_freezes where user_id = $1 order by id"),
    standing: await rows(
      "select length, longest, freezes, earned_on, settled_on, due_at from laurel_private.user_streaks where user_id = $1",
    ),
    state: await rows(
      "select metric_totals, metric_peaks, totals, last_sequences, streak_is_satisfied from laurel_private.user_states where user_id = $1",
    ),
    completions: await rows("select achievement_id from laurel.user_achievements where user_id = $1 order by 1"),
    entries: await rows(
      "select leaderboard_id, run_on, value, previous_value, holds_until from laurel.leaderboard_entries where user_id = $1 order by 1, 2",
    ),
  };
}

/** An answer without what differs between any two events. */
function shape(answer: EventResponse): unknown {
  return JSON.parse(
    JSON.stringify(answer, (key, value: unknown) =>
      ["eventId", "id", "date", "achievedAt", "rank", "previousRank", "threshold"].includes(key) ? undefined : value,
    ),
  );
}

describe("the lane of one event and the lane of many", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])("leave the same behind, and answer the same (history %i)", async (seed) => {
    await withRollback(async (db) => {
      const metric = await configure(db);
      const lengths = (await db.query<{ lengths: number[] }>(
        "select streak_lengths as lengths from laurel_private.points_rules where metric_key = $1", [metric])).rows[0]?.lengths;
      expect(lengths).toEqual([3]);
      for (const event of history(seed)) {
        const one = await record(db, { ...event, metric, user: "one" });
        // From any length something may follow: every longer streak takes the lane of many.
        await db.query("update laurel_private.points_rules set streak_lengths = '{1}'");
        const many = await record(db, { ...event, metric, user: "many" });
        await db.query("update laurel_private.points_rules set streak_lengths = $1", [lengths]);
        await insertEvents(db, [{ ...event, metric, user: "inserted" }]);
        expect(shape(one)).toEqual(shape(many));
      }
      const one = await kept(db, "one");
      expect(await kept(db, "many")).toEqual(one);
      expect(await kept(db, "inserted")).toEqual(one);
      expect(await verify(db)).toEqual([]);
    });
  });
});
