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
 * grown, and also mends one that has outgrown the partitions made ahead.  Nothing is
 * copied or read: that all ids are below the upper bound, the index on them says
 * while nobody else can write, so the constraint by which ATTACH PARTITION knows it
 * is marked as validated.
 *
 * Tested in test/sql/partitions.sql, test/specs/partitions.spec and
 * test/t/partitions.pl.
 */
#include "credits.h"

#include "jobs/partitions.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(credits_partition_log);

/* how long new spends may queue behind our wait for a lock, in milliseconds */
#define LOCK_TIMEOUT 200

#define LOCK_TRIES 50

/* how to make a partition like another table: its storage options, and the rights */
static SqlStatement likeness = {
	"SELECT coalesce((SELECT format(' WITH (%s)', array_to_string(c.reloptions, ', '))"
	" FROM pg_class AS c WHERE c.oid = format('credits.%I', $2)::regclass"
	" AND c.reloptions IS NOT NULL), ''),"
	" coalesce((SELECT string_agg(format('GRANT %s ON credits.%I TO %s%s; ',"
	" a.privilege_type, $1, CASE a.grantee WHEN 0 THEN 'PUBLIC'"
	" ELSE a.grantee::regrole::text END,"
	" CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '')"
	" FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a"
	" WHERE c.oid = 'credits.log'::regclass AND a.grantee <> c.relowner), '')",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/* how to give the indexes of a table the name that it has now */
static SqlStatement index_names = {
	"SELECT coalesce(string_agg(format('ALTER INDEX credits.%I RENAME TO %I; ',"
	" c.relname, replace(c.relname, $2, $1)), ''), '')"
	" FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
	" WHERE i.indrelid = format('credits.%I', $1)::regclass"
	" AND starts_with(c.relname, $2)",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

/*
 * Runs one of these statements with two names, and returns a text of its row.
 */
static char *
likeness_text(SqlStatement *statement, const char *name, const char *other, int column)
{
	Datum		values[2];
	bool		isnull;

	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(other);
	return TextDatumGetCString(statements_value(statements_run(statement, values, NULL),
												0, column, &isnull));
}

/*
 * Makes a table that can be a partition: with the columns, constraints and indexes
 * of another one, and guards of its own.  Those of the log are not passed on, since
 * it is a statement that they refuse, and would be lost when it is detached.
 */
void
partitions_make_table(const char *name, const char *model)
{
	statements_execute(psprintf("CREATE TABLE credits.%s (LIKE credits.%s INCLUDING ALL)%s; "
								"CREATE TRIGGER log_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.%s"
								" FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change(); "
								"CREATE TRIGGER log_refuse_row_change BEFORE UPDATE OR DELETE ON credits.%s"
								" FOR EACH ROW EXECUTE FUNCTION credits.refuse_change(); "
								"ALTER TABLE credits.%s ENABLE ALWAYS TRIGGER log_refuse_change,"
								" ENABLE ALWAYS TRIGGER log_refuse_row_change; "
								"COMMENT ON TABLE credits.%s IS 'a partition of credits.log'; %s",
								name, model,
								likeness_text(&likeness, name, model, 1),
								name, name, name, name,
								likeness_text(&likeness, name, model, 2)));
}

/*
 * Marks the constraint of a table as validated.
 */
static void
trust_constraint(const char *table, const char *name)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid("credits", false));
	Relation	rel = table_open(ConstraintRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(CONSTROID,
											ObjectIdGetDatum(get_relation_constraint_oid(oid, name, false)));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint \"%s\"", name);
	((Form_pg_constraint) GETSTRUCT(tuple))->convalidated = true;
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	table_close(rel, RowExclusiveLock);
	CacheInvalidateRelcacheByRelid(oid);
	CommandCounterIncrement();
}

/*
 * Attaches a table to a partitioned one, for ids from "from", if that is not
 * PG_INT64_MIN, up to "until".  The caller knows that it has no others, so the
 * constraint by which ATTACH PARTITION knows it is marked as validated, and nothing
 * is read.
 */
void
partitions_attach(const char *parent, const char *table, int64 from, int64 until)
{
	const char *name = quote_identifier(table);
	bool		bounded = from != PG_INT64_MIN;

	statements_execute(psprintf("ALTER TABLE credits.%s ADD CONSTRAINT log_bounds"
								" CHECK (%sid < '" INT64_FORMAT "'::bigint) NOT VALID",
								name, bounded ?
								psprintf("id >= '" INT64_FORMAT "'::bigint AND ", from) : "",
								until));
	trust_constraint(table, "log_bounds");
	statements_execute(psprintf("ALTER TABLE credits.%s ATTACH PARTITION credits.%s"
								" FOR VALUES FROM (%s) TO (" INT64_FORMAT "); "
								"ALTER TABLE credits.%s DROP CONSTRAINT log_bounds",
								parent, name,
								bounded ? psprintf(INT64_FORMAT, from) : "MINVALUE",
								until, name));
}

/*
 * Has the rows of the default partition dumped, although the table does not come
 * from the extension's script.
 */
static void
mark_for_dump(void)
{
	text	   *condition = cstring_to_text("");
	Oid			oid = get_relname_relid("log_default",
										get_namespace_oid("credits", false));

	statements_execute("ALTER EXTENSION credits ADD TABLE credits.log_default");
	/* the function may be called by scripts only, and knows them by this */
	creating_extension = true;
	CurrentExtensionObject = get_extension_oid("credits", false);
	PG_TRY();
	{
		DirectFunctionCall2(pg_extension_config_dump, ObjectIdGetDatum(oid),
							PointerGetDatum(condition));
	}
	PG_FINALLY();
	{
		creating_extension = false;
		CurrentExtensionObject = InvalidOid;
	}
	PG_END_TRY();
	CommandCounterIncrement();
}

/*
 * Returns the highest id in the default partition or, with BackwardScanDirection,
 * the lowest.  Returns "none" if it is empty.
 */
static int64
extreme_id(const Leaf *rest, ScanDirection direction, int64 none)
{
	StoreScan	scan;
	Entry		entry;

	scan_begin_ids_by(&scan, NULL, &log_by_id, GetLatestSnapshot(), rest->from,
					  PG_INT64_MAX, NULL, 0);
	if (!scan_read(&scan, direction, &entry))
		entry.id = none;
	scan_end(&scan);
	return entry.id;
}

/*
 * Returns the upper bound for a partition that has an id: the next multiple of
 * credits.partition_rows.
 */
static int64
bound_above(int64 id)
{
	return (id / setting_partition_rows + 1) * setting_partition_rows;
}

/*
 * Returns a copy of the default partition's entry in the list, and how many
 * partitions there are.
 */
static Leaf
find_rest(int *n)
{
	const Leaf *leaves = leaves_list(&log_table, n);

	return leaves[*n - 1];
}

/*
 * Closes the default partition.  The caller holds an exclusive lock of the log and of
 * the default partition.
 */
static void
close_rest(void)
{
	int			n;
	Leaf		rest = find_rest(&n);
	bool		first = n == 1;
	char	   *name = first ? "log_0" : psprintf("log_" INT64_FORMAT, rest.from);
	int64		lowest = extreme_id(&rest, ForwardScanDirection, rest.from);
	int64		highest = Max(extreme_id(&rest, BackwardScanDirection, 0),
							  store_newest_id(&log_table));
	int64		until = bound_above(highest);

	if (lowest < rest.from)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the default partition of the log has rows that belong before other partitions"),
				 errdetail("It has transaction " INT64_FORMAT ", but there are partitions up to " INT64_FORMAT ".",
						   lowest, rest.from),
				 errhint("Attach a partition for these ids.")));
	statements_execute(psprintf("ALTER TABLE credits.log DETACH PARTITION credits.log_default; "
								"ALTER TABLE credits.log_default RENAME TO %s", name));
	statements_execute(likeness_text(&index_names, name, "log_default", 1));
	partitions_attach("log", name, rest.from, until);
	statements_execute(psprintf("COMMENT ON TABLE credits.%s IS 'a partition of credits.log'; "
								"ALTER EXTENSION credits DROP TABLE credits.%s",
								name, name));
	partitions_make_table("log_default", name);
	statements_execute("ALTER TABLE credits.log ATTACH PARTITION credits.log_default DEFAULT; "
					   "COMMENT ON TABLE credits.log_default IS"
					   " 'the partition of credits.log for all rows that no other takes'");
	mark_for_dump();
}

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

/* What is to be done while the log is locked */
typedef struct LockedWork
{
	CatchWork	work;			/* or NULL */
	void	   *arg;
} LockedWork;

/*
 * Locks the log and its default partition against everybody, if that does not take
 * long, and does what is to be done.
 */
static void
lock_log(void *arg)
{
	LockedWork *locked = arg;
	int			nest = limit_waiting();

	leaves_lock(&log_table, AccessExclusiveLock, true);
	if (locked->work)
		locked->work(locked->arg);
	AtEOXact_GUC(true, nest);
}

/*
 * Locks the log and its default partition against everybody, and does something that
 * may need further locks.  While one waits for such a lock, all others queue behind: so
 * the wait is given up again and again, and everything is undone.
 */
void
partitions_with_log_locked(CatchWork work, void *arg)
{
	LockedWork	locked = {work, arg};
	int			i;

	for (i = 1;; i++)
	{
		ErrorData  *error = catch_error(lock_log, &locked);

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
 * Makes a partition if too few are left for new rows.  Returns whether it did.
 */
static bool
make_next(void)
{
	int			n;
	Leaf		rest = find_rest(&n);

	/* on a subscriber of logical replication, the sequence is behind the rows */
	int64		newest = Max(store_newest_id(&log_table),
							 extreme_id(&rest, BackwardScanDirection, 0));
	int64		until;
	const Leaf *leaves;
	char	   *name;
	int			ahead = 0;
	int			i;

	/* rows are going to the default partition */
	if (newest >= rest.from)
	{
		partitions_with_log_locked(NULL, NULL);
		close_rest();
		return true;
	}
	leaves = leaves_list(&log_table, &n);
	for (i = 0; i < n - 1; i++)
		if (leaves[i].from > newest)
			ahead++;
	if (ahead >= setting_partitions_ahead ||
		pg_add_s64_overflow(rest.from, setting_partition_rows, &until))
		return false;
	name = psprintf("log_" INT64_FORMAT, rest.from);
	partitions_make_table(name, "log_default");
	statements_execute(psprintf("ALTER TABLE credits.log ATTACH PARTITION credits.%s"
								" FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")",
								name, rest.from, until));
	return true;
}

/*
 * Returns whether partitions are to be made ahead.
 */
bool
partitions_wanted(void)
{
	int			n;

	if (setting_partition_rows == 0)
		return false;
	(void) leaves_list(&log_table, &n);
	return n > 1;
}

/*
 * Makes a partition ahead, if there are too few.  Returns how many were made.
 */
int64
partitions_sweep(int limit)
{
	int			nest = limit_waiting();
	bool		made;

	/* a procedure has no snapshot after a commit, and catalogs need one */
	PushActiveSnapshot(store_snapshot(true));
	leaves_lock(&log_table, ShareUpdateExclusiveLock, false);
	made = make_next();
	PopActiveSnapshot();
	AtEOXact_GUC(true, nest);
	return made ? 1 : 0;
}

/*
 * SQL function: partitions the log, and makes partitions ahead.  Returns how many
 * were made.
 */
Datum
credits_partition_log(PG_FUNCTION_ARGS)
{
	int			made = 0;
	int			n;

	store_check_writable("credits_partition_log()");
	if (setting_partition_rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the size of partitions is not set"),
				 errdetail("Setting credits.partition_rows is 0."),
				 errhint("Set it for the database: ALTER DATABASE ... SET credits.partition_rows = ...")));
	/* only one session at a time */
	leaves_lock(&log_table, ShareUpdateExclusiveLock, false);
	(void) find_rest(&n);
	if (n == 1)
	{
		partitions_with_log_locked(NULL, NULL);
		close_rest();
		made++;
	}
	while (make_next())
		made++;
	PG_RETURN_INT32(made);
}
