import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createPools, type Pools } from "../../src/postgres/pools.ts";
import { cloneDatabase, silentLogger, type TestDatabase, testTimeouts } from "../support/database.ts";
import { insertEvents, record, verify } from "../support/engine.ts";
import { aBoost, aMetric, anAttribute, aSystem, aTrigger, type Database } from "../support/factories.ts";
import { randomFrom, shuffled } from "../support/races.ts";

/** Rule E5: parallel callers, nothing lost, nothing doubled, no error. */

const connections = 32;
// As many as it takes for every mixture of key, metric, kind and way in; mixed.test.ts has 150.
const events = 60;
const users = ["ada", "bob", "cyd", "dan", "eve"] as const;

let database: TestDatabase;
let pools: Pools;

beforeAll(async () => {
  database = await cloneDatabase();
  pools = createPools({
    ownerUrl: database.connectionString,
    serverUrl: database.serverConnectionString,
    size: connections,
    timeouts: testTimeouts,
    logger: silentLogger,
  });
  await anAttribute(database.pools.owner, { key: "kind", type: "event" });
  await anAttribute(database.pools.owner, { key: "plan" });
});

afterAll(() => pools.end());

/** Runs one task per connection, all at once, and ends their connections. */
async function atOnce(tasks: readonly ((db: Database) => Promise<void>)[]): Promise<void> {
  const clients = await Promise.all(tasks.map(() => pools.service.connect()));
  const results = await Promise.allSettled(tasks.map((task, n) => task(clients[n] as Database)));
  for (const client of clients) client.release();
  const errors = results.flatMap((result) =>
    result.status === "rejected" ? [String((result.reason as { code?: string }).code) + " " + String(result.reason)] : [],
  );
  expect(errors).toEqual([]);
}

async function sequencesAreDense(db: Database): Promise<void> {
  const found = await db.query(
    `select user_id, system_key from laurel.points_awards group by user_id, system_key, system_id
     having count(*) <> max(sequence) or count(distinct sequence) <> count(*) or min(sequence) <> 1`,
  );
  expect(found.rows).toEqual([]);
}

test(`${connections} connections x ${events} calls on ${users.length} users: nothing lost, nothing doubled, no error`, async () => {
  const owner = database.pools.owner;
  const [words, pages] = [await aMetric(owner, { key: "words" }), await aMetric(owner, { key: "pages" })];
  const [xp, books] = [await aSystem(owner, { key: "xp" }), await aSystem(owner, { key: "books" })];
  await aTrigger(owner, { system: xp, type: "user_creation", points: 1000 });
  await aTrigger(owner, { system: xp, metric: words, points: 2 });
  await aTrigger(owner, { system: xp, metric: pages, every: 2, points: 4 });
  await aTrigger(owner, { system: books, metric: words, every: 2, points: 1, event_attributes: { kind: "book" } });
  await aBoost(owner, { system: xp, multiplier: "1.5" });

  // What must come of it. All values are positive, so the order does not matter: words give 2 x 1.5 = 3 points each,
  // pages floor(total / 2) x 6 over all firings (4k x 1.5 = 6k is whole), a new user 1500, books floor(count / 2).
  const seen = new Set<string>();
  const expected = new Map(users.map((user) => [user as string, { words: 0, pages: 0, books: 0, adjusted: 0, rows: 0 }]));
  type Call = { metric: "words" | "pages"; user: string; value: number; key: string | null; kind: string | null };
  const count = (call: Call): void => {
    const place = `${call.metric} ${call.user} ${call.key ?? ""}`;
    if (call.key !== null && seen.has(place)) return;
    seen.add(place);
    const sum = expected.get(call.user);
    if (sum === undefined) return;
    sum[call.metric] += call.value;
    sum.rows += 1;
    if (call.kind === "book" && call.metric === "words") sum.books += call.value;
  };

  let calls = 0;
  const tasks = Array.from({ length: connections }, (_, connection) => {
    const random = randomFrom(connection + 1);
    const steps = Array.from({ length: events }, (__, n) => {
      // Connections 0, 4, 8 ... share keys, as do 1, 5, 9 ...: every key is used by 8 of them, about at once, and
      // whatever has the same key has the same user, metric, value and kind.
      const key = n % 3 === 0 ? null : `k${connection % 4}_${n}`;
      const group = key === null ? connection : connection % 4;
      const callFor = (user: string): Call => ({
        metric: (n + group) % 4 === 0 ? "pages" : "words",
        user,
        value: 1 + ((n + group) % 3),
        key,
        kind: (n + group) % 2 === 0 ? "book" : null,
      });
      const user = users[(n + group) % users.length] ?? users[0];
      return { n, key, group, callFor, user };
    });
    return async (db: Database): Promise<void> => {
      for (const { n, key, callFor, user } of shuffled(steps, random)) {
        calls += 1;
        const toInput = (call: Call) => ({
          metric: call.metric,
          user: call.user,
          value: call.value,
          key: call.key,
          attributes: call.kind === null ? {} : { kind: call.kind },
        });
        switch (n % 5) {
          case 0: {
            count(callFor(user));
            const profile = n % 2 === 0 ? { name: `Name ${n}` } : null;
            await record(db, { ...toInput(callFor(user)), profile });
            break;
          }
          case 1:
            count(callFor(user));
            await insertEvents(db, [toInput(callFor(user))]);
            break;
          case 2: {
            const rows = shuffled(users, random).map(callFor);
            rows.forEach(count);
            await insertEvents(db, rows.map(toInput));
            break;
          }
          case 3: {
            const place = `adjust ${user} ${key ?? ""}`;
            await db.query("select laurel.identify_user($1, $2)", [user, JSON.stringify({ attributes: { plan: `p${n}` } })]);
            await db.query("select laurel.adjust_points('xp', $1, 7, 'By hand', $2)", [user, key]);
            const sum = expected.get(user);
            if (sum !== undefined && (key === null || !seen.has(place))) sum.adjusted += 7;
            seen.add(place);
            break;
          }
          default:
            await db.query("select laurel.identify_user($1, $2)", [user, JSON.stringify({ tz: "Asia/Tokyo", name: `N${n}` })]);
            count(callFor(user));
            await record(db, toInput(callFor(user)));
        }
      }
    };
  });
  await atOnce(tasks);
  expect(calls).toBe(connections * events);

  const found = await owner.query<{ user_id: string; words: string; pages: string; xp: string; books: string; events: string }>(
    `select u.id as user_id,
       (select trim_scale(total) from laurel.user_metrics m where m.user_id = u.id and metric_key = 'words') as words,
       (select trim_scale(total) from laurel.user_metrics m where m.user_id = u.id and metric_key = 'pages') as pages,
       (select total from laurel.points_balances b where b.user_id = u.id and system_key = 'xp') as xp,
       (select total from laurel.points_balances b where b.user_id = u.id and system_key = 'books') as books,
       (select count(*) from laurel.metric_events e where e.user_id = u.id) as events
     from laurel.users u order by u.id`,
  );
  expect(found.rows).toEqual(
    users.map((user) => {
      const sum = expected.get(user) ?? { words: 0, pages: 0, books: 0, adjusted: 0, rows: 0 };
      return {
        user_id: user,
        words: String(sum.words),
        pages: String(sum.pages),
        xp: String(1500 + 3 * sum.words + 6 * Math.floor(sum.pages / 2) + sum.adjusted),
        books: String(Math.floor(sum.books / 2)),
        events: String(sum.rows),
      };
    }),
  );
  await sequencesAreDense(owner);
  expect(await verify(owner)).toEqual([]);
}, 240_000);

test("many connections meet the same new users in one statement each, in any order: each user is new once", async () => {
  const owner = database.pools.owner;
  const metric = await aMetric(owner, { key: "meets" });
  const system = await aSystem(owner, { key: "welcome" });
  await aTrigger(owner, { system, type: "user_creation", points: 5 });
  await aTrigger(owner, { system, metric, points: 1 });
  const rounds = 6;
  await atOnce(
    Array.from({ length: connections }, (_, connection) => async (db: Database) => {
      const random = randomFrom(1000 + connection);
      for (let round = 0; round < rounds; round++) {
        const all = Array.from({ length: 20 }, (__, n) => `new_${round}_${n}`);
        await insertEvents(
          db,
          shuffled(all, random).map((user) => ({ metric: "meets", user })),
        );
        // One of the next round's, alone: it meets the statements of others.
        await record(db, { metric: "meets", user: `new_${round + 1}_${connection % 20}` });
      }
    }),
  );
  const found = await owner.query(
    `select cause, count(*), sum(points), count(distinct user_id) as users from laurel.points_awards
     where system_key = 'welcome' group by cause order by cause`,
  );
  // 6 rounds x 20 users, and 20 met alone at the end of the last; 32 x 6 x 20 + 32 x 6 events
  expect(found.rows).toEqual([
    { cause: "user_creation", count: "140", sum: "700", users: "140" },
    { cause: "metric", count: "4032", sum: "4032", users: "140" },
  ]);
  await sequencesAreDense(owner);
  expect(await verify(owner)).toEqual([]);
}, 240_000);

describe("while configuration changes", () => {
  test("events go on, verify() is content at every moment, and the rules end as configured", async () => {
    const owner = database.pools.owner;
    const metric = await aMetric(owner, { key: "busy" });
    const system = await aSystem(owner, { key: "moving", max_points: 1000 });
    const always = await aTrigger(owner, { system, metric, points: 1 });
    const filtered = await aTrigger(owner, { system, metric, every: 3, points: 2, event_attributes: { kind: "book" } });
    let running = 8;
    const broken: unknown[] = [];
    const admin = async (): Promise<void> => {
      for (let n = 0; running > 0; n++) {
        const status = n % 2 === 0 ? "inactive" : "active";
        await pools.admin.query("update laurel.points_triggers set status = $2 where id = $1", [filtered.id, status]);
        await pools.admin.query("update laurel.points_triggers set points = $2 where id = $1", [always.id, 1 + (n % 9)]);
        await pools.admin.query("update laurel.points_systems set max_points = $2 where id = $1", [system.id, 1000 + n]);
        if (n % 5 === 0) await aBoost(pools.admin, { system, multiplier: "1.01" });
        broken.push(...(await verify(owner)));
      }
    };
    const work = Array.from({ length: 8 }, (_, connection) => async (db: Database) => {
      const random = randomFrom(connection + 77);
      try {
        for (let n = 0; n < 60; n++) {
          const attributes = random() < 0.7 ? { kind: "book" } : {};
          const event = (user: string) => ({ metric: "busy", user, attributes, value: Math.floor(random() * 6) - 1 });
          if (n % 3 === 0) await insertEvents(db, shuffled(["busy1", "busy2", "busy3"], random).map(event));
          else await record(db, event(`busy${1 + (n % 3)}`));
        }
      } finally {
        running -= 1;
      }
    });
    await Promise.all([admin(), atOnce(work)]);
    expect(broken).toEqual([]);
    expect(await verify(owner)).toEqual([]);
    await sequencesAreDense(owner);
  }, 240_000);
});
