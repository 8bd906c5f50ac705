import { beforeAll, beforeEach, expect, test } from "@jest/globals";
import { inTransaction } from "../../src/postgres/transactions.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
  await database.pools.owner.query("create table notes (text text)");
});

beforeEach(async () => {
  await database.pools.owner.query("truncate notes");
});

const notes = async (): Promise<unknown[]> =>
  (await database.pools.owner.query<{ text: string }>("select text from notes")).rows.map(({ text }) => text);

test("what returns is committed", async () => {
  await inTransaction(database.pools.owner, (client) => client.query("insert into notes values ('kept')"));
  expect(await notes()).toEqual(["kept"]);
});

test("what throws is rolled back, and the error passes through", async () => {
  const failed = inTransaction(database.pools.owner, async (client) => {
    await client.query("insert into notes values ('lost')");
    throw new Error("changed my mind");
  });
  await expect(failed).rejects.toThrow("changed my mind");
  expect(await notes()).toEqual([]);
});

test("settings end with the transaction", async () => {
  const pool = database.pools.service;
  const read = "select current_setting('laurel.tenant', true) as tenant";
  const inside = await inTransaction(pool, (client) => client.query(read), { settings: { "laurel.tenant": "acme" } });
  expect(inside.rows).toEqual([{ tenant: "acme" }]);
  expect((await pool.query(read)).rows).toEqual([{ tenant: "" }]);
});

test("a connection that breaks in the middle is not used again", async () => {
  const broken = inTransaction(database.pools.owner, (client) =>
    client.query("select pg_terminate_backend(pg_backend_pid())"),
  );
  await expect(broken).rejects.toThrow(/terminat/);
  expect(await notes()).toEqual([]);
});
