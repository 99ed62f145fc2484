/*
 * hits.c
 *	  Hits: what a rule of credits.activity_rules finds suspicious.
 *
 * A hit is a row of credits.activity_hits, whose key makes it once for each account,
 * rule and window.  It is committed with its event.
 */
#include "credits.h"

#include "jobs/hits.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"

/* in the order in which the statements that find hits return them */
enum
{
	HIT_RULE = 1,
	HIT_ACTIVITY,
	HIT_THRESHOLD,
	HIT_PAUSES,
	HIT_STARTS_AT,
	HIT_ENDS_AT,
	HIT_FIGURE,
	HIT_LIMIT,
	HIT_MEAN,
	HIT_SPENT
};

#define HIT_COLUMNS \
	"r.name, r.kind, r.threshold, r.pauses, w.starts_at, w.starts_at + r.span"

/* the windows of a rule that begin with one of some instants */
#define WINDOW_OF(at) \
	"date_bin(r.span, " at ", '2000-01-01 00:00:00+00') AS starts_at"

/* it has not ended when the rule was set, nor is it forgotten, nor reported */
#define IS_LOOKED_AT(since) \
	" r.enabled AND w.starts_at + r.span > r.set_at" \
	" AND w.starts_at + r.span > " since \
	" AND NOT EXISTS (SELECT FROM credits.activity_hits AS x" \
	" WHERE x.account_id = $1 AND x.rule = r.name AND x.starts_at = w.starts_at)"

/*
 * The hits of an account by its sums, in the windows that have an hour from $2 to $3.
 * The mean goes back to the baseline, but not beyond $4, from where on it is known;
 * there is none for less than a day.
 */
static SqlStatement find_by_sums = {
	"SELECT " HIT_COLUMNS ","
	" CASE r.kind WHEN 'spend' THEN s.spent ELSE s.refunded END,"
	" round(CASE r.kind WHEN 'spend' THEN r.threshold * m.mean"
	" ELSE r.threshold * greatest(s.spent, 0) END, 2),"
	" round(CASE r.kind WHEN 'spend' THEN m.mean END, 2), s.spent"
	" FROM credits.activity_rules AS r"
	" CROSS JOIN LATERAL (SELECT DISTINCT " WINDOW_OF("h.hour")
	" FROM credits.activity_hours AS h"
	" WHERE h.account_id = $1 AND h.hour BETWEEN $2 AND $3) AS w"
	" CROSS JOIN LATERAL (SELECT sum(h.spent) AS spent, sum(h.refunded) AS refunded"
	" FROM credits.activity_hours AS h WHERE h.account_id = $1"
	" AND h.hour >= w.starts_at AND h.hour < w.starts_at + r.span) AS s"
	" CROSS JOIN LATERAL (SELECT greatest(w.starts_at - r.baseline, $4) AS starts_at) AS b"
	/* per window, of the hourly mean */
	" CROSS JOIN LATERAL (SELECT greatest(COALESCE(sum(h.spent), 0), 0)"
	" * extract(epoch FROM r.span)"
	" / nullif(extract(epoch FROM w.starts_at - b.starts_at), 0) AS mean"
	" FROM credits.activity_hours AS h WHERE h.account_id = $1 AND r.kind = 'spend'"
	" AND s.spent >= r.minimum"
	" AND h.hour >= b.starts_at AND h.hour < w.starts_at) AS m"
	" WHERE r.kind IN ('spend', 'refunds') AND" IS_LOOKED_AT("$5")
	" AND CASE r.kind WHEN 'spend' THEN s.spent >= r.minimum"
	" AND b.starts_at <= w.starts_at - '24 hours'::interval"
	" AND s.spent > r.threshold * m.mean"
	" ELSE s.refunded >= r.minimum"
	" AND s.refunded > r.threshold * greatest(s.spent, 0) END"
	" ORDER BY r.name, w.starts_at",
	(const Oid[]) {
		INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

/* the hits of an account by what it was refused, in the windows that have $2 */
static SqlStatement find_by_refusals = {
	"SELECT " HIT_COLUMNS ", s.refused, r.threshold, NULL::numeric, NULL::numeric"
	" FROM credits.activity_rules AS r"
	" CROSS JOIN LATERAL (SELECT " WINDOW_OF("$2") ") AS w"
	/* who has changed the detail by hand must not stop the job */
	" CROSS JOIN LATERAL (SELECT sum(CASE jsonb_typeof(e.detail -> 'count')"
	" WHEN 'number' THEN (e.detail ->> 'count')::numeric ELSE 1 END) AS refused"
	" FROM credits.events AS e WHERE e.account_id = $1"
	" AND e.kind IN ('deduction_refused', 'hold_refused', 'redemption_refused')"
	" AND (e.kind = 'redemption_refused') = (r.kind = 'redemptions')"
	" AND e.created_at >= w.starts_at AND e.created_at < w.starts_at + r.span) AS s"
	" WHERE r.kind IN ('refusals', 'redemptions') AND" IS_LOOKED_AT("$3")
	" AND s.refused > r.threshold"
	" ORDER BY r.name, w.starts_at",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement insert_hit = {
	"INSERT INTO credits.activity_hits (account_id, rule, starts_at, ends_at,"
	" found_at, event_id, pauses) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	(const Oid[]) {
		INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		BOOLOID, InvalidOid
	}
};

/*
 * Adds a number of a hit to its detail, if it has it.
 */
static void
add_number(JsonObject *json, const char *name, const SqlResult *hits, int i, int column)
{
	bool		isnull;
	Datum		value = statements_value(hits, i, column, &isnull);

	if (!isnull)
		json_numeric(json, name, DirectFunctionCall1(numeric_trim_scale, value));
}

/*
 * Reports hits of an account, each by an event.  Returns whether there are any.
 */
static bool
report_all(int64 account_id, const SqlResult *hits)
{
	TimestampTz now = clock_now();
	int			i;

	for (i = 0; i < (int) hits->nrows; i++)
	{
		JsonObject	json;
		Datum		values[7];
		bool		isnull;

		values[0] = Int64GetDatum(account_id);
		values[1] = statements_value(hits, i, HIT_RULE, &isnull);
		values[2] = statements_value(hits, i, HIT_STARTS_AT, &isnull);
		values[3] = statements_value(hits, i, HIT_ENDS_AT, &isnull);
		values[4] = TimestampTzGetDatum(now);
		values[6] = statements_value(hits, i, HIT_PAUSES, &isnull);
		json_begin(&json);
		json_text(&json, "rule", DatumGetTextPP(values[1]));
		json_text(&json, "activity",
				  DatumGetTextPP(statements_value(hits, i, HIT_ACTIVITY, &isnull)));
		json_time(&json, "starts_at", DatumGetTimestampTz(values[2]));
		json_time(&json, "ends_at", DatumGetTimestampTz(values[3]));
		add_number(&json, "figure", hits, i, HIT_FIGURE);
		add_number(&json, "limit", hits, i, HIT_LIMIT);
		add_number(&json, "threshold", hits, i, HIT_THRESHOLD);
		add_number(&json, "mean", hits, i, HIT_MEAN);
		add_number(&json, "spent", hits, i, HIT_SPENT);
		json_bool(&json, "pauses", DatumGetBool(values[6]));
		values[5] = Int64GetDatum(events_announce("activity_suspicious", account_id, 0,
												  now, &json));
		(void) statements_run(&insert_hit, values, NULL);
	}
	return hits->nrows > 0;
}

/*
 * Looks for hits of an account by its sums, in the windows that have an hour from
 * "first" to "last".  Its mean is known from "known_from" on; what has ended up to
 * "since" is not looked at any more.  Returns whether there are any.
 */
bool
hits_by_sums(int64 account_id, TimestampTz first, TimestampTz last,
			 TimestampTz known_from, TimestampTz since)
{
	Datum		values[5];

	values[0] = Int64GetDatum(account_id);
	values[1] = TimestampTzGetDatum(first);
	values[2] = TimestampTzGetDatum(last);
	values[3] = TimestampTzGetDatum(known_from);
	values[4] = TimestampTzGetDatum(since);
	return report_all(account_id, statements_run(&find_by_sums, values, NULL));
}

/*
 * Looks for hits of an account by what it was refused, in the windows of an instant,
 * unless they have ended up to "since".  Returns whether there are any.
 */
bool
hits_by_refusals(int64 account_id, TimestampTz at, TimestampTz since)
{
	Datum		values[3];

	values[0] = Int64GetDatum(account_id);
	values[1] = TimestampTzGetDatum(at);
	values[2] = TimestampTzGetDatum(since);
	return report_all(account_id, statements_run(&find_by_refusals, values, NULL));
}
