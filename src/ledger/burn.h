/*
 * burn.h
 *	  The grants of a posting in the order in which they burn.
 */
#ifndef CREDITS_LEDGER_BURN_H
#define CREDITS_LEDGER_BURN_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/*
 * Called for each grant in burn order, whose texts are good until it returns.
 * Returns whether to go on.
 */
typedef bool (*BurnVisit) (const Grant *grant, void *arg);

extern int	burn_compare(const Grant *x, const Grant *y);
extern void burn_load(Posting *posting);
extern void burn_visit(Posting *posting, const Grant *after, BurnVisit visit,
					   void *arg);
extern Draw *burn_grants(Posting *posting, int64 amount, int *ndraws);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_BURN_H */
