/*
 * rollover.c
 *	  Rolling over what a period of a subscription has left into the next one.
 *
 * What a plan bounds is how much is rolled over from a period (rollover_maximum
 * or rollover_share), and how much there can be of what all periods have rolled
 * over (rollover_total).  If the latter is exceeded, what is oldest gives way.
 *
 * Tested in test/sql/renew.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"

#include "common/int.h"
#include "utils/builtins.h"

/*
 * Returns whether a grant is one of the period's own, or one that the period
 * before has rolled over, which is NULL if its own are meant.
 */
static bool
is_of(Posting *posting, const Period *period, const Period *before,
	  int64 grant_id)
{
	int			i;

	if (before == NULL)
		return grants_get(posting, grant_id)->group_id == period->grant_id;
	for (i = 0; i < before->nrolled; i++)
		if (before->rolled_grant_ids[i] == grant_id)
			return true;
	return false;
}

/*
 * Returns how much was left of the grants of a period when it ended, as far as a
 * transaction tells.  What a refund gave back later, which expired at once, was
 * not left.
 */
static int64
left_by(Posting *posting, const Period *period, const Period *before,
		const Entry *entry)
{
	if (entry->kind != KIND_EXPIRATION || entry->has_target ||
		entry->created_at != period->ends_at || entry->ndraws != 1 ||
		!is_of(posting, period, before, entry->draws[0].grant_id))
		return 0;
	return -entry->draws[0].amount;
}

/*
 * Returns how much a period had left when it ended: of its own grants or, unless
 * that is NULL, of those that the period before has rolled over into it.  This is
 * in the log, with the instant of its end, or among the entries of this posting:
 * the account was settled first.
 */
static int64
left_of(Posting *posting, const Period *period, const Period *before)
{
	StoreScan	scan;
	Entry		entry;
	int64		left = 0;
	int			i;

	if (before ? before->nrolled == 0 : period->grant_id == 0)
		return 0;
	for (i = 0; i < posting->nentries; i++)
		left += left_by(posting, period, before, posting->entries[i]);
	scan_begin_ids(&scan, posting->store, &log_by_account_id,
				   posting->snapshot, PG_INT64_MIN,
				   posting->account.stored.last_transaction_id,
				   BY_INT64(period->account_id), BY_TIME(period->ends_at));
	while (scan_peek(&scan, BackwardScanDirection, &entry))
		left += left_by(posting, period, before, &entry);
	scan_end(&scan);
	return left;
}

/*
 * Returns how much of its own credits a period had left when it ended.
 */
int64
rollover_unused(Posting *posting, const Period *period)
{
	return period->unused >= 0 ? period->unused :
		left_of(posting, period, NULL);
}

/*
 * Returns how much of that is still due: what was claimed back since, because it
 * was not due or its money was paid back, is not.  A claim counts first what the
 * grants have lost otherwise, such as what was voided: that was not left.
 */
static int64
rollover_left(Posting *posting, const Period *period)
{
	int64		left = rollover_unused(posting, period);
	int64		lost;

	/* a late renewal gives many, of which nothing can be claimed yet */
	if (left == 0 ||
		(period->granted < 0 && !ItemPointerIsValid(&period->tid)))
		return left;
	(void) groups_read(posting, period->grant_id, GROUP_LOST, left, &lost);
	return Min(left, lost);
}

/*
 * Finds out how much a period has left that was rolled over into it.  What is
 * rolled over into it after that, because the period before was paid late, is
 * added then.
 */
static void
count_again(Posting *posting, Period *period)
{
	Period	   *before;

	if (period->again >= 0)
		return;
	before = periods_before(posting, period->subscription_id,
							period->starts_at);
	period->again = 0;
	if (before && before->ends_at == period->starts_at)
		period->again = left_of(posting, period, before);
	periods_changed(posting, period);
}

/*
 * Returns how much of what was rolled over into a period, and left when it ended,
 * is still due: what was claimed back since is not.
 */
static int64
again_left(Posting *posting, const Period *period)
{
	const Period *before;
	int64		left = 0;
	int			i;

	if (period->again <= 0)
		return 0;
	before = periods_before(posting, period->subscription_id,
							period->starts_at);
	for (i = 0; before && i < before->nrolled; i++)
	{
		int64		id = before->rolled_grant_ids[i];

		CHECK_FOR_INTERRUPTS();
		left += grants_get(posting, id)->lost - debts_gone(posting, id);
	}
	return Min(period->again, Max(left, 0));
}

/*
 * Returns how much a period had left when it ended that can be rolled over.
 */
int64
rollover_available(Posting *posting, Period *period, const PlanTerms *rule)
{
	int64		left;

	if (period->unused < 0)
	{
		period->unused = rollover_unused(posting, period);
		periods_changed(posting, period);
	}
	left = rollover_left(posting, period);
	if (rule->rollover_again)
	{
		count_again(posting, period);
		if (pg_add_s64_overflow(left, again_left(posting, period), &left))
			left = PG_INT64_MAX;
	}
	return left;
}

/*
 * Returns when credits that are rolled over into a period expire.
 */
static TimestampTz
rolled_until(const Subscription *subscription, const PlanTerms *rule,
			 const PlanTerms *plan, const Period *into)
{
	int64		n;

	if (rule->rollover_periods == 0)
		return DT_NOEND;
	if (rule->rollover_periods == 1)
		return into->ends_at;
	n = into->number - subscription->first_number;
	/* the periods of a payment provider need not follow the calendar */
	if (calendar_start(subscription->anchor, subscription->timezone,
					   plan->period, plan->every, n) == into->starts_at)
		return calendar_start(subscription->anchor, subscription->timezone,
							  plan->period, plan->every,
							  n + rule->rollover_periods);
	return calendar_start(into->starts_at, subscription->timezone,
						  plan->period, plan->every, rule->rollover_periods);
}

/*
 * Returns how much of an amount can be rolled over if the account is to have
 * room for the new period's credits, too.
 */
static int64
fitting(Posting *posting, int64 rolled, int64 room)
{
	int64		both;
	int64		granted;

	if (pg_add_s64_overflow(rolled, room, &both))
		return 0;
	if (!limit_rules_receive(posting, &both, true))
	{
		memset(&posting->refusal, 0, sizeof(Refusal));
		return 0;
	}
	if (pg_add_s64_overflow(posting->account.granted, both, &granted))
		return 0;
	return Max(both - room, 0);
}

/*
 * Returns whether a grant is one that a subscription has rolled over.
 */
static bool
is_rolled(Posting *posting, int64 subscription_id, const Grant *grant)
{
	Entry	   *entry = NULL;
	Entry		stored;
	int64		id;
	int			i;

	if (strcmp(text_to_cstring(grant->source), "subscription") != 0)
		return false;
	for (i = 0; i < posting->nentries && entry == NULL; i++)
		if (posting->entries[i]->id == grant->transaction_id)
			entry = posting->entries[i];
	if (entry == NULL &&
		rows_find_entry(posting->store, posting->snapshot,
						grant->transaction_id, &stored))
		entry = &stored;
	return entry && terms_get(entry, "rolled") &&
		terms_int64(entry, "subscription_id", &id) && id == subscription_id;
}

/*
 * Orders grants that were rolled over: those of later periods first.
 */
static int
compare_rolled(const ListCell *a, const ListCell *b)
{
	const Grant *x = lfirst(a);
	const Grant *y = lfirst(b);

	if (x->effective_at != y->effective_at)
		return x->effective_at > y->effective_at ? -1 : 1;
	return x->id > y->id ? -1 : 1;
}

/*
 * Takes back what is too much of a grant that was rolled over.
 */
static void
void_rolled(Posting *posting, const Period *period, Grant *grant, int64 amount)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "subscription_id", period->subscription_id);
	json_bool(&json, "rolled", true);
	periods_void(posting, grant, amount, json_document(&json));
}

/*
 * Takes from what a subscription has rolled over earlier as much as is too much
 * once an amount is rolled over from a period.  What comes from later periods
 * stays, so that it makes no difference in which order they are paid.  Returns
 * how much of the amount itself may stay.
 */
static int64
trim(Posting *posting, const Period *period, int64 total, int64 amount)
{
	List	   *rolled = NIL;
	int64		room = total;
	int64		stays = -1;
	ListCell   *lc;
	int			i;

	burn_load(posting);
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->remaining > 0 &&
			posting->grants[i]->status == GRANT_OPEN &&
			is_rolled(posting, period->subscription_id, posting->grants[i]))
			rolled = lappend(rolled, posting->grants[i]);
	list_sort(rolled, compare_rolled);
	foreach(lc, rolled)
	{
		Grant	   *grant = lfirst(lc);

		if (stays < 0 && grant->effective_at <= period->ends_at)
		{
			stays = Min(amount, room);
			room -= stays;
		}
		if (grant->remaining > room)
			void_rolled(posting, period, grant, grant->remaining - room);
		room -= grant->remaining;
	}
	return stays < 0 ? Min(amount, room) : stays;
}

/*
 * Gives what is rolled over from a period.
 */
static Grant *
give_rolled(Posting *posting, Period *period, const PlanTerms *rule,
			int64 amount, TimestampTz until)
{
	Grant	   *grant;

	(void) periods_give_grant(posting, period, rule, "subscription", amount,
							  (Datum) 0, period->ends_at, until, "rolled",
							  &grant);
	grant->rolled = true;
	period->rolled_grant_ids = period->nrolled == 0 ? palloc(sizeof(int64)) :
		repalloc(period->rolled_grant_ids,
				 (period->nrolled + 1) * sizeof(int64));
	period->rolled_grant_ids[period->nrolled++] = grant->id;
	return grant;
}

/*
 * Returns by how much more a period has rolled over than it would if that was
 * decided now.
 */
int64
rollover_excess(Posting *posting, const Subscription *subscription,
				const Period *period)
{
	const PlanTerms *rule = plan_history_before(posting, subscription,
												period->ends_at);
	int64		left = rollover_left(posting, period);

	if (rule->rollover_again &&
		pg_add_s64_overflow(left, again_left(posting, period), &left))
		left = PG_INT64_MAX;
	return Max(period->rolled - plans_rolled(rule, period->given, left), 0);
}

/*
 * Rolls over what a period has left into the one that follows it.  rule is the
 * plan that the period ended with, plan the one whose calendar counts from then
 * on.  room is how much the new period is going to give.  What lives for ever
 * needs no period that follows: then into may be NULL.
 *
 * It is done once, and for a second time only if the plan rolls credits over
 * again and the period before was paid late: then what that one rolls over may
 * have to go on, from period to period, up to the current one.
 */
void
rollover_period(Posting *posting, const Subscription *subscription,
				Period *period, Period *into, const PlanTerms *rule,
				const PlanTerms *plan, int64 room)
{
	Grant	   *grant;

	while (rule->rollover != ROLLOVER_NONE &&
		   period->status == PERIOD_GRANTED && period->ends_at <= posting->now)
	{
		TimestampTz until = rolled_until(subscription, rule, plan, into);
		bool		over = until <= posting->now;
		int64		total = rule->rollover_total == NO_LIMIT ?
			PG_INT64_MAX : rule->rollover_total;
		int64		before = Max(period->rolled, 0);
		int64		stays;
		int64		rolled;
		int64		granted;

		rolled = plans_rolled(rule, period->given,
							  rollover_available(posting, period, rule)) - before;
		stays = rolled;
		if (over &&
			pg_add_s64_overflow(posting->account.granted, rolled, &granted))
			rolled = 0;
		if (!over && rolled > 0)
		{
			if (total < PG_INT64_MAX)
				stays = trim(posting, period, total, rolled);
			rolled = fitting(posting, rolled, room);
		}
		period->rolled = before + Max(rolled, 0);
		periods_changed(posting, period);
		if (rolled <= 0)
			break;
		/* what is there already counts before what is given now */
		if (over)
			count_again(posting, into);
		grant = give_rolled(posting, period, rule, rolled, until);
		if (!over)
		{
			if (rolled > stays)
				void_rolled(posting, period, grant, rolled - stays);
			break;
		}

		/* it is a part of what the next period had left */
		into->again += Min(period->rolled, total) - Min(before, total);
		periods_changed(posting, into);
		if (into->rolled < 0)
			break;
		period = into;
		into = periods_in(posting, period->subscription_id, period->ends_at);
		if (into == NULL || into->status != PERIOD_GRANTED)
			break;
		rule = plan_history_before(posting, subscription, period->ends_at);
		plan = plans_get(into->plan_id);
		if (!rule->rollover_again)
			break;
	}
}
