import { setTimeout as pause } from "node:timers/promises";
import { waitFor } from "../../src/postgres/processes.ts";
import { type Log, runClient } from "./clients.ts";
import type { Proxy } from "./proxy.ts";
import type { Stage, Victim } from "./stage.ts";

/** What a round found. */
export interface Findings {
  readonly sent: number;
  readonly acknowledged: number;
  readonly retries: number;
  readonly cuts: number;
  readonly ticks: number;
  /** Acknowledged and not in the log of events. */
  readonly lost: number;
  /** In the log of events more than once, or ticks applied more than once. */
  readonly doubled: number;
  readonly ticksMissed: number;
  /** What verify() reported. */
  readonly broken: readonly string[];
}

/** How a round goes. */
export interface RoundOptions {
  readonly victim: Victim;
  readonly clients: number;
  readonly withKeys: boolean;
  readonly name: string;
  readonly random: () => number;
}

const ticksPerUser = 48;

/** Load, a crash at a random moment in the middle of it, load again; then everything is compared with the clients' log. */
export async function runRound(stage: Stage, proxy: Proxy, options: RoundOptions): Promise<Findings> {
  const log: Log = { sent: new Set(), acknowledged: new Set(), retries: 0 };
  const cutsBefore = proxy.cuts();
  let isOver = false;
  const clients = Array.from({ length: options.clients }, (_, no) =>
    runClient(
      {
        port: proxy.port,
        adminKey: stage.adminKey,
        metric: stage.metric,
        users: stage.users,
        withKeys: options.withKeys,
        random: options.random,
        prefix: options.name,
      },
      no,
      log,
      () => isOver,
    ),
  );
  // So that a client's failure is seen at the end and not before.
  const finished = Promise.all(clients);
  finished.catch(() => undefined);
  await pause(300 + options.random() * 500);
  const trigger = await stage.addTicks(ticksPerUser);
  await pause(options.random() * 700);
  await stage.crash(options.victim);
  await pause(500);
  isOver = true;
  await finished;
  await drain(stage);
  return { ...(await compare(stage, log, options.name, trigger)), retries: log.retries, cuts: proxy.cuts() - cutsBefore };
}

/** Everything accepted is recorded and every due tick applied, by the worker or by this. */
async function drain(stage: Stage): Promise<void> {
  await waitFor("the queue to be empty", 60_000, async () => {
    await stage.query("select laurel_private.process_queued_events()");
    const [left] = await stage.query<{ n: number }>(
      "select count(*)::int as n from laurel_private.queued_events where refused_code is null");
    return left?.n === 0;
  });
  await waitFor("all ticks to be applied", 60_000, async () => {
    await stage.query("select laurel.run_due_time_triggers()");
    const [left] = await stage.query<{ n: number }>(
      `select (select count(*) from laurel_private.user_clocks where next_due_at <= now())::int
         + (select count(*) from laurel_private.time_trigger_spans where ends_at is null and looks = 0)::int as n`);
    return left?.n === 0;
  });
  await stage.query("select laurel_private.fold_earnings()");
}

async function compare(stage: Stage, log: Log, prefix: string, trigger: string): Promise<Omit<Findings, "retries" | "cuts">> {
  const stored = new Map(
    (await stage.query<{ request: string; count: number }>(
      `select attributes ->> 'request' as request, count(*)::int as count from laurel.metric_events
       where starts_with(attributes ->> 'request', $1) group by 1`, [`${prefix}-`],
    )).map(({ request, count }) => [request, count]),
  );
  const [ticks] = await stage.query<{ applied: number; different: number }>(
    `select count(*)::int as applied, count(distinct (user_id, tick))::int as different
     from laurel.points_awards where trigger_id = $1`, [trigger]);
  const broken = await stage.query<{ invariant: string; subject: string }>("select invariant, subject from laurel.verify()");
  const applied = ticks?.applied ?? 0;
  const different = ticks?.different ?? 0;
  return {
    sent: log.sent.size,
    acknowledged: log.acknowledged.size,
    ticks: applied,
    lost: [...log.acknowledged].filter((id) => !stored.has(id)).length,
    doubled: [...stored.values()].reduce((sum, count) => sum + count - 1, 0) + applied - different,
    ticksMissed: stage.users.length * ticksPerUser - different,
    broken: broken.map(({ invariant, subject }) => `${invariant} ${subject}`),
  };
}
