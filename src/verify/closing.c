/*
 * closing.c
 *	  Closing the books of one account: proving its log, and making the anchor.
 *
 * The whole log of the account is read as credits_verify reads it, and a problem is an
 * error.  Where the closing ends, the state that reading has led to becomes the anchor.
 * The rest of the log tells what has to stay:
 *
 * - copies of rows: those of open holds, those that gave a grant that is open or pending
 *   or that a later row or an open hold draws on, those that a later row has as its
 *   target, and whatever these name in turn.  So a hold can be captured, and what is in
 *   the log can be proven, as if nothing were gone;
 * - grants: those that are open or pending, that a later row or an open hold draws on,
 *   or that a purchase, a period or a debt names.  All others are used up, and move to
 *   credits.archived_grants.
 *
 * Nothing is locked: rows do not change, and of a grant that is used up and named by
 * nothing, nobody can make anything again.
 */
#include "credits.h"

#include "store/statements.h"
#include "verify/verify.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The closing of the books of an account */
typedef struct Closure
{
	const Closing *closing;
	bool		reached;		/* has reading passed the closing? */
	bool		anchored;		/* is there an anchor to be made? */
	Anchor		anchor;
	List	   *parts;			/* of AnchorPart */
	HTAB	   *kept;			/* ids of rows to be copied */
	List	   *queue;			/* those whose own references are to be
								 * followed */
} Closure;

/* the grants among $2 that something other than the log refers to */
static SqlStatement referenced_grants = {
	"SELECT DISTINCT r.id FROM ("
	"SELECT unnest(p.grant_ids) AS id FROM credits.purchases AS p"
	" WHERE p.account_id = $1"
	" UNION ALL SELECT unnest(d.rolled_grant_ids || d.grace_grant_id)"
	" FROM credits.subscriptions AS s"
	" JOIN credits.periods AS d ON d.subscription_id = s.id"
	" WHERE s.account_id = $1"
	" UNION ALL SELECT d.grant_id FROM credits.debts AS d WHERE d.account_id = $1"
	" UNION ALL SELECT d.payers[i.n][1] FROM credits.debts AS d"
	" CROSS JOIN LATERAL generate_subscripts(d.payers, 1) AS i (n)"
	" WHERE d.account_id = $1"
	") AS r WHERE r.id = ANY ($2)",
	(const Oid[]) {INT8OID, INT8ARRAYOID, InvalidOid},
	.by_snapshot = true
};

static SqlStatement keep_row = {
	"INSERT INTO credits.carried_rows (id, until_id, previous, hash)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
	(const Oid[]) {INT8OID, INT8OID, BYTEAOID, BYTEAOID, InvalidOid}
};

/*
 * Raises an error: a problem was found while the books were being closed.
 */
void
verify_refuse_closing(Verification *v, int64 transaction_id,
					  const char *problem, const char *detail)
{
	const char *name = v->name ? text_to_cstring(v->name) : "";

	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the books of account \"%s\" cannot be closed", name),
			 transaction_id == 0 ? errdetail("Problem %s: %s.", problem, detail) :
			 errdetail("Problem %s at transaction " INT64_FORMAT ": %s.",
					   problem, transaction_id, detail),
			 errhint("Run credits_verify for the account, and see doc/verify.md.")));
}

/*
 * Has a row of the log copied, if the books are being closed over it.
 */
static void
keep(Closure *closure, int64 id)
{
	bool		found;

	if (id > closure->closing->until_id)
		return;
	(void) hash_search(closure->kept, &id, HASH_ENTER, &found);
	if (!found)
	{
		int64	   *copy = palloc(sizeof(int64));

		*copy = id;
		closure->queue = lappend(closure->queue, copy);
	}
}

/*
 * Notes that reading has come to a row, or to the end if it is NULL.  At the first that
 * the closing does not cover, the anchor is made.
 */
void
verify_reach(Verification *v, const Replay *replay, const Entry *entry)
{
	Closure    *closure = v->closure;
	MemoryContext old;

	if (entry && entry->id <= closure->closing->until_id)
		return;
	old = MemoryContextSwitchTo(v->context);
	if (!closure->reached)
	{
		closure->reached = true;
		/* are there rows since the last anchor? */
		closure->anchored = replay->sum.last_transaction_id >
			closure->anchor.transaction_id;
		if (closure->anchored)
			verify_take_anchor(v, replay, &closure->anchor, &closure->parts);
	}
	if (entry && entry->has_target)
		keep(closure, entry->target_id);
	MemoryContextSwitchTo(old);
}

/*
 * Returns the hash of the row before one, in the chain of its account: as an earlier
 * closing has noted it for a copy, of a row of the log, of the anchor before, or none.
 * A copy does not come right before a row that is none, but an anchor after it does.
 */
static int
previous_hash(const Closure *closure, const Entry *entry, uint8 *hash)
{
	Snapshot	snapshot = GetActiveSnapshot();
	CarriedRow	carried;
	Anchor		anchor;
	Entry		before;
	StoreScan	scan;
	bool		found = false;

	/* what a subscriber of logical replication still has may not be a copy */
	if (entry->id <= closure->closing->from_id &&
		anchors_find_carried(snapshot, entry->id, &carried))
	{
		memcpy(hash, carried.previous, carried.previous_len);
		return carried.previous_len;
	}
	if (!anchors_find_before(snapshot, entry->account_id, entry->id, &anchor))
		anchor.transaction_id = 0;
	scan_begin(&scan, NULL, &log_by_account_id, snapshot,
			   BY_INT64(entry->account_id), BY_TIME_UNTIL(entry->created_at));
	while (!found && scan_peek(&scan, BackwardScanDirection, &before) &&
		   before.id > anchor.transaction_id)
		found = before.id < entry->id;
	if (found)
		memcpy(hash, before.hash, sizeof(before.hash));
	scan_end(&scan);
	if (found)
		return sizeof(before.hash);
	if (anchor.transaction_id == 0)
		return 0;
	memcpy(hash, anchor.hash, sizeof(anchor.hash));
	return sizeof(anchor.hash);
}

/*
 * Records that a row is to be copied, its hash and that of the row before it.
 */
static void
note_copy(const Closure *closure, const Entry *entry)
{
	uint8		previous[PG_SHA256_DIGEST_LENGTH];
	int			len = previous_hash(closure, entry, previous);
	bytea	   *before = palloc(VARHDRSZ + len);
	bytea	   *hash = palloc(VARHDRSZ + sizeof(entry->hash));
	Datum		values[4];

	SET_VARSIZE(before, VARHDRSZ + len);
	memcpy(VARDATA(before), previous, len);
	SET_VARSIZE(hash, VARHDRSZ + sizeof(entry->hash));
	memcpy(VARDATA(hash), entry->hash, sizeof(entry->hash));
	values[0] = Int64GetDatum(entry->id);
	values[1] = Int64GetDatum(closure->closing->until_id);
	values[2] = PointerGetDatum(before);
	values[3] = PointerGetDatum(hash);
	(void) statements_run(&keep_row, values, NULL);
}

/*
 * Has the row copied that gave a grant, if something is left of it or may be given back
 * to it.  Of a grant that got credits back in another way, such as by a chargeback that
 * was won, the row may be gone; nothing that is kept needs it.
 */
static void
keep_giving(Closure *closure, const GrantCheck *given)
{
	Entry		entry;

	if (given->status != GRANT_OPEN && given->status != GRANT_PENDING &&
		given->last_id <= closure->closing->until_id)
		return;
	if (given->transaction_id > closure->closing->from_id ||
		rows_find_entry(NULL, GetActiveSnapshot(), given->transaction_id, &entry))
		keep(closure, given->transaction_id);
}

/*
 * Records the rows that are to be copied, from a place in the queue on, with those that
 * they name.  Grants that an open hold draws on are marked as in use.
 */
static void
note_queue(Verification *v, const Replay *replay, int from)
{
	Closure    *closure = v->closure;
	ListCell   *lc;

	/* the queue grows while it is worked on */
	for (int i = from; i < list_length(closure->queue); i++)
	{
		int64		id = *(int64 *) list_nth(closure->queue, i);
		Entry		entry;
		int			j;

		CHECK_FOR_INTERRUPTS();
		if (!rows_find_entry(NULL, GetActiveSnapshot(), id, &entry))
			verify_report(v, id, "orphan",
						  "is missing, but a row refers to it, or an open hold");
		note_copy(closure, &entry);
		if (entry.has_target)
			keep(closure, entry.target_id);
		foreach(lc, terms_ids(&entry, "parts"))
			keep(closure, *(int64 *) lfirst(lc));
		for (j = 0; j < entry.ndraws; j++)
		{
			GrantCheck *grant = hash_search(replay->grants,
											&entry.draws[j].grant_id,
											HASH_FIND, NULL);

			if (grant && entry.held > 0)
				grant->last_id = PG_INT64_MAX;
		}
	}
}

/*
 * Records the rows that are to be copied.
 */
static void
note_copies(Verification *v, const Replay *replay)
{
	Closure    *closure = v->closure;
	List	   *holds = NIL;
	HASH_SEQ_STATUS status;
	const GrantCheck *given;
	ListCell   *lc;
	int			noted;

	verify_hold_parts(replay->holds, &holds);
	foreach(lc, holds)
		keep(closure, ((AnchorPart *) lfirst(lc))->id);
	note_queue(v, replay, 0);
	noted = list_length(closure->queue);
	/* now it is known which grants are in use */
	hash_seq_init(&status, replay->grants);
	while ((given = hash_seq_search(&status)) != NULL)
		keep_giving(closure, given);
	note_queue(v, replay, noted);
}

/*
 * Returns which of some grants of an account are referred to.
 */
static SqlResult *
find_references(int64 account_id, const List *ids)
{
	Datum	   *elements = palloc(list_length(ids) * sizeof(Datum));
	Datum		values[2];
	int			n = 0;
	ListCell   *lc;

	foreach(lc, ids)
		elements[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	values[0] = Int64GetDatum(account_id);
	values[1] = PointerGetDatum(construct_array(elements, n, INT8OID,
												sizeof(int64),
												FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	return statements_run(&referenced_grants, values, NULL);
}

/*
 * Marks the grants that something other than the log refers to as in use.
 */
static void
mark_references(const Closure *closure, const Replay *replay)
{
	List	   *ids = NIL;
	ListCell   *lc;
	SqlResult  *found;
	uint64		i;

	foreach(lc, closure->parts)
	{
		AnchorPart *part = lfirst(lc);

		if (part->kind == PART_GRANT)
			ids = lappend(ids, &part->id);
	}
	if (ids == NIL)
		return;
	found = find_references(closure->anchor.account_id, ids);
	for (i = 0; i < found->nrows; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(statements_value(found, i, 1, &isnull));
		GrantCheck *grant = hash_search(replay->grants, &id, HASH_FIND, NULL);

		if (grant)
			grant->last_id = PG_INT64_MAX;
	}
}

/*
 * Moves a grant to the archived ones, if it is used up and nothing refers to it.
 * Returns whether it did.
 */
static bool
archive_grant(const Closure *closure, Store *store, const GrantCheck *check)
{
	Snapshot	snapshot = GetActiveSnapshot();
	Grant		grant;

	/* a period names its grants by their group */
	if (check == NULL || check->group_id != 0 || check->status == GRANT_OPEN ||
		check->status == GRANT_PENDING ||
		check->last_id > closure->closing->until_id)
		return false;
	if (!rows_find_grant(store, snapshot, check->id, &grant))
		return false;
	store_delete(store, &grants_table, snapshot, &grant);
	ItemPointerSetInvalid(&grant.tid);
	store_insert(store, &archived_grants_table, &grant);
	return true;
}

/*
 * Writes the anchor with its parts, and moves the grants that are not among them.
 */
static void
write_anchor(Closure *closure, const Replay *replay)
{
	Store	   *store = store_open();
	int			number = 0;
	ListCell   *lc;

	store_begin_changes(store);
	foreach(lc, closure->parts)
	{
		AnchorPart *part = lfirst(lc);
		const GrantCheck *grant = part->kind == PART_GRANT ?
			hash_search(replay->grants, &part->id, HASH_FIND, NULL) : NULL;

		CHECK_FOR_INTERRUPTS();
		if (archive_grant(closure, store, grant))
		{
			closure->anchor.granted = verify_add(closure->anchor.granted,
												 grant->amount);
			continue;
		}
		part->account_id = closure->anchor.account_id;
		part->transaction_id = closure->anchor.transaction_id;
		part->number = ++number;
		store_insert(store, &anchor_parts_table, part);
	}
	store_insert(store, &anchors_table, &closure->anchor);
	store_end_changes(store);
	store_close(store);
}

/*
 * Closes the books of an account whose log has been read to the end.
 */
void
verify_close(Verification *v, const Replay *replay, const Account *account)
{
	Closure    *closure = v->closure;

	note_copies(v, replay);
	if (!closure->anchored)
		return;
	mark_references(closure, replay);
	closure->anchor.account_id = account->id;
	closure->anchor.until_id = closure->closing->until_id;
	write_anchor(closure, replay);
}

/*
 * Proves the log of an account, and closes its books: makes its anchor, records which
 * rows are to be copied, and archives grants.
 */
void
verify_close_account(int64 account_id, const Closing *closing)
{
	Closure		closure = {.closing = closing};
	Verification v = {.closure = &closure};
	Account		account;
	HASHCTL		ctl = {0};
	Anchor		anchor = {.transaction_id = 0};

	if (!rows_find_account(NULL, GetActiveSnapshot(), NULL, account_id, &account))
		return;
	/* done by a run that was interrupted */
	if (anchors_find(GetActiveSnapshot(), account_id, &anchor) &&
		anchor.until_id == closing->until_id)
		return;
	v.context = AllocSetContextCreate(CurrentMemoryContext, "credits account",
									  ALLOCSET_DEFAULT_SIZES);
	v.row = AllocSetContextCreate(CurrentMemoryContext, "credits row",
								  ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = ctl.entrysize = sizeof(int64);
	ctl.hcxt = v.context;
	closure.kept = hash_create("credits kept rows", 16, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	closure.anchor.account_id = account_id;
	closure.anchor.transaction_id = anchor.transaction_id;
	v.name = account.name;
	verify_begin(&v, &BY_INT64(account_id), 1);
	v.caps = verify_caps_begin(account_id);
	verify_caps_keep_uses(v.caps);
	verify_account_by(&v, &account);
	verify_end(&v);
	MemoryContextDelete(v.row);
	MemoryContextDelete(v.context);
}
