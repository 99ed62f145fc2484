/*
 * posting.c
 *	  A change of one account: begun, locked, and written.
 *
 * How these steps follow each other is for ledger.c and bulk.c to say.
 */
#include "credits.h"

#include "posting.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/*
 * Begins a posting.
 */
void
posting_begin(Posting *posting, Store *store, bool locked, bool fresh)
{
	memset(posting, 0, sizeof(Posting));
	posting->store = store;
	posting->locked = locked;
	PushActiveSnapshot(store_snapshot(fresh));
	posting->snapshot = GetActiveSnapshot();
}

/*
 * Makes the active snapshot one that sees all that came before the locks just
 * taken, unless the transaction has only one, and returns it.
 */
Snapshot
posting_renew_snapshot(void)
{
	if (!IsolationUsesXactSnapshot())
	{
		PopActiveSnapshot();
		PushActiveSnapshot(store_snapshot(true));
	}
	return GetActiveSnapshot();
}

/*
 * Locks the posting's account, reads its newest version, and takes a snapshot
 * that sees all that came before.
 */
void
posting_lock(Posting *posting)
{
	row_lock_account(posting->store, posting->snapshot, &posting->account,
					 false);
	posting->snapshot = posting_renew_snapshot();
}

/*
 * Tells whether settling the posting's account may release a hold that has
 * timed out.  That gives back to caps, which are locked after all accounts.
 */
bool
posting_may_release(const Posting *posting)
{
	return !posting->dry && posting->account.held > 0 &&
		posting->now >= posting->account.due_at;
}

/*
 * Refuses to go on with an account that someone has damaged.
 */
void
posting_check(const Account *account)
{
	if (account->status == ACCOUNT_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " has an unknown status",
						account->id),
				 errhint("Run credits_verify.")));
}

/*
 * Locks the members of pools that settling changes, if any, and then those
 * that the plan may change, so that all are locked in order.  Returns false if
 * one is busy and that is not to be waited for.
 */
bool
posting_lock_members(Posting *postings, int npostings, Request *request,
					 void *arg, bool skip_locked)
{
	List	   *keys = NIL;
	int			i;

	for (i = 0; i < npostings; i++)
		keys = reserve_add_members(keys, &postings[i]);
	if (keys == NIL)
		return true;
	if (request && request->add_members)
		keys = request->add_members(keys, postings, arg);
	return caps_lock_members(&postings[0], keys, skip_locked);
}

/*
 * Answers a request whose key was used before: with the original receipt, or
 * by refusing another request under the same key.
 */
Outcome
posting_replay(Posting *posting, Request *request, Entry *entry, Receipt *receipt)
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
	receipt_replayed(receipt, posting, entry);
	return REPLAYED;
}

/*
 * Changes the rows of a posting.  Returns false if another has its account.
 */
static bool
change_rows(Posting *posting)
{
	Change	   *change;
	Change	   *ordered = NULL;
	int			i;

	/* who has the row may have used a key of it for a pool's transaction */
	if (row_update_account(posting->store, posting->snapshot,
						   &posting->account, posting->locked) != TM_Ok)
		return false;
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->changed)
			row_write_grant(posting->store, posting->snapshot,
							posting->grants[i]);
	/* in the order in which they came */
	while ((change = posting->changes) != NULL)
	{
		posting->changes = change->next;
		change->next = ordered;
		ordered = change;
	}
	for (change = ordered; change; change = change->next)
		change->write(posting, change->row);
	return true;
}

/*
 * Makes the changes of postings and fires their triggers, which write the log.
 * Those that users put on the log come after all of it.
 */
static Outcome
make_changes(Posting **postings, int n)
{
	Store	   *store = postings[0]->store;
	int			i;

	store_begin_changes(store);
	for (i = 0; i < n; i++)
		if (!change_rows(postings[i]))
		{
			/* of several all are locked: this cannot be waited for */
			if (i > 0)
				posting_raise_changed(postings[i]->account.id);
			/* no trigger is queued: this only undoes the begin */
			store_end_changes(store);
			return CHANGED;
		}
	store_end_changes(store);
	for (i = 0; i < n; i++)
		if (!postings[i]->written)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("trigger \"accounts_write_log\" did not fire"),
					 errdetail("A change of account " INT64_FORMAT " would not be logged.",
							   postings[i]->account.id),
					 errhint("Run ALTER TABLE credits.accounts ENABLE ALWAYS TRIGGER accounts_write_log.")));
	return POSTED;
}

/*
 * Writes what was planned, of all accounts of a change at once: what a trigger
 * on the log finds, or changes in turn, is all of it.
 */
Outcome
posting_write_all(Posting **postings, int n, Request *request)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Outcome outcome;
	int			i;

	for (i = 0; i < n; i++)
	{
		if (postings[i]->account.debt > 0)
			debts_pay(postings[i], postings[i]->now);
		if (request && postings[i]->main)
			log_describe(postings[i]->main, request);
		log_seal(postings[i]);
	}
	for (i = 0; i < n; i++)
		log_enter(postings[i]);
	PG_TRY();
	{
		outcome = make_changes(postings, n);
	}
	PG_CATCH();
	{
		log_leave(postings[0]);
		/*
		 * A key that a pool's transaction took while this change was being
		 * planned does not show before: it only locks the account whose key
		 * it is.
		 */
		if (!is_unique_violation(context, transactions_by_key.name))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("idempotency key was used for another request"),
				 errdetail("Another transaction has used it for account " INT64_FORMAT " just now.",
						   postings[0]->account.id),
				 errhint("Repeat a request with the very same arguments, or use a new key.")));
	}
	PG_END_TRY();
	log_leave(postings[0]);
	return outcome;
}

/*
 * Writes what was planned of one account.
 */
Outcome
posting_write(Posting *posting, Request *request)
{
	return posting_write_all(&posting, 1, request);
}

/*
 * Raises the error for an account that changed although it was locked.
 */
void
posting_raise_changed(int64 account_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Account " INT64_FORMAT " changed while it was locked.",
					   account_id),
			 errhint("Retry the transaction.")));
}
