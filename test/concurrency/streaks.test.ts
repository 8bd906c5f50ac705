import { afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { first, insertEvents, record, steps, verify } from "../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database, type Metric, type System, unique } from "../support/factories.ts";
import { openTransaction, startAndBlock } from "../support/races.ts";

/** Streaks under real connections: the second caller is seen waiting before the first one ends. Rules S1, S2, S3, TR3. */

let database: TestDatabase;
let metric: Metric;
let system: System;
let user: string;

const daysAgo = (days: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * 86_400_000).toISOString();
};

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  await owner.query("select laurel.update_streak_settings($1)", [{ freezes: { startCount: 0, maxCount: 3 } }]);
  metric = await aMetric(owner);
  system = await aSystem(owner);
  await aTrigger(owner, { system, type: "streak", points: 10, streak_length: 3 });
});

/** Everybody was here on the two days before today. */
beforeEach(async () => {
  user = unique("racer");
  await insertEvents(database.pools.owner, [2, 1].map((days) => ({ metric: metric.key, user, at: daysAgo(days) })));
});

afterEach(async () => {
  expect(await verify(database.pools.owner)).toEqual([]);
});

interface Streak {
  readonly length: number;
  readonly freezes?: number;
}

const streakOf = async (db: Database): Promise<Streak> =>
  first((await db.query<{ streak: Streak }>("select laurel.user_streak($1, 0) as streak", [user])).rows).streak;

const change = async (db: Database, operation: string, item: object = {}): Promise<{ issues: unknown[] }> =>
  first((await db.query<{ answer: { issues: unknown[] } }>(
    "select laurel_private.change_streaks($1, $2) as answer",
    [operation, JSON.stringify([{ index: 0, item: { userId: user, ...item } }])],
  )).rows).answer;

const event = (db: Database): Promise<unknown> => record(db, { metric: metric.key, user });
const insert = (db: Database): Promise<unknown> => insertEvents(db, [{ metric: metric.key, user }]);

describe("two first events of a day", () => {
  test.each([
    ["record_event()", "record_event()", event, event],
    ["record_event()", "an INSERT", event, insert],
    ["an INSERT", "record_event()", insert, event],
    ["an INSERT", "an INSERT", insert, insert],
  ])("%s and %s: the day counts once, the trigger fires once", async (_, __, one, two) => {
    const { owner, service } = database.pools;
    const holder = await openTransaction(service);
    await one(holder.client);
    const waiter = await startAndBlock(service, owner, two);
    await holder.end("commit");
    const answer = await waiter.result;
    if (answer !== undefined) expect(answer).toMatchObject({ total: 4, points: {}, currentStreak: { length: 3, extended: false } });
    expect(await streakOf(owner)).toMatchObject({ length: 3 });
    expect(await steps(owner, user, system)).toEqual(["0 +10 10"]);
  });

  test("the second is the first when the first is rolled back", async () => {
    const { owner, service } = database.pools;
    const holder = await openTransaction(service);
    await event(holder.client);
    const waiter = await startAndBlock(service, owner, event);
    await holder.end("rollback");
    expect(await waiter.result).toMatchObject({ total: 3, currentStreak: { length: 3, extended: true } });
    expect(await steps(owner, user, system)).toEqual(["0 +10 10"]);
  });
});

describe.each([
  ["first", true],
  ["second", false],
])("an event against administration, the event %s", (_, isEventFirst) => {
  const race = async (other: (db: Database) => Promise<unknown>): Promise<void> => {
    const { owner, service } = database.pools;
    const holder = await openTransaction(isEventFirst ? service : owner);
    await (isEventFirst ? event : other)(holder.client);
    const waiter = await startAndBlock(isEventFirst ? owner : service, owner, isEventFirst ? other : event);
    await holder.end("commit");
    await waiter.result;
  };

  test("a freeze is granted, the day counts", async () => {
    await race((db) => change(db, "freezes"));
    expect(await streakOf(database.pools.owner)).toMatchObject({ length: 3, freezes: 1 });
  });

  test("a pause that begins today does not take the day away", async () => {
    const today = daysAgo(0).slice(0, 10);
    await race((db) => change(db, "pauses", { start: today, end: today }));
    expect(await streakOf(database.pools.owner)).toMatchObject({ length: 3 });
    expect(await steps(database.pools.owner, user, system)).toEqual(["0 +10 10"]);
  });

  test("a reset leaves nothing of what was before it", async () => {
    await race((db) => change(db, "reset"));
    // After the event, today is part of what was reset; before it, the event begins a new streak.
    expect(await streakOf(database.pools.owner)).toMatchObject({ length: isEventFirst ? 0 : 1 });
  });

  test("upkeep that already looks from tomorrow does not take the day away", async () => {
    const moment = daysAgo(-1);
    await race((db) => db.query("select * from laurel_private.upkeep_streaks($1)", [moment]));
    // Had the streak been lost by then, the event of today, late as it is, joins it (E8).
    expect(await steps(database.pools.owner, user, system)).toEqual(["0 +10 10"]);
  });
});

describe("a restoration against an event", () => {
  test.each([true, false])("joins what was lost with today, whichever is first (the event: %s)", async (isEventFirst) => {
    const { owner, service } = database.pools;
    user = unique("returner");
    await insertEvents(owner, [5, 4, 3].map((days) => ({ metric: metric.key, user, at: daysAgo(days) })));
    const restore = (db: Database): Promise<{ issues: unknown[] }> => change(db, "restore");
    const holder = await openTransaction(isEventFirst ? service : owner);
    await (isEventFirst ? event : restore)(holder.client);
    const waiter = await startAndBlock(isEventFirst ? owner : service, owner, isEventFirst ? restore : event);
    await holder.end("commit");
    await waiter.result;
    expect(await streakOf(owner)).toMatchObject({ length: 4 });
  });
});

describe("upkeep", () => {
  /** Calls it until nothing is due, on several connections at once; everything that it told. */
  const runUpkeep = async (moment: string, workers: number): Promise<{ user_id: string; kinds: string[] }[]> => {
    const told = await Promise.all(Array.from({ length: workers }, async () => {
      const found: { user_id: string; kinds: string[] }[] = [];
      for (;;) {
        const { rows } = await database.pools.owner.query<{ user_id: string; kinds: string[] }>(
          `select u.user_id, array(select o.kind from unnest(u.outcomes) o) as kinds from laurel_private.upkeep_streaks($1, 3) u`,
          [moment],
        );
        if (rows.length === 0) return found;
        found.push(...rows);
      }
    }));
    return told.flat();
  };

  test("by several workers consumes one freeze for each missed day, and then loses the streak, exactly once", async () => {
    const { owner } = database.pools;
    const users = Array.from({ length: 12 }, () => unique("sleeper"));
    for (const sleeper of users) {
      user = sleeper;
      await insertEvents(owner, [{ metric: metric.key, user }]);
      await change(owner, "freezes");
      await change(owner, "freezes");
    }
    const outcomes = new Map<string, string[]>(users.map((sleeper) => [sleeper, []]));
    const tell = async (moment: string): Promise<void> => {
      for (const { user_id, kinds } of await runUpkeep(moment, 4)) outcomes.get(user_id)?.push(...kinds);
    };
    // Today counts; tomorrow is missed, and is over the day after. The worker skips a day and then comes back.
    await tell(daysAgo(-1));
    expect(new Set([...outcomes.values()].map(String))).toEqual(new Set([""]));
    await tell(daysAgo(-2));
    expect(new Set([...outcomes.values()].map(String))).toEqual(new Set(["freeze_consumed"]));
    await tell(daysAgo(-4));
    await tell(daysAgo(-4));
    expect(new Set([...outcomes.values()].map(String))).toEqual(new Set(["freeze_consumed,freeze_consumed,lost"]));
    const found = await owner.query<{ changes: number[]; freezes: number; length: number }>(
      `select array(select f.change from laurel_private.streak_freezes f where f.user_id = u.user_id order by f.id) as changes,
         u.freezes, u.length
       from laurel_private.user_streaks u where u.user_id = any ($1)`,
      [users],
    );
    expect(found.rows).toEqual(users.map(() => ({ changes: [1, 1, -1, -1], freezes: 0, length: 0 })));
  });
});
