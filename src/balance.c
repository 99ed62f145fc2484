/*
 * balance.c
 *	  Reading a balance, right at any instant, whether or not anything has
 *	  settled the account.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_balance);
PG_FUNCTION_INFO_V1(credits_required);

/*
 * Returns what settling at an instant would change the balance by.
 */
static int64
unsettled(int64 account_id, TimestampTz now)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	int64		change = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, NULL, &grants_in_burn_order, GetActiveSnapshot(),
			   &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Grant		grant;

		row_read_grant(slot, &grant);
		if (grant.status == GRANT_OPEN && grant.expires_at <= now)
			change -= grant.remaining;
		else if (grant.status == GRANT_PENDING && grant.effective_at <= now &&
				 grant.expires_at > now)
			change += grant.remaining;
	}
	store_scan_end(&scan);
	return change;
}

/*
 * Returns the credits that an account can spend now.
 */
Datum
credits_balance(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	TimestampTz now = clock_now();
	Account		account;
	Refusal		refusal;

	if (!row_find_account(NULL, GetActiveSnapshot(), name, 0, &account))
	{
		refuse_unknown_account(&refusal, name);
		raise_refusal(&refusal);
	}
	if (now >= account.due_at)
		account.balance += unsettled(account.id, now);
	PG_RETURN_INT64(account.balance);
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
