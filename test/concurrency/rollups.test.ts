import { beforeAll, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { cloneDatabase } from "../support/database.ts";
import { first, record, verify } from "../support/engine.ts";
import { aBoost, aMetric, aSystem, aTrigger, type Database, type Metric, type System, unique } from "../support/factories.ts";
import { openTransaction, startAndBlock } from "../support/races.ts";

/** Rules D3 and K4: the ledger is folded into daily figures while it grows and while users are erased. */

let owner: Pool;
let metric: Metric;
let spend: Metric;
let system: System;

beforeAll(async () => {
  owner = (await cloneDatabase()).pools.owner;
  metric = await aMetric(owner);
  spend = await aMetric(owner);
  system = await aSystem(owner, { max_points: 100 });
  await aTrigger(owner, { system, metric, points: 3 });
  await aTrigger(owner, { system, metric: spend, points: -2 });
  await aBoost(owner, { system, multiplier: "1.5", starts_on: "2024-05-02", ends_on: "2024-05-02" });
});

const fold = async (db: Database, most = 20_000): Promise<number> =>
  first((await db.query<{ n: number }>("select laurel_private.fold_earnings($1, '0') as n", [most])).rows).n;
/** Lets the fold go up to now. Transactions of other tests on the same server would hold it up; of this database none is open. */
const readyToFold = () =>
  owner.query("update laurel_private.earnings_fold set next_watermark = laurel_private.first_uuid_v7(clock_timestamp() + interval '1 ms'), next_after = '1'");
const foldAll = async (): Promise<void> => {
  await readyToFold();
  const isUnderWay = async (): Promise<boolean> =>
    first((await owner.query<{ is_on: boolean }>("select next_watermark is not null as is_on from laurel_private.earnings_fold")).rows).is_on;
  while (await isUnderWay()) await fold(owner);
};
interface Day {
  readonly day: string;
  readonly earned: number;
  readonly boosted: number;
  readonly deducted: number;
  readonly awards: number;
}
const days = async (from: string, to = from): Promise<Day[]> =>
  (await owner.query<Day>(
    `select day::text, sum(earned)::int as earned, sum(boosted)::int as boosted, sum(deducted)::int as deducted, sum(awards)::int as awards
     from laurel_private.system_days((select s from laurel.points_systems s where s.id = $1), $2, $3, '{}') group by 1 order by 1`,
    [system.id, from, to],
  )).rows;

test("days are UTC days of the awards' dates; the same before, between and after folding", async () => {
  for (const [name, user, value, at] of [
    [metric.key, "ada", 2, "2024-05-01T23:59:59Z"],
    [metric.key, "bob", 1, "2024-05-02T00:00:00Z"],
    [metric.key, "ada", 1, "2024-05-02T12:00:00Z"],
    [spend.key, "ada", 3, "2024-05-02T13:00:00Z"],
    [metric.key, "bob", 100, "2024-05-02T14:00:00Z"],
  ] as const) {
    await record(owner, { metric: name, user, value, at });
  }
  // Boosted on the 2nd: 3 × 1.5 = 4 twice, and the 96 that the cap leaves of Bob's 450.
  const expected = [
    { day: "2024-05-01", earned: 6, boosted: 0, deducted: 0, awards: 1 },
    { day: "2024-05-02", earned: 4 + 4 + 96, boosted: 4 + 4 + 96, deducted: 6, awards: 4 },
  ];
  expect(await days("2024-05-01", "2024-05-02")).toEqual(expected);
  await readyToFold();
  expect(await fold(owner, 2)).toBe(2);
  expect(await days("2024-05-01", "2024-05-02")).toEqual(expected);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await days("2024-05-01", "2024-05-02")).toEqual(expected);
  expect(first((await owner.query("select sum(awards)::int as n from laurel_private.points_days where segment_id = laurel_private.everybody()")).rows)).toEqual({ n: 5 });
  expect(await verify(owner)).toEqual([]);
});

test("a transaction that was open when the watermark was chosen is waited for", async () => {
  const slow = await openTransaction(owner);
  await record(slow.client, { metric: metric.key, user: "slow", value: 1, at: "2024-06-01T00:00:00Z" });
  await record(owner, { metric: metric.key, user: "fast", value: 1, at: "2024-06-01T00:00:00Z" });
  expect(await fold(owner)).toBe(1);
  for (let n = 0; n < 3; n += 1) expect(await fold(owner)).toBe(0);
  await slow.end("commit");
  await foldAll();
  expect(await days("2024-06-01")).toEqual([{ day: "2024-06-01", earned: 6, boosted: 0, deducted: 0, awards: 2 }]);
  expect(await verify(owner)).toEqual([]);
});

test("two folds at once count nothing twice; one that dies counts nothing", async () => {
  await record(owner, { metric: metric.key, user: "twice", value: 1, at: "2024-07-01T00:00:00Z" });
  await readyToFold();
  const dying = await openTransaction(owner);
  expect(await fold(dying.client)).toBe(1);
  expect(await fold(owner)).toBe(0);
  await dying.end("rollback");
  await foldAll();
  expect(await days("2024-07-01")).toEqual([{ day: "2024-07-01", earned: 3, boosted: 0, deducted: 0, awards: 1 }]);
  expect(await verify(owner)).toEqual([]);
});

const erase = (db: Database, user: string) => db.query("select laurel.erase_user($1)", [user]);
let august = 0;
/** A user who earned on a day of its own, half of it folded. */
async function halfFolded(): Promise<{ user: string; day: string; expected: Day[] }> {
  august += 1;
  const user = unique("erased");
  const day = `2024-08-${String(august).padStart(2, "0")}`;
  await record(owner, { metric: metric.key, user, value: 2, at: `${day}T00:00:00Z` });
  await foldAll();
  await record(owner, { metric: metric.key, user, value: 1, at: `${day}T01:00:00Z` });
  await record(owner, { metric: spend.key, user, value: 1, at: `${day}T02:00:00Z` });
  return { user, day, expected: [{ day, earned: 9, boosted: 0, deducted: 2, awards: 3 }] };
}

test.each(["commit", "rollback"] as const)("an erasure waits for a fold (%s), and what the user earned stays once", async (how) => {
  const { user, day, expected } = await halfFolded();
  await readyToFold();
  const folding = await openTransaction(owner);
  expect(await fold(folding.client)).toBe(2);
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
  await folding.end(how);
  await result;
  expect(await days(day)).toEqual(expected);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await days(day)).toEqual(expected);
  expect(await verify(owner)).toEqual([]);
});

test.each(["commit", "rollback"] as const)("a fold leaves the ledger alone while a user is being erased (%s)", async (how) => {
  const { user, day, expected } = await halfFolded();
  await readyToFold();
  const erasing = await openTransaction(owner);
  await erase(erasing.client, user);
  expect(await fold(owner)).toBe(0);
  await erasing.end(how);
  expect(await days(day)).toEqual(expected);
  await foldAll();
  expect(await days(day)).toEqual(expected);
  expect(await verify(owner)).toEqual([]);
});

test("folds, events and erasures at once leave every figure right", async () => {
  const day = "2024-09-01";
  let isOver = false;
  let folded = 0;
  const folder = async (most: number): Promise<void> => {
    while (!isOver) folded += await fold(owner, most);
  };
  const actor = async (no: number): Promise<void> => {
    for (let n = 0; n < 40; n += 1) {
      const user = `${no} ${n % 5}`;
      await record(owner, { metric: n % 4 === 3 ? spend.key : metric.key, user, value: 1, at: `${day}T00:00:00Z` });
      if (n % 7 === 6) await erase(owner, user);
    }
  };
  const folders = [folder(3), folder(100)];
  let rounds = 0;
  try {
    // A fold waits for the transactions of all databases of the server, so for those of other tests as well: until one came about.
    while (folded === 0) {
      await Promise.all([actor(1), actor(2), actor(3)]);
      rounds += 1;
    }
  } finally {
    isOver = true;
  }
  await Promise.all(folders);
  // 30 of each actor's 40 events award 3; 10 deduct 2, all from users who have 3 at least, unless they were erased just before.
  const [found] = await days(day);
  expect(found?.earned).toBe(rounds * 3 * 30 * 3);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  expect(await days(day)).toEqual([found]);
  expect(await verify(owner)).toEqual([]);
});

test.each(["commit", "rollback"] as const)("who earned most is another once the first was erased while it was folded (%s)", async (how) => {
  const tops = async (): Promise<Record<string, string>> =>
    Object.fromEntries((await owner.query<{ figure: string; user_id: string }>("select figure, user_id from laurel_private.top_earners order by figure")).rows
      .map(({ figure, user_id }) => [figure, user_id]));
  const [best, second] = [unique("best"), unique("second")];
  await record(owner, { metric: metric.key, user: second, value: 20 });
  await record(owner, { metric: metric.key, user: best, value: 30 });
  await foldAll();
  expect(await tops()).toMatchObject({ last_7: best, last_90: best });
  // Of both, 3 points more are not folded yet.
  await record(owner, { metric: metric.key, user: second, value: 1 });
  await record(owner, { metric: metric.key, user: best, value: 1 });
  await readyToFold();
  const folding = await openTransaction(owner);
  expect(await fold(folding.client)).toBe(2);
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, best));
  await folding.end(how);
  await result;
  expect(await tops()).toMatchObject({ last_7: second, last_90: second });
  expect(await verify(owner)).toEqual([]);
  await erase(owner, second);
  await foldAll();
  expect(await verify(owner)).toEqual([]);
});

test("an erasure waits for windows that move, and leaves nothing in them", async () => {
  const user = unique("moved");
  await foldAll();
  await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - 1");
  await owner.query("select laurel_private.rebuild_rollups()");
  await record(owner, { metric: metric.key, user, value: 5 });
  await foldAll();
  const moving = await openTransaction(owner);
  expect((await moving.client.query("select laurel_private.move_windows(now()) as n")).rows).toEqual([{ n: 1 }]);
  const { result } = await startAndBlock(owner, owner, (client) => erase(client, user));
  expect((await owner.query("select laurel_private.move_windows(now()) as n")).rows).toEqual([{ n: 0 }]);
  await moving.end("commit");
  await result;
  expect((await owner.query("select from laurel_private.user_earnings where user_id = $1", [user])).rowCount).toBe(0);
  expect(await verify(owner)).toEqual([]);
});

test("windows that move day by day among events, folds, erasures and new users leave every figure right", async () => {
  await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - 5");
  await owner.query("select laurel_private.rebuild_rollups()");
  const daysAgo = (days: number): string => new Date(Date.now() - days * 86_400_000).toISOString();
  // On both sides of every window's edge, as it moves.
  const ages = [0, 1, 3, 6, 7, 10, 14, 17, 29, 31, 59, 62, 89, 92, 179, 182];
  let moved = 0;
  let isOver = false;
  const loop = async (work: () => Promise<unknown>): Promise<void> => {
    while (!isOver) await work();
  };
  const actor = async (no: number): Promise<void> => {
    for (let n = 0; n < 48; n += 1) {
      const user = `w${no} ${n % 6}`;
      await record(owner, { metric: n % 5 === 4 ? spend.key : metric.key, user, value: 1 + (n % 3), at: daysAgo(ages[(n * 7 + no) % ages.length] ?? 0) });
      if (n % 9 === 8) await erase(owner, user);
    }
  };
  const others = [
    loop(() => fold(owner, 5)),
    loop(() => fold(owner, 100)),
    loop(async () => {
      moved += first((await owner.query<{ n: number }>("select laurel_private.move_windows(now(), 2) as n")).rows).n;
    }),
    loop(() => owner.query("select laurel_private.fold_user_counts()")),
    loop(() => owner.query("select laurel_private.fold_user_counts()")),
  ];
  try {
    while (moved < 5) await Promise.all([actor(1), actor(2), actor(3)]);
  } finally {
    isOver = true;
  }
  await Promise.all(others);
  expect(moved).toBe(5);
  expect(await verify(owner)).toEqual([]);
  await foldAll();
  await owner.query("select laurel_private.fold_user_counts()");
  expect(await verify(owner)).toEqual([]);
});

test("a user of a transaction that is still open is counted when it is there, and once", async () => {
  const count = async (): Promise<number> =>
    first((await owner.query<{ n: number }>("select laurel_private.count_users(laurel.current_tenant_id())::int as n")).rows).n;
  const before = await count();
  const open = await openTransaction(owner);
  await record(open.client, { metric: metric.key, user: unique("slow"), value: 1 });
  await record(owner, { metric: metric.key, user: unique("fast"), value: 1 });
  await Promise.all([1, 2].map(() => owner.query("select laurel_private.fold_user_counts()")));
  expect(await count()).toBe(before + 1);
  await open.end("commit");
  expect(await count()).toBe(before + 2);
  await owner.query("select laurel_private.fold_user_counts()");
  expect(await count()).toBe(before + 2);
  expect((await owner.query("select from laurel_private.user_count_changes")).rowCount).toBe(0);
  expect(await verify(owner)).toEqual([]);
});

test("a watermark that was chosen on another server is chosen anew", async () => {
  await owner.query("update laurel_private.earnings_fold set next_watermark = watermark, next_after = '99999999999'");
  expect(await fold(owner)).toBe(1);
  const found = await owner.query("select next_after <= pg_snapshot_xmax(pg_current_snapshot()) as is_ours from laurel_private.earnings_fold");
  expect(found.rows).toEqual([{ is_ours: true }]);
  await foldAll();
  expect(await verify(owner)).toEqual([]);
});

test("verify() reports a figure that is not the ledger's, the erased part included", async () => {
  for (const corruption of [
    "update laurel_private.points_days set boosted = boosted + 1 where day = '2024-05-02' and earned > 0",
    "update laurel_private.erased_points set deducted = deducted + 1",
  ]) {
    const broken = await openTransaction(owner);
    await broken.client.query(corruption);
    expect(await verify(broken.client)).toContainEqual(expect.objectContaining({ invariant: "days_add_up_to_the_ledger" }));
    await broken.end("rollback");
  }
});
