import { beforeAll, describe, expect, test } from "@jest/globals";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";

let setting: GraphqlSetting;

const record = `
  mutation ($userId: String!, $value: BigFloat, $key: String) {
    recordEvent(input: {
      metricKey: "words", userId: $userId, value: $value, idempotencyKey: $key,
      attributes: { plan: "pro" }, profile: { tz: "Europe/London" }
    }) { result }
  }`;

beforeAll(async () => {
  setting = await createGraphqlSetting();
  const { metric } = (await setting.get(`mutation {
    createMetric(input: { metric: { key: "words", name: "Words" } }) { metric { id } }
    createAttribute(input: { attribute: { key: "plan", name: "Plan", type: event } }) { attribute { id } }
  }`))["createMetric"] as { metric: { id: string } };
  const { pointsSystem } = (await setting.get(`mutation {
    createPointsSystem(input: { pointsSystem: { key: "xp", name: "XP", maxPoints: 1000 } }) { pointsSystem { id } }
  }`))["createPointsSystem"] as { pointsSystem: { id: string } };
  await setting.get(
    `mutation ($system: UUID!, $metric: UUID!) {
      createPointsTrigger(input: { pointsTrigger: {
        systemId: $system, type: metric, points: 10, metricId: $metric, metricThreshold: 100, status: active
      } }) { clientMutationId }
      createPointsBoost(input: { pointsBoost: {
        systemId: $system, name: "Double", multiplier: "2.5", startsOn: "2020-01-01"
      } }) { clientMutationId }
      createPointsLevel(input: { pointsLevel: { systemId: $system, key: "bronze", name: "Bronze", points: 50 } }) {
        clientMutationId
      }
    }`,
    { variables: { system: pointsSystem.id, metric: metric.id } },
  );
});

describe("recordEvent", () => {
  test("answers what the event did: 250 words are 2 × 10 points, times 2.5", async () => {
    const { recordEvent } = await setting.get(record, { variables: { userId: "eva", value: "250", key: "e1" } });
    expect(recordEvent).toMatchObject({
      result: {
        total: 250,
        idempotencyKey: "e1",
        idempotentReplayed: false,
        points: { xp: { total: 50, added: 50, level: { key: "bronze" } } },
      },
    });
  });

  test("of a key already used changes nothing", async () => {
    await setting.get(record, { variables: { userId: "rae", value: "100", key: "r1" } });
    const { recordEvent } = await setting.get(record, { variables: { userId: "rae", value: "100", key: "r1" } });
    expect(recordEvent).toMatchObject({ result: { total: 100, idempotentReplayed: true, points: {} } });
  });

  test("can be read back: the user, its balance, its award, and why", async () => {
    await setting.get(record, { variables: { userId: "ida", value: "300" } });
    const { user } = await setting.get(`{
      user(id: "ida") {
        tz
        metrics { nodes { metricKey total peak } }
        events { nodes { metricKey value attributes metric { name } } }
        balances { nodes { systemKey total level system { name maxPoints } } }
        awards(orderBy: PRIMARY_KEY_DESC) { nodes { id cause basePoints boostMultiplier points totalAfter trigger { points } } }
      }
    }`);
    expect(user).toMatchObject({
      tz: "Europe/London",
      metrics: { nodes: [{ metricKey: "words", total: "300", peak: "300" }] },
      events: { nodes: [{ metricKey: "words", value: "300", attributes: { plan: "pro" }, metric: { name: "Words" } }] },
      balances: { nodes: [{ systemKey: "xp", total: "75", level: "bronze", system: { name: "XP", maxPoints: 1000 } }] },
      awards: {
        nodes: [
          { cause: "metric", basePoints: "30", boostMultiplier: "2.5", points: "75", totalAfter: "75", trigger: { points: 10 } },
        ],
      },
    });
    const { awards } = user as { awards: { nodes: [{ id: string }] } };
    const { explainAward, balanceAsOf, userPoints } = await setting.get(
      `query ($id: UUID!, $asOf: Datetime!) {
        explainAward(awardId: $id)
        balanceAsOf(systemKey: "xp", userId: "ida", asOf: $asOf)
        userPoints(systemKey: "xp", userId: "ida")
      }`,
      { variables: { id: awards.nodes[0].id, asOf: "2020-01-01T00:00:00Z" } },
    );
    expect(explainAward).toMatchObject({
      userId: "ida", basePoints: 30, boostMultiplier: 2.5, points: 75, totalBefore: 0, totalAfter: 75,
      sentence: expect.stringContaining("Double"),
    });
    expect(balanceAsOf).toBe("0");
    expect(userPoints).toMatchObject({ total: 75 });
  });

  test("keeps every digit of a value", async () => {
    await setting.get(record, { variables: { userId: "exact", value: "123456789012345.123456789" } });
    const { user } = await setting.get(`{ user(id: "exact") { metrics { nodes { total } } } }`);
    expect(user).toEqual({ metrics: { nodes: [{ total: "123456789012345.123456789" }] } });
  });

  test.each([
    ["an unknown metric", `recordEvent(input: { metricKey: "none", userId: "u" }) { result }`, "LR003"],
    ["an empty user ID", `recordEvent(input: { metricKey: "words", userId: "" }) { result }`, "LR010"],
    ["NaN", `recordEvent(input: { metricKey: "words", userId: "u", value: "NaN" }) { result }`, "LR011"],
    ["too many digits", `recordEvent(input: { metricKey: "words", userId: "u", value: "0.1234567891" }) { result }`, "LR011"],
    ["an undeclared attribute", `recordEvent(input: { metricKey: "words", userId: "u", attributes: { x: "1" } }) { result }`, "LR012"],
    ["a far future", `recordEvent(input: { metricKey: "words", userId: "u", occurredAt: "2999-01-01T00:00:00Z" }) { result }`, "LR015"],
    ["a wrong time zone", `recordEvent(input: { metricKey: "words", userId: "u", profile: { tz: "Mars/Base" } }) { result }`, "LR016"],
    ["an unknown user to adjust", `adjustPoints(input: { systemKey: "xp", userId: "nobody", points: 1, reason: "why" }) { result }`, "LR002"],
    ["an unknown user to update", `updateUser(input: { userId: "nobody", profile: { name: "N" } }) { result }`, "LR002"],
  ])("refuses %s with its code", async (_what, mutation, code) => {
    const { errors } = await setting.ask(`mutation { ${mutation} }`);
    expect(errors).toEqual([
      expect.objectContaining({ message: expect.any(String), extensions: expect.objectContaining({ code, hint: expect.any(String) }) }),
    ]);
  });
});

describe("users", () => {
  test("are identified, and updated by merging", async () => {
    const { identifyUser } = await setting.get(
      `mutation { identifyUser(input: { userId: "ulf", profile: { name: "Ulf" } }) { result } }`,
    );
    expect(identifyUser).toMatchObject({ result: { id: "ulf", name: "Ulf" } });
    const { updateUser } = await setting.get(
      `mutation { updateUser(input: { userId: "ulf", profile: { tz: "Asia/Tokyo" } }) { result query { user(id: "ulf") { tz } } } }`,
    );
    expect(updateUser).toMatchObject({ result: { name: "Ulf", tz: "Asia/Tokyo" }, query: { user: { tz: "Asia/Tokyo" } } });
  });

  test("have their points adjusted by hand", async () => {
    await setting.get(`mutation { identifyUser(input: { userId: "adj" }) { result } }`);
    const { adjustPoints } = await setting.get(
      `mutation { adjustPoints(input: { systemKey: "xp", userId: "adj", points: 7, reason: "welcome" }) { result } }`,
    );
    expect(adjustPoints).toMatchObject({ result: { total: 7 } });
  });

  test("are found by what they carry", async () => {
    await setting.get(`mutation { createAttribute(input: { attribute: { key: "team", name: "Team", type: user } }) { clientMutationId } }`);
    await setting.get(`mutation { identifyUser(input: { userId: "red1", profile: { attributes: { team: "red" } } }) { result } }`);
    const { users } = await setting.get(`{ users(filter: { attributes: { contains: { team: "red" } } }) { nodes { id } } }`);
    expect(users).toEqual({ nodes: [{ id: "red1" }] });
  });
});
