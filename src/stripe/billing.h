/*
 * billing.h
 *	  What the events of Stripe's subscriptions and invoices say, as rows.
 *
 * Each event is folded into these rows when it arrives, and every row has the
 * newest that was said of its object.  So the rows do not depend on the order of
 * the events, and no event is read again.
 *
 * An event locks the payments, then the invoices, then the subscriptions that it
 * is about (see apply.c).  The lock of an invoice guards its row and the
 * payments that it is linked with; the lock of a subscription guards its row,
 * its lines, and the rows of its invoices.
 */
#ifndef CREDITS_STRIPE_BILLING_H
#define CREDITS_STRIPE_BILLING_H

#include "stripe/stripe.h"
#include "subscribe/paid_parts.h"
#include "subscribe/subscribe.h"

#include "utils/hsearch.h"

#pragma GCC visibility push(hidden)

/* When an event happened that a row was taken from */
typedef struct AsOf
{
	TimestampTz at;
	int			rank;
	char	   *event;			/* NULL before there was any */
} AsOf;

/* Two instants: of a trial, or an anchor and when it was last seen */
typedef struct Instants
{
	int64		first;
	int64		second;
} Instants;

/* A subscription */
typedef struct Billed
{
	ItemPointerData tid;		/* invalid if not stored yet */
	const char *subscription;
	int64		id;				/* of ours, 0 until it has begun */
	char	   *account;		/* its name, NULL if none was said */
	int32		account_near;	/* what is nearer to the subscription counts
								 * more */
	TimestampTz account_at;
	char	   *customer;
	bool		deleted;
	bool		paid;			/* has any invoice been paid? */
	AsOf		as_of;			/* of the newest event about itself */
	Jsonb	   *facts;			/* of that event, NULL if there is none */
	int64		plan_id;		/* that it shows, 0 if none */
	int			nanchors;
	Instants   *anchors;
	int			ntrials;
	Instants   *trials;
	const char *awaited;		/* the invoice of its checkout session, which
								 * was paid, of which that is all that is
								 * known; "" if the session names none; NULL
								 * if nothing is awaited */
	TimestampTz awaited_since;	/* when the session was paid, DT_NOBEGIN if
								 * nothing is awaited */
} Billed;

/* The status of an invoice; a later one replaces the earlier ones */
typedef enum InvoiceStatus
{
	INVOICE_UNKNOWN = -1,		/* someone has damaged it */
	INVOICE_DRAFT,
	INVOICE_OPEN,
	INVOICE_UNCOLLECTIBLE,
	INVOICE_VOID,
	INVOICE_PAID
} InvoiceStatus;

/* An invoice */
typedef struct Invoice
{
	ItemPointerData tid;		/* invalid if not stored yet */
	const char *invoice;
	const char *subscription;
	InvoiceStatus status;
	int64		total;			/* in minor units, as all amounts here */
	int64		amount_paid;
	char	   *currency;
	TimestampTz finalized_at;	/* DT_NOEND if it was not */
	TimestampTz paid_at;		/* DT_NOEND if it was not */
	bool		complete;		/* are all lines known? */
	bool		completed;		/* by credits_stripe_invoice_lines? */
	AsOf		as_of;
} Invoice;

/* A line of an invoice, or a proration that waits for one */
typedef struct Line
{
	ItemPointerData tid;		/* invalid if not stored yet */
	const char *key;
	const char *subscription;
	const char *invoice;		/* "" if it waits for one */
	char	   *line;			/* id of the line, NULL if not known */
	TimestampTz starts_at;		/* DT_NOBEGIN if it has no period */
	TimestampTz ends_at;
	int64		amount;
	int64		discount;
	char	   *currency;
	int64		quantity;
	bool		priced;			/* has a unit a price above 0? */
	char	   *price;
	char	   *plan;			/* one of Stripe's old plans */
	char	   *product;
	const char *item;			/* of the subscription, "" if not known */
	bool		negative;
	bool		proration;
	bool		metered;
	bool		billed;			/* was it seen on an invoice? */
	bool		deleted;
	AsOf		as_of;			/* of its invoice item */
	const char *problem;		/* why it gives nothing, NULL if it does */
	bool		uncertain;		/* may other events change its credits? */
	bool		altered;		/* since it was read? not stored */
	int			sign;			/* of its credits, 0 if not known; not stored */
} Line;

/* A credit note */
typedef struct CreditNote
{
	ItemPointerData tid;		/* invalid if not stored yet */
	const char *id;
	const char *invoice;
	bool		voided;
	int64		custom;			/* credited of no line */
	Jsonb	   *lines;			/* [{"line", "amount"}], NULL if none */
	Jsonb	   *refunds;		/* {id: amount}, NULL if none */
	AsOf		as_of;
} CreditNote;

/* What a line is mapped to */
typedef struct Mapping
{
	int64		version_id;		/* 0 if it is not mapped */
	char	   *plan;			/* its name, NULL if the line gives nothing */
	const PlanTerms *terms;		/* of that plan, NULL if there is none */
	bool		in_advance;		/* before there is an invoice? */
	bool		finalized;		/* before the invoice is paid? */
	bool		kept;			/* has its item kept it? */
	/* the line that it was looked up for */
	const char *item;
	const char *price;
	const char *product;
} Mapping;

/* What an event has changed */
struct Fold
{
	Billed	   *billed;			/* the subscription */
	bool		all;			/* is all of it to be applied again? */
	bool		was_unsold;		/* see billing_is_sold */
	List	   *invoices;		/* char *: whose lines are to be counted
								 * again, "" for what waits for an invoice */
	bool		newest;			/* does it tell how the subscription is now? */
	const char *incomplete;		/* an invoice that has just become known, and
								 * not with all of its lines; NULL if none */
};

/* billing.c: rows */
extern StoreTable billed_table;
extern StoreTable invoices_table;
extern StoreTable lines_table;
extern StoreTable credit_notes_table;
extern bool billing_is_sold(const Billed *billed);
extern bool billing_is_newer(const AsOf *as_of, const StripeEvent *event);
extern void billing_take_as_of(AsOf *as_of, const StripeEvent *event);
extern void billing_read_at(Snapshot snapshot);
extern Snapshot billing_snapshot(void);
extern SqlResult *billing_read(SqlStatement *statement, const Datum *values);
extern Billed *billing_subscription_at(const char *subscription,
									   Snapshot snapshot);
extern bool billing_find_invoice_at(const char *id, Snapshot snapshot,
									Invoice *invoice);
extern Billed *billing_subscription(const char *subscription);
extern bool billing_find_invoice(const char *id, Invoice *invoice);
extern bool billing_find_line(const char *key, Line *line);
extern bool billing_find_credit_note(const char *id, CreditNote *note);
extern List *billing_lines(const char *subscription, const char *invoice);
extern List *billing_whole_lines(const char *subscription,
								 TimestampTz ends_at);
extern List *billing_add_invoice(List *invoices, const char *invoice);
extern void billing_each_invoice(const char *subscription, Snapshot snapshot,
								 void (*call) (void *arg, const char *invoice),
								 void *arg);
extern List *billing_all_invoices(List *invoices, const char *subscription);
extern List *billing_invoices_of_period(List *invoices,
										const char *subscription,
										TimestampTz ends_at);
extern List *billing_uncertain_invoices(List *invoices,
										const char *subscription);
extern List *billing_uncertain_waiting(List *invoices,
									   const char *subscription);
extern List *billing_credit_notes(const char *invoice);
extern void billing_lock_tables(void);
extern void billing_write(StoreTable *table, const void *row);
extern void billing_delete(StoreTable *table, const void *row);

/* fold.c: taking events into rows */
extern void fold_event(Fold *fold, const StripeEvent *event);
extern void fold_lines(Fold *fold, Invoice *invoice, JsonbContainer *facts);

/* apply.c: applying what did not come as an event */
extern char *stripe_lock_invoice(const char *invoice);
extern void stripe_apply_fold(Fold *fold, const char *was_waiting,
							  StripeOutcome *outcome);

/* webhook.c */
extern Datum stripe_result_datum(FunctionCallInfo fcinfo, const char *id,
								 const char *type, EventResult result,
								 Jsonb *detail);

/* lines.c: what a line is for */
extern Mapping *lines_mapping(const Billed *billed, const Line *line);
extern void lines_keep_mapping(const Line *line, Mapping *mapping);
extern TimestampTz lines_whole_from(const Billed *billed, const Line *line,
									const PlanTerms *plan, bool *certain);
extern bool lines_is_trial(const Billed *billed, const Line *line);

/* invoice_payments.c: money of invoices */
extern Datum invoice_payments_back(const Invoice *invoice, List *notes);
extern void invoice_payments_record(const Invoice *invoice, int64 account_id,
									StripeOutcome *outcome);
extern void invoice_payments_reverse(const char *invoice, int64 purchase_id,
									 const char *currency,
									 StripeOutcome *outcome);
extern void invoice_payments_write(const char *payment, const char *currency,
								   int64 refunded, int64 disputed,
								   Jsonb *detail);

/* other_invoices.c: invoices that bill no subscription */
extern bool other_invoices_is_one(const StripeEvent *event);
extern void other_invoices_fold(const StripeEvent *event);
extern void other_invoices_deliver(const char *id, StripeOutcome *outcome);
extern void other_invoices_reverse(const char *id, StripeOutcome *outcome);

/* A part of an invoice */
typedef struct FundedPart
{
	PaidPart   *part;
	int64		amount;			/* of its lines, less discounts */
	bool		credits;		/* does one of its lines credit another? */
} FundedPart;

/* Invoices of a subscription that are counted together, in order */
typedef struct Funding
{
	HTAB	   *invoices;		/* those that are counted, or to be; NULL if
								 * there are none */
	List	   *references;		/* text *, of those that are counted */
	List	   *parts;			/* PaidPart *, which these have now */
	List	   *sums;			/* what earlier ones make of periods */
	List	   *followed;		/* TimestampTz *, the ends of periods that may
								 * have paid for others, which are known */
} Funding;

/* funding.c: invoices that are paid for by their own credits */
extern bool funding_is_earlier(const Invoice *a, const Invoice *b);
extern void funding_begin(Funding *funding);
extern bool funding_expect(Funding *funding, const char *reference);
extern void funding_count(Funding *funding, const char *reference);
extern void funding_apply(int64 subscription_id, const Invoice *invoice,
						  List *own, Funding *funding);

/* shares.c: what invoices come to */
extern bool shares_apply(Billed *billed, int64 account_id, List *invoices,
						 StripeOutcome *outcome);
extern const PlanTerms *shares_note(Billed *billed, List *invoices,
									StripeOutcome *outcome);
extern List *shares_look(Billed *billed, const char *reference,
						 Snapshot snapshot);
extern void stripe_apply_invoice(const char *id, StripeOutcome *outcome);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_BILLING_H */
