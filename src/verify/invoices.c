/*
 * invoices.c
 *	  credits_verify: invoices of Stripe.
 *
 * Computes again what each invoice of a subscription says about its periods,
 * from lines, refunds, disputes and credit notes, and compares that with the
 * parts that are stored.  What the parts of a period come to is checked in
 * periods.c.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/billing.h"
#include "verify/verify.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* events of a subscription that were refused are not applied yet */
static SqlStatement find_refused = {
	.text = "SELECT FROM credits.stripe_subjects AS s "
	"WHERE s.subject = $1 AND s.waiting ~ '^[0-9A-Z]{5}: '",
	.types = (const Oid[]) {TEXTOID, InvalidOid},
	.by_snapshot = true
};

/* A subscription whose invoices are checked */
typedef struct InvoicesCheck
{
	Verification *v;
	Billed	   *billed;
} InvoicesCheck;

/*
 * Returns the part that ends at an instant, NULL if there is none.
 */
static PaidPart *
part_that_ends(List *parts, TimestampTz ends_at)
{
	ListCell   *lc;

	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (part->ends_at == ends_at)
			return part;
	}
	return NULL;
}

/*
 * Reports a part that is not what the invoice comes to.
 */
static void
report_part(const InvoicesCheck *check, const char *reference,
			const PaidPart *part, const char *is)
{
	verify_report(check->v, 0, "invoice",
				  psprintf("what \"%s\" says about the period of subscription " INT64_FORMAT " that ends at %s %s",
						   reference, check->billed->id,
						   clock_show(part->ends_at), is));
}

/*
 * Checks the parts of an invoice, or of what waits for one.
 */
static void
check_invoice(const InvoicesCheck *check, const char *invoice, List *stored)
{
	const char *reference = *invoice ? invoice : PENDING_REFERENCE;
	List	   *parts = shares_look(check->billed, invoice, GetActiveSnapshot());
	ListCell   *lc;

	foreach(lc, parts)
	{
		PaidPart   *part = lfirst(lc);
		PaidPart   *known = part_that_ends(stored, part->ends_at);

		if (known == NULL)
			report_part(check, reference, part, "is missing");
		else if (known->credits != part->credits)
			report_part(check, reference, part,
						psprintf("is " INT64_FORMAT " credits, but its lines come to " INT64_FORMAT,
								 known->credits, part->credits));
		else if (known->reversed != part->reversed)
			report_part(check, reference, part,
						psprintf("has " INT64_FORMAT " credits reversed, but should have " INT64_FORMAT,
								 known->reversed, part->reversed));
		else if (!part_rows_same(known, part))
			report_part(check, reference, part,
						"differs from its lines in times, plan or price");
	}
	foreach(lc, stored)
	{
		PaidPart   *known = lfirst(lc);

		if (part_that_ends(parts, known->ends_at) == NULL)
			report_part(check, reference, known, "follows from no line");
	}
}

/*
 * Checks the parts that are stored of an invoice, if it is one of Stripe's.
 */
static void
check_reference(const InvoicesCheck *check, text *reference)
{
	char	   *name = text_to_cstring(reference);
	Invoice		invoice;
	bool		waits = strcmp(name, PENDING_REFERENCE) == 0;

	if (waits || billing_find_invoice_at(name, GetActiveSnapshot(), &invoice))
		check_invoice(check, waits ? "" : name,
					  part_rows_of_reference(check->billed->id, reference,
											 GetActiveSnapshot()));
}

/*
 * Checks an invoice of which no part is stored.
 */
static void
check_unknown(void *arg, const char *invoice)
{
	const InvoicesCheck *check = arg;
	MemoryContext old = MemoryContextSwitchTo(check->v->row);
	text	   *reference = cstring_to_text(*invoice ? invoice :
											PENDING_REFERENCE);

	/* if there are some, check_reference has seen to it */
	if (part_rows_of_reference(check->billed->id, reference,
							   GetActiveSnapshot()) == NIL)
		check_invoice(check, invoice, NIL);
	MemoryContextSwitchTo(old);
	MemoryContextReset(check->v->row);
}

/*
 * Checks what the invoices of a subscription say about its periods.
 */
void
verify_invoices(Verification *v, int64 subscription_id)
{
	InvoicesCheck check = {.v = v};
	Subscription subscription;
	Datum		value;
	StoreScan	scan;
	PartRow		row;
	text	   *last = NULL;

	if (!subscriptions_read(NULL, GetActiveSnapshot(), subscription_id,
							&subscription) ||
		subscription.external_id == NULL)
		return;
	check.billed = billing_subscription_at(text_to_cstring(subscription.external_id),
										   GetActiveSnapshot());
	value = PointerGetDatum(subscription.external_id);
	if (check.billed->id != subscription_id ||
		statements_run(&find_refused, &value, NULL)->nrows > 0)
		return;

	scan_begin(&scan, NULL, &paid_parts_by_reference, GetActiveSnapshot(),
			   BY_INT64(subscription_id));
	while (scan_peek(&scan, ForwardScanDirection, &row))
	{
		MemoryContext old;

		if (last && same_text(last, row.part.reference))
			continue;
		if (last)
			pfree(last);
		last = DatumGetTextPCopy(PointerGetDatum(row.part.reference));
		old = MemoryContextSwitchTo(v->row);
		check_reference(&check, last);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
	billing_each_invoice(check.billed->subscription, GetActiveSnapshot(),
						 check_unknown, &check);
}
