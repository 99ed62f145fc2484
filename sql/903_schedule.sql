-- schedule: scheduling the jobs with pg_cron

CREATE TABLE credits.schedules (
	job text NOT NULL,
	role text NOT NULL,
	database text NOT NULL,
	schedule text NOT NULL,
	scheduled_at timestamptz NOT NULL
);

ALTER TABLE credits.schedules ADD CONSTRAINT schedules_pkey PRIMARY KEY (job, role);

COMMENT ON TABLE credits.schedules IS
	'which jobs credits_schedule has registered with pg_cron';
COMMENT ON COLUMN credits.schedules.role IS 'the role that the job belongs to and runs as';
COMMENT ON COLUMN credits.schedules.database IS
	'where it runs; different from this one if the row came with a dump or a template';

SELECT pg_catalog.pg_extension_config_dump('credits.schedules', '');
GRANT SELECT ON credits.schedules TO credits_admin, credits_auditor;

CREATE TRIGGER schedules_audit
	AFTER INSERT OR UPDATE OR DELETE ON credits.schedules
	FOR EACH ROW EXECUTE FUNCTION credits.note_change();
CREATE TRIGGER schedules_audit_truncate
	AFTER TRUNCATE ON credits.schedules
	FOR EACH STATEMENT EXECUTE FUNCTION credits.note_change();
ALTER TABLE credits.schedules ENABLE ALWAYS TRIGGER schedules_audit;
ALTER TABLE credits.schedules ENABLE ALWAYS TRIGGER schedules_audit_truncate;

CREATE FUNCTION @extschema@.credits_schedule(
	schedule text DEFAULT NULL,
	job text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_schedule IS
	'register this database''s jobs, or one of them, with pg_cron, whatever database it lives in; returns how many were new or changed';
REVOKE ALL ON FUNCTION @extschema@.credits_schedule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_schedule TO credits_admin;

CREATE FUNCTION @extschema@.credits_unschedule(job text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_unschedule IS
	'remove this database''s jobs, or one of them, from pg_cron; returns how many there were';
REVOKE ALL ON FUNCTION @extschema@.credits_unschedule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_unschedule TO credits_admin;
