import { z } from "zod";

/** What the APIs answer, as zod shapes named for OpenAPI. Tests hold every answer against them. */

const named = <T extends z.ZodType>(name: string, shape: T): T => shape.meta({ id: name });

const instant = z.iso.datetime();
const uuid = z.guid();
const attributePairs = z.array(z.object({ key: z.string(), value: z.string() }));

/** The one form of every refusal. */
export const errorAnswer = named("Error", z.object({ error: z.string(), field: z.string().optional() }));

export const userAnswer = named("User", z.object({
  id: z.string(),
  email: z.string().nullable(),
  name: z.string().nullable(),
  tz: z.string().nullable(),
  signUpDate: z.iso.date().nullable(),
  deviceTokens: z.array(z.string()),
  subscribeToEmails: z.boolean(),
  attributes: z.record(z.string(), z.string()),
  control: z.boolean(),
  created: instant,
  updated: instant,
}));

const channel = z.enum(["email", "push"]);
/** Where to notify a user, by kind of notification. */
export const notificationsShape = named("NotificationPreferences", z.object({
  achievement_completed: z.array(channel).optional(),
  recap: z.array(channel).optional(),
  reactivation: z.array(channel).optional(),
  streak_reminder: z.array(channel).optional(),
}));
/** How a user's streak is judged. */
export const streakPreferencesShape = named("StreakPreferences", z.object({
  enabled: z.boolean().optional(),
  evaluationMode: z.enum(["AND", "OR"]).optional(),
  metrics: z.array(z.object({ key: z.string(), threshold: z.number() })).optional(),
  daysOff: z.array(z.int().min(0).max(6)).max(6).optional(),
}));
export const preferencesAnswer = named("UserPreferences", z.object({
  notifications: notificationsShape,
  streak: streakPreferencesShape,
}));

export const levelAnswer = named("PointsLevel", z.object({
  id: uuid,
  key: z.string(),
  name: z.string(),
  description: z.string(),
  badgeUrl: z.string().nullable(),
  points: z.int(),
}));

export const triggerAnswer = named("PointsTrigger", z.object({
  id: uuid,
  type: z.enum(["metric", "achievement", "streak", "time", "user_creation"]),
  points: z.int(),
  status: z.enum(["active", "inactive", "archived"]),
  metricId: uuid.optional(),
  metricName: z.string().optional(),
  metricThreshold: z.int().optional(),
  achievementId: uuid.optional(),
  achievementName: z.string().optional(),
  streakLengthThreshold: z.int().optional(),
  timeUnit: z.enum(["hour", "day"]).optional(),
  timeInterval: z.int().optional(),
  userAttributes: attributePairs,
  eventAttributes: attributePairs.optional(),
  eventAttribute: z.object({ key: z.string(), value: z.string() }).optional(),
  created: instant,
  updated: instant,
}));

export const boostAnswer = named("PointsBoost", z.object({
  id: uuid,
  name: z.string(),
  status: z.enum(["active", "scheduled", "finished"]),
  start: z.iso.date(),
  end: z.iso.date().nullable(),
  multiplier: z.number(),
  rounding: z.enum(["down", "up", "nearest"]),
}));

export const awardAnswer = named("PointsAward", z.object({
  id: uuid,
  awarded: z.int(),
  date: instant,
  total: z.int(),
  trigger: triggerAnswer.optional(),
  boosts: z.array(boostAnswer),
  reason: z.string().optional(),
}));

const systemFields = {
  id: uuid,
  key: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  badgeUrl: z.string().nullable(),
  maxPoints: z.int().nullable(),
};
export const systemAnswer = named("PointsSystem", z.object({ ...systemFields, triggers: z.array(triggerAnswer) }));
export const userPointsAnswer = named("UserPoints", z.object({
  ...systemFields,
  total: z.int(),
  level: levelAnswer.nullable(),
  awards: z.array(awardAnswer),
}));
/** What one event did in one system; `level` is there when it changed (rule L3). */
export const changedPointsAnswer = named("ChangedPoints", z.object({
  ...systemFields,
  total: z.int(),
  added: z.int(),
  level: levelAnswer.nullable().optional(),
  awards: z.array(awardAnswer),
}));

const streakFrequency = z.enum(["daily", "weekly", "monthly"]);
/** What every answer about a streak has; freezes only where they are switched on. */
const streakFields = {
  length: z.int(),
  frequency: streakFrequency,
  started: z.iso.date().nullable(),
  periodStart: z.iso.date().nullable(),
  periodEnd: z.iso.date().nullable(),
  expires: z.iso.date().nullable(),
  freezes: z.int().optional(),
  maxFreezes: z.int().optional(),
  freezeAutoEarnInterval: z.int().optional(),
  freezeAutoEarnAmount: z.int().optional(),
};
/** `extended` says whether this event made the streak longer. */
export const streakAnswer = named("EventStreak", z.object({ ...streakFields, extended: z.boolean() }));
const pauseFields = { id: uuid, start: z.iso.date(), end: z.iso.date() };
/** `extended` is when it last grew; `rank` its place among the running ones, for older clients. */
export const userStreakAnswer = named("UserStreak", z.object({
  ...streakFields,
  extended: instant.nullable(),
  rank: z.int().nullable(),
  longest: z.int(),
  streakHistory: z.array(z.object({
    periodStart: z.iso.date(),
    periodEnd: z.iso.date(),
    length: z.int(),
    usedPause: z.boolean(),
    usedFreeze: z.boolean().optional(),
    resetAt: instant.optional(),
  })),
  pauses: z.array(z.object(pauseFields)),
}));
export const streakListAnswer = named("Streaks", z.array(z.object({
  userId: z.string(),
  streakLength: z.int(),
  extended: instant.nullable(),
})));
export const streakRankingsAnswer = named("StreakRankings", z.array(z.object({
  userId: z.string(),
  name: z.string().nullable(),
  streakLength: z.int(),
})));
export const pauseAnswer = named("StreakPause", z.object({ ...pauseFields, userId: z.string(), status: z.enum(["active", "archived"]) }));
export const streakSettingsAnswer = named("StreakSettings", z.object({
  frequency: streakFrequency,
  evaluationMode: z.enum(["AND", "OR"]),
  customizationEnabled: z.boolean(),
  daysOff: z.array(z.int()),
  metrics: z.array(z.object({ key: z.string(), threshold: z.int() })),
  freezes: z.object({
    startCount: z.int(),
    maxCount: z.int(),
    autoEarnInterval: z.int().nullable(),
    autoEarnAmount: z.int().nullable(),
  }).nullable(),
  updated: instant,
}));

const achievementFields = {
  id: uuid,
  name: z.string(),
  description: z.string().nullable(),
  badgeUrl: z.string().nullable(),
  trigger: z.enum(["metric", "streak", "api", "achievement", "anniversary"]),
  key: z.string(),
  streakLength: z.int().optional(),
  anniversaryYears: z.int().optional(),
  achievementIds: z.array(uuid).optional(),
  metricId: uuid.optional(),
  metricName: z.string().optional(),
  metricValue: z.number().optional(),
  userAttributes: attributePairs,
  eventAttributes: attributePairs.optional(),
  eventAttribute: z.object({ key: z.string(), value: z.string() }).optional(),
};
/** How many users have completed it, and what share of all they are, in percent (rule A4). */
const achievementStats = { completions: z.int(), rarity: z.number().min(0).max(100) };
export const achievementAnswer = named("Achievement", z.object({ ...achievementFields, ...achievementStats }));
/** `achievedAt` is null until the user has completed it. */
export const userAchievementAnswer = named("UserAchievement", z.object({ ...achievementFields, achievedAt: instant.nullable() }));
export const userAchievementsAnswer = named("UserAchievements",
  z.array(userAchievementAnswer.extend(achievementStats)));
export const completionAnswer = named("AchievementCompletion", z.object({
  completionId: uuid,
  achievement: userAchievementAnswer,
  points: z.record(z.string(), changedPointsAnswer),
}));

const boardFields = {
  id: uuid,
  name: z.string(),
  key: z.string(),
  status: z.enum(["active", "scheduled", "finished"]),
  rankBy: z.enum(["metric", "points", "streak"]),
  description: z.string().nullable(),
  breakdownAttribute: z.string().nullable(),
  breakdownAttributes: z.array(z.string()),
  metricKey: z.string().optional(),
  metricName: z.string().optional(),
  pointsSystemKey: z.string().optional(),
  pointsSystemName: z.string().optional(),
  start: z.iso.date(),
  end: z.iso.date().nullable(),
  startTime: z.string().nullable(),
  endTime: z.string().nullable(),
  maxParticipants: z.int(),
  runUnit: z.enum(["day", "month", "year"]).nullable(),
  runInterval: z.int().nullable(),
};
const rank = z.int().min(1).nullable();
export const leaderboardsAnswer = named("Leaderboards", z.array(z.object(boardFields)));
export const rankingsAnswer = named("LeaderboardRankings", z.object({
  ...boardFields,
  rankings: z.array(z.object({ userId: z.string(), userName: z.string().nullable(), rank: z.int().min(1), value: z.int() })),
}));
/** A user's place; null when it is not on the board. */
const userBoardAnswer = named("UserLeaderboard", z.object({ ...boardFields, rank, value: z.int().nullable() }));
export const userBoardHistoryAnswer = named("UserLeaderboardHistory", userBoardAnswer.extend({
  history: z.array(z.object({
    date: z.iso.date(), timestamp: instant, previousRank: rank, rank, previousValue: z.int().nullable(), value: z.int().nullable(),
  })),
}));
/** `percentileThisPeriod`: the share of users, in percent, with less; of weeks and longer periods. */
const wrappedChange = {
  currentTotal: z.number(), changeThisPeriod: z.number(), percentChange: z.number(), percentileThisPeriod: z.number().min(0).max(100).optional(),
};
const wrappedMetric = { name: z.string(), units: z.string().nullable(), ...wrappedChange };
const wrappedPeriodAnswer = named("WrappedPeriod", z.object({
  metrics: z.record(z.string(), z.object({
    ...wrappedMetric,
    byAttribute: z.record(z.string(), z.record(z.string(), z.object(wrappedMetric))),
  })),
  points: z.record(z.string(), z.object({ name: z.string(), description: z.string().nullable(), ...wrappedChange })),
  achievements: userAchievementsAnswer,
  leaderboards: z.record(z.string(), userBoardAnswer),
}));
/** A user's year in review; leaderboards show the run in which the best place was reached. */
export const wrappedAnswer = named("Wrapped", z.object({
  user: userAnswer,
  activity: z.object({
    daysActive: z.int(),
    weeksActive: z.int(),
    monthsActive: z.int(),
    mostActiveDay: wrappedPeriodAnswer.extend({ date: z.iso.date() }),
    mostActiveWeek: wrappedPeriodAnswer.extend({ start: z.iso.date(), end: z.iso.date() }),
    mostActiveMonth: wrappedPeriodAnswer.extend({ month: z.int().min(0).max(11) }),
    entireYear: wrappedPeriodAnswer.extend({
      longestStreak: z.object({
        length: z.int(), frequency: streakFrequency,
        started: z.iso.date().nullable(), periodStart: z.iso.date().nullable(), periodEnd: z.iso.date().nullable(),
      }),
    }),
  }),
}));
/** What one event did on one leaderboard, in the run it fell into: start and end are the run's. */
export const changedBoardAnswer = named("ChangedLeaderboard", z.object({
  ...boardFields,
  rank,
  previousRank: rank,
  threshold: z.int(),
  breakdownAttributeValue: z.string().optional(),
  breakdownAttributeValues: z.array(z.object({ key: z.string(), value: z.string() })).optional(),
}));

export const eventAnswer = named("EventAnswer", z.object({
  eventId: uuid,
  metricId: uuid,
  total: z.number(),
  achievements: z.array(userAchievementAnswer),
  currentStreak: streakAnswer,
  points: z.record(z.string(), changedPointsAnswer),
  leaderboards: z.record(z.string(), changedBoardAnswer),
  idempotencyKey: z.string().optional(),
  idempotentReplayed: z.boolean(),
}));

export const userMetricAnswer = named("UserMetric", z.object({
  id: uuid,
  key: z.string(),
  name: z.string(),
  status: z.literal("active"),
  current: z.number(),
  achievements: z.array(userAchievementAnswer),
}));

export const eventSummaryAnswer = named("EventSummary", z.array(z.object({
  date: z.iso.date(),
  total: z.number(),
  change: z.number(),
})));
export const pointsSummaryAnswer = named("PointsSummary", z.array(z.object({
  from: z.int(),
  to: z.int(),
  users: z.int(),
})).length(11));
export const levelSummaryAnswer = named("PointsLevelSummary", z.array(z.object({ level: levelAnswer, users: z.int() })));

export const explanationAnswer = named("AwardExplanation", z.object({
  id: uuid,
  userId: z.string(),
  systemKey: z.string(),
  sequence: z.int(),
  date: instant,
  cause: z.enum(["user_creation", "metric", "streak", "achievement", "time", "adjustment"]),
  trigger: z.record(z.string(), z.unknown()).nullable(),
  eventId: uuid.nullable(),
  reason: z.string().nullable(),
  firings: z.number(),
  basePoints: z.number(),
  boosts: z.array(z.record(z.string(), z.unknown())),
  boostMultiplier: z.number(),
  boostedPoints: z.number(),
  rounding: z.enum(["down", "up", "nearest"]).nullable(),
  roundedPoints: z.number(),
  maxPoints: z.int().nullable(),
  lostToCap: z.number(),
  lostToFloor: z.number(),
  points: z.int(),
  totalBefore: z.int(),
  totalAfter: z.int(),
  sentence: z.string(),
}));
export const awardsAnswer = named("UserAwards", z.object({
  awards: z.array(awardAnswer.extend({ sequence: z.int(), explanation: explanationAnswer })),
  nextCursor: z.string().nullable(),
}));

/** One thing that keeps an item from being done, with `level` and `reason` for older clients. */
export const issueAnswer = named("Issue", z.object({
  index: z.int().optional(),
  id: z.string().optional(),
  userId: z.string().optional(),
  /** What of the item it is about, where that is one thing: `metricThreshold`, `badge.url`. */
  field: z.string().optional(),
  severity: z.enum(["error", "warning"]),
  level: z.enum(["error", "warning"]),
  message: z.string(),
  reason: z.string(),
}));
export const deletedAnswer = named("Deleted", z.object({
  deleted: z.array(z.object({ id: z.string() })),
  issues: z.array(issueAnswer),
}));

const badgeAnswer = z.object({ url: z.string() }).nullable();
const adminFilter = z.array(z.object({ attributeId: uuid, attributeKey: z.string().optional(), attributeValue: z.string() }).loose());
export const adminAttributeAnswer = named("AdminAttribute", z.object({
  id: uuid, name: z.string(), key: z.string(), type: z.enum(["user", "event"]), updated: instant,
}));
export const adminMetricAnswer = named("AdminMetric", z.object({
  id: uuid, name: z.string(), key: z.string(), unitType: z.enum(["number", "currency"]), units: z.string().nullable(), updated: instant,
}).loose());
export const adminLevelAnswer = named("AdminPointsLevel", z.object({
  id: uuid, name: z.string(), key: z.string(), points: z.int(), description: z.string().nullable(), badge: badgeAnswer.optional(),
  updated: instant,
}).loose());
export const adminBoostAnswer = named("AdminPointsBoost", z.object({
  id: uuid, name: z.string(), start: z.string(), end: z.string().nullable(), multiplier: z.number(),
  rounding: z.enum(["down", "up", "nearest"]), userAttributes: adminFilter.optional(), updated: instant,
}).loose());
export const adminTriggerAnswer = named("AdminPointsTrigger", z.object({
  id: uuid, type: z.enum(["metric", "achievement", "streak", "time", "user_creation"]), points: z.int(),
  status: z.enum(["active", "inactive", "archived"]), userAttributes: adminFilter.optional(), eventAttributes: adminFilter.optional(), updated: instant,
}).loose());
export const adminSystemAnswer = named("AdminPointsSystem", z.object({
  id: uuid, name: z.string(), key: z.string(), description: z.string().nullable(), badge: badgeAnswer.optional(),
  maxPoints: z.int().nullable(), updated: instant,
}).loose());
export const adminAchievementAnswer = named("AdminAchievement", z.object({
  id: uuid, name: z.string(), description: z.string().nullable(), badge: badgeAnswer,
  trigger: z.enum(["metric", "streak", "api", "achievement", "anniversary"]), status: z.enum(["active", "inactive", "locked"]),
  key: z.string().optional(), metricId: uuid.optional(), metricValue: z.number().optional(), streakLength: z.int().optional(),
  anniversaryYears: z.int().optional(), achievementIds: z.array(uuid).optional(), userAttributes: adminFilter,
  eventAttributes: adminFilter.optional(), updated: instant,
}));
export const adminLeaderboardAnswer = named("AdminLeaderboard", z.object({
  id: uuid, name: z.string(), key: z.string(), description: z.string().optional(),
  status: z.enum(["inactive", "scheduled", "active", "finished"]), rankBy: z.enum(["metric", "points", "streak"]),
  metricId: uuid.optional(), pointsSystemId: uuid.optional(), maxParticipants: z.int(), start: z.iso.date(), end: z.iso.date().optional(),
  startTime: z.string().optional(), endTime: z.string().optional(), breakdownAttributes: z.array(uuid),
  runUnit: z.enum(["day", "month", "year"]).optional(), runInterval: z.int().optional(),
  updated: instant,
}));
export const adminTenantAnswer = named("AdminTenant", z.object({
  id: uuid, customerId: z.string(), name: z.string(), status: z.enum(["active", "archived"]), created: instant, updated: instant,
}));

const imageAnswer = z.object({ url: z.string() }).nullable();
export const settingsAnswer = named("Settings", z.object({
  branding: z.object({
    appName: z.string(),
    appUrl: z.string(),
    brandColor: z.string(),
    font: z.enum([
      "MODERN_SANS", "BOOK_SANS", "ORGANIC_SANS", "GEOMETRIC_SANS", "HEAVY_SANS", "ROUNDED_SANS", "MODERN_SERIF", "BOOK_SERIF", "MONOSPACE",
    ]),
    logo: imageAnswer,
    appIcon: imageAnswer,
  }),
  experimentation: z.object({ controlRatio: z.int().min(0).max(100), userActivationWindow: z.int().min(3).max(30) }),
  aggregationPeriod: z.enum(["weekly", "monthly"]),
}));
export const environmentAnswer = named("Environment", z.object({ name: z.string(), key: z.string(), priority: z.int().min(1).max(10) }));
