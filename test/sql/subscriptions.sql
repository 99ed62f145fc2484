-- subscriptions: subscribing, canceling, pausing, unpaid and paid
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_subscriptions TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_subscriptions
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left
SET credits.test_clock = '2070-01-01 00:00:00+00';
CALL credits_settle() \gset
CALL credits_renew() \gset
SELECT count(credits_cancel_subscription(id, 'now')) AS canceled
FROM credits.subscriptions WHERE status <> 'canceled' \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 430001;
ALTER SEQUENCE credits.grants_id_seq RESTART 430001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 430001;
ALTER SEQUENCE credits.events_id_seq RESTART 430001;
ALTER SEQUENCE credits.plans_id_seq RESTART 430001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 430001;
SET ROLE regress_credits_admin;
SELECT credits_set_plan('subs:pro', 100, price => 10, currency => 'EUR', rollover => 'maximum', clear => '{rollover_periods}');
SELECT credits_set_plan('subs:trial', 100, trial => '14 days', trial_credits => 5);
SELECT credits_set_plan('subs:images', 10, unit => 'image');
SELECT o.kind FROM generate_series(1, 9) AS n, credits_open_account('subs:' || n) AS o;
CREATE VIEW pg_temp.list AS
SELECT subscription_id AS id, account, plan, status, collection, external_id, period_start, period_end, cancel_at, cancel_credits, ended_at
FROM credits.subscription_list WHERE subscription_id BETWEEN 430001 AND 439999 ORDER BY subscription_id;
CREATE VIEW pg_temp.what_periods_gave AS
SELECT subscription_id AS sub, number AS no, starts_at, ends_at, status, credits, unused, rolled
FROM credits.periods WHERE subscription_id BETWEEN 430001 AND 439999 ORDER BY subscription_id, starts_at;

-- once for each key, and for each external id
SELECT * FROM credits_subscribe('subs:1', 'subs:pro', idempotency_key => 'one', metadata => '{"seats": 2}');
SELECT * FROM credits_subscribe('subs:1', 'subs:pro', idempotency_key => 'one');
SELECT * FROM credits_subscribe('subs:1', 'subs:pro', idempotency_key => 'one', timezone => 'Asia/Tokyo');
SELECT * FROM credits_subscribe('subs:1', 'subs:pro', external_id => 'subs:external');
SELECT * FROM credits_subscribe('subs:1', 'subs:pro', external_id => 'subs:external');
SELECT * FROM credits_subscribe('subs:2', 'subs:pro', external_id => 'subs:external');
SELECT credits_balance('subs:1'), (SELECT count(*) FROM credits.subscriptions WHERE account_id = 430001);
SELECT metadata FROM credits.subscriptions WHERE id = 430001;
SELECT * FROM credits.plan_changes WHERE subscription_id = 430001;
SELECT account, plan FROM pg_temp.list;

-- later, and in the past
SELECT status, period_start, period_end, balance FROM credits_subscribe('subs:2', 'subs:pro', starts_at => '2070-02-10 00:00+00');
SELECT status, period_start, period_end, balance FROM credits_subscribe('subs:3', 'subs:pro', starts_at => '2069-11-15 00:00+00');
SELECT * FROM pg_temp.what_periods_gave WHERE sub IN (430003, 430004);
SET credits.test_clock = '2070-02-10 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = 430003;

-- a trial, once for each account and plan
SELECT status, period_end, balance FROM credits_subscribe('subs:4', 'subs:trial');
SELECT credits_set_plan('subs:trial', 100, trial => '1 month', trial_credits => 5);
SELECT status, period_end, balance FROM credits_subscribe('subs:4', 'subs:trial');
SELECT status, period_end, balance FROM credits_subscribe('subs:5', 'subs:trial', trial => false);
SELECT status, period_end, balance FROM credits_subscribe('subs:5', 'subs:trial');
SELECT g.source, g.amount, g.priority, g.price FROM credits.grants AS g WHERE g.account_id IN (430004, 430005) ORDER BY g.id;

-- canceled with its period: it is given no more
SELECT status, cancel_at, balance, replayed FROM credits_cancel_subscription(430003);
SELECT status, cancel_at, balance, replayed FROM credits_cancel_subscription(430003);
SELECT status, cancel_at, balance, replayed FROM credits_cancel_subscription(430003, credits => 'expire');
SELECT status, cancel_at, balance, replayed FROM credits_resume_subscription(430003);
SELECT status, cancel_at, balance, replayed FROM credits_cancel_subscription(430003);
SET credits.test_clock = '2070-03-10 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.list WHERE id = 430003;
SELECT credits_balance('subs:2');
SELECT status, cancel_at, transaction_id, balance, replayed FROM credits_cancel_subscription(430003, 'now');
SELECT credits_resume_subscription(430003);
SELECT kind, amount, balance FROM credits_history('subs:2');
SELECT terms FROM credits.transactions WHERE account_id = 430002 AND kind = 'subscription' ORDER BY id;
SELECT kind, detail FROM credits.events WHERE account_id = 430002 AND kind LIKE 'subs%' ORDER BY id;

-- now: what was given stays, or is taken back with what was rolled over
SELECT status, balance FROM credits_cancel_subscription(430004, 'now', 'expire');
SELECT kind, amount, balance FROM credits_history('subs:3') LIMIT 4;
SELECT amount, remaining, status, expires_at FROM credits.grants WHERE account_id = 430003 ORDER BY id;
SELECT status, period_end, balance FROM credits_cancel_subscription(430001, 'now');
-- before it begins
SELECT subscription_id AS later, status, period_start FROM credits_subscribe('subs:6', 'subs:pro', starts_at => '2070-04-01 00:00+00') \gset
SELECT credits_pause_subscription(:later);
SELECT status, cancel_at, balance FROM credits_cancel_subscription(:later);
SET credits.test_clock = '2070-04-02 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.list WHERE id = :later;

-- paused: the period that holds on resuming is given, those missed are not
SELECT subscription_id AS pausing, period_end FROM credits_subscribe('subs:7', 'subs:pro') \gset
SELECT status, balance, replayed FROM credits_pause_subscription(:pausing);
SELECT status, balance, replayed FROM credits_pause_subscription(:pausing);
SELECT status, balance, replayed FROM credits_resume_subscription(:pausing);
SELECT status, balance, replayed FROM credits_pause_subscription(:pausing);
SET credits.test_clock = '2070-07-20 00:00:00+00';
CALL credits_renew();
SELECT status, period_start, balance, replayed FROM credits_resume_subscription(:pausing);
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :pausing;
SET credits.test_clock = '2070-08-02 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :pausing;

-- unpaid: not renewed until it is paid
SELECT subscription_id AS owing FROM credits_subscribe('subs:8', 'subs:pro') \gset
SELECT status, replayed FROM credits_mark_unpaid(:owing);
SELECT status, replayed FROM credits_mark_unpaid(:owing);
SELECT status, replayed FROM credits_mark_unpaid(:owing, 'unpaid');
SELECT credits_resume_subscription(:owing);
SET credits.test_clock = '2070-10-05 00:00:00+00';
CALL credits_renew();
SELECT credits_balance('subs:8');
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:owing);
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:owing);
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :owing;

-- given when they are paid, in any order
SELECT subscription_id AS paying, status, period_start, balance FROM credits_subscribe('subs:9', 'subs:pro', collection => 'payment',
	starts_at => '2070-10-01 00:00+00') \gset
SELECT :'status', :'balance';
SET credits.test_clock = '2070-11-05 00:00:00+00';
CALL credits_renew();
SELECT credits_balance('subs:9');
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:paying, '2070-11-01 00:00+00');
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:paying, '2070-11-01 00:00+00');
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:paying, '2070-10-01 00:00+00');
SELECT status, period_start, balance, replayed FROM credits_mark_paid(:paying, '2070-12-01 00:00+00');
SELECT credits_mark_paid(:paying, '2070-10-02 00:00+00');
-- without a beginning it is the period that holds now
SELECT o.kind, p.subscription_id AS paying2, p.status FROM credits_open_account('subs:10') AS o,
	credits_subscribe('subs:10', 'subs:pro', collection => 'payment', anchor => '2070-11-20 00:00+00') AS p \gset
SELECT status, period_start, period_end, balance, replayed FROM credits_mark_paid(:paying2);
SELECT status, period_start, period_end, balance, replayed FROM credits_mark_paid(:paying2);
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :paying;
SET credits.test_clock = '2070-12-01 00:00:00+00';
CALL credits_renew();
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :paying;
SELECT credits_balance('subs:9');

-- canceled with its period, it takes the rolled credits too
SELECT kind FROM credits_open_account('subs:11');
SELECT subscription_id AS expiring FROM credits_subscribe('subs:11', 'subs:pro') \gset
SET credits.test_clock = '2071-01-01 00:00:00+00';
CALL credits_renew() \gset
SELECT status, cancel_at, balance FROM credits_cancel_subscription(:expiring, credits => 'expire');
SET credits.test_clock = '2071-02-01 00:00:00+00';
CALL credits_renew() \gset
SELECT * FROM pg_temp.list WHERE id = :expiring;
SELECT created_at, kind, amount, balance FROM credits_history('subs:11');
-- of several subscriptions, one alone; what is held is lost when it is released
SELECT subscription_id AS one FROM credits_subscribe('subs:11', 'subs:pro') \gset
SELECT subscription_id AS other FROM credits_subscribe('subs:11', 'subs:pro') \gset
SELECT transaction_id AS held FROM credits_hold('subs:11', 30) \gset
SELECT balance FROM credits_cancel_subscription(:one, 'now', 'expire');
SELECT balance FROM credits_release(:held);
SELECT status, balance FROM credits_cancel_subscription(:other, 'now', 'expire');

-- who has a version keeps its terms
SELECT subscription_id AS old FROM credits_subscribe('subs:11', 'subs:pro') \gset
SELECT credits_set_plan('subs:pro', 120);
SELECT credits_retire_plan('subs:pro');
SET credits.test_clock = '2071-03-01 00:00:00+00';
CALL credits_renew() \gset
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :old;
SELECT credits_subscribe('subs:11', 'subs:pro');
SELECT credits_set_plan('subs:pro', 100, price => 10, currency => 'EUR', rollover => 'maximum', clear => '{rollover_periods}');
SELECT plan, version, balance FROM credits_cancel_subscription(:old, 'now', 'expire');
SELECT plan, version, balance FROM credits_subscribe('subs:11', 'subs:pro');

-- a trial that is paused goes on; one that is paused can be canceled with its period
SELECT subscription_id AS trial, status, period_end FROM credits_subscribe('subs:11', 'subs:trial') \gset
SELECT status, period_end FROM credits_pause_subscription(:trial);
SELECT status, period_end FROM credits_resume_subscription(:trial);
SELECT status, cancel_at FROM credits_pause_subscription(:trial);
SELECT status, cancel_at FROM credits_cancel_subscription(:trial);
SET credits.test_clock = '2071-04-01 00:00:00+00';
CALL credits_renew() \gset
SELECT * FROM pg_temp.what_periods_gave WHERE sub = :trial;
SELECT kind, detail ->> 'status' AS status FROM credits.events WHERE detail ->> 'subscription_id' = :'trial' ORDER BY id;

-- errors
RESET ROLE;
CREATE FUNCTION pg_temp.refused(command text, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	code := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;
SELECT kind FROM credits_open_account('subs:closed');
SELECT kind FROM credits_close_account('subs:closed', 'gone');
SELECT (pg_temp.refused(command)).* FROM (VALUES
	('SELECT credits_subscribe(NULL, ''subs:pro'')'),
	('SELECT credits_subscribe(''subs:none'', ''subs:pro'')'),
	('SELECT credits_subscribe(''subs:closed'', ''subs:pro'')'),
	('SELECT credits_subscribe(''subs:1'', NULL)'),
	('SELECT credits_subscribe(''subs:1'', ''subs:none'')'),
	('SELECT credits_subscribe(''subs:1'', repeat(''x'', 10000000))'),
	('SELECT credits_subscribe(''subs:1'', ''subs:images'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', starts_at => ''infinity'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', starts_at => ''4000-01-01 BC'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', starts_at => ''294276-12-31'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', anchor => ''-infinity'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', anchor => ''294276-12-31'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', timezone => NULL)'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', timezone => ''Mars/Olympus'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', timezone => repeat(''x'', 10000000))'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', external_id => '''')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', external_id => repeat(''x'', 10000000))'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', trial => NULL)'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', collection => NULL)'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', collection => ''mail'')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', idempotency_key => '''')'),
	('SELECT credits_subscribe(''subs:1'', ''subs:pro'', metadata => jsonb_build_object(''a'', repeat(''x'', 20000)))'),
	('SELECT credits_cancel_subscription(NULL)'),
	('SELECT credits_cancel_subscription(-1)'),
	('SELECT credits_cancel_subscription(430005, NULL)'),
	('SELECT credits_cancel_subscription(430005, ''soon'')'),
	('SELECT credits_cancel_subscription(430005, ''now'', NULL)'),
	('SELECT credits_cancel_subscription(430005, ''now'', ''burn'')'),
	('SELECT credits_pause_subscription(NULL)'),
	('SELECT credits_pause_subscription(9223372036854775807)'),
	('SELECT credits_pause_subscription(430003)'),
	('SELECT credits_resume_subscription(NULL)'),
	('SELECT credits_resume_subscription(0)'),
	('SELECT credits_mark_unpaid(430005, NULL)'),
	('SELECT credits_mark_unpaid(430005, ''active'')'),
	('SELECT credits_mark_unpaid(430003)'),
	('SELECT credits_mark_paid(NULL)'),
	('SELECT credits_mark_paid(430003)'),
	('SELECT credits_mark_paid(430005, ''infinity'')')
) AS v (command);
-- credits beyond what can be counted
SELECT credits_set_plan('subs:huge', 9223372036854775807, rollover => 'share', rollover_share => 1);
SELECT credits_subscribe('subs:1', 'subs:huge');
SELECT kind FROM credits_open_account('subs:huge');
SELECT balance FROM credits_subscribe('subs:huge', 'subs:huge');
SET credits.test_clock = '2071-06-05 00:00:00+00';
CALL credits_renew();
SELECT kind, detail - 'due_at' AS detail FROM credits.events WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'subs:huge') AND kind = 'renewal_failed';
SELECT status FROM credits_cancel_subscription((SELECT max(id) FROM credits.subscriptions WHERE id < 440000), 'now');

-- who may do what
SET ROLE regress_credits_app;
SELECT credits_subscribe('subs:1', 'subs:pro');
SELECT credits_cancel_subscription(430005);
SELECT credits_pause_subscription(430005);
SELECT credits_resume_subscription(430005);
SELECT credits_mark_paid(430005);
SELECT credits_mark_unpaid(430005);
SELECT FROM credits.subscriptions;
SET ROLE regress_credits_admin;
UPDATE credits.subscriptions SET status = 'active';
BEGIN READ ONLY;
SELECT credits_subscribe('subs:1', 'subs:pro');
\echo :SQLSTATE
ROLLBACK;
RESET ROLE;
SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_subscriptions;
