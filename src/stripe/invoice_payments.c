/*
 * invoice_payments.c
 *	  The money of Stripe's invoices: that which was paid, as purchases, and that
 *	  which went back.
 *
 * What went back of a payment is a row of credits.stripe_payments, and which
 * payments an invoice was paid by is in credits.stripe_links.  Either may be
 * known before the other, and before the invoice.
 *
 * The purchase of an invoice has no grants: its credits follow from its lines
 * (shares.c).  It is there for its money, its refunds and its chargebacks.
 *
 * Tested in test/sql/stripe.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/purchases.h"
#include "sell/reversals.h"
#include "store/statements.h"
#include "stripe/billing.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static SqlStatement find_payments = {
	.text = "SELECT p.refunded, p.disputed, p.detail, p.currency "
	"FROM credits.stripe_links AS l "
	"JOIN credits.stripe_payments AS p ON p.payment = l.payment "
	"WHERE l.invoice = $1 ORDER BY l.payment",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement update_payment = {
	.text = "UPDATE credits.stripe_payments AS p SET currency = $2, "
	"refunded = $3, disputed = $4, detail = $5 WHERE p.payment = $1",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, INT8OID, INT8OID, JSONBOID, InvalidOid
	}
};

static SqlStatement insert_payment = {
	.text = "INSERT INTO credits.stripe_payments "
	"(payment, currency, refunded, disputed, detail) "
	"VALUES ($1, $2, $3, $4, $5)",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, INT8OID, INT8OID, JSONBOID, InvalidOid
	}
};

/*
 * Stores what went back of a payment, which must be locked.
 */
void
invoice_payments_write(const char *payment, const char *currency,
					   int64 refunded, int64 disputed, Jsonb *detail)
{
	Datum		values[5];
	bool		isnull[5] = {false};

	values[0] = CStringGetTextDatum(payment);
	values[1] = currency ? CStringGetTextDatum(currency) : (Datum) 0;
	isnull[1] = currency == NULL;
	values[2] = Int64GetDatum(refunded);
	values[3] = Int64GetDatum(disputed);
	values[4] = JsonbPGetDatum(detail);
	if (statements_run(&update_payment, values, isnull)->nrows == 0)
		(void) statements_run(&insert_payment, values, isnull);
}

/*
 * Returns a part of the detail of a payment, NULL if there is none.
 */
static JsonbContainer *
part_of(Jsonb *detail, const char *name)
{
	JsonbValue *value = stripe_get(&detail->root, name);

	return value && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/*
 * Reads the number that an object has for an id.  Returns false if it has none.
 */
static bool
number_of(JsonbContainer *object, const char *id, int64 *amount)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, id, strlen(id),
													 NULL);

	if (value == NULL || value->type != jbvNumeric)
		return false;
	*amount = DatumGetInt64(DirectFunctionCall1(numeric_int8,
												NumericGetDatum(value->val.numeric)));
	return true;
}

/*
 * Returns the sum of the numbers that an object has, which may be NULL.  It is a
 * numeric, as all sums of amounts are here: these may be of any size.
 */
static Datum
sum_of(JsonbContainer *object)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	Datum		sum = number(0);

	if (object == NULL)
		return sum;
	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_VALUE && value.type == jbvNumeric)
			sum = add(sum, NumericGetDatum(value.val.numeric));
	}
	return sum;
}

/*
 * Returns how much of what was refunded of an invoice's payments belongs to a
 * credit note, which counts by itself.  refunds has the refunds of each payment
 * (JsonbContainer *) that are known by their ids; unknown is how much was
 * refunded besides.
 */
static Datum
refunded_by_note(const CreditNote *note, List *refunds, Datum *unknown)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	Datum		belongs = number(0);

	if (note->refunds == NULL)
		return belongs;
	it = JsonbIteratorInit(&note->refunds->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *id;
		bool		known = false;
		int64		amount;
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_KEY)
			continue;
		id = pnstrdup(value.val.string.val, value.val.string.len);
		foreach(lc, refunds)
		{
			if (known || !number_of(lfirst(lc), id, &amount))
				continue;
			known = true;
			belongs = add(belongs, number(amount));
		}
		/* refunds that are reported with the charge only have no id yet */
		if (!known && compare(*unknown, number(0)) > 0 &&
			number_of(&note->refunds->root, id, &amount))
		{
			Datum		part = compare(number(amount), *unknown) < 0 ?
				number(amount) : *unknown;

			*unknown = subtract(*unknown, part);
			belongs = add(belongs, part);
		}
	}
	return belongs;
}

/*
 * Returns how much of the money of an invoice went back, apart from what its
 * credit notes refunded.
 */
Datum
invoice_payments_back(const Invoice *invoice, List *notes)
{
	Datum		value = CStringGetTextDatum(invoice->invoice);
	SqlResult  *payments = billing_read(&find_payments, &value);
	List	   *refunds = NIL;
	Datum		refunded = number(0);
	Datum		disputed = number(0);
	Datum		unknown = number(0);
	uint64		i;
	bool		isnull;
	ListCell   *lc;

	for (i = 0; i < payments->nrows; i++)
	{
		Datum		amount = number(DatumGetInt64(statements_value(payments, i, 1, &isnull)));
		JsonbContainer *known = part_of(DatumGetJsonbP(statements_value(payments, i, 3, &isnull)),
										"refunds");
		Datum		besides = subtract(amount, sum_of(known));

		CHECK_FOR_INTERRUPTS();
		refunded = add(refunded, amount);
		disputed = add(disputed, number(DatumGetInt64(statements_value(payments, i, 2, &isnull))));
		if (compare(besides, number(0)) > 0)
			unknown = add(unknown, besides);
		if (known)
			refunds = lappend(refunds, known);
	}
	/* a note does not say which of the payments its refund is of */
	foreach(lc, notes)
		refunded = subtract(refunded,
							refunded_by_note(lfirst(lc), refunds, &unknown));
	return compare(refunded, number(0)) > 0 ? add(refunded, disputed) : disputed;
}

/*
 * Sets the refunds and chargebacks of an invoice's purchase to what went back of
 * one of its payments.
 */
static void
reverse(int64 purchase_id, Jsonb *detail, const char *currency,
		StripeOutcome *outcome)
{
	static const char *const kinds[] = {"charges", "disputes"};
	JsonbContainer *withdrawn = part_of(detail, "withdrawn");
	int			k;

	for (k = 0; k < (int) lengthof(kinds); k++)
	{
		JsonbContainer *reversals = part_of(detail, kinds[k]);
		JsonbIterator *it;
		JsonbIteratorToken token;
		JsonbValue	value;

		if (reversals == NULL)
			continue;
		it = JsonbIteratorInit(reversals);
		while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		{
			char	   *id;
			ReversalStatus status;
			int64		amount = 0;

			CHECK_FOR_INTERRUPTS();
			if (token != WJB_KEY)
				continue;
			id = pnstrdup(value.val.string.val, value.val.string.len);
			if (k == 0)
			{
				(void) number_of(reversals, id, &amount);
				status = amount > 0 ? REVERSAL_MADE : REVERSAL_WITHDRAWN;
				if (amount == 0 && withdrawn)
					(void) number_of(withdrawn, id, &amount);
			}
			else
			{
				(void) JsonbIteratorNext(&it, &value, true);
				if (value.type != jbvBinary)
					continue;
				(void) stripe_int64(value.val.binary.data, "amount", &amount);
				status = amount == 0 ? REVERSAL_WON :
					stripe_true(value.val.binary.data, "lost") ?
					REVERSAL_LOST : REVERSAL_OPEN;
				if (amount == 0)
					(void) stripe_int64(value.val.binary.data, "returned",
										&amount);
			}
			if (reversals_set(purchase_id,
							  cstring_to_text(*id ? id : "refunds"), status,
							  stripe_money(amount, currency)))
				outcome->changed = true;
		}
	}
}

/*
 * Sets the refunds and chargebacks of a purchase to what went back of the
 * payments of an invoice.  Currency is a code of Stripe's.
 */
void
invoice_payments_reverse(const char *invoice, int64 purchase_id,
						 const char *currency, StripeOutcome *outcome)
{
	Datum		value = CStringGetTextDatum(invoice);
	SqlResult  *payments = billing_read(&find_payments, &value);
	uint64		i;

	for (i = 0; i < payments->nrows; i++)
	{
		bool		isnull;
		Datum		code = statements_value(payments, i, 4, &isnull);

		CHECK_FOR_INTERRUPTS();
		/* money that went back in another currency cannot be compared */
		if (isnull || pg_strcasecmp(TextDatumGetCString(code), currency) != 0)
			continue;
		reverse(purchase_id,
				DatumGetJsonbP(statements_value(payments, i, 3, &isnull)),
				currency, outcome);
	}
}

/*
 * Records the money that was paid for an invoice as a purchase, and what went
 * back of it.
 */
void
invoice_payments_record(const Invoice *invoice, int64 account_id,
						StripeOutcome *outcome)
{
	int64		id;

	if (invoice->amount_paid <= 0 || invoice->currency == NULL)
		return;
	id = purchases_record(account_id, cstring_to_text(invoice->invoice),
						  stripe_money(invoice->amount_paid, invoice->currency),
						  stripe_currency(invoice->currency));
	invoice_payments_reverse(invoice->invoice, id, invoice->currency, outcome);
}
