/*
 * settle.h
 *	  Settling: bringing an account up to date with the clock.
 */
#ifndef CREDITS_LEDGER_SETTLE_H
#define CREDITS_LEDGER_SETTLE_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/* as many steps as it takes */
#define SETTLE_ALL PG_INT32_MAX

/*
 * Renews what the subscriptions of a posting's account are due for up to an
 * instant, once the account is settled.  What cannot be renewed stays due, and is
 * no reason to refuse the posting.  *steps limits the number of steps, and is
 * reduced by those taken.  Returns whether nothing is left to try.  A dry run takes
 * all steps.
 */
typedef bool (*RenewFunction) (Posting *posting, TimestampTz until,
							   int *steps);

extern void settle_set_renewal(RenewFunction renew);
extern bool settle_renew(Posting *posting, TimestampTz until, int *steps);
extern List *settle_add_members(List *keys, Posting *posting, int max);
extern bool settle_account(Posting *posting, int *steps);
extern bool settle_balance(Posting *posting);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_SETTLE_H */
