/*
 * balance.c
 *	  Reading balances and the grants that they consist of.
 *
 * The result is correct at any time, even if no job has settled the account or
 * renewed its subscriptions: what that would do is calculated in memory.
 */
#include "credits.h"

#include "ledger/ledger.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_balance);
PG_FUNCTION_INFO_V1(credits_archived_balance);
PG_FUNCTION_INFO_V1(credits_settled);
PG_FUNCTION_INFO_V1(credits_settled_grants);
PG_FUNCTION_INFO_V1(credits_required);

/*
 * SQL function: returns the number of credits that an account can spend now.
 */
Datum
credits_balance(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	TimestampTz now = clock_now();
	Account		account;

	guards_find_account(GetActiveSnapshot(), name, &account);
	/* before that, settling would do nothing */
	if (now >= Min(account.due_at, account.renews_at))
		ledger_peek(&account, now, &account, NULL, NULL);
	PG_RETURN_INT64(account.balance);
}

/*
 * Reads an account by its id, which must exist.
 */
static void
read_account(int64 id, Account *account)
{
	if (!rows_find_account(NULL, GetActiveSnapshot(), NULL, id, account))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account " INT64_FORMAT " does not exist", id),
				 errhint("Pass the id of an account.")));
}

/*
 * SQL function: returns balance, held, debt, expired and granted credits as they
 * would be if the account were settled at a given time, and the credits that
 * expire next.
 */
Datum
credits_settled(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 7);
	int64		id = arg_id(fcinfo, 0, "account_id");
	TimestampTz at;
	Account		account;
	TimestampTz expiring_at;
	int64		expiring;
	Datum		values[7];
	bool		isnull[7] = {false};
	Datum		result;

	if (PG_ARGISNULL(1))
		at = clock_now();
	else
		at = PG_GETARG_TIMESTAMPTZ(1);
	read_account(id, &account);
	ledger_peek(&account, at, &account, &expiring_at, &expiring);
	values[0] = Int64GetDatum(account.balance);
	values[1] = Int64GetDatum(account.held);
	values[2] = Int64GetDatum(account.debt);
	values[3] = Int64GetDatum(account.expired);
	values[4] = Int64GetDatum(expiring);
	values[5] = TimestampTzGetDatum(expiring_at);
	isnull[4] = isnull[5] = expiring_at == DT_NOEND;
	values[6] = Int64GetDatum(account.granted);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_DATUM(result);
}

/* A page of grants */
typedef struct GrantPage
{
	ReturnSetInfo *result;
	int64		wanted;			/* rows that are still wanted */
	MemoryContext row;			/* for the values of one row */
} GrantPage;

/*
 * Adds a grant to a page.  Returns whether there is room for more.
 */
static bool
add_to_page(const Grant *grant, void *arg)
{
	GrantPage  *page = arg;
	MemoryContext old = MemoryContextSwitchTo(page->row);
	Datum		values[12];
	bool		isnull[12] = {false};

	values[0] = Int64GetDatum(grant->id);
	isnull[0] = grant->id >= FIRST_DRY_ID;
	values[1] = PointerGetDatum(grant->source);
	values[2] = CStringGetTextDatum(grant_status_names[grant->status]);
	values[3] = Int64GetDatum(grant->amount);
	values[4] = Int64GetDatum(grant->remaining);
	values[5] = Int32GetDatum(grant->priority);
	values[6] = TimestampTzGetDatum(grant->effective_at);
	values[7] = TimestampTzGetDatum(grant->expires_at);
	isnull[7] = grant->expires_at == DT_NOEND;
	values[8] = grant->price;
	isnull[8] = grant->price == (Datum) 0;
	values[9] = PointerGetDatum(grant->currency);
	isnull[9] = grant->currency == NULL;
	values[10] = Int64GetDatum(grant->transaction_id);
	isnull[10] = grant->transaction_id >= FIRST_DRY_ID;
	values[11] = BoolGetDatum(grant->rolled);
	tuplestore_putvalues(page->result->setResult, page->result->setDesc,
						 values, isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(page->row);
	return --page->wanted > 0;
}

/*
 * SQL function: returns the open and pending grants of an account as they would
 * be if it were settled now, in burn order: up to a number of them, all if that
 * is null, and only those after a grant, if one is given.
 */
Datum
credits_settled_grants(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "account_id");
	TimestampTz now = clock_now();
	Account		account;
	Grant		grant;
	Grant	   *after = NULL;
	GrantPage	page = {
		.result = (ReturnSetInfo *) fcinfo->resultinfo,
		.wanted = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT32(1)
	};

	read_account(id, &account);
	if (!PG_ARGISNULL(2))
	{
		int64		after_id = PG_GETARG_INT64(2);

		after = &grant;
		if (!rows_find_grant(NULL, GetActiveSnapshot(), after_id, after) ||
			after->account_id != id)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_FOUND),
					 errmsg("account \"%s\" has no grant " INT64_FORMAT,
							rows_account_name(&account), after_id),
					 errhint("Pass the grant_id of the last row of the previous page.")));
	}
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	page.row = AllocSetContextCreate(CurrentMemoryContext, "credits row",
									 ALLOCSET_DEFAULT_SIZES);
	if (page.wanted > 0)
		ledger_peek_grants(&account, now, after, add_to_page, &page);
	return (Datum) 0;
}

/*
 * SQL function: returns the balance of an account at an instant before the first of its
 * rows that is still in the log.  Raises an error if only archived rows know it.
 */
Datum
credits_archived_balance(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "account_id");
	Anchor		anchor;

	if (!anchors_find_left(GetActiveSnapshot(), id, &anchor))
		PG_RETURN_INT64(0);
	if (PG_ARGISNULL(1) || PG_GETARG_TIMESTAMPTZ(1) < anchor.created_at)
		ereport(ERROR,
				(errcode(ERRCODE_GONE),
				 errmsg("the balance at that time is archived"),
				 errdetail("The books of account " INT64_FORMAT " are closed up to %s, transaction " INT64_FORMAT ".",
						   id, clock_show(anchor.created_at),
						   anchor.transaction_id),
				 errhint("Look for it in credits.archived_transactions, unless its partition was dropped.")));
	PG_RETURN_INT64(anchor.balance);
}

/*
 * SQL function: returns its first argument, or raises an error that names it
 * if it is null.  For checks of arguments in SQL functions.
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
