/*
 * accounts.c
 *	  Opening, pausing, resuming and closing accounts.
 */
#include "credits.h"

#include "accounts/accounts.h"
#include "ledger/ledger.h"

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
PG_FUNCTION_INFO_V1(credits_account_id);

/*
 * Plans the first transaction of an account, with a grant of its initial
 * credits if there are any.
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
 * Inserts the row of a new account, without any transaction yet.  Returns
 * false if an account of that name exists.
 */
static bool
insert_account(text *name, text *unit, Jsonb *metadata)
{
	Store	   *store = store_open();
	Account		account = {
		.id = store_next_id(&accounts_table),
		.name = name,
		.unit = unit,
		.status = ACCOUNT_ACTIVE,
		.metadata = PointerGetDatum(metadata),
		.created_at = clock_now(),
		.due_at = DT_NOEND,
		.renews_at = DT_NOEND
	};
	bool		inserted;

	account.last_at = account.created_at;
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	inserted = rows_insert_account(store, &account);
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	return inserted;
}

/*
 * Returns the receipt of an account's first transaction.
 */
static void
accounts_first_receipt(Account *account, Receipt *receipt)
{
	Entry		entry;
	Anchor		anchor;

	if (anchors_find_left(GetActiveSnapshot(), account->id, &anchor))
	{
		/* the row is archived, and this is all that the receipt needs of it */
		entry = (Entry)
		{
			.id = anchor.opening_id,
				.account_id = account->id,
				.created_at = account->created_at,
				.kind = KIND_OPENING,
				.amount = anchor.opening_amount,
				.balance_after = anchor.opening_amount
		};
		receipts_from_entry(receipt, &entry, account, true);
		return;
	}
	if (!scan_find(NULL, &log_by_account_id, GetActiveSnapshot(),
				   &entry, BY_INT64(account->id)))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " has no transactions",
						account->id),
				 errhint("Run credits_verify.")));
	receipts_from_entry(receipt, &entry, account, true);
}

/*
 * Looks for an account of that name.  If it exists, returns true and the
 * receipt of its first transaction.
 */
static bool
find_open(text *name, Receipt *receipt)
{
	Account		account;
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = rows_find_account(NULL, GetActiveSnapshot(), name, 0, &account);
	if (found)
		accounts_first_receipt(&account, receipt);
	PopActiveSnapshot();
	return found;
}

/*
 * Opens an account, or returns the receipt of its opening, marked as replayed,
 * if it exists already.  The caller must have checked name, unit and credits.
 */
void
accounts_open(text *name, int64 initial_credits, text *unit, Jsonb *metadata,
			  Receipt *receipt)
{
	Request		request = {0};
	Refusal		refusal;

	ledger_lock_tables("credits_open_account()");
	if (find_open(name, receipt))
		return;
	if (!insert_account(name, unit, metadata))
	{

		/*
		 * Another transaction has inserted it in the meantime.  In REPEATABLE
		 * READ and above we may not be able to see it.
		 */
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
 * Raises the error for an account that exists, but not as it is to be opened.
 */
static void
raise_opened_otherwise(text *name, const char *what, const char *detail,
					   const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFLICT),
			 errmsg("account \"%s\" exists, with %s", text_to_cstring(name),
					what),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/*
 * Checks that an account that exists has the unit that it is to be opened with.
 */
static void
check_same_unit(text *name, text *unit)
{
	Account		account;

	PushActiveSnapshot(store_snapshot(true));
	guards_find_account(GetActiveSnapshot(), name, &account);
	PopActiveSnapshot();
	if (!same_text(account.unit, unit))
		raise_opened_otherwise(name, "another unit",
							   psprintf("Its unit is \"%s\", not \"%s\".",
										text_to_cstring(account.unit),
										text_to_cstring(unit)),
							   "Leave unit out, or open an account of another name.");
}

/*
 * SQL function: opens an account.
 */
Datum
credits_open_account(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	int64		initial_credits = PG_ARGISNULL(1) ? setting_initial_balance :
		PG_GETARG_INT64(1);
	text	   *unit = NULL;
	Jsonb	   *metadata;
	Receipt		receipt;
	TupleDesc	tupdesc;
	Datum		result;

	check_initial_credits(initial_credits);
	if (!PG_ARGISNULL(2))
	{
		unit = PG_GETARG_TEXT_PP(2);
		check_unit(unit);
	}
	metadata = arg_metadata(fcinfo, 3);

	accounts_open(name, initial_credits,
				  unit ? unit : cstring_to_text("credit"), metadata, &receipt);
	if (receipt.replayed && unit)
		check_same_unit(name, unit);
	if (receipt.replayed && !PG_ARGISNULL(1) &&
		receipt.amount != initial_credits)
		raise_opened_otherwise(name, "other initial credits",
							   psprintf("It was opened with " INT64_FORMAT ", not with " INT64_FORMAT ".",
										receipt.amount, initial_credits),
							   "Leave initial_credits out, and give the account more with credits_allocate.");
	tupdesc = receipts_tupdesc(fcinfo, RECEIPT_COLUMNS);
	result = receipts_datum(tupdesc, &receipt);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Returns a status in the form in which it is audited.
 */
static Jsonb *
status_document(AccountStatus status)
{
	JsonObject	json;

	json_begin(&json);
	if (status == ACCOUNT_UNKNOWN)
		json_null(&json, "status");
	else
		json_cstring(&json, "status", account_status_names[status]);
	return json_document(&json);
}

/*
 * Plans to set an account's status.
 */
static bool
accounts_plan_status(Posting *posting, void *arg)
{
	AccountStatus status = *(AccountStatus *) arg;
	TransactionKind kind = status == ACCOUNT_ACTIVE ? KIND_RESUME :
		status == ACCOUNT_PAUSED ? KIND_PAUSE : KIND_CLOSE;
	Jsonb	   *old;

	if (posting->account.status == status)
	{
		posting->already = kind;
		return false;
	}
	if (!guards_not_closed(posting))
		return false;
	old = status_document(posting->account.status);
	posting->account.status = status;
	posting->main = log_add(posting, kind, posting->now, 0, NULL, 0);
	audit_setting(posting, AUDIT_ACCOUNT, NULL, posting->account.id, old,
				  status_document(status));
	return true;
}

/*
 * Plans to pause an account, unless it is paused or closed already.
 */
static bool
plan_pause(Posting *posting, void *arg)
{
	AccountStatus status = ACCOUNT_PAUSED;

	if (posting->account.status != ACCOUNT_ACTIVE ||
		!accounts_plan_status(posting, &status))
		return false;
	posting->main->reason = arg;
	return true;
}

/*
 * Pauses an account for a job, unless it is paused or closed already.  Returns
 * false if another session has locked it.
 */
bool
accounts_pause(const char *function, int64 account_id, text *reason)
{
	Refusal		refusal;
	Outcome		outcome = ledger_post_due(function, account_id, plan_pause,
										  reason, NULL, &refusal);

	if (outcome == REFUSED)
		raise_refusal(&refusal);
	return outcome != BUSY;
}

/*
 * Sets an account's status, for the three SQL functions below.
 */
static Datum
set_status(FunctionCallInfo fcinfo, const char *function, AccountStatus status)
{
	Request		request = {0};
	text	   *name = arg_account(fcinfo, 0);

	request.reason = arg_reason(fcinfo, 1);
	return ledger_call(fcinfo, function, name, 0, &request,
					   accounts_plan_status, &status);
}

/*
 * SQL function: pauses an account, which cannot spend until it is resumed.
 */
Datum
credits_pause_account(PG_FUNCTION_ARGS)
{
	return set_status(fcinfo, "credits_pause_account()", ACCOUNT_PAUSED);
}

/*
 * SQL function: lets a paused account spend again.
 */
Datum
credits_resume_account(PG_FUNCTION_ARGS)
{
	return set_status(fcinfo, "credits_resume_account()", ACCOUNT_ACTIVE);
}

/*
 * SQL function: closes an account, which cannot be undone.
 */
Datum
credits_close_account(PG_FUNCTION_ARGS)
{
	return set_status(fcinfo, "credits_close_account()", ACCOUNT_CLOSED);
}

/*
 * SQL function: returns the id of an account, which must exist.
 */
Datum
credits_account_id(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	Account		account;

	guards_find_account(GetActiveSnapshot(), name, &account);
	PG_RETURN_INT64(account.id);
}
