import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first } from "../../support/engine.ts";
import { aBoost, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";

const remove = async (db: Database): Promise<number> =>
  first((await db.query<{ n: number }>("select laurel_private.remove_expired() as n")).rows).n;
const count = async (db: Database, table: string): Promise<number> =>
  first((await db.query<{ n: number }>(`select count(*)::int as n from laurel_private.${table}`)).rows).n;

test("reports are removed after 30 days, not before", async () => {
  await withRollback(async (db) => {
    const boost = await aBoost(db, { system: await aSystem(db) });
    for (const age of ["30 days 1 minute", "29 days 23 hours"]) {
      await db.query(
        `insert into laurel_private.queued_events (id, tenant_id, user_id, metric_key, value, attributes, occurred_at, is_alone, refused_code, refused_message)
         values (laurel_private.first_uuid_v7(now() - $1::interval), laurel.current_tenant_id(), 'ada', 'm', 1, '{}', now(), false, 'LR011', 'No')`, [age]);
      await db.query(
        `insert into laurel_private.boost_announcements (id, tenant_id, boost_id, type, due_at, announced_at)
         values (laurel_private.first_uuid_v7(now() - $1::interval), laurel.current_tenant_id(), $2, 'started', now(), now())`, [age, boost.id]);
    }
    // What waits is never removed.
    await db.query(
      `insert into laurel_private.queued_events (id, tenant_id, user_id, metric_key, value, attributes, occurred_at, is_alone)
       values (laurel_private.first_uuid_v7(now() - interval '1 year'), laurel.current_tenant_id(), 'ada', 'm', 1, '{}', now(), false)`);
    expect(await remove(db)).toBe(2);
    expect(await remove(db)).toBe(0);
    expect([await count(db, "queued_events"), await count(db, "boost_announcements")]).toEqual([2, 1]);
  });
});

test("clocks of an activation that has ended go when what was due is applied, and its span is over", async () => {
  await withRollback(async (db) => {
    const system = await aSystem(db, { max_points: 1 });
    const trigger = await aTrigger(db, { system, type: "time", time_unit: "hours", time_interval: 1 });
    const user = await aUser(db);
    expect(await remove(db)).toBe(0);
    await db.query("update laurel.points_triggers set status = 'inactive' where id = $1", [trigger.id]);
    await db.query(`update laurel_private.time_trigger_spans
      set activated_at = now() - interval '3 hours', begins_at = now() - interval '3 hours', ends_at = now() - interval '1 minute'`);
    await db.query(`update laurel_private.user_clocks
      set activated_at = now() - interval '3 hours', started_at = now() - interval '3 hours', next_due_at = now() - interval '2 hours'`);
    expect(await remove(db)).toBe(0);
    await db.query("select laurel.run_due_time_triggers()");
    const total = await db.query<{ total: string }>("select total from laurel.points_balances where user_id = $1", [user.id]);
    expect(total.rows).toEqual([{ total: "1" }]);
    expect(await remove(db)).toBe(1);
    expect(await count(db, "user_clocks")).toBe(0);
    expect((await db.query("select is_over from laurel_private.time_trigger_spans")).rows).toEqual([{ is_over: true }]);
  });
});
