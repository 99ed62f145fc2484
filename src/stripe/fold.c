/*
 * fold.c
 *	  Taking the events of Stripe's subscriptions, invoices, invoice items and
 *	  credit notes into rows, each once, in whichever order they arrive.
 *
 * Of each object the newest event counts, except for what can happen only once:
 * a status that an invoice has reached is not left again, and what is deleted,
 * voided or paid stays so.  Events do not say which lines of other invoices
 * they matter for, so this is determined here: a line that is no proration
 * tells how long the whole period is that others are a part of.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/billing.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* names that invoices have in their facts */
static const char *const invoice_status_facts[] = {
	"draft", "open", "uncollectible", "void", "paid"
};

/*
 * Notes that the lines of an invoice are to be counted again.
 */
static void
touch(Fold *fold, const char *invoice)
{
	fold->invoices = billing_add_invoice(fold->invoices, invoice);
}

/*
 * Takes the account's name from the facts of an event, if they have it.  What
 * is nearer to the subscription counts more, and of the same nearness what is
 * newer.
 */
static void
take_account(Billed *billed, const StripeEvent *event, const char *path,
			 int near)
{
	char	   *value = stripe_text(&event->facts->root, path);

	if (value == NULL || near < billed->account_near)
		return;
	if (near == billed->account_near &&
		(event->created < billed->account_at ||
		 (event->created == billed->account_at &&
		  strcmp(value, billed->account) <= 0)))
		return;
	billed->account = value;
	billed->account_near = near;
	billed->account_at = event->created;
}

/*
 * Takes the customer from the facts of an event.
 */
static void
take_customer(Billed *billed, const StripeEvent *event)
{
	char	   *value = stripe_text(&event->facts->root, "customer");

	if (value && (billed->customer == NULL ||
				  strcmp(value, billed->customer) < 0))
		billed->customer = value;
}

/* ------------------------------------------------------------------------
 * subscriptions
 */

/*
 * Adds an anchor, or when it was last seen.  The one that was seen last comes
 * first.  Returns whether that is news.
 */
static bool
add_anchor(Billed *billed, TimestampTz anchor, TimestampTz seen)
{
	Instants   *anchors = palloc((billed->nanchors + 1) * sizeof(Instants));
	bool		news;
	int			n = 0;
	int			at = -1;
	int			i;

	for (i = 0; i < billed->nanchors; i++)
	{
		Instants   *other = &billed->anchors[i];

		CHECK_FOR_INTERRUPTS();
		if (other->first == anchor)
		{
			seen = Max(seen, other->second);
			continue;
		}
		if (at < 0 && (other->second < seen ||
					   (other->second == seen && other->first < anchor)))
		{
			at = n;
			anchors[n++] = (Instants)
			{
				anchor, seen
			};
		}
		anchors[n++] = *other;
	}
	if (at < 0)
	{
		at = n;
		anchors[n++] = (Instants)
		{
			anchor, seen
		};
	}
	news = at >= billed->nanchors || billed->anchors[at].first != anchor;
	billed->anchors = anchors;
	billed->nanchors = n;
	return news;
}

/*
 * Adds a trial.  Returns whether it is news.
 */
static bool
add_trial(Billed *billed, TimestampTz starts_at, TimestampTz ends_at)
{
	Instants   *trials = palloc((billed->ntrials + 1) * sizeof(Instants));
	int			i;

	for (i = 0; i < billed->ntrials; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (billed->trials[i].first == starts_at &&
			billed->trials[i].second == ends_at)
			return false;
		trials[i] = billed->trials[i];
	}
	trials[billed->ntrials++] = (Instants)
	{
		starts_at, ends_at
	};
	billed->trials = trials;
	return true;
}

/*
 * Takes an event about a subscription itself.
 */
static void
fold_subscription(Fold *fold, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	Billed	   *billed = fold->billed;
	TimestampTz starts_at;
	TimestampTz ends_at;
	bool		news = false;
	bool		of_items = false;

	take_account(billed, event, "account", 4);
	if (stripe_true(facts, "deleted") && !billed->deleted)
	{
		billed->deleted = true;
		of_items = true;
	}
	if (stripe_instant(facts, "anchor", &starts_at))
		news |= add_anchor(billed, starts_at, event->created);
	if (stripe_instant(facts, "trial_start", &starts_at) &&
		stripe_instant(facts, "trial_end", &ends_at) && starts_at < ends_at)
		news |= add_trial(billed, starts_at, ends_at);
	if (news)
		fold->invoices = billing_uncertain_invoices(fold->invoices,
													billed->subscription);
	if (billing_is_newer(&billed->as_of, event))
	{
		billing_take_as_of(&billed->as_of, event);
		billed->facts = event->facts;
		fold->newest = of_items = true;
	}
	/* it tells of which items nothing more is to come */
	if (of_items)
		fold->invoices = billing_uncertain_waiting(fold->invoices,
												   billed->subscription);
}

/* ------------------------------------------------------------------------
 * lines
 */

/*
 * Returns whether two texts, each of which may be NULL, are the same.
 */
static bool
same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/*
 * Returns whether two versions of a line say the same.
 */
static bool
same_line(const Line *a, const Line *b)
{
	return same(a->invoice, b->invoice) && same(a->line, b->line) &&
		a->starts_at == b->starts_at && a->ends_at == b->ends_at &&
		a->amount == b->amount && a->discount == b->discount &&
		a->quantity == b->quantity && a->priced == b->priced &&
		same(a->price, b->price) && same(a->plan, b->plan) &&
		same(a->product, b->product) && same(a->item, b->item) &&
		same(a->currency, b->currency) && a->negative == b->negative &&
		a->proration == b->proration && a->metered == b->metered &&
		a->billed == b->billed && a->deleted == b->deleted;
}

/*
 * Reads what the facts of a line or of an invoice item say.
 */
static void
read_line(Line *line, JsonbContainer *facts, char *currency)
{
	line->line = stripe_text(facts, "line");
	if (!stripe_instant(facts, "start", &line->starts_at) ||
		!stripe_instant(facts, "end", &line->ends_at) ||
		line->starts_at >= line->ends_at)
		line->starts_at = line->ends_at = DT_NOBEGIN;
	if (!stripe_int64(facts, "amount", &line->amount))
		line->amount = 0;
	if (!stripe_int64(facts, "discount", &line->discount))
		line->discount = 0;
	if (!stripe_int64(facts, "quantity", &line->quantity))
		line->quantity = 1;
	line->currency = currency;
	line->priced = stripe_true(facts, "priced");
	line->price = stripe_text(facts, "price");
	line->plan = stripe_text(facts, "plan");
	line->product = stripe_text(facts, "product");
	line->item = stripe_text(facts, "item");
	if (line->item == NULL)
		line->item = "";
	line->negative = stripe_true(facts, "credit");
	line->proration = stripe_true(facts, "proration");
	line->metered = stripe_true(facts, "metered");
	line->uncertain = line->amount == 0 || line->proration;
}

/*
 * Begins a new line.
 */
static void
new_line(Line *line, const char *key, const char *subscription)
{
	memset(line, 0, sizeof(Line));
	ItemPointerSetInvalid(&line->tid);
	line->key = key;
	line->subscription = subscription;
	line->invoice = "";
	line->as_of.at = DT_NOBEGIN;
}

/*
 * Notes that the other lines of a line's period are to be counted again, if it
 * can tell how long that is.
 */
static void
touch_period(Fold *fold, const Line *line)
{
	if (!line->proration && line->ends_at != DT_NOBEGIN)
		fold->invoices = billing_invoices_of_period(fold->invoices,
													line->subscription,
													line->ends_at);
}

/*
 * Writes a line in place of what was known of it, which is NULL if nothing was.
 */
static void
put_line(Fold *fold, const Line *before, Line *line)
{
	if (before && same_line(before, line))
	{
		if (before->as_of.event != line->as_of.event)
		{
			line->uncertain = before->uncertain;
			billing_write(&lines_table, line);
		}
		return;
	}
	billing_write(&lines_table, line);
	touch(fold, line->invoice);
	if (before)
	{
		touch(fold, before->invoice);
		touch_period(fold, before);
	}
	touch_period(fold, line);
}

/*
 * Forgets a line that is not on an invoice any more.  One that is known as an
 * invoice item waits for another invoice.
 */
static void
drop_line(Fold *fold, Line *line)
{
	Line		before = *line;

	if (line->as_of.event == NULL)
		billing_delete(&lines_table, line);
	else
	{
		line->billed = false;
		line->invoice = "";
		billing_write(&lines_table, line);
		touch(fold, "");
	}
	touch(fold, before.invoice);
	touch_period(fold, &before);
}

/*
 * Takes lines as those of an invoice: all of them, in place of what is known of
 * it, if it is complete.
 */
void
fold_lines(Fold *fold, Invoice *invoice, JsonbContainer *facts)
{
	JsonbValue *lines = stripe_get(facts, "lines");
	List	   *before = invoice->complete ?
		billing_lines(invoice->subscription, invoice->invoice) : NIL;
	List	   *keys = NIL;
	ListCell   *lc;
	uint32		i;

	for (i = 0; lines && i < JsonContainerSize(lines->val.binary.data); i++)
	{
		JsonbValue *element =
			getIthJsonbValueFromContainer(lines->val.binary.data, i);
		JsonbContainer *line_facts;
		Line		old;
		Line		line;
		char	   *key;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		if (element->type != jbvBinary)
			continue;
		line_facts = element->val.binary.data;
		key = stripe_text(line_facts, "invoice_item");
		if (key == NULL)
		{
			char	   *id = stripe_text(line_facts, "line");

			key = id ? psprintf("%s/%s", invoice->invoice, id) :
				psprintf("%s/%u", invoice->invoice, i);
		}
		keys = lappend(keys, key);
		found = billing_find_line(key, &old);

		/*
		 * An item of another subscription, which is not locked, goes on
		 * waiting.
		 */
		if (found && strcmp(old.subscription, invoice->subscription) != 0)
			continue;
		if (found)
			line = old;
		else
			new_line(&line, key, invoice->subscription);
		line.invoice = invoice->invoice;
		line.billed = true;
		line.deleted = false;
		read_line(&line, line_facts, invoice->currency);
		put_line(fold, found ? &old : NULL, &line);
	}
	foreach(lc, before)
	{
		Line	   *line = lfirst(lc);
		bool		found = false;
		ListCell   *lc2;

		if (!line->billed)
			continue;
		foreach(lc2, keys)
		{
			CHECK_FOR_INTERRUPTS();
			if (strcmp(lfirst(lc2), line->key) == 0)
				found = true;
		}
		if (!found)
			drop_line(fold, line);
	}
}

/*
 * Takes an event about an invoice item.
 */
static void
fold_invoice_item(Fold *fold, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	char	   *invoice = stripe_text(facts, "invoice");
	Line		old;
	Line		line;
	bool		found = billing_find_line(event->object_id, &old);

	if (found)
		line = old;
	else
		new_line(&line, event->object_id, fold->billed->subscription);
	if (!billing_is_newer(&line.as_of, event))
		return;
	billing_take_as_of(&line.as_of, event);
	/* an invoice that has it knows better */
	if (!line.billed)
	{
		read_line(&line, facts, stripe_text(facts, "currency"));
		line.invoice = invoice ? invoice : "";
		line.deleted = stripe_true(facts, "deleted");
	}
	put_line(fold, found ? &old : NULL, &line);
}

/* ------------------------------------------------------------------------
 * invoices
 */

/*
 * Returns the status that an event shows an invoice in.
 */
static InvoiceStatus
invoice_status(const StripeEvent *event)
{
	int			said = stripe_name(&event->facts->root, "status",
								   invoice_status_facts,
								   lengthof(invoice_status_facts));
	InvoiceStatus status = INVOICE_OPEN;

	switch (stripe_outcome(event))
	{
		case OUTCOME_PAID:
			status = INVOICE_PAID;
			break;
		case OUTCOME_VOIDED:
			status = INVOICE_VOID;
			break;
		case OUTCOME_UNCOLLECTIBLE:
			status = INVOICE_UNCOLLECTIBLE;
			break;
		default:
			break;
	}
	return Max((int) status, said);
}

/*
 * Takes the earlier of two instants, of which the second may be in the facts.
 */
static TimestampTz
earlier(TimestampTz at, JsonbContainer *facts, const char *path,
		TimestampTz otherwise)
{
	TimestampTz other;

	if (!stripe_instant(facts, path, &other))
		other = otherwise;
	return Min(at, other);
}

/*
 * Takes an event about an invoice.
 */
static void
fold_invoice(Fold *fold, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	Billed	   *billed = fold->billed;
	InvoiceStatus status = invoice_status(event);
	Invoice		invoice;
	bool		found = billing_find_invoice(event->object_id, &invoice);
	bool		newer;
	bool		all = !stripe_true(facts, "more");

	take_account(billed, event, "account", 1);
	if (!found)
	{
		memset(&invoice, 0, sizeof(Invoice));
		ItemPointerSetInvalid(&invoice.tid);
		invoice.invoice = event->object_id;
		invoice.subscription = billed->subscription;
		invoice.finalized_at = invoice.paid_at = DT_NOEND;
	}
	newer = !found || billing_is_newer(&invoice.as_of, event);
	invoice.status = Max(invoice.status, status);
	invoice.finalized_at = earlier(invoice.finalized_at, facts,
								   "finalized_at", event->created);
	invoice.paid_at = earlier(invoice.paid_at, facts, "paid_at",
							  status == INVOICE_PAID ? event->created : DT_NOEND);
	billed->paid |= invoice.status == INVOICE_PAID;
	if (invoice.status == INVOICE_PAID && billed->awaited &&
		(*billed->awaited == '\0' ||
		 strcmp(billed->awaited, invoice.invoice) == 0))
	{
		billed->awaited = NULL;
		billed->awaited_since = DT_NOBEGIN;
	}
	if (newer)
	{
		billing_take_as_of(&invoice.as_of, event);
		if (!stripe_int64(facts, "amount", &invoice.amount_paid))
			invoice.amount_paid = 0;
		if (!stripe_int64(facts, "total", &invoice.total))
			invoice.total = invoice.amount_paid;
		invoice.currency = stripe_text(facts, "currency");
	}
	if ((all && newer) || !invoice.complete)
	{
		invoice.complete = all;
		fold_lines(fold, &invoice, facts);
	}
	billing_write(&invoices_table, &invoice);
	touch(fold, invoice.invoice);
	if (!found && !invoice.complete)
		fold->incomplete = event->object_id;
}

/*
 * Takes an event about the checkout session of a subscription.  Its credits follow
 * from its invoice: if nothing is known of one that was paid, it is awaited, so
 * that it is noticed if no event tells of it.
 */
static void
fold_session(Fold *fold, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	Billed	   *billed = fold->billed;
	char	   *id = stripe_text(facts, "invoice");
	int64		amount;
	Invoice		invoice;

	take_account(billed, event, "reference", 2);
	take_account(billed, event, "account", 3);
	if (stripe_outcome(event) != OUTCOME_PAID ||
		(stripe_int64(facts, "amount", &amount) && amount == 0))
		return;
	if (id ? billing_find_invoice(id, &invoice) &&
		invoice.status == INVOICE_PAID : billed->paid || billed->awaited)
		return;
	billed->awaited = id ? id : "";
	if (billed->awaited_since == DT_NOBEGIN ||
		billed->awaited_since > event->created)
		billed->awaited_since = event->created;
}

/*
 * Takes an event about a credit note.
 */
static void
fold_credit_note(Fold *fold, const StripeEvent *event)
{
	JsonbContainer *facts = &event->facts->root;
	JsonbValue *value;
	Invoice		invoice;
	CreditNote	note;
	bool		found = billing_find_credit_note(event->object_id, &note);
	bool		voided = found && note.voided;

	if (!found)
	{
		memset(&note, 0, sizeof(CreditNote));
		ItemPointerSetInvalid(&note.tid);
		note.id = event->object_id;
		note.invoice = event->subject;
	}
	note.voided = voided || stripe_true(facts, "voided");
	if (!found || billing_is_newer(&note.as_of, event))
	{
		billing_take_as_of(&note.as_of, event);
		if (!stripe_int64(facts, "custom", &note.custom))
			note.custom = 0;
		value = stripe_get(facts, "lines");
		note.lines = value ? JsonbValueToJsonb(value) : NULL;
		value = stripe_get(facts, "refunds");
		note.refunds = value ? JsonbValueToJsonb(value) : NULL;
	}
	billing_write(&credit_notes_table, &note);
	if (!billing_find_invoice(note.invoice, &invoice))
		return;
	fold->billed = billing_subscription(invoice.subscription);
	touch(fold, note.invoice);
}

/*
 * Takes an event into the rows of its subscription or invoice, which must be
 * locked.
 */
void
fold_event(Fold *fold, const StripeEvent *event)
{
	memset(fold, 0, sizeof(Fold));
	if (event->kind == FACT_CREDIT_NOTE)
	{
		fold_credit_note(fold, event);
		return;
	}
	if (event->kind == FACT_INVOICE && other_invoices_is_one(event))
	{
		other_invoices_fold(event);
		return;
	}
	fold->billed = billing_subscription(event->subject);
	fold->was_unsold = !billing_is_sold(fold->billed);
	take_customer(fold->billed, event);
	switch (event->kind)
	{
		case FACT_SUBSCRIPTION:
			fold_subscription(fold, event);
			break;
		case FACT_INVOICE:
			fold_invoice(fold, event);
			break;
		case FACT_INVOICE_ITEM:
			fold_invoice_item(fold, event);
			break;
		case FACT_SESSION:
			fold_session(fold, event);
			break;
		default:
			break;
	}
	billing_write(&billed_table, fold->billed);
	fold->billed = billing_subscription(event->subject);
}
