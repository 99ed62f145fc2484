/*
 * anchors.c
 *	  Anchors: the state of accounts where the books were closed.
 *
 * credits_archive, in verify/archive.c, closes the books up to an id of the log, and
 * makes an anchor for each account that has rows up to it.  The rows then leave the
 * log, except for copies of those that something refers to.  So whoever does not find
 * a row asks here whether it is archived.
 */
#include "credits.h"

#include "ledger/anchors.h"
#include "store/statements.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* ------------------------------------------------------------------------
 * descriptions
 */

static const StoreColumn anchor_columns[] = {
	COLUMN_INT64(Anchor, account_id),
	COLUMN_INT64(Anchor, transaction_id),
	COLUMN_INT64(Anchor, until_id),
	COLUMN_INT64(Anchor, transaction_count),
	COLUMN_TIME(Anchor, created_at),
	COLUMN_ENUM(Anchor, status, account_status_names),
	COLUMN_INT64(Anchor, balance),
	COLUMN_INT64(Anchor, held),
	COLUMN_INT64(Anchor, debt),
	COLUMN_INT64(Anchor, granted),
	COLUMN_INT64(Anchor, spent),
	COLUMN_INT64(Anchor, refunded),
	COLUMN_INT64(Anchor, expired),
	COLUMN_INT64(Anchor, opening_id),
	COLUMN_INT64(Anchor, opening_amount),
	COLUMN_JSONB(Anchor, limits, NULL_IF_ZERO),
	COLUMN_DIGEST(Anchor, hash)
};

StoreTable	anchors_table = {
	.name = "anchors",
	ROWS_OF(Anchor, anchor_columns)
};

static StoreIndex anchors_by_account = {
	&anchors_table, "anchors_pkey", {"account_id", "transaction_id"},.unique = true
};

static const char *const anchor_part_names[] = {
	"grant", "hold", "debt", "member", "use"
};

static const StoreColumn anchor_part_columns[] = {
	COLUMN_INT64(AnchorPart, account_id),
	COLUMN_INT64(AnchorPart, transaction_id),
	COLUMN_INT32(AnchorPart, number),
	COLUMN_ENUM(AnchorPart, kind, anchor_part_names),
	COLUMN_INT64(AnchorPart, id),
	COLUMN_JSONB(AnchorPart, state)
};

StoreTable	anchor_parts_table = {
	.name = "anchor_parts",
	ROWS_OF(AnchorPart, anchor_part_columns)
};

StoreIndex	anchor_parts_by_anchor = {
	&anchor_parts_table, "anchor_parts_pkey",
	{"account_id", "transaction_id", "number"},.unique = true
};

static const StoreColumn carried_row_columns[] = {
	COLUMN_INT64(CarriedRow, id),
	COLUMN_INT64(CarriedRow, until_id),
	COLUMN_DIGEST(CarriedRow, previous, COUNTED(CarriedRow, previous_len)),
	COLUMN_DIGEST(CarriedRow, hash)
};

StoreTable	carried_rows_table = {
	.name = "carried_rows",
	ROWS_OF(CarriedRow, carried_row_columns)
};

StoreIndex	carried_rows_by_id = {
	&carried_rows_table, "carried_rows_pkey", {"id", "until_id"},.unique = true
};

static const StoreColumn closing_columns[] = {
	COLUMN_INT64(Closing, until_id),
	COLUMN_INT64(Closing, from_id),
	COLUMN_TIME(Closing, before),
	COLUMN_TIME(Closing, begun_at),
	COLUMN_INT64(Closing, done_account_id),
	COLUMN_TIME(Closing, ended_at, NULL_UNLESS(Closing, ended))
};

static StoreTable archives_table = {
	.name = "archives",
	ROWS_OF(Closing, closing_columns)
};

static StoreIndex archives_by_id = {
	&archives_table, "archives_pkey", {"until_id"},.unique = true
};

static SqlStatement share_closing = {
	"SELECT FROM credits.archives AS a WHERE a.until_id = $1"
	" AND a.ended_at IS NULL FOR KEY SHARE",
	(const Oid[]) {INT8OID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * finding
 */

/*
 * Reads the last row with these keys; returns false if there is none.
 */
static bool
find_last(StoreIndex *index, Snapshot snapshot, void *row, const ScanBy *by,
		  int n)
{
	StoreScan	scan;
	bool		found;

	scan_begin_by(&scan, NULL, index, snapshot, by, n);
	found = scan_read(&scan, BackwardScanDirection, row);
	scan_end(&scan);
	return found;
}

/*
 * Finds the newest anchor of an account.
 */
bool
anchors_find(Snapshot snapshot, int64 account_id, Anchor *anchor)
{
	return find_last(&anchors_by_account, snapshot, anchor,
					 &BY_INT64(account_id), 1);
}

/*
 * Finds the newest anchor of an account whose rows have left the log.
 */
bool
anchors_find_left(Snapshot snapshot, int64 account_id, Anchor *anchor)
{
	Closing		closing;
	bool		found;

	if (!anchors_last_closing(snapshot, &closing))
		return false;
	found = anchors_find(snapshot, account_id, anchor);
	if (found && !closing.ended && anchor->until_id == closing.until_id)
		found = anchors_find_before(snapshot, account_id,
									anchor->transaction_id, anchor);
	return found;
}

/*
 * Finds the newest anchor of an account before a row.
 */
bool
anchors_find_before(Snapshot snapshot, int64 account_id, int64 id,
					Anchor *anchor)
{
	const ScanBy by[] = {
		BY_INT64(account_id),
		{INT8OID, BTLessStrategyNumber, Int64GetDatum(id)}
	};

	return find_last(&anchors_by_account, snapshot, anchor, by, lengthof(by));
}

/*
 * Finds what the newest closing that carries a row over says about it.
 */
bool
anchors_find_carried(Snapshot snapshot, int64 id, CarriedRow *carried)
{
	return find_last(&carried_rows_by_id, snapshot, carried, &BY_INT64(id), 1);
}

/*
 * Finds the newest closing of the books, which may not have ended yet.
 */
bool
anchors_last_closing(Snapshot snapshot, Closing *closing)
{
	return find_last(&archives_by_id, snapshot, closing, NULL, 0);
}

/*
 * Keeps a closing that is under way from copying rows until the transaction ends, and
 * waits if it is copying some now.  Returns whether there is one.
 */
bool
anchors_lock_closing(Closing *closing)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	bool		found = anchors_last_closing(latest, closing);
	Closing		seen;
	Datum		value;

	UnregisterSnapshot(latest);
	if (!found)
		return false;
	/* what was copied since the transaction's snapshot is not visible in it */
	if (IsolationUsesXactSnapshot() &&
		(!anchors_last_closing(GetTransactionSnapshot(), &seen) ||
		 seen.until_id != closing->until_id || seen.ended != closing->ended))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The books have been closed since the transaction's snapshot."),
				 errhint("Retry the transaction.")));
	if (closing->ended)
		return false;
	value = Int64GetDatum(closing->until_id);
	return statements_run(&share_closing, &value, NULL)->nrows > 0;
}

/*
 * Returns the name of the partition with the copies of rows that a closing keeps.
 */
char *
anchors_copies_table(int64 until_id)
{
	return psprintf(COPIES_TABLE INT64_FORMAT, until_id);
}

/*
 * Returns up to which id rows have left this log, 0 if none have.  On a subscriber of
 * logical replication they are all there, whatever the publisher has archived: it has no
 * partition with copies.
 */
int64
anchors_left_until(Snapshot snapshot)
{
	Closing		closing;
	int64		until_id;

	if (!anchors_last_closing(snapshot, &closing))
		return 0;
	until_id = closing.ended ? closing.until_id : closing.from_id;
	return OidIsValid(get_relname_relid(anchors_copies_table(until_id),
										get_namespace_oid("credits", false))) ?
		until_id : 0;
}

/*
 * Refuses what would need a row over which the books are closed, or are being closed.
 * Returns true if they are not.  That is so even if the snapshot of the transaction is
 * from before the closing, since the books are not closed again for its changes.
 */
bool
anchors_refuse_archived(int64 id, Refusal *refusal)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	Closing		closing;
	bool		closed = anchors_last_closing(latest, &closing) && id <= closing.until_id;

	UnregisterSnapshot(latest);
	if (!closed)
		return true;
	return refuse(refusal, ERRCODE_GONE,
				  psprintf("transaction " INT64_FORMAT " is archived", id),
				  psprintf("The books are closed up to transaction " INT64_FORMAT ".",
						   closing.until_id),
				  "What it was is in credits.archived_transactions, unless its partition was dropped. Correct a balance with credits_adjust.");
}

/*
 * Raises an error if the books are closed, or are being closed, over a row.
 */
void
anchors_check(int64 id)
{
	Refusal		refusal;

	if (!anchors_refuse_archived(id, &refusal))
		raise_refusal(&refusal);
}
