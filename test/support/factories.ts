import { escapeIdentifier, type Pool, type PoolClient } from "pg";

/** Whatever runs a query: a pool, or a client inside a transaction. */
export type Database = Pick<Pool | PoolClient, "query">;

export type Attributes = Readonly<Record<string, string>>;
export type Rounding = "down" | "nearest" | "up";
type Id = { id: string };
type Keyed = Id & { key: string };

/** The rows that tests are about, as they were stored. Numerics and bigints are strings. */
export type Attribute = Keyed & { type: "user" | "event" };
export type Metric = Keyed & { name: string };
export type System = Keyed & { name: string; max_points: number | null };
export type Trigger = Id & { system_id: string; points: number; status: string };
export type Boost = Id & { name: string; multiplier: string };
export type Level = Keyed & { points: number };
export type Achievement = Keyed & { kind: string; status: string };
export type User = Id & { tz: string | null; attributes: Attributes };

let made = 0;

/** A name that no other row of this file has. */
export function unique(prefix: string): string {
  made += 1;
  return `${prefix}_${made}`;
}

/** A second tenant; the first, "default", is always there. */
export async function aTenant(db: Database, customerId = unique("tenant")): Promise<string> {
  await insertRow(db, "tenants", { customer_id: customerId, name: "Another customer" });
  return customerId;
}

export async function anAttribute(
  db: Database,
  values: { key?: string; type?: "user" | "event"; name?: string } = {},
): Promise<Attribute> {
  const key = values.key ?? unique("attribute");
  return insertRow(db, "attributes", { type: "user", name: key, ...values, key });
}

export async function aMetric(
  db: Database,
  values: { key?: string; name?: string; unit_type?: "number" | "currency"; units?: string } = {},
): Promise<Metric> {
  return insertRow(db, "metrics", { key: unique("metric"), name: "Words written", ...values });
}

export async function aUser(
  db: Database,
  values: { id?: string; tz?: string | null; name?: string; email?: string; attributes?: Attributes } = {},
): Promise<User> {
  return insertRow(db, "users", { id: unique("user"), ...values });
}

export async function aSystem(
  db: Database,
  values: { key?: string; name?: string; max_points?: number | null } = {},
): Promise<System> {
  return insertRow(db, "points_systems", { key: unique("system"), name: "Experience", ...values });
}

/** Active unless said otherwise, and of a new metric for every 1 unless it names one. */
export async function aTrigger(
  db: Database,
  { system, metric, every, ...values }: {
    system: Id;
    /** Makes it a metric trigger: `points` for `every` so many of this metric. */
    metric?: Id;
    every?: number;
    type?: "metric" | "user_creation" | "streak" | "achievement" | "time";
    points?: number;
    status?: "active" | "inactive" | "archived";
    achievement_id?: string;
    user_attributes?: Attributes;
    event_attributes?: Attributes;
    block_if_out_of_points?: boolean;
    streak_length?: number;
    time_unit?: "hours" | "days";
    time_interval?: number;
  },
): Promise<Trigger> {
  const type = values.type ?? "metric";
  const subject =
    type === "metric" ? { metric_id: (metric ?? (await aMetric(db))).id, metric_threshold: every ?? 1 } : {};
  return insertRow(db, "points_triggers", {
    points: 1,
    status: "active",
    ...values,
    ...subject,
    type,
    system_id: system.id,
  });
}

/** Active unless said otherwise; of kind api unless it names a metric or prerequisites. */
export async function anAchievement(
  db: Database,
  { metric, prerequisites, ...values }: {
    key?: string;
    kind?: "metric" | "streak" | "api" | "achievement" | "anniversary";
    metric?: Id;
    metric_value?: number | string;
    prerequisites?: readonly Id[];
    streak_length?: number;
    years?: number;
    status?: "inactive" | "active" | "locked" | "archived";
    user_attributes?: Attributes;
    event_attributes?: Attributes;
  } = {},
): Promise<Achievement> {
  const key = values.key ?? unique("achievement");
  const kind = values.kind ?? (metric !== undefined ? "metric" : prerequisites !== undefined ? "achievement" : "api");
  return insertRow(db, "achievements", {
    status: "active",
    name: key,
    ...values,
    ...(metric === undefined ? {} : { metric_id: metric.id, metric_value: values.metric_value ?? 1 }),
    ...(prerequisites === undefined ? {} : { prerequisite_ids: prerequisites.map(({ id }) => id) }),
    key,
    kind,
  });
}

/** Live, global and started long ago unless said otherwise. */
export async function aBoost(
  db: Database,
  { system, ...values }: {
    system: Id;
    name?: string;
    multiplier?: string | number;
    rounding?: Rounding;
    starts_on?: string;
    ends_on?: string | null;
    user_id?: string;
    user_attributes?: Attributes;
    is_active?: boolean;
  },
): Promise<Boost> {
  return insertRow(db, "points_boosts", {
    name: unique("Boost"),
    multiplier: 2,
    starts_on: "2000-01-01",
    ...values,
    system_id: system.id,
  });
}

export async function aLevel(
  db: Database,
  { system, ...values }: { system: Id; key?: string; name?: string; points?: number },
): Promise<Level> {
  const key = values.key ?? unique("level");
  return insertRow(db, "points_levels", { points: 0, name: key, ...values, key, system_id: system.id });
}

/** Inserts what is given, leaves the rest to the table's defaults, returns the row. */
async function insertRow<Row>(db: Database, table: string, values: Record<string, unknown>): Promise<Row> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  const found = await db.query(
    `insert into laurel.${escapeIdentifier(table)} (${given.map(([name]) => escapeIdentifier(name)).join(", ")})
     values (${given.map((_, index) => `$${index + 1}`).join(", ")}) returning *`,
    given.map(([, value]) => value),
  );
  return found.rows[0] as Row;
}
