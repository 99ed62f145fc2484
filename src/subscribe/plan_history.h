/*
 * plan_history.h
 *	  Which plan a subscription had when.
 */
#ifndef CREDITS_SUBSCRIBE_PLAN_HISTORY_H
#define CREDITS_SUBSCRIBE_PLAN_HISTORY_H

#include "ledger/ledger.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

/*
 * A row of credits.plan_changes: the plan that a subscription has from an
 * instant on.  Of several at one instant the one whose reference sorts last is
 * in force.  References of our own are in parentheses, which sort before all
 * others that are in use.
 */
typedef struct PlanChanged
{
	ItemPointerData tid;
	int64		subscription_id;
	TimestampTz at;
	int64		plan_id;
	Proration	proration;
	const char *reference;
	Datum		carried;		/* numeric, 0 if it ended no period */
} PlanChanged;

extern StoreTable plan_changes_table;
extern List *plan_history_read(Store *store, Snapshot snapshot,
							   int64 subscription_id, TimestampTz from);
extern bool plan_history_find_begun(Posting *posting, int64 subscription_id,
									TimestampTz at, PlanChanged *begun);
extern PlanChanged *plan_history_note(Posting *posting, int64 subscription_id,
									  TimestampTz at, int64 plan_id,
									  Proration proration,
									  const char *reference);
extern void plan_history_change(Posting *posting, Subscription *subscription,
								TimestampTz at, int64 plan_id,
								const char *reference);
extern const PlanTerms *plan_history_before(Posting *posting,
											const Subscription *subscription,
											TimestampTz at);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PLAN_HISTORY_H */
