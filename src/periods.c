/*
 * periods.c
 *	  The credits that a period of a subscription gives, leaves and rolls over.
 */
#include "credits.h"

#include "calendar.h"
#include "periods.h"
#include "subscriptions.h"

#include "access/stratnum.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/*
 * Makes the grant of a period and its transaction.  A grant whose time is over
 * expires at once, and then wakes nobody.
 */
static Entry *
give(Posting *posting, const Period *period, const PlanTerms *plan,
	 const char *source, int64 amount, Datum price, TimestampTz effective_at,
	 TimestampTz expires_at, bool rolled, Grant **made)
{
	TimestampTz due_at = posting->account.due_at;
	bool		over = expires_at <= posting->now;
	StringInfoData json;
	Grant	   *grant;
	Entry	   *entry;
	int64		given;

	grant = grants_new(posting, amount, cstring_to_text(source), effective_at,
					   expires_at);
	if (plan->priority >= 0)
		grant->priority = plan->priority;
	if (price)
	{
		grant->price = price;
		grant->currency = plan->currency;
	}
	given = grant->status == GRANT_PENDING ? 0 : amount;
	entry = log_add(posting, KIND_ALLOCATION, posting->now, given,
					grants_draw(grant, amount), 1);
	grant->transaction_id = entry->id;
	initStringInfo(&json);
	grants_add_terms(&json, grant);
	json_int64(&json, "subscription", period->subscription_id);
	json_time(&json, "period", period->starts_at);
	if (rolled)
		json_raw(&json, "rolled", "true");
	entry->terms = json_document(&json);
	if (over)
	{
		grant->status = GRANT_EXPIRED;
		grant->remaining = 0;
		log_add(posting, KIND_EXPIRATION, posting->now, -amount,
				grants_draw(grant, -amount), 1);
		posting->account.due_at = due_at;
	}
	*made = grant;
	return entry;
}

/*
 * Gives credits of a period as a grant of its own, at a price that is 0 if it
 * has none.  What the account's limits leave no room for is refused, or cut
 * off: then NULL is returned, or less is given.
 */
Entry *
periods_give(Posting *posting, Subscription *subscription, Period *period,
			 const PlanTerms *plan, int64 amount, Datum price)
{
	bool		over = period->ends_at <= posting->now;
	Grant	   *grant;
	Entry	   *entry;
	int64		granted;

	/* what is over at once never adds to the balance */
	if (!over && !caps_receive(posting, &amount, true))
		return NULL;
	if (pg_add_s64_overflow(posting->account.granted, amount, &granted))
	{
		refuse_overflow(posting, amount);
		return NULL;
	}
	entry = give(posting, period, plan, period->status == PERIOD_TRIAL ?
				 "trial" : "subscription", amount, price, period->starts_at,
				 period->ends_at, false, &grant);
	if (period->ngrants == 0)
	{
		period->transaction_id = entry->id;
		period->credits = amount;
		period->grant_ids = palloc(sizeof(int64));
	}
	else
		period->grant_ids = repalloc(period->grant_ids,
									 (period->ngrants + 1) * sizeof(int64));
	period->grant_ids[period->ngrants++] = grant->id;
	period->given += amount;
	if (over)
		period->unused = Max(period->unused, 0) + amount;
	periods_keep(posting, period);
	return entry;
}

/*
 * Tells whether a grant is one of a period's.
 */
static bool
is_grant_of(const Period *period, int64 grant_id)
{
	int			i;

	for (i = 0; i < period->ngrants; i++)
		if (period->grant_ids[i] == grant_id)
			return true;
	return false;
}

/*
 * Returns what a transaction says was left of a period's grants when they
 * expired.  What a refund gave back after that, and lost at once, is not.
 */
static int64
left_by(const Period *period, const Entry *entry)
{
	if (strcmp(entry->kind, KIND_EXPIRATION) == 0 && !entry->has_target &&
		entry->created_at == period->ends_at && entry->ndraws == 1 &&
		is_grant_of(period, entry->draws[0].grant_id))
		return -entry->draws[0].amount;
	return 0;
}

/*
 * Returns what was left of a period when it ended: settling has put that into
 * the log at that very instant, or is about to.
 */
static int64
unused_of(Posting *posting, Period *period)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	int64		unused = 0;
	int			i;

	if (period->unused >= 0 || period->ngrants == 0)
		return Max(period->unused, 0);
	for (i = 0; i < posting->nentries; i++)
		unused += left_by(period, posting->entries[i]);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(period->account_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(period->ends_at));
	store_scan(&scan, posting->store, &transactions_by_account_id,
			   posting->snapshot, keys, 2);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		entry;

		row_read_entry(slot, &entry);
		unused += left_by(period, &entry);
	}
	store_scan_end(&scan);
	return unused;
}

/*
 * Returns when credits expire that are rolled over into a period.
 */
static TimestampTz
rolled_until(const Subscription *subscription, const PlanTerms *rule,
			 const PlanTerms *plan, const Period *into)
{
	int64		n = into->number - subscription->first_number;

	if (rule->rollover_periods == 0)
		return DT_NOEND;
	/* a payment provider's periods need not be those of the calendar */
	if (calendar_start(subscription->anchor, subscription->timezone,
					   plan->period, plan->every, n) == into->starts_at)
		return calendar_start(subscription->anchor, subscription->timezone,
							  plan->period, plan->every,
							  n + rule->rollover_periods);
	return calendar_start(into->starts_at, subscription->timezone,
						  plan->period, plan->every, rule->rollover_periods);
}

/*
 * Cuts off what the account has no room for, if so much else is to be given to
 * it: what finds no room is not kept.
 */
static int64
fitting(Posting *posting, int64 rolled, int64 room)
{
	int64		both;
	int64		granted;

	if (pg_add_s64_overflow(rolled, room, &both))
		return 0;
	if (!caps_receive(posting, &both, true))
	{
		memset(&posting->refusal, 0, sizeof(Refusal));
		return 0;
	}
	if (pg_add_s64_overflow(posting->account.granted, both, &granted))
		return 0;
	return Max(both - room, 0);
}

/*
 * Rolls over what a period has left into the one that follows it, once, by the
 * plan that it ended with; the other plan is the one that counts the periods
 * from then on.  Room for so much is left in the account.  Returns what was
 * rolled over.
 */
int64
periods_roll(Posting *posting, Subscription *subscription, Period *period,
			 const Period *into, const PlanTerms *rule, const PlanTerms *plan,
			 int64 room)
{
	TimestampTz until;
	int64		rolled;
	int64		granted;
	Grant	   *grant;

	if (rule->rollover == ROLLOVER_NONE || period->rolled >= 0 ||
		period->status != PERIOD_GRANTED || period->ends_at > posting->now)
		return 0;
	period->unused = unused_of(posting, period);
	rolled = plans_rolled(rule, period->given, period->unused);
	until = rolled_until(subscription, rule, plan, into);
	if (rolled > 0 && until > posting->now)
		rolled = fitting(posting, rolled, room);
	else if (pg_add_s64_overflow(posting->account.granted, rolled, &granted))
		rolled = 0;
	period->rolled = rolled;
	if (rolled > 0)
	{
		(void) give(posting, period, rule, "subscription", rolled, (Datum) 0,
					period->ends_at, until, true, &grant);
		period->rolled_grant_id = grant->id;
	}
	periods_changed(posting, period);
	return rolled;
}

/*
 * Takes back what remains of a grant.
 */
static void
take_back(Posting *posting, int64 grant_id)
{
	Grant	   *grant = grants_get(posting, grant_id);
	int64		taken;
	Draw	   *draw;

	if (grant->status != GRANT_OPEN && grant->status != GRANT_PENDING)
		return;
	/* a pending grant is not in the balance yet */
	taken = grant->status == GRANT_PENDING ? 0 : grant->remaining;
	draw = grants_draw(grant, -grant->remaining);
	grant->remaining = 0;
	grant->status = GRANT_VOIDED;
	grant->changed = true;
	log_add(posting, KIND_VOID, posting->now, -taken, draw, 1);
}

/*
 * Takes back what remains of a subscription's grants, rolled ones included.
 */
void
periods_take_back(Posting *posting, const Subscription *subscription)
{
	ListCell   *lc;

	foreach(lc, periods_all(posting, subscription->id))
	{
		Period	   *period = lfirst(lc);
		int			i;

		for (i = 0; i < period->ngrants; i++)
			take_back(posting, period->grant_ids[i]);
		if (period->rolled_grant_id != 0)
			take_back(posting, period->rolled_grant_id);
	}
}
