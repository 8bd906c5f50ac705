import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type DashboardSetting, findAxeFaults, loadAxe, startDashboard } from "../support/browser.ts";
import { aClock, aDispatcher, aReceivingEndpoint } from "../support/dispatch.ts";
import { httpReceiver } from "../support/faulty_receivers.ts";

let dashboard: DashboardSetting;

/** As long as names may be, and without a space. */
const longName = `L${"o".repeat(252)}ng`;

/** Every screen: those of the navigation, found there, and the parts of systems, users, leaderboards and webhooks. */
const inner = ["/systems/xp", "/systems/xp/triggers", "/systems/xp/boosts", "/systems/xp/levels", "/systems/xp/analytics", "/systems/xp/preview", "/systems/xp/settings", "/users/ada", "/nowhere",
  "/leaderboards/top", "/leaderboards/by-plan"];
const withLongNames = new Set([
  "/systems/long", "/systems/long/triggers", "/systems/long/levels", "/systems/long/analytics", "/systems/long/preview", `/users/${"u".repeat(255)}`,
  `/leaderboards/${"l".repeat(255)}`]);

beforeAll(async () => {
  dashboard = await startDashboard();
  const { call } = dashboard;
  interface Created { readonly created: readonly { readonly id: string }[] }
  const idOf = ({ created }: Created): string => created[0]?.id ?? "";
  const plan = idOf(await call<Created>("POST", "/admin/v1/attributes", [{ name: "Plan", key: "plan", type: "user" }]));
  const metricId = idOf(await call<Created>("POST", "/admin/v1/metrics", [{ name: "Tasks", key: "tasks", units: "tasks" }]));
  await call("POST", "/admin/v1/achievements", [{ name: "Ten", trigger: "metric", metricId, metricValue: 10, status: "active" }]);
  await call("POST", "/admin/v1/points", [{
    name: "XP", key: "xp", maxPoints: 500,
    levels: [{ name: "Bronze", key: "bronze", points: 20 }],
    boosts: [{ name: "Week", start: "2026-01-01", multiplier: 2, userAttributes: [{ attributeId: plan, attributeValue: "pro" }] }],
    triggers: [{ type: "metric", metricId, metricThreshold: 1, points: 10, status: "active" }, { type: "user_creation", points: 5 }],
  }]);
  await call("POST", "/v1/metrics/tasks/event", { user: { id: "ada", attributes: { plan: "pro" } }, value: 3 });
  await call("POST", "/admin/v1/tenants", [{ customerId: "acme", name: "Acme" }, { customerId: "long", name: longName }]);
  const board = { start: "2026-01-01", status: "active", maxParticipants: 10, rankBy: "metric", metricId };
  await call("POST", "/admin/v1/leaderboards", [
    { ...board, key: "top", name: "Top" }, { ...board, key: "by-plan", name: "By plan", breakdownAttributes: [plan] }, { ...board, key: "l".repeat(255), name: longName },
  ]);
  const webhook = await aReceivingEndpoint(dashboard.database, `https://example.com/${"hook".repeat(60)}`, { types: ["points.changed"] });
  inner.push(`/webhooks/${webhook.id}`);
  // What people make of names.
  await call("POST", "/admin/v1/attributes", [{ name: longName, key: "a".repeat(255), type: "user" }]);
  const longMetric = idOf(await call<Created>("POST", "/admin/v1/metrics", [{ name: longName, key: "m".repeat(255), units: "u".repeat(255) }]));
  await call("POST", "/admin/v1/metrics", [{ name: "<img src=x onerror=alert(1)>", key: "html", units: "<b>" }, { name: "مقالات 🎉 مكتوبة", key: "rtl", units: "مقالات" }]);
  await call("POST", "/admin/v1/achievements", [{ name: longName, trigger: "api", key: "k".repeat(255), status: "active" }]);
  await call("POST", "/admin/v1/points", [{
    name: longName, key: "long", description: longName,
    levels: [{ name: longName, key: "v".repeat(255), points: 1 }],
    boosts: [{ name: longName, start: "2026-01-01", multiplier: 1.5 }],
    triggers: [{ type: "metric", metricId: longMetric, metricThreshold: 1, points: 2_147_483_647, status: "active", userAttributes: [{ attributeId: plan, attributeValue: "p".repeat(300) }] }],
  }]);
  for (const user of [{ id: "u".repeat(255), name: longName, attributes: { plan: "p".repeat(300) } }, { id: "<b>زينب</b> 🎉", name: "<script>alert(1)</script>" }]) {
    await call("POST", `/v1/metrics/${"m".repeat(255)}/event`, { user, value: "999999999999999.123456789" });
    await call("POST", "/v1/metrics/tasks/event", { user, value: 1 });
  }
  await call("POST", "/admin/v1/application-api-keys", [{ userId: "ada" }]);
  // What was written for it stays; nothing more is, and nobody calls it.
  await dashboard.database.pools.owner.query("update laurel.webhook_endpoints set is_active = false where id = $1", [webhook.id]);
});

afterAll(async () => {
  await dashboard.close();
});

test("the sign-in has no serious accessibility fault, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"] as const) {
    const { context, page } = await dashboard.open({ width: 360, colorScheme });
    await page.goto("/");
    await page.getByLabel("Admin key").waitFor();
    await loadAxe(page);
    expect([colorScheme, await findAxeFaults(page)]).toEqual([colorScheme, []]);
    await context.close();
  }
});

describe.each([
  { width: 1280, colorScheme: "light" },
  { width: 360, colorScheme: "dark" },
] as const)("every screen, $width pixels wide, $colorScheme", ({ width, colorScheme }) => {
  test("has no serious accessibility fault, stays within the width, and breaks nothing", async () => {
    const { context, page, faults } = await dashboard.open({ width, colorScheme, tenant: "default" });
    await page.goto("/");
    const navigation = page.locator("nav[aria-label=Screens] a");
    await navigation.first().waitFor({ state: "attached" });
    const listed = await navigation.evaluateAll((links) => links.map((link) => link.getAttribute("href") ?? ""));
    expect(listed.length).toBeGreaterThan(8);
    await loadAxe(page);
    const found: unknown[] = [];
    for (const path of [...listed, ...inner, ...withLongNames]) {
      // As a link would, without loading the page again.
      await page.evaluate((to) => {
        history.pushState(undefined, "", to);
        dispatchEvent(new PopStateEvent("popstate"));
      }, path);
      await page.waitForFunction((to) => document.querySelector("h1") !== null && location.pathname === to, path);
      await page.waitForFunction(() => document.querySelector(".loading, .busy") === null);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (overflow > 0) found.push({ path, overflow });
      found.push(...(await page.getByRole("alert").allTextContents()).map((refused) => ({ path, refused })));
      // A long name is a matter of width.
      if (!withLongNames.has(path)) found.push(...(await findAxeFaults(page)).map((fault) => ({ path, ...fault })));
    }
    expect(found).toEqual([]);
    expect(faults).toEqual([]);
    await context.close();
  });

  test("the forms, too", async () => {
    const { context, page, faults } = await dashboard.open({ width, colorScheme, tenant: "default" });
    await page.goto("/systems/xp/triggers");
    await page.getByRole("button", { name: "Add a trigger", exact: true }).click();
    await page.getByRole("complementary", { name: "Preview" }).getByRole("rowheader").first().waitFor();
    await loadAxe(page);
    expect(await findAxeFaults(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    // The focus goes back once the dialog is gone.
    await page.waitForFunction(() => document.activeElement?.textContent === "Add a trigger");
    expect(faults).toEqual([]);
    await context.close();
  });
});

test.each([1280, 360])("a webhook's messages that were parked are replayed from its log, and one by one, %i pixels wide", async (width) => {
  let status = 503;
  const receiver = await httpReceiver((_request, response) => {
    response.writeHead(status).end("noted");
  });
  const clock = aClock();
  const dispatcher = aDispatcher(dashboard.database, clock);
  const endpoint = await aReceivingEndpoint(dashboard.database, receiver.url, { types: ["points.changed"] });
  await dashboard.call("POST", "/v1/metrics/tasks/event", { user: { id: `hook ${width}` }, value: 1 });
  // More than all the pauses between attempts.
  for (let attempt = 0; attempt < 12; attempt += 1) {
    await dispatcher.runOnce();
    clock.advance(15 * 3600);
  }
  const { context, page, faults } = await dashboard.open({ width, tenant: "default" });
  await page.goto("/webhooks");
  await page.getByRole("link", { name: receiver.url }).click();
  const row = page.getByRole("row", { name: new RegExp(`points.changed of hook ${width}`) });
  await row.getByText("parked", { exact: true }).waitFor();
  status = 200;
  await page.getByRole("button", { name: "Replay what was parked" }).click();
  await row.getByText("pending", { exact: true }).waitFor();
  await dispatcher.runOnce();
  await row.getByText("delivered", { exact: true }).waitFor();
  expect(receiver.accepted.size).toBe(1);
  const before = [...receiver.received.values()];
  await row.getByRole("button", { name: /^Replay points\.changed/ }).click();
  await row.getByText("pending", { exact: true }).waitFor();
  await dispatcher.runOnce();
  await row.getByText("delivered", { exact: true }).waitFor();
  expect([...receiver.received.values()]).toEqual(before.map((times) => times + 1));
  await loadAxe(page);
  expect(await findAxeFaults(page)).toEqual([]);
  expect(faults).toEqual([]);
  await context.close();
  await dispatcher.stop();
  await dashboard.database.pools.owner.query("update laurel.webhook_endpoints set is_active = false where id = $1", [endpoint.id]);
  await receiver.close();
});

test("the keyboard reaches everything in order, and what has the focus is seen", async () => {
  const { context, page } = await dashboard.open({ width: 1280, tenant: "default" });
  await page.goto("/settings/metrics");
  await page.getByRole("rowheader", { name: "Tasks" }).waitFor();
  await page.locator("body").press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Skip to content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Add a metric");
  expect(await page.evaluate(() => getComputedStyle(document.activeElement ?? document.body).outlineStyle)).toBe("solid");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  expect(await page.evaluate(() => document.activeElement?.closest("dialog") !== null)).toBe(true);
  await page.keyboard.type("Lessons");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.getByRole("rowheader", { name: "Lessons" }).waitFor();
  await context.close();
});

test("appearance can be chosen, and is kept", async () => {
  const { context, page } = await dashboard.open({ width: 1280, colorScheme: "light", tenant: "default" });
  await page.goto("/settings/metrics");
  const paper = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.getByRole("radio", { name: "Dark" }).check({ force: true });
  expect(await paper()).not.toBe(light);
  await page.reload();
  await page.locator("h1").waitFor();
  expect(await paper()).not.toBe(light);
  await context.close();
});

test("a session that ends loses nothing typed", async () => {
  const { context, page } = await dashboard.open({ width: 1280 });
  const key = await dashboard.call<{ created: { id: string; key: string }[] }>("POST", "/admin/v1/admin-api-keys", [{ name: "short" }]);
  const { id = "", key: secret = "" } = key.created[0] ?? {};
  await page.goto("/tenants");
  await page.getByLabel("Admin key").fill(secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Add a tenant" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Globex");
  await page.route("**/admin/v1/tenants", (route) => route.fulfill({ status: 401, json: { error: "The API key is not valid." } }), { times: 1 });
  await page.getByRole("button", { name: "Add the tenant" }).click();
  await page.getByText(/You were signed out/).waitFor();
  await page.getByLabel("Admin key").fill(dashboard.adminKey.secret);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Add a tenant" }).click();
  expect(await page.getByLabel("Name", { exact: true }).inputValue()).toBe("Globex");
  expect(id).not.toBe("");
  await context.close();
});
