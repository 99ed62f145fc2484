/*
 * reversals.h
 *	  Money of purchases that is paid back, and the credits that are taken back
 *	  for it.
 */
#ifndef CREDITS_SELL_REVERSALS_H
#define CREDITS_SELL_REVERSALS_H

#include "sell/purchases.h"

#pragma GCC visibility push(hidden)

typedef enum ReversalKind
{
	REVERSAL_REFUND,
	REVERSAL_CHARGEBACK
} ReversalKind;

typedef enum ReversalStatus
{
	REVERSAL_MADE,				/* a refund */
	REVERSAL_WITHDRAWN,
	REVERSAL_OPEN,				/* a chargeback */
	REVERSAL_WON,
	REVERSAL_LOST
} ReversalStatus;

/* A refund or a chargeback */
typedef struct Reversal
{
	text	   *reference;		/* NULL until a new one is made up */
	ReversalKind kind;
	ReversalStatus status;
	Datum		money;			/* numeric */
	int64		credits;		/* of a refund in credits; then money is 0 */
} Reversal;

/* A request to record a refund or a chargeback, or what became of it */
typedef struct ReversalCall
{
	Purchase	purchase;
	Reversal	reversal;		/* as it is to be */
	text	   *reason;
	Request		request;
	bool		all;			/* is it of all the money that is left? */

	/*
	 * Completes the reversal, with the account locked, or sets replayed if it
	 * is recorded already.  Returns false with the refusal filled in if it is
	 * not allowed.
	 */
	bool		(*decide) (struct ReversalCall *call, Refusal *refusal);
	List	   *reversals;		/* all that are recorded */
	Reversal   *before;			/* this one as it is recorded, NULL if new */
	List	   *grants;			/* of PurchasedGrant *, NIL before they are
								 * given; the one paid for first */
	int			nparties;		/* accounts that they belong to */
	bool		again;			/* was the purchase completed meanwhile? */
	bool		replayed;

	/* what came of it */
	text	   *account;
	int64		transaction_id; /* 0 if nothing was taken or given back */
	int64		claimed;		/* more than before, from the buyer's account */
	int64		balance;
	int64		debt;
	bool		closed;			/* is an account closed that should change? */
} ReversalCall;

/*
 * clawbacks.c
 */
extern void clawbacks_sum(List *reversals, Datum *money, int64 *credits);
extern int64 clawbacks_share(int64 amount, Datum money, Datum paid,
							 int64 credits, int64 main);
extern Datum clawbacks_worth(const Purchase *purchase, int64 credits,
							 int64 main);
extern Entry *clawbacks_claim(Posting *postings, int npostings,
							  List *reversals, List *grants, Datum paid,
							  int64 *claimed, bool *closed);

/*
 * reversals.c
 */
extern Reversal *reversals_find(List *reversals, text *reference);
extern void reversals_claim(Posting *postings, int npostings,
							const Purchase *purchase, List *grants,
							Datum paid);

/*
 * Sets how much of a purchase's money has been paid back under a reference,
 * which is the refund's or the chargeback's: it does not count if it was
 * withdrawn or won.  The purchase need not be completed yet.  Returns whether
 * this changed anything.
 */
extern bool reversals_set(int64 id, text *reference, ReversalStatus status,
						  Datum money);

/* for purchase_refunds.c and chargebacks.c */
extern bool reversals_has_grants(const ReversalCall *call, Refusal *refusal);
extern bool reversals_decide_new(ReversalCall *call, Refusal *refusal);
extern bool reversals_refuse_too_much(const ReversalCall *call,
									  Refusal *refusal, Datum left);
extern void reversals_arg_money(FunctionCallInfo fcinfo, int n,
								ReversalCall *call);
extern Datum reversals_call(FunctionCallInfo fcinfo, const char *function,
							ReversalCall *call);

#pragma GCC visibility pop

#endif							/* CREDITS_SELL_REVERSALS_H */
