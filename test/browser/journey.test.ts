import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Locator, Page } from "playwright-core";
import { type DashboardSetting, startDashboard, type Window } from "../support/browser.ts";

let dashboard: DashboardSetting;

beforeAll(async () => {
  dashboard = await startDashboard();
});

afterAll(async () => {
  await dashboard.close();
});

const sizes = [
  { name: "desktop", width: 1280, height: 800 },
  { name: "phone", width: 360, height: 740 },
];

describe.each(sizes)("from nothing to points, on a $name", ({ name, width, height }) => {
  let window: Window;
  let page: Page;

  beforeAll(async () => {
    window = await dashboard.open({ width, height });
    ({ page } = window);
  });

  afterAll(async () => {
    await window.context.close();
  });

  const button = (label: string | RegExp): Locator => page.getByRole("button", { name: label, exact: typeof label === "string" });
  const field = (label: string): Locator => page.getByLabel(label, { exact: true });
  const heading = (text: string): Locator => page.getByRole("heading", { name: text, exact: true });

  /** By the navigation, which a phone opens first. */
  const go = async (screen: string): Promise<void> => {
    if (width < 900) await button("Menu").click();
    await page.getByRole("navigation", { name: "Screens" }).getByRole("link", { name: screen, exact: true }).click();
    await heading(screen).waitFor();
  };
  const goToTab = async (label: string): Promise<void> => {
    await page.getByRole("navigation", { name: "Parts of XP" }).getByRole("link", { name: label, exact: true }).click();
  };
  const dialogGone = (): Promise<void> => page.getByRole("dialog").waitFor({ state: "detached" });

  test("signs in with an admin key, which stays out of addresses", async () => {
    await page.goto("/");
    await field("Admin key").fill("wrong.0123456789abcdef0123456789abcdef");
    await button("Sign in").click();
    await page.getByRole("alert").getByText("The API key is not valid.").waitFor();
    expect(await field("Admin key").inputValue()).toContain("wrong.");

    await field("Admin key").fill(dashboard.adminKey.secret);
    await button("Sign in").click();
    await page.getByRole("heading", { level: 1 }).and(page.getByText(/Set up your first points|Overview/)).waitFor();
    expect(page.url()).not.toContain(dashboard.adminKey.prefix);
    expect(await page.evaluate(() => Object.values(localStorage).join())).not.toContain(dashboard.adminKey.prefix);
  });

  test("adds a tenant and works in it", async () => {
    await go("Tenants");
    await button("Add a tenant").click();
    await field("Name").fill(`On a ${name}`);
    await field("Customer ID").fill(name);
    await button("Add the tenant").click();
    await dialogGone();
    await button(`Switch to On a ${name}`).click();
    await heading("Set up your first points").waitFor();
  });

  test("is led from the first metric to the first event, whose answer is explained", async () => {
    await field("Metric").fill("Tasks");
    await button("Count this").click();
    await field("Points system").fill("XP");
    await button("Create it").click();
    await page.getByText("10 points for every task.").waitFor();
    await field("Points").fill("ten");
    await button("Add the trigger").click();
    await page.getByRole("alert").getByText(/points must be a number/).waitFor();
    expect(await field("Points").inputValue()).toBe("ten");
    await field("Points").fill("10");
    await button("Add the trigger").click();
    await page.getByText("This one pays nothing until you say so.").waitFor();
    await button("Activate").click();
    await field("Value").fill("3");
    await button("Send the event").click();
    // By then the page has read that nothing is new any more; the answer is still there to be read.
    await heading("Send a real event (done)").waitFor();
    await page.getByText("+30 XP").waitFor();
    await page.getByText("Level reached: Bronze.").waitFor();
    await page.getByText(/10 points for every 1 of tasks, reached 3 times = 30\. Total 0 → 30\./).waitFor();
    await button("Go to the overview").click();
    await heading("Latest events").waitFor();
  });

  test("declares attributes and an achievement", async () => {
    await go("Attributes");
    for (const [label, type] of [["Plan", "users"], ["Priority", "events"]] as const) {
      await button("Add an attribute").first().click();
      await field("Name").fill(label);
      await field("Carried by").selectOption({ label: type });
      await button("Add the attribute").click();
      await dialogGone();
    }
    await go("Achievements");
    await button("Add an achievement").first().click();
    await field("Name").fill("Profile complete");
    await field("Completed when").selectOption({ label: "your app says so, by a call" });
    await button("Add, inactive for now").click();
    await dialogGone();
    await button("Activate Profile complete").click();
    await button("Deactivate Profile complete").waitFor();
  });

  test("adds a level; the server's sentence is beside the field and nothing typed is lost", async () => {
    await go("Points systems");
    await page.getByRole("link", { name: "XP", exact: true }).click();
    await goToTab("Levels");
    await button("Add a level").click();
    await field("Name").fill("Copper");
    await field("From how many points").fill("20");
    await page.getByText("Users are Copper from 20 points up.").waitFor();
    await button("Add the level").click();
    const points = field("From how many points");
    await page.getByRole("dialog").getByRole("alert").waitFor();
    expect(await points.getAttribute("aria-invalid")).toBe("true");
    await page.keyboard.press("Escape");
    await dialogGone();

    await button("Add a level").click();
    expect(await field("Name").inputValue()).toBe("Copper");
    await points.fill("60");
    await button("Add the level").click();
    await dialogGone();
    await page.getByRole("rowheader", { name: "Copper" }).waitFor();
  });

  test("adds a trigger of each kind, inactive, and activates them", async () => {
    await goToTab("Triggers");
    const kinds: readonly [string, () => Promise<void>, string][] = [
      ["a metric grows", async () => {
        await field("For every").fill("2");
        await button("Add a condition").first().click();
        await field("Only users with: value 1").fill("premium");
      }, "7 points for every 2 tasks, only for users with plan = premium."],
      ["an achievement is completed", () => Promise.resolve(), "7 points when a user completes “Profile complete”."],
      ["a streak gets longer", () => field("At every multiple of").fill("3"), "7 points each time a streak reaches a multiple of 3."],
      ["time passes", async () => {
        await field("Every").fill("8");
        await field("Unit").selectOption({ label: "hours" });
      }, "7 points every 8 hours, counted from when the user or the trigger started."],
      ["a user is first identified", () => Promise.resolve(), "7 points when a user is first identified."],
    ];
    for (const [kind, fill, sentence] of kinds) {
      await button("Add a trigger").click();
      await field("When").selectOption({ label: kind });
      await field("Points").fill("7");
      await fill();
      await page.getByRole("dialog").getByText(sentence).waitFor();
      await button("Add, inactive for now").click();
      await dialogGone();
      await button(`Activate: ${sentence}`).click();
      await button(`Deactivate: ${sentence}`).waitFor();
    }
    expect(await page.getByText("inactive", { exact: true }).count()).toBe(0);
  });

  test("shows beside an edit what it would do, from the engine, and estimates for one user", async () => {
    await button("Edit: 10 points for every task.").click();
    const aside = page.getByRole("complementary", { name: "Preview" });
    await aside.getByRole("rowheader", { name: "Keen" }).waitFor();
    await field("Points").fill("1000");
    await aside.locator("td .positive").first().waitFor();
    await page.keyboard.press("Escape");
    await dialogGone();
    // Its change was not saved: the row still says what it said.
    await button("Edit: 10 points for every task.").waitFor();

    const estimate = page.getByRole("region", { name: "Estimate" });
    await estimate.getByLabel("Tasks, a day").fill("2");
    await estimate.getByLabel("Days").selectOption("1");
    await estimate.getByRole("row", { name: /^10 points for every task\. 20/ }).waitFor();
  });

  test("adds a boost for a cohort and activates it", async () => {
    await goToTab("Boosts");
    await button("Add a boost").first().click();
    await field("Name").fill("Premium week");
    await field("For").selectOption({ label: "users with certain attributes" });
    await button("Add a condition").click();
    await field("Users with: value 1").fill("premium");
    await field("Awards times").fill("200");
    await button("Add, inactive for now").click();
    await page.getByRole("dialog").getByRole("alert").waitFor();
    await field("Awards times").fill("1.5");
    await page.getByText(/Awards × 1\.5 for users with plan = premium/).waitFor();
    await button("Add, inactive for now").click();
    await dialogGone();
    await button("Activate Premium week").click();
    await button("Deactivate Premium week").waitFor();
  });

  test("identifies a user, sends events and watches total and level change, each award explained", async () => {
    await go("Users");
    await button("Identify a user").click();
    await field("ID").fill("eve/1");
    await field("Time zone").fill("Mars/Olympus");
    await button("Add an attribute").click();
    await field("Attributes: value 1").fill("premium");
    await button("Identify").click();
    await page.getByRole("alert").getByText(/Unknown time zone/).waitFor();
    await field("Time zone").fill("Europe/Paris");
    await button("Identify").click();
    await heading("eve/1").waitFor();
    const total = page.getByTestId("total xp");
    // 7 for being new, × 1.5, rounded down.
    await total.getByText("10", { exact: true }).waitFor();
    await field("Value").fill("2");
    await button("Send the event").click();
    // 2 × 10 × 1.5 = 30, 7 × 1.5 = 10.5: 10.
    await total.getByText("50", { exact: true }).waitFor();
    await page.getByText("Level reached: Bronze.").waitFor();
    await page.getByRole("rowheader", { name: /boosted ×1\.5 \(Premium week ×1\.5\) to 10\.5, rounded down to 10\. Total 40 → 50\./ }).waitFor();
    // From elsewhere: the page follows by itself.
    await dashboard.call("POST", "/v1/metrics/tasks/event", { user: { id: "eve/1" }, value: 1 }, name);
    await total.getByText("65", { exact: true }).waitFor();
    await page.locator(".total-level").getByText("copper").waitFor();
  });

  test("previews made-up users, and says when levels are reached", async () => {
    await go("Points systems");
    await page.getByRole("link", { name: "XP", exact: true }).click();
    await goToTab("Preview");
    const outcome = page.getByRole("table", { name: "Totals at the end, by kind of user" });
    await outcome.getByRole("row", { name: /Keen .* Bronze on day \d/ }).waitFor();
    await field("Days").fill("9999");
    await button("Run the preview").click();
    await page.getByRole("alert").waitFor();
    expect(await field("Days").inputValue()).toBe("9999");
  });

  test("says what was earned: in total, by whom, for what, and of some users alone", async () => {
    await go("Points systems");
    await page.getByRole("link", { name: "XP", exact: true }).click();
    await goToTab("Analytics");
    const card = (title: string): Locator => page.getByRole("article").filter({ has: heading(title) });
    const figureOf = (title: string, value: string): Promise<void> => card(title).locator(".big-figure").getByText(value, { exact: true }).waitFor();
    // 30 by ada; 65 by eve/1.
    await figureOf("Points earned", "95");
    await card("Points earned").getByText("nothing to compare with in the 30 days before").waitFor();
    await figureOf("Most by one user", "65");
    await card("Most by one user").getByRole("link", { name: "eve/1" }).waitFor();
    await card("Most by one user").getByRole("row", { name: "50–99 1" }).waitFor();
    await figureOf("Average in the first 14 days", "47.5");
    await page.getByText("Users earned 95 points.").waitFor();
    await page.getByRole("table", { name: "Points earned by kind of trigger" }).getByRole("row", { name: /^Metrics 85 89\.5 %$/ }).waitFor();
    await page.getByRole("table", { name: "Points earned by trigger" }).getByRole("row", { name: /^10 points for every task\. 75/ }).waitFor();

    await page.getByRole("radio", { name: "Last 90 days" }).check({ force: true });
    await card("Points earned").getByText("nothing to compare with in the 90 days before").waitFor();
    await field("Users with").selectOption({ label: "Plan" });
    await field("Plan equal to").fill("premium");
    await field("Plan equal to").press("Enter");
    await figureOf("Points earned", "65");
    await page.getByRole("radio", { name: "Custom" }).check({ force: true });
    await field("To").fill("2020-01-01");
    await page.getByRole("alert").getByText(/to must not be before from/).waitFor();
    await field("From").fill("2019-12-01");
    await figureOf("Points earned", "0");
    await page.getByText("Nothing was earned or deducted in this time.").waitFor();
    expect(await field("Plan equal to").inputValue()).toBe("premium");
  });

  test("lists users, and finds them", async () => {
    await go("Users");
    await page.getByRole("rowheader", { name: "eve/1" }).waitFor();
    await page.getByRole("rowheader", { name: "ada" }).waitFor();
    await field("ID, name or email begins with").fill("ev");
    // Nobody is listed while the answer is on its way.
    await page.getByRole("rowheader", { name: "ada" }).waitFor({ state: "detached" });
    await page.getByRole("rowheader", { name: "eve/1" }).waitFor();
    expect(await page.getByRole("rowheader").allTextContents()).toEqual(["eve/1"]);
  });

  test("shows what came last on top, whoever it is of and whenever it occurred", async () => {
    await dashboard.call("POST", "/v1/metrics/tasks/event", { user: { id: "ada" }, value: 1, occurredAt: "2026-01-01T00:00:00Z" }, name);
    await go("Overview");
    const shown = page.locator(".feed li");
    await shown.first().getByRole("link", { name: "ada", exact: true }).waitFor();
    await shown.nth(1).getByRole("link", { name: "eve/1", exact: true }).waitFor();
  });

  test("kept a log of it all, and met no fault on the way", async () => {
    await go("Audit log");
    await page.getByRole("rowheader", { name: /create points boosts/ }).first().waitFor();
    expect(window.faults).toEqual([]);
  });
});
