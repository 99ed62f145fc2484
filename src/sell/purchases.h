/*
 * purchases.h
 *	  Purchases, and the payments that complete them.
 *
 * Amounts of money are numeric Datums.  Each of these functions may be called
 * again with the same arguments: it then changes nothing, and tells what was
 * done before.  The account's row lock guards its purchases.  A caller that
 * also locks rows of its own must do so before.
 */
#ifndef CREDITS_SELL_PURCHASES_H
#define CREDITS_SELL_PURCHASES_H

#include "ledger/ledger.h"
#include "sell/packages.h"

#include "utils/array.h"

#pragma GCC visibility push(hidden)

typedef enum PurchaseStatus
{
	PURCHASE_PENDING,
	PURCHASE_COMPLETED,
	PURCHASE_FAILED,
	PURCHASE_EXPIRED
} PurchaseStatus;

/* A purchase as its row has it, in the caller's memory */
typedef struct Purchase
{
	int64		id;
	int64		account_id;
	text	   *reference;		/* 'purchase_<id>' */
	text	   *package;		/* NULL for an amount, or if only recorded */
	int64		credits;		/* that are paid for */
	text	   *promotion;		/* NULL if none */
	int64		promotion_id;	/* 0 if none */
	Datum		price;			/* numeric */
	text	   *currency;
	Jsonb	   *quote;			/* the computation, with the grants to give */
	PurchaseStatus status;
	text	   *payment_reference;	/* NULL until paid */
	Datum		money;			/* numeric that was paid, 0 until then */
	int64		transaction_id; /* that gave them, 0 until completed */
	List	   *grant_ids;		/* of int64 *, the one paid for first */
	text	   *problem;		/* of the last payment, NULL if none */
	int64		request;		/* fingerprint, if it has a key */
	Jsonb	   *metadata;
	TimestampTz expires_at;
} Purchase;

/* A purchase that is to be started */
typedef struct PurchaseStart
{
	text	   *account;
	text	   *package;		/* NULL if an amount is bought */
	int64		amount;
	text	   *promotion;
	text	   *currency;
	text	   *key;
	int64		request;		/* fingerprint */
	Jsonb	   *metadata;
	/* output */
	PriceQuote	quote;
	Purchase	purchase;
	bool		replayed;
} PurchaseStart;

/* number of columns of a credits.checkout */
#define CHECKOUT_COLUMNS 12

/* A grant of a purchase that exists */
typedef struct PurchasedGrant
{
	int64		id;
	int64		account_id;
	int64		amount;
} PurchasedGrant;

/* What came of a payment */
typedef enum PaymentOutcome
{
	PAYMENT_DELIVERED,			/* now */
	PAYMENT_REPLAYED,			/* it delivered the purchase before */
	PAYMENT_UNKNOWN,			/* no such purchase: event payment_unknown */
	PAYMENT_UNDERPAID,			/* event purchase_underpaid */
	PAYMENT_WRONG_CURRENCY,		/* event purchase_underpaid */
	PAYMENT_DUPLICATE,			/* paid twice: event payment_duplicate */
	PAYMENT_UNDELIVERABLE		/* account closed: event
								 * purchase_undeliverable */
} PaymentOutcome;

/*
 * purchases.c
 */

/* by its reference, 'purchase_<id>', or if that is NULL by its id */
extern bool purchases_find(text *reference, int64 id, Purchase *purchase);
extern bool purchases_find_payment(text *payment_reference,
								   Purchase *purchase);
extern void purchases_get(int64 id, Purchase *purchase);
extern void purchases_reread(int64 id, Purchase *purchase);
extern void purchases_lock(int64 id, Purchase *purchase);
extern void purchases_touch(int64 id);
extern ArrayType *purchases_array(List *ids);

/*
 * A PlanFunction, whose argument is a PurchaseStart.  The purchase is there once the
 * posting's statements have run.
 */
extern bool purchases_plan_start(Posting *posting, void *arg);
extern void purchases_checkout(const PurchaseStart *start, Datum *values,
							   bool *isnull);
extern void purchases_event(const char *kind, const Purchase *purchase,
							int64 transaction_id, JsonObject *detail);
extern void purchases_event_money(JsonObject *json, const char *key,
								  Datum money);

/* these return false if the purchase is not pending */
extern bool purchases_fail(int64 id, text *reason);
extern bool purchases_expire(int64 id);

/*
 * Records a payment whose credits follow from something else, such as that of a
 * subscription's invoice: a purchase without grants, which can be reversed for
 * its money.  If the payment is recorded already, returns that purchase's id.
 */
extern int64 purchases_record(int64 account_id, text *payment_reference,
							  Datum money, text *currency);

/*
 * payments.c
 */
extern const char *payments_outcome_name(PaymentOutcome outcome);

/*
 * Delivers a purchase that was paid, once.  The receipt is filled in if it is
 * delivered, now or before.
 */
extern PaymentOutcome payments_complete(int64 id, text *payment_reference,
										Datum money, text *currency,
										Receipt *receipt);

#pragma GCC visibility pop

#endif							/* CREDITS_SELL_PURCHASES_H */
