-- housekeep: the job that expires unpaid purchases, deletes what is old and makes partitions

CREATE PROCEDURE @extschema@.credits_housekeep(
	batch_size integer DEFAULT 1000,
	INOUT done bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_housekeep IS
	'expire purchases that nobody has paid for, delete events, deliveries and payloads that are older than the settings say, make partitions of the log ahead, and continue erasures and corrections, a commit per batch';
REVOKE ALL ON PROCEDURE @extschema@.credits_housekeep FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_housekeep TO credits_admin;
