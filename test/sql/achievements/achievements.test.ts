import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, refusal, steps, verify } from "../../support/engine.ts";
import { anAchievement, anAttribute, aMetric, aSystem, aTrigger, aUser, type Achievement, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules A1, A2, A4, TR4 and TR7. */

interface Completion {
  readonly completionId: string;
  readonly achievement: { readonly key: string; readonly achievedAt: string };
  readonly points: Readonly<Record<string, { added: number; awards: readonly { awarded: number }[] }>>;
}

async function complete(db: Database, achievement: { key: string }, user: string | null, profile?: object): Promise<Completion> {
  const found = await db.query<{ answer: Completion }>("select laurel.complete_achievement($1, $2, $3) as answer", [
    achievement.key, user, profile === undefined ? null : JSON.stringify(profile),
  ]);
  return first(found.rows).answer;
}

/** Keys of what a user has completed, in order. */
async function completed(db: Database, user: string): Promise<string[]> {
  const found = await db.query<{ key: string }>(
    "select a.key from laurel.user_achievements c join laurel.achievements a on a.id = c.achievement_id where c.user_id = $1 order by c.id",
    [user],
  );
  return found.rows.map(({ key }) => key);
}

const keysOf = (achievements: readonly unknown[]): string[] => achievements.map((one) => (one as { key: string }).key);

const pays = async (db: Database, system: { id: string; key: string }, achievement: Achievement, points: number): Promise<void> => {
  await aTrigger(db, { system: system, type: "achievement", points, achievement_id: achievement.id });
};

describe("a metric achievement", () => {
  test("is completed by the event whose total reaches the value, once and for ever", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      await anAchievement(db, { key: "ten", metric, metric_value: 10 });
      expect((await record(db, { metric: "words", user: "ada", value: 9 })).achievements).toEqual([]);
      const response = await record(db, { metric: "words", user: "ada", value: "1.5", at: "2026-03-01T12:00:00Z" });
      expect(response.achievements).toEqual([{
        id: expect.any(String), key: "ten", name: "ten", trigger: "metric", description: null, badgeUrl: null,
        metricId: metric.id, metricName: metric.name, metricValue: 10, userAttributes: [], eventAttributes: [],
        achievedAt: "2026-03-01T12:00:00.000Z",
      }]);
      await record(db, { metric: "words", user: "ada", value: -5 });
      expect((await record(db, { metric: "words", user: "ada", value: 50 })).achievements).toEqual([]);
      expect(await completed(db, "ada")).toEqual(["ten"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("several are completed by one event, in order of creation; only active ones of the metric are", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const other = await aMetric(db);
      await anAchievement(db, { key: "b5", metric, metric_value: 5 });
      await anAchievement(db, { key: "a3", metric, metric_value: 3 });
      await anAchievement(db, { key: "later", metric, metric_value: 100 });
      await anAchievement(db, { key: "other", metric: other, metric_value: 1 });
      for (const status of ["inactive", "locked", "archived"] as const) await anAchievement(db, { key: status, metric, metric_value: 1, status });
      expect(keysOf((await record(db, { metric: "words", user: "ada", value: 7 })).achievements)).toEqual(["b5", "a3"]);
    });
  });

  test("counts matching events only when it filters them, those before its time included", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "kind", type: "event" });
      const metric = await aMetric(db, { key: "words" });
      const book = (value: number) => ({ metric: "words", user: "ada", value, attributes: { kind: "book" } });
      await record(db, book(4));
      await anAchievement(db, { key: "reader", metric, metric_value: 10, event_attributes: { kind: "book" } });
      expect((await record(db, { metric: "words", user: "ada", value: 100 })).achievements).toEqual([]);
      expect((await record(db, book(5))).achievements).toEqual([]);
      await insertEvents(db, [book(-2), book(2)]);
      expect(keysOf((await record(db, book(1))).achievements)).toEqual(["reader"]);
      expect((await record(db, book(1))).achievements).toEqual([]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("is for users who match its filter, from when they do", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db, { key: "words" });
      await anAchievement(db, { key: "pro", metric, metric_value: 5, user_attributes: { plan: "pro" } });
      expect((await record(db, { metric: "words", user: "ada", value: 9 })).achievements).toEqual([]);
      const response = await record(db, { metric: "words", user: "ada", value: 0, profile: { attributes: { plan: "pro" } } });
      expect(keysOf(response.achievements)).toEqual(["pro"]);
      expect(keysOf((await record(db, { metric: "words", user: "ada" })).achievements)).toEqual([]);
    });
  });

  test("is completed by rows of a statement as by calls, each by its own event", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db);
      const ten = await anAchievement(db, { key: "ten", metric, metric_value: 10 });
      await pays(db, system, ten, 50);
      await aTrigger(db, { system, metric, points: 1, every: 1 });
      await insertEvents(db, [
        { metric: "words", user: "ada", value: 9 }, { metric: "words", user: "bob", value: 3 },
        { metric: "words", user: "ada", value: 2 }, { metric: "words", user: "ada", value: 1 },
      ]);
      expect(await steps(db, "ada", system)).toEqual(["0 +9 9", "9 +2 11", "11 +50 61", "61 +1 62"]);
      expect(await completed(db, "bob")).toEqual([]);
      const found = await db.query(
        "select e.value from laurel.user_achievements c join laurel.metric_events e on e.id = c.event_id where c.user_id = 'ada'");
      expect(found.rows).toEqual([{ value: "2" }]);
      expect(await verify(db)).toEqual([]);
    });
  });
});

describe("an achievement of achievements", () => {
  test("is completed with the last of its prerequisites, and completes further ones at once", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db);
      const five = await anAchievement(db, { key: "five", metric, metric_value: 5 });
      const called = await anAchievement(db, { key: "called" });
      const both = await anAchievement(db, { key: "both", prerequisites: [five, called] });
      const crown = await anAchievement(db, { key: "crown", prerequisites: [both] });
      const inactive = await anAchievement(db, { key: "inactive", prerequisites: [five], status: "inactive" });
      for (const one of [crown, both, called, five, inactive]) await pays(db, system, one, 10);
      expect((await complete(db, called, "ada")).points[system.key]).toMatchObject({ added: 10 });
      const response = await record(db, { metric: "words", user: "ada", value: 5 });
      expect(keysOf(response.achievements)).toEqual(["five", "both", "crown"]);
      expect(response.points[system.key]).toMatchObject({ added: 30, total: 40 });
      expect(await completed(db, "ada")).toEqual(["called", "five", "both", "crown"]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("cannot need itself, nor what is not there", async () => {
    await withRollback(async (db) => {
      const one = await anAchievement(db, { key: "one" });
      const two = await anAchievement(db, { key: "two", prerequisites: [one] });
      const three = await anAchievement(db, { key: "three", prerequisites: [two] });
      const need = (which: Achievement, prerequisite: string) => () =>
        db.query("update laurel.achievements set kind = 'achievement', prerequisite_ids = array[$2]::uuid[] where id = $1", [which.id, prerequisite]);
      expect(await refusal(db, need(one, three.id))).toEqual(lr("LR020", "cannot need itself"));
      expect(await refusal(db, need(two, two.id))).toEqual(lr("LR020", "cannot need itself"));
      expect(await refusal(db, need(two, "00000000-0000-7000-8000-000000000000"))).toEqual(lr("LR020", "No achievement has the ID"));
      expect(await refusal(db, () => anAchievement(db, { prerequisites: [one, one] }))).toEqual(lr("LR020", "named twice"));
      expect(await refusal(db, () => db.query("update laurel.achievements set status = 'archived' where id = $1", [one.id])))
        .toEqual(lr("LR020", "prerequisite of another"));
    });
  });
});

describe("complete_achievement()", () => {
  test("adds a new user, fires its triggers first, and answers again what it answered, awarding nothing", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db, { key: "xp" });
      const achievement = await anAchievement(db, { key: "done" });
      await pays(db, system, achievement, 20);
      await aTrigger(db, { system, type: "user_creation", points: 5 });
      const once = await complete(db, achievement, "ada", { name: "Ada", tz: "Europe/Paris" });
      expect(once).toEqual({
        completionId: expect.any(String),
        achievement: {
          id: achievement.id, key: "done", name: "done", trigger: "api", description: null, badgeUrl: null,
          userAttributes: [], achievedAt: expect.stringMatching(/Z$/),
        },
        points: { xp: expect.objectContaining({ added: 25, total: 25 }) },
      });
      expect(await steps(db, "ada", system)).toEqual(["0 +5 5", "5 +20 25"]);
      expect(await complete(db, achievement, "ada")).toEqual({ ...once, points: {} });
      expect(await steps(db, "ada", system)).toEqual(["0 +5 5", "5 +20 25"]);
      const user = await db.query("select name, tz from laurel.users where id = 'ada'");
      expect(user.rows).toEqual([{ name: "Ada", tz: "Europe/Paris" }]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("refuses what cannot be completed by a call, and stores nothing", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const metric = await aMetric(db);
      await anAchievement(db, { key: "metric", metric });
      await anAchievement(db, { key: "pro", user_attributes: { plan: "pro" } });
      for (const status of ["inactive", "locked", "archived"] as const) await anAchievement(db, { key: status, status });
      for (const key of ["inactive", "locked", "archived", "nonsuch"]) {
        expect(await refusal(db, () => complete(db, { key }, "ada"))).toEqual(lr("LR007", key));
      }
      expect(await refusal(db, () => complete(db, { key: "metric" }, "ada"))).toEqual(lr("LR025", "metric"));
      expect(await refusal(db, () => complete(db, { key: "pro" }, "ada"))).toEqual(lr("LR025", "pro"));
      expect(await refusal(db, () => complete(db, { key: "pro" }, ""))).toEqual(lr("LR010"));
      expect(await refusal(db, () => complete(db, { key: "pro" }, "ada", { tz: "Nowhere" }))).toEqual(lr("LR016"));
      expect((await db.query("select from laurel.users where id = 'ada'")).rowCount).toBe(0);
      expect(await complete(db, { key: "pro" }, "ada", { attributes: { plan: "pro" } })).toMatchObject({ achievement: { key: "pro" } });
    });
  });

  test("may be called for oneself, and for nobody else", async () => {
    await withRollback(async (db) => {
      await anAchievement(db, { key: "done" });
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      expect(await complete(db, { key: "done" }, "ada")).toMatchObject({ achievement: { key: "done" } });
      expect(await refusal(db, () => complete(db, { key: "done" }, "bob"))).toEqual(lr("LR041"));
    });
  });
});

describe("lists", () => {
  const list = async (db: Database, text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> =>
    first((await db.query<{ list: Record<string, unknown>[] }>(`select ${text} as list`, values)).rows).list;

  test("show completions and rarity in percent of all users", async () => {
    await withRollback(async (db) => {
      await anAttribute(db, { key: "plan" });
      const done = await anAchievement(db, { key: "done" });
      await anAchievement(db, { key: "pro", user_attributes: { plan: "pro" }, status: "locked" });
      await anAchievement(db, { key: "inactive", status: "inactive" });
      for (const id of ["ada", "bob", "eve"]) await aUser(db, { id });
      await complete(db, done, "bob");
      expect(await list(db, "laurel.describe_achievements()")).toMatchObject([
        { key: "done", completions: 1, rarity: 33.3333 }, { key: "pro", completions: 0, rarity: 0 },
      ]);
      expect(keysOf(await list(db, "laurel.describe_achievements('plan:free')"))).toEqual(["done"]);
      expect(keysOf(await list(db, "laurel.describe_achievements('plan:pro')"))).toEqual(["done", "pro"]);
      expect(await list(db, "laurel.user_achievement_list('bob')")).toMatchObject([{ key: "done", completions: 1, achievedAt: expect.any(String) }]);
      expect(await list(db, "laurel.user_achievement_list('bob', true)")).toMatchObject([
        { key: "done", achievedAt: expect.any(String) }, { key: "pro", achievedAt: null },
      ]);
      expect(await list(db, "laurel.user_achievement_list('ada')")).toEqual([]);
      expect(await refusal(db, () => db.query("select laurel.user_achievement_list('nobody')"))).toEqual(lr("LR002"));
    });
  });

  test("a user's metrics have their achievements", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      await anAchievement(db, { key: "twenty", metric, metric_value: 20 });
      await anAchievement(db, { key: "ten", metric, metric_value: 10 });
      await record(db, { metric: "words", user: "ada", value: 12 });
      expect(await list(db, "laurel.user_metric_totals('ada')")).toMatchObject([
        { key: "words", achievements: [{ key: "ten", achievedAt: expect.any(String) }, { key: "twenty", achievedAt: null }] },
      ]);
    });
  });
});
