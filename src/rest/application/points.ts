import { z } from "zod";
import {
  awardsAnswer, boostAnswer, eventSummaryAnswer, levelAnswer, levelSummaryAnswer, pointsSummaryAnswer, systemAnswer, userPointsAnswer,
} from "../answers.ts";
import { claimed, defineOperation, type Operation } from "../operations.ts";
import { userAttributesQuery } from "../parameters.ts";
import { summaryQuery } from "./metrics.ts";

const userPointsStatement = claimed("user_points", "laurel.user_points_as_text($3, $4, $5::int, $6::timestamptz)");
const userAwardsStatement = claimed("user_awards", "laurel.user_awards($3, $4, $5::int, $6::bigint)");
const userBoostsStatement = claimed("user_points_boosts", "laurel.user_points_boosts($3, $4)");
const userSummaryStatement = claimed(
  "points_event_summary",
  "laurel.points_event_summary($3, $4, $5, $6::date, $7::date)",
);
const systemStatement = claimed("describe_points_system", "laurel.describe_points_system($3)");
const boostsStatement = claimed("describe_points_boosts", "laurel.describe_points_boosts($3, $4::boolean)");
const levelsStatement = claimed("describe_points_levels", "laurel.describe_points_levels($3)");
const summaryStatement = claimed("points_summary", "laurel.points_summary($3, $4)");
const levelSummaryStatement = claimed("points_level_summary", "laurel.points_level_summary($3)");

const ofUser = { api: "application", tag: "Points", method: "get", refusals: [403, 404] } as const;
const ofSystem = { api: "application", tag: "Points", method: "get", refusals: [404] } as const;

/** GET /users/{id}/points/{key}: what apps ask for all the time. */
export const userPoints = defineOperation({
  ...ofUser,
  id: "users_points",
  summary: "A user's total, level and latest awards in a points system; with `at` those of a past moment.",
  path: "/users/:id/points/:key",
  query: z.object({
    awards: z.int().min(1).max(100).default(10),
    at: z.iso.datetime({ offset: true }).optional(),
  }),
  answers: { 200: userPointsAnswer },
  answer: async ({ params, query: { awards, at }, run }) => {
    const { body = "" } = await run(userPointsStatement, [params["key"], params["id"], awards, at ?? null]);
    return { status: 200, body };
  },
});

/** Points of users, and the systems they are counted in (rules RP1 to RP5, L1 to L4, B2, B3). */
export const pointsOperations: readonly Operation[] = [
  userPoints,
  defineOperation({
    ...ofUser,
    id: "users_points_awards",
    summary: "Every change of a user's total, latest first, each with its explanation. An extension of ours.",
    path: "/users/:id/points/:key/awards",
    query: z.object({
      limit: z.int().min(1).max(100).default(20),
      cursor: z.string().regex(/^[1-9]\d{0,17}$/).optional(),
    }),
    answers: { 200: awardsAnswer },
    answer: async ({ params, query: { limit, cursor }, run }) => {
      const { body = "" } = await run(userAwardsStatement, [params["key"], params["id"], limit, cursor ?? null]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofUser,
    id: "users_points_boosts",
    summary: "The boosts that apply to a user today.",
    path: "/users/:id/points/:key/boosts",
    answers: { 200: z.array(boostAnswer) },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(userBoostsStatement, [params["key"], params["id"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofUser,
    id: "users_points_event_summary",
    summary: "A user's points over time: an entry for every day, week (from Sunday) or month that touches the dates.",
    path: "/users/:id/points/:key/event-summary",
    query: summaryQuery,
    answers: { 200: eventSummaryAnswer },
    answer: async ({ params, query: { aggregation, startDate, endDate }, run }) => {
      const { body = "" } = await run(userSummaryStatement, [params["key"], params["id"], aggregation, startDate, endDate]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofSystem,
    id: "points_summary",
    summary: "How many users have how many points: 0, and ten equal ranges above it.",
    path: "/points/:key/summary",
    query: z.object({ userAttributes: userAttributesQuery }),
    answers: { 200: pointsSummaryAnswer },
    answer: async ({ params, query: { userAttributes }, run }) => {
      const { body = "" } = await run(summaryStatement, [params["key"], userAttributes]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofSystem,
    id: "points_system",
    summary: "A points system with its active triggers.",
    path: "/points/:key",
    answers: { 200: systemAnswer },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(systemStatement, [params["key"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofSystem,
    id: "points_boosts",
    summary: "A system's boosts that are not for a single user.",
    path: "/points/:key/boosts",
    query: z.object({ includeFinished: z.boolean().default(false) }),
    answers: { 200: z.array(boostAnswer) },
    answer: async ({ params, query: { includeFinished }, run }) => {
      const { body = "" } = await run(boostsStatement, [params["key"], includeFinished]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofSystem,
    id: "points_levels",
    summary: "A system's levels, lowest first.",
    path: "/points/:key/levels",
    answers: { 200: z.array(levelAnswer) },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(levelsStatement, [params["key"]]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...ofSystem,
    id: "points_level_summary",
    summary: "How many users stand at each level.",
    path: "/points/:key/level-summary",
    answers: { 200: levelSummaryAnswer },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(levelSummaryStatement, [params["key"]]);
      return { status: 200, body };
    },
  }),
];
