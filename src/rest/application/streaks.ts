import { z } from "zod";
import { streakListAnswer, streakRankingsAnswer, userStreakAnswer } from "../answers.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";
import { mostItems } from "../parameters.ts";

const userStreakStatement = claimed("user_streak", "laurel.user_streak($3, $4::int)");
const listStatement = claimed("list_streaks", "laurel.list_streaks($3::text[])");
const rankingsStatement = claimed("streak_rankings", "laurel.streak_rankings($3, $4::int)");

const common = { api: "application", tag: "Streaks", method: "get" } as const;

/** Streaks (rules S1 to S3). */
export const streakOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    id: "users_streak",
    summary: "A user's streak as it is now, with its latest periods, the oldest first.",
    path: "/users/:id/streak",
    query: z.object({ historyPeriods: z.int().min(0).max(366).default(7) }),
    answers: { 200: userStreakAnswer },
    refusals: [403, 404],
    answer: async ({ params, query: { historyPeriods }, run }) => {
      const { body = "" } = await run(userStreakStatement, [params["id"], historyPeriods]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "streaks_list",
    summary: "The lengths of the streaks of up to 100 users, the longest first; 0 for users without one.",
    path: "/streaks",
    query: z.object({ userIds: z.array(z.string()).min(1).max(mostItems) }),
    answers: { 200: streakListAnswer },
    refusals: [403],
    answer: async ({ query: { userIds }, run }) => {
      const { body = "" } = await run(listStatement, [userIds]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "streaks_rankings",
    summary: "The users with the longest streaks, running ones or ever. For older client libraries.",
    path: "/streaks/rankings",
    query: z.object({ type: z.enum(["active", "longest"]).default("active"), limit: z.int().min(1).max(100).default(10) }),
    answers: { 200: streakRankingsAnswer },
    answer: async ({ query: { type, limit }, run }) => {
      const { body = "" } = await run(rankingsStatement, [type, limit]);
      return { status: 200, body };
    },
  }),
];
