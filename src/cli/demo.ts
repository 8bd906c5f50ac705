import { resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { ConfigError, projectDirectory, readConfig } from "../config.ts";
import { type Demonstration, demonstrate } from "../demo/demonstration.ts";
import { HistoryError } from "../demo/git_history.ts";
import { isServerThere } from "../demo/rest_events.ts";
import { createLogger } from "../logs.ts";
import { type Database, openDatabase } from "../postgres/database.ts";

interface Options {
  readonly commits: number;
}

const program = new Command("npm run demo --")
  .description(
    "Turns the history of a Git repository into events on metrics, sets up a points system for them and shows what came out. Safe to run twice.",
  )
  .argument("[path]", "the repository; this one unless given", projectDirectory)
  .option("--commits <n>", "the newest so many commits", wholeNumber, 5000);

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError("Say a whole number from 1.");
  return Number(text);
}

async function demo(path: string, options: Options): Promise<void> {
  const config = readConfig();
  const logger = createLogger(config.logLevel === "info" ? "warn" : config.logLevel);
  const url = `http://${config.host}:${config.port}`;
  const isServing = await isServerThere(url);
  const database = await openDatabase(config, logger);
  const pools = database.createPools();
  try {
    const shown = await demonstrate({
      pools,
      path: resolve(path),
      mostCommits: options.commits,
      server: isServing && config.adminKey !== undefined ? { url, adminKey: config.adminKey } : undefined,
      onProgress: (done, all) => {
        if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${done} of ${all} events`);
      },
    });
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[2K");
    process.stdout.write(describe(shown, { path: resolve(path), url, isServing, database, hasKey: config.adminKey !== undefined }));
  } finally {
    await pools.end();
    await database.close();
  }
}

/** The demonstration in words. */
function describe(
  shown: Demonstration,
  place: {
    readonly path: string;
    readonly url: string;
    readonly isServing: boolean;
    readonly database: Database;
    readonly hasKey: boolean;
  },
): string {
  const { commits, authors, events, leaders, levels, explained } = shown;
  const date = (index: number): string => commits.at(index)?.authoredAt.slice(0, 10) ?? "";
  const loaded = [
    `${count(events.stored, "event")} by SQL`,
    ...(events.byRest > 0 ? [`${events.byRest} by REST`] : []),
    ...(events.replayed > 0 ? [`${number(events.replayed)} there already`] : []),
  ].join(", ");
  const leader = leaders[0];
  const lines = [
    `Read ${count(commits.length, "commit")} of ${count(authors.length, "author")} from ${place.path} (${date(0)} to ${date(-1)}).`,
    shown.isNewSystem
      ? `Set up the points system xp: 8 triggers, 3 boosts, 5 levels, a leaderboard, a cap of ${number(shown.maxPoints)}.`
      : "The points system xp was set up before.",
    "  New author +50; commit +10; every 5th fix +40; every 25 files changed +15; every 1,000 lines changed −5;",
    "  every 3 days in a row +30; the achievement Ten commits +100; and from now on each day +1, while a worker runs.",
    `Loaded in ${shown.seconds.toFixed(1)} s: ${loaded}.`,
    ...events.refused.slice(0, 10).map((line) => `  Refused ${line}`),
    ...(events.refused.length > 10 ? [`  … and ${number(events.refused.length - 10)} more`] : []),
    shown.brokenInvariants === 0
      ? "Checked: laurel.verify() finds every total and balance as the log and the ledger have it."
      : `laurel.verify() finds ${count(shown.brokenInvariants, "broken invariant")}: select * from laurel.verify().`,
    "",
    "Leaders",
    ...table(leaders.map(({ name, total, level }, index) => [`${index + 1}`, name, `${number(Number(total))} XP`, level ?? ""])),
    "",
    "Levels",
    ...table(levels.map(({ name, points, users }) => [name, `from ${number(points)}`, count(Number(users), "author")])),
    "",
    "One award, explained",
    ...(explained === undefined ? ["  There is none."] : [`  ${explained.explanation}`]),
    "",
    "Look at next",
    ...lookNext(place, leader?.userId, explained?.id).map((line) => `  ${line}`),
  ];
  return `${lines.join("\n")}\n`;
}

function lookNext(
  { url, isServing, database, hasKey }: { readonly url: string; readonly isServing: boolean; readonly database: Database; readonly hasKey: boolean },
  userId: string | undefined,
  awardId: string | undefined,
): string[] {
  return [
    ...(isServing ? [] : [`npm start                 then, with the admin key it shows (or LAUREL_ADMIN_KEY):`]),
    `curl -H "X-API-KEY: …" ${url}/v1/users/${encodeURIComponent(userId ?? "")}/points/xp`,
    ...(isServing && !hasKey ? ["Set LAUREL_ADMIN_KEY to see the demo send its last events by REST."] : []),
    ...(database.embedded === undefined ? [] : [`psql "${database.ownerUrl}"   while the server runs, and there:`]),
    `curl -H "X-API-KEY: …" ${url}/v1/leaderboards/most-xp`,
    `select * from laurel.points_balances order by total desc;`,
    ...(awardId === undefined ? [] : [`select jsonb_pretty(laurel.explain_award('${awardId}'));`]),
    `select laurel.balance_as_of('xp', '${(userId ?? "").replaceAll("'", "''")}', now() - interval '1 year');`,
  ];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) => `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}`.trimEnd());
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}

function count(value: number, noun: string): string {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

try {
  await program.action(demo).parseAsync();
} catch (error) {
  if (!(error instanceof ConfigError) && !(error instanceof HistoryError)) throw error;
  process.stderr.write(`laurel: ${error.message}\n`);
  process.exitCode = 1;
}
