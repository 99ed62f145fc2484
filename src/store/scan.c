/*
 * scan.c
 *	  Index scans.
 *
 * A scan is given values for the first keys of an index.  The operators are
 * those of the default B-tree operator class of the key's type; opening the
 * index has checked that it uses that class.
 */
#include "credits.h"

#include "store/internals.h"
#include "store/scan.h"

#include "access/skey.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Returns the function of a B-tree operator on a type.
 */
static RegProcedure
procedure_of(Oid type, StrategyNumber strategy)
{
	static const RegProcedure int8[] = {
		F_INT8LT, F_INT8LE, F_INT8EQ, F_INT8GE, F_INT8GT
	};
	static const RegProcedure int4[] = {
		F_INT4LT, F_INT4LE, F_INT4EQ, F_INT4GE, F_INT4GT
	};
	static const RegProcedure timestamptz[] = {
		F_TIMESTAMPTZ_LT, F_TIMESTAMPTZ_LE, F_TIMESTAMPTZ_EQ,
		F_TIMESTAMPTZ_GE, F_TIMESTAMPTZ_GT
	};
	static const RegProcedure xid8[] = {
		F_XID8LT, F_XID8LE, F_XID8EQ, F_XID8GE, F_XID8GT
	};
	static const RegProcedure text[] = {
		F_TEXT_LT, F_TEXT_LE, F_TEXTEQ, F_TEXT_GE, F_TEXT_GT
	};

	return (type == INT8OID ? int8 : type == INT4OID ? int4 :
			type == TIMESTAMPTZOID ? timestamptz :
			type == XID8OID ? xid8 : text)[strategy - 1];
}

/*
 * Keeps a snapshot for a scan.
 *
 * GetLatestSnapshot returns static memory: without registration, the next
 * snapshot that is taken while the scan lasts would overwrite this one.
 */
static Snapshot
keep_snapshot(StoreScan *scan, Snapshot snapshot)
{
	scan->snapshot = NULL;
	if (snapshot->active_count == 0 && snapshot->regd_count == 0)
		snapshot = scan->snapshot = RegisterSnapshot(snapshot);
	return snapshot;
}

/*
 * Opens table and index for a scan.  Without a Store, the scan opens the table
 * itself, for reading only.
 */
static void
open_scan(StoreScan *scan, Store *store, StoreIndex *index, Snapshot snapshot,
		  int nkeys)
{
	LOCKMODE	mode = store ? RowExclusiveLock : AccessShareLock;

	scan->table = index->table;
	scan->ntodo = 0;
	scan->part = NULL;
	scan->last_is_open = false;
	scan->nparts = 0;
	scan->heap_is_ours = scan->slot_is_ours = store == NULL;
	if (store)
	{
		Table	   *table = store_table(store, index->table);

		scan->heap = table->rel;
		scan->slot = table->scan_slot;
	}
	else
	{
		scan->heap = tables_open(index->table, mode);
		scan->slot = table_slot_create(scan->heap, NULL);
	}
	scan->index = tables_open_index(index, mode);
	snapshot = keep_snapshot(scan, snapshot);
	scan->scan = index_beginscan_compat(scan->heap, scan->index, snapshot,
										nkeys);
	scan->context = CurrentMemoryContext;
}

/*
 * Passes values for the first n keys of the index to an opened scan.
 */
static void
set_keys(StoreScan *scan, StoreIndex *index, const ScanBy *by, int n)
{
	ScanKeyData keys[MAX_INDEX_KEYS];
	int			i;

	for (i = 0; i < n; i++)
	{
		if (i >= index->nkeys || index->types[i] != by[i].type)
			elog(ERROR, "index \"%s\" has no such key",
				 RelationGetRelationName(scan->index));
		if (by[i].strategy == InvalidStrategy)
			ScanKeyEntryInitialize(&keys[i], SK_ISNULL | SK_SEARCHNULL, i + 1,
								   InvalidStrategy, InvalidOid, InvalidOid,
								   InvalidOid, (Datum) 0);
		else
			ScanKeyEntryInitialize(&keys[i], 0, i + 1, by[i].strategy,
								   InvalidOid, by[i].type == TEXTOID ?
								   C_COLLATION_OID : InvalidOid,
								   procedure_of(by[i].type, by[i].strategy),
								   by[i].value);
	}
	index_rescan(scan->scan, keys, n, NULL, 0);
}

/*
 * Opens a partition for a scan.  Returns false if it has been dropped.
 */
static bool
open_leaf(StoreScan *scan, LeafPart *part)
{
	Oid			oid = part->oid;
	LOCKMODE	mode = scan->store ? RowExclusiveLock : AccessShareLock;
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	scan->heap = NULL;
	scan->part = part->only ? NULL : part;
	scan->heap_is_ours = scan->slot_is_ours = scan->store == NULL;
	if (scan->store)
	{
		Table	   *table = store_leaf(scan->store, scan->table, oid);

		if (table)
		{
			scan->heap = table->rel;
			scan->slot = table->scan_slot;
		}
	}
	else if ((scan->heap = leaves_try_open(scan->table, oid, mode)) != NULL)
		scan->slot = table_slot_create(scan->heap, NULL);
	if (scan->heap)
	{
		scan->index = leaves_open_index(scan->by_index, scan->heap, mode);
		scan->scan = index_beginscan_compat(scan->heap, scan->index,
											scan->by_snapshot, scan->nby);
		set_keys(scan, scan->by_index, scan->by, scan->nby);
	}
	MemoryContextSwitchTo(old);
	return scan->heap != NULL;
}

/*
 * Closes the table and the index of a scan.  Locks are kept until the end of the
 * transaction.
 */
static void
close_scan(StoreScan *scan)
{
	if (scan->heap == NULL)
		return;
	index_endscan(scan->scan);
	index_close(scan->index, NoLock);
	if (scan->slot_is_ours)
		ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->heap_is_ours)
		table_close(scan->heap, NoLock);
	scan->heap = NULL;
}

/*
 * Opens all partitions of a scan, whose rows are merged in order of the first key
 * of the index.
 */
static void
open_parts(StoreScan *scan)
{
	int			i;

	/* of the default partition there may be several parts: each needs a slot */
	Assert(scan->store == NULL);
	close_scan(scan);
	scan->last_is_open = false;
	scan->parts = palloc0(scan->ntodo * sizeof(StoreScan));
	for (i = 0; i < scan->ntodo; i++)
	{
		StoreScan  *part = &scan->parts[scan->nparts];

		*part = *scan;
		part->parts = NULL;
		part->nparts = 0;
		part->ntodo = 0;
		if (open_leaf(part, &scan->todo[i]) &&
			scan_next(part, ForwardScanDirection) != NULL)
			scan->nparts++;
		else
			close_scan(part);
	}
	scan->ntodo = 0;
	scan->current = NULL;
}

/*
 * Begins a scan of partitions.
 *
 * They are opened one after the other, when it is known in which direction, since
 * most scans end in the first one.  The one of the highest ids is locked at once:
 * until then, the list of partitions may be out of date.  Rows of one account, or
 * of one key, are in order of their ids, and so are the partitions.  A scan of the
 * whole index has to read all of them at the same time.
 */
static void
begin_leaves(StoreScan *scan, Store *store, StoreIndex *index,
			 Snapshot snapshot, int64 from, int64 to)
{
	scan->table = index->table;
	scan->store = store;
	scan->by_index = index;
	scan->context = CurrentMemoryContext;
	scan->parts = NULL;
	scan->nparts = 0;
	scan->heap = NULL;
	scan->by_snapshot = keep_snapshot(scan, snapshot);
	for (;;)
	{
		uint64		current;

		scan->todo = leaves_parts(scan->table, from, to, &scan->ntodo);
		if (scan->ntodo == 0)
		{
			scan->last_is_open = false;
			return;
		}
		current = tables_generation();
		if (open_leaf(scan, &scan->todo[scan->ntodo - 1]) &&
			current == tables_generation())
			break;
		close_scan(scan);
		pfree(scan->todo);
	}
	scan->last_is_open = true;
	if (scan->nby == 0 && scan->ntodo > 1)
		open_parts(scan);
}

/*
 * Begins a scan by values for the first n keys of an index, usually through
 * the macro scan_begin.  The caller must end it with scan_end.
 */
void
scan_begin_by(StoreScan *scan, Store *store, StoreIndex *index,
			  Snapshot snapshot, const ScanBy *by, int n)
{
	scan_begin_ids_by(scan, store, index, snapshot, PG_INT64_MIN, PG_INT64_MAX,
					  by, n);
}

/*
 * Begins such a scan for the rows of a range of ids.  Only the partitions of a
 * partitioned table are chosen by it: other rows may be read, too.
 */
void
scan_begin_ids_by(StoreScan *scan, Store *store, StoreIndex *index,
				  Snapshot snapshot, int64 from, int64 to, const ScanBy *by,
				  int n)
{
	if (index->table->partition_key == 0)
	{
		open_scan(scan, store, index, snapshot, n);
		set_keys(scan, index, by, n);
		return;
	}
	if (n > 0)
		memcpy(scan->by, by, n * sizeof(ScanBy));
	scan->nby = n;
	begin_leaves(scan, store, index, snapshot, from, to);
}

/*
 * Begins a scan of an index on (at, id), for the rows where (at, id) >
 * (after_at, after_id) and at <= until.  A job uses it to continue after the
 * last row that it has processed.
 */
void
scan_begin_after(StoreScan *scan, Store *store, StoreIndex *index,
				 Snapshot snapshot, TimestampTz after_at, int64 after_id,
				 TimestampTz until)
{
	ScanKeyData keys[2];

	/* index_rescan copies the keys, but not the row that they point to */
	ScanKey		row = palloc(2 * sizeof(ScanKeyData));

	open_scan(scan, store, index, snapshot, 2);
	if (index->nkeys != 2 || index->types[0] != TIMESTAMPTZOID ||
		index->types[1] != INT8OID)
		elog(ERROR, "index \"%s\" is not by instant and id", index->name);
	ScanKeyEntryInitialize(&row[0], SK_ROW_MEMBER, 1, BTGreaterStrategyNumber,
						   TIMESTAMPTZOID, InvalidOid, F_TIMESTAMPTZ_CMP,
						   TimestampTzGetDatum(after_at));
	ScanKeyEntryInitialize(&row[1], SK_ROW_MEMBER | SK_ROW_END, 2,
						   BTGreaterStrategyNumber, INT8OID, InvalidOid,
						   F_BTINT8CMP, Int64GetDatum(after_id));
	memset(&keys[0], 0, sizeof(ScanKeyData));
	keys[0].sk_flags = SK_ROW_HEADER;
	keys[0].sk_attno = 1;
	keys[0].sk_strategy = BTGreaterStrategyNumber;
	keys[0].sk_argument = PointerGetDatum(row);
	ScanKeyEntryInitialize(&keys[1], 0, 1, BTLessEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_TIMESTAMPTZ_LE,
						   TimestampTzGetDatum(until));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/*
 * Returns the next row of a merge, whose parts are each at their next row.
 */
static TupleTableSlot *
next_of_parts(StoreScan *scan)
{
	StoreScan  *least = NULL;
	int			i;

	/* the row that was returned last is no longer needed */
	if (scan->current && scan_next(scan->current, ForwardScanDirection) == NULL)
		close_scan(scan->current);
	for (i = 0; i < scan->nparts; i++)
	{
		StoreScan  *part = &scan->parts[i];

		if (part->heap && (least == NULL ||
						   DatumGetInt64(scan_key(part, 0)) <
						   DatumGetInt64(scan_key(least, 0))))
			least = part;
	}
	scan->current = least;
	if (least == NULL)
		return NULL;
	scan->index = least->index;
	scan->slot = least->slot;
	return least->slot;
}

/*
 * Returns whether the row that a scan has found is one of those that it seeks: the
 * default partition may have others, too.
 */
static bool
is_in_part(StoreScan *scan)
{
	const StoreTable *table = scan->table;
	bool		isnull;
	int64		id;
	int			i;

	if (scan->part == NULL)
		return true;
	for (i = 0; table->columns[i].offset != table->partition_key; i++)
		;
	id = DatumGetInt64(slot_getattr(scan->slot, i + 1, &isnull));
	return id >= scan->part->from && id < scan->part->until;
}

/*
 * Returns the next row of a scan, or NULL at its end.  The slot is valid until
 * the next call; if the scan uses a Store, also only until another scan of the
 * same table, which has the same slot.
 */
TupleTableSlot *
scan_next(StoreScan *scan, ScanDirection direction)
{
	MemoryContext old;
	bool		found;

	if (scan->nparts > 0)
		return next_of_parts(scan);
	if (scan->last_is_open)
	{
		scan->last_is_open = false;
		if (ScanDirectionIsBackward(direction) || scan->ntodo == 1)
			scan->ntodo--;
		else
			close_scan(scan);
	}
	for (;;)
	{
		/* callers may read many rows, often while they hold a row lock */
		CHECK_FOR_INTERRUPTS();
		if (scan->heap)
		{
			/* what the index allocates must live until the scan ends */
			old = MemoryContextSwitchTo(scan->context);
			found = index_getnext_slot(scan->scan, direction, scan->slot);
			MemoryContextSwitchTo(old);
			if (found && is_in_part(scan))
				return scan->slot;
			if (found)
				continue;
		}
		if (scan->ntodo == 0)
			return NULL;
		close_scan(scan);
		scan->ntodo--;
		(void) open_leaf(scan, ScanDirectionIsForward(direction) ?
						 scan->todo++ : &scan->todo[scan->ntodo]);
	}
}

/*
 * Reads the next row of a scan into a struct, and copies everything into the
 * current memory context.  Returns false at the end of the scan.
 */
bool
scan_read(StoreScan *scan, ScanDirection direction, void *row)
{
	if (scan_next(scan, direction) == NULL)
		return false;
	scan_copy(scan, row);
	return true;
}

/*
 * Reads the current row of a scan into a struct, like scan_read.
 */
void
scan_copy(StoreScan *scan, void *row)
{
	codec_read(scan->table, scan->slot, row);
}

/*
 * Reads the next row of a scan into a struct, whose values of variable length
 * may point into the slot of the scan.  Returns false at the end of the scan.
 */
bool
scan_peek(StoreScan *scan, ScanDirection direction, void *row)
{
	TupleTableSlot *slot = scan_next(scan, direction);

	if (slot == NULL)
		return false;
	codec_peek(scan->table, slot, row);
	return true;
}

/*
 * Returns the value of an index key, counted from 0, in the current row of a
 * scan.  The key must be a column that is not NULL.
 */
Datum
scan_key(StoreScan *scan, int i)
{
	bool		isnull;

	return slot_getattr(scan->slot, scan->index->rd_index->indkey.values[i],
						&isnull);
}

/*
 * Ends a scan.  Locks are kept until the end of the transaction.
 */
void
scan_end(StoreScan *scan)
{
	int			i;

	for (i = 0; i < scan->nparts; i++)
		close_scan(&scan->parts[i]);
	close_scan(scan);
	if (scan->snapshot)
		UnregisterSnapshot(scan->snapshot);
}

/*
 * Reads the first row of a scan, usually through the macro scan_find.  Returns
 * false if there is none.
 */
bool
scan_find_by(Store *store, StoreIndex *index, Snapshot snapshot, void *row,
			 const ScanBy *by, int n)
{
	StoreScan	scan;
	bool		found;

	scan_begin_by(&scan, store, index, snapshot, by, n);
	found = scan_read(&scan, ForwardScanDirection, row);
	scan_end(&scan);
	return found;
}

/*
 * Reads the row with a TID that was valid in a generation of the tables, into a
 * struct.  Returns false if the snapshot sees none there.  The caller must check
 * whether it still is the same row.
 */
bool
scan_fetch(Store *store, StoreTable *which, Snapshot snapshot,
		   uint64 generation, ItemPointer tid, void *row)
{
	Relation	heap = store ? store_table(store, which)->rel :
		tables_open(which, AccessShareLock);
	TupleTableSlot *slot = store ? store_table(store, which)->scan_slot :
		table_slot_create(heap, NULL);
	bool		found;

	/* a table that has been rewritten may have fewer pages */
	found = tables_generation() == generation &&
		table_tuple_fetch_row_version(heap, tid, snapshot, slot);
	if (found)
		codec_read(which, slot, row);
	if (store == NULL)
	{
		ExecDropSingleTupleTableSlot(slot);
		table_close(heap, NoLock);
	}
	return found;
}
