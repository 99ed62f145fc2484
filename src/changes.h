/*
 * changes.h
 *	  Changes of a subscription's plan: what changes.c offers to other topics,
 *	  and the computation behind it.
 */
#ifndef CREDITS_CHANGES_H
#define CREDITS_CHANGES_H

#include "credits.h"
#include "periods.h"
#include "plans.h"
#include "subscriptions.h"

#pragma GCC visibility push(hidden)

/* how the credits of a period follow a change of plan while it lasts */
typedef enum Proration
{
	PRORATE_UNKNOWN = -1,
	PRORATE_BY_TIME,			/* each plan for the time that it was in force */
	PRORATE_FULL,				/* the new plan as if for the whole period */
	PRORATE_NONE				/* as they are */
} Proration;

/* A change of plan inside a period */
typedef struct Turn
{
	TimestampTz at;
	int64		credits;		/* of a whole period of the new plan */
	Proration	proration;
	bool		ends;			/* does the period end with it? */
} Turn;

/* What a period entitles to: earned / whole credits, exactly */
typedef struct Entitlement
{
	Datum		earned;			/* numeric, credits times seconds */
	Datum		whole;			/* numeric, seconds of a whole period */
} Entitlement;

/*
 * Changes the plan of a subscription at an instant, which may be in the past,
 * once for each instant and reference.  Of several in one period the credits
 * are those of all, in whichever order they come.  Locks the account.  Returns
 * whether it was done now.
 */
extern bool changes_apply(int64 subscription_id, TimestampTz at,
						  int64 plan_id, Proration proration,
						  text *reference, Receipt *receipt);

/*
 * In a posting, which has the lock: gives or takes back what the changes
 * inside a period make of it, once the period's own credits have been given.
 */
extern void changes_follow(Posting *posting, Subscription *subscription,
						   Period *period);

/* changes_plan.c */

typedef enum When
{
	WHEN_DEFAULT,				/* now if the plan is worth more */
	WHEN_NOW,
	WHEN_PERIOD_END
} When;

/* A change that is asked for, and what comes of it */
typedef struct ChangeRequest
{
	Request		request;
	int64		subscription_id;
	text	   *plan_name;		/* NULL if plan_id is given */
	int64		plan_id;
	When		when;
	Proration	proration;
	TimestampTz at;				/* DT_NOBEGIN for now */
	const char *reference;		/* NULL for that of the transaction */
	/* what comes of it */
	const PlanTerms *plan;
	bool		done;			/* or else it had been before */
	bool		scheduled;
	TimestampTz effective_at;
	Datum		entitlement;	/* numeric, 0 in a trial */
	int64		given;
	int64		taken;
	TimestampTz period_start;
	TimestampTz period_end;
	int64		balance;
} ChangeRequest;

extern bool changes_plan(Posting *posting, void *arg);
extern void changes_announce(const ChangeRequest *change, int64 account_id,
							 const Receipt *receipt);

/* changes_period.c */
extern List *changes_read(Posting *posting, int64 subscription_id,
						  TimestampTz from);
extern bool changes_same_length(const PlanTerms *a, const PlanTerms *b);
extern void changes_entitle(Posting *posting,
							const Subscription *subscription,
							const Period *period, TimestampTz until,
							PlanChanged *new, Entitlement *e, Datum *carried);
extern int64 changes_log(Posting *posting, Period *period, int64 amount);
extern bool changes_give(Posting *posting, Subscription *subscription,
						 Period *period, const PlanTerms *plan,
						 int64 *amount);

/* changes_fold.c */
extern const char *const proration_names[];
extern Proration changes_proration(const char *name);
extern void changes_fold(Entitlement *e, TimestampTz starts_at,
						 TimestampTz ends_at, int64 whole, int64 credits,
						 Datum carried, const Turn *turns, int nturns);
extern int64 changes_to_give(const Entitlement *e, int64 given);
extern int64 changes_to_take(const Entitlement *e, int64 given);
extern Datum changes_carried(const Entitlement *e, int64 given);
extern Datum changes_entitlement(const Entitlement *e);

#pragma GCC visibility pop

#endif							/* CREDITS_CHANGES_H */
