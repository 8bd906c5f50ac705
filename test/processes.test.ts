import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { Client } from "pg";
import { projectDirectory } from "../src/config.ts";
import { createEmptyDatabase, eventually } from "./support/database.ts";
import { first, verify } from "./support/engine.ts";
import { httpReceiver } from "./support/faulty_receivers.ts";

/** Rules X3 and X6: servers, workers and migrations in processes of their own on one database, stopped, frozen and killed midway. */

interface Part {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exitCode: () => Promise<number | null>;
  /** Waits until it says that it runs; returns what it said. */
  readonly running: () => Promise<string>;
}

const adminKey = `several.${"k".repeat(32)}`;
const deadlineMs = 60_000;
const parts: Part[] = [];
let databaseUrl: string;
let owner: Client;
/** Holds users while others want them. */
let holder: Client;

function launch(script: "main.ts" | "cli/migrate.ts", ...args: string[]): Part {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(projectDirectory, "src", script), ...args], {
    cwd: projectDirectory,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"], NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"], PORT: "0", DATABASE_URL: databaseUrl, LAUREL_ADMIN_KEY: adminKey,
      LAUREL_SECRET_KEY: "a key that is long enough", LAUREL_LOG_LEVEL: "warn",
      LAUREL_WEBHOOK_ALLOW_CIDRS: "127.0.0.1/32",
    },
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
  const closed = once(child, "close").then(() => child.exitCode);
  const part: Part = {
    child,
    output: () => output,
    exitCode: () => closed,
    running: () =>
      eventually("it to run", () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${output}`);
        // A warning may come after it: that it was slow, say.
        return /Laurel is running .*\n\n(?: {2}\S.*\n)*\n/.test(output) ? output : undefined;
      }, deadlineMs),
  };
  parts.push(part);
  return part;
}

let server: Part;
let worker: Part;
let baseUrl: string;

beforeAll(async () => {
  databaseUrl = await createEmptyDatabase();
  // All at once, on a database that is empty.
  const migrations = [launch("cli/migrate.ts"), launch("cli/migrate.ts")];
  server = launch("main.ts", "server");
  worker = launch("main.ts", "worker");
  for (const migration of migrations) {
    expect([await migration.exitCode(), migration.output()]).toEqual([0, "The database is up to date.\n"]);
  }
  baseUrl = /Address +(\S+)/.exec(await server.running())?.[1] ?? "";
  await worker.running();
  owner = new Client({ connectionString: databaseUrl });
  holder = new Client({ connectionString: databaseUrl });
  for (const client of [owner, holder]) {
    // The database goes, with its connections, before these are closed.
    client.on("error", () => undefined);
    await client.connect();
  }
  await owner.query("insert into laurel.metrics (key, name) values ('words', 'Words')");
  await owner.query("insert into laurel.points_systems (key, name) values ('xp', 'XP')");
  await owner.query(
    `insert into laurel.points_triggers (system_id, type, points, metric_id, metric_threshold, status)
     select s.id, 'metric', 10, m.id, 1, 'active' from laurel.points_systems s, laurel.metrics m`);
}, 240_000);

afterAll(async () => {
  for (const { child, exitCode } of parts) {
    child.kill("SIGKILL");
    await exitCode();
  }
  await Promise.allSettled([holder.end(), owner.end()]);
}, 240_000);

beforeEach(async () => {
  await owner.query("insert into laurel.users (id) values ('ada') on conflict do nothing");
});

const blockedQueries = async (): Promise<{ pid: number; query: string }[]> =>
  (await owner.query<{ pid: number; query: string }>(
    `select pid, query from pg_stat_activity
     where datname = current_database() and state = 'active' and cardinality(pg_blocking_pids(pid)) > 0`)).rows;
const blocked = (what: string): Promise<number> =>
  eventually(`${what} to wait for the user`, async () => (await blockedQueries()).find(({ query }) => query.includes(what))?.pid, deadlineMs);
const holdUser = async (user: string): Promise<void> => {
  await holder.query("begin");
  await holder.query("select from laurel_private.user_states where user_id = $1 for update", [user]);
};
const letGo = () => holder.query("commit");
const count = async (text: string, values: unknown[] = []): Promise<number> => Number((await owner.query<{ n: string }>(text, values)).rows[0]?.n);

/** A user's trigger that ticked each hour for three and a half, unnoticed; returns its ID. */
async function dueTicks(user: string): Promise<string> {
  await owner.query("insert into laurel.users (id, created_at) values ($1, now() - interval '210 minutes')", [user]);
  await owner.query("insert into laurel.attributes (key, name, type) values ('clock', 'Clock', 'user') on conflict do nothing");
  await owner.query("update laurel.users set attributes = jsonb_build_object('clock', id) where id = $1", [user]);
  await owner.query("begin");
  const made = await owner.query<{ id: string }>(
    `insert into laurel.points_triggers (system_id, type, points, time_unit, time_interval, user_attributes, status)
     select id, 'time', 1, 'hours', 1, jsonb_build_object('clock', $1::text), 'active' from laurel.points_systems returning id`, [user]);
  const id = made.rows[0]?.id ?? "";
  await owner.query(
    `update laurel_private.time_trigger_spans p set activated_at = x.moment, begins_at = x.moment, looks_from = x.moment
     from (select now() - interval '210 minutes' as moment) x where p.trigger_id = $1`, [id]);
  await owner.query("commit");
  return id;
}
const applyTicks = () => owner.query("select graphile_worker.add_job('run_due_time_triggers', '{}'::json)");
const ticksOf = (trigger: string) => count("select count(*) as n from laurel.points_awards where trigger_id = $1", [trigger]);

test("servers and workers, as many as started, answer and work on one database", async () => {
  const trigger = await dueTicks("one");
  await applyTicks();
  await eventually("the worker to apply the ticks", async () => (await ticksOf(trigger)) === 3, deadlineMs);
  await eventually("the server to be ready", async () => (await fetch(`${baseUrl}/readyz`)).status === 200, deadlineMs);
  expect(await count("select count(*) as n from graphile_migrate.migrations")).toBe(1);
}, 180_000);

test.each(["SIGTERM", "SIGINT"] as const)("a server that is stopped by %s in the middle of a request answers it first", async (signal) => {
  const victim = signal === "SIGTERM" ? server : launch("main.ts", "server");
  const url = /Address +(\S+)/.exec(await victim.running())?.[1] ?? "";
  await holdUser("ada");
  const answer = fetch(`${url}/v1/metrics/words/event`, {
    method: "POST",
    headers: { "X-API-KEY": adminKey, "Content-Type": "application/json", "Idempotency-Key": signal },
    body: JSON.stringify({ user: { id: "ada" }, value: 1 }),
  });
  await blocked("record_event");
  victim.child.kill(signal);
  await eventually("it to take no more", async () => {
    try {
      return (await fetch(`${url}/readyz`)).status === 503;
    } catch {
      return true;
    }
  }, deadlineMs);
  await letGo();
  expect((await answer).status).toBe(201);
  expect(await victim.exitCode()).toBe(0);
  expect(await count("select count(*) as n from laurel.metric_events where idempotency_key = $1", [signal])).toBe(1);
  expect(await verify(owner)).toEqual([]);
}, 240_000);

test("a worker that is stopped in the middle of a job finishes it; nothing is left or done twice", async () => {
  const trigger = await dueTicks("two");
  await holdUser("two");
  await applyTicks();
  await blocked("run_due_time_triggers");
  worker.child.kill("SIGTERM");
  await letGo();
  expect(await worker.exitCode()).toBe(0);
  expect(await ticksOf(trigger)).toBe(3);
  expect(await count("select count(*) as n from graphile_worker.jobs where locked_at is not null or attempts > 0")).toBe(0);
  expect(await verify(owner)).toEqual([]);
}, 180_000);

test("a worker that is frozen in the middle of a job is replaced by another, and doubles nothing when it wakes; nor does one that is killed", async () => {
  const zombie = launch("main.ts", "worker");
  await zombie.running();
  await eventually("its first jobs to be done", async () => (await count("select count(*) as n from graphile_worker.jobs")) === 0, deadlineMs);
  const trigger = await dueTicks("three");
  await holdUser("three");
  await applyTicks();
  const pid = await blocked("run_due_time_triggers");
  zombie.child.kill("SIGSTOP");
  const successor = launch("main.ts", "worker");
  await successor.running();
  // Its transaction, as when the network between it and the database has gone; the job itself stays locked in the queue.
  await owner.query("select pg_terminate_backend($1)", [pid]);
  await letGo();
  await applyTicks();
  await eventually("the other worker to apply the ticks", async () => (await ticksOf(trigger)) === 3, deadlineMs);
  zombie.child.kill("SIGCONT");
  await eventually("the jobs of both to be done or put off", async () =>
    (await count("select count(*) as n from graphile_worker.jobs where locked_at is not null")) === 0, deadlineMs);
  expect(await ticksOf(trigger)).toBe(3);

  const other = await dueTicks("four");
  await holdUser("four");
  await applyTicks();
  await blocked("run_due_time_triggers");
  zombie.child.kill("SIGKILL");
  successor.child.kill("SIGKILL");
  await Promise.all([zombie.exitCode(), successor.exitCode()]);
  await letGo();
  const heir = launch("main.ts", "worker");
  await heir.running();
  await eventually("the heir to apply what is left", async () => (await ticksOf(other)) === 3, deadlineMs);
  heir.child.kill("SIGTERM");
  expect(await heir.exitCode()).toBe(0);
  expect(await ticksOf(other)).toBe(3);
  expect(await verify(owner)).toEqual([]);
}, 180_000);

test("a message that a worker was sending when it was killed is sent by another once the minute of its lease is over, and none is lost", async () => {
  const held = new Set<string>();
  const receiver = await httpReceiver((_request, response, { id, times }) => {
    // The first of all gets no answer, however long its sender waits.
    if (held.size === 0 || (held.has(id) && times === 1)) held.add(id);
    else response.writeHead(200).end("noted");
  });
  await owner.query("begin");
  await owner.query("select set_config('laurel.webhook_allow_cidrs', '127.0.0.1/32', true)");
  await owner.query("insert into laurel.webhook_endpoints (url, event_types) values ($1, array['points.changed'])", [receiver.url]);
  await owner.query("commit");
  const write = (user: string) =>
    owner.query(
      `select laurel_private.write_messages(laurel.current_tenant_id(), array[
         ($1::text, 'points.changed', json_build_object('type', 'points.changed', 'user', $1::text))::laurel_private.outgoing_message])`, [user]);
  const unsent = () => count("select count(*) as n from laurel.webhook_deliveries where status <> 'delivered'");

  const victim = launch("main.ts", "worker");
  await victim.running();
  await owner.query("insert into laurel.users (id) values ('five'), ('six')");
  await write("five");
  await eventually("the first worker to send it", () => held.size === 1, deadlineMs);
  victim.child.kill("SIGKILL");
  await victim.exitCode();
  const leases = await owner.query<{ is_short: boolean }>(
    "select leased_until <= clock_timestamp() + interval '1 minute' as is_short from laurel_private.webhook_leases");
  expect(leases.rows).toEqual([{ is_short: true }]);
  // However long the other worker takes to start.
  await owner.query("update laurel_private.webhook_leases set leased_until = leased_until + interval '1 hour'");

  const successor = launch("main.ts", "worker");
  await successor.running();
  await write("six");
  await eventually("the other worker to send what is free", () => receiver.accepted.size === 1, deadlineMs);
  await eventually("that to be noted", async () => (await unsent()) === 1, deadlineMs);
  // It has looked, and left alone what the dead one had taken.
  expect([...receiver.received.values()]).toEqual([1, 1]);

  await owner.query("update laurel_private.webhook_leases set leased_until = leased_until - interval '1 hour 1 minute'");
  await eventually("the other worker to send it again", () => receiver.accepted.size === 2, deadlineMs);
  await eventually("that to be noted", async () => (await unsent()) === 0, deadlineMs);
  expect([...receiver.received.values()].toSorted()).toEqual([1, 2]);
  expect(first([...held].map((id) => receiver.received.get(id)))).toBe(2);
  expect(await count("select count(*) as n from laurel_private.webhook_leases")).toBe(0);
  successor.child.kill("SIGTERM");
  expect(await successor.exitCode()).toBe(0);
  await receiver.close();
}, 240_000);
