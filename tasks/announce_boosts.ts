import type { Task } from "../src/worker/tasks.ts";

/** Announces starts and finishes of boosts that are due (rule H4). Any number of workers may do so at once. */
export const announceBoosts: Task = {
  name: "announce_boosts",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const found = await pool.query<{ count: number }>("select laurel_private.announce_boosts($1) as count", [now()]);
      if ((found.rows[0]?.count ?? 0) === 0) return;
    }
  },
};
