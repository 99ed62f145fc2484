-- erase: remove from a row of the log what may name a person

CREATE FUNCTION @extschema@.credits_erase_text(
	transaction_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_erase_text IS
	'erase key, reference, reason, metadata and actor from a row of the log for good; the chain stays whole; false if the row has none of them';
REVOKE ALL ON FUNCTION @extschema@.credits_erase_text FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_erase_text TO credits_admin;
