/*
 * preferences.h
 *	  Of which events people are told, by which channels, and when.
 */
#ifndef CREDITS_TELL_PREFERENCES_H
#define CREDITS_TELL_PREFERENCES_H

#include "base/channels.h"
#include "ledger/event_kinds.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

/* both use the active snapshot */
extern bool preferences_allow(int64 account_id, const char *kind,
							  Channel channel);
extern TimestampTz preferences_not_before(int64 account_id, const char *kind,
										  TimestampTz at);

extern bool preferences_switch(int64 account_id, const EventKind *kind,
							   Channel channel, bool enabled);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_PREFERENCES_H */
