-- settle: bringing accounts up to date with the clock
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_settle TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_settle
CREATE EXTENSION credits;
CREATE SCHEMA regress_shop AUTHORIZATION regress_credits_admin;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2040-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 160001;
ALTER SEQUENCE credits.grants_id_seq RESTART 160001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 160001;
ALTER SEQUENCE credits.events_id_seq RESTART 160001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2040-01-01 00:00:00+00';
SELECT count(*) FROM credits.accounts WHERE due_at <= credits.now();
CALL credits_settle();

-- expiries and activations, each dated at its own instant
SELECT kind FROM credits_open_account('settle:1', 5);
SELECT balance FROM credits_allocate('settle:1', 10, expires_at => '2040-03-01');
SELECT balance FROM credits_allocate('settle:1', 20, expires_at => '2040-02-01');
SELECT balance FROM credits_allocate('settle:1', 40, effective_at => '2040-02-15');
SELECT balance FROM credits_allocate('settle:1', 80, effective_at => '2040-02-10', expires_at => '2040-02-20');
SELECT balance FROM credits_allocate('settle:1', 160, effective_at => '2050-01-01');
SELECT due_at FROM credits.accounts WHERE name = 'settle:1';
CALL credits_settle();
SET credits.test_clock = '2040-01-31 23:59:59.999999+00';
CALL credits_settle();
SET credits.test_clock = '2040-02-01 00:00:00+00';
CALL credits_settle();
SELECT due_at FROM credits.accounts WHERE name = 'settle:1';
CALL credits_settle();
SET credits.test_clock = '2040-06-01 00:00:00+00';
CALL credits_settle(settled => NULL, failed => NULL, batch_size => 10);
SELECT transaction_id, created_at, kind, amount, balance, target_id, role = session_user AS by_session_user
FROM credits_history('settle:1');
SELECT transaction_id, kind, grant_id, amount FROM credits.draws
WHERE account_id = 160001 AND kind <> 'allocation' ORDER BY transaction_id, ordinal;
SELECT id, amount, remaining, status FROM credits.grants WHERE account_id = 160001 ORDER BY id;
SELECT balance, granted, expired, due_at FROM credits.accounts WHERE id = 160001;
SELECT credits_balance_at('settle:1', t) AS balance, t
FROM unnest(ARRAY['2040-01-31 23:59:59+00', '2040-02-01 00:00:00+00', '2040-02-09 23:59:59+00',
	'2040-02-10 00:00:00+00', '2040-02-15 00:00:00+00', '2040-02-20 00:00:00+00',
	'2040-02-29 23:59:59+00', '2040-03-01 00:00:00+00', '2050-01-01 00:00:00+00']::timestamptz[]) AS t;

-- two grants at one instant
SELECT kind FROM credits_open_account('settle:2');
SELECT balance FROM credits_allocate('settle:2', 1, expires_at => '2040-07-01');
SELECT balance FROM credits_allocate('settle:2', 2, expires_at => '2040-07-01');
SELECT balance FROM credits_allocate('settle:2', 4, effective_at => '2040-07-01');
SET credits.test_clock = '2040-08-01 00:00:00+00';
CALL credits_settle();
SELECT created_at, kind, amount, balance FROM credits_history('settle:2');

-- paused and closed accounts too
SELECT kind FROM credits_open_account('settle:3');
SELECT kind FROM credits_open_account('settle:4');
SELECT balance FROM credits_allocate('settle:3', 1, expires_at => '2040-09-01');
SELECT balance FROM credits_allocate('settle:4', 1, expires_at => '2040-09-01');
SELECT kind FROM credits_pause_account('settle:3', 'pause');
SELECT kind FROM credits_close_account('settle:4', 'close');
SET credits.test_clock = '2040-09-02 00:00:00+00';
CALL credits_settle();
SELECT name, status, balance, due_at FROM credits.accounts WHERE name IN ('settle:3', 'settle:4') ORDER BY name;

-- in batches, smaller and larger than the work
SELECT sum(r.amount) FROM generate_series(1, 25) AS i,
	LATERAL credits_open_account('settle:batch:' || i) AS r;
SELECT count(*) FROM generate_series(1, 25) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2040-10-01') AS r;
SET credits.test_clock = '2040-10-01 00:00:00+00';
CALL credits_settle(7);
SELECT sum(balance), sum(expired) FROM credits.accounts WHERE name LIKE 'settle:batch:%';
CALL credits_settle(1);
CALL credits_settle(2147483647);
CALL credits_settle(0);
\echo :SQLSTATE
CALL credits_settle(-1);
CALL credits_settle(NULL);
\echo :SQLSTATE

-- inside a transaction block it commits nothing
SELECT count(*) FROM generate_series(1, 25) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2040-11-01') AS r;
SET credits.test_clock = '2040-11-01 00:00:00+00';
BEGIN;
CALL credits_settle(3);
SELECT sum(balance) FROM credits.accounts WHERE name LIKE 'settle:batch:%';
ROLLBACK;
SELECT sum(balance) FROM credits.accounts WHERE name LIKE 'settle:batch:%';
BEGIN;
SAVEPOINT s;
CALL credits_settle(3);
ROLLBACK TO s;
CALL credits_settle(1000);
COMMIT;
SELECT sum(balance) FROM credits.accounts WHERE name LIKE 'settle:batch:%';
-- inside PL/pgSQL
SELECT count(*) FROM generate_series(1, 5) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2040-12-01') AS r;
SET credits.test_clock = '2040-12-01 00:00:00+00';
DO $$
DECLARE
	settled bigint;
	failed bigint;
BEGIN
	CALL credits_settle(2, settled, failed);
	RAISE NOTICE 'settled %, failed %', settled, failed;
END
$$;
-- where an exception may have to be undone, it commits nothing either
SELECT count(*) FROM generate_series(1, 5) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2040-12-15') AS r;
SET credits.test_clock = '2040-12-15 00:00:00+00';
DO $$
DECLARE
	settled bigint;
	failed bigint;
BEGIN
	BEGIN
		CALL credits_settle(2, settled, failed);
		RAISE NOTICE 'settled %, failed %', settled, failed;
		RAISE EXCEPTION USING ERRCODE = 'ZZ000';
	EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
		NULL;
	END;
	CALL credits_settle(2, settled, failed);
	RAISE NOTICE 'settled %, failed %', settled, failed;
END
$$;
CREATE FUNCTION regress_shop.settle_in_function() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	settled bigint;
	failed bigint;
BEGIN
	CALL credits_settle(2, settled, failed);
	RETURN settled;
END
$$;
SELECT count(*) FROM generate_series(1, 5) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2041-01-01') AS r;
SET credits.test_clock = '2041-01-01 00:00:00+00';
SELECT regress_shop.settle_in_function();
DROP FUNCTION regress_shop.settle_in_function();

-- an account that cannot be settled is reported and does not hold up the others
SELECT count(*) FROM generate_series(1, 5) AS i,
	LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2041-02-01') AS r;
RESET ROLE;
CREATE FUNCTION regress_shop.refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.amount = -3 THEN
		RAISE EXCEPTION '%', COALESCE(current_setting('regress.reason', true), 'not this one');
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER refuse_one AFTER INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.refuse_one();
SET ROLE regress_credits_admin;
SET credits.test_clock = '2041-02-01 00:00:00+00';
CALL credits_settle(2);
SELECT name, balance FROM credits.accounts WHERE name ~ '^settle:batch:[1-5]$' ORDER BY name;
SELECT id, account_id = (SELECT id FROM credits.accounts WHERE name = 'settle:batch:3') AS of_account_3,
	   transaction_id, created_at, kind, detail
FROM credits.events WHERE kind = 'settle_failed' AND id BETWEEN 160001 AND 169999 ORDER BY id;
-- read, it is right all the same
SELECT credits_balance('settle:batch:3');
CALL credits_settle(1);
BEGIN;
CALL credits_settle(1);
COMMIT;
-- each reason is an event once, also if another one comes in between
SET regress.reason = 'nor now';
CALL credits_settle(1);
SET regress.reason = 'not this one';
CALL credits_settle(1);
SELECT detail ->> 'message' AS message, count(*)
FROM credits.events WHERE kind = 'settle_failed' AND id BETWEEN 160001 AND 169999
GROUP BY 1 ORDER BY 1;
RESET ROLE;
DROP TRIGGER refuse_one ON credits.log;
DROP FUNCTION regress_shop.refuse_one();
SET ROLE regress_credits_admin;
CALL credits_settle();
SELECT balance FROM credits.accounts WHERE name = 'settle:batch:3';

-- overflow of what was promised for later: refused when promised, so that settling cannot fail
SELECT kind FROM credits_open_account('settle:5');
SELECT balance FROM credits_allocate('settle:5', 9223372036854775800, effective_at => '2041-03-01');
SELECT credits_adjust('settle:5', 8, 'overflow');
\echo :SQLSTATE
SELECT balance FROM credits_adjust('settle:5', 7, 'no overflow');
SET credits.test_clock = '2041-03-01 00:00:00+00';
CALL credits_settle();
SELECT balance, granted FROM credits.accounts WHERE name = 'settle:5';

-- settled in parts, five steps each, or all at once: the same log
CREATE FUNCTION regress_shop.make(account text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM credits_open_account(account);
	PERFORM credits_allocate(account, i, expires_at => '2041-05-01'::timestamptz + (i % 3) * interval '1 day',
			priority => i % 2) FROM generate_series(1, 6) AS i;
	-- from several grants, which the first gives back to before and the others after they expire
	PERFORM credits_hold(account, 12, expires_in => '29 days'),
		credits_hold(account, 6, expires_in => '31 days 12 hours'), credits_hold(account, 2, expires_in => '40 days');
	PERFORM credits_allocate(account, 10 * i, effective_at => '2041-05-02'::timestamptz + (i % 2) * interval '1 day',
			expires_at => CASE WHEN i < 3 THEN '2041-05-05'::timestamptz END) FROM generate_series(1, 4) AS i;
END
$$;
CREATE VIEW regress_shop.logs AS
SELECT a.name, a.due_at, a.balance, a.held, l.log
FROM credits.accounts AS a CROSS JOIN LATERAL (
	SELECT string_agg(concat_ws(' ', t.created_at, t.kind, t.amount, t.held, t.balance_after, t.held_after,
			(SELECT string_agg(g.amount || ':' || d.amount, ',' ORDER BY d.ordinal)
			 FROM credits.draws AS d JOIN credits.grants AS g ON g.id = d.grant_id
			 WHERE d.transaction_id = t.id)), E'\n' ORDER BY t.id) AS log
	FROM credits.transactions AS t WHERE t.account_id = a.id) AS l
WHERE a.name ~ '^settle:(parts|once)';
SET credits.test_clock = '2041-04-01 00:00:00+00';
SELECT regress_shop.make('settle:parts'), regress_shop.make('settle:once');
SET credits.test_clock = '2041-07-01 00:00:00+00';
SELECT kind FROM credits_set_alerts('settle:once', '');
CALL credits_settle(1);
RESET ROLE;
SELECT count(DISTINCT (due_at, balance, held, regexp_replace(log, '\n[^\n]*threshold[^\n]*$', ''))) FROM regress_shop.logs;
SELECT log FROM regress_shop.logs WHERE name = 'settle:parts';

-- what parts have done is kept, whatever ends them: here the sixth grant
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('settle:kept', 100);
SELECT count(*) FROM generate_series(1, 7) AS i, LATERAL credits_allocate('settle:kept', i, expires_at => '2041-08-01') AS r;
RESET ROLE;
CREATE FUNCTION regress_shop.refuse_six() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.amount = -6 THEN
		RAISE EXCEPTION 'not this one';
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER refuse_six AFTER INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.refuse_six();
SET ROLE regress_credits_admin;
SET credits.test_clock = '2041-08-02 00:00:00+00';
CALL credits_settle(1);
SELECT balance, due_at FROM credits.accounts WHERE name = 'settle:kept';
SELECT g.status, count(*), sum(g.remaining) FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name = 'settle:kept' GROUP BY g.status ORDER BY g.status;
SELECT credits_balance('settle:kept'), balance, expired, expiring_at FROM credits_summary('settle:kept');
SELECT done, failed FROM credits.job_runs ORDER BY id DESC LIMIT 1;
SELECT * FROM credits_verify('settle:kept');
RESET ROLE;
DROP TRIGGER refuse_six ON credits.log;
DROP FUNCTION regress_shop.refuse_six();
SET ROLE regress_credits_admin;
-- a call settles the rest, and a job goes on, in one transaction too
BEGIN;
SELECT balance FROM credits_deduct('settle:kept', 1);
SELECT balance, due_at FROM credits.accounts WHERE name = 'settle:kept';
ROLLBACK;
BEGIN;
CALL credits_settle(1);
SELECT balance, due_at FROM credits.accounts WHERE name = 'settle:kept';
COMMIT;

-- one that has much to do comes after all others, and counts when it is done
SELECT kind FROM credits_open_account('settle:kept:1');
SELECT count(*) FROM generate_series(1, 6) AS i, LATERAL credits_allocate('settle:kept', i, expires_at => '2041-09-01') AS r;
SELECT count(*) FROM generate_series(1, 6) AS i, LATERAL credits_allocate('settle:kept:1', i, expires_at => '2041-09-01') AS r;
SELECT count(*) FROM generate_series(1, 2) AS i, LATERAL credits_allocate('settle:batch:' || i, i, expires_at => '2041-09-01') AS r;
SET credits.test_clock = '2041-09-02 00:00:00+00';
SELECT max(id) AS last FROM credits.transactions \gset
CALL credits_settle(1);
SELECT a.name, t.amount FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE t.id > :last ORDER BY t.id;

SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
CALL credits_settle();
\set VERBOSITY default
SET ROLE regress_credits_admin;
SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_settle;
