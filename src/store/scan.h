/*
 * scan.h
 *	  Index scans.
 */
#ifndef CREDITS_STORE_SCAN_H
#define CREDITS_STORE_SCAN_H

#include "store/codec.h"
#include "store/tables.h"

#include "access/relscan.h"
#include "access/stratnum.h"
#include "utils/snapshot.h"

#pragma GCC visibility push(hidden)

typedef struct Store Store;

/*
 * A condition on one key of an index, which determines the collation.  Without a
 * strategy, the key must be NULL.
 */
typedef struct ScanBy
{
	Oid			type;
	StrategyNumber strategy;
	Datum		value;
} ScanBy;

#define BY_NULL(type) ((ScanBy) {type, InvalidStrategy, (Datum) 0})
#define BY_INT64(id) ((ScanBy) {INT8OID, BTEqualStrategyNumber, Int64GetDatum(id)})
#define BY_INT64_ABOVE(value) \
	((ScanBy) {INT8OID, BTGreaterStrategyNumber, Int64GetDatum(value)})
#define BY_INT64_BELOW(value) \
	((ScanBy) {INT8OID, BTLessStrategyNumber, Int64GetDatum(value)})
#define BY_INT32(value) \
	((ScanBy) {INT4OID, BTEqualStrategyNumber, Int32GetDatum(value)})
#define BY_INT32_ABOVE(value) \
	((ScanBy) {INT4OID, BTGreaterStrategyNumber, Int32GetDatum(value)})
#define BY_XID8(xid) ((ScanBy) {XID8OID, BTEqualStrategyNumber, UInt64GetDatum(xid)})
#define BY_XID8_FROM(xid) \
	((ScanBy) {XID8OID, BTGreaterEqualStrategyNumber, UInt64GetDatum(xid)})
#define BY_TEXT(t) ((ScanBy) {TEXTOID, BTEqualStrategyNumber, PointerGetDatum(t)})
#define BY_TEXT_ABOVE(t) \
	((ScanBy) {TEXTOID, BTGreaterStrategyNumber, PointerGetDatum(t)})
#define BY_TEXT_FROM(t) \
	((ScanBy) {TEXTOID, BTGreaterEqualStrategyNumber, PointerGetDatum(t)})
#define BY_TIME(at) BY_TIME_(BTEqualStrategyNumber, at)
#define BY_TIME_BEFORE(at) BY_TIME_(BTLessStrategyNumber, at)
#define BY_TIME_UNTIL(at) BY_TIME_(BTLessEqualStrategyNumber, at)
#define BY_TIME_FROM(at) BY_TIME_(BTGreaterEqualStrategyNumber, at)
#define BY_TIME_AFTER(at) BY_TIME_(BTGreaterStrategyNumber, at)
#define BY_TIME_(strategy, at) \
	((ScanBy) {TIMESTAMPTZOID, strategy, TimestampTzGetDatum(at)})

/* An index scan in progress */
typedef struct StoreScan
{
	StoreTable *table;
	Relation	heap;			/* NULL between two partitions */
	bool		heap_is_ours;	/* opened by the scan, not by a Store */
	Relation	index;
	IndexScanDesc scan;
	Snapshot	snapshot;		/* NULL unless registered by the scan */
	TupleTableSlot *slot;
	bool		slot_is_ours;
	MemoryContext context;		/* the current one when the scan began */
	/* for the scan of several partitions */
	Store	   *store;
	StoreIndex *by_index;
	ScanBy		by[MAX_INDEX_KEYS];
	int			nby;
	Snapshot	by_snapshot;
	struct LeafPart *todo;		/* those still to be scanned, in order */
	int			ntodo;
	struct LeafPart *part;		/* the one that is open, if the table has
								 * other rows, too */
	bool		last_is_open;	/* is the last of them open already? */
	struct StoreScan *parts;	/* if they are merged, a scan of each */
	int			nparts;
	struct StoreScan *current;	/* the part that has the current row */
} StoreScan;

/*
 * Begins a scan by values for the first keys of an index, as many as are given.
 * If store is NULL, the scan opens the table itself.
 */
#define scan_begin(scan, store, index, snapshot, ...) \
	scan_begin_by(scan, store, index, snapshot, \
				  (const ScanBy[]) {__VA_ARGS__}, \
				  lengthof(((const ScanBy[]) {__VA_ARGS__})))

/* begins a scan of the whole index */
#define scan_begin_all(scan, store, index, snapshot) \
	scan_begin_by(scan, store, index, snapshot, NULL, 0)

/*
 * The same for rows whose ids are from "from" to "to": only the partitions that
 * may have some are scanned.
 */
#define scan_begin_ids(scan, store, index, snapshot, from, to, ...) \
	scan_begin_ids_by(scan, store, index, snapshot, from, to, \
					  (const ScanBy[]) {__VA_ARGS__}, \
					  lengthof(((const ScanBy[]) {__VA_ARGS__})))

/* reads and copies the first row with these keys; false if there is none */
#define scan_find(store, index, snapshot, row, ...) \
	scan_find_by(store, index, snapshot, row, \
				 (const ScanBy[]) {__VA_ARGS__}, \
				 lengthof(((const ScanBy[]) {__VA_ARGS__})))

extern void scan_begin_by(StoreScan *scan, Store *store, StoreIndex *index,
						  Snapshot snapshot, const ScanBy *by, int n);
extern void scan_begin_ids_by(StoreScan *scan, Store *store, StoreIndex *index,
							  Snapshot snapshot, int64 from, int64 to,
							  const ScanBy *by, int n);
extern void scan_begin_after(StoreScan *scan, Store *store, StoreIndex *index,
							 Snapshot snapshot, TimestampTz after_at,
							 int64 after_id, TimestampTz until);
extern TupleTableSlot *scan_next(StoreScan *scan, ScanDirection direction);
extern bool scan_read(StoreScan *scan, ScanDirection direction, void *row);
extern bool scan_peek(StoreScan *scan, ScanDirection direction, void *row);
extern void scan_copy(StoreScan *scan, void *row);
extern Datum scan_key(StoreScan *scan, int i);
extern void scan_end(StoreScan *scan);
extern bool scan_fetch(Store *store, StoreTable *which, Snapshot snapshot,
					   uint64 generation, ItemPointer tid, void *row);
extern bool scan_find_by(Store *store, StoreIndex *index, Snapshot snapshot,
						 void *row, const ScanBy *by, int n);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_SCAN_H */
