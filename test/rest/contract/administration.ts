import { expect, test } from "@jest/globals";
import { type Contract, nobody } from "../../support/contract.ts";
import { idsOf } from "../../support/rest.ts";

/** The answers about an account, its data, and what it may try before it does it. */
export function administrationAnswers({ call, rest }: Contract): void {
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
    const [fallback] = (await rest().as().get("/admin/v1/tenants")).body as { id: string; customerId: string }[];
    const deleted = await call("admin", "delete", "/tenants", 200, { query: `?ids=${id},${fallback?.id ?? ""}` });
    expect(deleted.body).toMatchObject({ deleted: [{ id }], issues: [{ id: fallback?.id, severity: "error" }] });
    await call("admin", "get", "/tenants/{id}", 404, { params: { id } });
    await call("admin", "delete", "/tenants", 422);
    await rest().as().get("/v1/users/pia").set("Tenant-ID", "acme-2").expect(404);

    const keys = await call("admin", "post", "/application-api-keys", 201, { body: [{ userId: "pia" }, { userId: "" }, {}] });
    const [key] = (keys.body as { created: { id: string; key: string; prefix: string; userId: string }[] }).created;
    expect(key).toMatchObject({ userId: "pia", key: expect.stringMatching(/^lk_[0-9a-f]{8}\.[\w-]{43}$/) });
    await rest().as({ secret: key?.key ?? "" } as never).get("/v1/users/pia").expect(200);
    await rest().as({ secret: key?.key ?? "" } as never).get("/v1/users/rae").expect(403);
    await call("admin", "post", "/application-api-keys", 200, { body: [{ userId: "" }] });
    await call("admin", "post", "/application-api-keys", 422, { body: {} });
    const listed = await call("admin", "get", "/application-api-keys", 200);
    expect(listed.text).not.toContain(key?.key.slice(12));
    await call("admin", "delete", "/application-api-keys", 200, { query: `?ids=${key?.id ?? ""},${nobody}` });
    await call("admin", "delete", "/application-api-keys", 422);
    expect((await rest().as().get("/admin/v1/application-api-keys")).body).toEqual([]);

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
    const { owner } = rest().database.pools;
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
    expect(log.body).toMatchObject([{ kind: "metrics", operation: "create", objectKey: "steps", actor: `key:${rest().adminKey.prefix}`, before: null }]);
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
}
