import { afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { keepLeaderboardMarks } from "../../tasks/keep_leaderboard_marks.ts";
import { cloneDatabase, eventually, silentLogger, type TestDatabase } from "../support/database.ts";
import { insertEvents, record, verify } from "../support/engine.ts";
import { anAttribute, aMetric, type Metric, unique } from "../support/factories.ts";
import { seedOf } from "../support/inputs.ts";
import { countedMarks, keepMarks, misplaced, requestMarks, settleMarks, withMarksFrom } from "../support/marks.ts";
import { openTransaction, randomFrom } from "../support/races.ts";

/** Rule LB1: ranks counted from marks are those of all entries, in every snapshot, whoever does what meanwhile. */

let database: TestDatabase;
let metric: Metric;

beforeAll(async () => {
  database = await cloneDatabase();
  await withMarksFrom(database.pools.owner, 3);
  await anAttribute(database.pools.owner, { key: "city" });
});

beforeEach(async () => {
  metric = await aMetric(database.pools.owner);
});

afterEach(async () => {
  const { owner } = database.pools;
  await owner.query("update laurel.leaderboards set status = 'archived' where status <> 'archived'");
  await owner.query("select laurel_private.upkeep_leaderboards()");
  expect((await owner.query("select from laurel_private.leaderboard_marks")).rowCount).toBe(0);
});

async function aBoardOf(users: number, most: number, breakdown = "{}"): Promise<string[]> {
  const { owner, service } = database.pools;
  await owner.query(
    "insert into laurel.leaderboards (key, name, status, rank_by, metric_id, max_participants, breakdown_attributes) values ($1, 'Board', 'active', 'metric', $2, $3, $4)",
    [unique("board"), metric.id, most, breakdown],
  );
  const ids = Array.from({ length: users }, (_, n) => unique(`m${n}_`));
  await insertEvents(service, ids.map((user, n) => ({ metric: metric.key, user, value: 10 * (n + 1) })));
  return ids;
}

async function expectExact(): Promise<void> {
  expect(await misplaced(database.pools.owner)).toEqual([]);
  expect(await verify(database.pools.owner)).toEqual([]);
}

test("marks are counted when nobody is left who may not know of them, and not before", async () => {
  const { owner, service } = database.pools;
  const ids = await aBoardOf(8, 6);
  const last = ids[0] ?? "";
  const one = await openTransaction(service);
  await record(one.client, { metric: metric.key, user: last, value: 45 });
  await requestMarks(owner);
  while ((await keepMarks(owner)) > 0);
  expect(await countedMarks(owner)).toBe(0);
  await one.end("commit");
  await settleMarks(owner);
  expect(await countedMarks(owner)).toBe(1);
  await expectExact();
});

test("a transaction that began before the proposal and writes after it is in the count or tells the marks", async () => {
  const { owner, service } = database.pools;
  const ids = await aBoardOf(8, 6);
  const one = await openTransaction(service);
  await one.client.query("select 1");
  await settleMarks(owner);
  await record(one.client, { metric: metric.key, user: ids[0] ?? "", value: 45 });
  await expectExact();
  await one.end("commit");
  await expectExact();
  expect((await owner.query("select from laurel_private.leaderboard_moves where marks_id is not null")).rowCount).toBe(1);
  await keepMarks(owner);
  expect((await owner.query("select from laurel_private.leaderboard_moves")).rowCount).toBe(0);
  await expectExact();
});

test.each(["repeatable read", "serializable"])("one that reads by a snapshot of before (%s) voids the marks until there are new ones", async (isolation) => {
  const { owner, service } = database.pools;
  const ids = await aBoardOf(8, 6);
  const one = await openTransaction(service);
  await one.client.query(`set transaction isolation level ${isolation}`);
  // Its snapshot: no ID yet, so nobody waits for it.
  await one.client.query("select 1");
  await settleMarks(owner);
  expect(await countedMarks(owner)).toBe(1);
  await record(one.client, { metric: metric.key, user: ids[0] ?? "", value: 45 });
  await one.client.query("select laurel.identify_user($1, '{\"name\": \"Ada\"}')", [ids[1]]);
  await expectExact();
  await one.end("commit");
  await expectExact();
  await keepMarks(owner);
  expect(await countedMarks(owner)).toBe(0);
  await settleMarks(owner);
  expect(await countedMarks(owner)).toBe(1);
  await expectExact();
});

test("what is rolled back, whole or in part, moves nothing", async () => {
  const { owner, service } = database.pools;
  const ids = await aBoardOf(8, 6);
  await settleMarks(owner);
  const one = await openTransaction(service);
  await record(one.client, { metric: metric.key, user: ids[7] ?? "", value: -35 });
  await one.client.query("savepoint before");
  await record(one.client, { metric: metric.key, user: ids[0] ?? "", value: 100 });
  await one.client.query("rollback to savepoint before");
  await one.end("commit");
  await expectExact();
  const two = await openTransaction(service);
  await record(two.client, { metric: metric.key, user: ids[0] ?? "", value: 100 });
  await two.end("rollback");
  await expectExact();
  await settleMarks(owner);
  await expectExact();
});

test("the worker's task keeps marks, and comes back as long as there are some", async () => {
  const { owner } = database.pools;
  const run = () => keepLeaderboardMarks.run({ pool: owner, logger: silentLogger, now: () => new Date() }, {}, undefined);
  const isBack = async (): Promise<boolean> =>
    (await owner.query("select from graphile_worker.jobs where task_identifier = 'keep_leaderboard_marks' and run_at > now()")).rowCount === 1;
  await run();
  expect(await isBack()).toBe(false);
  await aBoardOf(8, 6);
  await requestMarks(owner);
  await eventually("the marks to be counted", async () => {
    await run();
    return (await countedMarks(owner)) === 1;
  }, 60_000);
  expect(await isBack()).toBe(true);
  await expectExact();
});

test("events, groups that change, erasures and rollbacks at random, while marks are proposed, counted and folded", async () => {
  const { owner, service } = database.pools;
  const random = randomFrom(seedOf("marks"));
  const below = (n: number): number => Math.floor(random() * n);
  const ids = await aBoardOf(30, 12);
  await owner.query(
    `insert into laurel.leaderboards (key, name, status, rank_by, metric_id, max_participants, breakdown_attributes)
     values ($1, 'Cities', 'active', 'metric', $2, 5, '{city}')`, [unique("board"), metric.id]);
  for (const [n, id] of ids.entries()) await service.query("select laurel.identify_user($1, $2)", [id, { attributes: { city: n % 3 === 0 ? "Rome" : "Oslo" } }]);
  let isOver = false;
  let snapshots = 0;
  let snapshotsWithMarks = 0;
  const wrong: unknown[] = [];
  const worker = async (): Promise<void> => {
    while (!isOver) {
      await requestMarks(owner);
      await keepMarks(owner);
    }
  };
  const reader = async (): Promise<void> => {
    while (!isOver) {
      wrong.push(...(await misplaced(owner)));
      snapshots += 1;
      if ((await countedMarks(owner)) > 0) snapshotsWithMarks += 1;
    }
  };
  const caller = async (): Promise<void> => {
    for (let step = 0; step < 60; step += 1) {
      const user = ids[below(ids.length)] ?? "";
      const value = below(5) === 0 ? -below(200) : below(100);
      switch (below(8)) {
        case 0:
          await service.query("select laurel.identify_user($1, $2)", [user, { attributes: { city: ["Rome", "Oslo", null][below(3)] } }]);
          break;
        case 1:
          await owner.query("select laurel.erase_user($1)", [user]).catch(() => undefined);
          break;
        case 2: {
          const batch = [...new Set(Array.from({ length: 5 }, () => ids[below(ids.length)] ?? ""))];
          await insertEvents(service, batch.map((one) => ({ metric: metric.key, user: one, value: below(100) })));
          break;
        }
        case 3: {
          const one = await openTransaction(service);
          if (below(2) === 0) await one.client.query("set transaction isolation level repeatable read");
          await record(one.client, { metric: metric.key, user, value }).catch(() => undefined);
          await one.end(below(2) === 0 ? "rollback" : "commit");
          break;
        }
        default:
          await record(service, { metric: metric.key, user, value });
      }
    }
  };
  const background = [worker(), worker(), reader()];
  await Promise.all([caller(), caller(), caller()]).finally(() => {
    isOver = true;
  });
  await Promise.all(background);
  expect(wrong).toEqual([]);
  expect(snapshots).toBeGreaterThan(0);
  await expectExact();
  await settleMarks(owner);
  await expectExact();
  process.stdout.write(`marks: ${snapshotsWithMarks} of ${snapshots} snapshots had some\n`);
}, 120_000);
