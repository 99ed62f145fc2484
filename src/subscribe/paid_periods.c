/*
 * paid_periods.c
 *	  Periods of subscriptions that are given when they are paid.
 *
 * Tested in test/sql/subscriptions.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/calls.h"
#include "subscribe/paid_parts.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/proration.h"
#include "subscribe/renew.h"
#include "subscribe/subscribe.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_mark_paid);

/*
 * Gives a period that is paid, whose whole one begins at whole_from.  One that is
 * over is taken to have been paid in time.
 */
static bool
give_paid(Posting *posting, Subscription *s, const PlanTerms *plan,
		  TimestampTz starts_at, TimestampTz ends_at, TimestampTz whole_from)
{
	PaidPart   *part = palloc0(sizeof(PaidPart));

	part->reference = cstring_to_text(PAID_REFERENCE);
	part->starts_at = starts_at;
	part->ends_at = ends_at;
	part->settled_at = Min(posting->now, ends_at);
	part->plan_id = plan->id;
	part->credits = renew_part_of(plan->credits, starts_at, ends_at,
								  whole_from);
	if (part->credits == plan->credits && plan->price)
	{
		part->price = plan->price;
		part->currency = plan->currency;
	}
	/* a change within the period, which is later, may be known already */
	if (starts_at >= s->period_start && s->plan_id != plan->id &&
		plan_history_read(posting->store, posting->snapshot, s->id,
						  starts_at + 1) == NIL)
		plan_history_change(posting, s, starts_at, plan->id, "(renewal)");
	subscriptions_changed(posting, s);
	return paid_parts_give(posting, s, part);
}

/*
 * Plans to give a period that was paid.
 */
static bool
plan_period(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);
	int64		plan_id;
	const PlanTerms *plan;
	TimestampTz starts_at = call->starts_at;
	TimestampTz ends_at;
	TimestampTz whole_from;
	Period	   *period;
	int64		number;

	call->done = false;
	if (!guards_not_closed(posting))
		return false;
	if (starts_at == DT_NOBEGIN || starts_at >= s->period_end)
		renew_check_next_plan(posting, s);
	if (starts_at == DT_NOBEGIN)
	{
		/* the current period, or the first one if it is still to come */
		TimestampTz at = Max(posting->now, s->started_at);

		if (s->period_number >= 0 && at < s->period_end)
			return true;
		plan = plans_get(s->plan_id);
		starts_at = s->period_end;
		/* a next plan of another length begins where the last period ends */
		if (s->next_plan_id == 0 ||
			proration_same_length(plan, plans_get(s->next_plan_id)))
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
	plan_id = s->next_plan_id != 0 && starts_at >= s->period_end ?
		s->next_plan_id :
		plan_history_before(posting, s, starts_at + 1)->id;
	plan = plans_get(plan_id);
	if (s->next_plan_id != 0 && s->next_plan_id == plan_id &&
		starts_at >= s->period_end)
	{
		if (!proration_same_length(plans_get(s->plan_id), plan))
		{
			s->anchor = starts_at;
			s->first_number = s->period_number + 1;
		}
		s->next_plan_id = 0;
	}
	number = s->first_number +
		calendar_number(s->anchor, s->timezone, plan->period, plan->every,
						starts_at);
	if (starts_at != s->period_end &&
		subscriptions_start(s, plan, number) != starts_at)
		return refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("no period of subscription " INT64_FORMAT " begins then",
							   s->id),
					  psprintf("It is %s.", timestamptz_to_str(starts_at)),
					  "Leave period_start out for the period that holds now, or pass one that credits.period_start returns.");
	ends_at = subscriptions_start(s, plan, number + 1);
	whole_from = starts_at;
	/* the first one may be a part of a period of the calendar */
	if (starts_at == s->started_at || s->status == SUBSCRIPTION_TRIALING)
		whole_from = Min(starts_at, subscriptions_start(s, plan, number));
	calls_log(posting, call, s);
	return give_paid(posting, s, plan, starts_at, ends_at, whole_from);
}

/*
 * Plans to activate a subscription that was paid and, if its periods are given
 * by payment, to give the current one.
 */
static bool
plan_paid(Posting *posting, void *arg)
{
	Call	   *call = arg;
	Subscription *s = calls_subscription(posting, call);
	Entry	   *main = NULL;
	bool		changed = false;

	if (s->status == SUBSCRIPTION_PAUSED)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " is paused",
							   s->id), NULL,
					  "Call credits_resume_subscription first.");
	if (!lifecycle_plan_status(posting, arg))
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
		/* the receipt is that of the first transaction */
		if (main)
			posting->main = main;
		call->done = call->done || changed;
	}
	return true;
}

/*
 * Records that a subscription is paid.
 */
Datum
credits_mark_paid(PG_FUNCTION_ARGS)
{
	Call		call = {
		.function = "credits_mark_paid()",
		.status = SUBSCRIPTION_ACTIVE
	};

	call.id = arg_id(fcinfo, 0, "subscription_id");
	call.starts_at = DT_NOBEGIN;
	(void) calls_arg_instant(fcinfo, 1, "period_start", &call.starts_at);
	return calls_run(fcinfo, &call, plan_paid);
}
