/*
 * counts.c
 *	  Counting the lines of one of Stripe's invoices, or those that wait for one:
 *	  the parts of the credits of periods that they come to.
 *
 * The lines of an invoice that end at the same instant make one part of the
 * period that ends then, and so do those that wait for an invoice.  A line comes
 * to the credits of its plan x its quantity x its seconds / the seconds of the
 * whole period, and is negative if it credits what was billed before.  A part is
 * the exact sum of its lines, rounded once.
 *
 * Of each line the share is reversed that the money which went back is of the
 * invoice's total, and what credit notes credit of it.  What was paid for by
 * credits for earlier periods depends on these (funding.c).
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "stripe/counts.h"
#include "subscribe/paid_parts.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * Lines whose whole period is as long, and of which the same share is reversed
 */
typedef struct LineSum
{
	int64		whole;			/* seconds of a whole period */
	Datum		part;			/* numeric: share that is reversed, as part /
								 * of */
	Datum		of;
	Datum		credits;		/* numeric, times whole */
} LineSum;

/* ------------------------------------------------------------------------
 * what is reversed
 */

/*
 * Divides two numbers by their greatest common divisor.
 */
static void
reduce(Datum *part, Datum *of)
{
	Datum		divisor = DirectFunctionCall2(numeric_gcd, *part, *of);

	if (compare(divisor, number(1)) <= 0)
		return;
	*part = divide(*part, divisor, false);
	*of = divide(*of, divisor, false);
}

/*
 * Returns how many minor units credit notes credit of a line, and sets what they
 * credit of no line in particular.  Amounts have signs, and their sums any size.
 */
static Datum
credited_of(List *notes, const Line *line, Datum *custom)
{
	Datum		credited = number(0);
	ListCell   *lc;

	*custom = number(0);
	foreach(lc, notes)
	{
		CreditNote *note = lfirst(lc);
		uint32		i;

		*custom = add(*custom, number(note->custom));
		for (i = 0; note->lines && i < JB_ROOT_COUNT(note->lines); i++)
		{
			JsonbValue *element = getIthJsonbValueFromContainer(&note->lines->root,
																i);
			char	   *id;
			int64		amount;

			CHECK_FOR_INTERRUPTS();
			if (element->type != jbvBinary)
				continue;
			id = stripe_text(element->val.binary.data, "line");
			if (id && line->line && strcmp(id, line->line) == 0 &&
				stripe_int64(element->val.binary.data, "amount", &amount))
				credited = add(credited, number(amount));
		}
	}
	return credited;
}

/*
 * Computes the share of a line that is reversed, as a fraction of which neither
 * part is negative.
 */
static void
reversed_share(const Count *count, const Line *line, Datum *part, Datum *of)
{
	Datum		custom;
	Datum		credited = credited_of(count->notes, line, &custom);
	Datum		total = number(Max(count->invoice.total, 0));
	Datum		amount = absolute(number(line->amount));

	*part = number(0);
	*of = number(1);
	if (count->invoice.total > 0)
	{
		*part = add(count->back, custom);
		*of = total;
	}
	if (line->amount != 0 && compare(credited, number(0)) != 0)
	{
		*part = add(multiply(*part, amount),
					multiply(absolute(credited), *of));
		*of = multiply(*of, amount);
	}
	if (compare(*part, number(0)) <= 0)
	{
		*part = number(0);
		*of = number(1);
	}
	else if (compare(*part, *of) >= 0)
		*part = *of = number(1);
	else
		reduce(part, of);
}

/* ------------------------------------------------------------------------
 * adding up
 */

/*
 * Returns the group of lines that end at an instant.
 */
static LineGroup *
get_group(Count *count, TimestampTz ends_at)
{
	LineGroup  *group;
	ListCell   *lc;

	foreach(lc, count->groups)
	{
		CHECK_FOR_INTERRUPTS();
		group = lfirst(lc);
		if (group->ends_at == ends_at)
			return group;
	}
	group = palloc0(sizeof(LineGroup));
	group->starts_at = group->settled_at = DT_NOEND;
	group->ends_at = ends_at;
	count->groups = lappend(count->groups, group);
	return group;
}

/*
 * Adds credits times whole to the sums of a group.
 */
static void
add_to_sums(LineGroup *group, int64 whole, Datum credits, Datum part, Datum of)
{
	LineSum    *sum;
	ListCell   *lc;

	foreach(lc, group->sums)
	{
		CHECK_FOR_INTERRUPTS();
		sum = lfirst(lc);
		if (sum->whole == whole && compare(sum->part, part) == 0 &&
			compare(sum->of, of) == 0)
		{
			sum->credits = add(sum->credits, credits);
			return;
		}
	}
	sum = palloc(sizeof(LineSum));
	sum->whole = whole;
	sum->part = part;
	sum->of = of;
	sum->credits = credits;
	group->sums = lappend(group->sums, sum);
}

/*
 * Takes a line as the main one of its group if it is: the positive one with most
 * credits or, without any, the negative one with most.
 */
static void
take_main(LineGroup *group, const Line *line, const PlanTerms *plan, bool trial,
		  Datum credits, int64 whole)
{
	bool		negative = line->sign < 0;

	if (group->plan && negative && !group->negative)
		return;
	if (group->plan && negative == group->negative &&
		compare(multiply(credits, number(group->whole)),
				multiply(group->credits, number(whole))) <= 0)
		return;
	group->plan = plan;
	group->negative = negative;
	group->credits = credits;
	group->whole = whole;
	group->trial = trial;
}

/*
 * Is a line that of an invoice item?  The keys of others have a slash.
 */
static bool
is_item(const Line *line)
{
	return strchr(line->key, '/') == NULL;
}

/*
 * Returns whether two lines are for the same item at the same time, as those are
 * that credit and bill it when it changes.
 */
static bool
are_of_one_change(const Line *a, const Line *b)
{
	return a->starts_at == b->starts_at && a->ends_at == b->ends_at &&
		*a->item != '\0' && strcmp(a->item, b->item) == 0;
}

/*
 * Finds out which lines credit and which bill.
 *
 * A proration of 0, of a free price or with a discount of all of it, need not say
 * which of these it is.  Then it is the opposite of the other one of its change.
 */
static void
find_signs(List *lines)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, lines)
	{
		Line	   *line = lfirst(lc);

		line->sign = line->negative ? -1 :
			is_item(line) && line->amount == 0 ? 0 : 1;
	}
	foreach(lc, lines)
	{
		Line	   *line = lfirst(lc);
		int			others = 0;

		if (line->negative || line->sign != 0)
			continue;
		foreach(lc2, lines)
		{
			const Line *other = lfirst(lc2);

			CHECK_FOR_INTERRUPTS();
			if (are_of_one_change(line, other))
				others += other->negative ? -1 : other->amount != 0;
		}
		line->sign = others < 0 ? 1 : others > 0 ? -1 : 0;
	}
}

/*
 * Returns whether an item may still be billed, by the newest event of its
 * subscription.
 */
static bool
may_be_billed(const Billed *billed, const char *item)
{
	JsonbValue *items = stripe_get(&billed->facts->root, "items");
	uint32		i;

	if (billed->deleted)
		return false;
	if (stripe_true(&billed->facts->root, "more"))
		return true;
	for (i = 0; items && i < JsonContainerSize(items->val.binary.data); i++)
	{
		JsonbValue *element =
			getIthJsonbValueFromContainer(items->val.binary.data, i);
		char	   *id;

		CHECK_FOR_INTERRUPTS();
		if (element->type != jbvBinary)
			continue;
		id = stripe_text(element->val.binary.data, "item");
		if (id && strcmp(id, item) == 0)
			return !stripe_true(element->val.binary.data, "unbilled");
	}
	return false;
}

/*
 * Returns whether a line that waits for an invoice credits an item, and no other
 * line is known that bills the same item for the same time.
 */
static bool
is_half(const Count *count, const Line *line)
{
	ListCell   *lc;

	if (*count->reference != '\0' || line->sign >= 0 || *line->item == '\0')
		return false;
	foreach(lc, count->lines)
	{
		const Line *other = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (other->sign >= 0 && are_of_one_change(line, other))
			return false;
	}
	return true;
}

/*
 * Returns since when a line counts, DT_NOEND if it does not.
 */
static TimestampTz
settled_at(const Count *count, const Line *line, const Mapping *mapping)
{
	if (line->deleted || !count->sold)
		return DT_NOEND;
	if (*count->reference == '\0')
		return line->proration && mapping->in_advance ?
			line->starts_at : DT_NOEND;
	if (!count->found || !count->invoice.complete)
		return DT_NOEND;
	if (count->invoice.status != INVOICE_PAID &&
		(count->invoice.status != INVOICE_OPEN || !mapping->finalized))
		return DT_NOEND;
	/* on no invoice before its period was over: it was given in advance */
	if (is_item(line) && line->sign > 0 && mapping->in_advance &&
		count->invoice.finalized_at != DT_NOEND &&
		count->invoice.finalized_at >= line->ends_at)
		return line->starts_at;
	return mapping->finalized ? count->invoice.finalized_at :
		count->invoice.paid_at;
}

/*
 * Notes why a line gives nothing, and whether that may change.
 */
static void
note_line(Line *line, const char *problem, bool uncertain)
{
	bool		same = problem == line->problem ||
		(problem && line->problem && strcmp(problem, line->problem) == 0);

	if (same && uncertain == line->uncertain)
		return;
	line->problem = problem;
	line->uncertain = uncertain;
	line->altered = true;
}

/*
 * Adds a line to its group, if it counts.
 */
static void
count_line(Count *count, Line *line, Mapping *mapping)
{
	const PlanTerms *plan = mapping->terms;
	bool		trial = lines_is_trial(count->billed, line);
	bool		certain = true;
	int64		seconds;
	int64		whole = 1;
	Datum		credits;
	TimestampTz settled;
	bool		half;
	LineGroup  *group;
	Datum		part;
	Datum		of;

	if (line->metered || (mapping->version_id != 0 && mapping->plan == NULL))
	{
		note_line(line, NULL, false);
		return;
	}
	/* what has been mapped since is applied by credits_stripe_reprocess */
	if (plan == NULL || (count->only_look && !mapping->kept &&
						 line->problem && strcmp(line->problem, "unmapped") == 0))
	{
		note_line(line, "unmapped", line->uncertain);
		return;
	}
	if (line->sign == 0)
	{
		note_line(line, NULL, false);
		return;
	}
	if (line->ends_at == DT_NOBEGIN)
	{
		note_line(line, "period", false);
		return;
	}
	seconds = (line->ends_at - line->starts_at) / USECS_PER_SEC;
	if (trial)
		credits = number(plan->trial_credits);
	else
	{
		TimestampTz from = lines_whole_from(count->billed, line, plan,
											&certain);

		whole = (line->ends_at - from) / USECS_PER_SEC;
		if (2 * seconds > 3 * whole)
		{
			note_line(line, "length", true);
			return;
		}
		credits = multiply(multiply(number(plan->credits),
									number(Max(line->quantity, 0))),
						   number(seconds));
	}
	half = is_half(count, line);
	note_line(line, NULL, line->amount == 0 || !certain || half);
	settled = settled_at(count, line, mapping);
	/* Stripe tells of the two lines of a change one by one */
	if (settled == DT_NOEND ||
		(half && may_be_billed(count->billed, line->item)))
		return;
	if (!count->only_look && !count->only_note)
		lines_keep_mapping(line, mapping);
	reversed_share(count, line, &part, &of);
	group = get_group(count, line->ends_at);
	group->starts_at = Min(group->starts_at, line->starts_at);
	group->settled_at = Min(group->settled_at, settled);
	take_main(group, line, plan, trial, credits, whole);
	add_to_sums(group, whole,
				line->sign < 0 ? subtract(number(0), credits) : credits,
				part, of);
	group->credited |= line->sign < 0;
	/* without a price rather than with a wrong one */
	if (pg_add_s64_overflow(group->amount, line->amount, &group->amount) ||
		pg_sub_s64_overflow(group->amount, line->discount, &group->amount))
		group->amount = 0;
	if (line->currency)
		group->currency = line->currency;
}

/*
 * Returns a fraction as a whole number: half away from zero, or toward zero.
 */
static int64
to_credits(Datum part, Datum of, bool toward_zero)
{
	bool		negative = compare(part, number(0)) < 0;
	Datum		size = negative ? subtract(number(0), part) : part;
	Datum		whole = toward_zero ? divide(size, of, false) :
		divide(add(multiply(size, number(2)), of), multiply(of, number(2)), false);
	int64		credits = DatumGetInt64(DirectFunctionCall1(numeric_int8, whole));

	return negative ? -credits : credits;
}

/*
 * Makes a part of a group.
 */
static PaidPart *
make_part(const Count *count, const LineGroup *group)
{
	PaidPart   *part = palloc0(sizeof(PaidPart));
	Datum		credits = number(0);
	Datum		of = number(1);
	Datum		reversed = number(0);
	Datum		reversed_of = number(1);
	bool		all = true;
	ListCell   *lc;

	foreach(lc, group->sums)
	{
		LineSum    *sum = lfirst(lc);
		Datum		whole = number(sum->whole);
		Datum		whole_of = multiply(whole, sum->of);

		CHECK_FOR_INTERRUPTS();
		credits = add(multiply(credits, whole), multiply(sum->credits, of));
		of = multiply(of, whole);
		reduce(&credits, &of);
		reversed = add(multiply(reversed, whole_of),
					   multiply(multiply(sum->credits, sum->part),
								reversed_of));
		reversed_of = multiply(reversed_of, whole_of);
		reduce(&reversed, &reversed_of);
		if (compare(sum->part, sum->of) < 0)
			all = false;
	}
	part->reference = cstring_to_text(*count->reference ? count->reference :
									  PENDING_REFERENCE);
	part->starts_at = group->starts_at;
	part->ends_at = group->ends_at;
	part->settled_at = group->settled_at;
	part->plan_id = group->plan->id;
	part->credits = to_credits(credits, of, false);
	part->reversed = all ? part->credits :
		to_credits(reversed, reversed_of, true);
	if (part->credits >= 0)
		part->reversed = Max(0, Min(part->reversed, part->credits));
	else
		part->reversed = Min(0, Max(part->reversed, part->credits));
	if (group->amount > 0 && group->currency)
	{
		part->price = stripe_money(group->amount, group->currency);
		part->currency = stripe_currency(group->currency);
	}
	part->trial = group->trial;
	part->finalized_at = count->found ? count->invoice.finalized_at : 0;
	return part;
}

/*
 * Returns what a line is mapped to, which is looked up once for all lines that
 * are alike.
 */
static Mapping *
mapping_of(List **mappings, const Billed *billed, const Line *line)
{
	const char *price = line->price ? line->price : line->plan;
	Mapping    *mapping;
	ListCell   *lc;

	foreach(lc, *mappings)
	{
		CHECK_FOR_INTERRUPTS();
		mapping = lfirst(lc);
		if (price && strcmp(mapping->item, line->item) == 0 &&
			strcmp(mapping->price, price) == 0)
			return mapping;
	}
	mapping = lines_mapping(billed, line);
	*mappings = lappend(*mappings, mapping);
	return mapping;
}

/*
 * Computes the parts of an invoice, and returns them.  funding has the others that
 * are counted; NULL if none are.
 */
List *
counts_invoice(Count *count, List **mappings, Funding *funding)
{
	Funding		none = {0};
	List	   *own = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	count->lines = billing_lines(count->billed->subscription,
								 count->reference);
	find_signs(count->lines);
	if (count->found && count->invoice.complete &&
		count->invoice.status >= INVOICE_OPEN)
	{
		count->notes = billing_credit_notes(count->reference);
		count->back = invoice_payments_back(&count->invoice, count->notes);
	}
	foreach(lc, count->lines)
	{
		Line	   *line = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		count_line(count, line, mapping_of(mappings, count->billed, line));
	}
	foreach(lc, count->groups)
	{
		LineGroup  *group = lfirst(lc);
		FundedPart *funded = palloc(sizeof(FundedPart));

		funded->part = make_part(count, group);
		funded->amount = group->amount;
		funded->credits = group->credited;
		if (funded->part->credits == 0)
			continue;
		own = lappend(own, funded);
		result = lappend(result, funded->part);
	}
	if (count->found)
		funding_apply(count->billed->id, &count->invoice, own,
					  funding ? funding : &none);
	foreach(lc, count->lines)
	{
		if (((Line *) lfirst(lc))->altered && !count->only_look)
			billing_write(&lines_table, lfirst(lc));
	}
	return result;
}

/*
 * Begins to count an invoice, or what waits for one.
 */
Count *
counts_begin(Billed *billed, const char *reference)
{
	Count	   *count = palloc0(sizeof(Count));

	count->billed = billed;
	count->sold = billing_is_sold(billed);
	count->reference = reference;
	count->back = number(0);
	if (*reference)
		count->found = billing_find_invoice(reference, &count->invoice);
	return count;
}
