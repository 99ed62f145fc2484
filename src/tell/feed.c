/*
 * feed.c
 *	  The feed: events for consumers, without gaps.
 *
 * An event becomes visible when its transaction commits, and neither the ids of
 * events nor those of transactions are in order of commits.  So a consumer does not
 * remember an id but a moment (see moments.h): which transactions had ended.  A
 * batch is what a new moment sees and the one before did not, in order of ids.  All
 * events of one account come in the order in which they happened: a transaction
 * that waited for the account's lock is not seen without the one that it waited
 * for, and has drawn its ids later.
 *
 * Between two moments, "done" and "batch", there are two kinds of events:
 *
 * - Those with ids from after done's last id to batch's: none of them was seen
 *   before.  They are read by id, and each such range is read once.
 * - Those up to done's last id, of transactions that were running then.  These are
 *   known: those in its snapshot, and those from its xmax to before its next_xid.
 *   They are looked up one by one, so that a transaction that runs for hours costs
 *   one look into the index per call.
 *
 * Reading writes nothing.  What has been read is read again until it is
 * acknowledged, with the token of its last row, which contains the batch: so it
 * does not matter who else reads meanwhile.
 *
 * Tested in test/sql/feed.sql, in test/specs/feed.spec, and under load in
 * test/t/feed.pl.
 */
#include "credits.h"

#include "tell/feed.h"
#include "tell/tokens.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_add_consumer);
PG_FUNCTION_INFO_V1(credits_remove_consumer);
PG_FUNCTION_INFO_V1(credits_read_events);
PG_FUNCTION_INFO_V1(credits_ack_events);
PG_FUNCTION_INFO_V1(credits_consumer_lag);

#define MAX_EVENTS 1000

/* Ids of events that are being collected */
typedef struct IdList
{
	int			n;
	int			max;			/* of those of one transaction */
	int			allocated;
	int64	   *ids;
} IdList;

/*
 * Returns whether there is an event with this id.  Its owner may have deleted it.
 */
static bool
event_exists(int64 id)
{
	StoreScan	scan;
	bool		found;

	scan_begin(&scan, NULL, &events_by_id, GetActiveSnapshot(), BY_INT64(id));
	found = scan_next(&scan, ForwardScanDirection) != NULL;
	scan_end(&scan);
	return found;
}

/*
 * Returns whether a moment sees an event that is visible now.  An event whose
 * transaction is not known here, because it was restored or replicated, counts as
 * seen.
 */
static bool
sees_event(const FeedMoment *moment, int64 id)
{
	EventOrder	order;

	return !scan_find(NULL, &event_order_by_id, GetActiveSnapshot(), &order,
					  BY_INT64(id)) ||
		order.system != rows_system() || moments_sees(moment, order.xid);
}

/*
 * Adds an id to a list.
 */
static void
add_id(IdList *list, int64 id)
{
	if (list->n == list->allocated)
	{
		list->allocated = Max(2 * list->allocated, 64);
		list->ids = list->ids ?
			repalloc(list->ids, list->allocated * sizeof(int64)) :
			palloc(list->allocated * sizeof(int64));
	}
	list->ids[list->n++] = id;
}

/*
 * Adds the first events of a transaction with ids from after "after" to "until".
 */
static void
add_ids_of(IdList *list, uint64 xid, int64 after, int64 until)
{
	StoreScan	scan;
	EventOrder	order;
	int			n = 0;

	scan_begin(&scan, NULL, &event_order_by_xid, GetActiveSnapshot(),
			   BY_XID8(xid), BY_INT64_ABOVE(after));
	while (n < list->max && scan_peek(&scan, ForwardScanDirection, &order) &&
		   order.event_id <= until)
		if (order.system == rows_system() && event_exists(order.event_id))
		{
			add_id(list, order.event_id);
			n++;
		}
	scan_end(&scan);
}

/*
 * Returns the lowest transaction id from "from" on that an event has.
 */
static uint64
next_xid_of_events(uint64 from)
{
	StoreScan	scan;
	EventOrder	order;
	uint64		xid;

	scan_begin(&scan, NULL, &event_order_by_xid, GetActiveSnapshot(),
			   BY_XID8_FROM(from));
	xid = scan_peek(&scan, ForwardScanDirection, &order) ? order.xid : PG_UINT64_MAX;
	scan_end(&scan);
	return xid;
}

/*
 * Compares two ids, for qsort.
 */
static int
compare_event_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * Reads up to "max" events that come late: which "batch" sees, and whose
 * transactions were running at the moment "done", with ids up to its last one.
 */
static int
read_late(const FeedMoment *done, const FeedMoment *batch, int64 after, int max,
		  Event *events)
{
	IdList		list = {.max = max};
	uint64		xid = done->xmax;
	int			n = 0;
	int			i;

	if (after >= done->last_id)
		return 0;
	for (i = 0; i < done->nxip; i++)
		if (moments_sees(batch, done->xip[i]))
			add_ids_of(&list, done->xip[i], after, done->last_id);
	while ((xid = next_xid_of_events(xid)) < Min(done->next_xid, batch->xmax))
	{
		if (moments_sees(batch, xid))
			add_ids_of(&list, xid, after, done->last_id);
		xid++;
	}
	if (list.n > 0)
		qsort(list.ids, list.n, sizeof(int64), compare_event_ids);
	for (i = 0; i < list.n && n < max; i++)
		if (scan_find(NULL, &events_by_id, GetActiveSnapshot(), &events[n],
					  BY_INT64(list.ids[i])))
			n++;
	return n;
}

/*
 * Reads up to "max" events with ids from after "after" to the last one of a batch,
 * which sees them.
 */
static int
read_range(const FeedMoment *batch, int64 after, int max, Event *events)
{
	StoreScan	scan;
	Event		event;
	int			n = 0;

	scan_begin(&scan, NULL, &events_by_id, GetActiveSnapshot(),
			   BY_INT64_ABOVE(after));
	while (n < max && scan_peek(&scan, ForwardScanDirection, &event) &&
		   event.id <= batch->last_id)
		if (sees_event(batch, event.id))
			scan_copy(&scan, &events[n++]);
	scan_end(&scan);
	return n;
}

/*
 * Reads up to "max" events of a batch after an id.
 */
static int
read_batch(const FeedPosition *position, const FeedMoment *batch, int64 after,
		   int max, Event *events)
{
	const FeedMoment *done = position->done;
	int			n = done ? read_late(done, batch, after, max, events) : 0;

	if (n < max)
		n += read_range(batch,
						Max(after, done ? done->last_id : position->safe_id),
						max - n, events + n);
	return n;
}

/*
 * Takes an open batch as read if none of its events is left.  They have been read
 * or, after that, deleted.
 */
static void
finish_empty_batch(FeedPosition *position)
{
	Event		event;

	if (position->batch &&
		read_batch(position, position->batch, position->read_id, 1, &event) == 0)
		positions_finish_batch(position);
}

/*
 * Checks that the current moment sees what an earlier one did.
 */
static void
check_later(const FeedMoment *now, const FeedMoment *earlier)
{
	if (earlier == NULL)
		return;
	if (!moments_covers(now, earlier))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The snapshot is older than what the consumer has acknowledged."),
				 errhint("Retry the transaction.")));
	if (now->last_id < earlier->last_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"credits.events_id_seq\" has been set back"),
				 errdetail("It is at " INT64_FORMAT ", and was at " INT64_FORMAT ".",
						   now->last_id, earlier->last_id),
				 errhint("Run SELECT credits_sync_sequences().")));
}

/*
 * Flushes the WAL that has been written.
 */
static void
flush_wal(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();
	uint32		header = XLogSegmentOffset(end, wal_segment_size) < XLOG_BLCKSZ ?
		SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	/*
	 * behind the header of a page that has nothing else, and is not written
	 * yet
	 */
	if (end % XLOG_BLCKSZ == header)
		end -= header;
	XLogFlush(end);
}

/*
 * Reads up to max_rows of the events that a consumer has not acknowledged, by the
 * active snapshot.
 */
FeedPage *
feed_read(FeedPosition *position, int max_rows)
{
	FeedPage   *page = palloc0(sizeof(FeedPage));
	FeedMoment *now = moments_take(&events_table);

	check_later(now, position->done);
	check_later(now, position->batch);
	finish_empty_batch(position);
	page->position = position;
	page->batch = position->batch ? position->batch : now;
	/* one more shows whether there are any */
	page->events = palloc((max_rows + 1) * sizeof(Event));
	page->nevents = read_batch(position, page->batch, position->read_id,
							   max_rows + 1, page->events);
	page->last = page->nevents <= max_rows;
	page->nevents = Min(page->nevents, max_rows);

	/*
	 * What is acted on and acknowledged must outlast a crash, and so must the
	 * ids that the moment tells about: those that are lost are drawn again,
	 * by others.  Mostly nothing is left to be flushed.
	 */
	if (page->nevents > 0)
		flush_wal();
	return page;
}

/*
 * Returns an event as a row of a result.
 */
static void
return_event(ReturnSetInfo *result, const Event *event, const char *token)
{
	Account		account;
	Datum		values[7];
	bool		isnull[7] = {false};

	values[0] = Int64GetDatum(event->id);
	values[1] = CStringGetTextDatum(event->kind);
	isnull[2] = event->account_id == 0 ||
		!rows_find_account(NULL, GetActiveSnapshot(), NULL, event->account_id,
						   &account);
	values[2] = isnull[2] ? (Datum) 0 : PointerGetDatum(account.name);
	values[3] = Int64GetDatum(event->transaction_id);
	isnull[3] = event->transaction_id == 0;
	values[4] = TimestampTzGetDatum(event->created_at);
	values[5] = JsonbPGetDatum(event->detail);
	values[6] = CStringGetTextDatum(token);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* ------------------------------------------------------------------------
 * consumers of the extension
 */

/* what each of them is for, and who adds and moves it */
static const struct
{
	const char *name;
	const char *what;
}			reserved_consumers[] = {
	{FEED_DELIVERIES, "It makes deliveries from events, and is added and moved by credits_take_deliveries."},
	{FEED_TOPUPS, "It finds accounts to be topped up, and is added by credits_set_topup and moved by credits_request_topups."}
};

/*
 * Refuses to change a consumer of the extension: what it would pass over would be lost
 * to what it is for.
 */
static void
check_not_reserved(const text *consumer)
{
	int			i;

	for (i = 0; i < (int) lengthof(reserved_consumers); i++)
		if (same_text(consumer, cstring_to_text(reserved_consumers[i].name)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("consumer \"%s\" is reserved", reserved_consumers[i].name),
					 errdetail("%s", reserved_consumers[i].what),
					 errhint("Use a consumer of your own, with another name.")));
}

/*
 * Returns whether there are events to be read, or the consumer is to be added.  It
 * locks nothing, so that those who poll cost no transaction id.
 */
static bool
has_news(text *consumer)
{
	FeedPosition *position;
	bool		behind;

	PushActiveSnapshot(store_snapshot(true));
	position = positions_find(consumer);
	behind = position == NULL || feed_read(position, 1)->nevents > 0;
	PopActiveSnapshot();
	return behind;
}

/*
 * Adds a consumer of the extension that begins with the events from now on, unless it
 * exists.
 */
void
feed_begin(const char *reserved)
{
	(void) positions_add(cstring_to_text(reserved), -1);
}

/*
 * Returns the next events for a consumer of the extension, which is added if it does
 * not exist and begins with the oldest event then; NULL if there is none, or if another
 * transaction is reading.  The consumer stays locked.
 */
FeedPage *
feed_take(const char *reserved, int max_rows)
{
	text	   *consumer = cstring_to_text(reserved);
	FeedPosition *position;
	FeedPage   *page;

	if (!has_news(consumer))
		return NULL;
	position = positions_lock(consumer, true);
	/* another session may add it now, too: one of them reads */
	if (position == NULL && positions_find(consumer) == NULL &&
		positions_add(consumer, 0))
		position = positions_lock(consumer, true);
	if (position == NULL)
		return NULL;
	PushActiveSnapshot(store_snapshot(true));
	page = feed_read(position, max_rows);
	PopActiveSnapshot();
	return page->nevents > 0 ? page : NULL;
}

/*
 * Acknowledges the first n of the events that feed_take has returned.
 */
void
feed_taken(FeedPage *page, int n)
{
	positions_advance(page->position, page->batch, page->events[n - 1].id,
					  page->last && n == page->nevents);
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * SQL function: returns the next events of a consumer.
 */
Datum
credits_read_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *consumer = arg_name(fcinfo, 0, "consumer");
	int			max_rows = arg_max_rows(fcinfo, 1, MAX_EVENTS,
										"Leave max_rows out for 100 rows.",
										"Acknowledge what has been read, and read again, for more.");
	FeedPosition *position = positions_find(consumer);
	FeedPage   *page;
	int			i;

	if (position == NULL)
		positions_raise_unknown(consumer);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	page = feed_read(position, max_rows);
	for (i = 0; i < page->nevents; i++)
		return_event(result, &page->events[i],
					 tokens_show(page, page->events[i].id,
								 page->last && i == page->nevents - 1));
	return (Datum) 0;
}

/*
 * SQL function: acknowledges the events up to the one with a token.  Returns whether
 * the consumer has come further by that.
 */
Datum
credits_ack_events(PG_FUNCTION_ARGS)
{
	text	   *consumer = arg_name(fcinfo, 0, "consumer");
	FeedToken	token;
	FeedPosition *position;

	check_not_reserved(consumer);
	tokens_read(fcinfo, 1, &token);
	store_check_writable("credits_ack_events()");
	position = positions_lock(consumer, false);
	if (position == NULL)
		positions_raise_unknown(consumer);
	if (token.version == position->version + 1)
	{
		PushActiveSnapshot(store_snapshot(true));
		finish_empty_batch(position);
		PopActiveSnapshot();
	}
	if (!tokens_are_next(&token, position))
		PG_RETURN_BOOL(false);
	positions_advance(position, token.batch, token.read_id, token.whole);
	PG_RETURN_BOOL(true);
}

/*
 * SQL function: adds a consumer.  Returns false if there is one of this name.
 */
Datum
credits_add_consumer(PG_FUNCTION_ARGS)
{
	text	   *consumer = arg_name(fcinfo, 0, "consumer");
	int64		after_id = -1;

	check_not_reserved(consumer);
	store_check_writable("credits_add_consumer()");
	if (!PG_ARGISNULL(1))
	{
		int64		newest = store_newest_id(&events_table);

		after_id = PG_GETARG_INT64(1);
		if (after_id < 0 || after_id > newest)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("after_id must be from 0 to the id of the newest event"),
					 errdetail("It is " INT64_FORMAT "; the newest event has at most " INT64_FORMAT ".",
							   after_id, newest),
					 errhint("Pass 0 for all events that are kept, or leave it out for those from now on.")));
	}
	PG_RETURN_BOOL(positions_add(consumer, after_id));
}

/*
 * SQL function: removes a consumer.
 */
Datum
credits_remove_consumer(PG_FUNCTION_ARGS)
{
	text	   *consumer = arg_name(fcinfo, 0, "consumer");

	check_not_reserved(consumer);
	store_check_writable("credits_remove_consumer()");
	if (!positions_remove(consumer))
		positions_raise_unknown(consumer);
	PG_RETURN_VOID();
}

/*
 * SQL function: returns how many events a consumer has not acknowledged, up to
 * MAX_EVENTS, and when the first of them was written; nulls on a standby.
 */
Datum
credits_consumer_lag(PG_FUNCTION_ARGS)
{
	text	   *consumer = arg_name(fcinfo, 0, "consumer");
	FeedPosition *position;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {true, true};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!RecoveryInProgress() && (position = positions_find(consumer)) != NULL)
	{
		FeedPage   *page = feed_read(position, MAX_EVENTS);
		int			n = page->nevents;

		isnull[0] = false;
		isnull[1] = n == 0;
		values[1] = n > 0 ? TimestampTzGetDatum(page->events[0].created_at) : 0;
		/* what came after a batch that is open is not read, either */
		if (position->batch && page->last && n < MAX_EVENTS)
		{
			positions_finish_batch(position);
			n += feed_read(position, MAX_EVENTS - n)->nevents;
		}
		values[0] = Int32GetDatum(n);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values,
													  isnull)));
}
