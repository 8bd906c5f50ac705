import { beforeAll, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { aMeasuredSystem, compareFigures, countRangeDay, eraseUser, fewUsers, foldSome, foldUsers } from "../support/analytics.ts";
import { cloneDatabase } from "../support/database.ts";
import { record, verify } from "../support/engine.ts";
import type { Attributes } from "../support/factories.ts";
import { seedOf } from "../support/inputs.ts";
import { randomFrom } from "../support/races.ts";

/** Rule D3: whatever happens to users and their attributes, and however much of it is folded, each figure of users with some attributes is what ledger and users say. */

const daysToPass = 4;
const dayMs = 86_400_000;
/** Around the edges of windows, on both sides, as these move. */
const ages = [0, 1, 3, 4, 6, 7, 9, 13, 17, 20, 28, 31, 33, 59, 62, 89, 93, 120, 179, 183];
const filters: readonly Attributes[] = [{}, { plan: "pro" }, { country: "fr" }, { plan: "pro", country: "fr" }, { plan: "none" }];

let owner: Pool;

beforeAll(async () => {
  owner = (await cloneDatabase()).pools.owner;
  await aMeasuredSystem(owner);
  // With three users, ranges are counted.
  await fewUsers(owner, 2);
  await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - $1::int", [daysToPass]);
});

test("figures of segments are those of their users, through changes of attributes, erasures, days and folds in part", async () => {
  const random = randomFrom(seedOf("segments"));
  const pick = (n: number): number => Math.floor(random() * n);
  const oneOf = <T>(items: readonly T[]): T => items[pick(items.length)] as T;
  const user = (): string => `u${pick(9)}`;
  const at = (): string => new Date(Date.now() - oneOf(ages) * dayMs).toISOString();
  const attributes = () => ({ plan: oneOf(["pro", "free", null]), country: oneOf(["fr", "de", null]) });
  let daysPassed = 0;
  const steps: Record<string, readonly [weight: number, step: () => Promise<unknown>]> = {
    event: [10, () => record(owner, { metric: oneOf(["words", "words", "words", "tasks"]), user: user(), value: oneOf([1, 2, 5, 30, 400]), at: at() })],
    profile: [5, () => owner.query("select laurel.identify_user($1, $2)", [user(), { attributes: attributes() }])],
    // By hand, and to and fro in one transaction.
    update: [2, () => owner.query("update laurel.users set attributes = $2 where id = any ($1)", [[user(), user()], JSON.stringify(oneOf(filters))])],
    toAndFro: [1, async () => {
      const client = await owner.connect();
      await client.query("begin");
      const id = user();
      for (let n = 0; n < 3; n += 1) await client.query("select laurel.identify_user($1, $2)", [id, { attributes: attributes() }]);
      await client.query(oneOf(["commit", "rollback"]));
      client.release();
    }],
    joinedBefore: [1, () => owner.query(
      "update laurel.users u set created_at = $2 where id = $1 and not exists (select from laurel_private.user_points_days d where d.user_id = u.id)", [user(), at()])],
    erasure: [1, () => eraseUser(owner, user())],
    fold: [5, () => foldSome(owner, oneOf([1, 2, 7, 1000]))],
    count: [5, () => countRangeDay(owner, oneOf([1, 2, 1000]))],
    foldUsers: [4, () => foldUsers(owner, oneOf([1, 2, 5, 1000]))],
    day: [0.5, async () => {
      if (daysPassed === daysToPass) return;
      daysPassed += 1;
      await owner.query("select laurel_private.move_windows(now(), 2)");
    }],
    rebuild: [0.3, () => owner.query("select laurel_private.rebuild_rollups()")],
  };
  const lots = Object.values(steps).flatMap(([weight, step]) => Array.from({ length: weight * 10 }, () => step));
  const check = async (): Promise<void> => {
    const endedAgo = daysToPass - daysPassed;
    await compareFigures(owner, [[endedAgo + oneOf([6, 29, 89]), endedAgo], oneOf([[0, 0], [200, 30], [60, 7]] as const)], filters);
    expect(await verify(owner)).toEqual([]);
  };
  for (let n = 1; n <= 150; n += 1) {
    await oneOf(lots)();
    if (n % 6 === 0) await check();
  }
  while ((await foldUsers(owner)) > 0 || (await foldSome(owner, 1000)) > 1 || (await countRangeDay(owner)) > 0);
  await check();
  // Of segments that nobody is in any more nothing is left.
  const left = await owner.query(
    `select from laurel_private.segments s where not exists (
       select from laurel.users u where u.tenant_id = s.tenant_id and laurel_private.segment_of(u.attributes) = s.id)`);
  expect(left.rowCount).toBe(0);
  const named = await owner.query(
    `select from (
       select segment_id from laurel_private.points_days union select segment_id from laurel_private.points_totals
       union select segment_id from laurel_private.earning_buckets union select segment_id from laurel_private.top_earners
       union select segment_id from laurel_private.user_counts) f
     where segment_id <> laurel_private.everybody() and not exists (select from laurel_private.segments s where s.id = f.segment_id)`);
  expect(named.rowCount).toBe(0);
});
