import { DatabaseError } from "pg";
import type { Attributes, Database } from "./factories.ts";

/** An event as callers give it; what is left out is left to the default. */
export interface EventInput {
  readonly metric: string;
  readonly user: string;
  /** A decimal; a string where a double would lose digits. */
  readonly value?: string | number | null;
  readonly attributes?: Attributes | null;
  readonly key?: string | null;
  readonly at?: string | null;
  readonly profile?: Readonly<Record<string, unknown>> | null;
}

/** What record_event() answered. */
export interface EventResponse {
  readonly eventId: string;
  readonly metricId: string;
  readonly total: number;
  readonly achievements: readonly unknown[];
  readonly currentStreak: Readonly<Record<string, unknown>>;
  readonly points: Readonly<Record<string, SystemResponse>>;
  readonly leaderboards: Readonly<Record<string, unknown>>;
  readonly idempotencyKey?: string;
  readonly idempotentReplayed: boolean;
}

export interface SystemResponse {
  readonly id: string;
  readonly key: string;
  readonly total: number;
  readonly added: number;
  readonly level?: { readonly key: string } | null;
  readonly awards: readonly { id: string; awarded: number; total: number; date: string }[];
}

/** A ledger row, the columns that tests compare. */
export interface LedgerRow {
  readonly id: string;
  readonly user_id: string;
  readonly system_id: string;
  readonly sequence: string;
  readonly occurred_at: Date;
  readonly cause: string;
  readonly trigger_id: string | null;
  readonly event_id: string | null;
  readonly reason: string | null;
  readonly base_points: string;
  readonly boosts: readonly { name: string; multiplier: number }[] | null;
  readonly boost_multiplier: string;
  readonly rounding: string | null;
  readonly rounded_points: string;
  readonly max_points: number | null;
  readonly points: string;
  readonly total_before: string;
  readonly total_after: string;
}

/** Calls laurel.record_event(). */
export async function record(db: Database, event: EventInput): Promise<EventResponse> {
  const named = {
    metric_key: event.metric,
    user_id: event.user,
    value: event.value,
    attributes: json(event.attributes),
    idempotency_key: event.key,
    occurred_at: event.at,
    profile: json(event.profile),
  };
  const given = Object.entries(named).filter(([, value]) => value !== undefined);
  const found = await db.query<{ response: EventResponse }>(
    `select laurel.record_event(${given.map(([name], index) => `${name} => $${index + 1}`).join(", ")}) as response`,
    given.map(([, value]) => value),
  );
  return first(found.rows).response;
}

/** Inserts the events by one statement, in the order given. Missing values are `default`. */
export async function insertEvents(db: Database, events: readonly EventInput[]): Promise<void> {
  const parameters: unknown[] = [];
  const cell = (value: unknown): string =>
    value === undefined ? "default" : `$${parameters.push(value)}`;
  const rows = events.map(
    (event) =>
      `(${[event.metric, event.user, event.value, json(event.attributes), event.key, event.at].map(cell).join(", ")})`,
  );
  await db.query(
    `insert into laurel.metric_events (metric_key, user_id, value, attributes, idempotency_key, occurred_at)
     values ${rows.join(", ")}`,
    parameters,
  );
}

/** Loads the events by COPY, in the order given. Needs a superuser: the server itself prints the rows. */
export async function copyEvents(db: Database, events: readonly EventInput[]): Promise<void> {
  const lines = events.map((event) =>
    [
      event.metric,
      event.user,
      event.value ?? 1,
      json(event.attributes) ?? "{}",
      event.key ?? "\\N",
      event.at ?? new Date().toISOString(),
    ].join("\t"),
  );
  await db.query(
    `copy laurel.metric_events (metric_key, user_id, value, attributes, idempotency_key, occurred_at)
     from program $program$cat <<'ROWS'\n${lines.join("\n")}\nROWS\n$program$`,
  );
}

/** A user's ledger in the order applied; of all systems, or of one. */
export async function ledger(db: Database, user: string, system?: { id: string }): Promise<LedgerRow[]> {
  const found = await db.query<LedgerRow>(
    `select * from laurel.points_awards
     where user_id = $1 and ($2::uuid is null or system_id = $2) and tenant_id = laurel.current_tenant_id()
     order by id`,
    [user, system?.id ?? null],
  );
  return found.rows;
}

/** "before +points after" of every ledger row: short enough to write the expected ones by hand. */
export async function steps(db: Database, user: string, system: { id: string }): Promise<string[]> {
  const rows = await ledger(db, user, system);
  return rows
    .toSorted((a, b) => Number(a.sequence) - Number(b.sequence))
    .map((row) => `${row.total_before} ${Number(row.points) > 0 ? "+" : ""}${row.points} ${row.total_after}`);
}

/** The user's points total as stored; null before the first ledger row. */
export async function total(db: Database, user: string, system: { id: string }): Promise<string | null> {
  const found = await db.query<{ total: string }>(
    `select total from laurel.points_balances
     where user_id = $1 and system_id = $2 and tenant_id = laurel.current_tenant_id()`,
    [user, system.id],
  );
  return found.rows[0]?.total ?? null;
}

/** The user's total and peak on a metric as stored, digits trimmed; null before the first event. */
export async function metricTotals(
  db: Database,
  user: string,
  metric: { id: string },
): Promise<{ total: string; peak: string } | null> {
  const found = await db.query<{ total: string; peak: string }>(
    `select trim_scale(total)::text as total, trim_scale(peak)::text as peak from laurel.user_metrics
     where user_id = $1 and metric_id = $2 and tenant_id = laurel.current_tenant_id()`,
    [user, metric.id],
  );
  return found.rows[0] ?? null;
}

/** What laurel.verify() reports. */
export async function verify(
  db: Database,
): Promise<{ invariant: string; user_id: string | null; subject: string; expected: string; actual: string }[]> {
  const found = await db.query<{
    invariant: string;
    user_id: string | null;
    subject: string;
    expected: string;
    actual: string;
  }>("select invariant, user_id, subject, expected, actual from laurel.verify()");
  return found.rows;
}

/** A refused call, as a caller sees it. */
export interface Refusal {
  readonly code: string | undefined;
  readonly message: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  readonly constraint: string | undefined;
  /** What of the request it is about; undefined when no one thing. */
  readonly field: string | undefined;
}

/**
 * Runs what must be refused, inside a savepoint, so that the transaction can go on and be looked at.
 * Fails when nothing was refused.
 */
export async function refusal(db: Database, work: () => Promise<unknown>): Promise<Refusal> {
  await db.query("savepoint refusal");
  try {
    await work();
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    await db.query("rollback to savepoint refusal");
    const { code, message, detail, hint, constraint, column } = error;
    return { code, message, detail, hint, constraint, field: column };
  }
  throw new Error("Nothing was refused");
}

/** Acts as this role for one piece of work of a transaction. */
export async function as<T>(
  db: Database,
  role: "laurel_admin" | "laurel_service" | "laurel_user",
  work: () => Promise<T>,
): Promise<T> {
  await db.query(`set local role ${role}`);
  const result = await work();
  await db.query("reset role");
  return result;
}

/** Acts for another tenant until the transaction ends or the next call. */
export async function actFor(db: Database, customerId: string): Promise<void> {
  await db.query("select set_config('laurel.tenant', $1, true)", [customerId]);
}

/** A value that must be there. */
export function first<T>(rows: readonly T[]): T {
  const row = rows[0];
  if (row === undefined) throw new Error("No row");
  return row;
}

function json(value: unknown): string | null | undefined {
  return value === undefined ? undefined : value === null ? null : JSON.stringify(value);
}

/** A way in: gives the events to the engine in the order given. */
export type WayIn = (db: Database, events: readonly EventInput[]) => Promise<unknown>;

/** The ways in that SQL callers have; every rule must hold for each of them. */
export const waysIn: readonly (readonly [string, WayIn])[] = [
  [
    "record_event()",
    async (db, events) => {
      for (const event of events) await record(db, event);
    },
  ],
  [
    "one INSERT per event",
    async (db, events) => {
      for (const event of events) await insertEvents(db, [event]);
    },
  ],
  ["one INSERT of many rows", insertEvents],
  ["COPY", copyEvents],
];
