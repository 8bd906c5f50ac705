import { z } from "zod";
import {
  adminAchievementAnswer, adminAttributeAnswer, adminBoostAnswer, adminLeaderboardAnswer, adminLevelAnswer, adminMetricAnswer, adminSystemAnswer, adminTenantAnswer, adminTriggerAnswer,
} from "../answers.ts";
import type { Operation } from "../operations.ts";
import { mostItems } from "../parameters.ts";
import { wholeNumber } from "../shapes.ts";
import { operationsOf, type Resource } from "./resources.ts";

const id = z.guid();
const attributeFilter = z.array(z.object({ attributeId: id, attributeValue: z.string() })).nullish();
const badge = z.object({ url: z.string() }).nullish();
const rounding = z.enum(["down", "up", "nearest"]).nullish();

const level = z.object({
  name: z.string(),
  key: z.string(),
  points: wholeNumber,
  description: z.string().nullish(),
  badge,
});
const boost = z.object({
  userId: z.string().nullish(),
  name: z.string(),
  start: z.iso.date(),
  end: z.iso.date().nullish(),
  multiplier: z.number(),
  rounding,
  userAttributes: attributeFilter,
});
const triggerType = z.enum(["metric", "achievement", "streak", "time", "user_creation"]);
const trigger = z.object({
  type: triggerType,
  points: wholeNumber,
  status: z.enum(["active", "inactive"]).nullish(),
  userAttributes: attributeFilter,
  metricId: id.nullish(),
  metricThreshold: wholeNumber.nullish(),
  eventAttributes: attributeFilter,
  achievementId: id.nullish(),
  streakLength: wholeNumber.nullish(),
  timeUnit: z.enum(["hours", "days"]).nullish(),
  timeInterval: wholeNumber.nullish(),
  blockIfOutOfPoints: z.boolean().nullish(),
});
const system = z.object({
  name: z.string(),
  key: z.string(),
  description: z.string().nullish(),
  badge,
  maxPoints: wholeNumber.nullish(),
  levels: z.array(level).max(mostItems).nullish(),
  boosts: z.array(boost).max(mostItems).nullish(),
  triggers: z.array(trigger).max(mostItems).nullish(),
});
const metric = z.object({
  name: z.string(),
  key: z.string(),
  unitType: z.enum(["number", "currency"]).nullish(),
  units: z.string().nullish(),
});
const attribute = z.object({ name: z.string(), key: z.string(), type: z.enum(["user", "event"]) });

const achievement = z.object({
  name: z.string(),
  trigger: z.enum(["metric", "streak", "api", "achievement", "anniversary"]),
  description: z.string().nullish(),
  status: z.enum(["active", "inactive", "locked"]).nullish(),
  badge,
  userAttributes: attributeFilter,
  key: z.string().nullish(),
  metricId: id.nullish(),
  metricValue: z.number().nullish(),
  eventAttributes: attributeFilter,
  streakLength: wholeNumber.nullish(),
  anniversaryYears: wholeNumber.nullish(),
  achievementIds: z.array(id).max(mostItems).nullish(),
});

const timeOfDay = z.string().regex(/^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$/);
const leaderboard = z.object({
  name: z.string(),
  key: z.string(),
  rankBy: z.enum(["metric", "streak", "points"]),
  description: z.string().nullish(),
  status: z.enum(["inactive", "active", "scheduled", "finished"]).nullish(),
  metricId: id.nullish(),
  pointsSystemId: id.nullish(),
  maxParticipants: wholeNumber.nullish(),
  start: z.iso.date().nullish(),
  end: z.iso.date().nullish(),
  startTime: timeOfDay.nullish(),
  endTime: timeOfDay.nullish(),
  breakdownAttributes: z.array(id).max(mostItems).nullish(),
  runUnit: z.enum(["day", "month", "year"]).nullish(),
  runInterval: wholeNumber.nullish(),
});

const tenant = z.object({ customerId: z.string(), name: z.string() });

/** The shapes of drafts, which a preview lays over what is saved: with an id as for changing, without as for creating. */
export const draftShapes = {
  trigger: trigger.partial().extend({ id: id.nullish() }),
  boost: boost.partial().extend({ id: id.nullish() }),
  level: level.partial().extend({ id: id.nullish() }),
} as const;

const resources: readonly Resource[] = [
  {
    name: "attributes",
    idPrefix: "admin_attributes",
    tag: "Attributes",
    path: "/attributes",
    noun: "attributes",
    toCreate: attribute,
    toUpdate: z.object({ id, name: z.string().nullish() }),
    shown: adminAttributeAnswer,
  },
  {
    name: "metrics",
    idPrefix: "admin_metrics",
    tag: "Metrics",
    path: "/metrics",
    noun: "metrics",
    toCreate: metric,
    toUpdate: metric.omit({ key: true }).partial().extend({ id }),
    shown: adminMetricAnswer,
  },
  {
    name: "achievements",
    idPrefix: "admin_achievements",
    tag: "Achievements",
    path: "/achievements",
    noun: "achievements",
    toCreate: achievement,
    toUpdate: achievement.partial().extend({ id }),
    shown: adminAchievementAnswer,
  },
  {
    name: "leaderboards",
    idPrefix: "admin_leaderboards",
    tag: "Leaderboards",
    path: "/leaderboards",
    noun: "leaderboards",
    toCreate: leaderboard,
    toUpdate: leaderboard.partial().extend({ id }),
    shown: adminLeaderboardAnswer,
  },
  {
    name: "points",
    idPrefix: "admin_points_systems",
    tag: "Points",
    path: "/points",
    noun: "points systems",
    toCreate: system,
    toUpdate: system.omit({ key: true, levels: true, boosts: true, triggers: true }).partial().extend({ id }),
    shown: adminSystemAnswer,
  },
  {
    name: "levels",
    idPrefix: "admin_points_levels",
    tag: "Points",
    path: "/points/:systemId/levels",
    noun: "levels of a points system",
    toCreate: level,
    toUpdate: level.omit({ key: true }).partial().extend({ id }),
    shown: adminLevelAnswer,
  },
  {
    name: "boosts",
    idPrefix: "admin_points_boosts",
    tag: "Points",
    path: "/points/:systemId/boosts",
    noun: "boosts of a points system",
    toCreate: boost,
    toUpdate: boost.omit({ userId: true }).partial().extend({ id }),
    shown: adminBoostAnswer,
  },
  {
    name: "triggers",
    idPrefix: "admin_points_triggers",
    tag: "Points",
    path: "/points/:systemId/triggers",
    noun: "triggers of a points system",
    toCreate: trigger,
    toUpdate: trigger.partial().extend({ id }),
    shown: adminTriggerAnswer,
  },
  {
    name: "tenants",
    idPrefix: "admin_tenants",
    tag: "Tenants",
    path: "/tenants",
    noun: "tenants",
    toCreate: tenant,
    toUpdate: tenant.partial().extend({ id }),
    shown: adminTenantAnswer,
  },
];

/** Create, list, get, update and delete of every kind of configuration. */
export const configurationOperations: readonly Operation[] = resources.flatMap(operationsOf);
