/*
 * hold.h
 *	  Holds of a posting.
 */
#ifndef CREDITS_LEDGER_HOLD_H
#define CREDITS_LEDGER_HOLD_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

typedef enum HoldStatus
{
	HOLD_UNKNOWN = -1,			/* somebody has modified the table */
	HOLD_OPEN,
	HOLD_CAPTURED,
	HOLD_RELEASED,
	HOLD_EXPIRED
} HoldStatus;

/*
 * A row of credits.hold_states: reserved credits, which have been drawn from
 * grants, but not spent.
 */
typedef struct Hold
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		id;				/* of the transaction that made it */
	int64		account_id;
	TimestampTz created_at;
	TimestampTz expires_at;		/* DT_NOEND if never */
	int64		reserved;
	int64		captured;
	int64		released;
	HoldStatus	status;
	struct Entry *entry;		/* its transaction, NULL until needed */
	bool		enlarged;		/* by hold_enlarge, in this posting? */
} Hold;

extern const char *const hold_status_names[];
extern StoreTable holds_table;
extern StoreIndex holds_by_id;
extern StoreIndex holds_by_expires_at;
extern bool hold_find(Store *store, Snapshot snapshot, int64 id,
					  Hold *hold);
extern Hold *hold_new(Posting *posting, int64 amount,
					  TimestampTz expires_at, Entry **entry);
extern Hold *hold_get(Posting *posting, int64 id);
extern int64 hold_left(const Hold *hold);
extern Entry *hold_capture(Posting *posting, Hold *hold, TransactionKind kind,
						   int64 amount);
extern Entry *hold_release(Posting *posting, Hold *hold, TimestampTz at,
						   HoldStatus status, const Entry *main);
extern Entry *hold_extend(Posting *posting, Hold *hold,
						  TimestampTz expires_at);
extern Entry *hold_enlarge(Posting *posting, Hold *hold, int64 amount);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_HOLD_H */
