/*
 * payment_facts.c
 *	  What the events of a Stripe payment say: which purchase it pays for, whether
 *	  it is paid, and how much of it was refunded or charged back.
 *
 * A payment is paid if any event says so.  Any other outcome of a session came
 * before that, or is that of another attempt.
 *
 * Stripe reports the refunds of a charge twice: in total with the charge, and one
 * by one.  Either may be ahead of the other, so we take the larger of the total
 * that the charge had last, less what failed later, and the sum of the refunds that
 * did not fail.  Of each dispute, which is a chargeback to us, the newest event
 * counts.  An inquiry and a dispute that was won take nothing.
 *
 * Tested in test/sql/stripe.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/payment_facts.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

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

/*
 * Adds amounts, which are not negative.  A payment whose sums are too large waits.
 */
int64
payment_facts_add(int64 a, int64 b)
{
	int64		sum;

	if (pg_add_s64_overflow(a, b, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("amounts of the payment are too large"),
				 errhint("Compare its events in credits.stripe_events with what Stripe shows.")));
	return sum;
}

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

		charge->known = payment_facts_add(charge->known, refund->amount);
		charge->most = Max(charge->most, charge->known);
		if (refund->taken)
			charge->good = payment_facts_add(charge->good, refund->amount);
		else if (refund->began_at <= charge->told_at &&
				 refund->told_at > charge->told_at)
			charge->failed = payment_facts_add(charge->failed, refund->amount);
	}
}

/*
 * Reads what the events of a payment, which must be in order, say of it.
 */
void
payment_facts_read(Payment *payment, List *events)
{
	ListCell   *lc;

	memset(payment, 0, sizeof(Payment));
	payment->outcome = OUTCOME_NONE;
	foreach(lc, events)
		read_event(payment, lfirst(lc));
	sum_refunds(payment);
}

/*
 * Returns how much of a charge has been refunded.
 */
int64
payment_facts_refunded(const Charge *charge)
{
	return Max(charge->refunded - charge->failed, charge->good);
}

/*
 * Returns whether any money was refunded or disputed.
 */
bool
payment_facts_is_reversed(const Payment *payment)
{
	ListCell   *lc;

	foreach(lc, payment->charges)
	{
		if (payment_facts_refunded(lfirst(lc)) > 0)
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
bool
payment_facts_is_all_returned(const Payment *payment)
{
	int64		returned = 0;
	ListCell   *lc;

	foreach(lc, payment->charges)
		returned = payment_facts_add(returned, payment_facts_refunded(lfirst(lc)));
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);

		if (dispute->taken)
			returned = payment_facts_add(returned, dispute->amount);
	}
	return payment->amount > 0 && returned >= payment->amount;
}
