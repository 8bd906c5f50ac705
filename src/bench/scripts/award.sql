\set user random(:first_user, :last_user)
select bench.award('words', :user, 1, 20);
