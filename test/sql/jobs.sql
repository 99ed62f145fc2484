-- jobs: what ran, what failed and why, and how far behind each job is
-- in a database of its own: what others left due is none of its business
\set shared :DBNAME
CREATE DATABASE regress_jobs TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_jobs
CREATE EXTENSION credits;
CREATE SCHEMA regress_shop AUTHORIZATION regress_credits_admin;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET credits.test_clock = '2070-01-01 00:00:00+00';
-- whatever other tests left
SET client_min_messages = error;
CALL credits_settle() \gset
CALL credits_warn() \gset
CALL credits_housekeep() \gset
TRUNCATE credits.job_runs;
RESET client_min_messages;
ALTER SEQUENCE credits.accounts_id_seq RESTART 650001;
ALTER SEQUENCE credits.grants_id_seq RESTART 650001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 650001;
ALTER SEQUENCE credits.events_id_seq RESTART 650001;
ALTER SEQUENCE credits.job_runs_id_seq RESTART 650001;
SET ROLE regress_credits_admin;
SELECT job, purpose FROM credits.jobs;
SELECT job, schedule, role, running, started_at, updated_at, ended_at, interrupted, done, failed FROM credits.jobs;

-- a run with something to do, one without
SELECT kind FROM credits_open_account('jobs:1', 5);
SELECT balance FROM credits_allocate('jobs:1', 10, expires_at => '2070-01-02');
SELECT kind FROM credits_open_account('jobs:2', 5);
SELECT balance FROM credits_allocate('jobs:2', 10, expires_at => '2070-01-03');
SET credits.test_clock = '2070-01-03 12:00:00+00';
SELECT job, behind FROM credits.jobs;
CALL credits_settle(1);
SELECT job, running, started_at, updated_at, ended_at, interrupted, done, failed, failed_id, error_code, error, behind
FROM credits.jobs WHERE job = 'credits_settle';
CALL credits_settle();
SELECT id, job, role = session_user AS by_session_user, pid = pg_backend_pid() AS by_us, ended_at, done, failed
FROM credits.job_runs ORDER BY id;

-- in a transaction that is rolled back there was no run
BEGIN;
CALL credits_settle();
SELECT count(*) FROM credits.job_runs;
ROLLBACK;
SELECT count(*) FROM credits.job_runs;

-- what fails
SELECT balance FROM credits_allocate('jobs:1', 3, expires_at => '2070-01-04');
SELECT balance FROM credits_allocate('jobs:2', 4, expires_at => '2070-01-04');
RESET ROLE;
CREATE FUNCTION regress_shop.refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'not this one' USING ERRCODE = 'ZZ123';
END
$$;
CREATE TRIGGER refuse_one AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (NEW.amount = -3) EXECUTE FUNCTION regress_shop.refuse_one();
SET ROLE regress_credits_admin;
SET credits.test_clock = '2070-01-05 00:00:00+00';
SET client_min_messages = error;
CALL credits_settle();
RESET client_min_messages;
SELECT done, failed, failed_id, error_code, error, behind FROM credits.jobs WHERE job = 'credits_settle';
SELECT name FROM credits.accounts WHERE id = 650001;
RESET ROLE;
DROP TRIGGER refuse_one ON credits.log;
DROP FUNCTION regress_shop.refuse_one();
SET ROLE regress_credits_admin;
CALL credits_settle();
SELECT done, failed, failed_id, error_code, error, behind FROM credits.jobs WHERE job = 'credits_settle';

-- under way: this process, at this statement; not another, nor at another
RESET ROLE;
SELECT credits.job_is_running(pid, backend_start, query_start) AS this,
	   credits.job_is_running(pid, backend_start, query_start - '1 us'::interval) AS other_statement,
	   credits.job_is_running(pid, backend_start - '1 us'::interval, query_start) AS other_process,
	   credits.job_is_running(0, backend_start, query_start) AS no_process,
	   credits.job_is_running(NULL, NULL, NULL) AS unknown
FROM pg_stat_activity WHERE pid = pg_backend_pid();
-- cut short
UPDATE credits.job_runs SET ended_at = NULL, pid = 0 WHERE id = (SELECT max(id) FROM credits.job_runs);
SET ROLE regress_credits_admin;
SELECT job, running, interrupted, ended_at, done FROM credits.jobs WHERE job = 'credits_settle';
CALL credits_settle();
SELECT job, running, interrupted, ended_at, done FROM credits.jobs WHERE job = 'credits_settle';

-- the last 100 runs are kept
DO $$
DECLARE
	done bigint;
	failed bigint;
BEGIN
	FOR i IN 1 .. 110 LOOP
		CALL credits_housekeep(1000, done, failed);
	END LOOP;
END
$$;
SELECT job, count(*), max(id) - min(id) AS apart FROM credits.job_runs GROUP BY job ORDER BY job;

-- events are kept unless a setting says otherwise
SELECT credits_balance('jobs:1');
SELECT balance FROM credits_deduct('jobs:1', 1);
SELECT ok, code FROM credits_try_deduct('jobs:1', 1000);
SELECT ok, code FROM credits_try_redeem('jobs:1', 'NO-SUCH-CODE');
CALL credits_housekeep();
RESET ROLE;
SET credits.event_retention = '10 minutes';
SET ROLE regress_credits_admin;
SELECT count(*) FROM credits.events WHERE id > 650000;
CALL credits_housekeep();
SELECT kind, created_at FROM credits.events WHERE id > 650000 ORDER BY id;
SET credits.test_clock = '2070-01-05 00:30:00+00';
SELECT ok, code FROM credits_try_hold('jobs:1', 1000);
CALL credits_housekeep(1);
SET credits.test_clock = '2070-01-05 01:00:00.000001+00';
CALL credits_housekeep(1);
SELECT kind, created_at FROM credits.events WHERE id > 650000 ORDER BY id;
RESET ROLE;
RESET credits.event_retention;
SET ROLE regress_credits_admin;

CALL credits_housekeep(0);
\echo :SQLSTATE
\set VERBOSITY sqlstate
BEGIN READ ONLY;
CALL credits_housekeep();
ROLLBACK;
SET ROLE regress_credits_app;
CALL credits_housekeep();
SELECT * FROM credits.jobs;
SELECT * FROM credits.job_runs;
SELECT credits.job_is_running(1, now(), now());
\set VERBOSITY default
SET ROLE regress_credits_auditor;
SELECT job, failed FROM credits.jobs WHERE job = 'credits_settle';
\c :shared
DROP DATABASE regress_jobs;
