/*
 * partition_tables.h
 *	  Tables that are partitions of the log, and their locks, for the files of this
 *	  directory only.
 */
#ifndef CREDITS_JOBS_PARTITION_TABLES_H
#define CREDITS_JOBS_PARTITION_TABLES_H

#include "jobs/partitions.h"
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

extern void partitions_do_locked(LockedWork *locked);
extern BlockNumber partitions_blocks(Oid oid);
extern char *partitions_name(const char *name);
extern void partitions_make(const char *name, const char *model);
extern void partitions_attach_rest(void);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PARTITION_TABLES_H */
