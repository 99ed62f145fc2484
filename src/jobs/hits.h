/*
 * hits.h
 *	  What a rule of credits.activity_rules finds suspicious.
 */
#ifndef CREDITS_JOBS_HITS_H
#define CREDITS_JOBS_HITS_H

#include "credits.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

extern bool hits_by_sums(int64 account_id, TimestampTz first, TimestampTz last,
						 TimestampTz known_from, TimestampTz since);
extern bool hits_by_refusals(int64 account_id, TimestampTz at, TimestampTz since);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_HITS_H */
