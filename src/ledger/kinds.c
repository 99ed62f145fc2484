/*
 * kinds.c
 *	  The kinds of transactions and their properties.
 */
#include "credits.h"

#include "ledger/kinds.h"

/* each kind, its name in the log, and its properties */
#define KINDS(KIND) \
	KIND(KIND_NONE, "") \
	KIND(KIND_OPENING, "opening") \
	KIND(KIND_ALLOCATION, "allocation") \
	KIND(KIND_ACTIVATION, "activation") \
	KIND(KIND_DEDUCTION, "deduction", .total = TOTAL_SPENT, .counts = true, \
		 .undone_by = KIND_REFUND) \
	KIND(KIND_REFUND, "refund", .total = TOTAL_REFUNDED, .gives = true, \
		 .uncounts = true) \
	KIND(KIND_EXPIRATION, "expiration", .total = TOTAL_EXPIRED, \
		 .loses = true) \
	KIND(KIND_ADJUSTMENT, "adjustment") \
	KIND(KIND_VOID, "void", .loses = true) \
	KIND(KIND_PAUSE, "pause") \
	KIND(KIND_RESUME, "resume") \
	KIND(KIND_CLOSE, "close") \
	KIND(KIND_ALERTS, "alerts") \
	KIND(KIND_HOLD, "hold", .counts = true, .undone_by = KIND_RELEASE) \
	/* does not count, since its hold has been counted */ \
	KIND(KIND_CAPTURE, "capture", .total = TOTAL_SPENT, .of_held = true, \
		 .undone_by = KIND_REFUND) \
	KIND(KIND_RELEASE, "release", .gives = true, .uncounts = true) \
	KIND(KIND_EXTENSION, "extension") \
	KIND(KIND_TRANSFER, "transfer", .counts = true, \
		 .undone_by = KIND_REVERSAL) \
	KIND(KIND_REVERSAL, "reversal", .gives = true, .uncounts = true) \
	KIND(KIND_GIFT, "gift", .counts = true, .undone_by = KIND_RELEASE) \
	KIND(KIND_REDEMPTION, "redemption") \
	KIND(KIND_REFERRAL, "referral") \
	KIND(KIND_LIMITS, "limits") \
	KIND(KIND_MEMBERSHIP, "membership") \
	KIND(KIND_SUBSCRIPTION, "subscription") \
	KIND(KIND_PLAN_CHANGE, "plan_change") \
	KIND(KIND_CLAWBACK, "clawback") \
	KIND(KIND_DEBT_PAYMENT, "debt_payment") \
	KIND(KIND_REINSTATEMENT, "reinstatement")

#define KIND_NAME(kind, name, ...) [kind] = name,
#define KIND_TRAITS(kind, name, ...) [kind] = {__VA_ARGS__},

const char *const transaction_kind_names[] = {KINDS(KIND_NAME)};
static const KindInfo kinds[] = {KINDS(KIND_TRAITS)};

/* an unknown kind has no properties */
static const KindInfo unknown;

/*
 * Returns the properties of a kind.
 */
const KindInfo *
kinds_info(TransactionKind kind)
{
	return kind == KIND_UNKNOWN ? &unknown : &kinds[kind];
}

/*
 * Returns the name of a kind.
 */
const char *
kinds_name(TransactionKind kind)
{
	return kind == KIND_UNKNOWN ? "unknown" : transaction_kind_names[kind];
}
