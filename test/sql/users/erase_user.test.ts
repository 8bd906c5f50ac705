import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, first, insertEvents, record, refusal, verify } from "../../support/engine.ts";
import { aBoost, aMetric, anAttribute, aSystem, aTenant, aTrigger, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rule K4: a user can be taken out whole, and erased; the systems' figures stay right. */

const ask = async <T>(db: Database, call: string): Promise<T> =>
  first((await db.query<{ answer: T }>(`select ${call} as answer`)).rows).answer;

async function twoUsers(db: Database) {
  await anAttribute(db, { key: "kind", type: "event" });
  const metric = await aMetric(db, { key: "words" });
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, metric, points: 10, event_attributes: { kind: "book" } });
  await aTrigger(db, { system, type: "user_creation", points: 3 });
  for (const user of ["ada", "bob"]) {
    await record(db, { metric: "words", user, value: 2, attributes: { kind: "book" }, key: "k", at: "2026-01-01T23:00:00Z", profile: { name: user } });
    await insertEvents(db, [{ metric: "words", user, value: 1, attributes: { kind: "book" }, at: "2026-01-02T01:00:00Z" }]);
  }
  await aBoost(db, { system, user_id: "ada" });
  await db.query("select laurel.adjust_points('xp', 'ada', -5, 'A correction', 'a1')");
  return { metric, system };
}

/** How many rows of every table with a user column name this user. */
async function tracesOf(db: Database, user: string): Promise<Record<string, number>> {
  const tables = await db.query<{ name: string; column: string }>(
    `select c.oid::regclass::text as name, a.attname as column from pg_class c
     join pg_attribute a on a.attrelid = c.oid and (a.attname = 'user_id' or c.relname = 'users' and a.attname = 'id')
     where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace) and c.relkind in ('r', 'p') and not c.relispartition`,
  );
  const found: Record<string, number> = {};
  for (const { name, column } of tables.rows) {
    const { rowCount } = await db.query(`select from ${name} where ${column} = $1`, [user]);
    if (rowCount !== null && rowCount > 0) found[name] = rowCount;
  }
  return found;
}

describe("export_user()", () => {
  test("has everything: profile, totals, events, explained awards, boosts", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      const found = await ask<Record<string, unknown[]>>(db, "laurel.export_user('ada')");
      expect(found).toMatchObject({
        user: { id: "ada", name: "ada" },
        preferences: { notifications: {} },
        metrics: [{ key: "words", total: 3, peak: 3 }],
        // 3 for being there, 20 and 10 for words, 5 taken back.
        points: [{ key: "xp", total: 28 }],
        events: [{ value: 2, idempotencyKey: "k", attributes: { kind: "book" } }, { value: 1 }],
        boosts: [{ multiplier: 2 }],
        apiKeys: [],
      });
      expect((found["awards"] as { points: number }[]).map(({ points }) => points)).toEqual([3, 20, 10, -5]);
      expect(JSON.stringify(found)).not.toContain("bob");
    });
  });

  test("has what batches brought and was not recorded, with the reason", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      await db.query(`select laurel_private.enqueue_events('[
        {"key": "words", "user": {"id": "ada", "email": "ada@example.com"}, "value": 1}, {"key": "words", "user": {"id": "bob"}, "value": 1}]')`);
      await db.query("update laurel_private.queued_events set refused_code = 'LR030', refused_message = 'Not enough points.'");
      expect(await ask(db, "laurel.export_user('ada') -> 'queuedEvents'")).toMatchObject([
        { metricKey: "words", value: 1, profile: { email: "ada@example.com" }, error: "Not enough points." },
      ]);
    });
  });

  test("and erase_user() are for admins, of their tenant's users", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      for (const call of ["laurel.export_user('ada')", "laurel.erase_user('ada')"]) {
        expect((await refusal(db, () => as(db, "laurel_service", () => ask(db, call)))).code).toBe("42501");
        expect((await refusal(db, () => as(db, "laurel_user", () => ask(db, call)))).code).toBe("42501");
      }
      await actFor(db, await aTenant(db));
      for (const call of ["laurel.export_user('ada')", "laurel.erase_user('ada')"])
        expect(await refusal(db, () => as(db, "laurel_admin", () => ask(db, call)))).toEqual(lr("LR002", "ada"));
    });
  });
});

describe("erase_user()", () => {
  test("leaves no row that names the user, and every other user's rows", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      await db.query(
        `insert into laurel_private.api_keys (kind, prefix, key_sha256, tenant_id, user_id)
         values ('application', 'p', sha256('x'), laurel.current_tenant_id(), 'ada')`,
      );
      await db.query(`select laurel_private.enqueue_events('[{"key": "words", "user": {"id": "ada"}, "value": 1}]')`);
      const before = await tracesOf(db, "bob");
      expect(Object.keys(await tracesOf(db, "ada")).length).toBeGreaterThan(6);
      await as(db, "laurel_admin", () => ask(db, "laurel.erase_user('ada')"));
      expect(await tracesOf(db, "ada")).toEqual({});
      expect(await tracesOf(db, "bob")).toEqual(before);
      const log = await db.query<{ text: string }>("select to_jsonb(l)::text as text from laurel.audit_entries l");
      expect(log.rows.filter(({ text }) => text.includes('"ada"'))).toEqual([]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("keeps what was earned in the systems' figures, by trigger and day", async () => {
    await withRollback(async (db) => {
      const { system } = await twoUsers(db);
      const figures = async (): Promise<unknown> =>
        (
          await db.query<Record<string, unknown>>(
            `select cause, day::text as day, sum(points)::int as points, sum(awards)::int as awards from (
               select cause, (occurred_at at time zone 'UTC')::date as day, points, 1 as awards
               from laurel.points_awards where system_id = $1
               union all select cause, day, earned - deducted, awards from laurel_private.erased_points where system_id = $1) x
             where cause <> 'adjustment' group by 1, 2 order by 1, 2`,
            [system.id],
          )
        ).rows;
      const before = await figures();
      await ask(db, "laurel.erase_user('ada')");
      expect(await figures()).toEqual(before);
      const left = await db.query("select cause, day::text as day, earned::int as points, awards::int from laurel_private.erased_points where cause = 'metric' order by 2");
      expect(left.rows).toEqual([
        { cause: "metric", day: "2026-01-01", points: 20, awards: 1 },
        { cause: "metric", day: "2026-01-02", points: 10, awards: 1 },
      ]);
    });
  });

  test("lets the user begin anew: the key counts again, and user_creation fires again", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      await ask(db, "laurel.erase_user('ada')");
      const again = await record(db, { metric: "words", user: "ada", value: 1, attributes: { kind: "book" }, key: "k" });
      expect(again).toMatchObject({ idempotentReplayed: false, total: 1, points: { xp: { total: 13, added: 13 } } });
      expect(await verify(db)).toEqual([]);
    });
  });

  test("erases whom batches alone have brought so far, and nobody else's", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      await db.query(`select laurel_private.enqueue_events('[
        {"key": "words", "user": {"id": "eve"}, "value": 1}, {"key": "words", "user": {"id": "bob"}, "value": 1}]')`);
      expect(await ask(db, "laurel.erase_user('eve')")).toBe(true);
      expect(await tracesOf(db, "eve")).toEqual({});
      expect(await tracesOf(db, "bob")).toMatchObject({ "laurel_private.queued_events": 1 });
      expect(await refusal(db, () => ask(db, "laurel.erase_user('eve')"))).toEqual(lr("LR002", "eve"));
    });
  });

  test("is the one way: the ledger still refuses to be changed afterwards", async () => {
    await withRollback(async (db) => {
      await twoUsers(db);
      await ask(db, "laurel.erase_user('ada')");
      expect((await refusal(db, () => db.query("delete from laurel.points_awards"))).code).toBe("LR050");
      expect((await refusal(db, () => db.query("update laurel.audit_entries set actor = 'x'"))).code).toBe("LR051");
      expect(await refusal(db, () => ask(db, "laurel.erase_user('ada')"))).toEqual(lr("LR002", "ada"));
    });
  });
});
