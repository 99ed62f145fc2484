-- schedule: jobs of pg_cron

CREATE FUNCTION @extschema@.credits_schedule(schedule text DEFAULT '* * * * *')
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_schedule IS
	'register this database''s jobs with pg_cron, whatever database it lives in; returns how many were new or changed';
REVOKE ALL ON FUNCTION @extschema@.credits_schedule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_schedule TO credits_admin;

CREATE FUNCTION @extschema@.credits_unschedule()
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_unschedule IS
	'remove this database''s jobs from pg_cron; returns how many there were';
REVOKE ALL ON FUNCTION @extschema@.credits_unschedule FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_unschedule TO credits_admin;
