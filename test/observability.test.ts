import { Writable } from "node:stream";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { pino } from "pino";
import request from "supertest";
import { readConfig } from "../src/config.ts";
import { createApp } from "../src/server.ts";
import { writeMessages } from "./support/dispatch.ts";
import { type RestApi, startRestApi } from "./support/rest.ts";
import { anEndpoint } from "./support/webhooks.ts";

let rest: RestApi;

beforeAll(async () => {
  rest = await startRestApi();
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).expect(201);
});

describe("every answer", () => {
  const places = ["/healthz", "/metrics", "/v1/users/ann", "/nothing", "/docs", "/graphql", "/openapi/admin.json"];

  test.each(places)("of %s has security headers and a request ID", async (path) => {
    const response = await request(rest.app).get(path);
    expect(response.headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "x-frame-options": "SAMEORIGIN",
      "referrer-policy": "no-referrer",
      "content-security-policy": expect.any(String),
      "x-request-id": expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(response.headers).not.toHaveProperty("x-powered-by");
  });

  test("of an event, which goes past Express, has them too", async () => {
    const response = await rest.as().post("/v1/metrics/words/event", { user: { id: "ann" }, value: 1 }).expect(201);
    expect(response.headers).toMatchObject({ "x-frame-options": "SAMEORIGIN", "x-request-id": expect.any(String) });
  });

  test("keeps the caller's request ID when it is one", async () => {
    await request(rest.app).get("/healthz").set("X-Request-Id", "abc-1.2:3").expect("X-Request-Id", "abc-1.2:3");
    await request(rest.app).get("/healthz").set("X-Request-Id", "a b").expect("X-Request-Id", /^[0-9a-f-]{36}$/);
    await request(rest.app).get("/healthz").set("X-Request-Id", "x".repeat(129)).expect("X-Request-Id", /^[0-9a-f-]{36}$/);
  });
});

test("/metrics counts requests by operation, whatever the address names, and tells of events and awards", async () => {
  const { app } = rest;
  await rest.as().get("/v1/users/somebody-secret").expect(404);
  await rest.as().post("/v1/metrics/words/event", { user: { id: "bob" }, value: 1 }).expect(201);
  await request(app).get("/wp-admin/x.php").expect(404);
  const { text } = await request(app).get("/metrics").expect(200);
  expect(text).toContain('laurel_http_request_duration_seconds_count{operation="users_get",method="GET",status="404"} ');
  expect(text).toContain('laurel_http_request_duration_seconds_count{operation="metrics_event",method="POST",status="201"} ');
  expect(text).toContain('operation="none",method="GET",status="404"');
  expect(text).not.toMatch(/somebody-secret|wp-admin|bob/);
  for (const name of ["laurel_events_recorded", "laurel_awards_made", "laurel_users", "laurel_queued_events", "laurel_queued_events_oldest_seconds"]) {
    expect(text).toMatch(new RegExp(`^${name} \\d`, "m"));
  }
});

test("/metrics tells how many events wait and for how long", async () => {
  await rest.as().post("/admin/v1/metrics/events", [{ key: "words", user: { id: "ann" }, value: 1 }]).expect(202);
  await rest.database.pools.owner.query(
    "update laurel_private.queued_events set id = laurel_private.first_uuid_v7(now() - interval '1 hour')",
  );
  const { text } = await request(rest.app).get("/metrics").expect(200);
  expect(text).toMatch(/^laurel_queued_events 1$/m);
  expect(Number(/^laurel_queued_events_oldest_seconds (\S+)$/m.exec(text)?.[1])).toBeGreaterThanOrEqual(3600);
  expect(Number(/^laurel_queued_events_oldest_seconds (\S+)$/m.exec(text)?.[1])).toBeLessThan(3700);
});

test("/metrics tells what becomes of webhooks", async () => {
  const { owner } = rest.database.pools;
  const figure = async (name: string): Promise<number | undefined> => {
    const value = new RegExp(`^laurel_webhook_${name} (\\S+)$`, "m").exec((await request(rest.app).get("/metrics").expect(200)).text)?.[1];
    return value === undefined ? undefined : Number(value);
  };
  expect([await figure("deliveries_due"), await figure("attempt_seconds_p50")]).toEqual([0, undefined]);
  const endpoint = await anEndpoint(owner, { types: ["points.changed"] });
  await writeMessages(rest.database, Array.from({ length: 5 }, (_, n) => `told ${n}`));
  const found = await owner.query<{ message_id: string }>("select message_id from laurel.webhook_deliveries where endpoint_id = $1 order by message_id", [endpoint.id]);
  const [delivered = "", failed = "", parked = ""] = found.rows.map(({ message_id }) => message_id);
  await owner.query("update laurel.webhook_deliveries set next_attempt_at = next_attempt_at - interval '1 hour' where message_id <> all ($1)", [[delivered, failed, parked]]);
  const report = [{ id: delivered, status: 200 }, { id: failed, status: 500, error: "the endpoint answered 500" }, { id: parked, status: 410, error: "the endpoint answered 410" }];
  await owner.query(
    `insert into laurel_private.webhook_leases select tenant_id, message_id, endpoint_id, message_id, now() + interval '1 minute'
     from laurel.webhook_deliveries where message_id = any ($1)`, [[delivered, failed, parked]]);
  await owner.query(
    `select laurel_private.finish_webhook_deliveries((select jsonb_agg(r || jsonb_build_object('tenantId', laurel.current_tenant_id(), 'endpointId', $2::uuid,
       'messageId', r -> 'id', 'token', r -> 'id', 'at', now(), 'latencyMs', 250, 'jitter', 0)) from jsonb_array_elements($1::jsonb) r))`,
    [JSON.stringify(report), endpoint.id]);
  expect([await figure("delivered_last_minute"), await figure("failed_last_minute")]).toEqual([1, 2]);
  expect([await figure("attempt_seconds_p50"), await figure("attempt_seconds_p99")]).toEqual([0.25, 0.25]);
  expect([await figure("deliveries_due"), await figure("deliveries_retrying"), await figure("deliveries_parked")]).toEqual([2, 1, 1]);
  expect(await figure("deliveries_oldest_due_seconds")).toBeGreaterThanOrEqual(3600);
  expect(await figure("deliveries_oldest_due_seconds")).toBeLessThan(3700);
});

test("logs name no key, no user and no query, at the most talkative level and when things fail", async () => {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  const { pools } = rest.database;
  const app = createApp({ config: readConfig({}), pools, logger: pino({ level: "trace" }, sink), isDraining: () => false }).listener;
  const secret = rest.adminKey.secret;
  const user = "carla@example.com";
  await request(app).post("/v1/metrics/words/event").set("X-API-KEY", secret).send({ user: { id: user, email: user }, value: 1 }).expect(201);
  await request(app).get(`/v1/users/${encodeURIComponent(user)}/points/xp?awards=3`).set("X-API-KEY", secret).expect(404);
  await request(app).post("/graphql").set("X-API-KEY", secret).send({ query: `{ user(id: "${user}") { id } }` }).expect(200);
  await request(app).post("/v1/metrics/words/event").set("X-API-KEY", `${secret}x`).send({ user: { id: user }, value: 1 }).expect(401);
  await pools.owner.query("alter function laurel.user_profile(text) rename to gone");
  await request(app).get(`/v1/users/${encodeURIComponent(user)}`).set("X-API-KEY", secret).expect(500, { error: expect.any(String) as unknown as string }).catch(() => undefined);
  await pools.owner.query("alter function laurel.gone(text) rename to user_profile");
  const text = lines.join("");
  expect(lines.length).toBeGreaterThan(3);
  expect(text).toContain("a request failed");
  expect(text).not.toContain(secret.slice(12));
  expect(text).not.toMatch(/carla|awards=3/);
});
