import type { Pool } from "pg";
import type { Logger } from "pino";
import { tasks } from "../tasks/index.ts";
import { type ApiKey, generateApiKey, parseApiKey } from "./api_keys.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { createLogger } from "./logs.ts";
import { type Database, openDatabase } from "./postgres/database.ts";
import { createPool } from "./postgres/pools.ts";
import { closeServer, createApp, listen } from "./server.ts";
import { createDispatcher } from "./webhooks/dispatcher.ts";
import { provideSecretBox } from "./webhooks/secrets.ts";
import { startWorker } from "./worker/index.ts";

/** Which parts this process runs: `npm start` both, `npm run server` and `npm run worker` one. */
type Part = "server" | "worker";

/** A terminal's Ctrl-C arrives twice under npm, which passes on what the terminal sent to us already. */
const repeatedSignalMs = 1_000;
/** After requests and jobs: time to close connections and to stop the embedded server. */
const closeDeadlineMs = 60_000;
/** Background jobs may take longer than a request: they work through batches. */
const jobStatementTimeoutMs = 10 * 60_000;

/** Starts Laurel, and returns the function that stops it: in-flight work finishes, then everything closes. */
async function start(config: Config, parts: ReadonlySet<Part>, logger: Logger): Promise<() => Promise<void>> {
  // What was opened, closed in reverse order; also when starting fails half way.
  const closers: (() => Promise<void>)[] = [];
  let draining = false;
  const stop = async (): Promise<void> => {
    draining = true;
    for (const close of closers.splice(0).reverse()) await close();
  };
  try {
    const database = await openDatabase(config, logger);
    closers.push(database.close);
    const pools = database.createPools();
    closers.push(pools.end);
    const firstKey = await provideAdminKey(pools.owner, config.adminKey);
    const secrets = provideSecretBox(config.secretKey, database.embedded?.dataDirectory);

    let url: string | undefined;
    const closings: (() => Promise<void>)[] = [];
    if (parts.has("worker")) {
      const pool = createPool({
        connectionString: database.ownerUrl,
        name: "worker",
        size: config.workerConcurrency + 4,
        timeouts: { ...config.timeouts, statementTimeoutMs: jobStatementTimeoutMs },
        logger,
      });
      closers.push(() => pool.end());
      const now = (): Date => new Date();
      const worker = await startWorker({ pool, logger, concurrency: config.workerConcurrency, tasks, now });
      closings.push(worker.stop);
      if (secrets === undefined) {
        logger.warn("LAUREL_SECRET_KEY is not set: no webhooks are sent");
      } else {
        const webhooks = createDispatcher({ pool, logger, now, secrets, allowed: config.webhookNetworks });
        webhooks.start();
        closings.push(webhooks.stop);
      }
    }
    // Requests and jobs drain side by side.
    closers.push(async () => {
      await Promise.all(closings.map((close) => close()));
    });
    if (parts.has("server")) {
      const app = createApp({ config, pools, logger, secrets, isDraining: () => draining });
      const listening = await listen(app, config.host, config.port);
      closings.push(async () => {
        app.endStreams();
        await closeServer(listening.server, config.drainTimeoutMs);
        await app.release();
      });
      url = listening.url;
      app.prepare().catch((error: unknown) => {
        logger.warn({ err: error }, "could not prepare GraphQL ahead of its first request");
      });
    }
    process.stdout.write(banner({ url, database, parts, firstKey }));
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Makes sure that an admin key exists: the given one, or, when there is none at all, a new one, which is returned
 * to be shown this once. Of several processes that start together only one makes a key.
 */
async function provideAdminKey(pool: Pool, given: string | undefined): Promise<ApiKey | undefined> {
  if (given !== undefined) {
    const key = parseApiKey(given);
    if (key === undefined) throw new ConfigError("LAUREL_ADMIN_KEY: must be prefix.body");
    await pool.query("select laurel_private.ensure_admin_key($1, $2)", [key.prefix, key.sha256]);
    return undefined;
  }
  const key = generateApiKey();
  const result = await pool.query<{ created: boolean }>(
    "select laurel_private.create_first_admin_key($1, $2) as created",
    [key.prefix, key.sha256],
  );
  return result.rows[0]?.created === true ? key : undefined;
}

function banner(state: {
  readonly url: string | undefined;
  readonly database: Database;
  readonly parts: ReadonlySet<Part>;
  readonly firstKey: ApiKey | undefined;
}): string {
  const { url, database, parts, firstKey } = state;
  const lines = [`Laurel is running (${[...parts].join(" and ")}).`, ""];
  if (url !== undefined) lines.push(`  Address    ${url}`);
  if (database.embedded !== undefined) {
    lines.push(`  Data       ${database.embedded.dataDirectory}`, `  Database   ${database.ownerUrl}`);
  }
  if (firstKey !== undefined) {
    lines.push(`  Admin key  ${firstKey.secret}`, "", "  The key is shown this once: keep it.");
  }
  return `\n${lines.join("\n")}\n\n`;
}

function partsFrom(argument: string | undefined): ReadonlySet<Part> {
  if (argument === undefined) return new Set<Part>(["server", "worker"]);
  if (argument === "server" || argument === "worker") return new Set<Part>([argument]);
  throw new ConfigError(`there is no part named ${argument}: say server, worker, or nothing for both`);
}

/** Stops at the first signal, and leaves at once at a later one. */
function stopOnSignals(started: Promise<() => Promise<void>>, deadlineMs: number, logger: Logger): void {
  let firstAt: number | undefined;
  const handle = (signal: NodeJS.Signals): void => {
    if (firstAt !== undefined) {
      if (performance.now() - firstAt > repeatedSignalMs) process.exit(1);
      return;
    }
    firstAt = performance.now();
    logger.info({ signal }, "stopping");
    setTimeout(() => {
      fail(new ConfigError(`could not stop cleanly within ${deadlineMs} ms`));
    }, deadlineMs).unref();
    void started
      .then((stop) => stop())
      .then(
        () => {
          logger.info("stopped");
          logger.flush(() => process.exit(0));
        },
        (error: unknown) => {
          fail(error);
        },
      );
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, handle);
}

/** One clear line for what the operator can mend; everything known for what only we can. */
function fail(error: unknown): void {
  const text = error instanceof ConfigError ? error.message : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`laurel: ${text ?? ""}\n`);
  process.exit(1);
}

try {
  const config = readConfig();
  const logger = createLogger(config.logLevel);
  const started = start(config, partsFrom(process.argv[2]), logger);
  stopOnSignals(started, config.drainTimeoutMs + closeDeadlineMs, logger);
  await started;
} catch (error) {
  fail(error);
}
