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
  addActivity(registry, pools);
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

/** Figures of the database, asked for when they are looked at; left out while it is away. */
function addActivity(registry: Registry, pools: Pools): void {
  let asking: Promise<Record<keyof typeof activity, string> | undefined> | undefined;
  // All gauges are collected at once: they share one question.
  const figures = (): NonNullable<typeof asking> => {
    asking ??= pools.owner
      .query<Record<keyof typeof activity, string>>("select * from laurel_private.activity_figures()")
      .then(({ rows }) => rows[0])
      .catch(() => undefined)
      .finally(() => {
        asking = undefined;
      });
    return asking;
  };
  for (const key of Object.keys(activity) as (keyof typeof activity)[]) {
    const [name, help] = activity[key];
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        const figure = (await figures())?.[key];
        if (figure === undefined) this.remove();
        else this.set(Number(figure));
      },
    });
  }
}
