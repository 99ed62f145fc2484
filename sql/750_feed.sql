-- feed: events for readers outside, each once, in an order that no commit can break

CREATE TABLE credits.consumers (
	name text COLLATE "C" NOT NULL,
	safe_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT consumers_safe_id CHECK (safe_id >= 0)
) WITH (fillfactor = 50);
ALTER TABLE credits.consumers ADD CONSTRAINT consumers_pkey PRIMARY KEY (name);

COMMENT ON TABLE credits.consumers IS
	'readers of events, which are kept until they have read them';
COMMENT ON COLUMN credits.consumers.safe_id IS
	'it has read all events up to this id that there will ever be; in a restored database it begins again after it';
COMMENT ON COLUMN credits.consumers.role IS 'session_user that added it';

SELECT pg_catalog.pg_extension_config_dump('credits.consumers', '');

-- Not dumped: snapshots mean something only in the cluster that took them.
CREATE TABLE credits.consumer_positions (
	consumer text COLLATE "C" NOT NULL,
	system bigint NOT NULL,
	origin bigint NOT NULL,
	version bigint NOT NULL,
	snapshot pg_snapshot,
	next_xid xid8,
	last_id bigint,
	batch_snapshot pg_snapshot,
	batch_next_xid xid8,
	batch_last_id bigint,
	read_id bigint,
	mark_xid xid8,
	mark_id bigint,
	acknowledged_at timestamptz,
	CONSTRAINT consumer_positions_read
		CHECK ((snapshot IS NULL) = (next_xid IS NULL) AND (snapshot IS NULL) = (last_id IS NULL)),
	CONSTRAINT consumer_positions_batch
		CHECK ((batch_snapshot IS NULL) = (batch_next_xid IS NULL)
			   AND (batch_snapshot IS NULL) = (batch_last_id IS NULL)
			   AND (batch_snapshot IS NULL) = (read_id IS NULL)),
	CONSTRAINT consumer_positions_mark CHECK ((mark_xid IS NULL) = (mark_id IS NULL))
) WITH (fillfactor = 50);
ALTER TABLE credits.consumer_positions ADD CONSTRAINT consumer_positions_pkey PRIMARY KEY (consumer);

COMMENT ON TABLE credits.consumer_positions IS
	'what each consumer has acknowledged; not dumped';
COMMENT ON COLUMN credits.consumer_positions.system IS
	'system identifier of the cluster; a row of another cluster does not count';
COMMENT ON COLUMN credits.consumer_positions.origin IS
	'a random number, which tells its tokens from those of others';
COMMENT ON COLUMN credits.consumer_positions.version IS 'number of whole batches that were acknowledged';
COMMENT ON COLUMN credits.consumer_positions.snapshot IS
	'events of the transactions that it sees were read; NULL if the consumer begins after consumers.safe_id';
COMMENT ON COLUMN credits.consumer_positions.next_xid IS
	'first transaction id that was not assigned yet after last_id was read';
COMMENT ON COLUMN credits.consumer_positions.last_id IS
	'id of the last event, which was read from the sequence after the snapshot was taken';
COMMENT ON COLUMN credits.consumer_positions.batch_snapshot IS
	'the same for the batch that is being acknowledged in parts; NULL if there is none';
COMMENT ON COLUMN credits.consumer_positions.batch_next_xid IS 'see next_xid';
COMMENT ON COLUMN credits.consumer_positions.batch_last_id IS 'see last_id';
COMMENT ON COLUMN credits.consumer_positions.read_id IS
	'events of that batch up to this id were read';
COMMENT ON COLUMN credits.consumer_positions.mark_xid IS
	'once a snapshot sees all transactions below this one, everything up to mark_id was read';
COMMENT ON COLUMN credits.consumer_positions.mark_id IS 'the next safe_id';

GRANT SELECT ON credits.consumers, credits.consumer_positions
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.consumer_lag(consumer text, OUT unread integer, OUT unread_since timestamptz)
RETURNS record
AS 'MODULE_PATHNAME', 'credits_consumer_lag' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.consumer_lag IS
	'how many events a consumer has not acknowledged, at most 1000, and when the first of them was written';
REVOKE ALL ON FUNCTION credits.consumer_lag FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.consumer_lag TO credits_admin, credits_auditor;

CREATE VIEW credits.consumer_list AS
SELECT c.name AS consumer,
	   c.created_at,
	   c.role,
	   p.acknowledged_at,
	   l.unread,
	   l.unread_since,
	   c.safe_id
FROM credits.consumers AS c
LEFT JOIN credits.consumer_positions AS p ON p.consumer OPERATOR(pg_catalog.=) c.name
CROSS JOIN LATERAL credits.consumer_lag(c.name) AS l;
COMMENT ON VIEW credits.consumer_list IS
	'readers of events, and how far behind each of them is';
COMMENT ON COLUMN credits.consumer_list.unread IS
	'events that it has not acknowledged: 1000 means as many or more; NULL on a standby';
COMMENT ON COLUMN credits.consumer_list.unread_since IS 'when the first of them was written';
GRANT SELECT ON credits.consumer_list TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_add_consumer(consumer text, after_id bigint DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_add_consumer IS
	'add a reader of events: of those that are committed from now on, or of those after an id; false if there is one of this name, which is left as it is';
REVOKE ALL ON FUNCTION @extschema@.credits_add_consumer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_add_consumer TO credits_admin;

CREATE FUNCTION @extschema@.credits_remove_consumer(consumer text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_consumer IS
	'remove a reader of events: events are no longer kept for it';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_consumer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_consumer TO credits_admin;

CREATE FUNCTION @extschema@.credits_read_events(consumer text, max_rows integer DEFAULT 100)
RETURNS TABLE (
	event_id bigint,
	kind text,
	account text,
	transaction_id bigint,
	created_at timestamptz,
	detail jsonb,
	token text)
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_read_events IS
	'the next events that a consumer has not acknowledged, in order of their ids; the same again until it acknowledges the token of the last one that it has dealt with';
REVOKE ALL ON FUNCTION @extschema@.credits_read_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_read_events TO credits_admin;

CREATE FUNCTION @extschema@.credits_ack_events(consumer text, token text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_ack_events IS
	'acknowledge the events that were read up to the one with this token; false if the consumer has already come further, and nothing is changed';
REVOKE ALL ON FUNCTION @extschema@.credits_ack_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_ack_events TO credits_admin;
