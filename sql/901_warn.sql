-- warn: the job that announces that grants expire, subscriptions are renewed and disputes
-- are overdue

-- for credits_warn, in order of expiry; has no column that a spend changes
CREATE INDEX grants_expires_at_idx ON credits.grants (expires_at, id)
	WHERE status = 'open' AND expires_at IS NOT NULL;

CREATE TABLE credits.warnings (
	kind text NOT NULL,
	lead interval NOT NULL,
	reached_at timestamptz NOT NULL,
	reached_id bigint NOT NULL
) WITH (fillfactor = 60);

ALTER TABLE credits.warnings ADD CONSTRAINT warnings_pkey PRIMARY KEY (kind, lead);

COMMENT ON TABLE credits.warnings IS
	'the progress of each lead of credits.expiry_warning and credits.renewal_warning';
COMMENT ON COLUMN credits.warnings.kind IS 'expiry or renewal';
COMMENT ON COLUMN credits.warnings.lead IS 'how long before the event the warning is given';
COMMENT ON COLUMN credits.warnings.reached_at IS
	'warnings have been given about everything that expires or is renewed before this instant';
COMMENT ON COLUMN credits.warnings.reached_id IS
	'and, at that instant, about the grants or subscriptions up to this id';

SELECT pg_catalog.pg_extension_config_dump('credits.warnings', '');
GRANT SELECT ON credits.warnings TO credits_admin, credits_auditor;

CREATE PROCEDURE @extschema@.credits_warn(
	batch_size integer DEFAULT 1000,
	INOUT warned bigint DEFAULT NULL,
	INOUT failed bigint DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_warn IS
	'warn about grants that will expire, subscriptions that will be renewed and disputes that are overdue, a commit per batch; once each, by events and NOTIFY credits_event';
REVOKE ALL ON PROCEDURE @extschema@.credits_warn FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_warn TO credits_admin;

CREATE FUNCTION credits.warn_behind()
RETURNS interval
AS 'MODULE_PATHNAME', 'credits_warn_behind' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.warn_behind IS
	'how long the oldest pending warning has been due';
REVOKE ALL ON FUNCTION credits.warn_behind FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.warn_behind TO credits_admin, credits_auditor;
