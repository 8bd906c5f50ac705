import type { Task } from "../src/worker/tasks.ts";

/** Ticks in one transaction: few enough that no event waits long for its user. */
const ticksAtOnce = 500;

/**
 * Starts the clocks that a change of configuration lets run, then applies ticks until none is due (rule TR5). Any
 * number of workers may do so at once.
 */
export const runDueTimeTriggers: Task = {
  name: "run_due_time_triggers",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    const isOver = (): boolean => abortSignal?.aborted === true;
    const next = async (text: string, values: unknown[]): Promise<number> =>
      Number((await pool.query<{ count: string }>(text, values)).rows[0]?.count ?? 0);
    while (!isOver() && (await next("select laurel_private.look_for_clocks(null, 1000) as count", [])) > 0);
    while (!isOver() && (await next("select laurel.run_due_time_triggers($1, $2) as count", [now(), ticksAtOnce])) > 0);
  },
};
