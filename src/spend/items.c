/*
 * items.c
 *	  The items of batches: reading them from an array of a composite type or
 *	  from JSON, and returning what became of them.
 *
 * An item that is not valid refuses only itself.  But what PostgreSQL cannot
 * read as a value of its type, such as a date that does not exist, is an error
 * of the whole call, as it is in an array.
 */
#include "credits.h"

#include <ctype.h>

#include "spend/items.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

/* how many columns a credits.outcome has */
#define OUTCOME_COLUMNS 7

/* What of an item of JSON is being read, for the context of an error */
typedef struct JsonPlace
{
	int			n;
	const char *member;
} JsonPlace;

/*
 * Reads an optional text of an item.
 */
bool
items_text(BatchItem *item, const ItemRow *row, int column, int max_bytes,
		   text **value)
{
	if (row->isnull[column])
		return true;
	*value = DatumGetTextPP(row->values[column]);
	return valid_text(&item->refusal, *value, row->columns[column].name,
					  max_bytes);
}

/*
 * Reads the name of an account, which is required.
 */
bool
items_name(BatchItem *item, const ItemRow *row, int column, text **value)
{
	const char *name = row->columns[column].name;

	if (row->isnull[column])
		return refuse_null(&item->refusal, name);
	*value = DatumGetTextPP(row->values[column]);
	return valid_name(&item->refusal, *value, name, MAX_NAME_BYTES);
}

/*
 * Reads an amount, which is required.
 */
bool
items_amount(BatchItem *item, const ItemRow *row, int column, int64 *amount)
{
	const char *name = row->columns[column].name;

	if (row->isnull[column])
		return refuse_null(&item->refusal, name);
	*amount = DatumGetInt64(row->values[column]);
	return valid_amount(&item->refusal, *amount, name);
}

/*
 * Reads the optional metadata of an item.
 */
bool
items_metadata(BatchItem *item, const ItemRow *row, int column)
{
	if (row->isnull[column])
		return true;
	item->request.metadata = DatumGetJsonbP(row->values[column]);
	return valid_metadata(&item->refusal, item->request.metadata);
}

/*
 * Returns a boolean of an item, or what it is if it is left out.
 */
bool
items_bool(const ItemRow *row, int column, bool left_out)
{
	return row->isnull[column] ? left_out :
		DatumGetBool(row->values[column]);
}

/*
 * Reallocates a fingerprint to its actual size.  A StringInfo has at least 1
 * kB, which is too much for each of up to 100000 items.
 */
void
items_trim_fingerprint(Request *request)
{
	StringInfo	f = &request->fingerprint;
	char	   *data = palloc(f->len);

	memcpy(data, f->data, f->len);
	pfree(f->data);
	f->data = data;
	f->maxlen = f->len;
}

/*
 * Checks that the type of the items has the columns with which it was created.
 */
static void
items_check_type(TupleDesc tupdesc, const ItemColumn *columns)
{
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
		if (columns[i].name == NULL || TupleDescAttr(tupdesc, i)->attisdropped ||
			TupleDescAttr(tupdesc, i)->atttypid != columns[i].type)
			break;
	if (i < tupdesc->natts || columns[i].name)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the type of the items has been altered"),
				 errdetail("Column %d is not as it was created.", i + 1),
				 errhint("Restore it, and keep additional columns in a type of your own.")));
}

/*
 * Raises the error for a batch that is empty or too long.
 */
static void
items_check_count(int nitems, int max_items)
{
	if (nitems < 1 || nitems > max_items)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a batch must have 1 to %d items", max_items),
				 errdetail("It has %d.", nitems),
				 errhint("Leave out a call without items, and split a longer batch into several calls.")));
}

/*
 * Reads an array of a composite type.
 */
static BatchItem *
items_read_array(ArrayType *array, ReadItem read, const ItemColumn *columns,
				 int max_items, int *nitems)
{
	TupleDesc	tupdesc;
	BatchItem  *items;
	Datum	   *elements;
	bool	   *isnull;
	int			i;

	*nitems = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	items_check_count(*nitems, max_items);
	tupdesc = lookup_rowtype_tupdesc(ARR_ELEMTYPE(array), -1);
	items_check_type(tupdesc, columns);
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &isnull, nitems);
	items = palloc0(*nitems * sizeof(BatchItem));
	for (i = 0; i < *nitems; i++)
	{
		HeapTupleHeader header;
		HeapTupleData tuple;
		ItemRow		row = {columns};

		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
		{
			refuse_null(&items[i].refusal, "item");
			continue;
		}
		header = DatumGetHeapTupleHeader(elements[i]);
		tuple.t_len = HeapTupleHeaderGetDatumLength(header);
		tuple.t_data = header;
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		heap_deform_tuple(&tuple, tupdesc, row.values, row.isnull);
		(void) read(&items[i], &row);
	}
	ReleaseTupleDesc(tupdesc);
	return items;
}

/*
 * Refuses an item of JSON.
 */
static bool
refuse_json(BatchItem *item, char *message, char *detail,
			char *hint)
{
	return refuse(&item->refusal, ERRCODE_INVALID_PARAMETER_VALUE, message,
				  detail, hint);
}

/*
 * Returns the names of columns, for a hint.
 */
static char *
name_columns(const ItemColumn *columns)
{
	StringInfoData names;
	int			i;

	initStringInfo(&names);
	for (i = 0; columns[i].name; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", columns[i].name);
	return names.data;
}

/*
 * Reads a whole number.
 */
static bool
read_whole(BatchItem *item, const ItemColumn *column, const char *shown,
		   Datum *result)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoi64(shown, &end, 10);
	if (end == shown || *end != '\0' || isspace((unsigned char) *shown))
		return refuse_json(item, psprintf("%s must be a whole number",
										  column->name),
						   psprintf("It is \"%s\".", show_value(shown)),
						   "Pass a number without a fraction.");
	if (errno == ERANGE || (column->type == INT4OID &&
							(number < PG_INT32_MIN || number > PG_INT32_MAX)))
		return refuse(&item->refusal, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
					  psprintf("%s is out of range", column->name),
					  psprintf("It is %s.", show_value(shown)),
					  psprintf("Pass a number for %s that is in its range.",
							   column->name));
	*result = column->type == INT4OID ? Int32GetDatum((int32) number) :
		Int64GetDatum(number);
	return true;
}

/*
 * Reads the value of a member of an item as one of its column's type.
 */
static bool
read_value(BatchItem *item, const ItemColumn *column, JsonbValue *value,
		   Datum *result)
{
	char	   *shown;
	Oid			input;
	Oid			param;

	if (column->type == JSONBOID)
	{
		*result = JsonbPGetDatum(JsonbValueToJsonb(value));
		return true;
	}
	switch (value->type)
	{
		case jbvString:
			shown = pnstrdup(value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			shown = DatumGetCString(DirectFunctionCall1(numeric_out,
														NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			shown = value->val.boolean ? "true" : "false";
			break;
		default:
			return refuse_json(item, psprintf("%s must be a single value",
											  column->name),
							   NULL, "Only metadata can be an object or an array.");
	}
	if (column->type == INT8OID || column->type == INT4OID)
		return read_whole(item, column, shown, result);
	getTypeInputInfo(column->type, &input, &param);
	*result = OidInputFunctionCall(input, shown, param, -1);
	return true;
}

/*
 * Reads an item of JSON into a row.
 */
static bool
read_object(BatchItem *item, JsonbContainer *object, ItemRow *row,
			JsonPlace *place)
{
	const ItemColumn *columns = row->columns;
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue	value;
	JsonbIteratorToken token;

	place->member = NULL;
	memset(row->isnull, true, sizeof(row->isnull));
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		int			i;

		if (token != WJB_KEY)
			continue;
		for (i = 0; columns[i].name; i++)
			if ((int) strlen(columns[i].name) == value.val.string.len &&
				strncmp(columns[i].name, value.val.string.val,
						value.val.string.len) == 0)
				break;
		if (columns[i].name == NULL)
			return refuse_json(item, "an item has an unknown member",
							   psprintf("It is \"%s\".",
										show_value(pnstrdup(value.val.string.val,
															value.val.string.len))),
							   psprintf("Its members are %s.",
										name_columns(columns)));
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvNull)
			continue;
		place->member = columns[i].name;
		if (!read_value(item, &columns[i], &value, &row->values[i]))
			return false;
		place->member = NULL;
		row->isnull[i] = false;
	}
	return true;
}

/*
 * Error context callback: says which item of JSON is being read.
 */
static void
json_context(void *arg)
{
	JsonPlace  *place = arg;

	if (place->member)
		errcontext("item %d, %s", place->n, place->member);
}

/*
 * Reads an array of JSON objects, whose members are named like the columns.
 */
static BatchItem *
read_json(Jsonb *json, ReadItem read, const ItemColumn *columns,
		  int max_items, int *nitems)
{
	JsonPlace	place = {0};
	ErrorContextCallback context = {
		.callback = json_context,.arg = &place,.previous = error_context_stack
	};
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	BatchItem  *items;

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("items must be an array"),
				 errhint("Pass a JSON array of objects.")));
	*nitems = JB_ROOT_COUNT(json);
	items_check_count(*nitems, max_items);
	items = palloc0(*nitems * sizeof(BatchItem));
	error_context_stack = &context;
	iterator = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		BatchItem  *item = &items[place.n];
		ItemRow		row = {columns};

		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		place.n++;
		if (value.type == jbvNull)
			refuse_null(&item->refusal, "item");
		else if (value.type != jbvBinary ||
				 !JsonContainerIsObject(value.val.binary.data))
			refuse_json(item, "an item must be an object", NULL,
						psprintf("Its members are %s.", name_columns(columns)));
		else if (read_object(item, value.val.binary.data, &row, &place))
			(void) read(item, &row);
	}
	error_context_stack = context.previous;
	return items;
}

/*
 * Reads the items of a batch, the first argument.
 */
BatchItem *
items_read(FunctionCallInfo fcinfo, ReadItem read, const ItemColumn *columns,
		   bool json, int max_items, int *nitems)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("items must not be null"),
				 errhint("Pass an array of items.")));
	return json ?
		read_json(PG_GETARG_JSONB_P(0), read, columns, max_items, nitems) :
		items_read_array(PG_GETARG_ARRAYTYPE_P(0), read, columns, max_items, nitems);
}

/*
 * Raises the refusal of the first refused item, if there is one, as an error.
 */
static void
raise_first(const BatchItem *items, int nitems)
{
	int			i;

	for (i = 0; i < nitems; i++)
		if (items[i].refusal.sqlstate != 0)
		{
			Refusal		refusal = items[i].refusal;

			refusal.detail = refusal.detail ?
				psprintf("Item %d of %d: %s", i + 1, nitems, refusal.detail) :
				psprintf("Item %d of %d.", i + 1, nitems);
			raise_refusal(&refusal);
		}
}

/*
 * Returns the outcome of each item, in their order, as the result of the SQL
 * function.  If the batch is atomic, a refusal is raised as an error instead.
 */
Datum
items_return(FunctionCallInfo fcinfo, const BatchItem *items, int nitems,
			 bool atomic)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	receipt_desc;
	MemoryContext row;
	int			i;

	if (atomic)
		raise_first(items, nitems);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(result->setDesc, OUTCOME_COLUMNS);
	receipt_desc =
		lookup_rowtype_tupdesc(TupleDescAttr(result->setDesc, 6)->atttypid,
							   -1);
	row = AllocSetContextCreate(CurrentMemoryContext, "credits outcome",
								ALLOCSET_DEFAULT_SIZES);
	for (i = 0; i < nitems; i++)
	{
		const Refusal *refusal = &items[i].refusal;
		MemoryContext old = MemoryContextSwitchTo(row);
		Datum		values[OUTCOME_COLUMNS];
		bool		isnull[OUTCOME_COLUMNS] = {
			false, false, true, true, true, true, true
		};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(i + 1);
		values[1] = BoolGetDatum(refusal->sqlstate == 0);
		if (refusal->sqlstate == 0)
		{
			values[6] = receipts_datum(receipt_desc, &items[i].receipt);
			isnull[6] = false;
		}
		else
		{
			values[2] = CStringGetTextDatum(sqlstate_text(refusal->sqlstate));
			values[3] = CStringGetTextDatum(refusal->message);
			isnull[2] = isnull[3] = false;
			if (refusal->detail)
				values[4] = CStringGetTextDatum(refusal->detail);
			isnull[4] = refusal->detail == NULL;
			if (refusal->hint)
				values[5] = CStringGetTextDatum(refusal->hint);
			isnull[5] = refusal->hint == NULL;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 isnull);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	ReleaseTupleDesc(receipt_desc);
	return (Datum) 0;
}
