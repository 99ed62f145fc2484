/*
 * other_invoices.c
 *	  Stripe's invoices that bill no subscription.
 *
 * Such an invoice was made by hand, by an application, or by Checkout beside a
 * session.  If its metadata names a purchase, it pays for that, as a session
 * does.  All others that were paid are in credits.stripe_attention, unless a
 * purchase has the invoice or one of its payments as its payment.  So what is
 * still to be done about an invoice follows from what is known, whatever became
 * known first.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "sell/purchases.h"
#include "store/statements.h"
#include "stripe/billing.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static SqlStatement find_other = {
	.text = "SELECT o.paid, o.facts, o.as_of, o.as_rank, o.as_event "
	"FROM credits.stripe_other_invoices AS o WHERE o.invoice = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement update_other = {
	.text = "UPDATE credits.stripe_other_invoices AS o SET paid = $2, facts = $3, "
	"as_of = $4, as_rank = $5, as_event = $6 WHERE o.invoice = $1",
	.types = (const Oid[]) {
		TEXTOID, BOOLOID, JSONBOID, TIMESTAMPTZOID, INT4OID, TEXTOID, InvalidOid
	}
};

static SqlStatement insert_other = {
	.text = "INSERT INTO credits.stripe_other_invoices "
	"(invoice, paid, facts, as_of, as_rank, as_event) "
	"VALUES ($1, $2, $3, $4, $5, $6)",
	.types = (const Oid[]) {
		TEXTOID, BOOLOID, JSONBOID, TIMESTAMPTZOID, INT4OID, TEXTOID, InvalidOid
	}
};

/* An invoice that bills no subscription */
typedef struct OtherInvoice
{
	bool		paid;
	Jsonb	   *facts;			/* of the newest event */
	AsOf		as_of;
} OtherInvoice;

/*
 * Returns whether an event about an invoice is about one that bills no
 * subscription: it is its own subject.
 */
bool
other_invoices_is_one(const StripeEvent *event)
{
	return strcmp(event->subject, event->object_id) == 0;
}

/*
 * Finds an invoice that bills no subscription.
 */
static bool
find_other_invoice(const char *id, OtherInvoice *invoice)
{
	Datum		value = CStringGetTextDatum(id);
	SqlResult  *result = statements_run(&find_other, &value, NULL);
	bool		isnull;

	memset(invoice, 0, sizeof(OtherInvoice));
	if (result->nrows == 0)
		return false;
	invoice->paid = DatumGetBool(statements_value(result, 0, 1, &isnull));
	invoice->facts = DatumGetJsonbPCopy(statements_value(result, 0, 2, &isnull));
	invoice->as_of.at = DatumGetTimestampTz(statements_value(result, 0, 3,
															 &isnull));
	invoice->as_of.rank = DatumGetInt32(statements_value(result, 0, 4, &isnull));
	invoice->as_of.event = TextDatumGetCString(statements_value(result, 0, 5,
																&isnull));
	return true;
}

/*
 * Takes an event about an invoice that bills no subscription, and that is
 * locked, into its row.
 */
void
other_invoices_fold(const StripeEvent *event)
{
	OtherInvoice invoice;
	bool		found = find_other_invoice(event->object_id, &invoice);
	Datum		values[6];

	if (stripe_outcome(event) == OUTCOME_PAID)
		invoice.paid = true;
	if (!found || billing_is_newer(&invoice.as_of, event))
	{
		billing_take_as_of(&invoice.as_of, event);
		invoice.facts = event->facts;
	}
	values[0] = CStringGetTextDatum(event->object_id);
	values[1] = BoolGetDatum(invoice.paid);
	values[2] = JsonbPGetDatum(invoice.facts);
	values[3] = TimestampTzGetDatum(invoice.as_of.at);
	values[4] = Int32GetDatum(invoice.as_of.rank);
	values[5] = CStringGetTextDatum(invoice.as_of.event);
	(void) statements_run(found ? &update_other : &insert_other, values, NULL);
}

/*
 * Completes the purchase that an invoice names in its metadata, if it was paid.
 * A purchase that was paid otherwise is left alone: by a payment of the invoice
 * itself, perhaps, which is linked with it later.
 */
void
other_invoices_deliver(const char *id, StripeOutcome *outcome)
{
	OtherInvoice invoice;
	Purchase	purchase;
	PaymentOutcome done;
	Receipt		receipt = {0};
	int64		total;
	char	   *number;
	char	   *currency;

	if (!find_other_invoice(id, &invoice) || !invoice.paid)
		return;
	number = stripe_text(&invoice.facts->root, "purchase_id");
	currency = stripe_text(&invoice.facts->root, "currency");
	if (number == NULL || currency == NULL ||
		!stripe_int64(&invoice.facts->root, "total", &total) || total < 0 ||
		!purchases_find(cstring_to_text(psprintf("purchase_%s", number)), 0,
						&purchase))
		return;
	outcome->account_id = purchase.account_id;
	json_int64(&outcome->detail, "purchase_id", purchase.id);
	if (purchase.status == PURCHASE_COMPLETED)
		return;
	/* announces what is wrong with it */
	done = payments_complete(purchase.id, cstring_to_text(id),
							 stripe_money(total, currency),
							 stripe_currency(currency), &receipt);
	json_cstring(&outcome->detail, "outcome", payments_outcome_name(done));
	if (done != PAYMENT_DELIVERED)
		return;
	json_int64(&outcome->detail, "transaction_id", receipt.transaction_id);
	outcome->changed = true;
}

/*
 * Takes back what went back of an invoice that bills no subscription, if a
 * purchase has it as its payment.
 */
void
other_invoices_reverse(const char *id, StripeOutcome *outcome)
{
	Purchase	purchase;

	if (!purchases_find_payment(cstring_to_text(id), &purchase) ||
		purchase.currency == NULL)
		return;
	outcome->account_id = purchase.account_id;
	invoice_payments_reverse(id, purchase.id,
							 text_to_cstring(purchase.currency), outcome);
}
