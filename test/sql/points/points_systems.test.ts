import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, insertEvents, ledger, metricTotals, record, refusal, steps, total, waysIn } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, aSystem, aTenant, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { lr, violates } from "../../support/refusals.ts";

/** Rules P1, P2, RP5 and T1 of points systems. */

async function aPurse(db: Database, maxPoints: number | null) {
  const [earn, spend] = [await aMetric(db), await aMetric(db)];
  const system = await aSystem(db, { max_points: maxPoints });
  await aTrigger(db, { system, metric: earn, points: 1 });
  await aTrigger(db, { system, metric: spend, points: -1 });
  return { earn: earn.key, spend: spend.key, system };
}

describe("max points (P1, P2)", () => {
  test.each([[1, true], [2147483647, true], [0, false], [-1, false]])("may be %d: %s", async (maxPoints, allowed) => {
    await withRollback(async (db) => {
      const create = () => aSystem(db, { max_points: maxPoints });
      if (allowed) expect((await create()).max_points).toBe(maxPoints);
      else expect(await refusal(db, create)).toEqual(violates("max_points_is_at_least_1"));
    });
  });

  test("are a 32-bit integer", async () => {
    await withRollback(async (db) => {
      expect((await refusal(db, () => aSystem(db, { max_points: 2147483648 }))).code).toBe("22003");
    });
  });

  test.each(waysIn)("are reached, never passed, and nothing is written beyond them, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const { earn, system } = await aPurse(db, 10);
      await give(db, [9, 1, 1, 100].map((value) => ({ metric: earn, user: "ada", value })));
      expect(await steps(db, "ada", system)).toEqual(["0 +9 9", "9 +1 10"]);
      await give(db, [{ metric: earn, user: "bob", value: 11 }]);
      expect(await steps(db, "bob", system)).toEqual(["0 +10 10"]);
      const [row] = await ledger(db, "bob");
      expect([row?.base_points, row?.rounded_points, row?.max_points, row?.points]).toEqual(["11", "11", 10, "10"]);
    });
  });

  test.each(waysIn)("when lowered leave totals as they are and add nothing until below, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const { earn, spend, system } = await aPurse(db, 100);
      await give(db, [{ metric: earn, user: "ada", value: 80 }]);
      await db.query("update laurel.points_systems set max_points = 50 where id = $1", [system.id]);
      expect(await total(db, "ada", system)).toBe("80");
      await give(db, [
        { metric: earn, user: "ada", value: 5 }, // above the cap: neither added nor cut
        { metric: spend, user: "ada", value: 20 }, // 60
        { metric: earn, user: "ada", value: 5 }, // still above
        { metric: spend, user: "ada", value: 10 }, // 50
        { metric: earn, user: "ada", value: 5 }, // at the cap
        { metric: spend, user: "ada", value: 3 }, // 47
        { metric: earn, user: "ada", value: 5 }, // 50
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +80 80", "80 -20 60", "60 -10 50", "50 -3 47", "47 +3 50"]);
    });
  });

  test("when raised or removed let points flow again", async () => {
    await withRollback(async (db) => {
      const { earn, system } = await aPurse(db, 10);
      await record(db, { metric: earn, user: "ada", value: 20 });
      await db.query("update laurel.points_systems set max_points = 12 where id = $1", [system.id]);
      await record(db, { metric: earn, user: "ada", value: 20 });
      await db.query("update laurel.points_systems set max_points = null where id = $1", [system.id]);
      await record(db, { metric: earn, user: "ada", value: 20 });
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 +2 12", "12 +20 32"]);
      expect((await ledger(db, "ada")).map((row) => row.max_points)).toEqual([10, 12, null]);
    });
  });
});

describe("a total", () => {
  test("is at most 2^53 - 1 without max points (P2)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      for (const value of ["9007199254740", "990000000000000"]) await record(db, { metric: metric.key, user: "ada", value });
      // 990000000000000 + 9007199254740 = 999007199254740; eight more of 999999999999999 = 8999007199254732
      for (let n = 0; n < 8; n++) await record(db, { metric: metric.key, user: "ada", value: "999999999999999" });
      expect(await total(db, "ada", system)).toBe("8999007199254732");
      // 9007199254740991 - 8999007199254732 = 8192055486259
      expect((await record(db, { metric: metric.key, user: "ada", value: "8192055486258" })).points[system.key]?.total).toBe(
        9007199254740990,
      );
      await record(db, { metric: metric.key, user: "ada", value: "1" });
      const response = await record(db, { metric: metric.key, user: "ada", value: "1" });
      expect(response.points).toEqual({});
      expect(await total(db, "ada", system)).toBe("9007199254740991");
    });
  });

  test.each(waysIn)("never falls below 0, by %s (P2)", async (_, give) => {
    await withRollback(async (db) => {
      const { earn, spend, system } = await aPurse(db, null);
      await give(db, [
        { metric: spend, user: "ada", value: 5 },
        { metric: earn, user: "ada", value: 3 },
        { metric: spend, user: "ada", value: 3 },
        { metric: spend, user: "ada", value: 1 },
        { metric: earn, user: "ada", value: 4 },
        { metric: spend, user: "ada", value: 100 },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +3 3", "3 -3 0", "0 +4 4", "4 -4 0"]);
      expect((await ledger(db, "ada")).map((row) => row.rounded_points)).toEqual(["3", "-3", "4", "-100"]);
    });
  });
});

describe("keys (P1)", () => {
  test.each(["a", "A-b_9", "x".repeat(255), "0", "_", "-"])("%s is a key", async (key) => {
    await withRollback(async (db) => {
      expect((await aSystem(db, { key })).key).toBe(key);
      expect((await aMetric(db, { key })).key).toBe(key); // E1
    });
  });

  test.each(["", "a b", "a.b", "é", "a/b", "x".repeat(256), "a\n", "ａ"])("%j is none", async (key) => {
    await withRollback(async (db) => {
      expect((await refusal(db, () => aSystem(db, { key }))).code).toBe("23514");
      expect((await refusal(db, () => aMetric(db, { key }))).code).toBe("23514");
    });
  });

  test("are unique among active systems, and among metrics in use", async () => {
    await withRollback(async (db) => {
      await aSystem(db, { key: "xp" });
      await aMetric(db, { key: "words" });
      expect(await refusal(db, () => aSystem(db, { key: "xp" }))).toEqual(violates("points_system_keys_are_unique"));
      expect(await refusal(db, () => aMetric(db, { key: "words" }))).toEqual(violates("metric_keys_are_unique"));
    });
  });
});

describe("archiving (RP5)", () => {
  test.each(waysIn)("a metric refuses its events; its key begins anew, idempotency keys included, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const old = await aMetric(db, { key: "words" });
      const trigger = await aTrigger(db, { system, metric: old, points: 1 });
      await give(db, [{ metric: "words", user: "ada", value: 5, key: "k" }]);
      await db.query("update laurel.points_triggers set status = 'inactive' where id = $1", [trigger.id]);
      await db.query("update laurel.metrics set archived_at = now() where id = $1", [old.id]);
      expect(await refusal(db, () => give(db, [{ metric: "words", user: "ada" }]))).toEqual(lr("LR003", "words"));
      const reused = await aMetric(db, { key: "words" });
      await give(db, [{ metric: "words", user: "ada", value: 2, key: "k" }]);
      expect(await metricTotals(db, "ada", reused)).toEqual({ total: "2", peak: "2" });
      expect(await metricTotals(db, "ada", old)).toEqual({ total: "5", peak: "5" });
      // The trigger was on the archived metric: nothing more is awarded.
      expect(await steps(db, "ada", system)).toEqual(["0 +5 5"]);
    });
  });

  test("a system awards nothing more and keeps its rows; its key begins anew at 0", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const old = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system: old, metric, points: 5 });
      await record(db, { metric: metric.key, user: "ada" });
      await db.query("update laurel.points_systems set archived_at = now() where id = $1", [old.id]);
      expect((await record(db, { metric: metric.key, user: "ada" })).points).toEqual({});
      const reused = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system: reused, metric, points: 7 });
      const response = await record(db, { metric: metric.key, user: "ada" });
      expect(response.points["xp"]).toMatchObject({ id: reused.id, total: 7, added: 7 });
      expect(await steps(db, "ada", old)).toEqual(["0 +5 5"]);
      expect(await steps(db, "ada", reused)).toEqual(["0 +7 7"]);
    });
  });
});

describe("tenants (T1)", () => {
  test.each(waysIn)("share keys and user IDs, and nothing else, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const seen: unknown[] = [];
      for (const [customer, points] of [["default", 1], [await aTenant(db), 100]] as const) {
        await actFor(db, customer);
        const metric = await aMetric(db, { key: "words" });
        const system = await aSystem(db, { key: "xp" });
        await aTrigger(db, { system, metric, points });
        await aTrigger(db, { system, type: "user_creation", points: points * 3 });
        await aBoost(db, { system, multiplier: points === 1 ? 2 : 5 });
        await give(db, [
          { metric: "words", user: "ada", key: "k" },
          { metric: "words", user: "ada", key: "k" },
          { metric: "words", user: "ada" },
        ]);
        seen.push(await steps(db, "ada", system), await metricTotals(db, "ada", metric));
      }
      expect(seen).toEqual([
        ["0 +6 6", "6 +2 8", "8 +2 10"],
        { total: "2", peak: "2" },
        ["0 +1500 1500", "1500 +500 2000", "2000 +500 2500"],
        { total: "2", peak: "2" },
      ]);
    });
  });

  test("an unknown tenant is refused, whatever is called", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await actFor(db, "nobody");
      expect(await refusal(db, () => record(db, { metric: metric.key, user: "ada" }))).toEqual(lr("LR001", "nobody"));
      expect(await refusal(db, () => insertEvents(db, [{ metric: metric.key, user: "ada" }]))).toEqual(
        lr("LR001", "nobody"),
      );
      // Of a table with rows: a policy is not asked about none.
      expect(await refusal(db, () => as(db, "laurel_service", () => db.query("select from laurel.metrics")))).toEqual(
        lr("LR001", "nobody"),
      );
    });
  });

  test("an admin cannot point its configuration at another tenant's", async () => {
    await withRollback(async (db) => {
      const [metric, system] = [await aMetric(db), await aSystem(db)];
      const user = await aUser(db);
      await actFor(db, await aTenant(db));
      const own = await aSystem(db);
      await db.query("set local role laurel_admin");
      expect(await refusal(db, () => aTrigger(db, { system: own, metric }))).toEqual(
        violates("trigger_metric_is_of_the_same_tenant"),
      );
      expect(await refusal(db, () => aLevel(db, { system }))).toEqual(violates("level_system_is_of_the_same_tenant"));
      expect(await refusal(db, () => aBoost(db, { system }))).toEqual(violates("boost_system_is_of_the_same_tenant"));
      expect(await refusal(db, () => aBoost(db, { system: own, user_id: user.id }))).toEqual(violates("boost_user_exists"));
    });
  });

  test.each(["laurel_admin", "laurel_service"] as const)("%s sees its own tenant's rows only", async (role) => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric });
      await aBoost(db, { system });
      await aLevel(db, { system });
      await record(db, { metric: metric.key, user: "ada" });
      const tables = [
        "tenants",
        "users",
        "metrics",
        "metric_events",
        "user_metrics",
        "points_systems",
        "points_triggers",
        "points_boosts",
        "points_levels",
        "points_awards",
        "points_balances",
      ];
      const counts = async () =>
        as(db, role, async () => {
          const found: number[] = [];
          for (const table of tables) found.push((await db.query(`select from laurel.${table}`)).rowCount ?? -1);
          return found;
        });
      expect(await counts()).toEqual(tables.map(() => 1));
      await actFor(db, await aTenant(db));
      expect(await counts()).toEqual(tables.map((table) => (table === "tenants" ? 1 : 0)));
      const refused = await refusal(db, () => as(db, role, () => record(db, { metric: metric.key, user: "ada" })));
      expect(refused).toEqual(lr("LR003", metric.key));
    });
  });

  test("a user sees its own rows and acts for itself only", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric });
      for (const user of ["ada", "bob"]) await record(db, { metric: metric.key, user });
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      await db.query("set local role laurel_user");
      for (const table of ["users", "metric_events", "user_metrics", "points_awards", "points_balances"])
        expect((await db.query(`select from laurel.${table}`)).rowCount).toBe(1);
      expect((await record(db, { metric: metric.key, user: "ada" })).total).toBe(2);
      expect(await refusal(db, () => record(db, { metric: metric.key, user: "bob" }))).toEqual(lr("LR041"));
      expect((await refusal(db, () => insertEvents(db, [{ metric: metric.key, user: "ada" }]))).code).toBe("42501");
    });
  });
});
