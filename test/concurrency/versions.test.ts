import { beforeAll, describe, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { startRestApi, type RestApi } from "../support/rest.ts";
import { openTransaction, startAndBlock } from "../support/races.ts";

/** A change that names the version it was made for (`updated_at`) is refused when there has been another since: LR026. */

interface Shown {
  readonly id: string;
  readonly updated: string;
}

let rest: RestApi;
const made = new Map<string, Shown>();
let systemId = "";

const create = async (path: string, item: object): Promise<Shown> => {
  const answer = await rest.as().post(`/admin/v1${path}`, [item]).expect(201);
  const [shown] = (answer.body as { created: Shown[] }).created;
  if (shown === undefined) throw new Error(`nothing was created: ${answer.text}`);
  return shown;
};

/** Kinds of configuration: path, an item of each, its table, and a change of it in REST and in SQL. */
const kinds: readonly (readonly [path: string, item: object, table: string, change: object, set: string])[] = [
  ["/metrics", { name: "Laps", key: "laps" }, "laurel.metrics", { name: "Rounds" }, "name = 'Lengths'"],
  ["/attributes", { name: "Plan", key: "plan", type: "user" }, "laurel.attributes", { name: "Tariff" }, "name = 'Contract'"],
  ["/achievements", { name: "Called", trigger: "api", key: "called" }, "laurel.achievements", { name: "Rung" }, "name = 'Shouted'"],
  ["/leaderboards", { name: "Longest", key: "longest", rankBy: "streak" }, "laurel.leaderboards", { name: "Long" }, "name = 'Very long'"],
  ["/points", { name: "Gold", key: "gold" }, "laurel.points_systems", { maxPoints: 5 }, "max_points = 6"],
  ["/points/:system/levels", { name: "Low", key: "low", points: 1 }, "laurel.points_levels", { points: 2 }, "points = 3"],
  ["/points/:system/boosts", { name: "Double", start: "2026-01-01", multiplier: 2 }, "laurel.points_boosts", { multiplier: 3 }, "multiplier = 4"],
  ["/points/:system/triggers", { type: "user_creation", points: 1 }, "laurel.points_triggers", { points: 2 }, "points = 3"],
  ["/webhooks", {}, "laurel.webhook_endpoints", { maxConcurrency: 2 }, "max_concurrency = 3"],
  ["/tenants", { customerId: "acme", name: "Acme" }, "laurel.tenants", { name: "Acme Inc." }, "name = 'Acme Ltd.'"],
];
/** Without a secret, which only a server with a key of its own can keep. */
async function aWebhook(): Promise<Shown> {
  const { rows } = await rest.database.pools.owner.query<{ id: string; updated: Date }>(
    "insert into laurel.webhook_endpoints (url, event_types) values ('https://example.com/', '{points.changed}') returning id, updated_at as updated");
  return { id: rows[0]?.id ?? "", updated: rows[0]?.updated.toISOString() ?? "" };
}

const pathOf = (path: string): string => path.replace(":system", systemId);

beforeAll(async () => {
  rest = await startRestApi();
  systemId = (await create("/points", { name: "XP", key: "xp" })).id;
  for (const [path, item] of kinds) made.set(path, await (path === "/webhooks" ? aWebhook() : create(pathOf(path), item)));
});

describe.each(kinds)("%s", (path, _item, table, change, set) => {
  const shown = (): Shown => made.get(path) ?? { id: "", updated: "" };
  const patch = async (item: object): Promise<{ updated: Shown[]; issues: { field?: string; message: string }[] }> =>
    (await rest.as().patch(`/admin/v1${pathOf(path)}`, [{ id: shown().id, ...item }]).expect(200)).body as never;

  test("a change for the version that others replace at the same time is refused", async () => {
    const { owner, admin } = rest.database.pools;
    const { id, updated } = shown();
    const first = await openTransaction(owner);
    await first.client.query(`update ${table} set ${set} where id = $1`, [id]);
    const item = JSON.stringify([{ index: 0, item: { id, ...change, unchangedSince: updated } }]);
    const [, kind = ""] = /([a-z]+)$/.exec(path) ?? [];
    const second = await startAndBlock(admin, owner, async (client: PoolClient) =>
      client.query<{ answer: { done: object[]; issues: { field: string; message: string }[] } }>(
        "select laurel_private.change_configuration('update', $1, $2, $3) as answer", [kind, systemId, item]));
    await first.end("commit");
    const answer = (await second.result).rows[0]?.answer;
    expect(answer?.done).toEqual([]);
    expect(answer?.issues).toMatchObject([{ field: "unchangedSince", message: expect.stringMatching(/^This was changed meanwhile, at 2\d{3}-.*Z\.$/) }]);
  });

  test("a change for the present version is made, and is the next version", async () => {
    const found = await rest.as().get(`/admin/v1${pathOf(path)}/${shown().id}`).expect(200);
    const { updated: version } = found.body as Shown;
    const changed = await patch({ ...change, unchangedSince: version });
    expect(changed.issues).toEqual([]);
    const next = changed.updated[0]?.updated ?? "";
    expect(next > version).toBe(true);
    expect((await patch({ ...change, unchangedSince: version })).issues).toMatchObject([{ field: "unchangedSince" }]);
    expect(await patch(change)).toMatchObject({ issues: [], updated: [{ updated: next }] });
  });

  test("of two changes at the same time that name no version both are made", async () => {
    const { owner, admin } = rest.database.pools;
    const { id } = shown();
    const first = await openTransaction(owner);
    await first.client.query(`update ${table} set ${set.replace("'", "'Other ")} where id = $1`, [id]);
    const [, kind = ""] = /([a-z]+)$/.exec(path) ?? [];
    const second = await startAndBlock(admin, owner, async (client: PoolClient) =>
      client.query<{ answer: unknown }>("select laurel_private.change_configuration('update', $1, $2, $3) as answer",
        [kind, systemId, JSON.stringify([{ index: 0, item: { id, ...change } }])]));
    await first.end("commit");
    expect((await second.result).rows[0]?.answer).toMatchObject({ done: [{ id }], issues: [] });
  });
});

test("streak settings know their version, which the worker's progress leaves as it is", async () => {
  const patch = (body: object) => rest.as().patch("/admin/v1/streaks/settings", body);
  const versionOf = (answer: { readonly body: unknown }): string => (answer.body as Shown).updated;
  const before = versionOf(await rest.as().get("/admin/v1/streaks/settings").expect(200));
  const after = versionOf(await patch({ frequency: "weekly", unchangedSince: before }).expect(200));
  await rest.database.pools.owner.query("update laurel_private.streak_settings set revisit_after_user_id = null");
  expect((await patch({ frequency: "daily", unchangedSince: before }).expect(409)).body).toMatchObject({ field: "unchangedSince" });
  await patch({ frequency: "daily", unchangedSince: after }).expect(200);
});

test("in SQL, updated_at says the version, whole or to the millisecond", async () => {
  const { owner } = rest.database.pools;
  const { id } = made.get("/metrics") ?? { id: "" };
  const set = (time: string) => owner.query<{ updated_at: Date }>(`update laurel.metrics set units = units || 'x', updated_at = ${time} where id = $1 returning updated_at`, [id]);
  await set("updated_at");
  const { rows } = await set("date_trunc('milliseconds', updated_at)");
  await set(`'${rows[0]?.updated_at.toISOString() ?? ""}'`);
  await expect(set(`'${rows[0]?.updated_at.toISOString() ?? ""}'`)).rejects.toMatchObject({ code: "LR026", column: "updated_at" });
});
