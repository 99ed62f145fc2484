/*
 * terms.c
 *	  Reading and adding to what a transaction rests on.
 *
 * The terms of a transaction are a JSON object.  Its members: by grant id, the
 * terms of a grant that it makes or the new expiry of one that it prolongs;
 * expires_at, of a hold; total and parts, of a request that was split over two
 * accounts; via, the pools between member and paying pool; quantity and price
 * of a charge; and what a topic adds of its own.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/*
 * Returns a member of a transaction's terms, or NULL.
 */
JsonbValue *
terms_get(const Entry *entry, const char *key)
{
	if (entry->terms == NULL || !JB_ROOT_IS_OBJECT(entry->terms))
		return NULL;
	return getKeyJsonValueFromContainer(&entry->terms->root, key, strlen(key),
										NULL);
}

/*
 * Returns a number of a transaction's terms, as numeric; 0 if it has none of
 * that name.
 */
Datum
terms_numeric(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);

	return value && value->type == jbvNumeric ?
		NumericGetDatum(value->val.numeric) : 0;
}

/*
 * Reads a whole number of a transaction's terms.  Returns false, and leaves the
 * value as it is, if it has none of that name.
 */
bool
terms_int64(const Entry *entry, const char *key, int64 *value)
{
	Datum		number = terms_numeric(entry, key);

	if (number)
		*value = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	return number != 0;
}

/*
 * Returns an instant of a transaction's terms, DT_NOEND if it has none of that
 * name.
 */
TimestampTz
terms_time(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);

	if (value == NULL || value->type != jbvString)
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(pnstrdup(value->val.string.val,
																			value->val.string.len)),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/*
 * Returns a document with one member of a transaction's terms alone, or NULL.
 */
Jsonb *
terms_part(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);
	Jsonb	   *part;
	StringInfoData json;

	if (value == NULL)
		return NULL;
	part = JsonbValueToJsonb(value);
	initStringInfo(&json);
	json_raw(&json, key, JsonbToCString(NULL, &part->root, VARSIZE(part)));
	return json_document(&json);
}

/*
 * Returns a list of ids that a transaction's terms have, as pointers to int64.
 */
List *
terms_ids(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);
	List	   *ids = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (value == NULL || value->type != jbvBinary)
		return NIL;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM && element.type == jbvNumeric)
		{
			int64	   *id = palloc(sizeof(int64));

			*id = DatumGetInt64(DirectFunctionCall1(numeric_int8,
													NumericGetDatum(element.val.numeric)));
			ids = lappend(ids, id);
		}
	return ids;
}

/*
 * Begins to add to a transaction's terms: returns what they have already.
 */
static StringInfo
reopen(const Entry *entry)
{
	StringInfo	json = makeStringInfo();

	if (entry->terms)
	{
		char	   *have = JsonbToCString(NULL, &entry->terms->root,
										  VARSIZE(entry->terms));

		/* all but the last brace */
		appendBinaryStringInfo(json, have, strlen(have) - 1);
	}
	return json;
}

/*
 * Adds a number to a transaction's terms.
 */
void
terms_add_int64(Entry *entry, const char *key, int64 value)
{
	StringInfo	json = reopen(entry);

	json_int64(json, key, value);
	entry->terms = json_document(json);
}

/*
 * Notes in a transaction how much its request moved in all.
 */
void
terms_add_total(Entry *entry, int64 total)
{
	terms_add_int64(entry, "total", total);
}

/*
 * Notes in a transaction the others of the same request, as ids.
 */
void
terms_add_parts(Entry *entry, List *parts)
{
	StringInfo	json = reopen(entry);
	StringInfoData list;
	ListCell   *lc;

	initStringInfo(&list);
	foreach(lc, parts)
		appendStringInfo(&list, "%s" INT64_FORMAT, list.len ? ", " : "",
						 ((Entry *) lfirst(lc))->id);
	json_raw(json, "parts", psprintf("[%s]", list.data));
	entry->terms = json_document(json);
}
