import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { insertEvents, record, refusal } from "../../support/engine.ts";
import { aMetric, type Database } from "../../support/factories.ts";

const settings = async (db: Database): Promise<unknown> =>
  (await db.query<{ settings: unknown }>("select laurel_private.settings_as_json() as settings")).rows[0]?.settings;
const update = async (db: Database, given: object): Promise<unknown> =>
  (await db.query<{ settings: unknown }>("select laurel_private.update_settings($1) as settings", [JSON.stringify(given)])).rows[0]?.settings;
const inControl = async (db: Database): Promise<string[]> =>
  (await db.query<{ id: string }>("select id from laurel.users where control order by id")).rows.map(({ id }) => id);

describe("settings", () => {
  test("are each tenant's own, and every change is in the audit log with who made it", async () => {
    await withRollback(async (db) => {
      await db.query("insert into laurel.tenants (customer_id, name) values ('acme', 'Acme')");
      await db.query("set local role laurel_admin");
      await db.query("select set_config('laurel.actor', 'lk_test', true)");
      await update(db, { experimentation: { controlRatio: 10 } });
      await update(db, {});
      await db.query("set local laurel.tenant = 'acme'");
      expect(await settings(db)).toMatchObject({ branding: { appName: "Acme" }, experimentation: { controlRatio: 0 } });
      await update(db, { branding: { appName: "Ours" } });
      const log = await db.query("select actor, operation, after -> 'app_name' as name from laurel.audit_entries where kind = 'settings' order by id");
      expect(log.rows).toEqual([
        { actor: "key:lk_test", operation: "create", name: null },
        { actor: "key:lk_test", operation: "update", name: "Ours" },
      ]);
      await db.query("set local laurel.tenant = ''");
      expect(await settings(db)).toMatchObject({ branding: { appName: "Default" }, experimentation: { controlRatio: 10 } });
      const others = await db.query("update laurel_private.settings set app_name = 'Everybody' returning tenant_id");
      expect(others.rowCount).toBe(1);
    });
  });

  test("that break a rule are refused in words, and none of them is kept", async () => {
    await withRollback(async (db) => {
      const refused = await refusal(db, () => update(db, { branding: { appName: "Kept?" }, experimentation: { controlRatio: 101 } }));
      expect(refused).toMatchObject({ code: "LR020", message: "experimentation.controlRatio is a whole number from 0 to 100." });
      expect(await settings(db)).toMatchObject({ branding: { appName: "Default" } });
    });
  });

  test.each(["#1a3", "#11AA33", "rgb(1,2,3)", "RGB( 255 , 0 , 10 )", "rgba(1, 2, 3, .5)", "rgba(1, 2, 3, 1)"])("take the color %s", async (color) => {
    await withRollback(async (db) => {
      expect(await update(db, { branding: { brandColor: color } })).toMatchObject({ branding: { brandColor: color } });
    });
  });
});

describe("the control group", () => {
  const users = Array.from({ length: 1_000 }, (_none, no) => `user-${no}`);

  test("is empty until a ratio is set, takes about that share of the users added then, and leaves the others as they were", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db);
      const add = (of: string): Promise<unknown> => insertEvents(db, users.map((user) => ({ metric: metric.key, user: `${of}-${user}` })));
      await add("early");
      expect(await inControl(db)).toEqual([]);
      await update(db, { experimentation: { controlRatio: 10 } });
      await add("early");
      expect(await inControl(db)).toEqual([]);
      await add("late");
      // 1,000 draws of 1 in 10: a hundred, give or take 3 times the deviation of 9.5.
      const group = await inControl(db);
      expect(group.length).toBeGreaterThan(70);
      expect(group.length).toBeLessThan(130);
      expect(group.every((id) => id.startsWith("late-"))).toBe(true);
      await update(db, { experimentation: { controlRatio: 100 } });
      await record(db, { metric: metric.key, user: "one" });
      expect(await inControl(db)).toEqual(["late", "one"].flatMap((of) => (of === "one" ? ["one"] : group)).sort());
    });
  });

  test("is the same whichever way in, and gets points like everybody", async () => {
    await withRollback(async (db) => {
      await update(db, { experimentation: { controlRatio: 50 } });
      const metric = await aMetric(db);
      await insertEvents(db, users.slice(0, 40).map((user) => ({ metric: metric.key, user })));
      const together = await inControl(db);
      expect(together.length).toBeGreaterThan(0);
      expect(together.length).toBeLessThan(40);
      for (const user of users.slice(0, 40)) await db.query("select laurel.erase_user($1)", [user]);
      for (const user of users.slice(0, 40)) await db.query("select laurel.identify_user($1)", [user]);
      expect(await inControl(db)).toEqual(together);
      const shown = await db.query<{ control: boolean }>("select (laurel.user_profile($1) -> 'control')::boolean as control", [together[0]]);
      expect(shown.rows).toEqual([{ control: true }]);
      expect(await record(db, { metric: metric.key, user: together[0] ?? "", value: 3 })).toMatchObject({ total: 3 });
    });
  });
});
