/*
 * random.h
 *	  Random bytes that nobody can guess.
 */
#ifndef CREDITS_BASE_RANDOM_H
#define CREDITS_BASE_RANDOM_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern void random_fill(void *bytes, size_t len);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_RANDOM_H */
