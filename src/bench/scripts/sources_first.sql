-- Every event is the first of its user's day.
\set gold random(1, 4)
select laurel.record_event('words', 'd' || nextval('bench.next_user'), 1,
  case when :gold = 1 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb);
