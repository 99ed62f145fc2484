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

#include "jobs/partitions.h"
#include "store/statements.h"
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
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_archive);
PG_FUNCTION_INFO_V1(credits_archive_obstacles);

#define MAX_BATCH 100000

/* a row has the time at which its call began, which may be a while before its id */
#define SLACK (USECS_PER_HOUR)

/* the longest window in which limits and caps are counted, except for a lifetime */
#define WINDOW (32 * USECS_PER_DAY)

/*
 * What needs rows of the log, and the first of them, above id $2.  Times are $1, before
 * which everything may be archived; $3, since when spends can be refunded; $4, since
 * when keys are promised; $5, since when limits are counted; and $6, now.  NULL is
 * forever.
 */
static SqlStatement find_obstacles = {
	"SELECT o.obstacle, o.since, r.id, o.detail FROM (VALUES"
	" ('before', $1, 'the argument of credits_archive'),"
	" ('limits', $5, 'limits and caps may still count them'),"
	" ('credits.key_retention', $4, 'their keys are still promised'),"
	" ('credits.refund_window', $3, 'they can still be refunded')"
	") AS o (obstacle, since, detail)"
	" CROSS JOIN LATERAL (SELECT l.id FROM credits.log AS l WHERE l.id > $2"
	" AND l.created_at >= coalesce(o.since, '-infinity') ORDER BY l.id LIMIT 1) AS r"
	" UNION ALL SELECT 'chargeback', min(v.created_at), min(p.transaction_id),"
	" 'of purchases with an open chargeback: ' || count(DISTINCT p.id)"
	" FROM credits.reversals AS v JOIN credits.purchases AS p ON p.id = v.purchase_id"
	" WHERE v.status = 'open' AND p.transaction_id > $2 HAVING count(*) > 0"
	" UNION ALL SELECT 'subscription', min(d.starts_at), min(d.transaction_id),"
	" 'of current periods: ' || count(*)"
	" FROM credits.subscriptions AS s CROSS JOIN LATERAL ("
	"SELECT d.starts_at, d.transaction_id FROM credits.periods AS d"
	" WHERE d.subscription_id = s.id ORDER BY d.starts_at DESC LIMIT 1) AS d"
	" WHERE s.status <> 'canceled' AND d.transaction_id > $2 HAVING count(*) > 0"
	" UNION ALL SELECT 'stripe_event', e.at, r.id,"
	" 'since the first event of Stripe that is waiting'"
	" FROM (SELECT min(e.created) AS at FROM credits.stripe_events AS e"
	" WHERE e.result = 'waiting' AND EXISTS (SELECT FROM credits.stripe_subjects AS s"
	" WHERE s.subject = e.subject AND s.waiting IS NOT NULL)) AS e"
	" CROSS JOIN LATERAL (SELECT l.id FROM credits.log AS l WHERE l.id > $2"
	" AND l.created_at >= e.at ORDER BY l.id LIMIT 1) AS r"
	" ORDER BY 3, 1",
	(const Oid[]) {
		TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, InvalidOid
	}
};

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
 * Returns the time from which rows may have been made within a span until now.
 */
static TimestampTz
made_since(TimestampTz now, Interval *span)
{
	TimestampTz since = clock_before(now, span);

	return TIMESTAMP_NOT_FINITE(since) || since < MIN_TIMESTAMP + SLACK ?
		DT_NOBEGIN : since - SLACK;
}

/*
 * Finds what needs rows of the log, and the first of them.
 */
static SqlResult *
run_obstacles(TimestampTz before, int64 from_id)
{
	TimestampTz now = clock_now();
	Interval   *refunds = clock_refund_window();
	Interval   *keys = clock_key_retention();
	Datum		values[6];
	bool		isnull[6] = {false};

	values[0] = TimestampTzGetDatum(before);
	values[1] = Int64GetDatum(from_id);
	isnull[2] = refunds == NULL;
	values[2] = refunds ?
		TimestampTzGetDatum(made_since(now, refunds)) : (Datum) 0;
	isnull[3] = keys == NULL;
	values[3] = keys ?
		TimestampTzGetDatum(made_since(now, keys)) : (Datum) 0;
	values[4] = TimestampTzGetDatum(Max(now, MIN_TIMESTAMP + WINDOW) - WINDOW);
	values[5] = TimestampTzGetDatum(now);
	return statements_run(&find_obstacles, values, isnull);
}

/*
 * SQL function: returns what needs rows of the log, in the order of these, so that the
 * books can be closed only before.
 */
Datum
credits_archive_obstacles(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz before = PG_ARGISNULL(0) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(0);
	Closing		closing = {.until_id = 0};
	SqlResult  *found;
	uint64		i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(result->setDesc, 4);
	(void) anchors_last_closing(GetActiveSnapshot(), &closing);
	found = run_obstacles(before, closing.until_id);
	for (i = 0; i < found->nrows; i++)
	{
		Datum		values[4];
		bool		isnull[4];
		int			j;

		CHECK_FOR_INTERRUPTS();
		for (j = 0; j < 4; j++)
			values[j] = statements_value(found, i, j + 1, &isnull[j]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * Returns the last id of the last partition that may leave the log: all of its rows are
 * below what needs some, and below the newest.  0 if there is none.
 */
static int64
find_end(TimestampTz before, int64 from_id)
{
	SqlResult  *obstacles = run_obstacles(before, from_id);
	int64		newest = store_newest_id(&log_table);
	int64		end = 0;
	const Leaf *leaves;
	int			n;
	int			i;

	if (obstacles->nrows > 0)
	{
		bool		isnull;

		newest = Min(newest,
					 DatumGetInt64(statements_value(obstacles, 0, 3, &isnull)) - 1);
	}
	leaves = leaves_list(&log_table, &n);
	for (i = 0; i < n; i++)
		if (!leaves[i].rest && leaves[i].until - 1 <= newest &&
			leaves[i].until - 1 > from_id)
			end = Max(end, leaves[i].until - 1);
	return end;
}

/*
 * Begins a closing, or finds one that has not ended.  Returns false if nothing can be
 * archived.
 */
static bool
begin(TimestampTz before, Closing *closing)
{
	Datum		values[4];
	int64		from_id = 0;
	int64		end;

	/* of two calls, the second finds the closing of the first */
	statements_execute("LOCK TABLE credits.archives IN SHARE ROW EXCLUSIVE MODE");
	if (anchors_last_closing(store_snapshot(true), closing))
	{
		if (!closing->ended)
			return true;
		from_id = closing->until_id;
	}
	end = find_end(before, from_id);
	if (end == 0)
		return false;
	closing->until_id = end;
	closing->from_id = from_id;
	closing->ended = false;
	values[0] = Int64GetDatum(end);
	values[1] = Int64GetDatum(from_id);
	values[2] = TimestampTzGetDatum(before);
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
close_batch(const Closing *closing, int batch_size)
{
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
	values[1] = Int32GetDatum(batch_size);
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
	return true;
}

/*
 * Copies the rows that are to stay in the log.  The table is made anew, should a run have
 * ended before it was used.  As long as it is unlogged, logical replication does not see
 * its rows, which a subscriber has.
 */
static void
copy_rows(const Closing *closing)
{
	char	   *name = anchors_copies_table(closing->until_id);
	Datum		value = Int64GetDatum(closing->until_id);

	if (statements_run(&lock_rows, &value, NULL)->nrows == 0)
		return;
	if (OidIsValid(get_relname_relid(name, get_namespace_oid("credits", false))))
		statements_execute(psprintf("DROP TABLE credits.%s", name));
	partitions_make_table(name, "log_default");
	statements_execute(psprintf("ALTER TABLE credits.%s SET UNLOGGED; "
								"INSERT INTO credits.%s SELECT l.* FROM credits.carried_rows AS c"
								" JOIN credits.log AS l ON l.id = c.id"
								" WHERE c.until_id = " INT64_FORMAT "; "
								"ALTER TABLE credits.%s SET LOGGED; "
								"ALTER TABLE credits.%s ADD CONSTRAINT log_bounds"
								" CHECK (id < '" INT64_FORMAT "'::bigint); "
								"ANALYZE credits.%s",
								name, name, closing->until_id, name, name,
								closing->until_id + 1, name));
}

/*
 * Moves a partition of the log to credits.archived_log.
 */
static void
move_partition(const Leaf *leaf, const char *name)
{
	statements_execute(psprintf("ALTER TABLE credits.log DETACH PARTITION credits.%s",
								quote_identifier(name)));
	partitions_attach("archived_log", name, leaf->from, leaf->until);
}

/* The arguments of exchange */
typedef struct Exchange
{
	const Closing *closing;
	bool		done;			/* output: false if the copies were discarded */
	int			npartitions;	/* output */
} Exchange;

/*
 * Exchanges the partitions that the closing covers for the one with the copies of rows.
 * Those go to credits.archived_log, except for the copies of the closing before.  That
 * rows are within the bounds of a partition need not be proven again.
 */
static void
exchange(void *arg)
{
	Exchange   *exchange = arg;
	const Closing *closing = exchange->closing;
	const char *copies = anchors_copies_table(closing->until_id);
	const Leaf *leaves;
	Leaf	   *list;
	int			n;
	int			i;

	exchange->npartitions = 0;
	exchange->done = OidIsValid(get_relname_relid(copies,
												  get_namespace_oid("credits", false)));
	if (!exchange->done)
		return;
	leaves = leaves_list(&log_table, &n);
	/* the list changes as soon as a partition leaves */
	list = palloc(n * sizeof(Leaf));
	memcpy(list, leaves, n * sizeof(Leaf));
	for (i = 0; i < n; i++)
	{
		const char *name = get_rel_name(list[i].oid);

		if (list[i].rest || list[i].until - 1 > closing->until_id)
			continue;
		if (strcmp(name, anchors_copies_table(closing->from_id)) == 0)
			statements_execute(psprintf("ALTER TABLE credits.log DETACH PARTITION credits.%s; "
										"DROP TABLE credits.%s", name, name));
		else
		{
			move_partition(&list[i], name);
			exchange->npartitions++;
		}
	}
	statements_execute(psprintf("ALTER TABLE credits.log ATTACH PARTITION credits.%s"
								" FOR VALUES FROM (MINVALUE) TO (" INT64_FORMAT "); "
								"ALTER TABLE credits.%s DROP CONSTRAINT log_bounds",
								copies, closing->until_id + 1, copies));
}

/*
 * Exchanges the partitions as soon as that does not make others wait for long, and ends
 * the closing.  Sets how many partitions have left the log.  Returns false if the copies
 * must be made again, since a text of one has been erased.
 */
static bool
end(const Closing *closing, int *npartitions)
{
	Exchange	arg = {.closing = closing};
	Datum		values[2];

	values[0] = Int64GetDatum(closing->until_id);
	*npartitions = 0;
	if (statements_run(&lock_closing, values, NULL)->nrows == 0)
		return true;			/* another run has ended it */
	/* a procedure has no snapshot after a commit, and catalogs need one */
	PushActiveSnapshot(store_snapshot(true));
	partitions_with_log_locked(exchange, &arg);
	PopActiveSnapshot();
	if (!arg.done)
		return false;
	values[1] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&end_closing, values, NULL);
	*npartitions = arg.npartitions;
	return true;
}

/*
 * Deletes what is left of holds that have ended and whose rows have left the log, up to
 * a number of them.  Returns whether there may be more.
 */
static bool
forget_holds(const Closing *closing, int64 *after_id, int batch_size)
{
	Datum		values[3];
	SqlResult  *found;
	Store	   *store;
	uint64		i;

	ledger_lock_tables("credits_archive()");
	values[0] = Int64GetDatum(*after_id);
	values[1] = Int64GetDatum(closing->until_id);
	values[2] = Int32GetDatum(batch_size);
	found = statements_run(&ended_holds, values, NULL);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	for (i = 0; i < found->nrows; i++)
	{
		bool		isnull;
		Hold		hold;

		CHECK_FOR_INTERRUPTS();
		*after_id = DatumGetInt64(statements_value(found, i, 1, &isnull));
		if (hold_find(store, GetActiveSnapshot(), *after_id, &hold))
			store_delete(store, &holds_table, GetActiveSnapshot(), &hold);
	}
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	return found->nrows > 0;
}

/*
 * Reads the arguments of credits_archive.
 */
static TimestampTz
read_arguments(FunctionCallInfo fcinfo, int *batch_size)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null",
						PG_ARGISNULL(0) ? "before" : "batch_size"),
				 errhint("Pass an instant before which rows are to be archived; leave batch_size out for 1000.")));
	*batch_size = PG_GETARG_INT32(1);
	if (*batch_size < 1 || *batch_size > MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be from 1 to %d", MAX_BATCH),
				 errdetail("It is %d.", *batch_size),
				 errhint("Leave batch_size out for 1000.")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("credits_archive cannot run inside a transaction block"),
				 errhint("CALL it by itself.")));
	return PG_GETARG_TIMESTAMPTZ(0);
}

/*
 * SQL procedure: closes the books before an instant, and archives the partitions of the
 * log that end there.
 */
Datum
credits_archive(PG_FUNCTION_ARGS)
{
	int			batch_size;
	TimestampTz before = read_arguments(fcinfo, &batch_size);
	MemoryContext context = CurrentMemoryContext;
	MemoryContext batch = AllocSetContextCreate(context, "credits archive",
												ALLOCSET_DEFAULT_SIZES);
	Closing		closing;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {true, true};
	int64		after_id = 0;
	int			npartitions;
	bool		more;

	store_check_writable("credits_archive()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	MemoryContextSwitchTo(batch);
	if (begin(before, &closing))
	{
		SPI_commit();
		wait_for_others();
		do
		{
			MemoryContextSwitchTo(batch);
			MemoryContextReset(batch);
			SPI_commit();
			CHECK_FOR_INTERRUPTS();
			more = close_batch(&closing, batch_size);
		} while (more);
		do
		{
			SPI_commit();
			MemoryContextSwitchTo(batch);
			CHECK_FOR_INTERRUPTS();
			copy_rows(&closing);
			SPI_commit();
			MemoryContextSwitchTo(batch);
		} while (!end(&closing, &npartitions));
		values[0] = Int64GetDatum(closing.until_id);
		values[1] = Int32GetDatum(npartitions);
		isnull[0] = isnull[1] = false;
		do
		{
			SPI_commit();
			MemoryContextSwitchTo(batch);
			MemoryContextReset(batch);
			CHECK_FOR_INTERRUPTS();
			more = forget_holds(&closing, &after_id, batch_size);
		} while (more);
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(batch);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull)));
}
