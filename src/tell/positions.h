/*
 * positions.h
 *	  How far the consumers of the feed have come.
 */
#ifndef CREDITS_TELL_POSITIONS_H
#define CREDITS_TELL_POSITIONS_H

#include "tell/moments.h"

#pragma GCC visibility push(hidden)

/*
 * The position of a consumer: what "done" sees has been read, and of what "batch"
 * sees besides the events up to read_id.
 */
typedef struct FeedPosition
{
	text	   *consumer;
	int64		safe_id;		/* everything up to this id has been read, and
								 * nothing will come any more */
	int64		origin;			/* tells tokens from those of others */
	int64		version;		/* number of whole batches */
	FeedMoment *done;			/* NULL if it begins after safe_id */
	FeedMoment *batch;			/* NULL if none is being acknowledged */
	int64		read_id;
	FeedMoment *mark;			/* a moment for the next safe_id, of which
								 * next_xid and last_id are kept; or NULL */
} FeedPosition;

extern FeedPosition *positions_find(text *consumer);
extern FeedPosition *positions_lock(text *consumer, bool skip_locked);
extern bool positions_add(text *consumer, int64 after_id);
extern bool positions_remove(text *consumer);
extern void positions_finish_batch(FeedPosition *position);
extern void positions_advance(FeedPosition *position, FeedMoment *batch,
							  int64 read_id, bool whole);
NORETURN_COMPAT extern void positions_raise_unknown(text *consumer);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_POSITIONS_H */
