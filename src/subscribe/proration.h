/*
 * proration.h
 *	  The credits to which a period of a subscription entitles if the plan changes
 *	  while it lasts.
 */
#ifndef CREDITS_SUBSCRIBE_PRORATION_H
#define CREDITS_SUBSCRIBE_PRORATION_H

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/plans.h"

#pragma GCC visibility push(hidden)

/* The entitlement of a period: earned / whole credits, exactly */
typedef struct Entitlement
{
	Datum		earned;			/* numeric, credits times seconds */
	Datum		whole;			/* numeric, seconds of a whole period */
} Entitlement;

/* computing it */
extern bool proration_same_length(const PlanTerms *a, const PlanTerms *b);
extern void proration_unchanged(Entitlement *e, TimestampTz starts_at,
								TimestampTz ends_at, int64 credits,
								Datum carried);
extern void proration_entitle(Posting *posting,
							  const Subscription *subscription,
							  Period *period, TimestampTz until,
							  PlanChanged *new, Entitlement *e,
							  Datum *carried);
extern bool proration_is_kept(Snapshot snapshot, const Period *period);
extern int64 proration_to_give(const Entitlement *e, int64 given);
extern int64 proration_to_take(const Entitlement *e, int64 given);
extern Datum proration_carried(const Entitlement *e, int64 given);
extern Datum proration_entitlement(const Entitlement *e);

/* in a posting: giving and taking back */
extern int64 proration_log(Posting *posting, Period *period, int64 amount);
extern Datum proration_price(const PlanTerms *plan, int64 amount);
extern bool proration_give(Posting *posting, Period *period,
						   const PlanTerms *plan, int64 *amount);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PRORATION_H */
