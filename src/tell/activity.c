/*
 * activity.c
 *	  Rules for what is suspicious in the activity of accounts.
 *
 * They are set here, and evaluated by a job, see src/jobs/watch.c.  The job counts
 * what accounts spend from the moment on at which there is a rule.
 *
 * Tested in test/sql/activity.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "base/sets.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/activity.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_activity_rule);
PG_FUNCTION_INFO_V1(credits_remove_activity_rule);

#define MAX_THRESHOLD INT64CONST(1000000000)

/* decimal places of a threshold */
#define MAX_THRESHOLD_SCALE 6

/* spans of time, in hours */
#define MIN_SPAN 1
#define MAX_SPAN (7 * HOURS_PER_DAY)
#define MIN_BASELINE HOURS_PER_DAY
#define MAX_BASELINE (366 * HOURS_PER_DAY)

typedef enum ActivityKind
{
	ACTIVITY_SPEND,
	ACTIVITY_REFUNDS,
	ACTIVITY_REFUSALS,
	ACTIVITY_REDEMPTIONS
} ActivityKind;

static const char *const activity_names[] = {
	"spend", "refunds", "refusals", "redemptions"
};

/* the arguments of credits_set_activity_rule */
enum
{
	SET_RULE_NAME,
	SET_RULE_KIND,
	SET_RULE_THRESHOLD,
	SET_RULE_SPAN,
	SET_RULE_MINIMUM,
	SET_RULE_BASELINE,
	SET_RULE_PAUSES,
	SET_RULE_ENABLED
};

static const SetArg set_rule_args[] = {
	[SET_RULE_NAME] = {"name", SET_NAMES},
	[SET_RULE_KIND] = {"kind", SET_NEEDED},
	[SET_RULE_THRESHOLD] = {"threshold", SET_NEEDED},
	[SET_RULE_SPAN] = {"span", SET_KEEPS, "1 hour"},
	[SET_RULE_MINIMUM] = {"minimum", SET_KEEPS},
	[SET_RULE_BASELINE] = {"baseline", SET_KEEPS},
	[SET_RULE_PAUSES] = {"pauses", SET_KEEPS, "false"},
	[SET_RULE_ENABLED] = {"enabled", SET_KEEPS, "true"}
};

/* of a rule of kind spend that does not say */
#define DEFAULT_BASELINE (28 * HOURS_PER_DAY)

/* in the order of the arguments */
static SqlStatement find_rule = {
	"SELECT name, kind, threshold, span, minimum, baseline, pauses, enabled"
	" FROM credits.activity_rules WHERE name = $1 FOR NO KEY UPDATE",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement insert_rule = {
	"INSERT INTO credits.activity_rules (name, kind, threshold, span, minimum,"
	" baseline, pauses, enabled, set_at, role)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, session_user)"
	" ON CONFLICT DO NOTHING",
	(const Oid[]) {
		TEXTOID, TEXTOID, NUMERICOID, INTERVALOID, INT8OID, INTERVALOID, BOOLOID,
		BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement update_rule = {
	"UPDATE credits.activity_rules SET kind = $2, threshold = $3, span = $4,"
	" minimum = $5, baseline = $6, pauses = $7, enabled = $8, set_at = $9,"
	" role = session_user WHERE name = $1",
	(const Oid[]) {
		TEXTOID, TEXTOID, NUMERICOID, INTERVALOID, INT8OID, INTERVALOID, BOOLOID,
		BOOLOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement delete_rule = {
	"DELETE FROM credits.activity_rules WHERE name = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/* a conflict would wait for whoever has locked the row */
static SqlStatement begin_position = {
	"INSERT INTO credits.activity_position (one, safe_id, refused_at, again_id,"
	" again_at, last_id, last_at, since)"
	" SELECT true, $1, $2, $1, $2, $1, $2, $2 WHERE EXISTS (SELECT FROM credits.activity_rules)"
	" AND NOT EXISTS (SELECT FROM credits.activity_position)"
	" ON CONFLICT DO NOTHING",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement end_position = {
	"DELETE FROM credits.activity_position WHERE one IN ("
	"SELECT p.one FROM credits.activity_position AS p"
	" WHERE NOT EXISTS (SELECT FROM credits.activity_rules) FOR UPDATE SKIP LOCKED)",
	(const Oid[]) {InvalidOid}
};

/*
 * Begins to count the activity of accounts from now on, if there are rules and
 * nobody has begun yet.
 */
void
activity_begin(void)
{
	Datum		values[2];

	values[0] = Int64GetDatum(store_newest_id(&log_table));
	values[1] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&begin_position, values, NULL);
}

/*
 * Forgets how far the activity of accounts has been counted, if there are no rules.
 * If a run of the job is at it, that is left to the next one.  Whoever sets a rule at
 * the same moment may not be seen: then the job begins again.
 */
void
activity_end(void)
{
	(void) statements_run(&end_position, NULL, NULL);
}

/*
 * Checks the threshold of a rule.
 */
static void
check_threshold(FunctionCallInfo fcinfo)
{
	Numeric		value;
	Datum		datum;
	Datum		rounded;

	if (PG_ARGISNULL(SET_RULE_THRESHOLD))
		raise_null("threshold");
	value = PG_GETARG_NUMERIC(SET_RULE_THRESHOLD);
	datum = NumericGetDatum(value);
	if (!numeric_is_nan(value) && compare(datum, number(0)) > 0 &&
		compare(datum, number(MAX_THRESHOLD)) <= 0)
	{
		rounded = DirectFunctionCall2(numeric_round, datum,
									  Int32GetDatum(MAX_THRESHOLD_SCALE));
		if (compare(datum, rounded) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("threshold must be above 0, and at most " INT64_FORMAT ", with up to %d decimals",
					MAX_THRESHOLD, MAX_THRESHOLD_SCALE),
			 errdetail("It is %.64s.",
					   DatumGetCString(DirectFunctionCall1(numeric_out, datum))),
			 errhint("Pass a multiple of the mean for spend, a share such as 0.5 for refunds, and a number for refusals and redemptions.")));
}

/*
 * Reads an argument that is a span of whole hours.  What is said in days becomes
 * hours, so that no change of a time zone's clock makes it longer or shorter.
 */
static void
read_hours(Set *set, int n, int min, int max)
{
	FunctionCallInfo fcinfo = set->merged;
	const char *name = set->args[n].name;
	Interval   *value = arg_interval(fcinfo, n, name);
	Interval   *hours = palloc0(sizeof(Interval));
	int64		time = 0;

	/* arg_interval has seen to it that this does not overflow */
	if (value->month == 0)
		time = value->time + value->day * USECS_PER_DAY;
	if (time < min * USECS_PER_HOUR || time > max * USECS_PER_HOUR ||
		time % USECS_PER_HOUR != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be from %d to %d whole hours", name, min, max),
				 errdetail("It is %s.",
						   DatumGetCString(DirectFunctionCall1(interval_out,
															   IntervalPGetDatum(value)))),
				 errhint("Pass a span such as '%s'.",
						 n == SET_RULE_SPAN ? "1 hour" : "28 days")));
	hours->time = time;
	sets_replace(set, n, IntervalPGetDatum(hours));
}

/*
 * Refuses an argument that rules of a kind do not have; what is kept from another
 * kind goes away.
 */
static void
drop_arg(Set *set, int n, ActivityKind kind)
{
	if (!sets_drop(set, n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a rule for %s has no %s", activity_names[kind],
						set->args[n].name),
				 errhint("Leave %s out.", set->args[n].name)));
}

/*
 * Checks a rule, in the arguments with what is kept.
 */
static void
check_rule(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	ActivityKind kind = (ActivityKind) ARG_CHOICE(SET_RULE_KIND, "kind",
												  activity_names);

	check_threshold(fcinfo);
	read_hours(set, SET_RULE_SPAN, MIN_SPAN, MAX_SPAN);
	if (kind == ACTIVITY_SPEND)
	{
		if (PG_ARGISNULL(SET_RULE_BASELINE))
		{
			Interval   *baseline = palloc0(sizeof(Interval));

			baseline->time = DEFAULT_BASELINE * USECS_PER_HOUR;
			sets_replace(set, SET_RULE_BASELINE, IntervalPGetDatum(baseline));
		}
		read_hours(set, SET_RULE_BASELINE, MIN_BASELINE, MAX_BASELINE);
	}
	else
		drop_arg(set, SET_RULE_BASELINE, kind);
	if (kind == ACTIVITY_SPEND || kind == ACTIVITY_REFUNDS)
	{
		if (PG_ARGISNULL(SET_RULE_MINIMUM))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("minimum must not be null"),
					 errdetail("A rule for %s needs it, so that accounts which seldom do anything are not suspicious.",
							   activity_names[kind]),
					 errhint("Pass how many credits are worth attention.")));
		(void) arg_amount(fcinfo, SET_RULE_MINIMUM, "minimum");
	}
	else
		drop_arg(set, SET_RULE_MINIMUM, kind);
	(void) arg_bool(fcinfo, SET_RULE_PAUSES, "pauses");
	(void) arg_bool(fcinfo, SET_RULE_ENABLED, "enabled");
}

/*
 * Completes the arguments with the rule that there is.
 */
static void
merge_rule(Set *set, const SqlResult *found)
{
	Datum	   *values = palloc0(lengthof(set_rule_args) * sizeof(Datum));
	bool	   *isnull = palloc0(lengthof(set_rule_args) * sizeof(bool));
	int			i;

	for (i = 0; found->nrows > 0 && i < (int) lengthof(set_rule_args); i++)
		values[i] = statements_value(found, 0, i + 1, &isnull[i]);
	sets_merge(set, found->nrows > 0 ? values : NULL, isnull);
}

/*
 * SQL function: sets a rule.  Returns whether that was a change.
 */
Datum
credits_set_activity_rule(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, SET_RULE_NAME, "name");
	Datum		values[lengthof(set_rule_args) + 1];
	bool		isnull[lengthof(set_rule_args) + 1] = {false};
	Set			set;

	SETS_READ(&set, fcinfo, set_rule_args);
	store_check_writable("credits_set_activity_rule()");
	values[0] = PointerGetDatum(name);
	for (;;)
	{
		SqlResult  *found = statements_run(&find_rule, values, NULL);
		int			i;

		merge_rule(&set, found);
		check_rule(&set);
		if (sets_unchanged(&set))
			PG_RETURN_BOOL(false);
		for (i = 1; i < (int) lengthof(set_rule_args); i++)
		{
			values[i] = set.merged->args[i].value;
			isnull[i] = set.merged->args[i].isnull;
		}
		values[i] = TimestampTzGetDatum(clock_now());
		if (statements_run(found->nrows > 0 ? &update_rule : &insert_rule,
						   values, isnull)->nrows > 0)
			break;
		/* another transaction has made it just now: find that one */
		CHECK_FOR_INTERRUPTS();
	}
	activity_begin();
	PG_RETURN_BOOL(true);
}

/*
 * SQL function: removes a rule.
 */
Datum
credits_remove_activity_rule(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Datum		value = PointerGetDatum(name);

	store_check_writable("credits_remove_activity_rule()");
	if (statements_run(&delete_rule, &value, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("activity rule \"%s\" does not exist", text_to_cstring(name)),
				 errhint("See credits.activity_rules.")));
	activity_end();
	PG_RETURN_VOID();
}
