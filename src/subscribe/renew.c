/*
 * renew.c
 *	  Renewing subscriptions: what happens to them as time passes.
 *
 * A renewal is a posting to the subscription's account.  The account is settled
 * first, which expires what the ending period has left; then the credits of the
 * next period are given, and what the plan allows is rolled over.  Grants, log,
 * period and subscription are written together.  No period can be renewed twice:
 * it has a row with a unique key, and the row of the subscription tells which
 * period is the newest.
 *
 * Whatever changes an account renews its subscriptions first, if they are due, and
 * whatever reads it counts what that would give.  So it makes no difference if the
 * job is late.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "ledger/posting.h"
#include "subscribe/calendar.h"
#include "subscribe/grace.h"
#include "subscribe/paid_parts.h"
#include "subscribe/plan_history.h"
#include "subscribe/proration.h"
#include "subscribe/renew.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* how many steps one posting makes, which bounds how long it holds the lock */
#define MAX_PERIODS 500

/* ------------------------------------------------------------------------
 * events and log
 */

/*
 * Records and announces an event of a subscription.
 */
void
renew_event(Posting *posting, const Subscription *subscription,
			const char *kind, const Period *period, int64 transaction_id)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	JsonObject	json;

	if (posting->dry)
		return;
	json_begin(&json);
	json_cstring(&json, "account", rows_account_name(&posting->account));
	json_int64(&json, "subscription_id", subscription->id);
	json_text(&json, "plan", plan->name);
	json_cstring(&json, "status",
				 subscription_status_names[subscription->status]);
	if (period)
	{
		const Period *before = periods_before(posting, subscription->id,
											  period->starts_at);

		json_time(&json, "period_start", period->starts_at);
		json_time(&json, "period_end", period->ends_at);
		json_int64(&json, "credits", period->credits);
		json_int64(&json, "rolled_over",
				   before && before->ends_at == period->starts_at ?
				   Max(before->rolled, 0) : 0);
	}
	if (subscription->cancel_at != DT_NOEND)
		json_time(&json, "cancel_at", subscription->cancel_at);
	events_announce_with(posting, kind, transaction_id, &json);
}

/*
 * Logs the state of a subscription after a change, as a transaction that moves
 * nothing.
 */
Entry *
renew_log(Posting *posting, const Subscription *subscription)
{
	Entry	   *entry = log_add(posting, KIND_SUBSCRIPTION, posting->now, 0,
								NULL, 0);
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "subscription_id", subscription->id);
	json_int64(&json, "plan_id", subscription->plan_id);
	json_cstring(&json, "status",
				 subscription_status_names[subscription->status]);
	if (subscription->cancel_at != DT_NOEND)
	{
		json_time(&json, "cancel_at", subscription->cancel_at);
		json_cstring(&json, "cancel_credits",
					 cancel_credits_names[subscription->cancel_expires]);
	}
	entry->terms = json_document(&json);
	return entry;
}

/* ------------------------------------------------------------------------
 * renewing
 */

/*
 * Returns how many credits the part of a period gives that begins at an instant,
 * rounded up.  start is when the whole period begins.
 */
int64
renew_part_of(int64 credits, TimestampTz from, TimestampTz until, TimestampTz start)
{
	if (start >= from)
		return credits;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 divide(multiply(number(credits),
															 number(until - from)),
													number(until - start), true)));
}

/*
 * Rolls over what a period has left into the next one, if the two adjoin and
 * both were given.  What the plan keeps for ever needs no next period.  Nor does
 * what lives on for a grace, while it is not known whether one follows.
 */
static void
roll_pair(Posting *posting, Subscription *subscription, Period *period,
		  Period *into, bool again)
{
	const PlanTerms *rule;
	TimestampTz until;

	if (period == NULL || period->status != PERIOD_GRANTED ||
		period->ends_at > posting->now)
		return;
	rule = !subscription->by_payment ? plans_get(subscription->plan_id) :
		plan_history_before(posting, subscription, period->ends_at);
	if (into && into->starts_at == period->ends_at &&
		into->status == PERIOD_GRANTED)
	{
		grace_end(posting, period);
		if (period->rolled < 0 || again)
			rollover_period(posting, subscription, period, into, rule,
							plans_get(into->plan_id), 0);
		grace_count(posting, period, into);
	}
	else if (into == NULL &&
			 grace_applies(posting, subscription, period, rule, &until))
		grace_give(posting, period, rule, until);
	else if ((period->rolled < 0 || again) && plans_keep_credits(rule))
	{
		grace_end(posting, period);
		rollover_period(posting, subscription, period, NULL, rule, rule, 0);
		grace_count(posting, period, NULL);
	}
}

/*
 * Rolls over into a paid period and from it, where it adjoins others that were
 * paid, or has that done once the earlier one of the two ends.  again says that
 * more of the period was left than was known.
 */
void
renew_adjoin(Posting *posting, Subscription *subscription, Period *period,
			 bool again)
{
	Period	   *before = periods_before(posting, subscription->id,
										period->starts_at);
	Period	   *after = periods_in(posting, subscription->id,
								   period->ends_at);

	roll_pair(posting, subscription, before, period, false);
	roll_pair(posting, subscription, period, after, again);
	if (before && before->ends_at == period->starts_at &&
		before->ends_at > posting->now)
		subscriptions_expect(posting, subscription, before->ends_at);
	if (after && period->ends_at > posting->now)
		subscriptions_expect(posting, subscription, period->ends_at);
}

/*
 * Gives the period of a trial that the clock begins.  Returns NULL, with the
 * posting's refusal set, if the account's limits forbid it.
 */
static Period *
give_trial(Posting *posting, Subscription *subscription, const PlanTerms *plan,
		   TimestampTz starts_at, TimestampTz ends_at)
{
	Period	   *period = periods_in(posting, subscription->id, starts_at);

	if (period && period->status != PERIOD_SKIPPED)
		return period;
	if (period == NULL)
		period = periods_new(subscription, 0, starts_at, ends_at, plan->id);
	period->status = PERIOD_TRIAL;
	if (plan->trial_credits > 0 &&
		!periods_give(posting, period, plan, plan->trial_credits, (Datum) 0))
		return NULL;
	periods_keep(posting, period);

	if (subscription->period_number < 0 ||
		starts_at >= subscription->period_start)
	{
		subscription->period_number = 0;
		subscription->period_start = starts_at;
		subscription->period_end = period->ends_at;
	}
	subscriptions_changed(posting, subscription);
	subscriptions_wake(posting, subscription);
	renew_adjoin(posting, subscription, period, false);
	return period;
}

/*
 * Rolls over periods that have ended since an instant, where the next one was
 * paid before it began or is not needed.
 */
static void
roll_ended(Posting *posting, Subscription *subscription, TimestampTz since)
{
	TimestampTz pending = DT_NOEND;
	Period	   *into = NULL;
	Period	   *period = periods_before(posting, subscription->id, DT_NOEND);

	/* the newest one may have been waiting for its grace to be over */
	while (period && (into == NULL || period->ends_at >= since))
	{
		roll_pair(posting, subscription, period, into, false);
		if (into && period->ends_at == into->starts_at &&
			period->ends_at > posting->now)
			pending = period->ends_at;
		into = period;
		period = periods_before(posting, subscription->id, into->starts_at);
	}
	subscriptions_changed(posting, subscription);
	subscriptions_expect(posting, subscription, pending);
}

/*
 * Withdraws the change of plan that is due at the end of the newest period, if
 * the plan is retired by then: the subscription keeps the plan that it has.
 */
void
renew_check_next_plan(Posting *posting, Subscription *subscription)
{
	const PlanTerms *plan;
	JsonObject	json;

	if (subscription->next_plan_id == 0)
		return;
	plan = plans_get(subscription->next_plan_id);
	if (!plans_retired_at(plan, subscription->period_end))
		return;
	subscription->next_plan_id = 0;
	subscriptions_changed(posting, subscription);
	if (posting->dry)
		return;
	json_begin(&json);
	json_cstring(&json, "account", rows_account_name(&posting->account));
	json_int64(&json, "subscription_id", subscription->id);
	json_text(&json, "plan", plans_get(subscription->plan_id)->name);
	json_text(&json, "next_plan", plan->name);
	json_time(&json, "at", subscription->period_end);
	json_cstring(&json, "code", sqlstate_text(ERRCODE_GONE));
	json_cstring(&json, "message",
				 psprintf("plan \"%s\" is retired",
						  text_to_cstring(plan->name)));
	events_announce_with(posting, "plan_change_withdrawn", 0, &json);
}

/*
 * Begins a period of a subscription that is not collected by payment: gives its
 * credits, unless the plan has missed periods skipped, and rolls over what the
 * last period has left.  Returns NULL, with the posting's refusal set and
 * nothing else changed, if the account's limits forbid it.
 */
static Period *
begin_period(Posting *posting, Subscription *subscription, int64 number,
			 TimestampTz starts_at, bool first, bool may_skip)
{
	const PlanTerms *rule = plans_get(subscription->plan_id);
	const PlanTerms *plan = rule;
	Subscription next = *subscription;
	bool		changes = next.next_plan_id != 0;
	TimestampTz ends_at;
	Period	   *ending = NULL;
	Period	   *period;
	int64		amount;
	int64		room;
	bool		skip;

	if (changes)
	{
		plan = plans_get(next.next_plan_id);
		if (!proration_same_length(plan, rule))
		{
			next.anchor = starts_at;
			next.first_number = number;
			first = false;
		}
	}
	/* skip empty periods: see calendar.c on days that a time zone leaves out */
	while ((ends_at = subscriptions_start(&next, plan, number + 1)) <= starts_at)
		number++;
	amount = plan->credits;
	if (first)
	{
		TimestampTz start = subscriptions_start(&next, plan, number);

		if (start < starts_at)
			amount = renew_part_of(amount, starts_at, ends_at, start);
	}

	skip = may_skip && plan->catch_up_latest && ends_at <= posting->now;
	period = periods_new(&next, number, starts_at, ends_at, plan->id);
	period->status = skip ? PERIOD_SKIPPED : PERIOD_GRANTED;
	if (!skip && !log_may_grant(posting, amount))
		return NULL;
	if (subscription->period_number >= 0 &&
		subscription->period_end == starts_at)
		ending = periods_in(posting, subscription->id,
							subscription->period_start);
	if (ending && ending->ends_at != starts_at)
		ending = NULL;
	if (ending)
		grace_end(posting, ending);
	/* credits of a period that is over never get into the balance */
	room = skip || ends_at <= posting->now ? 0 : amount;
	if (room > 0 && !limit_rules_receive(posting, &room, true))
		return NULL;

	/* of two grants that expire together the older one burns first */
	if (!skip && ending && ending->rolled < 0)
		rollover_period(posting, &next, ending, period, rule, plan, room);
	if (!skip && amount > 0 &&
		!periods_give(posting, period, plan, amount,
					  amount == plan->credits ? plan->price : (Datum) 0))
		return NULL;
	periods_keep(posting, period);
	if (!skip && ending)
		grace_count(posting, ending, period);

	next.period_number = number;
	next.period_start = starts_at;
	next.period_end = ends_at;
	next.next_plan_id = 0;
	next.changed = subscription->changed;
	*subscription = next;
	subscriptions_changed(posting, subscription);
	if (changes)
		plan_history_change(posting, subscription, starts_at, plan->id,
							"(renewal)");
	subscriptions_wake(posting, subscription);
	return period;
}

/*
 * Begins the trial of a subscription.
 */
static bool
begin_trial(Posting *posting, Subscription *subscription)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	TimestampTz starts_at = subscription->period_end;
	TimestampTz ends_at = calendar_after(subscription->timezone, starts_at,
										 plan->trial);
	Period	   *period;

	if (subscription->by_payment)
	{
		PaidPart   *part = palloc0(sizeof(PaidPart));
		int64		room = plan->trial_credits;

		/*
		 * a part stays even if its credits are refused: there is no second
		 * try
		 */
		if (!log_may_grant(posting, room) ||
			(room > 0 && ends_at > posting->now &&
			 !limit_rules_receive(posting, &room, true)))
			return false;
		/* what is paid may be for the same time */
		part->reference = cstring_to_text(TRIAL_REFERENCE);
		part->starts_at = starts_at;
		part->ends_at = ends_at;
		part->settled_at = starts_at;
		part->plan_id = plan->id;
		part->credits = plan->trial_credits;
		part->trial = true;
		return paid_parts_give(posting, subscription, part);
	}
	period = give_trial(posting, subscription, plan, starts_at, ends_at);
	if (period == NULL)
		return false;
	renew_event(posting, subscription, "trial_started", period,
				period->transaction_id);
	return true;
}

/*
 * Ends the grace of the newest period, if it has one.
 */
void
renew_end_grace(Posting *posting, const Subscription *subscription)
{
	Period	   *newest = periods_before(posting, subscription->id, DT_NOEND);

	if (newest)
		grace_end(posting, newest);
}

/*
 * Ends a subscription.  The account must not be closed.  Returns the transaction
 * that logs it.
 */
Entry *
renew_end(Posting *posting, Subscription *subscription)
{
	Entry	   *entry;

	renew_end_grace(posting, subscription);
	subscription->status = SUBSCRIPTION_CANCELED;
	subscription->ended_at = Min(subscription->cancel_at, posting->now);
	subscriptions_changed(posting, subscription);
	subscriptions_wake(posting, subscription);
	entry = renew_log(posting, subscription);
	if (subscription->cancel_expires)
		periods_take_back(posting, subscription);
	renew_event(posting, subscription, "subscription_canceled", NULL,
				entry->id);
	return entry;
}

/*
 * Ends a subscription whose account was closed.  Nothing can be posted to such
 * an account, so there is an event but no transaction.
 */
static void
end_closed(Posting *posting, Subscription *subscription)
{
	TimestampTz since = subscription->due_at;
	JsonObject	json;

	subscription->status = SUBSCRIPTION_CANCELED;
	subscription->cancel_at = Min(subscription->cancel_at, posting->now);
	subscription->ended_at = subscription->cancel_at;
	subscription->due_at = DT_NOEND;
	subscriptions_changed(posting, subscription);
	subscriptions_wake(posting, subscription);
	json_begin(&json);
	json_cstring(&json, "account", rows_account_name(&posting->account));
	json_int64(&json, "subscription_id", subscription->id);
	json_time(&json, "due_at", since);
	json_cstring(&json, "code", sqlstate_text(ERRCODE_LOCKED_ACCOUNT));
	json_cstring(&json, "message", "account is closed");
	if (!posting->dry)
		events_announce_with(posting, "renewal_failed", 0, &json);
}

/*
 * Returns whether the next period is the first one, trials aside.  It may be a part
 * of a period of the calendar.
 */
static bool
is_first(Posting *posting, const Subscription *subscription)
{
	Period	   *newest;

	if (subscription->period_number != 0)
		return subscription->period_number < 0;
	newest = periods_in(posting, subscription->id,
						subscription->period_start);
	return newest && newest->status == PERIOD_TRIAL;
}

/*
 * Takes the next step that is due for a subscription.  Returns false, with the
 * posting's refusal set, if the account's limits forbid it.
 */
static bool
step(Posting *posting, Subscription *subscription)
{
	TimestampTz since = subscription->due_at;
	bool		ended = subscription->status == SUBSCRIPTION_CANCELED;
	Period	   *period;

	if (posting->account.status == ACCOUNT_CLOSED && !ended)
		end_closed(posting, subscription);
	else if (!ended && subscription->cancel_at <= posting->now &&
			 (subscription->cancel_at <= subscription->period_end ||
			  subscription->by_payment ||
			  (subscription->status != SUBSCRIPTION_TRIALING &&
			   subscription->status != SUBSCRIPTION_ACTIVE)))
	{
		subscription->due_at = DT_NOEND;
		if (!subscription->cancel_expires)
			roll_ended(posting, subscription, since);
		(void) renew_end(posting, subscription);
	}
	else if (subscription->status == SUBSCRIPTION_TRIALING &&
			 subscription->period_number < 0)
		return begin_trial(posting, subscription);
	else if (subscription->status == SUBSCRIPTION_TRIALING &&
			 subscription->period_end <= posting->now)
	{
		subscription->status = !subscription->by_payment ?
			SUBSCRIPTION_ACTIVE : SUBSCRIPTION_UNPAID;
		subscriptions_changed(posting, subscription);
		subscriptions_wake(posting, subscription);
		renew_event(posting, subscription, "trial_ended", NULL, 0);
	}
	else if (subscription->status == SUBSCRIPTION_ACTIVE &&
			 !subscription->by_payment &&
			 subscription->period_end <= posting->now)
	{
		renew_check_next_plan(posting, subscription);
		period = begin_period(posting, subscription,
							  subscription->period_number + 1,
							  subscription->period_end,
							  is_first(posting, subscription), true);
		if (period == NULL)
			return false;
		if (period->status == PERIOD_GRANTED)
			renew_event(posting, subscription, period->number == 0 ?
						"subscription_started" : "subscription_renewed",
						period, period->transaction_id);
	}
	else
	{
		subscriptions_changed(posting, subscription);
		subscription->due_at = DT_NOEND;
		subscriptions_wake(posting, subscription);
		if (posting->account.status != ACCOUNT_CLOSED)
			roll_ended(posting, subscription, since);
	}
	return true;
}

/*
 * Takes all steps that are due for a subscription, up to MAX_PERIODS.  Returns
 * false, with the posting's refusal set, if the account's limits forbid one of
 * them.  The steps before that are then taken all the same.
 */
bool
renew_due(Posting *posting, Subscription *subscription)
{
	int			n;
	bool		through = true;

	for (n = 0; through && n < MAX_PERIODS &&
		 subscription->due_at <= posting->now; n++)
		through = step(posting, subscription);
	if (n > 0)
		subscriptions_read_due(posting, DT_NOBEGIN);
	return through;
}

/*
 * Announces that the next step of a subscription was refused, as the job does, but
 * only once for the same reason, and forgets the refusal.
 */
static void
announce_refused(Posting *posting, Subscription *subscription)
{
	JsonObject	json;

	subscription->refused = true;
	if (!posting->dry)
	{
		json_begin(&json);
		json_cstring(&json, "account", rows_account_name(&posting->account));
		json_int64(&json, "subscription_id", subscription->id);
		json_time(&json, "due_at", subscription->due_at);
		json_cstring(&json, "code", sqlstate_text(posting->refusal.sqlstate));
		json_cstring(&json, "message", posting->refusal.message);
		/* in the mode for writing at first, see ledger_lock_tables */
		store_lock_table(&events_table);
		if (!events_has_failure(posting->account.id, "renewal_failed",
								json_document(&json), subscription->due_at))
			events_announce_with(posting, "renewal_failed", 0, &json);
	}
	memset(&posting->refusal, 0, sizeof(Refusal));
}

/*
 * Returns the subscription of the posting's account that is due first, NULL if none
 * is due by an instant.  Those that were refused are left out.
 */
static Subscription *
first_due(const Posting *posting, TimestampTz until)
{
	Subscription *first = NULL;
	ListCell   *lc;

	foreach(lc, posting->subscriptions)
	{
		Subscription *s = lfirst(lc);

		if (s->due_at <= until && !s->refused &&
			(first == NULL || s->due_at < first->due_at ||
			 (s->due_at == first->due_at && s->id < first->id)))
			first = s;
	}
	return first;
}

/*
 * Renews the subscriptions of an account before it is changed or read, as the job
 * does: step by step, in the order in which they are due.  See RenewFunction.
 */
bool
renew_account(Posting *posting, TimestampTz until, int *steps)
{
	int			max = posting->dry ? *steps : Min(*steps, MAX_PERIODS);
	Subscription *s;
	int			n = 0;

	subscriptions_read_due(posting, until);
	while ((s = first_due(posting, until)) && n < max)
	{
		CHECK_FOR_INTERRUPTS();
		/* if refusals counted, many might leave no steps, time and again */
		if (calendar_knows(s->timezone, &posting->refusal) && step(posting, s))
			n++;
		else
			announce_refused(posting, s);
	}
	*steps -= n;
	subscriptions_read_due(posting, DT_NOBEGIN);
	return s == NULL;
}

/*
 * Makes a subscription active that was paused.  Gives the current period, unless
 * that was given before, and none of those that were missed.  Returns false,
 * with the posting's refusal set, if the account's limits forbid it.
 */
bool
renew_now(Posting *posting, Subscription *subscription, Period **given)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	Period	   *newest = NULL;
	bool		first;
	int64		number;
	TimestampTz starts_at;

	*given = NULL;
	if (subscription->period_number >= 0)
		newest = periods_in(posting, subscription->id,
							subscription->period_start);
	first = is_first(posting, subscription);
	if (posting->now < subscription->period_end)
	{
		subscription->status = newest && newest->status == PERIOD_TRIAL ?
			SUBSCRIPTION_TRIALING : SUBSCRIPTION_ACTIVE;
		subscriptions_changed(posting, subscription);
		subscriptions_wake(posting, subscription);
		return true;
	}
	subscription->status = SUBSCRIPTION_ACTIVE;
	if (subscription->by_payment)
	{
		subscriptions_changed(posting, subscription);
		subscriptions_wake(posting, subscription);
		return true;
	}
	renew_check_next_plan(posting, subscription);
	number = subscription->first_number +
		calendar_number(subscription->anchor, subscription->timezone,
						plan->period, plan->every, posting->now);
	starts_at = subscriptions_start(subscription, plan, number);
	*given = begin_period(posting, subscription, number,
						  Max(starts_at, subscription->period_end), first,
						  false);
	return *given != NULL;
}
