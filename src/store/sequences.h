/*
 * sequences.h
 *	  Reading a sequence.
 */
#ifndef CREDITS_STORE_SEQUENCES_H
#define CREDITS_STORE_SEQUENCES_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

extern int64 sequences_newest(Oid sequence);
extern int64 sequences_cache(Oid sequence);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_SEQUENCES_H */
