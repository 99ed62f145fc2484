/*
 * spend.h
 *	  Taking credits from an account or from a pool: what deductions, holds and
 *	  charges share.
 */
#ifndef CREDITS_SPEND_H
#define CREDITS_SPEND_H

#include "credits.h"

#pragma GCC visibility push(hidden)

typedef enum SpendMode
{
	POOL_ONLY,
	OWN_FIRST,
	POOL_FIRST
} SpendMode;

typedef struct Spend
{
	text	   *account;
	int64		amount;			/* 0 only for what costs nothing, negative
								 * before it is known */
	const char *kind;			/* KIND_DEDUCTION or KIND_HOLD */
	TimestampTz expires_at;		/* of a hold, if it does not go by expires_in */
	Interval   *expires_in;		/* of a hold, from now, or NULL */
	text	   *pool;			/* NULL if the account pays by itself */
	SpendMode	mode;
	StringInfo	terms;			/* members for the transaction's terms, or NULL */
	/* sets amount and terms whenever it is planned, NULL if they are known */
	bool		(*prepare) (Posting *posting, struct Spend *spend);
	const char *quantity;		/* of a charge, or NULL */
	Request		request;
} Spend;

/* deduct.c */
extern void deduct_fingerprint(Request *request, int64 amount);

/* spend.c */
extern void spend_read_pool(FunctionCallInfo fcinfo, int n, Spend *spend);
extern void spend_fingerprint_pool(Spend *spend);
extern bool spend_check_caps(Posting *pool, List *way, int64 amount,
							 List **path);
extern bool spend_plan(Posting *posting, void *arg);
extern bool spend_post(const char *function, Spend *spend, Receipt *receipt,
					   Refusal *refusal);
extern Datum spend_call(FunctionCallInfo fcinfo, const char *function,
						Spend *spend);
extern Datum spend_try(FunctionCallInfo fcinfo, const char *function,
					   Spend *spend);

#pragma GCC visibility pop

#endif							/* CREDITS_SPEND_H */
