/*
 * stripe_subscriptions.c
 *	  A subscription of Stripe's: whose it is, which plan, and which of its
 *	  periods have been paid.
 *
 * A period is given when an invoice that has it as a line of the subscription
 * itself is paid, whatever else came before: that, and nothing about a checkout
 * session, so the first invoice and its session never both give it.  A trial is
 * given when the subscription says so; its invoice of 0 gives nothing.  Lines
 * of prorations are for periods that have been given: a change of plan in the
 * middle of one follows from the subscription's own events.
 *
 * How the subscription stands is said by its newest event.  Once deleted it
 * stays so.
 */
#include "credits.h"

#include "changes.h"
#include "purchases.h"
#include "sql.h"
#include "stripe_sold.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static SqlStatement find_customer = {
	.text = "SELECT a.name FROM credits.stripe_customers AS c "
	"JOIN credits.accounts AS a ON a.id = c.account_id WHERE c.id = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement find_periods = {
	.text = "SELECT p.starts_at FROM credits.periods AS p "
	"WHERE p.subscription_id = $1",
	.types = (const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_grants = {
	.text = "SELECT unnest(p.grant_ids) FROM credits.periods AS p "
	"WHERE p.subscription_id = $1 AND p.starts_at = $2",
	.types = (const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement find_changes = {
	.text = "SELECT c.reference, c.plan_id, c.at FROM credits.plan_changes AS c "
	"WHERE c.subscription_id = $1 ORDER BY c.at, c.reference",
	.types = (const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_payments = {
	.text = "SELECT l.payment FROM credits.stripe_links AS l "
	"WHERE l.invoice = $1 ORDER BY l.payment",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Says what is missing, and that someone has to say it.
 */
static bool
wait_for(StripeOutcome *outcome, char *what)
{
	outcome->waiting = what;
	outcome->alert = "stripe_unmapped";
	return false;
}

/*
 * Finds the account of a subscription, by name or by its customer.
 */
static bool
find_account(Sold *sold, StripeOutcome *outcome)
{
	Account		account;
	bool		found;

	if (sold->account == NULL && sold->customer)
	{
		Datum		value = CStringGetTextDatum(sold->customer);
		SqlResult  *result = sql_run(&find_customer, &value, NULL);

		if (result->nrows > 0)
			sold->account = stripe_text_of(result, 0);
	}
	if (sold->account == NULL)
		return wait_for(outcome, sold->customer ?
						psprintf("an account for customer \"%s\"", sold->customer) :
						psprintf("an account for subscription \"%s\"", sold->subject));
	found = row_find_account(NULL, store_snapshot(true),
							 cstring_to_text(sold->account), 0, &account);
	if (!found)
		return wait_for(outcome, psprintf("account \"%s\"", sold->account));
	sold->account_id = account.id;
	outcome->account_id = account.id;
	return true;
}

/*
 * Begins the subscription here.  Returns false if there is nothing to begin yet.
 */
static bool
begin(Sold *sold, StripeOutcome *outcome)
{
	JsonbContainer *facts = &sold->newest->facts->root;
	NewSubscription wanted = {0};
	Receipt		receipt;
	char	   *status = stripe_text(facts, "status");
	char	   *price;
	char	   *name = sold_plan_of(sold, sold->first, &price);

	/* not paid for the first time yet, or never */
	if (!sold->paid && (sold->deleted || status == NULL ||
						strcmp(status, "incomplete") == 0 ||
						strcmp(status, "incomplete_expired") == 0 ||
						strcmp(status, "canceled") == 0) &&
		stripe_get(facts, "trial_end") == NULL)
	{
		outcome->applied = true;
		return false;
	}
	if (name == NULL)
		return wait_for(outcome, psprintf("a plan for price \"%s\"",
										  price ? price : "none"));
	wanted.plan = sold_plan(sold, name);
	if (wanted.plan == NULL)
		return wait_for(outcome, psprintf("plan \"%s\"", name));
	if (!find_account(sold, outcome))
		return false;
	outcome->applied = true;

	wanted.account = cstring_to_text(sold->account);
	wanted.has_starts_at = stripe_instant(facts, "start", &wanted.starts_at) ||
		stripe_instant(facts, "created", &wanted.starts_at);
	wanted.has_anchor = stripe_instant(facts, "anchor", &wanted.anchor);
	wanted.external_id = cstring_to_text(sold->subject);
	wanted.by_payment = true;
	sold->id = subscriptions_create(&wanted, &receipt);
	sold->plan = wanted.plan;
	if (sold->customer)
		stripe_add_customer(sold->customer, sold->account_id, true);
	outcome->changed = true;
	return true;
}

/*
 * Tells whether a period is in a list of instants.
 */
static bool
is_given(const SqlResult *periods, TimestampTz starts_at)
{
	uint64		i;
	bool		isnull;

	for (i = 0; i < periods->nrows; i++)
		if (DatumGetTimestampTz(sql_value(periods, i, 1, &isnull)) == starts_at)
			return true;
	return false;
}

/*
 * Gives the trial that the subscription has or had.  The oldest event decides
 * until when: it may be cut short, but credits that were given stay.
 */
static void
apply_trial(Sold *sold, const SqlResult *periods, StripeOutcome *outcome)
{
	TimestampTz starts_at;
	TimestampTz ends_at;
	Receipt		receipt;
	ListCell   *lc;

	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);

		if (event->kind != FACT_SUBSCRIPTION ||
			!stripe_instant(&event->facts->root, "trial_start", &starts_at) ||
			!stripe_instant(&event->facts->root, "trial_end", &ends_at) ||
			starts_at >= ends_at)
			continue;
		if (!is_given(periods, starts_at) &&
			subscriptions_grant_period(sold->id, starts_at, ends_at,
									   sold->plan->id, true, &receipt))
			outcome->changed = true;
		return;
	}
}

/*
 * Tells whether a line is for a trial, which is free.
 */
static bool
is_trial(const Sold *sold, const Line *line)
{
	TimestampTz starts_at;
	TimestampTz ends_at;
	ListCell   *lc;

	if (line->amount != 0)
		return false;
	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);

		if (event->kind == FACT_SUBSCRIPTION &&
			stripe_instant(&event->facts->root, "trial_start", &starts_at) &&
			stripe_instant(&event->facts->root, "trial_end", &ends_at) &&
			line->starts_at >= starts_at && line->starts_at < ends_at)
			return true;
	}
	return false;
}

/*
 * Adds the payments that an invoice is linked with to those to apply.
 */
static void
add_payments(const char *invoice, StripeOutcome *outcome)
{
	Datum		value = CStringGetTextDatum(invoice);
	SqlResult  *result = sql_run(&find_payments, &value, NULL);
	uint64		i;

	for (i = 0; i < result->nrows; i++)
		outcome->payments = lappend(outcome->payments,
									stripe_text_of(result, i));
}

/*
 * Adds the payments that an invoice says it was paid with to a list.
 */
static List *
payments_of(const StripeEvent *event, List *payments)
{
	JsonbValue *said = stripe_get(&event->facts->root, "payments");
	uint32		i;

	for (i = 0; said && i < JsonContainerSize(said->val.binary.data); i++)
	{
		JsonbValue *payment =
			getIthJsonbValueFromContainer(said->val.binary.data, i);

		payments = lappend(payments, pnstrdup(payment->val.string.val,
											  payment->val.string.len));
	}
	return payments;
}

/*
 * Tells whether an event may give a period, or record its invoice as paid.
 */
static bool
is_to_pay(const Sold *sold, const StripeEvent *event, const SqlResult *periods)
{
	ListCell   *lc;

	if (event->kind != FACT_INVOICE || !sold_outcome_is(event, "paid"))
		return false;
	if (event->payload != NULL)
		return true;
	foreach(lc, sold_lines(event, "lines"))
	{
		Line	   *line = lfirst(lc);

		if (line->has_period && !is_given(periods, line->starts_at))
			return true;
	}
	return false;
}

/*
 * Compares two ids.
 */
static int
compare_ids(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/*
 * Locks ids in their order.
 */
static void
lock_all(List *ids)
{
	ListCell   *lc;

	list_sort(ids, compare_ids);
	foreach(lc, ids)
		(void) stripe_lock(lfirst(lc));
}

/*
 * Locks the invoices that may be recorded as paid, and their payments, which
 * are applied then: before any account, since who comes with the payment holds
 * its lock and wants the account's.
 */
static void
lock_invoices(const Sold *sold, const SqlResult *periods)
{
	List	   *invoices = NIL;
	List	   *payments = NIL;
	ListCell   *lc;

	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);

		if (!is_to_pay(sold, event, periods))
			continue;
		invoices = lappend(invoices, event->object_id);
		payments = payments_of(event, payments);
	}
	lock_all(invoices);
	/* nobody can link another with them now */
	foreach(lc, invoices)
	{
		Datum		value = CStringGetTextDatum(lfirst(lc));
		SqlResult  *result = sql_run(&find_payments, &value, NULL);
		uint64		i;

		for (i = 0; i < result->nrows; i++)
			payments = lappend(payments, stripe_text_of(result, i));
	}
	lock_all(payments);
}

/*
 * Records an invoice as paid for the grants of its periods, so that refunds and
 * disputes take them back.  Its lock is held, as by who links a payment with it.
 */
static void
record_invoice(const Sold *sold, const StripeEvent *event, List *starts,
			   StripeOutcome *outcome)
{
	JsonbContainer *facts = &event->facts->root;
	char	   *currency = stripe_text(facts, "currency");
	List	   *grant_ids = NIL;
	ListCell   *lc;
	int64		amount;

	foreach(lc, payments_of(event, NIL))
		stripe_add_link(lfirst(lc), event->object_id);
	if (!stripe_int64(facts, "amount", &amount) || amount <= 0 ||
		currency == NULL)
		return;
	foreach(lc, starts)
	{
		Datum		values[] = {
			Int64GetDatum(sold->id),
			TimestampTzGetDatum(*(TimestampTz *) lfirst(lc))
		};
		SqlResult  *result = sql_run(&find_grants, values, NULL);
		uint64		g;

		for (g = 0; g < result->nrows; g++)
		{
			int64	   *id = palloc(sizeof(int64));
			bool		isnull;

			*id = DatumGetInt64(sql_value(result, g, 1, &isnull));
			grant_ids = lappend(grant_ids, id);
		}
	}
	if (grant_ids == NIL)
		return;
	(void) purchases_record(sold->account_id, cstring_to_text(event->object_id),
							stripe_money(amount, currency),
							stripe_currency(currency), grant_ids);
	add_payments(event->object_id, outcome);
}

/*
 * Gives the periods of an invoice that was paid.
 */
static bool
apply_invoice(Sold *sold, StripeEvent *event, const SqlResult *periods,
			  StripeOutcome *outcome)
{
	List	   *given = NIL;
	bool		news = event->payload != NULL;
	bool		mapped = false;
	char	   *unmapped = NULL;
	ListCell   *lc;

	foreach(lc, sold_lines(event, "lines"))
	{
		Line	   *line = lfirst(lc);
		char	   *name = sold_plan_of_line(sold, line);
		const PlanTerms *plan;
		Receipt		receipt;

		if (!line->has_period || is_trial(sold, line))
		{
			mapped = true;
			continue;
		}
		if (name == NULL)
		{
			if (unmapped == NULL)
				unmapped = line->price ? line->price : line->product;
			continue;
		}
		mapped = true;
		given = lappend(given, &line->starts_at);
		if (is_given(periods, line->starts_at))
			continue;
		plan = sold_plan(sold, name);
		if (plan == NULL)
			return wait_for(outcome, psprintf("plan \"%s\"", name));
		if (subscriptions_grant_period(sold->id, line->starts_at,
									   line->ends_at, plan->id, false,
									   &receipt))
		{
			outcome->changed = true;
			news = true;
			json_int64(&outcome->detail, "transaction_id",
					   receipt.transaction_id);
		}
	}
	if (!mapped && unmapped)
		return wait_for(outcome, psprintf("a plan for price \"%s\"", unmapped));
	if (news && given != NIL)
		record_invoice(sold, event, given, outcome);
	return true;
}

/*
 * Tells whether a change of plan is known, of an instant and by its reference.
 */
static bool
is_change_known(const SqlResult *changes, TimestampTz at, const char *reference)
{
	uint64		i;
	bool		isnull;

	for (i = 0; i < changes->nrows; i++)
		if (DatumGetTimestampTz(sql_value(changes, i, 3, &isnull)) == at &&
			strcmp(stripe_text_of(changes, i), reference) == 0)
			return true;
	return false;
}

/*
 * Returns the name of the plan that was in force at an instant, by what is known.
 */
static const char *
plan_at(const SqlResult *changes, TimestampTz at)
{
	const char *name = NULL;
	uint64		i;
	bool		isnull;

	for (i = 0; i < changes->nrows; i++)
	{
		Datum		id = sql_value(changes, i, 2, &isnull);

		if (DatumGetTimestampTz(sql_value(changes, i, 3, &isnull)) > at)
			break;
		name = text_to_cstring(plans_get(DatumGetInt64(id))->name);
	}
	return name;
}

/*
 * Changes the plan when the subscription's events say so.  An event that comes
 * late makes the change that others seemed to have made, or none.
 *
 * What the oldest event says, the subscription was sold as; one that is older
 * still says it better, and its reference is made to sort behind.
 */
static bool
apply_changes(Sold *sold, StripeOutcome *outcome)
{
	Datum		value = Int64GetDatum(sold->id);
	SqlResult  *changes = sql_run(&find_changes, &value, NULL);
	const char *before = NULL;
	ListCell   *lc;

	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);
		const char *reference = event->id;
		const PlanTerms *plan;
		TimestampTz at = event->created;
		Receipt		receipt;
		char	   *price;
		char	   *name;

		if (event->kind != FACT_SUBSCRIPTION)
			continue;
		if (event == sold->first)
		{
			reference = psprintf("(was %019lld)",
								 (long long) (PG_INT64_MAX - event->created));
			(void) stripe_instant(&event->facts->root, "start", &at);
			before = plan_at(changes, at);
		}
		name = sold_plan_of(sold, event, &price);
		if (name == NULL)
		{
			/* it may have lost its items when it ended */
			if (price == NULL)
				continue;
			return wait_for(outcome, psprintf("a plan for price \"%s\"", price));
		}
		if (before && strcmp(before, name) == 0)
			continue;
		before = name;
		if (is_change_known(changes, at, reference))
			continue;
		plan = sold_plan(sold, name);
		if (plan == NULL)
			return wait_for(outcome, psprintf("plan \"%s\"", name));
		if (changes_apply(sold->id, at, plan->id, PRORATE_BY_TIME,
						  cstring_to_text(reference), &receipt))
			outcome->changed = true;
	}
	return true;
}

/*
 * Announces an invoice whose payment has failed, when it is news.
 */
static void
announce_failure(const Sold *sold, const StripeEvent *event)
{
	StringInfoData json;

	if (event->payload == NULL || !sold_outcome_is(event, "failed"))
		return;
	initStringInfo(&json);
	json_int64(&json, "subscription_id", sold->id);
	json_cstring(&json, "invoice", event->object_id);
	json_cstring(&json, "event_id", event->id);
	alerts_announce("payment_failed", sold->account_id, 0, clock_now(),
					json_document(&json));
}

/*
 * Gives what was paid.
 */
static bool
apply_invoices(Sold *sold, const SqlResult *periods, StripeOutcome *outcome)
{
	ListCell   *lc;

	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);

		if (event->kind != FACT_INVOICE)
			continue;
		announce_failure(sold, event);
		if (sold_outcome_is(event, "paid") &&
			!apply_invoice(sold, event, periods, outcome))
			return false;
	}
	return true;
}

/*
 * Brings the status to what the newest event says.
 */
static void
apply_status(Sold *sold, StripeOutcome *outcome)
{
	static const struct
	{
		const char *name;
		SubscriptionStatus status;
	}			known[] =
	{
		{"trialing", SUBSCRIPTION_TRIALING},
		{"active", SUBSCRIPTION_ACTIVE},
		{"past_due", SUBSCRIPTION_PAST_DUE},
		{"unpaid", SUBSCRIPTION_UNPAID},
		{"paused", SUBSCRIPTION_PAUSED}
	};
	JsonbContainer *facts = &sold->newest->facts->root;
	char	   *status = stripe_text(facts, "status");
	Subscription subscription;
	TimestampTz at;
	int			i;

	if (status == NULL || !subscriptions_find(sold->id, &subscription))
		return;
	json_cstring(&outcome->detail, "status",
				 sold->deleted ? "canceled" : status);
	if (sold->deleted || strcmp(status, "canceled") == 0 ||
		strcmp(status, "incomplete_expired") == 0)
	{
		if (subscription.status != SUBSCRIPTION_CANCELED &&
			subscriptions_cancel(sold->id, DT_NOBEGIN, false))
			outcome->changed = true;
		return;
	}
	if (subscription.status == SUBSCRIPTION_CANCELED)
		return;
	for (i = 0; i < (int) lengthof(known); i++)
		if (strcmp(status, known[i].name) == 0 &&
			subscription.status != known[i].status &&
			subscriptions_set_status(sold->id, known[i].status))
			outcome->changed = true;
	if (!stripe_instant(facts, "cancel_at", &at))
		at = DT_NOEND;
	if (at != subscription.cancel_at &&
		(at == DT_NOEND || at > clock_now()) &&
		subscriptions_cancel(sold->id, at, false))
		outcome->changed = true;
}

/*
 * Brings credits to what the events of a subscription say, in order.
 */
void
stripe_apply_subscription(const char *subject, List *events,
						  StripeOutcome *outcome)
{
	Sold		sold = {0};
	Subscription subscription;
	SqlResult  *periods;
	Datum		value;
	bool		found;

	sold.subject = subject;
	sold.events = events;
	sold_read(&sold);
	if (sold.newest == NULL)
	{
		/* its account is known and its invoices are paid, but not what it is */
		if (sold.paid)
			outcome->waiting = psprintf("an event of subscription \"%s\" itself",
										subject);
		return;
	}
	sold_read_prices(&sold);
	found = subscriptions_find_external(cstring_to_text(subject),
										&subscription);
	value = Int64GetDatum(found ? subscription.id : 0);
	lock_invoices(&sold, sql_run(&find_periods, &value, NULL));
	if (found)
	{
		sold.id = subscription.id;
		sold.account_id = subscription.account_id;
		sold.plan = plans_get(subscription.plan_id);
		outcome->account_id = sold.account_id;
		outcome->applied = true;
	}
	else if (!begin(&sold, outcome))
		return;
	json_int64(&outcome->detail, "subscription_id", sold.id);

	value = Int64GetDatum(sold.id);
	periods = sql_run(&find_periods, &value, NULL);
	apply_trial(&sold, periods, outcome);
	if (apply_invoices(&sold, periods, outcome))
		(void) apply_changes(&sold, outcome);
	apply_status(&sold, outcome);
}
