import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Locator, Page } from "playwright-core";
import { type DashboardSetting, findAxeFaults, loadAxe, startDashboard, type Window } from "../support/browser.ts";

/** What people do to a dashboard who mean no good, or are in a hurry. */

let dashboard: DashboardSetting;
let systemId = "";
let triggerId = "";

interface Created { readonly created: readonly { readonly id: string }[] }
const idOf = ({ created }: Created): string => created[0]?.id ?? "";

beforeAll(async () => {
  dashboard = await startDashboard();
  const { call } = dashboard;
  await call("POST", "/admin/v1/attributes", [{ name: "City", key: "city", type: "user" }, { name: "Plan", key: "plan", type: "user" }]);
  const city = (await call<{ id: string; key: string }[]>("GET", "/admin/v1/attributes")).find(({ key }) => key === "city")?.id ?? "";
  const metricId = idOf(await call<Created>("POST", "/admin/v1/metrics", [{ name: "Tasks", key: "tasks", units: "tasks" }]));
  systemId = idOf(await call<Created>("POST", "/admin/v1/points", [{ name: "XP", key: "xp", levels: [{ name: "Bronze", key: "bronze", points: 20 }] }]));
  triggerId = idOf(await call<Created>("POST", `/admin/v1/points/${systemId}/triggers`, [{ type: "metric", metricId, metricThreshold: 1, points: 10, status: "active" }]));
  await call("POST", "/admin/v1/leaderboards", [{ key: "cities", name: "Cities", start: "2026-01-01", status: "active", maxParticipants: 10, rankBy: "metric", metricId, breakdownAttributes: [city] }]);
  await call("POST", "/v1/metrics/tasks/event", { user: { id: "ada", attributes: { city: "London, Ontario" } }, value: 3 });
  await call("POST", "/v1/metrics/tasks/event", { user: { id: "bob", attributes: { city: "a:b\\" } }, value: 4 });
  await call("POST", "/admin/v1/tenants", [{ customerId: "empty", name: "Empty" }, { customerId: "many", name: "Many" }]);
});

afterAll(async () => {
  await dashboard.close();
});

const open = async (path: string, options: { readonly width?: number; readonly tenant?: string } = {}): Promise<Window> => {
  const window = await dashboard.open({ width: 1280, tenant: "default", ...options });
  await window.page.goto(path);
  await window.page.locator("h1").waitFor();
  return window;
};
const button = (page: Page, label: string): Locator => page.getByRole("button", { name: label, exact: true });
const field = (page: Page, label: string): Locator => page.getByLabel(label, { exact: true });
const dialogGone = (page: Page): Promise<void> => page.getByRole("dialog").waitFor({ state: "detached" });

/** Once there is a dialog to leave: its fields are there a moment before it opens. */
const escape = async (page: Page): Promise<void> => {
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
};

/** The sentence beside a field, as screen readers hear it, once it is there. */
async function faultBeside(control: Locator): Promise<string> {
  const invalid = control.and(control.page().locator("[aria-invalid=true]"));
  await invalid.waitFor();
  return invalid.evaluate((element) =>
    (element.getAttribute("aria-describedby") ?? "").split(" ").map((id) => document.getElementById(id)).filter((found) => found?.matches("[role=alert]") === true).map((found) => found?.textContent ?? "").join());
}

describe("the server's sentence stands beside the field, and what was typed stays:", () => {
  test("in a preview", async () => {
    const { context, page, faults } = await open("/systems/xp/preview");
    const run = button(page, "Run the preview");
    // Its name is among what is changed.
    const keen = page.locator("fieldset.kind").nth(2);
    const cases: readonly (readonly [Locator, string, RegExp])[] = [
      [field(page, "Days"), "9999", /days must be at most 365/],
      [field(page, "Days"), "1e9", /days must be at most 365/],
      [field(page, "Days"), "", /days must be a number/],
      [field(page, "Days"), "1.5", /days must be a whole number/],
      [keen.getByLabel("Users", { exact: true }), "-1", /kinds\[2\]\.users must be at least 1/],
      [keen.getByLabel("Users", { exact: true }), "100000", /3003?0* users × days|users × days, where 100,000/],
      [keen.getByLabel("Active days, %"), "often", /kinds\[2\]\.activeDays must be a share/],
      [keen.getByLabel("Active days, %"), "101", /kinds\[2\]\.activeDays must be a share/],
      [keen.getByLabel("Kind of user"), "", /kinds\[2\]\.name must not be empty/],
      [keen.getByLabel("Keen: Tasks, at most"), "1001", /kinds\[2\]\.events\[0\]\.perDay/],
      [keen.getByLabel("Keen: Tasks, at most"), "1", /the least is above the most/],
    ];
    for (const [control, value, sentence] of cases) {
      await page.waitForFunction(() => document.querySelector("[aria-busy=true]") === null);
      const before = await control.inputValue();
      await control.fill(value);
      await run.click();
      expect(await faultBeside(control)).toMatch(sentence);
      expect(await control.inputValue()).toBe(value);
      expect(await page.getByRole("alert").count()).toBe(1);
      await control.fill(before);
    }
    await loadAxe(page);
    expect(await findAxeFaults(page)).toEqual([]);
    await run.click();
    await page.getByRole("alert").waitFor({ state: "detached" });
    expect(faults).toEqual([]);
    await context.close();
  });

  test("in a backtest", async () => {
    const { context, page, faults } = await open("/systems/xp/preview");
    const form = page.locator("section").filter({ has: page.getByRole("heading", { name: "Backtest" }) });
    const from = form.getByLabel("From");
    const start = await from.inputValue();
    const cases: readonly (readonly [Locator, string, RegExp])[] = [
      [form.getByLabel("To"), "2020-01-01", /must not be before/],
      [from, "2020-01-01", /days, where 366 are possible/],
      [form.getByLabel("Users, at most"), "many", /users\.sample must be a number/],
      [form.getByLabel("Users, at most"), "0", /users\.sample must be at least 1/],
      [form.getByLabel("With a cap of"), "0", /draft\.maxPoints must be at least 1/],
    ];
    for (const [control, value, sentence] of cases) {
      const before = await control.inputValue();
      await control.fill(value);
      await button(page, "Run the backtest").click();
      expect(await faultBeside(control)).toMatch(sentence);
      expect(await control.inputValue()).toBe(value);
      await control.fill(before);
    }
    expect(await from.inputValue()).toBe(start);
    await form.getByLabel("With a cap of").fill("15");
    await button(page, "Run the backtest").click();
    // Ada's 3 tasks earned 30, bob's 4 earned 40.
    await form.getByRole("row", { name: "Half have at most 30 15 −15" }).waitFor();
    await form.getByText("2 users with 2 events on these days.").waitFor();
    expect(faults).toEqual([]);
    await context.close();
  });

  test("of analytics' dates and attributes; values may hold commas, colons and backslashes", async () => {
    const { context, page, faults } = await open("/systems/xp/analytics");
    const earned = page.getByRole("article").filter({ has: page.getByRole("heading", { name: "Points earned", exact: true }) }).locator(".big-figure");
    await earned.getByText("70", { exact: true }).waitFor();
    await field(page, "Users with").selectOption({ label: "City" });
    for (const [city, points] of [["London, Ontario", "30"], ["a:b\\", "40"], ["London", "0"]] as const) {
      await field(page, "City equal to").fill(city);
      await field(page, "City equal to").press("Enter");
      await earned.getByText(points, { exact: true }).waitFor();
    }
    await field(page, "City equal to").fill("x".repeat(1001));
    await field(page, "City equal to").press("Enter");
    expect(await faultBeside(field(page, "City equal to"))).toMatch(/longer than 1,000 characters/);
    await button(page, "Any City").click();
    await page.getByRole("radio", { name: "Custom" }).check({ force: true });
    await field(page, "To").fill("2020-01-01");
    expect(await faultBeside(field(page, "To"))).toMatch(/to must not be before from/);
    expect(await page.getByRole("alert").count()).toBe(1);
    await field(page, "From").fill("2018-01-01");
    expect(await faultBeside(field(page, "From"))).toMatch(/more than 400 days apart/);
    await loadAxe(page);
    expect(await findAxeFaults(page)).toEqual([]);
    await field(page, "From").fill("2019-12-01");
    await earned.getByText("0", { exact: true }).waitFor();
    expect(faults).toEqual([]);
    await context.close();
  });

  test("of an estimate, and of a leaderboard that ranks users apart", async () => {
    const { context, page, faults } = await open("/systems/xp/triggers");
    const a = page.getByRole("region", { name: "Estimate" }).getByLabel("Tasks, a day");
    await a.fill("lots");
    expect(await faultBeside(a)).toMatch(/perDay must be a number/);
    expect(await a.inputValue()).toBe("lots");
    await page.goto("/leaderboards/cities");
    await page.getByText("It ranks users apart.").waitFor();
    await field(page, "City equal to").fill("London, Ontario");
    await button(page, "Show").click();
    await page.getByRole("rowheader", { name: "ada" }).waitFor();
    expect(await page.getByRole("rowheader").allTextContents()).toEqual(["ada"]);
    expect(faults).toEqual([]);
    await context.close();
  });

  test("of a trigger's points", async () => {
    const { context, page, faults } = await open("/systems/xp/triggers");
    for (const value of ["1e10", "", "1.5", "0", "ten", "-99999999999", "0x"]) {
      await page.goto("/systems/xp/triggers");
      await button(page, "Add a trigger").click();
      await field(page, "Points").fill(value);
      await button(page, "Add, inactive for now").click();
      expect([value, await faultBeside(field(page, "Points"))]).toEqual([value, expect.stringMatching(/points/i)]);
      expect(await field(page, "Points").inputValue()).toBe(value);
    }
    expect(faults).toEqual([]);
    await context.close();
  });
});

describe("twice", () => {
  test("is once: a form, an event, a switch, a dialog's yes", async () => {
    const { context, page, faults } = await open("/settings/metrics");
    const posts: string[] = [];
    page.on("request", (request) => {
      if (request.method() !== "GET" && !request.url().endsWith("/graphql")) posts.push(`${request.method()} ${new URL(request.url()).pathname}`);
    });
    await button(page, "Add a metric").click();
    await field(page, "Name").fill("Twice");
    await page.getByRole("dialog").getByRole("button", { name: "Add the metric" }).dblclick();
    await dialogGone(page);
    expect(posts).toEqual(["POST /admin/v1/metrics"]);
    await page.getByRole("rowheader", { name: "Twice" }).waitFor();

    await page.goto("/users/ada");
    await field(page, "Value").waitFor();
    posts.length = 0;
    await button(page, "Send the event").dblclick();
    await page.getByText("The answer").waitFor();
    expect(posts).toEqual(["POST /v1/metrics/tasks/event"]);
    // Two submits before the page is drawn again.
    await page.locator(".send-event form").evaluate((form) => {
      (form as HTMLFormElement).requestSubmit();
      (form as HTMLFormElement).requestSubmit();
    });
    await page.getByText("+10 XP").waitFor();
    await page.waitForFunction(() => document.querySelector("[aria-busy=true]") === null);
    expect(posts).toEqual(["POST /v1/metrics/tasks/event", "POST /v1/metrics/tasks/event"]);

    await page.goto("/systems/xp/triggers");
    posts.length = 0;
    await page.getByRole("button", { name: /^Deactivate: 10 points/ }).dblclick();
    await page.getByRole("button", { name: /^Activate: 10 points/ }).click({ delay: 20 });
    await page.getByRole("button", { name: /^Deactivate: 10 points/ }).waitFor();
    expect(posts.filter((post) => post.startsWith("PATCH"))).toHaveLength(2);

    await page.goto("/settings/metrics");
    posts.length = 0;
    await page.getByRole("button", { name: "Archive Twice" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Archive" }).dblclick();
    await dialogGone(page);
    await page.getByRole("rowheader", { name: "Twice" }).waitFor({ state: "detached" });
    expect(posts).toHaveLength(1);
    // The button that opened it went with its row.
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("H1");
    expect(faults).toEqual([]);
    await context.close();
  });

  test("in two tabs: the second to save is told what the first made of it, and loses nothing", async () => {
    const tabs = [await open("/"), await open("/")] as const;
    const [{ page: one }, { page: two }] = tabs;
    await dashboard.call("POST", `/admin/v1/points/${systemId}/boosts`, [{ name: "Happy hour", start: "2026-01-01", multiplier: 2 }]);
    await dashboard.call("POST", "/admin/v1/achievements", [{ name: "Called", trigger: "api", key: "called" }]);
    const forms: readonly (readonly [path: string, opener: string | undefined, name: string, first: string, second: string])[] = [
      ["/systems/xp/triggers", "Edit: 10 points for every task.", "Points", "11", "12"],
      ["/systems/xp/boosts", "Edit Happy hour", "Awards times", "3", "4"],
      ["/systems/xp/levels", "Edit Bronze", "From how many points", "21", "22"],
      ["/systems/xp/settings", undefined, "Cap", "100000", "200000"],
      ["/achievements", "Edit Called", "Description", "one", "two"],
      ["/leaderboards", "Edit Cities", "Places", "11", "12"],
      ["/settings/metrics", "Edit Tasks", "Units", "things", "jobs"],
      ["/attributes", "Rename Plan", "Name", "Tariff", "Contract"],
      ["/tenants", "Edit Empty", "Name", "Void", "Nothing"],
      ["/streaks", undefined, "At the start", "2", "3"],
    ];
    for (const [path, opener, name, first, second] of forms) {
      for (const page of [one, two]) {
        await page.goto(path);
        if (opener !== undefined) await button(page, opener).click();
        if (path === "/streaks") await page.getByLabel("Freezes", { exact: true }).setChecked(true);
        await field(page, name).waitFor();
      }
      const saved = (page: Page): Promise<void> => (opener === undefined ? page.getByText("Saved.", { exact: true }).waitFor() : dialogGone(page));
      await field(one, name).fill(first);
      await field(two, name).fill(second);
      await button(one, "Save").click();
      await saved(one);
      await button(two, "Save").click();
      await two.getByRole("alert").getByText(/Somebody else changed this meanwhile\./).waitFor();
      await two.getByText(`Meanwhile set to “${first}”.`).waitFor();
      expect([path, await field(two, name).inputValue()]).toEqual([path, second]);
      await button(two, "Save").click();
      await saved(two);
      await two.goto(path);
      if (opener !== undefined) await button(two, opener.replace("10 points", "12 points").replace("Plan", "Contract").replace("Empty", "Nothing")).click();
      expect([path, await field(two, name).inputValue()]).toEqual([path, second]);
    }
    for (const { context, faults } of tabs) {
      expect(faults).toEqual([]);
      await context.close();
    }
    await dashboard.call("PATCH", `/admin/v1/points/${systemId}/triggers`, [{ id: triggerId, points: 10 }]);
  });
});

test("a key that is shown once stays until somebody says to have it", async () => {
  const { context, page, faults } = await open("/");
  await page.getByRole("link", { name: "API keys" }).click();
  await button(page, "Create an admin key").click();
  await field(page, "Name").fill("Once");
  await button(page, "Create the key").click();
  const secret = page.locator(".secret code");
  const shown = await secret.textContent();
  // A browser closes a dialog at the second Escape, whatever the page says.
  for (let press = 0; press < 4; press += 1) await page.keyboard.press("Escape");
  await page.mouse.click(5, 5);
  await page.evaluate(() => {
    history.back();
  });
  await page.waitForFunction(() => location.pathname === "/keys");
  expect(await secret.textContent()).toBe(shown);
  await loadAxe(page);
  expect(await findAxeFaults(page)).toEqual([]);
  await button(page, "I have kept it").click();
  await dialogGone(page);
  expect(faults).toEqual([]);
  await context.close();
});

describe("nothing typed is lost", () => {
  test("by the back button, nor by Escape", async () => {
    const { context, page, faults } = await open("/systems/xp/levels");
    await page.getByRole("navigation", { name: "Parts of XP" }).getByRole("link", { name: "Triggers" }).click();
    await button(page, "Add a trigger").click();
    await field(page, "Points").fill("77");
    await page.goBack();
    await dialogGone(page);
    await button(page, "Add a level").waitFor();
    await page.goForward();
    await button(page, "Add a trigger").click();
    expect(await field(page, "Points").inputValue()).toBe("77");
    await escape(page);
    await dialogGone(page);
    await button(page, "Add a trigger").click();
    await page.getByText("What you typed before is still here.").waitFor();
    expect(await field(page, "Points").inputValue()).toBe("77");
    await button(page, "Start over").click();
    expect(await field(page, "Points").inputValue()).toBe("10");
    expect(faults).toEqual([]);
    await context.close();
  });

  test("by a key that is revoked, in forms and in a preview; who signs out leaves nothing", async () => {
    const { context, page } = await dashboard.open({ width: 1280 });
    const { created: [key] } = await dashboard.call<{ created: { id: string; key: string }[] }>("POST", "/admin/v1/admin-api-keys", [{ name: "short" }]);
    const signIn = async (secret: string): Promise<void> => {
      await page.getByLabel("Admin key").fill(secret);
      await button(page, "Sign in").click();
      await page.locator("h1").and(page.getByText("XP")).waitFor();
    };
    await page.goto("/systems/xp/preview");
    await signIn(key?.key ?? "");
    await field(page, "Days").fill("77");
    await page.getByRole("navigation", { name: "Parts of XP" }).getByRole("link", { name: "Boosts" }).click();
    await button(page, "Add a boost").first().click();
    await field(page, "Name").fill("Unsaved");
    await dashboard.call("DELETE", `/admin/v1/admin-api-keys?ids=${key?.id ?? ""}`);
    // Keys are remembered for some seconds.
    const isRefused = async (): Promise<boolean> => (await fetch(`${dashboard.url}/admin/v1/tenants`, { headers: { "X-API-KEY": key?.key ?? "" } })).status === 401;
    for (const deadline = Date.now() + 20_000; Date.now() < deadline && !(await isRefused());) await page.waitForTimeout(200);
    await button(page, "Add, inactive for now").click();
    await page.getByText(/You were signed out/).waitFor();
    await signIn(dashboard.adminKey.secret);
    await button(page, "Add a boost").first().click();
    expect(await field(page, "Name").inputValue()).toBe("Unsaved");
    await escape(page);
    await dialogGone(page);
    await page.getByRole("navigation", { name: "Parts of XP" }).getByRole("link", { name: "Preview" }).click();
    expect(await field(page, "Days").inputValue()).toBe("77");
    await button(page, "Sign out").click();
    await signIn(dashboard.adminKey.secret);
    expect(await field(page, "Days").inputValue()).toBe("30");
    await context.close();
  });
});

test("every dialog keeps the focus inside, closes by Escape, keeps what was typed, and gives the focus back", async () => {
  const { context, page, faults } = await open("/", { width: 360 });
  const dialogs: readonly (readonly [string, string, string?])[] = [
    ["/systems", "Create a points system", "Name"], ["/systems/xp/triggers", "Add a trigger", "Points"], ["/systems/xp/boosts", "Add a boost", "Name"],
    ["/systems/xp/levels", "Add a level", "Name"], ["/achievements", "Add an achievement", "Name"], ["/leaderboards", "Add a leaderboard", "Name"],
    ["/leaderboards", "Edit Cities", "Name"], ["/leaderboards", "Archive Cities"], ["/users", "Identify a user", "Name"], ["/users/ada", "Adjust points", "Reason"],
    ["/settings/metrics", "Add a metric", "Name"], ["/settings/metrics", "Archive Tasks"], ["/attributes", "Add an attribute", "Name"],
    ["/webhooks", "Add a webhook", "Description"], ["/tenants", "Add a tenant", "Name"],
  ];
  for (const [path, opener, typed] of dialogs) {
    await page.goto(path);
    const opens = button(page, opener).first();
    await opens.click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    const isInside = (): Promise<boolean> => page.evaluate(() => document.activeElement?.closest("dialog") !== null || document.activeElement === document.body);
    for (const key of ["Tab", "Shift+Tab"]) {
      for (let press = 0; press < 25; press += 1) {
        await page.keyboard.press(key);
        if (!(await isInside())) throw new Error(`${path}, ${opener}: ${key} leads out`);
      }
    }
    if (typed !== undefined) await dialog.getByLabel(typed, { exact: true }).fill("42");
    await page.keyboard.press("Escape");
    await dialogGone(page);
    await page.waitForFunction((label) => document.activeElement?.textContent === label || document.activeElement?.getAttribute("aria-label") === label, opener);
    if (typed === undefined) continue;
    await page.keyboard.press("Enter");
    await dialog.waitFor();
    expect([opener, await dialog.getByLabel(typed, { exact: true }).inputValue()]).toEqual([opener, "42"]);
  }
  expect(faults).toEqual([]);
  await context.close();
});

test("the menu of a phone closes by Escape, and gives the focus back", async () => {
  const { context, page } = await open("/", { width: 360 });
  await button(page, "Menu").click();
  await page.getByRole("navigation", { name: "Screens" }).getByRole("link", { name: "Users" }).focus();
  await page.keyboard.press("Escape");
  expect(await page.evaluate(() => document.activeElement?.textContent)).toBe("Menu");
  await context.close();
});

describe("lists", () => {
  test("of nothing have no fault, and say what to do next", async () => {
    await dashboard.call("POST", "/admin/v1/points", [{ name: "Bare", key: "bare" }], "empty");
    const { context, page, faults } = await open("/", { tenant: "empty", width: 360 });
    const listed = await page.locator("nav[aria-label=Screens] a").evaluateAll((links) => links.map((link) => link.getAttribute("href") ?? ""));
    for (const path of [...listed, "/systems/bare", ...["triggers", "boosts", "levels", "analytics", "preview", "settings"].map((tab) => `/systems/bare/${tab}`)]) {
      await page.goto(path);
      await page.locator("h1").waitFor();
      await page.waitForFunction(() => document.querySelector(".loading, .busy, [aria-busy=true]") === null);
      expect([path, await page.getByRole("alert").allTextContents()]).toEqual([path, []]);
    }
    for (const [path, add] of [["/systems/bare/triggers", "Add a trigger"], ["/leaderboards", "Add a leaderboard"]] as const) {
      await page.goto(path);
      await button(page, add).click();
      await page.getByRole("dialog").getByRole("button", { name: "Add, inactive for now" }).click();
      await page.getByRole("dialog").getByRole("alert").first().waitFor();
    }
    expect(faults).toEqual([]);
    await context.close();
  });

  test("of five hundred are all there", async () => {
    await dashboard.database.pools.owner.query(`
      insert into laurel.metrics (tenant_id, key, name)
      select t.id, 'm' || n, 'Metric ' || n from laurel.tenants t cross join generate_series(0, 499) n where t.customer_id = 'many'`);
    const { context, page, faults } = await open("/settings/metrics", { tenant: "many", width: 360 });
    await page.getByRole("rowheader", { name: "Metric 499", exact: true }).waitFor();
    expect(await page.getByRole("rowheader").count()).toBe(500);
    await page.goto("/leaderboards");
    await button(page, "Add a leaderboard").click();
    await field(page, "Rank by").selectOption({ label: "a metric" });
    await page.waitForFunction(() => [...document.querySelectorAll("option")].some(({ textContent }) => textContent === "Metric 499"));
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth)).toBe(true);
    expect(faults).toEqual([]);
    await context.close();
  });
});
