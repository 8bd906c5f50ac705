import { resolve } from "node:path";
import ipaddr from "ipaddr.js";
import { z } from "zod";

/** The project's own folder: the one that holds package.json, wherever the process was started from. */
export const projectDirectory: string = resolve(import.meta.dirname, "..");

/** Networks that may be reached although they are not public: what LAUREL_WEBHOOK_ALLOW_CIDRS names. */
export type AllowedNetworks = readonly [ipaddr.IPv4 | ipaddr.IPv6, number][];

/** A setting that cannot be used. Its message is one line that names the variable and says what to do. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** A number written in decimal digits alone: Number() would also take "", "0x10" and "1e3". */
function wholeNumber(least: number, most: number): z.ZodType<number> {
  return z
    .string()
    .refine((text) => /^\d{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most, {
      error: `must be a whole number from ${least} to ${most}`,
    })
    .transform(Number);
}

const oneToThousand = wholeNumber(1, 1000);
const milliseconds = wholeNumber(1, 2_147_483_647);

const postgresUrl = z.string().superRefine((text, context) => {
  const fault = faultOfPostgresUrl(text);
  if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
});

const networks = z.string().refine(
  (text) => {
    try {
      parseNetworks(text);
      return true;
    } catch {
      return false;
    }
  },
  { error: "must be networks such as 10.0.0.0/8,::1/128" },
);

const environment = z.object({
  PORT: wholeNumber(0, 65535).default(4000),
  HOST: z.string().default("127.0.0.1"),
  DATABASE_URL: postgresUrl.optional(),
  PGPASSWORD: z.string().optional(),
  LAUREL_SERVER_DATABASE_URL: postgresUrl.optional(),
  LAUREL_ADMIN_KEY: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}\.[\x21-\x7e]{32,255}$/, {
      error: "must be prefix.body: letters, digits, - or _, a dot, then a body of 32 to 255 characters",
    })
    .optional(),
  LAUREL_DATA_DIR: z.string().optional(),
  LAUREL_POSTGRES_PORT: wholeNumber(1, 65535).optional(),
  LAUREL_LOG_LEVEL: z
    .enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"])
    .default("info"),
  LAUREL_POOL_SIZE: oneToThousand.default(10),
  LAUREL_WORKER_CONCURRENCY: oneToThousand.default(4),
  LAUREL_CONNECTION_TIMEOUT_MS: milliseconds.default(5_000),
  LAUREL_STATEMENT_TIMEOUT_MS: milliseconds.default(30_000),
  LAUREL_LOCK_TIMEOUT_MS: milliseconds.default(15_000),
  LAUREL_IDLE_TRANSACTION_TIMEOUT_MS: milliseconds.default(30_000),
  LAUREL_DRAIN_TIMEOUT_MS: milliseconds.default(25_000),
  LAUREL_RATE_LIMIT_PER_MINUTE: wholeNumber(1, 10_000_000).optional(),
  LAUREL_SECRET_KEY: z.string().regex(/^[^,]{16,}(,[^,]{16,})*$/, { error: "must have at least 16 characters; several keys with commas between them" }).optional(),
  LAUREL_WEBHOOK_ALLOW_CIDRS: networks.default(""),
  NODE_ENV: z.string().optional(),
});

/** Everything about a process that its surroundings decide. All durations in milliseconds. */
export interface Config {
  readonly host: string;
  readonly port: number;
  /** Where PostgreSQL is: an address of an existing server, or a folder for the embedded one. */
  readonly database:
    | {
        readonly kind: "external";
        /** The owner's connection string: it migrates, and runs background jobs. */
        readonly url: string;
        /** The owner's password, from the URL or PGPASSWORD; undefined when another method lets it in. */
        readonly password: string | undefined;
      }
    | {
        readonly kind: "embedded";
        /** As given, or undefined for the default place (see `dataDirectoryFor`). */
        readonly dataDirectory: string | undefined;
        /** When set, the embedded server also listens on this loopback port, for tools without socket support. */
        readonly tcpPort: number | undefined;
      };
  /** The weak login of request pools, when the installation made it itself; else Laurel makes `laurel_server`. */
  readonly serverDatabaseUrl: string | undefined;
  readonly adminKey: string | undefined;
  readonly logLevel: string;
  /** Connections per pool: one pool for each database role in use, in each process. */
  readonly poolSize: number;
  readonly workerConcurrency: number;
  readonly timeouts: Timeouts;
  /** How long a stop waits for requests and jobs in flight before it cuts them off. */
  readonly drainTimeoutMs: number;
  /** Requests that one key may make in a minute in each process; undefined for any number. */
  readonly requestsPerMinute: number | undefined;
  /** What seals webhook secrets: the first of several keys seals, all open. Undefined when none was given. */
  readonly secretKey: string | undefined;
  /** Networks that webhooks may be sent to although they are not public. */
  readonly webhookNetworks: AllowedNetworks;
  readonly isDevelopment: boolean;
}

/** How long a request's connection may take for each thing it does, in milliseconds. */
export interface Timeouts {
  readonly connectionTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly idleTransactionTimeoutMs: number;
}

/**
 * Reads and checks the environment; the only function that does. An empty variable counts as absent.
 * Throws `ConfigError` for the first thing that cannot be used.
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = environment.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new ConfigError(`${issue?.path.join(".") ?? "environment"}: ${issue?.message ?? "unusable"}`);
  }
  const values = parsed.data;
  return {
    host: values.HOST,
    port: values.PORT,
    database:
      values.DATABASE_URL === undefined
        ? {
            kind: "embedded",
            dataDirectory:
              values.LAUREL_DATA_DIR === undefined ? undefined : resolve(values.LAUREL_DATA_DIR),
            tcpPort: values.LAUREL_POSTGRES_PORT,
          }
        : {
            kind: "external",
            url: values.DATABASE_URL,
            password: passwordOfUrl(values.DATABASE_URL) ?? values.PGPASSWORD,
          },
    serverDatabaseUrl: values.LAUREL_SERVER_DATABASE_URL,
    adminKey: values.LAUREL_ADMIN_KEY,
    logLevel: values.LAUREL_LOG_LEVEL,
    poolSize: values.LAUREL_POOL_SIZE,
    workerConcurrency: values.LAUREL_WORKER_CONCURRENCY,
    timeouts: {
      connectionTimeoutMs: values.LAUREL_CONNECTION_TIMEOUT_MS,
      statementTimeoutMs: values.LAUREL_STATEMENT_TIMEOUT_MS,
      lockTimeoutMs: values.LAUREL_LOCK_TIMEOUT_MS,
      idleTransactionTimeoutMs: values.LAUREL_IDLE_TRANSACTION_TIMEOUT_MS,
    },
    drainTimeoutMs: values.LAUREL_DRAIN_TIMEOUT_MS,
    requestsPerMinute: values.LAUREL_RATE_LIMIT_PER_MINUTE,
    secretKey: values.LAUREL_SECRET_KEY,
    webhookNetworks: parseNetworks(values.LAUREL_WEBHOOK_ALLOW_CIDRS),
    isDevelopment: values.NODE_ENV === "development",
  };
}

/** Where `npm run mcp` finds Laurel, and as whom it acts. */
export interface McpConfig {
  readonly url: string;
  readonly apiKey: string;
  readonly tenant: string | undefined;
}

/** Reads the environment of `npm run mcp`. Throws `ConfigError` as `readConfig` does. */
export function readMcpConfig(env: NodeJS.ProcessEnv = process.env): McpConfig {
  const given = (name: string): string | undefined => (env[name] === "" ? undefined : env[name]);
  const apiKey = given("LAUREL_API_KEY");
  if (apiKey === undefined) throw new ConfigError("LAUREL_API_KEY: an admin key is required");
  const url = given("LAUREL_URL") ?? "http://localhost:4000";
  if (!/^https?:\/\/[^\s/]+\/?$/.test(url)) throw new ConfigError("LAUREL_URL: must look like http://localhost:4000");
  return { url: url.replace(/\/$/, ""), apiKey, tenant: given("LAUREL_TENANT") };
}

/** Reads a list of networks such as `10.0.0.0/8, ::1/128`. Throws for what is none. */
export function parseNetworks(text: string): AllowedNetworks {
  return text.split(",").map((part) => part.trim()).filter((part) => part !== "").map((part) => ipaddr.parseCIDR(part));
}

function faultOfPostgresUrl(text: string): string | undefined {
  let url: URL;
  try {
    url = new URL(text.replace(/@\//, "@localhost/"));
  } catch {
    return "must look like postgres://user:password@host:5432/database";
  }
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:") {
    return "must start with postgres:// or postgresql://";
  }
  if (url.pathname.length < 2) return "must name a database, as in postgres://user:password@host:5432/database";
  return undefined;
}

function passwordOfUrl(text: string): string | undefined {
  const { password } = new URL(text.replace(/@\//, "@localhost/"));
  return password === "" ? undefined : decodeURIComponent(password);
}
