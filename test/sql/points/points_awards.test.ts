import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Client, PoolClient } from "pg";
import { cloneDatabase, type TestDatabase, withRollback } from "../../support/database.ts";
import { first, insertEvents, ledger, record, refusal, waysIn } from "../../support/engine.ts";
import { aBoost, aMetric, anAttribute, aSystem, aTrigger, aUser } from "../../support/factories.ts";

/** Rules P3 and P4: the ledger explains itself and cannot be changed. */

describe("a ledger row (P3)", () => {
  test.each(waysIn)("tells cause, base, boosts, rounding, cap and what was added, by %s", async (_, give) => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db, { key: "xp", max_points: 40 });
      const trigger = await aTrigger(db, {
        system,
        metric,
        every: 2,
        points: 5,
        event_attributes: { kind: "book" },
        user_attributes: { plan: "pro" },
      });
      await aUser(db, { id: "ada", attributes: { plan: "pro" } });
      await aBoost(db, { system, name: "A", multiplier: "1.5", rounding: "up" });
      await aBoost(db, { system, name: "B", multiplier: "1.1", rounding: "nearest" });
      await give(db, [
        { metric: "words", user: "ada", value: 7, attributes: { kind: "book" }, at: "2024-05-05T05:05:05Z" },
        { metric: "words", user: "ada", value: 7, attributes: { kind: "book" }, at: "2024-05-06T05:05:05Z" },
      ]);
      // 1: floor(7/2) = 3 firings of 5 = 15; x 1.65 = 24.75, nearest 25
      // 2: floor(14/2) - 3 = 4 firings = 20; x 1.65 = 33; 25 + 33 > 40, so 15
      const rows = await db.query(
        `select a.sequence, a.system_key, a.cause, a.trigger_id, a.metric_key, a.metric_threshold, a.user_attributes,
           a.event_attributes, a.trigger_points, trim_scale(a.firings)::text as firings, a.base_points::text,
           trim_scale(a.boost_multiplier)::text as product, a.rounding, a.rounded_points::text, a.max_points, a.points,
           a.total_before, a.total_after, e.value::int as value, a.occurred_at = e.occurred_at as dated
         from laurel.points_awards a join laurel.metric_events e on e.id = a.event_id order by a.sequence`,
      );
      const common = {
        system_key: "xp",
        cause: "metric",
        trigger_id: trigger.id,
        metric_key: "words",
        metric_threshold: 2,
        user_attributes: { plan: "pro" },
        event_attributes: { kind: "book" },
        trigger_points: 5,
        product: "1.65",
        rounding: "nearest",
        max_points: 40,
        value: 7,
        dated: true,
      };
      expect(rows.rows).toEqual([
        { ...common, sequence: "1", firings: "3", base_points: "15", rounded_points: "25", points: "25", total_before: "0", total_after: "25" },
        { ...common, sequence: "2", firings: "4", base_points: "20", rounded_points: "33", points: "15", total_before: "25", total_after: "40" },
      ]);
    });
  });

  test("stays as it was, whatever is edited later", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db, { max_points: 100 });
      const trigger = await aTrigger(db, { system, metric, points: 5 });
      await aBoost(db, { system });
      await record(db, { metric: metric.key, user: "ada" });
      const before = await ledger(db, "ada");
      await db.query("update laurel.points_triggers set points = -7, metric_threshold = 9, status = 'inactive' where id = $1", [
        trigger.id,
      ]);
      await db.query("update laurel.points_triggers set status = 'archived' where id = $1", [trigger.id]);
      await db.query("update laurel.points_boosts set multiplier = 9, archived_at = now()");
      await db.query("update laurel.points_systems set max_points = 1, name = 'Other', archived_at = now()");
      await db.query("update laurel.metrics set name = 'Other', archived_at = now()");
      expect(await ledger(db, "ada")).toEqual(before);
    });
  });

  test("is not written for a change of 0", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const system = await aSystem(db);
      await aTrigger(db, { system, metric, points: -5 });
      const response = await record(db, { metric: metric.key, user: "ada" });
      expect(response.points).toEqual({});
      expect(await ledger(db, "ada")).toEqual([]);
      expect((await db.query("select from laurel.points_balances")).rowCount).toBe(0);
    });
  });

  test("carries a dense sequence per user and system, over several systems", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const systems = [await aSystem(db), await aSystem(db)] as const;
      await aTrigger(db, { system: systems[0], metric, points: 1 });
      await aTrigger(db, { system: systems[1], metric, every: 2, points: 1 });
      await aTrigger(db, { system: systems[0], metric, points: 2 });
      await insertEvents(db, [1, 1, 1, 1].map((value) => ({ metric: metric.key, user: "ada", value })));
      const sequences = async (n: 0 | 1) => (await ledger(db, "ada", systems[n])).map((row) => Number(row.sequence));
      expect(await sequences(0)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      expect(await sequences(1)).toEqual([1, 2]);
    });
  });
});

describe("nobody can change the ledger (P4)", () => {
  let database: TestDatabase;
  let tables: string[];
  beforeAll(async () => {
    database = await cloneDatabase();
    const metric = await aMetric(database.pools.owner, { key: "words" });
    const system = await aSystem(database.pools.owner);
    await aTrigger(database.pools.owner, { system, metric });
    await insertEvents(database.pools.owner, [
      { metric: "words", user: "ada" },
      { metric: "words", user: "bob" },
    ]);
    const found = await database.pools.owner.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name
       from pg_partition_tree('laurel.points_awards') p
       join pg_class c on c.oid = p.relid join pg_namespace n on n.oid = c.relnamespace order by p.level, 1`,
    );
    tables = found.rows.map((row) => row.name);
  });

  async function inTransaction(client: PoolClient | Client, work: () => Promise<void>): Promise<void> {
    await client.query("begin");
    try {
      await work();
    } finally {
      await client.query("rollback");
    }
  }

  test.each([
    ["update %s set points = points"],
    ["update %s set reason = 'because' where user_id = 'ada'"],
    ["delete from %s"],
    ["delete from %s where user_id = 'ada'"],
    ["truncate %s"],
    ["truncate %s cascade"],
  ])("the owner: %s", async (statement) => {
    const client = await database.pools.owner.connect();
    try {
      expect(tables.length).toBeGreaterThan(2);
      for (const table of tables) {
        const rows = await client.query(`select from ${table}`);
        // A row trigger has nothing to refuse in an empty partition; TRUNCATE is refused regardless.
        if (rows.rowCount === 0 && !statement.startsWith("truncate")) continue;
        await inTransaction(client, async () => {
          expect({ table, ...(await refusal(client, () => client.query(statement.replace("%s", table)))) }).toEqual(
            expect.objectContaining({ table, ...lrParts }),
          );
        });
      }
    } finally {
      client.release();
    }
    expect((await database.pools.owner.query("select from laurel.points_awards")).rowCount).toBe(2);
  });
  const lrParts = { code: "LR050", detail: expect.stringMatching(/\S/), hint: expect.stringMatching(/adjust_points/) };

  test("a MERGE by the owner", async () => {
    await withOwner(async (client) => {
      const merge = `merge into laurel.points_awards a using (values ('ada')) v (id) on a.user_id = v.id
        when matched then update set points = 5`;
      expect((await refusal(client, () => client.query(merge))).code).toBe("LR050");
    });
  });

  test.each(["users", "tenants", "points_systems", "metrics", "metric_events"])(
    "by deleting %s, the owner neither",
    async (table) => {
      await withOwner(async (client) => {
        await client.query("savepoint before");
        await client.query(`delete from laurel.${table}`).catch(() => client.query("rollback to before"));
        expect((await client.query("select from laurel.points_awards")).rowCount).toBe(2);
      });
    },
  );

  test("the setting that erasing a user uses does not open the ledger to an UPDATE", async () => {
    await withOwner(async (client) => {
      await client.query(
        "select set_config('laurel_private.erasing_user', tenant_id || '/ada', true) from laurel.points_awards",
      );
      expect((await refusal(client, () => client.query("update laurel.points_awards set points = 5"))).code).toBe("LR050");
      expect((await refusal(client, () => client.query("delete from laurel.points_awards where user_id = 'bob'"))).code).toBe(
        "LR050",
      );
    });
  });

  test.each(["admin", "service", "user"] as const)("the API's role %s", async (role) => {
    const client = await database.pools[role].connect();
    try {
      for (const table of tables) {
        for (const statement of [
          `insert into ${table} select * from laurel.points_awards`,
          `update ${table} set points = 5`,
          `delete from ${table}`,
          `truncate ${table}`,
        ])
          await inTransaction(client, async () => {
            await client.query("select set_config('laurel.user_id', 'ada', true)");
            expect({ statement, code: (await refusal(client, () => client.query(statement))).code }).toEqual({
              statement,
              code: "42501",
            });
          });
      }
    } finally {
      client.release();
    }
  });

  test.each(["admin", "service", "user"] as const)("%s cannot write what is derived either", async (role) => {
    const client = await database.pools[role].connect();
    try {
      for (const table of ["user_metrics", "points_balances", "points_trigger_counts", "users"])
        for (const statement of [`update laurel.${table} set tenant_id = tenant_id`, `delete from laurel.${table}`])
          await inTransaction(client, async () => {
            expect({ statement, code: (await refusal(client, () => client.query(statement))).code }).toEqual({
              statement,
              code: expect.stringMatching("42501|55000"),
            });
          });
    } finally {
      client.release();
    }
  });

  async function withOwner(work: (client: PoolClient) => Promise<void>): Promise<void> {
    const client = await database.pools.owner.connect();
    try {
      await inTransaction(client, () => work(client));
    } finally {
      client.release();
    }
  }
});

describe("the total equals the sum of the ledger (P4)", () => {
  test("after awards, deductions, cap and floor", async () => {
    await withRollback(async (db) => {
      const [earn, spend] = [await aMetric(db), await aMetric(db)];
      const system = await aSystem(db, { max_points: 25 });
      await aTrigger(db, { system, metric: earn, points: 7 });
      await aTrigger(db, { system, metric: spend, points: -11 });
      for (let n = 0; n < 40; n++)
        await record(db, { metric: n % 3 === 1 ? spend.key : earn.key, user: "ada", value: 1 + (n % 2) });
      const found = await db.query(
        `select b.total = sum(a.points) as equal, b.last_sequence = count(*) as dense
         from laurel.points_balances b join laurel.points_awards a using (tenant_id, user_id, system_id)
         group by b.total, b.last_sequence`,
      );
      expect(found.rows).toEqual([{ equal: true, dense: true }]);
      expect(first(await ledger(db, "ada")).sequence).toBe("1");
    });
  });
});
