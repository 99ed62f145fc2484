/*
 * partitions.h
 *	  Making partitions of the log ahead.
 */
#ifndef CREDITS_JOBS_PARTITIONS_H
#define CREDITS_JOBS_PARTITIONS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern int64 partitions_sweep(int limit, bool may_commit);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PARTITIONS_H */
