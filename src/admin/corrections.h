/*
 * corrections.h
 *	  Corrections of many accounts: previews, and applying them.
 */
#ifndef CREDITS_ADMIN_CORRECTIONS_H
#define CREDITS_ADMIN_CORRECTIONS_H

#include "ledger/ledger.h"
#include "store/statements.h"

#pragma GCC visibility push(hidden)

typedef enum CorrectionStatus
{
	CORRECTION_UNKNOWN = -1,	/* somebody has modified the table */
	CORRECTION_PREVIEWED,
	CORRECTION_APPLYING,
	CORRECTION_REVERTING,
	CORRECTION_APPLIED,
	CORRECTION_REFUSED
} CorrectionStatus;

/* A row of credits.corrections.  Pointers are NULL where the column is. */
typedef struct Correction
{
	ItemPointerData tid;
	int64		id;
	int64		delta;
	int32		accounts;
	int32		accepted;
	TimestampTz previewed_at;
	TimestampTz expires_at;
	TimestampTz applied_at;		/* 0 if it was only previewed */
	TimestampTz ended_at;		/* 0 if it has not ended */
	Datum		balance_before;
	Datum		balance_after;
	text	   *token;
	CorrectionStatus status;
	int64		refused_id;		/* account, 0 if none was refused */
	const char *refusal;
	const char *role;
	const char *applied_role;
	text	   *reason;
	text	   *actor;
	text	   *applied_actor;
} Correction;

/* A row of credits.correction_items.  Pointers are NULL where the column is. */
typedef struct CorrectionItem
{
	ItemPointerData tid;
	int64		correction_id;
	int64		account_id;		/* 0 if there is no such account */
	int64		balance;
	int64		balance_after;
	int64		transaction_id; /* 0 if it was not posted */
	int64		reverted_id;	/* 0 if it was not reverted */
	int32		number;
	const char *code;			/* NULL if it is accepted */
	text	   *name;			/* NULL if there is such an account */
} CorrectionItem;

/* An item whose turn has come */
typedef struct CorrectionTurn
{
	const Correction *correction;
	CorrectionItem *item;
	bool		at_once;		/* are all corrected in one transaction? */
} CorrectionTurn;

extern StoreTable corrections_table;
extern StoreTable correction_items_table;
extern StoreIndex corrections_by_token;
extern StoreIndex corrections_by_id;
extern StoreIndex correction_items_by_number;

/* corrections.c */
extern void corrections_check(const Correction *correction);

/* turns.c */
extern bool turns_plan(Posting *posting, void *arg);

/* apply_corrections.c */
extern void apply_corrections_begin_sweep(void);
extern int64 apply_corrections_sweep(int limit, bool may_commit);

#pragma GCC visibility pop

#endif							/* CREDITS_ADMIN_CORRECTIONS_H */
