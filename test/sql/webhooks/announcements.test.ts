import { describe, expect, test } from "@jest/globals";
import { cloneDatabase, withRollback } from "../../support/database.ts";
import { actFor, first, insertEvents, record, verify } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAchievement, aSystem, aTenant, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { openTransaction, startAndBlock } from "../../support/races.ts";
import { readReference, referenceDirectory } from "../../support/reference.ts";
import { anEndpoint, messages, type Message, webhookTypes } from "../../support/webhooks.ts";

/** Rules H1 and H4: boosts, streaks and leaderboards are told in the transaction that makes something of them, once. */

const hour = 3_600_000;
const hoursAhead = (hours: number): string => new Date(Date.now() + hours * hour).toISOString();
const day = (days: number): string => hoursAhead(24 * days).slice(0, 10);

const announceBoosts = async (db: Database, asOf: string): Promise<void> => {
  while (first((await db.query<{ n: number }>("select laurel_private.announce_boosts($1) as n", [asOf])).rows).n > 0);
};
const upkeepStreaks = async (db: Database, asOf: string): Promise<void> => {
  while ((await db.query("select from laurel_private.upkeep_streaks($1)", [asOf])).rowCount !== 0);
};
/** Looks back first, as if every transaction from before the activation were over. */
const upkeepLeaderboards = async (db: Database, asOf: string): Promise<void> => {
  await db.query("select laurel_private.backfill_leaderboards()");
  await db.query("update laurel_private.leaderboard_backfills set begins_after = '1' where finished_at is null");
  while (first((await db.query<{ n: number }>("select laurel_private.backfill_leaderboards() as n")).rows).n > 0);
  while (first((await db.query<{ n: number }>("select laurel_private.upkeep_leaderboards($1) as n", [asOf])).rows).n > 0);
};
const aLeaderboard = async (db: Database, values: { metric: { id: string }; daily?: boolean; breakdown?: readonly string[]; key?: string }): Promise<void> => {
  await db.query(
    `insert into laurel.leaderboards (key, name, rank_by, metric_id, status, starts_on, run_unit, run_interval, breakdown_attributes)
     values ($1, 'Top', 'metric', $2, 'active', $3, $4, $5, $6)`,
    [values.key ?? "top", values.metric.id, day(0), ...(values.daily === true ? ["day", 1] : [null, null]), values.breakdown ?? []],
  );
};
const told = async (db: Database, prefix: string): Promise<string[]> =>
  (await messages(db)).filter(({ event_type }) => event_type.startsWith(prefix)).map(({ event_type, user_id }) => `${event_type.slice(prefix.length)} ${String(user_id)}`);
const bodies = async (db: Database, prefix: string): Promise<Message["payload"][]> =>
  (await messages(db)).filter(({ event_type }) => event_type.startsWith(prefix)).map(({ payload }) => payload);

describe("boosts", () => {
  test("are told when they start and finish: about their user when they are for one", async () => {
    await withRollback(async (db) => {
      await anEndpoint(db);
      const system = await aSystem(db, { key: "xp" });
      const user = await aUser(db, { tz: "Asia/Tokyo" });
      await aBoost(db, { system, name: "Weekend", starts_on: "2040-05-10", ends_on: "2040-05-12", multiplier: 1.5 });
      await aBoost(db, { system, name: "Mine", user_id: user.id, starts_on: "2040-05-10", ends_on: "2040-05-10" });
      await announceBoosts(db, "2040-05-09T09:59:59Z");
      expect(await told(db, "points.boost_")).toEqual([]);
      await announceBoosts(db, "2040-05-09T15:00:00Z");
      expect(await told(db, "points.boost_")).toEqual(["started null", `started ${user.id}`]);
      await announceBoosts(db, "2041-01-01T00:00:00Z");
      expect((await told(db, "points.boost_")).slice(2)).toEqual([`finished ${user.id}`, "finished null"]);
      expect(await bodies(db, "points.boost_")).toMatchObject([
        { timestamp: "2040-05-09T10:00:00.000Z", boost: { name: "Weekend", status: "active", userId: null, pointsSystemKey: "xp", multiplier: 1.5, start: "2040-05-10", end: "2040-05-12" } },
        { timestamp: "2040-05-09T15:00:00.000Z", boost: { name: "Mine", status: "active", userId: user.id } },
        { timestamp: "2040-05-10T15:00:00.000Z", boost: { name: "Mine", status: "finished", userId: user.id } },
        { timestamp: "2040-05-13T13:00:00.000Z", boost: { name: "Weekend", status: "finished", userId: null } },
      ]);
    });
  });

  test("entered with a past start are told as started when they were entered; cancelled ones as finished when they were", async () => {
    await withRollback(async (db) => {
      await anEndpoint(db);
      const from = Date.now() - 1;
      const boost = await aBoost(db, { system: await aSystem(db), starts_on: "2024-01-01" });
      await announceBoosts(db, hoursAhead(1));
      await db.query("update laurel.points_boosts set archived_at = now() where id = $1", [boost.id]);
      await announceBoosts(db, hoursAhead(1));
      const found = await bodies(db, "points.boost_");
      expect(found.map(({ type }) => type)).toEqual(["points.boost_started", "points.boost_finished"]);
      for (const { timestamp } of found) {
        expect(Date.parse(timestamp as string)).toBeGreaterThanOrEqual(from);
        expect(Date.parse(timestamp as string)).toBeLessThanOrEqual(Date.now());
      }
    });
  });

  test("of several tenants each go to their own endpoints, and to those that want them alone", async () => {
    await withRollback(async (db) => {
      await anEndpoint(db, { types: ["points.boost_finished"] });
      await aBoost(db, { system: await aSystem(db), starts_on: "2024-01-01" });
      await actFor(db, await aTenant(db));
      await anEndpoint(db);
      await aBoost(db, { system: await aSystem(db), starts_on: "2024-01-01" });
      await announceBoosts(db, hoursAhead(1));
      expect(await told(db, "points.boost_")).toEqual(["started null"]);
      const all = await db.query("select from laurel.webhook_messages");
      expect(all.rowCount).toBe(1);
    });
  });

  test("of a user who is busy wait for the next call; whoever waits for them meets no deadlock", async () => {
    const { pools: { owner } } = await cloneDatabase();
    await anEndpoint(owner);
    const user = await aUser(owner, { tz: "UTC" });
    await aBoost(owner, { system: await aSystem(owner), user_id: user.id, starts_on: "2024-01-01" });
    const busy = await openTransaction(owner);
    await busy.client.query(`select laurel.identify_user($1, '{"tz": "Asia/Tokyo"}')`, [user.id]);
    await announceBoosts(owner, hoursAhead(1));
    expect(await told(owner, "points.boost_")).toEqual([]);
    await busy.end("commit");
    const worker = await openTransaction(owner);
    expect((await worker.client.query("select laurel_private.announce_boosts($1)", [hoursAhead(1)])).rowCount).toBe(1);
    const moving = await startAndBlock(owner, owner, (client) => client.query(`select laurel.identify_user($1, '{"tz": "Europe/Paris"}')`, [user.id]));
    await worker.end("commit");
    await moving.result;
    expect(await told(owner, "points.boost_")).toEqual([`started ${user.id}`]);
  });
});

describe("streaks", () => {
  test("are told as events start and extend them, once a day", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await anEndpoint(db);
      await record(db, { metric: metric.key, user: "ada", at: hoursAhead(-24), profile: { tz: "UTC" } });
      await record(db, { metric: metric.key, user: "ada" });
      await record(db, { metric: metric.key, user: "ada" });
      await insertEvents(db, [{ metric: metric.key, user: "bob" }, { metric: metric.key, user: "ada" }]);
      expect(await told(db, "streak.")).toEqual(["started ada", "extended ada", "started bob"]);
      expect(await bodies(db, "streak.")).toMatchObject([
        { user: { id: "ada", tz: "UTC" }, streak: { length: 1, frequency: "daily" } },
        { user: { id: "ada" }, streak: { length: 2, started: day(-1), periodStart: day(0), periodEnd: day(0), expires: day(1) } },
        { user: { id: "bob" }, streak: { length: 1, started: day(0) } },
      ]);
      expect(Object.keys((await bodies(db, "streak."))[0]?.["streak"] as object)).not.toContain("extended");
    });
  });

  test("are told as time uses freezes, earns them and ends streaks: once each, whoever finds it out", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await db.query(`select laurel.update_streak_settings('{"freezes": {"startCount": 1, "maxCount": 2, "autoEarnInterval": 3, "autoEarnAmount": 1}}')`);
      await anEndpoint(db, { types: webhookTypes.filter((type) => type.startsWith("streak.")) });
      await record(db, { metric: metric.key, user: "ada", profile: { tz: "UTC" } });
      await upkeepStreaks(db, `${day(1)}T12:00:00Z`);
      expect(await told(db, "streak.")).toEqual(["started ada"]);
      // Tomorrow is missed: a freeze. So is the day after, whose end loses the streak; the third midnight earns a freeze.
      await upkeepStreaks(db, `${day(2)}T12:00:00Z`);
      await upkeepStreaks(db, `${day(2)}T12:00:00Z`);
      await upkeepStreaks(db, `${day(3)}T12:00:00Z`);
      expect(await bodies(db, "streak.")).toMatchObject([
        { type: "streak.started" },
        { type: "streak.freeze_consumed", user: { id: "ada" }, consumed: 1, freezes: 0 },
        { type: "streak.lost", length: 1 },
        { type: "streak.freeze_earned", earned: 1, freezes: 1 },
      ]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("that a change of the user or of the settings finds lost are told as well", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await insertEvents(db, ["ada", "bob"].map((user) => ({ metric: metric.key, user, at: hoursAhead(-24 * 5) })));
      await db.query("update laurel_private.streak_runs set is_over = false");
      await db.query("update laurel_private.user_streaks set length = 1, settled_on = $1, due_at = now()", [day(-5)]);
      await anEndpoint(db);
      await db.query(`select laurel.identify_user('ada', '{"tz": "Europe/Paris"}')`);
      expect(await told(db, "streak.")).toEqual(["lost ada"]);
      await db.query(`select laurel.update_streak_settings('{"frequency": "weekly"}')`);
      expect(await told(db, "streak.")).toEqual(["lost ada", "lost bob"]);
    });
  });

  test("are told of with their cause or not at all, and only what somebody wants", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await anEndpoint(db, { types: ["streak.extended"] });
      await db.query("savepoint before");
      await record(db, { metric: metric.key, user: "ada" });
      expect(await told(db, "streak.")).toEqual([]);
      await db.query("rollback to savepoint before");
      await record(db, { metric: metric.key, user: "ada", at: hoursAhead(-24), profile: { tz: "UTC" } });
      await record(db, { metric: metric.key, user: "ada" });
      expect(await told(db, "streak.")).toEqual(["extended ada"]);
    });
  });
});

describe("leaderboards", () => {
  test("are told as runs start, places change and runs become final", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await anEndpoint(db);
      await aLeaderboard(db, { metric, daily: true });
      for (const [user, value] of [["ada", 5], ["bob", 3]] as const) await record(db, { metric: metric.key, user, value, profile: { tz: "UTC", name: user.toUpperCase() } });
      await upkeepLeaderboards(db, hoursAhead(0));
      const before = await told(db, "leaderboard.");
      expect(before.filter((line) => line !== "started null")).toEqual(["rank_changed ada", "rank_changed bob", "changed null"]);
      await record(db, { metric: metric.key, user: "bob", value: 9 });
      await upkeepLeaderboards(db, hoursAhead(0.1));
      expect(await told(db, "leaderboard.")).toEqual(before);
      await upkeepLeaderboards(db, hoursAhead(0.3));
      expect((await bodies(db, "leaderboard.")).slice(before.length)).toMatchObject([
        { type: "leaderboard.rank_changed", user: { id: "bob", name: "BOB" }, leaderboard: { key: "top", start: day(0), end: day(0), rank: 1, value: 12, previousRank: 2, previousValue: 3 } },
        { type: "leaderboard.rank_changed", user: { id: "ada" }, leaderboard: { rank: 2, value: 5, previousRank: 1, previousValue: 5 } },
        { type: "leaderboard.changed", leaderboard: { status: "active", start: day(0), rankings: [
          { userId: "bob", userName: "BOB", rank: 1, value: 12 }, { userId: "ada", userName: "ADA", rank: 2, value: 5 }] } },
      ]);
      await upkeepLeaderboards(db, `${day(1)}T12:00:00Z`);
      const finished = (await messages(db, "leaderboard.finished")).map(({ payload }) => payload);
      expect(finished).toMatchObject([{ leaderboard: { status: "finished", start: day(0), end: day(0), rankings: [{ userId: "bob" }, { userId: "ada" }] } }]);
      // Once.
      await upkeepLeaderboards(db, `${day(1)}T13:00:00Z`);
      expect(await messages(db, "leaderboard.finished")).toHaveLength(1);
    });
  });

  test("whoever falls off is told so, without a rank", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await anEndpoint(db, { types: ["leaderboard.rank_changed"] });
      await aLeaderboard(db, { metric });
      await db.query("update laurel.leaderboards set max_participants = 1");
      await record(db, { metric: metric.key, user: "ada", value: 5 });
      await upkeepLeaderboards(db, hoursAhead(0));
      await record(db, { metric: metric.key, user: "bob", value: 6 });
      await upkeepLeaderboards(db, hoursAhead(1));
      expect((await bodies(db, "leaderboard.")).slice(1)).toMatchObject([
        { user: { id: "bob" }, leaderboard: { rank: 1, value: 6, previousRank: null, previousValue: null } },
        { user: { id: "ada" }, leaderboard: { rank: null, value: null, previousRank: 1, previousValue: 5 } },
      ]);
    });
  });

  test("with groups say whose ranking is which", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await db.query("insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user')");
      await anEndpoint(db, { types: ["leaderboard.changed"] });
      await aLeaderboard(db, { metric, breakdown: ["plan"] });
      for (const [user, value, plan] of [["ada", 5, "pro"], ["bob", 3, "pro"], ["eve", 1, "free"]] as const) {
        await record(db, { metric: metric.key, user, value, profile: { attributes: { plan } } });
      }
      await upkeepLeaderboards(db, hoursAhead(0));
      expect((await bodies(db, "leaderboard."))[0]?.["leaderboard"]).toMatchObject({ rankings: [
        { userId: "ada", rank: 1, breakdownAttributeValues: [{ key: "plan", value: "pro" }] },
        { userId: "eve", rank: 1, breakdownAttributeValues: [{ key: "plan", value: "free" }] },
        { userId: "bob", rank: 2, breakdownAttributeValues: [{ key: "plan", value: "pro" }] },
      ] });
    });
  });
});

const reference = readReference();
(reference === undefined ? describe.skip : describe)(`payloads are as the contract has them (${referenceDirectory})`, () => {
  test("those of all 14 types, each brought about by what it tells", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { key: "xp", max_points: 1000 });
      await aTrigger(db, { system, metric, points: 10 });
      await aLevel(db, { system, key: "bronze", points: 20 });
      const achievement = await anAchievement(db, { key: "many", metric, metric_value: 3 });
      await aTrigger(db, { system, type: "achievement", achievement_id: achievement.id, points: 100 });
      await aTrigger(db, { system, type: "user_creation", points: 5 });
      await db.query(`select laurel.update_streak_settings('{"freezes": {"startCount": 1, "maxCount": 2, "autoEarnInterval": 4, "autoEarnAmount": 1}}')`);
      await aLeaderboard(db, { metric, daily: true });
      await anEndpoint(db);
      await aBoost(db, { system, starts_on: day(0), ends_on: day(0) });
      await aBoost(db, { system, starts_on: day(-1), ends_on: null });
      await record(db, { metric: metric.key, user: "ada", at: hoursAhead(-24), profile: { name: "Ada \"A\"", email: "ada@example.com", tz: "Europe/Paris" } });
      await record(db, { metric: metric.key, user: "ada", value: 5 });
      await record(db, { metric: metric.key, user: "bob", value: 7.5 });
      await db.query("select laurel.adjust_points('xp', 'ada', -150, 'A correction')");
      await db.query("select laurel_private.announce_points_changes($1)", [hoursAhead(1)]);
      await announceBoosts(db, hoursAhead(24 * 5));
      await upkeepLeaderboards(db, hoursAhead(0));
      await upkeepLeaderboards(db, hoursAhead(24 * 3));
      await upkeepStreaks(db, hoursAhead(24 * 9));
      const written = await messages(db);
      expect([...new Set(written.map(({ event_type }) => event_type))].sort()).toEqual([...webhookTypes].sort());
      for (const { event_type, payload } of written) {
        expect([event_type, payload["type"], reference?.faultsOfWebhook(event_type, payload)]).toEqual([event_type, event_type, []]);
      }
    });
  });

  test("those that a receiver is tried with", async () => {
    await withRollback(async (db) => {
      for (const type of webhookTypes) {
        const found = await db.query<{ payload: unknown }>("select laurel_private.sample_webhook_payload($1) as payload", [type]);
        expect([type, reference?.faultsOfWebhook(type, first(found.rows).payload)]).toEqual([type, []]);
      }
    });
  });
});
