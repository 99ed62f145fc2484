/*
 * accounts.h
 *	  Opening accounts.
 */
#ifndef CREDITS_ACCOUNTS_ACCOUNTS_H
#define CREDITS_ACCOUNTS_ACCOUNTS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

extern void accounts_open(text *name, int64 initial_credits, text *unit,
						  Jsonb *metadata, Receipt *receipt);

#pragma GCC visibility pop

#endif							/* CREDITS_ACCOUNTS_ACCOUNTS_H */
