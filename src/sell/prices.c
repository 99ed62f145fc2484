/*
 * prices.c
 *	  Unit prices and volume discounts, and the price of what is bought.
 *
 * An amount of credits costs the unit price for each, less the volume discount
 * on the whole amount; a package costs its own price.  Then comes the discount
 * of a promotion.  The arithmetic is numeric's and exact; only the total is
 * rounded, to the currency's minor unit.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "ledger/versions.h"
#include "sell/packages.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(credits_set_unit_price);
PG_FUNCTION_INFO_V1(credits_retire_unit_price);
PG_FUNCTION_INFO_V1(credits_set_volume_discount);
PG_FUNCTION_INFO_V1(credits_price);

#define MAX_TIERS 100

static SqlStatement insert_price = {
	"INSERT INTO credits.unit_prices (id, currency, price, unit, active_from,"
	" active_until, created_at, role)"
	" VALUES (nextval('credits.unit_prices_id_seq'), $1, $2, $3, $4,"
	" NULLIF($5, 'infinity'), $6, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, NUMERICOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement keep_price = {
	"SELECT currency, price, unit, active_from, active_until"
	" FROM credits.unit_prices WHERE id = $1 FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement retire_price = {
	"INSERT INTO credits.unit_prices"
	" SELECT nextval('credits.unit_prices_id_seq'), unit, currency, price,"
	" $2, $2, $3, session_user FROM credits.unit_prices WHERE id = $1"
	" RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement select_price = {
	"SELECT id, active_from, active_until, price FROM credits.unit_prices"
	" WHERE currency = $1 AND unit = $3"
	VERSION_IN_FORCE,
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static const SetArg set_unit_price_args[] = {
	{"currency", SET_NAMES},
	{"price", SET_NEEDED},
	{"unit", SET_NAMES},
	{"active_from", SET_ONCE},
	{"active_until", SET_KEEPS}
};

/* the name of a unit price is its currency */
static const VersionKind price_kind = {
	"unit price in", "credits_set_unit_price", ERRCODE_NOT_FOUND, 3, 4,
	&select_price, &keep_price, &insert_price, &retire_price
};

static SqlStatement select_currencies = {
	"SELECT currency FROM (SELECT DISTINCT ON (currency) *"
	" FROM credits.unit_prices WHERE unit = $1 AND active_from <= $2"
	" ORDER BY currency, active_from DESC, id DESC) AS p"
	" WHERE active_until IS NULL OR active_until > $2 ORDER BY currency",
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement insert_discount = {
	"INSERT INTO credits.volume_discounts"
	" VALUES (nextval('credits.volume_discounts_id_seq'), $1, $2, $3, $4, $5,"
	" $6, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, INT8ARRAYOID, NUMERICARRAYOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, InvalidOid
	}
};

/*
 * The discount of the currency or, if it has none of its own, of all of them,
 * and the percentage of the tier that the amount reaches.
 */
static SqlStatement select_discount = {
	"SELECT d.id, (SELECT t.percent"
	" FROM unnest(d.from_credits, d.percents) AS t(from_credits, percent)"
	" WHERE t.from_credits <= $4 ORDER BY t.from_credits DESC LIMIT 1)"
	" FROM (SELECT DISTINCT ON (currency) * FROM credits.volume_discounts"
	" WHERE unit = $1 AND (currency = $2 OR currency IS NULL)"
	" AND active_from <= $3"
	" ORDER BY currency, active_from DESC, id DESC) AS d"
	" WHERE d.from_credits IS NOT NULL ORDER BY d.currency NULLS LAST LIMIT 1",
	(const Oid[]) {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * computing
 */

/*
 * Finds the currency to sell an amount in, if there is only one.
 */
static bool
only_currency(PriceQuote *quote, Refusal *refusal)
{
	Datum		values[2];
	SqlResult  *result;
	StringInfoData known;
	uint64		i;
	bool		none;

	values[0] = PointerGetDatum(quote->unit);
	values[1] = TimestampTzGetDatum(quote->at);
	result = statements_run(&select_currencies, values, NULL);
	if (result->nrows == 1)
	{
		quote->currency = DatumGetTextPP(statements_value(result, 0, 1, &none));
		return true;
	}
	if (result->nrows == 0)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  "there is no unit price",
					  psprintf("Amounts of unit \"%s\" are not for sale.",
							   text_to_cstring(quote->unit)),
					  "Set one with credits_set_unit_price, or buy a package.");
	initStringInfo(&known);
	for (i = 0; i < result->nrows; i++)
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "",
						 text_to_cstring(DatumGetTextPP(statements_value(result, i, 1, &none))));
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "currency must be specified",
				  psprintf("There are unit prices in %s.", known.data),
				  "Pass one of them.");
}

/*
 * Begins a quote with an amount of credits at the unit price.
 */
static bool
begin_amount(PriceQuote *quote, int64 amount, text *currency,
			 JsonObject *computation, Refusal *refusal)
{
	Datum		values[4];
	SqlResult  *row;
	Datum		price;
	Datum		percent;
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	bool		none;

	quote->currency = currency;
	if (currency == NULL && !only_currency(quote, refusal))
		return false;
	if (!versions_find(&price_kind, quote->currency, quote->unit, quote->at,
					   &row, refusal))
		return false;
	quote->unit_price_id = DatumGetInt64(statements_value(row, 0, VERSION_ID, &none));
	price = statements_value(row, 0, VERSION_TERMS, &none);
	quote->credits = amount;
	quote->subtotal = DirectFunctionCall1(numeric_trim_scale,
										  DirectFunctionCall2(numeric_mul,
															  price, number(amount)));
	json_int64(computation, "amount", amount);
	json_int64(computation, "unit_price_id", quote->unit_price_id);
	json_numeric(computation, "unit_price", price);

	values[0] = PointerGetDatum(quote->unit);
	values[1] = PointerGetDatum(quote->currency);
	values[2] = TimestampTzGetDatum(quote->at);
	values[3] = Int64GetDatum(amount);
	row = statements_run(&select_discount, values, NULL);
	percent = row->nrows == 0 ? (Datum) 0 : statements_value(row, 0, 2, &none);
	if (row->nrows > 0 && !none)
	{
		quote->volume_discount_id =
			DatumGetInt64(statements_value(row, 0, 1, &none));
		quote->volume_discount = money_percent(quote->subtotal, percent);
		json_int64(computation, "volume_discount_id",
				   quote->volume_discount_id);
		json_numeric(computation, "volume_percent", percent);
	}

	grant->part = PART_CREDITS;
	grant->credits = amount;
	grant->source = cstring_to_text("purchase");
	grant->priority = grants_default_priority(grant->source);
	grant->price = quote->subtotal; /* until the total is known */
	return packages_add_grant(quote, grant, refusal);
}

/*
 * Computes the total, which becomes the price of the first grant, and completes
 * the computation.
 */
static bool
finish(PriceQuote *quote, JsonObject *computation, Refusal *refusal)
{
	int			exponent = money_exponent(quote->currency);
	Datum		exact = subtract(subtract(quote->subtotal,
										  quote->volume_discount),
								 quote->promotion_discount);
	QuoteGrant *main;

	/* a currency without a minor unit: refuses it */
	if (exponent < 0)
		return money_to_minor(refusal, exact, exponent, quote->currency,
							  &quote->total_minor);
	quote->total = money_round(exact, exponent);
	quote->rounding = DirectFunctionCall1(numeric_trim_scale,
										  subtract(quote->total, exact));
	if (!money_to_minor(refusal, quote->total, exponent, quote->currency,
						&quote->total_minor))
		return false;
	quote->price_per_credit =
		DirectFunctionCall1(numeric_trim_scale,
							DirectFunctionCall2(numeric_div, quote->total,
												number(quote->credits)));
	main = linitial(quote->grants);
	main->price = quote->total;

	json_text(computation, "unit", quote->unit);
	json_int64(computation, "credits", quote->credits);
	json_int64(computation, "bonus", quote->bonus);
	json_text(computation, "currency", quote->currency);
	json_numeric(computation, "subtotal", quote->subtotal);
	json_numeric(computation, "volume_discount", quote->volume_discount);
	json_numeric(computation, "promotion_discount",
				 quote->promotion_discount);
	json_numeric(computation, "rounding", quote->rounding);
	json_numeric(computation, "total", quote->total);
	json_int64(computation, "amount_minor", quote->total_minor);
	json_numeric(computation, "price_per_credit", quote->price_per_credit);
	json_time(computation, "at", quote->at);
	json_jsonb(computation, "grants",
			   DatumGetJsonbP(packages_grants_json(quote->grants, true)));
	quote->computation = json_document(computation);
	return true;
}

/*
 * Computes what a package, or if that is NULL an amount, costs an account.
 */
bool
prices_quote(const Account *account, text *package, int64 amount,
			 text *promotion, text *currency, TimestampTz at,
			 PriceQuote *quote, Refusal *refusal)
{
	JsonObject	computation;

	memset(quote, 0, sizeof(PriceQuote));
	quote->at = at;
	quote->account_id = account->id;
	quote->account = account->name;
	quote->unit = account->unit;
	quote->volume_discount = number(0);
	quote->promotion_discount = number(0);
	if (account->status == ACCOUNT_CLOSED)
		return refuse(refusal, ERRCODE_LOCKED_ACCOUNT,
					  psprintf("account \"%s\" is closed",
							   text_to_cstring(quote->account)),
					  psprintf("It has a balance of " INT64_FORMAT ".",
							   account->balance),
					  "A closed account can be read, but never changed again.");

	json_begin(&computation);
	if (package)
	{
		if (!packages_begin_quote(quote, account, package, currency,
								  refusal))
			return false;
		json_text(&computation, "package", package);
		json_int64(&computation, "package_id", quote->package_id);
	}
	else if (!begin_amount(quote, amount, currency, &computation, refusal))
		return false;
	if (promotion &&
		!promotions_apply(quote, promotion, &computation, refusal))
		return false;
	return finish(quote, &computation, refusal);
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Returns the unit of an account.
 */
static text *
arg_unit(FunctionCallInfo fcinfo, int n)
{
	text	   *unit = arg_name(fcinfo, n, "unit");

	check_unit(unit);
	return unit;
}

/*
 * Returns a currency that must be given, and has a minor unit.
 */
static text *
arg_spendable_currency(FunctionCallInfo fcinfo, int n)
{
	Refusal		refusal;
	text	   *currency = arg_currency(fcinfo, n);
	int64		minor;

	if (currency == NULL)
		raise_null("currency");
	if (!money_to_minor(&refusal, number(0), money_exponent(currency),
						currency, &minor))
		raise_refusal(&refusal);
	return currency;
}

/*
 * Sets what one credit costs.
 */
Datum
credits_set_unit_price(PG_FUNCTION_ARGS)
{
	text	   *currency = arg_spendable_currency(fcinfo, 0);
	text	   *unit = arg_unit(fcinfo, 2);
	Set			set;
	int64		current;

	SETS_READ(&set, fcinfo, set_unit_price_args);
	store_check_writable("credits_set_unit_price()");
	current = versions_merge(&price_kind, &set, currency, unit);
	(void) arg_money(set.merged, 1, "price");
	(void) arg_active_until(set.merged, 4,
							DatumGetTimestampTz(set.merged->args[3].value));
	PG_RETURN_INT64(versions_set(&price_kind, &set, current));
}

/*
 * Ends a unit price.
 */
Datum
credits_retire_unit_price(PG_FUNCTION_ARGS)
{
	text	   *currency = arg_spendable_currency(fcinfo, 0);
	text	   *unit = arg_unit(fcinfo, 1);

	store_check_writable("credits_retire_unit_price()");
	PG_RETURN_INT64(versions_retire(&price_kind, currency, unit, fcinfo, 2));
}

/*
 * Checks the tiers of a volume discount.
 */
static void
check_tiers(ArrayType *from_credits, ArrayType *percents)
{
	Datum	   *from;
	Datum	   *percent;
	bool	   *from_null;
	bool	   *percent_null;
	int			nfrom;
	int			npercent;
	int			i;

	deconstruct_array(from_credits, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &from, &from_null, &nfrom);
	deconstruct_array(percents, NUMERICOID, -1, false, TYPALIGN_INT, &percent,
					  &percent_null, &npercent);
	if (nfrom != npercent || ARR_NDIM(from_credits) > 1 ||
		ARR_NDIM(percents) > 1 || nfrom > MAX_TIERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_credits and percents do not match"),
				 errdetail("They have %d and %d elements; both must have the same number, at most %d.",
						   nfrom, npercent, MAX_TIERS),
				 errhint("Pass two arrays such as ARRAY[1000, 5000] and ARRAY[5, 10].")));
	for (i = 0; i < nfrom; i++)
	{
		Refusal		refusal;

		if (from_null[i] || percent_null[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("tiers must not be null"),
					 errdetail("Number %d is.", i + 1),
					 errhint("Pass an amount and a percentage for each tier.")));
		if (DatumGetInt64(from[i]) < 1 ||
			(i > 0 && DatumGetInt64(from[i]) <= DatumGetInt64(from[i - 1])))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("tiers must begin at 1 or more, in ascending order"),
					 errdetail("Number %d begins at " INT64_FORMAT ".", i + 1,
							   DatumGetInt64(from[i])),
					 errhint("Sort them.")));
		if (!money_valid_amount(&refusal, percent[i], "percents"))
			raise_refusal(&refusal);
		if (compare(percent[i], number(100)) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("percents must be at most 100"),
					 errdetail("Number %d is %.64s.", i + 1,
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   percent[i]))),
					 errhint("Pass percentages such as 12.5.")));
	}
}

/*
 * Sets the tiers of the volume discount.
 */
Datum
credits_set_volume_discount(PG_FUNCTION_ARGS)
{
	text	   *currency = arg_currency(fcinfo, 2);
	text	   *unit = arg_unit(fcinfo, 3);
	TimestampTz from = arg_active_from(fcinfo, 4, "active_from");
	bool		none = PG_ARGISNULL(0) && PG_ARGISNULL(1);
	Datum		values[6];
	bool		isnull[6] = {false};

	if (PG_ARGISNULL(0) != PG_ARGISNULL(1) || (none && currency == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("from_credits and percents must not be null"),
				 errhint("Pass empty arrays for no discount.  For a currency that is to have none of its own both can be null.")));
	if (!none)
		check_tiers(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1));
	values[0] = PointerGetDatum(unit);
	values[1] = PointerGetDatum(currency);
	isnull[1] = currency == NULL;
	values[2] = PG_GETARG_DATUM(0);
	values[3] = PG_GETARG_DATUM(1);
	isnull[2] = isnull[3] = none;
	values[4] = TimestampTzGetDatum(from);
	values[5] = TimestampTzGetDatum(clock_now());

	store_check_writable("credits_set_volume_discount()");
	PG_RETURN_INT64(versions_add(&insert_discount, values, isnull));
}

/*
 * Returns what a package or an amount would cost an account now.
 */
Datum
credits_price(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	text	   *package = PG_ARGISNULL(1) ? NULL :
		arg_name(fcinfo, 1, "package");
	int64		amount = PG_ARGISNULL(2) ? 0 : arg_amount(fcinfo, 2, "amount");
	text	   *promotion = PG_ARGISNULL(3) ? NULL :
		arg_name(fcinfo, 3, "promotion");
	text	   *currency = arg_currency(fcinfo, 4);
	Account		account = {0};
	PriceQuote	quote;
	Refusal		refusal;
	Datum		values[11];
	bool		isnull[11] = {false};
	TupleDesc	tupdesc;
	Datum		result;

	prices_check_choice(package != NULL, amount != 0);
	guards_find_account(store_snapshot(false), name, &account);
	if (!prices_quote(&account, package, amount, promotion, currency,
					  clock_now(), &quote, &refusal))
		raise_refusal(&refusal);

	values[0] = Int64GetDatum(quote.credits);
	values[1] = Int64GetDatum(quote.bonus);
	values[2] = quote.subtotal;
	values[3] = quote.volume_discount;
	values[4] = quote.promotion_discount;
	values[5] = quote.total;
	values[6] = PointerGetDatum(quote.currency);
	values[7] = Int64GetDatum(quote.total_minor);
	values[8] = quote.price_per_credit;
	values[9] = packages_grants_json(quote.grants, true);
	values[10] = JsonbPGetDatum(quote.computation);
	tupdesc = receipts_tupdesc(fcinfo, 11);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	PG_RETURN_DATUM(result);
}

/*
 * Raises an error unless either a package or an amount is to be bought.
 */
void
prices_check_choice(bool package, bool amount)
{
	if (package == amount)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("either package or amount must be specified"),
				 errdetail(package ? "Both are." : "Neither is."),
				 errhint("Pass the name of a package, or an amount of credits.")));
}
