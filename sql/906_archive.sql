-- archive: close the books, and let old partitions leave the log

-- Partitions of the log come here when they leave it.
CREATE TABLE credits.archived_log (LIKE credits.log) PARTITION BY RANGE (id);
-- like the log: if it is published as one table, an update is found by the id
ALTER TABLE credits.archived_log REPLICA IDENTITY FULL;
COMMENT ON TABLE credits.archived_log IS
	'partitions that have left the log, until they are dropped; read them in view credits.archived_transactions';

CREATE TRIGGER archived_log_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.archived_log
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.archived_log ENABLE ALWAYS TRIGGER archived_log_refuse_change;

-- A logical subscriber that is made after books were closed has here what had left the
-- log then.  Everywhere else this one is empty.
CREATE TABLE credits.archived_log_default PARTITION OF credits.archived_log DEFAULT;
ALTER TABLE credits.archived_log_default ADD CONSTRAINT archived_log_default_pkey PRIMARY KEY (id);
CREATE INDEX archived_log_default_account_id_idx ON credits.archived_log_default
	(account_id, created_at, id);
COMMENT ON TABLE credits.archived_log_default IS
	'on a logical subscriber, what had left the publisher''s log before; empty everywhere else';
SELECT pg_catalog.pg_extension_config_dump('credits.archived_log_default', '');

CREATE TRIGGER archived_log_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.archived_log_default
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER archived_log_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.archived_log_default
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.archived_log_default ENABLE ALWAYS TRIGGER archived_log_refuse_change;
ALTER TABLE credits.archived_log_default ENABLE ALWAYS TRIGGER archived_log_refuse_row_change;

CREATE VIEW credits.archived_transactions AS
SELECT l.id, l.account_id, l.created_at, l.amount,
	   COALESCE(l.held, 0) AS held,
	   l.balance_after,
	   COALESCE(l.held_after, 0) AS held_after,
	   l.target_id, l.member_id,
	   l.request::bigint AS request,
	   credits.kind_name(l.kind_code) AS kind,
	   credits.role_name(l.role_id) AS role,
	   l.idempotency_key, l.operation, l.reference,
	   credits.draws_of(l.draws) AS draws,
	   l.terms, l.reason, l.metadata, l.actor, l.salt, l.hash
FROM credits.archived_log AS l;
COMMENT ON VIEW credits.archived_transactions IS
	'rows that have left the log, as far as their partitions have not been dropped';

-- of a row that the log keeps a copy of, the original
CREATE VIEW credits.all_transactions AS
SELECT t.* FROM credits.transactions AS t
WHERE NOT EXISTS (SELECT FROM credits.archived_log AS l WHERE l.id OPERATOR(pg_catalog.=) t.id)
UNION ALL
SELECT t.* FROM credits.archived_transactions AS t;
COMMENT ON VIEW credits.all_transactions IS
	'the log, and the rows that have left it, as far as their partitions have not been dropped';

CREATE VIEW credits.archived_chain AS
SELECT t.account_id,
	   t.id,
	   (pg_catalog.extract('epoch', t.created_at)
		OPERATOR(pg_catalog.*) 1000000::numeric)::bigint AS created_at,
	   t.kind, t.amount, t.held, t.balance_after, t.held_after,
	   t.target_id, t.member_id, t.request, t.role, t.idempotency_key, t.operation,
	   t.reference, t.draws, t.terms::text AS terms,
	   t.reason, t.metadata::text AS metadata, t.actor,
	   pg_catalog.encode(t.salt, 'hex') AS salt,
	   pg_catalog.encode(t.hash, 'hex') AS hash
FROM credits.archived_transactions AS t;
COMMENT ON VIEW credits.archived_chain IS
	'what credits.chain is for the log, for rows that have left it';

GRANT SELECT ON credits.archived_log, credits.archived_log_default, credits.archived_chain, credits.archived_transactions, credits.all_transactions
	TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_archive_obstacles(
	before timestamptz DEFAULT NULL,
	OUT obstacle text,
	OUT since timestamptz,
	OUT transaction_id bigint,
	OUT detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE ROWS 5;
COMMENT ON FUNCTION @extschema@.credits_archive_obstacles IS
	'what needs rows of the log, and the first of them: credits_archive closes the books before the lowest';
REVOKE ALL ON FUNCTION @extschema@.credits_archive_obstacles FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_archive_obstacles TO credits_admin, credits_auditor;

CREATE PROCEDURE @extschema@.credits_archive(
	before timestamptz DEFAULT NULL,
	batch_size integer DEFAULT 1000,
	INOUT archived_until bigint DEFAULT NULL,
	INOUT partitions integer DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_archive IS
	'close the books at the end of a partition whose rows are all before an instant, or as old as credits.archive_after says: prove all accounts up to there, make their anchors, and move the partitions to credits.archived_log';
REVOKE ALL ON PROCEDURE @extschema@.credits_archive FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_archive TO credits_admin;
