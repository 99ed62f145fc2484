/*
 * periods.h
 *	  What subscription_rows.c and periods.c offer to the other files of
 *	  subscriptions.
 */
#ifndef CREDITS_PERIODS_H
#define CREDITS_PERIODS_H

#include "credits.h"
#include "subscriptions.h"

#pragma GCC visibility push(hidden)

/* columns of credits.subscriptions */
enum
{
	Anum_subscriptions_id = 1,
	Anum_subscriptions_account_id,
	Anum_subscriptions_plan_id,
	Anum_subscriptions_external_id,
	Anum_subscriptions_status,
	Anum_subscriptions_collection,
	Anum_subscriptions_timezone,
	Anum_subscriptions_anchor,
	Anum_subscriptions_first_number,
	Anum_subscriptions_period_number,
	Anum_subscriptions_period_start,
	Anum_subscriptions_period_end,
	Anum_subscriptions_next_plan_id,
	Anum_subscriptions_next_proration,
	Anum_subscriptions_cancel_at,
	Anum_subscriptions_cancel_credits,
	Anum_subscriptions_due_at,
	Anum_subscriptions_created_at,
	Anum_subscriptions_started_at,
	Anum_subscriptions_ended_at,
	Anum_subscriptions_metadata,
	Natts_subscriptions = Anum_subscriptions_metadata
};

/* columns of credits.plan_changes */
enum
{
	Anum_plan_changes_subscription_id = 1,
	Anum_plan_changes_at,
	Anum_plan_changes_reference,
	Anum_plan_changes_plan_id,
	Anum_plan_changes_proration,
	Anum_plan_changes_carried,
	Natts_plan_changes = Anum_plan_changes_carried
};

/*
 * Another plan, from an instant on.  Of several at one instant the last by
 * reference is in force: those that a period begins with are in parentheses,
 * which come before all else.
 */
typedef struct PlanChanged
{
	int64		subscription_id;
	TimestampTz at;
	int64		plan_id;
	const char *proration;
	const char *reference;
	Datum		carried;		/* numeric, 0 if it ended no period */
} PlanChanged;

extern StoreTable subscriptions_table;
extern StoreTable periods_table;
extern StoreTable plan_changes_table;
extern StoreIndex subscriptions_by_due_at;

extern bool subscriptions_read(Store *store, Snapshot snapshot, int64 id,
							   Subscription *subscription);
extern void subscriptions_add(Posting *posting, Subscription *subscription);
extern PlanChanged *periods_note_plan(Posting *posting, int64 subscription_id,
									  TimestampTz at, int64 plan_id,
									  const char *proration,
									  const char *reference);
extern Period *periods_before(Posting *posting, int64 subscription_id,
							  TimestampTz at);
extern bool periods_read(Snapshot snapshot, int64 subscription_id,
						 TimestampTz starts_at, Period *period);
extern List *periods_all(Posting *posting, int64 subscription_id);
extern Period *periods_new(const Subscription *subscription, int64 number,
						   TimestampTz starts_at, TimestampTz ends_at,
						   int64 plan_id);
extern void periods_keep(Posting *posting, Period *period);
extern int64 periods_roll(Posting *posting, Subscription *subscription,
						  Period *period, const Period *into,
						  const PlanTerms *rule, const PlanTerms *plan,
						  int64 room);
extern void periods_take_back(Posting *posting,
							  const Subscription *subscription);

#pragma GCC visibility pop

#endif							/* CREDITS_PERIODS_H */
