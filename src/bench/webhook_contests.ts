import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { Pool } from "pg";
import { pino } from "pino";
import { Agent, request } from "undici";
import { parseNetworks } from "../config.ts";
import { createDispatcher } from "../webhooks/dispatcher.ts";
import { createSecretBox, generateWebhookSecret, keysFrom, signatureHeaders } from "../webhooks/secrets.ts";
import type { Contest, Contestant, Progress } from "./contest.ts";
import { pgbenchContestant } from "./database_contests.ts";
import { withClient } from "./laboratory.ts";

/** What an event may cost with an endpoint: 1.3 times as much as without. */
const leastShare = 0.77;
const clients = 8;
/** So many that few are met twice in a run. */
const users = { first_user: 1, last_user: 20_000 };
const pointsTypes = ["points.changed", "points.level_changed"];
const everyType = [
  ...pointsTypes, "points.boost_started", "points.boost_finished", "achievement.completed", "streak.started", "streak.extended", "streak.lost",
  "streak.freeze_consumed", "streak.freeze_earned", "leaderboard.started", "leaderboard.changed", "leaderboard.finished", "leaderboard.rank_changed",
];
const rowsAtOnce = 1_000;
const messagesPerRun = 3_000;
const leastMessagesPerSecond = 1_000;
const requestsAtOnce = 100;
const box = createSecretBox(keysFrom("a key for benchmarks alone"));

/** Databases of the same configuration, with these endpoints. */
export interface WebhookDatabases {
  readonly without: string;
  readonly points: string;
  readonly everything: string;
}

/**
 * Makes the databases. Every user has had the message that opens its 15 minutes: what follows is summed up, as it is of users who
 * do more than one thing (rule H3), and every user has been there today, so that no streak is extended.
 */
export async function prepareWebhooks(createDatabase: (name: string) => Promise<string>, progress: Progress): Promise<WebhookDatabases> {
  const prepare = async (name: string, types: readonly string[]): Promise<string> => {
    progress(`${users.last_user} users, ${name}`);
    const connectionString = await createDatabase(`webhooks_${name}`);
    await withClient(connectionString, async (owner) => {
      if (types.length > 0) await owner.query("insert into laurel.webhook_endpoints (url, event_types) values ('https://example.com/hook', $1)", [types]);
      await owner.query("insert into laurel.users (id) select 'u' || n from generate_series(10001, $1::int) n", [users.last_user]);
      for (let n = users.first_user; n <= users.last_user; n += rowsAtOnce) {
        await owner.query("insert into laurel.metric_events (metric_key, user_id) select 'words', 'u' || n from generate_series($1::int, $1::int + $2::int - 1) n", [n, rowsAtOnce]);
      }
      await owner.query("vacuum analyze");
      await owner.query("checkpoint");
    });
    return connectionString;
  };
  return { without: await prepare("without", []), points: await prepare("points", pointsTypes), everything: await prepare("everything", everyType) };
}

/** (g) What webhooks cost: an event with an endpoint, and a delivery. */
export function webhookContests(
  work: { readonly pgbench: string; readonly seconds: number }, databases: WebhookDatabases, receiverUrl: string,
): Contest[] {
  const events = (name: string, connectionString: string): Contestant =>
    pgbenchContestant({ ...work, connectionString }, name, { script: "record_event", clients, variables: users });
  const none = "no endpoint";
  const goals: Contest["goals"] = [{ kind: "share", of: none, least: leastShare }];
  const writing = events("every event writes a message", databases.points);
  return [
    { title: "events summed up, an endpoint for points and levels", laurel: events("points", databases.points), rivals: [events(none, databases.without)], goals },
    { title: "events summed up, an endpoint for everything", laurel: events("everything", databases.everything), rivals: [events(none, databases.without)], goals },
    {
      title: "events that write a message each",
      laurel: {
        name: writing.name,
        run: async () => {
          await withClient(databases.points, (owner) => owner.query("truncate laurel_private.points_changed_windows"));
          return writing.run();
        },
      },
      rivals: [events(none, databases.without)],
      goals: [],
    },
    {
      title: `messages to a receiver that answers at once, ${requestsAtOnce} at once`,
      laurel: { name: "dispatcher", run: () => dispatch(databases.without, receiverUrl) },
      rivals: [{ name: "bare loop of the same requests", run: () => sendInALoop(receiverUrl) }],
      goals: [{ kind: "rate", least: leastMessagesPerSecond }],
    },
  ];
}

const bodyOf = (n: number): string => JSON.stringify({
  type: "points.changed",
  user: { id: `u${n}`, email: null, name: null, tz: null, signUpDate: null, deviceTokens: null, subscribeToEmails: true, attributes: {}, control: false },
  points: { id: randomUUID(), key: "xp", name: "XP", description: null, badgeUrl: null, maxPoints: null, total: 10, added: 10, awards: [] },
});

/** Writes messages as the flow does, and times the dispatcher from its start until all are noted as delivered. */
async function dispatch(connectionString: string, url: string): Promise<number> {
  const pool = new Pool({ connectionString, max: 4 });
  try {
    await pool.query("delete from laurel.webhook_endpoints");
    const client = await pool.connect();
    await client.query("begin");
    await client.query("select set_config('laurel.webhook_allow_cidrs', '127.0.0.0/8', true)");
    const found = await client.query<{ id: string }>(
      "insert into laurel.webhook_endpoints (url, event_types, max_concurrency) values ($1, $2, $3) returning id", [url, pointsTypes, requestsAtOnce]);
    await client.query("select laurel_private.replace_webhook_secret($1, $2, '0')", [found.rows[0]?.id, box.seal(generateWebhookSecret())]);
    await client.query("commit");
    client.release();
    await pool.query(
      `select laurel_private.write_messages(laurel.current_tenant_id(), array(
         select ('u' || b.no, 'points.changed', b.body)::laurel_private.outgoing_message
         from unnest($1::json[]) with ordinality as b (body, no)))`,
      [Array.from({ length: messagesPerRun }, (_, n) => bodyOf(n + 1))],
    );
    await pool.query("vacuum analyze laurel.webhook_messages, laurel.webhook_deliveries");
    const dispatcher = createDispatcher({
      pool, logger: pino({ level: "silent" }), now: () => new Date(), secrets: box, allowed: parseNetworks("127.0.0.0/8"),
    });
    const start = performance.now();
    dispatcher.start();
    for (;;) {
      const left = await pool.query("select from laurel.webhook_deliveries where endpoint_id = $1 and status = 'pending' limit 1", [found.rows[0]?.id]);
      if (left.rowCount === 0) break;
      await pause(10);
    }
    const seconds = (performance.now() - start) / 1000;
    await dispatcher.stop();
    return messagesPerRun / seconds;
  } finally {
    await pool.end();
  }
}

/** The same requests, signed too, by as many at once, and nothing remembered. */
async function sendInALoop(url: string): Promise<number> {
  const agent = new Agent({ pipelining: 1 });
  const secrets = [generateWebhookSecret()];
  const start = performance.now();
  let next = 0;
  await Promise.all(Array.from({ length: requestsAtOnce }, async () => {
    while (next < messagesPerRun) {
      const body = bodyOf((next += 1));
      const headers = { "content-type": "application/json", ...signatureHeaders({ id: randomUUID(), at: new Date(), body, secrets, failedAttempts: 0 }) };
      const answer = await request(url, { dispatcher: agent, method: "POST", body, headers });
      await answer.body.dump();
    }
  }));
  const seconds = (performance.now() - start) / 1000;
  await agent.close();
  return messagesPerRun / seconds;
}

/** Starts receiver.ts, in a process of its own so that it does not share a thread with who sends. */
export async function startReceiver(): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "receiver.ts")], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const port = await Promise.race([once(createInterface(child.stdout), "line").then(([line]) => String(line)), ended.then(() => undefined)]);
  if (port === undefined) throw new Error("the receiver ended before it listened");
  return {
    url: `http://127.0.0.1:${port}/`,
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
