-- redeem: redeem a code of any kind

CREATE FUNCTION @extschema@.credits_redeem(
	account text,
	code text,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_redeem IS
	'redeem a promotional, gift or referral code; for codes that users type, use credits_try_redeem';
REVOKE ALL ON FUNCTION @extschema@.credits_redeem FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_redeem TO credits_app;

CREATE FUNCTION @extschema@.credits_try_redeem(
	account text,
	code text,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_redeem IS
	'redeem a code like credits_redeem, but return a refusal as a row and record it as an event, so that guessing is limited and noticed';
REVOKE ALL ON FUNCTION @extschema@.credits_try_redeem FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_redeem TO credits_app;
