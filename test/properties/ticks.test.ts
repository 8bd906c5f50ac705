import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { withRollback } from "../support/database.ts";
import { first, ledger, verify } from "../support/engine.ts";
import { aBoost, anAttribute, aSystem, aTrigger, aUser, type Database, type Trigger, type User } from "../support/factories.ts";
import { dueAt, dueBy, TickModel, type TickWorld } from "./tick_model.ts";

/**
 * Ticks against a model (rule TR5): random triggers, zones, caps, filters and boosts; activations, deactivations, edits, adjustments
 * and changes of profile between runs for any moment, past or future, in batches of any size. Repeat a failure with
 * LAUREL_TEST_SEED.
 */

const hour = 3_600_000;
const zones = ["UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Kiritimati"] as const;
const plan = fc.constantFrom("free", "pro");

const trigger = fc.record({
  system: fc.nat(1),
  unit: fc.constantFrom("hours" as const, "hours" as const, "days" as const),
  interval: fc.integer({ min: 3, max: 40 }),
  points: fc.oneof(fc.integer({ min: -9, max: 12 }).filter((n) => n !== 0), fc.constantFrom(-3, -1, 1, 3)),
  plan: fc.option(plan, { nil: null, freq: 2 }),
  /** Half hours before now, never on a tick's moment. */
  activated: fc.integer({ min: 0, max: 60 * 24 }).map((n) => n * hour + hour / 2),
});
const user = fc.record({
  zone: fc.constantFrom(...zones),
  plan,
  created: fc.integer({ min: 0, max: 60 * 24 }).map((n) => n * hour + hour / 3),
});
type Step =
  | { do: "run"; at: number; most: number | null }
  | { do: "adjust"; user: number; system: number; points: number }
  | { do: "profile"; user: number; zone: string; plan: string }
  | { do: "toggle"; trigger: number }
  | { do: "edit"; trigger: number; points: number }
  | { do: "cap"; system: number; max: number | null };
const cap = fc.option(fc.integer({ min: 1, max: 40 }), { nil: null, freq: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("run" as const),
      at: fc.integer({ min: -70 * 24, max: 45 * 24 }).map((n) => n * hour + hour / 7),
      most: fc.option(fc.integer({ min: 30, max: 300 }), { nil: null, freq: 1 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("adjust" as const), user: fc.nat(2), system: fc.nat(1),
      points: fc.integer({ min: -25, max: 25 }).filter((n) => n !== 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("profile" as const), user: fc.nat(2), zone: fc.constantFrom(...zones), plan }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("toggle" as const), trigger: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("edit" as const), trigger: fc.nat(3), points: fc.constantFrom(-4, -1, 2, 5) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cap" as const), system: fc.nat(1), max: cap }) },
);
const world = fc.record({
  triggers: fc.array(trigger, { minLength: 1, maxLength: 4 }),
  users: fc.array(user, { minLength: 1, maxLength: 3 }),
  caps: fc.tuple(cap, cap),
  boost: fc.option(fc.record({ from: fc.integer({ min: -60, max: 60 }), days: fc.integer({ min: 0, max: 30 }) }), { nil: null, freq: 2 }),
  history: fc.array(step, { minLength: 1, maxLength: 10 }),
});

const dayOf = (now: number, days: number): string => new Date(now + days * 24 * hour).toISOString().slice(0, 10);

async function play(db: Database, given: TickWorld & { readonly history: readonly Step[] }): Promise<void> {
  const now = Number(first((await db.query<{ now: string }>("select floor(extract(epoch from now()) * 1000) as now")).rows).now);
  const model = new TickModel(given, now);
  await anAttribute(db, { key: "plan" });
  const systems = [await aSystem(db, { max_points: given.caps[0] }), await aSystem(db, { max_points: given.caps[1] })] as const;
  if (given.boost !== null) {
    await aBoost(db, {
      system: systems[0], multiplier: "1.5", rounding: "up",
      starts_on: dayOf(now, given.boost.from), ends_on: dayOf(now, given.boost.from + given.boost.days),
    });
  }
  const users: User[] = [];
  for (const { zone, plan: carried, created } of given.users) {
    const made = await aUser(db, { tz: zone, attributes: { plan: carried } });
    await db.query("update laurel.users set created_at = $2 where id = $1", [made.id, new Date(now - created)]);
    users.push(made);
  }
  const triggers: Trigger[] = [];
  for (const { system, unit, interval, points, plan: wanted, activated } of given.triggers) {
    const made = await aTrigger(db, {
      system: systems[system as 0 | 1], type: "time", points, time_unit: unit, time_interval: interval,
      ...(wanted === null ? {} : { user_attributes: { plan: wanted } }),
    });
    await db.query(
      "update laurel_private.time_trigger_spans set activated_at = $2, begins_at = $2, looks_from = $2 where trigger_id = $1",
      [made.id, new Date(now - activated)],
    );
    triggers.push(made);
  }
  for (const action of given.history) {
    switch (action.do) {
      case "run": {
        const asOf = now + action.at;
        for (;;) {
          const found = await db.query<{ n: string }>("select laurel.run_due_time_triggers($1, $2) as n", [new Date(asOf), action.most]);
          if (action.most === null || first(found.rows).n === "0") break;
        }
        model.run(asOf);
        break;
      }
      case "adjust": {
        const whom = users[action.user];
        if (whom === undefined) break;
        await db.query("select laurel.adjust_points($1, $2, $3, 'a test')", [systems[action.system as 0 | 1].key, whom.id, action.points]);
        model.adjust(action.user, action.system, action.points);
        break;
      }
      case "profile": {
        const whom = users[action.user];
        if (whom === undefined) break;
        await db.query("select laurel.identify_user($1, $2)", [
          whom.id, JSON.stringify({ tz: action.zone, attributes: { plan: action.plan } })]);
        model.changeProfile(action.user, action.zone, action.plan);
        break;
      }
      case "toggle": {
        const what = triggers[action.trigger];
        if (what === undefined) break;
        await db.query("update laurel.points_triggers set status = case status when 'active' then 'inactive' else 'active' end::laurel.points_trigger_status where id = $1", [what.id]);
        model.toggle(action.trigger);
        break;
      }
      case "edit": {
        const what = triggers[action.trigger];
        if (what === undefined) break;
        await db.query("update laurel.points_triggers set points = $2 where id = $1", [what.id, action.points]);
        model.edit(action.trigger, action.points);
        break;
      }
      case "cap":
        await db.query("update laurel.points_systems set max_points = $2 where id = $1", [systems[action.system as 0 | 1].id, action.max]);
        model.changeCap(action.system, action.max);
        break;
    }
  }
  for (const [no, { id }] of users.entries()) {
    for (const [place, system] of systems.entries()) {
      const rows = (await ledger(db, id, system)).toSorted((a, b) => Number(a.sequence) - Number(b.sequence));
      const expected = model.ledger(no, place);
      expect(rows.map((row, at) => {
        const moment = row.occurred_at.getTime();
        const wanted = expected[at]?.at ?? null;
        return row.cause === "time"
          // What was activated during the test was so some milliseconds later than in the model.
          ? { trigger: triggers.findIndex((made) => made.id === row.trigger_id), points: Number(row.points),
              at: wanted !== null && Math.abs(wanted - moment) < 60_000 ? wanted : moment }
          : { trigger: null, at: null, points: Number(row.points) };
      })).toEqual(expected);
    }
  }
  expect(await verify(db)).toEqual([]);
}

test("the engine's ticks are the model's", async () => {
  const seed = Number(process.env["LAUREL_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  const numRuns = Number(process.env["LAUREL_TEST_RUNS"] ?? 60);
  process.stdout.write(`tick property: seed ${seed}, ${numRuns} runs\n`);
  await fc.assert(
    fc.asyncProperty(world, (given) => withRollback((db) => play(db, given))),
    { seed, numRuns, endOnFailure: false },
  );
}, 600_000);

test("moments of ticks are PostgreSQL's, in every zone and across every change of clocks", async () => {
  await withRollback(async (db) => {
    for (const zone of zones) {
      for (const started of ["2024-03-09T07:30:00Z", "2024-11-02T05:30:00Z", "2024-10-05T15:45:00Z", "2024-03-30T01:15:00Z"]) {
        const start = Date.parse(started);
        const found = await db.query<{ due: Date[]; by: string[] }>(
          `select array_agg(d.due order by k) as due,
             array_agg(laurel_private.ticks_due_by($1, 'days', 1, $2, d.due) order by k) as by
           from generate_series(1, 220) k
           cross join lateral (select laurel_private.tick_due_at($1, 'days', 1, $2, k)) d (due)`,
          [new Date(start), zone],
        );
        const row = first(found.rows);
        const clock = { start, unit: "days" as const, interval: 1 };
        expect(row.due.map((due) => due.getTime())).toEqual(row.due.map((_, k) => dueAt(clock, zone, k + 1)));
        expect(row.by.map(Number)).toEqual(row.due.map((due) => dueBy(clock, zone, due.getTime())));
      }
    }
  });
});
