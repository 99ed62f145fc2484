-- renew: the job that renews subscriptions

CREATE PROCEDURE @extschema@.credits_renew(
	batch_size integer DEFAULT 1000,
	INOUT renewed bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_renew IS
	'renew every subscription that is due, a commit per batch; those that fail are skipped and recorded as events';
REVOKE ALL ON PROCEDURE @extschema@.credits_renew FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_renew TO credits_admin;
