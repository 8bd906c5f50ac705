import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { calculateHash } from "graphile-migrate/dist/hash.js";
import { compileIncludes, serializeMigration } from "graphile-migrate/dist/migration.js";
import { parseSettings } from "graphile-migrate/dist/settings.js";
import { migrationsDirectory } from "../postgres/migrate.ts";

const message = "laurel";
const fileName = `000001-${message}.sql`;

/** The database as it is today, in one piece: fixtures/all.sql with its includes in place. */
export async function compileFixtures(): Promise<string> {
  // Compiling connects to nothing, but settings without an address are refused.
  const settings = await parseSettings({
    connectionString: "postgres://nobody@localhost/nothing",
    migrationsFolder: migrationsDirectory,
  });
  const file = join(migrationsDirectory, "fixtures/all.sql");
  return (await compileIncludes(settings, readFileSync(file, "utf8"), new Set([file]))).trim() + "\n";
}

/** The text of the single committed migration, as graphile-migrate's own `commit` would write it. */
export async function buildMigration(): Promise<string> {
  const body = await compileFixtures();
  return serializeMigration(body, { Previous: "-", Hash: calculateHash(body, null), Message: message });
}

/** Replaces committed/ by one migration built from the fixtures: only right until the first release. */
async function main(): Promise<void> {
  const directory = join(migrationsDirectory, "committed");
  const text = await buildMigration();
  for (const name of readdirSync(directory)) rmSync(join(directory, name));
  writeFileSync(join(directory, fileName), text);
  process.stdout.write(`migrations/committed/${fileName}\n`);
}

if (process.argv[1] === import.meta.filename) await main();
