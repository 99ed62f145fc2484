\echo Use "CALL credits_partition_log()" to partition the log. \quit
-- has the rows of the new default partition dumped, which only a script can ask for
SELECT pg_catalog.pg_extension_config_dump('credits.log_default', '');
