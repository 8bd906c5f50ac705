import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Client } from "pg";
import { ConfigError, projectDirectory } from "../../src/config.ts";
import { type EmbeddedPostgres, startEmbedded, stopLeftOver } from "../../src/postgres/embedded.ts";
import { commandOf, isAlive } from "../../src/postgres/processes.ts";
import { eventually, silentLogger } from "../support/database.ts";
import { temporaryDirectory } from "../support/server.ts";

const dataDirectory = temporaryDirectory();
const started: EmbeddedPostgres[] = [];

const start = async (directory = dataDirectory): Promise<EmbeddedPostgres> => {
  const server = await startEmbedded({ dataDirectory: directory, logger: silentLogger, isThrowaway: true });
  started.push(server);
  return server;
};

const ask = async (server: EmbeddedPostgres, query: string): Promise<unknown[]> => {
  const client = new Client({ connectionString: server.connectionString() });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(query)).rows;
  } finally {
    await client.end();
  }
};

/** Another Laurel process that uses the folder: answers its lines on standard output, and lives until killed. */
const holder = `
  import { startEmbedded } from ${JSON.stringify(join(projectDirectory, "src/postgres/embedded.ts"))};
  import { pino } from "pino";
  const server = await startEmbedded({ dataDirectory: process.argv[1], logger: pino({ level: "silent" }), isThrowaway: true });
  process.stdout.write(server.postmasterPid() + "\\n");
  process.stdin.resume().on("end", async () => { await server.stop(); process.exit(0); });
`;

const startHolder = async (): Promise<{ child: ChildProcess; postmasterPid: number }> => {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", holder, dataDirectory],
    { cwd: projectDirectory, stdio: ["pipe", "pipe", "inherit"] },
  );
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  return { child, postmasterPid: Number(line) };
};

beforeAll(async () => {
  await (await start()).stop();
});

afterEach(async () => {
  for (const server of started.splice(0)) await server.stop();
});

afterAll(async () => {
  await stopLeftOver(dataDirectory);
  rmSync(dataDirectory, { recursive: true, force: true });
});

describe("the embedded PostgreSQL", () => {
  test("keeps what was stored, and stops cleanly", async () => {
    const first = await start();
    await ask(first, "create table kept as select 42 as answer");
    const pid = first.postmasterPid();
    await first.stop();
    expect(isAlive(pid)).toBe(false);

    const second = await start();
    expect(await ask(second, "select answer from kept")).toEqual([{ answer: 42 }]);
    expect(readFileSync(second.logFile, "utf8")).not.toContain("not properly shut down");
  });

  test("compares text by code point, knows Unicode's cases, and keeps time in UTC", async () => {
    const server = await start();
    const query =
      "select 'Z' < 'a' as by_code_point, upper('é') as upper, current_setting('timezone') as zone, current_setting('server_encoding') as encoding";
    expect(await ask(server, query)).toEqual([{ by_code_point: true, upper: "É", zone: "UTC", encoding: "UTF8" }]);
  });

  test("listens on a private socket alone", async () => {
    const server = await start();
    const [row] = await ask(
      server,
      "select current_setting('listen_addresses') as tcp, current_setting('unix_socket_directories') as socket",
    );
    const { tcp, socket } = row as { tcp: string; socket: string };
    expect(tcp).toBe("");
    expect(statSync(socket).mode & 0o077).toBe(0);
  });

  test("is adopted after the process that started it was killed", async () => {
    const { child, postmasterPid } = await startHolder();
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(isAlive(postmasterPid)).toBe(true);

    const server = await start();
    expect(server.postmasterPid()).toBe(postmasterPid);
    await server.stop();
    expect(isAlive(postmasterPid)).toBe(false);
  });

  test("is shared by several processes, and stopped by the last", async () => {
    const { child, postmasterPid } = await startHolder();
    const server = await start();
    expect(server.postmasterPid()).toBe(postmasterPid);
    await server.stop();
    expect(isAlive(postmasterPid)).toBe(true);

    child.stdin?.end();
    await once(child, "exit");
    expect(isAlive(postmasterPid)).toBe(false);
  });

  test("is started once by processes that start together", async () => {
    const holders = await Promise.all([startHolder(), startHolder(), startHolder()]);
    expect(new Set(holders.map(({ postmasterPid }) => postmasterPid)).size).toBe(1);
    for (const { child } of holders) {
      child.stdin?.end();
      await once(child, "exit");
    }
  });

  test("starts although a stale file names a process that is another program by now", async () => {
    const { clusterDirectory } = await start();
    await started.splice(0)[0]?.stop();
    writeFileSync(join(clusterDirectory, "postmaster.pid"), `${process.pid}\n${clusterDirectory}\n0\n5432\n/tmp\n\n\nready\n`);

    const server = await start();
    expect(server.postmasterPid()).not.toBe(process.pid);
    expect(await ask(server, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  test("is started again when it was killed", async () => {
    const server = await start();
    const before = server.postmasterPid();
    expect(commandOf(before)).toContain(server.clusterDirectory);
    process.kill(before, "SIGKILL");
    await eventually("another postmaster", () => server.postmasterPid() !== before);
    expect(await ask(server, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  test("leaves no lock and no registration behind", async () => {
    const server = await start();
    await server.stop();
    expect(readdirSync(dataDirectory).filter((name) => name.startsWith("lock"))).toEqual([]);
    expect(readdirSync(join(dataDirectory, "processes"))).toEqual([]);
  });
});

describe("a data folder that cannot be used", () => {
  test("is refused when it is a file", async () => {
    const file = join(dataDirectory, "password");
    await expect(start(join(file, "inside"))).rejects.toThrow(ConfigError);
  });

  test("is refused when it holds another major version's data", async () => {
    const elsewhere = temporaryDirectory();
    mkdirSync(join(elsewhere, "postgres-12"), { recursive: true });
    await expect(start(elsewhere)).rejects.toThrow(/holds postgres-12/);
    rmSync(elsewhere, { recursive: true });
  });
});
