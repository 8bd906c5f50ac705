import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { cloneDatabase, eventually, type TestDatabase } from "../../support/database.ts";
import { insertEvents, record, steps, verify } from "../../support/engine.ts";
import { anAchievement, anAttribute, aMetric, aSystem, aTrigger, aUser, type Metric, type System, unique } from "../../support/factories.ts";
import { openTransaction, startAndBlock } from "../../support/races.ts";

/** Rule A3, and anniversaries: completions that no event brings. They are committed batch by batch, so nothing is rolled back here. */

let database: TestDatabase;
let metric: Metric;
let system: System;

beforeAll(async () => {
  database = await cloneDatabase();
  await anAttribute(database.pools.owner, { key: "kind", type: "event" });
  await anAttribute(database.pools.owner, { key: "plan" });
});

beforeEach(async () => {
  metric = await aMetric(database.pools.owner);
  system = await aSystem(database.pools.owner);
});

/** One call; what it returns is 0 also while it waits for transactions of any database of the server, as other tests have them open. */
async function look(most = 500, db: Pick<PoolClient, "query"> = database.pools.owner): Promise<number> {
  const found = await db.query<{ count: number }>("select laurel_private.backfill_achievements($1) as count", [most]);
  return found.rows[0]?.count ?? 0;
}

/** Calls, as the worker does, until no achievement is left to look after. */
async function backfill(most = 500): Promise<void> {
  await eventually("the look for those who qualify already", async () => {
    if ((await look(most)) > 0) return false;
    const left = await database.pools.owner.query("select from laurel_private.achievement_backfills where finished_at is null");
    return left.rowCount === 0;
  });
}

async function completedBy(achievement: { id: string }): Promise<unknown[]> {
  const found = await database.pools.owner.query(
    "select user_id, is_silent from laurel.user_achievements where achievement_id = $1 order by user_id", [achievement.id]);
  return found.rows.map(({ user_id, is_silent }: { user_id: string; is_silent: boolean }) => `${user_id}${is_silent ? " silently" : ""}`);
}

describe("an achievement that becomes active", () => {
  test("is completed silently for users who qualify already, and pays them", async () => {
    const { owner } = database.pools;
    const [ann, ben, cat] = [unique("ann"), unique("ben"), unique("cat")];
    await insertEvents(owner, [ann, ben, cat].map((user, no) => ({ metric: metric.key, user, value: 10 * no })));
    await record(owner, { metric: metric.key, user: cat, value: -15 }); // it has been at 20
    const achievement = await anAchievement(owner, { metric, metric_value: 10, status: "inactive" });
    await aTrigger(owner, { system, type: "achievement", points: 7, achievement_id: achievement.id });
    await backfill();
    expect(await completedBy(achievement)).toEqual([]);
    await owner.query("update laurel.achievements set status = 'active' where id = $1", [achievement.id]);
    await backfill();
    expect(await completedBy(achievement)).toEqual([`${ben} silently`, `${cat} silently`]);
    expect(await steps(owner, cat, system)).toEqual(["0 +7 7"]);
    expect((await record(owner, { metric: metric.key, user: ann, value: 10 })).achievements).toHaveLength(1);
    // Once more: nobody is paid twice.
    await owner.query("update laurel.achievements set status = 'locked' where id = $1", [achievement.id]);
    await owner.query("update laurel.achievements set status = 'active' where id = $1", [achievement.id]);
    await backfill();
    expect(await completedBy(achievement)).toEqual([ann, `${ben} silently`, `${cat} silently`]);
    expect(await steps(owner, cat, system)).toEqual(["0 +7 7"]);
    expect(await verify(owner)).toEqual([]);
  });

  test("goes on where it stopped, in batches", async () => {
    const { owner } = database.pools;
    const users = Array.from({ length: 30 }, () => unique("many"));
    await insertEvents(owner, users.map((user) => ({ metric: metric.key, user })));
    const achievement = await anAchievement(owner, { metric });
    expect(await look(10)).toBe(1); // marks where to begin, and looks at nobody
    const looked: number[] = [];
    for (let batch = 0; batch < 3; batch++) {
      await eventually("a batch", async () => (await look(10)) > 0);
      const found = await owner.query<{ looked_at: number }>(
        "select looked_at::int from laurel_private.achievement_backfills where achievement_id = $1", [achievement.id]);
      looked.push(found.rows[0]?.looked_at ?? 0);
    }
    expect(looked).toEqual([10, 20, 30]);
    await backfill(10);
    expect(await completedBy(achievement)).toEqual(users.map((user) => `${user} silently`).sort());
    expect(await verify(owner)).toEqual([]);
  });

  test("by filters, and by prerequisites", async () => {
    const { owner } = database.pools;
    const [ann, ben] = [unique("ann"), unique("ben")];
    await record(owner, { metric: metric.key, user: ann, value: 6, attributes: { kind: "book" }, profile: { attributes: { plan: "pro" } } });
    await insertEvents(owner, [{ metric: metric.key, user: ben, value: 60 }]);
    const books = await anAchievement(owner, { metric, metric_value: 5, event_attributes: { kind: "book" } });
    const pro = await anAchievement(owner, { metric, metric_value: 5, user_attributes: { plan: "pro" } });
    const both = await anAchievement(owner, { prerequisites: [books, pro] });
    await backfill();
    for (const one of [books, pro, both]) expect(await completedBy(one)).toEqual([`${ann} silently`]);
    const late = await anAchievement(owner, { prerequisites: [books] });
    await backfill();
    expect(await completedBy(late)).toEqual([`${ann} silently`]);
    expect(await verify(owner)).toEqual([]);
  });

  test("waits for those who may still go by the rules before it, and misses nobody", async () => {
    const { owner, service } = database.pools;
    const user = unique("slow");
    const open = await openTransaction(service);
    await record(open.client, { metric: metric.key, user, value: 50 });
    const achievement = await anAchievement(owner, { metric, metric_value: 10 });
    expect(await look()).toBe(1); // the mark where to begin
    for (let no = 0; no < 3; no++) expect(await look()).toBe(0); // there is somebody to wait for
    await open.end("commit");
    await backfill();
    expect(await completedBy(achievement)).toEqual([`${user} silently`]);
    expect(await verify(owner)).toEqual([]);
  });

  test("an event and the look for the same user: completed once", async () => {
    const { owner, service } = database.pools;
    const user = unique("both");
    await record(owner, { metric: metric.key, user, value: 50 });
    const achievement = await anAchievement(owner, { metric, metric_value: 10 });
    await aTrigger(owner, { system, type: "achievement", points: 7, achievement_id: achievement.id });
    expect(await look()).toBe(1);
    const looking = await openTransaction(owner);
    await eventually("the look", async () => (await look(500, looking.client)) > 0);
    const event = await startAndBlock(service, owner, (client) => record(client, { metric: metric.key, user, value: 100 }));
    await looking.end("commit");
    expect(await event.result).toMatchObject({ achievements: [] });
    expect(await steps(owner, user, system)).toEqual(["0 +7 7"]);
    await backfill();
    expect(await verify(owner)).toEqual([]);
  });
});

describe("two completions at once", () => {
  test("by two calls: one is paid, both answer the same", async () => {
    const { owner, service } = database.pools;
    const user = unique("twice");
    const achievement = await anAchievement(owner);
    await aTrigger(owner, { system, type: "achievement", points: 7, achievement_id: achievement.id });
    const complete = async (client: { query: typeof owner.query }): Promise<{ completionId: string; points: object }> => {
      const found = await client.query<{ answer: { completionId: string; points: object } }>("select laurel.complete_achievement($1, $2) as answer", [achievement.key, user]);
      return found.rows[0]?.answer ?? { completionId: "", points: {} };
    };
    const one = await openTransaction(service);
    const first = await complete(one.client);
    const two = await startAndBlock(service, owner, (client) => complete(client as never));
    await one.end("commit");
    const second = await two.result;
    expect(second).toMatchObject({ completionId: first.completionId, points: {} });
    expect(await steps(owner, user, system)).toEqual(["0 +7 7"]);
    expect(await verify(owner)).toEqual([]);
  });
});

describe("anniversaries", () => {
  async function anniversaries(at: string): Promise<void> {
    for (;;) {
      const found = await database.pools.owner.query<{ count: number }>("select laurel_private.complete_anniversaries($1) as count", [at]);
      if (found.rows[0]?.count === 0) return;
    }
  }

  test("come on the day of sign-up, by the user's own calendar, once", async () => {
    const { owner } = database.pools;
    const [east, west, leap, never] = [unique("east"), unique("west"), unique("leap"), unique("never")];
    for (const [id, tz, day] of [[east, "Pacific/Auckland", "2020-05-10"], [west, "America/Los_Angeles", "2020-05-10"], [leap, null, "2020-02-29"]] as const) {
      await aUser(owner, { id, tz });
      await owner.query("update laurel.users set sign_up_on = $2 where id = $1", [id, day]);
    }
    await aUser(owner, { id: never });
    const achievement = await anAchievement(owner, { kind: "anniversary", years: 1, status: "locked" });
    await owner.query("update laurel.achievements set status = 'active' where id = $1", [achievement.id]);
    // What activation itself completes is tested above; here the clock is ours.
    await owner.query("delete from laurel_private.achievement_backfills where achievement_id = $1", [achievement.id]);
    const completedAt = async (at: string): Promise<unknown[]> => {
      await anniversaries(at);
      return completedBy(achievement);
    };
    expect(await completedAt("2021-02-27T23:59:00Z")).toEqual([]);
    expect(await completedAt("2021-02-28T00:00:00Z")).toEqual([leap]);
    expect(await completedAt("2021-05-09T12:00:00Z")).toEqual([east, leap].sort()); // midnight in Auckland
    expect(await completedAt("2021-05-10T06:59:00Z")).toEqual([east, leap].sort());
    expect(await completedAt("2021-05-10T07:00:00Z")).toEqual([east, west, leap].sort());
    expect(await completedAt("2030-01-01T00:00:00Z")).toEqual([east, west, leap].sort());
    expect(await verify(owner)).toEqual([]);
  });
});
