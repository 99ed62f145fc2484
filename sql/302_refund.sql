-- refund: give spent credits back to the grants they came from

CREATE FUNCTION @extschema@.credits_refund(
	transaction_id bigint,
	amount bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expired text DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_refund IS
	'give back credits that a transaction spent, the last drawn first; all that are left unless an amount is given';
REVOKE ALL ON FUNCTION @extschema@.credits_refund FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_refund TO credits_app;
