import { request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

/** What clients sent and what they were told; the memory that no crash touches. */
export interface Log {
  /** Every event that was sent, by its own ID. */
  readonly sent: Set<string>;
  /** Those that the server has acknowledged: 201, 202, or a batch's 202. */
  readonly acknowledged: Set<string>;
  /** Requests that had no answer, or 5xx, and were sent again. */
  retries: number;
}

/** How clients behave. */
export interface ClientOptions {
  readonly port: number;
  readonly adminKey: string;
  readonly metric: string;
  readonly users: readonly string[];
  /** Without keys a repeated request is a new event: the test must catch that. */
  readonly withKeys: boolean;
  readonly random: () => number;
  readonly prefix: string;
}

/** Longest time for an event to be acknowledged at last, recovery included. */
const deadlineMs = 120_000;

/**
 * Sends events until `isOver` says so, one after the other, singly and in batches; each again and again until it is acknowledged.
 * Resolves when all that were sent are.
 */
export async function runClient(options: ClientOptions, no: number, log: Log, isOver: () => boolean): Promise<void> {
  for (let count = 0; !isOver(); count += 1) {
    const size = options.random() < 0.1 ? 5 : 1;
    const events = Array.from({ length: size }, (_, part) => {
      const id = `${options.prefix}-${no}-${count}-${part}`;
      const user = options.users[Math.floor(options.random() * options.users.length)] ?? "";
      return {
        id,
        body: { user: { id: user }, value: 1, attributes: { request: id } },
        key: options.withKeys ? { idempotencyKey: id } : {},
      };
    });
    for (const { id } of events) log.sent.add(id);
    const started = performance.now();
    for (;;) {
      const status =
        size === 1
          ? await post(options, `/v1/metrics/${options.metric}/event`, events[0]?.body, options.withKeys ? events[0]?.id : undefined)
          : await post(options, "/admin/v1/metrics/events", events.map(({ body, key }) => ({ key: options.metric, ...body, ...key })), undefined);
      if (status === 201 || status === 202) break;
      if (status !== undefined && status < 500) throw new Error(`the server answered ${status}`);
      if (performance.now() - started > deadlineMs) throw new Error("the server did not come back");
      log.retries += 1;
      await pause(20);
    }
    for (const { id } of events) log.acknowledged.add(id);
  }
}

/** The status; undefined when there was no whole answer. */
function post(options: ClientOptions, path: string, body: unknown, key: string | undefined): Promise<number | undefined> {
  return new Promise((resolve) => {
    const call = request(
      {
        host: "127.0.0.1",
        port: options.port,
        path,
        method: "POST",
        agent: false,
        timeout: 20_000,
        headers: {
          "X-API-KEY": options.adminKey,
          "Content-Type": "application/json",
          ...(key === undefined ? {} : { "Idempotency-Key": key }),
        },
      },
      (answer) => {
        answer.on("data", () => undefined);
        answer.on("error", () => {
          resolve(undefined);
        });
        answer.on("close", () => {
          resolve(answer.complete ? answer.statusCode : undefined);
        });
      },
    );
    call.on("timeout", () => {
      call.destroy();
    });
    call.on("error", () => {
      resolve(undefined);
    });
    call.end(JSON.stringify(body));
  });
}
