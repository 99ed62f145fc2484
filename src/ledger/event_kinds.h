/*
 * event_kinds.h
 *	  The kinds of events.
 */
#ifndef CREDITS_LEDGER_EVENT_KINDS_H
#define CREDITS_LEDGER_EVENT_KINDS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* A row of credits.event_kinds */
typedef struct EventKind
{
	char		name[NAMEDATALEN];
	bool		told;			/* are people told of it by default? */
	bool		required;		/* may it not be switched off? */
	bool		critical;		/* does it pass quiet hours? */
} EventKind;

extern const EventKind *event_kinds_find(const char *name);
extern const EventKind *event_kinds_arg(FunctionCallInfo fcinfo, int n);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_EVENT_KINDS_H */
