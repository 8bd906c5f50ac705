import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { projectDirectory } from "../src/config.ts";
import { stopLeftOver } from "../src/postgres/embedded.ts";
import { createEmptyDatabase, eventually } from "./support/database.ts";
import { temporaryDirectory } from "./support/server.ts";

interface Run {
  readonly child: ChildProcess;
  /** Standard output and standard error so far. */
  readonly output: () => string;
  readonly errors: () => string;
  /** Waits for the banner; returns the address in it. */
  readonly url: () => Promise<string>;
  readonly exitCode: () => Promise<number | null>;
}

const dataDirectory = temporaryDirectory();
const runs: Run[] = [];

afterEach(async () => {
  for (const { child, exitCode } of runs.splice(0)) {
    child.kill("SIGKILL");
    await exitCode();
  }
});

afterAll(async () => {
  await stopLeftOver(dataDirectory);
  rmSync(dataDirectory, { recursive: true, force: true });
});

function launch(environment: Readonly<Record<string, string>> = {}, ...parts: string[]): Run {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src/main.ts"), ...parts],
    {
      cwd: projectDirectory,
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"], NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"], PORT: "0", LAUREL_DATA_DIR: dataDirectory, ...environment },
    },
  );
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  const closed = once(child, "close").then(() => child.exitCode);
  const run: Run = {
    child,
    output: () => output,
    errors: () => errors,
    url: () =>
      eventually("the banner", () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${errors}`);
        return /Address +(\S+)/.exec(output)?.[1];
      }),
    exitCode: () => closed,
  };
  runs.push(run);
  return run;
}

const ready = (url: string): Promise<unknown> => eventually("it to be ready", async () => (await fetch(`${url}/readyz`)).status === 200);
const adminKeyIn = (output: string): string | undefined => /Admin key +(\S+)/.exec(output)?.[1];

describe("npm start", () => {
  test("shows address and a first admin key, the key only once, and comes back after kill -9", async () => {
    const first = launch();
    const url = await first.url();
    expect(url).toMatch(/^http:\/\/localhost:\d+$/);
    expect(adminKeyIn(first.output())).toMatch(/^\w+\..{32,}$/);
    await ready(url);
    first.child.kill("SIGKILL");
    await first.exitCode();

    const second = launch();
    await ready(await second.url());
    expect(adminKeyIn(second.output())).toBeUndefined();
  });

  test.each(["SIGINT", "SIGHUP"] as const)("stops cleanly at %s, the repeat of it included", async (signal) => {
    const run = launch();
    await run.url();
    run.child.kill(signal);
    run.child.kill(signal);
    expect(await run.exitCode()).toBe(0);
    expect(run.errors()).not.toMatch(/"level":(40|50|60)/);
  });

  test("stores the admin key it is given and shows none", async () => {
    const databaseUrl = await createEmptyDatabase();
    const run = launch({ DATABASE_URL: databaseUrl, LAUREL_ADMIN_KEY: `mine.${"k".repeat(32)}` });
    await run.url();
    expect(adminKeyIn(run.output())).toBeUndefined();
    run.child.kill("SIGTERM");
    expect(await run.exitCode()).toBe(0);
  });

  test("runs as several processes on one database, of which one makes the first key", async () => {
    const environment = { DATABASE_URL: await createEmptyDatabase() };
    const all = [launch(environment, "server"), launch(environment)];
    await Promise.all(all.map((run) => run.url()));
    expect(all.filter((run) => adminKeyIn(run.output()) !== undefined)).toHaveLength(1);
  });

  test("runs each scheduled job that belongs to a start", async () => {
    const databaseUrl = await createEmptyDatabase();
    const run = launch({ DATABASE_URL: databaseUrl, LAUREL_SECRET_KEY: "a key that is long enough" }, "worker");
    const client = new Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      await eventually("the worker", () => run.output().includes("running (worker)"));
      await eventually("an empty queue", async () => {
        const found = await client.query("select from graphile_worker.jobs");
        return found.rowCount === 0;
      });
    } finally {
      await client.end();
    }
    expect(run.errors()).toBe("");
  });
});

describe("bad configuration", () => {
  test.each([
    [{ PORT: "eighty" }, /^laurel: PORT: .+\n$/],
    [{ HOST: "203.0.113.1" }, /^laurel: HOST: .+\n$/],
    [{ DATABASE_URL: "postgres://no.such.host.invalid/laurel" }, /^laurel: DATABASE_URL: .+\n$/],
    [{ LAUREL_DATA_DIR: "/dev/null/laurel" }, /^laurel: LAUREL_DATA_DIR: .+\n$/],
  ])("%j stops with one clear line", async (environment, line) => {
    const run = launch({ LAUREL_LOG_LEVEL: "silent", ...environment });
    expect(await run.exitCode()).toBe(1);
    expect(run.errors()).toMatch(line);
    expect(run.output()).toBe("");
  });

  test("a port in use stops with one clear line", async () => {
    const first = launch();
    const port = new URL(await first.url()).port;
    const second = launch({ PORT: port });
    expect(await second.exitCode()).toBe(1);
    expect(second.errors()).toContain(`laurel: PORT: ${port} on 127.0.0.1 is in use by another program\n`);
  });
});
