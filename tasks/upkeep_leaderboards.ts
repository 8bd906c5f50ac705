import type { Task } from "../src/worker/tasks.ts";

/**
 * Looks back at what happened before leaderboards were activated, and writes down what time brings: runs that start and
 * become final, changed places (rule LB1). Any number of workers may do so at once.
 */
export const upkeepLeaderboards: Task = {
  name: "upkeep_leaderboards",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    const isOver = (): boolean => abortSignal?.aborted === true;
    const next = async (text: string, values: unknown[] = []): Promise<number> =>
      (await pool.query<{ count: number }>(text, values)).rows[0]?.count ?? 0;
    while (!isOver() && (await next("select laurel_private.backfill_leaderboards() as count")) > 0);
    const asOf = now();
    while (!isOver() && (await next("select laurel_private.upkeep_leaderboards($1) as count", [asOf])) > 0);
  },
};
