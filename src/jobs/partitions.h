/*
 * partitions.h
 *	  Making partitions of the log ahead.
 */
#ifndef CREDITS_JOBS_PARTITIONS_H
#define CREDITS_JOBS_PARTITIONS_H

#include "base/errors.h"

#pragma GCC visibility push(hidden)

extern void partitions_copy(const char *name, const char *query);
extern void partitions_add_bounds(const char *table, int64 from, int64 until,
								  bool validate);
extern void partitions_rename(const char *from, const char *to);
extern void partitions_attach(const char *parent, const char *table, int64 from,
							  int64 until);
extern void partitions_check_isolation(void);
extern void partitions_with_log_locked(int64 until_id, CatchWork work,
									   void *arg);
extern int64 partitions_sweep(int limit, bool may_commit);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PARTITIONS_H */
