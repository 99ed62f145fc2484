/*
 * guards.c
 *	  Basic checks of accounts: that an account exists, is not closed or
 *	  paused, and has enough credits.
 */
#include "credits.h"

#include "ledger/guards.h"

#include "utils/builtins.h"

/*
 * Refuses an account that does not exist.
 */
bool
guards_refuse_unknown(Refusal *refusal, text *name)
{
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  psprintf("account \"%s\" does not exist",
						   text_to_cstring(name)),
				  NULL,
				  "Open it with credits_open_account.");
}

/*
 * Refuses to change a closed account.
 */
bool
guards_not_closed(Posting *posting)
{
	if (posting->account.status != ACCOUNT_CLOSED)
		return true;
	return refuse(&posting->refusal, ERRCODE_LOCKED_ACCOUNT,
				  psprintf("account \"%s\" is closed", rows_account_name(&posting->account)),
				  psprintf("It has a balance of " INT64_FORMAT ".",
						   posting->account.balance),
				  "A closed account can be read, but never changed again.");
}

/*
 * Refuses to take more than the balance.
 */
bool
guards_enough(Posting *posting, int64 amount)
{
	if (posting->account.balance >= amount)
		return true;
	return refuse(&posting->refusal, ERRCODE_NOT_ENOUGH,
				  psprintf("account \"%s\" has insufficient credits",
						   rows_account_name(&posting->account)),
				  psprintf("Its balance is " INT64_FORMAT ", but " INT64_FORMAT " are needed: " INT64_FORMAT " more.",
						   posting->account.balance, amount,
						   amount - posting->account.balance),
				  "Give the account more credits, or spend less.");
}

/*
 * Refuses to spend from an account that is closed or paused, or whose balance
 * is too low.
 */
bool
guards_may_spend(Posting *posting, int64 amount)
{
	if (!guards_not_closed(posting))
		return false;
	if (posting->account.status == ACCOUNT_PAUSED)
		return refuse(&posting->refusal, ERRCODE_LOCKED_ACCOUNT,
					  psprintf("account \"%s\" is paused",
							   rows_account_name(&posting->account)),
					  psprintf("It has a balance of " INT64_FORMAT ", of which nothing can be spent now.",
							   posting->account.balance),
					  "Call credits_resume_account to let it spend again.");
	return guards_enough(posting, amount);
}

/*
 * Raises an error if a spend or a transfer was made too long ago to be undone.
 */
void
guards_may_undo(const Entry *entry)
{
	Interval   *window = clock_refund_window();

	if (window == NULL ||
		entry->created_at >= clock_before(clock_now(), window))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_GONE),
			 errmsg("transaction " INT64_FORMAT " can no longer be undone",
					entry->id),
			 errdetail("It was made at %s, longer ago than credits.refund_window allows.",
					   clock_show(entry->created_at)),
			 errhint("Correct a balance with credits_adjust.")));
}

/*
 * Finds an account by name, or raises an error.
 */
void
guards_find_account(Snapshot snapshot, text *name, Account *account)
{
	Refusal		refusal;

	if (rows_find_account(NULL, snapshot, name, 0, account))
		return;
	guards_refuse_unknown(&refusal, name);
	raise_refusal(&refusal);
}
