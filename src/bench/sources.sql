-- What the other sources of points cost: run in two databases that setup.sql made. bench.add_sources() is called in one of
-- them alone, before bench.add_past(), which both call.

-- 20 achievements, a daily streak of any event, and 2 leaderboards: all of it is what an event of words can move.
create procedure bench.add_sources() language plpgsql as $$
begin
  insert into laurel.achievements (key, name, kind, status, metric_id, metric_value)
  select 'words-' || n, n || ' words', 'metric', 'active', m.id, n
  from laurel.metrics m, generate_series(100, 1200, 100) n where m.key = 'words';
  insert into laurel.achievements (key, name, kind, status, streak_length)
  select 'days-' || n, n || ' days', 'streak', 'active', n from unnest(array[3, 7, 30, 100]) n;
  insert into laurel.achievements (key, name, kind, status, prerequisite_ids)
  select c.key, c.key, 'achievement', 'active', array(select a.id from laurel.achievements a where a.key = any (c.prerequisites))
  from (values
    ('beginner', '{words-100,words-200,words-300}'::text[]), ('writer', '{words-400,words-800}'), ('steady', '{days-3,days-7}'),
    ('both', '{words-100,days-3}')) as c (key, prerequisites);
  insert into laurel.leaderboards (key, name, status, rank_by, system_id, starts_on)
  select 'points', 'Points', 'active', 'points', s.id, current_date - 30 from laurel.points_systems s;
  insert into laurel.leaderboards (key, name, status, rank_by, metric_id, starts_on, run_unit, run_interval)
  select 'words', 'Words of the week', 'active', 'metric', m.id, current_date - 17, 'day', 7
  from laurel.metrics m where m.key = 'words';
end
$$;

-- Without a streak: its condition is a metric that nobody reports.
create procedure bench.remove_streak() language plpgsql as $$
begin
  insert into laurel.metrics (key, name) values ('rests', 'Rests');
  perform laurel.update_streak_settings('{"metrics": [{"key": "rests", "threshold": 1}]}');
end
$$;

-- Users d1, d2, …: each has been here on 1 to 3 days in a row, up to yesterday, one in ten on 2, so that the third completes an
-- achievement; all users have totals from 1 to 1,200.
-- In the order of days, as they went by.
create procedure bench.add_past(users int) language plpgsql as $$
begin
  for ago in reverse 3..1 loop
    insert into laurel.metric_events (metric_key, user_id, value, occurred_at)
    select 'words', 'd' || n, case when ago = 1 then n * 37 % 1200 + 1 else 0.01 end,
      current_date::timestamp at time zone 'UTC' - make_interval(days => ago) + interval '12 hours'
    from generate_series(1, users) n where case when n % 10 = 0 then 2 when n % 2 = 0 then 3 else 1 end >= ago;
    commit;
    -- As autovacuum does, which may not come in time.
    analyze;
  end loop;
  insert into laurel.metric_events (metric_key, user_id, value)
  select 'words', 'u' || n, n * 37 % 1200 from generate_series(1, 10000) n;
end
$$;

create sequence bench.next_user;

-- Gives those users the day that begins back: nothing has happened today, and the last look at them was yesterday's.
create procedure bench.begin_day() language plpgsql as $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  perform setval('bench.next_user', 1, false);
  delete from laurel.user_achievements c using laurel.achievements a
  where a.id = c.achievement_id and a.kind = 'streak' and c.user_id like 'd%' and c.achieved_at >= today::timestamp at time zone 'UTC';
  delete from laurel_private.streak_periods p where p.user_id like 'd%' and p.period_start >= today;
  update laurel_private.user_streaks s
  set length = s.length - 1, longest = s.longest - 1, due_at = s.due_at - interval '1 day'
  from laurel_private.streak_runs r
  where r.tenant_id = s.tenant_id and r.user_id = s.user_id and r.user_id like 'd%' and r.last_period = today;
  update laurel_private.streak_runs r
  set last_period = today - 1, through_period = today - 1, length = r.length - 1
  where r.user_id like 'd%' and r.last_period = today;
  update laurel_private.user_streaks s set settled_on = today - 1 where s.user_id like 'd%' and s.length > 0;
  update laurel_private.user_states s
  set streak_is_satisfied = true, streak_valid_from = (today - 1)::timestamp at time zone 'UTC',
    streak_valid_until = today::timestamp at time zone 'UTC'
  from laurel_private.user_streaks u
  where s.user_id like 'd%' and u.tenant_id = s.tenant_id and u.user_id = s.user_id and u.length > 0;
end
$$;
