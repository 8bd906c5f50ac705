-- What a careful application sends for one event: it locks the user, reads the rules, decides by
-- itself and writes. Eight statements between the lock and the commit.
\set user random(:first_user, :last_user)
\set gold random(1, 4)
begin;
select attributes, total from bench.app_users where id = :user for update;
select id, threshold, points, event_attributes from bench.app_triggers where metric_key = 'words';
select multiplier, starts_on, ends_on, user_attributes from bench.app_boosts where starts_on <= current_date;
select total, peak from bench.app_metrics where user_id = :user;
insert into bench.app_events (user_id, metric_key, value, attributes)
values (:user, 'words', 1, case when :gold = 1 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb);
update bench.app_metrics set total = total + 1, peak = greatest(peak, total + 1) where user_id = :user;
update bench.app_users set total = total + 20 where id = :user;
insert into bench.app_ledger (user_id, trigger_id, points, total_after)
select :user, 1, 20, total from bench.app_users where id = :user;
select name from bench.app_levels where points <= 1000 order by points desc limit 1;
commit;
