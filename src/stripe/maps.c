/*
 * maps.c
 *	  What Stripe's ids are mapped to: prices to plans and packages, customers to
 *	  accounts, and payments to invoices.
 *
 * Tested in test/sql/stripe.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/stripe.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_stripe_set_price);
PG_FUNCTION_INFO_V1(credits_stripe_set_customer);

static SqlStatement find_link = {
	.text = "SELECT l.invoice FROM credits.stripe_links AS l WHERE l.payment = $1 "
	"ORDER BY l.invoice",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Nothing here names the index of ON CONFLICT: PostgreSQL would then go by the
 * valid one only, and violate another that REINDEX CONCURRENTLY is building.
 */
static SqlStatement insert_link = {
	.text = "INSERT INTO credits.stripe_links (payment, invoice) "
	"VALUES ($1, $2) ON CONFLICT DO NOTHING",
	.types = (const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/* adds no version that is the same as the newest */
static SqlStatement insert_price = {
	.text = "INSERT INTO credits.stripe_price_versions "
	"(price, plan, package, upgrade, give, created_at, role) "
	"SELECT $1, $2, $3, $4, $5, $6, session_user WHERE NOT EXISTS ("
	"SELECT FROM (SELECT * FROM credits.stripe_price_versions AS v "
	"WHERE v.price = $1 ORDER BY v.id DESC LIMIT 1) AS n "
	"WHERE (n.plan, n.package, n.upgrade, n.give) "
	"IS NOT DISTINCT FROM ($2, $3, $4, $5))",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static const char *const upgrade_names[] = {"in_advance", "when_paid"};
static const char *const give_names[] = {"paid", "finalized", "nothing"};

static SqlStatement insert_customer = {
	.text = "INSERT INTO credits.stripe_customers (id, account_id, learned, created_at) "
	"VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	.types = (const Oid[]) {
		TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement find_customer_id = {
	.text = "SELECT FROM credits.stripe_customers AS c WHERE c.id = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement update_customer = {
	.text = "UPDATE credits.stripe_customers SET account_id = $2, "
	"learned = $3, created_at = $4 WHERE id = $1",
	.types = (const Oid[]) {
		TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

/*
 * Inserts a row or, if there is one, updates it.
 */
static void
insert_or_update(SqlStatement *insert, SqlStatement *update,
				 const Datum *values, const bool *isnull)
{
	if (statements_run(insert, values, isnull)->nrows == 0)
		(void) statements_run(update, values, isnull);
}

/*
 * Returns the first column of a row of a result, which must be text.
 */
char *
stripe_text_of(const SqlResult *result, uint64 row)
{
	bool		isnull;

	return TextDatumGetCString(statements_value(result, row, 1, &isnull));
}

/*
 * Returns the invoices that a payment is linked with, in order.
 */
List *
stripe_find_invoices(const char *payment)
{
	Datum		value = CStringGetTextDatum(payment);
	SqlResult  *result = statements_run(&find_link, &value, NULL);
	List	   *invoices = NIL;
	uint64		i;

	for (i = 0; i < result->nrows; i++)
		invoices = lappend(invoices, stripe_text_of(result, i));
	return invoices;
}

/*
 * Links a payment with an invoice.
 */
void
stripe_add_link(const char *payment, const char *invoice)
{
	Datum		values[] = {
		CStringGetTextDatum(payment), CStringGetTextDatum(invoice)
	};

	(void) statements_run(&insert_link, values, NULL);
}

/*
 * Maps a price or product to a plan or a package, or to nothing.
 */
Datum
credits_stripe_set_price(PG_FUNCTION_ARGS)
{
	Datum		values[6];
	bool		isnull[6] = {false};
	int			upgrade;
	int			give;
	bool		nothing;

	store_check_writable("credits_stripe_set_price()");
	values[0] = PointerGetDatum(arg_name(fcinfo, 0, "id"));
	isnull[1] = PG_ARGISNULL(1);
	values[1] = isnull[1] ? (Datum) 0 :
		PointerGetDatum(arg_name(fcinfo, 1, "plan"));
	isnull[2] = PG_ARGISNULL(2);
	values[2] = isnull[2] ? (Datum) 0 :
		PointerGetDatum(arg_name(fcinfo, 2, "package"));
	upgrade = ARG_CHOICE(3, "upgrade", upgrade_names);
	give = ARG_CHOICE(4, "give", give_names);
	nothing = give == lengthof(give_names) - 1;
	if (!isnull[1] && !isnull[2])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price can be mapped to a plan or to a package, not to both"),
				 errdetail("Both plan \"%s\" and package \"%s\" are specified.",
						   TextDatumGetCString(values[1]),
						   TextDatumGetCString(values[2])),
				 errhint("Specify one of them.")));
	if (nothing && !(isnull[1] && isnull[2]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a price that gives nothing has no plan or package"),
				 errdetail("\"%s\" is specified for price \"%s\".",
						   TextDatumGetCString(values[isnull[1] ? 2 : 1]),
						   TextDatumGetCString(values[0])),
				 errhint("Leave it out, or pass another value for give.")));
	/* a removed mapping is a version, too */
	isnull[3] = isnull[4] = isnull[1] && isnull[2];
	if (nothing)
		isnull[4] = false;
	values[3] = CStringGetTextDatum(upgrade_names[upgrade]);
	values[4] = CStringGetTextDatum(give_names[give]);
	values[5] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&insert_price, values, isnull);
	PG_RETURN_VOID();
}

/*
 * Maps a Stripe customer to an account.
 */
Datum
credits_stripe_set_customer(PG_FUNCTION_ARGS)
{
	text	   *customer = arg_name(fcinfo, 0, "customer");
	text	   *name = arg_account(fcinfo, 1);
	Account		account;

	store_check_writable("credits_stripe_set_customer()");
	guards_find_account(store_snapshot(true), name, &account);
	stripe_add_customer(text_to_cstring(customer), account.id, false);
	PG_RETURN_VOID();
}

/*
 * Returns whether it is known which account a customer has.
 */
bool
stripe_knows_customer(const char *customer)
{
	Datum		value = CStringGetTextDatum(customer);

	return statements_run(&find_customer_id, &value, NULL)->nrows > 0;
}

/*
 * Stores which account a customer has.  What was learned from an event does not
 * replace what someone has set.
 */
void
stripe_add_customer(const char *customer, int64 account_id, bool learned)
{
	Datum		values[] = {
		CStringGetTextDatum(customer), Int64GetDatum(account_id),
		BoolGetDatum(learned), TimestampTzGetDatum(clock_now())
	};

	if (learned)
		(void) statements_run(&insert_customer, values, NULL);
	else
		insert_or_update(&insert_customer, &update_customer, values, NULL);
}
