-- transfer: move credits from one account to another

CREATE FUNCTION @extschema@.credits_transfer(
	from_account text,
	to_account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_transfer IS
	'move credits to another account of the same unit; they keep source, priority, expiry and price';
REVOKE ALL ON FUNCTION @extschema@.credits_transfer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_transfer TO credits_app;

CREATE FUNCTION @extschema@.credits_transfer_up_to(
	from_account text,
	to_account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_transfer_up_to IS
	'move what there is, up to an amount, from one account to another; the receipt says how much';
REVOKE ALL ON FUNCTION @extschema@.credits_transfer_up_to FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_transfer_up_to TO credits_app;

CREATE FUNCTION @extschema@.credits_reverse_transfer(
	transaction_id bigint,
	reason text,
	amount bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_reverse_transfer IS
	'return what the receiver still has of a transfer; a reason is required';
REVOKE ALL ON FUNCTION @extschema@.credits_reverse_transfer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_reverse_transfer TO credits_admin;
