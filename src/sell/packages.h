/*
 * packages.h
 *	  What packages.c, prices.c and promotions.c offer to other topics.
 */
#ifndef CREDITS_SELL_PACKAGES_H
#define CREDITS_SELL_PACKAGES_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

/* Where a grant comes from */
typedef enum GrantPart
{
	PART_CREDITS,				/* what is paid for */
	PART_EXTRA,					/* comes with the package */
	PART_PROMOTION				/* comes with the promotion */
} GrantPart;

/* A grant that a purchase gives */
typedef struct QuoteGrant
{
	GrantPart	part;
	text	   *account;		/* the buyer's or, if it is of another unit,
								 * the one that the buyer has for that */
	text	   *unit;			/* of that account */
	bool		buyer;			/* is it the buyer's? */
	int64		credits;
	text	   *source;
	int32		priority;
	Interval   *expires_in;		/* from delivery; NULL if it does not expire */
	Datum		price;			/* numeric: what is paid for it; 0 if it is
								 * free */
} QuoteGrant;

/* What a package or an amount costs an account, and how that was computed */
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
	int64		bonus;			/* free of charge, in the account's unit */
	text	   *currency;
	/* numeric Datums: total = subtotal - both discounts + rounding */
	Datum		subtotal;
	Datum		volume_discount;
	Datum		promotion_discount;
	Datum		rounding;
	Datum		total;			/* rounded to the currency's minor unit */
	Datum		price_per_credit;	/* total / credits */
	int64		total_minor;	/* total in the currency's minor units */
	List	   *grants;			/* of QuoteGrant *, the one paid for first */
	Jsonb	   *computation;	/* all of this, for the purchase to keep */
} PriceQuote;

/*
 * prices.c
 */

/* Raises an error unless exactly one of the two is to be bought */
extern void prices_check_choice(bool package, bool amount);

/*
 * Computes what a package, or if that is NULL an amount of credits, costs an
 * account at an instant.  promotion may be NULL, and so may currency if only
 * one is possible.  Reads what the transaction sees now, so it can be used in a
 * plan.  Refuses what is not for sale, or not to this account.
 */
extern bool prices_quote(const Account *account, text *package,
						 int64 amount, text *promotion, text *currency,
						 TimestampTz at, PriceQuote *quote,
						 Refusal *refusal);

/*
 * packages.c
 */

/* Begins a quote with the package that is sold to an account under a name */
extern bool packages_begin_quote(PriceQuote *quote, const Account *account,
								 text *name, text *currency,
								 Refusal *refusal);
extern bool packages_add_grant(PriceQuote *quote, QuoteGrant *grant,
							   Refusal *refusal);
extern Datum packages_grants_json(List *grants, bool whole);

/*
 * Returns the grants, QuoteGrant *, that the computation of a purchase says are
 * given.  buyer is the account's name.
 */
extern List *packages_grants(Jsonb *computation, text *buyer);
extern Datum packages_money(Jsonb *computation, const char *name);

/*
 * promotions.c
 */
extern bool promotions_apply(PriceQuote *quote, text *name,
							 JsonObject *computation, Refusal *refusal);

/*
 * Counts a purchase as a use of a promotion; calling it again does nothing.
 * Takes the promotion's row lock and keeps it to the end of the transaction;
 * the caller must hold that of the account.  Raises PT410 or PT409 if there is
 * no use left, unless promotions_left has found one.
 */
extern void promotions_use(int64 promotion_id, int64 account_id,
						   int64 purchase_id, TimestampTz at, bool checked);

/*
 * Returns whether an account may use a promotion once more.  Takes the same lock,
 * so this stays true until the transaction ends.
 */
extern bool promotions_left(int64 promotion_id, int64 account_id);

/*
 * Gives back the use of a purchase that was not paid; calling it again does
 * nothing.
 */
extern void promotions_release(int64 purchase_id, TimestampTz at);

#pragma GCC visibility pop

#endif							/* CREDITS_SELL_PACKAGES_H */
