/*
 * payments.c
 *	  Applying a Stripe payment: which purchase it pays for, and how much of it
 *	  was refunded or charged back.
 *
 * A payment is for the purchase that its checkout session or its own metadata
 * refers to, or for the invoices that it is linked with.  It is paid if any event
 * says so.  Any other
 * outcome of a session came before that, or is that of another attempt.
 *
 * Stripe reports the refunds of a charge twice: in total with the charge, and one
 * by one.  Either may be ahead of the other, so we take the larger of the total
 * that the charge had last, less what failed later, and the sum of the refunds that
 * did not fail.  Of each dispute, which is a chargeback to us, the newest event
 * counts.  An inquiry and a dispute
 * that was won take nothing.
 */
#include "credits.h"

#include "base/money.h"
#include "ledger/ledger.h"
#include "sell/purchases.h"
#include "sell/reversals.h"
#include "stripe/billing.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* refunds of any other status have taken money, or will */
static const char *const failed_refund_names[] = {"failed", "canceled"};

/* and disputes of any other status take none, or none any more */
enum
{
	DISPUTE_NEEDS_RESPONSE,
	DISPUTE_UNDER_REVIEW,
	DISPUTE_LOST
};
static const char *const taken_dispute_names[] = {
	"needs_response", "under_review", "lost"
};

/* A refund or a dispute, by its newest event */
typedef struct StripeReversal
{
	char	   *id;
	char	   *charge;			/* "" if it names none */
	int64		amount;
	bool		taken;			/* has it taken the amount? */
	int64		returned;		/* for a dispute: how much it takes no more */
	bool		lost;			/* for a dispute: for good? */
	TimestampTz began_at;		/* for a refund */
	TimestampTz told_at;		/* when its newest event happened */
} StripeReversal;

/* The refunds of a charge */
typedef struct Charge
{
	char	   *id;
	int64		refunded;		/* the total in the newest of its own events */
	int64		most;			/* that was refunded, whether or not that
								 * failed */
	TimestampTz told_at;		/* when that happened */
	int64		known;			/* sum of its refunds */
	int64		good;			/* sum of those that did not fail */
	int64		failed;			/* sum of those that did after that event */
} Charge;

/* What the events of a payment say */
typedef struct Payment
{
	char	   *reference;		/* of the purchase, NULL if none is named */
	char	   *account;		/* that its session names in metadata */
	char	   *customer;
	FactOutcome outcome;		/* of its session */
	int64		amount;			/* paid, in minor units */
	char	   *currency;		/* of the payment */
	char	   *reversed_in;	/* currency of refunds and disputes */
	List	   *charges;
	List	   *refunds;
	List	   *disputes;
} Payment;

/*
 * Returns a currency code of Stripe's, which is in lower case, as ISO 4217
 * writes it.
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

/*
 * Adds amounts, which are not negative.  A payment whose sums are too large waits.
 */
static int64
plus(int64 a, int64 b)
{
	int64		sum;

	if (pg_add_s64_overflow(a, b, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("amounts of the payment are too large"),
				 errhint("Compare its events in credits.stripe_events with what Stripe shows.")));
	return sum;
}

/* ------------------------------------------------------------------------
 * what the events say
 */

/*
 * Returns a charge of a payment, which is added if it is not known yet.
 */
static Charge *
get_charge(Payment *payment, char *id)
{
	Charge	   *charge;
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
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
 * Adds a refund or dispute to a list, in place of what an older event said of
 * it.
 */
static List *
put_reversal(List *reversals, StripeReversal *reversal)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, reversals)
	{
		StripeReversal *other = lfirst(lc);

		if (strcmp(other->id, reversal->id) == 0)
		{
			lfirst(lc) = reversal;
			return reversals;
		}
	}
	return lappend(reversals, reversal);
}

/*
 * Reads a refund or dispute from the facts of an event.
 */
static StripeReversal *
read_reversal(Payment *payment, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	StripeReversal *reversal = palloc0(sizeof(StripeReversal));
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
 * Returns the reference of the purchase that facts name: the one in the
 * metadata, or else the client reference of the session.  NULL if they name
 * none.
 */
static char *
purchase_reference(JsonbContainer *facts)
{
	char	   *id = stripe_text(facts, "purchase_id");

	if (id)
		return psprintf("purchase_%s", id);
	return stripe_text(facts, "reference");
}

/*
 * Reads the outcome of a session or an intent.  Amount and currency are those of
 * the one that counts.
 */
static void
read_session_outcome(Payment *payment, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	FactOutcome outcome = stripe_outcome(event);

	if (outcome <= payment->outcome)
		return;
	payment->outcome = outcome;
	payment->currency = stripe_text(facts, "currency");
	if (!stripe_int64(facts, "amount", &payment->amount))
		payment->amount = 0;
}

/*
 * Adds what an event says to what is known of a payment.  Events must be read
 * in order.
 */
static void
read_event(Payment *payment, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	StripeReversal *reversal;
	Charge	   *charge;
	char	   *value;
	int			status;
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
			value = stripe_text(facts, "account");
			if (value)
				payment->account = value;
			read_session_outcome(payment, event);
			break;
		case FACT_INTENT:
			value = purchase_reference(facts);
			if (value && payment->reference == NULL)
				payment->reference = value;
			value = stripe_text(facts, "customer");
			if (value && payment->customer == NULL)
				payment->customer = value;
			/* one that failed is tried again */
			if (stripe_outcome(event) == OUTCOME_PAID)
				read_session_outcome(payment, event);
			break;
		case FACT_CHARGE:
			charge = get_charge(payment, event->object_id);
			if (stripe_int64(facts, "refunded", &refunded))
			{
				/* within one second, the order is not known */
				charge->refunded = charge->told_at == event->created ?
					Max(charge->refunded, refunded) : refunded;
				charge->most = Max(charge->most, refunded);
				charge->told_at = event->created;
			}
			value = stripe_text(facts, "currency");
			if (value)
				payment->reversed_in = value;
			break;
		case FACT_REFUND:
			reversal = read_reversal(payment, event);
			reversal->taken = stripe_name(facts, "status",
										  failed_refund_names,
										  lengthof(failed_refund_names)) < 0;
			if (!stripe_instant(facts, "created", &reversal->began_at))
				reversal->began_at = DT_NOBEGIN;
			reversal->told_at = event->created;
			payment->refunds = put_reversal(payment->refunds, reversal);
			break;
		case FACT_DISPUTE:
			reversal = read_reversal(payment, event);
			status = stripe_name(facts, "status", taken_dispute_names,
								 lengthof(taken_dispute_names));
			reversal->taken = status >= 0 && !stripe_true(facts, "reinstated");
			reversal->lost = reversal->taken && status == DISPUTE_LOST;
			/* an inquiry has never taken anything */
			value = stripe_text(facts, "status");
			if (!reversal->taken && !(value && strncmp(value, "warning_",
													   strlen("warning_")) == 0))
				reversal->returned = reversal->amount;
			payment->disputes = put_reversal(payment->disputes, reversal);
			break;
		default:
			break;
	}
}

/*
 * Adds the refunds of a payment to their charges.
 */
static void
sum_refunds(Payment *payment)
{
	ListCell   *lc;

	foreach(lc, payment->refunds)
	{
		StripeReversal *refund = lfirst(lc);
		Charge	   *charge = get_charge(payment, refund->charge);

		charge->known = plus(charge->known, refund->amount);
		charge->most = Max(charge->most, charge->known);
		if (refund->taken)
			charge->good = plus(charge->good, refund->amount);
		else if (refund->began_at <= charge->told_at &&
				 refund->told_at > charge->told_at)
			charge->failed = plus(charge->failed, refund->amount);
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
 * Returns whether any money was refunded or disputed.
 */
static bool
is_reversed(const Payment *payment)
{
	ListCell   *lc;

	foreach(lc, payment->charges)
	{
		if (refunded_of(lfirst(lc)) > 0)
			return true;
	}
	foreach(lc, payment->disputes)
	{
		if (((StripeReversal *) lfirst(lc))->taken)
			return true;
	}
	return false;
}

/*
 * Returns whether everything that a session paid was refunded or disputed.
 */
static bool
is_all_returned(const Payment *payment)
{
	int64		returned = 0;
	ListCell   *lc;

	foreach(lc, payment->charges)
		returned = plus(returned, refunded_of(lfirst(lc)));
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);

		if (dispute->taken)
			returned = plus(returned, dispute->amount);
	}
	return payment->amount > 0 && returned >= payment->amount;
}

/* ------------------------------------------------------------------------
 * applying them
 */

/*
 * Has a subject wait for something that is missing, and announces that.
 */
static void
wait_for(StripeOutcome *outcome, char *what, const char *alert)
{
	outcome->waiting = what;
	outcome->alert = alert;
}

/*
 * Ends a pending purchase whose session failed or expired.
 */
static void
end_purchase(const Payment *payment, const Purchase *purchase,
			 StripeOutcome *outcome)
{
	if (purchase->status != PURCHASE_PENDING)
		return;
	if (payment->outcome == OUTCOME_FAILED)
		outcome->changed = purchases_fail(purchase->id,
										  cstring_to_text("the payment failed"));
	else if (payment->outcome == OUTCOME_EXPIRED)
		outcome->changed = purchases_expire(purchase->id);
	json_cstring(&outcome->detail, "outcome",
				 stripe_outcome_names[payment->outcome]);
}

/*
 * Completes the purchase that a session paid for.  Returns false if that is not
 * possible.
 */
static bool
complete_purchase(const char *subject, const Payment *payment,
				  const Purchase *purchase, StripeOutcome *outcome)
{
	char	   *what = psprintf("a payment that covers \"%s\"",
								payment->reference);
	PaymentOutcome done;
	Receipt		receipt;

	/* if it did not cover the purchase before, it does not now */
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
	done = payments_complete(purchase->id, cstring_to_text(subject),
							 stripe_money(payment->amount, payment->currency),
							 stripe_currency(payment->currency), &receipt);
	json_cstring(&outcome->detail, "outcome", payments_outcome_name(done));
	if (done != PAYMENT_DELIVERED && done != PAYMENT_REPLAYED)
	{
		/* payments_complete has announced why */
		outcome->waiting = is_all_returned(payment) ? NULL : what;
		return false;
	}
	json_int64(&outcome->detail, "transaction_id", receipt.transaction_id);
	outcome->changed = done == PAYMENT_DELIVERED;
	return true;
}

/*
 * Sets the amount that was reversed under a reference, and what became of it.
 */
static void
set_reversal(const Purchase *purchase, char *reference, ReversalStatus status,
			 int64 amount, const char *currency, StripeOutcome *outcome)
{
	if (reversals_set(purchase->id, cstring_to_text(reference), status,
					  stripe_money(amount, currency)))
		outcome->changed = true;
}

/*
 * Reverses a purchase by what was refunded and charged back of its payment.
 */
static void
apply_reversals(const Payment *payment, const Purchase *purchase,
				StripeOutcome *outcome)
{
	char	   *currency = payment->reversed_in;
	int64		refunded = 0;
	int64		charged_back = 0;
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

		refunded = plus(refunded, refunded_of(charge));
		if (refunded_of(charge) > 0)
			set_reversal(purchase, *charge->id ? charge->id : "refunds",
						 REVERSAL_MADE, refunded_of(charge), currency, outcome);
		else
			set_reversal(purchase, *charge->id ? charge->id : "refunds",
						 REVERSAL_WITHDRAWN, charge->most, currency, outcome);
	}
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);
		int64		amount = dispute->taken ? dispute->amount : 0;

		charged_back = plus(charged_back, amount);
		if (amount == 0)
			set_reversal(purchase, dispute->id, REVERSAL_WON,
						 dispute->returned, currency, outcome);
		else
			set_reversal(purchase, dispute->id,
						 dispute->lost ? REVERSAL_LOST : REVERSAL_OPEN,
						 amount, currency, outcome);
	}
	if (payment->charges != NIL)
		json_int64(&outcome->detail, "refunded", refunded);
	if (payment->disputes != NIL)
		json_int64(&outcome->detail, "charged_back", charged_back);
}

/*
 * Stores what went back of a payment, for the invoices that it is or will be
 * linked with.
 */
static void
write_reversals(const char *subject, const Payment *payment)
{
	JsonObject	detail;
	JsonObject	charges;
	JsonObject	refunds;
	JsonObject	disputes;
	JsonObject	withdrawn;
	int64		refunded = 0;
	int64		disputed = 0;
	ListCell   *lc;

	json_begin(&charges);
	json_begin(&refunds);
	json_begin(&disputes);
	json_begin(&withdrawn);
	foreach(lc, payment->charges)
	{
		Charge	   *charge = lfirst(lc);

		refunded = plus(refunded, refunded_of(charge));
		json_int64(&charges, charge->id, refunded_of(charge));
		if (refunded_of(charge) == 0)
			json_int64(&withdrawn, charge->id, charge->most);
	}
	foreach(lc, payment->refunds)
	{
		StripeReversal *refund = lfirst(lc);

		json_int64(&refunds, refund->id, refund->taken ? refund->amount : 0);
	}
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);
		JsonObject	object;

		json_begin(&object);
		json_int64(&object, "amount", dispute->taken ? dispute->amount : 0);
		json_bool(&object, "lost", dispute->lost);
		json_int64(&object, "returned", dispute->returned);
		json_by_name(&disputes, dispute->id, &object);
		disputed = plus(disputed, dispute->taken ? dispute->amount : 0);
	}
	json_begin(&detail);
	json_by_name(&detail, "charges", &charges);
	json_by_name(&detail, "refunds", &refunds);
	json_by_name(&detail, "disputes", &disputes);
	json_by_name(&detail, "withdrawn", &withdrawn);
	invoice_payments_write(subject, payment->reversed_in, refunded, disputed,
						   json_document(&detail));
}

/*
 * Applies a payment to the invoices that it is linked with.
 */
static void
apply_to_invoices(const Payment *payment, List *invoices,
				  StripeOutcome *outcome)
{
	int64		refunded = 0;
	int64		charged_back = 0;
	ListCell   *lc;

	outcome->applied = true;
	foreach(lc, invoices)
		stripe_apply_invoice(lfirst(lc), outcome);
	foreach(lc, payment->charges)
		refunded = plus(refunded, refunded_of(lfirst(lc)));
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);

		charged_back = plus(charged_back, dispute->taken ? dispute->amount : 0);
	}
	if (payment->charges != NIL)
		json_int64(&outcome->detail, "refunded", refunded);
	if (payment->disputes != NIL)
		json_int64(&outcome->detail, "charged_back", charged_back);
}

/*
 * Announces failed attempts to pay for a purchase, each when its event arrives.
 */
static void
announce_failures(List *events, const Purchase *purchase)
{
	ListCell   *lc;

	foreach(lc, events)
	{
		StripeEvent *event = lfirst(lc);
		JsonObject	json;

		if (event->kind != FACT_INTENT || event->payload == NULL ||
			stripe_outcome(event) == OUTCOME_PAID)
			continue;
		json_begin(&json);
		json_int64(&json, "purchase_id", purchase->id);
		json_cstring(&json, "payment_reference", event->object_id);
		json_cstring(&json, "event_id", event->id);
		events_announce("payment_failed", purchase->account_id, 0, clock_now(),
						&json);
	}
}

/*
 * Returns whether a purchase was completed by an invoice that a payment is of.
 */
static bool
is_of_invoice(const char *subject, const Purchase *purchase)
{
	char	   *reference = text_to_cstring(purchase->payment_reference);
	ListCell   *lc;

	foreach(lc, stripe_find_invoices(subject))
	{
		if (strcmp(lfirst(lc), reference) == 0)
			return true;
	}
	return false;
}

/*
 * Returns whether nothing connects a payment with an account or a purchase here:
 * neither metadata of ours, nor the client reference of its session, nor its
 * customer.
 */
static bool
is_foreign(const Payment *payment)
{
	Account		account;

	if (payment->account)
		return false;
	if (payment->reference &&
		(strncmp(payment->reference, "purchase_", strlen("purchase_")) == 0 ||
		 rows_find_account(NULL, store_snapshot(true),
						   cstring_to_text(payment->reference), 0, &account)))
		return false;
	return payment->customer == NULL ||
		!stripe_knows_customer(payment->customer);
}

/*
 * Applies the events of a payment, which must be in order.
 */
void
stripe_apply_payment(const char *subject, List *events, StripeOutcome *outcome)
{
	Payment		payment = {.outcome = OUTCOME_NONE};
	Purchase	purchase;
	List	   *invoices;
	bool		paid;
	ListCell   *lc;

	foreach(lc, events)
		read_event(&payment, lfirst(lc));
	sum_refunds(&payment);
	if (payment.charges != NIL || payment.disputes != NIL)
		write_reversals(subject, &payment);

	if (payment.reference == NULL ||
		!purchases_find(cstring_to_text(payment.reference), 0, &purchase))
	{
		/* the payment of an invoice has no session */
		invoices = payment.reference == NULL &&
			payment.outcome == OUTCOME_NONE ?
			stripe_find_invoices(subject) : NIL;
		if (invoices != NIL)
		{
			apply_to_invoices(&payment, invoices, outcome);
			return;
		}
		if (setting_stripe_foreign == STRIPE_FOREIGN_IGNORE &&
			is_foreign(&payment))
			return;
		if (payment.outcome == OUTCOME_PAID)
			wait_for(outcome, payment.reference ?
					 psprintf("purchase \"%s\"", payment.reference) :
					 "a reference to a purchase", "payment_unknown");
		else if (is_reversed(&payment))
			wait_for(outcome, "what the payment was for", "payment_unknown");
		return;
	}
	outcome->account_id = purchase.account_id;
	json_int64(&outcome->detail, "purchase_id", purchase.id);
	if (purchase.payment_reference &&
		strcmp(text_to_cstring(purchase.payment_reference), subject) != 0 &&
		!is_of_invoice(subject, &purchase))
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
	if (!paid && payment.outcome != OUTCOME_NONE)
	{
		if (payment.outcome == OUTCOME_PAID)
			paid = complete_purchase(subject, &payment, &purchase, outcome);
		else
			end_purchase(&payment, &purchase, outcome);
	}
	/* money that bought no credits takes none when it is given back */
	if (paid)
		apply_reversals(&payment, &purchase, outcome);
	if (payment.customer && outcome->changed)
		stripe_add_customer(payment.customer, purchase.account_id, true);
}
