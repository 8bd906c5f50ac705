import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../../support/database.ts";
import { as, first, insertEvents, refusal } from "../../support/engine.ts";
import { aMetric, aSystem, aTrigger, aUser, type Database } from "../../support/factories.ts";
import { lr } from "../../support/refusals.ts";

/** Rules RP2 and RP4: totals over time, in the user's own days. */

type Entry = { date: string; total: number; change: number };

async function summaries(db: Database, user: string, aggregation: string | null, from: string | null, to: string | null) {
  const found = await db.query<{ metric: Entry[]; points: Entry[] }>(
    `select laurel.metric_event_summary('words', $1, $2, $3, $4) as metric,
       laurel.points_event_summary('xp', $1, $2, $3, $4) as points`,
    [user, aggregation, from, to],
  );
  return first(found.rows);
}
const short = (entries: readonly Entry[]) => entries.map(({ date, total, change }) => `${date} ${total} ${change}`);

/** 10 points for every word. */
async function aWriter(db: Database, tz: string, events: readonly (readonly [string, number])[]) {
  const metric = await aMetric(db, { key: "words" });
  const system = await aSystem(db, { key: "xp" });
  await aTrigger(db, { system, metric, points: 10 });
  await aUser(db, { id: "ada", tz });
  if (events.length > 0) await insertEvents(db, events.map(([at, value]) => ({ metric: "words", user: "ada", at, value })));
}

describe("a summary", () => {
  test("by day has an entry for each, quiet ones included, and counts by the user's own midnight", async () => {
    await withRollback(async (db) => {
      // New York is five hours behind: 04:59 UTC is still the day before.
      await aWriter(db, "America/New_York", [["2026-01-10T04:59:59Z", 1], ["2026-01-10T05:00:00Z", 2], ["2026-01-12T12:00:00Z", 4]]);
      const { metric, points } = await summaries(db, "ada", "daily", "2026-01-09", "2026-01-12");
      expect(short(metric)).toEqual(["2026-01-09 1 1", "2026-01-10 3 2", "2026-01-11 3 0", "2026-01-12 7 4"]);
      expect(short(points)).toEqual(["2026-01-09 10 10", "2026-01-10 30 20", "2026-01-11 30 0", "2026-01-12 70 40"]);
    });
  });

  test("by week begins on Sundays, is dated by the first day, and counts only what lies in the range", async () => {
    await withRollback(async (db) => {
      // 4 January 2026 is a Sunday.
      await aWriter(db, "UTC", [
        ["2026-01-03T12:00:00Z", 1], ["2026-01-04T12:00:00Z", 2], ["2026-01-06T12:00:00Z", 4], ["2026-01-10T23:59:59Z", 8], ["2026-01-11T00:00:00Z", 16],
      ]);
      const { metric } = await summaries(db, "ada", "weekly", "2026-01-06", "2026-01-12");
      // The first week's change leaves out Sunday the 4th, which its total includes.
      expect(short(metric)).toEqual(["2026-01-04 15 12", "2026-01-11 31 16"]);
    });
  });

  test("by month has every month that the range touches", async () => {
    await withRollback(async (db) => {
      await aWriter(db, "UTC", [["2025-11-30T12:00:00Z", 1], ["2026-02-01T00:00:00Z", 2], ["2026-02-02T00:00:00Z", 4]]);
      const { points } = await summaries(db, "ada", "monthly", "2025-11-30", "2026-02-01");
      expect(short(points)).toEqual(["2025-11-01 10 10", "2025-12-01 10 0", "2026-01-01 10 0", "2026-02-01 30 20"]);
    });
  });

  test.each([
    // 29 March 2026, 01:00 UTC: London goes from GMT to BST; its 29th ends at 23:00 UTC.
    ["Europe/London", "2026-03-29T22:59:59Z", "2026-03-29", "2026-03-29T23:00:00Z", "2026-03-30"],
    // 1 November 2026: New York goes back to 5 hours; its 1st ends at 05:00 UTC on the 2nd.
    ["America/New_York", "2026-11-02T04:59:59Z", "2026-11-01", "2026-11-02T05:00:00Z", "2026-11-02"],
    // Apia left out 30 December 2011 altogether.
    ["Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-30T10:00:00Z", "2011-12-31"],
  ])("in %s, where the clocks change, puts %s on %s", async (tz, before, day, after, nextDay) => {
    await withRollback(async (db) => {
      await aWriter(db, tz, [[before, 1], [after, 2]]);
      const { metric } = await summaries(db, "ada", "daily", day, nextDay);
      expect(short(metric).filter((entry) => !entry.endsWith(" 0"))).toEqual([`${day} 1 1`, `${nextDay} 3 2`]);
    });
  });

  test("counts imports by when they happened, in whatever order they came; decrements and caps as they are", async () => {
    await withRollback(async (db) => {
      await aWriter(db, "UTC", [["2026-01-03T00:00:00Z", 5], ["2026-01-01T00:00:00Z", -2.5], ["2026-01-02T00:00:00Z", 1.25]]);
      const { metric, points } = await summaries(db, "ada", "daily", "2026-01-01", "2026-01-03");
      expect(short(metric)).toEqual(["2026-01-01 -2.5 -2.5", "2026-01-02 -1.25 1.25", "2026-01-03 3.75 5"]);
      expect(short(points)).toEqual(["2026-01-01 0 0", "2026-01-02 0 0", "2026-01-03 50 50"]);
    });
  });

  test("takes 400 days and not 401, and an end after the start", async () => {
    await withRollback(async (db) => {
      await aWriter(db, "UTC", []);
      expect((await summaries(db, "ada", "daily", "2025-01-01", "2026-02-05")).metric).toHaveLength(401);
      expect((await summaries(db, "ada", "daily", "2025-01-01", "2025-01-02")).points).toHaveLength(2);
      const wrong: readonly (readonly [string | null, string | null, string | null])[] = [
        ["daily", "2025-01-01", "2026-02-06"], ["daily", "2025-01-02", "2025-01-02"], ["daily", "2025-01-02", "2025-01-01"],
        ["hourly", "2025-01-01", "2025-01-02"], [null, "2025-01-01", "2025-01-02"], ["daily", null, "2025-01-02"],
        ["daily", "2025-01-01", null], ["daily", "2025-01-01", "infinity"], ["daily", "-infinity", "2025-01-01"],
      ];
      for (const [aggregation, from, to] of wrong)
        expect(await refusal(db, () => summaries(db, "ada", aggregation, from, to))).toEqual(lr("LR023"));
    });
  });

  test("is the user's own", async () => {
    await withRollback(async (db) => {
      await aWriter(db, "UTC", []);
      await aUser(db, { id: "bob" });
      expect(await refusal(db, () => summaries(db, "eve", "daily", "2025-01-01", "2025-01-02"))).toEqual(lr("LR002", "eve"));
      await db.query("select set_config('laurel.user_id', 'ada', true)");
      await as(db, "laurel_user", async () => {
        await summaries(db, "ada", "daily", "2025-01-01", "2025-01-02");
        for (const user of ["bob", "eve"])
          expect(await refusal(db, () => summaries(db, user, "daily", "2025-01-01", "2025-01-02"))).toEqual(lr("LR041"));
      });
    });
  });
});
