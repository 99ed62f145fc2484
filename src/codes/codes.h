/*
 * codes.h
 *	  Codes and their redemptions: what promotional codes, gifts and
 *	  referral codes have in common.
 */
#ifndef CREDITS_CODES_CODES_H
#define CREDITS_CODES_CODES_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

#define MAX_CODE_BYTES 64

typedef enum CodeKind
{
	CODE_UNKNOWN = -1,			/* somebody has modified the table */
	CODE_PROMOTIONAL,
	CODE_GIFT,
	CODE_REFERRAL
} CodeKind;

/* A row of credits.codes */
typedef struct Code
{
	ItemPointerData tid;
	int64		id;
	text	   *code;
	CodeKind	kind;
	int64		account_id;		/* giver or referrer, 0 if none */
	int64		transaction_id; /* the hold of a gift, 0 if none */
	int64		credits;
	int64		max_uses;		/* NO_LIMIT if unlimited */
	int64		uses;			/* counted only if max_uses is set */
	int32		per_account;
	TimestampTz active_from;	/* DT_NOBEGIN if immediately */
	TimestampTz active_until;	/* DT_NOEND if never */
	Interval   *expires_in;		/* NULL if never */
	Interval   *new_accounts_within;	/* NULL if for all accounts */
	bool		active;
	text	   *message;
	Jsonb	   *metadata;
	TimestampTz created_at;
} Code;

/* A row of credits.redemptions */
typedef struct Redeemed
{
	ItemPointerData tid;
	int64		transaction_id;
	int64		code_id;
	int64		account_id;
	TimestampTz created_at;
	CodeKind	kind;
} Redeemed;

/* A call of credits_redeem or credits_try_redeem */
typedef struct Redemption
{
	text	   *account;
	text	   *given;			/* the code, as it is looked up */
	bool		known;			/* does the code exist? */
	Code		code;
	PlanFunction plan;			/* by kind of code */
	bool		throttled;		/* refused because of earlier failures? */
	Request		request;
} Redemption;

/* codes.c */
extern StoreTable codes_table;
extern StoreTable redemptions_table;
extern StoreIndex codes_by_id;
extern StoreIndex codes_by_code;
extern StoreIndex codes_by_referrer;
extern StoreIndex redemptions_by_id;
extern text *codes_arg(FunctionCallInfo fcinfo, int n);
extern void codes_check(text *code, const char *name, int max_bytes);
extern text *codes_normalise(text *given);
extern text *codes_random(text *prefix);
extern void codes_lock_tables(const char *function);
extern bool codes_find(Store *store, Snapshot snapshot, text *given,
					   Code *code);
extern bool codes_find_gift(Store *store, Snapshot snapshot,
							int64 transaction_id, Code *code);
extern bool codes_find_referral(Store *store, Snapshot snapshot,
								int64 account_id, Code *code);
extern void codes_lock(Store *store, Snapshot snapshot, Code *code);
extern int64 codes_redeemed_by(Posting *posting, int64 code_id,
							   int64 account_id, int64 max);
extern int64 codes_uses(Posting *posting, int64 code_id, int64 max);
extern int64 codes_count_uses(Snapshot snapshot, int64 code_id);
extern bool codes_was_referred(Posting *posting);
extern void codes_use(Posting *posting, Code *code, Entry *entry);

/* promo_codes.c */
extern bool promo_codes_redeem(Posting *posting, void *arg);

/* gifts.c */
extern bool gifts_redeem(Posting *postings, void *arg);

/* referrals.c */
extern bool referrals_redeem(Posting *postings, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_CODES_CODES_H */
