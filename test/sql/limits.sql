-- limits: what an account may hold and spend
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 720001;
ALTER SEQUENCE credits.grants_id_seq RESTART 720001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 720001;
ALTER SEQUENCE credits.events_id_seq RESTART 720001;

-- what counts for an account's windows, by the log alone
CREATE FUNCTION limits_used(OUT account text, OUT day_used bigint, OUT day_logged bigint,
	OUT month_used bigint, OUT month_logged bigint)
RETURNS SETOF record LANGUAGE sql AS $$
	WITH RECURSIVE counted AS (
		SELECT t.account_id, t.created_at, t.amount, t.id, t.kind, t.target_id
		FROM credits.transactions AS t WHERE t.kind IN ('deduction', 'hold')
		UNION ALL
		SELECT t.account_id, c.created_at, t.amount, t.id, t.kind, t.target_id
		FROM counted AS c JOIN credits.transactions AS t
			ON t.target_id = c.id AND t.kind IN ('refund', 'release', 'capture') AND t.account_id = c.account_id
	)
	SELECT a.name, l.day_used, -COALESCE(sum(c.amount) FILTER (WHERE c.created_at >= l.day_start), 0)::bigint,
		   l.month_used, -COALESCE(sum(c.amount) FILTER (WHERE c.created_at >= l.month_start), 0)::bigint
	FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id
	LEFT JOIN counted AS c ON c.account_id = l.account_id
	WHERE l.account_id BETWEEN 720001 AND 729999
	GROUP BY a.name, l.day_used, l.month_used ORDER BY a.name
$$;
-- the database has the other tests' rows, too
CREATE TEMP VIEW limits_log AS SELECT * FROM credits.transactions WHERE id BETWEEN 720001 AND 729999;
GRANT SELECT ON limits_log TO regress_credits_admin;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-15 12:00:00+00';

-- off by default
SELECT kind, balance FROM credits_open_account('li.l:1', 100);
SELECT amount FROM credits_deduct('li.l:1', 5);
SELECT count(*) FROM credits.limits WHERE account_id BETWEEN 720001 AND 729999;
SELECT limited FROM credits.accounts WHERE name = 'li.l:1';

-- setting them: all at once
SELECT * FROM credits_set_limits('li.l:1', 200, 'refuse', 2, 30, 50, 80, 'Europe/Berlin', 'agreed');
SELECT * FROM credits.limits WHERE account_id = 720001;
SELECT limited FROM credits.accounts WHERE name = 'li.l:1';
SELECT kind FROM credits_set_limits('li.l:1', max_spend => 40);
SELECT * FROM credits.limits WHERE account_id = 720001;
SELECT kind FROM credits_set_limits('li.l:1', clear => '{max_balance,excess,min_spend,max_spend,max_spend_per_day,max_spend_per_month,timezone}');
SELECT max_balance, excess, min_spend, max_spend, max_spend_per_day, max_spend_per_month FROM credits.limits WHERE account_id = 720001;
SELECT id, kind, amount, terms, reason FROM limits_log WHERE kind = 'limits' ORDER BY id;
SELECT * FROM credits_verify('li.l:1');

-- bad arguments
SELECT credits_set_limits(NULL);
\echo :SQLSTATE
SELECT credits_set_limits('');
\echo :SQLSTATE
SELECT credits_set_limits('nobody', 1);
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', -1);
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', min_spend => -1);
SELECT credits_set_limits('li.l:1', max_spend => -9223372036854775808);
SELECT credits_set_limits('li.l:1', max_spend_per_day => -1);
SELECT credits_set_limits('li.l:1', max_spend_per_month => -1);
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', excess => 'drop');
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', excess => '');
SELECT credits_set_limits('li.l:1', timezone => 'Moon/Tranquility');
\echo :SQLSTATE
-- what is repeated of it ends between two characters
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM credits_set_limits('li.l:1', timezone => 'x' || repeat(chr(228), 40));
EXCEPTION WHEN SQLSTATE '22023' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%', convert_from(convert_to(detail, 'UTF8'), 'UTF8') = detail;
END
$$;
SELECT credits_set_limits('li.l:1', timezone => '');
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', reason => repeat('x', 1001));
\echo :SQLSTATE
SELECT credits_set_limits('li.l:1', reason => '');
\echo :SQLSTATE

-- the largest numbers limit nothing
SELECT kind FROM credits_set_limits('li.l:1', 9223372036854775807, NULL, 0, 9223372036854775807,
	9223372036854775807, 9223372036854775807);
SELECT amount FROM credits_deduct('li.l:1', 1);
SELECT amount FROM credits_allocate('li.l:1', 1);
SELECT day_used, month_used FROM credits.limits WHERE account_id = 720001;

-- smallest and largest single spend
SELECT kind FROM credits_set_limits('li.l:1', min_spend => 3, max_spend => 10);
SELECT credits_deduct('li.l:1', 2);
\echo :SQLSTATE
SELECT credits_deduct('li.l:1', 11);
\echo :SQLSTATE
SELECT credits_hold('li.l:1', 2);
\echo :SQLSTATE
SELECT credits_hold('li.l:1', 11);
\echo :SQLSTATE
SELECT ok, code, message FROM credits_try_deduct('li.l:1', 11);
SELECT kind, account_id, detail FROM credits.events WHERE id BETWEEN 720001 AND 729999 ORDER BY id;
SELECT amount FROM credits_deduct('li.l:1', 3);
SELECT amount FROM credits_deduct('li.l:1', 10, 'k1');
SELECT amount FROM credits_hold('li.l:1', 10, 'h1', expires_in => '1 hour');
-- a retry gets its receipt whatever the limits are now
SELECT kind FROM credits_set_limits('li.l:1', max_spend => 0, clear => '{min_spend}');
SELECT amount, replayed FROM credits_deduct('li.l:1', 10, 'k1');
SELECT amount, replayed FROM credits_hold('li.l:1', 10, 'h1', expires_in => '1 hour');
SELECT credits_deduct('li.l:1', 1);
\echo :SQLSTATE
-- of a hold the parts may be smaller; what a capture adds makes the whole too large
SELECT kind FROM credits_set_limits('li.l:1', min_spend => 3, max_spend => 12);
SELECT id AS h1 FROM limits_log WHERE idempotency_key = 'h1' \gset
SELECT kind, held FROM credits_capture(:h1, 1, final => false);
SELECT credits_capture(:h1, 12, allow_more => true);
\echo :SQLSTATE
SELECT kind, held FROM credits_capture(:h1, 11, allow_more => true);
-- the balance is looked at first
SELECT credits_deduct('li.l:1', 1000);
\echo :SQLSTATE
-- an administrator's corrections are no spends
SELECT amount FROM credits_adjust('li.l:1', -1, 'error');
-- transfers are
SELECT kind FROM credits_open_account('li.l:2');
SELECT credits_transfer('li.l:1', 'li.l:2', 20);
\echo :SQLSTATE
SELECT amount FROM credits_transfer('li.l:1', 'li.l:2', 12);
SELECT amount FROM credits_transfer('li.l:1', 'li.l:2', 8);

-- by setting, for those who have no limit of their own
RESET ROLE;
SET credits.min_spend = 5;
SET credits.max_spend = 8;
SET ROLE regress_credits_admin;
SELECT credits_deduct('li.l:2', 4);
\echo :SQLSTATE
SELECT credits_deduct('li.l:2', 9);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.l:2', 8);
SELECT amount FROM credits_deduct('li.l:1', 12);
SELECT amount FROM credits_deduct('li.l:1', 3);
SELECT count(*) FROM credits.limits WHERE account_id = 720002;
SELECT kind FROM credits_set_limits('li.l:2', max_spend => 6);
SELECT credits_deduct('li.l:2', 4);
SELECT credits_deduct('li.l:2', 7);
-- a limit of 0 of one's own is no limit below, and nothing above
SELECT kind FROM credits_set_limits('li.l:2', min_spend => 0);
SELECT amount FROM credits_deduct('li.l:2', 1);
RESET ROLE;
RESET credits.min_spend;
RESET credits.max_spend;
SET ROLE regress_credits_admin;

-- highest balance: refused, or cut off
SELECT kind, balance FROM credits_open_account('li.b:1', 50);
SELECT kind FROM credits_set_limits('li.b:1', 100);
SELECT credits_allocate('li.b:1', 51);
\echo :SQLSTATE
SELECT amount, balance FROM credits_allocate('li.b:1', 50, idempotency_key => 'a1');
SELECT credits_allocate('li.b:1', 1);
\echo :SQLSTATE
SELECT amount, balance, replayed FROM credits_allocate('li.b:1', 50, idempotency_key => 'a1');
SELECT kind FROM credits_set_limits('li.b:1', 100, 'clip');
SELECT credits_allocate('li.b:1', 1);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.b:1', 30);
SELECT amount, balance FROM credits_allocate('li.b:1', 50, idempotency_key => 'a2');
SELECT amount, balance, replayed FROM credits_allocate('li.b:1', 50, idempotency_key => 'a2');
SELECT credits_allocate('li.b:1', 30, idempotency_key => 'a2');
\echo :SQLSTATE
SELECT amount, remaining FROM credits.grants WHERE account_id = 720003 ORDER BY id;
-- what is held is not in the balance
SELECT transaction_id AS h2 FROM credits_hold('li.b:1', 40) \gset
SELECT amount, balance FROM credits_allocate('li.b:1', 50);
-- what goes back is not given: it may exceed
SELECT kind, amount, balance FROM credits_release(:h2);
SELECT kind, amount, balance FROM credits_adjust('li.b:1', 5, 'goodwill');
SELECT credits_allocate('li.b:1', 1);
\echo :SQLSTATE
SELECT t.id AS spend FROM limits_log AS t WHERE account_id = 720003 AND kind = 'deduction' \gset
SELECT kind, amount, balance FROM credits_refund(:spend);
-- transfers are refused whole
SELECT amount FROM credits_deduct('li.b:1', 85);
SELECT kind, balance FROM credits_open_account('li.b:2', 100);
SELECT credits_transfer('li.b:2', 'li.b:1', 11);
\echo :SQLSTATE
SELECT account, amount, balance FROM credits_transfer('li.b:2', 'li.b:1', 10);
SELECT credits_balance('li.b:1');
-- a grant of later is looked at when it is given, against the balance of then
SELECT credits_allocate('li.b:1', 1, effective_at => '2030-02-01 00:00+00');
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.b:1', 40);
SELECT amount, balance FROM credits_allocate('li.b:1', 60, effective_at => '2030-02-01 00:00+00');
SELECT amount, remaining, status FROM credits.grants WHERE account_id = 720003 ORDER BY id DESC LIMIT 1;
SELECT amount, balance FROM credits_allocate('li.b:1', 40);
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_balance('li.b:1');
SELECT credits_allocate('li.b:1', 1);
\echo :SQLSTATE
-- 0: nothing at all
SELECT kind FROM credits_set_limits('li.b:2', 0, 'clip');
SELECT credits_allocate('li.b:2', 1);
\echo :SQLSTATE
-- by setting, and what happens to the excess by another
RESET ROLE;
SET credits.max_balance = 120;
SET ROLE regress_credits_admin;
SELECT kind, balance FROM credits_open_account('li.b:3', 100);
SELECT credits_allocate('li.b:3', 21);
\echo :SQLSTATE
RESET ROLE;
SET credits.excess = clip;
SET ROLE regress_credits_admin;
SELECT amount, balance FROM credits_allocate('li.b:3', 21);
SELECT kind FROM credits_set_limits('li.b:3', excess => 'refuse');
SELECT amount FROM credits_deduct('li.b:3', 10);
SELECT credits_allocate('li.b:3', 21);
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('li.b:3', max_balance => 130, clear => '{excess}');
SELECT amount, balance FROM credits_allocate('li.b:3', 21);
-- what an account is opened with is the caller's
SELECT kind, balance FROM credits_open_account('li.b:4', 1000);
RESET ROLE;
RESET credits.max_balance;
RESET credits.excess;
SET ROLE regress_credits_admin;
SELECT amount, balance FROM credits_allocate('li.b:4', 1000);
SELECT * FROM credits_verify() WHERE account ~ '^li[.]';

-- by day and month, in a time zone
SET credits.test_clock = '2030-03-15 12:00:00+00';
SELECT kind, balance FROM credits_open_account('li.w:1', 1000);
SELECT amount FROM credits_deduct('li.w:1', 7);
-- what was spent before there was a limit counts
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_day => 50, max_spend_per_month => 120, timezone => 'Europe/Berlin');
SELECT day_start, day_used, month_start, month_used FROM credits.limits WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'li.w:1');
SELECT credits_deduct('li.w:1', 44);
\echo :SQLSTATE
SELECT credits_hold('li.w:1', 44);
\echo :SQLSTATE
SELECT transaction_id AS d1 FROM credits_deduct('li.w:1', 43, 'w1') \gset
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SELECT amount, replayed FROM credits_deduct('li.w:1', 43, 'w1');
-- midnight in Berlin
SET credits.test_clock = '2030-03-15 22:59:59.999999+00';
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SET credits.test_clock = '2030-03-15 23:00:00+00';
SELECT transaction_id AS d2 FROM credits_deduct('li.w:1', 50) \gset
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
-- refunds give back in the window of the spend only
SELECT amount FROM credits_refund(:d1, 3);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT amount FROM credits_refund(:d2, 20);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SET credits.test_clock = '2030-03-17 12:00:00+00';
SELECT credits_deduct('li.w:1', 44);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.w:1', 43);
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SELECT amount FROM credits_refund(:d2, 10);
SELECT amount FROM credits_deduct('li.w:1', 7);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
-- a month later
SET credits.test_clock = '2030-03-31 21:59:59.999999+00';
SELECT credits_deduct('li.w:1', 4);
\echo :SQLSTATE
SET credits.test_clock = '2030-03-31 22:00:00+00';
SELECT amount FROM credits_deduct('li.w:1', 50);
SELECT amount FROM credits_refund(:d2);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT day_start, month_start FROM credits.limits WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'li.w:1');
-- holds count when they are made, and what is released or times out goes back
SET credits.test_clock = '2030-04-10 12:00:00+00';
SELECT transaction_id AS h3 FROM credits_hold('li.w:1', 40, expires_in => '1 hour') \gset
SELECT credits_deduct('li.w:1', 11);
\echo :SQLSTATE
SELECT kind, amount, held FROM credits_capture(:h3, 15);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT transaction_id AS h4 FROM credits_hold('li.w:1', 20, expires_in => '1 hour') \gset
SELECT credits_capture(:h4, 36, allow_more => true);
\echo :SQLSTATE
SELECT kind, held FROM credits_capture(:h4, 35, allow_more => true);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT r.amount FROM limits_log AS t, credits_refund(t.id, 30) AS r WHERE t.target_id = :h4 AND t.kind = 'capture';
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT transaction_id AS h5 FROM credits_hold('li.w:1', 20, expires_in => '1 hour') \gset
SELECT transaction_id AS h6 FROM credits_hold('li.w:1', 10, expires_in => '20 hours') \gset
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SET credits.test_clock = '2030-04-10 13:00:00+00';
SELECT amount FROM credits_deduct('li.w:1', 18);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
-- one that times out the day after gives its month back, and not the day
SET credits.test_clock = '2030-04-11 11:00:00+00';
SELECT amount FROM credits_deduct('li.w:1', 5);
SELECT * FROM limits_used() WHERE account = 'li.w:1';
-- changing them settles first, and counts again: in the new zone, by the log
SELECT transaction_id AS h7 FROM credits_hold('li.w:1', 9, expires_in => '1 hour') \gset
SET credits.test_clock = '2030-04-11 12:00:00+00';
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_day => 20, max_spend_per_month => 500, timezone => 'Asia/Tokyo');
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT day_start, month_start FROM credits.limits WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'li.w:1');
SELECT credits_deduct('li.w:1', 16);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.w:1', 15);
-- what is spent while there is no such limit counts when there is one again
SELECT kind FROM credits_set_limits('li.w:1', max_spend => 100, clear => '{max_spend_per_day,max_spend_per_month,timezone}');
SELECT transaction_id AS d3 FROM credits_deduct('li.w:1', 60) \gset
SELECT amount FROM credits_refund(:d3, 10);
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_day => 80, clear => '{max_spend}');
SELECT * FROM limits_used() WHERE account = 'li.w:1';
SELECT credits_deduct('li.w:1', 11);
\echo :SQLSTATE
-- 0: nothing may be spent
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_day => 0);
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_month => 0, clear => '{max_spend_per_day}');
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE
SELECT * FROM credits_verify('li.w:1');

-- windows by setting: a row is made for who spends
SELECT kind, balance FROM credits_open_account('li.w:2', 1000);
SELECT kind, balance FROM credits_open_account('li.w:3', 1000);
SELECT transaction_id AS d4 FROM credits_deduct('li.w:2', 30) \gset
RESET ROLE;
SET credits.max_spend_per_day = 50;
SET credits.max_spend_per_month = 70;
SET ROLE regress_credits_admin;
SELECT count(*) FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id WHERE a.name IN ('li.w:2', 'li.w:3');
SELECT credits_deduct('li.w:2', 21);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.w:2', 20);
SELECT amount FROM credits_refund(:d4, 5);
SELECT * FROM limits_used() WHERE account IN ('li.w:2', 'li.w:3');
SELECT l.*, a.limited FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id WHERE a.name = 'li.w:2';
SELECT credits_deduct('li.w:3', 51);
\echo :SQLSTATE
SELECT amount FROM credits_hold('li.w:3', 50);
SET credits.test_clock = '2030-04-12 00:00:00+00';
SELECT credits_deduct('li.w:2', 26);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('li.w:2', 25);
SELECT * FROM limits_used() WHERE account IN ('li.w:2', 'li.w:3');
-- one's own come first; one that is not set goes by the setting
SELECT kind FROM credits_set_limits('li.w:3', max_spend_per_day => 60);
SELECT amount FROM credits_deduct('li.w:3', 60);
SELECT credits_deduct('li.w:3', 11);
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('li.w:3', max_spend_per_month => 1000, clear => '{max_spend_per_day}');
SELECT credits_deduct('li.w:3', 1);
\echo :SQLSTATE
RESET ROLE;
RESET credits.max_spend_per_day;
RESET credits.max_spend_per_month;
SET ROLE regress_credits_admin;
SELECT amount FROM credits_deduct('li.w:2', 500);
SELECT amount FROM credits_deduct('li.w:3', 500);
SELECT * FROM limits_used() WHERE account = 'li.w:3';
SELECT * FROM credits_verify() WHERE account LIKE 'li.w:%';

-- pools: the pool's limits for what it pays, the member's for its own part
SELECT kind, balance FROM credits_open_account('li.p:pool', 1000);
SELECT kind, balance FROM credits_open_account('li.p:1', 100);
SELECT kind, balance FROM credits_open_account('li.p:2');
SELECT kind FROM credits_add_member('li.p:pool', 'li.p:1');
SELECT kind FROM credits_add_member('li.p:pool', 'li.p:2');
SELECT kind FROM credits_set_limits('li.p:pool', min_spend => 5, max_spend => 150, max_spend_per_day => 200);
SELECT kind FROM credits_set_limits('li.p:1', min_spend => 4, max_spend => 120, max_spend_per_day => 60);
SELECT credits_deduct('li.p:2', 4, pool => 'li.p:pool');
\echo :SQLSTATE
SELECT credits_deduct('li.p:2', 151, pool => 'li.p:pool');
\echo :SQLSTATE
-- the limits of a member who pays nothing do not count
SELECT amount FROM credits_deduct('li.p:1', 150, pool => 'li.p:pool');
SELECT credits_deduct('li.p:2', 51, pool => 'li.p:pool');
\echo :SQLSTATE
SELECT * FROM limits_used() WHERE account LIKE 'li.p:%';
-- least and most are of the whole, the windows of each part
SELECT kind FROM credits_set_limits('li.p:pool', min_spend => 5, max_spend => 150, max_spend_per_day => 1000);
SELECT amount FROM credits_deduct('li.p:1', 97);
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('li.p:1', min_spend => 4, max_spend => 120, max_spend_per_day => 100);
SELECT amount FROM credits_deduct('li.p:1', 98);
SELECT account, amount FROM credits_deduct('li.p:1', 10, 's1', pool => 'li.p:pool', mode => 'own_first');
SELECT * FROM limits_used() WHERE account LIKE 'li.p:%';
SELECT amount FROM credits_allocate('li.p:1', 100);
SELECT credits_deduct('li.p:1', 121, pool => 'li.p:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_deduct('li.p:1', 20, pool => 'li.p:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT account, amount FROM credits_deduct('li.p:1', 20, pool => 'li.p:pool', mode => 'pool_first');
SELECT r.account, r.amount FROM limits_log AS t, credits_refund(t.id) AS r
WHERE t.idempotency_key = 's1';
SELECT * FROM limits_used() WHERE account LIKE 'li.p:%';
-- no falling back on one's own for the pool's limits
SELECT kind FROM credits_set_limits('li.p:pool', max_spend_per_day => 0);
SELECT credits_deduct('li.p:1', 20, pool => 'li.p:pool', mode => 'pool_first');
\echo :SQLSTATE
SELECT * FROM credits_verify() WHERE account LIKE 'li.p:%';

-- states
SELECT kind FROM credits_pause_account('li.p:2', 'fraud');
SELECT kind FROM credits_set_limits('li.p:2', 10);
SELECT kind FROM credits_close_account('li.p:2', 'left');
SELECT credits_set_limits('li.p:2', 10);
\echo :SQLSTATE
BEGIN;
SELECT kind FROM credits_set_limits('li.w:1', max_spend_per_day => 300, clear => '{max_spend_per_month}');
SAVEPOINT s;
SELECT amount FROM credits_deduct('li.w:1', 200);
SELECT day_used FROM limits_used() WHERE account = 'li.w:1';
ROLLBACK TO s;
SELECT day_used FROM limits_used() WHERE account = 'li.w:1';
SELECT amount FROM credits_deduct('li.w:1', 300);
ROLLBACK;
SELECT credits_deduct('li.w:1', 1);
\echo :SQLSTATE

-- who may do what
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_set_limits('li.w:1', 1);
SELECT * FROM credits.limits;
SET credits.max_spend = 1;
SET credits.excess = clip;
RESET ROLE;
\set VERBOSITY default
UPDATE credits.limits SET max_spend_per_day = NULL;
\echo :SQLSTATE
DELETE FROM credits.limits;
\echo :SQLSTATE
TRUNCATE credits.limits;
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT credits_set_limits('li.w:1', 1);
\echo :SQLSTATE
ROLLBACK;
DROP FUNCTION limits_used();

-- what someone changes past the triggers shows
CREATE FUNCTION pg_temp.problems(name text) RETURNS TABLE (problem text, detail text) LANGUAGE sql AS
	$$SELECT problem, detail FROM credits_verify(name) ORDER BY problem, detail$$;
\set disable 'ALTER TABLE credits.limits DISABLE TRIGGER ALL;'
\set w1 'account_id = (SELECT id FROM credits.accounts WHERE name = ''li.w:1'')'
\set w2 'account_id = (SELECT id FROM credits.accounts WHERE name = ''li.w:2'')'
BEGIN; :disable
UPDATE credits.limits SET max_spend_per_month = 1000 WHERE :w1;
SELECT * FROM pg_temp.problems('li.w:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.limits SET excess = 'clip' WHERE :w1;
SELECT * FROM pg_temp.problems('li.w:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.limits SET day_used = day_used + 1, month_used = 0 WHERE :w1;
SELECT * FROM pg_temp.problems('li.w:1');
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.limits WHERE :w1;
SELECT * FROM pg_temp.problems('li.w:1');
ROLLBACK;
-- an account that has none of its own
BEGIN; :disable
UPDATE credits.limits SET max_spend_per_day = 7 WHERE :w2;
SELECT * FROM pg_temp.problems('li.w:2');
ROLLBACK;
BEGIN;
ALTER TABLE credits.accounts DISABLE TRIGGER ALL;
UPDATE credits.accounts SET limited = true WHERE name = 'li.w:2';
SELECT * FROM pg_temp.problems('li.w:2');
UPDATE credits.accounts SET limited = false WHERE name = 'li.w:1';
SELECT * FROM pg_temp.problems('li.w:1');
ROLLBACK;
SELECT * FROM credits_verify() WHERE account ~ '^li[.]';

-- limits that leave nothing between them
SELECT credits_set_limits('li.l:1', min_spend => 6, max_spend => 5);
\echo :SQLSTATE

-- each limit alone: what is not given stays, what is cleared goes back to the setting
SELECT kind FROM credits_open_account('li.k:1', 100);
SELECT kind FROM credits_set_limits('li.k:1', max_spend => 10, timezone => 'Asia/Tokyo');
SELECT kind FROM credits_set_limits('li.k:1', max_balance => 100, reason => 'raised');
CREATE FUNCTION pg_temp.limits() RETURNS text LANGUAGE sql AS $$
	SELECT t.terms::text || coalesce(' ' || t.reason, '') FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
	WHERE a.name = 'li.k:1' AND t.kind = 'limits' ORDER BY t.id DESC LIMIT 1
$$;
SELECT pg_temp.limits();
SELECT kind FROM credits_set_limits('li.k:1', excess => 'clip', max_spend_per_day => 50, max_spend_per_month => 60, min_spend => 2);
SELECT pg_temp.limits();
SELECT kind FROM credits_set_limits('li.k:1', clear => '{max_spend,max_spend,excess}');
SELECT pg_temp.limits();
SELECT kind FROM credits_set_limits('li.k:1', max_spend => 3, clear => '{timezone,max_spend_per_day}');
SELECT pg_temp.limits();
SELECT kind FROM credits_set_limits('li.k:1', clear => '{}');
SELECT pg_temp.limits();
-- one that does not go with one that is kept
SELECT credits_set_limits('li.k:1', min_spend => 4);
\echo :SQLSTATE
SELECT credits_set_limits('li.k:1', max_spend => 1);
\echo :SQLSTATE
SELECT kind FROM credits_set_limits('li.k:1', max_spend => 1, clear => '{min_spend}');
SELECT credits_set_limits('li.k:1', clear => '{reason}');
\echo :SQLSTATE
SELECT credits_set_limits('li.k:1', clear => '{account}');
\echo :SQLSTATE
SELECT credits_set_limits('li.k:1', max_spend => 1, clear => '{max_spend}');
\echo :SQLSTATE
SELECT credits_set_limits('li.k:1', clear => '{max_spent}');
\echo :SQLSTATE
SELECT credits_set_limits('li.k:1', clear => '{max_spend,NULL}');
\echo :SQLSTATE
-- in one query, each account keeps its own
SELECT kind FROM credits_open_account('li.k:2', 100);
SELECT kind FROM credits_set_limits('li.k:2', max_balance => 500);
SELECT count(credits_set_limits(name, min_spend => 1)) FROM (VALUES ('li.k:1'), ('li.k:2')) AS v (name);
SELECT a.name, l.max_balance, l.min_spend, l.max_spend FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id
WHERE a.name LIKE 'li.k:%' ORDER BY a.name;

-- a clock that is set back: settling has begun the next day, the spend is of the day before
SET credits.test_clock = '2198-03-01 10:00:00+00';
SELECT kind FROM credits_open_account('li.back:1', 100);
SELECT kind FROM credits_set_limits('li.back:1', max_spend_per_day => 50);
SELECT kind FROM credits_hold('li.back:1', 10, expires_in => '1 hour');
SET credits.test_clock = '2198-03-02 10:00:00+00';
RESET ROLE;
CALL credits_settle() \g /dev/null
SET credits.test_clock = '2198-03-01 12:00:00+00';
SELECT kind, amount, created_at FROM credits_deduct('li.back:1', 5);
SELECT l.day_start, l.day_used, l.month_used FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id
WHERE a.name = 'li.back:1';
SELECT problem, detail FROM credits_verify('li.back:1');

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
