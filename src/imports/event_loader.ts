import { setTimeout as pause } from "node:timers/promises";
import { DatabaseError, type Pool } from "pg";
import { isLostConnection } from "../postgres/errors.ts";
import { inTransaction } from "../postgres/transactions.ts";
import type { EventRow } from "./event_rows.ts";

/** What a loader needs. */
export interface EventLoaderDependencies {
  /** Connections in role laurel_admin, or the owner's. */
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
const invalidTimeZone = "LR016";

/** Makes a loader that records by `laurel_private.load_events()`, many rows a statement. */
export function createEventLoader({ pool, tenant, onRefused }: EventLoaderDependencies): EventLoader {
  const settings = { "laurel.tenant": tenant, TimeZone: "UTC" };
  const timeZones = new Map<string, string>();
  // The reason by metric key and by time zone, so that a file full of one wrong key is not tried line by line.
  const refusedMetrics = new Map<string, string>();
  const refusedZones = new Map<string, string>();
  const refused = new Set<EventRow>();

  const refuse = (row: EventRow, reason: string): void => {
    refused.add(row);
    onRefused(row, reason);
  };
  const refuseFor = (row: EventRow, error: DatabaseError): void => {
    if (error.code === unknownMetric) refusedMetrics.set(row.metricKey, error.message);
    if (error.code === invalidTimeZone && row.timeZone !== null) refusedZones.set(row.timeZone, error.message);
    refuse(row, error.message);
  };

  /** All rows in one statement, or, when one of them is wrong, each half by itself. */
  const insert = async (given: readonly EventRow[]): Promise<number> => {
    const rows = given.filter((row) => {
      const reason = refusedMetrics.get(row.metricKey) ?? (row.timeZone === null ? undefined : refusedZones.get(row.timeZone));
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

  return {
    load: async (rows) => {
      const refusedBefore = refused.size;
      let stored = 0;
      let waiting: EventRow[] = [];
      // Of users who wait: the time zone that their rows tell, if they do.
      const waitingZones = new Map<string, string | undefined>();
      const insertWaiting = async (): Promise<void> => {
        stored += await insert(waiting);
        for (const row of waiting) {
          if (row.timeZone !== null && !refused.has(row)) timeZones.set(row.userId, row.timeZone);
        }
        waiting = [];
        waitingZones.clear();
      };
      for (const row of rows) {
        const { userId, timeZone } = row;
        const zone = waitingZones.get(userId) ?? timeZones.get(userId);
        // One statement knows one time zone of a user, and holds it true for all of the user's rows.
        if (timeZone !== null && timeZone !== zone && waitingZones.has(userId)) await insertWaiting();
        waiting.push(row);
        waitingZones.set(userId, timeZone ?? zone);
      }
      await insertWaiting();
      return { stored, replayed: rows.length - stored - (refused.size - refusedBefore) };
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
      const loaded = await client.query<{ stored: number }>(
        "select laurel_private.load_events($1, $2, $3, $4, $5, $6, $7) as stored",
        [
          rows.map((row) => row.metricKey),
          rows.map((row) => row.userId),
          rows.map((row) => row.value),
          rows.map((row) => JSON.stringify(row.attributes)),
          rows.map((row) => row.idempotencyKey),
          rows.map((row) => row.occurredAt),
          rows.map((row) => row.timeZone),
        ],
      );
      return loaded.rows[0]?.stored ?? 0;
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
