/*
 * job.c
 *	  Running jobs: batch by batch, whatever happens to one of its items.
 *
 * What is due is taken in order of (due_at, id), a batch at a time, each batch
 * in a transaction of its own where the caller allows that.  So a run can be
 * stopped anywhere, and the next one goes on where it was.  A batch runs in a
 * subtransaction; if it fails, each half of it is tried on its own, until only
 * the items that fail are left out.  Several may run at once: a job leaves
 * alone what others have locked.
 *
 * Each run has a row of its own in credits.job_runs, which every batch updates:
 * runners do not wait for each other there either.  The row says which backend
 * ran it, and with what statement, so that a run that was cut short does not
 * look like one that is still under way.
 */
#include "credits.h"

#include "job.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_job_is_running);

#define MAX_BATCH_SIZE 100000

/* A run under way */
typedef struct JobRun
{
	const Job  *job;
	int64		id;				/* in credits.job_runs */
	DueItem    *batch;
	int			batch_size;
	MemoryContext context;		/* reset after each batch */
	int64		done;
	int64		failed;
	int64		failed_id;		/* the last item that failed, and why */
	char		error_code[6];
	StringInfoData error;
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

/* what others are deleting just now is theirs to delete */
static SqlStatement forget_runs = {
	"DELETE FROM credits.job_runs WHERE id IN ("
	"SELECT r.id FROM credits.job_runs AS r WHERE r.job = $1 AND r.id <= ("
	"SELECT o.id FROM credits.job_runs AS o WHERE o.job = $1"
	" ORDER BY o.id DESC OFFSET 100 LIMIT 1)"
	" FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Records that a run begins.
 */
static void
record_begin(JobRun *run)
{
	Datum		values[6];
	bool		isnull;

	values[0] = CStringGetTextDatum(run->job->name);
	values[1] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(),
													  false));
	values[2] = Int32GetDatum(MyProcPid);
	values[3] = TimestampTzGetDatum(MyBEEntry->st_proc_start_timestamp);
	values[4] = TimestampTzGetDatum(MyBEEntry->st_activity_start_timestamp);
	values[5] = TimestampTzGetDatum(clock_now());
	PushActiveSnapshot(store_snapshot(true));
	run->id = DatumGetInt64(sql_value(sql_run(&begin_run, values, NULL), 0, 1,
									  &isnull));
	PopActiveSnapshot();
}

/*
 * Records how far a run has come, and with ended that it is through.
 */
static void
record_progress(JobRun *run, bool ended)
{
	Datum		values[8];
	bool		isnull[8] = {false};

	values[0] = Int64GetDatum(run->id);
	values[1] = values[2] = TimestampTzGetDatum(clock_now());
	isnull[2] = !ended;
	values[3] = Int64GetDatum(run->done);
	values[4] = Int64GetDatum(run->failed);
	values[5] = Int64GetDatum(run->failed_id);
	values[6] = CStringGetTextDatum(run->error_code);
	values[7] = CStringGetTextDatum(run->error.data);
	isnull[5] = run->failed_id == 0;
	isnull[6] = isnull[7] = run->failed == 0;
	PushActiveSnapshot(store_snapshot(true));
	(void) sql_run(&update_run, values, isnull);
	if (ended && !IsolationUsesXactSnapshot())
	{
		values[0] = CStringGetTextDatum(run->job->name);
		(void) sql_run(&forget_runs, values, NULL);
	}
	PopActiveSnapshot();
}

/*
 * Makes one member of a row comparison.
 */
static void
row_member(ScanKey key, int flags, AttrNumber attno, Oid type,
		   RegProcedure compare, Datum value)
{
	ScanKeyEntryInitialize(key, SK_ROW_MEMBER | flags, attno,
						   BTGreaterStrategyNumber, type, InvalidOid, compare,
						   value);
}

/*
 * Reads the next batch with the statement of a range.
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
	result = sql_run(range->find, values, NULL);
	for (i = 0; i < (int) result->nrows; i++)
		run->batch[i] = (DueItem) {
			.due_at = DatumGetTimestampTz(sql_value(result, i, 1, &isnull)),
			.id = DatumGetInt64(sql_value(result, i, 2, &isnull)),
			.range = range
		};
	return (int) result->nrows;
}

/*
 * Reads the next batch from the index of a range: (due_at, id) > after, due_at
 * <= until.
 */
static int
scan_batch(JobRun *run, JobRange *range)
{
	ScanKeyData keys[2];
	ScanKeyData row[2];
	StoreScan	scan;
	TupleTableSlot *slot;
	int			n = 0;

	row_member(&row[0], 0, 1, TIMESTAMPTZOID, F_TIMESTAMPTZ_CMP,
			   TimestampTzGetDatum(range->after_at));
	row_member(&row[1], SK_ROW_END, 2, INT8OID, F_BTINT8CMP,
			   Int64GetDatum(range->after_id));
	memset(&keys[0], 0, sizeof(ScanKeyData));
	keys[0].sk_flags = SK_ROW_HEADER;
	keys[0].sk_attno = 1;
	keys[0].sk_strategy = BTGreaterStrategyNumber;
	keys[0].sk_argument = PointerGetDatum(row);
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(range->until));

	PushActiveSnapshot(store_snapshot(true));
	store_scan(&scan, NULL, range->due, GetActiveSnapshot(), keys, 2);
	while (n < run->batch_size &&
		   (slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		DueItem    *due = &run->batch[n++];

		due->id = DatumGetInt64(slot_getattr(slot, range->anum_id, &isnull));
		due->due_at = DatumGetTimestampTz(slot_getattr(slot,
													   range->anum_due_at,
													   &isnull));
		due->range = range;
	}
	store_scan_end(&scan);
	PopActiveSnapshot();
	return n;
}

/*
 * Reads the next batch.
 */
static int
read_batch(JobRun *run, JobRange *range)
{
	int			n = range->find ? find_batch(run, range) :
		scan_batch(run, range);

	if (n > 0)
	{
		range->after_at = run->batch[n - 1].due_at;
		range->after_id = run->batch[n - 1].id;
	}
	return n;
}

/*
 * Tells whether an error is none of the items', but ends the run.
 */
static bool
ends_run(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_OPERATOR_INTERVENTION ||
		/* in a snapshot that stays, all the others would fail too */
		(error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE &&
		 IsolationUsesXactSnapshot());
}

/*
 * Works on some items, one after the other.  Returns how many it has done.
 */
static int64
work_items(const Job *job, const DueItem *items, int n)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext item = AllocSetContextCreate(context, "credits job item",
											   ALLOCSET_DEFAULT_SIZES);
	int64		done = 0;
	int			i;

	MemoryContextSwitchTo(item);
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (job->work(&items[i]))
			done++;
		MemoryContextReset(item);
	}
	MemoryContextSwitchTo(context);
	MemoryContextDelete(item);
	return done;
}

/*
 * Works on some items in a subtransaction, or sweeps as many.  Returns false,
 * with nothing done, if that fails.
 */
static bool
try_items(JobRun *run, const JobRange *range, const DueItem *items, int n,
		  int64 *done, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	*done = 0;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		*done = items ? work_items(run->job, items, n) : range->sweep(n);
		MemoryContextSwitchTo(context);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (ok)
		run->done += *done;
	else if (ends_run(*error))
		ReThrowError(*error);
	return ok;
}

/*
 * Notes that an item could not be done, and why; of a sweep it is not known
 * which.
 */
static void
note_failure(JobRun *run, int64 id, ErrorData *error)
{
	run->failed++;
	run->failed_id = id;
	strlcpy(run->error_code, sqlstate_text(error->sqlerrcode),
			sizeof(run->error_code));
	resetStringInfo(&run->error);
	appendStringInfoString(&run->error, error->message ? error->message : "");
	run->job->failed(id, error);
}

/*
 * Works on some items, leaving out those that fail.
 */
static void
work_on(JobRun *run, const DueItem *items, int n)
{
	ErrorData  *error;
	int64		done;

	if (try_items(run, items[0].range, items, n, &done, &error))
		return;
	if (n == 1)
		note_failure(run, items[0].id, error);
	else
	{
		work_on(run, items, n / 2);
		work_on(run, items + n / 2, n - n / 2);
	}
}

/*
 * Does a batch of one part of a job.  Returns whether more may be left.
 */
static bool
run_batch(JobRun *run, JobRange *range)
{
	const Job  *job = run->job;
	ErrorData  *error;
	int64		n;

	store_lock_tables(job->name);
	if (range->sweep)
	{
		if (!try_items(run, range, NULL, run->batch_size, &n, &error))
			note_failure(run, 0, error);
	}
	else
	{
		if (range->due)
			store_lock_table(range->due->table);
		if (job->resume && !job->resume(range))
			return false;
		n = read_batch(run, range);
		if (n > 0)
			work_on(run, run->batch, n);
		if (job->reached)
			job->reached(range, n > 0 ? &run->batch[n - 1] : NULL);
	}
	if (n > 0)
		record_progress(run, false);
	return n > 0;
}

/*
 * Runs one part of a job.
 */
static void
run_range(JobRun *run, JobRange *range, bool may_commit)
{
	bool		more;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		CHECK_FOR_INTERRUPTS();
		more = run_batch(run, range);
		MemoryContextSwitchTo(old);
		if (may_commit)
			SPI_commit();
		MemoryContextReset(run->context);
	} while (more);
}

/*
 * Returns the argument batch_size.
 */
static int
batch_size(FunctionCallInfo fcinfo)
{
	int			size;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("batch_size must not be null"),
				 errhint("Leave batch_size out for 1000.")));
	size = PG_GETARG_INT32(0);
	if (size < 1 || size > MAX_BATCH_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be from 1 to %d", MAX_BATCH_SIZE),
				 errdetail("It is %d.", size),
				 errhint("Leave batch_size out for 1000.")));
	return size;
}

/*
 * Runs a job for a procedure (batch_size, INOUT done, INOUT failed).
 */
Datum
job_call(FunctionCallInfo fcinfo, const Job *job)
{
	bool		may_commit = fcinfo->context &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	MemoryContext context = CurrentMemoryContext;
	JobRun		run = {.job = job};
	int			part;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {false};

	run.batch_size = batch_size(fcinfo);
	store_check_writable(psprintf("%s()", job->name));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	run.batch = palloc(run.batch_size * sizeof(DueItem));
	run.context = AllocSetContextCreate(context, "credits job",
										ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&run.error);

	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	record_begin(&run);
	if (may_commit)
		SPI_commit();
	for (part = 0;; part++)
	{
		JobRange	range = {
			.number = part,
			.due = job->due,
			.anum_due_at = job->anum_due_at,
			.anum_id = job->anum_id,
			.after_at = DT_NOBEGIN,
			.until = clock_now()
		};

		if (job->begin ? !job->begin(&range) : part > 0)
			break;
		run_range(&run, &range, may_commit);
	}
	record_progress(&run, true);
	SPI_finish();

	MemoryContextSwitchTo(context);
	values[0] = Int64GetDatum(run.done);
	values[1] = Int64GetDatum(run.failed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values,
													  isnull)));
}

/*
 * Tells whether a backend is still at the statement in which a run began.
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
