/*
 * args.c
 *	  Reading and checking the arguments of SQL functions.
 *
 * A NULL where a value is required is reported as 22004, an invalid value as
 * 22023.  Detail and hint name the argument, the value received and the values
 * allowed.
 *
 * The valid_* functions return a refusal, so that a batch can reject one item
 * and continue with the others.  All other functions raise an error.
 */
#include "credits.h"

#include "base/base.h"

#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_max_rows);

#define MAX_ROWS 1000

/* how much of a value that is not understood a message repeats */
#define MAX_SHOWN_BYTES 64

/*
 * Refuses a NULL where a value is required.  Always returns false.
 */
bool
refuse_null(Refusal *refusal, const char *name)
{
	return refuse(refusal, ERRCODE_NULL_VALUE_NOT_ALLOWED,
				  psprintf("%s must not be null", name), NULL,
				  psprintf("Pass a value for %s.", name));
}

/*
 * Raises the error for a NULL where a value is required.
 */
void
raise_null(const char *name)
{
	Refusal		refusal;

	refuse_null(&refusal, name);
	raise_refusal(&refusal);
}

/*
 * Returns whether two texts are equal byte for byte.
 */
bool
same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/*
 * Checks that a text has 1 to max_bytes bytes.
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
 * Returns whether a text contains a control character: one below U+0020,
 * U+007F, or in UTF-8 also U+0080 to U+009F.
 */
bool
has_control_character(const char *text, int len)
{
	const unsigned char *s = (const unsigned char *) text;
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
 * Checks a name: it must have 1 to max_bytes bytes, no space at either end,
 * and no control characters.
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
	if (has_control_character(s, len))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("%s must not contain control characters",
							   name),
					  psprintf("It has %d bytes.", len),
					  "Remove tabs, line ends and other control characters.");
	return true;
}

/*
 * Checks an amount of credits, which must be at least 1.
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
 * Checks that metadata is not too large.
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
 * Checks a name, and raises an error if it is not valid.
 */
static void
check_name(text *value, const char *name, int max_bytes)
{
	Refusal		refusal;

	if (!valid_name(&refusal, value, name, max_bytes))
		raise_refusal(&refusal);
}

/*
 * Checks the name of an account, and raises an error if it is not valid.
 */
void
check_account_name(text *name)
{
	check_name(name, "account", MAX_NAME_BYTES);
}

/*
 * Checks the unit of an account, and raises an error if it is not valid.
 */
void
check_unit(text *unit)
{
	check_name(unit, "unit", MAX_UNIT_BYTES);
}

/*
 * Returns an argument that is the name of an account.
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
 * Returns an argument that is an id.
 */
int64
arg_id(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		raise_null(name);
	return PG_GETARG_INT64(n);
}

/*
 * Returns an argument that is an amount of credits, at least 1.
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
 * Returns an argument that is a name and must not be null.
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
 * Returns an argument that is a text, or NULL if it is null.
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
 * Returns an argument that is a boolean and must not be null.
 */
bool
arg_bool(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		raise_null(name);
	return PG_GETARG_BOOL(n);
}

/*
 * Returns the names that an argument may have, for a hint.
 */
static char *
show_names(const char *const *names, int nnames)
{
	StringInfoData list;
	int			i;

	initStringInfo(&list);
	for (i = 0; i < nnames; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", names[i]);
	return list.data;
}

/*
 * Returns as much of a value that is not understood as a message repeats.
 */
char *
show_value(const char *value)
{
	return pnstrdup(value, pg_mbcliplen(value, strlen(value),
										MAX_SHOWN_BYTES));
}

/*
 * Refuses a value that is none of the names an argument may have.
 */
bool
refuse_choice(Refusal *refusal, const char *value, const char *name,
			  const char *const *names, int nnames)
{
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf("invalid value for %s", name),
				  psprintf("It is \"%s\".", show_value(value)),
				  psprintf("Use one of %s.", show_names(names, nnames)));
}

/*
 * Returns which of some names an argument is.
 */
int
arg_choice(FunctionCallInfo fcinfo, int n, const char *name,
		   const char *const *names, int nnames)
{
	Refusal		refusal;
	char	   *value;
	int			choice;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("Use one of %s.", show_names(names, nnames))));
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	choice = names_find(names, nnames, value);
	if (choice < 0)
	{
		refuse_choice(&refusal, value, name, names, nnames);
		raise_refusal(&refusal);
	}
	return choice;
}

/*
 * Checks a span of time, which must be above zero and at most 1000 years.
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
				  psprintf("%s must be greater than zero, and at most %d years",
						   name, MAX_SPAN_YEARS),
				  psprintf("It is %s.",
						   DatumGetCString(DirectFunctionCall1(interval_out,
															   IntervalPGetDatum(value)))),
				  "Pass a span of time, such as '15 minutes'.");
}

/*
 * Returns an argument that is a span of time and must not be null.
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
 * Returns an argument that says when new terms, such as a price, take effect;
 * the current time if it is null.
 *
 * It must not be in the past: transactions made since then were charged under
 * the terms in force at the time, and would no longer agree with the recorded
 * terms.
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
 * Returns an argument that says when terms cease to be in force, or DT_NOEND
 * if it is null.  It must be later than "from".
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
 * Returns an argument that names a time zone known to PostgreSQL.
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
				 errdetail("It is \"%s\".", show_value(name)),
				 errhint("Pass a name from pg_timezone_names, such as Europe/Berlin.")));
	return timezone;
}

/*
 * Returns an argument that is a reason and must not be null.
 */
text *
arg_reason(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		raise_null("reason");
	return arg_text(fcinfo, n, "reason", MAX_REASON_BYTES);
}

/*
 * Returns an argument that is metadata, or NULL if it is null.
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
 * Checks the number of credits that an account is opened with.
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

/*
 * Reads an argument that is a number of rows, from 1 to "most".  The hints say what to
 * do about a null, and about a number that is not allowed.
 */
int
arg_max_rows(FunctionCallInfo fcinfo, int n, int most, const char *null_hint,
			 const char *hint)
{
	int32		rows;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("max_rows must not be null"),
				 errhint("%s", null_hint)));
	rows = PG_GETARG_INT32(n);
	if (rows < 1 || rows > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be from 1 to %d", most),
				 errdetail("It is %d.", rows),
				 errhint("%s", hint)));
	return rows;
}

/*
 * Reads the number of rows of a page, which is an argument.
 */
int
arg_page_rows(FunctionCallInfo fcinfo, int n)
{
	return arg_max_rows(fcinfo, n, MAX_ROWS, "Leave max_rows out for 50 rows.",
						"Read more rows in pages: pass the last id of each to the next.");
}

/*
 * SQL function: checks and returns the number of rows of a page, for functions
 * that are written in SQL.
 */
Datum
credits_max_rows(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(arg_page_rows(fcinfo, 0));
}
