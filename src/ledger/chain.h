/*
 * chain.h
 *	  The hashes that chain the rows of an account's log.
 */
#ifndef CREDITS_LEDGER_CHAIN_H
#define CREDITS_LEDGER_CHAIN_H

#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

extern void chain_hash(const uint8 *previous, int previous_len,
					   const Entry *entry, uint8 *hash);
extern int64 chain_fingerprint(const StringInfoData *request);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_CHAIN_H */
