/*
 * period_refunds.h
 *	  Money that was paid back for periods of subscriptions.
 */
#ifndef CREDITS_SUBSCRIBE_PERIOD_REFUNDS_H
#define CREDITS_SUBSCRIBE_PERIOD_REFUNDS_H

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/subscriptions.h"

#pragma GCC visibility push(hidden)

/*
 * A change of what a period gives is to be made as if nothing had been paid back
 * yet: release is called before it, and claim, if that returned true, after it.
 */
extern bool period_refunds_release(Posting *posting,
								   const Subscription *subscription,
								   Period *period);
extern void period_refunds_claim(Posting *posting,
								 const Subscription *subscription,
								 Period *period);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_PERIOD_REFUNDS_H */
