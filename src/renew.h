/*
 * renew.h
 *	  What renew.c offers to the other files of subscriptions.
 */
#ifndef CREDITS_RENEW_H
#define CREDITS_RENEW_H

#include "credits.h"
#include "periods.h"
#include "subscriptions.h"

#pragma GCC visibility push(hidden)

/* of one account, written at once */
#define MAX_PERIODS 500

extern void renew_event(Posting *posting, const Subscription *subscription,
						const char *kind, const Period *period,
						int64 transaction_id);
extern Entry *renew_log(Posting *posting, const Subscription *subscription);
extern bool renew_due(Posting *posting, Subscription *subscription);
extern bool renew_now(Posting *posting, Subscription *subscription,
					  Period **given);
extern Period *renew_give(Posting *posting, Subscription *subscription,
						  int64 number, TimestampTz starts_at,
						  TimestampTz ends_at, bool trial, int64 plan_id,
						  TimestampTz whole_from);
extern Entry *renew_end(Posting *posting, Subscription *subscription);

#pragma GCC visibility pop

#endif							/* CREDITS_RENEW_H */
