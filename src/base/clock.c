/*
 * clock.c
 *	  The current time, and settings that are spans of time.
 *
 * The time is read from the system clock at each call, not once per
 * transaction as now() is: otherwise a long transaction could spend credits
 * that expired after it began.  The setting credits.test_clock replaces the
 * clock in tests.
 */
#include "credits.h"

#include "base/base.h"

#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_now);

/*
 * The current values of the settings, decoded.  They point to the "extra" data
 * of the GUC machinery, which frees it when the setting changes, for example at
 * the end of a transaction that had used SET LOCAL.
 */
static TimestampTz *test_clock = NULL;
static Interval *alert_cooldown = NULL;
static Interval *delivery_max_age = NULL;
static Interval *dispute_deadline = NULL;
static Interval *archive_after = NULL;
static Interval *delivery_retention = NULL;
static Interval *event_retention = NULL;
static Interval *refund_window = NULL;
static Intervals *expiry_warning = NULL;
static Intervals *renewal_warning = NULL;
static Interval *key_retention = NULL;
static Interval *payload_retention = NULL;
static Interval *purchase_expiry = NULL;
static Interval *refusal_window = NULL;
static Interval *referral_account_age = NULL;
static Interval *refund_grace = NULL;

/*
 * Returns the current time.
 */
TimestampTz
clock_now(void)
{
	return test_clock ? *test_clock : GetCurrentTimestamp();
}

/*
 * SQL function: returns the current time, as the extension sees it.
 */
Datum
credits_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(clock_now());
}

/*
 * Returns the time a span after "from", or "from" itself if span is NULL.
 */
TimestampTz
clock_after(TimestampTz from, Interval *span)
{
	if (span == NULL)
		return from;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(from),
												   IntervalPGetDatum(span)));
}

/*
 * Returns a time as text for a message, palloc'd: timestamptz_to_str returns a
 * static buffer, which a second call within the same message would overwrite.
 */
char *
clock_show(TimestampTz at)
{
	return pstrdup(timestamptz_to_str(at));
}

/*
 * Returns the time a span before "until".
 */
TimestampTz
clock_before(TimestampTz until, Interval *span)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(until),
												   IntervalPGetDatum(span)));
}

/*
 * Returns how long credits live that are given back to an expired grant: until
 * credits.refund_grace after "from".
 */
TimestampTz
clock_refund_grace(TimestampTz from)
{
	return clock_after(from, refund_grace);
}

/*
 * Returns the setting credits.alert_cooldown, or NULL if it is zero.
 */
Interval *
clock_alert_cooldown(void)
{
	return alert_cooldown;
}

/*
 * Returns the setting credits.delivery_max_age, or NULL if it is zero.
 */
Interval *
clock_delivery_max_age(void)
{
	return delivery_max_age;
}

/*
 * Returns the setting credits.dispute_deadline, or NULL if it is zero.
 */
Interval *
clock_dispute_deadline(void)
{
	return dispute_deadline;
}

/*
 * Returns the setting credits.archive_after, or NULL if it is zero.
 */
Interval *
clock_archive_after(void)
{
	return archive_after;
}

/*
 * Returns the setting credits.delivery_retention, or NULL if it is zero.
 */
Interval *
clock_delivery_retention(void)
{
	return delivery_retention;
}

/*
 * Returns the setting credits.event_retention, or NULL if it is zero.
 */
Interval *
clock_event_retention(void)
{
	return event_retention;
}

/*
 * Returns the setting credits.expiry_warning, or NULL if it is empty.  A
 * caller that keeps it across a change of the setting must copy it.
 */
Intervals *
clock_expiry_warning(void)
{
	return expiry_warning;
}

/*
 * Returns the setting credits.key_retention, or NULL if it is zero.
 */
Interval *
clock_key_retention(void)
{
	return key_retention;
}

/*
 * Returns the setting credits.payload_retention, or NULL if it is zero.
 */
Interval *
clock_payload_retention(void)
{
	return payload_retention;
}

/*
 * Returns the setting credits.renewal_warning, or NULL if it is empty.  A
 * caller that keeps it across a change of the setting must copy it.
 */
Intervals *
clock_renewal_warning(void)
{
	return renewal_warning;
}

/*
 * Returns when a purchase started at "from" expires: credits.purchase_expiry
 * later, or never (DT_NOEND) if that setting is zero.
 */
TimestampTz
clock_purchase_expiry(TimestampTz from)
{
	return purchase_expiry ? clock_after(from, purchase_expiry) : DT_NOEND;
}

/*
 * Returns the setting credits.refusal_window, or NULL if it is zero.
 */
Interval *
clock_refusal_window(void)
{
	return refusal_window;
}

/*
 * Returns the setting credits.refund_window, or NULL if it is zero.
 */
Interval *
clock_refund_window(void)
{
	return refund_window;
}

/*
 * Returns the setting credits.referral_account_age, or NULL if it is zero.
 */
Interval *
clock_referral_account_age(void)
{
	return referral_account_age;
}

/*
 * Check hook of credits.test_clock: it must be empty, or a date and time.
 *
 * This calls the datetime parser directly instead of timestamptz_in, since a
 * check hook should report a bad value by returning false, not by an error.
 *
 * The value is stored with the offset of UTC, in the form that every session reads
 * in the same way: a parallel worker is given it before the settings on which names
 * of time zones depend.
 */
bool
clock_check_test_clock(char **newval, void **extra, GucSource source)
{
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype;
	int			tz;
	struct pg_tm tm;
	fsec_t		fsec;
	TimestampTz value;
	char	   *stored;

	if (**newval == '\0')
		return true;
	if (ParseDateTime(*newval, work, sizeof(work), field, ftype,
					  MAXDATEFIELDS, &nf) != 0 ||
		DecodeDateTime_compat(field, ftype, nf, &dtype, &tm, &fsec, &tz) != 0 ||
		dtype != DTK_DATE ||
		tm.tm_year < 1970 || tm.tm_year > 9999 ||
		tm2timestamp(&tm, fsec, &tz, &value) != 0)
	{
		GUC_check_errdetail("It must be empty, or a date and time of the years 1970 to 9999 such as \"2030-01-31 12:00:00+00\".");
		return false;
	}
	*extra = guc_extra_alloc(sizeof(TimestampTz));
	if (*extra == NULL)
		return false;
	*(TimestampTz *) *extra = value;

	(void) timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL);
	stored = guc_extra_alloc(MAXDATELEN + 1);
	if (stored == NULL)
		return false;
	snprintf(stored, MAXDATELEN + 1,
			 fsec == 0 ? "%04d-%02d-%02d %02d:%02d:%02d+00" :
			 "%04d-%02d-%02d %02d:%02d:%02d.%06d+00",
			 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			 (int) fsec);
	guc_value_free(*newval);
	*newval = stored;
	return true;
}

/*
 * Assign hook of credits.test_clock.
 */
void
clock_assign_test_clock(const char *newval, void *extra)
{
	test_clock = (TimestampTz *) extra;
}

/*
 * Parses an interval from 0 to MAX_SPAN_YEARS.  Returns false if it is not
 * one.
 */
static bool
read_span(const char *text, Interval *span)
{
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nf;
	int			dtype;
	struct pg_itm_in itm;

	memset(&itm, 0, sizeof(itm));
	return ParseDateTime(text, work, sizeof(work), field, ftype,
						 MAXDATEFIELDS, &nf) == 0 &&
		DecodeInterval(field, ftype, nf, INTERVAL_FULL_RANGE,
					   &dtype, &itm) == 0 &&
		dtype == DTK_DELTA &&
		itmin2interval(&itm, span) == 0 &&
		span->month >= 0 && span->day >= 0 && span->time >= 0 &&
		span->month / MONTHS_PER_YEAR + span->day / 365 +
		span->time / (365 * USECS_PER_DAY) <= MAX_SPAN_YEARS;
}

/*
 * Returns whether a span of time is zero.
 */
static bool
is_zero(const Interval *span)
{
	return span->month == 0 && span->day == 0 && span->time == 0;
}

/*
 * Check hook of settings that are an interval of 0 or more.  The "extra" data
 * is an Interval, or NULL for zero.
 */
bool
clock_check_interval(char **newval, void **extra, GucSource source)
{
	Interval	value;

	if (!read_span(*newval, &value))
	{
		GUC_check_errdetail("It must be an interval from 0 to %d years, such as \"7 days\".",
							MAX_SPAN_YEARS);
		return false;
	}
	if (is_zero(&value))
		return true;
	*extra = guc_extra_alloc(sizeof(Interval));
	if (*extra == NULL)
		return false;
	*(Interval *) *extra = value;
	return true;
}

/*
 * Check hook of settings that are a comma-separated list of intervals.  The
 * "extra" data is an Intervals, or NULL if the list is empty.
 */
bool
clock_check_intervals(char **newval, void **extra, GucSource source)
{
	char		item[MAXDATELEN + 1];
	const char *from = *newval;
	Intervals	list = {0};

	if (from[strspn(from, " ")] == '\0')
		return true;
	for (;;)
	{
		size_t		len = strcspn(from, ",");

		if (list.n == MAX_INTERVALS || len > MAXDATELEN)
			break;
		memcpy(item, from, len);
		item[len] = '\0';
		if (!read_span(item, &list.spans[list.n]) ||
			is_zero(&list.spans[list.n]))
			break;
		list.n++;
		if (from[len] == '\0')
		{
			*extra = guc_extra_alloc(sizeof(Intervals));
			if (*extra == NULL)
				return false;
			*(Intervals *) *extra = list;
			return true;
		}
		from += len + 1;
	}
	GUC_check_errdetail("It must be empty, or up to %d intervals above 0, such as \"7 days, 1 day\".",
						MAX_INTERVALS);
	return false;
}

/*
 * Assign hook of credits.alert_cooldown.
 */
void
clock_assign_alert_cooldown(const char *newval, void *extra)
{
	alert_cooldown = (Interval *) extra;
}

/*
 * Assign hook of credits.delivery_max_age.
 */
void
clock_assign_delivery_max_age(const char *newval, void *extra)
{
	delivery_max_age = (Interval *) extra;
}

/*
 * Assign hook of credits.dispute_deadline.
 */
void
clock_assign_dispute_deadline(const char *newval, void *extra)
{
	dispute_deadline = (Interval *) extra;
}

/*
 * Assign hook of credits.archive_after.
 */
void
clock_assign_archive_after(const char *newval, void *extra)
{
	archive_after = (Interval *) extra;
}

/*
 * Assign hook of credits.delivery_retention.
 */
void
clock_assign_delivery_retention(const char *newval, void *extra)
{
	delivery_retention = (Interval *) extra;
}

/*
 * Assign hook of credits.event_retention.
 */
void
clock_assign_event_retention(const char *newval, void *extra)
{
	event_retention = (Interval *) extra;
}

/*
 * Assign hook of credits.expiry_warning.
 */
void
clock_assign_expiry_warning(const char *newval, void *extra)
{
	expiry_warning = (Intervals *) extra;
}

/*
 * Assign hook of credits.key_retention.
 */
void
clock_assign_key_retention(const char *newval, void *extra)
{
	key_retention = (Interval *) extra;
}

/*
 * Assign hook of credits.payload_retention.
 */
void
clock_assign_payload_retention(const char *newval, void *extra)
{
	payload_retention = (Interval *) extra;
}

/*
 * Assign hook of credits.renewal_warning.
 */
void
clock_assign_renewal_warning(const char *newval, void *extra)
{
	renewal_warning = (Intervals *) extra;
}

/*
 * Assign hook of credits.refund_grace.
 */
void
clock_assign_refund_grace(const char *newval, void *extra)
{
	refund_grace = (Interval *) extra;
}

/*
 * Assign hook of credits.refund_window.
 */
void
clock_assign_refund_window(const char *newval, void *extra)
{
	refund_window = (Interval *) extra;
}

/*
 * Assign hook of credits.purchase_expiry.
 */
void
clock_assign_purchase_expiry(const char *newval, void *extra)
{
	purchase_expiry = (Interval *) extra;
}

/*
 * Assign hook of credits.refusal_window.
 */
void
clock_assign_refusal_window(const char *newval, void *extra)
{
	refusal_window = (Interval *) extra;
}

/*
 * Assign hook of credits.referral_account_age.
 */
void
clock_assign_referral_account_age(const char *newval, void *extra)
{
	referral_account_age = (Interval *) extra;
}
