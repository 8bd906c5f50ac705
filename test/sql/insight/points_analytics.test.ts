import { beforeAll, describe, expect, test } from "@jest/globals";
import type { Pool, PoolClient } from "pg";
import { cloneDatabase, eventually, type TestDatabase } from "../../support/database.ts";
import { record, refusal, verify } from "../../support/engine.ts";
import { aBoost, aLevel, aMetric, anAttribute, aSystem, aTrigger, type Database } from "../../support/factories.ts";
import { randomFrom } from "../../support/races.ts";
import { lr } from "../../support/refusals.ts";

/** Rule D3: every figure equals what the ledger says, summed up row by row, however far the rollups are. */

let database: TestDatabase;
const days = 90;
const levels = [0, 1, 137, 500, 1234, 5000];
const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  await anAttribute(owner, { key: "plan", type: "user" });
  const words = await aMetric(owner, { key: "words" });
  const tasks = await aMetric(owner, { key: "tasks" });
  const xp = await aSystem(owner, { key: "xp", max_points: 5000 });
  await aTrigger(owner, { system: xp, metric: words, points: 3 });
  await aTrigger(owner, { system: xp, metric: tasks, points: -4 });
  await aTrigger(owner, { system: xp, type: "user_creation", points: 5 });
  await aBoost(owner, { system: xp, multiplier: 2.5, starts_on: day(40), ends_on: day(10), user_attributes: { plan: "pro" } });
  for (const points of levels) await aLevel(owner, { system: xp, points });
  const other = await aSystem(owner, { key: "other" });
  await aTrigger(owner, { system: other, metric: words, points: 100 });
});

/** Records so many random events of the last hundred days, some of new users who joined back then. */
async function recordSome(pool: Pool, seed: number, count: number): Promise<void> {
  const random = randomFrom(seed);
  const pick = (n: number): number => Math.floor(random() * n);
  for (let n = 0; n < count; n += 1) {
    const at = new Date(Date.now() - pick(100 * 86_400) * 1000).toISOString();
    const user = `user${pick(40)}`;
    await record(pool, {
      metric: pick(4) === 0 ? "tasks" : "words", user, value: 1 + pick(20), at,
      profile: { attributes: { plan: ["free", "pro"][Number(user.slice(4)) % 2] } },
    });
    if (pick(5) === 0) await pool.query("update laurel.users set created_at = $2 where id = $1 and created_at > now() - interval '1 minute' and not exists (select from laurel_private.user_earnings e where e.user_id = id)", [user, at]);
  }
}

interface Figures {
  earned: Record<string, unknown>;
  breakdown: Record<string, unknown>;
  users: Record<string, unknown>;
  first: Record<string, unknown>;
  /** Users by level, and by range of totals; of all users only. */
  levels: unknown;
  totals: unknown;
}

async function figures(db: Database, from: string, to: string, filter: string): Promise<Figures> {
  const found = await db.query<Figures>(
    `select laurel.points_earned('xp', $1, $2, 'day', $3) as earned, laurel.points_breakdown('xp', $1, $2, $3) as breakdown,
       laurel.points_by_users('xp', $1, $2, $3) as users, laurel.points_in_first_days('xp', $1, $2, $3) as first,
       jsonb_path_query_array(laurel.points_level_summary('xp'), '$[*].users') as levels, laurel.points_summary('xp', $3) as totals`, [from, to, filter]);
  const [row] = found.rows;
  if (row === undefined) throw new Error("no row");
  return row;
}

/** The same from ledger and users alone. */
async function byBruteForce(db: Database, from: string, to: string, plan: string | null): Promise<Figures> {
  type Row = { user_id: string; day: string; cause: string; trigger_id: string | null; points: string; is_boosted: boolean; joined: string };
  const rows = (await db.query<Row>(
    `select a.user_id, ((a.occurred_at at time zone 'UTC')::date)::text as day, a.cause, a.trigger_id, a.points, a.boosts is not null as is_boosted,
       ((u.created_at at time zone 'UTC')::date)::text as joined
     from laurel.points_awards a join laurel.users u on u.tenant_id = a.tenant_id and u.id = a.user_id
     where a.system_key = 'xp' and ($1::text is null or u.attributes ->> 'plan' = $1)`, [plan])).rows;
  const users = (await db.query<{ id: string; joined: string }>(
    "select id, ((created_at at time zone 'UTC')::date)::text as joined from laurel.users where $1::text is null or attributes ->> 'plan' = $1", [plan])).rows;
  const sum = (of: readonly Row[]): number => of.reduce((total, row) => total + Math.max(Number(row.points), 0), 0);
  const addDays = (date: string, n: number): string => new Date(Date.parse(date) + n * 86_400_000).toISOString().slice(0, 10);
  const length = (Date.parse(to) - Date.parse(from)) / 86_400_000 + 1;
  const inRange = rows.filter((row) => row.day >= from && row.day <= to);
  const before = rows.filter((row) => row.day >= addDays(from, -length) && row.day < from);
  const deducted = (of: readonly Row[]): number => of.reduce((total, row) => total + Math.max(-Number(row.points), 0), 0);
  const histogram = (values: readonly number[], all: number): unknown => {
    const starts = Array.from({ length: 30 }, (_, n) => ([1, 2, 5][n % 3] ?? 0) * 10 ** Math.floor(n / 3));
    const positive = values.filter((value) => value > 0);
    const top = starts.findLastIndex((start) => positive.some((value) => value >= start));
    return [
      { from: 0, to: 0, users: all - positive.length },
      ...starts.slice(0, top + 1).map((start, n) => ({
        from: start, to: (starts[n + 1] ?? 0) - 1, users: positive.filter((value) => value >= start && value < (starts[n + 1] ?? 0)).length,
      })),
    ];
  };
  const byUsers = (of: readonly Row[]) => {
    const perUser = users.map(({ id }) => ({ id, earned: sum(of.filter((row) => row.user_id === id)) }));
    const earners = perUser.filter(({ earned }) => earned > 0);
    const most = Math.max(0, ...earners.map(({ earned }) => earned));
    return {
      values: perUser.map(({ earned }) => earned),
      shown: {
        most, mostUserId: most === 0 ? null : earners.filter(({ earned }) => earned === most).map(({ id }) => id).sort()[0],
        earners: earners.length, average: average(earners.map(({ earned }) => earned)),
      },
    };
  };
  const firstDaysOf = (first: string, last: string): number[] =>
    users.filter((user) => user.joined >= first && user.joined <= last)
      .map(({ id, joined: on }) => sum(rows.filter((row) => row.user_id === id && row.day >= on && row.day < addDays(on, 14))));
  const average = (values: readonly number[]): number | null =>
    values.length === 0 ? null : Math.round((100 * values.reduce((a, b) => a + b, 0)) / values.length) / 100;
  const change = (now: number | null, was: number | null): number | null =>
    now === null || was === null || was === 0 ? null : Math.sign(now - was) * Math.round((1000 * Math.abs(now - was)) / was) / 10;
  const beforeRange = { from: addDays(from, -length), to: addDays(from, -1) };
  const [nowByUsers, beforeByUsers] = [byUsers(inRange), byUsers(before)];
  const [firsts, firstsBefore] = [firstDaysOf(from, to), firstDaysOf(beforeRange.from, beforeRange.to)];
  type Total = { total: string; is_matching: boolean };
  const standings = (await db.query<Total>(
    `select coalesce((select b.total from laurel.points_balances b where b.user_id = u.id and b.tenant_id = u.tenant_id and b.system_key = 'xp'), 0) as total,
       $1::text is null or u.attributes ->> 'plan' = $1 as is_matching from laurel.users u`, [plan])).rows;
  const totalsOf = (of: readonly Total[]): number[] => of.map(({ total }) => Number(total));
  const matching = totalsOf(standings.filter((row) => row.is_matching));
  const width = Math.max(10, 10 ** String(Math.max(...matching, 1) - 1).length) / 10;
  return {
    levels: levels.map((least, n) => totalsOf(standings).filter((total) => total >= least && total < (levels[n + 1] ?? Infinity)).length),
    totals: Array.from({ length: 11 }, (_, n) => ({
      from: n === 0 ? 0 : (n - 1) * width + 1, to: n * width,
      users: matching.filter((total) => (n === 0 ? total === 0 : total > (n - 1) * width && total <= n * width)).length,
    })),
    earned: {
      earned: sum(inRange), boosted: sum(inRange.filter((row) => row.is_boosted)), deducted: deducted(inRange),
      before: { ...beforeRange, earned: sum(before) }, changePercent: change(sum(inRange), sum(before)),
      series: Array.from({ length }, (_, n) => {
        const own = inRange.filter((row) => row.day === addDays(from, n));
        const boosted = sum(own.filter((row) => row.is_boosted));
        return { date: addDays(from, n), earned: sum(own), boosted, notBoosted: sum(own) - boosted, deducted: deducted(own) };
      }),
    },
    breakdown: {
      before: { ...beforeRange, earned: sum(before) }, changePercent: change(sum(inRange), sum(before)),
      byTrigger: [...new Set(inRange.map((row) => row.trigger_id))].map((id) => {
        const own = inRange.filter((row) => row.trigger_id === id);
        const was = sum(before.filter((row) => row.trigger_id === id));
        return { id, earned: sum(own), deducted: deducted(own), awards: own.length, before: was, changePercent: change(sum(own), was) };
      }).sort((a, b) => String(a.id).localeCompare(String(b.id))),
    },
    users: {
      ...nowByUsers.shown, users: users.length, histogram: histogram(nowByUsers.values, users.length),
      before: { ...beforeRange, ...beforeByUsers.shown }, changePercent: change(nowByUsers.shown.most, beforeByUsers.shown.most),
    },
    first: {
      users: firsts.length, average: average(firsts), histogram: histogram(firsts, firsts.length),
      before: { ...beforeRange, users: firstsBefore.length, average: average(firstsBefore) }, changePercent: change(average(firsts), average(firstsBefore)),
    },
  };
}

/** Compares all figures in one snapshot. */
async function compare(pool: Pool, ranges: readonly (readonly [number, number])[]): Promise<void> {
  const client: PoolClient = await pool.connect();
  try {
    await client.query("begin isolation level repeatable read read only");
    for (const [from, to] of ranges) {
      for (const plan of [null, "pro"]) {
        const found = await figures(client, day(from), day(to), plan === null ? "" : `plan:${plan}`);
        const expected = await byBruteForce(client, day(from), day(to), plan);
        expect(found.earned).toMatchObject(expected.earned);
        const { byTrigger, before, changePercent } = found.breakdown as {
          byTrigger: { trigger: { id: string } | null; earned: number; deducted: number; awards: number; before: number; changePercent: number | null }[];
          before: unknown; changePercent: unknown;
        };
        expect({
          before, changePercent,
          byTrigger: byTrigger.map(({ trigger, earned, deducted, awards, ...was }) => ({
            id: trigger?.id ?? null, earned, deducted, awards, before: was.before, changePercent: was.changePercent,
          })).sort((a, b) => String(a.id).localeCompare(String(b.id))),
        }).toEqual(expected.breakdown);
        expect([found.levels, found.totals]).toEqual([expected.levels, expected.totals]);
        expect(found.users).toMatchObject(expected.users);
        expect(found.first).toMatchObject(expected.first);
      }
    }
  } finally {
    await client.query("rollback");
    client.release();
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

  test("however many users have the attributes: few are looked up, of many everybody's rows are read", async () => {
    const { owner } = database.pools;
    const few = async (most: number): Promise<unknown> =>
      owner.query(`create or replace function laurel_private.few_users() returns int language sql immutable parallel safe return ${most}`);
    await few(0);
    await compare(owner, ranges);
    await few(50_000);
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
    await owner.query("update laurel_private.earnings_fold set windows_end_on = windows_end_on - 3");
    // What the windows would have been.
    await owner.query("truncate laurel_private.user_earnings, laurel_private.earning_buckets, laurel_private.top_earners, laurel_private.points_totals, laurel_private.user_points_days, laurel_private.points_days, laurel_private.erased_points");
    await owner.query("update laurel_private.earnings_fold set watermark = '00000000-0000-0000-0000-000000000000'");
    await fold(owner, 100);
    expect(await verify(owner)).toEqual([]);
    for (let n = 0; n < 3; n += 1) {
      await compare(owner, ranges);
      const moved = await owner.query<{ n: number }>("select laurel_private.move_windows(now(), 3) as n");
      expect(moved.rows).toEqual([{ n: 1 }]);
      expect(await verify(owner)).toEqual([]);
    }
    expect((await owner.query("select laurel_private.move_windows(now()) as n")).rows).toEqual([{ n: 0 }]);
    await compare(owner, ranges);
  });
});

test("rollups made anew are the same as folded ones", async () => {
  const { owner } = database.pools;
  await fold(owner);
  const tables = ["points_days", "user_points_days", "points_totals", "earning_buckets", "top_earners"] as const;
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
  expect(found.rows[0]?.s.sentences).toEqual([
    expect.stringMatching(/^Users earned [\d,]+ points(, [\d.]+ % (more|less) than in the range before)?\.$/),
    expect.stringMatching(/^[\d.]+ % of them came with a boost\.$/),
    expect.stringMatching(/^[\d,]+ points were deducted\.$/),
    expect.stringMatching(/^The trigger "3 points for every 1 of Words written" earned most: [\d.]+ % of all points\.$/),
    expect.stringMatching(/^(Nobody joined in this time\.|The \d+ users who joined earned [\d.]+ points on average in their first 14 days\.)$/),
  ]);
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
  const corruptions: readonly (readonly [string, string])[] = [
    ["update laurel_private.points_days set earned = earned + 1 where ctid = (select min(ctid) from laurel_private.points_days)", "days_add_up_to_the_ledger"],
    ["delete from laurel_private.points_days where ctid = (select min(ctid) from laurel_private.points_days)", "days_add_up_to_the_ledger"],
    ["update laurel_private.user_points_days set earned = earned + 1 where ctid = (select min(ctid) from laurel_private.user_points_days)", "users_days_add_up_to_the_ledger"],
    ["update laurel_private.user_earnings set last_30 = last_30 + 1 where ctid = (select min(ctid) from laurel_private.user_earnings)", "earnings_are_sums_of_days"],
    ["delete from laurel_private.user_earnings where ctid = (select min(ctid) from laurel_private.user_earnings where last_90 > 0)", "earnings_are_sums_of_days"],
    ["update laurel_private.user_earnings set before_90 = before_90 + 1 where ctid = (select min(ctid) from laurel_private.user_earnings)", "earnings_are_sums_of_days"],
    ["update laurel_private.top_earners set earned = earned + 1 where figure = 'before_30'", "top_earner_earned_most"],
    ["update laurel_private.top_earners set user_id = user_id || 'x' where figure = 'last_7'", "top_earner_earned_most"],
    ["delete from laurel_private.top_earners where figure = 'last_90'", "top_earner_earned_most"],
    ["update laurel_private.points_totals set users = users + 1 where ctid = (select min(ctid) from laurel_private.points_totals)", "totals_count_users"],
    ["delete from laurel_private.points_totals where ctid = (select min(ctid) from laurel_private.points_totals where is_rounded)", "totals_count_users"],
    ["update laurel_private.user_counts set users = users + 1 where ctid = (select min(ctid) from laurel_private.user_counts)", "user_counts_are_the_users"],
    ["insert into laurel_private.user_count_changes select tenant_id, joined_on, 1 from laurel_private.user_counts limit 1", "user_counts_are_the_users"],
    ["update laurel_private.earning_buckets set users = users + 1 where ctid = (select min(ctid) from laurel_private.earning_buckets where users > 0)", "buckets_count_users"],
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
