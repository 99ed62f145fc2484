/*
 * requests.h
 *	  Requests: fingerprints that identify a request, and replaying it.
 */
#ifndef CREDITS_LEDGER_REQUESTS_H
#define CREDITS_LEDGER_REQUESTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern void requests_add_text(StringInfo f, text *value);
extern void requests_add_int64(StringInfo f, bool given, int64 value);
extern void requests_add_interval(StringInfo f, Interval *value);
extern Outcome requests_replay(Posting *posting, const Request *request,
							   const Entry *entry, Receipt *receipt);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_REQUESTS_H */
