import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { first, insertEvents, record, verify } from "../../support/engine.ts";
import { aMetric, type Database } from "../../support/factories.ts";

const dayMs = 86_400_000;
/** So many days before now, at noon UTC. */
const daysAgo = (days: number): string => {
  const noon = new Date();
  noon.setUTCHours(12, 0, 0, 0);
  return new Date(noon.getTime() - days * dayMs).toISOString();
};

async function aStreakBoard(db: Database, key: string, columns: Record<string, unknown> = {}): Promise<void> {
  const values: Record<string, unknown> = { key, name: key, rank_by: "streak", status: "active", starts_on: "2020-01-01", ...columns };
  await db.query(
    `insert into laurel.leaderboards (${Object.keys(values).join(", ")}) values (${Object.keys(values).map((_, no) => `$${no + 1}`).join(", ")})`, Object.values(values));
}

async function rankings(db: Database, key: string, userAttributes = ""): Promise<string[]> {
  const found = await db.query<{ board: { rankings: { userId: string; rank: number; value: number }[] } }>(
    "select laurel.leaderboard_rankings($1, 100, user_attributes => $2) as board", [key, userAttributes]);
  return first(found.rows).board.rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
}

describe("a leaderboard of streaks", () => {
  test("ranks by current length, those who got there first before others", async () => {
    await withRollback(async (db) => {
      await aStreakBoard(db, "flames", { max_participants: 100 });
      const metric = await aMetric(db);
      await insertEvents(db, [2, 1].map((days) => ({ metric: metric.key, user: "ada", at: daysAgo(days) })));
      await insertEvents(db, [1].map((days) => ({ metric: metric.key, user: "bob", at: daysAgo(days) })));
      expect(await rankings(db, "flames")).toEqual(["1 ada 2", "2 bob 1"]);
      const answer = await record(db, { metric: metric.key, user: "bob" });
      expect(answer.leaderboards).toMatchObject({ flames: { key: "flames", rankBy: "streak", rank: 2, previousRank: 2, threshold: 0 } });
      expect(await rankings(db, "flames")).toEqual(["1 ada 2", "2 bob 2"]);
      expect(await verify(db)).toEqual([]);
    });
  });
});
