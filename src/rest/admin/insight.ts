import { z } from "zod";
import { bodyLimitBytes } from "../bodies.ts";
import { levelSummaryAnswer, pointsSummaryAnswer } from "../answers.ts";
import { administered, type Call, defineOperation, type Operation, type Statement } from "../operations.ts";
import { mostItems, userAttributesQuery, uuidParam } from "../parameters.ts";
import { parseShape, wholeNumber } from "../shapes.ts";
import { draftShapes } from "./configuration.ts";
import {
  backtestAnswer, breakdownAnswer, byUsersAnswer, earnedAnswer, estimateAnswer, firstDaysAnswer, insightsAnswer, previewAnswer,
} from "./insight_answers.ts";

/** JSON types of what simulations take; limits and what exists are the database's to judge (insight/preview_points.sql). */
const texts = z.record(z.string(), z.string()).nullish();
const nounFor = (noun: string) => ({ error: ({ input }: { readonly input?: unknown }) => (input === undefined ? "is required" : `must be ${noun}`) });
const draft = z.object({
  maxPoints: wholeNumber.nullish(),
  triggers: z.array(draftShapes.trigger).max(mostItems).nullish(),
  boosts: z.array(draftShapes.boost).max(mostItems).nullish(),
  levels: z.array(draftShapes.level).max(mostItems).nullish(),
}).nullish();
const scenario = z.object({
  days: wholeNumber,
  start: z.iso.date().nullish(),
  seed: z.int().nullish(),
  kinds: z.array(z.object({
    name: z.string(),
    users: wholeNumber,
    tz: z.string().nullish(),
    attributes: texts,
    activeDays: z.union([z.number(), z.array(wholeNumber)], nounFor("a share from 0 to 1 or an array of weekdays from 0 (Sunday) to 6")).nullish(),
    events: z.array(z.object({
      metric: z.string(),
      perDay: z.union([z.number(), z.array(wholeNumber)], nounFor("a number from 0 to 1000 or two whole numbers, [least, most], from 0 to 1000")),
      value: z.number().nullish(),
      attributes: texts,
    })),
    achievements: z.array(z.object({ key: z.string(), day: wholeNumber })).nullish(),
  })),
  draft,
});

const request = z.object({
  from: z.iso.date(),
  to: z.iso.date(),
  users: z.object({ sample: wholeNumber.nullish(), seed: z.int().nullish(), attributes: texts }).nullish(),
  draft,
});
const estimate = z.object({ amounts: z.record(z.string(), z.number()), draft });

const key = "laurel_private.points_system_key($3::uuid)";
const previewStatement = administered("preview_points", `laurel.preview_points(${key}, $4::jsonb)`);
const backtestStatement = administered("backtest_points", `laurel.backtest_points(${key}, $4::jsonb)`);
const estimateStatement = administered("estimate_points", `laurel.estimate_points(${key}, $4::jsonb -> 'amounts', $4::jsonb -> 'draft')`);

const common = { api: "admin", tag: "Insight", refusals: [404] } as const;

/** Sends a document as it came, once its JSON types are right: the database refuses properties that it does not know. */
async function simulate({ params, body, run }: Call, shape: z.ZodType, statement: Statement): Promise<{ status: number; body: string }> {
  parseShape(shape, body.value);
  const { body: answer = "" } = await run(statement, [uuidParam(params, "systemId"), body.text]);
  return { status: 200, body: answer };
}

const levelsStatement = administered("points_level_summary", `laurel.points_level_summary(${key})`);
const totalsStatement = administered("points_summary", `laurel.points_summary(${key}, $4)`);

/** A figure of some UTC days, both included; without dates those of the last 30. */
function figure(name: string, summary: string, call: string, shown: z.ZodType, unit?: z.ZodType<string>): Operation {
  const ending = "coalesce($5::date, (now() at time zone 'UTC')::date)";
  const range = `coalesce($4::date, ${ending} - 29), ${ending}`;
  const statement = administered(call, `laurel.${call}(${key}, ${range}, ${unit === undefined ? "$6" : "$7, $6"})`);
  const query = z.object({ from: z.iso.date().optional(), to: z.iso.date().optional(), userAttributes: userAttributesQuery });
  return defineOperation({
    ...common,
    id: `admin_points_analytics_${name.replaceAll("-", "_")}`,
    summary: `${summary} An extension of ours.`,
    method: "get",
    path: `/points/:systemId/analytics/${name}`,
    query: unit === undefined ? query : query.extend({ unit }),
    answers: { 200: shown },
    answer: async ({ params, query: given, run }) => {
      const values = [uuidParam(params, "systemId"), given.from ?? null, given.to ?? null, given.userAttributes];
      const { body = "" } = await run(statement, "unit" in given ? [...values, given.unit] : values);
      return { status: 200, body };
    },
  });
}

/** Balancing a points system before anybody sees it (rules D1 to D3). Extensions of ours. */
export const insightOperations: readonly Operation[] = [
  {
    ...common,
    id: "admin_points_preview",
    summary: "What a system's rules, with drafts laid over them, would give kinds of users over some days. Nothing is stored. An extension of ours.",
    method: "post",
    path: "/points/:systemId/preview",
    body: scenario,
    bodyLimitBytes,
    answers: { 200: previewAnswer },
    answer: (call) => simulate(call, scenario, previewStatement),
  },
  {
    ...common,
    id: "admin_points_backtest",
    summary: "What the rules of today, and the same with drafts laid over them, would have given real users for what they did. Nothing is stored. An extension of ours.",
    method: "post",
    path: "/points/:systemId/backtest",
    body: request,
    bodyLimitBytes,
    answers: { 200: backtestAnswer },
    answer: (call) => simulate(call, request, backtestStatement),
  },
  {
    ...common,
    id: "admin_points_estimate",
    summary: "What one user would get today for so much of each metric. Nothing is stored. An extension of ours.",
    method: "post",
    path: "/points/:systemId/estimate",
    body: estimate,
    bodyLimitBytes,
    answers: { 200: estimateAnswer },
    answer: (call) => simulate(call, estimate, estimateStatement),
  },
  figure("earned", "Points earned by all users over time, boosted and not, and deducted, beside the range before.", "points_earned", earnedAnswer,
    z.enum(["day", "week", "month"]).default("day")),
  figure("breakdown", "What the points came from: by type of trigger and by trigger, beside the range before.", "points_breakdown", breakdownAnswer),
  figure("users", "The most that one user earned, beside the range before, and a histogram of users.", "points_by_users", byUsersAnswer),
  figure("first-days", "What users who joined in this time earned in their first 14 days, beside those of the range before.", "points_in_first_days", firstDaysAnswer),
  figure("insights", "The figures in plain sentences.", "points_insights", insightsAnswer),
  defineOperation({
    ...common,
    id: "admin_points_analytics_levels",
    summary: "How many users stand at each level. An extension of ours.",
    method: "get",
    path: "/points/:systemId/analytics/levels",
    answers: { 200: levelSummaryAnswer },
    answer: async ({ params, run }) => {
      const { body = "" } = await run(levelsStatement, [uuidParam(params, "systemId")]);
      return { status: 200, body };
    },
  }),
  defineOperation({
    ...common,
    id: "admin_points_analytics_totals",
    summary: "How many users have how many points. An extension of ours.",
    method: "get",
    path: "/points/:systemId/analytics/totals",
    query: z.object({ userAttributes: userAttributesQuery }),
    answers: { 200: pointsSummaryAnswer },
    answer: async ({ params, query: { userAttributes }, run }) => {
      const { body = "" } = await run(totalsStatement, [uuidParam(params, "systemId"), userAttributes]);
      return { status: 200, body };
    },
  }),
];
