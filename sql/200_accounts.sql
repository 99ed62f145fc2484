-- accounts: opening, pausing, resuming and closing them

CREATE FUNCTION @extschema@.credits_open_account(
	account text,
	initial_credits bigint DEFAULT NULL,
	unit text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_account IS
	'open an account, once; opening it again returns the first receipt and changes nothing';
REVOKE ALL ON FUNCTION @extschema@.credits_open_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_pause_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_pause_account IS
	'stop an account from spending; it can still receive, be refunded and be read';
REVOKE ALL ON FUNCTION @extschema@.credits_pause_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pause_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_resume_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_account IS
	'let a paused account spend again';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_close_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_close_account IS
	'close an account permanently: it can be read, and its credits still expire, but nothing else changes';
REVOKE ALL ON FUNCTION @extschema@.credits_close_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_close_account TO credits_admin;
