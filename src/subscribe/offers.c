/*
 * offers.c
 *	  Offers: plans and packages that are not for everybody.
 *
 * What no row of credits.offers names is for everybody.  What one names is for
 * the accounts that an offer reaches, which has not been withdrawn.  To all others
 * it is as if it did not exist.
 *
 * An offer counts when something is agreed: a subscription begins, is to change
 * its plan, or a purchase is started.  What was agreed stays: nothing looks at
 * offers when a subscription is renewed, a planned change comes, or money was
 * paid, whoever tells of it.
 *
 * Neither is anything locked: of a call and a withdrawal at the same time, the
 * call can always be said to have come first.
 *
 * Tested in test/sql/offers.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/offers.h"
#include "subscribe/plans.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_offer_plan);
PG_FUNCTION_INFO_V1(credits_withdraw_offer);

/* metadata of an offer is in an index as text, and entries are limited */
#define MAX_REACH_BYTES 1024

static const char *const offer_kind_names[] = {"plan", "package"};

/*
 * The conditions are those of credits_plans and credits_packages.  What is ordered
 * is, so that the index is used if there are many offers of others.
 */
static SqlStatement offer_reaches = {
	"SELECT (SELECT o.id FROM credits.offers AS o"
	" WHERE o.kind = $1 AND o.name = $2"
	" ORDER BY COALESCE(o.account_id, 0) LIMIT 1) IS NULL"
	" OR EXISTS (SELECT FROM credits.offers AS o"
	" WHERE o.kind = $1 AND o.name = $2 AND o.withdrawn_at IS NULL"
	" AND COALESCE(o.account_id, 0) = $3)"
	" OR EXISTS (SELECT FROM credits.offers AS o"
	" WHERE o.kind = $1 AND o.name = $2 AND o.withdrawn_at IS NULL"
	" AND COALESCE(o.account_id, 0) = 0"
	" AND (o.metadata IS NULL OR $4 @> o.metadata))",
	(const Oid[]) {TEXTOID, TEXTOID, INT8OID, JSONBOID, InvalidOid}
};

/* inserts nothing if the same offer stands */
static SqlStatement insert_offer = {
	"INSERT INTO credits.offers (id, kind, name, account_id, metadata,"
	" created_at, role)"
	" VALUES (nextval('credits.offers_id_seq'), $1, $2, $3, $4, $5,"
	" session_user) ON CONFLICT DO NOTHING RETURNING id",
	(const Oid[]) {
		TEXTOID, TEXTOID, INT8OID, JSONBOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement find_offer = {
	"SELECT o.id FROM credits.offers AS o"
	" WHERE o.kind = $1 AND o.name = $2 AND o.withdrawn_at IS NULL"
	" AND COALESCE(o.account_id, 0) = COALESCE($3, 0)"
	" AND COALESCE(o.metadata::text COLLATE \"C\", '')"
	" = COALESCE($4::text, '')",
	(const Oid[]) {TEXTOID, TEXTOID, INT8OID, JSONBOID, InvalidOid}
};

static SqlStatement end_offer = {
	"UPDATE credits.offers SET withdrawn_at = $2, withdrawn_by = session_user"
	" WHERE id = $1 AND withdrawn_at IS NULL",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement offer_exists = {
	"SELECT 1 FROM credits.offers WHERE id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

/*
 * Returns whether something is for everybody, or offered to an account.
 */
bool
offers_reach(OfferKind kind, text *name, const Account *account)
{
	Datum		values[4];
	bool		isnull[4] = {false};
	bool		none;

	values[0] = CStringGetTextDatum(offer_kind_names[kind]);
	values[1] = PointerGetDatum(name);
	values[2] = Int64GetDatum(account->id);
	values[3] = account->metadata;
	isnull[3] = account->metadata == 0;
	return DatumGetBool(statements_value(statements_run(&offer_reaches, values,
														isnull),
										 0, 1, &none));
}

/*
 * Reads the metadata that accounts must have to be reached by an offer.
 */
static Jsonb *
arg_reach(FunctionCallInfo fcinfo, int n)
{
	/* bounded, before it is made a text */
	Jsonb	   *metadata = arg_metadata(fcinfo, n);
	Size		length;

	if (!JB_ROOT_IS_OBJECT(metadata) || JB_ROOT_COUNT(metadata) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metadata must be an object that is not empty"),
				 errdetail("An offer reaches the accounts whose metadata contains it."),
				 errhint("Pass what they have in common, such as {\"company\": \"acme\"}; to offer to all accounts, pass everybody => true.")));
	length = strlen(JsonbToCString(NULL, &metadata->root, VARSIZE(metadata)));
	if (length > MAX_REACH_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metadata of an offer is too long"),
				 errdetail("It has %zu bytes; at most %d are allowed.",
						   length, MAX_REACH_BYTES),
				 errhint("Name what tells these accounts from others, and nothing else.")));
	return metadata;
}

/*
 * Adds an offer, or finds the same one.
 */
int64
offers_add(FunctionCallInfo fcinfo, OfferKind kind, text *name)
{
	bool		everybody = arg_bool(fcinfo, 3, "everybody");
	int			given = !PG_ARGISNULL(1) + !PG_ARGISNULL(2) + everybody;
	Datum		values[5];
	bool		isnull[5] = {false};
	bool		none;

	if (given != 1)
		ereport(ERROR,
				(errcode(given == 0 ? ERRCODE_NULL_VALUE_NOT_ALLOWED :
						 ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one of account, metadata and everybody must be specified"),
				 errdetail(given == 0 ? "None is." : "More than one is."),
				 errhint("Pass an account, what the metadata of accounts contains, or everybody => true.")));
	store_check_writable(kind == OFFER_PLAN ? "credits_offer_plan()" :
						 "credits_offer_package()");
	values[0] = CStringGetTextDatum(offer_kind_names[kind]);
	values[1] = PointerGetDatum(name);
	isnull[2] = PG_ARGISNULL(1);
	if (!isnull[2])
	{
		Account		account = {0};

		guards_find_account(store_snapshot(true), arg_account(fcinfo, 1),
							&account);
		values[2] = Int64GetDatum(account.id);
	}
	isnull[3] = PG_ARGISNULL(2);
	if (!isnull[3])
		values[3] = JsonbPGetDatum(arg_reach(fcinfo, 2));
	values[4] = TimestampTzGetDatum(clock_now());
	for (;;)
	{
		SqlResult  *result = statements_run(&find_offer, values, isnull);

		if (result->nrows == 0)
			result = statements_run(&insert_offer, values, isnull);
		if (result->nrows > 0)
			return DatumGetInt64(statements_value(result, 0, 1, &none));
		/* another transaction has made it just now: find that one */
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Offers a plan to some accounts, or to everybody.
 */
Datum
credits_offer_plan(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "plan");

	/* one that is retired can be offered, too, for when it is set again */
	if (plans_find(name) == NULL)
		(void) plans_sold(name);	/* which raises the error */
	PG_RETURN_INT64(offers_add(fcinfo, OFFER_PLAN, name));
}

/*
 * Withdraws an offer.  Returns false if it has been withdrawn before.
 */
Datum
credits_withdraw_offer(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "offer_id");
	Datum		values[2] = {Int64GetDatum(id), TimestampTzGetDatum(clock_now())};

	store_check_writable("credits_withdraw_offer()");
	if (statements_run(&end_offer, values, NULL)->nrows > 0)
		PG_RETURN_BOOL(true);
	if (statements_run(&offer_exists, values, NULL)->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("offer " INT64_FORMAT " does not exist", id),
				 errhint("Pass an offer_id of credits.offer_list.")));
	PG_RETURN_BOOL(false);
}
