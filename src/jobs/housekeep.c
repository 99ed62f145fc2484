/*
 * housekeep.c
 *	  credits_housekeep: a job that expires unpaid purchases, deletes what has been
 *	  kept long enough, makes partitions of the log, and continues erasures and
 *	  corrections.
 */
#include "credits.h"

#include "admin/corrections.h"
#include "jobs/partitions.h"
#include "jobs/privacy.h"
#include "ledger/job.h"
#include "ledger/ledger.h"
#include "sell/purchases.h"
#include "tell/feed.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
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
 * Events are examined in order of their ids, a batch at a time.  There is no index on
 * created_at, but ids and times increase together, more or less: so the first batch in
 * which nothing is old is the last.
 *
 * What a consumer has not read is kept: it has read what is up to its safe id or
 * is seen by the snapshot that it has acknowledged; of what was not written here,
 * what was there then (see src/tell/feed.c).  What people are still to be told is
 * kept, too.
 */
static SqlStatement delete_events = {
	"WITH seen AS MATERIALIZED ("
	"SELECT f.id, f.created_at FROM credits.events AS f"
	" WHERE f.id > $4 ORDER BY f.id LIMIT $2), "
	"gone AS (DELETE FROM credits.events WHERE id IN ("
	"SELECT e.id FROM credits.events AS e WHERE e.created_at < $1"
	" AND e.id IN (SELECT s.id FROM seen AS s)"
	" AND NOT EXISTS (SELECT FROM credits.consumers AS c"
	" LEFT JOIN credits.consumer_positions AS p ON p.consumer = c.name AND p.system = $3"
	" LEFT JOIN credits.event_order AS o ON o.event_id = e.id AND o.system = $3"
	" WHERE e.id > c.safe_id AND (p.snapshot IS NULL"
	" OR (o.xid IS NULL AND e.id > p.last_id)"
	" OR NOT pg_visible_in_snapshot(o.xid, p.snapshot)))"
	" AND NOT EXISTS (SELECT FROM credits.deliveries AS d"
	" WHERE d.event_id = e.id AND d.status = 'waiting')"
	" FOR UPDATE OF e SKIP LOCKED) RETURNING 1) "
	"SELECT (SELECT count(*) FROM gone), COALESCE(max(s.id), 9223372036854775807),"
	" COALESCE(bool_or(s.created_at < $1), false) FROM seen AS s",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, INT8OID, INT8OID, InvalidOid}
};

/* deliveries that have ended, of events that are gone: nobody reads these again */
static SqlStatement delete_deliveries = {
	"DELETE FROM credits.deliveries WHERE id IN ("
	"SELECT d.id FROM credits.deliveries AS d WHERE d.event_id > $2 AND d.event_id <= $3"
	" AND d.status <> 'waiting'"
	" AND NOT EXISTS (SELECT FROM credits.events AS e WHERE e.id = d.event_id)"
	" ORDER BY d.event_id LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, INT8OID, INT8OID, InvalidOid}
};

/* which transactions wrote events that are gone, whoever has deleted them */
static SqlStatement delete_order = {
	"DELETE FROM credits.event_order WHERE event_id IN ("
	"SELECT o.event_id FROM credits.event_order AS o"
	" WHERE o.event_id > $2 AND o.event_id <= $3"
	" AND NOT EXISTS (SELECT FROM credits.events AS e WHERE e.id = o.event_id)"
	" ORDER BY o.event_id LIMIT $1 FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {INT4OID, INT8OID, INT8OID, InvalidOid}
};

/*
 * Deliveries that have ended, of events that are kept.  Of what the reader that makes
 * deliveries would read again after a restore, they are kept: it would make them again.
 * They are examined in order of their ids, as events are.
 */
static SqlStatement delete_ended = {
	"WITH seen AS MATERIALIZED ("
	"SELECT d.id, d.event_at FROM credits.deliveries AS d"
	" WHERE d.id > $3 ORDER BY d.id LIMIT $2), "
	"gone AS (DELETE FROM credits.deliveries WHERE id IN ("
	"SELECT d.id FROM credits.deliveries AS d WHERE d.id IN (SELECT s.id FROM seen AS s)"
	" AND d.ended_at < $1 AND d.event_id <= COALESCE("
	"(SELECT c.safe_id FROM credits.consumers AS c WHERE c.name = $4), 0)"
	" FOR UPDATE SKIP LOCKED) RETURNING 1) "
	"SELECT (SELECT count(*) FROM gone), COALESCE(max(s.id), 9223372036854775807),"
	" COALESCE(bool_or(s.event_at < $1), false) FROM seen AS s",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, INT8OID, TEXTOID, InvalidOid}
};

/* payloads of events that are not waiting, and whose facts are all that counts */
static SqlStatement erase_payloads = {
	"UPDATE credits.stripe_events SET payload = NULL, body = NULL WHERE id IN ("
	"SELECT v.id FROM credits.stripe_events AS v"
	" WHERE (v.payload IS NOT NULL OR v.body IS NOT NULL) AND v.received_at < $1"
	" AND v.result <> 'waiting' AND NOT EXISTS (SELECT FROM credits.stripe_subjects AS s"
	" WHERE s.subject = v.subject AND s.waiting IS NOT NULL)"
	" ORDER BY v.received_at, v.id LIMIT $2 FOR UPDATE OF v SKIP LOCKED)",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/* events, then deliveries, up to this id have been examined by this run of the job */
static int64 examined = PG_INT64_MIN;

/*
 * Examines up to "limit" events, and deletes those that are older than
 * credits.event_retention, with what belongs to events that are gone.  Returns how
 * many rows were deleted.  *more says whether the next ones may be old, too.
 */
static int64
examine_events(int limit, bool *more)
{
	TimestampTz now = clock_now();
	TimestampTz until = clock_before(now, clock_event_retention());
	SqlResult  *result;
	Datum		values[4];
	bool		isnull;
	int64		ndeleted;
	int64		nothers;

	/* keep those that may still count as failures to redeem a code */
	if (clock_refusal_window())
		until = Min(until, clock_before(now, clock_refusal_window()));
	values[0] = TimestampTzGetDatum(until);
	values[1] = Int32GetDatum(limit);
	values[2] = Int64GetDatum(rows_system());
	values[3] = Int64GetDatum(examined);
	result = statements_run(&delete_events, values, NULL);
	ndeleted = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	*more = DatumGetBool(statements_value(result, 0, 3, &isnull));

	/*
	 * the events are gone for the next statement, also those that others
	 * delete
	 */
	values[0] = Int32GetDatum(limit);
	values[1] = Int64GetDatum(examined);
	values[2] = statements_value(result, 0, 2, &isnull);
	nothers = statements_run(&delete_order, values, NULL)->nrows;
	nothers = Max(nothers,
				  (int64) statements_run(&delete_deliveries, values, NULL)->nrows);
	/* a full batch of these may not have been all */
	if (nothers < limit)
		examined = DatumGetInt64(values[2]);
	else
		*more = true;
	return ndeleted > 0 ? ndeleted : nothers;
}

/*
 * Deletes old events, up to "limit", passing over those that are kept.
 */
static int64
sweep_events(int limit, bool may_commit)
{
	int64		ndeleted;
	bool		more;

	do
	{
		CHECK_FOR_INTERRUPTS();
		ndeleted = examine_events(limit, &more);
	} while (ndeleted == 0 && more);
	return ndeleted;
}

/*
 * Deletes deliveries that have ended longer ago than credits.delivery_retention, up to
 * "limit", passing over those that are kept.
 */
static int64
sweep_deliveries(int limit, bool may_commit)
{
	TimestampTz until = clock_before(clock_now(), clock_delivery_retention());
	int64		ndeleted;
	bool		more;

	/* what was told a short time before is not told again */
	if (clock_alert_cooldown())
		until = Min(until, clock_before(clock_now(), clock_alert_cooldown()));
	do
	{
		Datum		values[4];
		SqlResult  *result;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		values[0] = TimestampTzGetDatum(until);
		values[1] = Int32GetDatum(limit);
		values[2] = Int64GetDatum(examined);
		values[3] = CStringGetTextDatum(FEED_DELIVERIES);
		result = statements_run(&delete_ended, values, NULL);
		ndeleted = DatumGetInt64(statements_value(result, 0, 1, &isnull));
		examined = DatumGetInt64(statements_value(result, 0, 2, &isnull));
		more = DatumGetBool(statements_value(result, 0, 3, &isnull));
	} while (ndeleted == 0 && more);
	return ndeleted;
}

/*
 * Erases payloads of Stripe's events that are older than credits.payload_retention, up
 * to "limit".
 */
static int64
sweep_payloads(int limit, bool may_commit)
{
	Datum		values[2];

	values[0] = TimestampTzGetDatum(clock_before(clock_now(), clock_payload_retention()));
	values[1] = Int32GetDatum(limit);
	return (int64) statements_run(&erase_payloads, values, NULL)->nrows;
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
 * unless they are kept forever, part 2 makes partitions of the log, if it has any,
 * parts 3 and 4 delete deliveries and payloads, if they are not kept, part 5 continues
 * erasures, and part 6 corrections.  Returns false if there are no more parts.
 */
static bool
begin_part(JobRange *range)
{
	if (range->number == 0)
		range->find = &find_purchases;
	else if (range->number == 1)
	{
		examined = PG_INT64_MIN;
		range->sweep = clock_event_retention() ? sweep_events : sweep_nothing;
	}
	else if (range->number == 2)
		range->sweep = partitions_sweep;
	else if (range->number == 3)
	{
		examined = PG_INT64_MIN;
		range->sweep = clock_delivery_retention() ? sweep_deliveries : sweep_nothing;
	}
	else if (range->number == 4)
		range->sweep = clock_payload_retention() ? sweep_payloads : sweep_nothing;
	else if (range->number == 5)
	{
		privacy_begin_sweep();
		range->sweep = privacy_sweep;
	}
	else
	{
		apply_corrections_begin_sweep();
		range->sweep = apply_corrections_sweep;
	}
	return range->number <= 6;
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
			 errmsg("something could not be deleted, made, erased or corrected: %s", message),
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
 * SQL procedure: expires unpaid purchases, deletes what is old, makes partitions, and
 * continues erasures and corrections.
 */
Datum
credits_housekeep(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &housekeep_job);
}
