/*
 * part_periods.h
 *	  How a change of parts is planned: the rows, their sums, and the periods that
 *	  are brought to them.
 */
#ifndef CREDITS_SUBSCRIBE_PART_PERIODS_H
#define CREDITS_SUBSCRIBE_PART_PERIODS_H

#include "ledger/ledger.h"
#include "subscribe/paid_parts.h"
#include "subscribe/periods.h"
#include "subscribe/subscriptions.h"

#include "common/int.h"

#pragma GCC visibility push(hidden)

/* Parts that are to be replaced, and what comes of it */
typedef struct PartsChange
{
	int64		subscription_id;
	List	   *references;		/* of text * */
	List	   *parts;			/* of PaidPart * */
	bool		within;			/* is it a change of plan within a period? */
	/* while it is planned */
	Subscription *subscription;
	List	   *periods;		/* of Period *, those that were brought to
								 * their parts */
	List	   *unused;			/* of Period *, those that had more left than
								 * was known */
	List	   *begun;			/* of Period *, those that gave for the first
								 * time */
	bool		changed;
	Refusal		refusal;		/* why not all was given */
	Receipt		receipt;
} PartsChange;

/*
 * Adds numbers of credits.  More than fits becomes the most that does.
 */
static inline int64
plus(int64 a, int64 b)
{
	int64		sum;

	return pg_add_s64_overflow(a, b, &sum) ? PG_INT64_MAX : sum;
}

/* part_rows.c */
extern List *part_rows_replace(Posting *posting, PartsChange *change);
extern bool part_rows_changed(const Subscription *subscription,
							  const PartRow *row);

/* part_sums.c */
extern bool part_sums_update(Posting *posting, PartsChange *change,
							 const Period *period, TimestampTz ends_at,
							 PaidSums *sums);
extern const PaidPart *part_sums_first(Posting *posting, PartsChange *change,
									   TimestampTz ends_at);

/* period_claims.c */
extern int64 period_claims_unused(Posting *posting, const Period *period,
								  int64 enough);
extern void period_claims_waive(Posting *posting, Period *period);
extern void period_claims_free(Posting *posting, Period *period,
							   int64 amount);
extern void period_claims_lost(Posting *posting, Period *period,
							   int64 amount);
extern void period_claims_set(Posting *posting, Period *period, int64 total);
extern void period_claims_passed_on(Posting *posting,
									const Subscription *subscription,
									Period *period, bool owes);

/* part_periods.c */
extern void part_periods_plan(Posting *posting, PartsChange *change);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PART_PERIODS_H */
