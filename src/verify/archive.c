/*
 * archive.c
 *	  credits_archive: closing the books, so that old partitions can leave the
 *	  log.
 *
 * The books are closed at the end of a partition.  First the closing is recorded: from
 * then on nobody can refer to a row that it covers.  Transactions that may not know it
 * yet are waited for.  The accounts follow in batches, see closing.c: all rows that the
 * closing covers are there and do not change, so nothing is locked.  At the end the
 * partitions are exchanged for one that has copies of the rows that are to stay, under
 * a lock of the log that is held for some catalog changes only.
 *
 * A run that ends early leaves a closing that has not ended.  The next run continues
 * it.  Several runs at once take turns.
 */
#include "credits.h"

#include "jobs/partition_locks.h"
#include "jobs/partition_tables.h"
#include "jobs/partitions.h"
#include "ledger/job.h"
#include "store/statements.h"
#include "verify/leaving.h"
#include "verify/obstacles.h"
#include "verify/verify.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_archive);
PG_FUNCTION_INFO_V1(credits_archive_behind);

#define MAX_BATCH 100000

/* A call of credits_archive */
typedef struct Run
{
	TimestampTz before;
	int			batch_size;
	Closing		closing;
	int			npartitions;	/* that have left the log */
	int64		after_id;		/* holds up to this one are done */
	JobRecord	record;
	MemoryContext context;		/* reset before each step */
} Run;

/* Something to be done in a transaction of its own.  Returns whether to go on. */
typedef bool (*Step) (Run *run);

static SqlStatement begin_closing = {
	"INSERT INTO credits.archives (until_id, from_id, before, begun_at, done_account_id)"
	" VALUES ($1, $2, $3, $4, 0)",
	(const Oid[]) {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement lock_closing = {
	"SELECT a.done_account_id FROM credits.archives AS a"
	" WHERE a.until_id = $1 AND a.ended_at IS NULL FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

/* the same, and keeps texts from being erased: see anchors_lock_closing */
static SqlStatement lock_rows = {
	"SELECT FROM credits.archives AS a"
	" WHERE a.until_id = $1 AND a.ended_at IS NULL FOR UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement next_accounts = {
	"SELECT a.id FROM credits.accounts AS a WHERE a.id > $1 ORDER BY a.id LIMIT $2",
	(const Oid[]) {INT8OID, INT4OID, InvalidOid}
};

static SqlStatement advance_closing = {
	"UPDATE credits.archives SET done_account_id = $2 WHERE until_id = $1",
	(const Oid[]) {INT8OID, INT8OID, InvalidOid}
};

static SqlStatement end_closing = {
	"UPDATE credits.archives SET ended_at = $2 WHERE until_id = $1",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* what is left of holds that ended, of which nothing is in the log any more */
static SqlStatement ended_holds = {
	"SELECT h.id FROM credits.hold_states AS h"
	" WHERE h.id > $1 AND h.id <= $2 AND h.status <> 'open' AND NOT EXISTS ("
	"SELECT FROM credits.log AS l WHERE l.id = h.id) ORDER BY h.id LIMIT $3",
	(const Oid[]) {INT8OID, INT8OID, INT4OID, InvalidOid}
};

/*
 * Returns the last id of the last partition that ends at an id or before, and above
 * another one; 0 if there is none.
 */
static int64
last_end(int64 above_id, int64 until_id)
{
	int64		end = 0;
	const Leaf *leaves;
	int			n;
	int			i;

	leaves = leaves_list(&log_table, &n);
	for (i = 0; i < n; i++)
		if (!leaves[i].rest && leaves[i].until - 1 <= until_id &&
			leaves[i].until - 1 > above_id)
			end = Max(end, leaves[i].until - 1);
	return end;
}

/*
 * Returns the last id of the last partition that may leave the log: all of its rows are
 * below what needs some, and below the newest.  0 if there is none.
 */
static int64
find_end(TimestampTz before, int64 from_id)
{
	Obstacles	found = obstacles_find(before, from_id);
	int64		newest = store_newest_id(&log_table);
	int64		end;

	if (found.list != NIL)
		newest = Min(newest, ((Obstacle *) linitial(found.list))->transaction_id - 1);
	/* the first row of a time may have been missed */
	do
		end = last_end(from_id, newest);
	while (end > 0 && !obstacles_all_older(from_id, end, found.since, &newest) &&
		   newest-- > 0);
	return end;
}

/*
 * Begins a closing, or finds one that has not ended.  Returns false if nothing can be
 * archived.
 */
static bool
begin(Run *run)
{
	Closing    *closing = &run->closing;
	Datum		values[4];
	int64		from_id = 0;
	int64		end;

	partition_locks_check_isolation();
	if (store_ids_are_cached(&log_table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"credits.transactions_id_seq\" has a cache"),
				 errdetail("A session could still use an id below those that are archived."),
				 errhint("Run ALTER SEQUENCE credits.transactions_id_seq CACHE 1, and end the sessions that have used it.")));
	/* of two calls, the second finds the closing of the first */
	statements_execute("LOCK TABLE credits.archives IN SHARE ROW EXCLUSIVE MODE");
	if (anchors_last_closing(store_snapshot(true), closing))
	{
		if (!closing->ended)
			return true;
		from_id = closing->until_id;
	}
	PushActiveSnapshot(store_snapshot(true));
	end = find_end(run->before, from_id);
	PopActiveSnapshot();
	if (end == 0)
		return false;
	closing->until_id = end;
	closing->from_id = from_id;
	closing->ended = false;
	values[0] = Int64GetDatum(end);
	values[1] = Int64GetDatum(from_id);
	values[2] = TimestampTzGetDatum(run->before);
	values[3] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&begin_closing, values, NULL);
	return true;
}

/*
 * Waits for transactions that may have drawn an id that the closing covers, or may have
 * decided to refer to such a row, before it was recorded.  Each of them has locked the
 * partition that new rows went to when it began, and never the log itself.  Nobody has
 * to wait for us.
 */
static void
wait_for_others(void)
{
	List	   *tags = NIL;
	const Leaf *leaves;
	int			n;
	int			i;

	leaves = leaves_list(&log_table, &n);
	for (i = 0; i < n; i++)
	{
		LOCKTAG    *tag = palloc(sizeof(LOCKTAG));

		SET_LOCKTAG_RELATION(*tag, MyDatabaseId, leaves[i].oid);
		tags = lappend(tags, tag);
	}
	WaitForLockersMultiple(tags, ShareLock, false);
}

/*
 * Closes the books of the next accounts.  Returns false if there are no more.
 */
static bool
close_batch(Run *run)
{
	const Closing *closing = &run->closing;
	Datum		values[2];
	bool		isnull;
	SqlResult  *found;
	MemoryContext context;
	MemoryContext old;
	uint64		i;

	ledger_lock_tables("credits_archive()");
	values[0] = Int64GetDatum(closing->until_id);
	found = statements_run(&lock_closing, values, NULL);
	if (found->nrows == 0)
		return false;			/* another run has ended it */
	values[0] = statements_value(found, 0, 1, &isnull);
	values[1] = Int32GetDatum(run->batch_size);
	found = statements_run(&next_accounts, values, NULL);
	if (found->nrows == 0)
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "credits closing",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	for (i = 0; i < found->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		PushActiveSnapshot(store_snapshot(true));
		verify_close_account(DatumGetInt64(statements_value(found, i, 1, &isnull)),
							 closing);
		PopActiveSnapshot();
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	values[0] = Int64GetDatum(closing->until_id);
	values[1] = statements_value(found, found->nrows - 1, 1, &isnull);
	(void) statements_run(&advance_closing, values, NULL);
	job_record_progress(&run->record, false);
	return true;
}

/*
 * Copies the rows that are to stay in the log.  A table that another run has left has
 * all of them, as it was made in one transaction.
 */
static bool
copy_rows(Run *run)
{
	const Closing *closing = &run->closing;
	char	   *name = anchors_copies_table(closing->until_id);
	Datum		value = Int64GetDatum(closing->until_id);

	partition_locks_check_isolation();
	if (statements_run(&lock_rows, &value, NULL)->nrows == 0)
		return false;
	if (leaving_has_copies(closing))
		return true;
	partition_tables_copy(name, psprintf("SELECT l.* FROM credits.carried_rows AS c"
										 " JOIN credits.log AS l ON l.id = c.id"
										 " WHERE c.until_id = " INT64_FORMAT,
										 closing->until_id),
						  true);
	partition_tables_add_bounds(name, PG_INT64_MIN, closing->until_id + 1, true);
	statements_execute(psprintf("ANALYZE credits.%s", name));
	return true;
}

/*
 * Exchanges the partitions as soon as that does not make others wait for long, and ends
 * the closing.  Sets how many partitions have left the log.  Returns false if the copies
 * must be made again, since a text of one has been erased.
 */
static bool
end(Run *run)
{
	const Closing *closing = &run->closing;
	Datum		values[2];
	bool		merging;

	values[0] = Int64GetDatum(closing->until_id);
	run->npartitions = 0;
	if (statements_run(&lock_closing, values, NULL)->nrows == 0)
		return true;			/* another run has ended it */
	merging = leaving_must_be_merged(closing);
	if (merging)
	{
		(void) statements_run(&lock_rows, values, NULL);
		if (!leaving_has_copies(closing))
			return false;
	}
	/* a procedure has no snapshot after a commit, and catalogs need one */
	PushActiveSnapshot(store_snapshot(true));
	run->npartitions = leaving_exchange(closing, merging);
	PopActiveSnapshot();
	if (run->npartitions < 0)
		return false;
	values[1] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&end_closing, values, NULL);
	return true;
}

/*
 * Deletes what is left of holds that have ended and whose rows have left the log, up to
 * a number of them.  Returns whether there may be more.
 */
static bool
forget_holds(Run *run)
{
	Datum		values[3];
	SqlResult  *found;
	Store	   *store;
	uint64		i;

	ledger_lock_tables("credits_archive()");
	values[0] = Int64GetDatum(run->after_id);
	values[1] = Int64GetDatum(run->closing.until_id);
	values[2] = Int32GetDatum(run->batch_size);
	found = statements_run(&ended_holds, values, NULL);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	for (i = 0; i < found->nrows; i++)
	{
		bool		isnull;
		Hold		hold;

		CHECK_FOR_INTERRUPTS();
		run->after_id = DatumGetInt64(statements_value(found, i, 1, &isnull));
		if (hold_find(store, GetActiveSnapshot(), run->after_id, &hold))
			store_delete(store, &holds_table, GetActiveSnapshot(), &hold);
	}
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	return found->nrows > 0;
}

/*
 * Makes a partition if rows go to the default one, or soon will: all of its rows would
 * be read when the one with the copies is attached, while the log is locked.  Returns
 * whether it did.
 */
static bool
make_partition(Run *run)
{
	return partitions_sweep(1, true) > 0;
}

/* A step that is being tried */
typedef struct Attempt
{
	Run		   *run;
	Step		step;
	bool		more;			/* output */
} Attempt;

/*
 * Does a step.
 */
static void
try_step(void *arg)
{
	Attempt    *attempt = arg;

	attempt->more = attempt->step(attempt->run);
}

/*
 * Does a step in a transaction of its own.  If it fails, so does the call, which first
 * records that.
 */
static bool
do_step(Run *run, Step step)
{
	Attempt		attempt = {run, step};
	ErrorData  *error;

	MemoryContextSwitchTo(run->context);
	MemoryContextReset(run->context);
	CHECK_FOR_INTERRUPTS();
	error = catch_error(try_step, &attempt);
	if (error && !job_is_ended_by(error))
	{
		job_record_error(&run->record, 0, error);
		job_record_progress(&run->record, true);
		SPI_commit();
	}
	if (error)
		ReThrowError(error);
	SPI_commit();
	MemoryContextSwitchTo(run->context);
	return attempt.more;
}

/*
 * Reads the arguments of credits_archive.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Run *run)
{
	Interval   *after = clock_archive_after();

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("batch_size must not be null"),
				 errhint("Leave batch_size out for 1000.")));
	run->batch_size = PG_GETARG_INT32(1);
	if (run->batch_size < 1 || run->batch_size > MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be from 1 to %d", MAX_BATCH),
				 errdetail("It is %d.", run->batch_size),
				 errhint("Leave batch_size out for 1000.")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("credits_archive cannot run inside a transaction block"),
				 errhint("CALL it by itself.")));
	/* what has not ended is ended in any case */
	run->before = !PG_ARGISNULL(0) ? PG_GETARG_TIMESTAMPTZ(0) :
		after ? clock_before(clock_now(), after) : DT_NOBEGIN;
}

/*
 * SQL procedure: closes the books before an instant, and archives the partitions of the
 * log that end there.
 */
Datum
credits_archive(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	Run			run = {.after_id = 0};
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {true, true};

	read_arguments(fcinfo, &run);
	store_check_writable("credits_archive()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	run.context = AllocSetContextCreate(context, "credits archive",
										ALLOCSET_DEFAULT_SIZES);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	MemoryContextSwitchTo(context);
	job_record_begin(&run.record, "credits_archive");
	SPI_commit();
	if (do_step(&run, begin))
	{
		wait_for_others();
		SPI_commit();
		while (do_step(&run, close_batch))
			;
		do
		{
			(void) do_step(&run, copy_rows);
			while (do_step(&run, make_partition))
				;
		} while (!do_step(&run, end));
		run.record.done = run.npartitions;
		while (do_step(&run, forget_holds))
			;
		values[0] = Int64GetDatum(run.closing.until_id);
		values[1] = Int32GetDatum(run.npartitions);
		isnull[0] = isnull[1] = false;
	}
	job_record_progress(&run.record, true);
	SPI_finish();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(run.context);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull)));
}

/*
 * Returns when the last row of a partition was made, DT_NOEND if it has none.
 */
static TimestampTz
last_made(int64 from_id, int64 until_id)
{
	const ScanBy by = {INT8OID, BTLessStrategyNumber, Int64GetDatum(until_id)};
	StoreScan	scan;
	Entry		entry;
	TimestampTz at = DT_NOEND;

	scan_begin_ids_by(&scan, NULL, &log_by_id, GetActiveSnapshot(), from_id,
					  until_id - 1, &by, 1);
	if (scan_peek(&scan, BackwardScanDirection, &entry))
		at = entry.created_at;
	scan_end(&scan);
	return at;
}

/*
 * SQL function: returns for how long credits_archive has had something to do: a closing
 * to end, or a partition whose rows are older than credits.archive_after says.
 */
Datum
credits_archive_behind(PG_FUNCTION_ARGS)
{
	TimestampTz now = clock_now();
	TimestampTz since = now;
	Interval   *after = clock_archive_after();
	Closing		closing = {.ended = true};
	int64		newest = store_newest_id(&log_table);
	const Leaf *leaves;
	Leaf		first = {.until = PG_INT64_MAX};
	int			n;
	int			i;

	if (anchors_last_closing(GetActiveSnapshot(), &closing) && !closing.ended)
		since = Min(since, closing.begun_at);
	leaves = leaves_list(&log_table, &n);
	for (i = 0; i < n; i++)
		if (!leaves[i].rest && leaves[i].until - 1 > closing.until_id &&
			leaves[i].until < first.until)
			first = leaves[i];
	if (after && first.until - 1 <= newest)
		since = Min(since, clock_after(last_made(Max(first.from, closing.until_id + 1),
												 first.until), after));
	return DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(now),
							   TimestampTzGetDatum(since));
}
