/*
 * subscriptions.c
 *	  Subscribing accounts to plans, and what may become of a subscription:
 *	  canceled, paused, unpaid, paid.
 *
 * Each is a change of the subscription's account, which guards it, logged as a
 * transaction that moves nothing unless credits come or go with it.  Calls that
 * find things as they are to be change nothing.
 */
#include "credits.h"

#include "calendar.h"
#include "changes.h"
#include "periods.h"
#include "plans.h"
#include "renew.h"
#include "sql.h"
#include "subscriptions.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_subscribe);
PG_FUNCTION_INFO_V1(credits_cancel_subscription);
PG_FUNCTION_INFO_V1(credits_pause_subscription);
PG_FUNCTION_INFO_V1(credits_resume_subscription);
PG_FUNCTION_INFO_V1(credits_subscription_unpaid);
PG_FUNCTION_INFO_V1(credits_subscription_paid);

/* how far from now a subscription may begin */
#define MAX_YEARS 100

/* A change of a subscription that is asked for, and what came of it */
typedef struct Call
{
	const char *function;
	Request		request;
	int64		id;
	const NewSubscription *wanted;	/* to create one */
	SubscriptionStatus status;	/* to set */
	bool		at_period_end;	/* to cancel: then, or else at cancel_at */
	TimestampTz cancel_at;
	bool		cancel_expires;
	TimestampTz starts_at;		/* of a period to give */
	TimestampTz ends_at;		/* DT_NOEND for the calendar's */
	int64		plan_id;		/* of it, 0 for that in force */
	bool		trial;
	bool		done;			/* did it change anything? */
	Receipt		receipt;		/* transaction_id is 0 if it did not */
} Call;

/* ------------------------------------------------------------------------
 * what they all share
 */

/*
 * Posts a change on a subscription's account.  Returns false, with the refusal
 * filled in, if it must not be.
 */
static bool
post(Call *call, PlanChange plan, Refusal *refusal)
{
	Party		party = {0};

	if (call->wanted)
		party.name = call->wanted->account;
	else
	{
		Subscription subscription;

		store_lock_tables(call->function);
		store_lock_table(&subscriptions_table);
		if (!subscriptions_find(call->id, &subscription))
			subscriptions_raise_unknown(call->id);
		/* whose it is never changes */
		party.id = subscription.account_id;
	}
	/* joint, since it may be that nothing is to be done */
	return ledger_post_joint(call->function, &party, 1, &call->request, plan,
							 call, &call->receipt, refusal);
}

/*
 * Returns the subscription that a change is about.
 */
static Subscription *
subscription_of(Posting *posting, const Call *call)
{
	Subscription *subscription = subscriptions_in(posting, call->id);

	if (subscription == NULL)
		subscriptions_raise_unknown(call->id);
	return subscription;
}

/*
 * Lets the clock do what is due to a subscription before it is changed; what
 * the account's limits forbid stays due.
 */
static void
catch_up(Posting *posting, Subscription *subscription)
{
	if (!renew_due(posting, subscription))
		memset(&posting->refusal, 0, sizeof(Refusal));
}

/*
 * Ends a change: logs what has become of the subscription, before what comes
 * with it if that has not been planned yet.
 */
static void
done(Posting *posting, Call *call, Subscription *subscription)
{
	posting->main = renew_log(posting, subscription);
	call->done = true;
}

/* ------------------------------------------------------------------------
 * subscribing
 */

static SqlStatement trials_of = {
	"SELECT 1 FROM credits.subscriptions AS s"
	" JOIN credits.plans AS p ON p.id = s.plan_id"
	" WHERE s.account_id = $1 AND p.name = $2 AND s.status = 'trialing'"
	" UNION ALL"
	" SELECT 1 FROM credits.subscriptions AS s"
	" JOIN credits.periods AS t ON t.subscription_id = s.id"
	" JOIN credits.plans AS p ON p.id = t.plan_id"
	" WHERE s.account_id = $1 AND p.name = $2 AND t.status = 'trial'"
	" LIMIT 1",
	(const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

/*
 * Tells whether an account has had a trial of a plan, whatever its version.
 */
static bool
had_trial(int64 account_id, text *plan)
{
	Datum		values[2];

	values[0] = Int64GetDatum(account_id);
	values[1] = PointerGetDatum(plan);
	return sql_run(&trials_of, values, NULL)->nrows > 0;
}

/*
 * Makes a subscription as it is before its first period.
 */
static Subscription *
begin(Posting *posting, const NewSubscription *wanted)
{
	Subscription *s = palloc0(sizeof(Subscription));
	const PlanTerms *plan = wanted->plan;
	TimestampTz first;
	bool		trial;

	s->plan_id = plan->id;
	s->external_id = wanted->external_id;
	s->by_payment = wanted->by_payment;
	s->timezone = wanted->timezone ? wanted->timezone : cstring_to_text("UTC");
	s->created_at = posting->now;
	s->started_at = wanted->has_starts_at ? wanted->starts_at : posting->now;
	s->period_number = -1;
	s->period_start = s->period_end = s->started_at;
	s->cancel_at = s->ended_at = s->due_at = DT_NOEND;
	s->metadata = wanted->metadata;

	trial = wanted->trial && plan->trial &&
		!had_trial(posting->account.id, plan->name);
	s->status = trial ? SUBSCRIPTION_TRIALING : SUBSCRIPTION_ACTIVE;
	first = trial ? calendar_after(s->timezone, s->started_at, plan->trial) : s->started_at;
	s->anchor = wanted->has_anchor ? wanted->anchor : first;
	/* the first period that is no trial is the one that this instant is in */
	s->first_number = (trial ? 1 : 0) -
		calendar_number(s->anchor, s->timezone, plan->period, plan->every,
						first);
	return s;
}

/*
 * Plans to subscribe an account.
 */
static bool
plan_subscribe(Posting *posting, void *arg)
{
	Call	   *call = arg;
	const NewSubscription *wanted = call->wanted;
	Subscription *subscription;
	Subscription other;

	if (!ledger_not_closed(posting))
		return false;
	/* now that the account is locked */
	if (wanted->external_id &&
		subscriptions_find_external(wanted->external_id, &other))
	{
		call->id = other.id;
		if (other.account_id == posting->account.id)
		{
			call->receipt.replayed = true;
			return true;
		}
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("external id \"%s\" is another account's",
							   text_to_cstring(wanted->external_id)),
					  psprintf("It is that of subscription " INT64_FORMAT ".",
							   other.id),
					  "An external id names one subscription.");
	}
	if (!plans_fit(posting, wanted->plan))
		return false;
	subscription = begin(posting, wanted);
	subscriptions_add(posting, subscription);
	call->id = subscription->id;
	done(posting, call, subscription);
	(void) periods_change_plan(posting, subscription, subscription->started_at,
							   wanted->plan->id, "prorate", "(start)");
	subscriptions_wake(subscription);
	return renew_due(posting, subscription);
}

/*
 * Subscribes an account to a plan, once for each external id and key.  Returns
 * the id of the subscription.
 */
int64
subscriptions_create(const NewSubscription *wanted, Receipt *receipt)
{
	MemoryContext context = CurrentMemoryContext;
	Call		call = {.function = "credits_subscribe()", .wanted = wanted};
	StringInfo	f = &call.request.fingerprint;
	Refusal		refusal;
	volatile bool posted = false;

	call.request.key = wanted->key;
	call.request.metadata = wanted->metadata;
	initStringInfo(f);
	appendStringInfoString(f, KIND_SUBSCRIPTION);
	fingerprint_text(f, wanted->plan->name);
	fingerprint_int64(f, wanted->has_starts_at, wanted->starts_at);
	fingerprint_text(f, wanted->timezone);
	fingerprint_int64(f, wanted->has_anchor, wanted->anchor);
	fingerprint_text(f, wanted->external_id);
	fingerprint_int64(f, true, wanted->trial);
	fingerprint_int64(f, true, wanted->by_payment);
	PG_TRY();
	{
		posted = post(&call, plan_subscribe, &refusal);
	}
	PG_CATCH();
	{
		/* another account's subscription took it meanwhile */
		if (!is_unique_violation(context, "subscriptions_external_id_key"))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("external id \"%s\" is another account's",
						text_to_cstring(wanted->external_id)),
				 errdetail("Another transaction has used it just now."),
				 errhint("An external id names one subscription.")));
	}
	PG_END_TRY();
	if (!posted)
		raise_refusal(&refusal);
	*receipt = call.receipt;
	if (call.id == 0)
	{
		/* replayed: the transaction says which it made */
		Entry		entry;

		if (!row_find_entry(NULL, store_snapshot(true),
							receipt->transaction_id, &entry) ||
			!terms_int64(&entry, "subscription", &call.id))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("transaction " INT64_FORMAT " names no subscription",
							receipt->transaction_id),
					 errhint("Run credits_verify.")));
	}
	return call.id;
}

/* ------------------------------------------------------------------------
 * ending
 */

/*
 * Plans to cancel a subscription, now or later, or to let it go on.
 */
static bool
plan_cancel(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = subscription_of(posting, call);
	TimestampTz at = call->cancel_at;

	call->done = false;
	if (!ledger_not_closed(posting))
		return false;
	catch_up(posting, s);
	if (s->status == SUBSCRIPTION_CANCELED)
		return true;
	/* one that is not renewed may be past its period */
	if (call->at_period_end)
		at = s->period_end > posting->now ? s->period_end : DT_NOBEGIN;
	if (at == s->cancel_at &&
		(at == DT_NOEND || call->cancel_expires == s->cancel_expires))
		return true;
	s->cancel_at = Max(at, Min(posting->now, s->cancel_at));
	if (at == DT_NOEND)
		s->cancel_at = at;
	s->cancel_expires = at != DT_NOEND && call->cancel_expires;
	subscriptions_changed(posting, s);
	subscriptions_wake(s);
	if (s->cancel_at <= posting->now)
	{
		posting->main = renew_end(posting, s);
		call->done = true;
		return true;
	}
	done(posting, call, s);
	renew_event(posting, s, s->cancel_at == DT_NOEND ?
				"subscription_continued" : "subscription_ending", NULL,
				posting->main->id);
	return true;
}

/*
 * Cancels a subscription at an instant: at DT_NOBEGIN for now, at DT_NOEND for
 * never.  Returns whether that changed anything.
 */
bool
subscriptions_cancel(int64 id, TimestampTz at, bool expires)
{
	Call		call = {.function = "credits_cancel_subscription()", .id = id,
	.cancel_at = at, .cancel_expires = expires};
	Refusal		refusal;

	if (!post(&call, plan_cancel, &refusal))
		raise_refusal(&refusal);
	return call.done;
}

/* ------------------------------------------------------------------------
 * status
 */

/*
 * Makes a subscription active that is not: what was missed while it was unpaid
 * is given as its plan says, what was missed while it was paused is not.
 */
static bool
activate(Posting *posting, Subscription *s)
{
	Period	   *given;

	if (s->status == SUBSCRIPTION_PAUSED)
	{
		if (!renew_now(posting, s, &given))
			return false;
		if (given)
			renew_event(posting, s, "subscription_renewed", given,
						given->transaction_id);
		return true;
	}
	s->status = SUBSCRIPTION_ACTIVE;
	subscriptions_changed(posting, s);
	subscriptions_wake(s);
	return renew_due(posting, s);
}

/*
 * Plans to set the status of a subscription.
 */
static bool
plan_status(Posting *posting, void *arg)
{
	static const char *const kinds[] = {
		"trial_started", "subscription_active", "subscription_past_due",
		"subscription_unpaid", "subscription_paused"
	};
	Call	   *call = arg;
	Subscription *s = subscription_of(posting, call);
	SubscriptionStatus before = s->status;

	call->done = false;
	if (!ledger_not_closed(posting))
		return false;
	if (s->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, s);
	/* what was due before the pause is given; what is not paid is not */
	if (call->status == SUBSCRIPTION_PAUSED)
		catch_up(posting, s);
	if (s->status == call->status || s->status == SUBSCRIPTION_CANCELED ||
		(s->status == SUBSCRIPTION_TRIALING &&
		 call->status == SUBSCRIPTION_ACTIVE && !s->by_payment))
		return true;
	if (call->status == SUBSCRIPTION_PAUSED && s->period_number < 0 &&
		!s->by_payment)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " has not begun",
							   s->id),
					  psprintf("It begins at %s.",
							   timestamptz_to_str(s->period_end)),
					  "Cancel it with credits_cancel_subscription, and subscribe the account later.");
	s->status = call->status;
	done(posting, call, s);
	s->status = before;
	if (call->status == SUBSCRIPTION_ACTIVE)
	{
		if (!activate(posting, s))
			return false;
	}
	else
	{
		s->status = call->status;
		subscriptions_changed(posting, s);
		subscriptions_wake(s);
	}
	renew_event(posting, s, kinds[call->status], NULL, posting->main->id);
	return true;
}

/*
 * Sets the status of a subscription, any but canceled.  Returns whether that
 * changed anything; nothing changes one that has ended.
 */
bool
subscriptions_set_status(int64 id, SubscriptionStatus status)
{
	Call		call = {.function = "credits_subscribe()", .id = id,
	.status = status};
	Refusal		refusal;

	if (!post(&call, plan_status, &refusal))
	{
		if (refusal.sqlstate == ERRCODE_CONFLICT ||
			refusal.sqlstate == ERRCODE_LOCKED_ACCOUNT)
			return false;
		raise_refusal(&refusal);
	}
	return call.done;
}

/* ------------------------------------------------------------------------
 * periods that are paid
 */

/*
 * Plans to give a period that was paid.
 */
static bool
plan_period(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = subscription_of(posting, call);
	int64		plan_id = call->plan_id;
	const PlanTerms *plan;
	TimestampTz starts_at = call->starts_at;
	TimestampTz ends_at = call->ends_at;
	TimestampTz whole_from;
	Period	   *period;
	int64		number;

	call->done = false;
	if (!ledger_not_closed(posting))
		return false;
	if (starts_at == DT_NOBEGIN)
	{
		/* the one that holds now, or the first one to come */
		TimestampTz at = Max(posting->now, s->started_at);

		if (s->period_number >= 0 && at < s->period_end)
			return true;
		plan = plans_get(s->plan_id);
		starts_at = s->period_end;
		/* a plan of another length begins a calendar of its own */
		if (s->next_plan_id == 0 ||
			changes_same_length(plan, plans_get(s->next_plan_id)))
			starts_at = Max(starts_at,
							subscriptions_start(s, plan, s->first_number +
												calendar_number(s->anchor,
																s->timezone,
																plan->period,
																plan->every,
																at)));
	}
	period = periods_in(posting, s->id, starts_at);
	if (period && period->status != PERIOD_SKIPPED)
		return true;
	if (plan_id == 0)
		plan_id = s->next_plan_id != 0 && starts_at >= s->period_end ?
			s->next_plan_id :
			periods_plan_before(posting, s, starts_at + 1)->id;
	plan = plans_get(plan_id);
	if (s->next_plan_id != 0 && s->next_plan_id == plan_id &&
		starts_at >= s->period_end)
	{
		if (!changes_same_length(plans_get(s->plan_id), plan))
		{
			s->anchor = starts_at;
			s->first_number = s->period_number + 1;
		}
		s->next_plan_id = 0;
		s->next_proration = NULL;
	}
	number = s->first_number +
		calendar_number(s->anchor, s->timezone, plan->period, plan->every,
						starts_at);
	whole_from = starts_at;
	if (ends_at == DT_NOEND)
	{
		if (starts_at != s->period_end &&
			subscriptions_start(s, plan, number) != starts_at)
			return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
						  psprintf("no period of subscription " INT64_FORMAT " begins then",
								   s->id),
						  psprintf("It is %s.", timestamptz_to_str(starts_at)),
						  "Leave period_start out for the period that holds now, or pass one that credits.period_start returns.");
		ends_at = subscriptions_start(s, plan, number + 1);
		/* the first one may begin within a period of the calendar */
		if (starts_at == s->started_at || s->status == SUBSCRIPTION_TRIALING)
			whole_from = Min(starts_at, subscriptions_start(s, plan, number));
	}
	done(posting, call, s);
	period = renew_give(posting, s, number, starts_at, ends_at, call->trial,
						plan_id, whole_from);
	if (period == NULL)
		return false;
	if (!call->trial)
		changes_follow(posting, s, period);
	renew_event(posting, s, call->trial ? "trial_started" :
				period->number == 0 ? "subscription_started" :
				"subscription_renewed", period, period->transaction_id);
	return true;
}

/*
 * Gives a period that was paid, or begins a trial, once for each beginning.
 * Returns whether it was given now.  What cannot be given is an event.
 */
bool
subscriptions_grant_period(int64 id, TimestampTz starts_at,
						   TimestampTz ends_at, int64 plan_id, bool trial,
						   Receipt *receipt)
{
	Call		call = {.function = "credits_subscription_paid()", .id = id,
		.starts_at = starts_at, .ends_at = ends_at, .plan_id = plan_id,
	.trial = trial};
	Refusal		refusal;

	if (ends_at <= starts_at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a period must end after it begins"),
				 errdetail("A period of subscription " INT64_FORMAT " would end at %s.",
						   id, timestamptz_to_str(ends_at)),
				 errhint("Pass a later end.")));
	if (!post(&call, plan_period, &refusal))
	{
		Subscription subscription;
		StringInfoData json;

		(void) subscriptions_find(id, &subscription);
		initStringInfo(&json);
		json_int64(&json, "subscription", id);
		json_time(&json, "period_start", starts_at);
		json_cstring(&json, "code", sqlstate_text(refusal.sqlstate));
		json_cstring(&json, "message", refusal.message);
		alerts_announce("renewal_failed", subscription.account_id, 0,
						clock_now(), json_document(&json));
		return false;
	}
	*receipt = call.receipt;
	return call.done;
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Makes a credits.subscription_state of a subscription as it is now.
 */
static Datum
state_datum(FunctionCallInfo fcinfo, int64 id, const Receipt *receipt,
			bool replayed)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
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
	if (!row_find_account(NULL, GetActiveSnapshot(), NULL, s.account_id,
						  &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist",
						s.account_id),
				 errhint("Run credits_verify.")));
	values[1] = CStringGetTextDatum(row_account_name(&account));
	ledger_peek(&account, clock_now(), &settled, NULL, NULL);
	PopActiveSnapshot();

	values[0] = Int64GetDatum(s.id);
	values[2] = PointerGetDatum(plan->name);
	values[3] = Int32GetDatum(plan->version);
	values[4] = CStringGetTextDatum(subscription_status_names[s.status]);
	values[5] = TimestampTzGetDatum(s.period_start);
	values[6] = TimestampTzGetDatum(s.period_end);
	/* before the first period there is none */
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
 * Posts a change for an SQL function and returns the state that it led to.
 */
static Datum
run(FunctionCallInfo fcinfo, Call *call, PlanChange plan)
{
	Refusal		refusal;

	if (!post(call, plan, &refusal))
		raise_refusal(&refusal);
	return state_datum(fcinfo, call->id, &call->receipt, !call->done);
}

/*
 * Returns an instant, or none.  Periods between it and now can be counted.
 */
static bool
arg_instant(FunctionCallInfo fcinfo, int n, const char *name, TimestampTz *at)
{
	const int64 most = INT64CONST(366) * MAX_YEARS * USECS_PER_DAY;
	TimestampTz now = clock_now();

	if (PG_ARGISNULL(n))
		return false;
	*at = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(*at) || *at < now - most || *at > now + most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be within %d years of now", name, MAX_YEARS),
				 errdetail("It is %s.", timestamptz_to_str(*at)),
				 errhint("Leave %s out, or pass an instant.", name)));
	return true;
}

/*
 * Returns which of two words an argument is: true for the second.
 */
static bool
arg_either(FunctionCallInfo fcinfo, int n, const char *name,
		   const char *first, const char *second)
{
	char	   *word = text_to_cstring(arg_name(fcinfo, n, name));

	if (strcmp(word, first) != 0 && strcmp(word, second) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be %s or %s", name, first, second),
				 errdetail("It is \"%.64s\".", word),
				 errhint("Leave %s out for %s.", name, first)));
	return strcmp(word, second) == 0;
}

/*
 * Subscribes an account to a plan.
 */
Datum
credits_subscribe(PG_FUNCTION_ARGS)
{
	NewSubscription wanted = {0};
	Receipt		receipt = {0};
	int64		id;

	wanted.account = arg_account(fcinfo, 0);
	store_lock_tables("credits_subscribe()");
	store_lock_table(&subscriptions_table);
	wanted.plan = plans_sold(arg_name(fcinfo, 1, "plan"));
	wanted.has_starts_at = arg_instant(fcinfo, 2, "starts_at",
									   &wanted.starts_at);
	wanted.timezone = arg_timezone(fcinfo, 3);
	wanted.has_anchor = arg_instant(fcinfo, 4, "anchor", &wanted.anchor);
	wanted.external_id = arg_text(fcinfo, 5, "external_id", MAX_NAME_BYTES);
	wanted.trial = arg_bool(fcinfo, 6, "trial");
	wanted.by_payment = arg_either(fcinfo, 7, "collection", "clock",
								   "payment");
	wanted.key = arg_text(fcinfo, 8, "idempotency_key", MAX_NAME_BYTES);
	wanted.metadata = arg_metadata(fcinfo, 9);
	id = subscriptions_create(&wanted, &receipt);
	return state_datum(fcinfo, id, &receipt, receipt.replayed);
}

/*
 * Cancels a subscription.
 */
Datum
credits_cancel_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_cancel_subscription()"};

	call.id = arg_id(fcinfo, 0, "subscription");
	call.at_period_end = !arg_either(fcinfo, 1, "at", "period_end", "now");
	call.cancel_at = DT_NOBEGIN;
	call.cancel_expires = arg_either(fcinfo, 2, "credits", "keep", "expire");
	return run(fcinfo, &call, plan_cancel);
}

/*
 * Pauses a subscription.
 */
Datum
credits_pause_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_pause_subscription()",
	.status = SUBSCRIPTION_PAUSED};

	call.id = arg_id(fcinfo, 0, "subscription");
	return run(fcinfo, &call, plan_status);
}

/*
 * Plans to resume a subscription that is paused, or let one go on that was to
 * end.
 */
static bool
plan_resume(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = subscription_of(posting, call);

	if (s->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, s);
	if (s->status == SUBSCRIPTION_PAST_DUE ||
		s->status == SUBSCRIPTION_UNPAID)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " is not paused",
							   s->id),
					  psprintf("It is %s.",
							   subscription_status_names[s->status]),
					  "Call credits_subscription_paid once it is paid.");
	if (s->status != SUBSCRIPTION_PAUSED && s->cancel_at != DT_NOEND)
	{
		call->cancel_at = DT_NOEND;
		return plan_cancel(posting, arg);
	}
	return plan_status(posting, arg);
}

/*
 * Resumes a subscription.
 */
Datum
credits_resume_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_resume_subscription()",
	.status = SUBSCRIPTION_ACTIVE};

	call.id = arg_id(fcinfo, 0, "subscription");
	return run(fcinfo, &call, plan_resume);
}

/*
 * Notes that a subscription is not paid.
 */
Datum
credits_subscription_unpaid(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_subscription_unpaid()"};

	call.id = arg_id(fcinfo, 0, "subscription");
	call.status = arg_either(fcinfo, 1, "status", "past_due", "unpaid") ?
		SUBSCRIPTION_UNPAID : SUBSCRIPTION_PAST_DUE;
	return run(fcinfo, &call, plan_status);
}

/*
 * Plans what a payment makes of a subscription.
 */
static bool
plan_paid(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = subscription_of(posting, call);
	Entry	   *main = NULL;
	bool		changed = false;

	if (s->status == SUBSCRIPTION_PAUSED)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " is paused",
							   s->id), NULL,
					  "Call credits_resume_subscription first.");
	if (!plan_status(posting, arg))
		return false;
	if (call->done)
	{
		main = posting->main;
		changed = true;
	}
	if (s->by_payment)
	{
		if (!plan_period(posting, arg))
			return false;
		if (main)
			posting->main = main;
		call->done = call->done || changed;
	}
	return true;
}

/*
 * Notes that a subscription is paid.
 */
Datum
credits_subscription_paid(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_subscription_paid()",
	.status = SUBSCRIPTION_ACTIVE};

	call.id = arg_id(fcinfo, 0, "subscription");
	call.starts_at = DT_NOBEGIN;
	(void) arg_instant(fcinfo, 1, "period_start", &call.starts_at);
	call.ends_at = DT_NOEND;
	return run(fcinfo, &call, plan_paid);
}
