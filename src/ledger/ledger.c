/*
 * ledger.c
 *	  Postings: the only way in which accounts change, be it one account,
 *	  several at once or many one after the other, and whether a caller or a
 *	  job asks for it.
 *
 * A posting is planned in memory from one snapshot and then written, beginning
 * with the account's row.  Usually no other session is using the account at
 * the same time, so the row is not locked before it is read.  Instead, its
 * update fails if the row is no longer the version on which the plan is based.
 * Everything that changes an account or uses one of its idempotency keys
 * updates the account's row.  So if the update succeeds, the plan was based on
 * the latest state of the account, its grants and its keys.  If the update
 * fails, or the plan refuses, the row is locked, a new snapshot is taken, and
 * the posting is planned again.  A call is therefore never refused because of
 * outdated data.
 *
 * If many sessions use the same account concurrently, it is better to lock the
 * row first.  A session remembers the last account that another session changed
 * before it could lock it, and locks that account first until it finds that
 * nobody else has changed it.
 *
 * A joint posting of several accounts locks all of them first, in order of
 * their ids to avoid deadlocks.  Then they are settled, and the posting is
 * planned on all of them together.
 *
 * What is due is settled before anything is planned, and subscriptions that are
 * due are renewed.  If that takes a great many steps, they are written as several
 * postings, which limits the memory needed.
 *
 * In REPEATABLE READ and above, the transaction has only one snapshot, and a
 * row version newer than that is a serialization failure.
 */
#include "credits.h"

#include "ledger/guards.h"
#include "ledger/keys.h"
#include "ledger/ledger.h"
#include "ledger/settle.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* how many steps of settling are written as one posting */
#define PART_STEPS 20000

/* the account that this session locks before planning, 0 if none */
static int64 busy_account = 0;

/*
 * Locks the tables that a call may write, in the mode for writing.
 *
 * A function that reads these tables before it posts must call this first.  If
 * it locked an index in the mode for reading first, and the table in the mode
 * for writing later, it could deadlock with a REINDEX between the two.
 */
void
ledger_lock_tables(const char *function)
{
	store_check_writable(function);
	store_lock_core();
	store_lock_table(&events_table);
	store_lock_table(&event_order_table);
}

/*
 * Replaces the active snapshot by a new one that sees everything that was
 * committed before the locks just acquired, and assigns it to the postings.
 * In REPEATABLE READ and above, the snapshot stays the same.
 */
void
ledger_renew_snapshot(Posting *postings, int npostings)
{
	int			i;

	if (!IsolationUsesXactSnapshot())
	{
		PopActiveSnapshot();
		PushActiveSnapshot(store_snapshot(true));
	}
	for (i = 0; i < npostings; i++)
		postings[i].snapshot = GetActiveSnapshot();
}

/*
 * Returns the time of a change of an account: the given one or, if that is 0,
 * the current one, but not before the account's last transaction, so that
 * created_at never decreases.
 */
TimestampTz
ledger_instant(TimestampTz given, const Account *account)
{
	TimestampTz at = given ? given : clock_now();

	return Max(at, account->last_at);
}

/*
 * Sets the time of the postings, which is the same for all accounts.
 */
static void
set_now(const LedgerCall *call, Posting *postings)
{
	TimestampTz now = call->now;
	int			i;

	for (i = 0; i < call->nparties; i++)
		now = ledger_instant(now, &postings[i].account);
	for (i = 0; i < call->nparties; i++)
		postings[i].now = now;
}

/*
 * Finds the accounts of a call, by name or, if there is none, by id.  Sets
 * "order" to the indexes of the parties in order of their ids.
 */
static bool
find_parties(const LedgerCall *call, Posting *postings, int *order)
{
	int			i;

	for (i = 0; i < call->nparties; i++)
	{
		const Party *party = &call->parties[i];
		Posting    *posting = &postings[i];
		int			j;

		CHECK_FOR_INTERRUPTS();
		if (!rows_find_account(posting->store, posting->snapshot, party->name,
							   party->id, &posting->account))
		{
			if (party->name)
				return guards_refuse_unknown(&postings[0].refusal,
											 party->name);
			return refuse(&postings[0].refusal, ERRCODE_NOT_FOUND,
						  psprintf("account " INT64_FORMAT " does not exist",
								   party->id),
						  NULL, "Run credits_verify.");
		}
		log_check_idle(posting->account.id);
		/* insertion sort, as there are rarely more than two */
		for (j = i; j > 0 && postings[order[j - 1]].account.id >
			 posting->account.id; j--)
			order[j] = order[j - 1];
		order[j] = i;
		if (j > 0 && postings[order[j - 1]].account.id == posting->account.id)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("accounts must differ"),
					 errdetail("Account \"%s\" is named twice.",
							   rows_account_name(&posting->account)),
					 errhint("Name each account once.")));
	}
	return true;
}

/*
 * Locks the accounts in order of their ids, reads their newest versions, and
 * takes a snapshot that sees everything up to then.  Returns false if an
 * account is locked by another session and skip_locked is set.
 */
static bool
lock_parties(const LedgerCall *call, Posting *postings, const int *order)
{
	int64		seen = postings[0].account.last_transaction_id;
	int			i;

	for (i = 0; i < call->nparties; i++)
		if (!posting_lock(&postings[order[i]], call->skip_locked))
			return false;
	ledger_renew_snapshot(postings, call->nparties);
	if (call->nparties == 1)
		busy_account = postings[0].account.last_transaction_id == seen ?
			0 : postings[0].account.id;
	return true;
}

/*
 * Locks the members of pools that settling the accounts may change, together
 * with those that the plan may change, so that all are locked in the same
 * order.  Returns false if one is locked by another session and skip_locked is
 * set.
 */
static bool
lock_members(const LedgerCall *call, Posting *postings)
{
	int			max = call->steps ? *call->steps : SETTLE_ALL;
	const Request *request = call->request;
	List	   *keys = NIL;
	int			i;

	/* a dry run does not change members */
	for (i = 0; i < call->nparties; i++)
		if (!postings[i].dry)
			keys = settle_add_members(keys, &postings[i], max);
	if (keys == NIL)
		return true;
	if (request && request->add_members)
		keys = request->add_members(keys, postings, call->arg);
	return members_lock(&postings[0], keys, call->skip_locked);
}

/*
 * Looks for an earlier request with the same key.  Returns POSTED if there is
 * none, otherwise REPLAYED or REFUSED.
 */
static Outcome
find_replay(const LedgerCall *call, Posting *posting)
{
	const Request *request = call->request;
	Entry		entry;

	if (request == NULL || request->key == NULL ||
		!keys_find(posting->store, posting->snapshot, posting->account.id,
				   request->key, &entry))
		return POSTED;
	return requests_replay(posting, request, &entry, call->receipt);
}

/*
 * Plans a call.  A refusal by any of several accounts is copied to the first.
 */
static Outcome
plan_call(const LedgerCall *call, Posting *postings)
{
	int			i;

	Assert(call->request == NULL || call->plan != NULL);
	if (call->plan == NULL || call->plan(postings, call->arg))
		return POSTED;
	if (postings[0].already != KIND_NONE)
	{
		/* not to be said on the basis of stale data */
		if (!postings[0].locked)
			return CHANGED;
		receipts_of_state(call->receipt, &postings[0]);
		return REPLAYED;
	}
	for (i = 0; i < call->nparties; i++)
		if (postings[i].refusal.sqlstate != 0)
		{
			postings[0].refusal = postings[i].refusal;
			return REFUSED;
		}
	/* a job's plan may find nothing to do, but a request needs a reason */
	if (call->request)
		elog(ERROR, "a request was refused without a reason");
	return NOTHING_DUE;
}

/*
 * Writes what has been planned, and fills in the receipt.
 */
static Outcome
write_postings(const LedgerCall *call, Posting *postings, const int *order)
{
	Request    *request = call->request;
	Posting   **changed = palloc(call->nparties * sizeof(Posting *));
	int			nchanged = 0;
	int			i;

	for (i = 0; i < call->nparties; i++)
	{
		Posting    *posting = &postings[order[i]];

		if (request && request->key && order[i] == 0)
			posting->touched = true;

		/*
		 * Without a lock, only an update of the row can confirm that the plan
		 * was based on its newest version, even if there is nothing to write.
		 */
		if (!posting->locked || posting_has_changes(posting))
			changed[nchanged++] = posting;
	}
	if (nchanged > 0 && posting_write(changed, nchanged, request) != POSTED)
		return CHANGED;
	for (i = 0; i < call->nparties; i++)
		posting_run_statements(&postings[i]);
	for (i = 0; call->receipt && i < nchanged; i++)
		if (changed[i]->main)
			receipts_of_posting(call->receipt, changed[i]);
	return POSTED;
}

/*
 * Settles the accounts of a call, and renews their subscriptions, within the
 * limits.  Returns whether all that is due has been done.
 */
static bool
settle_postings(const LedgerCall *call, Posting *postings)
{
	int			limit = call->steps ? *call->steps :
		call->dry ? SETTLE_ALL : PART_STEPS;
	bool		settled = true;
	int			i;

	for (i = 0; i < call->nparties; i++)
	{
		int			steps = limit;

		settled &= settle_account(&postings[i], &steps) &&
			(call->no_renewal ||
			 settle_renew(&postings[i], postings[i].now, &steps));
		if (call->steps)
			*call->steps = Min(*call->steps, steps);
	}
	return settled;
}

/*
 * Executes all steps of a call once, with or without locks.
 */
static Outcome
attempt(const LedgerCall *call, Posting *postings)
{
	int		   *order = palloc(call->nparties * sizeof(int));
	bool		locked = postings[0].locked;
	bool		settled;
	Outcome		outcome;
	int			i;

	if (!find_parties(call, postings, order))
		return REFUSED;
	if (!locked)
	{
		posting_check(&postings[0].account);

		/*
		 * If the update would have to wait, it is likely to fail afterwards,
		 * and the time of the posting would be that before the wait: don't
		 * plan without the lock.
		 */
		if (!call->no_locks &&
			(postings[0].account.id == busy_account ||
			 store_is_being_changed(postings[0].store, &accounts_table)))
			return CHANGED;
	}
	else if (!lock_parties(call, postings, order))
		return BUSY;
	set_now(call, postings);
	if (call->only_due && postings[0].now < postings[0].account.due_at)
		return NOTHING_DUE;
	/* the release of an expired hold changes members, which needs locks */
	if (!locked && (posting_may_release(&postings[0]) ||
					posting_may_renew(&postings[0])))
		return CHANGED;

	outcome = find_replay(call, &postings[0]);
	if (outcome != POSTED)
		return outcome;

	for (i = 0; call->nparties > 1 && i < call->nparties; i++)
		postings[i].lead = &postings[0];
	if (call->before_settling)
		call->before_settling(&postings[0], call->arg);
	if (!lock_members(call, postings))
		return BUSY;
	settled = settle_postings(call, postings);
	if (!settled && call->steps == NULL)
		return MORE_DUE;
	Assert(settled || call->plan == NULL);
	outcome = plan_call(call, postings);
	if (outcome == POSTED)
		outcome = write_postings(call, postings, order);
	return outcome == POSTED && !settled ? MORE_DUE : outcome;
}

/*
 * Begins postings for all accounts of a call, and executes it once.
 */
static Outcome
make_attempt(Store *store, const LedgerCall *call, bool locked,
			 Posting *postings)
{
	Outcome		outcome;
	int			i;

	/*
	 * The caller has usually read the account's id from another row, with a
	 * new snapshot: this one must not be older.
	 */
	PushActiveSnapshot(store_snapshot(locked ||
									  call->parties[0].name == NULL));
	for (i = 0; i < call->nparties; i++)
	{
		posting_begin(&postings[i], store, GetActiveSnapshot(), locked);
		postings[i].dry = call->dry;
	}
	outcome = attempt(call, postings);
	PopActiveSnapshot();
	return outcome;
}

/*
 * Settles the accounts of a call, which are locked, in several postings.  The
 * memory that one of them needs is freed before the next.
 */
static Outcome
settle_in_parts(Store *store, const LedgerCall *call, Posting *postings)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext part_context = AllocSetContextCreate(context,
													   "credits settling",
													   ALLOCSET_DEFAULT_SIZES);
	LedgerCall	part = *call;
	Outcome		outcome;
	int			steps;

	part.request = NULL;
	part.plan = NULL;
	part.receipt = NULL;
	part.steps = &steps;
	do
	{
		MemoryContextSwitchTo(part_context);
		steps = PART_STEPS;
		outcome = make_attempt(store, &part, true, postings);
		MemoryContextSwitchTo(context);
		if (outcome != REFUSED)
			MemoryContextReset(part_context);
	} while (outcome == MORE_DUE);
	return outcome;
}

/*
 * Executes a call: repeats it until it does not have to be planned again.  The
 * first attempt is without locks, unless they are requested.  Returns the
 * outcome, and the refusal if it is REFUSED.
 */
Outcome
ledger_run(Store *store, const LedgerCall *call, Refusal *refusal)
{
	LedgerCall	attempted = *call;
	Posting    *postings = palloc(call->nparties * sizeof(Posting));
	bool		locked = call->lock_first;
	Outcome		outcome;

	for (;;)
	{
		outcome = make_attempt(store, &attempted, locked, postings);
		if (outcome == MORE_DUE && locked && call->steps == NULL)
		{
			/* what becomes due meanwhile may need more locks: leave it alone */
			attempted.now = postings[0].now;
			outcome = settle_in_parts(store, &attempted, postings);
			if (outcome == POSTED)
				continue;
		}
		if ((outcome != REFUSED && outcome != CHANGED &&
			 outcome != MORE_DUE) || locked || call->no_locks)
			break;
		locked = true;
	}
	/* with locks, posting_write raises an error instead */
	Assert(outcome != CHANGED || !locked);
	*refusal = postings[0].refusal;
	return outcome;
}

/*
 * Executes a call with a Store of its own.
 */
static Outcome
run_alone(const char *function, const LedgerCall *call, Refusal *refusal)
{
	Store	   *store;
	Outcome		outcome;

	store_check_writable(function);
	store = store_open();
	outcome = ledger_run(store, call, refusal);
	store_close(store);
	return outcome;
}

/*
 * Posts to one account, found by name or, if there is none, by id.  Returns
 * false, with the refusal filled in, if the posting is refused.
 */
bool
ledger_post(const char *function, text *name, int64 id, Request *request,
			PlanFunction plan, void *arg, Receipt *receipt, Refusal *refusal)
{
	Party		party = {name, id};
	LedgerCall	call = {
		.parties = &party,
		.nparties = 1,
		.request = request,
		.plan = plan,
		.arg = arg,
		.lock_first = request->lock_first,
		.receipt = receipt
	};

	return run_alone(function, &call, refusal) != REFUSED;
}

/*
 * Posts to several accounts, all or none.  The idempotency key belongs to the
 * first party.  Returns false, with the refusal filled in, if the posting is
 * refused.
 */
bool
ledger_post_joint(const char *function, const Party *parties, int nparties,
				  Request *request, PlanFunction plan, void *arg,
				  Receipt *receipt, Refusal *refusal)
{
	LedgerCall	call = {
		.parties = parties,
		.nparties = nparties,
		.request = request,
		.plan = plan,
		.arg = arg,
		.lock_first = true,
		.receipt = receipt
	};

	return run_alone(function, &call, refusal) != REFUSED;
}

/*
 * Posts to one account on behalf of a job.  Without a plan, the account is
 * only settled, in no more than the given number of steps, unless that is NULL.
 * Returns BUSY if another session has locked the account: that session will
 * settle it, too.
 */
Outcome
ledger_post_due(const char *function, int64 account_id, PlanFunction plan,
				void *arg, int *steps, Refusal *refusal)
{
	Party		party = {NULL, account_id};
	LedgerCall	call = {
		.parties = &party,
		.nparties = 1,
		.plan = plan,
		.arg = arg,
		/* an update could not skip a locked row */
		.lock_first = true,
		.skip_locked = true,
		.only_due = plan == NULL,
		/* each job does what is its own */
		.no_renewal = true,
		.steps = steps
	};

	return run_alone(function, &call, refusal);
}

/*
 * Begins a dry run as of a given time.  Uses the active snapshot.
 */
static void
begin_dry(Posting *posting, const Account *account, TimestampTz at)
{
	memset(posting, 0, sizeof(Posting));
	posting->dry = true;
	posting->snapshot = GetActiveSnapshot();
	posting->account = *account;
	/* due_at and expires_at are infinity if there is nothing to do */
	posting->now = Min(at, DT_NOEND - 1);
}

/*
 * Settles the account of a dry run in memory, and renews what its subscriptions
 * are due for up to an instant.
 */
static void
settle_dry(Posting *posting, TimestampTz renew_until)
{
	int			steps = SETTLE_ALL;

	(void) settle_account(posting, &steps);
	steps = SETTLE_ALL;
	(void) settle_renew(posting, renew_until, &steps);
}

/*
 * Returns an account with the totals that it would have if it were settled at a
 * given time and, if expiring_at is not NULL, the credits that expire next.  What
 * its subscriptions are due for is included, but not what they will be due for
 * later than now: who knows whether they last.  Uses the active snapshot, and
 * writes nothing.
 */
void
ledger_peek(const Account *account, TimestampTz at, Account *settled,
			TimestampTz *expiring_at, int64 *expiring)
{
	Posting		posting;
	TimestampTz now = Min(at, clock_now());

	begin_dry(&posting, account, at);
	if (now >= account->renews_at || !settle_balance(&posting))
		settle_dry(&posting, now);
	*settled = posting.account;
	if (expiring_at)
		*expiring_at = grants_next_expiry(&posting, expiring);
}

/*
 * Visits the open and pending grants of an account as settling it at a given time
 * would make them, in burn order: those after the given one or, if that is NULL,
 * all.  Uses the active snapshot, and writes nothing.
 */
void
ledger_peek_grants(const Account *account, TimestampTz at, const Grant *after,
				   BurnVisit visit, void *arg)
{
	Posting		posting;

	begin_dry(&posting, account, at);
	settle_dry(&posting, Min(at, clock_now()));
	burn_visit(&posting, after, visit, arg);
}

/*
 * Plans a posting without writing it, so that the plan can tell what it would
 * do.  The posting has no Store, and the plan must not take any locks.
 * Returns false, with the refusal filled in, if the posting is refused.
 */
bool
ledger_rehearse(text *name, PlanFunction plan, void *arg, Refusal *refusal)
{
	Account		account;
	Posting		posting;
	bool		planned;

	Assert(plan != NULL);
	if (!rows_find_account(NULL, GetActiveSnapshot(), name, 0, &account))
		return guards_refuse_unknown(refusal, name);
	posting_check(&account);
	begin_dry(&posting, &account, Max(clock_now(), account.last_at));
	settle_dry(&posting, posting.now);
	planned = plan(&posting, arg);
	*refusal = posting.refusal;
	return planned;
}

/*
 * Posts to several accounts, for an SQL function that returns a receipt or
 * raises an error.
 */
Datum
ledger_call_joint(FunctionCallInfo fcinfo, const char *function,
				  const Party *parties, int nparties, Request *request,
				  PlanFunction plan, void *arg)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!ledger_post_joint(function, parties, nparties, request, plan, arg,
						   &receipt, &refusal))
		raise_refusal(&refusal);
	return receipts_result(fcinfo, &receipt);
}

/*
 * Posts to one account, for an SQL function that returns a receipt or raises
 * an error.
 */
Datum
ledger_call(FunctionCallInfo fcinfo, const char *function, text *name,
			int64 id, Request *request, PlanFunction plan, void *arg)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!ledger_post(function, name, id, request, plan, arg, &receipt,
					 &refusal))
		raise_refusal(&refusal);
	return receipts_result(fcinfo, &receipt);
}
