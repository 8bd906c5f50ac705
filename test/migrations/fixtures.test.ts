import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { Client } from "pg";
import { buildMigration, compileFixtures } from "../../src/cli/build_migration.ts";
import { migrationsDirectory } from "../../src/postgres/migrate.ts";
import { readCatalogue } from "../support/catalogue.ts";
import { cloneDatabase, createEmptyDatabase, withRollback } from "../support/database.ts";

test("fixtures/all.sql and committed/ build the same database", async () => {
  const committed = new Client({ connectionString: (await cloneDatabase()).connectionString });
  const fixtures = new Client({ connectionString: await createEmptyDatabase() });
  await Promise.all([committed.connect(), fixtures.connect()]);
  try {
    await fixtures.query(await compileFixtures());
    const expected = await readCatalogue(fixtures);
    expect(expected.length).toBeGreaterThan(0);
    expect(await readCatalogue(committed)).toEqual(expected);
  } finally {
    await Promise.all([committed.end(), fixtures.end()]);
  }
});

test.each([
  "grant usage on schema laurel_private to laurel_user",
  "comment on schema laurel is 'changed'",
  "create table laurel.extra ()",
  "create function laurel.extra() returns int language sql as 'select 1'",
  "create domain laurel.extra as text",
])("the comparison of catalogues sees: %s", async (change) => {
  await withRollback(async (client) => {
    const before = await readCatalogue(client);
    await client.query(change);
    expect(await readCatalogue(client)).not.toEqual(before);
  });
});

// Goes with the first release: from then on committed/ grows by one file for each change.
test("the one committed migration is what npm run sql:build writes", async () => {
  const directory = join(migrationsDirectory, "committed");
  const files = readdirSync(directory);
  expect(files).toEqual(["000001-laurel.sql"]);
  expect(readFileSync(join(directory, files[0] ?? ""), "utf8")).toBe(await buildMigration());
});

test("every fixture is in the table of contents", async () => {
  const directory = join(migrationsDirectory, "fixtures");
  const compiled = await compileFixtures();
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".sql"));
  const included = new Set([...compiled.matchAll(/^--! Included (.+)$/gm)].map(([, name]) => name));
  expect(files.filter((name) => name !== "all.sql" && !included.has(name))).toEqual([]);
});

test("nothing waits in current.sql", () => {
  const current = readFileSync(join(migrationsDirectory, "current.sql"), "utf8");
  expect(current.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("--"))).toEqual([]);
});
