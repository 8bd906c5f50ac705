import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Contest, type Contestant, type Progress } from "./contest.ts";
import { distinctUsers } from "./database_contests.ts";
import { withClient } from "./laboratory.ts";
import { runPgbench } from "./pgbench.ts";
import { prepareWithSources } from "./source_contests.ts";
import { withUpkeep } from "./upkeep.ts";

/** How large the large database is. */
export interface Size {
  readonly users: number;
  readonly events: number;
}

/** The users of the small database, and as many that both have. */
const smallUsers = 10_000;
const months = 5;
const small = `${smallUsers.toLocaleString("en-US")} users`;

/** Two databases with all sources of points; one of them gets so many users, events, awards, entries and completions more. */
export async function prepareGrowth(smallUrl: string, largeUrl: string, size: Size, progress: Progress): Promise<void> {
  await prepareWithSources([smallUrl, largeUrl], progress);
  const users = Math.max(size.users - smallUsers, smallUsers);
  const half = Math.floor(users / 2);
  const each = Math.max(Math.round(size.events / size.users / months), 1);
  const onLarge = (text: string, values: unknown[] = []): Promise<unknown> =>
    withClient(largeUrl, (owner) => owner.query(text, values));
  for (const url of [smallUrl, largeUrl]) {
    await withClient(url, async (owner) => {
      await owner.query(readFileSync(join(import.meta.dirname, "growth.sql"), "utf8"));
      await owner.query("call bench.add_months($1)", [months]);
    });
  }
  progress(`${users.toLocaleString("en-US")} users more`);
  // Two connections, for two cores.
  await Promise.all([onLarge("call bench.add_users(1, $1)", [half]), onLarge("call bench.add_users($1, $2)", [half + 1, users])]);
  for (let ago = months; ago >= 1; ago -= 1) {
    progress(`${(users * each).toLocaleString("en-US")} events and awards, ${ago} months ago`);
    await Promise.all([
      onLarge("call bench.add_events($1, $2, $3)", [ago, users, each]),
      onLarge("call bench.add_awards($1, $2, $3)", [ago, users, each]),
    ]);
  }
  progress("a look at all of it");
  // Nobody has a history that the leaderboards do not know.
  await onLarge("update laurel_private.leaderboard_backfills set finished_at = now()");
  for (const url of [smallUrl, largeUrl]) {
    await withClient(url, async (owner) => {
      await owner.query("vacuum analyze");
      await owner.query("checkpoint");
    });
    await withUpkeep(url, () => Promise.resolve());
  }
}

/**
 * (h) The same events of the same users with all sources, in a database of 10 thousand users and in a large one: what an event
 * costs does not grow with what others have done. Events of any of all the users meet pages that nobody has read lately.
 */
export function growthContests(work: {
  readonly pgbench: string;
  readonly smallUrl: string;
  readonly largeUrl: string;
  readonly size: Size;
  readonly seconds: number;
}): Contest[] {
  const contestant = (name: string, connectionString: string, clients: number, script: string, lastUser: number): Contestant => ({
    name,
    run: async () => {
      await withClient(connectionString, (owner) => owner.query("call bench.begin_day()"));
      return withUpkeep(connectionString, () =>
        runPgbench(work.pgbench, {
          connectionString, script, clients, seconds: work.seconds, variables: { ...distinctUsers, first_user: 1, last_user: lastUser },
        }));
    },
  });
  const large = `${work.size.users.toLocaleString("en-US")} users, ${work.size.events.toLocaleString("en-US")} events`;
  const contest = (title: string, clients: number, script: string, lastUser: number, least: number): Contest => ({
    title: `${title}, ${large}`,
    laurel: contestant(large, work.largeUrl, clients, script, lastUser),
    rivals: [contestant(small, work.smallUrl, clients, "sources_mixed", smallUsers)],
    goals: [{ kind: "share", of: small, least }],
  });
  return [
    // No slower, but for what two runs of the same thing differ by.
    contest("all sources, 1 client", 1, "sources_mixed", smallUsers, 0.9),
    contest("all sources, 8 clients", 8, "sources_mixed", smallUsers, 0.9),
    contest("all sources, 8 clients, events of everybody", 8, "sources_everybody", Math.max(work.size.users - smallUsers, smallUsers), 0.75),
  ];
}
