-- Ours: a pool of 1,000 members with caps that are never reached.

SELECT credits_open_account('pool', 1000000000000);
SELECT count(credits_add_member('pool', 'user:' || i, 1000000000, 'day'))
FROM generate_series(1, 1000) AS i;
