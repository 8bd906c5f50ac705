import { cpus } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import { fillAnalytics, formatFigures, timeFigures } from "../bench/analytics_figures.ts";
import { holdContest, type Outcome } from "../bench/contest.ts";
import { batchContests, singleEventContests } from "../bench/database_contests.ts";
import { growthContests, prepareGrowth } from "../bench/growth_contests.ts";
import { afterBulkContests, checkpointContest, fillHistory } from "../bench/history_contests.ts";
import { httpContests } from "../bench/http_contests.ts";
import { openLaboratory } from "../bench/laboratory.ts";
import { startLaurelProcess } from "../bench/laurel_process.ts";
import { findPgbench } from "../bench/pgbench.ts";
import { startRivalProcess } from "../bench/rival_process.ts";
import { formatMachine, formatOutcomes, type Machine } from "../bench/report.ts";
import { prepareSources, sourceContests } from "../bench/source_contests.ts";
import { prepareTicks, tickContests } from "../bench/tick_contests.ts";
import { prepareWebhooks, startReceiver, webhookContests } from "../bench/webhook_contests.ts";
import { ConfigError, readConfig } from "../config.ts";

const parts = ["single", "batch", "http", "sources", "bulk", "ticks", "webhooks", "analytics", "growth", "long"] as const;
type Part = (typeof parts)[number];

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly only?: Part[];
  readonly long?: boolean;
  readonly users?: number;
  readonly events: number;
  readonly match?: string;
  readonly url?: string;
  readonly json?: boolean;
}

const program = new Command("npm run bench --")
  .description(
    "Measures Laurel against hand-written awards, side by side on one server. Takes minutes; drops what it made.",
  )
  .option("--rounds <n>", "rounds; each runs every contestant once", wholeNumber, 5)
  .option("--seconds <n>", "how long one run takes", wholeNumber, 4)
  .addOption(new Option("--only <part...>", "these parts alone").choices(parts))
  .option("--long", "also the parts that need 10 million events, 10 GB and a quarter of an hour each, growth up to an hour on busy cores: growth and long; analytics of a million users")
  .option("--users <n>", "users whose analytics are measured, with ten awards each (100,000; with --long 1,000,000), and those of growth (1,000,000)", wholeNumber)
  .option("--events <n>", "events of the large database of the part growth", wholeNumber, 10_000_000)
  .option("--match <text>", "the lines alone whose title has this text")
  .option("--url <url>", "measure on this server rather than on an embedded one (or DATABASE_URL)")
  .option("--json", "print the figures as JSON");

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,7}$/.test(text)) throw new InvalidArgumentError("Say a whole number from 1 to 99999999.");
  return Number(text);
}

async function bench(options: Options): Promise<void> {
  const { rounds, seconds } = options;
  const wanted = new Set<Part>(options.only ?? parts.filter((part) => (part !== "long" && part !== "growth") || options.long === true));
  const pgbench = await findPgbench();
  const { database: place } = readConfig();
  const url = options.url ?? (place.kind === "external" ? place.url : undefined);
  const startedAt = performance.now();
  const progress = (message: string): void => {
    const elapsed = `${Math.round((performance.now() - startedAt) / 1000)} s`;
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[2K${elapsed} · ${message}` : `${elapsed} · ${message}\n`);
  };
  progress("starting a server");
  const laboratory = await openLaboratory(url);
  const closers = [laboratory.close];
  let closing: Promise<void> | undefined;
  const closeAll = (): Promise<void> =>
    (closing ??= (async () => {
      for (const close of closers.reverse()) await close();
    })());
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      interruption.abort();
      void closeAll().finally(() => process.exit(130));
    });
  }
  try {
    const machine: Machine = {
      processor: cpus()[0]?.model.trim() ?? "unknown processor",
      cores: cpus().length,
      server: laboratory.server,
      date: new Date().toISOString().slice(0, 10),
    };
    const connectionString = await laboratory.createDatabase("main");
    const work = { pgbench, connectionString, seconds };
    const rivals = await startRivalProcess(connectionString);
    closers.push(rivals.stop);
    const laurel = wanted.has("http") ? await startLaurelProcess(connectionString) : undefined;
    if (laurel !== undefined) closers.push(laurel.stop);
    const contests = [
      ...(wanted.has("single") ? singleEventContests(work, rivals.applicationUrl) : []),
      ...(wanted.has("batch") ? batchContests(work) : []),
      ...(laurel === undefined ? [] : httpContests(work, laurel, rivals.bareUrl)),
      ...(wanted.has("bulk") ? afterBulkContests(work) : []),
    ].filter(({ title }) => title.includes(options.match ?? ""));
    if (wanted.has("sources")) {
      const [withoutUrl, withUrl] = [await laboratory.createDatabase("without"), await laboratory.createDatabase("with")];
      await prepareSources(withoutUrl, withUrl, progress);
      contests.push(...sourceContests({ pgbench, withoutUrl, withUrl, seconds }).filter(({ title }) => title.includes(options.match ?? "")));
    }
    if (wanted.has("ticks")) {
      const ticksUrl = await laboratory.createDatabase("ticks");
      await prepareTicks(ticksUrl, progress);
      contests.push(...tickContests({ connectionString: ticksUrl, seconds }).filter(({ title }) => title.includes(options.match ?? "")));
    }
    if (wanted.has("webhooks")) {
      const receiver = await startReceiver();
      closers.push(receiver.stop);
      const databases = await prepareWebhooks(laboratory.createDatabase, progress);
      contests.push(...webhookContests({ pgbench, seconds }, databases, receiver.url).filter(({ title }) => title.includes(options.match ?? "")));
    }
    const analytics = wanted.has("analytics") ? { users: options.users ?? (options.long === true ? 1_000_000 : 100_000) } : undefined;
    const figures = analytics === undefined ? [] : await (async () => {
      const analyticsUrl = await laboratory.createDatabase("analytics");
      await fillAnalytics(analyticsUrl, analytics.users, progress);
      return timeFigures(analyticsUrl, options.match ?? "", progress);
    })();
    if (wanted.has("growth")) {
      const size = { users: options.users ?? 1_000_000, events: options.events };
      const [smallUrl, largeUrl] = [await laboratory.createDatabase("small"), await laboratory.createDatabase("large")];
      await prepareGrowth(smallUrl, largeUrl, size, progress);
      contests.push(...growthContests({ pgbench, smallUrl, largeUrl, size, seconds }).filter(({ title }) => title.includes(options.match ?? "")));
    }
    if (wanted.has("long")) {
      const historyUrl = await laboratory.createDatabase("history");
      await fillHistory(historyUrl, true, progress);
      const freshUrl = await laboratory.createDatabase("fresh");
      await fillHistory(freshUrl, false, progress);
      contests.push(checkpointContest({ pgbench, historyUrl, freshUrl, smallUrl: connectionString, seconds }));
    }
    const outcomes: Outcome[] = [];
    for (const contest of contests) outcomes.push(await holdContest(contest, rounds, progress));
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[2K");
    process.stdout.write(
      options.json === true
        ? `${JSON.stringify({ machine, rounds, seconds, outcomes, ...(analytics === undefined ? {} : { analytics: { ...analytics, figures } }) }, null, 2)}\n`
        : [
            `${formatMachine(machine)}; medians of ${rounds} rounds of ${seconds} s\n`,
            ...(outcomes.length === 0 ? [] : [`${formatOutcomes(outcomes)}\n`]),
            ...(analytics === undefined ? [] : [`${formatFigures(figures, analytics.users)}\n`]),
          ].join("\n"),
    );
  } catch (error) {
    // What was running when its server was stopped.
    if (!interruption.signal.aborted) throw error;
  } finally {
    await closeAll();
  }
}

try {
  await bench(program.parse().opts<Options>());
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`laurel: ${error.message}\n`);
  process.exitCode = 1;
}
