import { expect } from "@jest/globals";
import type { Pool, PoolClient } from "pg";
import { first } from "./engine.ts";
import { aLevel, aMetric, anAttribute, aSystem, aTrigger, type Attributes, type Database, type Metric, type System } from "./factories.ts";

/** Every figure of system xp (rule D3), and the same summed up row by row from the ledger. */

const levels = [0, 1, 137, 500, 1234, 5000];

/** System xp: 3 points for each of metric words, 4 taken away for each of tasks, 5 for a new user; users have a plan and a country. */
export async function aMeasuredSystem(db: Database): Promise<{ xp: System; words: Metric }> {
  await anAttribute(db, { key: "plan", type: "user" });
  await anAttribute(db, { key: "country", type: "user" });
  const words = await aMetric(db, { key: "words" });
  const tasks = await aMetric(db, { key: "tasks" });
  const xp = await aSystem(db, { key: "xp", max_points: 5000 });
  await aTrigger(db, { system: xp, metric: words, points: 3 });
  await aTrigger(db, { system: xp, metric: tasks, points: -4 });
  await aTrigger(db, { system: xp, type: "user_creation", points: 5 });
  for (const points of levels) await aLevel(db, { system: xp, points });
  // What erased users had earned (eraseUser()).
  await db.query("create table public.erased_awards (like laurel.points_awards)");
  return { xp, words };
}

/** Erases a user and keeps its ledger for the comparison, where it counts for everybody's figures without a user. */
export async function eraseUser(pool: Pool, user: string): Promise<void> {
  const client = await pool.connect();
  await client.query("begin");
  await client.query("insert into public.erased_awards select * from laurel.points_awards where user_id = $1", [user]);
  await client.query("select laurel.erase_user(id) from laurel.users where id = $1", [user]);
  await client.query("commit");
  client.release();
}

/** Folds at most so many rows, of those that are there by now. Transactions of other tests on the same server would hold folding up; of this database none may be open. */
export async function foldSome(db: Database, most: number): Promise<number> {
  await db.query(
    "update laurel_private.earnings_fold set next_watermark = laurel_private.first_uuid_v7(clock_timestamp()), next_after = '1' where next_watermark is null");
  return first((await db.query<{ n: number }>("select laurel_private.fold_earnings($1, '0') as n", [most])).rows).n;
}

/** Has ranges counted and looked up as in tenants with more users than these. */
export const fewUsers = (db: Database, few: number): Promise<unknown> =>
  db.query(`create or replace function laurel_private.few_users() returns int language sql immutable parallel safe return ${few}`);

/** Counts the latest day that ranges are not counted for yet, so many users at a time; 0 when there is none. */
export async function countRangeDay(db: Database, most = 1000): Promise<number> {
  return first((await db.query<{ n: number }>("select laurel_private.count_range_day($1) as n", [most])).rows).n;
}

/** Folds at most so many changes of users. */
export async function foldUsers(db: Database, most = 1000): Promise<number> {
  return first((await db.query<{ n: number }>("select laurel_private.fold_user_counts($1) as n", [most])).rows).n;
}

/** The UTC day so many days ago. */
export const day = (ago: number): string => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);

export interface Figures {
  earned: Record<string, unknown>;
  breakdown: Record<string, unknown>;
  users: Record<string, unknown>;
  first: Record<string, unknown>;
  /** Users by level, and by range of totals; of all users only. */
  levels: unknown;
  totals: unknown;
}

export async function figures(db: Database, from: string, to: string, filter: string): Promise<Figures> {
  const found = await db.query<Figures>(
    `select laurel.points_earned('xp', $1, $2, 'day', $3) as earned, laurel.points_breakdown('xp', $1, $2, $3) as breakdown,
       laurel.points_by_users('xp', $1, $2, $3) as users, laurel.points_in_first_days('xp', $1, $2, $3) as first,
       jsonb_path_query_array(laurel.points_level_summary('xp'), '$[*].users') as levels, laurel.points_summary('xp', $3) as totals`, [from, to, filter]);
  const [row] = found.rows;
  if (row === undefined) throw new Error("no row");
  return row;
}

/** The same from ledger and users alone. */
async function byBruteForce(db: Database, from: string, to: string, filter: Attributes): Promise<Figures> {
  type Row = { user_id: string; day: string; cause: string; trigger_id: string | null; points: string; is_boosted: boolean; joined: string };
  const rows = (await db.query<Row>(
    `select a.user_id, ((a.occurred_at at time zone 'UTC')::date)::text as day, a.cause, a.trigger_id, a.points, a.boosts is not null as is_boosted,
       ((u.created_at at time zone 'UTC')::date)::text as joined
     from laurel.points_awards a join laurel.users u on u.tenant_id = a.tenant_id and u.id = a.user_id
     where a.system_key = 'xp' and u.attributes @> $1
     union all
     select '', ((a.occurred_at at time zone 'UTC')::date)::text, a.cause, a.trigger_id, a.points, a.boosts is not null, ''
     from public.erased_awards a where a.system_key = 'xp' and $1 = '{}'`, [filter])).rows;
  const users = (await db.query<{ id: string; joined: string }>(
    "select id, ((created_at at time zone 'UTC')::date)::text as joined from laurel.users where attributes @> $1", [filter])).rows;
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
       u.attributes @> $1 as is_matching from laurel.users u`, [filter])).rows;
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

/** What users earned in a range, as far as folded, is the same by their sums, by their days, and as counted. */
async function compareWays(db: Database, from: string, to: string): Promise<void> {
  const { rows } = await db.query<{ way: string }>(
    `select w.way, b.is_before, (select array_agg(x order by x) from unnest(b.buckets, b.users) x)::text as buckets, b.points::float, b.most::float, b.most_user_id
     from laurel.points_systems s
     cross join lateral (select $1::date - ($2::date - $1::date + 1) as first_on) r
     cross join lateral (
       select 'by days' as way, laurel_private.in_buckets(a) as found from laurel_private.amounts_by_days(s, r.first_on, $1, $2) a
       union all
       select 'by sums', laurel_private.in_buckets(a) from laurel_private.amounts_by_sums(s, r.first_on, $1, $2, array[laurel_private.everybody()], '{}') a
       union all
       select 'counted', laurel_private.counted_earnings(s, p.from_on, p.to_on, p.is_before)
       from (values (false, $1, $2), (true, r.first_on, $1 - 1)) p (is_before, from_on, to_on)
       where laurel_private.are_counted(s, p.from_on, p.to_on)) w
     cross join lateral (select (w.found).*) b
     where s.key = 'xp' and b.buckets is not null order by b.is_before`, [from, to]);
  const found = (way: string) => rows.filter((row) => row.way === way).map((row) => ({ ...row, way: "" }));
  expect(found("by sums")).toEqual(found("by days"));
  for (const counted of found("counted")) expect(found("by days")).toContainEqual(counted);
}

/** Compares all figures of system xp in one snapshot: of these ranges of days, from so many days ago to so many, and of users with these attributes. */
export async function compareFigures(
  pool: Pool, ranges: readonly (readonly [number, number])[], filters: readonly Attributes[],
): Promise<void> {
  const client: PoolClient = await pool.connect();
  try {
    await client.query("begin isolation level repeatable read read only");
    for (const [from, to] of ranges) {
      for (const filter of filters) {
        const text = Object.entries(filter).map(([key, value]) => `${key}:${value}`).join(",");
        const found = await figures(client, day(from), day(to), text);
        const expected = await byBruteForce(client, day(from), day(to), filter);
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
      await compareWays(client, day(from), day(to));
    }
  } finally {
    await client.query("rollback");
    client.release();
  }
}
