/*
 * moments.h
 *	  Moments: which transactions had ended, and which ids they can have drawn.
 */
#ifndef CREDITS_TELL_MOMENTS_H
#define CREDITS_TELL_MOMENTS_H

#include "store/store.h"

#pragma GCC visibility push(hidden)

/*
 * A snapshot and, noted after it was taken, the last id of a table, that of
 * events or the log, and the next transaction id, in this order.
 *
 * A transaction that the moment does not see has begun by then or will begin: it
 * is in xip, or from xmax to before next_xid, or from next_xid on.  The last can
 * only draw ids above last_id, since they get their own ids before that.
 */
typedef struct FeedMoment
{
	uint64		xmin;			/* as in pg_snapshot */
	uint64		xmax;
	int			nxip;
	uint64	   *xip;			/* in order */
	uint64		next_xid;
	int64		last_id;
} FeedMoment;

extern FeedMoment *moments_take(StoreTable *table);
extern bool moments_sees(const FeedMoment *moment, uint64 xid);
extern bool moments_covers(const FeedMoment *later,
						   const FeedMoment *earlier);
extern bool moments_equal(const FeedMoment *a, const FeedMoment *b);
extern char *moments_snapshot(const FeedMoment *moment);
extern bool moments_parse_uint64(const char *s, int base, uint64 max,
								 uint64 *value);
extern bool moments_parse_snapshot(char *s, FeedMoment *moment);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_MOMENTS_H */
