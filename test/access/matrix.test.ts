import { describe, expect, test } from "@jest/globals";
import { withRollback } from "../support/database.ts";

/** Everybody who is not the owner: the roles of rule Q9, the weak login, and PostgreSQL's "everybody". */
const roles = ["laurel_admin", "laurel_service", "laurel_user", "laurel_server", "public"] as const;

/** What admin, service and user may do: r(ead), i(nsert), u(pdate), d(elete). The weak login and public: nothing. */
type Privileges = readonly [admin: string, service: string, user: string];
const nothing: Privileges = ["", "", ""];
const everyoneReads: Privileges = ["r", "r", "r"];

/**
 * Every table and view. Which rows a privilege reaches is row-level security's matter, below. A new table belongs in
 * here before it belongs anywhere else.
 */
const tables: Readonly<Record<string, Privileges>> = {
  "laurel.achievements": ["riu", "r", "r"],
  "laurel.attributes": ["riud", "r", "r"],
  "laurel.audit_entries": ["r", "", ""],
  "laurel.leaderboard_entries": everyoneReads,
  "laurel.leaderboards": ["riu", "r", "r"],
  "laurel.metric_events": ["ri", "ri", "r"],
  "laurel.metrics": ["riu", "r", "r"],
  "laurel.points_awards": everyoneReads,
  "laurel.points_balances": everyoneReads,
  "laurel.points_boosts": ["riu", "r", "r"],
  "laurel.points_by_day": ["r", "", ""],
  "laurel.points_levels": ["riud", "r", "r"],
  "laurel.points_systems": ["riu", "r", "r"],
  "laurel.points_trigger_counts": everyoneReads,
  "laurel.points_triggers": ["riu", "r", "r"],
  "laurel.tenants": everyoneReads,
  "laurel.user_achievements": everyoneReads,
  "laurel.user_metrics": everyoneReads,
  "laurel.users": everyoneReads,
  "laurel.webhook_attempts": ["r", "", ""],
  "laurel.webhook_deliveries": ["r", "", ""],
  "laurel.webhook_endpoints": ["riud", "", ""],
  "laurel.webhook_messages": ["r", "", ""],
  "laurel_private.achievement_backfills": nothing,
  "laurel_private.achievement_counts": nothing,
  "laurel_private.api_keys": nothing,
  "laurel_private.boost_announcements": nothing,
  "laurel_private.boost_windows": nothing,
  "laurel_private.constraint_sentences": ["r", "", ""],
  "laurel_private.earning_buckets": nothing,
  "laurel_private.earnings_fold": nothing,
  "laurel_private.award_figures": nothing,
  "laurel_private.earning_figures": nothing,
  "laurel_private.erased_points": nothing,
  "laurel_private.expected_earning_buckets": nothing,
  "laurel_private.expected_points_days": nothing,
  "laurel_private.expected_points_totals": nothing,
  "laurel_private.expected_top_earners": nothing,
  "laurel_private.expected_user_earnings": nothing,
  "laurel_private.expected_user_points_days": nothing,
  "laurel_private.expected_user_points_years": nothing,
  "laurel_private.folded_figures": nothing,
  "laurel_private.idempotency_keys": nothing,
  "laurel_private.leaderboard_backfills": nothing,
  "laurel_private.leaderboard_days": nothing,
  "laurel_private.leaderboard_marks": nothing,
  "laurel_private.leaderboard_moves": nothing,
  "laurel_private.leaderboard_runs": nothing,
  "laurel_private.metric_event_log": nothing,
  // Read by the view laurel.points_by_day in its caller's name.
  "laurel_private.points_days": ["r", "", ""],
  "laurel_private.points_changed_windows": nothing,
  "laurel_private.points_ranges": nothing,
  "laurel_private.range_days": nothing,
  "laurel_private.points_rules": nothing,
  "laurel_private.points_totals": nothing,
  "laurel_private.shown_systems": nothing,
  "laurel_private.queued_events": nothing,
  "laurel_private.sandboxes": nothing,
  "laurel_private.streak_freezes": nothing,
  "laurel_private.streak_pauses": nothing,
  "laurel_private.streak_periods": nothing,
  "laurel_private.streak_progress": nothing,
  "laurel_private.streak_runs": nothing,
  "laurel_private.streak_settings": nothing,
  "laurel_private.user_streaks": nothing,
  // Read by the views laurel.user_metrics and laurel.points_balances in their caller's name, and unreachable by its own.
  "laurel_private.user_states": everyoneReads,
  "laurel_private.standing_periods": nothing,
  "laurel_private.standings": nothing,
  "laurel_private.last_erasures": nothing,
  "laurel_private.time_trigger_spans": nothing,
  "laurel_private.top_earners": nothing,
  "laurel_private.user_count_changes": nothing,
  "laurel_private.user_counts": nothing,
  "laurel_private.environments": ["r", "", ""],
  "laurel_private.settings": ["riu", "", ""],
  "laurel_private.time_zone_changes": nothing,
  "laurel_private.time_zones": nothing,
  "laurel_private.segments": nothing,
  "laurel_private.user_earnings": nothing,
  "laurel_private.user_points_days": nothing,
  "laurel_private.user_points_years": nothing,
  "laurel_private.user_segments": nothing,
  "laurel_private.webhook_leases": nothing,
  "laurel_private.webhook_secrets": nothing,
  "laurel_private.user_clocks": nothing,
};
/** Partitions hold rows that only their parent guards: nobody reaches them directly. */
const isPartition = (table: string): boolean =>
  /^laurel_private\.(metric_events|points_awards)_(default|\d{4}_\d{2})$/.test(table);

/** The columns an administrator sets, or names the version by (updated_at); all others the database sets itself. */
const writableColumns: Readonly<Record<string, { readonly insert: string; readonly update: string }>> = {
  "laurel.achievements": {
    insert: "badge_url description event_attributes key kind metric_id metric_value name prerequisite_ids status streak_length user_attributes years",
    update: "badge_url description event_attributes key kind metric_id metric_value name prerequisite_ids status streak_length updated_at user_attributes years",
  },
  "laurel.attributes": { insert: "key name type", update: "name updated_at" },
  "laurel.leaderboards": {
    insert:
      "breakdown_attributes description end_time ends_on key max_participants metric_id name rank_by run_interval run_unit start_time starts_on status system_id",
    update:
      "breakdown_attributes description end_time ends_on key max_participants metric_id name rank_by run_interval run_unit start_time starts_on status system_id updated_at",
  },
  "laurel.metric_events": { insert: "attributes idempotency_key metric_key occurred_at user_id value", update: "" },
  "laurel.metrics": { insert: "key name unit_type units", update: "archived_at name unit_type units updated_at" },
  "laurel.points_boosts": {
    insert: "ends_on is_active multiplier name rounding starts_on system_id user_attributes user_id",
    update: "archived_at ends_on is_active multiplier name rounding starts_on updated_at user_attributes",
  },
  "laurel.points_levels": {
    insert: "badge_url description key name points system_id",
    update: "badge_url description name points updated_at",
  },
  "laurel.points_systems": {
    insert: "badge_url description key max_points name",
    update: "archived_at badge_url description max_points name updated_at",
  },
  "laurel_private.settings": {
    insert: "app_name",
    update: "aggregation_period app_icon_url app_name app_url brand_color control_ratio font logo_url user_activation_days",
  },
  "laurel.points_triggers": {
    insert:
      "achievement_id block_if_out_of_points event_attributes metric_id metric_threshold points status streak_length system_id time_interval time_unit type user_attributes",
    update:
      "achievement_id block_if_out_of_points event_attributes metric_id metric_threshold points status streak_length time_interval time_unit type updated_at user_attributes",
  },
  "laurel.webhook_endpoints": {
    insert: "description event_types is_active max_concurrency url",
    update: "description event_types is_active max_concurrency updated_at url",
  },
};

/** Every function of the contract, and who may call it. */
const contract: Readonly<Record<string, string>> = {
  adjust_points: "admin service",
  backtest_points: "admin",
  balance_as_of: "admin service user",
  complete_achievement: "admin service user",
  current_tenant_id: "admin service user",
  current_user_id: "admin service user",
  describe_achievements: "admin service user",
  describe_leaderboards: "admin service user",
  describe_points_boosts: "admin service user",
  describe_points_levels: "admin service user",
  describe_points_system: "admin service user",
  erase_user: "admin",
  estimate_points: "admin",
  explain_award: "admin service user",
  export_user: "admin",
  find_users: "admin service",
  identify_user: "admin service user",
  latest_events: "admin service",
  leaderboard_rankings: "admin service user",
  list_streaks: "admin service user",
  metric_event_summary: "admin service user",
  points_breakdown: "admin",
  points_by_users: "admin",
  points_earned: "admin",
  points_event_summary: "admin service user",
  points_in_first_days: "admin",
  points_insights: "admin",
  points_level_summary: "admin service user",
  points_summary: "admin service user",
  preview_points: "admin",
  record_event: "admin service user",
  replay_webhook_endpoint: "admin",
  replay_webhook_message: "admin",
  send_test_webhook: "admin",
  run_due_time_triggers: "service",
  streak_rankings: "admin service user",
  streak_settings: "admin service user",
  update_streak_settings: "admin",
  update_user: "admin service user",
  update_user_preferences: "admin service user",
  user_achievement_list: "admin service user",
  user_awards: "admin service user",
  user_leaderboard: "admin service user",
  user_metric_total: "admin service user",
  user_metric_totals: "admin service user",
  user_points: "admin service user",
  user_points_as_text: "admin service user",
  user_points_boosts: "admin service user",
  user_preferences: "admin service user",
  user_streak: "admin service user",
  user_profile: "admin service user",
  user_wrapped: "admin service user",
  verify: "admin",
};

/** The few helpers that callers run in their own name; every other function of laurel_private is the owner's alone. */
const sharedHelpers: Readonly<Record<string, string>> = {
  uuid_v7: "admin service",
  quick_uuid_v7: "admin service",
  level_for_points: "admin service user",
};
/**
 * What the admin API runs, in its caller's name (no definers): whatever these do, the grants on tables above and
 * row-level security still hold.
 */
const adminHelpers = new Set([
  "admin_leaderboard", "attribute_keys", "create_leaderboard", "delete_leaderboard", "final_after", "final_at", "nth_run", "rule_of", "run_at", "run_end", "run_number",
  "run_of", "shown_status", "stored_status", "update_leaderboard",
  "admin_achievement", "admin_attribute", "admin_issue", "admin_metric", "admin_points_boost", "admin_points_level", "admin_points_system",
  "admin_points_trigger", "badge_as_json", "boost_status", "change_configuration", "change_items", "create_achievement", "create_adjustment", "create_attribute", "create_metric",
  "create_points_boost", "create_points_level", "create_points_parts", "create_points_system", "create_points_trigger",
  "delete_achievement", "delete_attribute", "delete_configuration", "delete_metric", "delete_points_boost", "delete_points_level",
  "delete_points_system", "delete_points_trigger", "error_catalogue", "fail", "filter_from_pairs", "get_configuration",
  "list_audit_log", "list_configuration", "list_environments", "settings_as_json", "update_settings", "pairs_from_filter", "read_configuration", "require_points_system", "sentence_for_error", "field_for_error", "constrained_column",
  "ids_from_json", "admin_webhook", "create_webhook", "delete_webhook", "list_webhook_deliveries", "require_webhook", "rotate_webhook_secret",
  "texts_from_json", "update_webhook", "update_achievement", "update_attribute", "update_metric", "update_points_boost", "update_points_level", "update_points_system",
  "points_system_key", "update_points_trigger", "write_configuration", "instant_as_text",
]);
/** What the admin API runs as the owner, since it reaches the account or what no role may touch; each keeps to the tenant itself. */
const adminDefiners = new Set([
  "change_streaks", "delete_pauses", "create_api_key", "create_tenant", "delete_api_key", "delete_tenant", "enqueue_events", "list_api_keys", "list_tenants", "load_events",
  "points_watermark", "read_queued_events", "replace_webhook_secret", "update_tenant",
]);

const query = async <Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> =>
  withRollback(async (client) => {
    // Names are shown in full whatever the search path of the caller.
    await client.query("set local search_path = pg_catalog");
    return (await client.query<Row>(text, values)).rows;
  });

describe("privileges on tables", () => {
  test("are the ones of the matrix, and every table is in it", async () => {
    const found = await query<{ table_name: string; role: string; privileges: string }>(
      `select c.oid::regclass::text as table_name, r.role,
         concat(
           case when has_table_privilege(r.role, c.oid, 'select') or has_any_column_privilege(r.role, c.oid, 'select') then 'r' end,
           case when has_table_privilege(r.role, c.oid, 'insert') or has_any_column_privilege(r.role, c.oid, 'insert') then 'i' end,
           case when has_table_privilege(r.role, c.oid, 'update') or has_any_column_privilege(r.role, c.oid, 'update') then 'u' end,
           case when has_table_privilege(r.role, c.oid, 'delete') then 'd' end,
           case when has_table_privilege(r.role, c.oid, 'truncate') then 't' end,
           case when has_table_privilege(r.role, c.oid, 'references') then 'f' end,
           case when has_table_privilege(r.role, c.oid, 'trigger') then 'g' end) as privileges
       from pg_class c cross join unnest($1::text[]) r (role)
       where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace)
         and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')`,
      [roles],
    );
    const actual: Record<string, Record<string, string>> = {};
    const expected: Record<string, Record<string, string>> = {};
    for (const { table_name, role, privileges } of found) {
      (actual[table_name] ??= {})[role] = privileges;
      const [admin, service, user] = isPartition(table_name) ? nothing : (tables[table_name] ?? ["?", "?", "?"]);
      expected[table_name] = { laurel_admin: admin, laurel_service: service, laurel_user: user, laurel_server: "", public: "" };
    }
    expect(actual).toEqual(expected);
    expect(Object.keys(actual)).toEqual(expect.arrayContaining(Object.keys(tables)));
  });

  test("reach only the columns that callers set", async () => {
    const found = await query<{ table_name: string; role: string; insert: string; update: string }>(
      `select c.oid::regclass::text as table_name, r.role,
         coalesce(string_agg(a.attname, ' ' order by a.attname)
           filter (where has_column_privilege(r.role, c.oid, a.attnum, 'insert')), '') as insert,
         coalesce(string_agg(a.attname, ' ' order by a.attname)
           filter (where has_column_privilege(r.role, c.oid, a.attnum, 'update')), '') as update
       from pg_class c
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       cross join unnest($1::text[]) r (role)
       where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace) and c.relkind in ('r', 'p', 'v')
       group by 1, 2
       having bool_or(has_column_privilege(r.role, c.oid, a.attnum, 'insert')
         or has_column_privilege(r.role, c.oid, a.attnum, 'update'))`,
      [roles],
    );
    const byRole = (role: string): object =>
      Object.fromEntries(
        found.filter((row) => row.role === role).map(({ table_name, insert, update }) => [table_name, { insert, update }]),
      );
    expect(byRole("laurel_admin")).toEqual(writableColumns);
    expect(byRole("laurel_service")).toEqual({ "laurel.metric_events": writableColumns["laurel.metric_events"] });
    expect(found.filter(({ role }) => !["laurel_admin", "laurel_service"].includes(role))).toEqual([]);
  });
});

describe("schemas", () => {
  test("are open to those who have something in them", async () => {
    const found = await query<{ schema: string; role: string; usage: boolean; create: boolean }>(
      `select n.nspname as schema, r.role, has_schema_privilege(r.role, n.oid, 'usage') as usage,
         has_schema_privilege(r.role, n.oid, 'create') as create
       from pg_namespace n cross join unnest($1::text[]) r (role) where n.nspname in ('laurel', 'laurel_private')`,
      [roles],
    );
    expect(found.filter(({ create }) => create)).toEqual([]);
    const open = found.filter(({ usage }) => usage).map(({ schema, role }) => `${schema} ${role}`);
    expect(open.sort()).toEqual([
      "laurel laurel_admin", "laurel laurel_service", "laurel laurel_user", "laurel_private laurel_admin",
    ]);
  });
});

describe("functions", () => {
  test("can be run by those in the lists, and by nobody else", async () => {
    const found = await query<{ schema: string; name: string; runners: string }>(
      `select n.nspname as schema, p.proname as name,
         coalesce(string_agg(distinct replace(r.role, 'laurel_', ''), ' ' order by replace(r.role, 'laurel_', ''))
           filter (where has_function_privilege(r.role, p.oid, 'execute')), '') as runners
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join unnest($1::text[]) r (role)
       where n.nspname in ('laurel', 'laurel_private') group by p.oid, 1, 2`,
      [roles],
    );
    const expected = found.map(({ schema, name }) => ({
      schema,
      name,
      runners:
        schema === "laurel" ? (contract[name] ?? "?") : adminHelpers.has(name) || adminDefiners.has(name) ? "admin" : (sharedHelpers[name] ?? ""),
    }));
    expect(found).toEqual(expected);
    const names = found.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...Object.keys(contract), ...Object.keys(sharedHelpers), ...adminHelpers, ...adminDefiners]));
  });

  test("that run as their definer have a pinned search path, and of the admin API's only those that must run so", async () => {
    const found = await query<{ name: string; config: string[] | null; is_shared: boolean }>(
      `select p.proname as name, p.proconfig as config,
         p.pronamespace = 'laurel_private'::regnamespace
           and has_function_privilege('laurel_admin', p.oid, 'execute') as is_shared
       from pg_proc p
       where p.prosecdef and p.pronamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace)`,
    );
    expect(found.length).toBeGreaterThan(10);
    expect(found.filter(({ config }) => config?.includes("search_path=pg_catalog, pg_temp") !== true)).toEqual([]);
    expect(new Set(found.filter(({ is_shared }) => is_shared).map(({ name }) => name))).toEqual(adminDefiners);
  });
});

describe("row-level security", () => {
  test("is on for every table and partition", async () => {
    const found = await query(
      `select c.oid::regclass::text as table_name from pg_class c
       where c.relnamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace)
         and c.relkind in ('r', 'p', 'f') and not c.relrowsecurity`,
    );
    expect(found).toEqual([]);
  });

  test("is on for partitions made later", async () => {
    const found = await withRollback(async (client) => {
      await client.query("select laurel_private.maintain_partitions(now() + interval '3 years')");
      return client.query<{ partitions: string; unguarded: string }>(
        `select count(*) as partitions, count(*) filter (where not c.relrowsecurity) as unguarded
         from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where c.relnamespace = 'laurel_private'::regnamespace and c.relkind in ('r', 'p')`,
      );
    });
    expect(Number(found.rows[0]?.partitions)).toBeGreaterThan(10);
    expect(found.rows[0]?.unguarded).toBe("0");
  });

  test("names a role in every policy, and guards what can be read by it", async () => {
    const forEverybody = await query(
      "select p.polname, p.polrelid::regclass::text from pg_policy p where 0::oid = any (p.polroles)",
    );
    expect(forEverybody).toEqual([]);
    const unguarded = await query(
      `select p.polname, p.polrelid::regclass::text from pg_policy p
       where coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), '')
         not like '%current_tenant_id()%'`,
    );
    expect(unguarded).toEqual([]);
  });

  test("is not passed by through a view", async () => {
    const found = await query(
      `select c.oid::regclass::text as view_name from pg_class c
       where c.relnamespace = 'laurel'::regnamespace and c.relkind = 'v'
         and not coalesce(c.reloptions @> array['security_invoker=true'], false)`,
    );
    expect(found).toEqual([]);
  });

  test("is passed by by no role", async () => {
    const found = await query(
      "select rolname from pg_roles where rolname = any ($1) and (rolbypassrls or rolsuper or rolcreaterole or rolcreatedb or rolinherit)",
      [roles],
    );
    expect(found).toEqual([]);
  });
});

describe("foreign keys", () => {
  test("have an index on the referring side, and include the tenant", async () => {
    const unindexed = await query(
      `select k.conrelid::regclass::text as table_name, k.conname
       from pg_constraint k
       where k.contype = 'f' and k.connamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace)
         and not exists (
           select from pg_index i
           where i.indrelid = k.conrelid and i.indisvalid
             and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
             -- An index that leaves out only rows without a reference serves as well.
             and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$'))`,
    );
    expect(unindexed).toEqual([]);
    const tenantless = await query(
      `select k.conrelid::regclass::text as table_name, k.conname
       from pg_constraint k
       where k.contype = 'f' and k.connamespace in ('laurel'::regnamespace, 'laurel_private'::regnamespace)
         and not exists (
           select from pg_attribute a
           where a.attrelid = k.conrelid and a.attnum = any (k.conkey) and a.attname = 'tenant_id')`,
    );
    expect(tenantless).toEqual([]);
  });
});

describe("comments", () => {
  test("are on every table, view, function, type and domain that callers see", async () => {
    const found = await query(
      `select 'table' as kind, c.oid::regclass::text as name from pg_class c
       where c.relnamespace = 'laurel'::regnamespace and c.relkind in ('r', 'p', 'v')
         and obj_description(c.oid, 'pg_class') is null
       union all
       select 'function', p.oid::regprocedure::text from pg_proc p
       where p.pronamespace = 'laurel'::regnamespace and obj_description(p.oid, 'pg_proc') is null
       union all
       select 'type', t.oid::regtype::text from pg_type t
       where t.typnamespace = 'laurel'::regnamespace and t.typtype in ('d', 'e') and obj_description(t.oid, 'pg_type') is null
       union all
       select 'schema', n.nspname from pg_namespace n
       where n.nspname = 'laurel' and obj_description(n.oid, 'pg_namespace') is null`,
    );
    expect(found).toEqual([]);
  });

  test("say what null means, on every column that may hold it", async () => {
    const found = await query(
      `select c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
       where c.relnamespace = 'laurel'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
         and not a.attnotnull and coalesce(col_description(c.oid, a.attnum), '') !~* '\\mnull\\M'`,
    );
    expect(found).toEqual([]);
  });

  test("are sentences for callers, on every constraint that what they write can break", async () => {
    const found = await query(
      `select k.conrelid::regclass::text as table_name, k.conname
       from pg_constraint k
       where k.connamespace = 'laurel'::regnamespace and k.contype in ('c', 'u', 'f')
         and has_any_column_privilege('laurel_admin', k.conrelid, 'insert')
         and k.conrelid <> 'laurel.metric_events'::regclass
         -- The tenant is not theirs to write.
         and k.conkey <> (select array[a.attnum] from pg_attribute a where a.attrelid = k.conrelid and a.attname = 'tenant_id')
         and k.conname not like '%\\_are\\_referred\\_to\\_within\\_their\\_tenant'
         and coalesce(obj_description(k.oid, 'pg_constraint'), '') not like '%.'`,
    );
    expect(found).toEqual([]);
  });
});
