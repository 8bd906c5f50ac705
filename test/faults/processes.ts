import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { projectDirectory } from "../../src/config.ts";

/** A server or a worker in a process of its own. */
export interface LaurelProcess {
  /** Ends it as a crash does, and waits until it is gone. */
  readonly kill: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** Starts `npm run server` or `npm run worker` over the given database, and waits until it runs. */
export async function startPart(
  part: "server" | "worker",
  given: { readonly connectionString: string; readonly adminKey: string; readonly port: number },
): Promise<LaurelProcess> {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src", "main.ts"), part],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: {
        DATABASE_URL: given.connectionString,
        PORT: String(given.port),
        LAUREL_ADMIN_KEY: given.adminKey,
        LAUREL_LOG_LEVEL: "fatal",
        PATH: process.env["PATH"] ?? "",
      },
    },
  );
  const ended = once(child, "exit");
  for await (const line of createInterface({ input: outputOf(child) })) {
    if (line.startsWith("Laurel is running")) {
      outputOf(child).resume();
      return {
        kill: async () => {
          child.kill("SIGKILL");
          await ended;
        },
        stop: async () => {
          child.kill("SIGTERM");
          await ended;
        },
      };
    }
  }
  throw new Error(`the ${part} ended before it ran`);
}

function outputOf(child: ChildProcess): NonNullable<ChildProcess["stdout"]> {
  if (child.stdout === null) throw new Error("no output");
  return child.stdout;
}

/** Kills the postmaster and everything it started, as when the machine's memory runs out. Whoever watches it starts it again. */
export function killPostgres(postmaster: number): void {
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === postmaster);
  for (const pid of [postmaster, ...children]) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It went with the others.
    }
  }
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return undefined;
  }
}

/** A port of loopback that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
