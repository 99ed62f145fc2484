/*
 * kinds.h
 *	  The kinds of transactions.
 */
#ifndef CREDITS_LEDGER_KINDS_H
#define CREDITS_LEDGER_KINDS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

typedef enum TransactionKind
{
	KIND_UNKNOWN = -1,			/* somebody has modified the table */
	KIND_NONE,
	KIND_OPENING,
	KIND_ALLOCATION,
	KIND_ACTIVATION,
	KIND_DEDUCTION,
	KIND_REFUND,
	KIND_EXPIRATION,
	KIND_ADJUSTMENT,
	KIND_VOID,
	KIND_PAUSE,
	KIND_RESUME,
	KIND_CLOSE,
	KIND_ALERTS,
	KIND_HOLD,
	KIND_CAPTURE,
	KIND_RELEASE,
	KIND_EXTENSION,
	KIND_TRANSFER,
	KIND_REVERSAL,
	KIND_GIFT,
	KIND_REDEMPTION,
	KIND_REFERRAL,
	KIND_LIMITS,
	KIND_MEMBERSHIP,
	KIND_SUBSCRIPTION,
	KIND_PLAN_CHANGE,
	KIND_CLAWBACK,
	KIND_DEBT_PAYMENT,
	KIND_REINSTATEMENT,
	KIND_ERASURE,
	KIND_TOPUP_RULE
} TransactionKind;

/* The lifetime totals of an account, except "granted" */
typedef enum LifetimeTotal
{
	TOTAL_NONE,
	TOTAL_SPENT,
	TOTAL_REFUNDED,
	TOTAL_EXPIRED
} LifetimeTotal;

/*
 * Properties of a kind
 */
typedef struct KindInfo
{
	LifetimeTotal total;		/* the total to which it is added */
	bool		of_held;		/* does it take credits from "held" instead of
								 * the balance? */
	bool		gives;			/* does it give credits to the account? */
	bool		counts;			/* does it count against limits and caps? */
	bool		uncounts;		/* is it subtracted from what has counted? */
	bool		loses;			/* does it take credits that were never used? */
	TransactionKind undone_by;	/* kind that gives back what it took, if any */
} KindInfo;

/* the codes that the log has, by kind; KIND_UNKNOWN has none */
extern const char transaction_kind_codes[KIND_TOPUP_RULE + 1];

extern const KindInfo *kinds_info(TransactionKind kind);
extern const char *kinds_name(TransactionKind kind);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_KINDS_H */
