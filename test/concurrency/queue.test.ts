import { beforeAll, beforeEach, expect, test } from "@jest/globals";
import { cloneDatabase, eventually, silentLogger, type TestDatabase } from "../support/database.ts";
import { record, verify } from "../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database, type Metric, type System, unique } from "../support/factories.ts";
import { openTransaction, randomFrom, startAndBlock } from "../support/races.ts";
import { startWorker } from "../../src/worker/index.ts";
import { tasks } from "../../tasks/index.ts";

/** Batches under concurrency: nothing lost, nothing doubled, each user's events in the order accepted (E5, E7). */

let database: TestDatabase;
let metric: Metric;
let system: System;

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  const { owner } = database.pools;
  metric = await aMetric(owner);
  system = await aSystem(owner);
  await aTrigger(owner, { system, metric, points: 1 });
});

const enqueue = (db: Database, events: readonly (readonly [string, number, Record<string, unknown>?])[]) =>
  db.query("select laurel_private.enqueue_events($1)", [
    JSON.stringify(events.map(([id, value, profile]) => ({ key: metric.key, user: { id, ...profile }, value }))),
  ]);
const process = async (db: Database, most = 1000): Promise<number> =>
  (await db.query<{ count: number }>("select laurel_private.process_queued_events($1) as count", [most])).rows[0]?.count ?? 0;
const valuesOf = async (user: string): Promise<number[]> =>
  (await database.pools.owner.query<{ value: string }>(
    "select value from laurel.metric_events where user_id = $1 and metric_id = $2 order by id", [user, metric.id],
  )).rows.map(({ value }) => Number(value));

test("a worker in the middle of a user's events is not overtaken by another; others' events go on", async () => {
  const { owner } = database.pools;
  const [ada, bob] = [unique("u"), unique("u")];
  await enqueue(owner, [[ada, 1], [ada, 2], [bob, 10], [ada, 3], [bob, 20]]);
  const slow = await openTransaction(owner);
  expect(await process(slow.client, 2)).toBe(2);
  // Of what is left, Ada's third has to wait for her first two.
  expect(await process(owner)).toBe(2);
  expect(await process(owner)).toBe(0);
  expect(await valuesOf(bob)).toEqual([10, 20]);
  await slow.end("commit");
  expect(await process(owner)).toBe(1);
  expect(await valuesOf(ada)).toEqual([1, 2, 3]);
  expect(await verify(owner)).toEqual([]);
});

test("what a worker had begun when it was killed is done by the next, once", async () => {
  const { owner } = database.pools;
  const ada = unique("u");
  await enqueue(owner, [[ada, 1], [ada, 2]]);
  const dying = await openTransaction(owner);
  dying.client.on("error", () => undefined);
  expect(await process(dying.client)).toBe(2);
  const found = await dying.client.query<{ pid: number }>("select pg_backend_pid() as pid");
  expect(await process(owner)).toBe(0);
  await owner.query("select pg_terminate_backend($1)", [found.rows[0]?.pid]);
  dying.client.release(true);
  await eventually("the killed worker's locks to go", async () => (await process(owner)) === 2);
  expect(await valuesOf(ada)).toEqual([1, 2]);
  expect(await verify(owner)).toEqual([]);
});

test("direct events of a user wait for the worker's, and the worker for them", async () => {
  const { owner } = database.pools;
  const ada = unique("u");
  await enqueue(owner, [[ada, 1]]);
  const worker = await openTransaction(owner);
  await process(worker.client);
  const { result } = await startAndBlock(owner, owner, (client) => record(client, { metric: metric.key, user: ada, value: 5 }));
  await worker.end("commit");
  await result;
  const caller = await openTransaction(owner);
  await record(caller.client, { metric: metric.key, user: ada, value: 7 });
  await enqueue(owner, [[ada, 2]]);
  const processed = await startAndBlock(owner, owner, (client) => process(client));
  await caller.end("commit");
  expect(await processed.result).toBe(1);
  expect(await valuesOf(ada)).toEqual([1, 5, 7, 2]);
  expect(await verify(owner)).toEqual([]);
});

test("four workers, many users, profiles and refusals: everything once and in order", async () => {
  const { owner } = database.pools;
  const seed = Number(globalThis.process.env["LAUREL_TEST_SEED"] ?? Date.now() % 1_000_000);
  const random = randomFrom(seed);
  const users = Array.from({ length: 12 }, () => unique("many"));
  const expected = new Map<string, number[]>(users.map((user) => [user, []]));
  for (let batch = 0; batch < 20; batch += 1) {
    const events = Array.from({ length: 50 }, () => {
      const user = users[Math.floor(random() * users.length)] ?? "";
      const value = Math.floor(random() * 1000) + 1;
      expected.get(user)?.push(value);
      const profile = random() < 0.1 ? { name: `n${value}` } : {};
      return [user, value, profile] as const;
    });
    await enqueue(owner, events);
  }
  const work = async (): Promise<number> => {
    let done = 0;
    for (let empty = 0; empty < 3; ) {
      const count = await process(owner, 40);
      done += count;
      empty = count === 0 ? empty + 1 : 0;
    }
    return done;
  };
  const done = await Promise.all([work(), work(), work(), work()]);
  const rest = await work();
  expect(done.reduce((sum, count) => sum + count, rest)).toBe(1000);
  for (const user of users) expect({ seed, values: await valuesOf(user) }).toEqual({ seed, values: expected.get(user) });
  expect(await verify(owner)).toEqual([]);
});

test("a running worker records a batch by itself", async () => {
  const { owner } = database.pools;
  const ada = unique("u");
  const worker = await startWorker({ pool: owner, logger: silentLogger, concurrency: 2, tasks, now: () => new Date() });
  try {
    await enqueue(owner, [[ada, 1], [ada, 2, { name: "Ada" }]]);
    await eventually("the worker to have recorded the batch", async () => (await valuesOf(ada)).length === 2);
    expect(await valuesOf(ada)).toEqual([1, 2]);
  } finally {
    await worker.stop();
  }
});

test("adjustments of the same users in opposite orders meet no deadlock", async () => {
  const { owner } = database.pools;
  const users = [unique("u"), unique("u"), unique("u")];
  for (const user of users) await record(owner, { metric: metric.key, user, value: 100 });
  const adjust = (ids: readonly string[]) =>
    owner.query<{ answer: { done: unknown[]; issues: unknown[] } }>(
      "select laurel_private.change_configuration('create', 'adjustments', $1, $2) as answer",
      [system.id, JSON.stringify(ids.map((userId, index) => ({ index, item: { userId, points: 1, reason: "One" } })))],
    );
  const all = await Promise.all(Array.from({ length: 20 }, (_none, no) => adjust(no % 2 === 0 ? users : users.toReversed())));
  for (const { rows } of all) expect(rows[0]?.answer).toMatchObject({ done: [{}, {}, {}], issues: [] });
  const totals = await owner.query<{ total: string }>("select total from laurel.points_balances where system_id = $1", [system.id]);
  expect(totals.rows.map(({ total }) => total)).toEqual(["120", "120", "120"]);
  expect(await verify(owner)).toEqual([]);
});

test("of two admin keys revoked at once one remains", async () => {
  const { owner } = database.pools;
  await owner.query("update laurel_private.api_keys set revoked_at = now()");
  for (const prefix of ["one", "two"])
    await owner.query("insert into laurel_private.api_keys (kind, prefix, key_sha256) values ('admin', $1, sha256('x'))", [prefix]);
  const ids = await owner.query<{ id: string }>("select id from laurel_private.api_keys where revoked_at is null order by prefix");
  const first = await openTransaction(owner);
  await first.client.query("select laurel_private.delete_api_key('admin', $1)", [ids.rows[0]?.id]);
  const { result } = await startAndBlock(owner, owner, (client) =>
    client.query("select laurel_private.delete_api_key('admin', $1)", [ids.rows[1]?.id]));
  await first.end("commit");
  await expect(result).rejects.toMatchObject({ code: "LR020" });
});
