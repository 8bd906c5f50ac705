-- 1,000 rows of 20 users, 50 each, two of them for the first time today.
\set first 1 + :client_id * 5000 + random(0, 249) * 18
insert into laurel.metric_events (metric_key, user_id, attributes)
select 'words', case when n % 20 < 18 then 'u' || cast(:first as int) + n % 20 else 'd' || 2 * b.block - n % 2 end,
  case when n / 20 % 4 = 0 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb
from (select nextval('bench.next_user') as block offset 0) b, generate_series(0, 999) n;
