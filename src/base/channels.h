/*
 * channels.h
 *	  Channels by which people are told of events, and the settings about them.
 */
#ifndef CREDITS_BASE_CHANNELS_H
#define CREDITS_BASE_CHANNELS_H

#include "credits.h"
#include "utils/guc.h"

#pragma GCC visibility push(hidden)

typedef enum Channel
{
	CHANNEL_UNKNOWN = -1,		/* somebody has modified the table */
	CHANNEL_EMAIL,
	CHANNEL_SMS,
	CHANNEL_PUSH,
	CHANNEL_WEBHOOK,
	CHANNEL_INBOX
} Channel;

extern const char *const channel_names[CHANNEL_INBOX + 1];

extern bool channels_default(const char *kind, bool told, Channel channel);
extern bool channels_reach_unverified(Channel channel);
extern bool channels_check_default(char **newval, void **extra,
								   GucSource source);
extern void channels_assign_default(const char *newval, void *extra);
extern bool channels_check_unverified(char **newval, void **extra,
									  GucSource source);
extern void channels_assign_unverified(const char *newval, void *extra);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_CHANNELS_H */
