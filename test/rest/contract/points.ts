import { expect, test } from "@jest/globals";
import { type Contract, nobody } from "../../support/contract.ts";
import { idsOf } from "../../support/rest.ts";

/** The answers about what points are made of, and what users have of them. */
export function pointsAnswers({ call }: Contract): void {
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
        { id: plan, name: "Plan", key: "plan", type: "user", updated: expect.any(String) },
        { id: expect.any(String), name: "Device", key: "device", type: "event", updated: expect.any(String) },
      ],
      issues: [
        {
          index: 2, field: "key", severity: "error", level: "error",
          message: "Another attribute of this type already has this key.",
          reason: "Another attribute of this type already has this key.",
        },
        {
          index: 3, field: "name", severity: "error", level: "error",
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
}
