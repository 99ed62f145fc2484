/*
 * allocate.h
 *	  Giving grants: the parts that credits_allocate and
 *	  credits_allocate_many share.
 */
#ifndef CREDITS_ACCOUNTS_ALLOCATE_H
#define CREDITS_ACCOUNTS_ALLOCATE_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

typedef struct Allocation
{
	int64		amount;
	text	   *source;
	bool		has_effective_at;
	TimestampTz effective_at;
	TimestampTz expires_at;		/* DT_NOEND if never, or if it goes by
								 * expires_in */
	Interval   *expires_in;		/* from when it is effective, or NULL */
	bool		has_priority;
	int32		priority;
	Datum		price;			/* numeric, 0 if none */
	text	   *currency;
} Allocation;

extern bool allocate_valid(Refusal *refusal, const Allocation *allocation);
extern void allocate_fingerprint(Request *request,
								 const Allocation *allocation);
extern bool allocate_plan(Posting *posting, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_ACCOUNTS_ALLOCATE_H */
