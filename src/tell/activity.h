/*
 * activity.h
 *	  Rules for what is suspicious in the activity of accounts.
 */
#ifndef CREDITS_TELL_ACTIVITY_H
#define CREDITS_TELL_ACTIVITY_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern void activity_begin(void);
extern void activity_end(void);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_ACTIVITY_H */
