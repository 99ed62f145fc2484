/*
 * ledger.c
 *	  The one door: every change of an account goes through here.
 *
 * A change is first planned in memory from one snapshot, then written, account
 * first.  In most calls nobody else is at the account.  So the row is not
 * locked before it is read: its update is what locks it, and that fails if the
 * row is no longer the version that the plan was made from.  As every change
 * of an account updates its row, a plan whose update succeeds was made from
 * the latest state of the account, its grants and its keys.  If the update
 * fails, or the plan is to refuse, the row is locked, a new snapshot is taken,
 * and the plan is made again: no call is refused on what may be old news.
 *
 * An account that many spend from at once is locked first: this session
 * remembers the last account at which it came too late, until it finds nobody
 * else there.
 *
 * In REPEATABLE READ and above the only snapshot is the transaction's, and a
 * version that is newer than it is a serialization failure.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

typedef enum Outcome
{
	POSTED,
	REPLAYED,
	REFUSED,
	CHANGED						/* by another, meanwhile */
} Outcome;

/* the account at which this session last came too late, 0 if none */
static int64 busy_account = 0;

/*
 * Adds a text to what a retry must repeat.
 */
void
fingerprint_text(StringInfo f, text *value)
{
	if (value)
	{
		appendStringInfo(f, "%d:", (int) VARSIZE_ANY_EXHDR(value));
		appendBinaryStringInfo(f, VARDATA_ANY(value),
							   VARSIZE_ANY_EXHDR(value));
	}
	appendStringInfoChar(f, ';');
}

/*
 * Adds a number to what a retry must repeat.
 */
void
fingerprint_int64(StringInfo f, bool given, int64 value)
{
	if (given)
		appendStringInfo(f, INT64_FORMAT, value);
	appendStringInfoChar(f, ';');
}

/*
 * Refuses an account that does not exist.
 */
bool
refuse_unknown_account(Refusal *refusal, text *name)
{
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  psprintf("account \"%s\" does not exist",
						   text_to_cstring(name)),
				  NULL,
				  "Open it with credits_open_account.");
}

/*
 * Refuses whatever changes a closed account.
 */
bool
ledger_not_closed(Posting *posting)
{
	if (posting->account.status != ACCOUNT_CLOSED)
		return true;
	return refuse(&posting->refusal, ERRCODE_LOCKED_ACCOUNT,
				  psprintf("account \"%s\" is closed", row_account_name(&posting->account)),
				  psprintf("It has a balance of " INT64_FORMAT ".",
						   posting->account.balance),
				  "A closed account can be read, but never changed again.");
}

/*
 * Refuses to take more than an account has.
 */
bool
ledger_enough(Posting *posting, int64 amount)
{
	if (posting->account.balance >= amount)
		return true;
	return refuse(&posting->refusal, ERRCODE_NOT_ENOUGH,
				  psprintf("account \"%s\" has not enough credits",
						   row_account_name(&posting->account)),
				  psprintf("It has " INT64_FORMAT ", " INT64_FORMAT " are needed: " INT64_FORMAT " short.",
						   posting->account.balance, amount,
						   amount - posting->account.balance),
				  "Give the account more credits, or spend less.");
}

/*
 * Refuses a spend that an account's status or balance does not allow.
 */
bool
ledger_may_spend(Posting *posting, int64 amount)
{
	if (!ledger_not_closed(posting))
		return false;
	if (posting->account.status == ACCOUNT_PAUSED)
		return refuse(&posting->refusal, ERRCODE_LOCKED_ACCOUNT,
					  psprintf("account \"%s\" is paused",
							   row_account_name(&posting->account)),
					  psprintf("It has a balance of " INT64_FORMAT ", of which nothing can be spent now.",
							   posting->account.balance),
					  "Call credits_resume_account to let it spend again.");
	return ledger_enough(posting, amount);
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
	receipt->amount = entry->amount;
	receipt->balance = entry->balance_after;
	receipt->held = entry->held_after;
	receipt->replayed = replayed;
	receipt->created_at = entry->created_at;
}

/*
 * Returns the balance after a transaction and those that came with it: what a
 * refund gives back to an expired or voided grant goes again at once.
 */
static int64
balance_after_all(Posting *posting, const Entry *entry)
{
	int64		balance = entry->balance_after;
	int64		last = entry->id;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (strcmp(entry->kind, KIND_REFUND) != 0)
		return balance;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(entry->id));
	store_scan(&scan, posting->store, &transactions_by_target_id,
			   posting->snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		follower;

		row_read_entry(slot, &follower);
		if (follower.id > last)
		{
			last = follower.id;
			balance = follower.balance_after;
		}
	}
	store_scan_end(&scan);
	return balance;
}

/*
 * Answers a request whose key was used before: with the original receipt, or
 * by refusing another request under the same key.
 */
static Outcome
replay(Posting *posting, Request *request, Entry *entry, Receipt *receipt)
{
	if (!entry->has_request ||
		entry->request != chain_fingerprint(&request->fingerprint))
	{
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("idempotency key \"%s\" was used for another request",
						text_to_cstring(request->key)),
			   psprintf("Account \"%s\" used it for transaction " INT64_FORMAT ", of kind %s and amount " INT64_FORMAT ".",
						row_account_name(&posting->account), entry->id, entry->kind,
						entry->amount),
			   "Repeat a request with the very same arguments, or use a new key.");
		return REFUSED;
	}
	receipt_from_entry(receipt, entry, &posting->account, true);
	receipt->balance = balance_after_all(posting, entry);
	return REPLAYED;
}

/*
 * Refuses to go on with an account that someone has damaged.
 */
static void
check_account(const Account *account)
{
	if (account->status == ACCOUNT_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " has an unknown status",
						account->id),
				 errhint("Run credits_verify.")));
}

/*
 * Makes the changes of a posting and fires their triggers, which write the
 * log.
 */
static Outcome
make_changes(Posting *posting)
{
	int			i;

	store_begin_changes(posting->store);
	if (row_update_account(posting->store, posting->snapshot,
						   &posting->account) != TM_Ok)
	{
		/* no trigger is queued: this only undoes the begin */
		store_end_changes(posting->store);
		return CHANGED;
	}
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->changed)
			row_write_grant(posting->store, posting->snapshot,
							posting->grants[i]);
	store_end_changes(posting->store);
	if (!posting->written)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("trigger \"accounts_write_log\" did not fire"),
				 errdetail("A change of account " INT64_FORMAT " would not be logged.",
						   posting->account.id),
				 errhint("Run ALTER TABLE credits.accounts ENABLE ALWAYS TRIGGER accounts_write_log.")));
	return POSTED;
}

/*
 * Writes what was planned.
 */
static Outcome
write_posting(Posting *posting, Request *request)
{
	volatile Outcome outcome;

	log_seal(posting, request);
	log_enter(posting);
	PG_TRY();
	{
		outcome = make_changes(posting);
	}
	PG_FINALLY();
	{
		log_leave(posting);
	}
	PG_END_TRY();
	return outcome;
}

/*
 * Finds the account, settles it, looks the key up, plans and writes.  The
 * snapshot is the active one.
 */
static Outcome
attempt(Posting *posting, text *name, int64 id, Request *request,
		PlanChange plan, void *arg, Receipt *receipt)
{
	Entry		entry;

	if (!row_find_account(posting->store, posting->snapshot, name, id,
						  &posting->account))
	{
		if (name)
			refuse_unknown_account(&posting->refusal, name);
		else
			refuse(&posting->refusal, ERRCODE_NOT_FOUND,
				   psprintf("account " INT64_FORMAT " does not exist", id),
				   NULL, "Run credits_verify.");
		return REFUSED;
	}
	log_check_idle(posting->account.id);
	if (!posting->locked && posting->account.id == busy_account)
		return CHANGED;
	if (posting->locked)
	{
		int64		seen = posting->account.last_transaction_id;

		row_lock_account(posting->store, posting->snapshot,
						 &posting->account, false);
		busy_account = posting->account.last_transaction_id == seen ?
			0 : posting->account.id;
		if (!IsolationUsesXactSnapshot())
		{
			PopActiveSnapshot();
			PushActiveSnapshot(store_snapshot(true));
			posting->snapshot = GetActiveSnapshot();
		}
	}
	check_account(&posting->account);
	posting->now = Max(clock_now(), posting->account.last_at);

	if (request->key &&
		row_find_key(posting->store, posting->snapshot,
					 posting->account.id, request->key, &entry))
		return replay(posting, request, &entry, receipt);

	grants_settle(posting);
	if (!plan(posting, arg))
		return REFUSED;
	return write_posting(posting, request);
}

/*
 * Begins a posting.
 */
static void
begin_posting(Posting *posting, Store *store, bool locked, bool fresh)
{
	memset(posting, 0, sizeof(Posting));
	posting->store = store;
	posting->locked = locked;
	PushActiveSnapshot(store_snapshot(fresh));
	posting->snapshot = GetActiveSnapshot();
}

/*
 * Posts a change of an account, found by name or, without one, by id.  Returns
 * false, with the refusal filled in, if the change must not be.
 */
bool
ledger_post(const char *function, text *name, int64 id, Request *request,
			PlanChange plan, void *arg, Receipt *receipt, Refusal *refusal)
{
	Store	   *store;
	Posting		posting;
	Outcome		outcome;
	bool		locked = false;

	store_check_writable(function);
	store = store_open();
	for (;;)
	{
		/* what led to an account's id was seen by a snapshot just taken */
		begin_posting(&posting, store, locked, locked || name == NULL);
		outcome = attempt(&posting, name, id, request, plan, arg, receipt);
		PopActiveSnapshot();
		if (outcome == POSTED || outcome == REPLAYED || locked)
			break;
		locked = true;
	}
	if (outcome == POSTED)
	{
		receipt_from_entry(receipt, posting.main, &posting.account, false);
		receipt->balance = posting.account.balance;
	}
	store_close(store);
	if (outcome == CHANGED)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Account " INT64_FORMAT " changed while it was locked.",
						   posting.account.id),
				 errhint("Retry the transaction.")));
	*refusal = posting.refusal;
	return outcome != REFUSED;
}

/*
 * Posts a change for an SQL function: returns its receipt or raises an error.
 */
Datum
ledger_call(FunctionCallInfo fcinfo, const char *function, text *name,
			int64 id, Request *request, PlanChange plan, void *arg)
{
	Receipt		receipt;
	Refusal		refusal;
	TupleDesc	tupdesc;
	Datum		result;

	if (!ledger_post(function, name, id, request, plan, arg, &receipt,
					 &refusal))
		raise_refusal(&refusal);
	tupdesc = result_tupdesc(fcinfo);
	result = receipt_datum(tupdesc, &receipt);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Settles an account if it is due and nobody else is at it.
 */
SettleResult
ledger_settle(int64 account_id)
{
	Store	   *store;
	Posting		posting;
	SettleResult result = NOT_DUE;

	store_check_writable("credits_settle()");
	store = store_open();
	begin_posting(&posting, store, true, true);
	if (row_find_account(store, posting.snapshot, NULL, account_id,
						 &posting.account))
	{
		log_check_idle(account_id);
		if (!row_lock_account(store, posting.snapshot, &posting.account,
							  true))
			result = SKIPPED;
		else
		{
			if (!IsolationUsesXactSnapshot())
			{
				PopActiveSnapshot();
				PushActiveSnapshot(store_snapshot(true));
				posting.snapshot = GetActiveSnapshot();
			}
			check_account(&posting.account);
			posting.now = Max(clock_now(), posting.account.last_at);
			if (posting.now >= posting.account.due_at)
			{
				grants_settle(&posting);
				write_posting(&posting, NULL);
				result = SETTLED;
			}
		}
	}
	PopActiveSnapshot();
	store_close(store);
	return result;
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

	values[0] = Int64GetDatum(receipt->transaction_id);
	values[1] = PointerGetDatum(receipt->account);
	values[2] = CStringGetTextDatum(receipt->kind);
	values[3] = Int64GetDatum(receipt->amount);
	values[4] = Int64GetDatum(receipt->balance);
	values[5] = Int64GetDatum(receipt->held);
	values[6] = BoolGetDatum(receipt->replayed);
	values[7] = TimestampTzGetDatum(receipt->created_at);
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
}
