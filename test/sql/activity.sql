-- activity: rules for what is suspicious, and the job that looks for it
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_activity TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_activity
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET credits.test_clock = '2071-01-01 00:00:00+00';
ALTER SEQUENCE credits.accounts_id_seq RESTART 710001;
ALTER SEQUENCE credits.grants_id_seq RESTART 710001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 710001;
ALTER SEQUENCE credits.events_id_seq RESTART 710001;
CREATE VIEW hits AS
	SELECT e.detail - 'starts_at' - 'ends_at' AS detail, to_char(h.starts_at, 'DD HH24') AS starts, to_char(h.ends_at, 'DD HH24') AS ends
	FROM credits.activity_hits AS h JOIN credits.events AS e ON e.id = h.event_id AND e.account_id = h.account_id
	WHERE e.kind = 'activity_suspicious' ORDER BY e.id;
GRANT SELECT ON hits TO regress_credits_admin;
SET ROLE regress_credits_admin;

-- without rules there is nothing to do, and nothing is counted
SELECT kind FROM credits_open_account('ac:1', 1000000);
SELECT balance FROM credits_deduct('ac:1', 10);
CALL credits_watch();
SELECT count(*) FROM credits.activity_position;

-- a rule is set, and changed, part by part
SELECT credits_set_activity_rule('burst', 'spend', 10);
SELECT credits_set_activity_rule('burst', 'spend', 10, minimum => 500);
SELECT * FROM credits.activity_rules \gx
SELECT credits_set_activity_rule('burst', minimum => 500);
SELECT credits_set_activity_rule('burst', baseline => '2 days', pauses => true);
SELECT credits_set_activity_rule('burst', clear => '{minimum}');
SELECT credits_set_activity_rule('burst', clear => '{pauses}');
SELECT kind, threshold, span, minimum, baseline, pauses, enabled FROM credits.activity_rules;
SELECT one, safe_id, refused_at, since, mark_id FROM credits.activity_position;

-- bad input
SELECT credits_set_activity_rule(NULL);
SELECT credits_set_activity_rule('');
SELECT credits_set_activity_rule('new');
SELECT credits_set_activity_rule('new', 'spend');
SELECT credits_set_activity_rule('new', 'identities', 1);
SELECT credits_set_activity_rule('new', 'refusals', 0);
SELECT credits_set_activity_rule('new', 'refusals', 'NaN');
SELECT credits_set_activity_rule('new', 'refusals', 0.0000001);
SELECT credits_set_activity_rule('new', 'refusals', 1000000001);
SELECT credits_set_activity_rule('new', 'refusals', 5, span => '30 minutes');
SELECT credits_set_activity_rule('new', 'refusals', 5, span => '8 days');
SELECT credits_set_activity_rule('new', 'refusals', 5, span => '1 month');
SELECT credits_set_activity_rule('new', 'refusals', 5, span => '90 minutes');
SELECT credits_set_activity_rule('new', 'refusals', 5, minimum => 5);
SELECT credits_set_activity_rule('new', 'refunds', 0.5, baseline => '28 days', minimum => 5);
SELECT credits_set_activity_rule('new', 'refunds', 0.5, minimum => 0);
SELECT credits_set_activity_rule('new', 'spend', 5, minimum => 5, baseline => '23 hours');
SELECT credits_set_activity_rule('burst', clear => '{kind}');
SELECT credits_remove_activity_rule('new');
SELECT credits_remove_activity_rule(NULL);
CALL credits_watch(0);
SELECT name FROM credits.activity_rules;

-- 50 credits an hour; the hour that has only begun does not count for the mean
SELECT kind FROM credits_open_account('ac:2', 1000000);
SELECT kind FROM credits_open_account('ac:3', 1000000);
RESET ROLE;
DO $$
BEGIN
	FOR hour IN 1 .. 48 LOOP
		PERFORM set_config('credits.test_clock', ('2071-01-01 00:30:00+00'::timestamptz + hour * interval '1 hour')::text, false);
		PERFORM credits_deduct(account, 50) FROM unnest('{ac:1,ac:2}'::text[]) AS account;
	END LOOP;
END
$$;
SET ROLE regress_credits_admin;
CALL credits_watch(7);
SELECT account_id, count(*), min(hour), max(hour), sum(spent) AS spent, sum(refunded) AS refunded FROM credits.activity_hours GROUP BY account_id ORDER BY account_id;

-- ten times the mean of 50 is 500: not above it, and one credit more
SET credits.test_clock = '2071-01-03 01:10:00+00';
SELECT balance FROM credits_deduct('ac:1', 500);
SELECT balance FROM credits_deduct('ac:2', 501);
CALL credits_watch();
SELECT * FROM hits;
-- once, whatever comes in that window, and even if all is read again
SELECT balance FROM credits_deduct('ac:2', 1000);
CALL credits_watch();
CALL credits_watch(1);
SELECT count(*) FROM hits;
-- more in the same window
SELECT balance FROM credits_deduct('ac:1', 1);
CALL credits_watch();
SELECT * FROM hits OFFSET 1;
-- below the minimum nothing is suspicious, however unusual; from it on it is
SELECT balance FROM credits_deduct('ac:3', 499);
CALL credits_watch();
SELECT balance FROM credits_deduct('ac:3', 1);
CALL credits_watch();
SELECT * FROM hits OFFSET 2;
-- without a day of its own, an account has no mean
SELECT kind FROM credits_open_account('ac:4', 1000000);
SELECT balance FROM credits_deduct('ac:4', 5000);
SET credits.test_clock = '2071-01-04 01:59:59.999999+00';
SELECT balance FROM credits_deduct('ac:4', 5000);
CALL credits_watch();
SELECT count(*) FROM hits;
SET credits.test_clock = '2071-01-04 02:00:00+00';
SELECT balance FROM credits_deduct('ac:4', 5000);
CALL credits_watch();
SELECT * FROM hits OFFSET 3;

-- what a hold gave back was not spent, nor is an adjustment
SET credits.test_clock = '2071-01-05 00:00:00+00';
SELECT transaction_id AS hold FROM credits_hold('ac:3', 100000) \gset
SELECT kind FROM credits_release(:hold);
SELECT kind FROM credits_transfer('ac:4', 'ac:3', 100);
SELECT kind FROM credits_adjust('ac:3', -5000, 'correction');
CALL credits_watch();
SELECT count(*) FROM hits;
SELECT a.name, h.spent, h.refunded FROM credits.activity_hours AS h JOIN credits.accounts AS a ON a.id = h.account_id
WHERE h.hour = '2071-01-05' ORDER BY a.name;

-- a rule that is switched off looks at nothing, nor, later, at what has ended by then
SELECT credits_set_activity_rule('burst', enabled => false);
SELECT balance FROM credits_deduct('ac:1', 100000);
CALL credits_watch();
SET credits.test_clock = '2071-01-05 01:00:00+00';
SELECT credits_set_activity_rule('burst', enabled => true);
SELECT balance FROM credits_deduct('ac:1', 1);
CALL credits_watch();
SELECT count(*) FROM hits;

-- refunds: half of what was spent is not above half
SELECT credits_set_activity_rule('refunds', 'refunds', 0.5, span => '1 day', minimum => 100);
SELECT kind FROM credits_open_account('ac:5', 1000000);
SELECT transaction_id AS spend FROM credits_deduct('ac:5', 180) \gset
SELECT amount FROM credits_refund(:spend, 90);
CALL credits_watch();
SELECT amount FROM credits_refund(:spend, 9);
CALL credits_watch();
SELECT count(*) FROM hits;
SELECT amount FROM credits_refund(:spend, 1);
CALL credits_watch();
SELECT * FROM hits OFFSET 4;
SELECT amount FROM credits_refund(:spend, 20);
CALL credits_watch();
SELECT count(*) FROM hits;

-- refusals: as many as the threshold, and one more; the events count
SELECT credits_set_activity_rule('refused', 'refusals', 3, pauses => true);
SELECT credits_set_activity_rule('guessing', 'redemptions', 2, span => '2 hours');
SELECT kind FROM credits_open_account('ac:6', 10);
SELECT code FROM credits_try_deduct('ac:6', 11);
SELECT code FROM credits_try_deduct('ac:6', 11);
SELECT code FROM credits_try_hold('ac:6', 11);
SELECT code FROM credits_try_redeem('ac:6', 'NOT-A-CODE');
SELECT code FROM credits_try_redeem('ac:6', 'NOT-A-CODE');
-- of an account that does not exist
SELECT code FROM generate_series(1, 5) AS n CROSS JOIN LATERAL credits_try_deduct('ac:nobody', n) AS t;
CALL credits_watch();
SELECT count(*) FROM hits;
SET credits.test_clock = '2071-01-05 01:50:00+00';
SELECT code FROM credits_try_hold('ac:6', 11);
SELECT code FROM credits_try_redeem('ac:6', 'NOT-A-CODE');
CALL credits_watch();
SELECT * FROM hits OFFSET 5;
CALL credits_watch();
SELECT count(*) FROM hits;

-- the account is paused, by the role of the job and with the rule as its reason
SELECT status FROM credits.accounts WHERE name = 'ac:6';
SELECT kind, reason FROM credits.transactions WHERE account_id = credits.account_id('ac:6') ORDER BY id DESC LIMIT 1;
SELECT rule, pauses, paused_at FROM credits.activity_hits WHERE account_id = credits.account_id('ac:6') ORDER BY rule;
-- who lets it go on is not overruled in the same window, but in the next one
SELECT kind FROM credits_resume_account('ac:6', 'called us');
SELECT code FROM credits_try_deduct('ac:6', 11);
CALL credits_watch();
SELECT status FROM credits.accounts WHERE name = 'ac:6';
SET credits.test_clock = '2071-01-05 03:00:00+00';
SELECT code FROM generate_series(1, 4) AS n CROSS JOIN LATERAL credits_try_deduct('ac:6', 10 + n) AS t;
CALL credits_watch();
SELECT status FROM credits.accounts WHERE name = 'ac:6';
SELECT count(*) FROM hits;
-- one that is closed stays closed
SELECT kind FROM credits_open_account('ac:7', 10);
SELECT code FROM generate_series(1, 4) AS n CROSS JOIN LATERAL credits_try_deduct('ac:7', 10 + n) AS t;
SELECT kind FROM credits_close_account('ac:7', 'gone');
CALL credits_watch();
SELECT status FROM credits.accounts WHERE name = 'ac:7';
SELECT rule, pauses, paused_at FROM credits.activity_hits WHERE account_id = credits.account_id('ac:7');

-- if each refusal is an event of its own, each hour of an account is looked at once
RESET ROLE;
SET credits.refusal_window = '0';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('ac:8', 10);
SET credits.test_clock = '2071-01-05 04:00:00+00';
SELECT count(*) FROM generate_series(1, 4) AS n CROSS JOIN LATERAL credits_try_deduct('ac:8', 10 + n) AS t WHERE NOT t.ok;
SET credits.test_clock = '2071-01-05 05:00:00+00';
SELECT count(*) FROM generate_series(1, 4) AS n CROSS JOIN LATERAL credits_try_deduct('ac:8', 10 + n) AS t WHERE NOT t.ok;
CALL credits_watch(3);
SELECT detail->'figure' AS figure, starts, ends FROM hits WHERE detail->>'account' = 'ac:8';
RESET ROLE;
RESET credits.refusal_window;
SET ROLE regress_credits_admin;

-- what fails is passed over, and counted with what the account does next
RESET ROLE;
CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not this one' USING ERRCODE = 'ZZ123';
END
$$;
CREATE TRIGGER refuse_one BEFORE INSERT ON credits.activity_hours
	FOR EACH ROW WHEN (NEW.account_id = 710001) EXECUTE FUNCTION refuse_one();
SET ROLE regress_credits_admin;
SET credits.test_clock = '2071-01-06 00:00:00+00';
SELECT balance FROM credits_deduct('ac:1', 7);
SELECT balance FROM credits_deduct('ac:2', 8);
CALL credits_watch();
SELECT failed, error_code, error, behind FROM credits.jobs WHERE job = 'credits_watch';
SELECT account_id, spent FROM credits.activity_hours WHERE hour = '2071-01-06' ORDER BY account_id;
RESET ROLE;
DROP TRIGGER refuse_one ON credits.activity_hours;
SET ROLE regress_credits_admin;
SELECT balance FROM credits_deduct('ac:1', 1);
CALL credits_watch();
SELECT account_id, spent FROM credits.activity_hours WHERE hour = '2071-01-06' ORDER BY account_id;

-- sums are kept for as long as a rule looks back, here 2 days, a window, and a day
SELECT credits_remove_activity_rule('refunds');
SET credits.test_clock = '2071-02-01 00:00:00+00';
SELECT balance FROM credits_deduct('ac:2', 8);
CALL credits_watch();
SELECT since FROM credits.activity_position;
SELECT account_id, hour, spent FROM credits.activity_hours;
SELECT count(*) FROM credits.activity_hits;
-- of the log and its sums, the same
SELECT a.name, h.spent, l.spent FROM credits.activity_hours AS h JOIN credits.accounts AS a ON a.id = h.account_id
CROSS JOIN LATERAL (SELECT -sum(t.amount) AS spent FROM credits.transactions AS t
	WHERE t.account_id = h.account_id AND t.kind = 'deduction' AND t.created_at >= h.hour AND t.created_at < h.hour + '1 hour'::interval) AS l;

-- when the last rule is removed, nothing is counted any more
SELECT credits_remove_activity_rule(name) FROM credits.activity_rules;
SELECT count(*) FROM credits.activity_position;
CALL credits_watch();
SELECT count(*) FROM credits.activity_hours;
SELECT account, problem FROM credits_verify();

\set VERBOSITY sqlstate
BEGIN READ ONLY;
CALL credits_watch();
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_set_activity_rule('burst', 'spend', 10, minimum => 500);
ROLLBACK;
RESET ROLE;
ALTER SEQUENCE credits.transactions_id_seq CACHE 5;
SET ROLE regress_credits_admin;
SELECT credits_set_activity_rule('burst', 'spend', 10, minimum => 500);
CALL credits_watch();
SET ROLE regress_credits_app;
CALL credits_watch();
SELECT credits_set_activity_rule('burst', 'spend', 10, minimum => 500);
SELECT credits_remove_activity_rule('burst');
SELECT * FROM credits.activity_rules;
SET ROLE regress_credits_auditor;
SELECT count(*) FROM credits.activity_rules, credits.activity_hits, credits.activity_hours, credits.activity_position;
\c :shared
DROP DATABASE regress_activity;
