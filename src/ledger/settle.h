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

extern List *settle_add_members(List *keys, Posting *posting, int max);
extern bool settle_account(Posting *posting, int *steps);
extern bool settle_balance(Posting *posting);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_SETTLE_H */
