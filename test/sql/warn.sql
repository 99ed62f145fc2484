-- warn: events before grants expire and subscriptions are renewed
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_warn TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_warn
CREATE EXTENSION credits;
CREATE SCHEMA regress_shop AUTHORIZATION regress_credits_admin;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.test_clock = '2080-01-01 00:00:00+00';
-- whatever other tests left
CALL credits_settle() \gset
SET client_min_messages = error;
CALL credits_warn() \gset
RESET client_min_messages;
ALTER SEQUENCE credits.accounts_id_seq RESTART 640001;
ALTER SEQUENCE credits.grants_id_seq RESTART 640001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 640001;
ALTER SEQUENCE credits.events_id_seq RESTART 640001;
SET ROLE regress_credits_admin;
SELECT kind, lead, reached_at, reached_id FROM credits.warnings ORDER BY kind, lead DESC;
SELECT kind FROM credits_open_account('warn:1', 5);
SELECT kind FROM credits_open_account('warn:2');
SELECT kind FROM credits_open_account('warn:3');
SELECT kind FROM credits_open_account('warn:4');

-- given long before: by both leads; within one: by the other; within both: by none
SELECT balance FROM credits_allocate('warn:1', 10, source => 'promotional', expires_at => '2080-01-10 12:00+00');
SELECT balance FROM credits_allocate('warn:2', 20, expires_at => '2080-01-05 00:00+00');
SELECT balance FROM credits_allocate('warn:3', 30, expires_at => '2080-01-01 18:00+00');
SELECT balance FROM credits_allocate('warn:1', 40);
CALL credits_warn();
SET credits.test_clock = '2080-01-03 11:59:59.999999+00';
CALL credits_warn();
SET credits.test_clock = '2080-01-03 12:00:00+00';
SELECT behind FROM credits.jobs WHERE job = 'credits_warn';
CALL credits_warn();
CALL credits_warn();
SELECT behind FROM credits.jobs WHERE job = 'credits_warn';
SET credits.test_clock = '2080-01-04 00:00:00+00';
CALL credits_warn();
SELECT balance FROM credits_deduct('warn:1', 3);
SET credits.test_clock = '2080-01-09 12:00:00+00';
CALL credits_warn();
CREATE TEMP VIEW warned AS
SELECT a.name, e.created_at, e.kind, e.transaction_id, e.detail
FROM credits.events AS e JOIN credits.accounts AS a ON a.id = e.account_id
WHERE e.id > 640000 AND e.kind IN ('grant_expiring', 'subscription_renewing') ORDER BY e.id;
SELECT * FROM warned;

-- late: what a lead has passed is left to the next, what has happened to none
SELECT balance FROM credits_allocate('warn:2', 1, expires_at => '2080-02-01 00:00+00');
SELECT balance FROM credits_allocate('warn:2', 2, expires_at => '2080-02-02 00:00+00');
SELECT balance FROM credits_allocate('warn:2', 4, expires_at => '2080-02-03 00:00+00');
SET credits.test_clock = '2080-02-01 00:00:00+00';
CALL credits_warn(1);
SELECT created_at, detail->>'lead' AS lead, detail->>'remaining' AS remaining FROM warned WHERE created_at >= '2080-02-01';

-- not what is used up, voided, pending, or of a closed account; paused is
SELECT balance FROM credits_allocate('warn:3', 1, expires_at => '2080-03-10 00:00+00');
SELECT balance FROM credits_deduct('warn:3', 1);
SELECT balance FROM credits_allocate('warn:3', 2, expires_at => '2080-03-10 00:00+00');
SELECT kind FROM credits_void_grant((SELECT max(g.id) FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id WHERE a.name = 'warn:3'), 'reason');
SELECT balance FROM credits_allocate('warn:3', 4, expires_at => '2080-03-10 00:00+00', effective_at => '2080-03-08 12:00+00');
SELECT balance FROM credits_allocate('warn:4', 8, expires_at => '2080-03-10 00:00+00');
SELECT kind FROM credits_close_account('warn:4', 'reason');
SELECT balance FROM credits_allocate('warn:2', 16, expires_at => '2080-03-10 00:00+00');
SELECT kind FROM credits_pause_account('warn:2', 'reason');
SET credits.test_clock = '2080-03-05 00:00:00+00';
CALL credits_warn();
SET credits.test_clock = '2080-03-09 13:00:00+00';
CALL credits_settle();
CALL credits_warn();
SELECT name, created_at, detail->>'lead' AS lead, detail->>'remaining' AS remaining FROM warned WHERE created_at >= '2080-03-01';

-- other leads, in any order; none
RESET ROLE;
SET credits.expiry_warning = '1 day, 1 hour, 24 hours, 2 weeks';
SET ROLE regress_credits_admin;
SELECT balance FROM credits_allocate('warn:1', 7, expires_at => '2080-05-01 00:00+00');
SET credits.test_clock = '2080-04-16 00:00:00+00';
CALL credits_warn();
SET credits.test_clock = '2080-04-20 00:00:00+00';
CALL credits_warn();
SET credits.test_clock = '2080-04-30 12:00:00+00';
CALL credits_warn();
SET credits.test_clock = '2080-04-30 23:00:00+00';
CALL credits_warn();
SET credits.test_clock = '2080-04-30 23:30:00+00';
CALL credits_warn();
SELECT created_at, detail->>'lead' AS lead FROM warned WHERE created_at >= '2080-04-01';
SELECT kind, lead, reached_at FROM credits.warnings WHERE kind = 'expiry' ORDER BY lead DESC;
RESET ROLE;
SET credits.expiry_warning = '';
SET ROLE regress_credits_admin;
SELECT balance FROM credits_allocate('warn:1', 7, expires_at => '2080-05-02 00:00+00');
SET credits.test_clock = '2080-05-01 23:30:00+00';
CALL credits_warn();
RESET ROLE;
RESET credits.expiry_warning;
CALL credits_warn() \gset
SET ROLE regress_credits_admin;

-- one that fails does not stop the rest; it is not tried again
SET credits.test_clock = '2080-06-01 00:00:00+00';
CALL credits_warn();
SELECT sum(r.amount) FROM generate_series(1, 5) AS i, LATERAL credits_open_account('warn:fail:' || i) AS r;
SELECT count(*) FROM generate_series(1, 5) AS i,
	LATERAL credits_allocate('warn:fail:' || i, i, expires_at => '2080-06-09 00:00+00') AS r;
RESET ROLE;
CREATE FUNCTION regress_shop.refuse_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not this one';
END
$$;
CREATE TRIGGER refuse_event BEFORE INSERT ON credits.events
	FOR EACH ROW WHEN (NEW.detail->>'remaining' = '3') EXECUTE FUNCTION regress_shop.refuse_event();
SET ROLE regress_credits_admin;
SET credits.test_clock = '2080-06-02 00:00:00+00';
\set VERBOSITY terse
SET client_min_messages = error;
CALL credits_warn();
RESET client_min_messages;
\set VERBOSITY default
SELECT name FROM warned WHERE created_at = '2080-06-02';
SELECT done, failed, failed_id = (SELECT id FROM credits.grants WHERE amount = 3 AND expires_at = '2080-06-09 00:00+00') AS grant_3,
	   error_code, error FROM credits.jobs WHERE job = 'credits_warn';
RESET ROLE;
DROP TRIGGER refuse_event ON credits.events;
DROP FUNCTION regress_shop.refuse_event();
SET ROLE regress_credits_admin;
CALL credits_warn();

-- inside a transaction that is rolled back nothing is warned, and then is
SELECT balance FROM credits_allocate('warn:1', 9, expires_at => '2080-07-08 00:00+00');
SET credits.test_clock = '2080-07-01 00:00:00+00';
BEGIN;
CALL credits_warn(1);
ROLLBACK;
CALL credits_warn(1);

-- renewals: of what the clock renews, and not of what ends
SET credits.test_clock = '2080-09-01 00:00:00+00';
CALL credits_settle() \gset
CALL credits_warn() \gset
SELECT credits_set_plan('warn:basic', 100, 'month', price => 9.5, currency => 'EUR') IS NOT NULL AS made;
SELECT credits_set_plan('warn:trial', 100, 'month', trial => '10 days', trial_credits => 5) IS NOT NULL AS made;
SELECT credits_set_plan('warn:daily', 10, 'day') IS NOT NULL AS made;
SELECT count(*) FROM generate_series(1, 6) AS i, LATERAL credits_open_account('warn:plan:' || i) AS r;
SELECT status, period_end FROM credits_subscribe('warn:plan:1', 'warn:basic');
SELECT status, period_end FROM credits_subscribe('warn:plan:2', 'warn:trial');
SELECT status, period_end FROM credits_subscribe('warn:plan:3', 'warn:daily');
SELECT subscription_id AS ending FROM credits_subscribe('warn:plan:4', 'warn:basic') \gset
SELECT status, cancel_at FROM credits_cancel_subscription(:ending);
SELECT subscription_id AS paused FROM credits_subscribe('warn:plan:5', 'warn:basic') \gset
SELECT status FROM credits_pause_subscription(:paused);
SELECT status FROM credits_subscribe('warn:plan:6', 'warn:basic', collection => 'payment');
SET credits.test_clock = '2080-09-08 00:00:00+00';
SET client_min_messages = error;
CALL credits_renew() \gset
CALL credits_warn() \gset
SET credits.test_clock = '2080-09-28 00:00:00+00';
CALL credits_renew() \gset
CALL credits_warn() \gset
SET credits.test_clock = '2080-10-01 00:00:00+00';
CALL credits_renew() \gset
SET credits.test_clock = '2080-10-28 23:59:59+00';
CALL credits_renew() \gset
CALL credits_warn() \gset
SET credits.test_clock = '2080-10-29 00:00:00+00';
CALL credits_warn() \gset
RESET client_min_messages;
SELECT name, created_at, detail - 'account' - 'subscription_id' AS detail FROM warned WHERE kind = 'subscription_renewing';

-- a setting that changes between two batches: the lead at hand goes on
RESET ROLE;
SET credits.test_clock = '2081-01-01 00:00:00+00';
SET client_min_messages = error;
CALL credits_settle() \gset
CALL credits_renew() \gset
CALL credits_warn() \gset
RESET client_min_messages;
SELECT count(*) FROM generate_series(1, 4) AS n, LATERAL credits_allocate('warn:1', n, expires_at => '2081-02-01 00:00+00');
SET credits.test_clock = '2081-01-26 00:00:00+00';
CREATE FUNCTION regress_shop.change_leads() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('credits.expiry_warning', NEW.id % 10 + 20 || ' days', false);
	RETURN NULL;
END
$$;
SET credits.expiry_warning = '6 days';
CREATE TRIGGER change_leads AFTER INSERT ON credits.events
	FOR EACH ROW WHEN (NEW.kind = 'grant_expiring') EXECUTE FUNCTION regress_shop.change_leads();
CALL credits_warn(1);
SELECT created_at, detail->'lead' AS lead, count(*) FROM warned WHERE kind = 'grant_expiring' AND created_at > '2081-01-02'
GROUP BY 1, 2;
SELECT kind, lead FROM credits.warnings WHERE kind = 'expiry' ORDER BY lead DESC;
DROP TRIGGER change_leads ON credits.events;
DROP FUNCTION regress_shop.change_leads;
RESET credits.expiry_warning;
CALL credits_warn() \gset
SET ROLE regress_credits_admin;

CALL credits_warn(0);
\echo :SQLSTATE
CALL credits_warn(NULL);
\echo :SQLSTATE
\set VERBOSITY sqlstate
BEGIN READ ONLY;
CALL credits_warn();
ROLLBACK;
SET ROLE regress_credits_app;
CALL credits_warn();
SELECT credits.warn_behind();
\set VERBOSITY default
SET ROLE regress_credits_auditor;
SELECT credits.warn_behind();
SET ROLE regress_credits_admin;
SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_warn;
