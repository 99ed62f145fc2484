/*
 * json.h
 *	  Building jsonb documents.
 */
#ifndef CREDITS_BASE_JSON_H
#define CREDITS_BASE_JSON_H

#include "credits.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

/* An object that is being built; all zeros is an empty object */
typedef struct JsonObject
{
	int			nmembers;
	int			max_members;
	JsonbPair  *members;
} JsonObject;

/* An array that is being built; all zeros is an empty array */
typedef struct JsonArray
{
	int			nelements;
	int			max_elements;
	JsonbValue *elements;
} JsonArray;

extern void json_begin(JsonObject *json);
extern void json_null(JsonObject *json, const char *key);
extern void json_bool(JsonObject *json, const char *key, bool value);
extern void json_text(JsonObject *json, const char *key, text *value);
extern void json_cstring(JsonObject *json, const char *key,
						 const char *value);
extern void json_int64(JsonObject *json, const char *key, int64 value);
extern void json_numeric(JsonObject *json, const char *key, Datum value);
extern void json_time(JsonObject *json, const char *key, TimestampTz value);
extern void json_instant(JsonObject *json, const char *key, TimestampTz at);
extern void json_interval(JsonObject *json, const char *key,
						  const Interval *value);
extern void json_value(JsonObject *json, const char *key,
					   const JsonbValue *value);
extern void json_jsonb(JsonObject *json, const char *key,
					   const Jsonb *value);
extern void json_array(JsonObject *json, const char *key,
					   const JsonArray *array);
extern void json_by_name(JsonObject *json, const char *name,
						 const JsonObject *object);
extern void json_by_id(JsonObject *json, int64 id, const JsonObject *object);
extern void json_members(JsonObject *json, const JsonObject *more);
extern Jsonb *json_document(const JsonObject *json);
extern void json_begin_array(JsonArray *array);
extern void json_add_cstring(JsonArray *array, const char *value);
extern void json_add_int64(JsonArray *array, int64 value);
extern void json_add_object(JsonArray *array, const JsonObject *object);
extern Jsonb *json_array_document(const JsonArray *array);
extern char *json_to_cstring(Jsonb *document);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_JSON_H */
