/*
 * mac.h
 *	  Message authentication codes.
 */
#ifndef CREDITS_BASE_MAC_H
#define CREDITS_BASE_MAC_H

#include "credits.h"
#include "common/sha2.h"

#pragma GCC visibility push(hidden)

#define MAC_BYTES PG_SHA256_DIGEST_LENGTH

/* A part of what a code is made of */
typedef struct MacPart
{
	const void *data;
	size_t		len;
} MacPart;

extern void mac_make(const void *key, size_t key_len, const MacPart *parts,
					 int nparts, uint8 *mac);
extern bool mac_is_same(const uint8 *a, const uint8 *b);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_MAC_H */
