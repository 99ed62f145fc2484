/*
 * write.c
 *	  Locking, inserting, updating and deleting rows.
 *
 * Rows are written with the executor's row-level functions, so that
 * constraints, indexes and row triggers work, but nothing is parsed or
 * planned.
 *
 * Indexes are opened for writing only when a row is inserted, or updated in a
 * way that is not heap-only.  A spend updates the account and its grants
 * heap-only, and does not open theirs.
 */
#include "credits.h"

#include "store/internals.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* raise an error instead of waiting for a row lock? */
static bool nowait = false;

/*
 * Returns the table that a row belongs to, or its partition, ready to be written.
 */
static inline Table *
table_of(Store *store, StoreTable *which, const void *row)
{
	if (which->partition_key == 0)
		return store_table(store, which);
	return store_leaf_of(store, which,
						 *(const int64 *) ((const char *) row + which->partition_key));
}

/*
 * Opens the indexes of a table for writing, unless they are open.  Those that will
 * not have an entry for the row in the table's slot are left out, unless "all": the
 * executor passes over what is not open.
 */
static void
open_indexes(Table *table, bool all)
{
	RelationPtr indexes = table->rri->ri_IndexRelationDescs;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, table->index_oids)
	{
		AttrNumber	needed = table->index_needs[i];

		if (indexes[i] == NULL &&
			(all || needed <= 0 || !slot_attisnull(table->slot, needed)))
			indexes[i] = index_open(lfirst_oid(lc), RowExclusiveLock);
		i++;
	}
	table->indexes_open = true;
}

/*
 * Fills a table's slot with a row that is to be written.
 */
static void
fill_slot(Table *table, const void *row)
{
	TupleTableSlot *slot = table->slot;
	int			i;

	ExecClearTuple(slot);
	codec_write(table->which, row, slot->tts_values, slot->tts_isnull);
	/* the columns after those described have been dropped */
	for (i = table->which->ncolumns; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true;
	}
	ExecStoreVirtualTuple(slot);
}

/*
 * Returns whether a table's slot still holds the given row.
 */
static bool
slot_has(const Table *table, const void *row)
{
	TupleTableSlot *slot = table->slot;
	TupleDesc	tupdesc = slot->tts_tupleDescriptor;
	Datum	   *values = palloc0(tupdesc->natts * sizeof(Datum));
	bool	   *isnull = palloc(tupdesc->natts * sizeof(bool));
	int			i;

	memset(isnull, true, tupdesc->natts * sizeof(bool));
	codec_write(table->which, row, values, isnull);
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
 * Returns the row's TID within its struct, which is invalid if the row has not
 * been stored yet.
 */
static ItemPointer
place_of(const StoreTable *table, const void *row)
{
	return (ItemPointer) ((char *) unconstify(void *, row) + table->tid);
}

/*
 * Raises the error for a row that somebody has changed although this
 * transaction holds the lock that protects it, be it on the row or on its
 * account.
 */
void
store_raise_changed(const StoreTable *table, const void *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("The row of table \"credits.%s\" with %s has changed independently of the lock that guards it.",
					   table->name, codec_name(table, row)),
			 errhint("Retry the transaction.")));
}

/*
 * Inserts a row, and queues its AFTER triggers.
 */
static void
insert_row(Table *table, EState *estate, const void *row)
{
	ResultRelInfo *rri = table->rri;
	TriggerDesc *triggers = rri->ri_TrigDesc;
	List	   *recheck;

	fill_slot(table, row);

	/*
	 * Hashes, ids and sums have been computed from the row, so it must be
	 * stored as it is.
	 */
	if (triggers && triggers->trig_insert_before_row &&
		(!ExecBRInsertTriggers(estate, rri, table->slot) ||
		 !slot_has(table, row)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a trigger must not change or suppress rows of table \"credits.%s\"",
						RelationGetRelationName(table->rel)),
				 errhint("Let the trigger return NEW as it came, or make it an AFTER trigger.")));
	ExecConstraints(rri, table->slot, estate);
	table_tuple_insert(table->rel, table->slot, GetCurrentCommandId(true), 0,
					   NULL);
	open_indexes(table, false);
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
store_insert(Store *store, StoreTable *which, const void *row)
{
	insert_row(table_of(store, which, row), store->estate, row);
}

/*
 * Updates a row to the new values in the struct, after waiting for a
 * transaction that is updating or has locked it.  A result other than TM_Ok
 * means that the version in the struct is no longer the newest one, and
 * nothing was written.
 */
TM_Result
store_update(Store *store, StoreTable *which, Snapshot snapshot,
			 const void *row)
{
	Table	   *table = table_of(store, which, row);
	ItemPointer tid = place_of(which, row);
	EState	   *estate = store->estate;
	ResultRelInfo *rri = table->rri;
	TM_FailureData failure;
	LockTupleMode lockmode;
	UpdateIndexesCompat update_indexes;
	TM_Result	result;
	List	   *recheck = NIL;

	fill_slot(table, row);
	ExecConstraints(rri, table->slot, estate);
	result = table_tuple_update(table->rel, tid, table->slot,
								GetCurrentCommandId(true), snapshot,
								InvalidSnapshot, true, &failure, &lockmode,
								&update_indexes);
	if (result != TM_Ok)
		return result;
	if (UPDATE_NEEDS_INDEXES(update_indexes))
	{
		open_indexes(table, false);
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
 * Returns the TID of the row that was last written to a table.
 */
ItemPointer
store_place(Store *store, StoreTable *which)
{
	return &store_table(store, which)->slot->tts_tid;
}

/*
 * Inserts a row that is new, or updates one that exists.  In the latter case
 * the caller must hold the lock that protects the row; an error is raised if
 * somebody has changed it nevertheless.
 */
void
store_write(Store *store, StoreTable *which, Snapshot snapshot,
			const void *row)
{
	if (!ItemPointerIsValid(place_of(which, row)))
		store_insert(store, which, row);
	else if (store_update(store, which, snapshot, row) != TM_Ok)
		store_raise_changed(which, row);
}

/*
 * Deletes a row.  The caller must hold the lock that protects it; an error is
 * raised if somebody has changed it nevertheless.
 */
void
store_delete(Store *store, StoreTable *which, Snapshot snapshot,
			 const void *row)
{
	Table	   *table = store_table(store, which);
	ItemPointer tid = place_of(which, row);
	TM_FailureData failure;

	if (table_tuple_delete(table->rel, tid, GetCurrentCommandId(true),
						   snapshot, InvalidSnapshot, true, &failure,
						   false) != TM_Ok)
		store_raise_changed(which, row);
	ExecARDeleteTriggers(store->estate, table->rri, tid, NULL, NULL, false);
}

/*
 * Returns whether another transaction has locked or is changing the last row
 * that was read from a table with scan_read or scan_peek, so that updating it
 * would probably have to wait.  The answer is only a hint: it may be outdated
 * when the caller uses it.
 */
bool
store_is_being_changed(Store *store, StoreTable *which)
{
	TupleTableSlot *slot = store_table(store, which)->scan_slot;
	HeapTupleHeader header;
	TransactionId xmax;

	/* without a heap tuple there is no answer, and a hint is not essential */
	if (TTS_EMPTY(slot) || !TTS_IS_BUFFERTUPLE(slot))
		return false;
	header = ((BufferHeapTupleTableSlot *) slot)->base.tuple->t_data;
	if (header->t_infomask & HEAP_XMAX_INVALID)
		return false;
	/* don't look up the members of a multixact, which is slow: assume yes */
	if (header->t_infomask & HEAP_XMAX_IS_MULTI)
		return true;
	xmax = HeapTupleHeaderGetRawXmax(header);
	return TransactionIdIsNormal(xmax) &&
		!TransactionIdIsCurrentTransactionId(xmax) &&
		TransactionIdIsInProgress(xmax);
}

/*
 * Sets whether store_lock raises an error (55P03) instead of waiting for a row
 * lock.  Returns the previous value, which the caller must restore, also after
 * an error.
 */
bool
store_set_nowait(bool value)
{
	bool		before = nowait;

	nowait = value;
	return before;
}

/*
 * Locks a row against updates, and reads its newest version into the struct.
 * In REPEATABLE READ and above, only the version that the snapshot sees can be
 * locked.  A result other than TM_Ok means that it was not: the row was
 * deleted or, with skip_locked, is locked by another transaction, or has
 * changed since the snapshot.
 */
TM_Result
store_lock(Store *store, StoreTable *which, Snapshot snapshot, void *row,
		   bool skip_locked)
{
	Table	   *table = store_table(store, which);
	TM_FailureData failure;
	ItemPointerData tid = *place_of(which, row);
	TM_Result	result;

	result = table_tuple_lock(table->rel, &tid, snapshot, table->scan_slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive,
							  skip_locked ? LockWaitSkip :
							  nowait ? LockWaitError : LockWaitBlock,
							  IsolationUsesXactSnapshot() ? 0 :
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
							  &failure);
	if (result == TM_Ok)
		codec_read(which, table->scan_slot, row);
	return result;
}

/*
 * Returns the indexes of an open table that decide whether a row is there
 * already: the one meant, and any that is alike.  While REINDEX CONCURRENTLY
 * runs there are two, and rows are inserted into both: what yields to a row in
 * the one only would violate the other.
 */
static List *
arbiters_of(Table *table, StoreIndex *unique)
{
	Relation	index = tables_open_index(unique, RowExclusiveLock);
	List	   *arbiters = list_make1_oid(RelationGetRelid(index));
	int			i;

	for (i = 0; i < table->rri->ri_NumIndices; i++)
	{
		Relation	other = table->rri->ri_IndexRelationDescs[i];

		if (tables_are_alike(index, other))
			arbiters = list_append_unique_oid(arbiters, RelationGetRelid(other));
	}
	index_close(index, NoLock);
	return arbiters;
}

/*
 * Inserts a row, unless there is one with the same key in a unique index;
 * returns false in that case.  Waits for a transaction that is inserting such
 * a row.
 *
 * This does what INSERT ... ON CONFLICT DO NOTHING does (see ExecInsert).
 */
bool
store_insert_unless(Store *store, StoreIndex *unique, const void *row)
{
	Table	   *table = store_table(store, unique->table);
	ResultRelInfo *rri = table->rri;
	List	   *arbiters;

	open_indexes(table, true);
	arbiters = arbiters_of(table, unique);
	for (;;)
	{
		ItemPointerData conflict;
		bool		failed = false;
		uint32		token;
		List	   *recheck;

		fill_slot(table, row);
		table->slot->tts_tableOid = RelationGetRelid(table->rel);
		/* this also waits for an insertion in progress */
		if (!ExecCheckIndexConstraints_compat(rri, table->slot, store->estate,
											  &conflict, arbiters))
			return false;
		ExecConstraints(rri, table->slot, store->estate);

		/*
		 * Another session may insert the same key now.  So the insertion is
		 * speculative: others that find the tuple wait only until it is
		 * confirmed or killed, and not for the end of the transaction.
		 */
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
		/* there was a conflict, and the tuple has been killed: start again */
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
 * Inserts a row into a table that is rarely written, without a Store.
 */
void
store_insert_alone(StoreTable *which, const void *row)
{
	EState	   *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	Table		table = {.which = which};

	table.rel = tables_open(which, RowExclusiveLock);
	store_build_table(&table);
	store_announce_table(&table, estate);
	AfterTriggerBeginQuery();
	insert_row(&table, estate, row);
	AfterTriggerEndQuery(estate);
	store_close_table(&table);
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
}
