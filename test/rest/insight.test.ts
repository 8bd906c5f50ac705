import { beforeAll, describe, expect, test } from "@jest/globals";
import { levelSummaryAnswer, pointsSummaryAnswer } from "../../src/rest/answers.ts";
import {
  backtestAnswer, breakdownAnswer, byUsersAnswer, earnedAnswer, estimateAnswer, firstDaysAnswer, insightsAnswer, previewAnswer,
} from "../../src/rest/admin/insight_answers.ts";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

/** Rules D1 to D3 over REST. What they compute: test/sql/insight. */

let rest: RestApi;
let systemId: string;
let metricId: string;

beforeAll(async () => {
  rest = await startRestApi();
  [metricId = ""] = idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]));
  [systemId = ""] = idsOf(await rest.as().post("/admin/v1/points", [{ name: "XP", key: "xp", levels: [{ name: "A", key: "a", points: 10 }] }]));
  await rest.as().post(`/admin/v1/points/${systemId}/triggers`, [
    { type: "metric", points: 10, status: "active", metricId, metricThreshold: 1 },
  ]).expect(201);
});

const scenario = (values: object = {}): object => ({
  days: 2, kinds: [{ name: "Writers", users: 5, events: [{ metric: "words", perDay: 1 }] }], ...values,
});

describe("POST /admin/v1/points/{id}/preview", () => {
  test("answers in its documented shape", async () => {
    const answer = await rest.as().post(`/admin/v1/points/${systemId}/preview`, scenario({
      draft: { triggers: [{ type: "metric", points: 1, metricId, metricThreshold: 2 }] },
    })).expect(200);
    expect(previewAnswer.parse(answer.body)).toEqual(answer.body);
    expect(answer.body).toMatchObject({ kinds: [{ totals: [{ p50: 10 }, { p50: 21 }], levels: [{ key: "a", share: 1, medianDay: 1 }] }] });
  });

  test("knows no other tenant's systems, nor what is no system", async () => {
    await rest.createTenant("acme");
    await rest.as().post(`/admin/v1/points/${systemId}/preview`, scenario()).set("Tenant-ID", "acme").expect(404);
    await rest.as().post("/admin/v1/points/00000000-0000-7000-8000-000000000000/preview", scenario()).expect(404);
    await rest.as().post("/admin/v1/points/xp/preview", scenario()).expect(422);
  });

  test.each([
    ["an array", [], "It must be an object.", undefined],
    ["days in words", scenario({ days: "two" }), "days must be a number.", "days"],
    ["no kinds", { days: 1 }, "kinds is required.", "kinds"],
    ["a kind of no kind", scenario({ kinds: [null] }), "kinds[0] must be an object.", "kinds[0]"],
    ["a perDay in words", scenario({ kinds: [{ name: "A", users: 1, events: [{ metric: "words", perDay: "1" }] }] }), "kinds[0].events[0].perDay must be a number from 0 to 1000 or two whole numbers, [least, most], from 0 to 1000.", "kinds[0].events[0].perDay"],
    ["a draft of the wrong shape", scenario({ draft: { triggers: [{ points: "1" }] } }), "draft.triggers[0].points must be a number.", "draft.triggers[0].points"],
    ["a property that is not known", scenario({ weeks: 1 }), "scenario.weeks is not known here.", "weeks"],
    ["too many days", scenario({ days: 366 }), "scenario.days must be at most 365.", "days"],
    ["a draft that breaks a rule", scenario({ draft: { triggers: [{ type: "user_creation", points: 0 }] } }), "scenario.draft.triggers[0]: A trigger's points cannot be 0.", "draft.triggers[0]"],
    ["far too much", scenario({ days: 365, kinds: [{ name: "A", users: 100_000, activeDays: 0.5, events: [] }] }), "The simulation is too large: 36500000 users × days, where 100,000 are possible.", "kinds[0].users"],
  ])("%s is refused with a sentence and the field that it is about", async (_what, body, error, field) => {
    expect((await rest.as().post(`/admin/v1/points/${systemId}/preview`, body).expect(422)).body).toEqual({ error, field });
  });
});

describe("POST /admin/v1/points/{id}/backtest and /estimate", () => {
  test("answer in their documented shapes", async () => {
    await rest.as().post("/v1/metrics/words/event", { user: { id: "ann" }, value: 3 }).expect(201);
    const today = new Date().toISOString().slice(0, 10);
    const backtest = await rest.as().post(`/admin/v1/points/${systemId}/backtest`, { from: today, to: today, users: { sample: 5, attributes: {} }, draft: { maxPoints: 20 } }).expect(200);
    expect(backtestAnswer.parse(backtest.body)).toEqual(backtest.body);
    expect(backtest.body).toMatchObject({ users: 1, events: 1, current: { totals: [{ p50: 30 }] }, draft: { totals: [{ p50: 20 }], lost: { cap: 10 } } });
    const estimate = await rest.as().post(`/admin/v1/points/${systemId}/estimate`, { amounts: { words: 12 } }).expect(200);
    expect(estimateAnswer.parse(estimate.body)).toEqual(estimate.body);
    expect(estimate.body).toMatchObject({ total: 120, byTrigger: [{ firings: 12, awarded: 120 }] });
  });

  test.each([
    ["backtest", {}, "from is required.", "from"],
    ["backtest", { from: "2026-01-02", to: "2026-01-01" }, "request.to must not be before request.from.", "to"],
    ["backtest", { from: "2026-01-02", to: "x" }, "to must be a date such as 2026-01-31.", "to"],
    ["backtest", { from: "2026-01-01", to: "2026-01-02", users: { sample: "all" } }, "users.sample must be a number.", "users.sample"],
    ["backtest", { from: "2026-01-01", to: "2026-01-02", user: {} }, "request.user is not known here.", "user"],
    ["estimate", { amounts: { words: "12" } }, "amounts.words must be a number.", "amounts.words"],
    ["estimate", { amounts: { nope: 1 } }, "scenario.kinds[0].events[0].metric: there is no metric nope.", "kinds[0].events[0].metric"],
    ["estimate", {}, "amounts is required.", "amounts"],
  ])("%s of %j is refused with a sentence and the field that it is about", async (operation, body, error, field) => {
    expect((await rest.as().post(`/admin/v1/points/${systemId}/${operation}`, body).expect(422)).body).toEqual({ error, field });
  });
});

describe("GET /admin/v1/points/{id}/analytics", () => {
  test.each([
    ["earned", earnedAnswer], ["breakdown", breakdownAnswer], ["users", byUsersAnswer], ["first-days", firstDaysAnswer],
    ["insights", insightsAnswer], ["levels", levelSummaryAnswer], ["totals", pointsSummaryAnswer],
  ] as const)("/%s answers in its documented shape", async (name, shape) => {
    const answer = await rest.as().get(`/admin/v1/points/${systemId}/analytics/${name}`).expect(200);
    expect(shape.parse(answer.body)).toEqual(answer.body);
  });

  test("without dates tells of the last 30 days, with them of those", async () => {
    const answer = await rest.as().get(`/admin/v1/points/${systemId}/analytics/earned`).expect(200);
    expect(answer.body).toMatchObject({ unit: "day", earned: 30, to: new Date().toISOString().slice(0, 10) });
    expect((answer.body as { series: unknown[] }).series).toHaveLength(30);
    const year = await rest.as().get(`/admin/v1/points/${systemId}/analytics/earned?from=2024-01-01&to=2024-12-31&unit=month`).expect(200);
    expect(year.body).toMatchObject({ from: "2024-01-01", to: "2024-12-31", earned: 0, changePercent: null });
    expect((year.body as { series: unknown[] }).series).toHaveLength(12);
  });

  test.each([
    ["earned?unit=year", "unit must be day or week or month.", "unit"],
    ["earned?from=yesterday", "from must be a date such as 2026-01-31.", "from"],
    ["users?from=2026-02-01&to=2026-01-01", "The period is not valid: to must not be before from.", "to"],
    ["breakdown?from=2020-01-01&to=2026-01-01", "The period is not valid: from and to are more than 400 days apart.", "from"],
    ["first-days?userAttributes=nope:1", "Invalid attribute keys: nope.", "userAttributes"],
    ["insights?userAttributes=plan", "The attributes are not valid: write them as key:value,key:value, or as a JSON object of strings.", "userAttributes"],
  ])("%s is refused with a sentence and the field that it is about", async (address, error, field) => {
    expect((await rest.as().get(`/admin/v1/points/${systemId}/analytics/${address}`).expect(422)).body).toEqual({ error, field });
  });
});
