import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { type EventInput, insertEvents, record, refusal, verify } from "../../support/engine.ts";
import {
  aBoost, aLevel, aMetric, anAchievement, anAttribute, aSystem, aTrigger, aUser, type Database,
} from "../../support/factories.ts";
import { randomFrom } from "../../support/races.ts";
import { lr } from "../../support/refusals.ts";
import { backtest, countAll, percentile } from "../../support/scenarios.ts";

/** Rule D2. */

const zones = ["UTC", "Pacific/Kiritimati", "America/New_York"] as const;
const at = (day: number, hour: number): string => new Date(Date.UTC(2024, 2, day, hour)).toISOString();

/** Rules of most kinds, and eight users' events from 1 to 14 March 2024, in order of time, as they came. */
async function withHistory(seed: number, work: (db: Database, ids: { words: string; first: string }) => Promise<void>): Promise<void> {
  await withRollback(async (db) => {
    const random = randomFrom(seed);
    const pick = (n: number): number => Math.floor(random() * n);
    await anAttribute(db, { key: "plan", type: "user" });
    await anAttribute(db, { key: "kind", type: "event" });
    const words = await aMetric(db, { key: "words" });
    const tasks = await aMetric(db, { key: "tasks" });
    const xp = await aSystem(db, { key: "xp", max_points: 150 });
    const first = await aTrigger(db, { system: xp, metric: words, every: 3, points: 10 });
    await aTrigger(db, { system: xp, metric: tasks, every: 2, points: 7, event_attributes: { kind: "long" } });
    await aTrigger(db, { system: xp, metric: tasks, every: 1, points: -6, block_if_out_of_points: seed % 2 === 0, user_attributes: { plan: "pro" } });
    await aTrigger(db, { system: xp, type: "user_creation", points: 9 });
    const many = await anAchievement(db, { key: "many", metric: words, metric_value: 20 });
    const done = await anAchievement(db, { key: "done" });
    await aTrigger(db, { system: xp, type: "achievement", achievement_id: many.id, points: 13 });
    await aTrigger(db, { system: xp, type: "achievement", achievement_id: done.id, points: 3 });
    await aBoost(db, { system: xp, multiplier: 1.5, starts_on: "2024-03-06", ends_on: "2024-03-09", rounding: "up", user_attributes: { plan: "pro" } });
    await aLevel(db, { system: xp, key: "low", points: 20 });
    await aLevel(db, { system: xp, key: "high", points: 100 });
    for (let n = 0; n < 4; n += 1) {
      await aUser(db, { id: `old${n}`, tz: zones[n % 3] ?? "UTC", attributes: { plan: n % 2 === 0 ? "pro" : "free" } });
    }
    await db.query("update laurel.users set created_at = '2024-02-01'");
    await aBoost(db, { system: xp, multiplier: 2, starts_on: "2024-03-08", user_id: "old1" });
    for (let hour = 0; hour < 14 * 24; hour += 1 + pick(4)) {
      const user = `${["old", "new"][pick(2)] ?? "old"}${pick(4)}`;
      const event: EventInput = {
        metric: ["words", "tasks"][pick(2)] ?? "words", user, value: [1, 2, 5, -1][pick(4)] ?? 1,
        attributes: pick(2) === 0 ? { kind: "long" } : {}, at: at(1, hour),
      };
      await db.query("savepoint event");
      try {
        if (user.startsWith("new")) await record(db, { ...event, profile: { tz: zones[pick(1)] ?? "UTC", attributes: { plan: "pro" } } });
        else await insertEvents(db, [event]);
      } catch (error) {
        expect(error).toMatchObject({ code: "LR030" });
        await db.query("rollback to savepoint event");
      }
    }
    expect(await verify(db)).toEqual([]);
    await work(db, { words: words.id, first: first.id });
  });
}

describe("a backtest of the rules of today", () => {
  test.each([1, 2, 3, 4, 5, 6])("is the ledger of a time in which they did not change (seed %i)", async (seed) => {
    await withHistory(seed, async (db) => {
      const found = await backtest(db, "xp", { from: "2024-03-05", to: "2024-03-12" });
      const users = (await db.query<{ id: string; tz: string }>("select id, coalesce(tz, 'UTC') as tz from laurel.users order by id")).rows;
      expect(found.users).toBe(users.length);
      const awards = (await db.query<{ user_id: string; day: string; trigger_id: string; points: string; firings: string }>(
        `select a.user_id, ((a.occurred_at at time zone coalesce(u.tz, 'UTC'))::date)::text as day, a.trigger_id, a.points, a.firings
         from laurel.points_awards a join laurel.users u on u.id = a.user_id order by a.id`)).rows;
      const days = Array.from({ length: 8 }, (_, n) => `2024-03-${String(5 + n).padStart(2, "0")}`);
      const totals = days.map((date, n) => {
        const all = users.map(({ id }) => awards.filter((award) => award.user_id === id && award.day <= date).reduce((sum, award) => sum + Number(award.points), 0));
        return { day: n + 1, date, p10: percentile(all, 0.1), p50: percentile(all, 0.5), p90: percentile(all, 0.9) };
      });
      expect(found.current.totals).toEqual(totals);
      const inRange = awards.filter(({ day }) => day >= "2024-03-05" && day <= "2024-03-12");
      expect(found.current.byTrigger.map(({ trigger, awarded }) => [trigger.id, awarded])).toEqual(
        found.current.byTrigger.map(({ trigger: { id } }) => [id, inRange.filter((award) => award.trigger_id === id).reduce((sum, award) => sum + Number(award.points), 0)]),
      );
      expect(found.current.byTrigger.filter(({ awarded }) => awarded !== 0).length).toBeGreaterThan(3);
      expect(found.current.refusedEvents).toBe(0);
      // Without a draft both sides are the same.
      expect(found.draft).toEqual(found.current);
    });
  });

  test("counts adjustments and completions by call where they came", async () => {
    await withHistory(8, async (db) => {
      await db.query("select laurel.adjust_points('xp', 'old0', -1000, 'fine')");
      await db.query("select laurel.complete_achievement('done', 'old0')");
      await db.query("select laurel.adjust_points('xp', 'old0', 55, 'gift')");
      const day = (await db.query<{ d: string }>("select ((now() at time zone 'UTC')::date)::text as d")).rows[0]?.d;
      const found = await backtest(db, "xp", { from: day, to: day, users: { attributes: {} } });
      const total = (await db.query<{ total: string }>("select total from laurel.points_balances where user_id = 'old0'")).rows[0]?.total;
      expect(Number(total)).toBe(58);
      expect(found.current.byTrigger.filter(({ trigger }) => trigger.type === "achievement").map(({ firings }) => firings)).toContain(1);
      const users = (await db.query<{ total: string }>("select coalesce(b.total, 0) as total from laurel.users u left join laurel.points_balances b on b.user_id = u.id")).rows;
      expect(found.current.totals[0]?.p50).toBe(percentile(users.map((row) => Number(row.total)), 0.5));
    });
  });
});

describe("a draft", () => {
  test("starts from where users stood, and is told beside the rules of today", async () => {
    await withRollback(async (db) => {
      const words = await aMetric(db, { key: "words" });
      const xp = await aSystem(db, { key: "xp" });
      const trigger = await aTrigger(db, { system: xp, metric: words, every: 2, points: 10 });
      await aUser(db, { id: "ann" });
      await db.query("update laurel.users set created_at = '2024-01-01'");
      // 3 words before: 10 points, and one word towards the next.
      for (const [day, value] of [[1, 3], [5, 1], [6, 4]] as const) await insertEvents(db, [{ metric: "words", user: "ann", value, at: at(day, 12) }]);
      const found = await backtest(db, "xp", {
        from: "2024-03-05", to: "2024-03-06",
        draft: { maxPoints: 60, triggers: [{ id: trigger.id, points: 20 }, { type: "metric", metricId: words.id, metricThreshold: 4, points: 1 }] },
      });
      expect(found).toMatchObject({ from: "2024-03-05", to: "2024-03-06", users: 1, events: 2 });
      expect(found.current.totals.map(({ p50 }) => p50)).toEqual([20, 40]);
      // 10 + 20 + 1 (the fourth word), then 2 × 20 and 1 for the eighth, of which the cap of 60 lets in 29.
      expect(found.draft.totals.map(({ p50 }) => p50)).toEqual([31, 60]);
      expect(found.draft.lost).toEqual({ rounding: 0, cap: 12, floor: 0 });
      expect(found.draft.byTrigger).toMatchObject([{ trigger: { id: trigger.id }, firings: 3, awarded: 49 }, { trigger: { draft: 1 }, firings: 2, awarded: 1 }]);
    });
  });
});

describe("the sample", () => {
  test("is drawn by the seed, from users with the attributes", async () => {
    await withHistory(9, async (db) => {
      const range = { from: "2024-03-05", to: "2024-03-12" };
      const three = await backtest(db, "xp", { ...range, users: { sample: 3, seed: 1 } });
      expect(three.users).toBe(3);
      expect(await backtest(db, "xp", { ...range, users: { sample: 3, seed: 1 } })).toEqual(three);
      const others = [];
      for (const seed of [2, 3, 4]) others.push(await backtest(db, "xp", { ...range, users: { sample: 3, seed } }));
      expect(others.some(({ current }) => JSON.stringify(current) !== JSON.stringify(three.current))).toBe(true);
      expect((await backtest(db, "xp", { ...range, users: { attributes: { plan: "free" } } })).users).toBe(2);
      expect(await backtest(db, "xp", { ...range, users: { attributes: { plan: "none" } } })).toMatchObject({ users: 0, events: 0 });
    });
  });
});

test("nothing remains", async () => {
  await withHistory(10, async (db, { first }) => {
    const before = await countAll(db);
    await backtest(db, "xp", { from: "2024-03-05", to: "2024-03-12", draft: { triggers: [{ id: first, points: 99 }] } });
    expect(await countAll(db)).toEqual(before);
    expect(await verify(db)).toEqual([]);
  });
});

test("wrong requests are refused, naming the place", async () => {
  await withHistory(11, async (db) => {
    const range = { from: "2024-03-05", to: "2024-03-12" };
    const cases: readonly (readonly [unknown, string])[] = [
      [null, "request must not be null"],
      [{ from: "2024-03-05" }, "request.to is required"],
      [{ ...range, to: "never" }, "request.to must be a date such as 2026-01-31"],
      [{ ...range, to: "2024-03-04" }, "request.to must not be before request.from"],
      [{ ...range, users: [] }, "request.users must be an object"],
      [{ ...range, users: { sample: 0 } }, "request.users.sample must be at least 1"],
      [{ ...range, users: { sample: 1001 } }, "request.users.sample must be at most 1000"],
      [{ ...range, users: { attributes: { plan: 1 } } }, "request.users.attributes.plan must be a string"],
      [{ ...range, users: { attributes: { nope: "1" } } }, "request.users.attributes names attributes that are not declared"],
      [{ ...range, users: { size: 1 } }, "request.users.size is not known here"],
      [{ ...range, draft: { levels: {} } }, "request.draft.levels must be an array"],
      [{ ...range, draft: { boosts: [{ name: "B", start: "2024-01-01", multiplier: 0 }] } }, "request.draft.boosts[0]: A boost's multiplier"],
    ];
    for (const [request, message] of cases) {
      const refused = await refusal(db, () => backtest(db, "xp", request));
      expect(refused).toEqual(lr("LR060", message));
      expect(refused.field).toBe((/^\S+?(?=:? )/.exec(message)?.[0] ?? "").replace("request.", ""));
    }
    expect(await refusal(db, () => backtest(db, "xp", { from: "2023-03-01", to: "2024-03-02" }))).toMatchObject({ code: "LR061", message: expect.stringContaining("368 days"), field: "from" });
    expect(await refusal(db, () => backtest(db, "nope", range))).toEqual(lr("LR004"));
  });
});
