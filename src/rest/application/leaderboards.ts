import { z } from "zod";
import { leaderboardsAnswer, rankingsAnswer, userBoardHistoryAnswer } from "../answers.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";
import { userAttributesQuery } from "../parameters.ts";

const describeStatement = claimed("describe_leaderboards", "laurel.describe_leaderboards($3::boolean)");
const rankingsStatement = claimed("leaderboard_rankings", "laurel.leaderboard_rankings($3, $4::int, $5::int, $6::date, $7, $8)");
const userStatement = claimed("user_leaderboard", "laurel.user_leaderboard($3, $4, $5::date, $6::int)");

const common = { api: "application" } as const;

/** Leaderboards, their rankings and a user's place (rule LB1). */
export const leaderboardOperations: readonly Operation[] = [
  defineOperation({
    ...common,
    tag: "Leaderboards",
    id: "leaderboards_all",
    summary: "All leaderboards that are active or scheduled; with `includeFinished=true` also finished ones.",
    method: "get",
    path: "/leaderboards",
    query: z.object({ includeFinished: z.boolean().default(false) }),
    answers: { 200: leaderboardsAnswer },
    answer: async ({ query: { includeFinished }, run }) => {
      const { body = "" } = await run(describeStatement, [includeFinished]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    tag: "Leaderboards",
    id: "leaderboards_get",
    summary: "A leaderboard with the rankings of its current run, or of the run that a day lies in.",
    method: "get",
    path: "/leaderboards/:key",
    query: z.object({
      offset: z.int().min(0).max(2_147_483_647).default(0),
      limit: z.int().min(0).max(1000).optional(),
      run: z.iso.date().optional(),
      userId: z.string().optional(),
      userAttributes: userAttributesQuery,
    }),
    answers: { 200: rankingsAnswer },
    refusals: [404],
    answer: async ({ params, query: { offset, limit, run: day, userId, userAttributes }, run }) => {
      const { body = "" } = await run(rankingsStatement,
        [params["key"], limit ?? null, offset, day ?? null, userId ?? null, userAttributes]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    tag: "Users",
    id: "users_leaderboard",
    summary: "A user's rank and value on a leaderboard, with the days on which they changed.",
    method: "get",
    path: "/users/:id/leaderboards/:key",
    query: z.object({ run: z.iso.date().optional(), numEvents: z.int().min(0).max(100).default(10) }),
    answers: { 200: userBoardHistoryAnswer },
    refusals: [403, 404],
    answer: async ({ params, query: { run: day, numEvents }, run }) => {
      const { body = "" } = await run(userStatement, [params["key"], params["id"], day ?? null, numEvents]);
      return { status: 200, body };
    },
  }),
];
