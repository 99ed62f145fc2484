/*
 * keys.h
 *	  Looking up idempotency keys.
 */
#ifndef CREDITS_LEDGER_KEYS_H
#define CREDITS_LEDGER_KEYS_H

#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

extern bool keys_find(Store *store, Snapshot snapshot, int64 account_id,
					  text *key, Entry *entry);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_KEYS_H */
