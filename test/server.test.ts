import { connect } from "node:net";
import { beforeAll, expect, test } from "@jest/globals";
import request from "supertest";
import { createPools } from "../src/postgres/pools.ts";
import { closeServer, listen } from "../src/server.ts";
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

test("refuses what is no HTTP, or too large for it, in the form of all errors", async () => {
  const { server } = await listen({ listener: createTestApp(database.pools), upgrade: () => undefined }, "127.0.0.1", 0);
  const { port } = server.address() as { port: number };
  const send = async (text: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1");
      let answer = "";
      socket.on("data", (chunk) => {
        answer += chunk.toString();
      });
      socket.on("close", () => {
        resolve(answer);
      });
      socket.on("error", () => undefined);
      socket.write(text);
    });
  for (const [text, status] of [
    ["GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n", 400],
    ["nonsense\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(17_000)}\r\n\r\n`, 431],
  ] as const) {
    const answer = await send(text);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4))).toEqual({ error: expect.stringMatching(/\.$/) });
  }
  await closeServer(server, 1_000);
});

test("says nothing of HTTPS, which is the proxy's to say", async () => {
  const response = await request(createTestApp(database.pools)).get("/healthz");
  expect(response.headers).toMatchObject({ "x-content-type-options": "nosniff", "x-frame-options": "SAMEORIGIN" });
  expect(response.headers).not.toHaveProperty("strict-transport-security");
});
