import { expect, test } from "@jest/globals";
import { Client } from "pg";
import { ensureRoles, serverLogin } from "../../src/postgres/roles.ts";
import { createEmptyDatabase } from "../support/database.ts";

test("a server login that was restored without its attributes may log in again, and inherits nothing", async () => {
  const client = new Client({ connectionString: await createEmptyDatabase() });
  await client.connect();
  try {
    // Roles are the whole cluster's: nobody else sees this one change.
    await client.query("begin");
    await client.query(`alter role ${serverLogin} nologin inherit`);
    await ensureRoles(client, { ownerPassword: undefined, withServerLogin: true });
    const found = await client.query("select rolcanlogin, rolinherit from pg_roles where rolname = $1", [serverLogin]);
    expect(found.rows).toEqual([{ rolcanlogin: true, rolinherit: false }]);
  } finally {
    await client.query("rollback");
    await client.end();
  }
});
