import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Config } from "@jest/types";
import { Client, escapeIdentifier } from "pg";
import { pino } from "pino";
import { projectDirectory } from "../../src/config.ts";
import type { EmbeddedPostgres } from "../../src/postgres/embedded.ts";
import { migrateDatabase } from "../../src/postgres/migrate.ts";
import { waitFor } from "../../src/postgres/processes.ts";
import { withDatabase } from "./connection_strings.ts";
import { copyServer, startTestServer, sweepTemporaryDirectories } from "./server.ts";

/** What the teardown, in the same process, has to undo. */
export interface TestRun {
  readonly servers: readonly EmbeddedPostgres[];
  readonly adminUrl: string;
  readonly prefix: string;
}

declare global {
  var laurelTestRun: TestRun | undefined;
}

/**
 * Starts a server for each of jest's workers, with a migrated template database from which all others are cloned. One of
 * its own, because what runs in one database of a server can hold up another: a look at what is older than every open
 * transaction, say. A server that was given is shared by all.
 */
export default async function globalSetup({ maxWorkers }: Pick<Config.GlobalConfig, "maxWorkers">): Promise<void> {
  // What jest's workers, and the servers that tests start, load is compiled once.
  process.env["NODE_COMPILE_CACHE"] ??= join(projectDirectory, "node_modules/.cache/compiled");
  await sweepTemporaryDirectories();
  const prefix = `laurel_test_${process.pid}_${randomBytes(3).toString("hex")}`;
  const givenUrl = process.env["TEST_DATABASE_URL"] ?? "";
  const servers = givenUrl === "" ? await startServers(maxWorkers, prefix) : [];
  if (givenUrl !== "") await createTemplate(givenUrl, prefix);
  const urls = givenUrl === "" ? servers.map((server) => server.connectionString("postgres")) : [givenUrl];
  globalThis.laurelTestRun = { servers, adminUrl: urls[0] ?? "", prefix };
  process.env["LAUREL_TEST_ADMIN_URLS"] = urls.join(" ");
  process.env["LAUREL_TEST_PREFIX"] = prefix;
}

/** The first is made, the others are copies of it. */
async function startServers(count: number, prefix: string): Promise<EmbeddedPostgres[]> {
  const first = await startTestServer();
  await createTemplate(first.connectionString("postgres"), prefix);
  if (count === 1) return [first];
  await first.stop();
  const copies = Array.from({ length: count - 1 }, () => copyServer(first));
  return Promise.all([first.dataDirectory, ...copies].map((dataDirectory) => startTestServer(dataDirectory)));
}

async function createTemplate(adminUrl: string, prefix: string): Promise<void> {
  const template = `${prefix}_template`;
  const admin = new Client({ connectionString: adminUrl });
  await admin.connect();
  try {
    await admin.query(`create database ${escapeIdentifier(template)} template template0`);
    await migrateDatabase({
      connectionString: withDatabase(adminUrl, template),
      ownerPassword: passwordOf(adminUrl),
      withServerLogin: true,
      logger: pino({ level: "silent" }),
    });
    // A database with sessions cannot be cloned.
    await waitFor("the template to be left alone", 10_000, async () => {
      const found = await admin.query("select from pg_stat_activity where datname = $1", [template]);
      return found.rowCount === 0;
    });
  } finally {
    await admin.end();
  }
}

function passwordOf(url: string): string | undefined {
  const { password } = new URL(url);
  return password === "" ? undefined : decodeURIComponent(password);
}
