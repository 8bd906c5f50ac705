import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, refusal } from "../../support/engine.ts";
import { aMetric, anAchievement, anAttribute, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";

interface Period {
  metrics: Record<string, Record<string, unknown>>;
  points: Record<string, Record<string, unknown>>;
  achievements: { key: string }[];
  leaderboards: Record<string, Record<string, unknown>>;
}
interface Wrapped {
  user: { id: string };
  activity: {
    daysActive: number; weeksActive: number; monthsActive: number;
    mostActiveDay: Period & { date: string };
    mostActiveWeek: Period & { start: string; end: string };
    mostActiveMonth: Period & { month: number };
    entireYear: Period & { longestStreak: Record<string, unknown> };
  };
}

const wrapped = async (db: Database, user: string, year: number): Promise<Wrapped> =>
  first((await db.query<{ wrapped: Wrapped }>("select laurel.user_wrapped($1, $2) as wrapped", [user, year])).rows).wrapped;

describe("a year in review", () => {
  test("counts what happened by the user's own calendar", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      const words = await aMetric(db, { key: "words" });
      const xp = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system: xp, metric: words, every: 10, points: 1 });
      const achievement = await anAchievement(db, { key: "hundred", metric: words, metric_value: 100 });
      await aUser(db, { id: "ada", tz: "Asia/Tokyo" });
      const at = (moment: string, value: number, kind?: string, user = "ada") =>
        ({ metric: "words", user, value, at: moment, ...(kind === undefined ? {} : { attributes: { kind } }) });
      await insertEvents(db, [
        // In Tokyo it is 2023 until 15:00 UTC of December 31, and 2024 from then on.
        at("2023-12-31T14:59:59Z", 40),
        at("2023-12-31T15:00:00Z", 10, "book"),
        // Monday to Wednesday of one week of March.
        at("2024-03-11T01:00:00Z", 50, "book"), at("2024-03-12T01:00:00Z", 5, "note"), at("2024-03-12T02:00:00Z", 5), at("2024-03-13T01:00:00Z", -10),
        // Only less than ada's 60 in the year.
        at("2024-05-01T00:00:00Z", 59, undefined, "bob"), at("2024-05-01T00:00:00Z", 60, undefined, "cem"),
        at("2025-01-01T00:00:00Z", 900), at("2023-06-01T00:00:00Z", 1, undefined, "dan"),
      ]);
      const { user, activity } = await wrapped(db, "ada", 2024);
      expect(user.id).toBe("ada");
      expect(activity).toMatchObject({ daysActive: 4, weeksActive: 2, monthsActive: 2 });
      expect(activity.mostActiveDay).toMatchObject({
        date: "2024-03-12",
        // 100 before, 10 more: 10 %.
        metrics: { words: { currentTotal: 110, changeThisPeriod: 10, percentChange: 10, byAttribute: { kind: { note: { currentTotal: 5, changeThisPeriod: 5, percentChange: 100 } } } } },
        points: { xp: { currentTotal: 11, changeThisPeriod: 1, percentChange: 10 } },
        achievements: [],
      });
      expect(activity.mostActiveDay.metrics["words"]).not.toHaveProperty("percentileThisPeriod");
      expect(activity.mostActiveWeek).toMatchObject({
        start: "2024-03-10", end: "2024-03-16",
        metrics: { words: { currentTotal: 100, changeThisPeriod: 50, percentChange: 100, percentileThisPeriod: 0 } },
        achievements: [{ key: achievement.key, completions: 1, rarity: 25 }],
      });
      expect(activity.mostActiveMonth).toMatchObject({ month: 2, metrics: { words: { changeThisPeriod: 50 } } });
      expect(activity.entireYear.metrics).toMatchObject({ words: {
        // 40 before, 60 more. Of ada, bob and cem one did less.
        currentTotal: 100, changeThisPeriod: 60, percentChange: 150, percentileThisPeriod: 33.3,
        byAttribute: { kind: { book: { currentTotal: 60, changeThisPeriod: 60 }, note: { currentTotal: 5 } } },
      } });
      // 10, 50 and 10 words make 4 + 1, + 5 and + 1 of the triggers' tens; nothing is taken back.
      expect(activity.entireYear.points).toMatchObject({ xp: { currentTotal: 11, changeThisPeriod: 7, percentChange: 175, percentileThisPeriod: 66.7 } });
      // As long as that of March; one that began the year before counts with what it had, each year.
      expect(activity.entireYear.longestStreak).toEqual({ length: 2, frequency: "daily", started: "2023-12-31", periodStart: "2023-12-31", periodEnd: "2024-01-01" });
      const before = await wrapped(db, "ada", 2023);
      expect(before.activity.entireYear.longestStreak).toMatchObject({ length: 1, started: "2023-12-31", periodEnd: "2023-12-31" });
      expect(before.activity).toMatchObject({ daysActive: 1, mostActiveDay: { date: "2023-12-31" } });
    });
  });

  test("percentiles that were counted ahead are those of a look at everybody, until they are counted again", async () => {
    await withRollback(async (db) => {
      const words = await aMetric(db, { key: "words" });
      const xp = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system: xp, metric: words, every: 1, points: 2 });
      const at = "2024-03-12T12:00:00Z";
      await insertEvents(db, [1, 1, 2, 5, 5, 5, 9].map((value, n) => ({ metric: "words", user: `u${n}`, value, at })));
      type Percentiles = readonly (readonly [number, number])[];
      const percentiles = async (): Promise<Percentiles> => {
        const found: [number, number][] = [];
        for (const user of ["u0", "u2", "u3", "u6"]) {
          const { entireYear } = (await wrapped(db, user, 2024)).activity;
          found.push([entireYear.metrics["words"]?.["percentileThisPeriod"], entireYear.points["xp"]?.["percentileThisPeriod"]] as [number, number]);
        }
        return found;
      };
      // Of seven: nobody below 1, two below 2, three below 5, six below 9.
      const expected: Percentiles = [[0, 0], [28.6, 28.6], [42.9, 42.9], [85.7, 85.7]];
      expect(await percentiles()).toEqual(expected);
      // As if there were many users, who joined that year; the worker of 2025 has it all before it.
      await db.query("update laurel.users set created_at = $1", [at]);
      const count = async (asOf: string): Promise<number> =>
        first((await db.query<{ n: number }>("select laurel_private.count_standings($1) as n", [asOf])).rows).n;
      expect(await count("2025-01-15T00:00:00Z")).toBe(0);
      await db.query("insert into laurel_private.user_counts (tenant_id, segment_id, joined_on, users) values (laurel.current_tenant_id(), laurel_private.everybody(), '2024-03-12', 20000)");
      let counted = 0;
      while ((await count("2025-01-15T00:00:00Z")) > 0) counted += 1;
      // 2024: the year, 12 months and 53 weeks, the last of which is the first of 2025; of that the year, a month and two weeks more.
      expect(counted).toBe(1 + 12 + 53 + 1 + 1 + 2);
      expect(await percentiles()).toEqual(expected);
      // What comes late is not counted, but its user stands where its own change belongs.
      await record(db, { metric: "words", user: "u0", value: 3, at });
      expect((await percentiles())[0]).toEqual([42.9, 42.9]);
      await record(db, { metric: "words", user: "u0", value: 30, at });
      expect((await percentiles())[0]).toEqual([100, 100]);
      // Done for good nine days after its end; what was not over by then is looked at again a day later.
      const due = await db.query<{ first_on: string }>("select first_on::text from laurel_private.due_standings('2025-01-16T00:00:00Z') order by first_on, last_on");
      expect(due.rows.map(({ first_on }) => first_on)).toEqual(["2025-01-01", "2025-01-01", "2025-01-05", "2025-01-12"]);
    });
  });

  test("is empty, and complete, for a year without anything", async () => {
    await withRollback(async (db) => {
      await aUser(db, { id: "ada" });
      const nothing = { metrics: {}, points: {}, achievements: [], leaderboards: {} };
      for (const [year, week] of [[1, "0001-01-07"], [2023, "2023-01-01"]] as const) {
        const { activity } = await wrapped(db, "ada", year);
        const day = `${String(year).padStart(4, "0")}-01-01`;
        expect(activity).toMatchObject({
          daysActive: 0, weeksActive: 0, monthsActive: 0,
          mostActiveDay: { date: day, ...nothing }, mostActiveWeek: { start: week, ...nothing }, mostActiveMonth: { month: 0, ...nothing },
          entireYear: { ...nothing, longestStreak: { length: 0, frequency: "daily", started: null, periodStart: null, periodEnd: null } },
        });
      }
      const nextYear = new Date().getUTCFullYear() + 1;
      for (const year of [0, -1, nextYear]) {
        expect(await refusal(db, () => wrapped(db, "ada", year))).toMatchObject({ code: "LR023", message: `The period is not valid: year must be from 1 to ${nextYear - 1}.` });
      }
      expect(await refusal(db, () => wrapped(db, "nobody", 2023))).toMatchObject({ code: "LR002" });
    });
  });

  test("shows the best place of each leaderboard, as of the days it lasted", async () => {
    await withRollback(async (db) => {
      const words = await aMetric(db, { key: "words" });
      await db.query(
        "insert into laurel.leaderboards (key, name, status, rank_by, metric_id, starts_on) values ('top', 'Top', 'active', 'metric', $1, current_date - 400)", [words.id]);
      await record(db, { metric: "words", user: "ada", value: 5 });
      await record(db, { metric: "words", user: "bob", value: 7 });
      const year = new Date().getUTCFullYear();
      expect((await wrapped(db, "ada", year)).activity.mostActiveDay.leaderboards).toMatchObject({ top: { rank: 2, value: 5, rankBy: "metric", metricKey: "words" } });
      // Three days ago ada was first: seen then, and until the day before it changed.
      await db.query(
        `insert into laurel_private.leaderboard_days (tenant_id, user_id, leaderboard_id, generation, run_on, day, rank, value, is_latest)
         select b.tenant_id, 'ada', b.id, b.generation, b.starts_on, current_date - 4 + n, n, n, n = 2
         from laurel.leaderboards b, generate_series(1, 2) n where b.key = 'top'`);
      const thatYear = new Date(Date.now() - 3 * 86_400_000).getUTCFullYear();
      expect((await wrapped(db, "ada", thatYear)).activity.entireYear.leaderboards).toMatchObject({ top: { rank: 1, value: 1 } });
    });
  });
});
