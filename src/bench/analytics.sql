-- What analytics are measured on: so many users, who joined one after the other in half a year, and so
-- many ledger rows of theirs, in the order they were written. Run as the owner with bench.users and
-- bench.awards set; the rollups are made from it by rebuild_rollups().

do $$
declare
  month date;
begin
  for ago in 1..7 loop
    month := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
    call laurel_private.create_month_partition('laurel_private.metric_event_log', 'metric_events', month);
    call laurel_private.create_month_partition('laurel.points_awards', 'points_awards', month);
  end loop;
end
$$;

insert into laurel.attributes (key, name, type) values ('country', 'Country', 'user') on conflict do nothing;

create procedure bench.fill_users(users int) language sql as $$
  -- One in 10 pays, one in 50 is of each country.
  insert into laurel.users (tenant_id, id, attributes, created_at)
  select t.id, 'a' || n,
    case when n % 10 = 0 then jsonb_build_object('plan', 'pro') else '{}' end || jsonb_build_object('country', 'c' || n % 50),
    now() - interval '180 days' * (1 - n::numeric / users)
  from laurel.tenants t, generate_series(0, users - 1) n where t.customer_id = 'default';
$$;

-- Who is awarded when: anybody who had joined by then. Triggers in turn; one row in 7 of a user takes points away.
create unlogged table bench.picks (
  no int, n int, trigger int, is_boosted boolean, points int, total_after bigint, sequence int
);

create procedure bench.pick_awards(users int, awards int) language sql as $$
  insert into bench.picks
  with pick as (
    select i as no, ((hashint8(i) & 2147483647) % greatest(users::bigint * i / awards, 1))::int as n, i % 3 as trigger, i % 4 = 0 as is_boosted
    from generate_series(1, awards) i
  ),
  numbered as (
    select p.*, row_number() over (partition by p.n order by p.no) as sequence from pick p
  ),
  earned as (
    select p.no, p.n, p.trigger, p.is_boosted and p.sequence % 7 <> 0 as is_boosted,
      case when p.sequence % 7 = 0 then -5 when p.is_boosted then 20 * (p.trigger + 1) else 10 * (p.trigger + 1) end as points, p.sequence
    from numbered p
  )
  select e.no, e.n, e.trigger, e.is_boosted, e.points, sum(e.points) over (partition by e.n order by e.no), e.sequence
  from earned e order by e.no
$$;

-- The ledger of one month, in the order of its IDs.
create procedure bench.fill_awards(awards int, month date) language plpgsql as $$
declare
  first_at timestamptz := now() - interval '180 days';
  step double precision := 86400.0 * 180 / awards;
begin
  execute format($fill$
    insert into laurel_private.%I (id, tenant_id, user_id, system_id, system_key, sequence, occurred_at, cause,
      trigger_id, metric_key, metric_threshold, trigger_points, firings, base_points, boosts, boost_multiplier, rounding,
      rounded_points, max_points, points, total_before, total_after)
    select (left(laurel_private.first_uuid_v7(p.at)::text, 23) || '-' || lpad(to_hex(p.no), 12, '0'))::uuid,
      s.tenant_id, 'a' || p.n, s.id, s.key, p.sequence, p.at, 'metric', t.ids[p.trigger + 1], 'words', 1, p.points, 1, p.points,
      case when p.is_boosted then b.shown end, case when p.is_boosted then 2 else 1 end,
      case when p.is_boosted then 'nearest'::laurel.rounding_mode end, p.points, s.max_points, p.points,
      p.total_after - p.points, p.total_after
    from (
      select p.*, $1 + p.no * $2 * interval '1 second' as at from bench.picks p
      where p.no >= extract(epoch from $3 - $1) / $2 and p.no < extract(epoch from $4 - $1) / $2 order by p.no) p,
      laurel.points_systems s,
      (select array_agg(t.id order by t.id) as ids from laurel.points_triggers t) t,
      (select jsonb_build_array(laurel_private.boost_as_json(b)) as shown from laurel.points_boosts b limit 1) b
    where s.key = 'xp'
  $fill$, 'points_awards' || to_char(month, '_YYYY_MM'))
  using first_at, step, month::timestamp at time zone 'UTC', (month + interval '1 month')::timestamp at time zone 'UTC';
end
$$;

create procedure bench.fill_balances() language sql as $$
  update laurel_private.user_states u
  set system_ids = array[s.id], totals = array[p.total], last_sequences = array[p.sequence]
  from (select 'a' || p.n as user_id, sum(p.points) as total, count(*) as sequence from bench.picks p group by p.n) p, laurel.points_systems s
  where s.key = 'xp' and u.tenant_id = s.tenant_id and u.user_id = p.user_id
$$;

-- Rollups of all but the last rows. Nobody else writes here: no transaction is to be waited for.
create procedure bench.fill_rollups(tail int) language plpgsql as $$
begin
  update laurel_private.earnings_fold
  set watermark = (select a.id from laurel.points_awards a order by a.id desc offset tail - 1 limit 1),
    next_watermark = null, next_after = null, windows_end_on = (now() at time zone 'UTC')::date;
  perform laurel_private.rebuild_rollups();
end
$$;
