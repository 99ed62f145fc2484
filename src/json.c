/*
 * json.c
 *	  Putting JSON objects together.
 *
 * An object begins with its first member in an empty string.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

/*
 * Begins a member of a JSON object.
 */
static void
json_key(StringInfo json, const char *key)
{
	appendStringInfo(json, "%s\"%s\": ", json->len ? ", " : "{", key);
}

/*
 * Appends a C string.
 */
void
json_cstring(StringInfo json, const char *key, const char *value)
{
	json_key(json, key);
	escape_json(json, value);
}

/*
 * Appends a text, null if there is none.
 */
void
json_text(StringInfo json, const char *key, text *value)
{
	if (value)
		json_cstring(json, key, text_to_cstring(value));
	else
	{
		json_key(json, key);
		appendStringInfoString(json, "null");
	}
}

/*
 * Appends a number.
 */
void
json_int64(StringInfo json, const char *key, int64 value)
{
	json_key(json, key);
	appendStringInfo(json, INT64_FORMAT, value);
}

/*
 * Appends a value that is JSON already.
 */
void
json_raw(StringInfo json, const char *key, const char *value)
{
	json_key(json, key);
	appendStringInfoString(json, value);
}

/*
 * Appends a numeric, with all its digits.
 */
void
json_numeric(StringInfo json, const char *key, Datum value)
{
	json_raw(json, key, DatumGetCString(DirectFunctionCall1(numeric_out,
															value)));
}

/*
 * Appends a span of time that is not negative, null for none.  It is written
 * the same and read the same whatever the setting IntervalStyle.
 */
void
json_interval(StringInfo json, const char *key, const Interval *value)
{
	StringInfoData span;

	if (value == NULL)
	{
		json_text(json, key, NULL);
		return;
	}
	initStringInfo(&span);
	if (value->month != 0)
		appendStringInfo(&span, "%d months ", value->month);
	if (value->day != 0)
		appendStringInfo(&span, "%d days ", value->day);
	if (value->time % USECS_PER_SEC != 0)
		appendStringInfo(&span, INT64_FORMAT " us ", value->time);
	else if (value->time != 0)
		appendStringInfo(&span, INT64_FORMAT " seconds ",
						 value->time / USECS_PER_SEC);
	if (span.len > 0)
		span.data[--span.len] = '\0';
	json_cstring(json, key, span.len > 0 ? span.data : "0 seconds");
}

/*
 * Appends an object that is whole, under an id.
 */
void
json_by_id(StringInfo json, int64 id, StringInfo object)
{
	char		key[32];

	snprintf(key, sizeof(key), INT64_FORMAT, id);
	json_key(json, key);
	appendStringInfo(json, "%s}", object->data);
}

/*
 * Appends an instant in ISO 8601, in UTC.
 */
void
json_time(StringInfo json, const char *key, TimestampTz value)
{
	char		buf[MAXDATELEN + 1];
	const int	utc = 0;

	JsonEncodeDateTime(buf, TimestampTzGetDatum(value), TIMESTAMPTZOID, &utc);
	json_cstring(json, key, buf);
}

/*
 * Appends an instant, null for never.
 */
void
json_instant(StringInfo json, const char *key, TimestampTz at)
{
	if (at == DT_NOEND)
		json_text(json, key, NULL);
	else
		json_time(json, key, at);
}

/*
 * Ends an object and returns it as a value.
 */
Jsonb *
json_document(StringInfo json)
{
	appendStringInfoChar(json, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(json->data)));
}
