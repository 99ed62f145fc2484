/*
 * render.h
 *	  Messages, made of events by templates.
 */
#ifndef CREDITS_TELL_RENDER_H
#define CREDITS_TELL_RENDER_H

#include "base/channels.h"
#include "tell/placeholders.h"

#pragma GCC visibility push(hidden)

/* A version of a template, or the default of a kind */
typedef struct Template
{
	int64		id;				/* 0 if it came with the extension */
	char	   *subject;
	char	   *body;
	char	   *html;			/* NULL if it has none */
} Template;

/* A message; strings are NULL if the channel has no such part */
typedef struct RenderedMessage
{
	char	   *subject;
	char	   *body;
	char	   *html;
} RenderedMessage;

/* Templates that were used a short while ago */
typedef struct TemplateCache TemplateCache;

extern TemplateCache *render_make_cache(void);
extern Jsonb *render_example(const char *kind);
extern void render_choose(const char *kind, Channel channel,
						  const char *locale, Template *template);
extern const Template *render_find(TemplateCache *cache, int64 id,
								   const char *kind, Channel channel,
								   const char *locale);
extern void render_message(const Template *template, Channel channel,
						   const MessageFacts *facts,
						   RenderedMessage *message);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_RENDER_H */
