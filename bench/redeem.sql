-- Ours: codes of unlimited uses, also for one account.

SELECT count(credits_create_promo_code('CODE' || i, 1, per_account => 1000000000))
FROM generate_series(1, :accounts) AS i;
