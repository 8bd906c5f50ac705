import { describe, expect, test } from "@jest/globals";
import { cloneDatabase, withRollback } from "../../support/database.ts";
import { first } from "../../support/engine.ts";
import { aBoost, aSystem, aUser, type Boost, type Database } from "../../support/factories.ts";
import { openTransaction } from "../../support/races.ts";

/** Rule H4: starts and finishes, announced once each whenever the worker comes. */

const announce = async (db: Database, asOf: string): Promise<number> =>
  first((await db.query<{ n: number }>("select laurel_private.announce_boosts($1) as n", [asOf])).rows).n;
const announceAll = async (db: Database, asOf: string): Promise<void> => {
  while ((await announce(db, asOf)) > 0);
};
const announced = async (db: Database, boost: Boost): Promise<string[]> =>
  (await db.query<{ type: string; due_at: Date }>(
    "select type, due_at from laurel_private.boost_announcements where boost_id = $1 order by id", [boost.id],
  )).rows.map(({ type, due_at }) => `${type} ${due_at.toISOString().slice(0, 16)}`);
/** As if its dates had been set long ago. */
const registeredLongAgo = (db: Database) =>
  db.query("update laurel_private.boost_windows set registered_at = '2000-01-01'");

describe("the moment of", () => {
  test("a boost for all: 10:00 UTC the day before, 13:00 UTC the day after", async () => {
    await withRollback(async (db) => {
      const boost = await aBoost(db, { system: await aSystem(db), starts_on: "2030-05-10", ends_on: "2030-05-12" });
      for (const [moment, expected] of [
        ["2030-05-09T09:59:59Z", []],
        ["2030-05-09T10:00:00Z", ["started 2030-05-09T10:00"]],
        ["2030-05-13T12:59:59Z", ["started 2030-05-09T10:00"]],
        ["2030-05-13T13:00:00Z", ["started 2030-05-09T10:00", "finished 2030-05-13T13:00"]],
        ["2031-01-01T00:00:00Z", ["started 2030-05-09T10:00", "finished 2030-05-13T13:00"]],
      ] as const) {
        await announceAll(db, moment);
        expect(await announced(db, boost)).toEqual(expected);
      }
    });
  });

  test("a boost for one user: the user's own midnights, by the zone the user has then", async () => {
    await withRollback(async (db) => {
      const user = await aUser(db, { tz: "Asia/Tokyo" });
      const boost = await aBoost(db, { system: await aSystem(db), user_id: user.id, starts_on: "2030-05-10", ends_on: "2030-05-10" });
      await announceAll(db, "2030-05-09T14:59:59Z");
      expect(await announced(db, boost)).toEqual([]);
      await announceAll(db, "2030-05-09T15:00:00Z");
      await db.query("select laurel.identify_user($1, '{\"tz\": \"America/New_York\"}')", [user.id]);
      await announceAll(db, "2030-05-11T03:59:59Z");
      // Its day has not begun in New York at that moment: nothing that was announced is taken back while nobody looks.
      await announceAll(db, "2030-05-11T04:00:00Z");
      expect(await announced(db, boost)).toContain("finished 2030-05-11T04:00");
    });
  });

  test("a boost without an end: it never finishes", async () => {
    await withRollback(async (db) => {
      const boost = await aBoost(db, { system: await aSystem(db), starts_on: "2030-05-10" });
      await announceAll(db, "2100-01-01T00:00:00Z");
      expect(await announced(db, boost)).toEqual(["started 2030-05-09T10:00"]);
    });
  });
});

describe("late or changed", () => {
  test("a whole window missed by the worker is made up for, once", async () => {
    await withRollback(async (db) => {
      const boost = await aBoost(db, { system: await aSystem(db), starts_on: "2024-05-10", ends_on: "2024-05-12" });
      await registeredLongAgo(db);
      await announceAll(db, "2024-07-01T00:00:00Z");
      await announceAll(db, "2024-07-01T00:00:00Z");
      expect(await announced(db, boost)).toEqual(["started 2024-05-09T10:00", "finished 2024-05-13T13:00"]);
    });
  });

  test("a window that was over when it was entered is not announced; one that has begun is, at once", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const past = await aBoost(db, { system, starts_on: "2024-05-10", ends_on: "2024-05-12" });
      const running = await aBoost(db, { system, starts_on: "2024-05-10" });
      await announceAll(db, new Date().toISOString());
      expect(await announced(db, past)).toEqual([]);
      expect(await announced(db, running)).toEqual(["started 2024-05-09T10:00"]);
    });
  });

  test("edits before the start move it; a cancelled one says nothing", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const boost = await aBoost(db, { system, starts_on: "2030-05-10", ends_on: "2030-05-12" });
      const cancelled = await aBoost(db, { system, starts_on: "2030-05-10", ends_on: "2030-05-12" });
      await db.query("update laurel.points_boosts set starts_on = '2030-06-01', ends_on = '2030-06-01' where id = $1", [boost.id]);
      await db.query("update laurel.points_boosts set archived_at = now() where id = $1", [cancelled.id]);
      await announceAll(db, "2030-05-31T09:59:59Z");
      expect(await announced(db, boost)).toEqual([]);
      await announceAll(db, "2030-06-03T00:00:00Z");
      expect(await announced(db, boost)).toEqual(["started 2030-05-31T10:00", "finished 2030-06-02T13:00"]);
      expect(await announced(db, cancelled)).toEqual([]);
    });
  });

  test("one stopped, archived with its system or moved while it runs is finished at once, and may start again", async () => {
    await withRollback(async (db) => {
      const system = await aSystem(db);
      const types = async (boost: Boost) => (await announced(db, boost)).map((line) => line.split(" ")[0]);
      const ahead = new Date(Date.now() + 1000).toISOString();
      const stopped = await aBoost(db, { system });
      const moved = await aBoost(db, { system });
      await announceAll(db, ahead);
      await db.query("update laurel.points_boosts set is_active = false where id = $1", [stopped.id]);
      await db.query("update laurel.points_boosts set starts_on = '2040-01-01' where id = $1", [moved.id]);
      await announceAll(db, ahead);
      expect([await types(stopped), await types(moved)]).toEqual([["started", "finished"], ["started", "finished"]]);
      await db.query("update laurel.points_boosts set is_active = true where id = $1", [stopped.id]);
      await announceAll(db, ahead);
      expect(await types(stopped)).toEqual(["started", "finished", "started"]);
      await db.query("update laurel.points_systems set archived_at = now() where id = $1", [system.id]);
      await announceAll(db, "2041-01-01T00:00:00Z");
      expect([await types(stopped), await types(moved)]).toEqual([["started", "finished", "started", "finished"], ["started", "finished"]]);
    });
  });

  test("one that had finished and gets more days starts again", async () => {
    await withRollback(async (db) => {
      const boost = await aBoost(db, { system: await aSystem(db), starts_on: "2024-05-10", ends_on: "2024-05-12" });
      await registeredLongAgo(db);
      await announceAll(db, "2024-07-01T00:00:00Z");
      await db.query("update laurel.points_boosts set ends_on = '2040-01-01' where id = $1", [boost.id]);
      await announceAll(db, new Date().toISOString());
      expect((await announced(db, boost)).map((line) => line.split(" ")[0])).toEqual(["started", "finished", "started"]);
    });
  });
});

test("two workers at once announce nothing twice", async () => {
  const { pools: { owner } } = await cloneDatabase();
  const boost = await aBoost(owner, { system: await aSystem(owner) });
  const one = await openTransaction(owner);
  expect(await announce(one.client, new Date().toISOString())).toBe(1);
  expect(await announce(owner, new Date().toISOString())).toBe(0);
  await one.end("rollback");
  expect(await announce(owner, new Date().toISOString())).toBe(1);
  expect(await announced(owner, boost)).toHaveLength(1);
});
