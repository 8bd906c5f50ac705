import { beforeAll, expect, test } from "@jest/globals";
import { cloneDatabase, eventually, type TestDatabase } from "../support/database.ts";
import { record, verify } from "../support/engine.ts";
import { aMetric, anAchievement, aSystem, aTrigger } from "../support/factories.ts";
import { openTransaction } from "../support/races.ts";
import { countAll, preview } from "../support/scenarios.ts";

/** Rule D1: a preview holds nobody up, and nobody holds it up; with connections of their own. */

let database: TestDatabase;

beforeAll(async () => {
  database = await cloneDatabase();
  const { owner } = database.pools;
  const words = await aMetric(owner, { key: "words" });
  const xp = await aSystem(owner, { key: "xp", max_points: 100 });
  await aTrigger(owner, { system: xp, metric: words, points: 10 });
  await anAchievement(owner, { key: "done", metric: words, metric_value: 2 });
  await record(owner, { metric: "words", user: "1/1" });
});

// The kind's user is called as a live one is.
const scenario = { days: 5, kinds: [{ name: "A", users: 3, activeDays: 0.9, events: [{ metric: "words", perDay: 2 }] }] };

test("events and configuration changes go on while a preview's transaction is open", async () => {
  const { owner } = database.pools;
  const open = await openTransaction(owner);
  await open.client.query("savepoint before");
  // What a preview does before it rolls back, held open.
  await open.client.query("select laurel_private.rehearse_scenario(s, $1) from laurel.points_systems s where s.key = 'xp'", [JSON.stringify(scenario)]);
  const others = await owner.connect();
  try {
    await others.query("set lock_timeout = '2s'");
    await record(others, { metric: "words", user: "1/1" });
    await record(others, { metric: "words", user: "newcomer" });
    await others.query("update laurel.points_triggers set points = 11");
    await others.query("insert into laurel.metrics (key, name) values ('tasks', 'Tasks')");
    await others.query("insert into laurel.tenants (customer_id, name) values ('acme', 'Acme')");
    await others.query("select laurel.erase_user('newcomer')");
    // Two previews at once.
    await preview(others, "xp", scenario);
  } finally {
    others.release();
    await open.end("rollback");
  }
  expect(await verify(owner)).toEqual([]);
});

test("a preview does not wait for open changes of configuration, nor for a user's lock", async () => {
  const { owner } = database.pools;
  const change = await openTransaction(owner);
  await change.client.query("update laurel.points_triggers set points = 1000");
  await record(change.client, { metric: "words", user: "1/1" });
  const other = await owner.connect();
  try {
    await other.query("set lock_timeout = '2s'");
    const found = await preview(other, "xp", scenario);
    // Not committed, so not the rules.
    expect(found.kinds[0]?.byTrigger).toMatchObject([{ trigger: { points: 11 } }]);
  } finally {
    other.release();
    await change.end("rollback");
  }
});

test("nothing remains: no row, no message, no job, and nobody hears of it", async () => {
  const { owner, admin } = database.pools;
  const before = await countAll(owner);
  const listener = await owner.connect();
  const heard: string[] = [];
  listener.on("notification", ({ channel }) => heard.push(channel));
  const channels = await owner.query<{ c: string }>("select distinct unnest(array['jobs:insert', 'laurel', 'worker:migrate']) as c");
  for (const { c } of channels.rows) await listener.query(`listen "${c}"`);
  await preview(admin, "xp", scenario);
  await listener.query("select 1");
  expect(heard).toEqual([]);
  listener.release(true);
  expect(await countAll(owner)).toEqual(before);
  await eventually("no transaction to be left open", async () =>
    (await owner.query("select from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'")).rowCount === 0);
});

test("events during a preview are counted as ever", async () => {
  const { owner, admin } = database.pools;
  const [previews] = await Promise.all([
    Promise.all(Array.from({ length: 3 }, () => preview(admin, "xp", scenario))),
    ...Array.from({ length: 20 }, (_, n) => record(owner, { metric: "words", user: `user${n % 3}` })),
  ]);
  expect(previews[1]).toEqual(previews[0]);
  expect(await verify(owner)).toEqual([]);
});
