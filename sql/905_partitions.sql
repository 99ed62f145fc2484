-- partitions: the log in partitions by id

CREATE PROCEDURE @extschema@.credits_partition_log(
	INOUT partitions integer DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_partition_log IS
	'partition the log by id, and make partitions ahead; returns how many were made';
REVOKE ALL ON PROCEDURE @extschema@.credits_partition_log FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_partition_log TO credits_admin;

CREATE VIEW credits.partitions AS
SELECT c.relname AS name,
	   pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bounds,
	   c.reltuples::bigint AS estimated_rows,
	   pg_catalog.pg_total_relation_size(c.oid) AS bytes
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
WHERE i.inhparent OPERATOR(pg_catalog.=) 'credits.log'::pg_catalog.regclass;
COMMENT ON VIEW credits.partitions IS
	'the partitions of the log: their ids, size, and rows as of the last ANALYZE';
GRANT SELECT ON credits.partitions TO credits_admin, credits_auditor;
