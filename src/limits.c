/*
 * limits.c
 *	  Setting the limits of one account; caps.c keeps to them.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_limits);

/*
 * Returns a limit, NO_LIMIT if it is not given.
 */
static int64
arg_limit(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64		value;

	if (PG_ARGISNULL(n))
		return NO_LIMIT;
	value = PG_GETARG_INT64(n);
	if (value < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name),
				 errdetail("It is " INT64_FORMAT ".", value),
				 errhint("Pass a number of credits, or NULL to go by the setting.")));
	return value;
}

/*
 * Plans a change of an account's limits.  What has been spent in the present
 * windows counts, whether or not it was limited then.
 */
static bool
plan_limits(Posting *posting, void *arg)
{
	Limits	   *wanted = arg;
	Limits	   *limits = caps_limits(posting);

	if (!ledger_not_closed(posting))
		return false;
	limits->max_balance = wanted->max_balance;
	limits->has_excess = wanted->has_excess;
	limits->clip = wanted->clip;
	limits->min_spend = wanted->min_spend;
	limits->max_spend = wanted->max_spend;
	limits->max_spend_per_day = wanted->max_spend_per_day;
	limits->max_spend_per_month = wanted->max_spend_per_month;
	limits->timezone = wanted->timezone;
	if (limits->max_spend_per_day != NO_LIMIT || limits->max_spend_per_month != NO_LIMIT)
		caps_begin_windows(posting, limits);
	caps_change_limits(posting, limits);
	posting->account.limited = true;
	posting->main = log_add(posting, KIND_LIMITS, posting->now, 0, NULL, 0);
	posting->main->terms = caps_limits_terms(limits);
	return true;
}

/*
 * Sets the limits of an account, all at once.
 */
Datum
credits_set_limits(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	Limits		limits = {0};
	text	   *account = arg_account(fcinfo, 0);

	limits.max_balance = arg_limit(fcinfo, 1, "max_balance");
	if (!PG_ARGISNULL(2))
	{
		char	   *excess = text_to_cstring(PG_GETARG_TEXT_PP(2));

		limits.has_excess = true;
		limits.clip = strcmp(excess, "clip") == 0;
		if (!limits.clip && strcmp(excess, "refuse") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("excess must be \"refuse\" or \"clip\""),
					 errdetail("It is \"%.64s\".", excess),
					 errhint("Leave it out to go by the setting credits.excess.")));
	}
	limits.min_spend = arg_limit(fcinfo, 3, "min_spend");
	limits.max_spend = arg_limit(fcinfo, 4, "max_spend");
	limits.max_spend_per_day = arg_limit(fcinfo, 5, "max_spend_per_day");
	limits.max_spend_per_month = arg_limit(fcinfo, 6, "max_spend_per_month");
	if (limits.min_spend != NO_LIMIT && limits.max_spend != NO_LIMIT &&
		limits.min_spend > limits.max_spend && limits.max_spend > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("min_spend must not exceed max_spend"),
				 errdetail("They are " INT64_FORMAT " and " INT64_FORMAT ".",
						   limits.min_spend, limits.max_spend),
				 errhint("To let an account spend nothing, pause it or pass max_spend => 0.")));
	limits.timezone = arg_timezone(fcinfo, 7);
	request.reason = arg_text(fcinfo, 8, "reason", MAX_REASON_BYTES);
	store_check_writable("credits_set_limits()");
	store_lock_table(&limits_table);
	return ledger_call(fcinfo, "credits_set_limits()", account, 0, &request,
					   plan_limits, &limits);
}
