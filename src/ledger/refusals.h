/*
 * refusals.h
 *	  Events that count refused calls.
 */
#ifndef CREDITS_LEDGER_REFUSALS_H
#define CREDITS_LEDGER_REFUSALS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

extern int64 refusals_record(const char *kind, text *name,
							 const Refusal *refusal, JsonObject *members,
							 int64 *account_id);
extern bool refusals_find(Store *store, Snapshot snapshot, int64 account_id,
						  const char *kind, Event *event);
extern int64 refusals_count(const Event *event);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_REFUSALS_H */
