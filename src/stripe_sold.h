/*
 * stripe_sold.h
 *	  What the events of a subscription of Stripe's say.
 */
#ifndef CREDITS_STRIPE_SOLD_H
#define CREDITS_STRIPE_SOLD_H

#include "stripe.h"
#include "subscriptions.h"

#pragma GCC visibility push(hidden)

/* A line of an invoice, or an item of a subscription */
typedef struct Line
{
	char	   *price;
	char	   *plan_id;		/* old plans of Stripe's, NULL if none */
	char	   *product;
	bool		has_period;
	TimestampTz starts_at;
	TimestampTz ends_at;
	int64		amount;			/* in minor units */
} Line;

/* What the events of a subscription say */
typedef struct Sold
{
	const char *subject;
	List	   *events;			/* in order */
	StripeEvent *newest;		/* about the subscription itself, or NULL */
	StripeEvent *first;			/* the oldest such */
	bool		deleted;
	bool		paid;			/* has any invoice been? */
	char	   *account;		/* its name, NULL if none is known */
	char	   *customer;
	List	   *prices;			/* those that are mapped to plans */
	int64		id;				/* of the subscription here, 0 if none yet */
	int64		account_id;
	const PlanTerms *plan;			/* in force */
} Sold;

extern List *sold_lines(const StripeEvent *event, const char *path);
extern bool sold_outcome_is(const StripeEvent *event, const char *outcome);
extern void sold_read(Sold *sold);
extern void sold_read_prices(Sold *sold);
extern char *sold_plan_of_line(const Sold *sold, const Line *line);
extern char *sold_plan_of(const Sold *sold, const StripeEvent *event,
						  char **price);
extern const PlanTerms *sold_plan(const Sold *sold, const char *name);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_SOLD_H */
