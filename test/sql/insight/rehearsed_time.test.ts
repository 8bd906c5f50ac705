import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { insertEvents, refusal, verify } from "../../support/engine.ts";
import { aBoost, aMetric, anAchievement, anAttribute, aSystem, aTrigger, aUser, type Database, type System } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";
import { backtest, countAll, preview, type RehearsalFigures, type ScenarioKind } from "../../support/scenarios.ts";

/** Rules D1 and D2 where time passes: ticks of time triggers, and streaks. Numbers worked by hand. */

interface World {
  readonly db: Database;
  readonly xp: System;
  readonly words: { id: string };
}

const withWorld = (work: (world: World) => Promise<void>, maxPoints: number | null = null): Promise<void> =>
  withRollback(async (db) => {
    await anAttribute(db, { key: "plan", type: "user" });
    const words = await aMetric(db, { key: "words" });
    const xp = await aSystem(db, { key: "xp", max_points: maxPoints });
    await work({ db, xp, words });
  });

const totals = (figures: RehearsalFigures | undefined): number[] => (figures?.totals ?? []).map(({ p50 }) => p50);
const idle: ScenarioKind = { name: "Idle", users: 10, events: [] };
/** One kind from 1 January 2026, a Thursday. */
const previewOne = async (db: Database, days: number, kind: Partial<ScenarioKind>, more: object = {}) => {
  const { kinds: [found] } = await preview(db, "xp", { days, start: "2026-01-01", kinds: [{ ...idle, ...kind }], ...more });
  if (found === undefined) throw new Error("no kind");
  return found;
};

describe("ticks in a preview", () => {
  test("are dated by the user's own clock, which starts with its first day", async () => {
    await withWorld(async ({ db, xp }) => {
      await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 6 });
      // 6:00, 12:00, 18:00 on the first day; then midnight as well.
      for (const tz of ["UTC", "Pacific/Kiritimati", "America/New_York"]) {
        const found = await previewOne(db, 3, { tz });
        expect(totals(found)).toEqual([3, 7, 11]);
        expect(found.byTrigger).toMatchObject([{ trigger: { type: "time" }, firings: 110, awarded: 110 }]);
        expect(found).toMatchObject({ simulatedUsers: 1, events: 0 });
      }
    });
  });

  test("of days keep the local time when clocks change, those of hours do not", async () => {
    await withWorld(async ({ db, xp }) => {
      // New York's 1 November 2026 has 25 hours: the second tick of 24 hours falls on its 23:00.
      const days = await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "days", time_interval: 1 });
      const of = (draft: object) =>
        previewOne(db, 3, { tz: "America/New_York" }, { start: "2026-10-31", draft: { triggers: [{ id: days.id, ...draft }] } });
      expect(totals(await of({}))).toEqual([0, 1, 2]);
      expect(totals(await of({ type: "time", points: 1, timeUnit: "hours", timeInterval: 24 }))).toEqual([0, 2, 3]);
    });
  });

  test("take turns with events at the cap, and rest while the balance is full", async () => {
    await withWorld(async ({ db, xp, words }) => {
      await aTrigger(db, { system: xp, metric: words, points: -4 });
      await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
      // Full at 10:00. 15:00: its tick changes nothing, then the word costs 4; full again at 19:00. So each day.
      const found = await previewOne(db, 2, { users: 1, events: [{ metric: "words", perDay: 1 }] });
      expect(totals(found)).toEqual([10, 10]);
      expect(found.byTrigger.map(({ firings, awarded }) => [firings, awarded])).toEqual([[2, -8], [18, 18]]);
      expect(found.lost).toEqual({ rounding: 0, cap: 0, floor: 0 });
      // At 10:20, 15:00 and 19:40: 10 − 4, + 4 by 14:00, − 4, + 4 by 18:00 and so on, − 4, + 4 by 23:00.
      const busy = await previewOne(db, 1, { users: 1, events: [{ metric: "words", perDay: 3 }] });
      expect(totals(busy)).toEqual([10]);
      expect(busy.byTrigger.map(({ firings }) => firings)).toEqual([3, 10 + 4 + 4 + 4]);
    }, 10);
  });

  test("are boosted by their day and filtered by attributes", async () => {
    await withWorld(async ({ db, xp }) => {
      await aTrigger(db, { system: xp, type: "time", points: 5, time_unit: "days", time_interval: 1, user_attributes: { plan: "pro" } });
      await aBoost(db, { system: xp, multiplier: 2, starts_on: "2026-01-02", ends_on: "2026-01-02" });
      expect(totals(await previewOne(db, 4, { attributes: { plan: "pro" } }))).toEqual([0, 10, 15, 20]);
      expect(totals(await previewOne(db, 4, { attributes: { plan: "free" } }))).toEqual([0, 0, 0, 0]);
      expect(totals(await previewOne(db, 4, {}))).toEqual([0, 0, 0, 0]);
    });
  });

  test("are those of drafts: new, changed, activated and switched off", async () => {
    await withWorld(async ({ db, xp }) => {
      const saved = await aTrigger(db, { system: xp, type: "time", points: 2, time_unit: "days", time_interval: 1 });
      const off = await aTrigger(db, { system: xp, type: "time", points: 100, time_unit: "days", time_interval: 2, status: "inactive" });
      const of = async (...triggers: object[]) => totals(await previewOne(db, 3, {}, { draft: { triggers } }));
      expect(await of()).toEqual([0, 2, 4]);
      expect(await of({ type: "time", points: 1, timeUnit: "hours", timeInterval: 12 })).toEqual([1, 5, 9]);
      expect(await of({ id: saved.id, points: 7 })).toEqual([0, 7, 14]);
      expect(await of({ id: saved.id, status: "inactive" })).toEqual([0, 0, 0]);
      expect(await of({ id: off.id, status: "active" })).toEqual([0, 2, 104]);
      // Nothing of it is saved.
      expect(await of()).toEqual([0, 2, 4]);
    });
  });

  test("are counted before they are made: the last of the limit is taken, the first beyond it refused", async () => {
    await withWorld(async ({ db, xp }) => {
      await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 12, user_attributes: { plan: "pro" } });
      const many = (users: number, plan: string) =>
        previewOne(db, 50, { users, attributes: { plan }, activeDays: 0.001, events: [{ metric: "words", perDay: 1 }] });
      expect(await refusal(db, () => many(1001, "pro"))).toEqual(lr("LR061", "up to 100100 ticks of time triggers, where 100,000 are possible"));
      expect(totals(await many(1001, "free")).at(-1)).toBe(0);
    });
  });

  test("leave nothing behind", async () => {
    await withWorld(async ({ db, xp }) => {
      await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 12 });
      await aUser(db, { id: "ann" });
      const before = await countAll(db);
      await previewOne(db, 3, {}, { draft: { triggers: [{ type: "time", points: 1, timeUnit: "days", timeInterval: 1 }] } });
      await backtest(db, "xp", { from: "2026-01-01", to: "2026-01-05" });
      expect(await countAll(db)).toEqual(before);
      expect(await verify(db)).toEqual([]);
    });
  });
});

describe("streaks in a preview", () => {
  /** 10 points for a word, 7 for every second period of a streak. */
  const withStreaks = (settings: object, work: (world: World) => Promise<void>): Promise<void> =>
    withWorld(async (world) => {
      const { db, xp, words } = world;
      await aTrigger(db, { system: xp, metric: words, points: 10 });
      await aTrigger(db, { system: xp, type: "streak", points: 7, streak_length: 2 });
      await db.query("select laurel.update_streak_settings($1)", [JSON.stringify(settings)]);
      await work(world);
    });
  const writes = (activeDays: readonly number[] | null, perDay = 1): Partial<ScenarioKind> => ({ activeDays, events: [{ metric: "words", perDay }] });
  const [thursday, friday, saturday, sunday] = [4, 5, 6, 0] as const;

  test("grow by the days on which users are active, and break", async () => {
    await withStreaks({}, async ({ db }) => {
      // 1, 2 (fires), 3 days; over on Sunday; 1 again on the next Thursday.
      expect(totals(await previewOne(db, 8, writes([thursday, friday, saturday])))).toEqual([10, 27, 37, 37, 37, 37, 37, 47]);
      // Ten in a row: at 2, 4, 6, 8 and 10.
      const daily = await previewOne(db, 10, { ...writes(null), tz: "Pacific/Kiritimati" });
      expect(daily.byTrigger.map(({ trigger: { type }, firings }) => [type, firings])).toEqual([["metric", 100], ["streak", 50]]);
      expect(totals(daily).at(-1)).toBe(100 + 5 * 7);
    });
  });

  test("are saved by the freezes that new users start with, at any start, past or future", async () => {
    await withStreaks({ freezes: { startCount: 1, maxCount: 1 } }, async ({ db }) => {
      // Friday is saved: 2 on Saturday (fires), 3 on Sunday; nothing is left for Monday.
      const expected = [10, 10, 27, 37, 37, 37, 37, 47];
      expect(totals(await previewOne(db, 8, writes([thursday, saturday, sunday])))).toEqual(expected);
      // Thursdays as well.
      for (const start of ["2019-01-03", "2031-01-02"]) {
        expect(totals(await previewOne(db, 8, writes([thursday, saturday, sunday]), { start }))).toEqual(expected);
      }
    });
    await withStreaks({}, async ({ db }) => {
      expect(totals(await previewOne(db, 8, writes([thursday, saturday, sunday])))).toEqual([10, 10, 20, 37, 37, 37, 37, 47]);
    });
  });

  test("earn freezes as days go by", async () => {
    await withStreaks({ freezes: { startCount: 0, maxCount: 2, autoEarnInterval: 4, autoEarnAmount: 1 } }, async ({ db }) => {
      // Earned on Monday the 5th and Friday the 9th. Friday the 2nd is missed without any: from Saturday 1, 2 (fires), 3; Tuesday is
      // saved; 4 on Wednesday (fires), 5; Friday the 9th is saved by its own; 6 on Saturday (fires).
      const found = await previewOne(db, 10, writes([thursday, saturday, sunday, 1, 3]));
      expect(found.byTrigger.map(({ firings }) => firings / 10)).toEqual([7, 3]);
    });
  });

  test("are of the tenant's frequency, metrics and days off", async () => {
    await withStreaks({ frequency: "weekly" }, async ({ db }) => {
      expect(totals(await previewOne(db, 15, writes([thursday])))).toEqual([...Array<number>(7).fill(10), ...Array<number>(7).fill(27), 37]);
    });
    await withStreaks({ metrics: [{ key: "words", threshold: 2 }] }, async ({ db }) => {
      expect(totals(await previewOne(db, 2, writes(null, 1)))).toEqual([10, 20]);
      expect(totals(await previewOne(db, 2, writes(null, 2)))).toEqual([20, 47]);
    });
    await withStreaks({ daysOff: [friday] }, async ({ db }) => {
      expect(totals(await previewOne(db, 3, writes([thursday, saturday])))).toEqual([10, 10, 27]);
    });
  });

  test("complete achievements, whose triggers fire", async () => {
    await withStreaks({}, async ({ db, xp }) => {
      const three = await anAchievement(db, { key: "three", kind: "streak", streak_length: 3 });
      await aTrigger(db, { system: xp, type: "achievement", achievement_id: three.id, points: 100 });
      expect(totals(await previewOne(db, 4, writes(null)))).toEqual([10, 27, 137, 154]);
    });
  });
});

describe("a backtest", () => {
  const range = { from: "2024-03-05", to: "2024-03-07" };
  const ann = async (db: Database, since = "2024-01-01T00:00:00Z"): Promise<void> => {
    await aUser(db, { id: "ann" });
    await db.query("update laurel.users set created_at = $1", [since]);
  };
  const setBack = (db: Database, id: string, since: string) =>
    db.query("update laurel_private.time_trigger_spans set activated_at = $2, begins_at = $2, looks_from = $2 where trigger_id = $1", [id, since]);
  const p50 = totals;

  test("ticks in the phase that a trigger has had; another interval and new ones start with the first day", async () => {
    await withWorld(async ({ db, xp }) => {
      await ann(db);
      const daily = await aTrigger(db, { system: xp, type: "time", points: 5, time_unit: "days", time_interval: 1 });
      await setBack(db, daily.id, "2024-01-01T06:00:00Z");
      const of = async (...triggers: object[]) => p50((await backtest(db, "xp", { ...range, draft: { triggers } })).draft);
      expect(p50((await backtest(db, "xp", range)).current)).toEqual([5, 10, 15]);
      expect(await of({ id: daily.id, points: 8 })).toEqual([8, 16, 24]);
      // At midnight of the 6th and the 7th.
      expect(await of({ type: "time", points: 1, timeUnit: "days", timeInterval: 1 })).toEqual([5, 11, 17]);
      // At noon, then every 12 hours.
      expect(await of({ id: daily.id, type: "time", points: 5, timeUnit: "hours", timeInterval: 12 })).toEqual([5, 15, 25]);
      expect(await of({ id: daily.id, status: "inactive" })).toEqual([0, 0, 0]);
    });
  });

  test("starts users' clocks when they came: those of an import with their first event", async () => {
    await withWorld(async ({ db, xp }) => {
      const daily = await aTrigger(db, { system: xp, type: "time", points: 5, time_unit: "days", time_interval: 1 });
      await setBack(db, daily.id, "2024-01-01T06:00:00Z");
      await insertEvents(db, [{ metric: "words", user: "new", value: 1, at: "2024-03-05T20:00:00Z" }]);
      expect(p50((await backtest(db, "xp", range)).current)).toEqual([0, 5, 10]);
    });
  });

  test("lets ticks and events take turns by their dates, an imported history's too", async () => {
    await withWorld(async ({ db, xp, words }) => {
      await ann(db, "2024-03-05T00:30:00Z");
      await aTrigger(db, { system: xp, metric: words, points: -6 });
      const refill = await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
      await setBack(db, refill.id, "2024-01-01T00:00:00Z");
      await insertEvents(db, [{ metric: "words", user: "ann", value: 1, at: "2024-03-05T12:00:00Z" }]);
      // 1:30 to 10:30 fill it; noon takes 6; 12:30 to 17:30 fill it again.
      const { current } = await backtest(db, "xp", range);
      expect(p50(current)).toEqual([10, 10, 10]);
      expect(current.byTrigger.map(({ firings }) => firings)).toEqual([1, 16]);
    }, 10);
  });

  test("goes on with the streak that a user had", async () => {
    await withWorld(async ({ db, xp }) => {
      await ann(db);
      const streak = await aTrigger(db, { system: xp, type: "streak", points: 7, streak_length: 2 });
      await insertEvents(db, [3, 4, 5, 6].map((day) => ({ metric: "words", user: "ann", value: 1, at: `2024-03-0${day}T12:00:00Z` })));
      // 7 on the 4th, before; 3 days on the 5th, 4 on the 6th.
      const found = await backtest(db, "xp", { ...range, draft: { triggers: [{ id: streak.id, streakLength: 3 }] } });
      expect(p50(found.current)).toEqual([7, 14, 14]);
      expect(found.current.byTrigger).toMatchObject([{ firings: 1, awarded: 7 }]);
      expect(p50(found.draft)).toEqual([14, 14, 14]);
    });
  });

  test("uses the freezes that a user had, and no later ones", async () => {
    await withWorld(async ({ db, xp }) => {
      await db.query(`select laurel.update_streak_settings('{"freezes": {"startCount": 1, "maxCount": 3}}')`);
      await aTrigger(db, { system: xp, type: "streak", points: 7, streak_length: 2 });
      await ann(db);
      await db.query("update laurel_private.streak_freezes set on_date = '2024-01-01'");
      await insertEvents(db, [4, 6].map((day) => ({ metric: "words", user: "ann", value: 1, at: `2024-03-0${day}T12:00:00Z` })));
      // The 5th is saved by the one freeze: 2 days on the 6th.
      expect(p50((await backtest(db, "xp", range)).current)).toEqual([0, 7, 7]);
      // Granted today, it was not there then.
      await db.query("update laurel_private.streak_freezes set on_date = current_date");
      expect(p50((await backtest(db, "xp", range)).current)).toEqual([0, 0, 0]);
    });
  });

  test("refuses more ticks than it can apply", async () => {
    await withWorld(async ({ db, xp }) => {
      await db.query("insert into laurel.users (id, created_at) select 'u' || n, '2024-01-01' from generate_series(1, 140) n");
      const hourly = await aTrigger(db, { system: xp, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
      await setBack(db, hourly.id, "2024-01-01T00:00:00Z");
      const month = { from: "2024-02-01", to: "2024-03-01", users: { sample: 140 } };
      expect(await refusal(db, () => backtest(db, "xp", month))).toEqual(lr("LR061", "up to 100800 ticks"));
    });
  });
});
