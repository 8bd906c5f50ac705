import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { pino } from "pino";
import { type EmbeddedPostgres, startEmbedded } from "../../src/postgres/embedded.ts";
import { waitFor } from "../../src/postgres/processes.ts";
import { freePort, killPostgres, type LaurelProcess, startPart } from "./processes.ts";

/** What is killed. */
export type Victim = "postgres" | "server" | "worker";
export const victims: readonly Victim[] = ["postgres", "server", "worker"];

/** PostgreSQL, a server and a worker, each a process of its own, with a configuration that every event touches. */
export interface Stage {
  readonly port: number;
  readonly adminKey: string;
  readonly metric: string;
  readonly users: readonly string[];
  /** Kills one of them and starts it again. */
  readonly crash: (victim: Victim) => Promise<void>;
  /** A query as the owner, tried again while PostgreSQL is coming back. */
  readonly query: <Row extends object>(text: string, values?: unknown[]) => Promise<Row[]>;
  /** A time trigger whose ticks of the last `hours` hours are all due at once, for every user. */
  readonly addTicks: (hours: number) => Promise<string>;
  readonly close: () => Promise<void>;
}

const userCount = 40;

export async function openStage(): Promise<Stage> {
  const dataDirectory = join(tmpdir(), `laurel-faults-${process.pid}-${randomBytes(3).toString("hex")}`);
  const postgres: EmbeddedPostgres = await startEmbedded({ dataDirectory, logger: pino({ level: "silent" }) });
  const given = {
    connectionString: postgres.connectionString(),
    adminKey: `faults.${randomBytes(24).toString("hex")}`,
    port: await freePort(),
  };
  const parts = new Map<"server" | "worker", LaurelProcess>();
  parts.set("server", await startPart("server", given));
  parts.set("worker", await startPart("worker", given));
  const users = Array.from({ length: userCount }, (_, no) => `user-${no}`);

  const query = <Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> =>
    waitFor<Row[]>("PostgreSQL to answer", 60_000, async () => {
      const client = new Client({ connectionString: given.connectionString });
      client.on("error", () => undefined);
      try {
        await client.connect();
        return (await client.query<Row>(text, values)).rows;
      } catch (error) {
        // Class LR and the like are faults of the test; a connection that is refused or cut is the crash.
        if (error instanceof Error && "code" in error && /^(LR|2|42)/.test(String(error.code))) throw error;
        return undefined;
      } finally {
        await client.end().catch(() => undefined);
      }
    });

  await query("insert into laurel.attributes (key, name, type) values ('request', 'Request', 'event')");
  await query("insert into laurel.metrics (key, name) values ('work', 'Work')");
  await query("insert into laurel.points_systems (key, name, max_points) values ('xp', 'XP', null), ('energy', 'Energy', 100)");
  await query(
    `insert into laurel.points_triggers (system_id, type, points, metric_id, metric_threshold, status)
     select s.id, 'metric', t.points, m.id, t.every, 'active' from laurel.metrics m, laurel.points_systems s
     join (values ('xp', 3, 1), ('xp', 50, 10), ('energy', 2, 1), ('energy', -7, 4)) t (key, points, every) on t.key = s.key`,
  );
  await query("select laurel.identify_user(u) from unnest($1::text[]) u", [users]);
  // They have been here for long: what matters to clocks.
  await query("update laurel.users set created_at = now() - interval '1 year'");

  return {
    port: given.port,
    adminKey: given.adminKey,
    metric: "work",
    users,
    query,
    crash: async (victim) => {
      if (victim === "postgres") {
        const pid = postgres.postmasterPid();
        killPostgres(pid);
        await waitFor("PostgreSQL to be started again", 60_000, () => postgres.postmasterPid() !== pid);
        return;
      }
      await parts.get(victim)?.kill();
      parts.set(victim, await startPart(victim, given));
    },
    addTicks: async (hours) => {
      const made = await query<{ id: string }>(
        `insert into laurel.points_triggers (system_id, type, points, time_unit, time_interval, status)
         select s.id, 'time', 1, 'hours', 1, 'active' from laurel.points_systems s where s.key = 'xp' returning id`,
      );
      const id = made[0]?.id ?? "";
      // As if it had been activated then; deactivated now, so that it is known how many ticks there are.
      await query("delete from laurel_private.user_clocks where trigger_id = $1", [id]);
      await query(
        `update laurel_private.time_trigger_spans set activated_at = m.moment, begins_at = m.moment, looks_from = m.moment
         from (select clock_timestamp() - make_interval(hours => $2, mins => 30) as moment) m where trigger_id = $1`,
        [id, hours],
      );
      await query("select graphile_worker.add_job('run_due_time_triggers')");
      return id;
    },
    close: async () => {
      await Promise.all([...parts.values()].map((part) => part.stop()));
      await postgres.stop();
      rmSync(dataDirectory, { recursive: true, force: true });
    },
  };
}
