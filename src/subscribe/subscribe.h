/*
 * subscribe.h
 *	  Subscribing accounts and changing subscriptions, for other rooms.
 *
 * Each of these functions locks the account.  Each may be called again, and then
 * does nothing that was done before.
 */
#ifndef CREDITS_SUBSCRIBE_SUBSCRIBE_H
#define CREDITS_SUBSCRIBE_SUBSCRIBE_H

#include "ledger/ledger.h"
#include "subscribe/plans.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

/* A subscription that is wanted */
typedef struct NewSubscription
{
	text	   *account;
	const PlanTerms *plan;		/* NULL to look plan_name up, which must be
								 * offered to the account */
	text	   *plan_name;
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

/*
 * Returns the id of the subscription; if the account has one of this external_id,
 * of that one.
 */
extern int64 subscribe_account(const NewSubscription *wanted,
							   Receipt *receipt);

/*
 * Returns whether an account has had a trial of a plan, in any version of it,
 * by another subscription than the given one.
 */
extern bool subscribe_had_trial(int64 account_id, text *plan, int64 except);

/*
 * Has a subscription, which begins with a trial but has not begun yet, begin by
 * a new plan.
 */
extern void subscribe_set_start(Subscription *subscription,
								const PlanTerms *old, const PlanTerms *plan);

/* These return whether they have changed anything; ids must exist */
extern bool lifecycle_set_status(int64 id, SubscriptionStatus status);
extern bool lifecycle_cancel(int64 id, TimestampTz at, bool expires);

/* shows a plan from an instant on; credits follow from what is paid for it */
extern bool lifecycle_show_plan(int64 id, TimestampTz at, int64 plan_id);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_SUBSCRIBE_H */
