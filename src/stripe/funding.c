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

/* An invoice that is counted together with others, or is to be */
typedef struct FundingInvoice
{
	char		reference[MAX_NAME_BYTES + 1];	/* hash key */
	bool		counted;
} FundingInvoice;

/* What invoices before one make of the period that ends at an instant */
typedef struct EarlierSums
{
	TimestampTz ends_at;
	Invoice		invoice;
	int			nreferences;	/* how many were counted by then */
	int			nparts;			/* and how many parts they had */
	PaidSums	sums;
} EarlierSums;

/*
 * Begins to count invoices together.
 */
void
funding_begin(Funding *funding)
{
	HASHCTL		ctl = {
		.keysize = MAX_NAME_BYTES + 1,
		.entrysize = sizeof(FundingInvoice),
		.hcxt = CurrentMemoryContext
	};

	memset(funding, 0, sizeof(Funding));
	funding->invoices = hash_create("credits invoices counted", 16, &ctl,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * Notes that an invoice is to be counted.  Returns false if it was noted before.
 */
bool
funding_expect(Funding *funding, const char *reference)
{
	bool		found;
	FundingInvoice *invoice = hash_search(funding->invoices, reference,
										  HASH_ENTER, &found);

	if (!found)
		invoice->counted = false;
	return !found;
}

/*
 * Notes that an invoice is counted: its parts are not those that are stored any
 * more.
 */
void
funding_count(Funding *funding, const char *reference)
{
	FundingInvoice *invoice = hash_search(funding->invoices, reference,
										  HASH_ENTER, NULL);

	invoice->counted = true;
	funding->references = lappend(funding->references,
								  cstring_to_text(*reference ? reference :
												  PENDING_REFERENCE));
}

/*
 * Returns whether a stored part is of an invoice that is counted.
 */
static bool
is_counted(const Funding *funding, const PaidPart *part)
{
	char	   *reference = text_to_cstring(part->reference);
	FundingInvoice *invoice = NULL;

	if (strcmp(reference, PENDING_REFERENCE) == 0)
		reference = "";
	if (funding->invoices)
		invoice = hash_search(funding->invoices, reference, HASH_FIND, NULL);
	return invoice && invoice->counted;
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
 * Sums up what earlier invoices make of a period, as the parts are stored that are
 * of none that is counted.  Reads all of them.
 */
static void
sum_stored(int64 subscription_id, const Invoice *invoice, TimestampTz ends_at,
		   const Funding *funding, Snapshot snapshot, PaidSums *sums)
{
	ListCell   *lc;

	part_sums_begin(sums);
	foreach(lc, part_rows_of_period(subscription_id, ends_at, snapshot))
	{
		PaidPart   *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (is_of_earlier(part, invoice) && !is_counted(funding, part))
			part_sums_add(sums, part);
	}
}

/*
 * Removes the parts that a scan finds from the sums, except those that are of an
 * earlier invoice, or of one that is counted.  Returns false if the sums cannot be
 * told that way.
 */
static bool
remove_others(StoreScan *scan, const Invoice *invoice, const Funding *funding,
			  PaidSums *sums)
{
	PartRow		row;
	bool		known = true;

	while (known && scan_peek(scan, ForwardScanDirection, &row))
	{
		CHECK_FOR_INTERRUPTS();
		/* these are removed one by one */
		if (is_of_earlier(&row.part, invoice) ||
			is_counted(funding, &row.part))
			continue;
		known = part_sums_remove(sums, &row.part);
	}
	scan_end(scan);
	return known;
}

/*
 * Removes the stored parts of invoices that are counted, from the nth of them on,
 * from the sums over a period.  Unless that is NULL, only parts of invoices before
 * the given one are in these.  Returns false if the sums cannot be told that way.
 */
static bool
remove_counted(int64 subscription_id, TimestampTz ends_at,
			   const Funding *funding, int n, const Invoice *before,
			   Snapshot snapshot, PaidSums *sums)
{
	PartRow		row;

	for (; n < list_length(funding->references); n++)
	{
		CHECK_FOR_INTERRUPTS();
		if (scan_find(NULL, &paid_parts_by_end, snapshot, &row,
					  BY_INT64(subscription_id), BY_TIME(ends_at),
					  BY_TEXT(list_nth(funding->references, n))) &&
			(before == NULL || is_of_earlier(&row.part, before)) &&
			!part_sums_remove(sums, &row.part))
			return false;
	}
	return true;
}

/*
 * The same by the sums that the period has: without what later invoices make of
 * it, what does not come from one, and the stored parts of those that are counted.
 * Returns false if that cannot be told.
 */
static bool
sum_by_period(const Period *period, const Invoice *invoice,
			  const Funding *funding, Snapshot snapshot, PaidSums *sums)
{
	StoreScan	scan;

	sums->positive = period->paid;
	sums->credited = period->credited;
	sums->reversed = period->reversed;
	if (!remove_counted(period->subscription_id, period->ends_at, funding, 0,
						NULL, snapshot, sums))
		return false;
	scan_begin(&scan, NULL, &paid_parts_by_finalized_at, snapshot,
			   BY_INT64(period->subscription_id), BY_TIME(period->ends_at),
			   BY_NULL(TIMESTAMPTZOID));
	if (!remove_others(&scan, invoice, funding, sums))
		return false;
	scan_begin(&scan, NULL, &paid_parts_by_finalized_at, snapshot,
			   BY_INT64(period->subscription_id), BY_TIME(period->ends_at),
			   BY_TIME_FROM(invoice->finalized_at));
	return remove_others(&scan, invoice, funding, sums);
}

/*
 * Adds the parts that counted invoices have now, from the nth of them on, to the
 * sums over a period, if they are of an earlier invoice.
 */
static void
add_counted(const Funding *funding, int n, const Invoice *invoice,
			TimestampTz ends_at, PaidSums *sums)
{
	for (; n < list_length(funding->parts); n++)
	{
		PaidPart   *part = list_nth(funding->parts, n);

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at == ends_at && is_of_earlier(part, invoice))
			part_sums_add(sums, part);
	}
}

/*
 * Goes on from the sums of an earlier invoice to those of a later one.  Returns
 * false if they cannot be told that way.
 */
static bool
go_on(EarlierSums *earlier, int64 subscription_id, const Invoice *invoice,
	  const Funding *funding, Snapshot snapshot)
{
	StoreScan	scan;
	PartRow		row;

	if (funding_is_earlier(invoice, &earlier->invoice) ||
		!remove_counted(subscription_id, earlier->ends_at, funding,
						earlier->nreferences, &earlier->invoice, snapshot,
						&earlier->sums))
		return false;
	scan_begin(&scan, NULL, &paid_parts_by_finalized_at, snapshot,
			   BY_INT64(subscription_id), BY_TIME(earlier->ends_at),
			   BY_TIME_FROM(earlier->invoice.finalized_at));
	while (scan_peek(&scan, ForwardScanDirection, &row) &&
		   row.part.finalized_at <= invoice->finalized_at)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_of_earlier(&row.part, invoice) &&
			!is_of_earlier(&row.part, &earlier->invoice) &&
			!is_counted(funding, &row.part))
			part_sums_add(&earlier->sums, &row.part);
	}
	scan_end(&scan);
	add_counted(funding, earlier->nparts, invoice, earlier->ends_at,
				&earlier->sums);
	return true;
}

/*
 * Returns the sums that an earlier invoice had of the period that ends at an
 * instant, NULL if none had.
 */
static EarlierSums *
find_earlier(const Funding *funding, TimestampTz ends_at)
{
	ListCell   *lc;

	foreach(lc, funding->sums)
	{
		EarlierSums *earlier = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (earlier->ends_at == ends_at)
			return earlier;
	}
	return NULL;
}

/*
 * Sums up what earlier invoices make of the period of a part.  Those that are
 * counted have the parts in the list, and not those that are stored.  There can be
 * very many, so they are told from the sums of the period, of which there are none
 * if nothing has gone back: then it makes no difference what was paid with them,
 * and the sums are 0.  Invoices are counted in order, so each goes on where the one
 * before was.
 */
static void
sum_earlier(int64 subscription_id, const Invoice *invoice, const PaidPart *own,
			Funding *funding, PaidSums *sums)
{
	Snapshot	snapshot = RegisterSnapshot(billing_snapshot());
	EarlierSums *earlier = find_earlier(funding, own->ends_at);
	bool		known = earlier != NULL &&
		go_on(earlier, subscription_id, invoice, funding, snapshot);

	if (!known)
	{
		Period		row;
		Period	   *period = periods_read_paid(snapshot, subscription_id,
											   own->ends_at, &row) ? &row : NULL;

		part_sums_begin(sums);
		if (!may_be_reversed(period, own->ends_at, funding->parts))
		{
			UnregisterSnapshot(snapshot);
			return;
		}
		if (period == NULL ||
			!sum_by_period(period, invoice, funding, snapshot, sums))
			sum_stored(subscription_id, invoice, own->ends_at, funding, snapshot,
					   sums);
		add_counted(funding, 0, invoice, own->ends_at, sums);
		if (earlier == NULL)
		{
			earlier = palloc(sizeof(EarlierSums));
			earlier->ends_at = own->ends_at;
			funding->sums = lappend(funding->sums, earlier);
		}
		earlier->sums = *sums;
	}
	UnregisterSnapshot(snapshot);
	earlier->invoice = *invoice;
	earlier->nreferences = list_length(funding->references);
	earlier->nparts = list_length(funding->parts);
	*sums = earlier->sums;
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
			  Funding *funding)
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
			sum_earlier(subscription_id, invoice, funded->part, funding, &sums);
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
		sum_earlier(subscription_id, invoice, funded->part, funding, &sums);
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
