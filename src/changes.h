/*
 * changes.h
 *	  Changes of a subscription's plan: what changes.c offers to other topics,
 *	  and the computation behind it.
 */
#ifndef CREDITS_CHANGES_H
#define CREDITS_CHANGES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* of subscriptions.h */
struct Subscription;
struct Period;

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
extern void changes_follow(Posting *posting, struct Subscription *subscription,
						   struct Period *period);

/*
 * In a posting that renews: makes the plan that a subscription is to have from
 * its next period on the one in force, and counts periods anew from the end of
 * this one if the new plan's are of another length.
 */
extern void changes_due(Posting *posting, struct Subscription *subscription);

/*
 * In a posting: notes from when on a subscription has a plan, such as that
 * which it begins with.
 */
extern void changes_note(Posting *posting, struct Subscription *subscription,
						 TimestampTz at, int64 plan_id, Proration proration,
						 text *reference);

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
