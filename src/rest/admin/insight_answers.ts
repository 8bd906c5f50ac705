import { z } from "zod";
import { triggerAnswer } from "../answers.ts";

/** What previews, backtests and analytics answer. */

const named = <T extends z.ZodType>(name: string, shape: T): T => shape.meta({ id: name });

const shownTrigger = named("RehearsedTrigger", z.object({
  id: z.guid().optional(),
  /** The place in the draft's triggers, of one that is not saved. */
  draft: z.int().optional(),
  type: z.enum(["metric", "achievement", "streak", "time", "user_creation"]),
  points: z.int(),
  status: z.literal("active"),
}).loose());

const figures = {
  totals: z.array(z.object({ day: z.int(), date: z.iso.date(), p10: z.int(), p50: z.int(), p90: z.int() })),
  byTrigger: z.array(z.object({ trigger: shownTrigger, firings: z.number(), awarded: z.number() })),
  levels: z.array(z.object({ key: z.string(), share: z.number().min(0).max(1), medianDay: z.int().nullable() })),
  lost: z.object({ rounding: z.number(), cap: z.number(), floor: z.number() }),
};

export const previewAnswer = named("PointsPreview", z.object({
  days: z.int(),
  start: z.iso.date(),
  seed: z.int(),
  kinds: z.array(z.object({
    name: z.string(),
    users: z.int(),
    simulatedUsers: z.int(),
    events: z.number(),
    refusedEvents: z.number(),
    ...figures,
  })),
}));

const side = z.object({ refusedEvents: z.int(), ...figures });
export const backtestAnswer = named("PointsBacktest", z.object({
  from: z.iso.date(),
  to: z.iso.date(),
  users: z.int(),
  events: z.int(),
  current: side,
  draft: side,
}));

export const estimateAnswer = named("PointsEstimate", z.object({ total: z.number(), byTrigger: figures.byTrigger }));

const range = { from: z.iso.date(), to: z.iso.date() };
const sums = { earned: z.number(), boosted: z.number(), deducted: z.number() };
const histogram = z.array(z.object({ from: z.number(), to: z.number(), users: z.int() }));
const cause = z.enum(["user_creation", "metric", "streak", "achievement", "time", "adjustment"]);

export const earnedAnswer = named("PointsEarned", z.object({
  ...range,
  unit: z.enum(["day", "week", "month"]),
  ...sums,
  notBoosted: z.number(),
  before: z.object({ ...range, earned: z.number() }),
  changePercent: z.number().nullable(),
  series: z.array(z.object({ date: z.iso.date(), ...sums, notBoosted: z.number() })),
}));

const change = { changePercent: z.number().nullable() };
const part = { type: cause, ...sums, awards: z.int(), share: z.number().nullable(), before: z.number(), ...change };
export const breakdownAnswer = named("PointsBreakdown", z.object({
  ...range,
  earned: z.number(),
  before: z.object({ ...range, earned: z.number() }),
  ...change,
  byType: z.array(z.object(part)),
  byTrigger: z.array(z.object({ trigger: triggerAnswer.nullable(), ...part })),
}));

const most = { most: z.number(), mostUserId: z.string().nullable(), earners: z.int(), average: z.number().nullable() };
export const byUsersAnswer = named("PointsByUsers", z.object({
  ...range,
  ...most,
  users: z.int(),
  histogram,
  before: z.object({ ...range, ...most }),
  ...change,
}));

const joined = { users: z.int(), average: z.number().nullable() };
export const firstDaysAnswer = named("PointsInFirstDays", z.object({
  ...range,
  ...joined,
  histogram,
  before: z.object({ ...range, ...joined }),
  ...change,
}));

export const insightsAnswer = named("PointsInsights", z.object({ ...range, sentences: z.array(z.string()) }));
