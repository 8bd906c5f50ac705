import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import sparticuz from "@sparticuz/chromium";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { generateApiKey, type ApiKey } from "../../src/api_keys.ts";
import { readConfig } from "../../src/config.ts";
import { closeServer, createApp, listen } from "../../src/server.ts";
import { builtDashboard, oneAtATime } from "./dashboard.ts";
import { cloneDatabase, silentLogger, type TestDatabase } from "./database.ts";

/**
 * Chromium as distributions install it; the one inside a package where there is none, or with
 * LAUREL_TEST_CHROMIUM=package. A path takes that one.
 */
const installed = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"];

/** A real browser in front of a real server, with a database of the test file's own. */
export interface DashboardSetting {
  readonly url: string;
  readonly database: TestDatabase;
  readonly adminKey: ApiKey;
  readonly browser: Browser;
  /** Opens a window of its own; what goes wrong in its pages is kept in `faults`. */
  open: (options: WindowOptions) => Promise<Window>;
  /** Calls REST with the admin key, for what a test only needs to be there. */
  call: <T = unknown>(method: string, path: string, body?: unknown, tenant?: string) => Promise<T>;
  close: () => Promise<void>;
}

export interface WindowOptions {
  readonly width: number;
  readonly height?: number;
  readonly colorScheme?: "light" | "dark";
  /** Signed in from the start, in this tenant; undefined shows the sign-in. */
  readonly tenant?: string;
}

export interface Window {
  readonly context: BrowserContext;
  readonly page: Page;
  /** Exceptions, refused resources and broken policies so far. Refusals that the server answered with a sentence are none. */
  readonly faults: string[];
}

/** Starts it; once per file, in `beforeAll`. */
export async function startDashboard(): Promise<DashboardSetting> {
  const [database, browser] = await Promise.all([cloneDatabase(), launchBrowser(), builtDashboard()]);
  const adminKey = generateApiKey();
  await database.pools.owner.query("select laurel_private.ensure_admin_key($1, $2)", [adminKey.prefix, adminKey.sha256]);
  const app = createApp({ config: readConfig({}), pools: database.pools, logger: silentLogger, isDraining: () => false, watchIntervalMs: 100 });
  const { server, url } = await listen(app, "127.0.0.1", 0);
  return {
    url,
    database,
    adminKey,
    browser,
    open: (options) => openWindow(browser, url, adminKey, options),
    call: async <T>(method: string, path: string, body?: unknown, tenant = "default"): Promise<T> => {
      const response = await fetch(url + path, {
        method,
        headers: { "X-API-KEY": adminKey.secret, "Content-Type": "application/json", "Tenant-ID": tenant },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const answer = (await response.json()) as T & { issues?: readonly unknown[] };
      if (!response.ok || (answer.issues ?? []).length > 0) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
      return answer;
    },
    close: async () => {
      await browser.close();
      app.endStreams();
      await closeServer(server, 1_000);
      await app.release();
    },
  };
}

async function launchBrowser(): Promise<Browser> {
  const wanted = process.env["LAUREL_TEST_CHROMIUM"] ?? "";
  const found = wanted === "" ? installed.find((path) => existsSync(path)) : wanted === "package" ? undefined : wanted;
  const executablePath = found ?? (await oneAtATime("unpack", () => sparticuz.executablePath()));
  return chromium.launch({
    executablePath,
    // Root has no sandbox, and nothing of the browser's own is to go to the network.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
  });
}

async function openWindow(browser: Browser, url: string, key: ApiKey, { width, height = 800, colorScheme = "light", tenant }: WindowOptions): Promise<Window> {
  // Of no machine's own: in the C locale the package's Chromium speaks a language that Intl does not know.
  const context = await browser.newContext({ baseURL: url, locale: "en-GB", viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
  context.setDefaultTimeout(30_000);
  if (tenant !== undefined) {
    await context.addInitScript(
      ([place, session]) => {
        sessionStorage.setItem(place, session);
      },
      ["laurel.session", JSON.stringify({ key: key.secret, tenant })] as const,
    );
  }
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) faults.push(message.text());
  });
  return { context, page, faults };
}

/** What axe has against a page. */
export interface AxeFinding {
  readonly id: string;
  readonly impact: string;
  readonly targets: readonly string[];
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Brings axe-core into a page, until it is loaded again. */
export async function loadAxe(page: Page): Promise<void> {
  await page.evaluate(axeSource);
}

/** Runs axe-core over a page, as it is shown now; serious and critical findings. */
export async function findAxeFaults(page: Page): Promise<readonly AxeFinding[]> {
  return page.evaluate(async () => {
    interface Result { readonly id: string; readonly impact: string | null; readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary: string }[] }
    const { axe } = globalThis as unknown as { axe: { run: (options: object) => Promise<{ violations: readonly Result[] }> } };
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => ({ id, impact: impact ?? "", targets: nodes.map(({ target, failureSummary }) => `${target.join(" ")}: ${failureSummary}`) }));
  });
}
