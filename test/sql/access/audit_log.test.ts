import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, first, refusal } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAttribute, aSystem, aTenant, aTrigger, type Database } from "../../support/factories.ts";

/** Rule K5: who changed what, when, before and after. */

type Entry = { tenant_id: string | null; actor: string; operation: string; kind: string; object_key: string | null; before: Record<string, unknown> | null; after: Record<string, unknown> | null };

const latest = async (db: Database): Promise<Entry> =>
  first((await db.query<Entry>("select * from laurel.audit_entries order by id desc limit 1")).rows);
const count = async (db: Database): Promise<number> => (await db.query("select from laurel.audit_entries")).rowCount ?? 0;

describe("the audit log", () => {
  test("has creation, change and end of every kind of configuration", async () => {
    await withRollback(async (db) => {
      const attribute = await anAttribute(db, { key: "plan" });
      expect(await latest(db)).toMatchObject({ operation: "create", kind: "attributes", object_key: "plan", before: null, after: { key: "plan" } });
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db, { key: "xp" });
      const trigger = await aTrigger(db, { system, metric });
      const boost = await aBoost(db, { system });
      const level = await aLevel(db, { system, key: "gold" });
      const changes: readonly (readonly [string, string, string])[] = [
        [`update laurel.metrics set name = 'Pages' where id = '${metric.id}'`, "metrics", "update"],
        [`update laurel.points_systems set max_points = 5 where id = '${system.id}'`, "points_systems", "update"],
        [`update laurel.points_triggers set points = 9 where id = '${trigger.id}'`, "points_triggers", "update"],
        [`update laurel.points_triggers set status = 'archived' where id = '${trigger.id}'`, "points_triggers", "archive"],
        [`update laurel.points_boosts set archived_at = now() where id = '${boost.id}'`, "points_boosts", "archive"],
        [`delete from laurel.points_levels where id = '${level.id}'`, "points_levels", "delete"],
        [`delete from laurel.attributes where id = '${attribute.id}'`, "attributes", "delete"],
        [`update laurel.metrics set archived_at = now() where id = '${metric.id}'`, "metrics", "archive"],
        ["update laurel.tenants set name = 'Main'", "tenants", "update"],
      ];
      for (const [statement, kind, operation] of changes) {
        await db.query(statement);
        const entry = await latest(db);
        expect({ statement, ...entry }).toMatchObject({ statement, kind, operation });
        expect(entry.before).not.toBeNull();
        expect(entry.after === null).toBe(operation === "delete");
      }
      await db.query(`update laurel.points_systems set max_points = 6 where id = '${system.id}'`);
      expect(await latest(db)).toMatchObject({ before: { max_points: 5 }, after: { max_points: 6 } });
    });
  });

  test("says who: the key that the server named, or the database role", async () => {
    await withRollback(async (db) => {
      await as(db, "laurel_admin", () => db.query("insert into laurel.metrics (key, name) values ('one', 'One')"));
      expect((await latest(db)).actor).toBe("role:laurel_admin");
      await db.query("select set_config('laurel.actor', 'lk_1234', true)");
      await db.query("insert into laurel.metrics (key, name) values ('two', 'Two')");
      expect((await latest(db)).actor).toBe("key:lk_1234");
    });
  });

  test("keeps no secret, and no entry of what changed nothing", async () => {
    await withRollback(async (db) => {
      await db.query("insert into laurel_private.api_keys (kind, prefix, key_sha256) values ('admin', 'lk_x', sha256('secret'))");
      const entry = await latest(db);
      expect(entry).toMatchObject({ kind: "api_keys", object_key: "lk_x", tenant_id: null });
      expect(JSON.stringify(entry)).not.toMatch(/sha256/);
      const before = await count(db);
      await db.query("update laurel_private.api_keys set last_used_at = now() where prefix = 'lk_x'");
      await db.query("update laurel.tenants set name = name");
      expect(await count(db)).toBe(before);
    });
  });

  test("is read by admins, of their own tenant and of the account", async () => {
    await withRollback(async (db) => {
      await aMetric(db);
      await actFor(db, await aTenant(db));
      await aMetric(db, { key: "theirs" });
      const seen = await as(db, "laurel_admin", async () => (await db.query<Entry>("select * from laurel.audit_entries")).rows);
      expect(seen.filter(({ kind }) => kind === "metrics").map(({ object_key }) => object_key)).toEqual(["theirs"]);
      expect(seen.some(({ kind }) => kind === "tenants")).toBe(true);
      for (const role of ["laurel_service", "laurel_user"] as const)
        expect((await refusal(db, () => as(db, role, () => db.query("select from laurel.audit_entries")))).code).toBe("42501");
    });
  });

  test("cannot be changed, by the database's owner either", async () => {
    await withRollback(async (db) => {
      await aMetric(db);
      for (const statement of ["update laurel.audit_entries set actor = 'x'", "delete from laurel.audit_entries", "truncate laurel.audit_entries"])
        expect((await refusal(db, () => db.query(statement))).code).toBe("LR051");
    });
  });
});
