/*
 * topups.c
 *	  Automatic top-ups: setting when, by what and how often credits are bought
 *	  for an account.
 *
 * The rule of an account is its row of credits.topups.  The threshold is in the
 * account's own row as well, so that a spend that crosses it finds it there, and
 * writes an event.  What is done about that is in topup_requests.c.
 *
 * Tested in test/sql/topups.sql and test/t/topups.pl.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "base/sets.h"
#include "rewards/topups.h"
#include "store/statements.h"
#include "tell/feed.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_set_topup);
PG_FUNCTION_INFO_V1(credits_remove_topup);
PG_FUNCTION_INFO_V1(credits_resume_topup);

/* a period that is longer is rather a mistake */
#define MAX_PERIOD_DAYS 366

const char *const topup_state_names[] = {
	"ready", "requested", "waiting", "limited", "suspended", "refused"
};

static SqlStatement find_topup = {
	"SELECT account_id, below, target, package, currency, max_requests,"
	" max_money, period, resumed_id, due_at, state, message"
	" FROM credits.topups WHERE account_id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement write_topup = {
	"INSERT INTO credits.topups AS t (account_id, below, target, package,"
	" currency, max_requests, max_money, period, resumed_id, due_at, state,"
	" set_at, role)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, 'ready', $9, session_user)"
	" ON CONFLICT (account_id) DO UPDATE SET below = EXCLUDED.below,"
	" target = EXCLUDED.target, package = EXCLUDED.package,"
	" currency = EXCLUDED.currency, max_requests = EXCLUDED.max_requests,"
	" max_money = EXCLUDED.max_money, period = EXCLUDED.period,"
	" due_at = EXCLUDED.due_at, set_at = EXCLUDED.set_at, role = EXCLUDED.role",
	(const Oid[]) {
		INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT8OID, NUMERICOID,
		INTERVALOID, TIMESTAMPTZOID, InvalidOid
	}
};

static SqlStatement delete_topup = {
	"DELETE FROM credits.topups WHERE account_id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement resume_topup = {
	"UPDATE credits.topups SET due_at = $2, resumed_id = COALESCE("
	"(SELECT r.id FROM credits.topup_requests AS r WHERE r.account_id = $1"
	" ORDER BY r.requested_at DESC, r.id DESC LIMIT 1), 0) WHERE account_id = $1",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* the arguments of credits_set_topup */
enum
{
	SET_TOPUP_ACCOUNT,
	SET_TOPUP_BELOW,
	SET_TOPUP_TARGET,
	SET_TOPUP_PACKAGE,
	SET_TOPUP_CURRENCY,
	SET_TOPUP_MAX_REQUESTS,
	SET_TOPUP_MAX_MONEY,
	SET_TOPUP_PERIOD,
	SET_TOPUP_REASON
};

static const SetArg set_topup_args[] = {
	[SET_TOPUP_ACCOUNT] = {"account", SET_NAMES},
	[SET_TOPUP_BELOW] = {"below", SET_NEEDED},
	[SET_TOPUP_TARGET] = {"target", SET_KEEPS},
	[SET_TOPUP_PACKAGE] = {"package", SET_KEEPS},
	[SET_TOPUP_CURRENCY] = {"currency", SET_KEEPS},
	[SET_TOPUP_MAX_REQUESTS] = {"max_requests", SET_KEEPS, "3"},
	[SET_TOPUP_MAX_MONEY] = {"max_money", SET_KEEPS},
	[SET_TOPUP_PERIOD] = {"period", SET_KEEPS, "1 day"},
	[SET_TOPUP_REASON] = {"reason", SET_ONCE}
};

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Finds the rule of an account.  Returns false if it has none.
 */
bool
topups_find(int64 account_id, Topup *topup)
{
	Datum		value = Int64GetDatum(account_id);
	SqlResult  *row = statements_run(&find_topup, &value, NULL);
	bool		isnull;
	int			state;

	memset(topup, 0, sizeof(Topup));
	if (row->nrows == 0)
		return false;
#define VALUE(n) (value = statements_value(row, 0, n, &isnull))
#define TEXT_OR_NULL(n) (VALUE(n), isnull ? NULL : DatumGetTextPP(value))
	topup->account_id = DatumGetInt64(VALUE(1));
	topup->below = DatumGetInt64(VALUE(2));
	VALUE(3);
	topup->target = isnull ? 0 : DatumGetInt64(value);
	topup->package = TEXT_OR_NULL(4);
	topup->currency = TEXT_OR_NULL(5);
	topup->max_requests = DatumGetInt64(VALUE(6));
	VALUE(7);
	topup->max_money = isnull ? (Datum) 0 : value;
	topup->period = DatumGetIntervalP(VALUE(8));
	topup->resumed_id = DatumGetInt64(VALUE(9));
	VALUE(10);
	topup->due_at = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	state = NAME_FIND(topup_state_names, TextDatumGetCString(VALUE(11)));
	topup->state = state < 0 ? TOPUP_READY : (TopupState) state;
	topup->message = TEXT_OR_NULL(12);
#undef TEXT_OR_NULL
#undef VALUE
	return true;
}

/*
 * Returns a rule as it is logged, NULL for one that is removed.
 */
static Jsonb *
topup_terms(const Topup *topup)
{
	JsonObject	json;

	json_begin(&json);
	if (topup == NULL)
	{
		json_null(&json, "below");
		return json_document(&json);
	}
	json_int64(&json, "below", topup->below);
	if (topup->package)
		json_text(&json, "package", topup->package);
	else
		json_int64(&json, "target", topup->target);
	if (topup->currency)
		json_text(&json, "currency", topup->currency);
	json_int64(&json, "max_requests", topup->max_requests);
	if (topup->max_money != (Datum) 0)
		json_numeric(&json, "max_money", topup->max_money);
	json_interval(&json, "period", topup->period);
	return json_document(&json);
}

/* ------------------------------------------------------------------------
 * setting
 */

/*
 * Completes the arguments with the rule that an account has.
 */
static void
merge_topup(Set *set, const Topup *topup)
{
	Datum	   *values = palloc0(lengthof(set_topup_args) * sizeof(Datum));
	bool	   *isnull = palloc0(lengthof(set_topup_args) * sizeof(bool));

	values[SET_TOPUP_BELOW] = Int64GetDatum(topup->below);
	values[SET_TOPUP_TARGET] = Int64GetDatum(topup->target);
	isnull[SET_TOPUP_TARGET] = topup->target == 0;
	values[SET_TOPUP_PACKAGE] = PointerGetDatum(topup->package);
	isnull[SET_TOPUP_PACKAGE] = topup->package == NULL;
	values[SET_TOPUP_CURRENCY] = PointerGetDatum(topup->currency);
	isnull[SET_TOPUP_CURRENCY] = topup->currency == NULL;
	values[SET_TOPUP_MAX_REQUESTS] = Int64GetDatum(topup->max_requests);
	values[SET_TOPUP_MAX_MONEY] = topup->max_money;
	isnull[SET_TOPUP_MAX_MONEY] = topup->max_money == (Datum) 0;
	values[SET_TOPUP_PERIOD] = IntervalPGetDatum(topup->period);
	sets_merge(set, values, isnull);
}

/*
 * Returns how much may be bought within a period, 0 for any amount.
 */
static Datum
arg_max_money(FunctionCallInfo fcinfo)
{
	Datum		money;

	if (PG_ARGISNULL(SET_TOPUP_MAX_MONEY))
		return (Datum) 0;
	money = arg_money(fcinfo, SET_TOPUP_MAX_MONEY, "max_money");
	if (compare(money, number(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_money must be positive"),
				 errhint("Pass how much may be charged within a period, or use credits_remove_topup.")));
	if (PG_ARGISNULL(SET_TOPUP_CURRENCY))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("currency must not be null where there is a max_money"),
				 errhint("Pass the currency of max_money, in which the credits are bought.")));
	return money;
}

/*
 * Returns the period within which purchases are counted.
 */
static Interval *
arg_period(FunctionCallInfo fcinfo)
{
	Interval   *period = arg_interval(fcinfo, SET_TOPUP_PERIOD, "period");
	TimestampTz now = clock_now();

	if (clock_after(now, period) > now + MAX_PERIOD_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("period must not be longer than %d days", MAX_PERIOD_DAYS),
				 errhint("Pass the span within which max_requests and max_money hold, such as '1 day' or '1 month'.")));
	return period;
}

/*
 * Reads a rule from arguments, complete or as they were given.
 */
static void
read_topup(Set *set, FunctionCallInfo fcinfo, Topup *topup, bool complete)
{
	bool		given_target = !set->given->args[SET_TOPUP_TARGET].isnull;
	bool		given_package = !set->given->args[SET_TOPUP_PACKAGE].isnull;

	/* one replaces the other */
	if (complete && given_target != given_package)
		(void) sets_drop(set, given_target ? SET_TOPUP_PACKAGE : SET_TOPUP_TARGET);
	if (complete || !PG_ARGISNULL(SET_TOPUP_BELOW))
		topup->below = arg_amount(fcinfo, SET_TOPUP_BELOW, "below");
	topup->target = PG_ARGISNULL(SET_TOPUP_TARGET) ? 0 :
		arg_amount(fcinfo, SET_TOPUP_TARGET, "target");
	topup->package = arg_text(fcinfo, SET_TOPUP_PACKAGE, "package", MAX_NAME_BYTES);
	topup->currency = arg_currency(fcinfo, SET_TOPUP_CURRENCY);
	if (complete || !PG_ARGISNULL(SET_TOPUP_MAX_REQUESTS))
		topup->max_requests = arg_amount(fcinfo, SET_TOPUP_MAX_REQUESTS, "max_requests");
	if (complete || !PG_ARGISNULL(SET_TOPUP_PERIOD))
		topup->period = arg_period(fcinfo);
	if (!complete)
		return;
	topup->max_money = arg_max_money(fcinfo);
	if ((topup->target == 0) == (topup->package == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of target and package must be set"),
				 errhint("Pass the balance to which the account is topped up, or the package that is bought.")));
	if (topup->target != 0 && topup->target <= topup->below)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("target must be above below"),
				 errdetail("They would be " INT64_FORMAT " and " INT64_FORMAT ".",
						   topup->target, topup->below),
				 errhint("Pass a balance that is not below it at once.")));
}

/* A rule that is to be set or, without below, removed */
typedef struct Setting
{
	Set			set;
	Topup		topup;
} Setting;

/*
 * Writes the rule of an account.
 */
static void
write_rule(Posting *posting, void *arg)
{
	const Topup *topup = &((Setting *) arg)->topup;
	Datum		values[9];
	bool		isnull[9] = {false};

	values[0] = Int64GetDatum(posting->account.id);
	if (topup->below == 0)
	{
		(void) statements_run(&delete_topup, values, NULL);
		return;
	}
	values[1] = Int64GetDatum(topup->below);
	values[2] = Int64GetDatum(topup->target);
	isnull[2] = topup->target == 0;
	values[3] = PointerGetDatum(topup->package);
	isnull[3] = topup->package == NULL;
	values[4] = PointerGetDatum(topup->currency);
	isnull[4] = topup->currency == NULL;
	values[5] = Int64GetDatum(topup->max_requests);
	values[6] = topup->max_money;
	isnull[6] = topup->max_money == (Datum) 0;
	values[7] = IntervalPGetDatum(topup->period);
	values[8] = TimestampTzGetDatum(posting->now);
	(void) statements_run(&write_topup, values, isnull);
}

/*
 * Adds the row of a rule that is set or removed to the log.
 */
static void
log_rule(Posting *posting, Setting *setting)
{
	bool		removed = setting->topup.below == 0;

	posting->account.topup_below = setting->topup.below;
	posting->main = log_add(posting, KIND_TOPUP_RULE, posting->now, 0, NULL, 0);
	posting->main->terms = topup_terms(removed ? NULL : &setting->topup);
	posting_defer_statements(posting, write_rule, setting);
}

/*
 * Plans to set the rule of an account.
 */
static bool
plan_set_topup(Posting *posting, void *arg)
{
	Setting    *setting = arg;
	Topup		old;

	if (!guards_not_closed(posting))
		return false;
	if (topups_find(posting->account.id, &old))
		merge_topup(&setting->set, &old);
	else
		sets_merge(&setting->set, NULL, NULL);
	memset(&setting->topup, 0, sizeof(Topup));
	read_topup(&setting->set, setting->set.merged, &setting->topup, true);
	log_rule(posting, setting);
	return true;
}

/*
 * SQL function: sets when, by what and how often credits are bought for an account.
 */
Datum
credits_set_topup(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	text	   *account = arg_account(fcinfo, SET_TOPUP_ACCOUNT);
	Setting		setting = {0};

	SETS_READ(&setting.set, fcinfo, set_topup_args);
	/* bad values are refused even if the account is closed or unknown */
	read_topup(&setting.set, fcinfo, &setting.topup, false);
	request.reason = arg_text(fcinfo, SET_TOPUP_REASON, "reason", MAX_REASON_BYTES);
	store_check_writable("credits_set_topup()");
	/* from the first rule on, somebody reads */
	feed_begin(FEED_TOPUPS);
	return ledger_call(fcinfo, "credits_set_topup()", account, 0, &request,
					   plan_set_topup, &setting);
}

/*
 * Plans to remove the rule of an account.
 */
static bool
plan_remove_topup(Posting *posting, void *arg)
{
	Topup		old;

	if (!topups_find(posting->account.id, &old))
		return refuse(&posting->refusal, ERRCODE_NOT_FOUND,
					  psprintf("account \"%s\" is not topped up",
							   rows_account_name(&posting->account)),
					  NULL, "There is nothing to remove.");
	log_rule(posting, arg);
	return true;
}

/*
 * SQL function: has no more credits bought for an account.
 */
Datum
credits_remove_topup(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	text	   *account = arg_account(fcinfo, 0);
	Setting		setting = {0};

	request.reason = arg_text(fcinfo, 1, "reason", MAX_REASON_BYTES);
	return ledger_call(fcinfo, "credits_remove_topup()", account, 0, &request,
					   plan_remove_topup, &setting);
}

/*
 * SQL function: forgets declined payments of an account.  Returns false if it is not
 * topped up.
 */
Datum
credits_resume_topup(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	Account		account;
	Datum		values[2];

	store_check_writable("credits_resume_topup()");
	guards_find_account(GetActiveSnapshot(), name, &account);
	values[0] = Int64GetDatum(account.id);
	values[1] = TimestampTzGetDatum(clock_now());
	PG_RETURN_BOOL(statements_run(&resume_topup, values, NULL)->nrows > 0);
}
