/*
 * stripe_maps.c
 *	  What Stripe's ids stand for: prices, customers, and the payments of
 *	  invoices.
 */
#include "credits.h"

#include "sql.h"
#include "stripe.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_stripe_set_price);
PG_FUNCTION_INFO_V1(credits_stripe_set_customer);

static SqlStatement find_link = {
	.text = "SELECT l.invoice FROM credits.stripe_links AS l WHERE l.payment = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement insert_link = {
	.text = "INSERT INTO credits.stripe_links (payment, invoice) "
	"VALUES ($1, $2) ON CONFLICT (payment, invoice) DO NOTHING",
	.types = (const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

static SqlStatement set_price = {
	.text = "INSERT INTO credits.stripe_prices (id, plan, package, created_at, role) "
	"VALUES ($1, $2, $3, $4, session_user) "
	"ON CONFLICT (id) DO UPDATE SET plan = $2, package = $3, "
	"created_at = $4, role = session_user",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement unset_price = {
	.text = "DELETE FROM credits.stripe_prices WHERE id = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement insert_customer = {
	.text = "INSERT INTO credits.stripe_customers AS c (id, account_id, learned, created_at) "
	"VALUES ($1, $2, $3, $4) "
	"ON CONFLICT (id) DO UPDATE SET account_id = $2, learned = false, "
	"created_at = $4 WHERE NOT $3",
	.types = (const Oid[]) {
		TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

/*
 * Returns the first column of a row that a statement returned.
 */
char *
stripe_text_of(const SqlResult *result, uint64 row)
{
	bool		isnull;

	return TextDatumGetCString(sql_value(result, row, 1, &isnull));
}

/*
 * Returns the invoice that a payment was for, NULL if none is known.
 */
char *
stripe_find_invoice(const char *payment)
{
	Datum		value = CStringGetTextDatum(payment);
	SqlResult  *result = sql_run(&find_link, &value, NULL);

	return result->nrows > 0 ? stripe_text_of(result, 0) : NULL;
}

/*
 * Locks the invoice that a payment is for, if one of the events says which, and
 * notes it.  Who records an invoice as paid holds that lock too, so one of both
 * sees the other.
 */
void
stripe_link_payment(const StripeEvent *event)
{
	char	   *said = stripe_text(&event->facts->root, "invoice");
	char	   *invoice = said ? said : stripe_find_invoice(event->subject);

	if (invoice)
		(void) stripe_lock(invoice);
	if (said)
		stripe_add_link(event->subject, invoice);
}

/*
 * Notes which invoice a payment is for.
 */
void
stripe_add_link(const char *payment, const char *invoice)
{
	Datum		values[] = {
		CStringGetTextDatum(payment), CStringGetTextDatum(invoice)
	};

	(void) sql_run(&insert_link, values, NULL);
}

/*
 * Says which plan or package a price or product stands for.
 */
Datum
credits_stripe_set_price(PG_FUNCTION_ARGS)
{
	Datum		values[4];
	bool		isnull[4] = {false};

	store_check_writable("credits_stripe_set_price()");
	values[0] = PointerGetDatum(arg_name(fcinfo, 0, "id"));
	isnull[1] = PG_ARGISNULL(1);
	values[1] = isnull[1] ? (Datum) 0 :
		PointerGetDatum(arg_name(fcinfo, 1, "plan"));
	isnull[2] = PG_ARGISNULL(2);
	values[2] = isnull[2] ? (Datum) 0 :
		PointerGetDatum(arg_name(fcinfo, 2, "package"));
	values[3] = TimestampTzGetDatum(clock_now());
	if (isnull[1] && isnull[2])
		(void) sql_run(&unset_price, values, NULL);
	else if (isnull[1] || isnull[2])
		(void) sql_run(&set_price, values, isnull);
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price stands for a plan or for a package, not both"),
				 errdetail("Plan \"%s\" and package \"%s\" are named.",
						   TextDatumGetCString(values[1]),
						   TextDatumGetCString(values[2])),
				 errhint("Name one of them.")));
	PG_RETURN_VOID();
}

/*
 * Says which account a customer of Stripe's has.
 */
Datum
credits_stripe_set_customer(PG_FUNCTION_ARGS)
{
	text	   *customer = arg_name(fcinfo, 0, "customer");
	text	   *name = arg_account(fcinfo, 1);
	Account		account;

	store_check_writable("credits_stripe_set_customer()");
	ledger_find_account(store_snapshot(true), name, &account);
	stripe_add_customer(text_to_cstring(customer), account.id, false);
	PG_RETURN_VOID();
}

/*
 * Notes which account a customer has.  What was set is not changed by what is
 * learned.
 */
void
stripe_add_customer(const char *customer, int64 account_id, bool learned)
{
	Datum		values[] = {
		CStringGetTextDatum(customer), Int64GetDatum(account_id),
		BoolGetDatum(learned), TimestampTzGetDatum(clock_now())
	};

	(void) sql_run(&insert_customer, values, NULL);
}
