-- 1,000 rows of 20 users, 50 each.
\set first 1 + :client_id * 5000 + random(0, 249) * 20
insert into laurel.metric_events (metric_key, user_id, attributes)
select 'words', 'u' || cast(:first as int) + n % 20, case when n / 20 % 4 = 0 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb
from generate_series(0, 999) n;
