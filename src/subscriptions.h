/*
 * subscriptions.h
 *	  What subscriptions.c, subscription_rows.c, periods.c and renew.c offer to
 *	  other topics.
 *
 * A subscription and its periods are guarded by the lock of their account.
 * Inside a plan of a change (ledger_post with request.lock_first) they are read
 * by subscriptions_in and periods_in, changed in memory, and noted with
 * subscriptions_changed and periods_changed, which has them written with the
 * account.  Asked for again in the same posting, the same copy is returned.
 */
#ifndef CREDITS_SUBSCRIPTIONS_H
#define CREDITS_SUBSCRIPTIONS_H

#include "credits.h"
#include "plans.h"

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

typedef enum PeriodStatus
{
	PERIOD_UNKNOWN = -1,		/* someone has damaged it */
	PERIOD_GRANTED,
	PERIOD_SKIPPED,
	PERIOD_TRIAL
} PeriodStatus;

typedef struct Subscription
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		id;
	int64		account_id;
	int64		plan_id;
	text	   *external_id;	/* NULL if none */
	SubscriptionStatus status;
	bool		by_payment;		/* collection: payment, or else clock */
	text	   *timezone;
	TimestampTz anchor;
	int64		first_number;	/* of the period that begins at the anchor */
	int64		period_number;	/* of the newest period */
	TimestampTz period_start;
	TimestampTz period_end;
	int64		next_plan_id;	/* 0 if none */
	char	   *next_proration; /* NULL if none */
	TimestampTz cancel_at;		/* DT_NOEND if open */
	bool		cancel_expires; /* cancel_credits: expire, or else keep */
	TimestampTz due_at;			/* DT_NOEND if the clock changes nothing */
	TimestampTz created_at;
	TimestampTz started_at;
	TimestampTz ended_at;		/* DT_NOEND until it is canceled */
	Jsonb	   *metadata;
} Subscription;

typedef struct Period
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		subscription_id;
	TimestampTz starts_at;
	TimestampTz ends_at;
	int64		number;
	int64		account_id;
	int64		plan_id;		/* in force when it began */
	PeriodStatus status;
	int64		credits;		/* given when it began */
	int64		given;			/* in all, net of what was taken back */
	int64		unused;			/* -1 until known */
	int64		rolled;			/* -1 until decided */
	int64		rolled_grant_id;	/* 0 if none */
	int64		transaction_id; /* 0 if none */
	int			ngrants;
	int64	   *grant_ids;
} Period;

extern const char *const subscription_status_names[];

/* without a lock, as the active snapshot or a new one shows it */
extern bool subscriptions_find(int64 id, Subscription *subscription);
extern bool subscriptions_find_external(text *external_id,
										Subscription *subscription);
NORETURN_COMPAT extern void subscriptions_raise_unknown(int64 id);
extern bool subscriptions_refuse_ended(Posting *posting,
									   const Subscription *subscription);

/* in a posting; subscriptions_in returns NULL if the account has none of that id */
extern Subscription *subscriptions_in(Posting *posting, int64 id);
extern void subscriptions_changed(Posting *posting,
								  Subscription *subscription);
extern Period *periods_in(Posting *posting, int64 subscription_id,
						  TimestampTz starts_at);
extern void periods_changed(Posting *posting, Period *period);

/* when a period begins by the calendar of the plan in force */
extern TimestampTz subscriptions_start(const Subscription *subscription,
									   const PlanTerms *plan, int64 number);

/* sets due_at to when the clock next has something to do */
extern void subscriptions_wake(Subscription *subscription);

/*
 * Gives credits of a period as a grant of its own and notes it in the period:
 * as the first one, or as one that a change of plan adds.  amount > 0; price is
 * numeric, 0 if it has none.  Returns the transaction, or NULL with the
 * posting's refusal set if the account's limits forbid it.
 */
extern Entry *periods_give(Posting *posting, Subscription *subscription,
						   Period *period, const PlanTerms *plan,
						   int64 amount, Datum price);

/* another plan from an instant on: a row of plan_changes, and plan_id */
extern void periods_change_plan(Posting *posting, Subscription *subscription,
								TimestampTz at, int64 plan_id,
								const char *proration, const char *reference);

/* the plan that a subscription had just before an instant */
extern const PlanTerms *periods_plan_before(Posting *posting,
											const Subscription *subscription,
											TimestampTz at);

/*
 * For other topics: each locks the account, does it once, and may be called
 * again.  Ids must exist.
 */
typedef struct NewSubscription
{
	text	   *account;
	const PlanTerms *plan;
	bool		has_starts_at;
	TimestampTz starts_at;
	text	   *timezone;		/* NULL for UTC */
	bool		has_anchor;
	TimestampTz anchor;
	text	   *external_id;
	bool		trial;
	bool		by_payment;
	text	   *key;			/* idempotency key, NULL if none */
	Jsonb	   *metadata;
} NewSubscription;

/* returns its id; with an external_id that exists, that one's */
extern int64 subscriptions_create(const NewSubscription *wanted,
								  Receipt *receipt);

/* any but canceled; says whether that changed anything */
extern bool subscriptions_set_status(int64 id, SubscriptionStatus status);

/* at DT_NOBEGIN for now, DT_NOEND for never: withdraws it */
extern bool subscriptions_cancel(int64 id, TimestampTz at, bool expires);

/*
 * Gives a period that was paid, or begins a trial: once for each starts_at,
 * whatever the others.  Returns whether it was given now.
 */
extern bool subscriptions_grant_period(int64 id, TimestampTz starts_at,
									   TimestampTz ends_at, int64 plan_id,
									   bool trial, Receipt *receipt);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIPTIONS_H */
