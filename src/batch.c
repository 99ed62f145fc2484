/*
 * batch.c
 *	  Many spends, or many grants, in one call.
 *
 * Each item is checked by itself, so that a bad one refuses itself only, and
 * becomes a transaction of its own.  An account that many items name is locked
 * and updated once.
 */
#include "credits.h"

#include "allocate.h"
#include "spend.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_deduct_many);
PG_FUNCTION_INFO_V1(credits_allocate_many);

#define MAX_ITEMS 100000

/* columns of credits.deduction */
static const Oid deduction_types[] = {
	TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, InvalidOid
};

enum
{
	DEDUCTION_ACCOUNT,
	DEDUCTION_AMOUNT,
	DEDUCTION_KEY,
	DEDUCTION_OPERATION,
	DEDUCTION_REFERENCE,
	DEDUCTION_METADATA
};

/* columns of credits.allocation */
static const Oid allocation_types[] = {
	TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID,
	NUMERICOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, InvalidOid
};

enum
{
	ALLOCATION_ACCOUNT,
	ALLOCATION_AMOUNT,
	ALLOCATION_SOURCE,
	ALLOCATION_EXPIRES_AT,
	ALLOCATION_EFFECTIVE_AT,
	ALLOCATION_PRIORITY,
	ALLOCATION_PRICE,
	ALLOCATION_CURRENCY,
	ALLOCATION_KEY,
	ALLOCATION_REASON,
	ALLOCATION_REFERENCE,
	ALLOCATION_METADATA,
	NATTS_ALLOCATION
};

/* One item as it comes: a row of a composite type */
typedef struct Row
{
	Datum		values[NATTS_ALLOCATION];
	bool		isnull[NATTS_ALLOCATION];
} Row;

typedef bool (*ReadItem) (BatchItem *item, const Row *row);

/*
 * Reads an optional text of an item.
 */
static bool
read_text(BatchItem *item, const Row *row, int column, const char *name,
		  int max_bytes, text **value)
{
	if (row->isnull[column])
		return true;
	*value = DatumGetTextPP(row->values[column]);
	return valid_text(&item->refusal, *value, name, max_bytes);
}

/*
 * Reads the optional metadata of an item.
 */
static bool
read_metadata(BatchItem *item, const Row *row, int column)
{
	if (row->isnull[column])
		return true;
	item->request.metadata = DatumGetJsonbP(row->values[column]);
	return valid_metadata(&item->refusal, item->request.metadata);
}

/*
 * Reads the account and the amount of an item, which come first.
 */
static bool
read_amount(BatchItem *item, const Row *row, int64 *amount)
{
	if (row->isnull[0])
		return refuse_null(&item->refusal, "account");
	item->account = DatumGetTextPP(row->values[0]);
	if (!valid_name(&item->refusal, item->account, "account", MAX_NAME_BYTES))
		return false;
	if (row->isnull[1])
		return refuse_null(&item->refusal, "amount");
	*amount = DatumGetInt64(row->values[1]);
	return valid_amount(&item->refusal, *amount, "amount");
}

/*
 * Keeps no more memory for what a retry must repeat than that takes: there may
 * be very many.
 */
static void
trim_fingerprint(Request *request)
{
	StringInfo	f = &request->fingerprint;
	char	   *data = palloc(f->len);

	memcpy(data, f->data, f->len);
	pfree(f->data);
	f->data = data;
	f->maxlen = f->len;
}

/*
 * Reads a spend.
 */
static bool
read_deduction(BatchItem *item, const Row *row)
{
	Spend	   *spend = palloc0(sizeof(Spend));
	Request    *request = &item->request;

	spend->kind = KIND_DEDUCTION;
	if (!read_amount(item, row, &spend->amount) ||
		!read_text(item, row, DEDUCTION_KEY, "idempotency_key",
				   MAX_NAME_BYTES, &request->key) ||
		!read_text(item, row, DEDUCTION_OPERATION, "operation",
				   MAX_NAME_BYTES, &request->operation) ||
		!read_text(item, row, DEDUCTION_REFERENCE, "reference",
				   MAX_NAME_BYTES, &request->reference) ||
		!read_metadata(item, row, DEDUCTION_METADATA))
		return false;
	item->arg = spend;
	if (request->key)
	{
		deduct_fingerprint(request, spend->amount);
		trim_fingerprint(request);
	}
	return true;
}

/*
 * Reads a grant.
 */
static bool
read_allocation(BatchItem *item, const Row *row)
{
	Allocation *allocation = palloc0(sizeof(Allocation));
	Request    *request = &item->request;

	allocation->source = cstring_to_text("manual");
	if (!read_amount(item, row, &allocation->amount) ||
		!read_text(item, row, ALLOCATION_SOURCE, "source", MAX_NAME_BYTES,
				   &allocation->source) ||
		!read_text(item, row, ALLOCATION_CURRENCY, "currency",
				   MAX_NAME_BYTES, &allocation->currency) ||
		!read_text(item, row, ALLOCATION_KEY, "idempotency_key",
				   MAX_NAME_BYTES, &request->key) ||
		!read_text(item, row, ALLOCATION_REASON, "reason", MAX_REASON_BYTES,
				   &request->reason) ||
		!read_text(item, row, ALLOCATION_REFERENCE, "reference",
				   MAX_NAME_BYTES, &request->reference) ||
		!read_metadata(item, row, ALLOCATION_METADATA))
		return false;
	allocation->expires_at = row->isnull[ALLOCATION_EXPIRES_AT] ? DT_NOEND :
		DatumGetTimestampTz(row->values[ALLOCATION_EXPIRES_AT]);
	allocation->has_effective_at = !row->isnull[ALLOCATION_EFFECTIVE_AT];
	if (allocation->has_effective_at)
		allocation->effective_at =
			DatumGetTimestampTz(row->values[ALLOCATION_EFFECTIVE_AT]);
	allocation->has_priority = !row->isnull[ALLOCATION_PRIORITY];
	if (allocation->has_priority)
		allocation->priority = DatumGetInt32(row->values[ALLOCATION_PRIORITY]);
	if (!row->isnull[ALLOCATION_PRICE])
		allocation->price =
			PointerGetDatum(PG_DETOAST_DATUM(row->values[ALLOCATION_PRICE]));
	if (!allocate_valid(&item->refusal, allocation))
		return false;
	item->arg = allocation;
	if (request->key)
	{
		allocate_fingerprint(request, allocation);
		trim_fingerprint(request);
	}
	return true;
}

/*
 * Plans a spend.  What would be an error of one call refuses this item only.
 */
static bool
plan_deduction(Posting *posting, void *arg)
{
	Spend	   *spend = arg;
	int64		spent;

	if (!ledger_may_spend(posting, spend->amount))
		return false;
	if (pg_add_s64_overflow(posting->account.spent, spend->amount, &spent))
		return refuse_overflow(posting, -spend->amount);
	return spend_plan(posting, spend);
}

/*
 * Checks that the type of the items has the columns that it was made with.
 */
static void
check_type(TupleDesc tupdesc, const Oid *types)
{
	int			i;

	for (i = 0; i < tupdesc->natts; i++)
		if (!OidIsValid(types[i]) || TupleDescAttr(tupdesc, i)->attisdropped ||
			TupleDescAttr(tupdesc, i)->atttypid != types[i])
			break;
	if (i < tupdesc->natts || OidIsValid(types[i]))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the type of the items has been altered"),
				 errdetail("Column %d is not what it was made as.", i + 1),
				 errhint("Restore it, and keep columns of your own in a type of your own.")));
}

/*
 * Reads an array of items.
 */
static BatchItem *
read_items(FunctionCallInfo fcinfo, ReadItem read, const Oid *types,
		   int *nitems)
{
	ArrayType  *array;
	TupleDesc	tupdesc;
	BatchItem  *items;
	Datum	   *elements;
	bool	   *isnull;
	int			i;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("items must not be null"),
				 errhint("Pass an array of items.")));
	array = PG_GETARG_ARRAYTYPE_P(0);
	*nitems = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (*nitems < 1 || *nitems > MAX_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a batch must have 1 to %d items", MAX_ITEMS),
				 errdetail("It has %d.", *nitems),
				 errhint("Leave out a call without items, and split a longer batch into several calls.")));
	tupdesc = lookup_rowtype_tupdesc(ARR_ELEMTYPE(array), -1);
	check_type(tupdesc, types);
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &isnull, nitems);
	items = palloc0(*nitems * sizeof(BatchItem));
	for (i = 0; i < *nitems; i++)
	{
		HeapTupleHeader header;
		HeapTupleData tuple;
		Row			row;

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
 * Raises the refusal of the first item that has one.
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
 * Returns what became of the items, in their order.
 */
static void
return_outcomes(FunctionCallInfo fcinfo, const BatchItem *items, int nitems)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	receipt_desc;
	MemoryContext row;
	int			i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipt_desc =
		lookup_rowtype_tupdesc(TupleDescAttr(result->setDesc, 6)->atttypid,
							   -1);
	row = AllocSetContextCreate(CurrentMemoryContext, "credits outcome",
								ALLOCSET_DEFAULT_SIZES);
	for (i = 0; i < nitems; i++)
	{
		const Refusal *refusal = &items[i].refusal;
		MemoryContext old = MemoryContextSwitchTo(row);
		Datum		values[7];
		bool		isnull[7] = {false, false, true, true, true, true, true};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(i + 1);
		values[1] = BoolGetDatum(refusal->sqlstate == 0);
		if (refusal->sqlstate == 0)
		{
			Receipt		receipt = items[i].receipt;

			values[6] = receipt_datum(receipt_desc, &receipt);
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
}

/*
 * Posts a batch for an SQL function.
 */
static Datum
post(FunctionCallInfo fcinfo, const char *function, ReadItem read,
	 const Oid *types, PlanChange plan, bool dry)
{
	bool		atomic = arg_bool(fcinfo, 1, "atomic");
	int			nitems;
	BatchItem  *items = read_items(fcinfo, read, types, &nitems);

	if (!bulk_post(function, items, nitems, plan, atomic, dry) &&
		atomic)
		raise_first(items, nitems);
	return_outcomes(fcinfo, items, nitems);
	return (Datum) 0;
}

/*
 * Spends credits of many accounts.
 */
Datum
credits_deduct_many(PG_FUNCTION_ARGS)
{
	return post(fcinfo, "credits_deduct_many()", read_deduction,
				deduction_types, plan_deduction, false);
}

/*
 * Gives many grants.
 */
Datum
credits_allocate_many(PG_FUNCTION_ARGS)
{
	return post(fcinfo, "credits_allocate_many()", read_allocation,
				allocation_types, allocate_plan,
				arg_bool(fcinfo, 2, "dry_run"));
}
