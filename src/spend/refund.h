/*
 * refund.h
 *	  Refunds: giving spent credits back to the grants they came from.
 *
 * A refund is found by its spend, which says which accounts are to be posted to, and
 * then planned under their locks.
 */
#ifndef CREDITS_SPEND_REFUND_H
#define CREDITS_SPEND_REFUND_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

/* What becomes of credits of grants that have expired; a part of fingerprints */
typedef enum ExpiredPolicy
{
	EXPIRED_BY_SETTING,
	EXPIRED_GRACE,
	EXPIRED_EXPIRE
} ExpiredPolicy;

/* a spend and, if it is split, its other part */
#define MAX_REFUND_PARTS 2

/* A transaction that spent credits */
typedef struct RefundPart
{
	Entry		spend;
	int			party;			/* index of its account among the parties */
	Draw	   *left;			/* what can still be given back to each grant */
	int64		total;			/* sum of that */
} RefundPart;

typedef struct Refund
{
	RefundPart	parts[MAX_REFUND_PARTS];
	int			nparts;
	Party		parties[2];
	int			nparties;
	bool		has_amount;		/* false to refund all that is left */
	int64		amount;
	ExpiredPolicy expired;
	const Request *request;
} Refund;

extern void refund_find(int64 id, text *account, const char *function,
						Refund *refund);
extern int64 refund_amount(Posting *postings, Refund *refund);
extern bool refund_plan(Posting *postings, void *arg);
extern List *refund_add_members(List *keys, Posting *postings, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_SPEND_REFUND_H */
