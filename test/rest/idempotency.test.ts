import { beforeAll, expect, test } from "@jest/globals";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

let rest: RestApi;

beforeAll(async () => {
  rest = await startRestApi();
  const [metricId] = idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]));
  await rest
    .as()
    .post("/admin/v1/points", [
      { name: "XP", key: "xp", triggers: [{ type: "metric", points: 2, status: "active", metricId, metricThreshold: 1 }] },
    ])
    .expect(201);
});

test("of 32 simultaneous uses of one key one counts, and the others replay it", async () => {
  const answers = await Promise.all(
    Array.from({ length: 32 }, () =>
      rest.as().post("/v1/metrics/words/event", { user: { id: "ann", name: "Ann" }, value: 3 }).set("Idempotency-Key", "order-1"),
    ),
  );
  const statuses = answers.map(({ status }) => status).sort();
  expect(statuses).toEqual([201, ...Array<number>(31).fill(202)]);
  const bodies = answers.map(({ body }) => body as { eventId: string; total: number; idempotencyKey: string });
  expect(new Set(bodies.map(({ eventId }) => eventId)).size).toBe(1);
  expect(new Set(bodies.map(({ total }) => total))).toEqual(new Set([3]));
  expect(new Set(bodies.map(({ idempotencyKey }) => idempotencyKey))).toEqual(new Set(["order-1"]));
  const points = await rest.as().get("/v1/users/ann/points/xp").expect(200);
  expect(points.body).toMatchObject({ total: 6, awards: [{ awarded: 6 }] });
});

test("a replay changes nothing, the profile included, and says so", async () => {
  const send = (name: string, value: number): ReturnType<ReturnType<RestApi["as"]>["post"]> =>
    rest.as().post("/v1/metrics/words/event", { user: { id: "bob", name }, value }).set("Idempotency-Key", "b");
  const first = await send("Bob", 1).expect(201);
  const replay = await send("Robert", 5).expect(202);
  const { currentStreak, ...others } = first.body as { currentStreak: object };
  expect(currentStreak).toMatchObject({ length: 1, extended: true });
  expect(replay.body).toEqual({
    ...others,
    currentStreak: { ...currentStreak, extended: false },
    points: {}, achievements: [], idempotentReplayed: true,
  });
  expect((await rest.as().get("/v1/users/bob")).body).toMatchObject({ name: "Bob" });
});

test("a key belongs to its user and metric", async () => {
  for (const id of ["carl", "dora"]) {
    await rest.as().post("/v1/metrics/words/event", { user: { id }, value: 1 }).set("Idempotency-Key", "c").expect(201);
  }
});

test("200 parallel events of a few users are all counted, and verify() finds nothing", async () => {
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      rest.as().post("/v1/metrics/words/event", { user: { id: `p${index % 5}` }, value: "0.5" }),
    ),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
  const { owner } = rest.database.pools;
  const found = await owner.query("select distinct total::text from laurel.user_metrics where user_id like 'p_'");
  expect(found.rows).toEqual([{ total: expect.stringMatching(/^20(\.0+)?$/) }]);
  expect((await owner.query("select * from laurel.verify()")).rows).toEqual([]);
});
