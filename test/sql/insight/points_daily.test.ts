import { beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, eventually, type TestDatabase } from "../../support/database.ts";
import { first, insertEvents, record, verify } from "../../support/engine.ts";
import { aBoost, aMetric, aSystem, aTrigger, type Database, type Metric, type System } from "../../support/factories.ts";
import { openTransaction } from "../../support/races.ts";

/** Daily figures folded behind the flow: exact under concurrent commits, and with what is not folded yet. */

let database: TestDatabase;
let metric: Metric;
let spend: Metric;
let system: System;

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  metric = await aMetric(owner);
  spend = await aMetric(owner);
  system = await aSystem(owner, { max_points: 100 });
  await aTrigger(owner, { system, metric, points: 3 });
  await aTrigger(owner, { system, metric: spend, points: -2 });
  await aBoost(owner, { system, multiplier: "1.5", starts_on: "2024-05-02", ends_on: "2024-05-02" });
});

const fold = async (db: Database, most = 10_000): Promise<number> =>
  Number(first((await db.query<{ n: string }>("select laurel_private.fold_points($1) as n", [most])).rows).n);
/** The next fold that is not waiting: for transactions of other databases of the server too. */
const foldSoon = (db: Database, most?: number): Promise<number> =>
  eventually("older transactions to end", async () => (await fold(db, most)) || undefined);
/** As a minute later: the watermark keeps away from the last minute, for clocks that are set back. */
const aMinuteLater = (db: Database) =>
  db.query(`update laurel_private.points_fold
            set next_before = laurel_private.first_uuid_v7(clock_timestamp() + interval '1 millisecond'),
              horizon = pg_snapshot_xmax(pg_current_snapshot())`);
const figures = async (db: Database) =>
  (await db.query<{ day: string; cause: string; awarded: number; deducted: number; boosted: number; awards: number }>(
    `select awarded_on::text as day, cause, sum(awarded)::int as awarded, sum(deducted)::int as deducted,
       sum(boosted)::int as boosted, sum(awards)::int as awards
     from laurel_private.points_per_day(laurel.current_tenant_id(), $1, '2000-01-01', '2100-01-01') group by 1, 2 order by 1, 2`,
    [system.id],
  )).rows;

test("figures are by UTC day, cause and trigger, boosted part apart; the same before, between and after folding", async () => {
  const { owner } = database.pools;
  await insertEvents(owner, [
    { metric: metric.key, user: "ada", value: 2, at: "2024-05-01T23:59:59Z" },
    { metric: metric.key, user: "bob", value: 1, at: "2024-05-02T00:00:00Z" },
    { metric: metric.key, user: "ada", value: 1, at: "2024-05-02T12:00:00Z" },
    { metric: spend.key, user: "ada", value: 3, at: "2024-05-02T13:00:00Z" },
    { metric: metric.key, user: "bob", value: 100, at: "2024-05-02T14:00:00Z" },
  ]);
  // Boosted on the 2nd: 3 × 1.5 = 4, one more than without, twice. Bob's 300 would have filled the 96 that were left anyway.
  const expected = [
    { day: "2024-05-01", cause: "metric", awarded: 6, deducted: 0, boosted: 0, awards: 1 },
    { day: "2024-05-02", cause: "metric", awarded: 4 + 4 + 96, deducted: 6, boosted: 2, awards: 4 },
  ];
  expect(await figures(owner)).toEqual(expected);
  expect(await fold(owner)).toBe(0);
  await aMinuteLater(owner);
  expect(await foldSoon(owner, 2)).toBe(2);
  expect(await figures(owner)).toEqual(expected);
  expect(await verify(owner)).toEqual([]);
  expect([await fold(owner, 2), await fold(owner, 2), await fold(owner, 2)]).toEqual([2, 1, 0]);
  expect(await figures(owner)).toEqual(expected);
  const folded = await owner.query("select sum(awards)::int as awards from laurel_private.points_daily");
  expect(folded.rows).toEqual([{ awards: 5 }]);
  expect(await verify(owner)).toEqual([]);
});

test("a transaction that was open when the watermark was chosen is waited for", async () => {
  const { owner } = database.pools;
  const slow = await openTransaction(owner);
  await record(slow.client, { metric: metric.key, user: "slow", value: 1, at: "2024-06-01T00:00:00Z" });
  await record(owner, { metric: metric.key, user: "fast", value: 1, at: "2024-06-01T00:00:00Z" });
  await aMinuteLater(owner);
  expect(await fold(owner)).toBe(0);
  await slow.end("commit");
  expect(await foldSoon(owner)).toBe(2);
  const june = (await figures(owner)).filter(({ day }) => day === "2024-06-01");
  expect(june).toEqual([{ day: "2024-06-01", cause: "metric", awarded: 6, deducted: 0, boosted: 0, awards: 2 }]);
  expect(await verify(owner)).toEqual([]);
});

test("two folds at once count nothing twice; a fold that dies counts nothing", async () => {
  const { owner } = database.pools;
  await record(owner, { metric: metric.key, user: "twice", value: 1, at: "2024-07-01T00:00:00Z" });
  await aMinuteLater(owner);
  const dying = await openTransaction(owner);
  expect(await foldSoon(dying.client)).toBe(1);
  expect(await fold(owner)).toBe(0);
  await dying.end("rollback");
  expect(await fold(owner)).toBe(1);
  expect((await figures(owner)).filter(({ day }) => day === "2024-07-01")).toEqual([
    { day: "2024-07-01", cause: "metric", awarded: 3, deducted: 0, boosted: 0, awards: 1 },
  ]);
  expect(await verify(owner)).toEqual([]);
});

test("what erased users had earned stays, folded or not", async () => {
  const { owner } = database.pools;
  await record(owner, { metric: metric.key, user: "gone", value: 1, at: "2024-08-01T00:00:00Z" });
  await aMinuteLater(owner);
  expect(await foldSoon(owner)).toBe(1);
  await record(owner, { metric: metric.key, user: "gone", value: 1, at: "2024-08-02T00:00:00Z" });
  const before = await figures(owner);
  await owner.query("select laurel.erase_user('gone')");
  expect(await figures(owner)).toEqual(before);
  await aMinuteLater(owner);
  await fold(owner);
  expect(await figures(owner)).toEqual(before);
  expect(await verify(owner)).toEqual([]);
});

test("a horizon from another server is chosen anew", async () => {
  const { owner } = database.pools;
  await owner.query("update laurel_private.points_fold set next_before = folded_before, horizon = '99999999999'");
  expect(await fold(owner)).toBe(0);
  const found = await owner.query<{ ahead: boolean }>("select horizon > pg_snapshot_xmax(pg_current_snapshot()) as ahead from laurel_private.points_fold");
  expect(found.rows).toEqual([{ ahead: false }]);
});

test("verify() reports a figure that is not the ledger's", async () => {
  const { owner } = database.pools;
  const broken = await openTransaction(owner);
  await broken.client.query("update laurel_private.points_daily set boosted = boosted + 1 where awarded_on = '2024-05-02' and awarded > 0");
  expect(await verify(broken.client)).toContainEqual(expect.objectContaining({ invariant: "daily_points_are_the_sum_of_folded_awards" }));
  await broken.end("rollback");
});
