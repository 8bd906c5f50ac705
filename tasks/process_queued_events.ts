import type { Task } from "../src/worker/tasks.ts";

/** Records the events of accepted batches until none waits. Any number of workers may do so at once. */
export const processQueuedEvents: Task = {
  name: "process_queued_events",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const found = await pool.query<{ count: number }>("select laurel_private.process_queued_events() as count");
      if ((found.rows[0]?.count ?? 0) === 0) return;
    }
  },
};
