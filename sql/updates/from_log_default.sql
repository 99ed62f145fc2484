\echo Use "CALL credits_partition_log()" to partition the log. \quit
-- nothing is left to do: back to the version of the extension
