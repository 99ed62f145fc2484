/*
 * housekeep.c
 *	  The procedure that puts away what has had its time.
 */
#include "credits.h"

#include "job.h"
#include "purchases.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_housekeep);

/* what others are at just now is theirs */
static SqlStatement find_purchases = {
	"SELECT p.expires_at, p.id FROM credits.purchases AS p"
	" WHERE p.status = 'pending' AND (p.expires_at, p.id) > ($1, $2)"
	" AND p.expires_at <= $3 ORDER BY p.expires_at, p.id LIMIT $4"
	" FOR UPDATE SKIP LOCKED",
	(const Oid[]) {
		TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid
	}
};

/* the oldest are those with the lowest ids, or nearly so: none are looked for */
static SqlStatement delete_events = {
	"DELETE FROM credits.events WHERE id IN ("
	"SELECT e.id FROM credits.events AS e WHERE e.created_at < $1 AND e.id IN ("
	"SELECT f.id FROM credits.events AS f ORDER BY f.id LIMIT $2)"
	" FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/*
 * Deletes some events that are older than credits.event_retention says.  Those
 * are kept in any case that still count as failures to redeem a code.
 */
static int64
sweep_events(int limit)
{
	TimestampTz now = clock_now();
	TimestampTz until = clock_before(now, clock_event_retention());
	Datum		values[2];

	if (clock_redeem_window())
		until = Min(until, clock_before(now, clock_redeem_window()));
	values[0] = TimestampTzGetDatum(until);
	values[1] = Int32GetDatum(limit);
	return sql_run(&delete_events, values, NULL)->nrows;
}

/*
 * Expires a purchase that nobody has paid in time.
 */
static bool
expire_purchase(const DueItem *item)
{
	return purchases_expire(item->id);
}

/*
 * Begins a part of the work.
 */
static bool
begin_part(JobRange *range)
{
	if (range->number == 0)
		range->find = &find_purchases;
	else
		range->sweep = sweep_events;
	return range->number == 0 ||
		(range->number == 1 && clock_event_retention());
}

/*
 * Reports that some work could not be done.  It is not known which events
 * could not be deleted.
 */
static void
housekeep_failed(int64 id, ErrorData *error)
{
	const char *message = error->message ? error->message : "";

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 id ? errmsg("purchase " INT64_FORMAT " could not be expired: %s",
						 id, message) :
			 errmsg("old events could not be deleted: %s", message),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job housekeep_job = {
	.name = "credits_housekeep",
	.work = expire_purchase,
	.failed = housekeep_failed,
	.begin = begin_part
};

/*
 * Puts away what has had its time.
 */
Datum
credits_housekeep(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &housekeep_job);
}
