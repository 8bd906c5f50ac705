import { randomBytes } from "node:crypto";
import { Client, escapeIdentifier } from "pg";
import { pino } from "pino";
import type { EmbeddedPostgres } from "../../src/postgres/embedded.ts";
import { migrateDatabase } from "../../src/postgres/migrate.ts";
import { waitFor } from "../../src/postgres/processes.ts";
import { withDatabase } from "./connection_strings.ts";
import { startTestServer, sweepTemporaryDirectories } from "./server.ts";

/** What the teardown, in the same process, has to undo. */
export interface TestRun {
  readonly server: EmbeddedPostgres | undefined;
  readonly adminUrl: string;
  readonly prefix: string;
}

declare global {
  var laurelTestRun: TestRun | undefined;
}

/** Starts one server for the run and migrates one template database, from which all others are cloned. */
export default async function globalSetup(): Promise<void> {
  await sweepTemporaryDirectories();
  const givenUrl = process.env["TEST_DATABASE_URL"];
  const server = givenUrl === undefined || givenUrl === "" ? await startTestServer() : undefined;
  const adminUrl = server === undefined ? (givenUrl ?? "") : server.connectionString("postgres");
  const prefix = `laurel_test_${process.pid}_${randomBytes(3).toString("hex")}`;
  globalThis.laurelTestRun = { server, adminUrl, prefix };

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
  process.env["LAUREL_TEST_ADMIN_URL"] = adminUrl;
  process.env["LAUREL_TEST_PREFIX"] = prefix;
}

function passwordOf(url: string): string | undefined {
  const { password } = new URL(url);
  return password === "" ? undefined : decodeURIComponent(password);
}
