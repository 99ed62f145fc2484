/*
 * settle.c
 *	  Settling: bringing an account up to date with the clock.
 *
 * An expired hold is released with the time of its expiry, not the current
 * one, and the credits that it gives back then expire when they would have.
 * So everything that has become due since the account was last settled is
 * processed in the order of time: grants become effective, grants expire, and
 * holds are released.  No other transaction can lie in between, because it
 * would have settled the account first.  In the log, each transaction has the
 * time at which it became due.
 *
 * The grants that are due are kept in a heap, to which a release may add the
 * grants that it gives credits back to.  So the work is almost proportional to
 * what is due, and does not depend on how many grants the account has.
 *
 * What is due for subscriptions comes after that.  The room that knows about them
 * is above this one, so it tells which function to call.
 *
 * As any number of things may be due, the number of steps can be limited.  An
 * account that has been settled in part is a valid one like any other that is
 * due: its due_at is the time of the next step.
 */
#include "credits.h"

#include "ledger/alerts.h"
#include "ledger/burn.h"
#include "ledger/debts.h"
#include "ledger/grants.h"
#include "ledger/hold.h"
#include "ledger/log.h"
#include "ledger/members.h"
#include "ledger/settle.h"

#include "lib/pairingheap.h"
#include "miscadmin.h"

/* renews the subscriptions of an account */
static RenewFunction renew_subscriptions = NULL;

/* A grant that is to be activated or to expire */
typedef struct Due
{
	pairingheap_node node;
	TimestampTz at;
	bool		expires;		/* false if it becomes effective */
	Grant	   *grant;
} Due;

/*
 * pairingheap comparator: by time, then becoming effective before expiring,
 * then by burn order.  The heap returns the greatest element first, so the
 * earliest is the greatest.
 */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Due  *x = (const Due *) a;
	const Due  *y = (const Due *) b;

	if (x->at != y->at)
		return x->at < y->at ? 1 : -1;
	if (x->expires != y->expires)
		return x->expires ? -1 : 1;
	return burn_compare(y->grant, x->grant);
}

/* The state of settle_account */
typedef struct Settling
{
	Posting    *posting;
	pairingheap *dues;
	int		   *steps;			/* how many more may be taken */
	TimestampTz next;			/* when the next step is due */
} Settling;

/*
 * Begins a scan of the account's open holds, in order of expiry.
 */
static void
scan_holds(StoreScan *scan, Posting *posting)
{
	scan_begin(scan, posting->store, &holds_by_expires_at, posting->snapshot,
			   BY_INT64(posting->account.id));
}

/*
 * Notes that something is still due at the given time.
 */
static void
leave(Settling *settling, TimestampTz at)
{
	settling->next = Min(settling->next, at);
}

/*
 * Returns up to max open holds that have expired, in order of expiry.
 */
static List *
timed_out(Settling *settling, int max)
{
	Posting    *posting = settling->posting;
	StoreScan	scan;
	Hold	   *hold = palloc(sizeof(Hold));
	List	   *holds = NIL;

	scan_holds(&scan, posting);
	while (scan_read(&scan, ForwardScanDirection, hold))
	{
		if (hold->expires_at > posting->now || max-- == 0)
		{
			leave(settling, hold->expires_at);
			break;
		}
		holds = lappend(holds, hold);
		hold = palloc(sizeof(Hold));
	}
	scan_end(&scan);
	posting->holds = list_concat(posting->holds, holds);
	return holds;
}

/*
 * Adds the members of pools that must be locked because expired holds give
 * back to their caps, for up to max holds.
 */
List *
settle_add_members(List *keys, Posting *posting, int max)
{
	MemoryContext context;
	MemoryContext old;
	StoreScan	scan;
	Hold		hold;

	if (posting->now < posting->account.due_at || posting->account.held == 0)
		return keys;
	/* there may be many, and their transactions may be large */
	context = AllocSetContextCreate(CurrentMemoryContext, "credits holds",
									ALLOCSET_DEFAULT_SIZES);
	scan_holds(&scan, posting);
	while (max-- > 0 && scan_read(&scan, ForwardScanDirection, &hold) &&
		   hold.expires_at <= posting->now)
	{
		Entry		entry;
		bool		found;

		old = MemoryContextSwitchTo(context);
		found = rows_find_entry(posting->store, posting->snapshot, hold.id,
								&entry);
		MemoryContextSwitchTo(old);
		if (found)
			keys = members_add_way_of(keys, &entry);
		MemoryContextReset(context);
	}
	scan_end(&scan);
	MemoryContextDelete(context);
	return keys;
}

/*
 * Adds a grant to the heap if it is due, or else notes when it will be.
 */
static void
expect(Grant *grant, Settling *settling)
{
	bool		expires = grant->status == GRANT_OPEN;
	TimestampTz at = expires ? grant->expires_at : grant->effective_at;
	Due		   *due;

	if (!expires && grant->status != GRANT_PENDING)
		return;
	if (at > settling->posting->now)
	{
		leave(settling, at);
		return;
	}
	due = palloc(sizeof(Due));
	due->at = at;
	due->expires = expires;
	due->grant = grant;
	pairingheap_add(settling->dues, &due->node);
}

/*
 * Reads a grant that is due, and adds it to the heap.
 */
static void
expect_due(Posting *posting, StoreScan *scan, const Grant *peeked, void *arg)
{
	expect(grants_read(posting, scan), arg);
}

/*
 * Activates and expires the grants in the heap that are due up to the given
 * time, as long as steps are left.
 */
static void
settle_grants(Settling *settling, TimestampTz until)
{
	Posting    *posting = settling->posting;

	while (!pairingheap_is_empty(settling->dues) && *settling->steps > 0)
	{
		Due		   *due = (Due *) pairingheap_first(settling->dues);
		TimestampTz at = due->at;
		Grant	   *grant = due->grant;
		int64		amount = grant->remaining;

		if (at > until)
			break;
		CHECK_FOR_INTERRUPTS();
		(void) pairingheap_remove_first(settling->dues);
		(*settling->steps)--;
		/* it may have been used up by a debt payment after it was added */
		if (grant->status == (due->expires ? GRANT_OPEN : GRANT_PENDING))
		{
			grant->changed = true;
			if (due->expires)
			{
				grant->status = GRANT_EXPIRED;
				grant->remaining = 0;
				log_add(posting, KIND_EXPIRATION, at, -amount,
						grants_lose(grant, amount), 1);
			}
			else
			{
				grant->status = GRANT_OPEN;
				alerts_note_grant(posting, grant);
				/* the draw is 0, since the allocation has drawn the amount */
				log_add(posting, KIND_ACTIVATION, at, amount,
						grants_draw(grant, 0), 1);
				if (posting->account.debt > 0)
					debts_pay(posting, at);
				expect(grant, settling);
			}
		}
		pfree(due);
	}
}

/*
 * Releases an expired hold, and adds the grants that are given credits back to
 * the heap if they are due.
 */
static void
release(Settling *settling, Hold *hold)
{
	Posting    *posting = settling->posting;
	const Entry *entry = hold_release(posting, hold, hold->expires_at,
									  HOLD_EXPIRED, NULL);
	int			i;

	if (posting->account.debt > 0)
		debts_pay(posting, hold->expires_at);
	for (i = 0; i < entry->ndraws; i++)
		expect(grants_get(posting, entry->draws[i].grant_id), settling);
	*settling->steps -= Max(entry->ndraws, 1);
}

/*
 * Brings an account up to date with the clock.  Does nothing before its
 * due_at.  Each grant that becomes effective or expires, or that an expired
 * hold gives credits back to, is a step; a hold is always released completely.
 * *steps limits the number of steps, and is reduced by those taken.  Returns
 * whether everything that was due has been settled.
 */
bool
settle_account(Posting *posting, int *steps)
{
	Settling	settling = {
		.posting = posting,
		.steps = steps,
		.next = DT_NOEND
	};
	int			max = *steps;
	List	   *holds = NIL;
	ListCell   *lc;

	if (posting->now < posting->account.due_at)
		return true;

	posting->nburnt = 0;
	settling.dues = pairingheap_allocate(compare_due, NULL);
	/* the first steps are among as many of each kind */
	leave(&settling,
		  grants_read_effective(posting, max, expect_due, &settling));
	leave(&settling,
		  grants_read_expiring(posting, max, expect_due, &settling));
	if (posting->account.held > 0)
		holds = timed_out(&settling, max);
	foreach(lc, holds)
	{
		Hold	   *hold = lfirst(lc);

		settle_grants(&settling, hold->expires_at);
		if (*steps <= 0)
		{
			leave(&settling, hold->expires_at);
			break;
		}
		release(&settling, hold);
	}
	settle_grants(&settling, posting->now);
	if (!pairingheap_is_empty(settling.dues))
		leave(&settling, ((Due *) pairingheap_first(settling.dues))->at);
	/* a release may have set it to a time that is settled by now */
	posting->account.due_at = settling.next;
	return posting->now < settling.next;
}

/*
 * Adds what becomes of a grant that is due to the account's totals.
 */
static void
sum_due(Posting *posting, StoreScan *scan, const Grant *peeked, void *arg)
{
	Account    *account = &posting->account;
	bool		expires = peeked->expires_at <= posting->now;

	if (peeked->status == GRANT_PENDING && !expires)
		account->balance += peeked->remaining;
	else if (peeked->status == GRANT_OPEN)
	{
		account->balance -= peeked->remaining;
		account->expired += peeked->remaining;
	}
	else
		account->expired += peeked->remaining;
}

/*
 * Sets the totals of the account to what settling it would make them, without
 * keeping any grants in memory.  Returns false if that is not possible: if a hold
 * expires or a debt could be paid, the order of the steps matters.
 */
bool
settle_balance(Posting *posting)
{
	StoreScan	scan;
	Hold		hold;
	bool		expires = false;

	if (posting->now < posting->account.due_at)
		return true;
	if (posting->account.debt > 0)
		return false;
	if (posting->account.held > 0)
	{
		scan_holds(&scan, posting);
		expires = scan_peek(&scan, ForwardScanDirection, &hold) &&
			hold.expires_at <= posting->now;
		scan_end(&scan);
	}
	if (expires)
		return false;
	(void) grants_read_effective(posting, SETTLE_ALL, sum_due, NULL);
	(void) grants_read_expiring(posting, SETTLE_ALL, sum_due, NULL);
	return true;
}

/*
 * Sets the function that renews subscriptions.  Called once, when the library is
 * loaded.
 */
void
settle_set_renewal(RenewFunction renew)
{
	renew_subscriptions = renew;
}

/*
 * Renews the subscriptions of an account that has been settled, if any may be due
 * by an instant.  Returns false if more steps are needed than are left.
 */
bool
settle_renew(Posting *posting, TimestampTz until, int *steps)
{
	bool		through;

	if (until < posting->account.renews_at)
		return true;
	through = renew_subscriptions(posting, until, steps);
	/* as when the job had renewed it: before anything is spent */
	if (posting->account.debt > 0)
		debts_pay(posting, posting->now);
	/* what comes next is what the caller asked for */
	posting->main = NULL;
	return through;
}
