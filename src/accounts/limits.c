/*
 * limits.c
 *	  Setting the limits of an account.  They are enforced in limit_rules.c.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_limits);

static const SetArg set_limits_args[] = {
	{"account", SET_NAMES},
	{"max_balance", SET_KEEPS},
	{"excess", SET_KEEPS},
	{"min_spend", SET_KEEPS},
	{"max_spend", SET_KEEPS},
	{"max_spend_per_day", SET_KEEPS},
	{"max_spend_per_month", SET_KEEPS},
	{"timezone", SET_KEEPS, "UTC"},
	{"reason", SET_ONCE}
};

/*
 * Returns an argument that is a limit, or NO_LIMIT if it is null.
 */
static int64
arg_limit(FunctionCallInfo fcinfo, int n)
{
	const char *name = set_limits_args[n].name;
	int64		value;

	if (PG_ARGISNULL(n))
		return NO_LIMIT;
	value = PG_GETARG_INT64(n);
	if (value < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name),
				 errdetail("It is " INT64_FORMAT ".", value),
				 errhint("Pass a number of credits, or clear => '{%s}' to go by the setting.",
						 name)));
	return value;
}

/*
 * Adds a limit that an account has to the values that are kept.
 */
static void
keep_limit(Datum *values, bool *isnull, int n, int64 limit)
{
	values[n] = Int64GetDatum(limit);
	isnull[n] = limit == NO_LIMIT;
}

/*
 * Completes the arguments with the limits that an account has.
 */
static void
merge_limits(Set *set, const Limits *limits)
{
	Datum	   *values = palloc0(lengthof(set_limits_args) * sizeof(Datum));
	bool	   *isnull = palloc0(lengthof(set_limits_args) * sizeof(bool));

	keep_limit(values, isnull, 1, limits->max_balance);
	isnull[2] = limits->excess != EXCESS_REFUSE && limits->excess != EXCESS_CLIP;
	if (!isnull[2])
		values[2] = CStringGetTextDatum(excess_names[limits->excess]);
	keep_limit(values, isnull, 3, limits->min_spend);
	keep_limit(values, isnull, 4, limits->max_spend);
	keep_limit(values, isnull, 5, limits->max_spend_per_day);
	keep_limit(values, isnull, 6, limits->max_spend_per_month);
	values[7] = PointerGetDatum(limits->timezone);
	sets_merge(set, values, isnull);
}

/*
 * Reads limits from complete arguments.
 */
static void
read_limits(FunctionCallInfo fcinfo, Limits *limits)
{
	limits->max_balance = arg_limit(fcinfo, 1);
	limits->excess = PG_ARGISNULL(2) ? EXCESS_BY_SETTING :
		(Excess) ARG_CHOICE(2, "excess", excess_names);
	limits->min_spend = arg_limit(fcinfo, 3);
	limits->max_spend = arg_limit(fcinfo, 4);
	limits->max_spend_per_day = arg_limit(fcinfo, 5);
	limits->max_spend_per_month = arg_limit(fcinfo, 6);
	limits->timezone = arg_timezone(fcinfo, 7);
}

/*
 * Plans to set an account's limits.
 */
static bool
plan_limits(Posting *posting, void *arg)
{
	Set		   *set = arg;
	Limits	   *limits = limit_rules_of(posting);
	Jsonb	   *old = limit_rules_terms(limits);

	if (!guards_not_closed(posting))
		return false;
	merge_limits(set, limits);
	read_limits(set->merged, limits);
	if (limits->min_spend != NO_LIMIT && limits->max_spend != NO_LIMIT &&
		limits->min_spend > limits->max_spend && limits->max_spend > 0)
		return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "min_spend must not exceed max_spend",
					  psprintf("They would be " INT64_FORMAT " and " INT64_FORMAT ".",
							   limits->min_spend, limits->max_spend),
					  "Set both, or clear one.  To let an account spend nothing, pause it or pass max_spend => 0.");
	/* what was spent before in the current day and month counts, too */
	if (limits->max_spend_per_day != NO_LIMIT || limits->max_spend_per_month != NO_LIMIT)
		limit_rules_begin_windows(posting, limits);
	limit_rules_change(posting, limits);
	posting->account.limited = true;
	posting->main = log_add(posting, KIND_LIMITS, posting->now, 0, NULL, 0);
	posting->main->terms = limit_rules_terms(limits);
	audit_setting(posting, AUDIT_LIMITS, NULL, posting->account.id, old,
				  posting->main->terms);
	return true;
}

/*
 * SQL function: sets limits of an account.
 */
Datum
credits_set_limits(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	text	   *account = arg_account(fcinfo, 0);
	Set			set;

	SETS_READ(&set, fcinfo, set_limits_args);
	request.reason = arg_text(fcinfo, 8, "reason", MAX_REASON_BYTES);
	store_check_writable("credits_set_limits()");
	store_lock_table(&limits_table);
	return ledger_call(fcinfo, "credits_set_limits()", account, 0, &request,
					   plan_limits, &set);
}
