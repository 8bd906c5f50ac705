import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Contest, type Contestant, type Progress } from "./contest.ts";
import { distinctUsers, rowsPerBatch } from "./database_contests.ts";
import { withClient } from "./laboratory.ts";
import { withUpkeep } from "./upkeep.ts";
import { runPgbench } from "./pgbench.ts";

/** Users who come today for the first time: more than one run uses up. */
const newcomers = 10_000;
const without = "without them";
/** What an event may cost, in costs of an event without the other sources. */
const mostForOne = 2;
const mostForBatches = 3;

/** Fills both databases alike; one of them has the other sources of points, the other has not even a streak. */
export async function prepareSources(withoutUrl: string, withUrl: string, progress: Progress): Promise<void> {
  progress(`${newcomers} users with a past`);
  await Promise.all([prepare(withoutUrl, "call bench.remove_streak()"), prepare(withUrl, "call bench.add_sources()")]);
}

/** Fills databases alike, all with the other sources of points. */
export async function prepareWithSources(urls: readonly string[], progress: Progress): Promise<void> {
  progress(`${newcomers} users with a past`);
  await Promise.all(urls.map((url) => prepare(url, "call bench.add_sources()")));
}

function prepare(connectionString: string, configure: string): Promise<void> {
  return withClient(connectionString, async (owner) => {
    await owner.query(readFileSync(join(import.meta.dirname, "sources.sql"), "utf8"));
    await owner.query(configure);
    await owner.query("call bench.add_past($1)", [newcomers]);
  });
}

/**
 * (g) Events with 20 achievements, a daily streak and 2 leaderboards, one of them with all of its 1,000 places taken, against the
 * same events and rules without them. As usual one event in ten is its user's first of the day; at worst every one is.
 */
export function sourceContests(work: {
  readonly pgbench: string;
  readonly withoutUrl: string;
  readonly withUrl: string;
  readonly seconds: number;
}): Contest[] {
  const contest = (title: string, script: string, clients: number, events: number, most: number): Contest => {
    const contestant = (name: string, connectionString: string): Contestant => ({
      name,
      run: async () => {
        await withClient(connectionString, async (owner) => {
          await owner.query("call bench.begin_day()");
          await owner.query("vacuum analyze");
        });
        const rate = await withUpkeep(connectionString, () =>
          runPgbench(work.pgbench, { connectionString, script, clients, seconds: work.seconds, variables: distinctUsers }));
        const used = await withClient(connectionString, (owner) =>
          owner.query<{ used: string }>("select last_value as used from bench.next_user"));
        if (connectionString === work.withUrl && Number(used.rows[0]?.used) * (events === 1 ? 1 : rowsPerBatch / 10) > newcomers) {
          throw new Error(`There were fewer than ${used.rows[0]?.used ?? "?"} users to come: measure for fewer seconds.`);
        }
        return events * rate;
      },
    });
    return {
      title,
      laurel: contestant("Laurel", work.withUrl),
      rivals: [contestant(without, work.withoutUrl)],
      goals: [{ kind: "cost", of: without, most }],
    };
  };
  return [
    contest("all sources, 1 client", "sources_mixed", 1, 1, mostForOne),
    contest("all sources, 8 clients", "sources_mixed", 8, 1, mostForOne),
    contest("all sources, 8 clients, every event the first of a day", "sources_first", 8, 1, mostForOne),
    contest("all sources, INSERT of 1,000 rows, 1,000 users", "sources_insert_distinct", 2, rowsPerBatch, mostForBatches),
    contest("all sources, INSERT of 1,000 rows, 20 users × 50", "sources_insert_repeated", 2, rowsPerBatch, mostForBatches),
  ];
}
