/*
 * promotions.c
 *	  Promotions: what is cheaper for a while, or comes with more.
 *
 * The terms of a promotion are a row of credits.promotions and never change;
 * see versions.c.  A purchase that has one is a row of credits.promotion_uses,
 * and counts in the one row that the promotion has in credits.promotion_totals,
 * whatever its terms.  Who counts a use has locked the account, then locks that
 * row: so neither limit can be passed, by however many at once.
 */
#include "credits.h"

#include "money.h"
#include "packages.h"
#include "versions.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_promotion);
PG_FUNCTION_INFO_V1(credits_retire_promotion);

#define MAX_PLANS 100

static const VersionKind promotion_kind = {
	"promotion", "credits_set_promotion", ERRCODE_GONE
};

static SqlStatement insert_promotion = {
	"INSERT INTO credits.promotions"
	" VALUES (nextval('credits.promotions_id_seq'), $1, $2, $3, $4, $5, $6,"
	" $7, $8, $9, $10, $11, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, NUMERICOID, TEXTOID, INTERVALOID, TEXTARRAYOID,
		INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

static SqlStatement insert_total = {
	"INSERT INTO credits.promotion_totals VALUES ($1, 0)"
	" ON CONFLICT (promotion) DO NOTHING",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement end_promotion = {
	"INSERT INTO credits.promotions"
	" SELECT nextval('credits.promotions_id_seq'), name, kind, value, currency,"
	" expires_in, plans, per_account, max_uses, $2, $2, $3, session_user"
	" FROM credits.promotions WHERE id = $1 RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement select_promotion = {
	"SELECT id, active_from, active_until, kind, value, currency, expires_in,"
	" plans, per_account, max_uses FROM credits.promotions WHERE name = $1"
	VERSION_IN_FORCE,
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* columns of select_promotion */
enum
{
	PROMOTION_KIND = VERSION_TERMS,
	PROMOTION_VALUE,
	PROMOTION_CURRENCY,
	PROMOTION_EXPIRES_IN,
	PROMOTION_PLANS,
	PROMOTION_PER_ACCOUNT,
	PROMOTION_MAX_USES
};

static SqlStatement select_terms = {
	"SELECT name, per_account, max_uses FROM credits.promotions WHERE id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement select_uses = {
	"SELECT (SELECT uses FROM credits.promotion_totals WHERE promotion = $1),"
	" (SELECT count(*) FROM credits.promotion_uses WHERE promotion = $1"
	" AND account_id = $2 AND released_at IS NULL)",
	(const Oid[]) {TEXTOID, INT8OID, InvalidOid}
};

static SqlStatement lock_total = {
	"SELECT FROM credits.promotion_totals WHERE promotion = $1 FOR UPDATE",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement count_total = {
	"UPDATE credits.promotion_totals SET uses = uses + $2 WHERE promotion = $1",
	(const Oid[]) {TEXTOID, INT8OID, InvalidOid}
};

static SqlStatement insert_use = {
	"INSERT INTO credits.promotion_uses VALUES ($1, $2, $3, $4, $5, NULL)"
	" ON CONFLICT (purchase_id) DO UPDATE SET released_at = NULL"
	" WHERE promotion_uses.released_at IS NOT NULL",
	(const Oid[]) {
		INT8OID, INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement select_use = {
	"SELECT promotion FROM credits.promotion_uses"
	" WHERE purchase_id = $1 AND released_at IS NULL",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement release_use = {
	"UPDATE credits.promotion_uses SET released_at = $2"
	" WHERE purchase_id = $1 AND released_at IS NULL",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement subscribes = {
	"SELECT FROM credits.subscriptions AS s"
	" JOIN credits.plans AS p ON p.id = s.plan_id"
	" WHERE s.account_id = $1 AND s.status IN ('active', 'trialing')"
	" AND p.name = ANY ($2) LIMIT 1",
	(const Oid[]) {INT8OID, TEXTARRAYOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * uses
 */

/*
 * Refuses a promotion that is used as often as it may be.  What is counted is
 * what the transaction sees now.
 */
static bool
check_uses(text *name, int64 account_id, int64 per_account, int64 max_uses,
		   Refusal *refusal)
{
	Datum		values[2];
	SqlResult  *row;
	int64		uses;
	int64		own;
	bool		none;

	if (per_account == NO_LIMIT && max_uses == NO_LIMIT)
		return true;
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(account_id);
	row = sql_run(&select_uses, values, NULL);
	uses = DatumGetInt64(sql_value(row, 0, 1, &none));
	own = DatumGetInt64(sql_value(row, 0, 2, &none));
	if (per_account != NO_LIMIT && own >= per_account)
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("promotion \"%s\" is used already",
							   text_to_cstring(name)),
					  psprintf("Account " INT64_FORMAT " has it on " INT64_FORMAT " purchases; " INT64_FORMAT " are allowed.",
							   account_id, own, per_account),
					  "Buy without it.");
	if (max_uses != NO_LIMIT && uses >= max_uses)
		return refuse(refusal, ERRCODE_GONE,
					  psprintf("promotion \"%s\" is used up",
							   text_to_cstring(name)),
					  psprintf("It has " INT64_FORMAT " uses; " INT64_FORMAT " are allowed.",
							   uses, max_uses),
					  "Buy without it.");
	return true;
}

/*
 * Returns a limit that a row has, NO_LIMIT if none.
 */
static int64
read_limit(const SqlResult *row, int column)
{
	bool		none;
	Datum		value = sql_value(row, 0, column, &none);

	return none ? NO_LIMIT : DatumGetInt64(value);
}

/*
 * Counts a purchase as a use of a promotion, once.  Raises an error if there is
 * no use left, unless it is forced.
 */
void
promotions_use(int64 promotion_id, int64 account_id, int64 purchase_id,
			   TimestampTz at, bool force)
{
	Datum		values[5];
	SqlResult  *terms;
	text	   *name;
	Refusal		refusal;
	bool		none;

	values[0] = Int64GetDatum(promotion_id);
	terms = sql_run(&select_terms, values, NULL);
	if (terms->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("promotion " INT64_FORMAT " does not exist",
						promotion_id),
				 errhint("Run credits_verify.")));
	name = DatumGetTextPP(sql_value(terms, 0, 1, &none));

	values[0] = PointerGetDatum(name);
	sql_run(&lock_total, values, NULL);
	values[0] = Int64GetDatum(purchase_id);
	if (sql_run(&select_use, values, NULL)->nrows > 0)
		return;
	if (!force &&
		!check_uses(name, account_id, read_limit(terms, 2),
					read_limit(terms, 3), &refusal))
		raise_refusal(&refusal);

	values[1] = Int64GetDatum(account_id);
	values[2] = PointerGetDatum(name);
	values[3] = Int64GetDatum(promotion_id);
	values[4] = TimestampTzGetDatum(at);
	sql_run(&insert_use, values, NULL);
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(1);
	sql_run(&count_total, values, NULL);
}

/*
 * Lets a promotion be used again that a purchase had which came to nothing.
 */
void
promotions_release(int64 purchase_id, TimestampTz at)
{
	Datum		values[2];
	SqlResult  *use;
	text	   *name;
	bool		none;

	values[0] = Int64GetDatum(purchase_id);
	use = sql_run(&select_use, values, NULL);
	if (use->nrows == 0)
		return;
	name = DatumGetTextPP(sql_value(use, 0, 1, &none));
	values[0] = PointerGetDatum(name);
	sql_run(&lock_total, values, NULL);
	values[0] = Int64GetDatum(purchase_id);
	values[1] = TimestampTzGetDatum(at);
	if (sql_run(&release_use, values, NULL)->nrows == 0)
		return;
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(-1);
	sql_run(&count_total, values, NULL);
}

/* ------------------------------------------------------------------------
 * applying
 */

/*
 * Refuses a promotion to an account that subscribes to none of its plans.
 */
static bool
check_plans(PriceQuote *quote, text *name, Datum plans, Refusal *refusal)
{
	Datum		values[2];

	values[0] = Int64GetDatum(quote->account_id);
	values[1] = plans;
	if (sql_run(&subscribes, values, NULL)->nrows > 0)
		return true;
	return refuse(refusal, ERRCODE_FORBIDDEN,
				  psprintf("promotion \"%s\" is for subscribers",
						   text_to_cstring(name)),
				  psprintf("Account \"%s\" has no active subscription to a plan that it is for.",
						   text_to_cstring(quote->account)),
				  "Subscribe first, or buy without it.");
}

/*
 * Adds a promotion's bonus credits to a quote.
 */
static bool
add_bonus(PriceQuote *quote, const SqlResult *terms, Datum value,
		  Refusal *refusal)
{
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	Datum		expires_in;
	bool		never;

	expires_in = sql_value(terms, 0, PROMOTION_EXPIRES_IN, &never);
	grant->part = "promotion";
	grant->credits = DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
	grant->source = cstring_to_text("promotional");
	grant->priority = grants_default_priority(grant->source);
	grant->expires_in = never ? NULL : DatumGetIntervalP(expires_in);
	return packages_add_grant(quote, grant, refusal);
}

/*
 * Returns what is left to pay after the volume discount.
 */
static Datum
rest_of(const PriceQuote *quote)
{
	return DirectFunctionCall2(numeric_sub, quote->subtotal,
							   quote->volume_discount);
}

/*
 * Applies a promotion to what is quoted, and describes it.
 */
bool
promotions_apply(PriceQuote *quote, text *name, StringInfo computation,
				 Refusal *refusal)
{
	Datum		values[2];
	SqlResult  *terms;
	char	   *kind;
	Datum		value;
	Datum		plans;
	text	   *currency;
	bool		none;

	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(quote->at);
	if (!versions_find(&select_promotion, values, NULL, &promotion_kind, name,
					   &terms, refusal))
		return false;
	plans = sql_value(terms, 0, PROMOTION_PLANS, &none);
	if (!none && !check_plans(quote, name, plans, refusal))
		return false;
	if (!check_uses(name, quote->account_id,
					read_limit(terms, PROMOTION_PER_ACCOUNT),
					read_limit(terms, PROMOTION_MAX_USES), refusal))
		return false;

	quote->promotion = name;
	quote->promotion_id = DatumGetInt64(sql_value(terms, 0, VERSION_ID, &none));
	kind = text_to_cstring(DatumGetTextPP(sql_value(terms, 0, PROMOTION_KIND,
													&none)));
	value = sql_value(terms, 0, PROMOTION_VALUE, &none);
	json_text(computation, "promotion", name);
	json_int64(computation, "promotion_id", quote->promotion_id);
	json_cstring(computation, "promotion_kind", kind);
	json_numeric(computation, "promotion_value", value);
	if (strcmp(kind, "bonus") == 0)
		return add_bonus(quote, terms, value, refusal);
	if (strcmp(kind, "percent") == 0)
	{
		quote->promotion_discount = money_percent(rest_of(quote), value);
		return true;
	}
	currency = DatumGetTextPP(sql_value(terms, 0, PROMOTION_CURRENCY, &none));
	if (strcmp(text_to_cstring(currency), text_to_cstring(quote->currency)) != 0)
		return refuse(refusal, ERRCODE_FORBIDDEN,
					  psprintf("promotion \"%s\" is not for %s",
							   text_to_cstring(name),
							   text_to_cstring(quote->currency)),
					  psprintf("It takes off %s.",
							   text_to_cstring(currency)),
					  "Buy without it, or in its currency.");
	/* no more than is left to pay */
	quote->promotion_discount = DirectFunctionCall2(numeric_smaller, value,
													rest_of(quote));
	return true;
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Returns a limit of 1 or more, NO_LIMIT if none is given.
 */
static int64
arg_limit(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64		limit;

	if (PG_ARGISNULL(n))
		return NO_LIMIT;
	limit = PG_GETARG_INT64(n);
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at least 1", name),
				 errdetail("It is " INT64_FORMAT ".", limit),
				 errhint("Pass how many purchases may have it, or NULL for any number.")));
	return limit;
}

/*
 * Checks the value of a promotion, by its kind.
 */
static void
check_value(const char *kind, Datum value, text *currency, bool expires)
{
	Refusal		refusal;
	int64		ignored;
	Datum		zero = NumericGetDatum(int64_to_numeric(0));
	Datum		most = NumericGetDatum(int64_to_numeric(strcmp(kind, "percent") == 0 ?
														100 : PG_INT64_MAX));
	bool		fixed = strcmp(kind, "fixed") == 0;
	bool		bonus = strcmp(kind, "bonus") == 0;

	if (!fixed && !bonus && strcmp(kind, "percent") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown kind of promotion"),
				 errdetail("It is \"%.64s\".", kind),
				 errhint("Use one of percent, fixed, bonus.")));
	if (DatumGetBool(DirectFunctionCall2(numeric_le, value, zero)) ||
		(!fixed && DatumGetBool(DirectFunctionCall2(numeric_gt, value, most))) ||
		(bonus && DatumGetBool(DirectFunctionCall2(numeric_ne, value,
												   money_round(value, 0)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value is not what a promotion of this kind takes"),
				 errdetail("It is %.64s, of kind \"%s\".",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   value)),
						   kind),
				 errhint("Pass more than 0: up to 100 percent, an amount of money, or a whole number of credits.")));
	if (fixed != (currency != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("currency goes with kind \"fixed\" alone"),
				 errdetail("Of kind \"%s\" it is %s.", kind,
						   currency ? "given" : "missing"),
				 errhint("Pass a currency for money that is taken off, and only then.")));
	if (fixed && !money_to_minor(&refusal, value, money_exponent(currency),
								 currency, &ignored))
		raise_refusal(&refusal);
	if (expires && !bonus)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_in goes with kind \"bonus\" alone"),
				 errdetail("The kind is \"%s\".", kind),
				 errhint("When a promotion ends is active_until.")));
}

/*
 * Checks the plans that a promotion is for.
 */
static void
check_names_of_plans(ArrayType *plans)
{
	Datum	   *names;
	bool	   *isnull;
	int			n;
	int			i;

	deconstruct_array(plans, TEXTOID, -1, false, TYPALIGN_INT, &names,
					  &isnull, &n);
	if (n < 1 || n > MAX_PLANS || ARR_NDIM(plans) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("plans must be a list of names"),
				 errdetail("It has %d elements; 1 to %d are allowed.", n,
						   MAX_PLANS),
				 errhint("Leave plans out for everybody.")));
	for (i = 0; i < n; i++)
	{
		Refusal		refusal;

		if (isnull[i])
			raise_null("the name of a plan");
		if (!valid_name(&refusal, DatumGetTextPP(names[i]), "plan",
						MAX_NAME_BYTES))
			raise_refusal(&refusal);
	}
}

/*
 * Sets the terms of a promotion.
 */
Datum
credits_set_promotion(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	text	   *kind = arg_name(fcinfo, 1, "kind");
	Datum		value = arg_money(fcinfo, 2, "value");
	text	   *currency = arg_currency(fcinfo, 3);
	int64		per_account = arg_limit(fcinfo, 5, "per_account");
	int64		max_uses = arg_limit(fcinfo, 6, "max_uses");
	TimestampTz from = arg_active_from(fcinfo, 8, "active_from");
	TimestampTz until = arg_active_until(fcinfo, 9, from);
	Datum		values[11];
	bool		isnull[11] = {false};
	bool		none;

	check_value(text_to_cstring(kind), value, currency, !PG_ARGISNULL(4));
	values[0] = PointerGetDatum(name);
	values[1] = PointerGetDatum(kind);
	values[2] = value;
	values[3] = PointerGetDatum(currency);
	isnull[3] = currency == NULL;
	isnull[4] = PG_ARGISNULL(4);
	values[4] = isnull[4] ? (Datum) 0 :
		IntervalPGetDatum(arg_interval(fcinfo, 4, "expires_in"));
	isnull[5] = PG_ARGISNULL(7);
	values[5] = PG_GETARG_DATUM(7);
	if (!isnull[5])
		check_names_of_plans(PG_GETARG_ARRAYTYPE_P(7));
	values[6] = Int64GetDatum(per_account);
	isnull[6] = per_account == NO_LIMIT;
	values[7] = Int64GetDatum(max_uses);
	isnull[7] = max_uses == NO_LIMIT;
	values[8] = TimestampTzGetDatum(from);
	values[9] = TimestampTzGetDatum(until);
	isnull[9] = until == DT_NOEND;
	values[10] = TimestampTzGetDatum(clock_now());

	store_check_writable("credits_set_promotion()");
	sql_run(&insert_total, values, NULL);
	PG_RETURN_DATUM(sql_value(sql_run(&insert_promotion, values, isnull), 0,
							  1, &none));
}

/*
 * Ends a promotion: adds terms that end when they begin.
 */
Datum
credits_retire_promotion(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	TimestampTz at = arg_active_from(fcinfo, 1, "at");
	Datum		values[3];
	SqlResult  *row;
	Refusal		refusal;
	bool		none;

	store_check_writable("credits_retire_promotion()");
	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(at);
	if (!versions_find(&select_promotion, values, NULL, &promotion_kind, name,
					   &row, &refusal))
		raise_refusal(&refusal);
	values[0] = sql_value(row, 0, VERSION_ID, &none);
	values[2] = TimestampTzGetDatum(clock_now());
	PG_RETURN_DATUM(sql_value(sql_run(&end_promotion, values, NULL), 0, 1,
							  &none));
}
