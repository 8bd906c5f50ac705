import { beforeAll, expect, test } from "@jest/globals";
import { createPools, type Pools } from "../../src/postgres/pools.ts";
import { silentLogger, testTimeouts } from "../support/database.ts";
import { insertEvents, record, verify } from "../support/engine.ts";
import { randomFrom } from "../support/races.ts";
import { idsOf, type RestApi, startRestApi } from "../support/rest.ts";

/** Rules E4, E5 over both ways in at once: connections of SQL and of REST, keys shared between all of them. */

const callers = 32;
const eventsEach = 150;
const users = ["ada", "bob", "cyd", "dan", "eve"] as const;
/** A third of the calls repeat a key that another caller uses at about the same time. */
const keysPerUser = 40;

let rest: RestApi;
let pools: Pools;

beforeAll(async () => {
  rest = await startRestApi();
  pools = createPools({
    ownerUrl: rest.database.connectionString,
    serverUrl: rest.database.serverConnectionString,
    size: callers / 2,
    timeouts: testTimeouts,
    logger: silentLogger,
  });
  const [metricId] = idsOf(await rest.as().post("/admin/v1/metrics", [{ name: "Words", key: "words" }]));
  await rest
    .as()
    .post("/admin/v1/points", [
      {
        name: "XP",
        key: "xp",
        triggers: [
          { type: "metric", points: 2, status: "active", metricId, metricThreshold: 1 },
          { type: "user_creation", points: 7, status: "active" },
        ],
      },
    ])
    .expect(201);
});

test(`${callers} callers x ${eventsEach} events on ${users.length} users, by SQL and REST: nothing lost, nothing doubled`, async () => {
  const expected = new Map<string, number>(users.map((user) => [user, 0]));
  const seen = new Set<string>();
  const plans = Array.from({ length: callers }, (_, caller) => {
    const random = randomFrom(caller + 1);
    return Array.from({ length: eventsEach }, () => {
      const user = users[Math.floor(random() * users.length)] ?? "ada";
      const key = random() < 1 / 3 ? `k${Math.floor(random() * keysPerUser)}` : null;
      const place = `${user} ${key ?? ""}`;
      if (key === null || !seen.has(place)) expected.set(user, (expected.get(user) ?? 0) + 1);
      if (key !== null) seen.add(place);
      return { metric: "words", user, value: 1, key };
    });
  });

  const outcomes = { created: 0, replayed: 0, inserted: 0 };
  await Promise.all(
    plans.map(async (plan, caller) => {
      if (caller % 2 === 0) {
        for (const { user, key } of plan) {
          const request = rest.as().post("/v1/metrics/words/event", { user: { id: user }, value: 1 });
          const { status } = await (key === null ? request : request.set("Idempotency-Key", key));
          if (status === 201) outcomes.created += 1;
          else if (status === 202) outcomes.replayed += 1;
          else throw new Error(`REST answered ${status}`);
        }
        return;
      }
      const client = await pools.service.connect();
      try {
        for (const [n, event] of plan.entries()) {
          if (n % 3 === 0) {
            await insertEvents(client, [event]);
            outcomes.inserted += 1;
          } else {
            const response = await record(client, event);
            outcomes[response.idempotentReplayed ? "replayed" : "created"] += 1;
          }
        }
      } finally {
        client.release();
      }
    }),
  );
  await pools.end();
  expect(outcomes.created + outcomes.replayed + outcomes.inserted).toBe(callers * eventsEach);

  const { owner } = rest.database.pools;
  const stored = await owner.query<{ user: string; events: string; total: string }>(
    `select e.user_id as user, count(*)::text as events, (select b.total::text from laurel.points_balances b where b.user_id = e.user_id) as total
     from laurel.metric_events e group by e.user_id order by e.user_id`,
  );
  expect(stored.rows).toEqual(
    users.map((user) => {
      const events = expected.get(user) ?? 0;
      return { user, events: String(events), total: String(7 + 2 * events) };
    }),
  );
  expect(await verify(owner)).toEqual([]);
  process.stdout.write(`mixed callers: ${JSON.stringify({ calls: callers * eventsEach, stored: [...expected.values()].reduce((a, b) => a + b), ...outcomes })}\n`);
});
