import type { Task } from "../src/worker/tasks.ts";
import { announceBoosts } from "./announce_boosts.ts";
import { completeAchievements } from "./complete_achievements.ts";
import { countStandings } from "./count_standings.ts";
import { foldEarnings } from "./fold_earnings.ts";
import { keepLeaderboardMarks } from "./keep_leaderboard_marks.ts";
import { maintainPartitions } from "./maintain_partitions.ts";
import { processQueuedEvents } from "./process_queued_events.ts";
import { removeExpired } from "./remove_expired.ts";
import { removeOldWebhookMessages } from "./remove_old_webhook_messages.ts";
import { runDueTimeTriggers } from "./run_due_time_triggers.ts";
import { upkeepLeaderboards } from "./upkeep_leaderboards.ts";
import { upkeepStreaks } from "./upkeep_streaks.ts";

/** Every background job. A new one is a file beside this and a line here. */
export const tasks: readonly Task[] = [
  announceBoosts,
  completeAchievements,
  countStandings,
  foldEarnings,
  keepLeaderboardMarks,
  maintainPartitions,
  processQueuedEvents,
  removeExpired,
  removeOldWebhookMessages,
  runDueTimeTriggers,
  upkeepLeaderboards,
  upkeepStreaks,
];
