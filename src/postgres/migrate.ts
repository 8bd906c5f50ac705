import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { migrate, Logger as MigrateLogger } from "graphile-migrate";
import { clearAllPools } from "graphile-migrate/dist/pg.js";
import { Logger as WorkerLogger, runMigrations } from "graphile-worker";
import { Client } from "pg";
import type { Logger } from "pino";
import { ConfigError, projectDirectory } from "../config.ts";
import { isLostConnection } from "./errors.ts";
import { waitFor } from "./processes.ts";
import { ensureRoles } from "./roles.ts";

/** The folder that holds fixtures/, committed/ and current.sql. */
export const migrationsDirectory: string = join(projectDirectory, "migrations");

/** What a migration needs to know. */
export interface MigrateOptions {
  /** The owner's connection string. */
  readonly connectionString: string;
  readonly ownerPassword: string | undefined;
  /** False when the installation brought its own weak login. */
  readonly withServerLogin: boolean;
  readonly logger: Logger;
}

const oldestVersion = 150000;
/** Any number that nobody else uses: "LAUREL" on a phone's keypad. */
const migrationLock = 528735;
/** A database in a neighbouring container is often slower to start than we are. */
const connectDeadlineMs = 20_000;

/**
 * Brings a database up to date: roles, the job queue's tables, then Laurel's own. Safe to run from any number of
 * processes at once; all but one wait, then find nothing left to do. Throws `ConfigError` when the
 * database cannot be used.
 */
export async function migrateDatabase(options: MigrateOptions): Promise<void> {
  const { connectionString, logger } = options;
  const client = await connect(connectionString, logger);
  try {
    await refuseOldServers(client);
    // graphile-migrate itself gives up at once when another process migrates; so wait our turn first.
    await client.query("select pg_advisory_lock($1)", [migrationLock]);
    await ensureRoles(client, options);
    await runMigrations({ connectionString, logger: workerLogger(logger) });
    await refuseRewrittenHistory(client);
    await migrate({ connectionString, migrationsFolder: migrationsDirectory, logger: migrateLogger(logger) });
  } finally {
    // It keeps its connections a while, and ends the process when one breaks.
    clearAllPools();
    await client.end();
  }
}

async function connect(connectionString: string, logger: Logger): Promise<Client> {
  let failure: Error | undefined;
  return waitFor("the database", connectDeadlineMs, async () => {
    const client = new Client({
      connectionString,
      application_name: "laurel migrate",
      statement_timeout: 0, // waiting for another process's migration takes as long as that takes
      connectionTimeoutMillis: 5_000,
    });
    client.on("error", (error) => {
      logger.warn({ err: error }, "lost the connection while migrating");
    });
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (failure === undefined) logger.warn({ err: error }, "the database cannot be reached yet");
      failure = error as Error;
      const { code } = failure as { code?: string };
      if (!isLostConnection(error) || code === "ENOTFOUND") throw unusable(failure);
      return false;
    }
  }).catch((error: unknown) => {
    throw error instanceof ConfigError ? error : unusable(failure ?? (error as Error));
  });
}

function unusable(error: Error): ConfigError {
  const reasons = error instanceof AggregateError ? (error.errors as Error[]) : [error];
  const reason = reasons.map(({ message }) => message).join(", ");
  return new ConfigError(`DATABASE_URL: cannot connect: ${reason}`);
}

async function refuseOldServers(client: Client): Promise<void> {
  const found = await client.query<{ number: number; name: string }>(
    "select current_setting('server_version_num')::int as number, current_setting('server_version') as name",
  );
  const version = found.rows[0];
  if (version !== undefined && version.number < oldestVersion) {
    throw new ConfigError(`DATABASE_URL: Laurel needs PostgreSQL 15 or newer; this is ${version.name}`);
  }
}

/**
 * Refuses a database that an earlier text of a committed migration built. graphile-migrate compares file names only,
 * and until the first release the one migration is rewritten: it would call such a database up to date.
 */
async function refuseRewrittenHistory(client: Client): Promise<void> {
  const known = await client.query("select to_regclass('graphile_migrate.migrations') is not null as known");
  if (!(known.rows[0] as { known: boolean }).known) return;
  const applied = await client.query<{ filename: string; hash: string }>(
    "select filename, hash from graphile_migrate.migrations",
  );
  const committed = committedHashes();
  for (const { filename, hash } of applied.rows) {
    const number = filename.slice(0, 6);
    if (committed.get(number) === hash) continue;
    throw new ConfigError(
      committed.has(number)
        ? "this database was made by an unreleased version of Laurel whose tables have changed since: use an empty database or another LAUREL_DATA_DIR"
        : `this database was migrated by a newer Laurel (migration ${filename}): upgrade Laurel`,
    );
  }
}

/** The hash in the header of each committed migration, by the six digits its name starts with. */
function committedHashes(): ReadonlyMap<string, string> {
  const directory = join(migrationsDirectory, "committed");
  return new Map(
    readdirSync(directory)
      .filter((name) => name.endsWith(".sql"))
      .map((name) => {
        const text = readFileSync(join(directory, name), "utf8");
        return [name.slice(0, 6), /^--! Hash: (\S+)$/m.exec(text)?.[1] ?? ""];
      }),
  );
}

function migrateLogger(logger: Logger): MigrateLogger {
  return new MigrateLogger(() => (level, message) => {
    logAt(logger, level, message);
  });
}

/** graphile-worker's messages as ours; used by the worker as well. */
export function workerLogger(logger: Logger): WorkerLogger {
  return new WorkerLogger(() => (level, message) => {
    logAt(logger, level, message);
  });
}

/** A level lower than theirs, since what is news to a tool is detail here. */
function logAt(logger: Logger, level: string, message: string): void {
  if (level === "error") logger.error(message);
  else if (level === "warning") logger.warn(message);
  else logger.debug(message);
}
