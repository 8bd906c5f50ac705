import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, insertEvents } from "../../support/engine.ts";
import { aMetric, aTenant, type Database } from "../../support/factories.ts";

const latest = async (db: Database, ...given: unknown[]): Promise<string[]> =>
  (await db.query<{ user_id: string; value: string }>(
    `select user_id, trim_scale(value)::text as value from laurel.latest_events(${given.map((_, n) => `$${n + 1}`).join(", ")})`, given,
  )).rows.map(({ user_id, value }) => `${user_id} ${value}`);

/** Of two metrics and three users: those that came last have neither the last IDs of users nor the last dates. */
async function someEvents(db: Database): Promise<void> {
  const [one, two] = [await aMetric(db), await aMetric(db)];
  for (const [metric, user, value, at] of [
    [two, "zoe", 1, undefined], [one, "ada", 2, undefined], [two, "ada", 3, "2024-01-01T00:00:00Z"], [one, "bob", 4, "2025-01-01T00:00:00Z"], [one, "ada", 5, "2023-01-01T00:00:00Z"],
  ] as const) await insertEvents(db, [{ metric: metric.key, user, value, ...(at === undefined ? {} : { at }) }]);
}

test("the latest events are those that arrived last, of whomever and whenever they occurred", async () => {
  await withRollback(async (db) => {
    await someEvents(db);
    expect(await latest(db)).toEqual(["ada 5", "bob 4", "ada 3", "ada 2", "zoe 1"]);
    expect(await latest(db, 2)).toEqual(["ada 5", "bob 4"]);
    expect(await latest(db, 2, "ada")).toEqual(["ada 5", "ada 3"]);
    expect(await latest(db, 0)).toEqual([]);
    expect(await latest(db, null, "nobody")).toEqual([]);
  });
});

test("a hundred at most, however far back in 31 days, and a user's from whenever", async () => {
  await withRollback(async (db) => {
    const metric = await aMetric(db);
    await insertEvents(db, Array.from({ length: 110 }, (_, n) => ({ metric: metric.key, user: "ada", value: n })));
    const moved = (age: string) =>
      db.query("update laurel.metric_events set id = laurel_private.next_uuid(laurel_private.first_uuid_v7(now() - $1::interval)) where value = 109", [age]);
    expect(await latest(db, 1000)).toHaveLength(100);
    await db.query("delete from laurel.metric_events where value < 109");
    for (const [age, found] of [["2 hours", 1], ["30 days", 1], ["32 days", 0]] as const) {
      await moved(age);
      expect([age, await latest(db)]).toHaveProperty("1.length", found);
      expect(await latest(db, 5, "ada")).toEqual(["ada 109"]);
    }
  });
});

test("they are the caller's tenant's", async () => {
  await withRollback(async (db) => {
    await someEvents(db);
    await aTenant(db, "acme");
    await actFor(db, "acme");
    expect(await as(db, "laurel_service", () => latest(db))).toEqual([]);
    await insertEvents(db, [{ metric: (await aMetric(db)).key, user: "kim" }]);
    expect(await as(db, "laurel_service", () => latest(db))).toEqual(["kim 1"]);
    expect(await as(db, "laurel_admin", () => latest(db, 3, "ada"))).toEqual([]);
  });
});
