-- A database that a million users have used: their rows and totals, as if each had written ten
-- words. Its procedures add the history itself.
insert into laurel.users (tenant_id, id)
select t.id, 'u' || n from laurel.tenants t, generate_series(0, 999999) n where t.customer_id = 'default'
on conflict do nothing;
update laurel_private.user_states u
set metric_ids = array[m.id], metric_totals = '{10}', metric_peaks = '{10}',
  last_event_ids = array[laurel_private.first_uuid_v7(now() - interval '31 days')],
  system_ids = array[s.id], totals = '{100}', last_sequences = '{10}'
from laurel.metrics m, laurel.points_systems s
where m.tenant_id = u.tenant_id and s.tenant_id = u.tenant_id;

-- The five months behind us.
do $$
declare
  month date;
begin
  for ago in 1..5 loop
    month := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
    call laurel_private.create_month_partition('laurel_private.metric_event_log', 'metric_events', month);
    call laurel_private.create_month_partition('laurel.points_awards', 'points_awards', month);
  end loop;
end
$$;

-- IDs as if made at that moment: `no` keeps them apart.
create function bench.past_id(month date, no int) returns uuid language sql immutable parallel safe
  return (left(laurel_private.first_uuid_v7(month::timestamp at time zone 'UTC' + no * interval '1 second')::text, 23)
    || '-' || lpad(to_hex(no), 12, '0'))::uuid;

-- Two events of every user in that month, with one award each. In key order: an index filled in
-- order is built at the speed of the disk.
create procedure bench.fill_events(ago int) language plpgsql as $$
declare
  month date := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
begin
  execute format($fill$
    insert into laurel_private.%I (id, tenant_id, user_id, metric_id, metric_key, value, attributes, occurred_at)
    select bench.past_id($1, 2 * u.n + k), m.tenant_id, u.id, m.id, m.key, 1, '{"kind": "plain"}', $1
    from laurel.metrics m,
      (select n, 'u' || n as id from generate_series(0, 999999) n order by ('u' || n) collate "C") u,
      generate_series(0, 1) k
  $fill$, 'metric_events' || to_char(month, '_YYYY_MM')) using month;
end
$$;

create procedure bench.fill_awards(ago int) language plpgsql as $$
declare
  month date := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
begin
  execute format($fill$
    insert into laurel_private.%I (id, tenant_id, user_id, system_id, system_key, sequence, occurred_at, cause,
      trigger_id, event_id, metric_key, metric_threshold, trigger_points, firings, base_points, boost_multiplier,
      rounded_points, max_points, points, total_before, total_after)
    select bench.past_id($1, 2 * u.n + k), t.tenant_id, u.id, s.id, s.key, $2 + k, $1, 'metric',
      t.id, bench.past_id($1, 2 * u.n + k), 'words', 1, 10, 1, 10, 1, 10, s.max_points, 10, 10 * ($2 + k - 1), 10 * ($2 + k)
    from laurel.points_systems s
    join laurel.points_triggers t on t.system_id = s.id and t.metric_threshold = 1,
      (select n, 'u' || n as id from generate_series(0, 999999) n order by ('u' || n) collate "C") u,
      generate_series(0, 1) k
  $fill$, 'points_awards' || to_char(month, '_YYYY_MM')) using month, (5 - ago) * 2 + 1;
end
$$;
