\set user random(:first_user, :last_user)
select bench.award_on_own_tables('words', 'u' || :user, 1, 20);
