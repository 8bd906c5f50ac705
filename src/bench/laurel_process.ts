import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { projectDirectory } from "../config.ts";

/** A Laurel server in a process of its own. */
export interface LaurelProcess {
  readonly url: string;
  readonly adminKey: string;
  readonly stop: () => Promise<void>;
}

/** Starts `npm run server` on a free port, over the given database. Throws when it ends before it listens. */
export async function startLaurelProcess(connectionString: string): Promise<LaurelProcess> {
  const adminKey = `bench.${randomBytes(24).toString("hex")}`;
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src", "main.ts"), "server"],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        DATABASE_URL: connectionString,
        PORT: "0",
        LAUREL_ADMIN_KEY: adminKey,
        LAUREL_LOG_LEVEL: "warn",
        PATH: "/usr/local/bin:/usr/bin:/bin",
      },
    },
  );
  const ended = once(child, "exit");
  const address = (async (): Promise<string | undefined> => {
    for await (const line of createInterface(child.stdout)) {
      const port = /^\s*Address\s+http:\/\/\S+:(\d+)/.exec(line)?.[1];
      if (port !== undefined) return `http://127.0.0.1:${port}`;
    }
    return undefined;
  })();
  const url = await address;
  if (url === undefined) throw new Error("the Laurel server ended before it listened");
  child.stdout.resume();
  return {
    url,
    adminKey,
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
