import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { installedBinaries } from "../../src/postgres/binaries.ts";
import { type EmbeddedPostgres, startEmbedded, stopLeftOver } from "../../src/postgres/embedded.ts";
import { isAlive } from "../../src/postgres/processes.ts";

const folderPrefix = "laurel-test-";
const memoryFolder = "/dev/shm";
/** Several times what the servers of a run need for databases and logs. */
const ampleBytes = 12 * 2 ** 30;

/** A server for one test run, in a temporary folder that carries this process's id, or in one that is there. */
export async function startTestServer(dataDirectory = serverDirectory()): Promise<EmbeddedPostgres> {
  const wanted = process.env["LAUREL_TEST_POSTGRES"];
  return startEmbedded({
    dataDirectory,
    logger: pino({ level: "silent" }),
    isThrowaway: true,
    ...(wanted === undefined || wanted === ""
      ? {}
      : { binaries: installedBinaries(`/usr/lib/postgresql/${wanted}/bin`) }),
  });
}

/** Copies a server that is stopped; returns the folder that another can be started in. */
export function copyServer({ clusterDirectory }: EmbeddedPostgres): string {
  const dataDirectory = serverDirectory();
  mkdirSync(dataDirectory, { mode: 0o755 });
  // With its owner, which Node.js does not copy.
  execFileSync("cp", ["-a", clusterDirectory, dataDirectory]);
  return dataDirectory;
}

/**
 * In memory, where there is plenty: cloning and dropping databases is making and removing files, by the thousand, and some file
 * systems look for a place longer the more were removed of late.
 */
function serverDirectory(): string {
  return temporaryDirectory(isMemoryAmple() ? memoryFolder : tmpdir());
}

function isMemoryAmple(): boolean {
  if (process.platform !== "linux" || process.availableMemory() < ampleBytes) return false;
  const mount = readFileSync("/proc/mounts", "utf8").split("\n").find((line) => line.split(" ")[1] === memoryFolder);
  // PostgreSQL's programs may have to be copied beside the data.
  if (mount?.startsWith("tmpfs ") !== true || mount.includes("noexec")) return false;
  const { bavail, bsize } = statfsSync(memoryFolder);
  return bavail * bsize >= ampleBytes;
}

/** A name for a temporary folder, which `sweepTemporaryDirectories` of a later run removes if this one cannot. */
export function temporaryDirectory(parent = tmpdir()): string {
  return join(parent, `${folderPrefix}${process.pid}-${randomBytes(4).toString("hex")}`);
}

/** Stops the servers and removes the folders of test runs that were killed. */
export async function sweepTemporaryDirectories(): Promise<void> {
  for (const parent of [tmpdir(), memoryFolder].filter((folder) => existsSync(folder))) {
    for (const name of readdirSync(parent)) {
      const pid = /^laurel-test-(\d+)-/.exec(name)?.[1];
      if (pid === undefined || isAlive(Number(pid))) continue;
      await stopLeftOver(join(parent, name));
      rmSync(join(parent, name), { recursive: true, force: true });
    }
  }
}
