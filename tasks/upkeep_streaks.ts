import type { Task } from "../src/worker/tasks.ts";

/** Makes durable what midnights did to streaks: freezes used and earned, streaks lost. Any number of workers may do so at once. */
export const upkeepStreaks: Task = {
  name: "upkeep_streaks",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const settled = await pool.query("select from laurel_private.upkeep_streaks($1)", [now()]);
      if (settled.rowCount === 0) return;
    }
  },
};
