import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError } from "commander";
import { type Config, ConfigError, readConfig } from "../config.ts";
import { ImportError } from "../imports/event_rows.ts";
import { importFile, sizeOfFile } from "../imports/file_import.ts";
import { createLogger } from "../logs.ts";
import { openDatabase } from "../postgres/database.ts";
import { isLostConnection } from "../postgres/errors.ts";

interface Options {
  readonly url?: string;
  readonly tenant: string;
  readonly batch: number;
  readonly create?: boolean;
}

/** Without a terminal: a line now and then. */
const quietProgressMs = 5_000;

const program = new Command("npm run import --")
  .description("Loads events from a CSV file: good lines are loaded, bad ones reported by number (exit status 1).")
  .argument("<file>", "the CSV file")
  .option("--url <url>", "the database, instead of DATABASE_URL or the embedded one")
  .option("--tenant <customer id>", "the tenant that the events belong to", "")
  .option("--batch <n>", "lines a statement", batchSize, 1000)
  .option("--create", "declare the metrics and event attributes that the file names and the database lacks")
  .addHelpText(
    "after",
    `
The first line names the columns: metric_key and user_id, and as wanted value, occurred_at (2026-01-31T12:00:00Z; UTC
where nothing else is said), idempotency_key, tz (the user's time zone, such as Europe/London) and attributes.<key>. An
empty cell means the default: value 1, now, none.

It is safe to run again, after a crash too: a line counts once. By its idempotency_key, where it has one; else by the
content of the whole file and the line's number. So correct bad lines in a file of their own rather than in place: a
file that was changed is another file, and its lines without idempotency_key count again.`,
  );

function batchSize(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text) || Number(text) > 50_000) {
    throw new InvalidArgumentError("Say a whole number from 1 to 50000.");
  }
  return Number(text);
}

function configFor(url: string | undefined): Config {
  const config = readConfig();
  return url === undefined ? config : { ...config, database: readConfig({ DATABASE_URL: url }).database };
}

/** Ends after the batch at hand when somebody presses Ctrl-C, which npm sends on a second time. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      controller.abort();
    });
  }
  return controller.signal;
}

async function runImport(path: string, options: Options): Promise<void> {
  const startedAt = performance.now();
  const size = await sizeOfFile(path);
  const config = configFor(options.url);
  const logger = createLogger(config.logLevel === "info" ? "warn" : config.logLevel);
  const database = await openDatabase(config, logger);
  const pools = database.createPools();
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: "{bar} {percentage} % · {lines} lines · {eta_formatted} left", hideCursor: true, stream: process.stderr })
    : undefined;
  const note = (text: string): void => {
    if (bar !== undefined) process.stderr.write("\r\x1b[2K");
    process.stderr.write(`${text}\n`);
  };
  let toldAt = performance.now();
  try {
    const loadingAt = performance.now();
    const summary = await importFile({
      path,
      pools,
      tenant: options.tenant,
      batchSize: options.batch,
      mayCreate: options.create === true,
      signal: abortOnSignals(),
      onBadLine: (line, reason) => {
        note(`line ${line}: ${reason}`);
      },
      onProgress: ({ lines, bytes }) => {
        if (bar !== undefined) {
          if (!bar.isActive) bar.start(size, 0, { lines: 0 });
          bar.update(bytes, { lines: lines.toLocaleString("en-US") });
        } else if (performance.now() - toldAt > quietProgressMs) {
          toldAt = performance.now();
          note(`${lines.toLocaleString("en-US")} lines`);
        }
      },
    });
    bar?.stop();
    const seconds = (performance.now() - loadingAt) / 1000;
    const count = (value: number, noun: string): string =>
      `${value.toLocaleString("en-US")} ${noun}${value === 1 ? "" : "s"}`;
    const rate = Math.round((summary.stored + summary.replayed) / seconds).toLocaleString("en-US");
    process.stdout.write(
      `${[
        `Loaded ${count(summary.stored, "event")} of ${count(summary.users, "user")} in ${seconds.toFixed(1)} s (${rate} lines/s; ${((performance.now() - startedAt) / 1000).toFixed(1)} s in all).`,
        ...(summary.replayed > 0 ? [`${count(summary.replayed, "line")} had been loaded before.`] : []),
        ...(summary.bad > 0 ? [`${count(summary.bad, "bad line")}, not loaded: see above.`] : []),
        ...(summary.stoppedAfterLine === undefined
          ? []
          : [`Stopped after line ${summary.stoppedAfterLine}. Run it again to load the rest.`]),
      ].join("\n")}\n`,
    );
    if (summary.bad > 0 || summary.stoppedAfterLine !== undefined) process.exitCode = 1;
  } finally {
    bar?.stop();
    await pools.end();
    await database.close();
  }
}

try {
  await program.action(runImport).parseAsync();
} catch (error) {
  const isLost = isLostConnection(error);
  if (!isLost && !(error instanceof ConfigError) && !(error instanceof ImportError)) throw error;
  const { message } = error as Error;
  process.stderr.write(`laurel: ${isLost ? `the database is away: run this again later, which loads what is missing (${message})` : message}\n`);
  process.exitCode = 1;
}
