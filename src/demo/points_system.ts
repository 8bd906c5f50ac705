import type { Pool, PoolClient } from "pg";
import type { Pools } from "../postgres/pools.ts";
import { inTransaction } from "../postgres/transactions.ts";
import { demoMetrics } from "./commit_events.ts";
import { HistoryError } from "./git_history.ts";

/** Tells the demo's own system from one that somebody made for real. */
const description = "Made by npm run demo: points for commits.";
const systemKey = "xp";
const maxPoints = 25_000;

/** What the demo set up, in numbers for people. */
export interface DemoSystem {
  readonly isNew: boolean;
  readonly maxPoints: number;
}

/**
 * Sets up metrics, attributes and the points system `xp` as an admin does: by inserts into the configuration's tables, every kind of trigger and
 * of boost and a leaderboard among them. Does nothing when it did so before. Throws `HistoryError` when there is another system `xp`.
 */
export async function setUpPointsSystem(
  pools: Pick<Pools, "admin">,
  firstDate: string,
): Promise<DemoSystem> {
  return inTransaction(pools.admin, async (client) => {
    const found = await client.query<{ description: string | null }>(
      "select description from laurel.points_systems where key = $1 and archived_at is null",
      [systemKey],
    );
    const existing = found.rows[0];
    if (existing !== undefined && existing.description !== description) {
      throw new HistoryError(
        `there is a points system ${systemKey} already, and the demo leaves it alone: use another LAUREL_DATA_DIR or DATABASE_URL`,
      );
    }
    if (existing !== undefined) return { isNew: false, maxPoints };
    await createMetrics(client);
    const systemId = await createSystem(client);
    await createTriggers(client, systemId, await createAchievement(client));
    await createLevels(client, systemId);
    await createBoosts(client, systemId, firstDate);
    await createLeaderboard(client, systemId, firstDate);
    return { isNew: true, maxPoints };
  });
}

async function createMetrics(client: PoolClient): Promise<void> {
  await client.query(
    "insert into laurel.metrics (key, name, units) select m.key, m.name, m.units from jsonb_to_recordset($1) as m (key text, name text, units text) on conflict do nothing",
    [JSON.stringify(demoMetrics)],
  );
  await client.query(
    "insert into laurel.attributes (key, name, type) values ('kind', 'Kind of commit', 'event'), ('area', 'Area', 'event'), ('team', 'Team', 'user') on conflict do nothing",
  );
}

async function createSystem(client: PoolClient): Promise<string> {
  const created = await client.query<{ id: string }>(
    "insert into laurel.points_systems (key, name, description, max_points) values ($1, 'XP', $2, $3) returning id",
    [systemKey, description, maxPoints],
  );
  return created.rows[0]?.id ?? "";
}

/** What the achievement trigger names. */
async function createAchievement(client: PoolClient): Promise<string> {
  const created = await client.query<{ id: string }>(
    `insert into laurel.achievements (key, name, description, kind, metric_id, metric_value, status)
     select 'ten-commits', 'Ten commits', 'Committed ten times.', 'metric', m.id, 10, 'active' from laurel.metrics m
     where m.key = 'commits' and m.archived_at is null returning id`,
  );
  return created.rows[0]?.id ?? "";
}

/** Authors by XP, since the first commit. */
async function createLeaderboard(client: PoolClient, systemId: string, firstDate: string): Promise<void> {
  await client.query(
    `insert into laurel.leaderboards (key, name, rank_by, system_id, starts_on, max_participants, status)
     values ('most-xp', 'Most XP', 'points', $1, $2, 100, 'active')`,
    [systemId, firstDate],
  );
}

/** One of each kind. The daily one ticks from now on, as the worker runs. */
async function createTriggers(client: PoolClient, systemId: string, achievementId: string): Promise<void> {
  await client.query(
    `insert into laurel.points_triggers
       (system_id, type, points, status, metric_id, metric_threshold, event_attributes, achievement_id, streak_length, time_unit, time_interval)
     select $1, t.type::laurel.points_trigger_type, t.points, t.status::laurel.points_trigger_status, m.id, t.threshold,
       coalesce(t.event_attributes, '{}'), t.achievement_id, t.streak_length, t.time_unit::laurel.time_unit, t.time_interval
     from jsonb_to_recordset($2) as t (type text, points int, status text, metric text, threshold int, event_attributes jsonb,
       achievement_id uuid, streak_length int, time_unit text, time_interval int)
     left join laurel.metrics m on m.key = t.metric and m.archived_at is null`,
    [
      systemId,
      JSON.stringify([
        { type: "user_creation", points: 50, status: "active" },
        { type: "metric", points: 10, status: "active", metric: "commits", threshold: 1 },
        { type: "metric", points: 40, status: "active", metric: "commits", threshold: 5, event_attributes: { kind: "fix" } },
        { type: "metric", points: 15, status: "active", metric: "files-changed", threshold: 25 },
        { type: "metric", points: -5, status: "active", metric: "lines-changed", threshold: 1000 },
        { type: "streak", points: 30, status: "active", streak_length: 3 },
        { type: "achievement", points: 100, status: "active", achievement_id: achievementId },
        { type: "time", points: 1, status: "active", time_unit: "days", time_interval: 1 },
      ]),
    ],
  );
}

async function createLevels(client: PoolClient, systemId: string): Promise<void> {
  await client.query(
    `insert into laurel.points_levels (system_id, key, name, points)
     select $1, l.key, l.name, l.points
     from (values ('newcomer', 'Newcomer', 0), ('contributor', 'Contributor', 100), ('regular', 'Regular', 500),
       ('veteran', 'Veteran', 2500), ('legend', 'Legend', 10000)) as l (key, name, points)`,
    [systemId],
  );
}

/** For everybody and for users with an attribute; the third kind, for one user, comes when that user exists. */
async function createBoosts(client: PoolClient, systemId: string, firstDate: string): Promise<void> {
  await client.query(
    `insert into laurel.points_boosts (system_id, name, multiplier, rounding, starts_on, ends_on, user_attributes) values
       ($1, 'First month', 2, 'down', $2::date, $2::date + 30, '{}'),
       ($1, 'Core team', 1.25, 'nearest', $2::date, null, '{"team": "core"}')`,
    [systemId, firstDate],
  );
}

/** Gives one user a boost of their own, unless there is one. The user must exist. */
export async function boostUser(admin: Pool, userId: string, firstDate: string): Promise<void> {
  await inTransaction(admin, (client) =>
    client.query(
      `insert into laurel.points_boosts (system_id, name, multiplier, rounding, starts_on, user_id)
       select s.id, 'Most commits', 1.5, 'up', $3, $2 from laurel.points_systems s
       where s.key = $1 and s.archived_at is null
         and not exists (select from laurel.points_boosts b where b.system_id = s.id and b.user_id is not null)`,
      [systemKey, userId, firstDate],
    ),
  );
}
