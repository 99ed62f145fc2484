/*
 * log.h
 *	  Entries of a posting, and the triggers that write and protect the log.
 */
#ifndef CREDITS_LEDGER_LOG_H
#define CREDITS_LEDGER_LOG_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

extern Entry *log_add(Posting *posting, TransactionKind kind,
					  TimestampTz at, int64 amount, Draw *draws, int ndraws);
extern void log_add_loss(Posting *posting, TransactionKind kind,
						 TimestampTz at, Draw *lost, int64 target_id);
extern Entry *log_add_held(Posting *posting, TransactionKind kind,
						   TimestampTz at, int64 amount, int64 held,
						   Draw *draws, int ndraws);
extern void log_describe(Entry *entry, const Request *request);
extern void log_describe_part(Entry *entry, const Request *request);
extern void log_seal(Posting *posting);
extern void log_enter(Posting *posting);
extern void log_leave(Posting *posting);
extern void log_check_idle(int64 account_id);
extern bool log_may_grant(Posting *posting, int64 amount);
extern bool log_may_spend(Posting *posting, int64 amount);
NORETURN_COMPAT extern void log_raise_overflow(Posting *posting, int64 change);
extern bool log_add_totals(Account *account, const Entry *entry);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_LOG_H */
