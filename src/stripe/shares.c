/*
 * shares.c
 *	  Bringing a subscription to what the lines of its Stripe invoices come to.
 *
 * What an invoice comes to is computed from rows (counts.c), so it makes no
 * difference what became known first.  Which are counted again when an event
 * arrives follows from fold.c, and from what is paid for with their credits.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/counts.h"
#include "subscribe/paid_parts.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* prices that are to be mapped, of what was paid or is given in advance */
static SqlStatement find_unmapped = {
	.text = "SELECT COALESCE(l.price, l.plan, l.product) "
	"FROM credits.stripe_lines AS l "
	"LEFT JOIN credits.stripe_invoices AS i ON i.invoice = l.invoice "
	"WHERE l.subscription = $1 AND l.problem = 'unmapped' AND NOT l.negative "
	"AND COALESCE(l.price, l.plan, l.product) IS NOT NULL "
	"AND (i.status = 'paid' OR l.invoice = '') ORDER BY l.key LIMIT 1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

/*
 * Returns what an invoice, or what waits for one, comes to by the rows as of a
 * snapshot: its parts (PaidPart *).
 */
List *
shares_look(Billed *billed, const char *reference, Snapshot snapshot)
{
	List	   *mappings = NIL;
	List	   *volatile parts = NIL;

	billing_read_at(snapshot);
	PG_TRY();
	{
		Count	   *count = counts_begin(billed, reference);

		count->only_look = true;
		parts = counts_invoice(count, &mappings, NULL);
	}
	PG_FINALLY();
	{
		billing_read_at(NULL);
	}
	PG_END_TRY();
	return parts;
}

/*
 * Has a subscription wait if a price is not mapped of what was paid or is given
 * in advance.  Returns false in that case.
 */
static bool
check_mapped(const Billed *billed, StripeOutcome *outcome)
{
	Datum		value = CStringGetTextDatum(billed->subscription);
	SqlResult  *unmapped = statements_run(&find_unmapped, &value, NULL);

	if (unmapped->nrows == 0)
		return true;
	outcome->waiting = psprintf("a plan for price \"%s\"",
								stripe_text_of(unmapped, 0));
	outcome->alert = "stripe_unmapped";
	return false;
}

/*
 * Notes why lines of invoices give nothing, of a subscription that has not
 * begun, and has it wait if a price is not mapped.  Returns a plan that was paid
 * for, NULL if there is none.
 */
const PlanTerms *
shares_note(Billed *billed, List *invoices, StripeOutcome *outcome)
{
	List	   *mappings = NIL;
	const PlanTerms *plan = NULL;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, invoices)
	{
		Count	   *count = counts_begin(billed, lfirst(lc));

		CHECK_FOR_INTERRUPTS();
		count->only_note = true;
		(void) counts_invoice(count, &mappings, NULL);
		foreach(lc2, count->groups)
		{
			LineGroup  *group = lfirst(lc2);

			if (!count->found || group->negative)
				continue;
			/* the same one in whichever order invoices became known */
			if (plan == NULL || group->plan->id < plan->id)
				plan = group->plan;
		}
	}
	if (plan == NULL)
		(void) check_mapped(billed, outcome);
	return plan;
}

/*
 * Orders what is counted: invoices as they were finalized, then what waits for
 * one.
 */
static int
compare_counts(const ListCell *a, const ListCell *b)
{
	const Count *x = lfirst(a);
	const Count *y = lfirst(b);

	if (x->found != y->found)
		return x->found ? -1 : 1;
	if (!x->found)
		return strcmp(x->reference, y->reference);
	return funding_is_earlier(&x->invoice, &y->invoice) ? -1 :
		funding_is_earlier(&y->invoice, &x->invoice) ? 1 : 0;
}

/*
 * Returns whether the invoices that are paid for with a period are looked for
 * already, and notes that they are.
 */
static bool
is_followed(Funding *funding, TimestampTz ends_at)
{
	TimestampTz *followed;
	ListCell   *lc;

	foreach(lc, funding->followed)
	{
		CHECK_FOR_INTERRUPTS();
		if (*(TimestampTz *) lfirst(lc) == ends_at)
			return true;
	}
	followed = palloc(sizeof(TimestampTz));
	*followed = ends_at;
	funding->followed = lappend(funding->followed, followed);
	return false;
}

/*
 * Adds to what is to be counted, which is in order, the later invoices that are
 * paid for with the periods of an invoice.  parts are those that it has now.  Of
 * invoices that come after another one, it is known which these are: they are
 * among those that come after that one.
 */
static List *
add_funded(List *counts, const Count *count, List *parts, Funding *funding)
{
	bool		added = false;
	ListCell   *lc;
	ListCell   *lc2;

	if (!count->found)
		return counts;
	parts = list_concat(part_rows_of_reference(count->billed->id,
											   cstring_to_text(count->reference),
											   billing_snapshot()),
						parts);
	foreach(lc, parts)
	{
		TimestampTz ends_at = ((PaidPart *) lfirst(lc))->ends_at;

		CHECK_FOR_INTERRUPTS();
		if (is_followed(funding, ends_at))
			continue;
		foreach(lc2, part_rows_funding(count->billed->id, ends_at,
									   count->invoice.finalized_at,
									   billing_snapshot()))
		{
			char	   *reference = text_to_cstring(((PaidPart *) lfirst(lc2))->reference);
			Count	   *funded;

			CHECK_FOR_INTERRUPTS();
			if (!funding_expect(funding, reference))
				continue;
			funded = counts_begin(count->billed, reference);
			if (!funded->found ||
				!funding_is_earlier(&count->invoice, &funded->invoice))
				continue;
			counts = lappend(counts, funded);
			added = true;
		}
	}
	if (added)
		list_sort(counts, compare_counts);
	return counts;
}

/*
 * Brings a subscription that has begun to what some of its invoices come to, and
 * has it wait if a price is not mapped.  Returns false in that case.
 */
bool
shares_apply(Billed *billed, int64 account_id, List *invoices,
			 StripeOutcome *outcome)
{
	List	   *counts = NIL;
	List	   *mappings = NIL;
	Funding		funding;
	Receipt		receipt = {0};
	ListCell   *lc;

	if (invoices == NIL)
		return true;
	funding_begin(&funding);
	foreach(lc, invoices)
	{
		(void) funding_expect(&funding, lfirst(lc));
		counts = lappend(counts, counts_begin(billed, lfirst(lc)));
	}
	list_sort(counts, compare_counts);
	while (counts != NIL)
	{
		Count	   *count = linitial(counts);
		List	   *own;

		CHECK_FOR_INTERRUPTS();
		counts = list_delete_first(counts);
		funding_count(&funding, count->reference);
		own = counts_invoice(count, &mappings, &funding);
		counts = add_funded(counts, count, own, &funding);
		funding.parts = list_concat(funding.parts, own);
		if (count->found && count->invoice.status == INVOICE_PAID)
			invoice_payments_record(&count->invoice, account_id, outcome);
	}
	if (paid_parts_set(billed->id, funding.references, funding.parts,
					   &receipt))
	{
		outcome->changed = true;
		if (receipt.transaction_id != 0)
			json_int64(&outcome->detail, "transaction_id",
					   receipt.transaction_id);
	}
	return check_mapped(billed, outcome);
}

/*
 * Brings the credits of an invoice, which must be locked with its subscription,
 * to what it comes to, if the subscription has begun.  Of an invoice without a
 * subscription, takes back what went back of it.
 */
void
stripe_apply_invoice(const char *id, StripeOutcome *outcome)
{
	Invoice		invoice;
	Billed	   *billed;
	Subscription subscription;
	StripeOutcome apart = {0};

	if (!billing_find_invoice(id, &invoice))
	{
		other_invoices_reverse(id, outcome);
		return;
	}
	billed = billing_subscription(invoice.subscription);
	if (billed->id == 0 || !subscriptions_find(billed->id, &subscription))
		return;
	outcome->account_id = subscription.account_id;
	json_int64(&outcome->detail, "subscription_id", billed->id);
	/* for a price that is not mapped waits the subscription */
	(void) shares_apply(billed, subscription.account_id,
						list_make1(pstrdup(id)), &apart);
	outcome->changed |= apart.changed;
	json_members(&outcome->detail, &apart.detail);
}
