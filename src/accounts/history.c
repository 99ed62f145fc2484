/*
 * history.c
 *	  Checks of the arguments of credits_history, which is an SQL function.
 */
#include "credits.h"

#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_history_position);

/*
 * SQL function: returns the created_at of the transaction before which a page
 * ends, or infinity if none is given.
 */
Datum
credits_history_position(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	int64		id;
	Account		account;
	Entry		entry;
	Anchor		anchor;

	if (PG_ARGISNULL(1))
		PG_RETURN_TIMESTAMPTZ(DT_NOEND);
	id = PG_GETARG_INT64(1);
	/* the last row that is shown may be the one for what is archived */
	if (rows_find_account(NULL, GetActiveSnapshot(), name, 0, &account) &&
		anchors_find_left(GetActiveSnapshot(), account.id, &anchor) &&
		anchor.transaction_id >= id)
	{
		if (anchor.transaction_id == id)
			PG_RETURN_TIMESTAMPTZ(anchor.created_at);
		anchors_check(id);
	}
	if (!rows_find_account(NULL, GetActiveSnapshot(), name, 0, &account) ||
		!rows_find_entry(NULL, GetActiveSnapshot(), id, &entry) ||
		entry.account_id != account.id)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account \"%s\" has no transaction " INT64_FORMAT,
						text_to_cstring(name), id),
				 errhint("Pass the transaction_id of the last row of the previous page.")));
	PG_RETURN_TIMESTAMPTZ(entry.created_at);
}
