import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { pino } from "pino";
import { aMeasuredSystem, compareFigures, countRangeDay, day, eraseUser, fewUsers, foldSome, foldUsers } from "../../support/analytics.ts";
import { cloneDatabase } from "../../support/database.ts";
import { first, record, verify } from "../../support/engine.ts";
import { openTransaction, randomFrom, startAndBlock } from "../../support/races.ts";
import { foldEarnings } from "../../../tasks/fold_earnings.ts";

/** Rule D3: what single users earned in a range, counted by day as for tenants with many users, is what the ledger says. */

let owner: Pool;
const ago = (date: string): number => Math.round((Date.parse(day(0)) - Date.parse(date)) / 86_400_000);
const on = (days: number): string => `${day(days)}T12:00:00Z`;
/** Around New Year, and around what a year is: the longest range that is counted has 366 days, a user's sums are by year. */
const newYear = ago(`${day(0).slice(0, 4)}-01-01`);
const ages = [0, 1, 2, 30, newYear + 1, newYear, newYear - 1, 364, 365, 366, 367, 500, 731].filter((age) => age >= 0);
const ranges = [
  [0, 0], [1, 0], [30, 1], [newYear + 1, Math.max(newYear - 1, 0)], [364, 0], [365, 0], [366, 0], [367, 2], [400, 30], [731, 366], [730, 365],
] as const;
const compare = (): Promise<void> => compareFigures(owner, ranges, [{}]);
const compareSome = (): Promise<void> => compareFigures(owner, ranges.slice(2, 6), [{}]);

async function recordSome(seed: number, count: number): Promise<void> {
  const random = randomFrom(seed);
  const pick = (n: number): number => Math.floor(random() * n);
  for (let n = 0; n < count; n += 1) {
    await record(owner, { metric: "words", user: `u${pick(7)}`, value: [1, 2, 3, 7, 40, 400][pick(6)] ?? 1, at: on(ages[pick(ages.length)] ?? 0) });
  }
}
const foldAll = async (): Promise<void> => {
  while ((await foldUsers(owner)) > 0 || (await foldSome(owner, 1000)) > 1);
};
const countAll = async (): Promise<void> => {
  while ((await countRangeDay(owner, 3)) > 0);
};
const countedDays = async (): Promise<number> => (await owner.query("select from laurel_private.range_days")).rowCount ?? 0;

beforeAll(async () => {
  owner = (await cloneDatabase()).pools.owner;
  await aMeasuredSystem(owner);
  await recordSome(1, 60);
  await foldAll();
});

test("of tenants with few users nothing is counted", async () => {
  expect(await countRangeDay(owner)).toBe(0);
  await fewUsers(owner, 7);
  expect(await countRangeDay(owner)).toBe(0);
  await fewUsers(owner, 6);
  expect(await countRangeDay(owner)).toBe(1);
  expect((await owner.query("select day::text from laurel_private.range_days")).rows).toEqual([{ day: day(0) }]);
  await compare();
  expect(await verify(owner)).toEqual([]);
});

test("days are counted from the latest on, and read once all of a range are", async () => {
  await countAll();
  expect(await countedDays()).toBe(new Set(ages).size);
  const isCounted = await owner.query("select laurel_private.are_counted(s, $1, $2) as is_counted from laurel.points_systems s where key = 'xp'", [day(365), day(0)]);
  expect(isCounted.rows).toEqual([{ is_counted: true }]);
  await compare();
  expect(await verify(owner)).toEqual([]);
});

test("what comes later, late or anew, folded or not, is counted as well", async () => {
  for (let seed = 2; seed < 6; seed += 1) {
    await recordSome(seed, 15);
    await foldSome(owner, 10);
    await compareSome();
    expect(await verify(owner)).toEqual([]);
  }
  await foldAll();
  // On a day on which nobody had earned: it is not counted yet.
  await record(owner, { metric: "words", user: "u1", value: 5, at: on(100) });
  await foldAll();
  await compare();
  expect(await countRangeDay(owner)).toBe(1);
  await compare();
  expect(await verify(owner)).toEqual([]);
});

test("when much comes late, the days that it changes are counted anew, by the worker", async () => {
  const before = await countedDays();
  await owner.query("create or replace function laurel_private.most_counted_again() returns int language sql immutable parallel safe return 2");
  for (const age of [0, 1, 2, 30]) await record(owner, { metric: "words", user: "often", value: 1, at: on(age) });
  await foldAll();
  expect(await countedDays()).toBe(before);
  await record(owner, { metric: "words", user: "often", value: 9, at: on(400) });
  await foldAll();
  // All but the new one are gone, which nobody has counted yet.
  expect(await countedDays()).toBe(before - 4);
  await compareSome();
  expect(await verify(owner)).toEqual([]);
  await owner.query("create or replace function laurel_private.most_counted_again() returns int language sql immutable parallel safe return 100000");
  await foldEarnings.run({ pool: owner, logger: pino({ level: "silent" }), now: () => new Date() }, undefined, undefined);
  expect(await countedDays()).toBeGreaterThan(before);
  await compareSome();
  expect(await verify(owner)).toEqual([]);
});

describe("erasures", () => {
  test("who had most on some day: it is counted anew without it", async () => {
    const before = await countedDays();
    const top = first((await owner.query<{ id: string }>("select most_user_id as id from laurel_private.points_ranges group by 1 order by count(*) desc limit 1")).rows).id;
    await eraseUser(owner, top);
    expect(await countedDays()).toBeLessThan(before);
    expect(await verify(owner)).toEqual([]);
    await compareSome();
    await countAll();
    await compareSome();
    expect(await verify(owner)).toEqual([]);
    expect((await owner.query("select from laurel_private.points_ranges where most_user_id = $1", [top])).rowCount).toBe(0);
  });

  test("who never had most: days stay, and it is in none of them", async () => {
    await record(owner, { metric: "words", user: "u0", value: 1000, at: on(2) });
    await record(owner, { metric: "words", user: "small", value: 1, at: on(2) });
    await foldAll();
    const before = await countedDays();
    await eraseUser(owner, "small");
    expect(await countedDays()).toBe(before);
    await compareSome();
    expect(await verify(owner)).toEqual([]);
  });

  test.each([["commit", 3], ["rollback", 4]] as const)("an erasure waits for a day that is being counted (%s)", async (how, age) => {
    const user = `erased ${how}`;
    await record(owner, { metric: "words", user, value: 5000, at: on(age) });
    await foldAll();
    await owner.query("insert into public.erased_awards select * from laurel.points_awards where user_id = $1", [user]);
    const counting = await openTransaction(owner);
    const { result } = await (async () => {
      try {
        expect(await countRangeDay(counting.client)).toBe(1);
        expect(await countRangeDay(owner)).toBe(0);
        return await startAndBlock(owner, owner, (client) => client.query("select laurel.erase_user($1)", [user]));
      } finally {
        await counting.end(how);
      }
    })();
    await result;
    expect(await verify(owner)).toEqual([]);
    await countAll();
    expect((await owner.query("select from laurel_private.points_ranges where most_user_id = $1", [user])).rowCount).toBe(0);
    expect(await verify(owner)).toEqual([]);
  });
});

test("days that are too long ago are not kept, nor counted again", async () => {
  await owner.query("create or replace function laurel_private.range_days_kept() returns int language sql immutable parallel safe return 366");
  await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - 1");
  await owner.query("select laurel_private.rebuild_rollups()");
  expect(await countedDays()).toBe(0);
  await countAll();
  const oldest = async (): Promise<unknown> => (await owner.query("select min(day)::text as day from laurel_private.range_days")).rows;
  expect(await oldest()).toEqual([{ day: day(366) }]);
  await owner.query("select laurel_private.move_windows(now())");
  expect(await oldest()).toEqual([{ day: day(365) }]);
  expect(await countRangeDay(owner)).toBe(0);
  await compare();
  expect(await verify(owner)).toEqual([]);
});
