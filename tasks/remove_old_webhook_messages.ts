import type { Task } from "../src/worker/tasks.ts";

/** Removes the delivery log, and messages that are done with, after 30 days. */
export const removeOldWebhookMessages: Task = {
  name: "remove_old_webhook_messages",
  schedule: "41 * * * *",
  run: async ({ pool, now }, _payload, abortSignal) => {
    for (;;) {
      if (abortSignal?.aborted === true) return;
      const removed = await pool.query<{ count: number }>("select laurel_private.remove_old_webhook_messages($1) as count", [now()]);
      if ((removed.rows[0]?.count ?? 0) === 0) return;
    }
  },
};
