/*
 * part_periods.c
 *	  Bringing periods of subscriptions to what their parts come to: giving what is
 *	  missing, and taking what is not due.
 *
 * Tested in test/sql/paid_parts.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/part_periods.h"
#include "subscribe/renew.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* decimal places of the price of a grant */
#define PRICE_DIGITS 6

/* as many grants get back what was taken of them, at most, if that can be given
 * anew instead */
#define MAX_GRANTS_RELEASED 4

/* ------------------------------------------------------------------------
 * giving
 * ------------------------------------------------------------------------
 */

/*
 * Returns how much of a part may be given, if so much of its period is missing.
 * What waits for an invoice is given in advance only while its period lasts:
 * later, there is nothing to be given in advance.
 */
static int64
may_give(Posting *posting, const PaidPart *part, int64 missing)
{
	if (part->ends_at <= posting->now &&
		strcmp(text_to_cstring(part->reference), PENDING_REFERENCE) == 0)
		return 0;
	return Max(Min(part->credits, missing), 0);
}

/*
 * Returns how much of what a period is to give was to be given in advance, but
 * became known when the period was over, so that it is not: nothing of another
 * part may be given instead.  missing is how much it had not given before the
 * change.
 */
static int64
missed_advance(Posting *posting, const PartsChange *change,
			   TimestampTz ends_at, int64 missing)
{
	PartRow		row;
	int64		before;

	if (ends_at > posting->now ||
		!part_rows_find(posting, change->subscription, ends_at,
						cstring_to_text(PENDING_REFERENCE), &row) ||
		row.part.credits <= 0)
		return 0;
	before = row.part.credits;
	if (part_rows_changed(change->subscription, &row))
		before = row.before ? Max(row.before->credits, 0) : 0;
	return Min(row.part.credits,
			   plus(Max(missing, 0), Max(row.part.credits - before, 0)));
}

/*
 * Returns the price of a number of a part's credits.
 */
static Datum
price_of_part(const PaidPart *part, int64 amount)
{
	if (part->price == 0 || compare(part->price, number(0)) < 0)
		return 0;
	return DirectFunctionCall2(numeric_round,
							   DirectFunctionCall2(numeric_div,
												   multiply(part->price, number(amount)),
												   number(part->credits)),
							   Int32GetDatum(PRICE_DIGITS));
}

/*
 * Gives credits of a part.  What was settled in time lives until the end of the
 * period; what was settled later lives as long as the part's time was, so that
 * nobody pays for nothing.  Returns false, with the posting's refusal set, if the
 * account's limits forbid it.
 */
static bool
give_part(Posting *posting, PartsChange *change, Period *period,
		  const PaidPart *part, int64 amount)
{
	bool		late = part->settled_at > part->ends_at;
	TimestampTz from = late ? part->settled_at : part->starts_at;
	TimestampTz until = part->ends_at;
	PlanTerms	plan = *plans_get(part->plan_id);
	bool		over;
	Grant	   *grant;
	Entry	   *entry;

	if (late && pg_add_s64_overflow(from, part->ends_at - part->starts_at,
									&until))
		until = DT_NOEND;
	over = until <= posting->now;
	/* credits whose time is over never get into the balance */
	if (!over && !limit_rules_receive(posting, &amount, true))
		return false;
	if (!log_may_grant(posting, amount))
		return false;
	/* they were left when it ended, beside what is in the log */
	if (over && !late)
	{
		period->unused = plus(rollover_unused(posting, period), amount);
		change->unused = lappend(change->unused, period);
	}
	plan.currency = part->currency;
	entry = periods_give_grant(posting, period, &plan,
							   part->trial ? "trial" : "subscription", amount,
							   price_of_part(part, amount), from, until, NULL,
							   &grant);
	periods_add_grant(period, entry, grant, amount);
	period->granted += amount;
	return true;
}

/* ------------------------------------------------------------------------
 * periods
 * ------------------------------------------------------------------------
 */

/* What is taken of a period */
typedef struct Taking
{
	int64		taken;			/* because less is due */
	int64		carried;
	int64		reversed;
} Taking;

/*
 * Computes what is taken of a period that has given so much, and to which so
 * much is carried from the one before.  Its grants, of which there are ever more,
 * are looked at only if less is due than was given.
 */
static Taking
taking_of(Posting *posting, const Period *period, const PaidSums *sums,
		  int64 granted, int64 carried)
{
	Taking		taking;
	int64		less;

	part_sums_due(sums, granted, &less, &taking.reversed);
	less = plus(less, carried);
	taking.taken = 0;
	if (less > 0)
	{
		/* nothing was used of what is about to be given */
		int64		more = granted - period->granted;
		int64		unused = more >= less ? less : more +
			period_claims_unused(posting, period, less - more);

		taking.taken = Max(Min(unused, granted - taking.reversed), 0);
	}
	taking.carried = less - taking.taken;
	return taking;
}

/*
 * Brings the period that ends at an instant, which is NULL if there is none yet,
 * to the part with which it begins.  Returns the period, NULL if there is none
 * and nothing is paid for it.
 */
static Period *
period_of(Posting *posting, PartsChange *change, TimestampTz ends_at,
		  Period *period, const PaidPart *first)
{
	Subscription *s = change->subscription;
	const PlanTerms *plan;
	PeriodStatus status;

	if (first == NULL)
	{
		if (period && period->status != PERIOD_SKIPPED)
		{
			/* all was withdrawn */
			period->status = PERIOD_SKIPPED;
			periods_forget_changes(posting, period);
		}
		return period;
	}
	status = first->trial ? PERIOD_TRIAL : PERIOD_GRANTED;
	if (period && period->starts_at == first->starts_at &&
		period->plan_id == first->plan_id && period->status == status)
		return period;
	if (period == NULL)
	{
		period = periods_new(s, 0, first->starts_at, ends_at, first->plan_id);
		period->paid = period->granted = 0;
		period->credited = period->reversed = 0;
		period->taken = period->carried = 0;
		period->claimed = period->late = 0;
	}
	plan = plans_get(first->plan_id);
	period->starts_at = first->starts_at;
	period->plan_id = first->plan_id;
	period->status = status;
	period->number = Max(s->first_number +
						 calendar_number(s->anchor, s->timezone, plan->period,
										 plan->every, first->starts_at), 0);
	periods_keep(posting, period);
	periods_forget_changes(posting, period);
	return period;
}

/*
 * Returns how much of a part is to be given although it was given before, and
 * taken back, because more is due again.  Otherwise, that returns to the grants
 * that it was taken of.  These can be very many if a period has changed often:
 * then it is given as one, and stays taken of them, as if it had been given
 * before anything was taken.
 */
static int64
to_give_again(Posting *posting, const PartsChange *change,
			  const Period *period, const Taking *taking, int64 planned)
{
	const PaidPart *only = NULL;
	int64		less = period->claimed - taking->taken - taking->reversed;
	int64		more;
	int64		found;
	ListCell   *lc;

	foreach(lc, change->parts)
	{
		const PaidPart *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at != period->ends_at)
			continue;
		if (only)
			return 0;
		only = part;
	}
	if (only == NULL || period->ends_at <= posting->now || period->late > 0 ||
		posting->account.debt > 0 ||
		period->claimed - period->taken != taking->reversed)
		return 0;
	/* of what the part gives, so that its price fits */
	if (pg_add_s64_overflow(planned - period->granted, less, &more) ||
		may_give(posting, only, more) < more ||
		more > limit_rules_room_for(posting))
		return 0;
	if (debts_of_group(posting, period->grant_id) > 0)
		return 0;
	return list_length(groups_read(posting, period->grant_id, GROUP_TAKEN,
								   less, &found)) > MAX_GRANTS_RELEASED ? more : 0;
}

/*
 * Gives what is missing of a period, from the parts that the change is about,
 * until it has given as much as is wanted.
 */
static void
give_missing(Posting *posting, PartsChange *change, Period *period,
			 const PaidSums *sums, int64 wanted)
{
	bool		first = sums->positive > 0 ? period->granted == 0 :
		!ItemPointerIsValid(&period->tid);
	ListCell   *lc;

	foreach(lc, change->parts)
	{
		const PaidPart *part = lfirst(lc);
		int64		amount;

		if (part->ends_at != period->ends_at)
			continue;
		amount = may_give(posting, part, wanted - period->granted);
		if (amount > 0 && !give_part(posting, change, period, part, amount))
		{
			change->refusal = posting->refusal;
			memset(&posting->refusal, 0, sizeof(Refusal));
		}
	}
	if (first && (period->granted > 0 || sums->positive == 0))
		change->begun = lappend(change->begun, period);
}

/*
 * Brings the period that ends at an instant to its parts.  Returns the end of
 * the next period if that is to follow, else NULL.
 */
static TimestampTz *
bring_period(Posting *posting, PartsChange *change, TimestampTz ends_at)
{
	PaidSums	sums;
	Period	   *period = periods_paid(posting, change->subscription_id,
									  ends_at);
	bool		isnew;
	Period	   *before;
	Period	   *after;
	int64		carried;
	int64		wanted;
	int64		planned;
	int64		again = 0;
	int64		nentries = posting->nentries;
	Taking		taking;
	ListCell   *lc;

	if (part_sums_update(posting, change, period, ends_at, &sums))
		period = period_of(posting, change, ends_at, period,
						   part_sums_first(posting, change, ends_at));
	if (period == NULL)
		return NULL;
	change->periods = lappend(change->periods, period);
	wanted = sums.positive;
	if (wanted > period->granted)
		wanted -= missed_advance(posting, change, ends_at,
								 period->paid - period->granted);
	if (period->paid != sums.positive || period->credited != sums.credited ||
		period->reversed != sums.reversed)
	{
		period->paid = sums.positive;
		period->credited = sums.credited;
		period->reversed = sums.reversed;
		periods_changed(posting, period);
	}
	/* nothing can be posted to a closed account */
	if (posting->account.status == ACCOUNT_CLOSED)
		return NULL;
	isnew = !ItemPointerIsValid(&period->tid);
	before = periods_paid_beside(posting, change->subscription_id, ends_at,
								 false);
	carried = before ? before->carried : 0;

	/* what is about to be given must not pay debts that are to be waived */
	planned = period->granted;
	foreach(lc, change->parts)
	{
		const PaidPart *part = lfirst(lc);

		if (part->ends_at == ends_at)
			planned += may_give(posting, part, wanted - planned);
	}
	taking = taking_of(posting, period, &sums, planned, carried);
	if (taking.taken + taking.reversed < period->claimed)
	{
		again = to_give_again(posting, change, period, &taking, planned);
		if (again == 0)
			period_claims_set(posting, period, taking.taken + taking.reversed);
	}

	give_missing(posting, change, period, &sums,
				 again > 0 ? period->granted + again : wanted);

	taking = taking_of(posting, period, &sums, period->granted, carried);
	if (taking.taken + taking.reversed > 0 || period->claimed > 0)
		period_claims_set(posting, period, taking.taken + taking.reversed);

	after = periods_paid_beside(posting, change->subscription_id, ends_at,
								true);
	if (!isnew && taking.carried == period->carried)
		after = NULL;
	period->given = period->granted - taking.taken;
	period_claims_passed_on(posting, change->subscription, period,
							taking.reversed > 0);
	if (isnew || posting->nentries > nentries ||
		period->taken != taking.taken || period->carried != taking.carried)
	{
		period->taken = taking.taken;
		period->carried = taking.carried;
		periods_changed(posting, period);
		change->changed = true;
	}
	return after ? &after->ends_at : NULL;
}

/*
 * Has the subscription know its newest period.
 */
static void
note_newest(Posting *posting, Subscription *s)
{
	Period	   *period = periods_before(posting, s->id, DT_NOEND);

	while (period && period->status == PERIOD_SKIPPED)
		period = periods_before(posting, s->id, period->starts_at);
	if (period == NULL ||
		(s->period_number == period->number &&
		 s->period_start == period->starts_at &&
		 s->period_end == period->ends_at))
		return;
	s->period_number = period->number;
	s->period_start = period->starts_at;
	s->period_end = period->ends_at;
	subscriptions_changed(posting, s);
	subscriptions_wake(posting, s);
}

/*
 * Brings the periods that end at some instants to their parts, from the first
 * one on, and those that follow from them.
 */
static void
bring_periods(Posting *posting, PartsChange *change, List *ends)
{
	TimestampTz last = DT_NOBEGIN;
	TimestampTz *next;
	ListCell   *lc;

	do
	{
		next = NULL;
		foreach(lc, ends)
		{
			TimestampTz *end = lfirst(lc);

			CHECK_FOR_INTERRUPTS();
			if (*end > last && (next == NULL || *end < *next))
				next = end;
		}
		if (next)
		{
			last = *next;
			next = bring_period(posting, change, last);
			if (next)
				ends = lappend(ends, next);
			next = &last;
		}
	} while (next);
}

/*
 * Plans a change of parts.
 */
void
part_periods_plan(Posting *posting, PartsChange *change)
{
	Subscription *s = change->subscription;
	TimestampTz due_at = s->due_at;
	int			nentries = posting->nentries;
	ListCell   *lc;

	change->periods = change->begun = change->unused = NIL;
	if (!guards_not_closed(posting))
	{
		change->refusal = posting->refusal;
		memset(&posting->refusal, 0, sizeof(Refusal));
	}
	bring_periods(posting, change, part_rows_replace(posting, change));
	if (posting->account.status != ACCOUNT_CLOSED)
	{
		foreach(lc, change->periods)
			renew_adjoin(posting, s, lfirst(lc),
						 list_member_ptr(change->unused, lfirst(lc)));
		if (!change->within)
			note_newest(posting, s);
		if (s->due_at != due_at)
			subscriptions_changed(posting, s);
	}
	if (posting->main == NULL && posting->nentries > nentries)
		posting->main = posting->entries[nentries];
	foreach(lc, change->begun)
	{
		const Period *period = lfirst(lc);

		renew_event(posting, s, period->status == PERIOD_TRIAL ? "trial_started" :
					period->number == 0 ? "subscription_started" :
					"subscription_renewed", period, period->transaction_id);
	}
}
