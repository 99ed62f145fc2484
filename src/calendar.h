/*
 * calendar.h
 *	  The periods of a subscription: when each begins, and which one an instant
 *	  is in.
 */
#ifndef CREDITS_CALENDAR_H
#define CREDITS_CALENDAR_H

#include "credits.h"

#pragma GCC visibility push(hidden)

#define MAX_EVERY 1000			/* a period is so many days, weeks, ... at most */

extern bool calendar_is_period(const char *period);
extern TimestampTz calendar_start(TimestampTz anchor, text *timezone,
								  const char *period, int every, int64 n);
extern int64 calendar_number(TimestampTz anchor, text *timezone,
							 const char *period, int every, TimestampTz at);

extern TimestampTz calendar_after(text *timezone, TimestampTz at,
								  Interval *span);

#pragma GCC visibility pop

#endif							/* CREDITS_CALENDAR_H */
