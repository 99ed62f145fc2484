/*
 * balance.c
 *	  Reading a balance, right at any instant, whether or not anything has
 *	  settled the account.
 */
#include "credits.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_balance);
PG_FUNCTION_INFO_V1(credits_settled);
PG_FUNCTION_INFO_V1(credits_required);

/*
 * Returns the credits that an account can spend now.
 */
Datum
credits_balance(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	TimestampTz now = clock_now();
	Account		account;

	ledger_find_account(GetActiveSnapshot(), name, &account);
	if (now >= account.due_at)
		ledger_peek(&account, now, &account, NULL, NULL);
	PG_RETURN_INT64(account.balance);
}

/*
 * Returns the row of an account as settling it at an instant would make it.
 */
Datum
credits_settled(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	int64		id = arg_id(fcinfo, 0, "account_id");
	TimestampTz at;
	Account		account;
	TimestampTz expiring_at;
	int64		expiring;
	Datum		values[6];
	bool		isnull[6] = {false};
	Datum		result;

	if (PG_ARGISNULL(1))
		at = clock_now();
	else
		at = PG_GETARG_TIMESTAMPTZ(1);
	if (!row_find_account(NULL, GetActiveSnapshot(), NULL, id, &account))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account " INT64_FORMAT " does not exist", id),
				 errhint("Pass the id of an account.")));
	ledger_peek(&account, at, &account, &expiring_at, &expiring);
	values[0] = Int64GetDatum(account.balance);
	values[1] = Int64GetDatum(account.held);
	values[2] = Int64GetDatum(account.debt);
	values[3] = Int64GetDatum(account.expired);
	values[4] = Int64GetDatum(expiring);
	values[5] = TimestampTzGetDatum(expiring_at);
	isnull[4] = isnull[5] = expiring_at == DT_NOEND;
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_DATUM(result);
}

/*
 * Returns an argument of an SQL function that must not be NULL.
 */
Datum
credits_required(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null",
						PG_ARGISNULL(1) ? "argument" :
						text_to_cstring(PG_GETARG_TEXT_PP(1))),
				 errhint("Pass an instant, such as now().")));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}
