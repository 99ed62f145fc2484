/*
 * args.c
 *	  Reading and checking the arguments of SQL functions.
 *
 * A NULL where a value is needed is 22004, a bad value 22023.  Detail and hint
 * name the argument, what came, and what would do.
 *
 * The valid_* functions refuse, so that one bad item of many need not stop the
 * others; all else raises the refusal as an error.
 */
#include "credits.h"

#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MAX_SPAN_YEARS 1000

/*
 * Refuses a NULL where a value is needed.
 */
bool
refuse_null(Refusal *refusal, const char *name)
{
	return refuse(refusal, ERRCODE_NULL_VALUE_NOT_ALLOWED,
				  psprintf("%s must not be null", name), NULL,
				  psprintf("Pass a value for %s.", name));
}

/*
 * Raises the error for a NULL where a value is needed.
 */
void
raise_null(const char *name)
{
	Refusal		refusal;

	refuse_null(&refusal, name);
	raise_refusal(&refusal);
}

/*
 * Tells whether two texts are the same bytes.
 */
bool
same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/*
 * Checks the length of a text in bytes.
 */
bool
valid_text(Refusal *refusal, text *value, const char *name, int max_bytes)
{
	int			len = VARSIZE_ANY_EXHDR(value);

	if (len >= 1 && len <= max_bytes)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf(len < 1 ? "%s must not be empty" :
						   "%s is too long", name),
				  psprintf("It has %d bytes; 1 to %d are allowed.", len,
						   max_bytes),
				  psprintf("Pass a value of 1 to %d bytes for %s.", max_bytes,
						   name));
}

/*
 * Tells whether a text has a control character: below U+0020, U+007F, or in
 * UTF-8 also U+0080 to U+009F.
 */
static bool
has_control_character(const unsigned char *s, int len)
{
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	int			i;

	for (i = 0; i < len; i++)
	{
		if (s[i] < 0x20 || s[i] == 0x7f)
			return true;
		if (utf8 && s[i] == 0xc2 && i + 1 < len && s[i + 1] < 0xa0)
			return true;
	}
	return false;
}

/*
 * Checks a name: its length, no space at either end, no control character.
 */
bool
valid_name(Refusal *refusal, text *value, const char *name, int max_bytes)
{
	const char *s = VARDATA_ANY(value);
	int			len = VARSIZE_ANY_EXHDR(value);

	if (!valid_text(refusal, value, name, max_bytes))
		return false;
	if (s[0] == ' ' || s[len - 1] == ' ')
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("%s must not begin or end with a space", name),
					  psprintf("It is \"%s\".", text_to_cstring(value)),
					  "Trim it.");
	if (has_control_character((const unsigned char *) s, len))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("%s must not contain control characters",
							   name),
					  psprintf("It has %d bytes.", len),
					  "Remove tabs, line ends and other control characters.");
	return true;
}

/*
 * Checks an amount of credits: at least 1.
 */
bool
valid_amount(Refusal *refusal, int64 amount, const char *name)
{
	if (amount >= 1)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf("%s must be at least 1", name),
				  psprintf("It is " INT64_FORMAT ".", amount),
				  "Pass a positive number of credits.");
}

/*
 * Checks the size of metadata.
 */
bool
valid_metadata(Refusal *refusal, Jsonb *metadata)
{
	if (VARSIZE(metadata) <= MAX_METADATA_BYTES)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "metadata is too long",
				  psprintf("It has %zu bytes; at most %d are allowed.",
						   (Size) VARSIZE(metadata), MAX_METADATA_BYTES),
				  "Keep large documents in a table of your own, and their key in reference.");
}

/*
 * Checks a name, or raises an error.
 */
static void
check_name(text *value, const char *name, int max_bytes)
{
	Refusal		refusal;

	if (!valid_name(&refusal, value, name, max_bytes))
		raise_refusal(&refusal);
}

/*
 * Checks the name of an account.
 */
void
check_account_name(text *name)
{
	check_name(name, "account", MAX_NAME_BYTES);
}

/*
 * Checks the unit of an account.
 */
void
check_unit(text *unit)
{
	check_name(unit, "unit", MAX_UNIT_BYTES);
}

/*
 * Returns the name of an account, checked.
 */
text *
arg_account(FunctionCallInfo fcinfo, int n)
{
	text	   *name;

	if (PG_ARGISNULL(n))
		raise_null("account");
	name = PG_GETARG_TEXT_PP(n);
	check_account_name(name);
	return name;
}

/*
 * Returns an id.
 */
int64
arg_id(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		raise_null(name);
	return PG_GETARG_INT64(n);
}

/*
 * Returns an amount of credits, at least 1.
 */
int64
arg_amount(FunctionCallInfo fcinfo, int n, const char *name)
{
	Refusal		refusal;
	int64		amount;

	if (PG_ARGISNULL(n))
		raise_null(name);
	amount = PG_GETARG_INT64(n);
	if (!valid_amount(&refusal, amount, name))
		raise_refusal(&refusal);
	return amount;
}

/*
 * Returns a name that must be given, checked.
 */
text *
arg_name(FunctionCallInfo fcinfo, int n, const char *name)
{
	text	   *value;

	if (PG_ARGISNULL(n))
		raise_null(name);
	value = PG_GETARG_TEXT_PP(n);
	check_name(value, name, MAX_NAME_BYTES);
	return value;
}

/*
 * Returns an optional text, NULL if it is not given.
 */
text *
arg_text(FunctionCallInfo fcinfo, int n, const char *name, int max_bytes)
{
	Refusal		refusal;
	text	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = PG_GETARG_TEXT_PP(n);
	if (!valid_text(&refusal, value, name, max_bytes))
		raise_refusal(&refusal);
	return value;
}

/*
 * Returns a yes or no.
 */
bool
arg_bool(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		raise_null(name);
	return PG_GETARG_BOOL(n);
}

/*
 * Checks a span of time: more than nothing, and at most 1000 years.
 */
bool
valid_span(Refusal *refusal, const Interval *value, const char *name)
{
	if (value->month >= 0 && value->day >= 0 && value->time >= 0 &&
		(value->month != 0 || value->day != 0 || value->time != 0) &&
		value->month <= MAX_SPAN_YEARS * MONTHS_PER_YEAR &&
		value->day <= MAX_SPAN_YEARS * 366 &&
		value->time <= MAX_SPAN_YEARS * 366 * USECS_PER_DAY)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf("%s must be more than nothing, and at most %d years",
						   name, MAX_SPAN_YEARS),
				  psprintf("It is %s.",
						   DatumGetCString(DirectFunctionCall1(interval_out,
															   IntervalPGetDatum(value)))),
				  "Pass a span of time, such as '15 minutes'.");
}

/*
 * Returns a span of time.
 */
Interval *
arg_interval(FunctionCallInfo fcinfo, int n, const char *name)
{
	Refusal		refusal;
	Interval   *value;

	if (PG_ARGISNULL(n))
		raise_null(name);
	value = PG_GETARG_INTERVAL_P(n);
	if (!valid_span(&refusal, value, name))
		raise_refusal(&refusal);
	return value;
}

/*
 * Returns from when on terms are to be in force: not in the past, so that what
 * was done then stays explained.
 */
TimestampTz
arg_active_from(FunctionCallInfo fcinfo, int n, const char *name)
{
	TimestampTz now = clock_now();
	TimestampTz from;

	if (PG_ARGISNULL(n))
		return now;
	from = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(from))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", name),
				 errdetail("It is %s.", timestamptz_to_str(from)),
				 errhint("Leave %s out for now.", name)));
	if (from < now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be in the past", name),
				 errdetail("It is %s, before %s.", clock_show(from),
						   clock_show(now)),
				 errhint("Leave %s out for now: what was charged before stays as it is.",
						 name)));
	return from;
}

/*
 * Returns until when terms are to be in force, DT_NOEND if for good.
 */
TimestampTz
arg_active_until(FunctionCallInfo fcinfo, int n, TimestampTz from)
{
	TimestampTz until = PG_ARGISNULL(n) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(n);

	if (until <= from)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("active_until must be later than active_from"),
				 errdetail("It is %s, which is not after %s.",
						   clock_show(until), clock_show(from)),
				 errhint("Pass a later active_until, or none at all.")));
	return until;
}

/*
 * Returns a time zone that PostgreSQL knows.
 */
text *
arg_timezone(FunctionCallInfo fcinfo, int n)
{
	text	   *timezone;
	char	   *name;

	if (PG_ARGISNULL(n))
		raise_null("timezone");
	timezone = PG_GETARG_TEXT_PP(n);
	name = text_to_cstring(timezone);
	if (strlen(name) > TZ_STRLEN_MAX || pg_tzset(name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown time zone"),
				 errdetail("It is \"%.64s\".", name),
				 errhint("Pass a name that pg_timezone_names has, such as Europe/Berlin.")));
	return timezone;
}

/*
 * Returns a reason that must be given.
 */
text *
arg_reason(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		raise_null("reason");
	return arg_text(fcinfo, n, "reason", MAX_REASON_BYTES);
}

/*
 * Returns optional metadata, NULL if there is none.
 */
Jsonb *
arg_metadata(FunctionCallInfo fcinfo, int n)
{
	Refusal		refusal;
	Jsonb	   *metadata;

	if (PG_ARGISNULL(n))
		return NULL;
	metadata = PG_GETARG_JSONB_P(n);
	if (!valid_metadata(&refusal, metadata))
		raise_refusal(&refusal);
	return metadata;
}

/*
 * Checks the credits that an account is opened with.
 */
void
check_initial_credits(int64 credits)
{
	if (credits < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("initial_credits must not be negative"),
				 errdetail("It is " INT64_FORMAT ".", credits),
				 errhint("Pass 0 or more credits.")));
}
