/*
 * verify.c
 *	  credits_verify: the log, grants and accounts.
 *
 * Accounts, transactions and grants are read in order of account id and merged
 * as in a merge join.  So each row is read once, and the memory used depends
 * only on the number of grants of a single account.  Transactions and grants
 * that belong to no account are reported as orphans.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/stripe.h"
#include "verify/verify.h"

#include "common/cryptohash.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_verify);
PG_FUNCTION_INFO_V1(credits_digest);

/*
 * Returns whether a transaction gave a grant, according to the grant's row or
 * because the transaction has the complete terms of the grant.  In the second
 * case the row should say so, too, and the caller checks that.
 */
static bool
makes_grant(const Entry *entry, const GrantCheck *grant)
{
	JsonbValue *value = NULL;
	JsonbValue	source;

	if (grant->transaction_id == entry->id)
		return true;
	if (entry->terms)
		value = terms_get(entry, psprintf(INT64_FORMAT, grant->id));
	if (value == NULL || value->type != jbvBinary)
		return false;
	source.type = jbvString;
	source.val.string.val = "source";
	source.val.string.len = strlen("source");
	return JsonContainerIsObject(value->val.binary.data) &&
		findJsonbValueFromContainer(value->val.binary.data, JB_FOBJECT,
									&source) != NULL;
}

/*
 * Returns whether a transaction takes credits from a hold.
 */
static bool
takes_from_hold(const Entry *entry)
{
	return entry->amount == 0 && entry->held < 0;
}

/*
 * Adds the draws of an entry to the grants, and checks that they add up to the
 * entry's amount.
 *
 * There are two exceptions.  A draw on a pending grant does not change the
 * balance; its credits are added to the balance when the grant is activated.
 * Draws that take credits from a hold have already been counted when the hold
 * was made, and add up to the entry's "held".
 */
static void
check_draws(Verification *v, HTAB *grants, const Entry *entry)
{
	int64		sum = 0;
	int			i;

	for (i = 0; i < entry->ndraws; i++)
	{
		GrantCheck *grant = hash_search(grants, &entry->draws[i].grant_id,
										HASH_FIND, NULL);

		CHECK_FOR_INTERRUPTS();
		if (grant == NULL)
		{
			verify_report(v, entry->id, "orphan",
						  psprintf("draws on grant " INT64_FORMAT ", which the account does not have",
								   entry->draws[i].grant_id));
			sum = verify_add(sum, entry->draws[i].amount);
			continue;
		}
		if (takes_from_hold(entry))
		{
			grant->last_id = entry->id;
			sum = verify_add(sum, entry->draws[i].amount);
			continue;
		}
		grant->last_id = entry->id;
		grant->drawn = verify_add(grant->drawn, entry->draws[i].amount);
		if (kinds_info(entry->kind)->loses || entry->kind == KIND_PLAN_CHANGE)
			grant->logged_lost = (int64) ((uint64) grant->logged_lost -
										  (uint64) entry->draws[i].amount);
		if (entry->kind == KIND_PLAN_CHANGE)
			grant->taken_back = (int64) ((uint64) grant->taken_back -
										 (uint64) entry->draws[i].amount);
		grant->empty = entry->kind == KIND_VOID ? GRANT_VOIDED :
			entry->kind == KIND_EXPIRATION ? GRANT_EXPIRED :
			GRANT_USED;
		if (makes_grant(entry, grant))
		{
			grant->given = verify_add(grant->given, entry->draws[i].amount);
			grant->pending = entry->amount == 0;
		}
		/* credits claimed from a pending grant are given back when effective */
		if (entry->kind == KIND_REINSTATEMENT && entry->amount != 0)
			grant->pending = false;
		if (entry->kind == KIND_ACTIVATION && grant->pending)
		{
			grant->pending = false;
			sum = verify_add(sum, grant->drawn);
		}
		else if (!grant->pending)
			sum = verify_add(sum, entry->draws[i].amount);
	}
	verify_expect(v, entry->id, "draws", "sum of draws", sum,
				  takes_from_hold(entry) ? entry->held : entry->amount);
}

/*
 * Returns the part of an entry's terms that concerns one grant, or NULL.
 */
static Jsonb *
terms_of(const Entry *entry, int64 grant_id)
{
	return terms_part(entry, psprintf(INT64_FORMAT, grant_id));
}

/*
 * Checks the terms of the grants that an entry gives, and records the expiry
 * of those that it prolongs.
 */
static void
check_terms(Verification *v, HTAB *grants, const Entry *entry)
{
	int			i;

	for (i = 0; i < entry->ndraws; i++)
	{
		GrantCheck *grant = hash_search(grants, &entry->draws[i].grant_id,
										HASH_FIND, NULL);
		MemoryContext old;
		Jsonb	   *terms;

		CHECK_FOR_INTERRUPTS();
		if (grant == NULL)
			continue;
		if (makes_grant(entry, grant))
		{
			verify_expect(v, entry->id, "grants",
						  psprintf("transaction_id of grant " INT64_FORMAT, grant->id),
						  grant->transaction_id, entry->id);
			if (!verify_same(grant->terms, terms_of(entry, grant->id)))
				verify_report(v, entry->id, "terms",
							  psprintf("terms of grant " INT64_FORMAT " are not those that it was given with",
									   grant->id));
		}
		else if (entry->terms)
		{
			/* a refund prolongs only those of its grants that have expired */
			old = MemoryContextSwitchTo(v->context);
			terms = terms_of(entry, grant->id);
			if (terms)
				grant->logged_expiry = terms;
			MemoryContextSwitchTo(old);
		}
	}
}

/*
 * Checks that a refund has a spend of the same account as its target, or a
 * reversal a transfer, and that together with earlier ones it does not give
 * back more than was taken.
 */
static void
check_refund(Verification *v, const Entry *refund)
{
	StoreScan	scan;
	Entry		target;
	Entry		other;
	int64		refunded = 0;
	int64		taken;

	/* an archived target was proven before it was archived */
	if (refund->has_target && refund->target_id <= v->left_until)
		return;
	if (!refund->has_target ||
		!rows_find_entry(NULL, GetActiveSnapshot(), refund->target_id,
						 &target) ||
		target.account_id != refund->account_id ||
		kinds_info(target.kind)->undone_by != refund->kind ||
		(taken = rows_moved(&target)) == 0)
	{
		verify_report(v, refund->id, "refund",
					  refund->kind == KIND_REVERSAL ?
					  "is not of a transfer of the account" :
					  "is not of a spend of the account");
		return;
	}
	scan_begin_ids(&scan, NULL, &log_by_target_id,
				   GetActiveSnapshot(), target.id, PG_INT64_MAX,
				   BY_INT64(target.id));
	while (scan_peek(&scan, ForwardScanDirection, &other))
	{
		if (other.id <= refund->id && other.account_id == refund->account_id &&
			other.kind == refund->kind)
			refunded = verify_add(refunded, other.amount);
	}
	scan_end(&scan);
	/* a reversal takes credits from the receiver, so both are negative then */
	if (taken < 0 ? refunded < taken : refunded > taken)
		verify_report(v, refund->id, "refund",
					  psprintf("gives back more than is left: " INT64_FORMAT " in all of " INT64_FORMAT,
							   refunded, taken));
}

/*
 * Checks a transaction against those before it.  "sum" is what the account's
 * row should be according to the log so far, and is updated.
 */
static void
check_transaction(Verification *v, Replay *replay, const Entry *entry)
{
	Account    *sum = &replay->sum;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	if (chain_has_text(entry) && entry->salt == NULL)
		verify_report(v, entry->id, "chain", "has a text without a salt");
	else if (chain_has_text(entry) && chain_is_erased(entry))
		verify_report(v, entry->id, "chain", "has a text again that was erased");
	else if (entry->salt && entry->salt_len != SALT_BYTES &&
			 !chain_is_erased(entry))
		verify_report(v, entry->id, "chain", "has a salt of another length");
	if (entry->has_request != (entry->key != NULL))
		verify_report(v, entry->id, "chain", "has a key without a request, or a request without a key");
	chain_hash(sum->head, sum->head_len, entry, hash);
	if (memcmp(hash, entry->hash, sizeof(hash)) != 0)
		verify_report(v, entry->id, "chain",
					  "hash does not match the row and the hash of the row before it");
	/* continue with the stored hash, so that a break is reported only once */
	memcpy(sum->head, entry->hash, sizeof(hash));
	sum->head_len = sizeof(hash);

	sum->balance = verify_add(sum->balance, entry->amount);
	sum->held = verify_add(sum->held, entry->held);
	verify_expect(v, entry->id, "running_balance", "balance_after",
				  entry->balance_after, sum->balance);
	verify_expect(v, entry->id, "running_balance", "held_after", entry->held_after,
				  sum->held);
	sum->balance = entry->balance_after;
	sum->held = entry->held_after;

	if (sum->transaction_count == 0)
	{
		replay->opening_id = entry->id;
		replay->opening_amount = entry->amount;
	}
	if (entry->id <= sum->last_transaction_id)
		verify_report(v, entry->id, "time", "id is not above the one before it");
	sum->last_transaction_id = entry->id;
	sum->last_at = entry->created_at;
	sum->transaction_count++;
	(void) log_add_totals(sum, entry);
	if (entry->kind == KIND_PAUSE)
		sum->status = ACCOUNT_PAUSED;
	else if (entry->kind == KIND_RESUME)
		sum->status = ACCOUNT_ACTIVE;
	else if (entry->kind == KIND_CLOSE || entry->kind == KIND_ERASURE)
		sum->status = ACCOUNT_CLOSED;
	else if (entry->kind == KIND_LIMITS)
		sum->limited = true;
	if (entry->kind == KIND_REFUND || entry->kind == KIND_REVERSAL)
		check_refund(v, entry);
	verify_held(v, replay->holds, entry);
	verify_debt_entry(v, replay->debts, entry, sum);
	verify_code(v, entry);
	verify_period(v, replay->grants, entry);
	verify_charge(v, entry);
	verify_caps_entry(v->caps, entry);
	check_draws(v, replay->grants, entry);
	check_terms(v, replay->grants, entry);
	replay->total = verify_add(replay->total, entry->amount);
	replay->held = verify_add(replay->held, entry->held);
}

/*
 * Compares an account's row with its log.
 */
static void
check_account(Verification *v, const Account *account, const Replay *replay)
{
	const Account *sum = &replay->sum;

	verify_expect(v, 0, "count", "transaction_count", account->transaction_count,
				  sum->transaction_count);
	if (account->last_transaction_id != sum->last_transaction_id ||
		account->head_len != sum->head_len ||
		memcmp(account->head, sum->head, sum->head_len) != 0 ||
		account->last_at != sum->last_at)
		verify_report(v, account->last_transaction_id, "head",
					  psprintf("the account's head is not the newest row of its log, which is " INT64_FORMAT,
							   sum->last_transaction_id));
	if (account->status != sum->status)
		verify_report(v, 0, "status",
					  psprintf("status is %s, but by the log it is %s",
							   account->status == ACCOUNT_UNKNOWN ? "not a known one" :
							   account_status_names[account->status],
							   account_status_names[sum->status]));
	if (account->limited != sum->limited)
		verify_report(v, 0, "limits", account->limited ?
					  "the account is marked as limited, but by the log it is not" :
					  "the account has limits by the log, but is not marked");
	verify_expect(v, 0, "balance", "balance", account->balance,
				  replay->total);
	verify_expect(v, 0, "held", "held", account->held, replay->held);
	verify_expect(v, 0, "debt", "debt", account->debt, sum->debt);
	verify_expect(v, 0, "totals", "spent", account->spent, sum->spent);
	verify_expect(v, 0, "totals", "refunded", account->refunded, sum->refunded);
	verify_expect(v, 0, "totals", "expired", account->expired, sum->expired);
}

/*
 * Reports problems with the members of pools.
 */
static void
check_members(Verification *v)
{
	List	   *problems;
	int64		pool_id;

	while ((problems = verify_caps_members(v->caps, &pool_id)) != NIL)
	{
		Account		pool;

		v->name = rows_find_account(NULL, GetActiveSnapshot(), NULL, pool_id,
									&pool) ?
			pool.name : NULL;
		verify_report(v, 0, "members", linitial(problems));
	}
}

/*
 * Checks a row of the account.  One that the account's anchor covers was proven when
 * the anchor was made: if the log still has it when it should have left, it is a copy.
 */
static void
check_entry(Verification *v, Replay *replay, int64 anchored, const Entry *entry)
{
	if (entry->id <= anchored && entry->id <= v->left_until)
		verify_carried(v, entry);
	else if (entry->id > anchored)
	{
		if (v->closure)
			verify_reach(v, replay, entry);
		check_transaction(v, replay, entry);
	}
}

/*
 * Verifies the next account, with its transactions and grants, from its newest anchor
 * on.
 */
void
verify_account_by(Verification *v, const Account *account)
{
	Replay		replay = {.sum.last_at = DT_NOBEGIN};
	Anchor		anchor = {.transaction_id = 0};
	ListCell   *lc;

	replay.grants = verify_read_grants(v, account->id);
	replay.holds = verify_make_holds(v);
	replay.debts = verify_make_debts(v);
	if (v->closed_until > 0 &&
		anchors_find(GetActiveSnapshot(), account->id, &anchor))
		verify_from_anchor(v, &replay, &anchor);
	while (v->transaction &&
		   verify_owner(&v->transactions) <= account->id)
	{
		Entry		entry;
		MemoryContext old = MemoryContextSwitchTo(v->row);

		CHECK_FOR_INTERRUPTS();
		codec_peek(&log_table, v->transaction, &entry);
		if (entry.account_id < account->id)
			verify_orphan(v, entry.id,
						  psprintf("belongs to account " INT64_FORMAT ", which does not exist",
								   entry.account_id));
		else
			check_entry(v, &replay, anchor.transaction_id, &entry);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
		v->transaction = scan_next(&v->transactions, ForwardScanDirection);
	}
	if (v->closure)
		verify_reach(v, &replay, NULL);
	check_account(v, account, &replay);
	verify_check_grants(v, &replay, account);
	verify_open_holds(v, replay.holds, account);
	verify_debts(v, replay.grants, replay.debts, account);
	verify_periods(v, replay.grants, replay.debts, account);
	foreach(lc, verify_caps_limits(v->caps, account))
		verify_report(v, 0, "limits", lfirst(lc));
	if (v->closure)
		verify_close(v, &replay, account);
}

/*
 * Reports transactions and grants that are left after the last account.
 */
static void
verify_rest(Verification *v)
{
	Account		beyond;

	/* an id above all others, so that all remaining rows are orphans */
	beyond.id = PG_INT64_MAX;
	v->name = NULL;
	verify_read_grants(v, beyond.id);
	while (v->transaction)
	{
		Entry		entry;
		MemoryContext old = MemoryContextSwitchTo(v->row);

		CHECK_FOR_INTERRUPTS();
		codec_peek(&log_table, v->transaction, &entry);
		verify_orphan(v, entry.id,
					  psprintf("belongs to account " INT64_FORMAT ", which does not exist",
							   entry.account_id));
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
		v->transaction = scan_next(&v->transactions, ForwardScanDirection);
	}
}

/*
 * Calls a function for each row of an index.
 */
void
verify_each(Verification *v, StoreIndex *index,
			void (*check) (Verification *, TupleTableSlot *))
{
	StoreScan	scan;
	TupleTableSlot *slot;

	scan_begin_all(&scan, NULL, index, GetActiveSnapshot());
	while ((slot = scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(v->row);

		CHECK_FOR_INTERRUPTS();
		check(v, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
}

/*
 * Begins the scans of transactions and grants, of one account or of all.
 */
void
verify_begin(Verification *v, const ScanBy *by, int n)
{
	Closing		closing;

	if (anchors_last_closing(GetActiveSnapshot(), &closing))
	{
		v->closed_until = closing.until_id;
		v->left_until = anchors_left_until(GetActiveSnapshot());
	}
	scan_begin_by(&v->transactions, NULL, &log_by_account_id,
				  GetActiveSnapshot(), by, n);
	v->transaction = scan_next(&v->transactions, ForwardScanDirection);
	scan_begin_by(&v->grants, NULL, &grants_by_account_id,
				  GetActiveSnapshot(), by, n);
	v->grant = scan_next(&v->grants, ForwardScanDirection);
}

/*
 * Ends the scans.
 */
void
verify_end(Verification *v)
{
	scan_end(&v->transactions);
	scan_end(&v->grants);
}

/*
 * Verifies all accounts, and what has left their logs if that is asked for.
 */
static void
verify_all(Verification *v, bool archived)
{
	StoreScan	accounts;
	TupleTableSlot *slot;

	verify_partitions(v);
	verify_begin(v, NULL, 0);
	v->caps = verify_caps_begin(0);
	scan_begin_all(&accounts, NULL, &accounts_by_id, GetActiveSnapshot());
	while ((slot = scan_next(&accounts, ForwardScanDirection)) != NULL)
	{
		Account		account;
		MemoryContext old = MemoryContextSwitchTo(v->context);

		codec_read(&accounts_table, slot, &account);
		v->name = account.name;
		verify_account_by(v, &account);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->context);
	}
	scan_end(&accounts);
	check_members(v);
	verify_rest(v);
	verify_all_carried(v);
	verify_stray_holds(v);
	verify_all_codes(v);
	verify_pools(v, 0);
	verify_purchases(v, 0);
	verify_all_deliveries(v);
	verify_all_disputes(v);
	verify_all_corrections(v);
	verify_all_rewards(v);
	verify_all_topups(v);
	if (archived)
		verify_archived(v, 0);
}

/*
 * Verifies one account.
 */
static void
verify_one(Verification *v, text *name, bool archived)
{
	Account		account;

	guards_find_account(GetActiveSnapshot(), name, &account);
	verify_begin(v, &BY_INT64(account.id), 1);
	v->caps = verify_caps_begin(account.id);
	v->name = name;
	verify_account_by(v, &account);
	check_members(v);
	verify_pools(v, account.id);
	verify_purchases(v, account.id);
	if (archived)
		verify_archived(v, account.id);
}

/*
 * SQL function: verifies one account, or everything if the argument is null,
 * and returns a row for each problem found.
 */
Datum
credits_verify(PG_FUNCTION_ARGS)
{
	Verification v = {0};
	text	   *name = PG_ARGISNULL(0) ? NULL : arg_account(fcinfo, 0);
	bool		archived = arg_bool(fcinfo, 1, "archived");

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	v.result = (ReturnSetInfo *) fcinfo->resultinfo;
	receipts_check_columns(v.result->setDesc, 4);
	v.context = AllocSetContextCreate(CurrentMemoryContext, "credits account",
									  ALLOCSET_DEFAULT_SIZES);
	v.row = AllocSetContextCreate(CurrentMemoryContext, "credits row",
								  ALLOCSET_DEFAULT_SIZES);
	if (name)
		verify_one(&v, name, archived);
	else
		verify_all(&v, archived);
	verify_end(&v);
	MemoryContextDelete(v.row);
	MemoryContextDelete(v.context);
	/* after a restore, this is what is called */
	if (name == NULL)
		stripe_warn_of_secrets();
	return (Datum) 0;
}

/*
 * SQL function: returns a SHA-256 hash over the id, transaction count and head
 * of all accounts, in order of id.
 */
Datum
credits_digest(PG_FUNCTION_ARGS)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	StoreScan	accounts;
	Account		account;
	bool		ok = pg_cryptohash_init(ctx) >= 0;

	scan_begin_all(&accounts, NULL, &accounts_by_id, GetActiveSnapshot());
	while (ok && scan_peek(&accounts, ForwardScanDirection, &account))
	{
		uint64		numbers[2];

		CHECK_FOR_INTERRUPTS();
		numbers[0] = pg_hton64((uint64) account.id);
		numbers[1] = pg_hton64((uint64) account.transaction_count);
		ok = pg_cryptohash_update(ctx, (uint8 *) numbers,
								  sizeof(numbers)) >= 0 &&
			pg_cryptohash_update(ctx, account.head, account.head_len) >= 0;
	}
	scan_end(&accounts);
	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (!ok || pg_cryptohash_final(ctx, (uint8 *) VARDATA(digest),
								   PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a hash: %s",
						pg_cryptohash_error(ctx))));
	pg_cryptohash_free(ctx);
	PG_RETURN_BYTEA_P(digest);
}
