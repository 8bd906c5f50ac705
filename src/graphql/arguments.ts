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
    balanceAsOf: { type: "!", args: { systemKey: "!", userId: "!", asOf: "!" } },
  },
  RecordEventInput: { metricKey: "!", userId: "!" },
  RecordEventPayload: { result: "!" },
  IdentifyUserInput: { userId: "!" },
  IdentifyUserPayload: { result: "!" },
  UpdateUserInput: { userId: "!", profile: "!" },
  UpdateUserPayload: { result: "!" },
  AdjustPointsInput: { systemKey: "!", userId: "!", points: "!", reason: "!" },
  AdjustPointsPayload: { result: "!" },
});
