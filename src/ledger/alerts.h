/*
 * alerts.h
 *	  Alerts about balances.
 */
#ifndef CREDITS_LEDGER_ALERTS_H
#define CREDITS_LEDGER_ALERTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern void alerts_note_grant(Posting *posting, const Grant *grant);
extern void alerts_rebase(Posting *posting);
extern void alerts_raise(const Account *account, TupleTableSlot *old);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_ALERTS_H */
