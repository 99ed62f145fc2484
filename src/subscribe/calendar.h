/*
 * calendar.h
 *	  The calendar of a subscription: when each period begins, and which period
 *	  an instant is in.
 */
#ifndef CREDITS_SUBSCRIBE_CALENDAR_H
#define CREDITS_SUBSCRIBE_CALENDAR_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

#define MAX_EVERY 1000			/* a period is so many days, weeks, ... at
								 * most */

/* what periods are counted in */
typedef enum CalendarUnit
{
	UNIT_UNKNOWN = -1,			/* someone has damaged it */
	UNIT_DAY,
	UNIT_WEEK,
	UNIT_MONTH,
	UNIT_YEAR
} CalendarUnit;

extern const char *const calendar_unit_names[UNIT_YEAR + 1];

extern bool calendar_knows(text *timezone, Refusal *refusal);
extern TimestampTz calendar_start(TimestampTz anchor, text *timezone,
								  CalendarUnit unit, int every, int64 n);
extern int64 calendar_number(TimestampTz anchor, text *timezone,
							 CalendarUnit unit, int every, TimestampTz at);
extern TimestampTz calendar_after(text *timezone, TimestampTz at,
								  Interval *span);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_CALENDAR_H */
