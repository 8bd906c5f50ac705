import { collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Pools } from "./postgres/pools.ts";

/** What a process counts, in Prometheus' form. */
export interface Metrics {
  readonly registry: Registry;
  /** Seconds that requests took, by method and status. */
  readonly requestSeconds: Histogram<"method" | "status">;
}

/** Makes the process's metrics: Node's own, requests, and connections by pool. */
export function createMetrics(pools: Pools): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requestSeconds = new Histogram({
    name: "laurel_http_request_duration_seconds",
    help: "Seconds from a request's first byte to its answer's last",
    labelNames: ["method", "status"],
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
  return { registry, requestSeconds };
}
