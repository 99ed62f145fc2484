/*
 * invoices.c
 *	  Telling what an invoice of a payment provider says about the periods of a
 *	  subscription.
 *
 * Tested in test/sql/paid_parts.sql.
 */
#include "credits.h"

#include "base/money.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/calls.h"
#include "subscribe/paid_parts.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_invoice);

/* lines that end together are one part; of several plans, the biggest counts */
static SqlStatement add_up_lines = {
	"SELECT min(l.starts_at), l.ends_at, sum(l.credits), "
	"sum(COALESCE(l.reversed, 0)), "
	"(array_agg(l.plan ORDER BY l.credits DESC))[1], sum(l.price), "
	"max(l.currency), bool_and(COALESCE(l.trial, false)), "
	"count(DISTINCT l.currency) "
	"FROM jsonb_to_recordset($1) AS l (starts_at timestamptz, "
	"ends_at timestamptz, credits bigint, reversed bigint, plan text, "
	"price numeric, currency text, trial boolean) "
	"GROUP BY l.ends_at ORDER BY l.ends_at",
	(const Oid[]) {JSONBOID, InvalidOid}
};

/*
 * Raises the error for lines that make no sense.
 */
static void
raise_bad_lines(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the lines of the invoice are not valid"),
			 errdetail("%s", detail),
			 errhint("Each line is an object with starts_at, ends_at and credits, and optionally reversed, plan, price, currency and trial.")));
}

/*
 * Reads a number of credits that is a numeric.  It must not be NULL.
 */
static int64
line_credits(const SqlResult *lines, uint64 i, int column)
{
	bool		isnull;
	Datum		value = statements_value(lines, i, column, &isnull);

	if (isnull)
		raise_bad_lines("Credits are missing.");
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
}

/*
 * Raises an error for a price that grants cannot have.  It may be negative, as
 * that of a proration is.
 */
static void
check_price(const PaidPart *part)
{
	Refusal		refusal;

	if ((part->price == 0) != (part->currency == NULL))
		raise_bad_lines("A price needs a currency.");
	if (part->price != 0 &&
		(!money_valid_amount(&refusal,
							 DirectFunctionCall1(numeric_abs, part->price),
							 "price") ||
		 !money_valid_currency(&refusal, part->currency)))
		raise_refusal(&refusal);
}

/*
 * Reads the part that some lines make.
 */
static PaidPart *
read_part(const SqlResult *lines, uint64 i, const Subscription *subscription,
		  TimestampTz settled_at, text *reference)
{
	PaidPart   *part = palloc0(sizeof(PaidPart));
	bool		isnull[4];
	Datum		plan = statements_value(lines, i, 5, &isnull[0]);
	Datum		value;

	part->reference = reference;
	part->settled_at = settled_at;
	part->starts_at = DatumGetTimestampTz(statements_value(lines, i, 1, &isnull[1]));
	part->ends_at = DatumGetTimestampTz(statements_value(lines, i, 2, &isnull[2]));
	if (isnull[1] || isnull[2])
		raise_bad_lines("A time is missing.");
	calls_check_instant("starts_at", part->starts_at);
	calls_check_instant("ends_at", part->ends_at);
	if (part->starts_at >= part->ends_at)
		raise_bad_lines("A line ends before it begins.");
	part->credits = line_credits(lines, i, 3);
	part->reversed = line_credits(lines, i, 4);
	if (part->credits < 0 ?
		part->reversed < part->credits || part->reversed > 0 :
		part->reversed < 0 || part->reversed > part->credits)
		raise_bad_lines("More is reversed than was paid for.");
	part->plan_id = isnull[0] ? subscription->plan_id :
		plans_sold(DatumGetTextPP(plan))->id;
	value = statements_value(lines, i, 6, &isnull[3]);
	if (!isnull[3])
		part->price = value;
	value = statements_value(lines, i, 7, &isnull[3]);
	if (!isnull[3])
		part->currency = DatumGetTextPP(value);
	if (DatumGetInt64(statements_value(lines, i, 9, &isnull[3])) > 1)
		raise_bad_lines("Lines that end together have several currencies.");
	check_price(part);
	part->trial = DatumGetBool(statements_value(lines, i, 8, &isnull[3]));
	return part;
}

/*
 * Sets what an invoice says about the periods of a subscription.
 */
Datum
credits_set_invoice(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "subscription_id");
	text	   *reference = arg_name(fcinfo, 1, "reference");
	TimestampTz settled_at = clock_now();
	Subscription subscription;
	List	   *parts = NIL;
	Receipt		receipt = {0};
	SqlResult  *lines;
	Datum		value;
	bool		changed;
	uint64		i;

	store_check_writable("credits_set_invoice()");
	if (text_to_cstring(reference)[0] == '(')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reference must not begin with a parenthesis"),
				 errdetail("It is \"%s\".", text_to_cstring(reference)),
				 errhint("Pass the payment provider's id of the invoice.")));
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lines must not be null"),
				 errhint("Pass an array, which is empty if the invoice counts for nothing.")));
	(void) calls_arg_instant(fcinfo, 3, "settled_at", &settled_at);
	if (!subscriptions_find(id, &subscription))
		subscriptions_raise_unknown(id);
	if (!subscription.by_payment)
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("periods of subscription " INT64_FORMAT " are not given when they are paid",
						id),
				 errhint("Subscribe with collection => 'payment'.")));
	value = PG_GETARG_DATUM(2);
	lines = statements_run(&add_up_lines, &value, NULL);
	for (i = 0; i < lines->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		parts = lappend(parts, read_part(lines, i, &subscription, settled_at,
										 reference));
	}
	changed = paid_parts_set(id, list_make1(reference), parts, &receipt);
	return calls_state(fcinfo, id, &receipt, !changed);
}
