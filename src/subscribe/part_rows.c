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

StoreIndex	paid_parts_by_start = {
	&paid_parts_table, "paid_parts_starts_at_idx",
	{"subscription_id", "ends_at", "starts_at"}
};

StoreIndex	paid_parts_by_reference = {
	&paid_parts_table, "paid_parts_reference_idx",
	{"subscription_id", "reference"}
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
 * Returns whether two parts say the same.
 */
bool
part_rows_same(const PaidPart *a, const PaidPart *b)
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
 * Has a part written together with the account, in place of a row, which is NULL
 * if there is none.
 */
static void
put_part(Posting *posting, PartsChange *change, const PaidPart *part,
		 const PartRow *before)
{
	PartRow    *row = palloc0(sizeof(PartRow));

	if (before)
	{
		row->tid = before->tid;
		row->before = &before->part;
	}
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
List *
part_rows_replace(Posting *posting, PartsChange *change)
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
				if (!part_rows_same(part, &row->part))
					put_part(posting, change, part, row);
			}
			row = palloc(sizeof(PartRow));
		}
		scan_end(&scan);
	}
	foreach(lc, change->parts)
	{
		PaidPart   *part = lfirst(lc);
		PartRow    *row;

		if (list_member_ptr(known, part))
			continue;
		ends = lappend(ends, &part->ends_at);
		row = palloc(sizeof(PartRow));
		if (!scan_find(posting->store, &paid_parts_by_end, posting->snapshot,
					   row, BY_INT64(change->subscription_id),
					   BY_TIME(part->ends_at), BY_TEXT(part->reference)))
			put_part(posting, change, part, NULL);
		else if (!part_rows_same(part, &row->part))
			put_part(posting, change, part, row);
	}
	return ends;
}

/*
 * Returns whether a row is among some that are to be replaced.
 */
bool
part_rows_contain(List *rows, const PartRow *row)
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
