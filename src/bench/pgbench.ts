import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { ConfigError } from "../config.ts";

const run = promisify(execFile);

/** Debian keeps the programs of each major version in a folder of its own, off the PATH. */
const debianDirectory = "/usr/lib/postgresql";

/**
 * Every run has new connections, and each of them compiles functions and plans statements at first: most of a second for 32
 * on two cores. Programs keep their connections, so that this is left out.
 */
const usualWarmUpSeconds = 2;

/** What one run of pgbench is given. */
export interface PgbenchRun {
  readonly connectionString: string;
  /** A script's name in scripts/, without its ending. */
  readonly script: string;
  readonly clients: number;
  /** How long it is measured, after the warm-up. */
  readonly seconds: number;
  /** 2 unless given. */
  readonly warmUpSeconds?: number;
  /** Whole numbers that the script names as :variable. */
  readonly variables?: Readonly<Record<string, number>>;
}

/** pgbench's path: from PATH, or Debian's newest. Throws `ConfigError` when there is none. */
export async function findPgbench(): Promise<string> {
  const onPath = await run("sh", ["-c", "command -v pgbench"]).then(
    ({ stdout }) => stdout.trim(),
    () => "",
  );
  if (onPath !== "") return onPath;
  const majors = existsSync(debianDirectory) ? readdirSync(debianDirectory) : [];
  const found = majors
    .sort((a, b) => Number(b) - Number(a))
    .map((major) => join(debianDirectory, major, "bin", "pgbench"))
    .find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new ConfigError(
    "pgbench is not on the PATH: install it (Debian and Ubuntu: postgresql; macOS: brew install postgresql)",
  );
}

/**
 * Runs a script, its statements prepared, and returns transactions per second, as pgbench counted them after the warm-up.
 * Throws an Error with what pgbench said when a transaction failed.
 */
export async function runPgbench(pgbench: string, options: PgbenchRun): Promise<number> {
  const { connectionString, script, clients, seconds, variables = {}, warmUpSeconds = usualWarmUpSeconds } = options;
  const { address, password } = splitPassword(connectionString);
  const { stdout, stderr } = await run(
    pgbench,
    [
      "--no-vacuum",
      "--protocol=prepared",
      `--client=${clients}`,
      `--jobs=${Math.min(clients, 2)}`,
      `--time=${warmUpSeconds + seconds}`,
      "--progress=1",
      `--file=${join(import.meta.dirname, "scripts", `${script}.sql`)}`,
      ...Object.entries(variables).map(([name, value]) => `--define=${name}=${value}`),
      address,
    ],
    password === undefined ? {} : { env: { PGPASSWORD: password, PATH: "/usr/local/bin:/usr/bin:/bin" } },
  );
  // One line a second: "progress: 3.0 s, 1234.5 tps, lat …".
  const rates = [...stderr.matchAll(/^progress: [\d.]+ s, ([\d.]+) tps/gm)].map(([, rate]) => Number(rate));
  const measured = rates.slice(warmUpSeconds, warmUpSeconds + seconds);
  const failed = /^number of failed transactions: (\d+)/m.exec(stdout)?.[1] ?? "0";
  if (measured.length === 0 || failed !== "0") throw new Error(`pgbench ${script} failed: ${stdout}${stderr}`);
  return measured.reduce((sum, rate) => sum + rate, 0) / measured.length;
}

/** Command lines can be read by other users; the environment cannot. */
function splitPassword(connectionString: string): { address: string; password: string | undefined } {
  const url = new URL(connectionString);
  const { password } = url;
  url.password = "";
  return { address: url.href, password: password === "" ? undefined : decodeURIComponent(password) };
}
