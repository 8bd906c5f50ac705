-- One event in ten is the first of its user's day.
\set user random(:first_user, :last_user)
\set gold random(1, 4)
\set first random(1, 10)
\if :first = 1
select laurel.record_event('words', 'd' || nextval('bench.next_user'), 1,
  case when :gold = 1 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb);
\else
select laurel.record_event('words', 'u' || :user, 1,
  case when :gold = 1 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb);
\endif
