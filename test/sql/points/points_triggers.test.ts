import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { insertEvents, ledger, metricTotals, record, refusal, steps, total, waysIn } from "../../support/engine.ts";
import { aMetric, anAttribute, aSystem, aTrigger, aUser, type Database, type Trigger } from "../../support/factories.ts";
import { lr, violates } from "../../support/refusals.ts";

/** Rules TR1, TR2, TR6, TR7, TR8 and U5. */

async function setStatus(db: Database, trigger: Trigger, status: "active" | "inactive" | "archived"): Promise<void> {
  await db.query("update laurel.points_triggers set status = $2 where id = $1", [trigger.id, status]);
}

describe("a trigger (TR1)", () => {
  test("is created inactive unless asked otherwise", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const metric = await aMetric(db);
      const found = await db.query(
        `insert into laurel.points_triggers (system_id, type, points, metric_id, metric_threshold)
         values ($1, 'metric', 1, $2, 1) returning status`,
        [system.id, metric.id],
      );
      expect(found.rows).toEqual([{ status: "inactive" }]);
    });
  });

  test.each([
    ["2147483647", true],
    ["2147483648", false],
    ["-2147483648", true],
    ["-2147483649", false],
    ["1", true],
    ["-1", true],
    ["0", false],
  ])("may have %s points: %s (P2)", async (points, allowed) => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const metric = await aMetric(db);
      const create = () => aTrigger(db, { system, metric, points: points as unknown as number });
      if (allowed) expect((await create()).points).toBe(Number(points));
      else if (points === "0") expect(await refusal(db, create)).toEqual(violates("trigger_points_are_not_0"));
      else expect((await refusal(db, create)).code).toBe("22003");
    });
  });

  test.each([[1, true], [2147483647, true], [0, false], [-1, false]])("may have the threshold %s: %s", async (every, allowed) => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const metric = await aMetric(db);
      const create = () => aTrigger(db, { system, metric, every });
      if (allowed) await create();
      else expect(await refusal(db, create)).toEqual(violates("metric_threshold_is_at_least_1"));
    });
  });

  test("filters only on declared attributes, of events only when it is a metric trigger (U4)", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      await anAttribute(db, { key: "plan", type: "user" });
      await anAttribute(db, { key: "kind", type: "event" });
      await aTrigger(db, { system, user_attributes: { plan: "pro" }, event_attributes: { kind: "book" } });
      await aTrigger(db, { system, type: "user_creation", user_attributes: { plan: "pro" } });
      expect(await refusal(db, () => aTrigger(db, { system, user_attributes: { kind: "a", plan: "b" } }))).toEqual(
        lr("LR012", "Invalid attribute keys: kind."),
      );
      expect(await refusal(db, () => aTrigger(db, { system, event_attributes: { plan: "a" } }))).toEqual(
        lr("LR012", "Invalid attribute keys: plan."),
      );
      expect(
        await refusal(db, () => aTrigger(db, { system, type: "user_creation", event_attributes: { kind: "a" } })),
      ).toEqual(violates("only_metric_triggers_filter_events"));
    });
  });

  test("fires only while it and its system are active", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      const trigger = await aTrigger(db, { system, metric, points: 10, status: "inactive" });
      const one = { metric: metric.key, user: "ada" };
      await insertEvents(db, [one]);
      expect(await total(db, "ada", system)).toBeNull();
      await setStatus(db, trigger, "active");
      await insertEvents(db, [one]);
      expect(await total(db, "ada", system)).toBe("10");
      await setStatus(db, trigger, "inactive");
      await insertEvents(db, [one]);
      await setStatus(db, trigger, "active");
      await insertEvents(db, [one, one]);
      expect(await total(db, "ada", system)).toBe("30");
      await db.query("update laurel.points_systems set archived_at = now() where id = $1", [system.id]);
      await insertEvents(db, [one]);
      expect(await ledger(db, "ada")).toHaveLength(3);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "6", peak: "6" });
    });
  });

  test("archived, fires no more; its rows stay (RP5)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      const trigger = await aTrigger(db, { system, metric, points: 10 });
      await record(db, { metric: metric.key, user: "ada" });
      await setStatus(db, trigger, "archived");
      const response = await record(db, { metric: metric.key, user: "ada" });
      expect(response.points).toEqual({});
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10"]);
    });
  });
});

describe.each(waysIn)("a metric trigger (TR2) by %s", (_, give) => {
  test("fires floor(peak after / N) - floor(peak before / N) times, as one award of k times P", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 10, points: 3 });
      // peaks 9 (0), 10 (1), 10 (0), 45 (3), 49.999999999 (0), 50 (1)
      await give(
        db,
        ["9", "1", "0", "35", "4.999999999", "0.000000001"].map((value) => ({ metric: metric.key, user: "ada", value })),
      );
      expect(await steps(db, "ada", system)).toEqual(["0 +3 3", "3 +9 12", "12 +3 15"]);
      const rows = await ledger(db, "ada");
      expect(rows.map((row) => row.base_points)).toEqual(["3", "9", "3"]);
    });
  });

  test("never takes back and never pays twice after a decrement", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 5, points: 2 });
      // totals 10 (2 firings), 3, 10, 14, 4, 15 (1 firing), 0, 15, 20 (1 firing)
      await give(
        db,
        [10, -7, 7, 4, -10, 11, -15, 15, 5].map((value) => ({ metric: metric.key, user: "ada", value })),
      );
      expect(await steps(db, "ada", system)).toEqual(["0 +4 4", "4 +2 6", "6 +2 8"]);
    });
  });

  test("counts the metric's lifetime peak, whenever it was reached", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await give(db, [57, -50].map((value) => ({ metric: metric.key, user: "ada", value }))); // total 7, peak 57
      const trigger = await aTrigger(db, { system, metric, every: 10, points: 1 });
      await give(db, [{ metric: metric.key, user: "ada", value: 50 }]); // 57: nothing
      await give(db, [{ metric: metric.key, user: "ada", value: 3 }]); // 60: one firing, not six
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
      await setStatus(db, trigger, "inactive");
      await give(db, [{ metric: metric.key, user: "ada", value: 29 }]); // 89
      await setStatus(db, trigger, "active");
      await give(db, [{ metric: metric.key, user: "ada", value: 1 }]); // 90: one
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +1 2"]);
    });
  });

  test("with only a user filter still counts the metric's lifetime peak", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 10, points: 1, user_attributes: { plan: "pro" } });
      await aUser(db, { id: "ada", attributes: { plan: "free" } });
      await give(db, [{ metric: metric.key, user: "ada", value: 25 }]); // not hers: no firing
      await db.query(`update laurel.users set attributes = '{"plan": "pro"}', attributes_version = attributes_version + 1`);
      await give(db, [{ metric: metric.key, user: "ada", value: 4 }]); // 29: nothing
      expect(await total(db, "ada", system)).toBeNull();
      await give(db, [{ metric: metric.key, user: "ada", value: 1 }]); // 30
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
    });
  });

  test("with an event filter counts matching events for itself, while it is active", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      await anAttribute(db, { key: "size", type: "event" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      const event = (value: number, attributes: Record<string, string> = { kind: "book" }) => ({
        metric: metric.key,
        user: "ada",
        value,
        attributes,
      });
      await give(db, [event(100)]); // before the trigger: not counted
      const trigger = await aTrigger(db, { system, metric, every: 10, points: 1, event_attributes: { kind: "book" } });
      await give(db, [
        event(7), // 7
        event(100, { kind: "film" }),
        event(100, {}),
        event(4, { kind: "book", size: "big" }), // 11: fires
        event(-5), // 6
        event(8), // 14
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
      await setStatus(db, trigger, "inactive");
      await give(db, [event(50)]); // inactive: not counted, count kept
      await setStatus(db, trigger, "active");
      await give(db, [event(5)]); // 19
      expect(await total(db, "ada", system)).toBe("1");
      await give(db, [event(1)]); // 20: fires
      await give(db, [event(25)]); // 45: fires twice
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +1 2", "2 +2 4"]);
      const counts = await db.query("select trim_scale(count) as count, trim_scale(peak) as peak from laurel.points_trigger_counts");
      expect(counts.rows).toEqual([{ count: "45", peak: "45" }]);
    });
  });

  test("with an event filter keeps its own peak: decrements do not count twice", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 10, points: 1, event_attributes: { kind: "book" } });
      // own count: 12 (1), -8, 12, 19, 20 (1); films lift the metric only
      await give(db, [
        { metric: metric.key, user: "ada", value: 12, attributes: { kind: "book" } },
        { metric: metric.key, user: "ada", value: 500, attributes: { kind: "film" } },
        { metric: metric.key, user: "ada", value: -20, attributes: { kind: "book" } },
        { metric: metric.key, user: "ada", value: 20, attributes: { kind: "book" } },
        { metric: metric.key, user: "ada", value: 7, attributes: { kind: "book" } },
        { metric: metric.key, user: "ada", value: 1, attributes: { kind: "book" } },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +1 2"]);
    });
  });

  test("with both filters counts only while the user matches", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, {
        system,
        metric,
        every: 10,
        points: 1,
        event_attributes: { kind: "book" },
        user_attributes: { plan: "pro" },
      });
      const become = (plan: string) =>
        record(db, { metric: metric.key, user: "ada", value: 0, profile: { attributes: { plan } } });
      const book = (value: number) => ({ metric: metric.key, user: "ada", value, attributes: { kind: "book" } });
      await give(db, [book(9)]); // no plan
      await become("pro");
      await give(db, [book(6)]); // 6
      await become("free");
      await give(db, [book(50)]);
      await become("pro");
      await give(db, [book(3)]); // 9
      expect(await total(db, "ada", system)).toBeNull();
      await give(db, [book(1)]); // 10
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
    });
  });

  test("matches when all pairs are equal, and only then (U5)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      await anAttribute(db, { key: "size", type: "event" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1, event_attributes: { kind: "book", size: "big" } });
      await give(
        db,
        [{ kind: "book" }, { size: "big" }, { kind: "Book", size: "big" }, { kind: "book", size: "big " }, {}].map(
          (attributes) => ({ metric: metric.key, user: "ada", attributes }),
        ),
      );
      expect(await total(db, "ada", system)).toBeNull();
      await give(db, [{ metric: metric.key, user: "ada", attributes: { size: "big", kind: "book" } }]);
      expect(await total(db, "ada", system)).toBe("1");
    });
  });

  test("a deduction stopped by the floor has fired all the same", async () => {
    await withRollback(async (db) => {
      const [metric, earn] = [await aMetric(db), await aMetric(db)];
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 5, points: -10 });
      await aTrigger(db, { system, metric: earn, points: 1 });
      await give(db, [
        { metric: earn.key, user: "ada", value: 3 }, // 3
        { metric: metric.key, user: "ada", value: 5 }, // -10, floored: -3
        { metric: earn.key, user: "ada", value: 50 }, // 50
        { metric: metric.key, user: "ada", value: 4 }, // 9: not yet
        { metric: metric.key, user: "ada", value: 1 }, // 10: -10, not -17
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +3 3", "3 -3 0", "0 +50 50", "50 -10 40"]);
    });
  });

  test("an award stopped by the cap has fired all the same", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const spend = await aMetric(db);
      const system = await aSystem(db, { max_points: 10 });
      await aTrigger(db, { system, metric, every: 5, points: 10 });
      await aTrigger(db, { system, metric: spend, points: -1 });
      await give(db, [
        { metric: metric.key, user: "ada", value: 5 }, // 10
        { metric: metric.key, user: "ada", value: 5 }, // capped: no row
        { metric: spend.key, user: "ada", value: 4 }, // 6
        { metric: metric.key, user: "ada", value: 1 }, // 11: no firing
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 -4 6"]);
    });
  });

  test("of a huge event is clamped, not overflown (P2)", async () => {
    await withRollback(async (db) => {
      const [metric, spend] = [await aMetric(db), await aMetric(db)];
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 2147483647 });
      await aTrigger(db, { system, metric: spend, points: -2147483648 });
      const most = "999999999999999.999999999";
      await give(db, [
        { metric: metric.key, user: "ada", value: most },
        { metric: metric.key, user: "ada", value: most },
        { metric: spend.key, user: "ada", value: 1 },
        { metric: spend.key, user: "ada", value: most },
      ]);
      // 2^53 - 1 = 9007199254740991; less 2147483648 = 9007197107257343
      expect(await steps(db, "ada", system)).toEqual([
        "0 +9007199254740991 9007199254740991",
        "9007199254740991 -2147483648 9007197107257343",
        "9007197107257343 -9007197107257343 0",
      ]);
      // 999999999999999 * 2147483647 = 2147483646999997852516353
      expect((await ledger(db, "ada")).at(0)?.base_points).toBe("2147483646999997852516353");
    });
  });

  test("one metric feeds several systems and triggers at once", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const [a, b] = [await aSystem(db, { max_points: 5 }), await aSystem(db)];
      await aTrigger(db, { system: a, metric, points: 3 });
      await aTrigger(db, { system: b, metric, every: 2, points: 7 });
      await aTrigger(db, { system: a, metric, every: 2, points: -1 });
      // 1: a +3; 2: a +3 capped to 2, then -1, b +7
      await give(db, [1, 1].map((value) => ({ metric: metric.key, user: "ada", value })));
      expect(await steps(db, "ada", a)).toEqual(["0 +3 3", "3 +2 5", "5 -1 4"]);
      expect(await steps(db, "ada", b)).toEqual(["0 +7 7"]);
    });
  });
});

describe("editing a metric trigger", () => {
  test("a new threshold and new points count from the next event on", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      const trigger = await aTrigger(db, { system, metric, every: 10, points: 1 });
      await insertEvents(db, [{ metric: metric.key, user: "ada", value: 19 }]); // 1
      await db.query("update laurel.points_triggers set metric_threshold = 5, points = 4 where id = $1", [trigger.id]);
      await insertEvents(db, [{ metric: metric.key, user: "ada", value: 6 }]); // 25: 5 - 3 = 2 firings of 4
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1", "1 +8 9"]);
    });
  });

  test("a profile that comes with the event is judged with it (U2, TR2)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 10, user_attributes: { plan: "pro" } });
      await aTrigger(db, { system, metric, points: 1, user_attributes: { plan: "free" } });
      await record(db, { metric: metric.key, user: "ada", profile: { attributes: { plan: "pro" } } });
      expect(await total(db, "ada", system)).toBe("10");
      await record(db, { metric: metric.key, user: "ada", profile: { attributes: { plan: "free" } } });
      expect(await total(db, "ada", system)).toBe("11");
      await record(db, { metric: metric.key, user: "ada", profile: { attributes: { plan: null } } });
      expect(await total(db, "ada", system)).toBe("11");
    });
  });
});

describe.each(waysIn)("a user_creation trigger (TR6) by %s", (_, give) => {
  test("fires once, when the user is first seen, dated at the first event, before metric triggers (TR7)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      await aTrigger(db, { system, type: "user_creation", points: 100 });
      await aTrigger(db, { system, type: "user_creation", points: -30 });
      await give(db, [
        { metric: metric.key, user: "ada", at: "2024-02-29T10:00:00Z" },
        { metric: metric.key, user: "ada", at: "2023-01-01T10:00:00Z" },
      ]);
      await give(db, [{ metric: metric.key, user: "ada" }]);
      const rows = await ledger(db, "ada");
      expect(rows.map((row) => [row.cause, row.points, row.total_after])).toEqual([
        ["user_creation", "100", "100"],
        ["user_creation", "-30", "70"],
        ["metric", "1", "71"],
        ["metric", "1", "72"],
        ["metric", "1", "73"],
      ]);
      expect(rows.slice(0, 4).map((row) => row.occurred_at.toISOString().slice(0, 10))).toEqual([
        "2024-02-29",
        "2024-02-29",
        "2024-02-29",
        "2023-01-01",
      ]);
    });
  });

  test("fires for a metric without triggers too, and not for a user seen while it was inactive", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      const trigger = await aTrigger(db, { system, type: "user_creation", points: 5, status: "inactive" });
      await give(db, [{ metric: metric.key, user: "early" }]);
      await setStatus(db, trigger, "active");
      await give(db, [
        { metric: metric.key, user: "early" },
        { metric: metric.key, user: "late" },
      ]);
      expect(await total(db, "early", system)).toBeNull();
      expect(await total(db, "late", system)).toBe("5");
    });
  });
});

describe("user_creation filters (TR6, U5)", () => {
  test("are judged with the profile that comes along", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, type: "user_creation", points: 50, user_attributes: { plan: "pro" } });
      await record(db, { metric: metric.key, user: "ada", profile: { attributes: { plan: "pro" } } });
      await record(db, { metric: metric.key, user: "bob" });
      await record(db, { metric: metric.key, user: "bob", profile: { attributes: { plan: "pro" } } });
      expect(await total(db, "ada", system)).toBe("50");
      expect(await total(db, "bob", system)).toBeNull();
    });
  });
});

describe("order within one event (TR7)", () => {
  test.each([
    [[10, -15], ["0 +10 10", "10 -10 0"]],
    [[-15, 10], ["0 +10 10"]], // nothing to deduct: a change of 0 writes no row
    [[8, 8, -5], ["0 +8 8", "8 +2 10", "10 -5 5"]], // the cap of 10 comes before the deduction
    [[8, -5, 8], ["0 +8 8", "8 -5 3", "3 +7 10"]],
  ])("triggers created as %j give %j", async (points, expected) => {
    for (const [, give] of waysIn) {
      await withRollback(async (db) => {
        const metric = await aMetric(db);
        const system = await aSystem(db, { max_points: 10 });
        for (const each of points) await aTrigger(db, { system, metric, points: each });
        await give(db, [{ metric: metric.key, user: "ada" }]);
        expect(await steps(db, "ada", system)).toEqual(expected);
      });
    }
  });

  test("stays by creation when a trigger is edited, deactivated and activated again", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { max_points: 10 });
      const earlier = await aTrigger(db, { system, metric, points: 3 });
      await aTrigger(db, { system, metric, points: -15 });
      await setStatus(db, earlier, "inactive");
      await db.query("update laurel.points_triggers set points = 9 where id = $1", [earlier.id]);
      await setStatus(db, earlier, "active");
      await record(db, { metric: metric.key, user: "ada" });
      expect(await steps(db, "ada", system)).toEqual(["0 +9 9", "9 -9 0"]);
    });
  });
});

describe("blockIfOutOfPoints (TR8)", () => {
  async function aShop(db: Database) {
    const [earn, spend] = [await aMetric(db), await aMetric(db)];
    const system = await aSystem(db, { key: "coins" });
    await aTrigger(db, { system, metric: earn, points: 1 });
    await aTrigger(db, { system, metric: spend, points: -10, block_if_out_of_points: true });
    return { earn: earn.key, spend: spend.key, system, metric: spend };
  }

  test.each(waysIn)("lets the last point be spent, refuses one more, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const { earn, spend, system, metric } = await aShop(db);
      await give(db, [
        { metric: earn, user: "ada", value: 19 },
        { metric: spend, user: "ada" }, // 9
      ]);
      const before = await ledger(db, "ada");
      const refused = await refusal(db, () => give(db, [{ metric: spend, user: "ada", key: "again" }]));
      expect(refused).toEqual(lr("LR030", "coins"));
      expect(await ledger(db, "ada")).toEqual(before);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "1", peak: "1" });
      // The refused event left nothing, its key included: paid for, it counts.
      await give(db, [
        { metric: earn, user: "ada", value: 1 }, // 10
        { metric: spend, user: "ada", key: "again" }, // exactly 0
      ]);
      expect(await total(db, "ada", system)).toBe("0");
    });
  });

  test("refuses a multi-row INSERT as a whole, other users included", async () => {
    await withRollback(async (db) => {
      const { earn, spend } = await aShop(db);
      const refused = await refusal(db, () =>
        insertEvents(db, [
          { metric: earn, user: "bob", value: 100 },
          { metric: earn, user: "ada", value: 9 },
          { metric: spend, user: "ada" },
          { metric: earn, user: "cyd", value: 100 },
        ]),
      );
      expect(refused).toEqual(lr("LR030", "coins"));
      for (const table of ["users", "metric_events", "user_metrics", "points_awards", "points_balances"])
        expect((await db.query(`select from laurel.${table}`)).rowCount).toBe(0);
    });
  });

  test("a multi-row INSERT that earns before it spends goes through", async () => {
    await withRollback(async (db) => {
      const { earn, spend, system } = await aShop(db);
      await insertEvents(db, [
        { metric: earn, user: "ada", value: 10 },
        { metric: spend, user: "ada" },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 -10 0"]);
      const refused = await refusal(db, () =>
        insertEvents(db, [
          { metric: spend, user: "ada" },
          { metric: earn, user: "ada", value: 10 },
        ]),
      );
      expect(refused).toEqual(lr("LR030"));
    });
  });

  test("a refused first event leaves no user and no profile behind", async () => {
    await withRollback(async (db) => {
      const { spend } = await aShop(db);
      await refusal(db, () => record(db, { metric: spend, user: "new", profile: { name: "Newton" } }));
      expect((await db.query("select from laurel.users")).rowCount).toBe(0);
      await aUser(db, { id: "ada", name: "Ada" });
      await refusal(db, () => record(db, { metric: spend, user: "ada", profile: { name: "Other" } }));
      expect((await db.query("select name from laurel.users")).rows).toEqual([{ name: "Ada" }]);
    });
  });

  test("looks at what came before in the same event, in creation order", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 10 });
      await aTrigger(db, { system, metric, points: -10, block_if_out_of_points: true });
      await record(db, { metric: metric.key, user: "ada" });
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 -10 0"]);
    });
  });

  test("looks at all firings of the event together", async () => {
    await withRollback(async (db) => {
      const { earn, spend, system } = await aShop(db);
      await record(db, { metric: earn, user: "ada", value: 29 });
      // three firings take 30
      expect(await refusal(db, () => record(db, { metric: spend, user: "ada", value: 3 }))).toEqual(lr("LR030"));
      await record(db, { metric: spend, user: "ada", value: 2 });
      expect(await total(db, "ada", system)).toBe("9");
    });
  });

  test("a replay of a paid event is not refused, however poor the user is now (E4)", async () => {
    await withRollback(async (db) => {
      const { earn, spend, system } = await aShop(db);
      await record(db, { metric: earn, user: "ada", value: 10 });
      await record(db, { metric: spend, user: "ada", key: "k" });
      expect((await record(db, { metric: spend, user: "ada", key: "k" })).idempotentReplayed).toBe(true);
      await insertEvents(db, [{ metric: spend, user: "ada", key: "k" }]);
      expect(await total(db, "ada", system)).toBe("0");
    });
  });

  test("an event that fires nothing is not refused", async () => {
    await withRollback(async (db) => {
      const { spend } = await aShop(db);
      await record(db, { metric: spend, user: "ada", value: 0 });
      await record(db, { metric: spend, user: "ada", value: -5 });
      expect((await record(db, { metric: spend, user: "ada", value: 5 })).total).toBe(0);
    });
  });
});
