/*
 * tokens.h
 *	  Tokens, by which consumers of the feed acknowledge what they have read.
 */
#ifndef CREDITS_TELL_TOKENS_H
#define CREDITS_TELL_TOKENS_H

#include "tell/feed.h"

#pragma GCC visibility push(hidden)

/* What a token says: the batch was read up to an id, or the whole of it */
typedef struct FeedToken
{
	int64		origin;			/* of the position, see positions.h */
	int64		timeline;		/* of the write-ahead log */
	int64		version;		/* of the position */
	FeedMoment *batch;
	int64		read_id;
	bool		whole;
} FeedToken;

extern char *tokens_show(const FeedPage *page, int64 read_id, bool whole);
extern void tokens_read(FunctionCallInfo fcinfo, int n, FeedToken *token);
extern bool tokens_are_next(const FeedToken *token,
							const FeedPosition *position);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_TOKENS_H */
