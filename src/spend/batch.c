/*
 * batch.c
 *	  Batches: many spends, holds or grants in one call.
 *
 * Each item is checked separately, so that a bad item refuses only itself, and
 * becomes a transaction of its own.  An account that is named by several items
 * is locked and updated only once.
 */
#include "credits.h"

#include "accounts/allocate.h"
#include "ledger/ledger.h"
#include "spend/items.h"
#include "spend/spend.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_deduct_many);
PG_FUNCTION_INFO_V1(credits_deduct_many_json);
PG_FUNCTION_INFO_V1(credits_allocate_many);
PG_FUNCTION_INFO_V1(credits_allocate_many_json);
PG_FUNCTION_INFO_V1(credits_hold_many);
PG_FUNCTION_INFO_V1(credits_hold_many_json);

#define MAX_ITEMS 100000

static const ItemColumn deduction_columns[] = {
	{"account", TEXTOID}, {"amount", INT8OID}, {"idempotency_key", TEXTOID},
	{"operation", TEXTOID}, {"reference", TEXTOID}, {"metadata", JSONBOID},
	{NULL}
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

static const ItemColumn hold_item_columns[] = {
	{"account", TEXTOID}, {"amount", INT8OID}, {"idempotency_key", TEXTOID},
	{"operation", TEXTOID}, {"reference", TEXTOID}, {"metadata", JSONBOID},
	{"expires_in", INTERVALOID}, {NULL}
};

/* after those of a deduction */
#define HOLD_EXPIRES_IN 6

static const ItemColumn allocation_columns[] = {
	{"account", TEXTOID}, {"amount", INT8OID}, {"idempotency_key", TEXTOID},
	{"reference", TEXTOID}, {"reason", TEXTOID}, {"metadata", JSONBOID},
	{"source", TEXTOID}, {"expires_at", TIMESTAMPTZOID},
	{"expires_in", INTERVALOID}, {"effective_at", TIMESTAMPTZOID},
	{"priority", INT4OID}, {"price", NUMERICOID}, {"currency", TEXTOID},
	{NULL}
};

enum
{
	ALLOCATION_ACCOUNT,
	ALLOCATION_AMOUNT,
	ALLOCATION_KEY,
	ALLOCATION_REFERENCE,
	ALLOCATION_REASON,
	ALLOCATION_METADATA,
	ALLOCATION_SOURCE,
	ALLOCATION_EXPIRES_AT,
	ALLOCATION_EXPIRES_IN,
	ALLOCATION_EFFECTIVE_AT,
	ALLOCATION_PRIORITY,
	ALLOCATION_PRICE,
	ALLOCATION_CURRENCY
};

/*
 * Reads what the items of spends have in common.
 */
static bool
read_spend(BatchItem *item, const ItemRow *row, TransactionKind kind)
{
	Spend	   *spend = palloc0(sizeof(Spend));
	Request    *request = &item->request;

	spend->kind = kind;
	if (!items_name(item, row, DEDUCTION_ACCOUNT, &item->account) ||
		!items_amount(item, row, DEDUCTION_AMOUNT, &spend->amount) ||
		!items_text(item, row, DEDUCTION_KEY, MAX_NAME_BYTES,
					&request->key) ||
		!items_text(item, row, DEDUCTION_OPERATION, MAX_NAME_BYTES,
					&request->operation) ||
		!items_text(item, row, DEDUCTION_REFERENCE, MAX_NAME_BYTES,
					&request->reference) ||
		!items_metadata(item, row, DEDUCTION_METADATA))
		return false;
	spend->request.operation = request->operation;
	item->arg = spend;
	return true;
}

/*
 * Reads an item of credits_deduct_many.
 */
static bool
read_deduction(BatchItem *item, const ItemRow *row)
{
	if (!read_spend(item, row, KIND_DEDUCTION))
		return false;
	if (item->request.key)
	{
		deduct_fingerprint(&item->request, ((Spend *) item->arg)->amount,
						   false);
		items_trim_fingerprint(&item->request);
	}
	return true;
}

/*
 * Reads an item of credits_hold_many.
 */
static bool
read_hold(BatchItem *item, const ItemRow *row)
{
	/* as credits_hold has it by default */
	static Interval quarter = {.time = 15 * USECS_PER_MINUTE};
	Spend	   *spend;

	if (!read_spend(item, row, KIND_HOLD))
		return false;
	spend = item->arg;
	spend->expires_in = row->isnull[HOLD_EXPIRES_IN] ? &quarter :
		DatumGetIntervalP(row->values[HOLD_EXPIRES_IN]);
	if (!valid_span(&item->refusal, spend->expires_in, "expires_in"))
		return false;
	if (item->request.key)
	{
		holds_fingerprint(&item->request, spend);
		items_trim_fingerprint(&item->request);
	}
	return true;
}

/*
 * Reads an item of credits_allocate_many.
 */
static bool
read_allocation(BatchItem *item, const ItemRow *row)
{
	Allocation *allocation = palloc0(sizeof(Allocation));
	Request    *request = &item->request;

	allocation->source = cstring_to_text("manual");
	if (!items_name(item, row, ALLOCATION_ACCOUNT, &item->account) ||
		!items_amount(item, row, ALLOCATION_AMOUNT, &allocation->amount) ||
		!items_text(item, row, ALLOCATION_SOURCE, MAX_NAME_BYTES,
					&allocation->source) ||
		!items_text(item, row, ALLOCATION_CURRENCY, MAX_NAME_BYTES, &allocation->currency) ||
		!items_text(item, row, ALLOCATION_KEY, MAX_NAME_BYTES, &request->key) ||
		!items_text(item, row, ALLOCATION_REASON, MAX_REASON_BYTES,
					&request->reason) ||
		!items_text(item, row, ALLOCATION_REFERENCE, MAX_NAME_BYTES, &request->reference) ||
		!items_metadata(item, row, ALLOCATION_METADATA))
		return false;
	allocation->expires_at = row->isnull[ALLOCATION_EXPIRES_AT] ? DT_NOEND :
		DatumGetTimestampTz(row->values[ALLOCATION_EXPIRES_AT]);
	if (!row->isnull[ALLOCATION_EXPIRES_IN])
		allocation->expires_in =
			DatumGetIntervalP(row->values[ALLOCATION_EXPIRES_IN]);
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
		items_trim_fingerprint(request);
	}
	return true;
}

/*
 * Plans the spend of an item.
 */
static bool
plan_deduction(Posting *posting, void *arg)
{
	Spend	   *spend = arg;

	if (!spend_allowed(posting, spend) ||
		!guards_may_spend(posting, spend->amount))
		return false;

	/*
	 * An overflow of the totals would raise an error when the entry is added,
	 * and with it refuse the whole batch.
	 */
	return log_may_spend(posting, spend->amount) && spend_plan(posting, spend);
}

/*
 * Posts a batch, for the SQL functions below.
 */
static Datum
batch_post(FunctionCallInfo fcinfo, const char *function, ReadItem read,
		   const ItemColumn *columns, bool json, PlanFunction plan, bool dry)
{
	bool		atomic = arg_bool(fcinfo, 1, "atomic");
	int			nitems;
	BatchItem  *items = items_read(fcinfo, read, columns, json, MAX_ITEMS,
								   &nitems);

	(void) bulk_post(function, items, nitems, plan, atomic, dry);
	return items_return(fcinfo, items, nitems, atomic);
}

/*
 * SQL function: spends credits of many accounts.
 */
Datum
credits_deduct_many(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_deduct_many()", read_deduction,
					  deduction_columns, false, plan_deduction, false);
}

/*
 * SQL function: the same, with the items as JSON.
 */
Datum
credits_deduct_many_json(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_deduct_many()", read_deduction,
					  deduction_columns, true, plan_deduction, false);
}

/*
 * SQL function: reserves credits of many accounts.
 */
Datum
credits_hold_many(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_hold_many()", read_hold,
					  hold_item_columns, false, spend_plan, false);
}

/*
 * SQL function: the same, with the items as JSON.
 */
Datum
credits_hold_many_json(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_hold_many()", read_hold,
					  hold_item_columns, true, spend_plan, false);
}

/*
 * SQL function: gives many grants.
 */
Datum
credits_allocate_many(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_allocate_many()", read_allocation,
					  allocation_columns, false, allocate_plan,
					  arg_bool(fcinfo, 2, "dry_run"));
}

/*
 * SQL function: the same, with the items as JSON.
 */
Datum
credits_allocate_many_json(PG_FUNCTION_ARGS)
{
	return batch_post(fcinfo, "credits_allocate_many()", read_allocation,
					  allocation_columns, true, allocate_plan,
					  arg_bool(fcinfo, 2, "dry_run"));
}
