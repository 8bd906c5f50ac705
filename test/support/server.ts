import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { installedBinaries } from "../../src/postgres/binaries.ts";
import { type EmbeddedPostgres, startEmbedded, stopLeftOver } from "../../src/postgres/embedded.ts";
import { isAlive } from "../../src/postgres/processes.ts";

const folderPrefix = "laurel-test-";

/** A server for one test run, in a temporary folder that carries this process's id, or in one that is there. */
export async function startTestServer(dataDirectory = temporaryDirectory()): Promise<EmbeddedPostgres> {
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
  const dataDirectory = temporaryDirectory();
  mkdirSync(dataDirectory, { mode: 0o755 });
  // With its owner, which Node.js does not copy.
  execFileSync("cp", ["-a", clusterDirectory, dataDirectory]);
  return dataDirectory;
}

/** A name for a temporary folder, which `sweepTemporaryDirectories` of a later run removes if this one cannot. */
export function temporaryDirectory(): string {
  return join(tmpdir(), `${folderPrefix}${process.pid}-${randomBytes(4).toString("hex")}`);
}

/** Stops the servers and removes the folders of test runs that were killed. */
export async function sweepTemporaryDirectories(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^laurel-test-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    await stopLeftOver(join(tmpdir(), name));
    rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}
