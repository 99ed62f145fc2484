-- erase: remove from a row of the log what may name a person

CREATE FUNCTION @extschema@.credits_erase_text(
	transaction_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_erase_text IS
	'erase key, reference, reason, metadata and actor from a row of the log for good; the chain stays whole; false if the row has none of them';
REVOKE ALL ON FUNCTION @extschema@.credits_erase_text FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_erase_text TO credits_admin;

-- A logical subscriber keeps in its own log what has left the publisher's.
CREATE FUNCTION credits.erase_replicated() RETURNS trigger
AS 'MODULE_PATHNAME', 'credits_erase_replicated' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.erase_replicated IS
	'trigger: on a logical subscriber, erases the texts that were erased on the publisher';
REVOKE ALL ON FUNCTION credits.erase_replicated FROM PUBLIC;

CREATE TRIGGER events_erase_replicated
	AFTER INSERT ON credits.events
	FOR EACH ROW WHEN (NEW.kind OPERATOR(pg_catalog.=) 'text_erased')
	EXECUTE FUNCTION credits.erase_replicated();
ALTER TABLE credits.events ENABLE ALWAYS TRIGGER events_erase_replicated;
