/*
 * housekeep.c
 *	  The procedure that puts away what has had its time.
 */
#include "credits.h"

#include "job.h"
#include "purchases.h"
#include "sql.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_housekeep);

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
 * Begins a part of the work.
 */
static bool
begin_part(JobRange *range)
{
	static int64 (*const sweeps[]) (int limit) = {
		purchases_expire_due, sweep_events
	};
	int			n = clock_event_retention() ? 2 : 1;

	if (range->number >= n)
		return false;
	range->sweep = sweeps[range->number];
	return true;
}

/*
 * Reports that some work could not be done.
 */
static void
housekeep_failed(int64 id, ErrorData *error)
{
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not keep house: %s",
					error->message ? error->message : ""),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job housekeep_job = {
	.name = "credits_housekeep",
	.begin = begin_part,
	.failed = housekeep_failed
};

/*
 * Puts away what has had its time.
 */
Datum
credits_housekeep(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &housekeep_job);
}
