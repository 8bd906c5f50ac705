import { createHash, randomBytes } from "node:crypto";
import { basename } from "node:path";
import { afterAll, beforeAll, expect } from "@jest/globals";
import { Client, DatabaseError, escapeIdentifier, type Pool, type PoolClient } from "pg";
import { pino } from "pino";
import type { Timeouts } from "../../src/config.ts";
import { createPool, createPools, type DatabaseRole, type Pools } from "../../src/postgres/pools.ts";
import { waitFor } from "../../src/postgres/processes.ts";
import { serverConnectionString } from "../../src/postgres/roles.ts";
import { applySettings } from "../../src/postgres/transactions.ts";
import { withDatabase } from "./connection_strings.ts";

/** Says nothing; for what insists on a logger. */
export const silentLogger = pino({ level: "silent" });

/** Shorter than jest's own limit, so that a stuck statement is named by its own error. */
export const testTimeouts: Timeouts = {
  connectionTimeoutMs: 10_000,
  statementTimeoutMs: 25_000,
  lockTimeoutMs: 20_000,
  idleTransactionTimeoutMs: 60_000,
};

/** A migrated database for one test file alone. */
export interface TestDatabase {
  readonly name: string;
  /** The owner's connection string. */
  readonly connectionString: string;
  /** The weak login's, as request pools use it. */
  readonly serverConnectionString: string;
  /** Pools by role, as the server has them; `pools.owner` bypasses row-level security. */
  readonly pools: Pools;
  /** Ends the pools and drops the database; done after the file's last test in any case. */
  drop: () => Promise<void>;
}

/** How a rolled-back transaction starts. */
export interface RollbackOptions {
  /** Act as this role; without one, as the owner. */
  readonly role?: DatabaseRole;
  /** Settings such as `laurel.tenant`, for the transaction. */
  readonly settings?: Readonly<Record<string, string>>;
}

const adminUrls = required("LAUREL_TEST_ADMIN_URLS").split(" ");
/** This jest worker's own server. */
const adminUrl = adminUrls[(Number(process.env["JEST_WORKER_ID"] ?? 1) - 1) % adminUrls.length] ?? "";
const prefix = required("LAUREL_TEST_PREFIX");
const ownerPassword = passwordOf(adminUrl);
const cleanups: (() => Promise<void>)[] = [];

// Registered by importing this file, so that no test file can forget it.
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

declare global {
  /** Kept from file to file of a jest worker: what its sessions have planned is most of what short tests would wait for. */
  var laurelWorkerPool: Promise<Pool> | undefined;
}

/**
 * Runs `work` as the database's owner (or in a role) in a transaction that is rolled back, and returns what it
 * returns. The database is this jest worker's own, so that parallel files never wait for each other's locks.
 */
export async function withRollback<T>(
  work: (client: PoolClient) => Promise<T>,
  options: RollbackOptions = {},
): Promise<T> {
  const client = await workerConnection();
  try {
    await client.query("begin");
    await applySettings(client, options.settings ?? {});
    if (options.role !== undefined) await client.query(`set local role ${options.role}`);
    return await work(client);
  } finally {
    await client.query("rollback");
    client.release();
  }
}

/**
 * As `withRollback`, for the tests of one `describe` that all begin with the same rows: `arrange` runs once, before the first
 * of them, and each is undone back to it. Statements planned for one test are still planned in the next. The
 * transaction is open until the last of them is over: others of the file do not run in between.
 */
export function startingFrom(arrange: (client: PoolClient) => Promise<void>): <T>(work: (client: PoolClient) => Promise<T>) => Promise<T> {
  let client: PoolClient;
  beforeAll(async () => {
    client = await workerConnection();
    await client.query("begin");
    await arrange(client);
  });
  afterAll(async () => {
    await client.query("rollback");
    client.release();
  });
  return async (work) => {
    await client.query("savepoint arranged");
    try {
      return await work(client);
    } finally {
      await client.query("rollback to savepoint arranged");
    }
  };
}

/**
 * Makes a fresh database from the migrated template, for tests that commit: of concurrency, the worker, HTTP.
 * One per file, in `beforeAll`, is the habit; it takes about a tenth of a second.
 */
export async function cloneDatabase(): Promise<TestDatabase> {
  const name = databaseNameFor(expect.getState().testPath ?? "unknown");
  await createFromTemplate(name);
  const connectionString = withDatabase(adminUrl, name);
  const serverUrl = serverConnectionString(connectionString, ownerPassword);
  const pools = createPools({
    ownerUrl: connectionString,
    serverUrl,
    size: 10,
    timeouts: testTimeouts,
    logger: silentLogger,
  });
  let dropped: Promise<void> | undefined;
  const drop = (): Promise<void> =>
    (dropped ??= (async () => {
      await pools.end();
      await asAdmin((admin) => admin.query(`drop database ${escapeIdentifier(name)} with (force)`));
    })());
  cleanups.push(drop);
  return { name, connectionString, serverConnectionString: serverUrl, pools, drop };
}

/** Makes an empty database, for tests of migrations; returns the owner's connection string. Dropped after the file. */
export async function createEmptyDatabase(): Promise<string> {
  const name = databaseNameFor(expect.getState().testPath ?? "unknown");
  await asAdmin((admin) => admin.query(`create database ${escapeIdentifier(name)} template template0`));
  cleanups.push(async () => {
    await asAdmin((admin) => admin.query(`drop database ${escapeIdentifier(name)} with (force)`));
  });
  return withDatabase(adminUrl, name);
}

/** Waits until `check` answers truly, and returns the answer; fails, naming `what`, after the deadline. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  deadlineMs = 60_000,
): Promise<T> {
  return waitFor(what, deadlineMs, check);
}

async function workerConnection(): Promise<PoolClient> {
  return (await (globalThis.laurelWorkerPool ??= openWorkerPool())).connect();
}

async function openWorkerPool(): Promise<Pool> {
  const name = `${prefix}_worker_${process.env["JEST_WORKER_ID"] ?? "1"}`;
  const known = await asAdmin((admin) =>
    admin.query("select from pg_database where datname = $1", [name]),
  );
  if (known.rowCount === 0) await createFromTemplate(name);
  return createPool({
    connectionString: withDatabase(adminUrl, name),
    name: "test",
    size: 5,
    timeouts: testTimeouts,
    logger: silentLogger,
    // Nobody knows which file is a worker's last.
    allowExitOnIdle: true,
  });
}

/** "object in use": another file is cloning the template at this moment, on a server that is shared. */
const objectInUse = "55006";

async function createFromTemplate(name: string): Promise<void> {
  await waitFor(`a clone of the template`, 20_000, async () => {
    try {
      await asAdmin((admin) =>
        // Copying files takes a third of the time that writing them to the log does.
        admin.query(
          `create database ${escapeIdentifier(name)} template ${escapeIdentifier(`${prefix}_template`)} strategy file_copy`,
        ),
      );
      return true;
    } catch (error) {
      if (error instanceof DatabaseError && error.code === objectInUse) return false;
      throw error;
    }
  });
}

async function asAdmin<T>(work: (admin: Client) => Promise<T>): Promise<T> {
  const admin = new Client({ connectionString: adminUrl });
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

/** Names its file, for whoever looks at the server while tests run; at most 63 bytes. */
function databaseNameFor(testPath: string): string {
  const file = basename(testPath, ".test.ts").replaceAll(/\W/g, "_").slice(0, 20);
  const hash = createHash("sha256").update(testPath).digest("hex").slice(0, 4);
  return `${prefix}_${file}_${hash}${randomBytes(2).toString("hex")}`;
}

function passwordOf(url: string): string | undefined {
  const { password } = new URL(url);
  return password === "" ? undefined : decodeURIComponent(password);
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is missing: run tests through npm test`);
  return value;
}
