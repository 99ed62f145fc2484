/*
 * quiet_hours.h
 *	  Hours of the day in which people are told of critical events only.
 */
#ifndef CREDITS_TELL_QUIET_HOURS_H
#define CREDITS_TELL_QUIET_HOURS_H

#include "credits.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

extern TimestampTz quiet_hours_end(int64 account_id, TimestampTz at);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_QUIET_HOURS_H */
