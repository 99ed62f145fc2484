/*
 * promotions.c
 *	  Promotions: discounts and bonus credits, for a while.
 *
 * The terms of a promotion are a row of credits.promotions and are never
 * changed; see versions.c.  Each purchase that uses a promotion is a row of
 * credits.promotion_uses, and all of them, whatever the terms were, are counted
 * in the promotion's one row of credits.promotion_totals.  To count a use, the
 * account is locked first and then that row, so that concurrent purchases
 * exceed neither the limit per account nor the one in all.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "ledger/versions.h"
#include "sell/packages.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_promotion);
PG_FUNCTION_INFO_V1(credits_retire_promotion);

#define MAX_PLANS 100

typedef enum PromotionKind
{
	PROMOTION_PERCENT,			/* off the price */
	PROMOTION_FIXED,			/* off the price, in its currency */
	PROMOTION_BONUS				/* additional credits */
} PromotionKind;

static const char *const promotion_kind_names[] = {"percent", "fixed", "bonus"};

static SqlStatement insert_promotion = {
	"INSERT INTO credits.promotions (id, name, kind, value, currency,"
	" expires_in, per_account, max_uses, plans, active_from, active_until,"
	" created_at, role)"
	" VALUES (nextval('credits.promotions_id_seq'), $1, $2, $3, $4, $5, $6,"
	" $7, $8, $9, NULLIF($10, 'infinity'), $11, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, NUMERICOID, TEXTOID, INTERVALOID, INT8OID, INT8OID,
		TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

static SqlStatement keep_promotion = {
	"SELECT name, kind, value, currency, expires_in, per_account, max_uses,"
	" plans, active_from, active_until FROM credits.promotions WHERE id = $1"
	" FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement insert_total = {
	"INSERT INTO credits.promotion_totals VALUES ($1, 0)"
	" ON CONFLICT DO NOTHING",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement retire_promotion = {
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

/* the arguments of credits_set_promotion */
enum
{
	SET_PROMOTION_NAME,
	SET_PROMOTION_KIND,
	SET_PROMOTION_VALUE,
	SET_PROMOTION_CURRENCY,
	SET_PROMOTION_EXPIRES_IN,
	SET_PROMOTION_PER_ACCOUNT,
	SET_PROMOTION_MAX_USES,
	SET_PROMOTION_PLANS,
	SET_PROMOTION_FROM,
	SET_PROMOTION_UNTIL
};

static const SetArg set_promotion_args[] = {
	[SET_PROMOTION_NAME] = {"name", SET_NAMES},
	[SET_PROMOTION_KIND] = {"kind", SET_NEEDED},
	[SET_PROMOTION_VALUE] = {"value", SET_NEEDED},
	[SET_PROMOTION_CURRENCY] = {"currency", SET_KEEPS},
	[SET_PROMOTION_EXPIRES_IN] = {"expires_in", SET_KEEPS},
	[SET_PROMOTION_PER_ACCOUNT] = {"per_account", SET_KEEPS_OR_NONE, "1"},
	[SET_PROMOTION_MAX_USES] = {"max_uses", SET_KEEPS},
	[SET_PROMOTION_PLANS] = {"plans", SET_KEEPS},
	[SET_PROMOTION_FROM] = {"active_from", SET_ONCE},
	[SET_PROMOTION_UNTIL] = {"active_until", SET_KEEPS}
};

static const VersionKind promotion_versions = {
	"promotion", "credits_set_promotion", ERRCODE_GONE,
	SET_PROMOTION_FROM, SET_PROMOTION_UNTIL,
	&select_promotion, &keep_promotion, &insert_promotion, &retire_promotion
};

/* columns of select_promotion */
enum
{
	TERMS_KIND = VERSION_TERMS,
	TERMS_VALUE,
	TERMS_CURRENCY,
	TERMS_EXPIRES_IN,
	TERMS_PLANS,
	TERMS_PER_ACCOUNT,
	TERMS_MAX_USES
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
 * Refuses a promotion that has been used as often as it may be, as far as the
 * transaction sees now.
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
	row = statements_run(&select_uses, values, NULL);
	uses = DatumGetInt64(statements_value(row, 0, 1, &none));
	own = DatumGetInt64(statements_value(row, 0, 2, &none));
	if (per_account != NO_LIMIT && own >= per_account)
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("promotion \"%s\" has already been used",
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
 * Returns a limit from a row, NO_LIMIT if it is null.
 */
static int64
read_limit(const SqlResult *row, int column)
{
	bool		none;
	Datum		value = statements_value(row, 0, column, &none);

	return none ? NO_LIMIT : DatumGetInt64(value);
}

/*
 * Reads the name and the limits of a promotion, and locks its row of totals, so
 * that what is counted next cannot change until the transaction ends.
 */
static SqlResult *
lock_promotion(int64 promotion_id, text **name)
{
	Datum		value = Int64GetDatum(promotion_id);
	SqlResult  *terms = statements_run(&select_terms, &value, NULL);
	bool		none;

	if (terms->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("promotion " INT64_FORMAT " does not exist",
						promotion_id),
				 errhint("Run credits_verify.")));
	*name = DatumGetTextPP(statements_value(terms, 0, 1, &none));
	value = PointerGetDatum(*name);
	statements_run(&lock_total, &value, NULL);
	return terms;
}

/*
 * Returns whether an account may use a promotion once more.
 */
bool
promotions_left(int64 promotion_id, int64 account_id)
{
	text	   *name;
	SqlResult  *terms = lock_promotion(promotion_id, &name);
	Refusal		refusal;

	return check_uses(name, account_id, read_limit(terms, 2),
					  read_limit(terms, 3), &refusal);
}

/*
 * Counts a purchase as a use of a promotion, once.  Raises an error if there is
 * no use left, unless that has been checked.
 */
void
promotions_use(int64 promotion_id, int64 account_id, int64 purchase_id,
			   TimestampTz at, bool checked)
{
	Datum		values[5];
	SqlResult  *terms;
	text	   *name;
	Refusal		refusal;

	terms = lock_promotion(promotion_id, &name);
	values[0] = Int64GetDatum(purchase_id);
	if (statements_run(&select_use, values, NULL)->nrows > 0)
		return;
	if (!checked &&
		!check_uses(name, account_id, read_limit(terms, 2),
					read_limit(terms, 3), &refusal))
		raise_refusal(&refusal);

	values[1] = Int64GetDatum(account_id);
	values[2] = PointerGetDatum(name);
	values[3] = Int64GetDatum(promotion_id);
	values[4] = TimestampTzGetDatum(at);
	statements_run(&insert_use, values, NULL);
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(1);
	statements_run(&count_total, values, NULL);
}

/*
 * Gives back the use of a purchase that was not paid.
 */
void
promotions_release(int64 purchase_id, TimestampTz at)
{
	Datum		values[2];
	SqlResult  *use;
	text	   *name;
	bool		none;

	values[0] = Int64GetDatum(purchase_id);
	use = statements_run(&select_use, values, NULL);
	if (use->nrows == 0)
		return;
	name = DatumGetTextPP(statements_value(use, 0, 1, &none));
	values[0] = PointerGetDatum(name);
	statements_run(&lock_total, values, NULL);
	values[0] = Int64GetDatum(purchase_id);
	values[1] = TimestampTzGetDatum(at);
	/* another transaction may have released it before we got the lock */
	if (statements_run(&release_use, values, NULL)->nrows == 0)
		return;
	values[0] = PointerGetDatum(name);
	values[1] = Int64GetDatum(-1);
	statements_run(&count_total, values, NULL);
}

/* ------------------------------------------------------------------------
 * applying
 */

/*
 * Refuses a promotion to an account that subscribes to none of its plans.
 */
static bool
check_subscribes(const PriceQuote *quote, text *name, Datum plans,
				 Refusal *refusal)
{
	Datum		values[2];

	values[0] = Int64GetDatum(quote->account_id);
	values[1] = plans;
	if (statements_run(&subscribes, values, NULL)->nrows > 0)
		return true;
	return refuse(refusal, ERRCODE_FORBIDDEN,
				  psprintf("promotion \"%s\" is for subscribers",
						   text_to_cstring(name)),
				  psprintf("Account \"%s\" has no active subscription to one of its plans.",
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

	expires_in = statements_value(terms, 0, TERMS_EXPIRES_IN, &never);
	grant->part = PART_PROMOTION;
	grant->credits = DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
	grant->source = cstring_to_text("promotional");
	grant->priority = grants_default_priority(grant->source);
	grant->expires_in = never ? NULL : DatumGetIntervalP(expires_in);
	return packages_add_grant(quote, grant, refusal);
}

/*
 * Applies a promotion to a quote, and describes it in the computation.
 */
bool
promotions_apply(PriceQuote *quote, text *name, JsonObject *computation,
				 Refusal *refusal)
{
	SqlResult  *terms;
	char	   *kind_name;
	Datum		value;
	Datum		plans;
	Datum		rest;
	text	   *currency;
	bool		none;

	if (!versions_find(&promotion_versions, name, NULL, quote->at, &terms,
					   refusal))
		return false;
	plans = statements_value(terms, 0, TERMS_PLANS, &none);
	if (!none && !check_subscribes(quote, name, plans, refusal))
		return false;
	if (!check_uses(name, quote->account_id,
					read_limit(terms, TERMS_PER_ACCOUNT),
					read_limit(terms, TERMS_MAX_USES), refusal))
		return false;

	quote->promotion = name;
	quote->promotion_id = DatumGetInt64(statements_value(terms, 0, VERSION_ID, &none));
	kind_name = TextDatumGetCString(statements_value(terms, 0, TERMS_KIND, &none));
	value = statements_value(terms, 0, TERMS_VALUE, &none);
	json_text(computation, "promotion", name);
	json_int64(computation, "promotion_id", quote->promotion_id);
	json_cstring(computation, "promotion_kind", kind_name);
	json_numeric(computation, "promotion_value", value);

	rest = subtract(quote->subtotal, quote->volume_discount);
	switch ((PromotionKind) NAME_FIND(promotion_kind_names, kind_name))
	{
		case PROMOTION_BONUS:
			return add_bonus(quote, terms, value, refusal);
		case PROMOTION_PERCENT:
			quote->promotion_discount = money_percent(rest, value);
			return true;
		case PROMOTION_FIXED:
			currency = DatumGetTextPP(statements_value(terms, 0, TERMS_CURRENCY, &none));
			if (!same_text(currency, quote->currency))
				return refuse(refusal, ERRCODE_FORBIDDEN,
							  psprintf("promotion \"%s\" is not for %s",
									   text_to_cstring(name),
									   text_to_cstring(quote->currency)),
							  psprintf("Its discount is in %s.",
									   text_to_cstring(currency)),
							  "Buy without it, or in its currency.");
			/* a price does not become negative */
			quote->promotion_discount =
				DirectFunctionCall2(numeric_smaller, value, rest);
			return true;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("promotion " INT64_FORMAT " is of an unknown kind",
					quote->promotion_id),
			 errhint("Run credits_verify.")));
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Checks how many purchases may have a promotion.
 */
static void
check_number_of_uses(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (!PG_ARGISNULL(n) && PG_GETARG_INT64(n) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at least 1", name),
				 errdetail("It is " INT64_FORMAT ".", PG_GETARG_INT64(n)),
				 errhint("Pass how many purchases may have it, or clear => '{%s}' for any number.",
						 name)));
}

/*
 * Checks the value of a promotion, and what else its kind allows.
 */
static void
check_value(PromotionKind kind, Datum value, text *currency, bool expires)
{
	const char *kind_name = promotion_kind_names[kind];
	bool		fixed = kind == PROMOTION_FIXED;
	bool		bonus = kind == PROMOTION_BONUS;
	Refusal		refusal;
	int64		ignored;

	if (compare(value, number(0)) <= 0 ||
		(kind == PROMOTION_PERCENT && compare(value, number(100)) > 0) ||
		(bonus && (compare(value, number(PG_INT64_MAX)) > 0 ||
				   compare(value, money_round(value, 0)) != 0)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("value is not valid for a promotion of this kind"),
				 errdetail("It is %.64s, of kind \"%s\".",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   value)),
						   kind_name),
				 errhint("Pass more than 0: up to 100 percent, an amount of money, or a whole number of credits.")));
	if (fixed != (currency != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("currency is allowed only with kind \"fixed\""),
				 errdetail("Of kind \"%s\" it is %s.", kind_name,
						   currency ? "given" : "missing"),
				 errhint("Pass a currency for money that is taken off, and only then.")));
	if (fixed && !money_to_minor(&refusal, value, money_exponent(currency),
								 currency, &ignored))
		raise_refusal(&refusal);
	if (expires && !bonus)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_in is allowed only with kind \"bonus\""),
				 errdetail("The kind is \"%s\".", kind_name),
				 errhint("Use active_until to end a promotion.")));
}

/*
 * Checks the names of the plans that a promotion is for.  The plans need not
 * exist yet.
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
 * Checks a promotion, in the arguments of credits_set_promotion with what is
 * kept.
 */
static void
check_promotion(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	PromotionKind kind = ARG_CHOICE(SET_PROMOTION_KIND, "kind",
									promotion_kind_names);

	/* 5 EUR do not become 5 percent */
	if (set->kept && set->given->args[SET_PROMOTION_VALUE].isnull &&
		!same_text(DatumGetTextPP(set->kept[SET_PROMOTION_KIND]),
				   PG_GETARG_TEXT_PP(SET_PROMOTION_KIND)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("value must not be null where kind changes"),
				 errdetail("The value that it has is of kind \"%s\".",
						   TextDatumGetCString(set->kept[SET_PROMOTION_KIND])),
				 errhint("Pass the value of kind \"%s\".",
						 promotion_kind_names[kind])));
	if (kind != PROMOTION_FIXED)
		(void) sets_drop(set, SET_PROMOTION_CURRENCY);
	if (kind != PROMOTION_BONUS)
		(void) sets_drop(set, SET_PROMOTION_EXPIRES_IN);
	check_value(kind, arg_money(fcinfo, SET_PROMOTION_VALUE, "value"),
				arg_currency(fcinfo, SET_PROMOTION_CURRENCY),
				!PG_ARGISNULL(SET_PROMOTION_EXPIRES_IN));
	if (!PG_ARGISNULL(SET_PROMOTION_EXPIRES_IN))
		(void) arg_interval(fcinfo, SET_PROMOTION_EXPIRES_IN, "expires_in");
	check_number_of_uses(fcinfo, SET_PROMOTION_PER_ACCOUNT, "per_account");
	check_number_of_uses(fcinfo, SET_PROMOTION_MAX_USES, "max_uses");
	if (!PG_ARGISNULL(SET_PROMOTION_PLANS))
		check_names_of_plans(PG_GETARG_ARRAYTYPE_P(SET_PROMOTION_PLANS));
	(void) arg_active_until(fcinfo, SET_PROMOTION_UNTIL,
							PG_GETARG_TIMESTAMPTZ(SET_PROMOTION_FROM));
}

/*
 * Sets the terms of a promotion, or changes them.
 */
Datum
credits_set_promotion(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, SET_PROMOTION_NAME, "name");
	Datum		total = PointerGetDatum(name);
	Set			set;
	int64		current;

	SETS_READ(&set, fcinfo, set_promotion_args);
	store_check_writable("credits_set_promotion()");
	/* of two that begin the same promotion at once, one waits here */
	statements_run(&insert_total, &total, NULL);
	current = versions_merge(&promotion_versions, &set, name, NULL);
	check_promotion(&set);
	PG_RETURN_INT64(versions_set(&promotion_versions, &set, current));
}

/*
 * Ends a promotion.
 */
Datum
credits_retire_promotion(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");

	store_check_writable("credits_retire_promotion()");
	PG_RETURN_INT64(versions_retire(&promotion_versions, name, NULL, fcinfo, 1));
}
