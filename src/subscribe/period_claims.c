/*
 * period_claims.c
 *	  What is claimed from the grants of a period.
 *
 * What is claimed of a period is a total.  How it is spread over the grants of the
 * period follows from the total and from what was used, so that the outcome does
 * not depend on the order of claims (see debts.c).
 *
 * Tested in test/sql/paid_parts.sql.
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
 * Returns when a grant expires, or was to before it was prolonged.
 */
static TimestampTz
was_to_expire(const Grant *grant)
{
	return grant->granted_until == DT_NOBEGIN ? grant->expires_at :
		grant->granted_until;
}

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
 * Returns how much of some grants was used.
 */
static int64
used_of(Posting *posting, const int64 *grant_ids, int n)
{
	int64		used = 0;
	int			i;

	for (i = 0; i < n; i++)
		used = plus(used, debts_used(posting, grants_get(posting, grant_ids[i])));
	return used;
}

/*
 * Returns how much of the grants of a period was used.
 */
int64
period_claims_used(Posting *posting, const Period *period)
{
	/* of the others, nothing was */
	return used_of(posting, period->in_view_grant_ids, period->nin_view);
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
claim_from(Posting *posting, const int64 *grant_ids, int ngrants, int64 total)
{
	Claimable  *claims = palloc0(Max(ngrants, 1) * sizeof(Claimable));
	int64		unused = 0;
	bool		owes;
	int			i;
	int			n;

	for (i = 0; i < ngrants; i++)
	{
		Claimable  *c = &claims[i];

		c->grant = grants_get(posting, grant_ids[i]);
		c->until = was_to_expire(c->grant);
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
 * Returns whether a grant of a period need not be looked at, unless less is to be
 * claimed: it is claimed wholly and nothing of it was used, so that nothing can
 * come back to it.
 */
static bool
is_settled(Posting *posting, const Period *period, Grant *grant)
{
	return grant->amount == debts_claimed(posting, grant->id) &&
		debts_used(posting, grant) == 0 &&
		was_to_expire(grant) == period->ends_at;
}

/*
 * Has grants of a period looked at again until no more than a total is claimed
 * from those that are not: the ones first that were given first, to which what is
 * not claimed any more goes back first.
 */
static void
recall_grants(Posting *posting, Period *period, int64 total)
{
	int			i;
	int			j;

	for (i = 0; i < period->ngrants && period->wholly_claimed > total; i++)
	{
		int64		id = period->grant_ids[i];

		CHECK_FOR_INTERRUPTS();
		for (j = 0; j < period->nin_view; j++)
			if (period->in_view_grant_ids[j] == id)
				break;
		if (j < period->nin_view)
			continue;
		period->wholly_claimed -= grants_get(posting, id)->amount;
		periods_view_grant(period, id);
	}
}

/*
 * Sets the total that is claimed from the grants of a period.
 *
 * A subscription that changes often has ever more grants that were given and then
 * taken wholly.  They are set aside, so that no change takes longer than the one
 * before.
 */
void
period_claims_set(Posting *posting, Period *period, int64 total)
{
	int64		least = total;
	int64		wholly_claimed = period->wholly_claimed;
	int			nin_view = period->nin_view;
	int			n = 0;
	int			i;

	/* what expires later is claimed before them */
	for (i = 0; i < period->nin_view; i++)
		if (was_to_expire(grants_get(posting, period->in_view_grant_ids[i])) >
			period->ends_at)
			least = 0;
	recall_grants(posting, period, least);
	claim_from(posting, period->in_view_grant_ids, period->nin_view,
			   total - period->wholly_claimed);
	for (i = 0; i < period->nin_view; i++)
	{
		int64		id = period->in_view_grant_ids[i];
		Grant	   *grant = grants_get(posting, id);

		if (is_settled(posting, period, grant))
			period->wholly_claimed += grant->amount;
		else
			period->in_view_grant_ids[n++] = id;
	}
	period->nin_view = n;
	if (period->claimed != total || n != nin_view ||
		period->wholly_claimed != wholly_claimed)
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

	if (!owes)
		excess = Min(excess, period->rolled -
					 used_of(posting, period->rolled_grant_ids,
							 period->nrolled));
	claim_from(posting, period->rolled_grant_ids, period->nrolled,
			   Max(excess, 0));
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
	claim_from(posting, &period->grace_grant_id, 1, Max(excess, 0));
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
