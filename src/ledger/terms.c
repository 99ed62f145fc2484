/*
 * terms.c
 *	  The terms of a transaction: what it is based on.
 *
 * They are a JSON object with these members: for each grant that the
 * transaction gives or prolongs, under the grant's id, its terms or its new
 * expiry; expires_at, of a hold; total and parts, of a request that was split
 * over two accounts; via, the pools between the member and the pool that pays;
 * quantity and price of a charge; and others that are added by the topics
 * concerned.
 */
#include "credits.h"

#include "ledger/terms.h"

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
 * Returns a number in a transaction's terms as numeric, or 0 (a null pointer)
 * if it is not there.
 */
Datum
terms_numeric(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);

	return value && value->type == jbvNumeric ?
		NumericGetDatum(value->val.numeric) : 0;
}

/*
 * Reads a whole number from a transaction's terms.  If it is not there,
 * returns false and does not change *value.
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
 * Returns a time in a transaction's terms, or DT_NOEND if it is not there.
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
 * Returns a document that consists of one member of a transaction's terms, or
 * NULL if it is not there.
 */
Jsonb *
terms_part(const Entry *entry, const char *key)
{
	JsonbValue *value = terms_get(entry, key);
	JsonObject	json;

	if (value == NULL)
		return NULL;
	json_begin(&json);
	json_value(&json, key, value);
	return json_document(&json);
}

/*
 * Returns a list of ids in a transaction's terms, as pointers to int64.
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
 * Adds members to a transaction's terms.
 */
static void
add_terms(Entry *entry, const JsonObject *more)
{
	Jsonb	   *terms = json_document(more);

	if (entry->terms)
		terms = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat,
												   JsonbPGetDatum(entry->terms),
												   JsonbPGetDatum(terms)));
	entry->terms = terms;
}

/*
 * Adds a number to a transaction's terms.
 */
void
terms_add_int64(Entry *entry, const char *key, int64 value)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, key, value);
	add_terms(entry, &json);
}

/*
 * Adds the total amount of a request that was split.
 */
void
terms_add_total(Entry *entry, int64 total)
{
	terms_add_int64(entry, "total", total);
}

/*
 * Adds the ids of the other transactions of a request that was split.
 */
void
terms_add_parts(Entry *entry, List *parts)
{
	JsonObject	json;
	JsonArray	list;
	ListCell   *lc;

	json_begin_array(&list);
	foreach(lc, parts)
		json_add_int64(&list, ((Entry *) lfirst(lc))->id);
	json_begin(&json);
	json_array(&json, "parts", &list);
	add_terms(entry, &json);
}
