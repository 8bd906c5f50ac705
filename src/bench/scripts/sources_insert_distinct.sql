-- 1,000 rows of 1,000 users, one in ten of them the first of its user's day. Each client has users of its own.
\set first 1 + :client_id * 5000 + random(0, 5) * 800
insert into laurel.metric_events (metric_key, user_id, attributes)
select 'words', case when n < 900 then 'u' || cast(:first as int) + n else 'd' || 100 * b.block - (n - 900) end,
  case when n % 4 = 0 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb
from (select nextval('bench.next_user') as block offset 0) b, generate_series(0, 999) n;
