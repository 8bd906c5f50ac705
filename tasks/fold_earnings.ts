import type { Task } from "../src/worker/tasks.ts";

/** Folds the award ledger, the count of users and changes of their attributes into what analytics read, moves their windows on when a day has begun, and counts days that ranges are not counted for yet (rule D3). */
export const foldEarnings: Task = {
  name: "fold_earnings",
  schedule: "* * * * *",
  runsAtStart: true,
  run: async ({ pool, now }, _payload, abortSignal) => {
    const isOver = (): boolean => abortSignal?.aborted === true;
    const next = async (text: string, values: unknown[] = []): Promise<number> =>
      (await pool.query<{ count: number }>(text, values)).rows[0]?.count ?? 0;
    // Counting a day takes seconds where many earned on it: the ledger is folded between two of them.
    do {
      while (!isOver() && (await next("select laurel_private.fold_user_counts() as count")) > 0);
      while (!isOver() && (await next("select laurel_private.move_windows($1) as count", [now()])) > 0);
      while (!isOver() && (await next("select laurel_private.fold_earnings() as count")) > 0);
    } while (!isOver() && (await next("select laurel_private.count_range_day() as count")) > 0);
  },
};
