/*
 * limit_rules.h
 *	  Limits of accounts.
 */
#ifndef CREDITS_LEDGER_LIMIT_RULES_H
#define CREDITS_LEDGER_LIMIT_RULES_H

#include "ledger/members.h"

#pragma GCC visibility push(hidden)

/* A row of credits.limits; NO_LIMIT if the account has no such limit */
typedef struct Limits
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		account_id;
	int64		max_balance;
	Excess		excess;
	int64		min_spend;
	int64		max_spend;
	int64		max_spend_per_day;
	int64		max_spend_per_month;
	text	   *timezone;
	TimestampTz day_start;
	int64		day_used;
	TimestampTz month_start;
	int64		month_used;
} Limits;

/* What limits leave for a spend */
typedef struct SpendRoom
{
	int64		least;			/* that a single one must be */
	int64		most;			/* that it may be */
	int64		left;			/* of all, in the windows that count */
} SpendRoom;

extern StoreTable limits_table;
extern void limit_rules_read(Store *store, Snapshot snapshot,
							 int64 account_id, Limits *limits);
extern Limits *limit_rules_of(Posting *posting);
extern Jsonb *limit_rules_terms(const Limits *limits);
extern void limit_rules_change(Posting *posting, Limits *limits);
extern bool limit_rules_counts_as(Store *store, Snapshot snapshot,
								  const Entry *entry, Entry *spend);
extern void limit_rules_count(Store *store, Snapshot snapshot, int64 to,
							  Limits *limits);
extern void limit_rules_begin_windows(Posting *posting, Limits *limits);
extern SpendRoom limit_rules_room(Posting *posting);
extern int64 limit_rules_room_for(Posting *posting);
extern bool limit_rules_spend(Posting *posting, int64 amount, int64 whole);
extern bool limit_rules_receive(Posting *posting, int64 *amount, bool may_clip);
extern void limit_rules_give_back(Posting *posting, const Entry *spend,
								  int64 amount);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_LIMIT_RULES_H */
