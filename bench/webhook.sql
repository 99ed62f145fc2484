-- As many purchases as :events, started one after the other, so that purchase n
-- is that of user:n.

SET credits.test_clock = '2030-01-01 00:00+00';
SELECT credits_set_package('starter', 1000, 10.00, 'USD');
SELECT credits_stripe_add_secret('bench', 'whsec_of_the_benchmark');
SELECT count(credits_start_purchase('user:' || i, 'starter'))
FROM generate_series(1, :events) AS i;
