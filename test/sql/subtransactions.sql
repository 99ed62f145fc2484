-- subtransactions and errors: nothing leaks from a failed call into the next
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 170001;
ALTER SEQUENCE credits.grants_id_seq RESTART 170001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 170001;
ALTER SEQUENCE credits.events_id_seq RESTART 170001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('sub:1', 1000);
SELECT kind FROM credits_open_account('sub:2', 5);
SELECT kind FROM credits_open_account('sub:3', 1000);

-- exception blocks: what they catch is undone, what they did not is done
SET ROLE regress_credits_app;
DO $$
DECLARE
	r record;
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	SELECT * INTO r FROM credits_deduct('sub:1', 10, 'outer');
	RAISE NOTICE 'outer %', r.balance;
	BEGIN
		SELECT * INTO r FROM credits_deduct('sub:1', 20, 'inner');
		RAISE NOTICE 'inner %', r.balance;
		SELECT * INTO r FROM credits_deduct('sub:2', 6, 'inner');
	EXCEPTION WHEN SQLSTATE 'PT402' THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
			detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RAISE NOTICE '% % / % / %', state, message, detail, hint;
	END;
	RAISE NOTICE 'after %', credits_balance('sub:1');
	SELECT * INTO r FROM credits_deduct('sub:1', 20, 'inner');
	RAISE NOTICE 'again % %', r.balance, r.replayed;
	-- every kind of failure, one after the other, each in its own block
	FOR i IN 1..7 LOOP
		BEGIN
			CASE i
				WHEN 1 THEN PERFORM credits_deduct('sub:1', 0);
				WHEN 2 THEN PERFORM credits_deduct('sub:none', 1);
				WHEN 3 THEN PERFORM credits_deduct('sub:1', 1000000);
				WHEN 4 THEN PERFORM credits_deduct('sub:1', 11, 'outer');
				WHEN 5 THEN PERFORM credits_refund(1);
				WHEN 6 THEN PERFORM credits_deduct(NULL, 1);
				WHEN 7 THEN PERFORM credits_deduct('sub:1', 1, 'seven'), 1 / 0;
			END CASE;
		EXCEPTION WHEN OTHERS THEN
			RAISE NOTICE '% %', i, SQLSTATE;
		END;
		SELECT * INTO r FROM credits_deduct('sub:1', 1, 'loop ' || i);
		RAISE NOTICE '% % %', i, r.balance, r.replayed;
	END LOOP;
END
$$;
SELECT transaction_id, kind, amount, balance, idempotency_key FROM credits_history('sub:1');
SELECT credits_balance('sub:2');

-- many calls that fail after they have done their work
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		BEGIN
			PERFORM credits_deduct('sub:1', 1, 'failing');
			RAISE EXCEPTION USING ERRCODE = 'ZZ999';
		EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT credits_balance('sub:1');
SELECT balance, replayed FROM credits_deduct('sub:1', 1, 'failing');

-- savepoints, nested, released and rolled back
BEGIN;
SELECT balance FROM credits_deduct('sub:1', 1, 'a');
SAVEPOINT s1;
SELECT balance FROM credits_deduct('sub:1', 2, 'b');
SAVEPOINT s2;
SELECT balance FROM credits_deduct('sub:1', 4, 'c');
RELEASE s2;
SAVEPOINT s3;
SELECT balance FROM credits_deduct('sub:1', 8, 'd');
ROLLBACK TO s3;
SELECT balance, replayed FROM credits_deduct('sub:1', 4, 'c');
SELECT balance, replayed FROM credits_deduct('sub:1', 8, 'd');
ROLLBACK TO s1;
SELECT credits_balance('sub:1');
SELECT balance, replayed FROM credits_deduct('sub:1', 1, 'a');
SELECT balance, replayed FROM credits_deduct('sub:1', 2, 'b');
SAVEPOINT s4;
SELECT credits_deduct('sub:1', 1000000);
SELECT credits_balance('sub:1');
ROLLBACK TO s4;
SELECT credits_balance('sub:1');
COMMIT;
SELECT credits_balance('sub:1');
SELECT idempotency_key, amount, balance FROM credits_history('sub:1', 3);
-- a transaction that failed does nothing more, and leaves nothing
BEGIN;
SELECT balance FROM credits_deduct('sub:1', 1, 'lost');
SELECT credits_deduct('sub:1', 1000000);
SELECT credits_deduct('sub:1', 1);
COMMIT;
SELECT balance, replayed FROM credits_deduct('sub:1', 1, 'lost');

-- opened, given, spent and refunded in a transaction that is taken back
RESET ROLE;
BEGIN;
SELECT kind FROM credits_open_account('sub:gone', 10);
SELECT balance FROM credits_allocate('sub:gone', 5);
SAVEPOINT s;
SELECT transaction_id AS spend FROM credits_deduct('sub:gone', 12) \gset
SELECT balance FROM credits_refund(:spend, 6);
ROLLBACK TO s;
SELECT credits_balance('sub:gone');
SELECT * FROM credits_verify('sub:gone');
ROLLBACK;
SELECT credits_balance('sub:gone');
SELECT kind, balance, replayed FROM credits_open_account('sub:gone', 3);
SET ROLE regress_credits_app;

-- in a set-returning scan, in the target list, in a filter, in a subquery
SELECT (credits_deduct('sub:3', i)).balance FROM generate_series(1, 3) AS i;
SELECT count(r), min((r).balance) FROM (SELECT credits_deduct('sub:3', i) AS r FROM generate_series(1, 3) AS i) AS s;
SELECT i FROM generate_series(1, 3) AS i WHERE (credits_deduct('sub:3', 1)).balance % 2 = 0;
-- one of many fails: none is done
SELECT count(credits_deduct('sub:3', 1)) FROM generate_series(1, 2000);
SELECT credits_balance('sub:3');
SELECT i, credits_deduct('sub:3', i) FROM generate_series(3, 0, -1) AS i;
SELECT credits_balance('sub:3');
-- two accounts in one statement, and a reader of the same statement
SELECT (credits_deduct('sub:3', 1)).balance, credits_balance('sub:3') AS before_the_statement;
SELECT credits_balance('sub:3');
WITH d AS (SELECT * FROM credits_deduct('sub:3', 1))
SELECT d.balance, (SELECT count(*) > 0 FROM credits_history('sub:3')) AS readable FROM d;

-- cursors: a row fetched is a credit spent
BEGIN;
DECLARE c CURSOR FOR SELECT r.balance FROM generate_series(1, 10) AS i, LATERAL credits_deduct('sub:3', 1, 'cursor ' || i) AS r;
FETCH 2 FROM c;
SAVEPOINT s;
FETCH 2 FROM c;
ROLLBACK TO s;
SELECT credits_balance('sub:3');
CLOSE c;
COMMIT;
SELECT credits_balance('sub:3');
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT (credits_deduct('sub:3', 1)).balance FROM generate_series(1, 3);
COMMIT;
FETCH ALL FROM c;
CLOSE c;
SELECT credits_balance('sub:3');

-- prepared statements, generic plans, after the functions have been replaced
PREPARE spend (bigint) AS SELECT balance FROM credits_deduct('sub:3', $1);
SET plan_cache_mode = force_generic_plan;
EXECUTE spend (1);
EXECUTE spend (1000000);
EXECUTE spend (1);
RESET ROLE;
ALTER FUNCTION credits_deduct COST 100;
ANALYZE credits.accounts, credits.grants, credits.log;
SET ROLE regress_credits_app;
EXECUTE spend (1);
DEALLOCATE spend;
RESET plan_cache_mode;
RESET ROLE;
ALTER FUNCTION credits_deduct COST 1;
REINDEX TABLE credits.accounts;
REINDEX TABLE credits.log_default;
CREATE INDEX regress_extra_index ON credits.log_default (operation);
VACUUM FULL credits.grants;
SET ROLE regress_credits_app;
SELECT balance FROM credits_deduct('sub:3', 1, operation => 'indexed');
RESET ROLE;
SET enable_seqscan = off;
SELECT count(*) FROM credits.transactions WHERE operation = 'indexed';
RESET enable_seqscan;
DROP INDEX credits.regress_extra_index;
-- columns of one's own on a table of the extension
BEGIN;
ALTER TABLE credits.accounts ADD COLUMN regress_note text DEFAULT 'note';
SELECT credits_deduct('sub:3', 1);
\echo :SQLSTATE
ROLLBACK;
SET ROLE regress_credits_app;

-- parallel plans: a spend is never part of one, reading may be
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SELECT balance FROM credits_deduct('sub:3', 1);
SELECT count(credits_deduct('sub:3', 1)) FROM generate_series(1, 10);
SELECT credits_balance('sub:3');
SELECT balance, spent FROM credits_summary('sub:3');
SELECT kind, balance FROM credits_history('sub:3', 1);
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false);

-- not even where a function of one's own claims that it is harmless
RESET ROLE;
CREATE FUNCTION regress_shop.harmless(i int) RETURNS bigint LANGUAGE plpgsql PARALLEL SAFE AS
	$$ BEGIN RETURN (public.credits_deduct('sub:3', 1)).balance; END $$;
CREATE FUNCTION regress_shop.stable(i int) RETURNS bigint LANGUAGE plpgsql STABLE AS
	$$ BEGIN RETURN (public.credits_deduct('sub:3', 1)).balance + 0 * (public.credits_deduct('sub:3', 1)).balance; END $$;
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SELECT credits_balance('sub:3') AS before \gset
\set VERBOSITY sqlstate
SELECT regress_shop.harmless(1);
\set VERBOSITY default
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false);
SELECT credits_balance('sub:3') = :before AS unchanged;
-- one that claims to change nothing spends all the same, once for each call
SELECT regress_shop.stable(1) = :before - 1 AS first;
SELECT credits_balance('sub:3') = :before - 2 AS both;
DROP FUNCTION regress_shop.harmless, regress_shop.stable;
SET ROLE regress_credits_app;

-- isolation levels, one session: its own changes are no conflict
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT balance FROM credits_deduct('sub:3', 1);
SELECT balance FROM credits_deduct('sub:3', 1);
SAVEPOINT s;
SELECT balance FROM credits_deduct('sub:3', 1);
ROLLBACK TO s;
SELECT balance FROM credits_deduct('sub:3', 1);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT balance FROM credits_deduct('sub:3', 1, 'serial');
SELECT balance, replayed FROM credits_deduct('sub:3', 1, 'serial');
COMMIT;
BEGIN READ ONLY;
SELECT credits_deduct('sub:3', 1);
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_try_deduct('sub:3', 1000000);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT transaction_id AS spend FROM credits_deduct('sub:3', 1) \gset
SAVEPOINT s;
SET TRANSACTION READ ONLY;
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK TO s;
SELECT balance FROM credits_deduct('sub:3', 1);
COMMIT;

-- small caches, thrown away all the time: the same answers
RESET ROLE;
DO $$
DECLARE
	before bigint := credits_balance('sub:3');
BEGIN
	FOR i IN 1..20 LOOP
		CREATE TEMP TABLE throwaway (id int);
		PERFORM credits_deduct('sub:3', 1);
		DROP TABLE throwaway;
	END LOOP;
	RAISE NOTICE 'spent %', before - credits_balance('sub:3');
END
$$;
-- statement_timeout in the middle of a long spree: all or nothing
SELECT credits_balance('sub:3') AS before \gset
SET statement_timeout = '20ms';
\set VERBOSITY sqlstate
SELECT count(credits_try_deduct('sub:none', 1)) FROM generate_series(1, 10000000);
SELECT count(credits_deduct('sub:3', 1)), count(pg_sleep(0.001)) FROM generate_series(1, 500);
\set VERBOSITY default
RESET statement_timeout;
SELECT credits_balance('sub:3') = :before AS unchanged;

-- many calls on one account in one transaction: each finds the account and the grant that burns
-- first as they are by then, whatever was undone or done otherwise in between
SELECT kind FROM credits_open_account('sub:4');
SELECT count(credits_allocate('sub:4', i, reference => 'grant ' || i)) FROM generate_series(1, 6) AS i;
BEGIN;
SELECT balance FROM credits_deduct('sub:4', 2);
DECLARE before CURSOR FOR SELECT credits_balance('sub:4');
SAVEPOINT s;
SELECT balance FROM credits_deduct('sub:4', 3);
SELECT balance FROM credits_deduct('sub:4', 2);
FETCH before;
ROLLBACK TO s;
SELECT balance FROM credits_deduct('sub:4', 3);
SAVEPOINT s;
-- burns first from now on
SELECT balance FROM credits_allocate('sub:4', 10, priority => 1);
SELECT balance FROM credits_deduct('sub:4', 4);
SELECT balance FROM credits_deduct('sub:4', 4);
ROLLBACK TO s;
SELECT balance FROM credits_deduct('sub:4', 1) \gset
SELECT credits_balance('sub:4') = :balance AS same;
SELECT transaction_id AS spend FROM credits_deduct('sub:4', 5) \gset
-- what is given back burns again before the others
SELECT balance FROM credits_refund(:spend);
SELECT balance FROM credits_hold('sub:4', 1);
-- changed past the functions
RESET ROLE;
UPDATE credits.accounts SET metadata = '{"a": 1}' WHERE name = 'sub:4';
SET ROLE regress_credits_admin;
SELECT balance FROM credits_deduct('sub:4', 1);
SELECT sum((credits_deduct(CASE WHEN i % 2 = 0 THEN 'sub:4' ELSE 'sub:3' END, 1)).amount) FROM generate_series(1, 10) AS i;
COMMIT;
SELECT t.kind, t.amount, string_agg(g.amount || ':' || d.amount, ' ' ORDER BY d.ordinal) AS draws
FROM credits.transactions AS t
JOIN credits.draws AS d ON d.transaction_id = t.id JOIN credits.grants AS g ON g.id = d.grant_id
WHERE t.account_id = (SELECT id FROM credits.accounts WHERE name = 'sub:4') AND t.kind <> 'allocation'
GROUP BY t.id, t.kind, t.amount ORDER BY t.id;
-- refunds to the grant that burns first, and to one before it
BEGIN;
SELECT transaction_id AS spend FROM credits_deduct('sub:4', 3) \gset
SELECT balance FROM credits_deduct('sub:4', 1);
SELECT balance FROM credits_refund(:spend, 1);
SELECT balance FROM credits_deduct('sub:4', 1);
SELECT balance FROM credits_refund(:spend);
SELECT balance FROM credits_deduct('sub:4', 1);
SELECT balance FROM credits_release((credits_hold('sub:4', 2)).transaction_id);
SELECT balance FROM credits_deduct('sub:4', 1);
COMMIT;
SELECT t.kind, t.amount, string_agg(g.amount || ':' || d.amount, ' ' ORDER BY d.ordinal) AS draws
FROM credits.transactions AS t
JOIN credits.draws AS d ON d.transaction_id = t.id JOIN credits.grants AS g ON g.id = d.grant_id
WHERE t.account_id = (SELECT id FROM credits.accounts WHERE name = 'sub:4') AND t.id >= :spend
GROUP BY t.id, t.kind, t.amount ORDER BY t.id;
DO $$
BEGIN
	FOR i IN 1..500 LOOP
		BEGIN
			PERFORM credits_deduct('sub:3', 1), credits_transfer('sub:3', 'sub:1', 1);
			IF i % 3 = 0 THEN
				PERFORM 1 / 0;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END
$$;

SELECT * FROM credits_verify();
