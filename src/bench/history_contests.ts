import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { type Contest, type Contestant, median, type Progress } from "./contest.ts";
import { runPgbench } from "./pgbench.ts";
import { withClient } from "./laboratory.ts";

/** The months, and so partitions, that history.sql spreads the history over: 2 million events each. */
const historyMonths = 5;
const historyUsers = { first_user: 0, last_user: 999_999 };
/** A statement of this many rows, as an import in one piece sends it. */
const bulkRows = 50_000;

/** (d) A single event after a huge statement on the same connection, against before: plans must not remember the size. */
export function afterBulkContests(work: { readonly connectionString: string; readonly seconds: number }): Contest[] {
  const contest = (title: string, statement: string): Contest => {
    const run = (isAfter: boolean): Promise<number> =>
      withClient(work.connectionString, async (client) => {
        const single = (): Promise<unknown> =>
          client.query({ name: "single", text: statement, values: [`u${Math.ceil(Math.random() * 10_000)}`] });
        for (let call = 0; call < 50; call += 1) await single();
        if (isAfter) {
          await client.query(
            "insert into laurel.metric_events (metric_key, user_id, attributes) select 'words', 'u' || 1 + n % 10000, '{\"kind\": \"gold\"}' from generate_series(1, $1::int) n",
            [bulkRows],
          );
        }
        return 1000 / (await medianLatencyMs(single, work.seconds));
      });
    return {
      title,
      laurel: { name: "after", run: () => run(true) },
      rivals: [{ name: "before", run: () => run(false) }],
      // No slower, but for what two runs of the same thing differ by.
      goals: [{ kind: "share", of: "before", least: 0.9 }],
    };
  };
  return [
    contest("record_event after 50,000 rows", "select laurel.record_event('words', $1)"),
    contest("INSERT of one row after 50,000 rows", "insert into laurel.metric_events (metric_key, user_id) values ('words', $1)"),
  ];
}

async function medianLatencyMs(work: () => Promise<unknown>, seconds: number): Promise<number> {
  const latencies: number[] = [];
  const end = performance.now() + seconds * 1000;
  for (let start = performance.now(); start < end; start = performance.now()) {
    await work();
    latencies.push(performance.now() - start);
  }
  return median(latencies);
}

/**
 * (e) Right after a checkpoint, when every page touched first is written whole: 10 million events and as many ledger rows of a
 * million users, against the same million users without a past, and against the small database of the other contests.
 */
export function checkpointContest(work: {
  readonly pgbench: string;
  readonly historyUrl: string;
  readonly freshUrl: string;
  readonly smallUrl: string;
  readonly seconds: number;
}): Contest {
  const { pgbench, seconds } = work;
  const shared = { script: "record_event", clients: 8, seconds };
  const fresh = "fresh, 1,000,000 users";
  const contestant = (name: string, connectionString: string, variables: Readonly<Record<string, number>>): Contestant => ({
    name,
    run: () => runPgbench(pgbench, { ...shared, connectionString, variables }),
  });
  return {
    title: "after a checkpoint, 10 million events",
    laurel: {
      name: "Laurel",
      run: async () => {
        await withClient(work.historyUrl, (client) => client.query("checkpoint"));
        // No warm-up: it would be over before the pages are written.
        return runPgbench(pgbench, { ...shared, connectionString: work.historyUrl, variables: historyUsers, warmUpSeconds: 0 });
      },
    },
    rivals: [
      contestant(fresh, work.freshUrl, historyUsers),
      contestant("fresh, 10,000 users", work.smallUrl, { first_user: 1, last_user: 10_000 }),
    ],
    goals: [{ kind: "share", of: fresh, least: 0.75 }],
  };
}

/** Gives a database its million users (history.sql) and, when asked, ten million events with their awards. Takes minutes. */
export async function fillHistory(connectionString: string, withEvents: boolean, progress: Progress): Promise<void> {
  const asOwner = (work: (client: Client) => Promise<unknown>): Promise<unknown> => withClient(connectionString, work);
  progress("a million users");
  await asOwner((client) => client.query(readFileSync(join(import.meta.dirname, "history.sql"), "utf8")));
  for (let ago = historyMonths; withEvents && ago >= 1; ago -= 1) {
    progress(`2 million events and awards, ${ago} months ago`);
    // Two connections, for two cores.
    await Promise.all([
      asOwner((client) => client.query("call bench.fill_events($1)", [ago])),
      asOwner((client) => client.query("call bench.fill_awards($1)", [ago])),
    ]);
  }
  await asOwner(async (client) => {
    await client.query("vacuum analyze laurel.users, laurel_private.user_states");
    await client.query("analyze");
    await client.query("checkpoint");
  });
}
