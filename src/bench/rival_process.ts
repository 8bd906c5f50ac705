import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The rivals that are reached over HTTP, and how to end them. */
export interface RivalProcess {
  /** POST {userId, attributes}: an award decided by an application. */
  readonly applicationUrl: string;
  /** POST {userId}: an Express route that calls one trivial function. */
  readonly bareUrl: string;
  readonly stop: () => Promise<void>;
}

/** Starts rival_server.ts, in a process of its own so that it does not share a thread with who measures it. */
export async function startRivalProcess(connectionString: string): Promise<RivalProcess> {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "rival_server.ts"), connectionString],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = once(child, "exit");
  const firstLine = once(createInterface(child.stdout), "line").then(([line]) => String(line));
  const line = await Promise.race([firstLine, ended.then(() => undefined)]);
  if (line === undefined) throw new Error("the process with the rivals ended before it listened");
  const [application, bare] = line.split(",");
  return {
    applicationUrl: `http://127.0.0.1:${application ?? ""}/`,
    bareUrl: `http://127.0.0.1:${bare ?? ""}/bare`,
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
