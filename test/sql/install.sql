-- install: the extension, its roles, and the roles the other tests run as
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- leftovers of a run that was cut short
SET client_min_messages = warning;
DO $$
DECLARE
	r text;
BEGIN
	FOREACH r IN ARRAY ARRAY['regress_credits_app', 'regress_credits_admin',
							 'regress_credits_auditor', 'regress_credits_nobody']
	LOOP
		IF EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
			EXECUTE format('DROP OWNED BY %I', r);
			EXECUTE format('DROP ROLE %I', r);
		END IF;
	END LOOP;
END
$$;
RESET client_min_messages;

-- not for everyone
CREATE ROLE regress_credits_nobody;
SET ROLE regress_credits_nobody;
\set VERBOSITY sqlstate
CREATE EXTENSION credits;
\set VERBOSITY default
RESET ROLE;

-- an install that is rolled back leaves nothing behind, in this session neither
BEGIN;
CREATE SCHEMA regress_api;
CREATE EXTENSION credits SCHEMA regress_api;
SELECT account, kind, amount, balance
FROM regress_api.credits_open_account('a', 5);
SELECT account, kind, amount, balance FROM regress_api.credits_deduct('a', 2);
ROLLBACK;
SELECT to_regnamespace('credits'), to_regtype('credits.receipt');

-- a schema of that name that is already there is not taken over
CREATE SCHEMA credits;
\set VERBOSITY sqlstate
CREATE EXTENSION credits;
\set VERBOSITY default
DROP SCHEMA credits;

-- installed twice: once to be dropped again, with everything in it
CREATE EXTENSION credits;
SELECT account, kind, amount, balance FROM credits_open_account('a', 5);
SELECT account, kind, amount, balance FROM credits_deduct('a', 2);
DROP EXTENSION credits;
SELECT to_regnamespace('credits'), to_regproc('credits_deduct');
CREATE EXTENSION credits;
SELECT account, kind, amount, balance FROM credits_open_account('a', 5);
SELECT account, kind, amount, balance FROM credits_deduct('a', 2);
SELECT count(*) FROM credits_verify();

-- it stays in its schemas
\set VERBOSITY sqlstate
ALTER EXTENSION credits SET SCHEMA information_schema;
\set VERBOSITY default

-- roles of the cluster: groups without any power of their own
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin,
	   rolreplication, rolbypassrls
FROM pg_roles
WHERE rolname IN ('credits_app', 'credits_admin', 'credits_auditor')
ORDER BY rolname;
SELECT r.rolname AS role, m.rolname AS is_member_of
FROM pg_auth_members AS am
JOIN pg_roles AS r ON r.oid = am.member
JOIN pg_roles AS m ON m.oid = am.roleid
WHERE r.rolname IN ('credits_app', 'credits_admin', 'credits_auditor');

-- the roles that the other tests run as
CREATE ROLE regress_credits_app IN ROLE credits_app;
CREATE ROLE regress_credits_admin IN ROLE credits_admin;
CREATE ROLE regress_credits_auditor IN ROLE credits_auditor;
-- lets the tests travel in time without being superuser
GRANT SET ON PARAMETER credits.test_clock TO regress_credits_admin;
-- where they keep objects of their own
CREATE SCHEMA regress_shop AUTHORIZATION regress_credits_admin;
GRANT USAGE ON SCHEMA regress_shop TO regress_credits_app;

-- start afresh
DROP EXTENSION credits;
CREATE EXTENSION credits;
SELECT count(*) FROM credits.accounts;
