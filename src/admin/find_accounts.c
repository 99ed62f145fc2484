/*
 * find_accounts.c
 *	  credits_find_accounts: search among all accounts.
 *
 * A search walks along one index, the one that leaves the fewest accounts, and looks
 * at each account that it meets:
 *
 *	  reference			those that purchases, subscriptions, payments or the log name
 *	  name_prefix		by name
 *	  in_debt			a partial index of those that owe
 *	  status			a partial index of those that are paused or closed
 *	  plan				the subscriptions to the versions of the plan
 *	  none of these		all accounts
 *
 * No index has a balance or the time of a spend, because every spend would have to
 * write to it.  So that a page takes as long whatever is searched for, it ends after
 * MAX_EXAMINED accounts, and says where to go on.
 *
 * Tested in test/sql/find_accounts.sql and test/t/find_accounts.pl.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/subscriptions.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_find_accounts);

/* how many accounts a call looks at */
#define MAX_EXAMINED 2000

/* the arguments */
enum
{
	FIND_NAME_PREFIX,
	FIND_STATUS,
	FIND_UNIT,
	FIND_MIN_BALANCE,
	FIND_MAX_BALANCE,
	FIND_PLAN,
	FIND_USED_SINCE,
	FIND_UNUSED_SINCE,
	FIND_IN_DEBT,
	FIND_REFERENCE,
	FIND_AFTER,
	FIND_MAX_ROWS
};

/* the columns of a row */
enum
{
	FOUND_ACCOUNT,
	FOUND_UNIT,
	FOUND_STATUS,
	FOUND_BALANCE,
	FOUND_HELD,
	FOUND_DEBT,
	FOUND_PLANS,
	FOUND_CREATED_AT,
	FOUND_LAST_AT,
	FOUND_COLUMNS
};

static StoreIndex accounts_in_debt = {
	&accounts_table, "accounts_debt_idx", {"id"},.predicate = "(debt > 0)"
};
static StoreIndex accounts_not_active = {
	&accounts_table, "accounts_status_idx", {"status", "id"},
	.predicate = "(status <> 'active'::text)"
};

/* the versions of a plan */
static SqlStatement find_versions = {
	"SELECT id FROM credits.plans WHERE name = $1",
	(const Oid[]) {TEXTOID, InvalidOid},.by_snapshot = true
};

/* the plans of an account, in the order of its subscriptions */
static SqlStatement find_plans = {
	"SELECT array_agg(p.name ORDER BY s.id) FROM credits.subscriptions AS s"
	" JOIN credits.plans AS p ON p.id = s.plan_id"
	" WHERE s.account_id = $1 AND s.status <> 'canceled'",
	(const Oid[]) {INT8OID, InvalidOid},.by_snapshot = true
};

static SqlStatement find_by_reference = {
	"SELECT DISTINCT r.account_id FROM ("
	"SELECT p.account_id FROM credits.purchases AS p WHERE p.payment_reference = $1"
	" UNION ALL SELECT s.account_id FROM credits.subscriptions AS s"
	" WHERE s.external_id = $1"
	" UNION ALL SELECT c.account_id FROM credits.stripe_customers AS c WHERE c.id = $1"
	" UNION ALL (SELECT l.account_id FROM credits.log AS l WHERE l.reference = $1 LIMIT $3)"
	") AS r (account_id) WHERE r.account_id > $2 ORDER BY r.account_id",
	(const Oid[]) {TEXTOID, INT8OID, INT8OID, InvalidOid},.by_snapshot = true
};

/* the next accounts with a subscription to a version of a plan */
static SqlStatement find_by_plan = {
	"SELECT DISTINCT n.account_id FROM credits.plans AS v"
	" CROSS JOIN LATERAL (SELECT s.account_id FROM credits.subscriptions AS s"
	" WHERE s.plan_id = v.id AND s.account_id > $2 AND s.status <> 'canceled'"
	" ORDER BY s.account_id LIMIT $3) AS n WHERE v.name = $1"
	" ORDER BY n.account_id LIMIT $3",
	(const Oid[]) {TEXTOID, INT8OID, INT8OID, InvalidOid},.by_snapshot = true
};

/* A search */
typedef struct Search
{
	text	   *name_prefix;	/* NULL if any */
	int			status;			/* -1 if any */
	text	   *unit;			/* NULL if any */
	int64		min_balance;
	int64		max_balance;
	text	   *plan;			/* NULL if any */
	SqlResult  *versions;		/* of the plan */
	TimestampTz used_since;
	TimestampTz unused_since;
	int			in_debt;		/* -1 if that is all the same */
	text	   *reference;		/* NULL if any */
	text	   *after;			/* the name after which it goes on, NULL if it
								 * begins */
	int64		after_id;
	int			max_rows;
	TimestampTz now;

	ReturnSetInfo *result;
	int			examined;
	int			found;
	MemoryContext row;			/* for what concerns one account */
} Search;

/* ------------------------------------------------------------------------
 * the arguments
 */

/*
 * Reads an optional balance, "otherwise" if it is left out.
 */
static int64
read_balance(FunctionCallInfo fcinfo, int n, const char *name, int64 otherwise)
{
	int64		balance;

	if (PG_ARGISNULL(n))
		return otherwise;
	balance = PG_GETARG_INT64(n);
	if (balance < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name),
				 errdetail("It is " INT64_FORMAT ".", balance),
				 errhint("Pass a number of credits, or leave it out for any.")));
	return balance;
}

/*
 * Reads the versions of a plan.
 */
static SqlResult *
read_versions(text *plan)
{
	Datum		name = PointerGetDatum(plan);
	SqlResult  *versions = statements_run(&find_versions, &name, NULL);

	if (versions->nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("plan \"%s\" does not exist", text_to_cstring(plan)),
				 errhint("Pass the name of a plan; credits.plans has all.")));
	return versions;
}

/*
 * Reads the arguments.
 */
static void
read_search(FunctionCallInfo fcinfo, Search *search)
{
	Account		after;

	search->name_prefix = arg_text(fcinfo, FIND_NAME_PREFIX, "name_prefix", MAX_NAME_BYTES);
	search->status = PG_ARGISNULL(FIND_STATUS) ? -1 :
		ARG_CHOICE(FIND_STATUS, "status", account_status_names);
	search->unit = arg_text(fcinfo, FIND_UNIT, "unit", MAX_NAME_BYTES);
	search->min_balance = read_balance(fcinfo, FIND_MIN_BALANCE, "min_balance", 0);
	search->max_balance = read_balance(fcinfo, FIND_MAX_BALANCE, "max_balance",
									   PG_INT64_MAX);
	search->used_since = PG_ARGISNULL(FIND_USED_SINCE) ? DT_NOBEGIN :
		PG_GETARG_TIMESTAMPTZ(FIND_USED_SINCE);
	search->unused_since = PG_ARGISNULL(FIND_UNUSED_SINCE) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(FIND_UNUSED_SINCE);
	search->in_debt = PG_ARGISNULL(FIND_IN_DEBT) ? -1 : PG_GETARG_BOOL(FIND_IN_DEBT);
	search->reference = arg_text(fcinfo, FIND_REFERENCE, "reference", MAX_NAME_BYTES);
	search->plan = arg_text(fcinfo, FIND_PLAN, "plan", MAX_NAME_BYTES);
	if (search->plan)
		search->versions = read_versions(search->plan);
	search->max_rows = arg_page_rows(fcinfo, FIND_MAX_ROWS);
	search->now = clock_now();
	if (!PG_ARGISNULL(FIND_AFTER))
	{
		search->after = arg_account(fcinfo, FIND_AFTER);
		guards_find_account(GetActiveSnapshot(), search->after, &after);
		search->after_id = after.id;
	}
}

/* ------------------------------------------------------------------------
 * one account
 */

/*
 * Does a name begin with the prefix that is searched for, if one is?
 */
static bool
has_prefix(const Search *search, const text *name)
{
	const text *prefix = search->name_prefix;

	return prefix == NULL ||
		(VARSIZE_ANY_EXHDR(name) >= VARSIZE_ANY_EXHDR(prefix) &&
		 memcmp(VARDATA_ANY(name), VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix)) == 0);
}

/*
 * Has an account a subscription to the plan that is searched for?
 */
static bool
has_plan(const Search *search, int64 account_id)
{
	StoreScan	scan;
	Subscription subscription;
	bool		has = false;
	bool		isnull;
	uint64		i;

	scan_begin(&scan, NULL, &subscriptions_by_account, GetActiveSnapshot(),
			   BY_INT64(account_id));
	while (!has && scan_read(&scan, ForwardScanDirection, &subscription))
		for (i = 0; i < search->versions->nrows && !has; i++)
			has = subscription.status != SUBSCRIPTION_CANCELED &&
				DatumGetInt64(statements_value(search->versions, i, 1, &isnull)) ==
				subscription.plan_id;
	scan_end(&scan);
	return has;
}

/*
 * Is an account searched for?  Settles it in memory, if that is due.
 */
static bool
is_searched(const Search *search, Account *account)
{
	if (!has_prefix(search, account->name) ||
		(search->status != -1 && search->status != (int) account->status) ||
		(search->unit && !same_text(search->unit, account->unit)) ||
		account->last_at < search->used_since ||
		account->last_at >= search->unused_since)
		return false;
	/* before that, settling would do nothing */
	if (search->now >= Min(account->due_at, account->renews_at))
		ledger_peek(account, search->now, account, NULL, NULL);
	return account->balance >= search->min_balance &&
		account->balance <= search->max_balance &&
		(search->in_debt == -1 || search->in_debt == (account->debt > 0)) &&
		(search->plan == NULL || has_plan(search, account->id));
}

/*
 * Adds a row to the result: an account, or its name only if the search ends there and
 * may go on.
 */
static void
add_row(const Search *search, const Account *account, bool found)
{
	Datum		values[FOUND_COLUMNS];
	bool		isnull[FOUND_COLUMNS];
	Datum		id = Int64GetDatum(account->id);

	memset(isnull, !found, sizeof(isnull));
	isnull[FOUND_ACCOUNT] = false;
	values[FOUND_ACCOUNT] = PointerGetDatum(account->name);
	if (found)
	{
		values[FOUND_UNIT] = PointerGetDatum(account->unit);
		values[FOUND_STATUS] = CStringGetTextDatum(account_status_names[account->status]);
		values[FOUND_BALANCE] = Int64GetDatum(account->balance);
		values[FOUND_HELD] = Int64GetDatum(account->held);
		values[FOUND_DEBT] = Int64GetDatum(account->debt);
		values[FOUND_PLANS] = statements_value(statements_run(&find_plans, &id, NULL), 0, 1,
											   &isnull[FOUND_PLANS]);
		values[FOUND_CREATED_AT] = TimestampTzGetDatum(account->created_at);
		values[FOUND_LAST_AT] = TimestampTzGetDatum(account->last_at);
	}
	tuplestore_putvalues(search->result->setResult, search->result->setDesc, values,
						 isnull);
}

/*
 * Looks at an account.  Returns whether the search goes on.
 */
static bool
examine(Search *search, Account *account)
{
	bool		found = is_searched(search, account);
	bool		ends;

	search->examined++;
	search->found += found;
	ends = search->found == search->max_rows || search->examined == MAX_EXAMINED;
	if (found || ends)
		add_row(search, account, found);
	return !ends;
}

/* ------------------------------------------------------------------------
 * the walk
 */

/*
 * Looks at accounts along an index.
 */
static void
walk_index(Search *search, StoreIndex *index, const ScanBy *by, int nby)
{
	StoreScan	scan;
	bool		goes_on = true;

	scan_begin_by(&scan, NULL, index, GetActiveSnapshot(), by, nby);
	while (goes_on)
	{
		MemoryContext old = MemoryContextSwitchTo(search->row);
		Account		account;

		CHECK_FOR_INTERRUPTS();
		goes_on = scan_read(&scan, ForwardScanDirection, &account) &&
		/* by name, those with the prefix come first */
			(index != &accounts_by_name || has_prefix(search, account.name)) &&
			examine(search, &account);
		MemoryContextSwitchTo(old);
		MemoryContextReset(search->row);
	}
	scan_end(&scan);
}

/*
 * Looks at accounts whose ids a statement returns.
 */
static void
walk_ids(Search *search, SqlStatement *statement, Datum value)
{
	Datum		values[3];
	SqlResult  *ids;
	uint64		i;
	bool		goes_on = true;

	values[0] = value;
	values[1] = Int64GetDatum(search->after_id);
	values[2] = Int64GetDatum(MAX_EXAMINED);
	ids = statements_run(statement, values, NULL);
	for (i = 0; i < ids->nrows && goes_on; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(search->row);
		Account		account;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (rows_find_account(NULL, GetActiveSnapshot(), NULL,
							  DatumGetInt64(statements_value(ids, i, 1, &isnull)), &account))
			goes_on = examine(search, &account);
		MemoryContextSwitchTo(old);
		MemoryContextReset(search->row);
	}
}

/*
 * Looks at accounts along the index that leaves the fewest.
 */
static void
walk(Search *search)
{
	ScanBy		above = BY_INT64_ABOVE(search->after_id);

	if (search->reference)
		walk_ids(search, &find_by_reference, PointerGetDatum(search->reference));
	else if (search->name_prefix)
	{
		/* the names after a prefix, and it, begin with it or are greater */
		bool		goes_on = search->after && has_prefix(search, search->after);
		ScanBy		from = goes_on ? BY_TEXT_ABOVE(search->after) :
			BY_TEXT_FROM(search->name_prefix);

		walk_index(search, &accounts_by_name, &from, 1);
	}
	else if (search->in_debt == 1)
		walk_index(search, &accounts_in_debt, &above, 1);
	else if (search->status > ACCOUNT_ACTIVE)
	{
		ScanBy		keys[] = {
			BY_TEXT(cstring_to_text(account_status_names[search->status])),
			above
		};

		walk_index(search, &accounts_not_active, keys, lengthof(keys));
	}
	else if (search->plan)
		walk_ids(search, &find_by_plan, PointerGetDatum(search->plan));
	else
		walk_index(search, &accounts_by_id, &above, 1);
}

/*
 * SQL function: returns accounts that fulfill all the conditions that are given.
 */
Datum
credits_find_accounts(PG_FUNCTION_ARGS)
{
	Search		search = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	read_search(fcinfo, &search);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	search.row = AllocSetContextCreate(CurrentMemoryContext, "credits search",
									   ALLOCSET_DEFAULT_SIZES);
	walk(&search);
	MemoryContextDelete(search.row);
	return (Datum) 0;
}
