/*
 * store.c
 *	  Opening tables, and keeping what is needed to write to them.
 *
 * The structures that the executor would build for each statement (result
 * relations, compiled constraints, slots) are kept between calls in a Store.  An
 * invalidation of one of the extension's tables marks a Store as stale, and the
 * next call builds a new one.  What is done with them is in write.c.
 *
 * Each topic describes its own tables and indexes, as StoreTables and
 * StoreIndexes in its file.  The tables that every posting needs are opened
 * with the Store, the others when they are first used.
 *
 * Memory: while a call uses a Store, its memory context is a child of the
 * current (sub)transaction's, so that an error frees it; between calls it is a
 * child of TopMemoryContext.  A call that is made within another one, from a
 * user's trigger on the log, does not find a kept Store and builds its own.
 */
#include "credits.h"

#include "store/internals.h"
#include "store/sequences.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* the tables that are opened with every Store */
static StoreTable *const *core_tables = NULL;
static int	ncore_tables = 0;

/* the Store kept from the last call, NULL while a call uses it */
static Store *kept = NULL;

/* with how many partitions a Store is kept */
#define MAX_KEPT_LEAVES 4

/*
 * Initializes this directory.  The tables passed, which the caller must not
 * free, are opened with every Store.
 */
void
store_init(StoreTable *const *tables, int n)
{
	core_tables = tables;
	ncore_tables = n;
	tables_init();
}

/*
 * Returns whether a relation is the table described, or a partition of it.
 */
bool
store_is_table(Relation rel, StoreTable *table)
{
	tables_resolve(table);
	if (table->partition_key)
		return leaves_has(table, RelationGetRelid(rel));
	return RelationGetRelid(rel) == table->oid;
}

/*
 * Raises an error in a read-only transaction, in a parallel operation and
 * during recovery.
 */
void
store_check_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	PreventCommandDuringRecovery(function);
}

/*
 * Locks the tables that are opened with every Store, in the mode for writing.
 */
void
store_lock_core(void)
{
	int			i;

	for (i = 0; i < ncore_tables; i++)
		store_lock_table(core_tables[i]);
}

/*
 * Locks a table in the mode for writing; of a partitioned table, the partition
 * that new rows go to.
 */
void
store_lock_table(StoreTable *table)
{
	Leaf		leaf;
	int			n;

	if (table->partition_key == 0)
	{
		tables_resolve(table);
		LockRelationOid(table->oid, RowExclusiveLock);
		return;
	}
	(void) leaves_list(table, &n);
	table_close(leaves_open(table, n > 1 ? store_newest_id(table) + 1 : 0,
							RowExclusiveLock, &leaf), NoLock);
}

/*
 * Leaves out the triggers that check foreign keys among our own tables, if any
 * are enabled: what a row refers to has been read under its account's lock.
 * Other triggers after a row are noted again: were one noted that is not there,
 * each update would read the old row for it.
 */
static void
leave_out_checks(Relation rel, TriggerDesc *triggers)
{
	int			n = 0;
	int			i;

	triggers->trig_insert_after_row = false;
	triggers->trig_update_after_row = false;
	triggers->trig_delete_after_row = false;
	for (i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		int16		type = trigger->tgtype;

		if (tables_is_check_of_ours(rel, trigger))
			continue;
		if (TRIGGER_FOR_ROW(type) && TRIGGER_FOR_AFTER(type))
		{
			triggers->trig_insert_after_row |= TRIGGER_FOR_INSERT(type) != 0;
			triggers->trig_update_after_row |= TRIGGER_FOR_UPDATE(type) != 0;
			triggers->trig_delete_after_row |= TRIGGER_FOR_DELETE(type) != 0;
		}
		triggers->triggers[n++] = *trigger;
	}
	triggers->numtriggers = n;
}

/*
 * Returns a column that must not be null in the rows of a partial index, 0 if
 * its predicate does not ask for one.
 */
static AttrNumber
column_needed(const IndexInfo *info)
{
	ListCell   *lc;

	foreach(lc, info->ii_Predicate)
	{
		NullTest   *test = lfirst(lc);

		if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL &&
			!test->argisrow && IsA(test->arg, Var))
			return castNode(Var, test->arg)->varattno;
	}
	return 0;
}

/*
 * Builds the structures for writing to a table, in the current memory context.
 */
void
store_build_table(Table *table)
{
	Relation	rel = table->rel;
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleDesc	tupdesc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	const TupleTableSlotOps *ops = table_slot_callbacks(rel);
	ListCell   *lc;
	int			i = 0;

	InitResultRelInfo(rri, rel, 0, NULL, 0);
	if (rri->ri_TrigDesc)
		leave_out_checks(rel, rri->ri_TrigDesc);

	/*
	 * The executor would make these slots itself, but with the relcache's
	 * tuple descriptor, which must not stay pinned between calls.
	 */
	rri->ri_TrigOldSlot = MakeSingleTupleTableSlot(tupdesc, ops);
	rri->ri_TrigNewSlot = MakeSingleTupleTableSlot(tupdesc, ops);

	table->rri = rri;
	table->slot = MakeSingleTupleTableSlot(tupdesc, ops);
	if (table->scan_slot == NULL)
		table->scan_slot = MakeSingleTupleTableSlot(tupdesc, ops);

	table->indexes_open = false;
	table->index_oids = RelationGetIndexList(rel);
	rri->ri_NumIndices = list_length(table->index_oids);
	rri->ri_IndexRelationDescs = (RelationPtr)
		palloc0(rri->ri_NumIndices * sizeof(Relation));
	rri->ri_IndexRelationInfo = (IndexInfo **)
		palloc0(rri->ri_NumIndices * sizeof(IndexInfo *));
	table->index_needs = palloc0(rri->ri_NumIndices * sizeof(AttrNumber));
	foreach(lc, table->index_oids)
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);
		IndexInfo  *info = BuildIndexInfo(index);

		/* needed by store_insert_unless */
		if (info->ii_Unique)
			BuildSpeculativeIndexInfo(index, info);
		table->index_needs[i] = column_needed(info);
		rri->ri_IndexRelationInfo[i++] = info;
		index_close(index, NoLock);
	}
}

/*
 * Lets ExecGetTriggerResultRel find a table's ResultRelInfo, so that it does
 * not make another one when triggers are fired.
 */
void
store_announce_table(Table *table, EState *estate)
{
	estate->es_opened_result_relations =
		lappend(estate->es_opened_result_relations, table->rri);
}

/*
 * Returns whether all indexes of a table are B-trees or hash indexes.  Other
 * access methods may store data in ii_AmCache between inserts that points into
 * the relation cache, so a Store with such an index must not be kept.
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
 * Prepares an opened table for use in a Store.
 */
static void
prepare_table(Store *store, Table *table, Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(store->context);

	table->rel = rel;
	/* structures built before the last invalidation may be stale */
	if (table->rri && store->generation == tables_generation())
		table->rri->ri_RelationDesc = rel;
	else
	{
		/* the slot of a partition that is being read may be in use */
		if (table->rri)
			table->scan_slot = NULL;
		store_build_table(table);
		store->keep = store->keep &&
			tables_has_only_our_triggers(rel, table->rri->ri_TrigDesc) &&
			only_plain_indexes(table);
	}
	store_announce_table(table, store->estate);
	MemoryContextSwitchTo(old);
}

/*
 * Returns a table of a Store, and opens it if it is not open yet.
 */
Table *
store_table(Store *store, StoreTable *which)
{
	Table	   *table;

	if (which->number == 0)
		tables_resolve(which);
	table = &store->tables[which->number - 1];
	table->which = which;
	if (table->rel == NULL)
		prepare_table(store, table, tables_open(which, RowExclusiveLock));
	return table;
}

/*
 * Returns a partition that has been opened as part of a Store, ready to be read.
 */
static LeafTable *
add_leaf(Store *store, StoreTable *which, Relation rel)
{
	LeafTable  *leaf;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, store->leaves)
	{
		leaf = lfirst(lc);
		if (leaf->leaf.oid != RelationGetRelid(rel))
			continue;
		if (leaf->table.rel)
			table_close(rel, NoLock);
		else if (store->generation != tables_generation())
		{
			/* what was built before may be stale */
			leaf->leaf.oid = InvalidOid;
			break;
		}
		else
		{
			leaf->table.rel = rel;
			if (leaf->table.rri)
				prepare_table(store, &leaf->table, rel);
		}
		return leaf;
	}
	old = MemoryContextSwitchTo(store->context);
	leaf = palloc0(sizeof(LeafTable));
	leaf->leaf.oid = RelationGetRelid(rel);
	leaf->table.which = which;
	leaf->table.rel = rel;
	leaf->table.scan_slot =
		MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(RelationGetDescr(rel)),
								 table_slot_callbacks(rel));
	store->leaves = lappend(store->leaves, leaf);
	MemoryContextSwitchTo(old);
	return leaf;
}

/*
 * Returns a partition, ready to be read, and opens it if it is not open yet; NULL
 * if it has been dropped.
 */
Table *
store_leaf(Store *store, StoreTable *which, Oid oid)
{
	Relation	rel;
	ListCell   *lc;

	foreach(lc, store->leaves)
	{
		LeafTable  *leaf = lfirst(lc);

		if (leaf->leaf.oid == oid && leaf->table.rel)
			return &leaf->table;
	}
	rel = leaves_try_open(which, oid, RowExclusiveLock);
	return rel ? &add_leaf(store, which, rel)->table : NULL;
}

/*
 * Returns the partition of an id, ready to be written, and opens it if it is not
 * open yet.
 */
Table *
store_leaf_of(Store *store, StoreTable *which, int64 id)
{
	LeafTable  *leaf = store->last_leaf;
	Leaf		bounds;
	Relation	rel;

	if (leaf && leaf->table.which == which &&
		leaf->table.rel && leaf->table.rri &&
		leaf->generation == tables_generation() &&
		id >= leaf->leaf.from && id < leaf->leaf.until)
		return &leaf->table;
	rel = leaves_open(which, id, RowExclusiveLock, &bounds);
	leaf = add_leaf(store, which, rel);
	leaf->leaf = bounds;
	leaf->generation = tables_generation();
	if (leaf->table.rri == NULL)
		prepare_table(store, &leaf->table, leaf->table.rel);
	store->last_leaf = leaf;
	return &leaf->table;
}

/*
 * Opens a Store: the one kept from the last call if it is still valid, or a
 * new one.  The caller must close it with store_close, unless an error occurs.
 */
Store *
store_open(void)
{
	Relation	rels[MAX_TABLES];
	Store	   *store;
	bool		stable;
	int			i;

	/* tables that are locked already would not do so */
	AcceptInvalidationMessages();
	do
	{
		stable = true;
		for (i = 0; i < ncore_tables; i++)
			rels[i] = core_tables[i]->partition_key ? NULL :
				tables_open(core_tables[i], RowExclusiveLock);
		for (i = 0; i < ncore_tables; i++)
			stable = stable && (rels[i] == NULL || core_tables[i]->generation ==
								tables_generation());

		/*
		 * Locking one table may have processed an invalidation of another
		 * that was opened before it: start again.
		 */
		for (i = 0; !stable && i < ncore_tables; i++)
			if (rels[i])
				table_close(rels[i], NoLock);
	} while (!stable);

	/* a call made from a trigger of this one must not use the same Store */
	store = kept;
	kept = NULL;
	if (store && store->generation != tables_generation())
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
		store->generation = tables_generation();
		store->keep = true;
		store->estate = CreateExecutorState();
		MemoryContextSwitchTo(old);
	}
	for (i = 0; i < ncore_tables; i++)
	{
		Table	   *table;

		/* partitions are opened when they are needed */
		if (rels[i] == NULL)
			continue;
		table = &store->tables[core_tables[i]->number - 1];
		table->which = core_tables[i];
		prepare_table(store, table, rels[i]);
	}
	return store;
}

/*
 * Releases the resources that a table holds only during a call.
 */
void
store_close_table(Table *table)
{
	ResultRelInfo *rri = table->rri;
	int			i;

	/*
	 * Not ExecCloseIndices, which releases the locks on the indexes: the next
	 * call in this transaction would have to take them again.
	 */
	for (i = 0; table->indexes_open && i < rri->ri_NumIndices; i++)
		if (rri->ri_IndexRelationDescs[i])
		{
			close_inserted_index_compat(rri->ri_IndexRelationDescs[i],
										rri->ri_IndexRelationInfo[i]);
			rri->ri_IndexRelationDescs[i] = NULL;
		}
	table->indexes_open = false;
	ExecClearTuple(table->scan_slot);
	if (rri)
	{
		ExecClearTuple(table->slot);
		ExecClearTuple(rri->ri_TrigOldSlot);
		ExecClearTuple(rri->ri_TrigNewSlot);
	}
	table_close(table->rel, NoLock);
	table->rel = NULL;
}

/*
 * Closes a Store, and keeps it for the next call if it may be kept.
 */
void
store_close(Store *store)
{
	ListCell   *lc;
	int			i;

	for (i = 0; i < MAX_TABLES; i++)
		if (store->tables[i].rel)
			store_close_table(&store->tables[i]);
	foreach(lc, store->leaves)
	{
		LeafTable  *leaf = lfirst(lc);

		if (leaf->table.rel)
			store_close_table(&leaf->table);
	}
	/* a call that has read much of the past is not what the next one is like */
	if (list_length(store->leaves) > MAX_KEPT_LEAVES)
		store->keep = false;
	list_free(store->estate->es_opened_result_relations);
	store->estate->es_opened_result_relations = NIL;
	ResetPerTupleExprContext(store->estate);

	/* "kept" is set if a call within this one has left its Store */
	if (store->keep && kept == NULL && store->generation == tables_generation())
	{
		MemoryContextSetParent(store->context, TopMemoryContext);
		kept = store;
	}
	else
		MemoryContextDelete(store->context);
}

/*
 * Returns a snapshot for finding rows.  In REPEATABLE READ and above it is the
 * transaction's.  In READ COMMITTED it is a new one; unless "fresh", the
 * statement's own snapshot is used instead if it sees everything that this
 * transaction has done.
 *
 * The snapshot is not registered: see open_scan.
 */
Snapshot
store_snapshot(bool fresh)
{
	if (IsolationUsesXactSnapshot())
		return GetTransactionSnapshot();
	/* a parallel worker can take none, and sees what its leader does */
	if (IsInParallelMode() && ActiveSnapshotSet())
		return GetActiveSnapshot();
	if (!fresh && ActiveSnapshotSet() &&
		GetActiveSnapshot()->snapshot_type == SNAPSHOT_MVCC &&
		GetActiveSnapshot()->curcid == GetCurrentCommandId(false))
		return GetActiveSnapshot();
	return GetLatestSnapshot();
}

/*
 * Begins a set of changes.  Their AFTER triggers fire in store_end_changes.
 */
void
store_begin_changes(Store *store)
{
	AfterTriggerBeginQuery();
}

/*
 * Ends a set of changes: fires AFTER triggers, and makes the changes visible
 * to the next command of the transaction.
 */
void
store_end_changes(Store *store)
{
	AfterTriggerEndQuery(store->estate);
	CommandCounterIncrement();
}

/*
 * Returns the next id from the sequence of a table.
 */
int64
store_next_id(StoreTable *table)
{
	tables_resolve(table);
	return nextval_internal(table->sequence_oid, false);
}

/*
 * Returns the newest id that was drawn from the sequence of a table, by whomever.
 */
int64
store_newest_id(StoreTable *table)
{
	tables_resolve(table);
	return sequences_newest(table->sequence_oid);
}

/*
 * Returns whether sessions draw ids from the sequence of a table before they use
 * them.
 */
bool
store_ids_are_cached(StoreTable *table)
{
	tables_resolve(table);
	return sequences_cache(table->sequence_oid) > 1;
}
