-- allocate: give a grant

CREATE FUNCTION @extschema@.credits_allocate(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	source text DEFAULT 'manual',
	expires_at timestamptz DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	effective_at timestamptz DEFAULT NULL,
	priority integer DEFAULT NULL,
	price numeric DEFAULT NULL,
	currency text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_allocate IS
	'give an account a grant of credits';
REVOKE ALL ON FUNCTION @extschema@.credits_allocate FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_allocate TO credits_admin;
