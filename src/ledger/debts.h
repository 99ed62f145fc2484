/*
 * debts.h
 *	  Debts: credits to be taken back that were already spent.
 */
#ifndef CREDITS_LEDGER_DEBTS_H
#define CREDITS_LEDGER_DEBTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/*
 * A row of credits.debts: what is claimed from a grant.  The part that is not
 * gone, owed or paid was taken from the grant.
 */
typedef struct Debt
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	bool		listed;			/* is it in the posting's list? */
	int64		grant_id;
	int64		account_id;
	int64		claimed;
	int64		gone;			/* lost before the claim, without being used */
	int64		owed;
	int64		paid;			/* of what was owed, by other grants */
	Draw	   *payers;			/* the grants that paid, in order of payment */
	int			npayers;
	int64		group_id;		/* of the grant, 0 if none */
	TimestampTz lasts_until;	/* of one with a group, see
								 * grants_lasts_until; DT_NOEND if never */
} Debt;

extern StoreTable debts_table;
extern List *debts_read(Snapshot snapshot, int64 account_id);
extern void debts_pay(Posting *posting, TimestampTz at);
extern const Debt *debts_of(Posting *posting, Grant *grant);
extern int64 debts_claimed(Posting *posting, int64 grant_id);
extern int64 debts_of_group(Posting *posting, int64 group_id);
extern int64 debts_gone(Posting *posting, int64 grant_id);
extern int64 debts_used(Posting *posting, Grant *grant);
extern Entry *debts_claim(Posting *posting, Grant *grant, int64 claimed);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_DEBTS_H */
