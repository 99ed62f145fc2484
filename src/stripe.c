/*
 * stripe.c
 *	  Webhooks of Stripe: what is done with an event.
 *
 * Stripe delivers an event at least once, and events in any order.  So nothing
 * is computed from one event alone: what credits are to be is computed from all
 * events of its subject, a payment or a subscription, whenever one more comes.
 * Then order and repetition cannot matter.
 *
 * The subject's row is locked first, then its events are read, so that of two
 * events at once the later one sees both.  Locks are taken in this order:
 * subscription, invoices, payments, each a row of credits.stripe_subjects, then
 * accounts.
 *
 * What cannot be applied yet, for want of a price, an account or a purchase,
 * waits, and an event of ours says so: to fail would only make Stripe repeat it
 * for days.
 */
#include "credits.h"

#include "sql.h"
#include "stripe.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(credits_stripe_webhook);
PG_FUNCTION_INFO_V1(credits_stripe_webhook_bytes);
PG_FUNCTION_INFO_V1(credits_stripe_reprocess);

/* webhooks lock a subject and then an account; this is in none's way */
static SqlStatement lock_subjects = {
	.text = "LOCK TABLE credits.stripe_subjects IN SHARE ROW EXCLUSIVE MODE",
	.types = (const Oid[]) {InvalidOid}
};

static SqlStatement find_waiting = {
	.text = "SELECT s.subject FROM credits.stripe_subjects AS s "
	"WHERE s.waiting IS NOT NULL ORDER BY s.subject",
	.types = (const Oid[]) {InvalidOid}
};

/* A subject that is waiting, and the account that it would change */
typedef struct Waiting
{
	char	   *subject;
	int64		account_id;		/* 0 if none */
} Waiting;

/*
 * Tells whether an event is about a subscription, not a payment.
 */
static bool
is_of_subscription(const StripeEvent *event)
{
	switch (event->kind)
	{
		case FACT_SUBSCRIPTION:
		case FACT_INVOICE:
			return true;
		case FACT_SESSION:
			return stripe_get(&event->facts->root, "mode") != NULL;
		default:
			return false;
	}
}

/*
 * Announces for what a subject is waiting, if that is news.
 */
static void
announce(const char *subject, const char *was_waiting, List *events,
		 const StripeOutcome *outcome)
{
	StringInfoData json;
	const StripeEvent *last = llast(events);

	if (outcome->alert == NULL || outcome->waiting == NULL ||
		(was_waiting && strcmp(was_waiting, outcome->waiting) == 0))
		return;
	initStringInfo(&json);
	json_cstring(&json, "subject", subject);
	json_cstring(&json, "missing", outcome->waiting);
	json_cstring(&json, "event_id", last->id);
	json_cstring(&json, "type", last->type);
	alerts_announce(outcome->alert, outcome->account_id, 0, clock_now(),
					json_document(&json));
}

/*
 * Tells whether an error is one that repeating the event would bring again: of
 * a closed account, or a plan of another unit.
 */
static bool
is_refusal(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_NOT_FOUND) ||
		category == ERRCODE_DATA_EXCEPTION;
}

/*
 * Brings credits to what the events of a subject say, in a subtransaction: if
 * that is refused nothing of it is done, and it waits.
 */
static void
try_apply(const char *subject, const char *was_waiting, List *events,
		  StripeOutcome *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	List	   *ordered = list_copy(events);
	bool		subscription = false;
	ListCell   *lc;

	memset(outcome, 0, sizeof(StripeOutcome));
	initStringInfo(&outcome->detail);
	outcome->was_waiting = was_waiting;
	foreach(lc, events)
		subscription |= is_of_subscription(lfirst(lc));
	list_sort(ordered, stripe_compare);

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		if (subscription)
			stripe_apply_subscription(subject, ordered, outcome);
		else
			stripe_apply_payment(subject, ordered, outcome);
		MemoryContextSwitchTo(context);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error == NULL)
		return;
	if (!is_refusal(error))
		ReThrowError(error);
	memset(outcome, 0, sizeof(StripeOutcome));
	initStringInfo(&outcome->detail);
	outcome->waiting = psprintf("%s: %s", sqlstate_text(error->sqlerrcode),
								error->message);
	outcome->alert = "stripe_refused";
}

/*
 * Brings credits to what the events of a subject say.  Its row is locked.
 */
static void
apply(const char *subject, const char *was_waiting, List *events,
	  StripeOutcome *outcome)
{
	try_apply(subject, was_waiting, events, outcome);
	announce(subject, was_waiting, events, outcome);
	stripe_write_subject(subject, was_waiting, outcome->waiting);
}

/*
 * Applies the payments of invoices that were recorded just now: what was
 * refunded or disputed of them may have come before.
 */
static void
apply_payments(List *payments)
{
	ListCell   *lc;

	foreach(lc, payments)
	{
		char	   *subject = lfirst(lc);
		char	   *waiting = stripe_lock(subject);
		List	   *events = stripe_read_events(subject);
		StripeOutcome outcome;

		if (events != NIL)
			apply(subject, waiting, events, &outcome);
	}
}

/*
 * Tells whether an event says nothing that another has not said: the same type
 * for the same object, and the same facts.
 */
static bool
is_repeated(const StripeEvent *event, List *events)
{
	ListCell   *lc;

	foreach(lc, events)
	{
		StripeEvent *other = lfirst(lc);

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
			 const char *result, Jsonb *detail)
{
	Datum		values[4];
	bool		isnull[4] = {false};

	values[0] = CStringGetTextDatum(id);
	values[1] = CStringGetTextDatum(type);
	values[2] = CStringGetTextDatum(result);
	values[3] = PointerGetDatum(detail);
	isnull[3] = detail == NULL;
	return heap_form_tuple(tupdesc, values, isnull);
}

/*
 * Returns what came of an event.
 */
static Datum
result_datum(FunctionCallInfo fcinfo, const StripeEvent *event,
			 const char *result, Jsonb *detail)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	HeapTuple	tuple = result_tuple(tupdesc, event->id, event->type, result,
									 detail);

	ReleaseTupleDesc(tupdesc);
	return HeapTupleGetDatum(tuple);
}

/*
 * Returns what came of an event when it first came.
 */
static Datum
result_of_first(FunctionCallInfo fcinfo, const StripeEvent *event,
				const char *first)
{
	StringInfoData json;

	initStringInfo(&json);
	json_cstring(&json, "event_id", event->id);
	json_cstring(&json, "first", first);
	return result_datum(fcinfo, event, "duplicate", json_document(&json));
}

/*
 * Keeps an event that nothing is done with.
 */
static Datum
ignore_event(FunctionCallInfo fcinfo, const StripeEvent *event)
{
	char	   *first;

	if (stripe_keep_event(event, "ignored", NULL))
		return result_datum(fcinfo, event, "ignored", NULL);
	first = stripe_find_result(event->id);
	if (first == NULL)
		stripe_raise_changed(event->id);
	return result_of_first(fcinfo, event, first);
}

/*
 * Keeps and applies an event, once.
 */
static Datum
handle_event(FunctionCallInfo fcinfo, StripeEvent *event)
{
	StripeOutcome outcome;
	List	   *events;
	ListCell   *lc;
	char	   *waiting;
	const char *result;
	Jsonb	   *detail = NULL;

	stripe_lock_tables("credits_stripe_webhook()");
	if (event->subject == NULL)
		return ignore_event(fcinfo, event);
	if (event->kind == FACT_CHARGE || event->kind == FACT_REFUND ||
		event->kind == FACT_DISPUTE || event->kind == FACT_INVOICE_PAYMENT)
		stripe_link_payment(event);
	waiting = stripe_lock(event->subject);
	events = stripe_read_events(event->subject);
	foreach(lc, events)
	{
		StripeEvent *other = lfirst(lc);

		if (strcmp(other->id, event->id) == 0)
			return result_of_first(fcinfo, event, other->result);
	}
	events = lappend(events, event);
	apply(event->subject, waiting, events, &outcome);
	apply_payments(outcome.payments);

	if (outcome.waiting)
	{
		json_cstring(&outcome.detail, "missing", outcome.waiting);
		result = "waiting";
	}
	else if (!outcome.applied)
		result = "ignored";
	else
		result = outcome.changed || !is_repeated(event, events) ?
			"applied" : "duplicate";
	if (outcome.detail.len > 0)
		detail = json_document(&outcome.detail);
	if (!stripe_keep_event(event, result, detail))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("an event of that id was kept with another content"),
				 errdetail("It is \"%s\".", event->id),
				 errhint("Compare it with the one in credits.stripe_events.")));
	return result_datum(fcinfo, event, result, detail);
}

/*
 * Reads a payload as JSON in the encoding of the database, or raises an error.
 */
static Jsonb *
parse_payload(char *payload, int len, bool is_utf8)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *json;

	PG_TRY();
	{
		char	   *text = pnstrdup(payload, len);

		if (is_utf8)
			text = pg_any_to_server(text, len, PG_UTF8);
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												  CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload is not JSON"),
				 errdetail_internal("%s.", error->message),
				 errhint("Pass the body of the request as it came.")));
	}
	PG_END_TRY();
	return json;
}

/*
 * Raises the error for a payload that is not there.
 */
static void
check_payload(FunctionCallInfo fcinfo)
{
	store_check_writable("credits_stripe_webhook()");
	if (PG_ARGISNULL(0))
		raise_null("payload");
}

/*
 * Verifies an event, keeps and applies it.
 */
static Datum
receive_event(FunctionCallInfo fcinfo, char *payload, int len, bool is_utf8)
{
	StripeEvent event;

	stripe_read_event(parse_payload(payload, len, is_utf8), &event);
	return handle_event(fcinfo, &event);
}

/*
 * Returns the header that is to be checked, NULL if there is none.
 */
static text *
arg_signature(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
}

/*
 * Verifies, keeps and applies an event that came as text: Stripe signed it in
 * UTF-8.
 */
Datum
credits_stripe_webhook(PG_FUNCTION_ARGS)
{
	text	   *payload;
	char	   *utf8;
	char	   *data;
	int			len;

	check_payload(fcinfo);
	payload = PG_GETARG_TEXT_PP(0);
	data = VARDATA_ANY(payload);
	len = VARSIZE_ANY_EXHDR(payload);
	utf8 = pg_server_to_any(data, len, PG_UTF8);
	stripe_verify(utf8, utf8 == data ? len : (int) strlen(utf8),
				  arg_signature(fcinfo));
	return receive_event(fcinfo, data, len, false);
}

/*
 * Verifies, keeps and applies an event that came as bytes.
 */
Datum
credits_stripe_webhook_bytes(PG_FUNCTION_ARGS)
{
	bytea	   *payload;

	check_payload(fcinfo);
	payload = PG_GETARG_BYTEA_PP(0);
	stripe_verify(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
				  arg_signature(fcinfo));
	return receive_event(fcinfo, VARDATA_ANY(payload),
						 VARSIZE_ANY_EXHDR(payload), true);
}

/*
 * Applies what is waiting of a subject to see whose account that changes, and
 * takes it back.
 */
static int64
account_of(const char *subject)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	StripeOutcome outcome = {0};

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		List	   *events;
		char	   *waiting;

		MemoryContextSwitchTo(context);
		waiting = stripe_lock(subject);
		events = stripe_read_events(subject);
		if (events != NIL)
			try_apply(subject, waiting, events, &outcome);
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(context);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	return outcome.account_id;
}

/*
 * Compares waiting subjects by their accounts, the order that accounts are
 * locked in.
 */
static int
compare_waiting(const ListCell *a, const ListCell *b)
{
	const Waiting *left = lfirst(a);
	const Waiting *right = lfirst(b);

	if (left->account_id != right->account_id)
		return left->account_id < right->account_id ? -1 : 1;
	return strcmp(left->subject, right->subject);
}

/*
 * Returns the subjects that are waiting, as they are to be applied.
 */
static List *
read_waiting(void)
{
	SqlResult  *subjects = sql_run(&find_waiting, NULL, NULL);
	List	   *list = NIL;
	uint64		i;

	for (i = 0; i < subjects->nrows; i++)
	{
		Waiting    *waiting = palloc0(sizeof(Waiting));

		CHECK_FOR_INTERRUPTS();
		waiting->subject = stripe_text_of(subjects, i);
		waiting->account_id = account_of(waiting->subject);
		list = lappend(list, waiting);
	}
	list_sort(list, compare_waiting);
	return list;
}

/*
 * Applies what is waiting.  Returns the events that were waiting.
 */
Datum
credits_stripe_reprocess(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *next;

	store_lock_tables("credits_stripe_reprocess()");
	(void) sql_run(&lock_subjects, NULL, NULL);
	stripe_lock_tables("credits_stripe_reprocess()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(next, read_waiting())
	{
		char	   *subject = ((Waiting *) lfirst(next))->subject;
		char	   *waiting = stripe_lock(subject);
		List	   *events = stripe_read_events(subject);
		StripeOutcome outcome;
		Jsonb	   *detail = NULL;
		ListCell   *lc;

		/* another may have been faster */
		if (waiting == NULL || events == NIL)
			continue;
		apply(subject, waiting, events, &outcome);
		apply_payments(outcome.payments);
		if (outcome.waiting)
			json_cstring(&outcome.detail, "missing", outcome.waiting);
		if (outcome.detail.len > 0)
			detail = json_document(&outcome.detail);
		foreach(lc, events)
		{
			StripeEvent *event = lfirst(lc);

			if (strcmp(event->result, "waiting") == 0)
				tuplestore_puttuple(set->setResult,
									result_tuple(set->setDesc, event->id,
												 event->type,
												 outcome.waiting ? "waiting" : "applied",
												 detail));
		}
	}
	PG_RETURN_NULL();
}
