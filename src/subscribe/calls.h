/*
 * calls.h
 *	  What all calls that change a subscription have in common.
 */
#ifndef CREDITS_SUBSCRIBE_CALLS_H
#define CREDITS_SUBSCRIBE_CALLS_H

#include "ledger/ledger.h"
#include "subscribe/subscribe.h"

#pragma GCC visibility push(hidden)

/* A change of a subscription that is asked for, and what came of it */
typedef struct Call
{
	const char *function;
	Request		request;
	int64		id;				/* of the subscription */
	const NewSubscription *wanted;	/* to create it, else NULL */
	SubscriptionStatus status;	/* to set */
	bool		at_period_end;	/* to cancel it then, or else at cancel_at */
	TimestampTz cancel_at;		/* DT_NOBEGIN for now, DT_NOEND for never */
	bool		cancel_expires;
	TimestampTz starts_at;		/* of a period to give; DT_NOBEGIN for that of
								 * now; or since when the plan is shown */
	int64		plan_id;		/* that is shown */
	bool		done;			/* did it change anything? */
	Receipt		receipt;		/* transaction_id is 0 if it did not */
} Call;

extern bool calls_post(Call *call, PlanFunction plan, Refusal *refusal);
extern Subscription *calls_subscription(Posting *posting, const Call *call);
extern void calls_log(Posting *posting, Call *call,
					  Subscription *subscription);
extern Datum calls_state(FunctionCallInfo fcinfo, int64 id,
						 const Receipt *receipt, bool replayed);
extern Datum calls_run(FunctionCallInfo fcinfo, Call *call, PlanFunction plan);
extern void calls_check_instant(const char *name, TimestampTz at);
extern bool calls_arg_instant(FunctionCallInfo fcinfo, int n,
							  const char *name, TimestampTz *at);

/* lifecycle.c, for paid_periods.c */
extern bool lifecycle_plan_status(Posting *posting, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_CALLS_H */
