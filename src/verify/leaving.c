/*
 * leaving.c
 *	  The partitions that leave the log when the books are closed.
 *
 * They are exchanged for one with copies of the rows that are to stay, and go to
 * credits.archived_log, under a lock of the log that is held for some catalog changes
 * only.
 *
 * On a subscriber of logical replication, a closing moves no partition: the anchors come
 * from the publisher, and the rows stay in the log.  When it has taken over, its own
 * first closing moves these, too.  If it was made after rows had left the publisher's
 * log, those are in credits.archived_log_default, and its log has copies of some.  A
 * partition with such copies cannot be attached beside them: so it is first copied,
 * together with them, while others go on.
 */
#include "credits.h"

#include "jobs/partition_locks.h"
#include "jobs/partition_tables.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "verify/leaving.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* what the name of a table begins with that leaves instead of a partition */
#define MERGED_TABLE "log_merged_"

static SqlStatement archived_rows = {
	"SELECT FROM credits.archived_log_default AS d WHERE d.id >= $1 AND d.id < $2 LIMIT 1",
	(const Oid[]) {INT8OID, INT8OID, InvalidOid}
};

/* A partition of the log that is about to leave it */
typedef struct Leaving
{
	const char *name;
	int64		from;
	int64		until;
	const char *merged;			/* the table that leaves instead, NULL if none
								 * does */
} Leaving;

/* The arguments of exchange */
typedef struct Exchange
{
	const Closing *closing;
	Leaving    *leaving;
	int			n;
	bool		merged;			/* does any table leave instead of a
								 * partition? */
	bool		done;			/* output: false if the copies were discarded */
	int			npartitions;	/* output */
} Exchange;

/*
 * Lists the partitions that leave the log with a closing.
 */
static void
list_leaving(Exchange *exchange)
{
	int			n;
	const Leaf *leaves = leaves_list(&log_table, &n);
	int			i;

	exchange->leaving = palloc0(n * sizeof(Leaving));
	exchange->n = 0;
	for (i = 0; i < n; i++)
	{
		Leaving    *leaving = &exchange->leaving[exchange->n];

		if (leaves[i].rest || leaves[i].until - 1 > exchange->closing->until_id)
			continue;
		leaving->name = get_rel_name(leaves[i].oid);
		leaving->from = leaves[i].from;
		leaving->until = leaves[i].until;
		exchange->n++;
	}
}

/*
 * Returns whether credits.archived_log_default has rows of a range of ids.
 */
static bool
has_archived(int64 from, int64 until)
{
	Datum		values[2];

	values[0] = Int64GetDatum(from);
	values[1] = Int64GetDatum(until);
	return statements_run(&archived_rows, values, NULL)->nrows > 0;
}

/*
 * Returns whether the copies of the rows that are to stay have been made.
 */
bool
leaving_has_copies(const Closing *closing)
{
	return OidIsValid(get_relname_relid(anchors_copies_table(closing->until_id),
										get_namespace_oid("credits", false)));
}

/*
 * Makes the tables that leave the log instead of partitions whose range of ids has rows
 * in credits.archived_log_default.  That is so if this was a subscriber of logical
 * replication that was made after these rows had left the publisher's log; the log may
 * have copies of some of them.  A row between two partitions goes with the later one.
 */
static void
merge_archived(Exchange *exchange)
{
	int64		from = PG_INT64_MIN;
	int			i;

	for (i = 0; i < exchange->n; i++)
	{
		Leaving    *leaving = &exchange->leaving[i];

		if (has_archived(from, leaving->until))
		{
			/* what is written after it is copied would be lost */
			statements_execute(psprintf("LOCK TABLE credits.%s, credits.archived_log_default IN SHARE MODE",
										quote_identifier(leaving->name)));
			leaving->merged = psprintf(MERGED_TABLE INT64_FORMAT, leaving->until - 1);
			leaving->from = from;
			partition_tables_copy(leaving->merged,
								  psprintf("SELECT l.* FROM credits.%s AS l UNION ALL"
										   " SELECT d.* FROM credits.archived_log_default AS d"
										   " WHERE d.id >= '" INT64_FORMAT "'::bigint"
										   " AND d.id < " INT64_FORMAT " AND NOT EXISTS ("
										   "SELECT FROM credits.%s AS l WHERE l.id = d.id)",
										   quote_identifier(leaving->name), from, leaving->until,
										   quote_identifier(leaving->name)),
								  true);
			partition_tables_add_bounds(leaving->merged, from, leaving->until, true);
			exchange->merged = true;
		}
		from = leaving->until;
	}
}

/*
 * Empties credits.archived_log_default, whose rows are in merged tables.
 */
static void
forget_merged(void)
{
	statements_execute("ALTER TABLE credits.archived_log_default"
					   " DISABLE TRIGGER archived_log_refuse_change; "
					   "TRUNCATE credits.archived_log_default; "
					   "ALTER TABLE credits.archived_log_default"
					   " ENABLE ALWAYS TRIGGER archived_log_refuse_change");
}

/*
 * Moves a partition of the log, or the table that leaves instead, to
 * credits.archived_log.
 */
static void
move_partition(const Leaving *leaving)
{
	statements_execute(psprintf("ALTER TABLE credits.log DETACH PARTITION credits.%s",
								quote_identifier(leaving->name)));
	if (leaving->merged)
	{
		statements_execute(psprintf("DROP TABLE credits.%s",
									quote_identifier(leaving->name)));
		partition_tables_rename(leaving->merged, leaving->name);
	}
	partition_tables_attach("archived_log", leaving->name, leaving->from, leaving->until);
}

/*
 * Raises an error: a partition has rows over which the books were closed before, but is
 * not named like the one that has their copies.
 */
static void
raise_unknown_copies(const char *name, int64 from_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("partition \"credits.%s\" of the log cannot be archived", name),
			 errdetail("The books were closed over its rows before, up to transaction " INT64_FORMAT ".",
					   from_id),
			 errhint("If it has the copies of archived rows, rename it to \"%s\" again; otherwise detach it.",
					 anchors_copies_table(from_id))));
}

/*
 * Exchanges the partitions that the closing covers for the one with the copies of rows.
 * Those go to credits.archived_log, except for the copies of the closing before.  That
 * rows are within the bounds of a partition need not be proven again.
 */
static void
exchange(void *arg)
{
	Exchange   *exchange = arg;
	const Closing *closing = exchange->closing;
	const char *copies = anchors_copies_table(closing->until_id);
	int			archived;
	int			i;

	exchange->npartitions = 0;
	exchange->done = leaving_has_copies(closing);
	if (!exchange->done)
		return;
	(void) leaves_list(&archived_log_table, &archived);
	if (exchange->merged)
		forget_merged();
	else
		list_leaving(exchange);
	for (i = 0; i < exchange->n; i++)
	{
		const Leaving *leaving = &exchange->leaving[i];
		const char *name = leaving->name;

		if (strcmp(name, anchors_copies_table(closing->from_id)) == 0)
			statements_execute(psprintf("ALTER TABLE credits.log DETACH PARTITION credits.%s; "
										"DROP TABLE credits.%s", name, name));
		else if (leaving->until - 1 <= closing->from_id && archived > 1)
			raise_unknown_copies(name, closing->from_id);
		else
		{
			move_partition(leaving);
			exchange->npartitions++;
		}
	}
	partition_tables_attach("log", copies, PG_INT64_MIN, closing->until_id + 1);
	partition_tables_drop_bounds(copies);
}

/*
 * Returns whether partitions that leave have to be copied together with rows that are
 * archived already.
 */
bool
leaving_must_be_merged(const Closing *closing)
{
	return has_archived(PG_INT64_MIN, closing->until_id + 1);
}

/*
 * Exchanges the partitions as soon as that does not make others wait for long.  Returns
 * how many have left the log, -1 if the copies of rows have been discarded.
 */
int
leaving_exchange(const Closing *closing, bool merge)
{
	Exchange	arg = {.closing = closing};

	if (merge)
	{
		list_leaving(&arg);
		merge_archived(&arg);
	}
	partition_locks_with_log(closing->until_id, exchange, &arg);
	return arg.done ? arg.npartitions : -1;
}
