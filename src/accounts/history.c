/*
 * history.c
 *	  Reading the log of one account, for credits_history and
 *	  credits_balance_at, which are SQL functions.
 *
 * A query of the log by account would plan, lock and open an index scan of every
 * partition, to merge them.  But the rows of an account are in order of their ids, and
 * so are the partitions: here they are read one after the other, from the newest on,
 * until there are enough rows.
 */
#include "credits.h"

#include "ledger/ledger.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_history_position);
PG_FUNCTION_INFO_V1(credits_log_rows);

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

/*
 * Reads an array of names of kinds.  Names that no kind has are left out.
 */
static Bitmapset *
kinds_in(ArrayType *array)
{
	Bitmapset  *kinds = NULL;
	Datum	   *names;
	bool	   *isnull;
	int			n;
	int			i;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, &isnull, &n);
	for (i = 0; i < n; i++)
	{
		int			kind;

		CHECK_FOR_INTERRUPTS();
		for (kind = KIND_NONE + 1; !isnull[i] && kind <= KIND_ERASURE; kind++)
			if (strlen(kinds_name(kind)) == VARSIZE_ANY_EXHDR(DatumGetPointer(names[i])) &&
				memcmp(kinds_name(kind), VARDATA_ANY(DatumGetPointer(names[i])),
					   strlen(kinds_name(kind))) == 0)
				kinds = bms_add_member(kinds, kind);
	}
	return kinds;
}

/* What rows of the log are sought, and where they go */
typedef struct RowSearch
{
	ReturnSetInfo *result;
	int64		after_id;
	TimestampTz since;
	bool		all_kinds;
	Bitmapset  *kinds;
	int			wanted;			/* how many more */
	MemoryContext row;			/* for what is read of one row */
} RowSearch;

/*
 * Returns the rows of a scan, newest first, that are sought.
 */
static void
return_rows(StoreScan *scan, RowSearch *search)
{
	ReturnSetInfo *result = search->result;

	/* columns of the table that were dropped again are NULL */
	int			nresult = result->setDesc->natts;
	int			natts = Min(nresult, log_table.ncolumns);
	Datum	   *values = palloc0(nresult * sizeof(Datum));
	bool	   *isnull = palloc(nresult * sizeof(bool));
	MemoryContext old = CurrentMemoryContext;
	Entry		entry;

	memset(isnull, true, nresult * sizeof(bool));
	for (;;)
	{
		MemoryContextReset(search->row);
		MemoryContextSwitchTo(search->row);
		if (search->wanted == 0 ||
			!scan_peek(scan, BackwardScanDirection, &entry))
			break;
		if (entry.id <= search->after_id || entry.created_at < search->since)
		{
			search->wanted = 0;
			break;
		}
		if (search->all_kinds || bms_is_member(entry.kind, search->kinds))
		{
			slot_getallattrs(scan->slot);
			memcpy(values, scan->slot->tts_values, natts * sizeof(Datum));
			memcpy(isnull, scan->slot->tts_isnull, natts * sizeof(bool));
			tuplestore_putvalues(result->setResult, result->setDesc, values,
								 isnull);
			search->wanted--;
		}
	}
	MemoryContextSwitchTo(old);
	scan_end(scan);
}

/*
 * SQL function: returns rows of the log of an account, newest first: those with
 * (created_at, id) below (at, before_id), id above after_id, created_at from "since" to
 * before "until", of some kinds, max_rows at most.  NULL does not restrict.
 */
Datum
credits_log_rows(PG_FUNCTION_ARGS)
{
	int64		account_id = arg_id(fcinfo, 0, "account_id");
	TimestampTz at = PG_ARGISNULL(1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(1);
	int64		before_id = PG_ARGISNULL(2) ? PG_INT64_MAX : PG_GETARG_INT64(2);
	TimestampTz until = PG_ARGISNULL(5) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(5);
	RowSearch	search = {
		.result = (ReturnSetInfo *) fcinfo->resultinfo,
		.after_id = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3),
		.since = PG_ARGISNULL(4) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(4),
		.all_kinds = PG_ARGISNULL(6),
		.kinds = PG_ARGISNULL(6) ? NULL : kinds_in(PG_GETARG_ARRAYTYPE_P(6)),
		.wanted = arg_page_rows(fcinfo, 7)
	};
	StoreScan	scan;

	InitMaterializedSRF(fcinfo, 0);
	search.row = AllocSetContextCreate(CurrentMemoryContext, "credits row",
									   ALLOCSET_DEFAULT_SIZES);

	/*
	 * A batch writes many rows of one instant, and a page may begin among
	 * them: so the others of its instant come first.
	 */
	if (search.wanted > 0 && at < until)
	{
		scan_begin_ids(&scan, NULL, &log_by_account_id, GetActiveSnapshot(),
					   search.after_id, before_id, BY_INT64(account_id),
					   BY_TIME(at), BY_INT64_BELOW(before_id));
		return_rows(&scan, &search);
	}
	if (search.wanted > 0)
	{
		scan_begin_ids(&scan, NULL, &log_by_account_id, GetActiveSnapshot(),
					   search.after_id, before_id, BY_INT64(account_id),
					   BY_TIME_BEFORE(Min(at, until)));
		return_rows(&scan, &search);
	}
	MemoryContextDelete(search.row);
	return (Datum) 0;
}
