import { setTimeout as pause } from "node:timers/promises";
import type { Pool } from "pg";
import type { Logger } from "pino";
import { Agent, type Dispatcher as HttpDispatcher } from "undici";
import type { AllowedNetworks } from "../config.ts";
import { createGuardedConnector, type Resolve } from "./addresses.ts";
import { generateWebhookSecret, type SecretBox, signatureHeaders } from "./secrets.ts";
import { type AttemptResult, attemptTimeoutMs, sendWebhook } from "./send.ts";

/** What a dispatcher is made from. */
export interface DispatcherOptions {
  /** Connections as the database's owner; two are used at once. */
  readonly pool: Pool;
  readonly logger: Logger;
  readonly now: () => Date;
  /** Opens the endpoints' secrets. */
  readonly secrets: SecretBox;
  readonly allowed: AllowedNetworks;
  readonly resolve?: Resolve;
  readonly timeoutMs?: number;
  /** From 0 to 1; lengthens the pauses between attempts. */
  readonly jitter?: () => number;
  /** Most attempts under way in this process. Many wait for somebody who is down; each is a socket and a body. */
  readonly mostAtOnce?: number;
  /** Certificates of authorities to trust instead of the well-known ones. */
  readonly authorities?: string;
}

/** A delivery that was taken from the database. */
interface Claim {
  readonly tenant_id: string;
  readonly message_id: string;
  readonly endpoint_id: string;
  readonly token: string;
  readonly failed_attempts: number;
  readonly url: string;
  readonly payload: string;
  readonly secrets: readonly Buffer[];
}

/** Sends what is due, for as long as it runs. */
export interface WebhookDispatcher {
  /** Sends everything that is due now, waits for the answers and notes them; returns how many attempts it made. */
  runOnce: () => Promise<number>;
  /** Looks for what is due until it is stopped. */
  start: () => void;
  /** Takes nothing more; what is under way finishes, or is cut off by its own time limit. */
  stop: () => Promise<void>;
}

/** How long to wait when nothing was due. Messages are noticed by looking: a NOTIFY would slow every award. */
const idlePauseMs = 1_000;
const troublePauseMs = 5_000;

/**
 * Makes the process's dispatcher. Any number of processes may have one: what is due, who works on it and what
 * becomes of it stands in the database (webhooks/deliver_messages.sql).
 */
export function createDispatcher(options: DispatcherOptions): WebhookDispatcher {
  const { pool, logger, now, secrets, allowed, resolve, authorities, jitter = Math.random, timeoutMs = attemptTimeoutMs, mostAtOnce = 500 } = options;
  const agent: HttpDispatcher = new Agent({
    connect: createGuardedConnector({
      allowed, timeoutMs, ...(resolve === undefined ? {} : { resolve }), ...(authorities === undefined ? {} : { authorities }),
    }),
    pipelining: 1,
    maxHeaderSize: 8 * 1024,
  });
  const stopping = new AbortController();
  const underWay = new Set<Promise<void>>();
  const finished: object[] = [];
  let loop: Promise<void> | undefined;

  async function attempt(claim: Claim): Promise<void> {
    const startedAt = now();
    const start = performance.now();
    const result = await send(claim, startedAt);
    if (result.status === 410) await disable(claim);
    finished.push({
      tenantId: claim.tenant_id, messageId: claim.message_id, endpointId: claim.endpoint_id, token: claim.token,
      at: startedAt.toISOString(), latencyMs: Math.round(performance.now() - start), jitter: jitter(), ...result,
    });
  }

  async function send(claim: Claim, at: Date): Promise<AttemptResult> {
    let headers: Record<string, string>;
    try {
      headers = signatureHeaders({
        id: claim.message_id, at, body: claim.payload, failedAttempts: claim.failed_attempts,
        secrets: claim.secrets.map((sealed) => secrets.open(sealed)),
      });
    } catch (error) {
      return { status: undefined, error: (error as Error).message, response: undefined, retryAfterMs: undefined };
    }
    return sendWebhook({ agent, url: claim.url, body: claim.payload, headers, timeoutMs, now });
  }

  async function disable({ tenant_id, endpoint_id }: Claim): Promise<void> {
    await pool
      .query("select laurel_private.disable_webhook_endpoint($1, $2, 'It answered 410: gone for good.', $3)", [tenant_id, endpoint_id, now()])
      .catch((error: unknown) => {
        // Its messages are retried, and it will say so again.
        logger.warn({ err: error, endpointId: endpoint_id }, "could not disable a webhook that is gone");
      });
  }

  /** Notes what is finished. What cannot be noted stays for the next time; the lease bounds how long that helps. */
  async function report(): Promise<void> {
    while (finished.length > 0) {
      const batch = finished.slice(0, 200);
      await pool.query("select laurel_private.finish_webhook_deliveries($1)", [JSON.stringify(batch)]);
      finished.splice(0, batch.length);
    }
  }

  async function claim(): Promise<number> {
    const room = Math.min(mostAtOnce - underWay.size, 200);
    if (room <= 0) return 0;
    const found = await pool.query<Claim>("select * from laurel_private.claim_webhook_deliveries($1, $2)", [now(), room]);
    for (const row of found.rows) {
      const sending: Promise<void> = attempt(row).finally(() => underWay.delete(sending));
      underWay.add(sending);
    }
    return found.rows.length;
  }

  /** Endpoints made in SQL get a secret, and windows of points.changed that are over their message. */
  async function prepare(): Promise<void> {
    const found = await pool.query<{ tenant_id: string; endpoint_id: string }>("select * from laurel_private.webhooks_without_secret()");
    for (const { tenant_id, endpoint_id } of found.rows) {
      await pool.query("select laurel_private.add_first_webhook_secret($1, $2, $3)", [tenant_id, endpoint_id, secrets.seal(generateWebhookSecret())]);
    }
    for (;;) {
      const summed = await pool.query<{ count: number }>("select laurel_private.announce_points_changes($1) as count", [now()]);
      if ((summed.rows[0]?.count ?? 0) === 0) return;
    }
  }

  async function run(): Promise<void> {
    let preparedAt = -Infinity;
    while (!stopping.signal.aborted) {
      try {
        if (performance.now() - preparedAt >= idlePauseMs) {
          await prepare();
          preparedAt = performance.now();
        }
        await report();
        const claimed = await claim();
        if (claimed > 0 && underWay.size < mostAtOnce) {
          // Whoever answers at once is asked again at once.
          await Promise.race([...underWay]);
          continue;
        }
        if (underWay.size > 0 && claimed > 0) await Promise.race([...underWay]);
        else if (finished.length === 0) await Promise.race([idle(idlePauseMs), ...underWay]);
      } catch (error) {
        logger.warn({ err: error }, "webhooks: the database could not be asked; trying again");
        await idle(troublePauseMs);
      }
    }
    await Promise.all(underWay);
    await report();
  }

  const idle = (ms: number): Promise<void> => pause(ms, undefined, { signal: stopping.signal }).catch(() => undefined);

  return {
    runOnce: async () => {
      let attempts = 0;
      await prepare();
      for (;;) {
        const claimed = await claim();
        if (claimed === 0) return attempts;
        attempts += claimed;
        await Promise.all(underWay);
        await report();
      }
    },
    start: () => {
      loop ??= run().catch((error: unknown) => {
        logger.warn({ err: error }, "webhooks: the last results could not be noted; they will be sent again");
      });
    },
    stop: async () => {
      stopping.abort();
      await loop;
      await agent.close();
    },
  };
}
