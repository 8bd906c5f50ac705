import { beforeAll, describe, expect, jest, test } from "@jest/globals";
import { type GraphQLSchema, isObjectType, lexicographicSortSchema, printSchema } from "graphql";
// The preset comes first: it sets the scene for PostGraphile.
import { createSchemaPreset } from "../../src/graphql/preset.ts";
import { makeSchema } from "postgraphile";
import { cloneDatabase } from "../support/database.ts";

let schema: GraphQLSchema;
// Where PostGraphile complains of tags that match nothing and of names that clash.
const complaints = jest.spyOn(console, "warn");

beforeAll(async () => {
  const database = await cloneDatabase();
  ({ schema } = await makeSchema(createSchemaPreset(database.pools.server)));
});

const fieldsOf = (name: string): string[] => {
  const type = schema.getType(name);
  return isObjectType(type) ? Object.keys(type.getFields()).sort() : [];
};

describe("the GraphQL schema", () => {
  test("is what it was when it was last looked at", () => {
    expect(printSchema(lexicographicSortSchema(schema))).toMatchSnapshot();
  });

  test("is built without complaints", () => {
    expect(complaints.mock.calls).toEqual([]);
  });

  test("writes configuration and calls functions, and writes nothing else", () => {
    expect(fieldsOf("Mutation")).toEqual([
      "adjustPoints",
      "backtestPoints",
      "completeAchievement",
      "createAchievement",
      "createAttribute",
      "createLeaderboard",
      "createMetric",
      "createPointsBoost",
      "createPointsLevel",
      "createPointsSystem",
      "createPointsTrigger",
      "createWebhookEndpoint",
      "deleteAttribute",
      "deletePointsLevel",
      "deleteWebhookEndpoint",
      "eraseUser",
      "estimatePoints",
      "identifyUser",
      "previewPoints",
      "recordEvent",
      "replayWebhookEndpoint",
      "replayWebhookMessage",
      "sendTestWebhook",
      "updateAchievement",
      "updateAttribute",
      "updateLeaderboard",
      "updateMetric",
      "updatePointsBoost",
      "updatePointsLevel",
      "updatePointsSystem",
      "updatePointsTrigger",
      "updateStreakSettings",
      "updateUser",
      "updateUserPreferences",
      "updateWebhookEndpoint",
    ]);
  });

  test("reads one and many of every kind, and calls functions", () => {
    expect(fieldsOf("Query")).toEqual([
      "achievement", "achievements", "attribute", "attributes", "auditEntries", "auditEntry", "balanceAsOf",
      "describeAchievements", "describeLeaderboards", "describePointsBoosts", "describePointsLevels", "describePointsSystem", "explainAward",
      "exportUser", "findUsers", "latestEvents", "leaderboard", "leaderboardEntries", "leaderboardRankings", "leaderboards", "listStreaks", "metric", "metricEventSummary",
      "metricEvents", "metrics", "pointsAward", "pointsAwards", "pointsBalances", "pointsBoost", "pointsBoosts", "pointsBreakdown", "pointsByUsers",
      "pointsEarned", "pointsEventSummary", "pointsInFirstDays", "pointsInsights", "pointsLevel", "pointsLevelSummary", "pointsLevels",
      "pointsSummary", "pointsSystem", "pointsSystems", "pointsTrigger", "pointsTriggers", "streakRankings", "streakSettings", "user",
      "userAchievementList", "userAchievements", "userAwards", "userLeaderboard", "userMetricTotal", "userMetricTotals", "userMetrics", "userPoints",
      "userPointsBoosts", "userPreferences", "userProfile", "userStreak", "userWrapped", "users",
      "webhookAttempt", "webhookAttempts", "webhookDeliveries", "webhookEndpoint", "webhookEndpoints", "webhookMessage", "webhookMessages",
    ]);
  });

  test("names no tenant, no key, no partition and nothing private", () => {
    const names = Object.values(schema.getTypeMap()).flatMap((type) => [
      type.name,
      ...("getFields" in type ? Object.keys(type.getFields()) : []),
    ]);
    const found = names.filter((name) => /tenant|secret|sha256|apikey|default$|_20\d\d|private/i.test(name));
    // When, not what.
    expect(found.filter((name) => name !== "secretRotatedAt")).toEqual([]);
  });

  test("documents every type and field that comes from the database", () => {
    const undocumented = Object.values(schema.getTypeMap())
      .filter((type) => isObjectType(type) && !type.name.startsWith("__"))
      .filter(({ name, description }) => !/(Payload|Connection|Edge)$|^(Query|Mutation|PageInfo)$/.test(name) && !description)
      .map(({ name }) => name);
    expect(undocumented).toEqual([]);
  });

  test("gives every list a page: first has a default and cannot be null", () => {
    const lists = Object.values(schema.getTypeMap())
      .filter(isObjectType)
      .flatMap((type) => Object.values(type.getFields()))
      .filter((field) => String(field.type).replace("!", "").endsWith("Connection"));
    expect(lists.length).toBeGreaterThan(15);
    for (const list of lists) {
      const first = list.args.find(({ name }) => name === "first");
      expect([list.name, String(first?.type), first?.defaultValue]).toEqual([list.name, "Int!", 10]);
      expect(list.args.filter(({ name }) => ["last", "before", "offset"].includes(name))).toEqual([]);
    }
  });
});
