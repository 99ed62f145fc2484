/*
 * webhook.c
 *	  Stripe webhooks: receiving, storing and applying events.
 *
 * Stripe delivers each event at least once, and events in any order.  So the
 * state of credits is computed from all that is known of a payment or of an
 * invoice, whenever an event about it arrives.  Of a payment, all events are read
 * again; those of subscriptions and invoices are folded into rows (fold.c).
 * Neither order nor repetition can then make a difference.
 *
 * An event that cannot be applied yet, because a price, an account or a
 * purchase is not known here, is left waiting, and an event of our own tells
 * so.  To fail would only make Stripe repeat it for days.  The same goes for what
 * Stripe has signed but we cannot read.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/apply.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/sha2.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(credits_stripe_webhook);
PG_FUNCTION_INFO_V1(credits_stripe_webhook_bytes);
PG_FUNCTION_INFO_V1(credits_stripe_reprocess);

/*
 * How many times credits_stripe_reprocess tries subjects that are locked by
 * others, and how many microseconds it waits between two tries
 */
#define MAX_TRIES 20
#define TRY_INTERVAL 50000L

static SqlStatement find_waiting = {
	.text = "SELECT s.subject FROM credits.stripe_subjects AS s "
	"WHERE s.waiting IS NOT NULL "
	"UNION SELECT a.subject FROM credits.stripe_attention AS a "
	"WHERE a.reason = 'credits that could not be given' ORDER BY 1",
	.types = (const Oid[]) {InvalidOid}
};

/*
 * Returns whether an event repeats another one: with the same type, object and
 * facts, under another id.
 */
static bool
is_repeated(const StripeEvent *event, List *events)
{
	ListCell   *lc;

	foreach(lc, events)
	{
		StripeEvent *other = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (other != event && strcmp(other->type, event->type) == 0 &&
			strcmp(other->object_id, event->object_id) == 0 &&
			compareJsonbContainers(&other->facts->root,
								   &event->facts->root) == 0)
			return true;
	}
	return false;
}

/*
 * Makes a credits.stripe_result.
 */
static HeapTuple
result_tuple(TupleDesc tupdesc, const char *id, const char *type,
			 EventResult result, Jsonb *detail)
{
	Datum		values[4];
	bool		isnull[4] = {false};

	values[0] = CStringGetTextDatum(id);
	values[1] = CStringGetTextDatum(type);
	values[2] = CStringGetTextDatum(stripe_result_names[result]);
	values[3] = PointerGetDatum(detail);
	isnull[3] = detail == NULL;
	return heap_form_tuple(tupdesc, values, isnull);
}

/*
 * Returns a result to the caller.
 */
Datum
stripe_result_datum(FunctionCallInfo fcinfo, const char *id, const char *type,
					EventResult result, Jsonb *detail)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 4);
	HeapTuple	tuple = result_tuple(tupdesc, id, type, result, detail);

	ReleaseTupleDesc(tupdesc);
	return HeapTupleGetDatum(tuple);
}

/*
 * Returns the result of an event to the caller.
 */
static Datum
result_datum(FunctionCallInfo fcinfo, const StripeEvent *event,
			 EventResult result, Jsonb *detail)
{
	return stripe_result_datum(fcinfo, event->id, event->type, result, detail);
}

/*
 * Returns to the caller that an event is a duplicate, and the result that it
 * had when it first arrived.
 */
static Datum
result_of_first(FunctionCallInfo fcinfo, const StripeEvent *event,
				EventResult first)
{
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "event_id", event->id);
	json_cstring(&json, "first", first == RESULT_UNKNOWN ? "unknown" :
				 stripe_result_names[first]);
	return result_datum(fcinfo, event, RESULT_DUPLICATE,
						json_document(&json));
}

/*
 * Stores an event that does not concern us.
 */
static Datum
ignore_event(FunctionCallInfo fcinfo, const StripeEvent *event)
{
	EventResult first;

	if (stripe_keep_event(event, RESULT_IGNORED, NULL))
		return result_datum(fcinfo, event, RESULT_IGNORED, NULL);
	if (!stripe_find_result(event->id, &first))
		stripe_raise_changed(event->id);
	return result_of_first(fcinfo, event, first);
}

/*
 * Returns the result that an event of a subject had when it arrived before.
 * Returns false if it did not.
 */
static bool
find_first(const StripeEvent *event, List *events, EventResult *first)
{
	ListCell   *lc;

	if (apply_kind(event) != SUBJECT_PAYMENT)
		return stripe_find_result(event->id, first);
	foreach(lc, events)
	{
		StripeEvent *other = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (strcmp(other->id, event->id) == 0)
		{
			*first = other->result;
			return true;
		}
	}
	return false;
}

/*
 * Stores and applies an event, once.
 */
static Datum
handle_event(FunctionCallInfo fcinfo, StripeEvent *event)
{
	Application a = {.subject = event->subject,.event = event};
	Fold		fold;
	StripeOutcome outcome;
	List	   *linked;
	List	   *events;
	EventResult result;
	EventResult first;
	Jsonb	   *detail = NULL;

	stripe_lock_tables("credits_stripe_webhook()");
	if (event->subject == NULL)
		return ignore_event(fcinfo, event);
	a.kind = apply_kind(event);
	a.was_waiting = apply_lock(a.kind, a.subject, event, &linked);
	/* only now, so that we see the events of whoever had the lock before */
	events = a.kind == SUBJECT_PAYMENT ? stripe_read_events(a.subject) :
		stripe_read_events_at(a.subject, event->created);
	if (find_first(event, events, &first))
		return result_of_first(fcinfo, event, first);
	events = lappend(events, event);
	if (a.kind == SUBJECT_PAYMENT)
		a.events = events;
	else
	{
		fold_event(&fold, event);
		a.fold = &fold;
	}
	apply_and_note(&a, &outcome);
	if (a.kind != SUBJECT_PAYMENT)
		apply_waiting_payments(linked);

	if (outcome.waiting)
	{
		json_cstring(&outcome.detail, "missing", outcome.waiting);
		result = RESULT_WAITING;
	}
	else if (!outcome.applied)
		result = RESULT_IGNORED;
	else
		result = outcome.changed || !is_repeated(event, events) ?
			RESULT_APPLIED : RESULT_DUPLICATE;
	if (outcome.detail.nmembers > 0)
		detail = json_document(&outcome.detail);
	if (!stripe_keep_event(event, result, detail))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("an event with that id was stored with different content"),
				 errdetail("It is \"%s\".", event->id),
				 errhint("Compare it with the one in credits.stripe_events.")));
	return result_datum(fcinfo, event, result, detail);
}

/*
 * Returns a copy of bytes, with a terminator.
 */
static char *
terminated(const char *bytes, int len)
{
	char	   *copy = palloc(len + 1);

	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

/*
 * Parses JSON that is in the database encoding or, if is_utf8, in UTF-8.  Returns
 * NULL if that cannot be done, with the reason.
 */
static Jsonb *
parse(const char *text, int len, bool is_utf8, char **reason)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *json = NULL;

	PG_TRY();
	{
		char	   *copy = terminated(text, len);

		/* this checks all len bytes */
		if (is_utf8)
			copy = pg_any_to_server(copy, len, PG_UTF8);
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(copy)));
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			category;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		/* the second if it is nested too deeply */
		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		*reason = psprintf("%s: %s", sqlstate_text(error->sqlerrcode),
						   error->message);
	}
	PG_END_TRY();
	return json;
}

/*
 * Returns a copy of JSON in which the replacement character U+FFFD stands for the
 * character 0, which jsonb cannot hold.
 */
static char *
without_zeros(const char *text, int len)
{
	char	   *copy = terminated(text, len);
	int			i;

	for (i = 0; i + 1 < len; i++)
	{
		if (copy[i] != '\\')
			continue;
		if (i + 5 < len && memcmp(&copy[i + 1], "u0000", 5) == 0)
			memcpy(&copy[i + 2], "fffd", 4);
		/* whatever follows is not the beginning of an escape */
		i++;
	}
	return copy;
}

/*
 * Parses a payload.  Returns NULL if that cannot be done, with the reason.  Sets
 * exact to false if the result is not quite what was sent.
 */
static Jsonb *
parse_payload(const char *payload, int len, bool is_utf8, bool *exact,
			  char **reason)
{
	Jsonb	   *json = parse(payload, len, is_utf8, reason);
	char	   *ignored;

	*exact = json != NULL;
	if (json == NULL)
		json = parse(without_zeros(payload, len), len, is_utf8, &ignored);
	return json;
}

/*
 * Raises an error if the payload is missing, or nothing may be written.
 */
static void
check_payload(FunctionCallInfo fcinfo)
{
	store_check_writable("credits_stripe_webhook()");
	if (PG_ARGISNULL(0))
		raise_null("payload");
}

/*
 * Returns an id for what Stripe has signed but has none: its SHA-256 hash.
 */
static char *
made_up_id(const char *body, int len)
{
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
														   PointerGetDatum(cstring_to_text_with_len(body, len))));
	char		hex[2 * PG_SHA256_DIGEST_LENGTH + 1];

	hex[hex_encode(VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash), hex)] = '\0';
	return psprintf("sha256_%s", hex);
}

/*
 * Stores what Stripe has signed but is no event, or none that we can read, and
 * announces it, once.  Its subject is the event itself.
 */
static Datum
keep_unreadable(FunctionCallInfo fcinfo, StripeEvent *event,
				const char *body, int len, const char *reason)
{
	StripeOutcome outcome = {.alert = "stripe_refused"};
	Application a = {.event = event};
	EventResult first;

	stripe_lock_tables("credits_stripe_webhook()");
	if (event->id == NULL || strlen(event->id) > MAX_NAME_BYTES)
		event->id = made_up_id(body, len);
	if (event->type == NULL || strlen(event->type) > MAX_NAME_BYTES)
		event->type = "unreadable";
	if (event->object_id && strlen(event->object_id) > MAX_NAME_BYTES)
		event->object_id = NULL;
	if (event->created == 0)
		event->created = clock_now();
	event->subject = event->id;
	event->facts = NULL;
	json_begin(&outcome.detail);
	outcome.waiting = psprintf("an event that can be read: %s", reason);
	json_cstring(&outcome.detail, "missing", outcome.waiting);

	a.subject = event->subject;
	a.was_waiting = stripe_lock(event->subject);
	if (!stripe_keep_event(event, RESULT_WAITING,
						   json_document(&outcome.detail)))
	{
		if (!stripe_find_result(event->id, &first))
			stripe_raise_changed(event->id);
		return result_of_first(fcinfo, event, first);
	}
	apply_announce(&a, &outcome);
	stripe_write_subject(event->subject, a.was_waiting, outcome.waiting);
	return result_datum(fcinfo, event, RESULT_WAITING,
						json_document(&outcome.detail));
}

/*
 * Stores and applies an event whose signature has been verified.  body is the
 * payload as it was signed, in UTF-8.
 */
static Datum
receive_event(FunctionCallInfo fcinfo, const char *payload, int len,
			  bool is_utf8, const char *body, int body_len)
{
	StripeEvent event = {0};
	Jsonb	   *json;
	char	   *problem = NULL;
	const char *reason;
	bool		exact;

	json = parse_payload(payload, len, is_utf8, &exact, &problem);
	if (!exact)
	{
		event.body = body;
		event.body_len = body_len;
	}
	reason = json ? stripe_read_event(json, &event) : problem;
	if (reason == NULL)
		stripe_forget_person(&event);
	return reason ? keep_unreadable(fcinfo, &event, body, body_len, reason) :
		handle_event(fcinfo, &event);
}

/*
 * Returns the Stripe-Signature header, NULL if there is none.
 */
static text *
arg_signature(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
}

/*
 * Handles an event whose payload is passed as text.  Stripe has signed it in
 * UTF-8, so it is verified in that encoding.
 */
Datum
credits_stripe_webhook(PG_FUNCTION_ARGS)
{
	text	   *payload;
	char	   *utf8;
	char	   *data;
	int			len;
	int			utf8_len;

	check_payload(fcinfo);
	payload = PG_GETARG_TEXT_PP(0);
	data = VARDATA_ANY(payload);
	len = VARSIZE_ANY_EXHDR(payload);
	utf8 = pg_server_to_any(data, len, PG_UTF8);
	utf8_len = utf8 == data ? len : (int) strlen(utf8);
	stripe_verify(utf8, utf8_len, arg_signature(fcinfo));
	return receive_event(fcinfo, data, len, false, utf8, utf8_len);
}

/*
 * Handles an event whose payload is passed as bytea.
 */
Datum
credits_stripe_webhook_bytes(PG_FUNCTION_ARGS)
{
	bytea	   *payload;
	char	   *data;
	int			len;

	check_payload(fcinfo);
	payload = PG_GETARG_BYTEA_PP(0);
	data = VARDATA_ANY(payload);
	len = VARSIZE_ANY_EXHDR(payload);
	stripe_verify(data, len, arg_signature(fcinfo));
	return receive_event(fcinfo, data, len, true, data, len);
}

/*
 * Returns to the caller those of a subject's events that were waiting, with
 * their new result.
 */
static void
return_waiting(ReturnSetInfo *set, List *events, EventResult result,
			   Jsonb *detail)
{
	ListCell   *lc;

	foreach(lc, events)
	{
		StripeEvent *event = lfirst(lc);

		if (event->result == RESULT_WAITING)
			tuplestore_puttuple(set->setResult,
								result_tuple(set->setDesc, event->id,
											 event->type, result, detail));
	}
}

/* The waiting events of a subject, and what applying them came to */
typedef struct Reprocessing
{
	const char *subject;
	List	   *events;
	StripeOutcome outcome;
} Reprocessing;

/*
 * Applies the waiting events of a subject, and fails if another transaction holds
 * a lock that this needs.
 */
static void
reprocess_subject(void *arg)
{
	Reprocessing *r = arg;
	int			nest = NewGUCNestLevel();
	Application a = {.subject = r->subject};
	Fold		fold = {0};
	List	   *linked;

	/*
	 * store_set_nowait is for the rows that the store locks.  A lock that a
	 * statement needs is given up after the shortest timeout there is.
	 */
	(void) set_config_option("lock_timeout", "1ms", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

	/* what its events are about never changes */
	r->events = stripe_read_events(r->subject);
	if (r->events != NIL)
	{
		a.kind = apply_kind(linitial(r->events));
		a.was_waiting = apply_lock(a.kind, r->subject, NULL, &linked);
		/* another transaction may have applied them meanwhile */
		r->events = a.was_waiting || a.kind == SUBJECT_SUBSCRIPTION ?
			stripe_read_events(r->subject) : NIL;
	}
	if (r->events != NIL)
	{
		a.events = r->events;
		if (a.kind == SUBJECT_SUBSCRIPTION)
		{
			fold.billed = billing_subscription(r->subject);
			fold.all = true;
			a.fold = &fold;
		}
		apply_and_note(&a, &r->outcome);
	}
	AtEOXact_GUC(true, nest);
}

/*
 * Applies the waiting events of a subject in a subtransaction, and returns them
 * to the caller.  Returns false, with nothing done and no lock kept, if another
 * transaction holds a lock that this needs.
 */
static bool
try_subject(const char *subject, ReturnSetInfo *set)
{
	Reprocessing r = {.subject = subject};
	bool		before = store_set_nowait(true);
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		error = catch_error(reprocess_subject, &r);
	}
	PG_FINALLY();
	{
		(void) store_set_nowait(before);
	}
	PG_END_TRY();
	if (error)
	{
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		return false;
	}
	if (r.events == NIL)
		return true;
	if (r.outcome.waiting)
		json_cstring(&r.outcome.detail, "missing", r.outcome.waiting);
	return_waiting(set, r.events,
				   r.outcome.waiting ? RESULT_WAITING : RESULT_APPLIED,
				   r.outcome.detail.nmembers > 0 ? json_document(&r.outcome.detail) : NULL);
	return true;
}

/*
 * Applies the waiting events of some subjects, each in a memory context of its
 * own.  Returns the subjects that are locked by others.
 */
static List *
try_subjects(List *subjects, ReturnSetInfo *set)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext each = AllocSetContextCreate(context, "credits subject",
											   ALLOCSET_DEFAULT_SIZES);
	List	   *busy = NIL;
	ListCell   *lc;

	foreach(lc, subjects)
	{
		bool		done;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(each);
		done = try_subject(lfirst(lc), set);
		MemoryContextSwitchTo(context);
		MemoryContextReset(each);
		if (!done)
			busy = lappend(busy, lfirst(lc));
	}
	MemoryContextDelete(each);
	return busy;
}

/*
 * Applies the events that are waiting, and returns them.
 *
 * The locks for one subject are held until the end of the transaction, while
 * webhooks lock subjects and accounts in another order.  To avoid deadlocks, we
 * never wait for a lock.  Subjects that are locked by others are tried again
 * for a second, and then stay waiting.
 */
Datum
credits_stripe_reprocess(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	SqlResult  *waiting;
	List	   *subjects = NIL;
	ListCell   *lc;
	uint64		i;
	int			tries;

	stripe_lock_tables("credits_stripe_reprocess()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(set->setDesc, 4);
	waiting = statements_run(&find_waiting, NULL, NULL);
	for (i = 0; i < waiting->nrows; i++)
		subjects = lappend(subjects, stripe_text_of(waiting, i));
	subjects = try_subjects(subjects, set);
	for (tries = 1; subjects != NIL && tries < MAX_TRIES; tries++)
	{
		pg_usleep(TRY_INTERVAL);
		subjects = try_subjects(subjects, set);
	}
	foreach(lc, subjects)
	{
		JsonObject	json;

		json_begin(&json);
		json_cstring(&json, "missing", "a lock that another transaction holds");
		return_waiting(set, stripe_read_events(lfirst(lc)), RESULT_WAITING,
					   json_document(&json));
	}
	PG_RETURN_NULL();
}
