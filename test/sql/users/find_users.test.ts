import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { as } from "../../support/engine.ts";
import type { Database } from "../../support/factories.ts";

/** Finding users as people look for them (rule D4). */

async function found(db: Database, search: string): Promise<string[]> {
  const rows = await db.query<{ id: string }>("select u.id from laurel.find_users($1) u", [search]);
  return rows.rows.map(({ id }) => id);
}

async function someUsers(db: Database): Promise<void> {
  await db.query(`insert into laurel.users (id, name, email) values
    ('u1', 'Ada Lovelace', 'ada@example.com'), ('u2', 'adam', null), ('Ada', null, 'x_1@example.com'), ('u_3', '100%', 'xy1@example.com'), ('u33', null, null)`);
}

test.each([
  ["ada", ["u1", "u2"]], // capitals do not matter in names and addresses, in IDs they do
  ["Ada", ["Ada", "u1", "u2"]],
  ["lovelace", []], // beginnings alone
  ["ADA@EXAMPLE", ["u1"]],
  ["u_", ["u_3"]], // what LIKE has for letters of its own is a letter like any other
  ["100%", ["u_3"]],
  ["x_1", ["Ada"]],
  ["\\", []],
  ["", ["Ada", "u1", "u2", "u33", "u_3"]],
])("%j finds %j", async (search, ids) => {
  await withRollback(async (db) => {
    await someUsers(db);
    expect(await found(db, search)).toEqual(ids);
  });
});

test("attributes narrow it", async () => {
  await withRollback(async (db) => {
    await someUsers(db);
    await db.query("insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user')");
    await db.query(`update laurel.users set attributes = '{"plan": "pro"}' where id in ('u2', 'u33')`);
    const rows = await db.query<{ id: string }>(`select u.id from laurel.find_users('ada', '{"plan": "pro"}') u`);
    expect(rows.rows).toEqual([{ id: "u2" }]);
  });
});

test("a search reads indexes, not everybody", async () => {
  await withRollback(async (db) => {
    await db.query("insert into laurel.users (id, name, email) select 'u' || n, 'Name ' || n, 'e' || n || '@example.com' from generate_series(1, 5000) n");
    await db.query("analyze laurel.users");
    const plan = await db.query<{ "QUERY PLAN": string }>("explain select * from laurel.find_users('name 77')");
    const text = plan.rows.map((row) => row["QUERY PLAN"]).join("\n");
    expect(text).toMatch(/users_by_name/);
    expect(text).toMatch(/users_by_email/);
    expect(text).not.toMatch(/Seq Scan/);
  });
});

test("a service finds its own tenant's users alone", async () => {
  await withRollback(async (db) => {
    await someUsers(db);
    await db.query("insert into laurel.tenants (customer_id, name) values ('acme', 'Acme')");
    await db.query("set local laurel.tenant = 'acme'");
    await db.query("insert into laurel.users (id, name) values ('road', 'Adam Runner')");
    expect(await as(db, "laurel_service", () => found(db, "ada"))).toEqual(["road"]);
  });
});
