import { beforeAll, expect, test } from "@jest/globals";
import request from "supertest";
import { createPools } from "../src/postgres/pools.ts";
import { cloneDatabase, silentLogger, type TestDatabase, testTimeouts } from "./support/database.ts";
import { createTestApp } from "./support/http.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
});

test("is alive and ready with a database", async () => {
  const app = createTestApp(database.pools);
  await request(app).get("/healthz").expect(200, { status: "ok" });
  await request(app).get("/readyz").expect(200, { status: "ready" });
});

test("is alive but not ready while it stops", async () => {
  const app = createTestApp(database.pools, { isDraining: () => true });
  await request(app).get("/healthz").expect(200);
  await request(app).get("/readyz").expect(503).expect("Retry-After", /^\d+$/);
});

test("is alive but not ready while the database is away", async () => {
  const nowhere = "postgres://laurel@127.0.0.1:1/laurel";
  const pools = createPools({
    ownerUrl: nowhere,
    serverUrl: nowhere,
    size: 1,
    timeouts: testTimeouts,
    logger: silentLogger,
  });
  const app = createTestApp(pools);
  await request(app).get("/healthz").expect(200);
  await request(app).get("/readyz").expect(503).expect("Retry-After", /^\d+$/);
  await pools.end();
});

test("shows its metrics in Prometheus' form", async () => {
  const app = createTestApp(database.pools);
  await request(app).get("/healthz");
  const { text } = await request(app).get("/metrics").expect(200).expect("Content-Type", /^text\/plain/);
  expect(text).toContain('laurel_http_request_duration_seconds_count{operation="healthz",method="GET",status="200"} 1');
  expect(text).toContain('laurel_database_connections{pool="service",state="waiting"} 0');
  expect(text).toContain("nodejs_eventloop_lag_seconds");
});

test("answers an unknown address with 404 and an error", async () => {
  const response = await request(createTestApp(database.pools)).get("/nowhere").expect(404);
  expect(response.body).toEqual({ error: expect.any(String) });
});
