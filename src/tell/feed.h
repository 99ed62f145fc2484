/*
 * feed.h
 *	  Reading the events that a consumer has not read.
 */
#ifndef CREDITS_TELL_FEED_H
#define CREDITS_TELL_FEED_H

#include "ledger/ledger.h"
#include "tell/positions.h"

#pragma GCC visibility push(hidden)

/* the consumer that makes deliveries, which is moved by nobody else */
#define FEED_RESERVED_CONSUMER "deliveries"

/* The next events of a consumer, which are part of a batch */
typedef struct FeedPage
{
	FeedPosition *position;
	FeedMoment *batch;
	int			nevents;
	Event	   *events;
	bool		last;			/* does the batch end with them? */
} FeedPage;

extern FeedPage *feed_read(FeedPosition *position, int max_rows);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_FEED_H */
