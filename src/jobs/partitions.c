/*
 * partitions.c
 *	  Partitioning the log: credits_partition_log, and the partitions that
 *	  credits_housekeep makes ahead.
 *
 * The log always is a partitioned table.  As long as nobody has asked for more, it
 * has one partition, the default one, which takes every row.  That partition belongs
 * to the extension, and so do its rows in a dump: CREATE EXTENSION makes it when a
 * database is restored.  All others are tables of their own, which pg_dump makes
 * again, attaches and fills, like tables of users.
 *
 * To close the default partition is to give it bounds and a name, to let it leave the
 * extension, and to put an empty one in its place.  This converts a log that has
 * grown, and also mends one that has outgrown the partitions made ahead.  No row is
 * copied.  ATTACH PARTITION wants to know that all rows are within the bounds.  A
 * small partition is read while it is locked.  A larger one gets a constraint first,
 * which says so for an id far above the newest, and is validated while others go on
 * writing.  When it is closed there, the sequence of ids continues at that id.
 * Rows of a gap between other partitions are closed in the same way, with the bounds
 * of the gap.  Only if there are rows both in a gap and elsewhere, they are copied: a
 * job does not, if they are many.
 *
 * Work is done in steps, each of which sees from the catalogs what comes next.  So it
 * continues where an earlier call has ended, for whatever reason.
 *
 * Each partition keeps the constraint, named log_bounds: credits_archive can move it
 * without reading it again.
 *
 * Tested in test/sql/partitions.sql, test/specs/partitions.spec,
 * test/t/partitions.pl and test/t/partition_mishaps.pl.
 */
#include "credits.h"

#include "jobs/partition_locks.h"
#include "jobs/partition_tables.h"
#include "jobs/partitions.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_partition_log);

/* of how many blocks the default partition may be that is copied by the job */
#define MAX_COPIED_BLOCKS 512

/* how many ids may be drawn while a constraint is validated */
#define MARGIN INT64CONST(1000000000)

/* What a step has done */
typedef enum Step
{
	STEP_NONE,					/* there is nothing to do */
	STEP_PREPARED,				/* it is not done yet: go on */
	STEP_MADE					/* a partition was made */
} Step;

/* the upper bound by the constraint of a table, and whether that has been validated */
static SqlStatement read_bounds = {
	"SELECT substring(pg_get_constraintdef(c.oid) FROM 'id < ''?([0-9]+)')::bigint,"
	" c.convalidated FROM pg_constraint AS c"
	" WHERE c.conrelid = $1 AND c.conname = 'log_bounds' AND c.contype = 'c'",
	(const Oid[]) {OIDOID, InvalidOid}
};

/* the lowest and the highest id in the default partition */
static SqlStatement read_ids = {
	"SELECT min(d.id), max(d.id) FROM credits.log_default AS d",
	(const Oid[]) {InvalidOid}
};

/* What the default partition has */
typedef struct Rest
{
	Oid			oid;
	bool		first;			/* is it the only partition? */
	int64		lowest;			/* of its rows; 0 if there are none */
	int64		highest;
	int64		newest;			/* the newest id, whether or not it has a row */
	int64		until;			/* the bound by its constraint; 0 if it has
								 * none */
	bool		validated;		/* has that been validated? */
} Rest;

/*
 * Finds out what the default partition has.  Its rows are those of the latest snapshot.
 */
static void
read_rest(Rest *rest)
{
	const Leaf *leaves;
	int			n;
	SqlResult  *found;
	Datum		value;
	bool		isnull;

	leaves = leaves_list(&log_table, &n);
	rest->first = n == 1;
	rest->oid = leaves[n - 1].oid;
	if (get_relname_relid("log_default", get_namespace_oid("credits", false)) != rest->oid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the default partition of the log has another name"),
				 errdetail("It is \"%s\".", get_rel_name(rest->oid)),
				 errhint("Rename it to credits.log_default.")));
	found = statements_run_latest(&read_ids, NULL, NULL);
	value = statements_value(found, 0, 1, &isnull);
	rest->lowest = isnull ? 0 : DatumGetInt64(value);
	value = statements_value(found, 0, 2, &isnull);
	rest->highest = isnull ? 0 : DatumGetInt64(value);

	/* on a subscriber of logical replication, the sequence is behind the rows */
	rest->newest = Max(store_newest_id(&log_table), rest->highest);
	value = ObjectIdGetDatum(rest->oid);
	found = statements_run(&read_bounds, &value, NULL);
	rest->until = 0;
	if (found->nrows > 0)
	{
		value = statements_value(found, 0, 1, &isnull);
		rest->until = isnull ? 0 : DatumGetInt64(value);
		rest->validated = DatumGetBool(statements_value(found, 0, 2, &isnull));
	}
}

/*
 * Returns a copy of the entry of the list of partitions that has an id.
 */
static Leaf
leaf_with(int64 id)
{
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	int			i;

	for (i = 0; id >= leaves[i].until && i < n - 1; i++)
		;
	return leaves[i];
}

/*
 * Returns the upper bound for a partition that has an id: the next multiple of
 * credits.partition_rows.
 */
static int64
bound_above(int64 id)
{
	int64		until;

	if (pg_mul_s64_overflow(id / setting_partition_rows + 1, setting_partition_rows,
							&until))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("no partition can be made for the newest rows of the log"),
				 errdetail("Ids have reached " INT64_FORMAT ", and partitions have %d ids.",
						   id, setting_partition_rows),
				 errhint("Set credits.partition_rows to a lower number.")));
	return until;
}

/*
 * Returns a name for a partition that begins with an id.
 */
static char *
name_from(int64 from)
{
	/* the first one has no lower bound */
	return partition_tables_free_name(psprintf("log_" INT64_FORMAT, Max(from, 0)));
}

/*
 * Returns the range of ids, not of any other partition, that the default partition is
 * to be closed for: that of its first row or, if it has none, of the newest id.
 */
static Leaf
range_of(const Rest *rest)
{
	return leaf_with(rest->highest > 0 ? rest->lowest : rest->newest);
}

/*
 * Returns whether a range of ids of the default partition is the one above all others.
 */
static bool
is_last(const Leaf *range)
{
	return range->until == PG_INT64_MAX;
}

/*
 * Returns whether no row is going to need the default partition for another range of
 * ids soon: as many ids as a partition has, after the newest, are of other partitions.
 */
static bool
has_room(const Rest *rest, const Leaf *range)
{
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	int			i;

	for (i = 0; i < n - 1; i++)
		if (leaves[i].rest && leaves[i].from != range->from &&
			leaves[i].until > rest->newest)
			break;
	return leaves[i].from > rest->newest &&
		leaves[i].from - rest->newest >= setting_partition_rows;
}

/*
 * Gives the default partition a constraint which nobody is going to violate until it has
 * been validated: it ends far above the newest id or, if all rows are in a gap between
 * other partitions, is for that gap.
 */
static void
bound_rest(void *arg)
{
	Rest		rest;
	Leaf		range;
	int64		until;

	read_rest(&rest);
	range = range_of(&rest);
	until = range.until;
	if (is_last(&range))
	{
		if (pg_add_s64_overflow(rest.newest, MARGIN, &until))
			until = PG_INT64_MAX;
		until = bound_above(until);
	}
	else if (rest.highest >= range.until || !has_room(&rest, &range))
		return;					/* others were faster: look again */
	partition_tables_add_bounds("log_default", range.from, until, false);
}

/*
 * Splits the default partition, which has rows of several ranges of ids: those of the
 * first range get a partition, and the others a new default one.  This is the only case
 * in which rows are copied.
 */
static void
split_rest(const Leaf *range, const char *name)
{
	static const char rows[] = "SELECT d.* FROM credits.log_default AS d WHERE d.id";
	const char *rest = partition_tables_free_name("log_default_rest");

	partition_tables_copy(name, psprintf("%s < " INT64_FORMAT, rows, range->until),
						  false);
	partition_tables_copy(rest, psprintf("%s >= " INT64_FORMAT, rows, range->until),
						  false);
	statements_execute("ALTER TABLE credits.log DETACH PARTITION credits.log_default; "
					   "ALTER EXTENSION credits DROP TABLE credits.log_default; "
					   "DROP TABLE credits.log_default");
	partition_tables_rename(rest, "log_default");
	partition_tables_attach("log", name, range->from, range->until);
	partition_tables_attach_rest();
}

/*
 * Closes the default partition, of which everything is locked.
 */
static void
exchange_rest(void *arg)
{
	Rest		rest;
	Leaf		range;
	int64		until;
	char	   *name;

	read_rest(&rest);
	range = range_of(&rest);
	name = name_from(range.from);
	if (rest.highest >= range.until)
	{
		split_rest(&range, name);
		return;
	}
	until = !is_last(&range) ? range.until :
		rest.until ? rest.until : bound_above(rest.newest);
	statements_execute("ALTER TABLE credits.log DETACH PARTITION credits.log_default");
	partition_tables_rename("log_default", name);
	partition_tables_attach("log", name, range.from, until);
	statements_execute(psprintf("COMMENT ON TABLE credits.%s IS 'a partition of credits.log'; "
								"ALTER EXTENSION credits DROP TABLE credits.%s",
								name, name));
	partition_tables_make("log_default", name);
	partition_tables_attach_rest();
	/* go on where the next partition begins, but never backwards */
	if (is_last(&range) && rest.until > rest.newest)
		statements_execute(psprintf("ALTER SEQUENCE credits.%s RESTART WITH " INT64_FORMAT,
									log_table.sequence, until));
}

/*
 * Raises the error for a default partition that is too large to be read or copied while
 * the log is locked, unless somebody has asked for that.
 */
static void
raise_too_large(const Rest *rest, BlockNumber blocks)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the default partition of the log is too large to be closed by a job"),
			 errdetail("It has %u blocks, with transactions from " INT64_FORMAT " to " INT64_FORMAT ", which would be read while the log is locked.",
					   blocks, rest->lowest, rest->highest),
			 errhint("CALL credits_partition_log() when spends can wait.")));
}

/*
 * Does the next step of closing the default partition.  Unless "patient", nothing is
 * done for which the log would be locked for long.
 */
static Step
close_rest(const Rest *rest, bool patient, bool may_commit)
{
	LockedWork	locked = {exchange_rest, NULL, AccessExclusiveLock};
	Leaf		range = range_of(rest);
	bool		copied = rest->highest >= range.until;
	BlockNumber blocks;
	bool		large;

	/* nobody waits for this lock, but autovacuum gives way to it */
	leaves_lock(&log_table, NoLock, ShareUpdateExclusiveLock);
	if (rest->until && !rest->validated)
	{
		statements_execute("ALTER TABLE credits.log_default VALIDATE CONSTRAINT log_bounds");
		return STEP_PREPARED;
	}
	blocks = partition_locks_blocks(rest->oid);
	large = copied ? blocks > MAX_COPIED_BLOCKS :
		rest->until == 0 && blocks > MAX_LOCKED_BLOCKS;
	if (large && !copied && (is_last(&range) || has_room(rest, &range)))
	{
		if (!may_commit)
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("a log of this size cannot be partitioned inside a transaction block"),
					 errdetail("It has %u blocks, which are read while others go on writing.",
							   blocks),
					 errhint("CALL credits_partition_log() by itself.")));
		locked.work = bound_rest;
		locked.mode = NoLock;
		/* whoever has drawn an id of another gap has not used it yet */
		locked.sequence = !is_last(&range);
		partition_locks_do(&locked);
		return STEP_PREPARED;
	}
	if (large && !patient)
		raise_too_large(rest, blocks);

	/*
	 * whoever draws ids has locked the default partition first, or the
	 * sequence
	 */
	locked.sequence = is_last(&range) && rest->until && !rest->first;
	partition_locks_do(&locked);
	return STEP_MADE;
}

/* The partition that is made ahead */
typedef struct Next
{
	int64		from;
	int64		until;
	bool		made;			/* output */
} Next;

/*
 * Attaches the next partition, if the default one still has no rows.
 */
static void
attach_next(void *arg)
{
	Next	   *next = arg;
	Rest		rest;
	char	   *name = name_from(next->from);

	read_rest(&rest);
	next->made = rest.highest == 0;
	if (!next->made)
		return;
	partition_tables_make(name, "log_default");
	partition_tables_attach("log", name, next->from, next->until);
}

/*
 * Makes a partition if there are too few for new rows.
 */
static Step
make_ahead(const Rest *rest)
{
	Next		next;
	LockedWork	locked = {attach_next, &next, NoLock};
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	int			ahead = 0;
	int			i;

	for (i = 0; !leaves[i].rest || leaves[i].until - 1 <= rest->newest; i++)
		if (leaves[i].from > rest->newest)
			ahead++;
	if (ahead >= setting_partitions_ahead && leaves[i].from > rest->newest)
		return STEP_NONE;
	next.from = leaves[i].from;
	if (pg_add_s64_overflow(next.from, setting_partition_rows, &next.until))
		return STEP_NONE;
	if (next.until <= rest->newest)
		next.until = bound_above(rest->newest);
	next.until = Min(next.until, leaves[i].until);
	partition_locks_do(&locked);
	return next.made ? STEP_MADE : STEP_PREPARED;
}

/*
 * Does what comes next to partition the log or, unless "begin", only what comes after
 * somebody has begun it.  The caller has locked it, so that one session does this at a
 * time.
 */
static Step
take_step(bool begin, bool may_commit)
{
	Rest		rest;

	read_rest(&rest);
	if (rest.first && !begin && rest.until == 0)
		return STEP_NONE;
	if (rest.first || rest.highest > 0)
		return close_rest(&rest, begin, may_commit);
	return make_ahead(&rest);
}

/*
 * Makes a partition ahead, if there are any and too few, or does a step towards that.
 * Returns whether there may be more to do.
 */
int64
partitions_sweep(int limit, bool may_commit)
{
	Step		step = STEP_NONE;

	if (setting_partition_rows == 0)
		return 0;
	/* a procedure has no snapshot after a commit, and catalogs need one */
	PushActiveSnapshot(store_snapshot(true));
	tables_resolve(&log_table);
	/* if another session is doing it, leave it to that */
	if (ConditionalLockRelationOid(log_table.oid, ShareUpdateExclusiveLock))
		step = take_step(false, may_commit);
	PopActiveSnapshot();
	return step != STEP_NONE;
}

/*
 * SQL procedure: partitions the log, and makes partitions ahead.  Returns how many
 * were made.  It commits after each step, unless it is called in a transaction block.
 */
Datum
credits_partition_log(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext batch = AllocSetContextCreate(context, "credits partitions",
												ALLOCSET_DEFAULT_SIZES);
	TupleDesc	tupdesc;
	Datum		value;
	bool		isnull = false;
	int			made = 0;
	Step		step;

	store_check_writable("credits_partition_log()");
	if (setting_partition_rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the size of partitions is not set"),
				 errdetail("Setting credits.partition_rows is 0."),
				 errhint("Set it for the database: ALTER DATABASE ... SET credits.partition_rows = ...")));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	do
	{
		MemoryContextSwitchTo(batch);
		MemoryContextReset(batch);
		CHECK_FOR_INTERRUPTS();
		PushActiveSnapshot(store_snapshot(true));
		/* only one session at a time */
		leaves_lock(&log_table, ShareUpdateExclusiveLock, NoLock);
		step = take_step(true, may_commit);
		PopActiveSnapshot();
		if (step == STEP_MADE)
			made++;
		if (may_commit)
			SPI_commit();
	} while (step != STEP_NONE);
	SPI_finish();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(batch);
	value = Int32GetDatum(made);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, &value, &isnull)));
}
