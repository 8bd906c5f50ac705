import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { withRollback } from "../../support/database.ts";
import { first } from "../../support/engine.ts";
import { aMetric, aUser, type Database, type Metric } from "../../support/factories.ts";
import { type ModelRule, plusDays, StreakModel } from "./model.ts";

/**
 * The engine's streaks against the model: random rules, zones and histories, in time that the test passes in, with
 * late events, freezes, pauses, resets, restorations and moves, and with or without upkeep in between. Repeat a
 * failure with LAUREL_TEST_SEED.
 */

const zones = ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Europe/London", "Asia/Kathmandu"] as const;
/** Around a change of the clocks in New York and London. */
const start = Date.UTC(2031, 2, 1, 9);
const hourMs = 3_600_000;

type Step =
  | { readonly do: "events"; readonly events: readonly { metric: number; value: number; hoursBefore: number }[] }
  | { readonly do: "freeze" | "reset" | "restore" | "upkeep" | "read" }
  | { readonly do: "pause"; readonly after: number; readonly days: number }
  | { readonly do: "move"; readonly zone: string }
  | { readonly do: "days off"; readonly days: readonly number[] };

const event = fc.record({
  metric: fc.nat(1),
  value: fc.constantFrom(1, 1, 2, 3, 0, -1),
  hoursBefore: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 24 * 12 }) }, { weight: 1, arbitrary: fc.integer({ min: -20, max: -1 }) }),
});
const step = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant("events" as const), events: fc.array(event, { minLength: 1, maxLength: 4 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("freeze" as const, "reset" as const, "restore" as const, "upkeep" as const, "read" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pause" as const), after: fc.integer({ min: -1, max: 5 }), days: fc.integer({ min: -1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("move" as const), zone: fc.constantFrom(...zones) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("days off" as const), days: fc.uniqueArray(fc.nat(6), { maxLength: 3 }) }) },
) as fc.Arbitrary<Step>;

const rule: fc.Arbitrary<ModelRule> = fc.record({
  frequency: fc.constantFrom("daily" as const, "daily" as const, "daily" as const, "weekly" as const, "monthly" as const),
  needsAll: fc.boolean(),
  thresholds: fc.oneof(fc.constant([null, null]), fc.tuple(fc.integer({ min: 1, max: 3 }), fc.option(fc.integer({ min: 1, max: 3 }), { nil: null }))),
  freezes: fc.option(fc.record({
    start: fc.nat(2), max: fc.integer({ min: 2, max: 4 }), interval: fc.option(fc.integer({ min: 1, max: 9 }), { nil: null }), amount: fc.integer({ min: 1, max: 3 }),
  }), { nil: null }),
});

const history = fc.record({
  rule,
  zone: fc.constantFrom(...zones),
  daysOff: fc.uniqueArray(fc.nat(6), { maxLength: 2 }),
  steps: fc.array(fc.record({ waitHours: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 24 * 9 })), step }), { minLength: 1, maxLength: 25 }),
});

const seed = Number(process.env["LAUREL_TEST_SEED"] ?? Date.now() % 2_147_483_647);
const runs = Number(process.env["LAUREL_TEST_RUNS"] ?? 60);

test(`streaks are what the model says (seed ${seed}, ${runs} histories)`, async () => {
  await withRollback(async (db) => {
    // Time is passed in here: what follows the real clock is called by hand.
    await db.query("alter table laurel.users disable trigger users__settle_streak");
    const metrics = [await aMetric(db), await aMetric(db)];
    await db.query("insert into laurel.leaderboards (key, name, status, rank_by, starts_on) values ('streaks', 'Streaks', 'active', 'streak', '2031-01-01')");
    await fc.assert(
      fc.asyncProperty(history, async (given) => {
        await db.query("savepoint history");
        try {
          await play(db, metrics, given);
        } finally {
          await db.query("rollback to savepoint history");
        }
      }),
      { seed, numRuns: runs, endOnFailure: false },
    );
  });
}, 600_000);

async function play(
  db: Database, metrics: readonly Metric[],
  given: { rule: ModelRule; zone: string; daysOff: readonly number[]; steps: readonly { waitHours: number; step: Step }[] },
): Promise<void> {
  const { rule } = given;
  const daysOff = rule.frequency === "daily" ? given.daysOff : [];
  await db.query("select laurel.update_streak_settings($1)", [JSON.stringify({
    frequency: rule.frequency, evaluationMode: rule.needsAll ? "AND" : "OR", customizationEnabled: true, daysOff,
    freezes: rule.freezes === null ? null : {
      startCount: rule.freezes.start, maxCount: rule.freezes.max,
      autoEarnInterval: rule.freezes.interval, autoEarnAmount: rule.freezes.interval === null ? null : rule.freezes.amount,
    },
    ...(rule.thresholds.every((threshold) => threshold === null) ? {} : {
      metrics: rule.thresholds.flatMap((threshold, no) => (threshold === null ? [] : [{ key: metrics[no]?.key, threshold }])),
    }),
  })]);
  const user = await aUser(db, { tz: given.zone });
  let now = start;
  const firstDay = first((await db.query<{ day: string }>("select (($1::timestamptz) at time zone $2)::date::text as day", [new Date(now), given.zone])).rows).day;
  await db.query(
    "update laurel_private.user_streaks set settled_on = $2, earned_on = case when earned_on is not null then $2::date end where user_id = $1", [user.id, firstDay]);
  const model = new StreakModel(rule, given.zone, daysOff, firstDay);

  for (const { waitHours, step } of given.steps) {
    now += waitHours * hourMs;
    const at = new Date(now);
    switch (step.do) {
      case "events": {
        const expected = step.events.map((one) => model.event(one.metric, one.value, new Date(now - one.hoursBefore * hourMs), at));
        expect(await engineSteps(db, metrics, user.id, step.events, now)).toEqual(expected);
        break;
      }
      case "freeze":
        expect(await change(db, "freezes", { userId: user.id }, at)).toBe(model.grant(at));
        break;
      case "reset":
        expect(await change(db, "reset", { userId: user.id }, at)).toBe(model.reset(at));
        break;
      case "restore":
        expect(await change(db, "restore", { userId: user.id }, at)).toBe(model.restore(at));
        break;
      case "pause": {
        const from = plusDays(at.toISOString().slice(0, 10), step.after);
        const to = plusDays(from, step.days);
        expect(await change(db, "pauses", { userId: user.id, start: from, end: to }, at)).toBe(model.pause(from, to, at));
        break;
      }
      case "move":
        model.move(step.zone, at);
        await alter(db, user.id, "tz", step.zone, at);
        break;
      case "days off":
        model.settle(at);
        if (rule.frequency === "daily") model.daysOff = step.days;
        await alter(db, user.id, "preferences", JSON.stringify({ streak: { daysOff: step.days } }), at);
        break;
      case "upkeep":
        while (((await db.query("select from laurel_private.upkeep_streaks($1, 1)", [at])).rowCount ?? 0) > 0);
        break;
      case "read":
        break;
    }
    model.settle(at);
    const streak = await read(db, user.id, at);
    const alive = model.alive();
    expect(streak).toMatchObject({ length: alive?.length ?? 0, started: alive?.first ?? null, longest: model.longest });
    expect(await ranked(db, at)).toEqual(alive === undefined ? [] : [{ user_id: user.id, rank: 1, value: String(alive.length) }]);
    if (rule.freezes !== null) expect(streak["freezes"]).toBe(model.freezes);
    const shown = streak["streakHistory"] as { periodStart: string; length: number; usedPause: boolean; usedFreeze?: boolean; resetAt?: string }[];
    for (const [no, period] of model.history(9).entries()) {
      const { resetAt, length, usedPause, usedFreeze, periodStart } = shown[no] ?? { periodStart: "", length: -1, usedPause: false };
      // A period that was reset shows 0, whatever it was.
      expect({ periodStart, usedPause, usedFreeze: usedFreeze ?? false, length: resetAt === undefined ? length : period.length }).toEqual(period);
    }
  }
  // The events went to the log alone: their totals are not this test's matter.
  expect((await db.query("select * from laurel_private.broken_streaks(null) union all select * from laurel_private.broken_leaderboards(null)")).rows).toEqual([]);
}

/** What the engine says of events that happened so many hours before now, given in one statement. */
async function engineSteps(
  db: Database, metrics: readonly Metric[], user: string, events: readonly { metric: number; value: number; hoursBefore: number }[], now: number,
): Promise<unknown[]> {
  const found = await db.query<{ steps: ({ length: number; joined: number[]; extends: boolean } | null)[] | null }>(
    `with stored as (
       insert into laurel_private.metric_event_log (id, tenant_id, user_id, metric_id, metric_key, value, occurred_at)
       select laurel_private.uuid_v7(), laurel.current_tenant_id(), $1, m.id, m.key, e.value, e.at
       from unnest($2::uuid[], $3::numeric[], $4::timestamptz[]) with ordinality as e (metric_id, value, at, no)
       join laurel.metrics m on m.id = e.metric_id order by e.no returning *),
     occasion as (
       select array_agg(('metric', s.id, array_position($5::uuid[], s.metric_id), s.value, '{}', s.occurred_at, null, null, null)::laurel_private.occasion
         order by s.id) as occasions from stored s)
     select to_json(x.steps) as steps
     from occasion o
     cross join lateral unnest(laurel_private.extend_streaks(laurel.current_tenant_id(), $5,
       array[($1, o.occasions)::laurel_private.user_occasions], $6)) x`,
    [
      user, events.map(({ metric }) => metrics[metric]?.id), events.map(({ value }) => value),
      events.map(({ hoursBefore }) => new Date(now - hoursBefore * hourMs)), metrics.map(({ id }) => id), new Date(now),
    ],
  );
  return found.rows[0]?.steps ?? events.map(() => null);
}

async function change(db: Database, operation: string, item: object, at: Date): Promise<boolean> {
  const found = await db.query<{ answer: { done: unknown[] } }>(
    "select laurel_private.change_streaks($1, $2, $3) as answer", [operation, JSON.stringify([{ index: 0, item }]), at]);
  return first(found.rows).answer.done.length === 1;
}

/** A change of the user, judged at this moment. */
async function alter(db: Database, user: string, column: "tz" | "preferences", value: string, at: Date): Promise<void> {
  await db.query(
    `select laurel_private.judge_streak_anew(u, jsonb_populate_record(u, jsonb_build_object($2::text, ${column === "tz" ? "$3::text" : "$3::jsonb"})), $4)
     from laurel.users u where u.id = $1`, [user, column, value, at]);
  await db.query(`update laurel.users set ${column} = $2 where id = $1`, [user, value]);
}

async function read(db: Database, user: string, at: Date): Promise<Record<string, unknown>> {
  const found = await db.query<{ streak: Record<string, unknown> }>(
    "select laurel_private.user_streak_at(u, 9, $2) as streak from laurel.users u where u.id = $1", [user, at]);
  return first(found.rows).streak;
}

/** Who is on the leaderboard of streaks. */
async function ranked(db: Database, at: Date): Promise<unknown[]> {
  const found = await db.query<{ user_id: string; rank: number; value: string }>(
    `select s.user_id, s.rank, s.value from laurel.leaderboards b
     cross join lateral laurel_private.leaderboard_standing(laurel_private.rule_of(b), b.starts_on, '{}', $1) s where b.key = 'streaks'`, [at]);
  return found.rows;
}
