/*
 * paid_parts.h
 *	  What was paid for the periods of a subscription, in parts.
 *
 * The credits of a period follow from its parts, in whichever order these become
 * known.
 */
#ifndef CREDITS_SUBSCRIBE_PAID_PARTS_H
#define CREDITS_SUBSCRIBE_PAID_PARTS_H

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/proration.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

/* the reference of what is given before there is an invoice for it */
#define PENDING_REFERENCE "(pending)"

/* the reference of what credits_mark_paid gives */
#define PAID_REFERENCE "(paid)"

/* the reference of the trial that a plan has */
#define TRIAL_REFERENCE "(trial)"

/* the reference of what changes of plan make of one of these two */
#define PLAN_CHANGE_REFERENCE "(plan change)"

/* What one invoice makes of the credits of the period that ends at an instant */
typedef struct PaidPart
{
	text	   *reference;		/* of the invoice, or "(pending)" */
	TimestampTz starts_at;		/* the earliest start of its lines */
	TimestampTz ends_at;		/* of the period */
	TimestampTz settled_at;
	int64		plan_id;		/* of its main line: the positive one with
								 * most credits */
	int64		credits;		/* negative if it takes more than it gives */
	int64		reversed;		/* between 0 and credits */
	Datum		price;			/* numeric, of the positive lines less the
								 * negative ones and discounts; 0 if none */
	text	   *currency;		/* NULL if there is no price */
	bool		trial;
	TimestampTz finalized_at;	/* when the invoice was, which orders
								 * invoices; 0 if that is not known */
	bool		funds;			/* has what it credits, or the period itself,
								 * paid for lines of the invoice? */
} PaidPart;

/* A row of credits.paid_parts */
typedef struct PartRow
{
	ItemPointerData tid;		/* invalid if not stored yet */
	int64		subscription_id;
	PaidPart	part;
	/* of those that a posting changes */
	const PaidPart *before;		/* what the sums of its period have of it,
								 * NULL if nothing */
	bool		counted;		/* have the sums been adjusted since? */
	bool		removed;
} PartRow;

/* What the parts of a period come to */
typedef struct PaidSums
{
	int64		positive;		/* what they give */
	int64		credited;		/* of what was given, what is not due any more */
	int64		reversed;		/* what was paid back */
} PaidSums;

/* paid_parts.c */
extern bool paid_parts_give(Posting *posting, Subscription *subscription,
							PaidPart *part);
extern bool paid_parts_follow(Posting *posting, Subscription *subscription,
							  Period *period, PlanChanged *note,
							  Entitlement *e, int64 *given, int64 *taken);

/* part_rows.c */
extern StoreTable paid_parts_table;
extern StoreIndex paid_parts_by_end;
extern StoreIndex paid_parts_by_start;
extern StoreIndex paid_parts_by_reference;
extern StoreIndex paid_parts_by_finalized_at;
extern bool part_rows_same(const PaidPart *a, const PaidPart *b);
extern bool part_rows_find(Posting *posting, const Subscription *subscription,
						   TimestampTz ends_at, text *reference, PartRow *row);
extern List *part_rows_funding(int64 subscription_id, TimestampTz ends_at,
							   TimestampTz from, Snapshot snapshot);
extern List *part_rows_of_reference(int64 subscription_id, text *reference,
									Snapshot snapshot);
extern List *part_rows_of_period(int64 subscription_id, TimestampTz ends_at,
								 Snapshot snapshot);

/* part_sums.c */
extern void part_sums_begin(PaidSums *sums);
extern void part_sums_add(PaidSums *sums, const PaidPart *part);
extern bool part_sums_remove(PaidSums *sums, const PaidPart *part);
extern void part_sums_due(const PaidSums *sums, int64 granted, int64 *less,
						  int64 *paid_back);

/*
 * Replaces all parts of a subscription that have one of the given references
 * (text *) by the given ones (PaidPart *), and brings the periods concerned to
 * what their parts come to, in one posting under the account's lock.  Returns
 * whether anything changed.  If the account is closed, or its limits forbid what
 * is to be given, the parts are recorded, and an event tells why.
 */
extern bool paid_parts_set(int64 subscription_id, List *references,
						   List *parts, Receipt *receipt);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PAID_PARTS_H */
