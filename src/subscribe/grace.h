/*
 * grace.h
 *	  Grace: what a period has left lives on while the next one is not paid.
 */
#ifndef CREDITS_SUBSCRIBE_GRACE_H
#define CREDITS_SUBSCRIBE_GRACE_H

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

extern bool grace_applies(const Posting *posting,
						  const Subscription *subscription,
						  const Period *period, const PlanTerms *rule,
						  TimestampTz *until);
extern void grace_give(Posting *posting, Period *period, const PlanTerms *rule,
					   TimestampTz until);
extern void grace_end(Posting *posting, const Period *period);
extern void grace_count(Posting *posting, Period *period, Period *into);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_GRACE_H */
