import { beforeAll, expect, test } from "@jest/globals";
import request from "supertest";
import { generateApiKey } from "../../src/api_keys.ts";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { createTestApp } from "../support/http.ts";

let database: TestDatabase;
const key = generateApiKey();

beforeAll(async () => {
  database = await cloneDatabase();
  await database.pools.owner.query("select laurel_private.ensure_admin_key($1,$2)", [key.prefix, key.sha256]);
  await database.pools.owner.query("insert into laurel.metrics (key,name) values ('words','Words')");
});

test("hello", async () => {
  const app = createTestApp(database.pools);
  const r = await request(app).post("/v1/metrics/words/event").set("X-API-KEY", key.secret).send({ user: { id: "u" }, value: 5 });
  console.log(r.status, r.text);
  for (const q of [
    await request(app).post("/v1/users").set("X-API-KEY", key.secret).send({ id: "u", tz:"Europe/London" }),
    await request(app).get("/v1/users/u").set("X-API-KEY", key.secret),
    await request(app).get("/v1/users/u/points/xp").set("X-API-KEY", key.secret),
    await request(app).get("/v1/users/%").set("X-API-KEY", key.secret),
    await request(app).delete("/v1/users/u").set("X-API-KEY", key.secret),
    await request(app).post("/v1/metrics/words/event").set("X-API-KEY", key.secret).send({ user: { id: 5 }, value: 5 }),
  ]) console.log(q.status, q.text);
  expect(r.status).toBe(201);
});
