/*
 * periods.h
 *	  Periods of subscriptions, and the credits that they give and roll over.
 */
#ifndef CREDITS_SUBSCRIBE_PERIODS_H
#define CREDITS_SUBSCRIBE_PERIODS_H

#include "ledger/ledger.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

typedef enum PeriodStatus
{
	PERIOD_UNKNOWN = -1,		/* someone has damaged it */
	PERIOD_GRANTED,
	PERIOD_SKIPPED,
	PERIOD_TRIAL
} PeriodStatus;

typedef struct Period
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	bool		known;			/* is it among those of its posting? */
	bool		refunded;		/* is what is lost of its grants claimed? */
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
	int64		again;			/* left of what was rolled over into it, -1
								 * until known */
	int64		rolled;			/* -1 until decided */
	int			nrolled;
	int64	   *rolled_grant_ids;
	int64		grace_grant_id; /* 0 if none */
	int64		grace_spent;	/* what was counted of it, -1 if nothing yet */
	int64		transaction_id; /* 0 if none */
	int64		grant_id;		/* the first one of its group of grants, 0 if
								 * none */
	int64		withdrawn;		/* of its grants by changes of plan */
	Datum		price;			/* numeric, sum over its grants, 0 if none has
								 * one */
	text	   *currency;		/* NULL unless all of them have it */
	int64		claimed;		/* from its grants */

	/* what it entitles to after the changes of plan so far, see proration.c */
	TimestampTz changed_at;		/* the last one that is counted, DT_NOBEGIN if
								 * none is */
	Datum		earned;			/* numeric */
	int64		earning;
	TimestampTz earning_since;

	/* where credits follow what was paid, see paid_parts.c */
	int64		paid;			/* sums over its parts: PaidSums.positive */
	int64		credited;
	int64		reversed;
	int64		granted;		/* in all, -1 if credits do not follow */
	int64		taken;			/* of it */
	int64		carried;		/* to the next period, to be taken there */
	int64		late;			/* of its grants that expire at another time */
} Period;

extern StoreTable periods_table;
extern StoreIndex periods_by_start;
extern StoreIndex periods_paid_by_end;

/* periods.c: outside of postings */
extern bool periods_read(Snapshot snapshot, int64 subscription_id,
						 TimestampTz starts_at, Period *period);
extern bool periods_read_paid(Snapshot snapshot, int64 subscription_id,
							  TimestampTz ends_at, Period *period);

/* in a posting */
extern Period *periods_in(Posting *posting, int64 subscription_id,
						  TimestampTz starts_at);
extern Period *periods_before(Posting *posting, int64 subscription_id,
							  TimestampTz at);
extern Period *periods_paid(Posting *posting, int64 subscription_id,
							TimestampTz ends_at);
extern Period *periods_paid_beside(Posting *posting, int64 subscription_id,
								   TimestampTz ends_at, bool after);
extern void periods_changed(Posting *posting, Period *period);
extern void periods_forget_changes(Posting *posting, Period *period);
extern Period *periods_new(const Subscription *subscription, int64 number,
						   TimestampTz starts_at, TimestampTz ends_at,
						   int64 plan_id);
extern void periods_keep(Posting *posting, Period *period);
extern Entry *periods_give_grant(Posting *posting, const Period *period,
								 const PlanTerms *plan, const char *source,
								 int64 amount, Datum price,
								 TimestampTz effective_at,
								 TimestampTz expires_at, const char *as,
								 Grant **made);
extern void periods_add_price(Period *period, const Grant *grant, bool first);
extern void periods_add_grant(Period *period, const Entry *entry,
							  Grant *grant, int64 amount);
extern Entry *periods_give(Posting *posting, Period *period,
						   const PlanTerms *plan, int64 amount, Datum price);
extern void periods_void(Posting *posting, Grant *grant, int64 amount,
						 Jsonb *terms);
extern void periods_take_back(Posting *posting,
							  const Subscription *subscription);

/* rollover.c */
extern int64 rollover_available(Posting *posting, Period *period,
								const PlanTerms *rule);
extern int64 rollover_excess(Posting *posting,
							 const Subscription *subscription,
							 const Period *period);
extern int64 rollover_unused(Posting *posting, const Period *period);
extern void rollover_period(Posting *posting,
							const Subscription *subscription, Period *period,
							Period *into, const PlanTerms *rule,
							const PlanTerms *plan, int64 room);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PERIODS_H */
