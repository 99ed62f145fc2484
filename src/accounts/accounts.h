/*
 * accounts.h
 *	  Opening accounts, and pausing them by a job.
 */
#ifndef CREDITS_ACCOUNTS_ACCOUNTS_H
#define CREDITS_ACCOUNTS_ACCOUNTS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

extern void accounts_open(text *name, int64 initial_credits, text *unit,
						  Jsonb *metadata, Receipt *receipt);
extern bool accounts_pause(const char *function, int64 account_id,
						   text *reason);

#pragma GCC visibility pop

#endif							/* CREDITS_ACCOUNTS_ACCOUNTS_H */
