/*
 * packages.h
 *	  What packages.c, prices.c and promotions.c offer to other topics.
 */
#ifndef CREDITS_PACKAGES_H
#define CREDITS_PACKAGES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* A grant that a purchase gives */
typedef struct QuoteGrant
{
	text	   *account;		/* who gets it: the buyer, or for another unit
								 * the account of that name */
	text	   *unit;			/* of that account */
	bool		buyer;			/* is that the buyer? */
	int64		credits;
	text	   *source;
	int32		priority;
	Interval   *expires_in;		/* counted from when it is given; NULL if never */
	Datum		price;			/* numeric: what is paid for it; 0 if it is free */
	const char *part;			/* 'credits', 'extra' or 'promotion' */
} QuoteGrant;

/* What something costs an account, and how that was computed */
typedef struct PriceQuote
{
	TimestampTz at;
	int64		account_id;
	text	   *account;
	text	   *unit;			/* of the account */
	text	   *package;		/* NULL if an amount is bought */
	int64		package_id;		/* of its version, 0 if none */
	int64		unit_price_id;	/* of its version, 0 if a package is bought */
	int64		volume_discount_id; /* 0 if none applies */
	int64		promotion_id;	/* 0 if none */
	text	   *promotion;		/* NULL if none */
	int64		credits;		/* what is paid for */
	int64		bonus;			/* free on top, in the account's unit */
	text	   *currency;
	/* numeric Datums; subtotal less both discounts plus rounding is total */
	Datum		subtotal;
	Datum		volume_discount;
	Datum		promotion_discount;
	Datum		rounding;
	Datum		total;			/* has no more digits than the currency */
	Datum		price_per_credit;	/* total / credits */
	int64		total_minor;	/* total in the currency's minor units */
	List	   *grants;			/* of QuoteGrant *, the one paid for first */
	Jsonb	   *computation;	/* all of this: what a purchase keeps */
} PriceQuote;

/*
 * Computes what a package, or without one an amount of credits, costs an
 * account at an instant, with a promotion or none (NULL), in a currency or
 * the only one there is (NULL).  Reads what the transaction sees now; may run
 * in a plan.  Refuses what is not for sale, or not to this account.
 */
extern bool packages_quote(const Account *account, text *package,
						   int64 amount, text *promotion, text *currency,
						   TimestampTz at, PriceQuote *quote,
						   Refusal *refusal);

/*
 * Returns the grants, QuoteGrant *, that a computation, kept by a purchase, says
 * are given; buyer is the account's name.
 */
extern List *packages_grants(Jsonb *computation, text *buyer);

/*
 * Counts a purchase as a use of a promotion; once, however often it is called.
 * The account's row lock is held by the caller, that of the promotion is taken
 * here and kept to the end of the transaction.  Raises PT410 if there is no
 * use left, unless forced: a buyer who has paid the lower price gets it.
 */
extern void promotions_use(int64 promotion_id, int64 account_id,
						   int64 purchase_id, TimestampTz at, bool force);

/* Takes that back, of a purchase that has failed; once too */
extern void promotions_release(int64 purchase_id, TimestampTz at);

/* Raises an error unless one of the two is to be bought */
extern void packages_check_choice(bool package, bool amount);

/* for each other */
extern bool packages_begin_quote(PriceQuote *quote, text *name,
								 text *currency, Refusal *refusal);
extern bool packages_add_grant(PriceQuote *quote, QuoteGrant *grant,
							   Refusal *refusal);
extern Datum packages_grants_json(List *grants);
extern bool promotions_apply(PriceQuote *quote, text *name,
							 StringInfo computation, Refusal *refusal);

#pragma GCC visibility pop

#endif							/* CREDITS_PACKAGES_H */
