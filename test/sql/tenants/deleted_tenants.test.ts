import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, first, record, verify } from "../../support/engine.ts";
import { anEndpoint } from "../../support/webhooks.ts";
import { aBoost, aMetric, aSystem, aTenant, type Database } from "../../support/factories.ts";

/** Rule T1: a deleted tenant stops nobody else's work, and nothing of it comes to the next with its customer ID. */

/** A tenant with a leaderboard that ends tomorrow and a queued event, deleted. */
async function aDeletedTenant(db: Database, customerId: string): Promise<void> {
  await actFor(db, await aTenant(db, customerId));
  const metric = await aMetric(db, { key: "words" });
  await db.query(
    `insert into laurel.leaderboards (key, name, rank_by, metric_id, status, starts_on, ends_on)
     values ('top', 'Top', 'metric', $1, 'active', current_date - 5, current_date + 1)`, [metric.id]);
  await record(db, { metric: "words", user: "ada" });
  await db.query(`select laurel_private.enqueue_events('[{"key": "words", "user": {"id": "bob"}, "value": 1}]')`);
  await actFor(db, "default");
  await db.query("update laurel.tenants set archived_at = now() where customer_id = $1", [customerId]);
}

describe.each([["alone", false], ["followed by one with the same customer ID", true]])("a deleted tenant, %s", (_name, isFollowed) => {
  test("does not stop the upkeep of leaderboards", async () => {
    await withRollback(async (db) => {
      await aDeletedTenant(db, "gone");
      if (isFollowed) await aTenant(db, "gone");
      const metric = await aMetric(db);
      await db.query(
        `insert into laurel.leaderboards (key, name, rank_by, metric_id, status, starts_on, ends_on)
         values ('own', 'Own', 'metric', $1, 'active', current_date - 5, current_date + 1)`, [metric.id]);
      await db.query("select laurel_private.upkeep_leaderboards(now() + interval '5 days')");
      const found = await db.query("select key, status from laurel.leaderboards where key in ('own', 'top') order by key");
      expect(found.rows).toEqual([{ key: "own", status: "finished" }, { key: "top", status: "active" }]);
    });
  });

  test("has its queued events refused", async () => {
    await withRollback(async (db) => {
      await aDeletedTenant(db, "gone");
      if (isFollowed) {
        await actFor(db, await aTenant(db, "gone"));
        await aMetric(db, { key: "words" });
      }
      const process = "select laurel_private.process_queued_events() as count";
      expect((await db.query(process)).rows).toEqual([{ count: 1 }]);
      expect((await db.query(process)).rows).toEqual([{ count: 0 }]);
      const { refused_code, refused_message } = first((await db.query<{ refused_code: string; refused_message: string }>(
        "select refused_code, refused_message from laurel_private.queued_events where user_id = 'bob'")).rows);
      expect([refused_code, refused_message]).toEqual(["LR001", "No tenant has the customer ID gone."]);
      expect((await db.query("select from laurel.users where id = 'bob'")).rowCount).toBe(0);
      expect(await verify(db)).toEqual([]);
    });
  });
});

test.each(["default", "gone"])("a deleted tenant's endpoints are told nothing more (deleted from tenant %s)", async (from) => {
  await withRollback(async (db) => {
    await actFor(db, await aTenant(db, "gone"));
    await anEndpoint(db);
    await aBoost(db, { system: await aSystem(db), starts_on: "2100-01-01" });
    await actFor(db, from);
    await db.query("update laurel.tenants set archived_at = now() where customer_id = 'gone'");
    await actFor(db, "default");
    await db.query("select laurel_private.announce_boosts('2100-01-01')");
    expect((await db.query("select from laurel.webhook_messages")).rowCount).toBe(0);
    expect((await db.query("select is_active from laurel.webhook_endpoints")).rows).toEqual([{ is_active: false }]);
  });
});
