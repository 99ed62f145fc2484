/*
 * purchases.h
 *	  What purchases.c, payments.c and reversals.c offer to each other and to
 *	  other topics.
 *
 * Numeric amounts of money are Datums.  All of these may be called again with
 * the same arguments: then they change nothing and say what was done before.
 * The account's row lock guards its purchases; who locks rows of its own takes
 * those locks first.
 */
#ifndef CREDITS_PURCHASES_H
#define CREDITS_PURCHASES_H

#include "credits.h"

#include "utils/array.h"

#pragma GCC visibility push(hidden)

typedef enum PurchaseStatus
{
	PURCHASE_UNKNOWN = -1,		/* someone has damaged it */
	PURCHASE_PENDING,
	PURCHASE_COMPLETED,
	PURCHASE_FAILED,
	PURCHASE_EXPIRED
} PurchaseStatus;

/* A purchase as its row shows it; copied into the caller's memory */
typedef struct Purchase
{
	int64		id;
	int64		account_id;
	text	   *reference;		/* 'purchase_<id>' */
	text	   *package;		/* NULL if it is of an amount, or a period's */
	int64		credits;		/* that are paid for */
	text	   *promotion;		/* NULL if none */
	int64		promotion_id;	/* 0 if none */
	Datum		price;			/* numeric */
	text	   *currency;
	Jsonb	   *quote;			/* the computation, and the grants to give */
	PurchaseStatus status;
	text	   *payment_reference;	/* NULL until paid */
	Datum		paid;			/* numeric, 0 until paid */
	int64		transaction_id; /* that gave the main grant, 0 until completed */
	List	   *grant_ids;		/* of int64 *, the main one first */
	text	   *problem;		/* with the last payment, NULL if none */
	int64		request;		/* fingerprint, if it has a key */
	Jsonb	   *metadata;
	TimestampTz expires_at;
} Purchase;

/* What came of a payment */
typedef enum PaymentOutcome
{
	PAYMENT_DELIVERED,			/* now */
	PAYMENT_REPLAYED,			/* delivered before */
	PAYMENT_UNKNOWN,			/* for no purchase: event payment_unknown */
	PAYMENT_UNDERPAID,			/* event purchase_underpaid */
	PAYMENT_WRONG_CURRENCY,		/* event purchase_underpaid */
	PAYMENT_DUPLICATE,			/* paid twice: event payment_duplicate */
	PAYMENT_UNDELIVERABLE		/* account closed: event purchase_undeliverable */
} PaymentOutcome;

/* by what it is found: a reference, 'purchase_<id>', or without one an id */
extern bool purchases_find(text *reference, int64 id, Purchase *purchase);
extern bool purchases_find_payment(text *payment_reference,
								   Purchase *purchase);
extern bool purchases_find_key(int64 account_id, text *key,
							   Purchase *purchase);
extern ArrayType *purchases_array(List *ids);
extern void purchases_event(const char *kind, const Purchase *purchase,
							int64 transaction_id, StringInfo detail);
extern void purchases_event_money(StringInfo json, const char *key,
								  Datum money);

/* payments.c */
extern const char *purchases_outcome_name(PaymentOutcome outcome);

/*
 * Delivers a purchase that was paid, once.  The receipt is filled in if it is
 * delivered, now or before.
 */
extern PaymentOutcome purchases_complete(int64 id, text *payment_reference,
										 Datum paid, text *currency,
										 Receipt *receipt);

/* purchases.c again: these return false if the purchase is not pending */
extern bool purchases_fail(int64 id, text *reason);
extern bool purchases_expire(int64 id);

/*
 * Records grants that exist, all of one account, as paid for: what is recorded
 * can be reversed like a purchase.  A payment reference that is recorded
 * already returns that purchase's id.
 */
extern int64 purchases_record(int64 account_id, text *payment_reference,
							  Datum paid, text *currency, List *grant_ids);

/*
 * A grant of a purchase, and how much of it the money that went back claims
 */
typedef struct PurchasedGrant
{
	int64		id;
	int64		account_id;
	int64		amount;
} PurchasedGrant;

/* reversals.c */
extern Entry *reversals_claim(Posting *postings, int npostings,
							  const Purchase *purchase, List *grants,
							  Datum paid, int64 *claimed);

#define REVERSAL_REFUND		"refund"
#define REVERSAL_DISPUTE	"dispute"

/*
 * Sets how much of a purchase's money has gone back under a reference, which
 * is the refund's or the dispute's: 0 if it was withdrawn or won.  Together
 * they decide how much of the purchase's grants is taken back.  May come
 * before the purchase is completed.  Returns whether this changed anything.
 */
extern bool purchases_set_reversal(int64 id, text *reference,
								   const char *kind, Datum money);

#pragma GCC visibility pop

#endif							/* CREDITS_PURCHASES_H */
