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

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

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
 * Adds a part to the sums, if it is that of an earlier invoice.
 */
static void
add_earlier(PaidSums *sums, const PaidPart *part, const Invoice *invoice)
{
	Invoice		other;

	CHECK_FOR_INTERRUPTS();
	if (billing_find_invoice(text_to_cstring(part->reference), &other) &&
		funding_is_earlier(&other, invoice))
		part_sums_add(sums, part);
}

/*
 * Returns whether money may have gone back of the period that ends at an instant.
 */
static bool
may_be_reversed(int64 subscription_id, TimestampTz ends_at, List *parts)
{
	Period		period;
	ListCell   *lc;

	if (!periods_read_paid(billing_snapshot(), subscription_id, ends_at,
						   &period) || period.reversed > 0)
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
 * Sums up what earlier invoices make of the period of a part.  Parts with one of
 * the references are those in the list, and not those that are stored.  There can
 * be very many, which are not read if nothing has gone back: then it makes no
 * difference what was paid with them, and the sums are 0.
 */
static void
sum_earlier(int64 subscription_id, const Invoice *invoice, const PaidPart *own,
			List *references, List *parts, PaidSums *sums)
{
	ListCell   *lc;

	part_sums_begin(sums);
	if (!may_be_reversed(subscription_id, own->ends_at, parts))
		return;
	foreach(lc, part_rows_of_period(subscription_id, own->ends_at,
									billing_snapshot()))
	{
		PaidPart   *part = lfirst(lc);

		if (!has_text(references, part->reference))
			add_earlier(sums, part, invoice);
	}
	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);

		if (part->ends_at == own->ends_at)
			add_earlier(sums, part, invoice);
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
			funded->funds = true;
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
		funded->funds = true;
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
