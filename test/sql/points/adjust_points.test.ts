import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { as, first, ledger, record, refusal, steps, total, verify } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rule Q3: manual ledger rows. */

interface Points {
  key: string;
  total: number;
  level: { key: string } | null;
  awards: { awarded: number; total: number }[];
}

async function adjust(
  db: Database,
  system: { key: string },
  user: string | null,
  points: number | string | null,
  reason: string | null = "By hand",
  key?: string | null,
): Promise<Points> {
  const found = await db.query<{ points: Points }>("select laurel.adjust_points($1, $2, $3, $4, $5) as points", [
    system.key,
    user,
    points,
    reason,
    key ?? null,
  ]);
  return first(found.rows).points;
}

describe("adjust_points()", () => {
  test("writes a ledger row that says why, and answers with the user's points", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db, { key: "xp" });
      await aLevel(db, { system, key: "low", points: 0 });
      await aLevel(db, { system, key: "high", points: 10 });
      await aUser(db, { id: "ada" });
      expect(await adjust(db, system, "ada", 12, "A present")).toMatchObject({
        key: "xp",
        total: 12,
        level: { key: "high" },
        awards: [{ awarded: 12, total: 12 }],
      });
      expect(await adjust(db, system, "ada", -5)).toMatchObject({
        total: 7,
        level: { key: "low" },
        awards: [
          { awarded: -5, total: 7 },
          { awarded: 12, total: 12 },
        ],
      });
      const [row] = await ledger(db, "ada");
      expect(row).toMatchObject({
        cause: "adjustment",
        reason: "A present",
        trigger_id: null,
        event_id: null,
        base_points: "12",
        boosts: null,
        points: "12",
      });
    });
  });

  test("is not boosted", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await aBoost(db, { system, multiplier: 3 });
      await aBoost(db, { system, multiplier: 3, user_id: "ada" });
      await adjust(db, system, "ada", 10);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10"]);
    });
  });

  test("is capped and floored", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db, { max_points: 15 });
      await aUser(db, { id: "ada" });
      for (const points of [10, 10, 10, -4, -100, -1, 3]) await adjust(db, system, "ada", points);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 +5 15", "15 -4 11", "11 -11 0", "0 +3 3"]);
      await db.query("update laurel.points_systems set max_points = 2");
      await adjust(db, system, "ada", 5);
      expect(await total(db, "ada", system)).toBe("3");
    });
  });

  test.each([["2147483647", "2147483647"], ["-2147483648", "0"]])("takes the 32-bit integer %s", async (points, after) => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await adjust(db, system, "ada", points);
      expect((await total(db, "ada", system)) ?? "0").toBe(after);
    });
  });

  test("stops at 2^53 - 1", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1000 });
      // 1000 x 9007199254740 = 9007199254740000
      await record(db, { metric: metric.key, user: "ada", value: "9007199254740" });
      await adjust(db, system, "ada", 990);
      expect((await adjust(db, system, "ada", 2)).total).toBe(Number.MAX_SAFE_INTEGER);
      expect((await adjust(db, system, "ada", 2)).total).toBe(Number.MAX_SAFE_INTEGER);
      expect(await steps(db, "ada", system)).toEqual([
        "0 +9007199254740000 9007199254740000",
        "9007199254740000 +990 9007199254740990",
        "9007199254740990 +1 9007199254740991",
      ]);
    });
  });

  test("counts a key once per user and system, whatever else is given", async () => {
    await withRollback(async (db) => {
      const [system, other] = [await aSystem(db), await aSystem(db)];
      for (const id of ["ada", "bob"]) await aUser(db, { id });
      await adjust(db, system, "ada", 10, "one", "k");
      expect((await adjust(db, system, "ada", 99, "two", "k")).total).toBe(10);
      await adjust(db, other, "ada", 20, "three", "k");
      await adjust(db, system, "bob", 30, "four", "k");
      await adjust(db, system, "ada", 40, "five", "K");
      await adjust(db, system, "ada", 50);
      await adjust(db, system, "ada", 50);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 +40 50", "50 +50 100", "100 +50 150"]);
      expect(await steps(db, "ada", other)).toEqual(["0 +20 20"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +30 30"]);
    });
  });

  test("a key whose adjustment changed nothing is used up all the same", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await adjust(db, system, "ada", -10, "nothing to take", "k");
      await adjust(db, system, "ada", 5);
      expect((await adjust(db, system, "ada", -10, "again", "k")).total).toBe(5);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("keys of events and of adjustments do not meet", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await record(db, { metric: metric.key, user: "ada", key: "k" });
      await adjust(db, system, "ada", 10, "r", "k");
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +10 11"]);
    });
  });

  test("refuses unknown users and systems, and stores nothing", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      expect(await refusal(db, () => adjust(db, system, "nobody", 1))).toEqual(lr("LR002", "nobody"));
      expect(await refusal(db, () => adjust(db, system, null, 1))).toEqual(lr("LR002"));
      expect((await db.query("select from laurel.users")).rowCount).toBe(0);
      await aUser(db, { id: "ada" });
      expect(await refusal(db, () => adjust(db, { key: "nonsuch" }, "ada", 1))).toEqual(lr("LR004", "nonsuch"));
      await db.query("update laurel.points_systems set archived_at = now()");
      expect(await refusal(db, () => adjust(db, system, "ada", 1))).toEqual(lr("LR004", system.key));
      expect(await ledger(db, "ada")).toEqual([]);
    });
  });

  test("refuses wrong keys and missing points, in words", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await adjust(db, system, "ada", 1, "r", "x".repeat(255));
      expect(await refusal(db, () => adjust(db, system, "ada", 1, "r", "x".repeat(256)))).toEqual(lr("LR014"));
      expect(await refusal(db, () => adjust(db, system, "ada", 1, "r", ""))).toEqual(lr("LR014"));
      expect(await refusal(db, () => adjust(db, system, "ada", null))).toEqual(lr("LR018"));
      expect(await refusal(db, () => adjust(db, system, "ada", 1, ""))).toEqual(lr("LR019"));
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
    });
  });

  test("is for admins and services, not for users", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await aUser(db, { id: "ada" });
      await as(db, "laurel_service", () => adjust(db, system, "ada", 1));
      await as(db, "laurel_admin", () => adjust(db, system, "ada", 1));
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      expect((await refusal(db, () => as(db, "laurel_user", () => adjust(db, system, "ada", 1)))).code).toBe("42501");
    });
  });
});
