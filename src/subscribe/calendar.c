/*
 * calendar.c
 *	  The calendar of a subscription: when each period begins, and which period
 *	  an instant is in.
 *
 * Period n begins n periods after the anchor, in local time of the subscription's
 * time zone.  Each start is computed from the anchor and not from the start
 * before it, so a subscription of the 31st begins on the 28th in February, and
 * on the 31st again in March.
 *
 * A local time that does not exist, or exists twice, because clocks are changed
 * is interpreted as by AT TIME ZONE: the first as standard time, the second as
 * the later of the two.  Period 0 begins at the anchor itself in any case.  Time
 * zones are names and not abbreviations, whose meaning a session can change.
 *
 * A time zone may leave out a whole day, as Samoa did when it moved across the
 * date line.  Of two periods of a day that then begin at the same instant, the
 * first one is empty.  calendar_number never returns an empty period.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calendar.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_period_number);
PG_FUNCTION_INFO_V1(credits_period_start);

const char *const calendar_unit_names[] = {"day", "week", "month", "year"};

/* the length of each unit, in months or in days */
static const struct
{
	int			months;
	int			days;
}			lengths[] =

{
	[UNIT_DAY] = {0, 1},
	[UNIT_WEEK] = {0, 7},
	[UNIT_MONTH] = {1, 0},
	[UNIT_YEAR] = {MONTHS_PER_YEAR, 0}
};

/*
 * Raises the error for an instant that is out of range.
 */
static void
calendar_out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("timestamp out of range"),
			 errdetail("The period would begin beyond the range of timestamps.")));
}

/*
 * Returns a time zone by name.  It existed when it was stored, but the server's time
 * zone data may have been replaced since.  Returns NULL, with the refusal set, if it
 * is unknown.
 */
static pg_tz *
zone_named(text *timezone, Refusal *refusal)
{
	char		name[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone;

	text_to_cstring_buffer(timezone, name, sizeof(name));
	zone = pg_tzset(name);
	if (zone == NULL)
		refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
			   "unknown time zone",
			   psprintf("It is \"%s\".", show_value(name)),
			   "Install the time zone data that this server lacks.");
	return zone;
}

/*
 * The same, but raises an error.
 */
static pg_tz *
find_zone(text *timezone)
{
	Refusal		refusal = {0};
	pg_tz	   *zone = zone_named(timezone, &refusal);

	if (zone == NULL)
		raise_refusal(&refusal);
	return zone;
}

/*
 * Returns whether the server knows a time zone.  If not, the refusal says so.
 */
bool
calendar_knows(text *timezone, Refusal *refusal)
{
	return zone_named(timezone, refusal) != NULL;
}

/*
 * Converts an instant to local time.
 */
static Timestamp
calendar_local_time(pg_tz *zone, TimestampTz at, struct pg_tm *tm)
{
	Timestamp	local;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(at, &offset, tm, &fsec, NULL, zone) != 0 ||
		tm2timestamp(tm, fsec, NULL, &local) != 0)
		calendar_out_of_range();
	return local;
}

/*
 * Converts a local time to an instant.
 */
static TimestampTz
instant_of(pg_tz *zone, Timestamp local)
{
	TimestampTz at;
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		calendar_out_of_range();
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &at) != 0)
		calendar_out_of_range();
	return at;
}

/*
 * Returns when period n begins in a time zone.
 */
static TimestampTz
start_in(pg_tz *zone, TimestampTz anchor, CalendarUnit unit, int every,
		 int64 n)
{
	int			months = lengths[unit].months;
	Interval	span = {0};
	struct pg_tm tm;
	int64		units;

	if (n == 0)
		return anchor;
	if (pg_mul_s64_overflow(n, (int64) every *
							(months > 0 ? months : lengths[unit].days),
							&units) ||
		units > PG_INT32_MAX || units < -PG_INT32_MAX)
		calendar_out_of_range();
	if (months > 0)
		span.month = units;
	else
		span.day = units;
	return instant_of(zone, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(calendar_local_time(zone, anchor, &tm)),
																  IntervalPGetDatum(&span))));
}

/*
 * Returns when period n of a subscription begins; n may be negative.
 */
TimestampTz
calendar_start(TimestampTz anchor, text *timezone, CalendarUnit unit,
			   int every, int64 n)
{
	return start_in(find_zone(timezone), anchor, unit, every, n);
}

/*
 * Returns the number of the period that an instant is in, which is the last one
 * that begins at that instant or before.
 */
int64
calendar_number(TimestampTz anchor, text *timezone, CalendarUnit unit,
				int every, TimestampTz at)
{
	pg_tz	   *zone = find_zone(timezone);
	int			months = lengths[unit].months;
	struct pg_tm from;
	struct pg_tm to;
	Timestamp	local_from = calendar_local_time(zone, anchor, &from);
	Timestamp	local_to = calendar_local_time(zone, at, &to);
	int64		n;

	/*
	 * This may be off by one or so, because months are of different length
	 * and clocks are changed.
	 */
	if (months > 0)
		n = ((to.tm_year - from.tm_year) * MONTHS_PER_YEAR +
			 to.tm_mon - from.tm_mon) / ((int64) every * months);
	else
		n = (local_to - local_from) / USECS_PER_DAY /
			((int64) every * lengths[unit].days);

	while (start_in(zone, anchor, unit, every, n) > at)
		n--;
	while (start_in(zone, anchor, unit, every, n + 1) <= at)
		n++;
	return n;
}

/*
 * Adds an interval to an instant, in local time of a time zone.
 */
TimestampTz
calendar_after(text *timezone, TimestampTz at, Interval *span)
{
	pg_tz	   *zone = find_zone(timezone);
	struct pg_tm tm;

	return instant_of(zone, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(calendar_local_time(zone, at, &tm)),
																  IntervalPGetDatum(span))));
}

/* ------------------------------------------------------------------------
 * functions
 */

/* The arguments that the functions below have in common */
typedef struct Calendar
{
	TimestampTz anchor;
	text	   *timezone;
	CalendarUnit unit;
	int32		every;
} Calendar;

/*
 * Returns a finite instant.
 */
static TimestampTz
calendar_arg_instant(FunctionCallInfo fcinfo, int n, const char *name)
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
	calendar->anchor = calendar_arg_instant(fcinfo, 0, "anchor");
	calendar->timezone = arg_timezone(fcinfo, 1);
	calendar->unit = ARG_CHOICE(2, "period", calendar_unit_names);
	if (PG_ARGISNULL(3))
		raise_null("every");
	calendar->every = PG_GETARG_INT32(3);
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
										 calendar.unit, calendar.every,
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
									calendar.unit, calendar.every,
									calendar_arg_instant(fcinfo, 4, "at")));
}
