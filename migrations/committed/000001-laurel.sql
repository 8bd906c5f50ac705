--! Previous: -
--! Hash: sha1:d94f44bf7a1d1aab46c7f24d9e533d73d21ea359
--! Message: laurel

-- Laurel's database as it is today, built from empty, in order. Each object is in one file.

--! Included ground/schemas.sql
-- The two schemas. `laurel` is the contract: what callers may see. `laurel_private` is the
-- implementation. The cluster-wide roles are created before migrating (src/postgres/roles.ts).

create schema laurel;
create schema laurel_private;

comment on schema laurel is 'The points engine: users, metrics, events, points and their ledger.';

grant usage on schema laurel to laurel_admin, laurel_service, laurel_user;
revoke all on schema laurel_private from public;

-- Nothing is executable or readable until its own file grants it.
alter default privileges in schema laurel revoke execute on functions from public;
alter default privileges in schema laurel_private revoke execute on functions from public;
alter default privileges revoke execute on functions from public;
--! EndIncluded ground/schemas.sql
--! Included ground/errors.sql
-- Errors: the one catalogue of Laurel's own SQLSTATEs (class LR). Raised by SQL through
-- laurel_private.fail(), mapped to HTTP by src/postgres/errors.ts, listed in the README; a test
-- compares the three. Callers branch on the code, never on the text.

create function laurel_private.error_catalogue()
  returns table (code text, http_status int, name text, message text, hint text)
  language sql immutable as $$
  values
    ('LR001', 404, 'unknown_tenant', 'No tenant has the customer ID %s.',
      'Create the tenant first, or leave the tenant out to use the default one.'),
    ('LR002', 404, 'unknown_user', 'No user has the ID %s.',
      'Identify the user first: POST /v1/users, or laurel.identify_user().'),
    ('LR003', 404, 'unknown_metric', 'No metric has the key %s.',
      'Create the metric, or check the spelling of its key.'),
    ('LR004', 404, 'unknown_points_system', 'No points system has the key %s.',
      'Create the points system, or check the spelling of its key.'),
    ('LR005', 404, 'unknown_award', 'No award has the ID %s.',
      'Take the ID from the points_awards ledger or from an event''s response.'),
    ('LR006', 404, 'unknown_resource', 'No %s has the ID %s.',
      'It may have been deleted; list what exists.'),
    ('LR007', 404, 'unknown_achievement', 'No achievement that can be completed has the key %s.',
      'Create and activate the achievement, or check the spelling of its key.'),
    ('LR008', 404, 'unknown_leaderboard', 'No leaderboard has the key %s.',
      'Create and activate the leaderboard, or check the spelling of its key.'),
    ('LR009', 404, 'unknown_run', 'The leaderboard %s has never had a run on %s.',
      'A run lies between the leaderboard''s start and end dates, and has begun.'),
    ('LR010', 422, 'invalid_user_id', 'The user ID is not valid: %s.',
      'A user ID is your own ID for the user: text of 1 to 255 characters.'),
    ('LR011', 422, 'invalid_value', 'The value is not valid: %s.',
      'A value is a finite decimal with at most 15 digits before the point and 9 after it.'),
    ('LR012', 422, 'invalid_attribute_keys', 'Invalid attribute keys: %s.',
      'Declare attributes before using them; user and event attributes are separate lists.'),
    ('LR013', 422, 'invalid_attributes', 'The attributes are not valid: %s.',
      'Attributes are an object whose values are strings of at most 1,000 characters.'),
    ('LR014', 422, 'invalid_idempotency_key', 'The idempotency key is not valid: %s.',
      'An idempotency key is text of 1 to 255 characters.'),
    ('LR015', 422, 'invalid_occurred_at', 'The time the event occurred is not valid: %s.',
      'An event lies in the past, or at most 24 hours in the future.'),
    ('LR016', 422, 'invalid_time_zone', 'Unknown time zone: %s.',
      'Use a name such as Europe/London, from pg_timezone_names.'),
    ('LR017', 422, 'invalid_profile', 'The user''s profile is not valid: %s.',
      'A profile may hold email, name, tz, signUpDate, deviceTokens, subscribeToEmails and attributes.'),
    ('LR018', 422, 'invalid_points', 'The points are not valid: %s.',
      'Points are a whole number from -2147483648 to 2147483647, and not 0.'),
    ('LR019', 422, 'invalid_reason', 'The reason is not valid: %s.',
      'A reason is text of 1 to 1,000 characters.'),
    ('LR020', 422, 'invalid_configuration', '%s',
      'Nothing was saved; correct the value and send it again.'),
    ('LR021', 422, 'duplicate_key', '%s',
      'Choose another key, or archive what uses this one.'),
    ('LR022', 422, 'invalid_preferences', 'The preferences are not valid: %s.',
      'Preferences hold notifications (by type, lists of email and push) and streak.'),
    ('LR023', 422, 'invalid_period', 'The period is not valid: %s.',
      'aggregation is daily, weekly or monthly; endDate is after startDate, at most 400 days.'),
    ('LR024', 422, 'no_levels', 'The points system %s has no levels.',
      'Create levels first.'),
    ('LR025', 422, 'invalid_completion', 'The achievement %s cannot be completed by this call: %s.',
      'Only achievements of kind api, and for users who match their filters, are completed by calls.'),
    ('LR026', 409, 'changed_meanwhile', 'This was changed meanwhile, at %s.',
      'Read it again, and send your change with the time it has now.'),
    ('LR028', 422, 'invalid_rankings_request', 'The rankings cannot be shown: %s.',
      'limit is at most the leaderboard''s participants; userAttributes are its breakdown attributes.'),
    ('LR030', 422, 'out_of_points',
      'Not enough points: this event would take %s below 0.',
      'The trigger that deducts here blocks events its user cannot pay for.'),
    ('LR040', 401, 'unauthenticated', 'The API key is missing or not valid.',
      'Send your key in the X-API-KEY header.'),
    ('LR041', 403, 'forbidden', 'This key may not do that: %s.',
      'Use a key with the right role.'),
    ('LR050', 422, 'ledger_is_append_only', 'The award ledger cannot be changed: %s.',
      'Correct a balance with laurel.adjust_points(), which adds a row.'),
    ('LR051', 422, 'audit_log_is_append_only', 'The audit log cannot be changed: %s.',
      'Entries stay as they were written.'),
    ('LR060', 422, 'invalid_scenario', '%s.',
      'Nothing was tried; the place named has to be of the documented shape.'),
    ('LR061', 422, 'simulation_too_large', 'The simulation is too large: %s.',
      'Fewer users, days or events give the same picture.');
$$;

comment on function laurel_private.error_catalogue() is
  'Every SQLSTATE of class LR with its HTTP status, name, message template and hint.';

-- Raises the catalogue's error for this code; `arguments` fill its message template. `field` is what of the request the
-- error is about, where that is one thing, by its own name: `to`, `kinds[0].users`. Callers get it as the error's column.
create function laurel_private.fail(code text, field text, variadic arguments text[] default '{}')
  returns void language plpgsql stable as $$
declare
  entry record;
begin
  select e.message, e.hint, e.name into strict entry
  from laurel_private.error_catalogue() e where e.code = fail.code;
  raise exception using
    errcode = fail.code,
    message = format(entry.message, variadic arguments),
    detail = coalesce(fail.field, entry.name),
    column = coalesce(fail.field, ''),
    hint = entry.hint;
end
$$;

comment on function laurel_private.fail(text, text, text[]) is
  'Raises the error with this LR code: message template filled in, hint, and the field it is about as detail (the error''s name if null) and column.';
--! EndIncluded ground/errors.sql
--! Included ground/types.sql
-- Values that recur, each checked in one place. A check here is the last line of defence: what
-- callers send is refused earlier, with an LR code and a sentence.

create domain laurel.key as text collate "C"
  constraint key_is_letters_digits_hyphens_underscores check (value ~ '^[A-Za-z0-9_-]{1,255}$');
comment on domain laurel.key is 'A key you choose: 1 to 255 letters, digits, hyphens and underscores.';

-- "C" everywhere: ids are compared for equality and sorted to order locks, never for display.
create domain laurel.user_id as text collate "C"
  constraint user_id_is_1_to_255_characters check (length(value) between 1 and 255);
comment on domain laurel.user_id is 'Your own ID for a user: 1 to 255 characters.';

create domain laurel.attribute_values as jsonb
  constraint attributes_are_an_object check (jsonb_typeof(value) = 'object');
comment on domain laurel.attribute_values is 'Attribute keys with their string values, {"plan": "pro"}.';

create type laurel.unit_type as enum ('number', 'currency');
create type laurel.attribute_type as enum ('user', 'event');
create type laurel.points_trigger_type as enum
  ('user_creation', 'metric', 'streak', 'achievement', 'time');
create type laurel.points_trigger_status as enum ('inactive', 'active', 'archived');
create type laurel.points_award_cause as enum
  ('user_creation', 'metric', 'streak', 'achievement', 'time', 'adjustment');
-- Order matters: the most cautious mode comes first (B5), so min() picks it.
create type laurel.rounding_mode as enum ('down', 'nearest', 'up');
create type laurel.time_unit as enum ('hours', 'days');
create type laurel.streak_frequency as enum ('daily', 'weekly', 'monthly');
create type laurel.achievement_kind as enum
  ('metric', 'streak', 'api', 'achievement', 'anniversary');
create type laurel.achievement_status as enum ('inactive', 'active', 'locked', 'archived');

grant usage on type laurel.key, laurel.user_id, laurel.attribute_values,
  laurel.unit_type, laurel.attribute_type, laurel.points_trigger_type,
  laurel.points_trigger_status, laurel.points_award_cause, laurel.rounding_mode, laurel.time_unit,
  laurel.streak_frequency, laurel.achievement_kind, laurel.achievement_status
  to laurel_admin, laurel_service, laurel_user;

comment on type laurel.unit_type is 'Whether a metric counts things or money.';
comment on type laurel.attribute_type is 'Whether users or events carry an attribute.';
comment on type laurel.points_trigger_type is 'What a points trigger waits for. Rules TR2 to TR6.';
comment on type laurel.points_trigger_status is 'Only active triggers fire; an archived one stays so. Rule TR1.';
comment on type laurel.points_award_cause is 'What changed a total: a type of trigger, or an adjustment by hand.';
comment on type laurel.rounding_mode is 'Down is floor, up is ceiling, nearest rounds halves up. Rule B5.';
comment on type laurel.time_unit is 'Hours are elapsed time; days keep the local time of day. Rule TR5.';
comment on type laurel.streak_frequency is 'How long a streak''s period is, in the user''s time zone.';
comment on type laurel.achievement_kind is 'What completes an achievement. Rule A1.';
comment on type laurel.achievement_status is 'Only active achievements are completed. Rule A1.';
--! EndIncluded ground/types.sql
--! Included ground/ids.sql
-- Identifiers: UUID version 7, whose order is the order of creation, so that index pages fill one
-- after the other and events and awards can be partitioned by their ID.

-- For rows of many: half of what uuidv7() costs, which asks OpenSSL for its random bits. Milliseconds in 48
-- bits, 4096ths of them in the 12 bits of rand_a as RFC 9562 allows: one number, with the version put between
-- its digits. The rest is random(), strongly seeded in each session: an ID is no secret.
create function laurel_private.quick_uuid_v7() returns uuid language sql volatile parallel restricted
  return ('0' || overlay(to_hex((date_part('epoch', clock_timestamp()) * 4096000)::bigint) placing '7' from 12 for 0)
    || to_hex((random() * 4611686018427387904)::bigint - 9223372036854775807))::uuid;

-- For single rows: PL/pgSQL prepares one call faster than the nine above.
do $do$
begin
  if current_setting('server_version_num')::int >= 180000 then
    create function laurel_private.uuid_v7() returns uuid language sql volatile parallel safe
      return uuidv7();
  else
    create function laurel_private.uuid_v7() returns uuid language sql volatile parallel restricted
      return laurel_private.quick_uuid_v7();
  end if;
end
$do$;

comment on function laurel_private.quick_uuid_v7() is 'A new UUID version 7 for one of many rows: increasing with time.';
grant execute on function laurel_private.quick_uuid_v7() to laurel_admin, laurel_service;
comment on function laurel_private.uuid_v7() is 'A new UUID version 7: increasing with time.';
grant execute on function laurel_private.uuid_v7() to laurel_admin, laurel_service;

-- The lowest UUID version 7 of a moment: the bound of partitions and of time ranges over IDs. Stable, as
-- extract() is: PostgreSQL takes no function in that claims more than its body.
create function laurel_private.first_uuid_v7(moment timestamptz)
  returns uuid language sql stable parallel safe
  return encode(substring(int8send((extract(epoch from moment) * 1000)::bigint) from 3)
    || '\x70008000000000000000'::bytea, 'hex')::uuid;

comment on function laurel_private.first_uuid_v7(timestamptz) is
  'The lowest UUID version 7 that can be made at this moment (milliseconds).';

-- The UUID after this one. Gives an event that lost a race an ID after the ones it lost to.
create function laurel_private.next_uuid(id uuid)
  returns uuid language plpgsql immutable strict parallel safe as $$
declare
  bytes bytea := uuid_send(id);
begin
  for i in reverse 15..9 loop
    if get_byte(bytes, i) < 255 then
      return encode(set_byte(bytes, i, get_byte(bytes, i) + 1), 'hex')::uuid;
    end if;
    bytes := set_byte(bytes, i, 0);
  end loop;
  return encode(bytes, 'hex')::uuid;
end
$$;
--! EndIncluded ground/ids.sql
--! Included ground/partitions.sql
-- Monthly partitions of the event log and the award ledger, made ahead. Right after a checkpoint
-- every page touched first is written whole: a month's index is small where a single table's
-- would be touched all over (measured in the design: 0.37 of fresh speed against 0.78).

create procedure laurel_private.create_month_partition(parent text, prefix text, month date)
  language plpgsql as $$
declare
  name text := prefix || to_char(month, '_YYYY_MM');
  first uuid := laurel_private.first_uuid_v7(month::timestamp at time zone 'UTC');
  beyond uuid := laurel_private.first_uuid_v7((month + interval '1 month')::timestamp at time zone 'UTC');
  default_holds_rows boolean;
begin
  if to_regclass('laurel_private.' || name) is not null then
    return;
  end if;
  -- Rows that arrived before their partition was made stay in the default one, and with them the
  -- rest of their month: reads and writes are the same, only slower.
  execute format('select exists (select from laurel_private.%I_default where id >= %L and id < %L)',
    prefix, first, beyond) into default_holds_rows;
  if default_holds_rows then
    raise notice 'Partition % is not made: its month has rows in the default partition.', name;
    return;
  end if;
  execute format('create table laurel_private.%I partition of %s for values from (%L) to (%L)',
    name, parent, first, beyond);
  execute format('alter table laurel_private.%I enable row level security', name);
  if parent = 'laurel.points_awards' then
    execute format('create trigger points_awards__keep_all before truncate on laurel_private.%I
      for each statement execute function laurel_private.tg_points_awards__keep()', name);
  end if;
end
$$;

-- Makes the partitions of this month and the next three. Run at install and daily by the worker.
create function laurel_private.maintain_partitions(as_of timestamptz)
  returns void language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
begin
  -- Two workers at once: the second waits, then finds the partitions made.
  perform pg_advisory_xact_lock(hashtext('laurel_private.maintain_partitions'));
  for ahead in 0..3 loop
    call laurel_private.create_month_partition('laurel_private.metric_event_log', 'metric_events',
      (date_trunc('month', as_of at time zone 'UTC') + make_interval(months => ahead))::date);
    call laurel_private.create_month_partition('laurel.points_awards', 'points_awards',
      (date_trunc('month', as_of at time zone 'UTC') + make_interval(months => ahead))::date);
  end loop;
end
$$;

comment on function laurel_private.maintain_partitions(timestamptz) is
  'Makes the monthly partitions of events and awards for this month and the next three. Safe to repeat.';
--! EndIncluded ground/partitions.sql
--! Included tenants/tenants.sql
-- A tenant owns every configuration row and every user (T1). Written by the admin API; read by
-- every call, to turn the caller's customer ID into a tenant ID.

create table laurel.tenants (
  id uuid primary key default laurel_private.uuid_v7(),
  customer_id text collate "C" not null,
  name text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint tenant_customer_id_is_1_to_255_characters check (length(customer_id) between 1 and 255),
  constraint tenant_name_is_1_to_255_characters check (length(name) between 1 and 255)
);

create unique index tenant_customer_ids_are_unique on laurel.tenants (customer_id) where archived_at is null;

comment on table laurel.tenants is
  'A customer of yours whose users and configuration are kept apart from all others.';
comment on column laurel.tenants.customer_id is
  'Your own ID for the tenant, named by the Tenant-ID header or `set laurel.tenant`. Callers who name none get "default".';
comment on column laurel.tenants.archived_at is 'Null while in use. An archived tenant is gone for callers; its rows stay.';
comment on constraint tenant_customer_id_is_1_to_255_characters on laurel.tenants is 'A tenant''s customer ID has 1 to 255 characters.';
comment on constraint tenant_name_is_1_to_255_characters on laurel.tenants is 'A tenant''s name has 1 to 255 characters.';
comment on index laurel.tenant_customer_ids_are_unique is 'Another tenant already has this customer ID.';

insert into laurel.tenants (customer_id, name) values ('default', 'Default');

-- What the caller calls the tenant that this session acts for.
create function laurel_private.current_customer_id()
  returns text language sql stable parallel safe
  return coalesce(nullif(current_setting('laurel.tenant', true), ''), 'default');

-- The tenant that this session acts for. A definer, since the policies that protect every table,
-- laurel.tenants included, call it.
create function laurel.current_tenant_id()
  returns uuid language plpgsql stable parallel safe security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  tenant_id uuid;
  customer text := laurel_private.current_customer_id();
begin
  select t.id into tenant_id from laurel.tenants t where t.customer_id = customer and t.archived_at is null;
  if tenant_id is null then
    perform laurel_private.fail('LR001', null, customer);
  end if;
  return tenant_id;
end
$$;

comment on function laurel.current_tenant_id() is
  'The tenant named by the setting laurel.tenant, or the default one. LR001 when there is none. Rule T1.';

-- The one user that this session may act for; null when it acts for the whole tenant.
create function laurel.current_user_id()
  returns text language sql stable parallel safe
  return nullif(current_setting('laurel.user_id', true), '');

comment on function laurel.current_user_id() is
  'The user named by the setting laurel.user_id, null when the session acts for the whole tenant. Rule T1.';

grant execute on function laurel.current_tenant_id(), laurel.current_user_id()
  to laurel_admin, laurel_service, laurel_user;

-- Who called, inside a definer, where current_user is the owner: the role taken, or the login.
create function laurel_private.caller()
  returns name language sql stable parallel safe
  return coalesce(nullif(current_setting('role', true), 'none'), session_user)::name;

-- Whether the caller is the owner of the engine, who may see all tenants. For definers.
create function laurel_private.is_owner_calling()
  returns boolean language sql stable parallel safe
  return pg_has_role(laurel_private.caller(), current_user, 'usage');

-- Whether the session may act for this user: any user, unless it acts for one user alone. Asked by
-- every definer that takes a user ID and is granted to laurel_user.
create function laurel_private.may_act_for(user_id text)
  returns boolean language sql stable parallel safe
  return case
    when coalesce(current_setting('laurel.user_id', true), '') <> ''
      then user_id = current_setting('laurel.user_id', true) and user_id is not null
    else pg_has_role(laurel_private.caller(), 'laurel_service', 'usage')
      or pg_has_role(laurel_private.caller(), 'laurel_admin', 'usage')
      or laurel_private.is_owner_calling() end;

create function laurel_private.require_own_user(user_id text)
  returns void language plpgsql stable as $$
begin
  if not laurel_private.may_act_for(user_id) then
    perform laurel_private.fail('LR041', null, 'act for another user');
  end if;
end
$$;

-- Row-level security for a table whose rows belong to a tenant, deny by default (Q9).
--   configuration: admins write; services read; users read what is `public` (Q9, RP3, RP5)
--   user_data:     admins and services read; a user reads its own rows
-- Whoever may do more says so in its own file.
create procedure laurel_private.secure_table(
  target regclass, kind text, user_column text default 'user_id', public text default 'true'
)
  language plpgsql as $$
declare
  own_tenant constant text := 'tenant_id = (select laurel.current_tenant_id())';
begin
  execute format('alter table %s enable row level security', target);
  execute format('revoke all on %s from public', target);
  execute format('grant select on %s to laurel_admin, laurel_service, laurel_user', target);
  case kind
    when 'configuration' then
      execute format('create policy admins_write on %s for all to laurel_admin
        using (%s) with check (%2$s)', target, own_tenant);
      execute format('create policy tenant_reads on %s for select to laurel_service
        using (%s)', target, own_tenant);
      execute format('create policy users_read_what_is_public on %s for select to laurel_user
        using (%s and %s)', target, own_tenant, public);
    when 'user_data' then
      execute format('create policy tenant_reads on %s for select to laurel_admin, laurel_service
        using (%s)', target, own_tenant);
      execute format('create policy users_read_their_own on %s for select to laurel_user
        using (%s and %I = (select laurel.current_user_id()))', target, own_tenant, user_column);
  end case;
end
$$;

alter table laurel.tenants enable row level security;
grant select on laurel.tenants to laurel_admin, laurel_service, laurel_user;
create policy own_tenant on laurel.tenants for select to laurel_admin, laurel_service, laurel_user
  using (id = (select laurel.current_tenant_id()));

-- When a row was last changed, which is also its version: an update that sets `updated_at` says which one it was made for,
-- and is refused when there has been another since. The row is locked by then, and `old` its latest version: of two
-- such updates at once one is refused. Milliseconds, since that is all that many clients keep of an instant; no two
-- versions share one.
create function laurel_private.tg_configuration__touch()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if date_trunc('milliseconds', new.updated_at) is distinct from date_trunc('milliseconds', old.updated_at) then
    perform laurel_private.fail('LR026', 'updated_at', laurel_private.instant_as_text(old.updated_at));
  end if;
  new.updated_at := old.updated_at;
  if new is distinct from old then
    new.updated_at := greatest(date_trunc('milliseconds', clock_timestamp()), old.updated_at + interval '1 millisecond');
  end if;
  return new;
end
$$;

create trigger tenants__touch before update on laurel.tenants
  for each row execute function laurel_private.tg_configuration__touch();
--! EndIncluded tenants/tenants.sql
--! Included tenants/settings.sql
-- What a tenant sets for all of its users: branding of what is sent to them, experiments, how often
-- figures are summed up. Written and read by the admin API; experiments also by whatever adds users.
-- Invariant: a user's group is drawn once, when it is added, and always the same.

create table laurel_private.settings (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id(),
  app_name text,
  app_url text,
  brand_color text,
  font text,
  logo_url text,
  app_icon_url text,
  control_ratio int,
  user_activation_days int,
  aggregation_period text,
  updated_at timestamptz not null default now(),
  constraint settings_are_one_row_per_tenant primary key (tenant_id),
  constraint settings_are_a_tenants foreign key (tenant_id) references laurel.tenants on delete cascade,
  constraint app_name_is_1_to_255_characters check (length(app_name) between 1 and 255),
  constraint app_url_is_an_address check (app_url ~* '^https?://[^[:space:]]+$' and length(app_url) <= 2000),
  constraint brand_color_is_a_color check (brand_color ~* concat('^(#[0-9a-f]{3}|#[0-9a-f]{6}',
    '|rgb\( *\d{1,3} *, *\d{1,3} *, *\d{1,3} *\)',
    '|rgba\( *\d{1,3} *, *\d{1,3} *, *\d{1,3} *, *(0|1|0?\.\d{1,4}|1\.0{1,4}) *\))$')),
  constraint font_is_known check (font in ('MODERN_SANS', 'BOOK_SANS', 'ORGANIC_SANS', 'GEOMETRIC_SANS', 'HEAVY_SANS',
    'ROUNDED_SANS', 'MODERN_SERIF', 'BOOK_SERIF', 'MONOSPACE')),
  constraint logo_url_is_an_address check (logo_url ~* '^https?://[^[:space:]]+$' and length(logo_url) <= 2000),
  constraint app_icon_url_is_an_address check (app_icon_url ~* '^https?://[^[:space:]]+$' and length(app_icon_url) <= 2000),
  constraint control_ratio_is_a_percentage check (control_ratio between 0 and 100),
  constraint user_activation_is_3_to_30_days check (user_activation_days between 3 and 30),
  constraint aggregation_period_is_known check (aggregation_period in ('weekly', 'monthly'))
);

comment on table laurel_private.settings is 'A tenant''s settings; what is null was never set, and has the default that settings_as_json() gives.';
comment on column laurel_private.settings.control_ratio is 'Percent of new users that are put into the control group.';
comment on column laurel_private.settings.user_activation_days is 'Days after a user''s first event that count for whether it stayed.';
comment on column laurel_private.settings.aggregation_period is 'How often figures are summed up for users.';
comment on constraint app_name_is_1_to_255_characters on laurel_private.settings is 'branding.appName has 1 to 255 characters.';
comment on constraint app_url_is_an_address on laurel_private.settings is 'branding.appUrl is an address that begins with http:// or https://.';
comment on constraint brand_color_is_a_color on laurel_private.settings is 'branding.brandColor is a color as #1a3, #11aa33, rgb(17, 170, 51) or rgba(17, 170, 51, 0.5).';
comment on constraint font_is_known on laurel_private.settings is 'branding.font is one of the fonts that there are.';
comment on constraint logo_url_is_an_address on laurel_private.settings is 'branding.logo.url is an address that begins with http:// or https://.';
comment on constraint app_icon_url_is_an_address on laurel_private.settings is 'branding.appIcon.url is an address that begins with http:// or https://.';
comment on constraint control_ratio_is_a_percentage on laurel_private.settings is 'experimentation.controlRatio is a whole number from 0 to 100.';
comment on constraint user_activation_is_3_to_30_days on laurel_private.settings is 'experimentation.userActivationWindow is 3 to 30 days.';
comment on constraint aggregation_period_is_known on laurel_private.settings is 'aggregationPeriod is weekly or monthly.';

alter table laurel_private.settings enable row level security;
grant select, insert (app_name),
  update (app_name, app_url, brand_color, font, logo_url, app_icon_url, control_ratio, user_activation_days, aggregation_period)
  on laurel_private.settings to laurel_admin;
create policy admins_write on laurel_private.settings for all to laurel_admin
  using (tenant_id = (select laurel.current_tenant_id())) with check (tenant_id = (select laurel.current_tenant_id()));

create trigger settings__touch before update on laurel_private.settings
  for each row execute function laurel_private.tg_configuration__touch();

-- Percent of new users to put into the control group: nobody unless it was set.
create function laurel_private.control_ratio(for_tenant uuid)
  returns int language sql stable as $$
  select coalesce((select s.control_ratio from laurel_private.settings s where s.tenant_id = for_tenant), 0)
$$;

-- Where a user stands in the draw, from 0 to 99. By its ID rather than by chance: one that is erased and comes back, or
-- that two calls add at once, is in the same group, and a higher ratio only adds to the group.
create function laurel_private.control_place(for_tenant uuid, user_id text)
  returns int language sql immutable as $$
  select ((hashtextextended(for_tenant::text || ' ' || user_id, 0) % 100 + 100) % 100)::int
$$;

comment on function laurel_private.control_place(uuid, text) is
  'A user''s place in the draw for the control group; it is in the group when the place is below control_ratio(). Users there get points like all others: what they do not get is messages.';

create function laurel_private.settings_as_json()
  returns jsonb language sql stable as $$
  select jsonb_build_object(
    'branding', jsonb_build_object(
      'appName', coalesce(s.app_name, t.name),
      'appUrl', coalesce(s.app_url, ''),
      'brandColor', coalesce(s.brand_color, '#000000'),
      'font', coalesce(s.font, 'MODERN_SANS'),
      'logo', case when s.logo_url is not null then jsonb_build_object('url', s.logo_url) end,
      'appIcon', case when s.app_icon_url is not null then jsonb_build_object('url', s.app_icon_url) end),
    'experimentation', jsonb_build_object(
      'controlRatio', coalesce(s.control_ratio, 0),
      'userActivationWindow', coalesce(s.user_activation_days, 14)),
    'aggregationPeriod', coalesce(s.aggregation_period, 'weekly'))
  from laurel.tenants t
  left join laurel_private.settings s on s.tenant_id = t.id
  where t.id = laurel.current_tenant_id()
$$;

-- Changes what is given, property by property; a null logo or icon is taken away.
create function laurel_private.update_settings(given jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  branding jsonb := coalesce(given -> 'branding', '{}');
  experimentation jsonb := coalesce(given -> 'experimentation', '{}');
  broken text;
begin
  insert into laurel_private.settings (app_name) values (null) on conflict do nothing;
  update laurel_private.settings s
  set app_name = coalesce(branding ->> 'appName', s.app_name),
    app_url = coalesce(branding ->> 'appUrl', s.app_url),
    brand_color = coalesce(branding ->> 'brandColor', s.brand_color),
    font = coalesce(branding ->> 'font', s.font),
    logo_url = case when branding ? 'logo' then branding #>> '{logo,url}' else s.logo_url end,
    app_icon_url = case when branding ? 'appIcon' then branding #>> '{appIcon,url}' else s.app_icon_url end,
    control_ratio = coalesce((experimentation ->> 'controlRatio')::int, s.control_ratio),
    user_activation_days = coalesce((experimentation ->> 'userActivationWindow')::int, s.user_activation_days),
    aggregation_period = coalesce(given ->> 'aggregationPeriod', s.aggregation_period)
  where s.tenant_id = laurel.current_tenant_id();
  return laurel_private.settings_as_json();
exception when check_violation then
  get stacked diagnostics broken = constraint_name;
  -- Their sentences begin with what they are about.
  perform laurel_private.fail('LR020', split_part(c.sentence, ' ', 1), c.sentence)
  from laurel_private.constraint_sentences c where c.holder = 'settings' and c.name = broken;
end
$$;

grant execute on function laurel_private.settings_as_json(), laurel_private.update_settings(jsonb) to laurel_admin;

-- What installations there are to choose between. A database is one of them, and knows itself alone: its operator names it.
create table laurel_private.environments (
  key laurel.key not null,
  name text not null,
  priority int not null,
  is_active boolean not null default true,
  constraint environments_have_keys primary key (key),
  constraint environment_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint environment_priority_is_1_to_10 check (priority between 1 and 10),
  constraint environment_priorities_are_unique unique (priority)
);

comment on table laurel_private.environments is
  'The installation that this database serves, as its clients'' tools show it: production, or what its operator made of it, as in `update laurel_private.environments set key = ''staging'', name = ''Staging'', priority = 2`.';
alter table laurel_private.environments enable row level security;
grant select on laurel_private.environments to laurel_admin;
-- Of the account, like tenants; within any tenant that is.
create policy admins_read on laurel_private.environments for select to laurel_admin
  using ((select laurel.current_tenant_id()) is not null);

insert into laurel_private.environments (key, name, priority) values ('production', 'Production', 1);

create function laurel_private.list_environments()
  returns jsonb language plpgsql stable as $$
begin
  perform laurel.current_tenant_id();
  return (
    select coalesce(jsonb_agg(jsonb_build_object('name', e.name, 'key', e.key, 'priority', e.priority) order by e.priority), '[]')
    from laurel_private.environments e where e.is_active);
end
$$;

grant execute on function laurel_private.list_environments() to laurel_admin;
--! EndIncluded tenants/settings.sql
--! Included users/attributes.sql
-- An attribute is declared before users or events may carry it (U4). Written by admins; read when
-- profiles and events are checked and by filters.

create table laurel.attributes (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  key laurel.key not null,
  name text not null,
  type laurel.attribute_type not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint attribute_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint attribute_keys_are_unique_per_type unique (tenant_id, type, key)
);

comment on table laurel.attributes is
  'A property that users or events may carry, declared with its key before it is used.';
comment on column laurel.attributes.type is 'Whether users or events carry it.';
comment on constraint attribute_name_is_1_to_255_characters on laurel.attributes is
  'An attribute''s name has 1 to 255 characters.';
comment on constraint attribute_keys_are_unique_per_type on laurel.attributes is
  'Another attribute of this type already has this key.';

call laurel_private.secure_table('laurel.attributes', 'configuration');
grant insert (key, name, type), update (name), delete on laurel.attributes to laurel_admin;

-- Refuses attribute values that are no strings or too long, and keys that are not declared.
create function laurel_private.check_attributes(
  tenant_id uuid, type laurel.attribute_type, attributes jsonb, may_remove boolean, field text default 'attributes'
) returns void language plpgsql stable as $$
declare
  unknown text;
  entry record;
begin
  if jsonb_typeof(attributes) is distinct from 'object' then
    perform laurel_private.fail('LR013', field, 'they must be an object');
  end if;
  for entry in select e.key, e.value from jsonb_each(attributes) e loop
    if jsonb_typeof(entry.value) = 'null' and may_remove then
      continue;
    elsif jsonb_typeof(entry.value) <> 'string' then
      perform laurel_private.fail('LR013', field, format('the value of %s must be a string', entry.key));
    elsif length(entry.value #>> '{}') > 1000 then
      perform laurel_private.fail('LR013', field, format('the value of %s is longer than 1,000 characters', entry.key));
    end if;
  end loop;
  select string_agg(k, ', ' order by k) into unknown
  from jsonb_object_keys(attributes) k
  where not exists (
    select from laurel.attributes a
    where a.tenant_id = check_attributes.tenant_id and a.type = check_attributes.type and a.key = k);
  if unknown is not null then
    perform laurel_private.fail('LR012', field, left(unknown, 1000));
  end if;
end
$$;

comment on function laurel_private.check_attributes(uuid, laurel.attribute_type, jsonb, boolean, text) is
  'Raises LR013 for values that are no strings, LR012 for undeclared keys. Rule U4.';
--! EndIncluded users/attributes.sql
--! Included users/users.sql
-- A user of the product, under the caller's own ID (U1). Written by identification (alone or with
-- an event); read by everything. Where the user stands, and the lock that guards it, is in
-- user_states.sql.

create table laurel.users (
  -- No foreign key to tenants: every new user would lock the tenant's one row (key share).
  tenant_id uuid not null default laurel.current_tenant_id(),
  id laurel.user_id not null,
  email text,
  name text,
  tz text,
  sign_up_on date,
  device_tokens text[],
  subscribe_to_emails boolean not null default true,
  attributes laurel.attribute_values not null default '{}',
  attributes_version int not null default 1,
  preferences jsonb not null default '{}',
  control boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_ids_are_unique_in_their_tenant primary key (tenant_id, id)
) with (fillfactor = 90);

create index users_by_attributes on laurel.users using gin (attributes jsonb_path_ops)
  where attributes <> '{}';

comment on table laurel.users is 'A user of your product, under your own ID for it.';
comment on column laurel.users.tz is 'Name of the time zone, as in pg_timezone_names; null counts as UTC.';
comment on column laurel.users.email is 'Null when unknown.';
comment on column laurel.users.name is 'Null when unknown.';
comment on column laurel.users.sign_up_on is 'Day of sign-up with your product; null when unknown.';
comment on column laurel.users.device_tokens is 'For push notifications; null when there are none.';
comment on column laurel.users.attributes is 'Declared user attributes with their values.';
comment on column laurel.users.attributes_version is
  'Goes up with every change of the attributes; verify() uses it to know which events a filter judged.';
comment on column laurel.users.preferences is 'Notification and streak preferences, as given.';
comment on column laurel.users.control is 'Whether the user was drawn into the control group, which gets points but no messages.';

call laurel_private.secure_table('laurel.users', 'user_data', 'id');

create function laurel_private.check_user_id(user_id text)
  returns void language plpgsql stable as $$
begin
  if user_id is null or length(user_id) not between 1 and 255 then
    perform laurel_private.fail('LR010', 'user_id',
      case when coalesce(user_id, '') = '' then 'it is empty' else 'it has more than 255 characters' end);
  end if;
end
$$;

-- The user of the session's tenant whom the caller may act for.
create function laurel_private.own_user(user_id text)
  returns laurel.users language plpgsql stable as $$
declare
  found_user laurel.users;
begin
  perform laurel_private.require_own_user(own_user.user_id);
  select u.* into found_user from laurel.users u
  where u.tenant_id = laurel.current_tenant_id() and u.id = own_user.user_id;
  if found_user.id is null then
    perform laurel_private.fail('LR002', null, left(coalesce(own_user.user_id, 'null'), 255));
  end if;
  return found_user;
end
$$;

comment on function laurel_private.own_user(text) is
  'The user with this ID. LR041 when the caller acts for another user alone, LR002 when there is none.';
--! EndIncluded users/users.sql
--! Included users/user_states.sql
-- Where a user stands: what the flow must know of it and what it moves, in one row, so that an event
-- locks, reads and writes one row of its user. Written by lock_user() and by the flow
-- (metrics/record_event.sql, points/apply_effects.sql); read by the flow, and by callers through
-- the views laurel.user_metrics and laurel.points_balances.
--
-- This row is the one lock of a user: whatever is derived for it changes only under `for no key
-- update` here. Time zone and attributes are copies of the user's own: reading them in the locked
-- row sees the change that the lock's last holder committed.
--
-- Parallel arrays rather than rows: a metric's place is that of its ID in metric_ids, a system's
-- that of its ID in system_ids. A user has a handful of each.

create table laurel_private.user_states (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  time_zone text not null,
  attributes jsonb not null,
  attributes_version int not null,
  metric_ids uuid[] not null default '{}',
  metric_totals numeric[] not null default '{}',
  metric_peaks numeric[] not null default '{}',
  last_event_ids uuid[] not null default '{}',
  system_ids uuid[] not null default '{}',
  totals bigint[] not null default '{}',
  last_sequences bigint[] not null default '{}',
  -- What an event answers about the streak, for events between these moments that do not change it: it is
  -- satisfied there, or the metric does not count. Null when the answer is to be made anew.
  streak_answer text,
  streak_valid_from timestamptz,
  streak_valid_until timestamptz,
  streak_is_satisfied boolean,
  streak_version int,
  streak_preferences jsonb,
  constraint user_states_are_one_per_user primary key (tenant_id, user_id),
  constraint user_states_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
-- Room for new versions on the same page; in line up to a page, since every event reads it whole.
) with (fillfactor = 70, toast_tuple_target = 8160);

comment on table laurel_private.user_states is 'Metric totals and balances of a user, behind laurel.user_metrics and laurel.points_balances.';
call laurel_private.secure_table('laurel_private.user_states', 'user_data');

-- Every user has a state, whoever adds it, and the state follows what changes of the user.
create function laurel_private.tg_users__share_state()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    insert into laurel_private.user_states (tenant_id, user_id, time_zone, attributes, attributes_version)
    values (new.tenant_id, new.id, coalesce(new.tz, 'UTC'), new.attributes, new.attributes_version);
  else
    update laurel_private.user_states s
    set time_zone = coalesce(new.tz, 'UTC'), attributes = new.attributes, attributes_version = new.attributes_version
    where s.tenant_id = new.tenant_id and s.user_id = new.id;
  end if;
  return null;
end
$$;

create trigger users__create_state after insert on laurel.users
  for each row execute function laurel_private.tg_users__share_state();
create trigger users__share_state after update on laurel.users
  for each row when ((old.tz, old.attributes, old.attributes_version) is distinct from (new.tz, new.attributes, new.attributes_version))
  execute function laurel_private.tg_users__share_state();

-- The user as locked by a step of the flow.
create type laurel_private.locked_user as (
  tenant_id uuid, id text, time_zone text, attributes jsonb, attributes_version int, is_new boolean
);

-- Takes the lock of one user of the session's tenant, adding the user when it is new. Everything
-- decided for the user is read after this, or in the locked row itself. The advisory lock in front
-- queues waiters in the lock table rather than on the row (a third more throughput on one hot
-- user); the row lock is what many-row calls share.
create function laurel_private.lock_user(user_id text)
  returns laurel_private.locked_user language plpgsql volatile as $$
#variable_conflict use_column
declare
  locked laurel_private.locked_user;
  for_tenant uuid;
  added boolean := false;
begin
  if pg_advisory_xact_lock(hashtextextended(lock_user.user_id, 20)) is null then null; end if;
  loop
    select s.tenant_id, s.user_id, s.time_zone, s.attributes, s.attributes_version, added into locked
    from laurel.tenants t
    join laurel_private.user_states s on s.tenant_id = t.id and s.user_id = lock_user.user_id
    where t.customer_id = laurel_private.current_customer_id() and t.archived_at is null
    for no key update of s;
    exit when found;
    perform laurel_private.check_user_id(lock_user.user_id);
    for_tenant := laurel.current_tenant_id();
    -- Two first calls: the loser waits here for the winner's commit, then locks its row.
    insert into laurel.users (tenant_id, id, control)
    values (for_tenant, lock_user.user_id, laurel_private.control_place(for_tenant, lock_user.user_id) < laurel_private.control_ratio(for_tenant))
    on conflict do nothing;
    added := found;
  end loop;
  return locked;
end
$$;

comment on function laurel_private.lock_user(text) is
  'Locks a user of the session''s tenant until the transaction ends, adding the user if new.';

-- Takes the locks of many users, given in key order, adding those who are new, with these time
-- zones; returns the new ones. All lock in the same order, so two calls never wait for each other. New users
-- come first, at once: whoever waits for another's insert holds no lock yet. Not so after an erasure: who waited
-- for it with locks in hand finds the user gone, and would wait for the one who adds it first, while that one waits
-- for those locks. Then each is added in its turn: by whoever meets with it on the way, and by everybody for an hour,
-- which is longer than anybody waits. (Always in turn costs a batch in which every second user is new four times as
-- much here.)
create function laurel_private.lock_users(tenant_id uuid, user_ids text[], time_zones text[] default null)
  returns text[] language plpgsql volatile as $$
#variable_conflict use_column
declare
  new_user_ids text[] := '{}';
  added_ids text[];
  place int := 1;
  place_after int;
  is_missing boolean;
  -- Nothing is read ahead of a cursor: no user is locked behind one who is not there. In pieces, since each new run
  -- of new users begins it anew.
  walk cursor (since int) for
    select found_state.is_there from unnest(user_ids[since:since + 99]) q (id)
    left join lateral (
      select true as is_there from laurel_private.user_states s
      where s.tenant_id = lock_users.tenant_id and s.user_id = q.id
      for no key update) found_state on true;
begin
  with added as (
    insert into laurel.users (tenant_id, id, tz, control)
    select lock_users.tenant_id, q.id, q.time_zone,
      laurel_private.control_place(lock_users.tenant_id, q.id) < (select laurel_private.control_ratio(lock_users.tenant_id))
    from unnest(user_ids, time_zones) with ordinality as q (id, time_zone, no)
    where not exists (
        select from laurel_private.user_states s where s.tenant_id = lock_users.tenant_id and s.user_id = q.id)
      and not exists (
        select from laurel_private.last_erasures e
        where e.tenant_id = lock_users.tenant_id and e.erased_at > clock_timestamp() - interval '1 hour')
    order by q.no
    on conflict do nothing
    returning id
  )
  select array_agg(a.id) into added_ids from added a;
  new_user_ids := new_user_ids || added_ids;
  loop
    is_missing := false;
    for met in walk(place) loop
      is_missing := met.is_there is null;
      exit when is_missing;
      place := place + 1;
    end loop;
    exit when place > cardinality(user_ids);
    continue when not is_missing;
    -- This one is not there; at once with those right behind who are not, either.
    place_after := place + 1;
    while place_after <= cardinality(user_ids) and not exists (
      select from laurel_private.user_states s where s.tenant_id = lock_users.tenant_id and s.user_id = user_ids[place_after])
    loop
      place_after := place_after + 1;
    end loop;
    with added as (
      insert into laurel.users (tenant_id, id, tz, control)
      select lock_users.tenant_id, q.id, q.time_zone,
        laurel_private.control_place(lock_users.tenant_id, q.id) < (select laurel_private.control_ratio(lock_users.tenant_id))
      from unnest(user_ids[place:place_after - 1], time_zones[place:place_after - 1]) with ordinality as q (id, time_zone, no)
      order by q.no
      on conflict do nothing
      returning id
    )
    select array_agg(a.id) into added_ids from added a;
    new_user_ids := new_user_ids || added_ids;
  end loop;
  return new_user_ids;
end
$$;

comment on function laurel_private.lock_users(uuid, text[], text[]) is
  'Locks these users, in the order given, until the transaction ends; returns those it added.';
--! EndIncluded users/user_states.sql
--! Included users/segments.sql
-- A segment is one set of attributes that users of a tenant carry, {"plan": "pro", "country": "fr"}. Figures are kept
-- for each beside those of everybody (user_counts.sql, insight/points_rollups.sql): a filter adds up the segments
-- that match it, however many users they have. Written by folds alone, under the fold's lock, so that nobody who
-- changes attributes waits for another; one that nobody is in goes with the next fold. With nearly as many
-- segments as users all of this is right, and about as slow as reading every user's own rows.

create table laurel_private.segments (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  id uuid not null,
  attributes jsonb not null,
  constraint segments_are_one_per_set_of_attributes primary key (tenant_id, id)
);

create index segments_by_attributes on laurel_private.segments using gin (attributes jsonb_path_ops);
comment on table laurel_private.segments is 'Sets of attributes that users carry; users without any are a segment too.';
comment on column laurel_private.segments.id is 'Follows from the attributes: segment_of().';
alter table laurel_private.segments enable row level security;

-- Where a user's points are folded. After its attributes changed that is not where they belong until
-- fold_user_counts() has moved them; user_count_changes says of whom that may be so.
create table laurel_private.user_segments (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  segment_id uuid not null,
  constraint user_segments_are_one_per_user primary key (tenant_id, user_id),
  constraint user_segments_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
);

create index user_segments_by_segment on laurel_private.user_segments (tenant_id, segment_id, user_id);
comment on table laurel_private.user_segments is 'The segment that a user''s points are folded into; no row before any are.';
alter table laurel_private.user_segments enable row level security;

-- The segment of everybody, whatever their attributes, in the figures' keys.
create function laurel_private.everybody()
  returns uuid language sql immutable parallel safe
  return '00000000-0000-0000-0000-000000000000'::uuid;

-- The same attributes are written as the same text: jsonb keeps keys in order and values are strings.
create function laurel_private.segment_of(attributes jsonb)
  returns uuid language sql stable parallel safe
  return encode(substring(sha256(convert_to(attributes::text, 'UTF8')) for 16), 'hex')::uuid;

-- The segments whose figures add up to those of users with these attributes.
create function laurel_private.matching_segments(of_tenant uuid, filter jsonb)
  returns uuid[] language sql stable as $$
  select case when filter = '{}' then array[laurel_private.everybody()]
    else array(select s.id from laurel_private.segments s where s.tenant_id = of_tenant and s.attributes @> filter) end
$$;
--! EndIncluded users/segments.sql
--! Included users/user_counts.sql
-- How many users a tenant has, by segment and by the UTC day on which they were added: nobody counts a million
-- rows to show a share. Whoever adds or erases users, or changes their attributes, appends what changed; the worker
-- folds that (insight/fold_user_counts.sql). Read by count_users() and analytics (insight/points_analytics.sql).
-- Invariant: counts and changes together are the users there are (verify() checks).

create table laurel_private.user_counts (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  segment_id uuid not null,
  joined_on date not null,
  users bigint not null,
  constraint user_counts_are_one_per_day primary key (tenant_id, segment_id, joined_on)
);

comment on table laurel_private.user_counts is 'Users of everybody and of each segment by the UTC day on which they were added, as far as folded.';
alter table laurel_private.user_counts enable row level security;

-- Appended to, never updated: an event that adds a user waits for nobody. No key and no index: rows are few and soon gone.
create table laurel_private.user_count_changes (
  tenant_id uuid not null,
  joined_on date not null,
  users int not null,
  -- Null once the user is erased.
  user_id text collate "C",
  attributes jsonb not null
);

comment on table laurel_private.user_count_changes is
  'Users who came (1) to these attributes or went from them (-1) since the last fold into user_counts.';
alter table laurel_private.user_count_changes enable row level security;

create function laurel_private.utc_day(moment timestamptz)
  returns date language sql immutable parallel safe
  return (moment at time zone 'UTC')::date;

create function laurel_private.tg_users__count()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op <> 'INSERT' then
    insert into laurel_private.user_count_changes (tenant_id, joined_on, users, user_id, attributes)
    values (old.tenant_id, laurel_private.utc_day(old.created_at), -1, case when tg_op = 'UPDATE' then old.id end, old.attributes);
  end if;
  if tg_op <> 'DELETE' then
    insert into laurel_private.user_count_changes (tenant_id, joined_on, users, user_id, attributes)
    values (new.tenant_id, laurel_private.utc_day(new.created_at), 1, new.id, new.attributes);
  end if;
  return null;
end
$$;

create trigger users__count after insert or delete on laurel.users
  for each row execute function laurel_private.tg_users__count();
create trigger users__count_anew after update on laurel.users
  for each row when ((old.created_at, old.attributes) is distinct from (new.created_at, new.attributes))
  execute function laurel_private.tg_users__count();

-- Users with these attributes who were added on these days; null for no bound.
create function laurel_private.count_users(for_tenant uuid, from_on date default null, to_on date default null, filter jsonb default '{}')
  returns bigint language sql stable as $$
  select coalesce(sum(c.users), 0)::bigint
  from (
    select c.users from laurel_private.user_counts c
    where c.tenant_id = for_tenant and c.segment_id = any (laurel_private.matching_segments(for_tenant, filter))
      and c.joined_on >= coalesce(from_on, '-infinity') and c.joined_on <= coalesce(to_on, 'infinity')
    union all
    select c.users from laurel_private.user_count_changes c
    where c.tenant_id = for_tenant and c.attributes @> filter
      and c.joined_on >= coalesce(from_on, '-infinity') and c.joined_on <= coalesce(to_on, 'infinity')) c
$$;

-- Users whose points are folded among others than those with these attributes, or among them though they have other
-- ones by now: 1 for those to be added, -1 for those to be taken off. In any snapshot there is a change
-- of every user who is not where it belongs.
create function laurel_private.moved_users(of_tenant uuid, filter jsonb)
  returns table (user_id text, sign int) language sql stable as $$
  select c.user_id, case when u.attributes @> filter then 1 else -1 end
  from (
    select distinct c.user_id from laurel_private.user_count_changes c
    where filter <> '{}' and c.tenant_id = of_tenant and c.users < 0 and c.user_id is not null) c
  -- One by one through the keys, however many the planner takes the changes for.
  cross join lateral (
    select s.segment_id from laurel_private.user_segments s where s.tenant_id = of_tenant and s.user_id = c.user_id offset 0) s
  cross join lateral (
    select g.attributes from laurel_private.segments g where g.tenant_id = of_tenant and g.id = s.segment_id offset 0) g
  cross join lateral (
    select u.attributes from laurel.users u where u.tenant_id = of_tenant and u.id = c.user_id offset 0) u
  where (u.attributes @> filter) <> (g.attributes @> filter)
$$;
--! EndIncluded users/user_counts.sql
--! Included streaks/streak_settings.sql
-- How a tenant's streaks are judged (S1, S2): one row per tenant. Written by admins, through
-- streak_settings functions alone; read whenever an event may extend a streak. A change takes effect for what
-- happens afterwards: change_streak_settings() first settles every streak by the settings of before.

create table laurel_private.streak_settings (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  id uuid not null default laurel_private.uuid_v7(),
  frequency laurel.streak_frequency not null default 'daily',
  needs_all boolean not null default false,
  has_customization boolean not null default false,
  days_off int[] not null default '{}',
  metric_ids uuid[] not null default '{}',
  metric_thresholds int[] not null default '{}',
  freeze_start_count int,
  freeze_max_count int,
  freeze_earn_interval int,
  freeze_earn_amount int,
  earning_since timestamptz,
  version int not null default 1,
  -- Where the worker stands that revisits all users after a change; null when it is done.
  revisit_after_user_id text collate "C",
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint streak_settings_are_one_per_tenant primary key (tenant_id),
  constraint every_streak_metric_has_a_threshold check (cardinality(metric_ids) = cardinality(metric_thresholds)),
  constraint only_daily_streaks_have_days_off check (frequency = 'daily' or days_off = '{}'),
  constraint a_week_has_a_day_that_counts check (cardinality(days_off) <= 6 and days_off <@ '{0,1,2,3,4,5,6}'),
  constraint freezes_are_configured_together check ((freeze_start_count is null) = (freeze_max_count is null)),
  constraint freeze_start_count_is_within_the_maximum check (freeze_start_count between 0 and freeze_max_count),
  constraint freeze_max_count_is_1_to_100 check (freeze_max_count between 1 and 100),
  constraint freeze_earning_has_interval_and_amount check (
    (freeze_earn_interval is null) = (freeze_earn_amount is null)
    and (freeze_earn_interval is null or freeze_max_count is not null)
    and freeze_earn_interval between 1 and 365 and freeze_earn_amount between 1 and 10)
);

comment on table laurel_private.streak_settings is 'Streak settings, one row per tenant.';
comment on column laurel_private.streak_settings.needs_all is 'ALL (AND) of the metrics must reach their thresholds; otherwise one is enough.';
comment on column laurel_private.streak_settings.version is 'Goes up with every change; answers kept for fast events carry it.';
alter table laurel_private.streak_settings enable row level security;

create function laurel_private.tg_tenants__settle_streaks()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into laurel_private.streak_settings (tenant_id) values (new.id);
  return null;
end
$$;

-- Before tenants__compile by name: compiled rules hold the settings.
create trigger tenants__add_streak_settings after insert on laurel.tenants
  for each row execute function laurel_private.tg_tenants__settle_streaks();

insert into laurel_private.streak_settings (tenant_id) select t.id from laurel.tenants t;

-- The settings as they hold for one user.
create type laurel_private.streak_rule as (
  is_enabled boolean,
  frequency laurel.streak_frequency,
  needs_all boolean,
  days_off int[],
  metric_ids uuid[],
  thresholds numeric[],
  -- Null when freezes are off.
  max_freezes int,
  earn_interval int,
  earn_amount int,
  earning_since timestamptz,
  version int
);

-- A user's own preferences (users/preferences.sql) go before the tenant's settings where the tenant lets them;
-- switching one's streak off is always allowed. Metrics that were archived since count for nobody.
create function laurel_private.streak_rule_for(settings laurel_private.streak_settings, preferences jsonb)
  returns laurel_private.streak_rule language plpgsql stable as $$
declare
  own jsonb := case when settings.has_customization then coalesce(preferences, '{}') else '{}' end;
  rule laurel_private.streak_rule;
begin
  rule := (coalesce((preferences ->> 'enabled')::boolean, true), settings.frequency,
    coalesce(own ->> 'evaluationMode' = 'AND', settings.needs_all), settings.days_off, '{}', '{}',
    settings.freeze_max_count, settings.freeze_earn_interval, settings.freeze_earn_amount, settings.earning_since,
    settings.version)::laurel_private.streak_rule;
  if settings.frequency = 'daily' and jsonb_typeof(own -> 'daysOff') = 'array' then
    rule.days_off := array(select d::int from jsonb_array_elements_text(own -> 'daysOff') d);
  end if;
  if jsonb_typeof(own -> 'metrics') = 'array' and own -> 'metrics' <> '[]' then
    select array_agg(m.id order by m.id), array_agg((o.value ->> 'threshold')::numeric order by m.id)
    into rule.metric_ids, rule.thresholds
    from jsonb_array_elements(own -> 'metrics') o
    join laurel.metrics m on m.tenant_id = settings.tenant_id and m.key = o.value ->> 'key' and m.archived_at is null;
  elsif settings.metric_ids <> '{}' then
    select array_agg(m.id order by m.id), array_agg(s.threshold order by m.id)
    into rule.metric_ids, rule.thresholds
    from unnest(settings.metric_ids, settings.metric_thresholds) s (id, threshold)
    join laurel.metrics m on m.tenant_id = settings.tenant_id and m.id = s.id and m.archived_at is null;
  end if;
  rule.metric_ids := coalesce(rule.metric_ids, '{}');
  rule.thresholds := coalesce(rule.thresholds, '{}');
  return rule;
end
$$;
--! EndIncluded streaks/streak_settings.sql
--! Included streaks/streak_periods.sql
-- What streaks are made of. A period is a day, a week (Sunday to Saturday) or a month of the user's own calendar,
-- named by its first day. Rows are written by the streak step of the flow, by upkeep and by administration, all
-- under the user's lock; they are facts and stay: only a late event turns a bridged period into a satisfied one.

create type laurel_private.streak_period_kind as enum ('satisfied', 'frozen', 'paused', 'off', 'restored', 'reset');

create table laurel_private.streak_periods (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  frequency laurel.streak_frequency not null,
  period_start date not null,
  kind laurel_private.streak_period_kind not null,
  event_id uuid,
  occurred_at timestamptz,
  reset_at timestamptz,
  constraint streak_periods_are_judged_once primary key (tenant_id, user_id, frequency, period_start),
  constraint satisfied_period_has_its_event check ((kind = 'satisfied') = (event_id is not null)),
  constraint streak_period_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

comment on table laurel_private.streak_periods is
  'Periods that count for a streak, or through which one was kept: by a freeze, a pause, a day off or a restoration.';
comment on column laurel_private.streak_periods.event_id is 'The event that satisfied it.';
comment on column laurel_private.streak_periods.reset_at is 'When an administrator set the streak to zero in this period; null otherwise.';
alter table laurel_private.streak_periods enable row level security;

-- A run of consecutive periods: a streak, alive or over. Derived from the periods.
-- Invariant: every period from the first to through_period has a row; as many as length are satisfied.
create table laurel_private.streak_runs (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  frequency laurel.streak_frequency not null,
  first_period date not null,
  last_period date not null,
  through_period date not null,
  length int not null,
  is_over boolean not null,
  is_closed boolean not null,
  extended_at timestamptz not null,
  constraint streak_runs_are_known_by_their_start primary key (tenant_id, user_id, frequency, first_period),
  constraint streak_run_is_in_order check (first_period <= last_period and last_period <= through_period),
  constraint streak_run_has_a_length check (length >= 1),
  constraint streak_run_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
) with (fillfactor = 80);

comment on table laurel_private.streak_runs is 'Streaks, alive or over: from their first period to the last they were kept through.';
comment on column laurel_private.streak_runs.last_period is 'The last satisfied one.';
comment on column laurel_private.streak_runs.through_period is 'The last one it was kept through: satisfied or bridged.';
comment on column laurel_private.streak_runs.is_over is 'Whether the period after through_period was missed.';
comment on column laurel_private.streak_runs.is_closed is 'Set to zero by hand, or by the user switching its streak off: nothing joins it any more.';
alter table laurel_private.streak_runs enable row level security;

-- Where a user's streak stands, as of the last time it was settled. Readers settle what they read up to their own
-- moment (read_streak()), so that it does not matter when the worker last ran (S3).
create table laurel_private.user_streaks (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  frequency laurel.streak_frequency not null,
  length int not null default 0,
  longest int not null default 0,
  extended_at timestamptz,
  freezes int not null default 0,
  earned_on date,
  settled_on date not null,
  due_at timestamptz,
  constraint user_streaks_are_one_per_user primary key (tenant_id, user_id),
  constraint streak_freezes_are_not_negative check (freezes >= 0),
  constraint longest_streak_is_the_longest check (length between 0 and longest),
  constraint user_streak_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
) with (fillfactor = 80);

-- Rankings, and what upkeep has to do.
create index user_streaks_by_length on laurel_private.user_streaks (tenant_id, length desc, extended_at, user_id) where length > 0;
create index user_streaks_by_longest on laurel_private.user_streaks (tenant_id, longest desc, user_id) where longest > 0;
create index user_streaks_by_due on laurel_private.user_streaks (due_at) where due_at is not null;

comment on table laurel_private.user_streaks is 'A user''s streak and freezes, as of settled_on in its own calendar.';
comment on column laurel_private.user_streaks.earned_on is 'The last day on which freezes were due to be earned; null while none are earned.';
comment on column laurel_private.user_streaks.due_at is 'When upkeep has to look next: a period ends that is not satisfied, or freezes are earned. Null for never.';
alter table laurel_private.user_streaks enable row level security;

-- What the events of a period that is not satisfied yet add up to, per metric with a threshold. Kept from the moment
-- the metric is a condition; gone once the period is satisfied.
create table laurel_private.streak_progress (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  frequency laurel.streak_frequency not null,
  period_start date not null,
  metric_id uuid not null,
  total numeric not null,
  constraint streak_progress_is_one_per_metric primary key (tenant_id, user_id, frequency, period_start, metric_id),
  constraint streak_progress_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
) with (fillfactor = 70);

comment on table laurel_private.streak_progress is 'Sums of a period that is not satisfied yet, for metrics with thresholds.';
alter table laurel_private.streak_progress enable row level security;

-- Every change of a user's freezes. Append-only; their sum is what the user holds.
create type laurel_private.streak_freeze_cause as enum ('start', 'granted', 'earned', 'consumed', 'returned');

create table laurel_private.streak_freezes (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  id uuid not null default laurel_private.uuid_v7(),
  cause laurel_private.streak_freeze_cause not null,
  change int not null,
  freezes int not null,
  on_date date not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint streak_freezes_are_in_order primary key (tenant_id, user_id, id),
  constraint streak_freezes_are_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

comment on table laurel_private.streak_freezes is 'Freezes given, earned, used and given back, with how many the user held afterwards.';
comment on column laurel_private.streak_freezes.on_date is 'The day it happened in the user''s calendar; of a used one, the first day of the period it saved.';
alter table laurel_private.streak_freezes enable row level security;

-- Days on which missing does not end the streak. Both bounds included; a period that a pause touches is bridged.
create table laurel_private.streak_pauses (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  user_id text collate "C" not null,
  starts_on date not null,
  ends_on date not null,
  created_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint streak_pauses_have_ids primary key (id),
  constraint streak_pause_ends_after_it_starts check (ends_on >= starts_on),
  constraint streak_pause_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

create index streak_pauses_by_user on laurel_private.streak_pauses (tenant_id, user_id);
comment on table laurel_private.streak_pauses is 'Pauses of users'' streaks; archived ones were taken back.';
alter table laurel_private.streak_pauses enable row level security;

-- The calendar. Weeks begin on Sunday, as the reference's do.
create function laurel_private.streak_period(day date, frequency laurel.streak_frequency)
  returns date language sql immutable parallel safe
  return case frequency when 'daily' then day when 'weekly' then day - extract(dow from day)::int
    else date_trunc('month', day::timestamp)::date end;

create function laurel_private.next_streak_period(period_start date, frequency laurel.streak_frequency)
  returns date language sql immutable parallel safe
  return case frequency when 'daily' then period_start + 1 when 'weekly' then period_start + 7
    else (period_start + interval '1 month')::date end;

-- What one occasion did to a streak: the length it has now, and those of the streaks it was made of; whether it
-- is the present streak that grew.
create type laurel_private.streak_step as (length int, joined int[], extends boolean);

-- TR3: how often a streak trigger fires for it: once for each multiple of its length that the parts have not passed.
-- Almost every step has one part or none; a query, which costs PL/pgSQL a statement of its own, is for the others.
create function laurel_private.streak_firings(step laurel_private.streak_step, threshold int)
  returns numeric language plpgsql immutable parallel safe as $$
begin
  if cardinality(step.joined) > 1 then
    return greatest(step.length / threshold - (select sum(j / threshold) from unnest(step.joined) j), 0);
  end if;
  return greatest(step.length / threshold - coalesce(step.joined[1] / threshold, 0), 0);
end
$$;

-- What keeps a streak through a period without activity, freezes aside; null when nothing does.
create function laurel_private.streak_bridge(rule laurel_private.streak_rule, pauses datemultirange, period_start date)
  returns laurel_private.streak_period_kind language sql immutable parallel safe
  -- A cast of the whole would be stable, which nothing takes in that is said to be immutable.
  return case
    when pauses && daterange(period_start, laurel_private.next_streak_period(period_start, (rule).frequency))
      then 'paused'::laurel_private.streak_period_kind
    when (rule).frequency = 'daily' and extract(dow from period_start)::int = any ((rule).days_off)
      then 'off'::laurel_private.streak_period_kind end;
--! EndIncluded streaks/streak_periods.sql
--! Included users/time_zones.sql
-- The names of pg_timezone_names, kept because reading that view costs tens of milliseconds: it
-- walks the server's time zone files on every use.

create table laurel_private.time_zones (
  name text collate "C" primary key
);

comment on table laurel_private.time_zones is 'Names of time zones, as of the installation.';
alter table laurel_private.time_zones enable row level security;

insert into laurel_private.time_zones select name from pg_timezone_names;

-- Whether this names a time zone (U3). A name that a newer server has learnt since is found too.
create function laurel_private.is_time_zone(name text)
  returns boolean language plpgsql stable as $$
begin
  return exists (select from laurel_private.time_zones z where z.name = is_time_zone.name)
    or (name ~ '^[A-Za-z]+/[A-Za-z0-9_+/-]+$'
      and exists (select from pg_timezone_names z where z.name = is_time_zone.name));
end
$$;

comment on function laurel_private.is_time_zone(text) is
  'Whether this is a name in pg_timezone_names. Rule U3.';
--! EndIncluded users/time_zones.sql
--! Included users/profiles.sql
-- A profile is what a caller knows about a user: a jsonb object with any of email, name, tz,
-- signUpDate, deviceTokens, subscribeToEmails and attributes, as in the REST contract. Given properties
-- change, absent ones stay; attributes merge, and a null value removes the key (U2, U4).

-- The UTC day of a date or an instant; null for other text.
create function laurel_private.day_of(given text)
  returns date language plpgsql stable as $$
begin
  if given !~ '^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2}))?$' then
    return null;
  end if;
  return case when length(given) = 10 then given::date else (given::timestamptz at time zone 'UTC')::date end;
exception
  when datetime_field_overflow or invalid_datetime_format then
    return null;
end
$$;

create function laurel_private.check_profile(tenant_id uuid, profile jsonb)
  returns void language plpgsql stable as $$
declare
  unknown text;
  entry record;
begin
  if jsonb_typeof(profile) is distinct from 'object' then
    perform laurel_private.fail('LR017', null, 'it must be an object');
  end if;
  for entry in select e.key, jsonb_typeof(e.value) as type, e.value #>> '{}' as text from jsonb_each(profile) e loop
    case
      when entry.key in ('email', 'name') then
        if entry.type not in ('string', 'null') then
          perform laurel_private.fail('LR017', entry.key, entry.key || ' must be a string');
        elsif length(entry.text) > 1000 then
          perform laurel_private.fail('LR017', entry.key, entry.key || ' is longer than 1,000 characters');
        end if;
      when entry.key = 'tz' then
        if entry.type not in ('string', 'null') then
          perform laurel_private.fail('LR017', 'tz', 'tz must be a string');
        elsif entry.type = 'string' and not laurel_private.is_time_zone(entry.text) then
          perform laurel_private.fail('LR016', 'tz', left(entry.text, 100));
        end if;
      when entry.key = 'signUpDate' then
        if entry.type <> 'null' and (entry.type <> 'string' or laurel_private.day_of(entry.text) is null) then
          perform laurel_private.fail('LR017', 'signUpDate', 'signUpDate must be a date such as 2026-01-31');
        end if;
      when entry.key = 'subscribeToEmails' then
        if entry.type not in ('boolean', 'null') then
          perform laurel_private.fail('LR017', 'subscribeToEmails', 'subscribeToEmails must be true or false');
        end if;
      when entry.key = 'deviceTokens' then
        if entry.type not in ('array', 'null') or entry.type = 'array' and (
          jsonb_array_length(profile -> 'deviceTokens') > 100
          or exists (
            select from jsonb_array_elements(profile -> 'deviceTokens') t
            where jsonb_typeof(t) <> 'string' or length(t #>> '{}') > 1000)) then
          perform laurel_private.fail('LR017', 'deviceTokens',
            'deviceTokens must be at most 100 strings of at most 1,000 characters');
        end if;
      when entry.key = 'attributes' then
        perform laurel_private.check_attributes(tenant_id, 'user', profile -> 'attributes', true);
      else
        -- `id` comes along when the profile is an event's inline user.
        if entry.key <> 'id' then
          unknown := concat_ws(', ', unknown, left(entry.key, 100));
        end if;
    end case;
  end loop;
  if unknown is not null then
    perform laurel_private.fail('LR017', case when unknown !~ ', ' then unknown end, 'unknown properties: ' || left(unknown, 1000));
  end if;
end
$$;

comment on function laurel_private.check_profile(uuid, jsonb) is
  'Raises LR017, LR016, LR013 or LR012 when a profile breaks rules U2 to U4.';

-- Merges the profile into the locked user's row and returns the user as it is now. A profile that
-- changes nothing, as client libraries send with every event, writes nothing.
create function laurel_private.apply_profile(locked laurel_private.locked_user, profile jsonb)
  returns laurel_private.locked_user language plpgsql volatile as $$
declare
  before laurel.users;
  after laurel.users;
  changes_ticks boolean;
begin
  perform laurel_private.check_profile(locked.tenant_id, profile);
  select u.* into strict before from laurel.users u
  where u.tenant_id = locked.tenant_id and u.id = locked.id;
  after := before;
  if profile ? 'name' then after.name := profile ->> 'name'; end if;
  if profile ? 'tz' then after.tz := profile ->> 'tz'; end if;
  if profile ? 'signUpDate' then
    after.sign_up_on := laurel_private.day_of(profile ->> 'signUpDate');
    if after.sign_up_on > (clock_timestamp() at time zone coalesce(after.tz, 'UTC'))::date then
      perform laurel_private.fail('LR017', 'signUpDate', 'signUpDate lies in the future');
    end if;
  end if;
  if profile ? 'email' then after.email := profile ->> 'email'; end if;
  after.subscribe_to_emails := coalesce((profile ->> 'subscribeToEmails')::boolean, before.subscribe_to_emails);
  -- As the reference does: whoever wants no e-mails has no address stored.
  if not after.subscribe_to_emails then after.email := null; end if;
  if profile ? 'deviceTokens' then
    after.device_tokens := case when jsonb_typeof(profile -> 'deviceTokens') = 'array'
      then nullif(array(select jsonb_array_elements_text(profile -> 'deviceTokens')), '{}') end;
  end if;
  if profile ? 'attributes' then
    after.attributes := jsonb_strip_nulls(before.attributes || (profile -> 'attributes'));
    if after.attributes <> before.attributes then
      after.attributes_version := before.attributes_version + 1;
    end if;
  end if;
  if after is distinct from before then
    changes_ticks := (after.tz, after.attributes) is distinct from (before.tz, before.attributes);
    if changes_ticks then
      perform laurel_private.settle_clocks(locked);
    end if;
    update laurel.users u
    set email = after.email, name = after.name, tz = after.tz, sign_up_on = after.sign_up_on, device_tokens = after.device_tokens,
      subscribe_to_emails = after.subscribe_to_emails, attributes = after.attributes,
      attributes_version = after.attributes_version, updated_at = clock_timestamp()
    where u.tenant_id = locked.tenant_id and u.id = locked.id;
    if changes_ticks then
      perform laurel_private.readjust_clocks((locked.tenant_id, locked.id, coalesce(after.tz, 'UTC'), after.attributes,
        after.attributes_version, locked.is_new)::laurel_private.locked_user);
    end if;
  end if;
  return (locked.tenant_id, locked.id, coalesce(after.tz, 'UTC'), after.attributes, after.attributes_version,
    locked.is_new)::laurel_private.locked_user;
end
$$;

comment on function laurel_private.apply_profile(laurel_private.locked_user, jsonb) is
  'Merges a checked profile into a locked user. Rule U2.';
--! EndIncluded users/profiles.sql
--! Included access/api_keys.sql
-- API keys (K1): `prefix.body`, of which only the prefix and the SHA-256 of the whole key are kept.
-- Written at first start and by the admin API; read by the server, as owner, to authenticate.

create type laurel_private.api_key_kind as enum ('admin', 'application');

create table laurel_private.api_keys (
  id uuid primary key default laurel_private.uuid_v7(),
  kind laurel_private.api_key_kind not null,
  prefix text collate "C" not null,
  key_sha256 bytea not null,
  name text not null default '',
  tenant_id uuid references laurel.tenants on delete cascade,
  user_id laurel.user_id,
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  revoked_at timestamptz,
  constraint key_prefixes_are_unique unique (prefix),
  constraint key_hashes_are_sha256 check (length(key_sha256) = 32),
  constraint application_keys_act_for_one_user_of_one_tenant
    check ((kind = 'application') = (tenant_id is not null) and (kind = 'application') = (user_id is not null))
);

create index api_keys_by_tenant on laurel_private.api_keys (tenant_id);

comment on table laurel_private.api_keys is 'API keys by prefix, hashed.';
comment on column laurel_private.api_keys.tenant_id is 'The tenant of an application key; null for an admin key, which reaches all.';
comment on column laurel_private.api_keys.user_id is 'The user an application key acts for; null for an admin key.';
comment on column laurel_private.api_keys.revoked_at is 'Null while the key works.';
alter table laurel_private.api_keys enable row level security;

-- Stores the key that the first start generated, unless there is an admin key already.
create function laurel_private.create_first_admin_key(prefix text, key_sha256 bytea)
  returns boolean language plpgsql volatile as $$
begin
  -- Two first starts at once: the second waits, then finds the first one's key.
  perform pg_advisory_xact_lock(hashtext('laurel_private.create_first_admin_key'));
  if exists (select from laurel_private.api_keys k where k.kind = 'admin' and k.revoked_at is null) then
    return false;
  end if;
  insert into laurel_private.api_keys (kind, prefix, key_sha256, name)
  values ('admin', prefix, key_sha256, 'first admin key');
  return true;
end
$$;

comment on function laurel_private.create_first_admin_key(text, bytea) is
  'Stores a first admin key; false, and nothing stored, when a working admin key exists. Rule X1.';

-- Stores the admin key given by the environment, whose body may have changed since the last start.
create function laurel_private.ensure_admin_key(prefix text, key_sha256 bytea)
  returns void language sql volatile as $$
  insert into laurel_private.api_keys as k (kind, prefix, key_sha256, name)
  values ('admin', ensure_admin_key.prefix, ensure_admin_key.key_sha256, 'LAUREL_ADMIN_KEY')
  on conflict (prefix) do update set key_sha256 = excluded.key_sha256, revoked_at = null
  where k.kind = 'admin' and (k.key_sha256 <> excluded.key_sha256 or k.revoked_at is not null)
$$;

comment on function laurel_private.ensure_admin_key(text, bytea) is
  'Stores the admin key of LAUREL_ADMIN_KEY, or changes the one with its prefix. Rule X2.';

-- Looked up by the server as owner; the comparison with what the caller sent is made there.
create function laurel_private.find_api_key(prefix text)
  returns table (id uuid, key_sha256 bytea, kind text, customer_id text, user_id text)
  language sql stable as $$
  select k.id, k.key_sha256, k.kind::text, t.customer_id, k.user_id
  from laurel_private.api_keys k
  left join laurel.tenants t on t.id = k.tenant_id
  where k.prefix = find_api_key.prefix and k.revoked_at is null and t.archived_at is null
$$;

comment on function laurel_private.find_api_key(text) is
  'The working key with this prefix: its hash, kind (admin, application), and the tenant and user of an application key. Rule K1.';
--! EndIncluded access/api_keys.sql
--! Included metrics/metrics.sql
-- A metric is something users do that is counted (E1). Written by admins; read by every event.

create table laurel.metrics (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  key laurel.key not null,
  name text not null,
  unit_type laurel.unit_type not null default 'number',
  units text not null default '',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint metric_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint metric_units_are_at_most_255_characters check (length(units) <= 255),
  constraint metric_currency_is_a_three_letter_code check (unit_type <> 'currency' or units ~ '^[A-Z]{3}$'),
  constraint metrics_are_referred_to_within_their_tenant unique (tenant_id, id)
);

-- Archived metrics keep their events; their key can be used again (RP5).
create unique index metric_keys_are_unique on laurel.metrics (tenant_id, key) where archived_at is null;

comment on table laurel.metrics is 'Something your users do that is counted: words written, orders placed.';
comment on column laurel.metrics.units is 'What one is called, or the currency''s three-letter code; may be empty.';
comment on column laurel.metrics.archived_at is 'Null while in use. An archived metric takes no events.';
comment on constraint metric_name_is_1_to_255_characters on laurel.metrics is 'A metric''s name has 1 to 255 characters.';
comment on constraint metric_units_are_at_most_255_characters on laurel.metrics is 'A metric''s units have at most 255 characters.';
comment on constraint metric_currency_is_a_three_letter_code on laurel.metrics is
  'A currency metric''s units are a three-letter currency code such as USD.';
comment on index laurel.metric_keys_are_unique is 'Another metric already has this key.';

call laurel_private.secure_table('laurel.metrics', 'configuration', public => 'archived_at is null');
grant insert (key, name, unit_type, units), update (name, unit_type, units, archived_at)
  on laurel.metrics to laurel_admin;
--! EndIncluded metrics/metrics.sql
--! Included metrics/metric_events.sql
-- An event: a user did something, counted on a metric (E2). Written by callers (INSERT, COPY) and by
-- laurel.record_event(); read by summaries, analytics and verify(). Append-only for callers.
--
-- Two levels of partitioning. laurel.metric_events is what callers name; its statement trigger
-- runs the flow for whatever a statement inserted. All its rows live in its one partition,
-- laurel_private.metric_event_log, which is partitioned by month. record_event(), which has run
-- the flow itself, inserts there, one level below the trigger.
--
-- An event's place in its user's history is the order of IDs: the flow sees to it that a user's
-- events on a metric carry IDs in the order in which they were applied.
--
-- Like all tables that an event writes, it has plain types and no checks: PostgreSQL parses a
-- table's checks and domains anew for every statement, 5 to 15 µs each, where a whole event takes
-- about 480. check_event() refuses what no event may be, and decide_points() makes what the rest hold.

create table laurel.metric_events (
  id uuid not null default laurel_private.quick_uuid_v7(),
  tenant_id uuid not null,
  user_id text collate "C" not null,
  metric_id uuid not null,
  metric_key text collate "C" not null,
  value numeric not null default 1,
  attributes jsonb not null default '{}',
  idempotency_key text collate "C",
  occurred_at timestamptz not null default now(),
  constraint events_are_ordered_per_user_and_metric primary key (tenant_id, user_id, metric_id, id)
) partition by range (id);

create table laurel_private.metric_event_log partition of laurel.metric_events
  for values from (minvalue) to (maxvalue) partition by range (id);

create table laurel_private.metric_events_default partition of laurel_private.metric_event_log default;

comment on table laurel.metric_events is
  'What users did. INSERT (metric_key, user_id, value, attributes, idempotency_key, occurred_at): all but the first two have defaults. Rule Q1.';
comment on column laurel.metric_events.id is 'UUID version 7: its time is when the event was written; increasing in the order in which a user''s events on a metric were applied.';
comment on column laurel.metric_events.metric_id is 'The metric that had this key when the event was recorded.';
comment on column laurel.metric_events.value is 'How much: positive, negative or zero; exact.';
comment on column laurel.metric_events.attributes is 'Declared event attributes with their values.';
comment on column laurel.metric_events.idempotency_key is
  'Counts once per user and metric, for ever; null when the caller gave none.';
comment on column laurel.metric_events.occurred_at is 'When it happened; may lie in the past, at most 24 hours in the future.';

call laurel_private.secure_table('laurel.metric_events', 'user_data');
grant insert (metric_key, user_id, value, attributes, idempotency_key, occurred_at)
  on laurel.metric_events to laurel_admin, laurel_service;
create policy services_insert on laurel.metric_events for insert to laurel_admin, laurel_service
  with check (tenant_id = (select laurel.current_tenant_id()));
alter table laurel_private.metric_event_log enable row level security;
alter table laurel_private.metric_events_default enable row level security;

-- An idempotency key that was used: by an event of a user on a metric, or by an adjustment of a
-- user in a points system (E4, Q3). Written under the user's lock; never forgotten.
create table laurel_private.idempotency_keys (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  scope_id uuid not null,
  key text collate "C" not null,
  result_id uuid,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_count_once primary key (tenant_id, user_id, scope_id, key),
  constraint idempotency_keys_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
);

comment on table laurel_private.idempotency_keys is 'Keys already used, per user and metric or points system.';
comment on column laurel_private.idempotency_keys.scope_id is 'The metric or points system the key was used with.';
comment on column laurel_private.idempotency_keys.result_id is
  'The event or award it led to; null for an adjustment that changed nothing.';
alter table laurel_private.idempotency_keys enable row level security;
--! EndIncluded metrics/metric_events.sql
--! Included metrics/latest_events.sql
-- What came last, for people who watch: by arrival, which is the order of IDs, whatever time the events are dated.

-- Events lie in the order in which they came, so that the smallest of indexes finds those of a span of time: one entry
-- for each 32 pages, where a tree by tenant and ID would have one for each event.
create index metric_events_by_arrival on laurel.metric_events using brin (id) with (pages_per_range = 32);

-- A definer, since roles may not use what is private; of the caller's tenant alone. Looks back further only when too little came; 31 days at most, or a tenant where nothing
-- happens would have all events of the others read.
create function laurel.latest_events(most int default 20, user_id text default null)
  returns setof laurel.metric_events language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  bound constant int := least(greatest(coalesce(most, 20), 0), 100);
  span interval;
  latest laurel.metric_events[];
begin
  if latest_events.user_id is not null then
    return query
      select e.* from laurel.metric_events e
      where e.tenant_id = (select laurel.current_tenant_id()) and e.user_id = latest_events.user_id
      order by e.id desc limit bound;
    return;
  end if;
  foreach span in array array['1 minute', '1 hour', '1 day', '31 days']::interval[] loop
    latest := array(
      select e from laurel.metric_events e
      where e.tenant_id = (select laurel.current_tenant_id()) and e.id >= laurel_private.first_uuid_v7(now() - span)
      order by e.id desc limit bound);
    exit when cardinality(latest) >= bound;
  end loop;
  return query select l.* from unnest(latest) l order by l.id desc;
end
$$;

comment on function laurel.latest_events(int, text) is
  'The events that came last, at most so many (100), the latest first, by when they arrived rather than by when they are said to have occurred: of one user, or of all in the last 31 days.';
grant execute on function laurel.latest_events(int, text) to laurel_admin, laurel_service;
--! EndIncluded metrics/latest_events.sql
--! Included metrics/user_metrics.sql
-- A user's total on a metric and the highest it ever was (E3): a view of laurel_private.user_states.
-- Invariant: total is the sum of the user's events on the metric, peak its highest running sum in
-- order of IDs, from 0 (verify() checks).

create view laurel.user_metrics with (security_invoker = true, security_barrier = true) as
  select s.tenant_id, s.user_id, x.metric_id, m.key::text collate "C" as metric_key, x.total, x.peak, x.last_event_id
  from laurel_private.user_states s
  cross join lateral unnest(s.metric_ids, s.metric_totals, s.metric_peaks, s.last_event_ids)
    as x (metric_id, total, peak, last_event_id)
  join laurel.metrics m on m.id = x.metric_id;

comment on view laurel.user_metrics is 'A user''s total on a metric.';
comment on column laurel.user_metrics.total is 'Sum of the user''s event values on the metric.';
comment on column laurel.user_metrics.peak is 'The highest total ever reached, from 0. Metric triggers count by it. Rule TR2.';
comment on column laurel.user_metrics.last_event_id is 'The event applied last: the highest ID.';
grant select on laurel.user_metrics to laurel_admin, laurel_service, laurel_user;
--! EndIncluded metrics/user_metrics.sql
--! Included achievements/achievements.sql
-- An achievement is completed at most once per user, for ever (A1). Written by admins; compiled into
-- points_rules, which the flow reads; completions are in user_achievements.sql.

create table laurel.achievements (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  key laurel.key,
  name text not null,
  description text,
  badge_url text,
  kind laurel.achievement_kind not null,
  status laurel.achievement_status not null default 'inactive',
  metric_id uuid,
  metric_value numeric,
  streak_length int,
  years int,
  prerequisite_ids uuid[] not null default '{}',
  user_attributes laurel.attribute_values not null default '{}',
  event_attributes laurel.attribute_values not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint achievement_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint api_achievement_has_a_key check (kind <> 'api' or key is not null),
  constraint metric_achievement_names_metric_and_value
    check ((kind = 'metric') = (metric_id is not null) and (kind = 'metric') = (metric_value is not null)),
  constraint achievement_metric_value_is_at_least_1 check (metric_value >= 1 and metric_value < 1e15),
  constraint streak_achievement_has_a_length
    check ((kind = 'streak') = (streak_length is not null) and streak_length >= 1),
  constraint anniversary_achievement_has_years
    check ((kind = 'anniversary') = (years is not null) and years >= 1),
  constraint composite_achievement_names_prerequisites
    check ((kind = 'achievement') = (prerequisite_ids <> '{}') and cardinality(prerequisite_ids) <= 100),
  constraint only_metric_achievements_filter_events check (kind = 'metric' or event_attributes = '{}'),
  constraint achievements_are_referred_to_within_their_tenant unique (tenant_id, id),
  constraint achievement_metric_is_of_the_same_tenant foreign key (tenant_id, metric_id)
    references laurel.metrics (tenant_id, id) on delete restrict
);

create unique index achievement_keys_are_unique on laurel.achievements (tenant_id, key)
  where status <> 'archived';
create index achievements_by_metric on laurel.achievements (tenant_id, metric_id);

comment on table laurel.achievements is 'Something a user can achieve once.';
comment on column laurel.achievements.kind is
  'What completes it: a metric total, a streak length, a call (api), other achievements, or years since sign-up.';
comment on column laurel.achievements.key is 'Names the achievement in calls; null when nobody calls it.';
comment on column laurel.achievements.description is 'Null when none was given.';
comment on column laurel.achievements.badge_url is 'Null when there is no badge.';
comment on column laurel.achievements.metric_id is 'The metric of a metric achievement; null for other kinds.';
comment on column laurel.achievements.metric_value is 'The total that completes a metric achievement; null for other kinds.';
comment on column laurel.achievements.streak_length is 'The length that completes a streak achievement; null for other kinds.';
comment on column laurel.achievements.years is 'Years since sign-up that complete an anniversary; null for other kinds.';
comment on column laurel.achievements.prerequisite_ids is
  'The achievements whose completion completes a composite one; {} for other kinds. Without circles.';
comment on constraint achievement_name_is_1_to_255_characters on laurel.achievements is 'The name has 1 to 255 characters.';
comment on constraint api_achievement_has_a_key on laurel.achievements is 'An achievement that calls complete has a key.';
comment on constraint metric_achievement_names_metric_and_value on laurel.achievements is
  'A metric achievement, and no other, has a metric and a metric value.';
comment on constraint achievement_metric_value_is_at_least_1 on laurel.achievements is
  'The metric value is at least 1, with at most 15 digits before the point.';
comment on constraint streak_achievement_has_a_length on laurel.achievements is
  'A streak achievement, and no other, has a streak length, of at least 1.';
comment on constraint anniversary_achievement_has_years on laurel.achievements is
  'An anniversary achievement, and no other, has a number of years, of at least 1.';
comment on constraint composite_achievement_names_prerequisites on laurel.achievements is
  'An achievement of achievements, and no other, has prerequisites, at most 100.';
comment on constraint only_metric_achievements_filter_events on laurel.achievements is
  'Only metric achievements can filter on event attributes.';
comment on constraint achievement_metric_is_of_the_same_tenant on laurel.achievements is 'The metric does not exist.';
comment on index laurel.achievement_keys_are_unique is 'Another achievement already has this key.';

call laurel_private.secure_table('laurel.achievements', 'configuration', public => $$status in ('active', 'locked')$$);

grant insert (key, name, description, badge_url, kind, status, metric_id, metric_value, streak_length, years,
    prerequisite_ids, user_attributes, event_attributes),
  update (key, name, description, badge_url, kind, status, metric_id, metric_value, streak_length, years,
    prerequisite_ids, user_attributes, event_attributes)
  on laurel.achievements to laurel_admin;

create function laurel_private.tg_achievements__check()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  unknown uuid;
begin
  if tg_op = 'UPDATE' and old.status = 'archived' then
    perform laurel_private.fail('LR020', 'status', 'An archived achievement cannot be changed.');
  end if;
  if new.status = 'archived' then
    if exists (
      select from laurel.achievements a
      where a.tenant_id = new.tenant_id and a.status <> 'archived' and new.id = any (a.prerequisite_ids)) then
      perform laurel_private.fail('LR020', null,
        format('The achievement %s is a prerequisite of another; change that first.', new.name));
    elsif exists (
      select from laurel.points_triggers t
      join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
      where t.tenant_id = new.tenant_id and t.achievement_id = new.id and t.status = 'active') then
      perform laurel_private.fail('LR020', null,
        format('The achievement %s is used by an active points trigger; deactivate or delete the trigger first.', new.name));
    end if;
    return new;
  end if;
  perform laurel_private.check_attributes(new.tenant_id, 'user', new.user_attributes, false, 'user_attributes');
  perform laurel_private.check_attributes(new.tenant_id, 'event', new.event_attributes, false, 'event_attributes');
  if exists (select from laurel.metrics m where m.id = new.metric_id and m.archived_at is not null) then
    perform laurel_private.fail('LR020', 'metric_id', 'The metric does not exist.');
  end if;
  if new.prerequisite_ids <> '{}' then
    select p.id into unknown from unnest(new.prerequisite_ids) p (id)
    where not exists (
      select from laurel.achievements a
      where a.tenant_id = new.tenant_id and a.id = p.id and a.status <> 'archived')
    limit 1;
    if unknown is not null then
      perform laurel_private.fail('LR020', 'prerequisite_ids', format('No achievement has the ID %s.', unknown));
    elsif (select count(distinct p.id) < cardinality(new.prerequisite_ids) from unnest(new.prerequisite_ids) p (id)) then
      perform laurel_private.fail('LR020', 'prerequisite_ids', 'A prerequisite is named twice.');
    end if;
    -- One change at a time per tenant (configuration_rules.sql): two cannot close a circle together.
    if exists (
      with recursive needed (id) as (
        select p.id from unnest(new.prerequisite_ids) p (id)
        union
        select p.id from needed n
        join laurel.achievements a on a.id = n.id
        cross join lateral unnest(a.prerequisite_ids) p (id))
      select from needed n where n.id = new.id) then
      perform laurel_private.fail('LR020', 'prerequisite_ids', 'An achievement cannot need itself, directly or through others.');
    end if;
  end if;
  return new;
end
$$;

create trigger achievements__check before insert or update on laurel.achievements
  for each row execute function laurel_private.tg_achievements__check();

-- What a user has to do for it, as responses show achievements; `achievedAt` is put in by the reader.
create function laurel_private.achievement_as_json(a laurel.achievements)
  returns jsonb language plpgsql stable parallel safe as $$
begin
  return jsonb_build_object('id', a.id, 'name', a.name, 'trigger', a.kind, 'description', a.description, 'badgeUrl', a.badge_url,
      -- Older client libraries refuse to parse an achievement without a key: empty for those that have none.
      'key', coalesce(a.key, ''), 'userAttributes', laurel_private.attribute_pairs(a.user_attributes))
    || case a.kind
      when 'metric' then jsonb_build_object('metricId', a.metric_id, 'metricValue', trim_scale(a.metric_value),
        'metricName', (select m.name from laurel.metrics m where m.id = a.metric_id),
        'eventAttributes', laurel_private.attribute_pairs(a.event_attributes))
        || case when a.event_attributes = '{}' then '{}'
          else jsonb_build_object('eventAttribute', laurel_private.attribute_pairs(a.event_attributes) -> 0) end
      when 'streak' then jsonb_build_object('streakLength', a.streak_length)
      when 'achievement' then jsonb_build_object('achievementIds', a.prerequisite_ids)
      when 'anniversary' then jsonb_build_object('anniversaryYears', a.years)
      else '{}' end;
end
$$;
--! EndIncluded achievements/achievements.sql
--! Included achievements/user_achievements.sql
-- Completions: who has achieved what, and when (A1). Written by apply_effects.sql alone, under the
-- user's lock; read by the flow, which completes nothing twice, and by callers.
-- Invariant: a completion is never taken back (verify() checks that none is missing).

create table laurel.user_achievements (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  achievement_id uuid not null,
  id uuid not null default laurel_private.uuid_v7(),
  achieved_at timestamptz not null,
  event_id uuid,
  is_silent boolean not null default false,
  constraint achievements_are_completed_once primary key (tenant_id, user_id, achievement_id),
  constraint completion_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

-- Counts per achievement, for its rarity (A4). The tenant comes last: led by it, a plan made among few rows would look for
-- a user's completions here, among everybody's.
create index user_achievements_by_achievement on laurel.user_achievements (achievement_id, tenant_id);

comment on table laurel.user_achievements is 'Achievements that users have completed. Rule A1.';
comment on column laurel.user_achievements.id is 'The completion''s own ID.';
comment on column laurel.user_achievements.achieved_at is 'When: the moment of the event or the call that completed it.';
comment on column laurel.user_achievements.event_id is 'The event that completed it; null when none did.';
comment on column laurel.user_achievements.is_silent is
  'Whether it was completed in the background, for users who qualified already when the achievement became active. Rule A3.';
call laurel_private.secure_table('laurel.user_achievements', 'user_data');

-- How much of an achievement that filters events its user has: the sum of the matching events.
-- Kept from the first such event on; before that it is summed from the log.
create table laurel_private.achievement_counts (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  achievement_id uuid not null,
  count numeric not null,
  constraint achievement_counts_are_one_per_user primary key (tenant_id, user_id, achievement_id),
  constraint achievement_count_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
) with (fillfactor = 80);

comment on table laurel_private.achievement_counts is 'Sums of matching events, for metric achievements with event filters.';
alter table laurel_private.achievement_counts enable row level security;
--! EndIncluded achievements/user_achievements.sql
--! Included points/points_systems.sql
-- A points system: XP, energy, coins (P1). Written by admins; compiled into points_rules.

create table laurel.points_systems (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  key laurel.key not null,
  name text not null,
  description text,
  badge_url text,
  max_points int,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint points_system_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint points_system_description_is_at_most_2000_characters check (length(description) <= 2000),
  constraint points_system_badge_url_is_at_most_2000_characters check (length(badge_url) <= 2000),
  constraint max_points_is_at_least_1 check (max_points >= 1),
  constraint points_systems_are_referred_to_within_their_tenant unique (tenant_id, id)
);

-- Archived systems keep their ledger; their key can be used again (RP5).
create unique index points_system_keys_are_unique on laurel.points_systems (tenant_id, key)
  where archived_at is null;

comment on table laurel.points_systems is 'A kind of points with its own rules, balances and ledger.';
comment on column laurel.points_systems.max_points is 'The cap on every user''s total; null means none but 2^53 - 1. Rule P2.';
comment on column laurel.points_systems.description is 'Null when none was given.';
comment on column laurel.points_systems.badge_url is 'Null when there is no badge.';
comment on column laurel.points_systems.archived_at is 'Null while active. An archived system awards nothing and is gone for callers.';
comment on constraint points_system_name_is_1_to_255_characters on laurel.points_systems is 'A points system''s name has 1 to 255 characters.';
comment on constraint points_system_description_is_at_most_2000_characters on laurel.points_systems is 'A points system''s description has at most 2,000 characters.';
comment on constraint points_system_badge_url_is_at_most_2000_characters on laurel.points_systems is 'A badge URL has at most 2,000 characters.';
comment on constraint max_points_is_at_least_1 on laurel.points_systems is 'The maximum points are at least 1.';
comment on index laurel.points_system_keys_are_unique is 'Another points system already has this key.';

call laurel_private.secure_table('laurel.points_systems', 'configuration', public => 'archived_at is null');
grant insert (key, name, description, badge_url, max_points),
  update (name, description, badge_url, max_points, archived_at)
  on laurel.points_systems to laurel_admin;
--! EndIncluded points/points_systems.sql
--! Included leaderboards/leaderboards.sql
-- A leaderboard ranks users by what they add to a metric, by the points they earn or by their streak
-- (LB1). Written by admins; compiled into points_rules, which the flow reads; who stands where is in
-- leaderboard_entries.sql.
--
-- Its days are each user's own: an event counts on the date, and within the daily time window, that
-- it has in its user's time zone. A repeating leaderboard starts anew with every run of run_interval
-- days, months or years from starts_on. A run is final once its last day is over in every time zone,
-- 12 hours after it is in UTC: what is recorded later changes nothing any more.

create type laurel.leaderboard_rank_by as enum ('metric', 'points', 'streak');
create type laurel.leaderboard_status as enum ('inactive', 'active', 'finished', 'archived');
create type laurel.leaderboard_run_unit as enum ('day', 'month', 'year');
grant usage on type laurel.leaderboard_rank_by, laurel.leaderboard_status, laurel.leaderboard_run_unit
  to laurel_admin, laurel_service, laurel_user;
comment on type laurel.leaderboard_rank_by is 'What users are ranked by. Rule LB1.';
comment on type laurel.leaderboard_status is 'Only active leaderboards count; an active one shows as scheduled until its start date has come somewhere. Rule LB1.';
comment on type laurel.leaderboard_run_unit is 'What the length of a run is counted in. Rule LB1.';

create table laurel.leaderboards (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  key laurel.key not null,
  name text not null,
  description text,
  status laurel.leaderboard_status not null default 'inactive',
  rank_by laurel.leaderboard_rank_by not null,
  metric_id uuid,
  system_id uuid,
  max_participants int not null default 1000,
  starts_on date not null default (now() at time zone 'UTC')::date,
  ends_on date,
  start_time time(0),
  end_time time(0),
  breakdown_attributes text[] not null default '{}',
  run_unit laurel.leaderboard_run_unit,
  run_interval int,
  generation int not null default 0,
  activated_at timestamptz,
  finished_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint leaderboard_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint metric_leaderboard_names_a_metric check ((rank_by = 'metric') = (metric_id is not null)),
  constraint points_leaderboard_names_a_points_system check ((rank_by = 'points') = (system_id is not null)),
  constraint leaderboard_has_1_to_1000_participants check (max_participants between 1 and 1000),
  constraint leaderboard_dates_are_in_reach
    check (starts_on between date '1900-01-01' and date '9000-01-01' and ends_on <= date '9000-01-01'),
  constraint leaderboard_end_is_not_before_start check (ends_on >= starts_on),
  constraint leaderboard_time_window_is_not_empty check (start_time <> end_time),
  constraint leaderboard_run_has_unit_and_interval
    check ((run_unit is null) = (run_interval is null) and run_interval between 1 and 10000),
  constraint streak_leaderboard_is_perpetual
    check (rank_by <> 'streak' or run_unit is null and start_time is null and end_time is null),
  constraint leaderboard_has_at_most_10_breakdown_attributes check (cardinality(breakdown_attributes) <= 10),
  constraint leaderboard_that_counts_was_activated
    check ((activated_at is not null) or status in ('inactive', 'archived')),
  constraint leaderboards_are_referred_to_within_their_tenant unique (tenant_id, id),
  constraint leaderboard_metric_is_of_the_same_tenant foreign key (tenant_id, metric_id)
    references laurel.metrics (tenant_id, id) on delete restrict,
  constraint leaderboard_system_is_of_the_same_tenant foreign key (tenant_id, system_id)
    references laurel.points_systems (tenant_id, id) on delete restrict
);

create unique index leaderboard_keys_are_unique on laurel.leaderboards (tenant_id, key) where status <> 'archived';
create index leaderboards_by_metric on laurel.leaderboards (tenant_id, metric_id);
create index leaderboards_by_system on laurel.leaderboards (tenant_id, system_id);

comment on table laurel.leaderboards is 'A competition that ranks users.';
comment on column laurel.leaderboards.description is 'Null when none was given.';
comment on column laurel.leaderboards.rank_by is
  'Metric: what users add to it. Points: what they earn in the system. Both from the start date, and within the run, on. Streak: its length.';
comment on column laurel.leaderboards.metric_id is 'The metric that is ranked by; null unless rank_by is metric.';
comment on column laurel.leaderboards.system_id is 'The points system that is ranked by; null unless rank_by is points.';
comment on column laurel.leaderboards.max_participants is
  'Ranks beyond this are not on the leaderboard; whoever surpasses its last rank is. With breakdown attributes it holds for each group.';
comment on column laurel.leaderboards.starts_on is 'The first day, in each user''s time zone. What happened since counts, however late the leaderboard is activated.';
comment on column laurel.leaderboards.ends_on is 'The last day, in each user''s time zone; null when it never ends.';
comment on column laurel.leaderboards.start_time is
  'Only what happens at or after this time of day, in the user''s time zone, counts; null without such a limit. After end_time: the window passes midnight.';
comment on column laurel.leaderboards.end_time is 'Only what happens before this time of day, in the user''s time zone, counts; null without such a limit.';
comment on column laurel.leaderboards.breakdown_attributes is
  'User attributes, by key: users with the same values of all of them are ranked among each other. {} ranks everybody together.';
comment on column laurel.leaderboards.run_unit is 'Null for a perpetual leaderboard.';
comment on column laurel.leaderboards.run_interval is 'How many units a run lasts; null for a perpetual leaderboard.';
comment on column laurel.leaderboards.generation is 'Goes up with every activation, which counts anew.';
comment on column laurel.leaderboards.activated_at is 'When it was activated last; null before.';
comment on column laurel.leaderboards.finished_at is 'Since when nothing counts any more; null while something may.';
comment on constraint leaderboard_name_is_1_to_255_characters on laurel.leaderboards is 'The name has 1 to 255 characters.';
comment on constraint metric_leaderboard_names_a_metric on laurel.leaderboards is 'A leaderboard that ranks by metric, and no other, names a metric.';
comment on constraint points_leaderboard_names_a_points_system on laurel.leaderboards is
  'A leaderboard that ranks by points, and no other, names a points system.';
comment on constraint leaderboard_has_1_to_1000_participants on laurel.leaderboards is 'A leaderboard has 1 to 1,000 participants.';
comment on constraint leaderboard_dates_are_in_reach on laurel.leaderboards is 'The dates lie between the years 1900 and 9000.';
comment on constraint leaderboard_end_is_not_before_start on laurel.leaderboards is 'A leaderboard cannot end before it starts.';
comment on constraint leaderboard_time_window_is_not_empty on laurel.leaderboards is 'The start time and the end time differ.';
comment on constraint leaderboard_run_has_unit_and_interval on laurel.leaderboards is
  'A repeating leaderboard has a run unit and a run interval of 1 to 10,000, another neither.';
comment on constraint streak_leaderboard_is_perpetual on laurel.leaderboards is 'A streak leaderboard neither repeats nor has a daily time window.';
comment on constraint leaderboard_has_at_most_10_breakdown_attributes on laurel.leaderboards is 'A leaderboard has at most 10 breakdown attributes.';
comment on constraint leaderboard_that_counts_was_activated on laurel.leaderboards is 'A leaderboard that counts has been activated.';
comment on constraint leaderboard_metric_is_of_the_same_tenant on laurel.leaderboards is 'The metric does not exist.';
comment on constraint leaderboard_system_is_of_the_same_tenant on laurel.leaderboards is 'The points system does not exist.';
comment on index laurel.leaderboard_keys_are_unique is 'Another leaderboard already has this key.';

call laurel_private.secure_table('laurel.leaderboards', 'configuration', public => $$status in ('active', 'finished')$$);
grant insert (key, name, description, status, rank_by, metric_id, system_id, max_participants, starts_on, ends_on, start_time,
    end_time, breakdown_attributes, run_unit, run_interval),
  update (key, name, description, status, rank_by, metric_id, system_id, max_participants, starts_on, ends_on, start_time,
    end_time, breakdown_attributes, run_unit, run_interval)
  on laurel.leaderboards to laurel_admin;

-- From this moment on a day has not yet begun anywhere, not even for events that occur a day ahead
-- of their recording (E8); 14 hours is how far time zones are ahead of UTC.
create function laurel_private.first_day_untouched(as_of timestamptz)
  returns date language sql immutable parallel safe
  return ((as_of + interval '38 hours') at time zone 'UTC')::date + 1;

create function laurel_private.tg_leaderboards__check()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  before laurel.leaderboards := case when tg_op = 'UPDATE' then old end;
  unknown text;
begin
  if before.status = 'archived' then
    perform laurel_private.fail('LR020', 'status', 'An archived leaderboard cannot be changed.');
  elsif new.status = 'archived' then
    return new;
  elsif before.status in ('active', 'finished') and (
    before.key, before.rank_by, before.metric_id, before.system_id, before.starts_on, before.start_time, before.end_time,
      before.breakdown_attributes, before.run_unit, before.run_interval)
    is distinct from (new.key, new.rank_by, new.metric_id, new.system_id, new.starts_on, new.start_time, new.end_time,
      new.breakdown_attributes, new.run_unit, new.run_interval)
  then
    perform laurel_private.fail('LR020', 'status',
      'What a leaderboard ranks by, its key, start, time window, breakdown and runs can only be changed while it is inactive.');
  elsif before.status in ('active', 'finished') and new.status <> 'inactive' and before.ends_on is distinct from new.ends_on
    and (before.status = 'finished'
      or least(before.ends_on, new.ends_on) < laurel_private.first_day_untouched(clock_timestamp()))
  then
    -- What was counted, or left out, by the old date stays as it is.
    perform laurel_private.fail('LR020', 'ends_on',
      'While a leaderboard is active its end date can only be changed from and to days that are two days ahead.');
  elsif before.status = 'finished' and new.status = 'active' then
    perform laurel_private.fail('LR020', 'status', 'A finished leaderboard can only be made inactive first.');
  end if;
  if exists (select from laurel.metrics m where m.id = new.metric_id and m.archived_at is not null) then
    perform laurel_private.fail('LR020', 'metric_id', 'The metric does not exist.');
  elsif exists (select from laurel.points_systems s where s.id = new.system_id and s.archived_at is not null) then
    perform laurel_private.fail('LR020', 'system_id', 'The points system does not exist.');
  end if;
  select a.key into unknown from unnest(new.breakdown_attributes) a (key)
  where not exists (
    select from laurel.attributes x where x.tenant_id = new.tenant_id and x.type = 'user' and x.key = a.key)
  limit 1;
  if unknown is not null or array_position(new.breakdown_attributes, null) is not null then
    perform laurel_private.fail('LR012', 'breakdown_attributes', left(coalesce(unknown, 'null'), 255));
  elsif (select count(distinct a.key) < cardinality(new.breakdown_attributes) from unnest(new.breakdown_attributes) a (key)) then
    perform laurel_private.fail('LR020', 'breakdown_attributes', 'A breakdown attribute is named twice.');
  end if;
  if new.status in ('active', 'finished') and coalesce(before.status, 'inactive') = 'inactive' then
    new.generation := coalesce(before.generation, 0) + 1;
    new.activated_at := clock_timestamp();
    new.finished_at := null;
  end if;
  if new.status = 'finished' and before.status is distinct from 'finished' then
    new.finished_at := coalesce(new.finished_at, clock_timestamp());
  end if;
  return new;
end
$$;

create trigger leaderboards__check before insert or update on laurel.leaderboards
  for each row execute function laurel_private.tg_leaderboards__check();

-- A leaderboard as the flow needs it.
create type laurel_private.leaderboard_rule as (
  leaderboard_id uuid,
  generation int,
  rank_by laurel.leaderboard_rank_by,
  -- The metric or points system that feeds it; null for a streak.
  source_id uuid,
  starts_on date,
  ends_on date,
  start_time time,
  end_time time,
  run_unit laurel.leaderboard_run_unit,
  run_interval int,
  breakdown_attributes text[],
  max_participants int,
  activated_at timestamptz,
  -- Null in compiled rules: what is finished feeds from nothing.
  finished_at timestamptz
);

create function laurel_private.rule_of(board laurel.leaderboards)
  returns laurel_private.leaderboard_rule language sql immutable parallel safe
  return (board.id, board.generation, board.rank_by, coalesce(board.metric_id, board.system_id), board.starts_on, board.ends_on,
    board.start_time, board.end_time, board.run_unit, board.run_interval, board.breakdown_attributes, board.max_participants,
    board.activated_at, board.finished_at)::laurel_private.leaderboard_rule;

-- The first day of the nth run, from 0. Months are counted from the start date, so that one that
-- starts on the 31st goes on with the last days of shorter months.
create function laurel_private.nth_run(board laurel_private.leaderboard_rule, n int)
  returns date language sql immutable parallel safe
  return case
    when n is null then null
    when (board).run_unit is null then (board).starts_on
    when (board).run_unit = 'day' then (board).starts_on + n * (board).run_interval
    else ((board).starts_on + make_interval(months => n * (board).run_interval * case (board).run_unit when 'year' then 12 else 1 end))::date end;

-- The number of the run that a day lies in; null when it lies in none.
create function laurel_private.run_number(board laurel_private.leaderboard_rule, day date)
  returns int language plpgsql immutable parallel safe as $$
declare
  n int;
begin
  if day is null or day < board.starts_on or day > board.ends_on then
    return null;
  elsif board.run_unit is null then
    return 0;
  elsif board.run_unit = 'day' then
    return (day - board.starts_on) / board.run_interval;
  end if;
  n := ((extract(year from day) - extract(year from board.starts_on)) * 12
      + extract(month from day) - extract(month from board.starts_on))::int
    / (board.run_interval * case board.run_unit when 'year' then 12 else 1 end);
  return case when laurel_private.nth_run(board, n) > day then n - 1 else n end;
end
$$;

-- A run: its first day, by which it is known, and its last; null when it never ends.
create type laurel_private.leaderboard_run as (run_on date, last_day date);

-- The run that a day lies in; when it lies in none, one of nulls but for the leaderboard's end.
create function laurel_private.run_at(board laurel_private.leaderboard_rule, day date)
  returns laurel_private.leaderboard_run language plpgsql immutable parallel safe as $$
declare
  n int := laurel_private.run_number(board, day);
begin
  if board.run_unit is null then
    return (laurel_private.nth_run(board, n), board.ends_on)::laurel_private.leaderboard_run;
  end if;
  return (laurel_private.nth_run(board, n), least(board.ends_on, laurel_private.nth_run(board, n + 1) - 1))::laurel_private.leaderboard_run;
end
$$;

create function laurel_private.run_of(board laurel_private.leaderboard_rule, day date)
  returns date language plpgsql immutable parallel safe as $$
begin
  return (laurel_private.run_at(board, day)).run_on;
end
$$;

create function laurel_private.run_end(board laurel_private.leaderboard_rule, run_on date)
  returns date language plpgsql immutable parallel safe as $$
begin
  return (laurel_private.run_at(board, run_on)).last_day;
end
$$;

-- When a run that has this last day becomes final: its last day over in the last time zone, or, where that was over before,
-- when the leaderboard was activated and counted it from history. Null for never.
create function laurel_private.final_after(board laurel_private.leaderboard_rule, last_day date)
  returns timestamptz language sql immutable parallel safe
  return case when last_day is null then (board).finished_at
    else least((board).finished_at, greatest((board).activated_at, ((last_day + 1)::timestamp + interval '12 hours') at time zone 'UTC')) end;

create function laurel_private.final_at(board laurel_private.leaderboard_rule, run_on date)
  returns timestamptz language plpgsql immutable parallel safe as $$
begin
  return laurel_private.final_after(board, laurel_private.run_end(board, run_on));
end
$$;

comment on function laurel_private.final_at(laurel_private.leaderboard_rule, date) is
  'Since when a run''s ranking is final; null when it never ends. Rule LB1.';

-- The run in which something counts that occurred at this moment in this time zone, and was recorded
-- under this ID: its time, not the clock, is held against the run's end, so that verify() judges as
-- the flow did. Null when it does not count.
create function laurel_private.counted_run(
  board laurel_private.leaderboard_rule, occurred_at timestamptz, time_zone text, id uuid
) returns laurel_private.leaderboard_run language plpgsql immutable parallel safe as $$
declare
  happened_at timestamp := occurred_at at time zone time_zone;
  run laurel_private.leaderboard_run;
begin
  if board.start_time is not null or board.end_time is not null then
    if board.start_time > board.end_time then
      if happened_at::time < board.start_time and happened_at::time >= board.end_time then
        return null;
      end if;
    elsif happened_at::time < board.start_time or happened_at::time >= board.end_time then
      return null;
    end if;
  end if;
  run := laurel_private.run_at(board, happened_at::date);
  if run.run_on is null then
    return null;
  end if;
  if run.last_day is not null or board.finished_at is not null then
    if id >= laurel_private.first_uuid_v7(laurel_private.final_after(board, run.last_day)) then
      return null;
    end if;
  end if;
  return run;
end
$$;

comment on function laurel_private.counted_run(laurel_private.leaderboard_rule, timestamptz, text, uuid) is
  'The run in which this counts; null when it lies outside of dates, time window or a run that is not final. Rules LB1, E8.';

-- Status as shown: judged where the day begins first and ends last.
create function laurel_private.shown_status(board laurel.leaderboards, as_of timestamptz)
  returns text language sql immutable parallel safe
  return case
    when board.status <> 'active' then board.status::text
    when board.starts_on::timestamp - interval '14 hours' > as_of at time zone 'UTC' then 'scheduled'
    when laurel_private.final_at(laurel_private.rule_of(board), laurel_private.run_of(laurel_private.rule_of(board), board.ends_on)) <= as_of
      then 'finished'
    else 'active' end;

-- A leaderboard as responses show it, with the dates given: its own or those of a run.
create function laurel_private.leaderboard_as_json(board laurel.leaderboards, status text, starts_on date, ends_on date)
  returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object('id', board.id, 'name', board.name, 'key', board.key, 'status', leaderboard_as_json.status,
      'rankBy', board.rank_by, 'description', board.description,
      'breakdownAttribute', case when cardinality(board.breakdown_attributes) = 1 then board.breakdown_attributes[1] end,
      'breakdownAttributes', board.breakdown_attributes,
      'start', leaderboard_as_json.starts_on, 'end', leaderboard_as_json.ends_on,
      'startTime', to_char(board.start_time, 'HH24:MI:SS'), 'endTime', to_char(board.end_time, 'HH24:MI:SS'),
      'maxParticipants', board.max_participants, 'runUnit', board.run_unit, 'runInterval', board.run_interval)
    || coalesce((select jsonb_build_object('metricKey', m.key, 'metricName', m.name)
        from laurel.metrics m where m.id = board.metric_id), '{}')
    || coalesce((select jsonb_build_object('pointsSystemKey', s.key, 'pointsSystemName', s.name)
        from laurel.points_systems s where s.id = board.system_id), '{}')
$$;
--! EndIncluded leaderboards/leaderboards.sql
--! Included points/points_triggers.sql
-- A points trigger says when a system awards or deducts how much (TR1 to TR8). Written by admins;
-- compiled into points_rules, which the flow reads.

create table laurel.points_triggers (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  system_id uuid not null,
  type laurel.points_trigger_type not null,
  points int not null,
  status laurel.points_trigger_status not null default 'inactive',
  metric_id uuid,
  metric_threshold int,
  achievement_id uuid,
  streak_length int,
  time_unit laurel.time_unit,
  time_interval int,
  user_attributes laurel.attribute_values not null default '{}',
  event_attributes laurel.attribute_values not null default '{}',
  block_if_out_of_points boolean not null default false,
  version int not null default 1,
  activated_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint trigger_points_are_not_0 check (points <> 0),
  constraint metric_trigger_names_metric_and_threshold check (
    (type = 'metric') = (metric_id is not null) and (type = 'metric') = (metric_threshold is not null)),
  constraint metric_threshold_is_at_least_1 check (metric_threshold >= 1),
  constraint achievement_trigger_names_an_achievement
    check ((type = 'achievement') = (achievement_id is not null)),
  constraint streak_trigger_has_a_length check ((type = 'streak') = (streak_length is not null)),
  constraint streak_length_is_at_least_1 check (streak_length >= 1),
  constraint time_trigger_has_unit_and_interval check (
    (type = 'time') = (time_unit is not null) and (type = 'time') = (time_interval is not null)),
  constraint time_interval_is_at_least_1 check (time_interval >= 1),
  constraint only_metric_triggers_filter_events check (type = 'metric' or event_attributes = '{}'),
  constraint trigger_system_is_of_the_same_tenant foreign key (tenant_id, system_id)
    references laurel.points_systems (tenant_id, id) on delete cascade,
  constraint trigger_metric_is_of_the_same_tenant foreign key (tenant_id, metric_id)
    references laurel.metrics (tenant_id, id) on delete restrict,
  constraint trigger_achievement_is_of_the_same_tenant foreign key (tenant_id, achievement_id)
    references laurel.achievements (tenant_id, id) on delete restrict
);

create index points_triggers_by_system on laurel.points_triggers (tenant_id, system_id);
create index points_triggers_by_metric on laurel.points_triggers (tenant_id, metric_id);
create index points_triggers_by_achievement on laurel.points_triggers (tenant_id, achievement_id);

comment on table laurel.points_triggers is
  'When a points system awards (points > 0) or deducts (points < 0). Fires only while it and its system are active.';
comment on column laurel.points_triggers.id is 'UUID version 7: triggers fire in order of creation. Rule TR7.';
comment on column laurel.points_triggers.points is 'Points per firing, a 32-bit integer, never 0.';
comment on column laurel.points_triggers.metric_threshold is 'Fires once for every so many of the metric; null for other types.';
comment on column laurel.points_triggers.metric_id is 'The metric that counts; null for other types.';
comment on column laurel.points_triggers.achievement_id is 'The achievement to complete; null for other types.';
comment on column laurel.points_triggers.time_unit is 'What time_interval counts; null for other types.';
comment on column laurel.points_triggers.streak_length is 'Fires at every multiple of this length; null for other types.';
comment on column laurel.points_triggers.time_interval is 'Fires every so many hours or days; null for other types.';
comment on column laurel.points_triggers.user_attributes is 'Only users who carry all of these; {} means every user. Rule U5.';
comment on column laurel.points_triggers.event_attributes is 'Only events that carry all of these; {} means every event. Rule U5.';
comment on column laurel.points_triggers.block_if_out_of_points is
  'Refuses a whole event (LR030) that would take the total below 0, rather than stopping at 0. Rule TR8.';
comment on column laurel.points_triggers.version is
  'Goes up with every change of what the trigger counts; verify() uses it to know which events were counted.';
comment on column laurel.points_triggers.activated_at is 'When it last became active; null if it never was. Rule TR5.';
comment on constraint trigger_points_are_not_0 on laurel.points_triggers is 'A trigger''s points cannot be 0.';
comment on constraint metric_trigger_names_metric_and_threshold on laurel.points_triggers is
  'A metric trigger, and no other, has a metric and a metric threshold.';
comment on constraint metric_threshold_is_at_least_1 on laurel.points_triggers is 'The metric threshold is at least 1.';
comment on constraint achievement_trigger_names_an_achievement on laurel.points_triggers is
  'An achievement trigger, and no other, has an achievement.';
comment on constraint streak_trigger_has_a_length on laurel.points_triggers is 'A streak trigger, and no other, has a streak length.';
comment on constraint streak_length_is_at_least_1 on laurel.points_triggers is 'The streak length is at least 1.';
comment on constraint time_trigger_has_unit_and_interval on laurel.points_triggers is
  'A time trigger, and no other, has a time unit and a time interval.';
comment on constraint time_interval_is_at_least_1 on laurel.points_triggers is 'The time interval is at least 1.';
comment on constraint only_metric_triggers_filter_events on laurel.points_triggers is
  'Only metric triggers can filter on event attributes.';
comment on constraint trigger_system_is_of_the_same_tenant on laurel.points_triggers is 'The points system does not exist.';
comment on constraint trigger_metric_is_of_the_same_tenant on laurel.points_triggers is 'The metric does not exist.';
comment on constraint trigger_achievement_is_of_the_same_tenant on laurel.points_triggers is 'The achievement does not exist.';

call laurel_private.secure_table('laurel.points_triggers', 'configuration', public => $$status = 'active'$$);
grant insert (system_id, type, points, status, metric_id, metric_threshold, achievement_id, streak_length,
    time_unit, time_interval, user_attributes, event_attributes, block_if_out_of_points),
  update (type, points, status, metric_id, metric_threshold, achievement_id, streak_length, time_unit,
    time_interval, user_attributes, event_attributes, block_if_out_of_points)
  on laurel.points_triggers to laurel_admin;

create function laurel_private.tg_points_triggers__check()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.check_attributes(new.tenant_id, 'user', new.user_attributes, false, 'user_attributes');
  perform laurel_private.check_attributes(new.tenant_id, 'event', new.event_attributes, false, 'event_attributes');
  if new.status <> 'archived' then
    -- The foreign keys say that they exist; archived ones are gone for callers (RP5).
    if exists (select from laurel.metrics m where m.id = new.metric_id and m.archived_at is not null) then
      perform laurel_private.fail('LR020', 'metric_id', 'The metric does not exist.');
    elsif exists (select from laurel.points_systems s where s.id = new.system_id and s.archived_at is not null) then
      perform laurel_private.fail('LR020', 'system_id', 'The points system does not exist.');
    elsif exists (select from laurel.achievements a where a.id = new.achievement_id and a.status = 'archived') then
      perform laurel_private.fail('LR020', 'achievement_id', 'The achievement does not exist.');
    end if;
  end if;
  if tg_op = 'UPDATE' then
    if old.status = 'archived' then
      perform laurel_private.fail('LR020', 'status', 'An archived trigger cannot be changed.');
    elsif new.type <> old.type and old.status <> 'inactive' then
      perform laurel_private.fail('LR020', 'type', 'The type can only be changed while the trigger is inactive.');
    end if;
    if (new.status, new.type, new.metric_id, new.user_attributes, new.event_attributes)
      is distinct from (old.status, old.type, old.metric_id, old.user_attributes, old.event_attributes) then
      new.version := old.version + 1;
    end if;
  end if;
  if new.status = 'active' and (tg_op = 'INSERT' or old.status <> 'active') then
    new.activated_at := clock_timestamp();
  end if;
  return new;
end
$$;

create trigger points_triggers__check before insert or update on laurel.points_triggers
  for each row execute function laurel_private.tg_points_triggers__check();
--! EndIncluded points/points_triggers.sql
--! Included points/points_boosts.sql
-- A boost multiplies a system's positive awards for a while, for everybody, for users with some
-- attributes, or for one user (B1 to B6). Written by admins; compiled into points_rules, but for
-- the boosts of single users, which the flow looks up.

create table laurel.points_boosts (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  system_id uuid not null,
  name text not null,
  multiplier numeric not null,
  rounding laurel.rounding_mode not null default 'down',
  starts_on date not null,
  ends_on date,
  user_id laurel.user_id,
  user_attributes laurel.attribute_values not null default '{}',
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  archived_at timestamptz,
  constraint boost_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint boost_multiplier_is_above_0_below_100_and_not_1
    check (multiplier > 0 and multiplier < 100 and multiplier <> 1),
  constraint boost_multiplier_has_at_most_4_decimals check (scale(trim_scale(multiplier)) <= 4),
  constraint boosts_start_on_a_real_date check (isfinite(starts_on)),
  constraint boosts_end_on_a_real_date check (isfinite(ends_on)),
  constraint boosts_end_is_not_before_start check (ends_on >= starts_on),
  constraint boosts_of_one_user_have_no_filter check (user_id is null or user_attributes = '{}'),
  constraint boost_system_is_of_the_same_tenant foreign key (tenant_id, system_id)
    references laurel.points_systems (tenant_id, id) on delete cascade,
  constraint points_boosts_are_referred_to_within_their_tenant unique (tenant_id, id),
  constraint boost_user_exists foreign key (tenant_id, user_id)
    references laurel.users (tenant_id, id) on delete cascade
);

create index points_boosts_by_system on laurel.points_boosts (tenant_id, system_id);
create index points_boosts_by_user on laurel.points_boosts (tenant_id, user_id) where user_id is not null;

comment on table laurel.points_boosts is
  'Multiplies positive awards of its system from the start of starts_on to the end of ends_on in each user''s time zone. Rule B2.';
comment on column laurel.points_boosts.multiplier is 'Above 0, below 100, not 1, up to 4 decimals. All that apply multiply together. Rule B4.';
comment on column laurel.points_boosts.rounding is 'How the product is rounded; the most cautious of all that applied wins: down, nearest, up. Rule B5.';
comment on column laurel.points_boosts.ends_on is 'The last day it applies; null means it never ends.';
comment on column laurel.points_boosts.user_id is 'The one user it is for; null means all who match user_attributes.';
comment on column laurel.points_boosts.user_attributes is 'Only users who carry all of these; {} means every user.';
comment on column laurel.points_boosts.is_active is 'An inactive boost applies to nothing.';
comment on column laurel.points_boosts.archived_at is 'Null while in use.';
comment on constraint boost_name_is_1_to_255_characters on laurel.points_boosts is 'A boost''s name has 1 to 255 characters.';
comment on constraint boost_multiplier_is_above_0_below_100_and_not_1 on laurel.points_boosts is
  'A boost''s multiplier is above 0, below 100 and not 1.';
comment on constraint boost_multiplier_has_at_most_4_decimals on laurel.points_boosts is
  'A boost''s multiplier has at most 4 decimals.';
comment on constraint boosts_start_on_a_real_date on laurel.points_boosts is 'A boost starts on a finite date.';
comment on constraint boosts_end_on_a_real_date on laurel.points_boosts is 'A boost ends on a finite date.';
comment on constraint boosts_end_is_not_before_start on laurel.points_boosts is 'A boost cannot end before it starts.';
comment on constraint boosts_of_one_user_have_no_filter on laurel.points_boosts is
  'A boost for one user cannot have user attributes as well.';
comment on constraint boost_system_is_of_the_same_tenant on laurel.points_boosts is 'The points system does not exist.';
comment on constraint boost_user_exists on laurel.points_boosts is 'The user does not exist.';

-- Somebody else's boost is nobody's business (K1).
call laurel_private.secure_table('laurel.points_boosts', 'configuration', public => $$
  is_active and archived_at is null and (user_id is null or user_id = (select laurel.current_user_id()))$$);
grant insert (system_id, name, multiplier, rounding, starts_on, ends_on, user_id, user_attributes, is_active),
  update (name, multiplier, rounding, starts_on, ends_on, user_attributes, is_active, archived_at)
  on laurel.points_boosts to laurel_admin;

create function laurel_private.tg_points_boosts__check()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.check_attributes(new.tenant_id, 'user', new.user_attributes, false, 'user_attributes');
  return new;
end
$$;

create trigger points_boosts__check before insert or update on laurel.points_boosts
  for each row execute function laurel_private.tg_points_boosts__check();
--! EndIncluded points/points_boosts.sql
--! Included points/points_levels.sql
-- A level of a points system (L1). Written by admins; compiled into points_rules. A user's level is
-- never stored: it is the level with the highest threshold at or below the total, so that editing
-- levels re-levels everybody at once (L2).

create table laurel.points_levels (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  system_id uuid not null,
  key laurel.key not null,
  name text not null,
  description text not null default '',
  badge_url text,
  points int not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint level_name_is_1_to_255_characters check (length(name) between 1 and 255),
  constraint level_description_is_at_most_2000_characters check (length(description) <= 2000),
  constraint level_badge_url_is_at_most_2000_characters check (length(badge_url) <= 2000),
  constraint level_points_are_at_least_0 check (points >= 0),
  constraint level_keys_are_unique_in_their_system unique (tenant_id, system_id, key),
  constraint level_points_are_unique_in_their_system unique (tenant_id, system_id, points)
    deferrable initially immediate,
  constraint level_system_is_of_the_same_tenant foreign key (tenant_id, system_id)
    references laurel.points_systems (tenant_id, id) on delete cascade
);

comment on table laurel.points_levels is 'A level that users reach with their total.';
comment on column laurel.points_levels.points is 'The lowest total that earns the level, 0 or more.';
comment on column laurel.points_levels.badge_url is 'Null when there is no badge.';
comment on constraint level_name_is_1_to_255_characters on laurel.points_levels is 'A level''s name has 1 to 255 characters.';
comment on constraint level_description_is_at_most_2000_characters on laurel.points_levels is 'A level''s description has at most 2,000 characters.';
comment on constraint level_badge_url_is_at_most_2000_characters on laurel.points_levels is 'A badge URL has at most 2,000 characters.';
comment on constraint level_points_are_at_least_0 on laurel.points_levels is 'A level''s points are at least 0.';
comment on constraint level_keys_are_unique_in_their_system on laurel.points_levels is
  'Another level of this points system already has this key.';
comment on constraint level_points_are_unique_in_their_system on laurel.points_levels is
  'Another level of this points system already has these points.';
comment on constraint level_system_is_of_the_same_tenant on laurel.points_levels is 'The points system does not exist.';

call laurel_private.secure_table('laurel.points_levels', 'configuration');
grant insert (system_id, key, name, description, badge_url, points),
  update (name, description, badge_url, points), delete on laurel.points_levels to laurel_admin;
--! EndIncluded points/points_levels.sql
--! Included points/points_awards.sql
-- The ledger: every change of a total is one row that explains itself (P3). Made by
-- decide_points(), written by apply_effects.sql and the one-row lane in record_event.sql alone; read
-- by everything that shows or checks points. Append-only: nobody updates or deletes a row, the
-- database owner included; erasing a user is the one exception (P4).
-- Invariant: per user and system, sequence is 1, 2, 3 … and each total_before is the total_after
-- of the row in front (verify() checks).

create table laurel.points_awards (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  user_id text collate "C" not null,
  system_id uuid not null,
  system_key text collate "C" not null,
  sequence bigint not null,
  occurred_at timestamptz not null,
  cause laurel.points_award_cause not null,
  trigger_id uuid,
  event_id uuid,
  metric_key text collate "C",
  metric_threshold int,
  user_attributes jsonb,
  event_attributes jsonb,
  achievement_id uuid,
  streak_length int,
  tick bigint,
  reason text,
  idempotency_key text collate "C",
  trigger_points int,
  firings numeric not null,
  base_points numeric not null,
  boosts jsonb,
  boost_multiplier numeric not null,
  rounding laurel.rounding_mode,
  rounded_points numeric not null,
  max_points int,
  points bigint not null,
  total_before bigint not null,
  total_after bigint not null,
  constraint award_sequences_are_unique primary key (tenant_id, user_id, system_id, sequence, id)
) partition by range (id);

create table laurel_private.points_awards_default partition of laurel.points_awards default;
-- explain_award() finds a row by its ID, which grows with the row's place in the table: a block range
-- index, which costs an award a tenth of what a b-tree does, leads it to 16 pages.
create index points_awards_by_id on laurel.points_awards
  using brin (id) with (pages_per_range = 16, autosummarize = on);

comment on table laurel.points_awards is 'The append-only ledger of every change of a points total. Rule P3.';
comment on column laurel.points_awards.id is 'UUID version 7: its time is when the row was written.';
comment on column laurel.points_awards.sequence is '1, 2, 3 … per user and points system, in the order applied.';
comment on column laurel.points_awards.occurred_at is 'The award''s date: when its event occurred or its tick was due.';
comment on column laurel.points_awards.cause is 'The type of trigger that fired, or adjustment.';
comment on column laurel.points_awards.trigger_id is 'The points trigger; null for an adjustment.';
comment on column laurel.points_awards.event_id is 'The event that led to it; null when none did.';
comment on column laurel.points_awards.metric_key is 'The metric of a metric trigger; null for other causes.';
comment on column laurel.points_awards.metric_threshold is 'The metric trigger''s threshold at the time; null for other causes.';
comment on column laurel.points_awards.user_attributes is 'The trigger''s user filter at the time; null when it had none.';
comment on column laurel.points_awards.event_attributes is 'The trigger''s event filter at the time; null when it had none.';
comment on column laurel.points_awards.achievement_id is 'The achievement completed; null for other causes.';
comment on column laurel.points_awards.streak_length is 'The streak''s length reached; null for other causes.';
comment on column laurel.points_awards.tick is 'The number of a time trigger''s tick; null for other causes.';
comment on column laurel.points_awards.reason is 'Why points were adjusted; null for other causes.';
comment on column laurel.points_awards.idempotency_key is 'The adjustment''s key; null when it had none.';
comment on column laurel.points_awards.trigger_points is 'The trigger''s points per firing at the time; null for an adjustment.';
comment on column laurel.points_awards.firings is 'How often the trigger fired; 1 for an adjustment.';
comment on column laurel.points_awards.base_points is 'Points before boosts: firings × trigger_points, or the adjustment.';
comment on column laurel.points_awards.boosts is 'The boosts that applied, as they were; null when none did.';
comment on column laurel.points_awards.boost_multiplier is 'The exact product of their multipliers; 1 when none applied.';
comment on column laurel.points_awards.rounding is 'The rounding mode used; null when no boost applied.';
comment on column laurel.points_awards.rounded_points is 'Points after boosts and rounding, before cap and floor.';
comment on column laurel.points_awards.max_points is 'The cap in force; null means none but 2^53 - 1.';
comment on column laurel.points_awards.points is 'What was really added, after cap and floor; never 0.';
comment on column laurel.points_awards.total_before is 'The user''s total before this row.';
comment on column laurel.points_awards.total_after is 'The user''s total after this row.';

call laurel_private.secure_table('laurel.points_awards', 'user_data');
alter table laurel_private.points_awards_default enable row level security;

create function laurel_private.tg_points_awards__keep()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'DELETE' and tg_level = 'ROW' then
    -- Set by the one function that erases a user (K4), for its own transaction.
    if current_setting('laurel_private.erasing_user', true) = old.tenant_id || '/' || old.user_id then
      return old;
    end if;
  end if;
  perform laurel_private.fail('LR050', null, lower(tg_op) || ' is refused');
end
$$;

create trigger points_awards__keep before update or delete on laurel.points_awards
  for each row execute function laurel_private.tg_points_awards__keep();
-- Triggers of rows are cloned to partitions, those of statements are not: maintain_partitions()
-- gives every new partition its own.
create trigger points_awards__keep_all before truncate on laurel.points_awards
  for each statement execute function laurel_private.tg_points_awards__keep();
create trigger points_awards__keep_all before truncate on laurel_private.points_awards_default
  for each statement execute function laurel_private.tg_points_awards__keep();

do $$
begin
  perform laurel_private.maintain_partitions(now());
end
$$;
--! EndIncluded points/points_awards.sql
--! Included points/points_balances.sql
-- A user's total in a points system: a view of laurel_private.user_states. Invariant: the total is
-- the sum of the user's ledger rows and total_after of the last (verify() checks).

-- The level that a total earns in a system; null below all levels.
create function laurel_private.level_for_points(system_id uuid, total bigint)
  returns laurel.points_levels language plpgsql stable parallel safe as $$
declare
  level laurel.points_levels;
begin
  select l.* into level from laurel.points_levels l
  where l.system_id = level_for_points.system_id and l.points <= total
  order by l.points desc
  limit 1;
  return level;
end
$$;

comment on function laurel_private.level_for_points(uuid, bigint) is
  'The level with the highest threshold at or below the total; null below all. Rule L1.';
grant execute on function laurel_private.level_for_points(uuid, bigint)
  to laurel_admin, laurel_service, laurel_user;

-- A view, so that the level of everybody follows an edit of the levels at once (L2).
create view laurel.points_balances with (security_invoker = true, security_barrier = true) as
  select s.tenant_id, s.user_id, x.system_id, p.key::text collate "C" as system_key, x.total,
    (laurel_private.level_for_points(x.system_id, x.total)).key::text as level,
    x.last_sequence
  from laurel_private.user_states s
  cross join lateral unnest(s.system_ids, s.totals, s.last_sequences) as x (system_id, total, last_sequence)
  join laurel.points_systems p on p.id = x.system_id;

comment on view laurel.points_balances is
  'Every user''s total and level in every points system it has entered.';
comment on column laurel.points_balances.level is 'Key of the level; null below all levels.';
comment on column laurel.points_balances.last_sequence is 'Number of ledger rows so far.';
grant select on laurel.points_balances to laurel_admin, laurel_service, laurel_user;

-- How far a user has come with a trigger that filters on event attributes (TR2): such a trigger
-- counts for itself. The count is base_count plus the matching events from since_event_id on, for
-- as long as both versions stay the same; that is what lets verify() recompute it.
create table laurel.points_trigger_counts (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  trigger_id uuid not null,
  count numeric not null,
  peak numeric not null,
  base_count numeric not null default 0,
  base_peak numeric not null default 0,
  since_event_id uuid not null,
  trigger_version int not null,
  attributes_version int not null,
  constraint trigger_counts_are_one_per_user_and_trigger primary key (tenant_id, user_id, trigger_id),
  constraint trigger_counts_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
) with (fillfactor = 80);

comment on table laurel.points_trigger_counts is
  'Running count of the events a filtered metric trigger matched, per user. Rule TR2.';
comment on column laurel.points_trigger_counts.count is 'Sum of the values of the events that matched.';
comment on column laurel.points_trigger_counts.peak is 'The highest count ever reached, from 0.';
comment on column laurel.points_trigger_counts.base_count is 'The count when the trigger or the user''s attributes last changed.';
comment on column laurel.points_trigger_counts.base_peak is 'The peak at that time.';
comment on column laurel.points_trigger_counts.since_event_id is 'The first event counted since then.';
call laurel_private.secure_table('laurel.points_trigger_counts', 'user_data');
--! EndIncluded points/points_balances.sql
--! Included leaderboards/leaderboard_entries.sql
-- Where a user stands in a run of a leaderboard (LB1): one row per user, leaderboard and run, so that
-- an event writes rows of its own user alone. Ranks are not stored: a rank is how many entries of the
-- group are better, counted in the index and never further than max_participants. Whoever
-- falls off keeps the entry, and is on again as soon as its rank is.
--
-- Written by write_scores() and rank_streaks() under the user's lock, and by the look back of
-- backfill_leaderboards.sql, all of which tell the marks (leaderboard_marks.sql); read by the flow for
-- its answer, and by callers. Values of 0 or less are not ranked.
-- Invariant: a value is the sum of what leaderboard_history() finds, or the length of the stored streak
-- (verify() checks).

create table laurel.leaderboard_entries (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  leaderboard_id uuid not null,
  generation int not null,
  run_on date not null,
  value numeric not null,
  -- The event or award with which the value was reached: whoever got there first has the lower one.
  reached_id uuid not null,
  holds_until timestamptz,
  previous_value numeric,
  previous_reached_id uuid,
  breakdown jsonb not null default '{}',
  group_id uuid,
  constraint entries_are_one_per_user_and_run primary key (tenant_id, user_id, leaderboard_id, generation, run_on),
  constraint entry_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
-- Every change moves the row in the order of ranks: dead versions are taken away early, as each that
-- lies among the first is met by every scan.
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

-- Both the same way round, so that a place is one bound of a scan, in the middle of equals too.
create index leaderboard_entries_by_rank on laurel.leaderboard_entries
  (leaderboard_id, generation, run_on, group_id, (-value), reached_id);

comment on table laurel.leaderboard_entries is 'What users have reached in the runs of leaderboards. Rule LB1.';
comment on column laurel.leaderboard_entries.generation is 'The leaderboard''s generation it was counted for.';
comment on column laurel.leaderboard_entries.run_on is 'The first day of the run; for a perpetual leaderboard its start date.';
comment on column laurel.leaderboard_entries.value is 'What is ranked by: added to the metric, earned points, or the streak''s length.';
comment on column laurel.leaderboard_entries.reached_id is 'The event or award with which the value was reached; the lower one ranks first among equals.';
comment on column laurel.leaderboard_entries.holds_until is
  'When a streak is lost unless something keeps it: rankings then look at the streak itself. Null for a value that stays.';
comment on column laurel.leaderboard_entries.previous_value is 'The value before the last change; null before the first, and in another group.';
comment on column laurel.leaderboard_entries.previous_reached_id is 'What the value before the last change was reached with; null with it.';
comment on column laurel.leaderboard_entries.breakdown is 'The user''s values of the breakdown attributes; {} without.';
comment on column laurel.leaderboard_entries.group_id is
  'Stands for those values: users with the same one are ranked among each other. Null when the user lacks one of them, and is not ranked.';
call laurel_private.secure_table('laurel.leaderboard_entries', 'user_data');

-- The user's values of the breakdown attributes, as far as it has them.
create function laurel_private.breakdown_of(board laurel_private.leaderboard_rule, attributes jsonb)
  returns jsonb language plpgsql immutable parallel safe as $$
begin
  -- Most have none, and need no query for it.
  if board.breakdown_attributes = '{}' then
    return '{}';
  end if;
  return (
    select coalesce(jsonb_object_agg(a.key, attributes -> a.key), '{}')
    from unnest(board.breakdown_attributes) a (key) where attributes ? a.key);
end
$$;

-- A hash, since attribute values may be longer than an index takes; null when one is missing.
create function laurel_private.group_of(board laurel_private.leaderboard_rule, breakdown jsonb)
  returns uuid language sql immutable parallel safe as $$
  select case
    when board.breakdown_attributes = '{}' then '00000000-0000-0000-0000-000000000000'::uuid
    when breakdown ?& board.breakdown_attributes
      then encode(substring(sha256(convert_to(breakdown::text, 'UTF8')) for 16), 'hex')::uuid end
$$;

-- What a user has in each run by the log: what the entries' values are the sums of.
create function laurel_private.leaderboard_history(
  board laurel_private.leaderboard_rule, tenant_id uuid, user_id text, time_zone text
) returns table (run_on date, value numeric, reached_id uuid) language sql stable as $$
  select r.run_on, sum(c.amount), (array_agg(c.id order by c.id desc))[1]
  from (
    select e.id, e.value as amount, e.occurred_at from laurel.metric_events e
    where board.rank_by = 'metric' and e.tenant_id = leaderboard_history.tenant_id
      and e.user_id = leaderboard_history.user_id and e.metric_id = board.source_id
    union all
    select a.id, a.points, a.occurred_at from laurel.points_awards a
    where board.rank_by = 'points' and a.tenant_id = leaderboard_history.tenant_id
      and a.user_id = leaderboard_history.user_id and a.system_id = board.source_id) c
  cross join lateral (
    select (laurel_private.counted_run(board, c.occurred_at, leaderboard_history.time_zone, c.id)).run_on) r
  where c.amount <> 0 and r.run_on is not null
  group by r.run_on
$$;

comment on function laurel_private.leaderboard_history(laurel_private.leaderboard_rule, uuid, text, text) is
  'A user''s value in each run, and what it was reached with, summed from the event log or the ledger.';

-- Whether something of a run may have been recorded before the leaderboard counted.
create function laurel_private.has_history(board laurel_private.leaderboard_rule, run_on date)
  returns boolean language sql immutable parallel safe
  return run_on < laurel_private.first_day_untouched(board.activated_at);

-- Users who changed their time zone after something of theirs was counted: it was judged in the zone
-- of its time (U3), which nothing tells later. Read by verify(), which leaves their sums alone.
create table laurel_private.time_zone_changes (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  changed_at timestamptz not null default clock_timestamp(),
  constraint time_zone_changes_are_one_per_user primary key (tenant_id, user_id),
  constraint time_zone_change_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

comment on table laurel_private.time_zone_changes is 'Users whose time zone changed after their first event or award, with the last time.';
alter table laurel_private.time_zone_changes enable row level security;

-- An entry's place before and after, each null when it is in no group.
create type laurel_private.entry_move as (
  leaderboard_id uuid,
  generation int,
  run_on date,
  group_before uuid,
  value_before numeric,
  id_before uuid,
  group_after uuid,
  value_after numeric,
  id_after uuid
);

-- What follows from a change of the user itself.
create function laurel_private.tg_users__rank_anew()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  moves laurel_private.entry_move[];
begin
  if new.tz is distinct from old.tz and exists (
    select from laurel_private.user_states s
    where s.tenant_id = new.tenant_id and s.user_id = new.id and (s.metric_ids <> '{}' or s.system_ids <> '{}'))
  then
    insert into laurel_private.time_zone_changes (tenant_id, user_id) values (new.tenant_id, new.id)
    on conflict (tenant_id, user_id) do update set changed_at = excluded.changed_at;
  end if;
  if new.attributes <> old.attributes then
    -- The user's lock: an event may be moving the same entries.
    perform from laurel_private.user_states s where s.tenant_id = new.tenant_id and s.user_id = new.id for no key update;
    -- The group follows the user, final runs aside.
    with ranked_anew as (
      update laurel.leaderboard_entries e
      set breakdown = n.breakdown, group_id = laurel_private.group_of(r.rule, n.breakdown),
        previous_value = null, previous_reached_id = null
      from laurel.leaderboards b
      cross join lateral (select laurel_private.rule_of(b) as rule) r
      cross join lateral (select laurel_private.breakdown_of(r.rule, new.attributes) as breakdown) n
      where b.tenant_id = new.tenant_id and b.status = 'active' and b.breakdown_attributes <> '{}'
        and e.tenant_id = new.tenant_id and e.user_id = new.id and e.leaderboard_id = b.id and e.generation = b.generation
        and e.breakdown <> n.breakdown
        and coalesce(laurel_private.final_at(r.rule, e.run_on) > clock_timestamp(), true)
      returning e.leaderboard_id, e.generation, e.run_on, e.value, e.reached_id, e.group_id
    )
    select array_agg((a.leaderboard_id, a.generation, a.run_on, e.group_id, a.value, a.reached_id,
      a.group_id, a.value, a.reached_id)::laurel_private.entry_move) into moves
    from ranked_anew a
    -- As it was before this statement.
    join laurel.leaderboard_entries e on e.tenant_id = new.tenant_id and e.user_id = new.id
      and e.leaderboard_id = a.leaderboard_id and e.generation = a.generation and e.run_on = a.run_on;
    if moves is not null then
      perform laurel_private.append_moves(new.tenant_id, moves);
    end if;
  end if;
  return null;
end
$$;

create trigger users__rank_anew after update on laurel.users
  for each row when (old.tz is distinct from new.tz or old.attributes <> new.attributes)
  execute function laurel_private.tg_users__rank_anew();
--! EndIncluded leaderboards/leaderboard_entries.sql
--! Included leaderboards/leaderboard_marks.sql
-- Where ranks are counted from (LB1). A rank is how many entries stand in front of it; of a long group some places are
-- marked, with how many entries have passed each mark, so that an event counts a few dozen entries from the nearest
-- mark on rather than a thousand from the top.
--
-- An entry that passes marks, or falls behind them, appends a move in its transaction: nobody waits for anybody. In any
-- snapshot a mark has been passed by counts + the visible moves over it (verify() checks). Written by the worker
-- (keep_marks.sql), which picks marks, counts and folds moves; ranks are right without it, and without marks.
-- Invariant: whoever changes laurel.leaderboard_entries appends its moves after it has a transaction ID, in READ COMMITTED:
-- so it sees marks that were proposed before it had one, and of others the count waits for it to end. One whose
-- snapshot may be older than that voids its groups' marks instead. Leaderboards of streaks, whose entries lapse, have none.

create table laurel_private.leaderboard_marks (
  tenant_id uuid not null,
  leaderboard_id uuid not null,
  generation int not null,
  run_on date not null,
  group_id uuid not null,
  marks_id uuid,
  mark_values numeric[],
  mark_ids uuid[],
  counts int[],
  next_id uuid,
  next_values numeric[],
  next_ids uuid[],
  next_after xid8,
  is_due boolean not null default true,
  constraint marks_are_one_set_per_group primary key (tenant_id, leaderboard_id, generation, run_on, group_id),
  constraint marks_are_of_a_leaderboard foreign key (tenant_id, leaderboard_id)
    references laurel.leaderboards (tenant_id, id) on delete cascade,
  constraint marks_in_use_are_counted check (
    (marks_id is null) = (counts is null) and (marks_id is null) = (mark_values is null) and (marks_id is null) = (mark_ids is null)
    and cardinality(counts) = cardinality(mark_values) and cardinality(counts) = cardinality(mark_ids)),
  constraint proposed_marks_are_complete check (
    (next_id is null) = (next_values is null) and (next_id is null) = (next_ids is null)
    and cardinality(next_values) = cardinality(next_ids) and (next_id is not null or next_after is null))
) with (fillfactor = 40);

create index leaderboard_marks_to_look_at on laurel_private.leaderboard_marks (tenant_id, leaderboard_id) where is_due or next_id is not null;
comment on table laurel_private.leaderboard_marks is 'Marked places of groups of leaderboards'' runs with many entries. Rule LB1.';
comment on column laurel_private.leaderboard_marks.marks_id is 'Names the marks in use: moves are theirs. Null while there are none.';
comment on column laurel_private.leaderboard_marks.mark_values is 'The marks from the last place forward: an entry has passed a mark when it has this value, and the same or a lower ID, or more.';
comment on column laurel_private.leaderboard_marks.counts is 'How many entries had passed each mark, but for moves not folded yet.';
comment on column laurel_private.leaderboard_marks.next_id is 'Names marks that are proposed: they get moves, and counts once nobody is left who may not know of them. Null without.';
comment on column laurel_private.leaderboard_marks.next_after is 'They are counted once all transactions up to this one have ended; null until the look that follows the proposal.';
comment on column laurel_private.leaderboard_marks.is_due is 'Whether the worker is to see if the marks are where they should be.';
alter table laurel_private.leaderboard_marks enable row level security;

-- Without foreign keys: their checks would lock rows that all events of a leaderboard share.
create table laurel_private.leaderboard_moves (
  tenant_id uuid not null,
  leaderboard_id uuid not null,
  generation int not null,
  run_on date not null,
  group_id uuid not null,
  marks_id uuid,
  passed_before smallint,
  passed_after smallint,
  constraint move_is_over_marks_or_voids_them check ((marks_id is null) = (passed_before is null) and (marks_id is null) = (passed_after is null)),
  constraint move_changes_something check (passed_before <> passed_after)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

create index leaderboard_moves_by_group on laurel_private.leaderboard_moves (tenant_id, leaderboard_id, generation, run_on, group_id);
comment on table laurel_private.leaderboard_moves is 'Entries that passed marks, or fell behind them, since the marks'' counts were written. Rule LB1.';
comment on column laurel_private.leaderboard_moves.marks_id is 'Whose marks; null when all marks of the group are void.';
comment on column laurel_private.leaderboard_moves.passed_before is 'How many of the marks the entry had passed, 0 when it was not there; null with marks_id.';
alter table laurel_private.leaderboard_moves enable row level security;

-- How many of the marks this value, reached with this ID, has passed; none when it is null.
create function laurel_private.marks_passed(mark_values numeric[], mark_ids uuid[], value numeric, reached_id uuid)
  returns int language plpgsql immutable parallel safe as $$
declare
  passed int := coalesce(width_bucket(value, mark_values), 0);
begin
  while passed > 0 and mark_values[passed] = value and mark_ids[passed] < reached_id loop
    passed := passed - 1;
  end loop;
  return passed;
end
$$;

create function laurel_private.append_moves(tenant_id uuid, changes laurel_private.entry_move[])
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    -- Its snapshot may be of before a proposal, and its ID of after it.
    insert into laurel_private.leaderboard_moves (tenant_id, leaderboard_id, generation, run_on, group_id)
    select distinct tenant_id, c.leaderboard_id, c.generation, c.run_on, g.id
    from unnest(changes) c
    cross join lateral (values (c.group_before), (c.group_after)) g (id)
    where g.id is not null;
    return;
  end if;
  insert into laurel_private.leaderboard_moves (tenant_id, leaderboard_id, generation, run_on, group_id, marks_id, passed_before, passed_after)
  select tenant_id, c.leaderboard_id, c.generation, c.run_on, m.group_id, s.id, p.before, p.after
  from unnest(changes) c
  cross join lateral (
    select m.* from laurel_private.leaderboard_marks m
    where m.tenant_id = tenant_id and m.leaderboard_id = c.leaderboard_id and m.generation = c.generation and m.run_on = c.run_on
      and m.group_id in (c.group_before, c.group_after) offset 0) m
  cross join lateral (values (m.marks_id, m.mark_values, m.mark_ids), (m.next_id, m.next_values, m.next_ids)) s (id, mark_values, mark_ids)
  cross join lateral (
    select laurel_private.marks_passed(s.mark_values, s.mark_ids, case when c.group_before = m.group_id then c.value_before end, c.id_before) as before,
      laurel_private.marks_passed(s.mark_values, s.mark_ids, case when c.group_after = m.group_id then c.value_after end, c.id_after) as after) p
  where s.id is not null and p.before <> p.after;
end
$$;

comment on function laurel_private.append_moves(uuid, laurel_private.entry_move[]) is
  'Tells the marks of what became of entries, in the transaction that changes them. Rule LB1.';

-- Entries vanish with their user, whoever deletes it.
create function laurel_private.tg_leaderboard_entries__leave_marks()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if old.group_id is not null then
    perform laurel_private.append_moves(old.tenant_id, array[(old.leaderboard_id, old.generation, old.run_on,
      old.group_id, old.value, old.reached_id, null, null, null)::laurel_private.entry_move]);
  end if;
  return null;
end
$$;

create trigger leaderboard_entries__leave_marks after delete on laurel.leaderboard_entries
  for each row execute function laurel_private.tg_leaderboard_entries__leave_marks();

-- Beyond so many moves that are not folded yet a walk from the top is no slower.
create function laurel_private.most_moves()
  returns int language sql immutable parallel safe return 500;

create type laurel_private.counted_marks as (mark_values numeric[], mark_ids uuid[], counts int[]);

-- Those of an entry's group as a snapshot has them. None are as good as ones that take longer to count than to do without.
create function laurel_private.marks_for(entry laurel.leaderboard_entries)
  returns laurel_private.counted_marks language plpgsql stable as $$
declare
  found_marks record;
  move int;
begin
  -- A move is one number, before and after by thousands; 0 those of other marks, null what voids them.
  select m.mark_values, m.mark_ids, m.counts, array(
      select case when v.marks_id = m.marks_id then v.passed_before * 1000 + v.passed_after when v.marks_id is not null then 0 end
      from laurel_private.leaderboard_moves v
      where v.tenant_id = m.tenant_id and v.leaderboard_id = m.leaderboard_id and v.generation = m.generation
        and v.run_on = m.run_on and v.group_id = m.group_id
      limit laurel_private.most_moves() + 1) as moves
  into found_marks
  from laurel_private.leaderboard_marks m
  where m.tenant_id = entry.tenant_id and m.leaderboard_id = entry.leaderboard_id and m.generation = entry.generation
    and m.run_on = entry.run_on and m.group_id = entry.group_id and m.marks_id is not null;
  if not found or cardinality(found_marks.moves) > laurel_private.most_moves() or array_position(found_marks.moves, null) is not null then
    return ('{}', '{}', '{}')::laurel_private.counted_marks;
  end if;
  foreach move in array found_marks.moves loop
    for mark in least(move / 1000, move % 1000) + 1..greatest(move / 1000, move % 1000) loop
      found_marks.counts[mark] := found_marks.counts[mark] + sign(move % 1000 - move / 1000)::int;
    end loop;
  end loop;
  return (found_marks.mark_values, found_marks.mark_ids, found_marks.counts)::laurel_private.counted_marks;
end
$$;
--! EndIncluded leaderboards/leaderboard_marks.sql
--! Included webhooks/webhook_endpoints.sql
-- Endpoints: where a tenant's webhook messages go (H1). Written by admins; compiled into points_rules,
-- so that the flow knows which types somebody wants; read by write_messages() and by the dispatcher
-- (src/webhooks), which alone also disables one.
-- Invariant: a secret is kept sealed, by a key that the database does not have, in a table that no
-- role may read.

create table laurel.webhook_endpoints (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null default laurel.current_tenant_id() references laurel.tenants on delete cascade,
  url text not null,
  description text,
  event_types text[] not null,
  is_active boolean not null default true,
  max_concurrency int not null default 10,
  disabled_at timestamptz,
  disabled_reason text,
  secret_rotated_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint webhook_event_types_are_known check (event_types <@ array[
    'points.changed', 'points.level_changed', 'points.boost_started', 'points.boost_finished', 'achievement.completed',
    'streak.started', 'streak.extended', 'streak.lost', 'streak.freeze_consumed', 'streak.freeze_earned',
    'leaderboard.started', 'leaderboard.changed', 'leaderboard.finished', 'leaderboard.rank_changed']),
  constraint webhook_subscribes_to_something check (cardinality(event_types) between 1 and 100),
  constraint webhook_concurrency_is_1_to_100 check (max_concurrency between 1 and 100),
  constraint webhook_description_has_at_most_1000_characters check (length(description) <= 1000),
  constraint disabled_webhook_says_why
    check ((disabled_at is null) = (disabled_reason is null) and (disabled_at is null or not is_active)),
  constraint webhook_endpoints_are_referred_to_within_their_tenant unique (tenant_id, id)
);

comment on table laurel.webhook_endpoints is 'An address of yours that is told what happens. Rule H1.';
comment on column laurel.webhook_endpoints.url is 'http or https, without user name or password. Private addresses are refused.';
comment on column laurel.webhook_endpoints.description is 'Null when none was given.';
comment on column laurel.webhook_endpoints.event_types is 'The types it is told of: points.changed and so on.';
comment on column laurel.webhook_endpoints.is_active is 'Messages are written for active endpoints only; what is still to be delivered to an inactive one waits.';
comment on column laurel.webhook_endpoints.max_concurrency is 'Most requests to it at once, over all workers.';
comment on column laurel.webhook_endpoints.disabled_at is 'When Laurel itself made it inactive; null when it did not.';
comment on column laurel.webhook_endpoints.disabled_reason is 'Why Laurel made it inactive; null when it did not.';
comment on column laurel.webhook_endpoints.secret_rotated_at is 'When its secret was last replaced; null when it still has its first.';
comment on constraint webhook_event_types_are_known on laurel.webhook_endpoints is
  'An event type is one of points.changed, points.level_changed, points.boost_started, points.boost_finished, achievement.completed, streak.started, streak.extended, streak.lost, streak.freeze_consumed, streak.freeze_earned, leaderboard.started, leaderboard.changed, leaderboard.finished and leaderboard.rank_changed.';
comment on constraint webhook_subscribes_to_something on laurel.webhook_endpoints is 'A webhook has at least one event type.';
comment on constraint webhook_concurrency_is_1_to_100 on laurel.webhook_endpoints is 'A webhook takes 1 to 100 requests at once.';
comment on constraint disabled_webhook_says_why on laurel.webhook_endpoints is 'A webhook that Laurel disabled is inactive and says why.';
comment on constraint webhook_description_has_at_most_1000_characters on laurel.webhook_endpoints is
  'A webhook''s description has at most 1,000 characters.';

alter table laurel.webhook_endpoints enable row level security;
grant select, insert (url, description, event_types, is_active, max_concurrency),
  update (url, description, event_types, is_active, max_concurrency), delete
  on laurel.webhook_endpoints to laurel_admin;
create policy admins_write on laurel.webhook_endpoints for all to laurel_admin
  using (tenant_id = (select laurel.current_tenant_id())) with check (tenant_id = (select laurel.current_tenant_id()));

-- Sealed secrets. The latest signs, and the one before it beside it until the overlap of a rotation
-- is over. An endpoint that was made in SQL has none until the dispatcher gives it one.
create table laurel_private.webhook_secrets (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  endpoint_id uuid not null,
  sealed bytea not null,
  expires_at timestamptz,
  constraint webhook_secrets_have_ids primary key (id),
  constraint webhook_secret_is_of_an_endpoint foreign key (tenant_id, endpoint_id)
    references laurel.webhook_endpoints (tenant_id, id) on delete cascade
);

create index webhook_secrets_by_endpoint on laurel_private.webhook_secrets (tenant_id, endpoint_id, id);
create unique index one_current_webhook_secret on laurel_private.webhook_secrets (endpoint_id) where expires_at is null;
comment on table laurel_private.webhook_secrets is 'Secrets of endpoints, sealed with AES-256-GCM by src/webhooks/secrets.ts.';
comment on column laurel_private.webhook_secrets.expires_at is 'Until when a replaced secret still signs; null for the current one.';
alter table laurel_private.webhook_secrets enable row level security;

-- Whether an address is one of the public internet. The list of IANA's special-purpose registries;
-- at every connection src/webhooks/addresses.ts asks again, and a test holds the two together.
create function laurel_private.is_public_address(address inet)
  returns boolean language sql immutable parallel safe as $$
  select case family(address)
    when 4 then not address <<= any (array[
      '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24',
      '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24', '198.18.0.0/15',
      '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4']::inet[])
    else address <<= '2000::/3' and not address <<= any (array['2001::/23', '2001:db8::/32', '2002::/16', '2620:4f:8000::/48', '3fff::/20']::inet[])
  end
$$;

-- Refuses what no webhook may be sent to. Hosts by name are judged when they are resolved, at every
-- connection; here only what is plain from the URL. What this session may still use is in a setting,
-- which the server takes from LAUREL_WEBHOOK_ALLOW_CIDRS: whoever sets it to something else gains an
-- endpoint that the dispatcher refuses to connect to.
create function laurel_private.check_webhook_url(url text)
  returns void language plpgsql stable as $$
declare
  host text := lower(substring(url from '^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#]|$)'));
  address inet;
begin
  if host is null or length(url) > 2000 or url ~ '[[:space:][:cntrl:]]' then
    perform laurel_private.fail('LR020', 'url',
      'A webhook''s URL is an http or https address of at most 2,000 characters, without spaces, user name or password.');
  end if;
  begin
    -- A last part in digits makes it an address, in forms that only URLs know (127.1, 0x7f000001).
    address := case
      when host ~ '^\[' then trim(host, '[]')
      when host ~ '(^|\.)localhost\.?$' then '127.0.0.1'
      when host ~ '(^|\.)([0-9]+|0x[0-9a-f]*)\.?$' then
        case when host ~ '^((0|[1-9][0-9]{0,2})\.){3}(0|[1-9][0-9]{0,2})$' then host else 'none' end
      end;
  exception when invalid_text_representation then
    perform laurel_private.fail('LR020', 'url', 'The IP address in the webhook''s URL is not valid.');
  end;
  if address is not null and not laurel_private.is_public_address(address) and not exists (
    select from regexp_split_to_table(nullif(current_setting('laurel.webhook_allow_cidrs', true), ''), '\s*,\s*') c (network)
    where address <<= c.network::inet)
  then
    perform laurel_private.fail('LR020', 'url',
      'The webhook''s URL names a private or reserved address; LAUREL_WEBHOOK_ALLOW_CIDRS can allow it.');
  end if;
end
$$;

comment on function laurel_private.check_webhook_url(text) is
  'LR020 for what is no http or https URL, or names an address outside of the public internet that laurel.webhook_allow_cidrs does not hold. Rule H5.';

create function laurel_private.tg_webhook_endpoints__check()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' or new.url <> old.url then
    perform laurel_private.check_webhook_url(new.url);
  end if;
  if new.is_active then
    new.disabled_at := null;
    new.disabled_reason := null;
  end if;
  return new;
end
$$;

create trigger webhook_endpoints__check before insert or update on laurel.webhook_endpoints
  for each row execute function laurel_private.tg_webhook_endpoints__check();

-- A deleted tenant has nothing more to tell: boosts that begin later, streaks that end. Before, while its
-- configuration can still be changed.
create function laurel_private.tg_tenants__silence()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update laurel.webhook_endpoints e set is_active = false where e.tenant_id = new.id and e.is_active;
  return new;
end
$$;

create trigger tenants__silence before update of archived_at on laurel.tenants
  for each row when (new.archived_at is not null and old.archived_at is null)
  execute function laurel_private.tg_tenants__silence();
--! EndIncluded webhooks/webhook_endpoints.sql
--! Included webhooks/webhook_messages.sql
-- Messages to be delivered, written in the transaction that causes them (E6, H2), with one delivery
-- for each endpoint that wants them. Written by write_messages() alone; delivered by the dispatcher
-- (deliver_messages.sql, src/webhooks); read by admins.
-- Invariant: a message stays until each of its deliveries has succeeded or is parked, and 30 days.

create table laurel.webhook_messages (
  id uuid not null,
  tenant_id uuid not null,
  user_id text collate "C",
  event_type text not null,
  -- Not jsonb: what is signed is sent again byte for byte.
  payload json not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint webhook_messages_have_ids primary key (tenant_id, id),
  constraint webhook_message_is_about_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

-- Those of a user, for its export and erasure; those of nobody, for users named inside.
create index webhook_messages_by_user on laurel.webhook_messages (tenant_id, user_id, id);

comment on table laurel.webhook_messages is 'What endpoints are told, kept for 30 days. Rule H2.';
comment on column laurel.webhook_messages.id is 'Sent as webhook-id, the same at every attempt.';
comment on column laurel.webhook_messages.user_id is 'The user it is about; null when it is about none in particular.';
comment on column laurel.webhook_messages.event_type is 'points.changed and so on.';
comment on column laurel.webhook_messages.payload is 'The body, as it is sent.';

-- No foreign key to the endpoint: every award of a tenant would lock the endpoint's one row (key
-- share). Endpoints take their deliveries with them by a trigger.
create table laurel.webhook_deliveries (
  tenant_id uuid not null,
  message_id uuid not null,
  endpoint_id uuid not null,
  user_id text collate "C",
  status text not null default 'pending',
  failed_attempts int not null default 0,
  next_attempt_at timestamptz default clock_timestamp(),
  delivered_at timestamptz,
  parked_at timestamptz,
  last_status int,
  last_error text,
  constraint webhook_messages_are_delivered_once_per_endpoint primary key (tenant_id, message_id, endpoint_id),
  constraint webhook_delivery_is_of_a_message foreign key (tenant_id, message_id)
    references laurel.webhook_messages on delete cascade,
  constraint webhook_delivery_status_is_known check (status in ('pending', 'delivered', 'parked')),
  constraint pending_delivery_is_tried_again check ((status = 'pending') = (next_attempt_at is not null)),
  constraint delivered_webhook_says_when check ((status = 'delivered') = (delivered_at is not null)),
  constraint parked_webhook_says_when check ((status = 'parked') = (parked_at is not null))
);

create index webhook_deliveries_by_endpoint on laurel.webhook_deliveries (endpoint_id, message_id);
-- Due ones of an endpoint; and whether a user has earlier ones. Both hold what is pending alone.
create index webhook_deliveries_due on laurel.webhook_deliveries (endpoint_id, next_attempt_at, message_id) where status = 'pending';
create index webhook_deliveries_of_user on laurel.webhook_deliveries (endpoint_id, user_id, message_id) where status = 'pending';
-- For replays and figures.
create index webhook_deliveries_parked on laurel.webhook_deliveries (endpoint_id, message_id) where status = 'parked';

comment on table laurel.webhook_deliveries is 'A message on its way to an endpoint. Rule H2.';
comment on column laurel.webhook_deliveries.user_id is 'The user that the message is about, whose messages go out in order; null when it is about none.';
comment on column laurel.webhook_deliveries.status is 'pending, delivered (the endpoint answered 2xx), or parked: given up until it is replayed.';
comment on column laurel.webhook_deliveries.failed_attempts is 'Failed attempts since it was written or last replayed.';
comment on column laurel.webhook_deliveries.next_attempt_at is 'Not tried before then; null when nothing is left to do.';
comment on column laurel.webhook_deliveries.delivered_at is 'Null until it succeeds.';
comment on column laurel.webhook_deliveries.parked_at is 'Null unless it was given up.';
comment on column laurel.webhook_deliveries.last_status is 'HTTP status of the last attempt; null before it or when there was no answer.';
comment on column laurel.webhook_deliveries.last_error is 'What was wrong with the last attempt; null when nothing was.';

create table laurel.webhook_attempts (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  message_id uuid not null,
  endpoint_id uuid not null,
  attempted_at timestamptz not null,
  latency_ms int not null,
  status int,
  error text,
  response text,
  constraint webhook_attempts_have_ids primary key (id),
  constraint webhook_attempt_is_of_a_delivery foreign key (tenant_id, message_id, endpoint_id)
    references laurel.webhook_deliveries on delete cascade
);

create index webhook_attempts_by_delivery on laurel.webhook_attempts (tenant_id, message_id, endpoint_id, id);
comment on table laurel.webhook_attempts is 'The delivery log: every attempt and what came back, kept for 30 days.';
comment on column laurel.webhook_attempts.latency_ms is 'Milliseconds from the start of the attempt to its end.';
comment on column laurel.webhook_attempts.status is 'HTTP status; null when there was no answer.';
comment on column laurel.webhook_attempts.error is 'What was wrong; null when the endpoint answered 2xx.';
comment on column laurel.webhook_attempts.response is 'The first 16 kB of the answer''s body; null when there was none.';

do $$
declare
  table_name text;
begin
  foreach table_name in array array['webhook_messages', 'webhook_deliveries', 'webhook_attempts'] loop
    execute format('alter table laurel.%I enable row level security', table_name);
    execute format('grant select on laurel.%I to laurel_admin', table_name);
    execute format('create policy admins_read on laurel.%I for select to laurel_admin
      using (tenant_id = (select laurel.current_tenant_id()))', table_name);
  end loop;
end
$$;

-- What a dispatcher has taken. Apart from the deliveries, whose indexes would else be written once
-- more for every attempt; a dispatcher that dies loses its leases by time.
create table laurel_private.webhook_leases (
  tenant_id uuid not null,
  message_id uuid not null,
  endpoint_id uuid not null,
  token uuid not null,
  leased_until timestamptz not null,
  constraint webhook_deliveries_are_leased_once primary key (tenant_id, message_id, endpoint_id),
  constraint webhook_lease_is_of_a_delivery foreign key (tenant_id, message_id, endpoint_id)
    references laurel.webhook_deliveries on delete cascade
);

create index webhook_leases_by_endpoint on laurel_private.webhook_leases (endpoint_id);
comment on table laurel_private.webhook_leases is 'Deliveries that a dispatcher works on, until when.';
alter table laurel_private.webhook_leases enable row level security;

create function laurel_private.tg_webhook_endpoints__forget()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from laurel.webhook_deliveries d where d.endpoint_id = old.id order by d.message_id for update;
  delete from laurel.webhook_deliveries d where d.endpoint_id = old.id;
  return null;
end
$$;

create trigger webhook_endpoints__forget after delete on laurel.webhook_endpoints
  for each row execute function laurel_private.tg_webhook_endpoints__forget();

create type laurel_private.outgoing_message as (
  -- The user it is about; null when it is about none in particular.
  user_id text,
  event_type text,
  payload json
);

-- The types that some active endpoint of a tenant subscribes to.
create function laurel_private.wanted_webhooks(for_tenant uuid)
  returns text[] language sql stable as $$
  select coalesce(array_agg(distinct t.event_type order by t.event_type), '{}')
  from laurel.webhook_endpoints e cross join lateral unnest(e.event_types) t (event_type)
  where e.tenant_id = for_tenant and e.is_active
$$;

comment on function laurel_private.wanted_webhooks(uuid) is
  'Types of webhook messages that some active endpoint of this tenant subscribes to. The flow has them compiled in points_rules.';

-- Writes messages in this transaction, those that some active endpoint wants; the others leave no
-- trace. Per user they are delivered in the order given, and after those written before: callers
-- hold the lock of the users named.
create function laurel_private.write_messages(for_tenant uuid, messages laurel_private.outgoing_message[])
  returns void language plpgsql volatile as $$
begin
  with message as materialized (
    select laurel_private.uuid_v7() as id, m.user_id, m.event_type, m.payload
    from (
      select m.* from unnest(messages) with ordinality as m (user_id, event_type, payload, no)
      where exists (
        select from laurel.webhook_endpoints e
        where e.tenant_id = for_tenant and e.is_active and m.event_type = any (e.event_types))
      order by m.no) m
  ),
  written as (
    insert into laurel.webhook_messages (id, tenant_id, user_id, event_type, payload)
    select m.id, for_tenant, m.user_id, m.event_type, m.payload from message m
  )
  insert into laurel.webhook_deliveries (tenant_id, message_id, endpoint_id, user_id)
  select for_tenant, m.id, e.id, m.user_id
  from message m
  join laurel.webhook_endpoints e on e.tenant_id = for_tenant and e.is_active and m.event_type = any (e.event_types);
end
$$;

comment on function laurel_private.write_messages(uuid, laurel_private.outgoing_message[]) is
  'Writes webhook messages (user, type, payload) for the endpoints of a tenant that want them, in this transaction and in this order. Rule H2.';

-- Messages about a user go with the user; messages about others, as of leaderboards, lose its entry
-- in their rankings and what was answered to them.
create function laurel_private.erase_from_messages(for_tenant uuid, for_user text)
  returns void language plpgsql volatile as $$
declare
  named uuid[];
begin
  named := array(
    select m.id from laurel.webhook_messages m
    where m.tenant_id = for_tenant and m.user_id is null
      and m.payload::jsonb @> jsonb_build_object('leaderboard',
        jsonb_build_object('rankings', jsonb_build_array(jsonb_build_object('userId', for_user))))
    order by m.id for update);
  update laurel.webhook_messages m
  set payload = jsonb_set(m.payload::jsonb, '{leaderboard,rankings}', (
    select coalesce(jsonb_agg(r.entry order by r.no), '[]')
    from jsonb_array_elements(m.payload::jsonb #> '{leaderboard,rankings}') with ordinality as r (entry, no)
    where r.entry ->> 'userId' <> for_user))::json
  where m.tenant_id = for_tenant and m.id = any (named);
  update laurel.webhook_attempts t set response = null
  where t.tenant_id = for_tenant and t.message_id = any (named) and t.response is not null;
end
$$;

comment on function laurel_private.erase_from_messages(uuid, text) is
  'Takes a user out of the rankings in messages about nobody in particular. Rule K4.';
--! EndIncluded webhooks/webhook_messages.sql
--! Included points/points_rules.sql
-- Compiled rules: what the flow must know of a metric's configuration, in one row. Derived from
-- metrics, attributes, achievements and the points tables by compile_points_rules(), which runs after every
-- change of one of them; read by every event. The row with the nil metric holds the triggers of
-- user_creation, streaks and achievements.

create type laurel_private.trigger_rule as (
  trigger_id uuid,
  cause laurel.points_award_cause,
  system_no int,
  system_id uuid,
  system_key text,
  max_points int,
  points int,
  threshold int,
  metric_no int,
  metric_key text,
  achievement_id uuid,
  user_attributes jsonb,
  event_attributes jsonb,
  blocks boolean,
  version int
);

create type laurel_private.boost_rule as (
  system_no int,
  starts_on date,
  ends_on date,
  multiplier numeric,
  rounding laurel.rounding_mode,
  user_attributes jsonb,
  snapshot jsonb
);

create type laurel_private.system_rule as (
  system_id uuid,
  system_key text,
  max_points int,
  level_thresholds bigint[]
);

-- An achievement that events can complete (A1), in order of creation.
create type laurel_private.achievement_rule as (
  achievement_id uuid,
  kind laurel.achievement_kind,
  metric_no int,
  -- The metric's total or the streak's length that completes it.
  value numeric,
  prerequisite_ids uuid[],
  user_attributes jsonb,
  event_attributes jsonb
);

create table laurel_private.points_rules (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  metric_id uuid not null,
  metric_key text collate "C",
  event_attribute_keys text[] not null,
  triggers laurel_private.trigger_rule[] not null,
  systems laurel_private.system_rule[] not null,
  system_ids uuid[] not null,
  boosts laurel_private.boost_rule[] not null,
  achievements laurel_private.achievement_rule[] not null,
  achievement_values numeric[] not null,
  leaderboards laurel_private.leaderboard_rule[] not null,
  counts_events boolean not null,
  has_user_boosts boolean not null,
  streak text not null,
  streak_version int not null,
  counts_for_streak boolean not null,
  streak_lengths int[] not null,
  streak_values int[] not null,
  -- Ready-made pieces of responses, as JSON text.
  levels jsonb not null,
  snapshots jsonb not null,
  achievement_snapshots jsonb not null,
  webhook_types text[] not null,
  constraint points_rules_are_one_per_metric primary key (tenant_id, metric_id),
  constraint points_rules_are_found_by_metric_key unique (tenant_id, metric_key)
-- Rows are read whole by every event: keep them in line and uncompressed up to a page.
) with (toast_tuple_target = 8160);

comment on table laurel_private.points_rules is 'Compiled configuration, one row per metric in use and the nil metric.';
comment on column laurel_private.points_rules.triggers is 'Active triggers in firing order (TR7).';
comment on column laurel_private.points_rules.system_ids is 'The IDs of systems, in their order: most users'' states have just these.';
comment on column laurel_private.points_rules.achievements is
  'Active achievements: of the metric; in the nil metric''s row those of achievements and streaks.';
comment on column laurel_private.points_rules.achievement_values is
  'The metric values, lowest first, of achievements without filters: an event that passes none of them completes none of those.';
comment on column laurel_private.points_rules.leaderboards is
  'Active leaderboards that the metric, or a system that its triggers pay into, feeds; in the nil metric''s row those of all systems. Those of streaks are in every row.';
comment on column laurel_private.points_rules.counts_events is 'Whether some trigger filters on event attributes and so keeps its own count.';
comment on column laurel_private.points_rules.has_user_boosts is 'Whether some system has boosts of single users, which are looked up per event.';
comment on column laurel_private.points_rules.streak is 'The streak that responses show for a user without one.';
comment on column laurel_private.points_rules.streak_version is 'That of the streak settings: answers kept with another one are out of date.';
comment on column laurel_private.points_rules.counts_for_streak is 'Whether events of the metric may satisfy somebody''s streak.';
comment on column laurel_private.points_rules.streak_lengths is
  'At multiples of these a longer streak fires triggers; has 1 when achievements may follow from any length.';
comment on column laurel_private.points_rules.streak_values is 'Lengths that complete achievements.';
comment on column laurel_private.points_rules.levels is 'Per system key, its levels as responses show them, lowest first.';
comment on column laurel_private.points_rules.snapshots is 'Systems (by key, without their braces), triggers and leaderboards (by ID, behind their key and left open) as responses show them, as text.';
comment on column laurel_private.points_rules.achievement_snapshots is
  'Achievements, in the same way. Apart, since few events show one, and what makes a row too long for a page is compressed.';
comment on column laurel_private.points_rules.webhook_types is 'Types of messages that some active endpoint of the tenant wants.';
alter table laurel_private.points_rules enable row level security;

-- The metric of what happens without one.
create function laurel_private.nil_metric() returns uuid language sql immutable parallel safe
  return '00000000-0000-0000-0000-000000000000'::uuid;

-- Representations shared by the responses and the compiled rules; shapes as in the REST contract.
-- Stable, as jsonb_build_object() is: PostgreSQL takes no function in that claims more than its body,
-- and a call that is not taken in costs 15 µs.

-- Attribute filters as [{key, value}].
create function laurel_private.attribute_pairs(attributes jsonb)
  returns jsonb language sql immutable parallel safe as $$
  select coalesce(jsonb_agg(jsonb_build_object('key', a.key, 'value', a.value) order by a.key), '[]')
  from jsonb_each_text(attributes) a
$$;

create function laurel_private.level_as_json(level laurel.points_levels)
  returns jsonb language sql stable parallel safe as $$
  select case when level.id is not null then jsonb_build_object(
    'id', level.id, 'key', level.key, 'name', level.name, 'description', level.description,
    'badgeUrl', level.badge_url, 'points', level.points) end
$$;

create function laurel_private.system_as_json(system laurel.points_systems)
  returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object(
    'id', system.id, 'key', system.key, 'name', system.name, 'description', system.description,
    'badgeUrl', system.badge_url, 'maxPoints', system.max_points)
$$;

create function laurel_private.instant_as_text(moment timestamptz)
  returns text language sql stable parallel safe as $$
  select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Of many triggers, whose names are joined in: one expression that is taken in.
create function laurel_private.trigger_shape(trigger laurel.points_triggers, metric_name text, achievement_name text)
  returns jsonb language sql stable parallel safe
  return jsonb_strip_nulls(jsonb_build_object(
    'id', (trigger).id, 'type', (trigger).type, 'points', (trigger).points, 'status', (trigger).status,
    'metricId', (trigger).metric_id, 'metricName', metric_name, 'metricThreshold', (trigger).metric_threshold,
    'achievementId', (trigger).achievement_id, 'achievementName', achievement_name,
    'streakLengthThreshold', (trigger).streak_length,
    'timeUnit', case (trigger).time_unit when 'hours' then 'hour' when 'days' then 'day' end,
    'timeInterval', (trigger).time_interval,
    -- The call, which is not taken in, for those alone that have any.
    'userAttributes', case when (trigger).user_attributes = '{}' then '[]'
      else laurel_private.attribute_pairs((trigger).user_attributes) end,
    'eventAttributes', case when (trigger).type <> 'metric' then null when (trigger).event_attributes = '{}' then '[]'
      else laurel_private.attribute_pairs((trigger).event_attributes) end,
    'eventAttribute', case when (trigger).type = 'metric' and (trigger).event_attributes <> '{}'
      then laurel_private.attribute_pairs((trigger).event_attributes) -> 0 end,
    'created', laurel_private.instant_as_text((trigger).created_at),
    'updated', laurel_private.instant_as_text((trigger).updated_at)));

create function laurel_private.trigger_as_json(trigger laurel.points_triggers)
  returns jsonb language sql stable parallel safe as $$
  select laurel_private.trigger_shape(trigger, m.name, a.name)
  from (select) one
  left join laurel.metrics m on m.id = trigger.metric_id
  left join laurel.achievements a on a.id = trigger.achievement_id
$$;

-- Status of a boost on a day (B3).
create function laurel_private.boost_status(starts_on date, ends_on date, today date)
  returns text language sql immutable parallel safe
  return case when today < starts_on then 'scheduled' when today > ends_on then 'finished' else 'active' end;

-- A boost as it is while it applies; a later read puts in the status of its own day.
create function laurel_private.boost_as_json(boost laurel.points_boosts)
  returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object(
    'id', boost.id, 'name', boost.name, 'status', 'active', 'start', boost.starts_on, 'end', boost.ends_on,
    'multiplier', trim_scale(boost.multiplier), 'rounding', boost.rounding)
$$;

-- What the rules of a tenant are, from its configuration: one row per metric in use, with its metric
-- triggers, and the nil one, with those of other causes that the flow knows. Everything is grouped once, so that the
-- cost grows with the configuration and not with its square. Of these metrics alone, or (null) of all and the nil one.
create function laurel_private.current_points_rules(for_tenant uuid, of_metrics uuid[] default null)
  returns setof laurel_private.points_rules language sql stable as $$
  with metric as (
    select m.id, m.key::text as key from laurel.metrics m
    where m.tenant_id = for_tenant and m.archived_at is null and (of_metrics is null or m.id = any (of_metrics))
    union all
    select laurel_private.nil_metric(), null where of_metrics is null
  ),
  trigger as (
    select metric.id as metric, metric.key as metric_key, t, s,
      laurel_private.trigger_shape(t, m.name, a.name)::text as snapshot,
      (dense_rank() over (partition by metric.id order by s.id))::int as system_no
    from laurel.points_triggers t
    join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
    join metric on metric.id = coalesce(t.metric_id, laurel_private.nil_metric())
    left join laurel.metrics m on m.id = t.metric_id
    left join laurel.achievements a on a.id = t.achievement_id
    where t.tenant_id = for_tenant and t.status = 'active' and t.type in ('user_creation', 'metric', 'streak', 'achievement')
  ),
  triggers as (
    select metric, bool_or((t).event_attributes <> '{}') as counts_events,
      jsonb_object_agg((t).id, snapshot) as snapshots,
      array_agg((
        (t).id, (t).type::text::laurel.points_award_cause, system_no, (s).id, (s).key::text, (s).max_points,
        (t).points, coalesce((t).metric_threshold, (t).streak_length),
        case when (t).type = 'metric' then 1 end, metric_key, (t).achievement_id,
        nullif((t).user_attributes::jsonb, '{}'), nullif((t).event_attributes::jsonb, '{}'),
        (t).block_if_out_of_points, (t).version)::laurel_private.trigger_rule order by (t).type, (t).id) as rules
    from trigger group by metric
  ),
  level as (
    select l.system_id, array_agg(l.points::bigint order by l.points) as thresholds,
      jsonb_agg(laurel_private.level_as_json(l) order by l.points) as levels
    from laurel.points_levels l where l.tenant_id = for_tenant group by l.system_id
  ),
  system as (
    select distinct on (metric, system_no) metric, system_no, s from trigger order by metric, system_no
  ),
  systems as (
    select system.metric,
      jsonb_object_agg((s).key, trim(laurel_private.system_as_json(s)::text, '{}')) as snapshots,
      jsonb_object_agg((s).key, coalesce(level.levels, '[]')) as levels,
      array_agg(((s).id, (s).key::text, (s).max_points, coalesce(level.thresholds, '{}'))::laurel_private.system_rule
        order by system_no) as rules,
      array_agg((s).id order by system_no) as ids
    from system left join level on level.system_id = (s).id
    group by system.metric
  ),
  boosts as (
    select system.metric, bool_or(b.user_id is not null) as has_user_boosts,
      array_agg((
        system_no, b.starts_on, b.ends_on, b.multiplier, b.rounding, nullif(b.user_attributes::jsonb, '{}'),
        laurel_private.boost_as_json(b))::laurel_private.boost_rule order by b.id)
        filter (where b.user_id is null) as rules
    from system
    join laurel.points_boosts b on b.tenant_id = for_tenant and b.system_id = (s).id
      and b.is_active and b.archived_at is null
    group by system.metric
  ),
  achievement as (
    select coalesce(a.metric_id, laurel_private.nil_metric()) as metric, a
    from laurel.achievements a
    where a.tenant_id = for_tenant and a.status = 'active' and a.kind in ('metric', 'streak', 'achievement')
  ),
  achievements as (
    select metric, jsonb_object_agg((a).id, laurel_private.achievement_as_json(a)::text) as snapshots,
      array_agg((
        (a).id, (a).kind, case when (a).kind = 'metric' then 1 end, coalesce((a).metric_value, (a).streak_length), (a).prerequisite_ids,
        nullif((a).user_attributes::jsonb, '{}'), nullif((a).event_attributes::jsonb, '{}'))::laurel_private.achievement_rule
        order by (a).id) as rules,
      array_agg(distinct (a).metric_value order by (a).metric_value)
        filter (where (a).kind = 'metric' and (a).user_attributes = '{}' and (a).event_attributes = '{}') as plain_values
    from achievement group by metric
  ),
  leaderboard as (
    select metric.id as metric, b
    from laurel.leaderboards b
    join metric on b.rank_by = 'streak' or b.metric_id = metric.id
      or b.rank_by = 'points' and (metric.id = laurel_private.nil_metric()
        or exists (select from system where system.metric = metric.id and (system.s).id = b.system_id))
    where b.tenant_id = for_tenant and b.status = 'active'
  ),
  leaderboards as (
    select metric, array_agg(laurel_private.rule_of(b) order by (b).id) as rules,
      jsonb_object_agg((b).id, concat(to_json((b).key::text), ':',
        left((laurel_private.leaderboard_as_json(b, 'active', null, null) - 'start' - 'end')::text, -1))) as snapshots
    from leaderboard group by metric
  )
  select for_tenant, metric.id, metric.key,
    array(select a.key::text from laurel.attributes a
      where a.tenant_id = for_tenant and a.type = 'event' order by a.key),
    coalesce(triggers.rules, '{}'), coalesce(systems.rules, '{}'), coalesce(systems.ids, '{}'), coalesce(boosts.rules, '{}'),
    coalesce(achievements.rules, '{}'), coalesce(achievements.plain_values, '{}'),
    coalesce(leaderboards.rules, '{}'),
    coalesce(triggers.counts_events, false), coalesce(boosts.has_user_boosts, false),
    streak.answer, streak.version,
    streak.has_customization or streak.metric_ids is null or metric.id = any (streak.metric_ids), streak_lengths.lengths, streak_lengths.values,
    coalesce(systems.levels, '{}'), coalesce(systems.snapshots, '{}') || coalesce(triggers.snapshots, '{}')
      || coalesce(leaderboards.snapshots, '{}'), coalesce(achievements.snapshots, '{}'),
    laurel_private.wanted_webhooks(for_tenant)
  from metric
  cross join (
    select json_build_object('length', 0, 'frequency', s.frequency, 'started', null,
      'periodStart', null, 'periodEnd', null, 'expires', null, 'extended', false)::text as answer, s.version, s.has_customization,
      (select array_agg(m.id) from laurel.metrics m where m.id = any (s.metric_ids) and m.archived_at is null) as metric_ids
    from laurel_private.streak_settings s where s.tenant_id = for_tenant) streak
  cross join (
    select coalesce(array_agg(distinct l.length order by l.length) filter (where not l.is_value), '{}') as lengths,
      coalesce(array_agg(distinct l.length order by l.length) filter (where l.is_value), '{}') as values
    from (
      select t.streak_length, false
      from laurel.points_triggers t join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
      where t.tenant_id = for_tenant and t.status = 'active' and t.type = 'streak'
      union all
      -- Users may come to match a filter when they have long passed the length.
      select case when (a).user_attributes = '{}' then (a).streak_length else 1 end, (a).user_attributes = '{}'
      from achievement where (a).kind = 'streak') l (length, is_value)
  ) streak_lengths
  left join triggers on triggers.metric = metric.id
  left join systems on systems.metric = metric.id
  left join boosts on boosts.metric = metric.id
  left join achievements on achievements.metric = metric.id
  left join leaderboards on leaderboards.metric = metric.id
$$;

-- Rebuilds a tenant's compiled rules and writes those that changed. Of these metrics and systems alone (null: of all) where
-- nothing else can have changed: the rest is what a change of it, under the same lock, has left.
create function laurel_private.compile_points_rules(for_tenant uuid, of_metrics uuid[] default null, of_systems uuid[] default null)
  returns void language plpgsql volatile as $$
begin
  -- Two changes of one tenant's configuration at once: the second waits here, and its next
  -- statement sees what the first one committed. Otherwise each would compile without the other.
  perform from laurel.tenants t where t.id = for_tenant for no key update;
  delete from laurel_private.points_rules r
  where of_metrics is null and r.tenant_id = for_tenant and r.metric_id <> laurel_private.nil_metric()
    and not exists (
      select from laurel.metrics m where m.id = r.metric_id and m.archived_at is null);
  insert into laurel_private.points_rules as r
  select c.* from laurel_private.current_points_rules(for_tenant, of_metrics) c
  where exists (select from laurel.tenants t where t.id = for_tenant)
  on conflict (tenant_id, metric_id) do update
  set metric_key = excluded.metric_key, event_attribute_keys = excluded.event_attribute_keys,
    triggers = excluded.triggers, systems = excluded.systems, system_ids = excluded.system_ids, boosts = excluded.boosts,
    achievements = excluded.achievements, achievement_values = excluded.achievement_values, leaderboards = excluded.leaderboards,
    counts_events = excluded.counts_events, has_user_boosts = excluded.has_user_boosts,
    streak = excluded.streak, streak_version = excluded.streak_version, counts_for_streak = excluded.counts_for_streak,
    streak_lengths = excluded.streak_lengths, streak_values = excluded.streak_values,
    levels = excluded.levels, snapshots = excluded.snapshots,
    achievement_snapshots = excluded.achievement_snapshots, webhook_types = excluded.webhook_types
  where to_jsonb(r) is distinct from to_jsonb(excluded);
  perform laurel_private.compile_shown_systems(for_tenant, of_systems);
end
$$;

comment on function laurel_private.compile_points_rules(uuid, uuid[], uuid[]) is
  'Rebuilds the compiled rules of a tenant, all or those of these metrics and systems. Runs after every change of configuration.';

-- Statement triggers, so that a thousand rows changed at once are compiled once.
create function laurel_private.tg_configuration__compile()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  changed_tenant uuid;
begin
  for changed_tenant in select distinct c.tenant_id from changed c order by 1 loop
    perform laurel_private.compile_points_rules(changed_tenant);
  end loop;
  return null;
end
$$;

-- Configuration is made metric by metric and trigger by trigger: with hundreds of them each would wait for all to be
-- compiled. What is in a new metric's row follows from nothing but its own.
create function laurel_private.tg_metrics__compile()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  added record;
begin
  for added in select c.tenant_id, array_agg(c.id) as ids from changed c group by 1 order by 1 loop
    perform laurel_private.compile_points_rules(added.tenant_id, added.ids, '{}');
  end loop;
  return null;
end
$$;

-- A metric trigger is in the rows of its metric and of its system, and was in those that it named before; one of another type
-- has its say in all.
create function laurel_private.tg_points_triggers__compile()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  touching refcursor;
  touched record;
begin
  if tg_op = 'UPDATE' then
    open touching for
      select t.tenant_id, bool_and(t.type = 'metric') as are_of_metrics, array_agg(distinct t.metric_id) as metric_ids,
        array_agg(distinct t.system_id) as system_ids
      from (
        select c.tenant_id, c.type, c.metric_id, c.system_id from changed c
        union all
        select c.tenant_id, c.type, c.metric_id, c.system_id from changed_from c) t
      group by 1 order by 1;
  else
    open touching for
      select t.tenant_id, bool_and(t.type = 'metric') as are_of_metrics, array_agg(distinct t.metric_id) as metric_ids,
        array_agg(distinct t.system_id) as system_ids
      from changed t group by 1 order by 1;
  end if;
  loop
    fetch touching into touched;
    exit when not found;
    if touched.are_of_metrics then
      perform laurel_private.compile_points_rules(touched.tenant_id, touched.metric_ids, touched.system_ids);
    else
      perform laurel_private.compile_points_rules(touched.tenant_id);
    end if;
  end loop;
  return null;
end
$$;

create function laurel_private.tg_tenants__compile()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.compile_points_rules(new.id);
  return null;
end
$$;

create trigger tenants__compile after insert or update on laurel.tenants
  for each row execute function laurel_private.tg_tenants__compile();

-- Archived things are gone (RP5) and stay so: what happened meanwhile was not counted for them.
create function laurel_private.tg_configuration__keep_archived()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.fail('LR020', 'archived_at', 'What is archived cannot be changed.');
end
$$;

create trigger metrics__keep_archived before update on laurel.metrics
  for each row when (old.archived_at is not null)
  execute function laurel_private.tg_configuration__keep_archived();
create trigger points_systems__keep_archived before update on laurel.points_systems
  for each row when (old.archived_at is not null)
  execute function laurel_private.tg_configuration__keep_archived();
create trigger points_boosts__keep_archived before update on laurel.points_boosts
  for each row when (old.archived_at is not null)
  execute function laurel_private.tg_configuration__keep_archived();

do $$
declare
  table_name text;
begin
  foreach table_name in array
    array['attributes', 'metrics', 'achievements', 'leaderboards', 'points_systems', 'points_triggers', 'points_boosts', 'points_levels', 'webhook_endpoints']
  loop
    execute format('create trigger %s__compile_inserted after insert on laurel.%1$I
      referencing new table as changed for each statement execute function laurel_private.%2$I()', table_name,
      case table_name when 'metrics' then 'tg_metrics__compile' when 'points_triggers' then 'tg_points_triggers__compile'
        else 'tg_configuration__compile' end);
    execute format('create trigger %s__compile_updated after update on laurel.%1$I
      referencing %2$s new table as changed for each statement execute function laurel_private.%3$I()', table_name,
      case table_name when 'points_triggers' then 'old table as changed_from' end,
      case table_name when 'points_triggers' then 'tg_points_triggers__compile' else 'tg_configuration__compile' end);
    execute format('create trigger %s__compile_deleted after delete on laurel.%1$I
      referencing old table as changed for each statement
      execute function laurel_private.tg_configuration__compile()', table_name);
    execute format('create trigger %s__touch before update on laurel.%1$I
      for each row execute function laurel_private.tg_configuration__touch()', table_name);
    execute format('grant update (updated_at) on laurel.%I to laurel_admin', table_name);
    execute format('comment on column laurel.%I.updated_at is
      ''When it was last changed. In an update, when it was as you know it: LR026 if it was changed since.''', table_name);
  end loop;
end
$$;
--! EndIncluded points/points_rules.sql
--! Included points/shown_systems.sql
-- What answers show of a points system, ready-made, in one row: reading a user's points takes it and
-- the user's own rows. Derived from the points tables by compile_shown_systems(), which runs with
-- compile_points_rules(); read by user_points_as_text().

create table laurel_private.shown_systems (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  system_key text collate "C" not null,
  system_id uuid not null,
  shown text not null,
  level_thresholds bigint[] not null,
  levels text[] not null,
  triggers jsonb not null,
  constraint shown_systems_are_found_by_system_key primary key (tenant_id, system_key)
-- Read whole by every reader: in line and uncompressed up to a page.
) with (toast_tuple_target = 8160);

comment on table laurel_private.shown_systems is 'Compiled answers, one row per points system in use.';
comment on column laurel_private.shown_systems.shown is 'The system without its braces, as JSON text.';
comment on column laurel_private.shown_systems.level_thresholds is 'Points of its levels, lowest first.';
comment on column laurel_private.shown_systems.levels is 'Its levels in the same order, as JSON text each.';
comment on column laurel_private.shown_systems.triggers is 'Its active triggers by ID, as JSON text each.';
alter table laurel_private.shown_systems enable row level security;

create function laurel_private.current_shown_systems(for_tenant uuid, of_systems uuid[] default null)
  returns setof laurel_private.shown_systems language sql stable as $$
  select s.tenant_id, s.key, s.id, trim(laurel_private.system_as_json(s)::text, '{}'),
    coalesce(l.thresholds, '{}'), coalesce(l.levels, '{}'), coalesce(t.triggers, '{}')
  from laurel.points_systems s
  left join (
    select l.system_id, array_agg(l.points::bigint order by l.points) as thresholds,
      array_agg(laurel_private.level_as_json(l)::text order by l.points) as levels
    from laurel.points_levels l where l.tenant_id = for_tenant group by 1) l on l.system_id = s.id
  left join (
    select t.system_id, jsonb_object_agg(t.id, laurel_private.trigger_shape(t, m.name, a.name)::text) as triggers
    from laurel.points_triggers t
    left join laurel.metrics m on m.id = t.metric_id
    left join laurel.achievements a on a.id = t.achievement_id
    where t.tenant_id = for_tenant and t.status = 'active' and (of_systems is null or t.system_id = any (of_systems))
    group by 1) t on t.system_id = s.id
  where s.tenant_id = for_tenant and s.archived_at is null and (of_systems is null or s.id = any (of_systems))
$$;

create function laurel_private.compile_shown_systems(for_tenant uuid, of_systems uuid[] default null)
  returns void language plpgsql volatile as $$
begin
  delete from laurel_private.shown_systems r
  where of_systems is null and r.tenant_id = for_tenant and not exists (
    select from laurel.points_systems s where s.id = r.system_id and s.key = r.system_key and s.archived_at is null);
  insert into laurel_private.shown_systems as r
  select c.* from laurel_private.current_shown_systems(for_tenant, of_systems) c
  on conflict (tenant_id, system_key) do update
  set system_id = excluded.system_id, shown = excluded.shown, level_thresholds = excluded.level_thresholds,
    levels = excluded.levels, triggers = excluded.triggers
  where r is distinct from excluded;
end
$$;

comment on function laurel_private.compile_shown_systems(uuid, uuid[]) is
  'Rebuilds what is shown of a tenant''s points systems, of all or of these. Part of compile_points_rules(), whose lock orders it.';

do $$
begin
  perform laurel_private.compile_points_rules(t.id) from laurel.tenants t;
end
$$;
--! EndIncluded points/shown_systems.sql
--! Included points/combine_rules.sql
-- Reading the compiled rules for more than one metric, the nil one included, and what is not compiled.

-- The boosts that single users have in these systems.
create function laurel_private.user_boosts(
  tenant_id uuid, user_id text, systems laurel_private.system_rule[]
) returns laurel_private.boost_rule[] language sql stable as $$
  select array(
    select (s.no::int, b.starts_on, b.ends_on, b.multiplier, b.rounding, null,
      laurel_private.boost_as_json(b))::laurel_private.boost_rule
    from unnest(systems) with ordinality as s (system_id, system_key, max_points, level_thresholds, no)
    join laurel.points_boosts b on b.tenant_id = user_boosts.tenant_id and b.user_id = user_boosts.user_id
      and b.system_id = s.system_id and b.is_active and b.archived_at is null
    order by b.id)
$$;

-- The rules of several metrics as one set: triggers in firing order (TR7), metrics and systems
-- renumbered.
create type laurel_private.combined_rules as (
  triggers laurel_private.trigger_rule[],
  systems laurel_private.system_rule[],
  boosts laurel_private.boost_rule[],
  achievements laurel_private.achievement_rule[],
  has_user_boosts boolean,
  counts_events boolean,
  counts_for_achievements boolean,
  webhook_types text[]
);

create function laurel_private.combine_any_rules(tenant_id uuid, metric_ids uuid[])
  returns laurel_private.combined_rules language sql stable as $$
  with rules as (
    select r.*, m.no as metric_no
    from unnest(metric_ids) with ordinality as m (id, no)
    join laurel_private.points_rules r on r.tenant_id = combine_any_rules.tenant_id and r.metric_id = m.id
  ),
  system as (
    select distinct on (s.system_id) s.system_id, s, dense_rank() over (order by s.system_id)::int as no
    from rules cross join lateral unnest(rules.systems) s
  )
  select
    array(
      select (t.trigger_id, t.cause, system.no, t.system_id, t.system_key, t.max_points, t.points, t.threshold, t.metric_no, t.metric_key,
        t.achievement_id, t.user_attributes, t.event_attributes, t.blocks, t.version)::laurel_private.trigger_rule
      from (
        select distinct on (t.cause, t.trigger_id) t.trigger_id, t.cause, t.system_id, t.system_key, t.max_points,
          t.points, t.threshold,
          case when t.cause = 'metric' then rules.metric_no::int end as metric_no, t.metric_key, t.achievement_id, t.user_attributes,
          t.event_attributes, t.blocks, t.version
        from rules cross join lateral unnest(rules.triggers) t) t
      join system on system.system_id = t.system_id
      order by t.cause, t.trigger_id),
    array(select system.s from system order by system.no),
    array(
      select (b.no, b.starts_on, b.ends_on, b.multiplier, b.rounding, b.user_attributes,
        b.snapshot)::laurel_private.boost_rule
      from (
        select distinct on (system.no, b.snapshot ->> 'id') b.starts_on, b.ends_on, b.multiplier,
          b.rounding, b.user_attributes, b.snapshot, system.no
        from rules cross join lateral unnest(rules.boosts) b
        join system on system.system_id = rules.systems[b.system_no].system_id) b
      order by b.no, b.snapshot ->> 'id'),
    array(
      select (a.achievement_id, a.kind, case when a.kind = 'metric' then rules.metric_no::int end, a.value, a.prerequisite_ids,
        a.user_attributes, a.event_attributes)::laurel_private.achievement_rule
      from rules cross join lateral unnest(rules.achievements) a
      order by a.achievement_id),
    (select bool_or(r.has_user_boosts) from rules r),
    (select bool_or(r.counts_events) from rules r),
    exists (select from rules cross join lateral unnest(rules.achievements) a where a.event_attributes is not null),
    (select r.webhook_types from rules r limit 1)
$$;

-- One metric and the nil one are what a single event has. Where their systems are the same, or the nil one has no triggers,
-- nothing is to be renumbered, and both are put together as they are, for a tenth of what combine_any_rules() costs.
create function laurel_private.combine_rules(tenant_id uuid, metric_ids uuid[])
  returns laurel_private.combined_rules language plpgsql stable as $$
declare
  found_rules record;
  own laurel_private.points_rules;
  of_nil laurel_private.points_rules;
begin
  if cardinality(metric_ids) = 2 and metric_ids[2] = laurel_private.nil_metric() then
    select r as own, n as of_nil into found_rules
    from laurel_private.points_rules r
    join laurel_private.points_rules n on n.tenant_id = r.tenant_id and n.metric_id = metric_ids[2]
    where r.tenant_id = combine_rules.tenant_id and r.metric_id = metric_ids[1];
    own := found_rules.own;
    of_nil := found_rules.of_nil;
    if of_nil.triggers = '{}' or of_nil.systems = own.systems then
      return (
        case when of_nil.triggers = '{}' then own.triggers
          else array(select t from unnest(own.triggers || of_nil.triggers) t order by t.cause, t.trigger_id) end,
        own.systems, own.boosts,
        case when of_nil.achievements = '{}' then own.achievements
          else array(select a from unnest(own.achievements || of_nil.achievements) a order by a.achievement_id) end,
        own.has_user_boosts or of_nil.has_user_boosts, own.counts_events or of_nil.counts_events,
        exists (select from unnest(own.achievements) a where a.event_attributes is not null), own.webhook_types
      )::laurel_private.combined_rules;
    end if;
  end if;
  return laurel_private.combine_any_rules(tenant_id, metric_ids);
end
$$;

comment on function laurel_private.combine_rules(uuid, uuid[]) is
  'The compiled rules of several metrics as one set, metrics and systems numbered anew.';

-- Levels (by system key) and snapshots (see points_rules) of the same rules, for a response.
create function laurel_private.combine_shown(tenant_id uuid, metric_ids uuid[], out levels jsonb, out snapshots jsonb)
  language plpgsql stable as $$
declare
  rules record;
begin
  levels := '{}';
  snapshots := '{}';
  for rules in
    select r.levels, r.snapshots || r.achievement_snapshots as snapshots from laurel_private.points_rules r
    where r.tenant_id = combine_shown.tenant_id and r.metric_id = any (metric_ids)
  loop
    levels := levels || rules.levels;
    snapshots := snapshots || rules.snapshots;
  end loop;
end
$$;

-- The leaderboards that these metrics, and what follows from them, feed.
create function laurel_private.combine_leaderboards(tenant_id uuid, metric_ids uuid[])
  returns laurel_private.leaderboard_rule[] language sql stable as $$
  select array(
    select distinct on (b.leaderboard_id) r.leaderboards[b.no]
    from laurel_private.points_rules r
    cross join lateral (
      select (r.leaderboards[n]).leaderboard_id, n from generate_subscripts(r.leaderboards, 1) n) as b (leaderboard_id, no)
    where r.tenant_id = combine_leaderboards.tenant_id and r.metric_id = any (metric_ids)
    order by b.leaderboard_id)
$$;

create function laurel_private.streak_leaderboards(tenant_id uuid)
  returns laurel_private.leaderboard_rule[] language plpgsql stable as $$
declare
  boards laurel_private.leaderboard_rule[];
  board laurel_private.leaderboard_rule;
  found_boards laurel_private.leaderboard_rule[] := '{}';
begin
  select r.leaderboards into boards from laurel_private.points_rules r
  where r.tenant_id = streak_leaderboards.tenant_id and r.metric_id = laurel_private.nil_metric();
  foreach board in array coalesce(boards, '{}') loop
    if board.rank_by = 'streak' then
      found_boards := found_boards || board;
    end if;
  end loop;
  return found_boards;
end
$$;
--! EndIncluded points/combine_rules.sql
--! Included points/decide_points.sql
-- Decide: the one home of the arithmetic. What happened to one user, in order, and the rules and
-- state it met, go in; totals, counts and finished ledger rows come out. Depends on
-- nothing but its arguments, only the new rows' IDs aside. Called by the flow for events, identification and adjustments.

-- Something that happened, to be judged by the triggers of its cause.
create type laurel_private.occasion as (
  cause laurel.points_award_cause,
  event_id uuid,
  -- For a tick the number of its rule, and its own number.
  metric_no int,
  value numeric,
  attributes jsonb,
  occurred_at timestamptz,
  reason text,
  idempotency_key text,
  -- What a call completes, for the cause achievement.
  achievement_id uuid
);

-- An achievement completed by an occasion (A1).
create type laurel_private.completion as (
  achievement_id uuid,
  id uuid,
  achieved_at timestamptz,
  event_id uuid
);

-- What the occasions did to a user. Totals and peaks by metric number, counts by trigger number,
-- balances and sequences by system number, all as they are afterwards.
create type laurel_private.points_effects as (
  user_id text,
  attributes_version int,
  totals numeric[],
  peaks numeric[],
  counts numeric[],
  count_peaks numeric[],
  balances bigint[],
  sequences bigint[],
  -- By trigger number, the first event it counted; null when it counted none.
  first_counted uuid[],
  -- By metric number, the last event; null when there was none.
  last_events uuid[],
  awards laurel.points_awards[],
  completions laurel_private.completion[],
  -- By achievement number, sums of matching events; null when not counted here.
  achievement_counts numeric[]
);

-- B5: rounding is applied once, in decimal; nearest rounds halves up.
create function laurel_private.round_points(points numeric, mode laurel.rounding_mode)
  returns numeric language sql immutable parallel safe
  return case mode when 'up' then ceil(points) when 'nearest' then floor(points + 0.5) else floor(points) end;

-- B6, P2, TR8: what is really added to a total, between the cap (2^53 - 1 if null) and the floor 0.
-- A total above a lowered cap gains nothing and loses nothing to it.
create function laurel_private.clamp_points(points numeric, max_points int, total bigint)
  returns bigint language sql immutable parallel safe
  return greatest(least(points, greatest(coalesce(max_points, 9007199254740991) - total, 0)), -total)::bigint;

-- TR2: how often a metric trigger fires when the peak moves.
create function laurel_private.firings(peak_before numeric, peak_after numeric, threshold int)
  returns numeric language sql immutable parallel safe
  return div(peak_after, threshold) - div(peak_before, threshold);

-- PL/pgSQL prepares each expression anew in every transaction: 0.2 to 0.3 µs for each operator,
-- function or branch of a case in it, used or not, half of what a single event costs here. A
-- statement that is not reached costs nothing: what is rare stands in an if of its own.
create function laurel_private.decide_points(
  for_user laurel_private.locked_user,
  triggers laurel_private.trigger_rule[],
  boosts laurel_private.boost_rule[],
  occasions laurel_private.occasion[],
  -- The state before; turned into the state after.
  totals numeric[],
  peaks numeric[],
  counts numeric[],
  count_peaks numeric[],
  balances bigint[],
  sequences bigint[],
  -- Achievements that can still be completed here, those completed that matter to them, and what
  -- is counted for those that filter events, by achievement number.
  achievements laurel_private.achievement_rule[] default '{}',
  completed uuid[] default '{}',
  achievement_counts numeric[] default null,
  -- What each occasion did to the streak; null when none did anything.
  streaks laurel_private.streak_step[] default null
) returns laurel_private.points_effects language plpgsql volatile as $$
#variable_conflict use_variable
declare
  first_counted uuid[];
  last_events uuid[];
  awards laurel.points_awards[];
  completions laurel_private.completion[];
  newly_completed uuid[];
  achievement laurel_private.achievement_rule;
  occasion laurel_private.occasion;
  occasion_no int;
  step laurel_private.streak_step;
  -- Triggers are sorted by cause: those behind this one cannot fire.
  last_cause laurel.points_award_cause;
  rule laurel_private.trigger_rule;
  boost laurel_private.boost_rule;
  no int;
  total numeric;
  peak_before numeric;
  firings numeric;
  base numeric;
  rounded numeric;
  added bigint;
  balance bigint;
  local_date date;
  -- The boosts found last, and for which system and local day: most awards of a call share them.
  found_system int;
  found_date date;
  found jsonb;
  product numeric := 1;
  rounding laurel.rounding_mode;
  award_id uuid;
begin
  foreach occasion in array occasions loop
    last_cause := occasion.cause;
    newly_completed := null;
    if streaks is not null then
      occasion_no := coalesce(occasion_no, 0) + 1;
      step := streaks[occasion_no];
      if step.length is not null then
        last_cause := 'streak';
        for i in 1..cardinality(achievements) loop
          achievement := achievements[i];
          if achievement.kind = 'streak' and step.length >= achievement.value and achievement.achievement_id <> all (completed)
            and (achievement.user_attributes is null or for_user.attributes @> achievement.user_attributes)
          then
            newly_completed := newly_completed || achievement.achievement_id;
          end if;
        end loop;
      end if;
    end if;
    if occasion.cause = 'metric' then
      totals[occasion.metric_no] := totals[occasion.metric_no] + occasion.value;
      peak_before := peaks[occasion.metric_no];
      peaks[occasion.metric_no] := greatest(peak_before, totals[occasion.metric_no]);
      last_events[occasion.metric_no] := occasion.event_id;
      if cardinality(achievements) > 0 then
        for i in 1..cardinality(achievements) loop
          achievement := achievements[i];
          continue when achievement.kind <> 'metric' or achievement.metric_no <> occasion.metric_no
            or achievement.achievement_id = any (completed);
          if achievement.event_attributes is not null then
            continue when not occasion.attributes @> achievement.event_attributes;
            achievement_counts[i] := achievement_counts[i] + occasion.value;
            continue when achievement_counts[i] < achievement.value;
          end if;
          if (achievement.event_attributes is not null or peaks[occasion.metric_no] >= achievement.value)
            and (achievement.user_attributes is null or for_user.attributes @> achievement.user_attributes)
          then
            newly_completed := newly_completed || achievement.achievement_id;
          end if;
        end loop;
      end if;
    elsif occasion.cause = 'achievement' then
      newly_completed := array[occasion.achievement_id];
    end if;

    if newly_completed is not null then
      last_cause := 'achievement';
      completed := completed || newly_completed;
      -- Achievements of achievements, and those of these.
      loop
        no := cardinality(newly_completed);
        foreach achievement in array achievements loop
          if achievement.kind = 'achievement' and achievement.achievement_id <> all (completed)
            and achievement.prerequisite_ids <@ completed
            and (achievement.user_attributes is null or for_user.attributes @> achievement.user_attributes)
          then
            newly_completed := newly_completed || achievement.achievement_id;
            completed := completed || achievement.achievement_id;
          end if;
        end loop;
        exit when cardinality(newly_completed) = no;
      end loop;
      for i in 1..cardinality(newly_completed) loop
        completions := completions || (newly_completed[i], laurel_private.uuid_v7(), occasion.occurred_at,
          occasion.event_id)::laurel_private.completion;
      end loop;
    end if;

    no := 0;
    foreach rule in array triggers loop
      no := no + 1;
      if rule.event_attributes is not null then
        continue when rule.metric_no is distinct from occasion.metric_no or not occasion.attributes @> rule.event_attributes
          or not for_user.attributes @> rule.user_attributes;
        total := counts[no] + occasion.value;
        counts[no] := total;
        if first_counted is null then
          first_counted := array_fill(null::uuid, array[cardinality(triggers)]);
        end if;
        first_counted[no] := coalesce(first_counted[no], occasion.event_id);
        continue when total <= count_peaks[no];
        firings := laurel_private.firings(count_peaks[no], total, rule.threshold);
        count_peaks[no] := total;
      elsif rule.cause = 'metric' then
        firings := case when rule.metric_no = occasion.metric_no
          then laurel_private.firings(peak_before, peaks[occasion.metric_no], rule.threshold) else 0 end;
      elsif rule.cause > last_cause then
        exit;
      elsif rule.cause = 'achievement' then
        continue when newly_completed is null or rule.achievement_id <> all (newly_completed);
        firings := 1;
      elsif rule.cause = 'streak' then
        continue when step.length is null;
        firings := laurel_private.streak_firings(step, rule.threshold);
      else
        -- A tick is one rule's.
        continue when rule.cause <> occasion.cause or rule.metric_no <> occasion.metric_no;
        firings := 1;
      end if;

      -- Without a filter the comparison is null, which is not true.
      continue when firings = 0 or not for_user.attributes @> rule.user_attributes;

      base := firings * rule.points;
      balance := balances[rule.system_no];
      if rule.blocks then
        if balance + base < 0 then
          perform laurel_private.fail('LR030', null, rule.system_key);
        end if;
      end if;

      if base > 0 and cardinality(boosts) > 0 and rule.cause <> 'adjustment' then
        local_date := (occasion.occurred_at at time zone for_user.time_zone)::date;
        if found_system is distinct from rule.system_no or found_date <> local_date then
          found_system := rule.system_no;
          found_date := local_date;
          found := null;
          product := 1;
          rounding := null;
          foreach boost in array boosts loop
            continue when boost.system_no <> found_system or found_date < boost.starts_on or boost.ends_on < found_date
              or not for_user.attributes @> boost.user_attributes;
            found := coalesce(found, '[]') || boost.snapshot;
            product := trim_scale(product * boost.multiplier);
            rounding := least(rounding, boost.rounding);
          end loop;
        end if;
      elsif found_system is not null then
        found_system := null;
        found := null;
        product := 1;
        rounding := null;
      end if;
      rounded := base * product;
      if scale(rounded) > 0 then
        rounded := laurel_private.round_points(rounded, rounding);
      end if;

      added := laurel_private.clamp_points(rounded, rule.max_points, balance);
      -- A change of 0 writes no row (P3); a preview counts what was lost by it, but for ticks: those that can change nothing rest.
      if added = 0 then
        continue when rule.cause = 'time' or not laurel_private.is_rehearsal(for_user.tenant_id);
      end if;
      balances[rule.system_no] := balance + added;
      sequences[rule.system_no] := sequences[rule.system_no] + 1;
      if awards is null then
        award_id := laurel_private.uuid_v7();
      else
        award_id := laurel_private.quick_uuid_v7();
      end if;
      awards := awards || (
        award_id, for_user.tenant_id, for_user.id, rule.system_id, rule.system_key,
        sequences[rule.system_no], occasion.occurred_at, rule.cause, rule.trigger_id,
        occasion.event_id, rule.metric_key, case when rule.cause = 'metric' then rule.threshold end, rule.user_attributes,
        rule.event_attributes, rule.achievement_id, case when rule.cause = 'streak' then step.length end,
        case when rule.cause = 'time' then occasion.value end, occasion.reason,
        occasion.idempotency_key, case when rule.trigger_id is not null then rule.points end,
        firings, base, found, product, rounding, rounded, rule.max_points, added,
        balance, balance + added)::laurel.points_awards;
    end loop;
  end loop;

  return (for_user.id, for_user.attributes_version, totals, peaks, counts, count_peaks, balances,
    sequences, first_counted, last_events, coalesce(awards, '{}'), coalesce(completions, '{}'), achievement_counts)::laurel_private.points_effects;
end
$$;

comment on function laurel_private.decide_points(laurel_private.locked_user,
  laurel_private.trigger_rule[], laurel_private.boost_rule[], laurel_private.occasion[], numeric[], numeric[], numeric[], numeric[], bigint[], bigint[],
  laurel_private.achievement_rule[], uuid[], numeric[], laurel_private.streak_step[]) is
  'What these occasions do to one user: achievements completed (A1) and awards in order (TR7), each from base over boosts (B4), rounding (B5), cap and floor (B6, P2) to a finished ledger row. LR030 when a trigger blocks. Depends on nothing but its arguments, but for the new rows'' IDs.';
--! EndIncluded points/decide_points.sql
--! Included streaks/decide_streak.sql
-- Decide, for streaks: what time and events do to one user's streak. Pure: settings, state and occasions go in,
-- the state after and what to write come out. Called by the flow, by upkeep, and by readers.
--
-- Decided here, where the specification is silent:
-- * What has been settled stays. A freeze is used at the midnight that needs it, never afterwards: late events and
--   imports find days off and pauses, but no freezes, in the past.
-- * A late event (E8) satisfies the period of its own date. Streaks that it makes touch become one. Should the
--   period have been saved by a freeze, the freeze is given back.
-- * TR3 for joined streaks: a trigger fires as often as it has not fired yet for the parts. Of a streak of L periods
--   it has fired floor(L / N) times in the end, in whatever order the events came: never twice for a multiple.
-- * An event dated ahead of the clock counts for the present period: no period is satisfied before it begins.
-- * A period once satisfied stays so, whatever negative events follow.
-- * After a reset the present period, if it was satisfied, does not count again: a new streak starts with the next.

-- What the outside world is told (H1): started, extended, lost, freeze_consumed, freeze_earned.
create type laurel_private.streak_outcome as (kind text, length int, count int, freezes int, occasion_no int);

create type laurel_private.streak_effects as (
  user_id text,
  state laurel_private.user_streaks,
  runs laurel_private.streak_runs[],
  -- First periods of runs that are no more, or begin earlier now.
  removed date[],
  periods laurel_private.streak_periods[],
  freezes laurel_private.streak_freezes[],
  progress laurel_private.streak_progress[],
  -- Periods that are satisfied now: their progress can go.
  done date[],
  -- By occasion; null where nothing happened. Null altogether when nothing happened at all.
  steps laurel_private.streak_step[],
  outcomes laurel_private.streak_outcome[],
  -- The answer to an event, as long as it holds (record_event.sql).
  answer text,
  valid_from timestamptz,
  valid_until timestamptz,
  is_satisfied boolean,
  -- Everything of this frequency was judged anew: what is stored of it goes first.
  is_rebuilt boolean,
  -- That of the settings it was decided by.
  version int
);

create function laurel_private.new_streak_state(for_user laurel.users, rule laurel_private.streak_rule, as_of timestamptz)
  returns laurel_private.user_streaks language sql stable
  return (for_user.tenant_id, for_user.id, (rule).frequency, 0, 0, null, 0, null,
    (as_of at time zone coalesce(for_user.tz, 'UTC'))::date, null)::laurel_private.user_streaks;

create type laurel_private.settled_streak as (
  state laurel_private.user_streaks,
  run laurel_private.streak_runs,
  periods laurel_private.streak_periods[],
  freezes laurel_private.streak_freezes[],
  outcomes laurel_private.streak_outcome[]
);

-- Goes through the midnights between the last settlement and as_of, in order: a period that ended without being
-- satisfied is bridged, or saved by a freeze, or ends the run; then freezes that are due that day are earned.
-- Settling twice, or in smaller steps, comes to the same.
create function laurel_private.settle_streak(
  rule laurel_private.streak_rule, zone text, pauses datemultirange, as_of timestamptz,
  state laurel_private.user_streaks, run laurel_private.streak_runs
) returns laurel_private.settled_streak language plpgsql stable as $$
#variable_conflict use_variable
declare
  today date := greatest((as_of at time zone zone)::date, state.settled_on);
  current_period date := laurel_private.streak_period(today, rule.frequency);
  periods laurel_private.streak_periods[] := '{}';
  freezes laurel_private.streak_freezes[] := '{}';
  outcomes laurel_private.streak_outcome[] := '{}';
  earns boolean := rule.is_enabled and rule.max_freezes is not null and rule.earn_interval is not null;
  missed date;
  settled_at date;
  earned_at date;
  kind laurel_private.streak_period_kind;
begin
  if earns then
    state.earned_on := greatest(state.earned_on, (rule.earning_since at time zone zone)::date);
  else
    state.earned_on := null;
  end if;
  loop
    missed := null;
    settled_at := null;
    if run.first_period is not null and not run.is_over then
      missed := laurel_private.next_streak_period(run.through_period, rule.frequency);
      if missed < current_period then
        settled_at := laurel_private.next_streak_period(missed, rule.frequency);
      end if;
    end if;
    earned_at := null;
    if earns then
      if settled_at is null and state.freezes >= rule.max_freezes then
        -- Nothing is earned at the maximum: leap.
        state.earned_on := state.earned_on + greatest((today - state.earned_on) / rule.earn_interval, 0) * rule.earn_interval;
      elsif state.earned_on + rule.earn_interval <= today then
        earned_at := state.earned_on + rule.earn_interval;
      end if;
    end if;
    exit when settled_at is null and earned_at is null;

    if earned_at is null or settled_at <= earned_at then
      kind := laurel_private.streak_bridge(rule, pauses, missed);
      if kind is null and rule.max_freezes is not null and state.freezes > 0 and settled_at > state.settled_on then
        kind := 'frozen';
        state.freezes := state.freezes - 1;
        freezes := freezes || (state.tenant_id, state.user_id, laurel_private.uuid_v7(), 'consumed', -1, state.freezes, missed, coalesce(as_of, clock_timestamp()))::laurel_private.streak_freezes;
        outcomes := outcomes || ('freeze_consumed', run.length, 1, state.freezes, null)::laurel_private.streak_outcome;
      end if;
      if kind is null then
        run.is_over := true;
        if settled_at > state.settled_on then
          outcomes := outcomes || ('lost', run.length, null, state.freezes, null)::laurel_private.streak_outcome;
        end if;
      else
        periods := periods || (state.tenant_id, state.user_id, rule.frequency, missed, kind, null, null, null)::laurel_private.streak_periods;
        run.through_period := missed;
      end if;
    else
      state.earned_on := earned_at;
      if state.freezes < rule.max_freezes then
        freezes := freezes || (state.tenant_id, state.user_id, laurel_private.uuid_v7(), 'earned',
          least(rule.earn_amount, rule.max_freezes - state.freezes), least(state.freezes + rule.earn_amount, rule.max_freezes),
          earned_at, coalesce(as_of, clock_timestamp()))::laurel_private.streak_freezes;
        outcomes := outcomes || ('freeze_earned', null, least(rule.earn_amount, rule.max_freezes - state.freezes),
          least(state.freezes + rule.earn_amount, rule.max_freezes), null)::laurel_private.streak_outcome;
        state.freezes := least(state.freezes + rule.earn_amount, rule.max_freezes);
      end if;
    end if;
  end loop;
  state.settled_on := today;
  state.length := case when run.first_period is null or run.is_over or not rule.is_enabled then 0 else run.length end;
  return (state, run, periods, freezes, outcomes)::laurel_private.settled_streak;
end
$$;

comment on function laurel_private.settle_streak(laurel_private.streak_rule, text, datemultirange, timestamptz,
  laurel_private.user_streaks, laurel_private.streak_runs) is
  'A user''s streak as of a moment: what the midnights since the last settlement did to it. Rules S2, S3.';

-- When upkeep has to look at a settled streak again.
create function laurel_private.streak_due_at(
  rule laurel_private.streak_rule, zone text, state laurel_private.user_streaks, run laurel_private.streak_runs
) returns timestamptz language sql stable
  return least(
    case when run.first_period is not null and not run.is_over and (rule).is_enabled then laurel_private.next_streak_period(
      laurel_private.next_streak_period(run.through_period, (rule).frequency), (rule).frequency)::timestamp at time zone zone end,
    case when state.earned_on is not null and state.freezes < (rule).max_freezes
      then (state.earned_on + (rule).earn_interval)::timestamp at time zone zone end);

-- The last day of the period at whose end the streak is lost if nothing happens any more: pauses, days off and the
-- freezes in hand are taken into account, those still to be earned are not. Null when that is years away.
create function laurel_private.streak_expiry(
  rule laurel_private.streak_rule, pauses datemultirange, through_period date, freezes int
) returns date language plpgsql immutable as $$
declare
  period date := through_period;
  left_freezes int := case when rule.max_freezes is null then 0 else freezes end;
begin
  for i in 1..1000 loop
    period := laurel_private.next_streak_period(period, rule.frequency);
    if laurel_private.streak_bridge(rule, pauses, period) is null then
      if left_freezes = 0 then
        return laurel_private.next_streak_period(period, rule.frequency) - 1;
      end if;
      left_freezes := left_freezes - 1;
    end if;
  end loop;
  return null;
end
$$;

-- The fields that every answer about a streak has; freezes only where they are on.
create function laurel_private.streak_as_json(
  rule laurel_private.streak_rule, zone text, pauses datemultirange, state laurel_private.user_streaks, run laurel_private.streak_runs
) returns jsonb language plpgsql stable as $$
declare
  is_alive boolean := state.length > 0;
  current_period date := laurel_private.streak_period(state.settled_on, rule.frequency);
begin
  return jsonb_build_object(
      'length', state.length, 'frequency', rule.frequency,
      'started', case when is_alive then run.first_period end,
      'periodStart', case when is_alive then current_period end,
      'periodEnd', case when is_alive then laurel_private.next_streak_period(current_period, rule.frequency) - 1 end,
      'expires', case when is_alive then laurel_private.streak_expiry(rule, pauses, run.through_period, state.freezes) end)
    || case when rule.max_freezes is null then '{}'
      else jsonb_build_object('freezes', state.freezes, 'maxFreezes', rule.max_freezes) end
    || case when rule.max_freezes is null or rule.earn_interval is null then '{}'
      else jsonb_build_object('freezeAutoEarnInterval', rule.earn_interval, 'freezeAutoEarnAmount', rule.earn_amount) end;
end
$$;

-- The periods strictly between two, if something bridges each of them; null when one is missed.
create function laurel_private.bridge_streak(
  rule laurel_private.streak_rule, pauses datemultirange, state laurel_private.user_streaks, through_period date, next_period date
) returns laurel_private.streak_periods[] language plpgsql stable as $$
declare
  periods laurel_private.streak_periods[] := '{}';
  period date := laurel_private.next_streak_period(through_period, rule.frequency);
  kind laurel_private.streak_period_kind;
begin
  while period < next_period loop
    kind := laurel_private.streak_bridge(rule, pauses, period);
    if kind is null then
      return null;
    end if;
    periods := periods || (state.tenant_id, state.user_id, rule.frequency, period, kind, null, null, null)::laurel_private.streak_periods;
    period := laurel_private.next_streak_period(period, rule.frequency);
  end loop;
  return periods;
end
$$;

-- Whether a period's sums satisfy it.
create function laurel_private.is_streak_satisfied(rule laurel_private.streak_rule, totals numeric[])
  returns boolean language plpgsql immutable as $$
begin
  for i in 1..cardinality(rule.metric_ids) loop
    if coalesce(totals[i] >= rule.thresholds[i], false) <> rule.needs_all then
      return not rule.needs_all;
    end if;
  end loop;
  return rule.needs_all;
end
$$;

create function laurel_private.decide_streak(
  rule laurel_private.streak_rule,
  zone text,
  pauses datemultirange,
  -- Null in a rehearsal, whose clock is the latest of its occasions so far.
  as_of timestamptz,
  metric_ids uuid[],
  occasions laurel_private.occasion[],
  state laurel_private.user_streaks,
  -- In order of their starts; the latest alone when no occasion lies before it.
  runs laurel_private.streak_runs[],
  -- Rows that exist of the periods that late occasions lie in.
  known laurel_private.streak_periods[],
  -- Sums so far of the periods that occasions lie in.
  progress laurel_private.streak_progress[]
) returns laurel_private.streak_effects language plpgsql stable as $$
#variable_conflict use_variable
declare
  n int := cardinality(runs);
  k int;
  run laurel_private.streak_runs;
  next_run laurel_private.streak_runs;
  settled laurel_private.settled_streak;
  today date;
  current_period date;
  touched date[] := '{}';
  removed date[] := '{}';
  changed_runs laurel_private.streak_runs[] := '{}';
  periods laurel_private.streak_periods[] := '{}';
  freezes laurel_private.streak_freezes[] := '{}';
  done date[] := '{}';
  changed_progress laurel_private.streak_progress[] := '{}';
  steps laurel_private.streak_step[];
  outcomes laurel_private.streak_outcome[] := '{}';
  satisfied date[] := '{}';
  frozen date[] := '{}';
  occasion laurel_private.occasion;
  period date;
  place int;
  totals numeric[];
  sum laurel_private.streak_progress;
  found_sum boolean;
  bridges laurel_private.streak_periods[];
  joined int[];
  length_before int;
begin
  if n > 0 then
    run := runs[n];
  end if;
  settled := laurel_private.settle_streak(rule, zone, pauses, as_of, state, run);
  state := settled.state;
  periods := settled.periods;
  freezes := settled.freezes;
  outcomes := settled.outcomes;
  if n > 0 and (settled.run is distinct from run) then
    runs[n] := settled.run;
    touched := touched || run.first_period;
  end if;
  today := state.settled_on;
  current_period := laurel_private.streak_period(today, rule.frequency);
  if rule.is_enabled then
    if cardinality(known) + cardinality(periods) > 0 then
      select coalesce(array_agg(p.period_start) filter (where p.kind = 'satisfied'), '{}'),
        coalesce(array_agg(p.period_start) filter (where p.kind = 'frozen'), '{}')
      into satisfied, frozen from unnest(known || periods) p;
    end if;
    for i in 1..cardinality(occasions) loop
      occasion := occasions[i];
      continue when occasion.cause <> 'metric';
      if as_of is null and (occasion.occurred_at at time zone zone)::date > today then
        run := case when n > 0 then runs[n] end;
        settled := laurel_private.settle_streak(rule, zone, pauses, occasion.occurred_at, state, run);
        state := settled.state;
        periods := periods || settled.periods;
        frozen := frozen || array(select p.period_start from unnest(settled.periods) p where p.kind = 'frozen');
        freezes := freezes || settled.freezes;
        if n > 0 then
          runs[n] := settled.run;
          touched := touched || run.first_period;
        end if;
        today := state.settled_on;
        current_period := laurel_private.streak_period(today, rule.frequency);
      end if;
      period := laurel_private.streak_period(least((least(occasion.occurred_at, as_of) at time zone zone)::date, today), rule.frequency);
      continue when n > 0 and runs[n].last_period = period or period = any (satisfied);
      if rule.metric_ids = '{}' then
        continue when occasion.value <= 0;
      else
        place := array_position(rule.metric_ids, metric_ids[occasion.metric_no]);
        continue when place is null;
        totals := array_fill(null::numeric, array[cardinality(rule.metric_ids)]);
        found_sum := false;
        for j in reverse cardinality(progress)..1 loop
          sum := progress[j];
          continue when sum.period_start <> period;
          if sum.metric_id = rule.metric_ids[place] then
            found_sum := true;
            sum.total := sum.total + occasion.value;
            progress[j] := sum;
          end if;
          k := array_position(rule.metric_ids, sum.metric_id);
          if k is not null then totals[k] := sum.total; end if;
        end loop;
        if not found_sum then
          progress := progress || (state.tenant_id, state.user_id, rule.frequency, period, rule.metric_ids[place], occasion.value)::laurel_private.streak_progress;
          totals[place] := occasion.value;
        end if;
        continue when not laurel_private.is_streak_satisfied(rule, totals);
        done := done || period;
      end if;
      satisfied := satisfied || period;
      periods := periods || (state.tenant_id, state.user_id, rule.frequency, period, 'satisfied', occasion.event_id, occasion.occurred_at, null)::laurel_private.streak_periods;
      if period = any (frozen) and rule.max_freezes is not null and state.freezes < rule.max_freezes then
        state.freezes := state.freezes + 1;
        freezes := freezes || (state.tenant_id, state.user_id, laurel_private.uuid_v7(), 'returned', 1, state.freezes, period, coalesce(as_of, clock_timestamp()))::laurel_private.streak_freezes;
      end if;

      -- Into its place among the runs.
      length_before := state.length;
      joined := '{}';
      k := n;
      while k > 0 and runs[k].first_period > period loop
        k := k - 1;
      end loop;
      run := null;
      bridges := null;
      if k > 0 then
        run := runs[k];
        if period > run.through_period and not run.is_closed then
          bridges := laurel_private.bridge_streak(rule, pauses, state, run.through_period, period);
        end if;
      end if;
      if k > 0 and (period <= run.through_period or bridges is not null) then
        joined := array[run.length];
        run.length := run.length + 1;
        if period > run.last_period then
          run.last_period := period;
          run.extended_at := occasion.occurred_at;
        end if;
        if bridges is not null then
          run.through_period := period;
          periods := periods || bridges;
          run.is_over := k < n;
        end if;
        runs[k] := run;
      else
        k := k + 1;
        run := (state.tenant_id, state.user_id, rule.frequency, period, period, period, 1, k <= n, false, occasion.occurred_at)::laurel_private.streak_runs;
        runs := runs[:k - 1] || run || runs[k:];
        n := n + 1;
      end if;
      if k < n and not run.is_closed then
        next_run := runs[k + 1];
        bridges := laurel_private.bridge_streak(rule, pauses, state, run.through_period, next_run.first_period);
        if bridges is not null then
          periods := periods || bridges;
          joined := joined || next_run.length;
          run.last_period := next_run.last_period;
          run.through_period := next_run.through_period;
          run.length := run.length + next_run.length;
          run.is_over := next_run.is_over;
          run.is_closed := next_run.is_closed;
          run.extended_at := next_run.extended_at;
          removed := removed || next_run.first_period;
          runs := runs[:k - 1] || run || runs[k + 2:];
          n := n - 1;
        end if;
      end if;
      touched := touched || run.first_period;
      removed := array_remove(removed, run.first_period);
      if k = n and not run.is_over and laurel_private.next_streak_period(run.through_period, rule.frequency) < current_period then
        settled := laurel_private.settle_streak(rule, zone, pauses, as_of, state, run);
        state := settled.state;
        runs[n] := settled.run;
        periods := periods || settled.periods;
        freezes := freezes || settled.freezes;
        outcomes := outcomes || settled.outcomes;
      end if;
      state.longest := greatest(state.longest, run.length);
      state.length := case when runs[n].is_over then 0 else runs[n].length end;
      if k = n then
        state.extended_at := runs[n].extended_at;
      end if;
      if steps is null then
        steps := array_fill(null::laurel_private.streak_step, array[cardinality(occasions)]);
      end if;
      steps[i] := (run.length, joined, state.length > length_before)::laurel_private.streak_step;
      if state.length > length_before then
        outcomes := outcomes || (case when length_before = 0 then 'started' else 'extended' end, state.length, null, state.freezes, i)::laurel_private.streak_outcome;
      end if;
    end loop;
  end if;

  for i in 1..cardinality(progress) loop
    if progress[i].period_start <> all (done) and exists (
      select from unnest(occasions) o where o.cause = 'metric' and metric_ids[o.metric_no] = progress[i].metric_id) then
      changed_progress := changed_progress || progress[i];
    end if;
  end loop;
  foreach run in array runs loop
    if run.first_period = any (touched) then
      changed_runs := changed_runs || run;
    end if;
  end loop;
  run := case when n > 0 then runs[n] end;
  state.due_at := laurel_private.streak_due_at(rule, zone, state, run);
  return (
    state.user_id, state, changed_runs, removed, periods, freezes, changed_progress, done, steps, outcomes,
    (laurel_private.streak_as_json(rule, zone, pauses, state, run) || '{"extended": false}')::text,
    current_period::timestamp at time zone zone,
    laurel_private.next_streak_period(current_period, rule.frequency)::timestamp at time zone zone,
    not rule.is_enabled or coalesce(run.last_period = current_period, false), false, rule.version)::laurel_private.streak_effects;
end
$$;

comment on function laurel_private.decide_streak(laurel_private.streak_rule, text, datemultirange, timestamptz, uuid[],
  laurel_private.occasion[], laurel_private.user_streaks, laurel_private.streak_runs[], laurel_private.streak_periods[],
  laurel_private.streak_progress[]) is
  'What time and these occasions do to one user''s streak. Depends on nothing but its arguments, but for new rows'' IDs. Rules S1, S2, TR3, E8.';
--! EndIncluded streaks/decide_streak.sql
--! Included points/apply_effects.sql
-- Apply: writes what decide_points() found, for any number of users at once. With the one-row lane
-- in laurel.record_event() the one place that writes states, counts and the ledger. The caller
-- holds the users' locks. Only upserts, inserts and updates by primary key: they probe indexes,
-- whatever the planner thinks of table sizes.

-- The user's state after the effects: metrics and systems are placed where the state has them, new
-- ones behind the others.
create function laurel_private.state_after(
  state laurel_private.user_states, metric_ids uuid[], systems laurel_private.system_rule[],
  effects laurel_private.points_effects
) returns laurel_private.user_states language plpgsql immutable as $$
#variable_conflict use_variable
declare
  place int;
begin
  for i in 1..cardinality(metric_ids) loop
    continue when effects.last_events[i] is null;
    place := coalesce(array_position(state.metric_ids, metric_ids[i]), cardinality(state.metric_ids) + 1);
    state.metric_ids[place] := metric_ids[i];
    state.metric_totals[place] := effects.totals[i];
    state.metric_peaks[place] := effects.peaks[i];
    state.last_event_ids[place] := effects.last_events[i];
  end loop;
  if cardinality(effects.awards) > 0 then
    for i in 1..cardinality(systems) loop
      place := array_position(state.system_ids, (systems[i]).system_id);
      if place is null then
        continue when effects.sequences[i] = 0;
        place := cardinality(state.system_ids) + 1;
        state.system_ids[place] := (systems[i]).system_id;
      end if;
      state.totals[place] := effects.balances[i];
      state.last_sequences[place] := effects.sequences[i];
    end loop;
  end if;
  return state;
end
$$;

-- One probe a user: a plan made while there are few users would read all of them ever after.
create function laurel_private.write_states(
  tenant_id uuid, metric_ids uuid[], systems laurel_private.system_rule[], effects laurel_private.points_effects[]
) returns void language plpgsql volatile
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  update laurel_private.user_states s
  set (metric_ids, metric_totals, metric_peaks, last_event_ids, system_ids, totals, last_sequences) = (
    select n.metric_ids, n.metric_totals, n.metric_peaks, n.last_event_ids, n.system_ids, n.totals, n.last_sequences
    from laurel_private.state_after(s, write_states.metric_ids, write_states.systems, e) n)
  from unnest(effects) e
  where s.tenant_id = write_states.tenant_id and s.user_id = e.user_id;
end
$$;

create function laurel_private.write_trigger_counts(
  tenant_id uuid, triggers laurel_private.trigger_rule[], effects laurel_private.points_effects[]
) returns void language plpgsql volatile as $$
#variable_conflict use_column
begin
  insert into laurel.points_trigger_counts as c (tenant_id, user_id, trigger_id, count, peak,
    since_event_id, trigger_version, attributes_version)
  select write_trigger_counts.tenant_id, e.user_id, n.trigger_id, n.count, n.peak,
    n.first_counted, n.version, e.attributes_version
  from unnest(effects) e
  cross join lateral (
    select r.trigger_id, r.version, s.count, s.peak, s.first_counted
    from unnest(triggers) with ordinality
        as r (trigger_id, cause, system_no, system_id, system_key, max_points, points, threshold, metric_no, metric_key, achievement_id,
          user_attributes, event_attributes, blocks, version, no)
    join unnest(e.counts, e.count_peaks, e.first_counted) with ordinality
      as s (count, peak, first_counted, no) on s.no = r.no
    where s.first_counted is not null) n
  on conflict (tenant_id, user_id, trigger_id) do update
  set count = excluded.count, peak = excluded.peak,
    -- What is counted changed since the last event: start a new stretch for verify() from here.
    base_count = case when (c.trigger_version, c.attributes_version) = (excluded.trigger_version, excluded.attributes_version)
      then c.base_count else c.count end,
    base_peak = case when (c.trigger_version, c.attributes_version) = (excluded.trigger_version, excluded.attributes_version)
      then c.base_peak else c.peak end,
    since_event_id = case when (c.trigger_version, c.attributes_version) = (excluded.trigger_version, excluded.attributes_version)
      then c.since_event_id else excluded.since_event_id end,
    trigger_version = excluded.trigger_version, attributes_version = excluded.attributes_version;
end
$$;

create function laurel_private.write_awards(effects laurel_private.points_effects[])
  returns void language sql volatile as $$
  insert into laurel.points_awards
  select a.* from unnest(effects) e cross join lateral unnest(e.awards) a
$$;

create function laurel_private.write_completions(
  tenant_id uuid, achievements laurel_private.achievement_rule[], effects laurel_private.points_effects[], is_silent boolean default false
) returns void language plpgsql volatile as $$
#variable_conflict use_column
begin
  insert into laurel.user_achievements (tenant_id, user_id, achievement_id, id, achieved_at, event_id, is_silent)
  select write_completions.tenant_id, e.user_id, c.achievement_id, c.id, c.achieved_at, c.event_id, write_completions.is_silent
  from unnest(effects) e cross join lateral unnest(e.completions) c;
  insert into laurel_private.achievement_counts as k (tenant_id, user_id, achievement_id, count)
  select write_completions.tenant_id, e.user_id, a.achievement_id, n.count
  from unnest(effects) e
  cross join lateral unnest(e.achievement_counts) with ordinality as n (count, no)
  join unnest(achievements) with ordinality
    as a (achievement_id, kind, metric_no, value, prerequisite_ids, user_attributes, event_attributes, no) on a.no = n.no
  where n.count is not null
  on conflict (tenant_id, user_id, achievement_id) do update set count = excluded.count where k.count <> excluded.count;
end
$$;

comment on function laurel_private.write_awards(laurel_private.points_effects[]) is
  'Appends the decided awards to the ledger; write_states() moves the balances to where they leave them. Rule P3.';
--! EndIncluded points/apply_effects.sql
--! Included webhooks/announce_effects.sql
-- The flow's last step: what happened to users becomes messages, when somebody wants them. Called at
-- the end of apply_occasions() and by the lanes beside it, under the users' locks, only when the compiled rules
-- name a wanted type.

-- H3: points.changed at most once per user and system in 15 minutes. The first change opens a window
-- and is told at once; what follows writes nothing here, since the ledger has it:
-- announce_points_changes() sums it up when the window ends.
-- Invariant: no ledger row up to announced_sequence is told again.
create table laurel_private.points_changed_windows (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  system_id uuid not null,
  ends_at timestamptz not null,
  announced_sequence bigint not null,
  constraint points_changed_windows_are_one_per_user_and_system primary key (tenant_id, user_id, system_id),
  constraint points_changed_window_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

create index points_changed_windows_by_end on laurel_private.points_changed_windows (ends_at);
comment on table laurel_private.points_changed_windows is
  'Users and systems of which a points.changed message was written within the last 15 minutes. Rule H3.';
alter table laurel_private.points_changed_windows enable row level security;

create function laurel_private.user_as_text(tenant_id uuid, user_id text)
  returns text language plpgsql stable as $$
#variable_conflict use_column
begin
  return (
    select laurel_private.user_as_json(u)::text from laurel.users u
    where u.tenant_id = user_as_text.tenant_id and u.id = user_as_text.user_id);
end
$$;

-- A user's change in one system as a message, from its ledger rows in order. Of very many only the
-- latest 100 are shown, as everywhere.
create function laurel_private.points_changed_message(
  for_tenant uuid, for_user text, shown_user text, for_system uuid, awards laurel.points_awards[]
) returns laurel_private.outgoing_message language plpgsql stable as $$
declare
  first laurel.points_awards := awards[1];
  last laurel.points_awards := awards[cardinality(awards)];
  level_before laurel.points_levels;
  level_after laurel.points_levels;
  today date;
  shown_system text;
  shown text;
begin
  select trim(laurel_private.system_as_json(s)::text, '{}') into shown_system
  from laurel.points_systems s where s.id = for_system;
  select (now() at time zone s.time_zone)::date into today
  from laurel_private.user_states s where s.tenant_id = for_tenant and s.user_id = for_user;
  if first.sequence > 1 then
    level_before := laurel_private.level_for_points(for_system, first.total_before);
  end if;
  level_after := laurel_private.level_for_points(for_system, last.total_after);
  select string_agg(laurel_private.award_as_text(a.id, a.points, a.occurred_at, a.total_after, a.boosts::text, a.trigger_id,
      a.cause, a.reason, coalesce(r.snapshots, n.snapshots), today), ',' order by a.sequence) into shown
  from unnest(awards[greatest(cardinality(awards) - 99, 1):]) a
  left join laurel_private.points_rules r on r.tenant_id = for_tenant and r.metric_key = a.metric_key
  left join laurel_private.points_rules n on n.tenant_id = for_tenant and n.metric_id = laurel_private.nil_metric();
  return (for_user, 'points.changed', concat('{"type":"points.changed","user":', shown_user, ',"points":{', shown_system,
    ',"total":', last.total_after, ',"added":', (select sum(a.points) from unnest(awards) a),
    case when level_before.id is distinct from level_after.id
      then concat(',"level":', coalesce(laurel_private.level_as_json(level_after)::text, 'null')) end,
    ',"awards":[', shown, ']}}'))::laurel_private.outgoing_message;
end
$$;

-- Levels as JSON, null for none.
create function laurel_private.level_changed_message(
  for_user text, shown_user text, shown_system text, level_before text, level_after text, total bigint
) returns laurel_private.outgoing_message language plpgsql immutable as $$
begin
  return (for_user, 'points.level_changed', concat('{"type":"points.level_changed","user":', shown_user, ',"points":{', shown_system,
    ',"total":', total, '},"previousLevel":', coalesce(level_before, 'null'), ',"newLevel":', coalesce(level_after, 'null'), '}'))::laurel_private.outgoing_message;
end
$$;

create function laurel_private.achievement_completed_message(
  for_tenant uuid, for_user text, shown_user text, completion laurel_private.completion
) returns laurel_private.outgoing_message language plpgsql stable as $$
begin
  return (for_user, 'achievement.completed', concat('{"type":"achievement.completed","user":', shown_user, ',"achievement":',
    (select laurel_private.achievement_as_json(a)
        || jsonb_build_object('achievedAt', laurel_private.instant_as_text(completion.achieved_at))
      from laurel.achievements a where a.tenant_id = for_tenant and a.id = completion.achievement_id), '}'))::laurel_private.outgoing_message;
end
$$;

-- `wanted` are the compiled types. Achievements come before points, levels after them, as the flow
-- has them. Changes of one statement are told together: a level that was reached and lost again in
-- it did not change. Whoever has levels and snapshots at hand (see points_rules) for every trigger that fired gives them
-- along: the message shows what the answer does, made by the same function, in a fifth of the time.
create function laurel_private.announce_effects(
  tenant_id uuid, wanted text[], systems laurel_private.system_rule[], effects laurel_private.points_effects[],
  levels jsonb default null, snapshots jsonb default null
) returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  messages laurel_private.outgoing_message[] := '{}';
  wants_points boolean := 'points.changed' = any (wanted);
  wants_levels boolean := 'points.level_changed' = any (wanted);
  wants_achievements boolean := 'achievement.completed' = any (wanted);
  effect laurel_private.points_effects;
  award laurel.points_awards;
  awards laurel.points_awards[];
  completion laurel_private.completion;
  system laurel_private.system_rule;
  shown_user text;
  shown_system text;
  level_before int;
  level_after int;
  shown_levels jsonb;
begin
  if not (wants_points or wants_levels or wants_achievements) then
    return;
  end if;
  foreach effect in array effects loop
    shown_user := null;
    if wants_achievements and effect.completions <> '{}' then
      shown_user := laurel_private.user_as_text(tenant_id, effect.user_id);
      foreach completion in array effect.completions loop
        messages := messages || laurel_private.achievement_completed_message(tenant_id, effect.user_id, shown_user, completion);
      end loop;
    end if;
    continue when effect.awards = '{}' or not (wants_points or wants_levels);
    foreach system in array systems loop
      awards := '{}';
      foreach award in array effect.awards loop
        if award.system_id = system.system_id then
          awards := awards || award;
        end if;
      end loop;
      continue when awards = '{}';
      award := awards[cardinality(awards)];
      if wants_points then
        insert into laurel_private.points_changed_windows (tenant_id, user_id, system_id, ends_at, announced_sequence)
        values (tenant_id, effect.user_id, system.system_id, clock_timestamp() + interval '15 minutes', award.sequence)
        on conflict do nothing;
        if found then
          shown_user := coalesce(shown_user, laurel_private.user_as_text(tenant_id, effect.user_id));
          messages := messages || case when snapshots is null
            then laurel_private.points_changed_message(tenant_id, effect.user_id, shown_user, system.system_id, awards)
            -- The answer is {"key":{…}}: what is inside of it is the system's.
            else (effect.user_id, 'points.changed', concat('{"type":"points.changed","user":', shown_user, ',"points":', left(substr(
              laurel_private.points_response(array[system], levels, snapshots, awards), length(system.system_key) + 5), -1), '}'))::laurel_private.outgoing_message end;
        end if;
      end if;
      if wants_levels then
        -- L2: before its first row a user has no level.
        level_before := case when awards[1].sequence = 1 then 0
          else width_bucket(awards[1].total_before, system.level_thresholds) end;
        level_after := width_bucket(award.total_after, system.level_thresholds);
        if level_after <> level_before then
          shown_user := coalesce(shown_user, laurel_private.user_as_text(tenant_id, effect.user_id));
          if snapshots is null then
            select trim(laurel_private.system_as_json(s)::text, '{}'), (
              select jsonb_agg(laurel_private.level_as_json(l) order by l.points) from laurel.points_levels l where l.system_id = s.id)
            into shown_system, shown_levels from laurel.points_systems s where s.id = system.system_id;
          else
            shown_system := snapshots ->> system.system_key;
            shown_levels := levels -> system.system_key;
          end if;
          messages := messages || laurel_private.level_changed_message(effect.user_id, shown_user, shown_system,
            case when level_before > 0 then shown_levels ->> (level_before - 1) end,
            case when level_after > 0 then shown_levels ->> (level_after - 1) end, award.total_after);
        end if;
      end if;
    end loop;
  end loop;
  if cardinality(messages) > 0 then
    perform laurel_private.write_messages(tenant_id, messages);
  end if;
end
$$;

comment on function laurel_private.announce_effects(uuid, text[], laurel_private.system_rule[], laurel_private.points_effects[], jsonb, jsonb) is
  'Writes the messages that follow from what happened to locked users: achievement.completed, points.changed (first in 15 minutes), points.level_changed. Rules H2, H3.';

-- H3: sums up what happened since the last message in windows that are over, and opens the next; a
-- window without news is gone. Users who are busy are skipped: they come with the next call. Users
-- are locked before their windows, as the flow does it.
create function laurel_private.announce_points_changes(as_of timestamptz default now(), most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  due laurel_private.points_changed_windows[];
  candidate laurel_private.points_changed_windows;
  awards laurel.points_awards[];
  last_sequence bigint;
  done int := 0;
begin
  due := array(
    select w from laurel_private.points_changed_windows w
    where w.ends_at <= as_of order by w.ends_at limit greatest(most, 1));
  foreach candidate in array array(select w from unnest(due) w order by w.tenant_id, w.user_id, w.system_id) loop
    select s.last_sequences[array_position(s.system_ids, candidate.system_id)] into last_sequence
    from laurel_private.user_states s
    where s.tenant_id = candidate.tenant_id and s.user_id = candidate.user_id
    for no key update skip locked;
    continue when not found;
    select w.* into candidate from laurel_private.points_changed_windows w
    where w.tenant_id = candidate.tenant_id and w.user_id = candidate.user_id and w.system_id = candidate.system_id
      and w.ends_at <= as_of;
    continue when not found;
    done := done + 1;
    awards := '{}';
    -- In a statement of its own, as the lock's last holder may have added rows.
    select s.last_sequences[array_position(s.system_ids, candidate.system_id)] into last_sequence
    from laurel_private.user_states s where s.tenant_id = candidate.tenant_id and s.user_id = candidate.user_id;
    if last_sequence > candidate.announced_sequence
      and 'points.changed' = any (laurel_private.wanted_webhooks(candidate.tenant_id))
    then
      -- Silent completions stay silent (A3).
      awards := array(
        select a from laurel.points_awards a
        where a.tenant_id = candidate.tenant_id and a.user_id = candidate.user_id and a.system_id = candidate.system_id
          and a.sequence > candidate.announced_sequence
          and not (a.cause = 'achievement' and exists (
            select from laurel.user_achievements c
            where c.tenant_id = a.tenant_id and c.user_id = a.user_id and c.achievement_id = a.achievement_id and c.is_silent))
        order by a.sequence);
    end if;
    if awards = '{}' then
      delete from laurel_private.points_changed_windows w
      where w.tenant_id = candidate.tenant_id and w.user_id = candidate.user_id and w.system_id = candidate.system_id;
      continue;
    end if;
    update laurel_private.points_changed_windows w
    set ends_at = as_of + interval '15 minutes', announced_sequence = last_sequence
    where w.tenant_id = candidate.tenant_id and w.user_id = candidate.user_id and w.system_id = candidate.system_id;
    perform laurel_private.write_messages(candidate.tenant_id, array[laurel_private.points_changed_message(candidate.tenant_id, candidate.user_id,
      laurel_private.user_as_text(candidate.tenant_id, candidate.user_id), candidate.system_id, awards)]);
  end loop;
  return done;
end
$$;

comment on function laurel_private.announce_points_changes(timestamptz, int) is
  'Writes a points.changed message for users, at most so many, whose 15 minutes are over and whose points changed meanwhile; returns how many windows it dealt with, 0 when none is due. Rule H3.';
--! EndIncluded webhooks/announce_effects.sql
--! Included webhooks/announce_streaks.sql
-- What happened to streaks becomes messages: streak.started, extended, lost, freeze_consumed and freeze_earned. Called
-- by the flow for what events did, and by settle_users() for what time did, whoever found it out; under
-- the users' locks, in the transaction that makes it durable, so that each outcome is told once.

-- `wanted` are the types that somebody wants. A statement that lengthens a streak several times says so each time, with
-- the streak as it is behind it.
create function laurel_private.announce_streaks(tenant_id uuid, wanted text[], effects laurel_private.streak_effects[])
  returns void language plpgsql volatile as $$
declare
  messages laurel_private.outgoing_message[];
begin
  if not wanted && array['streak.started', 'streak.extended', 'streak.lost', 'streak.freeze_consumed', 'streak.freeze_earned'] then
    return;
  end if;
  messages := array(
    select ((effects[n]).user_id, t.type, concat('{"type":"', t.type, '","user":', u.shown, ',', case
        when o.kind in ('started', 'extended') then concat('"streak":',
          ((effects[n]).answer::jsonb - 'extended') || jsonb_build_object('length', o.length))
        when o.kind = 'lost' then concat('"length":', o.length)
        else concat('"', replace(o.kind, 'freeze_', ''), '":', o.count, ',"freezes":', o.freezes) end, '}'))::laurel_private.outgoing_message
    from generate_subscripts(effects, 1) n
    cross join lateral unnest((effects[n]).outcomes) with ordinality as o (kind, length, count, freezes, occasion_no, no)
    cross join lateral (select 'streak.' || o.kind as type) t
    cross join lateral (
      select laurel_private.user_as_json(u)::text as shown from laurel.users u
      where u.tenant_id = announce_streaks.tenant_id and u.id = (effects[n]).user_id
      offset 0) u
    where t.type = any (wanted)
    order by n, o.no);
  if cardinality(messages) > 0 then
    perform laurel_private.write_messages(tenant_id, messages);
  end if;
end
$$;

comment on function laurel_private.announce_streaks(uuid, text[], laurel_private.streak_effects[]) is
  'Writes the messages that follow from what happened to streaks of locked users, as far as their types are among the wanted. Rule H1.';
--! EndIncluded webhooks/announce_streaks.sql
--! Included points/time_clocks.sql
-- The clocks of time triggers (TR5): when a user's next tick is due, and which ticks are applied. A
-- clock starts at the later of its trigger's activation and its user's creation; every tick's moment
-- follows from that by arithmetic, so that nothing is written while time passes.
--
-- A user who can neither gain nor lose has no clock, or one that rests: at a full balance (an empty
-- one for a deduction), or when the trigger's filter does not match, a tick changes nothing and writes
-- nothing, so that it need not be looked at. Whatever ends that starts the clock again, with the
-- first tick due after that moment: start_clocks(), called by the flow, by a change of the profile, by
-- a user's creation and, after a change of configuration, by a look at all users in batches.
-- Written here and by run_due_time_triggers.sql. Invariant: of one clock every tick up to last_tick is
-- applied, none after it (verify() checks what of that the ledger shows).

-- One rule of a time trigger and for how long it held: from activation or edit to edit or
-- deactivation. A tick is judged by the rule of its moment, however late it is applied. Kept for ever:
-- a handful per trigger.
create table laurel_private.time_trigger_spans (
  id uuid primary key default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  system_id uuid not null,
  trigger_id uuid not null,
  activated_at timestamptz not null,
  begins_at timestamptz not null,
  ends_at timestamptz,
  time_unit laurel.time_unit not null,
  time_interval int not null,
  points int not null,
  user_attributes jsonb not null,
  applied_until timestamptz,
  applied_ahead timestamptz,
  -- How far the look for users whose clocks must start has come.
  looks_from timestamptz not null,
  horizon xid8,
  looked_since xid8,
  after_user_id text collate "C" not null default '',
  looks int not null default 0,
  is_over boolean not null default false,
  constraint span_does_not_end_before_it_begins check (ends_at >= begins_at),
  constraint all_are_looked_at_twice check (looks between 0 and 2),
  constraint only_ended_spans_are_over check (not is_over or ends_at is not null),
  constraint span_system_is_of_the_same_tenant foreign key (tenant_id, system_id)
    references laurel.points_systems (tenant_id, id) on delete cascade
);

create unique index one_open_span_per_trigger on laurel_private.time_trigger_spans (trigger_id) where ends_at is null;
create index time_trigger_spans_by_trigger on laurel_private.time_trigger_spans (trigger_id, activated_at);
create index time_trigger_spans_by_system on laurel_private.time_trigger_spans (tenant_id, system_id);

comment on table laurel_private.time_trigger_spans is 'The rules that time triggers had, each with the time during which it held. Rule TR5.';
comment on column laurel_private.time_trigger_spans.activated_at is
  'When the clocks of this activation start; spans that follow one another by edits share it.';
comment on column laurel_private.time_trigger_spans.ends_at is 'Null while it holds.';
comment on column laurel_private.time_trigger_spans.applied_until is
  'The highest future moment up to which all ticks were applied ahead; null when none were.';
comment on column laurel_private.time_trigger_spans.applied_ahead is
  'The highest future moment up to which some ticks at least were applied ahead; null when none were.';
comment on column laurel_private.time_trigger_spans.looks_from is 'Clocks found by the look start with the first tick after this.';
comment on column laurel_private.time_trigger_spans.horizon is
  'That of the first look: transactions from before it may not have known the span. Null before.';
comment on column laurel_private.time_trigger_spans.looked_since is
  'The oldest transaction that ran when the first look began. When that is before the horizon, a second look follows.';
comment on column laurel_private.time_trigger_spans.looks is 'How often all users have been looked at.';
comment on column laurel_private.time_trigger_spans.is_over is 'Whether it has ended and no clock is left of it.';
alter table laurel_private.time_trigger_spans enable row level security;

create table laurel_private.user_clocks (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  trigger_id uuid not null,
  activated_at timestamptz not null,
  started_at timestamptz not null,
  last_tick bigint not null,
  next_due_at timestamptz,
  constraint clocks_are_one_per_user_and_activation primary key (tenant_id, user_id, trigger_id, activated_at),
  constraint clocks_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
) with (fillfactor = 80);

create index user_clocks_by_due_time on laurel_private.user_clocks (next_due_at) where next_due_at is not null;

comment on table laurel_private.user_clocks is 'How far a user has come with a time trigger''s ticks. Rule TR5.';
comment on column laurel_private.user_clocks.started_at is 'The later of activation and the user''s creation.';
comment on column laurel_private.user_clocks.last_tick is 'The last tick that was applied or that a resting clock passed; 0 before the first.';
comment on column laurel_private.user_clocks.next_due_at is
  'When to look at it again, by the time zone of when it was written; null while it rests.';
alter table laurel_private.user_clocks enable row level security;

-- When tick k of a clock is due. Days keep the local time of day; a time that a clock change skips
-- or repeats is what PostgreSQL's `at time zone` makes of it. Beyond 3,400 years: never.
create function laurel_private.tick_due_at(
  started_at timestamptz, time_unit laurel.time_unit, time_interval int, time_zone text, tick bigint
) returns timestamptz language sql immutable parallel safe
  return case
    when tick * time_interval > 30000000 then 'infinity'
    when time_unit = 'hours' then started_at + (tick * time_interval) * interval '1 hour'
    else ((started_at at time zone time_zone) + (tick * time_interval) * interval '1 day') at time zone time_zone end;

-- How many ticks are due by a moment.
create function laurel_private.ticks_due_by(
  started_at timestamptz, time_unit laurel.time_unit, time_interval int, time_zone text, moment timestamptz
) returns bigint language plpgsql immutable parallel safe as $$
declare
  ticks bigint;
begin
  if moment <= started_at then
    return 0;
  elsif time_unit = 'hours' then
    return div(extract(epoch from moment - started_at), 3600::numeric * time_interval);
  end if;
  ticks := div(greatest(extract(epoch from (moment at time zone time_zone) - (started_at at time zone time_zone)), 0),
    86400::numeric * time_interval);
  -- Skipped and repeated local times move a tick by less than a day.
  if laurel_private.tick_due_at(started_at, time_unit, time_interval, time_zone, ticks + 1) <= moment then
    return ticks + 1;
  elsif ticks > 0 and laurel_private.tick_due_at(started_at, time_unit, time_interval, time_zone, ticks) > moment then
    return ticks - 1;
  end if;
  return ticks;
end
$$;

-- Whether a tick of so many points could change this total: awards below the cap, deductions above the floor.
create function laurel_private.can_change(points int, total bigint, max_points int)
  returns boolean language sql immutable parallel safe
  return case when points > 0 then total < coalesce(max_points, 9007199254740991) else total > 0 end;

-- Starts the clocks of users who can gain or lose by these spans, unless they run. The first tick
-- is the first that is due after `moment` and was not applied ahead; `-infinity` for users who are
-- new. Whom the first look has not come to yet has not rested: that clock starts where the look would let it.
-- Of a span that has ended only clocks that nobody has seen start, and only for ticks that were due before its end.
-- The caller holds the users' locks, or looks at all (below).
create function laurel_private.start_clocks(tenant_id uuid, user_ids text[], span_ids uuid[], moment timestamptz)
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
begin
  insert into laurel_private.user_clocks as c (tenant_id, user_id, trigger_id, activated_at, started_at, last_tick, next_due_at)
  select distinct on (p.trigger_id, p.activated_at, s.user_id)
    s.tenant_id, s.user_id, p.trigger_id, p.activated_at, b.started_at, n.tick, d.due_at
  from unnest(user_ids) q (id)
  cross join lateral (
    select s.*, u.created_at from laurel_private.user_states s
    join laurel.users u on u.tenant_id = s.tenant_id and u.id = s.user_id
    where s.tenant_id = tenant_id and s.user_id = q.id) s
  join laurel_private.time_trigger_spans p on p.id = any (span_ids)
  join laurel.points_systems y on y.id = p.system_id
  left join laurel_private.user_clocks e on e.tenant_id = s.tenant_id and e.user_id = s.user_id
    and e.trigger_id = p.trigger_id and e.activated_at = p.activated_at
  cross join lateral (select greatest(p.activated_at, s.created_at)) b (started_at)
  cross join lateral (
    select greatest(e.last_tick, laurel_private.ticks_due_by(b.started_at, p.time_unit, p.time_interval, s.time_zone,
      case
        when not isfinite(moment) then moment
        when p.looks = 0 and s.user_id > p.after_user_id then greatest(p.looks_from, p.applied_until)
        else greatest(moment, p.applied_until) end))) n (tick)
  cross join lateral (
    select laurel_private.tick_due_at(b.started_at, p.time_unit, p.time_interval, s.time_zone, n.tick + 1)) d (due_at)
  where (e.user_id is null or e.next_due_at is null and p.ends_at is null)
    and (p.ends_at is null or d.due_at < p.ends_at)
    and s.attributes @> p.user_attributes
    and laurel_private.can_change(p.points, coalesce(s.totals[array_position(s.system_ids, p.system_id)], 0), y.max_points)
  -- In this order always, that of the looks too, so that two who start clocks of the same users never wait for each other.
  order by p.trigger_id, p.activated_at, s.user_id, p.id
  on conflict on constraint clocks_are_one_per_user_and_activation do update
  set last_tick = excluded.last_tick, next_due_at = excluded.next_due_at
  where c.next_due_at is null and c.last_tick <= excluded.last_tick;
end
$$;

comment on function laurel_private.start_clocks(uuid, text[], uuid[], timestamptz) is
  'Starts resting and missing clocks of users who can gain or lose, with the first tick due after the moment.';

-- Called by the flow for users whose total in these systems stood at the floor or at the cap and has moved.
create function laurel_private.restart_clocks(tenant_id uuid, user_ids text[], system_ids uuid[])
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  span_ids uuid[] := array(
    select p.id from laurel_private.time_trigger_spans p
    where p.tenant_id = tenant_id and p.ends_at is null and p.system_id = any (system_ids));
begin
  if span_ids <> '{}' then
    perform laurel_private.start_clocks(tenant_id, user_ids, span_ids, clock_timestamp());
  end if;
end
$$;

-- The same for the lane of many, from what was decided.
create function laurel_private.restart_clocks(tenant_id uuid, effects laurel_private.points_effects[])
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  user_ids text[];
  system_ids uuid[];
begin
  if exists (select from laurel_private.time_trigger_spans p where p.tenant_id = tenant_id and p.ends_at is null) then
    select array_agg(distinct a.user_id order by a.user_id), array_agg(distinct a.system_id) into user_ids, system_ids
    from unnest(effects) e cross join lateral unnest(e.awards) a
    where a.total_before = 0 or a.total_before >= a.max_points;
    if user_ids is not null then
      perform laurel_private.restart_clocks(tenant_id, user_ids, system_ids);
    end if;
  end if;
end
$$;

-- New users' clocks start with them. A transaction that does not see a span yet is why its look at
-- all users is made twice.
create function laurel_private.tg_users__start_clocks()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  started record;
begin
  for started in
    select n.tenant_id, array_agg(n.id::text order by n.id) as user_ids,
      array(select p.id from laurel_private.time_trigger_spans p where p.tenant_id = n.tenant_id and p.ends_at is null) as span_ids
    from new_users n group by n.tenant_id
  loop
    if started.span_ids <> '{}' then
      perform laurel_private.start_clocks(started.tenant_id, started.user_ids, started.span_ids, '-infinity');
    end if;
  end loop;
  return null;
end
$$;

create trigger users__start_clocks after insert on laurel.users
  referencing new table as new_users for each statement
  execute function laurel_private.tg_users__start_clocks();

-- Ends spans, which the caller has locked. What was due before is applied even if no look had come to it, unless
-- the first interval was not over yet: then there is nothing to look for. (A time zone may skip a day.)
create function laurel_private.end_spans(span_ids uuid[], moment timestamptz)
  returns void language sql volatile
begin atomic
  update laurel_private.time_trigger_spans p
  set ends_at = moment,
    looks = case
      when p.looks = 0 and p.activated_at + case when p.time_unit = 'hours' then p.time_interval * interval '1 hour'
        else (p.time_interval - 1) * interval '1 day' end > moment then 1 else p.looks end
  where p.id = any (span_ids);
end;

-- Configuration: an activation, an edit or a deactivation ends a span and may begin another.
create function laurel_private.tg_points_triggers__keep_spans()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  open_span laurel_private.time_trigger_spans;
  is_ticking boolean;
  moment timestamptz;
begin
  -- The configuration's lock first: an erasure holds it when it waits for a user, and who holds the user may wait for the span.
  perform from laurel.tenants t where t.id = new.tenant_id for no key update;
  -- Waits for ticks that are being applied: whatever is due before the moment taken next is theirs.
  select p.* into open_span from laurel_private.time_trigger_spans p
  where p.trigger_id = new.id and p.ends_at is null for no key update;
  moment := clock_timestamp();
  is_ticking := new.type = 'time' and new.status = 'active' and exists (
    select from laurel.points_systems s where s.id = new.system_id and s.archived_at is null);
  if open_span.id is not null and is_ticking
    and (new.time_unit, new.time_interval, new.points, new.user_attributes::jsonb)
      is not distinct from (open_span.time_unit, open_span.time_interval, open_span.points, open_span.user_attributes)
  then
    return null;
  end if;
  perform laurel_private.end_spans(array[open_span.id], moment);
  if is_ticking then
    insert into laurel_private.time_trigger_spans (tenant_id, system_id, trigger_id, activated_at, begins_at, time_unit,
      time_interval, points, user_attributes, applied_until, looks_from)
    select new.tenant_id, new.system_id, new.id, case when k.goes_on then open_span.activated_at else moment end, moment,
      new.time_unit, new.time_interval, new.points, new.user_attributes, case when k.goes_on then open_span.applied_until end,
      case when k.goes_on and open_span.looks = 0 then open_span.looks_from else moment end
    -- Another interval starts the clocks anew, as an activation does.
    from (select open_span.id is not null
      and (new.time_unit, new.time_interval) = (open_span.time_unit, open_span.time_interval)) k (goes_on);
  end if;
  return null;
end
$$;

create trigger points_triggers__keep_spans_new after insert on laurel.points_triggers
  for each row when (new.type = 'time' and new.status = 'active')
  execute function laurel_private.tg_points_triggers__keep_spans();
create trigger points_triggers__keep_spans_changed after update on laurel.points_triggers
  for each row when (old.type = 'time' or new.type = 'time')
  execute function laurel_private.tg_points_triggers__keep_spans();

create function laurel_private.end_open_spans(of_tenant uuid, of_system uuid)
  returns void language plpgsql volatile as $$
declare
  span_ids uuid[] := array(
    select p.id from laurel_private.time_trigger_spans p
    where p.tenant_id = of_tenant and (of_system is null or p.system_id = of_system) and p.ends_at is null
    order by p.id for no key update);
begin
  perform laurel_private.end_spans(span_ids, clock_timestamp());
end
$$;

-- An archived system or tenant stops all of its clocks; another cap lets some gain who could not.
create function laurel_private.tg_points_systems__keep_spans()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from laurel.tenants t where t.id = new.tenant_id for no key update;
  if new.archived_at is not null then
    perform laurel_private.end_open_spans(new.tenant_id, new.id);
  else
    update laurel_private.time_trigger_spans p
    set looks_from = case when p.looks = 0 then p.looks_from else clock_timestamp() end, horizon = null, looked_since = null, after_user_id = '', looks = 0
    where p.system_id = new.id and p.ends_at is null;
  end if;
  return null;
end
$$;

create trigger points_systems__keep_spans after update on laurel.points_systems
  for each row when ((old.archived_at, old.max_points) is distinct from (new.archived_at, new.max_points))
  execute function laurel_private.tg_points_systems__keep_spans();

create function laurel_private.tg_tenants__end_spans()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.end_open_spans(new.id, null);
  return null;
end
$$;

create trigger tenants__end_spans after update on laurel.tenants
  for each row when (new.archived_at is not null and old.archived_at is null)
  execute function laurel_private.tg_tenants__end_spans();

-- Looks at the next users, at most so many, for clocks that a change of configuration starts; of one tenant or (null)
-- of all; also those of a span that ended before anybody had looked. Takes no user's lock: who is moved meanwhile by somebody who knows the span starts the clock
-- as well, and the second finds it running. Who did not know the span is why there is a second look, once
-- all transactions from before it have ended. Returns how many it looked at, at least 1; 0 when there is nothing to look for.
create function laurel_private.look_for_clocks(of_tenant uuid, most int default 1000)
  returns int language plpgsql volatile as $$
declare
  span laurel_private.time_trigger_spans;
  user_ids text[];
begin
  select p.* into span from laurel_private.time_trigger_spans p
  where (of_tenant is null or p.tenant_id = of_tenant)
    and (p.looks = 0 and not p.is_over
      or p.looks = 1 and p.ends_at is null and p.looked_since < p.horizon and p.horizon < pg_snapshot_xmin(pg_current_snapshot()))
  order by p.trigger_id, p.activated_at, p.id
  limit 1
  for no key update skip locked;
  if not found then
    return 0;
  end if;
  -- Held so that nobody is erased between being read and having a clock, which would refer to nobody.
  user_ids := array(
    select u.id::text from laurel.users u
    where u.tenant_id = span.tenant_id and u.id > span.after_user_id
    order by u.id
    limit most
    for key share);
  perform laurel_private.start_clocks(span.tenant_id, user_ids, array[span.id], span.looks_from);
  update laurel_private.time_trigger_spans p
  set looked_since = coalesce(p.looked_since, pg_snapshot_xmin(pg_current_snapshot())),
    horizon = coalesce(p.horizon, pg_current_xact_id()),
    after_user_id = case when cardinality(user_ids) = most then user_ids[most] else '' end,
    looks = case when cardinality(user_ids) = most then p.looks else p.looks + 1 end
  where p.id = span.id;
  return greatest(cardinality(user_ids), 1);
end
$$;

comment on function laurel_private.look_for_clocks(uuid, int) is
  'Starts the clocks of the next users that a new or changed time trigger can move; returns 0 when there is nothing to look for now.';
--! EndIncluded points/time_clocks.sql
--! Included points/apply_occasions.sql
-- The flow's second half, for any number of users: load what must be known, decide, apply. What
-- happened to each of them goes in, in order: events, identification, completions. The
-- callers hold the users' locks.

create type laurel_private.user_occasions as (user_id text, occasions laurel_private.occasion[]);

-- What matching events add up to before those that are applied now, by achievement number: null for
-- those that filter no events or are completed. Not counted yet means summed from the log, once.
create function laurel_private.achievement_counts_before(
  state laurel_private.user_states, metric_ids uuid[], achievements laurel_private.achievement_rule[], completed uuid[]
) returns numeric[] language sql stable as $$
  select array_agg(case when a.event_attributes is not null and a.achievement_id <> all (completed) then coalesce(
    (select k.count from laurel_private.achievement_counts k
      where k.tenant_id = state.tenant_id and k.user_id = state.user_id and k.achievement_id = a.achievement_id),
    (select sum(e.value) from laurel.metric_events e
      where e.tenant_id = state.tenant_id and e.user_id = state.user_id and e.metric_id = metric_ids[a.metric_no]
        and e.id <= state.last_event_ids[array_position(state.metric_ids, e.metric_id)]
        and e.attributes @> a.event_attributes),
    0) end order by a.no)
  from unnest(achievements) with ordinality
    as a (achievement_id, kind, metric_no, value, prerequisite_ids, user_attributes, event_attributes, no)
$$;

create function laurel_private.apply_occasions(
  tenant_id uuid, metric_ids uuid[], work laurel_private.user_occasions[], is_silent boolean default false,
  ticking laurel_private.combined_rules default null, extended laurel_private.streak_effects[] default null,
  out systems laurel_private.system_rule[], out effects laurel_private.points_effects[],
  -- By user, in the order of work; null where nothing happened.
  out streaks laurel_private.streak_effects[]
) language plpgsql volatile as $$
#variable_conflict use_variable
declare
  own_metric_ids uuid[] := metric_ids;
  system_ids uuid[];
  -- By trigger number, those that keep their own count; null for the others.
  counting_ids uuid[];
  achievement_ids uuid[];
  rules laurel_private.combined_rules;
  boards laurel_private.leaderboard_rule[];
begin
  streaks := extended;
  if extended is null and metric_ids <> '{}' then
    streaks := laurel_private.extend_streaks(tenant_id, metric_ids, work,
      case when not laurel_private.is_rehearsal(tenant_id) then clock_timestamp() end);
  end if;
  metric_ids := metric_ids || laurel_private.nil_metric();
  rules := case when ticking is null then laurel_private.combine_rules(tenant_id, metric_ids) else ticking end;
  systems := rules.systems;
  system_ids := array(select s.system_id from unnest(systems) s);
  if rules.counts_events then
    counting_ids := array(
      select case when r.event_attributes is not null then r.trigger_id end
      from unnest(rules.triggers) with ordinality
        as r (trigger_id, cause, system_no, system_id, system_key, max_points, points, threshold, metric_no, metric_key, achievement_id,
          user_attributes, event_attributes, blocks, version, no)
      order by r.no);
  end if;
  achievement_ids := array(
    select a.achievement_id from unnest(rules.achievements) a
    union
    select p.id from unnest(rules.achievements) a cross join lateral unnest(a.prerequisite_ids) p (id));

  effects := array(
    select laurel_private.decide_points(
      (s.tenant_id, s.user_id, s.time_zone, s.attributes, s.attributes_version, null)::laurel_private.locked_user,
      rules.triggers,
      case when rules.has_user_boosts
        then rules.boosts || laurel_private.user_boosts(tenant_id, o.user_id, rules.systems)
        else rules.boosts end,
      o.occasions,
      -- Most users have just these metrics and systems, in this order.
      case when s.metric_ids = own_metric_ids then s.metric_totals || 0::numeric
        else array(select coalesce(s.metric_totals[array_position(s.metric_ids, i.id)], 0) from unnest(metric_ids) i (id)) end,
      case when s.metric_ids = own_metric_ids then s.metric_peaks || 0::numeric
        else array(select coalesce(s.metric_peaks[array_position(s.metric_ids, i.id)], 0) from unnest(metric_ids) i (id)) end,
      c.counts, c.peaks,
      case when s.system_ids = system_ids then s.totals
        else array(select coalesce(s.totals[array_position(s.system_ids, i.id)], 0) from unnest(system_ids) i (id)) end,
      case when s.system_ids = system_ids then s.last_sequences
        else array(select coalesce(s.last_sequences[array_position(s.system_ids, i.id)], 0) from unnest(system_ids) i (id)) end,
      rules.achievements, a.completed,
      case when rules.counts_for_achievements
        then laurel_private.achievement_counts_before(s, metric_ids, rules.achievements, a.completed) end,
      o.steps)
    from unnest(work, streaks) as o (user_id, occasions, streak_user_id, streak, runs, removed, periods, freezes, progress, done, steps,
      outcomes, answer, valid_from, valid_until, is_satisfied, is_rebuilt, version)
    cross join lateral (
      select s.* from laurel_private.user_states s
      where s.tenant_id = tenant_id and s.user_id = o.user_id
      offset 0) s
    -- The user's completions alone: among those of the achievements are everybody's.
    cross join lateral (
      select case when achievement_ids = '{}' then '{}' else array(
        select c.achievement_id from (
          select c.achievement_id from laurel.user_achievements c
          where c.tenant_id = tenant_id and c.user_id = o.user_id
          offset 0) c
        where c.achievement_id = any (achievement_ids)) end as completed) a
    cross join lateral (
      select array_agg(coalesce(c.count, 0) order by r.no) as counts, array_agg(coalesce(c.peak, 0) order by r.no) as peaks
      from unnest(counting_ids) with ordinality as r (trigger_id, no)
      left join laurel.points_trigger_counts c
        on c.tenant_id = tenant_id and c.user_id = o.user_id and c.trigger_id = r.trigger_id) c);

  perform laurel_private.write_states(tenant_id, metric_ids, systems, effects);
  if rules.counts_events then
    perform laurel_private.write_trigger_counts(tenant_id, rules.triggers, effects);
  end if;
  if exists (select from unnest(effects) e where e.completions <> '{}' or e.achievement_counts is not null) then
    perform laurel_private.write_completions(tenant_id, rules.achievements, effects, is_silent);
  end if;
  if rules.triggers <> '{}' then
    perform laurel_private.write_awards(effects);
    if ticking is null then
      perform laurel_private.restart_clocks(tenant_id, effects);
    end if;
  end if;
  boards := laurel_private.combine_leaderboards(tenant_id, metric_ids);
  if cardinality(boards) > 0 then
    perform laurel_private.rank_users(tenant_id, metric_ids, boards, work, effects);
  end if;
  if rules.webhook_types <> '{}' and not is_silent then
    perform laurel_private.announce_streaks(tenant_id, rules.webhook_types, streaks);
    perform laurel_private.announce_effects(tenant_id, rules.webhook_types, systems, effects);
  end if;
end
$$;

comment on function laurel_private.apply_occasions(uuid, uuid[], laurel_private.user_occasions[], boolean, laurel_private.combined_rules,
  laurel_private.streak_effects[]) is
  'Loads, decides and applies what happened to locked users; occasions number the metrics as metric_ids does. Silent completions are not announced (A3); ticks bring their own rules, and whoever has extended the streaks already what came of it. LR030.';
--! EndIncluded points/apply_occasions.sql
--! Included leaderboards/rank_streaks.sql
-- Leaderboards that rank by streak (LB1): an entry's value is the length of its user's streak. Derived
-- from what the streak step stored (streaks/), under the user's lock, by whoever stored it: the flow,
-- upkeep, administration. Decided here, where the specification is silent:
-- * A streak counts with the length it has, whenever it began: the start date says from when on the
--   leaderboard is shown, not from when on periods count.
-- * Who got there first: the length was reached with the event that was recorded last among those that
--   its periods are satisfied by. A streak that is restored is back in its old place among equals.
-- * A streak that is lost is off the leaderboard at the moment it is lost, whether or not anything was
--   recorded then (S3): an entry holds until its streak is due to be looked at, and readers look at it themselves from then on.
-- * With an end date the ranking stands still, for each user, once the last day is over in its time zone;
--   late events that occurred until then count until the leaderboard is final.

-- What a user has on such a leaderboard by what is stored. reached_id is null when it has nothing.
create function laurel_private.streak_on_board(
  board laurel_private.leaderboard_rule, streak laurel_private.user_streaks, time_zone text,
  out value int, out reached_id uuid, out holds_until timestamptz
) language plpgsql stable as $$
#variable_conflict use_variable
declare
  run laurel_private.streak_runs;
  last_period date;
  -- The midnight at which the leaderboard is over for the user.
  over_at timestamptz := (board.ends_on + 1)::timestamp at time zone time_zone;
begin
  value := 0;
  if board.ends_on is null or streak.settled_on <= board.ends_on then
    if streak.length > 0 then
      value := streak.length;
      holds_until := case when streak.due_at >= over_at then null else streak.due_at end;
      select p.event_id into reached_id
      from laurel_private.streak_periods p
      where p.tenant_id = streak.tenant_id and p.user_id = streak.user_id and p.frequency = streak.frequency and p.kind = 'satisfied'
        and p.period_start >= (
          select r.first_period from laurel_private.streak_runs r
          where r.tenant_id = streak.tenant_id and r.user_id = streak.user_id and r.frequency = streak.frequency and not r.is_over
          order by r.first_period desc limit 1)
      order by p.event_id desc limit 1;
    end if;
    return;
  end if;
  -- As it was at the end of the last day.
  last_period := laurel_private.streak_period(board.ends_on, streak.frequency);
  select r.* into run from laurel_private.streak_runs r
  where r.tenant_id = streak.tenant_id and r.user_id = streak.user_id and r.frequency = streak.frequency and r.first_period <= last_period
  order by r.first_period desc limit 1;
  if last_period <= laurel_private.next_streak_period(run.through_period, streak.frequency) then
    select count(*), (array_agg(p.event_id order by p.event_id desc))[1] into value, reached_id
    from laurel_private.streak_periods p
    where p.tenant_id = streak.tenant_id and p.user_id = streak.user_id and p.frequency = streak.frequency and p.kind = 'satisfied'
      and p.period_start between run.first_period and last_period and p.occurred_at < over_at
      and p.event_id < laurel_private.first_uuid_v7(laurel_private.final_at(board, board.starts_on));
  end if;
end
$$;

comment on function laurel_private.streak_on_board(laurel_private.leaderboard_rule, laurel_private.user_streaks, text) is
  'The length that counts on a leaderboard of streaks, the event it was reached with, and until when it holds by itself (null for ever). Rule LB1.';

-- The caller holds the users' locks, and has stored their streaks. Of `effects` it matters who lost a
-- streak on the way: what it had is not where it comes from.
create function laurel_private.rank_streaks(
  tenant_id uuid, user_ids text[], effects laurel_private.streak_effects[] default '{}'
) returns void language plpgsql volatile
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  boards laurel_private.leaderboard_rule[] := laurel_private.streak_leaderboards(tenant_id);
  lost text[];
begin
  if boards = '{}' then
    return;
  end if;
  lost := array(select e.user_id from unnest(effects) e where exists (select from unnest(e.outcomes) o where o.kind = 'lost'));
  insert into laurel.leaderboard_entries as e (tenant_id, user_id, leaderboard_id, generation, run_on, value, reached_id, holds_until,
    previous_value, previous_reached_id, breakdown, group_id)
  select tenant_id, s.user_id, b.leaderboard_id, b.generation, b.starts_on, d.value, coalesce(d.reached_id, x.reached_id), d.holds_until,
    case when d.value = x.value then x.previous_value when x.group_id = g.group_id and s.user_id <> all (lost) then x.value end,
    case when d.value = x.value then x.previous_reached_id when x.group_id = g.group_id and s.user_id <> all (lost) then x.reached_id end,
    n.breakdown, g.group_id
  from unnest(user_ids) q (id)
  cross join lateral (
    select s.user_id, s.time_zone, s.attributes from laurel_private.user_states s
    where s.tenant_id = tenant_id and s.user_id = q.id offset 0) s
  cross join lateral (
    select u from laurel_private.user_streaks u
    where u.tenant_id = tenant_id and u.user_id = q.id offset 0) u (streak)
  cross join generate_subscripts(boards, 1) i
  cross join lateral (select (boards[i]).*) b
  left join lateral (
    select x.* from laurel.leaderboard_entries x
    where x.tenant_id = tenant_id and x.user_id = q.id and x.leaderboard_id = b.leaderboard_id
      and x.generation = b.generation and x.run_on = b.starts_on) x on true
  cross join lateral laurel_private.streak_on_board(boards[i], u.streak, s.time_zone) d
  cross join lateral (select laurel_private.breakdown_of(boards[i], s.attributes) as breakdown) n
  cross join lateral (select laurel_private.group_of(boards[i], n.breakdown) as group_id) g
  where (d.value > 0 or x.value is not null)
    -- Behind the last day, what stands is moved by late events alone, not by what becomes of the streak.
    and (b.ends_on is null or (u.streak).settled_on <= b.ends_on or x.value is null or x.holds_until is not null
      or d.reached_id > x.reached_id)
  on conflict on constraint entries_are_one_per_user_and_run do update
  set value = excluded.value, reached_id = excluded.reached_id, holds_until = excluded.holds_until,
    previous_value = excluded.previous_value, previous_reached_id = excluded.previous_reached_id,
    breakdown = excluded.breakdown, group_id = excluded.group_id
  where (e.value, e.reached_id, e.holds_until) is distinct from (excluded.value, excluded.reached_id, excluded.holds_until);
end
$$;

comment on function laurel_private.rank_streaks(uuid, text[], laurel_private.streak_effects[]) is
  'Moves the entries of users on leaderboards of streaks to where their stored streaks are. Rule LB1.';

-- Whether an entry that was due to be looked at still holds at a moment: asked by readers, of those that upkeep has
-- not come to yet. What is stored may be of later, as when a leaderboard was finished by hand.
create function laurel_private.is_streak_kept(entry laurel.leaderboard_entries, as_of timestamptz)
  returns boolean language plpgsql stable as $$
declare
  board laurel.leaderboards;
  streak laurel_private.user_streaks;
  zone text;
  moment timestamptz;
  period date;
begin
  select b.* into board from laurel.leaderboards b where b.id = entry.leaderboard_id;
  select s.time_zone into zone from laurel_private.user_states s where s.tenant_id = entry.tenant_id and s.user_id = entry.user_id;
  moment := least(as_of, board.finished_at, (board.ends_on + 1)::timestamp at time zone zone - interval '1 microsecond');
  if moment < entry.holds_until then
    return true;
  end if;
  select u.* into streak from laurel_private.user_streaks u where u.tenant_id = entry.tenant_id and u.user_id = entry.user_id;
  -- Whoever moved west may be on a day before the one that is settled.
  if moment = as_of or streak.settled_on <= (moment at time zone zone)::date then
    return (((laurel_private.read_streak(entry.tenant_id, entry.user_id, moment)).effects).state).length > 0;
  end if;
  period := laurel_private.streak_period((moment at time zone zone)::date, streak.frequency);
  return exists (
    select from laurel_private.streak_runs r
    where r.tenant_id = entry.tenant_id and r.user_id = entry.user_id and r.frequency = streak.frequency
      and r.first_period <= period and period <= laurel_private.next_streak_period(r.through_period, r.frequency));
end
$$;

comment on function laurel_private.is_streak_kept(laurel.leaderboard_entries, timestamptz) is
  'Whether the streak behind an entry was still running at a moment, or when its leaderboard ended. Rule S3.';

-- Whether an entry still stands for what its user has.
create function laurel_private.entry_holds(entry laurel.leaderboard_entries, as_of timestamptz)
  returns boolean language sql stable as $$
  select entry.holds_until is null or entry.holds_until > as_of or laurel_private.is_streak_kept(entry, as_of)
$$;
--! EndIncluded leaderboards/rank_streaks.sql
--! Included leaderboards/rank_users.sql
-- The flow's step of leaderboards: what was added to metrics and earned in points moves the entries of
-- its user, in the transaction that causes it. One function for all users of a statement; called by
-- the flow only when the compiled rules name a leaderboard that is fed.

-- Something that may count: an event's value, or an award's points.
create type laurel_private.score_change as (
  user_id text,
  time_zone text,
  attributes jsonb,
  -- The metric or points system.
  source_id uuid,
  id uuid,
  amount numeric,
  occurred_at timestamptz
);

-- The caller holds the users' locks, and has stored the events and awards.
create function laurel_private.write_scores(
  tenant_id uuid, boards laurel_private.leaderboard_rule[], changes laurel_private.score_change[]
) returns void language plpgsql volatile as $$
#variable_conflict use_column
declare
  moves laurel_private.entry_move[];
begin
  with change as materialized (
    select c.board, c.user_id, c.run_on, c.reached_id, n.breakdown, laurel_private.group_of(c.board, n.breakdown) as group_id,
      coalesce(found.value + c.amount,
        -- The first since it counts: what happened before is in the log, and so is this.
        case when laurel_private.has_history(c.board, c.run_on) then (
          select h.value from laurel_private.leaderboard_history(c.board, write_scores.tenant_id, c.user_id, c.time_zone) h
          where h.run_on = c.run_on) else c.amount end) as value,
      found.group_id as group_before, found.value as value_before, found.reached_id as id_before
    from (
      select s.user_id, boards[b.no] as board, r.run_on, min(s.time_zone) as time_zone,
        (array_agg(s.attributes))[1] as attributes, sum(s.amount) as amount, (array_agg(s.id order by s.id desc))[1] as reached_id
      from unnest(changes) s
      join unnest(boards) with ordinality as b (leaderboard_id, generation, rank_by, source_id, starts_on, ends_on, start_time,
        end_time, run_unit, run_interval, breakdown_attributes, max_participants, activated_at, finished_at, no)
        on b.source_id = s.source_id
      cross join lateral (
        select (laurel_private.counted_run(boards[b.no], s.occurred_at, s.time_zone, s.id)).run_on) r
      where s.amount <> 0 and r.run_on is not null
      group by s.user_id, b.no, r.run_on) c
    cross join lateral (select laurel_private.breakdown_of(c.board, c.attributes) as breakdown offset 0) n
    left join lateral (
      select x.value, x.reached_id, x.group_id from laurel.leaderboard_entries x
      where x.tenant_id = write_scores.tenant_id and x.user_id = c.user_id and x.leaderboard_id = (c.board).leaderboard_id
        and x.generation = (c.board).generation and x.run_on = c.run_on) found on true
  ),
  written as (
    insert into laurel.leaderboard_entries as e
      (tenant_id, user_id, leaderboard_id, generation, run_on, value, reached_id, breakdown, group_id)
    select write_scores.tenant_id, c.user_id, (c.board).leaderboard_id, (c.board).generation, c.run_on, c.value, c.reached_id,
      c.breakdown, c.group_id
    from change c
    on conflict (tenant_id, user_id, leaderboard_id, generation, run_on) do update
    set value = excluded.value, reached_id = excluded.reached_id,
      previous_value = case when e.group_id = excluded.group_id then e.value end,
      previous_reached_id = case when e.group_id = excluded.group_id then e.reached_id end,
      breakdown = excluded.breakdown, group_id = excluded.group_id
  )
  select array_agg(((c.board).leaderboard_id, (c.board).generation, c.run_on, c.group_before, c.value_before, c.id_before,
    c.group_id, c.value, c.reached_id)::laurel_private.entry_move) into moves
  from change c;
  perform laurel_private.append_moves(write_scores.tenant_id, moves);
end
$$;

comment on function laurel_private.write_scores(uuid, laurel_private.leaderboard_rule[], laurel_private.score_change[]) is
  'Adds what users did and earned to their entries, one change per leaderboard and run. Rule LB1.';

-- What an event adds to the entry of a run.
create type laurel_private.entry_score as (leaderboard_id uuid, generation int, run_on date, last_day date, max_participants int, amount numeric, id uuid);

-- An entry that was written, with the last day of its run. Behind the last participant before and after, as most are, it has
-- no place, and the threshold is what that one has; otherwise null.
create type laurel_private.written_entry as (entry laurel.leaderboard_entries, last_day date, threshold numeric, may_pass_marks boolean);

-- The last participant of an entry's group, in one statement where the last mark is at the last place, or behind it: as it was
-- made, and as entries pass it. None when it takes more to find.
create function laurel_private.last_participant(entry laurel.leaderboard_entries, max_participants int)
  returns table (value numeric, reached_id uuid) language sql stable as $$
  select t.value, t.reached_id
  from laurel_private.leaderboard_marks m
  cross join lateral (
    select count(*) as moves, count(v.marks_id) as valid, m.counts[1] - max_participants
      + coalesce(sum((v.passed_after > 0)::int - (v.passed_before > 0)::int) filter (where v.marks_id = m.marks_id), 0) as steps
    from (
      select v.marks_id, v.passed_before, v.passed_after from laurel_private.leaderboard_moves v
      where v.tenant_id = m.tenant_id and v.leaderboard_id = m.leaderboard_id and v.generation = m.generation
        and v.run_on = m.run_on and v.group_id = m.group_id
      limit laurel_private.most_moves() + 1) v) v
  cross join lateral (
    select o.value, o.reached_id from laurel.leaderboard_entries o
    where o.leaderboard_id = entry.leaderboard_id and o.generation = entry.generation and o.run_on = entry.run_on
      and o.group_id = entry.group_id and (-o.value, o.reached_id) <= (-m.mark_values[1], m.mark_ids[1])
    order by -o.value desc, o.reached_id desc
    offset greatest(v.steps, 0) limit 1) t
  where m.tenant_id = entry.tenant_id and m.leaderboard_id = entry.leaderboard_id and m.generation = entry.generation
    and m.run_on = entry.run_on and m.group_id = entry.group_id and m.marks_id is not null
    and v.steps between 0 and max_participants and v.valid = v.moves and v.moves <= laurel_private.most_moves()
$$;

-- Whether an entry that did not lose anything is behind a participant, and was before.
create function laurel_private.is_behind(entry laurel.leaderboard_entries, value numeric, reached_id uuid)
  returns boolean language sql immutable parallel safe
  return ((entry).value < value or (entry).value = value and (entry).reached_id > reached_id)
    and ((entry).previous_value is null or (entry).previous_value < (entry).value);

-- The same for one event and what it earned: entries that are there and are not broken down are moved by one statement,
-- which costs a third, and returned, in the order of boards.
create function laurel_private.write_event_scores(
  for_user laurel_private.locked_user, boards laurel_private.leaderboard_rule[], metric_id uuid, event_id uuid, value numeric,
  awards laurel.points_awards[], occurred_at timestamptz
) returns laurel_private.written_entry[] language plpgsql volatile as $$
#variable_conflict use_variable
declare
  board laurel_private.leaderboard_rule;
  award laurel.points_awards;
  amount numeric;
  latest_id uuid;
  run laurel_private.leaderboard_run;
  scores laurel_private.entry_score[];
  scored laurel_private.leaderboard_rule[];
  written laurel_private.written_entry[];
  entry laurel.leaderboard_entries;
  no int := 1;
  others laurel_private.leaderboard_rule[];
  sees_all_marks boolean := current_setting('transaction_isolation') not in ('repeatable read', 'serializable');
begin
  foreach board in array boards loop
    continue when board.rank_by = 'streak';
    if board.rank_by = 'metric' then
      amount := value;
      latest_id := event_id;
    else
      amount := 0;
      latest_id := null;
      foreach award in array awards loop
        if award.system_id = board.source_id then
          amount := amount + award.points;
          latest_id := greatest(latest_id, award.id);
        end if;
      end loop;
    end if;
    continue when amount = 0;
    if board.breakdown_attributes = '{}' then
      run := laurel_private.counted_run(board, occurred_at, for_user.time_zone, latest_id);
      continue when run.run_on is null;
      scores := scores || (board.leaderboard_id, board.generation, run.run_on, run.last_day, board.max_participants, amount, latest_id)::laurel_private.entry_score;
      scored := scored || board;
    else
      others := others || board;
    end if;
  end loop;
  if scores is not null then
    -- Who is behind the last participant is judged in the same statement, which does not see what it writes: an entry that
    -- is behind before and after makes no difference to that.
    with moved as (
      update laurel.leaderboard_entries e
      set value = e.value + c.amount, reached_id = c.id, previous_value = e.value, previous_reached_id = e.reached_id
      from unnest(scores) with ordinality as c (leaderboard_id, generation, run_on, last_day, max_participants, amount, id, no)
      where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id and e.leaderboard_id = c.leaderboard_id
        and e.generation = c.generation and e.run_on = c.run_on
      returning e as entry, c.last_day, c.max_participants, c.no
    )
    select array_agg((w.entry, w.last_day, p.value,
      -- Most are behind all marks, before and after.
      not sees_all_marks or greatest((w.entry).previous_value, (w.entry).value) >= least(m.mark_values[1], m.next_values[1])
      )::laurel_private.written_entry order by w.no) into written
    from moved w
    left join lateral (
      select m.mark_values, m.next_values from laurel_private.leaderboard_marks m
      where m.tenant_id = (w.entry).tenant_id and m.leaderboard_id = (w.entry).leaderboard_id and m.generation = (w.entry).generation
        and m.run_on = (w.entry).run_on and m.group_id = (w.entry).group_id) m on true
    left join lateral laurel_private.last_participant(w.entry, w.max_participants) p
      on laurel_private.is_behind(w.entry, p.value, p.reached_id);
    for i in 1..coalesce(cardinality(written), 0) loop
      if written[i].may_pass_marks then
        entry := written[i].entry;
        perform laurel_private.append_moves(entry.tenant_id, array[(entry.leaderboard_id, entry.generation, entry.run_on,
          entry.group_id, entry.previous_value, entry.previous_reached_id,
          entry.group_id, entry.value, entry.reached_id)::laurel_private.entry_move]);
      end if;
    end loop;
    -- Entries that were not there.
    if cardinality(written) is distinct from cardinality(scores) then
      for i in 1..cardinality(scores) loop
        if (written[no].entry).leaderboard_id is not distinct from scores[i].leaderboard_id then
          no := no + 1;
        else
          others := others || scored[i];
        end if;
      end loop;
    end if;
  end if;
  if others is not null then
    perform laurel_private.write_scores(for_user.tenant_id, others, array(
      select (for_user.id, for_user.time_zone, for_user.attributes, c.source_id, c.id, c.amount, occurred_at)::laurel_private.score_change
      from (
        select metric_id as source_id, event_id as id, value as amount
        union all
        select a.system_id, a.id, a.points from unnest(awards) a) c));
  end if;
  return coalesce(written, '{}');
end
$$;

-- The same for what apply_occasions() decided.
create function laurel_private.rank_users(
  tenant_id uuid, metric_ids uuid[], boards laurel_private.leaderboard_rule[], work laurel_private.user_occasions[],
  effects laurel_private.points_effects[]
) returns void language sql volatile as $$
  select laurel_private.write_scores(rank_users.tenant_id, boards, array(
    select (s.user_id, s.time_zone, s.attributes, c.source_id, c.id, c.amount, c.occurred_at)::laurel_private.score_change
    from (
      select w.user_id, metric_ids[o.metric_no] as source_id, o.event_id as id, o.value as amount, o.occurred_at
      from unnest(work) w cross join lateral unnest(w.occasions) o where o.cause = 'metric'
      union all
      select a.user_id, a.system_id, a.id, a.points, a.occurred_at
      from unnest(effects) e cross join lateral unnest(e.awards) a) c
    cross join lateral (
      select s.user_id, s.time_zone, s.attributes from laurel_private.user_states s
      where s.tenant_id = rank_users.tenant_id and s.user_id = c.user_id offset 0) s))
$$;

-- The place that this value takes, the one before it, and what the last participant has. Here for leaderboards of
-- streaks, whose entries may lapse: one entry further than the limit is read, in the order of ranks, so that of one who
-- came in from outside the entry in front of whose old place the board ended is among them.
create function laurel_private.place_of_streak(
  entry laurel.leaderboard_entries, max_participants int, as_of timestamptz,
  out rank int, out previous_rank int, out threshold numeric
) language sql stable as $$
  select case when n.better < max_participants and entry.value > 0 and entry.group_id is not null
      and laurel_private.entry_holds(entry, as_of) then n.better + 1 end,
    case when n.better_than_before < max_participants and entry.previous_value > 0 then n.better_than_before + 1 end,
    coalesce(n.last_value, 0)
  from (
    select count(*) filter (where x.value > entry.value or x.value = entry.value and x.reached_id < entry.reached_id)::int as better,
      count(*) filter (where x.reached_id <> entry.reached_id
        and (x.value > entry.previous_value or x.value = entry.previous_value and x.reached_id < entry.previous_reached_id))::int
        as better_than_before,
      (array_agg(x.value))[max_participants] as last_value
    from (
      select o.value, o.reached_id from laurel.leaderboard_entries o
      where o.leaderboard_id = entry.leaderboard_id and o.generation = entry.generation and o.run_on = entry.run_on
        and o.group_id = entry.group_id and -o.value < 0 and laurel_private.entry_holds(o, as_of)
      order by -o.value, o.reached_id
      limit max_participants + 1) x) n
$$;

-- How many others of the entry's group stand behind one place and in front of another, looking at `most` at most: each a
-- value and what it was reached with.
create function laurel_private.count_between(
  entry laurel.leaderboard_entries, front_value numeric, front_id uuid, back_value numeric, back_id uuid, most int
) returns int language plpgsql stable as $$
begin
  return (
    select count(*) from (
      select from laurel.leaderboard_entries o
      where o.leaderboard_id = entry.leaderboard_id and o.generation = entry.generation and o.run_on = entry.run_on
        and o.group_id = entry.group_id and (-o.value, o.reached_id) > (-front_value, front_id)
        and (-o.value, o.reached_id) < (-back_value, back_id) and o.reached_id <> entry.reached_id
      limit most) x);
end
$$;

-- How many others stand in front of a place of the entry that has passed so many marks, counted from the next mark on.
create function laurel_private.count_better(
  entry laurel.leaderboard_entries, marks laurel_private.counted_marks, passed int, entry_passed int, value numeric, reached_id uuid,
  most int
) returns int language plpgsql stable as $$
declare
  counted int;
begin
  if passed = cardinality(marks.counts) then
    return laurel_private.count_between(entry, 'Infinity', laurel_private.nil_metric(), value, reached_id, most);
  end if;
  counted := marks.counts[passed + 1] - (entry_passed > passed)::int;
  if counted >= most then
    return most;
  end if;
  return counted + laurel_private.count_between(
    entry, marks.mark_values[passed + 1], marks.mark_ids[passed + 1], value, reached_id, most - counted);
end
$$;

-- Who has the nth place of the entry's group, found from the nearest mark or from the top; null when nobody has.
create function laurel_private.participant_at(
  entry laurel.leaderboard_entries, marks laurel_private.counted_marks, place int, out value numeric, out reached_id uuid
) language plpgsql stable as $$
#variable_conflict use_variable
declare
  mark int := 1;
  steps int := place;
  mark_value numeric := 'Infinity';
  mark_id uuid := laurel_private.nil_metric();
begin
  while abs(marks.counts[mark + 1] - place) < abs(marks.counts[mark] - place) loop
    mark := mark + 1;
  end loop;
  if abs(place - marks.counts[mark]) < place then
    steps := place - marks.counts[mark];
    mark_value := marks.mark_values[mark];
    mark_id := marks.mark_ids[mark];
  end if;
  if steps > 0 then
    select o.value, o.reached_id into value, reached_id
    from laurel.leaderboard_entries o
    where o.leaderboard_id = entry.leaderboard_id and o.generation = entry.generation and o.run_on = entry.run_on
      and o.group_id = entry.group_id and (-o.value, o.reached_id) > (-mark_value, mark_id) and -o.value < 0
    order by -o.value, o.reached_id
    offset steps - 1 limit 1;
  else
    select o.value, o.reached_id into value, reached_id
    from laurel.leaderboard_entries o
    where o.leaderboard_id = entry.leaderboard_id and o.generation = entry.generation and o.run_on = entry.run_on
      and o.group_id = entry.group_id and (-o.value, o.reached_id) <= (-mark_value, mark_id)
    order by -o.value desc, o.reached_id desc
    offset -steps limit 1;
  end if;
end
$$;

-- The same where entries hold for ever, as every event meets it; `entry` is what the snapshot has. Counted from the nearest
-- marks, and nothing when the entry is behind the last participant: most users of a full board are.
create function laurel_private.place_of(
  entry laurel.leaderboard_entries, max_participants int, as_of timestamptz,
  out rank int, out previous_rank int, out threshold numeric
) language plpgsql stable as $$
#variable_conflict use_variable
declare
  marks laurel_private.counted_marks;
  last_id uuid;
  is_off boolean;
  passed int;
  passed_before int;
  better int;
begin
  if as_of is not null then
    select p.rank, p.previous_rank, p.threshold into rank, previous_rank, threshold
    from laurel_private.place_of_streak(entry, max_participants, as_of) p;
    return;
  end if;
  select l.value, l.reached_id into threshold, last_id from laurel_private.last_participant(entry, max_participants) l;
  if found then
    if laurel_private.is_behind(entry, threshold, last_id) then
      return;
    end if;
    marks := laurel_private.marks_for(entry);
  else
    marks := laurel_private.marks_for(entry);
    select l.value, l.reached_id into threshold, last_id from laurel_private.participant_at(entry, marks, max_participants) l;
  end if;
  is_off := coalesce(entry.value < threshold or entry.value = threshold and entry.reached_id > last_id, false);
  threshold := coalesce(threshold, 0);
  if is_off and (entry.previous_value is null or entry.previous_value < entry.value) then
    return;
  end if;
  passed := laurel_private.marks_passed(marks.mark_values, marks.mark_ids, entry.value, entry.reached_id);
  if not is_off and entry.value > 0 and entry.group_id is not null then
    better := laurel_private.count_better(entry, marks, passed, passed, entry.value, entry.reached_id, max_participants);
    if better < max_participants then
      rank := better + 1;
    end if;
  end if;
  if entry.previous_value > 0 then
    passed_before := laurel_private.marks_passed(marks.mark_values, marks.mark_ids, entry.previous_value, entry.previous_reached_id);
    if better is not null and entry.previous_value < entry.value and passed_before = passed then
      better := better + laurel_private.count_between(entry, entry.value, entry.reached_id, entry.previous_value,
        entry.previous_reached_id, max_participants);
    else
      better := laurel_private.count_better(entry, marks, passed_before, passed, entry.previous_value, entry.previous_reached_id,
        max_participants);
    end if;
    if better < max_participants then
      previous_rank := better + 1;
    end if;
  end if;
end
$$;

comment on function laurel_private.place_of(laurel.leaderboard_entries, int, timestamptz) is
  'At a moment, null where entries hold for ever: rank, rank before the last change (each null when off the board), and the value of the last participant, 0 while there is room. Looks at few entries where there are marks, at max_participants at a time without, and no further.';

-- What an event did on the leaderboards it changed, by key, as the inside of a JSON object: those whose
-- entry of its run was reached with the event or one of its awards. `written` are entries just written, as far as known.
create function laurel_private.leaderboards_response(
  tenant_id uuid, user_id text, time_zone text, boards laurel_private.leaderboard_rule[], snapshots jsonb,
  occurred_at timestamptz, event_id uuid, awards laurel.points_awards[], written laurel_private.written_entry[] default '{}'
) returns text language plpgsql stable as $$
#variable_conflict use_column
declare
  response text;
  no int := 1;
  board laurel_private.leaderboard_rule;
  entry laurel.leaderboard_entries;
  place record;
  threshold numeric;
  current_run laurel_private.leaderboard_run;
begin
  foreach board in array boards loop
    -- What was just written need not be read again; it is in the order of boards.
    if ((written[no]).entry).leaderboard_id = board.leaderboard_id then
      entry := (written[no]).entry;
      current_run := (entry.run_on, (written[no]).last_day)::laurel_private.leaderboard_run;
      threshold := (written[no]).threshold;
      no := no + 1;
    else
      threshold := null;
      current_run := laurel_private.run_at(board, (occurred_at at time zone time_zone)::date);
      select e.* into entry from laurel.leaderboard_entries e
      where e.tenant_id = leaderboards_response.tenant_id and e.user_id = leaderboards_response.user_id
        and e.leaderboard_id = board.leaderboard_id and e.generation = board.generation and e.run_on = current_run.run_on;
      continue when not found or entry.reached_id <> leaderboards_response.event_id
        and not exists (select from unnest(awards) a where a.id = entry.reached_id);
    end if;
    response := concat(response, case when response is not null then ',' end, snapshots ->> board.leaderboard_id::text,
      ',"start":"', current_run.run_on, '","end":', coalesce('"' || current_run.last_day || '"', 'null'));
    if threshold is not null then
      response := concat(response, ',"rank":null,"previousRank":null,"threshold":', floor(threshold));
    else
      place := laurel_private.place_of(entry, board.max_participants,
        case when board.rank_by = 'streak' then clock_timestamp() end);
      response := concat(response, ',"rank":', coalesce(place.rank::text, 'null'),
        ',"previousRank":', coalesce(place.previous_rank::text, 'null'), ',"threshold":', floor(place.threshold));
    end if;
    -- Apart: an expression with a query in it is a statement, four times as dear.
    if board.breakdown_attributes <> '{}' then
      response := concat(response, ',"breakdownAttributeValues":', (
          select coalesce(json_agg(json_build_object('key', a.key, 'value', entry.breakdown ->> a.key)), '[]')
          from unnest(board.breakdown_attributes) a (key) where entry.breakdown ? a.key),
        case when cardinality(board.breakdown_attributes) = 1 and entry.breakdown <> '{}' then
          ',"breakdownAttributeValue":' || to_json(entry.breakdown ->> board.breakdown_attributes[1]) end);
    end if;
    response := response || '}';
  end loop;
  return response;
end
$$;
--! EndIncluded leaderboards/rank_users.sql
--! Included streaks/extend_streaks.sql
-- The streak step of the flow, for any number of users: load, decide, apply. The callers hold the users' locks.

-- The state a user has, or the one it starts with.
create function laurel_private.streak_state(tenant_id uuid, user_id text, rule laurel_private.streak_rule, as_of timestamptz)
  returns laurel_private.user_streaks language plpgsql stable as $$
declare
  state laurel_private.user_streaks;
begin
  select s.* into state from laurel_private.user_streaks s
  where s.tenant_id = streak_state.tenant_id and s.user_id = streak_state.user_id;
  if state.user_id is null then
    select (laurel_private.new_streak_state(u, rule, u.created_at)).* into state from laurel.users u
    where u.tenant_id = streak_state.tenant_id and u.id = streak_state.user_id;
  end if;
  -- Freezes are earned from the first day of the user on.
  if rule.earn_interval is not null and state.earned_on is null then
    state.earned_on := (select (u.created_at at time zone coalesce(u.tz, 'UTC'))::date from laurel.users u
      where u.tenant_id = streak_state.tenant_id and u.id = streak_state.user_id);
  end if;
  return state;
end
$$;

create function laurel_private.streak_pauses_of(tenant_id uuid, user_id text)
  returns datemultirange language sql stable as $$
  select coalesce(range_agg(daterange(p.starts_on, p.ends_on, '[]')), '{}')
  from laurel_private.streak_pauses p
  where p.tenant_id = streak_pauses_of.tenant_id and p.user_id = streak_pauses_of.user_id and p.archived_at is null
$$;

-- Loads one user's streak and decides. A state of another frequency is built anew from the event log: streaks are
-- there for every frequency at any time, as in the reference, without keeping three of each.
create function laurel_private.decide_user_streak(
  settings laurel_private.streak_settings, for_user laurel_private.user_states, metric_ids uuid[],
  occasions laurel_private.occasion[], as_of timestamptz
) returns laurel_private.streak_effects language plpgsql stable as $$
#variable_conflict use_variable
declare
  rule laurel_private.streak_rule := laurel_private.streak_rule_for(settings, for_user.streak_preferences);
  met record;
  state laurel_private.user_streaks;
  pauses datemultirange := '{}';
  runs laurel_private.streak_runs[] := '{}';
  known laurel_private.streak_periods[] := '{}';
  progress laurel_private.streak_progress[] := '{}';
  effects laurel_private.streak_effects;
  periods date[];
  earliest date;
begin
  -- At once, as every statement costs more than what it finds; what most users do not have is looked for, and read apart.
  select u as state, r.run, exists (
      select from laurel_private.streak_pauses p
      where p.tenant_id = for_user.tenant_id and p.user_id = for_user.user_id and p.archived_at is null) as has_pauses
  into met
  from (select) one
  left join laurel_private.user_streaks u on u.tenant_id = for_user.tenant_id and u.user_id = for_user.user_id
  left join lateral (
    select r from laurel_private.streak_runs r
    where r.tenant_id = for_user.tenant_id and r.user_id = for_user.user_id and r.frequency = rule.frequency
    order by r.first_period desc limit 1) r (run) on true;
  state := met.state;
  if state.user_id is null or rule.earn_interval is not null then
    state := laurel_private.streak_state(for_user.tenant_id, for_user.user_id, rule, as_of);
  end if;
  if met.has_pauses then
    pauses := laurel_private.streak_pauses_of(for_user.tenant_id, for_user.user_id);
  end if;
  if (met.run).user_id is not null then
    runs := array[met.run];
  end if;
  if state.frequency <> rule.frequency then
    -- What the event log holds already includes these occasions.
    return laurel_private.rebuild_streak(rule, for_user, pauses, state, occasions, as_of);
  end if;
  -- Of one event without a query: each is a statement.
  if cardinality(occasions) = 1 and occasions[1].cause = 'metric' then
    earliest := laurel_private.streak_period(
      (least(occasions[1].occurred_at, as_of) at time zone for_user.time_zone)::date, rule.frequency);
    periods := array[earliest];
  else
    periods := array(
      select distinct laurel_private.streak_period(
        (least(o.occurred_at, as_of) at time zone for_user.time_zone)::date, rule.frequency)
      from unnest(occasions) o where o.cause = 'metric');
    earliest := (select min(p) from unnest(periods) p);
  end if;
  if cardinality(runs) > 0 and earliest <= runs[1].through_period then
    if earliest < runs[1].first_period then
      runs := array(
        select r from laurel_private.streak_runs r
        where r.tenant_id = for_user.tenant_id and r.user_id = for_user.user_id and r.frequency = rule.frequency
        order by r.first_period);
    end if;
    known := array(
      select p from unnest(periods) t (period_start)
      join laurel_private.streak_periods p on p.tenant_id = for_user.tenant_id and p.user_id = for_user.user_id
        and p.frequency = rule.frequency and p.period_start = t.period_start);
  end if;
  if rule.metric_ids <> '{}' and periods <> '{}' then
    progress := array(
      select g from laurel_private.streak_progress g
      where g.tenant_id = for_user.tenant_id and g.user_id = for_user.user_id
        and g.frequency = rule.frequency and g.period_start = any (periods));
  end if;
  return laurel_private.decide_streak(rule, for_user.time_zone, pauses, as_of, metric_ids, occasions, state, runs, known, progress);
end
$$;

-- All of a user's events, judged in the order they happened by the rule of now. Freezes stay what they are; what was
-- lived through at another frequency fires nothing, except for what these occasions do.
create function laurel_private.rebuild_streak(
  rule laurel_private.streak_rule, for_user laurel_private.user_states, pauses datemultirange,
  state laurel_private.user_streaks, occasions laurel_private.occasion[], as_of timestamptz
) returns laurel_private.streak_effects language plpgsql stable as $$
#variable_conflict use_variable
declare
  metric_ids uuid[];
  history laurel_private.occasion[];
  effects laurel_private.streak_effects;
  new_events uuid[] := array(select o.event_id from unnest(occasions) o where o.cause = 'metric');
begin
  metric_ids := array(select distinct e.metric_id from laurel.metric_events e
    where e.tenant_id = for_user.tenant_id and e.user_id = for_user.user_id order by 1);
  history := array(
    select ('metric', e.id, array_position(metric_ids, e.metric_id), e.value, e.attributes, e.occurred_at, null, null, null)::laurel_private.occasion
    from laurel.metric_events e
    where e.tenant_id = for_user.tenant_id and e.user_id = for_user.user_id
    -- What just happened comes last, in its own order.
    order by array_position(new_events, e.id) nulls first, e.occurred_at, e.id);
  state.frequency := rule.frequency;
  state.longest := 0;
  state.length := 0;
  state.extended_at := null;
  state.settled_on := greatest(state.settled_on, (as_of at time zone for_user.time_zone)::date);
  effects := laurel_private.decide_streak(rule, for_user.time_zone, pauses, as_of, metric_ids, history, state, '{}', '{}', '{}');
  effects.is_rebuilt := true;
  effects.freezes := '{}';
  effects.outcomes := array(
    select (o.kind, o.length, o.count, o.freezes, array_position(array(select x.event_id from unnest(occasions) x), history[o.occasion_no].event_id))::laurel_private.streak_outcome
    from unnest(effects.outcomes) o where history[o.occasion_no].event_id = any (new_events));
  if effects.steps is not null then
    effects.steps := (
      select array_agg((select s from unnest(effects.steps) with ordinality as s (length, joined, extends, no)
        where history[s.no].event_id = o.event_id and s.length is not null limit 1) order by o.no)
      from unnest(occasions) with ordinality as o (cause, event_id, metric_no, value, attributes, occurred_at, reason, idempotency_key, achievement_id, no));
  end if;
  return effects;
end
$$;

-- Writes what was decided, for any number of users, one probe a user as write_states() does; but not their answers.
create function laurel_private.write_streaks(
  effects laurel_private.streak_effects[],
  -- Leaderboards that may rank streaks, as compiled rules have them; looked up when null.
  boards laurel_private.leaderboard_rule[] default null
) returns void language plpgsql volatile
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  one laurel_private.streak_effects := effects[1];
  -- What somebody has that most have not.
  has_more boolean := cardinality(effects) > 1 or one.is_rebuilt or one.removed <> '{}' or one.freezes <> '{}' or one.done <> '{}'
    or one.progress <> '{}';
  has record;
  state laurel_private.user_streaks;
  run laurel_private.streak_runs;
  period laurel_private.streak_periods;
  is_written boolean := false;
  board laurel_private.leaderboard_rule;
begin
  if has_more then
    select bool_or(e.is_rebuilt) as rebuilt, bool_or(e.removed <> '{}') as removed, bool_or(e.freezes <> '{}') as freezes,
      bool_or(e.done <> '{}') as done, bool_or(e.progress <> '{}') as progress
    into has from unnest(effects) e;
    if has.rebuilt then
      delete from laurel_private.streak_periods p using unnest(effects) e
      where e.is_rebuilt and p.tenant_id = (e.state).tenant_id and p.user_id = e.user_id and p.frequency = (e.state).frequency;
      delete from laurel_private.streak_runs r using unnest(effects) e
      where e.is_rebuilt and r.tenant_id = (e.state).tenant_id and r.user_id = e.user_id and r.frequency = (e.state).frequency;
      delete from laurel_private.streak_progress g using unnest(effects) e
      where e.is_rebuilt and g.tenant_id = (e.state).tenant_id and g.user_id = e.user_id and g.frequency = (e.state).frequency;
    end if;
    if has.removed then
      delete from laurel_private.streak_runs r
      using unnest(effects) e cross join lateral unnest(e.removed) d (first_period)
      where r.tenant_id = (e.state).tenant_id and r.user_id = e.user_id
        and r.frequency = (e.state).frequency and r.first_period = d.first_period;
    end if;
  end if;
  -- Most streaks go on by one period: three rows, two of them there, at half the cost of what writes any number.
  if not has_more then
    if cardinality(one.runs) = 1 and cardinality(one.periods) = 1 and one.steps[1].joined <> '{}' then
      state := one.state;
      run := one.runs[1];
      period := one.periods[1];
      with moved_state as (
        update laurel_private.user_streaks u
        set frequency = state.frequency, length = state.length, longest = state.longest, extended_at = state.extended_at,
          freezes = state.freezes, earned_on = state.earned_on, settled_on = state.settled_on, due_at = state.due_at
        where u.tenant_id = state.tenant_id and u.user_id = state.user_id
        returning 1
      ),
      moved_run as (
        update laurel_private.streak_runs r
        set last_period = run.last_period, through_period = run.through_period, length = run.length,
          is_over = run.is_over, is_closed = run.is_closed, extended_at = run.extended_at
        where r.tenant_id = run.tenant_id and r.user_id = run.user_id and r.frequency = run.frequency and r.first_period = run.first_period
        returning 1
      )
      insert into laurel_private.streak_periods as p
      select period.tenant_id, period.user_id, period.frequency, period.period_start, period.kind, period.event_id,
        period.occurred_at, period.reset_at
      from moved_state cross join moved_run
      on conflict on constraint streak_periods_are_judged_once do update
      set kind = excluded.kind, event_id = excluded.event_id, occurred_at = excluded.occurred_at
      where p.kind <> 'satisfied';
      is_written := found;
    end if;
  end if;
  if not is_written then
    with state as (
      insert into laurel_private.user_streaks as u
      select (e.state).* from unnest(effects) e
      on conflict on constraint user_streaks_are_one_per_user do update
      set frequency = excluded.frequency, length = excluded.length, longest = excluded.longest, extended_at = excluded.extended_at,
        freezes = excluded.freezes, earned_on = excluded.earned_on, settled_on = excluded.settled_on, due_at = excluded.due_at
    ),
    run as (
      insert into laurel_private.streak_runs as r
      select x.* from unnest(effects) e cross join lateral unnest(e.runs) x
      on conflict on constraint streak_runs_are_known_by_their_start do update
      set last_period = excluded.last_period, through_period = excluded.through_period, length = excluded.length,
        is_over = excluded.is_over, is_closed = excluded.is_closed, extended_at = excluded.extended_at
    )
    -- A period may have been bridged and then satisfied.
    insert into laurel_private.streak_periods as p
    select distinct on (x.tenant_id, x.user_id, x.period_start) x.*
    from unnest(effects) e cross join lateral unnest(e.periods) x
    order by x.tenant_id, x.user_id, x.period_start, x.kind
    on conflict on constraint streak_periods_are_judged_once do update
    set kind = excluded.kind, event_id = excluded.event_id, occurred_at = excluded.occurred_at
    where p.kind <> 'satisfied';
  end if;
  if has_more then
    if has.freezes then
      insert into laurel_private.streak_freezes
      select x.* from unnest(effects) e cross join lateral unnest(e.freezes) x;
    end if;
    if has.done then
      delete from laurel_private.streak_progress g
      using unnest(effects) e cross join lateral unnest(e.done) d (period_start)
      where g.tenant_id = (e.state).tenant_id and g.user_id = e.user_id
        and g.frequency = (e.state).frequency and g.period_start = d.period_start;
    end if;
    if has.progress then
      insert into laurel_private.streak_progress as g
      select x.* from unnest(effects) e cross join lateral unnest(e.progress) x
      on conflict on constraint streak_progress_is_one_per_metric do update set total = excluded.total;
    end if;
  end if;
  if boards is null then
    boards := laurel_private.streak_leaderboards((effects[1].state).tenant_id);
  end if;
  foreach board in array boards loop
    if board.rank_by = 'streak' then
      perform laurel_private.rank_streaks((effects[1].state).tenant_id, array(select e.user_id from unnest(effects) e), effects);
      exit;
    end if;
  end loop;
end
$$;

comment on function laurel_private.write_streaks(laurel_private.streak_effects[], laurel_private.leaderboard_rule[]) is
  'Stores decided streaks, and moves their entries on leaderboards; keep_streak_answers() is the callers''.';

-- The answers hold as long as the settings, or not at all.
create function laurel_private.keep_streak_answers(effects laurel_private.streak_effects[], they_hold boolean default true)
  returns void language sql volatile
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
  update laurel_private.user_states s
  set streak_answer = e.answer, streak_valid_from = e.valid_from, streak_valid_until = e.valid_until,
    streak_is_satisfied = e.is_satisfied, streak_version = case when they_hold then e.version end
  from unnest(effects) e
  where s.tenant_id = (e.state).tenant_id and s.user_id = e.user_id
$$;

create function laurel_private.extend_streaks(
  tenant_id uuid, metric_ids uuid[], work laurel_private.user_occasions[], as_of timestamptz
) returns laurel_private.streak_effects[] language plpgsql volatile as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  effects laurel_private.streak_effects[];
  written laurel_private.streak_effects[];
begin
  select s.* into settings from laurel_private.streak_settings s where s.tenant_id = tenant_id;
  effects := array(
    -- Who has satisfied the period keeps the streak as it is, whatever else happens in it.
    select case when exists (
        select from unnest(o.occasions) x
        where x.cause = 'metric'
          and (s.streak_version = settings.version and s.streak_is_satisfied
            and as_of >= s.streak_valid_from and as_of < s.streak_valid_until
            and x.occurred_at >= s.streak_valid_from and x.occurred_at < s.streak_valid_until) is not true)
      then laurel_private.decide_user_streak(settings, s, metric_ids, o.occasions, as_of) end
    from unnest(work) with ordinality as o (user_id, occasions, no)
    cross join lateral (
      select s.* from laurel_private.user_states s
      where s.tenant_id = tenant_id and s.user_id = o.user_id
      offset 0) s
    order by o.no);
  if cardinality(effects) = 1 and (effects[1]).user_id is not null then
    written := effects;
  else
    written := array(select e from unnest(effects) e where e.user_id is not null);
  end if;
  if cardinality(written) > 0 then
    perform laurel_private.write_streaks(written);
    perform laurel_private.keep_streak_answers(written);
  end if;
  return effects;
end
$$;

comment on function laurel_private.extend_streaks(uuid, uuid[], laurel_private.user_occasions[], timestamptz) is
  'What events do to the streaks of locked users, by user in the order given; null for those whose streak stays as it is. Rules S1, S2, E8.';

-- The same for one event of one user, whose answer goes into the caller's own writing of the user's state.
create function laurel_private.extend_streak(
  for_user laurel_private.user_states, metric_id uuid, event laurel_private.occasion, boards laurel_private.leaderboard_rule[],
  as_of timestamptz
) returns laurel_private.streak_effects language plpgsql volatile as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  effects laurel_private.streak_effects;
begin
  select s.* into settings from laurel_private.streak_settings s where s.tenant_id = for_user.tenant_id;
  effects := laurel_private.decide_user_streak(settings, for_user, array[metric_id], array[event], as_of);
  if laurel_private.write_streaks(array[effects], boards) is null then null; end if;
  return effects;
end
$$;

comment on function laurel_private.extend_streak(laurel_private.user_states, uuid, laurel_private.occasion, laurel_private.leaderboard_rule[],
  timestamptz) is
  'What an event does to the streak of its locked user, given as it is now; keep_streak_answers() is the caller''s. Rules S1, S2, E8.';
--! EndIncluded streaks/extend_streaks.sql
--! Included streaks/upkeep_streaks.sql
-- Upkeep: makes durable what time did to streaks, and tells it. Readers do not need it (S3); webhooks, rankings and the
-- dashboard's counts do. Any moment, any order of calls and any number of workers are safe: settling is a function of
-- the state, under the user's lock.

-- Settles users whose states the caller has locked; no events.
create function laurel_private.settle_users(tenant_id uuid, user_ids text[], as_of timestamptz)
  returns laurel_private.streak_effects[] language plpgsql volatile as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  effects laurel_private.streak_effects[];
begin
  select s.* into settings from laurel_private.streak_settings s where s.tenant_id = tenant_id;
  effects := array(
    select laurel_private.decide_user_streak(settings, s, '{}', '{}', as_of)
    from unnest(user_ids) q (id)
    cross join lateral (
      select s.* from laurel_private.user_states s
      where s.tenant_id = tenant_id and s.user_id = q.id
      offset 0) s);
  if effects <> '{}' then
    perform laurel_private.write_streaks(effects);
    -- The kept answers are of another moment.
    perform laurel_private.keep_streak_answers(effects, false);
  end if;
  if exists (select from unnest(effects) e where e.outcomes <> '{}') then
    perform laurel_private.announce_streaks(tenant_id, laurel_private.wanted_webhooks(tenant_id), effects);
  end if;
  return effects;
end
$$;

-- Settles the next users, at most so many, for whom something is due; one row each, with what is to be told.
-- None when nothing is due. Also revisits everybody after a change of settings, of one tenant or (null) of all.
create function laurel_private.upkeep_streaks(as_of timestamptz default now(), most int default 500, for_tenant uuid default null)
  returns table (tenant_id uuid, user_id text, outcomes laurel_private.streak_outcome[]) language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_column
declare
  tenant uuid;
  user_ids text[];
  settings laurel_private.streak_settings;
  effects laurel_private.streak_effects[];
begin
  select s.* into settings from laurel_private.streak_settings s
  where s.revisit_after_user_id is not null and (for_tenant is null or s.tenant_id = for_tenant)
  limit 1 for update skip locked;
  if found then
    tenant := settings.tenant_id;
    user_ids := array(
      select u.user_id from laurel_private.user_streaks u
      where u.tenant_id = tenant and u.user_id > settings.revisit_after_user_id
      order by u.user_id limit greatest(most, 1));
    update laurel_private.streak_settings s set revisit_after_user_id = user_ids[cardinality(user_ids)]
    where s.tenant_id = tenant;
  end if;
  if coalesce(cardinality(user_ids), 0) = 0 then
    select u.tenant_id into tenant from laurel_private.user_streaks u
    where u.due_at <= as_of and (for_tenant is null or u.tenant_id = for_tenant) order by u.due_at limit 1;
    user_ids := array(
      select d.user_id from (
        select u.user_id from laurel_private.user_streaks u
        where u.due_at <= as_of and u.tenant_id = tenant order by u.due_at limit greatest(most, 1)) d
      order by d.user_id);
  end if;
  -- In key order, as everybody locks; then decided by what the last holder committed.
  perform from unnest(user_ids) q (id)
  cross join lateral (
    select from laurel_private.user_states s
    where s.tenant_id = tenant and s.user_id = q.id
    for no key update) locked;
  effects := laurel_private.settle_users(tenant, user_ids, as_of);
  return query select (e.state).tenant_id, e.user_id, e.outcomes from unnest(effects) e;
end
$$;

comment on function laurel_private.upkeep_streaks(timestamptz, int, uuid) is
  'Settles the next users whose streak ends a period, at most so many: freezes used and earned, streaks lost. One row per user settled, with what happened; none when nothing is due. Safe to repeat, in any order. Rule S3.';
--! EndIncluded streaks/upkeep_streaks.sql
--! Included metrics/check_event.sql
-- What an event must be before it is recorded (E2, E8, U4), whichever way it comes in.

-- Whether an event is plainly fine, in one expression that is inlined where it is used. What it is
-- not sure of goes to check_event(), which knows all the rules and says what is wrong.
create function laurel_private.is_plain_content(event_attribute_keys text[], value numeric, attributes jsonb)
  returns boolean language sql stable parallel safe
  return abs(value) < 1e15 and scale(value) <= 9
    and (attributes = '{}' or attributes @> '{}' and attributes - event_attribute_keys = '{}'
      and pg_column_size(attributes) < 1000
      and not jsonb_path_exists(attributes, 'strict $.* ? (@.type() <> "string")'));

create function laurel_private.is_plain_event(
  event_attribute_keys text[], value numeric, attributes jsonb, idempotency_key text, occurred_at timestamptz
) returns boolean language sql stable parallel safe
  return laurel_private.is_plain_content(event_attribute_keys, value, attributes)
    and (idempotency_key is null or length(idempotency_key) between 1 and 255)
    and occurred_at > '-infinity' and occurred_at <= now() + interval '24 hours';

create function laurel_private.check_event(
  tenant_id uuid, metric_id uuid, metric_key text, value numeric, attributes jsonb,
  idempotency_key text, occurred_at timestamptz
) returns void language plpgsql stable as $$
#variable_conflict use_column
begin
  if not exists (
    select from laurel_private.points_rules r
    where r.tenant_id = check_event.tenant_id and r.metric_id = check_event.metric_id
      and r.metric_key = check_event.metric_key) then
    perform laurel_private.fail('LR003', 'metric_key', left(coalesce(metric_key, 'null'), 255));
  elsif value is null or not (value > -1e15 and value < 1e15) then
    perform laurel_private.fail('LR011', 'value', case
      when value is null then 'it is missing'
      when value::text in ('NaN', 'Infinity', '-Infinity') then 'it is not a finite number'
      else 'it has more than 15 digits before the point' end);
  elsif scale(trim_scale(value)) > 9 then
    perform laurel_private.fail('LR011', 'value', 'it has more than 9 digits after the point');
  elsif length(idempotency_key) not between 1 and 255 then
    perform laurel_private.fail('LR014', 'idempotency_key',
      case when idempotency_key = '' then 'it is empty' else 'it has more than 255 characters' end);
  elsif not isfinite(occurred_at) or occurred_at > clock_timestamp() + interval '24 hours' then
    perform laurel_private.fail('LR015', 'occurred_at', case when not isfinite(occurred_at) then 'it is infinite'
      else 'it lies more than 24 hours in the future' end);
  end if;
  perform laurel_private.check_attributes(tenant_id, 'event', attributes, false);
end
$$;

comment on function laurel_private.check_event(uuid, uuid, text, numeric, jsonb, text, timestamptz) is
  'Raises LR003 or LR011 to LR015 when an event breaks rules E2, E8 or U4.';
--! EndIncluded metrics/check_event.sql
--! Included points/run_due_time_triggers.sql
-- Applying ticks (TR5, Q4): due ticks are occasions of their users, decided and written as events
-- are. What is due stands in user_clocks; whoever holds the user's lock applies it, so that any number
-- of workers, crashes and pauses give the same result.

-- The rules that ticks are decided by: one trigger rule per span, numbered as given (in metric_no, which nothing else uses
-- here), with its system and the boosts there are.
create function laurel_private.time_rules(tenant_id uuid, span_ids uuid[])
  returns laurel_private.combined_rules language sql stable as $$
  with span as (
    select p, s, p.no, dense_rank() over (order by s.id)::int as system_no
    from (
      select p.*, n.no::int from unnest(span_ids) with ordinality as n (id, no)
      join laurel_private.time_trigger_spans p on p.id = n.id) p
    join laurel.points_systems s on s.id = p.system_id
  ),
  system as (
    select distinct on (system_no) system_no, s from span order by system_no
  ),
  boost as (
    select system.system_no, b
    from system
    join laurel.points_boosts b on b.tenant_id = time_rules.tenant_id and b.system_id = (system.s).id
      and b.is_active and b.archived_at is null
  )
  select
    array(
      select ((p).trigger_id, 'time', system_no, (s).id, (s).key::text, (s).max_points, (p).points, null, no, null, null,
        nullif((p).user_attributes, '{}'), null,
        -- There is no event that it could block: a deduction stops at 0.
        false, 1)::laurel_private.trigger_rule
      from span order by no),
    array(
      select ((s).id, (s).key::text, (s).max_points, array(
        select l.points::bigint from laurel.points_levels l
        where l.tenant_id = time_rules.tenant_id and l.system_id = (s).id order by l.points))::laurel_private.system_rule
      from system order by system_no),
    array(
      select (system_no, (b).starts_on, (b).ends_on, (b).multiplier, (b).rounding,
        nullif((b).user_attributes::jsonb, '{}'), laurel_private.boost_as_json(b))::laurel_private.boost_rule
      from boost where (b).user_id is null order by system_no, (b).id),
    '{}'::laurel_private.achievement_rule[],
    exists (select from boost where (b).user_id is not null),
    false,
    false,
    laurel_private.wanted_webhooks(time_rules.tenant_id)
$$;

-- A clock that takes part: one that is due, or one that rests and starts again with the first of them.
create type laurel_private.ticking_clock as (
  user_id text, trigger_id uuid, activated_at timestamptz, system_id uuid, time_unit laurel.time_unit, time_interval int,
  ends_at timestamptz, time_zone text, started_at timestamptz, last_tick bigint, rests boolean
);

create type laurel_private.due_tick as (user_id text, trigger_id uuid, activated_at timestamptz, tick bigint, due_at timestamptz, span_no int);

-- Clocks of these users that are due, and those that rest beside them in the same system: the first
-- due tick may move the total that they rest at, so that they start again with what is due after it.
create function laurel_private.ticking_clocks(tenant_id uuid, user_ids text[], span_ids uuid[], as_of timestamptz)
  returns laurel_private.ticking_clock[] language plpgsql stable as $$
#variable_conflict use_variable
begin
  return array(
    with activation as materialized (
      select p.trigger_id, p.activated_at, p.system_id, p.time_unit, p.time_interval,
        case when bool_or(p.ends_at is null) then 'infinity' else max(p.ends_at) end as ends_at,
        max(p.applied_until) as applied_until,
        (array_agg(p.user_attributes) filter (where p.ends_at is null))[1] as user_attributes
      from unnest(span_ids) n (id)
      join laurel_private.time_trigger_spans p on p.id = n.id and p.tenant_id = tenant_id
      group by 1, 2, 3, 4, 5
    ),
    due as materialized (
      select c.user_id, a.trigger_id, a.activated_at, a.system_id, a.time_unit, a.time_interval, a.ends_at,
        s.time_zone, c.started_at, c.last_tick, false as rests, s.attributes,
        laurel_private.tick_due_at(c.started_at, a.time_unit, a.time_interval, s.time_zone, c.last_tick + 1) as due_at
      from unnest(user_ids) q (id)
      cross join lateral (
        select c.* from laurel_private.user_clocks c
        where c.tenant_id = tenant_id and c.user_id = q.id and c.next_due_at <= as_of
        offset 0) c
      cross join lateral (
        select s.time_zone, s.attributes from laurel_private.user_states s
        where s.tenant_id = tenant_id and s.user_id = q.id
        offset 0) s
      join activation a on a.trigger_id = c.trigger_id and a.activated_at = c.activated_at
    ),
    first as (
      select d.user_id, d.system_id, d.time_zone, d.attributes, min(d.due_at) as due_at
      from due d where d.due_at <= as_of and d.due_at < d.ends_at
      group by 1, 2, 3, 4
    ),
    resting as (
      select f.user_id, a.trigger_id, a.activated_at, a.system_id, a.time_unit, a.time_interval, a.ends_at,
        f.time_zone, r.started_at,
        greatest(c.last_tick, laurel_private.ticks_due_by(r.started_at, a.time_unit, a.time_interval, f.time_zone,
          greatest(f.due_at, a.applied_until))) as last_tick,
        true as rests
      from first f
      join activation a on a.system_id = f.system_id and f.attributes @> a.user_attributes
      cross join lateral (
        select u.created_at from laurel.users u where u.tenant_id = tenant_id and u.id = f.user_id offset 0) u
      cross join lateral (select greatest(a.activated_at, u.created_at)) r (started_at)
      left join lateral (
        select c.last_tick, c.next_due_at from laurel_private.user_clocks c
        where c.tenant_id = tenant_id and c.user_id = f.user_id
          and c.trigger_id = a.trigger_id and c.activated_at = a.activated_at
        offset 0) c on true
      where c.next_due_at is null
    )
    select (x.user_id, x.trigger_id, x.activated_at, x.system_id, x.time_unit, x.time_interval, x.ends_at, x.time_zone,
      x.started_at, x.last_tick, x.rests)::laurel_private.ticking_clock
    from (
      select d.user_id, d.trigger_id, d.activated_at, d.system_id, d.time_unit, d.time_interval, d.ends_at, d.time_zone,
        d.started_at, d.last_tick, d.rests from due d
      union all
      select r.user_id, r.trigger_id, r.activated_at, r.system_id, r.time_unit, r.time_interval, r.ends_at, r.time_zone,
        r.started_at, r.last_tick, r.rests from resting r) x);
end
$$;

-- Applies ticks of these users, at most so many, in the order in which they fell due. The caller holds the users' locks,
-- and has locked the spans against changes. Returns how many ticks it applied.
create function laurel_private.apply_due_ticks(
  tenant_id uuid, user_ids text[], span_ids uuid[], as_of timestamptz, most int
) returns int language plpgsql volatile as $$
#variable_conflict use_variable
declare
  clocks laurel_private.ticking_clock[] := laurel_private.ticking_clocks(tenant_id, user_ids, span_ids, as_of);
  ticks laurel_private.due_tick[];
begin
  ticks := array(
    select (c.user_id, c.trigger_id, c.activated_at, k.tick, d.due_at, p.no)::laurel_private.due_tick
    from unnest(clocks) c
    cross join lateral generate_series(c.last_tick + 1, least(c.last_tick + most,
      laurel_private.ticks_due_by(c.started_at, c.time_unit, c.time_interval, c.time_zone, as_of))) k (tick)
    cross join lateral (
      select laurel_private.tick_due_at(c.started_at, c.time_unit, c.time_interval, c.time_zone, k.tick)) d (due_at)
    join (
      select p.*, n.no from unnest(span_ids) with ordinality as n (id, no)
      join laurel_private.time_trigger_spans p on p.id = n.id) p
      on p.trigger_id = c.trigger_id and p.activated_at = c.activated_at
      and p.begins_at <= d.due_at and d.due_at < coalesce(p.ends_at, 'infinity')
    order by c.user_id, d.due_at, c.trigger_id, c.activated_at, k.tick
    limit most);

  if ticks <> '{}' then
    perform laurel_private.apply_occasions(tenant_id, '{}', array(
      select (t.user_id, array_agg(
        ('time', null, t.span_no, t.tick, null, t.due_at, null, null, null)::laurel_private.occasion
        order by t.no))::laurel_private.user_occasions
      from unnest(ticks) with ordinality as t (user_id, trigger_id, activated_at, tick, due_at, span_no, no)
      group by t.user_id order by t.user_id),
      ticking => laurel_private.time_rules(tenant_id, span_ids));
  end if;

  -- Where each clock stands now; one that can change nothing any more rests.
  insert into laurel_private.user_clocks as c (tenant_id, user_id, trigger_id, activated_at, started_at, last_tick, next_due_at)
  select tenant_id, x.user_id, x.trigger_id, x.activated_at, x.started_at, x.last_tick, x.next_due_at
  from (
    select c.user_id, c.trigger_id, c.activated_at, c.started_at, l.tick as last_tick, c.rests and t.tick is null as is_untouched,
      case
        when n.due_at >= c.ends_at then null
        when n.due_at <= as_of or p.id is null then n.due_at
        when s.attributes @> p.user_attributes
          and laurel_private.can_change(p.points, coalesce(s.totals[array_position(s.system_ids, c.system_id)], 0), y.max_points)
          then n.due_at end as next_due_at
    from unnest(clocks) c
    left join (
      select t.user_id, t.trigger_id, t.activated_at, max(t.tick) as tick from unnest(ticks) t group by 1, 2, 3) t
      on t.user_id = c.user_id and t.trigger_id = c.trigger_id and t.activated_at = c.activated_at
    cross join lateral (select coalesce(t.tick, c.last_tick)) l (tick)
    cross join lateral (
      select laurel_private.tick_due_at(c.started_at, c.time_unit, c.time_interval, c.time_zone, l.tick + 1)) n (due_at)
    left join laurel_private.time_trigger_spans p on p.id = any (span_ids)
      and p.trigger_id = c.trigger_id and p.activated_at = c.activated_at and p.ends_at is null
    cross join lateral (
      select s.* from laurel_private.user_states s where s.tenant_id = tenant_id and s.user_id = c.user_id offset 0) s
    join laurel.points_systems y on y.id = c.system_id) x
  where not (x.is_untouched and x.next_due_at is null)
  order by x.user_id, x.trigger_id, x.activated_at
  on conflict on constraint clocks_are_one_per_user_and_activation do update
  set last_tick = excluded.last_tick, next_due_at = excluded.next_due_at;
  return cardinality(ticks);
end
$$;

comment on function laurel_private.apply_due_ticks(uuid, text[], uuid[], timestamptz, int) is
  'Applies due ticks of locked users, at most so many, in the order in which they fell due; returns how many. Rule TR5.';

-- Applies what is due for one user, who is locked: before its time zone or its attributes change, so that every tick
-- is judged by those of its moment.
create function laurel_private.settle_clocks(for_user laurel_private.locked_user)
  returns void language plpgsql volatile as $$
declare
  moment timestamptz := clock_timestamp();
  span_ids uuid[];
begin
  span_ids := array(
    select p.id from laurel_private.time_trigger_spans p
    where p.tenant_id = for_user.tenant_id and not p.is_over and p.looks = 0);
  if span_ids <> '{}' then
    -- Before the first clock is written: a look at all users, which holds its span, would wait for that.
    perform from laurel_private.time_trigger_spans p
    where p.tenant_id = for_user.tenant_id and not p.is_over order by p.id for share;
    perform laurel_private.start_clocks(for_user.tenant_id, array[for_user.id], span_ids, moment);
    -- Who has no clock now could gain nothing so far: the look, when it comes, does not start it with ticks from before the change.
    insert into laurel_private.user_clocks (tenant_id, user_id, trigger_id, activated_at, started_at, last_tick)
    select p.tenant_id, u.id, p.trigger_id, p.activated_at, b.started_at,
      laurel_private.ticks_due_by(b.started_at, p.time_unit, p.time_interval, for_user.time_zone, moment)
    from laurel.users u
    join laurel_private.time_trigger_spans p on p.id = any (span_ids)
    cross join lateral (select greatest(p.activated_at, u.created_at)) b (started_at)
    where u.tenant_id = for_user.tenant_id and u.id = for_user.id
    on conflict do nothing;
  end if;
  if not exists (
    select from laurel_private.user_clocks c
    where c.tenant_id = for_user.tenant_id and c.user_id = for_user.id and c.next_due_at <= moment)
  then
    return;
  end if;
  -- Two statements: what a change of the trigger that this waits for has added is seen by the second.
  perform from laurel_private.time_trigger_spans p
  where p.tenant_id = for_user.tenant_id and not p.is_over order by p.id for share;
  span_ids := array(
    select p.id from laurel_private.time_trigger_spans p where p.tenant_id = for_user.tenant_id and not p.is_over order by p.id);
  while laurel_private.apply_due_ticks(for_user.tenant_id, array[for_user.id], span_ids, moment, 1000) > 0 loop
  end loop;
end
$$;

-- After such a change: clocks that its filters let run again start, and those in days are looked at by the new zone.
create function laurel_private.readjust_clocks(for_user laurel_private.locked_user)
  returns void language plpgsql volatile as $$
declare
  span_ids uuid[] := array(
    select p.id from laurel_private.time_trigger_spans p where p.tenant_id = for_user.tenant_id and p.ends_at is null);
begin
  if span_ids = '{}' then
    return;
  end if;
  update laurel_private.user_clocks c
  set next_due_at = laurel_private.tick_due_at(c.started_at, p.time_unit, p.time_interval, for_user.time_zone, c.last_tick + 1)
  from laurel_private.time_trigger_spans p
  where c.tenant_id = for_user.tenant_id and c.user_id = for_user.id and c.next_due_at is not null
    and p.trigger_id = c.trigger_id and p.activated_at = c.activated_at and p.time_unit = 'days' and p.ends_at is null;
  perform laurel_private.start_clocks(for_user.tenant_id, array[for_user.id], span_ids, clock_timestamp());
end
$$;

-- Users of these activations who have due clocks and whom nobody holds, longest due first; locks
-- them. By the index of due times, however many are due.
create function laurel_private.claim_due_users(
  trigger_ids uuid[], activations timestamptz[], as_of timestamptz, most int, out tenant_ids uuid[], out user_ids text[]
) language plpgsql volatile
  set enable_sort = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set enable_bitmapscan = off
as $$
#variable_conflict use_variable
begin
  select array_agg(q.tenant_id), array_agg(q.user_id) into tenant_ids, user_ids
  from (
    select s.tenant_id, s.user_id
    from laurel_private.user_clocks c
    join laurel_private.user_states s on s.tenant_id = c.tenant_id and s.user_id = c.user_id
    where c.next_due_at <= as_of
      and exists (
        select from unnest(trigger_ids, activations) a (trigger_id, activated_at)
        where a.trigger_id = c.trigger_id and a.activated_at = c.activated_at)
    order by c.next_due_at
    limit most
    for no key update of s skip locked) q;
end
$$;

create function laurel.run_due_time_triggers(as_of timestamptz default now(), max_ticks int default null)
  returns bigint language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_variable
declare
  batch constant int := 1000;
  of_tenant uuid := case when not laurel_private.is_owner_calling() then laurel.current_tenant_id() end;
  is_ahead boolean := as_of > clock_timestamp();
  span_ids uuid[];
  trigger_ids uuid[];
  activations timestamptz[];
  latest laurel_private.user_clocks;
  claimed record;
  one_tenant uuid;
  most int;
  done int;
  applied bigint := 0;
  -- Whether this holds what the holder of a user may be waiting for, or what somebody else waits for whom the holder waits for.
  is_waited_for boolean := is_ahead;
  is_partial boolean := false;
begin
  if as_of = 'infinity' then
    perform laurel_private.fail('LR023', 'as_of', 'as_of is infinite');
  end if;
  if is_ahead then
    -- In their order, before a look takes one of them out of it.
    perform from laurel_private.time_trigger_spans p
    where not p.is_over and (of_tenant is null or p.tenant_id = of_tenant) order by p.id for no key update;
  end if;
  while laurel_private.look_for_clocks(of_tenant, batch) > 0 loop
    is_waited_for := true;
  end loop;

  -- Spans first: a trigger that is being edited or deactivated at this moment is left to the next call; whoever edits
  -- one later waits. Two runs ahead of time would both write the spans: the second waits.
  if is_ahead then
    span_ids := array(
      select p.id from laurel_private.time_trigger_spans p
      where not p.is_over and (of_tenant is null or p.tenant_id = of_tenant) order by p.id for no key update);
  else
    span_ids := array(
      select p.id from laurel_private.time_trigger_spans p
      where not p.is_over and (of_tenant is null or p.tenant_id = of_tenant) order by p.id for share skip locked);
  end if;
  -- Whoever holds one that was passed over may be waiting for the others.
  select array_agg(a.trigger_id) filter (where a.is_whole), array_agg(a.activated_at) filter (where a.is_whole),
    array_agg(a.id) filter (where a.is_whole), is_waited_for or not bool_and(a.is_whole)
  into trigger_ids, activations, span_ids, is_waited_for
  from (
    select p.trigger_id, p.activated_at, p.id,
      bool_and(p.id = any (span_ids)) over (partition by p.trigger_id, p.activated_at) as is_whole
    from laurel_private.time_trigger_spans p
    where not p.is_over and (of_tenant is null or p.tenant_id = of_tenant)) a;

  while span_ids is not null loop
    most := least(batch, max_ticks - applied);
    exit when most < 1;
    -- No more users than ticks, going by the one who is latest: nobody is locked for nothing.
    select c.* into latest from laurel_private.user_clocks c where c.next_due_at <= as_of order by c.next_due_at limit 1;
    exit when not found;
    done := greatest(most / greatest((
      select laurel_private.ticks_due_by(latest.started_at, p.time_unit, p.time_interval, 'UTC', as_of) - latest.last_tick
      from laurel_private.time_trigger_spans p
      where p.trigger_id = latest.trigger_id and p.activated_at = latest.activated_at limit 1), 1), 1);
    claimed := laurel_private.claim_due_users(trigger_ids, activations, as_of, done);
    if claimed.user_ids is null then
      -- All of them are busy. Wait for one, unless others might be waiting for what this holds.
      is_partial := is_waited_for;
      exit when is_partial;
      select array_agg(c.tenant_id) as tenant_ids, array_agg(c.user_id) as user_ids into claimed
      from (
        select c.tenant_id, c.user_id from laurel_private.user_clocks c
        join unnest(trigger_ids, activations) a (trigger_id, activated_at)
          on a.trigger_id = c.trigger_id and a.activated_at = c.activated_at
        where c.next_due_at <= as_of order by c.next_due_at limit 1) c;
      exit when claimed.user_ids is null;
      perform from laurel_private.user_states s
      where s.tenant_id = claimed.tenant_ids[1] and s.user_id = claimed.user_ids[1] for no key update;
    end if;
    is_waited_for := true;
    done := 0;
    for one_tenant in select distinct t.id from unnest(claimed.tenant_ids) t (id) order by 1 loop
      exit when done >= most;
      done := done + laurel_private.apply_due_ticks(one_tenant,
        array(
          select distinct q.user_id from unnest(claimed.tenant_ids, claimed.user_ids) q (tenant_id, user_id)
          where q.tenant_id = one_tenant order by 1),
        array(
          select p.id from laurel_private.time_trigger_spans p
          where p.id = any (span_ids) and p.tenant_id = one_tenant order by p.id),
        as_of, most - done);
    end loop;
    applied := applied + done;
  end loop;
  if is_ahead and span_ids is not null then
    update laurel_private.time_trigger_spans p
    set applied_until = case when not is_partial and (max_ticks is null or applied < max_ticks) then greatest(p.applied_until, as_of) else p.applied_until end,
      applied_ahead = greatest(p.applied_ahead, as_of)
    where p.id = any (span_ids) and p.ends_at is null;
  end if;
  return applied;
end
$$;

comment on function laurel.run_due_time_triggers(timestamptz, int) is
  'Applies the ticks of time triggers that are due by a moment and not yet applied, at most so many (null: all), and returns how many. Of all tenants when the owner calls, else of the caller''s. Safe to call at any time, by any number at once; ticks of users and triggers that are being changed at this moment are left to the next call. LR023 for an infinite moment. Rules TR5, Q4.';
grant execute on function laurel.run_due_time_triggers(timestamptz, int) to laurel_service;
--! EndIncluded points/run_due_time_triggers.sql
--! Included metrics/record_event.sql
-- The flow. Every event takes this way, whichever way in:
--
--   lock its user · drop a replay · read rules and state
--   → decide (points/decide_points.sql)
--   → apply  (points/apply_effects.sql)
--
-- laurel.record_event() here is the lane of one event, record_events.sql that of many; both decide
-- by the same function. What is decided on is read in the locked row (users/user_states.sql) or after
-- the lock, in statements of their own, so as to see what the lock's last holder committed.

-- What an event or a completion did in each points system that it changed, by system key. Built
-- as text, where each jsonb operator would take its arguments apart and build them anew; the caller turns the whole into jsonb once.
create function laurel_private.points_response(
  systems laurel_private.system_rule[], levels jsonb, snapshots jsonb, awards laurel.points_awards[]
) returns text language plpgsql stable as $$
declare
  response text;
  award laurel.points_awards;
  system laurel_private.system_rule;
  shown text;
  shown_level text;
  added bigint;
  level_before int;
  level_after int;
  total bigint;
begin
  foreach system in array systems loop
    shown := null;
    foreach award in array awards loop
      continue when award.system_id <> system.system_id;
      if shown is null then
        added := award.points;
        -- L2, L3: the level is told when it changed; before its first row a user has none.
        if award.sequence = 1 then
          level_before := 0;
        else
          level_before := width_bucket(award.total_before, system.level_thresholds);
        end if;
      else
        shown := shown || ',';
        added := added + award.points;
      end if;
      total := award.total_after;
      shown := concat(shown, '{"id":"', award.id, '","awarded":', award.points,
        ',"date":"', laurel_private.instant_as_text(award.occurred_at), '","total":', total,
        ',"trigger":', snapshots ->> award.trigger_id::text, ',"boosts":', coalesce(award.boosts, '[]'), '}');
    end loop;
    continue when shown is null;
    level_after := width_bucket(total, system.level_thresholds);
    if level_after = level_before then
      shown_level := null;
    elsif level_after = 0 then
      shown_level := ',"level":null';
    else
      shown_level := ',"level":' || (levels -> system.system_key ->> (level_after - 1));
    end if;
    response := concat(response || ',', '"', system.system_key, '":{', snapshots ->> system.system_key,
      ',"total":', total, ',"added":', added, shown_level, ',"awards":[', shown, ']}');
  end loop;
  return '{' || coalesce(response, '') || '}';
end
$$;

-- Achievements as responses show them once they are completed, as the inside of a JSON array.
create function laurel_private.completions_response(completions laurel_private.completion[], snapshots jsonb)
  returns text language sql stable as $$
  select string_agg(concat(left(snapshots ->> c.achievement_id::text, -1),
    ',"achievedAt":"', laurel_private.instant_as_text(c.achieved_at), '"}'), ',' order by n)
  from unnest(completions) with ordinality as c (achievement_id, id, achieved_at, event_id, n)
$$;

-- Whether this event may complete an achievement of its metric; false means that it does not.
create function laurel_private.may_complete(
  for_user laurel_private.locked_user, achievements laurel_private.achievement_rule[], plain_values numeric[],
  event_attributes jsonb, peak_before numeric, total numeric
) returns boolean language plpgsql stable as $$
#variable_conflict use_variable
declare
  achievement laurel_private.achievement_rule;
begin
  if width_bucket(peak_before, plain_values) <> width_bucket(greatest(peak_before, total), plain_values) then
    return true;
  end if;
  foreach achievement in array achievements loop
    continue when achievement.event_attributes is null and achievement.user_attributes is null;
    if (case when achievement.event_attributes is not null then event_attributes @> achievement.event_attributes
        else greatest(peak_before, total) >= achievement.value and for_user.attributes @> achievement.user_attributes end)
      and not exists (
        select from laurel.user_achievements c
        where c.tenant_id = for_user.tenant_id and c.user_id = for_user.id and c.achievement_id = achievement.achievement_id)
    then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether something may follow from what became of a user's streak, by these compiled rules; false means that nothing does.
create function laurel_private.may_follow(
  streak laurel_private.streak_effects, streak_lengths int[], streak_values int[], webhook_types text[]
) returns boolean language plpgsql stable as $$
declare
  step laurel_private.streak_step := streak.steps[1];
  longest int;
begin
  if webhook_types <> '{}' and streak.outcomes <> '{}' then
    if webhook_types && array(select 'streak.' || o.kind from unnest(streak.outcomes) o) then
      return true;
    end if;
  end if;
  if step.length is not null then
    if streak_values <> '{}' then
      longest := coalesce(step.joined[1], 0);
      if cardinality(step.joined) > 1 then
        longest := (select max(j) from unnest(step.joined) j);
      end if;
      if width_bucket(step.length, streak_values) > width_bucket(longest, streak_values) then
        return true;
      end if;
    end if;
    for i in 1..cardinality(streak_lengths) loop
      if laurel_private.streak_firings(step, streak_lengths[i]) > 0 then
        return true;
      end if;
    end loop;
  end if;
  return false;
end
$$;

create function laurel.record_event(
  metric_key text,
  user_id text,
  value numeric default 1,
  attributes jsonb default '{}',
  idempotency_key text default null,
  occurred_at timestamptz default null,
  profile jsonb default null
) returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_variable
declare
  -- What was found, and of it the user's state (users/user_states.sql) and the rules of the metric.
  met record;
  state laurel_private.user_states;
  rules laurel_private.points_rules;
  as_of timestamptz;
  happened_at timestamptz;
  is_streak_kept boolean;
  -- Where the state has the metric, or will have it.
  metric_place int;
  event_id uuid;
  entries laurel_private.written_entry[];
  extended laurel_private.streak_effects;
  occasion laurel_private.occasion;
  step laurel_private.streak_step;
  locked laurel_private.locked_user;
  needs_more boolean;
  place int;
  has_just_these_systems boolean;
  balances bigint[];
  sequences bigint[];
  counts numeric[];
  count_peaks numeric[];
  rule laurel_private.trigger_rule;
  amount numeric;
  highest numeric;
  effects laurel_private.points_effects;
  applied record;
  award laurel.points_awards;
  -- Systems whose total stood at the floor or the cap before this.
  moved_systems uuid[];
  shown_key text;
  shown_streak text;
  shown_completions text;
  shown_points text;
  shown_leaderboards text;
begin
  -- Services, who may act for every user of the tenant, are let through at a glance.
  if current_setting('laurel.user_id', true) <> '' or not pg_has_role(laurel_private.caller(), 'laurel_service', 'usage') then
    if not laurel_private.may_act_for(user_id) then
      perform laurel_private.fail('LR041', null, 'act for another user');
    end if;
  end if;

  -- The advisory lock queues waiters as in lock_user(). The rules are read after the lock, in a statement of
  -- their own: they are never older than those that the lock's last holder went by. Whole rows, since each
  -- column that passes through a join costs there; no `perform`, which would take an executor for the lock.
  if pg_advisory_xact_lock(hashtextextended(user_id, 20)) is null then null; end if;
  loop
    select s as state into met
    from laurel.tenants t
    join laurel_private.user_states s on s.tenant_id = t.id and s.user_id = record_event.user_id
    where t.customer_id = laurel_private.current_customer_id() and t.archived_at is null
    for no key update of s;
    exit when found;
    locked := laurel_private.lock_user(user_id);
    -- Whether more may follow than this lane does: each reason has an if of its own.
    needs_more := locked.is_new;
  end loop;
  state := met.state;
  select r as rules into met from laurel_private.points_rules r
  where r.tenant_id = state.tenant_id and r.metric_key = record_event.metric_key;
  rules := met.rules;
  as_of := clock_timestamp();
  happened_at := coalesce(occurred_at, as_of);
  if rules.metric_id is null or laurel_private.is_plain_content(rules.event_attribute_keys, value, attributes) is not true then
    value := coalesce(value, 1);
    attributes := coalesce(attributes, '{}');
    perform laurel_private.check_event(state.tenant_id, rules.metric_id, metric_key, value, attributes, idempotency_key, happened_at);
  elsif occurred_at is not null or idempotency_key is not null then
    if laurel_private.is_plain_event(rules.event_attribute_keys, value, attributes, idempotency_key, happened_at) is not true then
      perform laurel_private.check_event(state.tenant_id, rules.metric_id, metric_key, value, attributes, idempotency_key, happened_at);
    end if;
  end if;
  metric_place := coalesce(array_position(state.metric_ids, rules.metric_id), cardinality(state.metric_ids) + 1);
  is_streak_kept := state.streak_version = rules.streak_version and (state.streak_is_satisfied or not rules.counts_for_streak)
    and least(as_of, happened_at) >= state.streak_valid_from and greatest(as_of, happened_at) < state.streak_valid_until;

  event_id := laurel_private.uuid_v7();
  if event_id <= state.last_event_ids[metric_place] then
    event_id := laurel_private.next_uuid(state.last_event_ids[metric_place]);
  end if;
  if idempotency_key is not null then
    shown_key := concat(',"idempotencyKey":', to_json(idempotency_key));
    insert into laurel_private.idempotency_keys (tenant_id, user_id, scope_id, key, result_id)
    values (state.tenant_id, user_id, rules.metric_id, idempotency_key, event_id)
    on conflict do nothing;
    if not found then
      select k.result_id into event_id from laurel_private.idempotency_keys k
      where k.tenant_id = state.tenant_id and k.user_id = record_event.user_id
        and k.scope_id = rules.metric_id and k.key = idempotency_key;
      if is_streak_kept is not true then
        state.streak_answer := ((laurel_private.read_streak(state.tenant_id, user_id, clock_timestamp())).effects).answer;
      end if;
      return concat('{"eventId":"', event_id, '","metricId":"', rules.metric_id, '","total":', trim_scale(coalesce(state.metric_totals[metric_place], 0)),
        ',"achievements":[],"currentStreak":', state.streak_answer,
        ',"points":{},"leaderboards":{},"idempotentReplayed":true', shown_key, '}')::jsonb;
    end if;
  end if;

  locked := (state.tenant_id, user_id, state.time_zone, state.attributes, state.attributes_version, locked.is_new)::laurel_private.locked_user;
  if profile is not null then
    locked := laurel_private.apply_profile(locked, profile);
    needs_more := needs_more or (locked.time_zone, locked.attributes_version) is distinct from (state.time_zone, state.attributes_version);
  end if;
  -- One level below the statement trigger, which would run the flow again.
  insert into laurel_private.metric_event_log (id, tenant_id, user_id, metric_id, metric_key,
    value, attributes, idempotency_key, occurred_at)
  values (event_id, state.tenant_id, user_id, rules.metric_id, metric_key, value, attributes, idempotency_key, happened_at);

  if rules.achievements <> '{}' then
    needs_more := needs_more or laurel_private.may_complete(locked, rules.achievements, rules.achievement_values,
      attributes, coalesce(state.metric_peaks[metric_place], 0), coalesce(state.metric_totals[metric_place], 0) + value);
  end if;

  occasion := ('metric', event_id, 1, value, attributes, happened_at, null, null, null)::laurel_private.occasion;
  shown_streak := state.streak_answer;
  -- Of a new user the lane of many knows the order of things.
  if is_streak_kept is not true and locked.is_new is not true then
    state.time_zone := locked.time_zone;
    extended := laurel_private.extend_streak(state, rules.metric_id, occasion, rules.leaderboards, clock_timestamp());
    state.streak_answer := extended.answer;
    state.streak_valid_from := extended.valid_from;
    state.streak_valid_until := extended.valid_until;
    state.streak_is_satisfied := extended.is_satisfied;
    state.streak_version := extended.version;
    shown_streak := extended.answer;
    step := extended.steps[1];
    if step.extends then
      shown_streak := replace(shown_streak, '"extended": false', '"extended": true');
    end if;
    needs_more := needs_more or laurel_private.may_follow(extended, rules.streak_lengths, rules.streak_values, rules.webhook_types);
  end if;

  if needs_more then
    -- By the lane of many.
    if extended.user_id is not null then
      perform laurel_private.keep_streak_answers(array[extended]);
    end if;
    select * into applied
    from laurel_private.apply_events(state.tenant_id, array[(event_id, state.tenant_id, user_id, rules.metric_id, metric_key,
      value, attributes, idempotency_key, happened_at)::laurel.metric_events],
      case when locked.is_new then array[user_id] else '{}' end, case when extended.user_id is not null then array[extended] end);
    rules.systems := applied.systems;
    effects := applied.effects[1];
    select s.streak_answer into shown_streak from laurel_private.user_states s where s.tenant_id = state.tenant_id and s.user_id = record_event.user_id;
    -- Of a new user the first occasion is that it came.
    if exists (select from unnest(applied.streaks[1].steps) x where x.extends) then
      shown_streak := replace(shown_streak, '"extended": false', '"extended": true');
    end if;
    rules.leaderboards := laurel_private.combine_leaderboards(state.tenant_id, array[rules.metric_id, laurel_private.nil_metric()]);
    if cardinality(effects.awards) + cardinality(effects.completions) + cardinality(rules.leaderboards) > 0 then
      select c.levels, c.snapshots into rules.levels, rules.snapshots
      from laurel_private.combine_shown(state.tenant_id, array[rules.metric_id, laurel_private.nil_metric()]) c;
      shown_completions := laurel_private.completions_response(effects.completions, rules.snapshots);
    end if;
  else
    has_just_these_systems := state.system_ids = rules.system_ids;
    if has_just_these_systems then
      balances := state.totals;
      sequences := state.last_sequences;
    else
      for i in 1..cardinality(rules.system_ids) loop
        place := array_position(state.system_ids, rules.system_ids[i]);
        balances[i] := coalesce(state.totals[place], 0);
        sequences[i] := coalesce(state.last_sequences[place], 0);
      end loop;
    end if;
    if rules.counts_events then
      for i in 1..cardinality(rules.triggers) loop
        rule := rules.triggers[i];
        continue when rule.event_attributes is null or not attributes @> rule.event_attributes;
        select c.count, c.peak into amount, highest from laurel.points_trigger_counts c
        where c.tenant_id = state.tenant_id and c.user_id = record_event.user_id and c.trigger_id = rule.trigger_id;
        if counts is null then
          counts := array_fill(null::numeric, array[cardinality(rules.triggers)]);
          count_peaks := counts;
        end if;
        counts[i] := coalesce(amount, 0);
        count_peaks[i] := coalesce(highest, 0);
      end loop;
    end if;
    if rules.has_user_boosts then
      rules.boosts := rules.boosts || laurel_private.user_boosts(state.tenant_id, user_id, rules.systems);
    end if;
    effects := laurel_private.decide_points(locked, rules.triggers, rules.boosts,
      array[occasion],
      array[coalesce(state.metric_totals[metric_place], 0)], array[coalesce(state.metric_peaks[metric_place], 0)], counts, count_peaks, balances, sequences);

    if effects.awards <> '{}' then
      insert into laurel.points_awards select * from unnest(effects.awards);
      if has_just_these_systems then
        state.totals := effects.balances;
        state.last_sequences := effects.sequences;
      else
        for i in 1..cardinality(rules.system_ids) loop
          continue when effects.sequences[i] = sequences[i];
          place := coalesce(array_position(state.system_ids, rules.system_ids[i]), cardinality(state.system_ids) + 1);
          state.system_ids[place] := rules.system_ids[i];
          state.totals[place] := effects.balances[i];
          state.last_sequences[place] := effects.sequences[i];
        end loop;
      end if;
      foreach award in array effects.awards loop
        if award.total_before = 0 or award.total_before >= award.max_points then
          moved_systems := moved_systems || award.system_id;
        end if;
      end loop;
    end if;
    update laurel_private.user_states s
    set metric_ids[metric_place] = rules.metric_id, metric_totals[metric_place] = effects.totals[1],
      metric_peaks[metric_place] = effects.peaks[1], last_event_ids[metric_place] = event_id,
      system_ids = state.system_ids, totals = state.totals, last_sequences = state.last_sequences,
      streak_answer = state.streak_answer, streak_valid_from = state.streak_valid_from, streak_valid_until = state.streak_valid_until,
      streak_is_satisfied = state.streak_is_satisfied, streak_version = state.streak_version
    where s.tenant_id = state.tenant_id and s.user_id = record_event.user_id;
    if moved_systems is not null then
      perform laurel_private.restart_clocks(state.tenant_id, array[user_id], moved_systems);
    end if;
    if effects.first_counted is not null then
      for i in 1..cardinality(effects.first_counted) loop
        continue when effects.first_counted[i] is null;
        rule := rules.triggers[i];
        update laurel.points_trigger_counts c
        set count = effects.counts[i], peak = effects.count_peaks[i]
        where c.tenant_id = state.tenant_id and c.user_id = record_event.user_id and c.trigger_id = rule.trigger_id
          and c.trigger_version = rule.version and c.attributes_version = locked.attributes_version;
        if not found then
          -- New, or what is counted changed since the last event.
          perform laurel_private.write_trigger_counts(state.tenant_id, rules.triggers, array[effects]);
          exit;
        end if;
      end loop;
    end if;
    if rules.leaderboards <> '{}' then
      entries := laurel_private.write_event_scores(locked, rules.leaderboards, rules.metric_id, event_id, value, effects.awards, happened_at);
    end if;
    if rules.webhook_types <> '{}' and effects.awards <> '{}' then
      perform laurel_private.announce_effects(state.tenant_id, rules.webhook_types, rules.systems, array[effects], rules.levels, rules.snapshots);
    end if;
  end if;

  if effects.awards <> '{}' then
    shown_points := laurel_private.points_response(rules.systems, rules.levels, rules.snapshots, effects.awards);
  end if;
  if rules.leaderboards <> '{}' then
    shown_leaderboards := laurel_private.leaderboards_response(state.tenant_id, user_id, locked.time_zone, rules.leaderboards, rules.snapshots, happened_at,
      event_id, effects.awards, entries);
  end if;
  return concat('{"eventId":"', event_id, '","metricId":"', rules.metric_id, '","total":', trim_scale(effects.totals[1]),
    ',"achievements":[', shown_completions, '],"currentStreak":', shown_streak, ',"points":', coalesce(shown_points, '{}'),
    ',"leaderboards":{', shown_leaderboards, '},"idempotentReplayed":false', shown_key, '}')::jsonb;
end
$$;

comment on function laurel.record_event(text, text, numeric, jsonb, text, timestamptz, jsonb) is
  'Records one event of a user on a metric, with all that follows, and returns what it did. Adds the user when new; profile as in identify_user(). With an idempotency key a repetition changes nothing and says idempotentReplayed. LR003 unknown metric, LR010 to LR017 wrong input, LR030 out of points. Rule Q2.';
grant execute on function laurel.record_event(text, text, numeric, jsonb, text, timestamptz, jsonb)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded metrics/record_event.sql
--! Included metrics/record_events.sql
-- The lane of many: whatever a statement inserted into laurel.metric_events takes the flow that
-- record_event.sql draws, for all of its users at once.

-- Gives events that lost a race (their IDs were made before the lock) IDs after those of the
-- events applied in front of them, so that the order of IDs is the order of application. Rare.
create function laurel_private.reorder_events(events laurel.metric_events[])
  returns laurel.metric_events[] language plpgsql volatile as $$
declare
  reordered laurel.metric_events[] := '{}';
  event laurel.metric_events;
  next_id uuid;
  last_ids jsonb;
  place text;
begin
  select coalesce(jsonb_object_agg(s.user_id || ' ' || m.id, m.last_event_id), '{}') into last_ids
  from (select distinct e.tenant_id, e.user_id from unnest(events) e) e
  join laurel_private.user_states s on s.tenant_id = e.tenant_id and s.user_id = e.user_id
  cross join lateral unnest(s.metric_ids, s.last_event_ids) m (id, last_event_id);
  foreach event in array events loop
    place := event.user_id || ' ' || event.metric_id;
    if event.id <= (last_ids ->> place)::uuid then
      next_id := laurel_private.next_uuid((last_ids ->> place)::uuid);
      update laurel.metric_events e set id = next_id
      where e.tenant_id = event.tenant_id and e.user_id = event.user_id
        and e.metric_id = event.metric_id and e.id = event.id;
      event.id := next_id;
    end if;
    last_ids := last_ids || jsonb_build_object(place, event.id);
    reordered := reordered || event;
  end loop;
  return reordered;
end
$$;

-- Whether some event's ID does not come after those of the same user and metric in front of it. One session makes IDs in
-- order, so that two looks settle almost every call: at neighbours, and at whether a user is ahead of the first event.
create function laurel_private.are_out_of_order(events laurel.metric_events[], user_ids text[])
  returns boolean language plpgsql stable as $$
begin
  if not exists (
      select from (
        select e.id, lag(e.id) over (order by e.no) as previous
        from unnest(events) with ordinality
          as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)) e
      where e.id <= e.previous)
    and not exists (
      select from unnest(user_ids) u (id)
      cross join lateral (
        select s.last_event_ids from laurel_private.user_states s
        where s.tenant_id = (events[1]).tenant_id and s.user_id = u.id offset 0) s
      where (events[1]).id <= any (s.last_event_ids))
  then
    return false;
  end if;
  return exists (
    select from (
      select e.tenant_id, e.user_id, e.metric_id, e.id,
        lag(e.id) over (partition by e.user_id, e.metric_id order by e.no) as previous
      from unnest(events) with ordinality
        as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)) e
    where coalesce(e.previous, (
      select s.last_event_ids[array_position(s.metric_ids, e.metric_id)] from laurel_private.user_states s
      where s.tenant_id = e.tenant_id and s.user_id = e.user_id)) >= e.id);
end
$$;

-- Keys that count for the first time are kept; the events that bring others are taken out of the
-- log again (E4: in an INSERT a replayed row is skipped). Returns the events that remain.
create function laurel_private.drop_replays(events laurel.metric_events[])
  returns laurel.metric_events[] language plpgsql volatile as $$
declare
  first_uses uuid[];
begin
  with used as (
    insert into laurel_private.idempotency_keys (tenant_id, user_id, scope_id, key, result_id)
    select e.tenant_id, e.user_id, e.metric_id, e.idempotency_key, e.id
    from unnest(events) with ordinality
      as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)
    where e.idempotency_key is not null
    order by e.no
    on conflict do nothing
    returning result_id
  )
  select array_agg(u.result_id) into first_uses from used u;
  delete from laurel.metric_events stored
  using (
    select e.tenant_id, e.user_id, e.metric_id, e.id from unnest(events) e
    where e.idempotency_key is not null and e.id not in (select unnest(first_uses))) replay
  where stored.tenant_id = replay.tenant_id and stored.user_id = replay.user_id
    and stored.metric_id = replay.metric_id and stored.id = replay.id;
  if not found then
    return events;
  end if;
  return array(
    select (e.id, e.tenant_id, e.user_id, e.metric_id, e.metric_key, e.value, e.attributes,
      e.idempotency_key, e.occurred_at)::laurel.metric_events
    from unnest(events) with ordinality
      as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)
    where e.idempotency_key is null or e.id in (select unnest(first_uses))
    order by e.no);
end
$$;

-- Applies events that are stored, of users who are locked, in the order given (E7). What
-- record_event() cannot do in its own lane takes this one as well.
create function laurel_private.apply_events(
  tenant_id uuid, events laurel.metric_events[], new_user_ids text[], extended laurel_private.streak_effects[] default null,
  out systems laurel_private.system_rule[], out effects laurel_private.points_effects[],
  out streaks laurel_private.streak_effects[]
) language plpgsql volatile as $$
#variable_conflict use_variable
declare
  metric_ids uuid[] := array(select distinct e.metric_id from unnest(events) e order by 1);
  applied record;
begin
  select * into applied
  from laurel_private.apply_occasions(tenant_id, metric_ids, array(
    select (u.user_id, case when u.user_id = any (new_user_ids)
        then ('user_creation', u.occasions[1].event_id, null, null, null, u.occasions[1].occurred_at, null, null, null)::laurel_private.occasion
          || u.occasions
        else u.occasions end)::laurel_private.user_occasions
    from (
      select e.user_id, array_agg((
        'metric', e.id, array_position(metric_ids, e.metric_id), e.value, e.attributes, e.occurred_at,
        null, null, null)::laurel_private.occasion order by e.no) as occasions
      from unnest(events) with ordinality
        as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)
      group by e.user_id) u), extended => extended);
  systems := applied.systems;
  effects := applied.effects;
  streaks := applied.streaks;
end
$$;

-- Time zones that come with these events, of users who have none or another: given are those of all events that came,
-- of which replays say nothing (E4). The callers hold the users' locks.
create function laurel_private.apply_time_zones(
  tenant_id uuid, events laurel.metric_events[], event_ids uuid[], time_zones text[]
) returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  moved record;
begin
  for moved in
    select s.user_id, s.time_zone, s.attributes, s.attributes_version, g.time_zone as given
    from (
      select distinct on (e.user_id) e.user_id, z.time_zone
      from unnest(events) with ordinality
        as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)
      join unnest(event_ids, time_zones) z (id, time_zone) on z.id = e.id
      where z.time_zone is not null
      order by e.user_id, e.no) g
    cross join lateral (
      select u.tz from laurel.users u where u.tenant_id = tenant_id and u.id = g.user_id offset 0) u
    cross join lateral (
      select s.* from laurel_private.user_states s where s.tenant_id = tenant_id and s.user_id = g.user_id offset 0) s
    where u.tz is distinct from g.time_zone
    order by s.user_id
  loop
    perform laurel_private.apply_profile(
      (tenant_id, moved.user_id, moved.time_zone, moved.attributes, moved.attributes_version, false)::laurel_private.locked_user,
      jsonb_build_object('tz', moved.given));
  end loop;
end
$$;

-- The lane of many: events of one tenant, already stored; with each, in its place, the time zone of its user, or null where it is
-- not told. Returns how many counted for the first time.
create function laurel_private.record_stored_events(tenant_id uuid, events laurel.metric_events[], time_zones text[] default '{}')
  returns int language plpgsql volatile as $$
#variable_conflict use_variable
declare
  user_ids text[];
  have_keys boolean;
  first_zones text[];
  event_ids uuid[];
  new_user_ids text[];
begin
  select array_agg(u.user_id order by u.user_id), bool_or(u.have_keys) into user_ids, have_keys
  from (
    select e.user_id, bool_or(e.idempotency_key is not null) as have_keys
    from unnest(events) e group by e.user_id) u;
  if time_zones <> '{}' then
    -- For those who are new. A zone that is none is left for apply_time_zones() to refuse: a replay may bring it.
    with told as materialized (
      select distinct t.name from unnest(time_zones) t (name)
    ),
    known as (
      select t.name from told t where laurel_private.is_time_zone(t.name)
    ),
    given as (
      select distinct on (e.user_id) e.user_id, e.time_zone
      from unnest(events, time_zones) with ordinality
        as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, time_zone, no)
      where e.time_zone is not null
      order by e.user_id, e.no
    )
    select array_agg(k.name order by q.no) into first_zones
    from unnest(user_ids) with ordinality q (id, no)
    left join given g on g.user_id = q.id
    left join known k on k.name = g.time_zone;
  end if;
  new_user_ids := laurel_private.lock_users(tenant_id, user_ids, first_zones);
  -- IDs first: a key remembers the ID of its event.
  if laurel_private.are_out_of_order(events, user_ids) then
    events := laurel_private.reorder_events(events);
  end if;
  if time_zones <> '{}' then
    event_ids := array(select e.id from unnest(events) e);
  end if;
  if have_keys then
    events := laurel_private.drop_replays(events);
  end if;
  if time_zones <> '{}' then
    perform laurel_private.apply_time_zones(tenant_id, events, event_ids, time_zones);
  end if;
  perform laurel_private.apply_events(tenant_id, events, new_user_ids);
  return cardinality(events);
end
$$;

-- Fills in what a caller's row leaves to us, and refuses what no event may be. Looking up the
-- metric takes 13 µs a row, so what was found last is kept in settings. Anybody may write those:
-- check_events() holds them against the rules.
create function laurel_private.tg_metric_events__complete()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  rules laurel_private.points_rules;
begin
  -- Most rows end here: one condition, since each costs them as much as the next.
  if new.tenant_id is null
    and concat(current_setting('laurel.tenant', true), ' ', new.metric_key) = current_setting('laurel_private.event_source', true)
    and num_nulls(new.user_id, new.value, new.attributes, new.occurred_at) = 0
  then
    new.tenant_id := current_setting('laurel_private.event_tenant')::uuid;
    new.metric_id := current_setting('laurel_private.event_metric')::uuid;
    return new;
  end if;
  select r.* into rules from laurel_private.points_rules r
  where r.tenant_id = coalesce(new.tenant_id, laurel.current_tenant_id()) and r.metric_key = new.metric_key;
  if rules.metric_id is null then
    perform laurel_private.fail('LR003', 'metric_key', coalesce(new.metric_key, 'null'));
  end if;
  if new.tenant_id is null then
    perform set_config('laurel_private.event_source', concat(current_setting('laurel.tenant', true), ' ', new.metric_key), true),
      set_config('laurel_private.event_tenant', rules.tenant_id::text, true),
      set_config('laurel_private.event_metric', rules.metric_id::text, true);
  end if;
  new.tenant_id := rules.tenant_id;
  new.metric_id := rules.metric_id;
  if new.user_id is null or new.value is null or new.attributes is null or new.occurred_at is null then
    perform laurel_private.check_user_id(new.user_id);
    new.value := coalesce(new.value, 1);
    new.attributes := coalesce(new.attributes, '{}');
    new.occurred_at := coalesce(new.occurred_at, now());
  end if;
  return new;
end
$$;

-- What was found is kept for one statement: the next may come after a change of configuration.
create function laurel_private.tg_metric_events__forget()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('laurel_private.event_source', '', true);
  return null;
end
$$;

create trigger metric_events__forget before insert on laurel.metric_events
  for each statement execute function laurel_private.tg_metric_events__forget();

-- The condition is short, since PostgreSQL parses it for every statement: 1 % of a single event, and a longer one 5 %.
create trigger metric_events__complete before insert on laurel.metric_events
  for each row when (new.metric_id is null)
  execute function laurel_private.tg_metric_events__complete();

-- Refuses the first event that breaks a rule, whoever it is from: none of the statement is kept.
create function laurel_private.check_events(events laurel.metric_events[])
  returns void language plpgsql stable as $$
declare
  first laurel.metric_events := events[1];
  keys text[];
  is_known boolean;
  event laurel.metric_events;
begin
  -- Most statements name one metric: it is looked up once. What is declared holds for all of a tenant's.
  select r.event_attribute_keys into keys from laurel_private.points_rules r
  where r.tenant_id = first.tenant_id and r.metric_id = first.metric_id and r.metric_key = first.metric_key;
  is_known := found;
  for event in
    select e.* from unnest(events) e
    where not is_known or e.tenant_id <> first.tenant_id or length(e.user_id) not between 1 and 255
      or laurel_private.is_plain_event(keys, e.value, e.attributes, e.idempotency_key, e.occurred_at) is not true
      or (e.metric_id <> first.metric_id or e.metric_key <> first.metric_key) and not exists (
        select from laurel_private.points_rules r
        where r.tenant_id = e.tenant_id and r.metric_id = e.metric_id and r.metric_key = e.metric_key)
  loop
    perform laurel_private.check_user_id(event.user_id);
    perform laurel_private.check_event(event.tenant_id, event.metric_id, event.metric_key,
      event.value, event.attributes, event.idempotency_key, event.occurred_at);
  end loop;
end
$$;

-- Runs the flow for the rows that a statement inserted. Definer, since callers may write events
-- but nothing that follows from them. Plans are generic and probe indexes: a plan made for one
-- row must serve a statement of 50,000, and the other way round; without jit, which would
-- compile for milliseconds what the high cost of a forced index makes look expensive.
create function laurel_private.tg_metric_events__record()
  returns trigger language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  events laurel.metric_events[];
  tenant_ids uuid[];
begin
  -- Spelled out, as a transition table's rows have no type: they would be converted by way of text.
  select array_agg((n.id, n.tenant_id, n.user_id, n.metric_id, n.metric_key, n.value, n.attributes,
    n.idempotency_key, n.occurred_at)::laurel.metric_events) into events
  from new_events n;
  if events is not null then
    perform laurel_private.check_events(events);
    tenant_ids := array(select distinct n.tenant_id from new_events n order by 1);
    if cardinality(tenant_ids) = 1 then
      perform laurel_private.record_stored_events(tenant_ids[1], events);
    else
      for i in 1..cardinality(tenant_ids) loop
        perform laurel_private.record_stored_events(tenant_ids[i], array(
          select (e.id, e.tenant_id, e.user_id, e.metric_id, e.metric_key, e.value, e.attributes,
            e.idempotency_key, e.occurred_at)::laurel.metric_events
          from unnest(events) with ordinality
            as e (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at, no)
          where e.tenant_id = tenant_ids[i]
          order by e.no));
      end loop;
    end if;
  end if;
  return null;
end
$$;

create trigger metric_events__record after insert on laurel.metric_events
  referencing new table as new_events for each statement
  execute function laurel_private.tg_metric_events__record();
--! EndIncluded metrics/record_events.sql
--! Included metrics/load_events.sql
-- Many events at once together with the time zones of their users, as CSV files bring them (src/imports): what an INSERT
-- into laurel.metric_events does, but that a new user is there with its time zone when its first event is judged, which
-- an INSERT cannot say and record_event() says for one user at a time.

-- Rows in order, a column an array; null for the defaults of an INSERT. Of a user's rows the first that tells a time zone
-- tells it for all. Returns how many rows counted: the others are replays. Definer as the flow is (metrics/record_events.sql), with
-- plans for one row and for 50,000.
create function laurel_private.load_events(
  metric_keys text[], user_ids text[], "values" numeric[], attributes jsonb[], idempotency_keys text[],
  occurred_at timestamptz[], time_zones text[]
) returns int language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_variable
declare
  tenant uuid := laurel.current_tenant_id();
  events laurel.metric_events[];
begin
  events := array(
    select (laurel_private.quick_uuid_v7(), tenant, g.user_id, m.metric_id, g.metric_key, coalesce(g.value, 1), coalesce(g.attributes, '{}'),
      g.idempotency_key, coalesce(g.occurred_at, now()))::laurel.metric_events
    from unnest(metric_keys, user_ids, "values", attributes, idempotency_keys, occurred_at) with ordinality
      as g (metric_key, user_id, value, attributes, idempotency_key, occurred_at, no)
    left join (
      select r.metric_key, r.metric_id
      from (select distinct k.key from unnest(metric_keys) k (key)) k
      cross join lateral (
        select r.metric_key, r.metric_id from laurel_private.points_rules r
        where r.tenant_id = tenant and r.metric_key = k.key offset 0) r) m on m.metric_key = g.metric_key
    order by g.no);
  if events = '{}' then
    return 0;
  end if;
  perform laurel_private.check_events(events);
  -- One level below the statement trigger, which would run the flow by itself.
  insert into laurel_private.metric_event_log (id, tenant_id, user_id, metric_id, metric_key, value, attributes,
    idempotency_key, occurred_at)
  select e.* from unnest(events) e;
  return laurel_private.record_stored_events(tenant, events, time_zones);
end
$$;

comment on function laurel_private.load_events(text[], text[], numeric[], jsonb[], text[], timestamptz[], text[]) is
  'Records many events, and the time zones of their users, in the order given; returns how many were no replays. None is kept when one is refused: LR003, LR010 to LR016, LR030. Rules Q1, TR6.';
grant execute on function laurel_private.load_events(text[], text[], numeric[], jsonb[], text[], timestamptz[], text[]) to laurel_admin;
--! EndIncluded metrics/load_events.sql
--! Included users/identify_user.sql
-- Identification (U2): a user is added, or what is known of it changes. Adding one is an occasion
-- for user_creation triggers, whichever way in (TR6).

create function laurel_private.user_as_json(u laurel.users)
  returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object(
    -- Older client libraries refuse to parse a user without a list of device tokens.
    'id', u.id, 'email', u.email, 'name', u.name, 'tz', u.tz, 'deviceTokens', coalesce(u.device_tokens, '{}'),
    'signUpDate', u.sign_up_on, 'subscribeToEmails', u.subscribe_to_emails, 'attributes', u.attributes, 'control', u.control,
    'created', laurel_private.instant_as_text(u.created_at),
    'updated', laurel_private.instant_as_text(u.updated_at))
$$;

-- The occasion of a user being added (TR6).
create function laurel_private.user_creation()
  returns laurel_private.occasion language sql volatile
  return ('user_creation', null, null, null, null, clock_timestamp(), null, null, null)::laurel_private.occasion;

create function laurel.identify_user(user_id text, profile jsonb default '{}')
  returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  locked laurel_private.locked_user;
begin
  perform laurel_private.require_own_user(identify_user.user_id);
  locked := laurel_private.lock_user(identify_user.user_id);
  locked := laurel_private.apply_profile(locked, coalesce(profile, '{}'));
  if locked.is_new then
    perform laurel_private.apply_occasions(locked.tenant_id, '{}',
      array[(locked.id, array[laurel_private.user_creation()])::laurel_private.user_occasions]);
  end if;
  return (
    select laurel_private.user_as_json(u) from laurel.users u
    where u.tenant_id = locked.tenant_id and u.id = locked.id);
end
$$;

comment on function laurel.identify_user(text, jsonb) is
  'Adds the user or changes what the profile gives (email, name, tz, signUpDate, deviceTokens, subscribeToEmails, attributes), and returns the user. Attributes merge; null removes one. LR010, LR012, LR013, LR016, LR017. Rules U2, TR6.';

create function laurel.update_user(user_id text, profile jsonb)
  returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  perform laurel_private.own_user(update_user.user_id);
  return laurel.identify_user(update_user.user_id, profile);
end
$$;

comment on function laurel.update_user(text, jsonb) is
  'As identify_user(), but refuses a user that does not exist: LR002.';

create function laurel.user_profile(user_id text)
  returns jsonb language sql stable security definer
  set search_path = pg_catalog, pg_temp as $$
  select laurel_private.user_as_json(laurel_private.own_user(user_id))
$$;

comment on function laurel.user_profile(text) is
  'The user: id, email, name, tz, signUpDate, deviceTokens, subscribeToEmails, attributes, control, created, updated. LR002 when unknown.';

grant execute on function laurel.identify_user(text, jsonb), laurel.update_user(text, jsonb), laurel.user_profile(text)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded users/identify_user.sql
--! Included users/find_users.sql
-- Finding users as people look for them: by how their ID, name or email address begins.

create index users_by_name on laurel.users (tenant_id, lower(name) text_pattern_ops) where name is not null;
create index users_by_email on laurel.users (tenant_id, lower(email) text_pattern_ops) where email is not null;

-- In the caller's own name: row-level security decides who there is to be found.
create function laurel.find_users(search text default '', attributes jsonb default '{}')
  returns setof laurel.users language sql stable as $$
  select u.* from laurel.users u,
    (select replace(replace(replace(coalesce(find_users.search, ''), '\', '\\'), '%', '\%'), '_', '\_') || '%' as pattern) beginning
  where u.tenant_id = (select laurel.current_tenant_id())
    and u.attributes @> coalesce(find_users.attributes, '{}')
    and (u.id like pattern or lower(u.name) like lower(pattern) or lower(u.email) like lower(pattern))
  order by u.tenant_id, u.id
$$;

comment on function laurel.find_users(text, jsonb) is
  'Users who have these attributes and whose ID (as it is written), name or email address (capitals or not) begins with this text; all users when both are empty.';
grant execute on function laurel.find_users(text, jsonb) to laurel_admin, laurel_service;
--! EndIncluded users/find_users.sql
--! Included achievements/complete_achievement.sql
-- Completion by a call (A1, A2): like an event, under the user's lock, with the points it pays.

create function laurel.complete_achievement(achievement_key text, user_id text, profile jsonb default null)
  returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  achievement laurel.achievements;
  locked laurel_private.locked_user;
  found_completion laurel.user_achievements;
  occasions laurel_private.occasion[] := '{}';
  applied record;
  effects laurel_private.points_effects;
  points text := '{}';
begin
  perform laurel_private.require_own_user(complete_achievement.user_id);
  select a.* into achievement from laurel.achievements a
  where a.tenant_id = laurel.current_tenant_id() and a.key = achievement_key and a.status = 'active';
  if achievement.id is null then
    perform laurel_private.fail('LR007', null, left(coalesce(achievement_key, 'null'), 255));
  elsif achievement.kind <> 'api' then
    perform laurel_private.fail('LR025', null, achievement_key, format('it is of kind %s', achievement.kind));
  end if;
  locked := laurel_private.lock_user(complete_achievement.user_id);
  if profile is not null then
    locked := laurel_private.apply_profile(locked, profile);
  end if;
  if not locked.attributes @> achievement.user_attributes then
    perform laurel_private.fail('LR025', null, achievement_key, 'it is not for users with these attributes');
  end if;
  select c.* into found_completion from laurel.user_achievements c
  where c.tenant_id = locked.tenant_id and c.user_id = locked.id and c.achievement_id = achievement.id;
  if locked.is_new then
    occasions := array[laurel_private.user_creation()];
  end if;
  if found_completion.id is null then
    occasions := occasions || ('achievement', null, null, null, null, clock_timestamp(), null, null, achievement.id)::laurel_private.occasion;
  end if;
  if occasions <> '{}' then
    select * into applied from laurel_private.apply_occasions(locked.tenant_id, '{}',
      array[(locked.id, occasions)::laurel_private.user_occasions]);
    effects := applied.effects[1];
    found_completion.id := effects.completions[1].id;
    found_completion.achieved_at := effects.completions[1].achieved_at;
    select laurel_private.points_response(applied.systems, c.levels, c.snapshots, effects.awards) into points
    from laurel_private.combine_shown(locked.tenant_id, array[laurel_private.nil_metric()]) c;
  end if;
  return jsonb_build_object(
    'completionId', found_completion.id,
    'achievement', laurel_private.achievement_as_json(achievement)
      || jsonb_build_object('achievedAt', laurel_private.instant_as_text(found_completion.achieved_at)),
    'points', points::jsonb);
end
$$;

comment on function laurel.complete_achievement(text, text, jsonb) is
  'Completes an achievement of kind api for a user and returns {completionId, achievement, points}; once completed it answers the same and awards nothing. Adds the user when new; profile as in identify_user(). LR007 unknown, inactive or locked, LR025 of another kind or not for this user. Rules A1, A2, Q3.';
grant execute on function laurel.complete_achievement(text, text, jsonb) to laurel_admin, laurel_service, laurel_user;
--! EndIncluded achievements/complete_achievement.sql
--! Included achievements/backfill_achievements.sql
-- Completions that no event brings: of users who qualified already when an achievement became
-- active (A3), and anniversaries. The worker does both, batch by batch, each batch one
-- transaction; where it stands is a row, so that it can stop and go on anywhere.

create table laurel_private.achievement_backfills (
  tenant_id uuid not null,
  achievement_id uuid not null,
  requested_at timestamptz not null default clock_timestamp(),
  -- Set at the first look: transactions before this one may still go by rules without the achievement. A snapshot knows
  -- those of the server's other databases too, so that a long one there delays the look; it is made all the same.
  begins_after xid8,
  after_user_id text collate "C" not null default '',
  looked_at bigint not null default 0,
  completed bigint not null default 0,
  finished_at timestamptz,
  constraint achievement_backfills_are_one_per_achievement primary key (tenant_id, achievement_id),
  constraint backfill_is_of_an_achievement foreign key (tenant_id, achievement_id)
    references laurel.achievements (tenant_id, id) on delete cascade
);

comment on table laurel_private.achievement_backfills is 'How far the look for users who qualify already has come, per active achievement. Rule A3.';
alter table laurel_private.achievement_backfills enable row level security;

create function laurel_private.tg_achievements__backfill()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from laurel_private.achievement_backfills b where b.tenant_id = new.tenant_id and b.achievement_id = new.id;
  delete from laurel_private.achievement_counts c where c.tenant_id = new.tenant_id and c.achievement_id = new.id;
  if new.status = 'active' and new.kind <> 'api' then
    insert into laurel_private.achievement_backfills (achievement_id, tenant_id) values (new.id, new.tenant_id);
  end if;
  return null;
end
$$;

create trigger achievements__backfill_new after insert on laurel.achievements
  for each row when (new.status = 'active') execute function laurel_private.tg_achievements__backfill();
create trigger achievements__backfill_changed after update on laurel.achievements
  for each row when (
    (old.status, old.kind, old.metric_id, old.metric_value, old.streak_length, old.years, old.prerequisite_ids,
      old.user_attributes, old.event_attributes)
    is distinct from (new.status, new.kind, new.metric_id, new.metric_value, new.streak_length, new.years, new.prerequisite_ids,
      new.user_attributes, new.event_attributes))
  execute function laurel_private.tg_achievements__backfill();

-- Whether what a user did so far completes an achievement (A1).
create function laurel_private.qualifies(achievement laurel.achievements, state laurel_private.user_states, as_of timestamptz)
  returns boolean language plpgsql stable as $$
begin
  if not state.attributes @> achievement.user_attributes then
    return false;
  end if;
  case achievement.kind
    when 'metric' then
      if achievement.event_attributes = '{}' then
        return coalesce(state.metric_peaks[array_position(state.metric_ids, achievement.metric_id)] >= achievement.metric_value, false);
      end if;
      return coalesce((
        select sum(e.value) from laurel.metric_events e
        where e.tenant_id = state.tenant_id and e.user_id = state.user_id and e.metric_id = achievement.metric_id
          and e.attributes @> achievement.event_attributes) >= achievement.metric_value, false);
    when 'streak' then
      return exists (
        select from laurel_private.user_streaks u
        where u.tenant_id = state.tenant_id and u.user_id = state.user_id and u.longest >= achievement.streak_length);
    when 'achievement' then
      return achievement.prerequisite_ids <@ array(
        select c.achievement_id from laurel.user_achievements c
        where c.tenant_id = state.tenant_id and c.user_id = state.user_id);
    when 'anniversary' then
      return coalesce((
        select u.sign_up_on + make_interval(years => achievement.years) <= (as_of at time zone state.time_zone)
        from laurel.users u where u.tenant_id = state.tenant_id and u.id = state.user_id), false);
    else
      return false;
  end case;
end
$$;

-- Completes an achievement for those of these users, given in key order, who qualify; returns how many. All of them are
-- locked first: what was decided for them meanwhile by older rules is then seen.
create function laurel_private.complete_for_qualified(
  achievement laurel.achievements, user_ids text[], as_of timestamptz, is_silent boolean
) returns int language plpgsql volatile as $$
declare
  work laurel_private.user_occasions[];
begin
  perform from unnest(user_ids) q (id)
  cross join lateral (
    select from laurel_private.user_states s
    where s.tenant_id = achievement.tenant_id and s.user_id = q.id
    for no key update) locked;
  work := array(
    select (s.user_id, array[('achievement', null, null, null, null, as_of, null, null, achievement.id)::laurel_private.occasion])::laurel_private.user_occasions
    from unnest(user_ids) q (id)
    join laurel_private.user_states s on s.tenant_id = achievement.tenant_id and s.user_id = q.id
    where laurel_private.qualifies(achievement, s, as_of) and not exists (
      select from laurel.user_achievements c
      where c.tenant_id = s.tenant_id and c.user_id = s.user_id and c.achievement_id = achievement.id)
    order by s.user_id);
  if work <> '{}' then
    perform laurel_private.apply_occasions(achievement.tenant_id, '{}', work, is_silent);
  end if;
  return cardinality(work);
end
$$;

create function laurel_private.backfill_achievements(most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  backfill laurel_private.achievement_backfills;
  achievement laurel.achievements;
  user_ids text[];
  done int;
begin
  update laurel_private.achievement_backfills b set begins_after = pg_current_xact_id()
  where b.begins_after is null
    -- One ahead of all transactions comes from the server that this database was restored from.
    or b.finished_at is null and b.begins_after >= pg_snapshot_xmax(pg_current_snapshot())
      and b.begins_after is distinct from pg_current_xact_id_if_assigned();
  if found then
    return 1;
  end if;
  select b.* into backfill from laurel_private.achievement_backfills b
  where b.finished_at is null and b.begins_after < pg_snapshot_xmin(pg_current_snapshot())
  order by b.requested_at
  limit 1
  for update skip locked;
  if not found then
    return 0;
  end if;
  select a.* into achievement from laurel.achievements a where a.id = backfill.achievement_id;
  user_ids := array(
    select s.user_id from laurel_private.user_states s
    where s.tenant_id = backfill.tenant_id and s.user_id > backfill.after_user_id
    order by s.user_id
    limit greatest(most, 1));
  done := laurel_private.complete_for_qualified(achievement, user_ids, clock_timestamp(), true);
  update laurel_private.achievement_backfills b
  set after_user_id = coalesce(user_ids[cardinality(user_ids)], b.after_user_id),
    looked_at = b.looked_at + cardinality(user_ids),
    completed = b.completed + done,
    finished_at = case when cardinality(user_ids) < greatest(most, 1) then clock_timestamp() end
  where b.tenant_id = backfill.tenant_id and b.achievement_id = backfill.achievement_id;
  return greatest(cardinality(user_ids), 1);
end
$$;

comment on function laurel_private.backfill_achievements(int) is
  'Looks at the next users, at most so many, of an achievement that became active and completes it for those who qualify; returns 0 when there is nothing to do now. Rule A3.';

-- Users whose anniversary has come. Any moment may be asked for, in any order.
create function laurel_private.complete_anniversaries(as_of timestamptz default now(), most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
declare
  achievement laurel.achievements;
  user_ids text[];
  done int;
begin
  for achievement in
    select a.* from laurel.achievements a
    join laurel.tenants t on t.id = a.tenant_id and t.archived_at is null
    where a.kind = 'anniversary' and a.status = 'active' order by a.id
  loop
    user_ids := array(
      select u.id from laurel.users u
      -- A day more than any time zone is ahead.
      where u.tenant_id = achievement.tenant_id
        and u.sign_up_on <= ((as_of + interval '1 day')::date - make_interval(years => achievement.years))
        and (u.sign_up_on + make_interval(years => achievement.years)) <= (as_of at time zone coalesce(u.tz, 'UTC'))
        and u.attributes @> achievement.user_attributes
        and not exists (
          select from laurel.user_achievements c
          where c.tenant_id = u.tenant_id and c.user_id = u.id and c.achievement_id = achievement.id)
      order by u.id
      limit most);
    continue when user_ids = '{}';
    done := laurel_private.complete_for_qualified(achievement, user_ids, as_of, false);
    if done > 0 then
      return done;
    end if;
  end loop;
  return 0;
end
$$;

comment on function laurel_private.complete_anniversaries(timestamptz, int) is
  'Completes one anniversary achievement for users, at most so many, whose sign-up date is long enough past by their own calendar; returns how many, 0 when none is due. Rule A1.';

create index users_by_sign_up on laurel.users (tenant_id, sign_up_on) where sign_up_on is not null;
--! EndIncluded achievements/backfill_achievements.sql
--! Included achievements/achievements_catalogue.sql
-- Reading achievements as REST shows them: all with how many have them, and one user's.

create function laurel_private.achievement_stats(achievement laurel.achievements, users bigint)
  returns jsonb language sql stable as $$
  select jsonb_build_object('completions', count(*),
    'rarity', coalesce(trim_scale(round(100.0 * count(*) / nullif(users, 0), 4)), 0))
  from laurel.user_achievements c
  where c.tenant_id = achievement.tenant_id and c.achievement_id = achievement.id
$$;

comment on function laurel_private.achievement_stats(laurel.achievements, bigint) is
  'Completions, and rarity: their share of so many users, in percent, to 4 decimals. Rule A4.';

create function laurel.describe_achievements(user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_tenant uuid := laurel.current_tenant_id();
  given jsonb := laurel_private.parse_user_attributes(for_tenant, user_attributes);
  users bigint := laurel_private.count_users(for_tenant);
begin
  return (
    select coalesce(jsonb_agg(laurel_private.achievement_as_json(a) || laurel_private.achievement_stats(a, users) order by a.id), '[]')
    from laurel.achievements a
    where a.tenant_id = for_tenant and a.status in ('active', 'locked')
      and (given = '{}' or given @> a.user_attributes));
end
$$;

comment on function laurel.describe_achievements(text) is
  'Active and locked achievements with completions and rarity; with attributes, as plan:pro,country:fr or a JSON object, those open to users who have them. LR012, LR013. Rule A4.';

-- An achievement as one user has it: achievedAt is null until it is completed.
create function laurel_private.user_achievement_as_json(achievement laurel.achievements, user_id text)
  returns jsonb language sql stable as $$
  select laurel_private.achievement_as_json(achievement) || jsonb_build_object('achievedAt', (
    select laurel_private.instant_as_text(c.achieved_at) from laurel.user_achievements c
    where c.tenant_id = achievement.tenant_id and c.user_id = user_achievement_as_json.user_id and c.achievement_id = achievement.id))
$$;

create function laurel.user_achievement_list(user_id text, include_incomplete boolean default false)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_achievement_list.user_id);
  users bigint := laurel_private.count_users(for_user.tenant_id);
begin
  return (
    select coalesce(jsonb_agg(laurel_private.user_achievement_as_json(a, for_user.id) || laurel_private.achievement_stats(a, users)
      order by c.achieved_at, a.id), '[]')
    from laurel.achievements a
    left join laurel.user_achievements c on c.tenant_id = a.tenant_id and c.user_id = for_user.id and c.achievement_id = a.id
    where a.tenant_id = for_user.tenant_id and a.status <> 'archived'
      and (c.id is not null or include_incomplete and a.status in ('active', 'locked')));
end
$$;

comment on function laurel.user_achievement_list(text, boolean) is
  'A user''s achievements, earliest first, each with achievedAt, completions and rarity; with include_incomplete also those still open, last. LR002. Rule A4.';

grant execute on function laurel.describe_achievements(text), laurel.user_achievement_list(text, boolean)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded achievements/achievements_catalogue.sql
--! Included points/explain_award.sql
-- Why this many points (Q5): read from the ledger row alone, whatever was edited since.

create function laurel_private.award_explanation(award laurel.points_awards)
  returns jsonb language plpgsql stable as $$
declare
  cause text;
  boosts text;
  limits text;
  sentence text;
begin
  cause := case award.cause
    when 'metric' then format('%s points for every %s of %s, reached %s %s', award.trigger_points,
      award.metric_threshold, award.metric_key, award.firings, case when award.firings = 1 then 'time' else 'times' end)
    when 'user_creation' then format('%s points for a new user', award.trigger_points)
    when 'streak' then format('%s points for a streak that grew to %s', award.trigger_points, award.streak_length)
      || case when award.firings = 1 then '' else format(', %s times', award.firings) end
    when 'achievement' then format('%s points for an achievement', award.trigger_points)
    when 'time' then format('%s points for tick %s', award.trigger_points, award.tick)
    when 'adjustment' then format('adjusted by hand (%s)', award.reason)
  end;
  select string_agg(format('%s ×%s', b ->> 'name', b ->> 'multiplier'), ', ' order by n) into boosts
  from jsonb_array_elements(award.boosts) with ordinality as e (b, n);
  limits := case
    when award.points < award.rounded_points then format('; the cap of %s left room for %s',
      coalesce(award.max_points, 9007199254740991), award.points)
    when award.points > award.rounded_points then format('; the floor of 0 let only %s be taken', -award.points)
    else '' end;
  sentence := format('%s: %s = %s%s%s. Total %s → %s.',
    award.system_key, cause, award.base_points,
    case when boosts is null then '' else format('; boosted ×%s (%s) to %s, rounded %s to %s',
      award.boost_multiplier, boosts, trim_scale(award.base_points * award.boost_multiplier),
      award.rounding, award.rounded_points) end,
    limits, award.total_before, award.total_after);

  return jsonb_build_object(
    'id', award.id, 'userId', award.user_id, 'systemKey', award.system_key, 'sequence', award.sequence,
    'date', laurel_private.instant_as_text(award.occurred_at), 'cause', award.cause,
    'trigger', case when award.trigger_id is not null then jsonb_strip_nulls(jsonb_build_object(
      'id', award.trigger_id, 'type', award.cause, 'points', award.trigger_points,
      'metricKey', award.metric_key, 'metricThreshold', award.metric_threshold,
      'streakLength', award.streak_length, 'achievementId', award.achievement_id, 'tick', award.tick,
      'userAttributes', coalesce(award.user_attributes, '{}'),
      'eventAttributes', coalesce(award.event_attributes, '{}'))) end,
    'eventId', award.event_id, 'reason', award.reason,
    'firings', award.firings, 'basePoints', award.base_points,
    'boosts', coalesce(award.boosts, '[]'), 'boostMultiplier', award.boost_multiplier,
    'boostedPoints', trim_scale(award.base_points * award.boost_multiplier),
    'rounding', award.rounding, 'roundedPoints', award.rounded_points, 'maxPoints', award.max_points,
    'lostToCap', case when award.rounded_points > award.points then award.rounded_points - award.points else 0 end,
    'lostToFloor', case when award.rounded_points < award.points then award.points - award.rounded_points else 0 end,
    'points', award.points, 'totalBefore', award.total_before, 'totalAfter', award.total_after,
    'sentence', sentence);
end
$$;

create function laurel.explain_award(award_id uuid)
  returns jsonb language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  award laurel.points_awards;
begin
  -- By the ID alone, which the block range index finds: with the tenant beside it the planner may
  -- take the primary key, and read all of the tenant's.
  select a.* into award from laurel.points_awards a where a.id = award_id;
  -- Somebody else's award is as unknown as none.
  if award.id is null or award.tenant_id <> laurel.current_tenant_id() or not laurel_private.may_act_for(award.user_id) then
    perform laurel_private.fail('LR005', null, coalesce(award_id::text, 'null'));
  end if;
  return laurel_private.award_explanation(award);
end
$$;


comment on function laurel.explain_award(uuid) is
  'Why an award is as large as it is: cause, trigger, base, boosts and product, rounding, cap and floor, total before and after, and a sentence that says it. LR005 when unknown. Rule Q5.';
grant execute on function laurel.explain_award(uuid) to laurel_admin, laurel_service, laurel_user;
--! EndIncluded points/explain_award.sql
--! Included points/user_points.sql
-- Reading a user's points: total, level and latest awards (RP4, RP5).

create function laurel_private.active_system(for_tenant uuid, key text)
  returns laurel.points_systems language plpgsql stable as $$
declare
  system laurel.points_systems;
begin
  select s.* into system from laurel.points_systems s
  where s.tenant_id = for_tenant and s.key = active_system.key and s.archived_at is null;
  if system.id is null then
    perform laurel_private.fail('LR004', null, left(coalesce(key, 'null'), 255));
  end if;
  return system;
end
$$;

comment on function laurel_private.active_system(uuid, text) is
  'The tenant''s active points system with this key; LR004 when there is none.';

-- Boosts of a ledger row, of which some have an end, with their status of today.
create function laurel_private.ended_boosts_as_json(boosts jsonb, today date)
  returns jsonb language plpgsql stable as $$
begin
  return (
    select jsonb_agg(b || jsonb_build_object('status', laurel_private.boost_status(
      (b ->> 'start')::date, (b ->> 'end')::date, today)) order by n)
    from jsonb_array_elements(boosts) with ordinality as e (b, n));
end
$$;

-- A trigger that the compiled rules do not show: an inactive one.
create function laurel_private.rare_trigger_as_json(trigger_id uuid)
  returns jsonb language plpgsql stable as $$
begin
  return (select laurel_private.trigger_as_json(t) from laurel.points_triggers t where t.id = rare_trigger_as_json.trigger_id);
end
$$;

-- A ledger row as the REST contract shows an award, as JSON text; `snapshots` are those of the
-- compiled rules or of the shown system. The trigger and the boosts are shown as they are today; explain_award()
-- tells how they were. One expression, so that a query takes it in. Boosts come as text, so as to be
-- written once: that some have an end is seen in it, where a path query takes three times as long.
create function laurel_private.award_as_text(
  id uuid, points bigint, occurred_at timestamptz, total_after bigint, boosts text, trigger_id uuid,
  cause laurel.points_award_cause, reason text, snapshots jsonb, today date
) returns text language sql stable
  return concat('{"id":"', id, '","awarded":', points,
    ',"date":"', laurel_private.instant_as_text(occurred_at), '","total":', total_after,
    ',"boosts":', case
      when boosts is null then '[]'
      when strpos(boosts, '"end": "') > 0 then laurel_private.ended_boosts_as_json(boosts::jsonb, today)::text
      else boosts end,
    case when trigger_id is not null then concat(',"trigger":', coalesce(snapshots ->> trigger_id::text,
      laurel_private.rare_trigger_as_json(trigger_id)::text, 'null')) end,
    case when cause = 'adjustment' then concat(',"reason":', to_json(reason)) end, '}');

-- As text, since PostgreSQL would parse the whole once more to call it json: a fifth of the time.
create function laurel.user_points_as_text(system_key text, user_id text, awards int, as_of timestamptz)
  returns text language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  -- Planning it takes longer than running it; and a scan of a table, however small, asks the system for its size.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off as $$
declare
  page_size int := least(greatest(coalesce(awards, 10), 0), 100);
  first_id uuid := '00000000-0000-0000-0000-000000000000';
  last_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  answer text;
  is_whole boolean := as_of is not null;
begin
  if laurel_private.may_act_for(user_points_as_text.user_id) then
    -- The latest awards are nearly always in the latest partitions: the others are not even opened.
    -- Sequences are dense, so that it is seen when an award of the page is elsewhere.
    if as_of is null then
      first_id := laurel_private.first_uuid_v7(now() - interval '40 days');
      last_id := laurel_private.first_uuid_v7(now() + interval '1 day');
    end if;
    loop
      select concat('{', s.shown, ',"total":', stand.total,
          ',"level":', coalesce(s.levels[width_bucket(stand.total, s.level_thresholds)], 'null'),
          ',"awards":[', page.shown, ']}'),
        is_whole or page.sequences = least(page_size, stand.last_sequence)
      into answer, is_whole
      from laurel.tenants t
      join laurel_private.shown_systems s on s.tenant_id = t.id and s.system_key = user_points_as_text.system_key
      join laurel_private.user_states u on u.tenant_id = t.id and u.user_id = user_points_as_text.user_id
      cross join lateral (
        select case when as_of is null then coalesce(u.totals[p.place], 0)
            else laurel_private.total_as_of(t.id, s.system_id, u.user_id, as_of) end as total,
          coalesce(u.last_sequences[p.place], 0) as last_sequence
        from (select array_position(u.system_ids, s.system_id) as place) p) stand
      cross join lateral (
        select string_agg(laurel_private.award_as_text(a.id, a.points, a.occurred_at, a.total_after, a.boosts, a.trigger_id,
            a.cause, a.reason, s.triggers, (coalesce(as_of, now()) at time zone u.time_zone)::date),
            ',' order by a.sequence desc) as shown,
          count(*) filter (where a.sequence > stand.last_sequence - page_size) as sequences
        from (
          select a.sequence, a.id, a.points, a.occurred_at, a.total_after, a.boosts::text as boosts, a.trigger_id, a.cause, a.reason
          from laurel.points_awards a
          where a.tenant_id = t.id and a.user_id = u.user_id and a.system_id = s.system_id
            and a.id between first_id and last_id and (as_of is null or a.occurred_at <= as_of)
          order by a.sequence desc
          limit page_size) a) page
      where t.customer_id = laurel_private.current_customer_id() and t.archived_at is null;
      exit when is_whole is not false;
      first_id := '00000000-0000-0000-0000-000000000000';
      last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
      is_whole := true;
    end loop;
  end if;
  if answer is null then
    -- One of them says which is missing.
    perform laurel_private.own_user(user_points_as_text.user_id);
    perform laurel_private.active_system(laurel.current_tenant_id(), system_key);
  end if;
  return answer;
end
$$;

comment on function laurel.user_points_as_text(text, text, int, timestamptz) is
  'What user_points() returns, as text: for those who pass it on, as REST does.';

create function laurel.user_points(system_key text, user_id text, awards int default 10, as_of timestamptz default null)
  returns json language sql stable
  return laurel.user_points_as_text(system_key, user_id, awards, as_of)::json;

comment on function laurel.user_points(text, text, int, timestamptz) is
  'A user''s total, level and latest awards (at most 100, latest sequence first) in a points system; with as_of those of that moment, at the levels of today. LR004, LR002. Rule RP4.';

create function laurel_private.total_as_of(tenant_id uuid, system_id uuid, user_id text, as_of timestamptz)
  returns bigint language sql stable as $$
  select coalesce(sum(a.points), 0)::bigint from laurel.points_awards a
  where a.tenant_id = total_as_of.tenant_id and a.user_id = total_as_of.user_id and a.system_id = total_as_of.system_id
    and a.occurred_at <= as_of
$$;

create function laurel.balance_as_of(system_key text, user_id text, as_of timestamptz)
  returns bigint language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(balance_as_of.user_id);
begin
  return laurel_private.total_as_of(for_user.tenant_id, (laurel_private.active_system(for_user.tenant_id, system_key)).id, for_user.id, as_of);
end
$$;

comment on function laurel.balance_as_of(text, text, timestamptz) is
  'The user''s total at a past moment: the sum of its ledger rows dated up to it. LR004, LR002. Rules Q6, RP4.';

-- A page of the ledger: one more row than asked tells whether there is a next page.
create function laurel.user_awards(system_key text, user_id text, most int default 100, before_sequence bigint default null)
  returns jsonb language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_awards.user_id);
  system laurel.points_systems := laurel_private.active_system(for_user.tenant_id, system_key);
  today date := (now() at time zone coalesce(for_user.tz, 'UTC'))::date;
  page_size int := least(greatest(coalesce(most, 100), 1), 100);
  page laurel.points_awards[];
begin
  page := array(
    select a from laurel.points_awards a
    where a.tenant_id = for_user.tenant_id and a.user_id = for_user.id and a.system_id = system.id
      and (before_sequence is null or a.sequence < before_sequence)
    order by a.sequence desc
    limit page_size + 1);
  return jsonb_build_object(
    'awards', coalesce((
      select jsonb_agg(laurel_private.award_as_text(a.id, a.points, a.occurred_at, a.total_after, a.boosts::text,
          a.trigger_id, a.cause, a.reason, coalesce(r.snapshots, n.snapshots), today)::jsonb || jsonb_build_object(
        'sequence', a.sequence, 'explanation', laurel_private.award_explanation(a)) order by a.sequence desc)
      from unnest(page[:page_size]) a
      left join laurel_private.points_rules r on r.tenant_id = a.tenant_id and r.metric_key = a.metric_key
      left join laurel_private.points_rules n on n.tenant_id = a.tenant_id and n.metric_id = laurel_private.nil_metric()), '[]'),
    'nextCursor', case when cardinality(page) > page_size then (page[page_size]).sequence::text end);
end
$$;

comment on function laurel.user_awards(text, text, int, bigint) is
  'Every ledger row of a user in a system, latest sequence first, at most 100 a page, each with its explanation: {awards, nextCursor}; pass nextCursor as before_sequence for the next page, null ends the list. LR004, LR002. Rule RP4.';

grant execute on function laurel.user_points(text, text, int, timestamptz),
  laurel.user_points_as_text(text, text, int, timestamptz), laurel.balance_as_of(text, text, timestamptz),
  laurel.user_awards(text, text, int, bigint)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded points/user_points.sql
--! Included points/adjust_points.sql
-- A manual ledger row (Q3): not boosted, but capped and floored like any award.

create function laurel.adjust_points(
  system_key text, user_id text, points int, reason text, idempotency_key text default null
) returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  for_tenant uuid := laurel.current_tenant_id();
  system laurel.points_systems;
  locked laurel_private.locked_user;
  total bigint;
  last_sequence bigint;
  effects laurel_private.points_effects;
  boards laurel_private.leaderboard_rule[];
begin
  if coalesce(points, 0) = 0 then
    perform laurel_private.fail('LR018', 'points', case when points is null then 'they are missing' else 'they are 0' end);
  elsif reason is null or length(reason) not between 1 and 1000 then
    perform laurel_private.fail('LR019', 'reason',
      case when coalesce(reason, '') = '' then 'it is empty' else 'it has more than 1,000 characters' end);
  elsif length(idempotency_key) not between 1 and 255 then
    perform laurel_private.fail('LR014', 'idempotency_key',
      case when idempotency_key = '' then 'it is empty' else 'it has more than 255 characters' end);
  end if;
  perform laurel_private.active_system(for_tenant, system_key);
  -- lock_user() adds who is missing; here a missing user is refused instead.
  if not exists (select from laurel.users u where u.tenant_id = for_tenant and u.id = adjust_points.user_id) then
    perform laurel_private.fail('LR002', 'user_id', left(coalesce(adjust_points.user_id, 'null'), 255));
  end if;
  locked := laurel_private.lock_user(adjust_points.user_id);
  if locked.is_new then
    perform laurel_private.fail('LR002', 'user_id', adjust_points.user_id);
  end if;
  system := laurel_private.active_system(for_tenant, system_key);
  select b.total, b.last_sequence into total, last_sequence
  from laurel.points_balances b
  where b.tenant_id = for_tenant and b.user_id = adjust_points.user_id and b.system_id = system.id;

  effects := laurel_private.decide_points(locked,
    array[(null, 'adjustment', 1, system.id, system.key, system.max_points, points, null, null, null, null, null, null, false, 1)::laurel_private.trigger_rule],
    '{}',
    array[('adjustment', null, null, null, null, clock_timestamp(), reason, idempotency_key, null)::laurel_private.occasion],
    '{}', '{}', null, null, array[coalesce(total, 0)], array[coalesce(last_sequence, 0)]);

  if idempotency_key is not null then
    insert into laurel_private.idempotency_keys (tenant_id, user_id, scope_id, key, result_id)
    values (for_tenant, adjust_points.user_id, system.id, idempotency_key, effects.awards[1].id)
    on conflict do nothing;
    if not found then
      return laurel.user_points(system_key, adjust_points.user_id);
    end if;
  end if;
  perform laurel_private.write_awards(array[effects]),
    laurel_private.write_states(for_tenant, '{}', array[(system.id, system.key, system.max_points, null)::laurel_private.system_rule], array[effects]),
    laurel_private.restart_clocks(for_tenant, array[effects]);
  boards := laurel_private.combine_leaderboards(for_tenant, array[laurel_private.nil_metric()]);
  if cardinality(boards) > 0 then
    perform laurel_private.rank_users(for_tenant, '{}', boards, '{}', array[effects]);
  end if;
  perform laurel_private.announce_effects(for_tenant, r.webhook_types, array[(system.id, system.key, system.max_points,
    array(select l.points::bigint from laurel.points_levels l where l.system_id = system.id order by l.points))::laurel_private.system_rule], array[effects])
  from laurel_private.points_rules r
  where r.tenant_id = for_tenant and r.metric_id = laurel_private.nil_metric() and r.webhook_types <> '{}';
  return laurel.user_points(system_key, adjust_points.user_id);
end
$$;

comment on function laurel.adjust_points(text, text, int, text, text) is
  'Adds or takes points by hand, with a reason, and returns the user''s points. Not boosted; capped and floored. The idempotency key counts once per user and system. LR002, LR004, LR014, LR018, LR019. Rule Q3.';
grant execute on function laurel.adjust_points(text, text, int, text, text) to laurel_admin, laurel_service;
--! EndIncluded points/adjust_points.sql
--! Included leaderboards/backfill_leaderboards.sql
-- What happened before a leaderboard was activated, but since its start, counts (LB1). A user's first
-- event after the activation sums its own history (write_scores()); everybody else is looked up here,
-- by the worker, batch by batch, each batch one transaction. Where it stands is a row, so that it can
-- stop and go on anywhere.

create table laurel_private.leaderboard_backfills (
  tenant_id uuid not null,
  leaderboard_id uuid not null,
  requested_at timestamptz not null default clock_timestamp(),
  -- Set at the first look: transactions before this one may still go by rules without the leaderboard.
  begins_after xid8,
  after_user_id text collate "C" not null default '',
  looked_at bigint not null default 0,
  finished_at timestamptz,
  constraint leaderboard_backfills_are_one_per_leaderboard primary key (tenant_id, leaderboard_id),
  constraint backfill_is_of_a_leaderboard foreign key (tenant_id, leaderboard_id)
    references laurel.leaderboards (tenant_id, id) on delete cascade
);

comment on table laurel_private.leaderboard_backfills is 'How far the look back at what happened before a leaderboard''s activation has come.';
alter table laurel_private.leaderboard_backfills enable row level security;

create function laurel_private.tg_leaderboards__backfill()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from laurel_private.leaderboard_backfills b where b.tenant_id = new.tenant_id and b.leaderboard_id = new.id;
  if new.rank_by = 'streak' or laurel_private.has_history(laurel_private.rule_of(new), new.starts_on) then
    insert into laurel_private.leaderboard_backfills (tenant_id, leaderboard_id) values (new.tenant_id, new.id);
  end if;
  return null;
end
$$;

create trigger leaderboards__backfill_new after insert on laurel.leaderboards
  for each row when (new.generation > 0) execute function laurel_private.tg_leaderboards__backfill();
create trigger leaderboards__backfill_changed after update on laurel.leaderboards
  for each row when (old.generation <> new.generation) execute function laurel_private.tg_leaderboards__backfill();

-- Enters these users, who are locked, by their history, where they have no entry yet.
create function laurel_private.enter_by_history(board laurel_private.leaderboard_rule, tenant_id uuid, user_ids text[])
  returns void language sql volatile as $$
  with entered as (
    insert into laurel.leaderboard_entries
      (tenant_id, user_id, leaderboard_id, generation, run_on, value, reached_id, breakdown, group_id)
    select s.tenant_id, s.user_id, board.leaderboard_id, board.generation, h.run_on, h.value, h.reached_id,
      n.breakdown, laurel_private.group_of(board, n.breakdown)
    from unnest(user_ids) q (id)
    cross join lateral (
      select s.* from laurel_private.user_states s
      where s.tenant_id = enter_by_history.tenant_id and s.user_id = q.id offset 0) s
    cross join lateral laurel_private.leaderboard_history(board, s.tenant_id, s.user_id, s.time_zone) h
    cross join lateral (select laurel_private.breakdown_of(board, s.attributes) as breakdown) n
    on conflict (tenant_id, user_id, leaderboard_id, generation, run_on) do nothing
    returning *
  )
  select laurel_private.append_moves(enter_by_history.tenant_id, array_agg((e.leaderboard_id, e.generation, e.run_on,
    null, null, null, e.group_id, e.value, e.reached_id)::laurel_private.entry_move))
  from entered e
$$;

create function laurel_private.backfill_leaderboards(most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  backfill laurel_private.leaderboard_backfills;
  board laurel.leaderboards;
  user_ids text[];
begin
  update laurel_private.leaderboard_backfills b set begins_after = pg_current_xact_id()
  where b.begins_after is null
    -- One ahead of all transactions comes from the server that this database was restored from.
    or b.finished_at is null and b.begins_after >= pg_snapshot_xmax(pg_current_snapshot())
      and b.begins_after is distinct from pg_current_xact_id_if_assigned();
  if found then
    return 1;
  end if;
  select b.* into backfill from laurel_private.leaderboard_backfills b
  where b.finished_at is null and b.begins_after < pg_snapshot_xmin(pg_current_snapshot())
  order by b.requested_at
  limit 1
  for update skip locked;
  if not found then
    return 0;
  end if;
  select b.* into board from laurel.leaderboards b where b.id = backfill.leaderboard_id;
  user_ids := array(
    select s.user_id from laurel_private.user_states s
    where s.tenant_id = backfill.tenant_id and s.user_id > backfill.after_user_id
    order by s.user_id
    limit greatest(most, 1));
  -- What is decided for them meanwhile by rules without the leaderboard is seen after this.
  perform from unnest(user_ids) q (id)
  cross join lateral (
    select from laurel_private.user_states s
    where s.tenant_id = backfill.tenant_id and s.user_id = q.id
    for no key update) locked;
  if board.rank_by = 'streak' then
    perform laurel_private.rank_streaks(backfill.tenant_id, user_ids);
  else
    perform laurel_private.enter_by_history(laurel_private.rule_of(board), backfill.tenant_id, user_ids);
  end if;
  update laurel_private.leaderboard_backfills b
  set after_user_id = coalesce(user_ids[cardinality(user_ids)], b.after_user_id),
    looked_at = b.looked_at + cardinality(user_ids),
    finished_at = case when cardinality(user_ids) < greatest(most, 1) then clock_timestamp() end
  where b.tenant_id = backfill.tenant_id and b.leaderboard_id = backfill.leaderboard_id;
  return greatest(cardinality(user_ids), 1);
end
$$;

comment on function laurel_private.backfill_leaderboards(int) is
  'Enters the next users, at most so many, into a leaderboard that was activated after its start; returns 0 when there is nothing to do now. Rule LB1.';
--! EndIncluded leaderboards/backfill_leaderboards.sql
--! Included webhooks/announce_leaderboards.sql
-- What happens on leaderboards becomes messages: a run started, its rankings changed, it became final, a user's rank
-- changed. Called by the looks of leaderboards/upkeep_leaderboards.sql alone. An event moves the ranks of others
-- than its user, whom its transaction must not touch; so ranks are told as the looks find them, at most once in 15
-- minutes and never twice, and an event's own answer says at once what it did.

create type laurel_private.rank_change as (user_id text, rank int, value numeric, previous_rank int, previous_value numeric);

-- A leaderboard with the dates of one of its runs, as the inside of a JSON object.
create function laurel_private.run_as_text(board laurel.leaderboards, run_on date, status text)
  returns text language sql stable as $$
  select trim(laurel_private.leaderboard_as_json(board, run_as_text.status, run_as_text.run_on,
    laurel_private.run_end(laurel_private.rule_of(board), run_as_text.run_on))::text, '{}')
$$;

-- Everybody on the boards of a run, by rank; where users are ranked in groups, with what makes theirs. At most 1,000.
create function laurel_private.rankings_as_text(board laurel.leaderboards, run_on date, as_of timestamptz)
  returns text language plpgsql stable as $$
#variable_conflict use_column
declare
  rule laurel_private.leaderboard_rule := laurel_private.rule_of(board);
begin
  return (
    select '[' || coalesce(string_agg((jsonb_build_object('userId', s.user_id, 'userName', u.name, 'rank', s.rank, 'value', floor(s.value))
      || case when rule.breakdown_attributes = '{}' then '{}'
        else jsonb_build_object('breakdownAttributeValues', laurel_private.attribute_pairs(e.breakdown)) end)::text,
      ',' order by s.rank, s.user_id), '') || ']'
    from (
      select s.* from laurel_private.run_standing(rule, rankings_as_text.run_on, as_of) s
      order by s.rank, s.user_id limit 1000) s
    join laurel.users u on u.tenant_id = s.tenant_id and u.id = s.user_id
    join laurel.leaderboard_entries e on e.tenant_id = s.tenant_id and e.user_id = s.user_id
      and e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = rankings_as_text.run_on);
end
$$;

-- `kind` is started, changed or finished.
create function laurel_private.announce_leaderboard(board laurel.leaderboards, run_on date, kind text, as_of timestamptz)
  returns void language plpgsql volatile as $$
declare
  type constant text := 'leaderboard.' || kind;
begin
  if type <> all (laurel_private.wanted_webhooks(board.tenant_id)) then
    return;
  end if;
  perform laurel_private.write_messages(board.tenant_id, array[(null, type, concat('{"type":"', type, '","leaderboard":{',
    laurel_private.run_as_text(board, run_on, case when kind = 'finished' then 'finished' else 'active' end),
    ',"rankings":', laurel_private.rankings_as_text(board, run_on, as_of), '}}'))::laurel_private.outgoing_message]);
end
$$;

comment on function laurel_private.announce_leaderboard(laurel.leaderboards, date, text, timestamptz) is
  'Writes a leaderboard.started, changed or finished message about a run, with its rankings, if somebody wants it. Rule H1.';

-- The users exist, and are held by the caller so that they stay.
create function laurel_private.announce_ranks(board laurel.leaderboards, run_on date, changes laurel_private.rank_change[])
  returns void language plpgsql volatile as $$
declare
  shown_board text;
begin
  if changes = '{}' or 'leaderboard.rank_changed' <> all (laurel_private.wanted_webhooks(board.tenant_id)) then
    return;
  end if;
  shown_board := laurel_private.run_as_text(board, run_on, 'active');
  perform laurel_private.write_messages(board.tenant_id, array(
    select (c.user_id, 'leaderboard.rank_changed', concat('{"type":"leaderboard.rank_changed","user":', u.shown,
      ',"leaderboard":{', shown_board, ',"rank":', coalesce(c.rank::text, 'null'), ',"value":', coalesce(floor(c.value)::text, 'null'),
      ',"previousRank":', coalesce(c.previous_rank::text, 'null'), ',"previousValue":', coalesce(floor(c.previous_value)::text, 'null'),
      '}}'))::laurel_private.outgoing_message
    from unnest(changes) c
    cross join lateral (
      select laurel_private.user_as_json(u)::text as shown from laurel.users u
      where u.tenant_id = board.tenant_id and u.id = c.user_id
      offset 0) u
    order by c.rank, c.user_id));
end
$$;

comment on function laurel_private.announce_ranks(laurel.leaderboards, date, laurel_private.rank_change[]) is
  'Writes a leaderboard.rank_changed message for each of these users, if somebody wants them. Rule H1.';
--! EndIncluded webhooks/announce_leaderboards.sql
--! Included leaderboards/upkeep_leaderboards.sql
-- What happens to leaderboards as time passes: runs start and become final, leaderboards finish, places
-- change. None of it decides anything: reads and the flow judge by dates. It is written down here, by
-- the worker, which tells it (webhooks/announce_leaderboards.sql), so that it can be looked up later (daily history).

-- A run that has begun somewhere. Written by upkeep_leaderboards() alone.
create table laurel_private.leaderboard_runs (
  tenant_id uuid not null,
  leaderboard_id uuid not null,
  generation int not null,
  run_on date not null,
  started_at timestamptz not null,
  looked_at timestamptz,
  finished_at timestamptz,
  constraint leaderboard_runs_are_recorded_once primary key (tenant_id, leaderboard_id, generation, run_on),
  constraint run_is_of_a_leaderboard foreign key (tenant_id, leaderboard_id)
    references laurel.leaderboards (tenant_id, id) on delete cascade
);

create index leaderboard_runs_to_look_at on laurel_private.leaderboard_runs (looked_at nulls first) where finished_at is null;
comment on table laurel_private.leaderboard_runs is 'Runs of leaderboards that have started, with when they were found to be final.';
alter table laurel_private.leaderboard_runs enable row level security;

-- A user's place at the last look of a UTC day; one row for every day on which it changed.
create table laurel_private.leaderboard_days (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  leaderboard_id uuid not null,
  generation int not null,
  run_on date not null,
  day date not null,
  -- Null when the user fell off the board.
  rank int,
  value numeric,
  is_latest boolean not null default true,
  constraint leaderboard_days_are_one_per_user_and_day primary key (tenant_id, user_id, leaderboard_id, generation, run_on, day),
  constraint leaderboard_day_is_of_a_user foreign key (tenant_id, user_id) references laurel.users on delete cascade
);

create index leaderboard_days_last_seen on laurel_private.leaderboard_days (leaderboard_id, generation, run_on) where is_latest;
comment on table laurel_private.leaderboard_days is 'Daily ranking history of users.';
alter table laurel_private.leaderboard_days enable row level security;

-- Everybody on the boards of a run's groups. Groups are found by skipping from one to the next in the
-- index, so that a look reads participants, not entries.
create function laurel_private.run_standing(rule laurel_private.leaderboard_rule, run_on date, as_of timestamptz)
  returns table (tenant_id uuid, user_id text, rank int, value numeric, group_id uuid) language sql stable as $$
  with recursive found (group_id) as (
    (select e.group_id from laurel.leaderboard_entries e
      where e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = run_standing.run_on
        and e.group_id is not null
      order by e.group_id limit 1)
    union all
    select (select e.group_id from laurel.leaderboard_entries e
      where e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = run_standing.run_on
        and e.group_id > f.group_id
      order by e.group_id limit 1)
    from found f where f.group_id is not null
  )
  select s.* from found f
  cross join lateral (
    select e.tenant_id, e.user_id, (row_number() over (order by -e.value, e.reached_id))::int, e.value, e.group_id
    from laurel.leaderboard_entries e
    where e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = run_standing.run_on
      and e.group_id = f.group_id and -e.value < 0 and laurel_private.entry_holds(e, as_of)
    order by -e.value, e.reached_id
    limit rule.max_participants) s
  where f.group_id is not null
$$;

-- Writes down where the participants of a run stand, and what changed since the last look; returns how many changed.
create function laurel_private.look_at_run(
  rule laurel_private.leaderboard_rule, run laurel_private.leaderboard_runs, as_of timestamptz, is_told boolean
) returns int language plpgsql volatile as $$
declare
  changes int;
  moves laurel_private.rank_change[];
  board laurel.leaderboards;
  long_groups uuid[];
begin
  with standing as materialized (
    select s.* from laurel_private.run_standing(rule, run.run_on, as_of) s
  ),
  changed as (
    select coalesce(s.user_id, l.user_id) as user_id, s.rank, s.value, l.rank as previous_rank, l.value as previous_value, l.day as last_day
    from standing s
    full join (
      select d.* from laurel_private.leaderboard_days d
      where d.leaderboard_id = run.leaderboard_id and d.generation = run.generation and d.run_on = run.run_on and d.is_latest) l
      on l.tenant_id = s.tenant_id and l.user_id = s.user_id
    where (s.rank, s.value) is distinct from (l.rank, l.value)
  ),
  -- One that is being erased meanwhile is left out.
  existing as (
    select c.* from changed c
    join laurel.users u on u.tenant_id = run.tenant_id and u.id = c.user_id
    for key share of u skip locked
  ),
  today as (
    select least((as_of at time zone 'UTC')::date, laurel_private.run_end(rule, run.run_on)) as day
  ),
  superseded as (
    update laurel_private.leaderboard_days d set is_latest = false
    from existing c, today t
    where d.tenant_id = run.tenant_id and d.user_id = c.user_id and d.leaderboard_id = run.leaderboard_id
      and d.generation = run.generation and d.run_on = run.run_on and d.day = c.last_day and d.day <> t.day
  ),
  written as (
    insert into laurel_private.leaderboard_days as d (tenant_id, user_id, leaderboard_id, generation, run_on, day, rank, value)
    select run.tenant_id, c.user_id, run.leaderboard_id, run.generation, run.run_on, t.day, c.rank, c.value
    from existing c cross join today t
    on conflict (tenant_id, user_id, leaderboard_id, generation, run_on, day) do update
    set rank = excluded.rank, value = excluded.value, is_latest = true
  ),
  moved as (
    select array_agg((c.user_id, c.rank, c.value, c.previous_rank, c.previous_value)::laurel_private.rank_change) as users
    from existing c where c.rank is distinct from c.previous_rank
  )
  select (select count(*) from existing), coalesce((select m.users from moved m), '{}'),
    array(select s.group_id from standing s where s.rank = laurel_private.least_entries_with_marks())
  into changes, moves, long_groups;
  if rule.rank_by <> 'streak' and long_groups <> '{}' then
    perform laurel_private.request_marks(run, long_groups);
  end if;
  if changes > 0 and is_told then
    select b.* into strict board from laurel.leaderboards b where b.id = run.leaderboard_id;
    perform laurel_private.announce_ranks(board, run.run_on, moves);
    perform laurel_private.announce_leaderboard(board, run.run_on, 'changed', as_of);
  end if;
  return changes;
end
$$;

-- Any moment may be asked for, in any order, by any number of workers: what was done is not done again.
create function laurel_private.upkeep_leaderboards(as_of timestamptz default now(), most int default 100)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
declare
  done int := 0;
  added int;
  board laurel.leaderboards;
  rule laurel_private.leaderboard_rule;
  run laurel_private.leaderboard_runs;
  is_final boolean;
  begun_runs date[];
  caller_tenant text := current_setting('laurel.tenant', true);
begin
  -- Runs that have begun, those while no worker ran included. Runs that were final when the
  -- leaderboard was activated are recorded, and not told.
  for board in
    select b.* from laurel.leaderboards b
    join laurel.tenants t on t.id = b.tenant_id and t.archived_at is null
    where b.status in ('active', 'finished') and b.starts_on <= ((as_of + interval '14 hours') at time zone 'UTC')::date
    order by b.id
  loop
    exit when done >= most;
    rule := laurel_private.rule_of(board);
    with begun as (
      insert into laurel_private.leaderboard_runs (tenant_id, leaderboard_id, generation, run_on, started_at)
      select board.tenant_id, board.id, board.generation, laurel_private.nth_run(rule, n), as_of
      from generate_series(
        coalesce((
          select laurel_private.run_number(rule, max(r.run_on)) + 1 from laurel_private.leaderboard_runs r
          where r.tenant_id = board.tenant_id and r.leaderboard_id = board.id and r.generation = board.generation), 0),
        laurel_private.run_number(rule, least(((as_of + interval '14 hours') at time zone 'UTC')::date, board.ends_on,
          case when board.finished_at is not null then greatest(board.starts_on, (board.finished_at at time zone 'UTC')::date) end))) n
      limit most - done
      on conflict do nothing
      returning run_on
    ),
    told as (
      select array_agg(b.run_on order by b.run_on) as runs
      from begun b where coalesce(laurel_private.final_at(rule, b.run_on) > greatest(as_of, board.activated_at), true)
    )
    select (select count(*) from begun), (select t.runs from told t) into added, begun_runs;
    perform laurel_private.announce_leaderboard(board, b.run_on, 'started', as_of) from unnest(begun_runs) b (run_on);
    done := done + added;
  end loop;

  -- Looks, at most one in 15 minutes each, and a last one once nothing can change any more.
  for run in
    select r.* from laurel_private.leaderboard_runs r
    where r.finished_at is null and (r.looked_at is null or r.looked_at <= as_of - interval '15 minutes')
      and exists (select from laurel.tenants t where t.id = r.tenant_id and t.archived_at is null)
      and not exists (
        select from laurel_private.leaderboard_backfills b
        where b.tenant_id = r.tenant_id and b.leaderboard_id = r.leaderboard_id and b.finished_at is null)
    order by r.looked_at nulls first
    limit greatest(most - done, 1)
    for update skip locked
  loop
    select b.* into board from laurel.leaderboards b where b.id = run.leaderboard_id;
    rule := laurel_private.rule_of(board);
    is_final := coalesce(laurel_private.final_at(rule, run.run_on) <= as_of, false);
    if board.generation <> run.generation or board.status not in ('active', 'finished') then
      delete from laurel_private.leaderboard_runs r
      where r.tenant_id = run.tenant_id and r.leaderboard_id = run.leaderboard_id and r.generation = run.generation and r.run_on = run.run_on;
    else
      perform laurel_private.look_at_run(rule, run, as_of, coalesce(laurel_private.final_at(rule, run.run_on) > board.activated_at, true));
      update laurel_private.leaderboard_runs r set looked_at = as_of, finished_at = case when is_final then as_of end
      where r.tenant_id = run.tenant_id and r.leaderboard_id = run.leaderboard_id and r.generation = run.generation and r.run_on = run.run_on;
      if is_final and laurel_private.final_at(rule, run.run_on) > board.activated_at then
        perform laurel_private.announce_leaderboard(board, run.run_on, 'finished', as_of);
      end if;
    end if;
    if is_final or board.generation <> run.generation or board.status <> 'active' then
      delete from laurel_private.leaderboard_marks m
      where m.tenant_id = run.tenant_id and m.leaderboard_id = run.leaderboard_id and m.generation = run.generation and m.run_on = run.run_on;
    end if;
    done := done + 1;
  end loop;

  -- Leaderboards whose last run is over. The configuration's lock first, as every change of it. Not those of deleted
  -- tenants: nobody can act for one, and its customer ID may be another's by now.
  for board in
    select b.* from laurel.leaderboards b
    join laurel.tenants t on t.id = b.tenant_id and t.archived_at is null
    where b.status = 'active' and b.ends_on <= (as_of at time zone 'UTC')::date and laurel_private.shown_status(b, as_of) = 'finished'
    order by b.id limit greatest(most - done, 0)
  loop
    perform set_config('laurel.tenant', (select t.customer_id from laurel.tenants t where t.id = board.tenant_id), true);
    update laurel.leaderboards b
    set status = 'finished', finished_at = laurel_private.final_at(laurel_private.rule_of(b), laurel_private.run_of(laurel_private.rule_of(b), b.ends_on))
    where b.id = board.id and b.status = 'active' and laurel_private.shown_status(b, as_of) = 'finished';
    perform set_config('laurel.tenant', coalesce(caller_tenant, ''), true);
    done := done + 1;
  end loop;

  -- Entries of generations that are over, and of archived leaderboards.
  for board in
    select b.* from laurel.leaderboards b where b.generation > 1 or b.status = 'archived' and b.generation > 0 order by b.id
  loop
    exit when done >= most;
    -- First, so that the entries' ends are nothing to tell.
    delete from laurel_private.leaderboard_marks m
    where m.tenant_id = board.tenant_id and m.leaderboard_id = board.id
      and (m.generation < board.generation or board.status = 'archived');
    delete from laurel.leaderboard_entries e using (
      select d.tenant_id, d.user_id, d.generation, d.run_on from laurel.leaderboard_entries d
      where d.leaderboard_id = board.id and (d.generation < board.generation or board.status = 'archived')
      limit most) old
    where e.tenant_id = old.tenant_id and e.user_id = old.user_id and e.leaderboard_id = board.id
      and e.generation = old.generation and e.run_on = old.run_on;
    get diagnostics added = row_count;
    done := done + added;
  end loop;
  return done;
end
$$;

comment on function laurel_private.upkeep_leaderboards(timestamptz, int) is
  'Writes down what happened to leaderboards by this moment: runs started and finished, places, leaderboards that are over. Does a bounded part, about so many, and returns how much; 0 when nothing is left. Rule LB1.';
--! EndIncluded leaderboards/upkeep_leaderboards.sql
--! Included leaderboards/keep_marks.sql
-- The worker's part of leaderboard_marks.sql. New marks take three looks, each a transaction of its own: one proposes
-- them; one that finds the proposal committed notes its own ID, so that whoever gets a later one sees the proposal; and
-- once all transactions up to that ID have ended, one counts. Marks in use stay so meanwhile.

-- From how many entries on a group has marks: fewer are counted as fast without. A function so that tests can lower it.
create function laurel_private.least_entries_with_marks()
  returns int language sql immutable parallel safe return 200;

-- The more marks, the fewer entries to count, and the more moves to fold.
create function laurel_private.most_marks()
  returns int language sql immutable parallel safe return 8;

-- Wants marks for the groups of a run that have enough entries, and lets those that have some be looked at.
create function laurel_private.request_marks(run laurel_private.leaderboard_runs, group_ids uuid[])
  returns void language sql volatile as $$
  insert into laurel_private.leaderboard_marks as m (tenant_id, leaderboard_id, generation, run_on, group_id)
  select run.tenant_id, run.leaderboard_id, run.generation, run.run_on, g.id
  from unnest(group_ids) g (id)
  order by g.id
  on conflict on constraint marks_are_one_set_per_group do update set is_due = true where not m.is_due
$$;

-- Proposes marks spread evenly over the first places; without enough entries the group has none. The caller has locked the row.
create function laurel_private.propose_marks(marks laurel_private.leaderboard_marks, max_participants int)
  returns void language plpgsql volatile as $$
declare
  new_values numeric[];
  new_ids uuid[];
begin
  select array_agg(p.value order by p.place desc), array_agg(p.reached_id order by p.place desc) into new_values, new_ids
  from (
    select o.value, o.reached_id, row_number() over (order by o.value desc, o.reached_id) as place, count(*) over () as places
    from (
      select e.value, e.reached_id from laurel.leaderboard_entries e
      where e.leaderboard_id = marks.leaderboard_id and e.generation = marks.generation and e.run_on = marks.run_on
        and e.group_id = marks.group_id and -e.value < 0
      order by -e.value, e.reached_id
      limit max_participants) o) p
  where p.places >= laurel_private.least_entries_with_marks()
    and p.place * laurel_private.most_marks() / p.places > (p.place - 1) * laurel_private.most_marks() / p.places;
  if new_values is null then
    delete from laurel_private.leaderboard_marks m
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
  else
    update laurel_private.leaderboard_marks m
    set next_id = laurel_private.uuid_v7(), next_values = new_values, next_ids = new_ids, next_after = null
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
  end if;
end
$$;

-- Puts proposed marks in the place of those in use. One statement counts entries and moves: what it does not see comes as a
-- move. Gives them up when too many entries have passed them meanwhile.
create function laurel_private.count_marks(marks laurel_private.leaderboard_marks, max_participants int)
  returns void language plpgsql volatile as $$
declare
  most constant int := 2 * max_participants + 100;
begin
  with passed as materialized (
    select laurel_private.marks_passed(marks.next_values, marks.next_ids, o.value, o.reached_id) as marks
    from (
      select e.value, e.reached_id from laurel.leaderboard_entries e
      where e.leaderboard_id = marks.leaderboard_id and e.generation = marks.generation and e.run_on = marks.run_on
        and e.group_id = marks.group_id and -e.value <= -marks.next_values[1]
      order by -e.value, e.reached_id
      limit most) o
  ),
  move as materialized (
    select v.passed_before, v.passed_after from laurel_private.leaderboard_moves v
    where v.tenant_id = marks.tenant_id and v.leaderboard_id = marks.leaderboard_id and v.generation = marks.generation
      and v.run_on = marks.run_on and v.group_id = marks.group_id and v.marks_id = marks.next_id
  ),
  counted as (
    select array_agg(((select count(*) from passed p where p.marks >= i)
      - (select count(*) filter (where v.passed_after >= i) - count(*) filter (where v.passed_before >= i) from move v)) order by i)::int[] as counts
    from generate_subscripts(marks.next_values, 1) i
  )
  update laurel_private.leaderboard_marks m
  set marks_id = m.next_id, mark_values = m.next_values, mark_ids = m.next_ids, counts = c.counts, is_due = false,
    next_id = null, next_values = null, next_ids = null, next_after = null
  from counted c
  where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
    and m.run_on = marks.run_on and m.group_id = marks.group_id
    and (select count(*) from passed p where p.marks > 0) < most;
  if not found then
    update laurel_private.leaderboard_marks m
    set next_id = null, next_values = null, next_ids = null, next_after = null, is_due = true
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
  end if;
end
$$;

-- Whether places have moved so far that others would be better marked. Nothing depends on it but speed.
create function laurel_private.have_marks_drifted(marks laurel_private.leaderboard_marks, max_participants int)
  returns boolean language plpgsql stable as $$
declare
  last_count int := marks.counts[1];
  spacing int := last_count / cardinality(marks.counts) + 1;
  behind int;
begin
  if last_count - max_participants > spacing / 2 then
    return true;
  end if;
  for i in 1..cardinality(marks.counts) loop
    if marks.counts[i] - coalesce(marks.counts[i + 1], 0) > 2 * spacing then
      return true;
    end if;
  end loop;
  select count(*) into behind
  from (
    select from laurel.leaderboard_entries e
    where e.leaderboard_id = marks.leaderboard_id and e.generation = marks.generation and e.run_on = marks.run_on
      and e.group_id = marks.group_id and (-e.value, e.reached_id) > (-marks.mark_values[1], marks.mark_ids[1]) and -e.value < 0
    limit spacing) o;
  return least(max_participants, last_count + behind) - last_count > spacing / 2;
end
$$;

-- What there is to do for the marks of one group, which the caller has locked; returns whether it is worth to come back at once.
create function laurel_private.keep_marks_of(marks laurel_private.leaderboard_marks, as_of timestamptz)
  returns boolean language plpgsql volatile as $$
declare
  board laurel.leaderboards;
  is_void boolean;
  new_counts int[];
begin
  select b.* into board from laurel.leaderboards b where b.id = marks.leaderboard_id;
  if board.status is distinct from 'active' or board.generation <> marks.generation
    or laurel_private.final_at(laurel_private.rule_of(board), marks.run_on) <= as_of
  then
    delete from laurel_private.leaderboard_marks m
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
    return true;
  end if;
  -- Moves of marks that nobody uses any more, and all when some are void: then with the marks.
  with move as (
    delete from laurel_private.leaderboard_moves v
    where v.tenant_id = marks.tenant_id and v.leaderboard_id = marks.leaderboard_id and v.generation = marks.generation
      and v.run_on = marks.run_on and v.group_id = marks.group_id and (v.marks_id is null or v.marks_id is distinct from marks.next_id)
    returning v.marks_id, v.passed_before, v.passed_after
  )
  select coalesce(bool_or(v.marks_id is null), false), (
    select array_agg(marks.counts[i] + (
      select count(*) filter (where v.passed_after >= i) - count(*) filter (where v.passed_before >= i)
      from move v where v.marks_id = marks.marks_id) order by i)
    from generate_subscripts(marks.counts, 1) i)
  into is_void, new_counts from move v;
  if is_void then
    update laurel_private.leaderboard_marks m
    set marks_id = null, mark_values = null, mark_ids = null, counts = null,
      next_id = null, next_values = null, next_ids = null, next_after = null, is_due = true
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
    return true;
  end if;
  if new_counts is distinct from marks.counts then
    update laurel_private.leaderboard_marks m
    set counts = new_counts
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
    marks.counts := new_counts;
    marks.is_due := true;
  end if;
  if marks.next_id is null then
    if marks.marks_id is null or marks.is_due and laurel_private.have_marks_drifted(marks, board.max_participants) then
      perform laurel_private.propose_marks(marks, board.max_participants);
      return true;
    end if;
    update laurel_private.leaderboard_marks m
    set is_due = false
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id and m.is_due;
    return false;
  elsif marks.next_after is null
    -- One ahead of all transactions comes from the server that this database was restored from.
    or marks.next_after >= pg_snapshot_xmax(pg_current_snapshot()) and marks.next_after is distinct from pg_current_xact_id_if_assigned()
  then
    update laurel_private.leaderboard_marks m
    set next_after = pg_current_xact_id()
    where m.tenant_id = marks.tenant_id and m.leaderboard_id = marks.leaderboard_id and m.generation = marks.generation
      and m.run_on = marks.run_on and m.group_id = marks.group_id;
    return true;
  elsif marks.next_after < pg_snapshot_xmin(pg_current_snapshot()) then
    perform laurel_private.count_marks(marks, board.max_participants);
    return true;
  end if;
  return false;
end
$$;

-- Any number of workers may call it; each group is one's at a time. Groups that are wanted, and those with moves, which are
-- found by skipping from one to the next in the index.
create function laurel_private.keep_marks(as_of timestamptz default now(), most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  place record;
  marks laurel_private.leaderboard_marks;
  again int := 0;
begin
  for place in
    with recursive moved as (
      (select v.tenant_id, v.leaderboard_id, v.generation, v.run_on, v.group_id
        from laurel_private.leaderboard_moves v
        order by v.tenant_id, v.leaderboard_id, v.generation, v.run_on, v.group_id limit 1)
      union all
      select n.* from moved f
      cross join lateral (
        select v.tenant_id, v.leaderboard_id, v.generation, v.run_on, v.group_id
        from laurel_private.leaderboard_moves v
        where (v.tenant_id, v.leaderboard_id, v.generation, v.run_on, v.group_id)
          > (f.tenant_id, f.leaderboard_id, f.generation, f.run_on, f.group_id)
        order by v.tenant_id, v.leaderboard_id, v.generation, v.run_on, v.group_id limit 1) n
    )
    select w.* from (
      (select m.tenant_id, m.leaderboard_id, m.generation, m.run_on, m.group_id
        from laurel_private.leaderboard_marks m where m.is_due or m.next_id is not null limit most)
      union
      (select f.* from moved f limit most)) w
    limit most
  loop
    select m.* into marks from laurel_private.leaderboard_marks m
    where m.tenant_id = place.tenant_id and m.leaderboard_id = place.leaderboard_id and m.generation = place.generation
      and m.run_on = place.run_on and m.group_id = place.group_id
    for update skip locked;
    if found then
      again := again + laurel_private.keep_marks_of(marks, as_of)::int;
    else
      -- Of marks that are gone, or whose group never had any.
      delete from laurel_private.leaderboard_moves v
      where v.ctid = any (array(
        select x.ctid from laurel_private.leaderboard_moves x
        where x.tenant_id = place.tenant_id and x.leaderboard_id = place.leaderboard_id and x.generation = place.generation
          and x.run_on = place.run_on and x.group_id = place.group_id
          and not exists (
            select from laurel_private.leaderboard_marks m
            where m.tenant_id = x.tenant_id and m.leaderboard_id = x.leaderboard_id and m.generation = x.generation
              and m.run_on = x.run_on and m.group_id = x.group_id)
        for update skip locked));
    end if;
  end loop;
  return again;
end
$$;

comment on function laurel_private.keep_marks(timestamptz, int) is
  'Folds moves into the counts of marks, and picks, counts and replaces marks, of so many groups; returns for how many there is more to do at once. Rule LB1.';
--! EndIncluded leaderboards/keep_marks.sql
--! Included points/points_catalogue.sql
-- What everybody may read of a points system: itself with its active triggers, its boosts, its
-- levels (RP3, RP5), and how many users have how much (RP1, L4). Definers: summaries count users
-- whom the caller may not see, and let out nothing but the counts.

create function laurel.describe_points_system(system_key text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
begin
  return laurel_private.system_as_json(system) || jsonb_build_object('triggers', (
    select coalesce(jsonb_agg(laurel_private.trigger_as_json(t) order by t.id), '[]')
    from laurel.points_triggers t
    where t.tenant_id = system.tenant_id and t.system_id = system.id and t.status = 'active'));
end
$$;

comment on function laurel.describe_points_system(text) is
  'A points system with its active triggers, as REST shows it. LR004. Rule RP3.';

-- Boosts that are not of one user, judged in UTC (B3).
create function laurel.describe_points_boosts(system_key text, include_finished boolean)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  today date := (now() at time zone 'UTC')::date;
begin
  return (
    select coalesce(jsonb_agg(laurel_private.boost_as_json(b)
      || jsonb_build_object('status', laurel_private.boost_status(b.starts_on, b.ends_on, today)) order by b.id), '[]')
    from laurel.points_boosts b
    where b.tenant_id = system.tenant_id and b.system_id = system.id and b.user_id is null
      and b.is_active and b.archived_at is null
      and (include_finished or b.ends_on is null or b.ends_on >= today));
end
$$;

comment on function laurel.describe_points_boosts(text, boolean) is
  'The boosts of a system that are not for a single user, without finished ones unless asked. LR004. Rule B3.';

create function laurel.describe_points_levels(system_key text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
begin
  return (
    select coalesce(jsonb_agg(laurel_private.level_as_json(l) order by l.points), '[]')
    from laurel.points_levels l where l.system_id = system.id);
end
$$;

comment on function laurel.describe_points_levels(text) is 'The levels of a system, lowest first. LR004. Rule L1.';

-- The boosts that apply to a user today, in the user's own time zone (B2).
create function laurel.user_points_boosts(system_key text, user_id text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  system laurel.points_systems;
  found_user laurel.users;
  today date;
begin
  found_user := laurel_private.own_user(user_id);
  system := laurel_private.active_system(found_user.tenant_id, system_key);
  today := (now() at time zone coalesce(found_user.tz, 'UTC'))::date;
  return (
    select coalesce(jsonb_agg(laurel_private.boost_as_json(b) order by b.id), '[]')
    from laurel.points_boosts b
    where b.tenant_id = system.tenant_id and b.system_id = system.id and b.is_active and b.archived_at is null
      and (b.user_id is null or b.user_id = found_user.id)
      and b.starts_on <= today and (b.ends_on is null or b.ends_on >= today)
      and found_user.attributes @> b.user_attributes);
end
$$;

comment on function laurel.user_points_boosts(text, text) is
  'The boosts that apply to a user now: its own, and others whose filter it matches. LR002, LR004. Rule B2.';

-- A filter as addresses carry it: key:value,key:value. The first colon of a pair divides it. As commas divide pairs,
-- values that hold one are written as a JSON object. No key begins with a brace, so none of the pairs that were ever
-- understood reads like one; an escape character would have changed the meaning of values that hold it.
create function laurel_private.parse_user_attributes(tenant_id uuid, filter text)
  returns jsonb language plpgsql stable as $$
declare
  form constant text := 'write them as key:value,key:value, or as a JSON object of strings';
  attributes jsonb;
begin
  if coalesce(filter, '') = '' then
    return '{}';
  elsif left(filter, 1) = '{' then
    begin
      attributes := filter;
    exception when data_exception or program_limit_exceeded then
      perform laurel_private.fail('LR013', 'userAttributes', form);
    end;
  elsif exists (select from string_to_table(filter, ',') pair where position(':' in pair) < 2) then
    perform laurel_private.fail('LR013', 'userAttributes', form);
  else
    select jsonb_object_agg(split_part(pair, ':', 1), substr(pair, position(':' in pair) + 1)) into attributes
    from string_to_table(filter, ',') pair;
  end if;
  perform laurel_private.check_attributes(tenant_id, 'user', attributes, false, 'userAttributes');
  return attributes;
end
$$;

comment on function laurel_private.parse_user_attributes(uuid, text) is
  'A filter such as plan:pro,country:fr, or {"city": "London, Ontario"}, as jsonb; LR013 when it is of another form, LR012 for undeclared keys. Rule RP1.';

create function laurel.points_summary(system_key text, user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  filter jsonb := laurel_private.parse_user_attributes(system.tenant_id, user_attributes);
  width bigint;
  users bigint[];
begin
  -- The highest total rounded up to a power of ten, at least 10, in ten equal ranges.
  width := greatest(('1' || repeat('0', length((greatest(laurel_private.highest_total(system, filter), 1) - 1)::text)))::bigint, 10) / 10;
  users := laurel_private.users_by_total(system, array(select r.no * width + 1 from generate_series(0, 9) r (no)), filter);
  return (
    select jsonb_agg(jsonb_build_object(
      'from', case when r.no > 0 then (r.no - 1) * width + 1 else 0 end,
      'to', r.no * width,
      'users', users[r.no + 1]) order by r.no)
    from generate_series(0, 10) r (no));
end
$$;

comment on function laurel.points_summary(text, text) is
  'How many users have how many points: 0, then ten equal ranges up to the highest total rounded up to a power of ten, as [{from, to, users}]. user_attributes (key:value,key:value, or a JSON object) narrows it to matching users. LR004, LR012, LR013. Rule RP1.';

create function laurel.points_level_summary(system_key text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  thresholds bigint[] := array(
    select l.points::bigint from laurel.points_levels l where l.system_id = system.id order by l.points);
  users bigint[];
begin
  if thresholds = '{}' then
    perform laurel_private.fail('LR024', null, system_key);
  end if;
  users := laurel_private.users_by_total(system, thresholds, '{}');
  return (
    select jsonb_agg(jsonb_build_object('level', laurel_private.level_as_json(l),
      'users', users[array_position(thresholds, l.points::bigint) + 1]) order by l.points)
    from laurel.points_levels l
    where l.system_id = system.id);
end
$$;

comment on function laurel.points_level_summary(text) is
  'How many users stand at each level, lowest first, as [{level, users}]; users without points count with a total of 0. LR004; LR024 when there are no levels. Rule L4.';

grant execute on function laurel.describe_points_system(text), laurel.describe_points_boosts(text, boolean),
  laurel.describe_points_levels(text), laurel.user_points_boosts(text, text),
  laurel.points_summary(text, text), laurel.points_level_summary(text)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded points/points_catalogue.sql
--! Included leaderboards/leaderboard_rankings.sql
-- Reading leaderboards as REST shows them: all, one with its rankings, and one user's place. Right at
-- any moment, whether or not the worker has run: status, runs and ranks are judged when they are read.

create function laurel_private.visible_leaderboard(tenant_id uuid, key text)
  returns laurel.leaderboards language plpgsql stable as $$
declare
  board laurel.leaderboards;
begin
  select b.* into board from laurel.leaderboards b
  where b.tenant_id = visible_leaderboard.tenant_id and b.key = visible_leaderboard.key and b.status in ('active', 'finished');
  if board.id is null then
    perform laurel_private.fail('LR008', null, left(coalesce(key, 'null'), 255));
  end if;
  return board;
end
$$;

-- The run to show: the one that a given day lies in, if it has begun anywhere, or else the current one
-- of somebody for whom it is today; of a finished leaderboard the last.
create function laurel_private.run_to_show(board laurel.leaderboards, given date, today date, as_of timestamptz)
  returns date language plpgsql stable as $$
declare
  rule laurel_private.leaderboard_rule := laurel_private.rule_of(board);
  finished_on date := (board.finished_at at time zone 'UTC')::date;
  run_on date;
begin
  if given is null then
    return laurel_private.run_of(rule, greatest(board.starts_on, least(today, board.ends_on, finished_on)));
  end if;
  run_on := laurel_private.run_of(rule, given);
  if run_on is null or run_on > ((as_of + interval '14 hours') at time zone 'UTC')::date or run_on > finished_on then
    perform laurel_private.fail('LR009', null, board.key, given::text);
  end if;
  return run_on;
end
$$;

comment on function laurel_private.run_to_show(laurel.leaderboards, date, date, timestamptz) is
  'The first day of the run that is asked for. LR009 when there never was one. Rule LB1.';

create function laurel.describe_leaderboards(include_finished boolean default false)
  returns jsonb language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(laurel_private.leaderboard_as_json(b, s.status, b.starts_on, b.ends_on) order by b.id), '[]')
  from laurel.leaderboards b
  cross join lateral (select laurel_private.shown_status(b, now()) as status) s
  where b.tenant_id = laurel.current_tenant_id() and b.status in ('active', 'finished')
    and (s.status <> 'finished' or include_finished)
$$;

comment on function laurel.describe_leaderboards(boolean) is
  'Active and scheduled leaderboards, and on request finished ones. Rule LB1.';

-- Which groups are meant: attributes for all breakdown attributes name one, for some of them those that
-- share these, ranked together.
create function laurel_private.breakdown_filter(board laurel.leaderboards, user_attributes text)
  returns jsonb language plpgsql stable as $$
declare
  given jsonb := laurel_private.parse_user_attributes(board.tenant_id, user_attributes);
begin
  if board.breakdown_attributes = '{}' and given <> '{}' then
    perform laurel_private.fail('LR028', 'userAttributes', format('the leaderboard %s has no breakdown attributes, so userAttributes cannot be given', board.key));
  elsif board.breakdown_attributes <> '{}' and given = '{}' then
    perform laurel_private.fail('LR028', 'userAttributes',
      format('userAttributes must say which users of the leaderboard %s are meant, by %s', board.key, array_to_string(board.breakdown_attributes, ', ')));
  elsif not array(select jsonb_object_keys(given)) <@ board.breakdown_attributes then
    perform laurel_private.fail('LR028', 'userAttributes',
      format('the leaderboard %s is broken down by %s alone', board.key, array_to_string(board.breakdown_attributes, ', ')));
  end if;
  return given;
end
$$;

-- Who is on the board of a run, in order. One group is read from the index, as far as the board goes.
create function laurel_private.leaderboard_standing(
  rule laurel_private.leaderboard_rule, run_on date, breakdown jsonb, as_of timestamptz
) returns table (tenant_id uuid, user_id text, rank int, value numeric, group_id uuid) language plpgsql stable as $$
#variable_conflict use_column
declare
  only_group uuid := laurel_private.group_of(rule, breakdown);
begin
  if only_group is not null then
    return query
      select e.tenant_id, e.user_id, (row_number() over (order by -e.value, e.reached_id))::int, e.value, e.group_id
      from laurel.leaderboard_entries e
      where e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = leaderboard_standing.run_on
        and e.group_id = only_group and -e.value < 0 and laurel_private.entry_holds(e, as_of)
      order by -e.value, e.reached_id
      limit rule.max_participants;
  else
    return query
      select e.tenant_id, e.user_id, (row_number() over (order by -e.value, e.reached_id))::int, e.value, e.group_id
      from laurel.leaderboard_entries e
      where e.leaderboard_id = rule.leaderboard_id and e.generation = rule.generation and e.run_on = leaderboard_standing.run_on
        and e.group_id is not null and e.breakdown @> leaderboard_standing.breakdown and -e.value < 0 and laurel_private.entry_holds(e, as_of)
      order by -e.value, e.reached_id
      limit rule.max_participants;
  end if;
end
$$;

comment on function laurel_private.leaderboard_standing(laurel_private.leaderboard_rule, date, jsonb, timestamptz) is
  'The participants of a run in the groups that have these attribute values, by rank; at most max_participants.';

create function laurel.leaderboard_rankings(
  leaderboard_key text, most int default null, skipped int default 0, run_on date default null,
  user_id text default null, user_attributes text default ''
) returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  board laurel.leaderboards := laurel_private.visible_leaderboard(laurel.current_tenant_id(), leaderboard_key);
  rule laurel_private.leaderboard_rule := laurel_private.rule_of(board);
  breakdown jsonb := laurel_private.breakdown_filter(board, user_attributes);
  as_of timestamptz := clock_timestamp();
  status text := laurel_private.shown_status(board, as_of);
  shown_run date;
  places int := coalesce(most, least(10, board.max_participants));
begin
  if places not between 0 and board.max_participants then
    perform laurel_private.fail('LR028', 'limit',
      format('limit must be from 0 to %s, as many as the leaderboard %s has participants', board.max_participants, board.key));
  elsif coalesce(skipped, 0) < 0 then
    perform laurel_private.fail('LR028', 'offset', 'offset must not be negative');
  end if;
  shown_run := laurel_private.run_to_show(board, leaderboard_rankings.run_on, (as_of at time zone 'UTC')::date, as_of);
  return laurel_private.leaderboard_as_json(board, status, board.starts_on, board.ends_on)
    || jsonb_build_object('rankings', (
      with standing as materialized (
        select s.* from laurel_private.leaderboard_standing(rule, shown_run, breakdown, as_of) s
        -- Streaks are there before their leaderboard has begun.
        where status <> 'scheduled'
      ),
      first as (
        select case when leaderboard_rankings.user_id is null then 1
          else (select s.rank from standing s where s.user_id = leaderboard_rankings.user_id) end + coalesce(skipped, 0)::bigint as rank
      )
      select coalesce(jsonb_agg(jsonb_build_object('userId', s.user_id, 'userName', u.name, 'rank', s.rank,
        'value', floor(s.value)) order by s.rank), '[]')
      from first f
      join standing s on s.rank >= f.rank and s.rank < f.rank + places
      join laurel.users u on u.tenant_id = s.tenant_id and u.id = s.user_id));
end
$$;

comment on function laurel.leaderboard_rankings(text, int, int, date, text, text) is
  'A leaderboard with the rankings of its current run, or of the run that run_on lies in: `most` of them (10), from rank 1 + skipped on, or with a user ID from that user''s rank + skipped on. user_attributes, as plan:pro,country:fr or a JSON object, names the group of a leaderboard with breakdown attributes. LR008, LR009, LR012, LR013, LR028. Rule LB1.';

-- The days on which a user's place changed, as the worker saw it at the end of its last look of each UTC
-- day; today's is judged now.
create function laurel_private.leaderboard_history_as_json(
  entry laurel.leaderboard_entries, rank int, last_day date, days int
) returns jsonb language sql stable as $$
  with seen as (
    select d.day, d.rank, d.value from laurel_private.leaderboard_days d
    where d.tenant_id = entry.tenant_id and d.user_id = entry.user_id and d.leaderboard_id = entry.leaderboard_id
      and d.generation = entry.generation and d.run_on = entry.run_on and d.day <> last_day
    union all
    select last_day, leaderboard_history_as_json.rank, case when leaderboard_history_as_json.rank is not null then entry.value end
  ),
  changed as (
    select s.*, lag(s.rank) over w as previous_rank, lag(s.value) over w as previous_value
    from seen s
    window w as (order by s.day)
  )
  select coalesce(jsonb_agg(jsonb_build_object('date', c.day, 'timestamp', c.day || 'T00:00:00.000Z', 'previousRank', c.previous_rank,
    'rank', c.rank, 'previousValue', floor(c.previous_value), 'value', floor(c.value)) order by c.day), '[]')
  from (
    select c.* from changed c
    where (c.rank, c.value) is distinct from (c.previous_rank, c.previous_value)
    order by c.day desc limit days) c
$$;

create function laurel.user_leaderboard(leaderboard_key text, user_id text, run_on date default null, days int default 10)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  for_user laurel.users := laurel_private.own_user(user_leaderboard.user_id);
  board laurel.leaderboards := laurel_private.visible_leaderboard(for_user.tenant_id, leaderboard_key);
  rule laurel_private.leaderboard_rule := laurel_private.rule_of(board);
  as_of timestamptz := clock_timestamp();
  status text := laurel_private.shown_status(board, as_of);
  shown_run date := laurel_private.run_to_show(board, user_leaderboard.run_on, (as_of at time zone coalesce(for_user.tz, 'UTC'))::date, as_of);
  entry laurel.leaderboard_entries;
  place_rank int;
begin
  if coalesce(days, 10) not between 0 and 100 then
    perform laurel_private.fail('LR028', 'numEvents', 'numEvents must be from 0 to 100');
  end if;
  select e.* into entry from laurel.leaderboard_entries e
  where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id and e.leaderboard_id = board.id
    and e.generation = board.generation and e.run_on = shown_run and status <> 'scheduled';
  if found then
    select p.rank into place_rank from laurel_private.place_of(entry, board.max_participants,
      case when board.rank_by = 'streak' then as_of end) p;
  else
    entry.tenant_id := for_user.tenant_id;
    entry.user_id := for_user.id;
    entry.leaderboard_id := board.id;
    entry.generation := board.generation;
    entry.run_on := shown_run;
  end if;
  return laurel_private.leaderboard_as_json(board, status, board.starts_on, board.ends_on)
    || jsonb_build_object('rank', place_rank, 'value', case when place_rank is not null then floor(entry.value) end,
      'history', laurel_private.leaderboard_history_as_json(entry, place_rank,
        least((as_of at time zone 'UTC')::date, laurel_private.run_end(rule, shown_run)), coalesce(days, 10)));
end
$$;

comment on function laurel.user_leaderboard(text, text, date, int) is
  'A user''s rank and value in the current run of a leaderboard, by the user''s own calendar, or in the run that run_on lies in; null when it is not on the board. History holds the last days, at most so many, on which they changed. LR002, LR008, LR009, LR028. Rule LB1.';

grant execute on function laurel.describe_leaderboards(boolean), laurel.leaderboard_rankings(text, int, int, date, text, text),
  laurel.user_leaderboard(text, text, date, int) to laurel_admin, laurel_service, laurel_user;
--! EndIncluded leaderboards/leaderboard_rankings.sql
--! Included points/watched_balances.sql
-- Live updates: what the server asks, about once a second and for all watchers at once, while somebody watches.
-- Nothing of it touches an award's transaction: no NOTIFY there, which would make commits queue.

create function laurel_private.watched_balances(customer_ids text[], user_ids text[], key_ids uuid[])
  returns table (no int, is_allowed boolean, balances jsonb) language sql stable as $$
  select w.no::int,
    t.id is not null and exists (select from laurel_private.api_keys k where k.id = w.key_id and k.revoked_at is null),
    coalesce((
      select jsonb_agg(jsonb_build_object('systemKey', b.system_key, 'total', b.total::text, 'level', b.level,
        'lastSequence', b.last_sequence::text) order by b.system_key)
      from laurel.points_balances b where b.tenant_id = t.id and b.user_id = w.user_id), '[]')
  from unnest(customer_ids, user_ids, key_ids) with ordinality as w (customer_id, user_id, key_id, no)
  left join laurel.tenants t on t.customer_id = coalesce(nullif(w.customer_id, ''), 'default') and t.archived_at is null
  order by w.no
$$;

comment on function laurel_private.watched_balances(text[], text[], uuid[]) is
  'For each watcher, by place: whether its key and tenant still are there, and the balances of the user it watches. Asked by the server, as owner.';
--! EndIncluded points/watched_balances.sql
--! Included metrics/user_metric_totals.sql
-- Reading a user's metrics as REST shows them: every metric in use, with 0 where the user has none.

create function laurel_private.active_metric(for_tenant uuid, key text)
  returns laurel.metrics language plpgsql stable as $$
declare
  metric laurel.metrics;
begin
  select m.* into metric from laurel.metrics m
  where m.tenant_id = for_tenant and m.key = active_metric.key and m.archived_at is null;
  if metric.id is null then
    perform laurel_private.fail('LR003', null, left(coalesce(key, 'null'), 255));
  end if;
  return metric;
end
$$;

comment on function laurel_private.active_metric(uuid, text) is
  'The tenant''s metric in use with this key; LR003 when there is none.';

create function laurel_private.user_metric_as_json(for_user laurel.users, metric laurel.metrics)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', metric.id, 'key', metric.key, 'name', metric.name, 'status', 'active',
    'current', coalesce((
      select trim_scale(s.metric_totals[array_position(s.metric_ids, metric.id)])
      from laurel_private.user_states s where s.tenant_id = for_user.tenant_id and s.user_id = for_user.id), 0),
    'achievements', coalesce((
      select jsonb_agg(laurel_private.user_achievement_as_json(a, for_user.id) order by a.metric_value, a.id)
      from laurel.achievements a
      where a.tenant_id = metric.tenant_id and a.metric_id = metric.id and a.status in ('active', 'locked')), '[]'))
$$;

create function laurel.user_metric_total(metric_key text, user_id text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_id);
begin
  return laurel_private.user_metric_as_json(for_user, laurel_private.active_metric(for_user.tenant_id, metric_key));
end
$$;

comment on function laurel.user_metric_total(text, text) is 'A user''s total on one metric in use. LR002, LR003.';

create function laurel.user_metric_totals(user_id text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_id);
begin
  return (
    select coalesce(jsonb_agg(laurel_private.user_metric_as_json(for_user, m) order by m.id), '[]')
    from laurel.metrics m where m.tenant_id = for_user.tenant_id and m.archived_at is null);
end
$$;

comment on function laurel.user_metric_totals(text) is 'A user''s totals on all metrics in use. LR002.';

grant execute on function laurel.user_metric_total(text, text), laurel.user_metric_totals(text)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded metrics/user_metric_totals.sql
--! Included users/preferences.sql
-- A user's preferences: where to notify it, and how its streak is judged. Stored as given; read by
-- whatever sends notifications, and by streaks.

create function laurel_private.preferences_as_json(preferences jsonb)
  returns jsonb language sql immutable parallel safe
  return '{"notifications": {}, "streak": {"enabled": true}}'::jsonb || jsonb_build_object(
    'notifications', coalesce(preferences -> 'notifications', '{}'),
    'streak', '{"enabled": true}'::jsonb || coalesce(preferences -> 'streak', '{}'));

create function laurel_private.check_preferences(tenant_id uuid, given jsonb)
  returns void language plpgsql stable as $$
declare
  entry record;
  streak jsonb := coalesce(nullif(given -> 'streak', 'null'), '{}');
  unknown text;
begin
  if jsonb_typeof(given) is distinct from 'object' then
    perform laurel_private.fail('LR022', null, 'they must be an object');
  end if;
  for entry in select e.key, e.value from jsonb_each(given) e loop
    if entry.key not in ('notifications', 'streak') then
      perform laurel_private.fail('LR022', left(entry.key, 100), 'unknown property: ' || left(entry.key, 100));
    elsif jsonb_typeof(entry.value) not in ('object', 'null') then
      perform laurel_private.fail('LR022', entry.key, entry.key || ' must be an object');
    end if;
  end loop;
  for entry in select e.key, e.value from jsonb_each(coalesce(nullif(given -> 'notifications', 'null'), '{}')) e loop
    if entry.key not in ('achievement_completed', 'recap', 'reactivation', 'streak_reminder') then
      perform laurel_private.fail('LR022', 'notifications.' || left(entry.key, 100), 'unknown notification: ' || left(entry.key, 100));
    elsif jsonb_typeof(entry.value) <> 'array'
      or entry.value - 'email' - 'push' <> '[]' or jsonb_array_length(entry.value) > 2 then
      perform laurel_private.fail('LR022', 'notifications.' || entry.key, format('notifications.%s must be a list of email and push', entry.key));
    end if;
  end loop;

  for entry in select e.key, e.value from jsonb_each(streak) e loop
    case entry.key
      when 'enabled' then
        if jsonb_typeof(entry.value) <> 'boolean' then
          perform laurel_private.fail('LR022', 'streak.enabled', 'streak.enabled must be true or false');
        end if;
      when 'evaluationMode' then
        if entry.value not in ('"AND"', '"OR"') then
          perform laurel_private.fail('LR022', 'streak.evaluationMode', 'streak.evaluationMode must be AND or OR');
        end if;
      when 'metrics' then
        if jsonb_typeof(entry.value) <> 'array' or jsonb_array_length(entry.value) > 100 or exists (
          select from jsonb_array_elements(entry.value) m
          where jsonb_typeof(m -> 'key') is distinct from 'string' or jsonb_typeof(m -> 'threshold') is distinct from 'number'
            or (m ->> 'threshold')::numeric not between 0.000000001 and 999999999999999) then
          perform laurel_private.fail('LR022', 'streak.metrics',
            'streak.metrics must be a list of at most 100 metrics, each with a key and a threshold above 0');
        end if;
        select string_agg(m ->> 'key', ', ') into unknown from jsonb_array_elements(entry.value) m
        where not exists (
          select from laurel.metrics x
          where x.tenant_id = check_preferences.tenant_id and x.key = m ->> 'key' and x.archived_at is null);
        if unknown is not null then
          perform laurel_private.fail('LR022', 'streak.metrics', 'streak.metrics names unknown metrics: ' || left(unknown, 500));
        end if;
      when 'daysOff' then
        if jsonb_typeof(entry.value) <> 'array' or jsonb_array_length(entry.value) > 6 or exists (
          select from jsonb_array_elements(entry.value) d where d not in ('0', '1', '2', '3', '4', '5', '6'))
          or jsonb_array_length(entry.value) <> (select count(distinct d) from jsonb_array_elements(entry.value) d) then
          perform laurel_private.fail('LR022', 'streak.daysOff', 'streak.daysOff must be at most 6 different weekdays, 0 (Sunday) to 6');
        end if;
      else
        perform laurel_private.fail('LR022', 'streak.' || left(entry.key, 100), 'unknown property: streak.' || left(entry.key, 100));
    end case;
  end loop;
  if streak - 'enabled' <> '{}' and not (
    select s.has_customization from laurel_private.streak_settings s where s.tenant_id = check_preferences.tenant_id) then
    perform laurel_private.fail('LR041', 'streak', 'change how its streak is judged while streak customization is off');
  end if;
end
$$;

comment on function laurel_private.check_preferences(uuid, jsonb) is
  'Raises LR022 for preferences of another form, LR041 for streak rules of its own while the tenant has them switched off.';

create function laurel.user_preferences(user_id text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_id);
begin
  return laurel_private.preferences_as_json(for_user.preferences);
end
$$;

comment on function laurel.user_preferences(text) is 'A user''s preferences: {notifications, streak}. LR002.';

create function laurel.update_user_preferences(user_id text, preferences jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  for_user laurel.users := laurel_private.own_user(update_user_preferences.user_id);
  given jsonb := coalesce(update_user_preferences.preferences, '{}');
  after jsonb;
begin
  perform laurel_private.check_preferences(for_user.tenant_id, given);
  -- The state's lock first, as events take it: how the streak is judged changes under it.
  perform from laurel_private.user_states s where s.tenant_id = for_user.tenant_id and s.user_id = for_user.id for no key update;
  -- Each part merges: what is not given stays.
  update laurel.users u
  set preferences = jsonb_build_object(
      'notifications', coalesce(u.preferences -> 'notifications', '{}') || coalesce(nullif(given -> 'notifications', 'null'), '{}'),
      'streak', coalesce(u.preferences -> 'streak', '{}') || coalesce(nullif(given -> 'streak', 'null'), '{}')),
    updated_at = clock_timestamp()
  where u.tenant_id = for_user.tenant_id and u.id = for_user.id
  returning u.preferences into after;
  return laurel_private.preferences_as_json(after);
end
$$;

comment on function laurel.update_user_preferences(text, jsonb) is
  'Changes the given preferences of a user, and returns all. LR002, LR022; LR041 for streak rules of its own while they are switched off.';

grant execute on function laurel.user_preferences(text), laurel.update_user_preferences(text, jsonb)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded users/preferences.sql
--! Included streaks/read_streaks.sql
-- Reading streaks, settled up to the reader's own moment (S3).

create type laurel_private.streak_reading as (
  rule laurel_private.streak_rule,
  zone text,
  pauses datemultirange,
  effects laurel_private.streak_effects
);

create function laurel_private.read_streak(tenant_id uuid, user_id text, as_of timestamptz)
  returns laurel_private.streak_reading language plpgsql stable as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  for_user laurel_private.user_states;
begin
  select s.* into settings from laurel_private.streak_settings s where s.tenant_id = tenant_id;
  select s.* into for_user from laurel_private.user_states s where s.tenant_id = tenant_id and s.user_id = user_id;
  return (
    laurel_private.streak_rule_for(settings, for_user.streak_preferences), for_user.time_zone,
    laurel_private.streak_pauses_of(tenant_id, user_id),
    laurel_private.decide_user_streak(settings, for_user, '{}', '{}', as_of))::laurel_private.streak_reading;
end
$$;

-- The run a streak is in, read or stored; null when there is none.
create function laurel_private.streak_runs_of(reading laurel_private.streak_reading)
  returns setof laurel_private.streak_runs language sql stable as $$
  select r.* from unnest((reading.effects).runs) r
  union all
  select r.* from laurel_private.streak_runs r
  where r.tenant_id = ((reading.effects).state).tenant_id and r.user_id = (reading.effects).user_id
    and r.frequency = ((reading.effects).state).frequency and not (reading.effects).is_rebuilt
    and r.first_period <> all ((reading.effects).removed)
    and r.first_period not in (select x.first_period from unnest((reading.effects).runs) x)
$$;

create function laurel_private.streak_periods_of(reading laurel_private.streak_reading, since date)
  returns setof laurel_private.streak_periods language sql stable as $$
  select p.* from unnest((reading.effects).periods) p where p.period_start >= since
  union all
  select p.* from laurel_private.streak_periods p
  where p.tenant_id = ((reading.effects).state).tenant_id and p.user_id = (reading.effects).user_id
    and p.frequency = ((reading.effects).state).frequency and not (reading.effects).is_rebuilt and p.period_start >= since
    and p.period_start not in (select x.period_start from unnest((reading.effects).periods) x)
$$;

-- The latest periods, oldest first, each with the length the streak had in it.
create function laurel_private.streak_history(reading laurel_private.streak_reading, most int)
  returns jsonb language plpgsql stable as $$
#variable_conflict use_variable
declare
  rule laurel_private.streak_rule := reading.rule;
  state laurel_private.user_streaks := (reading.effects).state;
  period date := laurel_private.streak_period(state.settled_on, rule.frequency);
  starts date[] := '{}';
begin
  for i in 1..most loop
    starts := period || starts;
    period := laurel_private.streak_period(period - 1, rule.frequency);
  end loop;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
        'periodStart', s.period_start, 'periodEnd', laurel_private.next_streak_period(s.period_start, rule.frequency) - 1,
        'length', case when not rule.is_enabled or p.reset_at is not null and s.period_start >= r.last_period then 0
          else coalesce(r.length - (
            select count(*) from laurel_private.streak_periods_of(reading, s.period_start + 1) x
            where x.kind = 'satisfied' and x.period_start <= r.last_period), 0) end,
        'usedPause', coalesce(p.kind = 'paused', false))
      || case when rule.max_freezes is null then '{}' else jsonb_build_object('usedFreeze', coalesce(p.kind = 'frozen', false)) end
      || case when p.reset_at is null then '{}' else jsonb_build_object('resetAt', laurel_private.instant_as_text(p.reset_at)) end
      order by s.period_start), '[]')
    from unnest(starts) s (period_start)
    left join laurel_private.streak_runs_of(reading) r on s.period_start between r.first_period and r.through_period
    left join laurel_private.streak_periods_of(reading, starts[1]) p on p.period_start = s.period_start);
end
$$;

-- The place among the tenant's running streaks; users with equally long ones share it.
create function laurel_private.streak_rank(tenant_id uuid, length int, as_of timestamptz)
  returns bigint language sql stable as $$
  select case when streak_rank.length > 0 then 1 + (
    select count(*) from laurel_private.user_streaks u
    where u.tenant_id = streak_rank.tenant_id and u.length > streak_rank.length
      and (u.due_at > as_of or u.due_at is null
        or (((laurel_private.read_streak(u.tenant_id, u.user_id, as_of)).effects).state).length > streak_rank.length)) end
$$;

create function laurel_private.user_streak_at(for_user laurel.users, history_periods int, as_of timestamptz)
  returns jsonb language plpgsql stable as $$
declare
  reading laurel_private.streak_reading := laurel_private.read_streak(for_user.tenant_id, for_user.id, as_of);
  state laurel_private.user_streaks := (reading.effects).state;
begin
  return ((reading.effects).answer)::jsonb || jsonb_build_object(
    'extended', case when state.length > 0 then laurel_private.instant_as_text(state.extended_at) end,
    'rank', laurel_private.streak_rank(for_user.tenant_id, state.length, as_of),
    'longest', state.longest,
    'streakHistory', laurel_private.streak_history(reading, history_periods),
    'pauses', (
      select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'start', p.starts_on, 'end', p.ends_on) order by p.starts_on), '[]')
      from laurel_private.streak_pauses p
      where p.tenant_id = for_user.tenant_id and p.user_id = for_user.id and p.archived_at is null
        and p.ends_on >= state.settled_on));
end
$$;

create function laurel.user_streak(user_id text, history_periods int default 7)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_streak.user_id);
begin
  if history_periods is null or history_periods not between 0 and 366 then
    perform laurel_private.fail('LR023', 'historyPeriods', 'historyPeriods is 0 to 366');
  end if;
  return laurel_private.user_streak_at(for_user, history_periods, clock_timestamp());
end
$$;

comment on function laurel.user_streak(text, int) is
  'A user''s streak: length, started, current period, when it expires, freezes, upcoming pauses, rank, the longest, and its latest periods, oldest first. LR002, LR023. Rules S2, S3.';

create function laurel.list_streaks(user_ids text[])
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  as_of timestamptz := clock_timestamp();
  for_tenant uuid := laurel.current_tenant_id();
begin
  if coalesce(cardinality(user_ids), 0) not between 1 and 100 or array_position(user_ids, null) is not null then
    perform laurel_private.fail('LR010', 'user_ids', 'a list of 1 to 100 user IDs is expected');
  end if;
  perform laurel_private.require_own_user(i.id) from unnest(user_ids) i (id);
  return (
    -- Users who are not known have no streak.
    select jsonb_agg(jsonb_build_object('userId', s.id, 'streakLength', coalesce(s.length, 0),
      'extended', case when s.length > 0 then laurel_private.instant_as_text(s.extended_at) end)
      order by coalesce(s.length, 0) desc, s.extended_at, s.id)
    from (
      select i.id, (((r.reading).effects).state).length as length, (((r.reading).effects).state).extended_at as extended_at
      from (select distinct i.id from unnest(user_ids) i (id)) i
      left join laurel.users u on u.tenant_id = for_tenant and u.id = i.id
      left join lateral (select laurel_private.read_streak(u.tenant_id, u.id, as_of) as reading where u.id is not null offset 0) r on true) s);
end
$$;

comment on function laurel.list_streaks(text[]) is
  'Streak lengths of up to 100 users, longest first; 0 for users without one, known or not. LR010, LR041.';

create function laurel.streak_rankings(type text default 'active', most int default 100)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  as_of timestamptz := clock_timestamp();
  for_tenant uuid := laurel.current_tenant_id();
begin
  if type is null or type not in ('active', 'longest') then
    perform laurel_private.fail('LR023', 'type', 'type is active or longest');
  elsif most is null or most not between 1 and 100 then
    perform laurel_private.fail('LR023', 'limit', 'limit is 1 to 100');
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('userId', r.user_id, 'name', r.name, 'streakLength', r.length)
      order by r.length desc, r.extended_at, r.user_id), '[]')
    from (
      select u.user_id, n.name, u.length, u.extended_at
      from (
        (select u.user_id, u.length, u.extended_at from laurel_private.user_streaks u
          where u.tenant_id = for_tenant and type = 'active' and u.length > 0 and (u.due_at is null or u.due_at > as_of)
          order by u.length desc, u.extended_at, u.user_id limit most)
        union all
        -- What upkeep has not come to yet; with a worker, the last minute's.
        (select u.user_id, (s.state).length, (s.state).extended_at from laurel_private.user_streaks u
          cross join lateral (
            select ((laurel_private.read_streak(u.tenant_id, u.user_id, as_of)).effects).state as state offset 0) s
          where u.tenant_id = for_tenant and type = 'active' and u.length > 0 and u.due_at <= as_of and (s.state).length > 0
          order by 2 desc, 3, 1 limit most)
        union all
        (select u.user_id, u.longest, null from laurel_private.user_streaks u
          where u.tenant_id = for_tenant and type = 'longest' and u.longest > 0
          order by u.longest desc, u.user_id limit most)) u
      join laurel.users n on n.tenant_id = for_tenant and n.id = u.user_id
      order by u.length desc, u.extended_at, u.user_id limit most) r);
end
$$;

comment on function laurel.streak_rankings(text, int) is
  'The users with the longest streaks, running (active) or ever (longest), longest first: userId, name, streakLength. LR023. Rule W3.';

grant execute on function laurel.user_streak(text, int), laurel.list_streaks(text[]), laurel.streak_rankings(text, int)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded streaks/read_streaks.sql
--! Included streaks/admin_streaks.sql
-- What administrators do to single users' streaks: freezes, pauses, restoring, resetting. Each call takes items
-- [{"index": place in the request, "item": …}], locks their users in order, settles them, and judges each item by
-- itself. Nothing here fires a trigger or completes an achievement. Definers, since no role may touch what streaks
-- are made of; each keeps to the session's tenant.

create function laurel_private.streak_issue(item_index int, user_id text, severity text, message text)
  returns jsonb language sql immutable as $$
  select jsonb_strip_nulls(jsonb_build_object('index', item_index, 'userId', user_id,
    'severity', severity, 'level', severity, 'message', message, 'reason', message))
$$;

-- Locks and settles the users of a call who exist; returns them.
create function laurel_private.open_streaks(tenant_id uuid, user_ids text[], as_of timestamptz)
  returns text[] language plpgsql volatile as $$
#variable_conflict use_variable
declare
  found_ids text[];
begin
  -- The settings' own change waits, and what is decided here goes by what they are now.
  perform from laurel_private.streak_settings s where s.tenant_id = tenant_id for key share;
  found_ids := array(
    select s.user_id from laurel_private.user_states s
    where s.tenant_id = tenant_id and s.user_id = any (user_ids)
    order by s.user_id for no key update);
  perform laurel_private.settle_users(tenant_id, found_ids, as_of);
  return found_ids;
end
$$;

-- The users' kept answers are of before.
create function laurel_private.forget_streak_answers(tenant_id uuid, user_ids text[])
  returns void language sql volatile as $$
  update laurel_private.user_states s set streak_version = null
  where s.tenant_id = forget_streak_answers.tenant_id and s.user_id = any (user_ids)
$$;

create function laurel_private.grant_freeze(tenant_id uuid, user_id text, rule laurel_private.streak_rule, as_of timestamptz)
  returns text language plpgsql volatile as $$
#variable_conflict use_variable
declare
  state laurel_private.user_streaks;
begin
  if rule.max_freezes is null then
    return 'error: Streak freezes are switched off; switch them on in the streak settings.';
  end if;
  select s.* into strict state from laurel_private.user_streaks s where s.tenant_id = tenant_id and s.user_id = user_id;
  if state.freezes >= rule.max_freezes then
    return format('warning: The user holds %s of at most %s freezes already.', state.freezes, rule.max_freezes);
  end if;
  update laurel_private.user_streaks s set freezes = s.freezes + 1 where s.tenant_id = tenant_id and s.user_id = user_id;
  insert into laurel_private.streak_freezes (tenant_id, user_id, cause, change, freezes, on_date)
  values (tenant_id, user_id, 'granted', 1, state.freezes + 1, state.settled_on);
  return null;
end
$$;

-- S2: the length last lost, joined with what was built since, up to the period before the present one, as though
-- nothing had been missed. How far back it may lie is the reference's: 90 days, the calendar year's weeks, the
-- months since the beginning of last year.
create function laurel_private.restore_streak(tenant_id uuid, user_id text, rule laurel_private.streak_rule, as_of timestamptz)
  returns text language plpgsql volatile as $$
#variable_conflict use_variable
declare
  state laurel_private.user_streaks;
  zone text;
  lost laurel_private.streak_runs;
  present laurel_private.streak_runs;
  current_period date;
  until_period date;
  since date;
begin
  select s.* into strict state from laurel_private.user_streaks s where s.tenant_id = tenant_id and s.user_id = user_id;
  select s.time_zone into strict zone from laurel_private.user_states s where s.tenant_id = tenant_id and s.user_id = user_id;
  current_period := laurel_private.streak_period(state.settled_on, rule.frequency);
  since := case rule.frequency when 'daily' then state.settled_on - 90
    when 'weekly' then laurel_private.streak_period(date_trunc('year', state.settled_on::timestamp)::date, 'weekly')
    else (date_trunc('year', state.settled_on::timestamp) - interval '1 year')::date end;
  select r.* into present from laurel_private.streak_runs r
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = rule.frequency and not r.is_over
  order by r.first_period desc limit 1;
  select r.* into lost from laurel_private.streak_runs r
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = rule.frequency and r.is_over
  order by r.first_period desc limit 1;
  if lost.user_id is null or lost.last_period < since or not rule.is_enabled then
    return 'warning: The user has lost no streak that can be restored.';
  end if;
  until_period := coalesce(present.first_period, current_period);
  insert into laurel_private.streak_periods as p (tenant_id, user_id, frequency, period_start, kind)
  with recursive missed (period) as (
    select laurel_private.next_streak_period(lost.through_period, rule.frequency)
    union all
    select laurel_private.next_streak_period(m.period, rule.frequency) from missed m where m.period < until_period)
  select tenant_id, user_id, rule.frequency, m.period, 'restored' from missed m where m.period < until_period
  on conflict on constraint streak_periods_are_judged_once do update set kind = 'restored' where p.kind = 'reset';
  delete from laurel_private.streak_runs r
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = rule.frequency and r.first_period = present.first_period;
  update laurel_private.streak_runs r
  set length = r.length + coalesce(present.length, 0), is_over = false, is_closed = false,
    last_period = coalesce(present.last_period, r.last_period),
    through_period = coalesce(present.through_period,
      greatest(r.through_period, laurel_private.streak_period(current_period - 1, rule.frequency))),
    extended_at = coalesce(present.extended_at, r.extended_at)
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = rule.frequency and r.first_period = lost.first_period
  returning r.* into present;
  -- What the reset of a period had set to zero counts again.
  update laurel_private.streak_periods p set reset_at = null
  where p.tenant_id = tenant_id and p.user_id = user_id and p.frequency = rule.frequency
    and p.period_start between lost.last_period and present.through_period and p.reset_at is not null;
  state.length := present.length;
  update laurel_private.user_streaks s
  set length = present.length, longest = greatest(s.longest, present.length), extended_at = present.extended_at,
    due_at = laurel_private.streak_due_at(rule, zone, state, present)
  where s.tenant_id = tenant_id and s.user_id = user_id;
  return null;
end
$$;

-- Ends the present run for good; the present period is marked.
create function laurel_private.reset_streak(tenant_id uuid, user_id text, rule laurel_private.streak_rule, as_of timestamptz)
  returns text language plpgsql volatile as $$
#variable_conflict use_variable
declare
  state laurel_private.user_streaks;
begin
  select s.* into strict state from laurel_private.user_streaks s where s.tenant_id = tenant_id and s.user_id = user_id;
  if state.length = 0 then
    return 'warning: The user has no streak to reset.';
  end if;
  update laurel_private.streak_runs r set is_over = true, is_closed = true
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = rule.frequency and not r.is_over;
  insert into laurel_private.streak_periods as p (tenant_id, user_id, frequency, period_start, kind, reset_at)
  values (tenant_id, user_id, rule.frequency, laurel_private.streak_period(state.settled_on, rule.frequency), 'reset', as_of)
  on conflict on constraint streak_periods_are_judged_once do update set reset_at = excluded.reset_at;
  state.length := 0;
  update laurel_private.user_streaks s
  set length = 0, due_at = laurel_private.streak_due_at(rule, z.time_zone, state, null)
  from laurel_private.user_states z
  where s.tenant_id = tenant_id and s.user_id = user_id and z.tenant_id = tenant_id and z.user_id = user_id;
  return null;
end
$$;

create function laurel_private.create_pause(tenant_id uuid, user_id text, starts_on date, ends_on date, out fault text, out pause jsonb)
  language plpgsql volatile as $$
#variable_conflict use_variable
declare
  today date;
  created laurel_private.streak_pauses;
begin
  select s.settled_on into strict today from laurel_private.user_streaks s where s.tenant_id = tenant_id and s.user_id = user_id;
  if ends_on < starts_on then
    fault := 'error: A pause ends on the day it starts, or later.';
  elsif starts_on < today then
    fault := format('error: A pause cannot start in the past: today is %s for this user.', today);
  elsif exists (
    select from laurel_private.streak_pauses p
    where p.tenant_id = tenant_id and p.user_id = user_id and p.archived_at is null
      and daterange(p.starts_on, p.ends_on, '[]') && daterange(starts_on, ends_on, '[]')) then
    fault := 'error: The pause overlaps another one of the user.';
  else
    insert into laurel_private.streak_pauses (tenant_id, user_id, starts_on, ends_on)
    values (tenant_id, user_id, starts_on, ends_on) returning * into created;
    pause := laurel_private.pause_as_json(created);
  end if;
end
$$;

create function laurel_private.pause_as_json(pause laurel_private.streak_pauses)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', pause.id, 'userId', pause.user_id, 'start', pause.starts_on, 'end', pause.ends_on,
    'status', case when pause.archived_at is null then 'active' else 'archived' end)
$$;

-- `operation` is freezes, pauses, restore or reset. Returns {done, issues}: what was made, or the users it was done for.
create function laurel_private.change_streaks(operation text, items jsonb, as_of timestamptz default clock_timestamp())
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  tenant uuid := laurel.current_tenant_id();
  settings laurel_private.streak_settings;
  user_ids text[];
  done jsonb := '[]';
  issues jsonb := '[]';
  entry record;
  rule laurel_private.streak_rule;
  fault text;
  pause jsonb;
begin
  user_ids := laurel_private.open_streaks(tenant,
    array(select i #>> '{item,userId}' from jsonb_array_elements(items) i), as_of);
  select s.* into settings from laurel_private.streak_settings s where s.tenant_id = tenant;
  for entry in
    select (i ->> 'index')::int as item_index, i #>> '{item,userId}' as user_id, i -> 'item' as item, s.streak_preferences
    from jsonb_array_elements(items) with ordinality as x (i, no)
    left join laurel_private.user_states s on s.tenant_id = tenant and s.user_id = i #>> '{item,userId}'
    order by no
  loop
    fault := null;
    pause := null;
    rule := laurel_private.streak_rule_for(settings, entry.streak_preferences);
    if entry.user_id <> all (user_ids) then
      fault := format('error: No user has the ID %s.', left(entry.user_id, 255));
    else
      case operation
        when 'freezes' then fault := laurel_private.grant_freeze(tenant, entry.user_id, rule, as_of);
        when 'restore' then fault := laurel_private.restore_streak(tenant, entry.user_id, rule, as_of);
        when 'reset' then fault := laurel_private.reset_streak(tenant, entry.user_id, rule, as_of);
        when 'pauses' then
          select p.fault, p.pause into fault, pause
          from laurel_private.create_pause(tenant, entry.user_id, (entry.item ->> 'start')::date, (entry.item ->> 'end')::date) p;
      end case;
    end if;
    if fault is null then
      done := done || coalesce(pause, to_jsonb(entry.user_id));
    else
      issues := issues || laurel_private.streak_issue(entry.item_index, entry.user_id,
        split_part(fault, ': ', 1), substr(fault, strpos(fault, ': ') + 2));
    end if;
  end loop;
  perform laurel_private.forget_streak_answers(tenant, user_ids);
  perform laurel_private.rank_streaks(tenant, user_ids);
  return jsonb_build_object('done', done, 'issues', issues);
end
$$;

comment on function laurel_private.change_streaks(text, jsonb, timestamptz) is
  'Grants freezes, creates pauses, restores or resets the streaks of users; {done, issues}. Rule S2.';

-- Takes pauses back. What they have bridged so far stays bridged.
create function laurel_private.delete_pauses(ids uuid[], as_of timestamptz default clock_timestamp())
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  tenant uuid := laurel.current_tenant_id();
  user_ids text[];
  deleted uuid[];
begin
  user_ids := laurel_private.open_streaks(tenant, array(
    select distinct p.user_id from laurel_private.streak_pauses p
    where p.tenant_id = tenant and p.id = any (ids) and p.archived_at is null), as_of);
  with archived as (
    update laurel_private.streak_pauses p set archived_at = as_of
    where p.tenant_id = tenant and p.id = any (ids) and p.archived_at is null and p.user_id = any (user_ids)
    returning p.id)
  select coalesce(array_agg(a.id), '{}') into deleted from archived a;
  perform laurel_private.forget_streak_answers(tenant, user_ids);
  return jsonb_build_object(
    'done', (select coalesce(jsonb_agg(jsonb_build_object('id', d.id) order by array_position(ids, d.id)), '[]') from unnest(deleted) d (id)),
    'issues', (
      select coalesce(jsonb_agg(laurel_private.admin_issue(null, d.id::text, format('No streak pause has the ID %s.', d.id))), '[]')
      from unnest(ids) d (id) where d.id <> all (deleted)));
end
$$;

comment on function laurel_private.delete_pauses(uuid[], timestamptz) is 'Archives pauses by their IDs; {done, issues}.';

grant execute on function laurel_private.change_streaks(text, jsonb, timestamptz), laurel_private.delete_pauses(uuid[], timestamptz)
  to laurel_admin;
--! EndIncluded streaks/admin_streaks.sql
--! Included streaks/change_streak_settings.sql
-- Reading and changing streak settings. A change holds for what happens afterwards: everything that is due is settled
-- by the settings of before, in the same transaction.

create function laurel_private.streak_settings_as_json(settings laurel_private.streak_settings)
  returns jsonb language sql stable as $$
  select jsonb_build_object(
    'frequency', settings.frequency,
    'evaluationMode', case when settings.needs_all then 'AND' else 'OR' end,
    'customizationEnabled', settings.has_customization,
    'daysOff', settings.days_off,
    'metrics', coalesce((
      select jsonb_agg(jsonb_build_object('key', m.key, 'threshold', s.threshold) order by s.no)
      from unnest(settings.metric_ids, settings.metric_thresholds) with ordinality as s (id, threshold, no)
      join laurel.metrics m on m.tenant_id = settings.tenant_id and m.id = s.id and m.archived_at is null), '[]'),
    'freezes', case when settings.freeze_max_count is not null then jsonb_build_object(
      'startCount', settings.freeze_start_count, 'maxCount', settings.freeze_max_count,
      'autoEarnInterval', settings.freeze_earn_interval, 'autoEarnAmount', settings.freeze_earn_amount) end,
    'updated', laurel_private.instant_as_text(settings.updated_at))
$$;

create function laurel_private.check_streak_settings(tenant_id uuid, given jsonb)
  returns void language plpgsql stable as $$
declare
  entry record;
  fault text;
  freezes jsonb := given -> 'freezes';
begin
  if jsonb_typeof(given) is distinct from 'object' then
    perform laurel_private.fail('LR020', null, 'Streak settings are an object.');
  end if;
  for entry in select e.key, e.value from jsonb_each(given) e loop
    fault := case entry.key
      when 'frequency' then case when entry.value not in ('"daily"', '"weekly"', '"monthly"')
        then 'frequency must be daily, weekly or monthly.' end
      when 'evaluationMode' then case when entry.value not in ('"AND"', '"OR"') then 'evaluationMode must be AND or OR.' end
      when 'customizationEnabled' then case when jsonb_typeof(entry.value) <> 'boolean' then 'customizationEnabled must be true or false.' end
      when 'daysOff' then case when jsonb_typeof(entry.value) <> 'array' or jsonb_array_length(entry.value) > 6
          or exists (select from jsonb_array_elements(entry.value) d where d not in ('0', '1', '2', '3', '4', '5', '6'))
          or jsonb_array_length(entry.value) <> (select count(distinct d) from jsonb_array_elements(entry.value) d)
        then 'daysOff must be at most 6 different weekdays, 0 (Sunday) to 6.' end
      when 'metrics' then case
        when jsonb_typeof(entry.value) <> 'array' or jsonb_array_length(entry.value) not between 1 and 100
          or exists (
            select from jsonb_array_elements(entry.value) m
            where jsonb_typeof(m -> 'key') is distinct from 'string' or jsonb_typeof(m -> 'threshold') is distinct from 'number'
              or (m ->> 'threshold')::numeric not between 1 and 10000 or (m ->> 'threshold')::numeric % 1 <> 0)
          then 'metrics must be 1 to 100 metrics, each with a key and a threshold: a whole number from 1 to 10000.'
        when (select count(distinct m ->> 'key') < count(*) from jsonb_array_elements(entry.value) m)
          then 'metrics names a metric twice.'
        else (
          select format('No metric has the key %s.', left(m ->> 'key', 255)) from jsonb_array_elements(entry.value) m
          where not exists (
            select from laurel.metrics x
            where x.tenant_id = check_streak_settings.tenant_id and x.key = m ->> 'key' and x.archived_at is null) limit 1) end
      when 'freezes' then case
        when jsonb_typeof(freezes) = 'null' then null
        when jsonb_typeof(freezes) <> 'object' then 'freezes must be an object, or null to switch them off.'
        when jsonb_typeof(freezes -> 'startCount') is distinct from 'number' or jsonb_typeof(freezes -> 'maxCount') is distinct from 'number'
          or (freezes ->> 'startCount')::numeric not between 0 and 100 or (freezes ->> 'startCount')::numeric % 1 <> 0
          or (freezes ->> 'maxCount')::numeric not between 1 and 100 or (freezes ->> 'maxCount')::numeric % 1 <> 0
          then 'freezes needs a startCount, a whole number from 0 to 100, and a maxCount from 1 to 100.'
        when (freezes ->> 'startCount')::numeric > (freezes ->> 'maxCount')::numeric then 'freezes.startCount is above freezes.maxCount.'
        when (freezes ->> 'autoEarnInterval' is null) <> (freezes ->> 'autoEarnAmount' is null)
          then 'freezes.autoEarnInterval and freezes.autoEarnAmount go together: both, or neither.'
        when freezes ->> 'autoEarnInterval' is not null and (
          jsonb_typeof(freezes -> 'autoEarnInterval') <> 'number' or jsonb_typeof(freezes -> 'autoEarnAmount') <> 'number'
          or (freezes ->> 'autoEarnInterval')::numeric not between 1 and 365 or (freezes ->> 'autoEarnInterval')::numeric % 1 <> 0
          or (freezes ->> 'autoEarnAmount')::numeric not between 1 and 10 or (freezes ->> 'autoEarnAmount')::numeric % 1 <> 0)
          then 'freezes.autoEarnInterval must be 1 to 365 days, freezes.autoEarnAmount 1 to 10.' end
      when 'unchangedSince' then case when jsonb_typeof(entry.value) not in ('string', 'null')
        then 'unchangedSince must be a date with a time and a zone.' end
      else format('Unknown property: %s.', left(entry.key, 100)) end;
    if fault is not null then
      perform laurel_private.fail('LR020', entry.key, fault);
    end if;
  end loop;
end
$$;

create function laurel.streak_settings()
  returns jsonb language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select laurel_private.streak_settings_as_json(s) from laurel_private.streak_settings s
  where s.tenant_id = laurel.current_tenant_id()
$$;

comment on function laurel.streak_settings() is
  'How streaks are judged: {frequency, evaluationMode, customizationEnabled, daysOff, metrics, freezes, updated}. Rule S1.';

create function laurel.update_streak_settings(changes jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  tenant uuid := laurel.current_tenant_id();
  settings laurel_private.streak_settings;
  before laurel_private.streak_settings;
  freezes jsonb := changes -> 'freezes';
begin
  -- One change of configuration at a time, as everywhere (access/configuration_rules.sql).
  perform from laurel.tenants t where t.id = tenant for no key update;
  select s.* into strict settings from laurel_private.streak_settings s where s.tenant_id = tenant for update;
  perform laurel_private.check_streak_settings(tenant, changes);
  before := settings;
  if date_trunc('milliseconds', (changes ->> 'unchangedSince')::timestamptz) <> date_trunc('milliseconds', settings.updated_at) then
    perform laurel_private.fail('LR026', 'unchangedSince', laurel_private.instant_as_text(settings.updated_at));
  end if;
  settings.frequency := coalesce((changes ->> 'frequency')::laurel.streak_frequency, settings.frequency);
  settings.needs_all := coalesce(changes ->> 'evaluationMode' = 'AND', settings.needs_all);
  settings.has_customization := coalesce((changes ->> 'customizationEnabled')::boolean, settings.has_customization);
  if changes ? 'daysOff' then
    settings.days_off := array(select d::int from jsonb_array_elements_text(changes -> 'daysOff') d order by 1);
  end if;
  if settings.frequency <> 'daily' then
    if changes ? 'daysOff' and settings.days_off <> '{}' then
      perform laurel_private.fail('LR020', 'daysOff', 'Only daily streaks have days off.');
    end if;
    settings.days_off := '{}';
  end if;
  if changes ? 'metrics' then
    select array_agg(m.id order by c.no), array_agg((c.given ->> 'threshold')::int order by c.no)
    into settings.metric_ids, settings.metric_thresholds
    from jsonb_array_elements(changes -> 'metrics') with ordinality as c (given, no)
    join laurel.metrics m on m.tenant_id = tenant and m.key = c.given ->> 'key' and m.archived_at is null;
  end if;
  if changes ? 'freezes' then
    settings.freeze_start_count := (freezes ->> 'startCount')::int;
    settings.freeze_max_count := (freezes ->> 'maxCount')::int;
    settings.freeze_earn_interval := (freezes ->> 'autoEarnInterval')::int;
    settings.freeze_earn_amount := (freezes ->> 'autoEarnAmount')::int;
    settings.earning_since := case when settings.freeze_earn_interval is null then null
      when before.freeze_earn_interval is null then clock_timestamp() else before.earning_since end;
  end if;
  if settings is distinct from before then
    while exists (select from laurel_private.upkeep_streaks(clock_timestamp(), 1000, tenant)) loop
    end loop;
    update laurel_private.streak_settings s
    set frequency = settings.frequency, needs_all = settings.needs_all, has_customization = settings.has_customization,
      days_off = settings.days_off, metric_ids = settings.metric_ids, metric_thresholds = settings.metric_thresholds,
      freeze_start_count = settings.freeze_start_count, freeze_max_count = settings.freeze_max_count,
      freeze_earn_interval = settings.freeze_earn_interval, freeze_earn_amount = settings.freeze_earn_amount,
      earning_since = settings.earning_since, version = s.version + 1, revisit_after_user_id = ''
    where s.tenant_id = tenant;
  end if;
  return laurel.streak_settings();
end
$$;

comment on function laurel.update_streak_settings(jsonb) is
  'Changes the given streak settings and returns all: {frequency, evaluationMode, customizationEnabled, daysOff, metrics: [{key, threshold}], freezes: {startCount, maxCount, autoEarnInterval, autoEarnAmount} or null}. Holds for what happens afterwards. With `unchangedSince`, an earlier answer''s `updated`, LR026 if they were changed since. LR020. Rule S1.';

-- Not for the worker's progress, which is no change of settings.
create trigger streak_settings__touch before update on laurel_private.streak_settings
  for each row when (old.version <> new.version) execute function laurel_private.tg_configuration__touch();

create function laurel_private.tg_streak_settings__compile()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.compile_points_rules(new.tenant_id);
  return null;
end
$$;

create trigger streak_settings__compile after update on laurel_private.streak_settings
  for each row when (old.version <> new.version) execute function laurel_private.tg_streak_settings__compile();

grant execute on function laurel.streak_settings() to laurel_admin, laurel_service, laurel_user;
grant execute on function laurel.update_streak_settings(jsonb) to laurel_admin;

-- What changes of a user changes how its streak is judged from now on: what is past is settled first, by what was.
-- New users get their first freezes (S2).
create function laurel_private.tg_users__settle_streak()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  as_of timestamptz := clock_timestamp();
begin
  if tg_op = 'INSERT' then
    select s.* into settings from laurel_private.streak_settings s
    where s.tenant_id = new.tenant_id and s.freeze_max_count is not null;
    if found and (settings.freeze_start_count > 0 or settings.freeze_earn_interval is not null) then
      insert into laurel_private.user_streaks (tenant_id, user_id, frequency, freezes, earned_on, settled_on, due_at)
      select new.tenant_id, new.id, settings.frequency, settings.freeze_start_count,
        case when settings.freeze_earn_interval is not null then t.today end, t.today,
        case when settings.freeze_start_count < settings.freeze_max_count
          then (t.today + settings.freeze_earn_interval)::timestamp at time zone coalesce(new.tz, 'UTC') end
      from (select (as_of at time zone coalesce(new.tz, 'UTC'))::date as today) t;
      if settings.freeze_start_count > 0 then
        insert into laurel_private.streak_freezes (tenant_id, user_id, cause, change, freezes, on_date)
        values (new.tenant_id, new.id, 'start', settings.freeze_start_count, settings.freeze_start_count,
          (as_of at time zone coalesce(new.tz, 'UTC'))::date);
      end if;
    end if;
    if new.preferences ? 'streak' then
      update laurel_private.user_states s set streak_preferences = new.preferences -> 'streak'
      where s.tenant_id = new.tenant_id and s.user_id = new.id;
    end if;
    return null;
  end if;
  perform laurel_private.judge_streak_anew(old, new, as_of);
  return null;
end
$$;

create function laurel_private.judge_streak_anew(old laurel.users, new laurel.users, as_of timestamptz)
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  settings laurel_private.streak_settings;
  period_before date;
  period_now date;
begin
  perform from laurel_private.user_states s where s.tenant_id = new.tenant_id and s.user_id = new.id for no key update;
  if exists (select from laurel_private.user_streaks u where u.tenant_id = new.tenant_id and u.user_id = new.id) then
    perform laurel_private.settle_users(new.tenant_id, array[new.id::text], as_of);
  end if;
  -- Days that the clocks of another zone skip or cut short cost no streak: they count as days off.
  if new.tz is distinct from old.tz then
    select s.* into settings from laurel_private.streak_settings s where s.tenant_id = new.tenant_id;
    period_before := laurel_private.streak_period((as_of at time zone coalesce(old.tz, 'UTC'))::date, settings.frequency);
    period_now := laurel_private.streak_period((as_of at time zone coalesce(new.tz, 'UTC'))::date, settings.frequency);
    if period_before < period_now then
      perform laurel_private.carry_streak(new.tenant_id, new.id, settings.frequency, period_before, period_now);
    end if;
    -- Its midnights are others now: upkeep looks at once.
    update laurel_private.user_streaks u set due_at = as_of
    where u.tenant_id = new.tenant_id and u.user_id = new.id and u.due_at is not null;
  end if;
  if coalesce((new.preferences #>> '{streak,enabled}')::boolean, true) is false then
    update laurel_private.streak_runs r set is_over = true, is_closed = true
    where r.tenant_id = new.tenant_id and r.user_id = new.id and not r.is_over;
    update laurel_private.user_streaks u set length = 0, due_at = null, earned_on = null
    where u.tenant_id = new.tenant_id and u.user_id = new.id;
  end if;
  update laurel_private.user_states s set streak_preferences = new.preferences -> 'streak', streak_version = null
  where s.tenant_id = new.tenant_id and s.user_id = new.id;
  perform laurel_private.rank_streaks(new.tenant_id, array[new.id::text]);
end
$$;

-- Keeps a running streak up to the period before period_now.
create function laurel_private.carry_streak(tenant_id uuid, user_id text, for_frequency laurel.streak_frequency, period_before date, period_now date)
  returns void language plpgsql volatile as $$
#variable_conflict use_variable
declare
  through date := laurel_private.streak_period(period_now - 1, for_frequency);
begin
  insert into laurel_private.streak_periods (tenant_id, user_id, frequency, period_start, kind)
  select tenant_id, user_id, for_frequency, p.period_start, 'off'
  from laurel_private.streak_runs r
  cross join lateral (
    select distinct laurel_private.streak_period(d::date, for_frequency) as period_start
    from generate_series(r.through_period + 1, through, interval '1 day') d) p
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = for_frequency and not r.is_over
    and p.period_start > r.through_period
  on conflict do nothing;
  update laurel_private.streak_runs r set through_period = through
  where r.tenant_id = tenant_id and r.user_id = user_id and r.frequency = for_frequency and not r.is_over and r.through_period < through;
end
$$;

create trigger users__start_streak after insert on laurel.users
  for each row execute function laurel_private.tg_users__settle_streak();
-- Before users__share_state by name: the state still has the zone of before.
create trigger users__settle_streak after update on laurel.users
  for each row when ((old.tz, old.preferences -> 'streak') is distinct from (new.tz, new.preferences -> 'streak'))
  execute function laurel_private.tg_users__settle_streak();
--! EndIncluded streaks/change_streak_settings.sql
--! Included insight/event_summaries.sql
-- Totals over time (RP2): one entry for every day, week or month that touches a range of local
-- dates, from the event log (metrics) or the ledger (points).

-- The periods: first day, and the last day that lies in the range. Weeks begin on Sundays.
create function laurel_private.summary_periods(aggregation text, start_on date, end_on date)
  returns table (first_on date, last_on date) language plpgsql immutable as $$
begin
  if aggregation is null or aggregation not in ('daily', 'weekly', 'monthly') then
    perform laurel_private.fail('LR023', 'aggregation', 'aggregation must be daily, weekly or monthly');
  elsif start_on is null or end_on is null or not isfinite(start_on) or not isfinite(end_on) then
    perform laurel_private.fail('LR023', case when isfinite(start_on) then 'endDate' else 'startDate' end, 'startDate and endDate must be dates');
  elsif end_on <= start_on then
    perform laurel_private.fail('LR023', 'endDate', 'endDate must be after startDate');
  elsif end_on - start_on > 400 then
    perform laurel_private.fail('LR023', 'startDate', 'startDate and endDate are more than 400 days apart');
  end if;
  return query
    select p.day, least(end_on, case aggregation when 'daily' then p.day when 'weekly' then p.day + 6
      else (p.day + interval '1 month')::date - 1 end)
    from (
      select distinct case aggregation when 'daily' then d.day when 'weekly' then d.day - extract(dow from d.day)::int
        else date_trunc('month', d.day::timestamp)::date end as day
      from (select start_on + n as day from generate_series(0, end_on - start_on) n) d) p;
end
$$;

comment on function laurel_private.summary_periods(text, date, date) is
  'First day and last counted day of every period that touches the range. LR023 for other aggregations and ranges. Rule RP2.';

create function laurel.metric_event_summary(metric_key text, user_id text, aggregation text, start_on date, end_on date)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_id);
  metric laurel.metrics := laurel_private.active_metric(for_user.tenant_id, metric_key);
begin
  return (
    with change as (
      select (e.occurred_at at time zone coalesce(for_user.tz, 'UTC'))::date as day, sum(e.value) as value
      from laurel.metric_events e
      where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id and e.metric_id = metric.id
      group by 1
    )
    select jsonb_agg(jsonb_build_object('date', p.first_on,
      'total', (select trim_scale(coalesce(sum(c.value), 0)) from change c where c.day <= p.last_on),
      'change', (
        select trim_scale(coalesce(sum(c.value), 0)) from change c
        where c.day between greatest(p.first_on, start_on) and p.last_on)) order by p.first_on)
    from laurel_private.summary_periods(aggregation, start_on, end_on) p);
end
$$;

comment on function laurel.metric_event_summary(text, text, text, date, date) is
  'A user''s total on a metric over time, as [{date, total, change}] with an entry for every day, week (from Sunday) or month that touches the dates, in the user''s time zone. LR002, LR003, LR023. Rule RP2.';

create function laurel.points_event_summary(system_key text, user_id text, aggregation text, start_on date, end_on date)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
  for_user laurel.users := laurel_private.own_user(user_id);
  system laurel.points_systems := laurel_private.active_system(for_user.tenant_id, system_key);
begin
  return (
    with change as (
      select (a.occurred_at at time zone coalesce(for_user.tz, 'UTC'))::date as day, sum(a.points) as points
      from laurel.points_awards a
      where a.tenant_id = for_user.tenant_id and a.user_id = for_user.id and a.system_id = system.id
      group by 1
    )
    select jsonb_agg(jsonb_build_object('date', p.first_on,
      'total', (select coalesce(sum(c.points), 0) from change c where c.day <= p.last_on),
      'change', (
        select coalesce(sum(c.points), 0) from change c
        where c.day between greatest(p.first_on, start_on) and p.last_on)) order by p.first_on)
    from laurel_private.summary_periods(aggregation, start_on, end_on) p);
end
$$;

comment on function laurel.points_event_summary(text, text, text, date, date) is
  'A user''s points over time, as metric_event_summary() shows a metric. LR002, LR004, LR023. Rules RP2, RP4.';

grant execute on function laurel.metric_event_summary(text, text, text, date, date),
  laurel.points_event_summary(text, text, text, date, date)
  to laurel_admin, laurel_service, laurel_user;
--! EndIncluded insight/event_summaries.sql
--! Included insight/standings.sql
-- Where a change of so much stands among all users' in a week, month or year: what user_wrapped() shows as a
-- percentile. For tenants with so many users that nobody can wait for a look at what all of them did, the
-- worker counts them (count_standings()): once a day until eight days after the period, for what is sent in late, and
-- then never again. A percentile is exact as of that count. For other tenants it is counted when it is asked for.

create table laurel_private.standing_periods (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  first_on date not null,
  last_on date not null,
  counted_at timestamptz not null,
  constraint standing_periods_are_counted_once primary key (tenant_id, first_on, last_on)
);

comment on table laurel_private.standing_periods is 'Weeks, months and years whose standings were counted, and when.';
alter table laurel_private.standing_periods enable row level security;

create table laurel_private.standings (
  tenant_id uuid not null,
  first_on date not null,
  last_on date not null,
  source_id uuid not null,
  -- Whoever changed by up to most[n], and by more than most[n - 1], has percentiles[n]: 1,001 steps at most.
  most numeric[] not null,
  percentiles numeric[] not null,
  constraint standings_are_one_per_source primary key (tenant_id, first_on, last_on, source_id),
  constraint standings_belong_to_a_period foreign key (tenant_id, first_on, last_on)
    references laurel_private.standing_periods on delete cascade,
  constraint standings_have_a_percentile_per_step check (cardinality(most) = cardinality(percentiles))
);

comment on table laurel_private.standings is 'Percentiles of what users changed by in a period, per metric and points system.';
alter table laurel_private.standings enable row level security;

-- When a user of a tenant was last erased: of what was counted before, nobody can tell any more whether it is right. Written
-- by erase_user(), read by verify().
create table laurel_private.last_erasures (
  tenant_id uuid not null,
  erased_at timestamptz not null,
  constraint last_erasures_are_one_per_tenant primary key (tenant_id),
  constraint last_erasure_is_of_a_tenant foreign key (tenant_id) references laurel.tenants on delete cascade
);

comment on table laurel_private.last_erasures is 'When a user of a tenant was last erased; not whose.';
alter table laurel_private.last_erasures enable row level security;

-- Up to so many users everything is counted when it is asked for.
create function laurel_private.users_counted_live()
  returns int language sql immutable parallel safe
  return 10000;

-- What everybody's metrics and points changed by, each by the user's own calendar.
create function laurel_private.changes_of_period(of_tenant uuid, first_on date, last_on date)
  returns table (source_id uuid, user_id text, value numeric) language plpgsql stable
  set work_mem = '128MB' set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
begin
  return query
    with amount as (
      select e.metric_id as source_id, e.user_id, e.value, e.occurred_at
      from laurel.metric_events e where e.tenant_id = of_tenant
      union all
      select a.system_id, a.user_id, a.points, a.occurred_at
      from laurel.points_awards a where a.tenant_id = of_tenant
    )
    select a.source_id, a.user_id, sum(a.value)
    from amount a
    join laurel_private.user_states s on s.tenant_id = of_tenant and s.user_id = a.user_id
    -- The day before and after first: no time zone is further off, and most rows are neither.
    where a.occurred_at >= (first_on - 1)::timestamp at time zone 'UTC' and a.occurred_at < (last_on + 2)::timestamp at time zone 'UTC'
      and a.occurred_at >= first_on::timestamp at time zone s.time_zone and a.occurred_at < (last_on + 1)::timestamp at time zone s.time_zone
    group by a.source_id, a.user_id;
end
$$;

-- The periods of a tenant with many users that are to be counted by now: those that last, then the latest.
create function laurel_private.due_standings(as_of timestamptz)
  returns table (tenant_id uuid, first_on date, last_on date) language sql stable as $$
  with many as (
    -- From the year in which the first user came, five at most.
    select t.id, greatest(min(c.joined_on), (as_of - interval '4 years')::date) as since
    from laurel.tenants t
    join laurel_private.user_counts c on c.tenant_id = t.id and c.segment_id = laurel_private.everybody()
    group by t.id having sum(c.users) > laurel_private.users_counted_live()
  ),
  year as (
    select m.id, y::date as new_year
    from many m
    cross join lateral generate_series(date_trunc('year', m.since::timestamp), as_of at time zone 'UTC' + interval '1 day', interval '1 year') y
  ),
  period as (
    select y.id, y.new_year as first_on, (y.new_year + interval '1 year')::date - 1 as last_on from year y
    union
    select y.id, m::date, (m + interval '1 month')::date - 1
    from year y cross join lateral generate_series(y.new_year::timestamp, y.new_year + interval '11 months', interval '1 month') m
    union
    -- Weeks begin on Sundays; the first of the year may have begun before it.
    select y.id, w::date, w::date + 6
    from year y
    cross join lateral generate_series(
      (y.new_year - extract(dow from y.new_year)::int)::timestamp, y.new_year + interval '1 year' - interval '1 day', interval '7 days') w
  )
  select p.id, p.first_on, p.last_on
  from period p
  left join laurel_private.standing_periods c on c.tenant_id = p.id and c.first_on = p.first_on and c.last_on = p.last_on
  where p.first_on <= (as_of at time zone 'UTC')::date + 1
    and (c.counted_at is null
      or c.counted_at < (p.last_on + 9)::timestamp at time zone 'UTC'
        and as_of >= least(c.counted_at + interval '20 hours', (p.last_on + 9)::timestamp at time zone 'UTC'))
  order by p.last_on < (as_of at time zone 'UTC')::date, p.first_on desc, p.last_on
$$;

-- Counts the standings of the next period that is due; 0 when none is. Any number of workers may call it.
create function laurel_private.count_standings(as_of timestamptz)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  due record;
  counted laurel_private.standings[];
begin
  -- One at a time: it reads all that the tenant's users did.
  if not pg_try_advisory_xact_lock(hashtext('laurel_private.count_standings')) then
    return 0;
  end if;
  select d.* into due from laurel_private.due_standings(as_of) d limit 1;
  if not found then
    return 0;
  end if;
  -- Before anything is written: a transaction that has an ID holds up fold_earnings().
  counted := array(
    select (due.tenant_id, due.first_on, due.last_on, s.source_id, array_agg(s.most order by s.percentile),
      array_agg(s.percentile order by s.percentile))::laurel_private.standings
    from (
      select v.source_id, v.percentile, max(v.value) as most
      from (
        select v.source_id, v.value,
          trim_scale(round(100.0 * (sum(v.users) over below - v.users) / sum(v.users) over (partition by v.source_id), 1)) as percentile
        from (
          select c.source_id, c.value, count(*) as users
          from laurel_private.changes_of_period(due.tenant_id, due.first_on, due.last_on) c group by 1, 2) v
        window below as (partition by v.source_id order by v.value)) v
      group by v.source_id, v.percentile) s
    group by s.source_id);
  delete from laurel_private.standing_periods p
  where p.tenant_id = due.tenant_id and p.first_on = due.first_on and p.last_on = due.last_on;
  insert into laurel_private.standing_periods (tenant_id, first_on, last_on, counted_at)
  values (due.tenant_id, due.first_on, due.last_on, as_of);
  insert into laurel_private.standings select c.* from unnest(counted) c;
  return 1;
end
$$;

comment on function laurel_private.count_standings(timestamptz) is
  'Counts where users stand in the next week, month or year that is due; 0 when none is. One does it at a time.';
--! EndIncluded insight/standings.sql
--! Included insight/user_wrapped.sql
-- A user's year in review, from the event log and the ledger, in the user's own time zone. A day counts
-- as active when the user has an event on it. Weeks begin on Sundays, as everywhere (RP2).

-- What a metric, or a points system, changed by in a period, as it is shown.
create function laurel_private.wrapped_change(before numeric, change numeric, percentile numeric)
  returns jsonb language sql immutable as $$
  select jsonb_build_object('currentTotal', trim_scale(before + change), 'changeThisPeriod', trim_scale(change),
      -- From nothing it is 100 %.
      'percentChange', case when before = 0 then 100 * sign(change) else trim_scale(round(100 * change / abs(before), 1)) end)
    || case when percentile is null then '{}' else jsonb_build_object('percentileThisPeriod', percentile) end
$$;

-- Per metric or points system by its ID: which share, in percent, of the users for whom something counted in the period
-- have less than this one, as the worker counted them, or else as it is now.
create function laurel_private.wrapped_percentiles(for_user laurel_private.user_states, first_on date, last_on date)
  returns jsonb language plpgsql stable as $$
#variable_conflict use_variable
begin
  if exists (
    select from laurel_private.standing_periods p
    where p.tenant_id = for_user.tenant_id and p.first_on = wrapped_percentiles.first_on and p.last_on = wrapped_percentiles.last_on)
  then
    return (
      select coalesce(jsonb_object_agg(o.source_id, coalesce(
        -- Who has more than anybody had when they were counted is ahead of all of them.
        (select s.percentiles[n] from generate_subscripts(s.most, 1) n where o.value <= s.most[n] order by n limit 1), 100)), '{}')
      from (
        select a.source_id, sum(a.value) as value
        from (
          select e.metric_id as source_id, e.value, e.occurred_at
          from laurel.metric_events e where e.tenant_id = for_user.tenant_id and e.user_id = for_user.user_id
          union all
          select a.system_id, a.points, a.occurred_at
          from laurel.points_awards a where a.tenant_id = for_user.tenant_id and a.user_id = for_user.user_id) a
        where a.occurred_at >= wrapped_percentiles.first_on::timestamp at time zone for_user.time_zone
          and a.occurred_at < (wrapped_percentiles.last_on + 1)::timestamp at time zone for_user.time_zone
        group by a.source_id) o
      -- Where nobody had anything then, there is nobody to be compared with.
      join laurel_private.standings s on s.tenant_id = for_user.tenant_id and s.source_id = o.source_id
        and s.first_on = wrapped_percentiles.first_on and s.last_on = wrapped_percentiles.last_on);
  end if;
  return (
    with change as materialized (
      select c.* from laurel_private.changes_of_period(for_user.tenant_id, wrapped_percentiles.first_on, wrapped_percentiles.last_on) c
    )
    select coalesce(jsonb_object_agg(x.source_id, x.percentile), '{}')
    from (
      select o.source_id, trim_scale(round(100.0 * count(*) filter (where c.value < o.value) / count(*), 1)) as percentile
      from change o
      join change c on c.source_id = o.source_id
      where o.user_id = for_user.user_id
      group by o.source_id) x);
end
$$;

-- What a user did, earned and achieved from one day to another. Percentiles are by ID; {} shows none.
create function laurel_private.wrapped_period(for_user laurel.users, first_on date, last_on date, percentiles jsonb, users bigint)
  returns jsonb language sql stable as $$
  with zone as (select coalesce((for_user).tz, 'UTC') as name),
  event as materialized (
    select e.metric_id, e.value, e.attributes, (e.occurred_at at time zone zone.name)::date >= first_on as is_inside
    from laurel.metric_events e cross join zone
    where e.tenant_id = (for_user).tenant_id and e.user_id = (for_user).id
      and e.occurred_at < (last_on + 1)::timestamp at time zone zone.name
  ),
  by_metric as (
    select e.metric_id, coalesce(sum(e.value) filter (where not e.is_inside), 0) as before, sum(e.value) filter (where e.is_inside) as change
    from event e group by e.metric_id having bool_or(e.is_inside)
  ),
  by_value as (
    select e.metric_id, a.key, a.value, coalesce(sum(e.value) filter (where not e.is_inside), 0) as before,
      sum(e.value) filter (where e.is_inside) as change
    from event e cross join lateral jsonb_each_text(e.attributes) a
    group by e.metric_id, a.key, a.value having bool_or(e.is_inside)
  ),
  by_attribute as (
    select v.metric_id, v.key, jsonb_object_agg(v.value,
      jsonb_build_object('name', m.name, 'units', m.units) || laurel_private.wrapped_change(v.before, v.change, null)) as shown
    from by_value v join laurel.metrics m on m.id = v.metric_id
    group by v.metric_id, v.key
  ),
  by_system as (
    select a.system_id, coalesce(sum(a.points) filter (where a.day < first_on), 0) as before, sum(a.points) filter (where a.day >= first_on) as change
    from (
      select a.system_id, a.points, (a.occurred_at at time zone zone.name)::date as day
      from laurel.points_awards a cross join zone
      where a.tenant_id = (for_user).tenant_id and a.user_id = (for_user).id) a
    where a.day <= last_on
    group by a.system_id having bool_or(a.day >= first_on)
  ),
  -- Places as they were seen at the end of a day, each until the day before the next, and today's.
  place as (
    select d.leaderboard_id, d.run_on, d.rank, d.value, d.day as from_day,
      least(lead(d.day) over (partition by d.leaderboard_id, d.run_on order by d.day) - 1,
        laurel_private.run_end(laurel_private.rule_of(b), d.run_on), (now() at time zone zone.name)::date) as until_day
    from laurel_private.leaderboard_days d
    join laurel.leaderboards b on b.id = d.leaderboard_id and b.generation = d.generation
    cross join zone
    where d.tenant_id = (for_user).tenant_id and d.user_id = (for_user).id
    union all
    select e.leaderboard_id, e.run_on, p.rank, e.value, t.today, t.today
    from laurel.leaderboard_entries e
    join laurel.leaderboards b on b.id = e.leaderboard_id and b.generation = e.generation
    cross join zone
    cross join lateral (select (now() at time zone zone.name)::date as today) t
    cross join lateral laurel_private.place_of(e, b.max_participants, now()) p
    where e.tenant_id = (for_user).tenant_id and e.user_id = (for_user).id
      and e.run_on = laurel_private.run_of(laurel_private.rule_of(b), t.today)
  ),
  best_place as (
    select distinct on (p.leaderboard_id) p.* from place p
    where p.rank is not null and p.from_day <= last_on and p.until_day >= first_on
    order by p.leaderboard_id, p.rank, p.from_day
  )
  select jsonb_build_object(
    'metrics', (
      select coalesce(jsonb_object_agg(m.key, jsonb_build_object('name', m.name, 'units', m.units,
        'byAttribute', (select coalesce(jsonb_object_agg(a.key, a.shown), '{}') from by_attribute a where a.metric_id = m.id))
        || laurel_private.wrapped_change(b.before, b.change, (percentiles ->> m.id::text)::numeric)), '{}')
      from by_metric b join laurel.metrics m on m.id = b.metric_id and m.archived_at is null),
    'points', (
      select coalesce(jsonb_object_agg(s.key, jsonb_build_object('name', s.name, 'description', s.description)
        || laurel_private.wrapped_change(b.before, b.change, (percentiles ->> s.id::text)::numeric)), '{}')
      from by_system b join laurel.points_systems s on s.id = b.system_id and s.archived_at is null),
    'achievements', (
      select coalesce(jsonb_agg(laurel_private.user_achievement_as_json(a, (for_user).id) || laurel_private.achievement_stats(a, users)
        order by c.achieved_at, a.id), '[]')
      from laurel.user_achievements c
      join laurel.achievements a on a.tenant_id = c.tenant_id and a.id = c.achievement_id and a.status <> 'archived'
      cross join zone
      where c.tenant_id = (for_user).tenant_id and c.user_id = (for_user).id
        and (c.achieved_at at time zone zone.name)::date between first_on and last_on),
    -- With the dates of the run it was reached in.
    'leaderboards', (
      select coalesce(jsonb_object_agg(b.key, laurel_private.leaderboard_as_json(b, laurel_private.shown_status(b, now()),
          p.run_on, laurel_private.run_end(laurel_private.rule_of(b), p.run_on))
        || jsonb_build_object('rank', p.rank, 'value', floor(p.value))), '{}')
      from best_place p join laurel.leaderboards b on b.id = p.leaderboard_id and b.status in ('active', 'finished')))
$$;

-- The longest that a streak was in the year: one that began before counts with what it had by then.
create function laurel_private.longest_streak_of_year(for_user laurel.users, new_year date)
  returns jsonb language plpgsql stable as $$
declare
  reading laurel_private.streak_reading := laurel_private.read_streak(for_user.tenant_id, for_user.id, clock_timestamp());
  of_frequency laurel.streak_frequency := (reading.rule).frequency;
  longest record;
begin
  select r.first_period, count(*) as length, max(p.period_start) as last_period into longest
  from laurel_private.streak_runs_of(reading) r
  join laurel_private.streak_periods_of(reading, '-infinity') p on p.kind = 'satisfied'
    and p.period_start between r.first_period and r.last_period and p.period_start < (new_year + interval '1 year')
  group by r.first_period
  having laurel_private.next_streak_period(max(p.period_start), of_frequency) > new_year
  order by 2 desc, 1
  limit 1;
  return jsonb_build_object('length', coalesce(longest.length, 0), 'frequency', of_frequency, 'started', longest.first_period,
    'periodStart', longest.first_period, 'periodEnd', laurel_private.next_streak_period(longest.last_period, of_frequency) - 1);
end
$$;

create function laurel.user_wrapped(user_id text, year int default null)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  for_user laurel.users := laurel_private.own_user(user_id);
  state laurel_private.user_states;
  zone text := coalesce(for_user.tz, 'UTC');
  this_year int := extract(year from now() at time zone zone)::int;
  new_year date;
  year_end date;
  active record;
  best record;
  users bigint := laurel_private.count_users(for_user.tenant_id);
begin
  if coalesce(year, this_year) not between 1 and this_year then
    perform laurel_private.fail('LR023', 'year', format('year must be from 1 to %s', this_year));
  end if;
  new_year := make_date(coalesce(year, this_year), 1, 1);
  year_end := make_date(coalesce(year, this_year), 12, 31);
  -- The most active day, week and month are those with the most events, the first of equals.
  with day as materialized (
    select d.day, d.day - extract(dow from d.day)::int as week, date_trunc('month', d.day::timestamp)::date as month, d.events
    from (
      select (e.occurred_at at time zone zone)::date as day, count(*) as events
      from laurel.metric_events e
      where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id
        and e.occurred_at >= new_year::timestamp at time zone zone and e.occurred_at < (year_end + 1)::timestamp at time zone zone
      group by 1) d
  )
  select count(distinct d.day) as days, count(distinct d.week) as weeks, count(distinct d.month) as months,
    (select d.day from day d order by d.events desc, d.day limit 1) as best_day,
    (select d.week from day d group by d.week order by sum(d.events) desc, d.week limit 1) as best_week,
    (select d.month from day d group by d.month order by sum(d.events) desc, d.month limit 1) as best_month
  into active from day d;
  -- Of a year without events the first ones stand for them, empty.
  select coalesce(active.best_day, new_year) as day,
    coalesce(active.best_week, new_year + (7 - extract(dow from new_year)::int) % 7) as week,
    coalesce(active.best_month, new_year) as month
  into best;
  select s.* into state from laurel_private.user_states s where s.tenant_id = for_user.tenant_id and s.user_id = for_user.id;
  return jsonb_build_object(
    'user', laurel_private.user_as_json(for_user),
    'activity', jsonb_build_object(
      'daysActive', active.days, 'weeksActive', active.weeks, 'monthsActive', active.months,
      'mostActiveDay', laurel_private.wrapped_period(for_user, best.day, best.day, '{}', users) || jsonb_build_object('date', best.day),
      'mostActiveWeek', laurel_private.wrapped_period(for_user, best.week, best.week + 6,
          laurel_private.wrapped_percentiles(state, best.week, best.week + 6), users)
        || jsonb_build_object('start', best.week, 'end', best.week + 6),
      -- Months are numbered from 0.
      'mostActiveMonth', laurel_private.wrapped_period(for_user, best.month, (best.month + interval '1 month')::date - 1,
          laurel_private.wrapped_percentiles(state, best.month, (best.month + interval '1 month')::date - 1), users)
        || jsonb_build_object('month', extract(month from best.month)::int - 1),
      'entireYear', laurel_private.wrapped_period(for_user, new_year, year_end,
          laurel_private.wrapped_percentiles(state, new_year, year_end), users)
        || jsonb_build_object('longestStreak', laurel_private.longest_streak_of_year(for_user, new_year))));
end
$$;

comment on function laurel.user_wrapped(text, int) is
  'A user''s year in review, of the current year unless one is given: how many days, weeks and months it was active; the most active of each, and the whole year, with metrics, points, achievements and best places on leaderboards; the longest streak. Of tenants with more than 10,000 users, percentiles are as of the worker''s last daily count. LR002, LR023.';

grant execute on function laurel.user_wrapped(text, int) to laurel_admin, laurel_service, laurel_user;
--! EndIncluded insight/user_wrapped.sql
--! Included metrics/queued_events.sql
-- Events accepted by the batch operation and not yet recorded. Written by enqueue_events(), emptied
-- by the worker (tasks/process_queued_events.ts); rows that were refused stay, with the reason.
-- Invariant: a user's events are recorded in the order in which they were accepted.

create table laurel_private.queued_events (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null references laurel.tenants on delete cascade,
  user_id text collate "C" not null,
  metric_key text collate "C" not null,
  value numeric not null,
  attributes jsonb not null,
  idempotency_key text collate "C",
  occurred_at timestamptz not null,
  profile jsonb,
  is_alone boolean not null,
  refused_code text,
  refused_message text,
  constraint queued_events_have_ids primary key (id),
  constraint refused_events_say_why check ((refused_code is null) = (refused_message is null))
);

create index queued_events_waiting on laurel_private.queued_events (id) where refused_code is null;
create index queued_events_by_user on laurel_private.queued_events (tenant_id, user_id, id) where refused_code is null;
create index queued_events_refused on laurel_private.queued_events (tenant_id, id) where refused_code is not null;
comment on table laurel_private.queued_events is 'Events of the batch operation that wait for the worker, and those that it could not record.';
comment on column laurel_private.queued_events.occurred_at is 'As given, or when the batch was accepted.';
comment on column laurel_private.queued_events.is_alone is
  'Whether its user is recorded by itself: it brings a profile, or was in a statement that was refused.';
comment on column laurel_private.queued_events.refused_code is 'SQLSTATE of the refusal; null while it waits.';
alter table laurel_private.queued_events enable row level security;

-- Checks all, then stores all: one that breaks a rule refuses the request. Definer, since nobody
-- may write the queue himself.
create function laurel_private.enqueue_events(events jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  tenant uuid := laurel.current_tenant_id();
  accepted_at timestamptz := clock_timestamp();
  event record;
  metric laurel.metrics;
begin
  for event in
    select e ->> 'key' as metric_key, e -> 'user' ->> 'id' as user_id, e -> 'user' as profile,
      (e ->> 'value')::numeric as value, coalesce(nullif(e -> 'attributes', 'null'), '{}') as attributes,
      e ->> 'idempotencyKey' as idempotency_key, coalesce((e ->> 'occurredAt')::timestamptz, accepted_at) as occurred_at
    from jsonb_array_elements(events) with ordinality as x (e, no) order by no
  loop
    if metric.key is distinct from event.metric_key then
      metric := laurel_private.active_metric(tenant, event.metric_key);
    end if;
    perform laurel_private.check_user_id(event.user_id);
    perform laurel_private.check_event(tenant, metric.id, metric.key, event.value, event.attributes,
      event.idempotency_key, event.occurred_at);
    perform laurel_private.check_profile(tenant, event.profile);
  end loop;
  insert into laurel_private.queued_events (id, tenant_id, user_id, metric_key, value, attributes, idempotency_key,
    occurred_at, profile, is_alone)
  select laurel_private.uuid_v7(), tenant, e.user_id, e.metric_key, e.value, e.attributes, e.idempotency_key, e.occurred_at,
    nullif(e.profile, '{}'), e.profile <> '{}'
  from (
    select e ->> 'key' as metric_key, e -> 'user' ->> 'id' as user_id, (e -> 'user') - 'id' as profile,
      (e ->> 'value')::numeric as value, coalesce(nullif(e -> 'attributes', 'null'), '{}') as attributes,
      e ->> 'idempotencyKey' as idempotency_key, coalesce((e ->> 'occurredAt')::timestamptz, accepted_at) as occurred_at
    from jsonb_array_elements(events) with ordinality as x (e, no) order by no) e;
  -- A hint; the queue itself is looked at every minute anyway. No award is made in this transaction.
  if to_regnamespace('graphile_worker') is not null then
    perform graphile_worker.add_job('process_queued_events');
  end if;
  return jsonb_build_object('accepted', jsonb_array_length(events));
end
$$;

comment on function laurel_private.enqueue_events(jsonb) is
  'Stores up to 1,000 events [{key, user, value, attributes, idempotencyKey, occurredAt}] for the worker; all or none. LR003, LR010 to LR017.';

-- Records some of what waits, in one transaction: a worker that dies leaves everything as it was.
-- Any number may run at once. Of each user only events are taken that no other waiting one precedes,
-- so that nobody overtakes. Users whose events bring no profile are recorded by one
-- statement, which locks them in order; the others one user at a time, since each call of
-- record_event() locks its own. Returns how many rows were dealt with; 0 when there is nothing to do.
create function laurel_private.process_queued_events(most int default 1000)
  returns int language plpgsql volatile as $$
declare
  claimed laurel_private.queued_events[];
  first laurel_private.queued_events;
  one laurel_private.queued_events;
  answer jsonb;
  code text;
  message text;
begin
  claimed := array(
    select q from (
      select q as q from laurel_private.queued_events q
      where q.refused_code is null
      order by q.id
      limit most
      for update skip locked) q);
  -- Of each user only what comes before the first row that somebody else holds. In a statement of
  -- its own: it sees rows that a worker has finished with since.
  claimed := array(
    select c
    from (select distinct c.tenant_id, c.user_id from unnest(claimed) c) u
    left join lateral (
      select q.id from laurel_private.queued_events q
      where q.tenant_id = u.tenant_id and q.user_id = u.user_id and q.refused_code is null
        and q.id not in (select x.id from unnest(claimed) x)
      order by q.id limit 1) other on true
    join unnest(claimed) c on c.tenant_id = u.tenant_id and c.user_id = u.user_id
    where other.id is null or c.id < other.id
    order by c.id);
  if claimed = '{}' then
    return 0;
  end if;
  first := claimed[1];
  claimed := array(
    select c from (
      select c, bool_or((c).is_alone) over (partition by (c).user_id) as is_alone
      from unnest(claimed) c where (c).tenant_id = first.tenant_id) c
    where case when first.is_alone or c.is_alone and (c.c).user_id = first.user_id
      then (c.c).user_id = first.user_id else not c.is_alone end
    order by (c.c).id);
  perform set_config('laurel.tenant', (select t.customer_id from laurel.tenants t where t.id = first.tenant_id), true);
  if not exists (select from laurel.tenants t where t.id = first.tenant_id and t.archived_at is null) then
    -- Deleted meanwhile; its customer ID may be another tenant's by now.
    begin
      perform laurel_private.fail('LR001', null, current_setting('laurel.tenant'));
    exception when sqlstate 'LR001' then
      get stacked diagnostics code = returned_sqlstate, message = message_text;
    end;
    update laurel_private.queued_events q set refused_code = code, refused_message = message
    where q.id in (select c.id from unnest(claimed) c);
    return cardinality(claimed);
  end if;

  if not (select bool_or(c.is_alone) from unnest(claimed) c) then
    begin
      insert into laurel.metric_events (metric_key, user_id, value, attributes, idempotency_key, occurred_at)
      select c.metric_key, c.user_id, c.value, c.attributes, c.idempotency_key, c.occurred_at
      from unnest(claimed) with ordinality as c (id, tenant_id, user_id, metric_key, value, attributes, idempotency_key,
        occurred_at, profile, is_alone, refused_code, refused_message, no)
      order by c.no;
    exception when others then
      get stacked diagnostics code = returned_sqlstate;
      if code !~ '^(LR|2)' then
        raise;
      end if;
      -- One of them is refused: find out which, user by user.
      update laurel_private.queued_events q set is_alone = true where q.id in (select c.id from unnest(claimed) c);
      return cardinality(claimed);
    end;
  else
    foreach one in array claimed loop
      begin
        answer := laurel.record_event(one.metric_key, one.user_id, one.value, one.attributes, one.idempotency_key,
          one.occurred_at, one.profile);
      exception when others then
        get stacked diagnostics code = returned_sqlstate, message = message_text;
        if code !~ '^(LR|2)' then
          raise;
        end if;
        update laurel_private.queued_events q set refused_code = code, refused_message = message where q.id = one.id;
      end;
    end loop;
  end if;
  delete from laurel_private.queued_events q
  where q.refused_code is null and q.id in (select c.id from unnest(claimed) c);
  return cardinality(claimed);
end
$$;

comment on function laurel_private.process_queued_events(int) is
  'Records waiting events of one tenant, at most so many, in order per user; returns how many it dealt with, 0 when nothing waits. Refused ones are kept with the reason. Rules E6, E7, TR8.';

-- What became of a tenant's batches.
create function laurel_private.read_queued_events(most int, skipped int)
  returns jsonb language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'waiting', (
      select count(*) from laurel_private.queued_events q
      where q.tenant_id = laurel.current_tenant_id() and q.refused_code is null),
    'refused', (
      select coalesce(jsonb_agg(jsonb_build_object('id', q.id, 'key', q.metric_key, 'userId', q.user_id,
        'value', trim_scale(q.value), 'idempotencyKey', q.idempotency_key,
        'occurredAt', laurel_private.instant_as_text(q.occurred_at), 'error', q.refused_message) order by q.id), '[]')
      from (
        select q.* from laurel_private.queued_events q
        where q.tenant_id = laurel.current_tenant_id() and q.refused_code is not null
        order by q.id limit most offset skipped) q))
$$;

comment on function laurel_private.read_queued_events(int, int) is
  'How many accepted events wait, and those that were refused when they were recorded, with the reason.';

grant execute on function laurel_private.enqueue_events(jsonb), laurel_private.read_queued_events(int, int) to laurel_admin;
--! EndIncluded metrics/queued_events.sql
--! Included points/boost_announcements.sql
-- Telling that boosts start and finish (H4). What a boost does follows from its dates alone (B2); this only says
-- so, once each, whenever the worker comes. A boost of one user starts and finishes with the user's own days, any
-- other at 10:00 UTC the day before its first and at 13:00 UTC the day after its last, when every time zone is covered.
-- Written by the triggers here when a boost is made or edited, and by announce_boosts(), the worker's; read by what
-- sends messages. Invariant: of each boost starts and finishes alternate, beginning with a start.

create table laurel_private.boost_windows (
  tenant_id uuid not null,
  boost_id uuid not null,
  stage text not null,
  next_at timestamptz,
  registered_at timestamptz not null,
  constraint windows_are_one_per_boost primary key (tenant_id, boost_id),
  constraint window_waits_runs_or_is_over check (stage in ('waiting', 'running', 'over')),
  constraint window_is_of_a_boost foreign key (tenant_id, boost_id)
    references laurel.points_boosts (tenant_id, id) on delete cascade
);

create index boost_windows_by_time on laurel_private.boost_windows (next_at) where next_at is not null;
comment on table laurel_private.boost_windows is 'What was announced of each boost, and when there is more to announce.';
comment on column laurel_private.boost_windows.stage is 'Running between the announcement of its start and that of its finish.';
comment on column laurel_private.boost_windows.next_at is 'When to look at it again; null when nothing is to come.';
comment on column laurel_private.boost_windows.registered_at is
  'When its dates were last set: a window that was over by then is not announced.';
alter table laurel_private.boost_windows enable row level security;

create table laurel_private.boost_announcements (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid not null,
  boost_id uuid not null,
  type text not null,
  due_at timestamptz not null,
  announced_at timestamptz not null,
  constraint boost_announcements_have_ids primary key (id),
  constraint announcement_is_of_start_or_finish check (type in ('started', 'finished')),
  constraint announcement_is_of_a_boost foreign key (tenant_id, boost_id)
    references laurel.points_boosts (tenant_id, id) on delete cascade
);

create index boost_announcements_by_boost on laurel_private.boost_announcements (tenant_id, boost_id, id);
comment on table laurel_private.boost_announcements is 'Starts and finishes of boosts as announced, kept 30 days.';
comment on column laurel_private.boost_announcements.due_at is 'The moment of the start or finish; that of the edit for a boost stopped or moved while it ran.';
alter table laurel_private.boost_announcements enable row level security;

-- When a boost's start and finish are announced; the finish of one that never ends: never.
create function laurel_private.boost_starts_at(starts_on date, time_zone text)
  returns timestamptz language sql immutable parallel safe
  return case when time_zone is null then (starts_on - 1 + time '10:00') at time zone 'UTC'
    else starts_on::timestamp at time zone time_zone end;

create function laurel_private.boost_finishes_at(ends_on date, time_zone text)
  returns timestamptz language sql immutable parallel safe
  return case when ends_on is null then 'infinity'
    when time_zone is null then (ends_on + 1 + time '13:00') at time zone 'UTC'
    else (ends_on + 1)::timestamp at time zone time_zone end;

-- The time zone whose days a boost follows: null unless it is for one user.
create function laurel_private.boost_time_zone(boost laurel.points_boosts)
  returns text language sql stable as $$
  select s.time_zone from laurel_private.user_states s where s.tenant_id = boost.tenant_id and s.user_id = boost.user_id
$$;

create function laurel_private.is_boost_live(boost laurel.points_boosts)
  returns boolean language sql stable as $$
  select boost.is_active and boost.archived_at is null and exists (
    select from laurel.points_systems s where s.id = boost.system_id and s.archived_at is null)
$$;

-- When there is something to announce of a boost in this stage; at once when it runs and should not.
create function laurel_private.boost_next_at(boost laurel.points_boosts, stage text, moment timestamptz)
  returns timestamptz language sql stable as $$
  select nullif(case
    when stage = 'running' then case when t.is_live and t.starts_at <= moment then t.finishes_at else moment end
    when t.is_live and (stage = 'waiting' or t.finishes_at > moment) then t.starts_at end, 'infinity')
  from (
    select laurel_private.is_boost_live(boost) as is_live,
      laurel_private.boost_starts_at(boost.starts_on, laurel_private.boost_time_zone(boost)) as starts_at,
      laurel_private.boost_finishes_at(boost.ends_on, laurel_private.boost_time_zone(boost)) as finishes_at) t
$$;

-- One that is over and gets days again waits for them.
create function laurel_private.register_boost(boost laurel.points_boosts, moment timestamptz)
  returns void language sql volatile as $$
  insert into laurel_private.boost_windows as w (tenant_id, boost_id, stage, next_at, registered_at)
  values (boost.tenant_id, boost.id, 'waiting', laurel_private.boost_next_at(boost, 'waiting', moment), moment)
  on conflict on constraint windows_are_one_per_boost do update
  set next_at = laurel_private.boost_next_at(boost, w.stage, moment),
    stage = case when w.stage = 'over' and laurel_private.boost_next_at(boost, w.stage, moment) is not null then 'waiting' else w.stage end,
    registered_at = moment
$$;

create function laurel_private.tg_points_boosts__register()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.register_boost(new, clock_timestamp());
  return null;
end
$$;

create trigger points_boosts__register_new after insert on laurel.points_boosts
  for each row execute function laurel_private.tg_points_boosts__register();
create trigger points_boosts__register_changed after update on laurel.points_boosts
  for each row when ((old.starts_on, old.ends_on, old.is_active, old.archived_at)
    is distinct from (new.starts_on, new.ends_on, new.is_active, new.archived_at))
  execute function laurel_private.tg_points_boosts__register();

-- An archived system boosts nothing any more; a user's days move with its time zone.
create function laurel_private.tg_points_systems__register_boosts()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform laurel_private.register_boost(b, clock_timestamp())
  from laurel.points_boosts b where b.tenant_id = new.tenant_id and b.system_id = new.id;
  return null;
end
$$;

create trigger points_systems__register_boosts after update on laurel.points_systems
  for each row when (new.archived_at is not null and old.archived_at is null)
  execute function laurel_private.tg_points_systems__register_boosts();

create function laurel_private.tg_users__move_boosts()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update laurel_private.boost_windows w set next_at = laurel_private.boost_next_at(b, w.stage, clock_timestamp())
  from laurel.points_boosts b
  where b.tenant_id = new.tenant_id and b.user_id = new.id
    and w.tenant_id = b.tenant_id and w.boost_id = b.id and w.stage <> 'over';
  return null;
end
$$;

-- Behind users__share_state in the alphabet: the state has the new time zone by then.
create trigger users__then_move_boosts after update on laurel.users
  for each row when (old.tz is distinct from new.tz)
  execute function laurel_private.tg_users__move_boosts();

-- A start or finish as a message; about its user when the boost is for one.
create function laurel_private.boost_message(boost laurel.points_boosts, type text, happened_at timestamptz)
  returns laurel_private.outgoing_message language sql stable as $$
  select (boost.user_id, 'points.boost_' || type, jsonb_build_object('type', 'points.boost_' || type,
    'timestamp', laurel_private.instant_as_text(happened_at),
    'boost', laurel_private.boost_as_json(boost) || jsonb_build_object('status', case type when 'started' then 'active' else 'finished' end,
      'userId', boost.user_id, 'pointsSystemId', s.id, 'pointsSystemKey', s.key, 'pointsSystemName', s.name))::json)::laurel_private.outgoing_message
  from laurel.points_systems s where s.id = boost.system_id
$$;

-- Announces what is due, of at most so many boosts; returns of how many it dealt with, 0 when nothing is due. A start that was
-- missed is announced with its finish behind it, once each, by the next call. Users of boosts are locked before the
-- windows, as their own changes lock them, and so that their messages keep their order; those who are busy come with the next call.
create function laurel_private.announce_boosts(as_of timestamptz default now(), most int default 500)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
declare
  due uuid[];
  announced uuid[];
  looked_at int;
  told record;
begin
  due := array(
    select w.boost_id from laurel_private.boost_windows w
    where w.next_at <= as_of order by w.next_at limit greatest(most, 1));
  with held as (
    select b.id from unnest(due) q (id)
    join laurel.points_boosts b on b.id = q.id
    join laurel_private.user_states s on s.tenant_id = b.tenant_id and s.user_id = b.user_id
    order by s.tenant_id, s.user_id
    for no key update of s skip locked
  )
  select array_agg(b.id) into due from laurel.points_boosts b
  where b.id = any (due) and (b.user_id is null or b.id in (select h.id from held h));
  due := array(
    select w.boost_id from laurel_private.boost_windows w
    where w.boost_id = any (due) and w.next_at <= as_of
    for no key update skip locked);
  -- In a statement of its own: an edit that this overtook is in the row by now.
  with boost as (
    select w.tenant_id, w.boost_id, w.stage, w.next_at, w.registered_at, b, laurel_private.is_boost_live(b) as is_live,
      laurel_private.boost_starts_at(b.starts_on, laurel_private.boost_time_zone(b)) as starts_at,
      laurel_private.boost_finishes_at(b.ends_on, laurel_private.boost_time_zone(b)) as finishes_at
    from laurel_private.boost_windows w
    join laurel.points_boosts b on b.tenant_id = w.tenant_id and b.id = w.boost_id
    where w.boost_id = any (due)
  ),
  decided as (
    select x.*,
      case
        when x.stage = 'waiting' and x.is_live and x.starts_at <= as_of and x.finishes_at > x.registered_at then 'started'
        when x.stage = 'running' and not (x.is_live and x.starts_at <= as_of) then 'stopped'
        when x.stage = 'running' and x.finishes_at <= as_of then 'finished'
        when x.stage = 'waiting' and x.is_live and x.starts_at <= as_of then 'missed'
      end as what
    from boost x
  ),
  announcement as (
    insert into laurel_private.boost_announcements (tenant_id, boost_id, type, due_at, announced_at)
    select d.tenant_id, d.boost_id, case when d.what = 'started' then 'started' else 'finished' end,
      case d.what when 'started' then d.starts_at when 'finished' then d.finishes_at else d.next_at end, clock_timestamp()
    from decided d where d.what in ('started', 'finished', 'stopped')
    order by d.next_at
    returning id
  ),
  moved as (
    update laurel_private.boost_windows w
    set (stage, next_at) = (
      select s.stage, case when s.stage <> 'over' then laurel_private.boost_next_at(d.b, s.stage, as_of) end
      from (select case d.what when 'started' then 'running' when 'stopped' then 'waiting'
        when 'finished' then 'over' when 'missed' then 'over' else d.stage end as stage) s)
    from decided d
    where w.tenant_id = d.tenant_id and w.boost_id = d.boost_id
    returning w.boost_id
  )
  select (select count(*) from moved), array(select a.id from announcement a) into looked_at, announced;
  for told in
    -- One that is entered or moved when its days have begun starts then.
    select a.tenant_id, array_agg(laurel_private.boost_message(b, a.type,
      case a.type when 'started' then greatest(a.due_at, w.registered_at) else a.due_at end) order by a.id) as messages
    from laurel_private.boost_announcements a
    join laurel.points_boosts b on b.tenant_id = a.tenant_id and b.id = a.boost_id
    join laurel_private.boost_windows w on w.tenant_id = a.tenant_id and w.boost_id = a.boost_id
    where a.id = any (announced)
    group by a.tenant_id
  loop
    perform laurel_private.write_messages(told.tenant_id, told.messages);
  end loop;
  return looked_at;
end
$$;

comment on function laurel_private.announce_boosts(timestamptz, int) is
  'Announces starts and finishes of boosts that are due, of at most so many; returns of how many it dealt with, 0 when nothing is due. Safe to call by any number at once. Rule H4.';
--! EndIncluded points/boost_announcements.sql
--! Included insight/retention.sql
-- What is kept for a while only: reports of the past, and what nobody will look at again. Removed by
-- the worker every day, in batches.

create function laurel_private.remove_expired(as_of timestamptz default now(), most int default 5000)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
declare
  oldest_kept uuid := laurel_private.first_uuid_v7(as_of - interval '30 days');
  removed int;
  removed_in_all int := 0;
begin
  -- Reports of events that the queue refused.
  delete from laurel_private.queued_events q
  where q.id in (
    select q.id from laurel_private.queued_events q
    where q.refused_code is not null and q.id < oldest_kept limit most for update skip locked);
  get diagnostics removed = row_count;
  removed_in_all := removed_in_all + removed;
  delete from laurel_private.boost_announcements a
  where a.id in (
    select a.id from laurel_private.boost_announcements a where a.id < oldest_kept limit most for update skip locked);
  get diagnostics removed = row_count;
  removed_in_all := removed_in_all + removed;
  -- Clocks of activations that have ended, when nothing that was due before is left; then their spans.
  delete from laurel_private.user_clocks c
  where (c.tenant_id, c.user_id, c.trigger_id, c.activated_at) in (
    select c.tenant_id, c.user_id, c.trigger_id, c.activated_at
    from laurel_private.time_trigger_spans p
    join laurel_private.user_clocks c on c.tenant_id = p.tenant_id and c.trigger_id = p.trigger_id and c.activated_at = p.activated_at
    where not p.is_over and p.ends_at < as_of and (c.next_due_at is null or c.next_due_at >= p.ends_at + interval '2 days')
      and not exists (
        select from laurel_private.time_trigger_spans o
        where o.trigger_id = p.trigger_id and o.activated_at = p.activated_at and (o.ends_at is null or o.ends_at > p.ends_at or o.looks = 0))
    limit most
    for update of c skip locked);
  get diagnostics removed = row_count;
  removed_in_all := removed_in_all + removed;
  update laurel_private.time_trigger_spans p set is_over = true
  where not p.is_over and p.ends_at < as_of
    and not exists (
      select from laurel_private.time_trigger_spans o
      where o.trigger_id = p.trigger_id and o.activated_at = p.activated_at and (o.ends_at is null or o.looks = 0))
    and not exists (
      select from laurel_private.user_clocks c
      where c.tenant_id = p.tenant_id and c.trigger_id = p.trigger_id and c.activated_at = p.activated_at);
  return removed_in_all;
end
$$;

comment on function laurel_private.remove_expired(timestamptz, int) is
  'Removes what is older than 30 days of refused events'' reports and boost announcements, and clocks of ended activations; at most so many of each. Returns how many, 0 when there are none.';
--! EndIncluded insight/retention.sql
--! Included streaks/verify_streaks.sql
-- What must always be true of streaks (Q8): what is derived is what the periods and the freezes' changes say. Read by
-- insight/verify.sql.

create function laurel_private.broken_streaks(for_tenant uuid)
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language sql stable as $$
  with run as materialized (
    select r.*, r as whole from laurel_private.streak_runs r where for_tenant is null or r.tenant_id = for_tenant
  ),
  period as materialized (
    select p.* from laurel_private.streak_periods p where for_tenant is null or p.tenant_id = for_tenant
  ),
  streak as materialized (
    select u.* from laurel_private.user_streaks u
    where for_tenant is null or u.tenant_id = for_tenant
  ),
  latest as (
    select distinct on (r.tenant_id, r.user_id, r.frequency) r.* from run r
    order by r.tenant_id, r.user_id, r.frequency, r.first_period desc
  ),
  -- What an event may still be answered (record_event.sql), for users whose answer is of the settings of now.
  answer as (
    select s.tenant_id, s.user_id, concat_ws(' ', s.streak_answer, s.streak_is_satisfied, s.streak_valid_from, s.streak_valid_until) as kept,
      concat_ws(' ',
        laurel_private.streak_as_json(h.rule, s.time_zone, laurel_private.streak_pauses_of(s.tenant_id, s.user_id), u, l.whole) || '{"extended": false}',
        not (h.rule).is_enabled or coalesce(l.last_period = h.current_period, false),
        h.current_period::timestamp at time zone s.time_zone,
        laurel_private.next_streak_period(h.current_period, x.frequency)::timestamp at time zone s.time_zone) as expected
    from laurel_private.streak_settings x
    cross join lateral (select laurel_private.streak_rule_for(x, null) as rule offset 0) d
    join laurel_private.user_states s on s.tenant_id = x.tenant_id and s.streak_version = x.version
    left join laurel_private.user_streaks u on u.tenant_id = s.tenant_id and u.user_id = s.user_id
    left join latest l on l.tenant_id = s.tenant_id and l.user_id = s.user_id and l.frequency = u.frequency
    cross join lateral (
      select case when s.streak_preferences is null then d.rule else laurel_private.streak_rule_for(x, s.streak_preferences) end as rule,
        laurel_private.streak_period(u.settled_on, x.frequency) as current_period
      offset 0) h
    where for_tenant is null or x.tenant_id = for_tenant
  ),
  -- Where settings, preferences and time zone have been the same since before the period began: else nothing tells from
  -- when on, or to which period, an event counted. Events ahead of the clock counted for the period they arrived
  -- in; by less than a second, that matters to a period's first second alone.
  progress as (
    select g.tenant_id, g.user_id, g.frequency, g.period_start, g.metric_id, g.total,
      coalesce(sum(e.value) filter (where e.occurred_at >= b.begins_at and e.occurred_at < b.ends_at), 0) as expected,
      coalesce(bool_or(e.id < laurel_private.first_uuid_v7(e.occurred_at - interval '1 second')
        or e.occurred_at >= b.begins_at and e.occurred_at < b.begins_at + interval '1 second'
        or e.occurred_at >= b.ends_at and e.occurred_at < b.ends_at + interval '1 second'), false) as is_unclear
    from laurel_private.streak_progress g
    join laurel_private.streak_settings x on x.tenant_id = g.tenant_id and x.frequency = g.frequency
      and x.updated_at < (g.period_start - 1)::timestamp at time zone 'UTC'
    join laurel_private.user_states s on s.tenant_id = g.tenant_id and s.user_id = g.user_id and s.streak_preferences is null
    cross join lateral (
      select g.period_start::timestamp at time zone s.time_zone as begins_at,
        laurel_private.next_streak_period(g.period_start, g.frequency)::timestamp at time zone s.time_zone as ends_at) b
    left join laurel.metric_events e on e.tenant_id = g.tenant_id and e.user_id = g.user_id and e.metric_id = g.metric_id
      and e.occurred_at >= b.begins_at - interval '2 days' and e.occurred_at < b.ends_at + interval '2 days'
    where (for_tenant is null or g.tenant_id = for_tenant)
      and not exists (
        select from laurel_private.time_zone_changes z where z.tenant_id = g.tenant_id and z.user_id = g.user_id)
    group by g.tenant_id, g.user_id, g.frequency, g.period_start, g.metric_id, g.total
  ),
  counted as (
    select r.tenant_id, r.user_id, r.frequency, r.first_period, r.last_period, r.through_period, r.length,
      count(*) filter (where p.kind = 'satisfied') as satisfied,
      max(p.period_start) filter (where p.kind = 'satisfied') as last_satisfied,
      -- As many rows as there are periods from the first to the last it was kept through.
      count(p.period_start) as periods,
      case r.frequency when 'daily' then r.through_period - r.first_period when 'weekly' then (r.through_period - r.first_period) / 7
        else extract(year from age(r.through_period, r.first_period)) * 12 + extract(month from age(r.through_period, r.first_period)) end + 1 as expected_periods
    from run r
    left join period p on p.tenant_id = r.tenant_id and p.user_id = r.user_id and p.frequency = r.frequency
      and p.period_start between r.first_period and r.through_period and p.kind <> 'reset'
    group by r.tenant_id, r.user_id, r.frequency, r.first_period, r.last_period, r.through_period, r.length
  )
  select 'streak_length_is_the_number_of_satisfied_periods', c.tenant_id, c.user_id, c.frequency || ' ' || c.first_period,
    c.satisfied::text, c.length::text
  from counted c where c.satisfied <> c.length
  union all
  select 'streak_is_kept_through_every_period', c.tenant_id, c.user_id, c.frequency || ' ' || c.first_period,
    c.expected_periods::text, c.periods::text
  from counted c where c.periods <> c.expected_periods
  union all
  select 'streak_ends_with_its_last_satisfied_period', c.tenant_id, c.user_id, c.frequency || ' ' || c.first_period,
    c.last_satisfied::text, c.last_period::text
  from counted c where c.last_satisfied is distinct from c.last_period
  union all
  select 'satisfied_period_is_in_one_streak', p.tenant_id, p.user_id, p.frequency || ' ' || p.period_start, '1', count(r.first_period)::text
  from period p
  left join run r on r.tenant_id = p.tenant_id and r.user_id = p.user_id and r.frequency = p.frequency
    and p.period_start between r.first_period and r.through_period
  where p.kind = 'satisfied'
  group by p.tenant_id, p.user_id, p.frequency, p.period_start having count(r.first_period) <> 1
  union all
  -- The calendar that judged it may have been another than the user's now: a day of leeway.
  select 'satisfied_period_has_its_event', p.tenant_id, p.user_id, p.frequency || ' ' || p.period_start, p.event_id::text, e.occurred_at::text
  from period p
  left join laurel.metric_events e on e.tenant_id = p.tenant_id and e.user_id = p.user_id and e.id = p.event_id
  where p.kind = 'satisfied' and (e.id is null
    or e.occurred_at < (p.period_start - 1)::timestamp at time zone 'UTC'
    or e.occurred_at > (laurel_private.next_streak_period(p.period_start, p.frequency) + 2)::timestamp at time zone 'UTC')
  union all
  select 'only_the_latest_streak_runs', r.tenant_id, r.user_id, r.frequency || ' ' || r.first_period, 'over', 'running'
  from run r join latest l on l.tenant_id = r.tenant_id and l.user_id = r.user_id and l.frequency = r.frequency
  where not r.is_over and r.first_period <> l.first_period
  union all
  select 'current_streak_is_the_latest_that_runs', u.tenant_id, u.user_id, u.frequency::text,
    coalesce(case when not l.is_over then l.length end, 0)::text, u.length::text
  from streak u
  left join latest l on l.tenant_id = u.tenant_id and l.user_id = u.user_id and l.frequency = u.frequency
  where u.length <> coalesce(case when not l.is_over then l.length end, 0)
  union all
  select 'longest_streak_was_reached', u.tenant_id, u.user_id, u.frequency::text, max(r.length)::text, u.longest::text
  from streak u
  left join run r on r.tenant_id = u.tenant_id and r.user_id = u.user_id and r.frequency = u.frequency
  group by u.tenant_id, u.user_id, u.frequency, u.longest having u.longest <> coalesce(max(r.length), 0)
  union all
  select 'freezes_are_the_sum_of_their_changes', u.tenant_id, u.user_id, 'freezes', coalesce(sum(f.change), 0)::text, u.freezes::text
  from streak u
  left join laurel_private.streak_freezes f on f.tenant_id = u.tenant_id and f.user_id = u.user_id
  group by u.tenant_id, u.user_id, u.freezes having u.freezes <> coalesce(sum(f.change), 0)
  union all
  select 'frozen_period_used_a_freeze', p.tenant_id, p.user_id, p.period_start::text, 'a freeze', null
  from period p
  where p.kind = 'frozen' and not exists (
    select from laurel_private.streak_freezes f
    where f.tenant_id = p.tenant_id and f.user_id = p.user_id and f.cause = 'consumed' and f.on_date = p.period_start)
  union all
  select 'streak_progress_is_the_sum_of_its_period', g.tenant_id, g.user_id, g.frequency || ' ' || g.period_start || ' ' || g.metric_id,
    g.expected::text, g.total::text
  from progress g where g.total <> g.expected and not g.is_unclear
  union all
  select 'kept_streak_answer_is_that_of_the_streak', a.tenant_id, a.user_id, 'answer', a.expected, a.kept
  from answer a where a.kept is distinct from a.expected
  union all
  select 'award_for_a_streak_has_its_length', a.tenant_id, a.user_id, a.system_key || ' ' || a.id, 'a length', a.streak_length::text
  from laurel.points_awards a
  where a.cause = 'streak' and a.streak_length is null and (for_tenant is null or a.tenant_id = for_tenant)
$$;
--! EndIncluded streaks/verify_streaks.sql
--! Included insight/points_rollups.sql
-- Rollups of the ledger, for analytics (D3): how much was earned, by day and by user, and how many users have how
-- much; of everybody, and of each segment (users/segments.sql). Folded from the append-only ledger by the worker,
-- never written by an award: an award waits for nobody. Readers add the ledger's tail, the rows that are not folded yet,
-- and so are exact at any moment. Days are UTC days of the awards' dates.
--
-- Invariant: rollups and tail together are the ledger, and what erased users had earned (verify() compares
-- each with its view expected_…, rebuild_rollups.sql). What is folded are all rows with IDs below the watermark. Rows get their IDs under
-- their user's lock, so in a transaction that has an ID of its own by then: once all transactions up to one that began
-- after some moment have ended, no row with an ID from before that moment can appear any more.

create table laurel_private.earnings_fold (
  is_one boolean not null default true,
  watermark uuid not null default '00000000-0000-0000-0000-000000000000',
  next_watermark uuid,
  next_after xid8,
  windows_end_on date not null default (now() at time zone 'UTC')::date,
  constraint there_is_one_fold primary key (is_one),
  constraint fold_is_one check (is_one),
  constraint fold_knows_its_next_step check ((next_watermark is null) = (next_after is null))
);

comment on table laurel_private.earnings_fold is 'How far the ledger is folded into the rollups.';
comment on column laurel_private.earnings_fold.watermark is 'Rows with IDs below it are folded.';
comment on column laurel_private.earnings_fold.next_watermark is 'Where folding may go to once all transactions up to next_after have ended; null when none was chosen.';
comment on column laurel_private.earnings_fold.windows_end_on is 'The last day of the windows in user_earnings; days before it are in user_points_years.';
alter table laurel_private.earnings_fold enable row level security;
insert into laurel_private.earnings_fold default values;

create table laurel_private.points_days (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  segment_id uuid not null,
  system_id uuid not null,
  day date not null,
  cause laurel.points_award_cause not null,
  -- The nil UUID for adjustments.
  trigger_id uuid not null,
  earned numeric not null,
  boosted numeric not null,
  deducted numeric not null,
  awards bigint not null,
  constraint points_days_are_one_per_trigger primary key (tenant_id, segment_id, system_id, day, cause, trigger_id)
) with (fillfactor = 80);

comment on table laurel_private.points_days is 'Points earned (boosted: by awards that a boost applied to) and deducted per segment, system, UTC day and trigger, as far as folded.';
alter table laurel_private.points_days enable row level security;
-- For the view laurel.points_by_day, which reads in its caller's name.
grant select on laurel_private.points_days to laurel_admin;
create policy tenant_reads on laurel_private.points_days for select to laurel_admin
  using (tenant_id = (select laurel.current_tenant_id()));

-- What erased users had earned, without saying who; it is in everybody's points_days as well.
create table laurel_private.erased_points (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  system_id uuid not null,
  day date not null,
  cause laurel.points_award_cause not null,
  -- The nil UUID for adjustments.
  trigger_id uuid not null,
  earned numeric not null,
  boosted numeric not null,
  deducted numeric not null,
  awards bigint not null
);

create index erased_points_by_system on laurel_private.erased_points (tenant_id, system_id, day);
comment on table laurel_private.erased_points is
  'Per erased user (not named), system, UTC day and trigger: what ledger rows that are gone had added to points_days.';
alter table laurel_private.erased_points enable row level security;

create table laurel_private.user_points_days (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  system_id uuid not null,
  day date not null,
  earned numeric not null,
  constraint user_points_days_are_one_per_day primary key (tenant_id, system_id, day, user_id),
  constraint user_points_days_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
) with (fillfactor = 90);

create index user_points_days_by_user on laurel_private.user_points_days (tenant_id, user_id);
comment on table laurel_private.user_points_days is 'Points that a user earned on a UTC day, as far as folded.';
alter table laurel_private.user_points_days enable row level security;

-- The same of days that are over, a row for each user and year: what a user earned in any range of a year is the
-- difference of two sums, found by halving, whatever the range is. A day comes in once, as the windows move on.
create table laurel_private.user_points_years (
  tenant_id uuid not null,
  system_id uuid not null,
  year int not null,
  user_id text collate "C" not null,
  days date[] not null,
  sums bigint[] not null,
  constraint user_points_years_are_one_per_year primary key (tenant_id, system_id, year, user_id),
  constraint user_points_years_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade,
  constraint each_day_has_its_sum check (cardinality(days) = cardinality(sums))
  -- A year of days is a few kilobytes: read with its row, never from elsewhere.
) with (fillfactor = 80, toast_tuple_target = 8160);

create index user_points_years_by_user on laurel_private.user_points_years (tenant_id, user_id);
comment on table laurel_private.user_points_years is
  'The UTC days of a year on which a user earned points, in order, and what it had earned in that year by the end of each: of the days before windows_end_on of the fold.';
alter table laurel_private.user_points_years enable row level security;

-- Windows of 7, 30 and 90 days, and as many days before each. None of them is indexed, so that a fold's update
-- stays on its page; who has most is kept in top_earners.
create table laurel_private.user_earnings (
  tenant_id uuid not null,
  user_id text collate "C" not null,
  system_id uuid not null,
  joined_on date not null,
  last_7 numeric not null default 0,
  last_30 numeric not null default 0,
  last_90 numeric not null default 0,
  before_7 numeric not null default 0,
  before_30 numeric not null default 0,
  before_90 numeric not null default 0,
  first_14 numeric not null default 0,
  constraint user_earnings_are_one_per_system primary key (tenant_id, user_id, system_id),
  constraint user_earnings_belong_to_a_user foreign key (tenant_id, user_id)
    references laurel.users on delete cascade
) with (fillfactor = 70);

comment on table laurel_private.user_earnings is 'Points that a user earned in the last 7, 30 and 90 days, up to windows_end_on of the fold, in as many days before those, and in its own first 14, as far as folded.';
alter table laurel_private.user_earnings enable row level security;

create type laurel_private.earning_figure as enum ('last_7', 'last_30', 'last_90', 'before_7', 'before_30', 'before_90', 'first_14');

-- How many users earned how much: by the same figures, in ranges. For first_14 by day of joining; the epoch for the others.
create table laurel_private.earning_buckets (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  segment_id uuid not null,
  system_id uuid not null,
  figure laurel_private.earning_figure not null,
  joined_on date not null,
  bucket int not null,
  users bigint not null,
  points numeric not null,
  constraint earning_buckets_are_one_per_range primary key (tenant_id, segment_id, system_id, figure, joined_on, bucket)
) with (fillfactor = 80);

comment on table laurel_private.earning_buckets is 'Users of a segment, and their points, by range of points earned. Users with none are in no bucket.';
alter table laurel_private.earning_buckets enable row level security;

create table laurel_private.top_earners (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  segment_id uuid not null,
  system_id uuid not null,
  figure laurel_private.earning_figure not null,
  earned numeric not null,
  user_id text collate "C" not null,
  constraint top_earners_are_one_per_figure primary key (tenant_id, segment_id, system_id, figure)
);

comment on table laurel_private.top_earners is 'Who of a segment earned most in each window, the first by ID of equals; no row when nobody earned anything.';
alter table laurel_private.top_earners enable row level security;

-- How many users have how much. Beside the exact totals there are those with all but their first three digits
-- zeroed: 9,000 rows at most count all users, and the exact ones are read between two of those alone.
create table laurel_private.points_totals (
  tenant_id uuid not null references laurel.tenants on delete cascade,
  segment_id uuid not null,
  system_id uuid not null,
  is_rounded boolean not null,
  total bigint not null,
  users bigint not null,
  constraint points_totals_are_counted_once primary key (tenant_id, segment_id, system_id, is_rounded, total)
) with (fillfactor = 80);

comment on table laurel_private.points_totals is 'Users of a segment with awards by their total, exact and rounded down to three digits, as far as folded.';
alter table laurel_private.points_totals enable row level security;

-- Ranges of a histogram: 1, 2–4, 5–9, 10–19 … Fixed, so that users move between them one by one.
create function laurel_private.bucket_starts()
  returns numeric[] language sql immutable parallel safe as $$
  select array_agg(s.step * 10::numeric ^ e.exponent order by e.exponent, s.step)
  from unnest(array[1, 2, 5]) s (step) cross join generate_series(0, 18) e (exponent)
$$;

-- 0 for nothing earned.
create function laurel_private.bucket_of(earned numeric, starts numeric[])
  returns int language sql immutable parallel safe
  return width_bucket(earned, starts);

create function laurel_private.step_of_three_digits(total bigint)
  returns bigint language sql immutable parallel safe
  return (10::numeric ^ greatest(length(total::text) - 3, 0))::bigint;

create function laurel_private.first_three_digits(total bigint)
  returns bigint language sql immutable parallel safe
  return total - total % laurel_private.step_of_three_digits(total);

create function laurel_private.next_three_digits(total bigint)
  returns bigint language sql immutable parallel safe
  return laurel_private.first_three_digits(total) + laurel_private.step_of_three_digits(total);

-- Ledger rows as the rollups count them; in_segments() says in which segment as well.
create view laurel_private.award_figures as
  select a.id, a.tenant_id, null::uuid as segment_id, a.user_id, a.system_id, laurel_private.utc_day(a.occurred_at) as day, a.cause,
    coalesce(a.trigger_id, laurel_private.nil_metric()) as trigger_id,
    greatest(a.points, 0) as earned, case when a.boosts is null then 0 else greatest(a.points, 0) end as boosted,
    greatest(-a.points, 0) as deducted, a.sequence, a.total_before, a.total_after
  from laurel.points_awards a;

comment on view laurel_private.award_figures is 'What each ledger row adds to the rollups.';

-- The same rows with the segments that their users are folded into.
create function laurel_private.in_segments(figures laurel_private.award_figures[])
  returns laurel_private.award_figures[] language sql stable as $$
  select array_agg((f.id, f.tenant_id, s.segment_id, f.user_id, f.system_id, f.day, f.cause, f.trigger_id,
    f.earned, f.boosted, f.deducted, f.sequence, f.total_before, f.total_after)::laurel_private.award_figures)
  from unnest(figures) f
  left join lateral (
    select s.segment_id from laurel_private.user_segments s where s.tenant_id = f.tenant_id and s.user_id = f.user_id offset 0) s on true
$$;

-- Gives users whose first rows these are their segment, of the attributes that they have now.
create function laurel_private.place_users(figures laurel_private.award_figures[])
  returns void language sql volatile as $$
  with newcomer as materialized (
    select distinct f.tenant_id, f.user_id from unnest(figures) f
    where not exists (select from laurel_private.user_segments s where s.tenant_id = f.tenant_id and s.user_id = f.user_id)
  ),
  placed as materialized (
    select u.tenant_id, u.id, u.attributes, laurel_private.segment_of(u.attributes) as segment_id
    from newcomer n
    cross join lateral (
      select u.tenant_id, u.id, u.attributes from laurel.users u where u.tenant_id = n.tenant_id and u.id = n.user_id offset 0) u
  ),
  added as (
    insert into laurel_private.segments (tenant_id, id, attributes)
    select distinct p.tenant_id, p.segment_id, p.attributes from placed p
    where exists (select from laurel.tenants t where t.id = p.tenant_id)
    on conflict do nothing
  )
  insert into laurel_private.user_segments (tenant_id, user_id, segment_id)
  select p.tenant_id, p.id, p.segment_id from placed p
$$;

-- `sign` is -1 to take rows back. Everybody's figures are the sums of all segments'; they change too unless it says otherwise.
create function laurel_private.add_to_days(figures laurel_private.award_figures[], sign int default 1, of_everybody boolean default true)
  returns void language plpgsql volatile as $$
begin
  with of_segments as materialized (
    select f.tenant_id, f.segment_id, f.system_id, f.day, f.cause, f.trigger_id,
      sign * sum(f.earned) as earned, sign * sum(f.boosted) as boosted, sign * sum(f.deducted) as deducted, sign * count(*) as awards
    from unnest(figures) f
    where exists (select from laurel.tenants t where t.id = f.tenant_id)
    group by 1, 2, 3, 4, 5, 6
  )
  insert into laurel_private.points_days as d (tenant_id, segment_id, system_id, day, cause, trigger_id, earned, boosted, deducted, awards)
  select s.* from of_segments s where s.segment_id is not null
  union all
  select s.tenant_id, laurel_private.everybody(), s.system_id, s.day, s.cause, s.trigger_id,
    sum(s.earned), sum(s.boosted), sum(s.deducted), sum(s.awards)
  from of_segments s where of_everybody
  group by s.tenant_id, s.system_id, s.day, s.cause, s.trigger_id
  on conflict on constraint points_days_are_one_per_trigger do update
  set earned = d.earned + excluded.earned, boosted = d.boosted + excluded.boosted,
    deducted = d.deducted + excluded.deducted, awards = d.awards + excluded.awards;
  if sign < 0 then
    delete from laurel_private.points_days d using (
      select distinct f.tenant_id, f.segment_id, f.system_id, f.day, f.cause, f.trigger_id from unnest(figures) f) f
    where d.tenant_id = f.tenant_id and d.segment_id = f.segment_id and d.system_id = f.system_id and d.day = f.day
      and d.cause = f.cause and d.trigger_id = f.trigger_id and d.awards = 0;
  end if;
end
$$;

-- Every row moves its user from one total to the next; the first one brings it in.
create function laurel_private.add_to_totals(figures laurel_private.award_figures[], sign int default 1, of_everybody boolean default true)
  returns void language plpgsql volatile as $$
#variable_conflict use_column
declare
  changes laurel_private.points_totals[];
begin
  with of_segments as materialized (
    select f.tenant_id, f.segment_id, f.system_id, m.total, sign * sum(m.users) as users
    from unnest(figures) f
    cross join lateral (values (f.total_after, 1), (case when f.sequence > 1 then f.total_before end, -1)) m (total, users)
    where m.total is not null
    group by 1, 2, 3, 4 having sum(m.users) <> 0
  ),
  exact as materialized (
    select s.* from of_segments s where s.segment_id is not null
    union all
    select s.tenant_id, laurel_private.everybody(), s.system_id, s.total, sum(s.users) from of_segments s where of_everybody group by 1, 3, 4
  )
  select array_agg(c.c) into changes
  from (
    select (x.tenant_id, x.segment_id, x.system_id, r.is_rounded, r.total, sum(x.users))::laurel_private.points_totals as c
    from exact x
    cross join lateral (values (false, x.total), (true, laurel_private.first_three_digits(x.total))) r (is_rounded, total)
    where exists (select from laurel.tenants t where t.id = x.tenant_id)
    group by x.tenant_id, x.segment_id, x.system_id, r.is_rounded, r.total
    having sum(x.users) <> 0) c;
  insert into laurel_private.points_totals as t (tenant_id, segment_id, system_id, is_rounded, total, users)
  select c.* from unnest(changes) c
  on conflict on constraint points_totals_are_counted_once do update set users = t.users + excluded.users;
  -- Users leave many totals behind.
  delete from laurel_private.points_totals t using unnest(changes) c
  where c.users < 0 and t.tenant_id = c.tenant_id and t.segment_id = c.segment_id and t.system_id = c.system_id
    and t.is_rounded = c.is_rounded and t.total = c.total and t.users = 0;
end
$$;

-- What changes for users, who go from one segment to another or stay in theirs: per figure what comes in addition.
create type laurel_private.earning_change as (
  tenant_id uuid, old_segment uuid, new_segment uuid, system_id uuid, user_id text, last_7 numeric, last_30 numeric, last_90 numeric,
  before_7 numeric, before_30 numeric, before_90 numeric, first_14 numeric
);

-- In which windows a day lies that is so many days ago, and with how much. Null: after them.
create function laurel_private.windows_of(age int)
  returns table (last_7 boolean, last_30 boolean, last_90 boolean, before_7 boolean, before_30 boolean, before_90 boolean)
  language sql immutable parallel safe as $$
  select age between 0 and 6, age between 0 and 29, age between 0 and 89,
    age between 7 and 13, age between 30 and 59, age between 90 and 179
$$;

-- Moves users between buckets, of everybody and of segments, and who has more than the top earner takes its place.
create function laurel_private.change_earnings(changes laurel_private.earning_change[])
  returns void language sql volatile as $$
  with change as (
    -- Users who were erased since are gone from all of this.
    select c.*, laurel_private.utc_day(u.created_at) as joined_on
    from unnest(changes) c
    join laurel.users u on u.tenant_id = c.tenant_id and u.id = c.user_id
  ),
  before as materialized (
    select c.*, coalesce(e.last_7, 0) as old_last_7, coalesce(e.last_30, 0) as old_last_30, coalesce(e.last_90, 0) as old_last_90,
      coalesce(e.before_7, 0) as old_before_7, coalesce(e.before_30, 0) as old_before_30, coalesce(e.before_90, 0) as old_before_90,
      coalesce(e.first_14, 0) as old_first_14, coalesce(e.joined_on, c.joined_on) as cohort
    from change c
    left join laurel_private.user_earnings e on e.tenant_id = c.tenant_id and e.user_id = c.user_id and e.system_id = c.system_id
  ),
  written as (
    insert into laurel_private.user_earnings as e
      (tenant_id, user_id, system_id, joined_on, last_7, last_30, last_90, before_7, before_30, before_90, first_14)
    select b.tenant_id, b.user_id, b.system_id, b.cohort, b.last_7, b.last_30, b.last_90, b.before_7, b.before_30, b.before_90, b.first_14
    from before b
    on conflict on constraint user_earnings_are_one_per_system do update
    set last_7 = e.last_7 + excluded.last_7, last_30 = e.last_30 + excluded.last_30, last_90 = e.last_90 + excluded.last_90,
      before_7 = e.before_7 + excluded.before_7, before_30 = e.before_30 + excluded.before_30,
      before_90 = e.before_90 + excluded.before_90, first_14 = e.first_14 + excluded.first_14
  ),
  moved as materialized (
    select b.tenant_id, b.system_id, b.user_id, b.old_segment, b.new_segment, f.figure, f.joined_on, f.old, f.old + f.change as new,
      laurel_private.bucket_of(f.old, s.starts) as old_bucket, laurel_private.bucket_of(f.old + f.change, s.starts) as new_bucket
    from before b
    cross join (select laurel_private.bucket_starts() as starts) s
    cross join lateral (values
      ('last_7'::laurel_private.earning_figure, date 'epoch', b.old_last_7, b.last_7), ('last_30', 'epoch', b.old_last_30, b.last_30),
      ('last_90', 'epoch', b.old_last_90, b.last_90), ('before_7', 'epoch', b.old_before_7, b.before_7),
      ('before_30', 'epoch', b.old_before_30, b.before_30), ('before_90', 'epoch', b.old_before_90, b.before_90),
      ('first_14', b.cohort, b.old_first_14, b.first_14)
    ) f (figure, joined_on, old, change)
    where f.change <> 0 or b.new_segment <> b.old_segment
  ),
  -- Everybody's are the sums of all segments'.
  of_segments as materialized (
    select m.tenant_id, x.segment_id, m.system_id, m.figure, m.joined_on, x.bucket, sum(x.users) as users, sum(x.points) as points
    from moved m
    cross join lateral (values (m.old_segment, m.old_bucket, -1, -m.old), (m.new_segment, m.new_bucket, 1, m.new)) x (segment_id, bucket, users, points)
    where x.bucket > 0
    group by 1, 2, 3, 4, 5, 6
  ),
  counted as (
    insert into laurel_private.earning_buckets as k (tenant_id, segment_id, system_id, figure, joined_on, bucket, users, points)
    select s.* from of_segments s where s.segment_id is not null
    union all
    select s.tenant_id, laurel_private.everybody(), s.system_id, s.figure, s.joined_on, s.bucket, sum(s.users), sum(s.points)
    from of_segments s
    group by s.tenant_id, s.system_id, s.figure, s.joined_on, s.bucket
    on conflict on constraint earning_buckets_are_one_per_range do update
    set users = k.users + excluded.users, points = k.points + excluded.points
  ),
  top as materialized (
    select distinct on (m.tenant_id, m.new_segment, m.system_id, m.figure)
      m.tenant_id, m.new_segment as segment_id, m.system_id, m.figure, m.new as earned, m.user_id
    from moved m
    where m.figure <> 'first_14' and (m.new > m.old or m.new > 0 and m.new_segment <> m.old_segment)
    order by m.tenant_id, m.new_segment, m.system_id, m.figure, m.new desc, m.user_id collate "C"
  )
  insert into laurel_private.top_earners as t (tenant_id, segment_id, system_id, figure, earned, user_id)
  select t.* from top t where t.segment_id is not null
  union all
  (select distinct on (t.tenant_id, t.system_id, t.figure) t.tenant_id, laurel_private.everybody(), t.system_id, t.figure, t.earned, t.user_id
  from top t
  order by t.tenant_id, t.system_id, t.figure, t.earned desc, t.user_id collate "C")
  on conflict on constraint top_earners_are_one_per_figure do update
  set earned = excluded.earned, user_id = excluded.user_id
  where excluded.earned > t.earned or excluded.earned = t.earned and excluded.user_id < t.user_id
$$;

create function laurel_private.year_of(day date)
  returns int language sql immutable parallel safe
  return extract(year from day)::int;

-- Totals end at 2^53: only who went there from 0 a thousand times in a year earned more.
create function laurel_private.as_bigint(earned numeric)
  returns bigint language sql immutable parallel safe
  return least(earned, 9223372036854775807)::bigint;

-- After users earned on days that were over: their years anew.
create function laurel_private.sum_up_years(figures laurel_private.award_figures[], before date)
  returns void language sql volatile as $$
  insert into laurel_private.user_points_years (tenant_id, system_id, year, user_id, days, sums)
  select d.tenant_id, d.system_id, d.year, d.user_id, array_agg(d.day order by d.day), array_agg(laurel_private.as_bigint(d.sum) order by d.day)
  from (
    select y.*, d.day, sum(d.earned) over (partition by y.tenant_id, y.system_id, y.year, y.user_id order by d.day) as sum
    from (
      select distinct f.tenant_id, f.system_id, laurel_private.year_of(f.day) as year, f.user_id
      from unnest(figures) f where f.earned > 0 and f.day < before) y
    cross join lateral (
      select d.day, d.earned from laurel_private.user_points_days d
      where d.tenant_id = y.tenant_id and d.user_id = y.user_id and d.system_id = y.system_id
        and laurel_private.year_of(d.day) = y.year and d.day < before offset 0) d) d
  group by 1, 2, 3, 4
  on conflict on constraint user_points_years_are_one_per_year do update set days = excluded.days, sums = excluded.sums
$$;

-- Folds the next rows, at most so many; in one transaction with the watermark, so that each is folded
-- once. Returns how many steps were done: 0 when there is nothing to do now. Any number of workers may call it: one does it.
create function laurel_private.fold_earnings(most int default 20000, margin interval default '10 seconds')
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  fold laurel_private.earnings_fold;
  figures laurel_private.award_figures[];
  beyond uuid;
  -- Short of now: IDs may run ahead of the clock a little, and a clock may be set back. Read before this
  -- transaction gets its ID: whoever gets one later makes later IDs.
  moment timestamptz := clock_timestamp() - margin;
begin
  select f.* into fold from laurel_private.earnings_fold f for update skip locked;
  if not found then
    return 0;
  elsif fold.next_watermark is null or fold.next_after >= pg_snapshot_xmax(pg_current_snapshot()) then
    -- One that no transaction has reached yet comes from the server that this database was restored from.
    if fold.watermark < laurel_private.first_uuid_v7(moment - margin) then
      update laurel_private.earnings_fold f
      set next_watermark = laurel_private.first_uuid_v7(moment),
        -- Not a snapshot's xmax: a transaction that runs may have an ID above it.
        next_after = pg_current_xact_id();
      return 1;
    end if;
    return 0;
  elsif fold.next_after >= pg_snapshot_xmin(pg_current_snapshot()) then
    return 0;
  end if;

  figures := array(
    select f from laurel_private.award_figures f
    where f.id >= fold.watermark and f.id < fold.next_watermark
    order by f.id limit most);
  beyond := case when cardinality(figures) < most then fold.next_watermark
    else laurel_private.next_uuid((figures[most]).id) end;

  perform laurel_private.place_users(figures);
  figures := laurel_private.in_segments(figures);
  perform laurel_private.add_to_days(figures);
  perform laurel_private.add_to_totals(figures);

  insert into laurel_private.user_points_days as d (tenant_id, user_id, system_id, day, earned)
  select f.tenant_id, f.user_id, f.system_id, f.day, sum(f.earned)
  from unnest(figures) f
  join laurel.users u on u.tenant_id = f.tenant_id and u.id = f.user_id
  where f.earned > 0
  group by 1, 2, 3, 4
  on conflict on constraint user_points_days_are_one_per_day do update set earned = d.earned + excluded.earned;
  perform laurel_private.sum_up_years(figures, fold.windows_end_on);

  perform laurel_private.change_earnings(array(
    select (a.tenant_id, a.segment_id, a.segment_id, a.system_id, a.user_id,
      coalesce(sum(a.earned) filter (where w.last_7), 0), coalesce(sum(a.earned) filter (where w.last_30), 0),
      coalesce(sum(a.earned) filter (where w.last_90), 0), coalesce(sum(a.earned) filter (where w.before_7), 0),
      coalesce(sum(a.earned) filter (where w.before_30), 0), coalesce(sum(a.earned) filter (where w.before_90), 0),
      coalesce(sum(a.earned) filter (where a.is_first), 0))::laurel_private.earning_change
    from (
      select f.tenant_id, f.segment_id, f.system_id, f.user_id, f.earned,
        -- What lies after the windows, at a negative age, comes in when they move on.
        fold.windows_end_on - f.day as age, f.day - laurel_private.utc_day(u.created_at) between 0 and 13 as is_first
      from unnest(figures) f
      join laurel.users u on u.tenant_id = f.tenant_id and u.id = f.user_id
      where f.earned > 0) a
    cross join lateral laurel_private.windows_of(a.age) w
    group by a.tenant_id, a.segment_id, a.system_id, a.user_id
    having bool_or(a.age between 0 and 179 or a.is_first)));

  update laurel_private.earnings_fold f
  set watermark = beyond,
    next_watermark = case when beyond < f.next_watermark then f.next_watermark end,
    next_after = case when beyond < f.next_watermark then f.next_after end;
  return greatest(cardinality(figures), 1);
end
$$;

comment on function laurel_private.fold_earnings(int, interval) is
  'Folds the next ledger rows, at most so many, into the rollups; 0 when there is nothing to fold now. Rule D3.';

-- Who earned most, anew: after figures went down, or users left. Of one segment, or of everybody and all segments.
create function laurel_private.find_top_earners(of_tenant uuid, of_system uuid, of_segment uuid default null)
  returns void language plpgsql volatile as $$
begin
  delete from laurel_private.top_earners t
  where t.tenant_id = of_tenant and t.system_id = of_system and (of_segment is null or t.segment_id = of_segment);
  if of_segment is null then
    insert into laurel_private.top_earners (tenant_id, segment_id, system_id, figure, earned, user_id)
    select e.tenant_id, e.segment_id, e.system_id, e.figure, e.earned, e.user_id from laurel_private.expected_top_earners e
    where e.tenant_id = of_tenant and e.system_id = of_system;
  else
    insert into laurel_private.top_earners (tenant_id, segment_id, system_id, figure, earned, user_id)
    select e.tenant_id, e.segment_id, e.system_id, e.figure, e.earned, e.user_id from laurel_private.expected_top_earners e
    where e.tenant_id = of_tenant and e.system_id = of_system and e.segment_id = of_segment;
  end if;
end
$$;

-- Moves the windows on by a day when a day has begun: it comes in, and another leaves each window. The day that is over
-- comes to its year's sums.
create function laurel_private.move_windows(as_of timestamptz, most int default 20000)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  fold laurel_private.earnings_fold;
  system record;
  edge int;
  -- Users are taken so many at a time: a day may have millions.
  part laurel_private.user_points_days[];
  has_moved boolean;
begin
  select f.* into fold from laurel_private.earnings_fold f
  where f.windows_end_on < laurel_private.utc_day(as_of) for update skip locked;
  if not found then
    return 0;
  end if;
  for system in select s.tenant_id, s.id from laurel.points_systems s order by s.tenant_id, s.id loop
    has_moved := false;
    -- The days that come in or go over, by how long ago they will be.
    foreach edge in array array[0, 7, 14, 30, 60, 90, 180] loop
      part := '{}';
      loop
        part := array(
          select d from laurel_private.user_points_days d
          where d.tenant_id = system.tenant_id and d.system_id = system.id and d.day = fold.windows_end_on + 1 - edge
            and (part = '{}' or d.user_id > (part[cardinality(part)]).user_id)
          order by d.user_id limit most);
        exit when part = '{}';
        has_moved := true;
        perform laurel_private.change_earnings(array(
          select (d.tenant_id, s.segment_id, s.segment_id, d.system_id, d.user_id,
            d.earned * (w.last_7::int - v.last_7::int), d.earned * (w.last_30::int - v.last_30::int), d.earned * (w.last_90::int - v.last_90::int),
            d.earned * (w.before_7::int - v.before_7::int), d.earned * (w.before_30::int - v.before_30::int),
            d.earned * (w.before_90::int - v.before_90::int), 0)::laurel_private.earning_change
          from unnest(part) d
          left join laurel_private.user_segments s on s.tenant_id = d.tenant_id and s.user_id = d.user_id
          cross join laurel_private.windows_of(edge) w
          cross join laurel_private.windows_of(edge - 1) v));
      end loop;
    end loop;
    if has_moved then
      perform laurel_private.find_top_earners(system.tenant_id, system.id);
    end if;
    insert into laurel_private.user_points_years as y (tenant_id, system_id, year, user_id, days, sums)
    select d.tenant_id, d.system_id, laurel_private.year_of(d.day), d.user_id, array[d.day], array[laurel_private.as_bigint(d.earned)]
    from laurel_private.user_points_days d
    where d.tenant_id = system.tenant_id and d.system_id = system.id and d.day = fold.windows_end_on
    order by d.user_id
    on conflict on constraint user_points_years_are_one_per_year do update
    set days = y.days || excluded.days, sums = y.sums || laurel_private.as_bigint(y.sums[cardinality(y.sums)]::numeric + excluded.sums[1]);
  end loop;
  update laurel_private.earnings_fold f set windows_end_on = fold.windows_end_on + 1;
  return 1;
end
$$;

comment on function laurel_private.move_windows(timestamptz, int) is
  'Moves the windows of user_earnings on by one day if a UTC day has begun since, so many users at a time; 0 when they end today.';

-- Before a user is erased (K4): what it earned stays in everybody's days, and leaves its segment's; its own figures go.
-- Under the fold's lock, taken after the user's and kept until its ledger rows are gone: a fold finds all of them or none.
create function laurel_private.forget_earnings(of_tenant uuid, of_user text)
  returns void language plpgsql volatile as $$
declare
  fold laurel_private.earnings_fold;
  folded laurel_private.award_figures[];
begin
  select f.* into fold from laurel_private.earnings_fold f for update;
  -- What is not folded yet would be gone with the ledger.
  perform laurel_private.add_to_days(array(
    select f from laurel_private.award_figures f
    where f.tenant_id = of_tenant and f.user_id = of_user and f.id >= fold.watermark));
  insert into laurel_private.erased_points (tenant_id, system_id, day, cause, trigger_id, earned, boosted, deducted, awards)
  select f.tenant_id, f.system_id, f.day, f.cause, f.trigger_id, sum(f.earned), sum(f.boosted), sum(f.deducted), count(*)
  from laurel_private.award_figures f
  where f.tenant_id = of_tenant and f.user_id = of_user
  group by 1, 2, 3, 4, 5;
  folded := laurel_private.in_segments(array(
    select f from laurel_private.award_figures f
    where f.tenant_id = of_tenant and f.user_id = of_user and f.id < fold.watermark));
  perform laurel_private.add_to_days(folded, -1, of_everybody => false);
  perform laurel_private.add_to_totals(folded, -1);
  perform laurel_private.change_earnings(array(
    select (e.tenant_id, s.segment_id, s.segment_id, e.system_id, e.user_id, -e.last_7, -e.last_30, -e.last_90,
      -e.before_7, -e.before_30, -e.before_90, -e.first_14)::laurel_private.earning_change
    from laurel_private.user_earnings e
    left join laurel_private.user_segments s on s.tenant_id = e.tenant_id and s.user_id = e.user_id
    where e.tenant_id = of_tenant and e.user_id = of_user));
  perform laurel_private.find_top_earners(t.tenant_id, t.system_id, t.segment_id)
  from (
    select distinct t.tenant_id, t.system_id, t.segment_id from laurel_private.top_earners t
    where t.tenant_id = of_tenant and t.user_id = of_user) t;
  update laurel_private.user_count_changes c set user_id = null where c.tenant_id = of_tenant and c.user_id = of_user;
  -- The rows themselves go with the user.
end
$$;
--! EndIncluded insight/points_rollups.sql
--! Included insight/rebuild_rollups.sql
-- What the rollups must be, by the ledger and by each other: verify() compares, rebuild_rollups() writes.

-- Ledger rows that are folded, for everybody and for the users' segments.
create view laurel_private.folded_figures as
  select f.id, f.tenant_id, laurel_private.everybody() as segment_id, f.user_id, f.system_id, f.day, f.cause, f.trigger_id,
    f.earned, f.boosted, f.deducted, f.sequence, f.total_before, f.total_after
  from laurel_private.award_figures f
  where f.id < (select f.watermark from laurel_private.earnings_fold f)
  union all
  select f.id, f.tenant_id, s.segment_id, f.user_id, f.system_id, f.day, f.cause, f.trigger_id,
    f.earned, f.boosted, f.deducted, f.sequence, f.total_before, f.total_after
  from laurel_private.award_figures f
  join laurel_private.user_segments s on s.tenant_id = f.tenant_id and s.user_id = f.user_id
  where f.id < (select f.watermark from laurel_private.earnings_fold f);

create view laurel_private.expected_points_days as
  select s.tenant_id, s.segment_id, s.system_id, s.day, s.cause, s.trigger_id, sum(s.earned) as earned, sum(s.boosted) as boosted,
    sum(s.deducted) as deducted, sum(s.awards)::bigint as awards
  from (
    select f.tenant_id, f.segment_id, f.system_id, f.day, f.cause, f.trigger_id, f.earned::numeric, f.boosted::numeric, f.deducted::numeric, 1::bigint as awards
    from laurel_private.folded_figures f
    union all
    select e.tenant_id, laurel_private.everybody(), e.system_id, e.day, e.cause, e.trigger_id, e.earned, e.boosted, e.deducted, e.awards
    from laurel_private.erased_points e) s
  group by 1, 2, 3, 4, 5, 6;

create view laurel_private.expected_user_points_days as
  select f.tenant_id, f.user_id, f.system_id, f.day, sum(f.earned)::numeric as earned
  from laurel_private.award_figures f
  where f.earned > 0 and f.id < (select f.watermark from laurel_private.earnings_fold f)
  group by 1, 2, 3, 4;

-- From the users' days.
create view laurel_private.expected_user_points_years as
  select d.tenant_id, d.system_id, d.year, d.user_id, array_agg(d.day order by d.day) as days, array_agg(laurel_private.as_bigint(d.sum) order by d.day) as sums
  from (
    select d.tenant_id, d.system_id, laurel_private.year_of(d.day) as year, d.user_id, d.day,
      sum(d.earned) over (partition by d.tenant_id, d.system_id, laurel_private.year_of(d.day), d.user_id order by d.day) as sum
    from laurel_private.user_points_days d
    where d.day < (select f.windows_end_on from laurel_private.earnings_fold f)) d
  group by 1, 2, 3, 4;

create view laurel_private.expected_points_totals as
  select m.tenant_id, m.segment_id, m.system_id, r.is_rounded, case when r.is_rounded then laurel_private.first_three_digits(m.total) else m.total end as total,
    sum(m.users)::bigint as users
  from (
    select m.tenant_id, m.segment_id, m.system_id, x.total, sum(x.users) as users
    from laurel_private.folded_figures m
    cross join lateral (values (m.total_after, 1), (case when m.sequence > 1 then m.total_before end, -1)) x (total, users)
    where x.total is not null
    group by 1, 2, 3, 4) m
  cross join (values (false), (true)) r (is_rounded)
  group by 1, 2, 3, 4, 5
  having sum(m.users) <> 0;

-- From the users' days.
create view laurel_private.expected_user_earnings as
  select d.tenant_id, d.user_id, d.system_id, laurel_private.utc_day(u.created_at) as joined_on,
    d.last_7, d.last_30, d.last_90, d.before_7, d.before_30, d.before_90, d.first_14
  from (
    select d.tenant_id, d.user_id, d.system_id,
      coalesce(sum(d.earned) filter (where w.last_7), 0) as last_7, coalesce(sum(d.earned) filter (where w.last_30), 0) as last_30,
      coalesce(sum(d.earned) filter (where w.last_90), 0) as last_90, coalesce(sum(d.earned) filter (where w.before_7), 0) as before_7,
      coalesce(sum(d.earned) filter (where w.before_30), 0) as before_30, coalesce(sum(d.earned) filter (where w.before_90), 0) as before_90,
      coalesce(sum(d.earned) filter (where d.day - laurel_private.utc_day(u.created_at) between 0 and 13), 0) as first_14
    from laurel_private.user_points_days d
    join laurel.users u on u.tenant_id = d.tenant_id and u.id = d.user_id
    cross join laurel_private.earnings_fold f
    cross join lateral laurel_private.windows_of(f.windows_end_on - d.day) w
    group by 1, 2, 3) d
  join laurel.users u on u.tenant_id = d.tenant_id and u.id = d.user_id
  where (d.last_7, d.last_30, d.last_90, d.before_7, d.before_30, d.before_90, d.first_14) <> (0, 0, 0, 0, 0, 0, 0);

-- A row for each figure of a user: for everybody, and for the user's segment.
create view laurel_private.earning_figures as
  select e.tenant_id, e.segment_id, e.system_id, e.user_id, f.figure, f.joined_on, f.earned
  from (
    select laurel_private.everybody() as segment_id, e.* from laurel_private.user_earnings e
    union all
    select s.segment_id, e.*
    from laurel_private.user_segments s
    join laurel_private.user_earnings e on e.tenant_id = s.tenant_id and e.user_id = s.user_id) e
  cross join lateral (values
    ('last_7'::laurel_private.earning_figure, date 'epoch', e.last_7), ('last_30', 'epoch', e.last_30), ('last_90', 'epoch', e.last_90),
    ('before_7', 'epoch', e.before_7), ('before_30', 'epoch', e.before_30), ('before_90', 'epoch', e.before_90),
    ('first_14', e.joined_on, e.first_14)) f (figure, joined_on, earned)
  where f.earned > 0;

create view laurel_private.expected_earning_buckets as
  select f.tenant_id, f.segment_id, f.system_id, f.figure, f.joined_on, laurel_private.bucket_of(f.earned, s.starts) as bucket,
    count(*) as users, sum(f.earned) as points
  from laurel_private.earning_figures f
  cross join (select laurel_private.bucket_starts() as starts) s
  group by 1, 2, 3, 4, 5, 6;

-- Two passes rather than a sort of all figures.
create view laurel_private.expected_top_earners as
  select f.tenant_id, f.segment_id, f.system_id, f.figure, f.earned, min(f.user_id) as user_id
  from (
    select f.tenant_id, f.segment_id, f.system_id, f.figure, max(f.earned) as earned
    from laurel_private.earning_figures f where f.figure <> 'first_14' group by 1, 2, 3, 4) m
  join laurel_private.earning_figures f
    on f.tenant_id = m.tenant_id and f.segment_id = m.segment_id and f.system_id = m.system_id and f.figure = m.figure and f.earned = m.earned
  group by 1, 2, 3, 4, 5;

-- Makes the rollups anew from the ledger, up to the watermark, and segments and the count of users from the users: after
-- figures were loaded or mended by hand. Erasures and folds wait for it, events and changes of attributes do not.
create function laurel_private.rebuild_rollups()
  returns void language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
begin
  perform from laurel_private.earnings_fold f for update;
  delete from laurel_private.points_days;
  delete from laurel_private.user_points_days;
  delete from laurel_private.user_points_years;
  delete from laurel_private.points_totals;
  delete from laurel_private.user_earnings;
  delete from laurel_private.earning_buckets;
  delete from laurel_private.top_earners;
  delete from laurel_private.user_segments;
  delete from laurel_private.user_counts;
  delete from laurel_private.segments;
  -- One statement, so one snapshot: the changes that go are those of the users who are counted. Whoever comes or changes
  -- meanwhile leaves a change that stays for the next fold.
  with gone as (
    delete from laurel_private.user_count_changes
  ),
  counted as materialized (
    select u.tenant_id, u.attributes, laurel_private.segment_of(u.attributes) as segment_id,
      laurel_private.utc_day(u.created_at) as joined_on, count(*) as users
    from laurel.users u
    where exists (select from laurel.tenants t where t.id = u.tenant_id)
    group by 1, 2, 3, 4
  ),
  added as (
    insert into laurel_private.segments (tenant_id, id, attributes)
    select distinct c.tenant_id, c.segment_id, c.attributes from counted c
  )
  insert into laurel_private.user_counts (tenant_id, segment_id, joined_on, users)
  select c.tenant_id, s.segment_id, c.joined_on, sum(c.users)
  from counted c
  cross join lateral (values (laurel_private.everybody()), (c.segment_id)) s (segment_id)
  group by 1, 2, 3;
  -- Behind it: who has changed since is where it belongs, and its change finds nothing to move.
  with placed as materialized (
    select u.tenant_id, u.id, u.attributes, laurel_private.segment_of(u.attributes) as segment_id from laurel.users u
  ),
  added as (
    insert into laurel_private.segments (tenant_id, id, attributes)
    select distinct p.tenant_id, p.segment_id, p.attributes from placed p
    where exists (select from laurel.tenants t where t.id = p.tenant_id)
    on conflict do nothing
  )
  insert into laurel_private.user_segments (tenant_id, user_id, segment_id)
  select p.tenant_id, p.id, p.segment_id from placed p;
  insert into laurel_private.points_days (tenant_id, segment_id, system_id, day, cause, trigger_id, earned, boosted, deducted, awards)
  select e.* from laurel_private.expected_points_days e;
  insert into laurel_private.user_points_days (tenant_id, user_id, system_id, day, earned)
  select e.* from laurel_private.expected_user_points_days e order by e.tenant_id, e.system_id, e.day, e.user_id;
  insert into laurel_private.user_points_years (tenant_id, system_id, year, user_id, days, sums)
  select e.* from laurel_private.expected_user_points_years e;
  insert into laurel_private.points_totals (tenant_id, segment_id, system_id, is_rounded, total, users)
  select e.* from laurel_private.expected_points_totals e;
  insert into laurel_private.user_earnings
    (tenant_id, user_id, system_id, joined_on, last_7, last_30, last_90, before_7, before_30, before_90, first_14)
  select e.* from laurel_private.expected_user_earnings e;
  insert into laurel_private.earning_buckets (tenant_id, segment_id, system_id, figure, joined_on, bucket, users, points)
  select e.* from laurel_private.expected_earning_buckets e;
  insert into laurel_private.top_earners (tenant_id, segment_id, system_id, figure, earned, user_id)
  select e.* from laurel_private.expected_top_earners e;
end
$$;

comment on function laurel_private.rebuild_rollups() is
  'Makes the rollups anew from the ledger, up to the watermark, and from what erased users had earned; segments and the count of users from the users. Rule D3.';
--! EndIncluded insight/rebuild_rollups.sql
--! Included insight/fold_user_counts.sql
-- Folds who came, who went and whose attributes changed (users/user_counts.sql): into the counts of users, and the
-- points of users who changed from the figures of one segment to those of another.
--
-- First the changes are taken away, then, in a next statement, attributes are read as they are: a user whose
-- change is gone is in the segment of that change or of a later one, and of a later one another change is there. So is it for
-- place_users(), which reads attributes while changes wait: moved_users() finds whoever is not where it belongs.

create type laurel_private.segment_move as (tenant_id uuid, user_id text, from_id uuid, to_id uuid, attributes jsonb);

-- Takes what is folded of users out of one segment and adds it to another. Called under the fold's lock.
create function laurel_private.move_users(moves laurel_private.segment_move[], watermark uuid)
  returns void language plpgsql volatile as $$
#variable_conflict use_column
declare
  folded laurel_private.award_figures[] := array(
    select (f.id, f.tenant_id, m.from_id, f.user_id, f.system_id, f.day, f.cause, f.trigger_id, f.earned, f.boosted, f.deducted,
      f.sequence, f.total_before, f.total_after)::laurel_private.award_figures
    from unnest(moves) m
    cross join lateral (
      select f.* from laurel_private.award_figures f
      where f.tenant_id = m.tenant_id and f.user_id = m.user_id and f.id < move_users.watermark offset 0) f);
  -- Each user's rows as one, from its first total to its last: those between it has come to and left again.
  ends laurel_private.award_figures[] := array(
    select (null, f.tenant_id, f.segment_id, f.user_id, f.system_id, null, null, null, 0, 0, 0, min(f.sequence),
      (array_agg(f.total_before order by f.sequence))[1], (array_agg(f.total_after order by f.sequence desc))[1])::laurel_private.award_figures
    from unnest(folded) f group by f.tenant_id, f.segment_id, f.user_id, f.system_id);
begin
  merge into laurel_private.points_days d
  using (
    select f.tenant_id, x.segment_id, f.system_id, f.day, f.cause, f.trigger_id, sum(x.sign * f.earned) as earned,
      sum(x.sign * f.boosted) as boosted, sum(x.sign * f.deducted) as deducted, sum(x.sign) as awards
    from unnest(folded) f
    join unnest(moves) m on m.tenant_id = f.tenant_id and m.user_id = f.user_id
    cross join lateral (values (m.from_id, -1), (m.to_id, 1)) x (segment_id, sign)
    where exists (select from laurel.tenants t where t.id = f.tenant_id)
    group by 1, 2, 3, 4, 5, 6) c
  on d.tenant_id = c.tenant_id and d.segment_id = c.segment_id and d.system_id = c.system_id and d.day = c.day
    and d.cause = c.cause and d.trigger_id = c.trigger_id
  when matched and d.awards + c.awards = 0 then delete
  when matched then update set earned = d.earned + c.earned, boosted = d.boosted + c.boosted,
    deducted = d.deducted + c.deducted, awards = d.awards + c.awards
  when not matched then insert (tenant_id, segment_id, system_id, day, cause, trigger_id, earned, boosted, deducted, awards)
    values (c.tenant_id, c.segment_id, c.system_id, c.day, c.cause, c.trigger_id, c.earned, c.boosted, c.deducted, c.awards);
  perform laurel_private.add_to_totals(ends, -1, of_everybody => false);
  perform laurel_private.change_earnings(array(
    select (e.tenant_id, m.from_id, m.to_id, e.system_id, e.user_id, 0, 0, 0, 0, 0, 0, 0)::laurel_private.earning_change
    from unnest(moves) m
    cross join lateral (
      select e.tenant_id, e.system_id, e.user_id from laurel_private.user_earnings e
      where e.tenant_id = m.tenant_id and e.user_id = m.user_id offset 0) e));
  update laurel_private.user_segments s set segment_id = m.to_id
  from unnest(moves) m where s.tenant_id = m.tenant_id and s.user_id = m.user_id;
  perform laurel_private.add_to_totals(laurel_private.in_segments(ends), of_everybody => false);
  perform laurel_private.find_top_earners(t.tenant_id, t.system_id, t.segment_id)
  from (
    select distinct t.tenant_id, t.system_id, t.segment_id
    from unnest(moves) m
    join laurel_private.top_earners t on t.tenant_id = m.tenant_id and t.segment_id = m.from_id and t.user_id = m.user_id) t;
end
$$;

-- What is left of segments that nobody is in any more: nothing but zeros. Of those that users came to as well: who went
-- again may have been folded before.
create function laurel_private.remove_empty_segments(changes laurel_private.user_count_changes[])
  returns void language plpgsql volatile as $$
declare
  empty_ids laurel_private.segments[];
begin
  delete from laurel_private.user_counts c
  using (select distinct c.tenant_id, c.joined_on, laurel_private.segment_of(c.attributes) as segment_id from unnest(changes) c) x
  where c.tenant_id = x.tenant_id and c.segment_id = x.segment_id and c.joined_on = x.joined_on and c.users = 0;
  with gone as (
    delete from laurel_private.segments s
    using (select distinct c.tenant_id, laurel_private.segment_of(c.attributes) as id from unnest(changes) c) x
    where s.tenant_id = x.tenant_id and s.id = x.id
      and not exists (select from laurel_private.user_counts c where c.tenant_id = x.tenant_id and c.segment_id = x.id)
      and not exists (select from laurel_private.user_segments u where u.tenant_id = x.tenant_id and u.segment_id = x.id)
    returning s
  )
  select array_agg(g.s) into empty_ids from gone g;
  delete from laurel_private.earning_buckets k using unnest(empty_ids) s where k.tenant_id = s.tenant_id and k.segment_id = s.id;
end
$$;

-- Folds the next changes, at most so many: each user who moves brings all of its ledger. Returns how many there were. One
-- does it at a time, and not while awards are folded.
create function laurel_private.fold_user_counts(most int default 1000)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  fold laurel_private.earnings_fold;
  changes laurel_private.user_count_changes[];
  moves laurel_private.segment_move[];
begin
  select f.* into fold from laurel_private.earnings_fold f for update skip locked;
  if not found then
    return 0;
  end if;
  with gone as (
    delete from laurel_private.user_count_changes c
    where c.ctid = any (array(select c.ctid from laurel_private.user_count_changes c limit most))
    returning c
  )
  select array_agg(g.c) into changes from gone g;
  if changes is null then
    return 0;
  end if;

  moves := array(
    select (c.tenant_id, c.user_id, s.segment_id, laurel_private.segment_of(u.attributes), u.attributes)::laurel_private.segment_move
    from (select distinct c.tenant_id, c.user_id from unnest(changes) c where c.users < 0 and c.user_id is not null) c
    cross join lateral (
      select s.segment_id from laurel_private.user_segments s where s.tenant_id = c.tenant_id and s.user_id = c.user_id offset 0) s
    cross join lateral (
      select u.attributes from laurel.users u where u.tenant_id = c.tenant_id and u.id = c.user_id offset 0) u
    where s.segment_id <> laurel_private.segment_of(u.attributes));

  insert into laurel_private.segments (tenant_id, id, attributes)
  select distinct x.tenant_id, x.id, x.attributes
  from (
    -- Of those who went as well: in whichever order changes are folded, counts are read with their segment.
    select c.tenant_id, laurel_private.segment_of(c.attributes) as id, c.attributes from unnest(changes) c
    union all
    select m.tenant_id, m.to_id, m.attributes from unnest(moves) m) x
  where exists (select from laurel.tenants t where t.id = x.tenant_id)
  on conflict do nothing;

  insert into laurel_private.user_counts as c (tenant_id, segment_id, joined_on, users)
  select c.tenant_id, s.segment_id, c.joined_on, sum(c.users)
  from unnest(changes) c
  cross join lateral (values (laurel_private.everybody()), (laurel_private.segment_of(c.attributes))) s (segment_id)
  where exists (select from laurel.tenants t where t.id = c.tenant_id)
  group by 1, 2, 3
  on conflict on constraint user_counts_are_one_per_day do update set users = c.users + excluded.users;

  if moves <> '{}' then
    perform laurel_private.move_users(moves, fold.watermark);
  end if;
  perform laurel_private.remove_empty_segments(changes);
  return cardinality(changes);
end
$$;

comment on function laurel_private.fold_user_counts(int) is
  'Folds who came, went and changed attributes since, at most so many changes; how many that were. One does it at a time.';
--! EndIncluded insight/fold_user_counts.sql
--! Included insight/users_by_total.sql
-- How many users of a system have how much (RP1, L4), from the rollup of totals (points_rollups.sql) and what is
-- not folded yet: exact at any moment, without a look at the users. Of those who carry some attributes today, from the
-- rollups of the segments that match (users/segments.sql).

-- The ledger rows that are not folded yet, of users with these attributes.
create function laurel_private.ledger_tail(of_tenant uuid, of_system uuid, filter jsonb)
  returns setof laurel.points_awards language sql stable as $$
  select a.*
  from (
    -- First of everybody: beside what the filter costs, the planner takes all ways to the rows for equally good.
    select a.* from laurel.points_awards a
    where a.id >= (select f.watermark from laurel_private.earnings_fold f) and a.tenant_id = of_tenant and a.system_id = of_system offset 0) a
  where (filter = '{}' or (select u.attributes @> filter from laurel.users u where u.tenant_id = a.tenant_id and u.id = a.user_id))
$$;

-- What the rollups of segments that match lack, and have too much (sign -1): the ledger's tail, and what is
-- folded of users who have moved.
create function laurel_private.unfolded_figures(of_tenant uuid, of_system uuid, filter jsonb)
  returns table (day date, cause laurel.points_award_cause, trigger_id uuid, earned bigint, boosted bigint, deducted bigint,
    sequence bigint, total_before bigint, total_after bigint, sign int) language sql stable as $$
  select laurel_private.utc_day(a.occurred_at), a.cause, coalesce(a.trigger_id, laurel_private.nil_metric()),
    greatest(a.points, 0), case when a.boosts is null then 0 else greatest(a.points, 0) end, greatest(-a.points, 0),
    a.sequence, a.total_before, a.total_after, 1
  from laurel_private.ledger_tail(of_tenant, of_system, filter) a
  union all
  select f.day, f.cause, f.trigger_id, f.earned, f.boosted, f.deducted, f.sequence, f.total_before, f.total_after, m.sign
  from laurel_private.moved_users(of_tenant, filter) m
  cross join lateral (
    select f.* from laurel_private.award_figures f
    where f.tenant_id = of_tenant and f.user_id = m.user_id and f.system_id = of_system
      and f.id < (select f.watermark from laurel_private.earnings_fold f) offset 0) f
$$;

-- Where users of these rows came to (1) and whence (-1).
create function laurel_private.unfolded_totals(of_tenant uuid, of_system uuid, filter jsonb)
  returns table (total bigint, users int) language sql stable as $$
  select x.total, x.users
  from laurel_private.unfolded_figures(of_tenant, of_system, filter) f
  cross join lateral (values (f.total_after, f.sign), (case when f.sequence > 1 then f.total_before end, -f.sign)) x (total, users)
  where x.total is not null
$$;

create function laurel_private.highest_total(system laurel.points_systems, filter jsonb)
  returns bigint language plpgsql stable as $$
#variable_conflict use_column
declare
  segments uuid[] := laurel_private.matching_segments(system.tenant_id, filter);
begin
  return (
    with tail as materialized (
      select m.* from laurel_private.unfolded_totals(system.tenant_id, system.id, filter) m
    ),
    -- The highest rounded total that somebody has, then the highest exact one of those.
    rounded as (
      select c.total
      from (
        select t.total, t.users from laurel_private.points_totals t
        where t.tenant_id = system.tenant_id and t.segment_id = any (segments) and t.system_id = system.id and t.is_rounded
        union all
        select laurel_private.first_three_digits(m.total), m.users from tail m) c
      group by c.total having sum(c.users) > 0
      order by c.total desc limit 1
    )
    select c.total
    from (
      select t.total, t.users
      from rounded r
      join laurel_private.points_totals t
        on t.tenant_id = system.tenant_id and t.segment_id = any (segments) and t.system_id = system.id and not t.is_rounded
        and t.total >= r.total and t.total < laurel_private.next_three_digits(r.total)
      union all
      select m.total, m.users from tail m join rounded r on laurel_private.first_three_digits(m.total) = r.total) c
    group by c.total having sum(c.users) > 0
    order by c.total desc limit 1);
end
$$;

-- How many users there are below the first bound, from each to the next, and from the last on.
create function laurel_private.users_by_total(system laurel.points_systems, bounds bigint[], filter jsonb)
  returns bigint[] language plpgsql stable as $$
#variable_conflict use_column
declare
  segments uuid[] := laurel_private.matching_segments(system.tenant_id, filter);
begin
  return (
    with split as materialized (
      -- Rounded totals with a bound among the exact ones that they stand for.
      select distinct laurel_private.first_three_digits(b.bound) as total
      from unnest(bounds) b (bound) where b.bound <> laurel_private.first_three_digits(b.bound)
    ),
    part as materialized (
      select width_bucket(t.total, bounds) as bucket, sum(t.users) as users
      from laurel_private.points_totals t
      where t.tenant_id = system.tenant_id and t.segment_id = any (segments) and t.system_id = system.id and t.is_rounded
        and t.total <> all (array(select s.total from split s))
      group by 1
      union all
      select width_bucket(t.total, bounds), sum(t.users)
      from split s
      cross join lateral (
        select t.total, t.users from laurel_private.points_totals t
        where t.tenant_id = system.tenant_id and t.segment_id = any (segments) and t.system_id = system.id and not t.is_rounded
          and t.total >= s.total and t.total < laurel_private.next_three_digits(s.total) offset 0) t
      group by 1
      union all
      select width_bucket(m.total, bounds), sum(m.users)
      from laurel_private.unfolded_totals(system.tenant_id, system.id, filter) m group by 1
    ),
    bucket as (
      select p.bucket, p.users from part p
      union all
      -- Users without awards have 0.
      select width_bucket(0::bigint, bounds), laurel_private.count_users(system.tenant_id, null, null, filter) - coalesce((select sum(p.users) from part p), 0)
    )
    select array_agg(n.users order by n.no)
    from (
      select n as no, coalesce(sum(b.users), 0)::bigint as users
      from generate_series(0, cardinality(bounds)) n
      left join bucket b on b.bucket = n
      group by n) n);
end
$$;

comment on function laurel_private.users_by_total(laurel.points_systems, bigint[], jsonb) is
  'Users below the first bound, from each bound to the next, and from the last one on. Rules RP1, L4.';
--! EndIncluded insight/users_by_total.sql
--! Included insight/verify_rollups.sql
-- What must be true of the rollups (points_rollups.sql), of segments and of the count of users; a part of verify().

create function laurel_private.broken_rollups(for_tenant uuid)
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language plpgsql stable
  -- Millions of rows are compared with millions: never one by one, whatever statistics say.
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    with days as (select d.* from laurel_private.points_days d where for_tenant is null or d.tenant_id = for_tenant),
    expected as (select e.* from laurel_private.expected_points_days e where for_tenant is null or e.tenant_id = for_tenant)
    select 'days_add_up_to_the_ledger', tenant_id, null::text, concat_ws(' ', segment_id, system_id, day, trigger_id),
      case when x.earned is not null then concat_ws(' ', x.earned, x.boosted, x.deducted, x.awards) end,
      case when d.earned is not null then concat_ws(' ', d.earned, d.boosted, d.deducted, d.awards) end
    from expected x full join days d using (tenant_id, segment_id, system_id, day, cause, trigger_id)
    where (x.earned, x.boosted, x.deducted, x.awards) is distinct from (d.earned, d.boosted, d.deducted, d.awards);
  return query
    with days as (select d.* from laurel_private.user_points_days d where for_tenant is null or d.tenant_id = for_tenant),
    expected as (select e.* from laurel_private.expected_user_points_days e where for_tenant is null or e.tenant_id = for_tenant)
    select 'users_days_add_up_to_the_ledger', tenant_id, user_id, concat_ws(' ', system_id, day), x.earned::text, d.earned::text
    from expected x full join days d using (tenant_id, user_id, system_id, day)
    where x.earned is distinct from d.earned;
  return query
    with years as (select y.* from laurel_private.user_points_years y where for_tenant is null or y.tenant_id = for_tenant),
    expected as (select e.* from laurel_private.expected_user_points_years e where for_tenant is null or e.tenant_id = for_tenant)
    select 'users_years_are_sums_of_days', tenant_id, user_id, concat_ws(' ', system_id, year), concat_ws(' ', x.days, x.sums), concat_ws(' ', y.days, y.sums)
    from expected x full join years y using (tenant_id, system_id, year, user_id)
    where (x.days, x.sums) is distinct from (y.days, y.sums);
  return query
    with totals as (select t.* from laurel_private.points_totals t where for_tenant is null or t.tenant_id = for_tenant),
    expected as (select e.* from laurel_private.expected_points_totals e where for_tenant is null or e.tenant_id = for_tenant)
    select 'totals_count_users', tenant_id, null::text, concat_ws(' ', segment_id, system_id, case when is_rounded then 'about' end, total), x.users::text, t.users::text
    from expected x full join totals t using (tenant_id, segment_id, system_id, is_rounded, total)
    where x.users is distinct from t.users;
  return query
    with earnings as (
      select e.* from laurel_private.user_earnings e
      where (for_tenant is null or e.tenant_id = for_tenant)
        and (e.last_7, e.last_30, e.last_90, e.before_7, e.before_30, e.before_90, e.first_14) <> (0, 0, 0, 0, 0, 0, 0)),
    expected as (select e.* from laurel_private.expected_user_earnings e where for_tenant is null or e.tenant_id = for_tenant)
    select 'earnings_are_sums_of_days', tenant_id, user_id, system_id::text,
      concat_ws(' ', x.joined_on, x.last_7, x.last_30, x.last_90, x.before_7, x.before_30, x.before_90, x.first_14),
      concat_ws(' ', e.joined_on, e.last_7, e.last_30, e.last_90, e.before_7, e.before_30, e.before_90, e.first_14)
    from expected x full join earnings e using (tenant_id, user_id, system_id)
    where (x.joined_on, x.last_7, x.last_30, x.last_90, x.before_7, x.before_30, x.before_90, x.first_14)
      is distinct from (e.joined_on, e.last_7, e.last_30, e.last_90, e.before_7, e.before_30, e.before_90, e.first_14);
  return query
    with buckets as (
      select k.* from laurel_private.earning_buckets k where (k.users, k.points) <> (0, 0) and (for_tenant is null or k.tenant_id = for_tenant)),
    expected as (select e.* from laurel_private.expected_earning_buckets e where for_tenant is null or e.tenant_id = for_tenant)
    select 'buckets_count_users', tenant_id, null::text, concat_ws(' ', segment_id, system_id, figure, joined_on, bucket),
      concat_ws(' ', x.users, x.points), concat_ws(' ', k.users, k.points)
    from expected x full join buckets k using (tenant_id, segment_id, system_id, figure, joined_on, bucket)
    where (x.users, x.points) is distinct from (k.users, k.points);
  return query
    with tops as (select t.* from laurel_private.top_earners t where for_tenant is null or t.tenant_id = for_tenant),
    expected as (select e.* from laurel_private.expected_top_earners e where for_tenant is null or e.tenant_id = for_tenant)
    select 'top_earner_earned_most', tenant_id, t.user_id, concat_ws(' ', segment_id, system_id, figure), concat_ws(' ', x.earned, x.user_id), concat_ws(' ', t.earned, t.user_id)
    from expected x full join tops t using (tenant_id, segment_id, system_id, figure)
    where (x.earned, x.user_id) is distinct from (t.earned, t.user_id);
  return query
    with counts as (
      select c.tenant_id, c.segment_id, c.joined_on, sum(c.users) as users
      from (
        select c.tenant_id, c.segment_id, c.joined_on, c.users from laurel_private.user_counts c
        union all
        select c.tenant_id, s.segment_id, c.joined_on, c.users
        from laurel_private.user_count_changes c
        cross join lateral (values (laurel_private.everybody()), (laurel_private.segment_of(c.attributes))) s (segment_id)) c
      where for_tenant is null or c.tenant_id = for_tenant
      group by 1, 2, 3 having sum(c.users) <> 0),
    expected as (
      select u.tenant_id, s.segment_id, laurel_private.utc_day(u.created_at) as joined_on, count(*) as users
      from laurel.users u
      cross join lateral (values (laurel_private.everybody()), (laurel_private.segment_of(u.attributes))) s (segment_id)
      where for_tenant is null or u.tenant_id = for_tenant
      group by 1, 2, 3)
    select 'user_counts_are_the_users', tenant_id, null::text, concat_ws(' ', segment_id, joined_on), x.users::text, c.users::text
    from expected x full join counts c using (tenant_id, segment_id, joined_on)
    where x.users is distinct from c.users;
  return query
    -- Whoever is elsewhere has a change that says so.
    with folded as (
      select distinct a.tenant_id, a.user_id from laurel.points_awards a
      where (for_tenant is null or a.tenant_id = for_tenant) and a.id < (select f.watermark from laurel_private.earnings_fold f)),
    moved as (
      select distinct c.tenant_id, c.user_id from laurel_private.user_count_changes c where c.users < 0)
    select 'user_is_folded_into_its_segment', u.tenant_id, u.id::text, u.attributes::text, x.segment_id::text, s.segment_id::text
    from laurel.users u
    cross join lateral (select laurel_private.segment_of(u.attributes) as segment_id) x
    left join laurel_private.user_segments s on s.tenant_id = u.tenant_id and s.user_id = u.id
    left join folded f on f.tenant_id = u.tenant_id and f.user_id = u.id
    left join moved m on m.tenant_id = u.tenant_id and m.user_id = u.id
    where (for_tenant is null or u.tenant_id = for_tenant)
      and (s.segment_id is null and f.user_id is not null or s.segment_id <> x.segment_id and m.user_id is null);
  return query
    with segment as (
      select s.tenant_id, s.id, laurel_private.segment_of(s.attributes) as right_id from laurel_private.segments s
      where for_tenant is null or s.tenant_id = for_tenant),
    used as (
      select s.tenant_id, s.segment_id as id from laurel_private.user_segments s where for_tenant is null or s.tenant_id = for_tenant
      union
      select c.tenant_id, c.segment_id from laurel_private.user_counts c
      where c.segment_id <> laurel_private.everybody() and (for_tenant is null or c.tenant_id = for_tenant))
    select 'segment_has_its_attributes', tenant_id, null::text, id::text, coalesce(s.right_id, u.id)::text, s.id::text
    from segment s full join used u using (tenant_id, id)
    where s.id is distinct from s.right_id or s.id is null;
end
$$;
--! EndIncluded insight/verify_rollups.sql
--! Included insight/verify_standings.sql
-- What must be true of standings (standings.sql); a part of verify().

-- A standing is as of its count, and what came after tells nothing about it. So it is counted anew only where all of its
-- metric or points system was there a day or more before the count: of periods counted for good that is the rule. Not
-- checked are those for which something was written later than that, or whose users were moved to another day by a
-- change of time zone since, and all of a tenant that were counted before a user was last erased. Neither is
-- whether a period that is due was counted: it may wait for a worker.
create function laurel_private.broken_standings(for_tenant uuid)
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language plpgsql stable
  set work_mem = '128MB' set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
begin
  return query
    select 'standings_are_of_a_week_month_or_year', p.tenant_id, null::text, concat_ws(' ', p.first_on, p.last_on), null::text, p.counted_at::text
    from laurel_private.standing_periods p
    where (for_tenant is null or p.tenant_id = for_tenant)
      and ((p.last_on <> p.first_on + 6 or extract(dow from p.first_on) <> 0)
          and (p.last_on <> (p.first_on + interval '1 month')::date - 1 or extract(day from p.first_on) <> 1)
          and (p.last_on <> (p.first_on + interval '1 year')::date - 1 or extract(doy from p.first_on) <> 1)
        -- The first users are a day ahead of UTC.
        or p.first_on > (p.counted_at at time zone 'UTC')::date + 1);
  return query
    select 'standings_rise', s.tenant_id, null::text, concat_ws(' ', s.first_on, s.last_on, s.source_id), null::text,
      left(concat_ws(' ', s.most, s.percentiles), 1000)
    from laurel_private.standings s
    where (for_tenant is null or s.tenant_id = for_tenant)
      and (cardinality(s.most) = 0 or s.percentiles[1] is distinct from 0 or exists (
        select from unnest(s.most, s.percentiles) with ordinality n (most, percentile, no)
        where n.most is null or n.percentile is null or n.percentile > 100 or n.percentile <> round(n.percentile, 1)
          or n.no > 1 and (n.most <= s.most[n.no - 1] or n.percentile <= s.percentiles[n.no - 1])));
  return query
    with period as materialized (
      select p.*, p.counted_at - interval '1 day' as there_by
      from laurel_private.standing_periods p
      where (for_tenant is null or p.tenant_id = for_tenant)
        and not exists (
          select from laurel_private.last_erasures e
          where e.tenant_id = p.tenant_id and e.erased_at > p.counted_at - interval '1 day')
    ),
    period_day as materialized (
      select p.tenant_id, p.first_on, p.last_on, d::date as day
      from period p cross join lateral generate_series(p.first_on::timestamp, p.last_on, interval '1 day') d
    ),
    of_day as materialized (
      select a.tenant_id, a.source_id, a.user_id, (a.occurred_at at time zone s.time_zone)::date as day,
        -- There is no max() of UUIDs; their first 13 characters are when they were made.
        sum(a.value) as value, max(a.written) as written
      from (
        select e.tenant_id, e.metric_id as source_id, e.user_id, e.value, e.occurred_at, left(e.id::text, 13) collate "C" as written
        from laurel.metric_events e where e.tenant_id in (select p.tenant_id from period p)
        union all
        select a.tenant_id, a.system_id, a.user_id, a.points, a.occurred_at, left(a.id::text, 13) collate "C"
        from laurel.points_awards a where a.tenant_id in (select p.tenant_id from period p)) a
      join laurel_private.user_states s on s.tenant_id = a.tenant_id and s.user_id = a.user_id
      group by 1, 2, 3, 4
    ),
    moved as (
      select distinct d.tenant_id, d.source_id, p.first_on, p.last_on
      from of_day d
      join laurel_private.time_zone_changes z on z.tenant_id = d.tenant_id and z.user_id = d.user_id
      join period p on p.tenant_id = d.tenant_id and z.changed_at > p.there_by and d.day between p.first_on - 2 and p.last_on + 2
    ),
    change as (
      select p.tenant_id, p.first_on, p.last_on, d.source_id, d.user_id, sum(d.value) as value, max(d.written) as written
      from of_day d join period_day p on p.tenant_id = d.tenant_id and p.day = d.day
      group by 1, 2, 3, 4, 5
    ),
    by_value as (
      select c.tenant_id, c.first_on, c.last_on, c.source_id, c.value, count(*) as users, max(c.written) as written
      from change c group by 1, 2, 3, 4, 5
    ),
    ranked as (
      select v.*, trim_scale(round(100.0 * (sum(v.users) over below - v.users) / sum(v.users) over source, 1)) as percentile,
        max(v.written) over source as all_written
      from by_value v
      window source as (partition by v.tenant_id, v.first_on, v.last_on, v.source_id), below as (source order by v.value)
    ),
    step as (
      select r.tenant_id, r.first_on, r.last_on, r.source_id, r.percentile, max(r.value) as most, max(r.all_written) as written
      from ranked r group by 1, 2, 3, 4, 5
    ),
    counted as (
      select s.tenant_id, s.first_on, s.last_on, s.source_id, max(s.written) as written,
        array_agg(s.most order by s.percentile) as most, array_agg(s.percentile order by s.percentile) as percentiles
      from step s group by 1, 2, 3, 4
    )
    select 'standings_are_those_of_their_count', tenant_id, null::text, concat_ws(' ', first_on, last_on, source_id),
      left(concat_ws(' ', c.most, c.percentiles), 1000), left(concat_ws(' ', s.most, s.percentiles), 1000)
    from counted c
    full join laurel_private.standings s using (tenant_id, first_on, last_on, source_id)
    join period p using (tenant_id, first_on, last_on)
    left join moved m using (tenant_id, first_on, last_on, source_id)
    where (c.most, c.percentiles) is distinct from (s.most, s.percentiles)
      and m.tenant_id is null
      and coalesce(c.written < left(laurel_private.first_uuid_v7(p.there_by)::text, 13) collate "C", true);
end
$$;
--! EndIncluded insight/verify_standings.sql
--! Included insight/verify.sql
-- verify(): recomputes what is derived from the event log and the ledger (Q8). Read by people and
-- tests; writes nothing. One statement, so that everything is seen in one snapshot, while events
-- go on.

create function laurel_private.multiply(product numeric, factor numeric)
  returns numeric language sql immutable strict parallel safe
  return product * factor;

-- Exact, unlike the usual exp(sum(ln())).
create aggregate laurel_private.product(numeric) (
  sfunc = laurel_private.multiply, stype = numeric, initcond = '1', parallel = safe
);

-- Leaderboards: every value is the sum of its user's history in the run, or the length of its streak (LB1).
create function laurel_private.broken_leaderboards(for_tenant uuid)
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language sql stable as $$
  with board as (
    select b.id, b.tenant_id, b.key, b.generation, b.rank_by, b.finished_at, laurel_private.rule_of(b) as rule,
      exists (
        select from laurel_private.leaderboard_backfills f
        where f.tenant_id = b.tenant_id and f.leaderboard_id = b.id and f.finished_at is null) as is_looking_back
    from laurel.leaderboards b
    where b.status in ('active', 'finished') and (for_tenant is null or b.tenant_id = for_tenant)
  ),
  entry as materialized (
    select e.* from laurel.leaderboard_entries e where for_tenant is null or e.tenant_id = for_tenant
  ),
  summed as (
    select b.tenant_id, s.user_id, b.id as leaderboard_id, h.*
    from board b
    join laurel_private.user_states s on s.tenant_id = b.tenant_id
    cross join lateral laurel_private.leaderboard_history(b.rule, s.tenant_id, s.user_id, s.time_zone) h
    where b.rank_by <> 'streak'
  )
  select 'leaderboard_value_is_the_sum_of_its_run', b.tenant_id, x.user_id, b.key || ' ' || x.run_on,
    concat_ws(' ', x.expected::text, x.expected_id), concat_ws(' ', x.value::text, x.reached_id)
  from board b
  join (
    select coalesce(e.tenant_id, s.tenant_id) as tenant_id, coalesce(e.user_id, s.user_id) as user_id,
      coalesce(e.leaderboard_id, s.leaderboard_id) as leaderboard_id, coalesce(e.run_on, s.run_on) as run_on,
      s.value as expected, s.reached_id as expected_id, e.value, e.reached_id
    from (
      select e.* from entry e join board b on b.id = e.leaderboard_id and b.generation = e.generation and b.rank_by <> 'streak') e
    full join summed s on s.tenant_id = e.tenant_id and s.user_id = e.user_id and s.leaderboard_id = e.leaderboard_id and s.run_on = e.run_on) x
    on x.leaderboard_id = b.id
  where (x.expected, x.expected_id) is distinct from (x.value, x.reached_id)
    and (x.value is not null or not b.is_looking_back)
    -- Counted by rules that were read just before the leaderboard was finished by hand.
    and (b.finished_at is null or coalesce(x.reached_id < laurel_private.first_uuid_v7(b.finished_at), true))
    and not exists (
      select from laurel_private.time_zone_changes z where z.tenant_id = x.tenant_id and z.user_id = x.user_id)
  union all
  select 'leaderboard_value_is_the_length_of_the_streak', b.tenant_id, s.user_id, b.key,
    concat_ws(' ', d.value, d.reached_id, d.holds_until), concat_ws(' ', e.value, e.reached_id, e.holds_until)
  from board b
  join laurel_private.user_states s on s.tenant_id = b.tenant_id
  left join laurel_private.user_streaks u on u.tenant_id = s.tenant_id and u.user_id = s.user_id
  cross join lateral laurel_private.streak_on_board(b.rule, u, s.time_zone) d
  left join entry e on e.tenant_id = s.tenant_id and e.user_id = s.user_id and e.leaderboard_id = b.id and e.generation = b.generation
  -- Behind its last day a leaderboard stands still, whatever becomes of the streak.
  where b.rank_by = 'streak' and b.finished_at is null and coalesce(u.settled_on <= (b.rule).ends_on, true)
    and (coalesce(e.value, 0), case when e.value > 0 then e.reached_id end, case when e.value > 0 then e.holds_until end)
      is distinct from (d.value, d.reached_id, d.holds_until)
    and (e.value is not null or not b.is_looking_back)
  union all
  select 'leaderboard_group_follows_the_user', e.tenant_id, e.user_id, b.key || ' ' || e.run_on, n.breakdown::text, e.breakdown::text
  from entry e
  join board b on b.id = e.leaderboard_id and b.generation = e.generation and b.finished_at is null
  join laurel_private.user_states s on s.tenant_id = e.tenant_id and s.user_id = e.user_id
  cross join lateral (select laurel_private.breakdown_of(b.rule, s.attributes) as breakdown) n
  where (e.breakdown, e.group_id) is distinct from (n.breakdown, laurel_private.group_of(b.rule, n.breakdown))
    and coalesce(laurel_private.final_at(b.rule, e.run_on) > now(), true)
  union all
  select 'leaderboard_entry_is_of_a_leaderboard_of_the_tenant', e.tenant_id, e.user_id, e.leaderboard_id::text, 'a leaderboard', null
  from entry e
  left join laurel.leaderboards b on b.tenant_id = e.tenant_id and b.id = e.leaderboard_id
  where b.id is null
  union all
  select 'leaderboard_mark_counts_entries', m.tenant_id, null, concat_ws(' ', m.key, m.run_on, m.group_id, m.mark),
    m.passed::text, (m.count + m.moved)::text
  from (
    select m.tenant_id, b.key, m.run_on, m.group_id, c.mark, c.count,
      count(*) filter (where e.value > c.value or e.value = c.value and e.reached_id <= c.id) as passed, (
        select count(*) filter (where v.passed_after >= c.mark) - count(*) filter (where v.passed_before >= c.mark)
        from laurel_private.leaderboard_moves v
        where v.tenant_id = m.tenant_id and v.leaderboard_id = m.leaderboard_id and v.generation = m.generation and v.run_on = m.run_on
          and v.group_id = m.group_id and v.marks_id = m.marks_id) as moved
    from board b
    join laurel_private.leaderboard_marks m on m.tenant_id = b.tenant_id and m.leaderboard_id = b.id and m.generation = b.generation
    cross join lateral unnest(m.counts, m.mark_values, m.mark_ids) with ordinality c (count, value, id, mark)
    left join entry e on e.leaderboard_id = m.leaderboard_id and e.generation = m.generation and e.run_on = m.run_on and e.group_id = m.group_id
    where not exists (
      select from laurel_private.leaderboard_moves v
      where v.tenant_id = m.tenant_id and v.leaderboard_id = m.leaderboard_id and v.generation = m.generation and v.run_on = m.run_on
        and v.group_id = m.group_id and v.marks_id is null)
    group by m.tenant_id, m.leaderboard_id, m.generation, m.run_on, m.group_id, m.marks_id, b.key, c.mark, c.count) m
  where m.passed <> m.count + m.moved
  union all
  select 'leaderboard_day_seen_last_is_marked', d.tenant_id, d.user_id, d.leaderboard_id || ' ' || d.run_on, max(d.day)::text,
    string_agg(d.day::text, ' ') filter (where d.is_latest)
  from laurel_private.leaderboard_days d
  where for_tenant is null or d.tenant_id = for_tenant
  group by d.tenant_id, d.user_id, d.leaderboard_id, d.generation, d.run_on
  having string_agg(d.day::text, ' ') filter (where d.is_latest) is distinct from max(d.day)::text
$$;

-- One row per broken invariant, of one tenant or (null) of all.
create function laurel_private.broken_invariants(for_tenant uuid)
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language sql stable as $$
  with event as materialized (
    select e.id, e.tenant_id, e.user_id, e.metric_id, e.metric_key, e.value, e.attributes, e.idempotency_key
    from laurel.metric_events e where for_tenant is null or e.tenant_id = for_tenant
  ),
  award as materialized (
    select a.* from laurel.points_awards a where for_tenant is null or a.tenant_id = for_tenant
  ),
  state as materialized (
    select s.* from laurel_private.user_states s where for_tenant is null or s.tenant_id = for_tenant
  ),
  -- Metric totals and peaks (E3).
  summed as (
    select r.tenant_id, r.user_id, r.metric_id, min(r.metric_key) as metric_key,
      sum(r.value) as total, greatest(max(r.running), 0) as peak, max(r.id::text) as last_event
    from (
      select e.*, sum(e.value) over (partition by e.tenant_id, e.user_id, e.metric_id order by e.id) as running
      from event e) r
    group by r.tenant_id, r.user_id, r.metric_id
  ),
  metric_total as (
    select coalesce(s.tenant_id, m.tenant_id) as tenant_id, coalesce(s.user_id, m.user_id) as user_id,
      coalesce(s.metric_key, m.metric_id::text) as metric_key, s.total as expected_total, m.total,
      s.peak as expected_peak, m.peak, s.last_event as expected_last, m.last_event_id::text as last
    from summed s
    full join (
      select s.tenant_id, s.user_id, m.*
      from state s cross join lateral unnest(s.metric_ids, s.metric_totals, s.metric_peaks, s.last_event_ids)
        as m (metric_id, total, peak, last_event_id)) m
      on m.tenant_id = s.tenant_id and m.user_id = s.user_id and m.metric_id = s.metric_id
  ),
  -- Counts of filtered triggers (TR2), as long as what they count has not changed since.
  counted as (
    select c.tenant_id, c.user_id, c.trigger_id, c.count, c.peak,
      c.base_count + coalesce(r.total, 0) as expected_count,
      greatest(c.base_peak, c.base_count + coalesce(r.peak, 0)) as expected_peak
    from laurel.points_trigger_counts c
    join laurel.points_triggers t on t.id = c.trigger_id and t.status = 'active' and t.version = c.trigger_version
    join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
    join laurel.users u on u.tenant_id = c.tenant_id and u.id = c.user_id
      and (t.user_attributes = '{}' or u.attributes_version = c.attributes_version)
    cross join lateral (
      select sum(x.value) as total, max(x.running) as peak
      from (
        select e.value, sum(e.value) over (order by e.id) as running
        from laurel.metric_events e
        where e.tenant_id = c.tenant_id and e.user_id = c.user_id and e.metric_id = t.metric_id
          and e.id >= c.since_event_id and e.attributes @> t.event_attributes) x) r
    where for_tenant is null or c.tenant_id = for_tenant
  ),
  -- The ledger (P3, P4).
  chained as (
    select a.*,
      lag(a.sequence, 1, 0::bigint) over w as previous_sequence,
      lag(a.total_after, 1, 0::bigint) over w as previous_total
    from award a
    window w as (partition by a.tenant_id, a.user_id, a.system_id order by a.sequence, a.id)
  ),
  last as (
    select a.tenant_id, a.user_id, a.system_id, min(a.system_key) as system_key,
      sum(a.points) as total, max(a.sequence) as last_sequence
    from award a group by a.tenant_id, a.user_id, a.system_id
  ),
  balance as (
    select coalesce(l.tenant_id, t.tenant_id) as tenant_id, coalesce(l.user_id, t.user_id) as user_id,
      coalesce(l.system_key, t.system_id::text) as system_key, l.total as expected_total, t.total,
      l.last_sequence as expected_sequence, t.last_sequence
    from last l
    full join (
      select s.tenant_id, s.user_id, t.*
      from state s cross join lateral unnest(s.system_ids, s.totals, s.last_sequences) as t (system_id, total, last_sequence)) t
      on t.tenant_id = l.tenant_id and t.user_id = l.user_id and t.system_id = l.system_id
  ),
  key as (
    select k.* from laurel_private.idempotency_keys k where for_tenant is null or k.tenant_id = for_tenant
  ),
  -- Awards of ticks, with the activation whose clock they are of. Days move with the clock changes of the
  -- time zone that the user had, which nobody keeps: by a day and two hours at most.
  tick as (
    select a.tenant_id, a.user_id, a.system_id, a.sequence, a.trigger_id, a.tick, a.occurred_at, p.activated_at
    from award a
    left join laurel.users u on u.tenant_id = a.tenant_id and u.id = a.user_id
    left join lateral (
      select p.activated_at from laurel_private.time_trigger_spans p
      where p.trigger_id = a.trigger_id and p.begins_at < a.occurred_at
        -- Ticks applied ahead of time stay, though the trigger may then end before them.
        and (a.occurred_at < coalesce(p.ends_at, 'infinity') or a.occurred_at <= p.applied_ahead)
        and abs(extract(epoch from a.occurred_at - laurel_private.tick_due_at(
          greatest(p.activated_at, u.created_at), p.time_unit, p.time_interval, 'UTC', a.tick)))
          <= case when p.time_unit = 'days' then 93600 else 0 end
      order by p.activated_at desc limit 1) p on true
    where a.cause = 'time'
  ),
  rules as (
    select r.tenant_id, r.metric_id::text as subject, to_jsonb(r) as compiled
    from laurel_private.points_rules r where for_tenant is null or r.tenant_id = for_tenant
    union all
    select r.tenant_id, r.system_key, to_jsonb(r)
    from laurel_private.shown_systems r where for_tenant is null or r.tenant_id = for_tenant
  ),
  expected_rules as (
    select r.tenant_id, r.metric_id::text as subject, to_jsonb(r) as compiled
    from laurel.tenants t cross join lateral laurel_private.current_points_rules(t.id) r
    where for_tenant is null or t.id = for_tenant
    union all
    select r.tenant_id, r.system_key, to_jsonb(r)
    from laurel.tenants t cross join lateral laurel_private.current_shown_systems(t.id) r
    where for_tenant is null or t.id = for_tenant
  )
  select 'metric_total_is_the_sum_of_events', m.tenant_id, m.user_id, m.metric_key,
    coalesce(m.expected_total, 0)::text, coalesce(m.total, 0)::text
  from metric_total m where m.expected_total is distinct from m.total
  union all
  select 'metric_peak_is_the_highest_running_total', m.tenant_id, m.user_id, m.metric_key,
    coalesce(m.expected_peak, 0)::text, coalesce(m.peak, 0)::text
  from metric_total m where m.expected_peak is distinct from m.peak
  union all
  select 'metric_last_event_is_the_highest_id', m.tenant_id, m.user_id, m.metric_key, m.expected_last, m.last
  from metric_total m where m.expected_last is distinct from m.last
  union all
  select 'trigger_count_is_the_sum_of_matching_events', c.tenant_id, c.user_id, c.trigger_id::text,
    c.expected_count::text, c.count::text
  from counted c where c.expected_count <> c.count
  union all
  select 'trigger_count_peak_is_the_highest_running_count', c.tenant_id, c.user_id, c.trigger_id::text,
    c.expected_peak::text, c.peak::text
  from counted c where c.expected_peak <> c.peak
  union all
  select distinct 'filtered_trigger_that_fired_has_a_count', a.tenant_id, a.user_id, a.trigger_id::text, 'a count', null
  from award a
  where a.event_attributes is not null and not exists (
    select from laurel.points_trigger_counts c
    where c.tenant_id = a.tenant_id and c.user_id = a.user_id and c.trigger_id = a.trigger_id)
  union all
  select 'award_sequence_is_dense', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    (a.previous_sequence + 1)::text, a.sequence::text
  from chained a where a.sequence <> a.previous_sequence + 1
  union all
  select 'award_starts_where_the_one_before_ended', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    a.previous_total::text, a.total_before::text
  from chained a where a.total_before <> a.previous_total
  union all
  select 'award_base_is_firings_times_points', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    (a.firings * a.trigger_points)::text, a.base_points::text
  from award a where a.base_points <> a.firings * a.trigger_points
  union all
  select 'award_multiplier_is_the_product_of_boosts', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    b.product::text, a.boost_multiplier::text
  from award a
  cross join lateral (
    select laurel_private.product((b ->> 'multiplier')::numeric) as product
    from jsonb_array_elements(coalesce(a.boosts, '[]')) b) b
  where a.boost_multiplier <> b.product
  union all
  select 'award_is_rounded_once', a.tenant_id, a.user_id, a.system_key || ' ' || a.id, r.rounded::text, a.rounded_points::text
  from award a
  cross join lateral (
    select case when a.boosts is null then a.base_points
      else laurel_private.round_points(a.base_points * a.boost_multiplier, a.rounding) end as rounded) r
  where a.rounded_points <> r.rounded
  union all
  select 'award_is_within_cap_and_floor', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    laurel_private.clamp_points(a.rounded_points, a.max_points, a.total_before)::text, a.points::text
  from award a
  where a.points <> laurel_private.clamp_points(a.rounded_points, a.max_points, a.total_before)
  union all
  select 'award_changes_the_total_by_its_points', a.tenant_id, a.user_id, a.system_key || ' ' || a.id,
    (a.total_before + a.points)::text, a.total_after::text
  from award a where a.total_after <> a.total_before + a.points
  union all
  select 'balance_is_the_sum_of_awards', b.tenant_id, b.user_id, b.system_key,
    coalesce(b.expected_total, 0)::text, coalesce(b.total, 0)::text
  from balance b where b.expected_total is distinct from b.total
  union all
  select 'balance_sequence_is_that_of_the_last_award', b.tenant_id, b.user_id, b.system_key,
    coalesce(b.expected_sequence, 0)::text, coalesce(b.last_sequence, 0)::text
  from balance b where b.expected_sequence is distinct from b.last_sequence
  union all
  select 'award_event_is_in_the_log', a.tenant_id, a.user_id, a.system_key || ' ' || a.id, a.event_id::text, null
  from award a left join event e on e.id = a.event_id
  where a.event_id is not null and e.id is null
  union all
  select 'event_belongs_to_a_user', e.tenant_id, e.user_id, e.metric_key, 'a user', null
  from (select distinct e.tenant_id, e.user_id, e.metric_key from event e) e
  left join laurel.users u on u.tenant_id = e.tenant_id and u.id = e.user_id
  where u.id is null
  union all
  select 'award_belongs_to_a_user', l.tenant_id, l.user_id, l.system_key, 'a user', null
  from last l left join laurel.users u on u.tenant_id = l.tenant_id and u.id = l.user_id
  where u.id is null
  union all
  select 'state_follows_its_user', coalesce(u.tenant_id, s.tenant_id), coalesce(u.id, s.user_id), 'time zone and attributes',
    (coalesce(u.tz, 'UTC'), u.attributes, u.attributes_version, u.preferences -> 'streak')::text, (s.time_zone, s.attributes, s.attributes_version, s.streak_preferences)::text
  from (select u.* from laurel.users u where for_tenant is null or u.tenant_id = for_tenant) u
  full join state s on s.tenant_id = u.tenant_id and s.user_id = u.id
  where u.id is null or s.user_id is null
    or (coalesce(u.tz, 'UTC'), u.attributes::jsonb, u.attributes_version, u.preferences -> 'streak')
      is distinct from (s.time_zone, s.attributes, s.attributes_version, s.streak_preferences)
  union all
  select 'event_key_is_remembered', e.tenant_id, e.user_id, e.metric_key || ' ' || e.idempotency_key,
    e.id::text, k.result_id::text
  from event e
  left join key k on k.tenant_id = e.tenant_id and k.user_id = e.user_id
    and k.scope_id = e.metric_id and k.key = e.idempotency_key
  where e.idempotency_key is not null and k.result_id is distinct from e.id
  union all
  select 'adjustment_key_is_remembered', a.tenant_id, a.user_id, a.system_key || ' ' || a.idempotency_key,
    a.id::text, k.result_id::text
  from award a
  left join key k on k.tenant_id = a.tenant_id and k.user_id = a.user_id
    and k.scope_id = a.system_id and k.key = a.idempotency_key
  where a.idempotency_key is not null and k.result_id is distinct from a.id
  union all
  select 'remembered_key_has_its_event_or_award', k.tenant_id, k.user_id, k.key, k.result_id::text, null
  from key k
  left join event e on e.id = k.result_id
  left join award a on a.id = k.result_id
  where e.id is null and a.id is null
    and (k.result_id is not null or not exists (select from laurel.points_systems s where s.id = k.scope_id))
  union all
  -- A1, A3: whoever qualifies has it, once the look for those who qualified before is over.
  select 'qualified_user_has_completed_the_achievement', s.tenant_id, s.user_id, a.id::text, 'a completion', null
  from laurel.achievements a
  join state s on s.tenant_id = a.tenant_id
  where a.status = 'active' and a.kind in ('metric', 'achievement')
    -- Who came to match a filter later completes it with the next event that counts.
    and a.user_attributes = '{}'
    and laurel_private.qualifies(a, s, now())
    and exists (
      select from laurel_private.achievement_backfills b where b.achievement_id = a.id and b.finished_at is not null)
    and not exists (
      select from laurel.user_achievements c
      where c.tenant_id = s.tenant_id and c.user_id = s.user_id and c.achievement_id = a.id)
  union all
  select 'completion_is_of_an_achievement_of_the_tenant', c.tenant_id, c.user_id, c.achievement_id::text, 'an achievement', null
  from laurel.user_achievements c
  left join laurel.achievements a on a.tenant_id = c.tenant_id and a.id = c.achievement_id
  where a.id is null and (for_tenant is null or c.tenant_id = for_tenant)
  union all
  select 'completion_event_is_in_the_log', c.tenant_id, c.user_id, c.achievement_id::text, c.event_id::text, null
  from laurel.user_achievements c
  left join event e on e.id = c.event_id
  where c.event_id is not null and e.id is null and (for_tenant is null or c.tenant_id = for_tenant)
  union all
  select 'award_for_an_achievement_has_its_completion', a.tenant_id, a.user_id, a.system_key || ' ' || a.id, 'a completion', null
  from award a
  where a.cause = 'achievement' and not exists (
    select from laurel.user_achievements c
    where c.tenant_id = a.tenant_id and c.user_id = a.user_id and c.achievement_id = a.achievement_id)
  union all
  select 'achievement_is_awarded_once', a.tenant_id, a.user_id, a.trigger_id::text, '1', count(*)::text
  from award a where a.cause = 'achievement'
  group by a.tenant_id, a.user_id, a.trigger_id having count(*) > 1
  union all
  select 'achievement_count_is_the_sum_of_matching_events', k.tenant_id, k.user_id, k.achievement_id::text, e.total::text, k.count::text
  from laurel_private.achievement_counts k
  join laurel.achievements a on a.id = k.achievement_id and a.status = 'active'
  cross join lateral (
    select coalesce(sum(e.value), 0) as total from laurel.metric_events e
    where e.tenant_id = k.tenant_id and e.user_id = k.user_id and e.metric_id = a.metric_id and e.attributes @> a.event_attributes) e
  where k.count <> e.total and (for_tenant is null or k.tenant_id = for_tenant)
    and not exists (
      select from laurel.user_achievements c
      where c.tenant_id = k.tenant_id and c.user_id = k.user_id and c.achievement_id = k.achievement_id)
  union all
  select b.* from laurel_private.broken_leaderboards(for_tenant) b
  union all
  select b.* from laurel_private.broken_streaks(for_tenant) b
  union all
  -- TR5: each tick once, in order, dated when it was due; nobody is forgotten.
  select 'tick_is_dated_when_it_was_due', t.tenant_id, t.user_id, t.trigger_id::text || ' ' || t.tick,
    'a tick of an activation', t.occurred_at::text
  from tick t where t.activated_at is null
  union all
  select 'ticks_are_applied_once_and_in_order', t.tenant_id, t.user_id, t.trigger_id::text, 'above ' || t.previous_tick, t.tick::text
  from (
    select t.*, lag(t.tick) over (
      partition by t.tenant_id, t.user_id, t.trigger_id, t.activated_at order by t.sequence) as previous_tick
    from tick t where t.activated_at is not null) t
  where t.tick <= t.previous_tick
  union all
  select 'clock_has_passed_the_ticks_applied', t.tenant_id, t.user_id, t.trigger_id::text, max(t.tick)::text, c.last_tick::text
  from tick t
  left join laurel_private.user_clocks c on c.tenant_id = t.tenant_id and c.user_id = t.user_id
    and c.trigger_id = t.trigger_id and c.activated_at = t.activated_at
  where t.activated_at is not null and exists (
    select from laurel_private.time_trigger_spans p
    where p.trigger_id = t.trigger_id and p.activated_at = t.activated_at and p.ends_at is null)
  group by t.tenant_id, t.user_id, t.trigger_id, t.activated_at, c.last_tick
  having coalesce(c.last_tick, 0) < max(t.tick)
  union all
  select 'user_who_can_gain_or_lose_has_a_running_clock', s.tenant_id, s.user_id, p.trigger_id::text, 'a clock', 'none'
  from laurel_private.time_trigger_spans p
  join laurel.points_systems y on y.id = p.system_id
  join state s on s.tenant_id = p.tenant_id
  where p.ends_at is null and (p.looks = 2 or p.looks = 1 and p.looked_since >= p.horizon)
    and s.attributes @> p.user_attributes
    and laurel_private.can_change(p.points, coalesce(s.totals[array_position(s.system_ids, p.system_id)], 0), y.max_points)
    and not exists (
      select from laurel_private.user_clocks c
      where c.tenant_id = s.tenant_id and c.user_id = s.user_id and c.trigger_id = p.trigger_id
        and c.activated_at = p.activated_at and c.next_due_at is not null)
  union all
  select 'compiled_rules_match_the_configuration', coalesce(x.tenant_id, r.tenant_id), null,
    coalesce(x.subject, r.subject), left(x.compiled::text, 1000), left(r.compiled::text, 1000)
  from expected_rules x full join rules r on r.tenant_id = x.tenant_id and r.subject = x.subject
  where x.compiled is distinct from r.compiled
  union all
  select * from laurel_private.broken_rollups(for_tenant)
  union all
  select * from laurel_private.broken_standings(for_tenant)
$$;

create function laurel.verify()
  returns table (invariant text, tenant_id uuid, user_id text, subject text, expected text, actual text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp as $$
  -- Callers see their own tenant; the database owner sees all.
  select b.* from laurel_private.broken_invariants(
    case when not laurel_private.is_owner_calling() then laurel.current_tenant_id() end) b
$$;

comment on function laurel.verify() is
  'Recomputes totals, peaks, counts, balances, ledger arithmetic, ticks, completions, leaderboards, idempotency keys, rollups, segments, standings, the count of users and compiled rules from the event log and the ledger; one row per broken invariant, none when all is well. Rule Q8.';
grant execute on function laurel.verify() to laurel_admin;
--! EndIncluded insight/verify.sql
--! Included insight/activity_figures.sql
-- Figures for monitoring, at a cost that does not grow: PostgreSQL's own counts of rows written
-- rather than counters of ours, which every award would have to wait for.

create function laurel_private.activity_figures()
  returns table (events bigint, awards bigint, users bigint, queued_events bigint, oldest_queued_seconds numeric, refused_events bigint)
  language sql stable as $$
  select
    (select coalesce(sum(s.n_tup_ins), 0)::bigint from pg_stat_user_tables s
      where s.schemaname = 'laurel_private' and s.relname ~ '^metric_events_(default|\d{4}_\d{2})$'),
    (select coalesce(sum(s.n_tup_ins), 0)::bigint from pg_stat_user_tables s
      where s.schemaname = 'laurel_private' and s.relname ~ '^points_awards_(default|\d{4}_\d{2})$'),
    (select greatest(c.reltuples, 0)::bigint from pg_class c where c.oid = 'laurel.users'::regclass),
    -- Counted up to a bound: what alerts need to know is that there are many.
    (select count(*) from (select from laurel_private.queued_events q where q.refused_code is null limit 10000) q),
    (select coalesce(extract(epoch from clock_timestamp() - (
      select to_timestamp(('x' || translate(left(q.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0)
      from laurel_private.queued_events q where q.refused_code is null order by q.id limit 1)), 0)),
    (select count(*) from (select from laurel_private.queued_events q where q.refused_code is not null limit 10000) q)
$$;

comment on function laurel_private.activity_figures() is
  'Events and awards written since statistics began, users (estimated), events that wait in the queue and were refused there (at most 10,000 each), and the age of the oldest in seconds. Rule X6.';
--! EndIncluded insight/activity_figures.sql
--! Included access/constraint_sentences.sql
-- Broken constraints in words: every constraint that a caller's input can break carries its sentence
-- as a comment, unique indexes too. Read by the admin functions per item, by the server once.

comment on constraint key_is_letters_digits_hyphens_underscores on domain laurel.key is
  'A key has 1 to 255 letters, digits, hyphens and underscores.';
comment on constraint user_id_is_1_to_255_characters on domain laurel.user_id is
  'A user ID has 1 to 255 characters.';
comment on constraint attributes_are_an_object on domain laurel.attribute_values is
  'Attributes are an object of keys with their values.';

-- What a constraint is about, by column, where that is one thing; tenant and system are its scope.
create function laurel_private.constrained_column(holder oid, columns int2[])
  returns text language sql stable as $$
  select case when count(*) = 1 then min(a.attname::text) end
  from pg_attribute a
  where a.attrelid = holder and a.attnum = any (columns) and a.attname not in ('tenant_id', 'system_id')
$$;

create view laurel_private.constraint_sentences as
select coalesce(r.relname, t.typname)::text as holder, c.conname::text as name, d.description as sentence,
  case when t.typname in ('key', 'user_id') then t.typname::text
    -- What has to be unique comes last, after what it is unique in.
    when c.contype = 'u' then laurel_private.constrained_column(c.conrelid, c.conkey[cardinality(c.conkey):])
    else laurel_private.constrained_column(c.conrelid, c.conkey) end as field
from pg_constraint c
join pg_namespace n on n.oid = c.connamespace and n.nspname in ('laurel', 'laurel_private')
join pg_description d on d.classoid = 'pg_constraint'::regclass and d.objoid = c.oid
left join pg_class r on r.oid = c.conrelid
left join pg_type t on t.oid = c.contypid
union all
select r.relname, x.relname, d.description, laurel_private.constrained_column(i.indrelid, array[i.indkey[i.indnkeyatts - 1]])
from pg_index i
join pg_class r on r.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
join pg_namespace n on n.oid = r.relnamespace and n.nspname in ('laurel', 'laurel_private')
join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = x.oid and d.objsubid = 0;

comment on view laurel_private.constraint_sentences is
  'What breaking a constraint or unique index means, by table or domain and by name, and the column it is about, null when it is about several.';

-- Comments of the catalogue are no secret, and the admin functions run in the caller's role.
grant usage on schema laurel_private to laurel_admin;
grant select on laurel_private.constraint_sentences to laurel_admin;
grant execute on function laurel_private.constrained_column(oid, int2[]) to laurel_admin;
--! EndIncluded access/constraint_sentences.sql
--! Included access/configuration_rules.sql
-- What holds for every change of configuration, whichever way in: one change at a time per tenant,
-- and nothing is removed while something active depends on it.

-- Taken before any row of configuration is touched. The compilation after each statement needs the
-- tenant's row as well: two transactions that changed the same rows in another order would else
-- wait for each other, one holding a row of configuration, the other the tenant's.
create function laurel_private.tg_configuration__lock()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from laurel.tenants t where t.id = laurel.current_tenant_id() for no key update;
  return null;
end
$$;

do $$
declare
  table_name text;
begin
  foreach table_name in array
    array['attributes', 'metrics', 'achievements', 'leaderboards', 'points_systems', 'points_triggers', 'points_boosts', 'points_levels', 'webhook_endpoints']
  loop
    execute format('create trigger %s__lock before insert or update or delete on laurel.%1$I
      for each statement execute function laurel_private.tg_configuration__lock()', table_name);
  end loop;
end
$$;

-- An attribute that a filter names stays: without it the filter would still stand but could never
-- be matched anew, and the REST contract could not show it, since it refers to attributes by ID.
-- The values that users and events have of a deleted attribute stay: events are history, and a user's value is data that
-- callers gave, shown, exported and erased with the user. While the attribute is not declared no filter can name them and
-- no write may send them; declaring the key again makes them count again, so that deleting one by mistake loses nothing.
create function laurel_private.tg_attributes__keep_used()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  used_by text;
begin
  -- A tenant that is deleted takes everything with it.
  if not exists (select from laurel.tenants t where t.id = old.tenant_id) then
    return old;
  end if;
  select case
    when exists (
      select from laurel.points_triggers t
      join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
      where t.tenant_id = old.tenant_id and t.status <> 'archived'
        and (case old.type when 'user' then t.user_attributes else t.event_attributes end) ? old.key)
    then 'a points trigger'
    when old.type = 'user' and exists (
      select from laurel.points_boosts b
      join laurel.points_systems s on s.id = b.system_id and s.archived_at is null
      where b.tenant_id = old.tenant_id and b.archived_at is null and b.user_attributes ? old.key)
    then 'a points boost'
    when exists (
      select from laurel.achievements a
      where a.tenant_id = old.tenant_id and a.status <> 'archived'
        and (case old.type when 'user' then a.user_attributes else a.event_attributes end) ? old.key)
    then 'an achievement'
    when old.type = 'user' and exists (
      select from laurel.leaderboards b
      where b.tenant_id = old.tenant_id and b.status <> 'archived' and old.key::text = any (b.breakdown_attributes))
    then 'a leaderboard'
  end into used_by;
  if used_by is not null then
    perform laurel_private.fail('LR020', null,
      format('The attribute %s is used by %s; change that first.', old.key, used_by));
  end if;
  return old;
end
$$;

create trigger attributes__keep_used before delete on laurel.attributes
  for each row execute function laurel_private.tg_attributes__keep_used();

-- A metric that pays points now is not archived by the way: whoever deletes it would silently stop
-- awards. Inactive triggers do not hold it; they can no longer be activated afterwards. It holds for
-- callers of REST and GraphQL; the database's owner is not asked twice.
create function laurel_private.tg_metrics__keep_used()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if laurel_private.is_owner_calling() then
    return new;
  end if;
  if exists (
    select from laurel.points_triggers t
    join laurel.points_systems s on s.id = t.system_id and s.archived_at is null
    where t.tenant_id = new.tenant_id and t.metric_id = new.id and t.status = 'active') then
    perform laurel_private.fail('LR020', null,
      format('The metric %s is used by an active points trigger; deactivate or delete the trigger first.', new.key));
  elsif exists (
    select from laurel.achievements a
    where a.tenant_id = new.tenant_id and a.metric_id = new.id and a.status in ('active', 'locked')) then
    perform laurel_private.fail('LR020', null,
      format('The metric %s is used by an active achievement; deactivate or delete the achievement first.', new.key));
  elsif exists (
    select from laurel.leaderboards b
    where b.tenant_id = new.tenant_id and b.metric_id = new.id and b.status = 'active') then
    perform laurel_private.fail('LR020', null,
      format('The metric %s is used by an active leaderboard; deactivate or delete the leaderboard first.', new.key));
  elsif exists (
    select from laurel_private.streak_settings s where s.tenant_id = new.tenant_id and new.id = any (s.metric_ids)) then
    perform laurel_private.fail('LR020', null,
      format('The metric %s counts for streaks; take it out of the streak settings first.', new.key));
  end if;
  return new;
end
$$;

create trigger metrics__keep_used before update of archived_at on laurel.metrics
  for each row when (old.archived_at is null and new.archived_at is not null)
  execute function laurel_private.tg_metrics__keep_used();
--! EndIncluded access/configuration_rules.sql
--! Included webhooks/deliver_messages.sql
-- Delivery: what the dispatcher (src/webhooks) asks for and reports. It sends; everything that must be
-- remembered, how long to wait and what becomes of a message, is decided here. Any number of
-- dispatchers may run: an endpoint's row is locked while its deliveries are taken, a lease says who
-- works on them, and a lease that runs out frees them.

-- What an endpoint may be sent now, at most so many for all. Of a user's messages only the first goes
-- out: a later one waits while an earlier one is due or on its way, and overtakes one that waits for a
-- retry (H2). Endpoints with the fewest requests under way come first, so that one that hangs takes
-- no more than its own share.
create function laurel_private.claim_webhook_deliveries(as_of timestamptz, most int, lease interval default '1 minute')
  returns table (tenant_id uuid, message_id uuid, endpoint_id uuid, token uuid, failed_attempts int, url text, payload text, secrets bytea[])
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
#variable_conflict use_column
declare
  endpoint record;
  left_over int := most;
  claimed uuid[];
  claim_token uuid := laurel_private.uuid_v7();
begin
  -- A lease lost in a crash costs a repetition, which receivers must expect anyway.
  perform set_config('synchronous_commit', 'off', true);
  for endpoint in
    select e.id, e.tenant_id, e.url, e.max_concurrency, u.under_way
    from laurel.webhook_endpoints e
    cross join lateral (
      select count(*)::int as under_way from laurel_private.webhook_leases l
      where l.endpoint_id = e.id and l.leased_until > as_of) u
    where e.is_active and u.under_way < e.max_concurrency
      and exists (
        select from laurel.webhook_deliveries d
        where d.endpoint_id = e.id and d.status = 'pending' and d.next_attempt_at <= as_of)
    order by u.under_way, e.id
  loop
    exit when left_over <= 0;
    -- Two dispatchers: the second passes it by, or it would not see what the first takes.
    perform from laurel.webhook_endpoints e where e.id = endpoint.id and e.is_active for no key update skip locked;
    continue when not found;
    claimed := array(
      select d.message_id
      from (
        select d.tenant_id, d.message_id, d.user_id from laurel.webhook_deliveries d
        where d.endpoint_id = endpoint.id and d.status = 'pending' and d.next_attempt_at <= as_of
        order by d.next_attempt_at, d.message_id
        limit 1000) d
      where not exists (
          select from laurel_private.webhook_leases l
          where l.tenant_id = d.tenant_id and l.message_id = d.message_id and l.endpoint_id = endpoint.id and l.leased_until > as_of)
        and (d.user_id is null or not exists (
          select from laurel.webhook_deliveries earlier
          where earlier.endpoint_id = endpoint.id and earlier.user_id = d.user_id and earlier.status = 'pending'
            and earlier.message_id < d.message_id and earlier.next_attempt_at <= as_of))
      -- Counted anew: another dispatcher may have taken some before this one got the lock.
      limit least(left_over, endpoint.max_concurrency - (
        select count(*)::int from laurel_private.webhook_leases l where l.endpoint_id = endpoint.id and l.leased_until > as_of)));
    -- Not those whose user is being erased, or that are removed otherwise, at this moment.
    claimed := array(
      select locked.message_id from unnest(claimed) c (id)
      cross join lateral (
        select d.message_id from laurel.webhook_deliveries d
        where d.tenant_id = endpoint.tenant_id and d.message_id = c.id and d.endpoint_id = endpoint.id
        for key share skip locked) locked);
    continue when claimed = '{}';
    left_over := left_over - cardinality(claimed);
    insert into laurel_private.webhook_leases as l (tenant_id, message_id, endpoint_id, token, leased_until)
    select endpoint.tenant_id, c.id, endpoint.id, claim_token, as_of + lease from unnest(claimed) c (id)
    on conflict on constraint webhook_deliveries_are_leased_once
      do update set token = excluded.token, leased_until = excluded.leased_until;
    return query
      select d.tenant_id, d.message_id, d.endpoint_id, claim_token, d.failed_attempts, endpoint.url, m.payload::text, array(
        select s.sealed from laurel_private.webhook_secrets s
        where s.tenant_id = endpoint.tenant_id and s.endpoint_id = endpoint.id and (s.expires_at is null or s.expires_at > as_of)
        order by s.id desc)
      from unnest(claimed) c (id)
      join laurel.webhook_deliveries d on d.tenant_id = endpoint.tenant_id and d.message_id = c.id and d.endpoint_id = endpoint.id
      join laurel.webhook_messages m on m.tenant_id = d.tenant_id and m.id = d.message_id;
  end loop;
end
$$;

comment on function laurel_private.claim_webhook_deliveries(timestamptz, int, interval) is
  'Takes deliveries that are due, at most so many and no more per endpoint than it allows at once, for so long. Rules H2, H5.';

-- How long to wait after so many failed attempts; null when there have been enough. `jitter` is from 0
-- to 1 and lengthens a pause by up to a fifth, so that messages that failed together part.
create function laurel_private.webhook_pause(failed_attempts int, jitter double precision)
  returns interval language sql immutable parallel safe
  return (array['5 seconds', '5 minutes', '30 minutes', '2 hours', '5 hours', '10 hours', '14 hours']::interval[])[failed_attempts]
    * (1 + 0.2 * jitter);

-- Reports [{tenantId, messageId, endpointId, token, at, latencyMs, status, error, response, retryAfterMs, jitter}]: status
-- is null when there was no answer, error null when it was 2xx. Who lost his lease has sent all the
-- same: a success counts, a failure is only logged.
create function laurel_private.finish_webhook_deliveries(results jsonb)
  returns void language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  -- In one order for all who lock several.
  perform from (
    select r.* from jsonb_to_recordset(results) as r ("tenantId" uuid, "messageId" uuid, "endpointId" uuid)
    order by r."messageId", r."endpointId" offset 0) r
  cross join lateral (
    select from laurel.webhook_deliveries d
    where d.tenant_id = r."tenantId" and d.message_id = r."messageId" and d.endpoint_id = r."endpointId"
    for no key update) locked;
  with result as materialized (
    select r.*, least(coalesce(r."retryAfterMs", 0), 86400000) * interval '1 millisecond' as asked_pause
    from jsonb_to_recordset(results) as r ("tenantId" uuid, "messageId" uuid, "endpointId" uuid, token uuid, at timestamptz,
      "latencyMs" int, status int, error text, response text, "retryAfterMs" bigint, jitter double precision)
  ),
  released as (
    delete from laurel_private.webhook_leases l using result r
    where l.tenant_id = r."tenantId" and l.message_id = r."messageId" and l.endpoint_id = r."endpointId" and l.token = r.token
    returning l.message_id, l.endpoint_id
  ),
  logged as (
    insert into laurel.webhook_attempts (tenant_id, message_id, endpoint_id, attempted_at, latency_ms, status, error, response)
    select r."tenantId", r."messageId", r."endpointId", r.at, r."latencyMs", r.status, r.error, r.response
    from result r
    join laurel.webhook_deliveries d
      on d.tenant_id = r."tenantId" and d.message_id = r."messageId" and d.endpoint_id = r."endpointId"
  )
  update laurel.webhook_deliveries d
  set status = n.status, failed_attempts = n.failed_attempts, next_attempt_at = n.next_attempt_at,
    delivered_at = case when n.status = 'delivered' then n.ended_at end,
    parked_at = case when n.status = 'parked' then n.ended_at end,
    last_status = r.status, last_error = r.error
  from result r
  left join released l on l.message_id = r."messageId" and l.endpoint_id = r."endpointId"
  cross join lateral (
    select r.at + r."latencyMs" * interval '1 millisecond' as ended_at, d.failed_attempts + case when r.error is null then 0 else 1 end as failed_attempts
    from laurel.webhook_deliveries d
    where d.tenant_id = r."tenantId" and d.message_id = r."messageId" and d.endpoint_id = r."endpointId") a
  cross join lateral (
    select a.ended_at, a.failed_attempts, p.pause,
      case when r.error is null then 'delivered' when p.pause is null then 'parked' else 'pending' end as status,
      case when r.error is not null and p.pause is not null then a.ended_at + greatest(p.pause, r.asked_pause) end as next_attempt_at
    from (select case when r.status is distinct from 410 then laurel_private.webhook_pause(a.failed_attempts, r.jitter) end as pause) p) n
  where d.tenant_id = r."tenantId" and d.message_id = r."messageId" and d.endpoint_id = r."endpointId"
    and case when r.error is null then d.status <> 'delivered' else d.status = 'pending' and l.message_id is not null end;
end
$$;

comment on function laurel_private.finish_webhook_deliveries(jsonb) is
  'Notes what came of attempts: delivered, tried again after 5 s, 5 m, 30 m, 2 h, 5 h, 10 h and 14 h or when the receiver asked for, then parked. Rule H2.';

-- The receiver says that it is gone for good (410): nothing more is written for it, and what waits is
-- parked until somebody activates it and replays.
create function laurel_private.disable_webhook_endpoint(for_tenant uuid, endpoint_id uuid, reason text, as_of timestamptz)
  returns void language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
begin
  -- The change is the tenant's, whoever finds it out.
  perform set_config('laurel.tenant', t.customer_id, true), set_config('laurel.actor', 'webhooks', true)
  from laurel.tenants t where t.id = for_tenant and t.archived_at is null;
  if not found then
    return;
  end if;
  update laurel.webhook_endpoints e
  set is_active = false, disabled_at = as_of, disabled_reason = reason
  where e.tenant_id = for_tenant and e.id = disable_webhook_endpoint.endpoint_id and e.is_active;
  if not found then
    return;
  end if;
  perform from laurel.webhook_deliveries d
  where d.endpoint_id = disable_webhook_endpoint.endpoint_id and d.status = 'pending' order by d.message_id for no key update;
  update laurel.webhook_deliveries d
  set status = 'parked', next_attempt_at = null, parked_at = as_of, last_error = coalesce(d.last_error, reason)
  where d.endpoint_id = disable_webhook_endpoint.endpoint_id and d.status = 'pending';
end
$$;

comment on function laurel_private.disable_webhook_endpoint(uuid, uuid, text, timestamptz) is
  'Makes an endpoint inactive, with the reason shown, and parks what waits for it.';

-- Endpoints made in SQL, for which the dispatcher makes a secret.
create function laurel_private.webhooks_without_secret()
  returns table (tenant_id uuid, endpoint_id uuid) language sql stable as $$
  select e.tenant_id, e.id from laurel.webhook_endpoints e
  where not exists (
    select from laurel_private.webhook_secrets s where s.tenant_id = e.tenant_id and s.endpoint_id = e.id)
$$;

create function laurel_private.add_first_webhook_secret(for_tenant uuid, endpoint_id uuid, sealed bytea)
  returns void language sql volatile as $$
  insert into laurel_private.webhook_secrets (tenant_id, endpoint_id, sealed)
  select e.tenant_id, e.id, add_first_webhook_secret.sealed from laurel.webhook_endpoints e
  where e.tenant_id = for_tenant and e.id = add_first_webhook_secret.endpoint_id
  on conflict do nothing
$$;

-- The delivery log is kept for 30 days; so are messages that are delivered, or have been parked for
-- so long. Returns how many rows it removed; 0 when nothing is left to remove.
create function laurel_private.remove_old_webhook_messages(as_of timestamptz default now(), most int default 5000)
  returns int language plpgsql volatile
  set search_path = pg_catalog, pg_temp as $$
declare
  bound uuid := laurel_private.first_uuid_v7(as_of - interval '30 days');
  removed_attempts int;
  removed_messages int;
begin
  delete from laurel.webhook_attempts t
  where t.id in (select o.id from laurel.webhook_attempts o where o.id < bound order by o.id limit most for update skip locked);
  get diagnostics removed_attempts = row_count;
  delete from laurel.webhook_messages m
  using (
    select o.tenant_id, o.id from laurel.webhook_messages o
    where o.id < bound and not exists (
      select from laurel.webhook_deliveries d
      where d.tenant_id = o.tenant_id and d.message_id = o.id
        and (d.status = 'pending' and exists (select from laurel.webhook_endpoints e where e.id = d.endpoint_id)
          or d.parked_at > as_of - interval '30 days'))
    limit most for update skip locked) o
  where m.tenant_id = o.tenant_id and m.id = o.id;
  get diagnostics removed_messages = row_count;
  delete from laurel_private.webhook_secrets s where s.expires_at <= as_of;
  return removed_attempts + removed_messages;
end
$$;

comment on function laurel_private.remove_old_webhook_messages(timestamptz, int) is
  'Removes attempts and messages that are older than 30 days, at most so many of each; never what is still to be delivered.';
--! EndIncluded webhooks/deliver_messages.sql
--! Included webhooks/webhook_figures.sql
-- Figures of deliveries for monitoring, whichever process sends them. Bounded: the latest 10,000 attempts, and counts that
-- stop there.

create function laurel_private.webhook_figures(as_of timestamptz default clock_timestamp())
  returns table (attempts bigint, delivered bigint, failed bigint, median_seconds numeric, slowest_seconds numeric,
    due bigint, oldest_due_seconds numeric, retrying bigint, parked bigint)
  language sql stable as $$
  select
    (select s.n_tup_ins from pg_stat_user_tables s where s.schemaname = 'laurel' and s.relname = 'webhook_attempts'),
    t.delivered, t.failed, t.median_seconds, t.slowest_seconds,
    d.due, d.oldest_due_seconds, r.retrying,
    (select count(*) from (select from laurel.webhook_deliveries p where p.status = 'parked' limit 10000) p)
  from (
    select count(*) filter (where t.error is null) as delivered, count(*) filter (where t.error is not null) as failed,
      round((percentile_disc(0.5) within group (order by t.latency_ms) / 1000.0), 3) as median_seconds,
      round((percentile_disc(0.99) within group (order by t.latency_ms) / 1000.0), 3) as slowest_seconds
    from (
      select t.error, t.latency_ms from laurel.webhook_attempts t
      where t.id >= laurel_private.first_uuid_v7(as_of - interval '1 minute') order by t.id desc limit 10000) t) t
  cross join (
    select count(*) as due, greatest(coalesce(extract(epoch from as_of - min(d.next_attempt_at)), 0), 0) as oldest_due_seconds
    from (
      select d.next_attempt_at from laurel.webhook_endpoints e
      cross join lateral (
        select d.next_attempt_at from laurel.webhook_deliveries d
        where d.endpoint_id = e.id and d.status = 'pending' and d.next_attempt_at <= as_of
        order by d.next_attempt_at limit 10000) d
      where e.is_active limit 10000) d) d
  cross join (
    select count(*) as retrying from (
      select from laurel.webhook_endpoints e
      join laurel.webhook_deliveries d on d.endpoint_id = e.id and d.status = 'pending' and d.next_attempt_at > as_of
      where e.is_active limit 10000) d) r
$$;

comment on function laurel_private.webhook_figures(timestamptz) is
  'Attempts since statistics began; of the last minute (at most its latest 10,000) how many delivered and failed, their median and 99th percentile in seconds (null when there were none); deliveries to active endpoints that are due, the longest overdue in seconds, those that wait for a retry, and those that are parked (each at most 10,000). Rule X6.';
--! EndIncluded webhooks/webhook_figures.sql
--! Included webhooks/admin_webhooks.sql
-- Webhooks as the admin API has them. The server makes secrets, seals them, hands the sealed ones in
-- and shows the plain ones once; nothing here can.

create function laurel_private.admin_webhook(e laurel.webhook_endpoints)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', e.id, 'url', e.url, 'description', e.description, 'eventTypes', e.event_types, 'active', e.is_active,
    'maxConcurrency', e.max_concurrency, 'disabled', laurel_private.instant_as_text(e.disabled_at), 'disabledReason', e.disabled_reason,
    'secretRotated', laurel_private.instant_as_text(e.secret_rotated_at),
    'created', laurel_private.instant_as_text(e.created_at), 'updated', laurel_private.instant_as_text(e.updated_at))
$$;

create function laurel_private.texts_from_json(texts jsonb)
  returns text[] language sql immutable as $$
  select coalesce(array_agg(t.text order by t.no), '{}') from jsonb_array_elements_text(texts) with ordinality as t (text, no)
$$;

-- The sealed secret becomes the current one; the one before it signs beside it until the overlap is
-- over, those before that no longer. Definer, since no role may touch secrets.
create function laurel_private.replace_webhook_secret(endpoint_id uuid, sealed bytea, overlap interval)
  returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  for_tenant uuid := laurel.current_tenant_id();
  moment timestamptz := clock_timestamp();
begin
  -- The configuration's lock first. Two rotations at once: the second waits, and replaces what the first made.
  perform from laurel.tenants t where t.id = for_tenant for no key update;
  perform from laurel.webhook_endpoints e
  where e.tenant_id = for_tenant and e.id = replace_webhook_secret.endpoint_id for no key update;
  if not found then
    perform laurel_private.fail('LR006', null, 'webhook', endpoint_id::text);
  end if;
  delete from laurel_private.webhook_secrets s
  where s.tenant_id = for_tenant and s.endpoint_id = replace_webhook_secret.endpoint_id and s.expires_at is not null;
  update laurel_private.webhook_secrets s set expires_at = moment + overlap
  where s.tenant_id = for_tenant and s.endpoint_id = replace_webhook_secret.endpoint_id;
  if found then
    update laurel.webhook_endpoints e set secret_rotated_at = moment
    where e.tenant_id = for_tenant and e.id = replace_webhook_secret.endpoint_id;
  end if;
  insert into laurel_private.webhook_secrets (tenant_id, endpoint_id, sealed)
  values (for_tenant, replace_webhook_secret.endpoint_id, replace_webhook_secret.sealed);
end
$$;

comment on function laurel_private.replace_webhook_secret(uuid, bytea, interval) is
  'Makes a sealed secret the current one of a webhook; the one before it signs beside it for so long. LR006.';

create function laurel_private.create_webhook(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.webhook_endpoints;
begin
  insert into laurel.webhook_endpoints (url, description, event_types, is_active, max_concurrency)
  values (item ->> 'url', item ->> 'description', laurel_private.texts_from_json(item -> 'eventTypes'),
    coalesce((item ->> 'active')::boolean, true), coalesce((item ->> 'maxConcurrency')::int, 10))
  returning * into created;
  perform laurel_private.replace_webhook_secret(created.id, decode(item ->> 'sealed', 'base64'), '0');
  return laurel_private.admin_webhook(created);
end
$$;

create function laurel_private.update_webhook(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.webhook_endpoints;
begin
  update laurel.webhook_endpoints e
  set url = coalesce(item ->> 'url', e.url),
    description = case when item ? 'description' then item ->> 'description' else e.description end,
    event_types = case when jsonb_typeof(item -> 'eventTypes') = 'array'
      then laurel_private.texts_from_json(item -> 'eventTypes') else e.event_types end,
    is_active = coalesce((item ->> 'active')::boolean, e.is_active),
    max_concurrency = coalesce((item ->> 'maxConcurrency')::int, e.max_concurrency),
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, e.updated_at)
  where e.id = (item ->> 'id')::uuid
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'webhook', item ->> 'id');
  end if;
  return laurel_private.admin_webhook(updated);
end
$$;

create function laurel_private.delete_webhook(id uuid)
  returns void language plpgsql volatile as $$
begin
  delete from laurel.webhook_endpoints e where e.id = delete_webhook.id;
  if not found then
    perform laurel_private.fail('LR006', null, 'webhook', id::text);
  end if;
end
$$;

create function laurel_private.rotate_webhook_secret(endpoint_id uuid, sealed text, overlap_seconds int)
  returns jsonb language plpgsql volatile as $$
begin
  perform laurel_private.replace_webhook_secret(endpoint_id, decode(sealed, 'base64'), make_interval(secs => overlap_seconds));
  return (select laurel_private.admin_webhook(e) from laurel.webhook_endpoints e where e.id = endpoint_id);
end
$$;

-- A webhook of the session's tenant; LR006 when there is none.
create function laurel_private.require_webhook(endpoint_id uuid)
  returns laurel.webhook_endpoints language plpgsql stable as $$
declare
  endpoint laurel.webhook_endpoints;
begin
  select e.* into endpoint from laurel.webhook_endpoints e
  where e.tenant_id = laurel.current_tenant_id() and e.id = endpoint_id;
  if endpoint.id is null then
    perform laurel_private.fail('LR006', null, 'webhook', coalesce(endpoint_id::text, 'null'));
  end if;
  return endpoint;
end
$$;

-- The latest first, each with its attempts.
create function laurel_private.list_webhook_deliveries(endpoint_id uuid, status text, most int, skipped int)
  returns jsonb language plpgsql stable as $$
declare
  endpoint laurel.webhook_endpoints := laurel_private.require_webhook(endpoint_id);
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('messageId', d.message_id, 'type', m.event_type, 'userId', d.user_id, 'status', d.status,
      'created', laurel_private.instant_as_text(m.created_at), 'nextAttempt', laurel_private.instant_as_text(d.next_attempt_at),
      'delivered', laurel_private.instant_as_text(d.delivered_at), 'parked', laurel_private.instant_as_text(d.parked_at),
      'payload', m.payload, 'attempts', (
        select coalesce(jsonb_agg(jsonb_build_object('date', laurel_private.instant_as_text(t.attempted_at), 'latencyMs', t.latency_ms,
          'status', t.status, 'error', t.error, 'response', t.response) order by t.id), '[]')
        from laurel.webhook_attempts t
        where t.tenant_id = d.tenant_id and t.message_id = d.message_id and t.endpoint_id = d.endpoint_id)) order by d.message_id desc), '[]')
    from (
      select d.* from laurel.webhook_deliveries d
      where d.tenant_id = endpoint.tenant_id and d.endpoint_id = endpoint.id
        and (list_webhook_deliveries.status is null or d.status = list_webhook_deliveries.status)
      order by d.message_id desc limit most offset skipped) d
    join laurel.webhook_messages m on m.tenant_id = d.tenant_id and m.id = d.message_id);
end
$$;

-- Sends it again: at once, and from the start of the schedule. Under the same webhook-id, by which
-- receivers know what they have had. One on its way stays with who sends it.
create function laurel_private.replay_deliveries(for_tenant uuid, deliveries laurel.webhook_deliveries[])
  returns int language plpgsql volatile as $$
declare
  replayed int;
begin
  -- In one order for all who lock several.
  perform from unnest(deliveries) q
  join laurel.webhook_deliveries d on d.tenant_id = for_tenant and d.message_id = q.message_id and d.endpoint_id = q.endpoint_id
  order by d.message_id, d.endpoint_id for no key update of d;
  update laurel.webhook_deliveries d
  set status = 'pending', failed_attempts = 0, next_attempt_at = clock_timestamp(), delivered_at = null, parked_at = null
  from unnest(deliveries) q
  where d.tenant_id = for_tenant and d.message_id = q.message_id and d.endpoint_id = q.endpoint_id;
  get diagnostics replayed = row_count;
  return replayed;
end
$$;

-- Which of these endpoints are active: nothing is sent to others, and what is replayed to one would wait unseen. LR020 when
-- none is. Holds them, or a receiver that says at this moment that it is gone would leave behind what is replayed.
create function laurel_private.require_active_webhooks(endpoint_ids uuid[])
  returns uuid[] language plpgsql volatile as $$
declare
  active uuid[];
begin
  perform from laurel.webhook_endpoints e where e.id = any (endpoint_ids) order by e.id for share;
  active := array(select e.id from laurel.webhook_endpoints e where e.id = any (endpoint_ids) and e.is_active);
  if active = '{}' then
    perform laurel_private.fail('LR020', 'is_active', 'The webhook is not active; activate it first.');
  end if;
  return active;
end
$$;

create function laurel.replay_webhook_message(message_id uuid, endpoint_id uuid default null)
  returns int language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  had_it uuid[] := array(
    select d.endpoint_id from laurel.webhook_deliveries d
    where d.tenant_id = laurel.current_tenant_id() and d.message_id = replay_webhook_message.message_id
      and (replay_webhook_message.endpoint_id is null or d.endpoint_id = replay_webhook_message.endpoint_id));
begin
  if had_it = '{}' then
    perform laurel_private.fail('LR006', null, 'webhook message', coalesce(message_id::text, 'null'));
  end if;
  had_it := laurel_private.require_active_webhooks(had_it);
  return laurel_private.replay_deliveries(laurel.current_tenant_id(), array(
    select d from laurel.webhook_deliveries d
    where d.tenant_id = laurel.current_tenant_id() and d.message_id = replay_webhook_message.message_id and d.endpoint_id = any (had_it)));
end
$$;

comment on function laurel.replay_webhook_message(uuid, uuid) is
  'Delivers a message again, to one endpoint or to all active ones that had it, whatever came of it; returns to how many. LR006, LR020 when none of them is active.';

create function laurel.replay_webhook_endpoint(
  endpoint_id uuid, since timestamptz default null, until timestamptz default null, only_parked boolean default true
) returns int language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  endpoint laurel.webhook_endpoints := laurel_private.require_webhook(endpoint_id);
begin
  perform laurel_private.require_active_webhooks(array[endpoint.id]);
  return laurel_private.replay_deliveries(endpoint.tenant_id, array(
    select d from laurel.webhook_deliveries d
    join laurel.webhook_messages m on m.tenant_id = d.tenant_id and m.id = d.message_id
    where d.endpoint_id = endpoint.id and d.tenant_id = endpoint.tenant_id
      and (d.status = 'parked' or not coalesce(only_parked, true))
      and (since is null or m.created_at >= since) and (until is null or m.created_at <= until)));
end
$$;

comment on function laurel.replay_webhook_endpoint(uuid, timestamptz, timestamptz, boolean) is
  'Delivers again what was parked (or, if told, everything) for an endpoint that is active, of messages written from one moment to another; null bounds nothing. Returns how many. LR006, LR020.';

-- A body of each type about nobody real, for a receiver to be tried with.
create function laurel_private.sample_webhook_payload(event_type text)
  returns json language sql stable as $$
  select (jsonb_build_object('type', event_type) || case
    when event_type ~ '^(points\.(level_)?changed|achievement\.|streak\.|leaderboard\.rank_)' then jsonb_build_object('user', jsonb_build_object(
      'id', 'test-user', 'email', 'test@example.com', 'name', 'Test User', 'tz', 'Europe/London', 'signUpDate', null, 'deviceTokens', null,
      'subscribeToEmails', true, 'attributes', '{}'::jsonb, 'control', false, 'created', s.moment, 'updated', s.moment))
    else '{}' end || case
    when event_type = 'points.changed' then jsonb_build_object('points', s.system || jsonb_build_object('total', 10, 'added', 10, 'awards', '[]'::jsonb))
    when event_type = 'points.level_changed' then jsonb_build_object('points', s.system || '{"total": 10}', 'previousLevel', null, 'newLevel',
      jsonb_build_object('id', s.id, 'key', 'test-level', 'name', 'Test level', 'description', '', 'badgeUrl', null, 'points', 10))
    when event_type like 'points.boost%' then jsonb_build_object('timestamp', s.moment, 'boost', jsonb_build_object('id', s.id, 'name', 'Test boost',
      'status', case when event_type like '%started' then 'active' else 'finished' end, 'userId', null, 'pointsSystemId', s.id,
      'pointsSystemKey', 'test-points', 'pointsSystemName', 'Test points', 'start', s.day, 'end', s.day, 'multiplier', 2, 'rounding', 'down'))
    when event_type = 'achievement.completed' then jsonb_build_object('achievement', jsonb_build_object('id', s.id, 'name', 'Test achievement',
      'trigger', 'api', 'key', 'test-achievement', 'description', null, 'badgeUrl', null, 'userAttributes', '[]'::jsonb, 'achievedAt', s.moment))
    when event_type in ('streak.started', 'streak.extended') then jsonb_build_object('streak', jsonb_build_object(
      'length', case when event_type = 'streak.started' then 1 else 2 end, 'frequency', 'daily', 'started', s.day, 'periodStart', s.day,
      'periodEnd', s.day, 'expires', s.day))
    when event_type = 'streak.lost' then '{"length": 7}'
    when event_type = 'streak.freeze_consumed' then '{"consumed": 1, "freezes": 2}'
    when event_type = 'streak.freeze_earned' then '{"earned": 1, "freezes": 2}'
    when event_type = 'leaderboard.rank_changed' then jsonb_build_object('leaderboard',
      s.leaderboard || '{"rank": 2, "value": 10, "previousRank": 3, "previousValue": 5}')
    else jsonb_build_object('leaderboard', s.leaderboard || jsonb_build_object(
      'status', case when event_type like '%finished' then 'finished' else 'active' end,
      'rankings', '[{"userId": "test-user", "userName": "Test User", "rank": 1, "value": 10}]'::jsonb)) end)::json
  from (
    select nil as id, laurel_private.instant_as_text(now()) as moment, current_date as day,
      jsonb_build_object('id', nil, 'key', 'test-points', 'name', 'Test points', 'description', null, 'badgeUrl', null, 'maxPoints', null) as system,
      jsonb_build_object('id', nil, 'key', 'test-leaderboard', 'name', 'Test leaderboard', 'status', 'active', 'description', null,
        'rankBy', 'points', 'pointsSystemKey', 'test-points', 'pointsSystemName', 'Test points', 'breakdownAttribute', null,
        'breakdownAttributes', '[]'::jsonb, 'start', current_date, 'end', null, 'startTime', null, 'endTime', null,
        'maxParticipants', 100, 'runUnit', null, 'runInterval', null) as leaderboard
    from (select '00000000-0000-7000-8000-000000000000'::uuid as nil) n) s
$$;

create function laurel.send_test_webhook(endpoint_id uuid, event_type text default null)
  returns uuid language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  endpoint laurel.webhook_endpoints := laurel_private.require_webhook(endpoint_id);
  sent_type text := coalesce(event_type, endpoint.event_types[1]);
  message_id uuid := laurel_private.uuid_v7();
begin
  if not endpoint.is_active then
    perform laurel_private.fail('LR020', 'is_active', 'The webhook is not active; activate it first.');
  elsif sent_type <> all (endpoint.event_types) then
    perform laurel_private.fail('LR020', 'event_type', 'The webhook does not have this event type.');
  end if;
  insert into laurel.webhook_messages (id, tenant_id, event_type, payload)
  values (message_id, endpoint.tenant_id, sent_type, laurel_private.sample_webhook_payload(sent_type));
  insert into laurel.webhook_deliveries (tenant_id, message_id, endpoint_id) values (endpoint.tenant_id, message_id, endpoint.id);
  return message_id;
end
$$;

comment on function laurel.send_test_webhook(uuid, text) is
  'Sends a made-up message of a type (the first the endpoint has, if null) to one endpoint, and returns the message''s ID. LR006, LR020.';

grant execute on function laurel.replay_webhook_message(uuid, uuid),
  laurel.replay_webhook_endpoint(uuid, timestamptz, timestamptz, boolean), laurel.send_test_webhook(uuid, text),
  laurel_private.admin_webhook(laurel.webhook_endpoints), laurel_private.texts_from_json(jsonb),
  laurel_private.replace_webhook_secret(uuid, bytea, interval), laurel_private.create_webhook(jsonb), laurel_private.update_webhook(jsonb),
  laurel_private.delete_webhook(uuid), laurel_private.rotate_webhook_secret(uuid, text, int),
  laurel_private.require_webhook(uuid), laurel_private.list_webhook_deliveries(uuid, text, int, int)
  to laurel_admin;
--! EndIncluded webhooks/admin_webhooks.sql
--! Included users/admin_attributes.sql
-- Attributes as the admin API has them. Every function here runs in its caller's role, under
-- row-level security, and takes an item whose types were checked already.

create function laurel_private.admin_attribute(a laurel.attributes)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', a.id, 'name', a.name, 'key', a.key, 'type', a.type,
    'updated', laurel_private.instant_as_text(a.updated_at))
$$;

create function laurel_private.create_attribute(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.attributes;
begin
  insert into laurel.attributes (key, name, type)
  values (item ->> 'key', item ->> 'name', (item ->> 'type')::laurel.attribute_type)
  returning * into created;
  return laurel_private.admin_attribute(created);
end
$$;

create function laurel_private.update_attribute(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.attributes;
begin
  update laurel.attributes a
  set name = coalesce(item ->> 'name', a.name),
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, a.updated_at)
  where a.id = (item ->> 'id')::uuid
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'attribute', item ->> 'id');
  end if;
  return laurel_private.admin_attribute(updated);
end
$$;

create function laurel_private.delete_attribute(id uuid)
  returns void language plpgsql volatile as $$
begin
  delete from laurel.attributes a where a.id = delete_attribute.id;
  if not found then
    perform laurel_private.fail('LR006', null, 'attribute', id::text);
  end if;
end
$$;

-- Filters: the admin API says [{attributeId, attributeValue}], tables hold {"key": "value"}.
create function laurel_private.filter_from_pairs(type laurel.attribute_type, pairs jsonb)
  returns jsonb language plpgsql stable as $$
declare
  filter jsonb := '{}';
  pair record;
  found_key text;
begin
  if coalesce(jsonb_typeof(pairs), 'null') = 'null' then
    return filter;
  end if;
  for pair in select p ->> 'attributeId' as id, p ->> 'attributeValue' as value
    from jsonb_array_elements(pairs) p
  loop
    select a.key into found_key from laurel.attributes a
    where a.id = pair.id::uuid and a.type = filter_from_pairs.type;
    if not found then
      perform laurel_private.fail('LR020', type || '_attributes', format('No %s attribute has the ID %s.', type, pair.id));
    elsif filter ? found_key then
      perform laurel_private.fail('LR020', type || '_attributes', format('The attribute %s is given twice.', found_key));
    end if;
    filter := filter || jsonb_build_object(found_key, pair.value);
  end loop;
  return filter;
end
$$;

create function laurel_private.pairs_from_filter(type laurel.attribute_type, filter jsonb)
  returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(jsonb_build_object('attributeId', a.id, 'attributeValue', f.value) order by f.key), '[]')
  from jsonb_each_text(filter) f
  join laurel.attributes a on a.type = pairs_from_filter.type and a.key = f.key
$$;

grant execute on function laurel_private.admin_attribute(laurel.attributes),
  laurel_private.create_attribute(jsonb), laurel_private.update_attribute(jsonb),
  laurel_private.delete_attribute(uuid),
  laurel_private.filter_from_pairs(laurel.attribute_type, jsonb),
  laurel_private.pairs_from_filter(laurel.attribute_type, jsonb)
  to laurel_admin;
--! EndIncluded users/admin_attributes.sql
--! Included metrics/admin_metrics.sql
-- Metrics as the admin API has them. Every function here runs in its caller's role, under row-level
-- security, and takes an item whose types were checked already.

create function laurel_private.admin_metric(m laurel.metrics)
  returns jsonb language sql stable as $$
  -- `status` is for older client libraries; an archived metric is never shown.
  select jsonb_build_object('id', m.id, 'name', m.name, 'key', m.key, 'unitType', m.unit_type,
    'units', m.units, 'status', 'active', 'updated', laurel_private.instant_as_text(m.updated_at))
$$;

create function laurel_private.create_metric(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.metrics;
begin
  insert into laurel.metrics (key, name, unit_type, units)
  values (item ->> 'key', item ->> 'name', coalesce((item ->> 'unitType')::laurel.unit_type, 'number'),
    coalesce(item ->> 'units', ''))
  returning * into created;
  return laurel_private.admin_metric(created);
end
$$;

create function laurel_private.update_metric(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.metrics;
begin
  update laurel.metrics m
  set name = coalesce(item ->> 'name', m.name),
    unit_type = coalesce((item ->> 'unitType')::laurel.unit_type, m.unit_type),
    units = coalesce(item ->> 'units', m.units),
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, m.updated_at)
  where m.id = (item ->> 'id')::uuid and m.archived_at is null
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'metric', item ->> 'id');
  end if;
  return laurel_private.admin_metric(updated);
end
$$;

-- Archives it: its events and the points they earned stay (RP5).
create function laurel_private.delete_metric(id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.metrics m set archived_at = now() where m.id = delete_metric.id and m.archived_at is null;
  if not found then
    perform laurel_private.fail('LR006', null, 'metric', id::text);
  end if;
end
$$;

grant execute on function laurel_private.admin_metric(laurel.metrics),
  laurel_private.create_metric(jsonb), laurel_private.update_metric(jsonb), laurel_private.delete_metric(uuid)
  to laurel_admin;
--! EndIncluded metrics/admin_metrics.sql
--! Included achievements/admin_achievements.sql
-- Achievements as the admin API has them. Every function here runs in its caller's role, under
-- row-level security, and takes an item whose types were checked already.

create function laurel_private.admin_achievement(a laurel.achievements)
  returns jsonb language sql stable as $$
  -- What belongs to another kind is null in the row, and left out; description and badge are always there.
  select jsonb_strip_nulls(jsonb_build_object(
      'id', a.id, 'name', a.name, 'trigger', a.kind, 'status', a.status, 'key', a.key,
      'userAttributes', laurel_private.pairs_from_filter('user', a.user_attributes),
      'metricId', a.metric_id, 'metricValue', trim_scale(a.metric_value),
      'eventAttributes', case when a.kind = 'metric' then laurel_private.pairs_from_filter('event', a.event_attributes) end,
      'streakLength', a.streak_length, 'anniversaryYears', a.years,
      'achievementIds', case when a.kind = 'achievement' then to_jsonb(a.prerequisite_ids) end))
    || jsonb_build_object('description', a.description,
      'badge', case when a.badge_url is not null then jsonb_build_object('url', a.badge_url) end,
      'updated', laurel_private.instant_as_text(a.updated_at))
$$;

create function laurel_private.ids_from_json(ids jsonb)
  returns uuid[] language sql immutable as $$
  select coalesce(array_agg(i.id::uuid order by i.no), '{}')
  from jsonb_array_elements_text(case when jsonb_typeof(ids) = 'array' then ids else '[]' end) with ordinality as i (id, no)
$$;

create function laurel_private.create_achievement(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.achievements;
begin
  insert into laurel.achievements (key, name, description, badge_url, kind, status, metric_id, metric_value, streak_length,
    years, prerequisite_ids, user_attributes, event_attributes)
  values (item ->> 'key', item ->> 'name', item ->> 'description', item #>> '{badge,url}',
    (item ->> 'trigger')::laurel.achievement_kind, coalesce((item ->> 'status')::laurel.achievement_status, 'inactive'),
    (item ->> 'metricId')::uuid, (item ->> 'metricValue')::numeric, (item ->> 'streakLength')::int,
    (item ->> 'anniversaryYears')::int, laurel_private.ids_from_json(item -> 'achievementIds'),
    laurel_private.filter_from_pairs('user', item -> 'userAttributes'),
    laurel_private.filter_from_pairs('event', item -> 'eventAttributes'))
  returning * into created;
  return laurel_private.admin_achievement(created);
end
$$;

-- A change of trigger starts its own properties anew, as that of a points trigger's type does.
create function laurel_private.update_achievement(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.achievements;
begin
  update laurel.achievements a
  set name = coalesce(item ->> 'name', a.name),
    description = case when item ? 'description' then item ->> 'description' else a.description end,
    badge_url = case when item ? 'badge' then item #>> '{badge,url}' else a.badge_url end,
    status = coalesce((item ->> 'status')::laurel.achievement_status, a.status),
    kind = coalesce(given.kind, a.kind),
    key = coalesce(item ->> 'key', a.key),
    metric_id = coalesce((item ->> 'metricId')::uuid, case when given.kind is null then a.metric_id end),
    metric_value = coalesce((item ->> 'metricValue')::numeric, case when given.kind is null then a.metric_value end),
    streak_length = coalesce((item ->> 'streakLength')::int, case when given.kind is null then a.streak_length end),
    years = coalesce((item ->> 'anniversaryYears')::int, case when given.kind is null then a.years end),
    prerequisite_ids = case when item ? 'achievementIds' then laurel_private.ids_from_json(item -> 'achievementIds')
      when given.kind is null then a.prerequisite_ids else '{}' end,
    user_attributes = case when item ? 'userAttributes'
      then laurel_private.filter_from_pairs('user', item -> 'userAttributes') else a.user_attributes end,
    event_attributes = case when item ? 'eventAttributes'
      then laurel_private.filter_from_pairs('event', item -> 'eventAttributes')
      when given.kind is null then a.event_attributes else '{}' end,
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, a.updated_at)
  from (
    select nullif((item ->> 'trigger')::laurel.achievement_kind, before.kind) as kind
    from laurel.achievements before where before.id = (item ->> 'id')::uuid) given
  where a.id = (item ->> 'id')::uuid and a.status <> 'archived'
  returning a.* into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'achievement', item ->> 'id');
  end if;
  return laurel_private.admin_achievement(updated);
end
$$;

-- Archives it: completions and the points they paid stay (RP5).
create function laurel_private.delete_achievement(id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.achievements a set status = 'archived' where a.id = delete_achievement.id and a.status <> 'archived';
  if not found then
    perform laurel_private.fail('LR006', null, 'achievement', id::text);
  end if;
end
$$;

grant execute on function laurel_private.admin_achievement(laurel.achievements), laurel_private.ids_from_json(jsonb),
  laurel_private.create_achievement(jsonb), laurel_private.update_achievement(jsonb), laurel_private.delete_achievement(uuid)
  to laurel_admin;
--! EndIncluded achievements/admin_achievements.sql
--! Included leaderboards/admin_leaderboards.sql
-- Leaderboards as the admin API has them. Every function here runs in its caller's role, under
-- row-level security, and takes an item whose types were checked already.

create function laurel_private.admin_leaderboard(b laurel.leaderboards)
  returns jsonb language sql stable as $$
  -- What it does not have is null in the row, and left out.
  select jsonb_strip_nulls(jsonb_build_object(
    'id', b.id, 'name', b.name, 'key', b.key, 'description', b.description,
    'status', laurel_private.shown_status(b, now()), 'rankBy', b.rank_by, 'metricId', b.metric_id, 'pointsSystemId', b.system_id,
    'maxParticipants', b.max_participants, 'start', b.starts_on, 'end', b.ends_on,
    'startTime', to_char(b.start_time, 'HH24:MI:SS'), 'endTime', to_char(b.end_time, 'HH24:MI:SS'),
    'breakdownAttributes', (
      select coalesce(jsonb_agg(a.id order by k.no), '[]')
      from unnest(b.breakdown_attributes) with ordinality as k (key, no)
      join laurel.attributes a on a.tenant_id = b.tenant_id and a.type = 'user' and a.key = k.key),
    'runUnit', b.run_unit, 'runInterval', b.run_interval,
    'updated', laurel_private.instant_as_text(b.updated_at)))
$$;

create function laurel_private.attribute_keys(ids uuid[])
  returns text[] language plpgsql stable as $$
declare
  keys text[];
  unknown uuid;
begin
  select array_agg(a.key::text order by i.no), (array_agg(i.id) filter (where a.id is null))[1] into keys, unknown
  from unnest(ids) with ordinality as i (id, no)
  left join laurel.attributes a on a.id = i.id and a.type = 'user';
  if unknown is not null then
    perform laurel_private.fail('LR020', 'breakdown_attributes', format('No user attribute has the ID %s.', unknown));
  end if;
  return coalesce(keys, '{}');
end
$$;

-- The contract has statuses as they are shown: scheduled and active are one here, told apart by the
-- start date.
create function laurel_private.stored_status(status text, starts_on date, ends_on date)
  returns laurel.leaderboard_status language plpgsql stable as $$
declare
  is_ahead boolean := coalesce(starts_on, (now() at time zone 'UTC')::date)::timestamp - interval '14 hours' > now() at time zone 'UTC';
begin
  if status = 'scheduled' and not is_ahead then
    perform laurel_private.fail('LR020', 'status', 'Only a leaderboard whose start date lies in the future can be scheduled.');
  elsif status = 'active' and is_ahead then
    perform laurel_private.fail('LR020', 'status', 'A leaderboard whose start date lies in the future can be scheduled, not active.');
  end if;
  return case when status = 'scheduled' then 'active' else status end::laurel.leaderboard_status;
end
$$;

create function laurel_private.create_leaderboard(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.leaderboards;
begin
  if item ->> 'status' = 'finished' and coalesce((item ->> 'end')::date >= (now() at time zone 'UTC')::date, true) then
    perform laurel_private.fail('LR020', 'status', 'Only a leaderboard whose end date has passed can be created as finished.');
  end if;
  insert into laurel.leaderboards (key, name, description, status, rank_by, metric_id, system_id, max_participants, starts_on,
    ends_on, start_time, end_time, breakdown_attributes, run_unit, run_interval)
  values (item ->> 'key', item ->> 'name', item ->> 'description',
    coalesce(laurel_private.stored_status(item ->> 'status', (item ->> 'start')::date, (item ->> 'end')::date), 'inactive'),
    (item ->> 'rankBy')::laurel.leaderboard_rank_by, (item ->> 'metricId')::uuid, (item ->> 'pointsSystemId')::uuid,
    coalesce((item ->> 'maxParticipants')::int, 1000),
    coalesce((item ->> 'start')::date, (now() at time zone 'UTC')::date), (item ->> 'end')::date,
    (item ->> 'startTime')::time, (item ->> 'endTime')::time,
    laurel_private.attribute_keys(laurel_private.ids_from_json(item -> 'breakdownAttributes')),
    (item ->> 'runUnit')::laurel.leaderboard_run_unit, (item ->> 'runInterval')::int)
  returning * into created;
  return laurel_private.admin_leaderboard(created);
end
$$;

-- A change of what is ranked by drops what belonged to the other; so does one to no repetition.
create function laurel_private.update_leaderboard(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.leaderboards;
begin
  -- Locked, since it is written whole.
  select b.* into updated from laurel.leaderboards b where b.id = (item ->> 'id')::uuid and b.status <> 'archived' for no key update;
  if not found then
    perform laurel_private.fail('LR006', null, 'leaderboard', item ->> 'id');
  end if;
  updated.name := coalesce(item ->> 'name', updated.name);
  updated.key := coalesce(item ->> 'key', updated.key);
  updated.max_participants := case when item ? 'maxParticipants' then coalesce((item ->> 'maxParticipants')::int, 1000)
    else updated.max_participants end;
  updated.starts_on := coalesce((item ->> 'start')::date, updated.starts_on);
  if item ? 'description' then updated.description := item ->> 'description'; end if;
  if item ? 'end' then updated.ends_on := (item ->> 'end')::date; end if;
  if item ? 'startTime' then updated.start_time := (item ->> 'startTime')::time; end if;
  if item ? 'endTime' then updated.end_time := (item ->> 'endTime')::time; end if;
  if item ? 'breakdownAttributes' then
    updated.breakdown_attributes := laurel_private.attribute_keys(laurel_private.ids_from_json(item -> 'breakdownAttributes'));
  end if;
  if (item ->> 'rankBy')::laurel.leaderboard_rank_by <> updated.rank_by then
    updated.rank_by := (item ->> 'rankBy')::laurel.leaderboard_rank_by;
    updated.metric_id := null;
    updated.system_id := null;
  end if;
  updated.metric_id := coalesce((item ->> 'metricId')::uuid, updated.metric_id);
  updated.system_id := coalesce((item ->> 'pointsSystemId')::uuid, updated.system_id);
  if item ? 'runUnit' then
    updated.run_unit := (item ->> 'runUnit')::laurel.leaderboard_run_unit;
    updated.run_interval := case when updated.run_unit is not null then updated.run_interval end;
  end if;
  updated.run_interval := coalesce((item ->> 'runInterval')::int, updated.run_interval);
  -- What is shown as given stays as it is: a scheduled leaderboard stays scheduled.
  if item ->> 'status' <> laurel_private.shown_status(updated, now()) then
    updated.status := laurel_private.stored_status(item ->> 'status', updated.starts_on, updated.ends_on);
  end if;
  update laurel.leaderboards b
  set name = updated.name, key = updated.key, description = updated.description, max_participants = updated.max_participants,
    starts_on = updated.starts_on, ends_on = updated.ends_on, start_time = updated.start_time, end_time = updated.end_time,
    breakdown_attributes = updated.breakdown_attributes, rank_by = updated.rank_by, metric_id = updated.metric_id,
    system_id = updated.system_id, run_unit = updated.run_unit, run_interval = updated.run_interval, status = updated.status,
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, updated.updated_at)
  where b.id = updated.id
  returning b.* into updated;
  return laurel_private.admin_leaderboard(updated);
end
$$;

-- Archives it: gone for callers, and counting nothing any more.
create function laurel_private.delete_leaderboard(id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.leaderboards b set status = 'archived' where b.id = delete_leaderboard.id and b.status <> 'archived';
  if not found then
    perform laurel_private.fail('LR006', null, 'leaderboard', id::text);
  end if;
end
$$;

-- Shown statuses are judged by helpers that depend on nothing but the row.
grant usage on type laurel_private.leaderboard_rule to laurel_admin;
grant execute on function laurel_private.rule_of(laurel.leaderboards), laurel_private.nth_run(laurel_private.leaderboard_rule, int),
  laurel_private.run_number(laurel_private.leaderboard_rule, date), laurel_private.run_at(laurel_private.leaderboard_rule, date), laurel_private.run_of(laurel_private.leaderboard_rule, date),
  laurel_private.run_end(laurel_private.leaderboard_rule, date), laurel_private.final_after(laurel_private.leaderboard_rule, date),
  laurel_private.final_at(laurel_private.leaderboard_rule, date),
  laurel_private.shown_status(laurel.leaderboards, timestamptz), laurel_private.attribute_keys(uuid[]),
  laurel_private.stored_status(text, date, date), laurel_private.admin_leaderboard(laurel.leaderboards),
  laurel_private.create_leaderboard(jsonb), laurel_private.update_leaderboard(jsonb), laurel_private.delete_leaderboard(uuid)
  to laurel_admin;
--! EndIncluded leaderboards/admin_leaderboards.sql
--! Included points/admin_points_levels.sql
-- Levels as the admin API has them. Every function here runs in its caller's role, under row-level
-- security, and takes an item whose types were checked already.

-- Badges are {url} or null there, for levels and systems alike.
create function laurel_private.badge_as_json(badge_url text)
  returns jsonb language sql immutable as $$
  select case when badge_url is not null then jsonb_build_object('url', badge_url) end
$$;

create function laurel_private.admin_points_level(l laurel.points_levels)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', l.id, 'name', l.name, 'key', l.key, 'points', l.points,
    'description', l.description, 'badge', laurel_private.badge_as_json(l.badge_url),
    'updated', laurel_private.instant_as_text(l.updated_at))
$$;

create function laurel_private.create_points_level(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.points_levels;
begin
  insert into laurel.points_levels (system_id, key, name, description, badge_url, points)
  values (create_points_level.system_id, item ->> 'key', item ->> 'name', coalesce(item ->> 'description', ''),
    item -> 'badge' ->> 'url', (item ->> 'points')::int)
  returning * into created;
  return laurel_private.admin_points_level(created);
end
$$;

create function laurel_private.update_points_level(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.points_levels;
begin
  update laurel.points_levels l
  set name = coalesce(item ->> 'name', l.name),
    points = coalesce((item ->> 'points')::int, l.points),
    description = coalesce(item ->> 'description', l.description),
    badge_url = case when item ? 'badge' then item -> 'badge' ->> 'url' else l.badge_url end,
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, l.updated_at)
  where l.system_id = update_points_level.system_id and l.id = (item ->> 'id')::uuid
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'level', item ->> 'id');
  end if;
  return laurel_private.admin_points_level(updated);
end
$$;

create function laurel_private.delete_points_level(system_id uuid, id uuid)
  returns void language plpgsql volatile as $$
begin
  delete from laurel.points_levels l
  where l.system_id = delete_points_level.system_id and l.id = delete_points_level.id;
  if not found then
    perform laurel_private.fail('LR006', null, 'level', id::text);
  end if;
end
$$;

grant execute on function laurel_private.badge_as_json(text),
  laurel_private.admin_points_level(laurel.points_levels),
  laurel_private.create_points_level(uuid, jsonb), laurel_private.update_points_level(uuid, jsonb),
  laurel_private.delete_points_level(uuid, uuid)
  to laurel_admin;
--! EndIncluded points/admin_points_levels.sql
--! Included points/admin_points_boosts.sql
-- Boosts as the admin API has them. Every function here runs in its caller's role, under row-level
-- security, and takes an item whose types were checked already.

create function laurel_private.admin_points_boost(b laurel.points_boosts)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', b.id, 'name', b.name,
      -- An inactive one is still to come: the contract has no word for "made, not yet activated".
      'status', case when not b.is_active then 'scheduled'
        else laurel_private.boost_status(b.starts_on, b.ends_on, (now() at time zone coalesce(u.tz, 'UTC'))::date) end,
      'start', b.starts_on, 'end', b.ends_on, 'multiplier', trim_scale(b.multiplier), 'rounding', b.rounding,
      'userId', b.user_id,
      'updated', laurel_private.instant_as_text(b.updated_at))
    || case when b.user_id is null
      then jsonb_build_object('userAttributes', laurel_private.pairs_from_filter('user', b.user_attributes))
      else '{}' end
  from (select) one
  left join laurel.users u on u.tenant_id = b.tenant_id and u.id = b.user_id
$$;

create function laurel_private.create_points_boost(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.points_boosts;
begin
  insert into laurel.points_boosts (system_id, name, multiplier, rounding, starts_on, ends_on, user_id, user_attributes)
  values (create_points_boost.system_id, item ->> 'name', (item ->> 'multiplier')::numeric,
    coalesce((item ->> 'rounding')::laurel.rounding_mode, 'down'), (item ->> 'start')::date, (item ->> 'end')::date,
    item ->> 'userId', laurel_private.filter_from_pairs('user', item -> 'userAttributes'))
  returning * into created;
  return laurel_private.admin_points_boost(created);
end
$$;

create function laurel_private.update_points_boost(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.points_boosts;
begin
  update laurel.points_boosts b
  set name = coalesce(item ->> 'name', b.name),
    multiplier = coalesce((item ->> 'multiplier')::numeric, b.multiplier),
    rounding = coalesce((item ->> 'rounding')::laurel.rounding_mode, b.rounding),
    starts_on = coalesce((item ->> 'start')::date, b.starts_on),
    ends_on = case when item ? 'end' then (item ->> 'end')::date else b.ends_on end,
    user_attributes = case when item ? 'userAttributes'
      then laurel_private.filter_from_pairs('user', item -> 'userAttributes') else b.user_attributes end,
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, b.updated_at)
  where b.system_id = update_points_boost.system_id and b.id = (item ->> 'id')::uuid and b.archived_at is null
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'boost', item ->> 'id');
  end if;
  return laurel_private.admin_points_boost(updated);
end
$$;

create function laurel_private.delete_points_boost(system_id uuid, id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.points_boosts b set archived_at = now()
  where b.system_id = delete_points_boost.system_id and b.id = delete_points_boost.id and b.archived_at is null;
  if not found then
    perform laurel_private.fail('LR006', null, 'boost', id::text);
  end if;
end
$$;

grant execute on function laurel_private.boost_status(date, date, date),
  laurel_private.admin_points_boost(laurel.points_boosts),
  laurel_private.create_points_boost(uuid, jsonb), laurel_private.update_points_boost(uuid, jsonb),
  laurel_private.delete_points_boost(uuid, uuid)
  to laurel_admin;
--! EndIncluded points/admin_points_boosts.sql
--! Included points/admin_points_triggers.sql
-- Points triggers as the admin API has them. Every function here runs in its caller's role, under
-- row-level security, and takes an item whose types were checked already.

create function laurel_private.admin_points_trigger(t laurel.points_triggers)
  returns jsonb language sql stable as $$
  -- What belongs to another type of trigger is null in the row, and left out.
  select jsonb_strip_nulls(jsonb_build_object(
    'id', t.id, 'type', t.type, 'points', t.points, 'status', t.status,
    'userAttributes', laurel_private.pairs_from_filter('user', t.user_attributes),
    'metricId', t.metric_id, 'metricThreshold', t.metric_threshold,
    'eventAttributes', case when t.type = 'metric'
      then laurel_private.pairs_from_filter('event', t.event_attributes) end,
    'achievementId', t.achievement_id, 'streakLength', t.streak_length,
    'timeUnit', t.time_unit, 'timeInterval', t.time_interval,
    'blockIfOutOfPoints', t.block_if_out_of_points,
    'updated', laurel_private.instant_as_text(t.updated_at)))
$$;

create function laurel_private.create_points_trigger(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.points_triggers;
begin
  insert into laurel.points_triggers (system_id, type, points, status, metric_id, metric_threshold,
    achievement_id, streak_length, time_unit, time_interval, user_attributes, event_attributes,
    block_if_out_of_points)
  values (create_points_trigger.system_id, (item ->> 'type')::laurel.points_trigger_type, (item ->> 'points')::int,
    coalesce((item ->> 'status')::laurel.points_trigger_status, 'inactive'),
    (item ->> 'metricId')::uuid, (item ->> 'metricThreshold')::int, (item ->> 'achievementId')::uuid,
    (item ->> 'streakLength')::int, (item ->> 'timeUnit')::laurel.time_unit, (item ->> 'timeInterval')::int,
    laurel_private.filter_from_pairs('user', item -> 'userAttributes'),
    laurel_private.filter_from_pairs('event', item -> 'eventAttributes'),
    coalesce((item ->> 'blockIfOutOfPoints')::boolean, false))
  returning * into created;
  return laurel_private.admin_points_trigger(created);
end
$$;

-- A change of type starts the type's own properties anew: those of the old type are dropped, and
-- the constraints say which of the new type's are missing.
create function laurel_private.update_points_trigger(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.points_triggers;
begin
  update laurel.points_triggers t
  set type = coalesce(given.type, t.type),
    points = coalesce((item ->> 'points')::int, t.points),
    status = coalesce((item ->> 'status')::laurel.points_trigger_status, t.status),
    metric_id = coalesce((item ->> 'metricId')::uuid, case when given.type is null then t.metric_id end),
    metric_threshold = coalesce((item ->> 'metricThreshold')::int, case when given.type is null then t.metric_threshold end),
    achievement_id = coalesce((item ->> 'achievementId')::uuid, case when given.type is null then t.achievement_id end),
    streak_length = coalesce((item ->> 'streakLength')::int, case when given.type is null then t.streak_length end),
    time_unit = coalesce((item ->> 'timeUnit')::laurel.time_unit, case when given.type is null then t.time_unit end),
    time_interval = coalesce((item ->> 'timeInterval')::int, case when given.type is null then t.time_interval end),
    user_attributes = case when item ? 'userAttributes'
      then laurel_private.filter_from_pairs('user', item -> 'userAttributes') else t.user_attributes end,
    event_attributes = case when item ? 'eventAttributes'
      then laurel_private.filter_from_pairs('event', item -> 'eventAttributes')
      when given.type is null then t.event_attributes else '{}' end,
    block_if_out_of_points = coalesce((item ->> 'blockIfOutOfPoints')::boolean, t.block_if_out_of_points),
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, t.updated_at)
  from (
    -- Naming the type it has already changes nothing.
    select nullif((item ->> 'type')::laurel.points_trigger_type, before.type) as type
    from laurel.points_triggers before where before.id = (item ->> 'id')::uuid) given
  where t.system_id = update_points_trigger.system_id and t.id = (item ->> 'id')::uuid and t.status <> 'archived'
  returning t.* into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'trigger', item ->> 'id');
  end if;
  return laurel_private.admin_points_trigger(updated);
end
$$;

-- Archives it: the ledger rows it caused stay (RP5).
create function laurel_private.delete_points_trigger(system_id uuid, id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.points_triggers t set status = 'archived'
  where t.system_id = delete_points_trigger.system_id and t.id = delete_points_trigger.id
    and t.status <> 'archived';
  if not found then
    perform laurel_private.fail('LR006', null, 'trigger', id::text);
  end if;
end
$$;

grant execute on function laurel_private.admin_points_trigger(laurel.points_triggers),
  laurel_private.create_points_trigger(uuid, jsonb), laurel_private.update_points_trigger(uuid, jsonb),
  laurel_private.delete_points_trigger(uuid, uuid)
  to laurel_admin;
--! EndIncluded points/admin_points_triggers.sql
--! Included points/admin_points_systems.sql
-- Points systems as the admin API has them, with the parts that may be created alongside. Every
-- function here runs in its caller's role, under row-level security, and takes an item whose types
-- were checked already.

create function laurel_private.admin_points_system(s laurel.points_systems)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', s.id, 'name', s.name, 'key', s.key, 'description', coalesce(s.description, ''),
    'status', case when s.archived_at is null then 'active' else 'archived' end,
    'badge', laurel_private.badge_as_json(s.badge_url), 'maxPoints', s.max_points,
    'updated', laurel_private.instant_as_text(s.updated_at))
$$;

-- Refuses an ID that no system of the tenant has, archived ones included (RP5).
create function laurel_private.require_points_system(id uuid)
  returns void language plpgsql stable as $$
begin
  if not exists (
    select from laurel.points_systems s where s.id = require_points_system.id and s.archived_at is null) then
    perform laurel_private.fail('LR006', null, 'points system', coalesce(id::text, 'null'));
  end if;
end
$$;

-- The sentence for an error caught: our own message, a constraint's comment, or a general one.
-- Null for what is no fault of the caller's.
create function laurel_private.sentence_for_error(
  code text, message text, holder text, constraint_name text, column_name text
) returns text language sql stable as $$
  select case
    when code like 'LR%' then message
    when code = '23502' then format('%s is required.', column_name)
    when code like '23%' then coalesce(
      (select c.sentence from laurel_private.constraint_sentences c
        where c.holder = sentence_for_error.holder and c.name = sentence_for_error.constraint_name),
      'It contradicts what is stored already.')
    when code like '22%' then 'A value is out of range or not of the kind that is expected here.'
  end
$$;

-- What of an item an error caught is about, as the admin API calls it; null when no one thing.
create function laurel_private.field_for_error(
  code text, holder text, constraint_name text, column_name text
) returns text language sql stable as $$
  select case coalesce(f.field, '')
    when '' then null
    when 'updated_at' then 'unchangedSince'
    when 'starts_on' then 'start'
    when 'ends_on' then 'end'
    when 'badge_url' then 'badge.url'
    when 'is_active' then 'active'
    when 'system_id' then 'pointsSystemId'
    when 'kind' then 'trigger'
    when 'years' then 'anniversaryYears'
    when 'prerequisite_ids' then 'achievementIds'
    else case when f.field ~ '_'
      then left(f.field, 1) || substr(replace(initcap(f.field), '_', ''), 2)
      else f.field end
  end
  from (
    select case when code like 'LR%' or code = '23502' then column_name
      when code like '23%' then (
        select c.field from laurel_private.constraint_sentences c
        where c.holder = field_for_error.holder and c.name = field_for_error.constraint_name) end as field) f
$$;

-- Creates a system's levels, boosts or triggers with it. One that cannot be made refuses the whole
-- system, naming the part: a system that came without some of its rules would award wrongly, and
-- sending it again would find its key taken.
create function laurel_private.create_points_parts(system_id uuid, kind text, parts jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created jsonb := '[]';
  part record;
  code text;
  message text;
  table_name text;
  type_name text;
  constraint_name text;
  column_name text;
begin
  for part in select p.value as item, p.ordinality - 1 as item_index
    from jsonb_array_elements(parts) with ordinality p
  loop
    begin
      created := created || case kind
        when 'levels' then laurel_private.create_points_level(system_id, part.item)
        when 'boosts' then laurel_private.create_points_boost(system_id, part.item)
        when 'triggers' then laurel_private.create_points_trigger(system_id, part.item)
      end;
    exception when others then
      get stacked diagnostics code = returned_sqlstate, message = message_text, table_name = table_name,
        type_name = pg_datatype_name, constraint_name = constraint_name, column_name = column_name;
      message := laurel_private.sentence_for_error(code, message,
        coalesce(nullif(table_name, ''), type_name), constraint_name, column_name);
      if message is null then
        raise;
      end if;
      perform laurel_private.fail('LR020', concat_ws('.', format('%s[%s]', kind, part.item_index),
        laurel_private.field_for_error(code, coalesce(nullif(table_name, ''), type_name), constraint_name, column_name)), format('%s[%s]: %s', kind, part.item_index, message));
    end;
  end loop;
  return created;
end
$$;

create function laurel_private.create_points_system(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  created laurel.points_systems;
  response jsonb;
  kind text;
begin
  insert into laurel.points_systems (key, name, description, badge_url, max_points)
  values (item ->> 'key', item ->> 'name', item ->> 'description', item -> 'badge' ->> 'url', (item ->> 'maxPoints')::int)
  returning * into created;
  response := laurel_private.admin_points_system(created);
  foreach kind in array array['levels', 'boosts', 'triggers'] loop
    if jsonb_typeof(item -> kind) = 'array' then
      response := response || jsonb_build_object(kind,
        laurel_private.create_points_parts(created.id, kind, item -> kind));
    end if;
  end loop;
  return response;
end
$$;

create function laurel_private.update_points_system(item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  updated laurel.points_systems;
begin
  update laurel.points_systems s
  set name = coalesce(item ->> 'name', s.name),
    description = coalesce(item ->> 'description', s.description),
    badge_url = case when item ? 'badge' then item -> 'badge' ->> 'url' else s.badge_url end,
    max_points = case when item ? 'maxPoints' then (item ->> 'maxPoints')::int else s.max_points end,
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, s.updated_at)
  where s.id = (item ->> 'id')::uuid and s.archived_at is null
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'points system', item ->> 'id');
  end if;
  return laurel_private.admin_points_system(updated);
end
$$;

-- Archives it: its ledger stays (RP5).
create function laurel_private.delete_points_system(id uuid)
  returns void language plpgsql volatile as $$
begin
  update laurel.points_systems s set archived_at = now()
  where s.id = delete_points_system.id and s.archived_at is null;
  if not found then
    perform laurel_private.fail('LR006', null, 'points system', id::text);
  end if;
end
$$;

grant execute on function laurel_private.admin_points_system(laurel.points_systems),
  laurel_private.require_points_system(uuid),
  laurel_private.sentence_for_error(text, text, text, text, text),
  laurel_private.field_for_error(text, text, text, text),
  laurel_private.create_points_parts(uuid, text, jsonb),
  laurel_private.create_points_system(jsonb), laurel_private.update_points_system(jsonb),
  laurel_private.delete_points_system(uuid)
  to laurel_admin;
--! EndIncluded points/admin_points_systems.sql
--! Included points/admin_adjustments.sql
-- Adjustments as the admin API has them: a user's points changed by hand (Q3), one result each.
create function laurel_private.create_adjustment(system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  system_key text;
begin
  select s.key into system_key from laurel.points_systems s where s.id = create_adjustment.system_id;
  return jsonb_build_object('userId', item ->> 'userId', 'points',
    laurel.adjust_points(system_key, item ->> 'userId', (item ->> 'points')::int, item ->> 'reason', item ->> 'idempotencyKey'));
end
$$;

grant execute on function laurel_private.create_adjustment(uuid, jsonb) to laurel_admin;
--! EndIncluded points/admin_adjustments.sql
--! Included tenants/admin_tenants.sql
-- Tenants as the admin API has them. An admin key reaches the whole account (K1), while row-level
-- security shows its session one tenant: so these are definers.

create function laurel_private.admin_tenant(t laurel.tenants)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', t.id, 'customerId', t.customer_id, 'name', t.name,
    'status', case when t.archived_at is null then 'active' else 'archived' end,
    'created', laurel_private.instant_as_text(t.created_at), 'updated', laurel_private.instant_as_text(t.updated_at))
$$;

create function laurel_private.create_tenant(item jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  created laurel.tenants;
begin
  insert into laurel.tenants (customer_id, name) values (item ->> 'customerId', item ->> 'name')
  returning * into created;
  return laurel_private.admin_tenant(created);
end
$$;

create function laurel_private.update_tenant(item jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  updated laurel.tenants;
begin
  update laurel.tenants t
  set customer_id = coalesce(item ->> 'customerId', t.customer_id), name = coalesce(item ->> 'name', t.name),
    updated_at = coalesce((item ->> 'unchangedSince')::timestamptz, t.updated_at)
  where t.id = (item ->> 'id')::uuid and t.archived_at is null
  returning * into updated;
  if not found then
    perform laurel_private.fail('LR006', null, 'tenant', item ->> 'id');
  end if;
  return laurel_private.admin_tenant(updated);
end
$$;

-- Archives it: gone for callers at once, its rows stay.
create function laurel_private.delete_tenant(id uuid)
  returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update laurel.tenants t set archived_at = now() where t.id = delete_tenant.id and t.archived_at is null;
  if not found then
    perform laurel_private.fail('LR006', null, 'tenant', id::text);
  end if;
end
$$;

-- Callers who name no tenant get the one with this customer ID (T1).
create function laurel_private.tg_tenants__keep_default()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if old.customer_id = 'default' and (new.customer_id <> 'default' or new.archived_at is not null) then
    perform laurel_private.fail('LR020', case when new.archived_at is null then 'customer_id' end, 'The default tenant cannot be deleted or given another customer ID.');
  end if;
  return new;
end
$$;

create trigger tenants__keep_default before update of customer_id, archived_at on laurel.tenants
  for each row execute function laurel_private.tg_tenants__keep_default();

create function laurel_private.list_tenants(id uuid, most int, skipped int)
  returns setof jsonb language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select laurel_private.admin_tenant(t) from laurel.tenants t
  where t.archived_at is null and (list_tenants.id is null or t.id = list_tenants.id)
  order by t.id limit most offset skipped
$$;

grant execute on function laurel_private.create_tenant(jsonb), laurel_private.update_tenant(jsonb),
  laurel_private.delete_tenant(uuid), laurel_private.list_tenants(uuid, int, int)
  to laurel_admin;
--! EndIncluded tenants/admin_tenants.sql
--! Included access/admin_api_keys.sql
-- API keys as the admin API has them: application keys of the session's tenant, admin keys of the
-- account. The server makes the secret and hands in its prefix and hash; nothing here can show it
-- again. Definers, since no role may touch keys.

create function laurel_private.admin_api_key(k laurel_private.api_keys)
  returns jsonb language sql stable as $$
  select jsonb_build_object('id', k.id, 'prefix', k.prefix, 'name', k.name,
      'created', laurel_private.instant_as_text(k.created_at),
      'lastUsed', case when k.last_used_at is not null then laurel_private.instant_as_text(k.last_used_at) end)
    || case when k.kind = 'application' then jsonb_build_object('userId', k.user_id) else '{}' end
$$;

create function laurel_private.create_api_key(kind laurel_private.api_key_kind, item jsonb)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  created laurel_private.api_keys;
begin
  insert into laurel_private.api_keys (kind, prefix, key_sha256, name, tenant_id, user_id)
  values (create_api_key.kind, item ->> 'prefix', decode(item ->> 'sha256', 'hex'), coalesce(item ->> 'name', ''),
    case when create_api_key.kind = 'application' then laurel.current_tenant_id() end,
    case when create_api_key.kind = 'application' then item ->> 'userId' end)
  returning * into created;
  return laurel_private.admin_api_key(created);
end
$$;

-- Revokes it. One admin key always remains: without any, nobody could make another.
create function laurel_private.delete_api_key(kind laurel_private.api_key_kind, id uuid)
  returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  if delete_api_key.kind = 'admin' then
    -- Two revocations of two last keys: the second waits, then sees the first.
    perform pg_advisory_xact_lock(hashtext('laurel_private.create_first_admin_key'));
    if not exists (
      select from laurel_private.api_keys k
      where k.kind = 'admin' and k.revoked_at is null and k.id <> delete_api_key.id) then
      perform laurel_private.fail('LR020', null, 'The last admin key cannot be deleted; create another first.');
    end if;
  end if;
  update laurel_private.api_keys k set revoked_at = clock_timestamp()
  where k.id = delete_api_key.id and k.kind = delete_api_key.kind and k.revoked_at is null
    and (k.kind = 'admin' or k.tenant_id = laurel.current_tenant_id());
  if not found then
    perform laurel_private.fail('LR006', null, 'API key', id::text);
  end if;
end
$$;

create function laurel_private.list_api_keys(kind laurel_private.api_key_kind, id uuid, most int, skipped int)
  returns setof jsonb language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select laurel_private.admin_api_key(k) from laurel_private.api_keys k
  where k.kind = list_api_keys.kind and k.revoked_at is null
    and (k.kind = 'admin' or k.tenant_id = laurel.current_tenant_id())
    and (list_api_keys.id is null or k.id = list_api_keys.id)
  order by k.id limit most offset skipped
$$;

-- Called by the server, as owner, at most once a minute per key and process.
create function laurel_private.touch_api_key(id uuid)
  returns void language sql volatile as $$
  update laurel_private.api_keys k set last_used_at = clock_timestamp() where k.id = touch_api_key.id
$$;

comment on function laurel_private.touch_api_key(uuid) is 'Notes that a key was just used. Rule K1.';

grant execute on function laurel_private.create_api_key(laurel_private.api_key_kind, jsonb),
  laurel_private.delete_api_key(laurel_private.api_key_kind, uuid),
  laurel_private.list_api_keys(laurel_private.api_key_kind, uuid, int, int)
  to laurel_admin;
grant usage on type laurel_private.api_key_kind to laurel_admin;
--! EndIncluded access/admin_api_keys.sql
--! Included access/audit_log.sql
-- The audit log (K5): every change of configuration, whichever way in, with who made it and what it
-- was before and after. Written by triggers alone; append-only; read by admins.

create table laurel.audit_entries (
  id uuid not null default laurel_private.uuid_v7(),
  tenant_id uuid,
  happened_at timestamptz not null default clock_timestamp(),
  actor text not null,
  operation text not null,
  kind text not null,
  object_id uuid not null,
  object_key text,
  before jsonb,
  after jsonb,
  constraint audit_entries_have_ids primary key (id),
  constraint audit_entry_operation_is_known check (operation in ('create', 'update', 'archive', 'delete')),
  constraint audit_entry_shows_a_change check (before is not null or after is not null)
);

create index audit_entries_by_tenant on laurel.audit_entries (tenant_id, id);

comment on table laurel.audit_entries is 'Who changed what of the configuration, and when. Rule K5.';
comment on column laurel.audit_entries.tenant_id is 'Null for what belongs to the account: tenants and admin keys.';
comment on column laurel.audit_entries.actor is 'The API key''s prefix, as key:prefix, or the database role, as role:name.';
comment on column laurel.audit_entries.operation is 'create, update, archive or delete.';
comment on column laurel.audit_entries.kind is 'What was changed: the name of its table.';
comment on column laurel.audit_entries.object_id is 'Its ID.';
comment on column laurel.audit_entries.object_key is 'Its key when it has one; otherwise null.';
comment on column laurel.audit_entries.before is 'The row before; null when it was created.';
comment on column laurel.audit_entries.after is 'The row after; null when it was deleted.';

alter table laurel.audit_entries enable row level security;
grant select on laurel.audit_entries to laurel_admin;
create policy admins_read on laurel.audit_entries for select to laurel_admin
  using (tenant_id = (select laurel.current_tenant_id()) or tenant_id is null);

-- Who acts: the server names the key it has authenticated; everybody else is a database role.
create function laurel_private.current_actor()
  returns text language sql stable as $$
  select coalesce('key:' || nullif(current_setting('laurel.actor', true), ''), 'role:' || laurel_private.caller())
$$;

create function laurel_private.tg_configuration__log()
  returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  -- A key's hash is nobody's business, and when it was used is no change.
  before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - 'key_sha256' - 'last_used_at' end;
  after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - 'key_sha256' - 'last_used_at' end;
  object jsonb := coalesce(after, before);
begin
  if before - 'updated_at' is distinct from after - 'updated_at' then
    insert into laurel.audit_entries (tenant_id, actor, operation, kind, object_id, object_key, before, after)
    values ((object ->> 'tenant_id')::uuid, laurel_private.current_actor(),
      case when tg_op = 'INSERT' then 'create' when tg_op = 'DELETE' then 'delete'
        when coalesce(after ->> 'archived_at', after ->> 'revoked_at') is not null or after ->> 'status' = 'archived'
        then 'archive' else 'update' end,
      tg_table_name, (object ->> 'id')::uuid,
      coalesce(object ->> 'key', object ->> 'customer_id', object ->> 'prefix', object ->> 'name', object ->> 'url'), before, after);
  end if;
  return null;
end
$$;

create function laurel_private.tg_audit_entries__keep()
  returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- Set by the one function that erases a user (K4), for its own transaction.
  if tg_op = 'UPDATE' and coalesce(current_setting('laurel_private.erasing_user', true), '') <> '' then
    return new;
  end if;
  perform laurel_private.fail('LR051', null, lower(tg_op) || ' is refused');
end
$$;

create trigger audit_entries__keep before update or delete on laurel.audit_entries
  for each row execute function laurel_private.tg_audit_entries__keep();
create trigger audit_entries__keep_all before truncate on laurel.audit_entries
  for each statement execute function laurel_private.tg_audit_entries__keep();

do $$
declare
  table_name text;
begin
  foreach table_name in array array['laurel.tenants', 'laurel.attributes', 'laurel.metrics', 'laurel.achievements', 'laurel.leaderboards',
    'laurel.points_systems', 'laurel.points_triggers', 'laurel.points_boosts', 'laurel.points_levels', 'laurel.webhook_endpoints',
    'laurel_private.api_keys', 'laurel_private.settings']
  loop
    execute format('create trigger %s__log after insert or update or delete on %s
      for each row execute function laurel_private.tg_configuration__log()', split_part(table_name, '.', 2), table_name);
  end loop;
end
$$;

-- The worker's own mark in the settings is no change of configuration.
create trigger streak_settings__log after update on laurel_private.streak_settings
  for each row when (old.version <> new.version) execute function laurel_private.tg_configuration__log();

-- As the admin API lists it: the latest first.
create function laurel_private.list_audit_log(id uuid, most int, skipped int)
  returns table (id uuid, date text, actor text, operation text, kind text, "objectId" uuid, "objectKey" text, before jsonb, after jsonb)
  language sql stable as $$
  select l.id, laurel_private.instant_as_text(l.happened_at), l.actor, l.operation, l.kind, l.object_id, l.object_key, l.before, l.after
  from laurel.audit_entries l
  where list_audit_log.id is null or l.id = list_audit_log.id
  order by l.id desc limit most offset skipped
$$;

grant execute on function laurel_private.list_audit_log(uuid, int, int), laurel_private.instant_as_text(timestamptz) to laurel_admin;
--! EndIncluded access/audit_log.sql
--! Included users/erase_user.sql
-- Exporting and erasing a user (K4).

-- Everything that is stored about a user, as one document.
create function laurel.export_user(user_id text)
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  for_user laurel.users := laurel_private.own_user(export_user.user_id);
begin
  return jsonb_build_object(
    'user', laurel_private.user_as_json(for_user),
    'preferences', laurel_private.preferences_as_json(for_user.preferences),
    'metrics', (
      select coalesce(jsonb_agg(jsonb_build_object('metricId', m.id, 'key', x.key, 'total', trim_scale(m.total), 'peak', trim_scale(m.peak))), '[]')
      from laurel_private.user_states s
      cross join lateral unnest(s.metric_ids, s.metric_totals, s.metric_peaks) m (id, total, peak)
      left join laurel.metrics x on x.id = m.id
      where s.tenant_id = for_user.tenant_id and s.user_id = for_user.id),
    'points', (
      select coalesce(jsonb_agg(jsonb_build_object('systemId', p.id, 'key', x.key, 'total', p.total)), '[]')
      from laurel_private.user_states s
      cross join lateral unnest(s.system_ids, s.totals) p (id, total)
      left join laurel.points_systems x on x.id = p.id
      where s.tenant_id = for_user.tenant_id and s.user_id = for_user.id),
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'metricKey', e.metric_key, 'value', trim_scale(e.value),
        'attributes', e.attributes, 'idempotencyKey', e.idempotency_key,
        'occurredAt', laurel_private.instant_as_text(e.occurred_at)) order by e.id), '[]')
      from laurel.metric_events e where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id),
    'queuedEvents', (
      select coalesce(jsonb_agg(jsonb_build_object('id', q.id, 'metricKey', q.metric_key, 'value', trim_scale(q.value),
        'attributes', q.attributes, 'idempotencyKey', q.idempotency_key, 'profile', q.profile,
        'occurredAt', laurel_private.instant_as_text(q.occurred_at), 'error', q.refused_message) order by q.id), '[]')
      from laurel_private.queued_events q where q.tenant_id = for_user.tenant_id and q.user_id = for_user.id),
    'awards', (
      select coalesce(jsonb_agg(laurel_private.award_explanation(a) order by a.id), '[]')
      from laurel.points_awards a where a.tenant_id = for_user.tenant_id and a.user_id = for_user.id),
    'achievements', (
      select coalesce(jsonb_agg(jsonb_build_object('completionId', c.id, 'achievementId', a.id, 'key', a.key, 'name', a.name,
        'achievedAt', laurel_private.instant_as_text(c.achieved_at)) order by c.id), '[]')
      from laurel.user_achievements c
      left join laurel.achievements a on a.id = c.achievement_id
      where c.tenant_id = for_user.tenant_id and c.user_id = for_user.id),
    'leaderboards', (
      select coalesce(jsonb_agg(jsonb_build_object('leaderboardId', e.leaderboard_id, 'key', b.key, 'run', e.run_on,
        'value', trim_scale(e.value), 'breakdown', e.breakdown, 'days', (
          select coalesce(jsonb_agg(jsonb_build_object('date', d.day, 'rank', d.rank, 'value', trim_scale(d.value)) order by d.day), '[]')
          from laurel_private.leaderboard_days d
          where d.tenant_id = e.tenant_id and d.user_id = e.user_id and d.leaderboard_id = e.leaderboard_id
            and d.generation = e.generation and d.run_on = e.run_on)) order by e.leaderboard_id, e.run_on), '[]')
      from laurel.leaderboard_entries e
      join laurel.leaderboards b on b.id = e.leaderboard_id and b.generation = e.generation
      where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id),
    'timeTriggers', (
      select coalesce(jsonb_agg(jsonb_build_object('triggerId', c.trigger_id, 'started', laurel_private.instant_as_text(c.started_at),
        'lastTick', c.last_tick, 'nextDue', laurel_private.instant_as_text(c.next_due_at)) order by c.trigger_id, c.activated_at), '[]')
      from laurel_private.user_clocks c where c.tenant_id = for_user.tenant_id and c.user_id = for_user.id),
    'streak', laurel_private.user_streak_at(for_user, 0, clock_timestamp()) || jsonb_build_object(
      'periods', (
        select coalesce(jsonb_agg(jsonb_build_object('frequency', p.frequency, 'periodStart', p.period_start, 'kind', p.kind,
          'eventId', p.event_id, 'occurredAt', laurel_private.instant_as_text(p.occurred_at),
          'resetAt', laurel_private.instant_as_text(p.reset_at)) order by p.frequency, p.period_start), '[]')
        from laurel_private.streak_periods p where p.tenant_id = for_user.tenant_id and p.user_id = for_user.id),
      'freezeChanges', (
        select coalesce(jsonb_agg(jsonb_build_object('cause', f.cause, 'change', f.change, 'freezes', f.freezes, 'on', f.on_date) order by f.id), '[]')
        from laurel_private.streak_freezes f where f.tenant_id = for_user.tenant_id and f.user_id = for_user.id),
      'pauses', (
        select coalesce(jsonb_agg(laurel_private.pause_as_json(p) order by p.id), '[]')
        from laurel_private.streak_pauses p where p.tenant_id = for_user.tenant_id and p.user_id = for_user.id)),
    'boosts', (
      select coalesce(jsonb_agg(laurel_private.boost_as_json(b) order by b.id), '[]')
      from laurel.points_boosts b where b.tenant_id = for_user.tenant_id and b.user_id = for_user.id),
    'apiKeys', (
      select coalesce(jsonb_agg(laurel_private.admin_api_key(k) order by k.id), '[]')
      from laurel_private.api_keys k where k.tenant_id = for_user.tenant_id and k.user_id = for_user.id),
    'webhookMessages', (
      select coalesce(jsonb_agg(jsonb_build_object('id', m.id, 'type', m.event_type,
        'created', laurel_private.instant_as_text(m.created_at), 'payload', m.payload, 'attempts', (
          select coalesce(jsonb_agg(jsonb_build_object('endpointId', t.endpoint_id, 'date', laurel_private.instant_as_text(t.attempted_at),
            'status', t.status, 'error', t.error, 'response', t.response) order by t.id), '[]')
          from laurel.webhook_attempts t where t.tenant_id = m.tenant_id and t.message_id = m.id)) order by m.id), '[]')
      from laurel.webhook_messages m where m.tenant_id = for_user.tenant_id and m.user_id = for_user.id));
end
$$;

comment on function laurel.export_user(text) is
  'Everything stored about a user: profile, preferences, metrics, points, events, events of batches that wait or were refused, explained awards, achievements, streak, places on leaderboards, clocks of time triggers, boosts, API keys without their secrets, webhook messages and what became of them. LR002. Rule K4.';

-- Under the user's lock: an event that waits for it meanwhile finds no user, and starts a new one.
create function laurel.erase_user(user_id text)
  returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  tenant uuid := laurel.current_tenant_id();
  locked laurel_private.locked_user;
  is_queued boolean;
begin
  perform laurel_private.require_own_user(erase_user.user_id);
  -- The configuration's lock first, as whoever makes a boost for the user takes it first.
  perform from laurel.tenants t where t.id = tenant for no key update;
  -- Queued events before the user, as the worker that records them locks them: the other way round each waits for the
  -- other. What it has in hand is the user's when it is done, and goes with the rest.
  delete from laurel_private.queued_events q where q.tenant_id = tenant and q.user_id = erase_user.user_id;
  is_queued := found;
  if not exists (select from laurel.users u where u.tenant_id = tenant and u.id = erase_user.user_id) then
    if is_queued then
      -- Known from its queued events alone, refused ones or such as were not recorded yet.
      return true;
    end if;
    perform laurel_private.fail('LR002', null, left(coalesce(erase_user.user_id, 'null'), 255));
  end if;
  locked := laurel_private.lock_user(erase_user.user_id);
  if locked.is_new then
    -- Erased by somebody else while this waited; lock_user() would add it anew.
    perform laurel_private.fail('LR002', null, left(erase_user.user_id, 255));
  end if;
  perform laurel_private.forget_earnings(locked.tenant_id, locked.id);
  perform set_config('laurel_private.erasing_user', locked.tenant_id || '/' || locked.id, true);
  delete from laurel.points_awards a where a.tenant_id = locked.tenant_id and a.user_id = locked.id;
  perform set_config('laurel_private.erasing_user', '', true);
  delete from laurel.metric_events e where e.tenant_id = locked.tenant_id and e.user_id = locked.id;
  delete from laurel_private.api_keys k where k.tenant_id = locked.tenant_id and k.user_id = locked.id;
  perform laurel_private.erase_from_messages(locked.tenant_id, locked.id);
  insert into laurel_private.last_erasures (tenant_id, erased_at) values (locked.tenant_id, clock_timestamp())
  on conflict (tenant_id) do update set erased_at = excluded.erased_at;
  -- State, counts, clocks, keys, boosts and webhook messages go with the user.
  delete from laurel.users u where u.tenant_id = locked.tenant_id and u.id = locked.id;
  -- Their traces in the audit log too: it keeps that something was there, not whose.
  perform set_config('laurel_private.erasing_user', locked.tenant_id || '/' || locked.id, true);
  update laurel.audit_entries l
  set before = l.before - 'user_id' - 'name', after = l.after - 'user_id' - 'name', object_key = null
  where l.tenant_id = locked.tenant_id and locked.id in (l.before ->> 'user_id', l.after ->> 'user_id');
  perform set_config('laurel_private.erasing_user', '', true);
  return true;
end
$$;

comment on function laurel.erase_user(text) is
  'Erases a user and everything stored about it, for good; what it earned stays in the systems'' figures without its name. LR002. Rule K4.';

grant execute on function laurel.export_user(text), laurel.erase_user(text) to laurel_admin;
--! EndIncluded users/erase_user.sql
--! Included insight/shapes.sql
-- Shapes of JSON arguments, for functions that take documents (preview_points, backtest_points): SQL
-- and GraphQL callers send them unchecked. A shape is a document itself:
--   {"is": "string" | "number" | "integer" | "boolean" | "date" | "uuid", "least": …, "most": …}
--   {"is": "one of", "values": […]}                 {"is": "array", "of": shape, "least": …, "most": …}
--   {"is": "object", "has": {name: shape}, "needs": [names], "closed": true}
--   {"is": "map", "of": shape}                      {"is": "either", "of": [shapes], "noun": "…"}
-- and "nullable": true. A closed object takes no other properties: a misspelt one would be ignored.

create function laurel_private.shape_fault(value jsonb, shape jsonb, place text)
  returns text language plpgsql stable as $$
#variable_conflict use_variable
declare
  is_text boolean := jsonb_typeof(value) = 'string';
  least numeric := (shape ->> 'least')::numeric;
  most numeric := (shape ->> 'most')::numeric;
  size numeric;
  fault text;
  part record;
begin
  if value is null then
    return place || ' is required';
  elsif jsonb_typeof(value) = 'null' then
    return case when shape -> 'nullable' is distinct from 'true' then place || ' must not be null' end;
  end if;
  case shape ->> 'is'
    when 'string' then
      if not is_text then return place || ' must be a string'; end if;
      size := length(value #>> '{}');
      return case when size < least then place || ' must not be empty'
        when size > most then format('%s has more than %s characters', place, most) end;
    when 'number', 'integer' then
      if jsonb_typeof(value) <> 'number' then
        return format('%s must be a %s', place, case shape ->> 'is' when 'integer' then 'whole number' else 'number' end);
      end if;
      size := (value #>> '{}')::numeric;
      return case
        when shape ->> 'is' = 'integer' and size <> trunc(size) then place || ' must be a whole number'
        when size < least then format('%s must be at least %s', place, least)
        when size > most then format('%s must be at most %s', place, most)
        when scale(trim_scale(size)) > 9 then place || ' has more than 9 digits after the point' end;
    when 'boolean' then
      return case when jsonb_typeof(value) <> 'boolean' then place || ' must be true or false' end;
    when 'date' then
      return case when not is_text or length(value #>> '{}') <> 10 or laurel_private.day_of(value #>> '{}') is null
        then place || ' must be a date such as 2026-01-31' end;
    when 'uuid' then
      return case when not is_text or value #>> '{}' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then place || ' must be a UUID' end;
    when 'one of' then
      return case when not shape -> 'values' @> value or not is_text then format('%s must be %s', place,
        (select string_agg(v, ' or ') from jsonb_array_elements_text(shape -> 'values') v)) end;
    when 'array' then
      if jsonb_typeof(value) <> 'array' then
        return place || ' must be an array';
      elsif jsonb_array_length(value) < least then
        return format('%s has less than %s %s', place, least, case least when 1 then 'item' else 'items' end);
      elsif jsonb_array_length(value) > most then
        return format('%s has more than %s items', place, most);
      end if;
      for part in select e.value, e.ordinality - 1 as no from jsonb_array_elements(value) with ordinality e loop
        fault := laurel_private.shape_fault(part.value, shape -> 'of', format('%s[%s]', place, part.no));
        exit when fault is not null;
      end loop;
      return fault;
    when 'map' then
      if jsonb_typeof(value) <> 'object' then return place || ' must be an object'; end if;
      for part in select e.key, e.value from jsonb_each(value) e loop
        fault := laurel_private.shape_fault(part.value, shape -> 'of', format('%s.%s', place, left(part.key, 100)));
        exit when fault is not null;
      end loop;
      return fault;
    when 'object' then
      if jsonb_typeof(value) <> 'object' then return place || ' must be an object'; end if;
      for part in
        select n.name, n.of_it as part_shape, value -> n.name as value from jsonb_each(shape -> 'has') n (name, of_it)
        where value ? n.name or shape -> 'needs' ? n.name
      loop
        fault := laurel_private.shape_fault(part.value, part.part_shape, format('%s.%s', place, part.name));
        exit when fault is not null;
      end loop;
      if fault is null and shape -> 'closed' = 'true' then
        select format('%s.%s is not known here', place, left(k, 100)) into fault
        from jsonb_object_keys(value) k where not shape -> 'has' ? k order by k limit 1;
      end if;
      return fault;
    when 'either' then
      return case when not exists (
        select from jsonb_array_elements(shape -> 'of') s where laurel_private.shape_fault(value, s, place) is null)
        then format('%s must be %s', place, shape ->> 'noun') end;
  end case;
end
$$;

comment on function laurel_private.shape_fault(jsonb, jsonb, text) is
  'What is wrong with a JSON value, as a sentence that names the place; null when it has the shape.';

-- Drafts of a system's rules, in the shapes of the admin API. What is read there may be sent back, so these are not closed.
create function laurel_private.draft_shape()
  returns jsonb language sql immutable as $$
  select jsonb_build_object('is', 'object', 'nullable', true, 'closed', true, 'has', jsonb_build_object(
    'maxPoints', '{"is": "integer", "least": 1, "most": 2147483647, "nullable": true}'::jsonb,
    'triggers', jsonb_build_object('is', 'array', 'most', 100, 'nullable', true, 'of', jsonb_build_object('is', 'object', 'has',
      s.filters || '{
        "id": {"is": "uuid", "nullable": true},
        "type": {"is": "one of", "values": ["metric", "achievement", "streak", "time", "user_creation"], "nullable": true},
        "points": {"is": "integer", "least": -2147483648, "most": 2147483647, "nullable": true},
        "status": {"is": "one of", "values": ["active", "inactive"], "nullable": true},
        "metricId": {"is": "uuid", "nullable": true},
        "metricThreshold": {"is": "integer", "most": 2147483647, "least": -2147483648, "nullable": true},
        "achievementId": {"is": "uuid", "nullable": true},
        "streakLength": {"is": "integer", "most": 2147483647, "least": -2147483648, "nullable": true},
        "timeUnit": {"is": "one of", "values": ["hours", "days"], "nullable": true},
        "timeInterval": {"is": "integer", "most": 2147483647, "least": -2147483648, "nullable": true},
        "blockIfOutOfPoints": {"is": "boolean", "nullable": true}}'::jsonb)),
    'boosts', jsonb_build_object('is', 'array', 'most', 100, 'nullable', true, 'of', jsonb_build_object('is', 'object', 'has',
      s.filters || '{
        "id": {"is": "uuid", "nullable": true},
        "userId": {"is": "string", "nullable": true},
        "name": {"is": "string", "nullable": true},
        "start": {"is": "date", "nullable": true},
        "end": {"is": "date", "nullable": true},
        "multiplier": {"is": "number", "nullable": true},
        "rounding": {"is": "one of", "values": ["down", "up", "nearest"], "nullable": true}}'::jsonb)),
    'levels', jsonb_build_object('is', 'array', 'most', 100, 'nullable', true, 'of', '{"is": "object", "has": {
      "id": {"is": "uuid", "nullable": true},
      "name": {"is": "string", "nullable": true},
      "key": {"is": "string", "nullable": true},
      "points": {"is": "integer", "least": -2147483648, "most": 2147483647, "nullable": true},
      "description": {"is": "string", "nullable": true},
      "badge": {"is": "object", "nullable": true, "has": {"url": {"is": "string"}}, "needs": ["url"]}}}'::jsonb)))
  from (
    select jsonb_build_object('userAttributes', f.filter, 'eventAttributes', f.filter) as filters
    from (
      select '{"is": "array", "most": 100, "nullable": true, "of": {"is": "object",
        "has": {"attributeId": {"is": "uuid"}, "attributeValue": {"is": "string"}},
        "needs": ["attributeId", "attributeValue"]}}'::jsonb as filter) f) s
$$;

-- Refuses a document: LR060. A sentence begins with the place it is about, which, in the document, is the field.
create function laurel_private.refuse_document(sentence text)
  returns void language plpgsql stable as $$
begin
  perform laurel_private.fail('LR060', substring(sentence from '^(?:(?:scenario|request)\.)?((?:[\w-]|\.(?=[\w-])|\[\d+\])+)'), sentence);
end
$$;

-- Refuses a document of another shape: LR060, naming the place.
create function laurel_private.check_shape(value jsonb, shape jsonb, place text)
  returns void language plpgsql stable as $$
declare
  fault text := laurel_private.shape_fault(value, shape, place);
begin
  if fault is not null then
    perform laurel_private.refuse_document(fault);
  end if;
end
$$;
--! EndIncluded insight/shapes.sql
--! Included insight/sandboxes.sql
-- A sandbox is a tenant that lives inside one subtransaction: a copy of a tenant's configuration, with
-- drafts laid over it, in which the real engine runs for made-up users (preview_points.sql) or for
-- copies of real ones (backtest_points.sql). It is rolled back before anybody sees it. A tenant of
-- its own, so that nothing of the live one is locked: neither its configuration nor its users wait.

-- Empty for everybody but the transaction that runs a sandbox. Written by open_sandbox(); read by the flow where a
-- sandbox differs: a change of 0 is left out (P3), but here what cap and floor took is counted; streaks are judged by
-- the clock, here by when events happened.
create table laurel_private.sandboxes (
  tenant_id uuid not null,
  constraint sandboxes_are_tenants primary key (tenant_id),
  constraint sandbox_tenant_exists foreign key (tenant_id) references laurel.tenants on delete cascade
);

comment on table laurel_private.sandboxes is 'Tenants that exist for the length of a preview or backtest. Never holds a committed row.';
alter table laurel_private.sandboxes enable row level security;

-- The setting spares everybody else the look into the table, which nobody else can write.
create function laurel_private.is_rehearsal(for_tenant uuid)
  returns boolean language plpgsql stable as $$
begin
  if current_setting('laurel_private.sandbox', true) is distinct from for_tenant::text then
    return false;
  end if;
  return exists (select from laurel_private.sandboxes s where s.tenant_id = for_tenant);
end
$$;

-- Exchanges IDs in a document for those they are mapped to.
create function laurel_private.exchange_ids(document jsonb, ids jsonb)
  returns jsonb language plpgsql immutable as $$
declare
  exchanged text := document::text;
  pair record;
begin
  for pair in select i.key, i.value from jsonb_each_text(ids) i loop
    exchanged := replace(exchanged, pair.key, pair.value);
  end loop;
  return exchanged::jsonb;
end
$$;

-- The configuration that decides what happens in a system: its own, and that of systems that can
-- refuse an event (TR8). As rows, by table.
create function laurel_private.configuration_for_sandbox(system laurel.points_systems)
  returns jsonb language sql stable as $$
  with systems as (
    select s.* from laurel.points_systems s
    where s.tenant_id = system.tenant_id and s.archived_at is null and (s.id = system.id or exists (
      select from laurel.points_triggers t
      where t.tenant_id = s.tenant_id and t.system_id = s.id and t.status = 'active' and t.block_if_out_of_points))
  )
  select jsonb_build_object(
    'tenants', (select coalesce(jsonb_agg(to_jsonb(t)), '[]') from laurel.tenants t where t.id = system.tenant_id),
    'attributes', (select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]') from laurel.attributes a where a.tenant_id = system.tenant_id),
    'metrics', (
      select coalesce(jsonb_agg(to_jsonb(m) order by m.id), '[]') from laurel.metrics m
      where m.tenant_id = system.tenant_id and m.archived_at is null),
    -- As if they had held for ever.
    'streak_settings', (
      select coalesce(jsonb_agg(to_jsonb(s) || '{"earning_since": null, "revisit_after_user_id": null}'), '[]') from laurel_private.streak_settings s where s.tenant_id = system.tenant_id),
    'achievements', (
      select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]') from laurel.achievements a
      where a.tenant_id = system.tenant_id and a.status <> 'archived'
        and not exists (select from laurel.metrics m where m.id = a.metric_id and m.archived_at is not null)),
    'points_systems', (select coalesce(jsonb_agg(to_jsonb(s) order by s.id), '[]') from systems s),
    'points_levels', (select coalesce(jsonb_agg(to_jsonb(l) order by l.id), '[]') from laurel.points_levels l join systems s on s.id = l.system_id),
    'points_boosts', (
      select coalesce(jsonb_agg(to_jsonb(b) order by b.id), '[]') from laurel.points_boosts b join systems s on s.id = b.system_id
      where b.archived_at is null),
    'points_triggers', (
      select coalesce(jsonb_agg(to_jsonb(t) order by t.id), '[]') from laurel.points_triggers t join systems s on s.id = t.system_id
      where t.status <> 'archived'
        and not exists (select from laurel.metrics m where m.id = t.metric_id and m.archived_at is not null)
        and not exists (select from laurel.achievements a where a.id = t.achievement_id and a.status = 'archived')))
$$;

-- Makes the sandbox and acts in it from here on. `people` are users to be copied, by the IDs that
-- `user_ids` gives them there: boosts of single users come along for those. No ID of a live user, on which locks are taken.
create function laurel_private.open_sandbox(
  system laurel.points_systems, user_ids jsonb, people laurel.users[], out tenant_id uuid, out system_id uuid, out ids jsonb
) language plpgsql volatile as $$
#variable_conflict use_column
declare
  configuration jsonb := laurel_private.configuration_for_sandbox(system);
begin
  tenant_id := laurel_private.uuid_v7();
  -- In order of creation, which is the order of firing (TR7).
  select jsonb_object_agg(r.id, r.new_id) || jsonb_build_object(system.tenant_id::text, open_sandbox.tenant_id) into ids
  from (
    select r.id, laurel_private.uuid_v7() as new_id
    from (
      select r ->> 'id' as id
      from jsonb_each(configuration - 'tenants') c
      cross join lateral jsonb_array_elements(c.value) r
      order by 1) r) r;
  system_id := (ids ->> system.id::text)::uuid;
  configuration := laurel_private.exchange_ids(configuration, ids);

  perform set_config('laurel.tenant', 'sandbox-' || tenant_id, true), set_config('laurel_private.sandbox', tenant_id::text, true);
  insert into laurel.tenants
  select t.* from jsonb_populate_record(null::laurel.tenants,
    configuration #> '{tenants,0}' || jsonb_build_object('customer_id', 'sandbox-' || open_sandbox.tenant_id, 'archived_at', null)) t;
  insert into laurel_private.sandboxes (tenant_id) values (open_sandbox.tenant_id);
  insert into laurel.attributes
  select a.* from jsonb_populate_recordset(null::laurel.attributes, configuration -> 'attributes') a;
  insert into laurel.metrics
  select m.* from jsonb_populate_recordset(null::laurel.metrics, configuration -> 'metrics') m;
  -- In place of the defaults that the tenant was born with.
  delete from laurel_private.streak_settings s where s.tenant_id = open_sandbox.tenant_id;
  insert into laurel_private.streak_settings
  select s.* from jsonb_populate_recordset(null::laurel_private.streak_settings, configuration -> 'streak_settings') s;
  loop
    -- Those whose prerequisites are there already.
    insert into laurel.achievements
    select a.* from jsonb_populate_recordset(null::laurel.achievements, configuration -> 'achievements') a
    where not exists (select from laurel.achievements done where done.id = a.id)
      and not exists (
        select from unnest(a.prerequisite_ids) p (id)
        where not exists (select from laurel.achievements done where done.id = p.id));
    exit when not found;
  end loop;
  insert into laurel.points_systems
  select s.* from jsonb_populate_recordset(null::laurel.points_systems, configuration -> 'points_systems') s;
  insert into laurel.points_levels
  select l.* from jsonb_populate_recordset(null::laurel.points_levels, configuration -> 'points_levels') l;
  insert into laurel.points_triggers
  select t.* from jsonb_populate_recordset(null::laurel.points_triggers, configuration -> 'points_triggers') t;
  insert into laurel.users (tenant_id, id, tz, attributes, preferences, created_at)
  select open_sandbox.tenant_id, user_ids ->> p.id, p.tz, p.attributes, p.preferences, p.created_at from unnest(people) p;
  insert into laurel.points_boosts
  select b.* from (
    select jsonb_populate_record(null::laurel.points_boosts,
      b || jsonb_build_object('user_id', user_ids ->> (b ->> 'user_id'))) as boost
    from jsonb_array_elements(configuration -> 'points_boosts') b
    where b ->> 'user_id' is null or user_ids ? (b ->> 'user_id')) x
  cross join lateral (select (x.boost).*) b;
end
$$;

-- One of a draft's levels, boosts or triggers: changes what has its ID, or is new. Returns its ID.
create function laurel_private.apply_draft_item(system_id uuid, kind text, item jsonb)
  returns uuid language plpgsql volatile as $$
#variable_conflict use_column
declare
  is_saved boolean := item ->> 'id' is not null;
  done jsonb;
begin
  case kind
    when 'levels' then
      done := case when is_saved then laurel_private.update_points_level(system_id, item)
        else laurel_private.create_points_level(system_id, item) end;
    when 'boosts' then
      done := case when is_saved then laurel_private.update_points_boost(system_id, item)
        else laurel_private.create_points_boost(system_id, item) end;
      update laurel.points_boosts b set is_active = true where b.id = (done ->> 'id')::uuid and not b.is_active;
    when 'triggers' then
      if item ->> 'status' is null then
        item := item || '{"status": "active"}';
      end if;
      done := case when is_saved then laurel_private.update_points_trigger(system_id, item)
        else laurel_private.create_points_trigger(system_id, item) end;
  end case;
  return (done ->> 'id')::uuid;
end
$$;

-- Lays a draft, whose shape was checked, over the sandbox's rules. Returns {ID of a new trigger: its place in the draft}.
create function laurel_private.apply_draft(system_id uuid, draft jsonb, ids jsonb, user_ids jsonb, place text)
  returns jsonb language plpgsql volatile as $$
#variable_conflict use_column
declare
  new_triggers jsonb := '{}';
  kind text;
  part record;
  unknown text;
  done uuid;
  code text;
  message text;
  table_name text;
  type_name text;
  constraint_name text;
  column_name text;
begin
  if draft ? 'maxPoints' then
    update laurel.points_systems s set max_points = (draft ->> 'maxPoints')::int where s.id = apply_draft.system_id;
  end if;
  -- Levels may change places.
  set constraints laurel.level_points_are_unique_in_their_system deferred;
  foreach kind in array array['levels', 'boosts', 'triggers'] loop
    continue when jsonb_typeof(draft -> kind) is distinct from 'array';
    for part in
      select p.value as item, format('%s.%s[%s]', place, kind, p.ordinality - 1) as place, p.ordinality - 1 as no
      from jsonb_array_elements(draft -> kind) with ordinality p
    loop
      -- IDs of other tenants are IDs of nothing, whoever asks.
      select x #>> '{}' into unknown
      from unnest(array['$.id', '$.metricId', '$.achievementId', '$.userAttributes[*].attributeId', '$.eventAttributes[*].attributeId']::jsonpath[]) p (path)
      cross join lateral jsonb_path_query(part.item, p.path) x
      where jsonb_typeof(x) = 'string' and not ids ? lower(x #>> '{}')
      limit 1;
      if unknown is not null then
        perform laurel_private.refuse_document(format('%s: nothing here has the ID %s', part.place, unknown));
      elsif kind = 'boosts' and part.item ->> 'userId' is not null then
        continue when user_ids is not null and not user_ids ? (part.item ->> 'userId');
        if user_ids is null then
          perform laurel_private.refuse_document(format('%s: a boost of one user has no part in a preview', part.place));
        end if;
        part.item := part.item || jsonb_build_object('userId', user_ids ->> (part.item ->> 'userId'));
      end if;
      begin
        done := laurel_private.apply_draft_item(system_id, kind, laurel_private.exchange_ids(part.item, ids));
      exception when others then
        get stacked diagnostics code = returned_sqlstate, message = message_text, table_name = table_name,
          type_name = pg_datatype_name, constraint_name = constraint_name, column_name = column_name;
        message := laurel_private.sentence_for_error(code, message,
          coalesce(nullif(table_name, ''), type_name), constraint_name, column_name);
        if message is null then
          raise;
        end if;
        perform laurel_private.refuse_document(format('%s: %s', part.place, rtrim(message, '.')));
      end;
      if kind = 'triggers' and part.item ->> 'id' is null then
        new_triggers := new_triggers || jsonb_build_object(done::text, part.no);
      end if;
    end loop;
  end loop;
  begin
    set constraints laurel.level_points_are_unique_in_their_system immediate;
  exception when unique_violation then
    perform laurel_private.refuse_document(format('%s.levels: two levels have the same points', place));
  end;
  return new_triggers;
end
$$;

-- Something that happens to a user of the sandbox: an event, or a tick of the span with that number.
create type laurel_private.rehearsal_step as (user_id text, event laurel.metric_events, tick bigint, span_no int, due_at timestamptz);

-- The rules of these metrics and of these spans as one set; ticks come last by cause, so that triggers stay in order. Spans are
-- numbered downwards from -1, apart from metrics.
create function laurel_private.rehearsal_rules(tenant_id uuid, metric_ids uuid[], span_ids uuid[])
  returns laurel_private.combined_rules language plpgsql stable as $$
#variable_conflict use_variable
declare
  rules laurel_private.combined_rules := laurel_private.combine_rules(tenant_id, metric_ids || laurel_private.nil_metric());
  ticking laurel_private.combined_rules;
begin
  if span_ids = '{}' then
    return rules;
  end if;
  ticking := laurel_private.time_rules(tenant_id, span_ids);
  rules.boosts := rules.boosts || array(
    select (cardinality(rules.systems) + n.no, b.starts_on, b.ends_on, b.multiplier, b.rounding, b.user_attributes, b.snapshot)::laurel_private.boost_rule
    from unnest(ticking.boosts) b
    join (
      select t.no as own_no, row_number() over (order by t.no)::int as no
      from unnest(ticking.systems) with ordinality as t (system_id, system_key, max_points, level_thresholds, no)
      where t.system_id not in (select s.system_id from unnest(rules.systems) s)) n on n.own_no = b.system_no);
  rules.systems := rules.systems || array(
    select (t.system_id, t.system_key, t.max_points, t.level_thresholds)::laurel_private.system_rule
    from unnest(ticking.systems) with ordinality as t (system_id, system_key, max_points, level_thresholds, no)
    where t.system_id not in (select s.system_id from unnest(rules.systems) s)
    order by t.no);
  rules.triggers := rules.triggers || array(
    select (t.trigger_id, t.cause, array_position(array(select s.system_id from unnest(rules.systems) s), t.system_id), t.system_id, t.system_key,
      t.max_points, t.points, t.threshold, -t.metric_no, t.metric_key, t.achievement_id, t.user_attributes, t.event_attributes, t.blocks,
      t.version)::laurel_private.trigger_rule
    from unnest(ticking.triggers) with ordinality
      as t (trigger_id, cause, system_no, system_id, system_key, max_points, points, threshold, metric_no, metric_key, achievement_id,
        user_attributes, event_attributes, blocks, version, no)
    order by t.no);
  rules.has_user_boosts := rules.has_user_boosts or ticking.has_user_boosts;
  return rules;
end
$$;

-- Applies what happens to users of the sandbox, in the order given, as the lane of many does. An event that a trigger blocks
-- (TR8) is refused alone, as in a batch: which one is found by halving. Returns how many were refused.
-- Events are stored here, below the check that none lies in the future (E8): these are made up. So are ticks applied here,
-- in their turn, rather than by a worker: it would find all of them due at once.
create function laurel_private.rehearse_steps(tenant_id uuid, steps laurel_private.rehearsal_step[], span_ids uuid[])
  returns int language plpgsql volatile as $$
#variable_conflict use_variable
declare
  metric_ids uuid[] := array(
    select distinct (s.event).metric_id from unnest(steps) s where (s.event).id is not null order by 1);
  user_ids text[];
  refused int := 0;
begin
  begin
    insert into laurel_private.metric_event_log (id, tenant_id, user_id, metric_id, metric_key, value, attributes, idempotency_key, occurred_at)
    select (s.event).id, (s.event).tenant_id, (s.event).user_id, (s.event).metric_id, (s.event).metric_key, (s.event).value,
      (s.event).attributes, (s.event).idempotency_key, (s.event).occurred_at
    from unnest(steps) s where (s.event).id is not null;
    perform laurel_private.apply_occasions(tenant_id, metric_ids, array(
      select (s.user_id, array_agg(case when s.tick is null
        then ('metric', (s.event).id, array_position(metric_ids, (s.event).metric_id), (s.event).value, (s.event).attributes, (s.event).occurred_at,
          null, null, null)::laurel_private.occasion
        else ('time', null, -s.span_no, s.tick, null, s.due_at, null, null, null)::laurel_private.occasion end
        order by s.no))::laurel_private.user_occasions
      from unnest(steps) with ordinality as s (user_id, event, tick, span_no, due_at, no)
      group by s.user_id), false, laurel_private.rehearsal_rules(tenant_id, metric_ids, span_ids));
    return 0;
  exception when sqlstate 'LR030' then
    if cardinality(steps) = 1 then
      return 1;
    end if;
  end;
  user_ids := array(select distinct s.user_id from unnest(steps) s order by 1);
  if cardinality(user_ids) > 1 then
    for i in 1..cardinality(user_ids) loop
      refused := refused + laurel_private.rehearse_steps(tenant_id, array(
        select (s.user_id, s.event, s.tick, s.span_no, s.due_at)::laurel_private.rehearsal_step
        from unnest(steps) with ordinality as s (user_id, event, tick, span_no, due_at, no)
        where s.user_id = user_ids[i] order by s.no), span_ids);
    end loop;
    return refused;
  end if;
  return laurel_private.rehearse_steps(tenant_id, steps[:cardinality(steps) / 2], span_ids)
    + laurel_private.rehearse_steps(tenant_id, steps[cardinality(steps) / 2 + 1:], span_ids);
end
$$;

-- Lets a sandbox's time triggers, drafts included, have been active since a moment; one that ticks as the live one does keeps the
-- phase of an earlier activation. Returns their spans, which stay as they are.
create function laurel_private.rehearse_spans(of_tenant uuid, ids jsonb, since timestamptz)
  returns uuid[] language plpgsql volatile as $$
#variable_conflict use_variable
begin
  delete from laurel_private.time_trigger_spans p where p.tenant_id = of_tenant and p.ends_at is not null;
  update laurel_private.time_trigger_spans p
  set activated_at = x.moment, begins_at = x.moment, looks_from = x.moment, looks = 2
  from (
    select p.id, coalesce((
      select o.activated_at from jsonb_each_text(ids) i
      join laurel_private.time_trigger_spans o on o.trigger_id = i.key::uuid
      where i.value = p.trigger_id::text and o.ends_at is null and o.activated_at < since
        and (o.time_unit, o.time_interval) = (p.time_unit, p.time_interval)), since) as moment
    from laurel_private.time_trigger_spans p where p.tenant_id = of_tenant) x
  where p.id = x.id;
  return array(select p.id from laurel_private.time_trigger_spans p where p.tenant_id = of_tenant order by p.id);
end
$$;

-- Refuses more ticks than can be answered for.
create function laurel_private.check_tick_count(ticks numeric, field text)
  returns void language plpgsql stable as $$
begin
  if ticks > 100000 then
    perform laurel_private.fail('LR061', field, format('up to %s ticks of time triggers, where 100,000 are possible', ticks));
  end if;
end
$$;

-- Refuses what takes too long, in words; the server's statement timeout comes later.
create function laurel_private.check_rehearsal_time(started_at timestamptz)
  returns void language plpgsql volatile as $$
begin
  if clock_timestamp() > started_at + interval '20 seconds' then
    perform laurel_private.fail('LR061', null, 'it took more than 20 seconds');
  end if;
end
$$;

-- What a sandbox's ledger says of some of its users: totals by day, triggers, levels, and what rounding,
-- cap and floor took. `weight` is how many real users each stands for. Totals are as of the end of each day of the user's own.
create function laurel_private.rehearsal_figures(
  tenant_id uuid, system_id uuid, user_ids text[], starts_on date, days int, weight numeric, ids jsonb, new_triggers jsonb,
  totals_before bigint[] default null
) returns jsonb language sql stable as $$
  with person as materialized (
    select p.id, p.no, s.time_zone, coalesce(totals_before[p.no], 0) as total_before
    from unnest(user_ids) with ordinality p (id, no)
    cross join lateral (
      select s.time_zone from laurel_private.user_states s
      where s.tenant_id = rehearsal_figures.tenant_id and s.user_id = p.id
      offset 0) s
  ),
  award as materialized (
    select p.no, least(greatest((a.occurred_at at time zone p.time_zone)::date - starts_on, 0), days - 1) as day,
      a.trigger_id, a.firings, a.points, a.total_after, a.base_points * a.boost_multiplier as exact_points, a.rounded_points, a.sequence
    from person p
    cross join lateral (
      select a.* from laurel.points_awards a
      where a.tenant_id = rehearsal_figures.tenant_id and a.user_id = p.id and a.system_id = rehearsal_figures.system_id
      offset 0) a
  ),
  change as materialized (
    select a.no, a.day, sum(a.points) as points from award a group by a.no, a.day
  ),
  total as (
    select p.no, d.day, p.total_before + coalesce(sum(c.points) over (partition by p.no order by d.day), 0) as total
    from person p
    cross join generate_series(0, days - 1) d (day)
    left join change c on c.no = p.no and c.day = d.day
  ),
  by_day as (
    select t.day, percentile_disc(array[0.1, 0.5, 0.9]) within group (order by t.total) as share
    from total t group by t.day
  ),
  level as (
    select l.key::text as key, l.points from laurel.points_levels l
    where l.tenant_id = rehearsal_figures.tenant_id and l.system_id = rehearsal_figures.system_id
  ),
  reached as (
    select l.key, l.points, p.no, least(
      case when p.total_before >= l.points then 0 end,
      (select min(a.day) from award a where a.no = p.no and a.total_after >= l.points)) as day
    from level l cross join person p
  )
  select jsonb_build_object(
    'totals', (
      select jsonb_agg(jsonb_build_object('day', d.day + 1, 'date', starts_on + d.day,
        'p10', d.share[1], 'p50', d.share[2], 'p90', d.share[3]) order by d.day)
      from by_day d),
    'byTrigger', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'trigger', (laurel_private.trigger_as_json(t) - 'created' - 'updated' - 'id' - 'metricId' - 'achievementId')
          || jsonb_strip_nulls(jsonb_build_object(
            'id', i.live ->> t.id::text, 'metricId', i.live ->> t.metric_id::text,
            'achievementId', i.live ->> t.achievement_id::text, 'draft', new_triggers -> t.id::text)),
        'firings', trim_scale(coalesce(a.firings, 0) * weight), 'awarded', trim_scale(coalesce(a.points, 0) * weight)) order by t.id), '[]')
      from laurel.points_triggers t
      cross join (select jsonb_object_agg(i.value, i.key) as live from jsonb_each_text(ids) i) i
      left join (select a.trigger_id, sum(a.firings) as firings, sum(a.points) as points from award a group by a.trigger_id) a
        on a.trigger_id = t.id
      where t.tenant_id = rehearsal_figures.tenant_id and t.system_id = rehearsal_figures.system_id and t.status = 'active'),
    'levels', (
      select coalesce(jsonb_agg(jsonb_build_object('key', r.key, 'share', r.share, 'medianDay', r.median_day) order by r.points), '[]')
      from (
        select r.key, r.points, round(count(r.day)::numeric / greatest(count(*), 1), 4) as share,
          percentile_disc(0.5) within group (order by r.day) + 1 as median_day
        from reached r group by r.key, r.points) r),
    'lost', (
      select jsonb_build_object(
        'rounding', trim_scale(coalesce(sum(a.exact_points - a.rounded_points), 0) * weight),
        'cap', trim_scale(coalesce(sum(a.rounded_points - a.points) filter (where a.rounded_points > a.points), 0) * weight),
        'floor', trim_scale(coalesce(sum(a.points - a.rounded_points) filter (where a.rounded_points < a.points), 0) * weight))
      from award a))
$$;
--! EndIncluded insight/sandboxes.sql
--! Included insight/preview_points.sql
-- Preview (D1): how a system's rules would treat kinds of users who behave as a scenario says. The
-- scenario becomes events, completions and new users in a sandbox (sandboxes.sql), and the real
-- engine does the rest. Everything is rolled back; the answer is what was read before.
--
-- Time is told by occurred_at. Users join at the start of their first day, with which their clocks of time triggers start;
-- events lie between 8:00 and 22:00 of the user's own time zone, evenly spread; achievements are completed at 22:30. A kind
-- whose users all do the same is simulated once and counted for all of them.

create function laurel_private.scenario_shape()
  returns jsonb language sql immutable as $$
  select jsonb_build_object('is', 'object', 'closed', true, 'needs', '["days", "kinds"]'::jsonb, 'has', '{
      "days": {"is": "integer", "least": 1, "most": 365},
      "start": {"is": "date", "nullable": true},
      "seed": {"is": "integer", "least": -9007199254740991, "most": 9007199254740991, "nullable": true}}'::jsonb
    || jsonb_build_object('draft', laurel_private.draft_shape(), 'kinds', '{"is": "array", "least": 1, "most": 20, "of": {
      "is": "object", "closed": true, "needs": ["name", "users", "events"], "has": {
        "name": {"is": "string", "least": 1, "most": 255},
        "users": {"is": "integer", "least": 1, "most": 100000},
        "tz": {"is": "string", "nullable": true},
        "attributes": {"is": "map", "of": {"is": "string"}, "nullable": true},
        "activeDays": {"is": "either", "noun": "a share from 0 to 1 or an array of weekdays from 0 (Sunday) to 6", "nullable": true, "of": [
          {"is": "number", "least": 0, "most": 1},
          {"is": "array", "most": 7, "of": {"is": "integer", "least": 0, "most": 6}}]},
        "events": {"is": "array", "most": 20, "of": {"is": "object", "closed": true, "needs": ["metric", "perDay"], "has": {
          "metric": {"is": "string"},
          "perDay": {"is": "either", "noun": "a number from 0 to 1000 or two whole numbers, [least, most], from 0 to 1000", "of": [
            {"is": "number", "least": 0, "most": 1000},
            {"is": "array", "least": 2, "most": 2, "of": {"is": "integer", "least": 0, "most": 1000}}]},
          "value": {"is": "number", "least": -999999999999999, "most": 999999999999999, "nullable": true},
          "attributes": {"is": "map", "of": {"is": "string"}, "nullable": true}}}},
        "achievements": {"is": "array", "most": 100, "nullable": true, "of": {"is": "object", "closed": true, "needs": ["key", "day"], "has": {
          "key": {"is": "string"},
          "day": {"is": "integer", "least": 1, "most": 365}}}}}}}'::jsonb))
$$;

-- Whether users of this kind may differ from each other.
create function laurel_private.is_random_kind(kind jsonb)
  returns boolean language sql immutable as $$
  select jsonb_typeof(kind -> 'activeDays') = 'number' and (kind ->> 'activeDays')::numeric not in (0, 1)
    or exists (
      select from jsonb_array_elements(kind -> 'events') e
      where jsonb_typeof(e -> 'perDay') = 'array' and e -> 'perDay' -> 0 <> e -> 'perDay' -> 1)
$$;

-- A number from 0 to below 1 that depends on seed and place alone.
create function laurel_private.random_from(seed bigint, place text)
  returns numeric language sql immutable parallel safe
  return (hashtextextended(place, seed) & 4503599627370495)::numeric / 4503599627370496;

-- What makes a scenario large: the highest of its days, numbers of users and, where they count, events a day. Answers its field.
create function laurel_private.largest_factor(scenario jsonb, with_events boolean default true)
  returns text language sql stable as $$
  select f.field
  from (
    select 'days' as field, (scenario ->> 'days')::numeric as size
    union all
    select format('kinds[%s].users', k.ordinality - 1), (k.value ->> 'users')::numeric
    from jsonb_array_elements(scenario -> 'kinds') with ordinality k where laurel_private.is_random_kind(k.value)
    union all
    select format('kinds[%s].events[%s].perDay', k.ordinality - 1, e.ordinality - 1),
      coalesce(e.value #>> '{perDay,1}', e.value ->> 'perDay')::numeric
    from jsonb_array_elements(scenario -> 'kinds') with ordinality k
    cross join lateral jsonb_array_elements(k.value -> 'events') with ordinality e
    where with_events) f
  order by f.size desc, f.field
  limit 1
$$;

create function laurel_private.check_scenario(tenant_id uuid, scenario jsonb)
  returns void language plpgsql stable as $$
#variable_conflict use_variable
declare
  part record;
  problem text;
  days int;
  user_days numeric := 0;
  events numeric := 0;
  users int;
begin
  perform laurel_private.check_shape(scenario, laurel_private.scenario_shape(), 'scenario');
  days := (scenario ->> 'days')::numeric::int;
  for part in
    select k.value as kind, format('scenario.kinds[%s]', k.ordinality - 1) as place
    from jsonb_array_elements(scenario -> 'kinds') with ordinality k
  loop
    if part.kind ->> 'tz' is not null and not laurel_private.is_time_zone(part.kind ->> 'tz') then
      perform laurel_private.refuse_document(format('%s.tz: there is no time zone %s', part.place, left(part.kind ->> 'tz', 100)));
    end if;
    select coalesce(
      (select format('attributes.%s: there is no such user attribute', left(k, 100))
        from jsonb_object_keys(coalesce(nullif(part.kind -> 'attributes', 'null'), '{}')) k
        where not exists (select from laurel.attributes a where a.tenant_id = tenant_id and a.type = 'user' and a.key = k) limit 1),
      (select format('events[%s].metric: there is no metric %s', e.ordinality - 1, left(e.value ->> 'metric', 100))
        from jsonb_array_elements(part.kind -> 'events') with ordinality e
        where not exists (select from laurel.metrics m where m.tenant_id = tenant_id and m.key = e.value ->> 'metric' and m.archived_at is null) limit 1),
      (select format('events[%s].attributes.%s: there is no such event attribute', e.ordinality - 1, left(k, 100))
        from jsonb_array_elements(part.kind -> 'events') with ordinality e
        cross join lateral jsonb_object_keys(coalesce(nullif(e.value -> 'attributes', 'null'), '{}')) k
        where not exists (select from laurel.attributes a where a.tenant_id = tenant_id and a.type = 'event' and a.key = k) limit 1),
      (select format('events[%s].perDay: the least is above the most', e.ordinality - 1)
        from jsonb_array_elements(part.kind -> 'events') with ordinality e
        where jsonb_typeof(e.value -> 'perDay') = 'array'
          and (e.value -> 'perDay' ->> 0)::numeric > (e.value -> 'perDay' ->> 1)::numeric limit 1),
      (select format('achievements[%s].key: there is no active achievement %s', a.ordinality - 1, left(a.value ->> 'key', 100))
        from jsonb_array_elements(case when jsonb_typeof(part.kind -> 'achievements') = 'array' then part.kind -> 'achievements' else '[]' end) with ordinality a
        where not exists (select from laurel.achievements x where x.tenant_id = tenant_id and x.key = a.value ->> 'key' and x.status = 'active') limit 1),
      (select format('achievements[%s].day is after the last day', a.ordinality - 1)
        from jsonb_array_elements(case when jsonb_typeof(part.kind -> 'achievements') = 'array' then part.kind -> 'achievements' else '[]' end) with ordinality a
        where (a.value ->> 'day')::numeric > days limit 1)) into problem;
    if problem is not null then
      perform laurel_private.refuse_document(format('%s.%s', part.place, problem));
    end if;
    users := case when laurel_private.is_random_kind(part.kind) then (part.kind ->> 'users')::numeric else 1 end;
    user_days := user_days + users * days;
    events := events + users * days * (
      select coalesce(sum(ceil(coalesce((e -> 'perDay' ->> 1)::numeric, (e ->> 'perDay')::numeric))), 0)
      from (select case when jsonb_typeof(e -> 'perDay') = 'array' then e else e || jsonb_build_object('perDay', jsonb_build_array(0, e -> 'perDay')) end as e
        from jsonb_array_elements(part.kind -> 'events') e) e);
  end loop;
  if user_days > 100000 then
    perform laurel_private.fail('LR061', laurel_private.largest_factor(scenario, false), format('%s users × days, where 100,000 are possible', user_days));
  elsif events > 100000 then
    perform laurel_private.fail('LR061', laurel_private.largest_factor(scenario), format('up to %s events, where 100,000 are possible', events));
  end if;
end
$$;

comment on function laurel_private.check_scenario(uuid, jsonb) is
  'Raises LR060 when a scenario is not of the right shape or names what does not exist, LR061 when it is too large. Kinds whose users all do the same count as one user.';

-- The days of a kind's users on which they are active, in order: `nth` counts each user's.
create function laurel_private.active_days(kind jsonb, kind_no int, users int, starts_on date, days int, seed bigint)
  returns table (user_no int, day int, nth bigint) language sql immutable as $$
  select u.no, d.day, row_number() over (partition by u.no order by d.day)
  from generate_series(1, users) u (no)
  cross join generate_series(1, days) d (day)
  where case jsonb_typeof(kind -> 'activeDays')
    when 'number' then laurel_private.random_from(seed, concat_ws('/', kind_no, u.no, d.day, 'active')) < (kind ->> 'activeDays')::numeric
    when 'array' then kind -> 'activeDays' @> to_jsonb(extract(dow from starts_on + d.day - 1)::int)
    else true end
$$;

-- What a kind's users do and which ticks they live through, in chunks of days, each in order of time; of what falls on one moment
-- ticks come first. Events' IDs are still to come.
create function laurel_private.scenario_steps(
  tenant_id uuid, kind jsonb, kind_no int, users int, time_zone text, starts_on date, days int, seed bigint, chunk_starts int[], span_ids uuid[]
) returns table (chunk_no int, steps laurel_private.rehearsal_step[]) language sql stable as $$
  select c.no, coalesce((array_agg((kind_no || '/' || x.user_no,
      case when x.tick is null
        then (null::uuid, tenant_id, kind_no || '/' || x.user_no, x.metric_id, x.metric_key, x.value, x.attributes, null, x.occurred_at)::laurel.metric_events end,
      x.tick, case when x.tick is not null then x.event_no end, case when x.tick is not null then x.occurred_at end)::laurel_private.rehearsal_step
    order by x.occurred_at, x.tick is null, x.user_no, x.event_no, x.i) filter (where x.user_no is not null)), '{}')
  from generate_series(1, cardinality(chunk_starts)) c (no)
  left join (
    select width_bucket(a.day, chunk_starts) as chunk, a.user_no, e.no as event_no, i.i, null::bigint as tick, m.id as metric_id, m.key::text as metric_key,
      coalesce((e.event ->> 'value')::numeric, 1) as value, coalesce(nullif(e.event -> 'attributes', 'null'), '{}') as attributes,
      (starts_on + (a.day - 1) + time '08:00' + (i.i - 0.5) / n.count * interval '14 hours') at time zone time_zone as occurred_at
    from laurel_private.active_days(kind, kind_no, users, starts_on, days, seed) a
    cross join jsonb_array_elements(kind -> 'events') with ordinality e (event, no)
    join laurel.metrics m on m.tenant_id = scenario_steps.tenant_id and m.key = e.event ->> 'metric'
    cross join lateral (
      select case jsonb_typeof(e.event -> 'perDay')
        when 'array' then (e.event -> 'perDay' ->> 0)::numeric + floor(laurel_private.random_from(seed, concat_ws('/', kind_no, a.user_no, a.day, e.no))
          * ((e.event -> 'perDay' ->> 1)::numeric - (e.event -> 'perDay' ->> 0)::numeric + 1))
        -- 0.5 a day is one every other day.
        else floor((e.event ->> 'perDay')::numeric * a.nth) - floor((e.event ->> 'perDay')::numeric * (a.nth - 1)) end as count) n
    cross join lateral generate_series(1, n.count::int) i (i)
    union all
    select width_bucket((d.due_at at time zone time_zone)::date - starts_on + 1, chunk_starts), u.no, n.no, null, k.tick, null, null, null, null, d.due_at
    from unnest(span_ids) with ordinality n (id, no)
    join laurel_private.time_trigger_spans p on p.id = n.id
    cross join generate_series(1, users) u (no)
    cross join (
      select starts_on::timestamp at time zone time_zone as joined_at, (starts_on + days)::timestamp at time zone time_zone as over_at) t
    cross join lateral generate_series(1, laurel_private.ticks_due_by(t.joined_at, p.time_unit, p.time_interval, time_zone,
      t.over_at - interval '1 microsecond')) k (tick)
    cross join lateral (
      select laurel_private.tick_due_at(t.joined_at, p.time_unit, p.time_interval, time_zone, k.tick)) d (due_at)
    where coalesce(nullif(kind -> 'attributes', 'null'), '{}') @> p.user_attributes) x on x.chunk = c.no
  group by c.no
$$;

-- About how many ticks each user of a kind lives through.
create function laurel_private.scenario_ticks(kind jsonb, days int, span_ids uuid[])
  returns numeric language sql stable as $$
  select coalesce(sum(floor(days * case p.time_unit when 'hours' then 24.0 else 1 end / p.time_interval)), 0)
  from laurel_private.time_trigger_spans p
  where p.id = any (span_ids) and coalesce(nullif(kind -> 'attributes', 'null'), '{}') @> p.user_attributes
$$;

-- Completes an achievement for those of these users who have not completed it.
create function laurel_private.rehearse_completion(tenant_id uuid, user_ids text[], achievement_id uuid, achieved_at timestamptz)
  returns void language sql volatile as $$
  select laurel_private.apply_occasions(rehearse_completion.tenant_id, '{}', array_agg(
    (u.id, array[('achievement', null, null, null, null, achieved_at, null, null, rehearse_completion.achievement_id)::laurel_private.occasion])::laurel_private.user_occasions))
  from unnest(user_ids) u (id)
  where not exists (
    select from laurel.user_achievements c
    where c.tenant_id = rehearse_completion.tenant_id and c.user_id = u.id and c.achievement_id = rehearse_completion.achievement_id)
  having count(*) > 0
$$;

-- One kind of user, from the first day to the last. Returns its part of the answer.
create function laurel_private.rehearse_kind(
  sandbox record, kind jsonb, kind_no int, starts_on date, days int, seed bigint, new_triggers jsonb, span_ids uuid[], started_at timestamptz
) returns jsonb language plpgsql volatile as $$
#variable_conflict use_variable
declare
  users int := case when laurel_private.is_random_kind(kind) then (kind ->> 'users')::numeric else 1 end;
  time_zone text := coalesce(kind ->> 'tz', 'UTC');
  user_ids text[] := array(select kind_no || '/' || n from generate_series(1, users) n);
  joined_at timestamptz := starts_on::timestamp at time zone time_zone;
  achievements jsonb := coalesce(nullif(kind -> 'achievements', 'null'), '[]');
  steps_per_day numeric;
  chunk_days int;
  chunk_starts int[];
  chunk record;
  achievement record;
  events int := 0;
  refused int := 0;
begin
  insert into laurel.users (tenant_id, id, tz, attributes, created_at)
  select sandbox.tenant_id, u.id, time_zone, coalesce(nullif(kind -> 'attributes', 'null'), '{}'), joined_at
  from unnest(user_ids) u (id);
  -- Freezes that they start with are of their first day, not of today.
  update laurel_private.user_streaks s set settled_on = starts_on, earned_on = case when s.earned_on is not null then starts_on end
  where s.tenant_id = sandbox.tenant_id and s.user_id = any (user_ids);
  perform laurel_private.apply_occasions(sandbox.tenant_id, '{}', array(
    select (u.id, array[('user_creation', null, null, null, null, joined_at, null, null, null)::laurel_private.occasion])::laurel_private.user_occasions
    from unnest(user_ids) u (id)));

  -- Large statements are fast ones. Days on which achievements are completed end a chunk.
  select users * coalesce(sum(case when jsonb_typeof(e -> 'perDay') = 'array' then (e -> 'perDay' ->> 1)::numeric else (e ->> 'perDay')::numeric end), 0)
  into steps_per_day from jsonb_array_elements(kind -> 'events') e;
  steps_per_day := steps_per_day + users * laurel_private.scenario_ticks(kind, days, span_ids) / days;
  chunk_days := least(greatest(4000 / greatest(steps_per_day, 1), 1), days);
  chunk_starts := array(
    select day from generate_series(1, days, chunk_days) day
    union
    select least((a ->> 'day')::numeric::int, days - 1) + 1 from jsonb_array_elements(achievements) a
    order by 1);

  for chunk in
    select * from laurel_private.scenario_steps(sandbox.tenant_id, kind, kind_no, users, time_zone, starts_on, days, seed, chunk_starts, span_ids) s
    order by s.chunk_no
  loop
    perform laurel_private.check_rehearsal_time(started_at);
    if chunk.steps <> '{}' then
      events := events + (select count(*) from unnest(chunk.steps) s where s.tick is null);
      refused := refused + laurel_private.rehearse_steps(sandbox.tenant_id, array(
        select (s.user_id,
          case when s.tick is null then (laurel_private.uuid_v7(), (s.event).tenant_id, (s.event).user_id, (s.event).metric_id, (s.event).metric_key,
            (s.event).value, (s.event).attributes, null, (s.event).occurred_at)::laurel.metric_events end,
          s.tick, s.span_no, s.due_at)::laurel_private.rehearsal_step
        from unnest(chunk.steps) with ordinality as s (user_id, event, tick, span_no, due_at, no)
        order by s.no), span_ids);
    end if;
    for achievement in
      select x.id, (a.value ->> 'day')::numeric::int as day
      from jsonb_array_elements(achievements) with ordinality a
      join laurel.achievements x on x.tenant_id = sandbox.tenant_id and x.key = a.value ->> 'key' and x.status = 'active'
      where (a.value ->> 'day')::numeric + 1 = coalesce(chunk_starts[chunk.chunk_no + 1], days + 1)
      order by a.ordinality
    loop
      perform laurel_private.rehearse_completion(sandbox.tenant_id, user_ids, achievement.id,
        (starts_on + (achievement.day - 1) + time '22:30') at time zone time_zone);
    end loop;
  end loop;

  return jsonb_build_object('name', kind -> 'name', 'users', kind -> 'users', 'simulatedUsers', users,
      'events', events * ((kind ->> 'users')::numeric / users), 'refusedEvents', refused * ((kind ->> 'users')::numeric / users))
    || laurel_private.rehearsal_figures(sandbox.tenant_id, sandbox.system_id, user_ids, starts_on, days,
      (kind ->> 'users')::numeric / users, sandbox.ids, new_triggers);
end
$$;

create function laurel_private.rehearse_scenario(system laurel.points_systems, scenario jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  started_at timestamptz := clock_timestamp();
  starts_on date := coalesce((scenario ->> 'start')::date, (now() at time zone 'UTC')::date);
  days int := (scenario ->> 'days')::numeric::int;
  seed bigint := coalesce((scenario ->> 'seed')::numeric::bigint, 0);
  sandbox record;
  new_triggers jsonb;
  span_ids uuid[];
  kinds jsonb := '[]';
  kind record;
begin
  select * into sandbox from laurel_private.open_sandbox(system, '{}', '{}');
  new_triggers := laurel_private.apply_draft(sandbox.system_id, nullif(scenario -> 'draft', 'null'), sandbox.ids, null, 'scenario.draft');
  update laurel.points_triggers t set activated_at = starts_on::timestamp at time zone 'UTC' - interval '1 day'
  where t.tenant_id = sandbox.tenant_id and t.status = 'active';
  span_ids := laurel_private.rehearse_spans(sandbox.tenant_id, '{}', starts_on::timestamp at time zone 'UTC' - interval '1 day');
  perform laurel_private.check_tick_count((
    select sum(case when laurel_private.is_random_kind(k) then (k ->> 'users')::numeric else 1 end * laurel_private.scenario_ticks(k, days, span_ids))
    from jsonb_array_elements(scenario -> 'kinds') k), laurel_private.largest_factor(scenario, false));
  for kind in select k.value, k.ordinality::int as no from jsonb_array_elements(scenario -> 'kinds') with ordinality k loop
    kinds := kinds || laurel_private.rehearse_kind(sandbox, kind.value, kind.no, starts_on, days, seed, new_triggers, span_ids, started_at);
  end loop;
  return jsonb_build_object('days', days, 'start', starts_on, 'seed', seed, 'kinds', kinds);
end
$$;

-- The admin API names systems by their IDs.
create function laurel_private.points_system_key(id uuid)
  returns text language plpgsql stable as $$
begin
  perform laurel.current_tenant_id(), laurel_private.require_points_system(id);
  return (select s.key from laurel.points_systems s where s.id = points_system_key.id);
end
$$;

grant execute on function laurel_private.points_system_key(uuid) to laurel_admin;

create function laurel.preview_points(system_key text, scenario jsonb)
  returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  answer jsonb;
begin
  perform laurel_private.check_scenario(system.tenant_id, scenario);
  begin
    answer := laurel_private.rehearse_scenario(system, scenario);
    -- Rolls back all of it; the variable stays.
    raise exception using errcode = 'LX000', message = 'The preview is over.';
  exception when sqlstate 'LX000' then
    return answer;
  end;
end
$$;

comment on function laurel.preview_points(text, jsonb) is
  'What a system''s rules, with drafts laid over them, would give kinds of users over some days. scenario: {days, start?, seed?, kinds: [{name, users, tz?, attributes?, activeDays?, events: [{metric, perDay, value?, attributes?}], achievements?: [{key, day}]}], draft?: {maxPoints?, triggers?, boosts?, levels?}}. Returns {kinds: [{name, totals: [{day, date, p10, p50, p90}], byTrigger: [{trigger, firings, awarded}], levels: [{key, share, medianDay}], lost: {rounding, cap, floor}}]}. Nothing is stored. LR004, LR060, LR061. Rule D1.';
grant execute on function laurel.preview_points(text, jsonb) to laurel_admin;
--! EndIncluded insight/preview_points.sql
--! Included insight/backtest_points.sql
-- Backtest (D2): what the rules of today, and the same with drafts laid over them, would have given
-- real users for what they really did. A sample of users is copied into a sandbox (sandboxes.sql)
-- as they stood before the first day; then what was recorded of them happens again, in the order in
-- which it was applied. Everything is rolled back.
--
-- Days are each user's own, by its time zone and with its attributes of today.

create function laurel_private.backtest_shape()
  returns jsonb language sql immutable as $$
  select jsonb_build_object('is', 'object', 'closed', true, 'needs', '["from", "to"]'::jsonb, 'has', '{
      "from": {"is": "date"},
      "to": {"is": "date"},
      "users": {"is": "object", "closed": true, "nullable": true, "has": {
        "sample": {"is": "integer", "least": 1, "most": 1000, "nullable": true},
        "seed": {"is": "integer", "least": -9007199254740991, "most": 9007199254740991, "nullable": true},
        "attributes": {"is": "map", "of": {"is": "string"}, "nullable": true}}}}'::jsonb
    || jsonb_build_object('draft', laurel_private.draft_shape()))
$$;

-- A user of the sample, and who it is in the sandbox.
create type laurel_private.backtest_user as (id text, sandbox_id text, time_zone text, created_at timestamptz);

-- What happens again, in the order it was applied. The clock is that of the user: the latest moment so far, beside which ticks
-- are placed, also where a history was imported in one go.
create type laurel_private.backtest_step as (
  user_no int, kind text, at timestamptz, event laurel.metric_events, points bigint, reason text, achievement_id uuid,
  tick bigint, span_no int, clock timestamptz
);

-- The users that a backtest is about: of those with these attributes, so many by the seed's lot.
create function laurel_private.backtest_users(for_tenant uuid, attributes jsonb, sample int, seed bigint)
  returns laurel.users[] language sql stable as $$
  select coalesce(array_agg(u order by u.id), '{}') from (
    select u from laurel.users u
    where u.tenant_id = for_tenant and (backtest_users.attributes = '{}' or u.attributes @> backtest_users.attributes)
    order by hashtextextended(u.id, seed), u.id
    limit sample) x
  cross join lateral (select (x.u).*) u
$$;

-- What was recorded of these users on these days of theirs: their creation, events, completions that no event brought, adjustments.
create function laurel_private.backtest_steps(system laurel.points_systems, people laurel.users[], starts_on date, ends_on date)
  returns laurel_private.backtest_step[] language sql stable as $$
  with person as materialized (
    select p.id, p.no::int, coalesce(p.tz, 'UTC') as time_zone,
      coalesce(a.occurred_at, p.created_at) as created_at, least(laurel_private.first_uuid_v7(p.created_at), a.event_id) as created_id
    from (select p.id, p.tz, p.created_at, row_number() over () as no from unnest(people) p) p
    left join lateral (
      select a.occurred_at, a.event_id from laurel.points_awards a
      where a.tenant_id = system.tenant_id and a.user_id = p.id and a.cause = 'user_creation'
      order by a.id limit 1) a on true
  ),
  step as (
    select p.no, p.created_id as id, 0 as place, 'creation' as kind, p.time_zone, p.created_at as at,
      null::laurel.metric_events as event, null::bigint as points, null::text as reason, null::uuid as achievement_id
    from person p
    union all
    select p.no, e.id, 1, 'event', p.time_zone, e.occurred_at, e.event, null, null, null
    from person p
    cross join lateral (
      select e.id, e.occurred_at, e as event from laurel.metric_events e
      join laurel.metrics m on m.id = e.metric_id and m.archived_at is null
      where e.tenant_id = system.tenant_id and e.user_id = p.id
      offset 0) e
    union all
    select p.no, c.id, 2, 'completion', p.time_zone, c.achieved_at, null, null, null, c.achievement_id
    from person p
    cross join lateral (
      select c.* from laurel.user_achievements c
      join laurel.achievements x on x.id = c.achievement_id and x.status = 'active'
      where c.tenant_id = system.tenant_id and c.user_id = p.id and c.event_id is null
      offset 0) c
    union all
    select p.no, a.id, 3, 'adjustment', p.time_zone, a.occurred_at, null, a.base_points::bigint, a.reason, null
    from person p
    cross join lateral (
      select a.* from laurel.points_awards a
      where a.tenant_id = system.tenant_id and a.user_id = p.id and a.system_id = system.id and a.cause = 'adjustment'
      offset 0) a
  )
  select coalesce(array_agg((s.no, s.kind, s.at, s.event, s.points, s.reason, s.achievement_id, null, null, s.clock)::laurel_private.backtest_step
    order by s.clock, s.id, s.place), '{}')
  from (select s.*, max(s.at) over (partition by s.no order by s.id, s.place) as clock from step s) s
  where (s.at at time zone s.time_zone)::date between starts_on and ends_on
$$;

-- Puts the copied users where they stood before the first day: totals and peaks, balances, counts of
-- triggers and achievements that filter events, completions. A filtered trigger has counted since it was activated; a new one not at all.
create function laurel_private.restore_users(
  system laurel.points_systems, sandbox record, people laurel.users[], user_ids jsonb, starts_on date
) returns void language plpgsql volatile as $$
#variable_conflict use_column
begin
  update laurel_private.user_states s
  set metric_ids = coalesce(m.ids, '{}'), metric_totals = coalesce(m.totals, '{}'), metric_peaks = coalesce(m.peaks, '{}'),
    last_event_ids = coalesce(m.last_ids, '{}'),
    system_ids = coalesce(b.ids, '{}'), totals = coalesce(b.totals, '{}'), last_sequences = coalesce(b.sequences, '{}')
  from unnest(people) p
  left join lateral (
    select array_agg((sandbox.ids ->> m.metric_id::text)::uuid) as ids, array_agg(m.total) as totals,
      array_agg(m.peak) as peaks, array_agg(m.last_id) as last_ids
    from (
      select e.metric_id, sum(e.value) as total, greatest(max(e.running), 0) as peak, (array_agg(e.id order by e.id desc))[1] as last_id
      from (
        select e.metric_id, e.id, e.value, sum(e.value) over (partition by e.metric_id order by e.id) as running
        from laurel.metric_events e
        where e.tenant_id = system.tenant_id and e.user_id = p.id
          and (e.occurred_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on) e
      where sandbox.ids ? e.metric_id::text
      group by e.metric_id) m) m on true
  left join lateral (
    select array_agg((sandbox.ids ->> a.system_id::text)::uuid) as ids, array_agg(a.total) as totals, array_agg(a.sequences) as sequences
    from (
      select a.system_id, sum(a.points)::bigint as total, count(*) as sequences
      from laurel.points_awards a
      where a.tenant_id = system.tenant_id and a.user_id = p.id
        and (a.occurred_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on
      group by a.system_id) a
    where sandbox.ids ? a.system_id::text) b on true
  where s.tenant_id = sandbox.tenant_id and s.user_id = user_ids ->> p.id;

  insert into laurel.points_trigger_counts (tenant_id, user_id, trigger_id, count, peak, since_event_id, trigger_version, attributes_version)
  select sandbox.tenant_id, user_ids ->> p.id, t.id, sum(e.value), greatest(max(e.running), 0), (array_agg(e.id))[1], t.version, 1
  from unnest(people) p
  cross join (
    select t.*, live.id as live_id, live.activated_at as live_since, live.metric_id as live_metric_id
    from laurel.points_triggers t
    join jsonb_each_text(sandbox.ids) i on i.value = t.id::text
    join laurel.points_triggers live on live.id = i.key::uuid
    where t.tenant_id = sandbox.tenant_id and t.status = 'active' and t.event_attributes <> '{}' and live.metric_id is not null) t
  cross join lateral (
    select e.id, e.value, sum(e.value) over (order by e.id) as running
    from laurel.metric_events e
    where e.tenant_id = system.tenant_id and e.user_id = p.id and e.metric_id = t.live_metric_id
      and e.id >= laurel_private.first_uuid_v7(t.live_since) and e.attributes @> t.event_attributes
      and (e.occurred_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on
    offset 0) e
  where p.attributes @> t.user_attributes
  group by p.id, t.id, t.version;

  insert into laurel.user_achievements (tenant_id, user_id, achievement_id, achieved_at, is_silent)
  select sandbox.tenant_id, user_ids ->> p.id, (sandbox.ids ->> c.achievement_id::text)::uuid, c.achieved_at, true
  from unnest(people) p
  join laurel.user_achievements c on c.tenant_id = system.tenant_id and c.user_id = p.id
  where sandbox.ids ? c.achievement_id::text and (c.achieved_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on;

  insert into laurel_private.achievement_counts (tenant_id, user_id, achievement_id, count)
  select sandbox.tenant_id, user_ids ->> p.id, (sandbox.ids ->> a.id::text)::uuid, sum(e.value)
  from unnest(people) p
  join laurel.achievements a on a.tenant_id = system.tenant_id and a.status = 'active' and a.event_attributes <> '{}'
  join laurel.metric_events e on e.tenant_id = system.tenant_id and e.user_id = p.id and e.metric_id = a.metric_id
    and e.attributes @> a.event_attributes and (e.occurred_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on
  group by p.id, a.id;
end
$$;

-- The streaks that the copied users had before the first day: periods, freezes and pauses as they were then. A streak whose settings
-- are of another frequency today starts anew.
create function laurel_private.restore_streaks(
  system laurel.points_systems, sandbox record, people laurel.users[], user_ids jsonb, starts_on date
) returns void language plpgsql volatile as $$
#variable_conflict use_column
declare
  settings laurel_private.streak_settings;
begin
  select s.* into strict settings from laurel_private.streak_settings s where s.tenant_id = sandbox.tenant_id;
  insert into laurel_private.streak_pauses (tenant_id, user_id, starts_on, ends_on)
  select sandbox.tenant_id, user_ids ->> q.user_id, q.starts_on, q.ends_on
  from unnest(people) p
  join laurel_private.streak_pauses q on q.tenant_id = system.tenant_id and q.user_id = p.id and q.archived_at is null;
  insert into laurel_private.streak_periods (tenant_id, user_id, frequency, period_start, kind, event_id, occurred_at, reset_at)
  select sandbox.tenant_id, user_ids ->> q.user_id, q.frequency, q.period_start, q.kind, q.event_id, q.occurred_at, q.reset_at
  from unnest(people) p
  join laurel_private.streak_periods q on q.tenant_id = system.tenant_id and q.user_id = p.id and q.frequency = settings.frequency
  where case when q.kind = 'satisfied' then q.period_start < starts_on and (q.occurred_at at time zone coalesce(p.tz, 'UTC'))::date < starts_on
    else laurel_private.next_streak_period(q.period_start, q.frequency) <= starts_on end;
  -- Of a run that goes on into these days, what lies before them.
  insert into laurel_private.streak_runs (tenant_id, user_id, frequency, first_period, last_period, through_period, length, is_over, is_closed, extended_at)
  select sandbox.tenant_id, user_ids ->> r.user_id, r.frequency, r.first_period, q.last_period, q.through_period, q.length,
    r.is_over and q.through_period = r.through_period
      and laurel_private.next_streak_period(laurel_private.next_streak_period(q.through_period, r.frequency), r.frequency) <= starts_on,
    r.is_closed and q.through_period = r.through_period, q.extended_at
  from unnest(people) p
  join laurel_private.streak_runs r on r.tenant_id = system.tenant_id and r.user_id = p.id and r.frequency = settings.frequency
  cross join lateral (
    select max(q.period_start) filter (where q.kind = 'satisfied') as last_period, max(q.period_start) as through_period,
      (count(*) filter (where q.kind = 'satisfied'))::int as length, max(q.occurred_at) as extended_at
    from laurel_private.streak_periods q
    where q.tenant_id = sandbox.tenant_id and q.user_id = user_ids ->> r.user_id and q.frequency = r.frequency
      and q.period_start between r.first_period and r.through_period) q
  where q.length > 0;
  delete from laurel_private.user_streaks u where u.tenant_id = sandbox.tenant_id;
  insert into laurel_private.user_streaks (tenant_id, user_id, frequency, length, longest, extended_at, freezes, earned_on, settled_on)
  select sandbox.tenant_id, user_ids ->> p.id, settings.frequency, coalesce(r.length, 0), coalesce(l.longest, 0), r.extended_at,
    case when c.created_on < starts_on then coalesce(f.freezes, 0) else coalesce(settings.freeze_start_count, 0) end,
    -- In the rhythm in which they were earned before.
    case when settings.freeze_earn_interval is not null then b.earned_on
      + greatest((starts_on - 1 - b.earned_on) / settings.freeze_earn_interval, 0) * settings.freeze_earn_interval end,
    case when c.created_on < starts_on then starts_on - 1 else starts_on end
  from unnest(people) p
  cross join lateral (select (p.created_at at time zone coalesce(p.tz, 'UTC'))::date as created_on) c
  left join lateral (
    select r.length, r.extended_at from laurel_private.streak_runs r
    where r.tenant_id = sandbox.tenant_id and r.user_id = user_ids ->> p.id and not r.is_over
    order by r.first_period desc limit 1) r on true
  left join lateral (
    select max(r.length) as longest from laurel_private.streak_runs r
    where r.tenant_id = sandbox.tenant_id and r.user_id = user_ids ->> p.id) l on true
  left join lateral (
    select f.freezes from laurel_private.streak_freezes f
    where f.tenant_id = system.tenant_id and f.user_id = p.id and f.on_date < starts_on
    order by f.id desc limit 1) f on true
  left join lateral (
    select max(f.on_date) as earned_on from laurel_private.streak_freezes f
    where f.tenant_id = system.tenant_id and f.user_id = p.id and f.cause = 'earned' and f.on_date < starts_on) e on true
  cross join lateral (
    select coalesce(e.earned_on, c.created_on) as earned_on) b;
end
$$;

-- Since when a user was there: of an import, from its first event.
create function laurel_private.known_since(for_user laurel.users)
  returns timestamptz language sql stable as $$
  select least(for_user.created_at, (
    select min(e.occurred_at) from laurel.metric_events e where e.tenant_id = for_user.tenant_id and e.user_id = for_user.id))
$$;

-- The ticks that the users live through on these days of theirs, of rules that were live before with the phase that they had.
create function laurel_private.backtest_ticks(people laurel.users[], span_ids uuid[], starts_on date, ends_on date)
  returns table (user_no int, span_no int, tick bigint, due_at timestamptz) language sql stable as $$
  select p.no, n.no::int, k.tick, d.due_at
  from (select p as person, row_number() over ()::int as no, coalesce(p.tz, 'UTC') as time_zone, laurel_private.known_since(p) as since from unnest(people) p) p
  cross join unnest(span_ids) with ordinality n (id, no)
  join laurel_private.time_trigger_spans s on s.id = n.id
  cross join lateral (select greatest(s.activated_at, p.since) as started_at) c
  cross join lateral generate_series(
    laurel_private.ticks_due_by(c.started_at, s.time_unit, s.time_interval, p.time_zone,
      starts_on::timestamp at time zone p.time_zone - interval '1 microsecond') + 1,
    laurel_private.ticks_due_by(c.started_at, s.time_unit, s.time_interval, p.time_zone,
      (ends_on + 1)::timestamp at time zone p.time_zone - interval '1 microsecond')) k (tick)
  cross join lateral (
    select laurel_private.tick_due_at(c.started_at, s.time_unit, s.time_interval, p.time_zone, k.tick)) d (due_at)
  where (p.person).attributes @> s.user_attributes
$$;

-- One side of the comparison, in a sandbox of its own.
create function laurel_private.rehearse_history(
  system laurel.points_systems, people laurel.users[], steps laurel_private.backtest_step[], draft jsonb, starts_on date, ends_on date, started_at timestamptz
) returns jsonb language plpgsql volatile as $$
#variable_conflict use_variable
declare
  sandbox record;
  nonce text := laurel_private.uuid_v7();
  user_ids jsonb;
  names text[];
  new_triggers jsonb;
  totals_before bigint[];
  step laurel_private.backtest_step;
  event laurel.metric_events;
  pending laurel_private.rehearsal_step[] := '{}';
  span_ids uuid[];
  refused int := 0;
  most_steps constant int := 4000;
begin
  select jsonb_object_agg(p.id, nonce || '/' || p.no), array_agg(nonce || '/' || p.no order by p.no) into user_ids, names
  from (select p.id, row_number() over () as no from unnest(people) p) p;
  select * into sandbox from laurel_private.open_sandbox(system, user_ids, people);
  new_triggers := laurel_private.apply_draft(sandbox.system_id, draft, sandbox.ids, user_ids, 'request.draft');
  perform laurel_private.restore_users(system, sandbox, people, user_ids, starts_on),
    laurel_private.restore_streaks(system, sandbox, people, user_ids, starts_on);
  span_ids := laurel_private.rehearse_spans(sandbox.tenant_id, sandbox.ids, coalesce((
    select min(starts_on::timestamp at time zone coalesce(p.tz, 'UTC')) from unnest(people) p), starts_on::timestamp at time zone 'UTC'));
  if span_ids <> '{}' then
    -- About as many, before they are made.
    perform laurel_private.check_tick_count((
      select coalesce(sum(floor((ends_on - starts_on + 1) * case s.time_unit when 'hours' then 24.0 else 1 end / s.time_interval)), 0)
      from unnest(people) p
      join laurel_private.time_trigger_spans s on s.id = any (span_ids) and p.attributes @> s.user_attributes),
      'users.sample');
    steps := array(
      select (s.user_no, s.kind, s.at, s.event, s.points, s.reason, s.achievement_id, s.tick, s.span_no, s.clock)::laurel_private.backtest_step
      from (
        select s.*, 1 as place
        from unnest(steps) with ordinality
          as s (user_no, kind, at, event, points, reason, achievement_id, tick, span_no, clock, no)
        union all
        select t.user_no, 'tick', t.due_at, null, null, null, null, t.tick, t.span_no, t.due_at, t.span_no, 0
        from laurel_private.backtest_ticks(people, span_ids, starts_on, ends_on) t) s
      order by s.clock, s.place, s.no);
  end if;
  totals_before := array(
    select coalesce(s.totals[array_position(s.system_ids, sandbox.system_id)], 0)
    from unnest(names) with ordinality n (id, no)
    join laurel_private.user_states s on s.tenant_id = sandbox.tenant_id and s.user_id = n.id order by n.no);

  foreach step in array steps || array[(null, 'end', null, null, null, null, null, null, null, null)::laurel_private.backtest_step] loop
    if cardinality(pending) > 0 and (step.kind not in ('event', 'tick') or cardinality(pending) >= most_steps) then
      perform laurel_private.check_rehearsal_time(started_at);
      refused := refused + laurel_private.rehearse_steps(sandbox.tenant_id, pending, span_ids);
      pending := '{}';
    end if;
    case step.kind
      when 'event' then
        event := step.event;
        event.id := laurel_private.uuid_v7();
        event.tenant_id := sandbox.tenant_id;
        event.user_id := names[step.user_no];
        event.metric_id := (sandbox.ids ->> event.metric_id::text)::uuid;
        -- Those that were replays are not in the log.
        event.idempotency_key := null;
        pending := pending || (names[step.user_no], event, null, null, null)::laurel_private.rehearsal_step;
      when 'tick' then
        pending := pending || (names[step.user_no], null, step.tick, step.span_no, step.at)::laurel_private.rehearsal_step;
      when 'creation' then
        perform laurel_private.apply_occasions(sandbox.tenant_id, '{}', array[(names[step.user_no],
          array[('user_creation', null, null, null, null, step.at, null, null, null)::laurel_private.occasion])::laurel_private.user_occasions]);
      when 'completion' then
        perform laurel_private.rehearse_completion(sandbox.tenant_id, array[names[step.user_no]],
          (sandbox.ids ->> step.achievement_id::text)::uuid, step.at);
      when 'adjustment' then
        perform laurel_private.rehearse_adjustment(sandbox.tenant_id, sandbox.system_id, names[step.user_no], step.points, step.reason, step.at);
      when 'end' then
        null;
    end case;
  end loop;
  return jsonb_build_object('refusedEvents', refused) || laurel_private.rehearsal_figures(sandbox.tenant_id, sandbox.system_id,
    names, starts_on, ends_on - starts_on + 1, 1, sandbox.ids, new_triggers, totals_before);
end
$$;

-- As adjust_points(), at a moment of the past.
create function laurel_private.rehearse_adjustment(
  tenant_id uuid, system_id uuid, user_id text, points bigint, reason text, adjusted_at timestamptz
) returns void language plpgsql volatile as $$
#variable_conflict use_column
declare
  system laurel.points_systems;
  effects laurel_private.points_effects;
begin
  select s.* into system from laurel.points_systems s where s.id = rehearse_adjustment.system_id;
  effects := (select laurel_private.decide_points(
    (s.tenant_id, s.user_id, s.time_zone, s.attributes, s.attributes_version, false)::laurel_private.locked_user,
    array[(null, 'adjustment', 1, system.id, system.key, system.max_points, points, null, null, null, null, null, null, false, 1)::laurel_private.trigger_rule],
    '{}', array[('adjustment', null, null, null, null, adjusted_at, reason, null, null)::laurel_private.occasion],
    '{}', '{}', null, null,
    array[coalesce(s.totals[array_position(s.system_ids, system.id)], 0)],
    array[coalesce(s.last_sequences[array_position(s.system_ids, system.id)], 0)])
  from laurel_private.user_states s
  where s.tenant_id = rehearse_adjustment.tenant_id and s.user_id = rehearse_adjustment.user_id);
  perform laurel_private.write_awards(array[effects]),
    laurel_private.write_states(tenant_id, '{}', array[(system.id, system.key, system.max_points, null)::laurel_private.system_rule], array[effects]);
end
$$;

create function laurel.backtest_points(system_key text, request jsonb)
  returns jsonb language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set jit = off
as $$
declare
  started_at timestamptz := clock_timestamp();
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  starts_on date;
  ends_on date;
  attributes jsonb;
  people laurel.users[];
  steps laurel_private.backtest_step[];
  event_count bigint;
  answer jsonb;
  side text;
  figures jsonb;
begin
  perform laurel_private.check_shape(request, laurel_private.backtest_shape(), 'request');
  starts_on := request ->> 'from';
  ends_on := request ->> 'to';
  if ends_on < starts_on then
    perform laurel_private.refuse_document('request.to must not be before request.from');
  elsif ends_on - starts_on > 365 then
    perform laurel_private.fail('LR061', 'from', format('%s days, where 366 are possible', ends_on - starts_on + 1));
  end if;
  attributes := coalesce(nullif(request #> '{users,attributes}', 'null'), '{}');
  if exists (
    select from jsonb_object_keys(attributes) k
    where not exists (select from laurel.attributes a where a.tenant_id = system.tenant_id and a.type = 'user' and a.key = k))
  then
    perform laurel_private.refuse_document('request.users.attributes names attributes that are not declared');
  end if;
  people := laurel_private.backtest_users(system.tenant_id, attributes,
    coalesce((request #>> '{users,sample}')::numeric::int, 100), coalesce((request #>> '{users,seed}')::numeric::bigint, 0));
  if cardinality(people) * (ends_on - starts_on + 1) > 100000 then
    perform laurel_private.fail('LR061', case when cardinality(people) < ends_on - starts_on then 'from' else 'users.sample' end, format('%s users × days, where 100,000 are possible', cardinality(people) * (ends_on - starts_on + 1)));
  end if;
  -- Counted up to the bound: their whole past has to be read.
  select count(*) into event_count from (
    select from unnest(people) p
    cross join lateral (
      select from laurel.metric_events e where e.tenant_id = system.tenant_id and e.user_id = p.id offset 0) e
    limit 200001) e;
  if event_count > 200000 then
    perform laurel_private.fail('LR061', 'users.sample', 'these users have more than 200,000 events');
  end if;
  steps := laurel_private.backtest_steps(system, people, starts_on, ends_on);
  select count(*) into event_count from unnest(steps) s where s.kind = 'event';
  if event_count > 100000 then
    perform laurel_private.fail('LR061', 'users.sample', format('%s events in this time, where 100,000 are possible', event_count));
  end if;

  answer := jsonb_build_object('from', starts_on, 'to', ends_on, 'users', cardinality(people), 'events', event_count);
  foreach side in array array['current', 'draft'] loop
    begin
      figures := laurel_private.rehearse_history(system, people, steps,
        case side when 'draft' then nullif(request -> 'draft', 'null') end, starts_on, ends_on, started_at);
      raise exception using errcode = 'LX000', message = 'The backtest is over.';
    exception when sqlstate 'LX000' then
      answer := answer || jsonb_build_object(side, figures);
    end;
  end loop;
  return answer;
end
$$;

comment on function laurel.backtest_points(text, jsonb) is
  'What today''s rules, and the same with drafts laid over them, would have given a sample of real users for what they did on these days. request: {from, to, users?: {sample, seed, attributes}, draft?: {maxPoints?, triggers?, boosts?, levels?}}. Returns {users, events, current, draft}, each side with totals by day, byTrigger, levels and lost as in preview_points(). Nothing is stored. LR004, LR060, LR061. Rule D2.';
grant execute on function laurel.backtest_points(text, jsonb) to laurel_admin;
--! EndIncluded insight/backtest_points.sql
--! Included insight/points_analytics.sql
-- Analytics of a points system (D3): what its users earned over some days, from the rollups and what is not
-- folded into them yet (points_rollups.sql), and so exact at any moment. Days are UTC days of the awards'
-- dates; "earned" is what awards added, "deducted" what deductions took. All of it may be narrowed to users with
-- some attributes, of today: then it is from the rollups of the segments that match (users/segments.sql). What users earned
-- in days that are no window reads a row of each, with its sums.

-- Checks a range of days and a filter, as every figure here takes them.
create function laurel_private.analytics_filter(system laurel.points_systems, from_on date, to_on date, user_attributes text)
  returns jsonb language plpgsql stable as $$
begin
  if from_on is null or to_on is null or not isfinite(from_on) or not isfinite(to_on) then
    perform laurel_private.fail('LR023', case when isfinite(from_on) then 'to' else 'from' end, 'from and to must be dates');
  elsif to_on < from_on then
    perform laurel_private.fail('LR023', 'to', 'to must not be before from');
  elsif to_on - from_on > 400 then
    perform laurel_private.fail('LR023', 'from', 'from and to are more than 400 days apart');
  end if;
  return laurel_private.parse_user_attributes(system.tenant_id, user_attributes);
end
$$;

-- A system's days, by trigger; of users with these attributes.
create function laurel_private.system_days(system laurel.points_systems, from_on date, to_on date, filter jsonb)
  returns table (day date, cause laurel.points_award_cause, trigger_id uuid, earned numeric, boosted numeric, deducted numeric, awards bigint)
  language plpgsql stable as $$
#variable_conflict use_column
declare
  segments uuid[] := laurel_private.matching_segments(system.tenant_id, filter);
begin
  return query
    select d.day, d.cause, d.trigger_id, sum(d.earned), sum(d.boosted), sum(d.deducted), sum(d.awards)::bigint
    from (
      select d.day, d.cause, d.trigger_id, d.earned, d.boosted, d.deducted, d.awards
      from laurel_private.points_days d
      where d.tenant_id = system.tenant_id and d.segment_id = any (segments) and d.system_id = system.id and d.day between from_on and to_on
      union all
      select f.day, f.cause, f.trigger_id, f.sign * f.earned, f.sign * f.boosted, f.sign * f.deducted, f.sign
      from laurel_private.unfolded_figures(system.tenant_id, system.id, filter) f
      where f.day between from_on and to_on) d
    group by 1, 2, 3;
end
$$;

-- How much more than before, in percent; null when there was nothing before.
create function laurel_private.change_in_percent(now_is numeric, before numeric)
  returns numeric language sql immutable
  return case when before <> 0 then round(100 * (now_is - before) / before, 1) end;

create function laurel.points_earned(system_key text, from_on date, to_on date, unit text default 'day', user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  filter jsonb := laurel_private.analytics_filter(system, from_on, to_on, user_attributes);
  length int := to_on - from_on + 1;
begin
  if unit is null or unit not in ('day', 'week', 'month') then
    perform laurel_private.fail('LR023', 'unit', 'unit must be day, week or month');
  end if;
  return (
    with day as materialized (
      select d.day, sum(d.earned) as earned, sum(d.boosted) as boosted, sum(d.deducted) as deducted
      from laurel_private.system_days(system, from_on - length, to_on, filter) d group by d.day
    ),
    period as (
      select case unit when 'day' then d.day when 'week' then d.day - extract(dow from d.day)::int
          else date_trunc('month', d.day::timestamp)::date end as first_on, d.day
      from (select from_on + n as day from generate_series(0, length - 1) n) d
    ),
    series as (
      select p.first_on, coalesce(sum(d.earned), 0) as earned, coalesce(sum(d.boosted), 0) as boosted, coalesce(sum(d.deducted), 0) as deducted
      from period p left join day d on d.day = p.day group by p.first_on
    ),
    total as (
      select coalesce(sum(d.earned) filter (where d.day >= from_on), 0) as earned, coalesce(sum(d.boosted) filter (where d.day >= from_on), 0) as boosted,
        coalesce(sum(d.deducted) filter (where d.day >= from_on), 0) as deducted, coalesce(sum(d.earned) filter (where d.day < from_on), 0) as before
      from day d
    )
    select jsonb_build_object('from', from_on, 'to', to_on, 'unit', unit,
      'earned', t.earned, 'boosted', t.boosted, 'notBoosted', t.earned - t.boosted, 'deducted', t.deducted,
      'before', jsonb_build_object('from', from_on - length, 'to', from_on - 1, 'earned', t.before),
      'changePercent', laurel_private.change_in_percent(t.earned, t.before),
      'series', (
        select jsonb_agg(jsonb_build_object('date', s.first_on, 'earned', s.earned, 'boosted', s.boosted,
          'notBoosted', s.earned - s.boosted, 'deducted', s.deducted) order by s.first_on) from series s))
    from total t);
end
$$;

comment on function laurel.points_earned(text, date, date, text, text) is
  'Points earned by all users of a system from one UTC day to another, boosted and not, and deducted: in total, by day, week (from Sunday) or month, and beside the range of the same length before. user_attributes (key:value,key:value) narrows it to users who carry them today. LR004, LR012, LR013, LR023. Rule D3.';

create function laurel.points_breakdown(system_key text, from_on date, to_on date, user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  filter jsonb := laurel_private.analytics_filter(system, from_on, to_on, user_attributes);
  length int := to_on - from_on + 1;
begin
  return (
    with trigger as materialized (
      select d.cause, d.trigger_id, coalesce(sum(d.earned) filter (where d.day >= from_on), 0) as earned,
        coalesce(sum(d.boosted) filter (where d.day >= from_on), 0) as boosted,
        coalesce(sum(d.deducted) filter (where d.day >= from_on), 0) as deducted,
        coalesce(sum(d.awards) filter (where d.day >= from_on), 0) as awards,
        coalesce(sum(d.earned) filter (where d.day < from_on), 0) as before
      from laurel_private.system_days(system, from_on - length, to_on, filter) d group by d.cause, d.trigger_id
    ),
    total as (select coalesce(sum(t.earned), 0) as earned, coalesce(sum(t.before), 0) as before from trigger t),
    cause as (
      select t.cause, sum(t.earned) as earned, sum(t.boosted) as boosted, sum(t.deducted) as deducted, sum(t.awards) as awards, sum(t.before) as before
      from trigger t group by t.cause
    )
    select jsonb_build_object('from', from_on, 'to', to_on, 'earned', total.earned,
      'before', jsonb_build_object('from', from_on - length, 'to', from_on - 1, 'earned', total.before),
      'changePercent', laurel_private.change_in_percent(total.earned, total.before),
      'byType', (
        select coalesce(jsonb_agg(jsonb_build_object('type', c.cause, 'earned', c.earned, 'boosted', c.boosted, 'deducted', c.deducted,
          'awards', c.awards, 'share', round(c.earned / nullif(total.earned, 0), 4), 'before', c.before,
          'changePercent', laurel_private.change_in_percent(c.earned, c.before)) order by c.earned desc, c.cause), '[]')
        from cause c where c.awards > 0),
      'byTrigger', (
        select coalesce(jsonb_agg(jsonb_build_object('trigger', laurel_private.trigger_as_json(x), 'type', t.cause, 'earned', t.earned,
          'boosted', t.boosted, 'deducted', t.deducted, 'awards', t.awards, 'share', round(t.earned / nullif(total.earned, 0), 4),
          'before', t.before, 'changePercent', laurel_private.change_in_percent(t.earned, t.before))
          order by t.earned desc, t.trigger_id), '[]')
        from trigger t left join laurel.points_triggers x on x.id = t.trigger_id where t.awards > 0))
    from total);
end
$$;

comment on function laurel.points_breakdown(text, date, date, text) is
  'What a system''s points from one UTC day to another came from: by type of trigger and by trigger (null for adjustments), with shares of what was earned, and beside what came from them in the range of the same length before. LR004, LR012, LR013, LR023. Rule D3.';

-- Buckets as [{from, to, users}], `nobody` in front: users who earned nothing.
create function laurel_private.histogram(buckets int[], users bigint[], nobody bigint)
  returns jsonb language sql immutable as $$
  select jsonb_build_array(jsonb_build_object('from', 0, 'to', 0, 'users', nobody)) || coalesce((
    select jsonb_agg(jsonb_build_object('from', s.starts[n], 'to', s.starts[n + 1] - 1,
      'users', coalesce((select sum(b.users) from unnest(buckets, users) b (bucket, users) where b.bucket = n), 0)) order by n)
    from (select laurel_private.bucket_starts() as starts) s
    cross join generate_series(1, (select max(b.bucket) from unnest(buckets, users) b (bucket, users) where b.users > 0)) n), '[]')
$$;

-- What users earned on some days, by range: how many users, their points, and who earned most. `is_before` says which
-- of the two it is of, the days themselves or as many days before.
create type laurel_private.earnings_by_users as (is_before boolean, buckets int[], users bigint[], points numeric, most numeric, most_user_id text);

-- From the sums of the last 7, 30 or 90 days and those before, each user of the tail, and each who has moved from one
-- segment to another, moved to where it is now.
create function laurel_private.window_earnings(system laurel.points_systems, days int, ends_on date, filter jsonb)
  returns setof laurel_private.earnings_by_users language plpgsql stable as $$
#variable_conflict use_column
declare
  segments uuid[] := laurel_private.matching_segments(system.tenant_id, filter);
  starts numeric[] := laurel_private.bucket_starts();
begin
  return query
    with part as (
      select p.is_before, (case when p.is_before then 'before_' else 'last_' end || days)::laurel_private.earning_figure as figure
      from (values (false), (true)) p (is_before)
    ),
    gone as materialized (
      select m.user_id, m.sign from laurel_private.moved_users(system.tenant_id, filter) m
    ),
    changed as materialized (
      select c.is_before, c.user_id, sum(c.points) as points, sum(c.sign) as sign
      from (
        select ends_on - t.day >= days as is_before, t.user_id, t.points, 0 as sign
        from (
          select a.user_id, a.points, laurel_private.utc_day(a.occurred_at) as day
          from laurel_private.ledger_tail(system.tenant_id, system.id, filter) a where a.points > 0) t
        where t.day between ends_on - 2 * days + 1 and ends_on
        union all
        select p.is_before, g.user_id, 0, g.sign from gone g cross join part p) c
      group by 1, 2
    ),
    moved as materialized (
      select c.is_before, c.user_id, case when c.sign > 0 then 0 else coalesce(e.earned, 0) end as old,
        case when c.sign < 0 then 0 else coalesce(e.earned, 0) + c.points end as new
      from changed c
      -- One by one through the key, however many the planner takes the tail for.
      left join lateral (
        select case days when 7 then case when c.is_before then e.before_7 else e.last_7 end
          when 30 then case when c.is_before then e.before_30 else e.last_30 end
          else case when c.is_before then e.before_90 else e.last_90 end end as earned
        from laurel_private.user_earnings e
        where e.tenant_id = system.tenant_id and e.user_id = c.user_id and e.system_id = system.id offset 0) e on true
    ),
    bucket as (
      select b.is_before, b.bucket, sum(b.users)::bigint as users, sum(b.points) as points
      from (
        select p.is_before, k.bucket, k.users, k.points
        from part p
        join laurel_private.earning_buckets k on k.figure = p.figure
        where k.tenant_id = system.tenant_id and k.segment_id = any (segments) and k.system_id = system.id and k.joined_on = 'epoch'
        union all
        select m.is_before, laurel_private.bucket_of(m.old, starts), -1, -m.old from moved m where m.old > 0
        union all
        select m.is_before, laurel_private.bucket_of(m.new, starts), 1, m.new from moved m where m.new > 0) b
      group by 1, 2
    ),
    top as (
      select p.is_before, p.figure, t.segment_id, t.earned, t.user_id, g.user_id is not null as is_gone
      from part p
      join laurel_private.top_earners t on t.figure = p.figure
      left join gone g on g.user_id = t.user_id and g.sign < 0
      where t.tenant_id = system.tenant_id and t.segment_id = any (segments) and t.system_id = system.id
    ),
    most as (
      select distinct on (m.is_before) m.*
      from (
        select t.is_before, t.earned, t.user_id from top t where not t.is_gone
        union all
        -- Until the next fold, a segment that has lost its first is looked through for its second.
        select t.is_before, f.earned, f.user_id
        from top t
        cross join lateral (
          select f.earned, f.user_id
          from laurel_private.earning_figures f
          where f.tenant_id = system.tenant_id and f.segment_id = t.segment_id and f.system_id = system.id and f.figure = t.figure
            and not exists (select from gone g where g.user_id = f.user_id and g.sign < 0)
          order by f.earned desc, f.user_id limit 1) f
        where t.is_gone
        union all
        select m.is_before, m.new, m.user_id from moved m where m.new > 0) m
      order by m.is_before, m.earned desc, m.user_id
    )
    select p.is_before, b.buckets, b.users, b.points, m.earned, m.user_id
    from part p
    left join (
      select b.is_before, array_agg(b.bucket) as buckets, array_agg(b.users) as users, sum(b.points) as points
      from bucket b group by 1) b on b.is_before = p.is_before
    left join most m on m.is_before = p.is_before;
end
$$;

-- Who of those that points are folded of has these attributes today; null when they are more than `most`.
create function laurel_private.users_with(of_tenant uuid, filter jsonb, most int)
  returns text[] language plpgsql stable as $$
declare
  segments uuid[] := laurel_private.matching_segments(of_tenant, filter);
  ids text[] := array(
    select s.user_id from laurel_private.user_segments s where s.tenant_id = of_tenant and s.segment_id = any (segments) limit most + 1);
  came text[];
  went text[];
begin
  if cardinality(ids) > most then
    return null;
  end if;
  select array_agg(m.user_id) filter (where m.sign > 0), array_agg(m.user_id) filter (where m.sign < 0) into came, went
  from laurel_private.moved_users(of_tenant, filter) m;
  return array(select id from unnest(ids || came) id where went is null or id not in (select g from unnest(went) g));
end
$$;

-- Up to so many users are looked up one by one; of more, everybody's rows are read.
create function laurel_private.few_users()
  returns int language sql immutable parallel safe
  return 50000;

-- What a user earned on these days, by the sums of a year.
create function laurel_private.earned_between(days date[], sums bigint[], from_on date, to_on date)
  returns bigint language sql immutable parallel safe
  return coalesce(sums[width_bucket(to_on, days)], 0) - coalesce(sums[width_bucket(from_on - 1, days)], 0);

-- What each user earned by its sums, a row for each of its years. Of users who earned nothing on these days as well.
create function laurel_private.summed_earnings(system laurel.points_systems, from_on date, to_on date)
  returns table (user_id text, earned bigint) language sql stable parallel safe as $$
  select y.user_id, laurel_private.earned_between(y.days, y.sums, from_on, to_on)
  from laurel_private.user_points_years y
  where y.tenant_id = system.tenant_id and y.system_id = system.id
    and y.year between laurel_private.year_of(from_on) and laurel_private.year_of(to_on)
$$;

-- The same of some users, one by one through the key.
create function laurel_private.summed_earnings_of(ids text[], system laurel.points_systems, from_on date, to_on date)
  returns table (user_id text, earned bigint) language sql stable parallel safe as $$
  select u.id, laurel_private.earned_between(y.days, y.sums, from_on, to_on)
  from unnest(ids) u (id)
  cross join lateral (
    select y.days, y.sums from laurel_private.user_points_years y
    where y.tenant_id = system.tenant_id and y.system_id = system.id and y.user_id = u.id
      and y.year between laurel_private.year_of(from_on) and laurel_private.year_of(to_on) offset 0) y
$$;

-- For any days, and any users: from their sums, and from their days and the ledger's tail what is not in these.
create function laurel_private.range_figures(system laurel.points_systems, from_on date, to_on date, filter jsonb, few text[])
  returns table (buckets int[], users bigint[], points numeric, most numeric, most_user_id text) language plpgsql stable
  -- A group for every user, in memory, should the days be of two years; and joins of many with many, whatever the
  -- planner takes a filter for. A process more for a million rows: fewer groups come back than the planner expects,
  -- who is to know what the arguments are.
  set work_mem = '128MB' set enable_nestloop = off set parallel_tuple_cost = 0.01 set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
  summed_before date := (select f.windows_end_on from laurel_private.earnings_fold f);
  is_one_year boolean := laurel_private.year_of(from_on) = laurel_private.year_of(to_on);
  starts numeric[] := laurel_private.bucket_starts();
  changed_ids text[];
  changed_earned numeric[];
begin
  -- By itself: the ledger's tail is not worth processes of its own, what follows is.
  select array_agg(c.user_id), array_agg(c.earned) into changed_ids, changed_earned
  from (
    select c.user_id, sum(c.earned) as earned
    from (
      select d.user_id, d.earned from laurel_private.user_points_days d
      where d.tenant_id = system.tenant_id and d.system_id = system.id and d.day between greatest(from_on, summed_before) and to_on
        and (few is null or d.user_id in (select f from unnest(few) f))
        and (filter = '{}' or few is not null or d.user_id in (
          select u.id from laurel.users u where u.tenant_id = system.tenant_id and u.attributes @> filter))
      union all
      select a.user_id, a.points from laurel_private.ledger_tail(system.tenant_id, system.id, filter) a
      where a.points > 0 and laurel_private.utc_day(a.occurred_at) between from_on and to_on) c
    group by c.user_id) c;
  return query
    with moved as materialized (
      select c.user_id, coalesce(s.earned, 0) as old, coalesce(s.earned, 0) + c.earned as new
      from unnest(changed_ids, changed_earned) c (user_id, earned)
      left join (
        select s.user_id, sum(s.earned) as earned from laurel_private.summed_earnings_of(changed_ids, system, from_on, to_on) s
        group by 1) s on s.user_id = c.user_id
    ),
    -- Many earned the same: what follows is done once for all of them. Nothing as well, or sums would be looked up twice.
    part as materialized (
      select s.earned, count(*) as users, min(s.user_id) as user_id
      from laurel_private.summed_earnings(system, from_on, to_on) s
      where few is null and is_one_year and (filter = '{}' or s.user_id in (
        select u.id from laurel.users u where u.tenant_id = system.tenant_id and u.attributes @> filter))
      group by 1
      union all
      select s.earned, count(*), min(s.user_id)
      from (
        select s.user_id, sum(s.earned) as earned from laurel_private.summed_earnings(system, from_on, to_on) s
        where few is null and not is_one_year and (filter = '{}' or s.user_id in (
          select u.id from laurel.users u where u.tenant_id = system.tenant_id and u.attributes @> filter))
        group by 1) s
      group by 1
      union all
      select s.earned, count(*), min(s.user_id)
      from (
        select s.user_id, sum(s.earned) as earned from laurel_private.summed_earnings_of(few, system, from_on, to_on) s group by 1) s
      group by 1
      union all
      select m.old, -count(*), null from moved m group by 1
      union all
      select m.new, count(*), min(m.user_id) from moved m group by 1
    ),
    bucket as (
      select b.bucket, sum(b.users)::bigint as users, sum(b.points) as points
      from (select laurel_private.bucket_of(p.earned, starts) as bucket, p.users, p.earned * p.users as points from part p where p.earned > 0) b
      group by 1
    ),
    most as (
      -- Who has earned more since is before itself.
      select p.earned, p.user_id from part p where p.users > 0 and p.earned > 0 order by p.earned desc, p.user_id limit 1
    )
    select array_agg(b.bucket), array_agg(b.users), sum(b.points), (select m.earned from most m), (select m.user_id from most m)
    from bucket b where b.users > 0;
end
$$;

-- The same from what each user earned per day: where few did, that is less to read.
create function laurel_private.range_figures_by_day(system laurel.points_systems, from_on date, to_on date, filter jsonb)
  returns table (buckets int[], users bigint[], points numeric, most numeric, most_user_id text) language plpgsql stable
  set work_mem = '128MB' set enable_nestloop = off as $$
#variable_conflict use_column
declare
  starts numeric[] := laurel_private.bucket_starts();
begin
  return query
    with earned as (
      select d.user_id, sum(d.earned) as earned
      from (
        select d.user_id, d.earned from laurel_private.user_points_days d
        where d.tenant_id = system.tenant_id and d.system_id = system.id and d.day between from_on and to_on
        union all
        select a.user_id, a.points from laurel_private.ledger_tail(system.tenant_id, system.id, filter) a
        where a.points > 0 and laurel_private.utc_day(a.occurred_at) between from_on and to_on) d
      where filter = '{}' or d.user_id in (
        select u.id from laurel.users u where u.tenant_id = system.tenant_id and u.attributes @> filter)
      group by d.user_id
    ),
    part as materialized (
      select e.earned, count(*) as users, min(e.user_id) as user_id from earned e group by 1
    ),
    bucket as (
      select laurel_private.bucket_of(p.earned, starts) as bucket, sum(p.users)::bigint as users, sum(p.earned * p.users) as points
      from part p group by 1
    ),
    most as (
      select p.earned, p.user_id from part p order by p.earned desc limit 1
    )
    select array_agg(b.bucket), array_agg(b.users), sum(b.points), (select m.earned from most m), (select m.user_id from most m)
    from bucket b;
end
$$;

create function laurel_private.range_earnings(system laurel.points_systems, from_on date, to_on date, filter jsonb)
  returns setof laurel_private.earnings_by_users language plpgsql stable as $$
declare
  few text[] := case when filter <> '{}' then laurel_private.users_with(system.tenant_id, filter, laurel_private.few_users()) end;
  part record;
  awards bigint;
begin
  for part in
    select * from (values (false, from_on, to_on), (true, from_on - (to_on - from_on + 1), from_on - 1)) p (is_before, from_on, to_on)
  loop
    -- A day of a user costs as much as the sums of four.
    awards := (
      select coalesce(sum(d.awards), 0) from laurel_private.points_days d
      where d.tenant_id = system.tenant_id and d.segment_id = laurel_private.everybody() and d.system_id = system.id
        and d.day between part.from_on and part.to_on);
    if few is null and awards < laurel_private.count_users(system.tenant_id) / 4 then
      return query select part.is_before, f.* from laurel_private.range_figures_by_day(system, part.from_on, part.to_on, filter) f;
    else
      return query select part.is_before, f.* from laurel_private.range_figures(system, part.from_on, part.to_on, filter, few) f;
    end if;
  end loop;
end
$$;

create function laurel_private.earnings_by_users(system laurel.points_systems, from_on date, to_on date, filter jsonb)
  returns setof laurel_private.earnings_by_users language plpgsql stable as $$
declare
  days int := to_on - from_on + 1;
begin
  if days not in (7, 30, 90) or not exists (select from laurel_private.earnings_fold f where f.windows_end_on = to_on) then
    return query select * from laurel_private.range_earnings(system, from_on, to_on, filter);
  else
    return query select * from laurel_private.window_earnings(system, days, to_on, filter);
  end if;
end
$$;

create function laurel.points_by_users(system_key text, from_on date, to_on date, user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  filter jsonb := laurel_private.analytics_filter(system, from_on, to_on, user_attributes);
  length int := to_on - from_on + 1;
  users bigint := laurel_private.count_users(system.tenant_id, null, null, filter);
  part laurel_private.earnings_by_users;
  figures jsonb;
  earners bigint;
  answer jsonb := jsonb_build_object('from', from_on, 'to', to_on, 'users', users, 'most', 0, 'mostUserId', null, 'earners', 0, 'average', null,
    'histogram', laurel_private.histogram('{}', '{}', users), 'before',
    jsonb_build_object('from', from_on - length, 'to', from_on - 1, 'most', 0, 'mostUserId', null, 'earners', 0, 'average', null));
begin
  for part in select * from laurel_private.earnings_by_users(system, from_on, to_on, filter) loop
    earners := coalesce((select sum(n) from unnest(part.users) n), 0);
    figures := jsonb_build_object('most', coalesce(part.most, 0), 'mostUserId', part.most_user_id, 'earners', earners,
      'average', round(coalesce(part.points, 0) / nullif(earners, 0), 2));
    answer := case when part.is_before then answer || jsonb_build_object('before', answer -> 'before' || figures)
      else answer || figures || jsonb_build_object('histogram', laurel_private.histogram(part.buckets, part.users, users - earners)) end;
  end loop;
  return answer || jsonb_build_object('changePercent',
    laurel_private.change_in_percent((answer ->> 'most')::numeric, (answer #>> '{before,most}')::numeric));
end
$$;

comment on function laurel.points_by_users(text, date, date, text) is
  'What single users earned in a system from one UTC day to another: the most by one user and who, how many earned anything and what on average, and a histogram of users (0, 1, 2–4, 5–9, 10–19 …); beside the most in the range of the same length before. LR004, LR012, LR013, LR023. Rule D3.';

create function laurel.points_in_first_days(system_key text, from_on date, to_on date, user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off
  set work_mem = '64MB' as $$
declare
  system laurel.points_systems := laurel_private.active_system(laurel.current_tenant_id(), system_key);
  filter jsonb := laurel_private.analytics_filter(system, from_on, to_on, user_attributes);
  first_on date := from_on - (to_on - from_on + 1);
  segments uuid[] := laurel_private.matching_segments(system.tenant_id, filter);
  joined bigint := laurel_private.count_users(system.tenant_id, from_on, to_on, filter);
  joined_before bigint := laurel_private.count_users(system.tenant_id, first_on, from_on - 1, filter);
  starts numeric[] := laurel_private.bucket_starts();
  found_buckets int[];
  found_users bigint[];
  points numeric;
  points_before numeric;
  average numeric;
  average_before numeric;
begin
  with changed as (
    select c.user_id, max(c.joined_on) as joined_on, sum(c.points) as points, sum(c.sign) as sign
    from (
      select a.user_id, u.joined_on, a.points, 0 as sign
      from laurel_private.ledger_tail(system.tenant_id, system.id, filter) a
      cross join lateral (
        select laurel_private.utc_day(u.created_at) as joined_on
        from laurel.users u where u.tenant_id = system.tenant_id and u.id = a.user_id offset 0) u
      where a.points > 0 and u.joined_on between first_on and to_on and laurel_private.utc_day(a.occurred_at) - u.joined_on between 0 and 13
      union all
      select m.user_id, null, 0, m.sign from laurel_private.moved_users(system.tenant_id, filter) m) c
    group by c.user_id
  ),
  moved as (
    select coalesce(c.joined_on, e.joined_on) as joined_on, case when c.sign > 0 then 0 else coalesce(e.first_14, 0) end as old,
      case when c.sign < 0 then 0 else coalesce(e.first_14, 0) + c.points end as new
    from changed c
    left join lateral (
      select e.joined_on, e.first_14 from laurel_private.user_earnings e
      where e.tenant_id = system.tenant_id and e.user_id = c.user_id and e.system_id = system.id offset 0) e on true
  ),
  part as (
    select k.joined_on, k.bucket, k.users, k.points from laurel_private.earning_buckets k
    where k.tenant_id = system.tenant_id and k.segment_id = any (segments) and k.system_id = system.id
      and k.figure = 'first_14' and k.joined_on between first_on and to_on
    union all
    select m.joined_on, x.bucket, x.users, x.points
    from moved m
    cross join lateral (values
      (laurel_private.bucket_of(m.old, starts), -1, -m.old), (laurel_private.bucket_of(m.new, starts), 1, m.new)) x (bucket, users, points)
    where m.joined_on between first_on and to_on and x.bucket > 0
  ),
  bucket as (
    select p.bucket, coalesce(sum(p.users) filter (where p.joined_on >= from_on), 0)::bigint as users,
      coalesce(sum(p.points) filter (where p.joined_on >= from_on), 0) as points,
      coalesce(sum(p.points) filter (where p.joined_on < from_on), 0) as points_before
    from part p group by p.bucket
  )
  select array_agg(b.bucket), array_agg(b.users), coalesce(sum(b.points), 0), coalesce(sum(b.points_before), 0)
  into found_buckets, found_users, points, points_before from bucket b;
  average := round(points / nullif(joined, 0), 2);
  average_before := round(points_before / nullif(joined_before, 0), 2);
  return jsonb_build_object('from', from_on, 'to', to_on, 'users', joined, 'average', average,
    'histogram', laurel_private.histogram(found_buckets, found_users, joined - coalesce((select sum(n)::bigint from unnest(found_users) n), 0)),
    'before', jsonb_build_object('from', first_on, 'to', from_on - 1, 'users', joined_before, 'average', average_before),
    'changePercent', laurel_private.change_in_percent(average, average_before));
end
$$;

comment on function laurel.points_in_first_days(text, date, date, text) is
  'What users who were added from one UTC day to another earned in a system in their first 14 UTC days, so far: on average (null without such users), and as a histogram of users; beside the average of those added in the range of the same length before. LR004, LR012, LR013, LR023. Rule D3.';

create function laurel.points_insights(system_key text, from_on date, to_on date, user_attributes text default '')
  returns jsonb language plpgsql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
declare
  earned jsonb := laurel.points_earned(system_key, from_on, to_on, 'month', user_attributes);
  breakdown jsonb := laurel.points_breakdown(system_key, from_on, to_on, user_attributes);
  first_days jsonb := laurel.points_in_first_days(system_key, from_on, to_on, user_attributes);
  top jsonb := breakdown #> '{byTrigger,0}';
  sentences text[] := '{}';
  change numeric := (earned ->> 'changePercent')::numeric;
begin
  sentences := sentences || format('Users earned %s points%s.', laurel_private.grouped((earned ->> 'earned')::numeric), case
    when change is null then '' when change = 0 then ', as many as in the range before'
    else format(', %s %% %s than in the range before', laurel_private.grouped(abs(change)), case when change > 0 then 'more' else 'less' end) end);
  if (earned ->> 'earned')::numeric > 0 then
    sentences := sentences || format('%s %% of them came with a boost.',
      laurel_private.grouped(round(100 * (earned ->> 'boosted')::numeric / (earned ->> 'earned')::numeric, 1)));
  end if;
  if (earned ->> 'deducted')::numeric > 0 then
    sentences := sentences || format('%s points were deducted.', laurel_private.grouped((earned ->> 'deducted')::numeric));
  end if;
  if (top ->> 'earned')::numeric > 0 then
    sentences := sentences || format('%s earned most: %s %% of all points.', laurel_private.trigger_in_words(top),
      laurel_private.grouped(round(100 * (top ->> 'share')::numeric, 1)));
  end if;
  sentences := sentences || case (first_days ->> 'users')::numeric
    when 0 then 'Nobody joined in this time.'
    when 1 then format('The one user who joined earned %s points in the first 14 days.', laurel_private.grouped((first_days ->> 'average')::numeric))
    else format('The %s users who joined earned %s points on average in their first 14 days.',
      laurel_private.grouped((first_days ->> 'users')::numeric), laurel_private.grouped((first_days ->> 'average')::numeric)) end;
  return jsonb_build_object('from', from_on, 'to', to_on, 'sentences', to_jsonb(sentences));
end
$$;

comment on function laurel.points_insights(text, date, date, text) is
  'The figures of a system from one UTC day to another in plain sentences. LR004, LR012, LR013, LR023. Rule D3.';

-- 1234567.50 as 1,234,567.5.
create function laurel_private.grouped(figure numeric)
  returns text language sql immutable
  return regexp_replace(trim_scale(figure)::text, '(\d)(?=(\d{3})+(\.|$))', '\1,', 'g');

create function laurel_private.trigger_in_words(part jsonb)
  returns text language sql immutable as $$
  select case part ->> 'type'
    when 'metric' then format('The trigger "%s points for every %s of %s"', part #>> '{trigger,points}', part #>> '{trigger,metricThreshold}', part #>> '{trigger,metricName}')
    when 'achievement' then format('The trigger "%s points for the achievement %s"', part #>> '{trigger,points}', part #>> '{trigger,achievementName}')
    when 'streak' then format('The trigger "%s points for a streak of %s"', part #>> '{trigger,points}', part #>> '{trigger,streakLengthThreshold}')
    when 'time' then format('The trigger "%s points every %s %s"', part #>> '{trigger,points}', part #>> '{trigger,timeInterval}',
      (part #>> '{trigger,timeUnit}') || case when part #>> '{trigger,timeInterval}' = '1' then '' else 's' end)
    when 'user_creation' then format('The trigger "%s points for a new user"', part #>> '{trigger,points}')
    else 'Adjustments by hand' end
$$;

-- What some amounts would earn one user in one go: the estimate beside a list of triggers (a tiny preview).
create function laurel.estimate_points(system_key text, amounts jsonb, draft jsonb default null)
  returns jsonb language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  figures jsonb;
begin
  perform laurel_private.check_shape(amounts, '{"is": "map", "of": {"is": "number", "least": 0, "most": 999999999999999}}', 'amounts');
  figures := laurel.preview_points(system_key, jsonb_build_object('days', 1, 'draft', draft, 'kinds', jsonb_build_array(jsonb_build_object(
    'name', 'Estimate', 'users', 1, 'events', coalesce((
      select jsonb_agg(jsonb_build_object('metric', a.key, 'perDay', 1, 'value', a.value) order by a.key) from jsonb_each(amounts) a), '[]'))))) #> '{kinds,0}';
  -- What a new user gets for being one is not for these.
  return jsonb_build_object(
    'total', (select coalesce(sum((t ->> 'awarded')::numeric), 0) from jsonb_array_elements(figures -> 'byTrigger') t where t #>> '{trigger,type}' <> 'user_creation'),
    'byTrigger', (select coalesce(jsonb_agg(t), '[]') from jsonb_array_elements(figures -> 'byTrigger') t where t #>> '{trigger,type}' <> 'user_creation'));
end
$$;

comment on function laurel.estimate_points(text, jsonb, jsonb) is
  'What one user would get today for so much of each metric, {"words": 1200, "lessons": 3}: per trigger and in total, by the real rules, boosts for everybody included. draft as in preview_points(). Nothing is stored. LR004, LR060. Rule D1.';

grant execute on function laurel.points_earned(text, date, date, text, text), laurel.points_breakdown(text, date, date, text),
  laurel.points_by_users(text, date, date, text), laurel.points_in_first_days(text, date, date, text),
  laurel.points_insights(text, date, date, text), laurel.estimate_points(text, jsonb, jsonb)
  to laurel_admin;

-- For people's own BI tools: plain views, one row per thing that is charted, under row-level security by tenant.
-- How far the rollups are; a definer, since it is one figure for all tenants.
create function laurel_private.points_watermark()
  returns uuid language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select f.watermark from laurel_private.earnings_fold f
$$;

grant execute on function laurel_private.points_watermark() to laurel_admin;

create view laurel.points_by_day with (security_invoker = true, security_barrier = true) as
  select d.tenant_id, d.system_id, s.key::text collate "C" as system_key, d.day, d.cause, nullif(d.trigger_id, '00000000-0000-0000-0000-000000000000') as trigger_id,
    sum(d.earned) as earned, sum(d.boosted) as boosted, sum(d.deducted) as deducted, sum(d.awards)::bigint as awards
  from (
    select d.tenant_id, d.system_id, d.day, d.cause, d.trigger_id, d.earned, d.boosted, d.deducted, d.awards from laurel_private.points_days d
    where d.segment_id = '00000000-0000-0000-0000-000000000000'
    union all
    select a.tenant_id, a.system_id, (a.occurred_at at time zone 'UTC')::date, a.cause, coalesce(a.trigger_id, '00000000-0000-0000-0000-000000000000'),
      greatest(a.points, 0), case when a.boosts is not null then greatest(a.points, 0) else 0 end, greatest(-a.points, 0), 1
    from laurel.points_awards a
    where a.id >= (select laurel_private.points_watermark())) d
  join laurel.points_systems s on s.id = d.system_id
  where d.tenant_id = (select laurel.current_tenant_id())
  group by 1, 2, 3, 4, 5, 6;

comment on view laurel.points_by_day is 'Points of a system by UTC day and trigger, exact at any moment. For BI tools: one row per day, cause and trigger.';
comment on column laurel.points_by_day.day is 'UTC day of the awards'' dates.';
comment on column laurel.points_by_day.trigger_id is 'Null for adjustments.';
comment on column laurel.points_by_day.boosted is 'The part of earned that boosts applied to.';
grant select on laurel.points_by_day to laurel_admin;
--! EndIncluded insight/points_analytics.sql
--! Included access/change_configuration.sql
-- The admin API's writes and reads, of configuration and of what else it does to lists of things
-- (keys, adjustments). A batch takes each item by itself: one that breaks a rule becomes an issue,
-- and the others are kept.

-- Older client libraries read `level` and `reason`, newer ones `severity` and `message`.
create function laurel_private.admin_issue(item_index int, id text, message text, field text default null)
  returns jsonb language sql immutable as $$
  select jsonb_strip_nulls(jsonb_build_object('index', item_index, 'id', id, 'field', field,
    'severity', 'error', 'level', 'error', 'message', message, 'reason', message))
$$;

create function laurel_private.change_items(operation text, resource text, system_id uuid, items jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  done jsonb := '[]';
  issues jsonb := '[]';
  entry record;
  code text;
  message text;
  table_name text;
  type_name text;
  constraint_name text;
  column_name text;
begin
  for entry in
    select (i ->> 'index')::int as item_index, i -> 'item' as item, i #>> '{item,id}' as id
    from jsonb_array_elements(items) with ordinality as x (i, no)
    -- Adjustments lock users: every call in the same order.
    order by case when resource = 'adjustments' then i #>> '{item,userId}' end collate "C", no
  loop
    begin
      if operation = 'delete' then
        perform laurel_private.delete_configuration(resource, system_id, entry.id::uuid);
        done := done || jsonb_build_object('id', entry.id);
      else
        done := done || laurel_private.write_configuration(operation, resource, system_id, entry.item);
      end if;
    exception when others then
      get stacked diagnostics code = returned_sqlstate, message = message_text, table_name = table_name,
        type_name = pg_datatype_name, constraint_name = constraint_name, column_name = column_name;
      message := laurel_private.sentence_for_error(code, message,
        coalesce(nullif(table_name, ''), type_name), constraint_name, column_name);
      if message is null then
        raise;
      end if;
      issues := issues || laurel_private.admin_issue(entry.item_index, entry.id, message, laurel_private.field_for_error(code,
        coalesce(nullif(table_name, ''), type_name), constraint_name, column_name));
    end;
  end loop;
  return jsonb_build_object('done', done, 'issues', issues);
end
$$;

-- `items` are [{"index": place in the request, "item": …}]; those that name what exists carry its
-- ID in the item. `resource` is the plural of the contract's paths. Returns {done, issues}.
create function laurel_private.change_configuration(operation text, resource text, system_id uuid, items jsonb)
  returns jsonb language plpgsql volatile as $$
declare
  changed jsonb;
begin
  -- An unknown tenant or system is the whole call's fault, not an item's.
  perform laurel.current_tenant_id();
  if resource in ('levels', 'boosts', 'triggers', 'adjustments') then
    perform laurel_private.require_points_system(system_id);
  end if;
  if operation = 'update' and resource = 'levels' then
    -- Judged together first, so that two levels can change places.
    begin
      set constraints laurel.level_points_are_unique_in_their_system deferred;
      changed := laurel_private.change_items(operation, resource, system_id, items);
      set constraints laurel.level_points_are_unique_in_their_system immediate;
      return changed;
    exception when unique_violation then
      null; -- One by one then, so that each has its own issue.
    end;
  end if;
  return laurel_private.change_items(operation, resource, system_id, items);
end
$$;

create function laurel_private.write_configuration(operation text, resource text, system_id uuid, item jsonb)
  returns jsonb language plpgsql volatile as $$
begin
  case operation || ' ' || resource
    when 'create attributes' then return laurel_private.create_attribute(item);
    when 'update attributes' then return laurel_private.update_attribute(item);
    when 'create metrics' then return laurel_private.create_metric(item);
    when 'update metrics' then return laurel_private.update_metric(item);
    when 'create achievements' then return laurel_private.create_achievement(item);
    when 'update achievements' then return laurel_private.update_achievement(item);
    when 'create leaderboards' then return laurel_private.create_leaderboard(item);
    when 'update leaderboards' then return laurel_private.update_leaderboard(item);
    when 'create points' then return laurel_private.create_points_system(item);
    when 'update points' then return laurel_private.update_points_system(item);
    when 'create levels' then return laurel_private.create_points_level(system_id, item);
    when 'update levels' then return laurel_private.update_points_level(system_id, item);
    when 'create boosts' then return laurel_private.create_points_boost(system_id, item);
    when 'update boosts' then return laurel_private.update_points_boost(system_id, item);
    when 'create triggers' then return laurel_private.create_points_trigger(system_id, item);
    when 'update triggers' then return laurel_private.update_points_trigger(system_id, item);
    when 'create adjustments' then return laurel_private.create_adjustment(system_id, item);
    when 'create webhooks' then return laurel_private.create_webhook(item);
    when 'update webhooks' then return laurel_private.update_webhook(item);
    when 'create tenants' then return laurel_private.create_tenant(item);
    when 'update tenants' then return laurel_private.update_tenant(item);
    when 'create application-api-keys' then return laurel_private.create_api_key('application', item);
    when 'create admin-api-keys' then return laurel_private.create_api_key('admin', item);
  end case;
end
$$;

create function laurel_private.delete_configuration(resource text, system_id uuid, id uuid)
  returns void language plpgsql volatile as $$
begin
  case resource
    when 'attributes' then perform laurel_private.delete_attribute(id);
    when 'metrics' then perform laurel_private.delete_metric(id);
    when 'achievements' then perform laurel_private.delete_achievement(id);
    when 'leaderboards' then perform laurel_private.delete_leaderboard(id);
    when 'points' then perform laurel_private.delete_points_system(id);
    when 'levels' then perform laurel_private.delete_points_level(system_id, id);
    when 'boosts' then perform laurel_private.delete_points_boost(system_id, id);
    when 'triggers' then perform laurel_private.delete_points_trigger(system_id, id);
    when 'webhooks' then perform laurel_private.delete_webhook(id);
    when 'tenants' then perform laurel_private.delete_tenant(id);
    when 'application-api-keys' then perform laurel_private.delete_api_key('application', id);
    when 'admin-api-keys' then perform laurel_private.delete_api_key('admin', id);
  end case;
end
$$;

-- Lists a kind of configuration, or, with an ID, gives the one: in order of creation, levels from
-- the lowest up. What is archived is not there.
create function laurel_private.read_configuration(
  resource text, system_id uuid, id uuid, most int, skipped int
) returns setof jsonb language plpgsql stable as $$
begin
  case resource
    when 'attributes' then
      return query select laurel_private.admin_attribute(a) from laurel.attributes a
        where read_configuration.id is null or a.id = read_configuration.id
        order by a.id limit most offset skipped;
    when 'metrics' then
      return query select laurel_private.admin_metric(m) from laurel.metrics m
        where m.archived_at is null and (read_configuration.id is null or m.id = read_configuration.id)
        order by m.id limit most offset skipped;
    when 'achievements' then
      return query select laurel_private.admin_achievement(a) from laurel.achievements a
        where a.status <> 'archived' and (read_configuration.id is null or a.id = read_configuration.id)
        order by a.id limit most offset skipped;
    when 'leaderboards' then
      return query select laurel_private.admin_leaderboard(b) from laurel.leaderboards b
        where b.status <> 'archived' and (read_configuration.id is null or b.id = read_configuration.id)
        order by b.id limit most offset skipped;
    when 'points' then
      return query select laurel_private.admin_points_system(s) from laurel.points_systems s
        where s.archived_at is null and (read_configuration.id is null or s.id = read_configuration.id)
        order by s.id limit most offset skipped;
    when 'levels' then
      return query select laurel_private.admin_points_level(l) from laurel.points_levels l
        where l.system_id = read_configuration.system_id
          and (read_configuration.id is null or l.id = read_configuration.id)
        order by l.points limit most offset skipped;
    when 'boosts' then
      return query select laurel_private.admin_points_boost(b) from laurel.points_boosts b
        where b.system_id = read_configuration.system_id and b.archived_at is null
          and (read_configuration.id is null or b.id = read_configuration.id)
        order by b.id limit most offset skipped;
    when 'triggers' then
      return query select laurel_private.admin_points_trigger(t) from laurel.points_triggers t
        where t.system_id = read_configuration.system_id and t.status <> 'archived'
          and (read_configuration.id is null or t.id = read_configuration.id)
        order by t.id limit most offset skipped;
    when 'webhooks' then
      return query select laurel_private.admin_webhook(e) from laurel.webhook_endpoints e
        where read_configuration.id is null or e.id = read_configuration.id
        order by e.id limit most offset skipped;
    when 'tenants' then
      return query select t from laurel_private.list_tenants(read_configuration.id, most, skipped) t;
    when 'application-api-keys' then
      return query select k from laurel_private.list_api_keys('application', read_configuration.id, most, skipped) k;
    when 'admin-api-keys' then
      return query select k from laurel_private.list_api_keys('admin', read_configuration.id, most, skipped) k;
    when 'audit-log' then
      return query select to_jsonb(l) from laurel_private.list_audit_log(read_configuration.id, most, skipped) l;
  end case;
end
$$;

create function laurel_private.list_configuration(resource text, system_id uuid, most int, skipped int)
  returns jsonb language plpgsql stable as $$
begin
  perform laurel.current_tenant_id();
  if resource in ('levels', 'boosts', 'triggers') then
    perform laurel_private.require_points_system(system_id);
  end if;
  return (
    select coalesce(jsonb_agg(c), '[]')
    from laurel_private.read_configuration(resource, system_id, null, most, skipped) c);
end
$$;

create function laurel_private.get_configuration(resource text, system_id uuid, id uuid)
  returns jsonb language plpgsql stable as $$
declare
  one jsonb;
begin
  perform laurel.current_tenant_id();
  if resource in ('levels', 'boosts', 'triggers') then
    perform laurel_private.require_points_system(system_id);
  end if;
  select c into one from laurel_private.read_configuration(resource, system_id, id, 1, 0) c;
  if one is null then
    perform laurel_private.fail('LR006', null,
      case resource when 'points' then 'points system' when 'audit-log' then 'audit log entry'
        else left(resource, -1) end, id::text);
  end if;
  return one;
end
$$;

grant execute on function laurel_private.error_catalogue(), laurel_private.fail(text, text, text[]),
  laurel_private.admin_issue(int, text, text, text),
  laurel_private.change_items(text, text, uuid, jsonb),
  laurel_private.change_configuration(text, text, uuid, jsonb),
  laurel_private.write_configuration(text, text, uuid, jsonb),
  laurel_private.delete_configuration(text, uuid, uuid),
  laurel_private.read_configuration(text, uuid, uuid, int, int),
  laurel_private.list_configuration(text, uuid, int, int),
  laurel_private.get_configuration(text, uuid, uuid)
  to laurel_admin;
--! EndIncluded access/change_configuration.sql
