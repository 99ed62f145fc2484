/*
 * subscriptions.h
 *	  Subscriptions as rows.
 *
 * The lock of its account protects a subscription, its periods and its plan
 * changes.  While a change is planned (by ledger_post with request.lock_first),
 * subscriptions_in and periods_in read them, and return the same copy whenever
 * it is asked for.  The plan changes the copy and calls subscriptions_changed or
 * periods_changed, which has it written with the account.
 */
#ifndef CREDITS_SUBSCRIBE_SUBSCRIPTIONS_H
#define CREDITS_SUBSCRIBE_SUBSCRIPTIONS_H

#include "ledger/ledger.h"
#include "subscribe/plans.h"

#pragma GCC visibility push(hidden)

typedef enum SubscriptionStatus
{
	SUBSCRIPTION_UNKNOWN = -1,	/* someone has damaged it */
	SUBSCRIPTION_TRIALING,
	SUBSCRIPTION_ACTIVE,
	SUBSCRIPTION_PAST_DUE,
	SUBSCRIPTION_UNPAID,
	SUBSCRIPTION_PAUSED,
	SUBSCRIPTION_CANCELED
} SubscriptionStatus;

/* How the credits of a period follow a change of plan while it lasts */
typedef enum Proration
{
	PRORATE_UNKNOWN = -1,		/* someone has damaged it */
	PRORATE_BY_TIME,			/* each plan for the time that it was in force */
	PRORATE_FULL,				/* the new plan as if for the whole period */
	PRORATE_NONE				/* as they are */
} Proration;

typedef struct Subscription
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	bool		refused;		/* has this posting tried in vain to renew it? */
	List	   *part_rows;		/* of PartRow *, those that this posting
								 * changes */
	int64		id;
	int64		account_id;
	int64		plan_id;
	text	   *external_id;	/* NULL if none */
	SubscriptionStatus status;
	bool		by_payment;		/* is collection 'payment', and not 'clock'? */
	text	   *timezone;
	TimestampTz anchor;
	int64		first_number;	/* of the period that begins at the anchor */
	int64		period_number;	/* of the newest period */
	TimestampTz period_start;
	TimestampTz period_end;
	int64		next_plan_id;	/* 0 if none */
	Proration	next_proration; /* of no meaning if there is no next plan */
	TimestampTz cancel_at;		/* DT_NOEND if open */
	bool		cancel_expires; /* is cancel_credits 'expire', and not 'keep'? */
	TimestampTz due_at;			/* when it is to be renewed, DT_NOEND if never */
	TimestampTz created_at;
	TimestampTz started_at;
	TimestampTz ended_at;		/* DT_NOEND until it is canceled */
	Jsonb	   *metadata;
} Subscription;

extern StoreTable subscriptions_table;
extern StoreIndex subscriptions_by_account;
extern StoreIndex subscriptions_by_due_at;
extern StoreIndex subscriptions_of_account_due;

extern const char *const subscription_status_names[SUBSCRIPTION_CANCELED + 1];
extern const char *const proration_names[PRORATE_NONE + 1];
extern const char *const collection_names[2];
extern const char *const cancel_credits_names[2];

NORETURN_COMPAT extern void subscriptions_raise_unknown(int64 id);
extern bool subscriptions_refuse_ended(Posting *posting,
									   const Subscription *subscription);

/* outside of postings */
extern bool subscriptions_read(Store *store, Snapshot snapshot, int64 id,
							   Subscription *subscription);
extern bool subscriptions_find(int64 id, Subscription *subscription);
extern bool subscriptions_find_external(text *external_id,
										Subscription *subscription);

/* in a posting */
extern Subscription *subscriptions_in(Posting *posting, int64 id);
extern void subscriptions_changed(Posting *posting,
								  Subscription *subscription);
extern void subscriptions_add(Posting *posting, Subscription *subscription);
extern TimestampTz subscriptions_start(const Subscription *subscription,
									   const PlanTerms *plan, int64 number);
extern void subscriptions_wake(Posting *posting,
							   Subscription *subscription);
extern void subscriptions_expect(Posting *posting,
								 Subscription *subscription, TimestampTz at);
extern void subscriptions_read_due(Posting *posting, TimestampTz until);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_SUBSCRIPTIONS_H */
