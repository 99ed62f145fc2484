-- archive: where the books of each account were closed, and what was still open there

-- The closings of the books, each up to an id of the log.
CREATE TABLE credits.archives (
	until_id bigint NOT NULL,
	from_id bigint NOT NULL,
	before timestamptz NOT NULL,
	begun_at timestamptz NOT NULL,
	done_account_id bigint NOT NULL,
	ended_at timestamptz
);

ALTER TABLE credits.archives ADD CONSTRAINT archives_pkey PRIMARY KEY (until_id);

COMMENT ON TABLE credits.archives IS
	'one row per closing of the books by credits_archive';
COMMENT ON COLUMN credits.archives.until_id IS
	'the highest id of the log that it closes: rows up to it are archived, or will be when it has ended';
COMMENT ON COLUMN credits.archives.from_id IS
	'until_id of the closing before it, 0 for the first';
COMMENT ON COLUMN credits.archives.before IS 'the argument of credits_archive';
COMMENT ON COLUMN credits.archives.done_account_id IS
	'accounts up to this id have been proven, and have their anchors';
COMMENT ON COLUMN credits.archives.ended_at IS
	'when the rows left the log; NULL if that is still to be done';

CREATE TABLE credits.anchors (
	account_id bigint NOT NULL,
	transaction_id bigint NOT NULL,
	until_id bigint NOT NULL,
	transaction_count bigint NOT NULL,
	created_at timestamptz NOT NULL,
	status text NOT NULL,
	balance bigint NOT NULL,
	held bigint NOT NULL,
	debt bigint NOT NULL,
	granted bigint NOT NULL,
	spent bigint NOT NULL,
	refunded bigint NOT NULL,
	expired bigint NOT NULL,
	opening_id bigint NOT NULL,
	opening_amount bigint NOT NULL,
	limits jsonb,
	hash bytea NOT NULL,
	CONSTRAINT anchors_not_negative CHECK (balance >= 0 AND held >= 0)
);

ALTER TABLE credits.anchors ADD CONSTRAINT anchors_pkey PRIMARY KEY (account_id, transaction_id);

COMMENT ON TABLE credits.anchors IS
	'the state of an account at the last of its rows that a closing of the books covers; credits_verify begins at the newest';
COMMENT ON COLUMN credits.anchors.transaction_id IS 'that row';
COMMENT ON COLUMN credits.anchors.until_id IS 'the closing, in credits.archives';
COMMENT ON COLUMN credits.anchors.transaction_count IS 'rows of the account up to it';
COMMENT ON COLUMN credits.anchors.created_at IS 'created_at of that row';
COMMENT ON COLUMN credits.anchors.granted IS
	'credits of the grants that were archived with these rows or before: they are in no other table that credits_verify reads';
COMMENT ON COLUMN credits.anchors.opening_id IS 'the account''s first row';
COMMENT ON COLUMN credits.anchors.opening_amount IS 'the initial credits that it gave';
COMMENT ON COLUMN credits.anchors.limits IS 'the limits last set up to it, NULL if none were';
COMMENT ON COLUMN credits.anchors.hash IS
	'hash of that row: the chain of the rows that are left begins with it';

CREATE TABLE credits.anchor_parts (
	account_id bigint NOT NULL,
	transaction_id bigint NOT NULL,
	number integer NOT NULL,
	kind text NOT NULL,
	id bigint NOT NULL,
	state jsonb NOT NULL
);

ALTER TABLE credits.anchor_parts ADD CONSTRAINT anchor_parts_pkey
	PRIMARY KEY (account_id, transaction_id, number);

COMMENT ON TABLE credits.anchor_parts IS
	'what was not finished at an anchor: grants, open holds, debts, members, and what members have used';
COMMENT ON COLUMN credits.anchor_parts.number IS 'counts the parts of an anchor';
COMMENT ON COLUMN credits.anchor_parts.kind IS 'grant, hold, debt, member or use';
COMMENT ON COLUMN credits.anchor_parts.id IS
	'of the grant, of the hold''s row, of the grant that owes, or of the account that is a member';
COMMENT ON COLUMN credits.anchor_parts.state IS 'what the rows up to the anchor say about it';

-- Rows of the log below a closing that are still in it, because something refers to them.
CREATE TABLE credits.carried_rows (
	id bigint NOT NULL,
	until_id bigint NOT NULL,
	previous bytea NOT NULL,
	hash bytea NOT NULL
);

ALTER TABLE credits.carried_rows ADD CONSTRAINT carried_rows_pkey PRIMARY KEY (id, until_id);

COMMENT ON TABLE credits.carried_rows IS
	'archived rows of which the log keeps a copy: of open holds, and those that later rows refer to';
COMMENT ON COLUMN credits.carried_rows.until_id IS 'the closing, in credits.archives';
COMMENT ON COLUMN credits.carried_rows.previous IS
	'hash of the account''s row before it, empty if it is the first: what its own hash can be checked with';

CREATE TABLE credits.archived_grants (LIKE credits.grants);

ALTER TABLE credits.archived_grants ADD CONSTRAINT archived_grants_pkey PRIMARY KEY (id);

COMMENT ON TABLE credits.archived_grants IS
	'used-up grants that only archived rows refer to, moved here from credits.grants';

SELECT pg_catalog.pg_extension_config_dump('credits.archives', '');
SELECT pg_catalog.pg_extension_config_dump('credits.anchors', '');
SELECT pg_catalog.pg_extension_config_dump('credits.anchor_parts', '');
SELECT pg_catalog.pg_extension_config_dump('credits.carried_rows', '');
SELECT pg_catalog.pg_extension_config_dump('credits.archived_grants', '');
GRANT SELECT ON credits.archives, credits.anchors, credits.anchor_parts, credits.carried_rows,
	credits.archived_grants
	TO credits_admin, credits_auditor;

CREATE VIEW credits.book_starts AS
SELECT DISTINCT ON (n.account_id)
	   n.account_id, n.transaction_id, n.created_at, n.transaction_count, n.balance, n.held
FROM credits.anchors AS n
JOIN credits.archives AS a ON a.until_id OPERATOR(pg_catalog.=) n.until_id
WHERE a.ended_at IS NOT NULL
ORDER BY n.account_id, n.transaction_id DESC;
COMMENT ON VIEW credits.book_starts IS
	'where the log of each account that has archived rows begins: after this row, with this balance';
GRANT SELECT ON credits.book_starts TO credits_admin, credits_auditor;

-- the closings change as they proceed, by the extension's own statements
CREATE TRIGGER archives_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.archives
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
CREATE TRIGGER anchors_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.anchors
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER anchors_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.anchors
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER anchor_parts_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.anchor_parts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER anchor_parts_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.anchor_parts
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER carried_rows_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.carried_rows
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER carried_rows_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.carried_rows
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER archived_grants_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.archived_grants
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();

ALTER TABLE credits.archives ENABLE ALWAYS TRIGGER archives_refuse_change;
ALTER TABLE credits.anchors ENABLE ALWAYS TRIGGER anchors_refuse_change;
ALTER TABLE credits.anchors ENABLE ALWAYS TRIGGER anchors_refuse_row_change;
ALTER TABLE credits.anchor_parts ENABLE ALWAYS TRIGGER anchor_parts_refuse_change;
ALTER TABLE credits.anchor_parts ENABLE ALWAYS TRIGGER anchor_parts_refuse_row_change;
ALTER TABLE credits.carried_rows ENABLE ALWAYS TRIGGER carried_rows_refuse_change;
ALTER TABLE credits.carried_rows ENABLE ALWAYS TRIGGER carried_rows_refuse_row_change;
ALTER TABLE credits.archived_grants ENABLE ALWAYS TRIGGER archived_grants_refuse_change;
