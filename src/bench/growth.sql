-- Makes a database of sources.sql large: its procedures are called in one of two databases alike, so that an event can be compared.

-- Users g<first> to g<last>, each a copy of one of the users that sources.sql gave a past: totals from 1 to 1,200, up to 12
-- achievements, places on two leaderboards, a streak. Rows as the flow wrote them, in a fraction of the time.
create procedure bench.add_users(first int, last int) language plpgsql as $$
declare
  relation regclass;
  chunk constant int := 20000;
  from_no int := first;
  to_no int;
  copying text;
begin
  while from_no <= last loop
    to_no := least(from_no + chunk - 1, last);
    insert into laurel.users (id) select 'g' || n from generate_series(from_no, to_no) n;
    foreach relation in array array['laurel_private.user_states', 'laurel_private.metric_event_log', 'laurel.points_awards',
      'laurel.points_trigger_counts', 'laurel.user_achievements', 'laurel.leaderboard_entries', 'laurel_private.user_streaks',
      'laurel_private.streak_runs', 'laurel_private.streak_periods']::regclass[]
    loop
      -- What the users' creation made.
      if relation in ('laurel_private.user_states'::regclass, 'laurel_private.user_streaks'::regclass) then
        execute format('delete from %s x using generate_series($1, $2) n where x.user_id = %L || n', relation, 'g') using from_no, to_no;
      end if;
      select format('insert into %s (%s) select %s from generate_series($1, $2) n join %s s on s.tenant_id = laurel.current_tenant_id() and s.user_id = %L || (1 + n %% 10000)',
        relation, string_agg(quote_ident(c.attname), ', ' order by c.attnum),
        string_agg(case c.attname when 'user_id' then '''g'' || n' when 'id' then 'laurel_private.uuid_v7()'
          when 'reached_id' then 'laurel_private.uuid_v7()' else 's.' || quote_ident(c.attname) end, ', ' order by c.attnum),
        relation, 'u')
      into copying from pg_attribute c
      where c.attrelid = relation and c.attnum > 0 and not c.attisdropped and c.attgenerated = '';
      execute copying using from_no, to_no;
    end loop;
    commit;
    from_no := to_no + 1;
  end loop;
end
$$;

-- The months behind us.
create procedure bench.add_months(months int) language plpgsql as $$
declare
  month date;
begin
  for ago in 1..months loop
    month := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
    call laurel_private.create_month_partition('laurel_private.metric_event_log', 'metric_events', month);
    call laurel_private.create_month_partition('laurel.points_awards', 'points_awards', month);
  end loop;
end
$$;

-- IDs as if made in that month: `no` keeps them apart.
create function bench.id_in(month date, no int) returns uuid language sql immutable parallel safe
  return (left(laurel_private.first_uuid_v7(month::timestamp at time zone 'UTC' + no * interval '0.5 seconds')::text, 23)
    || '-' || lpad(to_hex(no), 12, '0'))::uuid;

-- `each` events of every g user in that month, and an award of each. In key order: an index filled in order is built at the
-- speed of the disk.
create procedure bench.add_events(ago int, users int, each int) language plpgsql as $$
declare
  month date := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
begin
  execute format($fill$
    insert into laurel_private.%I (id, tenant_id, user_id, metric_id, metric_key, value, attributes, occurred_at)
    select bench.id_in($1, $3 * u.n + k), m.tenant_id, u.id, m.id, m.key, 1, '{"kind": "plain"}', $1
    from laurel.metrics m, (select n, 'g' || n as id from generate_series(1, $2) n order by ('g' || n) collate "C") u,
      generate_series(0, $3 - 1) k
    where m.key = 'words'
  $fill$, 'metric_events' || to_char(month, '_YYYY_MM')) using month, users, each;
end
$$;

create procedure bench.add_awards(ago int, users int, each int) language plpgsql as $$
declare
  month date := date_trunc('month', now() at time zone 'UTC') - make_interval(months => ago);
begin
  execute format($fill$
    insert into laurel_private.%I (id, tenant_id, user_id, system_id, system_key, sequence, occurred_at, cause,
      trigger_id, event_id, metric_key, metric_threshold, trigger_points, firings, base_points, boost_multiplier,
      rounded_points, max_points, points, total_before, total_after)
    select bench.id_in($1, $3 * u.n + k), t.tenant_id, u.id, s.id, s.key, k + 1, $1, 'metric',
      t.id, bench.id_in($1, $3 * u.n + k), 'words', 1, 10, 1, 10, 1, 10, s.max_points, 10, 10 * k, 10 * k + 10
    from laurel.points_systems s
    join laurel.points_triggers t on t.system_id = s.id and t.metric_threshold = 1,
      (select n, 'g' || n as id from generate_series(1, $2) n order by ('g' || n) collate "C") u,
      generate_series(0, $3 - 1) k
  $fill$, 'points_awards' || to_char(month, '_YYYY_MM')) using month, users, each;
end
$$;
