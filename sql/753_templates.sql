-- templates: what people are told

CREATE SEQUENCE credits.templates_id_seq;

-- Rows are only added: what was sent can be told from the version that it was made
-- with.  One without a body ends a template.
CREATE TABLE credits.templates (
	id bigint NOT NULL,
	kind text COLLATE "C" NOT NULL,
	channel text COLLATE "C" NOT NULL,
	locale text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	subject text,
	body text,
	html text,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT templates_channel CHECK (channel IN ('*', 'email', 'sms', 'push', 'inbox'))
);

ALTER SEQUENCE credits.templates_id_seq OWNED BY credits.templates.id;
ALTER TABLE credits.templates ADD CONSTRAINT templates_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX templates_kind_idx ON credits.templates (kind, channel, locale, version);

COMMENT ON TABLE credits.templates IS
	'what people are told of kinds of events, by channel and language, in versions; where there is nothing, credits.event_kinds has it';
COMMENT ON COLUMN credits.templates.channel IS '* means all channels';
COMMENT ON COLUMN credits.templates.subject IS 'NULL for sms';
COMMENT ON COLUMN credits.templates.body IS 'NULL if the template ends with this version';
COMMENT ON COLUMN credits.templates.html IS 'NULL for messages without';
COMMENT ON COLUMN credits.templates.role IS 'session_user that set it';

SELECT pg_catalog.pg_extension_config_dump('credits.templates', '');
SELECT pg_catalog.pg_extension_config_dump('credits.templates_id_seq', '');
GRANT SELECT ON credits.templates, credits.templates_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER templates_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.templates
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.templates ENABLE ALWAYS TRIGGER templates_refuse_change;

CREATE TYPE credits.rendered_message AS (
	template_id bigint,
	subject text,
	body text,
	html text
);
COMMENT ON TYPE credits.rendered_message IS
	'what credits_preview_template returns: a message, and the template that it was made from, NULL if it came with the extension';

CREATE FUNCTION @extschema@.credits_set_template(
	kind text,
	channel text DEFAULT NULL,
	locale text DEFAULT 'en',
	subject text DEFAULT NULL,
	body text DEFAULT NULL,
	html text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_template IS
	'set what people are told of a kind of events, by one channel or all, in a language; what is left out stays; returns the id of the version';
REVOKE ALL ON FUNCTION @extschema@.credits_set_template FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_template TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_template(
	kind text,
	channel text DEFAULT NULL,
	locale text DEFAULT 'en')
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_template IS
	'end a template, so that what is more general is used; returns the id of the version that records this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_template FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_template TO credits_admin;

CREATE FUNCTION @extschema@.credits_preview_template(
	kind text,
	channel text DEFAULT 'email',
	locale text DEFAULT NULL,
	detail jsonb DEFAULT NULL,
	subject text DEFAULT NULL,
	body text DEFAULT NULL,
	html text DEFAULT NULL)
RETURNS credits.rendered_message
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_preview_template IS
	'the message that an event would become, by default the example of its kind; with subject, body or html, as if these were set';
REVOKE ALL ON FUNCTION @extschema@.credits_preview_template FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_preview_template TO credits_admin, credits_auditor;
