/*
 * paid_parts.c
 *	  Periods of subscriptions whose credits follow what was paid for them.
 *
 * Each invoice that has something to say about the period that ends at an
 * instant is a part of it: a row of credits.paid_parts.  What a period gives
 * follows from its parts alone:
 *
 *	  positive	sum of the credits of positive parts
 *	  credited	the opposite of the sum of negative parts, as far as these
 *				are not reversed: credits of which less is due
 *	  reversed	sum of what is reversed of positive parts: credits whose money
 *				was paid back
 *
 * Credits are given until all that is positive has been given.  What has been
 * given beyond positive - credited is taken from what was not used, but never
 * makes a debt: what was used of it is carried to the next period, and taken
 * there.  What is reversed is claimed, and becomes a debt if it was used.
 *
 * Both kinds of taking are claims on the grants of the period (see debts.c), the
 * outcome of which depends only on their total and on what was used.  So neither
 * the order in which parts become known matters, nor how often they change.
 *
 * Tested in test/sql/paid_parts.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/paid_parts.h"
#include "subscribe/part_periods.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/proration.h"

#include "utils/builtins.h"

/* ------------------------------------------------------------------------
 * changes of plan
 * ------------------------------------------------------------------------
 */

/*
 * Brings a period, for which base was paid, to what plan changes within it make
 * of it: those that are stored and, unless that is NULL, a new one.
 */
static void
follow_plan(Posting *posting, PartsChange *change, Period *period,
			const PaidPart *base, PlanChanged *note, Entitlement *e)
{
	Subscription *s = change->subscription;
	int			nentries = posting->nentries;
	PaidPart   *part = palloc0(sizeof(PaidPart));
	const PlanTerms *plan;
	PartRow		known;
	Datum		carried;
	ListCell   *lc;
	int			i;

	proration_entitle(posting, s, period, period->ends_at, note, e, &carried);
	part->reference = cstring_to_text(PLAN_CHANGE_REFERENCE);
	part->ends_at = period->ends_at;
	part->starts_at = note ? note->at : period->starts_at;
	part->plan_id = note ? note->plan_id : s->plan_id;
	foreach(lc, plan_history_read(posting->store, posting->snapshot, s->id,
								  part->starts_at))
	{
		const PlanChanged *change_of_plan = lfirst(lc);

		if (change_of_plan->at < part->starts_at ||
			change_of_plan->at >= period->ends_at)
			continue;
		part->starts_at = change_of_plan->at;
		part->plan_id = change_of_plan->plan_id;
	}
	part->settled_at = part->starts_at;
	part->credits = proration_to_give(e, 0) - base->credits;
	plan = plans_get(part->plan_id);
	part->trial = base->trial;
	if (part->credits > 0 && !part->trial)
		part->price = proration_price(plan, part->credits);
	part->currency = part->price ? plan->currency : NULL;
	if (part->credits == 0 &&
		!part_rows_find(posting, s, part->ends_at, part->reference, &known))
		return;
	change->within = true;
	change->parts = list_make1(part);
	part_periods_plan(posting, change);
	for (i = nentries; posting->main && i < posting->nentries; i++)
		if (!posting->entries[i]->has_target)
		{
			posting->entries[i]->has_target = true;
			posting->entries[i]->target_id = posting->main->id;
		}
}

/*
 * Has a period, which credits_mark_paid has given, follow a new change of plan.
 * Computes the entitlement, and sets given and taken to the credits that were
 * given or taken back.  Returns false, with the posting's refusal set, if the
 * account's limits forbid it.
 */
bool
paid_parts_follow(Posting *posting, Subscription *subscription,
				  Period *period, PlanChanged *note, Entitlement *e,
				  int64 *given, int64 *taken)
{
	int64		before = period->given;
	PartsChange change = {
		.subscription_id = subscription->id,
		.subscription = subscription
	};
	PartRow		base;
	Datum		carried;

	if (part_rows_find(posting, subscription, period->ends_at,
					   cstring_to_text(period->status == PERIOD_TRIAL ?
									   TRIAL_REFERENCE : PAID_REFERENCE), &base))
		follow_plan(posting, &change, period, &base.part, note, e);
	else
		/* another part of the house knows what was paid */
		proration_entitle(posting, subscription, period, period->ends_at, note,
						  e, &carried);
	*given = Max(period->given - before, 0);
	*taken = Max(before - period->given, 0);
	posting->refusal = change.refusal;
	return change.refusal.sqlstate == 0;
}

/*
 * Gives a period for which a part was paid, and follows the plan changes within
 * it, which may be known before.  Returns false, with the posting's refusal set,
 * if the account's limits forbid it.
 */
bool
paid_parts_give(Posting *posting, Subscription *subscription, PaidPart *part)
{
	PartsChange change = {
		.subscription_id = subscription->id,
		.subscription = subscription,
		.parts = list_make1(part)
	};
	Period	   *period;
	Entitlement e;

	part_periods_plan(posting, &change);
	posting->refusal = change.refusal;
	if (change.refusal.sqlstate != 0)
		return false;
	period = periods_paid(posting, subscription->id, part->ends_at);
	if (period && !part->trial && period->ends_at > posting->now)
		follow_plan(posting, &change, period, part, NULL, &e);
	return true;
}

/* ------------------------------------------------------------------------
 * other rooms
 * ------------------------------------------------------------------------
 */

/*
 * Plans a change of parts for paid_parts_set.
 */
static bool
plan_set(Posting *posting, void *arg)
{
	PartsChange *change = arg;

	change->subscription = subscriptions_in(posting, change->subscription_id);
	if (change->subscription == NULL)
		subscriptions_raise_unknown(change->subscription_id);
	change->changed = false;
	memset(&change->refusal, 0, sizeof(Refusal));
	part_periods_plan(posting, change);
	return true;
}

/*
 * Announces that parts could not be given.
 */
static void
announce_refusal(const PartsChange *change, int64 account_id)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "subscription_id", change->subscription_id);
	json_cstring(&json, "code", sqlstate_text(change->refusal.sqlstate));
	json_cstring(&json, "message", change->refusal.message);
	events_announce("renewal_failed", account_id, 0, clock_now(), &json);
}

/*
 * Replaces parts of a subscription, and brings its periods to what they come to.
 */
bool
paid_parts_set(int64 subscription_id, List *references, List *parts,
			   Receipt *receipt)
{
	PartsChange change = {
		.subscription_id = subscription_id,
		.references = references,
		.parts = parts
	};
	Subscription subscription;
	Party		party = {0};
	Request		request = {0};
	Refusal		refusal;

	ledger_lock_tables("credits_stripe_webhook()");
	store_lock_table(&subscriptions_table);
	if (!subscriptions_find(subscription_id, &subscription))
		subscriptions_raise_unknown(subscription_id);
	/* this needs no lock: a subscription never changes its account */
	party.id = subscription.account_id;
	if (!ledger_post_joint("credits_stripe_webhook()", &party, 1, &request,
						   plan_set, &change, receipt, &refusal))
		raise_refusal(&refusal);
	if (change.changed && change.refusal.sqlstate != 0)
		announce_refusal(&change, subscription.account_id);
	return change.changed;
}
