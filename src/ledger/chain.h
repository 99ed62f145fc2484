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
extern int64 chain_fingerprint(const StringInfoData *request,
							   const uint8 *salt, int salt_len);
extern int32 chain_request(const StringInfoData *request,
						   const uint8 *salt, int salt_len);
extern int64 chain_key_digest(text *key);
extern bool chain_has_text(const Entry *entry);
extern void chain_text_digest(const Entry *entry, uint8 *digest);

/*
 * Returns whether the texts of a row were erased: it has their digest in place of
 * the salt.
 */
static inline bool
chain_is_erased(const Entry *entry)
{
	return entry->salt && entry->salt_len == PG_SHA256_DIGEST_LENGTH;
}

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_CHAIN_H */
