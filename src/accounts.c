/*
 * accounts.c
 *	  Opening, pausing, resuming and closing accounts, and their thresholds.
 */
#include "credits.h"

#include "accounts.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_open_account);
PG_FUNCTION_INFO_V1(credits_pause_account);
PG_FUNCTION_INFO_V1(credits_resume_account);
PG_FUNCTION_INFO_V1(credits_close_account);
PG_FUNCTION_INFO_V1(credits_set_low_balance);
PG_FUNCTION_INFO_V1(credits_account_id);

/*
 * Plans the first transaction of an account.
 */
static bool
plan_open(Posting *posting, void *arg)
{
	int64		initial_credits = *(int64 *) arg;
	Grant	   *grant;

	if (initial_credits == 0)
	{
		posting->main = log_add(posting, KIND_OPENING, posting->now, 0, NULL,
								0);
		return true;
	}
	grant = grants_new(posting, initial_credits, cstring_to_text("signup"),
					   posting->now, DT_NOEND);
	posting->main = log_add(posting, KIND_OPENING, posting->now,
							initial_credits,
							grants_draw(grant, initial_credits), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	return true;
}

/*
 * Inserts an account's row, as it is before its first transaction.  Returns
 * false if there is one of that name.
 */
static bool
insert_account(text *name, text *unit, Jsonb *metadata)
{
	Store	   *store = store_open();
	Datum		row[Natts_accounts];
	bool		nulls[Natts_accounts] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	TimestampTz now = clock_now();
	bool		inserted;
	int			i;

	for (i = 0; i < Natts_accounts; i++)
		row[i] = Int64GetDatum(0);
	values[Anum_accounts_id] = Int64GetDatum(store_next_id(&accounts_table));
	values[Anum_accounts_name] = PointerGetDatum(name);
	values[Anum_accounts_unit] = PointerGetDatum(unit);
	values[Anum_accounts_status] = CStringGetTextDatum("active");
	values[Anum_accounts_metadata] = PointerGetDatum(metadata);
	isnull[Anum_accounts_metadata] = metadata == NULL;
	values[Anum_accounts_limited] = BoolGetDatum(false);
	values[Anum_accounts_created_at] = TimestampTzGetDatum(now);
	isnull[Anum_accounts_low_balance] = true;
	values[Anum_accounts_due_at] = TimestampTzGetDatum(DT_NOEND);
	values[Anum_accounts_last_at] = TimestampTzGetDatum(now);
	values[Anum_accounts_head] = CStringGetTextDatum("");

	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	inserted = row_insert_account(store, row, nulls);
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	return inserted;
}

/*
 * Reads the first transaction of an account.
 */
static void
first_receipt(Account *account, Receipt *receipt)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	Entry		entry;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account->id));
	store_scan(&scan, NULL, &transactions_by_account_id,
			   GetActiveSnapshot(), &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " has no transactions",
						account->id),
				 errhint("Run credits_verify.")));
	row_read_entry(slot, &entry);
	receipt_from_entry(receipt, &entry, account, true);
	store_scan_end(&scan);
}

/*
 * Finds an account that is open already, and its first receipt.
 */
static bool
find_open(text *name, Receipt *receipt)
{
	Account		account;
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = row_find_account(NULL, GetActiveSnapshot(), name, 0, &account);
	if (found)
		first_receipt(&account, receipt);
	PopActiveSnapshot();
	return found;
}

/*
 * Opens an account unless it is open.  The name, unit and credits are checked.
 */
void
accounts_open(text *name, int64 initial_credits, text *unit, Jsonb *metadata,
			  Receipt *receipt)
{
	Request		request = {0};
	Refusal		refusal;

	store_lock_tables("credits_open_account()");
	if (find_open(name, receipt))
		return;
	if (!insert_account(name, unit, metadata))
	{
		/* another transaction did, after the snapshot of ours if it has one */
		if (!find_open(name, receipt))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Account \"%s\" has been opened since the transaction's snapshot.",
							   text_to_cstring(name)),
					 errhint("Retry the transaction.")));
		return;
	}
	request.metadata = metadata;
	if (!ledger_post("credits_open_account()", name, 0, &request, plan_open,
					 &initial_credits, receipt, &refusal))
		raise_refusal(&refusal);
}

/*
 * Opens an account.
 */
Datum
credits_open_account(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	int64		initial_credits = PG_ARGISNULL(1) ? setting_initial_balance :
		PG_GETARG_INT64(1);
	text	   *unit;
	Jsonb	   *metadata;
	Receipt		receipt;
	TupleDesc	tupdesc;
	Datum		result;

	check_initial_credits(initial_credits);
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("unit must not be null"),
				 errhint("Leave unit out for \"credit\".")));
	unit = PG_GETARG_TEXT_PP(2);
	check_unit(unit);
	metadata = arg_metadata(fcinfo, 3);

	accounts_open(name, initial_credits, unit, metadata, &receipt);
	tupdesc = result_tupdesc(fcinfo);
	result = receipt_datum(tupdesc, &receipt);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Refuses a change of status that would change nothing.
 */
static bool
refuse_same_status(Posting *posting, const char *status)
{
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("account \"%s\" is already %s",
						   row_account_name(&posting->account), status),
				  psprintf("Its last transaction is " INT64_FORMAT ".",
						   posting->account.last_transaction_id),
				  "Nothing needs to be done.");
}

/*
 * Plans a change of an account's status to another.
 */
static bool
plan_status(Posting *posting, void *arg)
{
	AccountStatus status = *(AccountStatus *) arg;
	const char *kind = status == ACCOUNT_ACTIVE ? KIND_RESUME :
		status == ACCOUNT_PAUSED ? KIND_PAUSE : KIND_CLOSE;

	if (!ledger_not_closed(posting))
		return false;
	if (posting->account.status == status)
		return refuse_same_status(posting, status == ACCOUNT_ACTIVE ?
								  "active" : "paused");
	posting->account.status = status;
	posting->main = log_add(posting, kind, posting->now, 0, NULL, 0);
	return true;
}

/*
 * Changes an account's status.
 */
static Datum
change_status(FunctionCallInfo fcinfo, const char *function,
			  AccountStatus status)
{
	Request		request = {0};
	text	   *name = arg_account(fcinfo, 0);

	request.reason = arg_reason(fcinfo, 1);
	return ledger_call(fcinfo, function, name, 0, &request, plan_status,
					   &status);
}

/*
 * Stops an account from spending.
 */
Datum
credits_pause_account(PG_FUNCTION_ARGS)
{
	return change_status(fcinfo, "credits_pause_account()", ACCOUNT_PAUSED);
}

/*
 * Lets a paused account spend again.
 */
Datum
credits_resume_account(PG_FUNCTION_ARGS)
{
	return change_status(fcinfo, "credits_resume_account()", ACCOUNT_ACTIVE);
}

/*
 * Closes an account for good.
 */
Datum
credits_close_account(PG_FUNCTION_ARGS)
{
	return change_status(fcinfo, "credits_close_account()", ACCOUNT_CLOSED);
}

/* A threshold, or none */
typedef struct Threshold
{
	bool		given;
	int64		value;
} Threshold;

/*
 * Plans a change of an account's threshold.
 */
static bool
plan_threshold(Posting *posting, void *arg)
{
	Threshold  *threshold = arg;

	if (!ledger_not_closed(posting))
		return false;
	posting->account.has_low_balance = threshold->given;
	posting->account.low_balance = threshold->value;
	posting->main = log_add(posting, KIND_THRESHOLD, posting->now, 0, NULL, 0);
	return true;
}

/*
 * Sets the balance below which an account alerts.
 */
Datum
credits_set_low_balance(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	Threshold	threshold = {0};
	text	   *name = arg_account(fcinfo, 0);

	if (!PG_ARGISNULL(1))
	{
		threshold.given = true;
		threshold.value = PG_GETARG_INT64(1);
		if (threshold.value < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("low_balance must not be negative"),
					 errdetail("It is " INT64_FORMAT ".", threshold.value),
					 errhint("Pass 0 for no alerts, or NULL to go by the setting credits.low_balance.")));
		request.reason =
			cstring_to_text(psprintf("alert below " INT64_FORMAT,
									 threshold.value));
	}
	else
		request.reason = cstring_to_text("alert as credits.low_balance says");
	return ledger_call(fcinfo, "credits_set_low_balance()", name, 0, &request,
					   plan_threshold, &threshold);
}

/*
 * Returns the id of an account, which must exist.
 */
Datum
credits_account_id(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	Account		account;

	ledger_find_account(GetActiveSnapshot(), name, &account);
	PG_RETURN_INT64(account.id);
}
