import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, ledger, record, refusal, steps, waysIn } from "../../support/engine.ts";
import {
  aBoost,
  aMetric,
  anAttribute,
  aSystem,
  aTrigger,
  aUser,
  type Database,
  type Rounding,
} from "../../support/factories.ts";
import { lr, violates } from "../../support/refusals.ts";

/** Rules B1, B2 and B4 to B6, and what the ledger says of boosts (P3). */

async function aWorld(db: Database, points: number, maxPoints: number | null = null) {
  const metric = await aMetric(db);
  const system = await aSystem(db, { max_points: maxPoints });
  await aTrigger(db, { system, metric, points });
  return { metric, system };
}

describe("a boost's multiplier (B1)", () => {
  test.each([["0.0001", "0.0001"], ["99.9999", "99.9999"], ["1.0001", "1.0001"], ["0.9999", "0.9999"], ["2", "2.0000"]])(
    "may be %s",
    async (multiplier, stored) => {
      await withRollback(async (db) => {
        const { system } = await aWorld(db, 1);
        expect(Number((await aBoost(db, { system, multiplier })).multiplier)).toBe(Number(stored));
      });
    },
  );

  test.each(["0", "-1", "100", "1", "1.0000", "NaN", "Infinity"])("may not be %s", async (multiplier) => {
    await withRollback(async (db) => {
      const { system } = await aWorld(db, 1);
      await refusal(db, () => aBoost(db, { system, multiplier }));
      expect((await db.query("select from laurel.points_boosts")).rowCount).toBe(0);
    });
  });

  test.each(["1.00001", "0.00001", "99.99999", "1.23456"])("%s has too many decimals and is refused, not rounded", async (multiplier) => {
    await withRollback(async (db) => {
      const { system } = await aWorld(db, 1);
      await refusal(db, () => aBoost(db, { system, multiplier }));
      expect((await db.query("select from laurel.points_boosts")).rowCount).toBe(0);
    });
  });
});

describe("a boost (B1)", () => {
  test("rounds down, starts in the past and never ends unless told otherwise", async () => {
    await withRollback(async (db) => {
      const { system } = await aWorld(db, 1);
      await db.query(
        "insert into laurel.points_boosts (system_id, name, multiplier, starts_on) values ($1, 'b', 2, '1999-12-31')",
        [system.id],
      );
      expect((await db.query("select rounding, ends_on, is_active from laurel.points_boosts")).rows).toEqual([
        { rounding: "down", ends_on: null, is_active: true },
      ]);
    });
  });

  test("may end on the day it starts, not before", async () => {
    await withRollback(async (db) => {
      const { system } = await aWorld(db, 1);
      await aBoost(db, { system, starts_on: "2024-05-05", ends_on: "2024-05-05" });
      expect(await refusal(db, () => aBoost(db, { system, starts_on: "2024-05-05", ends_on: "2024-05-04" }))).toEqual(
        violates("boosts_end_is_not_before_start"),
      );
    });
  });

  test("is for an existing user, or for a filter, not for both", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { system } = await aWorld(db, 1);
      const user = await aUser(db);
      await aBoost(db, { system, user_id: user.id });
      expect(await refusal(db, () => aBoost(db, { system, user_id: "nobody" }))).toEqual(violates("boost_user_exists"));
      expect(
        await refusal(db, () => aBoost(db, { system, user_id: user.id, user_attributes: { plan: "pro" } })),
      ).toEqual(violates("boosts_of_one_user_have_no_filter"));
      expect(await refusal(db, () => aBoost(db, { system, user_attributes: { plan: "a", nope: "b" } }))).toEqual(
        lr("LR012", "Invalid attribute keys: nope."),
      );
    });
  });
});

describe.each(waysIn)("by %s", (_, give) => {
  test("a boost for one user is for that user alone", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 10);
      for (const id of ["ada", "bob"]) await aUser(db, { id });
      await aBoost(db, { system, multiplier: 3, user_id: "ada" });
      await give(db, [
        { metric: metric.key, user: "ada" },
        { metric: metric.key, user: "bob" },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +30 30"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +10 10"]);
    });
  });

  test("a filtered boost is for those who carry all its attributes (U5)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      await anAttribute(db, { key: "land" });
      const { metric, system } = await aWorld(db, 10);
      await aUser(db, { id: "both", attributes: { plan: "pro", land: "at" } });
      await aUser(db, { id: "one", attributes: { plan: "pro" } });
      await aBoost(db, { system, multiplier: 3, user_attributes: { plan: "pro", land: "at" } });
      await give(db, ["both", "one", "none"].map((user) => ({ metric: metric.key, user })));
      expect(await steps(db, "both", system)).toEqual(["0 +30 30"]);
      expect(await steps(db, "one", system)).toEqual(["0 +10 10"]);
      expect(await steps(db, "none", system)).toEqual(["0 +10 10"]);
    });
  });

  test("2 x 1.5 x 3 = 9, exactly (B4)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 7);
      for (const multiplier of ["2", "1.5", "3"]) await aBoost(db, { system, multiplier });
      await give(db, [{ metric: metric.key, user: "ada" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +63 63"]);
      expect(Number(first(await ledger(db, "ada")).boost_multiplier)).toBe(9);
    });
  });

  test("global, filtered and single-user boosts multiply together (B4)", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { metric, system } = await aWorld(db, 7);
      await aUser(db, { id: "ada", attributes: { plan: "pro" } });
      await aBoost(db, { system, multiplier: "2" });
      await aBoost(db, { system, multiplier: "1.5", user_id: "ada" });
      await aBoost(db, { system, multiplier: "3", user_attributes: { plan: "pro" } });
      await give(db, [{ metric: metric.key, user: "ada" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +63 63"]);
    });
  });

  test("inactive and archived boosts, and other systems' boosts, do nothing (B3, RP5)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 10);
      await aUser(db, { id: "ada" });
      await aBoost(db, { system, multiplier: 2, is_active: false });
      await aBoost(db, { system, multiplier: 2, is_active: false, user_id: "ada" });
      await aBoost(db, { system: await aSystem(db), multiplier: 5 });
      const [all, hers] = [await aBoost(db, { system }), await aBoost(db, { system, user_id: "ada" })];
      await db.query("update laurel.points_boosts set archived_at = now() where id in ($1, $2)", [all.id, hers.id]);
      await give(db, [{ metric: metric.key, user: "ada" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10"]);
    });
  });

  test("deductions are not boosted (B4)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 10);
      await aTrigger(db, { system, metric, points: -3 });
      await aBoost(db, { system, multiplier: 2 });
      await give(db, [{ metric: metric.key, user: "ada" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +20 20", "20 -3 17"]);
      const deduction = (await ledger(db, "ada"))[1];
      expect([deduction?.boosts, Number(deduction?.boost_multiplier), deduction?.rounding]).toEqual([null, 1, null]);
    });
  });

  test("the cap comes after boosts and rounding (B6)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 7, 10);
      await aBoost(db, { system, multiplier: "1.5", rounding: "up" });
      await give(db, [{ metric: metric.key, user: "ada" }]); // 10.5, up 11, capped 10
      const row = first(await ledger(db, "ada"));
      expect([row.base_points, row.rounded_points, row.points, row.max_points]).toEqual(["7", "11", "10", 10]);
    });
  });

  test("a reducing boost works on the uncapped award (B6)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 30, 10);
      await aBoost(db, { system, multiplier: "0.5" });
      await give(db, [{ metric: metric.key, user: "ada" }]); // 15, capped 10; capping first would leave 5
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10"]);
    });
  });

  test("user_creation awards are boosted too, by the user's own day (TR6, B2)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aTrigger(db, { system, type: "user_creation", points: 10 });
      await aBoost(db, { system, multiplier: 2, starts_on: "2024-01-01", ends_on: "2024-01-01" });
      await give(db, [{ metric: metric.key, user: "ada", at: "2024-01-01T23:59:59.999999Z" }]);
      await give(db, [{ metric: metric.key, user: "bob", at: "2024-01-02T00:00:00Z" }]);
      expect(await steps(db, "ada", system)).toEqual(["0 +20 20", "20 +2 22"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +10 10", "10 +1 11"]);
    });
  });
});

describe("rounding (B5)", () => {
  const cases: [points: number, boosts: [string, Rounding][], expected: string][] = [
    [1, [["1.5", "down"]], "1"],
    [1, [["1.5", "nearest"]], "2"], // 1.5: halves up
    [1, [["1.5", "up"]], "2"],
    [3, [["1.5", "nearest"]], "5"], // 4.5: up, not to even
    [5, [["0.5", "nearest"]], "3"], // 2.5: up, not to even
    [1, [["1.4999", "nearest"]], "1"],
    [1, [["1.0001", "up"]], "2"],
    [1, [["1.9999", "down"]], "1"],
    [1, [["0.5", "nearest"]], "1"],
    [1, [["0.4999", "nearest"]], "none"],
    [1, [["0.0001", "up"]], "1"],
    [1, [["0.9999", "down"]], "none"], // 0: a change of 0 writes no row
    [10, [["1.1", "up"]], "11"], // exactly 11: a double would make 12 of it
    [3, [["1.1", "up"], ["1.1", "up"]], "4"], // 3.63
    [100, [["1.1", "up"], ["1.1", "up"]], "121"], // exactly 121
    [100000000, [["1.1", "up"], ["1.1", "up"]], "121000000"],
    [1, [["0.5", "down"], ["2.0001", "down"]], "1"], // 1.00005: once, at the end
    [1, [["1.5", "down"], ["1.5", "down"]], "2"], // 2.25; rounding each would give 1
    [1, [["1.5", "up"], ["1.5", "up"]], "3"], // 2.25; rounding each would give 3 or 4
    [3, [["0.5", "up"], ["0.5", "up"], ["0.5", "up"]], "1"], // 0.375
    [3, [["1.5", "down"], ["1.1", "up"]], "4"], // 4.95 down
    [3, [["1.5", "up"], ["1.1", "nearest"]], "5"], // 4.95 nearest
    [3, [["1.5", "nearest"], ["1.05", "up"]], "5"], // 4.725 nearest
    [3, [["1.4", "up"], ["1.05", "nearest"]], "4"], // 4.41: nearest wins over up
    [3, [["1.5", "nearest"], ["1.1", "down"]], "4"], // 4.95: down wins over nearest
    [3, [["1.5", "nearest"], ["1.1", "down"], ["1.01", "up"]], "4"], // 4.9995
    // 2147483647 x 99.9999 = 214748364700 - 214748.3647 = 214748149951.6353
    [2147483647, [["99.9999", "up"]], "214748149952"],
    [2147483647, [["99.9999", "down"]], "214748149951"],
  ];

  test.each(cases)("%d points with %j add %s", async (points, boosts, expected) => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, points);
      for (const [multiplier, rounding] of boosts) await aBoost(db, { system, multiplier, rounding });
      await record(db, { metric: metric.key, user: "ada" });
      await insertEvents(db, [{ metric: metric.key, user: "bob" }, { metric: metric.key, user: "bob", value: 0 }]);
      for (const user of ["ada", "bob"])
        expect((await ledger(db, user)).map((row) => row.points)).toEqual(expected === "none" ? [] : [expected]);
    });
  });

  test("is once per award, on all firings of the event together", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aBoost(db, { system, multiplier: "1.5" });
      await record(db, { metric: metric.key, user: "ada", value: 3 }); // 3 x 1.5 = 4.5, 4; one by one would give 3
      expect(await steps(db, "ada", system)).toEqual(["0 +4 4"]);
    });
  });

  test("is not asked of boosts that do not apply", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aBoost(db, { system, multiplier: "1.5", rounding: "up" });
      await aBoost(db, { system, multiplier: "3", rounding: "down", ends_on: "2000-01-02" });
      await record(db, { metric: metric.key, user: "ada" });
      expect(await steps(db, "ada", system)).toEqual(["0 +2 2"]);
      expect(first(await ledger(db, "ada")).rounding).toBe("up");
    });
  });
});

describe("the window of a boost (B2)", () => {
  /** First and last instant (microseconds) of the boost's days in a zone, and the instants just outside. */
  const windows: [zone: string | null, starts: string, ends: string, first: string, last: string][] = [
    ["Pacific/Kiritimati", "2024-06-10", "2024-06-10", "2024-06-09T10:00:00Z", "2024-06-10T09:59:59.999999Z"], // +14
    ["Pacific/Pago_Pago", "2024-06-10", "2024-06-10", "2024-06-10T11:00:00Z", "2024-06-11T10:59:59.999999Z"], // -11
    [null, "2024-06-10", "2024-06-12", "2024-06-10T00:00:00Z", "2024-06-12T23:59:59.999999Z"],
    ["UTC", "2024-02-29", "2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29T23:59:59.999999Z"],
    ["America/New_York", "2024-03-10", "2024-03-10", "2024-03-10T05:00:00Z", "2024-03-11T03:59:59.999999Z"], // 23 hours
    ["America/New_York", "2024-11-03", "2024-11-03", "2024-11-03T04:00:00Z", "2024-11-04T04:59:59.999999Z"], // 25 hours
    ["Europe/London", "2024-03-31", "2024-03-31", "2024-03-31T00:00:00Z", "2024-03-31T22:59:59.999999Z"],
    ["Australia/Lord_Howe", "2024-04-07", "2024-04-07", "2024-04-06T13:00:00Z", "2024-04-07T13:29:59.999999Z"], // half an hour
    ["America/Sao_Paulo", "2018-11-04", "2018-11-04", "2018-11-04T03:00:00Z", "2018-11-05T01:59:59.999999Z"], // no midnight
    ["America/Havana", "2024-11-03", "2024-11-03", "2024-11-03T04:00:00Z", "2024-11-04T04:59:59.999999Z"], // midnight twice
    ["Asia/Kathmandu", "2024-01-01", "2024-01-01", "2023-12-31T18:15:00Z", "2024-01-01T18:14:59.999999Z"], // +05:45
    ["Pacific/Apia", "2011-12-29", "2011-12-29", "2011-12-29T10:00:00Z", "2011-12-30T09:59:59.999999Z"], // the 30th is missing
    ["Pacific/Apia", "2011-12-31", "2011-12-31", "2011-12-30T10:00:00Z", "2011-12-31T09:59:59.999999Z"],
  ];
  const beside = (instant: string, microseconds: -1 | 1) =>
    microseconds === -1
      ? new Date(Date.parse(instant) - 1).toISOString().replace("Z", "999Z")
      : new Date(Date.parse(instant.replace("999999", "999")) + 1).toISOString();

  test.each(windows)("in %s from %s to %s is %s to %s", async (zone, starts, ends, from, to) => {
    for (const [, give] of waysIn) {
      await withRollback(async (db) => {
        const { metric, system } = await aWorld(db, 1);
        await aUser(db, { id: "ada", tz: zone });
        await aBoost(db, { system, multiplier: 2, starts_on: starts, ends_on: ends });
        await aBoost(db, { system, multiplier: 5, starts_on: starts, ends_on: ends, user_id: "ada" });
        await give(
          db,
          [beside(from, -1), from, to, beside(to, 1)].map((at) => ({ metric: metric.key, user: "ada", at })),
        );
        expect((await ledger(db, "ada")).map((row) => row.points)).toEqual(["1", "10", "10", "1"]);
      });
    }
  });

  test("of a day that a zone skipped is empty", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aUser(db, { id: "ada", tz: "Pacific/Apia" });
      await aBoost(db, { system, multiplier: 2, starts_on: "2011-12-30", ends_on: "2011-12-30" });
      for (const at of ["2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z", "2011-12-30T23:00:00Z"])
        await record(db, { metric: metric.key, user: "ada", at });
      expect((await ledger(db, "ada")).map((row) => row.points)).toEqual(["1", "1", "1"]);
    });
  });

  test("is judged by the moment of the event, not of its arrival (E8)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 10);
      await aBoost(db, { system, multiplier: 2, starts_on: "2001-01-01", ends_on: "2001-01-31" });
      await record(db, { metric: metric.key, user: "ada" });
      await record(db, { metric: metric.key, user: "ada", at: "2001-01-31T12:00:00Z" });
      expect(await steps(db, "ada", system)).toEqual(["0 +10 10", "10 +20 30"]);
    });
  });

  test("follows the time zone that comes with the event (U2, U3)", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aBoost(db, { system, multiplier: 2, starts_on: "2024-06-10", ends_on: "2024-06-10" });
      const at = "2024-06-10T00:30:00Z"; // the 10th in UTC, the 9th in Pago Pago
      await record(db, { metric: metric.key, user: "ada", at, profile: { tz: "Pacific/Pago_Pago" } });
      await record(db, { metric: metric.key, user: "ada", at, profile: { tz: null } });
      await record(db, { metric: metric.key, user: "ada", at, profile: { tz: "Asia/Tokyo" } });
      expect((await ledger(db, "ada")).map((row) => row.points)).toEqual(["1", "2", "2"]);
    });
  });

  test("of one statement is judged row by row and user by user", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 1);
      await aUser(db, { id: "east", tz: "Pacific/Kiritimati" });
      await aUser(db, { id: "west", tz: "Pacific/Pago_Pago" });
      await aBoost(db, { system, multiplier: 2, starts_on: "2024-06-10", ends_on: "2024-06-10" });
      const times = ["2024-06-09T10:00:00Z", "2024-06-10T09:59:59Z", "2024-06-10T10:30:00Z", "2024-06-10T11:00:00Z"];
      await insertEvents(
        db,
        times.flatMap((at) => ["east", "west"].map((user) => ({ metric: metric.key, user, at }))),
      );
      expect((await ledger(db, "east")).map((row) => row.points)).toEqual(["2", "2", "1", "1"]);
      expect((await ledger(db, "west")).map((row) => row.points)).toEqual(["1", "1", "1", "2"]);
    });
  });
});

describe("the ledger row of a boosted award (P3)", () => {
  test("names the boosts, their exact product and the mode, whatever is edited later", async () => {
    await withRollback(async (db) => {
      const { metric, system } = await aWorld(db, 3);
      await aBoost(db, { system, name: "Spring", multiplier: "1.2345", rounding: "up" });
      const late = await aBoost(db, { system, name: "Late", multiplier: "1.0001", rounding: "nearest" });
      await record(db, { metric: metric.key, user: "ada" });
      await db.query("update laurel.points_boosts set name = 'Edited', multiplier = 50, archived_at = now() where id = $1", [
        late.id,
      ]);
      const row = first(await ledger(db, "ada"));
      // 1.2345 x 1.0001 = 1.23462345; x 3 = 3.70387035, nearest 4
      expect(Number(row.boost_multiplier)).toBe(1.23462345);
      expect(row.boosts?.map((boost) => [boost.name, boost.multiplier])).toEqual([
        ["Spring", 1.2345],
        ["Late", 1.0001],
      ]);
      expect([row.base_points, row.rounding, row.rounded_points, row.points]).toEqual(["3", "nearest", "4", "4"]);
    });
  });
});
