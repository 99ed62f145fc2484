/*
 * webhooks.h
 *	  Signatures of webhooks.
 */
#ifndef CREDITS_TELL_WEBHOOKS_H
#define CREDITS_TELL_WEBHOOKS_H

#include "credits.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

extern bool webhooks_has_secret(int64 contact_id, TimestampTz now);
extern Jsonb *webhooks_headers(int64 contact_id, TimestampTz now,
							   const char *message_id, char *body);
extern void webhooks_forget(int64 contact_id);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_WEBHOOKS_H */
