import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import { Pool, type PoolClient } from "pg";

/**
 * A process of its own with two rivals over HTTP, started by rival_process.ts:
 *   POST /          plain node:http: an award decided by the application, statement by statement (pg, prepared)
 *   POST /bare      Express: one call of a trivial function
 *   GET  /bare/:id  Express: one indexed query, of a user's ten latest ledger rows
 *   GET  /bare/:id/awards  the same query, with all that Laurel's answer shows of them
 * Prints its two ports, comma-separated, when it listens; ends when its standard input does.
 */
const connectionString = process.argv[2] ?? "";
// As many as the most clients that are measured: here, too, nobody waits for a connection.
const pool = new Pool({ connectionString, max: 32 });

interface Trigger {
  readonly id: number;
  readonly threshold: number;
  readonly points: number;
  readonly event_attributes: Readonly<Record<string, string>>;
}

interface Boost {
  readonly multiplier: string;
  readonly user_attributes: Readonly<Record<string, string>>;
}

/** What a careful application does for one event: one lock, eight statements, one commit. */
async function award(client: PoolClient, userId: number, attributes: Readonly<Record<string, string>>): Promise<number> {
  const query = async <Row extends object>(name: string, text: string, values: unknown[]): Promise<Row[]> =>
    (await client.query<Row>({ name, text, values })).rows;
  await client.query("begin");
  const [user] = await query<{ attributes: Record<string, string>; total: string }>(
    "lock",
    "select attributes, total from bench.app_users where id = $1 for update",
    [userId],
  );
  const triggers = await query<Trigger>(
    "triggers",
    "select id, threshold, points, event_attributes from bench.app_triggers where metric_key = $1",
    ["words"],
  );
  const boosts = await query<Boost>(
    "boosts",
    "select multiplier, user_attributes from bench.app_boosts where starts_on <= current_date and (ends_on is null or ends_on >= current_date)",
    [],
  );
  const [metric] = await query<{ total: string; peak: string }>(
    "metric",
    "select total, peak from bench.app_metrics where user_id = $1",
    [userId],
  );
  const peakBefore = Number(metric?.peak ?? 0);
  const totalAfter = Number(metric?.total ?? 0) + 1;
  const peakAfter = Math.max(peakBefore, totalAfter);
  await query("event", "insert into bench.app_events (user_id, metric_key, value, attributes) values ($1, $2, $3, $4)", [
    userId,
    "words",
    1,
    attributes,
  ]);
  await query("peak", "update bench.app_metrics set total = $2, peak = $3 where user_id = $1", [
    userId,
    totalAfter,
    peakAfter,
  ]);
  const matches = (filter: Readonly<Record<string, string>>, given: Readonly<Record<string, string>>): boolean =>
    Object.entries(filter).every(([key, value]) => given[key] === value);
  const multiplier = boosts
    .filter((boost) => matches(boost.user_attributes, user?.attributes ?? {}))
    .reduce((product, boost) => product * Number(boost.multiplier), 1);
  let total = Number(user?.total ?? 0);
  const ids: number[] = [];
  const points: number[] = [];
  const totals: number[] = [];
  for (const trigger of triggers) {
    const firings = Math.floor(peakAfter / trigger.threshold) - Math.floor(peakBefore / trigger.threshold);
    if (firings === 0 || !matches(trigger.event_attributes, attributes)) continue;
    const added = Math.min(Math.floor(firings * trigger.points * multiplier), 2_000_000_000 - total);
    total += added;
    ids.push(trigger.id);
    points.push(added);
    totals.push(total);
  }
  await query(
    "ledger",
    "insert into bench.app_ledger (user_id, trigger_id, points, total_after) select $1, * from unnest($2::int[], $3::bigint[], $4::bigint[])",
    [userId, ids, points, totals],
  );
  await query("total", "update bench.app_users set total = $2 where id = $1", [userId, total]);
  await client.query("commit");
  return total;
}

const application = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk: Buffer) => {
    body += chunk.toString();
  });
  request.on("end", () => {
    void (async () => {
      const { userId, attributes } = JSON.parse(body) as { userId: number; attributes: Record<string, string> };
      const client = await pool.connect();
      try {
        const total = await award(client, userId, attributes);
        response.end(JSON.stringify({ total }));
      } catch (error) {
        await client.query("rollback");
        response.statusCode = 500;
        response.end(String(error));
      } finally {
        client.release();
      }
    })();
  });
});

const bareApp = express();
bareApp.post("/bare", express.json(), async (request, response) => {
  const { userId } = request.body as { userId: number };
  const found = await pool.query<{ answer: unknown }>({
    name: "trivial",
    text: "select bench.trivial($1) as answer",
    values: [`u${userId}`],
  });
  response.json(found.rows[0]?.answer);
});
bareApp.get("/bare/:id", async (request, response) => {
  const found = await pool.query<{ total_after: string }>({
    name: "latest",
    text: "select id, points, total_after, created_at from bench.history where user_id = $1 order by id desc limit 10",
    values: [request.params.id],
  });
  response.json({ total: found.rows[0]?.total_after ?? 0, awards: found.rows });
});
bareApp.get("/bare/:id/awards", async (request, response) => {
  const found = await pool.query<{ total: string }>({
    name: "awards",
    text: `select id, points as awarded, created_at as date, total_after as total, trigger, boosts
           from bench.history where user_id = $1 order by id desc limit 10`,
    values: [request.params.id],
  });
  response.json({ key: "xp", name: "XP", total: Number(found.rows[0]?.total ?? 0), awards: found.rows });
});
const bare = createServer(bareApp);

const ports = await Promise.all(
  [application, bare].map(
    (server) =>
      new Promise<number>((resolve) => {
        server.listen(0, "127.0.0.1", () => {
          resolve((server.address() as AddressInfo).port);
        });
      }),
  ),
);
process.stdout.write(`${ports.join(",")}\n`);
process.stdin.resume().on("end", () => process.exit(0));
