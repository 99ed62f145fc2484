/*
 * packages.c
 *	  Packages: credits sold in one piece, and the grants that come with them.
 *
 * A package is an amount of credits at a price, plus extra grants that are
 * free: bonus credits, which may expire earlier or be of another unit.  Credits
 * of another unit go to an account of their own, "<buyer>:<unit>".  A version is
 * a row of credits.packages and is never changed; see versions.c.
 *
 * Grants are kept as JSON twice: in the version, as the administrator wrote the
 * extras, and in the computation of a purchase, which has all of its grants.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "ledger/versions.h"
#include "sell/packages.h"
#include "subscribe/offers.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_package);
PG_FUNCTION_INFO_V1(credits_retire_package);
PG_FUNCTION_INFO_V1(credits_offer_package);

#define MAX_EXTRAS 100

static SqlStatement insert_package = {
	"INSERT INTO credits.packages (id, name, credits, price, currency,"
	" expires_in, extras, unit, priority, active_from, active_until, metadata,"
	" created_at, role)"
	" VALUES (nextval('credits.packages_id_seq'), $1, $2, $3, $4, $5, $6, $7,"
	" $8, $9, NULLIF($10, 'infinity'), $11, $12, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, INT8OID, NUMERICOID, TEXTOID, INTERVALOID, JSONBOID, TEXTOID,
		INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

static SqlStatement keep_package = {
	"SELECT name, credits, price, currency, expires_in, extras, unit, priority,"
	" active_from, active_until, metadata FROM credits.packages WHERE id = $1"
	" FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement retire_package = {
	"INSERT INTO credits.packages"
	" SELECT nextval('credits.packages_id_seq'), name, credits, price,"
	" currency, unit, expires_in, priority, extras, $2, $2, metadata, $3,"
	" session_user FROM credits.packages WHERE id = $1 RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement select_package = {
	"SELECT id, active_from, active_until, credits, price, currency, unit,"
	" expires_in, priority, extras FROM credits.packages WHERE name = $1"
	VERSION_IN_FORCE,
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* the arguments of credits_set_package */
enum
{
	SET_PACKAGE_NAME,
	SET_PACKAGE_CREDITS,
	SET_PACKAGE_PRICE,
	SET_PACKAGE_CURRENCY,
	SET_PACKAGE_EXPIRES_IN,
	SET_PACKAGE_EXTRAS,
	SET_PACKAGE_UNIT,
	SET_PACKAGE_PRIORITY,
	SET_PACKAGE_FROM,
	SET_PACKAGE_UNTIL,
	SET_PACKAGE_METADATA
};

static const SetArg set_package_args[] = {
	[SET_PACKAGE_NAME] = {"name", SET_NAMES},
	[SET_PACKAGE_CREDITS] = {"credits", SET_NEEDED},
	[SET_PACKAGE_PRICE] = {"price", SET_NEEDED},
	[SET_PACKAGE_CURRENCY] = {"currency", SET_NEEDED},
	[SET_PACKAGE_EXPIRES_IN] = {"expires_in", SET_KEEPS},
	[SET_PACKAGE_EXTRAS] = {"extras", SET_KEEPS, "[]"},
	[SET_PACKAGE_UNIT] = {"unit", SET_KEEPS},
	[SET_PACKAGE_PRIORITY] = {"priority", SET_KEEPS},
	[SET_PACKAGE_FROM] = {"active_from", SET_ONCE},
	[SET_PACKAGE_UNTIL] = {"active_until", SET_KEEPS},
	[SET_PACKAGE_METADATA] = {"metadata", SET_KEEPS}
};

static const VersionKind package_kind = {
	"package", "credits_set_package", ERRCODE_NOT_FOUND,
	SET_PACKAGE_FROM, SET_PACKAGE_UNTIL,
	&select_package, &keep_package, &insert_package, &retire_package
};

/* columns of select_package */
enum
{
	PACKAGE_CREDITS = VERSION_TERMS,
	PACKAGE_PRICE,
	PACKAGE_CURRENCY,
	PACKAGE_UNIT,
	PACKAGE_EXPIRES_IN,
	PACKAGE_PRIORITY,
	PACKAGE_EXTRAS
};

/* ------------------------------------------------------------------------
 * grants as JSON
 */

/* as the members of a computation's grants are called */
static const char *const part_names[] = {"credits", "extra", "promotion"};

/* what an administrator may write in an extra grant */
static const char *const extra_members[] =
{"credits", "source", "priority", "expires_in", "unit"};

/*
 * Refuses an extra grant, the nth, because of one of its members.
 */
static bool
refuse_extra(Refusal *refusal, int n, const char *what, const char *hint)
{
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "extras are not valid",
				  psprintf("Of number %d %s.", n, what), (char *) hint);
}

/*
 * Reads a whole number from JSON.  Returns false if the value is not one.
 */
static bool
read_int64(const JsonbValue *value, int64 *result)
{
	Datum		datum;

	if (value->type != jbvNumeric)
		return false;
	datum = NumericGetDatum(value->val.numeric);
	/* numeric_int8 would raise an error, or round */
	if (numeric_is_nan(value->val.numeric) ||
		compare(DirectFunctionCall1(numeric_abs, datum),
				number(PG_INT64_MAX)) > 0 ||
		compare(datum, DirectFunctionCall1(numeric_floor, datum)) != 0)
		return false;
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, datum));
	return true;
}

/*
 * Reads a string from JSON.  Returns NULL if the value is not one.
 */
static text *
packages_read_text(const JsonbValue *value)
{
	if (value->type != jbvString)
		return NULL;
	return cstring_to_text_with_len(value->val.string.val,
									value->val.string.len);
}

/*
 * Returns a member of an object in JSON, NULL if it is missing or null.
 */
static JsonbValue *
packages_read_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, name,
													 strlen(name), NULL);

	return value && value->type == jbvNull ? NULL : value;
}

/*
 * Reads a span of time from JSON.  Returns false if the value is not one, or
 * not one that a grant can expire in.
 */
static bool
read_interval(const JsonbValue *value, Interval **span)
{
	text	   *shown = packages_read_text(value);
	char	   *s;
	char	   *c;
	Refusal		refusal;

	if (shown == NULL)
		return false;
	s = text_to_cstring(shown);
	/* without signs, no part of the span can be negative */
	for (c = s; *c; c++)
		if (strchr("-+@", *c))
			return false;
	*span = DatumGetIntervalP(DirectFunctionCall3(interval_in,
												  CStringGetDatum(s),
												  ObjectIdGetDatum(InvalidOid),
												  Int32GetDatum(-1)));
	return valid_span(&refusal, *span, "expires_in");
}

/*
 * Returns grants as an array of JSON: as a computation keeps them or, if not
 * whole, as a version keeps its extras.
 */
Datum
packages_grants_json(List *grants, bool whole)
{
	JsonArray	array;
	ListCell   *lc;

	json_begin_array(&array);
	foreach(lc, grants)
	{
		const QuoteGrant *grant = lfirst(lc);
		JsonObject	object;

		json_begin(&object);
		if (whole)
			json_cstring(&object, "part", part_names[grant->part]);
		json_int64(&object, "credits", grant->credits);
		json_text(&object, "source", grant->source);
		json_int64(&object, "priority", grant->priority);
		if (grant->expires_in)
			json_interval(&object, "expires_in", grant->expires_in);
		if (grant->unit)
			json_text(&object, "unit", grant->unit);
		if (whole && grant->price)
			json_numeric(&object, "price", grant->price);
		json_add_object(&array, &object);
	}
	return JsonbPGetDatum(json_array_document(&array));
}

/*
 * Reads an extra grant as an administrator wrote it, the nth.
 */
static bool
read_extra(JsonbContainer *object, int n, QuoteGrant *grant,
		   Refusal *refusal)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue *value;
	int64		priority;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		if (NAME_FIND(extra_members, name) < 0)
			return refuse_extra(refusal, n,
								psprintf("a member is \"%s\"",
										 show_value(name)),
								"Its members are credits, source, priority, expires_in, unit.");
	}

	grant->part = PART_EXTRA;
	value = packages_read_member(object, "credits");
	if (value == NULL || !read_int64(value, &grant->credits) ||
		grant->credits < 1)
		return refuse_extra(refusal, n, "credits is not a whole number of 1 or more",
							"Give each extra grant its credits.");
	value = packages_read_member(object, "source");
	grant->source = value ? packages_read_text(value) : cstring_to_text("promotional");
	if (grant->source == NULL)
		return refuse_extra(refusal, n, "source is not a string",
							"Pass a source that credits_allocate takes.");
	if (!grants_known_source(refusal, grant->source, &grant->priority))
		return false;
	value = packages_read_member(object, "priority");
	if (value)
	{
		if (!read_int64(value, &priority) || priority < 0 ||
			priority > MAX_PRIORITY)
			return refuse_extra(refusal, n,
								psprintf("priority is not between 0 and %d",
										 MAX_PRIORITY),
								"Leave it out for that of the source.");
		grant->priority = priority;
	}
	value = packages_read_member(object, "expires_in");
	if (value && !read_interval(value, &grant->expires_in))
		return refuse_extra(refusal, n, "expires_in is not a span of time",
							"Write it as in \"30 days\".");
	value = packages_read_member(object, "unit");
	if (value)
	{
		grant->unit = packages_read_text(value);
		if (grant->unit == NULL)
			return refuse_extra(refusal, n, "unit is not a string",
								"Pass the unit of an account.");
		return valid_name(refusal, grant->unit, "unit", MAX_UNIT_BYTES);
	}
	return true;
}

/*
 * Reads extra grants as an administrator wrote them.
 */
static bool
read_extras(Jsonb *extras, List **grants, Refusal *refusal)
{
	uint32		n;
	uint32		i;

	if (!JB_ROOT_IS_ARRAY(extras) || JB_ROOT_IS_SCALAR(extras))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "extras are not valid",
					  "They are not an array.",
					  "Pass an array of objects, as [{\"credits\": 100}].");
	n = JB_ROOT_COUNT(extras);
	if (n > MAX_EXTRAS)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "too many extras",
					  psprintf("There are %u; at most %d are allowed.", n,
							   MAX_EXTRAS),
					  "Give fewer and larger ones.");
	for (i = 0; i < n; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(&extras->root, i);
		QuoteGrant *grant = palloc0(sizeof(QuoteGrant));

		if (value->type != jbvBinary ||
			!JsonContainerIsObject(value->val.binary.data))
			return refuse_extra(refusal, i + 1, "there is no object",
								"Pass an array of objects, as [{\"credits\": 100}].");
		if (!read_extra(value->val.binary.data, i + 1, grant, refusal))
			return false;
		*grants = lappend(*grants, grant);
	}
	return true;
}

/*
 * Reads a grant that packages_grants_json wrote.
 */
static QuoteGrant *
read_grant(JsonbContainer *object)
{
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	JsonbValue *value;
	int			part;
	int64		priority;

	/* a version's extras do not say what they are */
	value = packages_read_member(object, "part");
	part = value && value->type == jbvString ?
		NAME_FIND(part_names, text_to_cstring(packages_read_text(value))) :
		PART_EXTRA;
	if (part < 0)
		elog(ERROR, "a grant of a purchase is of an unknown part");
	grant->part = part;
	value = packages_read_member(object, "credits");
	if (value == NULL || !read_int64(value, &grant->credits))
		elog(ERROR, "a grant of a purchase has no credits");
	value = packages_read_member(object, "source");
	grant->source = value ? packages_read_text(value) : cstring_to_text("purchase");
	value = packages_read_member(object, "priority");
	if (value && read_int64(value, &priority))
		grant->priority = priority;
	value = packages_read_member(object, "expires_in");
	if (value && !read_interval(value, &grant->expires_in))
		elog(ERROR, "a grant of a purchase expires in no span of time");
	value = packages_read_member(object, "unit");
	grant->unit = value ? packages_read_text(value) : NULL;
	value = packages_read_member(object, "price");
	if (value && value->type == jbvNumeric)
		grant->price = NumericGetDatum(DatumGetNumericCopy(NumericGetDatum(value->val.numeric)));
	return grant;
}

/*
 * Reads an array of grants that packages_grants_json wrote.
 */
static List *
packages_read_grants(JsonbContainer *array)
{
	List	   *grants = NIL;
	uint32		i;

	for (i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);

		CHECK_FOR_INTERRUPTS();
		if (value->type == jbvBinary)
			grants = lappend(grants, read_grant(value->val.binary.data));
	}
	return grants;
}

/*
 * Sets the account that a grant is for: the buyer's, or the one that the buyer
 * has for another unit.
 */
static void
address_grant(QuoteGrant *grant, text *buyer, text *unit)
{
	grant->buyer = grant->unit == NULL || same_text(grant->unit, unit);
	if (grant->buyer)
	{
		grant->unit = unit;
		grant->account = buyer;
	}
	else
		grant->account = cstring_to_text(psprintf("%s:%s",
												  text_to_cstring(buyer),
												  text_to_cstring(grant->unit)));
}

/*
 * Returns the grants that the computation of a purchase says are given.
 */
List *
packages_grants(Jsonb *computation, text *buyer)
{
	JsonbValue *unit = packages_read_member(&computation->root, "unit");
	JsonbValue *array = packages_read_member(&computation->root, "grants");
	List	   *grants;
	ListCell   *lc;

	if (unit == NULL || unit->type != jbvString || array == NULL ||
		array->type != jbvBinary)
		elog(ERROR, "the computation of a purchase has no grants");
	grants = packages_read_grants(array->val.binary.data);
	foreach(lc, grants)
		address_grant(lfirst(lc), buyer, packages_read_text(unit));
	return grants;
}

/*
 * Returns an amount of money in the computation of a purchase.
 */
Datum
packages_money(Jsonb *computation, const char *name)
{
	JsonbValue *value = packages_read_member(&computation->root, name);

	if (value == NULL || value->type != jbvNumeric)
		elog(ERROR, "the computation of a purchase has no %s", name);
	return NumericGetDatum(DatumGetNumericCopy(NumericGetDatum(value->val.numeric)));
}

/* ------------------------------------------------------------------------
 * quotes
 */

/*
 * Refuses a grant of another unit if its account cannot take it.  An account
 * that does not exist is opened when the purchase is delivered.
 */
static bool
check_other(const QuoteGrant *grant, Refusal *refusal)
{
	Account		other = {0};

	if (!valid_name(refusal, grant->account, "account", MAX_NAME_BYTES))
		return false;
	if (!rows_find_account(NULL, store_snapshot(true), grant->account, 0,
						   &other))
		return true;
	if (!same_text(other.unit, grant->unit))
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" has another unit",
							   text_to_cstring(grant->account)),
					  psprintf("It holds \"%s\", but the purchase includes " INT64_FORMAT " of \"%s\".",
							   text_to_cstring(other.unit), grant->credits,
							   text_to_cstring(grant->unit)),
					  "What a buyer gets of another unit goes to an account of that name.");
	if (other.status == ACCOUNT_CLOSED)
		return refuse(refusal, ERRCODE_LOCKED_ACCOUNT,
					  psprintf("account \"%s\" is closed",
							   text_to_cstring(grant->account)),
					  psprintf("The purchase includes " INT64_FORMAT " of \"%s\".",
							   grant->credits, text_to_cstring(grant->unit)),
					  "A closed account can be read, but never changed again.");
	return true;
}

/*
 * Adds a grant to a quote, and counts what the buyer gets free of charge.
 */
bool
packages_add_grant(PriceQuote *quote, QuoteGrant *grant, Refusal *refusal)
{
	address_grant(grant, quote->account, quote->unit);
	if (!grant->buyer && !check_other(grant, refusal))
		return false;
	quote->grants = lappend(quote->grants, grant);
	if (!grant->buyer || grant->price)
		return true;
	if (quote->bonus > PG_INT64_MAX - quote->credits - grant->credits)
		return refuse(refusal, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
					  "credits out of range",
					  psprintf("They are more than " INT64_FORMAT ".",
							   PG_INT64_MAX),
					  "Buy less at a time.");
	quote->bonus += grant->credits;
	return true;
}

/*
 * Begins a quote with the package that is sold to an account under a name.
 */
bool
packages_begin_quote(PriceQuote *quote, const Account *account, text *name,
					 text *currency, Refusal *refusal)
{
	SqlResult  *row;
	Datum		unit;
	Datum		expires_in;
	bool		no_unit;
	bool		never;
	bool		none;
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	ListCell   *lc;

	/* before anything that tells that there is one */
	if (!offers_reach(OFFER_PACKAGE, name, account))
		return versions_refuse_unknown(&package_kind, name, refusal);
	if (!versions_find(&package_kind, name, NULL, quote->at, &row, refusal))
		return false;
	quote->package = name;
	quote->package_id = DatumGetInt64(statements_value(row, 0, VERSION_ID, &none));
	quote->credits = DatumGetInt64(statements_value(row, 0, PACKAGE_CREDITS, &none));
	quote->subtotal = NumericGetDatum(DatumGetNumericCopy(statements_value(row, 0, PACKAGE_PRICE, &none)));
	quote->currency = DatumGetTextPP(statements_value(row, 0, PACKAGE_CURRENCY, &none));
	unit = statements_value(row, 0, PACKAGE_UNIT, &no_unit);
	if (!no_unit && !same_text(DatumGetTextPP(unit), quote->unit))
		return refuse(refusal, ERRCODE_FORBIDDEN,
					  psprintf("package \"%s\" is not for this account",
							   text_to_cstring(name)),
					  psprintf("It is for unit \"%s\", but account \"%s\" holds \"%s\".",
							   text_to_cstring(DatumGetTextPP(unit)),
							   text_to_cstring(quote->account),
							   text_to_cstring(quote->unit)),
					  "Buy it for an account of that unit.");
	if (currency && !same_text(currency, quote->currency))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("package \"%s\" is not sold in %s",
							   text_to_cstring(name),
							   text_to_cstring(currency)),
					  psprintf("Its price is in %s.",
							   text_to_cstring(quote->currency)),
					  "Leave currency out, or buy a package of that currency.");

	expires_in = statements_value(row, 0, PACKAGE_EXPIRES_IN, &never);
	grant->part = PART_CREDITS;
	grant->credits = quote->credits;
	grant->source = cstring_to_text("purchase");
	grant->priority = DatumGetInt32(statements_value(row, 0, PACKAGE_PRIORITY, &none));
	grant->expires_in = never ? NULL : DatumGetIntervalP(expires_in);
	grant->price = quote->subtotal; /* until the total is known */
	if (!packages_add_grant(quote, grant, refusal))
		return false;
	foreach(lc, packages_read_grants(&DatumGetJsonbP(statements_value(row, 0,
																	  PACKAGE_EXTRAS, &none))->root))
	{
		if (!packages_add_grant(quote, lfirst(lc), refusal))
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Checks a package, in the arguments of credits_set_package with what is kept,
 * and completes them.
 */
static void
check_package(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	Refusal		refusal;
	text	   *currency;
	text	   *unit;
	Datum		price;
	int64		minor;

	(void) arg_amount(fcinfo, SET_PACKAGE_CREDITS, "credits");
	price = arg_money(fcinfo, SET_PACKAGE_PRICE, "price");
	currency = arg_currency(fcinfo, SET_PACKAGE_CURRENCY);
	if (currency == NULL)
		raise_null("currency");
	if (!money_to_minor(&refusal, price, money_exponent(currency), currency,
						&minor))
		raise_refusal(&refusal);
	if (!PG_ARGISNULL(SET_PACKAGE_EXPIRES_IN))
		(void) arg_interval(fcinfo, SET_PACKAGE_EXPIRES_IN, "expires_in");
	if (!set->given->args[SET_PACKAGE_EXTRAS].isnull)
	{
		List	   *extras = NIL;

		if (!read_extras(PG_GETARG_JSONB_P(SET_PACKAGE_EXTRAS), &extras,
						 &refusal))
			raise_refusal(&refusal);
		sets_replace(set, SET_PACKAGE_EXTRAS,
					 packages_grants_json(extras, false));
	}
	unit = arg_text(fcinfo, SET_PACKAGE_UNIT, "unit", MAX_UNIT_BYTES);
	if (unit)
		check_unit(unit);
	if (PG_ARGISNULL(SET_PACKAGE_PRIORITY))
		sets_replace(set, SET_PACKAGE_PRIORITY,
					 Int32GetDatum(grants_default_priority(cstring_to_text("purchase"))));
	if (PG_GETARG_INT32(SET_PACKAGE_PRIORITY) < 0 ||
		PG_GETARG_INT32(SET_PACKAGE_PRIORITY) > MAX_PRIORITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("priority must be from 0 to %d", MAX_PRIORITY),
				 errdetail("It is %d.", PG_GETARG_INT32(SET_PACKAGE_PRIORITY)),
				 errhint("Grants of a lower priority burn first.")));
	(void) arg_active_until(fcinfo, SET_PACKAGE_UNTIL,
							PG_GETARG_TIMESTAMPTZ(SET_PACKAGE_FROM));
	(void) arg_metadata(fcinfo, SET_PACKAGE_METADATA);
}

/*
 * Puts a package on sale, or a new version of it.
 */
Datum
credits_set_package(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, SET_PACKAGE_NAME, "name");
	Set			set;
	int64		current;

	SETS_READ(&set, fcinfo, set_package_args);
	store_check_writable("credits_set_package()");
	current = versions_merge(&package_kind, &set, name, NULL);
	check_package(&set);
	PG_RETURN_INT64(versions_set(&package_kind, &set, current));
}

/*
 * Ends a package.
 */
Datum
credits_retire_package(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");

	store_check_writable("credits_retire_package()");
	PG_RETURN_INT64(versions_retire(&package_kind, name, NULL, fcinfo, 1));
}

/*
 * Offers a package to some accounts, or to everybody.
 */
Datum
credits_offer_package(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "package");
	Datum		values[2];
	Refusal		refusal;

	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(clock_now());
	/* what has ended, or has not begun, can be offered, too */
	if (statements_run(&select_package, values, NULL)->nrows == 0)
	{
		(void) versions_refuse_unknown(&package_kind, name, &refusal);
		raise_refusal(&refusal);
	}
	PG_RETURN_INT64(offers_add(fcinfo, OFFER_PACKAGE, name));
}
