/*
 * counts.h
 *	  Counting the lines of an invoice of Stripe, or those that wait for one.
 */
#ifndef CREDITS_STRIPE_COUNTS_H
#define CREDITS_STRIPE_COUNTS_H

#include "stripe/billing.h"

#pragma GCC visibility push(hidden)

/* The lines of an invoice that end at one instant */
typedef struct LineGroup
{
	TimestampTz starts_at;
	TimestampTz ends_at;
	TimestampTz settled_at;
	List	   *sums;
	/* of the main line */
	const PlanTerms *plan;
	bool		negative;
	Datum		credits;		/* numeric, times whole */
	int64		whole;
	bool		trial;
	/* of all lines */
	bool		credited;		/* does one credit another? */
	int64		amount;			/* less discounts */
	char	   *currency;
} LineGroup;

/* An invoice whose parts are computed, or what waits for one */
typedef struct Count
{
	Billed	   *billed;
	bool		only_look;		/* is nothing to be written? */
	bool		only_note;		/* nothing but why lines give nothing? */
	const char *reference;		/* "" for what waits */
	bool		sold;			/* see billing_is_sold */
	bool		found;
	Invoice		invoice;
	List	   *lines;			/* Line * */
	List	   *notes;			/* its credit notes */
	Datum		back;			/* numeric: money that went back, apart from
								 * these */
	List	   *groups;
} Count;

extern Count *counts_begin(Billed *billed, const char *reference);
extern List *counts_invoice(Count *count, List **mappings, Funding *funding);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_COUNTS_H */
