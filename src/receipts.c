/*
 * receipts.c
 *	  What callers get: making receipts from transactions, and rows from
 *	  receipts.
 *
 * A receipt that is replayed is made from the log, and must be the same as the
 * first.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/*
 * Returns the amount of a receipt: of a request that was split over several
 * accounts all that it moved, which the terms of its transaction say.
 */
static int64
receipt_amount(const Entry *entry)
{
	int64		amount = entry->amount;

	(void) terms_int64(entry, "total", &amount);
	return amount;
}

/*
 * Makes a receipt from a transaction.
 */
void
receipt_from_entry(Receipt *receipt, const Entry *entry,
				   const Account *account, bool replayed)
{
	receipt->transaction_id = entry->id;
	receipt->account =
		DatumGetTextPCopy(account->values[Anum_accounts_name - 1]);
	receipt->kind = entry->kind;
	receipt->amount = receipt_amount(entry);
	receipt->balance = entry->balance_after;
	receipt->held = entry->held_after;
	receipt->replayed = replayed;
	receipt->created_at = entry->created_at;
}

/*
 * Makes a receipt show balance and held after the transactions that came with
 * its own: what a refund or a release gives back to an expired or voided grant
 * goes again at once, a final capture releases the rest, and what comes in may
 * pay a debt.
 */
static void
add_followers(Receipt *receipt, Posting *posting, const Entry *entry)
{
	int64		last = entry->id;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	/* nothing follows what brings nothing, but a final capture */
	if (entry->amount <= 0 && strcmp(entry->kind, KIND_CAPTURE) != 0)
		return;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(entry->id));
	store_scan(&scan, posting->store, &transactions_by_target_id,
			   posting->snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		follower;

		row_read_entry(slot, &follower);
		if (follower.id > last && follower.account_id == entry->account_id &&
			(strcmp(follower.kind, KIND_EXPIRATION) == 0 ||
			 strcmp(follower.kind, KIND_VOID) == 0 ||
			 strcmp(follower.kind, KIND_DEBT_PAYMENT) == 0 ||
			 strcmp(follower.kind, KIND_RELEASE) == 0))
		{
			last = follower.id;
			receipt->balance = follower.balance_after;
			receipt->held = follower.held_after;
		}
	}
	store_scan_end(&scan);
}

/*
 * Returns the name of an account by id.
 */
static text *
name_of(Posting *posting, int64 account_id)
{
	Account		account;

	if (!row_find_account(posting->store, posting->snapshot, NULL, account_id,
						  &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist", account_id),
				 errhint("Run credits_verify.")));
	return DatumGetTextPCopy(account.values[Anum_accounts_name - 1]);
}

/*
 * Makes the receipt of a posting: its main transaction, and the balance after
 * all of them.
 */
void
receipt_of_posting(Receipt *receipt, Posting *posting)
{
	receipt_from_entry(receipt, posting->main, &posting->account, false);
	receipt->balance = posting->account.balance;
	receipt->held = posting->account.held;
}

/*
 * Returns the descriptor of a function's composite result.  To be released.
 */
TupleDesc
result_tupdesc(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_rettype(fcinfo->flinfo);

	if (!OidIsValid(type))
		type = get_func_rettype(fcinfo->flinfo->fn_oid);
	return lookup_rowtype_tupdesc(type, -1);
}

/*
 * Makes a credits.receipt.
 */
Datum
receipt_datum(TupleDesc tupdesc, const Receipt *receipt)
{
	Datum		values[8];
	bool		isnull[8] = {false};

	/* a dry run makes none */
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
 * Makes the result of an SQL function from a receipt.
 */
Datum
ledger_result(FunctionCallInfo fcinfo, const Receipt *receipt)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	Datum		result = receipt_datum(tupdesc, receipt);

	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Makes a credits.attempt from a receipt or, without one, from a refusal.
 */
Datum
ledger_attempt(FunctionCallInfo fcinfo, const Receipt *receipt,
			   const Refusal *refusal)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	Datum		values[4];
	bool		isnull[4] = {false, true, true, true};
	Datum		result;

	values[0] = BoolGetDatum(receipt != NULL);
	if (receipt)
	{
		TupleDesc	receipt_desc =
			lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 3)->atttypid, -1);

		values[3] = receipt_datum(receipt_desc, receipt);
		isnull[3] = false;
		ReleaseTupleDesc(receipt_desc);
	}
	else
	{
		values[1] = CStringGetTextDatum(sqlstate_text(refusal->sqlstate));
		values[2] = CStringGetTextDatum(refusal->message);
		isnull[1] = isnull[2] = false;
	}
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Makes the receipt of a request that was posted before, by the posting's
 * account or, where a pool paid, by the pool.
 */
void
receipt_replayed(Receipt *receipt, Posting *posting, const Entry *entry)
{
	receipt_from_entry(receipt, entry, &posting->account, true);
	/* reading another account lets go of the posting's */
	if (entry->account_id != posting->account.id)
		receipt->account = name_of(posting, entry->account_id);
	add_followers(receipt, posting, entry);
}
