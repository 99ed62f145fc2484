/*
 * funding.c
 *	  Invoices of Stripe that are paid for by their own credits.
 *
 * An invoice whose total is 0 or less can have lines above 0 nevertheless: a
 * change from a year to a month credits what is left of the year, and bills the
 * month.  No money was paid for the month that could go back.  It was paid for
 * with money of the year.
 *
 * A change of plan within a period can bring more credits for no more money.  They
 * go back in the share in which what was paid for the period goes back.
 *
 * What goes back of the money of a period takes, at first, what is still due of
 * that period.  What goes back beyond that was credited before: it takes what
 * the credit has paid for on the invoice that credited it.  What of a credit the
 * customer's balance has got stays there, as Stripe leaves it there.
 *
 * For each period that an invoice credits more than it bills, only what earlier
 * invoices made of it counts, so that no two invoices can depend on each other.
 * All of this follows from invoices and lines, so it makes no difference what
 * became known first.
 *
 * Tested in test/sql/stripe_lines.sql, in all orders in test/t/billing.pl.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "stripe/billing.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

/*
 * Returns whether an invoice was finalized before another one.
 */
bool
funding_is_earlier(const Invoice *a, const Invoice *b)
{
	if (a->finalized_at != b->finalized_at)
		return a->finalized_at < b->finalized_at;
	return strcmp(a->invoice, b->invoice) < 0;
}

/*
 * Returns whether a text is in a list.
 */
static bool
has_text(List *texts, text *wanted)
{
	ListCell   *lc;

	foreach(lc, texts)
	{
		CHECK_FOR_INTERRUPTS();
		if (same_text(lfirst(lc), wanted))
			return true;
	}
	return false;
}

/*
 * Returns whether a part is that of an invoice that was finalized before another
 * one.  Those of which that is not known are of no invoice of Stripe.
 */
static bool
is_of_earlier(const PaidPart *part, const Invoice *invoice)
{
	if (part->finalized_at == 0 || part->finalized_at != invoice->finalized_at)
		return part->finalized_at != 0 &&
			part->finalized_at < invoice->finalized_at;
	return strcmp(text_to_cstring(part->reference), invoice->invoice) < 0;
}

/*
 * Returns whether money may have gone back of the period that ends at an instant,
 * which has been read if there is one.
 */
static bool
may_be_reversed(const Period *period, TimestampTz ends_at, List *parts)
{
	ListCell   *lc;

	if (period == NULL || period->reversed > 0)
		return true;
	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at == ends_at && part->reversed > 0)
			return true;
	}
	return false;
}

/*
 * Sums up what earlier invoices make of a period, as the parts are stored that
 * have none of the references.  Reads all of them.
 */
static void
sum_stored(int64 subscription_id, const Invoice *invoice, TimestampTz ends_at,
		   List *references, Snapshot snapshot, PaidSums *sums)
{
	ListCell   *lc;

	part_sums_begin(sums);
	foreach(lc, part_rows_of_period(subscription_id, ends_at, snapshot))
	{
		PaidPart   *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (is_of_earlier(part, invoice) &&
			!has_text(references, part->reference))
			part_sums_add(sums, part);
	}
}

/*
 * Removes the parts that a scan finds from the sums, except those that are of an
 * earlier invoice and have none of the references.  Returns false if the sums
 * cannot be told that way.
 */
static bool
remove_others(StoreScan *scan, const Invoice *invoice, List *references,
			  PaidSums *sums)
{
	PartRow		row;
	bool		known = true;

	while (known && scan_peek(scan, ForwardScanDirection, &row))
	{
		CHECK_FOR_INTERRUPTS();
		/* these are removed one by one */
		if (has_text(references, row.part.reference) ||
			is_of_earlier(&row.part, invoice))
			continue;
		known = part_sums_remove(sums, &row.part);
	}
	scan_end(scan);
	return known;
}

/*
 * The same by the sums that the period has: without what later invoices make of
 * it, what does not come from one, and the parts that have one of the references.
 * Returns false if that cannot be told.
 */
static bool
sum_by_period(const Period *period, const Invoice *invoice, List *references,
			  Snapshot snapshot, PaidSums *sums)
{
	StoreScan	scan;
	PartRow		row;
	ListCell   *lc;

	sums->positive = period->paid;
	sums->credited = period->credited;
	sums->reversed = period->reversed;
	foreach(lc, references)
	{
		CHECK_FOR_INTERRUPTS();
		if (scan_find(NULL, &paid_parts_by_end, snapshot, &row,
					  BY_INT64(period->subscription_id),
					  BY_TIME(period->ends_at),
					  BY_TEXT(lfirst(lc))) &&
			!part_sums_remove(sums, &row.part))
			return false;
	}
	scan_begin(&scan, NULL, &paid_parts_by_finalized_at, snapshot,
			   BY_INT64(period->subscription_id), BY_TIME(period->ends_at),
			   BY_NULL(TIMESTAMPTZOID));
	if (!remove_others(&scan, invoice, references, sums))
		return false;
	scan_begin(&scan, NULL, &paid_parts_by_finalized_at, snapshot,
			   BY_INT64(period->subscription_id), BY_TIME(period->ends_at),
			   BY_TIME_FROM(invoice->finalized_at));
	return remove_others(&scan, invoice, references, sums);
}

/*
 * Sums up what earlier invoices make of the period of a part.  Parts with one of
 * the references are those in the list, and not those that are stored.  There can
 * be very many, so they are told from the sums of the period, of which there are
 * none if nothing has gone back: then it makes no difference what was paid with
 * them, and the sums are 0.
 */
static void
sum_earlier(int64 subscription_id, const Invoice *invoice, const PaidPart *own,
			List *references, List *parts, PaidSums *sums)
{
	Snapshot	snapshot = RegisterSnapshot(billing_snapshot());
	Period		row;
	Period	   *period = periods_read_paid(snapshot, subscription_id,
										   own->ends_at, &row) ? &row : NULL;
	bool		may = may_be_reversed(period, own->ends_at, parts);
	ListCell   *lc;

	part_sums_begin(sums);
	if (may && (period == NULL ||
				!sum_by_period(period, invoice, references, snapshot, sums)))
		sum_stored(subscription_id, invoice, own->ends_at, references, snapshot,
				   sums);
	UnregisterSnapshot(snapshot);
	if (!may)
		return;
	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at == own->ends_at && is_of_earlier(part, invoice))
			part_sums_add(sums, part);
	}
}

/*
 * Adds a share of a part's credits to what is reversed of it.
 */
static void
reverse_more(PaidPart *part, Datum share, Datum share_of)
{
	Datum		more = divide(multiply(number(part->credits), share), share_of,
							  false);

	more = add(more, number(part->reversed));
	part->reversed = compare(more, number(part->credits)) > 0 ? part->credits :
		DatumGetInt64(DirectFunctionCall1(numeric_int8, more));
}

/*
 * Reverses what an invoice gives, as far as the money of the credits that paid
 * for it went back.  own are its parts (FundedPart *); those whose credits paid
 * for something are marked.
 */
void
funding_apply(int64 subscription_id, const Invoice *invoice, List *own,
			  List *references, List *parts)
{
	Datum		bought = number(0);
	Datum		credited = number(0);
	Datum		back = number(0);
	Datum		back_of = number(1);
	PaidSums	sums;
	ListCell   *lc;

	if (invoice->status != INVOICE_PAID || invoice->total > 0)
		return;
	foreach(lc, own)
	{
		FundedPart *funded = lfirst(lc);

		if (funded->part->credits > 0 && funded->amount > 0)
			bought = add(bought, number(funded->amount));
		else if (funded->part->credits < 0 && funded->amount < 0)
			credited = subtract(credited, number(funded->amount));
		else if (funded->part->credits > 0 && funded->credits)
		{
			int64		due;

			/* more credits for no more money: the period's own has paid them */
			funded->part->funds = true;
			sum_earlier(subscription_id, invoice, funded->part, references,
						parts, &sums);
			due = Max(sums.positive - sums.credited, 0);
			/* Stripe can credit more than was ever paid: then all of it has */
			if (due == 0)
				due = sums.positive;
			if (due > 0)
				reverse_more(funded->part, number(Min(sums.reversed, due)),
							 number(due));
		}
	}
	if (compare(bought, number(0)) <= 0 || compare(credited, number(0)) <= 0)
		return;
	/* taxes and other lines aside, this is what was bought */
	if (compare(credited, bought) < 0)
		bought = credited;
	foreach(lc, own)
	{
		FundedPart *funded = lfirst(lc);
		int64		paid_back;
		int64		due;
		int64		of;

		if (funded->part->credits >= 0)
			continue;
		funded->part->funds = true;
		if (funded->amount >= 0)
			continue;
		sum_earlier(subscription_id, invoice, funded->part, references, parts,
					&sums);
		due = Max(sums.positive - sums.credited, 0);
		/* Stripe can credit more than is due, and than was ever paid */
		of = Min(-funded->part->credits, sums.positive);
		paid_back = Min(sums.reversed - Max(due + funded->part->credits, 0), of);
		if (paid_back <= 0)
			continue;
		back = add(multiply(back, number(of)),
				   multiply(multiply(absolute(number(funded->amount)),
									 number(paid_back)), back_of));
		back_of = multiply(back_of, number(of));
	}
	if (compare(back, number(0)) == 0)
		return;
	back_of = multiply(back_of, bought);
	if (compare(back, back_of) > 0)
		back = back_of;
	foreach(lc, own)
	{
		PaidPart   *part = ((FundedPart *) lfirst(lc))->part;

		if (part->credits > 0)
			reverse_more(part, back, back_of);
	}
}
