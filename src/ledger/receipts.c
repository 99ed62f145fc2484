/*
 * receipts.c
 *	  Receipts: making them from transactions, and returning them to SQL.
 *
 * The receipt of a replayed request is made from the log, and must be equal to
 * the original one.
 */
#include "credits.h"

#include "ledger/receipts.h"
#include "ledger/terms.h"

#include "access/stratnum.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/*
 * Makes a receipt from a transaction.
 */
void
receipts_from_entry(Receipt *receipt, const Entry *entry,
					const Account *account, bool replayed)
{
	receipt->transaction_id = entry->id;
	receipt->account = account->name;
	receipt->kind = kinds_name(entry->kind);
	receipt->amount = entry->amount;
	/* if the request was split over several accounts, this is the total */
	(void) terms_int64(entry, "total", &receipt->amount);
	receipt->balance = entry->balance_after;
	receipt->held = entry->held_after;
	receipt->replayed = replayed;
	receipt->created_at = entry->created_at;
}

/*
 * Sets balance and held of a receipt to the values after the transactions that
 * were written together with its own: credits given back to an expired or
 * voided grant are lost immediately, a final capture releases the rest of the
 * hold, and received credits may pay debts.
 */
static void
add_followers(Receipt *receipt, Posting *posting, const Entry *entry)
{
	int64		last = entry->id;
	StoreScan	scan;
	Entry		follower;

	/* only received credits and final captures have such transactions */
	if (entry->amount <= 0 && entry->kind != KIND_CAPTURE)
		return;
	scan_begin_ids(&scan, posting->store, &log_by_target_id,
				   posting->snapshot, entry->id, PG_INT64_MAX,
				   BY_INT64(entry->id));
	while (scan_peek(&scan, ForwardScanDirection, &follower))
		if (follower.id > last && follower.account_id == entry->account_id &&
			(kinds_info(follower.kind)->loses ||
			 follower.kind == KIND_DEBT_PAYMENT ||
			 follower.kind == KIND_RELEASE))
		{
			last = follower.id;
			receipt->balance = follower.balance_after;
			receipt->held = follower.held_after;
		}
	scan_end(&scan);
}

/*
 * Returns the name of an account.
 */
static text *
name_of(Posting *posting, int64 account_id)
{
	Account		account;

	if (!rows_find_account(posting->store, posting->snapshot, NULL, account_id,
						   &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist", account_id),
				 errhint("Run credits_verify.")));
	return account.name;
}

/*
 * Makes the receipt of a posting: its main transaction, but balance and held
 * after all transactions.
 */
void
receipts_of_posting(Receipt *receipt, Posting *posting)
{
	receipts_from_entry(receipt, posting->main, &posting->account, false);
	/* nobody will find what a dry run has made */
	if (posting->dry)
		receipt->transaction_id = 0;
	receipt->balance = posting->account.balance;
	receipt->held = posting->account.held;
}

/*
 * Makes the receipt of a request that found done what it asks for: the account
 * as it is, without a transaction.
 */
void
receipts_of_state(Receipt *receipt, Posting *posting)
{
	receipt->transaction_id = 0;
	receipt->account = posting->account.name;
	receipt->kind = kinds_name(posting->already);
	receipt->amount = 0;
	receipt->balance = posting->account.balance;
	receipt->held = posting->account.held;
	receipt->replayed = true;
	receipt->created_at = posting->now;
}

/*
 * Checks that a composite type has as many columns as when it was created.
 */
void
receipts_check_columns(TupleDesc tupdesc, int ncolumns)
{
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
		if (i >= ncolumns || TupleDescAttr(tupdesc, i)->attisdropped)
			break;
	if (i < tupdesc->natts || i < ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("type %s has been altered",
						format_type_be(tupdesc->tdtypeid)),
				 errdetail("It was created with %d columns.", ncolumns),
				 errhint("Restore it, and keep additional columns in a type of your own.")));
}

/*
 * Returns the descriptor of a function's composite result type, which must
 * have this many columns.  The caller must release it.
 */
TupleDesc
receipts_tupdesc(FunctionCallInfo fcinfo, int ncolumns)
{
	Oid			type = get_fn_expr_rettype(fcinfo->flinfo);
	TupleDesc	tupdesc;

	/* there is no expression if the function is not called from a query */
	if (!OidIsValid(type))
		type = get_func_rettype(fcinfo->flinfo->fn_oid);
	tupdesc = lookup_rowtype_tupdesc(type, -1);
	receipts_check_columns(tupdesc, ncolumns);
	return tupdesc;
}

/*
 * Returns a receipt as a composite value of type credits.receipt.
 */
Datum
receipts_datum(TupleDesc tupdesc, const Receipt *receipt)
{
	Datum		values[RECEIPT_COLUMNS];
	bool		isnull[RECEIPT_COLUMNS] = {false};

	receipts_check_columns(tupdesc, RECEIPT_COLUMNS);
	/* a dry run has no transaction */
	values[0] = Int64GetDatum(receipt->transaction_id);
	isnull[0] = receipt->transaction_id == 0;
	values[1] = PointerGetDatum(receipt->account);
	values[2] = CStringGetTextDatum(receipt->kind);
	values[3] = Int64GetDatum(receipt->amount);
	values[4] = Int64GetDatum(receipt->balance);
	values[5] = Int64GetDatum(receipt->held);
	values[6] = BoolGetDatum(receipt->replayed);
	values[7] = TimestampTzGetDatum(receipt->created_at);
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
}

/*
 * Returns a receipt as the result of an SQL function.
 */
Datum
receipts_result(FunctionCallInfo fcinfo, const Receipt *receipt)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, RECEIPT_COLUMNS);
	Datum		result = receipts_datum(tupdesc, receipt);

	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Returns a receipt or, if it is NULL, a refusal as an SQL function's result
 * of type credits.attempt.
 */
Datum
receipts_attempt(FunctionCallInfo fcinfo, const Receipt *receipt,
				 const Refusal *refusal)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 6);
	Datum		values[6];
	bool		isnull[6] = {false, true, true, true, true, true};
	Datum		result;

	values[0] = BoolGetDatum(receipt != NULL);
	if (receipt)
	{
		TupleDesc	receipt_desc =
			lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 5)->atttypid, -1);

		values[5] = receipts_datum(receipt_desc, receipt);
		isnull[5] = false;
		ReleaseTupleDesc(receipt_desc);
	}
	else
	{
		values[1] = CStringGetTextDatum(sqlstate_text(refusal->sqlstate));
		values[2] = CStringGetTextDatum(refusal->message);
		isnull[1] = isnull[2] = false;
		if (refusal->detail)
			values[3] = CStringGetTextDatum(refusal->detail);
		isnull[3] = refusal->detail == NULL;
		if (refusal->hint)
			values[4] = CStringGetTextDatum(refusal->hint);
		isnull[4] = refusal->hint == NULL;
	}
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Makes the receipt of an earlier request by the posting's account.  If a pool
 * paid for it, the receipt is the pool's.
 */
void
receipts_replayed(Receipt *receipt, Posting *posting, const Entry *entry)
{
	receipts_from_entry(receipt, entry, &posting->account, true);
	if (entry->account_id != posting->account.id)
		receipt->account = name_of(posting, entry->account_id);
	add_followers(receipt, posting, entry);
}
