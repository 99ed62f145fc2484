/*
 * codes.c
 *	  credits_verify: codes and redemptions.
 *
 * Checks that there is a redemption for each transaction that redeems a code,
 * and for no other, so that no code can be redeemed again.  The terms of a
 * promotional code are only in its row: the log does not have them.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"
#include "verify/verify.h"

#include "utils/snapmgr.h"

/*
 * Returns the id of the code in the terms of a transaction, 0 if there is none.
 */
static int64
code_of(const Entry *entry)
{
	int64		id = 0;

	(void) terms_int64(entry, "code_id", &id);
	return id;
}

/*
 * Returns the kind of code that a transaction redeems, or CODE_UNKNOWN if it
 * does not redeem one.
 */
static CodeKind
redeemed_kind(const Entry *entry)
{
	if (entry->kind == KIND_REDEMPTION)
		return CODE_PROMOTIONAL;
	/* the referee redeems the code; the referrer's transaction has a target */
	if (entry->kind == KIND_REFERRAL && !entry->has_target)
		return CODE_REFERRAL;
	if (entry->kind == KIND_GIFT && entry->amount > 0 &&
		code_of(entry) != 0)
		return CODE_GIFT;
	return CODE_UNKNOWN;
}

/*
 * Returns whether a transaction creates a gift with a code.
 */
static bool
creates_gift(const Entry *entry)
{
	return entry->kind == KIND_GIFT && entry->held > 0;
}

/*
 * Finds a code by id.  Returns false if it does not exist or is of another
 * kind.
 */
static bool
find_code(int64 id, CodeKind kind, Code *code)
{
	return scan_find(NULL, &codes_by_id, GetActiveSnapshot(), code,
					 BY_INT64(id)) && code->kind == kind;
}

/*
 * Checks that a transaction that creates a gift has a code, and that one that
 * redeems a code has a redemption.
 */
void
verify_code(Verification *v, const Entry *entry)
{
	CodeKind	kind = redeemed_kind(entry);
	int64		code_id;
	Redeemed	redeemed;
	Code		code;

	if (kind == CODE_UNKNOWN && !creates_gift(entry))
		return;
	code_id = code_of(entry);
	if (kind == CODE_UNKNOWN)
	{
		if (!find_code(code_id, CODE_GIFT, &code) ||
			code.transaction_id != entry->id)
			verify_report(v, entry->id, "codes",
						  "the row of the gift's code is missing");
		else if (code.account_id != entry->account_id ||
				 code.credits != entry->held)
			verify_report(v, entry->id, "codes",
						  "giver or credits of the gift's code are not those of the gift");
		return;
	}
	if (!scan_find(NULL, &redemptions_by_id, GetActiveSnapshot(), &redeemed,
				   BY_INT64(entry->id)))
		verify_report(v, entry->id, "codes",
					  "redeems a code, but is not among its redemptions");
	else if (redeemed.code_id != code_id || redeemed.kind != kind ||
			 redeemed.account_id != entry->account_id ||
			 redeemed.created_at != entry->created_at)
		verify_report(v, entry->id, "codes",
					  "redeems a code, but its redemption is another one");
	if (!find_code(code_id, kind, &code))
		verify_report(v, entry->id, "codes",
					  psprintf("code " INT64_FORMAT ", which it redeems, is missing or of another kind",
							   code_id));
}

/*
 * Reports a redemption that does not belong to a transaction.
 */
static void
check_redeemed(Verification *v, TupleTableSlot *slot)
{
	Redeemed	redeemed;
	Entry		entry;

	codec_read(&redemptions_table, slot, &redeemed);
	if (rows_find_entry(NULL, GetActiveSnapshot(), redeemed.transaction_id,
						&entry) ?
		redeemed_kind(&entry) == CODE_UNKNOWN :
		redeemed.transaction_id > v->left_until)
		verify_orphan(v, redeemed.transaction_id,
					  psprintf("a redemption of code " INT64_FORMAT " is not in the log",
							   redeemed.code_id));
}

/*
 * Reports a code whose number of uses is wrong, and a gift that no transaction
 * has created.
 */
static void
check_code_row(Verification *v, TupleTableSlot *slot)
{
	Code		code;
	Entry		entry;

	codec_read(&codes_table, slot, &code);
	if (code.kind == CODE_GIFT &&
		(rows_find_entry(NULL, GetActiveSnapshot(), code.transaction_id,
						 &entry) ?
		 !creates_gift(&entry) || code_of(&entry) != code.id :
		 code.transaction_id > v->left_until))
		verify_orphan(v, 0,
					  psprintf("the gift of code " INT64_FORMAT " is not in the log",
							   code.id));
	v->name = NULL;
	if (code.kind == CODE_UNKNOWN)
		verify_report(v, 0, "codes",
					  psprintf("code " INT64_FORMAT " is of an unknown kind",
							   code.id));
	else if (code.max_uses != NO_LIMIT)
		verify_expect(v, 0, "codes",
					  psprintf("uses of code " INT64_FORMAT, code.id),
					  code.uses,
					  codes_count_uses(GetActiveSnapshot(), code.id));
}

/*
 * Checks all rows of the tables of codes and redemptions.
 */
void
verify_all_codes(Verification *v)
{
	verify_each(v, &redemptions_by_id, check_redeemed);
	verify_each(v, &codes_by_id, check_code_row);
}
