/*
 * quiet_hours.c
 *	  Quiet hours: hours of the day in which people are told of critical events only.
 *
 * They are what the clock on the wall shows: it is quiet whenever it shows a time
 * from quiet_from on and before quiet_until.  So if clocks are put forward over the
 * end, it is quiet until they are; if they are put back behind the end, it is quiet
 * again for as long.
 *
 * Tested in test/sql/preferences.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/quiet_hours.h"

#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_set_quiet_hours);

/*
 * How many changes of the clock are passed when looking for the end.  No time zone
 * has had more in two days.
 */
#define MAX_CLOCK_CHANGES 10

/* A row of credits.quiet_hours */
typedef struct QuietHours
{
	ItemPointerData tid;
	int64		account_id;
	TimeADT		quiet_from;
	TimeADT		quiet_until;
	char	   *timezone;
} QuietHours;

static const StoreColumn quiet_hours_columns[] = {
	COLUMN_INT64(QuietHours, account_id),
	COLUMN_(TIMEOID, FORM_INT64, QuietHours, quiet_from),
	COLUMN_(TIMEOID, FORM_INT64, QuietHours, quiet_until),
	COLUMN_CSTRING(QuietHours, timezone),
	COLUMN_UNUSED(TIMESTAMPTZOID, "changed_at"),
	COLUMN_UNUSED(TEXTOID, "role")
};

static StoreTable quiet_hours_table = {
	.name = "quiet_hours",
	ROWS_OF(QuietHours, quiet_hours_columns)
};

static StoreIndex quiet_hours_by_account_id = {
	&quiet_hours_table, "quiet_hours_pkey", {"account_id"},.unique = true
};

static SqlStatement write_quiet_hours = {
	"INSERT INTO credits.quiet_hours AS q (account_id, quiet_from, quiet_until,"
	" timezone, changed_at, role) VALUES ($1, $2, $3, $4, $5, session_user)"
	" ON CONFLICT (account_id) DO UPDATE SET quiet_from = EXCLUDED.quiet_from,"
	" quiet_until = EXCLUDED.quiet_until, timezone = EXCLUDED.timezone,"
	" changed_at = EXCLUDED.changed_at, role = EXCLUDED.role"
	" WHERE (q.quiet_from, q.quiet_until, q.timezone)"
	" IS DISTINCT FROM (EXCLUDED.quiet_from, EXCLUDED.quiet_until, EXCLUDED.timezone)",
	(const Oid[]) {
		INT8OID, TIMEOID, TIMEOID, TEXTOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement delete_quiet_hours = {
	"DELETE FROM credits.quiet_hours WHERE account_id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

/*
 * Returns for how long it stays quiet if a clock shows a given time, and is not
 * changed: 0 if it is not quiet.
 */
static int64
quiet_for(const QuietHours *hours, int64 time)
{
	bool		quiet = hours->quiet_from < hours->quiet_until ?
		time >= hours->quiet_from && time < hours->quiet_until :
		time >= hours->quiet_from || time < hours->quiet_until;
	int64		left = hours->quiet_until - time;

	if (!quiet)
		return 0;
	return left > 0 ? left : left + USECS_PER_DAY;
}

/*
 * Returns the time of day that a clock shows which is ahead of UTC by a number of
 * seconds.
 */
static int64
time_of_day(TimestampTz at, long ahead)
{
	int64		time = (at % USECS_PER_DAY + ahead * USECS_PER_SEC) % USECS_PER_DAY;

	return time < 0 ? time + USECS_PER_DAY : time;
}

/*
 * Returns the first instant, from a given one on, at which a clock shows a time that
 * is not quiet.
 */
static TimestampTz
next_loud(const QuietHours *hours, pg_tz *timezone, TimestampTz from)
{
	TimestampTz at = from;
	int			i;

	for (i = 0; i < MAX_CLOCK_CHANGES; i++)
	{
		/* rounded down: a clock changes at a whole second */
		pg_time_t	second = timestamptz_to_time_t(at);
		pg_time_t	change;
		long		ahead;
		long		ahead_after;
		int			isdst;
		int			isdst_after;
		int			changes;
		int64		left;

		if (time_t_to_timestamptz(second) > at)
			second--;
		changes = pg_next_dst_boundary(&second, &ahead, &isdst, &change,
									   &ahead_after, &isdst_after, timezone);
		/* the time is beyond what can be represented */
		if (changes < 0)
			break;
		left = quiet_for(hours, time_of_day(at, ahead));
		if (left == 0)
			break;
		if (changes == 0 || at + left < time_t_to_timestamptz(change))
		{
			at += left;
			break;
		}
		at = time_t_to_timestamptz(change);
	}
	return IS_VALID_TIMESTAMP(at) ? at : from;
}

/*
 * Returns when it is no longer quiet for an account: the given instant, unless that
 * is in its quiet hours.
 */
TimestampTz
quiet_hours_end(int64 account_id, TimestampTz at)
{
	QuietHours	hours;
	pg_tz	   *timezone;

	if (TIMESTAMP_NOT_FINITE(at) ||
		!scan_find(NULL, &quiet_hours_by_account_id, GetActiveSnapshot(), &hours,
				   BY_INT64(account_id)))
		return at;
	timezone = pg_tzset(hours.timezone);
	/* another system may lack it, which is no reason to be silent */
	if (timezone == NULL)
		return at;
	return next_loud(&hours, timezone, at);
}

/*
 * Returns an argument that is a time of day; 24:00 is midnight, too.
 */
static TimeADT
arg_time(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		raise_null(name);
	return PG_GETARG_TIMEADT(n) % USECS_PER_DAY;
}

/*
 * SQL function: sets the quiet hours of an account, or removes them.  Returns
 * whether that was a change.
 */
Datum
credits_set_quiet_hours(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	bool		removes = PG_ARGISNULL(1) && PG_ARGISNULL(2) && PG_ARGISNULL(3);
	TimeADT		from = removes ? 0 : arg_time(fcinfo, 1, "quiet_from");
	TimeADT		until = removes ? 0 : arg_time(fcinfo, 2, "quiet_until");
	Account		account;
	Datum		values[5];

	if (!removes)
	{
		values[3] = PointerGetDatum(arg_timezone(fcinfo, 3));
		if (from == until)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("quiet_from and quiet_until must differ"),
					 errdetail("They are the same time of day."),
					 errhint("Leave both out to remove quiet hours; to tell nothing at all, use credits_set_preference.")));
	}
	store_check_writable("credits_set_quiet_hours()");
	guards_find_account(store_snapshot(true), name, &account);
	values[0] = Int64GetDatum(account.id);
	values[1] = TimeADTGetDatum(from);
	values[2] = TimeADTGetDatum(until);
	values[4] = TimestampTzGetDatum(clock_now());
	PG_RETURN_BOOL(statements_run(removes ? &delete_quiet_hours :
								  &write_quiet_hours, values, NULL)->nrows > 0);
}
