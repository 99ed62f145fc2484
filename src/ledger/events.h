/*
 * events.h
 *	  Events and their notifications.
 */
#ifndef CREDITS_LEDGER_EVENTS_H
#define CREDITS_LEDGER_EVENTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern int64 events_add(const char *kind, int64 account_id,
						int64 transaction_id, TimestampTz at,
						Jsonb *detail);
extern bool events_has_failure(int64 account_id, const char *kind,
							   const Jsonb *detail, TimestampTz since);
extern int64 events_announce(const char *kind, int64 account_id,
							 int64 transaction_id, TimestampTz at,
							 JsonObject *members);
extern void events_announce_with(Posting *posting, const char *kind,
								 int64 transaction_id, JsonObject *detail);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_EVENTS_H */
