import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, steps, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, anAchievement, type Database } from "../../support/factories.ts";

/** So many days before now, at noon UTC: far from midnight in the zones used here. */
const daysAgo = (days: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * 86_400_000).toISOString();
};

const streakOf = async (db: Database, user: string, periods = 7): Promise<Record<string, unknown>> =>
  first((await db.query<{ streak: Record<string, unknown> }>("select laurel.user_streak($1, $2) as streak", [user, periods])).rows).streak;

describe("a daily streak", () => {
  test("is extended by the first event of a day, and told so once", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await insertEvents(db, [3, 2, 1].map((days) => ({ metric: metric.key, user: "ada", at: daysAgo(days) })));
      const today = new Date().toISOString().slice(0, 10);
      const one = await record(db, { metric: metric.key, user: "ada" });
      expect(one.currentStreak).toMatchObject({
        length: 4, frequency: "daily", started: daysAgo(3).slice(0, 10), periodStart: today, periodEnd: today, expires: daysAgo(-1).slice(0, 10), extended: true,
      });
      const two = await record(db, { metric: metric.key, user: "ada" });
      expect(two.currentStreak).toEqual({ ...one.currentStreak, extended: false });
      expect(await streakOf(db, "ada", 3)).toMatchObject({
        length: 4, rank: 1, longest: 4, pauses: [],
        streakHistory: [2, 1, 0].map((days) => ({ periodStart: daysAgo(days).slice(0, 10), periodEnd: daysAgo(days).slice(0, 10), length: 4 - days, usedPause: false })),
      });
      expect(await verify(db)).toEqual([]);
    });
  });

  test("starts with the first event of a user who is new, and the answer says so", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      expect((await record(db, { metric: metric.key, user: "new" })).currentStreak).toMatchObject({ length: 1, extended: true });
      expect((await record(db, { metric: metric.key, user: "new" })).currentStreak).toMatchObject({ length: 1, extended: false });
    });
  });

  test("fires its triggers at each multiple, and completes achievements, in the order of TR7", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system, type: "streak", points: 10, streak_length: 2 });
      await aTrigger(db, { system, metric, points: 1 });
      const achievement = await anAchievement(db, { kind: "streak", streak_length: 4, status: "active" });
      await aTrigger(db, { system, type: "achievement", points: 100, achievement_id: achievement.id });
      await insertEvents(db, [3, 2, 1].map((days) => ({ metric: metric.key, user: "ada", at: daysAgo(days) })));
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +1 2", "2 +10 12", "12 +1 13"]);
      const answer = await record(db, { metric: metric.key, user: "ada" });
      expect(answer.achievements).toMatchObject([{ id: achievement.id, trigger: "streak", streakLength: 4 }]);
      expect(answer.points["xp"]).toMatchObject({ added: 111, awards: [{ awarded: 1 }, { awarded: 10 }, { awarded: 100 }] });
      expect(await verify(db)).toEqual([]);
    });
  });
});
