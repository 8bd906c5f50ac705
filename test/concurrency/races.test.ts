import { afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { PoolClient } from "pg";
import { cloneDatabase, type TestDatabase } from "../support/database.ts";
import { insertEvents, record, steps, total, verify } from "../support/engine.ts";
import {
  aBoost,
  aLevel,
  aMetric,
  aSystem,
  aTrigger,
  anAttribute,
  aUser,
  type Database,
  type Metric,
  type System,
  unique,
} from "../support/factories.ts";
import { openTransaction, startAndBlock, startAndBlockOrFinish } from "../support/races.ts";

/** Rules E4, E5, E6 and TR6, one race at a time: the second caller is seen waiting before the first one ends. */

let database: TestDatabase;
let metric: Metric;
let system: System;

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  metric = await aMetric(database.pools.owner);
  system = await aSystem(database.pools.owner);
  await aTrigger(database.pools.owner, { system, metric, points: 10 });
});

// What is archived is not compiled: a hundred tests share the database.
afterEach(async () => {
  const { owner } = database.pools;
  await owner.query("update laurel.points_systems set archived_at = now() where archived_at is null");
  await owner.query("update laurel.points_triggers set status = 'archived' where status <> 'archived'");
  await owner.query("update laurel.metrics set archived_at = now() where archived_at is null");
});

const callers: [string, (db: Database, user: string, key: string) => Promise<unknown>][] = [
  ["record_event()", (db, user, key) => record(db, { metric: metric.key, user, key })],
  ["an INSERT", (db, user, key) => insertEvents(db, [{ metric: metric.key, user, key }])],
  [
    "an INSERT of two",
    (db, user, key) => insertEvents(db, [{ metric: metric.key, user, key }, { metric: metric.key, user: "other", key }]),
  ],
];
const pairs = callers.flatMap(([one, first]) => callers.map(([two, second]) => [one, two, first, second] as const));

describe.each([
  ["a user who is known", true],
  ["a user who is new", false],
])("two first uses of one key by %s (E4)", (_, isKnown) => {
  test.each(pairs)("%s commits, %s replays", async (__, ___, first, second) => {
    const { owner, service } = database.pools;
    const user = unique("race");
    if (isKnown) await aUser(owner, { id: user });
    const one = await openTransaction(service);
    await first(one.client, user, "k");
    const two = await startAndBlock(service, owner, (client) => second(client, user, "k"));
    await one.end("commit");
    const answer = await two.result;
    if (answer !== undefined) expect(answer).toMatchObject({ idempotentReplayed: true, total: 1, points: {} });
    expect(await steps(owner, user, system)).toEqual(["0 +10 10"]);
    expect(await verify(owner)).toEqual([]);
  });

  test.each(pairs)("%s rolls back, %s counts", async (__, ___, first, second) => {
    const { owner, service } = database.pools;
    const user = unique("race");
    if (isKnown) await aUser(owner, { id: user });
    const one = await openTransaction(service);
    await first(one.client, user, "k");
    const two = await startAndBlock(service, owner, (client) => second(client, user, "k"));
    await one.end("rollback");
    const answer = await two.result;
    if (answer !== undefined) expect(answer).toMatchObject({ idempotentReplayed: false, total: 1 });
    expect(await steps(owner, user, system)).toEqual(["0 +10 10"]);
    expect(await verify(owner)).toEqual([]);
  });
});

describe("two first sights of one user (TR6)", () => {
  const sights: [string, (db: Database, user: string) => Promise<unknown>][] = [
    ["identify_user()", (db, user) => db.query("select laurel.identify_user($1)", [user])],
    ["record_event()", (db, user) => record(db, { metric: metric.key, user })],
    ["an INSERT", (db, user) => insertEvents(db, [{ metric: metric.key, user }, { metric: metric.key, user: "aaa" }])],
  ];
  const sightPairs = sights.flatMap(([one, first]) =>
    sights.flatMap(([two, second]) =>
      (["commit", "rollback"] as const).map((how) => [one, how, two, first, second] as const),
    ),
  );

  test.each(sightPairs)("%s (%s) and %s: the user is new once", async (one, how, two, first, second) => {
    const { owner, service } = database.pools;
    const greeting = await aSystem(owner);
    await aTrigger(owner, { system: greeting, type: "user_creation", points: 100 });
    const user = unique("sight");
    const open = await openTransaction(service);
    await first(open.client, user);
    const waiting = await startAndBlock(service, owner, (client) => second(client, user));
    await open.end(how);
    await waiting.result;
    expect(await steps(owner, user, greeting)).toEqual(["0 +100 100"]);
    const happened = [how === "commit" ? one : "", two].filter((name) => /event|INSERT/.test(name)).length;
    expect((await total(owner, user, system)) ?? "0").toBe(String(10 * happened));
    expect(await verify(owner)).toEqual([]);
  });
});

describe("one user's callers wait for each other", () => {
  test("the second award starts where the first one ended, the cap included (E5, P2)", async () => {
    const { owner, service } = database.pools;
    await owner.query("update laurel.points_systems set max_points = 15 where id = $1", [system.id]);
    const user = unique("race");
    await aUser(owner, { id: user });
    const one = await openTransaction(service);
    await record(one.client, { metric: metric.key, user });
    const two = await startAndBlock(service, owner, (client) => record(client, { metric: metric.key, user }));
    await one.end("commit");
    expect((await two.result).points[system.key]).toMatchObject({ total: 15, added: 5 });
    expect(await steps(owner, user, system)).toEqual(["0 +10 10", "10 +5 15"]);
  });

  test("a profile change and an event: the event sees the attributes that were committed (U2)", async () => {
    const { owner, service } = database.pools;
    await owner.query("insert into laurel.attributes (key, name, type) values ('plan', 'Plan', 'user') on conflict do nothing");
    const pro = await aSystem(owner);
    await aTrigger(owner, { system: pro, metric, points: 3, user_attributes: { plan: "pro" } });
    const user = unique("race");
    await aUser(owner, { id: user });
    const one = await openTransaction(service);
    await one.client.query(`select laurel.identify_user($1, '{"attributes": {"plan": "pro"}}')`, [user]);
    const two = await startAndBlock(service, owner, (client) => insertEvents(client, [{ metric: metric.key, user }]));
    await one.end("commit");
    await two.result;
    expect(await total(owner, user, pro)).toBe("3");
  });

  test("two adjustments with one key count once (Q3)", async () => {
    const { owner, service } = database.pools;
    const user = unique("race");
    await aUser(owner, { id: user });
    const adjust = (client: Database | PoolClient) =>
      client.query("select laurel.adjust_points($1, $2, 5, 'By hand', 'k')", [system.key, user]);
    const one = await openTransaction(service);
    await adjust(one.client);
    const two = await startAndBlock(service, owner, adjust);
    await one.end("commit");
    await two.result;
    expect(await steps(owner, user, system)).toEqual(["0 +5 5"]);
    expect(await verify(owner)).toEqual([]);
  });

  test("users do not wait for each other", async () => {
    const { owner, service } = database.pools;
    const [a, b] = [unique("race"), unique("race")];
    const one = await openTransaction(service);
    await record(one.client, { metric: metric.key, user: a });
    await record(service, { metric: metric.key, user: b });
    expect(await total(owner, b, system)).toBe("10");
    await one.end("rollback");
    expect(await total(owner, a, system)).toBeNull();
  });

  test("reads do not wait for an award", async () => {
    const { owner, service } = database.pools;
    const user = unique("race");
    await aUser(owner, { id: user });
    const one = await openTransaction(service);
    await record(one.client, { metric: metric.key, user });
    await service.query("select laurel.user_points($1, $2)", [system.key, user]);
    expect(await verify(owner)).toEqual([]);
    await one.end("commit");
  });
});

describe("a transaction that rolls back (E6)", () => {
  test("leaves nothing, of any table", async () => {
    const { owner, service } = database.pools;
    const tables = await owner.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname in ('laurel', 'laurel_private') and c.relkind = 'r' order by 1`,
    );
    const counts = async () => {
      const found: Record<string, string | undefined> = {};
      for (const { name } of tables.rows)
        found[name] = (await owner.query<{ n: string }>(`select count(*) as n from ${name}`)).rows[0]?.n;
      return found;
    };
    const before = await counts();
    const one = await openTransaction(service);
    const user = unique("gone");
    await record(one.client, { metric: metric.key, user, key: "k", profile: { name: "Gone" } });
    await insertEvents(one.client, [1, 2].map((value) => ({ metric: metric.key, user, value, key: `k${value}` })));
    await one.client.query("select laurel.adjust_points($1, $2, 5, 'r', 'k')", [system.key, user]);
    await one.end("rollback");
    expect(await counts()).toEqual(before);
    // and the key is free again
    expect((await record(service, { metric: metric.key, user, key: "k" })).idempotentReplayed).toBe(false);
  });
});

describe("two changes of configuration at once", () => {
  let thresholds = 1;
  const changes: [string, (db: Database) => Promise<unknown>][] = [
    ["a trigger", (db) => aTrigger(db, { system, metric, points: 1 })],
    ["a boost", (db) => aBoost(db, { system, multiplier: 2 })],
    ["a level", (db) => aLevel(db, { system, points: thresholds++ })],
    ["a cap", (db) => db.query("update laurel.points_systems set max_points = 12 where id = $1", [system.id])],
    ["a metric", (db) => aMetric(db)],
    ["an attribute", (db) => db.query("insert into laurel.attributes (key, name, type) values ($1, 'A', 'event')", [unique("attr")])],
  ];
  const changePairs = changes.flatMap(([one, first]) =>
    changes.flatMap(([two, second]) => (one === "a cap" && two === "a cap" ? [] : [[one, two, first, second] as const])),
  );

  test.each(changePairs)("%s and %s both end in the rules", async (_, __, first, second) => {
    const { owner, admin } = database.pools;
    const one = await openTransaction(admin);
    await first(one.client);
    const two = await startAndBlockOrFinish(admin, owner, second);
    await one.end("commit");
    await two.result;
    expect(await verify(owner)).toEqual([]);
  });

  test("two triggers made at once both fire", async () => {
    const { owner, admin, service } = database.pools;
    const one = await openTransaction(admin);
    await aTrigger(one.client, { system, metric, points: 100 });
    const two = await startAndBlockOrFinish(admin, owner, (client) => aTrigger(client, { system, metric, points: 1000 }));
    await one.end("commit");
    await two.result;
    const user = unique("race");
    await record(service, { metric: metric.key, user });
    expect(await total(owner, user, system)).toBe("1110");
  });

  test("a change that is not committed yet does not hold up events, nor do events hold it up", async () => {
    const { owner, admin, service } = database.pools;
    const user = unique("race");
    await aUser(owner, { id: user });
    const change = await openTransaction(admin);
    await aTrigger(change.client, { system, metric, points: 100 });
    await record(service, { metric: metric.key, user }); // by the rules as committed: 10
    await insertEvents(service, [1, 1].map((value) => ({ metric: metric.key, user, value }))); // 20
    await change.end("commit");
    const event = await openTransaction(service);
    await record(event.client, { metric: metric.key, user }); // 110
    await aTrigger(admin, { system, metric, points: 1000 });
    await event.end("commit");
    await record(service, { metric: metric.key, user }); // 1110
    expect(await total(owner, user, system)).toBe("1250");
    expect(await verify(owner)).toEqual([]);
  });

  test("an event that waited for its user goes by rules no older than the event in front of it (TR2)", async () => {
    const { owner, admin, service } = database.pools;
    const other = await aMetric(owner);
    await anAttribute(owner, { key: "kind", type: "event" });
    const counting = { system, metric, points: 100, every: 2, event_attributes: { kind: "book" } };
    const filtered = await aTrigger(owner, { ...counting, status: "inactive" });
    const user = unique("race");
    await aUser(owner, { id: user });
    const book = (value: number) => ({ metric: metric.key, user, value, attributes: { kind: "book" } });
    const one = await openTransaction(service);
    await insertEvents(one.client, [{ metric: other.key, user }]);
    const two = await startAndBlock(service, owner, (client) => record(client, book(3)));
    await admin.query("update laurel.points_triggers set status = 'active' where id = $1", [filtered.id]);
    await insertEvents(one.client, [book(1)]);
    await one.end("commit");
    await two.result;
    expect(await steps(owner, user, system)).toEqual(["0 +10 10", "10 +30 40", "40 +200 240"]);
    expect(await verify(owner)).toEqual([]);
  });
});

describe("two loads that bring one new user (E4, TR6)", () => {
  const load = async (db: Database, user: string, keys: readonly string[], zone: string): Promise<number | undefined> =>
    (
      await db.query<{ stored: number }>(
        `select laurel_private.load_events(array_fill($1::text, array[$5::int]), array_fill($2::text, array[$5::int]),
           array_fill(1::numeric, array[$5::int]), array_fill('{}'::jsonb, array[$5::int]), $3,
           array_fill(timestamptz '2026-01-31 20:00+00', array[$5::int]), array_fill($4::text, array[$5::int])) as stored`,
        [metric.key, user, keys, zone, keys.length],
      )
    ).rows[0]?.stored;

  test.each([
    ["commit", 1, [100, 10, 10]],
    ["rollback", 2, [100, 10, 10]],
  ] as const)("the first ends by %s: the user is new once, each key counts once, the last time zone holds", async (how, stored, points) => {
    const { owner, admin } = database.pools;
    await aTrigger(owner, { system, type: "user_creation", points: 100 });
    const user = unique("race");
    const first = await openTransaction(admin);
    expect(await load(first.client, user, ["k"], "Asia/Tokyo")).toBe(1);
    const second = await startAndBlock(admin, owner, (client) => load(client, user, ["k", "l"], "America/New_York"));
    await first.end(how);
    expect(await second.result).toBe(stored);
    const found = await owner.query(
      `select u.tz, array(select a.points::int from laurel.points_awards a where a.user_id = u.id order by a.sequence) as points
       from laurel.users u where u.id = $1`,
      [user],
    );
    expect(found.rows).toEqual([{ tz: "America/New_York", points }]);
    expect(await verify(owner)).toEqual([]);
  });
});
