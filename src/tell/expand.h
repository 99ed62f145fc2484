/*
 * expand.h
 *	  Making deliveries from events.
 */
#ifndef CREDITS_TELL_EXPAND_H
#define CREDITS_TELL_EXPAND_H

#include "tell/deliveries.h"

#pragma GCC visibility push(hidden)

extern char *expand_message_id(const Event *event, int64 contact_id);
extern void expand_events(Store *store);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_EXPAND_H */
