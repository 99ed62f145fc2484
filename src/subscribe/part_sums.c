/*
 * part_sums.c
 *	  What the parts of a period come to.
 *
 * The sums are kept in the row of the period, and adjusted by what changes, so
 * that a change takes no longer if there were many before.  They are read from
 * the parts only if there is no row yet, or if one is out of range.
 *
 * Tested in test/sql/paid_parts.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/part_periods.h"

#include "miscadmin.h"
#include "utils/builtins.h"

/*
 * Begins the sums over the parts of a period.
 */
void
part_sums_begin(PaidSums *sums)
{
	memset(sums, 0, sizeof(PaidSums));
}

/*
 * Adds a part.
 */
void
part_sums_add(PaidSums *sums, const PaidPart *part)
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
part_sums_due(const PaidSums *sums, int64 granted, int64 *less,
			  int64 *paid_back)
{
	int64		due = Max(sums->positive - sums->credited, 0);
	int64		left = due - Min(sums->reversed, due);

	*less = Max(granted - due, 0);
	/* not all that is due may have been given */
	*paid_back = Max(granted - *less - left, 0);
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
 * Adds numbers of credits to a sum, which may be negative.  A sum that is as
 * high as it can be is not known exactly any more: returns false.
 */
static bool
adjust_sum(int64 *sum, int64 more, int64 less)
{
	if (more == less)
		return true;
	if (*sum == PG_INT64_MAX || less == PG_INT64_MAX)
		return false;
	*sum = plus(*sum - less, more);
	return *sum >= 0;
}

/*
 * Adjusts the sums over the parts of a period by one part that replaces another.
 * Each of the two may be NULL.  Returns false if that cannot be told from the
 * sums.
 */
static bool
replace_part(PaidSums *sums, const PaidPart *before, const PaidPart *after)
{
	PaidSums	more = {0};
	PaidSums	less = {0};

	if (after)
		part_sums_add(&more, after);
	if (before)
		part_sums_add(&less, before);
	return adjust_sum(&sums->positive, more.positive, less.positive) &&
		adjust_sum(&sums->credited, more.credited, less.credited) &&
		adjust_sum(&sums->reversed, more.reversed, less.reversed);
}

/*
 * Removes a part from the sums.  Returns false if what is left cannot be told.
 */
bool
part_sums_remove(PaidSums *sums, const PaidPart *part)
{
	return replace_part(sums, part, NULL);
}

/*
 * Reads all parts of the period that ends at an instant, as they are after the
 * change, and adds them up.
 */
static void
add_up(Posting *posting, PartsChange *change, TimestampTz ends_at,
	   PaidSums *sums)
{
	StoreScan	scan;
	PartRow		row;
	ListCell   *lc;

	part_sums_begin(sums);
	scan_begin(&scan, posting->store, &paid_parts_by_end, posting->snapshot,
			   BY_INT64(change->subscription_id), BY_TIME(ends_at));
	while (scan_peek(&scan, ForwardScanDirection, &row))
		if (!part_rows_changed(change->subscription, &row))
			part_sums_add(sums, &row.part);
	scan_end(&scan);
	foreach(lc, change->subscription->part_rows)
	{
		const PartRow *changed = lfirst(lc);

		if (changed->part.ends_at == ends_at && !changed->removed)
			part_sums_add(sums, &changed->part);
	}
}

/*
 * Sets the sums over the parts of the period that ends at an instant, as they are
 * after the change.  The period, which is NULL if there is none yet, has those
 * before it, so that only what changes counts.  Returns whether anything does.
 */
bool
part_sums_update(Posting *posting, PartsChange *change, const Period *period,
				 TimestampTz ends_at, PaidSums *sums)
{
	bool		known = period != NULL;
	bool		changed = false;
	ListCell   *lc;

	part_sums_begin(sums);
	if (known)
	{
		sums->positive = period->paid;
		sums->credited = period->credited;
		sums->reversed = period->reversed;
	}
	foreach(lc, change->subscription->part_rows)
	{
		PartRow    *row = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		/* one posting may bring a period to its parts twice */
		if (row->part.ends_at != ends_at || row->counted)
			continue;
		row->counted = changed = true;
		known = known && replace_part(sums, row->before,
									  row->removed ? NULL : &row->part);
	}
	if (!known)
		add_up(posting, change, ends_at, sums);
	return changed || !known;
}

/*
 * Returns the one of two parts with which a period rather begins, NULL if it does
 * with neither.
 */
static const PaidPart *
earlier_part(const PaidPart *first, const PaidPart *part)
{
	/* a period begins with what was paid for it */
	if (part->credits < 0 || is_plan_change(part))
		return first;
	/* of several that begin then, the one that gives most, in any order */
	if (first == NULL || part->starts_at < first->starts_at ||
		(part->starts_at == first->starts_at &&
		 (part->credits > first->credits ||
		  (part->credits == first->credits &&
		   part->plan_id < first->plan_id))))
		return part;
	return first;
}

/*
 * Returns the part with which the period begins that ends at an instant, as its
 * parts are after the change.  NULL if nothing is paid for it.
 */
const PaidPart *
part_sums_first(Posting *posting, PartsChange *change, TimestampTz ends_at)
{
	const PaidPart *first = NULL;
	StoreScan	scan;
	PartRow    *row = palloc(sizeof(PartRow));
	ListCell   *lc;

	foreach(lc, change->subscription->part_rows)
	{
		const PartRow *changed = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (changed->part.ends_at == ends_at && !changed->removed)
			first = earlier_part(first, &changed->part);
	}
	scan_begin(&scan, posting->store, &paid_parts_by_start, posting->snapshot,
			   BY_INT64(change->subscription_id), BY_TIME(ends_at));
	/* the index has them in that order */
	while (scan_read(&scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		if (part_rows_changed(change->subscription, row))
			continue;
		first = earlier_part(first, &row->part);
		break;
	}
	scan_end(&scan);
	return first;
}
