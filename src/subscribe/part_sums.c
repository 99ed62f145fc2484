/*
 * part_sums.c
 *	  What the parts of a period come to.
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
 * Adds up the parts of the period that ends at an instant, as they are after the
 * change.  Returns the one with which the period begins, NULL if nothing is paid
 * for it.
 */
const PaidPart *
part_sums_read(Posting *posting, PartsChange *change, TimestampTz ends_at,
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
		if (part_rows_contain(change->written, row) ||
			part_rows_contain(change->removed, row))
			continue;
		rows = lappend(rows, row);
		row = palloc(sizeof(PartRow));
	}
	scan_end(&scan);
	rows = list_concat(rows, change->written);

	part_sums_begin(sums);
	foreach(lc, rows)
	{
		const PaidPart *part = &((PartRow *) lfirst(lc))->part;

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at != ends_at)
			continue;
		part_sums_add(sums, part);
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
