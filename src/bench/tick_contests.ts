import { withClient } from "./laboratory.ts";
import type { Contest, Progress } from "./contest.ts";

/** For so long clocks have stood still: all that is due is in the past, where any number of workers apply it at once. */
const stoodStill = "1 year";
/** Users with a clock that ticks every hour, and those of them who have another that was not looked at for 26 hours. */
const clockUsers = 100_000;
const lateUsers = 4_000;
const lateHours = 26;
/** What a worker asks for at once: few enough that no event waits long for its user. */
const ticksAtOnce = 500;
const workers = 2;
/** 100,000 ticks in 20 seconds. */
const leastTicksPerSecond = 5_000;
const eventClients = 4;

/** Makes the users, two time triggers, and their clocks. */
export async function prepareTicks(connectionString: string, progress: Progress): Promise<void> {
  progress(`${clockUsers} users with clocks`);
  await withClient(connectionString, async (owner) => {
    await owner.query("insert into laurel.attributes (key, name, type) values ('clock', 'Clock', 'user'), ('late', 'Late', 'user')");
    await owner.query("insert into laurel.points_systems (key, name) values ('hourly', 'Hourly'), ('late', 'Late')");
    await owner.query(
      `insert into laurel.users (id, attributes, created_at)
       select 'clock-' || n, jsonb_build_object('clock', 'yes') || case when n <= $2 then '{"late": "yes"}'::jsonb else '{}' end, now() - $3::interval
       from generate_series(1, $1::int) n`,
      [clockUsers, lateUsers, stoodStill],
    );
    for (const [key, filter] of [["hourly", { clock: "yes" }], ["late", { late: "yes" }]] as const) {
      await owner.query(
        `insert into laurel.points_triggers (system_id, type, points, time_unit, time_interval, user_attributes, status)
         select id, 'time', 1, 'hours', 1, $2, 'active' from laurel.points_systems where key = $1`,
        [key, JSON.stringify(filter)],
      );
    }
    await owner.query(
      `update laurel_private.time_trigger_spans p
       set activated_at = x.moment, begins_at = x.moment, looks_from = x.moment from (select now() - $1::interval as moment) x`,
      [stoodStill],
    );
    await owner.query("select laurel.run_due_time_triggers('-infinity')");
    // Only what the lines below make due is ever due.
    await owner.query("update laurel_private.user_clocks set next_due_at = null");
    await owner.query("vacuum analyze");
    await owner.query("checkpoint");
  });
}

/** Lets so many hours pass for a trigger's clocks, and returns the moment by which those ticks are due. */
async function makeDue(connectionString: string, system: string, hours: number): Promise<string> {
  return withClient(connectionString, async (owner) => {
    const found = await owner.query<{ moment: string }>(
      `with due as (
         update laurel_private.user_clocks c
         set next_due_at = laurel_private.tick_due_at(c.started_at, 'hours', 1, 'UTC', c.last_tick + 1)
         from laurel.points_triggers t join laurel.points_systems s on s.id = t.system_id
         where t.id = c.trigger_id and s.key = $1
         returning c.next_due_at)
       select (max(next_due_at) + make_interval(hours => $2 - 1))::text as moment from due`,
      [system, hours],
    );
    await owner.query("vacuum analyze laurel_private.user_clocks");
    return found.rows[0]?.moment ?? "-infinity";
  });
}

/** Applies what is due, by several workers at once; returns how many ticks. Their clocks are out of the way afterwards. */
async function applyAll(connectionString: string, moment: string): Promise<number> {
  const counts = await Promise.all(
    Array.from({ length: workers }, () =>
      withClient(connectionString, async (worker) => {
        let applied = 0;
        for (;;) {
          const found = await worker.query<{ n: string }>("select laurel.run_due_time_triggers($1, $2) as n", [moment, ticksAtOnce]);
          const count = Number(found.rows[0]?.n ?? 0);
          if (count === 0) return applied;
          applied += count;
        }
      }),
    ),
  );
  await withClient(connectionString, (owner) => owner.query("update laurel_private.user_clocks set next_due_at = null where next_due_at is not null"));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** (f) Ticks: how fast those that are due are applied, and how long events wait meanwhile. */
export function tickContests(work: { readonly connectionString: string; readonly seconds: number }): Contest[] {
  const rate = async (system: string, hours: number, expected: number): Promise<number> => {
    const moment = await makeDue(work.connectionString, system, hours);
    const started = performance.now();
    const applied = await applyAll(work.connectionString, moment);
    const seconds = (performance.now() - started) / 1000;
    if (applied !== expected) throw new Error(`${applied} ticks were applied instead of ${expected}`);
    return applied / seconds;
  };
  const catchingUp = async (): Promise<number> => {
    const moment = await makeDue(work.connectionString, "late", lateHours);
    let isOver = false;
    const latencies = measureEvents(work.connectionString, () => isOver);
    const applied = await applyAll(work.connectionString, moment);
    isOver = true;
    if (applied !== lateUsers * lateHours) throw new Error(`${applied} ticks were applied instead of ${lateUsers * lateHours}`);
    return 1000 / percentile99(await latencies);
  };
  const alone = async (): Promise<number> => {
    const end = performance.now() + work.seconds * 1000;
    return 1000 / percentile99(await measureEvents(work.connectionString, () => performance.now() > end));
  };
  return [
    {
      title: `ticks, ${clockUsers} users with one each, 2 workers`,
      laurel: { name: "Laurel", run: () => rate("hourly", 1, clockUsers) },
      rivals: [],
      goals: [{ kind: "rate", least: leastTicksPerSecond }],
    },
    {
      title: `ticks, ${lateUsers} users with ${lateHours} each, 2 workers`,
      laurel: { name: "Laurel", run: () => rate("late", lateHours, lateUsers * lateHours) },
      rivals: [],
      goals: [{ kind: "rate", least: leastTicksPerSecond }],
    },
    {
      title: "1 / p99 of record_event, 4 clients, while 2 workers catch up",
      laurel: { name: "catching up", run: catchingUp },
      rivals: [{ name: "no ticks", run: alone }],
      goals: [{ kind: "share", of: "no ticks", least: 0.5 }],
    },
  ];
}

/** Latencies, in milliseconds, of events of users who have clocks, from clients that each wait for their answer. */
async function measureEvents(connectionString: string, isOver: () => boolean): Promise<number[]> {
  const latencies: number[] = [];
  await Promise.all(
    Array.from({ length: eventClients }, () =>
      withClient(connectionString, async (client) => {
        while (!isOver()) {
          const started = performance.now();
          await client.query({
            name: "event",
            text: "select laurel.record_event('words', $1)",
            values: [`clock-${1 + Math.floor(Math.random() * clockUsers)}`],
          });
          latencies.push(performance.now() - started);
        }
      }),
    ),
  );
  return latencies;
}

function percentile99(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Number.NaN;
}
