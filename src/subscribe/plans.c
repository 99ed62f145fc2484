/*
 * plans.c
 *	  Plans: publishing and retiring them, and reading their terms.
 *
 * A version of a plan never changes, so its terms are read once in a
 * transaction and cached for the rest of it.
 */
#include "credits.h"

#include "accounts/allocate.h"
#include "base/sets.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/offers.h"
#include "subscribe/plans.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_plan);
PG_FUNCTION_INFO_V1(credits_retire_plan);

#define MAX_ROLLOVER_PERIODS 10000

static const char *const rollover_names[] = {"none", "maximum", "share"};

static const char *const catch_up_names[] = {"all", "latest"};

static const StoreColumn plan_columns[] = {
	COLUMN_INT64(PlanTerms, id),
	COLUMN_TEXT(PlanTerms, name),
	COLUMN_INT32(PlanTerms, version),
	COLUMN_TEXT(PlanTerms, unit, NULL_IF_ZERO),
	COLUMN_INT64(PlanTerms, credits),
	COLUMN_ENUM(PlanTerms, period, calendar_unit_names),
	COLUMN_INT32(PlanTerms, every),
	COLUMN_NUMERIC(PlanTerms, price, NULL_IF_ZERO),
	COLUMN_TEXT(PlanTerms, currency, NULL_IF_ZERO),
	COLUMN_ENUM(PlanTerms, rollover, rollover_names),
	COLUMN_INT64(PlanTerms, rollover_maximum, NULL_IS(NO_LIMIT)),
	COLUMN_NUMERIC(PlanTerms, rollover_share, NULL_IF_ZERO),
	COLUMN_INT64(PlanTerms, rollover_minimum),
	COLUMN_INT32(PlanTerms, rollover_periods, NULL_IS(0)),
	COLUMN_INT64(PlanTerms, rollover_total, NULL_IS(NO_LIMIT)),
	COLUMN_BOOL(PlanTerms, rollover_again),
	COLUMN_INT32(PlanTerms, priority, NULL_IS(-1)),
	COLUMN_INTERVAL(PlanTerms, trial, NULL_IF_ZERO),
	COLUMN_INT64(PlanTerms, trial_credits),
	COLUMN_EITHER(PlanTerms, catch_up_latest, catch_up_names, AS("catch_up")),
	COLUMN_INTERVAL(PlanTerms, grace, NULL_IF_ZERO),
	COLUMN_UNUSED(JSONBOID, "features"),
	COLUMN_BOOL(PlanTerms, retired),
	COLUMN_UNUSED(TIMESTAMPTZOID, "created_at"),
	COLUMN_UNUSED(TEXTOID, "role")
};

static StoreTable plans_table = {
	.name = "plans",
	.sequence = "plans_id_seq",
	ROWS_OF(PlanTerms, plan_columns)
};

static StoreIndex plans_by_id = {
	&plans_table, "plans_pkey", {"id"},.unique = true
};

/* the parameters of the statements below, in the order of credits_set_plan */
#define PLAN_TYPES \
	TEXTOID, INT8OID, TEXTOID, INT4OID, NUMERICOID, TEXTOID, TEXTOID, \
	INT8OID, NUMERICOID, INT8OID, INT4OID, INT8OID, BOOLOID, INT4OID, \
	INTERVALOID, INT8OID, TEXTOID, INTERVALOID, TEXTOID, JSONBOID
#define PLAN_ARGS 20

/* the arguments of the newest version, after what it is */
static SqlStatement newest_terms = {
	"SELECT id, version, retired, name, credits, period, every, price,"
	" currency, rollover, rollover_maximum, rollover_share, rollover_minimum,"
	" rollover_periods, rollover_total, rollover_again, priority, trial,"
	" CASE WHEN trial IS NOT NULL THEN trial_credits END, catch_up, grace, unit,"
	" features FROM credits.plans WHERE name = $1"
	" ORDER BY version DESC LIMIT 1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

/* columns of newest_terms */
enum
{
	NEWEST_ID = 1,
	NEWEST_VERSION,
	NEWEST_RETIRED,
	NEWEST_TERMS
};

/* inserts nothing if another transaction has just added the same version */
static SqlStatement insert_plan = {
	"INSERT INTO credits.plans (id, name, version, credits, period, every,"
	" price, currency, rollover, rollover_maximum, rollover_share,"
	" rollover_minimum, rollover_periods, rollover_total, rollover_again,"
	" priority, trial, trial_credits, catch_up, grace, unit, features, retired,"
	" created_at, role)"
	" VALUES (nextval('credits.plans_id_seq'), $1, $21, $2, $3, $4, $5, $6,"
	" $7, $8, $9, $10, $11, $12, $13, $14, $15, COALESCE($16, 0), $17, $18,"
	" $19, $20, false, $22, session_user)"
	" ON CONFLICT (name, version) DO NOTHING RETURNING id",
	(const Oid[]) {PLAN_TYPES, INT4OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement retire_plan = {
	"INSERT INTO credits.plans (id, name, version, credits, period, every,"
	" price, currency, rollover, rollover_maximum, rollover_share,"
	" rollover_minimum, rollover_periods, rollover_total, rollover_again,"
	" priority, trial, trial_credits, catch_up, grace, unit, features, retired,"
	" created_at, role)"
	" SELECT nextval('credits.plans_id_seq'), p.name, p.version + 1,"
	" p.credits, p.period, p.every, p.price, p.currency, p.rollover,"
	" p.rollover_maximum, p.rollover_share, p.rollover_minimum,"
	" p.rollover_periods, p.rollover_total, p.rollover_again, p.priority,"
	" p.trial, p.trial_credits, p.catch_up, p.grace,"
	" p.unit, p.features, true, $2, $3"
	" FROM credits.plans AS p WHERE p.id = $1"
	" ON CONFLICT (name, version) DO NOTHING RETURNING id",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement find_newest = {
	"SELECT id, retired FROM credits.plans WHERE name = $1"
	" ORDER BY version DESC LIMIT 1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement find_at = {
	"SELECT retired FROM credits.plans WHERE name = $1 AND created_at <= $2"
	" ORDER BY version DESC LIMIT 1",
	(const Oid[]) {TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * reading
 */

/* An entry of the cache */
typedef struct KeptPlan
{
	int64		id;
	PlanTerms  *plan;
} KeptPlan;

static HTAB *cache = NULL;
static Oid	cache_oid = InvalidOid;

/*
 * Resets the cache at the end of the transaction, which frees its memory.
 */
static void
forget_cache(void *arg)
{
	cache = NULL;
}

/*
 * Creates a cache for the rest of the transaction.
 */
static void
begin_cache(void)
{
	MemoryContextCallback *callback =
		MemoryContextAllocZero(TopTransactionContext,
							   sizeof(MemoryContextCallback));
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(KeptPlan);
	ctl.hcxt = TopTransactionContext;
	cache = hash_create("credits plans", 32, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	callback->func = forget_cache;
	MemoryContextRegisterResetCallback(TopTransactionContext, callback);
}

/*
 * Returns a version of a plan.  It stays valid until the transaction ends.
 */
const PlanTerms *
plans_get(int64 id)
{
	/* if the extension was dropped and created again, ids start over */
	Oid			oid = get_relname_relid("plans",
										get_namespace_oid("credits", false));
	MemoryContext old;
	KeptPlan   *entry;
	PlanTerms  *plan;
	bool		found;

	if (cache == NULL || cache_oid != oid)
		begin_cache();
	cache_oid = oid;
	entry = hash_search(cache, &id, HASH_FIND, NULL);
	if (entry)
		return entry->plan;
	old = MemoryContextSwitchTo(TopTransactionContext);
	plan = palloc(sizeof(PlanTerms));
	found = scan_find(NULL, &plans_by_id, store_snapshot(true), plan,
					  BY_INT64(id));
	MemoryContextSwitchTo(old);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("plan " INT64_FORMAT " does not exist", id),
				 errhint("Publish it with credits_set_plan.")));
	if (plan->period == UNIT_UNKNOWN || plan->rollover == ROLLOVER_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("plan " INT64_FORMAT " has an unknown period or rollover",
						id),
				 errhint("Restore table credits.plans.")));
	entry = hash_search(cache, &id, HASH_ENTER, NULL);
	entry->plan = plan;
	return plan;
}

/*
 * Returns the newest version of a plan, NULL if there is no plan of that name.
 */
const PlanTerms *
plans_find(text *name)
{
	Datum		value = PointerGetDatum(name);
	SqlResult  *result = statements_run(&find_newest, &value, NULL);
	bool		isnull;

	if (result->nrows == 0)
		return NULL;
	return plans_get(DatumGetInt64(statements_value(result, 0, 1, &isnull)));
}

/*
 * Returns what was found under a name, after checking that there is a plan, and
 * that it is not retired.
 */
static const PlanTerms *
check_sold(const PlanTerms *plan, text *name)
{
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("plan \"%s\" does not exist", text_to_cstring(name)),
				 errhint("Publish it with credits_set_plan.")));
	if (plan->retired)
		ereport(ERROR,
				(errcode(ERRCODE_GONE),
				 errmsg("plan \"%s\" is retired", text_to_cstring(name)),
				 errdetail("It was retired with version %d.", plan->version),
				 errhint("Choose a plan of credits.current_plans.")));
	return plan;
}

/*
 * Returns the newest version of a plan, which must not be retired.
 */
const PlanTerms *
plans_sold(text *name)
{
	return check_sold(plans_find(name), name);
}

/*
 * Returns the newest version of a plan, which must be sold to an account.
 */
const PlanTerms *
plans_offered(text *name, const Account *account, int64 has)
{
	const PlanTerms *plan = plans_find(name);

	if (plan && plan->id != has && !offers_reach(OFFER_PLAN, name, account))
		plan = NULL;
	return check_sold(plan, name);
}

/*
 * Returns whether a plan was retired at an instant, however much later that is
 * asked.
 */
bool
plans_retired_at(const PlanTerms *plan, TimestampTz at)
{
	Datum		values[2];
	SqlResult  *result;
	bool		isnull;

	values[0] = PointerGetDatum(plan->name);
	values[1] = TimestampTzGetDatum(at);
	result = statements_run(&find_at, values, NULL);
	return result->nrows > 0 &&
		DatumGetBool(statements_value(result, 0, 1, &isnull));
}

/*
 * Returns whether what a plan rolls over lives for ever, so that it makes no
 * difference whether another period follows.
 */
bool
plans_keep_credits(const PlanTerms *plan)
{
	return plan->rollover != ROLLOVER_NONE && plan->rollover_periods == 0;
}

/*
 * Returns how many credits are rolled over from a period that gave credits and
 * left unused: least(maximum, greatest(unused, minimum)).  A share of the credits
 * is rounded up.
 */
int64
plans_rolled(const PlanTerms *plan, int64 credits, int64 unused)
{
	int64		rolled = Max(unused, plan->rollover_minimum);
	int64		maximum = plan->rollover_maximum;

	if (plan->rollover == ROLLOVER_NONE)
		return 0;
	if (plan->rollover == ROLLOVER_SHARE)
		maximum =
			DatumGetInt64(DirectFunctionCall1(numeric_int8,
											  DirectFunctionCall1(numeric_ceil,
																  DirectFunctionCall2(numeric_mul,
																					  plan->rollover_share,
																					  NumericGetDatum(int64_to_numeric(credits))))));
	return maximum == NO_LIMIT ? rolled : Min(maximum, rolled);
}

/* ------------------------------------------------------------------------
 * publishing
 */

/* the arguments of credits_set_plan */
enum
{
	Arg_name,
	Arg_credits,
	Arg_period,
	Arg_every,
	Arg_price,
	Arg_currency,
	Arg_rollover,
	Arg_rollover_maximum,
	Arg_rollover_share,
	Arg_rollover_minimum,
	Arg_rollover_periods,
	Arg_rollover_total,
	Arg_rollover_again,
	Arg_priority,
	Arg_trial,
	Arg_trial_credits,
	Arg_catch_up,
	Arg_grace,
	Arg_unit,
	Arg_features
};

static const SetArg plan_args[PLAN_ARGS] = {
	[Arg_name] = {"name", SET_NAMES},
	[Arg_credits] = {"credits", SET_NEEDED},
	[Arg_period] = {"period", SET_KEEPS, "month"},
	[Arg_every] = {"every", SET_KEEPS, "1"},
	[Arg_price] = {"price", SET_KEEPS},
	[Arg_currency] = {"currency", SET_KEEPS},
	[Arg_rollover] = {"rollover", SET_KEEPS, "none"},
	[Arg_rollover_maximum] = {"rollover_maximum", SET_KEEPS},
	[Arg_rollover_share] = {"rollover_share", SET_KEEPS},
	[Arg_rollover_minimum] = {"rollover_minimum", SET_KEEPS, "0"},
	[Arg_rollover_periods] = {"rollover_periods", SET_KEEPS_OR_NONE, "1"},
	[Arg_rollover_total] = {"rollover_total", SET_KEEPS},
	[Arg_rollover_again] = {"rollover_again", SET_KEEPS, "false"},
	[Arg_priority] = {"priority", SET_KEEPS},
	[Arg_trial] = {"trial", SET_KEEPS},
	[Arg_trial_credits] = {"trial_credits", SET_KEEPS},
	[Arg_catch_up] = {"catch_up", SET_KEEPS, "all"},
	[Arg_grace] = {"grace", SET_KEEPS},
	[Arg_unit] = {"unit", SET_KEEPS},
	[Arg_features] = {"features", SET_KEEPS}
};

/*
 * Raises the error for a number that is out of range.
 */
static void
plans_out_of_range(const char *name, int64 value, int64 least, int64 most)
{
	if (most == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name),
				 errdetail("It is " INT64_FORMAT ".", value),
				 errhint("Pass 0 or more credits for %s.", name)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be from " INT64_FORMAT " to " INT64_FORMAT,
					name, least, most),
			 errdetail("It is " INT64_FORMAT ".", value),
			 errhint("Pass a value of that range for %s.", name)));
}

/*
 * Checks that a number of credits is not negative.
 */
static void
check_credits(FunctionCallInfo fcinfo, int n)
{
	if (!PG_ARGISNULL(n) && PG_GETARG_INT64(n) < 0)
		plans_out_of_range(plan_args[n].name, PG_GETARG_INT64(n), 0,
						   PG_INT64_MAX);
}

/*
 * Checks a count, if there is one.
 */
static void
check_count(FunctionCallInfo fcinfo, int n, int32 most)
{
	if (!PG_ARGISNULL(n) &&
		(PG_GETARG_INT32(n) < 1 || PG_GETARG_INT32(n) > most))
		plans_out_of_range(plan_args[n].name, PG_GETARG_INT32(n), 1, most);
}

/*
 * Takes away an argument that has no effect without another one.  It is an error
 * if the call has given it.
 */
static void
drop_idle(Set *set, int n, const char *other)
{
	const char *name = plan_args[n].name;

	if (set->merged->args[n].isnull || sets_drop(set, n))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s has no effect here", name),
			 errdetail("It requires %s.", other),
			 errhint("Leave %s out, or pass %s.", name, other)));
}

/*
 * Checks the share that is rolled over.
 */
static void
check_share(FunctionCallInfo fcinfo)
{
	Datum		share = PG_GETARG_DATUM(Arg_rollover_share);
	Numeric		value;

	if (PG_ARGISNULL(Arg_rollover_share))
		raise_null("rollover_share");
	value = DatumGetNumeric(share);
	if (numeric_is_nan(value) || numeric_is_inf(value) ||
		VARSIZE_ANY_EXHDR(value) > MAX_NAME_BYTES ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, share,
										 NumericGetDatum(int64_to_numeric(0)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, share,
										 NumericGetDatum(int64_to_numeric(1)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rollover_share must be from 0 to 1"),
				 errdetail("It is %.64s.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   share))),
				 errhint("Pass 0.5 for half of the period's credits.")));
}

/*
 * Checks the arguments about rolling over.
 */
static void
check_rollover(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	Rollover	rollover = ARG_CHOICE(Arg_rollover, "rollover",
									  rollover_names);

	check_credits(fcinfo, Arg_rollover_maximum);
	check_credits(fcinfo, Arg_rollover_minimum);
	if (rollover != ROLLOVER_MAXIMUM)
		drop_idle(set, Arg_rollover_maximum, "rollover => 'maximum'");
	if (rollover == ROLLOVER_SHARE)
		check_share(fcinfo);
	else
		drop_idle(set, Arg_rollover_share, "rollover => 'share'");
	if (rollover == ROLLOVER_NONE && PG_GETARG_INT64(Arg_rollover_minimum) > 0)
		drop_idle(set, Arg_rollover_minimum,
				  "rollover => 'maximum' or 'share'");
	check_count(fcinfo, Arg_rollover_periods, MAX_ROLLOVER_PERIODS);
	check_credits(fcinfo, Arg_rollover_total);
	if (rollover == ROLLOVER_NONE)
		drop_idle(set, Arg_rollover_total,
				  "rollover => 'maximum' or 'share'");
	/* what lives for longer need not be rolled over again */
	if (PG_GETARG_BOOL(Arg_rollover_again) &&
		(rollover == ROLLOVER_NONE ||
		 PG_ARGISNULL(Arg_rollover_periods) ||
		 PG_GETARG_INT32(Arg_rollover_periods) != 1))
		drop_idle(set, Arg_rollover_again,
				  rollover == ROLLOVER_NONE ?
				  "rollover => 'maximum' or 'share'" :
				  "rollover_periods => 1");
}

/*
 * Checks a plan, in the arguments of credits_set_plan with what is kept, and
 * fills in defaults that depend on other arguments.
 */
static void
check_plan(Set *set)
{
	FunctionCallInfo fcinfo = set->merged;
	Allocation	allocation = {0};
	Refusal		refusal;

	if (PG_ARGISNULL(Arg_credits))
		raise_null("credits");
	check_credits(fcinfo, Arg_credits);
	(void) ARG_CHOICE(Arg_period, "period", calendar_unit_names);
	check_count(fcinfo, Arg_every, MAX_EVERY);
	check_rollover(set);
	(void) ARG_CHOICE(Arg_catch_up, "catch_up", catch_up_names);
	if (!PG_ARGISNULL(Arg_grace))
		(void) arg_interval(fcinfo, Arg_grace, "grace");
	if (!PG_ARGISNULL(Arg_unit))
		check_unit(PG_GETARG_TEXT_PP(Arg_unit));
	if (!PG_ARGISNULL(Arg_features) &&
		VARSIZE(PG_GETARG_JSONB_P(Arg_features)) > MAX_METADATA_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("features is too long"),
				 errdetail("It has %zu bytes; at most %d are allowed.",
						   (Size) VARSIZE(PG_GETARG_JSONB_P(Arg_features)),
						   MAX_METADATA_BYTES),
				 errhint("Keep large documents in a table of your own.")));

	/* price, currency and priority must be valid for the grants to come */
	if (PG_ARGISNULL(Arg_price))
		drop_idle(set, Arg_currency, "price");
	allocation.source = cstring_to_text("subscription");
	allocation.expires_at = DT_NOEND;
	allocation.price = PG_ARGISNULL(Arg_price) ? (Datum) 0 :
		PG_GETARG_DATUM(Arg_price);
	allocation.currency = arg_text(fcinfo, Arg_currency, "currency",
								   MAX_NAME_BYTES);
	allocation.has_priority = !PG_ARGISNULL(Arg_priority);
	if (allocation.has_priority)
		allocation.priority = PG_GETARG_INT32(Arg_priority);
	if (!allocate_valid(&refusal, &allocation))
		raise_refusal(&refusal);

	check_credits(fcinfo, Arg_trial_credits);
	if (PG_ARGISNULL(Arg_trial))
		drop_idle(set, Arg_trial_credits, "trial");
	else
	{
		(void) arg_interval(fcinfo, Arg_trial, "trial");
		if (PG_ARGISNULL(Arg_trial_credits))
			sets_replace(set, Arg_trial_credits, PG_GETARG_DATUM(Arg_credits));
	}
}

/*
 * Refuses a plan whose unit is not that of the posting's account.
 */
bool
plans_fit(Posting *posting, const PlanTerms *plan)
{
	text	   *unit = posting->account.unit;

	if (plan->unit == NULL || same_text(plan->unit, unit))
		return true;
	return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "plan gives credits of another unit",
				  psprintf("Plan \"%s\" gives \"%s\", but account \"%s\" holds \"%s\".",
						   text_to_cstring(plan->name),
						   text_to_cstring(plan->unit),
						   rows_account_name(&posting->account),
						   text_to_cstring(unit)),
				  "Use a plan of the account's unit.");
}

/*
 * Adds the version of a plan that follows one, 0 if it is the first.  Returns
 * its id, 0 if another transaction has added that version.
 */
static int64
add_version(const Set *set, int32 version)
{
	Datum		values[PLAN_ARGS + 2];
	bool		isnull[PLAN_ARGS + 2];
	SqlResult  *result;
	int			i;

	for (i = 0; i < PLAN_ARGS; i++)
	{
		values[i] = set->merged->args[i].value;
		isnull[i] = set->merged->args[i].isnull;
	}
	values[PLAN_ARGS] = Int32GetDatum(version + 1);
	values[PLAN_ARGS + 1] = TimestampTzGetDatum(clock_now());
	isnull[PLAN_ARGS] = isnull[PLAN_ARGS + 1] = false;
	result = statements_run(&insert_plan, values, isnull);
	if (result->nrows == 0)
		return 0;
	return DatumGetInt64(statements_value(result, 0, 1, &isnull[0]));
}

/*
 * Publishes a plan, or a new version of it, which starts from the newest one.  If
 * that is the same already, returns it.
 */
Datum
credits_set_plan(PG_FUNCTION_ARGS)
{
	Datum		name = PointerGetDatum(arg_name(fcinfo, Arg_name, "name"));
	Set			set;
	int64		id = 0;

	StaticAssertStmt(Arg_features == PLAN_ARGS - 1, "arguments are missing");
	SETS_READ(&set, fcinfo, plan_args);
	store_check_writable("credits_set_plan()");
	store_lock_table(&plans_table);
	while (id == 0)
	{
		SqlResult  *newest = statements_run(&newest_terms, &name, NULL);
		Datum		values[NEWEST_TERMS + PLAN_ARGS];
		bool		isnull[NEWEST_TERMS + PLAN_ARGS];

		/* another transaction has added a version: start from that one */
		CHECK_FOR_INTERRUPTS();
		if (newest->nrows == 0)
		{
			sets_merge(&set, NULL, NULL);
			check_plan(&set);
			id = add_version(&set, 0);
			continue;
		}
		heap_deform_tuple(newest->rows[0], newest->tupdesc, values, isnull);
		sets_merge(&set, &values[NEWEST_TERMS - 1], &isnull[NEWEST_TERMS - 1]);
		check_plan(&set);
		if (!DatumGetBool(values[NEWEST_RETIRED - 1]) && sets_unchanged(&set))
			id = DatumGetInt64(values[NEWEST_ID - 1]);
		else
			id = add_version(&set, DatumGetInt32(values[NEWEST_VERSION - 1]));
	}
	PG_RETURN_INT64(id);
}

/*
 * Retires a plan, by adding a version that is retired.  If the newest version is
 * retired already, returns that one.
 */
Datum
credits_retire_plan(PG_FUNCTION_ARGS)
{
	text	   *name = arg_name(fcinfo, 0, "name");
	Datum		values[3];
	bool		isnull;

	values[1] = TimestampTzGetDatum(clock_now());
	values[2] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	store_check_writable("credits_retire_plan()");
	store_lock_table(&plans_table);
	for (;;)
	{
		const PlanTerms *plan = plans_find(name);
		SqlResult  *result;

		if (plan == NULL)
			plan = plans_sold(name);	/* which raises the error */
		if (plan->retired)
			PG_RETURN_INT64(plan->id);
		values[0] = Int64GetDatum(plan->id);
		result = statements_run(&retire_plan, values, NULL);
		if (result->nrows > 0)
			PG_RETURN_DATUM(statements_value(result, 0, 1, &isnull));
		/* another transaction has added a version: retire that one */
		CHECK_FOR_INTERRUPTS();
	}
}
