import type { Task } from "../src/worker/tasks.ts";

/** Makes the partitions of the months ahead, so that no event ever has to go to the default one. */
export const maintainPartitions: Task = {
  name: "maintain_partitions",
  schedule: "17 3 * * *",
  runsAtStart: true,
  run: async ({ pool, now }) => {
    await pool.query("select laurel_private.maintain_partitions($1)", [now()]);
  },
};
