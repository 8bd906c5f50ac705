import { Command, InvalidArgumentError, Option } from "commander";
import { startProxy } from "./proxy.ts";
import { type Findings, runRound } from "./round.ts";
import { openStage, type Stage, type Victim, victims } from "./stage.ts";
import { randomFrom } from "../support/random.ts";

/**
 * Crash tests (rules E4, E6, X6): PostgreSQL, the server and the worker are killed under load, with clients that repeat what was not
 * acknowledged and a proxy that cuts off replies. Nothing acknowledged may be lost, nothing doubled, and verify() has
 * nothing to say. Then two things that must go wrong, to show that it would be noticed: commits that do not wait for the disk,
 * and clients without idempotency keys.
 */

interface Options {
  readonly rounds: number;
  readonly clients: number;
  readonly seed: number;
  readonly only?: Victim[];
}

const shareOfRepliesCut = 0.05;
const shareOfRepliesCutForControl = 0.3;
/** A commit that does not wait for the disk is lost unless the log's writer came by: it sleeps as long as it can. */
const carelessSettings = ["synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"];

const count = (text: string): number => {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("Say a whole number above 0.");
  return Number(text);
};
const options = new Command("npm run faults --")
  .description("Kills PostgreSQL, the server and the worker under load, and looks for what was lost or doubled.")
  .option("--rounds <n>", "rounds of each kind", count, 20)
  .option("--clients <n>", "clients at once", count, 8)
  .option("--seed <n>", "of the random choices; timing stays the machine's", count, Math.floor(Math.random() * 1e8) + 1)
  .addOption(new Option("--only <victim...>", "these alone are killed; the controls follow in any case").choices(victims))
  .parse()
  .opts<Options>();

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};
const isClean = (found: Findings): boolean =>
  found.lost === 0 && found.doubled === 0 && found.ticksMissed === 0 && found.broken.length === 0
  && found.acknowledged === found.sent && found.acknowledged > 0;

async function crashRounds(stage: Stage, victim: Victim, random: () => number): Promise<boolean> {
  const proxy = await startProxy(stage.port, shareOfRepliesCut, random);
  const all: Findings[] = [];
  try {
    for (let round = 1; round <= options.rounds; round += 1) {
      const found = await runRound(stage, proxy, {
        victim, clients: options.clients, withKeys: true, name: `${victim}-${round}`, random,
      });
      all.push(found);
      if (!isClean(found)) say(`${victim}, round ${round}: ${JSON.stringify(found)}`);
    }
  } finally {
    await proxy.close();
  }
  const sum = (of: (found: Findings) => number): number => all.reduce((total, found) => total + of(found), 0);
  say(
    `| kill -9 ${victim} | ${all.length} | ${sum((f) => f.acknowledged)} | ${sum((f) => f.retries)} | ${sum((f) => f.cuts)} | ${sum((f) => f.ticks)} ` +
    `| ${sum((f) => f.lost)} | ${sum((f) => f.doubled)} | ${sum((f) => f.ticksMissed)} | ${sum((f) => f.broken.length)} |`,
  );
  return all.every(isClean);
}

/** A round of what must be caught; again, up to three times, since a crash may hit a moment at which nothing was at stake. */
async function control(
  stage: Stage, name: string, withKeys: boolean, cut: number, random: () => number, isCaught: (found: Findings) => boolean,
): Promise<boolean> {
  const proxy = await startProxy(stage.port, cut, random);
  try {
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const found = await runRound(stage, proxy, {
        victim: "postgres", clients: options.clients, withKeys, name: `${name.replaceAll(/\W/g, "")}-${attempt}`, random,
      });
      if (isCaught(found)) {
        say(`control, ${name}: caught (lost ${found.lost}, doubled ${found.doubled})`);
        return true;
      }
    }
  } finally {
    await proxy.close();
  }
  say(`control, ${name}: NOT caught`);
  return false;
}

const random = randomFrom(options.seed);
say(`seed ${options.seed}`);
const stage = await openStage();
let isGood = true;
try {
  say("| fault | rounds | acknowledged | retries | replies cut | ticks | lost | doubled | ticks missed | verify() |");
  say("|---|---|---|---|---|---|---|---|---|---|");
  for (const victim of options.only ?? victims) isGood = (await crashRounds(stage, victim, random)) && isGood;
  isGood = (await control(stage, "no idempotency keys", false, shareOfRepliesCutForControl, random, (found) => found.doubled > 0)) && isGood;
  for (const setting of carelessSettings) await stage.query(`alter system set ${setting}`);
  await stage.query("select pg_reload_conf()");
  isGood = (await control(stage, "synchronous_commit off", true, 0, random, (found) => found.lost > 0)) && isGood;
} finally {
  await stage.close();
}
say(isGood ? "nothing acknowledged was lost or doubled; both controls were caught" : "FAILED");
process.exitCode = isGood ? 0 : 1;
