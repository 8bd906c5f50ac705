import { jsonPgSmartTags } from "postgraphile/utils";

type SmartTags = Extract<Parameters<typeof jsonPgSmartTags>[0], { version: 1 }>;
type Tables = NonNullable<SmartTags["config"]["class"]>;
type Attributes = NonNullable<Tables[string]["attribute"]>;
type Constraints = NonNullable<Tables[string]["constraint"]>;

/** Columns that a short table's lists can be filtered and ordered by. */
const searchable = (...columns: readonly string[]): Attributes => withBehavior(columns, "+filterBy +orderBy");

/** The same for tables of any length: filtered only, since ordering by another column than the key reads all of it. */
const filterable = (...columns: readonly string[]): Attributes => withBehavior(columns, "+filterBy");

const withBehavior = (columns: readonly string[], behavior: string): Attributes =>
  Object.fromEntries(columns.map((column) => [column, { tags: { behavior } }]));

/** A foreign key's two fields: on the row that refers, and (when there is one) the list on the row referred to. */
const relation = (fieldName: string, listName: string | undefined): Constraints[string] => ({
  // Instead of the constraint's comment, which is what callers are told who break it.
  description: `The ${fieldName} this belongs to.`,
  tags: listName === undefined
    ? { fieldName, behavior: "-manyRelation:resource:connection" }
    : { fieldName, foreignFieldName: listName },
});

/** The same for tables whose foreign keys are left out on purpose (partitions, shared rows) and for views. */
const virtualForeignKey = (columns: string, target: string, fieldName: string, listName?: string): string =>
  `(${columns}) references laurel.${target}|@fieldName ${fieldName}|${
    listName === undefined ? "@behavior -manyRelation:resource:connection" : `@foreignFieldName ${listName}`}`;

/** Bookkeeping of the engine's own. */
const hidden = { tags: { behavior: "-*" } };

/** No create, update or delete: written by the engine alone, or through a function. */
const readOnly = "-resource:insert -resource:update -resource:delete";

const tables: Tables = {
  "laurel.tenants": { tags: { behavior: "-*" } },
  "laurel.attributes": { attribute: searchable("key", "type") },
  "laurel.metrics": { attribute: searchable("key", "archived_at") },
  "laurel.achievements": {
    attribute: searchable("key", "kind", "status"),
    constraint: { achievement_metric_is_of_the_same_tenant: relation("metric", undefined) },
  },
  "laurel.user_achievements": {
    tags: {
      behavior: readOnly,
      foreignKey: [
        virtualForeignKey("tenant_id, achievement_id", "achievements (tenant_id, id)", "achievement"),
      ],
    },
    attribute: filterable("user_id", "achievement_id"),
    constraint: { completion_is_of_a_user: relation("user", "achievements") },
  },
  "laurel.leaderboards": {
    attribute: { ...searchable("key", "rank_by", "status"), generation: hidden },
    constraint: {
      leaderboard_metric_is_of_the_same_tenant: relation("metric", "leaderboards"),
      leaderboard_system_is_of_the_same_tenant: relation("system", "leaderboards"),
    },
  },
  "laurel.leaderboard_entries": {
    tags: {
      behavior: readOnly,
      foreignKey: [virtualForeignKey("tenant_id, leaderboard_id", "leaderboards (tenant_id, id)", "leaderboard")],
    },
    attribute: {
      ...filterable("user_id", "leaderboard_id", "run_on"), group_id: hidden, reached_id: hidden,
      previous_reached_id: hidden, generation: hidden,
    },
    constraint: { entry_is_of_a_user: relation("user", "leaderboardEntries") },
  },
  "laurel.points_systems": { attribute: searchable("key", "archived_at") },
  "laurel.points_triggers": {
    attribute: { ...searchable("system_id", "metric_id", "type", "status"), version: hidden },
    constraint: {
      trigger_system_is_of_the_same_tenant: relation("system", "triggers"),
      trigger_metric_is_of_the_same_tenant: relation("metric", "pointsTriggers"),
      trigger_achievement_is_of_the_same_tenant: relation("achievement", "pointsTriggers"),
    },
  },
  "laurel.points_boosts": {
    attribute: searchable("system_id", "user_id", "starts_on", "archived_at"),
    constraint: {
      boost_system_is_of_the_same_tenant: relation("system", "boosts"),
      boost_user_exists: relation("user", "boosts"),
    },
  },
  "laurel.points_levels": {
    attribute: searchable("system_id", "key", "points"),
    constraint: { level_system_is_of_the_same_tenant: relation("system", "levels") },
  },
  "laurel.audit_entries": { tags: { behavior: readOnly }, attribute: searchable("kind", "object_id") },
  "laurel.users": {
    // Unique in what row-level security lets a caller see: one tenant.
    tags: { behavior: readOnly, unique: "id|@fieldName user" },
    attribute: { ...filterable("id", "attributes"), attributes_version: hidden },
  },
  "laurel.user_metrics": {
    tags: {
      behavior: readOnly,
      primaryKey: "tenant_id,user_id,metric_id",
      foreignKey: [
        virtualForeignKey("tenant_id, user_id", "users (tenant_id, id)", "user", "metrics"),
        virtualForeignKey("tenant_id, metric_id", "metrics (tenant_id, id)", "metric"),
      ],
    },
    attribute: {
      ...filterable("user_id", "metric_id"),
      // Of a view PostgreSQL does not know what is never null.
      metric_key: { tags: { behavior: "+filterBy", notNull: true } },
      total: { tags: { notNull: true } },
      peak: { tags: { notNull: true } },
      last_event_id: hidden,
    },
  },
  "laurel.metric_events": {
    tags: {
      behavior: readOnly,
      foreignKey: [
        virtualForeignKey("tenant_id, user_id", "users (tenant_id, id)", "user", "events"),
        virtualForeignKey("tenant_id, metric_id", "metrics (tenant_id, id)", "metric"),
      ],
    },
    attribute: filterable("id", "user_id"),
  },
  "laurel.points_awards": {
    tags: {
      behavior: readOnly,
      foreignKey: [
        virtualForeignKey("tenant_id, user_id", "users (tenant_id, id)", "user", "awards"),
        virtualForeignKey("tenant_id, system_id", "points_systems (tenant_id, id)", "system"),
        virtualForeignKey("trigger_id", "points_triggers (id)", "trigger"),
      ],
      unique: "id|@fieldName pointsAward",
    },
    attribute: filterable("id", "user_id", "system_id", "system_key", "sequence"),
  },
  "laurel.points_balances": {
    tags: {
      behavior: readOnly,
      primaryKey: "tenant_id,user_id,system_id",
      foreignKey: [
        virtualForeignKey("tenant_id, user_id", "users (tenant_id, id)", "user", "balances"),
        virtualForeignKey("tenant_id, system_id", "points_systems (tenant_id, id)", "system"),
      ],
    },
    attribute: {
      ...filterable("user_id", "system_id"),
      // Of a view PostgreSQL does not know what is never null.
      system_key: { tags: { behavior: "+filterBy", notNull: true } },
      total: { tags: { notNull: true } },
      last_sequence: { tags: { notNull: true } },
    },
  },
  // For BI tools, by SQL: GraphQL has the figures as functions.
  "laurel.points_by_day": { tags: { behavior: "-*" } },
  "laurel.webhook_endpoints": { attribute: searchable("is_active") },
  "laurel.webhook_messages": {
    tags: { behavior: readOnly, unique: "id|@fieldName webhookMessage" },
    attribute: filterable("id", "user_id", "event_type"),
    constraint: { webhook_message_is_about_a_user: relation("user", undefined) },
  },
  "laurel.webhook_deliveries": {
    tags: {
      behavior: readOnly,
      foreignKey: [virtualForeignKey("tenant_id, endpoint_id", "webhook_endpoints (tenant_id, id)", "endpoint", "deliveries")],
    },
    attribute: filterable("message_id", "endpoint_id", "user_id", "status"),
    constraint: { webhook_delivery_is_of_a_message: relation("message", "deliveries") },
  },
  "laurel.webhook_attempts": {
    tags: { behavior: readOnly },
    attribute: filterable("id", "message_id", "endpoint_id"),
    constraint: { webhook_attempt_is_of_a_delivery: relation("delivery", "attempts") },
  },
  // What triggers have counted explains awards to administrators through verify(); it is no reading matter.
  "laurel.points_trigger_counts": { tags: { behavior: "-*" } },
};

/** Tags by object of the database; kept out of its comments, which are the documentation callers read. */
export const SmartTagsPlugin: GraphileConfig.Plugin = jsonPgSmartTags(
  {
    version: 1,
    config: {
      class: tables,
      procedure: {
        "laurel.current_tenant_id": { tags: { behavior: "-*" } },
        "laurel.current_user_id": { tags: { behavior: "-*" } },
        // What the worker calls; services call it by SQL.
        "laurel.run_due_time_triggers": { tags: { behavior: "-*" } },
        // The same as userPoints.
        "laurel.user_points_as_text": { tags: { behavior: "-*" } },
        // Reads the whole database: for SQL and the command line.
        "laurel.verify": { tags: { behavior: "-*" } },
      },
    },
  },
  null,
  { name: "LaurelSmartTagsPlugin" },
);
