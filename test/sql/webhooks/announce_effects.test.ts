import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, insertEvents, record, verify, waysIn } from "../../support/engine.ts";
import { aLevel, aMetric, anAchievement, aSystem, aTenant, aTrigger, type Database } from "../../support/factories.ts";
import { readReference, referenceDirectory } from "../../support/reference.ts";
import { anEndpoint, messages } from "../../support/webhooks.ts";

/** Rules H2 and H3: what happens becomes messages, in the transaction that causes it. */

/** Endpoints here are told of points alone unless said otherwise: announcements.test.ts has the rest. */
const pointsTypes = ["points.changed", "points.level_changed", "achievement.completed"];

async function aGame(db: Database) {
  const metric = await aMetric(db, { key: "words" });
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, metric, points: 10 });
  await aLevel(db, { system, key: "bronze", points: 20 });
  await aLevel(db, { system, key: "silver", points: 50 });
  return { metric, system };
}

const types = async (db: Database): Promise<string[]> => (await messages(db)).map(({ event_type, user_id }) => `${event_type} ${String(user_id)}`);

/** Ends windows that have begun: this many minutes from now. */
const sweep = async (db: Database, minutes: number): Promise<number | undefined> =>
  (await db.query<{ done: number }>(
    "select laurel_private.announce_points_changes(clock_timestamp() + make_interval(mins => $1)) as done", [minutes])).rows[0]?.done;

describe("messages are written", () => {
  test.each(waysIn)("by %s: points at once, and the level that they reach", async (_name, send) => {
    await withRollback(async (db) => {
      await aGame(db);
      await anEndpoint(db, { types: pointsTypes });
      await send(db, [{ metric: "words", user: "ada", value: 1 }, { metric: "words", user: "bob", value: 2 }]);
      expect((await types(db)).sort()).toEqual(["points.changed ada", "points.changed bob", "points.level_changed bob"]);
      const [level] = await messages(db, "points.level_changed");
      expect(level?.payload).toMatchObject({
        user: { id: "bob" }, points: { key: "xp", total: 20 }, previousLevel: null, newLevel: { key: "bronze" },
      });
      const deliveries = await db.query("select d.status, d.user_id from laurel.webhook_deliveries d order by message_id");
      expect(deliveries.rows).toHaveLength(3);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("only when some active endpoint of the tenant wants the type, with a delivery for each that does", async () => {
    await withRollback(async (db) => {
      await aGame(db);
      await record(db, { metric: "words", user: "ada", value: 5 });
      expect(await types(db)).toEqual([]);
      await anEndpoint(db, { is_active: false });
      await anEndpoint(db, { types: ["points.level_changed", "leaderboard.finished"] });
      await record(db, { metric: "words", user: "bob", value: 5 });
      expect(await types(db)).toEqual(["points.level_changed bob"]);
      await anEndpoint(db, { types: ["points.changed", "points.level_changed"] });
      await record(db, { metric: "words", user: "eve", value: 5 });
      expect(await types(db)).toEqual(["points.level_changed bob", "points.changed eve", "points.level_changed eve"]);
      const found = await db.query<{ count: string }>("select count(*) from laurel.webhook_deliveries group by message_id order by message_id");
      expect(found.rows.map(({ count }) => count)).toEqual(["1", "1", "2"]);
      // Another tenant's endpoints are none of this one's.
      await actFor(db, await aTenant(db));
      await aGame(db);
      await record(db, { metric: "words", user: "ada", value: 5 });
      expect(await types(db)).toEqual([]);
    });
  });

  test("for adjustments, and for a level that is lost", async () => {
    await withRollback(async (db) => {
      await aGame(db);
      await record(db, { metric: "words", user: "ada", value: 5 });
      await anEndpoint(db, { types: pointsTypes });
      await db.query("select laurel.adjust_points('xp', 'ada', -40, 'A correction')");
      const [changed, level] = await messages(db);
      expect(changed?.payload).toMatchObject({
        type: "points.changed", points: { total: 10, added: -40, level: null, awards: [{ awarded: -40, total: 10, reason: "A correction" }] },
      });
      expect(level?.payload).toMatchObject({ previousLevel: { key: "silver" }, newLevel: null, points: { total: 10 } });
    });
  });

  test("for achievements, before the points they pay; not for those completed silently", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aGame(db);
      await record(db, { metric: "words", user: "ada", value: 1 });
      await anEndpoint(db, { types: pointsTypes });
      const early = await anAchievement(db, { key: "early", metric, metric_value: 1 });
      await aTrigger(db, { system, type: "achievement", achievement_id: early.id, points: 500 });
      await db.query("select laurel_private.backfill_achievements()");
      await db.query("update laurel_private.achievement_backfills set begins_after = '1'");
      await db.query("select laurel_private.backfill_achievements()");
      expect((await db.query("select from laurel.user_achievements where is_silent")).rowCount).toBe(1);
      expect(await types(db)).toEqual([]);
      await anAchievement(db, { key: "done" });
      await db.query("select laurel.complete_achievement('done', 'ada')");
      await record(db, { metric: "words", user: "bob", value: 1 });
      expect(await types(db)).toEqual([
        "achievement.completed ada", "achievement.completed bob", "points.changed bob", "points.level_changed bob",
      ]);
      const [, completed] = await messages(db);
      expect(completed?.payload).toMatchObject({ user: { id: "bob" }, achievement: { key: "early", achievedAt: expect.any(String) as unknown } });
    });
  });

  test("with their cause or not at all", async () => {
    await withRollback(async (db) => {
      const { system } = await aGame(db);
      await anEndpoint(db, { types: pointsTypes });
      const energy = await aMetric(db, { key: "energy" });
      await aTrigger(db, { system, metric: energy, points: -1000, block_if_out_of_points: true });
      await db.query("savepoint before");
      await expect(record(db, { metric: "energy", user: "ada" })).rejects.toMatchObject({ code: "LR030" });
      await db.query("rollback to savepoint before");
      expect(await types(db)).toEqual([]);
    });
  });
});

describe("points.changed", () => {
  test("comes at once, then not for 15 minutes, then once with the sum", async () => {
    await withRollback(async (db) => {
      await aGame(db);
      await anEndpoint(db, { types: ["points.changed"] });
      for (let n = 0; n < 4; n += 1) await record(db, { metric: "words", user: "ada" });
      await insertEvents(db, [{ metric: "words", user: "ada" }, { metric: "words", user: "ada" }]);
      expect((await messages(db)).map(({ payload }) => payload.points?.["total"])).toEqual([10]);
      expect(await sweep(db, 14)).toBe(0);
      expect(await sweep(db, 16)).toBe(1);
      expect((await messages(db)).map(({ payload }) => payload.points)).toMatchObject([
        { total: 10, added: 10, awards: [{ total: 10 }] },
        // The other five, with the levels at 20 and 50 on the way.
        { total: 60, added: 50, level: { key: "silver" }, awards: [20, 30, 40, 50, 60].map((total) => ({ total, awarded: 10 })) },
      ]);
      // The window that this opened ends 15 minutes later, without news: it is gone, and the next change comes at once.
      expect(await sweep(db, 30)).toBe(0);
      expect(await sweep(db, 32)).toBe(1);
      expect(await sweep(db, 300)).toBe(0);
      expect(await messages(db)).toHaveLength(2);
      await record(db, { metric: "words", user: "ada" });
      expect((await messages(db)).map(({ payload }) => payload.points?.["total"])).toEqual([10, 60, 70]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("is per user and system", async () => {
    await withRollback(async (db) => {
      const { metric } = await aGame(db);
      const gems = await aSystem(db, { key: "gems" });
      await aTrigger(db, { system: gems, metric, points: 1, every: 2 });
      await anEndpoint(db, { types: ["points.changed"] });
      for (const user of ["ada", "bob", "ada", "bob"]) await record(db, { metric: "words", user });
      const told = (await messages(db)).map(({ user_id, payload }) => `${String(user_id)} ${String(payload.points?.["key"])} ${String(payload.points?.["total"])}`);
      expect(told).toEqual(["ada xp 10", "bob xp 10", "ada gems 1", "bob gems 1"]);
    });
  });

  test("that nobody wants any more when its window ends is not written", async () => {
    await withRollback(async (db) => {
      await aGame(db);
      const endpoint = await anEndpoint(db, { types: ["points.changed"] });
      for (let n = 0; n < 2; n += 1) await record(db, { metric: "words", user: "ada" });
      await db.query("update laurel.webhook_endpoints set is_active = false where id = $1", [endpoint.id]);
      expect(await sweep(db, 16)).toBe(1);
      expect(await messages(db)).toHaveLength(1);
      expect((await db.query("select from laurel_private.points_changed_windows")).rowCount).toBe(0);
    });
  });

  test("of thousands of awards shows the latest 100, and the sum of all", async () => {
    await withRollback(async (db) => {
      await aGame(db);
      await anEndpoint(db, { types: ["points.changed"] });
      await insertEvents(db, Array.from({ length: 250 }, () => ({ metric: "words", user: "ada" })));
      const [message] = await messages(db);
      expect(message?.payload.points).toMatchObject({ total: 2500, added: 2500 });
      const awards = message?.payload.points?.["awards"] as { total: number }[];
      expect([awards.length, awards[0]?.total, awards.at(-1)?.total]).toEqual([100, 1510, 2500]);
    });
  });
});

const reference = readReference();
(reference === undefined ? describe.skip : describe)(`payloads are as the contract has them (${referenceDirectory})`, () => {
  test("those that the flow writes", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aGame(db);
      await anEndpoint(db, { types: pointsTypes });
      const achievement = await anAchievement(db, { key: "many", metric, metric_value: 3 });
      await aTrigger(db, { system, type: "achievement", achievement_id: achievement.id, points: 100 });
      await aTrigger(db, { system, type: "user_creation", points: 5 });
      await record(db, { metric: "words", user: "ada", value: 1, profile: { name: "Ada", email: "ada@example.com", tz: "Europe/Paris" } });
      await record(db, { metric: "words", user: "ada", value: 5 });
      await db.query("select laurel.adjust_points('xp', 'ada', -150, 'A correction')");
      await sweep(db, 16);
      const written = await messages(db);
      expect(new Set(written.map(({ event_type }) => event_type))).toEqual(
        new Set(["points.changed", "points.level_changed", "achievement.completed"]));
      for (const { event_type, payload } of written) {
        expect([event_type, reference?.faultsOfWebhook(event_type, payload)]).toEqual([event_type, []]);
      }
    });
  });
});
