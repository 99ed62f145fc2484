/*
 * archived.c
 *	  credits_verify: rows that have left the log, and are still in the database.
 *
 * They were proven when the books were closed over them.  What can be told since is
 * whether they are still what they were: each row's hash continues that of the row
 * before it, and comes to the anchors.  Rows and anchors are read in order of account
 * and id and merged, so each is read once, and only one of each is in memory.
 *
 * Partitions can be dropped in any order.  Where rows between two may be gone with
 * their partition, the chain begins anew with the second one.
 *
 * Tested in test/t/archive.pl and test/t/archive_random.pl.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "verify/verify.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* How far the rows of an account have been read */
typedef struct Trail
{
	Verification *v;
	MemoryContext context;		/* of the name of the account */
	Leaf	   *leaves;			/* partitions that have left the log */
	int			nleaves;
	int64		account_id;		/* 0 before the first */
	bool		exists;
	int64		id;				/* of the last row or anchor, 0 if none */
	bool		anchored;		/* is there an anchor at it, or nothing? */
	int64		count;			/* of rows up to it, -1 if that is not known */
	int64		balance;
	int64		held;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
	int			hash_len;
} Trail;

static StoreIndex rows_by_account = {
	&archived_log_table, NULL, {"account_id", "created_at", "id"}
};

static StoreIndex anchors_by_account = {
	&anchors_table, "anchors_pkey", {"account_id", "transaction_id"},.unique = true
};

/*
 * Returns whether the partitions that have these ids are all there.
 */
static bool
is_whole(const Trail *trail, int64 from, int64 until)
{
	int			i;

	for (i = 0; i < trail->nleaves && from <= until; i++)
		if (!trail->leaves[i].rest && trail->leaves[i].from <= from)
			from = Max(from, trail->leaves[i].until);
	return from > until;
}

/*
 * Reports the last row of an account, if no anchor follows.
 */
static void
end_trail(Trail *trail)
{
	if (trail->account_id != 0 && trail->exists && !trail->anchored)
		verify_report(trail->v, trail->id, "orphan",
					  "has left the log, but no anchor covers it");
}

/*
 * Begins with the rows and anchors of an account.
 */
static void
begin_trail(Trail *trail, int64 account_id)
{
	Verification *v = trail->v;
	Account		account;

	if (account_id == trail->account_id)
		return;
	end_trail(trail);
	trail->account_id = account_id;
	trail->id = trail->count = trail->balance = trail->held = 0;
	trail->hash_len = 0;
	trail->anchored = true;
	if (v->name)
		pfree(v->name);
	v->name = NULL;
	trail->exists = rows_find_account(NULL, GetActiveSnapshot(), NULL, account_id,
									  &account);
	if (trail->exists)
	{
		MemoryContext old = MemoryContextSwitchTo(trail->context);

		v->name = DatumGetTextPCopy(PointerGetDatum(account.name));
		MemoryContextSwitchTo(old);
	}
}

/*
 * Checks a row against the one before it, or the anchor.
 */
static void
take_row(Trail *trail, const Entry *entry)
{
	Verification *v = trail->v;
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	if (!trail->exists)
	{
		verify_orphan(v, entry->id,
					  psprintf("belongs to account " INT64_FORMAT ", which does not exist",
							   entry->account_id));
		return;
	}
	chain_hash(trail->hash, trail->hash_len, entry, hash);
	if (entry->id <= trail->id)
		verify_report(v, entry->id, "time", "id is not above the one before it");
	if (memcmp(hash, entry->hash, sizeof(hash)) == 0 ||
		is_whole(trail, trail->id + 1, entry->id - 1))
	{
		if (memcmp(hash, entry->hash, sizeof(hash)) != 0)
			verify_report(v, entry->id, "chain",
						  "hash does not match the archived row and the hash of the row before it");
		verify_expect(v, entry->id, "running_balance", "balance_after",
					  entry->balance_after, verify_add(trail->balance, entry->amount));
		verify_expect(v, entry->id, "running_balance", "held_after",
					  entry->held_after, verify_add(trail->held, entry->held));
		if (trail->count >= 0)
			trail->count++;
	}
	else
		trail->count = -1;
	trail->id = entry->id;
	trail->anchored = false;
	trail->balance = entry->balance_after;
	trail->held = entry->held_after;
	memcpy(trail->hash, entry->hash, sizeof(trail->hash));
	trail->hash_len = sizeof(trail->hash);
}

/*
 * Compares an anchor with the row that it was made at, if that is still there, and goes
 * on from the anchor.
 */
static void
take_anchor(Trail *trail, const Anchor *anchor)
{
	Verification *v = trail->v;
	int64		id = anchor->transaction_id;

	if (trail->id == id)
	{
		if (memcmp(trail->hash, anchor->hash, sizeof(trail->hash)) != 0)
			verify_report(v, id, "chain", "hash is not that of the anchor");
		verify_expect(v, id, "running_balance", "balance_after", trail->balance,
					  anchor->balance);
		verify_expect(v, id, "running_balance", "held_after", trail->held,
					  anchor->held);
		if (trail->count >= 0)
			verify_expect(v, id, "count", "number in the chain", trail->count,
						  anchor->transaction_count);
	}
	else if (is_whole(trail, id, id))
		verify_report(v, id, "orphan", "has an anchor, but is not in its partition");
	trail->id = id;
	trail->anchored = true;
	trail->count = anchor->transaction_count;
	trail->balance = anchor->balance;
	trail->held = anchor->held;
	memcpy(trail->hash, anchor->hash, sizeof(trail->hash));
	trail->hash_len = sizeof(trail->hash);
}

/*
 * Reads the next row in a context that is reset before.  Returns false at the end.
 */
static bool
read_next(StoreScan *scan, MemoryContext context, void *row)
{
	MemoryContext old;
	bool		found;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(context);
	old = MemoryContextSwitchTo(context);
	found = scan_peek(scan, ForwardScanDirection, row);
	MemoryContextSwitchTo(old);
	return found;
}

/*
 * Copies the list of partitions that have left the log.
 */
static void
list_leaves(Trail *trail)
{
	const Leaf *leaves = leaves_list(&archived_log_table, &trail->nleaves);

	trail->leaves = palloc(trail->nleaves * sizeof(Leaf));
	memcpy(trail->leaves, leaves, trail->nleaves * sizeof(Leaf));
}

/*
 * Checks the rows of an account that have left the log, or of all accounts if the id
 * is 0, as far as they are still there.
 */
void
verify_archived(Verification *v, int64 account_id)
{
	const ScanBy by = BY_INT64(account_id);
	Trail	   *trail = palloc0(sizeof(Trail));
	MemoryContext old = CurrentMemoryContext;
	Closing		closing;
	int64		left_until = 0;
	StoreScan	rows;
	StoreScan	anchors;
	Entry		entry;
	Anchor		anchor;
	bool		is_row;
	bool		is_anchor;

	if (anchors_last_closing(GetActiveSnapshot(), &closing))
		left_until = closing.ended ? closing.until_id : closing.from_id;
	trail->v = v;
	trail->context = old;
	v->name = NULL;
	list_leaves(trail);
	scan_begin_by(&rows, NULL, &rows_by_account, GetActiveSnapshot(), &by,
				  account_id != 0);
	scan_begin_by(&anchors, NULL, &anchors_by_account, GetActiveSnapshot(), &by,
				  account_id != 0);
	is_row = read_next(&rows, v->row, &entry);
	is_anchor = read_next(&anchors, v->context, &anchor);
	while (is_row || is_anchor)
	{
		/* a row comes before the anchor that is made at it */
		if (is_row && (!is_anchor || entry.account_id < anchor.account_id ||
					   (entry.account_id == anchor.account_id &&
						entry.id <= anchor.transaction_id)))
		{
			MemoryContextSwitchTo(v->row);
			begin_trail(trail, entry.account_id);
			take_row(trail, &entry);
			is_row = read_next(&rows, v->row, &entry);
		}
		else
		{
			MemoryContextSwitchTo(v->context);
			begin_trail(trail, anchor.account_id);
			if (anchor.until_id <= left_until)
				take_anchor(trail, &anchor);
			is_anchor = read_next(&anchors, v->context, &anchor);
		}
	}
	MemoryContextSwitchTo(old);
	end_trail(trail);
	scan_end(&rows);
	scan_end(&anchors);
}
