-- 1,000 rows of 1,000 users. Each client has users of its own.
\set first 1 + :client_id * 5000 + random(0, 4) * 1000
insert into laurel.metric_events (metric_key, user_id, attributes)
select 'words', 'u' || n, case when n % 4 = 0 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb
from generate_series(cast(:first as int), cast(:first as int) + 999) n;
