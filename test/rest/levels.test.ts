import { beforeAll, expect, test } from "@jest/globals";
import { idsOf, type RestApi, sentencesOf, startRestApi } from "../support/rest.ts";

let rest: RestApi;
let path: string;
let bronze: string;
let silver: string;
let gold: string;

beforeAll(async () => {
  rest = await startRestApi();
  const [system = ""] = idsOf(await rest.as().post("/admin/v1/points", [{ name: "XP", key: "xp" }]));
  path = `/admin/v1/points/${system}/levels`;
  [bronze = "", silver = "", gold = ""] = idsOf(
    await rest.as().post(path, [
      { name: "Bronze", key: "bronze", points: 10 },
      { name: "Silver", key: "silver", points: 20 },
      { name: "Gold", key: "gold", points: 30 },
    ]),
  );
});

const thresholds = async (): Promise<Record<string, number>> => {
  const found = await rest.as().get(path).expect(200);
  return Object.fromEntries((found.body as { key: string; points: number }[]).map(({ key, points }) => [key, points]));
};

test("levels change places in one request", async () => {
  const changed = await rest.as().patch(path, [{ id: bronze, points: 30 }, { id: silver, points: 10 }, { id: gold, points: 20 }]).expect(200);
  expect(sentencesOf(changed)).toEqual([]);
  expect(await thresholds()).toEqual({ silver: 10, gold: 20, bronze: 30 });
});

test("when two end up at the same points, each item is judged by itself", async () => {
  const changed = await rest.as().patch(path, [{ id: silver, points: 5 }, { id: gold, points: 30 }, { id: bronze, name: "Copper" }]).expect(200);
  expect(changed.body).toMatchObject({
    updated: [{ id: silver, points: 5 }, { id: bronze, name: "Copper" }],
    issues: [{ index: 1, id: gold, message: "Another level of this points system already has these points." }],
  });
  expect(await thresholds()).toEqual({ silver: 5, gold: 20, bronze: 30 });
});
