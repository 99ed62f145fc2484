/*
 * calls.c
 *	  What all calls that change a subscription have in common: finding it,
 *	  posting the change, and returning its new state.
 *
 * Tested in test/sql/subscriptions.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calls.h"
#include "subscribe/renew.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* how far from now a subscription may begin */
#define MAX_YEARS 100

/*
 * Posts a change to the account of a subscription.  Returns false, with the
 * refusal filled in, if it is refused.
 */
bool
calls_post(Call *call, PlanFunction plan, Refusal *refusal)
{
	Party		party = {0};

	if (call->wanted)
		party.name = call->wanted->account;
	else
	{
		Subscription subscription;

		ledger_lock_tables(call->function);
		store_lock_table(&subscriptions_table);
		if (!subscriptions_find(call->id, &subscription))
			subscriptions_raise_unknown(call->id);
		/* this needs no lock: a subscription never changes its account */
		party.id = subscription.account_id;
	}
	/* a joint change may turn out to have nothing to do */
	return ledger_post_joint(call->function, &party, 1, &call->request, plan,
							 call, &call->receipt, refusal);
}

/*
 * Returns the subscription that a call is about.
 */
Subscription *
calls_subscription(Posting *posting, const Call *call)
{
	Subscription *subscription = subscriptions_in(posting, call->id);

	if (subscription == NULL)
		subscriptions_raise_unknown(call->id);
	return subscription;
}

/*
 * Logs the change that a call makes to a subscription.  This must be done before
 * credits are given or taken back, whose transactions are to follow in the log.
 */
void
calls_log(Posting *posting, Call *call, Subscription *subscription)
{
	posting->main = renew_log(posting, subscription);
	call->done = true;
}

/*
 * Returns the current state of a subscription as a credits.subscription_state.
 */
Datum
calls_state(FunctionCallInfo fcinfo, int64 id, const Receipt *receipt,
			bool replayed)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 11);
	Datum		values[11];
	bool		isnull[11] = {false};
	Subscription s;
	const PlanTerms *plan;
	Account		account;
	Account		settled;
	Datum		result;

	if (!subscriptions_find(id, &s))
		subscriptions_raise_unknown(id);
	plan = plans_get(s.plan_id);
	PushActiveSnapshot(store_snapshot(true));
	if (!rows_find_account(NULL, GetActiveSnapshot(), NULL, s.account_id,
						   &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist",
						s.account_id),
				 errhint("Run credits_verify.")));
	values[1] = CStringGetTextDatum(rows_account_name(&account));
	ledger_peek(&account, clock_now(), &settled, NULL, NULL);
	PopActiveSnapshot();

	values[0] = Int64GetDatum(s.id);
	values[2] = PointerGetDatum(plan->name);
	values[3] = Int32GetDatum(plan->version);
	values[4] = CStringGetTextDatum(subscription_status_names[s.status]);
	values[5] = TimestampTzGetDatum(s.period_start);
	values[6] = TimestampTzGetDatum(s.period_end);
	/* before the first period has begun there is none to show */
	isnull[5] = isnull[6] = s.period_number < 0;
	values[7] = TimestampTzGetDatum(s.cancel_at);
	isnull[7] = s.cancel_at == DT_NOEND;
	values[8] = Int64GetDatum(receipt->transaction_id);
	isnull[8] = receipt->transaction_id == 0;
	values[9] = Int64GetDatum(settled.balance);
	values[10] = BoolGetDatum(replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Posts a change for an SQL function and returns the state of the subscription
 * after it.
 */
Datum
calls_run(FunctionCallInfo fcinfo, Call *call, PlanFunction plan)
{
	Refusal		refusal;

	if (!calls_post(call, plan, &refusal))
		raise_refusal(&refusal);
	return calls_state(fcinfo, call->id, &call->receipt, !call->done);
}

/*
 * Raises an error if an instant is too far from now: the periods in between are
 * counted one by one.
 */
void
calls_check_instant(const char *name, TimestampTz at)
{
	const int64 most = INT64CONST(366) * MAX_YEARS * USECS_PER_DAY;
	TimestampTz now = clock_now();

	if (TIMESTAMP_NOT_FINITE(at) || at < now - most || at > now + most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be within %d years of now", name, MAX_YEARS),
				 errdetail("It is %s.", timestamptz_to_str(at)),
				 errhint("Leave %s out, or pass an instant.", name)));
}

/*
 * Reads an optional instant.  Returns false if it is not given.
 */
bool
calls_arg_instant(FunctionCallInfo fcinfo, int n, const char *name, TimestampTz *at)
{
	if (PG_ARGISNULL(n))
		return false;
	*at = PG_GETARG_TIMESTAMPTZ(n);
	calls_check_instant(name, *at);
	return true;
}
