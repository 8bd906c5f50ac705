import { describe, expect, test } from "@jest/globals";
import { DatabaseError } from "pg";
import { withRollback } from "../../support/database.ts";
import {
  actFor,
  copyEvents,
  insertEvents,
  ledger,
  metricTotals,
  record,
  refusal,
  steps,
  total,
  waysIn,
} from "../../support/engine.ts";
import { aMetric, anAttribute, aSystem, aTenant, aTrigger, aUser, type Database, unique } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules E2, E4, E6, E7, E8, Q1: what an event is, whichever way it comes in. */

async function countEvents(db: Database): Promise<number> {
  const found = await db.query<{ n: string }>("select count(*) as n from laurel.metric_events");
  return Number(found.rows[0]?.n);
}

async function clockPlus(db: Database, interval: string): Promise<string> {
  const found = await db.query<{ at: string }>("select (clock_timestamp() + $1::interval)::text as at", [interval]);
  return found.rows[0]?.at ?? "";
}

describe("defaults (Q1, E2)", () => {
  test("metric and user suffice: value 1, no attributes, no key, now", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await db.query("insert into laurel.metric_events (metric_key, user_id) values ($1, 'ada')", [metric.key]);
      const found = await db.query(
        `select metric_id, user_id, trim_scale(value)::text as value, attributes, idempotency_key, occurred_at = now() as now
         from laurel.metric_events`,
      );
      expect(found.rows).toEqual([
        { metric_id: metric.id, user_id: "ada", value: "1", attributes: {}, idempotency_key: null, now: true },
      ]);
    });
  });

  test.each(waysIn.filter(([name]) => name !== "COPY"))("null means the default, by %s", async (_, give) => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const event = { metric: metric.key, user: "ada", value: null, attributes: null, key: null, at: null };
      await give(db, [event, event]);
      const found = await db.query(
        `select trim_scale(value)::text as value, attributes, idempotency_key,
           occurred_at between now() and clock_timestamp() as now from laurel.metric_events`,
      );
      const row = { value: "1", attributes: {}, idempotency_key: null, now: true };
      expect(found.rows).toEqual([row, row]);
    });
  });
});

describe.each(waysIn)("by %s", (_, give) => {
  const value = (text: string) =>
    withRollback(async (db) => {
      const metric = await aMetric(db);
      const refused = await refusal(db, async () => {
        await give(db, [{ metric: metric.key, user: "ada", value: text }]);
        const totals = await metricTotals(db, "ada", metric);
        throw new Error(totals?.total);
      }).catch((error: unknown) => (error as Error).message);
      return { refused, events: await countEvents(db) };
    });

  test.each([
    ["999999999999999.999999999", "999999999999999.999999999"],
    ["-999999999999999.999999999", "-999999999999999.999999999"],
    ["0.000000001", "0.000000001"],
    ["-0.000000001", "-0.000000001"],
    ["0", "0"],
    ["1e14", "100000000000000"],
    ["1e-9", "0.000000001"],
  ])("the value %s is exact (E2)", async (text, exact) => {
    expect((await value(text)).refused).toBe(exact);
  });

  test.each(["1000000000000000", "-1000000000000000", "999999999999999.9999999999", "0.0000000001", "1e15", "1e-10", "NaN", "Infinity", "-Infinity"])(
    "the value %s is refused, never rounded (E2)",
    async (text) => {
      expect(await value(text)).toEqual({ refused: lr("LR011"), events: 0 });
    },
  );

  test("user IDs have 1 to 255 characters, whatever their bytes (U1)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const longest = "é😀".repeat(127) + "x";
      await give(db, [{ metric: metric.key, user: longest }, { metric: metric.key, user: "x" }]);
      expect(await metricTotals(db, longest, metric)).toEqual({ total: "1", peak: "1" });
      expect(await refusal(db, () => give(db, [{ metric: metric.key, user: longest + "x" }]))).toEqual(
        lr("LR010", "255"),
      );
      expect(await refusal(db, () => give(db, [{ metric: metric.key, user: "" }]))).toEqual(lr("LR010"));
      expect(await countEvents(db)).toBe(2);
    });
  });

  test("idempotency keys have 1 to 255 characters (E2)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await give(db, [{ metric: metric.key, user: "ada", key: "ß".repeat(255) }]);
      expect(
        await refusal(db, () => give(db, [{ metric: metric.key, user: "ada", key: "ß".repeat(256) }])),
      ).toEqual(lr("LR014", "255"));
      expect(await refusal(db, () => give(db, [{ metric: metric.key, user: "ada", key: "" }]))).toEqual(lr("LR014"));
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "1", peak: "1" });
    });
  });

  test("a moment up to 24 hours ahead is allowed, beyond it or infinite is refused (E8)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const give1 = (at: string) => give(db, [{ metric: metric.key, user: "ada", at }]);
      await give1(await clockPlus(db, "24 hours"));
      await give1("1900-01-01T00:00:00Z");
      expect(await refusal(db, async () => give1(await clockPlus(db, "24 hours 20 seconds")))).toEqual(
        lr("LR015", "24 hours"),
      );
      expect(await refusal(db, () => give1("infinity"))).toEqual(lr("LR015"));
      expect(await refusal(db, () => give1("-infinity"))).toEqual(lr("LR015"));
      expect(await countEvents(db)).toBe(2);
    });
  });

  test("an unknown metric is named (E1)", async () => {
    await withRollback(async (db) => {
      expect(await refusal(db, () => give(db, [{ metric: "nonsuch", user: "ada" }]))).toEqual(
        lr("LR003", "nonsuch"),
      );
    });
  });

  test("metric keys are told apart by case (E1)", async () => {
    await withRollback(async (db) => {
      const lower = await aMetric(db, { key: "words-x" });
      await aMetric(db, { key: "WORDS-x" });
      await give(db, [{ metric: "words-x", user: "ada", value: 2 }]);
      expect(await metricTotals(db, "ada", lower)).toEqual({ total: "2", peak: "2" });
    });
  });

  test("undeclared attribute keys are all named, in order, and nothing is stored (U4)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await anAttribute(db, { key: "kind", type: "event" });
      await anAttribute(db, { key: "plan", type: "user" });
      const attributes = { zeta: "1", kind: "book", plan: "pro", alpha: "2" };
      expect(await refusal(db, () => give(db, [{ metric: metric.key, user: "ada", attributes }]))).toEqual(
        lr("LR012", "Invalid attribute keys: alpha, plan, zeta."),
      );
      expect(await countEvents(db)).toBe(0);
      await give(db, [{ metric: metric.key, user: "ada", attributes: { kind: "" } }]);
      expect(await countEvents(db)).toBe(1);
    });
  });

  test.each(['{"kind": 1}', '{"kind": null}', '{"kind": {"a": "b"}}', '{"kind": ["a"]}', '{"kind": true}', "[]", '"kind"', "1"])(
    "attributes %s are refused: they map keys to strings (U4)",
    async (text) => {
      await withRollback(async (db) => {
        const metric = await aMetric(db);
        await anAttribute(db, { key: "kind", type: "event" });
        const attributes = JSON.parse(text) as Record<string, string>;
        expect(await refusal(db, () => give(db, [{ metric: metric.key, user: "ada", attributes }]))).toEqual(
          lr("LR013"),
        );
        expect(await countEvents(db)).toBe(0);
      });
    },
  );

  test("a key counts once per user and metric (E4)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const other = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 10 });
      await give(db, [
        { metric: metric.key, user: "ada", value: 2, key: "k" }, // 20
        { metric: metric.key, user: "ada", value: 5, key: "k" }, // replayed
        { metric: metric.key, user: "bob", value: 3, key: "k" }, // 30: another user
        { metric: other.key, user: "ada", value: 7, key: "k" }, // another metric
        { metric: metric.key, user: "ada", value: 1, key: "K" }, // 10: another key
        { metric: metric.key, user: "ada", value: 4, key: "k" }, // replayed
      ]);
      await give(db, [{ metric: metric.key, user: "ada", value: 9, key: "k" }]);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "3", peak: "3" });
      expect(await metricTotals(db, "bob", metric)).toEqual({ total: "3", peak: "3" });
      expect(await metricTotals(db, "ada", other)).toEqual({ total: "7", peak: "7" });
      expect(await steps(db, "ada", system)).toEqual(["0 +20 20", "20 +10 30"]);
      expect(await countEvents(db)).toBe(4);
    });
  });

  test("events without a key all count, twins too (E4)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const twin = { metric: metric.key, user: "ada", value: 1, at: "2024-01-01T00:00:00Z" };
      await give(db, [twin, twin, twin]);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "3", peak: "3" });
    });
  });

  test("rows are processed per user in the order given, metrics interleaved (E7)", async () => {
    await withRollback(async (db) => {
      const [earn, spend] = [await aMetric(db), await aMetric(db)];
      const system = await aSystem(db, { max_points: 10 });
      await aTrigger(db, { system, metric: earn, points: 7 });
      await aTrigger(db, { system, metric: spend, points: -4 });
      await give(db, [
        { metric: spend.key, user: "ada" }, // 0: nothing to take, no row
        { metric: earn.key, user: "ada" }, // 7
        { metric: earn.key, user: "bob" }, // bob 7
        { metric: earn.key, user: "ada" }, // 14, capped 10
        { metric: spend.key, user: "ada" }, // 6
        { metric: spend.key, user: "bob" }, // bob 3
        { metric: earn.key, user: "ada" }, // 13, capped 10
        { metric: spend.key, user: "bob" }, // bob -1, floored 0
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +7 7", "7 +3 10", "10 -4 6", "6 +4 10"]);
      expect(await steps(db, "bob", system)).toEqual(["0 +7 7", "7 -4 3", "3 -3 0"]);
    });
  });

  test("a peak inside a statement counts (E3, E7)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 5, points: 1 });
      // running: 12 (fires 2), 2, 13 (none), 15 (fires 1)
      await give(db, [12, -10, 11, 2].map((each) => ({ metric: metric.key, user: "ada", value: each })));
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "15", peak: "15" });
      expect(await steps(db, "ada", system)).toEqual(["0 +2 2", "2 +1 3"]);
      // back down: the peak stays
      await give(db, [{ metric: metric.key, user: "ada", value: "-20.5" }]);
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "-5.5", peak: "15" });
    });
  });

  test("the peak starts from 0, however negative the total (E3)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      // -10, -4, 0, 1: only the last passes the peak of 0
      await give(db, [-10, 6, 4, 1].map((each) => ({ metric: metric.key, user: "ada", value: each })));
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "1", peak: "1" });
      expect(await steps(db, "ada", system)).toEqual(["0 +1 1"]);
    });
  });

  test("totals beyond 15 digits stay exact (E2, E3)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const most = { metric: metric.key, user: "ada", value: "999999999999999.999999999" };
      await give(db, [most, most, most]);
      expect(await metricTotals(db, "ada", metric)).toEqual({
        total: "2999999999999999.999999997",
        peak: "2999999999999999.999999997",
      });
    });
  });

  test("ten tenths make one (E2)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 1 });
      const tenth = { metric: metric.key, user: "ada", value: "0.1" };
      await give(db, Array.from({ length: 9 }, () => tenth));
      expect(await total(db, "ada", system)).toBeNull();
      await give(db, [tenth]);
      expect(await total(db, "ada", system)).toBe("1");
    });
  });

  test("late events count in arrival order and their awards carry their date (E8)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 5 });
      await give(db, [
        { metric: metric.key, user: "ada", at: "2024-03-01T12:00:00Z" },
        { metric: metric.key, user: "ada", at: "2020-01-01T00:00:00Z" },
        { metric: metric.key, user: "ada", at: "2022-06-30T23:59:59.123456Z" },
      ]);
      const found = await db.query(
        `select sequence, total_after, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as date
         from laurel.points_awards order by sequence`,
      );
      expect(found.rows).toEqual([
        { sequence: "1", total_after: "5", date: "2024-03-01 12:00:00.000000" },
        { sequence: "2", total_after: "10", date: "2020-01-01 00:00:00.000000" },
        { sequence: "3", total_after: "15", date: "2022-06-30 23:59:59.123456" },
      ]);
    });
  });

  test("one wrong row refuses its whole statement (E6)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const good = { metric: metric.key, user: "ada" };
      const refused = await refusal(db, async () => {
        await give(db, [good, { ...good, user: "bob" }, { ...good, value: "1e15" }]);
      });
      expect(refused).toEqual(lr("LR011"));
      expect(await countEvents(db)).toBe(0);
      expect((await db.query("select id from laurel.users")).rows).toEqual([]);
    });
  });
});

describe("one row, a thousand rows and COPY", () => {
  test("write identical ledgers, totals and counts", async () => {
    const users = ["ada", "bob", "cyd", "dan", "eve"];
    const outcomes: unknown[] = [];
    for (const [, give] of waysIn) {
      outcomes.push(
        await withRollback(async (db) => {
          await anAttribute(db, { key: "kind", type: "event" });
          await anAttribute(db, { key: "plan", type: "user" });
          const metrics = [await aMetric(db, { key: "m0" }), await aMetric(db, { key: "m1" })] as const;
          const system = await aSystem(db, { key: "s", max_points: 120 });
          await aTrigger(db, { system, type: "user_creation", points: 3 });
          await aTrigger(db, { system, metric: metrics[0], every: 3, points: 5 });
          await aTrigger(db, { system, metric: metrics[1], every: 2, points: -7 });
          await aTrigger(db, { system, metric: metrics[0], every: 4, points: 9, event_attributes: { kind: "book" } });
          for (const user of users.slice(0, 2)) await aUser(db, { id: user, attributes: { plan: "pro" }, tz: "Asia/Tokyo" });
          await db.query(
            `insert into laurel.points_boosts (system_id, name, multiplier, rounding, starts_on, ends_on, user_attributes)
             values ($1, 'b', 1.5, 'nearest', '2024-01-10', '2024-01-20', '{"plan": "pro"}')`,
            [system.id],
          );
          // 1,000 events by arithmetic alone: every way in gets the same ones.
          const events = Array.from({ length: 1000 }, (__, n) => ({
            metric: n % 3 === 0 ? "m1" : "m0",
            user: users[(n * 7) % 5] ?? "",
            value: ((n * 37) % 11) - 2.5,
            attributes: n % 4 === 0 ? { kind: "book" } : n % 4 === 1 ? { kind: "film" } : {},
            key: n % 5 === 0 ? `k${n % 400}` : null,
            at: new Date(Date.UTC(2024, 0, 1 + ((n * 13) % 31), n % 24)).toISOString(),
          }));
          await give(db, events);
          const rows = await db.query(
            `select user_id, sequence, cause, occurred_at, base_points, boost_multiplier, rounding, rounded_points,
               points, total_before, total_after from laurel.points_awards order by user_id, sequence`,
          );
          const state = await db.query(
            "select user_id, metric_key, trim_scale(total) as total, trim_scale(peak) as peak from laurel.user_metrics order by 1, 2",
          );
          const counts = await db.query(
            "select user_id, trim_scale(count) as count, trim_scale(peak) as peak from laurel.points_trigger_counts order by 1",
          );
          return { ledger: rows.rows, state: state.rows, counts: counts.rows, events: await countEvents(db) };
        }),
      );
    }
    const [expected, ...others] = outcomes;
    expect((expected as { ledger: unknown[] }).ledger.length).toBeGreaterThan(300);
    // Keys recur at n + 400 and n + 800; n is a multiple of 5, so the user is the same. Of r, r + 400 and r + 800
    // (r < 200: 40 of them) one is on m1 and two on m0: one replay each. Of r and r + 400 (200 <= r < 400) both are
    // on m0 only when r mod 3 = 1: 205, 220 ... 385, 13 of them. 1000 - 40 - 13 = 947.
    expect((expected as { events: number }).events).toBe(947);
    for (const other of others) expect(other).toEqual(expected);
  });

  test("50,000 rows then one row: both exact in one connection", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, every: 10, points: 1 });
      await db.query(
        `insert into laurel.metric_events (metric_key, user_id, value)
         select $1, 'user' || n % 1000, 1 from generate_series(1, 50000) n`,
        [metric.key],
      );
      // 50 events each: 5 points
      expect(await total(db, "user7", system)).toBe("5");
      await record(db, { metric: metric.key, user: "user7", value: 10 });
      expect(await total(db, "user7", system)).toBe("6");
      const sums = await db.query("select count(*), sum(total) from laurel.points_balances");
      expect(sums.rows).toEqual([{ count: "1000", sum: "5001" }]);
    });
  });
});

describe("settings that a caller invents", () => {
  test.each(["own", "other"])("do not send an event to another metric of its %s tenant", async (whose) => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db);
      await aTrigger(db, { system, metric });
      if (whose === "other") await actFor(db, await aTenant(db));
      const target = await aMetric(db, { key: whose === "other" ? "words" : "coins" });
      const tenants = await db.query<{ id: string }>("select laurel.current_tenant_id() as id");
      await actFor(db, "");
      await db.query("set local role laurel_service");
      for (const [name, value] of [
        ["event_source", " words"],
        ["event_tenant", tenants.rows[0]?.id],
        ["event_metric", target.id],
      ])
        await db.query("select set_config($1, $2, true)", [`laurel_private.${name}`, value]);
      await refusal(db, async () => {
        await insertEvents(db, [{ metric: "words", user: "ada" }]);
        throw new DatabaseError("it went through", 0, "error");
      });
      await db.query("reset role");
      const found = await db.query("select from laurel.metric_events where metric_id = $1", [target.id]);
      expect(found.rowCount).toBe(0);
    });
  });
});

describe("an INSERT", () => {
  test("without a user is refused in words (U1)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const insert = () => db.query("insert into laurel.metric_events (metric_key, user_id) values ($1, null)", [metric.key]);
      expect(await refusal(db, insert)).toEqual(lr("LR010"));
      expect(await refusal(db, () => db.query("insert into laurel.metric_events (user_id) values ('ada')"))).toEqual(
        lr("LR003"),
      );
      expect(await refusal(db, () => db.query("select laurel.record_event($1, null)", [metric.key]))).toEqual(lr("LR010"));
      expect(await refusal(db, () => db.query("select laurel.record_event(null, 'ada')"))).toEqual(lr("LR003"));
    });
  });

  test("in another's clothes fires once per row: from a CTE, from SELECT, from a function", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 2 });
      await db.query(
        `with a as (insert into laurel.metric_events (metric_key, user_id) values ($1, 'ada')),
              b as (insert into laurel.metric_events (metric_key, user_id) select $1, 'ada' from generate_series(1, 3))
         insert into laurel.metric_events (metric_key, user_id) values ($1, 'ada')`,
        [metric.key],
      );
      expect(await metricTotals(db, "ada", metric)).toEqual({ total: "5", peak: "5" });
      expect(await total(db, "ada", system)).toBe("10");
    });
  });

  test("of no row does nothing", async () => {
    await withRollback(async (db) => {
      await db.query("insert into laurel.metric_events (metric_key, user_id) select 'none', 'ada' where false");
      expect(await countEvents(db)).toBe(0);
    });
  });

  test("of nothing but replays changes nothing (E4)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 2 });
      const events = ["a", "b", "c"].map((key) => ({ metric: metric.key, user: "ada", key }));
      await insertEvents(db, events);
      const before = await ledger(db, "ada");
      await insertEvents(db, events);
      await copyEvents(db, events);
      expect(await ledger(db, "ada")).toEqual(before);
      expect(await countEvents(db)).toBe(3);
    });
  });

  test("by a service may set only the six columns of the contract (Q1)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      await db.query("set local role laurel_service");
      await insertEvents(db, [{ metric: metric.key, user: "ada" }]);
      const refused = await refusal(db, () =>
        db.query(
          "insert into laurel.metric_events (metric_key, user_id, metric_id, tenant_id) values ($1, 'ada', $2, gen_random_uuid())",
          [metric.key, metric.id],
        ),
      );
      expect(refused.code).toBe("42501");
      for (const change of ["update laurel.metric_events set value = 5", "delete from laurel.metric_events", "truncate laurel.metric_events"])
        expect((await refusal(db, () => db.query(change))).code).toBe("42501");
    });
  });

  test("of a thousand users in one statement gives each its own sequence from 1 (E8)", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: 2 });
      const prefix = unique("u");
      await db.query(
        "insert into laurel.metric_events (metric_key, user_id) select $1, $2 || n from generate_series(1, 1000) n, generate_series(1, 2)",
        [metric.key, prefix],
      );
      const found = await db.query(
        `select min(sequence), max(sequence), count(*), count(distinct user_id) as users,
           bool_and(total_after = 2 * sequence) as right from laurel.points_awards`,
      );
      expect(found.rows).toEqual([{ min: "1", max: "2", count: "2000", users: "1000", right: true }]);
    });
  });
});
