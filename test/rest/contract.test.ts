import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Response } from "supertest";
import { adminOperations } from "../../src/rest/admin.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import { readReference, referenceDirectory, type ReferenceApi } from "../support/reference.ts";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

const reference = readReference();
const describeContract = reference === undefined ? describe.skip : describe;
const nobody = "00000000-0000-7000-8000-000000000000";

describeContract(`every answer has the contract's schema (${referenceDirectory})`, () => {
  let rest: RestApi;
  const seen = new Set<string>();

  beforeAll(async () => {
    rest = await startRestApi();
  });

  /** Sends a request, and holds the answer's status and body against the contract. */
  async function call(
    api: ReferenceApi,
    method: "get" | "post" | "put" | "patch" | "delete",
    path: string,
    status: number,
    options: { params?: Record<string, string>; query?: string; body?: unknown; idempotencyKey?: string } = {},
  ): Promise<Response> {
    const { params = {}, query = "", body, idempotencyKey } = options;
    const address = path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(params[name] ?? ""));
    const started = rest.as()[method](`${api === "admin" ? "/admin/v1" : "/v1"}${address}${query}`, body);
    if (idempotencyKey !== undefined) void started.set("Idempotency-Key", idempotencyKey);
    const response = await started;
    expect({ status: response.status, text: response.text }).toEqual({ status, text: expect.any(String) });
    // A replay is answered with a status of its own (rule E4), and the body of a first use.
    const contractStatus = status === 202 ? 201 : status;
    const faults = reference?.faultsOf({ api, method, path, status: contractStatus, body: response.body });
    expect({ faults, text: response.text }).toEqual({ faults: [], text: response.text });
    seen.add(`${api} ${method} ${path}`);
    return response;
  }

  test("of attributes", async () => {
    const created = await call("admin", "post", "/attributes", 201, {
      body: [
        { name: "Plan", key: "plan", type: "user" },
        { name: "Device", key: "device", type: "event" },
        { name: "Again", key: "plan", type: "user" },
        { name: 5, key: "x", type: "user" },
      ],
    });
    const [plan = ""] = idsOf(created);
    expect(created.body).toEqual({
      created: [
        { id: plan, name: "Plan", key: "plan", type: "user" },
        { id: expect.any(String), name: "Device", key: "device", type: "event" },
      ],
      issues: [
        {
          index: 2, severity: "error", level: "error",
          message: "Another attribute of this type already has this key.",
          reason: "Another attribute of this type already has this key.",
        },
        {
          index: 3, severity: "error", level: "error",
          message: "name must be a string.", reason: "name must be a string.",
        },
      ],
    });
    await call("admin", "post", "/attributes", 200, { body: [{ name: "No" }] });
    await call("admin", "post", "/attributes", 422, { body: {} });
    await call("admin", "get", "/attributes", 200, { query: "?limit=1&skip=1" });
    await call("admin", "get", "/attributes/{id}", 200, { params: { id: plan } });
    await call("admin", "get", "/attributes/{id}", 404, { params: { id: nobody } });
    await call("admin", "patch", "/attributes", 200, { body: [{ id: plan, name: "Tariff" }, { id: nobody }] });
    await call("admin", "delete", "/attributes", 200, { query: `?ids=${nobody},x&ids=${nobody}` });
  });

  test("of metrics", async () => {
    const created = await call("admin", "post", "/metrics", 201, {
      body: [
        { name: "Words", key: "words" },
        { name: "Revenue", key: "revenue", unitType: "currency", units: "USD" },
        { name: "Revenue", key: "wrong", unitType: "currency", units: "dollars" },
        { name: "Spare", key: "spare" },
      ],
    });
    const [words = "", , spare = ""] = idsOf(created);
    await call("admin", "get", "/metrics", 200);
    await call("admin", "get", "/metrics/{id}", 200, { params: { id: words } });
    await call("admin", "get", "/metrics/{id}", 404, { params: { id: nobody } });
    await call("admin", "patch", "/metrics", 200, { body: [{ id: words, units: "words" }, { id: nobody, name: "x" }] });
    await call("admin", "delete", "/metrics", 200, { query: `?ids=${spare},${nobody}` });
    await call("admin", "get", "/metrics/{id}", 404, { params: { id: spare } });
  });

  test("of points systems, their levels, boosts and triggers, and of what users get from them", async () => {
    const [plan, device] = idsOf(
      await call("admin", "post", "/attributes", 201, {
        body: [{ name: "Team", key: "team", type: "user" }, { name: "Kind", key: "kind", type: "event" }],
      }),
    );
    const [metricId] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Pages", key: "pages" }] }));
    const created = await call("admin", "post", "/points", 201, {
      body: [
        {
          name: "XP", key: "xp", description: "Experience", badge: { url: "https://example.com/xp.png" }, maxPoints: 1000,
          levels: [
            { name: "Bronze", key: "bronze", points: 10 },
            { name: "Silver", key: "silver", points: 100, description: "Well done", badge: { url: "https://example.com/s.png" } },
          ],
          boosts: [
            { name: "Always", start: "2020-01-01", multiplier: 1.5, rounding: "up" },
            { name: "Team", start: "2020-01-01", end: "2020-12-31", multiplier: 2, userAttributes: [{ attributeId: plan, attributeValue: "a" }] },
          ],
          triggers: [
            { type: "metric", points: 10, status: "active", metricId, metricThreshold: 5 },
            { type: "user_creation", points: 3, status: "active" },
            {
              type: "metric", points: -1, metricId, metricThreshold: 1, blockIfOutOfPoints: true,
              userAttributes: [{ attributeId: plan, attributeValue: "a" }],
              eventAttributes: [{ attributeId: device, attributeValue: "b" }],
            },
            { type: "streak", points: 5, streakLength: 7 },
            { type: "time", points: 5, timeUnit: "days", timeInterval: 1 },
          ],
        },
        { name: "Energy", key: "energy" },
        { name: "Faulty", key: "faulty", levels: [{ name: "A", key: "a", points: 1 }, { name: "B", key: "b", points: -1 }] },
      ],
    });
    const [systemId = "", energy = ""] = idsOf(created);
    expect(created.body).toMatchObject({ issues: [{ index: 2, message: "levels[1]: A level's points are at least 0." }] });
    const params = { systemId };
    await call("admin", "get", "/points", 200);
    await call("admin", "get", "/points/{id}", 200, { params: { id: systemId } });
    await call("admin", "get", "/points/{id}", 404, { params: { id: nobody } });
    await call("admin", "get", "/points/{id}", 422, { params: { id: "xp" } });
    await call("admin", "patch", "/points", 200, { body: [{ id: energy, badge: null, maxPoints: null, name: "Power" }, { id: nobody }] });
    await call("admin", "delete", "/points", 200, { query: `?ids=${energy},${nobody}` });

    const [level = ""] = idsOf(
      await call("admin", "post", "/points/{systemId}/levels", 201, { params, body: [{ name: "Gold", key: "gold", points: 500 }, { name: "Gold" }] }),
    );
    await call("admin", "post", "/points/{systemId}/levels", 200, { params, body: [{ name: "Gold", key: "gold", points: 501 }] });
    await call("admin", "get", "/points/{systemId}/levels", 200, { params });
    await call("admin", "get", "/points/{systemId}/levels", 404, { params: { systemId: nobody } });
    await call("admin", "get", "/points/{systemId}/levels/{id}", 200, { params: { systemId, id: level } });
    await call("admin", "get", "/points/{systemId}/levels/{id}", 404, { params: { systemId, id: nobody } });
    await call("admin", "patch", "/points/{systemId}/levels", 200, { params, body: [{ id: level, badge: null, points: 600 }, { id: nobody }] });
    await call("admin", "delete", "/points/{systemId}/levels", 200, { params, query: `?ids=${level}` });
    await call("admin", "delete", "/points/{systemId}/levels", 422, { params });

    await call("application", "post", "/users", 201, { body: { id: "ann", tz: "Europe/London" } });
    const [boost = "", own = ""] = idsOf(
      await call("admin", "post", "/points/{systemId}/boosts", 201, {
        params,
        body: [
          { name: "Later", start: "2999-01-01", multiplier: 3 },
          { userId: "ann", name: "Ann's", start: "2020-01-01", end: null, multiplier: 2 },
          { userId: "nobody", name: "Nobody's", start: "2020-01-01", multiplier: 2 },
        ],
      }),
    );
    await call("admin", "get", "/points/{systemId}/boosts", 200, { params });
    await call("admin", "get", "/points/{systemId}/boosts/{id}", 200, { params: { systemId, id: own } });
    await call("admin", "get", "/points/{systemId}/boosts/{id}", 404, { params: { systemId, id: level } });
    await call("admin", "patch", "/points/{systemId}/boosts", 200, { params, body: [{ id: boost, multiplier: 4, end: "2999-02-01" }, { id: own, multiplier: 1 }] });
    await call("admin", "delete", "/points/{systemId}/boosts", 200, { params, query: `?ids=${boost}&ids=${nobody}` });
    await call("admin", "get", "/points/{systemId}/boosts/{id}", 404, { params: { systemId, id: boost } });

    const [trigger = ""] = idsOf(
      await call("admin", "post", "/points/{systemId}/triggers", 201, { params, body: [{ type: "time", points: 1, timeUnit: "hours", timeInterval: 2 }] }),
    );
    await call("admin", "get", "/points/{systemId}/triggers", 200, { params });
    await call("admin", "get", "/points/{systemId}/triggers/{id}", 200, { params: { systemId, id: trigger } });
    await call("admin", "patch", "/points/{systemId}/triggers", 200, { params, body: [{ id: trigger, type: "streak", streakLength: 3 }, { id: trigger, points: 0 }] });
    await call("admin", "delete", "/points/{systemId}/triggers", 200, { params, query: `?ids=${trigger}` });
    await call("admin", "get", "/points/{systemId}/triggers/{id}", 404, { params: { systemId, id: trigger } });

    const event = { user: { id: "ann", name: "Ann", attributes: { team: "a" } }, value: 12.5, attributes: { kind: "b" } };
    const first = await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "pages" }, body: event, idempotencyKey: "one" });
    // 2 firings of 10 points, × 1.5 and × 2 for Ann: 60; she has 5 (3 × 1.5, up) for having been added.
    expect(first.body).toMatchObject({ total: 12.5, points: { xp: { added: 60, total: 65, level: { key: "bronze" } } }, idempotentReplayed: false });
    await call("application", "post", "/metrics/{key}/event", 202, { params: { key: "pages" }, body: event, idempotencyKey: "one" });
    await call("application", "post", "/metrics/{key}/event", 422, { params: { key: "pages" }, body: { user: { id: "ann" } } });
    await call("application", "post", "/metrics/{key}/event", 404, { params: { key: "none" }, body: event });
    await call("application", "get", "/users/{id}/points/{key}", 200, { params: { id: "ann", key: "xp" } });
    await call("application", "get", "/users/{id}/points/{key}", 200, { params: { id: "ann", key: "xp" }, query: "?awards=1" });
    await call("application", "get", "/users/{id}/points/{key}", 404, { params: { id: "ann", key: "energy" } });
    await call("application", "get", "/users/{id}/points/{key}", 404, { params: { id: "nobody", key: "xp" } });
    await call("application", "get", "/users/{id}/points/{key}", 422, { params: { id: "ann", key: "xp" }, query: "?awards=0" });
  });

  test("of users", async () => {
    await call("application", "post", "/users", 201, { body: { id: "b/ö ☃", email: "b@example.com", deviceTokens: ["t"] } });
    const params = { id: "b/ö ☃" };
    await call("application", "get", "/users/{id}", 200, { params });
    await call("application", "get", "/users/{id}", 404, { params: { id: "nobody" } });
    await call("application", "put", "/users/{id}", 200, { params: { id: "new" }, body: { name: "New" } });
    await call("application", "patch", "/users/{id}", 200, { params, body: { tz: "Asia/Tokyo" } });
    await call("application", "patch", "/users/{id}", 404, { params: { id: "nobody" }, body: {} });
    await call("application", "patch", "/users/{id}", 422, { params, body: { tz: "Mars/Base" } });
  });

  test("and no operation was left out", () => {
    const operations = [...applicationOperations, ...adminOperations].map(
      ({ api, method, path }) => `${api} ${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`,
    );
    expect([...seen].sort()).toEqual(operations.sort());
  });
});
