/*
 * stripe_payments.c
 *	  A payment of Stripe's: what was bought with it, and how much of it has
 *	  gone back.
 *
 * A payment is for the purchase that its checkout session names, or for the
 * invoice that it is linked with.  It is paid if any event says so; whatever
 * else a session came to, it came to before or is of another try.
 *
 * Refunded is, of each charge, what the charge says at most, less what failed
 * later, or the sum of the refunds that did not fail, whichever is more: either
 * may be ahead of the other.  Each dispute counts by its newest event; while it
 * is an inquiry, or when it is won, nothing is taken.
 */
#include "credits.h"

#include "money.h"
#include "purchases.h"
#include "stripe.h"

#include "utils/builtins.h"

/* A refund or a dispute, as its newest event shows it */
typedef struct Reversal
{
	char	   *id;
	char	   *charge;			/* "" if it names none */
	int64		amount;
	bool		taken;			/* or did it fail, or was it won? */
} Reversal;

/* What is known of a charge's refunds */
typedef struct Charge
{
	char	   *id;
	int64		refunded;		/* by its own events, at most */
	int64		good;			/* sum of its refunds that did not fail */
	int64		failed;			/* and of those that did */
} Charge;

/* What the events of a payment say */
typedef struct Payment
{
	char	   *reference;		/* of the purchase, NULL if none is named */
	char	   *invoice;
	char	   *customer;
	const char *outcome;		/* of its session, NULL if there was none */
	int64		amount;			/* paid, in minor units */
	char	   *currency;		/* that it was paid in */
	char	   *reversed_in;	/* that it was reversed in */
	List	   *charges;
	List	   *refunds;
	List	   *disputes;
} Payment;

/*
 * Returns a currency as credits writes it.
 */
text *
stripe_currency(const char *currency)
{
	text	   *upper = cstring_to_text(currency);
	char	   *c = VARDATA(upper);

	for (; *currency; currency++, c++)
		*c = pg_ascii_toupper((unsigned char) *currency);
	return upper;
}

/*
 * Returns an amount of money in Stripe's minor units as numeric.
 */
Datum
stripe_money(int64 amount, const char *currency)
{
	int			exponent = money_stripe_exponent(stripe_currency(currency));

	return money_from_minor(amount, exponent < 0 ? 2 : exponent);
}

/* ------------------------------------------------------------------------
 * what the events say
 */

/*
 * Tells how far a session's outcome goes: further ones count.
 */
static int
outcome_rank(const char *outcome)
{
	if (outcome == NULL)
		return 0;
	if (strcmp(outcome, "paid") == 0)
		return 4;
	if (strcmp(outcome, "failed") == 0)
		return 3;
	if (strcmp(outcome, "expired") == 0)
		return 2;
	return 1;
}

/*
 * Finds a charge among those known, or adds it.
 */
static Charge *
get_charge(Payment *payment, char *id)
{
	Charge	   *charge;
	ListCell   *lc;

	foreach(lc, payment->charges)
	{
		charge = lfirst(lc);
		if (strcmp(charge->id, id) == 0)
			return charge;
	}
	charge = palloc0(sizeof(Charge));
	charge->id = id;
	payment->charges = lappend(payment->charges, charge);
	return charge;
}

/*
 * Notes a refund or dispute as an event shows it, in place of what an older one
 * did.
 */
static List *
put_reversal(List *reversals, Reversal *reversal)
{
	ListCell   *lc;

	foreach(lc, reversals)
	{
		Reversal   *other = lfirst(lc);

		if (strcmp(other->id, reversal->id) == 0)
		{
			lfirst(lc) = reversal;
			return reversals;
		}
	}
	return lappend(reversals, reversal);
}

/*
 * Reads a refund or dispute from an event's facts.
 */
static Reversal *
read_reversal(Payment *payment, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	Reversal   *reversal = palloc0(sizeof(Reversal));
	char	   *currency = stripe_text(facts, "currency");

	reversal->id = event->object_id;
	reversal->charge = stripe_text(facts, "charge");
	if (reversal->charge == NULL)
		reversal->charge = "";
	if (!stripe_int64(facts, "amount", &reversal->amount))
		reversal->amount = 0;
	if (currency)
		payment->reversed_in = currency;
	return reversal;
}

/*
 * Tells whether a status is one of a few, that end with NULL.
 */
static bool
status_is(const StripeEvent *event, const char *const *statuses)
{
	char	   *status = stripe_text(&event->facts->root, "status");

	for (; status && *statuses; statuses++)
		if (strcmp(status, *statuses) == 0)
			return true;
	return false;
}

/*
 * Returns the reference of the purchase that facts name, by the metadata that it
 * was started with or as the session's client reference; NULL if they name none.
 */
static char *
purchase_reference(JsonbContainer *facts)
{
	char	   *id = stripe_text(facts, "purchase");

	if (id)
		return psprintf("purchase_%s", id);
	return stripe_text(facts, "reference");
}

/*
 * Takes in what an event says; they come in order.
 */
static void
read_event(Payment *payment, const StripeEvent *event)
{
	static const char *const failed[] = {"failed", "canceled", NULL};
	static const char *const taken[] = {
		"needs_response", "under_review", "lost", NULL
	};
	JsonbContainer *facts = &event->facts->root;
	Reversal   *reversal;
	Charge	   *charge;
	char	   *value;
	int64		refunded;

	switch (event->kind)
	{
		case FACT_SESSION:
			value = purchase_reference(facts);
			if (value)
				payment->reference = value;
			value = stripe_text(facts, "customer");
			if (value)
				payment->customer = value;
			value = stripe_text(facts, "outcome");
			if (outcome_rank(value) <= outcome_rank(payment->outcome))
				break;
			payment->outcome = value;
			payment->currency = stripe_text(facts, "currency");
			if (!stripe_int64(facts, "amount", &payment->amount))
				payment->amount = 0;
			break;
		case FACT_INTENT:
			value = purchase_reference(facts);
			if (value && payment->reference == NULL)
				payment->reference = value;
			break;
		case FACT_CHARGE:
			charge = get_charge(payment, event->object_id);
			if (stripe_int64(facts, "refunded", &refunded))
				charge->refunded = Max(charge->refunded, refunded);
			value = stripe_text(facts, "invoice");
			if (value)
				payment->invoice = value;
			value = stripe_text(facts, "currency");
			if (value)
				payment->reversed_in = value;
			break;
		case FACT_REFUND:
			reversal = read_reversal(payment, event);
			reversal->taken = !status_is(event, failed);
			payment->refunds = put_reversal(payment->refunds, reversal);
			break;
		case FACT_DISPUTE:
			reversal = read_reversal(payment, event);
			reversal->taken = status_is(event, taken) &&
				!stripe_true(facts, "reinstated");
			payment->disputes = put_reversal(payment->disputes, reversal);
			break;
		case FACT_INVOICE_PAYMENT:
			value = stripe_text(facts, "invoice");
			if (value)
				payment->invoice = value;
			break;
		default:
			break;
	}
}

/*
 * Adds up refunds by charge.
 */
static void
sum_refunds(Payment *payment)
{
	ListCell   *lc;

	foreach(lc, payment->refunds)
	{
		Reversal   *refund = lfirst(lc);
		Charge	   *charge = get_charge(payment, refund->charge);

		if (refund->taken)
			charge->good += refund->amount;
		else
			charge->failed += refund->amount;
	}
}

/*
 * Returns how much of a charge has been refunded.
 */
static int64
refunded_of(const Charge *charge)
{
	return Max(charge->refunded - charge->failed, charge->good);
}

/*
 * Tells whether any money has gone back.
 */
static bool
is_reversed(const Payment *payment)
{
	ListCell   *lc;

	foreach(lc, payment->charges)
		if (refunded_of(lfirst(lc)) > 0)
			return true;
	foreach(lc, payment->disputes)
		if (((Reversal *) lfirst(lc))->taken)
			return true;
	return false;
}

/*
 * Tells whether all that a session paid has gone back.
 */
static bool
is_all_returned(const Payment *payment)
{
	int64		returned = 0;
	ListCell   *lc;

	foreach(lc, payment->charges)
		returned += refunded_of(lfirst(lc));
	foreach(lc, payment->disputes)
	{
		Reversal   *dispute = lfirst(lc);

		if (dispute->taken)
			returned += dispute->amount;
	}
	return payment->amount > 0 && returned >= payment->amount;
}

/* ------------------------------------------------------------------------
 * what credits make of it
 */

/*
 * Finds what a payment is for.
 */
static bool
find_purchase(const char *subject, Payment *payment, Purchase *purchase)
{
	if (payment->reference)
		return purchases_find(cstring_to_text(payment->reference), 0,
							  purchase);
	/* the payment of an invoice has no session */
	if (payment->outcome == NULL && payment->invoice == NULL)
		payment->invoice = stripe_find_invoice(subject);
	return payment->invoice != NULL &&
		purchases_find_payment(cstring_to_text(payment->invoice), purchase);
}

/*
 * Says what is missing.
 */
static void
wait_for(StripeOutcome *outcome, char *what, const char *alert)
{
	outcome->waiting = what;
	outcome->alert = alert;
}

/*
 * Ends a purchase whose session was not paid.
 */
static void
end_purchase(const Payment *payment, const Purchase *purchase,
			 StripeOutcome *outcome)
{
	if (purchase->status != PURCHASE_PENDING)
		return;
	if (strcmp(payment->outcome, "failed") == 0)
		outcome->changed = purchases_fail(purchase->id,
										  cstring_to_text("the payment failed"));
	else if (strcmp(payment->outcome, "expired") == 0)
		outcome->changed = purchases_expire(purchase->id);
	json_cstring(&outcome->detail, "outcome", payment->outcome);
}

/*
 * Completes the purchase that a session paid.  Returns false if it cannot be.
 */
static bool
complete_purchase(const char *subject, const Payment *payment,
				  const Purchase *purchase, StripeOutcome *outcome)
{
	char	   *what = psprintf("a payment that covers \"%s\"",
								payment->reference);
	PaymentOutcome done;
	Receipt		receipt;

	/* it has been said before */
	if (outcome->was_waiting && strcmp(outcome->was_waiting, what) == 0)
	{
		outcome->waiting = is_all_returned(payment) ? NULL : what;
		return false;
	}
	if (payment->currency == NULL)
	{
		wait_for(outcome, what, "payment_unknown");
		return false;
	}
	done = purchases_complete(purchase->id, cstring_to_text(subject),
							  stripe_money(payment->amount, payment->currency),
							  stripe_currency(payment->currency), &receipt);
	json_cstring(&outcome->detail, "outcome", purchases_outcome_name(done));
	if (done != PAYMENT_DELIVERED && done != PAYMENT_REPLAYED)
	{
		/* that has been announced */
		outcome->waiting = is_all_returned(payment) ? NULL : what;
		return false;
	}
	json_int64(&outcome->detail, "transaction_id", receipt.transaction_id);
	outcome->changed = done == PAYMENT_DELIVERED;
	return true;
}

/*
 * Sets how much money has gone back under a reference.
 */
static void
set_reversal(const Purchase *purchase, char *reference, const char *kind,
			 int64 amount, const char *currency, StripeOutcome *outcome)
{
	if (purchases_set_reversal(purchase->id, cstring_to_text(reference), kind,
							   stripe_money(amount, currency)))
		outcome->changed = true;
}

/*
 * Brings the purchase to what has been refunded and disputed.
 */
static void
apply_reversals(const Payment *payment, const Purchase *purchase,
				StripeOutcome *outcome)
{
	char	   *currency = payment->reversed_in;
	int64		refunded = 0;
	int64		disputed = 0;
	ListCell   *lc;

	if (payment->charges == NIL && payment->disputes == NIL)
		return;
	if (currency == NULL || purchase->currency == NULL ||
		strcmp(text_to_cstring(stripe_currency(currency)),
			   text_to_cstring(purchase->currency)) != 0)
	{
		wait_for(outcome, psprintf("a reversal in the currency of purchase " INT64_FORMAT,
								   purchase->id), "payment_unknown");
		return;
	}
	foreach(lc, payment->charges)
	{
		Charge	   *charge = lfirst(lc);

		refunded += refunded_of(charge);
		set_reversal(purchase, *charge->id ? charge->id : "refunds",
					 REVERSAL_REFUND, refunded_of(charge), currency, outcome);
	}
	foreach(lc, payment->disputes)
	{
		Reversal   *dispute = lfirst(lc);
		int64		amount = dispute->taken ? dispute->amount : 0;

		disputed += amount;
		set_reversal(purchase, dispute->id, REVERSAL_DISPUTE, amount, currency,
					 outcome);
	}
	if (payment->charges != NIL)
		json_int64(&outcome->detail, "refunded", refunded);
	if (payment->disputes != NIL)
		json_int64(&outcome->detail, "disputed", disputed);
}

/*
 * Announces payments that failed, as far as they are for a purchase.
 */
static void
announce_failures(List *events, const Purchase *purchase)
{
	ListCell   *lc;

	foreach(lc, events)
	{
		StripeEvent *event = lfirst(lc);
		StringInfoData json;

		if (event->kind != FACT_INTENT || event->payload == NULL)
			continue;
		initStringInfo(&json);
		json_int64(&json, "purchase_id", purchase->id);
		json_cstring(&json, "payment", event->object_id);
		json_cstring(&json, "event_id", event->id);
		alerts_announce("payment_failed", purchase->account_id, 0, clock_now(),
						json_document(&json));
	}
}

/*
 * Brings credits to what the events of a payment say, in order.
 */
void
stripe_apply_payment(const char *subject, List *events, StripeOutcome *outcome)
{
	Payment		payment = {0};
	Purchase	purchase;
	bool		paid;
	ListCell   *lc;

	foreach(lc, events)
		read_event(&payment, lfirst(lc));
	sum_refunds(&payment);

	if (!find_purchase(subject, &payment, &purchase))
	{
		if (outcome_rank(payment.outcome) == outcome_rank("paid"))
			wait_for(outcome, payment.reference ?
					 psprintf("purchase \"%s\"", payment.reference) :
					 "a reference to a purchase", "payment_unknown");
		else if (is_reversed(&payment))
			wait_for(outcome, "what the payment was for", "payment_unknown");
		return;
	}
	outcome->account_id = purchase.account_id;
	json_int64(&outcome->detail, "purchase_id", purchase.id);
	if (payment.reference && purchase.payment_reference &&
		strcmp(text_to_cstring(purchase.payment_reference), subject) != 0)
	{
		if (is_all_returned(&payment))
			outcome->applied = true;
		else
			wait_for(outcome, psprintf("a purchase of its own: \"%s\" has been paid by another payment",
									   payment.reference), "payment_unknown");
		return;
	}
	outcome->applied = true;
	announce_failures(events, &purchase);
	paid = purchase.status == PURCHASE_COMPLETED;
	if (!paid && payment.outcome)
	{
		if (outcome_rank(payment.outcome) == outcome_rank("paid"))
			paid = complete_purchase(subject, &payment, &purchase, outcome);
		else
			end_purchase(&payment, &purchase, outcome);
	}
	/* money that bought nothing takes nothing when it goes back */
	if (paid)
		apply_reversals(&payment, &purchase, outcome);
	if (payment.customer && outcome->changed)
		stripe_add_customer(payment.customer, purchase.account_id, true);
}
