import { beforeAll, describe, expect, test } from "@jest/globals";
import request, { type Response } from "supertest";
import { z } from "zod";
import type { ApiKey } from "../../src/api_keys.ts";
import { adminOperations } from "../../src/rest/admin.ts";
import { errorAnswer } from "../../src/rest/answers.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import type { Operation } from "../../src/rest/operations.ts";
import { type RestApi, startRestApi } from "../support/rest.ts";

/** What holds for every operation there is, made from the list of them: who may call, and how bodies are refused (K1, K2). */

let rest: RestApi;
let own: ApiKey;

beforeAll(async () => {
  rest = await startRestApi();
  await rest.as().post("/v1/users", { id: "ann" }).expect(201);
  await rest.as().post("/v1/users", { id: "bob" }).expect(201);
  await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]).expect(201);
  await rest.as().post("/admin/v1/points", [{ name: "XP", key: "xp", levels: [{ name: "A", key: "a", points: 0 }] }]).expect(201);
  await rest.as().post("/admin/v1/leaderboards", [{ name: "Top", key: "top", rankBy: "streak", status: "active" }]).expect(201);
  await rest.createTenant("other");
  own = await rest.createApplicationKey("ann");
});

const nobody = "00000000-0000-7000-8000-000000000000";
/** A path parameter for each name; users and keys that exist, so that only the caller can be what is wrong. */
const addressOf = ({ api, path }: Operation, user = "bob"): string =>
  `${api === "admin" ? "/admin/v1" : "/v1"}${path
    .replace("/users/:id", `/users/${user}`)
    .replace("/metrics/:key", "/metrics/words")
    .replace("/points/:key", "/points/xp")
    .replace("/leaderboards/:key", "/leaderboards/top")
    .replaceAll(/:\w+/g, nobody)}`;

const name = ({ api, method, path }: Operation): string => `${api} ${method} ${path}`;
const operations = [...applicationOperations, ...adminOperations].map((operation) => [name(operation), operation] as const);
const withBody = operations.filter(([, { bodyLimitBytes }]) => bodyLimitBytes !== undefined);

const send = (operation: Operation, secret: string | undefined, options: { user?: string; tenant?: string; body?: string } = {}): request.Test => {
  const started = request(rest.app)[operation.method](addressOf(operation, options.user));
  if (secret !== undefined) void started.set("X-API-KEY", secret);
  if (options.tenant !== undefined) void started.set("Tenant-ID", options.tenant);
  if (operation.bodyLimitBytes !== undefined) void started.set("Content-Type", "application/json").send(options.body ?? "{}");
  return started;
};

const refused = (response: Response, status: number): void => {
  expect({ status: response.status, text: response.text }).toEqual({ status, text: response.text });
  expect(errorAnswer.safeParse(response.body).success).toBe(true);
};

test("there are as many operations as the list says", () => {
  expect(operations.length).toBeGreaterThan(55);
  expect(new Set(operations.map(([, { api, id }]) => `${api} ${id}`)).size).toBe(operations.length);
});

describe("every operation", () => {
  test.each(operations)("%s: 401 without a key", async (_name, operation) => {
    refused(await send(operation, undefined), 401);
  });

  test.each(operations)("%s: 401 with a wrong key", async (_name, operation) => {
    refused(await send(operation, `${rest.adminKey.prefix}.${"x".repeat(43)}`), 401);
  });

  test.each(operations)("%s: 404 for an unknown tenant", async (_name, operation) => {
    const valid: Readonly<Record<string, string>> = {
      "application metrics_event": '{"user":{"id":"bob"},"value":1}',
      "application users_create": '{"id":"bob"}',
      "application achievements_complete": '{"user":{"id":"bob"}}',
      "admin admin_streaks_freezes_create": '{"freezes":[{}]}',
      "admin admin_streaks_pauses_create": '{"pauses":[{}]}',
      "admin admin_streaks_restore": '{"users":[{}]}',
      "admin admin_streaks_reset": '{"users":[{}]}',
      "admin admin_streaks_settings_update": "{}",
      "admin admin_points_preview": '{"days":1,"kinds":[]}',
      "admin admin_points_backtest": '{"from":"2026-01-01","to":"2026-01-01"}',
      "admin admin_points_estimate": '{"amounts":{}}',
      "admin admin_webhooks_rotate_secret": "{}",
      "admin admin_webhooks_replay": "{}",
      "admin admin_webhooks_test": "{}",
      "admin admin_settings_update": "{}",
      "admin admin_metrics_batch_events": '[{"key":"words","user":{"id":"bob"},"value":1}]',
    };
    const ids = operation.query !== undefined && "ids" in operation.query.shape ? `?ids=${nobody}` : "";
    const users = operation.query !== undefined && "userIds" in operation.query.shape ? "?userIds=bob" : "";
    const range = operation.query !== undefined && "aggregation" in operation.query.shape
      ? "?aggregation=daily&startDate=2026-01-01&endDate=2026-01-02" : "";
    const body = valid[`${operation.api} ${operation.id}`]
      ?? (operation.api === "admin" ? "[{}]" : "{}");
    const started = request(rest.app)[operation.method](`${addressOf(operation)}${ids}${users}${range}`)
      .set("X-API-KEY", rest.adminKey.secret).set("Tenant-ID", "nowhere");
    if (operation.bodyLimitBytes !== undefined) void started.set("Content-Type", "application/json").send(body);
    refused(await started, 404);
  });
});

describe("with an application key, every operation", () => {
  test.each(operations.filter(([, { api }]) => api === "admin"))("%s: 401", async (_name, operation) => {
    refused(await send(operation, own.secret), 401);
  });

  test.each(operations.filter(([, { api }]) => api === "application"))("%s: 403 for another tenant", async (_name, operation) => {
    refused(await send(operation, own.secret, { user: "ann", tenant: "other" }), 403);
  });

  const ofUsers = operations.filter(([, { api, path }]) => api === "application" && path.startsWith("/users/:id"));
  const range = "?aggregation=daily&startDate=2026-01-01&endDate=2026-01-02";
  test.each(ofUsers)("%s: 403 for another user, whether there is one or not", async (_name, operation) => {
    for (const user of ["bob", "nobody"]) {
      const started = request(rest.app)[operation.method](`${addressOf(operation, user)}${range}`).set("X-API-KEY", own.secret);
      if (operation.bodyLimitBytes !== undefined) void started.send({});
      refused(await started, 403);
    }
  });

  const others = operations.filter(([, { api, path }]) => api === "application" && path.startsWith("/points/"));
  test.each([...ofUsers, ...others])("%s: answers for its own user", async (_name, operation) => {
    const started = request(rest.app)[operation.method](`${addressOf(operation, "ann")}${range}`).set("X-API-KEY", own.secret);
    if (operation.bodyLimitBytes !== undefined) void started.send({});
    expect((await started).status).toBe(200);
  });
});

describe("every operation with a body", () => {
  const bodies: readonly (readonly [string, number, string])[] = [
    ["malformed JSON", 400, "{"],
    ["no body", 400, ""],
    ["a number", 422, "5"],
    ["null", 422, "null"],
    ["a text", 422, '"x"'],
    ["the wrong kind of list or object", 422, ""],
    ["__proto__ as a key", 422, '[{"__proto__":{}}]'],
    ["a NUL character", 422, '["\\u0000"]'],
    ["half a surrogate pair", 422, '["\\ud800"]'],
    ["a deep nesting", 422, `${"[".repeat(20_000)}${"]".repeat(20_000)}`],
  ];
  const cases = withBody.flatMap(([called, operation]) => bodies.map(([what, status, body]) => [called, what, status, body, operation] as const));
  test.each(cases)("%s: %s is answered with %i", async (_name, what, status, body, operation) => {
    const sent = what === "the wrong kind of list or object" ? (operation.body instanceof z.ZodArray ? "{}" : "[]") : body;
    const started = request(rest.app)[operation.method](addressOf(operation))
      .set("X-API-KEY", rest.adminKey.secret).set("Content-Type", "application/json");
    // A list of one item that is none is an issue of the item's where items are judged one by one.
    const response = await (sent === "" ? started.set("Content-Length", "0") : started.send(sent));
    if (status === 422 && response.status === 200) {
      expect((response.body as { issues: unknown[] }).issues).not.toEqual([]);
      return;
    }
    if (status === 422 && response.status === 404) return;
    refused(response, status);
  });
});
