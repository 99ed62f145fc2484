/*
 * packages.c
 *	  Packages: what can be bought in one piece, and the grants that come of it.
 *
 * A package is credits at a price and, for nothing, extra grants: bonus
 * credits, some that expire, some of another unit.  Those of another unit go to
 * an account of their own, "<buyer>:<unit>".  An offer is a row of
 * credits.packages and never changes; see versions.c.
 */
#include "credits.h"

#include "money.h"
#include "packages.h"
#include "versions.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_package);
PG_FUNCTION_INFO_V1(credits_retire_package);

#define MAX_EXTRAS 100

static const VersionKind package_kind = {
	"package", "credits_set_package", ERRCODE_NOT_FOUND
};

static SqlStatement insert_package = {
	"INSERT INTO credits.packages"
	" VALUES (nextval('credits.packages_id_seq'), $1, $2, $3, $4, $5, $6, $7,"
	" $8, $9, $10, $11, $12, session_user) RETURNING id",
	(const Oid[]) {
		TEXTOID, INT8OID, NUMERICOID, TEXTOID, TEXTOID, INTERVALOID, INT4OID,
		JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, TIMESTAMPTZOID,
		InvalidOid
	}
};

static SqlStatement end_package = {
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

/*
 * Refuses a member of an extra grant.
 */
static bool
refuse_extra(Refusal *refusal, int n, const char *what, const char *hint)
{
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "extras are not what they must be",
				  psprintf("Of number %d %s.", n, what), (char *) hint);
}

/*
 * Reads a whole number from JSON; false if it is none.
 */
static bool
read_int64(const JsonbValue *value, int64 *number)
{
	Datum		numeric;

	if (value->type != jbvNumeric)
		return false;
	numeric = NumericGetDatum(value->val.numeric);
	if (numeric_is_nan(value->val.numeric) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt,
										 DirectFunctionCall1(numeric_abs,
															 numeric),
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_ne, numeric,
										 DirectFunctionCall1(numeric_floor,
															 numeric))))
		return false;
	*number = DatumGetInt64(DirectFunctionCall1(numeric_int8, numeric));
	return true;
}

/*
 * Returns a text from JSON, NULL if it is none.
 */
static text *
read_text(const JsonbValue *value)
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
read_member(JsonbContainer *object, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, name,
													 strlen(name), NULL);

	return value && value->type == jbvNull ? NULL : value;
}

/*
 * Reads a span of time from JSON, and refuses one that is none.
 */
static bool
read_interval(const JsonbValue *value, Interval **span)
{
	text	   *shown = read_text(value);
	char	   *s;
	char	   *c;
	Refusal		refusal;

	if (shown == NULL)
		return false;
	s = text_to_cstring(shown);
	/* a number and a unit, as often as need be: what interval_in must take */
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
 * Returns the name of the account that gets what a buyer's package has of
 * another unit.
 */
static text *
account_for_unit(text *buyer, text *unit)
{
	return cstring_to_text(psprintf("%s:%s", text_to_cstring(buyer),
									text_to_cstring(unit)));
}

/*
 * Appends a grant as an object of JSON.
 */
static void
append_grant(StringInfo json, const QuoteGrant *grant, bool whole)
{
	StringInfoData object;

	initStringInfo(&object);
	if (whole)
		json_cstring(&object, "part", grant->part);
	json_int64(&object, "credits", grant->credits);
	json_text(&object, "source", grant->source);
	json_int64(&object, "priority", grant->priority);
	if (grant->expires_in)
		json_interval(&object, "expires_in", grant->expires_in);
	if (grant->unit)
		json_text(&object, "unit", grant->unit);
	if (whole && grant->price)
		json_numeric(&object, "price", grant->price);
	appendStringInfo(json, "%s%s}", json->len > 1 ? ", " : "", object.data);
}

/*
 * Returns grants as an array of JSON.
 */
static Datum
grants_document(List *grants, bool whole)
{
	StringInfoData json;
	ListCell   *lc;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	foreach(lc, grants)
		append_grant(&json, lfirst(lc), whole);
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/*
 * Returns the grants of a computation as an array of JSON.
 */
Datum
packages_grants_json(List *grants)
{
	return grants_document(grants, true);
}

/*
 * Reads an extra grant that an administrator wrote.
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
		if (strcmp(name, "credits") != 0 && strcmp(name, "source") != 0 &&
			strcmp(name, "priority") != 0 &&
			strcmp(name, "expires_in") != 0 && strcmp(name, "unit") != 0)
			return refuse_extra(refusal, n,
								psprintf("a member is \"%.64s\"", name),
								"Its members are credits, source, priority, expires_in, unit.");
	}

	value = read_member(object, "credits");
	if (value == NULL || !read_int64(value, &grant->credits) ||
		grant->credits < 1)
		return refuse_extra(refusal, n, "credits is not a whole number of 1 or more",
							"Give each extra grant its credits.");
	value = read_member(object, "source");
	grant->source = value ? read_text(value) : cstring_to_text("promotional");
	if (grant->source == NULL)
		return refuse_extra(refusal, n, "source is not a string",
							"Pass a source that credits_allocate takes.");
	if (!grants_known_source(refusal, grant->source, &grant->priority))
		return false;
	value = read_member(object, "priority");
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
	value = read_member(object, "expires_in");
	if (value && !read_interval(value, &grant->expires_in))
		return refuse_extra(refusal, n, "expires_in is not a span of time",
							"Write it as in \"30 days\".");
	value = read_member(object, "unit");
	if (value)
	{
		grant->unit = read_text(value);
		if (grant->unit == NULL)
			return refuse_extra(refusal, n, "unit is not a string",
								"Pass the unit of an account.");
		return valid_name(refusal, grant->unit, "unit", MAX_UNIT_BYTES);
	}
	return true;
}

/*
 * Reads all extra grants that an administrator wrote.
 */
static bool
read_extras(Jsonb *extras, List **grants, Refusal *refusal)
{
	uint32		n;
	uint32		i;

	if (!JB_ROOT_IS_ARRAY(extras) || JB_ROOT_IS_SCALAR(extras))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "extras are not what they must be",
					  "They are not an array.",
					  "Pass an array of objects, as [{\"credits\": 100}].");
	n = JB_ROOT_COUNT(extras);
	if (n > MAX_EXTRAS)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "extras are too many",
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
 * Reads a grant that we have written.
 */
static QuoteGrant *
read_grant(JsonbContainer *object)
{
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	JsonbValue *value;
	int64		number = 0;

	value = read_member(object, "part");
	grant->part = value ? text_to_cstring(read_text(value)) : "extra";
	value = read_member(object, "credits");
	if (value == NULL || !read_int64(value, &grant->credits))
		elog(ERROR, "a grant of a purchase has no credits");
	value = read_member(object, "source");
	grant->source = value ? read_text(value) : cstring_to_text("purchase");
	value = read_member(object, "priority");
	if (value && read_int64(value, &number))
		grant->priority = number;
	value = read_member(object, "expires_in");
	if (value && !read_interval(value, &grant->expires_in))
		elog(ERROR, "a grant of a purchase expires in no span of time");
	value = read_member(object, "unit");
	grant->unit = value ? read_text(value) : NULL;
	value = read_member(object, "price");
	if (value && value->type == jbvNumeric)
		grant->price = NumericGetDatum(DatumGetNumericCopy(NumericGetDatum(value->val.numeric)));
	return grant;
}

/*
 * Reads an array of grants that we have written.
 */
static List *
read_grants(JsonbContainer *array)
{
	List	   *grants = NIL;
	uint32		i;

	for (i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);

		if (value->type == jbvBinary)
			grants = lappend(grants, read_grant(value->val.binary.data));
	}
	return grants;
}

/*
 * Says whose a grant is: a buyer's, or that of the buyer's account for another
 * unit.
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
		grant->account = account_for_unit(buyer, grant->unit);
}

/*
 * Returns the grants that a computation, kept by a purchase, says are given.
 */
List *
packages_grants(Jsonb *computation, text *buyer)
{
	JsonbValue *unit = read_member(&computation->root, "unit");
	JsonbValue *array = read_member(&computation->root, "grants");
	List	   *grants;
	ListCell   *lc;

	if (unit == NULL || unit->type != jbvString || array == NULL ||
		array->type != jbvBinary)
		elog(ERROR, "the computation of a purchase has no grants");
	grants = read_grants(array->val.binary.data);
	foreach(lc, grants)
		address_grant(lfirst(lc), buyer, read_text(unit));
	return grants;
}

/* ------------------------------------------------------------------------
 * offers
 */

/*
 * Refuses a grant of another unit to an account that cannot take it.  One that
 * does not exist is opened when the package is bought.
 */
static bool
check_other(const QuoteGrant *grant, Refusal *refusal)
{
	Account		other = {0};
	text	   *unit;

	if (!valid_name(refusal, grant->account, "account", MAX_NAME_BYTES))
		return false;
	if (!row_find_account(NULL, store_snapshot(true), grant->account, 0,
						  &other))
		return true;
	row_keep_account(&other);
	unit = DatumGetTextPP(other.values[Anum_accounts_unit - 1]);
	if (!same_text(unit, grant->unit))
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" has another unit",
							   text_to_cstring(grant->account)),
					  psprintf("It holds \"%s\"; what is bought has also " INT64_FORMAT " of \"%s\".",
							   text_to_cstring(unit), grant->credits,
							   text_to_cstring(grant->unit)),
					  "What a buyer gets of another unit goes to an account of that name.");
	if (other.status == ACCOUNT_CLOSED)
		return refuse(refusal, ERRCODE_LOCKED_ACCOUNT,
					  psprintf("account \"%s\" is closed",
							   text_to_cstring(grant->account)),
					  psprintf("What is bought has also " INT64_FORMAT " of \"%s\".",
							   grant->credits, text_to_cstring(grant->unit)),
					  "A closed account can be read, but never changed again.");
	return true;
}

/*
 * Adds a grant to a quote, and counts what the buyer gets for nothing.
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
 * Begins a quote with the package that is for sale under a name.
 */
bool
packages_begin_quote(PriceQuote *quote, text *name, text *currency,
					 Refusal *refusal)
{
	Datum		values[2];
	SqlResult  *row;
	Datum		unit;
	Datum		expires_in;
	bool		no_unit;
	bool		never;
	bool		none;
	QuoteGrant *grant = palloc0(sizeof(QuoteGrant));
	ListCell   *lc;

	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(quote->at);
	if (!versions_find(&select_package, values, NULL, &package_kind, name,
					   &row, refusal))
		return false;
	quote->package = name;
	quote->package_id = DatumGetInt64(sql_value(row, 0, VERSION_ID, &none));
	quote->credits = DatumGetInt64(sql_value(row, 0, PACKAGE_CREDITS, &none));
	quote->subtotal = NumericGetDatum(DatumGetNumericCopy(sql_value(row, 0, PACKAGE_PRICE, &none)));
	quote->currency = DatumGetTextPP(sql_value(row, 0, PACKAGE_CURRENCY, &none));
	unit = sql_value(row, 0, PACKAGE_UNIT, &no_unit);
	if (!no_unit && !same_text(DatumGetTextPP(unit), quote->unit))
		return refuse(refusal, ERRCODE_FORBIDDEN,
					  psprintf("package \"%s\" is not for this account",
							   text_to_cstring(name)),
					  psprintf("It is of \"%s\"; account \"%s\" holds \"%s\".",
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

	expires_in = sql_value(row, 0, PACKAGE_EXPIRES_IN, &never);
	grant->part = "credits";
	grant->credits = quote->credits;
	grant->source = cstring_to_text("purchase");
	grant->priority = DatumGetInt32(sql_value(row, 0, PACKAGE_PRIORITY, &none));
	grant->expires_in = never ? NULL : DatumGetIntervalP(expires_in);
	grant->price = quote->subtotal; /* until the total is known */
	if (!packages_add_grant(quote, grant, refusal))
		return false;
	foreach(lc, read_grants(&DatumGetJsonbP(sql_value(row, 0, PACKAGE_EXTRAS, &none))->root))
		if (!packages_add_grant(quote, lfirst(lc), refusal))
			return false;
	return true;
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Offers a package.
 */
Datum
credits_set_package(PG_FUNCTION_ARGS)
{
	Datum		values[12];
	bool		isnull[12] = {false};
	Refusal		refusal;
	text	   *currency;
	int64		minor;
	TimestampTz from;
	TimestampTz until;
	List	   *extras = NIL;
	bool		none;

	values[0] = PointerGetDatum(arg_name(fcinfo, 0, "name"));
	values[1] = Int64GetDatum(arg_amount(fcinfo, 1, "credits"));
	values[2] = arg_money(fcinfo, 2, "price");
	currency = arg_currency(fcinfo, 3);
	if (currency == NULL)
		raise_null("currency");
	values[3] = PointerGetDatum(currency);
	if (!money_to_minor(&refusal, values[2], money_exponent(currency),
						currency, &minor))
		raise_refusal(&refusal);
	isnull[5] = PG_ARGISNULL(4);
	values[5] = isnull[5] ? (Datum) 0 :
		IntervalPGetDatum(arg_interval(fcinfo, 4, "expires_in"));
	if (!PG_ARGISNULL(5) &&
		!read_extras(PG_GETARG_JSONB_P(5), &extras, &refusal))
		raise_refusal(&refusal);
	values[7] = grants_document(extras, false);
	isnull[4] = PG_ARGISNULL(6);
	values[4] = PointerGetDatum(arg_text(fcinfo, 6, "unit", MAX_UNIT_BYTES));
	if (!isnull[4])
		check_unit(DatumGetTextPP(values[4]));
	values[6] = PG_ARGISNULL(7) ?
		Int32GetDatum(grants_default_priority(cstring_to_text("purchase"))) :
		PG_GETARG_DATUM(7);
	if (DatumGetInt32(values[6]) < 0 || DatumGetInt32(values[6]) > MAX_PRIORITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("priority must be from 0 to %d", MAX_PRIORITY),
				 errdetail("It is %d.", DatumGetInt32(values[6])),
				 errhint("Grants of a lower priority burn first.")));
	from = arg_active_from(fcinfo, 8, "active_from");
	until = arg_active_until(fcinfo, 9, from);
	values[8] = TimestampTzGetDatum(from);
	values[9] = TimestampTzGetDatum(until);
	isnull[9] = until == DT_NOEND;
	values[10] = PointerGetDatum(arg_metadata(fcinfo, 10));
	isnull[10] = PG_ARGISNULL(10);
	values[11] = TimestampTzGetDatum(clock_now());

	store_check_writable("credits_set_package()");
	PG_RETURN_DATUM(sql_value(sql_run(&insert_package, values, isnull), 0, 1,
							  &none));
}

/*
 * Ends a package: adds an offer that ends when it begins.
 */
Datum
credits_retire_package(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	TimestampTz at = arg_active_from(fcinfo, 1, "at");
	Datum		values[3];
	SqlResult  *row;
	Refusal		refusal;
	bool		none;

	store_check_writable("credits_retire_package()");
	values[0] = PointerGetDatum(name);
	values[1] = TimestampTzGetDatum(at);
	if (!versions_find(&select_package, values, NULL, &package_kind, name,
					   &row, &refusal))
		raise_refusal(&refusal);
	values[0] = sql_value(row, 0, VERSION_ID, &none);
	values[2] = TimestampTzGetDatum(clock_now());
	PG_RETURN_DATUM(sql_value(sql_run(&end_package, values, NULL), 0, 1,
							  &none));
}
