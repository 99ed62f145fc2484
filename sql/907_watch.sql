-- watch: the job that looks for suspicious activity

CREATE PROCEDURE @extschema@.credits_watch(
	batch_size integer DEFAULT 1000,
	INOUT done bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_watch IS
	'look for suspicious activity by credits.activity_rules in what is new, a commit per batch; report it once by events and NOTIFY credits_event, and pause accounts if a rule says so';
REVOKE ALL ON PROCEDURE @extschema@.credits_watch FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_watch TO credits_admin;
