/*
 * watch.c
 *	  credits_watch: a job that looks for suspicious activity, by the rules of
 *	  credits.activity_rules.
 *
 * The job reads what is new and nothing else.  Of the log, it reads the rows after a
 * position, in order of their ids, and sums up by account and hour what was spent
 * and refunded, in credits.activity_hours.  Rules look at these sums only, so that
 * their cost does not depend on how much an account has done.
 *
 * An account's rows are committed in the order of their ids.  So what is counted of
 * an account is known by the id of its last row, and no row is ever counted twice,
 * although the position has to be behind: ids are drawn before commits.  It moves by
 * marks.  When a run begins, it takes a moment (see src/tell/moments.h), whose last id
 * and next transaction id are the mark.  Transactions have their own id before those
 * of the log.  So a later run that begins when all transactions below the mark have
 * ended sees all rows up to it that there will ever be, and when it has examined them
 * the position moves there.  Who only reads, such as pg_dump, holds nothing back.
 *
 * So each row is mostly read by two runs, and counted by one.  While a transaction
 * that writes, or a prepared one, keeps the mark from being reached, a run reads what
 * came since the run before the last one began, and not all from the position on.
 * What is committed later than that is read when the mark is reached, or counted
 * when its account spends again.  So each row is read by three runs or four, however
 * long the position is held back.
 *
 * Refusals are events that count, see src/ledger/refusals.c.  An event counts for
 * credits.refusal_window; those that may have changed since the position are read.
 *
 * What is found suspicious is reported by hits.c, in the transaction that has counted
 * it.  Accounts are paused in a part of their own, so that one that is locked delays
 * nobody, and is paused by a later run.
 *
 * A run locks the position while it examines a batch, and leaves it to a run that
 * has locked it.
 *
 * Tested in test/sql/activity.sql, test/specs/activity.spec and test/t/activity.pl.
 */
#include "credits.h"

#include "accounts/accounts.h"
#include "jobs/hits.h"
#include "ledger/job.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/activity.h"
#include "tell/moments.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_watch);

/* how many rows that no rule needs any more are deleted with a batch */
#define MAX_FORGOTTEN 10000

/* the parts of a run */
enum
{
	PART_TRANSACTIONS,
	PART_REFUSALS,
	PART_PAUSES
};

/* A place in the log and among the refusals */
typedef struct WatchPlace
{
	int64		id;
	TimestampTz at;
} WatchPlace;

/* A place, and the transaction id below which all must have ended */
typedef struct WatchMark
{
	int64		system;			/* of the cluster */
	uint64		xid;			/* 0 if there is no mark */
	WatchPlace	place;
} WatchMark;

/* The run of the job that this session is executing */
static struct
{
	int			part;
	bool		ours;			/* or is the position left to another run? */
	bool		read;			/* have all transactions been examined? */
	WatchPlace	safe;			/* the position */
	WatchPlace	again;			/* where the run before the last one began */
	WatchPlace	last;			/* and the last one */
	TimestampTz since;
	WatchMark	mark;			/* that came with the position */
	bool		reached;		/* does this run see all rows up to it? */
	WatchMark	next;			/* the mark of this run */
}			watch;

static SqlStatement lock_position = {
	"SELECT safe_id, refused_at, again_id, again_at, last_id, last_at, since,"
	" system, mark_xid, mark_id, mark_at"
	" FROM credits.activity_position FOR UPDATE SKIP LOCKED",
	(const Oid[]) {InvalidOid}
};

/* nothing, if another run has moved it; sums are kept for as long as any rule needs */
static SqlStatement move_position = {
	"UPDATE credits.activity_position AS p SET safe_id = $4, refused_at = $5,"
	" again_id = p.last_id, again_at = p.last_at, last_id = $6, last_at = $7,"
	" since = greatest(p.since, $7 - (SELECT COALESCE(max(r.baseline), '0')"
	" + max(r.span) + '24 hours' FROM credits.activity_rules AS r)),"
	" system = $8, mark_xid = $9, mark_id = $10, mark_at = $11"
	" WHERE p.safe_id = $1 AND p.last_id = $2 AND p.mark_xid IS NOT DISTINCT FROM $3",
	(const Oid[]) {
		INT8OID, INT8OID, XID8OID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID,
		INT8OID, XID8OID, INT8OID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement forget_hours = {
	"DELETE FROM credits.activity_hours WHERE (account_id, hour) IN ("
	"SELECT h.account_id, h.hour FROM credits.activity_hours AS h"
	" WHERE h.hour < date_trunc('hour', COALESCE("
	"(SELECT p.since FROM credits.activity_position AS p), 'infinity'), 'UTC')"
	" ORDER BY h.hour LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, InvalidOid}
};

static SqlStatement forget_hits = {
	"DELETE FROM credits.activity_hits WHERE (account_id, rule, starts_at) IN ("
	"SELECT h.account_id, h.rule, h.starts_at FROM credits.activity_hits AS h"
	" WHERE h.ends_at < (SELECT p.since FROM credits.activity_position AS p)"
	" AND NOT (h.pauses AND h.paused_at IS NULL)"
	" ORDER BY h.ends_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, InvalidOid}
};

/*
 * Of the next transactions, the last one of each account that spends or gives back,
 * by the codes of kinds.c; and the last of all, where the next batch begins.  What is
 * read is chosen by the id alone, so that no plan but that by the index is any good.
 * The first parameter is not used, nor is the time.
 */
static SqlStatement find_transactions = {
	"WITH b AS MATERIALIZED (SELECT l.id, l.account_id, l.kind_code"
	" FROM credits.log AS l WHERE l.id > $2 ORDER BY l.id LIMIT $4) "
	"SELECT $1, n.id FROM ("
	"SELECT max(b.id) AS id FROM b"
	" WHERE b.kind_code IN ('d', 'h', 'T', 'g', 'r', 'l', 'R') GROUP BY b.account_id"
	" UNION SELECT max(b.id) FROM b) AS n"
	" WHERE n.id IS NOT NULL AND $3 IS NOT NULL ORDER BY n.id",
	(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/*
 * Of the next refusals, the last one of each account and hour, since windows consist
 * of whole hours; and the last of all.
 */
static SqlStatement find_refusals = {
	"WITH b AS MATERIALIZED (SELECT e.created_at, e.id, e.account_id"
	" FROM credits.events AS e"
	" WHERE e.kind IN ('deduction_refused', 'hold_refused', 'redemption_refused')"
	" AND (e.created_at, e.id) > ($1, $2) AND e.created_at <= $3"
	" ORDER BY e.created_at, e.id LIMIT $4), n AS ("
	"SELECT b.created_at, b.id, row_number() OVER (PARTITION BY b.account_id,"
	" date_trunc('hour', b.created_at, 'UTC') ORDER BY b.created_at DESC, b.id DESC) AS nth,"
	" row_number() OVER (ORDER BY b.created_at DESC, b.id DESC) AS nth_of_all FROM b) "
	"SELECT n.created_at, n.id FROM n WHERE n.nth = 1 OR n.nth_of_all = 1"
	" ORDER BY n.created_at, n.id",
	(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid}
};

static SqlStatement find_pauses = {
	"SELECT h.found_at, h.event_id FROM credits.activity_hits AS h"
	" WHERE h.pauses AND h.paused_at IS NULL"
	" AND (h.found_at, h.event_id) > ($1, $2) AND h.found_at <= $3"
	" ORDER BY h.found_at, h.event_id LIMIT $4",
	(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid}
};

static SqlStatement last_counted = {
	"SELECT last_id, last_at FROM credits.activity_hours WHERE account_id = $1"
	" ORDER BY hour DESC LIMIT 1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement add_hour = {
	"INSERT INTO credits.activity_hours AS h"
	" (account_id, hour, spent, refunded, last_id, last_at)"
	" VALUES ($1, $2, $3, $4, $5, $6)"
	" ON CONFLICT (account_id, hour) DO UPDATE SET spent = h.spent + excluded.spent,"
	" refunded = h.refunded + excluded.refunded, last_id = excluded.last_id,"
	" last_at = excluded.last_at",
	(const Oid[]) {
		INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement find_hit = {
	"SELECT account_id, rule FROM credits.activity_hits"
	" WHERE found_at = $1 AND event_id = $2 AND pauses AND paused_at IS NULL"
	" FOR UPDATE SKIP LOCKED",
	(const Oid[]) {TIMESTAMPTZOID, INT8OID, InvalidOid}
};

static SqlStatement end_hit = {
	"UPDATE credits.activity_hits SET paused_at = $3"
	" WHERE found_at = $1 AND event_id = $2 AND pauses AND paused_at IS NULL",
	(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * the position
 */

/*
 * Reads a place from two columns of the position.
 */
static WatchPlace
read_place(const SqlResult *found, int column)
{
	WatchPlace	place;
	bool		isnull;

	place.id = DatumGetInt64(statements_value(found, 0, column, &isnull));
	place.at = DatumGetTimestampTz(statements_value(found, 0, column + 1, &isnull));
	return place;
}

/*
 * Locks the position, and reads it.  Returns false if there is none, or if another
 * run has locked it.
 */
static bool
read_position(void)
{
	SqlResult  *found = statements_run(&lock_position, NULL, NULL);
	bool		isnull;
	bool		unmarked;

	if (found->nrows == 0)
		return false;
	watch.safe = read_place(found, 1);
	watch.again = read_place(found, 3);
	watch.last = read_place(found, 5);
	watch.since = DatumGetTimestampTz(statements_value(found, 0, 7, &isnull));
	watch.mark.system = DatumGetInt64(statements_value(found, 0, 8, &unmarked));
	if (unmarked)
		return true;
	watch.mark.xid = DatumGetUInt64(statements_value(found, 0, 9, &isnull));
	watch.mark.place = read_place(found, 10);
	return true;
}

/*
 * Deletes sums and hits that no rule needs any more.
 */
static void
forget_old(void)
{
	Datum		limit = Int32GetDatum(MAX_FORGOTTEN);

	(void) statements_run(&forget_hours, &limit, NULL);
	(void) statements_run(&forget_hits, &limit, NULL);
}

/*
 * Begins to examine what is new.
 */
static void
begin_reading(void)
{
	FeedMoment *now;

	memset(&watch, 0, sizeof(watch));
	activity_end();
	activity_begin();
	watch.ours = read_position();
	if (!watch.ours)
	{
		forget_old();
		return;
	}
	watch.next.system = rows_system();
	/* who is not below the mark reads the clock later */
	watch.next.place.at = clock_now();
	PushActiveSnapshot(store_snapshot(true));
	now = moments_take(&log_table);
	PopActiveSnapshot();
	watch.next.place.id = now->last_id;
	watch.next.xid = now->next_xid;
	watch.reached = watch.mark.xid != 0 && watch.mark.system == watch.next.system &&
		now->xmin >= watch.mark.xid;
}

/*
 * Returns the place after which this run begins.
 */
static WatchPlace
first_place(void)
{
	return watch.reached ? watch.safe : watch.again;
}

/*
 * Moves the position when everything has been examined: to the mark, if that has been
 * reached, and the next run may come to ours.
 */
static void
end_reading(void)
{
	bool		stays = watch.mark.xid != 0 && !watch.reached &&
		watch.mark.system == watch.next.system;
	const WatchMark *mark = stays ? &watch.mark : &watch.next;
	WatchPlace	safe = watch.reached ? watch.mark.place : watch.safe;
	Datum		values[11];
	bool		isnull[11] = {false};

	values[0] = Int64GetDatum(watch.safe.id);
	values[1] = Int64GetDatum(watch.last.id);
	values[2] = UInt64GetDatum(watch.mark.xid);
	isnull[2] = watch.mark.xid == 0;
	values[3] = Int64GetDatum(safe.id);
	values[4] = TimestampTzGetDatum(safe.at);
	values[5] = Int64GetDatum(watch.next.place.id);
	values[6] = TimestampTzGetDatum(watch.next.place.at);
	values[7] = Int64GetDatum(mark->system);
	values[8] = UInt64GetDatum(mark->xid);
	values[9] = Int64GetDatum(mark->place.id);
	values[10] = TimestampTzGetDatum(mark->place.at);
	(void) statements_run(&move_position, values, isnull);
	forget_old();
}

/* ------------------------------------------------------------------------
 * transactions
 */

/* What an account has spent and was refunded in an hour */
typedef struct ActivityHour
{
	TimestampTz hour;
	int64		spent;
	int64		refunded;
	int64		last_id;
	TimestampTz last_at;
} ActivityHour;

/*
 * Returns the hour of an instant, in which it begins in UTC.
 */
static TimestampTz
hour_of(TimestampTz at)
{
	TimestampTz past = at % USECS_PER_HOUR;

	return at - (past < 0 ? past + USECS_PER_HOUR : past);
}

/*
 * Returns the first hour that begins at an instant or later.
 */
static TimestampTz
hour_from(TimestampTz at)
{
	return hour_of(at + USECS_PER_HOUR - 1);
}

/*
 * Adds what was counted of an hour to the sums.
 */
static void
write_hour(int64 account_id, const ActivityHour *hour)
{
	Datum		values[6];

	values[0] = Int64GetDatum(account_id);
	values[1] = TimestampTzGetDatum(hour->hour);
	values[2] = Int64GetDatum(hour->spent);
	values[3] = Int64GetDatum(hour->refunded);
	values[4] = Int64GetDatum(hour->last_id);
	values[5] = TimestampTzGetDatum(hour->last_at);
	(void) statements_run(&add_hour, values, NULL);
}

/*
 * Counts a transaction in its hour.  Returns false if it neither spends nor gives
 * back.
 */
static bool
count_transaction(ActivityHour *hour, const Entry *entry)
{
	const KindInfo *kind = kinds_info(entry->kind);
	int64	   *sum = &hour->spent;

	if (entry->kind == KIND_REFUND)
		sum = &hour->refunded;
	else if (!kind->counts && !kind->uncounts)
		return false;
	/* of a transfer, the account that receives it spends nothing */
	if ((entry->amount > 0) != kind->uncounts)
		return false;
	if (pg_add_s64_overflow(*sum,
							sum == &hour->refunded ? entry->amount : -entry->amount, sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("account " INT64_FORMAT " has spent too much in an hour to count it",
						entry->account_id)));
	hour->last_id = entry->id;
	hour->last_at = entry->created_at;
	return true;
}

/*
 * Counts the transactions of an account from after "after_id", not made before "from",
 * to "until_id".  Returns whether there were any, and the first and the last hour.
 */
static bool
count_transactions(int64 account_id, TimestampTz from, int64 after_id, int64 until_id,
				   TimestampTz *first, TimestampTz *last)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "credits watch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	StoreScan	scan;
	Entry		entry;
	ActivityHour hour = {0};
	bool		any = false;

	scan_begin_ids(&scan, NULL, &log_by_account_id, GetActiveSnapshot(), after_id,
				   until_id, BY_INT64(account_id), BY_TIME_FROM(from));
	old = MemoryContextSwitchTo(context);
	while (scan_peek(&scan, ForwardScanDirection, &entry) && entry.id <= until_id)
	{
		TimestampTz at = hour_of(entry.created_at);

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		if (entry.id <= after_id)
			continue;
		if (any && at != hour.hour)
		{
			write_hour(account_id, &hour);
			memset(&hour, 0, sizeof(ActivityHour));
		}
		hour.hour = at;
		if (count_transaction(&hour, &entry) && !any)
		{
			*first = at;
			any = true;
		}
	}
	MemoryContextSwitchTo(old);
	scan_end(&scan);
	MemoryContextDelete(context);
	if (any && hour.last_id != 0)
		write_hour(account_id, &hour);
	*last = hour.hour;
	return any;
}

/*
 * Counts what is new of an account up to a transaction, and looks for hits.
 */
static JobOutcome
examine_transactions(const DueItem *item)
{
	Entry		entry;
	Account		account;
	Datum		account_id;
	SqlResult  *counted;
	TimestampTz from = watch.since;
	TimestampTz first;
	TimestampTz last;
	int64		after_id = 0;
	bool		isnull;

	if (!rows_find_entry(NULL, GetActiveSnapshot(), item->id, &entry) ||
		(!kinds_info(entry.kind)->counts && !kinds_info(entry.kind)->uncounts) ||
		!rows_find_account(NULL, GetActiveSnapshot(), NULL, entry.account_id, &account))
		return ITEM_SKIPPED;
	account_id = Int64GetDatum(account.id);
	counted = statements_run(&last_counted, &account_id, NULL);
	if (counted->nrows > 0)
	{
		after_id = DatumGetInt64(statements_value(counted, 0, 1, &isnull));
		from = Max(from, DatumGetTimestampTz(statements_value(counted, 0, 2, &isnull)));
	}
	if (after_id >= item->id ||
		!count_transactions(account.id, from, after_id, item->id, &first, &last))
		return ITEM_SKIPPED;
	return hits_by_sums(account.id, first, last,
						hour_from(Max(watch.since, account.created_at)), watch.since) ?
		ITEM_DONE : ITEM_SKIPPED;
}

/* ------------------------------------------------------------------------
 * refusals and pauses
 */

/*
 * Looks for hits of an account by what it was refused.
 */
static JobOutcome
examine_refusals(const DueItem *item)
{
	Event		event;

	if (!scan_find(NULL, &events_by_id, GetActiveSnapshot(), &event, BY_INT64(item->id)) ||
		event.account_id == 0)
		return ITEM_SKIPPED;
	return hits_by_refusals(event.account_id, event.created_at, watch.since) ?
		ITEM_DONE : ITEM_SKIPPED;
}

/*
 * Pauses the account of a hit, unless another session has locked it.
 */
static JobOutcome
pause_account(const DueItem *item)
{
	Datum		values[3];
	SqlResult  *found;
	text	   *reason;
	bool		isnull;

	values[0] = TimestampTzGetDatum(item->due_at);
	values[1] = Int64GetDatum(item->id);
	values[2] = TimestampTzGetDatum(clock_now());
	found = statements_run(&find_hit, values, NULL);
	if (found->nrows == 0)
		return ITEM_SKIPPED;
	reason = cstring_to_text(psprintf("activity rule \"%s\"",
									  TextDatumGetCString(statements_value(found, 0, 2,
																		   &isnull))));
	if (!accounts_pause("credits_watch()",
						DatumGetInt64(statements_value(found, 0, 1, &isnull)), reason))
		return ITEM_SKIPPED;
	(void) statements_run(&end_hit, values, NULL);
	return ITEM_DONE;
}

/* ------------------------------------------------------------------------
 * the job
 */

/*
 * Begins a part of the job.  Returns false if there are no more parts.
 */
static bool
begin_watch_part(JobRange *range)
{
	switch (range->number)
	{
		case PART_TRANSACTIONS:
			begin_reading();
			range->find = &find_transactions;
			range->after_id = first_place().id;
			break;
		case PART_REFUSALS:
			range->find = &find_refusals;
			/* those from then on can still count what was refused later */
			range->after_at = first_place().at;
			if (clock_refusal_window())
				range->after_at = clock_before(range->after_at, clock_refusal_window());
			range->after_id = PG_INT64_MIN;
			break;
		case PART_PAUSES:
			range->find = &find_pauses;
			break;
		default:
			return false;
	}
	watch.part = range->number;
	return true;
}

/*
 * Locks the position for a batch.  Returns false if that is left to another run, or
 * if everything has been examined.
 */
static bool
resume_part(JobRange *range)
{
	if (watch.part == PART_PAUSES)
		return true;
	if (watch.part == PART_REFUSALS && !watch.read)
		return false;
	if (watch.part == PART_TRANSACTIONS && range->after_id >= watch.next.place.id)
		watch.read = true;		/* do not run after those who spend */
	if (watch.part == PART_TRANSACTIONS && watch.read)
		return false;
	watch.ours = watch.ours && statements_run(&lock_position, NULL, NULL)->nrows > 0;
	if (!watch.ours)
		watch.read = false;
	return watch.ours;
}

/*
 * Notes that a part has come to its end, if "last" is NULL.
 */
static void
reached_item(const JobRange *range, const DueItem *last)
{
	if (watch.part == PART_TRANSACTIONS)
	{
		forget_old();
		watch.read = last == NULL;
	}
	else if (watch.part == PART_REFUSALS && last == NULL)
		end_reading();
}

/*
 * Examines an item of the current part.
 */
static JobOutcome
watch_item(const DueItem *item, int *steps)
{
	JobOutcome	outcome;

	PushActiveSnapshot(store_snapshot(true));
	outcome = watch.part == PART_TRANSACTIONS ? examine_transactions(item) :
		watch.part == PART_REFUSALS ? examine_refusals(item) : pause_account(item);
	PopActiveSnapshot();
	return outcome;
}

/*
 * Reports that an item could not be examined, or an account not paused.
 */
static void
watch_failed(int64 id, ErrorData *error)
{
	static const char *const what[] = {
		[PART_TRANSACTIONS] = "activity up to transaction %lld could not be examined: %s",
		[PART_REFUSALS] = "refusals of event %lld could not be examined: %s",
		[PART_PAUSES] = "the account of event %lld could not be paused: %s"
	};

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal("%s", psprintf(what[watch.part], (long long) id,
											error->message ? error->message : "")),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job watch_job = {
	.name = "credits_watch",
	.work = watch_item,
	.failed = watch_failed,
	.begin = begin_watch_part,
	.resume = resume_part,
	.reached = reached_item
};

/*
 * SQL procedure: looks for suspicious activity, and pauses accounts.
 */
Datum
credits_watch(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &watch_job);
}
