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
 * A joint change of several accounts locks them all first, in order of their
 * ids, so that two of them cannot wait for each other.  Only then are they
 * settled, and the change is planned on all of them at once.
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
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
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
 * Adds a span of time to what a retry must repeat.
 */
void
fingerprint_interval(StringInfo f, Interval *value)
{
	if (value)
		appendStringInfo(f, "%d:%d:" INT64_FORMAT, value->month, value->day,
						 value->time);
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
 * Returns the amount of a receipt: of a request that was split over several
 * accounts all that it moved, which the terms of its transaction say.
 */
static int64
receipt_amount(const Entry *entry)
{
	JsonbValue *total = terms_get(entry, "total");

	if (total == NULL || total->type != jbvNumeric)
		return entry->amount;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(total->val.numeric)));
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
 * goes again at once, and a final capture releases the rest.
 */
static void
add_followers(Receipt *receipt, Posting *posting, const Entry *entry)
{
	int64		last = entry->id;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (strcmp(entry->kind, KIND_REFUND) != 0 &&
		strcmp(entry->kind, KIND_CAPTURE) != 0 &&
		strcmp(entry->kind, KIND_RELEASE) != 0 &&
		strcmp(entry->kind, KIND_REVERSAL) != 0)
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
 * Answers a request whose key was used before: with the original receipt, or
 * by refusing another request under the same key.
 */
static Outcome
replay(Posting *posting, Request *request, Entry *entry, Receipt *receipt)
{
	/* where a pool paid, the transaction is the pool's */
	text	   *owner = entry->account_id == posting->account.id ? NULL :
		name_of(posting, entry->account_id);

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
	if (owner)
		receipt->account = owner;
	add_followers(receipt, posting, entry);
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
	Change	   *change;
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
	for (change = posting->changes; change; change = change->next)
		change->write(posting, change->row);
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

	if (request && posting->main)
		log_describe(posting->main, request);
	log_seal(posting);
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
	/* a hold that times out gives back to caps, which are locked after it */
	if (!posting->locked && posting->account.held > 0 &&
		clock_now() >= posting->account.due_at)
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
					 request->key_account_id ? request->key_account_id :
					 posting->account.id, request->key, &entry))
		return replay(posting, request, &entry, receipt);

	reserve_settle(posting);
	if (!plan(posting, arg))
		return REFUSED;
	return write_posting(posting, request);
}

/*
 * Raises the error for an account that changed although it was locked.
 */
static void
raise_changed(int64 account_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Account " INT64_FORMAT " changed while it was locked.",
					   account_id),
			 errhint("Retry the transaction.")));
}

/*
 * Makes the receipt of a posting: its main transaction, and the balance after
 * all of them.
 */
static void
receipt_of_posting(Receipt *receipt, Posting *posting)
{
	receipt_from_entry(receipt, posting->main, &posting->account, false);
	receipt->balance = posting->account.balance;
	receipt->held = posting->account.held;
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
	bool		locked = request->lock_first;

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
		receipt_of_posting(receipt, &posting);
	store_close(store);
	if (outcome == CHANGED)
		raise_changed(posting.account.id);
	*refusal = posting.refusal;
	return outcome != REFUSED;
}

/*
 * Finds and locks the accounts of a joint change, in order of their ids.
 */
static bool
lock_parties(Posting *postings, int *order, const Party *parties, int nparties)
{
	int			i;

	for (i = 0; i < nparties; i++)
	{
		Posting    *posting = &postings[i];
		int			j;

		if (!row_find_account(posting->store, posting->snapshot,
							  parties[i].name, parties[i].id,
							  &posting->account))
		{
			if (parties[i].name)
				return refuse_unknown_account(&postings[0].refusal,
											  parties[i].name);
			return refuse(&postings[0].refusal, ERRCODE_NOT_FOUND,
						  psprintf("account " INT64_FORMAT " does not exist",
								   parties[i].id),
						  NULL, "Run credits_verify.");
		}
		row_keep_account(&posting->account);
		log_check_idle(posting->account.id);
		/* few: insertion is sort enough */
		for (j = i; j > 0 && postings[order[j - 1]].account.id >
			 posting->account.id; j--)
			order[j] = order[j - 1];
		order[j] = i;
		if (j > 0 && postings[order[j - 1]].account.id == posting->account.id)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("accounts must differ"),
					 errdetail("Account \"%s\" is named twice.",
							   row_account_name(&posting->account)),
					 errhint("Name each account once.")));
	}
	for (i = 0; i < nparties; i++)
	{
		Posting    *posting = &postings[order[i]];

		row_lock_account(posting->store, posting->snapshot, &posting->account,
						 false);
		row_keep_account(&posting->account);
		check_account(&posting->account);
	}
	return true;
}

/*
 * Locks the accounts of a joint change, settles them, looks the key up, plans
 * and writes.
 */
static Outcome
attempt_joint(Posting *postings, const Party *parties, int nparties,
			  Request *request, PlanChange plan, void *arg, Receipt *receipt)
{
	int		   *order = palloc(nparties * sizeof(int));
	TimestampTz now = clock_now();
	Entry		entry;
	int			i;

	if (!lock_parties(postings, order, parties, nparties))
		return REFUSED;
	if (!IsolationUsesXactSnapshot())
	{
		PopActiveSnapshot();
		PushActiveSnapshot(store_snapshot(true));
	}
	for (i = 0; i < nparties; i++)
	{
		postings[i].snapshot = GetActiveSnapshot();
		now = Max(now, postings[i].account.last_at);
	}
	if (request->key &&
		row_find_key(postings[0].store, postings[0].snapshot,
					 request->key_account_id ? request->key_account_id :
					 postings[0].account.id, request->key, &entry))
		return replay(&postings[0], request, &entry, receipt);

	for (i = 0; i < nparties; i++)
	{
		postings[i].now = now;
		reserve_settle(&postings[i]);
	}
	if (!plan(postings, arg))
		return REFUSED;
	for (i = 0; i < nparties; i++)
	{
		Posting    *posting = &postings[order[i]];

		if (posting->nentries == 0 && posting->changes == NULL)
			continue;
		if (write_posting(posting, request) != POSTED)
			return CHANGED;
		if (posting->main)
			receipt_of_posting(receipt, posting);
	}
	return POSTED;
}

/*
 * Posts a joint change of several accounts, all or nothing.  The key is the
 * first party's.  Returns false, with the refusal filled in, if the change must
 * not be.
 */
bool
ledger_post_joint(const char *function, const Party *parties, int nparties,
				  Request *request, PlanChange plan, void *arg,
				  Receipt *receipt, Refusal *refusal)
{
	Posting    *postings = palloc0(nparties * sizeof(Posting));
	Store	   *store;
	Outcome		outcome;
	int			i;

	store_check_writable(function);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	for (i = 0; i < nparties; i++)
	{
		postings[i].parties = postings;
		postings[i].nparties = nparties;
		postings[i].store = store;
		postings[i].snapshot = GetActiveSnapshot();
		postings[i].locked = true;
	}
	outcome = attempt_joint(postings, parties, nparties, request, plan, arg,
							receipt);
	PopActiveSnapshot();
	store_close(store);
	if (outcome == CHANGED)
		raise_changed(postings[0].account.id);
	*refusal = postings[0].refusal;
	return outcome != REFUSED;
}

/*
 * Returns an account as settling it at an instant would make it and, if the
 * caller wants to know, what then expires next; changes nothing.  The active
 * snapshot is used.
 */
void
ledger_peek(const Account *account, TimestampTz at, Account *settled,
			TimestampTz *expiring_at, int64 *expiring)
{
	Posting		posting;

	memset(&posting, 0, sizeof(Posting));
	posting.dry = true;
	posting.snapshot = GetActiveSnapshot();
	posting.account = *account;
	/* what is due at infinity never is */
	posting.now = Min(at, DT_NOEND - 1);
	reserve_settle(&posting);
	*settled = posting.account;
	if (expiring_at)
		*expiring_at = grants_next_expiry(&posting, expiring);
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
 * Posts a joint change for an SQL function: returns its receipt or raises an
 * error.
 */
Datum
ledger_call_joint(FunctionCallInfo fcinfo, const char *function,
				  const Party *parties, int nparties, Request *request,
				  PlanChange plan, void *arg)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!ledger_post_joint(function, parties, nparties, request, plan, arg,
						   &receipt, &refusal))
		raise_refusal(&refusal);
	return ledger_result(fcinfo, &receipt);
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

	if (!ledger_post(function, name, id, request, plan, arg, &receipt,
					 &refusal))
		raise_refusal(&refusal);
	return ledger_result(fcinfo, &receipt);
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
				reserve_settle(&posting);
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
