/*
 * invariants.h
 *	  Invariants of a posting, checked before it is written.
 */
#ifndef CREDITS_LEDGER_INVARIANTS_H
#define CREDITS_LEDGER_INVARIANTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern void invariants_check(const Posting *posting);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_INVARIANTS_H */
