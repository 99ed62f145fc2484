/*
 * deduct.c
 *	  Spending credits: credits_deduct and credits_try_deduct.
 */
#include "credits.h"

#include "spend.h"

PG_FUNCTION_INFO_V1(credits_deduct);
PG_FUNCTION_INFO_V1(credits_try_deduct);

/*
 * Notes what a retry must repeat.
 */
void
deduct_fingerprint(Request *request, int64 amount)
{
	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_DEDUCTION);
	fingerprint_int64(&request->fingerprint, true, amount);
	fingerprint_text(&request->fingerprint, request->operation);
	fingerprint_text(&request->fingerprint, request->reference);
}

/*
 * Reads the arguments, the same of both functions.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Spend *spend)
{
	Request    *request = &spend->request;

	memset(spend, 0, sizeof(Spend));
	spend->kind = KIND_DEDUCTION;
	spend->account = arg_account(fcinfo, 0);
	spend->amount = arg_amount(fcinfo, 1, "amount");
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->operation = arg_text(fcinfo, 3, "operation", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 4, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);
	spend_read_pool(fcinfo, 6, spend);

	deduct_fingerprint(request, spend->amount);
	spend_fingerprint_pool(spend);
}

/*
 * Spends credits, or raises an error.
 */
Datum
credits_deduct(PG_FUNCTION_ARGS)
{
	Spend		spend;

	read_arguments(fcinfo, &spend);
	return spend_call(fcinfo, "credits_deduct()", &spend);
}

/*
 * Spends credits, or returns why not and records it.
 */
Datum
credits_try_deduct(PG_FUNCTION_ARGS)
{
	Spend		spend;

	read_arguments(fcinfo, &spend);
	return spend_try(fcinfo, "credits_try_deduct()", &spend);
}
