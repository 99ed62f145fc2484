/*
 * templates.h
 *	  What people are told of events.
 */
#ifndef CREDITS_TELL_TEMPLATES_H
#define CREDITS_TELL_TEMPLATES_H

#include "base/channels.h"
#include "utils/jsonb.h"

#pragma GCC visibility push(hidden)

/* A message; strings are NULL if the channel has no such part */
typedef struct RenderedMessage
{
	int64		template_id;	/* 0 if it came with the extension */
	char	   *subject;
	char	   *body;
	char	   *html;
} RenderedMessage;

/*
 * Renders an event; locale may be NULL, and so may "more", an object whose members
 * come before those of the detail: event_id, created_at and unsubscribe_token.
 */
extern void templates_render(const char *kind, Channel channel,
							 const char *locale, const Jsonb *detail,
							 const Jsonb *more, RenderedMessage *message);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_TEMPLATES_H */
