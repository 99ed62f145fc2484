/*
 * schedule.c
 *	  Scheduling the jobs with pg_cron.
 *
 * pg_cron keeps its jobs in one database, named by cron.database_name.  If
 * that is not the current database, a background worker connects to it as the
 * current role and schedules the jobs there, which needs no password and no
 * connection string.  Work and result are exchanged in a dynamic shared memory
 * segment.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/username.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/postmaster.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(credits_schedule);
PG_FUNCTION_INFO_V1(credits_unschedule);
PG_FUNCTION_INFO_V1(credits_cron_reason);

PGDLLEXPORT void credits_cron_worker(Datum main_arg);

#define MAX_SCHEDULE_BYTES 255

/* The procedures to be scheduled, and their default schedules */
static const struct
{
	const char *name;
	const char *schedule;
}			jobs[] = {
	{"credits_settle", "* * * * *"},
	{"credits_renew", "* * * * *"},
	{"credits_warn", "*/10 * * * *"},
	{"credits_housekeep", "30 * * * *"},
	{"credits_archive", "45 * * * *"},
	{"credits_watch", "*/10 * * * *"}
};

/* One job of pg_cron */
typedef struct CronJob
{
	int			number;			/* index in jobs */
	char		name[NAMEDATALEN + 32]; /* must be unique for each role */
	char		schedule[MAX_SCHEDULE_BYTES + 1];
	char		command[4 * NAMEDATALEN];
} CronJob;

typedef enum CronTask
{
	CRON_REGISTER,
	CRON_REMOVE,
	CRON_EXPLAIN				/* tell why the job does not run */
} CronTask;

/* A request concerning jobs, and its result */
typedef struct CronWork
{
	CronTask	task;
	bool		local;			/* is pg_cron in the current database? */
	char		cron_database[NAMEDATALEN];
	char		database[NAMEDATALEN];
	char		role[NAMEDATALEN];	/* of the jobs */
	char		host[MAXPGPATH];	/* for pg_cron to connect to; empty: as
									 * cron.host says */
	int			njobs;
	CronJob		jobs[lengthof(jobs)];
	bool		done;			/* false if the worker could not connect */
	int64		result;			/* number of jobs changed */
	int			sqlstate;		/* 0 if there was no error */
	char		message[512];	/* of the error; or the reason */
} CronWork;

static SqlStatement note_schedule = {
	"INSERT INTO credits.schedules AS s"
	" (job, role, database, schedule, scheduled_at)"
	" VALUES ($1, $2, $3, $4, $5)"
	" ON CONFLICT (job, role) DO UPDATE SET database = excluded.database,"
	" schedule = excluded.schedule, scheduled_at = excluded.scheduled_at"
	" WHERE (s.database, s.schedule)"
	" IS DISTINCT FROM (excluded.database, excluded.schedule)",
	(const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement forget_schedule = {
	"DELETE FROM credits.schedules WHERE job = $1 AND role = $2",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/*
 * Runs a statement with text parameters through SPI.
 */
static void
schedule_run(const char *sql, int expected, int nargs,...)
{
	Oid			types[MAX_SQL_ARGS];
	Datum		values[MAX_SQL_ARGS];
	va_list		args;
	int			i;

	va_start(args, nargs);
	for (i = 0; i < nargs; i++)
	{
		types[i] = TEXTOID;
		values[i] = CStringGetTextDatum(va_arg(args, const char *));
	}
	va_end(args);
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) !=
		expected)
		elog(ERROR, "unexpected result of a statement for pg_cron");
}

/*
 * Schedules a job, unless it is already scheduled in the same way.  Returns
 * whether anything was changed.
 */
static bool
register_job(CronWork *work, CronJob *job)
{
	schedule_run("SELECT 1 FROM cron.job AS j"
				 " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
				 " AND j.schedule OPERATOR(pg_catalog.=) $2"
				 " AND j.command OPERATOR(pg_catalog.=) $3"
				 " AND j.database OPERATOR(pg_catalog.=) $4"
				 " AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text"
				 " AND ($5 OPERATOR(pg_catalog.=) '' OR j.nodename OPERATOR(pg_catalog.=) $5)"
				 " AND j.active",
				 SPI_OK_SELECT, 5, job->name, job->schedule, job->command,
				 work->database, work->host);
	if (SPI_processed > 0)
		return false;
	schedule_run("SELECT cron.unschedule(j.jobid) FROM cron.job AS j"
				 " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
				 " AND j.database OPERATOR(pg_catalog.=) $2"
				 " AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text",
				 SPI_OK_SELECT, 2, job->name, work->database);
	if (work->local)
		schedule_run("SELECT cron.schedule($1, $2, $3)", SPI_OK_SELECT, 3,
					 job->name, job->schedule, job->command);
	else
		schedule_run("SELECT cron.schedule_in_database($1, $2, $3, $4)",
					 SPI_OK_SELECT,
					 4, job->name, job->schedule, job->command,
					 work->database);
	if (work->host[0])
		schedule_run("UPDATE cron.job AS j SET nodename = $3"
					 " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
					 " AND j.database OPERATOR(pg_catalog.=) $2"
					 " AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text",
					 SPI_OK_UPDATE, 3, job->name, work->database, work->host);
	return true;
}

/*
 * Unschedules a job.  Returns how many jobs were removed.
 */
static int64
remove_job(CronWork *work, CronJob *job)
{
	schedule_run("SELECT cron.unschedule(j.jobid) FROM cron.job AS j"
				 " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
				 " AND j.database OPERATOR(pg_catalog.=) $2"
				 " AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text",
				 SPI_OK_SELECT, 2, job->name, work->database);
	return (int64) SPI_processed;
}

/*
 * Puts a text into the result.
 */
static void
keep_message(CronWork *work, const char *message)
{
	int			len = pg_mbcliplen(message, strlen(message),
								   sizeof(work->message) - 1);

	memcpy(work->message, message, len);
	work->message[len] = '\0';
}

/*
 * Finds out why pg_cron does not run a job.  The search for its last run is
 * limited to the newest runs of all jobs, because a job that never ran has none.
 */
static void
explain_job(CronWork *work, CronJob *job)
{
	char	   *reason;

	schedule_run("SELECT CASE"
				 " WHEN NOT j.active THEN 'pg_cron has the job, but it is not active'"
				 " WHEN d.status OPERATOR(pg_catalog.=) 'failed' THEN"
				 " pg_catalog.concat(d.return_message, CASE"
				 " WHEN d.return_message OPERATOR(pg_catalog.~~) 'connection failed%'"
				 " THEN pg_catalog.format(' (as role \"%s\" at \"%s\")', j.username, j.nodename) END)"
				 " WHEN d.status IS NULL THEN 'pg_cron has no record of a run' END"
				 " FROM cron.job AS j LEFT JOIN LATERAL ("
				 "SELECT r.status, r.return_message FROM ("
				 "SELECT * FROM cron.job_run_details AS a ORDER BY a.runid DESC LIMIT 1000) AS r"
				 " WHERE r.jobid OPERATOR(pg_catalog.=) j.jobid"
				 " ORDER BY r.runid DESC LIMIT 1) AS d ON true"
				 " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
				 " AND j.database OPERATOR(pg_catalog.=) $2"
				 " AND j.username OPERATOR(pg_catalog.=) $3",
				 SPI_OK_SELECT, 3, job->name, work->database, work->role);
	if (SPI_processed == 0)
		keep_message(work, "pg_cron does not have the job");
	else if ((reason = SPI_getvalue(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 1)) != NULL)
		keep_message(work, reason);
}

/*
 * Does what is requested in the current database.
 */
static void
do_work(CronWork *work)
{
	int			i;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	schedule_run("SELECT 1 FROM pg_catalog.pg_extension AS e"
				 " WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron'",
				 SPI_OK_SELECT, 0);
	if (SPI_processed == 0 && work->task == CRON_EXPLAIN)
	{
		keep_message(work, "extension pg_cron is not installed");
		work->njobs = 0;
	}
	else if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"pg_cron\" is not installed in database \"%s\"",
						work->cron_database)));
	for (i = 0; i < work->njobs; i++)
	{
		CronJob    *job = &work->jobs[i];

		if (work->task == CRON_EXPLAIN)
			explain_job(work, job);
		else
			work->result += work->task == CRON_REMOVE ?
				remove_job(work, job) : register_job(work, job);
	}
	PopActiveSnapshot();
	SPI_finish();
}

/*
 * Calls do_work, and stores the error if there is one.  The caller must then
 * abort the transaction or raise an error itself.
 */
static void
try_work(CronWork *work)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		do_work(work);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		work->sqlstate = error->sqlerrcode;
		if (error->message)
			keep_message(work, error->message);
	}
	PG_END_TRY();
	work->done = true;
}

/*
 * Main function of the background worker.
 */
void
credits_cron_worker(Datum main_arg)
{
	dsm_segment *segment;
	CronWork   *work;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "credits cron worker");
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		proc_exit(0);			/* the session that started us has gone */
	dsm_pin_mapping(segment);
	work = dsm_segment_address(segment);

	/* only superusers can read about the jobs of other roles */
	BackgroundWorkerInitializeConnection(work->cron_database,
										 work->task == CRON_EXPLAIN ? NULL : work->role,
										 0);
	StartTransactionCommand();
	try_work(work);
	if (work->sqlstate == 0)
		CommitTransactionCommand();
	else
		AbortCurrentTransaction();
	dsm_detach(segment);
	proc_exit(0);
}

/*
 * Starts a background worker in pg_cron's database that does the work, and
 * waits for it.  Returns false if none could be started.
 */
static bool
delegate(CronWork *work)
{
	dsm_segment *segment = dsm_create(sizeof(CronWork), 0);
	CronWork   *shared = dsm_segment_address(segment);
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	memcpy(shared, work, sizeof(CronWork));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "credits", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "credits_cron_worker", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "credits cron worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "credits cron worker", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		dsm_detach(segment);
		return false;
	}
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	memcpy(work, shared, sizeof(CronWork));
	dsm_detach(segment);
	return true;
}

/*
 * Adds a job to the request.
 */
static void
add_job(FunctionCallInfo fcinfo, CronWork *work, int number, text *schedule)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	CronJob    *job = &work->jobs[work->njobs++];

	job->number = number;
	snprintf(job->name, sizeof(job->name), "%s in %s", jobs[number].name,
			 work->database);
	snprintf(job->command, sizeof(job->command), "CALL %s()",
			 quote_qualified_identifier(get_namespace_name(schema),
										jobs[number].name));
	if (schedule)
		text_to_cstring_buffer(schedule, job->schedule,
							   sizeof(job->schedule));
	else
		strlcpy(job->schedule, jobs[number].schedule, sizeof(job->schedule));
}

/*
 * Returns the index of a job, or -1 if name is NULL.
 */
static int
named_job(text *name)
{
	int			i;

	if (name == NULL)
		return -1;
	for (i = 0; i < (int) lengthof(jobs); i++)
		if (strcmp(jobs[i].name, text_to_cstring(name)) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no job \"%s\"", text_to_cstring(name)),
			 errhint("The jobs are credits_settle, credits_renew, credits_warn, credits_housekeep, credits_archive and credits_watch.")));
	return -1;
}

/*
 * Begins a request.
 */
static void
begin_work(CronWork *work, const char *cron_database)
{
	char	   *database = get_database_name(MyDatabaseId);

	memset(work, 0, sizeof(CronWork));
	work->local = strcmp(cron_database, database) == 0;
	strlcpy(work->cron_database, cron_database, NAMEDATALEN);
	strlcpy(work->database, database, NAMEDATALEN);
}

/*
 * Fills in the request.  If job is NULL, it contains all jobs, and the
 * schedule applies to credits_settle only.
 */
static void
schedule_prepare(FunctionCallInfo fcinfo, CronWork *work, text *job,
				 text *schedule)
{
	const char *cron_database = GetConfigOption("cron.database_name", true,
												false);
	int			number = named_job(job);
	int			i;

	if (cron_database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not loaded"),
				 errdetail("There is no setting cron.database_name."),
				 errhint("Install pg_cron, add it to shared_preload_libraries and restart; or have any scheduler run CALL credits_settle() every minute, and the other jobs.")));
	store_check_writable("credits_schedule()");

	begin_work(work, cron_database);
	strlcpy(work->role, GetUserNameFromId(GetUserId(), false), NAMEDATALEN);
	for (i = 0; i < (int) lengthof(jobs); i++)
		if (number < 0)
			add_job(fcinfo, work, i, i == 0 ? schedule : NULL);
		else if (i == number)
			add_job(fcinfo, work, i, schedule);
}

/*
 * Chooses the host for pg_cron to connect to.
 *
 * By default, it connects through TCP, and the pg_hba.conf of Debian and others
 * asks for a password there.  Through the socket, they admit the role that has
 * the name of the server's operating system user.  That is usually the superuser
 * who calls, and only superusers can change the host in pg_cron's table.
 */
static void
choose_host(CronWork *work)
{
	const char *background = GetConfigOption("cron.use_background_workers",
											 true, false);
	const char *host = GetConfigOption("cron.host", true, false);
	char	   *problem;
	const char *user = get_user_name(&problem);
	List	   *folders;

	if ((background && strcmp(background, "on") == 0) ||
		host == NULL || strcmp(host, "localhost") != 0 ||
		!superuser() || user == NULL || strcmp(user, work->role) != 0)
		return;
	if (SplitDirectoriesString(pstrdup(Unix_socket_directories), ',',
							   &folders) && folders != NIL)
		strlcpy(work->host, linitial(folders), sizeof(work->host));
}

/*
 * Carries out the request, and raises an error if it failed.
 */
static int64
perform(CronWork *work)
{
	int			code;

	if (work->local)
		try_work(work);
	else if (!delegate(work))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker"),
				 errdetail("The worker connects to database \"%s\", where pg_cron lives.",
						   work->cron_database),
				 errhint("Increase max_worker_processes.")));
	if (!work->done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not connect to database \"%s\" as \"%s\"",
						work->cron_database, work->role),
				 errdetail("cron.database_name says that pg_cron lives there; the server log says more."),
				 errhint("Check cron.database_name, or have any scheduler call credits_settle() and the other jobs.")));
	if (work->sqlstate == 0)
		return work->result;

	/* pg_cron reports an invalid schedule with elog, that is as XX000 */
	code = work->sqlstate == ERRCODE_INTERNAL_ERROR ?
		ERRCODE_INVALID_PARAMETER_VALUE : work->sqlstate;
	ereport(ERROR,
			(errcode(code),
			 errmsg("%s", work->message),
			 errdetail("pg_cron lives in database \"%s\"; the jobs are for database \"%s\", as role \"%s\".",
					   work->cron_database, work->database, work->role),
			 code == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ?
			 errhint("Run CREATE EXTENSION pg_cron in database \"%s\", or have any scheduler run %s every minute, and the other jobs.",
					 work->cron_database, work->jobs[0].command) :
			 code == ERRCODE_INVALID_PARAMETER_VALUE ?
			 errhint("Pass a schedule such as \"* * * * *\".") :
			 errhint("Grant the role USAGE on schema cron and, if that is another database, EXECUTE on cron.schedule_in_database there.")));
	return 0;
}

/*
 * Records the scheduled jobs in credits.schedules, for the view credits.jobs.
 */
static void
note_jobs(const CronWork *work)
{
	Datum		values[5];
	int			i;

	for (i = 0; i < work->njobs; i++)
	{
		values[0] = CStringGetTextDatum(jobs[work->jobs[i].number].name);
		values[1] = CStringGetTextDatum(work->role);
		values[2] = CStringGetTextDatum(work->database);
		values[3] = CStringGetTextDatum(work->jobs[i].schedule);
		values[4] = TimestampTzGetDatum(clock_now());
		(void) statements_run(work->task == CRON_REMOVE ?
							  &forget_schedule : &note_schedule,
							  values, NULL);
	}
}

/*
 * SQL function: schedules all jobs of this database, or one of them.
 */
Datum
credits_schedule(PG_FUNCTION_ARGS)
{
	CronWork	work;
	text	   *schedule = arg_text(fcinfo, 0, "schedule", MAX_SCHEDULE_BYTES);
	text	   *job = arg_text(fcinfo, 1, "job", MAX_SCHEDULE_BYTES);
	int64		result;

	schedule_prepare(fcinfo, &work, job, schedule);
	choose_host(&work);
	result = perform(&work);
	note_jobs(&work);
	PG_RETURN_INT64(result);
}

/*
 * SQL function: unschedules all jobs of this database, or one of them.
 */
Datum
credits_unschedule(PG_FUNCTION_ARGS)
{
	CronWork	work;
	text	   *job = arg_text(fcinfo, 0, "job", MAX_SCHEDULE_BYTES);
	int64		result;

	schedule_prepare(fcinfo, &work, job, NULL);
	work.task = CRON_REMOVE;
	result = perform(&work);
	note_jobs(&work);
	PG_RETURN_INT64(result);
}

/*
 * Returns why pg_cron does not run a job that a role has registered, NULL if
 * that is not known.
 */
Datum
credits_cron_reason(PG_FUNCTION_ARGS)
{
	const char *cron_database = GetConfigOption("cron.database_name", true,
												false);
	text	   *job = arg_text(fcinfo, 0, "job", MAX_SCHEDULE_BYTES);
	text	   *role = arg_text(fcinfo, 1, "role", NAMEDATALEN);
	CronWork	work;

	if (job == NULL || role == NULL)
		PG_RETURN_NULL();
	if (cron_database == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("pg_cron is not loaded"));
	begin_work(&work, cron_database);
	work.task = CRON_EXPLAIN;
	text_to_cstring_buffer(role, work.role, sizeof(work.role));
	add_job(fcinfo, &work, named_job(job), NULL);
	if (work.local)
		do_work(&work);
	else if (RecoveryInProgress())
		PG_RETURN_NULL();		/* no worker can be started */
	else if (!delegate(&work) || !work.done)
		keep_message(&work, "pg_cron's database cannot be read");
	if (work.message[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(work.message));
}
