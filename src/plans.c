/*
 * plans.c
 *	  Plans: publishing and retiring them, and reading their terms.
 *
 * A version of a plan never changes, so its terms are read once in a
 * transaction and kept for the rest of it.
 */
#include "credits.h"

#include "allocate.h"
#include "calendar.h"
#include "plans.h"
#include "sql.h"

#include "access/stratnum.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_plan);
PG_FUNCTION_INFO_V1(credits_retire_plan);

#define MAX_ROLLOVER_PERIODS 10000

/* columns of credits.plans */
enum
{
	Anum_plans_id = 1,
	Anum_plans_name,
	Anum_plans_version,
	Anum_plans_unit,
	Anum_plans_credits,
	Anum_plans_period,
	Anum_plans_every,
	Anum_plans_price,
	Anum_plans_currency,
	Anum_plans_rollover,
	Anum_plans_rollover_maximum,
	Anum_plans_rollover_share,
	Anum_plans_rollover_minimum,
	Anum_plans_rollover_periods,
	Anum_plans_priority,
	Anum_plans_trial,
	Anum_plans_trial_credits,
	Anum_plans_catch_up,
	Anum_plans_features,
	Anum_plans_retired,
	Anum_plans_created_at,
	Anum_plans_role,
	Natts_plans = Anum_plans_role
};

static StoreTable plans_table = {
	.name = "plans",
	.sequence = "plans_id_seq",
	.types = (const Oid[]) {
		INT8OID, TEXTOID, INT4OID, TEXTOID, INT8OID, TEXTOID, INT4OID,
		NUMERICOID, TEXTOID, TEXTOID, INT8OID, NUMERICOID, INT8OID, INT4OID,
		INT4OID, INTERVALOID, INT8OID, TEXTOID, JSONBOID, BOOLOID,
		TIMESTAMPTZOID, TEXTOID, InvalidOid
	}
};

static StoreIndex plans_by_id = {&plans_table, "plans_pkey"};

/* the parameters of the statements below, in the order of credits_set_plan */
#define PLAN_TYPES \
	TEXTOID, INT8OID, TEXTOID, INT4OID, NUMERICOID, TEXTOID, TEXTOID, \
	INT8OID, NUMERICOID, INT8OID, INT4OID, INT4OID, INTERVALOID, INT8OID, \
	TEXTOID, TEXTOID, JSONBOID
#define PLAN_ARGS 17

/* 1 month and 30 days are equal, but not the same trial */
static SqlStatement find_same = {
	"SELECT p.id FROM credits.plans AS p"
	" WHERE p.name = $1 AND NOT p.retired"
	" AND NOT EXISTS (SELECT FROM credits.plans AS n"
	" WHERE n.name = $1 AND n.version > p.version)"
	" AND p.credits = $2 AND p.period = $3 AND p.every = $4"
	" AND p.price IS NOT DISTINCT FROM $5"
	" AND p.currency IS NOT DISTINCT FROM $6"
	" AND p.rollover = $7"
	" AND p.rollover_maximum IS NOT DISTINCT FROM $8"
	" AND p.rollover_share IS NOT DISTINCT FROM $9"
	" AND p.rollover_minimum = $10"
	" AND p.rollover_periods IS NOT DISTINCT FROM $11"
	" AND p.priority IS NOT DISTINCT FROM $12"
	" AND p.trial::text IS NOT DISTINCT FROM $13::text"
	" AND p.trial_credits = $14 AND p.catch_up = $15"
	" AND p.unit IS NOT DISTINCT FROM $16"
	" AND p.features IS NOT DISTINCT FROM $17",
	(const Oid[]) {PLAN_TYPES, InvalidOid}
};

/* if another adds the same version meanwhile, nothing is inserted */
static SqlStatement insert_plan = {
	"INSERT INTO credits.plans (id, name, version, credits, period, every,"
	" price, currency, rollover, rollover_maximum, rollover_share,"
	" rollover_minimum, rollover_periods, priority, trial, trial_credits,"
	" catch_up, unit, features, retired, created_at, role)"
	" SELECT nextval('credits.plans_id_seq'), $1,"
	" COALESCE((SELECT max(p.version) FROM credits.plans AS p"
	" WHERE p.name = $1), 0) + 1,"
	" $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
	" false, $18, $19"
	" ON CONFLICT (name, version) DO NOTHING RETURNING id",
	(const Oid[]) {PLAN_TYPES, TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement retire_plan = {
	"INSERT INTO credits.plans (id, name, version, credits, period, every,"
	" price, currency, rollover, rollover_maximum, rollover_share,"
	" rollover_minimum, rollover_periods, priority, trial, trial_credits,"
	" catch_up, unit, features, retired, created_at, role)"
	" SELECT nextval('credits.plans_id_seq'), p.name, p.version + 1,"
	" p.credits, p.period, p.every, p.price, p.currency, p.rollover,"
	" p.rollover_maximum, p.rollover_share, p.rollover_minimum,"
	" p.rollover_periods, p.priority, p.trial, p.trial_credits, p.catch_up,"
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

/* ------------------------------------------------------------------------
 * reading
 */

/* Plans that the transaction has read, by id */
typedef struct KeptPlan
{
	int64		id;
	PlanTerms  *plan;
} KeptPlan;

static HTAB *cache = NULL;
static Oid	cache_oid = InvalidOid;

/*
 * Forgets what was read, at the end of the transaction.
 */
static void
forget_cache(void *arg)
{
	cache = NULL;
}

/*
 * Makes a cache for the rest of the transaction.
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
 * Tells how a plan rolls over.
 */
static Rollover
rollover_of(text *name)
{
	char	   *rollover = text_to_cstring(name);

	return strcmp(rollover, "maximum") == 0 ? ROLLOVER_MAXIMUM :
		strcmp(rollover, "share") == 0 ? ROLLOVER_SHARE : ROLLOVER_NONE;
}

/*
 * Reads a version of a plan from a slot.
 */
static void
read_plan(TupleTableSlot *slot, PlanTerms *plan)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
	memset(plan, 0, sizeof(PlanTerms));
#define TEXT_OR_NULL(a) (isnull[a] ? NULL : DatumGetTextPCopy(values[a]))
#define NUMBER_OR_NULL(a) \
	(isnull[a] ? (Datum) 0 : NumericGetDatum(DatumGetNumericCopy(values[a])))
	plan->id = DatumGetInt64(values[Anum_plans_id]);
	plan->name = DatumGetTextPCopy(values[Anum_plans_name]);
	plan->version = DatumGetInt32(values[Anum_plans_version]);
	plan->unit = TEXT_OR_NULL(Anum_plans_unit);
	plan->credits = DatumGetInt64(values[Anum_plans_credits]);
	plan->period = TextDatumGetCString(values[Anum_plans_period]);
	plan->every = DatumGetInt32(values[Anum_plans_every]);
	plan->price = NUMBER_OR_NULL(Anum_plans_price);
	plan->currency = TEXT_OR_NULL(Anum_plans_currency);
	plan->rollover =
		rollover_of(DatumGetTextPP(values[Anum_plans_rollover]));
	plan->rollover_maximum = isnull[Anum_plans_rollover_maximum] ? NO_LIMIT :
		DatumGetInt64(values[Anum_plans_rollover_maximum]);
	plan->rollover_share = NUMBER_OR_NULL(Anum_plans_rollover_share);
	plan->rollover_minimum =
		DatumGetInt64(values[Anum_plans_rollover_minimum]);
	plan->rollover_periods = isnull[Anum_plans_rollover_periods] ? 0 :
		DatumGetInt32(values[Anum_plans_rollover_periods]);
	plan->priority = isnull[Anum_plans_priority] ? -1 :
		DatumGetInt32(values[Anum_plans_priority]);
	if (!isnull[Anum_plans_trial])
	{
		plan->trial = palloc(sizeof(Interval));
		*plan->trial = *DatumGetIntervalP(values[Anum_plans_trial]);
	}
	plan->trial_credits = DatumGetInt64(values[Anum_plans_trial_credits]);
	plan->catch_up_latest =
		strcmp(TextDatumGetCString(values[Anum_plans_catch_up]),
			   "latest") == 0;
	plan->retired = DatumGetBool(values[Anum_plans_retired]);
#undef TEXT_OR_NULL
#undef NUMBER_OR_NULL
}

/*
 * Reads a version of a plan from its table.
 */
static PlanTerms *
read_from_table(int64 id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	PlanTerms  *plan = NULL;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	store_scan(&scan, NULL, &plans_by_id, store_snapshot(true), &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		plan = palloc(sizeof(PlanTerms));
		read_plan(slot, plan);
	}
	store_scan_end(&scan);
	MemoryContextSwitchTo(old);
	return plan;
}

/*
 * Returns a version of a plan, good until the transaction ends.
 */
const PlanTerms *
plans_get(int64 id)
{
	/* ids begin anew with a new table */
	Oid			oid = get_relname_relid("plans",
										get_namespace_oid("credits", false));
	KeptPlan   *entry;
	PlanTerms  *plan;

	if (cache == NULL || cache_oid != oid)
		begin_cache();
	cache_oid = oid;
	entry = hash_search(cache, &id, HASH_FIND, NULL);
	if (entry)
		return entry->plan;
	plan = read_from_table(id);
	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("plan " INT64_FORMAT " does not exist", id),
				 errhint("Publish it with credits_set_plan.")));
	entry = hash_search(cache, &id, HASH_ENTER, NULL);
	entry->plan = plan;
	return plan;
}

/*
 * Returns the newest version of a plan, or NULL.
 */
const PlanTerms *
plans_find(text *name)
{
	Datum		value = PointerGetDatum(name);
	SqlResult  *result = sql_run(&find_newest, &value, NULL);
	bool		isnull;

	if (result->nrows == 0)
		return NULL;
	return plans_get(DatumGetInt64(sql_value(result, 0, 1, &isnull)));
}

/*
 * Returns the newest version of a plan that can be subscribed to.
 */
const PlanTerms *
plans_sold(text *name)
{
	const PlanTerms *plan = plans_find(name);

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
 * Returns what is rolled over of what a period left that gave so many credits:
 * least(maximum, greatest(unused, minimum)).  A share is rounded up.
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

/*
 * Raises the error for a number that is out of range.
 */
static void
out_of_range(const char *name, int64 value, int64 least, int64 most)
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
 * Checks a number of credits that may be 0, and may be left out where isnull is
 * not to be an error.
 */
static void
check_credits(const Datum *values, const bool *isnull, int n,
			  const char *name, bool needed)
{

	if (isnull[n])
	{
		if (needed)
			raise_null(name);
		return;
	}
	if (DatumGetInt64(values[n]) < 0)
		out_of_range(name, DatumGetInt64(values[n]), 0, PG_INT64_MAX);
}

/*
 * Checks a text that must be one of a few.
 */
static char *
check_choice(const Datum *values, const bool *isnull, int n, const char *name,
			 const char *const *choices)
{
	StringInfoData known;
	char	   *value;
	int			i;

	if (isnull[n])
		raise_null(name);
	value = text_to_cstring(DatumGetTextPP(values[n]));
	initStringInfo(&known);
	for (i = 0; choices[i]; i++)
	{
		if (strcmp(value, choices[i]) == 0)
			return value;
		appendStringInfo(&known, "%s%s", i ? ", " : "", choices[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown %s", name),
			 errdetail("It is \"%.64s\".", value),
			 errhint("Use one of %s.", known.data)));
	return NULL;
}

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
	Arg_priority,
	Arg_trial,
	Arg_trial_credits,
	Arg_catch_up,
	Arg_unit,
	Arg_features
};

/*
 * Raises the error for an argument that another one gives no meaning.
 */
static void
refuse_idle(const char *name, const char *other)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s means nothing here", name),
			 errdetail("It goes with %s.", other),
			 errhint("Leave %s out, or pass %s.", name, other)));
}

/*
 * Checks how credits are to be rolled over.
 */
static void
check_rollover(const Datum *values, bool *isnull)
{
	static const char *const choices[] = {"none", "maximum", "share", NULL};
	char	   *rollover = check_choice(values, isnull, Arg_rollover,
										"rollover", choices);
	bool		share = strcmp(rollover, "share") == 0;

	check_credits(values, isnull, Arg_rollover_maximum, "rollover_maximum",
				  false);
	check_credits(values, isnull, Arg_rollover_minimum, "rollover_minimum",
				  true);
	if (!isnull[Arg_rollover_maximum] && strcmp(rollover, "maximum") != 0)
		refuse_idle("rollover_maximum", "rollover => 'maximum'");
	if (!isnull[Arg_rollover_share] && !share)
		refuse_idle("rollover_share", "rollover => 'share'");
	if (DatumGetInt64(values[Arg_rollover_minimum]) > 0 &&
		strcmp(rollover, "none") == 0)
		refuse_idle("rollover_minimum", "rollover => 'maximum' or 'share'");
	if (share)
	{
		Numeric		value;

		if (isnull[Arg_rollover_share])
			raise_null("rollover_share");
		value = DatumGetNumeric(values[Arg_rollover_share]);
		if (numeric_is_nan(value) || numeric_is_inf(value) ||
			VARSIZE_ANY_EXHDR(value) > MAX_NAME_BYTES ||
			DatumGetBool(DirectFunctionCall2(numeric_lt,
											 values[Arg_rollover_share],
											 NumericGetDatum(int64_to_numeric(0)))) ||
			DatumGetBool(DirectFunctionCall2(numeric_gt,
											 values[Arg_rollover_share],
											 NumericGetDatum(int64_to_numeric(1)))))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("rollover_share must be from 0 to 1"),
					 errdetail("It is %.64s.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   values[Arg_rollover_share]))),
					 errhint("Pass 0.5 for half of the period's credits.")));
	}
	if (!isnull[Arg_rollover_periods])
	{
		int32		n = DatumGetInt32(values[Arg_rollover_periods]);

		if (n < 1 || n > MAX_ROLLOVER_PERIODS)
			out_of_range("rollover_periods", n, 1, MAX_ROLLOVER_PERIODS);
	}
}

/*
 * Checks the arguments of credits_set_plan, and fills in what depends on
 * others.
 */
static void
check_plan(FunctionCallInfo fcinfo, Datum *values, bool *isnull)
{
	static const char *const periods[] = {"day", "week", "month", "year", NULL};
	static const char *const catch_ups[] = {"all", "latest", NULL};
	Allocation	allocation = {0};
	Refusal		refusal;

	(void) arg_name(fcinfo, Arg_name, "name");
	check_credits(values, isnull, Arg_credits, "credits", true);
	(void) check_choice(values, isnull, Arg_period, "period", periods);
	if (isnull[Arg_every])
		raise_null("every");
	if (DatumGetInt32(values[Arg_every]) < 1 ||
		DatumGetInt32(values[Arg_every]) > MAX_EVERY)
		out_of_range("every", DatumGetInt32(values[Arg_every]), 1, MAX_EVERY);
	check_rollover(values, isnull);
	(void) check_choice(values, isnull, Arg_catch_up, "catch_up", catch_ups);
	if (!isnull[Arg_unit])
		check_unit(DatumGetTextPP(values[Arg_unit]));
	if (!isnull[Arg_features] &&
		VARSIZE(DatumGetJsonbP(values[Arg_features])) > MAX_METADATA_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("features is too long"),
				 errdetail("It has %zu bytes; at most %d are allowed.",
						   (Size) VARSIZE(DatumGetJsonbP(values[Arg_features])),
						   MAX_METADATA_BYTES),
				 errhint("Keep large documents in a table of your own.")));

	allocation.source = cstring_to_text("subscription");
	allocation.expires_at = DT_NOEND;
	allocation.price = isnull[Arg_price] ? (Datum) 0 : values[Arg_price];
	allocation.currency = arg_text(fcinfo, Arg_currency, "currency",
								   MAX_NAME_BYTES);
	allocation.has_priority = !isnull[Arg_priority];
	if (allocation.has_priority)
		allocation.priority = DatumGetInt32(values[Arg_priority]);
	if (!allocate_valid(&refusal, &allocation))
		raise_refusal(&refusal);

	check_credits(values, isnull, Arg_trial_credits, "trial_credits", false);
	if (!isnull[Arg_trial])
		(void) arg_interval(fcinfo, Arg_trial, "trial");
	else if (!isnull[Arg_trial_credits])
		refuse_idle("trial_credits", "trial");
	if (isnull[Arg_trial_credits])
	{
		isnull[Arg_trial_credits] = false;
		values[Arg_trial_credits] = isnull[Arg_trial] ? Int64GetDatum(0) :
			values[Arg_credits];
	}
}

/*
 * Refuses a plan whose credits an account cannot hold.
 */
bool
plans_fit(Posting *posting, const PlanTerms *plan)
{
	text	   *unit =
		DatumGetTextPP(posting->account.values[Anum_accounts_unit - 1]);

	if (plan->unit == NULL || same_text(plan->unit, unit))
		return true;
	return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "plan gives credits of another unit",
				  psprintf("Plan \"%s\" gives \"%s\", account \"%s\" holds \"%s\".",
						   text_to_cstring(plan->name),
						   text_to_cstring(plan->unit),
						   row_account_name(&posting->account),
						   text_to_cstring(unit)),
				  "Use a plan of the account's unit.");
}

/*
 * Publishes a plan, or a new version of it.
 */
Datum
credits_set_plan(PG_FUNCTION_ARGS)
{
	Datum		values[PLAN_ARGS + 2];
	bool		isnull[PLAN_ARGS + 2];
	int			i;

	StaticAssertStmt(Arg_features == PLAN_ARGS - 1, "arguments are missing");
	for (i = 0; i < PLAN_ARGS; i++)
	{
		isnull[i] = PG_ARGISNULL(i);
		values[i] = isnull[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	check_plan(fcinfo, values, isnull);
	values[PLAN_ARGS] = TimestampTzGetDatum(clock_now());
	values[PLAN_ARGS + 1] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	isnull[PLAN_ARGS] = isnull[PLAN_ARGS + 1] = false;

	store_check_writable("credits_set_plan()");
	store_lock_table(&plans_table);
	for (;;)
	{
		SqlResult  *result = sql_run(&find_same, values, isnull);

		if (result->nrows == 0)
			result = sql_run(&insert_plan, values, isnull);
		if (result->nrows > 0)
			PG_RETURN_DATUM(sql_value(result, 0, 1, &isnull[0]));
		/* another has added a version */
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Retires a plan: adds a version that says so.
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

		if (plan == NULL || plan->retired)
			(void) plans_sold(name);
		values[0] = Int64GetDatum(plan->id);
		result = sql_run(&retire_plan, values, NULL);
		if (result->nrows > 0)
			PG_RETURN_DATUM(sql_value(result, 0, 1, &isnull));
		/* another has added a version */
		CHECK_FOR_INTERRUPTS();
	}
}
