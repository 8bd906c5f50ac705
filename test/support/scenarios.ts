import type { Database } from "./factories.ts";

/** What previews and backtests say of some users. */
export interface RehearsalFigures {
  readonly totals: readonly { day: number; date: string; p10: number; p50: number; p90: number }[];
  readonly byTrigger: readonly {
    trigger: { id?: string; draft?: number; type: string; points: number };
    firings: number;
    awarded: number;
  }[];
  readonly levels: readonly { key: string; share: number; medianDay: number | null }[];
  readonly lost: { rounding: number; cap: number; floor: number };
}

export interface Preview {
  readonly days: number;
  readonly start: string;
  readonly seed: number;
  readonly kinds: readonly (RehearsalFigures & {
    name: string;
    users: number;
    simulatedUsers: number;
    events: number;
    refusedEvents: number;
  })[];
}

export interface ScenarioKind {
  readonly name: string;
  readonly users: number;
  readonly tz?: string | null;
  readonly attributes?: Readonly<Record<string, string>> | null;
  readonly activeDays?: number | readonly number[] | null;
  readonly events: readonly {
    metric: string;
    perDay: number | readonly [number, number];
    value?: number | null;
    attributes?: Readonly<Record<string, string>> | null;
  }[];
  readonly achievements?: readonly { key: string; day: number }[] | null;
}

export interface Scenario {
  readonly days: number;
  readonly start?: string | null;
  readonly seed?: number | null;
  readonly kinds: readonly ScenarioKind[];
  readonly draft?: Readonly<Record<string, unknown>> | null;
}

/** Calls laurel.preview_points(). */
export async function preview(db: Database, systemKey: string, scenario: unknown): Promise<Preview> {
  const found = await db.query<{ answer: Preview }>("select laurel.preview_points($1, $2::jsonb) as answer", [
    systemKey,
    JSON.stringify(scenario),
  ]);
  const [row] = found.rows;
  if (row === undefined) throw new Error("no row");
  return row.answer;
}

/** The value that at least this share of the sorted values does not exceed, as percentile_disc() has it. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)] ?? Number.NaN;
}

/** How many rows every table and sequence of Laurel's holds, by name, as this connection sees them. */
export async function countAll(db: Database): Promise<Record<string, string>> {
  const names = await db.query<{ name: string; kind: string }>(
    `select c.oid::regclass::text as name, c.relkind as kind from pg_class c
     where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace) and c.relkind in ('r', 'p', 'S')`,
  );
  const counts: Record<string, string> = {};
  for (const { name, kind } of names.rows) {
    const found = await db.query<{ n: string }>(kind === "S" ? `select last_value as n from ${name}` : `select count(*) as n from ${name}`);
    counts[name] = found.rows[0]?.n ?? "";
  }
  return counts;
}

export interface Backtest {
  readonly from: string;
  readonly to: string;
  readonly users: number;
  readonly events: number;
  readonly current: RehearsalFigures & { refusedEvents: number };
  readonly draft: RehearsalFigures & { refusedEvents: number };
}

/** Calls laurel.backtest_points(). */
export async function backtest(db: Database, systemKey: string, request: unknown): Promise<Backtest> {
  const found = await db.query<{ answer: Backtest }>("select laurel.backtest_points($1, $2::jsonb) as answer", [
    systemKey,
    JSON.stringify(request),
  ]);
  const [row] = found.rows;
  if (row === undefined) throw new Error("no row");
  return row.answer;
}
