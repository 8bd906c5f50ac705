import { first } from "./engine.ts";
import type { Database } from "./factories.ts";

/** Every type of webhook message. */
export const webhookTypes = [
  "points.changed", "points.level_changed", "points.boost_started", "points.boost_finished", "achievement.completed",
  "streak.started", "streak.extended", "streak.lost", "streak.freeze_consumed", "streak.freeze_earned",
  "leaderboard.started", "leaderboard.changed", "leaderboard.finished", "leaderboard.rank_changed",
] as const;
export type WebhookType = (typeof webhookTypes)[number];

/** An endpoint as stored. */
export interface Endpoint {
  readonly id: string;
  readonly url: string;
  readonly is_active: boolean;
  readonly disabled_reason: string | null;
}

/** Subscribes to everything unless said otherwise. */
export async function anEndpoint(
  db: Database,
  values: { url?: string; types?: readonly string[]; is_active?: boolean; max_concurrency?: number } = {},
): Promise<Endpoint> {
  const found = await db.query<Endpoint>(
    `insert into laurel.webhook_endpoints (url, event_types, is_active, max_concurrency) values ($1, $2, $3, $4) returning *`,
    [values.url ?? "https://example.com/hook", values.types ?? webhookTypes, values.is_active ?? true, values.max_concurrency ?? 10],
  );
  return first(found.rows);
}

/** A message as stored. */
export interface Message {
  readonly id: string;
  readonly user_id: string | null;
  readonly event_type: string;
  readonly payload: Readonly<Record<string, unknown>> & { readonly points?: Readonly<Record<string, unknown>> };
}

/** All messages of the session's tenant in the order written, of one type when it is given. */
export async function messages(db: Database, type?: WebhookType): Promise<Message[]> {
  const found = await db.query<Message>(
    `select id, user_id, event_type, payload from laurel.webhook_messages
     where tenant_id = laurel.current_tenant_id() and ($1::text is null or event_type = $1) order by id`,
    [type ?? null],
  );
  return found.rows;
}
