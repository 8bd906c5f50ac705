-- Any of the users that growth.sql added.
\set user random(:first_user, :last_user)
\set gold random(1, 4)
select laurel.record_event('words', 'g' || :user, 1,
  case when :gold = 1 then '{"kind": "gold"}' else '{"kind": "plain"}' end::jsonb);
