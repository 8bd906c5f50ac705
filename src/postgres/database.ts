import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { defaultDataDirectory, type EmbeddedPostgres, startEmbedded } from "./embedded.ts";
import { migrateDatabase } from "./migrate.ts";
import { createPools, type Pools } from "./pools.ts";
import { serverConnectionString } from "./roles.ts";

/** A migrated database, ready for use, whether embedded or existing. */
export interface Database {
  /** The owner's connection string; psql and pgbench understand it too. */
  readonly ownerUrl: string;
  /** The weak login's. */
  readonly serverUrl: string;
  readonly embedded: EmbeddedPostgres | undefined;
  /** Makes this process's pools; whoever asks ends them. */
  createPools: () => Pools;
  /** Ends this process's use of the embedded server; nothing to do for an existing one. */
  close: () => Promise<void>;
}

/**
 * Starts or joins the embedded server, or takes the existing one, and migrates it. What every command begins
 * with. Throws `ConfigError` when it cannot.
 */
export async function openDatabase(config: Config, logger: Logger): Promise<Database> {
  const place = config.database;
  const embedded =
    place.kind === "embedded"
      ? await startEmbedded({
          dataDirectory: place.dataDirectory ?? defaultDataDirectory(),
          tcpPort: place.tcpPort,
          logger,
        })
      : undefined;
  const ownerUrl = place.kind === "external" ? place.url : (embedded?.connectionString() ?? "");
  const ownerPassword = place.kind === "external" ? place.password : undefined;
  const serverUrl = config.serverDatabaseUrl ?? serverConnectionString(ownerUrl, ownerPassword);
  const close = async (): Promise<void> => embedded?.stop();
  try {
    await migrateDatabase({
      connectionString: ownerUrl,
      ownerPassword,
      withServerLogin: config.serverDatabaseUrl === undefined,
      logger,
    });
  } catch (error) {
    await close();
    throw error;
  }
  return {
    ownerUrl,
    serverUrl,
    embedded,
    createPools: () =>
      createPools({
        ownerUrl, serverUrl, size: config.poolSize, timeouts: config.timeouts, logger, webhookNetworks: config.webhookNetworks,
      }),
    close,
  };
}
