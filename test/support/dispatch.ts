import type { Resolve } from "../../src/webhooks/addresses.ts";
import { parseNetworks } from "../../src/config.ts";
import { createDispatcher, type WebhookDispatcher } from "../../src/webhooks/dispatcher.ts";
import { createSecretBox, keysFrom } from "../../src/webhooks/secrets.ts";
import { silentLogger, type TestDatabase } from "./database.ts";
import { first } from "./engine.ts";
import type { Endpoint } from "./webhooks.ts";

export const testBox = createSecretBox(keysFrom("a key for tests alone"));
export const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** A clock that moves when it is told to. Starts an hour ahead, so that everything written in a test is due. */
export interface TestClock {
  now: () => Date;
  advance: (seconds: number) => void;
}

export function aClock(): TestClock {
  let at = Date.now() + 3_600_000;
  return {
    now: () => new Date(at),
    advance: (seconds) => {
      at += seconds * 1000;
    },
  };
}

/** A dispatcher that may reach 127.0.0.1, and nothing else that is private. */
export function aDispatcher(
  database: TestDatabase,
  clock: TestClock,
  options: { resolve?: Resolve; timeoutMs?: number; allowed?: string; jitter?: () => number } = {},
): WebhookDispatcher {
  return createDispatcher({
    pool: database.pools.owner,
    logger: silentLogger,
    now: clock.now,
    secrets: testBox,
    allowed: parseNetworks(options.allowed ?? "127.0.0.1/32"),
    jitter: options.jitter ?? (() => 0),
    timeoutMs: options.timeoutMs ?? 5_000,
    ...(options.resolve === undefined ? {} : { resolve: options.resolve }),
  });
}

/** Makes an endpoint that may lead to loopback, with a secret that is known. */
export async function aReceivingEndpoint(
  database: TestDatabase,
  url: string,
  options: { types?: readonly string[]; maxConcurrency?: number; secret?: string } = {},
): Promise<Endpoint> {
  const { owner } = database.pools;
  const client = await owner.connect();
  try {
    await client.query("begin");
    await client.query("select set_config('laurel.webhook_allow_cidrs', '127.0.0.0/8', true)");
    const found = await client.query<Endpoint>(
      "insert into laurel.webhook_endpoints (url, event_types, max_concurrency) values ($1, $2, $3) returning *",
      [url, options.types ?? ["points.changed", "points.level_changed"], options.maxConcurrency ?? 100],
    );
    const endpoint = first(found.rows);
    await client.query("select laurel_private.replace_webhook_secret($1, $2, '0')", [endpoint.id, testBox.seal(options.secret ?? testSecret)]);
    await client.query("commit");
    return endpoint;
  } finally {
    client.release();
  }
}

/** Writes messages as the flow does: so many for each user, in order. */
export async function writeMessages(database: TestDatabase, users: readonly string[], each = 1): Promise<void> {
  await database.pools.owner.query(
    `insert into laurel.users (id) select u from unnest($1::text[]) u on conflict do nothing`, [users]);
  await database.pools.owner.query(
    `select laurel_private.write_messages(laurel.current_tenant_id(), array(
       select (u, 'points.changed', json_build_object('type', 'points.changed', 'user', u, 'n', n))::laurel_private.outgoing_message
       from unnest($1::text[]) u cross join generate_series(1, $2::int) n order by n, u))`,
    [users, each],
  );
}

/** A delivery as stored. */
export interface Delivery {
  readonly message_id: string;
  readonly user_id: string | null;
  readonly status: "pending" | "delivered" | "parked";
  readonly failed_attempts: number;
  readonly next_attempt_at: Date | null;
  readonly last_status: number | null;
  readonly last_error: string | null;
}

export async function deliveries(database: TestDatabase, endpoint: { id: string }): Promise<Delivery[]> {
  const found = await database.pools.owner.query<Delivery>(
    "select * from laurel.webhook_deliveries where endpoint_id = $1 order by message_id", [endpoint.id]);
  return found.rows;
}

/** The delivery log of an endpoint in the order of attempts. */
export async function attempts(database: TestDatabase, endpoint: { id: string }): Promise<
  { message_id: string; status: number | null; error: string | null; response: string | null; attempted_at: Date }[]
> {
  const found = await database.pools.owner.query<{ message_id: string; status: number | null; error: string | null; response: string | null; attempted_at: Date }>(
    "select * from laurel.webhook_attempts where endpoint_id = $1 order by id", [endpoint.id]);
  return found.rows;
}
