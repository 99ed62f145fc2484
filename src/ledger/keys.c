/*
 * keys.c
 *	  Looking up idempotency keys: in which partitions of the log, and for how
 *	  long.
 *
 * Each partition has a unique index on the digests of its keys, and none covers all
 * of them.  What
 * makes a key unique is the row of the account whose key it is: whoever uses a key
 * updates that row, also if a pool pays, and looks for the key in a snapshot that
 * the update proves to be the latest.
 *
 * With credits.key_retention, a key is promised for that long, and partitions that
 * were full before are not searched.  No row says when a partition was full, but the
 * first request in a later one does: whatever has a lower id was drawn before.  The
 * partition that the new row goes to is always searched, so the key cannot meet its
 * like there.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "ledger/keys.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a row has the time at which its request began, which may be a while before its id */
#define SLACK USECS_PER_HOUR

/* how many rows of a partition are read to find one with a key */
#define MAX_TRIES 1000

/*
 * When the partitions were first used: DT_NOBEGIN if that has not been looked up,
 * DT_NOEND if it is not known.
 */
static TimestampTz *first_used = NULL;
static int	nfirst_used = 0;
static uint64 first_used_generation = 0;

/*
 * Returns the time of the first request in a partition, DT_NOEND if it has none
 * among its first rows.
 */
static TimestampTz
read_first_use(Store *store, Snapshot snapshot, Leaf leaf)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits first use",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	StoreScan	scan;
	Entry		entry;
	TimestampTz at = DT_NOEND;
	int			i;

	scan_begin_ids(&scan, store, &log_by_id, snapshot, leaf.from,
				   leaf.from, BY_INT64_ABOVE(leaf.from - 1));
	for (i = 0; i < MAX_TRIES && at == DT_NOEND &&
		 scan_peek(&scan, ForwardScanDirection, &entry); i++)
		if (entry.key)
			at = entry.created_at;
	scan_end(&scan);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return at;
}

/*
 * Returns when a partition, given by its place in the list, was first used.
 */
static TimestampTz
first_use_of(Store *store, Snapshot snapshot, const Leaf *leaves, int n, int i,
			 int64 newest)
{
	if (first_used_generation != tables_generation() || nfirst_used != n)
	{
		int			j;

		if (first_used)
			pfree(first_used);
		first_used = MemoryContextAlloc(TopMemoryContext,
										n * sizeof(TimestampTz));
		for (j = 0; j < n; j++)
			first_used[j] = DT_NOBEGIN;
		nfirst_used = n;
		first_used_generation = tables_generation();
	}
	if (first_used[i] == DT_NOBEGIN)
	{
		TimestampTz at = read_first_use(store, snapshot, leaves[i]);

		/*
		 * Reading it may have processed an invalidation.  A partition that is
		 * in use may yet get its first request.
		 */
		if (first_used_generation == tables_generation() &&
			(at != DT_NOEND || leaves[i].until <= newest))
			first_used[i] = at;
		return at;
	}
	return first_used[i];
}

/*
 * Returns the lowest id that a key may have that is still promised.
 */
static int64
oldest_promised(Store *store, Snapshot snapshot, int64 newest)
{
	Interval   *retention = clock_key_retention();
	TimestampTz since;
	const Leaf *leaves;
	int			n;
	int			n_now;
	int			i;

	if (retention == NULL)
		return PG_INT64_MIN;
	since = clock_before(clock_now(), retention) - SLACK;
	leaves = leaves_list(&log_table, &n);
	for (i = n - 1; i > 0; i--)
	{
		int64		from = leaves[i].from;

		if (from > newest)
			continue;
		if (first_use_of(store, snapshot, leaves, n, i, newest) < since)
			return from;
		/* it may have had to read, and the list with it */
		leaves = leaves_list(&log_table, &n_now);
		if (n_now != n)
			return PG_INT64_MIN;
	}
	return PG_INT64_MIN;
}

/*
 * Finds a transaction by its idempotency key and the account to which the key
 * belongs.  That is the account that spends, even if a pool pays.
 */
bool
keys_find(Store *store, Snapshot snapshot, int64 account_id, text *key,
		  Entry *entry)
{
	int64		from = PG_INT64_MIN;
	int64		to = PG_INT64_MAX;
	StoreScan	scan;
	bool		found;
	int			n;

	(void) leaves_list(&log_table, &n);
	if (n > 1)
	{
		/* partitions that were made ahead have no rows yet */
		to = store_newest_id(&log_table);
		from = oldest_promised(store, snapshot, to);
	}
	scan_begin_ids(&scan, store, &log_by_key, snapshot, from, to,
				   BY_INT64(account_id), BY_INT64(chain_key_digest(key)));
	found = scan_read(&scan, BackwardScanDirection, entry);
	scan_end(&scan);
	if (found && (entry->key == NULL || !same_text(entry->key, key)))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("idempotency key \"%s\" cannot be used",
						text_to_cstring(key)),
				 errdetail("It has the same digest as the key of transaction " INT64_FORMAT ".",
						   entry->id),
				 errhint("Use another key.")));
	return found;
}
