import { beforeAll, describe, expect, test } from "@jest/globals";
import { previewAnswer } from "../../src/rest/admin/insight_answers.ts";
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
    ["an array", [], "It must be an object."],
    ["days in words", scenario({ days: "two" }), "days must be a number."],
    ["no kinds", { days: 1 }, "kinds is required."],
    ["a kind of no kind", scenario({ kinds: [null] }), "kinds[0] must be an object."],
    ["a perDay in words", scenario({ kinds: [{ name: "A", users: 1, events: [{ metric: "words", perDay: "1" }] }] }), "kinds[0].events[0].perDay is not of the kind that is expected here."],
    ["a draft of the wrong shape", scenario({ draft: { triggers: [{ points: "1" }] } }), "draft.triggers[0].points must be a number."],
    ["a property that is not known", scenario({ weeks: 1 }), "scenario.weeks is not known here."],
    ["too many days", scenario({ days: 366 }), "scenario.days must be at most 365."],
    ["a draft that breaks a rule", scenario({ draft: { triggers: [{ type: "user_creation", points: 0 }] } }), "scenario.draft.triggers[0]: A trigger's points cannot be 0."],
    ["far too much", scenario({ days: 365, kinds: [{ name: "A", users: 100_000, activeDays: 0.5, events: [] }] }), "The simulation is too large: 36500000 users × days, where 100,000 are possible."],
  ])("%s is refused with a sentence", async (_what, body, error) => {
    expect((await rest.as().post(`/admin/v1/points/${systemId}/preview`, body).expect(422)).body).toEqual({ error });
  });
});
