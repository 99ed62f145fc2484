-- void: take back the credits that remain in a grant

CREATE FUNCTION @extschema@.credits_void_grant(
	grant_id bigint,
	reason text,
	idempotency_key text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_void_grant IS
	'take back what remains of a grant; a reason is required';
REVOKE ALL ON FUNCTION @extschema@.credits_void_grant FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_void_grant TO credits_admin;
