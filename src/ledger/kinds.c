/*
 * kinds.c
 *	  The kinds of transactions and their properties.
 */
#include "credits.h"

#include "ledger/kinds.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_kind_name);

/* each kind, its code in the log, its name, and its properties */
#define KINDS(KIND) \
	KIND(KIND_NONE, '\0', "") \
	KIND(KIND_OPENING, 'o', "opening") \
	KIND(KIND_ALLOCATION, 'a', "allocation") \
	KIND(KIND_ACTIVATION, 'A', "activation") \
	KIND(KIND_DEDUCTION, 'd', "deduction", .total = TOTAL_SPENT, .counts = true, \
		 .undone_by = KIND_REFUND) \
	KIND(KIND_REFUND, 'r', "refund", .total = TOTAL_REFUNDED, .gives = true, \
		 .uncounts = true) \
	KIND(KIND_EXPIRATION, 'e', "expiration", .total = TOTAL_EXPIRED, \
		 .loses = true) \
	KIND(KIND_ADJUSTMENT, 'j', "adjustment") \
	KIND(KIND_VOID, 'v', "void", .loses = true) \
	KIND(KIND_PAUSE, 'p', "pause") \
	KIND(KIND_RESUME, 'u', "resume") \
	KIND(KIND_CLOSE, 'c', "close") \
	KIND(KIND_ALERTS, 't', "alerts") \
	KIND(KIND_HOLD, 'h', "hold", .counts = true, .undone_by = KIND_RELEASE) \
	/* does not count, since its hold has been counted */ \
	KIND(KIND_CAPTURE, 'C', "capture", .total = TOTAL_SPENT, .of_held = true, \
		 .undone_by = KIND_REFUND) \
	KIND(KIND_RELEASE, 'l', "release", .gives = true, .uncounts = true) \
	KIND(KIND_EXTENSION, 'x', "extension") \
	KIND(KIND_TRANSFER, 'T', "transfer", .counts = true, \
		 .undone_by = KIND_REVERSAL) \
	KIND(KIND_REVERSAL, 'R', "reversal", .gives = true, .uncounts = true) \
	KIND(KIND_GIFT, 'g', "gift", .counts = true, .undone_by = KIND_RELEASE) \
	KIND(KIND_REDEMPTION, 'D', "redemption") \
	KIND(KIND_REFERRAL, 'f', "referral") \
	KIND(KIND_LIMITS, 'L', "limits") \
	KIND(KIND_MEMBERSHIP, 'm', "membership") \
	KIND(KIND_SUBSCRIPTION, 's', "subscription") \
	KIND(KIND_PLAN_CHANGE, 'P', "plan_change") \
	KIND(KIND_CLAWBACK, 'w', "clawback") \
	KIND(KIND_DEBT_PAYMENT, 'y', "debt_payment") \
	KIND(KIND_REINSTATEMENT, 'i', "reinstatement") \
	KIND(KIND_ERASURE, 'E', "erasure") \
	KIND(KIND_TOPUP_RULE, 'U', "topup_rule")

#define KIND_CODE(kind, code, ...) [kind] = code,
#define KIND_NAME(kind, code, name, ...) [kind] = name,
#define KIND_TRAITS(kind, code, name, ...) [kind] = {__VA_ARGS__},

const char	transaction_kind_codes[] = {KINDS(KIND_CODE)};
static const char *const names[] = {KINDS(KIND_NAME)};
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
	return kind == KIND_UNKNOWN ? "unknown" : names[kind];
}

/*
 * SQL function: returns the name of the kind that has a code in the log.
 */
Datum
credits_kind_name(PG_FUNCTION_ARGS)
{
	char		code = PG_GETARG_CHAR(0);
	int			i;

	for (i = KIND_NONE + 1; i < (int) lengthof(names); i++)
		if (transaction_kind_codes[i] == code)
			PG_RETURN_TEXT_P(cstring_to_text(names[i]));
	PG_RETURN_TEXT_P(cstring_to_text(kinds_name(KIND_UNKNOWN)));
}
