/*
 * plans.h
 *	  What plans.c offers to other topics.
 */
#ifndef CREDITS_PLANS_H
#define CREDITS_PLANS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

typedef enum Rollover
{
	ROLLOVER_NONE,
	ROLLOVER_MAXIMUM,
	ROLLOVER_SHARE
} Rollover;

/* One version of a plan; it never changes */
typedef struct PlanTerms
{
	int64		id;
	text	   *name;
	int32		version;
	text	   *unit;			/* NULL for any */
	int64		credits;
	char	   *period;
	int32		every;
	Datum		price;			/* numeric, 0 if none */
	text	   *currency;
	Rollover	rollover;
	int64		rollover_maximum;	/* NO_LIMIT if none; of a share, its credits */
	Datum		rollover_share; /* numeric, 0 if none */
	int64		rollover_minimum;
	int32		rollover_periods;	/* 0 for ever */
	int32		priority;		/* -1 for that of the source */
	Interval   *trial;			/* NULL if none */
	int64		trial_credits;
	bool		catch_up_latest;
	bool		retired;
} PlanTerms;

/* the version, kept for the session; raises an error if there is none */
extern const PlanTerms *plans_get(int64 id);

/* the newest version of a plan, NULL if there is none of that name */
extern const PlanTerms *plans_find(text *name);

/* the same, but raises an error if there is none, or it is retired */
extern const PlanTerms *plans_sold(text *name);

/* what is rolled over of what a period of so many credits left */
extern int64 plans_rolled(const PlanTerms *plan, int64 credits, int64 unused);

/* refuses a plan whose credits the posting's account cannot hold */
extern bool plans_fit(Posting *posting, const PlanTerms *plan);

#pragma GCC visibility pop

#endif							/* CREDITS_PLANS_H */
