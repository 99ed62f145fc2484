/*
 * operations.c
 *	  Priced operations: setting prices, quoting and charging them.
 *
 * A price is a row of credits.operations and never changes.  In force at an
 * instant is the one with the latest active_from that has come by then, of
 * several the last made; if it has ended by then, the operation cannot be
 * charged.  A charge is a deduction whose terms name quantity and price, so it
 * can be computed again whatever has become of the operation since.
 *
 * All arithmetic is numeric's, which is exact; only the whole result becomes
 * an integer.
 */
#include "credits.h"

#include "spend.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_operation);
PG_FUNCTION_INFO_V1(credits_retire_operation);
PG_FUNCTION_INFO_V1(credits_quote);
PG_FUNCTION_INFO_V1(credits_charge);
PG_FUNCTION_INFO_V1(credits_try_charge);

/* of a quantity or a price, written out: bounds what arithmetic can take */
#define MAX_DIGITS 1000

/* columns of credits.operations */
enum
{
	Anum_operations_id = 1,
	Anum_operations_name,
	Anum_operations_base_cost,
	Anum_operations_unit_cost,
	Anum_operations_unit_name,
	Anum_operations_included_units,
	Anum_operations_rounding,
	Anum_operations_minimum,
	Anum_operations_active_from,
	Anum_operations_active_until,
	Anum_operations_created_at,
	Anum_operations_role,
	Natts_operations = Anum_operations_role
};

static StoreTable operations_table = {
	.name = "operations",
	.sequence = "operations_id_seq",
	.types = (const Oid[]) {
		INT8OID, TEXTOID, NUMERICOID, NUMERICOID, TEXTOID, NUMERICOID,
		TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TEXTOID, InvalidOid
	}
};

static StoreIndex operations_by_name = {&operations_table, "operations_name_idx"};

/* One version of the price of an operation; costs are numeric */
typedef struct Price
{
	int64		id;
	text	   *name;
	Datum		base_cost;
	Datum		unit_cost;
	text	   *unit_name;
	Datum		included_units;
	text	   *rounding;
	int64		minimum;
	TimestampTz active_from;
	TimestampTz active_until;	/* DT_NOEND if it does not end */
} Price;

/* A spend whose amount is what an operation costs */
typedef struct Charge
{
	Spend		spend;			/* must be first */
	Datum		quantity;		/* numeric */
} Charge;

/* What a quote is about, and what it says */
typedef struct Quote
{
	text	   *operation;
	Datum		quantity;		/* numeric */
	int64		cost;
	int64		balance;
	int64		price_id;
	Datum		draws;			/* jsonb, 0 if the balance does not suffice */
	int			sqlstate;		/* with which a charge is refused, 0 if it is not */
} Quote;

/* ------------------------------------------------------------------------
 * prices
 */

/*
 * Reads a price from a slot.
 */
static void
read_price(TupleTableSlot *slot, Price *price)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
#define NUMBER(a) NumericGetDatum(DatumGetNumericCopy(values[a]))
	price->id = DatumGetInt64(values[Anum_operations_id]);
	price->name = DatumGetTextPCopy(values[Anum_operations_name]);
	price->base_cost = NUMBER(Anum_operations_base_cost);
	price->unit_cost = NUMBER(Anum_operations_unit_cost);
	price->unit_name = isnull[Anum_operations_unit_name] ? NULL :
		DatumGetTextPCopy(values[Anum_operations_unit_name]);
	price->included_units = NUMBER(Anum_operations_included_units);
	price->rounding = DatumGetTextPCopy(values[Anum_operations_rounding]);
	price->minimum = DatumGetInt64(values[Anum_operations_minimum]);
	price->active_from =
		DatumGetTimestampTz(values[Anum_operations_active_from]);
	price->active_until = isnull[Anum_operations_active_until] ? DT_NOEND :
		DatumGetTimestampTz(values[Anum_operations_active_until]);
#undef NUMBER
}

/*
 * Writes a new price and returns its id.  It is seen by what the transaction
 * does next, be it in the same statement.
 */
static int64
insert_price(Price *price)
{
	Datum		row[Natts_operations];
	bool		nulls[Natts_operations] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

	price->id = store_next_id(&operations_table);
	values[Anum_operations_id] = Int64GetDatum(price->id);
	values[Anum_operations_name] = PointerGetDatum(price->name);
	values[Anum_operations_base_cost] = price->base_cost;
	values[Anum_operations_unit_cost] = price->unit_cost;
	values[Anum_operations_unit_name] = PointerGetDatum(price->unit_name);
	isnull[Anum_operations_unit_name] = price->unit_name == NULL;
	values[Anum_operations_included_units] = price->included_units;
	values[Anum_operations_rounding] = PointerGetDatum(price->rounding);
	values[Anum_operations_minimum] = Int64GetDatum(price->minimum);
	values[Anum_operations_active_from] =
		TimestampTzGetDatum(price->active_from);
	values[Anum_operations_active_until] =
		TimestampTzGetDatum(price->active_until);
	isnull[Anum_operations_active_until] = price->active_until == DT_NOEND;
	values[Anum_operations_created_at] = TimestampTzGetDatum(clock_now());
	values[Anum_operations_role] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	store_insert_alone(&operations_table, row, nulls);
	CommandCounterIncrement();
	return price->id;
}

/*
 * Finds the last price of an operation from up to an instant on, or the first
 * one after it.
 */
static bool
find_price(Snapshot snapshot, text *name, TimestampTz at, bool after,
		   Price *price)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(name));
	ScanKeyInit(&keys[1], 2,
				after ? BTGreaterStrategyNumber : BTLessEqualStrategyNumber,
				after ? F_TIMESTAMPTZ_GT : F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(at));
	store_scan(&scan, NULL, &operations_by_name, snapshot, keys, 2);
	slot = store_scan_next(&scan, after ? ForwardScanDirection :
						   BackwardScanDirection);
	if (slot)
		read_price(slot, price);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Finds the price of an operation that is in force at an instant, or refuses.
 */
static bool
get_price(Snapshot snapshot, text *name, TimestampTz at, Price *price,
		  Refusal *refusal)
{
	Price		next;
	bool		begun = find_price(snapshot, name, at, false, price);
	StringInfoData detail;

	if (begun && price->active_until > at)
		return true;
	initStringInfo(&detail);
	if (begun)
		appendStringInfo(&detail, "Its price as of %s ended at %s.",
						 clock_show(at), clock_show(price->active_until));
	if (find_price(snapshot, name, at, true, &next))
	{
		if (begun)
			appendStringInfo(&detail, "  The next one begins at %s.",
							 clock_show(next.active_from));
		else
			appendStringInfo(&detail, "Its first price begins at %s, after %s.",
							 clock_show(next.active_from), clock_show(at));
	}
	else if (!begun)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("operation \"%s\" does not exist",
							   text_to_cstring(name)),
					  NULL,
					  "Set its price with credits_set_operation.");
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  psprintf("operation \"%s\" is not active",
						   text_to_cstring(name)),
				  detail.data,
				  "Set a price that is in force with credits_set_operation.");
}

/*
 * Rounds a cost as its price says.
 */
static Datum
round_cost(const Price *price, Datum cost)
{
	char	   *rounding = text_to_cstring(price->rounding);

	if (strcmp(rounding, "floor") == 0)
		return DirectFunctionCall1(numeric_floor, cost);
	if (strcmp(rounding, "round") == 0)
		return DirectFunctionCall2(numeric_round, cost, Int32GetDatum(0));
	return DirectFunctionCall1(numeric_ceil, cost);
}

/*
 * Returns what a quantity costs at a price.
 */
static int64
cost_of(const Price *price, Datum quantity)
{
	Datum		zero = NumericGetDatum(int64_to_numeric(0));
	Datum		most = NumericGetDatum(int64_to_numeric(PG_INT64_MAX));
	Datum		units = DirectFunctionCall2(numeric_larger, zero,
											DirectFunctionCall2(numeric_sub,
																quantity,
																price->included_units));
	Datum		cost = DirectFunctionCall2(numeric_add, price->base_cost,
										   DirectFunctionCall2(numeric_mul,
															   price->unit_cost,
															   units));

	cost = round_cost(price, cost);
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, cost, most)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("cost out of range"),
				 errdetail("So much of operation \"%s\" costs more than " INT64_FORMAT " at price " INT64_FORMAT ".",
						   text_to_cstring(price->name), PG_INT64_MAX,
						   price->id),
				 errhint("Pass a smaller quantity.")));
	return Max(DatumGetInt64(DirectFunctionCall1(numeric_int8, cost)),
			   price->minimum);
}

/* ------------------------------------------------------------------------
 * arguments
 */

/*
 * Raises the error for a NULL where a value is needed.
 */
static void
null_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", name),
			 errhint("Pass a value for %s, or leave it out.", name)));
}

/*
 * Returns a number of 0 or more, with digits that can be counted.
 */
static Datum
arg_number(FunctionCallInfo fcinfo, int n, const char *name)
{
	Numeric		value;
	char	   *shown;
	int			digits = 0;
	char	   *c;

	if (PG_ARGISNULL(n))
		null_argument(name);
	value = PG_GETARG_NUMERIC(n);
	shown = DatumGetCString(DirectFunctionCall1(numeric_out,
												NumericGetDatum(value)));
	if (numeric_is_nan(value) || numeric_is_inf(value) || shown[0] == '-')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a number of 0 or more", name),
				 errdetail("It is %.64s.", shown),
				 errhint("Pass a finite number that is not negative for %s.",
						 name)));
	for (c = shown; *c; c++)
		digits += *c != '.';
	if (digits > MAX_DIGITS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has too many digits", name),
				 errdetail("It has %d; at most %d are allowed.", digits,
						   MAX_DIGITS),
				 errhint("Round it.")));
	return NumericGetDatum(value);
}

/*
 * Returns how a cost is to be rounded.
 */
static text *
arg_rounding(FunctionCallInfo fcinfo, int n)
{
	char	   *rounding;

	if (PG_ARGISNULL(n))
		null_argument("rounding");
	rounding = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(rounding, "ceil") != 0 && strcmp(rounding, "floor") != 0 &&
		strcmp(rounding, "round") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown rounding"),
				 errdetail("It is \"%.64s\".", rounding),
				 errhint("Use one of ceil, floor, round.")));
	return PG_GETARG_TEXT_PP(n);
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Sets the price of an operation.
 */
Datum
credits_set_operation(PG_FUNCTION_ARGS)
{
	Price		price = {0};

	price.name = arg_name(fcinfo, 0, "name");
	price.base_cost = arg_number(fcinfo, 1, "base_cost");
	price.unit_cost = arg_number(fcinfo, 2, "unit_cost");
	price.unit_name = arg_text(fcinfo, 3, "unit_name", MAX_UNIT_BYTES);
	price.included_units = arg_number(fcinfo, 4, "included_units");
	price.rounding = arg_rounding(fcinfo, 5);
	if (PG_ARGISNULL(6))
		null_argument("minimum");
	price.minimum = PG_GETARG_INT64(6);
	if (price.minimum < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("minimum must not be negative"),
				 errdetail("It is " INT64_FORMAT ".", price.minimum),
				 errhint("Pass 0 or more credits.")));
	price.active_from = arg_active_from(fcinfo, 7, "active_from");
	price.active_until = arg_active_until(fcinfo, 8, price.active_from);

	store_check_writable("credits_set_operation()");
	PG_RETURN_INT64(insert_price(&price));
}

/*
 * Ends an operation: adds a price that ends when it begins.
 */
Datum
credits_retire_operation(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	TimestampTz at = arg_active_from(fcinfo, 1, "at");
	Price		price;
	Refusal		refusal;

	store_check_writable("credits_retire_operation()");
	store_lock_table(&operations_table);
	if (!get_price(store_snapshot(true), name, at, &price, &refusal))
		raise_refusal(&refusal);
	price.active_from = price.active_until = at;
	PG_RETURN_INT64(insert_price(&price));
}

/*
 * Prices a charge, as of the instant and the snapshot that it is planned with.
 */
static bool
price_charge(Posting *posting, Spend *spend)
{
	Charge	   *charge = (Charge *) spend;
	Price		price;

	if (!get_price(posting->snapshot, spend->request.operation, posting->now,
				   &price, &posting->refusal))
		return false;
	spend->amount = cost_of(&price, charge->quantity);
	spend->terms = makeStringInfo();
	json_cstring(spend->terms, "quantity", spend->quantity);
	json_int64(spend->terms, "price_id", price.id);
	return true;
}

/*
 * Reads the arguments of a charge.  A retry must repeat what is charged, not
 * what it costs: the price may have changed meanwhile.
 */
static void
read_charge(FunctionCallInfo fcinfo, Charge *charge)
{
	Spend	   *spend = &charge->spend;
	Request    *request = &spend->request;

	memset(charge, 0, sizeof(Charge));
	spend->kind = KIND_DEDUCTION;
	spend->amount = -1;
	spend->prepare = price_charge;
	spend->account = arg_account(fcinfo, 0);
	request->operation = arg_name(fcinfo, 1, "operation");
	charge->quantity = arg_number(fcinfo, 2, "quantity");
	spend->quantity = numeric_normalize(DatumGetNumeric(charge->quantity));
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 4, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);
	spend_read_pool(fcinfo, 6, spend);

	initStringInfo(&request->fingerprint);
	appendStringInfo(&request->fingerprint, "charge%s;", spend->quantity);
	fingerprint_text(&request->fingerprint, request->operation);
	fingerprint_text(&request->fingerprint, request->reference);
	spend_fingerprint_pool(spend);
}

/*
 * Spends what an operation costs, or raises an error.
 */
Datum
credits_charge(PG_FUNCTION_ARGS)
{
	Charge		charge;

	read_charge(fcinfo, &charge);
	return spend_call(fcinfo, "credits_charge()", &charge.spend);
}

/*
 * Spends what an operation costs, or returns why not and records it.
 */
Datum
credits_try_charge(PG_FUNCTION_ARGS)
{
	Charge		charge;

	read_charge(fcinfo, &charge);
	return spend_try(fcinfo, "credits_try_charge()", &charge.spend);
}

/*
 * Returns draws as a JSON array, with what callers may want to know about each
 * grant.
 */
static Datum
show_draws(Posting *posting, const Draw *draws, int ndraws)
{
	StringInfoData list;
	int			i;

	initStringInfo(&list);
	appendStringInfoChar(&list, '[');
	for (i = 0; i < ndraws; i++)
	{
		Grant	   *grant = grants_get(posting, draws[i].grant_id);
		StringInfoData json;

		initStringInfo(&json);
		json_int64(&json, "grant_id", grant->id);
		json_int64(&json, "amount", -draws[i].amount);
		json_text(&json, "source", grant->source);
		json_instant(&json, "expires_at", grant->expires_at);
		appendStringInfo(&list, "%s%s}", i > 0 ? ", " : "", json.data);
	}
	appendStringInfoChar(&list, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(list.data));
}

/*
 * Finds out what a charge would do.
 */
static bool
plan_quote(Posting *posting, void *arg)
{
	Quote	   *quote = arg;
	Draw	   *draws = NULL;
	int			ndraws = 0;
	Price		price;

	if (!get_price(posting->snapshot, quote->operation, posting->now, &price,
				   &posting->refusal))
		return false;
	quote->price_id = price.id;
	quote->cost = cost_of(&price, quote->quantity);
	quote->balance = posting->account.balance;
	if (quote->balance >= quote->cost)
	{
		if (quote->cost > 0)
			draws = grants_burn(posting, quote->cost, &ndraws);
		quote->draws = show_draws(posting, draws, ndraws);
	}
	if (!ledger_may_spend(posting, quote->cost) ||
		(quote->cost > 0 && !caps_spend(posting, quote->cost, quote->cost)))
		quote->sqlstate = posting->refusal.sqlstate;
	return true;
}

/*
 * Returns what a charge would cost an account now, and what it would burn.
 */
Datum
credits_quote(PG_FUNCTION_ARGS)
{
	text	   *account = arg_account(fcinfo, 0);
	Quote		quote = {0};
	Refusal		refusal;
	TupleDesc	tupdesc;
	Datum		values[7];
	bool		isnull[7] = {false};
	Datum		result;

	quote.operation = arg_name(fcinfo, 1, "operation");
	quote.quantity = arg_number(fcinfo, 2, "quantity");
	if (!ledger_rehearse(account, plan_quote, &quote, &refusal))
		raise_refusal(&refusal);

	values[0] = Int64GetDatum(quote.cost);
	values[1] = BoolGetDatum(quote.balance >= quote.cost);
	values[2] = Int64GetDatum(quote.balance);
	values[3] = Int64GetDatum(quote.balance - quote.cost);
	isnull[3] = quote.balance < quote.cost;
	values[4] = Int64GetDatum(quote.price_id);
	values[5] = quote.draws;
	isnull[5] = quote.balance < quote.cost;
	isnull[6] = quote.sqlstate == 0;
	if (quote.sqlstate != 0)
		values[6] = CStringGetTextDatum(sqlstate_text(quote.sqlstate));
	tupdesc = result_tupdesc(fcinfo);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_DATUM(result);
}
