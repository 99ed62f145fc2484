/*
 * changes_period.c
 *	  The plan changes of a subscription, and what they do to the credits of a
 *	  period.
 *
 * What a period entitles to is folded from all rows of credits.plan_changes
 * inside it, and what has been given is brought up, or down, to that: so it
 * does not matter in which order changes become known, nor how often a plan is
 * changed and changed back.  Never is more taken than remains of the grants of
 * the period.
 *
 * A period is whole if it lasts as long as the calendar says; the first one may
 * not be.
 */
#include "credits.h"

#include "changes.h"
#include "numbers.h"
#include "periods.h"
#include "plans.h"
#include "subscriptions.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* digits after the point of what part of a period's credits costs */
#define PRICE_DIGITS 6

static StoreIndex plan_changes_by_at = {&plan_changes_table, "plan_changes_pkey"};

/* ------------------------------------------------------------------------
 * rows of credits.plan_changes
 */

/*
 * Reads the plan changes of a subscription from an instant on, in order.
 */
List *
changes_read(Posting *posting, int64 subscription_id, TimestampTz from)
{
	List	   *notes = NIL;
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	store_scan(&scan, posting->store, &plan_changes_by_at, posting->snapshot,
			   keys, 2);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		PlanChanged *note = palloc0(sizeof(PlanChanged));
		Datum	   *values;

		slot_getallattrs(slot);
		values = slot->tts_values - 1;	/* by column number */
		note->subscription_id = subscription_id;
		note->at = DatumGetTimestampTz(values[Anum_plan_changes_at]);
		note->reference =
			TextDatumGetCString(values[Anum_plan_changes_reference]);
		note->plan_id = DatumGetInt64(values[Anum_plan_changes_plan_id]);
		note->proration =
			TextDatumGetCString(values[Anum_plan_changes_proration]);
		if (!slot->tts_isnull[Anum_plan_changes_carried - 1])
			note->carried =
				NumericGetDatum(DatumGetNumericCopy(values[Anum_plan_changes_carried]));
		notes = lappend(notes, note);
	}
	store_scan_end(&scan);
	return notes;
}

/*
 * Orders plan changes.
 */
static int
compare_notes(const ListCell *a, const ListCell *b)
{
	const PlanChanged *x = lfirst(a);
	const PlanChanged *y = lfirst(b);

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	/* one that goes by its transaction comes after those before it */
	if (x->reference == NULL || y->reference == NULL)
		return x->reference == NULL ? 1 : -1;
	/* byte by byte, as the index does */
	return strcmp(x->reference, y->reference);
}

/* ------------------------------------------------------------------------
 * what a period entitles to
 */

/*
 * Tells whether the periods of two plans have the same length.
 */
bool
changes_same_length(const PlanTerms *a, const PlanTerms *b)
{
	return strcmp(a->period, b->period) == 0 && a->every == b->every;
}

/*
 * Returns how many seconds a whole period has where this one is, which no change
 * of plan began.
 */
static int64
whole_seconds(Posting *posting, const Subscription *subscription,
			  const Period *period, const PlanTerms *plan)
{
	TimestampTz from = period->starts_at;

	/* the first one can begin within a period of the calendar */
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
 * Finds out what a period entitles to up to an instant, by the plan changes
 * inside it: those stored, and one that is about to be, or NULL.
 */
void
changes_entitle(Posting *posting, const Subscription *subscription,
				 const Period *period, TimestampTz until, PlanChanged *new,
				 Entitlement *e, Datum *carried)
{
	const PlanTerms *plan = plans_get(period->plan_id);
	List	   *notes = changes_read(posting, subscription->id,
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

		/* what came before the change that it began with is not in it */
		if (note->at == period->starts_at && note->carried != 0)
		{
			*carried = note->carried;
			anew = true;
			nturns = 0;
			continue;
		}
		/* those of the same instant that came before one count */
		if (until < period->ends_at ? note == new : note->at >= until)
			break;
		turns[nturns++] = (Turn) {
			note->at, next->credits,
			changes_proration(note->proration),
			!changes_same_length(plan, next)
		};
	}
	if (!anew)
		whole = whole_seconds(posting, subscription, period, plan);
	changes_fold(e, period->starts_at, until, whole, plan->credits, *carried,
				 turns, nturns);
}

/*
 * Takes back up to an amount from what remains of a period's grants, the last
 * given first.  Sets what that takes from the balance, which has nothing of
 * grants that are not effective yet.
 */
static int64
take_back(Posting *posting, Period *period, int64 amount, Draw **draws,
		  int *ndraws, int64 *from_balance)
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
		taken += part;
		if (open)
			*from_balance += part;
	}
	return taken;
}

/*
 * Logs a change of plan, and takes back up to an amount of a period's credits
 * with it.  Returns what was taken.
 */
int64
changes_log(Posting *posting, Period *period, int64 amount)
{
	Draw	   *draws = NULL;
	int			ndraws = 0;
	int64		from_balance = 0;
	int64		taken = 0;

	if (amount > 0)
		taken = take_back(posting, period, amount, &draws, &ndraws,
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
 * Returns what so many credits of a plan cost, at its price for a period.
 */
static Datum
price_of(const PlanTerms *plan, int64 amount)
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
 * main one, and sets how many it has given.  Returns false if the account's
 * limits forbid it.
 */
bool
changes_give(Posting *posting, Subscription *subscription, Period *period,
			 const PlanTerms *plan, int64 *amount)
{
	Entry	   *main = posting->main;
	int64		before = period->given;
	Entry	   *entry;

	if (*amount == 0)
		return true;
	entry = periods_give(posting, subscription, period, plan, *amount,
						 price_of(plan, *amount));
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

/*
 * Gives or takes back what the changes inside a period make of it, once the
 * period's own credits have been given.
 */
void
changes_follow(Posting *posting, Subscription *subscription, Period *period)
{
	Entry	   *main = posting->main;
	Entitlement e;
	Datum		carried;
	int64		amount;

	if (period->status != PERIOD_GRANTED || period->ends_at <= posting->now)
		return;
	changes_entitle(posting, subscription, period, period->ends_at, NULL, &e,
					&carried);
	amount = changes_to_give(&e, period->given);
	if (!changes_give(posting, subscription, period,
					  plans_get(subscription->plan_id), &amount))
		memset(&posting->refusal, 0, sizeof(Refusal));
	amount = changes_to_take(&e, period->given);
	if (amount > 0)
	{
		StringInfoData json;

		amount = changes_log(posting, period, amount);
		initStringInfo(&json);
		json_int64(&json, "subscription", subscription->id);
		json_time(&json, "period_start", period->starts_at);
		json_int64(&json, "taken", amount);
		posting->main->terms = json_document(&json);
		posting->main = main;
	}
}
