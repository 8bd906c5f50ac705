import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "pg";
import { withClient } from "./laboratory.ts";

/** As often as tasks/keep_leaderboard_marks.ts. */
const pauseMs = 2_000;
/** A proposal, its being seen, the count, and what moved meanwhile. */
const looks = 5;

/** Does for leaderboards what a running worker does, once and then every few seconds while `work` goes on. */
export async function withUpkeep<T>(connectionString: string, work: () => Promise<T>): Promise<T> {
  return withClient(connectionString, async (owner) => {
    // Runs are not looked at before history is.
    while ((await count(owner, "backfill_leaderboards(1000)")) > 0);
    while ((await count(owner, "upkeep_leaderboards()")) > 0);
    await keepMarks(owner);
    const over = new AbortController();
    const kept = (async () => {
      while (await pause(pauseMs, true, { signal: over.signal }).catch(() => false)) await keepMarks(owner);
    })();
    try {
      return await work();
    } finally {
      over.abort();
      await kept;
    }
  });
}

async function keepMarks(owner: Client): Promise<void> {
  for (let look = 0; look < looks && (await count(owner, "keep_marks()")) > 0; look += 1);
}

async function count(owner: Client, call: string): Promise<number> {
  const { rows } = await owner.query<{ count: number }>(`select laurel_private.${call} as count`);
  return rows[0]?.count ?? 0;
}
