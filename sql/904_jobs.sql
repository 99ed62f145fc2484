-- jobs: the state of the jobs and of their runs

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
	'when the run ended; NULL if it has not, or was cut short';
COMMENT ON COLUMN credits.job_runs.failed_id IS
	'the last item that failed: an account, subscription, grant or purchase; for credits_watch a transaction or event';
COMMENT ON COLUMN credits.job_runs.error_code IS 'SQLSTATE of its failure';

SELECT pg_catalog.pg_extension_config_dump('credits.job_runs', '');
SELECT pg_catalog.pg_extension_config_dump('credits.job_runs_id_seq', '');
GRANT SELECT ON credits.job_runs, credits.job_runs_id_seq
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.job_is_running(pid integer, backend_start timestamptz, statement_start timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'credits_job_is_running' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION credits.job_is_running IS
	'whether a server process is still executing the statement in which a run of a job began';
REVOKE ALL ON FUNCTION credits.job_is_running FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.job_is_running TO credits_admin, credits_auditor;

CREATE FUNCTION credits.cron_reason(job text, role text)
RETURNS text
AS 'MODULE_PATHNAME', 'credits_cron_reason' LANGUAGE C VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION credits.cron_reason IS
	'why pg_cron does not run a job that a role has registered, as far as pg_cron knows';
REVOKE ALL ON FUNCTION credits.cron_reason FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.cron_reason TO credits_admin, credits_auditor;

CREATE FUNCTION credits.archive_behind()
RETURNS interval
AS 'MODULE_PATHNAME', 'credits_archive_behind' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.archive_behind IS
	'how long rows have been older than credits.archive_after says that could be archived, or a closing of the books has not ended';
REVOKE ALL ON FUNCTION credits.archive_behind FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.archive_behind TO credits_admin, credits_auditor;

CREATE VIEW credits.jobs AS
SELECT j.job,
	   j.purpose,
	   s.schedule,
	   s.role,
	   CASE
			WHEN s.schedule IS NULL THEN NULL
			WHEN s.ran_at IS NULL THEN
				pg_catalog.concat_ws(': ', 'registered, never ran', credits.cron_reason(j.job, s.role))
			WHEN s.ran_at OPERATOR(pg_catalog.<) (credits.now() OPERATOR(pg_catalog.-) '2 hours'::pg_catalog.interval) THEN
				credits.cron_reason(j.job, s.role)
	   END AS problem,
	   u.running,
	   r.started_at,
	   r.updated_at,
	   r.ended_at,
	   r.id IS NOT NULL AND r.ended_at IS NULL
			AND NOT credits.job_is_running(r.pid, r.backend_start, r.statement_start) AS interrupted,
	   r.done,
	   r.failed,
	   r.failed_id,
	   r.error_code,
	   r.error,
	   CASE j.job
			WHEN 'credits_warn' THEN credits.warn_behind()
			WHEN 'credits_archive' THEN credits.archive_behind()
			ELSE COALESCE(credits.now() OPERATOR(pg_catalog.-) CASE j.job
				WHEN 'credits_settle' THEN (
					SELECT a.due_at FROM credits.accounts AS a
					WHERE a.due_at OPERATOR(pg_catalog.<) 'infinity'
					  AND a.due_at OPERATOR(pg_catalog.<=) credits.now()
					ORDER BY a.due_at, a.id LIMIT 1)
				WHEN 'credits_renew' THEN (
					SELECT b.due_at FROM credits.subscriptions AS b
					WHERE b.due_at OPERATOR(pg_catalog.<) 'infinity'
					  AND b.due_at OPERATOR(pg_catalog.<=) credits.now()
					ORDER BY b.due_at, b.id LIMIT 1)
				WHEN 'credits_housekeep' THEN (
					SELECT p.expires_at FROM credits.purchases AS p
					WHERE p.status OPERATOR(pg_catalog.=) 'pending'
					  AND p.expires_at OPERATOR(pg_catalog.<=) credits.now()
					ORDER BY p.expires_at, p.id LIMIT 1)
				WHEN 'credits_watch' THEN (
					SELECT h.found_at FROM credits.activity_hits AS h
					WHERE h.pauses AND h.paused_at IS NULL
					ORDER BY h.found_at, h.event_id LIMIT 1)
			END, '0')
	   END AS behind
FROM (VALUES
		(1, 'credits_settle', 'expires and activates grants, times out holds and gifts'),
		(2, 'credits_renew', 'renews and ends subscriptions'),
		(3, 'credits_warn', 'warns of grants that will expire, subscriptions that will be renewed, and disputes that are overdue'),
		(4, 'credits_housekeep', 'expires purchases that nobody paid, deletes events that are old'),
		(5, 'credits_archive', 'archives partitions of the log that are as old as credits.archive_after says'),
		(6, 'credits_watch', 'looks for suspicious activity')
	) AS j (ordinal, job, purpose)
LEFT JOIN LATERAL (
	SELECT c.schedule, c.role, (
		SELECT pg_catalog.max(o.started_at) FROM credits.job_runs AS o
		WHERE o.job OPERATOR(pg_catalog.=) j.job AND o.role OPERATOR(pg_catalog.=) c.role
		  AND o.started_at OPERATOR(pg_catalog.>=) c.scheduled_at) AS ran_at
	FROM credits.schedules AS c
	WHERE c.job OPERATOR(pg_catalog.=) j.job
	  AND c.database OPERATOR(pg_catalog.=) pg_catalog.current_database()::text
	ORDER BY c.scheduled_at DESC LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
	SELECT n.* FROM credits.job_runs AS n
	WHERE n.job OPERATOR(pg_catalog.=) j.job
	ORDER BY n.id DESC LIMIT 1
) AS r ON true
LEFT JOIN LATERAL (
	SELECT pg_catalog.count(*) AS running FROM credits.job_runs AS m
	WHERE m.job OPERATOR(pg_catalog.=) j.job AND m.ended_at IS NULL
	  AND credits.job_is_running(m.pid, m.backend_start, m.statement_start)
) AS u ON true
ORDER BY j.ordinal;
COMMENT ON VIEW credits.jobs IS
	'for each job its schedule, its last run, how many items it did, how many failed and why, and how far behind it is';
COMMENT ON COLUMN credits.jobs.schedule IS
	'as registered with pg_cron by credits_schedule; NULL if it is not, or by other means';
COMMENT ON COLUMN credits.jobs.problem IS
	'why pg_cron does not run it: if it never has, or not for two hours; NULL if nothing is known to be wrong';
COMMENT ON COLUMN credits.jobs.running IS 'how many runs are under way';
COMMENT ON COLUMN credits.jobs.interrupted IS
	'whether the last run was cut short; what it had done stays done';
COMMENT ON COLUMN credits.jobs.behind IS
	'how long ago the oldest item became due that is still to be done';
GRANT SELECT ON credits.jobs TO credits_admin, credits_auditor;
