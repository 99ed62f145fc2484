-- jobs: what runs by the clock, and how far it has come

CREATE SEQUENCE credits.job_runs_id_seq;

CREATE TABLE credits.job_runs (
	id bigint NOT NULL,
	job text NOT NULL,
	role text NOT NULL,
	pid integer NOT NULL,
	backend_start timestamptz NOT NULL,
	statement_start timestamptz NOT NULL,
	started_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	ended_at timestamptz,
	done bigint NOT NULL,
	failed bigint NOT NULL,
	failed_id bigint,
	error_code text,
	error text
) WITH (fillfactor = 60);

ALTER SEQUENCE credits.job_runs_id_seq OWNED BY credits.job_runs.id;
ALTER TABLE credits.job_runs ADD CONSTRAINT job_runs_pkey PRIMARY KEY (id);
CREATE INDEX job_runs_job_idx ON credits.job_runs (job, id);

COMMENT ON TABLE credits.job_runs IS
	'the last 100 runs of each job and those under way, updated with every batch';
COMMENT ON COLUMN credits.job_runs.role IS 'who called the job';
COMMENT ON COLUMN credits.job_runs.pid IS 'the server process that ran it';
COMMENT ON COLUMN credits.job_runs.backend_start IS 'when that process started';
COMMENT ON COLUMN credits.job_runs.statement_start IS
	'when the statement started in which the run began';
COMMENT ON COLUMN credits.job_runs.updated_at IS 'when the last batch was done';
COMMENT ON COLUMN credits.job_runs.ended_at IS
	'when the run was through; NULL if it is not, or was cut short';
COMMENT ON COLUMN credits.job_runs.failed_id IS
	'the last item that failed: an account, subscription, grant or purchase';
COMMENT ON COLUMN credits.job_runs.error_code IS 'SQLSTATE of why it failed';

SELECT pg_catalog.pg_extension_config_dump('credits.job_runs', '');
SELECT pg_catalog.pg_extension_config_dump('credits.job_runs_id_seq', '');
GRANT SELECT ON credits.job_runs, credits.job_runs_id_seq
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.job_is_running(pid integer, backend_start timestamptz, statement_start timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'credits_job_is_running' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION credits.job_is_running IS
	'whether a server process is still at the statement in which a run of a job began';
REVOKE ALL ON FUNCTION credits.job_is_running FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.job_is_running TO credits_admin, credits_auditor;
