import type { z } from "zod";
import type {
  achievementAnswer, adminTenantAnswer, awardsAnswer, eventAnswer, levelSummaryAnswer, pointsSummaryAnswer,
  userAchievementsAnswer, userAnswer, userPointsAnswer,
} from "../rest/answers.ts";
import type { Filter } from "./sentences.ts";

/** What the APIs answer. REST's shapes are the server's own, taken as types alone; GraphQL's follow documents.ts. */

export type User = z.output<typeof userAnswer>;
export type UserPoints = z.output<typeof userPointsAnswer>;
export type UserAwards = z.output<typeof awardsAnswer>;
export type EventAnswer = z.output<typeof eventAnswer>;
export type PointsSummary = z.output<typeof pointsSummaryAnswer>;
export type LevelSummary = z.output<typeof levelSummaryAnswer>;
export type AchievementFigures = z.output<typeof achievementAnswer>;
export type UserAchievements = z.output<typeof userAchievementsAnswer>;
export type Tenant = z.output<typeof adminTenantAnswer>;

export interface Nodes<T> {
  readonly nodes: readonly T[];
}

/** What may be edited: `updatedAt` is its version. */
interface Versioned {
  readonly updatedAt: string;
}

export interface TriggerRow extends Versioned {
  readonly id: string;
  readonly type: "metric" | "achievement" | "streak" | "time" | "user_creation";
  readonly status: "active" | "inactive";
  readonly points: number;
  readonly metricThreshold: number | null;
  readonly streakLength: number | null;
  readonly timeUnit: "hours" | "days" | null;
  readonly timeInterval: number | null;
  readonly blockIfOutOfPoints: boolean;
  readonly userAttributes: Filter;
  readonly eventAttributes: Filter;
  readonly metricId: string | null;
  readonly achievementId: string | null;
  readonly metric: { readonly key: string; readonly name: string; readonly units: string } | null;
  readonly achievement: { readonly name: string } | null;
}

export interface BoostRow extends Versioned {
  readonly id: string;
  readonly name: string;
  readonly isActive: boolean;
  readonly multiplier: string;
  readonly rounding: "down" | "up" | "nearest";
  readonly startsOn: string;
  readonly endsOn: string | null;
  readonly userId: string | null;
  readonly userAttributes: Filter;
}

export interface LevelRow extends Versioned {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly description: string;
  readonly badgeUrl: string | null;
  readonly points: number;
}

export interface SystemRow {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly description: string | null;
  readonly maxPoints: number | null;
  readonly triggers: Nodes<{ readonly status: string }>;
  readonly boosts: Nodes<{ readonly isActive: boolean }>;
  readonly levels: Nodes<{ readonly key: string }>;
}

export interface System extends Omit<SystemRow, "triggers" | "boosts" | "levels">, Versioned {
  readonly badgeUrl: string | null;
  readonly triggers: Nodes<TriggerRow>;
  readonly boosts: Nodes<BoostRow>;
  readonly levels: Nodes<LevelRow>;
}

export interface MetricRow extends Versioned {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly unitType: "number" | "currency";
  readonly units: string;
  readonly pointsTriggers: Nodes<{ readonly status: string; readonly system: { readonly key: string; readonly name: string } | null }>;
}

export interface AttributeRow extends Versioned {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly type: "user" | "event";
}

export interface AchievementRow extends Versioned {
  readonly id: string;
  readonly key: string | null;
  readonly name: string;
  readonly description: string | null;
  readonly badgeUrl: string | null;
  readonly kind: "metric" | "streak" | "api" | "achievement" | "anniversary";
  readonly status: "active" | "inactive" | "locked" | "archived";
  readonly metricId: string | null;
  readonly metricValue: string | null;
  readonly streakLength: number | null;
  readonly years: number | null;
  readonly prerequisiteIds: readonly string[];
  readonly userAttributes: Filter;
  readonly eventAttributes: Filter;
  readonly metric: { readonly key: string; readonly name: string; readonly units: string } | null;
}

export interface Balance {
  readonly systemKey: string;
  readonly total: string;
  readonly level: string | null;
}

export interface UserRow {
  readonly id: string;
  readonly name: string | null;
  readonly email: string | null;
  readonly tz: string | null;
  readonly attributes: Filter;
  readonly createdAt: string;
  readonly balances: Nodes<Balance>;
}

export interface UserActivity {
  readonly events: Nodes<{
    readonly id: string; readonly metricKey: string; readonly value: string; readonly attributes: Filter;
    readonly occurredAt: string; readonly idempotencyKey: string | null;
  }>;
  readonly metrics: Nodes<{
    readonly metricKey: string; readonly total: string; readonly peak: string;
    readonly metric: { readonly name: string; readonly units: string } | null;
  }>;
  readonly balances: Nodes<Balance & { readonly lastSequence: string }>;
}

export interface ApiKeyRow {
  readonly id: string;
  readonly prefix: string;
  readonly name: string;
  readonly created: string;
  readonly lastUsed: string | null;
  readonly userId?: string;
}

export interface AuditRow {
  readonly id: string;
  readonly date: string;
  readonly actor: string;
  readonly operation: "create" | "update" | "archive" | "delete";
  readonly kind: string;
  readonly objectId: string;
  readonly objectKey: string | null;
  readonly before: Readonly<Record<string, unknown>> | null;
  readonly after: Readonly<Record<string, unknown>> | null;
}
