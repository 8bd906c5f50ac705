import { Pool, types, type CustomTypesConfig } from "pg";
import type { Logger } from "pino";
import type { AllowedNetworks, Timeouts } from "../config.ts";

/** The database roles a caller may act as (spec Q9). */
export type DatabaseRole = "laurel_admin" | "laurel_service" | "laurel_user";

/** The roles, least powerful last. */
export const databaseRoles: readonly DatabaseRole[] = ["laurel_admin", "laurel_service", "laurel_user"];

/** The pools of one process. Every one has its error listener and its time limits. */
export interface Pools {
  /** Logs in as the database's owner: background jobs and key checks, never a caller's own request. */
  readonly owner: Pool;
  /** Logs in as the weak server login, which can do nothing until it takes a role: PostGraphile's own pool. */
  readonly server: Pool;
  /** Connections that are in the role already, and that `reset role` returns to it. */
  readonly admin: Pool;
  readonly service: Pool;
  readonly user: Pool;
  /** Ends all of them when their connections are idle. Call once. */
  end: () => Promise<void>;
}

/** How a pool connects. */
export interface PoolOptions {
  readonly connectionString: string;
  /** Shown in pg_stat_activity, after "laurel". */
  readonly name: string;
  /** Most connections at once. */
  readonly size: number;
  readonly timeouts: Timeouts;
  readonly logger: Logger;
  /** The role every connection takes as it starts; the login must be a member. */
  readonly role?: DatabaseRole;
  /** Settings that every connection starts with; names and values without spaces. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Idle connections do not keep the process alive. */
  readonly allowExitOnIdle?: boolean;
}

/**
 * Exact numbers stay exact: numeric and int8, alone and in arrays, arrive as strings. That is pg's own habit for
 * single values, but not for arrays.
 */
const exactTypes: CustomTypesConfig = {
  getTypeParser: (oid: number, format?: "text" | "binary") => {
    const readsAs: number = oid === numericArrayOid || oid === int8ArrayOid ? textArrayOid : oid;
    return builtInParser(readsAs, format);
  },
};
/** Typed by pg for the types it knows by name only. */
const builtInParser = types.getTypeParser as (
  oid: number,
  format?: "text" | "binary",
) => (value: string | Buffer) => unknown;
const int8ArrayOid = 1016;
const numericArrayOid = 1231;
const textArrayOid = 1009;

/** Makes a pool. A connection that breaks while idle is logged and replaced; it never ends the process. */
export function createPool(options: PoolOptions): Pool {
  const { connectionString, name, size, timeouts, logger, role, settings = {}, allowExitOnIdle = false } = options;
  const startOptions = Object.entries({ ...settings, ...(role === undefined ? {} : { role }) }).map(([key, value]) => `-c ${key}=${value}`);
  const pool = new Pool({
    connectionString,
    application_name: `laurel ${name}`,
    max: size,
    connectionTimeoutMillis: timeouts.connectionTimeoutMs,
    statement_timeout: timeouts.statementTimeoutMs,
    lock_timeout: timeouts.lockTimeoutMs,
    idle_in_transaction_session_timeout: timeouts.idleTransactionTimeoutMs,
    keepAlive: true,
    allowExitOnIdle,
    types: exactTypes,
    ...(startOptions.length === 0 ? {} : { options: startOptions.join(" ") }),
  });
  const noteLoss = (error: Error): void => {
    // While the pool ends, connections may be cut off before they have said goodbye.
    if (pool.ending) logger.debug({ err: error, pool: name }, "lost a database connection that was closing");
    else logger.warn({ err: error, pool: name }, "lost a database connection");
  };
  pool.on("error", noteLoss);
  // A connection in use reports its loss to whoever uses it, and as an event that nobody else listens to.
  pool.on("connect", (client) => client.on("error", noteLoss));
  return pool;
}

/**
 * Makes the pools of a process. `ownerUrl` is the owner's connection string, `serverUrl` the weak login's
 * (see `serverConnectionString` in roles.ts). No connection is made until one is used.
 */
export function createPools(options: {
  readonly ownerUrl: string;
  readonly serverUrl: string;
  readonly size: number;
  readonly timeouts: Timeouts;
  readonly logger: Logger;
  /** What administrators' webhooks may reach although it is not public: judged again at every connection to it. */
  readonly webhookNetworks?: AllowedNetworks;
}): Pools {
  const { ownerUrl, serverUrl, size, timeouts, logger, webhookNetworks = [] } = options;
  const settings: Record<string, string> =
    webhookNetworks.length === 0
      ? {}
      : { "laurel.webhook_allow_cidrs": webhookNetworks.map(([address, bits]) => `${address.toString()}/${bits}`).join(",") };
  const shared = { size, timeouts, logger, settings };
  const forRole = (role: DatabaseRole): Pool =>
    createPool({ ...shared, connectionString: serverUrl, name: role.replace("laurel_", ""), role });
  const owner = createPool({ ...shared, connectionString: ownerUrl, name: "owner" });
  const server = createPool({ ...shared, connectionString: serverUrl, name: "server" });
  const admin = forRole("laurel_admin");
  const service = forRole("laurel_service");
  const user = forRole("laurel_user");
  return {
    owner,
    server,
    admin,
    service,
    user,
    end: async () => {
      await Promise.all([owner, server, admin, service, user].map((pool) => pool.end()));
    },
  };
}
