import { beforeAll, describe, expect, test } from "@jest/globals";
import { createGraphqlSetting, type GraphqlSetting } from "../support/graphql.ts";

let setting: GraphqlSetting;
let systemId: string;

const idIn = (data: Readonly<Record<string, unknown>>, mutation: string, field: string): string =>
  (data[mutation] as Record<string, { id: string }>)[field]?.id ?? "";

const createLevel = (fields: string): string =>
  `mutation ($system: UUID!) {
    createPointsLevel(input: { pointsLevel: { systemId: $system, ${fields} } }) { pointsLevel { id key } }
  }`;

beforeAll(async () => {
  setting = await createGraphqlSetting();
  systemId = idIn(
    await setting.get(`mutation { createPointsSystem(input: { pointsSystem: { key: "xp", name: "XP" } }) { pointsSystem { id } } }`),
    "createPointsSystem",
    "pointsSystem",
  );
});

describe("configuration", () => {
  test("is created, changed, read and deleted", async () => {
    const id = idIn(
      await setting.get(createLevel(`key: "gold", name: "Gold", points: 100`), { variables: { system: systemId } }),
      "createPointsLevel",
      "pointsLevel",
    );
    const { updatePointsLevel } = await setting.get(
      `mutation ($id: UUID!) { updatePointsLevel(input: { id: $id, patch: { points: 120 } }) { pointsLevel { points system { key } } } }`,
      { variables: { id } },
    );
    expect(updatePointsLevel).toEqual({ pointsLevel: { points: 120, system: { key: "xp" } } });
    const { pointsSystem } = await setting.get(
      `query ($id: UUID!) { pointsSystem(id: $id) { levels { nodes { key points } } } }`,
      { variables: { id: systemId } },
    );
    expect(pointsSystem).toEqual({ levels: { nodes: [{ key: "gold", points: 120 }] } });
    await setting.get(`mutation ($id: UUID!) { deletePointsLevel(input: { id: $id }) { clientMutationId } }`, { variables: { id } });
    expect(await setting.get(`query ($id: UUID!) { pointsLevel(id: $id) { key } }`, { variables: { id } })).toEqual({
      pointsLevel: null,
    });
  });

  test("belongs to the tenant that made it, and is nobody else's to see or change", async () => {
    const id = idIn(
      await setting.get(`mutation { createMetric(input: { metric: { key: "acmes", name: "Acme's" } }) { metric { id } } }`, { tenant: "acme" }),
      "createMetric",
      "metric",
    );
    const inAcme = await setting.get(`{ metrics { nodes { key } } }`, { tenant: "acme" });
    expect(inAcme).toEqual({ metrics: { nodes: [{ key: "acmes" }] } });
    expect(await setting.get(`{ metrics(filter: { key: { equalTo: "acmes" } }) { nodes { key } } }`)).toEqual({
      metrics: { nodes: [] },
    });
    const { errors } = await setting.ask(
      `mutation ($id: UUID!) { updateMetric(input: { id: $id, patch: { name: "Stolen" } }) { metric { name } } }`,
      { variables: { id } },
    );
    expect(errors).toMatchObject([{ message: "No metric has this ID.", extensions: { code: "LR006" } }]);
    const still = await setting.get(`query ($id: UUID!) { metric(id: $id) { name } }`, { tenant: "acme", variables: { id } });
    expect(still).toEqual({ metric: { name: "Acme's" } });
  });

  test("refers to nothing of another tenant", async () => {
    const id = idIn(
      await setting.get(`mutation { createPointsSystem(input: { pointsSystem: { key: "acmexp", name: "XP" } }) { pointsSystem { id } } }`, { tenant: "acme" }),
      "createPointsSystem",
      "pointsSystem",
    );
    const { errors } = await setting.ask(createLevel(`key: "x", name: "X", points: 1`), { variables: { system: id } });
    expect(errors).toMatchObject([{ message: "The points system does not exist.", extensions: { code: "LR020" } }]);
  });

  test.each([
    `updatePointsSystem(input: { id: "00000000-0000-7000-8000-000000000000", patch: { name: "N" } }) { clientMutationId }`,
    `deletePointsLevel(input: { id: "00000000-0000-7000-8000-000000000000" }) { pointsLevel { key } }`,
    `deleteAttribute(input: { id: "00000000-0000-7000-8000-000000000000" }) { query { __typename } }`,
  ])("that is not there is an error to change: %s", async (mutation) => {
    const { errors } = await setting.ask(`mutation { ${mutation} }`);
    expect(errors).toMatchObject([{ message: expect.stringMatching(/^No .+ has this ID\.$/), extensions: { code: "LR006" } }]);
  });

  test("is archived, and its key is free again", async () => {
    const create = `mutation { createMetric(input: { metric: { key: "again", name: "Again" } }) { metric { id } } }`;
    const id = idIn(await setting.get(create), "createMetric", "metric");
    await setting.get(
      `mutation ($id: UUID!) { updateMetric(input: { id: $id, patch: { archivedAt: "2026-01-01T00:00:00Z" } }) { clientMutationId } }`,
      { variables: { id } },
    );
    await setting.get(create);
  });

  test.each([
    ["a key already used", `key: "twice", name: "Two", points: 2`, "Another level of this points system already has this key.", "LR021"],
    ["a threshold already used", `key: "other", name: "Two", points: 1`, "Another level of this points system already has these points.", "LR021"],
    ["a threshold below 0", `key: "low", name: "Low", points: -1`, "A level's points are at least 0.", "LR020"],
    ["an empty name", `key: "empty", name: "", points: 3`, "A level's name has 1 to 255 characters.", "LR020"],
  ])("refuses %s by the sentence of the constraint", async (_what, fields, message, code) => {
    await setting.ask(createLevel(`key: "twice", name: "One", points: 1`), { variables: { system: systemId } });
    const { errors } = await setting.ask(createLevel(fields), { variables: { system: systemId } });
    expect(errors).toMatchObject([{ message, extensions: { code } }]);
  });

  test("refuses a key with a space in words", async () => {
    const { errors } = await setting.ask(`mutation { createMetric(input: { metric: { key: "a b", name: "A" } }) { clientMutationId } }`);
    expect(errors).toMatchObject([{ message: expect.stringContaining("letters, digits"), extensions: { code: "LR020" } }]);
  });

  test("refuses a trigger that contradicts itself", async () => {
    const { errors } = await setting.ask(
      `mutation ($system: UUID!) { createPointsTrigger(input: { pointsTrigger: { systemId: $system, type: metric, points: 1 } }) { clientMutationId } }`,
      { variables: { system: systemId } },
    );
    expect(errors).toMatchObject([
      { message: "A metric trigger, and no other, has a metric and a metric threshold.", extensions: { code: "LR020" } },
    ]);
  });
});
