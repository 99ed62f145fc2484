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
 *
 * Work is done in steps, each of which sees from the catalogs what comes next.  So it
 * continues where an earlier call has ended, for whatever reason.
 *
 * Each partition keeps the constraint, named log_bounds: credits_archive can move it
 * without reading it again.
 *
 * Tested in test/sql/partitions.sql, test/specs/partitions.spec and
 * test/t/partitions.pl.
 */
#include "credits.h"

#include "jobs/partitions.h"
#include "ledger/anchors.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/int.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(credits_partition_log);

/* how long new spends may queue behind our wait for a lock, in milliseconds */
#define LOCK_TIMEOUT 200

#define LOCK_TRIES 50

/* of how many blocks a partition may be that is read while it is locked */
#define MAX_LOCKED_BLOCKS 4096

/* how many ids may be drawn while a constraint is validated */
#define MARGIN INT64CONST(1000000000)

/* What a step has done */
typedef enum Step
{
	STEP_NONE,					/* there is nothing to do */
	STEP_PREPARED,				/* it is not done yet: go on */
	STEP_MADE					/* a partition was made */
} Step;

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

/* how to let a table have the same key twice */
static SqlStatement unique_keys = {
	"SELECT coalesce(string_agg(format('DROP INDEX credits.%I; ', c.relname) ||"
	" replace(pg_get_indexdef(c.oid), 'CREATE UNIQUE INDEX', 'CREATE INDEX') || '; ', ''), '')"
	" FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
	" WHERE i.indrelid = format('credits.%I', $1)::regclass"
	" AND i.indisunique AND NOT i.indisprimary AND $2 IS NOT NULL",
	(const Oid[]) {TEXTOID, TEXTOID, InvalidOid}
};

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

static SqlStatement read_version = {
	"SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'credits'",
	(const Oid[]) {InvalidOid}
};

/* whether the rows of the default partition are dumped */
static SqlStatement is_dumped = {
	"SELECT FROM pg_extension AS e WHERE e.extname = 'credits'"
	" AND 'credits.log_default'::regclass = ANY (e.extconfig)",
	(const Oid[]) {InvalidOid}
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
 * it is a statement that they refuse, and would be lost when it is detached.  The
 * bounds of the other one are not meant for it.
 */
static void
make_log_table(const char *name, const char *model)
{
	Oid			oid;

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
	oid = get_relname_relid(name, get_namespace_oid("credits", false));
	if (OidIsValid(get_relation_constraint_oid(oid, "log_bounds", true)))
		statements_execute(psprintf("ALTER TABLE credits.%s DROP CONSTRAINT log_bounds",
									name));
}

/*
 * Returns the statement that adds the constraint on the ids of a table.
 */
static char *
bounds_constraint(const char *table, int64 from, int64 until)
{
	return psprintf("ALTER TABLE credits.%s ADD CONSTRAINT log_bounds"
					" CHECK (%sid < '" INT64_FORMAT "'::bigint)",
					quote_identifier(table), from == PG_INT64_MIN ? "" :
					psprintf("id >= '" INT64_FORMAT "'::bigint AND ", from),
					until);
}

/*
 * Attaches a table to a partitioned one, for ids from "from", if that is not
 * PG_INT64_MIN, up to "until".  The table is read if it has no constraint that says
 * so.
 */
void
partitions_attach(const char *parent, const char *table, int64 from, int64 until)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid("credits", false));

	if (!OidIsValid(get_relation_constraint_oid(oid, "log_bounds", true)))
		statements_execute(bounds_constraint(table, from, until));
	statements_execute(psprintf("ALTER TABLE credits.%s ATTACH PARTITION credits.%s"
								" FOR VALUES FROM (%s) TO (" INT64_FORMAT ")",
								parent, quote_identifier(table),
								from == PG_INT64_MIN ? "MINVALUE" :
								psprintf(INT64_FORMAT, from), until));
}

/*
 * Has the rows of the default partition dumped, although the table does not come
 * from the extension's script.  Only a script of the extension can ask for that: so
 * there is one that updates it to do so, and one that leads back to its version.
 */
static void
mark_for_dump(void)
{
	bool		isnull;
	SqlResult  *found = statements_run(&read_version, NULL, NULL);
	char	   *version;

	if (found->nrows == 0)
		elog(ERROR, "extension \"credits\" does not exist");
	version = TextDatumGetCString(statements_value(found, 0, 1, &isnull));
	statements_execute(psprintf("ALTER EXTENSION credits ADD TABLE credits.log_default; "
								"ALTER EXTENSION credits UPDATE TO %s; "
								"ALTER EXTENSION credits UPDATE TO %s",
								quote_literal_cstr(psprintf("%s_log_default", version)),
								quote_literal_cstr(version)));
	if (statements_run(&is_dumped, NULL, NULL)->nrows == 0)
		elog(ERROR, "rows of table \"credits.log_default\" would not be dumped");
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
	CatchWork	work;
	void	   *arg;
	LOCKMODE	mode;			/* of the lock of the log itself */
	bool		sequence;		/* is the sequence to be locked first? */
} LockedWork;

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
partitions_check_isolation(void)
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
static void
do_locked(LockedWork *locked)
{
	int			i;

	partitions_check_isolation();
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
 * Locks the log and its default partition against everybody, and does something that
 * may need further locks.
 */
void
partitions_with_log_locked(CatchWork work, void *arg)
{
	LockedWork	locked = {work, arg, AccessExclusiveLock};

	do_locked(&locked);
}

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
 * Returns a name for a partition that begins with an id.  Somebody may have detached
 * one of that name.
 */
static char *
name_from(int64 from)
{
	Oid			schema = get_namespace_oid("credits", false);
	char	   *name;
	int			i;

	/* the first one has no lower bound */
	from = Max(from, 0);
	name = psprintf("log_" INT64_FORMAT, from);
	for (i = 2; OidIsValid(get_relname_relid(name, schema)); i++)
		name = psprintf("log_" INT64_FORMAT "_%d", from, i);
	return name;
}

/*
 * Gives the default partition a constraint that is far above the newest id, so that
 * nobody reaches it until the constraint has been validated.
 */
static void
bound_rest(void *arg)
{
	Rest		rest;
	int64		far;

	read_rest(&rest);
	if (pg_add_s64_overflow(rest.newest, MARGIN, &far))
		far = PG_INT64_MAX;
	statements_execute(psprintf("%s NOT VALID",
								bounds_constraint("log_default",
												  leaf_with(rest.newest).from,
												  bound_above(far))));
}

/*
 * Attaches an empty table as the new default partition.
 */
static void
attach_rest(void)
{
	statements_execute("ALTER TABLE credits.log ATTACH PARTITION credits.log_default DEFAULT; "
					   "COMMENT ON TABLE credits.log_default IS"
					   " 'the partition of credits.log for all rows that no other takes'");
	mark_for_dump();
}

/*
 * Gives a table, and its indexes, another name.
 */
static void
rename_table(const char *from, const char *to)
{
	statements_execute(psprintf("ALTER TABLE credits.%s RENAME TO %s", from, to));
	statements_execute(likeness_text(&index_names, to, from, 1));
}

/*
 * Copies rows of the log, which a query returns, to a new table that can be a
 * partition.  As long as that is unlogged, logical replication does not see the rows,
 * which a subscriber has.
 */
void
partitions_copy(const char *name, const char *query)
{
	make_log_table(name, "log_default");
	/* rows of different times may have the same key */
	if (strncmp(name, COPIES_TABLE, strlen(COPIES_TABLE)) == 0)
		statements_execute(likeness_text(&unique_keys, name, "", 1));
	statements_execute(psprintf("ALTER TABLE credits.%s SET UNLOGGED; "
								"INSERT INTO credits.%s %s; "
								"ALTER TABLE credits.%s SET LOGGED",
								name, name, query, name));
}

/*
 * Splits the default partition, which has rows of several ranges of ids: those of the
 * first range get a partition, and the others a new default one.  This is the only case
 * in which rows are copied.
 */
static void
split_rest(const Leaf *leaf, const char *name)
{
	static const char rest[] = "SELECT d.* FROM credits.log_default AS d WHERE d.id";

	partitions_copy(name, psprintf("%s < " INT64_FORMAT, rest, leaf->until));
	partitions_copy("log_default_rest",
					psprintf("%s >= " INT64_FORMAT, rest, leaf->until));
	statements_execute("ALTER TABLE credits.log DETACH PARTITION credits.log_default; "
					   "ALTER EXTENSION credits DROP TABLE credits.log_default; "
					   "DROP TABLE credits.log_default");
	rename_table("log_default_rest", "log_default");
	partitions_attach("log", name, leaf->from, leaf->until);
	attach_rest();
}

/*
 * Closes the default partition, of which everything is locked.
 */
static void
exchange_rest(void *arg)
{
	Rest		rest;
	Leaf		leaf;
	bool		last;
	int64		until;
	char	   *name;

	read_rest(&rest);
	leaf = leaf_with(rest.highest > 0 ? rest.lowest : rest.newest);
	last = leaf.until == PG_INT64_MAX;
	name = name_from(leaf.from);
	if (rest.highest >= leaf.until)
	{
		split_rest(&leaf, name);
		return;
	}
	until = !last ? leaf.until : rest.until ? rest.until : bound_above(rest.newest);
	statements_execute("ALTER TABLE credits.log DETACH PARTITION credits.log_default");
	rename_table("log_default", name);
	partitions_attach("log", name, leaf.from, until);
	statements_execute(psprintf("COMMENT ON TABLE credits.%s IS 'a partition of credits.log'; "
								"ALTER EXTENSION credits DROP TABLE credits.%s",
								name, name));
	make_log_table("log_default", name);
	attach_rest();
	/* go on where the next partition begins */
	if (last && rest.until)
		statements_execute(psprintf("ALTER SEQUENCE credits.%s RESTART WITH " INT64_FORMAT,
									log_table.sequence, until));
}

/*
 * Does the next step of closing the default partition.
 */
static Step
close_rest(const Rest *rest, bool may_commit)
{
	LockedWork	locked = {exchange_rest, NULL, AccessExclusiveLock};
	bool		last = leaf_with(rest->highest > 0 ? rest->lowest :
								 rest->newest).until == PG_INT64_MAX;
	Relation	rel;
	BlockNumber blocks;

	/* nobody waits for this lock, but autovacuum gives way to it */
	leaves_lock(&log_table, NoLock, ShareUpdateExclusiveLock);
	if (rest->until && !rest->validated)
	{
		statements_execute("ALTER TABLE credits.log_default VALIDATE CONSTRAINT log_bounds");
		return STEP_PREPARED;
	}
	rel = table_open(rest->oid, NoLock);
	blocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, NoLock);
	if (rest->until == 0 && last && blocks > MAX_LOCKED_BLOCKS)
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
		do_locked(&locked);
		return STEP_PREPARED;
	}

	/*
	 * whoever draws ids has locked the default partition first, or the
	 * sequence
	 */
	locked.sequence = last && rest->until && !rest->first;
	do_locked(&locked);
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
	make_log_table(name, "log_default");
	partitions_attach("log", name, next->from, next->until);
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
	do_locked(&locked);
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
		return close_rest(&rest, may_commit);
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
