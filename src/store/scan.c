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
	static const RegProcedure text[] = {
		F_TEXT_LT, F_TEXT_LE, F_TEXTEQ, F_TEXT_GE, F_TEXT_GT
	};

	return (type == INT8OID ? int8 : type == INT4OID ? int4 :
			type == TIMESTAMPTZOID ? timestamptz : text)[strategy - 1];
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
	scan->snapshot = NULL;

	/*
	 * GetLatestSnapshot returns static memory: without registration, the next
	 * snapshot that is taken while the scan lasts would overwrite this one.
	 */
	if (snapshot->active_count == 0 && snapshot->regd_count == 0)
		snapshot = scan->snapshot = RegisterSnapshot(snapshot);
	scan->scan = index_beginscan_compat(scan->heap, scan->index, snapshot,
										nkeys);
	scan->context = CurrentMemoryContext;
}

/*
 * Begins a scan by values for the first n keys of an index, usually through
 * the macro scan_begin.  The caller must end it with scan_end.
 */
void
scan_begin_by(StoreScan *scan, Store *store, StoreIndex *index,
			  Snapshot snapshot, const ScanBy *by, int n)
{
	ScanKeyData keys[MAX_INDEX_KEYS];
	int			i;

	open_scan(scan, store, index, snapshot, n);
	for (i = 0; i < n; i++)
	{
		if (i >= index->nkeys || index->types[i] != by[i].type)
			elog(ERROR, "index \"%s\" has no such key", index->name);
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
 * Returns the next row of a scan, or NULL at its end.  The slot is valid until
 * the next call; if the scan uses a Store, also only until another scan of the
 * same table, which has the same slot.
 */
TupleTableSlot *
scan_next(StoreScan *scan, ScanDirection direction)
{
	MemoryContext old;
	bool		found;

	/* callers may read many rows, often while they hold a row lock */
	CHECK_FOR_INTERRUPTS();
	/* what the index allocates must live until the scan ends */
	old = MemoryContextSwitchTo(scan->context);
	found = index_getnext_slot(scan->scan, direction, scan->slot);
	MemoryContextSwitchTo(old);
	return found ? scan->slot : NULL;
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
	index_endscan(scan->scan);
	if (scan->snapshot)
		UnregisterSnapshot(scan->snapshot);
	index_close(scan->index, NoLock);
	if (scan->slot_is_ours)
		ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->heap_is_ours)
		table_close(scan->heap, NoLock);
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
