-- What is measured: Laurel with a small but complete configuration, and the floors it is compared
-- with, side by side in one database. Run once, as the owner, in a freshly migrated database.

-- Laurel: 3 metric triggers, one of them filtering events, 2 boosts, 5 levels, a cap that is there
-- but does not bite. One event in 4 is gold. Of 20 events 20 + 2 + 1 awards follow.
insert into laurel.attributes (key, name, type) values
  ('kind', 'Kind', 'event'),
  ('plan', 'Plan', 'user');
insert into laurel.metrics (key, name, units) values ('words', 'Words written', 'words');
insert into laurel.points_systems (key, name, max_points) values ('xp', 'XP', 2000000000);
insert into laurel.points_triggers
  (system_id, type, points, status, metric_id, metric_threshold, event_attributes)
select s.id, 'metric', t.points, 'active', m.id, t.threshold, t.event_attributes::jsonb
from laurel.points_systems s, laurel.metrics m,
  (values (10, 1, '{}'), (50, 10, '{}'), (20, 5, '{"kind": "gold"}')) as t (points, threshold, event_attributes);
insert into laurel.points_boosts (system_id, name, multiplier, rounding, starts_on, user_attributes)
select s.id, b.name, b.multiplier, 'nearest', current_date - 7, b.user_attributes::jsonb
from laurel.points_systems s,
  (values ('Double week', 2, '{}'), ('Pro plan', 1.25, '{"plan": "pro"}')) as b (name, multiplier, user_attributes);
insert into laurel.points_levels (system_id, key, name, points)
select s.id, l.key, l.key, l.points
from laurel.points_systems s,
  (values ('seed', 0), ('sprout', 100), ('bush', 1000), ('tree', 10000), ('grove', 100000)) as l (key, points);

insert into laurel.users (id, attributes)
select 'u' || n, case when n % 2 = 0 then '{"plan": "pro"}' else '{}' end::jsonb
from generate_series(0, 10000) n;
insert into laurel.metric_events (metric_key, user_id, attributes)
select 'words', 'u' || n, '{"kind": "gold"}' from generate_series(0, 10000) n;

create schema bench;

-- The floor: a minimal award by hand on plain tables. No rules, no idempotency, no partitions.
create table bench.events (
  id bigint generated always as identity primary key,
  user_id bigint not null,
  metric_key text not null,
  value numeric not null,
  occurred_at timestamptz not null default now()
);
create table bench.balances (
  user_id bigint primary key,
  total bigint not null,
  updated_at timestamptz not null default now()
) with (fillfactor = 80);
create table bench.ledger (
  id bigint generated always as identity primary key,
  user_id bigint not null,
  event_id bigint not null,
  points bigint not null,
  total_after bigint not null,
  created_at timestamptz not null default now()
);
-- Read only, so that the index costs no writer: ten rows of each user, with the trigger and boosts that an answer shows of them.
create table bench.history (
  id bigint generated always as identity primary key,
  user_id bigint not null,
  points bigint not null,
  total_after bigint not null,
  created_at timestamptz not null default now(),
  trigger jsonb not null,
  boosts jsonb not null
);
insert into bench.history (user_id, points, total_after, trigger, boosts)
select u, 10, 10 * n, t.shown, case when u % 2 = 0 then b.shown else b.shown - 1 end
from generate_series(1, 10) n, generate_series(0, 10000) u,
  (select laurel_private.trigger_as_json(t) as shown from laurel.points_triggers t order by t.id limit 1) t,
  (select jsonb_agg(laurel_private.boost_as_json(b)) as shown from laurel.points_boosts b) b;
create index history_by_user on bench.history (user_id, id);

insert into bench.balances (user_id, total) select n, 0 from generate_series(0, 10000) n;

create function bench.award(metric_key text, user_id bigint, value numeric, points bigint)
  returns bigint language plpgsql as $$
#variable_conflict use_column
declare
  event_id bigint;
  total_after bigint;
begin
  insert into bench.events (user_id, metric_key, value)
  values (award.user_id, award.metric_key, award.value)
  returning id into event_id;
  insert into bench.balances as b (user_id, total) values (award.user_id, award.points)
  on conflict (user_id) do update set total = b.total + excluded.total, updated_at = now()
  returning b.total into total_after;
  insert into bench.ledger (user_id, event_id, points, total_after)
  values (award.user_id, event_id, award.points, total_after);
  return total_after;
end
$$;

-- The same for many rows at once: users in order, so that two calls never wait for each other.
create function bench.award_batch(metric_key text, user_ids bigint[], value numeric, points bigint)
  returns void language sql as $$
  with stored as (
    insert into bench.events (user_id, metric_key, value)
    select u.id, award_batch.metric_key, award_batch.value from unnest(user_ids) u (id)
    returning id, user_id
  ),
  moved as (
    insert into bench.balances as b (user_id, total)
    select s.user_id, count(*) * award_batch.points from stored s group by 1 order by 1
    on conflict (user_id) do update set total = b.total + excluded.total, updated_at = now()
    returning b.user_id, b.total
  )
  insert into bench.ledger (user_id, event_id, points, total_after)
  select s.user_id, s.id, award_batch.points,
    m.total - award_batch.points * (count(*) over (partition by s.user_id order by s.id desc) - 1)
  from stored s join moved m using (user_id)
  order by s.id
$$;

-- The second floor: the same three writes on Laurel's own tables, with nothing decided. A tenant of
-- its own keeps its rows apart.
insert into laurel.tenants (customer_id, name) values ('floor', 'Floor');
insert into laurel.users (tenant_id, id)
select t.id, 'u' || n from laurel.tenants t, generate_series(0, 10000) n where t.customer_id = 'floor';

create function bench.award_on_own_tables(metric_key text, user_id text, value numeric, points bigint)
  returns bigint language plpgsql as $$
#variable_conflict use_column
declare
  own_tenant constant uuid := '@tenant@';
  own_system constant uuid := '@system@';
  event_id uuid := laurel_private.uuid_v7();
  after record;
begin
  insert into laurel_private.metric_event_log (id, tenant_id, user_id, metric_id, metric_key, value, attributes, occurred_at)
  values (event_id, own_tenant, award_on_own_tables.user_id, own_system, award_on_own_tables.metric_key,
    award_on_own_tables.value, '{"kind": "gold"}', clock_timestamp());
  update laurel_private.user_states s
  set system_ids[1] = own_system, totals[1] = coalesce(s.totals[1], 0) + award_on_own_tables.points,
    last_sequences[1] = coalesce(s.last_sequences[1], 0) + 1
  where s.tenant_id = own_tenant and s.user_id = award_on_own_tables.user_id
  returning s.totals[1] as total, s.last_sequences[1] as last_sequence into after;
  insert into laurel.points_awards (id, tenant_id, user_id, system_id, system_key, sequence, occurred_at, cause,
    trigger_id, event_id, metric_key, metric_threshold, trigger_points, firings, base_points, boosts,
    boost_multiplier, rounding, rounded_points, max_points, points, total_before, total_after)
  values (laurel_private.uuid_v7(), own_tenant, award_on_own_tables.user_id, own_system, 'xp', after.last_sequence,
    clock_timestamp(), 'metric', own_system, event_id, award_on_own_tables.metric_key, 1, 10, 1, 10,
    '@boosts@', 2, 'nearest', award_on_own_tables.points,
    2000000000, award_on_own_tables.points, after.total - award_on_own_tables.points, after.total);
  return after.total;
end
$$;

-- Constants of the function above, as a hand-written function would have them: its tenant, any
-- ID, and a boost as the ledger keeps it.
do $$
declare
  tenant_id uuid := (select t.id from laurel.tenants t where t.customer_id = 'floor');
  boost jsonb := (select jsonb_build_array(laurel_private.boost_as_json(b)) from laurel.points_boosts b where b.user_attributes = '{}');
begin
  execute replace(replace(replace(
    pg_get_functiondef('bench.award_on_own_tables'::regproc),
    '@tenant@', tenant_id::text), '@system@', gen_random_uuid()::text), '@boosts@', replace(boost::text, '''', ''''''));
end
$$;

-- The application-side version: rules in tables, read and applied by a program, statement by statement.
create table bench.app_users (
  id bigint primary key,
  attributes jsonb not null default '{}',
  total bigint not null default 0,
  level int not null default 0
) with (fillfactor = 80);
create table bench.app_metrics (
  user_id bigint primary key, total numeric not null, peak numeric not null
) with (fillfactor = 80);
create table bench.app_triggers (
  id int primary key, metric_key text not null, threshold int not null, points int not null, event_attributes jsonb not null
);
create table bench.app_boosts (
  id int primary key, multiplier numeric not null, starts_on date not null, ends_on date, user_attributes jsonb not null
);
create table bench.app_levels (points int primary key, name text not null);
create table bench.app_events (
  id bigint generated always as identity primary key,
  user_id bigint not null,
  metric_key text not null,
  value numeric not null,
  attributes jsonb not null,
  occurred_at timestamptz not null default now()
);
create table bench.app_ledger (
  id bigint generated always as identity primary key,
  user_id bigint not null,
  trigger_id int not null,
  points bigint not null,
  total_after bigint not null,
  created_at timestamptz not null default now()
);
insert into bench.app_users (id) select n from generate_series(0, 10000) n;
insert into bench.app_metrics select n, 0, 0 from generate_series(0, 10000) n;
insert into bench.app_triggers values (1, 'words', 1, 10, '{}'), (2, 'words', 10, 50, '{}'), (3, 'words', 5, 20, '{"kind": "gold"}');
insert into bench.app_boosts values (1, 2, current_date - 7, null, '{}'), (2, 1.25, current_date - 7, null, '{"plan": "pro"}');
insert into bench.app_levels values (0, 'seed'), (100, 'sprout'), (1000, 'bush'), (10000, 'tree'), (100000, 'grove');

-- What a bare route calls.
create function bench.trivial(user_id text) returns jsonb language sql immutable
  return jsonb_build_object('userId', user_id);
