import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Response } from "supertest";
import { adminOperations } from "../../src/rest/admin.ts";
import { errorAnswer } from "../../src/rest/answers.ts";
import { applicationOperations } from "../../src/rest/application.ts";
import type { Operation } from "../../src/rest/operations.ts";
import { readReference, referenceDirectory, type ReferenceApi } from "../support/reference.ts";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

const reference = readReference();
const describeContract = reference === undefined ? describe.skip : describe;
const nobody = "00000000-0000-7000-8000-000000000000";

const addressOf = ({ api, method, path }: Operation): string => `${api} ${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`;
const operations = [...applicationOperations, ...adminOperations];
const operationsByAddress = new Map(operations.map((operation) => [addressOf(operation), operation]));

describeContract(`every answer has the contract's schema (${referenceDirectory})`, () => {
  let rest: RestApi;
  const seen = new Map<string, Set<number>>();

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
    expect({ status: response.status, text: response.text }).toEqual({ status, text: response.text });
    const operation = operationsByAddress.get(`${api} ${method} ${path}`);
    const shape = status >= 400 ? errorAnswer : operation?.answers[status];
    expect({ path, status, documented: shape !== undefined }).toEqual({ path, status, documented: true });
    expect({ fault: shape?.safeParse(response.body).error?.message, text: response.text }).toEqual({ text: response.text });
    if (reference?.has(api, method, path) === true) {
      // A replay is answered with a status of its own (rule E4), and the body of a first use.
      const contractStatus = path === "/metrics/{key}/event" && status === 202 ? 201 : status;
      const faults = reference.faultsOf({ api, method, path, status: contractStatus, body: response.body });
      expect({ faults, text: response.text }).toEqual({ faults: [], text: response.text });
    }
    const statuses = seen.get(`${api} ${method} ${path}`) ?? new Set<number>();
    seen.set(`${api} ${method} ${path}`, statuses.add(status));
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

  test("of what users may read of points", async () => {
    const [plan = ""] = idsOf(await call("admin", "post", "/attributes", 201, { body: [{ name: "Tier", key: "tier", type: "user" }] }));
    const [metricId = ""] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Runs", key: "runs" }] }));
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, {
      body: [{
        name: "Miles", key: "miles",
        levels: [{ name: "Starter", key: "starter", points: 0 }, { name: "Runner", key: "runner", points: 50 }],
        boosts: [
          { name: "Always", start: "2020-01-01", multiplier: 2 },
          { name: "Gone", start: "2020-01-01", end: "2020-01-02", multiplier: 3 },
          { name: "Gold", start: "2020-01-01", multiplier: 1.5, userAttributes: [{ attributeId: plan, attributeValue: "gold" }] },
        ],
        triggers: [{ type: "metric", points: 5, status: "active", metricId, metricThreshold: 1 }],
      }],
    }));
    const [bare = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Bare", key: "bare" }] }));
    expect(bare).not.toBe("");
    const event = { user: { id: "rae", tz: "America/New_York", attributes: { tier: "gold" } }, value: 4, occurredAt: "2026-03-08T06:30:00Z" };
    await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "runs" }, body: event });
    const params = { id: "rae", key: "miles" };

    const system = await call("application", "get", "/points/{key}", 200, { params });
    expect(system.body).toMatchObject({ key: "miles", triggers: [{ type: "metric", points: 5 }] });
    await call("application", "get", "/points/{key}", 404, { params: { key: "none" } });
    const boosts = await call("application", "get", "/points/{key}/boosts", 200, { params });
    expect((boosts.body as { name: string }[]).map(({ name }) => name)).toEqual(["Always", "Gold"]);
    const all = await call("application", "get", "/points/{key}/boosts", 200, { params, query: "?includeFinished=true" });
    expect((all.body as { status: string }[]).map(({ status }) => status)).toEqual(["active", "finished", "active"]);
    await call("application", "get", "/points/{key}/boosts", 404, { params: { key: "none" } });
    await call("application", "get", "/points/{key}/boosts", 422, { params, query: "?includeFinished=perhaps" });
    await call("application", "get", "/points/{key}/levels", 200, { params });
    await call("application", "get", "/points/{key}/levels", 404, { params: { key: "none" } });
    // 4 × 5 × 2 × 1.5 = 60: the highest total, so the ranges are ten wide up to 100.
    const summary = await call("application", "get", "/points/{key}/summary", 200, { params, query: "?userAttributes=tier:gold" });
    expect(summary.body).toEqual([
      { from: 0, to: 0, users: 0 },
      ...Array.from({ length: 10 }, (_none, no) => ({ from: no * 10 + 1, to: no * 10 + 10, users: no === 5 ? 1 : 0 })),
    ]);
    await call("application", "get", "/points/{key}/summary", 404, { params: { key: "none" } });
    await call("application", "get", "/points/{key}/summary", 422, { params, query: "?userAttributes=tier" });
    await call("application", "get", "/points/{key}/summary", 422, { params, query: "?userAttributes=none:x" });
    const levels = await call("application", "get", "/points/{key}/level-summary", 200, { params });
    expect((levels.body as { level: { key: string }; users: number }[]).map(({ level, users }) => [level.key, users]).at(-1)).toEqual(["runner", 1]);
    await call("application", "get", "/points/{key}/level-summary", 404, { params: { key: "none" } });
    await call("application", "get", "/points/{key}/level-summary", 422, { params: { key: "bare" } });

    const own = await call("application", "get", "/users/{id}/points/{key}/boosts", 200, { params });
    expect((own.body as { name: string }[]).map(({ name }) => name)).toEqual(["Always", "Gold"]);
    await call("application", "get", "/users/{id}/points/{key}/boosts", 404, { params: { id: "nobody", key: "miles" } });
    await call("application", "get", "/users/{id}/points/{key}/boosts", 404, { params: { id: "rae", key: "none" } });
    // 06:30 UTC on 8 March is still the 8th at 01:30 in New York, the night the clocks change.
    const range = "?aggregation=daily&startDate=2026-03-07&endDate=2026-03-09";
    const points = await call("application", "get", "/users/{id}/points/{key}/event-summary", 200, { params, query: range });
    expect(points.body).toEqual([
      { date: "2026-03-07", total: 0, change: 0 },
      { date: "2026-03-08", total: 60, change: 60 },
      { date: "2026-03-09", total: 60, change: 0 },
    ]);
    const runs = { id: "rae", key: "runs" };
    const metric = await call("application", "get", "/users/{id}/metrics/{key}/event-summary", 200, { params: runs, query: range });
    expect(metric.body).toEqual([
      { date: "2026-03-07", total: 0, change: 0 },
      { date: "2026-03-08", total: 4, change: 4 },
      { date: "2026-03-09", total: 4, change: 0 },
    ]);
    for (const [path, given] of [["points", params], ["metrics", runs]] as const) {
      const address = `/users/{id}/${path}/{key}/event-summary`;
      await call("application", "get", address, 422, { params: given });
      await call("application", "get", address, 422, { params: given, query: "?aggregation=daily&startDate=2026-03-07&endDate=2026-03-07" });
      await call("application", "get", address, 404, { params: { ...given, id: "nobody" }, query: range });
      await call("application", "get", address, 404, { params: { ...given, key: "none" }, query: range });
    }
    await call("application", "get", "/users/{id}/metrics", 200, { params });
    await call("application", "get", "/users/{id}/metrics", 404, { params: { id: "nobody" } });
    const single = await call("application", "get", "/users/{id}/metrics/{key}", 200, { params: runs });
    expect(single.body).toMatchObject({ key: "runs", current: 4, status: "active" });
    await call("application", "get", "/users/{id}/metrics/{key}", 404, { params: { id: "rae", key: "none" } });

    await call("admin", "post", "/points/{systemId}/adjustments", 201, {
      params: { systemId },
      body: [
        { userId: "rae", points: -10, reason: "A correction", idempotencyKey: "c1" },
        { userId: "nobody", points: 5, reason: "Nobody" },
        { userId: "rae", points: 0, reason: "Nothing" },
        { userId: "rae", points: 1.5, reason: "Half" },
      ],
    }).then(({ body }) => {
      expect(body).toMatchObject({
        created: [{ userId: "rae", points: { total: 50, level: { key: "runner" } } }],
        issues: [{ index: 1 }, { index: 2 }, { index: 3 }],
      });
    });
    await call("admin", "post", "/points/{systemId}/adjustments", 200, { params: { systemId }, body: [{ userId: "nobody", points: 5, reason: "x" }] });
    await call("admin", "post", "/points/{systemId}/adjustments", 404, { params: { systemId: nobody }, body: [{ userId: "rae", points: 5, reason: "x" }] });
    await call("admin", "post", "/points/{systemId}/adjustments", 422, { params: { systemId }, body: {} });
    const page = await call("application", "get", "/users/{id}/points/{key}/awards", 200, { params, query: "?limit=1" });
    expect(page.body).toMatchObject({ awards: [{ sequence: 2, reason: "A correction", explanation: { points: -10 } }], nextCursor: "2" });
    const last = await call("application", "get", "/users/{id}/points/{key}/awards", 200, { params, query: "?limit=1&cursor=2" });
    expect(last.body).toMatchObject({ awards: [{ sequence: 1, awarded: 60 }], nextCursor: null });
    await call("application", "get", "/users/{id}/points/{key}/awards", 404, { params: { id: "rae", key: "none" } });
    await call("application", "get", "/users/{id}/points/{key}/awards", 422, { params, query: "?cursor=x" });
    const before = await call("application", "get", "/users/{id}/points/{key}", 200, { params, query: "?at=2026-03-08T06:29:59Z" });
    expect(before.body).toMatchObject({ total: 0, level: { key: "starter" }, awards: [] });
    const after = await call("application", "get", "/users/{id}/points/{key}", 200, { params, query: "?at=2026-03-08T06:30:00Z" });
    expect(after.body).toMatchObject({ total: 60, level: { key: "runner" }, awards: [{ awarded: 60 }] });
    await call("application", "get", "/users/{id}/points/{key}", 422, { params, query: "?at=yesterday" });
  });

  test("of preferences", async () => {
    await call("application", "post", "/users", 201, { body: { id: "pia", signUpDate: "2024-02-29" } });
    const params = { id: "pia" };
    const none = await call("application", "get", "/users/{id}/preferences", 200, { params });
    expect(none.body).toEqual({ notifications: {}, streak: { enabled: true } });
    await call("application", "get", "/users/{id}/preferences", 404, { params: { id: "nobody" } });
    await call("application", "patch", "/users/{id}/preferences", 200, { params, body: { notifications: { recap: ["email", "push"] } } });
    const merged = await call("application", "patch", "/users/{id}/preferences", 200, {
      params, body: { notifications: { reactivation: [] }, streak: { enabled: false } },
    });
    expect(merged.body).toEqual({ notifications: { recap: ["email", "push"], reactivation: [] }, streak: { enabled: false } });
    await call("application", "patch", "/users/{id}/preferences", 403, { params, body: { streak: { daysOff: [0] } } });
    await call("application", "patch", "/users/{id}/preferences", 404, { params: { id: "nobody" }, body: {} });
    for (const body of [[], { notifications: { recap: ["fax"] } }, { other: 1 }, { streak: { enabled: "yes" } }, { notifications: { news: [] } }]) {
      await call("application", "patch", "/users/{id}/preferences", 422, { params, body });
    }
  });

  test("of tenants and keys", async () => {
    const created = await call("admin", "post", "/tenants", 201, {
      body: [{ customerId: "acme", name: "Acme" }, { customerId: "acme", name: "Again" }, { customerId: "", name: "x" }, { name: "x" }],
    });
    expect(created.body).toMatchObject({ created: [{ customerId: "acme", status: "active" }], issues: [{ index: 1 }, { index: 2 }, { index: 3 }] });
    const [id = ""] = idsOf(created);
    await call("admin", "post", "/tenants", 200, { body: [{ customerId: "acme", name: "Acme" }] });
    await call("admin", "post", "/tenants", 422, { body: {} });
    await call("admin", "get", "/tenants", 200);
    await call("admin", "get", "/tenants", 422, { query: "?limit=0" });
    await call("admin", "get", "/tenants/{id}", 200, { params: { id } });
    await call("admin", "get", "/tenants/{id}", 404, { params: { id: nobody } });
    await call("admin", "get", "/tenants/{id}", 422, { params: { id: "acme" } });
    await call("admin", "patch", "/tenants", 200, { body: [{ id, name: "Acme Inc.", customerId: "acme-2" }, { id: nobody, name: "x" }] });
    await call("admin", "patch", "/tenants", 422, { body: [] });
    const [fallback] = (await rest.as().get("/admin/v1/tenants")).body as { id: string; customerId: string }[];
    const deleted = await call("admin", "delete", "/tenants", 200, { query: `?ids=${id},${fallback?.id ?? ""}` });
    expect(deleted.body).toMatchObject({ deleted: [{ id }], issues: [{ id: fallback?.id, severity: "error" }] });
    await call("admin", "get", "/tenants/{id}", 404, { params: { id } });
    await call("admin", "delete", "/tenants", 422);
    await rest.as().get("/v1/users/pia").set("Tenant-ID", "acme-2").expect(404);

    const keys = await call("admin", "post", "/application-api-keys", 201, { body: [{ userId: "pia" }, { userId: "" }, {}] });
    const [key] = (keys.body as { created: { id: string; key: string; prefix: string; userId: string }[] }).created;
    expect(key).toMatchObject({ userId: "pia", key: expect.stringMatching(/^lk_[0-9a-f]{8}\.[\w-]{43}$/) });
    await rest.as({ secret: key?.key ?? "" } as never).get("/v1/users/pia").expect(200);
    await rest.as({ secret: key?.key ?? "" } as never).get("/v1/users/rae").expect(403);
    await call("admin", "post", "/application-api-keys", 200, { body: [{ userId: "" }] });
    await call("admin", "post", "/application-api-keys", 422, { body: {} });
    const listed = await call("admin", "get", "/application-api-keys", 200);
    expect(listed.text).not.toContain(key?.key.slice(12));
    await call("admin", "delete", "/application-api-keys", 200, { query: `?ids=${key?.id ?? ""},${nobody}` });
    await call("admin", "delete", "/application-api-keys", 422);
    expect((await rest.as().get("/admin/v1/application-api-keys")).body).toEqual([]);

    const admin = await call("admin", "post", "/admin-api-keys", 201, { body: [{ name: "Second" }] });
    await call("admin", "post", "/admin-api-keys", 200, { body: [{}] });
    const all = await call("admin", "get", "/admin-api-keys", 200);
    const ids = (all.body as { id: string }[]).map((one) => one.id);
    expect(ids).toEqual(expect.arrayContaining(idsOf(admin)));
    const revoked = await call("admin", "delete", "/admin-api-keys", 200, { query: `?ids=${idsOf(admin).join(",")}` });
    expect(revoked.body).toMatchObject({ deleted: [{}], issues: [] });
    const lastOne = ids.find((one) => !idsOf(admin).includes(one)) ?? "";
    const kept = await call("admin", "delete", "/admin-api-keys", 200, { query: `?ids=${lastOne}` });
    expect(kept.body).toMatchObject({ deleted: [], issues: [{ message: expect.stringContaining("last admin key") }] });
  });

  test("of batches, of a user's export and erasure, and of the audit log", async () => {
    await call("admin", "post", "/metrics", 201, { body: [{ name: "Steps", key: "steps" }] });
    const accepted = await call("admin", "post", "/metrics/events", 202, {
      body: [{ key: "steps", user: { id: "sam", name: "Sam" }, value: 3 }, { key: "steps", user: { id: "sam" }, value: "0.25", idempotencyKey: "s2" }],
    });
    expect(accepted.body).toEqual({ accepted: 2 });
    const waiting = await call("admin", "get", "/metrics/events", 200);
    expect(waiting.body).toEqual({ waiting: 2, refused: [] });
    await call("admin", "post", "/metrics/events", 404, { body: [{ key: "none", user: { id: "sam" }, value: 3 }] });
    for (const body of [
      {}, [], [{ key: "steps", user: {}, value: 3 }], [{ key: "steps", user: { id: "sam" } }], [{ key: "steps", user: { id: "sam" }, value: "x" }],
      [{ key: "steps", user: { id: "sam" }, value: 1 }, { key: "steps", user: { id: "sam", tz: "Mars" }, value: 1 }],
      [{ key: "steps", user: { id: "sam" }, value: 1, attributes: { none: "x" } }],
      Array.from({ length: 1001 }, () => ({ key: "steps", user: { id: "sam" }, value: 1 })),
    ]) await call("admin", "post", "/metrics/events", 422, { body });
    const { owner } = rest.database.pools;
    for (let left = 1; left > 0; ) {
      const found = await owner.query<{ count: number }>("select laurel_private.process_queued_events() as count");
      left = found.rows[0]?.count ?? 0;
    }
    expect((await call("admin", "get", "/metrics/events", 200)).body).toEqual({ waiting: 0, refused: [] });

    const params = { id: "sam" };
    const exported = await call("admin", "get", "/users/{id}/export", 200, { params });
    expect(exported.body).toMatchObject({ user: { id: "sam", name: "Sam" }, metrics: [{ key: "steps", total: 3.25 }], events: [{}, {}] });
    await call("admin", "get", "/users/{id}/export", 404, { params: { id: "nobody" } });
    await call("admin", "delete", "/users/{id}", 200, { params });
    await call("admin", "delete", "/users/{id}", 404, { params });
    await call("application", "get", "/users/{id}", 404, { params });

    const log = await call("admin", "get", "/audit-log", 200, { query: "?limit=1" });
    expect(log.body).toMatchObject([{ kind: "metrics", operation: "create", objectKey: "steps", actor: `key:${rest.adminKey.prefix}`, before: null }]);
  });

  test("of lists of a system that is not there, and of lists with nothing that could be done", async () => {
    const params = { systemId: nobody };
    for (const kind of ["levels", "boosts", "triggers"]) {
      const path = `/points/{systemId}/${kind}`;
      await call("admin", "get", path, 404, { params });
      await call("admin", "post", path, 404, { params, body: [{}] });
      await call("admin", "patch", path, 404, { params, body: [{}] });
      await call("admin", "delete", path, 404, { params, query: `?ids=${nobody}` });
    }
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Empty", key: "empty" }] }));
    await call("admin", "post", "/points/{systemId}/boosts", 200, { params: { systemId }, body: [{}] });
    await call("admin", "post", "/points/{systemId}/triggers", 200, { params: { systemId }, body: [{}] });
    await call("admin", "post", "/points", 200, { body: [{}] });
    await call("admin", "post", "/metrics", 200, { body: [{}] });
  });

  test("of achievements, and of those who complete them", async () => {
    const [tier = ""] = idsOf(await call("admin", "post", "/attributes", 201, { body: [{ name: "Rankling", key: "rankling", type: "user" }] }));
    const [format = ""] = idsOf(await call("admin", "post", "/attributes", 201, { body: [{ name: "Format", key: "format", type: "event" }] }));
    const [metricId = ""] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Chapters", key: "chapters" }] }));
    const filter = [{ attributeId: tier, attributeValue: "gold" }];
    const created = await call("admin", "post", "/achievements", 201, {
      body: [
        { name: "Five", trigger: "metric", metricId, metricValue: 5, status: "active", badge: { url: "https://example.com/5.png" } },
        { name: "Filtered", trigger: "metric", metricId, metricValue: 2.5, eventAttributes: [{ attributeId: format, attributeValue: "print" }], userAttributes: filter },
        { name: "Called", trigger: "api", key: "called", status: "active", description: "By a call" },
        { name: "Locked", trigger: "api", key: "locked", status: "locked" },
        { name: "Week", trigger: "streak", streakLength: 7 },
        { name: "Year", trigger: "anniversary", anniversaryYears: 1, status: "active" },
        { name: "No key", trigger: "api" },
        { name: "No metric", trigger: "metric", metricValue: 3 },
        { name: "Too low", trigger: "metric", metricId, metricValue: 0 },
        { name: "Unknown prerequisite", trigger: "achievement", achievementIds: [nobody] },
        { name: "No prerequisite", trigger: "achievement" },
        { name: "No such trigger", trigger: "magic" },
      ],
    });
    const [five = "", filtered = "", called = "", , week = ""] = idsOf(created);
    expect((created.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "6 An achievement that calls complete has a key.",
      "7 A metric achievement, and no other, has a metric and a metric value.",
      "8 The metric value is at least 1, with at most 15 digits before the point.",
      `9 No achievement has the ID ${nobody}.`,
      "10 An achievement of achievements, and no other, has prerequisites, at most 100.",
      "11 trigger must be metric or streak or api or achievement or anniversary.",
    ]);
    const [both = ""] = idsOf(await call("admin", "post", "/achievements", 201, {
      body: [{ name: "Both", trigger: "achievement", achievementIds: [five, called], status: "active" }],
    }));
    await call("admin", "post", "/achievements", 200, { body: [{ name: "No" }] });
    await call("admin", "post", "/achievements", 422, { body: {} });
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Stars", key: "stars" }] }));
    await call("admin", "post", "/points/{systemId}/triggers", 201, {
      params: { systemId },
      body: [five, called, both].map((achievementId) => ({ type: "achievement", points: 10, achievementId, status: "active" })),
    });
    expect((await call("application", "post", "/achievements/{key}/complete", 201, {
      params: { key: "called" }, body: { user: { id: "reader", email: "r@example.com", attributes: { rankling: "gold" } } },
    })).body).toMatchObject({ achievement: { key: "called" }, points: { stars: { added: 10 } } });
    await call("application", "post", "/achievements/{key}/complete", 201, { params: { key: "called" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 404, { params: { key: "locked" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 404, { params: { key: "nonsuch" }, body: { user: { id: "reader" } } });
    await call("application", "post", "/achievements/{key}/complete", 422, { params: { key: "called" }, body: {} });
    expect((await call("application", "post", "/metrics/{key}/event", 201, {
      params: { key: "chapters" }, body: { user: { id: "reader" }, value: 6, attributes: { format: "print" } },
    })).body).toMatchObject({ achievements: [{ id: five }, { id: both }], points: { stars: { added: 20, total: 30 } } });
    await call("application", "get", "/achievements", 200);
    await call("application", "get", "/achievements", 200, { query: "?userAttributes=rankling:gold" });
    await call("application", "get", "/achievements", 422, { query: "?userAttributes=rankling" });
    await call("application", "get", "/users/{id}/achievements", 200, { params: { id: "reader" } });
    await call("application", "get", "/users/{id}/achievements", 200, { params: { id: "reader" }, query: "?includeIncomplete=true" });
    await call("application", "get", "/users/{id}/achievements", 404, { params: { id: "nobody" } });
    await call("application", "get", "/users/{id}/metrics", 200, { params: { id: "reader" } });
    await call("admin", "get", "/achievements", 200, { query: "?limit=3&skip=1" });
    await call("admin", "get", "/achievements/{id}", 200, { params: { id: filtered } });
    await call("admin", "get", "/achievements/{id}", 404, { params: { id: nobody } });
    const updated = await call("admin", "patch", "/achievements", 200, {
      body: [
        { id: five, name: "High five", badge: null, description: "Well done" },
        { id: filtered, userAttributes: null, eventAttributes: null, status: "active" },
        { id: week, trigger: "anniversary", anniversaryYears: 2 },
        { id: five, trigger: "achievement", achievementIds: [both] },
        { id: nobody, name: "x" },
      ],
    });
    expect((updated.body as { issues: { message: string }[] }).issues.map(({ message }) => message)).toEqual([
      "An achievement cannot need itself, directly or through others.", `No achievement has the ID ${nobody}.`,
    ]);
    const deleted = await call("admin", "delete", "/achievements", 200, { query: `?ids=${filtered},${called},${nobody}` });
    expect((deleted.body as { issues: { message: string }[] }).issues).toHaveLength(2);
    await call("admin", "get", "/achievements/{id}", 404, { params: { id: filtered } });
  });

  test("of settings and environments", async () => {
    const defaults = await call("admin", "get", "/settings", 200);
    expect(defaults.body).toEqual({
      branding: { appName: "Default", appUrl: "", brandColor: "#000000", font: "MODERN_SANS", logo: null, appIcon: null },
      experimentation: { controlRatio: 0, userActivationWindow: 14 },
      aggregationPeriod: "weekly",
    });
    await call("admin", "patch", "/settings", 200, {
      body: { branding: { appName: "Acme", appUrl: "https://acme.example", brandColor: "rgba(1, 2, 3, 0.5)", logo: { url: "https://acme.example/l.png" } }, aggregationPeriod: "monthly" },
    });
    await call("admin", "patch", "/settings", 200, { body: { branding: { font: "BOOK_SERIF" }, experimentation: { userActivationWindow: 30 } } });
    const changed = await call("admin", "patch", "/settings", 200, { body: { branding: { logo: null, appIcon: { url: "https://acme.example/i.png" } } } });
    expect(changed.body).toEqual({
      branding: {
        appName: "Acme", appUrl: "https://acme.example", brandColor: "rgba(1, 2, 3, 0.5)", font: "BOOK_SERIF", logo: null, appIcon: { url: "https://acme.example/i.png" },
      },
      experimentation: { controlRatio: 0, userActivationWindow: 30 },
      aggregationPeriod: "monthly",
    });
    expect((await call("admin", "get", "/settings", 200)).body).toEqual(changed.body);
    await call("admin", "patch", "/settings", 422, { body: { branding: null } });
    expect((await call("admin", "get", "/environments", 200)).body).toEqual([{ name: "Production", key: "production", priority: 1 }]);
  });

  test("of previews", async () => {
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Tried", key: "tried" }] }));
    const scenario = { days: 2, kinds: [{ name: "few", users: 2, events: [] }] };
    await call("admin", "post", "/points/{systemId}/preview", 200, { params: { systemId }, body: scenario });
    await call("admin", "post", "/points/{systemId}/preview", 404, { params: { systemId: nobody }, body: scenario });
    await call("admin", "post", "/points/{systemId}/preview", 422, { params: { systemId }, body: { days: 0 } });
  });

  test("of backtests, estimates and analytics", async () => {
    const levels = [{ name: "Some", key: "some", points: 1 }];
    const [systemId = ""] = idsOf(await call("admin", "post", "/points", 201, { body: [{ name: "Looked at", key: "looked-at", levels }] }));
    for (const [id, status] of [[systemId, 200], [nobody, 404]] as const) {
      const params = { systemId: id };
      await call("admin", "post", "/points/{systemId}/backtest", status, { params, body: { from: "2026-01-01", to: "2026-01-02", draft: {} } });
      await call("admin", "post", "/points/{systemId}/estimate", status, { params, body: { amounts: {} } });
      for (const figure of ["earned", "breakdown", "users", "first-days", "insights", "levels", "totals"]) {
        await call("admin", "get", `/points/{systemId}/analytics/${figure}`, status, { params });
      }
    }
  });

  test("of leaderboards, and of who stands where", async () => {
    const [city = "", league = ""] = idsOf(await call("admin", "post", "/attributes", 201, {
      body: [{ name: "City", key: "city", type: "user" }, { name: "League", key: "league", type: "user" }],
    }));
    const [metricId = ""] = idsOf(await call("admin", "post", "/metrics", 201, { body: [{ name: "Miles", key: "miles" }] }));
    const [pointsSystemId = ""] = idsOf(await call("admin", "post", "/points", 201, {
      body: [{ name: "Medals", key: "medals", triggers: [{ type: "metric", points: 10, status: "active", metricId, metricThreshold: 1 }] }],
    }));
    const day = (ahead: number): string => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);
    const metric = { name: "M", rankBy: "metric", metricId };
    const created = await call("admin", "post", "/leaderboards", 201, {
      body: [
        { name: "Ever", key: "ever", rankBy: "metric", metricId, status: "active", description: "All time", maxParticipants: 2, start: day(-10) },
        { name: "Weekly", key: "weekly", rankBy: "points", pointsSystemId, status: "active", start: day(-10), runUnit: "day", runInterval: 7, startTime: "00:00", endTime: "23:59:59" },
        { name: "Cities", key: "cities", rankBy: "metric", metricId, status: "active", breakdownAttributes: [city, league], start: day(0), end: day(30) },
        { name: "Later", key: "later", rankBy: "streak", status: "scheduled", start: day(5) },
        { name: "Over", key: "over", rankBy: "metric", metricId, status: "finished", start: day(-20), end: day(-10) },
        { name: "Draft", key: "draft", rankBy: "streak" },
        { name: "One city", key: "one-city", rankBy: "metric", metricId, status: "active", breakdownAttributes: [city] },
        { ...metric, key: "ever" },
        { ...metric, key: "m1", maxParticipants: 1001 },
        { ...metric, key: "m2", maxParticipants: 0 },
        { ...metric, key: "m3", start: "2026-02-01", end: "2026-01-31" },
        { ...metric, key: "m4", metricId: nobody },
        { ...metric, key: "m5", metricId: null },
        { name: "M", key: "m6", rankBy: "points" },
        { name: "M", key: "m7", rankBy: "points", pointsSystemId: nobody },
        { ...metric, key: "m8", runUnit: "month" },
        { name: "M", key: "m9", rankBy: "streak", runUnit: "day", runInterval: 1 },
        { ...metric, key: "m10", breakdownAttributes: [nobody] },
        { ...metric, key: "m11", breakdownAttributes: [city, city] },
        { ...metric, key: "m12", startTime: "25:00" },
        { ...metric, key: "m13", startTime: "09:00", endTime: "09:00" },
        { ...metric, key: "m14", status: "scheduled" },
        { ...metric, key: "m15", status: "active", start: day(5) },
        { ...metric, key: "m16", status: "finished" },
        { ...metric, key: "not a key" },
        { ...metric, key: "m17", rankBy: "magic" },
      ],
    });
    const [ever = "", weekly = "", cities = "", later = "", , draft = ""] = idsOf(created);
    expect((created.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "7 Another leaderboard already has this key.",
      "8 A leaderboard has 1 to 1,000 participants.",
      "9 A leaderboard has 1 to 1,000 participants.",
      "10 The end date is not before the start date.",
      "11 The metric does not exist.",
      "12 A leaderboard that ranks by metric, and no other, names a metric.",
      "13 A leaderboard that ranks by points, and no other, names a points system.",
      "14 The points system does not exist.",
      "15 A repeating leaderboard has a run unit and a run interval of 1 to 10,000, another neither.",
      "16 A streak leaderboard neither repeats nor has a daily time window.",
      `17 No user attribute has the ID ${nobody}.`,
      "18 A breakdown attribute is named twice.",
      expect.stringMatching(/^19 startTime /),
      "20 The start time and the end time differ.",
      "21 Only a leaderboard whose start date lies in the future can be scheduled.",
      "22 A leaderboard whose start date lies in the future can be scheduled, not active.",
      "23 Only a leaderboard whose end date has passed can be created as finished.",
      "24 A key has 1 to 255 letters, digits, hyphens and underscores.",
      "25 rankBy must be metric or streak or points.",
    ]);
    await call("admin", "post", "/leaderboards", 200, { body: [{ name: "No" }] });
    await call("admin", "post", "/leaderboards", 422, { body: {} });

    const send = (user: string, value: number, attributes = {}) => call("application", "post", "/metrics/{key}/event", 201, {
      params: { key: "miles" }, body: { user: { id: user, name: user.toUpperCase(), attributes }, value },
    });
    await send("lea", 5, { city: "Rome", league: "a" });
    await send("leo", 7, { city: "Rome", league: "a" });
    const third = await send("lou", 6.5, { city: "Oslo", league: "a" });
    expect((third.body as { leaderboards: unknown }).leaderboards).toMatchObject({
      ever: { rank: 2, previousRank: null, threshold: 6, start: day(-10), end: null },
      weekly: { rank: 2, previousRank: null, threshold: 0, start: day(-3), end: day(3) },
      cities: { rank: 1, breakdownAttributeValues: [{ key: "city", value: "Oslo" }, { key: "league", value: "a" }] },
      "one-city": { rank: 1, breakdownAttribute: "city", breakdownAttributeValue: "Oslo" },
    });
    const passed = await send("lea", 2, {});
    expect((passed.body as { leaderboards: unknown }).leaderboards).toMatchObject({
      ever: { rank: 2, previousRank: null }, weekly: { rank: 2, previousRank: 3 }, cities: { rank: 2, previousRank: 2 },
    });
    const all = await call("application", "get", "/leaderboards", 200);
    expect((all.body as { key: string; status: string }[]).map(({ key, status }) => `${key} ${status}`)).toEqual(
      ["ever active", "weekly active", "cities active", "later scheduled", "one-city active"]);
    expect((await call("application", "get", "/leaderboards", 200, { query: "?includeFinished=true" })).body).toHaveLength(6);
    await call("application", "get", "/leaderboards", 422, { query: "?includeFinished=perhaps" });
    const rankings = async (key: string, query = ""): Promise<string[]> =>
      ((await call("application", "get", "/leaderboards/{key}", 200, { params: { key }, query })).body as {
        rankings: { userId: string; rank: number; value: number }[];
      }).rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
    expect(await rankings("ever")).toEqual(["1 leo 7", "2 lea 7"]);
    expect(await rankings("weekly", "?limit=2&offset=1")).toEqual(["2 lea 70", "3 lou 60"]);
    expect(await rankings("weekly", "?userId=lea")).toEqual(["2 lea 70", "3 lou 60"]);
    expect(await rankings("weekly", "?userId=nobody")).toEqual([]);
    expect(await rankings("weekly", `?run=${day(-4)}`)).toEqual([]);
    expect(await rankings("ever", "?limit=0")).toEqual([]);
    expect(await rankings("cities", "?userAttributes=city:Rome,league:a")).toEqual(["1 leo 7", "2 lea 7"]);
    expect(await rankings("cities", "?userAttributes=league:a")).toEqual(["1 leo 7", "2 lea 7", "3 lou 6"]);
    expect(await rankings("later")).toEqual([]);
    await call("application", "get", "/leaderboards/{key}", 200, { params: { key: "over" } });
    for (const [key, query] of [
      ["ever", "?limit=3"], ["ever", "?limit=-1"], ["ever", "?offset=-1"], ["ever", "?run=soon"], ["ever", "?userAttributes=city:Rome"],
      ["cities", ""], ["cities", "?userAttributes=plan:pro"], ["cities", "?userAttributes=city"],
    ] as const) await call("application", "get", "/leaderboards/{key}", 422, { params: { key }, query });
    for (const [key, query] of [["nonsuch", ""], ["draft", ""], ["ever", `?run=${day(-11)}`], ["weekly", `?run=${day(9)}`], ["over", `?run=${day(-9)}`]] as const) {
      await call("application", "get", "/leaderboards/{key}", 404, { params: { key }, query });
    }
    const mine = await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lea", key: "ever" } });
    expect(mine.body).toMatchObject({ rank: 2, value: 7, history: [{ date: day(0), previousRank: null, rank: 2, previousValue: null, value: 7 }] });
    expect((await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lou", key: "ever" }, query: "?numEvents=1" })).body)
      .toMatchObject({ rank: null, value: null });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 200, { params: { id: "lea", key: "weekly" }, query: `?run=${day(-9)}` });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 422, { params: { id: "lea", key: "ever" }, query: "?numEvents=101" });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 404, { params: { id: "nobody", key: "ever" } });

    const review = await call("application", "get", "/users/{id}/wrapped", 200, { params: { id: "lea" } });
    expect(review.body).toMatchObject({ user: { id: "lea" }, activity: { entireYear: { leaderboards: { ever: { key: "ever", rank: 2, value: 7 } } } } });
    await call("application", "get", "/users/{id}/wrapped", 200, { params: { id: "lea" }, query: "?year=1" });
    for (const year of ["0", "-1", "2.5", "soon", "9999", "99999999999"]) {
      await call("application", "get", "/users/{id}/wrapped", 422, { params: { id: "lea" }, query: `?year=${year}` });
    }
    await call("application", "get", "/users/{id}/wrapped", 404, { params: { id: "nobody" } });
    await call("application", "get", "/users/{id}/leaderboards/{key}", 404, { params: { id: "lea", key: "nonsuch" } });

    await call("admin", "get", "/leaderboards", 200, { query: "?limit=3&skip=1" });
    await call("admin", "get", "/leaderboards/{id}", 200, { params: { id: cities } });
    await call("admin", "get", "/leaderboards/{id}", 404, { params: { id: nobody } });
    const updated = await call("admin", "patch", "/leaderboards", 200, {
      body: [
        { id: ever, name: "For ever", description: null, maxParticipants: null },
        { id: ever, key: "other" },
        { id: ever, end: day(0) },
        { id: cities, end: day(40) },
        { id: weekly, status: "finished" },
        { id: weekly, status: "active" },
        { id: later, start: day(6) },
        { id: later, status: "scheduled", name: "Much later" },
        { id: later, status: "inactive" },
        { id: draft, rankBy: "points", pointsSystemId, runUnit: "month", runInterval: 1, startTime: "09:00", endTime: "17:00", breakdownAttributes: [city], status: "active" },
        { id: nobody, name: "x" },
      ],
    });
    expect((updated.body as { issues: { index: number; message: string }[] }).issues.map(({ index, message }) => `${index} ${message}`)).toEqual([
      "1 What a leaderboard ranks by, its key, start, time window, breakdown and runs can only be changed while it is inactive.",
      "2 While a leaderboard is active its end date can only be changed from and to days that are two days ahead.",
      "5 A finished leaderboard can only be made inactive first.",
      "6 What a leaderboard ranks by, its key, start, time window, breakdown and runs can only be changed while it is inactive.",
      `10 No leaderboard has the ID ${nobody}.`,
    ]);
    expect((updated.body as { updated: { status: string }[] }).updated.map(({ status }) => status)).toEqual(
      ["active", "active", "finished", "scheduled", "inactive", "active"]);
    const deleted = await call("admin", "delete", "/leaderboards", 200, { query: `?ids=${later},${nobody}` });
    expect((deleted.body as { issues: unknown[] }).issues).toHaveLength(1);
    await call("admin", "get", "/leaderboards/{id}", 404, { params: { id: later } });
  });

  test("of streaks", async () => {
    for (const key of ["laps", "dips"]) await call("admin", "post", "/metrics", 201, { body: [{ name: key, key }] });
    await call("admin", "get", "/streaks/settings", 200);
    const settings = {
      frequency: "daily", evaluationMode: "OR", customizationEnabled: true, daysOff: [6, 0],
      metrics: [{ key: "laps", threshold: 2 }, { key: "dips", threshold: 1 }],
      freezes: { startCount: 1, maxCount: 2, autoEarnInterval: 7, autoEarnAmount: 1 },
    };
    expect((await call("admin", "patch", "/streaks/settings", 200, { body: settings })).body).toEqual({ ...settings, daysOff: [0, 6] });
    for (const body of [
      { frequency: "hourly" }, { daysOff: [7] }, { daysOff: [1, 1] }, { daysOff: [0, 1, 2, 3, 4, 5, 6] }, { metrics: [] },
      { metrics: [{ key: "none", threshold: 1 }] }, { metrics: [{ key: "laps", threshold: 0 }] }, { metrics: [{ key: "laps", threshold: 1.5 }] },
      { metrics: [{ key: "laps", threshold: 1 }, { key: "laps", threshold: 2 }] }, { freezes: { startCount: 3, maxCount: 2 } },
      { freezes: { startCount: 0, maxCount: 2, autoEarnInterval: 7 } }, { freezes: { startCount: 0, maxCount: 101 } }, { frequency: "weekly", daysOff: [1] },
      { evaluationMode: "XOR" }, { customizationEnabled: "yes" }, [],
    ]) await call("admin", "patch", "/streaks/settings", 422, { body });
    const params = { id: "runner" };
    await call("application", "get", "/users/{id}/streak", 404, { params });
    const event = { user: { id: "runner", name: "Ronny" }, value: 1 };
    const unsatisfied = await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "laps" }, body: event });
    expect(unsatisfied.body).toMatchObject({ currentStreak: { length: 0, started: null, extended: false, freezes: 1, maxFreezes: 2 } });
    const satisfied = await call("application", "post", "/metrics/{key}/event", 201, { params: { key: "laps" }, body: event, idempotencyKey: "again" });
    expect(satisfied.body).toMatchObject({ currentStreak: { length: 1, frequency: "daily", extended: true, freezeAutoEarnInterval: 7, freezeAutoEarnAmount: 1 } });
    const replayed = await call("application", "post", "/metrics/{key}/event", 202, { params: { key: "laps" }, body: event, idempotencyKey: "again" });
    expect(replayed.body).toMatchObject({ currentStreak: { length: 1, extended: false } });

    const given = await call("admin", "post", "/streaks/freezes", 201, { body: { freezes: [{ userId: "runner" }, { userId: "runner" }, { userId: "stranger" }, {}] } });
    expect(given.body).toEqual({
      issues: [
        { index: 1, userId: "runner", severity: "warning", message: "The user holds 2 of at most 2 freezes already." },
        { index: 2, userId: "stranger", severity: "error", message: "No user has the ID stranger." },
        { index: 3, severity: "error", message: "userId is required." },
      ].map((issue) => ({ ...issue, level: issue.severity, reason: issue.message })),
    });
    await call("admin", "post", "/streaks/freezes", 200, { body: { freezes: [{ userId: "runner" }] } });
    for (const body of [{}, [], { freezes: [] }, { freezes: {} }, { freezes: Array.from({ length: 101 }, () => ({ userId: "runner" })) }]) {
      await call("admin", "post", "/streaks/freezes", 422, { body });
    }

    const day = (ahead: number): string => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);
    const paused = await call("admin", "post", "/streaks/pauses", 201, {
      body: {
        pauses: [
          { userId: "runner", start: day(0), end: day(2) }, { userId: "runner", start: day(2), end: day(4) }, { userId: "runner", start: day(-1), end: day(4) },
          { userId: "runner", start: day(9), end: day(8) }, { userId: "stranger", start: day(0), end: day(2) }, { userId: "runner", start: "soon", end: day(2) },
          { userId: "runner", start: day(3), end: day(3) },
        ],
      },
    });
    expect(paused.body).toMatchObject({
      created: [{ userId: "runner", start: day(0), end: day(2), status: "active" }, { start: day(3) }],
      issues: [{ index: 1, userId: "runner", severity: "error", message: "The pause overlaps another one of the user." }, { index: 2 }, { index: 3 }, { index: 4 }, { index: 5, userId: "runner" }],
    });
    await call("admin", "post", "/streaks/pauses", 200, { body: { pauses: [{ userId: "stranger", start: day(0), end: day(2) }] } });
    await call("admin", "post", "/streaks/pauses", 422, { body: { pauses: "all" } });
    const [, second = ""] = idsOf(paused);
    const dropped = await call("admin", "delete", "/streaks/pauses", 200, { query: `?ids=${second},nonsense,${nobody}` });
    expect(dropped.body).toMatchObject({ deleted: [{ id: second }], issues: [{ id: "nonsense" }, { id: nobody }] });
    await call("admin", "delete", "/streaks/pauses", 422);

    const streak = await call("application", "get", "/users/{id}/streak", 200, { params, query: "?historyPeriods=3" });
    expect(streak.body).toMatchObject({ length: 1, freezes: 2, rank: expect.any(Number), pauses: [{ start: day(0), end: day(2) }] });
    expect((streak.body as { streakHistory: object[] }).streakHistory).toHaveLength(3);
    for (const query of ["?historyPeriods=-1", "?historyPeriods=many", "?historyPeriods=367"]) {
      await call("application", "get", "/users/{id}/streak", 422, { params, query });
    }
    const list = await call("application", "get", "/streaks", 200, { query: "?userIds=stranger,runner" });
    expect(list.body).toMatchObject([{ userId: "runner", streakLength: 1 }, { userId: "stranger", streakLength: 0, extended: null }]);
    await call("application", "get", "/streaks", 422);
    await call("application", "get", "/streaks", 422, { query: `?userIds=${Array.from({ length: 101 }, (_all, n) => `u${n}`).join(",")}` });
    const rankings = await call("application", "get", "/streaks/rankings", 200, { query: "?limit=1" });
    expect(rankings.body).toHaveLength(1);
    const longest = await call("application", "get", "/streaks/rankings", 200, { query: "?type=longest&limit=100" });
    expect(longest.body).toContainEqual({ userId: "runner", name: "Ronny", streakLength: 1 });
    await call("application", "get", "/streaks/rankings", 422, { query: "?type=shortest" });

    const reset = await call("admin", "post", "/streaks/reset", 200, { body: { users: [{ id: "runner" }, { id: "runner" }, { id: "stranger" }] } });
    expect(reset.body).toMatchObject({ resetUsers: ["runner"], issues: [{ userId: "runner", severity: "warning" }, { userId: "stranger", severity: "error" }] });
    const after = await call("application", "get", "/users/{id}/streak", 200, { params });
    expect(after.body).toMatchObject({ length: 0, started: null, extended: null, rank: null });
    expect((after.body as { streakHistory: object[] }).streakHistory.at(-1)).toMatchObject({ length: 0, resetAt: expect.any(String) });
    await call("admin", "post", "/streaks/reset", 422, { body: { users: [] } });
    const restored = await call("admin", "post", "/streaks/restore", 201, { body: { users: [{ id: "runner" }, { id: "runner" }, { id: "stranger" }] } });
    expect(restored.body).toMatchObject({ restoredUsers: ["runner"], issues: [{ userId: "runner", severity: "warning" }, { userId: "stranger", severity: "error" }] });
    await call("admin", "post", "/streaks/restore", 200, { body: { users: [{ id: "stranger" }] } });
    await call("admin", "post", "/streaks/restore", 422, { body: {} });
    expect((await call("application", "get", "/users/{id}/streak", 200, { params })).body).toMatchObject({ length: 1 });

    await call("application", "patch", "/users/{id}/preferences", 200, { params, body: { streak: { evaluationMode: "AND", daysOff: [1] } } });
    await call("application", "patch", "/users/{id}/preferences", 200, { params, body: { streak: { enabled: false } } });
    expect((await call("application", "get", "/users/{id}/streak", 200, { params })).body).toMatchObject({ length: 0 });
    await call("admin", "patch", "/streaks/settings", 200, { body: { freezes: null, customizationEnabled: false, frequency: "weekly" } });
    expect((await call("admin", "get", "/streaks/settings", 200)).body).toMatchObject({ frequency: "weekly", daysOff: [], freezes: null });
  });

  test("of webhooks", async () => {
    const url = "https://example.com/hook";
    const [id = ""] = idsOf(await call("admin", "post", "/webhooks", 201, { body: [{ url, eventTypes: ["points.changed"] }, { url: "http://10.0.0.1/", eventTypes: [] }] }));
    await call("admin", "post", "/webhooks", 200, { body: [{ url }] });
    await call("admin", "get", "/webhooks", 200);
    await call("admin", "get", "/webhooks/{id}", 200, { params: { id } });
    await call("admin", "get", "/webhooks/{id}", 404, { params: { id: nobody } });
    await call("admin", "patch", "/webhooks", 200, { body: [{ id, description: "Ours" }, { id: nobody, active: false }] });
    await call("admin", "post", "/webhooks/{id}/secret", 201, { params: { id }, body: {} });
    await call("admin", "post", "/webhooks/{id}/secret", 404, { params: { id: nobody }, body: {} });
    const sent = await call("admin", "post", "/webhooks/{id}/test", 202, { params: { id }, body: { type: "points.changed" } });
    await call("admin", "post", "/webhooks/{id}/test", 404, { params: { id: nobody }, body: {} });
    expect((await call("admin", "get", "/webhooks/{id}/deliveries", 200, { params: { id } })).body).toMatchObject([sent.body]);
    await call("admin", "get", "/webhooks/{id}/deliveries", 404, { params: { id: nobody } });
    await call("admin", "post", "/webhooks/{id}/replay", 200, { params: { id }, body: { onlyParked: false } });
    await call("admin", "post", "/webhooks/{id}/replay", 404, { params: { id: nobody }, body: {} });
    expect((await call("admin", "delete", "/webhooks", 200, { query: `?ids=${id},${nobody}` })).body).toMatchObject({ deleted: [{ id }], issues: [{}] });
  });

  test("and no operation, and none of its statuses, was left out", () => {
    expect([...seen.keys()].sort()).toEqual(operations.map(addressOf).sort());
    const untried = operations.flatMap((operation) => {
      const statuses = seen.get(addressOf(operation)) ?? new Set();
      const contract = reference?.statusesOf(operation.api, operation.method, addressOf(operation).split(" ")[2] ?? "") ?? [];
      return [...new Set([...Object.keys(operation.answers).map(Number), ...contract])]
        // Tried on every operation by every_operation.test.ts.
        .filter((status) => ![400, 401, 403, 422].includes(status) && !statuses.has(status))
        .map((status) => `${addressOf(operation)} ${status}`);
    });
    expect(untried).toEqual([]);
  });

  test("and the contract has none beyond them", () => {
    const missing = (reference?.operations() ?? []).filter((address) => !operationsByAddress.has(address));
    expect(missing).toEqual([]);
  });
});
