import { changeNullability } from "postgraphile/utils";

/**
 * Which arguments of functions must be given: PostgreSQL does not say which of them may be null. What a function
 * returns is never null: it answers or raises.
 */
export const ArgumentsPlugin: GraphileConfig.Plugin = changeNullability({
  Query: {
    explainAward: { type: "!", args: { awardId: "!" } },
    userProfile: { type: "!", args: { userId: "!" } },
    userPoints: { type: "!", args: { systemKey: "!", userId: "!" } },
    userAwards: { type: "!", args: { systemKey: "!", userId: "!" } },
    userPointsBoosts: { type: "!", args: { systemKey: "!", userId: "!" } },
    userPreferences: { type: "!", args: { userId: "!" } },
    userMetricTotal: { type: "!", args: { metricKey: "!", userId: "!" } },
    userMetricTotals: { type: "!", args: { userId: "!" } },
    describeAchievements: { type: "!" },
    userAchievementList: { type: "!", args: { userId: "!" } },
    describeLeaderboards: { type: "!" },
    leaderboardRankings: { type: "!", args: { leaderboardKey: "!" } },
    userLeaderboard: { type: "!", args: { leaderboardKey: "!", userId: "!" } },
    exportUser: { type: "!", args: { userId: "!" } },
    balanceAsOf: { type: "!", args: { systemKey: "!", userId: "!", asOf: "!" } },
    pointsEventSummary: { type: "!", args: { systemKey: "!", userId: "!", aggregation: "!", startOn: "!", endOn: "!" } },
    metricEventSummary: { type: "!", args: { metricKey: "!", userId: "!", aggregation: "!", startOn: "!", endOn: "!" } },
    describePointsSystem: { type: "!", args: { systemKey: "!" } },
    describePointsBoosts: { type: "!", args: { systemKey: "!" } },
    describePointsLevels: { type: "!", args: { systemKey: "!" } },
    pointsSummary: { type: "!", args: { systemKey: "!" } },
    pointsLevelSummary: { type: "!", args: { systemKey: "!" } },
  },
  RecordEventInput: { metricKey: "!", userId: "!" },
  RecordEventPayload: { result: "!" },
  IdentifyUserInput: { userId: "!" },
  IdentifyUserPayload: { result: "!" },
  UpdateUserInput: { userId: "!", profile: "!" },
  UpdateUserPayload: { result: "!" },
  UpdateUserPreferencesInput: { userId: "!", preferences: "!" },
  UpdateUserPreferencesPayload: { result: "!" },
  EraseUserInput: { userId: "!" },
  CompleteAchievementInput: { achievementKey: "!", userId: "!" },
  CompleteAchievementPayload: { result: "!" },
  AdjustPointsInput: { systemKey: "!", userId: "!", points: "!", reason: "!" },
  AdjustPointsPayload: { result: "!" },
  PreviewPointsInput: { systemKey: "!", scenario: "!" },
  PreviewPointsPayload: { result: "!" },
});
