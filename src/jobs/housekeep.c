/*
 * housekeep.c
 *	  credits_housekeep: a job that expires unpaid purchases, deletes old
 *	  events, and makes partitions of the log.
 */
#include "credits.h"

#include "jobs/partitions.h"
#include "ledger/job.h"
#include "ledger/ledger.h"
#include "sell/purchases.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_housekeep);

/* purchases that another session has locked are skipped: it will finish them */
static SqlStatement find_purchases = {
	"SELECT p.expires_at, p.id FROM credits.purchases AS p"
	" WHERE p.status = 'pending' AND (p.expires_at, p.id) > ($1, $2)"
	" AND p.expires_at <= $3 ORDER BY p.expires_at, p.id LIMIT $4"
	" FOR UPDATE SKIP LOCKED",
	(const Oid[]) {
		TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid
	}
};

/*
 * There is no index on created_at.  Ids and times increase together, more or
 * less, so it is enough to look at the events with the lowest ids.
 *
 * What a consumer has not read is kept: it has read what is up to its safe id or
 * is seen by the snapshot that it has acknowledged; of what was not written here,
 * what was there then (see src/tell/feed.c).  What people are still to be told is
 * kept, too.
 */
static SqlStatement delete_events = {
	"DELETE FROM credits.events WHERE id IN ("
	"SELECT e.id FROM credits.events AS e WHERE e.created_at < $1 AND e.id IN ("
	"SELECT f.id FROM credits.events AS f ORDER BY f.id LIMIT $2)"
	" AND NOT EXISTS (SELECT FROM credits.consumers AS c"
	" LEFT JOIN credits.consumer_positions AS p ON p.consumer = c.name AND p.system = $3"
	" LEFT JOIN credits.event_order AS o ON o.event_id = e.id AND o.system = $3"
	" WHERE e.id > c.safe_id AND (p.snapshot IS NULL"
	" OR (o.xid IS NULL AND e.id > p.last_id)"
	" OR NOT pg_visible_in_snapshot(o.xid, p.snapshot)))"
	" AND NOT EXISTS (SELECT FROM credits.deliveries AS d"
	" WHERE d.event_id = e.id AND d.status = 'waiting')"
	" FOR UPDATE OF e SKIP LOCKED)",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, INT8OID, InvalidOid}
};

/* deliveries that have ended, of events that are gone: nobody reads these again */
static SqlStatement delete_deliveries = {
	"DELETE FROM credits.deliveries WHERE id IN ("
	"SELECT d.id FROM credits.deliveries AS d WHERE d.event_id <"
	" COALESCE((SELECT min(e.id) FROM credits.events AS e), 9223372036854775807)"
	" AND d.status <> 'waiting' ORDER BY d.event_id LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, InvalidOid}
};

/* which transactions wrote events that are gone, whoever has deleted them */
static SqlStatement delete_order = {
	"DELETE FROM credits.event_order WHERE event_id IN ("
	"SELECT o.event_id FROM credits.event_order AS o WHERE o.event_id <"
	" COALESCE((SELECT min(e.id) FROM credits.events AS e), 9223372036854775807)"
	" ORDER BY o.event_id LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, InvalidOid}
};

/*
 * Deletes up to "limit" events that are older than credits.event_retention.
 */
static int64
sweep_events(int limit, bool may_commit)
{
	TimestampTz now = clock_now();
	TimestampTz until = clock_before(now, clock_event_retention());
	Datum		values[3];
	int64		nevents;
	int64		norder;
	int64		ndeliveries;

	/* keep those that may still count as failures to redeem a code */
	if (clock_refusal_window())
		until = Min(until, clock_before(now, clock_refusal_window()));
	values[0] = TimestampTzGetDatum(until);
	values[1] = Int32GetDatum(limit);
	values[2] = Int64GetDatum(rows_system());
	nevents = statements_run(&delete_events, values, NULL)->nrows;

	/*
	 * There is one row for each of them, and for those that others have
	 * deleted.
	 */
	norder = statements_run(&delete_order, &values[1], NULL)->nrows;
	ndeliveries = statements_run(&delete_deliveries, &values[1], NULL)->nrows;
	return nevents > 0 ? nevents : Max(norder, ndeliveries);
}

/*
 * Expires a purchase that was not paid in time.
 */
static JobOutcome
expire_purchase(const DueItem *item, int *steps)
{
	return purchases_expire(item->id) ? ITEM_DONE : ITEM_SKIPPED;
}

/*
 * Sweeps nothing.
 */
static int64
sweep_nothing(int limit, bool may_commit)
{
	return 0;
}

/*
 * Begins a part of the job: part 0 expires purchases, part 1 deletes events,
 * unless they are kept forever, part 2 makes partitions of the log, if it has any.
 * Returns false if there are no more parts.
 */
static bool
begin_part(JobRange *range)
{
	if (range->number == 0)
		range->find = &find_purchases;
	else if (range->number == 1)
		range->sweep = clock_event_retention() ? sweep_events : sweep_nothing;
	else
		range->sweep = partitions_sweep;
	return range->number <= 2;
}

/*
 * Reports that a purchase could not be expired or, with id 0, that something else
 * could not be done.
 */
static void
housekeep_failed(int64 id, ErrorData *error)
{
	const char *message = error->message ? error->message : "";

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 id ? errmsg("purchase " INT64_FORMAT " could not be expired: %s",
						 id, message) :
			 errmsg("events could not be deleted, or partitions not made: %s", message),
			 error->detail ? errdetail("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job housekeep_job = {
	.name = "credits_housekeep",
	.work = expire_purchase,
	.failed = housekeep_failed,
	.begin = begin_part
};

/*
 * SQL procedure: expires unpaid purchases, deletes old events, and makes partitions.
 */
Datum
credits_housekeep(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &housekeep_job);
}
