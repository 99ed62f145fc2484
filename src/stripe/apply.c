/*
 * apply.c
 *	  Locking what a Stripe event is about, and applying what is known of it.
 *
 * Locks are rows of credits.stripe_subjects, taken in this order: payments, then
 * invoices, then subscriptions, and at last accounts.  Which invoices a payment
 * is for is known once the payment is locked, and which subscription an invoice
 * bills once the invoice is.  So of two events that arrive at once, the second
 * sees what the first has done.
 *
 * What is known is applied in a subtransaction.  If that is refused, because the
 * account is closed for instance, the subject waits.
 *
 * The locks are tested in test/specs/stripe.spec.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/apply.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

/*
 * Returns what the subject of an event is.
 */
SubjectKind
apply_kind(const StripeEvent *event)
{
	switch (event->kind)
	{
		case FACT_SUBSCRIPTION:
		case FACT_INVOICE_ITEM:
			return SUBJECT_SUBSCRIPTION;
		case FACT_INVOICE:
			return other_invoices_is_one(event) ?
				SUBJECT_INVOICE : SUBJECT_SUBSCRIPTION;
		case FACT_CREDIT_NOTE:
			return SUBJECT_INVOICE;
		case FACT_SESSION:
			/* facts have a mode only if it is that of a subscription */
			return stripe_get(&event->facts->root, "mode") != NULL ?
				SUBJECT_SUBSCRIPTION : SUBJECT_PAYMENT;
		default:
			return SUBJECT_PAYMENT;
	}
}

/* ------------------------------------------------------------------------
 * locking
 */

/*
 * Compares two ids.
 */
static int
compare_ids(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/*
 * Locks subjects, in order of their ids.  Returns those that are waiting for
 * something, and sets waiting to what the one named is waiting for.
 */
static List *
lock_ids(List *ids, const char *named, char **waiting)
{
	List	   *ones = NIL;
	const char *last = NULL;
	ListCell   *lc;

	list_sort(ids, compare_ids);
	foreach(lc, ids)
	{
		char	   *id = lfirst(lc);
		char	   *was;

		CHECK_FOR_INTERRUPTS();
		if (last && strcmp(last, id) == 0)
			continue;
		last = id;
		was = stripe_lock(id);
		if (strcmp(id, named) == 0)
			*waiting = was;
		if (was)
			ones = lappend(ones, id);
	}
	return ones;
}

/*
 * Returns the payments that an event about an invoice names.
 */
static List *
payments_of(const StripeEvent *event)
{
	JsonbValue *said = stripe_get(&event->facts->root, "payments");
	List	   *payments = NIL;
	uint32		i;

	for (i = 0; said && i < JsonContainerSize(said->val.binary.data); i++)
	{
		JsonbValue *payment =
			getIthJsonbValueFromContainer(said->val.binary.data, i);

		CHECK_FOR_INTERRUPTS();
		payments = lappend(payments, pnstrdup(payment->val.string.val,
											  payment->val.string.len));
	}
	return payments;
}

/*
 * Locks a subject and what it leads to, and links payments with invoices, if the
 * event, which may be NULL, tells so.  Returns what the subject is waiting for.
 * Linked is set to the payments that are linked with an invoice by the event and
 * are waiting for something.
 */
char *
apply_lock(SubjectKind kind, const char *subject, const StripeEvent *event,
		   List **linked)
{
	List	   *payments = NIL;
	List	   *invoices = NIL;
	List	   *subscriptions = NIL;
	char	   *waiting = NULL;
	char	   *said;
	ListCell   *lc;

	*linked = NIL;
	if (kind == SUBJECT_PAYMENT)
		payments = list_make1(pstrdup(subject));
	else if (event && event->kind == FACT_INVOICE)
		payments = payments_of(event);
	*linked = lock_ids(payments, subject, &waiting);

	if (event && event->kind == FACT_INVOICE)
	{
		invoices = list_make1(event->object_id);
		foreach(lc, payments)
			stripe_add_link(lfirst(lc), event->object_id);
	}
	else if (kind == SUBJECT_INVOICE)
		invoices = list_make1(pstrdup(subject));
	else if (kind == SUBJECT_PAYMENT && event && event->kind != FACT_INTENT)
	{
		said = stripe_text(&event->facts->root, "invoice");
		if (said)
			stripe_add_link(subject, said);
		if (said || event->kind != FACT_SESSION)
			invoices = stripe_find_invoices(subject);
	}
	else if (kind == SUBJECT_PAYMENT && event == NULL)
		invoices = stripe_find_invoices(subject);
	(void) lock_ids(invoices, subject, &waiting);

	if (kind == SUBJECT_SUBSCRIPTION)
		subscriptions = list_make1(pstrdup(subject));
	foreach(lc, invoices)
	{
		Invoice		invoice;

		if (billing_find_invoice(lfirst(lc), &invoice))
			subscriptions = lappend(subscriptions,
									unconstify(char *, invoice.subscription));
	}
	(void) lock_ids(subscriptions, subject, &waiting);
	return waiting;
}

/* ------------------------------------------------------------------------
 * applying
 */

/*
 * Announces what a subject is waiting for, unless that was announced before.
 */
void
apply_announce(const Application *a, const StripeOutcome *outcome)
{
	JsonObject	json;
	const StripeEvent *last = a->event ? a->event :
		a->events ? llast(a->events) : NULL;

	if (outcome->alert == NULL || outcome->waiting == NULL ||
		(a->was_waiting && strcmp(a->was_waiting, outcome->waiting) == 0))
		return;
	json_begin(&json);
	json_cstring(&json, "subject", a->subject);
	json_cstring(&json, "missing", outcome->waiting);
	if (last)
	{
		json_cstring(&json, "event_id", last->id);
		json_cstring(&json, "type", last->type);
	}
	events_announce(outcome->alert, outcome->account_id, 0, clock_now(),
					&json);
}

/*
 * Announces an invoice that has become known without all of its lines.
 */
static void
announce_incomplete(const Application *a, const StripeOutcome *outcome)
{
	JsonObject	json;

	if (a->fold == NULL || a->fold->incomplete == NULL)
		return;
	json_begin(&json);
	json_cstring(&json, "invoice", a->fold->incomplete);
	json_cstring(&json, "subject", a->subject);
	json_cstring(&json, "event_id", a->event->id);
	json_cstring(&json, "type", a->event->type);
	events_announce("stripe_incomplete", outcome->account_id, 0, clock_now(),
					&json);
}

/*
 * Returns whether an error would come again if the event was repeated, such as
 * that of a closed account or of a plan in another unit.
 */
static bool
is_refusal(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_NOT_FOUND) ||
		category == ERRCODE_DATA_EXCEPTION ||
		error->sqlerrcode == ERRCODE_CHECK_VIOLATION;
}

/* The arguments of apply_subject */
typedef struct Attempt
{
	const Application *application;
	StripeOutcome *outcome;
} Attempt;

/*
 * Applies what is known of a subject.
 */
static void
apply_subject(void *arg)
{
	const Application *a = ((Attempt *) arg)->application;
	StripeOutcome *outcome = ((Attempt *) arg)->outcome;
	List	   *ordered;

	switch (a->kind)
	{
		case SUBJECT_PAYMENT:
			ordered = list_copy(a->events);
			list_sort(ordered, stripe_compare);
			stripe_apply_payment(a->subject, ordered, outcome);
			break;
		case SUBJECT_INVOICE:
			outcome->applied = true;
			other_invoices_deliver(a->subject, outcome);
			stripe_apply_invoice(a->subject, outcome);
			break;
		case SUBJECT_SUBSCRIPTION:
			stripe_apply_subscription(a->fold, a->event, outcome);
			break;
	}
}

/*
 * Applies what is known of a subject in a subtransaction.  If this is refused,
 * the subtransaction is rolled back and the subject waits.
 */
static void
try_apply(const Application *a, StripeOutcome *outcome)
{
	Attempt		attempt = {a, outcome};
	ErrorData  *error;

	memset(outcome, 0, sizeof(StripeOutcome));
	json_begin(&outcome->detail);
	outcome->was_waiting = a->was_waiting;
	error = catch_error(apply_subject, &attempt);
	if (error == NULL)
		return;
	if (!is_refusal(error))
		ReThrowError(error);
	memset(outcome, 0, sizeof(StripeOutcome));
	json_begin(&outcome->detail);
	outcome->waiting = psprintf("%s: %s", sqlstate_text(error->sqlerrcode),
								error->message);
	outcome->alert = "stripe_refused";
}

/*
 * Applies what is known of a subject, whose row must be locked.
 */
void
apply_and_note(const Application *a, StripeOutcome *outcome)
{
	try_apply(a, outcome);
	apply_announce(a, outcome);
	announce_incomplete(a, outcome);
	stripe_write_subject(a->subject, a->was_waiting, outcome->waiting);
}

/*
 * Applies the payments of an invoice that were waiting for what they are for.
 */
void
apply_waiting_payments(List *payments)
{
	ListCell   *lc;

	foreach(lc, payments)
	{
		Application a = {.kind = SUBJECT_PAYMENT,.subject = lfirst(lc)};
		StripeOutcome outcome;

		a.was_waiting = stripe_lock(a.subject);
		a.events = stripe_read_events(a.subject);
		if (a.was_waiting && a.events != NIL)
			apply_and_note(&a, &outcome);
	}
}

/*
 * Applies what has changed of a subscription without an event of Stripe's.
 */
void
stripe_apply_fold(Fold *fold, const char *was_waiting, StripeOutcome *outcome)
{
	Application a = {
		.kind = SUBJECT_SUBSCRIPTION,
		.subject = fold->billed->subscription,
		.was_waiting = was_waiting,
		.fold = fold
	};

	apply_and_note(&a, outcome);
}

/*
 * Locks an invoice and its subscription.  Returns what the subscription is
 * waiting for.
 */
char *
stripe_lock_invoice(const char *invoice)
{
	List	   *linked;
	Invoice		row;

	(void) apply_lock(SUBJECT_INVOICE, invoice, NULL, &linked);
	return billing_find_invoice(invoice, &row) ?
		stripe_lock(row.subscription) : NULL;
}
