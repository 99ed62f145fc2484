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
 * The entitlement follows from all rows of credits.plan_changes within the
 * period, and what was given is then brought to it.  So neither the order in
 * which changes become known matters, nor how often a plan is changed back and
 * forth.  No more is taken back than remains of the period's grants.
 *
 * What the rows come to is kept in the row of the period, so that a change which
 * is later than all others reads none of them.
 *
 * A period is whole if it is as long as the calendar says.  The first one may be
 * shorter.
 *
 * Tested in test/sql/plan_changes.sql and test/t/plan_changes.pl.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/paid_parts.h"
#include "subscribe/part_periods.h"
#include "subscribe/proration.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* A change of plan within a period */
typedef struct Turn
{
	TimestampTz at;
	int64		credits;		/* of a whole period of the new plan */
	Proration	proration;
	bool		ends;			/* does the period end with it? */
} Turn;

/* What a period earns, by some of the changes within it */
typedef struct Earning
{
	Datum		earned;			/* numeric, credits times seconds */
	int64		rate;			/* credits of a whole period, from then on */
	TimestampTz since;
	bool		over;			/* has a change ended it? */
} Earning;

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
 * Adds a change to what a period has earned by the changes before it.
 */
static void
add_turn(Earning *earning, TimestampTz starts_at, const Turn *turn)
{
	if (turn->proration == PRORATE_NONE || earning->over)
		return;
	if (turn->ends || turn->proration == PRORATE_BY_TIME)
		earning->earned = add(earning->earned,
							  multiply(number(earning->rate),
									   seconds(earning->since, turn->at)));
	else
		earning->earned = multiply(number(turn->credits),
								   seconds(starts_at, turn->at));
	earning->since = turn->at;
	earning->rate = turn->ends ? 0 : turn->credits;
	earning->over = turn->ends;
}

/*
 * Computes the entitlement of a period from what it has earned by the changes
 * within it.
 */
static void
entitle(Entitlement *e, const Earning *earning, TimestampTz until, int64 whole,
		Datum carried)
{
	Datum		earned = add(earning->earned,
							 multiply(number(earning->rate),
									  seconds(earning->since, until)));

	e->whole = number(whole);
	e->earned = subtract(earned, multiply(carried, e->whole));
}

/*
 * Computes the entitlement of a period within which the plan does not change.
 */
void
proration_unchanged(Entitlement *e, TimestampTz starts_at, TimestampTz ends_at,
					int64 credits, Datum carried)
{
	Earning		earning = {number(0), credits, starts_at};

	entitle(e, &earning, ends_at, (ends_at - starts_at) / USECS_PER_SEC,
			carried);
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
 * Begins what a period earns, before any change of plan.
 */
static Earning
begin_earning(const Period *period)
{
	const PlanTerms *plan = plans_get(period->plan_id);

	return (Earning)
	{
		number(0), period->status == PERIOD_TRIAL ? plan->trial_credits :
			plan->credits, period->starts_at
	};
}

/*
 * Adds a change of plan to what a period earns.
 */
static void
add_change(Earning *earning, const Period *period, const PlanChanged *note)
{
	const PlanTerms *next = plans_get(note->plan_id);
	bool		trial = period->status == PERIOD_TRIAL;
	Turn		turn;

	/* a period can be given before it begins */
	turn.at = Max(note->at, period->starts_at);
	turn.credits = trial ? next->trial_credits : next->credits;
	/* a plan without a trial leaves one as it is */
	turn.proration = trial && next->trial == NULL ? PRORATE_NONE :
		note->proration;
	/* a trial lasts as long as it was to last when it began */
	turn.ends = !trial &&
		!proration_same_length(plans_get(period->plan_id), next);
	add_turn(earning, period->starts_at, &turn);
}

/*
 * Is a change the one with which a period began?  Those before it, at the same
 * instant, do not count.
 */
static bool
begins(const PlanChanged *note, const Period *period)
{
	return note->at == period->starts_at && note->carried != 0;
}

/*
 * Returns since when changes of plan count in a period.  One that was paid before
 * it began has the plan of then: what has changed since counts from its start.
 */
static TimestampTz
changes_from(Store *store, Snapshot snapshot, const Period *period)
{
	PartRow		paid;

	if (period->granted >= 0 &&
		scan_find(store, &paid_parts_by_end, snapshot, &paid,
				  BY_INT64(period->subscription_id), BY_TIME(period->ends_at),
				  BY_TEXT(cstring_to_text(PAID_REFERENCE))))
		return Min(paid.part.settled_at, period->starts_at);
	return period->starts_at;
}

/*
 * Adds all changes of plan that count in a period to what it earns: those that are
 * stored, and a new one unless that is NULL.  Sets carried to the surplus of an
 * earlier period that counts as given in this one, and last to the last change
 * that counts.
 */
static void
add_changes(Posting *posting, const Period *period, TimestampTz until,
			PlanChanged *new, Earning *earning, Datum *carried,
			TimestampTz *last)
{
	List	   *notes = plan_history_read(posting->store, posting->snapshot,
										  period->subscription_id,
										  changes_from(posting->store,
													   posting->snapshot,
													   period));
	ListCell   *lc;

	if (new)
	{
		notes = lappend(notes, new);
		list_sort(notes, compare_notes);
	}
	*earning = begin_earning(period);
	foreach(lc, notes)
	{
		const PlanChanged *note = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (begins(note, period))
		{
			*carried = note->carried;
			*earning = begin_earning(period);
			*last = note->at;
			continue;
		}

		/*
		 * up to the new change, those at the same instant that precede it
		 * count
		 */
		if (until < period->ends_at ? note == new : note->at >= until)
			break;
		add_change(earning, period, note);
		*last = note->at;
	}
}

/*
 * Computes the entitlement of a period up to a given time, from the plan changes
 * within it: those that are stored, and a new one unless that is NULL.  Sets
 * carried to the surplus of an earlier period that counts as given in this one.
 */
void
proration_entitle(Posting *posting, const Subscription *subscription,
				  Period *period, TimestampTz until, PlanChanged *new,
				  Entitlement *e, Datum *carried)
{
	int64		whole = (period->ends_at - period->starts_at) / USECS_PER_SEC;
	TimestampTz last = DT_NOBEGIN;
	Earning		earning;
	PlanChanged first;

	*carried = 0;
	if (new && period->earned != 0 && new->at > period->changed_at)
	{
		/* what came before is known */
		earning = (Earning)
		{
			period->earned, period->earning, period->earning_since
		};
		if (plan_history_find_begun(posting, period->subscription_id,
									period->starts_at, &first))
			*carried = first.carried;
		if (until == period->ends_at)
			add_change(&earning, period, new);
		last = new->at;
	}
	else
		add_changes(posting, period, until, new, &earning, carried, &last);
	if (new && until == period->ends_at &&
		(earning.over || new->at < period->starts_at))
		periods_forget_changes(posting, period);
	else if (new && until == period->ends_at)
	{
		period->changed_at = last;
		period->earned = earning.earned;
		period->earning = earning.rate;
		period->earning_since = earning.since;
		periods_changed(posting, period);
	}
	if (*carried == 0)
	{
		*carried = number(0);
		if (period->status != PERIOD_TRIAL)
			whole = whole_seconds(posting, subscription, period,
								  plans_get(period->plan_id));
	}
	entitle(e, &earning, until, whole, *carried);
}

/*
 * Returns whether what is kept of the changes of plan within a period is what the
 * rows of those come to.
 */
bool
proration_is_kept(Snapshot snapshot, const Period *period)
{
	Earning		earning = begin_earning(period);
	TimestampTz last = DT_NOBEGIN;
	ListCell   *lc;

	if (period->earned == 0)
		return period->changed_at == DT_NOBEGIN;
	foreach(lc, plan_history_read(NULL, snapshot, period->subscription_id,
								  changes_from(NULL, snapshot, period)))
	{
		const PlanChanged *note = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (note->at >= period->ends_at)
			break;
		last = note->at;
		if (begins(note, period))
			earning = begin_earning(period);
		else
			add_change(&earning, period, note);
	}
	return last == period->changed_at && !earning.over &&
		earning.rate == period->earning &&
		earning.since == period->earning_since &&
		compare(earning.earned, period->earned) == 0;
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
	List	   *grants;
	int64		left;
	int64		taken = 0;
	ListCell   *lc;

	*ndraws = 0;
	*from_balance = 0;
	if (period->refunded)
		period_claims_free(posting, period, amount);
	grants = groups_read(posting, period->grant_id, GROUP_LEFT, amount, &left);
	*draws = palloc(Max(list_length(grants), 1) * sizeof(Draw));
	foreach(lc, grants)
	{
		Grant	   *grant = lfirst(lc);
		bool		open = grant->status == GRANT_OPEN;
		int64		part;

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
		period->withdrawn += taken;
		periods_changed(posting, period);
	}
	posting->main = log_add(posting, KIND_PLAN_CHANGE, posting->now,
							-from_balance, ndraws > 0 ? draws : NULL, ndraws);
	if (taken > 0 && period->refunded)
		period_claims_lost(posting, period, taken);
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
