/*
 * subscriptions.c
 *	  Applying a Stripe subscription: its account, its plan and its status.
 *
 * Its credits follow from the lines of its invoices (shares.c).  The events of
 * the subscription itself begin it, and say which plan it shows, how it is and
 * when it ends; the newest one counts, except that a subscription that was
 * deleted stays canceled.
 *
 * Tested in test/sql/stripe.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/billing.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* what is missing if a price is not mapped begins with this */
#define WAITS_FOR_PLAN "a plan for price "

/* The status of a subscription at Stripe */
typedef enum SoldStatus
{
	SOLD_UNKNOWN = -1,			/* none, or one that is new at Stripe */
	SOLD_ACTIVE,
	SOLD_CANCELED,
	SOLD_INCOMPLETE,
	SOLD_INCOMPLETE_EXPIRED,
	SOLD_PAST_DUE,
	SOLD_PAUSED,
	SOLD_TRIALING,
	SOLD_UNPAID
} SoldStatus;

static const char *const sold_status_names[] = {
	"active", "canceled", "incomplete", "incomplete_expired", "past_due",
	"paused", "trialing", "unpaid"
};

static SqlStatement find_customer = {
	.text = "SELECT a.name FROM credits.stripe_customers AS c "
	"JOIN credits.accounts AS a ON a.id = c.account_id WHERE c.id = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement find_problems = {
	.text = "SELECT DISTINCT l.invoice FROM credits.stripe_lines AS l "
	"WHERE l.subscription = $1 AND l.problem IS NOT NULL ORDER BY l.invoice",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Has a subscription wait for something that someone has to map, and announces
 * that.  Returns false.
 */
static bool
wait_for_map(StripeOutcome *outcome, char *what)
{
	outcome->waiting = what;
	outcome->alert = "stripe_unmapped";
	return false;
}

/*
 * Returns the status that the newest event says.
 */
static SoldStatus
status_to_show(const Billed *billed)
{
	return stripe_name(&billed->facts->root, "status", sold_status_names,
					   lengthof(sold_status_names));
}

/*
 * Finds the account of a subscription, by the name in its events or by its
 * customer.
 */
static bool
find_sold_account(const Billed *billed, StripeOutcome *outcome, text **name)
{
	char	   *account_name = billed->account;
	Account		account;

	if (account_name == NULL && billed->customer)
	{
		Datum		value = CStringGetTextDatum(billed->customer);
		SqlResult  *result = statements_run(&find_customer, &value, NULL);

		if (result->nrows > 0)
			account_name = stripe_text_of(result, 0);
	}
	if (account_name == NULL)
		return wait_for_map(outcome, billed->customer ?
							psprintf("an account for customer \"%s\"", billed->customer) :
							psprintf("an account for subscription \"%s\"", billed->subscription));
	*name = cstring_to_text(account_name);
	if (!rows_find_account(NULL, store_snapshot(true), *name, 0, &account))
		return wait_for_map(outcome, psprintf("account \"%s\"", account_name));
	outcome->account_id = account.id;
	return true;
}

/*
 * Returns the plan that the newest event shows: that of the first item that is
 * mapped to one.  If there is none, has the subscription wait for it, and returns
 * NULL.
 */
static const PlanTerms *
plan_shown(const Billed *billed, StripeOutcome *outcome)
{
	JsonbValue *items = stripe_get(&billed->facts->root, "items");
	const char *price = NULL;
	bool		nothing = false;
	uint32		i;

	for (i = 0; items && i < JsonContainerSize(items->val.binary.data); i++)
	{
		JsonbValue *element =
			getIthJsonbValueFromContainer(items->val.binary.data, i);
		JsonbContainer *item;
		Line		line = {.subscription = billed->subscription};
		Mapping    *mapping;

		CHECK_FOR_INTERRUPTS();
		if (element->type != jbvBinary)
			continue;
		item = element->val.binary.data;
		line.price = stripe_text(item, "price");
		line.product = stripe_text(item, "product");
		line.item = stripe_text(item, "item");
		if (line.item == NULL)
			line.item = "";
		mapping = lines_mapping(billed, &line);
		if (mapping->terms)
			return mapping->terms;
		if (mapping->plan)
		{
			wait_for_map(outcome, psprintf("plan \"%s\"", mapping->plan));
			return NULL;
		}
		if (mapping->version_id != 0)
			nothing = true;
		else if (price == NULL)
			price = line.price ? line.price : line.product;
	}
	/* a subscription that has ended may have no items any more */
	if ((billed->id == 0 && !nothing) || price)
		wait_for_map(outcome, psprintf(WAITS_FOR_PLAN "\"%s\"",
									   price ? price : "none"));
	return NULL;
}

/*
 * Subscribes the account to the plan.  Returns false if that has to wait, or if
 * nothing was paid yet.
 */
static bool
begin_sold(Fold *fold, StripeOutcome *outcome)
{
	Billed	   *billed = fold->billed;
	JsonbContainer *facts = &billed->facts->root;
	NewSubscription wanted = {0};
	Receipt		receipt;

	/* the first payment has not been made, or never was */
	if (!billing_is_sold(billed))
	{
		outcome->applied = true;
		return false;
	}
	wanted.plan = plan_shown(billed, outcome);
	/* it is for something else than credits now, but may have been for them */
	if (wanted.plan == NULL && outcome->waiting == NULL)
	{
		outcome->applied = true;
		wanted.plan = shares_note(billed, fold->all || fold->newest ||
								  outcome->was_waiting ?
								  billing_all_invoices(NIL, billed->subscription) :
								  fold->invoices, outcome);
	}
	if (wanted.plan == NULL ||
		!find_sold_account(billed, outcome, &wanted.account))
		return false;
	wanted.has_starts_at = stripe_instant(facts, "start", &wanted.starts_at) ||
		stripe_instant(facts, "created", &wanted.starts_at);
	wanted.has_anchor = stripe_instant(facts, "anchor", &wanted.anchor);
	wanted.external_id = cstring_to_text(billed->subscription);
	wanted.by_payment = true;
	billed->id = subscribe_account(&wanted, &receipt);
	billed->plan_id = wanted.plan->id;
	if (billed->customer)
		stripe_add_customer(billed->customer, outcome->account_id, true);
	outcome->changed = true;
	return true;
}

/*
 * Shows the plan of the newest event.
 */
static void
apply_plan(Billed *billed, StripeOutcome *outcome)
{
	StripeOutcome waits = {0};
	const PlanTerms *plan = plan_shown(billed, &waits);

	if (plan == NULL)
	{
		if (waits.waiting && outcome->waiting == NULL)
			wait_for_map(outcome, waits.waiting);
		return;
	}
	if (plan->id == billed->plan_id)
		return;
	if (lifecycle_show_plan(billed->id, billed->as_of.at, plan->id))
		outcome->changed = true;
	billed->plan_id = plan->id;
	billing_write(&billed_table, billed);
}

/*
 * Announces that the payment of an invoice has failed, when the event arrives.
 */
static void
announce_failure(const Billed *billed, const StripeEvent *event,
				 int64 account_id)
{
	JsonObject	json;

	if (event == NULL || event->kind != FACT_INVOICE ||
		stripe_outcome(event) != OUTCOME_FAILED)
		return;
	json_begin(&json);
	json_int64(&json, "subscription_id", billed->id);
	json_cstring(&json, "payment_reference", event->object_id);
	json_cstring(&json, "event_id", event->id);
	events_announce("payment_failed", account_id, 0, clock_now(), &json);
}

/*
 * Sets the status, and when the subscription ends, to what the newest event
 * says.
 */
static void
apply_status(const Billed *billed, StripeOutcome *outcome)
{
	JsonbContainer *facts = &billed->facts->root;
	char	   *name = stripe_text(facts, "status");
	Subscription subscription;
	SubscriptionStatus status;
	TimestampTz at;

	if (name == NULL || !subscriptions_find(billed->id, &subscription))
		return;
	json_cstring(&outcome->detail, "status", billed->deleted ? "canceled" : name);
	status = subscription.status;
	switch (billed->deleted ? SOLD_CANCELED : status_to_show(billed))
	{
		case SOLD_TRIALING:
			/* before its line is known, the clock would begin the plan's own */
			if (subscription.period_number >= 0)
				status = SUBSCRIPTION_TRIALING;
			break;
		case SOLD_ACTIVE:
			status = SUBSCRIPTION_ACTIVE;
			break;
		case SOLD_PAST_DUE:
			status = SUBSCRIPTION_PAST_DUE;
			break;
		case SOLD_UNPAID:
			status = SUBSCRIPTION_UNPAID;
			break;
		case SOLD_PAUSED:
			status = SUBSCRIPTION_PAUSED;
			break;
		case SOLD_CANCELED:
		case SOLD_INCOMPLETE_EXPIRED:
			if (subscription.status != SUBSCRIPTION_CANCELED &&
				lifecycle_cancel(billed->id, DT_NOBEGIN, false))
				outcome->changed = true;
			return;
		case SOLD_INCOMPLETE:
		case SOLD_UNKNOWN:
			break;
	}
	/* nothing revives one that has ended */
	if (subscription.status == SUBSCRIPTION_CANCELED)
		return;
	if (status != subscription.status &&
		lifecycle_set_status(billed->id, status))
		outcome->changed = true;
	if (!stripe_instant(facts, "cancel_at", &at))
		at = DT_NOEND;
	if (at != subscription.cancel_at &&
		(at == DT_NOEND || at > clock_now()) &&
		lifecycle_cancel(billed->id, at, false))
		outcome->changed = true;
}

/*
 * Returns the invoices whose lines are to be counted.
 */
static List *
invoices_to_count(const Fold *fold, bool all, const StripeOutcome *outcome)
{
	const char *subscription = fold->billed->subscription;
	List	   *invoices = fold->invoices;

	/* what was refused is tried again */
	if (all || (outcome->was_waiting &&
				strncmp(outcome->was_waiting, WAITS_FOR_PLAN,
						strlen(WAITS_FOR_PLAN)) != 0))
		return billing_all_invoices(NIL, subscription);
	if (outcome->was_waiting)
	{
		Datum		value = CStringGetTextDatum(subscription);
		SqlResult  *result = statements_run(&find_problems, &value, NULL);
		uint64		i;

		for (i = 0; i < result->nrows; i++)
			invoices = billing_add_invoice(invoices,
										   stripe_text_of(result, i));
	}
	return invoices;
}

/*
 * Applies what has changed of a subscription, by an event if there is one.
 */
void
stripe_apply_subscription(Fold *fold, const StripeEvent *event,
						  StripeOutcome *outcome)
{
	Billed	   *billed = fold->billed;
	Subscription subscription;
	bool		all = fold->all;

	if (billed->facts == NULL)
	{
		/* an invoice alone does not tell the plan */
		if (billed->paid)
			outcome->waiting = psprintf("an event of subscription \"%s\" itself",
										billed->subscription);
		return;
	}
	if (billed->id == 0)
	{
		all = true;
		if (subscriptions_find_external(cstring_to_text(billed->subscription),
										&subscription))
		{
			billed->id = subscription.id;
			billed->plan_id = subscription.plan_id;
		}
		else if (!begin_sold(fold, outcome))
			return;
		billing_write(&billed_table, billed);
		*billed = *billing_subscription(billed->subscription);
	}
	/* it may be known to be over before it is known to have been paid */
	if (fold->was_unsold || !billing_is_sold(billed))
		all = true;
	/* subscriptions are never deleted */
	if (!subscriptions_find(billed->id, &subscription))
		elog(ERROR, "subscription " INT64_FORMAT " is gone", billed->id);
	outcome->account_id = subscription.account_id;
	outcome->applied = true;
	json_int64(&outcome->detail, "subscription_id", billed->id);
	announce_failure(billed, event, subscription.account_id);
	(void) shares_apply(billed, subscription.account_id,
						invoices_to_count(fold, all, outcome), outcome);
	if (all || fold->newest || outcome->was_waiting ||
		subscription.period_number < 0)
	{
		apply_plan(billed, outcome);
		apply_status(billed, outcome);
	}
}
