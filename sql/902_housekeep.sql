-- housekeep: the job that expires unpaid purchases, deletes old events and makes partitions

CREATE PROCEDURE @extschema@.credits_housekeep(
	batch_size integer DEFAULT 1000,
	INOUT done bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_housekeep IS
	'expire purchases that nobody has paid for, delete events older than credits.event_retention, and make partitions of the log ahead, a commit per batch';
REVOKE ALL ON PROCEDURE @extschema@.credits_housekeep FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_housekeep TO credits_admin;
