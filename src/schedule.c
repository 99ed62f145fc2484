/*
 * schedule.c
 *	  Registering jobs with pg_cron, whatever database it lives in.
 *
 * pg_cron keeps its jobs in one database, named by cron.database_name.  Where
 * that is another than ours, a background worker connects there as the caller
 * and does the same work: no password, no connection string.  The two meet in
 * a piece of shared memory.
 */
#include "credits.h"

#include "sql.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_schedule);
PG_FUNCTION_INFO_V1(credits_unschedule);

PGDLLEXPORT void credits_cron_worker(Datum main_arg);

#define MAX_SCHEDULE_BYTES 255

/* The procedures that run by the clock, and how often unless told otherwise */
static const struct
{
	const char *name;
	const char *schedule;
}			jobs[] = {
	{"credits_settle", "* * * * *"},
	{"credits_renew", "* * * * *"},
	{"credits_warn", "*/10 * * * *"},
	{"credits_housekeep", "30 * * * *"}
};

/* One job of pg_cron */
typedef struct CronJob
{
	int			number;			/* of the procedure */
	char		name[NAMEDATALEN + 32]; /* pg_cron wants it unique by role */
	char		schedule[MAX_SCHEDULE_BYTES + 1];
	char		command[4 * NAMEDATALEN];
} CronJob;

/* What to do, and what came of it */
typedef struct CronWork
{
	bool		remove;			/* or else register */
	bool		local;			/* does pg_cron live in our database? */
	char		cron_database[NAMEDATALEN];
	char		database[NAMEDATALEN];
	char		role[NAMEDATALEN];
	int			njobs;
	CronJob		jobs[lengthof(jobs)];
	bool		done;
	int64		result;
	int			sqlstate;		/* 0 if it went well */
	char		message[512];
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
 * Runs a fixed statement with text parameters.
 */
static void
run(const char *sql, int expected, int nargs, const char *a, const char *b,
	const char *c, const char *d)
{
	const char *args[4] = {a, b, c, d};
	Oid			types[4];
	Datum		values[4];
	int			i;

	for (i = 0; i < nargs; i++)
	{
		types[i] = TEXTOID;
		values[i] = CStringGetTextDatum(args[i]);
	}
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) !=
		expected)
		elog(ERROR, "unexpected result of a statement for pg_cron");
}

/*
 * Registers a job unless it is there as it should be.  Returns whether it was
 * new or changed.
 */
static bool
register_job(CronWork *work, CronJob *job)
{
	run("SELECT 1 FROM cron.job AS j"
		" WHERE j.jobname OPERATOR(pg_catalog.=) $1"
		" AND j.schedule OPERATOR(pg_catalog.=) $2"
		" AND j.command OPERATOR(pg_catalog.=) $3"
		" AND j.database OPERATOR(pg_catalog.=) $4"
		" AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text"
		" AND j.active",
		SPI_OK_SELECT, 4, job->name, job->schedule, job->command,
		work->database);
	if (SPI_processed > 0)
		return false;
	run("SELECT cron.unschedule(j.jobid) FROM cron.job AS j"
		" WHERE j.jobname OPERATOR(pg_catalog.=) $1"
		" AND j.database OPERATOR(pg_catalog.=) $2"
		" AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text",
		SPI_OK_SELECT, 2, job->name, work->database, NULL, NULL);
	if (work->local)
		run("SELECT cron.schedule($1, $2, $3)", SPI_OK_SELECT, 3,
			job->name, job->schedule, job->command, NULL);
	else
		run("SELECT cron.schedule_in_database($1, $2, $3, $4)", SPI_OK_SELECT,
			4, job->name, job->schedule, job->command, work->database);
	return true;
}

/*
 * Removes a job.  Returns how often it was there.
 */
static int64
remove_job(CronWork *work, CronJob *job)
{
	run("SELECT cron.unschedule(j.jobid) FROM cron.job AS j"
		" WHERE j.jobname OPERATOR(pg_catalog.=) $1"
		" AND j.database OPERATOR(pg_catalog.=) $2"
		" AND j.username OPERATOR(pg_catalog.=) CURRENT_USER::pg_catalog.text",
		SPI_OK_SELECT, 2, job->name, work->database, NULL, NULL);
	return (int64) SPI_processed;
}

/*
 * Does the work in the database that we are connected to.
 */
static void
do_work(CronWork *work)
{
	int			i;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	run("SELECT 1 FROM pg_catalog.pg_extension AS e"
		" WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron'",
		SPI_OK_SELECT, 0, NULL, NULL, NULL, NULL);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"pg_cron\" is not installed in database \"%s\"",
						work->cron_database)));
	for (i = 0; i < work->njobs; i++)
		work->result += work->remove ? remove_job(work, &work->jobs[i]) :
			register_job(work, &work->jobs[i]);
	PopActiveSnapshot();
	SPI_finish();
}

/*
 * Does the work and keeps the error if there is one.
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
		{
			int			len = pg_mbcliplen(error->message,
										   strlen(error->message),
										   sizeof(work->message) - 1);

			memcpy(work->message, error->message, len);
			work->message[len] = '\0';
		}
	}
	PG_END_TRY();
	work->done = true;
}

/*
 * Is the background worker: connects to pg_cron's database and does the work.
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
		proc_exit(0);			/* who asked has gone */
	dsm_pin_mapping(segment);
	work = dsm_segment_address(segment);

	BackgroundWorkerInitializeConnection(work->cron_database, work->role, 0);
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
 * Has a background worker do the work.
 */
static void
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
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start a background worker"),
				 errdetail("It is to connect to database \"%s\", where pg_cron lives.",
						   work->cron_database),
				 errhint("Increase max_worker_processes.")));
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	memcpy(work, shared, sizeof(CronWork));
	dsm_detach(segment);
	if (!work->done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not connect to database \"%s\" as \"%s\"",
						work->cron_database, work->role),
				 errdetail("cron.database_name says that pg_cron lives there; the server log says more."),
				 errhint("Check cron.database_name, or have any scheduler call credits_settle() and the other jobs.")));
}

/*
 * Adds a job to the work.
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
 * Returns the number of the job that a call names, -1 if it names none.
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
			 errhint("The jobs are credits_settle, credits_renew, credits_warn and credits_housekeep.")));
	return -1;
}

/*
 * Prepares the work: where pg_cron lives, and what the jobs call.  Without a
 * job it is all of them, and the schedule that of credits_settle.
 */
static void
prepare(FunctionCallInfo fcinfo, CronWork *work, text *job, text *schedule)
{
	const char *cron_database = GetConfigOption("cron.database_name", true,
												false);
	char	   *database = get_database_name(MyDatabaseId);
	int			number = named_job(job);
	int			i;

	if (cron_database == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not loaded"),
				 errdetail("There is no setting cron.database_name."),
				 errhint("Install pg_cron, add it to shared_preload_libraries and restart; or have any scheduler run CALL credits_settle() every minute, and the other jobs.")));
	store_check_writable("credits_schedule()");

	memset(work, 0, sizeof(CronWork));
	work->local = strcmp(cron_database, database) == 0;
	strlcpy(work->cron_database, cron_database, NAMEDATALEN);
	strlcpy(work->database, database, NAMEDATALEN);
	strlcpy(work->role, GetUserNameFromId(GetUserId(), false), NAMEDATALEN);
	for (i = 0; i < (int) lengthof(jobs); i++)
		if (number < 0)
			add_job(fcinfo, work, i, i == 0 ? schedule : NULL);
		else if (i == number)
			add_job(fcinfo, work, i, schedule);
}

/*
 * Does the work here or there, and raises what went wrong.
 */
static int64
perform(CronWork *work)
{
	int			code;

	if (work->local)
		try_work(work);
	else
		delegate(work);
	if (work->sqlstate == 0)
		return work->result;

	/* pg_cron gives no code of its own to a schedule that it cannot read */
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
			 errhint("The role needs the right to use pg_cron there.")));
	return 0;
}

/*
 * Notes for the view credits.jobs what is registered now.
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
		(void) sql_run(work->remove ? &forget_schedule : &note_schedule,
					   values, NULL);
	}
}

/*
 * Registers this database's jobs, or one of them.
 */
Datum
credits_schedule(PG_FUNCTION_ARGS)
{
	CronWork	work;
	text	   *schedule = arg_text(fcinfo, 0, "schedule", MAX_SCHEDULE_BYTES);
	text	   *job = arg_text(fcinfo, 1, "job", MAX_SCHEDULE_BYTES);
	int64		result;

	prepare(fcinfo, &work, job, schedule);
	result = perform(&work);
	note_jobs(&work);
	PG_RETURN_INT64(result);
}

/*
 * Removes this database's jobs, or one of them.
 */
Datum
credits_unschedule(PG_FUNCTION_ARGS)
{
	CronWork	work;
	text	   *job = arg_text(fcinfo, 0, "job", MAX_SCHEDULE_BYTES);
	int64		result;

	prepare(fcinfo, &work, job, NULL);
	work.remove = true;
	result = perform(&work);
	note_jobs(&work);
	PG_RETURN_INT64(result);
}
