/*
 * payments.c
 *	  Applying a Stripe payment: to the purchase that it pays for, or to the
 *	  invoices.
 *
 * A payment is for the purchase that its checkout session or its own metadata
 * refers to, or for the invoices that it is linked with.
 *
 * Tested in test/sql/stripe.sql and test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "base/money.h"
#include "ledger/ledger.h"
#include "sell/purchases.h"
#include "sell/reversals.h"
#include "stripe/billing.h"
#include "stripe/payment_facts.h"

#include "miscadmin.h"
#include "utils/builtins.h"

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
		outcome->waiting = payment_facts_is_all_returned(payment) ? NULL : what;
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
		outcome->waiting = payment_facts_is_all_returned(payment) ? NULL : what;
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

		refunded = payment_facts_add(refunded, payment_facts_refunded(charge));
		if (payment_facts_refunded(charge) > 0)
			set_reversal(purchase, *charge->id ? charge->id : "refunds",
						 REVERSAL_MADE, payment_facts_refunded(charge), currency, outcome);
		else
			set_reversal(purchase, *charge->id ? charge->id : "refunds",
						 REVERSAL_WITHDRAWN, charge->most, currency, outcome);
	}
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);
		int64		amount = dispute->taken ? dispute->amount : 0;

		charged_back = payment_facts_add(charged_back, amount);
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

		refunded = payment_facts_add(refunded, payment_facts_refunded(charge));
		json_int64(&charges, charge->id, payment_facts_refunded(charge));
		if (payment_facts_refunded(charge) == 0)
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
		disputed = payment_facts_add(disputed, dispute->taken ? dispute->amount : 0);
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
		refunded = payment_facts_add(refunded, payment_facts_refunded(lfirst(lc)));
	foreach(lc, payment->disputes)
	{
		StripeReversal *dispute = lfirst(lc);

		charged_back = payment_facts_add(charged_back, dispute->taken ? dispute->amount : 0);
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
	Payment		payment;
	Purchase	purchase;
	List	   *invoices;
	bool		paid;

	payment_facts_read(&payment, events);
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
		else if (payment_facts_is_reversed(&payment))
			wait_for(outcome, "what the payment was for", "payment_unknown");
		return;
	}
	outcome->account_id = purchase.account_id;
	json_int64(&outcome->detail, "purchase_id", purchase.id);
	if (purchase.payment_reference &&
		strcmp(text_to_cstring(purchase.payment_reference), subject) != 0 &&
		!is_of_invoice(subject, &purchase))
	{
		if (payment_facts_is_all_returned(&payment))
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
