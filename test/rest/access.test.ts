import { beforeAll, describe, expect, test } from "@jest/globals";
import request from "supertest";
import { type ApiKey, generateApiKey } from "../../src/api_keys.ts";
import { createPools } from "../../src/postgres/pools.ts";
import { createAuthenticator } from "../../src/rest/callers.ts";
import { silentLogger, testTimeouts } from "../support/database.ts";
import { createTestApp } from "../support/http.ts";
import { type RestApi, startRestApi } from "../support/rest.ts";

let rest: RestApi;
let own: ApiKey;

beforeAll(async () => {
  rest = await startRestApi();
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).expect(201);
  await rest.as().post("/admin/v1/points", [{ name: "XP", key: "xp" }]).expect(201);
  await rest.as().post("/v1/users", { id: "ann" }).expect(201);
  await rest.as().post("/v1/users", { id: "bob" }).expect(201);
  own = await rest.createApplicationKey("ann");
  await rest.createTenant("other");
});

describe("a key", () => {
  test.each([
    ["missing", undefined],
    ["empty", ""],
    ["without a body", "prefix"],
    ["unknown", generateApiKey().secret],
    ["with an odd prefix", `a'b.${"x".repeat(40)}`],
  ])("that is %s is answered with 401", async (_what, secret) => {
    const started = request(rest.app).get("/v1/users/ann");
    if (secret !== undefined) void started.set("X-API-KEY", secret);
    const response = await started.expect(401);
    expect(response.body).toEqual({ error: expect.any(String) });
  });

  test("with the prefix of another and a wrong body is answered with 401", async () => {
    const [prefix = ""] = rest.adminKey.secret.split(".");
    await request(rest.app).get("/v1/users/ann").set("X-API-KEY", `${prefix}.${"x".repeat(43)}`).expect(401);
    await request(rest.app).post("/v1/metrics/words/event").set("X-API-KEY", `${prefix}.${"x".repeat(43)}`).send({}).expect(401);
  });

  test("that was revoked stops working when the cache forgets it", async () => {
    const key = await rest.createApplicationKey("ann");
    let time = 0;
    const authenticate = createAuthenticator(rest.database.pools.owner, () => time);
    const incoming = { headers: { "x-api-key": key.secret } } as unknown as Parameters<typeof authenticate>[0];
    await expect(authenticate(incoming)).resolves.toMatchObject({ kind: "application", customerId: "default", userId: "ann" });
    await rest.database.pools.owner.query("update laurel_private.api_keys set revoked_at = now() where prefix = $1", [key.prefix]);
    time = 4_999;
    await expect(authenticate(incoming)).resolves.toBeDefined();
    time = 5_001;
    await expect(authenticate(incoming)).rejects.toThrow("The API key is not valid.");
  });
});

describe("an application key", () => {
  test("acts for its own user", async () => {
    const as = rest.as(own);
    await as.get("/v1/users/ann").expect(200);
    await as.put("/v1/users/ann", { name: "Ann" }).expect(200);
    await as.patch("/v1/users/ann", { name: "Anne" }).expect(200);
    await as.post("/v1/users", { id: "ann" }).expect(201);
    await as.get("/v1/users/ann/points/xp").expect(200);
    await as.post("/v1/metrics/words/event", { user: { id: "ann" }, value: 1 }).expect(201);
  });

  test("is refused another user with 403", async () => {
    const as = rest.as(own);
    await as.get("/v1/users/bob").expect(403);
    await as.get("/v1/users/nobody").expect(403);
    await as.put("/v1/users/bob", {}).expect(403);
    await as.patch("/v1/users/bob", {}).expect(403);
    await as.post("/v1/users", { id: "bob" }).expect(403);
    await as.get("/v1/users/bob/points/xp").expect(403);
    await as.post("/v1/metrics/words/event", { user: { id: "bob" }, value: 1 }).expect(403);
  });

  test("is refused by the admin API with 401", async () => {
    await rest.as(own).get("/admin/v1/metrics").expect(401);
    await rest.as(own).post("/admin/v1/metrics", [{ name: "x", key: "x" }]).expect(401);
  });

  test("stays in its tenant", async () => {
    await rest.as(own).get("/v1/users/ann").set("Tenant-ID", "default").expect(200);
    await rest.as(own).get("/v1/users/ann").set("Tenant-ID", "other").expect(403);
    const elsewhere = await rest.createApplicationKey("ann", "other");
    await rest.as(elsewhere).get("/v1/users/ann").expect(404);
    await rest.as(elsewhere).post("/v1/metrics/words/event", { user: { id: "ann" }, value: 1 }).expect(404);
  });
});

test("tenants share nothing", async () => {
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).set("Tenant-ID", "other").expect(201);
  await rest.as().post("/v1/metrics/words/event", { user: { id: "bob" }, value: 7 }).set("Tenant-ID", "other").expect(201);
  const here = await rest.as().post("/v1/metrics/words/event", { user: { id: "bob" }, value: 1 }).expect(201);
  expect(here.body).toMatchObject({ total: 1 });
  const listed = await rest.as().get("/admin/v1/metrics").set("Tenant-ID", "other").expect(200);
  expect(listed.body).toHaveLength(1);
});

test("/api is the application API by its older name", async () => {
  await rest.as().get("/api/users/ann").expect(200);
  await rest.as().post("/api/metrics/words/event", { user: { id: "carl" }, value: 1 }).expect(201);
});

test("an event answers the same through Express and in front of it", async () => {
  const body = { user: { id: "dora" }, value: 1 };
  const front = await rest.as().post("/v1/metrics/words/event", body).expect(201);
  const express = await rest.as().post("/v1/metrics/words/event/", body).expect(201);
  expect(Object.keys(express.body as object).sort()).toEqual(Object.keys(front.body as object).sort());
});

test("a database that is away is answered with 503 and when to try again", async () => {
  const nowhere = "postgres://laurel@127.0.0.1:1/laurel";
  const pools = createPools({ ownerUrl: nowhere, serverUrl: nowhere, size: 1, timeouts: testTimeouts, logger: silentLogger });
  const response = await request(createTestApp(pools))
    .post("/v1/metrics/words/event")
    .set("X-API-KEY", rest.adminKey.secret)
    .send({ user: { id: "ann" }, value: 1 })
    .expect(503)
    .expect("Retry-After", /^\d+$/);
  expect(response.body).toEqual({ error: expect.any(String) });
  await pools.end();
});
