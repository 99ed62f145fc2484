/*
 * feed.h
 *	  Reading the events that a consumer has not read.
 */
#ifndef CREDITS_TELL_FEED_H
#define CREDITS_TELL_FEED_H

#include "ledger/ledger.h"
#include "tell/positions.h"

#pragma GCC visibility push(hidden)

/* consumers that the extension itself adds and moves, and nobody else */
#define FEED_DELIVERIES "deliveries"
#define FEED_TOPUPS "topups"

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
extern void feed_begin(const char *reserved);
extern FeedPage *feed_take(const char *reserved, int max_rows);
extern void feed_taken(FeedPage *page, int n);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_FEED_H */
