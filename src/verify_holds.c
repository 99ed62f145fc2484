/*
 * verify_holds.c
 *	  Proving the holds: each one's row against what the log says of it.
 */
#include "credits.h"

#include "verify.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A hold as the log shows it, for as long as it is open */
typedef struct HoldCheck
{
	int64		id;				/* hash key */
	TimestampTz created_at;
	int64		reserved;
	int64		captured;
	int64		released;
	Jsonb	   *expiry;			/* as last set */
	TimestampTz released_at;	/* if it was */
	bool		with_capture;	/* by a final capture? */
} HoldCheck;

/*
 * Returns what has become of a hold, by the log: what the clock ends is
 * released when the hold's time is over, and nothing else is.
 */
static HoldStatus
status_of(const HoldCheck *check, TimestampTz expires_at)
{
	if (check->reserved > verify_add(check->captured, check->released))
		return HOLD_OPEN;
	if (check->released == 0 || check->with_capture)
		return HOLD_CAPTURED;
	return check->released_at < expires_at ? HOLD_RELEASED : HOLD_EXPIRED;
}

/*
 * Compares a hold that is over, or all that are left, with its row.
 */
static void
check_hold(Verification *v, const HoldCheck *check, int64 account_id)
{
	Hold		hold;
	StringInfoData json;
	HoldStatus	status;

	if (!reserve_find(NULL, GetActiveSnapshot(), check->id, &hold) ||
		hold.account_id != account_id)
	{
		verify_report(v, check->id, "holds", "the hold's row is missing");
		return;
	}
	verify_expect(v, check->id, "holds", "reserved", hold.reserved, check->reserved);
	verify_expect(v, check->id, "holds", "captured", hold.captured, check->captured);
	verify_expect(v, check->id, "holds", "released", hold.released, check->released);
	status = status_of(check, hold.expires_at);
	if (hold.status != status)
		verify_report(v, check->id, "holds",
					  psprintf("status is %s, but by the log it is %s",
							   hold.status == HOLD_UNKNOWN ? "not a known one" :
							   hold_status_names[hold.status],
							   hold_status_names[status]));
	initStringInfo(&json);
	json_instant(&json, "expires_at", hold.expires_at);
	if (!verify_same(check->expiry, json_document(&json)))
		verify_report(v, check->id, "holds",
					  "expires_at is not what it was last set to");
	if (hold.created_at != check->created_at)
		verify_report(v, check->id, "holds", "created_at is not that of its transaction");
}

/*
 * Returns the hold that a row is about: itself, its target, or the target of
 * the capture that it follows.
 */
static HoldCheck *
hold_of(Verification *v, HTAB *holds, const Entry *entry)
{
	HoldCheck  *hold;
	Entry		capture;

	if (!entry->has_target)
		return NULL;
	hold = hash_search(holds, &entry->target_id, HASH_FIND, NULL);
	if (hold == NULL && strcmp(entry->kind, KIND_RELEASE) == 0 &&
		row_find_entry(NULL, GetActiveSnapshot(), entry->target_id,
					   &capture) && capture.has_target)
		hold = hash_search(holds, &capture.target_id, HASH_FIND, NULL);
	return hold;
}

/*
 * Adds a row to the hold that it is about.  A hold that is over is compared
 * with its row and forgotten.
 */
void
verify_held(Verification *v, HTAB *holds, const Entry *entry)
{
	bool		extends = strcmp(entry->kind, KIND_EXTENSION) == 0;
	MemoryContext old;
	HoldCheck  *hold;
	bool		made;

	if (entry->held == 0 && !extends)
		return;
	hold = hold_of(v, holds, entry);
	made = entry->held > 0 && hold == NULL;
	if (made)
	{
		hold = hash_search(holds, &entry->id, HASH_ENTER, NULL);
		hold->created_at = entry->created_at;
		hold->reserved = hold->captured = hold->released = 0;
		hold->expiry = NULL;
		hold->released_at = DT_NOBEGIN;
		hold->with_capture = false;
	}
	if (hold == NULL)
	{
		verify_report(v, entry->id, "orphan", "is about a hold that is not open");
		return;
	}
	if (extends || made)
	{
		old = MemoryContextSwitchTo(v->context);
		hold->expiry = terms_part(entry, "expires_at");
		MemoryContextSwitchTo(old);
	}
	if (entry->held > 0)
		hold->reserved = verify_add(hold->reserved, entry->held);
	else if (entry->amount == 0)
		hold->captured = verify_add(hold->captured, -entry->held);
	else
	{
		hold->released = verify_add(hold->released, -entry->held);
		hold->released_at = entry->created_at;
		hold->with_capture = entry->target_id != hold->id;
	}
	if (hold->reserved == verify_add(hold->captured, hold->released))
	{
		check_hold(v, hold, entry->account_id);
		if (hold->expiry)
			pfree(hold->expiry);
		hash_search(holds, &hold->id, HASH_REMOVE, NULL);
	}
}

/*
 * Compares the holds that are open, by the log, with their rows, and reports
 * any that the clock ends before the account's due_at.
 */
void
verify_open_holds(Verification *v, HTAB *holds, const Account *account)
{
	HASH_SEQ_STATUS status;
	HoldCheck  *check;

	hash_seq_init(&status, holds);
	while ((check = hash_seq_search(&status)) != NULL)
	{
		Hold		hold;

		check_hold(v, check, account->id);
		if (reserve_find(NULL, GetActiveSnapshot(), check->id, &hold) &&
			hold.expires_at < account->due_at)
			verify_report(v, 0, "due",
						  psprintf("the clock ends hold " INT64_FORMAT " before the account's due_at",
								   check->id));
	}
}

/*
 * Makes a table of holds.
 */
HTAB *
verify_make_holds(Verification *v)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(HoldCheck);
	ctl.hcxt = v->context;
	return hash_create("credits holds", 16, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Tells whether a transaction made a hold, and not added to one: the target of
 * a part of a split hold is another account's.
 */
static bool
made_hold(const Entry *entry)
{
	Entry		target;

	return strcmp(entry->kind, KIND_HOLD) == 0 &&
		(!entry->has_target ||
		 !row_find_entry(NULL, GetActiveSnapshot(), entry->target_id,
						 &target) ||
		 target.account_id != entry->account_id);
}

/*
 * Reports holds that no transaction made.
 */
void
verify_stray_holds(Verification *v)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, NULL, &holds_by_id, GetActiveSnapshot(), NULL, 0);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		int64		id = DatumGetInt64(slot_getattr(slot, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(v->row);
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		if (!row_find_entry(NULL, GetActiveSnapshot(), id, &entry) ||
			!made_hold(&entry))
			verify_orphan(v, 0,
						  psprintf("hold " INT64_FORMAT " is not in the log",
								   id));
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	store_scan_end(&scan);
}
