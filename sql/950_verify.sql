-- verify: check the log and the balances

CREATE TYPE credits.problem AS (
	account text,
	transaction_id bigint,
	problem text,
	detail text
);
COMMENT ON TYPE credits.problem IS 'a problem that credits_verify found';

CREATE FUNCTION @extschema@.credits_verify(
	account text DEFAULT NULL,
	archived boolean DEFAULT false)
RETURNS SETOF credits.problem
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.credits_verify IS
	'check chain, sums and grants of one account or of all; one row per problem, none if everything is right';
REVOKE ALL ON FUNCTION @extschema@.credits_verify FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_verify TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_digest()
RETURNS bytea
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_digest IS
	'one sha256 over the heads of all accounts'' chains, to be stored where nobody who can reach the database can change it';
REVOKE ALL ON FUNCTION @extschema@.credits_digest FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_digest TO credits_admin, credits_auditor;
