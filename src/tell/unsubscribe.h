/*
 * unsubscribe.h
 *	  Tokens with which mail about a kind of events can be ended.
 */
#ifndef CREDITS_TELL_UNSUBSCRIBE_H
#define CREDITS_TELL_UNSUBSCRIBE_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* NULL for a kind that cannot be switched off */
extern char *unsubscribe_token(int64 account_id, const char *kind);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_UNSUBSCRIBE_H */
