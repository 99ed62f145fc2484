-- grace: what is left lives on until the next period is paid
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_grace TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_grace
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET ROLE regress_credits_admin;
SET credits.test_clock = '2060-01-01 00:00:00+00';
CREATE VIEW pg_temp.what_periods_gave AS
SELECT p.subscription_id AS sub, p.starts_at::date AS starts, p.status, p.given, p.unused, p.rolled, g.amount AS grace, g.status AS grace_is, p.grace_spent
FROM credits.periods AS p LEFT JOIN credits.grants AS g ON g.id = p.grace_grant_id
ORDER BY p.subscription_id, p.starts_at;
SELECT credits_set_plan('pro', 100, rollover => 'maximum', rollover_maximum => 20, grace => '7 days') AS pro,
	credits_set_plan('plain', 100, grace => '7 days', catch_up => 'latest') AS plain,
	credits_set_plan('ever', 100, rollover => 'maximum', clear => '{rollover_periods}', grace => '7 days') AS ever;
SELECT name, grace FROM credits.current_plans ORDER BY plan_id;
SELECT credits_set_plan('x', 1, grace => '-1 day');
SELECT credits_set_plan('x', 1, grace => '1001 years');

-- by the clock, not paid at the end of the period: paid in time, after the grace, or not at all
SELECT count(credits_open_account('u' || n)) FROM generate_series(1, 12) AS n;
SELECT count(credits_subscribe('u' || n, 'pro')) FROM generate_series(1, 5) AS n;
SELECT count(credits_subscribe('u' || n, 'plain')) FROM generate_series(6, 7) AS n;
SELECT count(credits_subscribe('u' || n, 'ever')) FROM generate_series(8, 9) AS n;
SELECT count(credits_subscribe('u' || n, 'pro', collection => 'payment')) FROM generate_series(10, 12) AS n;
SELECT count(credits_mark_paid(n)) FROM generate_series(10, 12) AS n;
SELECT count(credits_deduct('u' || n, 40)) FROM generate_series(1, 12) AS n;
SELECT count(credits_mark_unpaid(n)) FROM generate_series(1, 9) AS n;
SET credits.test_clock = '2060-02-01 00:00:30+00';
CALL credits_renew();
SELECT array_agg(credits_balance('u' || n) ORDER BY n) FROM generate_series(1, 12) AS n;
CALL credits_renew();
SELECT subscription_id, plan, status, given, remaining, rolled_over FROM credits_subscriptions('u1');
SELECT created_at, kind, amount, balance FROM credits_history('u1') LIMIT 3;
SELECT terms - terms_id AS terms FROM (SELECT terms, (SELECT k FROM jsonb_object_keys(terms) AS k WHERE k ~ '^[0-9]') AS terms_id
	FROM credits.transactions WHERE kind = 'allocation' AND terms ? 'grace' ORDER BY id LIMIT 1) AS t;
SELECT count(credits_deduct('u' || n, 30)) FROM generate_series(1, 12) AS n;
-- paid: 20 are rolled over, 10 more are taken from the new ones
SET credits.test_clock = '2060-02-04 00:00:00+00';
SELECT balance FROM credits_mark_paid(1);
SELECT created_at, kind, amount, balance FROM credits_history('u1') LIMIT 6;
SELECT balance FROM credits_mark_paid(6);
SELECT balance FROM credits_mark_paid(8);
SELECT balance FROM credits_mark_paid(10);
SELECT balance FROM credits_mark_paid(10);
-- given up, canceled, paused: the grace is over
SELECT status, balance FROM credits_mark_unpaid(2, 'unpaid');
SELECT status, balance FROM credits_cancel_subscription(3);
SELECT status, balance FROM credits_pause_subscription(4);
SELECT status, balance FROM credits_cancel_subscription(11, 'now', credits => 'expire');
-- and it is over by itself
SET credits.test_clock = '2060-02-08 00:00:00+00';
SELECT array_agg(credits_balance('u' || n) ORDER BY n) FROM generate_series(1, 12) AS n;
CALL credits_renew();
SELECT array_agg(credits_balance('u' || n) ORDER BY n) FROM generate_series(1, 12) AS n;
-- what was spent in it counts all the same, whenever it is paid
SET credits.test_clock = '2060-02-20 00:00:00+00';
SELECT balance FROM credits_mark_paid(2);
SELECT balance FROM credits_mark_paid(5);
SELECT balance FROM credits_mark_paid(7);
SELECT balance FROM credits_mark_paid(9);
SELECT balance FROM credits_mark_paid(12);
SELECT * FROM pg_temp.what_periods_gave;
-- when the period that is paid for is over, too, it has that much less to roll over
SET credits.test_clock = '2060-02-21 00:00:00+00';
SELECT count(credits_mark_unpaid(n)) FROM unnest('{2,7}'::int[]) AS n;
SET credits.test_clock = '2060-03-01 00:00:00+00';
CALL credits_renew();
SELECT count(credits_deduct('u' || n, 70)) FROM unnest('{2,7}'::int[]) AS n;
SET credits.test_clock = '2060-04-15 00:00:00+00';
SELECT balance FROM credits_mark_paid(2);
SELECT balance FROM credits_mark_paid(7);
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (2, 7);

-- a spend in the grace that is refunded once it is over is not taken from anything
SELECT count(credits_open_account('v' || n)) FROM generate_series(1, 3) AS n;
SELECT array_agg(s.subscription_id) FROM generate_series(1, 3) AS n, credits_subscribe('v' || n, 'pro') AS s;
SELECT count(credits_mark_unpaid(n)) FROM generate_series(13, 15) AS n;
SET credits.test_clock = '2060-05-15 00:00:00+00';
CALL credits_renew();
SELECT balance FROM credits_deduct('v1', 30);
SELECT amount, balance FROM credits_refund((SELECT transaction_id FROM credits_history('v1') LIMIT 1));
SELECT balance FROM credits_mark_paid(13);
-- credits that are held count as spent
SELECT amount, balance, held FROM credits_hold('v2', 30, expires_in => '30 days');
SELECT balance FROM credits_mark_paid(14);
SELECT * FROM pg_temp.what_periods_gave WHERE sub > 12;
RESET ROLE;
SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_grace;
