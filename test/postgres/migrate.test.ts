import { expect, test } from "@jest/globals";
import { Client } from "pg";
import { ConfigError } from "../../src/config.ts";
import { migrateDatabase, type MigrateOptions } from "../../src/postgres/migrate.ts";
import { createEmptyDatabase, silentLogger } from "../support/database.ts";

const optionsFor = (connectionString: string): MigrateOptions => {
  const { password } = new URL(connectionString);
  return {
    connectionString,
    ownerPassword: password === "" ? undefined : decodeURIComponent(password),
    withServerLogin: true,
    logger: silentLogger,
  };
};

const withClient = async <T>(connectionString: string, work: (client: Client) => Promise<T>): Promise<T> => {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
};

test("processes that migrate one empty database together all succeed, and it is migrated once", async () => {
  const url = await createEmptyDatabase();
  await Promise.all([1, 2, 3].map(() => migrateDatabase(optionsFor(url))));
  const applied = await withClient(url, (client) => client.query("select filename from graphile_migrate.migrations"));
  expect(applied.rows).toEqual([{ filename: "000001.sql" }]);
});

test("databases of one server are migrated together without a clash over their shared roles", async () => {
  const urls = [await createEmptyDatabase(), await createEmptyDatabase(), await createEmptyDatabase()];
  await expect(Promise.all(urls.map((url) => migrateDatabase(optionsFor(url))))).resolves.toBeDefined();
});

test("migrating again changes nothing", async () => {
  const url = await createEmptyDatabase();
  await migrateDatabase(optionsFor(url));
  await expect(migrateDatabase(optionsFor(url))).resolves.toBeUndefined();
});

test("a database whose migration was rewritten since is refused", async () => {
  const url = await createEmptyDatabase();
  await migrateDatabase(optionsFor(url));
  await withClient(url, (client) => client.query("update graphile_migrate.migrations set hash = 'sha1:older'"));
  await expect(migrateDatabase(optionsFor(url))).rejects.toThrow(ConfigError);
});

test("a database of a newer Laurel is refused", async () => {
  const url = await createEmptyDatabase();
  await migrateDatabase(optionsFor(url));
  await withClient(url, (client) =>
    client.query(
      "insert into graphile_migrate.migrations (hash, previous_hash, filename) select 'sha1:newer', hash, '999999.sql' from graphile_migrate.migrations",
    ),
  );
  await expect(migrateDatabase(optionsFor(url))).rejects.toThrow(/newer Laurel/);
});

test("a database that does not exist is refused in one line", async () => {
  const url = new URL(await createEmptyDatabase());
  url.pathname = "/there_is_no_such_database";
  await expect(migrateDatabase(optionsFor(url.href))).rejects.toThrow(/^DATABASE_URL: cannot connect: .+$/);
});
