-- settle: the job that brings accounts up to date with the clock

CREATE PROCEDURE @extschema@.credits_settle(
	batch_size integer DEFAULT 1000,
	INOUT settled bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_settle IS
	'settle every account that is due, a commit per batch; accounts that fail are skipped and recorded as events';
REVOKE ALL ON PROCEDURE @extschema@.credits_settle FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_settle TO credits_admin;
