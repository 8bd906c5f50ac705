import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { as, first, insertEvents, ledger, record, refusal } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules RP4, RP5, L2, Q5 and Q6: reading points. */

async function asOf(db: Database, system: { key: string }, user: string, at: string): Promise<string> {
  const found = await db.query<{ total: string }>("select laurel.balance_as_of($1, $2, $3) as total", [
    system.key,
    user,
    at,
  ]);
  return first(found.rows).total;
}

async function userPoints(db: Database, system: { key: string }, user: string, awards?: number) {
  type Points = { total: number; level: { key: string } | null; awards: { awarded: number; total: number; date: string }[] };
  const found = await db.query<{ points: Points }>(
    awards === undefined
      ? "select laurel.user_points($1, $2) as points"
      : `select laurel.user_points($1, $2, ${awards}) as points`,
    [system.key, user],
  );
  return first(found.rows).points;
}

describe("balance_as_of() (Q6, RP4)", () => {
  test("sums the ledger rows dated up to the moment, that moment included", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await insertEvents(db, [
        { metric: metric.key, user: "ada", value: 1, at: "2024-01-01T00:00:00Z" },
        { metric: metric.key, user: "ada", value: 10, at: "2024-01-03T00:00:00Z" },
        { metric: metric.key, user: "ada", value: 100, at: "2024-01-02T00:00:00Z" }, // late
        { metric: metric.key, user: "bob", value: 1000, at: "2024-01-01T00:00:00Z" },
      ]);
      const found = [];
      for (const at of [
        "2023-12-31T23:59:59.999999Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T23:59:59.999999Z",
        "2024-01-02T00:00:00Z",
        "2024-01-03T01:00:00+02:00", // the 2nd, 23:00 UTC
        "2024-01-03T00:00:00Z",
        "infinity",
        "-infinity",
      ])
        found.push(await asOf(db, system, "ada", at));
      expect(found).toEqual(["0", "1", "1", "101", "101", "111", "111", "0"]);
    });
  });

  test("is 0 for a user without points, refuses unknown users and systems", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      expect(await asOf(db, system, "ada", "2024-01-01")).toBe("0");
      expect(await refusal(db, () => asOf(db, system, "bob", "2024-01-01"))).toEqual(lr("LR002", "bob"));
      expect(await refusal(db, () => asOf(db, { key: "nope" }, "ada", "2024-01-01"))).toEqual(lr("LR004", "nope"));
    });
  });
});

describe("user_points()", () => {
  test("shows the level that a total of 0 earns before the first row (L2)", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      expect(await userPoints(db, system, "ada")).toMatchObject({ total: 0, level: null, awards: [] });
      await aLevel(db, { system, key: "one", points: 1 });
      expect((await userPoints(db, system, "ada")).level).toBeNull();
      await aLevel(db, { system, key: "zero", points: 0 });
      expect((await userPoints(db, system, "ada")).level?.key).toBe("zero");
    });
  });

  test("lists every ledger row, latest sequence first, whatever the dates (RP4)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await record(db, { metric: metric.key, user: "ada", value: 3, at: "2024-01-03T00:00:00Z" });
      await record(db, { metric: metric.key, user: "ada", value: 5, at: "2024-01-01T00:00:00Z" });
      await db.query("select laurel.adjust_points($1, 'ada', -2, 'r')", [system.key]);
      const points = await userPoints(db, system, "ada");
      expect(points.awards.map((award) => [award.awarded, award.total])).toEqual([
        [-2, 6],
        [5, 8],
        [3, 3],
      ]);
      expect(points.awards.slice(1).map((award) => award.date)).toEqual([
        "2024-01-01T00:00:00.000Z",
        "2024-01-03T00:00:00.000Z",
      ]);
      expect((await userPoints(db, system, "ada", 1)).awards.map((award) => award.awarded)).toEqual([-2]);
      expect((await userPoints(db, system, "ada", 0)).awards).toEqual([]);
    });
  });

  test("finds awards in every partition, also when those of a page were written months apart", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await insertEvents(db, [1, 2, 3, 4, 5, 6].map((value) => ({ metric: metric.key, user: "ada", value })));
      // The one update that the ledger's trigger lets nobody do: older IDs, as awards of long ago have.
      await db.query("set local session_replication_role = replica");
      await db.query(
        `update laurel.points_awards set id = laurel_private.first_uuid_v7(now() + make_interval(days => case sequence when 1 then -400 when 2 then -399 when 3 then -41 when 6 then 3 else -1 end))`,
      );
      await db.query("set local session_replication_role = origin");
      const awarded = async (most: number) => (await userPoints(db, system, "ada", most)).awards.map((award) => award.awarded);
      expect([await awarded(10), await awarded(4), await awarded(2), await awarded(1)]).toEqual([
        [6, 5, 4, 3, 2, 1],
        [6, 5, 4, 3],
        [6, 5],
        [6],
      ]);
    });
  });

  test("refuses unknown users and archived or unknown systems (RP5)", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      expect(await refusal(db, () => userPoints(db, system, "bob"))).toEqual(lr("LR002", "bob"));
      await db.query("update laurel.points_systems set archived_at = now()");
      expect(await refusal(db, () => userPoints(db, system, "ada"))).toEqual(lr("LR004", system.key));
    });
  });
});

describe("explain_award() (Q5)", () => {
  async function explain(db: Database, id: string | undefined): Promise<Record<string, unknown> & { sentence: string }> {
    const found = await db.query<{ why: Record<string, unknown> & { sentence: string } }>(
      "select laurel.explain_award($1) as why",
      [id],
    );
    return first(found.rows).why;
  }

  test("tells trigger, base, boosts, product, rounding, cap, before and after, and says it", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db, { key: "xp", max_points: 30 });
      const trigger = await aTrigger(db, { system, metric, every: 2, points: 5 });
      await aBoost(db, { system, name: "Spring", multiplier: "1.5", rounding: "up" });
      await aBoost(db, { system, name: "Launch", multiplier: "1.1", rounding: "nearest" });
      await insertEvents(db, [
        { metric: "words", user: "ada", value: 7 }, // 3 x 5 = 15, x 1.65 = 24.75, 25
        { metric: "words", user: "ada", value: 2 }, // 5 x 1.65 = 8.25, 8; room for 5
      ]);
      const [one, two] = await ledger(db, "ada");
      // Edited since: the row alone explains itself (P3).
      await db.query("update laurel.points_triggers set points = 77");
      await db.query("update laurel.points_boosts set multiplier = 7, name = 'Autumn'");
      await db.query("update laurel.points_systems set max_points = 777");
      const why = await explain(db, two?.id);
      expect(why).toMatchObject({
        trigger: { id: trigger.id, points: 5, metricKey: "words", metricThreshold: 2 },
        firings: 1,
        basePoints: 5,
        boosts: [
          { name: "Spring", multiplier: 1.5 },
          { name: "Launch", multiplier: 1.1 },
        ],
        boostMultiplier: 1.65,
        rounding: "nearest",
        roundedPoints: 8,
        maxPoints: 30,
        points: 5,
        totalBefore: 25,
        totalAfter: 30,
      });
      for (const part of ["words", "Spring", "Launch", "1.65", "8.25", "nearest", "30", "25"])
        expect(why.sentence).toContain(part);
      expect(why.sentence).not.toMatch(/77|Autumn/);
      expect((await explain(db, one?.id)).sentence).not.toMatch(/cap/);
    });
  });

  test("tells the floor", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await aTrigger(db, { system, metric, points: -10 });
      await db.query("select laurel.adjust_points($1, 'ada', 4, 'A present')", [system.key]);
      await record(db, { metric: metric.key, user: "ada" });
      const [adjustment, deduction] = await ledger(db, "ada");
      const why = await explain(db, deduction?.id);
      expect(why).toMatchObject({ basePoints: -10, roundedPoints: -10, points: -4, totalBefore: 4, totalAfter: 0 });
      expect(why.sentence).toMatch(/floor/);
      expect((await explain(db, adjustment?.id)).sentence).toContain("A present");
    });
  });

  test("another user's or tenant's award is as unknown as none", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric });
      await record(db, { metric: metric.key, user: "ada" });
      const id = first(await ledger(db, "ada")).id;
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      await as(db, "laurel_user", () => explain(db, id));
      await db.query("select set_config('laurel.user_id', 'bob', true)");
      expect(await refusal(db, () => as(db, "laurel_user", () => explain(db, id)))).toEqual(lr("LR005", id));
      await db.query("select set_config('laurel.user_id', '', true)");
      await db.query("insert into laurel.tenants (customer_id, name) values ('t2', 'T')");
      await db.query("select set_config('laurel.tenant', 't2', true)");
      expect(await refusal(db, () => explain(db, id))).toEqual(lr("LR005", id));
    });
  });
});
