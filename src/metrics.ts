import { collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Pools } from "./postgres/pools.ts";

/** What a process counts, in Prometheus' form. */
export interface Metrics {
  readonly registry: Registry;
  /** Seconds that requests took, by operation (its ID in the contract, or where it went), method and status. */
  readonly requestSeconds: Histogram<"operation" | "method" | "status">;
}

/** Makes the process's metrics: Node's own, requests, and connections by pool. */
export function createMetrics(pools: Pools): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requestSeconds = new Histogram({
    name: "laurel_http_request_duration_seconds",
    help: "Seconds from a request's first byte to its answer's last",
    labelNames: ["operation", "method", "status"],
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: [registry],
  });
  new Gauge({
    name: "laurel_database_connections",
    help: "Connections of this process by pool and state; waiting counts callers without one",
    labelNames: ["pool", "state"],
    registers: [registry],
    collect() {
      for (const name of ["owner", "server", "admin", "service", "user"] as const) {
        const pool = pools[name];
        this.set({ pool: name, state: "idle" }, pool.idleCount);
        this.set({ pool: name, state: "busy" }, pool.totalCount - pool.idleCount);
        this.set({ pool: name, state: "waiting" }, pool.waitingCount);
      }
    },
  });
  addFigures(registry, pools, "select * from laurel_private.activity_figures()", activity);
  addFigures(registry, pools, "select * from laurel_private.webhook_figures()", deliveries);
  return { registry, requestSeconds };
}

const activity = {
  events: ["laurel_events_recorded", "Events written to the log since the database's statistics began"],
  awards: ["laurel_awards_made", "Awards written to the ledger since the database's statistics began"],
  users: ["laurel_users", "Users, as the database estimates them"],
  queued_events: ["laurel_queued_events", "Events of batches that wait to be recorded, up to 10,000"],
  oldest_queued_seconds: ["laurel_queued_events_oldest_seconds", "Age of the oldest event that waits"],
  refused_events: ["laurel_queued_events_refused", "Events of batches that could not be recorded, up to 10,000"],
} as const;

const deliveries = {
  attempts: ["laurel_webhook_attempts", "Attempts to deliver a webhook message since the database's statistics began"],
  delivered: ["laurel_webhook_delivered_last_minute", "Attempts of the last minute that delivered, of its latest 10,000"],
  failed: ["laurel_webhook_failed_last_minute", "Attempts of the last minute that failed, of its latest 10,000"],
  median_seconds: ["laurel_webhook_attempt_seconds_p50", "Seconds that half of the last minute's attempts took at most"],
  slowest_seconds: ["laurel_webhook_attempt_seconds_p99", "Seconds that 99 in 100 of the last minute's attempts took at most"],
  due: ["laurel_webhook_deliveries_due", "Deliveries that could be sent now, up to 10,000"],
  oldest_due_seconds: ["laurel_webhook_deliveries_oldest_due_seconds", "How long the oldest of them could have been sent"],
  retrying: ["laurel_webhook_deliveries_retrying", "Deliveries that wait for their next attempt, up to 10,000"],
  parked: ["laurel_webhook_deliveries_parked", "Deliveries that were given up until they are replayed, up to 10,000"],
} as const;

/** Figures of the database, asked for when they are looked at; left out while it is away or where there is none. */
function addFigures<Key extends string>(registry: Registry, pools: Pools, query: string, named: Readonly<Record<Key, readonly [name: string, help: string]>>): void {
  let asking: Promise<Record<Key, string | null> | undefined> | undefined;
  // All gauges are collected at once: they share one question.
  const figures = (): NonNullable<typeof asking> => {
    asking ??= pools.owner
      .query<Record<Key, string | null>>(query)
      .then(({ rows }) => rows[0])
      .catch(() => undefined)
      .finally(() => {
        asking = undefined;
      });
    return asking;
  };
  for (const key of Object.keys(named) as Key[]) {
    const [name, help] = named[key];
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const figure = (await figures())?.[key] ?? undefined;
        if (figure === undefined) this.remove();
        else this.set(Number(figure));
      },
    });
  }
}
