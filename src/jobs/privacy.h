/*
 * privacy.h
 *	  Erasing persons, batch by batch.
 */
#ifndef CREDITS_JOBS_PRIVACY_H
#define CREDITS_JOBS_PRIVACY_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern void privacy_begin_sweep(void);
extern int64 privacy_sweep(int limit, bool may_commit);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PRIVACY_H */
