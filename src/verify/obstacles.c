/*
 * obstacles.c
 *	  What needs rows of the log, so that the books cannot be closed over them.
 *
 * Some things name a row.  Others need all rows from some time on, but the log is
 * indexed by time only within each account.  Its ids are drawn in the order of time,
 * so the first row that is not older is sought by halving the range of ids.  A row
 * may be older than those before it: that of an expiry has the time of the expiry.
 * Therefore a number of rows is read at each place, and credits_archive looks at all
 * rows that it is about to archive.
 *
 * Tested in test/sql/archive.sql and test/t/obstacles.pl.
 */
#include "credits.h"

#include "store/statements.h"
#include "verify/obstacles.h"
#include "verify/verify.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_archive_obstacles);

/* a row has the time at which its call began, which may be a while before its id */
#define SLACK (USECS_PER_HOUR)

/* the longest window in which limits and caps are counted, except for a lifetime */
#define WINDOW (32 * USECS_PER_DAY)

/* how many rows are read at each place of the log */
#define PROBE_ROWS 1000

/*
 * What needs rows of the log above id $1, by their ids or, if these are NULL, from a
 * time on.  $2 is now.
 */
static SqlStatement find_named = {
	"SELECT 'chargeback', min(v.created_at), min(p.transaction_id),"
	" 'of purchases with an open chargeback: ' || count(DISTINCT p.id)"
	" FROM credits.reversals AS v JOIN credits.purchases AS p ON p.id = v.purchase_id"
	" WHERE v.status = 'open' AND p.transaction_id > $1 HAVING count(*) > 0"
	/* not a period that was paid ahead */
	" UNION ALL SELECT 'subscription', min(d.starts_at), min(d.transaction_id),"
	" 'of current periods: ' || count(*)"
	" FROM credits.subscriptions AS s CROSS JOIN LATERAL ("
	"SELECT d.starts_at, d.transaction_id FROM credits.periods AS d"
	" WHERE d.subscription_id = s.id AND d.starts_at <= $2"
	" ORDER BY d.starts_at DESC LIMIT 1) AS d"
	" WHERE s.status <> 'canceled' AND d.transaction_id > $1 HAVING count(*) > 0"
	" UNION ALL SELECT 'stripe_event', min(e.created), NULL,"
	" 'since the first event of Stripe that is waiting'"
	" FROM credits.stripe_events AS e"
	" WHERE e.result = 'waiting' AND EXISTS (SELECT FROM credits.stripe_subjects AS s"
	" WHERE s.subject = e.subject AND s.waiting IS NOT NULL) HAVING count(*) > 0"
	" UNION ALL SELECT 'consumer', e.at, e.id, 'of events that ' || c.name || ' has not read'"
	" FROM credits.consumers AS c CROSS JOIN LATERAL credits.consumer_lag(c.name) AS l"

	/*
	 * what is above its safe_id may have been read, but only if it is not
	 * idle
	 */
	" CROSS JOIN LATERAL (SELECT min(e.created_at) AS at, min(e.transaction_id) AS id FROM credits.events AS e"
	" WHERE e.id > c.safe_id AND e.transaction_id > $1) AS e"
	" WHERE e.id IS NOT NULL AND l.unread IS DISTINCT FROM 0",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/*
 * Returns the first of the rows above an id that is not older than a time, among the
 * next max_rows; 0 if there is none.  Sets the id of the last row that was read, which
 * stays the same if there are no more.
 */
static int64
find_young(int64 above_id, TimestampTz since, int64 max_rows, int64 *last_id)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits rows",
												  ALLOCSET_DEFAULT_SIZES);
	StoreScan	scan;
	Entry		entry;
	int64		found = 0;
	int64		i;

	scan_begin_ids(&scan, NULL, &log_by_id, GetActiveSnapshot(), above_id + 1,
				   PG_INT64_MAX, BY_INT64_ABOVE(above_id));
	*last_id = above_id;
	for (i = 0; i < max_rows && found == 0; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool		more = scan_peek(&scan, ForwardScanDirection, &entry);

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (!more)
			break;
		*last_id = entry.id;
		if (entry.created_at >= since)
			found = entry.id;
	}
	scan_end(&scan);
	MemoryContextDelete(context);
	return found;
}

/*
 * Returns the first row above an id that is not older than a time, as far as that can
 * be told without reading all of them; 0 if there is none.
 */
static int64
first_since(int64 above_id, TimestampTz since)
{
	int64		low = above_id;
	int64		high = store_newest_id(&log_table);
	int64		last_id;
	int64		found = 0;
	int64		young;

	if (TIMESTAMP_IS_NOEND(since))
		return 0;
	/* mostly, much is older */
	while (low < high)
	{
		int64		middle = low + (high - low) / 2;

		CHECK_FOR_INTERRUPTS();
		young = find_young(middle, since, PROBE_ROWS, &last_id);
		if (young != 0)
			found = young;
		if (young != 0 || last_id == middle)
			high = middle;
		else
			low = Min(last_id, high);
	}
	/* what is found is the first of a place; there may be others before it */
	if (low > above_id)
		low -= Min(PROBE_ROWS, low - above_id);
	young = find_young(low, since, 2 * PROBE_ROWS, &last_id);
	return young != 0 ? young : found;
}

/*
 * Returns whether the books may be closed over all rows up to an id, as far as times
 * are concerned: all of them are read.  If not, sets the first one that is not older.
 */
bool
obstacles_all_older(int64 above_id, int64 until_id, TimestampTz since,
					int64 *first_id)
{
	int64		last_id;

	for (;;)
	{
		int64		young;

		CHECK_FOR_INTERRUPTS();
		young = find_young(above_id, since, 100 * PROBE_ROWS, &last_id);
		if (young != 0 && young <= until_id)
		{
			*first_id = young;
			return false;
		}
		if (young != 0 || last_id == above_id || last_id >= until_id)
			return true;
		above_id = last_id;
	}
}

/*
 * Returns the time from which rows may have been made within a span until now; all of
 * them if the span is NULL, which is forever.
 */
static TimestampTz
made_since(TimestampTz now, Interval *span)
{
	TimestampTz since = span ? clock_before(now, span) : DT_NOBEGIN;

	return TIMESTAMP_NOT_FINITE(since) || since < MIN_TIMESTAMP + SLACK ?
		DT_NOBEGIN : since - SLACK;
}

/*
 * Adds what needs a row.
 */
static void
add_obstacle(Obstacles *found, const char *name, TimestampTz since, int64 transaction_id,
			 const char *detail)
{
	Obstacle   *obstacle = palloc(sizeof(Obstacle));

	obstacle->name = name;
	obstacle->since = since;
	obstacle->transaction_id = transaction_id;
	obstacle->detail = detail;
	found->list = lappend(found->list, obstacle);
}

/*
 * Adds what needs all rows from a time on.
 */
static void
add_since(Obstacles *found, const char *name, TimestampTz since, int64 above_id,
		  const char *detail)
{
	int64		id = first_since(above_id, since);

	found->since = Min(found->since, since);
	if (id != 0)
		add_obstacle(found, name, since, id, detail);
}

/*
 * Adds what names the rows that it needs, or is in a table with its time.
 */
static void
add_named(Obstacles *found, int64 above_id, TimestampTz now)
{
	Datum		values[2];
	SqlResult  *result;
	uint64		i;

	values[0] = Int64GetDatum(above_id);
	values[1] = TimestampTzGetDatum(now);
	result = statements_run(&find_named, values, NULL);
	for (i = 0; i < result->nrows; i++)
	{
		bool		isnull;
		char	   *name = TextDatumGetCString(statements_value(result, i, 1, &isnull));
		TimestampTz since = DatumGetTimestampTz(statements_value(result, i, 2, &isnull));
		char	   *detail = TextDatumGetCString(statements_value(result, i, 4, &isnull));
		Datum		id = statements_value(result, i, 3, &isnull);

		if (isnull)
			add_since(found, name, since, above_id, detail);
		else
			add_obstacle(found, name, since, DatumGetInt64(id), detail);
	}
}

/*
 * list_sort comparator: the lowest id first, then by name.
 */
static int
compare_obstacles(const ListCell *a, const ListCell *b)
{
	const Obstacle *x = lfirst(a);
	const Obstacle *y = lfirst(b);

	if (x->transaction_id != y->transaction_id)
		return x->transaction_id < y->transaction_id ? -1 : 1;
	return strcmp(x->name, y->name);
}

/*
 * Finds what needs rows of the log above an id, and the first row that each needs.
 * Everything before a time may be archived.  Uses the active snapshot.
 */
Obstacles
obstacles_find(TimestampTz before, int64 above_id)
{
	TimestampTz now = clock_now();
	Obstacles	found = {NIL, DT_NOEND};

	add_since(&found, "before", before, above_id, "the argument of credits_archive");
	add_since(&found, "limits", Max(now, MIN_TIMESTAMP + WINDOW) - WINDOW, above_id,
			  "limits and caps may still count them");
	add_since(&found, "credits.key_retention", made_since(now, clock_key_retention()),
			  above_id, "their keys are still promised");
	add_since(&found, "credits.refund_window", made_since(now, clock_refund_window()),
			  above_id, "they can still be refunded");
	add_named(&found, above_id, now);
	list_sort(found.list, compare_obstacles);
	return found;
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
	Obstacles	found;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(result->setDesc, 4);
	(void) anchors_last_closing(GetActiveSnapshot(), &closing);
	found = obstacles_find(before, closing.until_id);
	foreach(lc, found.list)
	{
		const Obstacle *obstacle = lfirst(lc);
		Datum		values[4];
		bool		isnull[4] = {false};

		values[0] = CStringGetTextDatum(obstacle->name);
		values[1] = TimestampTzGetDatum(obstacle->since);
		isnull[1] = TIMESTAMP_IS_NOBEGIN(obstacle->since);
		values[2] = Int64GetDatum(obstacle->transaction_id);
		values[3] = CStringGetTextDatum(obstacle->detail);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
