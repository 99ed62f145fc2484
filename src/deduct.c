/*
 * deduct.c
 *	  Spending credits: credits_deduct and credits_try_deduct.
 */
#include "credits.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_deduct);
PG_FUNCTION_INFO_V1(credits_try_deduct);

typedef struct Deduction
{
	text	   *account;
	int64		amount;
	Request		request;
} Deduction;

/*
 * Plans a deduction.
 */
static bool
plan_deduct(Posting *posting, void *arg)
{
	Deduction  *deduction = arg;
	Draw	   *draws;
	int			ndraws;

	if (!ledger_may_spend(posting, deduction->amount))
		return false;
	draws = grants_burn(posting, deduction->amount, &ndraws);
	posting->main = log_add(posting, KIND_DEDUCTION, posting->now,
							-deduction->amount, draws, ndraws);
	return true;
}

/*
 * Reads the arguments, the same of both functions.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Deduction *deduction)
{
	Request    *request = &deduction->request;

	memset(deduction, 0, sizeof(Deduction));
	deduction->account = arg_account(fcinfo, 0);
	deduction->amount = arg_amount(fcinfo, 1, "amount");
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->operation = arg_text(fcinfo, 3, "operation", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 4, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_DEDUCTION);
	fingerprint_int64(&request->fingerprint, true, deduction->amount);
	fingerprint_text(&request->fingerprint, request->operation);
	fingerprint_text(&request->fingerprint, request->reference);
}

/*
 * Spends credits, or raises an error.
 */
Datum
credits_deduct(PG_FUNCTION_ARGS)
{
	Deduction	deduction;

	read_arguments(fcinfo, &deduction);
	return ledger_call(fcinfo, "credits_deduct()", deduction.account, 0,
					   &deduction.request, plan_deduct, &deduction);
}

/*
 * Records a refusal as an event.
 */
static void
record_refusal(Deduction *deduction, Refusal *refusal)
{
	StringInfoData json;
	Account		account;

	if (!row_find_account(NULL, store_snapshot(true), deduction->account, 0,
						  &account))
		account.id = 0;
	initStringInfo(&json);
	json_text(&json, "account", deduction->account);
	json_int64(&json, "amount", deduction->amount);
	json_cstring(&json, "code", sqlstate_text(refusal->sqlstate));
	json_cstring(&json, "message", refusal->message);
	json_text(&json, "operation", deduction->request.operation);
	json_text(&json, "reference", deduction->request.reference);
	alerts_event("deduction_refused", account.id, 0, clock_now(),
				 json_document(&json));
}

/*
 * Spends credits, or returns why not and records it.
 */
Datum
credits_try_deduct(PG_FUNCTION_ARGS)
{
	Deduction	deduction;
	Receipt		receipt;
	Refusal		refusal;
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		isnull[4];
	Datum		result;

	read_arguments(fcinfo, &deduction);
	memset(isnull, true, sizeof(isnull));
	isnull[0] = false;
	tupdesc = result_tupdesc(fcinfo);
	if (ledger_post("credits_try_deduct()", deduction.account, 0,
					&deduction.request, plan_deduct, &deduction, &receipt,
					&refusal))
	{
		TupleDesc	receipt_desc =
			lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 3)->atttypid, -1);

		values[0] = BoolGetDatum(true);
		values[3] = receipt_datum(receipt_desc, &receipt);
		isnull[3] = false;
		ReleaseTupleDesc(receipt_desc);
	}
	else
	{
		record_refusal(&deduction, &refusal);
		values[0] = BoolGetDatum(false);
		values[1] = CStringGetTextDatum(sqlstate_text(refusal.sqlstate));
		values[2] = CStringGetTextDatum(refusal.message);
		isnull[1] = isnull[2] = false;
	}
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}
