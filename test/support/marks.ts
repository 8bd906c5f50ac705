import { eventually } from "./database.ts";
import { first } from "./engine.ts";
import type { Database } from "./factories.ts";

/** Lets groups with so few entries have marks, for good: for a database of one's own, or in a transaction that is rolled back. */
export const withMarksFrom = (db: Database, entries: number): Promise<unknown> =>
  db.query(`create or replace function laurel_private.least_entries_with_marks() returns int language sql immutable parallel safe return ${entries}`);

/** Wants marks for every group there is, as upkeep_leaderboards() does for long ones. */
export const requestMarks = (db: Database): Promise<unknown> =>
  db.query(
    `select laurel_private.request_marks((g.tenant_id, g.leaderboard_id, g.generation, g.run_on, now(), null, null)::laurel_private.leaderboard_runs, g.group_ids)
     from (
       select e.tenant_id, e.leaderboard_id, e.generation, e.run_on, array_agg(distinct e.group_id) as group_ids
       from laurel.leaderboard_entries e
       join laurel.leaderboards b on b.id = e.leaderboard_id and b.generation = e.generation
       where b.rank_by <> 'streak' and b.status = 'active' and e.group_id is not null
       group by 1, 2, 3, 4) g`,
  );

export const keepMarks = async (db: Database): Promise<number> =>
  first((await db.query<{ count: number }>("select laurel_private.keep_marks() as count")).rows).count;

/** Keeps marks until none is proposed: which waits for transactions of the whole server that are older, other test files' included. */
export async function settleMarks(db: Database): Promise<void> {
  await requestMarks(db);
  await eventually("the marks to be counted", async () => {
    while ((await keepMarks(db)) > 0);
    return (await db.query("select from laurel_private.leaderboard_marks where next_id is not null or is_due")).rowCount === 0;
  }, 60_000);
}

export const countedMarks = async (db: Database): Promise<number> =>
  first((await db.query<{ count: number }>("select count(*)::int as count from laurel_private.leaderboard_marks where counts is not null")).rows).count;

/** Entries that place_of() places otherwise than counting all of them does, all in one snapshot. */
export async function misplaced(db: Database): Promise<unknown[]> {
  const { rows } = await db.query<Record<string, unknown>>(
    `select e.user_id, e.run_on, p as found, x as expected
     from laurel.leaderboards b
     join laurel.leaderboard_entries e on e.leaderboard_id = b.id and e.generation = b.generation and e.group_id is not null
     cross join lateral (
       select case when e.value > 0 and x.better < b.max_participants then x.better + 1 end as rank,
         case when e.previous_value > 0 and x.better_before < b.max_participants then x.better_before + 1 end as previous_rank,
         coalesce((x.all_values)[b.max_participants], 0) as threshold
       from (
         select (count(*) filter (where (-o.value, o.reached_id) < (-e.value, e.reached_id)))::int as better,
           (count(*) filter (where o.reached_id <> e.reached_id and (-o.value, o.reached_id) < (-e.previous_value, e.previous_reached_id)))::int as better_before,
           array_agg(o.value order by o.value desc, o.reached_id) as all_values
         from laurel.leaderboard_entries o
         where o.leaderboard_id = e.leaderboard_id and o.generation = e.generation and o.run_on = e.run_on and o.group_id = e.group_id and o.value > 0) x) x
     cross join lateral laurel_private.place_of(e, b.max_participants, null) p
     where b.rank_by <> 'streak' and b.status = 'active' and (p.rank, p.previous_rank, p.threshold) is distinct from (x.rank, x.previous_rank, x.threshold)`,
  );
  return rows;
}
