/*
 * anchors.c
 *	  credits_verify: beginning at an anchor, and making one.
 *
 * An anchor is the state that reading an account's log has led to at a row, so that
 * reading can go on from there when the rows before it are gone.  It proves itself:
 * the next row's hash continues its hash, and what comes out at the end must agree
 * with the account, its grants, holds and debts.
 */
#include "credits.h"

#include "verify/verify.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Returns the state of a part in the form that the functions for terms take.
 */
static Entry
as_terms(const AnchorPart *part)
{
	return (Entry)
	{
		.terms = part->state
	};
}

/*
 * Returns a number of a part's state, 0 if it is not there.
 */
int64
verify_part_int64(const AnchorPart *part, const char *key)
{
	Entry		entry = as_terms(part);
	int64		value = 0;

	(void) terms_int64(&entry, key, &value);
	return value;
}

/*
 * Returns whether a part's state says that something is true.
 */
bool
verify_part_bool(const AnchorPart *part, const char *key)
{
	Entry		entry = as_terms(part);
	JsonbValue *value = terms_get(&entry, key);

	return value && value->type == jbvBool && value->val.boolean;
}

/*
 * Returns a time of a part's state, DT_NOBEGIN if it is not there.
 */
TimestampTz
verify_part_time(const AnchorPart *part, const char *key)
{
	Entry		entry = as_terms(part);

	return terms_get(&entry, key) ? terms_time(&entry, key) : DT_NOBEGIN;
}

/*
 * Returns a document that consists of one member of a part's state, or NULL.
 */
Jsonb *
verify_part_member(const AnchorPart *part, const char *key)
{
	Entry		entry = as_terms(part);

	return terms_part(&entry, key);
}

/*
 * Adds a part to those of an anchor.
 */
void
verify_add_part(List **parts, AnchorPartKind kind, int64 id,
				const JsonObject *state)
{
	AnchorPart *part = palloc0(sizeof(AnchorPart));

	part->kind = kind;
	part->id = id;
	part->state = json_document(state);
	*parts = lappend(*parts, part);
}

/*
 * Begins with what an anchor says about a grant.
 */
static void
begin_grant(Verification *v, const Replay *replay, const AnchorPart *part)
{
	GrantCheck *grant = hash_search(replay->grants, &part->id, HASH_FIND, NULL);
	Entry		entry = as_terms(part);
	JsonbValue *empty = terms_get(&entry, "empty");

	if (grant == NULL)
	{
		verify_report(v, part->transaction_id, "orphan",
					  psprintf("the anchor has grant " INT64_FORMAT ", which the account does not have",
							   part->id));
		return;
	}
	grant->given = verify_part_int64(part, "given");
	grant->drawn = verify_part_int64(part, "remaining");
	grant->logged_lost = verify_part_int64(part, "lost");
	grant->taken_back = verify_part_int64(part, "taken_back");
	grant->pending = verify_part_bool(part, "pending");
	grant->of_period = verify_part_bool(part, "of_period");
	grant->empty = empty && empty->type == jbvString ?
		(GrantStatus) names_find(grant_status_names, GRANT_VOIDED + 1,
								 pnstrdup(empty->val.string.val,
										  empty->val.string.len)) :
		GRANT_USED;
	grant->logged_expiry = verify_part_member(part,
											  psprintf(INT64_FORMAT, part->id));
	grant->last_id = part->transaction_id;
}

/*
 * Adds the grants that the account has had so far to the parts of an anchor.
 */
static void
add_grants(const Replay *replay, List **parts)
{
	HASH_SEQ_STATUS status;
	GrantCheck *grant;

	hash_seq_init(&status, replay->grants);
	while ((grant = hash_seq_search(&status)) != NULL)
	{
		JsonObject	json;

		CHECK_FOR_INTERRUPTS();
		if (grant->last_id == 0)
			continue;			/* it was given later */
		json_begin(&json);
		json_int64(&json, "given", grant->given);
		json_int64(&json, "remaining", grant->drawn);
		if (grant->logged_lost != 0)
			json_int64(&json, "lost", grant->logged_lost);
		if (grant->taken_back != 0)
			json_int64(&json, "taken_back", grant->taken_back);
		if (grant->pending)
			json_bool(&json, "pending", true);
		if (grant->of_period)
			json_bool(&json, "of_period", true);
		if (grant->empty != GRANT_USED)
			json_cstring(&json, "empty", grant_status_names[grant->empty]);
		if (grant->logged_expiry)
		{
			char	   *id = psprintf(INT64_FORMAT, grant->id);
			Entry		entry = {.terms = grant->logged_expiry};

			json_value(&json, id, terms_get(&entry, id));
		}
		verify_add_part(parts, PART_GRANT, grant->id, &json);
	}
}

/*
 * Begins with what an anchor says about the account.
 */
static void
begin_account(Verification *v, Replay *replay, const Anchor *anchor)
{
	Account    *sum = &replay->sum;

	if (anchor->status == ACCOUNT_UNKNOWN)
		verify_report(v, anchor->transaction_id, "status",
					  "status of the anchor is not a known one");
	sum->status = anchor->status;
	sum->limited = anchor->limits != NULL;
	sum->debt = anchor->debt;
	sum->spent = anchor->spent;
	sum->refunded = anchor->refunded;
	sum->expired = anchor->expired;
	sum->balance = replay->total = anchor->balance;
	sum->held = replay->held = anchor->held;
	sum->transaction_count = anchor->transaction_count;
	sum->last_transaction_id = anchor->transaction_id;
	sum->last_at = anchor->created_at;
	memcpy(sum->head, anchor->hash, sizeof(sum->head));
	sum->head_len = sizeof(sum->head);
	replay->granted = anchor->granted;
	replay->opening_id = anchor->opening_id;
	replay->opening_amount = anchor->opening_amount;
}

/*
 * Begins to read an account's log at its anchor.
 */
void
verify_from_anchor(Verification *v, Replay *replay, const Anchor *anchor)
{
	MemoryContext old = MemoryContextSwitchTo(v->context);
	StoreScan	scan;
	AnchorPart	part;

	begin_account(v, replay, anchor);
	verify_caps_start(v->caps, anchor->account_id, anchor->limits,
					  anchor->created_at);
	scan_begin(&scan, NULL, &anchor_parts_by_anchor, GetActiveSnapshot(),
			   BY_INT64(anchor->account_id), BY_INT64(anchor->transaction_id));
	while (scan_peek(&scan, ForwardScanDirection, &part))
	{
		CHECK_FOR_INTERRUPTS();
		switch (part.kind)
		{
			case PART_GRANT:
				begin_grant(v, replay, &part);
				break;
			case PART_HOLD:
				verify_open_hold(replay->holds, &part);
				break;
			case PART_DEBT:
				verify_begin_debt(replay->debts, &part);
				break;
			case PART_MEMBER:
			case PART_USE:
				verify_caps_part(v->caps, &part);
				break;
			case PART_UNKNOWN:
				verify_report(v, part.transaction_id, "orphan",
							  "the anchor has a part of an unknown kind");
				break;
		}
	}
	scan_end(&scan);
	/* nothing else would miss a hold before it ends */
	verify_expect(v, anchor->transaction_id, "holds",
				  "what the anchor's open holds have left",
				  verify_holds_left(replay->holds), anchor->held);
	MemoryContextSwitchTo(old);
}

/*
 * Makes an anchor and its parts from what has been read of an account's log.  It lacks
 * what only the end of the log can tell: which of the grants are archived.
 */
void
verify_take_anchor(Verification *v, const Replay *replay, Anchor *anchor,
				   List **parts)
{
	const Account *sum = &replay->sum;
	Jsonb	   *limits = verify_caps_logged(v->caps, anchor->account_id);

	anchor->transaction_id = sum->last_transaction_id;
	anchor->transaction_count = sum->transaction_count;
	anchor->created_at = sum->last_at;
	anchor->status = sum->status;
	anchor->balance = sum->balance;
	anchor->held = sum->held;
	anchor->debt = sum->debt;
	anchor->granted = replay->granted;
	anchor->spent = sum->spent;
	anchor->refunded = sum->refunded;
	anchor->expired = sum->expired;
	anchor->opening_id = replay->opening_id;
	anchor->opening_amount = replay->opening_amount;
	anchor->limits = limits ?
		DatumGetJsonbPCopy(JsonbPGetDatum(limits)) : NULL;
	memcpy(anchor->hash, sum->head, sizeof(anchor->hash));
	*parts = NIL;
	add_grants(replay, parts);
	verify_hold_parts(replay->holds, parts);
	verify_debt_parts(replay->debts, parts);
	verify_caps_parts(v->caps, anchor->account_id, parts);
}

/*
 * Checks a copy of an archived row: it is one that was to be kept, and unchanged.
 */
void
verify_carried(Verification *v, const Entry *entry)
{
	CarriedRow	carried;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	if (!anchors_find_carried(GetActiveSnapshot(), entry->id, &carried))
	{
		verify_report(v, entry->id, "orphan",
					  "is in the log, but the books were closed over it");
		return;
	}
	chain_hash(carried.previous, carried.previous_len, entry, hash);
	if (memcmp(hash, entry->hash, sizeof(hash)) != 0 ||
		memcmp(hash, carried.hash, sizeof(hash)) != 0)
		verify_report(v, entry->id, "chain",
					  "hash does not match the copy of an archived row");
}

/*
 * Reports copies of archived rows that are missing.
 */
void
verify_all_carried(Verification *v)
{
	StoreScan	scan;
	CarriedRow	carried;

	v->name = NULL;
	scan_begin_all(&scan, NULL, &carried_rows_by_id, GetActiveSnapshot());
	while (scan_peek(&scan, ForwardScanDirection, &carried))
	{
		MemoryContext old = MemoryContextSwitchTo(v->row);
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		if (carried.until_id == v->left_until &&
			!rows_find_entry(NULL, GetActiveSnapshot(), carried.id, &entry))
			verify_orphan(v, carried.id,
						  "was to be kept when the books were closed over it, but is not in the log");
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
}
