import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { Client, escapeIdentifier } from "pg";
import type { Logger } from "pino";
import { ConfigError, projectDirectory } from "../config.ts";
import {
  canReach,
  embeddedBinaries,
  findServerAccount,
  type PostgresBinaries,
  type ServerAccount,
} from "./binaries.ts";
import { birthOf, commandOf, isAlive, waitFor } from "./processes.ts";

/**
 * The embedded PostgreSQL: a real server in a data folder, run for as long as some Laurel process uses it.
 *
 * The data folder holds
 *   postgres-18/      the cluster, named by major version, since another major cannot read it
 *   postgres-18.log   what the server says
 *   password          of the owner, for connections over TCP
 *   run/              its socket (in the system's temporary folder where the path would be too long)
 *   processes/        one file for each Laurel process that uses the server; the last one to stop stops it
 *   lock              held while one of them starts or stops it
 */
export interface EmbeddedPostgres {
  /** How the owner connects to one of its databases; psql and pgbench understand it too. */
  connectionString: (database?: string) => string;
  readonly major: number;
  readonly dataDirectory: string;
  readonly clusterDirectory: string;
  readonly logFile: string;
  /** The server's process id now: it changes when the server had to be started again. */
  postmasterPid: () => number;
  /** Ends this process's use of the server and, if nobody else uses it, the server: fast, but cleanly. */
  stop: () => Promise<void>;
}

/** How to run the embedded PostgreSQL. */
export interface EmbeddedOptions {
  readonly dataDirectory: string;
  readonly logger: Logger;
  /** Listen on this loopback port as well as on the socket. */
  readonly tcpPort?: number | undefined;
  /** Other programs than the embedded ones. */
  readonly binaries?: PostgresBinaries;
  /** Faster, and loses data when the machine fails: for the clusters of tests alone. */
  readonly isThrowaway?: boolean;
}

const owner = "laurel";
const defaultDatabase = "laurel";
const socketPort = 5432;
/** The shortest limit of any system (macOS) for a socket's path, less the name PostgreSQL gives it. */
const longestSocketDirectory = 103 - "/.s.PGSQL.65535".length;
/** Recovery after a crash reads at most max_wal_size; minutes on a slow disk. */
const startDeadlineMs = 10 * 60_000;
const stopDeadlineMs = 60_000;
const lockDeadlineMs = startDeadlineMs + stopDeadlineMs;
const watchIntervalMs = 1_000;
const largestLogBytes = 10 * 1024 * 1024;

const run = promisify(execFile);

/**
 * Where data lives when nobody said: `.laurel` in the project. When we are root and PostgreSQL's account cannot
 * enter the project (below /root, say), a folder of its own under /var/lib.
 */
export function defaultDataDirectory(): string {
  if (canReach(findServerAccount(), projectDirectory)) return join(projectDirectory, ".laurel");
  return join("/var/lib/laurel", `${basename(projectDirectory)}-${shortHash(projectDirectory)}`);
}

/**
 * Starts the embedded server of a data folder, or joins the one that runs there already, whether another Laurel
 * process uses it or one that was killed left it behind. Creates cluster and database when there are none.
 * Throws `ConfigError` when the folder cannot be used.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const account = findServerAccount();
  const dataDirectory = prepareDataDirectory(options.dataDirectory, account);
  const binaries = options.binaries ?? embeddedBinaries(account, dataDirectory);
  const server: Server = {
    account,
    binaries,
    logger: options.logger,
    dataDirectory,
    clusterDirectory: join(dataDirectory, `postgres-${binaries.major}`),
    socketDirectory: prepareSocketDirectory(dataDirectory, account),
    logFile: join(dataDirectory, `postgres-${binaries.major}.log`),
    tcpPort: options.tcpPort,
    isThrowaway: options.isThrowaway ?? false,
  };
  let address = await withDirectoryLock(dataDirectory, async () => {
    joinProcesses(dataDirectory);
    try {
      if (!existsSync(server.clusterDirectory)) await initialiseCluster(server);
      const started = await startOrAdopt(server);
      await createDatabase(started);
      return started;
    } catch (error) {
      leaveProcesses(dataDirectory);
      throw error;
    }
  });

  let stopped: Promise<void> | undefined;
  let restarting = false;
  const watch = setInterval(() => {
    if (restarting || birthOf(address.pid) === address.birth) return;
    restarting = true;
    server.logger.error({ postmasterPid: address.pid }, "the embedded PostgreSQL ended unexpectedly; starting it again");
    withDirectoryLock(dataDirectory, async () => {
      if (stopped === undefined) address = await startOrAdopt(server);
    })
      .catch((error: unknown) => {
        server.logger.error({ err: error }, "the embedded PostgreSQL could not be started again");
      })
      .finally(() => {
        restarting = false;
      });
  }, watchIntervalMs);
  watch.unref();

  return {
    connectionString: (database = defaultDatabase) => connectionStringOf(address, database),
    major: binaries.major,
    dataDirectory,
    clusterDirectory: server.clusterDirectory,
    logFile: server.logFile,
    postmasterPid: () => address.pid,
    stop: () => {
      clearInterval(watch);
      stopped ??= withDirectoryLock(dataDirectory, async () => {
        leaveProcesses(dataDirectory);
        if (otherProcesses(dataDirectory).length === 0) await stopPostmaster(address.pid);
      });
      return stopped;
    },
  };
}

/** Stops a server that a process which no longer lives left running in this data folder, if there is one. */
export async function stopLeftOver(dataDirectory: string): Promise<void> {
  if (!existsSync(dataDirectory)) return;
  const directory = realpathSync(dataDirectory);
  for (const name of readdirSync(directory)) {
    const address = /^postgres-\d+$/.test(name) ? runningPostmaster(join(directory, name)) : undefined;
    if (address !== undefined) await stopPostmaster(address.pid);
  }
}

interface Server {
  readonly account: ServerAccount | undefined;
  readonly binaries: PostgresBinaries;
  readonly logger: Logger;
  readonly dataDirectory: string;
  readonly clusterDirectory: string;
  readonly socketDirectory: string;
  readonly logFile: string;
  readonly tcpPort: number | undefined;
  readonly isThrowaway: boolean;
}

/** A postmaster that runs: which process, and where it listens. */
interface ServerAddress {
  readonly pid: number;
  readonly birth: string | undefined;
  readonly socketDirectory: string;
  readonly port: number;
}

function connectionStringOf({ socketDirectory, port }: ServerAddress, database: string): string {
  return `postgresql://${owner}@${encodeURIComponent(socketDirectory)}:${port}/${encodeURIComponent(database)}`;
}

function prepareDataDirectory(wanted: string, account: ServerAccount | undefined): string {
  try {
    // As root, PostgreSQL's account must be able to pass through; what is inside guards itself.
    mkdirSync(wanted, { recursive: true, mode: account === undefined ? 0o700 : 0o755 });
    mkdirSync(join(wanted, "processes"), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new ConfigError(`LAUREL_DATA_DIR: cannot write to ${wanted}: ${(error as Error).message}`);
  }
  const directory = realpathSync(wanted);
  if (!canReach(account, directory)) {
    throw new ConfigError(
      `LAUREL_DATA_DIR: PostgreSQL does not run as root, and the account it runs as cannot enter ${directory}`,
    );
  }
  return directory;
}

function prepareSocketDirectory(dataDirectory: string, account: ServerAccount | undefined): string {
  const inside = join(dataDirectory, "run");
  const directory =
    Buffer.byteLength(inside) <= longestSocketDirectory
      ? inside
      : join(realpathSync(tmpdir()), `laurel-${shortHash(dataDirectory)}`);
  if (Buffer.byteLength(directory) > longestSocketDirectory) {
    throw new ConfigError(`LAUREL_DATA_DIR: the path ${directory} is too long for a socket; choose a shorter one`);
  }
  if (!existsSync(directory)) {
    mkdirSync(directory, { mode: 0o700 });
    if (account !== undefined) chownSync(directory, account.uid, account.gid);
  }
  // Whoever may enter is let in as the owner, so somebody else's folder under /tmp will not do.
  const found = lstatSync(directory);
  const expectedUid = account?.uid ?? process.getuid?.();
  if (!found.isDirectory() || found.uid !== expectedUid || (found.mode & 0o077) !== 0) {
    throw new ConfigError(`${directory} is not a private folder of PostgreSQL's account: remove it`);
  }
  return directory;
}

/** Builds a cluster under a temporary name, then renames it: a folder with the right name is complete. */
async function initialiseCluster(server: Server): Promise<void> {
  const { account, binaries, clusterDirectory, dataDirectory, isThrowaway } = server;
  const older = readdirSync(dataDirectory).find((name) => /^postgres-\d+$/.test(name));
  if (older !== undefined) {
    throw new ConfigError(
      `LAUREL_DATA_DIR: ${dataDirectory} holds ${older}, and this is PostgreSQL ${binaries.major}: dump and restore it first (see "Upgrading" in README.md), or use another folder`,
    );
  }
  const unfinished = `${clusterDirectory}.unfinished`;
  const passwordFile = join(dataDirectory, "password");
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { mode: 0o700 });
  writeFileSync(passwordFile, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600 });
  if (account !== undefined) {
    chownSync(unfinished, account.uid, account.gid);
    chownSync(passwordFile, account.uid, account.gid);
  }
  // One order of strings on every machine: by code point, with Unicode's upper and lower case.
  const locale =
    binaries.major >= 17
      ? ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
      : ["--locale=C.UTF-8"];
  try {
    await run(
      join(binaries.directory, "initdb"),
      [
        "--pgdata", unfinished,
        "--username", owner,
        "--encoding=UTF8",
        ...locale,
        "--auth-local=trust", // the socket's folder admits PostgreSQL's account and root alone
        "--auth-host=scram-sha-256",
        "--pwfile", passwordFile,
        "--data-checksums",
        ...(isThrowaway ? ["--no-sync"] : []),
      ],
      { cwd: dataDirectory, env: serverEnvironment(), ...account },
    );
  } catch (error) {
    const { stderr = "" } = error as { stderr?: string };
    throw new Error(`initdb failed: ${stderr.trim() || (error as Error).message}`, { cause: error });
  }
  renameSync(unfinished, clusterDirectory);
}

/** postgresql.conf as Laurel writes it at every start, to be added to in custom.conf. */
function serverSettings({ socketDirectory, tcpPort, isThrowaway }: Server): string {
  const settings: Record<string, string> = {
    listen_addresses: tcpPort === undefined ? "" : "127.0.0.1",
    port: String(tcpPort ?? socketPort),
    unix_socket_directories: socketDirectory,
    unix_socket_permissions: "0700",
    max_connections: "200",
    ...memorySettings(isThrowaway),
    random_page_cost: "1.1", // solid-state disks
    wal_compression: "on",
    max_wal_size: "2GB",
    jit: "off", // compiling takes longer than any query here runs
    timezone: "UTC",
    log_timezone: "UTC",
    datestyle: "iso, ymd",
    lc_messages: "C",
    log_line_prefix: "%m [%p] %q%u@%d ",
    cluster_name: "laurel",
    ...(isThrowaway ? { fsync: "off", synchronous_commit: "off", full_page_writes: "off" } : {}),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  return [
    "# Written by Laurel at every start. Put settings of your own in custom.conf beside this file.",
    ...lines,
    "include_if_exists 'custom.conf'",
    "",
  ].join("\n");
}

/** An eighth of the memory there is for pages, and half as what the system caches of them; little for databases that do not last. */
function memorySettings(isThrowaway: boolean): Record<string, string> {
  const limit = process.constrainedMemory();
  const megabytes = Math.min(totalmem(), limit > 0 ? limit : Infinity) / 2 ** 20;
  const shared = isThrowaway ? 256 : Math.round(Math.min(Math.max(megabytes / 8, 128), 2048));
  return { shared_buffers: `${shared}MB`, effective_cache_size: `${Math.round(Math.max(megabytes / 2, 512))}MB` };
}

/** PostgreSQL's surroundings: nothing of ours, secrets least of all. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" };
}

async function startOrAdopt(server: Server): Promise<ServerAddress> {
  const { clusterDirectory, dataDirectory, logger } = server;
  const settingsFile = join(clusterDirectory, "postgresql.conf");
  const settings = serverSettings(server);
  const areSettingsNew = readFileSync(settingsFile, "utf8") !== settings;
  const running = runningPostmaster(clusterDirectory);
  if (running !== undefined && (!areSettingsNew || otherProcesses(dataDirectory).length > 0)) {
    await waitUntilReady(server, running);
    logger.info({ postmasterPid: running.pid }, "joined the embedded PostgreSQL that runs already");
    return running;
  }
  if (running !== undefined) await stopPostmaster(running.pid);
  writeFileSync(settingsFile, settings);
  return startPostmaster(server);
}

/**
 * The postmaster of this cluster, if it runs. A file alone proves nothing: it outlives a crash, and its process
 * id may be another program's by now, which would keep PostgreSQL from starting; such a file is removed.
 */
function runningPostmaster(clusterDirectory: string): ServerAddress | undefined {
  const pidFile = join(clusterDirectory, "postmaster.pid");
  if (!existsSync(pidFile)) return undefined;
  const [pidLine = "", , , port = "", socketDirectory = ""] = readFileSync(pidFile, "utf8").split("\n");
  const pid = Number(pidLine);
  const command = Number.isInteger(pid) && pid > 0 ? commandOf(pid) : undefined;
  if (command?.endsWith(`/postgres -D ${clusterDirectory}`) === true) {
    return { pid, birth: birthOf(pid), socketDirectory, port: Number(port) };
  }
  rmSync(pidFile, { force: true });
  return undefined;
}

async function startPostmaster(server: Server): Promise<ServerAddress> {
  const { account, binaries, clusterDirectory, logFile, tcpPort } = server;
  if (existsSync(logFile) && statSync(logFile).size > largestLogBytes) renameSync(logFile, `${logFile}.1`);
  // Backends of a postmaster that was killed hold its shared memory until they notice, within moments.
  for (let attempt = 1; ; attempt += 1) {
    const log = openSync(logFile, "a", 0o600);
    const logOffset = statSync(logFile).size;
    const child: ChildProcess = spawn(join(binaries.directory, "postgres"), ["-D", clusterDirectory], {
      // A process group of its own: Ctrl-C reaches Laurel alone, which stops the server when requests are done.
      detached: true,
      stdio: ["ignore", log, log],
      cwd: clusterDirectory,
      env: serverEnvironment(),
      ...account,
    });
    child.on("error", () => undefined); // no process: seen below by its missing id
    closeSync(log);
    child.unref();
    if (child.pid === undefined) throw new Error(`cannot run ${binaries.directory}/postgres`);
    const address: ServerAddress = {
      pid: child.pid,
      birth: birthOf(child.pid),
      socketDirectory: server.socketDirectory,
      port: tcpPort ?? socketPort,
    };
    try {
      await waitUntilReady(server, address);
      return address;
    } catch (error) {
      const said = readFileSync(logFile).subarray(logOffset).toString("utf8");
      if (attempt < 50 && /shared memory block .* is still in use|lock file ".*" already exists/.test(said)) {
        await waitFor("the pause between two attempts", 1_000, pauseOnce(200));
        continue;
      }
      const reason = /(?:FATAL|PANIC): {2}(.*)/.exec(said)?.[1] ?? (error as Error).message;
      throw new ConfigError(`the embedded PostgreSQL does not start: ${reason} (see ${logFile})`);
    }
  }
}

function pauseOnce(ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => performance.now() >= end;
}

async function waitUntilReady(server: Server, address: ServerAddress): Promise<void> {
  await waitFor(`the embedded PostgreSQL (see ${server.logFile})`, startDeadlineMs, async () => {
    if (!isAlive(address.pid)) throw new Error("it ended at once");
    const client = new Client({ connectionString: connectionStringOf(address, "postgres") });
    client.on("error", () => undefined); // a connection lost while starting is tried again
    try {
      await client.connect();
      await client.query("select");
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => undefined);
    }
  });
}

async function createDatabase(address: ServerAddress): Promise<void> {
  const client = new Client({ connectionString: connectionStringOf(address, "postgres") });
  await client.connect();
  try {
    const found = await client.query("select from pg_database where datname = $1", [defaultDatabase]);
    if (found.rowCount === 0) await client.query(`create database ${escapeIdentifier(defaultDatabase)}`);
  } finally {
    await client.end();
  }
}

/** Fast shutdown (SIGINT): sessions are ended, nothing committed is lost. Immediate (SIGQUIT) if that takes too long. */
async function stopPostmaster(pid: number): Promise<void> {
  const birth = birthOf(pid);
  if (birth === undefined) return;
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    try {
      process.kill(pid, signal);
      await waitFor("the embedded PostgreSQL to stop", stopDeadlineMs, () => birthOf(pid) !== birth);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ESRCH") return;
    }
  }
}

function joinProcesses(dataDirectory: string): void {
  writeFileSync(join(dataDirectory, "processes", String(process.pid)), birthOf(process.pid) ?? "");
}

function leaveProcesses(dataDirectory: string): void {
  rmSync(join(dataDirectory, "processes", String(process.pid)), { force: true });
}

/** The other live processes that use this data folder; files of dead ones are removed. */
function otherProcesses(dataDirectory: string): number[] {
  const directory = join(dataDirectory, "processes");
  return readdirSync(directory)
    .map(Number)
    .filter((pid) => {
      if (pid === process.pid) return false;
      const file = join(directory, String(pid));
      if (birthOf(pid) === readFileSync(file, "utf8")) return true;
      rmSync(file, { force: true });
      return false;
    });
}

/** Runs `work` while no other process does so for this folder. A lock whose holder is dead is taken over. */
async function withDirectoryLock<T>(directory: string, work: () => Promise<T>): Promise<T> {
  const file = join(directory, "lock");
  const ticket = `${file}.${process.pid}.${randomBytes(6).toString("hex")}`;
  // Written aside and linked into place, so that nobody ever reads half a lock.
  writeFileSync(ticket, `${process.pid}\n${birthOf(process.pid) ?? ""}`, { mode: 0o600 });
  await waitFor(`the lock ${file}`, lockDeadlineMs, () => {
    try {
      linkSync(ticket, file);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = readIfThere(file);
    if (holder === undefined) return false;
    const [pid = "", birth = ""] = holder.split("\n");
    if (birthOf(Number(pid)) === birth) return false;
    // Renaming is atomic, so of several who see a dead holder one takes the file away; what it took away may by
    // then be a live holder's, and is put back.
    const taken = `${ticket}.taken`;
    try {
      renameSync(file, taken);
    } catch {
      return false;
    }
    if (readIfThere(taken) === holder) rmSync(taken, { force: true });
    else renameSync(taken, file);
    return false;
  }).finally(() => {
    rmSync(ticket, { force: true });
  });
  try {
    return await work();
  } finally {
    rmSync(file, { force: true });
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
