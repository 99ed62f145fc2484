/*
 * store.c
 *	  Tables: scanning, locking, inserting and updating rows of any of them.
 *
 * Rows are written by the executor's own row functions, so constraints,
 * indexes and row triggers work, but nothing is parsed or planned.  What the
 * executor would build anew for each statement (result relations, compiled
 * constraints, slots) is kept from call to call in a Store.  Invalidation of
 * one of our tables marks what is kept as stale, and it is built again.
 *
 * Each topic declares the tables and indexes that are its own, as a StoreTable
 * and StoreIndexes in its file.  A posting opens accounts, grants and
 * transactions at once, and every other table when it first comes to it.
 *
 * Memory: while a call uses the Store, its context hangs below the current
 * (sub)transaction's, so that an error frees it; between calls it hangs below
 * TopMemoryContext.  A call that runs inside another (from a trigger that a
 * user put on the log) finds none kept and builds its own.
 *
 * Indexes are opened when they are first needed in a call: a spend is a
 * heap-only update of account and grant, and needs theirs for finding only.
 */
#include "credits.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* every table that this session has come across */
#define MAX_TABLES 32
static StoreTable *tables[MAX_TABLES];
static int	ntables = 0;

/* our schema, as last looked up */
static Oid	schema = InvalidOid;

/* grows when one of our relations may have changed */
static uint64 generation = 1;

/* One table, ready to be written */
typedef struct Table
{
	Relation	rel;			/* valid during a call only */
	ResultRelInfo *rri;
	List	   *index_oids;		/* in the order of rri's arrays */
	bool		indexes_open;
	TupleTableSlot *slot;		/* a row being written */
	TupleTableSlot *scan_slot;	/* a row being read */
} Table;

struct Store
{
	MemoryContext context;
	uint64		generation;
	bool		keep;			/* may it be kept after the call? */
	EState	   *estate;
	Table		tables[MAX_TABLES]; /* by StoreTable.number */
};

/* what a posting opens at once */
static StoreTable *const core_tables[] = {
	&accounts_table, &grants_table, &transactions_table
};

static Store *kept = NULL;

/*
 * Notes that a relation may have changed.  Frees nothing: a call may be using
 * what is kept.
 */
static void
invalidate(Datum arg, Oid relid)
{
	int			i;

	for (i = 0; i < ntables; i++)
		if (!OidIsValid(relid) || relid == tables[i]->oid)
		{
			generation++;
			return;
		}
}

/*
 * Prepares the module.
 */
void
store_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/*
 * Looks one of our relations up by name.
 */
static Oid
look_up(const char *name)
{
	Oid			oid = get_relname_relid(name, schema);

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"credits\" is not whole in this database"),
				 errdetail("Relation \"%s\" of schema \"credits\" is missing.",
						   name),
				 errhint("Restore it, or install the extension with CREATE EXTENSION credits.")));
	return oid;
}

/*
 * Looks a table and its sequence up, if they may have changed.
 */
static void
resolve(StoreTable *table)
{
	if (table->number == 0)
	{
		if (ntables == MAX_TABLES)
			elog(ERROR, "too many tables");
		tables[ntables++] = table;
		table->number = ntables;
	}
	while (table->generation != generation)
	{
		uint64		current = generation;

		schema = get_namespace_oid("credits", true);
		table->oid = look_up(table->name);
		if (table->sequence)
			table->sequence_oid = look_up(table->sequence);
		table->generation = current;
	}
}

/*
 * Returns an index's OID, looked up if it may have changed.
 */
static Oid
resolve_index(StoreIndex *index)
{
	while (index->generation != generation)
	{
		uint64		current = generation;

		schema = get_namespace_oid("credits", true);
		index->oid = look_up(index->name);
		index->generation = current;
	}
	return index->oid;
}

/*
 * Tells whether a relation is one of our tables.
 */
bool
store_is_table(Relation rel, StoreTable *table)
{
	resolve(table);
	return RelationGetRelid(rel) == table->oid;
}

/*
 * Checks that a table has the columns that it was made with: what follows
 * reads them by number.
 */
static void
check_columns(Relation rel, StoreTable *table)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	const Oid  *types = table->types;
	int			i;

	if (table->checked == table->generation)
		return;
	for (i = 0; i < tupdesc->natts; i++)
		if (!OidIsValid(types[i]) ||
			TupleDescAttr(tupdesc, i)->attisdropped ||
			TupleDescAttr(tupdesc, i)->atttypid != types[i])
			break;
	if (i < tupdesc->natts || OidIsValid(types[i]))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"credits.%s\" has been altered",
						table->name),
				 errdetail("Column %d is not what it was made as.", i + 1),
				 errhint("Restore it, and keep columns of your own in a table of your own.")));
	table->checked = table->generation;
}

/*
 * Opens a table by name, however often the locks for it bring news.
 */
static Relation
open_relation(StoreTable *table, LOCKMODE mode)
{
	for (;;)
	{
		Relation	rel;

		resolve(table);
		rel = table_open(table->oid, mode);
		if (table->generation == generation)
		{
			check_columns(rel, table);
			return rel;
		}
		/* taking the lock brought news: look again */
		table_close(rel, NoLock);
	}
}

/*
 * Refuses to write where nothing can be written.
 */
void
store_check_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	PreventCommandDuringRecovery(function);
}

/*
 * Locks our tables for writing.  What reads them before it writes calls this
 * first: to lock an index for reading and then the table for writing would
 * deadlock with a REINDEX in between.
 */
void
store_lock_tables(const char *function)
{
	int			i;

	store_check_writable(function);
	for (i = 0; i < (int) lengthof(core_tables); i++)
		store_lock_table(core_tables[i]);
	store_lock_table(&events_table);
}

/*
 * Locks one of our tables for writing.
 */
void
store_lock_table(StoreTable *table)
{
	resolve(table);
	LockRelationOid(table->oid, RowExclusiveLock);
}

/*
 * Builds what writing to a table takes, in the current memory context.
 */
static void
build_table(Table *table)
{
	Relation	rel = table->rel;
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleDesc	tupdesc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	const TupleTableSlotOps *ops = table_slot_callbacks(rel);
	ListCell   *lc;
	int			i = 0;

	InitResultRelInfo(rri, rel, 0, NULL, 0);
	/* the executor's own would pin the relcache's descriptor */
	rri->ri_TrigOldSlot = MakeSingleTupleTableSlot(tupdesc, ops);
	rri->ri_TrigNewSlot = MakeSingleTupleTableSlot(tupdesc, ops);

	table->rri = rri;
	table->slot = MakeSingleTupleTableSlot(tupdesc, ops);
	table->scan_slot = MakeSingleTupleTableSlot(tupdesc, ops);

	table->indexes_open = false;
	table->index_oids = RelationGetIndexList(rel);
	rri->ri_NumIndices = list_length(table->index_oids);
	rri->ri_IndexRelationDescs = (RelationPtr)
		palloc0(rri->ri_NumIndices * sizeof(Relation));
	rri->ri_IndexRelationInfo = (IndexInfo **)
		palloc0(rri->ri_NumIndices * sizeof(IndexInfo *));
	foreach(lc, table->index_oids)
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);
		IndexInfo  *info = BuildIndexInfo(index);

		/* so that an insert can yield to a row that is there already */
		if (info->ii_Unique)
			BuildSpeculativeIndexInfo(index, info);
		rri->ri_IndexRelationInfo[i++] = info;
		index_close(index, NoLock);
	}
}

/*
 * Lets firing triggers find a table's rri instead of making another.
 */
static void
announce_table(Table *table, EState *estate)
{
	estate->es_opened_result_relations =
		lappend(estate->es_opened_result_relations, table->rri);
}

/*
 * Tells whether all triggers of a table are our own.  Others may run code that
 * must not be kept from call to call.
 */
static bool
only_our_triggers(Relation rel)
{
	int			i;

	for (i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		if (get_func_namespace(rel->trigdesc->triggers[i].tgfoid) != schema)
			return false;
	return true;
}

/*
 * Tells whether all indexes of a table are of kinds that keep nothing from one
 * insert to the next.  What others keep may point into the relation cache.
 */
static bool
only_plain_indexes(Table *table)
{
	ListCell   *lc;

	foreach(lc, table->index_oids)
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);
		Oid			method = index->rd_rel->relam;

		index_close(index, NoLock);
		if (method != BTREE_AM_OID && method != HASH_AM_OID)
			return false;
	}
	return true;
}

/*
 * Makes an open table ready to be written in a Store.
 */
static void
prepare_table(Store *store, Table *table, Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(store->context);

	table->rel = rel;
	/* what was built before news of a table came may be stale */
	if (table->rri && store->generation == generation)
		table->rri->ri_RelationDesc = rel;
	else
	{
		build_table(table);
		store->keep = store->keep && only_our_triggers(rel) &&
			only_plain_indexes(table);
	}
	announce_table(table, store->estate);
	MemoryContextSwitchTo(old);
}

/*
 * Returns a table of a Store, opened if it is not yet.
 */
static Table *
get_table(Store *store, StoreTable *which)
{
	Table	   *table;

	if (which->number == 0)
		resolve(which);
	table = &store->tables[which->number - 1];
	if (table->rel == NULL)
		prepare_table(store, table, open_relation(which, RowExclusiveLock));
	return table;
}

/*
 * Opens the tables that every posting needs, for reading and writing.
 */
Store *
store_open(void)
{
	Relation	rels[lengthof(core_tables)];
	Store	   *store;
	bool		stable;
	int			i;

	do
	{
		stable = true;
		for (i = 0; i < (int) lengthof(core_tables); i++)
			rels[i] = open_relation(core_tables[i], RowExclusiveLock);
		for (i = 0; i < (int) lengthof(core_tables); i++)
			stable = stable && core_tables[i]->generation == generation;
		/* opening one brought news of another: look again */
		for (i = 0; !stable && i < (int) lengthof(core_tables); i++)
			table_close(rels[i], NoLock);
	} while (!stable);

	store = kept;
	kept = NULL;
	if (store && store->generation != generation)
	{
		MemoryContextDelete(store->context);
		store = NULL;
	}
	if (store)
		MemoryContextSetParent(store->context, CurTransactionContext);
	else
	{
		MemoryContext context = AllocSetContextCreate(CurTransactionContext,
													  "credits store",
													  ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);

		store = palloc0(sizeof(Store));
		store->context = context;
		store->generation = generation;
		store->keep = true;
		store->estate = CreateExecutorState();
		MemoryContextSwitchTo(old);
	}
	for (i = 0; i < (int) lengthof(core_tables); i++)
		prepare_table(store, &store->tables[core_tables[i]->number - 1],
					  rels[i]);
	return store;
}

/*
 * Lets go of what a table holds only during a call.
 */
static void
close_table(Table *table)
{
	ResultRelInfo *rri = table->rri;
	int			i;

	/* ExecCloseIndices would give up locks that the transaction keeps anyway */
	for (i = 0; table->indexes_open && i < rri->ri_NumIndices; i++)
		close_inserted_index_compat(rri->ri_IndexRelationDescs[i],
									rri->ri_IndexRelationInfo[i]);
	table->indexes_open = false;
	ExecClearTuple(table->slot);
	ExecClearTuple(table->scan_slot);
	ExecClearTuple(table->rri->ri_TrigOldSlot);
	ExecClearTuple(table->rri->ri_TrigNewSlot);
	table_close(table->rel, NoLock);
	table->rel = NULL;
}

/*
 * Ends the use of a Store, and keeps it for the next call if it may be kept.
 */
void
store_close(Store *store)
{
	int			i;

	for (i = 0; i < MAX_TABLES; i++)
		if (store->tables[i].rel)
			close_table(&store->tables[i]);
	list_free(store->estate->es_opened_result_relations);
	store->estate->es_opened_result_relations = NIL;
	ResetPerTupleExprContext(store->estate);

	if (store->keep && kept == NULL && store->generation == generation)
	{
		MemoryContextSetParent(store->context, TopMemoryContext);
		kept = store;
	}
	else
		MemoryContextDelete(store->context);
}

/*
 * Returns a snapshot to find rows with.  In READ COMMITTED it is the
 * statement's own if that sees all that this transaction did, or one taken
 * just now; above, the transaction's.
 */
Snapshot
store_snapshot(bool fresh)
{
	if (IsolationUsesXactSnapshot())
		return GetTransactionSnapshot();
	if (!fresh && ActiveSnapshotSet() &&
		GetActiveSnapshot()->snapshot_type == SNAPSHOT_MVCC &&
		GetActiveSnapshot()->curcid == GetCurrentCommandId(false))
		return GetActiveSnapshot();
	return GetLatestSnapshot();
}

/*
 * Begins a set of changes: triggers fire when it ends.
 */
void
store_begin_changes(Store *store)
{
	AfterTriggerBeginQuery();
}

/*
 * Ends a set of changes: fires triggers, and makes it all visible to what the
 * transaction does next.
 */
void
store_end_changes(Store *store)
{
	AfterTriggerEndQuery(store->estate);
	CommandCounterIncrement();
}

/*
 * Opens the indexes of a table that is being written.
 */
static void
open_indexes(Table *table)
{
	ListCell   *lc;
	int			i = 0;

	if (table->indexes_open)
		return;
	foreach(lc, table->index_oids)
		table->rri->ri_IndexRelationDescs[i++] =
			index_open(lfirst_oid(lc), RowExclusiveLock);
	table->indexes_open = true;
}

/*
 * Draws the next id of a table.
 */
int64
store_next_id(StoreTable *table)
{
	resolve(table);
	return nextval_internal(table->sequence_oid, false);
}

/*
 * Begins a scan of an index.  Without a Store the scan opens the table itself.
 */
void
store_scan(StoreScan *scan, Store *store, StoreIndex *index, Snapshot snapshot,
		   ScanKey keys, int nkeys)
{
	if (store)
	{
		Table	   *table = get_table(store, index->table);

		scan->heap = table->rel;
		scan->heap_is_ours = false;
		scan->index = index_open(resolve_index(index), RowExclusiveLock);
		scan->slot = table->scan_slot;
		scan->slot_is_ours = false;
	}
	else
	{
		scan->heap = open_relation(index->table, AccessShareLock);
		scan->heap_is_ours = true;
		scan->index = index_open(resolve_index(index), AccessShareLock);
		scan->slot = table_slot_create(scan->heap, NULL);
		scan->slot_is_ours = true;
	}
	scan->scan = index_beginscan_compat(scan->heap, scan->index, snapshot,
										nkeys);
	scan->context = CurrentMemoryContext;
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/*
 * Returns the next row of a scan, or NULL.  It stays good until the next one
 * is asked for, and in a Store's scan until the next scan of that table.
 */
TupleTableSlot *
store_scan_next(StoreScan *scan, ScanDirection direction)
{
	/* an index may allocate, and frees it when the scan ends */
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool		found = index_getnext_slot(scan->scan, direction, scan->slot);

	MemoryContextSwitchTo(old);
	return found ? scan->slot : NULL;
}

/*
 * Ends a scan.
 */
void
store_scan_end(StoreScan *scan)
{
	index_endscan(scan->scan);
	index_close(scan->index, NoLock);
	if (scan->slot_is_ours)
		ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->heap_is_ours)
		table_close(scan->heap, NoLock);
}

/*
 * Begins to write a row: fills the table's slot.
 */
static void
fill_slot(Table *table, Datum *values, bool *isnull)
{
	TupleTableSlot *slot = table->slot;
	int			natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, isnull, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

/*
 * Tells whether a slot holds these values.
 */
static bool
slot_has(TupleTableSlot *slot, Datum *values, bool *isnull)
{
	TupleDesc	tupdesc = slot->tts_tupleDescriptor;
	int			i;

	slot_getallattrs(slot);
	for (i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (slot->tts_isnull[i] != isnull[i] ||
			(!isnull[i] && !datum_image_eq(slot->tts_values[i], values[i],
										   att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

/*
 * Inserts a row into a table.
 */
static void
insert_row(Table *table, EState *estate, Datum *values, bool *isnull)
{
	ResultRelInfo *rri = table->rri;
	TriggerDesc *triggers = rri->ri_TrigDesc;
	List	   *recheck;

	fill_slot(table, values, isnull);
	if (triggers && triggers->trig_insert_before_row &&
		(!ExecBRInsertTriggers(estate, rri, table->slot) ||
		 !slot_has(table->slot, values, isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a trigger must not change or suppress rows of table \"credits.%s\"",
						RelationGetRelationName(table->rel)),
				 errhint("Let the trigger return NEW as it came, or make it an AFTER trigger.")));
	ExecConstraints(rri, table->slot, estate);
	table_tuple_insert(table->rel, table->slot, GetCurrentCommandId(true), 0,
					   NULL);
	open_indexes(table);
	recheck = ExecInsertIndexTuples_compat(rri, table->slot, estate, false,
										   false, NULL, NIL, false);
	ExecARInsertTriggers(estate, rri, table->slot, recheck, NULL);
	list_free(recheck);
	ResetPerTupleExprContext(estate);
}

/*
 * Inserts a row.
 */
void
store_insert(Store *store, StoreTable *which, Datum *values, bool *isnull)
{
	insert_row(get_table(store, which), store->estate, values, isnull);
}

/*
 * Updates a row, waiting for whoever has it or not.  Anything but TM_Ok means
 * that it is not the newest version, or that another has it.
 */
TM_Result
store_update(Store *store, StoreTable *which, Snapshot snapshot,
			 ItemPointer tid, bool wait, Datum *values, bool *isnull)
{
	Table	   *table = get_table(store, which);
	EState	   *estate = store->estate;
	ResultRelInfo *rri = table->rri;
	TM_FailureData failure;
	LockTupleMode lockmode;
	UpdateIndexesCompat update_indexes;
	TM_Result	result;
	List	   *recheck = NIL;

	fill_slot(table, values, isnull);
	ExecConstraints(rri, table->slot, estate);
	result = table_tuple_update(table->rel, tid, table->slot,
								GetCurrentCommandId(true), snapshot,
								InvalidSnapshot, wait, &failure, &lockmode,
								&update_indexes);
	/* who is not to wait for another need not wait for itself */
	if (result == TM_BeingModified && !wait &&
		TransactionIdIsCurrentTransactionId(failure.xmax))
		result = table_tuple_update(table->rel, tid, table->slot,
									GetCurrentCommandId(true), snapshot,
									InvalidSnapshot, true, &failure,
									&lockmode, &update_indexes);
	if (result != TM_Ok)
		return result;
	if (UPDATE_NEEDS_INDEXES(update_indexes))
	{
		open_indexes(table);
		recheck = ExecInsertIndexTuples_compat(rri, table->slot, estate, true,
											   false, NULL, NIL,
											   UPDATE_ONLY_SUMMARIZING(update_indexes));
	}
	ExecARUpdateTriggers(estate, rri, NULL, NULL, tid, NULL, table->slot,
						 recheck, NULL, false);
	list_free(recheck);
	ResetPerTupleExprContext(estate);
	return TM_Ok;
}

/*
 * Deletes a row that is locked.
 */
void
store_delete(Store *store, StoreTable *which, Snapshot snapshot,
			 ItemPointer tid)
{
	Table	   *table = get_table(store, which);
	TM_FailureData failure;

	if (table_tuple_delete(table->rel, tid, GetCurrentCommandId(true),
						   snapshot, InvalidSnapshot, true, &failure,
						   false) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("A row of table \"credits.%s\" has changed.",
						   which->name),
				 errhint("Retry the transaction.")));
	ExecARDeleteTriggers(store->estate, table->rri, tid, NULL, NULL, false);
}

/*
 * Locks a row against change and reads its newest version; in REPEATABLE READ
 * and above only the version that the snapshot sees.
 */
TM_Result
store_lock(Store *store, StoreTable *which, Snapshot snapshot, ItemPointer tid,
		   bool skip_locked, TupleTableSlot **slot)
{
	Table	   *table = get_table(store, which);
	TM_FailureData failure;
	ItemPointerData at = *tid;

	*slot = table->scan_slot;
	return table_tuple_lock(table->rel, &at, snapshot, table->scan_slot,
							GetCurrentCommandId(false),
							LockTupleNoKeyExclusive,
							skip_locked ? LockWaitSkip : LockWaitBlock,
							IsolationUsesXactSnapshot() ? 0 :
							TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
							&failure);
}

/*
 * Inserts a row unless a unique index has its key already.  Returns false if
 * it does; waits for a transaction that is inserting one.  This is what INSERT
 * ... ON CONFLICT DO NOTHING does.
 */
bool
store_insert_unless(Store *store, StoreIndex *unique, Datum *values,
					bool *isnull)
{
	Table	   *table = get_table(store, unique->table);
	ResultRelInfo *rri = table->rri;
	List	   *arbiters = list_make1_oid(resolve_index(unique));

	open_indexes(table);
	for (;;)
	{
		ItemPointerData conflict;
		bool		failed = false;
		uint32		token;
		List	   *recheck;

		fill_slot(table, values, isnull);
		table->slot->tts_tableOid = RelationGetRelid(table->rel);
		if (!ExecCheckIndexConstraints_compat(rri, table->slot, store->estate,
											  &conflict, arbiters))
			return false;
		ExecConstraints(rri, table->slot, store->estate);
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(table->rel, table->slot,
									   GetCurrentCommandId(true), 0, NULL,
									   token);
		recheck = ExecInsertIndexTuples_compat(rri, table->slot, store->estate,
											   false, true, &failed, arbiters,
											   false);
		table_tuple_complete_speculative(table->rel, table->slot, token,
										 !failed);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		ResetPerTupleExprContext(store->estate);
		if (failed)
		{
			list_free(recheck);
			continue;
		}
		ExecARInsertTriggers(store->estate, rri, table->slot, recheck, NULL);
		return true;
	}
}

/*
 * Inserts a row into a table that is written so rarely that nothing is kept
 * for it.
 */
void
store_insert_alone(StoreTable *which, Datum *values, bool *isnull)
{
	EState	   *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	Table		table = {0};

	table.rel = open_relation(which, RowExclusiveLock);
	build_table(&table);
	announce_table(&table, estate);
	AfterTriggerBeginQuery();
	insert_row(&table, estate, values, isnull);
	AfterTriggerEndQuery(estate);
	close_table(&table);
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
}
