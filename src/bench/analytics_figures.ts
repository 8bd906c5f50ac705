import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { median, type Progress } from "./contest.ts";
import { withClient } from "./laboratory.ts";

/** How long one figure takes: `cold` is the first call of a connection, `warm` one of those after it; medians. */
export interface FigureTime {
  readonly title: string;
  readonly coldMs: number;
  readonly warmMs: number;
  /** What it may take at most, cold. */
  readonly goalMs: number;
}

/** Ledger rows of each user, over half a year. */
const awardsPerUser = 10;
/** The ledger's tail: about what a minute of a busy day leaves to the worker. */
const tailRows = 1000;

/** Gives a database its users and their ledger (analytics.sql), with rollups but for the last rows. Takes minutes for a million. */
export async function fillAnalytics(connectionString: string, users: number, progress: Progress): Promise<void> {
  const awards = users * awardsPerUser;
  await withClient(connectionString, async (client) => {
    await client.query(readFileSync(join(import.meta.dirname, "analytics.sql"), "utf8"));
    await client.query("set synchronous_commit = off");
    await client.query("set work_mem = '256MB'");
    progress(`${users.toLocaleString("en-US")} users`);
    await client.query("call bench.fill_users($1)", [users]);
    progress("who is awarded when");
    await client.query("call bench.pick_awards($1, $2)", [users, awards]);
    for (let ago = 6; ago >= 0; ago -= 1) {
      progress(`awards of ${ago} months ago, of ${awards.toLocaleString("en-US")}`);
      await client.query("call bench.fill_awards($1, (date_trunc('month', now() at time zone 'UTC') - make_interval(months => $2))::date)", [awards, ago]);
    }
    progress("balances");
    await client.query("call bench.fill_balances()");
    await client.query("analyze");
    progress("rollups");
    while ((await client.query<{ n: number }>("select laurel_private.fold_user_counts(200000) as n")).rows[0]?.n !== 0);
    await client.query("call bench.fill_rollups($1)", [tailRows]);
    await client.query("analyze");
    for (let days = 1; (await client.query<{ n: number }>("select laurel_private.count_range_day() as n")).rows[0]?.n !== 0; days += 1) {
      progress(`ranges: ${days} days`);
    }
    progress("vacuum");
    await client.query("vacuum analyze");
    await client.query("checkpoint");
  });
}

const today = "(now() at time zone 'UTC')::date";
const last = (days: number, ending = today): string => `${ending} - ${days - 1}, ${ending}`;
const goalMs = 200;

const figures: readonly (readonly [title: string, call: string, goalMs: number])[] = [
  ...[7, 30, 90].flatMap((days) => [
    [`earned, last ${days} days`, `points_earned('xp', ${last(days)})`, goalMs] as const,
    [`breakdown, last ${days} days`, `points_breakdown('xp', ${last(days)})`, goalMs] as const,
    [`by users, last ${days} days`, `points_by_users('xp', ${last(days)})`, goalMs] as const,
    [`first 14 days, joined in the last ${days}`, `points_in_first_days('xp', ${last(days)})`, goalMs] as const,
    [`insights, last ${days} days`, `points_insights('xp', ${last(days)})`, goalMs] as const,
  ]),
  ["users by level", "points_level_summary('xp')", goalMs],
  ["users by total", "points_summary('xp')", goalMs],
  ...[7, 30, 90].map((days) => [`by users, ${days} other days`, `points_by_users('xp', ${last(days, `${today} - 20`)})`, goalMs] as const),
  ["by users, last 14 days", `points_by_users('xp', ${last(14)})`, goalMs],
  ["by users, last 180 days", `points_by_users('xp', ${last(180)})`, goalMs],
  ["first 14 days, joined in 30 other", `points_in_first_days('xp', ${last(30, `${today} - 20`)})`, goalMs],
  ...(["country:c7", "plan:pro"] as const).flatMap((filter) => [
    [`earned, last 30 days, ${filter}`, `points_earned('xp', ${last(30)}, 'day', '${filter}')`, goalMs] as const,
    [`breakdown, last 30 days, ${filter}`, `points_breakdown('xp', ${last(30)}, '${filter}')`, goalMs] as const,
    [`by users, last 30 days, ${filter}`, `points_by_users('xp', ${last(30)}, '${filter}')`, goalMs] as const,
    [`by users, 30 other days, ${filter}`, `points_by_users('xp', ${last(30, `${today} - 20`)}, '${filter}')`, goalMs] as const,
    [`first 14 days, last 30, ${filter}`, `points_in_first_days('xp', ${last(30)}, '${filter}')`, goalMs] as const,
    [`users by total, ${filter}`, `points_summary('xp', '${filter}')`, goalMs] as const,
  ]),
];

/** Times every figure of the analytics, one after the other. */
export async function timeFigures(connectionString: string, match: string, progress: Progress): Promise<FigureTime[]> {
  const times: FigureTime[] = [];
  for (const [title, call, goal] of figures) {
    if (!title.includes(match)) continue;
    progress(title);
    const cold: number[] = [];
    const warm: number[] = [];
    for (let connection = 0; connection < 3; connection += 1) {
      await withClient(connectionString, async (client) => {
        const timed = async (): Promise<number> => {
          const start = performance.now();
          await client.query(`select laurel.${call}`);
          return performance.now() - start;
        };
        cold.push(await timed());
        for (let again = 0; again < 3; again += 1) warm.push(await timed());
      });
    }
    times.push({ title, coldMs: median(cold), warmMs: median(warm), goalMs: goal });
  }
  return times;
}

/** The times as a table for people, with how busy the machine was. */
export function formatFigures(times: readonly FigureTime[], users: number): string {
  const width = Math.max(...times.map(({ title }) => title.length));
  const ms = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} ms`.padStart(9);
  const lines = times.map(({ title, coldMs, warmMs, goalMs: goal }) =>
    [title.padEnd(width), ms(coldMs), ms(warmMs), `≤ ${goal} ms  ${coldMs <= goal ? "ok" : "MISSED"}`].join("  "));
  const head = `analytics: ${users.toLocaleString("en-US")} users, ${(users * awardsPerUser).toLocaleString("en-US")} ledger rows, ${tailRows.toLocaleString("en-US")} of them not folded; load ${loadavg()[0]?.toFixed(1) ?? "?"}`;
  return [head, `${"".padEnd(width)}  ${"cold".padStart(9)}  ${"warm".padStart(9)}`, ...lines].join("\n");
}
