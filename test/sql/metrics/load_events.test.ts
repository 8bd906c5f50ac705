import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { type EventInput, record, verify } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, aUser, anAchievement, anAttribute, type Database } from "../../support/factories.ts";
import { randomFrom } from "../../support/random.ts";

/** Events that bring the time zones of their users, by one statement: what record_event() makes of them one by one. */

interface Line extends EventInput {
  readonly zone: string | null;
}

async function load(db: Database, lines: readonly Line[]): Promise<number> {
  const found = await db.query<{ stored: number }>("select laurel_private.load_events($1, $2, $3, $4, $5, $6, $7) as stored", [
    lines.map(({ metric }) => metric),
    lines.map(({ user }) => user),
    lines.map(({ value }) => value ?? null),
    lines.map(({ attributes }) => JSON.stringify(attributes ?? {})),
    lines.map(({ key }) => key ?? null),
    lines.map(({ at }) => at ?? null),
    lines.map(({ zone }) => zone),
  ]);
  return found.rows[0]?.stored ?? -1;
}

async function recordOneByOne(db: Database, lines: readonly Line[]): Promise<number> {
  let stored = 0;
  for (const { zone, ...event } of lines) {
    const answer = await record(db, { ...event, ...(zone === null ? {} : { profile: { tz: zone } }) });
    if (!answer.idempotentReplayed) stored += 1;
  }
  return stored;
}

async function configure(db: Database): Promise<void> {
  await anAttribute(db, { key: "kind", type: "event" });
  const [commits, pages] = [await aMetric(db, { key: "commits" }), await aMetric(db, { key: "pages" })];
  const system = await aSystem(db, { key: "xp", max_points: 200 });
  await aTrigger(db, { system, type: "user_creation", points: 20 });
  await aTrigger(db, { system, metric: commits, points: 2 });
  await aTrigger(db, { system, metric: pages, points: 3, every: 2, event_attributes: { kind: "gold" } });
  await aTrigger(db, { system, type: "streak", points: 5, streak_length: 2 });
  await aTrigger(db, { system, type: "time", points: 1, time_unit: "days", time_interval: 1 });
  await anAchievement(db, { key: "seven", metric: commits, metric_value: 7 });
  await db.query(
    `insert into laurel.leaderboards (key, name, status, rank_by, metric_id, system_id, starts_on, run_unit, run_interval)
     values ('by-metric', 'Metric', 'active', 'metric', $1, null, '2026-01-01', 'day', 3),
       ('by-streak', 'Streak', 'active', 'streak', null, null, '2026-01-01', null, null)`,
    [commits.id],
  );
}

/** All that is kept of the users whose IDs begin so, without IDs and moments of writing. */
async function kept(db: Database, prefix: string): Promise<unknown> {
  const rows = async (statement: string): Promise<unknown[]> =>
    (await db.query<Record<string, unknown>>(statement.replaceAll("name_of", "substr(user_id, 5)"), [prefix])).rows;
  const mine = "where starts_with(user_id, $1)";
  return {
    users: await rows("select substr(id, 5), tz, attributes, control from laurel.users where starts_with(id, $1) order by 1"),
    events: await rows(
      `select name_of, metric_key, value, attributes, idempotency_key, occurred_at from laurel.metric_events ${mine} order by name_of, metric_key, id`,
    ),
    awards: await rows(
      `select name_of, to_jsonb(a) - '{id,event_id,user_id,occurred_at}'::text[] as award,
         case when cause <> 'achievement' then occurred_at end as at
       from laurel.points_awards a ${mine} order by name_of, sequence`,
    ),
    runs: await rows(
      `select name_of, first_period, last_period, through_period, length, is_over from laurel_private.streak_runs ${mine} order by 1, 2`,
    ),
    periods: await rows(`select name_of, period_start, kind from laurel_private.streak_periods ${mine} order by 1, 2`),
    streaks: await rows(`select name_of, length, longest, settled_on, extended_at from laurel_private.user_streaks ${mine} order by 1`),
    zones: await rows(`select name_of, time_zone from laurel_private.user_states ${mine} order by 1`),
    totals: await rows(`select name_of, metric_key, total, peak from laurel.user_metrics ${mine} order by 1, 2`),
    balances: await rows(`select name_of, total from laurel.points_balances ${mine} order by 1`),
    completions: await rows(`select name_of, achievement_id from laurel.user_achievements ${mine} order by 1, 2`),
    entries: await rows(`select name_of, leaderboard_id, run_on, value from laurel.leaderboard_entries ${mine} order by 1, 2, 3`),
    clocks: await rows(`select name_of, trigger_id, last_tick, next_due_at - started_at as wait from laurel_private.user_clocks ${mine} order by 1, 2`),
  };
}

const zones = ["Asia/Tokyo", "America/New_York", "Europe/London", "Pacific/Kiritimati"] as const;

/** Statements of lines about a few users, in each of whom a user has one time zone, or none is told. */
function statements(seed: number): readonly (readonly Line[])[] {
  const random = randomFrom(seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const users = ["ada", "ben", "cyd", "dan"] as const;
  let day = 0;
  return Array.from({ length: 5 }, () => {
    const zoneOf = new Map(users.map((user) => [user, random() < 0.3 ? null : pick(zones)]));
    return Array.from({ length: 12 }, () => {
      day += random() < 0.3 ? 1 : 0;
      const user = pick(users);
      const late = random() < 0.2 ? 3 : 0;
      return {
        user,
        metric: pick(["commits", "commits", "pages"]),
        value: pick([1, 1, 2, 0, -1, "2.5"]),
        attributes: random() < 0.5 ? { kind: pick(["gold", "tin"]) } : {},
        at: new Date(Date.UTC(2026, 0, 10 + day - late, pick([0, 4, 12, 15, 23]), 30)).toISOString(),
        key: random() < 0.4 ? `k${pick([1, 2, 3, 4])}` : null,
        zone: zoneOf.get(user) ?? null,
      };
    });
  });
}

describe("load_events()", () => {
  test.each([1, 2, 3, 4, 5, 6])("leaves behind what record_event() leaves, line by line (seed %i)", async (seed) => {
    await withRollback(async (db) => {
      await configure(db);
      for (const lines of statements(seed)) {
        const named = (prefix: string): Line[] => lines.map((line) => ({ ...line, user: prefix + line.user }));
        expect(await load(db, named("many"))).toBe(await recordOneByOne(db, named("ones")));
        expect(await kept(db, "many")).toEqual(await kept(db, "ones"));
      }
      expect(await verify(db)).toEqual([]);
    });
  });

  test("adds a new user with its time zone, dated by the first event and by its day there", async () => {
    await withRollback(async (db) => {
      await configure(db);
      await load(db, [
        { user: "yuki", metric: "commits", at: "2026-01-31T20:00:00Z", zone: "Asia/Tokyo" },
        { user: "yuki", metric: "commits", at: "2026-01-30T20:00:00Z", zone: "Asia/Tokyo" },
      ]);
      const awards = await db.query(
        "select cause, points::int, occurred_at = '2026-01-31 20:00+00' as is_dated from laurel.points_awards where user_id = 'yuki' order by sequence limit 2",
      );
      expect(awards.rows).toEqual([
        { cause: "user_creation", points: 20, is_dated: true },
        { cause: "metric", points: 2, is_dated: true },
      ]);
      const periods = await db.query(
        "select period_start::text as day from laurel_private.streak_periods where user_id = 'yuki' order by 1",
      );
      expect(periods.rows).toEqual([{ day: "2026-01-31" }, { day: "2026-02-01" }]);
    });
  });

  test("fills in what is null as an INSERT does, and returns how many rows were no replays", async () => {
    await withRollback(async (db) => {
      await configure(db);
      expect(
        await load(db, [
          { user: "ada", metric: "commits", key: "a", zone: null },
          { user: "ada", metric: "commits", key: "a", zone: null },
          { user: "ben", metric: "commits", zone: null },
        ]),
      ).toBe(2);
      const found = await db.query(
        "select user_id, value::int, attributes, occurred_at = now() as is_now from laurel.metric_events order by user_id",
      );
      expect(found.rows).toEqual(["ada", "ben"].map((user_id) => ({ user_id, value: 1, attributes: {}, is_now: true })));
      expect(await load(db, [])).toBe(0);
    });
  });

  test("takes no time zone from a replay, whether it is one or not", async () => {
    await withRollback(async (db) => {
      await configure(db);
      await aUser(db, { id: "ada", tz: "Europe/London" });
      await load(db, [{ user: "ada", metric: "commits", key: "a", zone: null }]);
      expect(
        await load(db, [
          { user: "ada", metric: "commits", key: "a", zone: "Asia/Tokyo" },
          { user: "ada", metric: "commits", key: "b", zone: null },
        ]),
      ).toBe(1);
      expect(await load(db, [{ user: "ada", metric: "commits", key: "a", zone: "Mars/Base" }])).toBe(0);
      const found = await db.query("select tz from laurel.users where id = 'ada'");
      expect(found.rows).toEqual([{ tz: "Europe/London" }]);
    });
  });

  test.each<[string, string, Partial<Line>]>([
    ["LR003", "an unknown metric", { metric: "nothing" }],
    ["LR010", "no user", { user: "" }],
    ["LR011", "too large a value", { value: "1000000000000000" }],
    ["LR012", "an undeclared attribute", { attributes: { colour: "red" } }],
    ["LR014", "an empty key", { key: "" }],
    ["LR015", "a far future", { at: "2999-01-01T00:00:00Z" }],
    ["LR016", "a new user's unknown time zone", { zone: "Mars/Base" }],
    ["LR016", "a known user's unknown time zone", { user: "known", zone: "Mars/Base" }],
  ])("refuses all with %s for %s", async (code, _name, wrong) => {
    await withRollback(async (db) => {
      await configure(db);
      await aUser(db, { id: "known", tz: "Europe/London" });
      const good: Line = { user: "ada", metric: "commits", zone: null };
      await db.query("savepoint before");
      await expect(load(db, [good, { user: "bad", metric: "commits", zone: null, ...wrong }, good])).rejects.toMatchObject({ code });
      await db.query("rollback to before");
    });
  });

  test("is refused where the session's tenant is unknown", async () => {
    await withRollback(async (db) => {
      await configure(db);
      await db.query("set local laurel.tenant = 'nobody'");
      await expect(load(db, [{ user: "ada", metric: "commits", zone: null }])).rejects.toMatchObject({ code: "LR001" });
    });
  });
});
