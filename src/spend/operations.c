/*
 * operations.c
 *	  Priced operations: setting prices, quoting and charging them.
 *
 * A price is a row of credits.operations, which never changes.  The price in
 * force at a given time is the one with the latest active_from up to then or,
 * if there are several, the one created last; if its active_until has passed,
 * the operation cannot be charged.  A charge is a deduction whose terms
 * contain quantity and price, so that it can be recalculated later, whatever
 * the price is then.
 *
 * All calculations are done with numeric and are exact.  Only the final result
 * is converted to an integer.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "ledger/versions.h"
#include "spend/spend.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
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

/* limits the digits of quantities and prices, and so the time to calculate */
#define MAX_DIGITS 1000

typedef enum Rounding
{
	ROUNDING_UNKNOWN = -1,		/* somebody has modified the table */
	ROUNDING_CEIL,
	ROUNDING_FLOOR,
	ROUNDING_ROUND
} Rounding;

static const char *const rounding_names[] = {"ceil", "floor", "round"};

/* A row of credits.operations, a price of an operation; Datums are numeric */
typedef struct Price
{
	ItemPointerData tid;
	int64		id;
	text	   *name;
	Datum		base_cost;
	Datum		unit_cost;
	text	   *unit_name;
	Datum		included_units;
	Rounding	rounding;
	int64		minimum;
	TimestampTz active_from;
	TimestampTz active_until;	/* DT_NOEND if it does not end */
} Price;

static const StoreColumn price_columns[] = {
	COLUMN_INT64(Price, id),
	COLUMN_TEXT(Price, name),
	COLUMN_NUMERIC(Price, base_cost),
	COLUMN_NUMERIC(Price, unit_cost),
	COLUMN_TEXT(Price, unit_name, NULL_IF_ZERO),
	COLUMN_NUMERIC(Price, included_units),
	COLUMN_ENUM(Price, rounding, rounding_names),
	COLUMN_INT64(Price, minimum),
	COLUMN_TIME(Price, active_from),
	COLUMN_TIME(Price, active_until, NULL_IS(DT_NOEND)),
	COLUMN_UNUSED(TIMESTAMPTZOID, "created_at"),
	COLUMN_UNUSED(TEXTOID, "role")
};

static StoreTable operations_table = {
	.name = "operations",
	.sequence = "operations_id_seq",
	ROWS_OF(Price, price_columns)
};

static StoreIndex operations_by_id = {
	&operations_table, "operations_pkey", {"id"},.unique = true
};
static StoreIndex operations_by_name = {
	&operations_table, "operations_name_idx", {"name", "active_from", "id"}
};

static SqlStatement insert_operation = {
	"INSERT INTO credits.operations (id, name, base_cost, unit_cost, unit_name,"
	" included_units, rounding, minimum, active_from, active_until, created_at,"
	" role)"
	" VALUES (nextval('credits.operations_id_seq'), $1, $2, $3, $4, $5, $6,"
	" $7, $8, NULLIF($9, 'infinity'), $10, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, NUMERICOID, NUMERICOID, TEXTOID, NUMERICOID, TEXTOID, INT8OID,
		TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement keep_operation = {
	"SELECT name, base_cost, unit_cost, unit_name, included_units, rounding,"
	" minimum, active_from, active_until FROM credits.operations WHERE id = $1"
	" FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement retire_operation = {
	"INSERT INTO credits.operations"
	" SELECT nextval('credits.operations_id_seq'), name, base_cost, unit_cost,"
	" unit_name, included_units, rounding, minimum, $2, $2, $3, session_user"
	" FROM credits.operations WHERE id = $1 RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement select_operation = {
	"SELECT id, active_from, active_until FROM credits.operations"
	" WHERE name = $1"
	VERSION_IN_FORCE,
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* the arguments of credits_set_operation */
enum
{
	SET_OPERATION_NAME,
	SET_OPERATION_BASE_COST,
	SET_OPERATION_UNIT_COST,
	SET_OPERATION_UNIT_NAME,
	SET_OPERATION_INCLUDED_UNITS,
	SET_OPERATION_ROUNDING,
	SET_OPERATION_MINIMUM,
	SET_OPERATION_FROM,
	SET_OPERATION_UNTIL
};

static const SetArg set_operation_args[] = {
	[SET_OPERATION_NAME] = {"name", SET_NAMES},
	[SET_OPERATION_BASE_COST] = {"base_cost", SET_KEEPS, "0"},
	[SET_OPERATION_UNIT_COST] = {"unit_cost", SET_KEEPS, "0"},
	[SET_OPERATION_UNIT_NAME] = {"unit_name", SET_KEEPS},
	[SET_OPERATION_INCLUDED_UNITS] = {"included_units", SET_KEEPS, "0"},
	[SET_OPERATION_ROUNDING] = {"rounding", SET_KEEPS, "ceil"},
	[SET_OPERATION_MINIMUM] = {"minimum", SET_KEEPS, "0"},
	[SET_OPERATION_FROM] = {"active_from", SET_ONCE},
	[SET_OPERATION_UNTIL] = {"active_until", SET_KEEPS}
};

static const VersionKind operation_kind = {
	"operation", "credits_set_operation", ERRCODE_NOT_FOUND,
	SET_OPERATION_FROM, SET_OPERATION_UNTIL,
	&select_operation, &keep_operation, &insert_operation, &retire_operation
};

/* A spend whose amount is the cost of an operation */
typedef struct Charge
{
	Spend		spend;			/* must be first */
	Datum		quantity;		/* numeric */
} Charge;

/* The arguments and the result of credits_quote */
typedef struct Quote
{
	text	   *operation;
	Datum		quantity;		/* numeric */
	int64		cost;
	int64		balance;
	int64		price_id;
	Datum		draws;			/* jsonb, 0 if the balance is too low */
	int			sqlstate;		/* why a charge would be refused, 0 if it
								 * would not */
} Quote;

/* ------------------------------------------------------------------------
 * prices
 */

/*
 * Finds the latest price of an operation whose active_from is at or before a
 * given time or, if "after", the earliest one whose active_from is later.
 */
static bool
find_price(Snapshot snapshot, text *name, TimestampTz at, bool after,
		   Price *price)
{
	StoreScan	scan;
	bool		found;

	scan_begin(&scan, NULL, &operations_by_name, snapshot, BY_TEXT(name),
			   after ? BY_TIME_AFTER(at) : BY_TIME_UNTIL(at));
	found = scan_read(&scan, after ? ForwardScanDirection :
					  BackwardScanDirection, price);
	scan_end(&scan);
	return found;
}

/*
 * Finds the price of an operation that is in force at a given time, or
 * refuses.
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
 * Rounds a cost to a whole number, in the way that its price prescribes.
 */
static Datum
round_cost(const Price *price, Datum cost)
{
	switch (price->rounding)
	{
		case ROUNDING_CEIL:
			return DirectFunctionCall1(numeric_ceil, cost);
		case ROUNDING_FLOOR:
			return DirectFunctionCall1(numeric_floor, cost);
		case ROUNDING_ROUND:
			return DirectFunctionCall2(numeric_round, cost, Int32GetDatum(0));
		case ROUNDING_UNKNOWN:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("price " INT64_FORMAT " has an unknown rounding",
					price->id),
			 errhint("Restore table credits.operations.")));
	return (Datum) 0;
}

/*
 * Returns the cost of a quantity, however high it is.
 */
static Datum
exact_cost(const Price *price, Datum quantity)
{
	Datum		zero = NumericGetDatum(int64_to_numeric(0));
	Datum		units = DirectFunctionCall2(numeric_larger, zero,
											DirectFunctionCall2(numeric_sub,
																quantity,
																price->included_units));
	Datum		cost = DirectFunctionCall2(numeric_add, price->base_cost,
										   DirectFunctionCall2(numeric_mul,
															   price->unit_cost,
															   units));

	return DirectFunctionCall2(numeric_larger, round_cost(price, cost),
							   NumericGetDatum(int64_to_numeric(price->minimum)));
}

/*
 * Returns what a quantity costs at a price.
 */
static int64
cost_of(const Price *price, Datum quantity)
{
	Datum		most = NumericGetDatum(int64_to_numeric(PG_INT64_MAX));
	Datum		cost = exact_cost(price, quantity);

	if (DatumGetBool(DirectFunctionCall2(numeric_gt, cost, most)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("cost out of range"),
				 errdetail("This quantity of operation \"%s\" costs more than " INT64_FORMAT " at price " INT64_FORMAT ".",
						   text_to_cstring(price->name), PG_INT64_MAX,
						   price->id),
				 errhint("Pass a smaller quantity.")));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, cost));
}

/*
 * Finds out what a quantity costs at a price, of which operation that is, and
 * when it came into force.  Returns false if there is no such price.
 */
bool
operations_cost(Snapshot snapshot, int64 price_id, Datum quantity, text **name,
				TimestampTz *active_from, Datum *cost)
{
	Price		price;

	if (!scan_find(NULL, &operations_by_id, snapshot, &price,
				   BY_INT64(price_id)))
		return false;
	*name = price.name;
	*active_from = price.active_from;
	*cost = exact_cost(&price, quantity);
	return true;
}

/* ------------------------------------------------------------------------
 * arguments
 */

/*
 * Returns an argument that is a number of 0 or more, with at most MAX_DIGITS
 * digits.
 */
static Datum
arg_number(FunctionCallInfo fcinfo, int n, const char *name)
{
	Numeric		value;
	char	   *shown;
	int			digits = 0;
	char	   *c;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name),
				 errhint("Pass a value for %s, or leave it out.", name)));
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

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Checks a price, in the arguments of credits_set_operation with what is kept.
 */
static void
check_operation(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;

	(void) arg_number(fcinfo, SET_OPERATION_BASE_COST, "base_cost");
	(void) arg_number(fcinfo, SET_OPERATION_UNIT_COST, "unit_cost");
	(void) arg_text(fcinfo, SET_OPERATION_UNIT_NAME, "unit_name",
					MAX_UNIT_BYTES);
	(void) arg_number(fcinfo, SET_OPERATION_INCLUDED_UNITS, "included_units");
	(void) ARG_CHOICE(SET_OPERATION_ROUNDING, "rounding", rounding_names);
	if (PG_GETARG_INT64(SET_OPERATION_MINIMUM) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("minimum must not be negative"),
				 errdetail("It is " INT64_FORMAT ".",
						   PG_GETARG_INT64(SET_OPERATION_MINIMUM)),
				 errhint("Pass 0 or more credits.")));
	(void) arg_active_until(fcinfo, SET_OPERATION_UNTIL,
							PG_GETARG_TIMESTAMPTZ(SET_OPERATION_FROM));
}

/*
 * SQL function: sets the price of an operation, or changes it.
 */
Datum
credits_set_operation(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, SET_OPERATION_NAME, "name");
	Set			set;
	int64		current;

	SETS_READ(&set, fcinfo, set_operation_args);
	store_check_writable("credits_set_operation()");
	current = versions_merge(&operation_kind, &set, name, NULL);
	check_operation(&set);
	PG_RETURN_INT64(versions_set(&operation_kind, &set, current));
}

/*
 * SQL function: retires an operation, by adding a price that ends when it
 * begins.
 */
Datum
credits_retire_operation(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");

	store_check_writable("credits_retire_operation()");
	PG_RETURN_INT64(versions_retire(&operation_kind, name, NULL, fcinfo, 1));
}

/*
 * Calculates the amount of a charge, with the time and snapshot of the current
 * attempt.
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
	spend->terms = palloc0(sizeof(JsonObject));
	json_cstring(spend->terms, "quantity", spend->quantity);
	json_int64(spend->terms, "price_id", price.id);
	return true;
}

/*
 * Reads the arguments, which are the same for both functions that charge.
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

	/* not the cost, since the price may have changed before a retry */
	initStringInfo(&request->fingerprint);
	appendStringInfo(&request->fingerprint, "charge%s;", spend->quantity);
	requests_add_text(&request->fingerprint, request->operation);
	requests_add_text(&request->fingerprint, request->reference);
	spend_fingerprint_pool(spend);
}

/*
 * SQL function: spends what an operation costs, or raises an error.
 */
Datum
credits_charge(PG_FUNCTION_ARGS)
{
	Charge		charge;

	read_charge(fcinfo, &charge);
	return spend_call(fcinfo, "credits_charge()", &charge.spend);
}

/*
 * SQL function: spends what an operation costs, or returns why this is refused
 * and records that.
 */
Datum
credits_try_charge(PG_FUNCTION_ARGS)
{
	Charge		charge;

	read_charge(fcinfo, &charge);
	return spend_try(fcinfo, "credits_try_charge()", &charge.spend);
}

/*
 * Returns draws as a JSON array, with source and expiry of each grant.
 */
static Datum
show_draws(Posting *posting, const Draw *draws, int ndraws)
{
	JsonArray	list;
	int			i;

	json_begin_array(&list);
	for (i = 0; i < ndraws; i++)
	{
		Grant	   *grant = grants_get(posting, draws[i].grant_id);
		JsonObject	json;

		json_begin(&json);
		json_int64(&json, "grant_id", grant->id);
		json_int64(&json, "amount", -draws[i].amount);
		json_text(&json, "source", grant->source);
		json_instant(&json, "expires_at", grant->expires_at);
		json_add_object(&list, &json);
	}
	return JsonbPGetDatum(json_array_document(&list));
}

/*
 * Plans what a charge would do, for credits_quote.  The posting is not
 * written.
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
			draws = burn_grants(posting, quote->cost, &ndraws);
		quote->draws = show_draws(posting, draws, ndraws);
	}
	if (!service_allows(posting, KIND_DEDUCTION, quote->operation) ||
		!guards_may_spend(posting, quote->cost) ||
		(quote->cost > 0 && !limit_rules_spend(posting, quote->cost, quote->cost)))
		quote->sqlstate = posting->refusal.sqlstate;
	return true;
}

/*
 * SQL function: returns what a charge would cost an account now, and which
 * grants it would draw from.
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
	tupdesc = receipts_tupdesc(fcinfo, 7);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_DATUM(result);
}
