/*
 * stripe_inbox.c
 *	  Events of Stripe's as they are kept, and the rows that they are locked by.
 *
 * Rows are found and written past SQL: that is most of what is done for an
 * event, and no plan that was made while the tables were small must stay.
 */
#include "credits.h"

#include "sql.h"
#include "stripe.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* columns of credits.stripe_subjects */
enum
{
	Anum_stripe_subjects_subject = 1,
	Anum_stripe_subjects_waiting,
	Natts_stripe_subjects = Anum_stripe_subjects_waiting
};

/* columns of credits.stripe_events */
enum
{
	Anum_stripe_events_id = 1,
	Anum_stripe_events_type,
	Anum_stripe_events_object_id,
	Anum_stripe_events_subject,
	Anum_stripe_events_created,
	Anum_stripe_events_received_at,
	Anum_stripe_events_api_version,
	Anum_stripe_events_livemode,
	Anum_stripe_events_result,
	Anum_stripe_events_detail,
	Anum_stripe_events_facts,
	Anum_stripe_events_payload,
	Natts_stripe_events = Anum_stripe_events_payload
};

static StoreTable subjects_table = {
	.name = "stripe_subjects",
	.types = (const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

static StoreIndex subjects_by_subject = {&subjects_table, "stripe_subjects_pkey"};

static StoreTable stripe_events_table = {
	.name = "stripe_events",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TEXTOID, BOOLOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, InvalidOid
	}
};

static StoreIndex events_by_id = {&stripe_events_table, "stripe_events_pkey"};
static StoreIndex events_by_subject = {&stripe_events_table, "stripe_events_subject_idx"};

static SqlStatement note_subject = {
	.text = "UPDATE credits.stripe_subjects SET waiting = $2 WHERE subject = $1",
	.types = (const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement mark_applied = {
	.text = "UPDATE credits.stripe_events SET result = 'applied' "
	"WHERE subject = $1 AND result = 'waiting'",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Locks the tables of the inbox and of the ledger for writing, before anything
 * of them is read.
 */
void
stripe_lock_tables(const char *function)
{
	store_lock_tables(function);
	store_lock_table(&subjects_table);
	store_lock_table(&stripe_events_table);
}

/*
 * Returns a value of a row as an optional text.
 */
static char *
get_text(TupleTableSlot *slot, int attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * Begins a scan of an index for one text.
 */
static void
begin_scan(StoreScan *scan, Store *store, StoreIndex *index, Snapshot snapshot,
		   const char *value)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
	store_scan(scan, store, index, snapshot, &key, 1);
}

/*
 * Raises the error for a subject that others have come to since the snapshot of
 * the transaction.
 */
void
stripe_raise_changed(const char *subject)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Another transaction has come to \"%s\".", subject),
			 errhint("Retry the transaction.")));
}

/*
 * Adds a subject, and so locks it.  Returns false if there is one by now.
 */
static bool
add_subject(Store *store, const char *subject)
{
	Datum		values[Natts_stripe_subjects] = {CStringGetTextDatum(subject)};
	bool		isnull[Natts_stripe_subjects] = {false, true};
	bool		added;

	store_begin_changes(store);
	added = store_insert_unless(store, &subjects_by_subject, values, isnull);
	store_end_changes(store);
	return added;
}

/*
 * Locks a subject, made if need be.  Returns for what it is waiting, NULL if for
 * nothing.
 */
char *
stripe_lock(const char *subject)
{
	Store	   *store = store_open();
	char	   *waiting = NULL;

	for (;;)
	{
		StoreScan	scan;
		TupleTableSlot *slot;
		ItemPointerData tid;

		PushActiveSnapshot(store_snapshot(true));
		begin_scan(&scan, store, &subjects_by_subject, GetActiveSnapshot(),
				   subject);
		slot = store_scan_next(&scan, ForwardScanDirection);
		if (slot)
			tid = slot->tts_tid;
		store_scan_end(&scan);
		if (slot)
		{
			TM_Result	result = store_lock(store, &subjects_table,
											GetActiveSnapshot(), &tid, false,
											&slot);

			PopActiveSnapshot();
			if (result == TM_Ok)
			{
				waiting = get_text(slot, Anum_stripe_subjects_waiting);
				break;
			}
			if (result != TM_Deleted || IsolationUsesXactSnapshot())
				stripe_raise_changed(subject);
			continue;
		}
		PopActiveSnapshot();
		if (add_subject(store, subject))
			break;
		if (IsolationUsesXactSnapshot())
			stripe_raise_changed(subject);
	}
	store_close(store);
	return waiting;
}

/*
 * Returns the events of a subject that were kept before.  Its row is locked, so
 * whatever is committed counts, be it later than the transaction's snapshot: a
 * change of an account since then is refused there.
 */
List *
stripe_read_events(const char *subject)
{
	List	   *events = NIL;
	StoreScan	scan;
	TupleTableSlot *slot;

	PushActiveSnapshot(GetLatestSnapshot());
	begin_scan(&scan, NULL, &events_by_subject, GetActiveSnapshot(), subject);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		StripeEvent *event = palloc0(sizeof(StripeEvent));
		Datum		facts;
		bool		isnull;

		facts = slot_getattr(slot, Anum_stripe_events_facts, &isnull);
		event->type = get_text(slot, Anum_stripe_events_type);
		event->kind = stripe_kind(event->type, &event->rank);
		if (isnull || event->kind == FACT_NONE)
			continue;
		event->facts = DatumGetJsonbPCopy(facts);
		event->id = get_text(slot, Anum_stripe_events_id);
		event->object_id = get_text(slot, Anum_stripe_events_object_id);
		event->result = get_text(slot, Anum_stripe_events_result);
		event->created =
			DatumGetTimestampTz(slot_getattr(slot, Anum_stripe_events_created,
											 &isnull));
		events = lappend(events, event);
	}
	store_scan_end(&scan);
	PopActiveSnapshot();
	return events;
}

/*
 * Returns what came of an event that was kept before.
 */
char *
stripe_find_result(const char *id)
{
	StoreScan	scan;
	TupleTableSlot *slot;
	char	   *result;

	PushActiveSnapshot(GetLatestSnapshot());
	begin_scan(&scan, NULL, &events_by_id, GetActiveSnapshot(), id);
	slot = store_scan_next(&scan, ForwardScanDirection);
	result = slot ? get_text(slot, Anum_stripe_events_result) : NULL;
	store_scan_end(&scan);
	PopActiveSnapshot();
	return result;
}

/*
 * Keeps an event.  Returns false if one of that id was kept before.
 */
bool
stripe_keep_event(const StripeEvent *event, const char *result, Jsonb *detail)
{
	Datum		row[Natts_stripe_events];
	bool		nulls[Natts_stripe_events] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	Store	   *store;
	bool		kept;

#define OPTIONAL_TEXT(a, value) \
	(isnull[a] = (value) == NULL, \
	 values[a] = isnull[a] ? (Datum) 0 : CStringGetTextDatum(value))
	values[Anum_stripe_events_id] = CStringGetTextDatum(event->id);
	values[Anum_stripe_events_type] = CStringGetTextDatum(event->type);
	OPTIONAL_TEXT(Anum_stripe_events_object_id, event->object_id);
	OPTIONAL_TEXT(Anum_stripe_events_subject, event->subject);
	values[Anum_stripe_events_created] = TimestampTzGetDatum(event->created);
	values[Anum_stripe_events_received_at] = TimestampTzGetDatum(clock_now());
	OPTIONAL_TEXT(Anum_stripe_events_api_version, event->api_version);
	values[Anum_stripe_events_livemode] = BoolGetDatum(event->livemode);
	values[Anum_stripe_events_result] = CStringGetTextDatum(result);
	values[Anum_stripe_events_detail] = PointerGetDatum(detail);
	isnull[Anum_stripe_events_detail] = detail == NULL;
	values[Anum_stripe_events_facts] = PointerGetDatum(event->facts);
	isnull[Anum_stripe_events_facts] = event->facts == NULL;
	values[Anum_stripe_events_payload] = PointerGetDatum(event->payload);
#undef OPTIONAL_TEXT
	store = store_open();
	store_begin_changes(store);
	kept = store_insert_unless(store, &events_by_id, row, nulls);
	store_end_changes(store);
	store_close(store);
	return kept;
}

/*
 * Notes at a subject for what it is waiting; events that were waiting and are
 * not any more have been applied.
 */
void
stripe_write_subject(const char *subject, const char *was_waiting, char *waiting)
{
	Datum		values[2];
	bool		isnull[2] = {false, waiting == NULL};

	if (was_waiting == NULL && waiting == NULL)
		return;
	values[0] = CStringGetTextDatum(subject);
	values[1] = waiting ? CStringGetTextDatum(waiting) : (Datum) 0;
	if (waiting == NULL || was_waiting == NULL ||
		strcmp(waiting, was_waiting) != 0)
		(void) sql_run(&note_subject, values, isnull);
	if (waiting == NULL)
		(void) sql_run(&mark_applied, values, NULL);
}
