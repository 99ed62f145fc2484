/*
 * plans.h
 *	  Plans and their terms.
 */
#ifndef CREDITS_SUBSCRIBE_PLANS_H
#define CREDITS_SUBSCRIBE_PLANS_H

#include "ledger/ledger.h"
#include "subscribe/calendar.h"

#pragma GCC visibility push(hidden)

typedef enum Rollover
{
	ROLLOVER_UNKNOWN = -1,		/* someone has damaged it */
	ROLLOVER_NONE,
	ROLLOVER_MAXIMUM,
	ROLLOVER_SHARE
} Rollover;

/* A version of a plan, which never changes */
typedef struct PlanTerms
{
	ItemPointerData tid;
	int64		id;
	text	   *name;
	int32		version;
	text	   *unit;			/* NULL for any */
	int64		credits;
	CalendarUnit period;
	int32		every;
	Datum		price;			/* numeric, 0 if none */
	text	   *currency;
	Rollover	rollover;
	int64		rollover_maximum;	/* NO_LIMIT if none */
	Datum		rollover_share; /* numeric, 0 if none */
	int64		rollover_minimum;
	int32		rollover_periods;	/* 0 if it does not expire */
	int64		rollover_total; /* NO_LIMIT if none */
	bool		rollover_again;
	int32		priority;		/* -1 for the default of the source */
	Interval   *trial;			/* NULL if none */
	int64		trial_credits;
	bool		catch_up_latest;	/* are missed periods skipped? */
	Interval   *grace;			/* NULL if none */
	bool		retired;
} PlanTerms;

/* these raise an error if there is none, except plans_find */
extern const PlanTerms *plans_get(int64 id);
extern const PlanTerms *plans_find(text *name);
extern const PlanTerms *plans_sold(text *name);

/*
 * Returns what plans_sold does, if it is offered to an account or is the version
 * that the account has, 0 if none; otherwise, it is as if there were none.
 */
extern const PlanTerms *plans_offered(text *name, const Account *account,
									  int64 has);
extern bool plans_retired_at(const PlanTerms *plan, TimestampTz at);
extern bool plans_keep_credits(const PlanTerms *plan);
extern int64 plans_rolled(const PlanTerms *plan, int64 credits, int64 unused);
extern bool plans_fit(Posting *posting, const PlanTerms *plan);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PLANS_H */
