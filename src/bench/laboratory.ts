import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, escapeIdentifier } from "pg";
import { pino } from "pino";
import { startEmbedded, stopLeftOver } from "../postgres/embedded.ts";
import { migrateDatabase } from "../postgres/migrate.ts";
import { isAlive } from "../postgres/processes.ts";

/** A server to measure on, and the databases made there. */
export interface Laboratory {
  /** As the server names itself, with how it was reached. */
  readonly server: string;
  /** Makes a migrated database with Laurel's configuration and the floors (setup.sql); returns the owner's connection string. */
  readonly createDatabase: (name: string) => Promise<string>;
  /** Drops the databases and, of a server of our own, everything. */
  readonly close: () => Promise<void>;
}

const folderPrefix = "laurel-bench-";
const silent = pino({ level: "silent" });

/**
 * Opens the given server, or starts an embedded one in a temporary folder, with the durability of a real installation: fsync on,
 * every commit on disk. Roles, which belong to a whole server, are dropped again where they were not there before.
 */
export async function openLaboratory(url: string | undefined): Promise<Laboratory> {
  await sweepFoldersOfTheDead();
  const embedded =
    url === undefined
      ? await startEmbedded({
          dataDirectory: join(tmpdir(), `${folderPrefix}${process.pid}-${randomBytes(4).toString("hex")}`),
          logger: silent,
        })
      : undefined;
  const adminUrl = embedded?.connectionString("postgres") ?? url ?? "";
  const closeServer = async (): Promise<void> => {
    if (embedded === undefined) return;
    await embedded.stop();
    rmSync(embedded.dataDirectory, { recursive: true, force: true });
  };
  try {
    const server = await withClient(adminUrl, async (admin) => {
      const found = await admin.query<{ name: string; durability: string }>(
        `select current_setting('server_version') as name, format('fsync %s, synchronous_commit %s',
           current_setting('fsync'), current_setting('synchronous_commit')) as durability`,
      );
      const row = found.rows[0];
      return `PostgreSQL ${row?.name ?? "?"} (${embedded === undefined ? "existing" : "embedded"}), ${row?.durability ?? ""}`;
    });
    const rolesBefore = await withClient(adminUrl, laurelRoles);
    const names: string[] = [];
    return {
      server,
      createDatabase: async (suffix) => {
        const name = `laurel_bench_${process.pid}_${suffix}`;
        await withClient(adminUrl, (admin) => admin.query(`create database ${escapeIdentifier(name)} template template0`));
        names.push(name);
        const connectionString = withDatabase(adminUrl, name);
        await migrateDatabase({ connectionString, ownerPassword: undefined, withServerLogin: false, logger: silent });
        await withClient(connectionString, async (owner) => {
          await owner.query(readFileSync(join(import.meta.dirname, "setup.sql"), "utf8"));
          await owner.query("vacuum analyze");
          await owner.query("checkpoint");
        });
        return connectionString;
      },
      close: async () => {
        if (embedded === undefined) {
          await withClient(adminUrl, async (admin) => {
            for (const name of names) {
              await admin.query(`drop database if exists ${escapeIdentifier(name)} with (force)`);
            }
            for (const role of await laurelRoles(admin)) {
              if (!rolesBefore.includes(role)) await admin.query(`drop role ${escapeIdentifier(role)}`);
            }
          });
        }
        await closeServer();
      },
    };
  } catch (error) {
    await closeServer();
    throw error;
  }
}

/** Runs `work` on a connection of its own. */
export async function withClient<T>(connectionString: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString, application_name: "laurel bench" });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function laurelRoles(client: Client): Promise<string[]> {
  const found = await client.query<{ name: string }>(
    "select rolname as name from pg_roles where rolname in ('laurel_admin', 'laurel_service', 'laurel_user', 'laurel_server')",
  );
  return found.rows.map(({ name }) => name);
}

function withDatabase(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${encodeURIComponent(database)}`;
  return changed.href;
}

/** A run that was killed could not clean up: its server is stopped and its folder removed by the next one. */
async function sweepFoldersOfTheDead(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^laurel-bench-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    const directory = join(tmpdir(), name);
    await stopLeftOver(directory);
    rmSync(directory, { recursive: true, force: true });
  }
}
