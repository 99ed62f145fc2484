-- schema: the schema, the roles, and types that many functions use

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION credits" to load this file. \quit

CREATE SCHEMA credits;
COMMENT ON SCHEMA credits IS
	'tables, types and views of the credits extension; applications call the credits_* functions';

-- Roles belong to the cluster, not to the extension: they are created if they do
-- not exist, and never dropped.
DO $$
DECLARE
	role_name pg_catalog.name;
BEGIN
	FOREACH role_name IN ARRAY
		ARRAY['credits_app', 'credits_admin', 'credits_auditor']::pg_catalog.name[]
	LOOP
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r
					   WHERE r.rolname OPERATOR(pg_catalog.=) role_name)
		THEN
			BEGIN
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
			EXCEPTION WHEN duplicate_object OR unique_violation THEN
				-- another session has created it at the same time
				NULL;
			END;
		END IF;
	END LOOP;
END
$$;

-- an administrator has the rights of an application and of an auditor
GRANT credits_app TO credits_admin;
-- an application needs only the types in this schema
GRANT USAGE ON SCHEMA credits TO credits_app, credits_admin, credits_auditor;

CREATE TYPE credits.receipt AS (
	transaction_id bigint,
	account text,
	kind text,
	amount bigint,
	balance bigint,
	held bigint,
	replayed boolean,
	created_at timestamptz
);
COMMENT ON TYPE credits.receipt IS
	'what a function that changes an account returns: its transaction, signed change, and the balance after it';

CREATE TYPE credits.attempt AS (
	ok boolean,
	code text,
	message text,
	detail text,
	hint text,
	receipt credits.receipt
);
COMMENT ON TYPE credits.attempt IS
	'what a credits_try_* function returns: a receipt, or the SQLSTATE, message, detail and hint of the refusal';

CREATE FUNCTION credits.now()
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_now' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.now IS
	'the clock that credits goes by: the current time, or the setting credits.test_clock';

CREATE FUNCTION credits.max_rows(max_rows integer)
RETURNS integer
AS 'MODULE_PATHNAME', 'credits_max_rows' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.max_rows IS
	'the number of rows of a page; 22023 unless it is from 1 to 1000';
REVOKE ALL ON FUNCTION credits.max_rows FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.max_rows TO credits_admin, credits_auditor;
