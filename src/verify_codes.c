/*
 * verify_codes.c
 *	  Proving codes: that what the log says was redeemed is counted as such, and
 *	  nothing else, so that no code can be redeemed again.
 *
 * What a promotional code gives, to whom and how often is in its row alone: the
 * log does not know it.
 */
#include "credits.h"

#include "codes.h"
#include "verify.h"

#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Returns the code that a transaction names in its terms, 0 if none.
 */
static int64
code_of(const Entry *entry)
{
	int64		id = 0;

	(void) terms_int64(entry, "code_id", &id);
	return id;
}

/*
 * Returns of which kind the code is that a transaction redeems, CODE_UNKNOWN if
 * it redeems none.
 */
static CodeKind
redeems(const Entry *entry)
{
	if (strcmp(entry->kind, KIND_REDEMPTION) == 0)
		return CODE_PROMOTIONAL;
	/* what the referrer gets is about what the referee does */
	if (strcmp(entry->kind, KIND_REFERRAL) == 0 && !entry->has_target)
		return CODE_REFERRAL;
	if (strcmp(entry->kind, KIND_GIFT) == 0 && entry->amount > 0 &&
		code_of(entry) != 0)
		return CODE_GIFT;
	return CODE_UNKNOWN;
}

/*
 * Tells whether a transaction takes a gift with a code from its giver.
 */
static bool
gives(const Entry *entry)
{
	return strcmp(entry->kind, KIND_GIFT) == 0 && entry->held > 0;
}

/*
 * Begins to look a row up by its id.
 */
static TupleTableSlot *
look_up(StoreScan *scan, StoreIndex *index, int64 id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	store_scan(scan, NULL, index, GetActiveSnapshot(), &key, 1);
	return store_scan_next(scan, ForwardScanDirection);
}

/*
 * Finds a code by id, if it is of a kind.
 */
static bool
find_code(int64 id, CodeKind kind, Code *code)
{
	StoreScan	scan;
	TupleTableSlot *slot = look_up(&scan, &codes_by_id, id);

	if (slot)
		codes_read(slot, code);
	store_scan_end(&scan);
	return slot && code->kind == kind;
}

/*
 * Finds out who has redeemed a code by a transaction.
 */
static bool
find_redeemed(int64 transaction_id, Redeemed *redeemed)
{
	StoreScan	scan;
	TupleTableSlot *slot = look_up(&scan, &redemptions_by_id, transaction_id);

	if (slot)
		codes_read_redeemed(slot, redeemed);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Checks that a transaction which makes a gift or redeems a code is known where
 * codes are looked for.
 */
void
verify_code(Verification *v, const Entry *entry)
{
	CodeKind	kind = redeems(entry);
	int64		code_id;
	Redeemed	redeemed;
	Code		code;

	if (kind == CODE_UNKNOWN && !gives(entry))
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
	if (!find_redeemed(entry->id, &redeemed))
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
 * Reports a redemption that no transaction is.
 */
static void
check_redeemed(Verification *v, TupleTableSlot *slot)
{
	Redeemed	redeemed;
	Entry		entry;

	codes_read_redeemed(slot, &redeemed);
	if (!row_find_entry(NULL, GetActiveSnapshot(), redeemed.transaction_id,
						&entry) ||
		redeems(&entry) == CODE_UNKNOWN)
		verify_orphan(v, redeemed.transaction_id,
					  psprintf("a redemption of code " INT64_FORMAT " is not in the log",
							   redeemed.code_id));
}

/*
 * Reports a code that counts its uses wrong, or a gift's that no transaction
 * has made.
 */
static void
check_code_row(Verification *v, TupleTableSlot *slot)
{
	Code		code;
	Entry		entry;

	codes_read(slot, &code);
	if (code.kind == CODE_GIFT &&
		(!row_find_entry(NULL, GetActiveSnapshot(), code.transaction_id,
						 &entry) ||
		 !gives(&entry) || code_of(&entry) != code.id))
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
 * Checks each row of an index.
 */
static void
check_all(Verification *v, StoreIndex *index,
		  void (*check) (Verification *, TupleTableSlot *))
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, NULL, index, GetActiveSnapshot(), NULL, 0);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(v->row);

		CHECK_FOR_INTERRUPTS();
		check(v, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	store_scan_end(&scan);
}

/*
 * Checks the rows of all codes, and of all redemptions.
 */
void
verify_all_codes(Verification *v)
{
	check_all(v, &redemptions_by_id, check_redeemed);
	check_all(v, &codes_by_id, check_code_row);
}
