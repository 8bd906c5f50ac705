import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, ledger, metricTotals, record, steps, waysIn } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAttribute, aSystem, aTrigger } from "../../support/factories.ts";

/** Rules Q2, E4 and L3: what record_event() answers. */

const instant = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const uuid = expect.stringMatching(/^[0-9a-f-]{36}$/);

describe("the answer of record_event() (Q2)", () => {
  test("tells the whole effect, every required field there", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      const metric = await aMetric(db, { key: "words", name: "Words" });
      const system = await aSystem(db, { key: "xp", name: "Experience", max_points: 20 });
      const trigger = await aTrigger(db, { system, metric, every: 2, points: 3, event_attributes: { kind: "book" } });
      const boost = await aBoost(db, {
        system,
        name: "Spring",
        multiplier: "1.5",
        rounding: "up",
        starts_on: "2024-01-01",
        ends_on: "2024-12-31",
      });
      const level = await aLevel(db, { system, key: "bronze", name: "Bronze", points: 10 });
      const response = await record(db, {
        metric: "words",
        user: "ada",
        value: "7.5",
        attributes: { kind: "book" },
        key: "k1",
        at: "2024-05-05T05:05:05.678Z",
      });
      // floor(7.5 / 2) = 3 firings of 3 = 9; x 1.5 = 13.5, up 14
      expect(response).toEqual({
        eventId: uuid,
        metricId: metric.id,
        total: 7.5,
        achievements: [],
        currentStreak: expect.objectContaining({
          length: 0,
          frequency: "daily",
          started: null,
          periodStart: null,
          periodEnd: null,
          expires: null,
          extended: false,
        }),
        points: {
          xp: {
            id: system.id,
            key: "xp",
            name: "Experience",
            description: null,
            badgeUrl: null,
            maxPoints: 20,
            total: 14,
            added: 14,
            level: { id: level.id, key: "bronze", name: "Bronze", description: "", badgeUrl: null, points: 10 },
            awards: [
              {
                id: first(await ledger(db, "ada")).id,
                awarded: 14,
                date: "2024-05-05T05:05:05.678Z",
                total: 14,
                trigger: expect.objectContaining({
                  id: trigger.id,
                  type: "metric",
                  points: 3,
                  status: "active",
                  metricId: metric.id,
                  metricName: "Words",
                  metricThreshold: 2,
                  userAttributes: [],
                  eventAttributes: [{ key: "kind", value: "book" }],
                  created: instant,
                  updated: instant,
                }),
                boosts: [
                  {
                    id: boost.id,
                    name: "Spring",
                    status: expect.stringMatching(/^(active|finished)$/),
                    start: "2024-01-01",
                    end: "2024-12-31",
                    multiplier: 1.5,
                    rounding: "up",
                  },
                ],
              },
            ],
          },
        },
        leaderboards: {},
        idempotencyKey: "k1",
        idempotentReplayed: false,
      });
      const found = await db.query("select id from laurel.metric_events");
      expect(found.rows).toEqual([{ id: response.eventId }]);
    });
  });

  test("adds up several awards, in the order applied, with their running totals (L3)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { key: "xp", max_points: 12 });
      await aTrigger(db, { system, metric, points: 10 });
      await aTrigger(db, { system, metric, points: 10 });
      await aTrigger(db, { system, metric, points: -5 });
      const response = await record(db, { metric: metric.key, user: "ada" });
      expect(response.points["xp"]).toMatchObject({ total: 7, added: 7 });
      expect(response.points["xp"]?.awards.map((award) => [award.awarded, award.total])).toEqual([
        [10, 10],
        [2, 12],
        [-5, 7],
      ]);
      expect(response.points["xp"]).not.toHaveProperty("level");
    });
  });

  test("says nothing of systems that did not change", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const [full, changed] = [await aSystem(db, { max_points: 1 }), await aSystem(db)];
      await aSystem(db);
      for (const system of [full, changed]) await aTrigger(db, { system, metric, points: 1 });
      await record(db, { metric: metric.key, user: "ada" });
      expect(Object.keys((await record(db, { metric: metric.key, user: "ada" })).points)).toEqual([changed.key]);
    });
  });

  test("has no idempotencyKey when none was given", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const response = await record(db, { metric: metric.key, user: "ada" });
      expect(response).not.toHaveProperty("idempotencyKey");
      expect(response.idempotentReplayed).toBe(false);
    });
  });

  test.each([
    ["0.1", "0.1"],
    ["999999999999999.999999999", "999999999999999.999999999"],
    ["100", "100"],
    ["-2.500000000", "-2.5"],
  ])("tells the total of %s exactly, as %s", async (value, text) => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const found = await db.query<{ total: string }>(
        "select laurel.record_event($1, 'ada', $2) ->> 'total' as total",
        [metric.key, value],
      );
      expect(first(found.rows).total).toBe(text);
    });
  });
});

describe("a replay (E4)", () => {
  test("answers with the current state and the original event's ID, and changes nothing", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 5 });
      const original = await record(db, { metric: metric.key, user: "ada", value: 2, key: "k" });
      await record(db, { metric: metric.key, user: "ada", value: 3 });
      const before = await ledger(db, "ada");
      const replayed = await record(db, { metric: metric.key, user: "ada", value: 99, key: "k", at: "2020-01-01T00:00:00Z" });
      expect(replayed).toMatchObject({
        eventId: original.eventId,
        metricId: metric.id,
        total: 5,
        achievements: [],
        points: {},
        leaderboards: {},
        idempotencyKey: "k",
        idempotentReplayed: true,
      });
      expect(replayed.currentStreak).toBeDefined();
      expect(await ledger(db, "ada")).toEqual(before);
      expect((await db.query("select from laurel.metric_events")).rowCount).toBe(2);
    });
  });

  test.each(waysIn)("of an event first given by %s is known by record_event() and back", async (_, give) => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 5 });
      await give(db, [{ metric: metric.key, user: "ada", value: 2, key: "k" }]);
      const event = first((await db.query<{ id: string }>("select id from laurel.metric_events")).rows);
      const replayed = await record(db, { metric: metric.key, user: "ada", key: "k" });
      expect([replayed.idempotentReplayed, replayed.eventId, replayed.total]).toEqual([true, event.id, 2]);
      await record(db, { metric: metric.key, user: "ada", key: "l" });
      await give(db, [{ metric: metric.key, user: "ada", key: "l" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 +5 15"]);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "3", peak: "3" });
    });
  });

  test("mixed with new rows in one INSERT skips only the replays", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await insertEvents(db, [{ metric: metric.key, user: "ada", value: 1, key: "a" }]);
      await insertEvents(db, [
        { metric: metric.key, user: "ada", value: 10, key: "b" },
        { metric: metric.key, user: "ada", value: 100, key: "a" },
        { metric: metric.key, user: "bob", value: 1000, key: "a" },
        { metric: metric.key, user: "ada", value: 10000, key: "b" },
        { metric: metric.key, user: "ada", value: 100000 },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +10 11", "11 +100000 100011"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +1000 1000"]);
    });
  });
});
