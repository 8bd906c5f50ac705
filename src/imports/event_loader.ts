import { setTimeout as pause } from "node:timers/promises";
import { DatabaseError, type Pool } from "pg";
import { isLostConnection } from "../postgres/errors.ts";
import { inTransaction } from "../postgres/transactions.ts";
import type { EventRow } from "./event_rows.ts";

/** What a loader needs. */
export interface EventLoaderDependencies {
  /** Connections that may insert events: in role laurel_service, or the owner's. */
  readonly pool: Pool;
  /** The tenant's customer ID; empty for the default one. */
  readonly tenant: string;
  /** Told of every row that is not stored, and why. */
  readonly onRefused: (row: EventRow, reason: string) => void;
}

/** Counts of rows so far: each row that was loaded is one of these, or was refused. */
export interface LoadedCounts {
  readonly stored: number;
  /** Already there: their idempotency keys were used before. */
  readonly replayed: number;
}

/** Loads rows, in order; keeps what it knows of users' time zones between batches. */
export interface EventLoader {
  /**
   * Loads these rows. Rows that the database refuses are told to `onRefused` and keep no other from being loaded. Throws when the database
   * cannot be reached for a while: whatever was stored then counts once when the rows are loaded again.
   */
  readonly load: (rows: readonly EventRow[]) => Promise<LoadedCounts>;
}

/** Codes after which the same statement may well succeed: deadlock, serialization failure, lock timeout. */
const passingFaults: ReadonlySet<string> = new Set(["40P01", "40001", "55P03"]);
const attempts = 8;
const unknownMetric = "LR003";

/** Makes a loader that inserts through `laurel.metric_events`, many rows a statement. */
export function createEventLoader({ pool, tenant, onRefused }: EventLoaderDependencies): EventLoader {
  const settings = { "laurel.tenant": tenant, TimeZone: "UTC" };
  const timeZones = new Map<string, string>();
  // The reason by metric key, so that a file full of one wrong key is not tried line by line.
  const refusedMetrics = new Map<string, string>();

  let refused = 0;

  const refuse = (row: EventRow, reason: string): void => {
    refused += 1;
    onRefused(row, reason);
  };
  const refuseFor = (row: EventRow, error: DatabaseError): void => {
    if (error.code === unknownMetric) refusedMetrics.set(row.metricKey, error.message);
    refuse(row, error.message);
  };

  /** All rows in one statement, or, when one of them is wrong, each half by itself. */
  const insert = async (given: readonly EventRow[]): Promise<number> => {
    const rows = given.filter((row) => {
      const reason = refusedMetrics.get(row.metricKey);
      if (reason !== undefined) refuse(row, reason);
      return reason === undefined;
    });
    const [first] = rows;
    if (first === undefined) return 0;
    try {
      return await patiently(() => insertRows(pool, settings, rows));
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (rows.length === 1) {
        refuseFor(first, error);
        return 0;
      }
      const middle = Math.ceil(rows.length / 2);
      return (await insert(rows.slice(0, middle))) + (await insert(rows.slice(middle)));
    }
  };

  /** One row that also says where its user lives; the two are stored together (TR6: a new user is dated by its first event). */
  const record = async (row: EventRow): Promise<number> => {
    try {
      const isReplay = await patiently(() => recordRow(pool, settings, row));
      if (row.timeZone !== null) timeZones.set(row.userId, row.timeZone);
      return isReplay ? 0 : 1;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      refuseFor(row, error);
      return 0;
    }
  };

  return {
    load: async (rows) => {
      const refusedBefore = refused;
      let stored = 0;
      const waiting: EventRow[] = [];
      const waitingUsers = new Set<string>();
      const insertWaiting = async (): Promise<void> => {
        stored += await insert(waiting.splice(0));
        waitingUsers.clear();
      };
      for (const row of rows) {
        if (row.timeZone === null || timeZones.get(row.userId) === row.timeZone) {
          waiting.push(row);
          waitingUsers.add(row.userId);
          continue;
        }
        // A user's events stay in order.
        if (waitingUsers.has(row.userId)) await insertWaiting();
        stored += await record(row);
      }
      await insertWaiting();
      return { stored, replayed: rows.length - stored - (refused - refusedBefore) };
    },
  };
}

/** Inserts the rows in one statement; returns how many are new. */
async function insertRows(
  pool: Pool,
  settings: Readonly<Record<string, string>>,
  rows: readonly EventRow[],
): Promise<number> {
  return inTransaction(
    pool,
    async (client) => {
      const userIds = rows.map((row) => row.userId);
      const metricKeys = rows.map((row) => row.metricKey);
      const idempotencyKeys = rows.map((row) => row.idempotencyKey);
      const inserted = await client.query<{ id: string }>(
        `with inserted as (
           insert into laurel.metric_events (metric_key, user_id, value, attributes, idempotency_key, occurred_at)
           select r.metric_key, r.user_id, r.value, r.attributes, r.idempotency_key, r.occurred_at
           from unnest($1::text[], $2::text[], $3::numeric[], $4::jsonb[], $5::text[], $6::timestamptz[]) with ordinality
             as r (metric_key, user_id, value, attributes, idempotency_key, occurred_at, no)
           order by r.no
           returning id
         )
         select id from inserted order by id limit 1`,
        [
          metricKeys,
          userIds,
          rows.map((row) => row.value),
          rows.map((row) => JSON.stringify(row.attributes)),
          idempotencyKeys,
          rows.map((row) => row.occurredAt),
        ],
      );
      // Replays were taken out again as the statement ended. What is left is new: no ID before these was.
      const kept = await client.query<{ count: number }>(
        `select count(distinct e.id)::int as count
         from unnest($1::text[], $2::text[], $3::text[]) as r (metric_key, user_id, idempotency_key)
         join laurel.metrics m on m.tenant_id = laurel.current_tenant_id() and m.key = r.metric_key and m.archived_at is null
         join laurel.metric_events e on e.tenant_id = m.tenant_id and e.user_id = r.user_id and e.metric_id = m.id
           and e.id >= $4 and e.idempotency_key = r.idempotency_key`,
        [metricKeys, userIds, idempotencyKeys, inserted.rows[0]?.id],
      );
      return kept.rows[0]?.count ?? 0;
    },
    { settings },
  );
}

/** Records one row together with its user's time zone; returns whether it had been recorded before. */
async function recordRow(pool: Pool, settings: Readonly<Record<string, string>>, row: EventRow): Promise<boolean> {
  return inTransaction(
    pool,
    async (client) => {
      const recorded = await client.query<{ is_replay: boolean }>(
        `select (laurel.record_event($1, $2, coalesce($3::numeric, 1), $4, $5, $6, $7) ->> 'idempotentReplayed')::boolean as is_replay`,
        [
          row.metricKey,
          row.userId,
          row.value,
          JSON.stringify(row.attributes),
          row.idempotencyKey,
          row.occurredAt,
          JSON.stringify({ tz: row.timeZone }),
        ],
      );
      return recorded.rows[0]?.is_replay === true;
    },
    { settings },
  );
}

/** Tries again, with growing pauses, what fails for no fault of the rows. Keys make sure that nothing counts twice. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const { code = "" } = error as { code?: string };
      const mayPass = passingFaults.has(code) || isLostConnection(error);
      if (!mayPass || attempt === attempts) throw error;
      await pause(50 * 2 ** attempt);
    }
  }
}

/** What the database finds wrong with a row: Laurel's own codes, wrong values, broken constraints. */
function isRefusal(error: unknown): error is DatabaseError {
  return error instanceof DatabaseError && /^(LR|22|23)/.test(error.code ?? "");
}
