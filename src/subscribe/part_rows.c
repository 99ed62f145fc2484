/*
 * part_rows.c
 *	  The rows of credits.paid_parts, and replacing those of some references.
 *
 * Tested in test/sql/paid_parts.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/part_periods.h"

#include "miscadmin.h"

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
	COLUMN_BOOL(PartRow, part.trial, AS("trial")),
	COLUMN_TIME(PartRow, part.finalized_at, AS("finalized_at"), NULL_IF_ZERO),
	COLUMN_BOOL(PartRow, part.funds, AS("funds"))
};

StoreTable	paid_parts_table = {
	.name = "paid_parts",
	ROWS_OF(PartRow, part_columns)
};

StoreIndex	paid_parts_by_end = {
	&paid_parts_table, "paid_parts_pkey",
	{"subscription_id", "ends_at", "reference"},.unique = true
};

StoreIndex	paid_parts_by_start = {
	&paid_parts_table, "paid_parts_starts_at_idx",
	{"subscription_id", "ends_at", "starts_at", "((- credits))", "plan_id"},
	.predicate = "((credits >= 0) AND (reference <> '(plan change)'::text))"
};

StoreIndex	paid_parts_by_reference = {
	&paid_parts_table, "paid_parts_reference_idx",
	{"subscription_id", "reference"}
};

StoreIndex	paid_parts_by_finalized_at = {
	&paid_parts_table, "paid_parts_finalized_at_idx",
	{"subscription_id", "ends_at", "finalized_at"}
};

static StoreIndex paid_parts_funding = {
	&paid_parts_table, "paid_parts_funds_idx",
	{"subscription_id", "ends_at", "finalized_at"},
	.predicate = "funds"
};

/*
 * Returns the parts that a scan finds, as they are stored.
 */
static List *
read_parts(StoreScan *scan)
{
	List	   *parts = NIL;
	PartRow		row;

	while (scan_read(scan, ForwardScanDirection, &row))
	{
		PaidPart   *part = palloc(sizeof(PaidPart));

		CHECK_FOR_INTERRUPTS();
		*part = row.part;
		parts = lappend(parts, part);
	}
	scan_end(scan);
	return parts;
}

/*
 * Returns the parts (PaidPart *) that have a reference, as they are stored.
 */
List *
part_rows_of_reference(int64 subscription_id, text *reference,
					   Snapshot snapshot)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &paid_parts_by_reference, snapshot,
			   BY_INT64(subscription_id), BY_TEXT(reference));
	return read_parts(&scan);
}

/*
 * Returns the parts (PaidPart *) of a period, as they are stored.
 */
List *
part_rows_of_period(int64 subscription_id, TimestampTz ends_at,
					Snapshot snapshot)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &paid_parts_by_end, snapshot,
			   BY_INT64(subscription_id), BY_TIME(ends_at));
	return read_parts(&scan);
}

/*
 * Returns the parts (PaidPart *) of a period, as they are stored, whose invoices
 * were finalized at an instant or later and have been paid for with the period.
 */
List *
part_rows_funding(int64 subscription_id, TimestampTz ends_at, TimestampTz from,
				  Snapshot snapshot)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &paid_parts_funding, snapshot,
			   BY_INT64(subscription_id), BY_TIME(ends_at),
			   BY_TIME_FROM(from));
	return read_parts(&scan);
}

/*
 * Returns whether two parts say the same.
 */
bool
part_rows_same(const PaidPart *a, const PaidPart *b)
{
	return a->starts_at == b->starts_at && a->settled_at == b->settled_at &&
		a->plan_id == b->plan_id && a->credits == b->credits &&
		a->reversed == b->reversed && a->trial == b->trial &&
		a->finalized_at == b->finalized_at && a->funds == b->funds &&
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
 * Writes a part, or deletes it.
 */
static void
write_part(Posting *posting, void *row)
{
	PartRow    *part = row;

	if (!part->removed)
		store_write(posting->store, &paid_parts_table, posting->snapshot, part);
	else if (ItemPointerIsValid(&part->tid))
		store_delete(posting->store, &paid_parts_table, posting->snapshot,
					 part);
}

/*
 * Returns what the posting makes of a part, NULL if it has not changed it.
 */
static PartRow *
changed_part(const Subscription *subscription, TimestampTz ends_at,
			 text *reference)
{
	ListCell   *lc;

	foreach(lc, subscription->part_rows)
	{
		PartRow    *row = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (row->part.ends_at == ends_at &&
			same_text(row->part.reference, reference))
			return row;
	}
	return NULL;
}

/*
 * Returns whether the posting changes a row that is stored.
 */
bool
part_rows_changed(const Subscription *subscription, const PartRow *row)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, subscription->part_rows)
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
 * Finds a part of a subscription as it is in a posting.
 */
bool
part_rows_find(Posting *posting, const Subscription *subscription,
			   TimestampTz ends_at, text *reference, PartRow *row)
{
	const PartRow *changed = changed_part(subscription, ends_at, reference);

	if (changed)
	{
		*row = *changed;
		return !row->removed;
	}
	return scan_find(posting->store, &paid_parts_by_end, posting->snapshot, row,
					 BY_INT64(subscription->id), BY_TIME(ends_at),
					 BY_TEXT(reference));
}

/*
 * Returns the row of a part for a change, which is written together with the
 * account.  One posting may change it more than once.
 */
static PartRow *
row_to_change(Posting *posting, PartsChange *change, TimestampTz ends_at,
			  text *reference)
{
	Subscription *s = change->subscription;
	PartRow    *row = changed_part(s, ends_at, reference);
	PaidPart   *before;

	change->changed = true;
	if (row && !row->counted)
		return row;
	if (row == NULL)
	{
		row = palloc0(sizeof(PartRow));
		if (!part_rows_find(posting, s, ends_at, reference, row))
		{
			ItemPointerSetInvalid(&row->tid);
			row->subscription_id = s->id;
			row->removed = true;
		}
		s->part_rows = lappend(s->part_rows, row);
		posting_defer(posting, write_part, row);
	}
	row->counted = false;
	row->before = NULL;
	if (!row->removed)
	{
		before = palloc(sizeof(PaidPart));
		*before = row->part;
		row->before = before;
	}
	return row;
}

/*
 * Replaces a part, or adds it.
 */
static void
put_part(Posting *posting, PartsChange *change, const PaidPart *part)
{
	PartRow    *row = row_to_change(posting, change, part->ends_at,
									part->reference);

	row->part = *part;
	row->removed = false;
}

/*
 * Removes a part.
 */
static void
remove_part(Posting *posting, PartsChange *change, const PaidPart *part)
{
	row_to_change(posting, change, part->ends_at, part->reference)->removed =
		true;
}

/*
 * Returns the parts (PaidPart *) that have a reference, as they are in a posting.
 */
static List *
parts_of_reference(Posting *posting, const Subscription *subscription,
				   text *reference)
{
	List	   *parts = NIL;
	StoreScan	scan;
	PartRow		row;
	ListCell   *lc;

	scan_begin(&scan, posting->store, &paid_parts_by_reference,
			   posting->snapshot, BY_INT64(subscription->id),
			   BY_TEXT(reference));
	while (scan_read(&scan, ForwardScanDirection, &row))
	{
		PaidPart   *part;

		if (part_rows_changed(subscription, &row))
			continue;
		part = palloc(sizeof(PaidPart));
		*part = row.part;
		parts = lappend(parts, part);
	}
	scan_end(&scan);
	foreach(lc, subscription->part_rows)
	{
		PartRow    *changed = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (!changed->removed && same_text(changed->part.reference, reference))
			parts = lappend(parts, &changed->part);
	}
	return parts;
}

/*
 * Replaces the parts that have one of the references.  Returns the ends of the
 * periods concerned, as a list of TimestampTz *.
 */
List *
part_rows_replace(Posting *posting, PartsChange *change)
{
	List	   *ends = NIL;
	List	   *known = NIL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, change->references)
	{
		foreach(lc2, parts_of_reference(posting, change->subscription,
										lfirst(lc)))
		{
			PaidPart   *before = lfirst(lc2);
			PaidPart   *part = find_part(change->parts, before->reference,
										 before->ends_at);

			ends = lappend(ends, &before->ends_at);
			if (part == NULL)
				remove_part(posting, change, before);
			else
			{
				known = lappend(known, part);
				if (!part_rows_same(part, before))
					put_part(posting, change, part);
			}
		}
	}
	foreach(lc, change->parts)
	{
		PaidPart   *part = lfirst(lc);
		PartRow		row;

		if (list_member_ptr(known, part))
			continue;
		ends = lappend(ends, &part->ends_at);
		if (!part_rows_find(posting, change->subscription, part->ends_at,
							part->reference, &row) ||
			!part_rows_same(part, &row.part))
			put_part(posting, change, part);
	}
	return ends;
}
