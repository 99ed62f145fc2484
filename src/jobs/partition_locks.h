/*
 * partition_locks.h
 *	  Locking the log so that nobody waits for long.
 */
#ifndef CREDITS_JOBS_PARTITION_LOCKS_H
#define CREDITS_JOBS_PARTITION_LOCKS_H

#include "base/errors.h"
#include "storage/block.h"
#include "storage/lockdefs.h"

#pragma GCC visibility push(hidden)

/* of how many blocks a table may be that is read while the log is locked */
#define MAX_LOCKED_BLOCKS 4096

/* What is to be done while the log is locked */
typedef struct LockedWork
{
	CatchWork	work;
	void	   *arg;
	LOCKMODE	mode;			/* of the lock of the log itself */
	bool		sequence;		/* is the sequence to be locked first? */
} LockedWork;

extern void partition_locks_check_isolation(void);
extern BlockNumber partition_locks_blocks(Oid oid);
extern void partition_locks_do(LockedWork *locked);
extern void partition_locks_with_log(int64 until_id, CatchWork work, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PARTITION_LOCKS_H */
