import type { Task } from "../src/worker/tasks.ts";

/** A proposal of marks, a look that finds it committed, the count, and what moved meanwhile. */
const looks = 4;

/**
 * Keeps the marks that ranks of long leaderboards are counted from (rule LB1): without it they are right, and slow again within
 * seconds of many events. So it comes back every few seconds, as long as there are marks. Any number of workers may do so at once.
 */
export const keepLeaderboardMarks: Task = {
  name: "keep_leaderboard_marks",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    for (let look = 0; look < looks && abortSignal?.aborted !== true; look += 1) {
      const { rows } = await pool.query<{ count: number }>("select laurel_private.keep_marks($1) as count", [now()]);
      if ((rows[0]?.count ?? 0) === 0) break;
    }
    if (abortSignal?.aborted === true) return;
    await pool.query(
      `select graphile_worker.add_job('keep_leaderboard_marks', run_at => now() + interval '2 seconds', job_key => 'keep_leaderboard_marks again')
       where exists (select from laurel_private.leaderboard_marks)`,
    );
  },
};
