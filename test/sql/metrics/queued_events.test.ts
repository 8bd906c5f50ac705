import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { actFor, as, first, insertEvents, refusal, verify } from "../../support/engine.ts";
import { aMetric, anAttribute, aSystem, aTenant, aTrigger, type Database } from "../../support/factories.ts";

/** Batches (E4, E6, E7, TR8): accepted whole or not at all, recorded in order per user, refused one by one. */

const ask = async <T>(db: Database, call: string, values: unknown[] = []): Promise<T> =>
  first((await db.query<{ answer: T }>(`select ${call} as answer`, values)).rows).answer;

type Event = Readonly<Record<string, unknown>>;
const enqueue = (db: Database, events: readonly Event[]) =>
  ask<{ accepted: number }>(db, "laurel_private.enqueue_events($1)", [JSON.stringify(events)]);
const event = (user: string, value: number | string = 1, more: Event = {}): Event => ({ key: "words", user: { id: user }, value, ...more });

/** Processes until nothing waits; returns how many rows each call dealt with. */
async function process(db: Database, most = 1000): Promise<number[]> {
  const counts: number[] = [];
  for (;;) {
    const count = await ask<number>(db, "laurel_private.process_queued_events($1)", [most]);
    if (count === 0) return counts;
    counts.push(count);
  }
}
const read = (db: Database) =>
  ask<{ waiting: number; refused: { userId: string; error: string }[] }>(db, "laurel_private.read_queued_events(100, 0)");
/** Running totals of a user in the order recorded. */
const stepsOf = async (db: Database, user: string) =>
  (await db.query<{ value: string }>("select trim_scale(value)::text as value from laurel.metric_events where user_id = $1 order by id", [user])).rows.map(({ value }) => value);

describe("enqueue_events()", () => {
  test("stores all or none, and says why not", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await anAttribute(db, { key: "kind", type: "event" });
      const wrong: readonly (readonly [Event, string])[] = [
        [{ ...event("ada"), key: "none" }, "LR003"],
        [event(""), "LR010"],
        [event("x".repeat(256)), "LR010"],
        [event("ada", "1000000000000000"), "LR011"],
        [event("ada", "0.0000000001"), "LR011"],
        [event("ada", 1, { attributes: { none: "x" } }), "LR012"],
        [event("ada", 1, { attributes: { kind: 5 } }), "LR013"],
        [event("ada", 1, { idempotencyKey: "" }), "LR014"],
        [event("ada", 1, { idempotencyKey: "x".repeat(256) }), "LR014"],
        [event("ada", 1, { occurredAt: "2999-01-01T00:00:00Z" }), "LR015"],
        [{ ...event("ada"), user: { id: "ada", tz: "Mars" } }, "LR016"],
        [{ ...event("ada"), user: { id: "ada", name: 5 } }, "LR017"],
      ];
      for (const [bad, code] of wrong)
        expect({ bad, code: (await refusal(db, () => enqueue(db, [event("ada"), bad]))).code }).toEqual({ bad, code });
      expect((await read(db)).waiting).toBe(0);
      expect(await enqueue(db, [event("ada"), event("ada", "0.000000001", { attributes: { kind: "book" } })])).toEqual({ accepted: 2 });
      expect(await read(db)).toEqual({ waiting: 2, refused: [] });
      expect((await db.query("select from laurel.metric_events")).rowCount).toBe(0);
    });
  });
});

describe("process_queued_events()", () => {
  test("records in the order accepted, per user, with all digits, and empties the queue", async () => {
    await withRollback(async (db) => {
      const metric = await aMetric(db, { key: "words" });
      const system = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system, metric, points: 1 });
      await enqueue(db, [event("ada", 1), event("bob", 10), event("ada", "2.000000001"), event("ada", 3)]);
      await enqueue(db, [event("bob", 20), event("ada", 4)]);
      expect(await process(db)).toEqual([6]);
      expect(await stepsOf(db, "ada")).toEqual(["1", "2.000000001", "3", "4"]);
      expect(await stepsOf(db, "bob")).toEqual(["10", "20"]);
      expect((await db.query("select from laurel_private.queued_events")).rowCount).toBe(0);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("a few at a time keeps the order as well", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await enqueue(db, Array.from({ length: 9 }, (_none, no) => event(`u${no % 2}`, no + 1)));
      expect(await process(db, 2)).toEqual([2, 2, 2, 2, 1]);
      expect(await stepsOf(db, "u0")).toEqual(["1", "3", "5", "7", "9"]);
      expect(await stepsOf(db, "u1")).toEqual(["2", "4", "6", "8"]);
    });
  });

  test("a profile comes with its event: later ones of the user follow it, and the user is created by it", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      const system = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system, type: "user_creation", points: 5 });
      await enqueue(db, [event("ada", 1), { ...event("ada", 2), user: { id: "ada", name: "Ada" } }, event("bob", 7), event("ada", 3)]);
      await process(db);
      expect(await stepsOf(db, "ada")).toEqual(["1", "2", "3"]);
      const users = await db.query("select u.id, u.name, b.total::int from laurel.users u join laurel.points_balances b on b.user_id = u.id order by 1");
      expect(users.rows).toEqual([{ id: "ada", name: "Ada", total: 5 }, { id: "bob", name: null, total: 5 }]);
    });
  });

  test("a key counts once, whether it came before, in the same batch or in a later one (E4)", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await insertEvents(db, [{ metric: "words", user: "ada", key: "a" }]);
      await enqueue(db, [event("ada", 1, { idempotencyKey: "a" }), event("ada", 1, { idempotencyKey: "b" }), event("ada", 1, { idempotencyKey: "b" })]);
      await process(db);
      await enqueue(db, [event("ada", 1, { idempotencyKey: "b" }), { ...event("ada", 1, { idempotencyKey: "a" }), user: { id: "ada", name: "Ada" } }]);
      await process(db);
      expect(await stepsOf(db, "ada")).toEqual(["1", "1"]);
      expect((await db.query("select name from laurel.users")).rows).toEqual([{ name: null }]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("loses only the event that is blocked (TR8), and keeps it with the reason", async () => {
    await withRollback(async (db) => {
      const words = await aMetric(db, { key: "words" });
      const spend = await aMetric(db, { key: "spend" });
      const system = await aSystem(db, { key: "xp" });
      await aTrigger(db, { system, metric: words, points: 1 });
      await aTrigger(db, { system, metric: spend, points: -5, block_if_out_of_points: true });
      await enqueue(db, [event("ada", 5), { ...event("ada"), key: "spend" }, { ...event("ada"), key: "spend" }, event("bob", 2), { ...event("bob"), key: "spend" }, event("ada", 1)]);
      await process(db);
      const left = await read(db);
      expect(left.waiting).toBe(0);
      expect(left.refused.map(({ userId }) => userId).sort()).toEqual(["ada", "bob"]);
      expect(left.refused[0]?.error).toContain("Not enough points");
      const totals = await db.query("select user_id, total::int from laurel.points_balances order by 1");
      expect(totals.rows).toEqual([{ user_id: "ada", total: 1 }, { user_id: "bob", total: 2 }]);
      expect(await process(db)).toEqual([]);
      expect(await verify(db)).toEqual([]);
    });
  });

  test("refuses what became impossible meanwhile: an archived metric, an archived tenant", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await aMetric(db, { key: "pages" });
      await enqueue(db, [event("ada"), { ...event("ada"), key: "pages" }]);
      await db.query("update laurel.metrics set archived_at = now() where key = 'words'");
      const tenant = await aTenant(db);
      await actFor(db, tenant);
      await aMetric(db, { key: "words" });
      await enqueue(db, [event("eve")]);
      await db.query("update laurel.tenants set archived_at = now() where customer_id = $1", [tenant]);
      await process(db);
      const refused = await db.query("select user_id, metric_key, refused_code from laurel_private.queued_events order by 1");
      expect(refused.rows).toEqual([
        { user_id: "ada", metric_key: "words", refused_code: "LR003" },
        { user_id: "eve", metric_key: "words", refused_code: "LR001" },
      ]);
      await actFor(db, "default");
      expect(await stepsOf(db, "ada")).toEqual(["1"]);
    });
  });

  test("keeps tenants apart, also what it shows", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await enqueue(db, [event("ada", 1)]);
      await actFor(db, await aTenant(db));
      await aMetric(db, { key: "words" });
      await enqueue(db, [event("ada", 2), event("ada", 3)]);
      expect((await as(db, "laurel_admin", () => read(db))).waiting).toBe(2);
      await process(db);
      const totals = await db.query("select trim_scale(total)::text as total from laurel.user_metrics order by 1");
      expect(totals.rows).toEqual([{ total: "1" }, { total: "5" }]);
      expect((await refusal(db, () => as(db, "laurel_service", () => enqueue(db, [event("ada")])))).code).toBe("42501");
    });
  });

  test("an unexpected fault is not swallowed: nothing of it is recorded, and it waits on", async () => {
    await withRollback(async (db) => {
      await aMetric(db, { key: "words" });
      await enqueue(db, [event("ada")]);
      await db.query("savepoint broken");
      await db.query("alter table laurel_private.user_states rename column totals to gone");
      const refused = await refusal(db, () => process(db));
      expect(refused.code).toBe("42703");
      await db.query("rollback to savepoint broken");
      expect(await process(db)).toEqual([1]);
    });
  });
});
