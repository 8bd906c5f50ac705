import { beforeEach, describe, expect, test } from "@jest/globals";
import { staysInOne } from "../../support/clocks.ts";
import { withRollback } from "../../support/database.ts";
import { actFor, as, first, ledger, record, refusal, steps, total, verify } from "../../support/engine.ts";
import {
  aBoost,
  aMetric,
  anAttribute,
  aSystem,
  aTenant,
  aTrigger,
  aUser,
  type Database,
  type System,
  type Trigger,
  type User,
} from "../../support/factories.ts";

/** Rules TR5, Q4: ticks. Clocks are set back in time here, since the database's own clock decides when they start. */

beforeEach(() => staysInOne("hour"));

const run = async (db: Database, asOf: string, most: number | null = null): Promise<number> =>
  Number(first((await db.query<{ count: string }>("select laurel.run_due_time_triggers($1, $2) as count", [asOf, most])).rows).count);

/** An activation or a user from long ago. */
async function setBack(db: Database, what: Trigger | User, moment: string): Promise<void> {
  if ("points" in what) {
    await db.query(
      `update laurel_private.time_trigger_spans set activated_at = $2, begins_at = $2, looks_from = $2 where trigger_id = $1`,
      [what.id, moment],
    );
    await db.query("delete from laurel_private.user_clocks where trigger_id = $1", [what.id]);
  } else {
    await db.query("update laurel.users set created_at = $2 where id = $1", [what.id, moment]);
  }
}

const dates = async (db: Database, user: string, system: System): Promise<string[]> =>
  (await ledger(db, user, system)).map((row) => row.occurred_at.toISOString());

async function aClock(
  db: Database,
  values: {
    points?: number;
    max?: number | null;
    every?: readonly [number, "hours" | "days"];
    tz?: string;
    since?: string;
    created?: string;
    filter?: Record<string, string>;
  } = {},
): Promise<{ system: System; trigger: Trigger; user: User }> {
  const system = await aSystem(db, { max_points: values.max ?? null });
  const user = await aUser(db, values.tz === undefined ? {} : { tz: values.tz });
  const [time_interval, time_unit] = values.every ?? [1, "hours"];
  const trigger = await aTrigger(db, {
    system, type: "time", points: values.points ?? 1, time_unit, time_interval,
    ...(values.filter === undefined ? {} : { user_attributes: values.filter }),
  });
  const since = values.since ?? "2024-01-01T00:00:00Z";
  await setBack(db, user, values.created ?? since);
  await setBack(db, trigger, since);
  return { system, trigger, user };
}

describe("when ticks are due", () => {
  test("tick k comes k × N hours after the activation, dated then, and is applied once", async () => {
    await withRollback(async (db) => {
      const { system, user } = await aClock(db, { points: 5, every: [6, "hours"], since: "2024-01-01T10:00:00Z" });
      expect(await run(db, "2024-01-01T15:59:59Z")).toBe(0);
      expect(await run(db, "2024-01-01T16:00:00Z")).toBe(1);
      expect(await run(db, "2024-01-01T16:00:00Z")).toBe(0);
      expect(await run(db, "2023-06-01T00:00:00Z")).toBe(0);
      expect(await run(db, "2024-01-02T10:00:00Z")).toBe(3);
      expect(await dates(db, user.id, system)).toEqual([
        "2024-01-01T16:00:00.000Z", "2024-01-01T22:00:00.000Z", "2024-01-02T04:00:00.000Z", "2024-01-02T10:00:00.000Z",
      ]);
      const rows = await db.query("select tick::int, cause, firings::int, trigger_points from laurel.points_awards where user_id = $1 order by id", [user.id]);
      expect(rows.rows).toEqual([1, 2, 3, 4].map((tick) => ({ tick, cause: "time", firings: 1, trigger_points: 5 })));
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a user who came after the activation has a clock that starts with the user", async () => {
    await withRollback(async (db) => {
      const { system, user } = await aClock(db, { since: "2024-01-01T00:00:00Z", created: "2024-01-05T12:30:00Z" });
      expect(await run(db, "2024-01-05T14:00:00Z")).toBe(1);
      expect(await dates(db, user.id, system)).toEqual(["2024-01-05T13:30:00.000Z"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("days keep the local time of day when clocks change; hours do not", async () => {
    await withRollback(async (db) => {
      // 2024-03-10 02:00 EST becomes 03:00 EDT. Started Friday 8th at 09:15 local.
      const days = await aClock(db, { every: [1, "days"], tz: "America/New_York", since: "2024-03-08T14:15:00Z" });
      expect(await run(db, "2024-03-12T00:00:00Z")).toBe(3);
      expect(await dates(db, days.user.id, days.system)).toEqual([
        "2024-03-09T14:15:00.000Z", "2024-03-10T13:15:00.000Z", "2024-03-11T13:15:00.000Z",
      ]);
    });
    await withRollback(async (db) => {
      const hours = await aClock(db, { every: [24, "hours"], tz: "America/New_York", since: "2024-03-08T14:15:00Z" });
      await run(db, "2024-03-12T00:00:00Z");
      expect(await dates(db, hours.user.id, hours.system)).toEqual([
        "2024-03-09T14:15:00.000Z", "2024-03-10T14:15:00.000Z", "2024-03-11T14:15:00.000Z",
      ]);
    });
  });

  test("local times that a change skips or repeats are PostgreSQL's, and the day after is as usual", async () => {
    await withRollback(async (db) => {
      // 02:30 local does not exist on 2024-03-10: at time zone reads it as EST, 07:30 UTC, which is 03:30 EDT.
      const skipped = await aClock(db, { every: [1, "days"], tz: "America/New_York", since: "2024-03-09T07:30:00Z" });
      // 01:30 local comes twice on 2024-11-03: the second, in EST, 06:30 UTC.
      const repeated = await aClock(db, { every: [1, "days"], tz: "America/New_York", since: "2024-11-02T05:30:00Z" });
      await run(db, "2024-03-11T12:00:00Z");
      expect(await dates(db, skipped.user.id, skipped.system)).toEqual(["2024-03-10T07:30:00.000Z", "2024-03-11T06:30:00.000Z"]);
      await run(db, "2024-11-04T12:00:00Z");
      expect(await dates(db, repeated.user.id, repeated.system)).toEqual(["2024-11-03T06:30:00.000Z", "2024-11-04T06:30:00.000Z"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("intervals beyond all calendars never come due", async () => {
    await withRollback(async (db) => {
      await aClock(db, { every: [2147483647, "days"] });
      await aClock(db, { every: [2147483647, "hours"] });
      expect(await run(db, "2100-01-01T00:00:00Z")).toBe(0);
      expect(await refusal(db, () => run(db, "infinity"))).toMatchObject({ code: "LR023" });
      expect(await run(db, "-infinity")).toBe(0);
    });
  });
});

describe("what a tick does", () => {
  test("awards up to the cap, deducts down to 0, and writes nothing when it changes nothing", async () => {
    await withRollback(async (db) => {
      const up = await aClock(db, { points: 4, max: 10 });
      const down = await aClock(db, { points: -4 });
      await db.query("select laurel.adjust_points($1, $2, 6, 'a start')", [down.system.key, down.user.id]);
      await db.query("update laurel_private.user_clocks set last_tick = 0, next_due_at = '2024-01-01T01:00:00Z' where trigger_id = $1", [down.trigger.id]);
      await run(db, "2024-01-02T00:00:00Z");
      expect(await steps(db, up.user.id, up.system)).toEqual(["0 +4 4", "4 +4 8", "8 +2 10"]);
      expect(await steps(db, down.user.id, down.system)).toEqual(["0 +6 6", "6 -4 2", "2 -2 0"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("its boosts are judged at the tick, in the user's time zone", async () => {
    await withRollback(async (db) => {
      const { system, user } = await aClock(db, { points: 3, every: [1, "days"], tz: "Asia/Tokyo", since: "2024-05-01T16:00:00Z" });
      // The 4th in Tokyo begins at 15:00 UTC on the 3rd: the tick of the 2nd at 16:00 UTC is on the 3rd there.
      await aBoost(db, { system, multiplier: "1.5", rounding: "up", starts_on: "2024-05-04", ends_on: "2024-05-04" });
      await run(db, "2024-05-05T00:00:00Z");
      expect(await steps(db, user.id, system)).toEqual(["0 +3 3", "3 +5 8", "8 +3 11"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a change of attributes or time zone is felt by the ticks after it, however late they are applied", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { system, user } = await aClock(db, { filter: { plan: "pro" } });
      await db.query("select laurel.identify_user($1, '{\"attributes\": {\"plan\": \"pro\"}}')", [user.id]);
      // As if it had been pro since the start.
      await db.query("update laurel_private.user_clocks set last_tick = 0, next_due_at = '2024-01-01T01:00:00Z'");
      const dueNow = Number(first((await db.query<{ n: string }>("select floor(extract(epoch from now() - '2024-01-01T00:00:00Z') / 3600) as n")).rows).n);
      await db.query("select laurel.identify_user($1, '{\"attributes\": {\"plan\": \"free\"}}')", [user.id]);
      expect(await total(db, user.id, system)).toBe(String(dueNow));
      expect(await run(db, new Date(Date.now() + 10 * 3_600_000).toISOString())).toBeGreaterThan(0);
      expect(await total(db, user.id, system)).toBe(String(dueNow));
      expect(await verify(db)).toEqual([]);
    });
  });

  test("triggers of one user take turns by their moments", async () => {
    await withRollback(async (db) => {
      const { system, user, trigger } = await aClock(db, { points: 10, every: [2, "hours"] });
      const other = await aTrigger(db, { system, type: "time", points: -7, time_unit: "hours", time_interval: 3 });
      await setBack(db, other, "2024-01-01T00:00:00Z");
      expect(trigger.id < other.id).toBe(true);
      // 2 h +10, 3 h −7, 4 h +10, 6 h +10 and then −7. The deduction rested until the first award.
      await run(db, "2024-01-01T06:00:00Z");
      expect(await steps(db, user.id, system)).toEqual(["0 +10 10", "10 -7 3", "3 +10 13", "13 +10 23", "23 -7 16"]);
      expect(await verify(db)).toEqual([]);
    });
  });
});

describe("clocks that rest", () => {
  const clocks = async (db: Database) =>
    (await db.query<{ last_tick: string; rests: boolean }>("select last_tick::int, next_due_at is null as rests from laurel_private.user_clocks")).rows;

  test("a full balance has none until it is spent from; then the next tick is the next by the clock", async () => {
    await withRollback(async (db) => {
      const spend = await aMetric(db);
      const system = await aSystem(db, { max_points: 10 });
      await aTrigger(db, { system, type: "user_creation", points: 10 });
      await aTrigger(db, { system, metric: spend, points: -1 });
      await db.query("select laurel.identify_user('ada')");
      const trigger = await aTrigger(db, { system, type: "time", points: 1, time_unit: "hours", time_interval: 1 });
      await setBack(db, { id: "ada", tz: null, attributes: {} }, "2024-01-01T00:00:00Z");
      await setBack(db, trigger, "2024-01-01T00:00:00Z");
      expect(await run(db, "2024-06-01T00:00:00Z")).toBe(0);
      expect(await clocks(db)).toEqual([]);
      await record(db, { metric: spend.key, user: "ada", value: 3 });
      const now = Date.now();
      const hour = 3_600_000;
      // Nothing of the years at a full balance; from now on an hour each.
      expect(await run(db, new Date(now).toISOString())).toBe(0);
      await run(db, new Date(now + 5 * hour).toISOString());
      expect(await total(db, "ada", system)).toBe("10");
      const rows = (await ledger(db, "ada", system)).filter((row) => row.cause === "time");
      expect(rows.map((row) => row.occurred_at.getTime() % hour)).toEqual([0, 0, 0]);
      expect(rows[0]?.occurred_at.getTime()).toBe(Math.ceil(now / hour) * hour);
      expect((await clocks(db)).map(({ rests }) => rests)).toEqual([true]);
      // What was applied ahead of time is not applied again.
      await record(db, { metric: spend.key, user: "ada", value: 5 });
      expect(await run(db, new Date(now + 5 * hour).toISOString())).toBe(0);
      expect(await run(db, new Date(now + 6 * hour).toISOString())).toBe(1);
      expect(await total(db, "ada", system)).toBe("6");
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a raised cap and a wider filter start them again", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { system, user, trigger } = await aClock(db, { points: 1, max: 2 });
      await run(db, "2024-01-02T00:00:00Z");
      expect(await total(db, user.id, system)).toBe("2");
      await db.query("update laurel.points_systems set max_points = 5 where id = $1", [system.id]);
      const ahead = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();
      expect(await run(db, ahead(0))).toBe(0);
      await run(db, ahead(2));
      expect(await total(db, user.id, system)).toBe("4");
      await db.query("update laurel.points_triggers set user_attributes = '{\"plan\": \"pro\"}' where id = $1", [trigger.id]);
      await run(db, ahead(20));
      expect(await total(db, user.id, system)).toBe("4");
      await db.query("update laurel.points_triggers set user_attributes = '{}' where id = $1", [trigger.id]);
      await run(db, ahead(21));
      expect(await total(db, user.id, system)).toBe("5");
      expect(await verify(db)).toEqual([]);
    });
  });
});

describe("activation and deactivation", () => {
  test("what was due before the deactivation is applied after it, nothing later; activation starts anew", async () => {
    await withRollback(async (db) => {
      const { system, user, trigger } = await aClock(db, { points: 1 });
      const set = (status: string) => db.query("update laurel.points_triggers set status = $2 where id = $1", [trigger.id, status]);
      await run(db, "2024-01-01T02:30:00Z");
      await set("inactive");
      await db.query("update laurel_private.time_trigger_spans set ends_at = '2024-01-01T05:30:00Z' where trigger_id = $1", [trigger.id]);
      expect(await run(db, "2024-03-01T00:00:00Z")).toBe(3);
      expect(await total(db, user.id, system)).toBe("5");
      await set("active");
      const now = Date.now();
      expect(await run(db, new Date(now + 3_500_000).toISOString())).toBe(0);
      expect(await run(db, new Date(now + 3_601_000).toISOString())).toBe(1);
      expect((await ledger(db, user.id, system)).map((row) => row.sequence)).toEqual(["1", "2", "3", "4", "5", "6"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a tick is judged by the rule of its moment; another interval starts the clock anew", async () => {
    await withRollback(async (db) => {
      const { system, user, trigger } = await aClock(db, { points: 1 });
      await db.query("update laurel.points_triggers set points = 10 where id = $1", [trigger.id]);
      await db.query(
        `update laurel_private.time_trigger_spans set ends_at = '2024-01-01T02:30:00Z' where trigger_id = $1 and ends_at is not null`, [trigger.id]);
      await db.query(
        `update laurel_private.time_trigger_spans set begins_at = '2024-01-01T02:30:00Z', looks_from = '2024-01-01T00:00:00Z' where trigger_id = $1 and ends_at is null`, [trigger.id]);
      await run(db, "2024-01-01T04:00:00Z");
      expect(await steps(db, user.id, system)).toEqual(["0 +1 1", "1 +1 2", "2 +10 12", "12 +10 22"]);
      await db.query("update laurel.points_triggers set time_interval = 2 where id = $1", [trigger.id]);
      const found = await db.query<{ n: string }>("select count(distinct activated_at) as n from laurel_private.time_trigger_spans where trigger_id = $1", [trigger.id]);
      expect(first(found.rows).n).toBe("2");
      expect(await verify(db)).toEqual([]);
    });
  });

  test("an archived system's clocks stop, after what was due before", async () => {
    await withRollback(async (db) => {
      const { system, user } = await aClock(db, { since: new Date(Date.now() - 90 * 60_000).toISOString() });
      await db.query("update laurel.points_systems set archived_at = now() where id = $1", [system.id]);
      await run(db, "2040-01-01T00:00:00Z");
      expect((await ledger(db, user.id, system)).length).toBe(1);
    });
  });

  test.each([
    ["deactivated", "update laurel.points_triggers set status = 'inactive' where system_id = $1"],
    ["edited", "update laurel.points_triggers set points = 2 where system_id = $1"],
    ["given another interval", "update laurel.points_triggers set time_interval = 2 where system_id = $1"],
    ["narrowed to other users", `update laurel.points_triggers set user_attributes = '{"plan": "pro"}' where system_id = $1`],
    ["capped otherwise", "update laurel.points_systems set max_points = 100 where id = $1"],
    ["archived with its system", "update laurel.points_systems set archived_at = now() where id = $1"],
  ])("what was due before anybody looked is applied when the trigger is %s", async (_how, change) => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { system, user } = await aClock(db, { since: new Date(Date.now() - 24.5 * 3_600_000).toISOString() });
      await db.query(change, [system.id]);
      await db.query("select laurel_private.remove_expired(now() + interval '40 days')");
      const now = new Date().toISOString();
      expect(await run(db, now)).toBe(24);
      expect(await run(db, now)).toBe(0);
      expect((await ledger(db, user.id, system)).at(-1)?.total_after).toBe("24");
      await db.query("select laurel_private.remove_expired(now() + interval '40 days')");
      const left = await db.query(
        `select from laurel_private.time_trigger_spans p where not p.is_over and not exists (
           select from laurel_private.time_trigger_spans o
           where (o.trigger_id, o.activated_at) = (p.trigger_id, p.activated_at) and o.ends_at is null)`);
      expect(left.rows).toEqual([]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("who matches only since a change of profile gets nothing for the time before, though nobody had looked", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const { system, user } = await aClock(db, { since: new Date(Date.now() - 24.5 * 3_600_000).toISOString(), filter: { plan: "pro" } });
      await db.query("select laurel.identify_user($1, $2)", [user.id, JSON.stringify({ attributes: { plan: "pro" } })]);
      expect(await run(db, new Date().toISOString())).toBe(0);
      expect(await run(db, new Date(Date.now() + 3_600_000).toISOString())).toBe(1);
      expect((await ledger(db, user.id, system)).length).toBe(1);
      expect(await verify(db)).toEqual([]);
    });
  });
});

describe("how many and whose", () => {
  test("bounded calls do the same as one", async () => {
    await withRollback(async (db) => {
      const { system } = await aClock(db, { points: 1, max: 30 });
      const users = [];
      for (let n = 0; n < 5; n += 1) {
        const user = await aUser(db);
        await setBack(db, user, "2024-01-01T00:00:00Z");
        users.push(user);
      }
      await db.query("delete from laurel_private.user_clocks");
      const counts: number[] = [];
      for (let count = 7; count === 7; counts.push(count)) count = await run(db, "2024-01-02T02:00:00Z", 7);
      expect(counts.reduce((sum, n) => sum + n)).toBe(6 * 26);
      for (const user of users) {
        expect((await ledger(db, user.id, system)).map((row) => row.occurred_at.toISOString())).toEqual(
          Array.from({ length: 26 }, (_, k) => new Date(Date.UTC(2024, 0, 1, k + 1)).toISOString()),
        );
      }
      expect(await run(db, "2024-01-02T02:00:00Z", 0)).toBe(0);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a service applies its own tenant's ticks only; others may not call it", async () => {
    await withRollback(async (db) => {
      await aClock(db);
      await aTenant(db, "acme");
      await actFor(db, "acme");
      const acme = await aClock(db);
      expect(await as(db, "laurel_service", () => run(db, "2024-01-01T03:00:00Z"))).toBe(3);
      expect((await ledger(db, acme.user.id)).length).toBe(3);
      expect(await run(db, "2024-01-01T03:00:00Z")).toBe(3);
      await db.query("set local role laurel_user");
      expect(await refusal(db, () => run(db, "2024-01-01T03:00:00Z"))).toMatchObject({ code: "42501" });
    });
  });

  test("several activations of one tenant and none of an archived one", async () => {
    await withRollback(async (db) => {
      await aTenant(db, "gone");
      await actFor(db, "gone");
      await aClock(db, { since: new Date().toISOString() });
      await actFor(db, "");
      await db.query("update laurel.tenants set archived_at = now() where customer_id = 'gone'");
      expect(await run(db, "2040-01-01T00:00:00Z")).toBe(0);
    });
  });
});

describe("verify() reports", () => {
  const corruptions: Record<string, readonly [invariant: string, statement: string]> = {
    "a tick applied twice": [
      "ticks_are_applied_once_and_in_order",
      `insert into laurel.points_awards select (jsonb_populate_record(a, jsonb_build_object('id', laurel_private.uuid_v7(), 'sequence', 4,
         'total_before', a.total_before + 2, 'total_after', a.total_after + 2))).* from laurel.points_awards a where sequence = 2`,
    ],
    "ticks in another order": [
      "ticks_are_applied_once_and_in_order",
      `update laurel.points_awards set tick = 4 - tick, occurred_at = occurred_at + (2 - tick) * 2 * interval '1 hour'`,
    ],
    "a tick with another date": [
      "tick_is_dated_when_it_was_due", "update laurel.points_awards set occurred_at = occurred_at + interval '1 second' where sequence = 2",
    ],
    "a clock that would do a tick again": [
      "clock_has_passed_the_ticks_applied", "update laurel_private.user_clocks set last_tick = 2",
    ],
    "a clock that rests though there is something to gain": [
      "user_who_can_gain_or_lose_has_a_running_clock", "update laurel_private.user_clocks set next_due_at = null",
    ],
    "a missing clock": ["user_who_can_gain_or_lose_has_a_running_clock", "delete from laurel_private.user_clocks"],
  };
  test.each(Object.entries(corruptions))("%s", async (_name, [invariant, statement]) => {
    await withRollback(async (db) => {
      const { user } = await aClock(db);
      await run(db, "2024-01-01T03:00:00Z");
      // As when both looks at all users are over.
      await db.query("update laurel_private.time_trigger_spans set looks = 2");
      expect(await verify(db)).toEqual([]);
      await db.query("set local session_replication_role = replica");
      expect((await db.query(statement)).rowCount).toBeGreaterThan(0);
      await db.query("set local session_replication_role = origin");
      expect(await verify(db)).toContainEqual(expect.objectContaining({ invariant, user_id: user.id }));
    });
  });
});
