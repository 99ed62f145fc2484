/*
 * codes.h
 *	  Codes that can be redeemed, and who has: what promotional codes, gifts and
 *	  referrals share.
 */
#ifndef CREDITS_CODES_H
#define CREDITS_CODES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

#define MAX_CODE_BYTES 64

typedef enum CodeKind
{
	CODE_UNKNOWN = -1,			/* someone has damaged it */
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
	int64		account_id;		/* who gives or refers, 0 if nobody */
	int64		transaction_id; /* the hold of a gift, 0 if none */
	int64		credits;
	int64		max_uses;		/* NO_LIMIT if none */
	int64		uses;			/* counted only where max_uses is given */
	int32		per_account;
	TimestampTz starts_at;		/* DT_NOBEGIN if at once */
	TimestampTz expires_at;		/* DT_NOEND if never */
	Interval   *credits_expire_in;	/* NULL if never */
	Interval   *new_accounts_within;	/* NULL if for all */
	bool		active;
	text	   *message;
	Jsonb	   *metadata;
	TimestampTz created_at;
} Code;

/* A row of credits.redemptions */
typedef struct Redeemed
{
	int64		transaction_id;
	int64		code_id;
	int64		account_id;
	TimestampTz created_at;
	CodeKind	kind;
} Redeemed;

/* A call that redeems a code */
typedef struct Redemption
{
	text	   *account;
	text	   *given;			/* the code, as it is looked up */
	bool		known;			/* is there such a code? */
	Code		code;
	PlanChange	plan;			/* by kind of code */
	bool		throttled;		/* was it refused for earlier failures? */
	Request		request;
} Redemption;

/* codes.c */
extern StoreTable codes_table;
extern StoreTable redemptions_table;
extern StoreIndex codes_by_id;
extern StoreIndex codes_by_code;
extern StoreIndex codes_by_referrer;
extern StoreIndex redemptions_by_id;
extern text *arg_code(FunctionCallInfo fcinfo, int n);
extern void check_code(text *code, const char *name, int max_bytes);
extern text *codes_normalise(text *given);
extern text *codes_random(text *prefix);
extern void codes_lock_tables(const char *function);
extern void codes_read(TupleTableSlot *slot, Code *code);
extern bool codes_find(Store *store, Snapshot snapshot, text *given,
					   Code *code);
extern bool codes_find_gift(Store *store, Snapshot snapshot,
							int64 transaction_id, Code *code);
extern bool codes_find_referral(Store *store, Snapshot snapshot,
								int64 account_id, Code *code);
extern void codes_lock(Store *store, Snapshot snapshot, Code *code);
extern void codes_insert(Store *store, const Code *code);
extern bool codes_insert_unless(Store *store, StoreIndex *unique,
								const Code *code);
extern TM_Result codes_update(Store *store, Snapshot snapshot, Code *code);
extern int64 codes_redeemed_by(Posting *posting, int64 code_id,
							   int64 account_id, int64 max);
extern int64 codes_uses(Posting *posting, int64 code_id, int64 max);
extern int64 codes_count_uses(Snapshot snapshot, int64 code_id);
extern void codes_read_redeemed(TupleTableSlot *slot, Redeemed *redeemed);
extern bool codes_was_referred(Posting *posting);
extern void codes_use(Posting *posting, Code *code, Entry *entry);

/* promo_codes.c */
extern bool promo_codes_redeem(Posting *posting, void *arg);

/* gifts.c */
extern bool gifts_redeem(Posting *postings, void *arg);

/* referrals.c */
extern bool referrals_redeem(Posting *postings, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_CODES_H */
