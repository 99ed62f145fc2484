/*
 * grace.c
 *	  Grace: what a period has left lives on while the next one is not paid.
 *
 * When the period ends, what it has left is given once more, as a grant that
 * expires with the plan's grace.  When the next period is given, that ends, and
 * it is as if it had been given in time: what the period had left when it ended
 * is rolled over, and what was spent meanwhile is taken from the new credits, in
 * the order in which they would have burnt.
 *
 * Tested in test/sql/grace.sql and test/t/grace.pl.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/grace.h"
#include "subscribe/plan_history.h"

#include "common/int.h"

/*
 * Returns whether a period's credits live on at the given time, as far as it is
 * known what comes next, and sets until when.  rule is the plan that the period
 * ended with.
 */
bool
grace_applies(const Posting *posting, const Subscription *s,
			  const Period *period, const PlanTerms *rule, TimestampTz *until)
{
	if (rule->grace == NULL || period->status != PERIOD_GRANTED ||
		period->ends_at > posting->now || s->cancel_at <= period->ends_at)
		return false;
	if (s->status != SUBSCRIPTION_PAST_DUE &&
		!(s->status == SUBSCRIPTION_ACTIVE && s->by_payment))
		return false;
	*until = calendar_after(s->timezone, period->ends_at, rule->grace);
	return *until > posting->now;
}

/*
 * Gives what a period has left once more, unless that has been done.
 */
void
grace_give(Posting *posting, Period *period, const PlanTerms *rule,
		   TimestampTz until)
{
	int64		amount;
	int64		granted;
	Grant	   *grant;

	if (period->grace_grant_id != 0 || period->rolled >= 0)
		return;
	amount = rollover_available(posting, period, rule);
	if (amount == 0 ||
		pg_add_s64_overflow(posting->account.granted, amount, &granted))
		return;
	if (!limit_rules_receive(posting, &amount, true))
	{
		memset(&posting->refusal, 0, sizeof(Refusal));
		return;
	}
	(void) periods_give_grant(posting, period, rule, "subscription", amount,
							  (Datum) 0, period->ends_at, until, "grace",
							  &grant);
	period->grace_grant_id = grant->id;
	periods_changed(posting, period);
}

/*
 * Takes back up to an amount of what remains of grants, because the grace of a
 * period is over or was used.  Returns how much.
 */
static int64
take_in_grace(Posting *posting, const Period *period, List *grants, int64 amount)
{
	int64		taken = 0;
	ListCell   *lc;

	foreach(lc, grants)
	{
		Grant	   *grant = lfirst(lc);
		int64		part = Min(grant->remaining, amount - taken);
		JsonObject	json;

		if (part == 0)
			continue;
		json_begin(&json);
		json_int64(&json, "subscription_id", period->subscription_id);
		json_time(&json, "period_start", period->starts_at);
		json_bool(&json, "grace", true);
		periods_void(posting, grant, part, json_document(&json));
		taken += part;
	}
	return taken;
}

/*
 * Adds a grant to a list, if it is open or pending.
 */
static List *
add_open(List *list, Posting *posting, int64 grant_id)
{
	Grant	   *grant = grants_get(posting, grant_id);

	return grant->status == GRANT_OPEN || grant->status == GRANT_PENDING ?
		lappend(list, grant) : list;
}

/*
 * Orders grants as they burn.
 */
static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return burn_compare(lfirst(a), lfirst(b));
}

/*
 * Ends the grace of a period.
 */
void
grace_end(Posting *posting, const Period *period)
{
	if (period->grace_grant_id != 0)
		(void) take_in_grace(posting, period,
							 add_open(NIL, posting, period->grace_grant_id),
							 PG_INT64_MAX);
}

/*
 * Counts what was spent in a period's grace against what was rolled over from it
 * and against the period that follows; that is NULL if none does.
 */
void
grace_count(Posting *posting, Period *period, Period *into)
{
	Grant	   *grant;
	List	   *open;
	int64		spent;
	int64		left;
	int64		part;
	int			i;

	if (period->grace_grant_id == 0)
		return;
	grant = grants_get(posting, period->grace_grant_id);
	spent = debts_used(posting, grant);
	left = spent - Max(period->grace_spent, 0);
	if (left <= 0)
		return;
	open = NIL;
	for (i = 0; i < period->nrolled; i++)
		open = add_open(open, posting, period->rolled_grant_ids[i]);
	if (into && into->ends_at <= posting->now)
	{
		/* its credits were there and are not any more */
		part = open == NIL ? Min(left, Max(period->rolled, 0)) : 0;
		into->again -= Min(part, Max(into->again, 0));
		left -= part;
		part = Min(left, Max(into->unused, 0));
		if (part > 0)
			into->unused -= part;
		left -= part;
		periods_changed(posting, into);
	}
	else if (into)
		open = list_concat(open,
						   groups_read(posting, into->grant_id, GROUP_LEFT,
									   PG_INT64_MAX, &part));
	list_sort(open, compare_cells);
	part = take_in_grace(posting, period, open, left);
	period->grace_spent = into ? spent : Max(period->grace_spent, 0) + part;
	periods_changed(posting, period);
}
