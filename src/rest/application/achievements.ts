import { z } from "zod";
import { achievementAnswer, completionAnswer, userAchievementsAnswer } from "../answers.ts";
import { bodyLimitBytes } from "../bodies.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";
import { userAttributesQuery } from "../parameters.ts";
import { identifiedUserShape } from "../shapes.ts";

const completeStatement = claimed("complete_achievement", "laurel.complete_achievement($3, $4, $5::jsonb)");
const describeStatement = claimed("describe_achievements", "laurel.describe_achievements($3)");
const userAchievementsStatement = claimed("user_achievement_list", "laurel.user_achievement_list($3, $4::boolean)");

const common = { api: "application", tag: "Achievements" } as const;

/** Achievements and who has them (rules A1 to A4). */
export const achievementOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    id: "achievements_all",
    summary: "All achievements, with how many users have completed them.",
    method: "get",
    path: "/achievements",
    query: z.object({ userAttributes: userAttributesQuery }),
    answers: { 200: z.array(achievementAnswer) },
    answer: async ({ query: { userAttributes }, run }) => {
      const { body = "" } = await run(describeStatement, [userAttributes]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "achievements_complete",
    summary: "Completes an achievement for the user of the body. Once completed it answers the same, and awards nothing.",
    method: "post",
    path: "/achievements/:key/complete",
    body: z.object({ user: identifiedUserShape }),
    bodyLimitBytes,
    answers: { 201: completionAnswer },
    refusals: [400, 403, 404],
    answer: async ({ params, body: { user }, run }) => {
      const { body = "" } = await run(completeStatement, [params["key"], user.id, JSON.stringify(user)]);
      return { status: 201, body };
    },
  }),
  defineOperation({
    ...common,
    id: "users_achievements",
    summary: "The achievements a user has completed; with `includeIncomplete=true` also the others.",
    method: "get",
    path: "/users/:id/achievements",
    query: z.object({ includeIncomplete: z.string().default("") }),
    answers: { 200: userAchievementsAnswer },
    refusals: [403, 404],
    answer: async ({ params, query: { includeIncomplete }, run }) => {
      const { body = "" } = await run(userAchievementsStatement, [params["id"], includeIncomplete === "true"]);
      return { status: 200, body };
    },
  }),
];
