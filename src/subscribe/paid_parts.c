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

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/paid_parts.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/proration.h"
#include "subscribe/renew.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* decimal places of the price of a grant */
#define PRICE_DIGITS 6

static const StoreColumn part_columns[] = {
	COLUMN_INT64(PartRow, subscription_id),
	COLUMN_TIME(PartRow, part.ends_at, AS("ends_at")),
	COLUMN_TEXT(PartRow, part.reference, AS("reference")),
	COLUMN_TIME(PartRow, part.starts_at, AS("starts_at")),
	COLUMN_TIME(PartRow, part.settled_at, AS("settled_at")),
	COLUMN_INT64(PartRow, part.plan_id, AS("plan_id")),
	COLUMN_INT64(PartRow, part.credits, AS("credits")),
	COLUMN_INT64(PartRow, part.reversed, AS("reversed")),
	COLUMN_NUMERIC(PartRow, part.price, AS("price"), NULL_IF_ZERO),
	COLUMN_TEXT(PartRow, part.currency, AS("currency"), NULL_IF_ZERO),
	COLUMN_BOOL(PartRow, part.trial, AS("trial"))
};

StoreTable	paid_parts_table = {
	.name = "paid_parts",
	ROWS_OF(PartRow, part_columns)
};

StoreIndex	paid_parts_by_end = {
	&paid_parts_table, "paid_parts_pkey",
	{"subscription_id", "ends_at", "reference"},.unique = true
};

static StoreIndex paid_parts_by_reference = {
	&paid_parts_table, "paid_parts_reference_idx",
	{"subscription_id", "reference"}
};

/* Parts that are to be replaced, and what comes of it */
typedef struct Change
{
	int64		subscription_id;
	List	   *references;		/* of text * */
	List	   *parts;			/* of PaidPart * */
	bool		within;			/* is it a change of plan within a period? */
	/* while it is planned */
	Subscription *subscription;
	List	   *written;		/* of PartRow *, those that are new or change */
	List	   *removed;		/* of PartRow * */
	List	   *periods;		/* of Period *, those that were brought to
								 * their parts */
	List	   *unused;			/* of Period *, those that had more left than
								 * was known */
	List	   *begun;			/* of Period *, those that gave for the first
								 * time */
	bool		changed;
	Refusal		refusal;		/* why not all was given */
	Receipt		receipt;
} Change;

/* ------------------------------------------------------------------------
 * sums
 */

/*
 * Adds numbers of credits.  More than fits becomes the most that does.
 */
static int64
plus(int64 a, int64 b)
{
	int64		sum;

	return pg_add_s64_overflow(a, b, &sum) ? PG_INT64_MAX : sum;
}

/*
 * Begins the sums over the parts of a period.
 */
void
paid_parts_begin(PaidSums *sums)
{
	memset(sums, 0, sizeof(PaidSums));
}

/*
 * Adds a part.
 */
void
paid_parts_add(PaidSums *sums, const PaidPart *part)
{
	if (part->credits >= 0)
	{
		sums->positive = plus(sums->positive, part->credits);
		sums->reversed = plus(sums->reversed, part->reversed);
	}
	else
		sums->credited = plus(sums->credited,
							  -Max(part->credits - part->reversed, -PG_INT64_MAX));
}

/*
 * Returns what is due by the sums: how much is to be taken because less is due,
 * and how much because it was paid back, of what was given.
 */
void
paid_parts_due(const PaidSums *sums, int64 granted, int64 *less,
			   int64 *paid_back)
{
	int64		due = Max(sums->positive - sums->credited, 0);
	int64		left = due - Min(sums->reversed, due);

	*less = Max(granted - due, 0);
	/* not all that is due may have been given */
	*paid_back = Max(granted - *less - left, 0);
}

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Returns whether two parts say the same.
 */
static bool
same_part(const PaidPart *a, const PaidPart *b)
{
	return a->starts_at == b->starts_at && a->settled_at == b->settled_at &&
		a->plan_id == b->plan_id && a->credits == b->credits &&
		a->reversed == b->reversed && a->trial == b->trial &&
		(a->price == 0) == (b->price == 0) &&
		(a->price == 0 || compare(a->price, b->price) == 0) &&
		(a->currency == NULL) == (b->currency == NULL) &&
		(a->currency == NULL || same_text(a->currency, b->currency));
}

/*
 * Returns the one of some parts that has a reference and an end, NULL if there
 * is none.
 */
static PaidPart *
find_part(List *parts, text *reference, TimestampTz ends_at)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);

		if (part->ends_at == ends_at && same_text(part->reference, reference))
			return part;
	}
	return NULL;
}

/*
 * Writes a part.
 */
static void
write_part(Posting *posting, void *row)
{
	store_write(posting->store, &paid_parts_table, posting->snapshot, row);
}

/*
 * Deletes a part.
 */
static void
delete_part(Posting *posting, void *row)
{
	store_delete(posting->store, &paid_parts_table, posting->snapshot, row);
}

/*
 * Has a part written together with the account.  tid is that of the row that it
 * replaces, NULL if there is none.
 */
static void
put_part(Posting *posting, Change *change, const PaidPart *part,
		 ItemPointer tid)
{
	PartRow    *row = palloc(sizeof(PartRow));

	if (tid)
		row->tid = *tid;
	else
		ItemPointerSetInvalid(&row->tid);
	row->subscription_id = change->subscription_id;
	row->part = *part;
	change->written = lappend(change->written, row);
	change->changed = true;
	posting_defer(posting, write_part, row);
}

/*
 * Replaces the parts that have one of the references.  Returns the ends of the
 * periods concerned, as a list of TimestampTz *.
 */
static List *
replace_parts(Posting *posting, Change *change)
{
	List	   *ends = NIL;
	List	   *known = NIL;
	ListCell   *lc;

	foreach(lc, change->references)
	{
		StoreScan	scan;
		PartRow    *row = palloc(sizeof(PartRow));

		scan_begin(&scan, posting->store, &paid_parts_by_reference,
				   posting->snapshot, BY_INT64(change->subscription_id),
				   BY_TEXT(lfirst(lc)));
		while (scan_read(&scan, ForwardScanDirection, row))
		{
			PaidPart   *part = find_part(change->parts, row->part.reference,
										 row->part.ends_at);

			ends = lappend(ends, &row->part.ends_at);
			if (part == NULL)
			{
				change->removed = lappend(change->removed, row);
				change->changed = true;
				posting_defer(posting, delete_part, row);
			}
			else
			{
				known = lappend(known, part);
				if (!same_part(part, &row->part))
					put_part(posting, change, part, &row->tid);
			}
			row = palloc(sizeof(PartRow));
		}
		scan_end(&scan);
	}
	foreach(lc, change->parts)
	{
		PaidPart   *part = lfirst(lc);

		PartRow		row;
		bool		found;

		if (list_member_ptr(known, part))
			continue;
		ends = lappend(ends, &part->ends_at);
		found = scan_find(posting->store, &paid_parts_by_end, posting->snapshot,
						  &row, BY_INT64(change->subscription_id),
						  BY_TIME(part->ends_at), BY_TEXT(part->reference));
		if (!found || !same_part(part, &row.part))
			put_part(posting, change, part, found ? &row.tid : NULL);
	}
	return ends;
}

/*
 * Returns whether a row is among some that are to be replaced.
 */
static bool
is_replaced(List *rows, const PartRow *row)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, rows)
	{
		PartRow    *other = lfirst(lc);

		/* those that are new are stored nowhere yet */
		if (ItemPointerIsValid(&other->tid) &&
			ItemPointerEquals(&other->tid, (ItemPointer) &row->tid))
			return true;
	}
	return false;
}

/*
 * Returns whether a part is what changes of plan make of another part.
 */
static bool
is_plan_change(const PaidPart *part)
{
	return strcmp(text_to_cstring(part->reference),
				  PLAN_CHANGE_REFERENCE) == 0;
}

/*
 * Adds up the parts of the period that ends at an instant, as they are after the
 * change.  Returns the one with which the period begins, NULL if nothing is paid
 * for it.
 */
static const PaidPart *
sum_parts(Posting *posting, Change *change, TimestampTz ends_at,
		  PaidSums *sums)
{
	List	   *rows = NIL;
	const PaidPart *first = NULL;
	StoreScan	scan;
	PartRow    *row = palloc(sizeof(PartRow));
	ListCell   *lc;

	scan_begin(&scan, posting->store, &paid_parts_by_end, posting->snapshot,
			   BY_INT64(change->subscription_id), BY_TIME(ends_at));
	while (scan_read(&scan, ForwardScanDirection, row))
	{
		if (is_replaced(change->written, row) ||
			is_replaced(change->removed, row))
			continue;
		rows = lappend(rows, row);
		row = palloc(sizeof(PartRow));
	}
	scan_end(&scan);
	rows = list_concat(rows, change->written);

	paid_parts_begin(sums);
	foreach(lc, rows)
	{
		const PaidPart *part = &((PartRow *) lfirst(lc))->part;

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at != ends_at)
			continue;
		paid_parts_add(sums, part);
		/* a period begins with what was paid for it */
		if (part->credits < 0 || is_plan_change(part))
			continue;
		/* of several that begin then, the one that gives most, in any order */
		if (first == NULL || part->starts_at < first->starts_at ||
			(part->starts_at == first->starts_at &&
			 (part->credits > first->credits ||
			  (part->credits == first->credits &&
			   part->plan_id < first->plan_id))))
			first = part;
	}
	return first;
}

/* ------------------------------------------------------------------------
 * giving
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
give_part(Posting *posting, Change *change, Period *period,
		  const PaidPart *part, int64 amount)
{
	bool		late = part->settled_at > part->ends_at;
	TimestampTz from = late ? part->settled_at : part->starts_at;
	TimestampTz until = part->ends_at;
	PlanTerms	plan = *plans_get(part->plan_id);
	bool		over;
	Grant	   *grant;
	Entry	   *entry;
	int64		granted;

	if (late && pg_add_s64_overflow(from, part->ends_at - part->starts_at,
									&until))
		until = DT_NOEND;
	over = until <= posting->now;
	/* credits whose time is over never get into the balance */
	if (!over && !limit_rules_receive(posting, &amount, true))
		return false;
	if (pg_add_s64_overflow(posting->account.granted, amount, &granted))
		return log_refuse_overflow(posting, amount);
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
 * taking
 */

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
 * Returns how much is claimed from some grants.
 */
static int64
claimed_from(Posting *posting, const int64 *grant_ids, int n)
{
	int64		claimed = 0;
	int			i;

	for (i = 0; i < n; i++)
		claimed = plus(claimed, debts_claimed(posting, grant_ids[i]));
	return claimed;
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
		c->until = c->grant->granted_until == DT_NOBEGIN ?
			c->grant->expires_at : c->grant->granted_until;
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
 * Takes back what a period has rolled over and is not due any more.  What was
 * used of it is owed only if its money was paid back.
 */
static void
claim_rolled(Posting *posting, const Subscription *subscription,
			 const Period *period, bool owes)
{
	const int64 *ids = period->rolled_grant_ids;
	int			n = period->nrolled;
	int64		excess;

	if (n == 0)
		return;
	excess = rollover_excess(posting, subscription, period);
	if (!owes)
		excess = Min(excess, period->rolled - used_of(posting, ids, n));
	claim_from(posting, ids, n, Max(excess, 0));
}

/* ------------------------------------------------------------------------
 * periods
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
 * much is carried from the one before.
 */
static Taking
taking_of(const PaidSums *sums, int64 granted, int64 carried, int64 used)
{
	Taking		taking;
	int64		less;

	paid_parts_due(sums, granted, &less, &taking.reversed);
	less = plus(less, carried);
	taking.taken = Max(Min(less, Min(granted - used,
									 granted - taking.reversed)), 0);
	taking.carried = less - taking.taken;
	return taking;
}

/*
 * Returns the period that ends at an instant and has the given first part, and
 * makes it if there is none.  NULL if there is none and nothing is paid for it.
 */
static Period *
period_of(Posting *posting, Change *change, TimestampTz ends_at,
		  const PaidPart *first)
{
	Subscription *s = change->subscription;
	Period	   *period = periods_paid(posting, s->id, ends_at);
	const PlanTerms *plan;
	PeriodStatus status;

	if (first == NULL)
	{
		if (period && period->status != PERIOD_SKIPPED)
		{
			/* all was withdrawn */
			period->status = PERIOD_SKIPPED;
			periods_changed(posting, period);
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
		period->taken = period->carried = 0;
	}
	plan = plans_get(first->plan_id);
	period->starts_at = first->starts_at;
	period->plan_id = first->plan_id;
	period->status = status;
	period->number = Max(s->first_number +
						 calendar_number(s->anchor, s->timezone, plan->period,
										 plan->every, first->starts_at), 0);
	periods_keep(posting, period);
	return period;
}

/*
 * Gives what is missing of a period, from the parts that the change is about.
 */
static void
give_missing(Posting *posting, Change *change, Period *period,
			 const PaidSums *sums)
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
		amount = may_give(posting, part, sums->positive - period->granted);
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
bring_period(Posting *posting, Change *change, TimestampTz ends_at)
{
	PaidSums	sums;
	const PaidPart *first = sum_parts(posting, change, ends_at, &sums);
	Period	   *period = period_of(posting, change, ends_at, first);
	bool		isnew;
	Period	   *before;
	Period	   *after;
	int64		carried;
	int64		planned;
	int64		nentries = posting->nentries;
	Taking		taking;
	ListCell   *lc;

	if (period == NULL)
		return NULL;
	change->periods = lappend(change->periods, period);
	if (period->paid != sums.positive)
	{
		period->paid = sums.positive;
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
			planned += may_give(posting, part, sums.positive - planned);
	}
	taking = taking_of(&sums, planned, carried, used_of(posting, period->grant_ids, period->ngrants));
	if (taking.taken + taking.reversed < claimed_from(posting, period->grant_ids, period->ngrants))
		claim_from(posting, period->grant_ids, period->ngrants,
				   taking.taken + taking.reversed);

	give_missing(posting, change, period, &sums);

	taking = taking_of(&sums, period->granted, carried,
					   used_of(posting, period->grant_ids, period->ngrants));
	claim_from(posting, period->grant_ids, period->ngrants,
			   taking.taken + taking.reversed);

	after = periods_paid_beside(posting, change->subscription_id, ends_at,
								true);
	if (!isnew && taking.carried == period->carried)
		after = NULL;
	period->given = period->granted - taking.taken;
	claim_rolled(posting, change->subscription, period, taking.reversed > 0);
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
bring_periods(Posting *posting, Change *change, List *ends)
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
static void
plan_parts(Posting *posting, Change *change)
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
	bring_periods(posting, change, replace_parts(posting, change));
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

/*
 * Plans a change of parts for paid_parts_set.
 */
static bool
plan_set(Posting *posting, void *arg)
{
	Change	   *change = arg;

	change->subscription = subscriptions_in(posting, change->subscription_id);
	if (change->subscription == NULL)
		subscriptions_raise_unknown(change->subscription_id);
	change->written = change->removed = NIL;
	change->changed = false;
	memset(&change->refusal, 0, sizeof(Refusal));
	plan_parts(posting, change);
	return true;
}

/* ------------------------------------------------------------------------
 * changes of plan
 */

/*
 * Brings a period, for which base was paid, to what plan changes within it make
 * of it: those that are stored and, unless that is NULL, a new one.
 */
static void
follow_plan(Posting *posting, Change *change, Period *period,
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
	foreach(lc, plan_history_read(posting, s->id, period->starts_at))
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
		!scan_find(posting->store, &paid_parts_by_end, posting->snapshot,
				   &known, BY_INT64(s->id), BY_TIME(part->ends_at),
				   BY_TEXT(part->reference)))
		return;
	change->within = true;
	change->parts = list_make1(part);
	plan_parts(posting, change);
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
	Change		change = {
		.subscription_id = subscription->id,
		.subscription = subscription
	};
	PartRow		base;
	Datum		carried;

	if (scan_find(posting->store, &paid_parts_by_end, posting->snapshot,
				  &base, BY_INT64(subscription->id),
				  BY_TIME(period->ends_at),
				  BY_TEXT(cstring_to_text(period->status == PERIOD_TRIAL ?
										  TRIAL_REFERENCE : PAID_REFERENCE))))
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
	Change		change = {
		.subscription_id = subscription->id,
		.subscription = subscription,
		.parts = list_make1(part)
	};
	Period	   *period;
	Entitlement e;

	plan_parts(posting, &change);
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
 */

/*
 * Announces that parts could not be given.
 */
static void
announce_refusal(const Change *change, int64 account_id)
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
	Change		change = {
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
