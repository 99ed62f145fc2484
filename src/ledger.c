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
 * fails, or would have to wait for another, or the plan is to refuse, the row
 * is locked, a new snapshot is taken, and the plan is made again: no call is
 * refused on what may be old news.
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

#include "posting.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

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
 * Finds an account, or raises the error that there is none of that name.
 */
void
ledger_find_account(Snapshot snapshot, text *name, Account *account)
{
	Refusal		refusal;

	if (row_find_account(NULL, snapshot, name, 0, account))
		return;
	refuse_unknown_account(&refusal, name);
	raise_refusal(&refusal);
}

/*
 * Finds the account of a posting, by name or, without one, by id.
 */
static bool
find_account(Posting *posting, text *name, int64 id, Refusal *refusal)
{
	if (row_find_account(posting->store, posting->snapshot, name, id,
						 &posting->account))
		return true;
	if (name)
		return refuse_unknown_account(refusal, name);
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  psprintf("account " INT64_FORMAT " does not exist", id),
				  NULL, "Run credits_verify.");
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
 * Finds the account, settles it, looks the key up, plans and writes.  The
 * snapshot is the active one.
 */
static Outcome
attempt(Posting *posting, text *name, int64 id, Request *request,
		PlanChange plan, void *arg, Receipt *receipt)
{
	Entry		entry;

	if (!find_account(posting, name, id, &posting->refusal))
		return REFUSED;
	log_check_idle(posting->account.id);
	if (!posting->locked && posting->account.id == busy_account)
		return CHANGED;
	posting->now = Max(clock_now(), posting->account.last_at);
	/* a hold that times out gives back to caps, which are locked after it */
	if (!posting->locked && posting_may_release(posting))
		return CHANGED;
	if (posting->locked)
	{
		int64		seen = posting->account.last_transaction_id;

		posting_lock(posting);
		busy_account = posting->account.last_transaction_id == seen ?
			0 : posting->account.id;
		posting->now = Max(clock_now(), posting->account.last_at);
	}
	posting_check(&posting->account);

	if (request->key &&
		row_find_key(posting->store, posting->snapshot,
					 request->key_account_id ? request->key_account_id :
					 posting->account.id, request->key, &entry))
		return posting_replay(posting, request, &entry, receipt);

	(void) posting_lock_members(posting, 1, NULL, NULL, false);
	reserve_settle(posting);
	if (!plan(posting, arg))
		return REFUSED;
	return posting_write(posting, request);
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
		posting_begin(&posting, store, locked, locked || name == NULL);
		outcome = attempt(&posting, name, id, request, plan, arg, receipt);
		PopActiveSnapshot();
		if (outcome == POSTED || outcome == REPLAYED || locked)
			break;
		locked = true;
	}
	if (outcome == POSTED && posting.main)
		receipt_of_posting(receipt, &posting);
	store_close(store);
	if (outcome == CHANGED)
		posting_raise_changed(posting.account.id);
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

		if (!find_account(posting, parties[i].name, parties[i].id,
						  &postings[0].refusal))
			return false;
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
		posting_check(&posting->account);
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
	Posting   **changed = palloc(nparties * sizeof(Posting *));
	int			nchanged = 0;
	Snapshot	snapshot;
	TimestampTz now;
	Entry		entry;
	int			i;

	if (!lock_parties(postings, order, parties, nparties))
		return REFUSED;
	snapshot = posting_renew_snapshot();
	now = clock_now();
	for (i = 0; i < nparties; i++)
	{
		postings[i].snapshot = snapshot;
		now = Max(now, postings[i].account.last_at);
	}
	if (request->key &&
		row_find_key(postings[0].store, postings[0].snapshot,
					 request->key_account_id ? request->key_account_id :
					 postings[0].account.id, request->key, &entry))
		return posting_replay(&postings[0], request, &entry, receipt);

	for (i = 0; i < nparties; i++)
	{
		postings[i].lead = &postings[0];
		postings[i].now = now;
	}
	(void) posting_lock_members(postings, nparties, request, arg, false);
	for (i = 0; i < nparties; i++)
		reserve_settle(&postings[i]);
	if (!plan(postings, arg))
		return REFUSED;
	for (i = 0; i < nparties; i++)
	{
		Posting    *posting = &postings[order[i]];

		if (posting->nentries > 0 || posting->changes)
			changed[nchanged++] = posting;
	}
	if (nchanged > 0 && posting_write_all(changed, nchanged, request) != POSTED)
		return CHANGED;
	for (i = 0; i < nchanged; i++)
		if (changed[i]->main)
			receipt_of_posting(receipt, changed[i]);
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
		postings[i].store = store;
		postings[i].snapshot = GetActiveSnapshot();
		postings[i].locked = true;
	}
	outcome = attempt_joint(postings, parties, nparties, request, plan, arg,
							receipt);
	PopActiveSnapshot();
	store_close(store);
	if (outcome == CHANGED)
		posting_raise_changed(postings[0].account.id);
	*refusal = postings[0].refusal;
	return outcome != REFUSED;
}

/*
 * Begins a posting of which nothing is written, on an account as settling it at
 * an instant would make it.  The active snapshot is used.
 */
static void
begin_dry(Posting *posting, const Account *account, TimestampTz at)
{
	memset(posting, 0, sizeof(Posting));
	posting->dry = true;
	posting->snapshot = GetActiveSnapshot();
	posting->account = *account;
	/* what is due at infinity never is */
	posting->now = Min(at, DT_NOEND - 1);
	reserve_settle(posting);
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

	begin_dry(&posting, account, at);
	*settled = posting.account;
	if (expiring_at)
		*expiring_at = grants_next_expiry(&posting, expiring);
}

/*
 * Plans a change of an account and writes nothing: the plan tells what it would
 * do.  It must get by without a Store and without locks.
 */
bool
ledger_rehearse(text *name, PlanChange plan, void *arg, Refusal *refusal)
{
	Account		account;
	Posting		posting;
	bool		planned;

	if (!row_find_account(NULL, GetActiveSnapshot(), name, 0, &account))
		return refuse_unknown_account(refusal, name);
	posting_check(&account);
	begin_dry(&posting, &account, Max(clock_now(), account.last_at));
	planned = plan(&posting, arg);
	*refusal = posting.refusal;
	return planned;
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
	posting_begin(&posting, store, true, true);
	if (row_find_account(store, posting.snapshot, NULL, account_id,
						 &posting.account))
	{
		log_check_idle(account_id);
		if (!row_lock_account(store, posting.snapshot, &posting.account,
							  true))
			result = SKIPPED;
		else
		{
			posting.snapshot = posting_renew_snapshot();
			posting_check(&posting.account);
			posting.now = Max(clock_now(), posting.account.last_at);
			if (posting.now >= posting.account.due_at)
			{
				/* others are locked in this transaction: it must not wait */
				if (!posting_lock_members(&posting, 1, NULL, NULL, true))
					result = SKIPPED;
				else
				{
					reserve_settle(&posting);
					posting_write(&posting, NULL);
					result = SETTLED;
				}
			}
		}
	}
	PopActiveSnapshot();
	store_close(store);
	return result;
}
