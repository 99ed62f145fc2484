/*
 * calendar.c
 *	  The periods of a subscription: when each begins, and which one an instant
 *	  is in.
 *
 * Period n begins n periods after the anchor, as a clock on the wall shows it
 * in the subscription's time zone.  Each start is computed from the anchor, none
 * from the start before: what is clamped to a month's end comes back to its day
 * in the next month that has it.
 *
 * A time on the wall that clocks jump over, or show twice, is understood as AT
 * TIME ZONE does: as if clocks had not been put forward yet, and as the second of
 * the two.  Period 0 begins at the anchor itself, whichever of the two that is.
 * Time zones are meant by name, never as abbreviations, which a session may
 * redefine.
 *
 * A zone can leave a whole day out, as Samoa did when it moved over the date
 * line: two periods of a day then begin at once, and the first of them is empty.
 * calendar_number never returns an empty one.
 */
#include "credits.h"

#include "calendar.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_period_number);
PG_FUNCTION_INFO_V1(credits_period_start);

/*
 * Tells whether a text is one of the periods that can be counted by.
 */
bool
calendar_is_period(const char *period)
{
	return strcmp(period, "day") == 0 || strcmp(period, "week") == 0 ||
		strcmp(period, "month") == 0 || strcmp(period, "year") == 0;
}

/*
 * Returns how many months a period has, or 0 if it is counted in days.
 */
static int
months_of(const char *period)
{
	return strcmp(period, "month") == 0 ? 1 :
		strcmp(period, "year") == 0 ? MONTHS_PER_YEAR : 0;
}

/*
 * Returns how many days a period has that is not counted in months.
 */
static int
days_of(const char *period)
{
	return strcmp(period, "week") == 0 ? 7 : 1;
}

/*
 * Raises the error for an instant that no timestamp can show.
 */
static void
out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("timestamp out of range"),
			 errdetail("The period would begin beyond the last instant that a timestamp can show.")));
}

/*
 * Returns a time zone that was checked when it was stored.
 */
static pg_tz *
find_zone(text *timezone)
{
	char		name[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone;

	text_to_cstring_buffer(timezone, name, sizeof(name));
	zone = pg_tzset(name);
	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown time zone"),
				 errdetail("It is \"%.64s\".", name),
				 errhint("Install the time zone data that this server lacks.")));
	return zone;
}

/*
 * Returns what a clock on the wall shows at an instant.
 */
static Timestamp
local_time(pg_tz *zone, TimestampTz at, struct pg_tm *tm)
{
	Timestamp	local;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(at, &offset, tm, &fsec, NULL, zone) != 0 ||
		tm2timestamp(tm, fsec, NULL, &local) != 0)
		out_of_range();
	return local;
}

/*
 * Returns the instant at which a clock on the wall shows a time.
 */
static TimestampTz
instant_of(pg_tz *zone, Timestamp local)
{
	TimestampTz at;
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		out_of_range();
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &at) != 0)
		out_of_range();
	return at;
}

/*
 * Returns when period n begins in a time zone.
 */
static TimestampTz
start_in(pg_tz *zone, TimestampTz anchor, const char *period, int every,
		 int64 n)
{
	int			months = months_of(period);
	Interval	span = {0};
	struct pg_tm tm;
	int64		units;

	if (n == 0)
		return anchor;
	if (pg_mul_s64_overflow(n, (int64) every *
							(months > 0 ? months : days_of(period)), &units) ||
		units > PG_INT32_MAX || units < -PG_INT32_MAX)
		out_of_range();
	if (months > 0)
		span.month = units;
	else
		span.day = units;
	return instant_of(zone, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(local_time(zone, anchor, &tm)),
																  IntervalPGetDatum(&span))));
}

/*
 * Returns when period n of a subscription begins; n may be negative.
 */
TimestampTz
calendar_start(TimestampTz anchor, text *timezone, const char *period,
			   int every, int64 n)
{
	return start_in(find_zone(timezone), anchor, period, every, n);
}

/*
 * Returns the number of the period that an instant is in: the last one that has
 * begun by then.
 */
int64
calendar_number(TimestampTz anchor, text *timezone, const char *period,
				int every, TimestampTz at)
{
	pg_tz	   *zone = find_zone(timezone);
	int			months = months_of(period);
	struct pg_tm from;
	struct pg_tm to;
	Timestamp	local_from = local_time(zone, anchor, &from);
	Timestamp	local_to = local_time(zone, at, &to);
	int64		n;

	/* next to it, whatever the clamping and the zone do */
	if (months > 0)
		n = ((to.tm_year - from.tm_year) * MONTHS_PER_YEAR +
			 to.tm_mon - from.tm_mon) / ((int64) every * months);
	else
		n = (local_to - local_from) / USECS_PER_DAY /
			((int64) every * days_of(period));

	while (start_in(zone, anchor, period, every, n) > at)
		n--;
	while (start_in(zone, anchor, period, every, n + 1) <= at)
		n++;
	return n;
}

/*
 * Returns the instant a span of time after another, as a clock on the wall shows
 * it in a time zone.
 */
TimestampTz
calendar_after(text *timezone, TimestampTz at, Interval *span)
{
	pg_tz	   *zone = find_zone(timezone);
	struct pg_tm tm;

	return instant_of(zone, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(local_time(zone, at, &tm)),
																  IntervalPGetDatum(span))));
}

/* ------------------------------------------------------------------------
 * functions
 */

/* What the functions below have in common */
typedef struct Calendar
{
	TimestampTz anchor;
	text	   *timezone;
	char	   *period;
	int32		every;
} Calendar;

/*
 * Returns a finite instant.
 */
static TimestampTz
arg_instant(FunctionCallInfo fcinfo, int n, const char *name)
{
	TimestampTz at;

	if (PG_ARGISNULL(n))
		raise_null(name);
	at = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name),
				 errdetail("It is %s.", timestamptz_to_str(at)),
				 errhint("Pass an instant for %s.", name)));
	return at;
}

/*
 * Reads anchor, time zone, period and every.
 */
static void
read_calendar(FunctionCallInfo fcinfo, Calendar *calendar)
{
	calendar->anchor = arg_instant(fcinfo, 0, "anchor");
	calendar->timezone = arg_timezone(fcinfo, 1);
	if (PG_ARGISNULL(2))
		raise_null("period");
	calendar->period = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (PG_ARGISNULL(3))
		raise_null("every");
	calendar->every = PG_GETARG_INT32(3);
	if (!calendar_is_period(calendar->period))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown period"),
				 errdetail("It is \"%.64s\".", calendar->period),
				 errhint("Use one of day, week, month, year.")));
	if (calendar->every < 1 || calendar->every > MAX_EVERY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("every must be between 1 and %d", MAX_EVERY),
				 errdetail("It is %d.", calendar->every),
				 errhint("Pass how many days, weeks, months or years a period has.")));
}

/*
 * Returns when a period begins.
 */
Datum
credits_period_start(PG_FUNCTION_ARGS)
{
	Calendar	calendar;

	read_calendar(fcinfo, &calendar);
	PG_RETURN_TIMESTAMPTZ(calendar_start(calendar.anchor, calendar.timezone,
										 calendar.period, calendar.every,
										 arg_id(fcinfo, 4, "n")));
}

/*
 * Returns the number of the period that an instant is in.
 */
Datum
credits_period_number(PG_FUNCTION_ARGS)
{
	Calendar	calendar;

	read_calendar(fcinfo, &calendar);
	PG_RETURN_INT64(calendar_number(calendar.anchor, calendar.timezone,
									calendar.period, calendar.every,
									arg_instant(fcinfo, 4, "at")));
}
