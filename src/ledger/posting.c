/*
 * posting.c
 *	  The steps of a posting: beginning it, locking its account, and writing
 *	  it.
 *
 * The order of these steps is determined by ledger.c and bulk.c.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "ledger/debts.h"
#include "ledger/invariants.h"
#include "ledger/log.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/*
 * Initializes a posting, whose account is still to be found.
 */
void
posting_begin(Posting *posting, Store *store, Snapshot snapshot, bool locked)
{
	memset(posting, 0, sizeof(Posting));
	posting->store = store;
	posting->snapshot = snapshot;
	posting->locked = locked;
}

/*
 * Locks the posting's account and reads its newest version.  Returns false if
 * another session has locked it and skip_locked is set.
 */
bool
posting_lock(Posting *posting, bool skip_locked)
{
	if (!rows_lock_account(posting->store, posting->snapshot,
						   &posting->account, skip_locked))
		return false;
	posting_check(&posting->account);
	return true;
}

/*
 * Returns whether settling the posting's account may release an expired hold.
 * That changes members of pools, which must be locked after all accounts.
 */
bool
posting_may_release(const Posting *posting)
{
	return !posting->dry && posting->account.held > 0 &&
		posting->now >= posting->account.due_at;
}

/*
 * Returns whether a subscription of the posting's account may be due.  Renewing
 * it gives grants and numbers, so it is not planned on a guess.
 */
bool
posting_may_renew(const Posting *posting)
{
	return !posting->dry && posting->now >= posting->account.renews_at;
}

/*
 * Raises an error if an account's status is unknown, because somebody has
 * modified the table.
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
 * Adds to a list of what is deferred.
 */
static void
push_deferred(DeferredWrite **list, void (*write) (Posting *, void *),
			  void *row)
{
	DeferredWrite *deferred = palloc(sizeof(DeferredWrite));

	deferred->next = *list;
	deferred->write = write;
	deferred->row = row;
	*list = deferred;
}

/*
 * Registers a row of another table to be written together with the account,
 * after the update of the account's row has succeeded.
 */
void
posting_defer(Posting *posting, void (*write) (Posting *, void *), void *row)
{
	push_deferred(&posting->writes, write, row);
}

/*
 * Has a function run that writes by kept SQL statements, once the account, its
 * grants and its log are written.
 */
void
posting_defer_statements(Posting *posting, void (*run) (Posting *, void *),
						 void *arg)
{
	push_deferred(&posting->statements, run, arg);
}

/*
 * Writes what was deferred, in the order in which it came.
 */
static void
write_deferred(Posting *posting, DeferredWrite **list)
{
	DeferredWrite *deferred;
	DeferredWrite *ordered = NULL;

	while ((deferred = *list) != NULL)
	{
		*list = deferred->next;
		deferred->next = ordered;
		ordered = deferred;
	}
	for (deferred = ordered; deferred; deferred = deferred->next)
	{
		CHECK_FOR_INTERRUPTS();
		deferred->write(posting, deferred->row);
	}
}

/*
 * Runs the statements that were deferred.  The log has been left by now, so
 * triggers that they fire may change the account again.
 */
void
posting_run_statements(Posting *posting)
{
	Assert(posting->locked || posting->written);
	Assert(posting->written || !posting_has_changes(posting));
	write_deferred(posting, &posting->statements);
}

/*
 * Returns whether a posting has anything to write.
 */
bool
posting_has_changes(const Posting *posting)
{
	return posting->nentries > 0 || posting->writes != NULL ||
		posting->touched ||
		posting->account.due_at != posting->account.stored.due_at ||
		posting->account.renews_at != posting->account.stored.renews_at;
}

/*
 * Writes the rows of a posting.  Returns false, and has written nothing, if
 * another session has changed its account since it was read.
 */
static bool
write_rows(Posting *posting)
{
	Store	   *store = posting->store;
	Grant	   *first = posting->first_grant &&
		posting->first_grant->status == GRANT_OPEN ? posting->first_grant : NULL;
	ItemPointerData tid;
	ItemPointerData grant_tid;
	int			i;

	if (rows_update_account(posting->store, posting->snapshot,
							&posting->account) != TM_Ok)
		return false;
	tid = *store_place(store, &accounts_table);
	for (i = 0; i < posting->ngrants; i++)
	{
		Grant	   *grant = posting->grants[i];

		/* safe here, as each row is written completely, with its indexes */
		CHECK_FOR_INTERRUPTS();
		if (grant->changed)
			rows_write_grant(store, posting->snapshot, grant);
		if (grant == first)
			grant_tid = grant->changed ?
				*store_place(store, &grants_table) : grant->tid;
	}
	rows_remember_account(&posting->account, &tid, first, &grant_tid);
	write_deferred(posting, &posting->writes);
	return true;
}

/*
 * Writes the rows of all postings of a call, and fires their triggers, which
 * write the log.  The triggers that users have added to the log are fired after
 * all of that.
 */
static Outcome
write_all(Posting **postings, int n)
{
	Store	   *store = postings[0]->store;
	int			i;

	store_begin_changes(store);
	for (i = 0; i < n; i++)
		if (!write_rows(postings[i]))
		{
			/* only a direct UPDATE in this transaction can change it then */
			if (postings[i]->locked)
				posting_raise_changed(postings[i]->account.id);
			Assert(n == 1);
			/* no trigger has been queued yet */
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
 * Completes the entries of all postings of a call, and writes them together,
 * so that a trigger on the log sees all of them.  Returns POSTED, or CHANGED
 * if another session has changed an account that is not locked.
 */
Outcome
posting_write(Posting **postings, int n, Request *request)
{
	volatile Outcome outcome = CHANGED;
	int			i;

	for (i = 0; i < n; i++)
	{
		/* adds entries, so it must come before they are completed */
		if (postings[i]->account.debt > 0)
			debts_pay(postings[i], postings[i]->now);
		if (request && postings[i]->main)
			log_describe(postings[i]->main, request);
		log_seal(postings[i]);
		invariants_check(postings[i]);
	}
	/* their triggers fire in order, so the first one is to be found first */
	for (i = n - 1; i >= 0; i--)
		log_enter(postings[i]);
	PG_TRY();
	{
		outcome = write_all(postings, n);
	}
	PG_FINALLY();
	{
		log_leave(postings[n - 1]);
	}
	PG_END_TRY();
	return outcome;
}

/*
 * Raises the error for an account that has changed although it was locked.
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
