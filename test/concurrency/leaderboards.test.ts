import { afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { cloneDatabase, eventually, type TestDatabase } from "../support/database.ts";
import { type EventResponse, first, insertEvents, record, verify } from "../support/engine.ts";
import { aMetric, aSystem, aTrigger, type Database, type Metric, unique } from "../support/factories.ts";
import { openTransaction, startAndBlock } from "../support/races.ts";

/** Rules LB1, E5 and E6 with real connections: entries are their users' own, ranks are those of what is committed. */

let database: TestDatabase;
let metric: Metric;
let board: string;

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  metric = await aMetric(database.pools.owner);
  board = unique("board");
});

afterEach(async () => {
  await database.pools.owner.query("update laurel.leaderboards set status = 'archived' where status <> 'archived'");
});

const aBoard = (columns: string, values: string, db: Database = database.pools.owner) =>
  db.query(`insert into laurel.leaderboards (key, name, status, starts_on, ${columns}) values ($1, 'Board', 'active', '2020-01-01', ${values})`, [board]);
const aMetricBoard = () => aBoard("rank_by, metric_id", `'metric', '${metric.id}'`);

async function rankings(): Promise<string[]> {
  const found = await database.pools.owner.query<{ board: { rankings: { userId: string; rank: number; value: number }[] } }>(
    "select laurel.leaderboard_rankings($1, 1000) as board", [board]);
  return first(found.rows).board.rankings.map(({ userId, rank, value }) => `${rank} ${userId} ${value}`);
}

const placeIn = (answer: EventResponse): unknown => answer.leaderboards[board];

test("two users who pass each other at once do not wait for each other, and each sees the other as committed", async () => {
  const { service } = database.pools;
  await aMetricBoard();
  await insertEvents(service, [{ metric: metric.key, user: "ada", value: 10 }, { metric: metric.key, user: "bob", value: 9 }, { metric: metric.key, user: "cem", value: 8 }]);
  const one = await openTransaction(service);
  const two = await openTransaction(service);
  expect(placeIn(await record(one.client, { metric: metric.key, user: "bob", value: 2 }))).toMatchObject({ rank: 1, previousRank: 2 });
  // Were bob's two seen already, or waited for, this would be second place.
  expect(placeIn(await record(two.client, { metric: metric.key, user: "cem", value: "2.5" }))).toMatchObject({ rank: 1, previousRank: 3 });
  await two.end("commit");
  await one.end("commit");
  expect(await rankings()).toEqual(["1 bob 11", "2 cem 10", "3 ada 10"]);
  expect(await verify(database.pools.owner)).toEqual([]);
});

test("the same user's events wait for one another, and what is rolled back never ranked", async () => {
  const { owner, service } = database.pools;
  await aMetricBoard();
  await insertEvents(service, [{ metric: metric.key, user: "ada", value: 5 }, { metric: metric.key, user: "bob", value: 4 }]);
  for (const [how, place] of [["rollback", { rank: 2, previousRank: 2 }], ["commit", { rank: 1, previousRank: 1 }]] as const) {
    const one = await openTransaction(service);
    expect(placeIn(await record(one.client, { metric: metric.key, user: "bob", value: 4 }))).toMatchObject({ rank: 1, previousRank: 2 });
    const two = await startAndBlock(service, owner, (client) => record(client, { metric: metric.key, user: "bob", value: "0.5" }));
    await one.end(how);
    expect(placeIn(await two.result)).toMatchObject(place);
  }
  expect(await rankings()).toEqual(["1 bob 9", "2 ada 5"]);
  expect(await verify(owner)).toEqual([]);
});

test("many users at once on a board with few places: the ranks are those of the sums", async () => {
  const { owner, service } = database.pools;
  const system = await aSystem(owner);
  await aTrigger(owner, { system, metric, points: 2 });
  await aBoard("rank_by, system_id, max_participants", `'points', '${system.id}', 5`);
  const users = Array.from({ length: 8 }, (_, n) => unique(`p${n}`));
  await Promise.all(Array.from({ length: 80 }, (_, n) => record(service, { metric: metric.key, user: users[n % 8] ?? "", value: 1 + ((n * 7) % 5) })));
  const expected = await owner.query<{ place: string }>(
    `select concat_ws(' ', row_number() over (order by sum(points) desc, max(id::text)), user_id, sum(points)) as place
     from laurel.points_awards where system_id = $1 group by user_id order by sum(points) desc, max(id::text) limit 5`, [system.id]);
  expect(await owner.query("select laurel.leaderboard_rankings($1, 5)", [board]).then(({ rows }) =>
    (first(rows) as { leaderboard_rankings: { rankings: { userId: string; rank: number; value: number }[] } }).leaderboard_rankings.rankings
      .map(({ userId, rank, value }) => `${rank} ${userId} ${value}`))).toEqual(expected.rows.map(({ place }) => place));
  expect(await verify(owner)).toEqual([]);
});

test("a full board of 1,000: who is pushed off is off, at once, for everybody", async () => {
  const { owner, service } = database.pools;
  await aMetricBoard();
  const name = (n: number): string => `f${String(n).padStart(4, "0")}`;
  await insertEvents(service, Array.from({ length: 1001 }, (_, n) => ({ metric: metric.key, user: name(n), value: 2000 - n })));
  expect(await rankings()).toHaveLength(1000);
  // The last, 1,000, is not on it; 1,001 is the value to reach.
  expect(placeIn(await record(service, { metric: metric.key, user: name(1000), value: "0.5" }))).toMatchObject({ rank: null, previousRank: null, threshold: 1001 });
  const answers = await Promise.all([1000, 999, 500, 0].map((n) => record(service, { metric: metric.key, user: name(n), value: 5000 })));
  expect(answers.map((answer) => (placeIn(answer) as { previousRank: number | null }).previousRank === null)).toEqual([true, expect.any(Boolean), false, false]);
  const after = await rankings();
  expect(after).toHaveLength(1000);
  expect(after.slice(0, 5)).toEqual([`1 ${name(0)} 7000`, `2 ${name(500)} 6500`, `3 ${name(999)} 6001`, `4 ${name(1000)} 6000`, `5 ${name(1)} 1999`]);
  // Of 1,001 users f0998, with 1,002, is the one left out.
  expect(after.at(-1)).toBe(`1000 ${name(997)} 1003`);
  expect(await verify(owner)).toEqual([]);
});

test("an event under way while a leaderboard of streaks is activated is on it, whichever comes first", async () => {
  const { owner, service } = database.pools;
  await insertEvents(service, [{ metric: metric.key, user: "sam", at: new Date(Date.now() - 86_400_000).toISOString() }]);
  const one = await openTransaction(service);
  await record(one.client, { metric: metric.key, user: "sam" });
  await aBoard("rank_by", "'streak'");
  // It looks back when nothing goes by rules of before any more.
  await owner.query("select laurel_private.backfill_leaderboards()");
  await owner.query("select laurel_private.backfill_leaderboards()");
  expect(await rankings()).toEqual([]);
  await one.end("commit");
  await eventually("the look back to end", async () => {
    await owner.query("select laurel_private.backfill_leaderboards(1000)");
    return (await owner.query("select from laurel_private.leaderboard_backfills where finished_at is null")).rowCount === 0;
  }, 60_000);
  expect((await rankings()).find((place) => place.includes(" sam "))).toMatch(/ sam 2$/);
  expect(await verify(owner)).toEqual([]);
});

test("upkeep and an event for the same lost streak: whoever comes second sees what the first one did", async () => {
  const { owner, service } = database.pools;
  await aBoard("rank_by", "'streak'");
  await record(service, { metric: metric.key, user: "zoe" });
  const inAWeek = new Date(Date.now() + 7 * 86_400_000);
  const one = await openTransaction(owner);
  await one.client.query("select laurel_private.settle_users(laurel.current_tenant_id(), array['zoe'], $1)", [inAWeek]);
  expect((await rankings()).some((place) => place.includes(" zoe 1"))).toBe(true);
  const two = await startAndBlock(service, owner, (client) => record(client, { metric: metric.key, user: "zoe" }));
  await one.end("commit");
  await two.result;
  const { rows } = await owner.query<{ length: number; value: string }>(
    `select u.length, e.value from laurel_private.user_streaks u
     join laurel.leaderboards b on b.key = $1 and b.status = 'active'
     join laurel.leaderboard_entries e on e.tenant_id = u.tenant_id and e.user_id = u.user_id and e.leaderboard_id = b.id
     where u.user_id = 'zoe'`, [board]);
  expect(rows.map(({ length, value }) => Number(value) - length)).toEqual([0]);
  expect(await verify(owner)).toEqual([]);
});
