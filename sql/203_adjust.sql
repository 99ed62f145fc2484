-- adjust: an administrator's correction

CREATE FUNCTION @extschema@.credits_adjust(
	account text,
	delta bigint,
	reason text,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_adjust IS
	'correct a balance up or down; a reason is required';
REVOKE ALL ON FUNCTION @extschema@.credits_adjust FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_adjust TO credits_admin;
