/*
 * anchors.h
 *	  Anchors: the state of accounts where the books were closed.
 */
#ifndef CREDITS_LEDGER_ANCHORS_H
#define CREDITS_LEDGER_ANCHORS_H

#include "base/errors.h"
#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

/* A row of credits.anchors */
typedef struct Anchor
{
	ItemPointerData tid;
	int64		account_id;
	int64		transaction_id;
	int64		until_id;		/* the closing */
	int64		transaction_count;
	TimestampTz created_at;
	AccountStatus status;
	int64		balance;
	int64		held;
	int64		debt;
	int64		granted;		/* by grants that were archived */
	int64		spent;
	int64		refunded;
	int64		expired;
	int64		opening_id;
	int64		opening_amount;
	Jsonb	   *limits;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
} Anchor;

typedef enum AnchorPartKind
{
	PART_UNKNOWN = -1,			/* somebody has modified the table */
	PART_GRANT,
	PART_HOLD,
	PART_DEBT,
	PART_MEMBER,
	PART_USE
} AnchorPartKind;

/* A row of credits.anchor_parts */
typedef struct AnchorPart
{
	ItemPointerData tid;
	int64		account_id;
	int64		transaction_id;
	int32		number;
	AnchorPartKind kind;
	int64		id;
	Jsonb	   *state;
} AnchorPart;

/* A row of credits.carried_rows */
typedef struct CarriedRow
{
	ItemPointerData tid;
	int64		id;
	int64		until_id;
	int			previous_len;	/* 0 if it is the account's first row */
	uint8		previous[PG_SHA256_DIGEST_LENGTH];
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
} CarriedRow;

/* A row of credits.archives */
typedef struct Closing
{
	ItemPointerData tid;
	int64		until_id;
	int64		from_id;		/* until_id of the closing before it */
	TimestampTz before;
	TimestampTz begun_at;
	int64		done_account_id;
	bool		ended;
	TimestampTz ended_at;
} Closing;

/* what the name of a partition of the log begins with that has copies of rows */
#define COPIES_TABLE "log_carried_"

extern StoreTable anchors_table;
extern StoreTable anchor_parts_table;
extern StoreTable carried_rows_table;
extern StoreIndex anchor_parts_by_anchor;
extern StoreIndex carried_rows_by_id;
extern bool anchors_find(Snapshot snapshot, int64 account_id, Anchor *anchor);
extern bool anchors_find_left(Snapshot snapshot, int64 account_id,
							  Anchor *anchor);
extern bool anchors_find_before(Snapshot snapshot, int64 account_id, int64 id,
								Anchor *anchor);
extern bool anchors_find_carried(Snapshot snapshot, int64 id,
								 CarriedRow *carried);
extern bool anchors_last_closing(Snapshot snapshot, Closing *closing);
extern bool anchors_lock_closing(Closing *closing);
extern char *anchors_copies_table(int64 until_id);
extern int64 anchors_left_until(Snapshot snapshot);
extern bool anchors_refuse_archived(int64 id, Refusal *refusal);
extern void anchors_check(int64 id);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_ANCHORS_H */
