/*
 * billing.c
 *	  Stripe's subscriptions, invoices, lines and credit notes as rows.
 *
 * Rows are read and written through the store: see inbox.c.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/billing.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* the snapshot that rows are read as of, NULL for the latest */
static Snapshot reading_at = NULL;

static const char *const invoice_status_names[] = {
	"draft", "open", "uncollectible", "void", "paid"
};

static const StoreColumn billed_columns[] = {
	COLUMN_CSTRING(Billed, subscription),
	COLUMN_INT64(Billed, id, AS("subscription_id"), NULL_IS(0)),
	COLUMN_CSTRING(Billed, account, NULL_IF_ZERO),
	COLUMN_INT32(Billed, account_near),
	COLUMN_TIME(Billed, account_at),
	COLUMN_CSTRING(Billed, customer, NULL_IF_ZERO),
	COLUMN_BOOL(Billed, deleted),
	COLUMN_BOOL(Billed, paid),
	COLUMN_TIME(Billed, as_of.at, AS("as_of"), NULL_IS(DT_NOBEGIN)),
	COLUMN_INT32(Billed, as_of.rank, AS("as_rank")),
	COLUMN_CSTRING(Billed, as_of.event, AS("as_event"), NULL_IF_ZERO),
	COLUMN_JSONB(Billed, facts, NULL_IF_ZERO),
	COLUMN_INT64(Billed, plan_id, NULL_IS(0)),
	COLUMN_PAIRS(Billed, anchors, nanchors, NULL_IF_ZERO),
	COLUMN_PAIRS(Billed, trials, ntrials, NULL_IF_ZERO),
	COLUMN_CSTRING(Billed, awaited, AS("awaited_invoice"), NULL_IF_ZERO),
	COLUMN_TIME(Billed, awaited_since, NULL_IS(DT_NOBEGIN))
};

StoreTable	billed_table = {
	.name = "stripe_subscriptions",
	ROWS_OF(Billed, billed_columns)
};

static StoreIndex billed_by_subscription = {
	&billed_table, "stripe_subscriptions_pkey", {"subscription"},.unique = true
};

static const StoreColumn invoice_columns[] = {
	COLUMN_CSTRING(Invoice, invoice),
	COLUMN_CSTRING(Invoice, subscription),
	COLUMN_ENUM(Invoice, status, invoice_status_names),
	COLUMN_INT64(Invoice, total),
	COLUMN_INT64(Invoice, amount_paid),
	COLUMN_CSTRING(Invoice, currency, NULL_IF_ZERO),
	COLUMN_TIME(Invoice, finalized_at, NULL_IS(DT_NOEND)),
	COLUMN_TIME(Invoice, paid_at, NULL_IS(DT_NOEND)),
	COLUMN_BOOL(Invoice, complete),
	COLUMN_BOOL(Invoice, completed),
	COLUMN_TIME(Invoice, as_of.at, AS("as_of")),
	COLUMN_INT32(Invoice, as_of.rank, AS("as_rank")),
	COLUMN_CSTRING(Invoice, as_of.event, AS("as_event"))
};

StoreTable	invoices_table = {
	.name = "stripe_invoices",
	ROWS_OF(Invoice, invoice_columns)
};

static StoreIndex invoices_by_id = {
	&invoices_table, "stripe_invoices_pkey", {"invoice"},.unique = true
};

static const StoreColumn line_columns[] = {
	COLUMN_CSTRING(Line, key),
	COLUMN_CSTRING(Line, subscription),
	COLUMN_CSTRING(Line, invoice),
	COLUMN_CSTRING(Line, line, NULL_IF_ZERO),
	COLUMN_TIME(Line, starts_at, NULL_IS(DT_NOBEGIN)),
	COLUMN_TIME(Line, ends_at, NULL_IS(DT_NOBEGIN)),
	COLUMN_INT64(Line, amount),
	COLUMN_INT64(Line, discount),
	COLUMN_CSTRING(Line, currency, NULL_IF_ZERO),
	COLUMN_INT64(Line, quantity),
	COLUMN_BOOL(Line, priced),
	COLUMN_CSTRING(Line, price, NULL_IF_ZERO),
	COLUMN_CSTRING(Line, plan, NULL_IF_ZERO),
	COLUMN_CSTRING(Line, product, NULL_IF_ZERO),
	COLUMN_CSTRING(Line, item),
	COLUMN_BOOL(Line, negative),
	COLUMN_BOOL(Line, proration),
	COLUMN_BOOL(Line, metered),
	COLUMN_BOOL(Line, billed),
	COLUMN_BOOL(Line, deleted),
	COLUMN_TIME(Line, as_of.at, AS("as_of")),
	COLUMN_INT32(Line, as_of.rank, AS("as_rank")),
	COLUMN_CSTRING(Line, as_of.event, AS("as_event"), NULL_IF_ZERO),
	COLUMN_CSTRING(Line, problem, NULL_IF_ZERO),
	COLUMN_BOOL(Line, uncertain)
};

StoreTable	lines_table = {
	.name = "stripe_lines",
	ROWS_OF(Line, line_columns)
};

static StoreIndex lines_by_key = {
	&lines_table, "stripe_lines_pkey", {"key"},.unique = true
};
static StoreIndex lines_by_invoice = {
	&lines_table, "stripe_lines_invoice_idx", {"subscription", "invoice"}
};
static StoreIndex lines_by_end = {
	&lines_table, "stripe_lines_ends_at_idx", {"subscription", "ends_at"}
};
static StoreIndex lines_by_whole = {
	&lines_table, "stripe_lines_whole_idx", {"subscription", "ends_at"},
	.predicate = "(NOT proration)"
};
static StoreIndex lines_uncertain = {
	&lines_table, "stripe_lines_uncertain_idx", {"subscription", "invoice"},
	.predicate = "uncertain"
};

static const StoreColumn credit_note_columns[] = {
	COLUMN_CSTRING(CreditNote, id, AS("credit_note")),
	COLUMN_CSTRING(CreditNote, invoice),
	COLUMN_BOOL(CreditNote, voided),
	COLUMN_INT64(CreditNote, custom),
	COLUMN_JSONB(CreditNote, lines, NULL_IF_ZERO),
	COLUMN_JSONB(CreditNote, refunds, NULL_IF_ZERO),
	COLUMN_TIME(CreditNote, as_of.at, AS("as_of")),
	COLUMN_INT32(CreditNote, as_of.rank, AS("as_rank")),
	COLUMN_CSTRING(CreditNote, as_of.event, AS("as_event"))
};

StoreTable	credit_notes_table = {
	.name = "stripe_credit_notes",
	ROWS_OF(CreditNote, credit_note_columns)
};

static StoreIndex credit_notes_by_id = {
	&credit_notes_table, "stripe_credit_notes_pkey", {"credit_note"},
	.unique = true
};
static StoreIndex credit_notes_by_invoice = {
	&credit_notes_table, "stripe_credit_notes_invoice_idx", {"invoice"}
};

/* ------------------------------------------------------------------------
 * which event counts
 */

/*
 * Returns whether a subscription gives anything: the first payment has been made,
 * or there is a trial, or Stripe says that it is in force.
 */
bool
billing_is_sold(const Billed *billed)
{
	const char *status;

	if (billed->facts == NULL)
		return false;
	if (billed->paid || billed->ntrials > 0)
		return true;
	status = stripe_text(&billed->facts->root, "status");
	return !billed->deleted && status &&
		strcmp(status, "incomplete") != 0 &&
		strcmp(status, "incomplete_expired") != 0 &&
		strcmp(status, "canceled") != 0;
}

/*
 * Returns whether an event happened after the one that a row was taken from, or
 * is that one.
 */
bool
billing_is_newer(const AsOf *as_of, const StripeEvent *event)
{
	if (as_of->event == NULL)
		return true;
	if (event->created != as_of->at)
		return event->created > as_of->at;
	if (event->rank != as_of->rank)
		return event->rank > as_of->rank;
	return strcmp(event->id, as_of->event) >= 0;
}

/*
 * Notes which event a row is taken from.
 */
void
billing_take_as_of(AsOf *as_of, const StripeEvent *event)
{
	as_of->at = event->created;
	as_of->rank = event->rank;
	as_of->event = event->id;
}

/* ------------------------------------------------------------------------
 * finding rows
 */

/*
 * Has rows read as of a snapshot from now on, or the latest ones if that is
 * NULL.
 */
void
billing_read_at(Snapshot snapshot)
{
	reading_at = snapshot;
}

/*
 * Returns the snapshot that rows are read as of: the latest one while a lock
 * guards them.
 */
Snapshot
billing_snapshot(void)
{
	return reading_at ? reading_at : GetLatestSnapshot();
}

/*
 * Runs a statement that reads.
 */
SqlResult *
billing_read(SqlStatement *statement, const Datum *values)
{
	statement->by_snapshot = reading_at != NULL;
	return statements_run(statement, values, NULL);
}

/*
 * Returns a subscription as of a snapshot, a new one if none is stored.
 */
Billed *
billing_subscription_at(const char *subscription, Snapshot snapshot)
{
	Billed	   *billed = palloc0(sizeof(Billed));

	if (scan_find(NULL, &billed_by_subscription, snapshot, billed,
				  BY_TEXT(cstring_to_text(subscription))))
		return billed;
	memset(billed, 0, sizeof(Billed));
	ItemPointerSetInvalid(&billed->tid);
	billed->subscription = pstrdup(subscription);
	billed->account_at = billed->awaited_since = DT_NOBEGIN;
	billed->as_of.at = DT_NOBEGIN;
	return billed;
}

/*
 * Returns a subscription, a new one if none is stored.
 */
Billed *
billing_subscription(const char *subscription)
{
	return billing_subscription_at(subscription, billing_snapshot());
}

/*
 * Finds an invoice as of a snapshot.
 */
bool
billing_find_invoice_at(const char *id, Snapshot snapshot, Invoice *invoice)
{
	return scan_find(NULL, &invoices_by_id, snapshot, invoice,
					 BY_TEXT(cstring_to_text(id)));
}

/*
 * Finds an invoice.
 */
bool
billing_find_invoice(const char *id, Invoice *invoice)
{
	if (!billing_find_invoice_at(id, billing_snapshot(), invoice))
		return false;
	/* whoever only looks sees that it comes to nothing */
	if (invoice->status == INVOICE_UNKNOWN && reading_at == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invoice \"%s\" of Stripe has an unknown status", id),
				 errhint("Restore table credits.stripe_invoices.")));
	return true;
}

/*
 * Finds a line.
 */
bool
billing_find_line(const char *key, Line *line)
{
	return scan_find(NULL, &lines_by_key, billing_snapshot(), line,
					 BY_TEXT(cstring_to_text(key)));
}

/*
 * Finds a credit note.
 */
bool
billing_find_credit_note(const char *id, CreditNote *note)
{
	return scan_find(NULL, &credit_notes_by_id, billing_snapshot(), note,
					 BY_TEXT(cstring_to_text(id)));
}

/*
 * Returns the lines of an invoice, or those that wait for one, in order of their
 * keys.
 */
static int
compare_lines(const ListCell *a, const ListCell *b)
{
	return strcmp(((Line *) lfirst(a))->key, ((Line *) lfirst(b))->key);
}

List *
billing_lines(const char *subscription, const char *invoice)
{
	List	   *lines = NIL;
	StoreScan	scan;
	Line	   *line = palloc(sizeof(Line));

	scan_begin(&scan, NULL, &lines_by_invoice, billing_snapshot(),
			   BY_TEXT(cstring_to_text(subscription)),
			   BY_TEXT(cstring_to_text(invoice)));
	while (scan_read(&scan, ForwardScanDirection, line))
	{
		CHECK_FOR_INTERRUPTS();
		lines = lappend(lines, line);
		line = palloc(sizeof(Line));
	}
	scan_end(&scan);
	list_sort(lines, compare_lines);
	return lines;
}

/*
 * Adds an invoice to a list, unless it is there.
 */
List *
billing_add_invoice(List *invoices, const char *invoice)
{
	ListCell   *lc;

	foreach(lc, invoices)
	{
		CHECK_FOR_INTERRUPTS();
		if (strcmp(lfirst(lc), invoice) == 0)
			return invoices;
	}
	return lappend(invoices, pstrdup(invoice));
}

/*
 * Adds the invoices that a scan of lines finds to a list.
 */
static List *
add_invoices(StoreScan *scan, List *invoices)
{
	Line		line;
	char	   *last = NULL;

	while (scan_peek(scan, ForwardScanDirection, &line))
	{
		CHECK_FOR_INTERRUPTS();
		if (last && strcmp(last, line.invoice) == 0)
			continue;
		last = pstrdup(line.invoice);
		invoices = billing_add_invoice(invoices, last);
	}
	scan_end(scan);
	return invoices;
}

/*
 * Calls a function for each invoice of a subscription that has lines, "" for
 * what waits for one, in order.
 */
void
billing_each_invoice(const char *subscription, Snapshot snapshot,
					 void (*call) (void *arg, const char *invoice), void *arg)
{
	StoreScan	scan;
	Line		line;
	StringInfoData last;
	bool		first = true;

	initStringInfo(&last);
	scan_begin(&scan, NULL, &lines_by_invoice, snapshot,
			   BY_TEXT(cstring_to_text(subscription)));
	while (scan_peek(&scan, ForwardScanDirection, &line))
	{
		CHECK_FOR_INTERRUPTS();
		if (!first && strcmp(last.data, line.invoice) == 0)
			continue;
		first = false;
		resetStringInfo(&last);
		appendStringInfoString(&last, line.invoice);
		call(arg, last.data);
	}
	scan_end(&scan);
	pfree(last.data);
}

/*
 * Adds an invoice that comes after all others to a list.
 */
static void
append_invoice(void *invoices, const char *invoice)
{
	*(List **) invoices = lappend(*(List **) invoices, pstrdup(invoice));
}

/*
 * Adds all invoices of a subscription that have lines to a list.
 */
List *
billing_all_invoices(List *invoices, const char *subscription)
{
	billing_each_invoice(subscription, billing_snapshot(), append_invoice,
						 &invoices);
	return invoices;
}

/*
 * Adds the invoices that have lines of a period to a list.
 */
List *
billing_invoices_of_period(List *invoices, const char *subscription,
						   TimestampTz ends_at)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &lines_by_end, billing_snapshot(),
			   BY_TEXT(cstring_to_text(subscription)), BY_TIME(ends_at));
	return add_invoices(&scan, invoices);
}

/*
 * Adds the invoices to a list that have lines whose credits may change with what
 * is said of the subscription.
 */
List *
billing_uncertain_invoices(List *invoices, const char *subscription)
{
	StoreScan	scan;

	scan_begin(&scan, NULL, &lines_uncertain, billing_snapshot(),
			   BY_TEXT(cstring_to_text(subscription)));
	return add_invoices(&scan, invoices);
}

/*
 * Adds what waits for an invoice to a list, if it has such lines.
 */
List *
billing_uncertain_waiting(List *invoices, const char *subscription)
{
	StoreScan	scan;
	Line		line;

	scan_begin(&scan, NULL, &lines_uncertain, billing_snapshot(),
			   BY_TEXT(cstring_to_text(subscription)),
			   BY_TEXT(cstring_to_text("")));
	if (scan_peek(&scan, ForwardScanDirection, &line))
		invoices = billing_add_invoice(invoices, "");
	scan_end(&scan);
	return invoices;
}

/*
 * Returns the lines of a period that are no prorations.
 */
List *
billing_whole_lines(const char *subscription, TimestampTz ends_at)
{
	List	   *lines = NIL;
	StoreScan	scan;
	Line	   *line = palloc(sizeof(Line));

	scan_begin(&scan, NULL, &lines_by_whole, billing_snapshot(),
			   BY_TEXT(cstring_to_text(subscription)), BY_TIME(ends_at));
	while (scan_read(&scan, ForwardScanDirection, line))
	{
		CHECK_FOR_INTERRUPTS();
		lines = lappend(lines, line);
		line = palloc(sizeof(Line));
	}
	scan_end(&scan);
	return lines;
}

/*
 * Returns the credit notes of an invoice that are not voided.
 */
List *
billing_credit_notes(const char *invoice)
{
	List	   *notes = NIL;
	StoreScan	scan;
	CreditNote *note = palloc(sizeof(CreditNote));

	scan_begin(&scan, NULL, &credit_notes_by_invoice, billing_snapshot(),
			   BY_TEXT(cstring_to_text(invoice)));
	while (scan_read(&scan, ForwardScanDirection, note))
	{
		CHECK_FOR_INTERRUPTS();
		if (note->voided)
			continue;
		notes = lappend(notes, note);
		note = palloc(sizeof(CreditNote));
	}
	scan_end(&scan);
	return notes;
}

/* ------------------------------------------------------------------------
 * writing rows
 */

/*
 * Locks the tables for writing.
 */
void
billing_lock_tables(void)
{
	store_lock_table(&billed_table);
	store_lock_table(&invoices_table);
	store_lock_table(&lines_table);
	store_lock_table(&credit_notes_table);
}

/*
 * Writes a row, whose subject must be locked.
 */
void
billing_write(StoreTable *table, const void *row)
{
	Store	   *store = store_open();

	store_begin_changes(store);
	store_write(store, table, GetLatestSnapshot(), row);
	store_end_changes(store);
	store_close(store);
}

/*
 * Deletes a row, whose subject must be locked.
 */
void
billing_delete(StoreTable *table, const void *row)
{
	Store	   *store = store_open();

	store_begin_changes(store);
	store_delete(store, table, GetLatestSnapshot(), row);
	store_end_changes(store);
	store_close(store);
}
