/*
 * job.c
 *	  Running jobs in batches, and skipping items that fail.
 *
 * Items are processed in order of (due_at, id), in batches, each in a
 * transaction of its own if the caller allows that.  So a run can be stopped
 * at any time, and the next one continues where it ended.  A batch is executed
 * in a subtransaction.  If it fails, each half of it is tried separately,
 * until only the items that fail are left out.  Several runs can be active
 * concurrently, because a job skips what other sessions have locked.
 *
 * An item may take any number of steps.  The number of steps in one batch is
 * limited, too: the batch ends early if it is exceeded, and an item that is not
 * finished is continued after all others, in a batch for each part of it.  The
 * limit is not lower because each part has to pass the index entries that those
 * before it have left behind.
 *
 * Each run has its own row in credits.job_runs, which is updated after every
 * batch; since no row is shared, runs do not wait for each other there,
 * either.  The row identifies backend and statement, so that a run that was
 * interrupted can be told from one that is still active.
 */
#include "credits.h"

#include "ledger/job.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_job_is_running);

#define MAX_BATCH_SIZE 100000
#define STEPS_PER_ITEM 5

/* The state of a run */
typedef struct JobRun
{
	const Job  *job;
	JobRecord	record;
	bool		may_commit;		/* does each batch end a transaction? */
	DueItem    *batch;
	int			batch_size;
	int			max_steps;		/* in a batch */
	int			steps;			/* taken in the current batch */
	List	   *unfinished;		/* items to be continued */
	MemoryContext context;		/* reset after each batch */
	MemoryContext run_context;	/* kept until the end of the run */
} JobRun;

static SqlStatement begin_run = {
	"INSERT INTO credits.job_runs (id, job, role, pid, backend_start,"
	" statement_start, started_at, updated_at, done, failed)"
	" VALUES (nextval('credits.job_runs_id_seq'), $1, $2, $3, $4, $5, $6, $6,"
	" 0, 0)"
	" RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement update_run = {
	"UPDATE credits.job_runs SET updated_at = $2, ended_at = $3, done = $4,"
	" failed = $5, failed_id = $6, error_code = $7, error = $8"
	" WHERE id = $1",
	(const Oid[]) {
		INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
		TEXTOID, TEXTOID, InvalidOid
	}
};

/* keeps the last 100 runs of a job; skips rows that another run is deleting */
static SqlStatement forget_runs = {
	"DELETE FROM credits.job_runs WHERE id IN ("
	"SELECT r.id FROM credits.job_runs AS r WHERE r.job = $1 AND r.id <= ("
	"SELECT o.id FROM credits.job_runs AS o WHERE o.job = $1"
	" ORDER BY o.id DESC OFFSET 100 LIMIT 1)"
	" FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Inserts the row of a run.
 */
void
job_record_begin(JobRecord *record, const char *job)
{
	Datum		values[6];
	bool		isnull;

	memset(record, 0, sizeof(JobRecord));
	record->job = job;
	initStringInfo(&record->error);
	values[0] = CStringGetTextDatum(job);
	values[1] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(),
													  false));
	values[2] = Int32GetDatum(MyProcPid);
	values[3] = TimestampTzGetDatum(MyBEEntry->st_proc_start_timestamp);
	values[4] = TimestampTzGetDatum(MyBEEntry->st_activity_start_timestamp);
	values[5] = TimestampTzGetDatum(clock_now());
	PushActiveSnapshot(store_snapshot(true));
	record->id = DatumGetInt64(statements_value(statements_run(&begin_run, values, NULL), 0, 1,
												&isnull));
	PopActiveSnapshot();
}

/*
 * Updates the row of a run, which has ended if "ended".
 */
void
job_record_progress(JobRecord *record, bool ended)
{
	Datum		values[8];
	bool		isnull[8] = {false};

	values[0] = Int64GetDatum(record->id);
	values[1] = values[2] = TimestampTzGetDatum(clock_now());
	isnull[2] = !ended;
	values[3] = Int64GetDatum(record->done);
	values[4] = Int64GetDatum(record->failed);
	values[5] = Int64GetDatum(record->failed_id);
	values[6] = CStringGetTextDatum(record->error_code);
	values[7] = CStringGetTextDatum(record->error.data);
	isnull[5] = record->failed_id == 0;
	isnull[6] = isnull[7] = record->failed == 0;
	PushActiveSnapshot(store_snapshot(true));
	(void) statements_run(&update_run, values, isnull);
	/* in REPEATABLE READ, this could fail because of a concurrent deletion */
	if (ended && !IsolationUsesXactSnapshot())
	{
		values[0] = CStringGetTextDatum(record->job);
		(void) statements_run(&forget_runs, values, NULL);
	}
	PopActiveSnapshot();
}

/*
 * Notes in the row of a run that an item has failed.  The id is 0 if it is not known
 * which one.
 */
void
job_record_error(JobRecord *record, int64 id, const ErrorData *error)
{
	record->failed++;
	record->failed_id = id;
	strlcpy(record->error_code, sqlstate_text(error->sqlerrcode),
			sizeof(record->error_code));
	resetStringInfo(&record->error);
	appendStringInfoString(&record->error, error->message ? error->message : "");
}

/*
 * Reads the next batch with the range's statement.
 */
static int
find_batch(JobRun *run, JobRange *range)
{
	Datum		values[4];
	SqlResult  *result;
	bool		isnull;
	int			i;

	values[0] = TimestampTzGetDatum(range->after_at);
	values[1] = Int64GetDatum(range->after_id);
	values[2] = TimestampTzGetDatum(range->until);
	values[3] = Int32GetDatum(run->batch_size);
	result = statements_run(range->find, values, NULL);
	for (i = 0; i < (int) result->nrows; i++)
		run->batch[i] = (DueItem)
	{
		.due_at = DatumGetTimestampTz(statements_value(result, i, 1, &isnull)),
			.id = DatumGetInt64(statements_value(result, i, 2, &isnull)),
			.range = range
	};
	return (int) result->nrows;
}

/*
 * Reads the next batch from the range's index.
 */
static int
scan_batch(JobRun *run, JobRange *range)
{
	StoreScan	scan;
	int			n = 0;

	PushActiveSnapshot(store_snapshot(true));
	scan_begin_after(&scan, NULL, range->due, GetActiveSnapshot(),
					 range->after_at, range->after_id, range->until);
	while (n < run->batch_size &&
		   scan_next(&scan, ForwardScanDirection) != NULL)
		run->batch[n++] = (DueItem)
	{
		.due_at = DatumGetTimestampTz(scan_key(&scan, 0)),
			.id = DatumGetInt64(scan_key(&scan, 1)),
			.range = range
	};
	scan_end(&scan);
	PopActiveSnapshot();
	return n;
}

/*
 * Returns whether an error ends the run, because it is not caused by an item.
 */
bool
job_is_ended_by(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_OPERATOR_INTERVENTION ||
	/* if the snapshot does not change, a retry would fail as well */
		(error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE &&
		 IsolationUsesXactSnapshot());
}

/*
 * Remembers an item that is not finished.
 */
static void
note_unfinished(JobRun *run, const DueItem *item)
{
	MemoryContext old = MemoryContextSwitchTo(run->run_context);
	DueItem    *copy = palloc(sizeof(DueItem));

	*copy = *item;
	run->unfinished = lappend(run->unfinished, copy);
	MemoryContextSwitchTo(old);
}

/*
 * Processes items one after the other, until the batch has taken all its
 * steps.  Returns how many were processed.
 */
static int
work_items(JobRun *run, const DueItem *items, int n)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext item = AllocSetContextCreate(context, "credits job item",
											   ALLOCSET_DEFAULT_SIZES);
	int			i;

	MemoryContextSwitchTo(item);
	for (i = 0; i < n && run->steps < run->max_steps; i++)
	{
		int			steps = run->max_steps;
		JobOutcome	outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = run->job->work(&items[i], &steps);
		run->steps += run->max_steps - steps;
		if (outcome == ITEM_DONE)
			run->record.done++;
		else if (outcome == ITEM_UNFINISHED)
			note_unfinished(run, &items[i]);
		MemoryContextReset(item);
	}
	MemoryContextSwitchTo(context);
	MemoryContextDelete(item);
	return i;
}

/* The arguments of work_attempt */
typedef struct JobAttempt
{
	JobRun	   *run;
	const JobRange *range;
	const DueItem *items;
	int			n;
	int64		passed;			/* how many were processed */
} JobAttempt;

/*
 * Processes items or, if there are none, sweeps.
 */
static void
work_attempt(void *arg)
{
	JobAttempt *attempt = arg;

	if (attempt->items)
		attempt->passed = work_items(attempt->run, attempt->items, attempt->n);
	else
	{
		attempt->passed = attempt->range->sweep(attempt->n,
												attempt->run->may_commit);
		attempt->run->record.done += attempt->passed;
	}
}

/*
 * Processes items in a subtransaction or, if items is NULL, sweeps up to n.
 * Returns how many were processed, or -1, with the error and nothing done, if
 * that fails.
 */
static int64
try_items(JobRun *run, const JobRange *range, const DueItem *items, int n,
		  ErrorData **error)
{
	JobAttempt	attempt = {run, range, items, n};
	const int64 done = run->record.done;
	const int	steps = run->steps;
	const int	nunfinished = list_length(run->unfinished);

	*error = catch_error(work_attempt, &attempt);
	if (*error == NULL)
		return attempt.passed;
	if (job_is_ended_by(*error))
		ReThrowError(*error);
	run->record.done = done;
	run->steps = steps;
	run->unfinished = list_truncate(run->unfinished, nunfinished);
	return -1;
}

/*
 * Records that an item of a job, which concerns an account, has failed: by a
 * warning each time, but by an event only once for the same reason.  Uses the
 * active snapshot.
 */
void
job_record_failure(JobFailure *failure, const ErrorData *error)
{
	const char *message = error->message ? error->message : "";
	int64		account_id = failure->account->id;
	Jsonb	   *detail;

	json_cstring(&failure->detail, "code", sqlstate_text(error->sqlerrcode));
	json_cstring(&failure->detail, "message", message);
	detail = json_document(&failure->detail);
	if (!events_has_failure(account_id, failure->kind, detail, failure->since))
	{
		if (failure->announced)
			events_announce(failure->kind, account_id, 0, clock_now(),
							&failure->detail);
		else
			events_add(failure->kind, account_id, 0, clock_now(), detail);
	}
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("%s: %s", failure->what, message),
			 errhint("%s", error->hint ? error->hint : failure->hint)));
}

/*
 * Records that an item has failed.  For a sweep the id is 0, since it is not
 * known which item has failed.
 */
static void
note_failure(JobRun *run, int64 id, ErrorData *error)
{
	job_record_error(&run->record, id, error);
	run->job->failed(id, error);
}

/*
 * Processes items, and leaves out those that fail.  Returns how many were
 * processed, including those that failed.
 */
static int
work_on(JobRun *run, const DueItem *items, int n)
{
	ErrorData  *error;
	int			passed = (int) try_items(run, items[0].range, items, n, &error);

	if (passed >= 0)
		return passed;
	if (n == 1)
	{
		note_failure(run, items[0].id, error);
		return 1;
	}
	passed = work_on(run, items, n / 2);
	if (passed == n / 2)
		passed += work_on(run, items + n / 2, n - n / 2);
	return passed;
}

/*
 * Processes the batch that has been read, and advances the range.  Returns how
 * many items were processed.
 */
static int
work_batch(JobRun *run, JobRange *range, int n)
{
	int			passed;

	run->steps = 0;
	passed = work_on(run, run->batch, n);
	range->after_at = run->batch[passed - 1].due_at;
	range->after_id = run->batch[passed - 1].id;
	return passed;
}

/*
 * Runs a batch of one part of a job.  Returns whether there may be more.
 */
static bool
run_batch(JobRun *run, JobRange *range)
{
	const Job  *job = run->job;
	ErrorData  *error;
	int64		n;

	ledger_lock_tables(job->name);
	if (range->sweep)
	{
		n = try_items(run, range, NULL, run->batch_size, &error);
		if (n < 0)
			note_failure(run, 0, error);
	}
	else
	{
		if (range->due)
			store_lock_table(range->due->table);
		if (job->resume && !job->resume(range))
			return false;
		n = range->find ? find_batch(run, range) : scan_batch(run, range);
		if (n > 0)
			n = work_batch(run, range, n);
		if (job->reached)
			job->reached(range, n > 0 ? &run->batch[n - 1] : NULL);
	}
	if (n > 0)
		job_record_progress(&run->record, false);
	return n > 0;
}

/*
 * Continues the item that has been waiting longest.
 */
static void
run_unfinished(JobRun *run)
{
	DueItem    *item = linitial(run->unfinished);

	run->unfinished = list_delete_first(run->unfinished);
	ledger_lock_tables(run->job->name);
	run->steps = 0;
	(void) work_on(run, item, 1);
	pfree(item);
	job_record_progress(&run->record, false);
}

/*
 * Runs one part of a job.
 */
static void
run_range(JobRun *run, JobRange *range)
{
	bool		passed = false;
	bool		more;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		CHECK_FOR_INTERRUPTS();
		if (!passed)
			passed = !run_batch(run, range);
		else
			run_unfinished(run);
		more = !passed || run->unfinished != NIL;
		MemoryContextSwitchTo(old);
		if (run->may_commit)
			SPI_commit();
		MemoryContextReset(run->context);
	} while (more);
}

/*
 * Returns the argument batch_size.
 */
int
job_batch_size(FunctionCallInfo fcinfo, int n)
{
	int			size;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("batch_size must not be null"),
				 errhint("Leave batch_size out for 1000.")));
	size = PG_GETARG_INT32(n);
	if (size < 1 || size > MAX_BATCH_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be from 1 to %d", MAX_BATCH_SIZE),
				 errdetail("It is %d.", size),
				 errhint("Leave batch_size out for 1000.")));
	return size;
}

/*
 * Runs a job, for an SQL procedure with arguments batch_size, INOUT done and
 * INOUT failed.
 */
Datum
job_call(FunctionCallInfo fcinfo, const Job *job)
{
	bool		may_commit = fcinfo->context &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	MemoryContext context = CurrentMemoryContext;
	JobRun		run = {.job = job,.may_commit = may_commit};
	int			part;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {false};

	run.batch_size = job_batch_size(fcinfo, 0);
	run.max_steps = run.batch_size * STEPS_PER_ITEM;
	store_check_writable(psprintf("%s()", job->name));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	run.run_context = context;
	run.batch = palloc(run.batch_size * sizeof(DueItem));
	run.context = AllocSetContextCreate(context, "credits job",
										ALLOCSET_DEFAULT_SIZES);

	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	job_record_begin(&run.record, job->name);
	/* show that the run is active, even during its first batch */
	if (may_commit)
		SPI_commit();
	for (part = 0;; part++)
	{
		JobRange	range = {
			.number = part,
			.due = job->due,
			.after_at = DT_NOBEGIN,
			.until = clock_now()
		};

		if (job->begin ? !job->begin(&range) : part > 0)
			break;
		run_range(&run, &range);
	}
	job_record_progress(&run.record, true);
	SPI_finish();

	MemoryContextSwitchTo(context);
	values[0] = Int64GetDatum(run.record.done);
	values[1] = Int64GetDatum(run.record.failed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values,
													  isnull)));
}

/*
 * SQL function: returns whether a backend is still executing the statement in
 * which a run began.
 */
Datum
credits_job_is_running(PG_FUNCTION_ARGS)
{
	int			pid = PG_GETARG_INT32(0);
	TimestampTz backend_start = PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz statement_start = PG_GETARG_TIMESTAMPTZ(2);
	int			n = pgstat_fetch_stat_numbackends();
	int			i;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	for (i = 1; i <= n; i++)
	{
		LocalPgBackendStatus *local = pgstat_get_local_beentry_compat(i);
		PgBackendStatus *status;

		if (local == NULL)
			continue;
		status = &local->backendStatus;
		if (status->st_procpid == pid &&
			status->st_proc_start_timestamp == backend_start)
			PG_RETURN_BOOL(status->st_activity_start_timestamp ==
						   statement_start &&
						   status->st_state != STATE_IDLE &&
						   status->st_state != STATE_IDLEINTRANSACTION &&
						   status->st_state !=
						   STATE_IDLEINTRANSACTION_ABORTED);
	}
	PG_RETURN_BOOL(false);
}
