/*
 * partition_locks.c
 *	  Locking the log so that nobody waits for long.
 *
 * Whoever waits for an exclusive lock makes all others wait behind him.  So such a lock
 * is waited for again and again, for a moment each time.  Autovacuum would not give way
 * in that moment, and does not at all if it prevents wraparound.  Therefore what it may
 * be working on is first locked in a mode that only such work conflicts with: nobody
 * waits while we wait for that.
 */
#include "credits.h"

#include "jobs/partition_locks.h"
#include "ledger/ledger.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

/* how long new spends may queue behind our wait for a lock, in milliseconds */
#define LOCK_TIMEOUT 200

#define LOCK_TRIES 50

/*
 * Limits how long our statements wait for a lock.  Returns what is to be passed to
 * AtEOXact_GUC.
 */
static int
limit_waiting(void)
{
	int			nest = NewGUCNestLevel();

	if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT)
		(void) set_config_option("lock_timeout", psprintf("%d", LOCK_TIMEOUT),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	return nest;
}

/*
 * Locks the log, and its default partition against everybody, if that does not take
 * long, and does what is to be done.
 */
static void
lock_log(void *arg)
{
	LockedWork *locked = arg;
	int			nest = limit_waiting();

	if (locked->sequence)
	{
		tables_resolve(&log_table);
		LockRelationOid(log_table.sequence_oid, ShareRowExclusiveLock);
	}
	leaves_lock(&log_table, locked->mode, AccessExclusiveLock);
	locked->work(locked->arg);
	AtEOXact_GUC(true, nest);
}

/*
 * Refuses a snapshot that was taken before the log is locked: what others commit while
 * one waits for the lock would not be copied.
 */
void
partition_locks_check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partitions of the log cannot be changed in isolation level %s",
						IsolationIsSerializable() ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errdetail("What others commit while the log is being locked would not be seen."),
				 errhint("SET default_transaction_isolation = 'read committed', also for the role that runs the jobs.")));
}

/*
 * Does something with the log and its default partition locked, which may need further
 * locks.  While one waits for such a lock, all others queue behind: so the wait is given
 * up again and again, and everything is undone.
 */
void
partition_locks_do(LockedWork *locked)
{
	int			i;

	partition_locks_check_isolation();
	leaves_lock(&log_table, NoLock, ShareUpdateExclusiveLock);
	for (i = 1;; i++)
	{
		ErrorData  *error = catch_error(lock_log, locked);

		if (error == NULL)
			return;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			ReThrowError(error);
		if (i == LOCK_TRIES)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("could not lock the log"),
					 errdetail("In %d attempts, other transactions that use it did not end within %d ms.",
							   LOCK_TRIES, LOCK_TIMEOUT),
					 errhint("Try again when no long transaction is running, such as pg_dump.")));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 2 * LOCK_TIMEOUT, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Returns of how many blocks a table is, which the caller has locked.
 */
BlockNumber
partition_locks_blocks(Oid oid)
{
	Relation	rel = table_open(oid, NoLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	return blocks;
}

/*
 * Locks the partitions that have no ids above one, in a mode in which spends go on.
 */
static void
lock_partitions(int64 until_id)
{
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	Oid		   *oids = palloc(n * sizeof(Oid));
	int			i;

	/* the list is not valid while we wait */
	for (i = 0; i < n; i++)
		oids[i] = leaves[i].rest || leaves[i].until - 1 > until_id ? InvalidOid :
			leaves[i].oid;
	for (i = 0; i < n; i++)
		if (OidIsValid(oids[i]))
			LockRelationOid(oids[i], ShareUpdateExclusiveLock);
	pfree(oids);
}

/*
 * Raises an error if the default partition is large: it would be read while the log is
 * locked, if another partition is attached.
 */
static void
check_rest(void)
{
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	BlockNumber blocks = partition_locks_blocks(leaves[n - 1].oid);

	if (blocks > MAX_LOCKED_BLOCKS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the default partition of the log is too large"),
				 errdetail("It has %u blocks, which would be read while the log is locked.",
						   blocks),
				 errhint("Set credits.partition_rows, and CALL credits_partition_log() before.")));
}

/*
 * Locks the log and its default partition against everybody, and does something that
 * may need further locks, of partitions with ids up to one.
 */
void
partition_locks_with_log(int64 until_id, CatchWork work, void *arg)
{
	LockedWork	locked = {work, arg, AccessExclusiveLock};

	/* first, as for making partitions: else each could wait for the other */
	leaves_lock(&log_table, ShareUpdateExclusiveLock, NoLock);
	lock_partitions(until_id);
	leaves_lock(&log_table, NoLock, ShareUpdateExclusiveLock);
	check_rest();
	partition_locks_do(&locked);
}
