\set first 1 + :client_id * 5000 + random(0, 4) * 1000
select bench.award_batch('words', array(select n from generate_series(cast(:first as int), cast(:first as int) + 999) n), 1, 20);
