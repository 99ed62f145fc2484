-- roles: who may do what (the whole matrix is in the pgTAP tests)
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 140001;
ALTER SEQUENCE credits.grants_id_seq RESTART 140001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 140001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('role:1', 100);
\set VERBOSITY sqlstate

-- an application spends, refunds and reads accounts: and nothing else
SET ROLE regress_credits_app;
SELECT balance FROM credits_deduct('role:1', 10);
SELECT ok FROM credits_try_deduct('role:1', 1);
SELECT ok FROM credits_try_deduct('role:1', 1000);
SELECT balance FROM credits_refund(140002, 5);
SELECT credits_balance('role:1');
SELECT balance FROM credits_summary('role:1');
SELECT count(*) FROM credits_history('role:1');
SELECT credits_balance_at('role:1', '2030-01-01');
SELECT credits_open_account('role:2');
SELECT credits_allocate('role:1', 1);
SELECT credits_adjust('role:1', 1, 'reason');
SELECT credits_void_grant(140001, 'reason');
SELECT credits_pause_account('role:1', 'reason');
SELECT credits_resume_account('role:1', 'reason');
SELECT credits_close_account('role:1', 'reason');
SELECT credits_set_alerts('role:1', '1');
SELECT credits_open_accounts('pg_class', 'oid');
CALL credits_settle();
SELECT credits_verify();
SELECT credits_digest();
SELECT count(*) FROM credits.accounts;
SELECT count(*) FROM credits.transactions;
SELECT count(*) FROM credits.draws;
-- it may know the types, to declare variables of them
\set VERBOSITY default
DO $$
DECLARE
	r credits.receipt;
BEGIN
	SELECT * INTO r FROM credits_deduct('role:1', 1);
	RAISE NOTICE '%', r.balance;
END
$$;
\set VERBOSITY sqlstate
CREATE TABLE credits.mine (id int);

-- an auditor reads everything and changes nothing
SET ROLE regress_credits_auditor;
SELECT count(*) > 0 AS ok FROM credits.accounts;
SELECT count(*) > 0 AS ok FROM credits.grants;
SELECT count(*) > 0 AS ok FROM credits.transactions;
SELECT count(*) > 0 AS ok FROM credits.draws;
SELECT count(*) > 0 AS ok FROM credits.chain;
SELECT count(*) > 0 AS ok FROM credits.events;
SELECT count(*) FROM credits_verify('role:1');
SELECT length(credits_digest());
SELECT credits_balance('role:1');
SELECT count(*) FROM credits_history('role:1');
SELECT credits_deduct('role:1', 1);
SELECT credits_refund(140002, 1);
SELECT credits_allocate('role:1', 1);
CALL credits_settle();
UPDATE credits.accounts SET metadata = NULL;
INSERT INTO credits.events VALUES (0, 0, 0, now(), 'x', '{}');

-- an administrator does what an application does, and the rest
SET ROLE regress_credits_admin;
SELECT balance FROM credits_deduct('role:1', 1);
SELECT balance FROM credits_allocate('role:1', 1);
SELECT count(*) FROM credits_verify('role:1');
SELECT count(*) > 0 AS ok FROM credits.transactions;
UPDATE credits.accounts SET metadata = NULL;

-- anybody else: nothing at all
SET ROLE regress_credits_nobody;
SELECT credits_balance('role:1');
SELECT credits_summary('role:1');
SELECT credits_history('role:1');
SELECT credits_balance_at('role:1', '2030-01-01');
SELECT credits_deduct('role:1', 1);
SELECT credits_try_deduct('role:1', 1);
SELECT credits_refund(140002, 1);
SELECT credits_open_account('role:2');
SELECT count(*) FROM credits.accounts;
RESET ROLE;

-- an owner's function lends its rights, and the log names the session's user
CREATE FUNCTION regress_shop.spend_one(account text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER AS 'SELECT balance FROM credits_deduct(account, 1)';
ALTER FUNCTION regress_shop.spend_one OWNER TO regress_credits_admin;
GRANT USAGE ON SCHEMA regress_shop TO regress_credits_nobody;
SET ROLE regress_credits_nobody;
SELECT regress_shop.spend_one('role:1');
RESET ROLE;
REVOKE USAGE ON SCHEMA regress_shop FROM regress_credits_nobody;
DROP FUNCTION regress_shop.spend_one;
SET SESSION AUTHORIZATION regress_credits_app;
SELECT balance FROM credits_deduct('role:1', 1);
SELECT role FROM credits_history('role:1', 1);
RESET SESSION AUTHORIZATION;
SELECT role = session_user AS by_session_user FROM credits_history('role:1', 1, kinds => '{opening}');

-- rights taken away are gone at once
REVOKE credits_app FROM regress_credits_app;
SET ROLE regress_credits_app;
SELECT credits_deduct('role:1', 1);
RESET ROLE;
GRANT credits_app TO regress_credits_app;
SELECT * FROM credits_verify('role:1');
