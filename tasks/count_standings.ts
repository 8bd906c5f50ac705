import type { Task } from "../src/worker/tasks.ts";

/** Counts where users of tenants with many of them stand in a week, month or year, for the percentiles of a year in review. */
export const countStandings: Task = {
  name: "count_standings",
  schedule: "25 * * * *",
  run: async ({ pool, now }, _payload, abortSignal) => {
    const next = async (): Promise<number> =>
      (await pool.query<{ count: number }>("select laurel_private.count_standings($1) as count", [now()])).rows[0]?.count ?? 0;
    while (abortSignal?.aborted !== true && (await next()) > 0);
  },
};
