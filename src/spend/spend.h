/*
 * spend.h
 *	  Taking credits from an account or a pool: what deductions, holds and
 *	  charges have in common.
 */
#ifndef CREDITS_SPEND_SPEND_H
#define CREDITS_SPEND_SPEND_H

#include "ledger/ledger.h"

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
	int64		amount;			/* 0 for a charge that is free, negative until
								 * it has been calculated */
	bool		up_to;			/* take what there is, up to the amount? */
	TransactionKind kind;		/* KIND_DEDUCTION or KIND_HOLD */
	TimestampTz expires_at;		/* of a hold, unless expires_in is set */
	Interval   *expires_in;		/* of a hold, or NULL */
	text	   *pool;			/* NULL if no pool is involved */
	SpendMode	mode;
	JsonObject *terms;			/* for the transaction, or NULL */
	/* sets amount and terms each time the spend is planned, or NULL */
	bool		(*prepare) (Posting *posting, struct Spend *spend);
	const char *quantity;		/* of a charge, or NULL */
	Request		request;
} Spend;

/* deduct.c */
extern void deduct_fingerprint(Request *request, int64 amount, bool up_to);

/* holds.c */
extern void holds_fingerprint(Request *request, const Spend *spend);

/* operations.c */
extern bool operations_cost(Snapshot snapshot, int64 price_id, Datum quantity,
							text **name, TimestampTz *active_from,
							Datum *cost);

/* spend.c */
extern void spend_read_pool(FunctionCallInfo fcinfo, int n, Spend *spend);
extern void spend_fingerprint_pool(Spend *spend);
extern bool spend_check_caps(Posting *pool, List *way, int64 amount,
							 List **path);
extern bool spend_allowed(Posting *posting, const Spend *spend);
extern int64 spend_up_to(Posting *posting, int64 amount, int64 left);
extern bool spend_plan(Posting *posting, void *arg);
extern Datum spend_call(FunctionCallInfo fcinfo, const char *function,
						Spend *spend);
extern Datum spend_try(FunctionCallInfo fcinfo, const char *function,
					   Spend *spend);

#pragma GCC visibility pop

#endif							/* CREDITS_SPEND_SPEND_H */
