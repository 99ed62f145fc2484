/*
 * inbox.c
 *	  Stored Stripe events, and the rows of their subjects, which lock them.
 *
 * Rows are read and written through the store and not by SQL.  This is most of
 * the work for an event, and a cached plan made while the tables were small
 * would stay in use after they have grown.
 *
 * Tested in test/sql/stripe.sql, the locks in test/specs/stripe.spec, both under
 * load in test/t/stripe.pl.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/billing.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* The subject of a number of events, and what these are waiting for */
typedef struct Subject
{
	ItemPointerData tid;
	const char *subject;
	char	   *waiting;		/* NULL if for nothing */
} Subject;

static const StoreColumn subject_columns[] = {
	COLUMN_CSTRING(Subject, subject),
	COLUMN_CSTRING(Subject, waiting, NULL_IF_ZERO)
};

static StoreTable subjects_table = {
	.name = "stripe_subjects",
	ROWS_OF(Subject, subject_columns)
};

static StoreIndex subjects_by_subject = {
	&subjects_table, "stripe_subjects_pkey", {"subject"},.unique = true
};

const char *const stripe_result_names[] = {
	"applied", "duplicate", "ignored", "waiting"
};

/* An event as it is stored */
typedef struct KeptEvent
{
	ItemPointerData tid;
	StripeEvent event;			/* without its payload */
	TimestampTz received_at;
	Jsonb	   *detail;
	Datum		payload;		/* jsonb as it is stored: it may be long */
	Datum		body;			/* bytea, the same */
} KeptEvent;

static const StoreColumn kept_event_columns[] = {
	COLUMN_CSTRING(KeptEvent, event.id, AS("id")),
	COLUMN_CSTRING(KeptEvent, event.type, AS("type")),
	COLUMN_CSTRING(KeptEvent, event.object_id, AS("object_id"), NULL_IF_ZERO),
	COLUMN_CSTRING(KeptEvent, event.subject, AS("subject"), NULL_IF_ZERO),
	COLUMN_TIME(KeptEvent, event.created, AS("created")),
	COLUMN_TIME(KeptEvent, received_at),
	COLUMN_CSTRING(KeptEvent, event.api_version, AS("api_version"),
				   NULL_IF_ZERO),
	COLUMN_BOOL(KeptEvent, event.livemode, AS("livemode")),
	COLUMN_ENUM(KeptEvent, event.result, stripe_result_names, AS("result")),
	COLUMN_JSONB(KeptEvent, detail, NULL_IF_ZERO),
	COLUMN_JSONB(KeptEvent, event.facts, AS("facts"), NULL_IF_ZERO),
	COLUMN_TOASTED(JSONBOID, KeptEvent, payload, NULL_IF_ZERO),
	COLUMN_TOASTED(BYTEAOID, KeptEvent, body, NULL_IF_ZERO)
};

static StoreTable stripe_events_table = {
	.name = "stripe_events",
	ROWS_OF(KeptEvent, kept_event_columns)
};

static StoreIndex stripe_events_by_id = {
	&stripe_events_table, "stripe_events_pkey", {"id"},.unique = true
};
static StoreIndex events_by_subject = {
	&stripe_events_table, "stripe_events_subject_idx", {"subject", "created"}
};

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
 * Locks the tables of the inbox and of the ledger for writing.  This must come
 * before anything is read from them, as with ledger_lock_tables.
 */
void
stripe_lock_tables(const char *function)
{
	ledger_lock_tables(function);
	store_lock_table(&subjects_table);
	store_lock_table(&stripe_events_table);
	billing_lock_tables();
}

/*
 * Raises the error for a subject that another transaction has changed since the
 * snapshot of this one was taken.
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
 * Locks a subject, creating its row if there is none.  Returns what it is
 * waiting for, NULL if nothing.
 *
 * The row is written, even if nothing changes, so that a transaction in
 * REPEATABLE READ whose snapshot is older fails when it comes to lock it.
 */
char *
stripe_lock(const char *name)
{
	Store	   *store = store_open();
	text	   *key = cstring_to_text(name);
	char	   *waiting = NULL;

	for (;;)
	{
		Subject		subject;
		bool		found;
		TM_Result	result = TM_Ok;

		PushActiveSnapshot(store_snapshot(true));
		found = scan_find(store, &subjects_by_subject, GetActiveSnapshot(),
						  &subject, BY_TEXT(key));
		if (found)
			result = store_lock(store, &subjects_table, GetActiveSnapshot(),
								&subject, false);
		PopActiveSnapshot();
		if (found && result == TM_Ok)
		{
			store_begin_changes(store);
			store_write(store, &subjects_table, GetLatestSnapshot(), &subject);
			store_end_changes(store);
			waiting = subject.waiting;
			break;
		}
		if (!found)
		{
			Subject		new = {.subject = name};
			bool		added;

			/* a row of our own needs no lock: nobody else sees it yet */
			store_begin_changes(store);
			added = store_insert_unless(store, &subjects_by_subject, &new);
			store_end_changes(store);
			if (added)
				break;
		}

		/*
		 * Another transaction has inserted the row just now, or has deleted
		 * it: look again, if our snapshot can show that.
		 */
		if ((found && result != TM_Deleted) || IsolationUsesXactSnapshot())
			stripe_raise_changed(name);
	}
	store_close(store);
	return waiting;
}

/*
 * Returns the events that a scan finds and that have facts.
 */
static List *
read_events(StoreScan *scan)
{
	List	   *events = NIL;
	KeptEvent	kept;

	while (scan_read(scan, ForwardScanDirection, &kept))
	{
		StripeEvent *event;

		CHECK_FOR_INTERRUPTS();
		kept.event.kind = stripe_kind(kept.event.type, &kept.event.rank);
		if (kept.event.facts == NULL || kept.event.kind == FACT_NONE)
			continue;
		event = palloc(sizeof(StripeEvent));
		*event = kept.event;
		events = lappend(events, event);
	}
	scan_end(scan);
	return events;
}

/*
 * Returns the stored events of a subject, whose row must be locked.  We use the
 * latest snapshot and not the transaction's, so that no committed event is
 * missed.  This is safe in REPEATABLE READ too: if the subject was locked since
 * the transaction's snapshot, locking it fails.
 */
List *
stripe_read_events(const char *subject)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &events_by_subject, GetLatestSnapshot(),
			   BY_TEXT(cstring_to_text(subject)));
	return read_events(&scan);
}

/*
 * Returns the stored events of a subject that happened at an instant.
 */
List *
stripe_read_events_at(const char *subject, TimestampTz created)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &events_by_subject, GetLatestSnapshot(),
			   BY_TEXT(cstring_to_text(subject)), BY_TIME(created));
	return read_events(&scan);
}

/*
 * Finds out what came of a stored event.  Returns false if there is none of
 * that id.
 */
bool
stripe_find_result(const char *id, EventResult *result)
{
	KeptEvent	kept;

	if (!scan_find(NULL, &stripe_events_by_id, GetLatestSnapshot(), &kept,
				   BY_TEXT(cstring_to_text(id))))
		return false;
	*result = kept.event.result;
	return true;
}

/*
 * Stores an event.  Returns false if there is one of that id already.
 */
bool
stripe_keep_event(const StripeEvent *event, EventResult result, Jsonb *detail)
{
	KeptEvent	kept = {
		.event = *event,
		.received_at = clock_now(),
		.detail = detail,
		.payload = event->payload ? JsonbPGetDatum(event->payload) : 0
	};
	Store	   *store;
	bool		added;

	if (event->body)
		kept.body = PointerGetDatum(cstring_to_text_with_len(event->body,
															 event->body_len));
	kept.event.result = result;
	store = store_open();
	store_begin_changes(store);
	added = store_insert_unless(store, &stripe_events_by_id, &kept);
	store_end_changes(store);
	store_close(store);
	return added;
}

/*
 * Stores what a subject is waiting for, if that has changed.  When it no longer
 * waits, its waiting events become applied ones.
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
		(void) statements_run(&note_subject, values, isnull);
	if (waiting == NULL)
		(void) statements_run(&mark_applied, values, NULL);
}
