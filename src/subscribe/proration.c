/*
 * proration.c
 *	  The credits to which a period of a subscription entitles if the plan changes
 *	  while it lasts, and giving or taking back the difference.
 *
 * Everything is computed in credits times seconds, in exact integers of type
 * numeric: a plan earns its credits evenly over the period.  Only what is then
 * given or taken back is rounded to whole credits, up when giving and down when
 * taking.  What was given is stored, so a second change does not gain from the
 * rounding of the first.
 *
 * The entitlement is computed from all rows of credits.plan_changes within the
 * period, and what was given is then brought to it.  So neither the order in
 * which changes become known matters, nor how often a plan is changed back and
 * forth.  No more is taken back than remains of the period's grants.
 *
 * A period is whole if it is as long as the calendar says.  The first one may be
 * shorter.
 *
 * Tested in test/sql/plan_changes.sql and test/t/plan_changes.pl.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/proration.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/*
 * Converts a number of credits to an integer.  More than fits becomes the most
 * that does.
 */
static int64
credits_of(Datum value)
{
	if (compare(value, number(PG_INT64_MAX)) > 0)
		return PG_INT64_MAX;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
}

/*
 * Returns the whole seconds from one instant to a later one.
 */
static Datum
seconds(TimestampTz from, TimestampTz to)
{
	return number((to - from) / USECS_PER_SEC);
}

/*
 * Computes the entitlement of a period from the changes within it, which must be
 * in order.  One that ends the period is the last that counts.
 */
void
proration_fold(Entitlement *e, TimestampTz starts_at, TimestampTz ends_at,
			   int64 whole, int64 credits, Datum carried, const Turn *turns,
			   int nturns)
{
	Datum		earned = number(0);
	Datum		rate = number(credits);
	TimestampTz since = starts_at;
	int			i;

	for (i = 0; i < nturns; i++)
	{
		const Turn *turn = &turns[i];

		CHECK_FOR_INTERRUPTS();
		if (turn->proration == PRORATE_NONE)
			continue;
		if (turn->ends || turn->proration == PRORATE_BY_TIME)
			earned = add(earned, multiply(rate, seconds(since, turn->at)));
		else
			earned = multiply(number(turn->credits),
							  seconds(starts_at, turn->at));
		since = turn->at;
		rate = number(turn->ends ? 0 : turn->credits);
		if (turn->ends)
			break;
	}
	earned = add(earned, multiply(rate, seconds(since, ends_at)));
	e->whole = number(whole);
	e->earned = subtract(earned, multiply(carried, e->whole));
}

/*
 * Returns how much is still to be given, rounded up.
 */
int64
proration_to_give(const Entitlement *e, int64 given)
{
	Datum		missing = subtract(e->earned, multiply(number(given), e->whole));

	return compare(missing, number(0)) <= 0 ? 0 :
		credits_of(divide(missing, e->whole, true));
}

/*
 * Returns how much is to be taken back, rounded down.
 */
int64
proration_to_take(const Entitlement *e, int64 given)
{
	Datum		excess = subtract(multiply(number(given), e->whole), e->earned);

	return compare(excess, number(0)) <= 0 ? 0 :
		credits_of(divide(excess, e->whole, false));
}

/*
 * Returns how much more was given than earned, which then counts as given in
 * another period.  It is negative if less was given.
 */
Datum
proration_carried(const Entitlement *e, int64 given)
{
	Datum		excess = subtract(multiply(number(given), e->whole), e->earned);
	Datum		unit = DirectFunctionCall3(numeric_in,
										   CStringGetDatum("1e-20"),
										   ObjectIdGetDatum(InvalidOid),
										   Int32GetDatum(-1));

	/* divide once, by the product: the first of two divisions would round */
	return multiply(divide(excess, multiply(e->whole, unit), true), unit);
}

/*
 * Returns an entitlement in credits, rounded to six decimal places for display.
 */
Datum
proration_entitlement(const Entitlement *e)
{
	return DirectFunctionCall2(numeric_round,
							   DirectFunctionCall2(numeric_div, e->earned, e->whole),
							   Int32GetDatum(6));
}

/* decimal places of the price of a part of a period's credits */
#define PRICE_DIGITS 6

/*
 * Orders plan changes as they take effect.
 */
static int
compare_notes(const ListCell *a, const ListCell *b)
{
	const PlanChanged *x = lfirst(a);
	const PlanChanged *y = lfirst(b);

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	/* the new one has none yet: that will be its transaction, which is last */
	if (x->reference == NULL || y->reference == NULL)
		return x->reference == NULL ? 1 : -1;
	/* the index on references has collation "C" */
	return strcmp(x->reference, y->reference);
}

/*
 * Returns whether the periods of two plans have the same length.
 */
bool
proration_same_length(const PlanTerms *a, const PlanTerms *b)
{
	return a->period == b->period && a->every == b->every;
}

/*
 * Returns how many seconds a period would have if it was whole.  The period must
 * not have begun with a change of plan.
 */
static int64
whole_seconds(Posting *posting, const Subscription *subscription,
			  const Period *period, const PlanTerms *plan)
{
	TimestampTz from = period->starts_at;

	/* the first one may be a part of a period of the calendar */
	if (period->credits < plan->credits)
	{
		Period	   *before = periods_before(posting, subscription->id, from);

		if (before == NULL || before->status == PERIOD_TRIAL)
			from = Min(from, subscriptions_start(subscription, plan,
												 period->number));
	}
	return (period->ends_at - from) / USECS_PER_SEC;
}

/*
 * Computes the entitlement of a period up to a given time, from the plan changes
 * within it: those that are stored, and a new one unless that is NULL.  Sets
 * carried to the surplus of an earlier period that counts as given in this one.
 */
void
proration_entitle(Posting *posting, const Subscription *subscription,
				  const Period *period, TimestampTz until, PlanChanged *new,
				  Entitlement *e, Datum *carried)
{
	const PlanTerms *plan = plans_get(period->plan_id);
	bool		trial = period->status == PERIOD_TRIAL;
	List	   *notes = plan_history_read(posting, subscription->id,
										  period->starts_at);
	int64		whole = (period->ends_at - period->starts_at) / USECS_PER_SEC;
	bool		anew = false;
	Turn	   *turns;
	int			nturns = 0;
	ListCell   *lc;

	if (new)
	{
		notes = lappend(notes, new);
		list_sort(notes, compare_notes);
	}
	turns = palloc((list_length(notes) + 1) * sizeof(Turn));
	*carried = number(0);
	foreach(lc, notes)
	{
		const PlanChanged *note = lfirst(lc);
		const PlanTerms *next = plans_get(note->plan_id);
		Turn	   *turn;

		CHECK_FOR_INTERRUPTS();
		/* the change that began the period: those before it do not count */
		if (note->at == period->starts_at && note->carried != 0)
		{
			*carried = note->carried;
			anew = true;
			nturns = 0;
			continue;
		}

		/*
		 * up to the new change, those at the same instant that precede it
		 * count
		 */
		if (until < period->ends_at ? note == new : note->at >= until)
			break;
		turn = &turns[nturns++];
		turn->at = note->at;
		turn->credits = trial ? next->trial_credits : next->credits;
		/* a plan without a trial leaves one as it is */
		turn->proration = trial && next->trial == NULL ? PRORATE_NONE :
			note->proration;
		/* a trial lasts as long as it was to last when it began */
		turn->ends = !trial && !proration_same_length(plan, next);
	}
	if (!anew && !trial)
		whole = whole_seconds(posting, subscription, period, plan);
	proration_fold(e, period->starts_at, until, whole,
				   trial ? plan->trial_credits : plan->credits, *carried,
				   turns, nturns);
}

/*
 * Takes back up to an amount from what remains of a period's grants, those given
 * last first, and returns how much.  from_balance is set to the part of it that
 * was in the balance: what grants hold that are not effective yet is not.
 */
static int64
proration_take_back(Posting *posting, Period *period, int64 amount,
					Draw **draws, int *ndraws, int64 *from_balance)
{
	int64		taken = 0;
	int			i;

	*ndraws = 0;
	*from_balance = 0;
	*draws = palloc(Max(period->ngrants, 1) * sizeof(Draw));
	for (i = period->ngrants - 1; i >= 0 && taken < amount; i--)
	{
		Grant	   *grant = grants_get(posting, period->grant_ids[i]);
		bool		open = grant->status == GRANT_OPEN;
		int64		part;

		if ((!open && grant->status != GRANT_PENDING) || grant->remaining == 0)
			continue;
		part = grants_take(grant, amount - taken, &(*draws)[(*ndraws)++]);
		grant->lost += part;
		taken += part;
		if (open)
			*from_balance += part;
	}
	return taken;
}

/*
 * Logs a change of plan, and takes back up to an amount of the period's credits
 * with it.  Returns how much was taken back.
 */
int64
proration_log(Posting *posting, Period *period, int64 amount)
{
	Draw	   *draws = NULL;
	int			ndraws = 0;
	int64		from_balance = 0;
	int64		taken = 0;

	if (amount > 0)
		taken = proration_take_back(posting, period, amount, &draws, &ndraws,
									&from_balance);
	if (taken > 0)
	{
		period->given -= taken;
		periods_changed(posting, period);
	}
	posting->main = log_add(posting, KIND_PLAN_CHANGE, posting->now,
							-from_balance, ndraws > 0 ? draws : NULL, ndraws);
	return taken;
}

/*
 * Returns the price of a number of a plan's credits, as a part of the price of a
 * period.
 */
Datum
proration_price(const PlanTerms *plan, int64 amount)
{
	if (plan->price == 0 || plan->credits == 0)
		return 0;
	return DirectFunctionCall2(numeric_round,
							   DirectFunctionCall2(numeric_div,
												   multiply(plan->price,
															number(amount)),
												   number(plan->credits)),
							   Int32GetDatum(PRICE_DIGITS));
}

/*
 * Gives credits of a period with a change of plan, whose transaction is the
 * posting's main one.  The account's limits may cut the amount, or forbid it:
 * then false is returned.
 */
bool
proration_give(Posting *posting, Period *period, const PlanTerms *plan,
			   int64 *amount)
{
	Entry	   *main = posting->main;
	int64		before = period->given;
	Entry	   *entry;

	if (*amount == 0)
		return true;
	entry = periods_give(posting, period, plan, *amount,
						 period->status == PERIOD_TRIAL ? (Datum) 0 :
						 proration_price(plan, *amount));
	*amount = period->given - before;
	posting->main = main;
	if (entry == NULL)
		return false;
	if (main)
	{
		entry->has_target = true;
		entry->target_id = main->id;
	}
	return true;
}
