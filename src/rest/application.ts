import { achievementOperations } from "./application/achievements.ts";
import { leaderboardOperations } from "./application/leaderboards.ts";
import { recordEvent } from "./application/events.ts";
import { metricOperations } from "./application/metrics.ts";
import { pointsOperations } from "./application/points.ts";
import { userOperations } from "./application/users.ts";
import type { Operation } from "./operations.ts";

/** The application API's operations. */
export const applicationOperations: readonly Operation[] = [
  recordEvent, ...userOperations, ...metricOperations, ...achievementOperations, ...leaderboardOperations, ...pointsOperations,
];
