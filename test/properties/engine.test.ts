import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { withRollback } from "../support/database.ts";
import {
  copyEvents,
  type EventInput,
  insertEvents,
  record,
  type Refusal,
  refusal,
  verify,
} from "../support/engine.ts";
import { aBoost, aMetric, anAttribute, aSystem, aTrigger, aUser, type Database, type Trigger } from "../support/factories.ts";
import { decimal, Model, type ModelBoost, type ModelEvent, type ModelTrigger, nano, OutOfPoints, type Outcome } from "./model.ts";

/**
 * The engine against the model: random triggers, boosts and caps, random histories by every way in, and the same
 * totals, peaks, counts and ledger rows, digit by digit. Repeat a failure with LAUREL_TEST_SEED.
 */

const zones = ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Asia/Kathmandu"] as const;
const users = ["u0", "u1", "u2", "u3"] as const;
const plans = ["free", "pro"] as const;
const kinds = ["a", "b"] as const;

/** Null once in so many times. */
const maybe = <T>(arbitrary: fc.Arbitrary<T>, freq = 2) => fc.option(arbitrary, { nil: null, freq });
/** Around a change to summer time in New York. */
const day = fc.integer({ min: 7, max: 13 }).map((date) => `2024-03-${String(date).padStart(2, "0")}`);
const moment = fc
  .integer({ min: 0, max: 6 * 24 * 4 })
  .map((quarters) => new Date(Date.UTC(2024, 2, 7, 12) + quarters * 900_000).toISOString());
/** Mostly small; now and then with all 9 decimals or of all 15 digits. */
const value = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -8, max: 15 }).map((n) => BigInt(n) * nano) },
  { weight: 3, arbitrary: fc.integer({ min: -30, max: 60 }).map((n) => (BigInt(n) * nano) / 10n) },
  { weight: 1, arbitrary: fc.bigInt({ min: -5n * nano, max: 9n * nano }) },
  { weight: 1, arbitrary: fc.constantFrom(1n, -1n, 0n, nano - 1n, 10n ** 24n - 1n, 1n - 10n ** 24n) },
);

const trigger: fc.Arbitrary<ModelTrigger> = fc.record({
  type: fc.constantFrom("metric", "metric", "metric", "user_creation"),
  system: fc.nat(1),
  metric: fc.nat(1),
  every: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(100, 2147483647)),
  points: fc.oneof(
    fc.integer({ min: -12, max: 30 }).filter((n) => n !== 0),
    // Sums that meet: a total that is exactly what a deduction takes.
    fc.constantFrom(-10, -5, -5, -1, 1, 5, 10),
    fc.constantFrom(2147483647, -2147483648),
  ),
  plan: maybe(fc.constantFrom(...plans), 2),
  kind: maybe(fc.constantFrom(...kinds), 2),
  blocks: fc.nat(3).map((n) => n === 0),
  active: fc.nat(4).map((n) => n > 0),
});

const boost: fc.Arbitrary<ModelBoost> = fc
  .record({
    system: fc.nat(1),
    multiplier: fc.oneof(
      fc.constantFrom(5_000, 15_000, 20_000, 30_000, 11_000, 1, 999_999, 3_333),
      fc.integer({ min: 1, max: 999_999 }).filter((n) => n !== 10_000),
    ),
    rounding: fc.constantFrom("down", "nearest", "up"),
    days: fc.tuple(day, maybe(day, 3)),
    for: fc.oneof(
      fc.constant({ user: null, plan: null }),
      fc.constant({ user: "u0", plan: null }),
      fc.constantFrom(...plans).map((plan) => ({ user: null, plan })),
    ),
  })
  .map(({ days: [a, b], for: whom, ...rest }) => ({
    ...rest,
    ...whom,
    startsOn: b !== null && b < a ? b : a,
    endsOn: b !== null && b < a ? a : b,
  }));

const event: fc.Arbitrary<ModelEvent> = fc.record({
  user: fc.constantFrom(...users),
  metric: fc.nat(1),
  nanos: value,
  kind: maybe(fc.constantFrom(...kinds), 4),
  key: maybe(fc.constantFrom("k1", "k2", "k3"), 2),
  at: moment,
  plan: maybe(fc.constantFrom(...plans), 2),
});

type Step =
  | { do: "record"; events: ModelEvent[] }
  | { do: "insert" | "copy"; events: ModelEvent[] }
  | { do: "toggle"; trigger: number }
  | { do: "edit"; trigger: number; points: number; every: number }
  | { do: "cap"; system: number; maxPoints: number | null };

const maxPoints = maybe(fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 30, max: 200 }), fc.constant(2147483647)), 2);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("record" as const), events: fc.array(event, { minLength: 1, maxLength: 4 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom("insert" as const, "insert" as const, "copy" as const),
      // Nothing but record_event() carries a profile.
      events: fc.array(
        event.map((e) => ({ ...e, plan: null })),
        { minLength: 1, maxLength: 25, size: "+1" },
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("toggle" as const), trigger: fc.nat(7) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("edit" as const),
      trigger: fc.nat(7),
      points: fc.integer({ min: -9, max: 9 }).filter((n) => n !== 0),
      every: fc.integer({ min: 1, max: 9 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cap" as const), system: fc.nat(1), maxPoints }) },
);

const world = fc.record({
  caps: fc.tuple(maxPoints, maxPoints),
  triggers: fc.array(trigger, { minLength: 1, maxLength: 7, size: "+1" }),
  boosts: fc.array(boost, { maxLength: 4 }),
  zones: fc.tuple(fc.constantFrom(...zones), fc.constantFrom(...zones)),
  plan: maybe(fc.constantFrom(...plans), 2),
  history: fc.array(step, { minLength: 1, maxLength: 14, size: "+1" }),
});

type World = typeof world extends fc.Arbitrary<infer T> ? T : never;

function toInput(given: ModelEvent): EventInput {
  return {
    metric: `m${given.metric}`,
    user: given.user,
    value: decimal(given.nanos, 9),
    attributes: given.kind === null ? {} : { kind: given.kind },
    key: given.key,
    at: given.at,
    ...(given.plan === null ? {} : { profile: { attributes: { plan: given.plan } } }),
  };
}

/** The events by the model; null when it refuses them. */
function byModel(model: Model, events: readonly ModelEvent[]): Outcome[] | null {
  try {
    return model.recordAll(events);
  } catch (error) {
    if (error instanceof OutOfPoints) return null;
    throw error;
  }
}

async function attempt<T>(db: Database, work: () => Promise<T>): Promise<T | Refusal> {
  let result: { value: T } | undefined;
  const refused = await refusal(db, async () => {
    result = { value: await work() };
    await db.query("release savepoint refusal");
  }).catch((error: unknown) => {
    if (result === undefined) throw error;
    return undefined;
  });
  return refused ?? (result as { value: T }).value;
}

test("the database does what the model does, whatever the rules and the history", async () => {
  const seed = Number(process.env["LAUREL_TEST_SEED"] ?? Date.now() % 2 ** 31);
  const numRuns = Number(process.env["LAUREL_TEST_RUNS"] ?? 100);
  process.stdout.write(`engine property: seed ${seed}, ${numRuns} runs\n`);
  await fc.assert(
    fc.asyncProperty(world, async (given) => withRollback((db) => compare(db, given))),
    { seed, numRuns },
  );
}, 240_000);

async function compare(db: Database, given: World): Promise<void> {
  await anAttribute(db, { key: "plan", type: "user" });
  await anAttribute(db, { key: "kind", type: "event" });
  const metrics = [await aMetric(db, { key: "m0" }), await aMetric(db, { key: "m1" })] as const;
  const systems = [
    await aSystem(db, { key: "s0", max_points: given.caps[0] }),
    await aSystem(db, { key: "s1", max_points: given.caps[1] }),
  ] as const;
  const model = new Model(structuredClone(given.triggers), given.boosts, [...given.caps]);
  for (const [n, zone] of given.zones.entries()) {
    const id = `u${n}`;
    await aUser(db, { id, tz: zone, attributes: given.plan === null ? {} : { plan: given.plan } });
    model.users.set(id, { zone, plan: given.plan });
  }
  const triggers: Trigger[] = [];
  for (const each of given.triggers)
    triggers.push(
      await aTrigger(db, {
        system: systems[each.system as 0 | 1],
        type: each.type,
        metric: metrics[each.metric as 0 | 1],
        every: each.every,
        points: each.points,
        status: each.active ? "active" : "inactive",
        user_attributes: each.plan === null ? {} : { plan: each.plan },
        ...(each.type === "metric" && each.kind !== null ? { event_attributes: { kind: each.kind } } : {}),
        block_if_out_of_points: each.blocks && each.points < 0,
      }),
    );
  for (const each of given.boosts)
    await aBoost(db, {
      system: systems[each.system as 0 | 1],
      multiplier: decimal(BigInt(each.multiplier), 4),
      rounding: each.rounding,
      starts_on: each.startsOn,
      ends_on: each.endsOn,
      user_attributes: each.plan === null ? {} : { plan: each.plan },
      ...(each.user === null ? {} : { user_id: each.user }),
    });

  for (const each of given.history) {
    switch (each.do) {
      case "record":
        for (const one of each.events) {
          const expected = byModel(model, [one]);
          const found = await attempt(db, () => record(db, toInput(one)));
          if (expected === null) {
            expect(found).toMatchObject({ code: "LR030" });
            continue;
          }
          const awards = expected[0]?.awards ?? [];
          const entries = systems.flatMap((system, no) => {
            const own = awards.filter((award) => award.system === no);
            if (own.length === 0) return [];
            const added = own.reduce((sum, award) => sum + award.points, 0n);
            return [[system.key, { total: Number(own.at(-1)?.after), added: Number(added) }] as const];
          });
          expect(found).toMatchObject({
            idempotentReplayed: expected[0] === null,
            points: Object.fromEntries(entries),
          });
          expect(Object.keys((found as { points: object }).points)).toHaveLength(entries.length);
        }
        break;
      case "insert":
      case "copy": {
        const give = each.do === "copy" ? copyEvents : insertEvents;
        const expected = byModel(model, each.events);
        const found = await attempt(db, () => give(db, each.events.map(toInput)));
        if (expected === null) expect(found).toMatchObject({ code: "LR030" });
        else expect(found).toBeUndefined();
        break;
      }
      case "toggle": {
        const no = each.trigger % triggers.length;
        const target = model.triggers[no];
        if (target === undefined) break;
        target.active = !target.active;
        await db.query("update laurel.points_triggers set status = $2 where id = $1", [
          triggers[no]?.id,
          target.active ? "active" : "inactive",
        ]);
        break;
      }
      case "edit": {
        const no = each.trigger % triggers.length;
        const target = model.triggers[no];
        // A blocking trigger stays a deduction; a user_creation trigger has no threshold.
        if (target === undefined || target.blocks || target.type !== "metric") break;
        target.points = each.points;
        target.every = each.every;
        await db.query("update laurel.points_triggers set points = $2, metric_threshold = $3 where id = $1", [
          triggers[no]?.id,
          each.points,
          each.every,
        ]);
        break;
      }
      case "cap":
        model.maxPoints[each.system] = each.maxPoints;
        await db.query("update laurel.points_systems set max_points = $2 where id = $1", [
          systems[each.system as 0 | 1].id,
          each.maxPoints,
        ]);
        break;
    }
  }

  const awards = await db.query(
    `select user_id, system_key, sequence, cause::text, trigger_id,
       to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, base_points::text as base,
       trim_scale(boost_multiplier)::text as product, rounding::text, rounded_points::text as rounded, points,
       total_before as before, total_after as after
     from laurel.points_awards order by user_id, system_key, sequence`,
  );
  const byPlace = model.awards.map((award) => ({
    user_id: award.user,
    system_key: `s${award.system}`,
    sequence: String(award.sequence),
    cause: award.cause,
    trigger_id: triggers[award.trigger]?.id,
    at: award.at,
    base: String(award.base),
    product: decimal(award.product, 4 * award.boosts),
    rounding: award.rounding,
    rounded: String(award.rounded),
    points: String(award.points),
    before: String(award.before),
    after: String(award.after),
  }));
  byPlace.sort((a, b) =>
    a.user_id !== b.user_id
      ? a.user_id < b.user_id ? -1 : 1
      : a.system_key !== b.system_key
        ? a.system_key < b.system_key ? -1 : 1
        : Number(a.sequence) - Number(b.sequence),
  );
  expect(awards.rows).toEqual(byPlace);

  const totals = await db.query<{ user_id: string; metric_key: string; total: string; peak: string }>(
    "select user_id, metric_key, trim_scale(total)::text as total, trim_scale(peak)::text as peak from laurel.user_metrics",
  );
  expect(
    new Map(totals.rows.map((row) => [`${row.user_id} ${row.metric_key.slice(1)}`, `${row.total} ${row.peak}`])),
  ).toEqual(new Map([...model.metrics].map(([place, count]) => [place, `${decimal(count.total, 9)} ${decimal(count.peak, 9)}`])));

  const counts = await db.query<{ user_id: string; trigger_id: string; count: string; peak: string }>(
    "select user_id, trigger_id, trim_scale(count)::text as count, trim_scale(peak)::text as peak from laurel.points_trigger_counts",
  );
  expect(
    new Map(
      counts.rows
        .filter((row) => row.count !== "0" || row.peak !== "0")
        .map((row) => [
          `${row.user_id} ${triggers.findIndex((each) => each.id === row.trigger_id)}`,
          `${row.count} ${row.peak}`,
        ]),
    ),
  ).toEqual(
    new Map(
      [...model.counts]
        .filter(([, count]) => count.total !== 0n || count.peak !== 0n)
        .map(([place, count]) => [place, `${decimal(count.total, 9)} ${decimal(count.peak, 9)}`]),
    ),
  );

  const balances = await db.query<{ user_id: string; system_key: string; total: string; last_sequence: string }>(
    "select user_id, system_key, total, last_sequence from laurel.points_balances",
  );
  expect(
    new Map(balances.rows.map((row) => [`${row.user_id} ${row.system_key.slice(1)}`, `${row.total} ${row.last_sequence}`])),
  ).toEqual(new Map([...model.balances].map(([place, balance]) => [place, `${balance.total} ${balance.sequence}`])));

  const events = await db.query<{ n: string }>("select count(*) as n from laurel.metric_events");
  expect(events.rows).toEqual([{ n: String(model.events) }]);
  expect(await verify(db)).toEqual([]);
}
