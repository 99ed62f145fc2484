/*
 * grants.c
 *	  credits_verify: grants of an account, as their rows have them, compared with
 *	  what the log says.
 */
#include "credits.h"

#include "verify/verify.h"

#include "miscadmin.h"
#include "utils/memutils.h"

/*
 * Returns the account id of the current row of a scan of transactions or
 * grants by account.
 */
int64
verify_owner(StoreScan *scan)
{
	return DatumGetInt64(scan_key(scan, 0));
}

/*
 * Returns the terms that a transaction has if it prolongs a grant to its
 * current expiry.
 */
static Jsonb *
expiry_of(const Grant *grant)
{
	JsonObject	json;

	json_begin(&json);
	grants_prolonged(&json, grant);
	return json_document(&json);
}

/*
 * Reads the grants of an account into a hash table, and reports grants of
 * lower account ids as orphans.
 */
HTAB *
verify_read_grants(Verification *v, int64 account_id)
{
	HASHCTL		ctl = {0};
	HTAB	   *grants;

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(GrantCheck);
	ctl.hcxt = v->context;
	grants = hash_create("credits grants", 16, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	while (v->grant && verify_owner(&v->grants) <= account_id)
	{
		Grant		grant;
		MemoryContext old = MemoryContextSwitchTo(v->row);

		codec_peek(&grants_table, v->grant, &grant);
		if (grant.account_id < account_id)
			verify_orphan(v, 0,
						  psprintf("grant " INT64_FORMAT " belongs to account " INT64_FORMAT ", which does not exist",
								   grant.id, grant.account_id));
		else
		{
			GrantCheck *check = hash_search(grants, &grant.id, HASH_ENTER,
											NULL);

			MemoryContextSwitchTo(v->context);
			check->transaction_id = grant.transaction_id;
			check->prolonged = grant.granted_until != DT_NOBEGIN;
			check->terms = grants_terms(&grant);
			check->expiry = check->prolonged ? expiry_of(&grant) : NULL;
			check->logged_expiry = NULL;
			check->amount = grant.amount;
			check->remaining = grant.remaining;
			check->lost = grant.lost;
			check->status = grant.status;
			check->group_id = grant.group_id;
			check->all_claimed = grant.all_claimed;
			check->lasts_until = grants_lasts_until(&grant);
			check->due_at = grant.status == GRANT_PENDING ?
				grant.effective_at : grant.expires_at;
			check->given = 0;
			check->drawn = 0;
			check->logged_lost = 0;
			check->taken_back = 0;
			check->pending = false;
			check->of_period = false;
			check->empty = GRANT_USED;
			check->last_id = 0;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
		v->grant = scan_next(&v->grants, ForwardScanDirection);
	}
	return grants;
}

/*
 * Finds a grant of the account, of which it sets what it was given at first, by
 * which transaction, and what changes of plan took back of it.  Returns false if
 * the account has no such grant.
 */
bool
verify_find_grant(HTAB *grants, int64 id, int64 *amount, int64 *transaction_id,
				  int64 *taken_back)
{
	const GrantCheck *grant = hash_search(grants, &id, HASH_FIND, NULL);

	if (grant == NULL)
		return false;
	*amount = grant->amount;
	*transaction_id = grant->transaction_id;
	*taken_back = grant->taken_back;
	return true;
}

/*
 * Returns the group of a grant of the account according to its row, 0 if it has
 * none.  Sets lasts_until to when a grant with a group was to expire.
 */
int64
verify_group_of(HTAB *grants, int64 id, TimestampTz *lasts_until)
{
	const GrantCheck *grant = hash_search(grants, &id, HASH_FIND, NULL);

	if (grant == NULL || grant->group_id == 0)
		return 0;
	*lasts_until = grant->lasts_until;
	return grant->group_id;
}

/*
 * Notes that a grant was given for a period of a subscription: it has a group.
 */
void
verify_note_period(HTAB *grants, int64 id)
{
	GrantCheck *grant = hash_search(grants, &id, HASH_FIND, NULL);

	if (grant)
		grant->of_period = true;
}

/*
 * Compares each grant's row with its draws, and their sum with the balance.
 */
void
verify_check_grants(Verification *v, const Replay *replay,
					const Account *account)
{
	HASH_SEQ_STATUS status;
	GrantCheck *grant;
	int64		effective = 0;
	int64		granted = replay->granted;

	hash_seq_init(&status, replay->grants);
	while ((grant = hash_seq_search(&status)) != NULL)
	{
		bool		open = grant->status == GRANT_OPEN;
		bool		pending = grant->status == GRANT_PENDING;

		CHECK_FOR_INTERRUPTS();
		granted = verify_add(granted, grant->amount);
		if (open)
			effective = verify_add(effective, grant->remaining);
		verify_expect(v, 0, "grants",
					  psprintf("amount of grant " INT64_FORMAT, grant->id),
					  grant->amount, grant->given);
		verify_expect(v, 0, "grants",
					  psprintf("remaining of grant " INT64_FORMAT, grant->id),
					  grant->remaining, grant->drawn);
		verify_expect(v, 0, "grants",
					  psprintf("lost of grant " INT64_FORMAT, grant->id),
					  grant->lost, grant->logged_lost);
		if ((grant->remaining > 0 ? !open && !pending :
			 grant->status != grant->empty) ||
			pending != (grant->pending && grant->remaining > 0))
			verify_report(v, 0, "grants",
						  psprintf("status of grant " INT64_FORMAT " is %s; its remaining is " INT64_FORMAT ", and by the log it is %s effective",
								   grant->id,
								   grant->status == GRANT_UNKNOWN ? "not a known one" :
								   grant_status_names[grant->status],
								   grant->remaining,
								   grant->pending ? "not yet" : "already"));
		if (!verify_same(grant->expiry, grant->logged_expiry))
			verify_report(v, 0, "terms",
						  psprintf("expiry of grant " INT64_FORMAT " is not the one that it was last prolonged to",
								   grant->id));
		if (grant->group_id != 0 && !grant->of_period)
			verify_report(v, 0, "grants",
						  psprintf("grant " INT64_FORMAT " has a group, but was not given for a period",
								   grant->id));
		if (grant->all_claimed !=
			(grant->group_id != 0 &&
			 verify_claimed(replay->debts, grant->id) == grant->amount))
			verify_report(v, 0, "grants",
						  psprintf("grant " INT64_FORMAT " says wrongly whether all of it is claimed",
								   grant->id));
		if ((open || pending) && grant->due_at < account->due_at)
			verify_report(v, 0, "due",
						  psprintf("grant " INT64_FORMAT " becomes effective or expires before the account's due_at",
								   grant->id));
	}
	verify_expect(v, 0, "grants", "sum of remaining of effective grants", effective,
				  account->balance);
	verify_expect(v, 0, "totals", "granted", account->granted, granted);
}
