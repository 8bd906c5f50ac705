import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { record, refusal } from "../../support/engine.ts";
import { aLevel, aMetric, aSystem, aTrigger, type Database } from "../../support/factories.ts";
import { violates } from "../../support/refusals.ts";

/** Rules L1 to L3. */

async function aLadder(db: Database, thresholds: Record<string, number>, maxPoints: number | null = null) {
  const [up, down, both] = [await aMetric(db), await aMetric(db), await aMetric(db)];
  const system = await aSystem(db, { max_points: maxPoints });
  await aTrigger(db, { system, metric: up, points: 1 });
  await aTrigger(db, { system, metric: down, points: -1 });
  await aTrigger(db, { system, metric: both, points: 100 });
  await aTrigger(db, { system, metric: both, points: -100 });
  for (const [key, points] of Object.entries(thresholds)) await aLevel(db, { system, key, points });
  /** The level that the response tells: its key, null when below all, "unchanged" when absent. */
  const told = async (metric: { key: string }, value: number): Promise<string | null> => {
    const response = await record(db, { metric: metric.key, user: "ada", value });
    const entry = response.points[system.key];
    if (entry === undefined) return "no entry";
    return "level" in entry ? (entry.level?.key ?? null) : "unchanged";
  };
  const stored = async (): Promise<string | null> => {
    const found = await db.query<{ level: string | null }>("select level from laurel.points_balances");
    return found.rows[0]?.level ?? null;
  };
  return { up: (n: number) => told(up, n), down: (n: number) => told(down, n), both: () => told(both, 1), stored, system };
}

describe("a level (L1)", () => {
  test.each([[0, true], [2147483647, true], [-1, false]])("may have the threshold %d: %s", async (points, allowed) => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const create = () => aLevel(db, { system, points });
      if (allowed) expect((await create()).points).toBe(points);
      else expect(await refusal(db, create)).toEqual(violates("level_points_are_at_least_0"));
    });
  });

  test("has a key and a threshold of its own in its system", async () => {
    await withRollback(async (db) => {
      const [system, other] = [await aSystem(db), await aSystem(db)];
      await aLevel(db, { system, key: "gold", points: 10 });
      await aLevel(db, { system: other, key: "gold", points: 10 });
      expect(await refusal(db, () => aLevel(db, { system, key: "gold", points: 11 }))).toEqual(
        violates("level_keys_are_unique_in_their_system"),
      );
      expect(await refusal(db, () => aLevel(db, { system, key: "silver", points: 10 }))).toEqual(
        violates("level_points_are_unique_in_their_system"),
      );
    });
  });

  test("is reached at its threshold, not one point before", async () => {
    await withRollback(async (db) => {
      const { up, down, stored } = await aLadder(db, { bronze: 10, silver: 20 });
      expect([await up(9), await stored()]).toEqual(["unchanged", null]);
      expect([await up(1), await stored()]).toEqual(["bronze", "bronze"]);
      expect([await up(9), await stored()]).toEqual(["unchanged", "bronze"]);
      expect([await up(1), await stored()]).toEqual(["silver", "silver"]);
      expect([await up(1000), await stored()]).toEqual(["unchanged", "silver"]);
      expect([await down(1000), await stored()]).toEqual(["unchanged", "silver"]); // 1020 - 1000 = 20
      expect([await down(1), await stored()]).toEqual(["bronze", "bronze"]);
      expect([await down(10), await stored()]).toEqual([null, null]);
      expect(await down(3)).toBe("unchanged");
    });
  });
});

describe("the level field of a response (L2, L3)", () => {
  test("tells the level reached over several at once", async () => {
    await withRollback(async (db) => {
      const { up, down } = await aLadder(db, { c: 30, a: 10, b: 20 });
      expect(await up(30)).toBe("c");
      expect(await down(15)).toBe("a");
    });
  });

  test("tells the level of 0 at the first ledger row, since before it there was none", async () => {
    await withRollback(async (db) => {
      const { up } = await aLadder(db, { start: 0, next: 10 });
      expect(await up(1)).toBe("start");
      expect(await up(1)).toBe("unchanged");
    });
  });

  test("tells nothing at the first ledger row when that is below all levels", async () => {
    await withRollback(async (db) => {
      expect(await (await aLadder(db, { only: 10 })).up(1)).toBe("unchanged");
    });
  });

  test("tells nothing when one event goes up and back", async () => {
    await withRollback(async (db) => {
      const { up, both } = await aLadder(db, { low: 5, high: 50 });
      await up(10);
      expect(await both()).toBe("unchanged");
    });
  });

  test("has no system at all when nothing was added", async () => {
    await withRollback(async (db) => {
      const { up, down } = await aLadder(db, { low: 0 }, 10);
      expect(await down(1)).toBe("no entry");
      expect(await up(10)).toBe("low");
      expect(await up(10)).toBe("no entry");
    });
  });

  test("editing levels re-levels everybody for reads, and is not told by the next event (L2)", async () => {
    await withRollback(async (db) => {
      const { up, stored, system } = await aLadder(db, { low: 5 });
      await up(30);
      await aLevel(db, { system, key: "high", points: 25 });
      expect(await stored()).toBe("high");
      expect(await up(1)).toBe("unchanged");
      await db.query("update laurel.points_levels set points = 100 where key = 'high'");
      expect(await stored()).toBe("low");
      expect(await up(1)).toBe("unchanged");
      await db.query("delete from laurel.points_levels where key = 'low'");
      expect(await stored()).toBeNull();
      expect(await up(68)).toBe("high"); // 32 + 68 = 100
    });
  });

  test("swapping two thresholds in one statement is allowed", async () => {
    await withRollback(async (db) => {
      const { up, stored } = await aLadder(db, { a: 5, b: 10 });
      await up(7);
      await db.query("update laurel.points_levels set points = 15 - points");
      expect(await stored()).toBe("b");
    });
  });
});
