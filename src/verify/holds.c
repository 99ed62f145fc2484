/*
 * holds.c
 *	  credits_verify: holds.
 *
 * Compares the row of each hold with the log.  A hold is kept in memory only
 * as long as it is open according to the log.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A hold according to the log */
typedef struct HoldCheck
{
	int64		id;				/* hash key */
	TimestampTz created_at;
	int64		reserved;
	int64		captured;
	int64		released;
	Jsonb	   *expiry;			/* as last set */
	TimestampTz released_at;	/* last release, DT_NOBEGIN if none */
	bool		with_capture;	/* was that part of a final capture? */
} HoldCheck;

/*
 * Returns the status of a hold according to the log.
 */
static HoldStatus
status_of(const HoldCheck *check, TimestampTz expires_at)
{
	if (check->reserved > verify_add(check->captured, check->released))
		return HOLD_OPEN;
	if (check->released == 0 || check->with_capture)
		return HOLD_CAPTURED;

	/*
	 * Settling releases an expired hold with the time of its expiry, and a
	 * hold can be released by a call only before that.
	 */
	return check->released_at < expires_at ? HOLD_RELEASED : HOLD_EXPIRED;
}

/*
 * Compares a hold according to the log with its row.
 */
static void
check_hold(Verification *v, const HoldCheck *check, int64 account_id)
{
	Hold		hold;
	JsonObject	json;
	HoldStatus	status;

	if (!hold_find(NULL, GetActiveSnapshot(), check->id, &hold) ||
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
	json_begin(&json);
	json_instant(&json, "expires_at", hold.expires_at);
	if (!verify_same(check->expiry, json_document(&json)))
		verify_report(v, check->id, "holds",
					  "expires_at is not what it was last set to");
	if (hold.created_at != check->created_at)
		verify_report(v, check->id, "holds", "created_at is not that of its transaction");
}

/*
 * Returns the open hold that an entry concerns: its target, or the target of
 * the capture that is its target.  NULL if there is none.
 */
static HoldCheck *
hold_of(Verification *v, HTAB *holds, const Entry *entry)
{
	HoldCheck  *hold;
	Entry		capture;

	if (!entry->has_target)
		return NULL;
	hold = hash_search(holds, &entry->target_id, HASH_FIND, NULL);
	if (hold == NULL && entry->kind == KIND_RELEASE &&
		rows_find_entry(NULL, GetActiveSnapshot(), entry->target_id,
						&capture) && capture.has_target)
		hold = hash_search(holds, &capture.target_id, HASH_FIND, NULL);
	return hold;
}

/*
 * Processes one entry of the log: adds it to the hold it concerns.  A hold
 * that is no longer open is compared with its row and removed from the hash
 * table.
 */
void
verify_held(Verification *v, HTAB *holds, const Entry *entry)
{
	bool		extends = entry->kind == KIND_EXTENSION;
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
 * Compares the holds that are open at the end of an account's log with their
 * rows.  Also reports those that expire before the account's due_at: settling
 * would be too late.
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
		if (hold_find(NULL, GetActiveSnapshot(), check->id, &hold) &&
			hold.expires_at < account->due_at)
			verify_report(v, 0, "due",
						  psprintf("hold " INT64_FORMAT " times out before the account's due_at",
								   check->id));
	}
}

/*
 * Creates the hash table of an account's open holds.
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
 * Begins with a hold that is open at an anchor.
 */
void
verify_open_hold(HTAB *holds, const AnchorPart *part)
{
	HoldCheck  *hold = hash_search(holds, &part->id, HASH_ENTER, NULL);

	hold->created_at = verify_part_time(part, "created_at");
	hold->reserved = verify_part_int64(part, "reserved");
	hold->captured = verify_part_int64(part, "captured");
	hold->released = verify_part_int64(part, "released");
	hold->expiry = verify_part_member(part, "expires_at");
	hold->released_at = verify_part_time(part, "released_at");
	hold->with_capture = verify_part_bool(part, "with_capture");
}

/*
 * Returns how many credits the holds that are open have left.
 */
int64
verify_holds_left(HTAB *holds)
{
	HASH_SEQ_STATUS status;
	HoldCheck  *hold;
	int64		left = 0;

	hash_seq_init(&status, holds);
	while ((hold = hash_seq_search(&status)) != NULL)
		left = verify_add(left, verify_add(hold->reserved,
										   -verify_add(hold->captured, hold->released)));
	return left;
}

/*
 * Adds the holds that are open to the parts of an anchor.
 */
void
verify_hold_parts(HTAB *holds, List **parts)
{
	HASH_SEQ_STATUS status;
	HoldCheck  *hold;

	hash_seq_init(&status, holds);
	while ((hold = hash_seq_search(&status)) != NULL)
	{
		Entry		entry = {.terms = hold->expiry};
		JsonbValue *expires_at = terms_get(&entry, "expires_at");
		JsonObject	json;

		CHECK_FOR_INTERRUPTS();
		json_begin(&json);
		json_time(&json, "created_at", hold->created_at);
		json_int64(&json, "reserved", hold->reserved);
		json_int64(&json, "captured", hold->captured);
		json_int64(&json, "released", hold->released);
		if (expires_at)
			json_value(&json, "expires_at", expires_at);
		if (hold->released_at != DT_NOBEGIN)
			json_time(&json, "released_at", hold->released_at);
		if (hold->with_capture)
			json_bool(&json, "with_capture", true);
		verify_add_part(parts, PART_HOLD, hold->id, &json);
	}
}

/*
 * Returns whether a transaction created a hold, and did not add to an existing
 * one.  The transactions for the parts of a split hold have a target, too, but
 * of another account.
 */
static bool
made_hold(const Entry *entry)
{
	Entry		target;

	return (entry->kind == KIND_HOLD ||
			entry->kind == KIND_GIFT) && entry->held > 0 &&
		(!entry->has_target ||
		 !rows_find_entry(NULL, GetActiveSnapshot(), entry->target_id,
						  &target) ||
		 target.account_id != entry->account_id);
}

/*
 * Reports holds that no transaction has created.
 */
void
verify_stray_holds(Verification *v)
{
	StoreScan	scan;

	scan_begin_all(&scan, NULL, &holds_by_id, GetActiveSnapshot());
	while (scan_next(&scan, ForwardScanDirection) != NULL)
	{
		int64		id = DatumGetInt64(scan_key(&scan, 0));
		MemoryContext old = MemoryContextSwitchTo(v->row);
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		if (rows_find_entry(NULL, GetActiveSnapshot(), id, &entry) ?
			!made_hold(&entry) : id > v->left_until)
			verify_orphan(v, 0,
						  psprintf("hold " INT64_FORMAT " is not in the log",
								   id));
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
}
