import type { Task } from "../src/worker/tasks.ts";

/**
 * Completes achievements that no event brings: for users who qualified already when one became active (rule A3), and
 * anniversaries. Any number of workers may do so at once.
 */
export const completeAchievements: Task = {
  name: "complete_achievements",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    const isOver = (): boolean => abortSignal?.aborted === true;
    const next = async (text: string, values: unknown[] = []): Promise<number> =>
      (await pool.query<{ count: number }>(text, values)).rows[0]?.count ?? 0;
    while (!isOver() && (await next("select laurel_private.backfill_achievements() as count")) > 0);
    while (!isOver() && (await next("select laurel_private.complete_anniversaries($1) as count", [now()])) > 0);
  },
};
