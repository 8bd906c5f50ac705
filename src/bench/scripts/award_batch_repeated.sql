\set first 1 + :client_id * 5000 + random(0, 249) * 20
select bench.award_batch('words', array(select cast(:first as int) + n % 20 from generate_series(0, 999) n), 1, 20);
