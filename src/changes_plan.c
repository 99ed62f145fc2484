/*
 * changes_plan.c
 *	  Planning changes of plan, now or at the end of the period.
 *
 * A change at once leaves a row in credits.plan_changes, and the credits of the
 * period follow (changes_period.c).  One at the end of the period is noted in
 * the subscription until then.
 *
 * A plan whose periods have another length ends the period.  What it had given
 * beyond what it had earned, and that could not be taken back, counts as given
 * in the new one, to the last fraction.
 */
#include "credits.h"

#include "calendar.h"
#include "changes.h"
#include "numbers.h"
#include "periods.h"
#include "plans.h"
#include "renew.h"
#include "subscriptions.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/*
 * Returns the terms of a transaction that changes a plan.
 */
static Jsonb *
change_terms(const ChangeRequest *change)
{
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "subscription", change->subscription_id);
	json_int64(&json, "plan_id", change->plan->id);
	json_cstring(&json, "proration", proration_names[change->proration]);
	json_time(&json, "at", change->effective_at);
	json_raw(&json, "scheduled", change->scheduled ? "true" : "false");
	json_time(&json, "period_start", change->period_start);
	json_time(&json, "period_end", change->period_end);
	if (change->entitlement)
		json_raw(&json, "entitlement",
				 DatumGetCString(DirectFunctionCall1(numeric_out,
													 change->entitlement)));
	json_int64(&json, "given", change->given);
	json_int64(&json, "taken", change->taken);
	return json_document(&json);
}

/*
 * Returns about how many seconds a period of a plan has, for comparing plans:
 * by the mean year of the calendar.
 */
static int64
mean_seconds(const PlanTerms *plan)
{
	int64		unit = strcmp(plan->period, "year") == 0 ? 31556952 :
		strcmp(plan->period, "month") == 0 ? 31556952 / 12 :
		strcmp(plan->period, "week") == 0 ? 7 * SECS_PER_DAY : SECS_PER_DAY;

	return unit * plan->every;
}

/*
 * Compares what two plans cost, or give, for as long a time.
 */
static int
compare_rates(Datum a, const PlanTerms *plan_a, Datum b,
			  const PlanTerms *plan_b)
{
	return compare(multiply(a, number(mean_seconds(plan_b))),
				   multiply(b, number(mean_seconds(plan_a))));
}

/*
 * Tells whether a plan is less than another: by price if both have one in the
 * same currency, else, or if they cost the same, by credits.
 */
static bool
is_downgrade(const PlanTerms *from, const PlanTerms *to)
{
	int			order = 0;

	if (from->price && to->price && from->currency && to->currency &&
		same_text(from->currency, to->currency))
		order = compare_rates(to->price, to, from->price, from);
	if (order == 0)
		order = compare_rates(number(to->credits), to,
							  number(from->credits), from);
	return order < 0;
}

/*
 * Refuses to change a subscription to a plan that does not suit it.
 */
static bool
may_change(Posting *posting, const Subscription *subscription,
		   ChangeRequest *change)
{
	if (subscription->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, subscription);
	return plans_fit(posting, change->plan);
}

/*
 * Counts the periods of a subscription anew from an instant, at which the one
 * after the newest begins.
 */
static void
move_anchor(Subscription *subscription, TimestampTz at)
{
	subscription->anchor = at;
	subscription->first_number = subscription->period_number + 1;
}

/*
 * Plans to change a plan at the end of the period; or to stay with the one that
 * is in force.
 */
static void
plan_later(Posting *posting, Subscription *subscription, ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	const PlanTerms *old = plans_get(subscription->plan_id);
	Subscription next = *subscription;

	if (plan->id == subscription->plan_id)
	{
		subscription->next_plan_id = 0;
		subscription->next_proration = NULL;
	}
	else
	{
		subscription->next_plan_id = plan->id;
		subscription->next_proration =
			pstrdup(proration_names[change->proration]);
	}
	subscriptions_changed(posting, subscription);

	change->scheduled = true;
	change->effective_at = subscription->period_end;
	change->entitlement = number(plan->credits);
	if (!changes_same_length(old, plan))
		move_anchor(&next, next.period_end);
	change->period_start = next.period_end;
	change->period_end = subscriptions_start(&next, plan,
											 next.period_number + 2);
	(void) changes_log(posting, NULL, 0);
}

/*
 * Ends the period that holds now, and begins one of a plan whose periods have
 * another length.
 */
static bool
begin_anew(Posting *posting, Subscription *subscription, Period *period,
		   PlanChanged *note, ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	TimestampTz at = note->at;
	TimestampTz ends_at = calendar_start(at, subscription->timezone,
										 plan->period, plan->every, 1);
	Entitlement e;
	Datum		carried;

	changes_entitle(posting, subscription, period, at, note, &e, &carried);
	change->taken = changes_log(posting, period,
								changes_to_take(&e, period->given));
	if (at > period->starts_at)
	{
		carried = changes_carried(&e, period->given);
		period->ends_at = at;
		/* what is left lives on until its own expiry */
		period->unused = period->rolled = 0;
		periods_changed(posting, period);
		period = periods_new(subscription, subscription->period_number + 1,
							 at, ends_at, plan->id);
		periods_keep(posting, period);
	}
	else
	{
		period->plan_id = plan->id;
		period->ends_at = ends_at;
		periods_changed(posting, period);
	}
	note->carried = carried;

	if (subscription->cancel_at == subscription->period_end)
		subscription->cancel_at = ends_at;
	subscription->anchor = at;
	subscription->first_number = period->number;
	subscription->period_number = period->number;
	subscription->period_start = at;
	subscription->period_end = ends_at;

	changes_fold(&e, at, ends_at, (ends_at - at) / USECS_PER_SEC,
				 plan->credits, carried, NULL, 0);
	change->entitlement = changes_entitlement(&e);
	change->given = changes_to_give(&e, period->given);
	return changes_give(posting, subscription, period, plan, &change->given);
}

/*
 * Brings what a period has given to what it entitles to by a plan that is new
 * inside it.
 */
static bool
adjust(Posting *posting, Subscription *subscription, Period *period,
	   PlanChanged *note, ChangeRequest *change)
{
	Entitlement e;
	Datum		carried;

	changes_entitle(posting, subscription, period, period->ends_at, note, &e,
					&carried);
	change->entitlement = changes_entitlement(&e);
	change->given = changes_to_give(&e, period->given);
	change->taken = changes_log(posting, period,
								changes_to_take(&e, period->given));
	return changes_give(posting, subscription, period, change->plan,
						&change->given);
}

/*
 * Puts a plan into force at an instant, and has the credits of the period that
 * holds it follow.  Returns false if the account's limits forbid that.
 */
static bool
plan_now(Posting *posting, Subscription *subscription, Period *period,
		 bool newest, ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	TimestampTz at = change->at == DT_NOBEGIN ? posting->now : change->at;
	bool		granted = period && period->status == PERIOD_GRANTED &&
		at < period->ends_at && period->ends_at > posting->now;
	bool		anew = newest &&
		!changes_same_length(plans_get(period ? period->plan_id :
									   subscription->plan_id), plan);
	PlanChanged *note;
	bool		allowed = true;

	note = periods_note_plan(posting, subscription->id, at, plan->id,
							 proration_names[change->proration],
							 change->reference);
	if (newest)
	{
		subscription->plan_id = plan->id;
		subscription->next_plan_id = 0;
		subscription->next_proration = NULL;
	}
	change->effective_at = at;
	if (anew && granted && !subscription->by_payment &&
		change->proration != PRORATE_NONE)
		allowed = begin_anew(posting, subscription, period, note, change);
	else
	{
		if (granted)
			allowed = adjust(posting, subscription, period, note, change);
		else
			(void) changes_log(posting, NULL, 0);
		/* the next period is the first of its length */
		if (anew && subscription->status != SUBSCRIPTION_TRIALING)
		{
			/* it begins when it is paid, unless the credits stay as they are */
			if (subscription->by_payment && granted &&
				change->proration != PRORATE_NONE)
				subscription->period_end = at;
			move_anchor(subscription, Max(subscription->period_end, at));
		}
	}
	if (note->reference == NULL)
		note->reference = psprintf("%019lld",
								   (long long) posting->main->id);
	change->period_start = subscription->period_start;
	change->period_end = subscription->period_end;
	subscriptions_changed(posting, subscription);
	subscriptions_wake(subscription);
	return allowed;
}

/*
 * Plans a change of plan that is asked for now.
 */
bool
changes_plan(Posting *posting, void *arg)
{
	ChangeRequest *change = arg;
	Subscription *subscription =
		subscriptions_in(posting, change->subscription_id);
	When		when = change->when;

	if (!ledger_not_closed(posting))
		return false;
	if (subscription == NULL)
		subscriptions_raise_unknown(change->subscription_id);
	if (!renew_due(posting, subscription))
		return false;
	if (subscription->due_at <= posting->now)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " is due for too many periods",
							   subscription->id),
					  psprintf("It is renewed up to %s.",
							   timestamptz_to_str(subscription->period_end)),
					  "Call credits_renew first.");
	change->plan = plans_sold(change->plan_name);
	change->done = true;
	if (!may_change(posting, subscription, change))
		return false;
	if (when == WHEN_DEFAULT)
		when = subscription->next_plan_id != 0 &&
			change->plan->id == subscription->plan_id ? WHEN_PERIOD_END :
			is_downgrade(plans_get(subscription->plan_id), change->plan) ?
			WHEN_PERIOD_END : WHEN_NOW;
	if (change->plan->id == subscription->plan_id &&
		subscription->next_plan_id == 0)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " has this plan",
							   subscription->id),
					  psprintf("It is version %d of plan \"%s\".",
							   change->plan->version,
							   text_to_cstring(change->plan->name)),
					  "Name another plan.");
	if (when == WHEN_PERIOD_END &&
		subscription->cancel_at <= subscription->period_end)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " ends before its plan would change",
							   subscription->id),
					  psprintf("It ends at %s.",
							   timestamptz_to_str(subscription->cancel_at)),
					  "Change the plan now, or let the subscription go on.");
	if (when == WHEN_PERIOD_END)
		plan_later(posting, subscription, change);
	else if (!plan_now(posting, subscription,
					   periods_in(posting, subscription->id,
								  subscription->period_start),
					   true, change))
		return false;
	posting->main->terms = change_terms(change);
	/* what a debt takes is known before it is written, too */
	if (posting->dry && posting->account.debt > 0)
		debts_pay(posting, posting->now);
	change->balance = posting->account.balance;
	return true;
}

/*
 * Plans a change of plan that became known, unless it has been noted.
 */
static bool
plan_apply(Posting *posting, void *arg)
{
	ChangeRequest *change = arg;
	Subscription *subscription =
		subscriptions_in(posting, change->subscription_id);
	bool		newest = true;
	Period	   *period;
	ListCell   *lc;

	change->done = false;
	if (subscription == NULL)
		subscriptions_raise_unknown(change->subscription_id);
	if (posting->account.status == ACCOUNT_CLOSED ||
		subscription->status == SUBSCRIPTION_CANCELED)
		return true;
	if (!subscription->by_payment && !renew_due(posting, subscription))
		memset(&posting->refusal, 0, sizeof(Refusal));
	foreach(lc, changes_read(posting, subscription->id, DT_NOBEGIN))
	{
		const PlanChanged *note = lfirst(lc);
		int			order = strcmp(note->reference, change->reference);

		if (note->at == change->at && order == 0)
			return true;
		if (note->at > change->at || (note->at == change->at && order > 0))
			newest = false;
	}
	change->plan = plans_get(change->plan_id);
	change->done = true;
	if (!may_change(posting, subscription, change))
		return false;
	/* the one that it is within, rather than one that begins with it */
	period = periods_before(posting, subscription->id, change->at);
	if (period == NULL || period->ends_at <= change->at)
		period = periods_in(posting, subscription->id, change->at);
	/* what the account has no room for is not given */
	if (!plan_now(posting, subscription, period, newest, change))
		memset(&posting->refusal, 0, sizeof(Refusal));
	posting->main->terms = change_terms(change);
	return true;
}

/*
 * Tells those who listen that a plan was changed.
 */
void
changes_announce(const ChangeRequest *change, int64 account_id, const Receipt *receipt)
{
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "subscription", change->subscription_id);
	json_text(&json, "plan", change->plan->name);
	json_time(&json, "at", change->effective_at);
	json_raw(&json, "scheduled", change->scheduled ? "true" : "false");
	json_int64(&json, "given", change->given);
	json_int64(&json, "taken", change->taken);
	alerts_announce("plan_changed", account_id, receipt->transaction_id,
					receipt->created_at, json_document(&json));
}

/*
 * Changes the plan of a subscription at an instant, which may be in the past,
 * once for each instant and reference.  Returns whether it was done now.
 */
bool
changes_apply(int64 subscription_id, TimestampTz at, int64 plan_id,
			  Proration proration, text *reference, Receipt *receipt)
{
	ChangeRequest change = {{0}};
	Subscription subscription;
	Party		party = {0};
	Refusal		refusal;

	if (!subscriptions_find(subscription_id, &subscription))
		subscriptions_raise_unknown(subscription_id);
	change.request.lock_first = true;
	change.request.reference = reference;
	change.subscription_id = subscription_id;
	change.plan_id = plan_id;
	change.proration = proration;
	change.at = at;
	change.reference = text_to_cstring(reference);
	party.id = subscription.account_id;
	/* joint, since it may be that nothing is to be done */
	if (!ledger_post_joint("credits_change_plan()", &party, 1,
						   &change.request, plan_apply, &change, receipt,
						   &refusal))
		raise_refusal(&refusal);
	if (change.done)
		changes_announce(&change, subscription.account_id, receipt);
	return change.done;
}
