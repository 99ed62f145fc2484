/*
 * invariants.c
 *	  Invariants of a posting, checked before it is written.
 *
 * These are the guarantees of the ledger, as sums over what a posting changes.
 * All postings are checked here, so that a mistake in the code that plans them
 * leads to an error before anything has been written.  What can be checked at
 * little cost is always checked; what requires looking at more than the
 * posting changes is checked only in builds with assertions.
 *
 * The errors indicate a bug in the extension, not a mistake of the caller, and
 * have no hint.
 */
#include "credits.h"

#include "ledger/invariants.h"
#include "ledger/kinds.h"

/*
 * Raises the error for a posting that violates a guarantee.
 */
static void
broken(const Posting *posting, const char *guarantee, int64 want, int64 have)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg_internal("posting of account " INT64_FORMAT " breaks a guarantee: %s",
							 posting->account.id, guarantee),
			 errdetail_internal("It would be " INT64_FORMAT " instead of " INT64_FORMAT "; nothing was written.",
								have, want)));
}

/*
 * Returns whether an entry takes credits from a hold.
 */
static bool
is_capture(const Entry *entry)
{
	return entry->amount == 0 && entry->held < 0;
}

/*
 * Returns the sum of an entry's draws.
 */
static int64
sum_of_draws(const Entry *entry)
{
	int64		sum = 0;
	int			i;

	for (i = 0; i < entry->ndraws; i++)
		sum += entry->draws[i].amount;
	return sum;
}

/*
 * Returns whether transactions of a kind may draw on pending grants, which
 * does not change the balance.
 */
static bool
may_be_pending(TransactionKind kind)
{
	return kind == KIND_ALLOCATION || kind == KIND_PLAN_CHANGE ||
		kind == KIND_VOID || kind == KIND_CLAWBACK ||
		kind == KIND_REINSTATEMENT;
}

/*
 * Checks that an entry's draws add up to its amount or, for a capture, to its
 * "held", whose credits were drawn when the hold was made.
 */
static void
check_entry_draws(const Posting *posting, const Entry *entry)
{
	int64		drawn = sum_of_draws(entry);
	int64		moved = is_capture(entry) ? entry->held : entry->amount;

	/* the draw of an activation is 0, as the allocation has drawn the amount */
	if (entry->kind == KIND_ACTIVATION)
		moved = 0;
	if (may_be_pending(entry->kind) ?
		(moved > 0 && drawn < moved) || (moved < 0 && drawn > moved) :
		drawn != moved)
		broken(posting, "an entry moves what it draws", moved, drawn);
	/* credits move between balance and held, except when they are captured */
	if (entry->held != 0 && entry->amount != 0 &&
		entry->held != -entry->amount)
		broken(posting, "what is held has left the balance", -entry->amount,
			   entry->held);
}

/*
 * Checks that each entry continues the one before it, and that together they
 * account for the change of the account.
 */
static void
check_entries(const Posting *posting)
{
	const Account *account = &posting->account;
	int64		balance = account->stored.balance;
	int64		held = account->stored.held;
	int64		id = account->stored.last_transaction_id;
	TimestampTz at = account->stored.last_at;
	int			i;

	for (i = 0; i < posting->nentries; i++)
	{
		const Entry *entry = posting->entries[i];

		check_entry_draws(posting, entry);
		balance += entry->amount;
		held += entry->held;
		if (entry->balance_after != balance)
			broken(posting, "balance_after", balance, entry->balance_after);
		if (entry->held_after != held)
			broken(posting, "held_after", held, entry->held_after);
		if (balance < 0 || held < 0)
			broken(posting, "nothing is negative", 0, Min(balance, held));
		if (entry->id <= id)
			broken(posting, "ids rise", id + 1, entry->id);
		if (entry->created_at < at)
			broken(posting, "time does not run backwards", at,
				   entry->created_at);
		id = entry->id;
		at = entry->created_at;
	}
	if (account->balance != balance)
		broken(posting, "the balance is the sum of the log", balance,
			   account->balance);
	if (account->held != held)
		broken(posting, "held is the sum of the log", held, account->held);
	if (account->last_transaction_id != id || account->last_at != at)
		broken(posting, "the account knows its newest transaction", id,
			   account->last_transaction_id);
	if (account->transaction_count !=
		account->stored.transaction_count + posting->nentries)
		broken(posting, "every transaction is counted", posting->nentries,
			   account->transaction_count -
			   account->stored.transaction_count);
	if (account->debt < 0)
		broken(posting, "nothing is negative", 0, account->debt);
}

/*
 * Checks that the grants have changed by what the entries draw, and that the
 * credits that can be spent have changed by as much as the balance.
 */
static void
check_changed_grants(const Posting *posting)
{
	const Account *account = &posting->account;
	int64		logged = 0;
	int64		drawn = 0;
	int64		spendable = 0;
	int			i;

	/* the draws of a capture were already drawn by its hold */
	for (i = 0; i < posting->nentries; i++)
		if (!is_capture(posting->entries[i]))
			logged += sum_of_draws(posting->entries[i]);
	for (i = 0; i < posting->ngrants; i++)
	{
		const Grant *grant = posting->grants[i];

		if (!grant->changed)
			continue;
		if (grant->remaining < 0 || grant->remaining > grant->amount)
			broken(posting, "a grant has between nothing and its amount",
				   grant->amount, grant->remaining);
		drawn += grant->remaining - grant->stored;
		spendable += (grant->status == GRANT_OPEN ? grant->remaining : 0) -
			(grant->was_open ? grant->stored : 0);
	}
	if (drawn != logged)
		broken(posting, "what grants lose is what the log draws", logged,
			   drawn);
	if (spendable != account->balance - account->stored.balance)
		broken(posting, "the balance is the sum of the grants",
			   account->balance - account->stored.balance,
			   spendable);
}

#ifdef USE_ASSERT_CHECKING
/*
 * Checks the balance against all grants that have been read.
 */
static void
check_all_grants(const Posting *posting)
{
	int64		sum = 0;
	int			i;
	int			j;

	for (i = 0; i < posting->ngrants; i++)
	{
		const Grant *grant = posting->grants[i];

		Assert(grant->account_id == posting->account.id);
		Assert(grant->changed || grant->remaining == grant->stored);
		if (grant->status == GRANT_OPEN)
			sum += grant->remaining;
		/* a posting must not have two copies of a grant */
		for (j = 0; j < i && i < 100; j++)
			Assert(posting->grants[j]->id != grant->id);
	}
	/* not an Assert, since the cause may be a damaged table */
	if (posting->grants_loaded ? sum != posting->account.balance :
		sum > posting->account.balance)
		broken(posting, "the balance is the sum of all grants", sum,
			   posting->account.balance);
}
#endif

/*
 * Raises an error if a posting would violate the guarantees of the ledger.
 */
void
invariants_check(const Posting *posting)
{
	Assert(!posting->dry);
	Assert(!posting->logged);
	Assert(posting->main == NULL || posting->nentries > 0);
	check_entries(posting);
	check_changed_grants(posting);
#ifdef USE_ASSERT_CHECKING
	check_all_grants(posting);
#endif
}
