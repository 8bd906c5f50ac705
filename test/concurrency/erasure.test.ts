import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { insertEvents, record, verify } from "../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database, type Metric, type System, unique } from "../support/factories.ts";
import { anEndpoint } from "../support/webhooks.ts";
import { openTransaction, startAndBlock, startAndBlockOrFinish } from "../support/races.ts";

/** Rule K4 under concurrency: whoever waits for an erasure meets a user who never was. */

let database: TestDatabase;
let metric: Metric;
let system: System;
let user: string;

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  metric = await aMetric(owner);
  system = await aSystem(owner);
  await aTrigger(owner, { system, metric, points: 10 });
  await aTrigger(owner, { system, type: "user_creation", points: 1 });
});

beforeEach(async () => {
  user = unique("erased");
  await record(database.pools.owner, { metric: metric.key, user, value: 3, key: "k" });
});

const erase = (db: Database, id: string) => db.query("select laurel.erase_user($1)", [id]);
const points = async (): Promise<string | undefined> =>
  (await database.pools.owner.query<{ total: string }>("select total from laurel.points_balances where user_id = $1", [user])).rows[0]?.total;

const callers: readonly (readonly [string, (db: Database) => Promise<unknown>])[] = [
  ["record_event()", (db) => record(db, { metric: metric.key, user, value: 2, key: "k" })],
  ["an INSERT", (db) => insertEvents(db, [{ metric: metric.key, user, value: 2, key: "k" }])],
  ["an INSERT of several users", (db) => insertEvents(db, [{ metric: metric.key, user: `0${user}` }, { metric: metric.key, user, value: 2, key: "k" }])],
];

describe.each(callers)("%s", (_name, call) => {
  test("that waits for an erasure makes a new user, from nothing", async () => {
    const { owner } = database.pools;
    const eraser = await openTransaction(owner);
    await erase(eraser.client, user);
    const { result } = await startAndBlock(owner, owner, call);
    await eraser.end("commit");
    await result;
    // 1 for being new and 2 × 10; the key counts again.
    expect(await points()).toBe("21");
    expect(await verify(owner)).toEqual([]);
  });

  test("that waits for an erasure which is taken back replays its key", async () => {
    const { owner } = database.pools;
    const eraser = await openTransaction(owner);
    await erase(eraser.client, user);
    const { result } = await startAndBlock(owner, owner, call);
    await eraser.end("rollback");
    await result;
    expect(await points()).toBe("31");
    expect(await verify(owner)).toEqual([]);
  });

  test("that an erasure waits for is erased with the rest", async () => {
    const { owner } = database.pools;
    const caller = await openTransaction(owner);
    await call(caller.client);
    await record(caller.client, { metric: metric.key, user, value: 5 });
    const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
    await caller.end("commit");
    await result;
    expect(await points()).toBeUndefined();
    expect((await owner.query("select from laurel.metric_events where user_id = $1", [user])).rowCount).toBe(0);
    expect(await verify(owner)).toEqual([]);
  });
});

test("an adjustment that waits for an erasure is refused: there is no such user", async () => {
  const { owner } = database.pools;
  const eraser = await openTransaction(owner);
  await erase(eraser.client, user);
  const { result } = await startAndBlock(owner, owner, (client) =>
    client.query("select laurel.adjust_points($1, $2, 5, 'A present')", [system.key, user]));
  await eraser.end("commit");
  await expect(result).rejects.toMatchObject({ code: "LR002" });
  expect(await verify(owner)).toEqual([]);
});

test("of two erasures the second finds nobody", async () => {
  const { owner } = database.pools;
  const first = await openTransaction(owner);
  await erase(first.client, user);
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
  await first.end("commit");
  await expect(result).rejects.toMatchObject({ code: "LR002" });
  expect(await verify(owner)).toEqual([]);
});

test.each(["commit", "rollback"] as const)("a boost being made for the user and an erasure follow one another (%s)", async (how) => {
  const { owner } = database.pools;
  const maker = await openTransaction(owner);
  await maker.client.query(
    "insert into laurel.points_boosts (system_id, name, multiplier, starts_on, user_id) values ($1, 'Own', 2, '2020-01-01', $2)",
    [system.id, user],
  );
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
  await maker.end(how);
  await result;
  expect((await owner.query("select from laurel.points_boosts where user_id = $1", [user])).rowCount).toBe(0);
  expect(await verify(owner)).toEqual([]);
});

test("a boost made for a user who is being erased is refused, and neither waits for ever", async () => {
  const { owner } = database.pools;
  const eraser = await openTransaction(owner);
  await erase(eraser.client, user);
  const { result } = await startAndBlockOrFinish(owner, owner, (client) =>
    client.query(
      "insert into laurel.points_boosts (system_id, name, multiplier, starts_on, user_id) values ($1, 'Own', 2, '2020-01-01', $2)",
      [system.id, user],
    ));
  await eraser.end("commit");
  await expect(result).rejects.toMatchObject({ code: "23503" });
  expect(await verify(owner)).toEqual([]);
});

const enqueue = (db: Database, id: string) =>
  db.query("select laurel_private.enqueue_events($1)", [JSON.stringify([{ key: metric.key, user: { id }, value: 1 }])]);
const processQueue = (db: Database) => db.query("select laurel_private.process_queued_events()");

test("an erasure and the worker with the user's queued events do not wait for each other", async () => {
  const { owner } = database.pools;
  await enqueue(owner, user);
  // Whoever holds the user lets both come to where they wait: the erasure first, then the worker.
  const caller = await openTransaction(owner);
  await caller.client.query("select from laurel_private.user_states s where s.user_id = $1 for no key update", [user]);
  const erasure = await startAndBlock(owner, owner, (client) => erase(client, user));
  const worker = await startAndBlockOrFinish(owner, owner, processQueue);
  await caller.end("commit");
  await Promise.all([erasure.result, worker.result]);
  expect(await points()).toBeUndefined();
  expect((await owner.query("select from laurel_private.queued_events where user_id = $1", [user])).rowCount).toBe(0);
  expect(await verify(owner)).toEqual([]);
});

test("an erasure that waits for the worker takes what it recorded, too", async () => {
  const { owner } = database.pools;
  await enqueue(owner, user);
  const worker = await openTransaction(owner);
  await processQueue(worker.client);
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
  await worker.end("commit");
  await result;
  expect(await points()).toBeUndefined();
  expect((await owner.query("select from laurel.metric_events where user_id = $1", [user])).rowCount).toBe(0);
  expect(await verify(owner)).toEqual([]);
});

test("webhooks about others are taken while a user is erased, and none of the user's", async () => {
  const { owner } = database.pools;
  const endpoint = await anEndpoint(owner, { types: ["points.changed"] });
  const other = unique("other");
  for (const id of [user, other]) await record(owner, { metric: metric.key, user: id });
  const eraser = await openTransaction(owner);
  await erase(eraser.client, user);
  const claimer = await openTransaction(owner);
  await claimer.client.query("set local lock_timeout = '2s'");
  const claimed = await claimer.client.query<{ payload: string }>(
    "select payload from laurel_private.claim_webhook_deliveries(clock_timestamp() + interval '1 second', 10) where endpoint_id = $1", [endpoint.id]);
  expect(claimed.rows.map(({ payload }) => (JSON.parse(payload) as { user: { id: string } }).user.id)).toEqual([other]);
  await claimer.end("commit");
  await eraser.end("commit");
  await owner.query("delete from laurel.webhook_endpoints");
});

describe("batches that wait for an erasure with other users in hand", () => {
  const insert = (users: readonly string[]) => (db: Database) => insertEvents(db, users.map((id) => ({ metric: metric.key, user: id, value: 1 })));
  let before: string;
  let after: string;

  beforeEach(async () => {
    [before, after] = [`0${user}`, `~${user}`];
    await insert([before, after])(database.pools.owner);
  });

  test("do not wait for those who add the user anew", async () => {
    const { owner } = database.pools;
    const eraser = await openTransaction(owner);
    await erase(eraser.client, user);
    const holder = await openTransaction(owner);
    await record(holder.client, { metric: metric.key, user: after });
    const first = await startAndBlock(owner, owner, insert([before, user, after]));
    await eraser.end("commit");
    const second = await startAndBlock(owner, owner, insert([before, user]));
    await holder.end("commit");
    await Promise.all([first.result, second.result]);
    // 1 for being new, 10 each.
    expect(await points()).toBe("21");
    expect(await verify(owner)).toEqual([]);
  });

  test("nor for one another, when whoever added the user first takes that back", async () => {
    const { owner } = database.pools;
    const eraser = await openTransaction(owner);
    await erase(eraser.client, user);
    await eraser.end("commit");
    const adder = await openTransaction(owner);
    await record(adder.client, { metric: metric.key, user });
    const batches = [
      await startAndBlock(owner, owner, insert([before, user, after])),
      await startAndBlock(owner, owner, insert([user, after, before])),
      await startAndBlock(owner, owner, insert([before, user])),
    ];
    await adder.end("rollback");
    await Promise.all(batches.map(({ result }) => result));
    expect(await points()).toBe("31");
    expect(await verify(owner)).toEqual([]);
  });
});
