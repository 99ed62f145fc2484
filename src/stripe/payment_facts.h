/*
 * payment_facts.h
 *	  What the events of a Stripe payment say.
 */
#ifndef CREDITS_STRIPE_PAYMENT_FACTS_H
#define CREDITS_STRIPE_PAYMENT_FACTS_H

#include "stripe/stripe.h"

#pragma GCC visibility push(hidden)

/* A refund or a dispute, by its newest event */
typedef struct StripeReversal
{
	char	   *id;
	char	   *charge;			/* "" if it names none */
	int64		amount;
	bool		taken;			/* has it taken the amount? */
	int64		returned;		/* for a dispute: how much it takes no more */
	bool		lost;			/* for a dispute: for good? */
	TimestampTz began_at;		/* for a refund */
	TimestampTz told_at;		/* when its newest event happened */
} StripeReversal;

/* The refunds of a charge */
typedef struct Charge
{
	char	   *id;
	int64		refunded;		/* the total in the newest of its own events */
	int64		most;			/* that was refunded, whether or not that
								 * failed */
	TimestampTz told_at;		/* when that happened */
	int64		known;			/* sum of its refunds */
	int64		good;			/* sum of those that did not fail */
	int64		failed;			/* sum of those that did after that event */
} Charge;

/* What the events of a payment say */
typedef struct Payment
{
	char	   *reference;		/* of the purchase, NULL if none is named */
	char	   *account;		/* that its session names in metadata */
	char	   *customer;
	FactOutcome outcome;		/* of its session */
	int64		amount;			/* paid, in minor units */
	char	   *currency;		/* of the payment */
	char	   *reversed_in;	/* currency of refunds and disputes */
	List	   *charges;
	List	   *refunds;
	List	   *disputes;
} Payment;

extern void payment_facts_read(Payment *payment, List *events);
extern int64 payment_facts_add(int64 a, int64 b);
extern int64 payment_facts_refunded(const Charge *charge);
extern bool payment_facts_is_reversed(const Payment *payment);
extern bool payment_facts_is_all_returned(const Payment *payment);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_PAYMENT_FACTS_H */
