/*
 * renew.h
 *	  Renewing subscriptions.
 */
#ifndef CREDITS_SUBSCRIBE_RENEW_H
#define CREDITS_SUBSCRIBE_RENEW_H

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

extern int64 renew_part_of(int64 credits, TimestampTz from,
						   TimestampTz until, TimestampTz start);
extern void renew_event(Posting *posting, const Subscription *subscription,
						const char *kind, const Period *period,
						int64 transaction_id);
extern Entry *renew_log(Posting *posting, const Subscription *subscription);
extern void renew_check_next_plan(Posting *posting,
								  Subscription *subscription);
extern void renew_end_grace(Posting *posting,
							const Subscription *subscription);
extern bool renew_account(Posting *posting, TimestampTz until, int *steps);
extern bool renew_due(Posting *posting, Subscription *subscription);
extern bool renew_now(Posting *posting, Subscription *subscription,
					  Period **given);
extern void renew_adjoin(Posting *posting, Subscription *subscription,
						 Period *period, bool again);
extern Entry *renew_end(Posting *posting, Subscription *subscription);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_RENEW_H */
