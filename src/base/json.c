/*
 * json.c
 *	  Building jsonb documents.
 *
 * An object is built as an array of key and value pairs, and turned into jsonb
 * once, by PostgreSQL's own functions.  Texts and numbers are copied into the
 * current memory context.  Keys, documents and objects or arrays that become
 * members are not copied, and must not be changed or freed before the document
 * has been made.
 */
#include "credits.h"

#include "base/json.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

/*
 * Begins an object.
 */
void
json_begin(JsonObject *json)
{
	memset(json, 0, sizeof(JsonObject));
}

/*
 * Adds a member to an object, and returns its value, which the caller must
 * set.
 */
static JsonbValue *
add_member(JsonObject *json, const char *key)
{
	JsonbPair  *member;

	if (json->nmembers == json->max_members)
	{
		json->max_members = json->members ? 2 * json->max_members : 8;
		json->members = json->members ?
			repalloc(json->members, json->max_members * sizeof(JsonbPair)) :
			palloc(json->max_members * sizeof(JsonbPair));
	}
	member = &json->members[json->nmembers++];
	member->key.type = jbvString;
	member->key.val.string.val = unconstify(char *, key);
	member->key.val.string.len = strlen(key);
	return &member->value;
}

/*
 * Sets a value to a copy of a C string.
 */
static void
set_cstring(JsonbValue *value, const char *string)
{
	value->type = jbvString;
	value->val.string.len = strlen(string);
	value->val.string.val = pnstrdup(string, value->val.string.len);
}

/*
 * Sets a value to a whole number.
 */
static void
set_int64(JsonbValue *value, int64 number)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
}

/*
 * Sets a value to an object.
 */
static void
set_object(JsonbValue *value, const JsonObject *object)
{
	value->type = jbvObject;
	value->val.object.nPairs = object->nmembers;
	value->val.object.pairs = object->members;
}

/*
 * Adds a null.
 */
void
json_null(JsonObject *json, const char *key)
{
	add_member(json, key)->type = jbvNull;
}

/*
 * Adds a boolean.
 */
void
json_bool(JsonObject *json, const char *key, bool value)
{
	JsonbValue *member = add_member(json, key);

	member->type = jbvBool;
	member->val.boolean = value;
}

/*
 * Adds a C string.
 */
void
json_cstring(JsonObject *json, const char *key, const char *value)
{
	set_cstring(add_member(json, key), value);
}

/*
 * Adds a text, or a null if it is NULL.
 */
void
json_text(JsonObject *json, const char *key, text *value)
{
	JsonbValue *member = add_member(json, key);

	if (value == NULL)
	{
		member->type = jbvNull;
		return;
	}
	member->type = jbvString;
	member->val.string.val = text_to_cstring(value);
	member->val.string.len = strlen(member->val.string.val);
}

/*
 * Adds a whole number.
 */
void
json_int64(JsonObject *json, const char *key, int64 value)
{
	set_int64(add_member(json, key), value);
}

/*
 * Adds a numeric.
 */
void
json_numeric(JsonObject *json, const char *key, Datum value)
{
	JsonbValue *member = add_member(json, key);

	member->type = jbvNumeric;
	member->val.numeric = DatumGetNumericCopy(value);
}

/*
 * Adds a span of time that is not negative, or a null if it is NULL.
 */
void
json_interval(JsonObject *json, const char *key, const Interval *value)
{
	StringInfoData span;

	if (value == NULL)
	{
		json_null(json, key);
		return;
	}

	/*
	 * interval_out depends on the setting IntervalStyle; this text does not,
	 * and is read the same under each of its values.
	 */
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
 * Adds a time, in ISO 8601 format and UTC.
 */
void
json_time(JsonObject *json, const char *key, TimestampTz value)
{
	char		buf[MAXDATELEN + 1];
	const int	utc = 0;

	JsonEncodeDateTime(buf, TimestampTzGetDatum(value), TIMESTAMPTZOID, &utc);
	json_cstring(json, key, buf);
}

/*
 * Adds a time, or a null if it is DT_NOEND.
 */
void
json_instant(JsonObject *json, const char *key, TimestampTz at)
{
	if (at == DT_NOEND)
		json_null(json, key);
	else
		json_time(json, key, at);
}

/*
 * Adds a value that is part of another document.
 */
void
json_value(JsonObject *json, const char *key, const JsonbValue *value)
{
	*add_member(json, key) = *value;
}

/*
 * Adds a whole document, which must be an object or an array.
 */
void
json_jsonb(JsonObject *json, const char *key, const Jsonb *value)
{
	JsonbValue *member = add_member(json, key);

	member->type = jbvBinary;
	member->val.binary.len = VARSIZE(value) - VARHDRSZ;
	member->val.binary.data = unconstify(JsonbContainer *, &value->root);
}

/*
 * Adds an array.
 */
void
json_array(JsonObject *json, const char *key, const JsonArray *array)
{
	JsonbValue *member = add_member(json, key);

	member->type = jbvArray;
	member->val.array.nElems = array->nelements;
	member->val.array.elems = array->elements;
	member->val.array.rawScalar = false;
}

/*
 * Adds an object under a name.
 */
void
json_by_name(JsonObject *json, const char *name, const JsonObject *object)
{
	set_object(add_member(json, name), object);
}

/*
 * Adds an object whose key is an id.
 */
void
json_by_id(JsonObject *json, int64 id, const JsonObject *object)
{
	set_object(add_member(json, psprintf(INT64_FORMAT, id)), object);
}

/*
 * Adds all members of another object.
 */
void
json_members(JsonObject *json, const JsonObject *more)
{
	int			i;

	for (i = 0; i < more->nmembers; i++)
		*add_member(json, more->members[i].key.val.string.val) =
			more->members[i].value;
}

/*
 * Returns an object as jsonb.
 */
Jsonb *
json_document(const JsonObject *json)
{
	JsonbParseState *state = NULL;
	int			i;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (i = 0; i < json->nmembers; i++)
	{
		/* there may be one for each of many grants */
		CHECK_FOR_INTERRUPTS();
		pushJsonbValue(&state, WJB_KEY, &json->members[i].key);
		pushJsonbValue(&state, WJB_VALUE, &json->members[i].value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * Begins an array.
 */
void
json_begin_array(JsonArray *array)
{
	memset(array, 0, sizeof(JsonArray));
}

/*
 * Adds an element to an array, and returns it for the caller to set.
 */
static JsonbValue *
add_element(JsonArray *array)
{
	if (array->nelements == array->max_elements)
	{
		array->max_elements = array->elements ? 2 * array->max_elements : 8;
		array->elements = array->elements ?
			repalloc(array->elements,
					 array->max_elements * sizeof(JsonbValue)) :
			palloc(array->max_elements * sizeof(JsonbValue));
	}
	return &array->elements[array->nelements++];
}

/*
 * Adds a C string to an array.
 */
void
json_add_cstring(JsonArray *array, const char *value)
{
	set_cstring(add_element(array), value);
}

/*
 * Adds a whole number to an array.
 */
void
json_add_int64(JsonArray *array, int64 value)
{
	set_int64(add_element(array), value);
}

/*
 * Adds an object to an array.
 */
void
json_add_object(JsonArray *array, const JsonObject *object)
{
	set_object(add_element(array), object);
}

/*
 * Returns an array as jsonb.
 */
Jsonb *
json_array_document(const JsonArray *array)
{
	JsonbParseState *state = NULL;
	int			i;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (i = 0; i < array->nelements; i++)
		pushJsonbValue(&state, WJB_ELEM, &array->elements[i]);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/*
 * Returns a document as text.
 */
char *
json_to_cstring(Jsonb *document)
{
	return JsonbToCString(NULL, &document->root, VARSIZE(document));
}
