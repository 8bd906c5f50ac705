import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "pg";
import { withClient } from "./laboratory.ts";

/** As often as tasks/keep_leaderboard_marks.ts. */
const pauseMs = 5_000;
/** A proposal, its being seen, the count, and what moved meanwhile. */
const looks = 5;

/** Does for leaderboards what a running worker does, once and then every few seconds while `work` goes on. */
export async function withUpkeep<T>(connectionString: string, work: () => Promise<T>): Promise<T> {
  return withClient(connectionString, async (owner) => {
    await owner.query("select laurel_private.upkeep_leaderboards()");
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
  for (let look = 0; look < looks; look += 1) await owner.query("select laurel_private.keep_marks()");
}
