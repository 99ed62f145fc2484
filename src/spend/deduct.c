/*
 * deduct.c
 *	  Spending credits: credits_deduct, credits_try_deduct and
 *	  credits_deduct_up_to.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "spend/spend.h"

PG_FUNCTION_INFO_V1(credits_deduct);
PG_FUNCTION_INFO_V1(credits_try_deduct);
PG_FUNCTION_INFO_V1(credits_deduct_up_to);

/*
 * Sets the request's fingerprint: everything that a retry with the same
 * idempotency key must repeat.
 */
void
deduct_fingerprint(Request *request, int64 amount, bool up_to)
{
	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, kinds_name(KIND_DEDUCTION));
	if (up_to)
		appendStringInfoString(&request->fingerprint, " up to");
	requests_add_int64(&request->fingerprint, true, amount);
	requests_add_text(&request->fingerprint, request->operation);
	requests_add_text(&request->fingerprint, request->reference);
}

/*
 * Reads the arguments, which are the same for both functions.
 */
static void
deduct_read_arguments(FunctionCallInfo fcinfo, Spend *spend, bool up_to)
{
	Request    *request = &spend->request;

	memset(spend, 0, sizeof(Spend));
	spend->kind = KIND_DEDUCTION;
	spend->up_to = up_to;
	spend->account = arg_account(fcinfo, 0);
	spend->amount = arg_amount(fcinfo, 1, "amount");
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->operation = arg_text(fcinfo, 3, "operation", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 4, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);
	spend_read_pool(fcinfo, 6, spend);

	deduct_fingerprint(request, spend->amount, up_to);
	spend_fingerprint_pool(spend);
}

/*
 * SQL function: spends credits, or raises an error.
 */
Datum
credits_deduct(PG_FUNCTION_ARGS)
{
	Spend		spend;

	deduct_read_arguments(fcinfo, &spend, false);
	return spend_call(fcinfo, "credits_deduct()", &spend);
}

/*
 * SQL function: spends credits, or returns why this is refused and records
 * that.
 */
Datum
credits_try_deduct(PG_FUNCTION_ARGS)
{
	Spend		spend;

	deduct_read_arguments(fcinfo, &spend, false);
	return spend_try(fcinfo, "credits_try_deduct()", &spend);
}

/*
 * SQL function: spends what there is, up to an amount.
 */
Datum
credits_deduct_up_to(PG_FUNCTION_ARGS)
{
	Spend		spend;

	deduct_read_arguments(fcinfo, &spend, true);
	return spend_call(fcinfo, "credits_deduct_up_to()", &spend);
}
