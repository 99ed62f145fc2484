-- privacy: the persons who were erased, and how far that has come

-- The name, the salt and the transaction id are there only until it has ended: copies of
-- the name have to be found, and whoever may still add to what is erased.
CREATE TABLE credits.erasures (
	account_id bigint NOT NULL,
	transaction_id bigint NOT NULL,
	begun_at timestamptz NOT NULL,
	ended_at timestamptz,
	role text NOT NULL,
	done bigint NOT NULL,
	name text COLLATE "C",
	salt bytea,
	xid xid8,
	system bigint,
	last_pass boolean NOT NULL,
	place text COLLATE "C",
	step integer NOT NULL,
	"position" text COLLATE "C",
	CONSTRAINT erasures_ended
		CHECK ((ended_at IS NULL) = (name IS NOT NULL) AND (ended_at IS NULL) = (salt IS NOT NULL)
			   AND (ended_at IS NULL) = (xid IS NOT NULL) AND (ended_at IS NULL) = (system IS NOT NULL))
) WITH (fillfactor = 50);

ALTER TABLE credits.erasures ADD CONSTRAINT erasures_pkey PRIMARY KEY (account_id);
CREATE INDEX erasures_unfinished_idx ON credits.erasures (account_id) WHERE ended_at IS NULL;

COMMENT ON TABLE credits.erasures IS
	'one row per person that credits_erase_person has erased, or is erasing';
COMMENT ON COLUMN credits.erasures.transaction_id IS 'the row of the log that records it';
COMMENT ON COLUMN credits.erasures.ended_at IS
	'when nothing was left; NULL if it is to be continued by credits_housekeep, or by the same call';
COMMENT ON COLUMN credits.erasures.role IS 'session_user that began it';
COMMENT ON COLUMN credits.erasures.done IS 'rows that were erased, deleted or changed';
COMMENT ON COLUMN credits.erasures.name IS
	'what the account was called, to find copies of it; NULL when it has ended';
COMMENT ON COLUMN credits.erasures.salt IS
	'random bytes, so that equal references stay equal; NULL when it has ended';
COMMENT ON COLUMN credits.erasures.xid IS
	'the transaction that has begun it; NULL when it has ended';
COMMENT ON COLUMN credits.erasures.system IS
	'system identifier of the cluster that xid belongs to; NULL when it has ended';
COMMENT ON COLUMN credits.erasures.last_pass IS
	'whether nobody who saw the account under its name was left when the pass over all places began';
COMMENT ON COLUMN credits.erasures.place IS 'the table that is next; NULL for the first';
COMMENT ON COLUMN credits.erasures.step IS 'which of the steps for this table is next, from 0; between two passes, 1';
COMMENT ON COLUMN credits.erasures."position" IS 'how far this step has come; NULL if it has not begun';

SELECT pg_catalog.pg_extension_config_dump('credits.erasures', '');
GRANT SELECT ON credits.erasures TO credits_admin, credits_auditor;

-- it changes as it proceeds, by the extension's own statements
CREATE TRIGGER erasures_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.erasures
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.erasures ENABLE ALWAYS TRIGGER erasures_refuse_change;
