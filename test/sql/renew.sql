-- renew: periods, rollover, catching up
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_renew TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_renew
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left
SET credits.test_clock = '2060-01-01 00:00:00+00';
CALL credits_settle() \gset
CALL credits_renew() \gset
SELECT count(credits_cancel_subscription(id, 'now')) AS canceled
FROM credits.subscriptions WHERE status <> 'canceled' \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 420001;
ALTER SEQUENCE credits.grants_id_seq RESTART 420001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 420001;
ALTER SEQUENCE credits.events_id_seq RESTART 420001;
ALTER SEQUENCE credits.plans_id_seq RESTART 420001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 420001;
SET ROLE regress_credits_admin;
SELECT count(*) FROM credits.subscriptions WHERE due_at <= credits.now();
CREATE VIEW pg_temp.what_periods_gave AS
SELECT p.subscription_id AS sub, p.number AS no, p.starts_at, p.ends_at, p.status, p.credits, p.given, p.unused, p.rolled,
	   g.expires_at AS rolled_until
FROM credits.periods AS p LEFT JOIN credits.grants AS g ON g.id = ANY (p.rolled_grant_ids)
ORDER BY p.subscription_id, p.starts_at;

-- a month's end: clamped, and back again
SELECT credits_set_plan('renew:plain', 100, price => 10, currency => 'EUR');
SELECT kind FROM credits_open_account('renew:1');
SET credits.test_clock = '2060-01-31 12:00:00+00';
SELECT * FROM credits_subscribe('renew:1', 'renew:plain', timezone => 'Europe/Berlin');
SELECT balance FROM credits_deduct('renew:1', 30);
SET credits.test_clock = '2060-02-29 11:59:59.999999+00';
CALL credits_renew();
SET credits.test_clock = '2060-02-29 12:00:00+00';
CALL credits_renew();
CALL credits_renew();
SELECT credits_balance('renew:1');
SET credits.test_clock = '2060-06-01 00:00:00+00';
CALL credits_renew();
SELECT no, starts_at, ends_at, status, credits, given, unused, rolled FROM pg_temp.what_periods_gave WHERE sub = 420001;
SELECT status, period_number, period_start, period_end, due_at FROM credits.subscriptions WHERE id = 420001;
SELECT created_at, kind, amount, balance FROM credits_history('renew:1');
SELECT id, effective_at, expires_at, amount, remaining, status, priority, source, price, currency
FROM credits.grants WHERE account_id = 420001 ORDER BY id;
SELECT terms FROM credits.transactions WHERE account_id = 420001 AND kind IN ('allocation', 'subscription') ORDER BY id LIMIT 2;
SELECT kind, transaction_id, created_at, detail FROM credits.events WHERE account_id = 420001 AND kind <> 'low_balance' ORDER BY id LIMIT 2;
SELECT kind, count(*) FROM credits.events WHERE account_id = 420001 AND kind <> 'low_balance' GROUP BY kind ORDER BY kind;

-- rollover: least(maximum, greatest(unused, minimum)), of the ending period only
SELECT credits_set_plan('renew:maximum', 100, rollover => 'maximum', rollover_maximum => 40, rollover_minimum => 5);
SELECT credits_set_plan('renew:share', 15, rollover => 'share', rollover_share => 0.5, rollover_periods => 2);
SELECT credits_set_plan('renew:ever', 100, rollover => 'maximum', clear => '{rollover_periods}');
SELECT o.kind FROM generate_series(2, 4) AS n, credits_open_account('renew:' || n) AS o;
SELECT subscription_id FROM credits_subscribe('renew:2', 'renew:maximum', starts_at => '2060-06-01 00:00+00');
SELECT subscription_id FROM credits_subscribe('renew:3', 'renew:share', starts_at => '2060-06-01 00:00+00');
SELECT subscription_id FROM credits_subscribe('renew:4', 'renew:ever', starts_at => '2060-06-01 00:00+00');
SELECT balance FROM credits_deduct('renew:2', 30);
SELECT balance FROM credits_deduct('renew:3', 10);
SELECT balance FROM credits_deduct('renew:4', 99);
SET credits.test_clock = '2060-07-01 00:00:00+00';
CALL credits_renew();
-- what is rolled over expires with the period that it was rolled into, or later
SELECT balance FROM credits_deduct('renew:2', 100);
SELECT balance FROM credits_deduct('renew:3', 1);
SET credits.test_clock = '2060-08-01 00:00:00+00';
CALL credits_renew();
SELECT balance FROM credits_deduct('renew:2', 104);
SET credits.test_clock = '2060-09-01 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub BETWEEN 420002 AND 429999;
SELECT a.name, g.amount, g.remaining, g.status, g.effective_at, g.expires_at
FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE g.account_id BETWEEN 420002 AND 420004 AND g.status = 'open' ORDER BY g.account_id, g.id;
SELECT terms - (SELECT string_agg(k, '') FROM jsonb_object_keys(terms) AS k WHERE k ~ '^[0-9]') AS terms
FROM credits.transactions WHERE account_id = 420002 AND kind = 'allocation' ORDER BY id LIMIT 3;

-- what was settled before the job came rolls over all the same
SELECT kind FROM credits_open_account('renew:5');
SELECT subscription_id FROM credits_subscribe('renew:5', 'renew:maximum');
SELECT balance FROM credits_deduct('renew:5', 70);
SET credits.test_clock = '2060-10-01 00:00:00+00';
CALL credits_settle() \gset
SELECT balance FROM credits.accounts WHERE name = 'renew:5';
SET credits.test_clock = '2060-10-02 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420005;
SELECT credits_balance('renew:5');
-- what is refunded into a period that has ended lives on for the refund's grace, and is not rolled over
SELECT transaction_id AS spend FROM credits_history('renew:5') WHERE kind = 'deduction' \gset
SELECT kind, amount, balance FROM credits_refund(:spend);
SET credits.test_clock = '2060-11-01 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420005;

-- late by a year: all that were missed, or the latest alone
SELECT credits_set_plan('renew:all', 10, rollover => 'maximum', rollover_maximum => 4, rollover_periods => 2);
SELECT credits_set_plan('renew:latest', 10, rollover => 'maximum', rollover_maximum => 4, catch_up => 'latest');
SELECT o.kind FROM generate_series(6, 8) AS n, credits_open_account('renew:' || n) AS o;
SELECT subscription_id FROM credits_subscribe('renew:6', 'renew:all');
SELECT subscription_id FROM credits_subscribe('renew:7', 'renew:latest');
SELECT balance FROM credits_deduct('renew:6', 9);
SELECT balance FROM credits_deduct('renew:7', 9);
SET credits.test_clock = '2061-10-10 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (420006, 420007);
-- in time it comes to the same
SELECT subscription_id FROM credits_subscribe('renew:8', 'renew:all', anchor => '2060-11-01 00:00+00');
SET credits.test_clock = '2061-11-01 00:00:00+00';
CALL credits_renew();
SELECT balance FROM credits_deduct('renew:8', 13);
SELECT format('SET credits.test_clock = %L; CALL credits_renew()', at)
FROM generate_series('2061-12-01 00:00+00'::timestamptz, '2062-10-01 00:00+00', '1 month') AS at \gexec
SET credits.test_clock = '2062-10-10 00:00:00+00';
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420008;
SELECT name, balance, granted, expired FROM credits.accounts WHERE id BETWEEN 420006 AND 420008 ORDER BY id;
SELECT a.name, g.amount, g.remaining, g.effective_at, g.expires_at
FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE g.account_id BETWEEN 420006 AND 420008 AND g.status = 'open' ORDER BY g.account_id, g.id;

-- thousands of days
SELECT credits_set_plan('renew:day', 1, 'day');
SELECT kind FROM credits_open_account('renew:9');
SELECT subscription_id FROM credits_subscribe('renew:9', 'renew:day');
SET credits.test_clock = '2066-04-10 00:00:00+00';
CALL credits_renew();
SELECT count(*), count(DISTINCT number), max(number), min(starts_at), max(ends_at) FROM credits.periods WHERE subscription_id = 420009;
SELECT credits_balance('renew:9');
SELECT status FROM credits_cancel_subscription(420009, 'now');

-- an account that is closed ends its subscription; one that is full is tried again
SELECT kind FROM credits_open_account('renew:10');
SELECT kind FROM credits_open_account('renew:11');
SELECT subscription_id FROM credits_subscribe('renew:10', 'renew:plain');
SELECT subscription_id FROM credits_subscribe('renew:11', 'renew:plain');
SELECT balance FROM credits_allocate('renew:11', 50);
SELECT kind FROM credits_set_limits('renew:11', max_balance => 120);
SELECT kind FROM credits_close_account('renew:10', 'gone');
SET credits.test_clock = '2066-05-10 00:00:00+00';
CALL credits_renew();
CALL credits_renew();
SELECT id, status, ended_at, due_at FROM credits.subscriptions WHERE id IN (420010, 420011) ORDER BY id;
SELECT account_id, kind, detail FROM credits.events WHERE kind = 'renewal_failed' AND account_id IN (420010, 420011) ORDER BY id;
SELECT balance FROM credits_deduct('renew:11', 30);
CALL credits_renew();
SELECT no, starts_at, credits FROM pg_temp.what_periods_gave WHERE sub = 420011;
-- or is given what there is room for
SELECT kind FROM credits_set_limits('renew:11', max_balance => 70, excess => 'clip');
SET credits.test_clock = '2066-06-10 00:00:00+00';
CALL credits_renew();
SELECT no, starts_at, credits, given FROM pg_temp.what_periods_gave WHERE sub = 420011;
SELECT credits_balance('renew:11');

-- nothing to give, paused accounts, two subscriptions of one account
SELECT credits_set_plan('renew:nothing', 0);
SELECT kind FROM credits_open_account('renew:12');
SELECT subscription_id FROM credits_subscribe('renew:12', 'renew:nothing');
SELECT subscription_id FROM credits_subscribe('renew:12', 'renew:plain');
SELECT subscription_id FROM credits_subscribe('renew:12', 'renew:share');
SELECT kind FROM credits_pause_account('renew:12', 'pause');
SET credits.test_clock = '2066-07-10 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub BETWEEN 420012 AND 420014;

-- a trial, and a period that begins within one of the calendar
SELECT credits_set_plan('renew:trial', 100, trial => '10 days', trial_credits => 7, rollover => 'maximum');
SELECT kind FROM credits_open_account('renew:13');
SELECT status, period_start, period_end, balance
FROM credits_subscribe('renew:13', 'renew:trial', anchor => '2066-01-01 00:00+00');
SET credits.test_clock = '2066-07-20 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420015;
SELECT status FROM credits.subscriptions WHERE id = 420015;
SET credits.test_clock = '2066-08-01 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420015;
SELECT kind, detail - 'account' - 'plan' AS detail FROM credits.events WHERE account_id = 420013 AND kind <> 'low_balance' ORDER BY id;

-- the end of the month and of February, in New York; a year lasts from 29 to 28 February
SELECT credits_set_plan('renew:year', 1200, 'year');
SELECT kind FROM credits_open_account('renew:14');
SET credits.test_clock = '2068-01-31 23:00:00-05';
SELECT subscription_id FROM credits_subscribe('renew:14', 'renew:plain', timezone => 'America/New_York');
SET credits.test_clock = '2068-02-29 03:00:00-05';
SELECT subscription_id FROM credits_subscribe('renew:14', 'renew:year', timezone => 'America/New_York');
SET credits.test_clock = '2068-07-01 00:00:00-04';
CALL credits_renew();
SET credits.test_clock = '2072-04-01 00:00:00-04';
CALL credits_renew();
SET timezone = 'America/New_York';
SELECT number, starts_at, ends_at FROM credits.periods WHERE subscription_id = 420016 AND number < 5 ORDER BY starts_at;
SELECT number, starts_at, ends_at FROM credits.periods WHERE subscription_id = 420017 ORDER BY starts_at;
SET timezone = 'UTC';

-- what is held when its period ends is not unused: it is spent or, released, lost with its period
SELECT o.kind FROM generate_series(15, 16) AS n, credits_open_account('renew:' || n) AS o;
SELECT subscription_id FROM credits_subscribe('renew:15', 'renew:ever');
SELECT subscription_id FROM credits_subscribe('renew:16', 'renew:ever');
SELECT transaction_id AS hold1 FROM credits_hold('renew:15', 60, expires_in => '60 days') \gset
SELECT transaction_id AS hold2 FROM credits_hold('renew:16', 60, expires_in => '60 days') \gset
SET credits.test_clock = '2072-05-01 04:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (420018, 420019);
SELECT amount, balance, held FROM credits_capture(:hold1, 50);
SELECT amount, balance, held FROM credits_release(:hold2);
SELECT kind, amount, balance, held FROM credits_history('renew:15') LIMIT 5;
SELECT amount, remaining, expires_at FROM credits.grants WHERE account_id IN (420015, 420016) ORDER BY id;
SET credits.test_clock = '2072-06-01 04:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (420018, 420019);

-- room for what is rolled over is what the next period leaves; the rest is not kept
SELECT kind FROM credits_open_account('renew:17');
SELECT subscription_id FROM credits_subscribe('renew:17', 'renew:ever');
SELECT kind FROM credits_set_limits('renew:17', max_balance => 130, excess => 'clip');
SET credits.test_clock = '2072-07-01 04:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 420020;
SELECT credits_balance('renew:17');

-- a minimum is kept though less is left, but no more than the maximum
SELECT credits_set_plan('renew:least', 100, rollover => 'maximum', rollover_maximum => 10, rollover_minimum => 20);
SELECT credits_set_plan('renew:less', 100, rollover => 'share', rollover_share => 0.305, rollover_minimum => 20);
SELECT kind FROM credits_open_account('renew:18');
SELECT subscription_id FROM credits_subscribe('renew:18', 'renew:least');
SELECT subscription_id FROM credits_subscribe('renew:18', 'renew:less');
SELECT balance FROM credits_deduct('renew:18', 200);
SET credits.test_clock = '2072-08-01 04:00:00+00';
CALL credits_renew();
SET credits.test_clock = '2072-09-01 04:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (420021, 420022);

SELECT status FROM credits_cancel_subscription(420020, 'now');
-- a maximum is of what each period rolls over, a total of all that is left of it: the oldest gives way
SELECT credits_set_plan('renew:bounded', 1000, rollover => 'maximum', rollover_maximum => 500, clear => '{rollover_periods}');
SELECT credits_set_plan('renew:total', 1000, rollover => 'maximum', rollover_total => 500, clear => '{rollover_periods}');
SELECT credits_set_plan('renew:nothing left', 1000, rollover => 'maximum', rollover_total => 0, clear => '{rollover_periods}');
SELECT o.kind FROM generate_series(19, 22) AS n, credits_open_account('renew:' || n) AS o;
SELECT subscription_id FROM credits_subscribe('renew:19', 'renew:bounded');
SELECT subscription_id FROM credits_subscribe('renew:20', 'renew:total');
SELECT subscription_id FROM credits_subscribe('renew:21', 'renew:nothing left');
SELECT d.balance FROM generate_series(19, 21) AS n, credits_deduct('renew:' || n, 700) AS d;
SET credits.test_clock = '2072-10-01 04:00:00+00';
CALL credits_renew();
SELECT d.balance FROM generate_series(19, 21) AS n, credits_deduct('renew:' || n, 600) AS d;
SET credits.test_clock = '2072-11-01 04:00:00+00';
CALL credits_renew();
SELECT p.subscription_id AS sub, array_agg(p.rolled ORDER BY p.starts_at) AS rolled,
	array_agg(g.remaining ORDER BY p.starts_at) AS remaining
FROM credits.periods AS p LEFT JOIN credits.grants AS g ON g.id = ANY (p.rolled_grant_ids)
WHERE p.subscription_id BETWEEN 420023 AND 420025 GROUP BY 1 ORDER BY 1;
SELECT created_at, kind, amount, balance FROM credits_history('renew:20') LIMIT 5;
SELECT terms FROM credits.transactions WHERE account_id = 420020 AND kind = 'void';
-- what was rolled over is rolled over again with what else is left, up to the maximum
SELECT credits_set_plan('renew:again', 100, rollover => 'maximum', rollover_maximum => 150, rollover_again => true);
SELECT subscription_id FROM credits_subscribe('renew:22', 'renew:again');
SET credits.test_clock = '2073-01-01 04:00:00+00';
CALL credits_renew();
SELECT balance FROM credits_deduct('renew:22', 120);
SET credits.test_clock = '2073-02-01 04:00:00+00';
CALL credits_renew();
SELECT balance FROM credits_deduct('renew:22', 230);
SET credits.test_clock = '2073-04-01 04:00:00+00';
CALL credits_renew();
SELECT number, given, unused, again, rolled FROM credits.periods WHERE subscription_id = 420026 ORDER BY starts_at;
SELECT credits_balance('renew:22');

-- what is kept for ever is kept of the last period, too: canceled at its end, within it, unpaid or paused
SELECT o.kind FROM generate_series(23, 27) AS n, credits_open_account('renew:' || n) AS o;
SELECT array_agg(s.subscription_id) FROM generate_series(23, 27) AS n, credits_subscribe('renew:' || n, 'renew:ever') AS s;
SELECT d.balance FROM generate_series(23, 27) AS n, credits_deduct('renew:' || n, 10 + n) AS d;
SELECT status, cancel_at FROM credits_cancel_subscription(420027);
SELECT status FROM credits_cancel_subscription(420028, 'now');
SELECT status, cancel_at FROM credits_cancel_subscription(420029, credits => 'expire');
SELECT status FROM credits_mark_unpaid(420030);
SELECT status FROM credits_pause_subscription(420031);
SELECT id, status, due_at FROM credits.subscriptions WHERE id BETWEEN 420027 AND 420031 ORDER BY id;
SET credits.test_clock = '2073-05-02 04:00:00+00';
CALL credits_renew();
CALL credits_renew();
SELECT sub, unused, rolled, rolled_until FROM pg_temp.what_periods_gave WHERE sub BETWEEN 420027 AND 420031;
SELECT n, credits_balance('renew:' || n) FROM generate_series(23, 27) AS n;
SELECT id, status, due_at FROM credits.subscriptions WHERE id BETWEEN 420027 AND 420031 ORDER BY id;
-- and once: a payment rolls nothing over again
SELECT balance FROM credits_mark_paid(420030);

-- all or nothing, and once
BEGIN;
SET LOCAL credits.test_clock = '2073-06-10 00:00:00+00';
CALL credits_renew();
ROLLBACK;
SELECT count(*) FROM credits.periods WHERE starts_at >= '2073-06-10' AND subscription_id BETWEEN 420001 AND 429999;
\set ON_ERROR_ROLLBACK on
CALL credits_renew(0);
CALL credits_renew(NULL);
SET ROLE regress_credits_app;
CALL credits_renew();
SET ROLE regress_credits_admin;
-- without the job: what reads an account counts what a renewal would give, and what changes it renews it first
SET credits.test_clock = '2074-01-01 00:00:00+00';
CALL credits_renew() \gset
SELECT credits_set_plan('renew:touch', 100, rollover => 'maximum', rollover_maximum => 40);
SELECT o.kind FROM generate_series(31, 36) AS n, credits_open_account('renew:' || n) AS o;
SELECT subscription_id AS touched FROM credits_subscribe('renew:31', 'renew:touch') \gset
SELECT name, due_at, renews_at FROM credits.accounts WHERE name IN ('renew:31', 'renew:34') ORDER BY id;
SELECT balance FROM credits_deduct('renew:31', 75, idempotency_key => 'first');
SET credits.test_clock = '2074-02-01 00:00:00+00';
BEGIN READ ONLY;
SELECT credits_balance('renew:31');
SELECT balance, expiring_amount, expiring_at, granted, spent, expired FROM credits_summary('renew:31');
SELECT grant_id, amount, remaining, effective_at, expires_at, rolled_over, transaction_id, created_at FROM credits_grants('renew:31');
SELECT source, balance, grants, expiring_at FROM credits_balance_by_source('renew:31');
SELECT at, credits_balance_at('renew:31', at)
FROM unnest('{2074-01-31 23:59:59.999999+00,2074-02-01 00:00+00,2074-02-15 00:00+00,2074-03-01 00:00+00}'::timestamptz[]) AS at;
COMMIT;
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SELECT credits_balance('renew:31');
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false);
-- a replay writes nothing
SELECT balance, replayed FROM credits_deduct('renew:31', 75, idempotency_key => 'first');
SELECT balance FROM credits.accounts WHERE name = 'renew:31';
SELECT count(*) FROM credits.periods WHERE subscription_id = :touched;
-- nor does what is refused
SELECT balance FROM credits_deduct('renew:31', 126);
SELECT count(*) FROM credits.periods WHERE subscription_id = :touched;
SELECT kind, amount, balance FROM credits_deduct('renew:31', 110);
SELECT no, starts_at, status, given, unused, rolled FROM pg_temp.what_periods_gave WHERE sub = :touched;
SELECT created_at, kind, amount, balance FROM credits_history('renew:31', max_rows => 5);
SELECT kind, detail ->> 'rolled_over' AS rolled_over FROM credits.events
WHERE account_id = credits.account_id('renew:31') AND kind <> 'low_balance' ORDER BY id;
SELECT renews_at FROM credits.accounts WHERE name = 'renew:31';
-- holds, transfers, batches, both accounts of them, several months late
SET credits.test_clock = '2074-06-10 00:00:00+00';
SELECT balance, held FROM credits_hold('renew:31', 140);
SET credits.test_clock = '2074-07-10 00:00:00+00';
SELECT account, amount, balance FROM credits_transfer('renew:31', 'renew:34', 5);
SET credits.test_clock = '2074-08-10 00:00:00+00';
SELECT balance FROM credits_allocate('renew:34', 5);
SELECT account, amount, balance FROM credits_transfer('renew:34', 'renew:31', 5);
SELECT balance FROM credits.accounts WHERE name = 'renew:31';
SET credits.test_clock = '2074-09-10 00:00:00+00';
SELECT item, (receipt).amount, (receipt).balance FROM credits_deduct_many('[{"account": "renew:31", "amount": 7}, {"account": "renew:31", "amount": 8}]'::jsonb);
SELECT no, starts_at, status, given, unused, rolled FROM pg_temp.what_periods_gave WHERE sub = :touched;
-- a change of plan that is due comes first, unless the plan is retired by then; two subscriptions of one account
SELECT credits_set_plan('renew:touch more', 500);
SELECT subscription_id AS second FROM credits_subscribe('renew:31', 'renew:touch') \gset
SELECT scheduled FROM credits_change_plan(:touched, 'renew:touch more', at => 'period_end');
SELECT scheduled FROM credits_change_plan(:second, 'renew:touch more', at => 'period_end');
SET credits.test_clock = '2074-10-05 00:00:00+00';
SELECT credits_retire_plan('renew:touch more') > 0 AS retired;
SET credits.test_clock = '2074-10-15 00:00:00+00';
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SELECT credits_balance('renew:31');
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false);
SELECT balance FROM credits_adjust('renew:31', 1, 'touched');
SELECT l.subscription_id - :touched AS sub, l.plan, l.period_start FROM credits.subscription_list AS l
WHERE l.subscription_id IN (:touched, :second) ORDER BY l.subscription_id;
-- what limits forbid is no reason to refuse a spend; it is said once, by whoever sees it first, and tried again
SELECT subscription_id AS full FROM credits_subscribe('renew:32', 'renew:touch') \gset
SELECT balance FROM credits_allocate('renew:32', 50);
SELECT kind FROM credits_set_limits('renew:32', max_balance => 120);
SET credits.test_clock = '2074-11-15 00:00:00+00';
SELECT credits_balance('renew:32');
SELECT balance FROM credits_deduct('renew:32', 9);
SELECT balance FROM credits_deduct('renew:32', 1);
CALL credits_renew();
SELECT kind, detail - 'subscription_id' AS detail FROM credits.events
WHERE account_id = credits.account_id('renew:32') AND kind LIKE 'renewal%';
SELECT balance FROM credits_deduct('renew:32', 30);
SELECT credits_balance('renew:32');
SELECT balance FROM credits_deduct('renew:32', 1);
SELECT renews_at FROM credits.accounts WHERE name = 'renew:32';
-- many that are forbidden do not keep a spend from its end
SELECT balance FROM credits_allocate('renew:35', 100);
SELECT kind FROM credits_set_limits('renew:35', max_balance => 120);
SELECT count(credits_subscribe('renew:35', 'renew:touch', starts_at => '2074-11-16 00:00+00', external_id => 'full ' || n))
FROM generate_series(1, 501) AS n;
SET credits.test_clock = '2074-11-17 00:00:00+00';
SET statement_timeout = '60s';
SELECT balance FROM credits_deduct('renew:35', 1);
RESET statement_timeout;
SELECT count(*), count(DISTINCT detail ->> 'subscription_id') FROM credits.events
WHERE account_id = credits.account_id('renew:35') AND kind = 'renewal_failed';
SELECT kind FROM credits_set_limits('renew:35', max_balance => 2000000);
SELECT balance FROM credits_deduct('renew:35', 1);
-- a trial begins and ends, and what is canceled ends
SELECT credits_set_plan('renew:touch trial', 60, trial => '7 days', trial_credits => 6);
SELECT subscription_id AS trial FROM credits_subscribe('renew:33', 'renew:touch trial', starts_at => '2074-11-20 00:00+00') \gset
SELECT credits_balance('renew:33');
SET credits.test_clock = '2074-11-20 00:00:00+00';
SELECT credits_balance('renew:33');
SELECT balance FROM credits_deduct('renew:33', 2);
SET credits.test_clock = '2074-11-27 00:00:00+00';
SELECT balance FROM credits_deduct('renew:33', 2);
SELECT cancel_at FROM credits_cancel_subscription(:trial, credits => 'expire');
SET credits.test_clock = '2074-12-28 00:00:00+00';
SELECT balance FROM credits_allocate('renew:33', 3);
SELECT kind FROM credits.events WHERE account_id = credits.account_id('renew:33') AND kind <> 'low_balance' ORDER BY id;
SELECT renews_at FROM credits.accounts WHERE name = 'renew:33';
-- one that limits forbid begins once there is room, also where what follows is paid
SELECT balance FROM credits_allocate('renew:36', 10);
SELECT kind FROM credits_set_limits('renew:36', max_balance => 12);
SELECT subscription_id AS late FROM credits_subscribe('renew:36', 'renew:touch trial', starts_at => '2074-12-29 00:00+00', collection => 'payment') \gset
SET credits.test_clock = '2074-12-30 00:00:00+00';
SELECT balance FROM credits_deduct('renew:36', 1);
CALL credits_renew();
SELECT count(*) FROM credits.periods WHERE subscription_id = :late;
SELECT balance FROM credits_deduct('renew:36', 5);
SELECT balance FROM credits_deduct('renew:36', 1);
SELECT status, given, granted FROM credits.periods WHERE subscription_id = :late;
-- thousands of periods take several postings, and are all there
SELECT subscription_id AS daily FROM credits_subscribe('renew:34', 'renew:day') \gset
SET credits.test_clock = '2080-12-28 00:00:00+00';
SELECT credits_balance('renew:34');
SELECT balance FROM credits_deduct('renew:34', 1);
SELECT count(*), max(number), max(ends_at) FROM credits.periods WHERE subscription_id = :daily;
-- an account that would not wake for a subscription is found
RESET ROLE;
BEGIN;
ALTER TABLE credits.accounts DISABLE TRIGGER accounts_write_log;
UPDATE credits.accounts SET renews_at = NULL WHERE name = 'renew:34';
SELECT problem, count(*) FROM credits_verify('renew:34') GROUP BY problem;
ROLLBACK;
SELECT * FROM credits_verify();
-- a period whose row is lost, or says something else, is found
BEGIN;
ALTER TABLE credits.periods DISABLE TRIGGER periods_refuse_change;
DELETE FROM credits.periods WHERE starts_at = (SELECT min(starts_at) FROM credits.periods WHERE status = 'granted' AND rolled > 0);
SELECT problem, count(*) FROM credits_verify() GROUP BY problem;
ROLLBACK;
BEGIN;
ALTER TABLE credits.periods DISABLE TRIGGER periods_refuse_change;
UPDATE credits.periods SET grant_id = 1 WHERE starts_at = (SELECT min(starts_at) FROM credits.periods WHERE status = 'granted' AND rolled > 0);
SELECT problem, count(*) FROM credits_verify() GROUP BY problem;
ROLLBACK;
\c :shared
DROP DATABASE regress_renew;
