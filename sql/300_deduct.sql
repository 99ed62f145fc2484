-- deduct: spend credits

CREATE FUNCTION @extschema@.credits_deduct(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_deduct IS
	'spend credits of an account, from its grants in burn order; PT402 if there are not enough';
REVOKE ALL ON FUNCTION @extschema@.credits_deduct FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deduct TO credits_app;

CREATE FUNCTION @extschema@.credits_try_deduct(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_deduct IS
	'spend credits like credits_deduct, but return a refusal as a row and record it as an event';
REVOKE ALL ON FUNCTION @extschema@.credits_try_deduct FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_deduct TO credits_app;

CREATE FUNCTION @extschema@.credits_deduct_up_to(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_deduct_up_to IS
	'spend what there is, up to an amount; the receipt says how much';
REVOKE ALL ON FUNCTION @extschema@.credits_deduct_up_to FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deduct_up_to TO credits_app;
