/*
 * verify.c
 *	  Proving the log and the balances.
 *
 * Accounts, transactions and grants are read side by side in order of account,
 * like a merge join: each row once, in memory that grows with the grants of
 * one account only.  Whatever belongs to no account is an orphan.
 */
#include "credits.h"

#include "verify.h"

#include "access/stratnum.h"
#include "common/cryptohash.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_verify);
PG_FUNCTION_INFO_V1(credits_digest);

/* A grant as its own row shows it, and as the log does */
typedef struct GrantCheck
{
	int64		id;				/* hash key */
	int64		amount;
	int64		remaining;
	GrantStatus status;
	TimestampTz due_at;			/* when the clock next changes it */
	int64		transaction_id; /* that gave it */
	bool		prolonged;
	Jsonb	   *terms;			/* as given */
	Jsonb	   *expiry;			/* as it is, if prolonged */
	Jsonb	   *logged_expiry;	/* as last prolonged, by the log */
	int64		given;			/* what it was given at first */
	int64		drawn;			/* sum of its draws */
	bool		pending;		/* given, but not yet effective */
	GrantStatus empty;			/* what its last draw makes it when empty */
} GrantCheck;

/*
 * Returns the account that a row of the log or of the grants belongs to.
 */
static int64
owner_of(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, attno, &isnull));
}

/*
 * Tells whether a transaction makes a grant: then it has all terms of it, and
 * should have them if the grant says so.
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
 * Tells whether a transaction takes from a hold what that has drawn before.
 */
static bool
takes_from_hold(const Entry *entry)
{
	return entry->amount == 0 && entry->held < 0;
}

/*
 * Adds a row's draws to the grants.  What a draw moves the balance by is what
 * it says, but for a grant that is pending: that moves the balance when it is
 * activated.  Draws of what was held moved it when it was reserved.
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
			sum = verify_add(sum, entry->draws[i].amount);
			continue;
		}
		grant->drawn = verify_add(grant->drawn, entry->draws[i].amount);
		grant->empty = strcmp(entry->kind, KIND_VOID) == 0 ? GRANT_VOIDED :
			strcmp(entry->kind, KIND_EXPIRATION) == 0 ? GRANT_EXPIRED :
			GRANT_USED;
		if (makes_grant(entry, grant))
		{
			grant->given = verify_add(grant->given, entry->draws[i].amount);
			grant->pending = entry->amount == 0;
		}
		/* what was claimed before it came into effect comes back after */
		if (strcmp(entry->kind, KIND_REINSTATEMENT) == 0 && entry->amount != 0)
			grant->pending = false;
		if (strcmp(entry->kind, KIND_ACTIVATION) == 0 && grant->pending)
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
 * Returns the terms that prolong a grant to its present expiry.
 */
static Jsonb *
expiry_of(const Grant *grant)
{
	StringInfoData json;

	initStringInfo(&json);
	grants_prolonged(&json, grant);
	return json_document(&json);
}

/*
 * Returns the part of a row's terms that is about one grant, or NULL.
 */
static Jsonb *
terms_of(const Entry *entry, int64 grant_id)
{
	return terms_part(entry, psprintf(INT64_FORMAT, grant_id));
}

/*
 * Checks or notes the terms that a row gives to its grants.
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

		if (grant == NULL)
			continue;
		if (makes_grant(entry, grant))
		{
			verify_expect(v, entry->id, "grants",
						  psprintf("transaction_id of grant " INT64_FORMAT, grant->id),
						  grant->transaction_id, entry->id);
			if (!verify_same(grant->terms, terms_of(entry, grant->id)))
				verify_report(v, entry->id, "terms",
							  psprintf("terms of grant " INT64_FORMAT " are not those it was given on",
									   grant->id));
		}
		else if (entry->terms)
		{
			/* a refund need not prolong all the grants it gives back to */
			old = MemoryContextSwitchTo(v->context);
			terms = terms_of(entry, grant->id);
			if (terms)
				grant->logged_expiry = terms;
			MemoryContextSwitchTo(old);
		}
	}
}

/*
 * Returns what a transaction took that a refund or a reversal may give back.
 */
static int64
taken_by(const Entry *entry, const char *back)
{
	if (strcmp(back, KIND_REVERSAL) == 0)
		return strcmp(entry->kind, KIND_TRANSFER) == 0 ? -entry->amount : 0;
	if (strcmp(entry->kind, KIND_DEDUCTION) == 0)
		return -entry->amount;
	if (strcmp(entry->kind, KIND_CAPTURE) == 0)
		return -entry->held;
	return 0;
}

/*
 * Checks that a refund is of a spend of the account, or a reversal of a
 * transfer, and that with those before it no more than was taken went back.
 */
static void
check_refund(Verification *v, const Entry *refund)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	Entry		target;
	int64		refunded = 0;
	int64		taken;

	if (!refund->has_target ||
		!row_find_entry(NULL, GetActiveSnapshot(), refund->target_id,
						&target) ||
		target.account_id != refund->account_id ||
		(taken = taken_by(&target, refund->kind)) == 0)
	{
		verify_report(v, refund->id, "refund",
					  strcmp(refund->kind, KIND_REVERSAL) == 0 ?
					  "is not of a transfer of the account" :
					  "is not of a spend of the account");
		return;
	}
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(target.id));
	store_scan(&scan, NULL, &transactions_by_target_id, GetActiveSnapshot(),
			   &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		other;

		row_read_entry(slot, &other);
		if (other.id <= refund->id && other.account_id == refund->account_id &&
			strcmp(other.kind, refund->kind) == 0)
			refunded = verify_add(refunded, other.amount);
	}
	store_scan_end(&scan);
	/* what a reversal takes from the receiver is as much less than nothing */
	if (taken < 0 ? refunded < taken : refunded > taken)
		verify_report(v, refund->id, "refund",
					  psprintf("gives back more than is left: " INT64_FORMAT " in all of " INT64_FORMAT,
							   refunded, taken));
}

/*
 * Reads the grants of an account.
 */
static HTAB *
read_grants(Verification *v, int64 account_id)
{
	HASHCTL		ctl = {0};
	HTAB	   *grants;

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(GrantCheck);
	ctl.hcxt = v->context;
	grants = hash_create("credits grants", 16, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	while (v->grant && owner_of(v->grant, Anum_grants_account_id) <= account_id)
	{
		Grant		grant;
		MemoryContext old = MemoryContextSwitchTo(v->row);

		row_read_grant(v->grant, &grant);
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
			check->status = grant.status;
			check->due_at = grant.status == GRANT_PENDING ?
				grant.effective_at : grant.expires_at;
			check->given = 0;
			check->drawn = 0;
			check->pending = false;
			check->empty = GRANT_USED;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
		v->grant = store_scan_next(&v->grants, ForwardScanDirection);
	}
	return grants;
}

/*
 * Checks each grant against its draws, and all against the balance.
 */
static void
check_grants(Verification *v, HTAB *grants, const Account *account)
{
	HASH_SEQ_STATUS status;
	GrantCheck *grant;
	int64		effective = 0;
	int64		granted = 0;

	hash_seq_init(&status, grants);
	while ((grant = hash_seq_search(&status)) != NULL)
	{
		bool		open = grant->status == GRANT_OPEN;
		bool		pending = grant->status == GRANT_PENDING;

		granted = verify_add(granted, grant->amount);
		if (open)
			effective = verify_add(effective, grant->remaining);
		verify_expect(v, 0, "grants",
					  psprintf("amount of grant " INT64_FORMAT, grant->id),
					  grant->amount, grant->given);
		verify_expect(v, 0, "grants",
					  psprintf("remaining of grant " INT64_FORMAT, grant->id),
					  grant->remaining, grant->drawn);
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
		if ((open || pending) && grant->due_at < account->due_at)
			verify_report(v, 0, "due",
						  psprintf("the clock changes grant " INT64_FORMAT " before the account's due_at",
								   grant->id));
	}
	verify_expect(v, 0, "grants", "sum of remaining of effective grants", effective,
				  account->balance);
	verify_expect(v, 0, "totals", "granted", account->granted, granted);
}

/*
 * Checks one transaction against what came before it, which is summed up in
 * an account of our own.
 */
static void
check_transaction(Verification *v, HTAB *grants, HTAB *holds, HTAB *debts,
				  const Entry *entry, Account *sum)
{
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	if (entry->salt ? entry->salt_len != SALT_BYTES :
		entry->reason || entry->metadata || entry->actor)
		verify_report(v, entry->id, "chain", "has free text without a salt");
	chain_hash(sum->head, sum->head_len, entry, hash);
	if (memcmp(hash, entry->hash, sizeof(hash)) != 0)
		verify_report(v, entry->id, "chain",
					  "hash does not match the row and the hash of the row before it");
	/* go on from the stored one: each break shows once */
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

	if (entry->id <= sum->last_transaction_id)
		verify_report(v, entry->id, "time", "id is not above the one before it");
	sum->last_transaction_id = entry->id;
	sum->last_at = entry->created_at;
	sum->transaction_count++;
	(void) totals_add(sum, entry);
	if (strcmp(entry->kind, KIND_PAUSE) == 0)
		sum->status = ACCOUNT_PAUSED;
	else if (strcmp(entry->kind, KIND_RESUME) == 0)
		sum->status = ACCOUNT_ACTIVE;
	else if (strcmp(entry->kind, KIND_CLOSE) == 0)
		sum->status = ACCOUNT_CLOSED;
	else if (strcmp(entry->kind, KIND_LIMITS) == 0)
		sum->limited = true;
	if (strcmp(entry->kind, KIND_REFUND) == 0 ||
		strcmp(entry->kind, KIND_REVERSAL) == 0)
		check_refund(v, entry);
	verify_held(v, holds, entry);
	verify_debt_entry(v, debts, entry, sum);
	verify_code(v, entry);
	verify_period(v, entry);
	verify_caps_entry(v->caps, entry);
	check_draws(v, grants, entry);
	check_terms(v, grants, entry);
}

/*
 * Checks an account's row against its log.
 */
static void
check_account(Verification *v, const Account *account, const Account *sum,
			  int64 total, int64 held)
{
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
	verify_expect(v, 0, "balance", "balance", account->balance, total);
	verify_expect(v, 0, "held", "held", account->held, held);
	verify_expect(v, 0, "debt", "debt", account->debt, sum->debt);
	verify_expect(v, 0, "totals", "spent", account->spent, sum->spent);
	verify_expect(v, 0, "totals", "refunded", account->refunded, sum->refunded);
	verify_expect(v, 0, "totals", "expired", account->expired, sum->expired);
}

/*
 * Reports what is wrong with limits.
 */
static void
check_limits(Verification *v, const Account *account)
{
	ListCell   *lc;

	foreach(lc, verify_caps_limits(v->caps, account))
		verify_report(v, 0, "limits", lfirst(lc));
}

/*
 * Reports what is wrong with members of pools.
 */
static void
check_members(Verification *v)
{
	List	   *problems;
	int64		pool_id;

	while ((problems = verify_caps_members(v->caps, &pool_id)) != NIL)
	{
		Account		pool;

		v->name = row_find_account(NULL, GetActiveSnapshot(), NULL, pool_id,
								   &pool) ?
			DatumGetTextPCopy(pool.values[Anum_accounts_name - 1]) : NULL;
		verify_report(v, 0, "members", linitial(problems));
	}
}

/*
 * Verifies the account in front, with its part of the log and the grants.
 */
static void
verify_account(Verification *v, const Account *account)
{
	Account		sum;
	HTAB	   *grants = read_grants(v, account->id);
	HTAB	   *holds = verify_make_holds(v);
	HTAB	   *debts = verify_make_debts(v);
	int64		total = 0;
	int64		held = 0;

	memset(&sum, 0, sizeof(sum));
	sum.last_at = DT_NOBEGIN;
	while (v->transaction &&
		   owner_of(v->transaction, Anum_transactions_account_id) <= account->id)
	{
		Entry		entry;
		MemoryContext old = MemoryContextSwitchTo(v->row);

		CHECK_FOR_INTERRUPTS();
		row_read_entry(v->transaction, &entry);
		if (entry.account_id < account->id)
			verify_orphan(v, entry.id,
						  psprintf("belongs to account " INT64_FORMAT ", which does not exist",
								   entry.account_id));
		else
		{
			total = verify_add(total, entry.amount);
			held = verify_add(held, entry.held);
			check_transaction(v, grants, holds, debts, &entry, &sum);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
		v->transaction = store_scan_next(&v->transactions,
										 ForwardScanDirection);
	}
	check_account(v, account, &sum, total, held);
	check_grants(v, grants, account);
	verify_open_holds(v, holds, account);
	verify_debts(v, debts, account);
	check_limits(v, account);
}

/*
 * Reports what is left after the last account.
 */
static void
verify_rest(Verification *v)
{
	Account		beyond;

	/* an id above all others: everything left is an orphan */
	beyond.id = PG_INT64_MAX;
	v->name = NULL;
	read_grants(v, beyond.id);
	while (v->transaction)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		verify_orphan(v,
					  DatumGetInt64(slot_getattr(v->transaction,
												 Anum_transactions_id,
												 &isnull)),
					  psprintf("belongs to account " INT64_FORMAT ", which does not exist",
							   owner_of(v->transaction,
										Anum_transactions_account_id)));
		v->transaction = store_scan_next(&v->transactions,
										 ForwardScanDirection);
	}
}

/*
 * Begins to read log and grants, of one account or of all.
 */
static void
begin_reading(Verification *v, ScanKey key, int nkeys)
{
	store_scan(&v->transactions, NULL, &transactions_by_account_id,
			   GetActiveSnapshot(), key, nkeys);
	v->transaction = store_scan_next(&v->transactions, ForwardScanDirection);
	store_scan(&v->grants, NULL, &grants_by_account_id, GetActiveSnapshot(),
			   key, nkeys);
	v->grant = store_scan_next(&v->grants, ForwardScanDirection);
}

/*
 * Verifies all accounts.
 */
static void
verify_all(Verification *v)
{
	StoreScan	accounts;
	TupleTableSlot *slot;

	begin_reading(v, NULL, 0);
	v->caps = verify_caps_begin(0);
	store_scan(&accounts, NULL, &accounts_by_id, GetActiveSnapshot(), NULL,
			   0);
	while ((slot = store_scan_next(&accounts, ForwardScanDirection)) != NULL)
	{
		Account		account;
		MemoryContext old = MemoryContextSwitchTo(v->context);

		row_read_account(slot, &account);
		v->name = DatumGetTextPCopy(account.values[Anum_accounts_name - 1]);
		verify_account(v, &account);
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->context);
	}
	store_scan_end(&accounts);
	check_members(v);
	verify_rest(v);
	verify_stray_holds(v);
	verify_all_codes(v);
}

/*
 * Verifies one account.
 */
static void
verify_one(Verification *v, text *name)
{
	Account		account;
	ScanKeyData key;

	ledger_find_account(GetActiveSnapshot(), name, &account);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account.id));
	begin_reading(v, &key, 1);
	v->caps = verify_caps_begin(account.id);
	v->name = name;
	verify_account(v, &account);
	check_members(v);
}

/*
 * Returns a row for each problem of an account's log, or of all.
 */
Datum
credits_verify(PG_FUNCTION_ARGS)
{
	Verification v = {0};
	text	   *name = PG_ARGISNULL(0) ? NULL : arg_account(fcinfo, 0);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	v.result = (ReturnSetInfo *) fcinfo->resultinfo;
	v.context = AllocSetContextCreate(CurrentMemoryContext, "credits account",
									  ALLOCSET_DEFAULT_SIZES);
	v.row = AllocSetContextCreate(CurrentMemoryContext, "credits row",
								  ALLOCSET_DEFAULT_SIZES);
	if (name)
		verify_one(&v, name);
	else
		verify_all(&v);
	store_scan_end(&v.transactions);
	store_scan_end(&v.grants);
	MemoryContextDelete(v.row);
	MemoryContextDelete(v.context);
	return (Datum) 0;
}

/*
 * Returns the sha256 over, for each account in order of id, its id, its number
 * of transactions and its head.
 */
Datum
credits_digest(PG_FUNCTION_ARGS)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	StoreScan	accounts;
	TupleTableSlot *slot;
	bool		ok = pg_cryptohash_init(ctx) >= 0;

	store_scan(&accounts, NULL, &accounts_by_id, GetActiveSnapshot(), NULL,
			   0);
	while (ok &&
		   (slot = store_scan_next(&accounts, ForwardScanDirection)) != NULL)
	{
		Account		account;
		uint64		numbers[2];

		CHECK_FOR_INTERRUPTS();
		row_read_account(slot, &account);
		numbers[0] = pg_hton64((uint64) account.id);
		numbers[1] = pg_hton64((uint64) account.transaction_count);
		ok = pg_cryptohash_update(ctx, (uint8 *) numbers,
								  sizeof(numbers)) >= 0 &&
			pg_cryptohash_update(ctx, account.head, account.head_len) >= 0;
	}
	store_scan_end(&accounts);
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
