/*
 * placeholders.h
 *	  Placeholders in templates: checked when a template is set, and filled when a
 *	  message is made.
 */
#ifndef CREDITS_TELL_PLACEHOLDERS_H
#define CREDITS_TELL_PLACEHOLDERS_H

#include "credits.h"
#include "utils/jsonb.h"

#pragma GCC visibility push(hidden)

/* Where a text goes, which determines what may be in it */
typedef enum TemplatePart
{
	PART_SUBJECT,
	PART_BODY,
	PART_HTML
} TemplatePart;

/* What a message is about */
typedef struct MessageFacts
{
	const char *kind;
	int64		event_id;
	TimestampTz created_at;
	const char *unsubscribe_token;	/* NULL if the kind has none */
	const Jsonb *detail;
} MessageFacts;

extern void placeholders_check(const char *kind, const Jsonb *example,
							   const char *text, const char *part);
extern char *placeholders_fill(const char *text, TemplatePart part,
							   const MessageFacts *facts);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_PLACEHOLDERS_H */
