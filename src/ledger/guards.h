/*
 * guards.h
 *	  Basic checks of accounts.
 */
#ifndef CREDITS_LEDGER_GUARDS_H
#define CREDITS_LEDGER_GUARDS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern bool guards_refuse_unknown(Refusal *refusal, text *name);
extern bool guards_not_closed(Posting *posting);
extern bool guards_enough(Posting *posting, int64 amount);
extern bool guards_may_spend(Posting *posting, int64 amount);
extern void guards_may_undo(const Entry *entry);
extern void guards_find_account(Snapshot snapshot, text *name,
								Account *account);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_GUARDS_H */
