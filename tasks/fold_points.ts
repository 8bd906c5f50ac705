import type { Task } from "../src/worker/tasks.ts";

/** Folds the ledger into daily figures. Any number of workers may do so at once. */
export const foldPoints: Task = {
  name: "fold_points",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const found = await pool.query<{ count: string }>("select laurel_private.fold_points() as count");
      if (Number(found.rows[0]?.count ?? 0) === 0) return;
    }
  },
};
