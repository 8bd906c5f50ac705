import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Pool } from "pg";
import { aMeasuredSystem, compareFigures, countRangeDay, day, fewUsers, figures } from "../../support/analytics.ts";
import { cloneDatabase, eventually, type TestDatabase } from "../../support/database.ts";
import { record, refusal, verify } from "../../support/engine.ts";
import { aBoost, aSystem, aTrigger } from "../../support/factories.ts";
import { randomFrom } from "../../support/races.ts";
import { lr } from "../../support/refusals.ts";

/** Rule D3: every figure equals what the ledger says, summed up row by row, however far the rollups are. */

let database: TestDatabase;
const days = 90;
/** Everybody's, and of users with these attributes. */
const filters = [{}, { plan: "pro" }, { plan: "pro", country: "fr" }];
const compare = (pool: Pool, ranges: readonly (readonly [number, number])[]): Promise<void> => compareFigures(pool, ranges, filters);

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  const { xp, words } = await aMeasuredSystem(owner);
  await aBoost(owner, { system: xp, multiplier: 2.5, starts_on: day(40), ends_on: day(10), user_attributes: { plan: "pro" } });
  const other = await aSystem(owner, { key: "other" });
  await aTrigger(owner, { system: other, metric: words, points: 100 });
});

/** Records so many random events of the last hundred days, some of new users who joined back then; one in four says who the user is by now. */
async function recordSome(pool: Pool, seed: number, count: number): Promise<void> {
  const random = randomFrom(seed);
  const pick = (n: number): number => Math.floor(random() * n);
  for (let n = 0; n < count; n += 1) {
    const at = new Date(Date.now() - pick(100 * 86_400) * 1000).toISOString();
    const user = `user${pick(40)}`;
    await record(pool, {
      metric: pick(4) === 0 ? "tasks" : "words", user, value: 1 + pick(20), at,
      ...(pick(4) === 0 ? { profile: { attributes: { plan: ["free", "pro", "pro"][pick(3)], country: ["fr", "de", null][pick(3)] } } } : {}),
    });
    if (pick(5) === 0) await pool.query("update laurel.users set created_at = $2 where id = $1 and created_at > now() - interval '1 minute' and not exists (select from laurel_private.user_earnings e where e.user_id = id)", [user, at]);
  }
}

const ranges = [[6, 0], [29, 0], [days - 1, 0], [50, 20], [200, 90]] as const;
/** Folds up to this moment, or as far as open transactions allow; not until nothing is left, since without a margin there is always a later moment. */
const fold = async (pool: Pool, most = 20_000): Promise<void> => {
  await pool.query("select laurel_private.fold_user_counts()");
  // The first of the two may have been chosen before this moment.
  for (let round = 0; round < 2; round += 1) {
    for (let isUnderWay = true; isUnderWay; ) {
      const folded = await pool.query<{ n: number }>("select laurel_private.fold_earnings($1, '0') as n", [most]);
      if (folded.rows[0]?.n === 0) return;
      isUnderWay = (await pool.query("select from laurel_private.earnings_fold where next_watermark is not null")).rowCount === 1;
    }
  }
};

describe("figures equal the ledger", () => {
  test("before anything is folded, half folded, and all folded", async () => {
    const { owner } = database.pools;
    await recordSome(owner, 1, 300);
    await compare(owner, ranges);
    // Transactions of other databases of the server hold folding up as well: parallel tests have some.
    await eventually("the ledger to be folded", async () => {
      await fold(owner);
      return ((await owner.query("select from laurel_private.points_days")).rowCount ?? 0) > 50;
    });
    await compare(owner, ranges);
    await recordSome(owner, 2, 150);
    await owner.query("select laurel.adjust_points('xp', 'user1', 77, 'gift'), laurel.adjust_points('xp', 'user2', -1, 'fine')");
    await compare(owner, ranges);
    expect(await verify(owner)).toEqual([]);
  });

  test("while others record and fold", async () => {
    const { owner } = database.pools;
    const recording = { isOn: true };
    let compared = 0;
    await Promise.all([
      Promise.all([3, 4, 5].map((seed) => recordSome(owner, seed, 120))).then(() => {
        recording.isOn = false;
      }),
      (async () => {
        while (recording.isOn) await fold(owner, 50);
      })(),
      (async () => {
        while (recording.isOn) await fold(owner, 7);
      })(),
      (async () => {
        do {
          await compare(owner, [[29, 0], [40, 5]]);
          compared += 1;
        } while (recording.isOn);
      })(),
    ]);
    expect(compared).toBeGreaterThan(1);
    await fold(owner);
    await compare(owner, ranges);
    expect(await verify(owner)).toEqual([]);
  });

  test("a row of a transaction that is still open is not passed over", async () => {
    const { owner } = database.pools;
    const open = await owner.connect();
    await open.query("begin");
    await record(open, { metric: "words", user: "slow", value: 1000 });
    await fold(owner);
    await record(owner, { metric: "words", user: "quick", value: 2000 });
    await fold(owner);
    await open.query("commit");
    open.release();
    await compare(owner, ranges);
    await fold(owner);
    await compare(owner, ranges);
    expect(await verify(owner)).toEqual([]);
  });

  test("after a user is erased, folded or not: the systems' days keep what it earned", async () => {
    const { owner } = database.pools;
    const total = async (): Promise<unknown> => (await figures(owner, day(29), day(0), "")).earned;
    // The one is folded, the other not.
    await record(owner, { metric: "words", user: "late", value: 10 });
    const before = await total();
    await owner.query("select laurel.erase_user('quick'), laurel.erase_user('late')");
    expect(await total()).toEqual(before);
    expect(await verify(owner)).toEqual([]);
    await fold(owner);
    expect(await total()).toEqual(before);
    expect(await verify(owner)).toEqual([]);
    const users = await figures(owner, day(29), day(0), "");
    expect(users.users["mostUserId"]).not.toBe("quick");
  });

  test("when days go by: the windows move on, one day at a time", async () => {
    const { owner } = database.pools;
    await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - 2");
    // What the windows would have been.
    await owner.query("truncate laurel_private.user_earnings, laurel_private.earning_buckets, laurel_private.top_earners, laurel_private.points_totals, laurel_private.user_points_days, laurel_private.user_points_years, laurel_private.points_days, laurel_private.erased_points");
    await owner.query("update laurel_private.earnings_fold set watermark = '00000000-0000-0000-0000-000000000000'");
    await fold(owner, 100);
    expect(await verify(owner)).toEqual([]);
    for (let n = 0; n < 2; n += 1) {
      await compare(owner, ranges);
      const moved = await owner.query<{ n: number }>("select laurel_private.move_windows(now(), 3) as n");
      expect(moved.rows).toEqual([{ n: 1 }]);
      expect(await verify(owner)).toEqual([]);
    }
    expect((await owner.query("select laurel_private.move_windows(now()) as n")).rows).toEqual([{ n: 0 }]);
    await compare(owner, ranges);
  });
});

test("a range goes on over New Year", async () => {
  const { owner } = database.pools;
  const ago = (date: string): number => Math.round((Date.parse(day(0)) - Date.parse(date)) / 86_400_000);
  for (const [user, at] of [["old", "2024-12-31"], ["both", "2024-12-31"], ["both", "2025-01-01"], ["new", "2025-01-01"], ["both", "2025-01-02"]] as const) {
    await record(owner, { metric: "words", user, value: 2, at: `${at}T12:00:00Z`, profile: { attributes: { plan: "pro" } } });
  }
  const overNewYear = [[ago("2024-12-31"), ago("2025-01-01")], [ago("2025-01-01"), ago("2025-01-02")]] as const;
  await compare(owner, overNewYear);
  // Two years in each of two systems.
  await eventually("the events to be folded", async () => {
    await fold(owner);
    return (await owner.query("select from laurel_private.user_points_years where user_id = 'both'")).rowCount === 4;
  });
  await compare(owner, overNewYear);
  const found = (await figures(owner, "2024-12-31", "2025-01-01", "plan:pro")).users;
  // 5 for being new, and 2 × 3 in each year.
  expect(found).toMatchObject({ most: 17, mostUserId: "both", earners: 3 });
  expect(await verify(owner)).toEqual([]);
});

test("rollups made anew are the same as folded ones", async () => {
  const { owner } = database.pools;
  await fold(owner);
  const tables = ["points_days", "user_points_days", "user_points_years", "points_totals", "earning_buckets", "top_earners", "user_segments"] as const;
  const contents = async (): Promise<unknown> =>
    Promise.all(tables.map(async (table) => {
      const isThere = table === "earning_buckets" ? "where users > 0" : "";
      return (await owner.query<{ row: unknown }>(`select to_jsonb(t) as row from laurel_private.${table} t ${isThere} order by t::text`)).rows;
    }));
  const folded = await contents();
  await owner.query("select laurel_private.rebuild_rollups()");
  expect(await contents()).toEqual(folded);
  expect(await verify(owner)).toEqual([]);
});

test("insights say it in sentences", async () => {
  const { owner } = database.pools;
  const found = await owner.query<{ s: { sentences: string[] } }>("select laurel.points_insights('xp', $1, $2) as s", [day(29), day(0)]);
  const number = "\\d{1,3}(,\\d{3})*(\\.\\d?[1-9])?";
  const says = (sentence: string): unknown => expect.stringMatching(new RegExp(`^${sentence.replaceAll("#", number)}\\.$`));
  expect(found.rows[0]?.s.sentences).toEqual([
    says("Users earned # points(, # % (more|less) than in the range before)?"),
    says("# % of them came with a boost"),
    says("# points were deducted"),
    says('The trigger "3 points for every 1 of Words written" earned most: # % of all points'),
    says("(Nobody joined in this time|The one user who joined earned # points in the first 14 days|The # users who joined earned # points on average in their first 14 days)"),
  ]);
  const grouped = await owner.query("select array(select laurel_private.grouped(n) from unnest(array[0, 7.50, 20.00, 999, 1000, 1234567.25, 123456]) n) as texts");
  expect(grouped.rows).toEqual([{ texts: ["0", "7.5", "20", "999", "1,000", "1,234,567.25", "123,456"] }]);
});

test("the view for BI tools has the same, of the caller's tenant alone", async () => {
  const { owner, admin } = database.pools;
  const earned = (await figures(owner, day(29), day(0), "")).earned["earned"];
  const client = await admin.connect();
  await client.query("begin");
  const found = await client.query("select sum(earned)::float as earned from laurel.points_by_day where system_key = 'xp' and day between $1 and $2", [day(29), day(0)]);
  expect(found.rows).toEqual([{ earned }]);
  await owner.query("insert into laurel.tenants (customer_id, name) values ('acme', 'Acme')");
  await client.query("select set_config('laurel.tenant', 'acme', true)");
  expect((await client.query("select from laurel.points_by_day")).rowCount).toBe(0);
  await client.query("rollback");
  client.release();
});

test("an estimate is the rules applied to one go", async () => {
  const { owner } = database.pools;
  const found = await owner.query<{ e: { total: number; byTrigger: { firings: number; awarded: number }[] } }>(
    "select laurel.estimate_points('xp', '{\"words\": 12, \"tasks\": 2}') as e");
  // tasks come first by name, when 5 points for being new are there: 5 - 5, of 8; then 12 × 3.
  expect(found.rows[0]?.e.byTrigger.map(({ firings }) => firings)).toEqual([12, 2]);
  expect(found.rows[0]?.e.byTrigger[0]?.awarded).toBe(36);
});

test("wrong ranges and filters are refused", async () => {
  const client = await database.pools.owner.connect();
  await client.query("begin");
  const call = (text: string, ...values: unknown[]) => refusal(client, () => client.query(`select laurel.${text}`, values));
  expect(await call("points_earned('xp', '2026-02-01', '2026-01-01')")).toEqual(lr("LR023", "to must not be before from"));
  expect(await call("points_earned('xp', '2024-01-01', '2026-01-01')")).toEqual(lr("LR023", "400 days"));
  for (const [range, field] of [["'2026-02-01', '2026-01-01'", "to"], ["'2024-01-01', '2026-01-01'", "from"], ["null, '2026-01-01'", "from"], ["'2026-01-01', 'infinity'", "to"],
    [`'2026-01-01', '2026-01-01', user_attributes => 'nope:1'`, "userAttributes"]]) {
    expect(await call(`points_earned('xp', ${range})`)).toMatchObject({ field });
  }
  expect(await call("points_earned('xp', null, '2026-01-01')")).toEqual(lr("LR023", "dates"));
  expect(await call("points_earned('xp', '2026-01-01', 'infinity')")).toEqual(lr("LR023", "dates"));
  expect(await call("points_earned('xp', '2026-01-01', '2026-01-01', 'year')")).toEqual(lr("LR023", "unit must be day, week or month"));
  expect(await call("points_breakdown('nope', '2026-01-01', '2026-01-01')")).toEqual(lr("LR004"));
  expect(await call("points_by_users('xp', '2026-01-01', '2026-01-01', 'nope:1')")).toEqual(lr("LR012", "nope"));
  expect(await call("points_in_first_days('xp', '2026-01-01', '2026-01-01', 'plan')")).toEqual(lr("LR013"));
  expect(await call("estimate_points('xp', '{\"words\": -1}')")).toEqual(lr("LR060", "amounts.words must be at least 0"));
  expect(await call("estimate_points('xp', '[]')")).toEqual(lr("LR060", "amounts must be an object"));
  expect(await call("estimate_points('xp', '{\"nope\": 1}')")).toEqual(lr("LR060", "there is no metric nope"));
  await client.query("rollback");
  client.release();
});

test("verify() finds each rollup that was corrupted", async () => {
  const { owner } = database.pools;
  await fold(owner);
  await fewUsers(owner, 0);
  for (let n = 0; n < 3; n += 1) expect(await countRangeDay(owner)).toBe(1);
  const corruptions: readonly (readonly [string, string])[] = [
    ["update laurel_private.points_days set earned = earned + 1 where ctid = (select min(ctid) from laurel_private.points_days)", "days_add_up_to_the_ledger"],
    ["delete from laurel_private.points_days where ctid = (select min(ctid) from laurel_private.points_days)", "days_add_up_to_the_ledger"],
    ["update laurel_private.user_points_days set earned = earned + 1 where ctid = (select min(ctid) from laurel_private.user_points_days)", "users_days_add_up_to_the_ledger"],
    ["update laurel_private.user_points_years set sums[1] = sums[1] + 1 where ctid = (select min(ctid) from laurel_private.user_points_years)", "users_years_are_sums_of_days"],
    ["delete from laurel_private.user_points_years where ctid = (select min(ctid) from laurel_private.user_points_years)", "users_years_are_sums_of_days"],
    ["update laurel_private.points_ranges set crossed[1] = crossed[1] + 1 where last_on = first_on", "ranges_count_users"],
    ["update laurel_private.points_ranges set most = most - 1 where last_on = first_on + 30", "ranges_count_users"],
    ["update laurel_private.points_ranges set most_user_id = most_user_id || 'x' where last_on = first_on + 30", "ranges_count_users"],
    ["delete from laurel_private.points_ranges where last_on = first_on + 365", "ranges_count_users"],
    ["update laurel_private.range_days set earned = earned - 1", "counted_days_are_sums"],
    ["update laurel_private.user_earnings set last_30 = last_30 + 1 where ctid = (select min(ctid) from laurel_private.user_earnings)", "earnings_are_sums_of_days"],
    ["delete from laurel_private.user_earnings where ctid = (select min(ctid) from laurel_private.user_earnings where last_90 > 0)", "earnings_are_sums_of_days"],
    ["update laurel_private.user_earnings set before_90 = before_90 + 1 where ctid = (select min(ctid) from laurel_private.user_earnings)", "earnings_are_sums_of_days"],
    ["update laurel_private.top_earners set earned = earned + 1 where figure = 'before_30'", "top_earner_earned_most"],
    ["update laurel_private.top_earners set user_id = user_id || 'x' where figure = 'last_7'", "top_earner_earned_most"],
    ["delete from laurel_private.top_earners where figure = 'last_90'", "top_earner_earned_most"],
    ["update laurel_private.points_totals set users = users + 1 where ctid = (select min(ctid) from laurel_private.points_totals)", "totals_count_users"],
    ["delete from laurel_private.points_totals where ctid = (select min(ctid) from laurel_private.points_totals where is_rounded)", "totals_count_users"],
    ["update laurel_private.user_counts set users = users + 1 where ctid = (select min(ctid) from laurel_private.user_counts)", "user_counts_are_the_users"],
    ["insert into laurel_private.user_count_changes (tenant_id, joined_on, users, attributes) select tenant_id, joined_on, 1, '{}' from laurel_private.user_counts limit 1", "user_counts_are_the_users"],
    ["update laurel_private.earning_buckets set users = users + 1 where ctid = (select min(ctid) from laurel_private.earning_buckets where users > 0)", "buckets_count_users"],
    ...([["points_days", "awards", "days_add_up_to_the_ledger"], ["points_totals", "users", "totals_count_users"], ["earning_buckets", "points", "buckets_count_users"],
      ["top_earners", "earned", "top_earner_earned_most"], ["user_counts", "users", "user_counts_are_the_users"]] as const).map(([table, column, invariant]) => [
      `update laurel_private.${table} set ${column} = ${column} + 1 where ctid = (
         select max(ctid) from laurel_private.${table} where segment_id <> laurel_private.everybody() and ${column} > 0)`, invariant] as const),
    ["update laurel_private.user_segments set segment_id = (select max(s.id::text)::uuid from laurel_private.segments s where s.id <> segment_id) where user_id = 'user1'", "user_is_folded_into_its_segment"],
    ["delete from laurel_private.user_segments where user_id = 'user1'", "user_is_folded_into_its_segment"],
    ["delete from laurel_private.segments where id = (select segment_id from laurel_private.user_segments where user_id = 'user1')", "segment_has_its_attributes"],
    ["update laurel_private.segments set attributes = '{\"plan\": \"none\"}' where attributes @> '{\"plan\": \"pro\"}'", "segment_has_its_attributes"],
  ];
  for (const [corruption, invariant] of corruptions) {
    const client = await owner.connect();
    await client.query("begin");
    expect((await client.query(corruption)).rowCount).toBeGreaterThan(0);
    expect((await verify(client)).map((row) => row.invariant)).toContain(invariant);
    await client.query("rollback");
    client.release();
  }
  expect(await verify(owner)).toEqual([]);
});
