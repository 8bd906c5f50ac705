import type { Task } from "../src/worker/tasks.ts";

/** Removes reports that are older than 30 days, and what nobody will look at again. */
export const removeExpired: Task = {
  name: "remove_expired",
  schedule: "41 3 * * *",
  run: async ({ pool, now }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const found = await pool.query<{ count: number }>("select laurel_private.remove_expired($1) as count", [now()]);
      if ((found.rows[0]?.count ?? 0) === 0) return;
    }
  },
};
