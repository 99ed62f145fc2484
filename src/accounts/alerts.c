/*
 * alerts.c
 *	  Setting the levels at which an account alerts.  The alerts themselves are
 *	  raised in ledger/alerts.c.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_set_alerts);

static const SetArg set_alerts_args[] = {
	{"account", SET_NAMES},
	{"levels", SET_KEEPS},
	{"base", SET_KEEPS},
	{"reason", SET_ONCE}
};

/*
 * Returns an argument that is a list of levels, or NULL if it is null.
 */
static text *
arg_levels(FunctionCallInfo fcinfo, int n)
{
	Levels		levels;
	text	   *list;

	if (PG_ARGISNULL(n))
		return NULL;
	list = PG_GETARG_TEXT_PP(n);
	if (VARSIZE_ANY_EXHDR(list) > MAX_LEVELS_BYTES ||
		!levels_read(VARDATA_ANY(list), VARSIZE_ANY_EXHDR(list), &levels))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bad list of levels"),
				 errdetail("It is \"%s\".", show_value(text_to_cstring(list))),
				 errhint("Pass up to %d balances or percentages from 1%% to 100%%, such as \"20%%, 10%%, 5\", or an empty text for none.",
						 MAX_LEVELS)));
	return list;
}

/*
 * Returns an argument that is a base, or 0 if it is null.
 */
static int64
arg_base(FunctionCallInfo fcinfo, int n)
{
	int64		base;

	if (PG_ARGISNULL(n))
		return 0;
	base = PG_GETARG_INT64(n);
	if (base <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("base must be positive"),
				 errdetail("It is " INT64_FORMAT ".", base),
				 errhint("Pass the balance that is 100%%, or clear => '{base}' to go by the highest balance since the last period or purchase.")));
	return base;
}

/*
 * Returns what an account alerts at, to be logged.
 */
static Jsonb *
alert_terms(const Account *account)
{
	JsonObject	json;

	json_begin(&json);
	if (account->alert_levels)
		json_text(&json, "levels", account->alert_levels);
	else
		json_null(&json, "levels");
	if (account->alert_base != 0)
		json_int64(&json, "base", account->alert_base);
	else
		json_null(&json, "base");
	return json_document(&json);
}

/*
 * Plans to set at what an account alerts.
 */
static bool
plan_alerts(Posting *posting, void *arg)
{
	Set		   *set = arg;
	Account    *account = &posting->account;
	Datum	   *values = palloc0(lengthof(set_alerts_args) * sizeof(Datum));
	bool	   *isnull = palloc0(lengthof(set_alerts_args) * sizeof(bool));
	Jsonb	   *old = alert_terms(account);

	if (!guards_not_closed(posting))
		return false;
	values[1] = PointerGetDatum(account->alert_levels);
	isnull[1] = account->alert_levels == NULL;
	values[2] = Int64GetDatum(account->alert_base);
	isnull[2] = account->alert_base == 0;
	sets_merge(set, values, isnull);
	account->alert_levels = arg_levels(set->merged, 1);
	account->alert_base = arg_base(set->merged, 2);
	posting->main = log_add(posting, KIND_ALERTS, posting->now, 0, NULL, 0);
	posting->main->terms = alert_terms(account);
	audit_setting(posting, AUDIT_ALERTS, NULL, account->id, old, posting->main->terms);
	return true;
}

/*
 * SQL function: sets at what an account alerts.
 */
Datum
credits_set_alerts(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	text	   *account = arg_account(fcinfo, 0);
	Set			set;

	SETS_READ(&set, fcinfo, set_alerts_args);
	/* a bad list is refused even if the account is closed or unknown */
	(void) arg_levels(fcinfo, 1);
	(void) arg_base(fcinfo, 2);
	request.reason = arg_text(fcinfo, 3, "reason", MAX_REASON_BYTES);
	return ledger_call(fcinfo, "credits_set_alerts()", account, 0, &request,
					   plan_alerts, &set);
}
