import { expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { record, verify } from "../../support/engine.ts";
import { aMetric } from "../../support/factories.ts";

test("smoke", async () => {
  await withRollback(async (db) => {
    const metric = await aMetric(db);
    await db.query("insert into laurel.leaderboards (key, name, rank_by, metric_id, status, starts_on) values ('b', 'B', 'metric', $1, 'active', '2020-01-01')", [metric.id]);
    for (const [user, value] of [["a", 5], ["b", 7], ["a", 3], ["c", 8]] as const) {
      const r = await record(db, { metric: metric.key, user, value });
      console.log(JSON.stringify(r.leaderboards));
    }
    console.log(JSON.stringify((await db.query("select laurel.leaderboard_rankings('b') x, laurel.user_leaderboard('b','a') y, laurel.describe_leaderboards() z")).rows[0]));
    console.log(await db.query("select laurel_private.upkeep_leaderboards(now()) x").then((x) => x.rows));
    expect(await verify(db)).toEqual([]);
  });
});
