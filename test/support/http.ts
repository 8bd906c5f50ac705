import type { RequestListener } from "node:http";
import { type Config, readConfig } from "../../src/config.ts";
import type { Pools } from "../../src/postgres/pools.ts";
import { createApp } from "../../src/server.ts";
import { silentLogger } from "./database.ts";
import { testBox } from "./dispatch.ts";

/** The app as the server makes it, over a test's own database; for supertest. */
export function createTestApp(pools: Pools, options: { config?: Partial<Config>; isDraining?: () => boolean } = {}): RequestListener {
  return createApp({
    config: { ...readConfig({}), ...options.config },
    pools,
    secrets: testBox,
    logger: silentLogger,
    isDraining: options.isDraining ?? (() => false),
  }).listener;
}
