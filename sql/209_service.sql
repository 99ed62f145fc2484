-- service: a pause of spending for everybody

-- There is a row only while spending is paused, so that a dump has none otherwise.
CREATE TABLE credits.service_pause (
	id integer NOT NULL,
	reason text NOT NULL,
	until timestamptz,
	operations text[] COLLATE "C",
	kinds text[] COLLATE "C",
	paused_at timestamptz NOT NULL,
	role text NOT NULL,
	actor text,
	CONSTRAINT service_pause_one CHECK (id = 1)
);
ALTER TABLE credits.service_pause ADD CONSTRAINT service_pause_pkey PRIMARY KEY (id);

COMMENT ON TABLE credits.service_pause IS
	'the pause of spending, as set last; no row if there is none';
COMMENT ON COLUMN credits.service_pause.until IS
	'from this instant on it has no effect; NULL if credits_resume_service is to end it';
COMMENT ON COLUMN credits.service_pause.operations IS
	'operations that cannot be spent on; if kinds is NULL, too, nothing can be spent';
COMMENT ON COLUMN credits.service_pause.kinds IS
	'kinds of transactions that cannot be made';
COMMENT ON COLUMN credits.service_pause.role IS 'session_user that set it';
COMMENT ON COLUMN credits.service_pause.actor IS 'setting credits.actor at that time';

SELECT pg_catalog.pg_extension_config_dump('credits.service_pause', '');
GRANT SELECT ON credits.service_pause TO credits_admin, credits_auditor;

CREATE FUNCTION credits.note_service() RETURNS trigger
AS 'MODULE_PATHNAME', 'credits_note_service' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.note_service IS
	'trigger: has all sessions read the pause of spending again';
REVOKE ALL ON FUNCTION credits.note_service FROM PUBLIC;

-- for each row, since a logical subscriber fires no others; but TRUNCATE has no rows
CREATE TRIGGER service_pause_note
	AFTER INSERT OR UPDATE OR DELETE ON credits.service_pause
	FOR EACH ROW EXECUTE FUNCTION credits.note_service();
CREATE TRIGGER service_pause_note_truncate
	AFTER TRUNCATE ON credits.service_pause
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_service();
ALTER TABLE credits.service_pause ENABLE ALWAYS TRIGGER service_pause_note;
ALTER TABLE credits.service_pause ENABLE ALWAYS TRIGGER service_pause_note_truncate;

CREATE PROCEDURE @extschema@.credits_pause_service(
	reason text,
	until timestamptz DEFAULT NULL,
	operations text[] DEFAULT NULL,
	kinds text[] DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_pause_service IS
	'pause spending for everybody, or that on some operations or of some kinds; when it returns, whoever was spending has ended';
REVOKE ALL ON PROCEDURE @extschema@.credits_pause_service FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_pause_service TO credits_admin;

CREATE FUNCTION @extschema@.credits_resume_service()
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_service IS
	'end the pause of spending; returns whether there was one';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_service FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_service TO credits_admin;

CREATE FUNCTION @extschema@.credits_service()
RETURNS TABLE (
	paused boolean,
	reason text,
	until timestamptz,
	operations text[],
	kinds text[],
	paused_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.id IS NOT NULL, p.reason, p.until, p.operations, p.kinds, p.paused_at
	FROM (SELECT credits.now()) AS n (now)
	LEFT JOIN credits.service_pause AS p ON p.until IS NULL OR p.until > n.now
$$;
COMMENT ON FUNCTION @extschema@.credits_service IS
	'whether spending is paused, and why, until when, and for what';
REVOKE ALL ON FUNCTION @extschema@.credits_service FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_service TO credits_app, credits_auditor;
