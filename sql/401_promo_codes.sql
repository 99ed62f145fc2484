-- promo codes: credits for every account that redeems a code

-- uses is maintained only if it is limited
CREATE VIEW credits.promo_codes AS
SELECT c.id AS code_id,
	   c.code,
	   CASE WHEN NOT c.active THEN 'inactive'
			WHEN c.active_until OPERATOR(pg_catalog.<=) credits.now() THEN 'expired'
			WHEN c.uses OPERATOR(pg_catalog.>=) c.max_uses THEN 'used up'
			WHEN c.active_from OPERATOR(pg_catalog.>) credits.now() THEN 'pending'
			ELSE 'active' END AS status,
	   c.credits,
	   u.uses,
	   c.max_uses,
	   c.per_account,
	   c.active_from,
	   c.active_until,
	   c.expires_in,
	   c.new_accounts_within,
	   c.metadata,
	   c.created_at
FROM credits.codes AS c
CROSS JOIN LATERAL (
	SELECT CASE WHEN c.max_uses IS NOT NULL THEN c.uses
				ELSE (SELECT pg_catalog.count(*) FROM credits.redemptions AS r
					  WHERE r.code_id OPERATOR(pg_catalog.=) c.id) END AS uses
) AS u
WHERE c.kind OPERATOR(pg_catalog.=) 'promotional';
COMMENT ON VIEW credits.promo_codes IS
	'one row per promotional code: its status now, and how often it has been redeemed';
GRANT SELECT ON credits.promo_codes TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_create_promo_code(
	code text,
	credits bigint,
	max_uses bigint DEFAULT NULL,
	per_account integer DEFAULT 1,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	new_accounts_within interval DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_create_promo_code IS
	'create a promotional code; returns it in upper case; PT409 if it already exists';
REVOKE ALL ON FUNCTION @extschema@.credits_create_promo_code FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_create_promo_code TO credits_admin;

CREATE FUNCTION @extschema@.credits_create_promo_codes(
	count integer,
	credits bigint,
	prefix text DEFAULT NULL,
	max_uses bigint DEFAULT 1,
	per_account integer DEFAULT 1,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	new_accounts_within interval DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS SETOF text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_create_promo_codes IS
	'create the given number of random promotional codes, with 80 random bits each after the prefix';
REVOKE ALL ON FUNCTION @extschema@.credits_create_promo_codes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_create_promo_codes TO credits_admin;

CREATE FUNCTION @extschema@.credits_deactivate_promo_code(code text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_deactivate_promo_code IS
	'deactivate a promotional code: it can no longer be redeemed; what it has given stays; returns whether it was active';
REVOKE ALL ON FUNCTION @extschema@.credits_deactivate_promo_code FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deactivate_promo_code TO credits_admin;
