/*
 * history.c
 *	  Checks of the arguments of credits_history, which itself is SQL.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_history_position);
PG_FUNCTION_INFO_V1(credits_history_limit);

#define MAX_LIMIT 1000

/*
 * Returns the created_at of the transaction that a page ends before; infinity
 * without one.
 */
Datum
credits_history_position(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	int64		id;
	Account		account;
	Entry		entry;

	if (PG_ARGISNULL(1))
		PG_RETURN_TIMESTAMPTZ(DT_NOEND);
	id = PG_GETARG_INT64(1);
	if (!row_find_account(NULL, GetActiveSnapshot(), name, 0, &account) ||
		!row_find_entry(NULL, GetActiveSnapshot(), id, &entry) ||
		entry.account_id != account.id)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account \"%s\" has no transaction " INT64_FORMAT,
						text_to_cstring(name), id),
				 errhint("Pass the transaction_id of the last row of the page before.")));
	PG_RETURN_TIMESTAMPTZ(entry.created_at);
}

/*
 * Returns the number of rows of a page.
 */
Datum
credits_history_limit(PG_FUNCTION_ARGS)
{
	int32		limit;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("limit must not be null"),
				 errhint("Leave limit out for 50 rows.")));
	limit = PG_GETARG_INT32(0);
	if (limit < 1 || limit > MAX_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("limit must be from 1 to %d", MAX_LIMIT),
				 errdetail("It is %d.", limit),
				 errhint("Read more rows in pages: pass before_id.")));
	PG_RETURN_INT32(limit);
}
