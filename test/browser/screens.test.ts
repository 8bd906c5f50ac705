import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type DashboardSetting, findAxeFaults, startDashboard } from "../support/browser.ts";

let dashboard: DashboardSetting;

/** Every screen: those of the navigation, found there, and the parts of one system and one user. */
const inner = ["/systems/xp", "/systems/xp/triggers", "/systems/xp/boosts", "/systems/xp/levels", "/systems/xp/preview", "/systems/xp/settings", "/users/ada", "/nowhere"];

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
  await call("POST", "/admin/v1/tenants", [{ customerId: "acme", name: "Acme" }]);
  await call("POST", "/admin/v1/application-api-keys", [{ userId: "ada" }]);
});

afterAll(async () => {
  await dashboard.close();
});

test("the sign-in has no serious accessibility fault, in light and dark", async () => {
  for (const colorScheme of ["light", "dark"] as const) {
    const { context, page } = await dashboard.open({ width: 360, colorScheme });
    await page.goto("/");
    await page.getByLabel("Admin key").waitFor();
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
    const found: unknown[] = [];
    for (const path of [...listed, ...inner]) {
      await page.goto(path);
      await page.locator("h1").waitFor();
      await page.waitForFunction(() => document.querySelector(".loading, .busy") === null);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (overflow > 0) found.push({ path, overflow });
      found.push(...(await findAxeFaults(page)).map((fault) => ({ path, ...fault })));
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
    expect(await findAxeFaults(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Add a trigger");
    expect(faults).toEqual([]);
    await context.close();
  });
});

test("the keyboard reaches everything in order, and what has the focus is seen", async () => {
  const { context, page } = await dashboard.open({ width: 1280, tenant: "default" });
  await page.goto("/metrics");
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
  await page.goto("/metrics");
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
