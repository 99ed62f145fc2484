/*
 * period_claims.c
 *	  What is claimed from the grants of a period.
 *
 * What is claimed of a period is a total.  How it is spread over the grants of the
 * period follows from the total and from what was used, so that the outcome does
 * not depend on the order of claims (see debts.c).
 *
 * A subscription that changes often has ever more grants in one period, so a change
 * of the total moves the difference, and looks at no other grants than those that
 * it is taken from, or given back to.  Of grants that expire together, only what is
 * claimed of all of them counts for the outcome.  Grants of what was paid late
 * expire later, each at its own time: then it is claimed from those that expire
 * last, and released from those that expire first.  What a refund gave back, or a
 * new grant, may call for more to move; grants are read from both ends of that
 * order until there is nothing to move.
 *
 * Tested in test/sql/paid_parts.sql, how long it takes in test/t/scale.pl.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/part_periods.h"
#include "subscribe/plan_history.h"

#include "miscadmin.h"

/* What can be claimed from a grant of a period */
typedef struct Claimable
{
	Grant	   *grant;
	TimestampTz until;			/* when it expires, or was to */
	int64		used;
	int64		claimed;		/* before */
	int64		least;			/* between these two, in any case */
	int64		most;
	int64		claim;
} Claimable;

/*
 * qsort comparator: those that expire last come first, and of these those that
 * were given last.
 */
static int
compare_claimables(const void *a, const void *b)
{
	const Claimable *x = a;
	const Claimable *y = b;

	if (x->until != y->until)
		return x->until > y->until ? -1 : 1;
	return x->grant->id > y->grant->id ? -1 : x->grant->id < y->grant->id;
}

/*
 * Decides how much of a total is claimed from each of some grants that expire
 * together.  For the outcome, only the sum matters; claims move as little as
 * possible.
 */
static void
claim_alike(Claimable *claims, int n, int64 total)
{
	int64		sum = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		claims[i].claim = Max(Min(claims[i].claimed, claims[i].most),
							  claims[i].least);
		sum = plus(sum, claims[i].claim);
	}
	for (i = 0; i < n && sum < total; i++)
	{
		int64		more = Min(total - sum, claims[i].most - claims[i].claim);

		claims[i].claim += more;
		sum += more;
	}
	for (i = n - 1; i >= 0 && sum > total; i--)
	{
		int64		less = Min(sum - total, claims[i].claim - claims[i].least);

		claims[i].claim -= less;
		sum -= less;
	}
}

/*
 * Sets the total that is claimed from some grants.  What was not used is claimed
 * first: only a total above that makes a debt.
 */
static void
spread_claims(Posting *posting, List *grants, int64 total)
{
	int			ngrants = list_length(grants);
	Claimable  *claims = palloc0(Max(ngrants, 1) * sizeof(Claimable));
	int64		unused = 0;
	bool		owes;
	int			i;
	int			n;

	for (i = 0; i < ngrants; i++)
	{
		Claimable  *c = &claims[i];

		c->grant = list_nth(grants, i);
		c->until = grants_lasts_until(c->grant);
		c->used = debts_used(posting, c->grant);
		c->claimed = debts_claimed(posting, c->grant->id);
		unused = plus(unused, c->grant->amount - c->used);
	}
	owes = total > unused;
	qsort(claims, ngrants, sizeof(Claimable), compare_claimables);
	for (i = 0; i < ngrants; i += n)
	{
		int64		least = 0;
		int64		most = 0;
		int64		part;

		for (n = 0; i + n < ngrants && claims[i + n].until == claims[i].until;
			 n++)
		{
			Claimable  *c = &claims[i + n];

			CHECK_FOR_INTERRUPTS();
			c->least = owes ? c->grant->amount - c->used : 0;
			c->most = owes ? c->grant->amount : c->grant->amount - c->used;
			least = plus(least, c->least);
			most = plus(most, c->most);
		}
		if (owes)
			unused -= least;
		/* leave what is claimed of the others in any case */
		part = Min(most, total - (owes ? unused : 0));
		claim_alike(&claims[i], n, part);
		total -= part;
	}
	/* what is waived first need not be owed */
	for (i = 0; i < ngrants; i++)
		if (claims[i].claim < claims[i].claimed)
			(void) debts_claim(posting, claims[i].grant, claims[i].claim);
	for (i = 0; i < ngrants; i++)
		if (claims[i].claim > claims[i].claimed)
			(void) debts_claim(posting, claims[i].grant, claims[i].claim);
}

/*
 * Returns how much of what the grants of a period gave was not used: as much as
 * is enough, or all of it if that is less.
 */
int64
period_claims_unused(Posting *posting, const Period *period, int64 enough)
{
	int64		unused = period->claimed;
	int64		part;

	if (unused > 0)
		unused -= debts_of_group(posting, period->grant_id);
	if (unused < enough)
	{
		(void) groups_read(posting, period->grant_id, GROUP_LEFT,
						   enough - unused, &part);
		unused = plus(unused, part);
	}
	if (unused < enough)
	{
		(void) groups_read(posting, period->grant_id, GROUP_LOST,
						   enough - unused, &part);
		unused = plus(unused, part);
	}
	return Min(unused, enough);
}

/*
 * Claims an amount more from some grants, as far as they have a part, or less if
 * it is negative.  Returns how much is still missing: what has come back to a
 * grant after others paid what it owed cannot be claimed twice.
 */
static int64
claim_from(Posting *posting, List *grants, GroupPart part, int64 amount)
{
	int64		left = Max(amount, -amount);
	ListCell   *lc;

	foreach(lc, grants)
	{
		Grant	   *grant = lfirst(lc);
		int64		moved = Min(groups_amount(posting, grant, part), left);

		CHECK_FOR_INTERRUPTS();
		if (left == 0)
			break;
		if (amount > 0)
			moved = Min(moved, groups_amount(posting, grant, GROUP_UNCLAIMED));
		(void) debts_claim(posting, grant, debts_claimed(posting, grant->id) +
						   (amount < 0 ? -moved : moved));
		left -= moved;
	}
	return amount < 0 ? -left : left;
}

/*
 * Claims up to an amount more of a part of what the grants of a period gave, or
 * less if it is negative.  Returns how much is still missing.
 */
static int64
claim_part(Posting *posting, const Period *period, GroupPart part,
		   int64 amount)
{
	int64		found;

	return claim_from(posting, groups_read(posting, period->grant_id, part,
										   Max(amount, -amount), &found),
					  part, amount);
}

/*
 * Claims up to an amount more of what was not used of the grants of a period: from
 * those that expire last or, if they expire together, what they have lost, and then
 * what is left of them.  Returns how much is still missing.
 */
static int64
claim_unused(Posting *posting, const Period *period, int64 amount)
{
	if (period->late > 0)
		return claim_part(posting, period, GROUP_UNUSED, amount);
	amount = claim_part(posting, period, GROUP_CLAIMABLE, amount);
	return claim_part(posting, period, GROUP_LEFT, amount);
}

/*
 * Has grants of a period of which something came back, or was lost, owe that much
 * less, or be paid that much less by others: it is claimed instead.
 */
static void
claim_own(Posting *posting, const Period *period, GroupPart part)
{
	int64		all;
	ListCell   *lc;

	foreach(lc, groups_read(posting, period->grant_id, part, PG_INT64_MAX,
							&all))
	{
		Grant	   *grant = lfirst(lc);
		int64		own = Min(groups_amount(posting, grant, part),
							  groups_amount(posting, grant, GROUP_OWED));
		int64		claimed = debts_claimed(posting, grant->id);

		CHECK_FOR_INTERRUPTS();
		if (own == 0)
			continue;
		(void) debts_claim(posting, grant, claimed - own);
		(void) debts_claim(posting, grant, claimed);
	}
}

/*
 * Has the grants of a period owe as little as possible: what a refund gave back
 * to others of them since is claimed instead.
 */
static void
claim_instead(Posting *posting, const Period *period)
{
	int64		lost;
	int64		left;

	if (debts_of_group(posting, period->grant_id) == 0)
		return;
	claim_own(posting, period, GROUP_LOST);
	claim_own(posting, period, GROUP_LEFT);
	(void) groups_read(posting, period->grant_id, GROUP_LOST, PG_INT64_MAX,
					   &lost);
	(void) groups_read(posting, period->grant_id, GROUP_LEFT, PG_INT64_MAX,
					   &left);
	left = plus(left, lost);
	/* what is waived first need not be owed */
	(void) claim_unused(posting, period,
						left + claim_part(posting, period, GROUP_OWED, -left));
}

/* How much more is to be claimed from a grant, or less if it is negative */
typedef struct Move
{
	Grant	   *grant;
	int64		amount;
} Move;

/*
 * Adds an amount that is to move to a list, the last element of which may be of
 * the same grant.
 */
static List *
add_move(List *moves, Grant *grant, int64 amount)
{
	Move	   *move = moves == NIL ? NULL : llast(moves);

	if (move && move->grant == grant)
	{
		move->amount += amount;
		return moves;
	}
	move = palloc(sizeof(Move));
	move->grant = grant;
	move->amount = amount;
	return lappend(moves, move);
}

/*
 * Moves claims.
 */
static void
apply_moves(Posting *posting, List *moves)
{
	ListCell   *lc;

	foreach(lc, moves)
	{
		Move	   *move = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		(void) debts_claim(posting, move->grant,
						   debts_claimed(posting, move->grant->id) +
						   move->amount);
	}
}

/*
 * Moves claims from grants of a period that expire early to those that expire
 * later: what is owed or, if nothing is, what was not used.
 */
static void
claim_in_order(Posting *posting, const Period *period)
{
	bool		owes = debts_of_group(posting, period->grant_id) > 0;
	GroupPart	part = owes ? GROUP_OWED : GROUP_UNOWED;
	GroupPart	later_part = owes ? GROUP_UNCLAIMED : GROUP_UNUSED;
	GroupGrants early;
	GroupGrants late;
	Grant	   *from;
	Grant	   *to;
	int64		less = 0;
	int64		more = 0;
	List	   *released = NIL;
	List	   *claimed = NIL;

	groups_begin(&early, posting, period->grant_id, part);
	groups_begin(&late, posting, period->grant_id, later_part);
	from = groups_next(&early);
	to = groups_next(&late);
	while (from && to && grants_lasts_until(to) > grants_lasts_until(from))
	{
		int64		moved;

		CHECK_FOR_INTERRUPTS();
		if (less == 0)
			less = groups_amount(posting, from, part);
		if (more == 0)
			more = groups_amount(posting, to, later_part);
		moved = Min(less, more);
		released = add_move(released, from, -moved);
		claimed = add_move(claimed, to, moved);
		less -= moved;
		more -= moved;
		if (less == 0)
			from = groups_next(&early);
		if (more == 0)
			to = groups_next(&late);
	}
	groups_end(&early);
	groups_end(&late);
	/* what is waived first need not be owed */
	apply_moves(posting, released);
	apply_moves(posting, claimed);
}

/*
 * Claims more from the grants of a period, or less if the amount is negative.  Only
 * what is claimed above what was not used is owed.
 */
static void
claim_difference(Posting *posting, const Period *period, int64 amount)
{
	if (amount > 0)
	{
		amount = claim_unused(posting, period, amount);
		(void) claim_part(posting, period, GROUP_UNCLAIMED, amount);
	}
	else if (amount < 0)
	{
		amount = claim_part(posting, period, GROUP_OWED, amount);
		if (period->late > 0)
			(void) claim_part(posting, period, GROUP_UNOWED, amount);
		else
		{
			amount = claim_part(posting, period, GROUP_TAKEN, amount);
			(void) claim_part(posting, period, GROUP_GONE, amount);
		}
	}
	claim_instead(posting, period);
	if (period->late > 0)
		claim_in_order(posting, period);
}

/*
 * Claims up to an amount more of a part of what a period gave, or less if it is
 * negative, for a total that is set later.
 */
static void
claim_ahead(Posting *posting, Period *period, GroupPart part, int64 amount)
{
	amount -= claim_part(posting, period, part, amount);
	if (amount != 0)
		periods_changed(posting, period);
	period->claimed += amount;
}

/*
 * Releases from what is claimed of the grants of a period whatever they owe.
 */
void
period_claims_waive(Posting *posting, Period *period)
{
	claim_ahead(posting, period, GROUP_OWED, -PG_INT64_MAX);
}

/*
 * Releases so much of what is claimed of the grants of a period that an amount is
 * left of them, if that much was not used.
 */
void
period_claims_free(Posting *posting, Period *period, int64 amount)
{
	int64		left;

	(void) groups_read(posting, period->grant_id, GROUP_LEFT, amount, &left);
	claim_ahead(posting, period, GROUP_TAKEN, Min(left - amount, 0));
}

/*
 * Claims up to an amount of what the grants of a period have lost.
 */
void
period_claims_lost(Posting *posting, Period *period, int64 amount)
{
	claim_ahead(posting, period, GROUP_CLAIMABLE, amount);
}

/*
 * Sets the total that is claimed from the grants of a period.
 */
void
period_claims_set(Posting *posting, Period *period, int64 total)
{
	claim_difference(posting, period, total - period->claimed);
	if (period->claimed != total)
		periods_changed(posting, period);
	period->claimed = total;
}

/*
 * Takes back what a period has rolled over and is not due any more.  What was
 * used of it is owed only if its money was paid back.
 */
static void
claim_rolled(Posting *posting, const Subscription *subscription,
			 const Period *period, bool owes)
{
	int64		excess = rollover_excess(posting, subscription, period);
	List	   *grants = NIL;
	int64		used = 0;
	int			i;

	for (i = 0; i < period->nrolled; i++)
	{
		Grant	   *grant = grants_get(posting, period->rolled_grant_ids[i]);

		grants = lappend(grants, grant);
		used = plus(used, debts_used(posting, grant));
	}
	if (!owes)
		excess = Min(excess, period->rolled - used);
	spread_claims(posting, grants, Max(excess, 0));
}

/*
 * Takes from what lives on in the grace of a period what it had not left after
 * all.  What was used of it counts against what follows, see grace.c.
 */
static void
claim_in_grace(Posting *posting, Period *period, const PlanTerms *rule)
{
	Grant	   *grant = grants_get(posting, period->grace_grant_id);
	int64		excess;

	if (grant->remaining == 0 && debts_claimed(posting, grant->id) == 0)
		return;
	excess = Min(grant->amount - rollover_available(posting, period, rule),
				 grant->amount - debts_used(posting, grant));
	(void) debts_claim(posting, grant, Max(excess, 0));
}

/*
 * Takes back what a period has passed on after its end, from which more or less
 * is claimed than before: what it has rolled over, and what of that the next
 * period has rolled over again, and so on, and what lives on in their grace.
 */
void
period_claims_passed_on(Posting *posting, const Subscription *subscription,
						Period *period, bool owes)
{
	while (period && period->ends_at <= posting->now)
	{
		CHECK_FOR_INTERRUPTS();
		if (period->grace_grant_id != 0)
			claim_in_grace(posting, period,
						   plan_history_before(posting, subscription,
											   period->ends_at));
		if (period->nrolled == 0)
			break;
		claim_rolled(posting, subscription, period, owes);
		period = periods_in(posting, period->subscription_id, period->ends_at);
		if (period && period->again <= 0)
			break;
	}
}
