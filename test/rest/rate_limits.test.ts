import { beforeAll, expect, test } from "@jest/globals";
import request from "supertest";
import { createTestApp } from "../support/http.ts";
import { type RestApi, startRestApi } from "../support/rest.ts";

let rest: RestApi;

beforeAll(async () => {
  rest = await startRestApi();
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).expect(201);
});

const limited = (requestsPerMinute: number) => createTestApp(rest.database.pools, { config: { requestsPerMinute } });

test("without a limit a key may do as much as it likes", async () => {
  for (let no = 0; no < 40; no += 1) await rest.as().get("/admin/v1/metrics").expect(200);
});

test("with one, the request beyond it is refused on every surface with 429 and when to try again; other keys go on", async () => {
  const app = limited(3);
  const key = rest.adminKey.secret;
  await request(app).get("/admin/v1/metrics").set("X-API-KEY", key).expect(200);
  await request(app).post("/v1/metrics/words/event").set("X-API-KEY", key).send({ user: { id: "ann" }, value: 1 }).expect(201);
  await request(app).post("/graphql").set("X-API-KEY", key).send({ query: "{ metrics { nodes { key } } }" }).expect(200);
  for (const started of [
    request(app).get("/admin/v1/metrics"),
    request(app).post("/v1/metrics/words/event").send({ user: { id: "ann" }, value: 1 }),
    request(app).post("/graphql").send({ query: "{ metrics { nodes { key } } }" }),
  ]) {
    const response = await started.set("X-API-KEY", key).expect(429);
    expect(response.body).toEqual({ error: expect.stringMatching(/^At most 3 requests a minute .* Try again in \d+ seconds\.$/) });
    expect(Number(response.headers["retry-after"])).toBeGreaterThanOrEqual(1);
    expect(Number(response.headers["retry-after"])).toBeLessThanOrEqual(60);
  }
  const found = await rest.database.pools.owner.query("select count(*)::int as events from laurel.metric_events");
  expect(found.rows).toEqual([{ events: 1 }]);
  const other = await rest.createApplicationKey("ann");
  await request(app).get("/v1/users/ann").set("X-API-KEY", other.secret).expect(200);
  await request(app).get("/healthz").expect(200);
});

test("with one, an address that tries wrong keys is told to stop after thirty of them; right keys from there, as from behind one proxy, go on", async () => {
  const app = limited(1_000);
  const wrong = `lk_00000000.${"x".repeat(43)}`;
  for (let no = 0; no < 30; no += 1) await request(app).get("/admin/v1/metrics").set("X-API-KEY", wrong).expect(401);
  await request(app).get("/admin/v1/metrics").set("X-API-KEY", wrong).expect(429).expect("Retry-After", /^\d+$/);
  await request(app).get("/admin/v1/metrics").set("X-API-KEY", rest.adminKey.secret).expect(200);
});
