/*
 * attention.c
 *	  What somebody has to do about events of Stripe: completing invoices whose
 *	  lines have not all come, and dismissing what needs no credits.
 *
 * The view credits.stripe_attention shows what waits.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/billing.h"
#include "stripe/facts.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_stripe_dismiss);
PG_FUNCTION_INFO_V1(credits_stripe_invoice_lines);

static SqlStatement insert_dismissal = {
	.text = "INSERT INTO credits.stripe_dismissals "
	"(subject, what, reason, created_at, role) "
	"SELECT a.subject, a.reason, $2, $3, session_user "
	"FROM credits.stripe_attention AS a WHERE a.subject = $1 "
	"ON CONFLICT DO NOTHING",
	.types = (const Oid[]) {TEXTOID, TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement find_dismissal = {
	.text = "SELECT FROM credits.stripe_dismissals AS d WHERE d.subject = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Takes a subject off the list of what needs attention.
 */
Datum
credits_stripe_dismiss(PG_FUNCTION_ARGS)
{
	text	   *subject = arg_name(fcinfo, 0, "subject");
	text	   *reason = arg_reason(fcinfo, 1);
	Datum		values[3];

	store_check_writable("credits_stripe_dismiss()");
	values[0] = PointerGetDatum(subject);
	values[1] = PointerGetDatum(reason);
	values[2] = TimestampTzGetDatum(clock_now());
	if (statements_run(&insert_dismissal, values, NULL)->nrows == 0 &&
		statements_run(&find_dismissal, values, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("nothing of Stripe's needs attention under that id"),
				 errdetail("It is \"%s\".", text_to_cstring(subject)),
				 errhint("Pass a subject of credits.stripe_attention.")));
	PG_RETURN_VOID();
}

/*
 * Raises the error for lines that are not in one of the forms that are accepted.
 */
NORETURN_COMPAT static void refuse_lines(char *detail);
static void
refuse_lines(char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("lines are not those of an invoice"),
			 errdetail_internal("%s", detail),
			 errhint("Pass all lines in one array, or the list as Stripe returns it once has_more is false.")));
}

/*
 * Returns the lines of an invoice that an argument has: an array, or Stripe's
 * list object.
 */
static JsonbContainer *
arg_lines(FunctionCallInfo fcinfo, int n)
{
	JsonbContainer *lines;
	uint32		i;

	if (PG_ARGISNULL(n))
		raise_null("lines");
	lines = &PG_GETARG_JSONB_P(n)->root;
	if (JsonContainerIsObject(lines))
	{
		JsonbValue *data = stripe_get(lines, "data");

		if (stripe_true(lines, "has_more"))
			refuse_lines("Stripe has more of them.");
		if (data == NULL || data->type != jbvBinary)
			refuse_lines("The object has no data.");
		lines = data->val.binary.data;
	}
	if (!JsonContainerIsArray(lines) || JsonContainerIsScalar(lines))
		refuse_lines("They are no array.");
	for (i = 0; i < JsonContainerSize(lines); i++)
	{
		JsonbValue *line = getIthJsonbValueFromContainer(lines, i);

		CHECK_FOR_INTERRUPTS();
		if (line->type != jbvBinary ||
			!JsonContainerIsObject(line->val.binary.data))
			refuse_lines("One of them is no object.");
	}
	return lines;
}

/*
 * Takes the lines of an invoice in place of those that its event had.
 */
Datum
credits_stripe_invoice_lines(PG_FUNCTION_ARGS)
{
	char	   *id = text_to_cstring(arg_name(fcinfo, 0, "invoice"));
	JsonbContainer *lines = arg_lines(fcinfo, 1);
	Fold		fold = {0};
	Invoice		invoice;
	StripeOutcome outcome;
	char	   *waiting;
	JsonObject	facts;
	Jsonb	   *read;

	stripe_lock_tables("credits_stripe_invoice_lines()");
	/* without leaving a row for an id that nobody knows */
	if (!billing_find_invoice(id, &invoice))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("invoice of Stripe does not exist"),
				 errdetail("It is \"%s\".", id),
				 errhint("Pass an invoice of credits.stripe_invoices.")));
	waiting = stripe_lock_invoice(id);
	if (!billing_find_invoice(id, &invoice))
		elog(ERROR, "invoice \"%s\" is gone", id);
	json_begin(&facts);
	stripe_add_lines(&facts, lines);
	read = json_document(&facts);
	if (facts_out_of_range(&read->root))
		refuse_lines("A number in them is not whole, or too large.");
	fold.billed = billing_subscription(invoice.subscription);
	invoice.complete = invoice.completed = true;
	fold_lines(&fold, &invoice, &read->root);
	billing_write(&invoices_table, &invoice);
	fold.invoices = billing_add_invoice(fold.invoices, id);
	stripe_apply_fold(&fold, waiting, &outcome);
	if (outcome.waiting)
		json_cstring(&outcome.detail, "missing", outcome.waiting);
	return stripe_result_datum(fcinfo, id, "credits_stripe_invoice_lines",
							   outcome.waiting ? RESULT_WAITING : RESULT_APPLIED,
							   outcome.detail.nmembers > 0 ?
							   json_document(&outcome.detail) : NULL);
}
