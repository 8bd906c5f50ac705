import type { Task } from "../src/worker/tasks.ts";
import { completeAchievements } from "./complete_achievements.ts";
import { foldPoints } from "./fold_points.ts";
import { maintainPartitions } from "./maintain_partitions.ts";
import { processQueuedEvents } from "./process_queued_events.ts";
import { runDueTimeTriggers } from "./run_due_time_triggers.ts";
import { upkeepLeaderboards } from "./upkeep_leaderboards.ts";

/** Every background job. A new one is a file beside this and a line here. */
export const tasks: readonly Task[] = [
  completeAchievements, foldPoints, maintainPartitions, processQueuedEvents, runDueTimeTriggers, upkeepLeaderboards,
];
