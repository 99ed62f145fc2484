/*
 * lifecycle.c
 *	  Canceling, pausing and resuming subscriptions, and marking them as unpaid.
 *
 * Each is a change of the subscription's account, which is logged as a
 * transaction that moves nothing; credits that are given or taken back with it
 * have transactions of their own.  A call changes nothing if the subscription is
 * in the requested state already.
 *
 * Tested in test/sql/subscriptions.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calls.h"
#include "subscribe/plan_history.h"
#include "subscribe/renew.h"
#include "subscribe/subscribe.h"

#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_cancel_subscription);
PG_FUNCTION_INFO_V1(credits_pause_subscription);
PG_FUNCTION_INFO_V1(credits_resume_subscription);
PG_FUNCTION_INFO_V1(credits_mark_unpaid);

static const char *const cancel_at_names[] = {"period_end", "now"};

/* ------------------------------------------------------------------------
 * ending
 */

/*
 * Plans to cancel a subscription, now or later, or to withdraw that.
 */
static bool
lifecycle_plan_cancel(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);
	TimestampTz at = call->cancel_at;

	call->done = false;
	if (!guards_not_closed(posting))
		return false;
	if (s->status == SUBSCRIPTION_CANCELED)
		return true;
	/* one that is not paid may be past the end of its period: then end it now */
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
	if (s->cancel_at <= posting->now)
	{
		posting->main = renew_end(posting, s);
		call->done = true;
		return true;
	}
	subscriptions_wake(posting, s);
	calls_log(posting, call, s);
	renew_event(posting, s, s->cancel_at == DT_NOEND ?
				"subscription_continued" : "subscription_ending", NULL,
				posting->main->id);
	return true;
}

/*
 * Cancels a subscription at an instant, which is DT_NOBEGIN for now and DT_NOEND
 * for never.  Returns whether that changed anything.
 */
bool
lifecycle_cancel(int64 id, TimestampTz at, bool expires)
{
	Call		call = {
		.function = "credits_cancel_subscription()",
		.id = id,
		.cancel_at = at,
		.cancel_expires = expires
	};
	Refusal		refusal;

	if (!calls_post(&call, lifecycle_plan_cancel, &refusal))
		raise_refusal(&refusal);
	return call.done;
}

/* ------------------------------------------------------------------------
 * status
 */

/*
 * Makes a subscription active.  The periods that it missed while it was unpaid
 * are given, as its plan says; those that it missed while it was paused are not.
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
	subscriptions_wake(posting, s);
	return renew_due(posting, s);
}

/*
 * Plans to set the status of a subscription.
 */
bool
lifecycle_plan_status(Posting *posting, void *arg)
{
	static const char *const kinds[] = {
		"trial_started", "subscription_active", "subscription_past_due",
		"subscription_unpaid", "subscription_paused"
	};
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);
	SubscriptionStatus before = s->status;

	call->done = false;
	if (!guards_not_closed(posting))
		return false;
	if (s->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, s);
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
	/* the log has the new status, but renewing goes by the old one */
	s->status = call->status;
	calls_log(posting, call, s);
	s->status = before;
	if (call->status == SUBSCRIPTION_ACTIVE)
	{
		if (!activate(posting, s))
			return false;
	}
	else
	{
		if (call->status != SUBSCRIPTION_PAST_DUE)
			renew_end_grace(posting, s);
		s->status = call->status;
		subscriptions_changed(posting, s);
		subscriptions_wake(posting, s);
	}
	renew_event(posting, s, kinds[call->status], NULL, posting->main->id);
	return true;
}

/*
 * Sets the status of a subscription to any but canceled.  Returns whether that
 * changed anything.  A subscription that has ended, or whose account is closed,
 * is not changed.
 */
bool
lifecycle_set_status(int64 id, SubscriptionStatus status)
{
	Call		call = {
		.function = "credits_subscribe()",
		.id = id,
		.status = status
	};
	Refusal		refusal;

	if (!calls_post(&call, lifecycle_plan_status, &refusal))
	{
		if (refusal.sqlstate == ERRCODE_CONFLICT ||
			refusal.sqlstate == ERRCODE_LOCKED_ACCOUNT)
			return false;
		raise_refusal(&refusal);
	}
	return call.done;
}

/* ------------------------------------------------------------------------
 * plan
 */

/*
 * Writes since when a plan is shown, under the number of the transaction.
 */
static void
note_plan(Posting *posting, const Call *call)
{
	(void) plan_history_note(posting, call->id, call->starts_at,
							 call->plan_id, PRORATE_NONE,
							 psprintf("%019lld",
									  (long long) posting->main->id));
}

/*
 * Plans to show another plan.
 */
static bool
lifecycle_plan_show(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);

	call->done = false;
	if (!guards_not_closed(posting))
		return false;
	if (s->status == SUBSCRIPTION_CANCELED || s->plan_id == call->plan_id)
		return true;
	if (!plans_fit(posting, plans_get(call->plan_id)))
		return false;
	s->plan_id = call->plan_id;
	s->next_plan_id = 0;
	subscriptions_changed(posting, s);
	calls_log(posting, call, s);
	note_plan(posting, call);
	return true;
}

/*
 * Shows another plan for a subscription whose credits follow from what is paid.
 * Returns whether that changed anything.  A subscription that has ended, or whose
 * account is closed, is not changed.
 */
bool
lifecycle_show_plan(int64 id, TimestampTz at, int64 plan_id)
{
	Call		call = {
		.function = "credits_change_plan()",
		.id = id,
		.starts_at = at,
		.plan_id = plan_id
	};
	Subscription subscription;
	JsonObject	json;
	Refusal		refusal;

	if (!calls_post(&call, lifecycle_plan_show, &refusal))
	{
		if (refusal.sqlstate == ERRCODE_LOCKED_ACCOUNT)
			return false;
		raise_refusal(&refusal);
	}
	if (!call.done || !subscriptions_find(id, &subscription))
		return false;
	json_begin(&json);
	json_int64(&json, "subscription_id", id);
	json_text(&json, "plan", plans_get(plan_id)->name);
	json_time(&json, "at", at);
	json_bool(&json, "scheduled", false);
	json_int64(&json, "given", 0);
	json_int64(&json, "taken", 0);
	events_announce("plan_changed", subscription.account_id,
					call.receipt.transaction_id, call.receipt.created_at,
					&json);
	return true;
}

/* ------------------------------------------------------------------------
 * functions
 */

/*
 * Cancels a subscription.
 */
Datum
credits_cancel_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_cancel_subscription()"};

	call.id = arg_id(fcinfo, 0, "subscription_id");
	call.at_period_end = ARG_CHOICE(1, "at", cancel_at_names) == 0;
	call.cancel_at = DT_NOBEGIN;
	call.cancel_expires = ARG_CHOICE(2, "credits", cancel_credits_names) == 1;
	return calls_run(fcinfo, &call, lifecycle_plan_cancel);
}

/*
 * Pauses a subscription.
 */
Datum
credits_pause_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {
		.function = "credits_pause_subscription()",
		.status = SUBSCRIPTION_PAUSED
	};

	call.id = arg_id(fcinfo, 0, "subscription_id");
	return calls_run(fcinfo, &call, lifecycle_plan_status);
}

/*
 * Plans to resume a subscription that is paused, or to withdraw that it ends.
 */
static bool
plan_resume(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);

	if (s->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, s);
	if (s->status == SUBSCRIPTION_PAST_DUE ||
		s->status == SUBSCRIPTION_UNPAID)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " is not paused",
							   s->id),
					  psprintf("It is %s.",
							   subscription_status_names[s->status]),
					  "Call credits_mark_paid once it is paid.");
	if (s->status != SUBSCRIPTION_PAUSED && s->cancel_at != DT_NOEND)
	{
		call->cancel_at = DT_NOEND;
		return lifecycle_plan_cancel(posting, arg);
	}
	return lifecycle_plan_status(posting, arg);
}

/*
 * Resumes a subscription.
 */
Datum
credits_resume_subscription(PG_FUNCTION_ARGS)
{
	Call		call = {
		.function = "credits_resume_subscription()",
		.status = SUBSCRIPTION_ACTIVE
	};

	call.id = arg_id(fcinfo, 0, "subscription_id");
	return calls_run(fcinfo, &call, plan_resume);
}

/*
 * Records that a subscription is not paid.
 */
Datum
credits_mark_unpaid(PG_FUNCTION_ARGS)
{
	Call		call = {.function = "credits_mark_unpaid()"};

	call.id = arg_id(fcinfo, 0, "subscription_id");
	call.status = SUBSCRIPTION_PAST_DUE +
		arg_choice(fcinfo, 1, "status",
				   subscription_status_names + SUBSCRIPTION_PAST_DUE, 2);
	return calls_run(fcinfo, &call, lifecycle_plan_status);
}
