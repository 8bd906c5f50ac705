import { describe, expect, test } from "@jest/globals";
import { achievementSentence, boostSentence, levelSentence, triggerSentence } from "../../src/dashboard/sentences.ts";

const tasks = { name: "Tasks", units: "tasks" };
const nobody = { userAttributes: {}, eventAttributes: {} };

describe("a trigger's sentence", () => {
  test.each([
    [
      { type: "metric", points: 10, metric: tasks, metricThreshold: 3, userAttributes: { plan: "premium" }, eventAttributes: { priority: "high" } },
      "10 points for every 3 tasks with priority = high, only for users with plan = premium.",
    ],
    [{ type: "metric", points: 1, metric: tasks, metricThreshold: 1, ...nobody }, "1 point for every task."],
    [{ type: "metric", points: 1, metric: { name: "Reading", units: "pages" }, metricThreshold: "1500", ...nobody }, "1 point for every 1,500 pages of Reading."],
    [{ type: "metric", points: 5, metric: { name: "Logins", units: "" }, metricThreshold: 2, ...nobody }, "5 points for every 2 of Logins."],
    [{ type: "metric", points: -5, metric: tasks, metricThreshold: 1, blockIfOutOfPoints: true, ...nobody }, "Takes 5 points for every task. An event that would take a total below 0 is refused."],
    [{ type: "metric", points: -1, metric: tasks, metricThreshold: 1, blockIfOutOfPoints: false, ...nobody }, "Takes 1 point for every task. Totals stop at 0."],
    [{ type: "streak", points: 20, streakLength: 7, ...nobody }, "20 points each time a streak reaches a multiple of 7."],
    [{ type: "achievement", points: 50, achievementName: "First steps", ...nobody }, "50 points when a user completes “First steps”."],
    [{ type: "time", points: 1, timeUnit: "hours", timeInterval: 6, ...nobody }, "1 point every 6 hours, counted from when the user or the trigger started."],
    [{ type: "time", points: 5, timeUnit: "days", timeInterval: 1, ...nobody }, "5 points every day, counted from when the user or the trigger started, at the same local time."],
    [{ type: "user_creation", points: 25, userAttributes: { plan: "pro", country: "fr" }, eventAttributes: {} }, "25 points when a user is first identified, only for users with plan = pro and country = fr."],
    [{ type: "metric", points: null, metricThreshold: null, ...nobody }, "… points for every … …."],
  ])("%j", (trigger, sentence) => {
    expect(triggerSentence(trigger)).toBe(sentence);
  });
});

describe("other sentences", () => {
  const boost = { multiplier: "2", rounding: "down", startsOn: "2026-05-01", endsOn: "2026-05-07", userId: null, userAttributes: { plan: "pro" } };

  test("a boost says for whom, when and how it is rounded", () => {
    expect(boostSentence(boost)).toBe(
      "Awards × 2 for users with plan = pro, from 1 May 2026 to the end of 7 May 2026, by each user's own calendar. The product is rounded down.",
    );
    expect(boostSentence({ ...boost, endsOn: null, userAttributes: {}, rounding: "nearest" })).toBe(
      "Awards × 2 for everybody, from 1 May 2026 on, by each user's own calendar. The product is rounded to the nearest.",
    );
    expect(boostSentence({ ...boost, userId: "ada" })).toContain("for the user ada alone");
  });

  test("a level says from how many points", () => {
    expect(levelSentence("Gold", "1000")).toBe("Users are Gold from 1,000 points up.");
    expect(levelSentence("", "")).toBe("Users are … from … points up.");
  });

  test("an achievement says what completes it", () => {
    const common = { metricValue: null, streakLength: null, years: null, key: null, prerequisites: [], ...nobody };
    expect(achievementSentence({ ...common, kind: "metric", metric: tasks, metricValue: "100", userAttributes: { plan: "pro" } })).toBe(
      "When Tasks reaches 100 tasks, by users with plan = pro.",
    );
    expect(achievementSentence({ ...common, kind: "achievement", prerequisites: ["One", "Two"] })).toBe("When “One” and “Two” are completed.");
    expect(achievementSentence({ ...common, kind: "anniversary", years: 1 })).toBe("1 year after sign-up.");
  });
});
