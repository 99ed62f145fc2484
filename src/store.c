/*
 * store.c
 *	  Rows: finding, locking, inserting and updating them.
 *
 * Rows are written by the executor's own row functions, so constraints,
 * indexes and row triggers work, but nothing is parsed or planned.  What the
 * executor would build anew for each statement (result relations, compiled
 * constraints, slots) is kept from call to call in a Store.  Invalidation of
 * one of our tables marks what is kept as stale, and it is built again.
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
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static const char *const table_names[N_STORE_TABLES] = {
	[TABLE_ACCOUNTS] = "accounts",
	[TABLE_GRANTS] = "grants",
	[TABLE_TRANSACTIONS] = "transactions",
	[TABLE_EVENTS] = "events"
};

static const int column_counts[N_STORE_TABLES] = {
	[TABLE_ACCOUNTS] = Natts_accounts,
	[TABLE_GRANTS] = Natts_grants,
	[TABLE_TRANSACTIONS] = Natts_transactions,
	[TABLE_EVENTS] = Natts_events
};

static const char *const sequence_names[N_STORE_TABLES] = {
	[TABLE_ACCOUNTS] = "accounts_id_seq",
	[TABLE_GRANTS] = "grants_id_seq",
	[TABLE_TRANSACTIONS] = "transactions_id_seq",
	[TABLE_EVENTS] = "events_id_seq"
};

static const struct
{
	StoreTable	table;
	const char *name;
}			indexes[N_STORE_INDEXES] =
{
	[INDEX_ACCOUNTS_ID] = {TABLE_ACCOUNTS, "accounts_pkey"},
	[INDEX_ACCOUNTS_NAME] = {TABLE_ACCOUNTS, "accounts_name_key"},
	[INDEX_ACCOUNTS_DUE_AT] = {TABLE_ACCOUNTS, "accounts_due_at_idx"},
	[INDEX_GRANTS_ID] = {TABLE_GRANTS, "grants_pkey"},
	[INDEX_GRANTS_ACCOUNT_ID] = {TABLE_GRANTS, "grants_account_id_idx"},
	[INDEX_GRANTS_BURN_ORDER] = {TABLE_GRANTS, "grants_burn_order_idx"},
	[INDEX_TRANSACTIONS_ID] = {TABLE_TRANSACTIONS, "transactions_pkey"},
	[INDEX_TRANSACTIONS_ACCOUNT_ID] =
	{TABLE_TRANSACTIONS, "transactions_account_id_idx"},
	[INDEX_TRANSACTIONS_KEY] =
	{TABLE_TRANSACTIONS, "transactions_idempotency_key_idx"},
	[INDEX_TRANSACTIONS_TARGET_ID] =
	{TABLE_TRANSACTIONS, "transactions_target_id_idx"}
};

/* What is known of our relations; good while generations agree */
static struct
{
	uint64		generation;
	Oid			schema;
	Oid			tables[N_STORE_TABLES];
	Oid			sequences[N_STORE_TABLES];
	Oid			indexes[N_STORE_INDEXES];
}			known;

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
	bool		changing;		/* between begin and end of changes? */
	EState	   *estate;
	Table		tables[TABLE_EVENTS];	/* all but events */
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

	for (i = 0; i < N_STORE_TABLES; i++)
		if (!OidIsValid(relid) || relid == known.tables[i])
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
 * Looks our relations up by name, if they may have changed.
 */
static void
resolve(void)
{
	int			i;

	while (known.generation != generation)
	{
		uint64		current = generation;
		bool		missing = false;

		known.schema = get_namespace_oid("credits", true);
		for (i = 0; i < N_STORE_TABLES; i++)
		{
			known.tables[i] = get_relname_relid(table_names[i], known.schema);
			known.sequences[i] = get_relname_relid(sequence_names[i],
												   known.schema);
			if (!OidIsValid(known.tables[i]) ||
				!OidIsValid(known.sequences[i]))
				missing = true;
		}
		for (i = 0; i < N_STORE_INDEXES; i++)
		{
			known.indexes[i] = get_relname_relid(indexes[i].name,
												 known.schema);
			if (!OidIsValid(known.indexes[i]))
				missing = true;
		}
		if (missing)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"credits\" is not whole in this database"),
					 errdetail("A table, an index or a sequence of schema \"credits\" is missing."),
					 errhint("Restore it, or install the extension with CREATE EXTENSION credits.")));
		known.generation = current;
	}
}

/*
 * Builds what writing to a table takes, in the current memory context.
 */
static void
build_table(Table *table, StoreTable which, EState *estate)
{
	Relation	rel = table->rel;
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleDesc	tupdesc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	const TupleTableSlotOps *ops = table_slot_callbacks(rel);
	ListCell   *lc;
	int			i = 0;

	if (tupdesc->natts != column_counts[which])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"credits.%s\" has been altered",
						table_names[which]),
				 errdetail("It has %d columns, not %d.",
						   tupdesc->natts, column_counts[which]),
				 errhint("Keep columns of your own in a table of your own.")));
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

	/* lets firing triggers find this rri instead of making another */
	estate->es_opened_result_relations =
		lappend(estate->es_opened_result_relations, rri);
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
		if (get_func_namespace(rel->trigdesc->triggers[i].tgfoid) !=
			known.schema)
			return false;
	return true;
}

/*
 * Opens the tables that a posting needs, for reading and writing.
 */
Store *
store_open(void)
{
	Relation	rels[TABLE_EVENTS];
	Store	   *store;
	MemoryContext old;
	int			i;

	for (;;)
	{
		resolve();
		for (i = 0; i < TABLE_EVENTS; i++)
			rels[i] = table_open(known.tables[i], RowExclusiveLock);
		if (known.generation == generation)
			break;
		/* taking the locks brought news: look again */
		for (i = 0; i < TABLE_EVENTS; i++)
			table_close(rels[i], NoLock);
	}

	store = kept;
	kept = NULL;
	if (store && store->generation != generation)
	{
		MemoryContextDelete(store->context);
		store = NULL;
	}
	if (store)
	{
		MemoryContextSetParent(store->context, CurTransactionContext);
		for (i = 0; i < TABLE_EVENTS; i++)
		{
			store->tables[i].rel = rels[i];
			store->tables[i].rri->ri_RelationDesc = rels[i];
		}
		return store;
	}

	old = MemoryContextSwitchTo(AllocSetContextCreate(CurTransactionContext,
													  "credits store",
													  ALLOCSET_DEFAULT_SIZES));
	store = palloc0(sizeof(Store));
	store->context = CurrentMemoryContext;
	store->generation = generation;
	store->keep = true;
	store->estate = CreateExecutorState();
	for (i = 0; i < TABLE_EVENTS; i++)
	{
		store->tables[i].rel = rels[i];
		build_table(&store->tables[i], i, store->estate);
		store->keep = store->keep && only_our_triggers(rels[i]);
	}
	MemoryContextSwitchTo(old);
	return store;
}

/*
 * Lets go of what a table holds only during a call.
 */
static void
close_table(Table *table)
{
	if (table->indexes_open)
		ExecCloseIndices(table->rri);
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

	for (i = 0; i < TABLE_EVENTS; i++)
		close_table(&store->tables[i]);
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
store_next_id(StoreTable table)
{
	resolve();
	return nextval_internal(known.sequences[table], false);
}

/*
 * Begins a scan of an index.  Without a Store the scan opens the table itself.
 */
void
store_scan(StoreScan *scan, Store *store, StoreIndex index, Snapshot snapshot,
		   ScanKey keys, int nkeys)
{
	StoreTable	table = indexes[index].table;

	if (store)
	{
		scan->heap = store->tables[table].rel;
		scan->heap_is_ours = false;
		scan->index = index_open(known.indexes[index], RowExclusiveLock);
		scan->slot = store->tables[table].scan_slot;
		scan->slot_is_ours = false;
	}
	else
	{
		for (;;)
		{
			resolve();
			scan->heap = table_open(known.tables[table], AccessShareLock);
			if (known.generation == generation)
				break;
			table_close(scan->heap, NoLock);
		}
		scan->heap_is_ours = true;
		scan->index = index_open(known.indexes[index], AccessShareLock);
		scan->slot = table_slot_create(scan->heap, NULL);
		scan->slot_is_ours = true;
	}
	scan->scan = index_beginscan_compat(scan->heap, scan->index, snapshot,
										nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/*
 * Returns the next row of a scan, or NULL.  It stays good until the next one
 * is asked for, and in a Store's scan until the next scan of that table.
 */
TupleTableSlot *
store_scan_next(StoreScan *scan, ScanDirection direction)
{
	if (index_getnext_slot(scan->scan, direction, scan->slot))
		return scan->slot;
	return NULL;
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
 * Makes a scan key for an id.
 */
static void
id_key(ScanKey key, AttrNumber attno, int64 id)
{
	ScanKeyInit(key, attno, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
}

/*
 * Makes a scan key for a text in collation "C".
 */
static void
text_key(ScanKey key, AttrNumber attno, text *value)
{
	ScanKeyEntryInitialize(key, 0, attno, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, PointerGetDatum(value));
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
		!ExecBRInsertTriggers(estate, rri, table->slot))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("a trigger must not suppress a row of table \"%s\"",
						RelationGetRelationName(table->rel)),
				 errhint("Let the trigger return NEW, or make it an AFTER trigger.")));
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
 * Updates a row of a table, waiting for whoever is changing it.
 */
static TM_Result
update_row(Table *table, EState *estate, Snapshot snapshot, ItemPointer tid,
		   Datum *values, bool *isnull)
{
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
								InvalidSnapshot, true, &failure, &lockmode,
								&update_indexes);
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
 * Returns which of the names a text is.
 */
static int
which_name(Datum value, const char *const *names, int n)
{
	text	   *t = DatumGetTextPP(value);
	const char *s = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	int			i;

	for (i = 0; i < n; i++)
		if (strlen(names[i]) == len && memcmp(names[i], s, len) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("unknown status \"%s\"", text_to_cstring(t))));
	return 0;
}

static const char *const account_status_names[] = {"active", "paused", "closed"};

const char *const grant_status_names[] =
{"pending", "open", "used", "expired", "voided"};

/*
 * Reads an account from a slot.
 */
void
store_read_account(TupleTableSlot *slot, Account *account)
{
	Datum	   *values;
	bytea	   *head;

	slot_getallattrs(slot);
	memcpy(account->values, slot->tts_values, sizeof(account->values));
	memcpy(account->isnull, slot->tts_isnull, sizeof(account->isnull));
	values = account->values - 1;	/* by column number */

	account->tid = slot->tts_tid;
	account->id = DatumGetInt64(values[Anum_accounts_id]);
	account->status = which_name(values[Anum_accounts_status],
								 account_status_names,
								 lengthof(account_status_names));
	account->has_low_balance = !account->isnull[Anum_accounts_low_balance - 1];
	account->low_balance = account->has_low_balance ?
		DatumGetInt64(values[Anum_accounts_low_balance]) : 0;
	account->due_at = DatumGetTimestampTz(values[Anum_accounts_due_at]);
	account->granted = DatumGetInt64(values[Anum_accounts_granted]);
	account->refunded = DatumGetInt64(values[Anum_accounts_refunded]);
	account->expired = DatumGetInt64(values[Anum_accounts_expired]);
	account->held = DatumGetInt64(values[Anum_accounts_held]);
	account->balance = DatumGetInt64(values[Anum_accounts_balance]);
	account->spent = DatumGetInt64(values[Anum_accounts_spent]);
	account->transaction_count =
		DatumGetInt64(values[Anum_accounts_transaction_count]);
	account->last_transaction_id =
		DatumGetInt64(values[Anum_accounts_last_transaction_id]);
	account->last_at = DatumGetTimestampTz(values[Anum_accounts_last_at]);
	head = DatumGetByteaPP(values[Anum_accounts_head]);
	account->head_len = Min(VARSIZE_ANY_EXHDR(head), PG_SHA256_DIGEST_LENGTH);
	memcpy(account->head, VARDATA_ANY(head), account->head_len);
}

/*
 * Finds an account by name, or by id if there is no name.
 */
bool
store_find_account(Store *store, Snapshot snapshot, text *name, int64 id,
				   Account *account)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (name)
		text_key(&key, 1, name);
	else
		id_key(&key, 1, id);
	store_scan(&scan, store, name ? INDEX_ACCOUNTS_NAME : INDEX_ACCOUNTS_ID,
			   snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		store_read_account(slot, account);
		if (store == NULL)
		{
			/* what varies in width would go with the slot */
			account->values[Anum_accounts_name - 1] =
				PointerGetDatum(DatumGetTextPCopy(account->values[Anum_accounts_name - 1]));
		}
	}
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Locks an account's row and reads its newest version.  Returns false if it is
 * locked by another and such rows are to be skipped.
 */
bool
store_lock_account(Store *store, Snapshot snapshot, Account *account,
				   bool skip_locked)
{
	Table	   *table = &store->tables[TABLE_ACCOUNTS];
	TM_FailureData failure;
	TM_Result	result;
	ItemPointerData tid = account->tid;

	result = table_tuple_lock(table->rel, &tid, snapshot, table->scan_slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive,
							  skip_locked ? LockWaitSkip : LockWaitBlock,
							  IsolationUsesXactSnapshot() ? 0 :
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
							  &failure);
	switch (result)
	{
		case TM_Ok:
			store_read_account(table->scan_slot, account);
			return true;
		case TM_WouldBlock:
			return false;
		case TM_Updated:
		case TM_Deleted:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Account " INT64_FORMAT " has changed since the transaction's snapshot.",
							   account->id),
					 errhint("Retry the transaction.")));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("account is being changed by the current command"),
					 errdetail("Account " INT64_FORMAT " cannot be locked (%d).",
							   account->id, (int) result),
					 errhint("Call the function in a statement of its own.")));
	}
	return false;
}

/*
 * Writes an account's new state.  Anything but TM_Ok means that another has
 * changed it.
 */
TM_Result
store_update_account(Store *store, Snapshot snapshot, Account *account)
{
	Datum	   *values = account->values - 1;	/* by column number */
	bool	   *isnull = account->isnull - 1;
	struct
	{
		char		header[VARHDRSZ];
		uint8		data[PG_SHA256_DIGEST_LENGTH];
	}			head;

	values[Anum_accounts_status] =
		CStringGetTextDatum(account_status_names[account->status]);
	values[Anum_accounts_low_balance] = Int64GetDatum(account->low_balance);
	isnull[Anum_accounts_low_balance] = !account->has_low_balance;
	values[Anum_accounts_due_at] = TimestampTzGetDatum(account->due_at);
	values[Anum_accounts_granted] = Int64GetDatum(account->granted);
	values[Anum_accounts_refunded] = Int64GetDatum(account->refunded);
	values[Anum_accounts_expired] = Int64GetDatum(account->expired);
	values[Anum_accounts_held] = Int64GetDatum(account->held);
	values[Anum_accounts_balance] = Int64GetDatum(account->balance);
	values[Anum_accounts_spent] = Int64GetDatum(account->spent);
	values[Anum_accounts_transaction_count] =
		Int64GetDatum(account->transaction_count);
	values[Anum_accounts_last_transaction_id] =
		Int64GetDatum(account->last_transaction_id);
	values[Anum_accounts_last_at] = TimestampTzGetDatum(account->last_at);
	SET_VARSIZE(&head, VARHDRSZ + account->head_len);
	memcpy(head.data, account->head, account->head_len);
	values[Anum_accounts_head] = PointerGetDatum(&head);

	return update_row(&store->tables[TABLE_ACCOUNTS], store->estate, snapshot,
					  &account->tid, account->values, account->isnull);
}

/*
 * Inserts an account unless one of that name exists.  Returns false if one
 * does; waits for a transaction that is inserting one.  This is what INSERT
 * ... ON CONFLICT DO NOTHING does.
 */
bool
store_insert_account(Store *store, Datum *values, bool *isnull)
{
	Table	   *table = &store->tables[TABLE_ACCOUNTS];
	ResultRelInfo *rri = table->rri;
	List	   *arbiters = list_make1_oid(known.indexes[INDEX_ACCOUNTS_NAME]);

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
 * Reads a grant from a slot.  Texts are copied.
 */
void
store_read_grant(TupleTableSlot *slot, Grant *grant)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;

	grant->tid = slot->tts_tid;
	grant->changed = false;
	grant->id = DatumGetInt64(values[Anum_grants_id]);
	grant->account_id = DatumGetInt64(values[Anum_grants_account_id]);
	grant->transaction_id = DatumGetInt64(values[Anum_grants_transaction_id]);
	grant->effective_at = DatumGetTimestampTz(values[Anum_grants_effective_at]);
	grant->expires_at = isnull[Anum_grants_expires_at] ? DT_NOEND :
		DatumGetTimestampTz(values[Anum_grants_expires_at]);
	grant->granted_until = isnull[Anum_grants_granted_until] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[Anum_grants_granted_until]);
	grant->amount = DatumGetInt64(values[Anum_grants_amount]);
	grant->remaining = DatumGetInt64(values[Anum_grants_remaining]);
	grant->priority = DatumGetInt32(values[Anum_grants_priority]);
	grant->source = DatumGetTextPCopy(values[Anum_grants_source]);
	grant->price = isnull[Anum_grants_price] ? 0 :
		PointerGetDatum(PG_DETOAST_DATUM_COPY(values[Anum_grants_price]));
	grant->currency = isnull[Anum_grants_currency] ? NULL :
		DatumGetTextPCopy(values[Anum_grants_currency]);
	grant->status = which_name(values[Anum_grants_status],
							   grant_status_names,
							   GRANT_VOIDED + 1);
}

/*
 * Finds a grant by id.
 */
bool
store_find_grant(Store *store, Snapshot snapshot, int64 id, Grant *grant)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	id_key(&key, 1, id);
	store_scan(&scan, store, INDEX_GRANTS_ID, snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		store_read_grant(slot, grant);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Inserts a new grant, or updates one that has changed.
 */
void
store_write_grant(Store *store, Snapshot snapshot, Grant *grant)
{
	Table	   *table = &store->tables[TABLE_GRANTS];
	Datum		row[Natts_grants];
	bool		nulls[Natts_grants] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	TM_Result	result;

	values[Anum_grants_id] = Int64GetDatum(grant->id);
	values[Anum_grants_account_id] = Int64GetDatum(grant->account_id);
	values[Anum_grants_transaction_id] = Int64GetDatum(grant->transaction_id);
	values[Anum_grants_effective_at] = TimestampTzGetDatum(grant->effective_at);
	values[Anum_grants_expires_at] = TimestampTzGetDatum(grant->expires_at);
	isnull[Anum_grants_expires_at] = grant->expires_at == DT_NOEND;
	values[Anum_grants_granted_until] =
		TimestampTzGetDatum(grant->granted_until);
	isnull[Anum_grants_granted_until] = grant->granted_until == DT_NOBEGIN;
	values[Anum_grants_amount] = Int64GetDatum(grant->amount);
	values[Anum_grants_remaining] = Int64GetDatum(grant->remaining);
	values[Anum_grants_priority] = Int32GetDatum(grant->priority);
	values[Anum_grants_source] = PointerGetDatum(grant->source);
	values[Anum_grants_price] = grant->price;
	isnull[Anum_grants_price] = grant->price == 0;
	values[Anum_grants_currency] = PointerGetDatum(grant->currency);
	isnull[Anum_grants_currency] = grant->currency == NULL;
	values[Anum_grants_status] =
		CStringGetTextDatum(grant_status_names[grant->status]);

	if (!ItemPointerIsValid(&grant->tid))
	{
		insert_row(table, store->estate, row, nulls);
		return;
	}
	/* the account's lock is ours: nobody else can have changed its grants */
	result = update_row(table, store->estate, snapshot, &grant->tid, row,
						nulls);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Grant " INT64_FORMAT " has changed past its account.",
						   grant->id),
				 errhint("Retry the transaction.")));
}

/*
 * Reads draws from an array.
 */
static void
read_draws(Datum value, Entry *entry)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	int			n;
	int			i;

	/* an array not of our shape shows as a broken chain, and as no draws */
	if (ARR_NDIM(array) != 2 || ARR_DIMS(array)[1] != 2 || ARR_HASNULL(array))
		return;
	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &n);
	entry->has_draws = true;
	entry->ndraws = n / 2;
	entry->draws = palloc(entry->ndraws * sizeof(Draw));
	for (i = 0; i < entry->ndraws; i++)
	{
		entry->draws[i].grant_id = DatumGetInt64(elements[2 * i]);
		entry->draws[i].amount = DatumGetInt64(elements[2 * i + 1]);
	}
}

/*
 * Reads a transaction from a slot.  Texts are good as long as the slot is,
 * draws and names are copied.
 */
void
store_read_entry(TupleTableSlot *slot, Entry *entry)
{
	Datum	   *values;
	bool	   *isnull;
	bytea	   *b;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
	memset(entry, 0, sizeof(Entry));

#define TEXT_OR_NULL(a) (isnull[a] ? NULL : DatumGetTextPP(values[a]))
	entry->id = DatumGetInt64(values[Anum_transactions_id]);
	entry->account_id = DatumGetInt64(values[Anum_transactions_account_id]);
	entry->created_at =
		DatumGetTimestampTz(values[Anum_transactions_created_at]);
	entry->amount = DatumGetInt64(values[Anum_transactions_amount]);
	entry->held = DatumGetInt64(values[Anum_transactions_held]);
	entry->balance_after =
		DatumGetInt64(values[Anum_transactions_balance_after]);
	entry->held_after = DatumGetInt64(values[Anum_transactions_held_after]);
	entry->has_target = !isnull[Anum_transactions_target_id];
	if (entry->has_target)
		entry->target_id = DatumGetInt64(values[Anum_transactions_target_id]);
	entry->has_request = !isnull[Anum_transactions_request];
	if (entry->has_request)
		entry->request = DatumGetInt64(values[Anum_transactions_request]);
	entry->kind = TextDatumGetCString(values[Anum_transactions_kind]);
	entry->role = TextDatumGetCString(values[Anum_transactions_role]);
	entry->key = TEXT_OR_NULL(Anum_transactions_idempotency_key);
	entry->operation = TEXT_OR_NULL(Anum_transactions_operation);
	entry->reference = TEXT_OR_NULL(Anum_transactions_reference);
	if (!isnull[Anum_transactions_draws])
		read_draws(values[Anum_transactions_draws], entry);
	entry->reason = TEXT_OR_NULL(Anum_transactions_reason);
	entry->metadata = isnull[Anum_transactions_metadata] ? NULL :
		DatumGetJsonbP(values[Anum_transactions_metadata]);
	entry->actor = TEXT_OR_NULL(Anum_transactions_actor);
#undef TEXT_OR_NULL
	if (!isnull[Anum_transactions_salt])
	{
		b = DatumGetByteaPP(values[Anum_transactions_salt]);
		entry->salt = palloc0(SALT_BYTES);
		memcpy(entry->salt, VARDATA_ANY(b),
			   Min(VARSIZE_ANY_EXHDR(b), SALT_BYTES));
	}
	b = DatumGetByteaPP(values[Anum_transactions_hash]);
	memcpy(entry->hash, VARDATA_ANY(b),
		   Min(VARSIZE_ANY_EXHDR(b), PG_SHA256_DIGEST_LENGTH));
}

/*
 * Finds a transaction by a scan that yields it alone.
 */
static bool
find_entry(Store *store, StoreIndex index, Snapshot snapshot, ScanKey keys,
		   int nkeys, Entry *entry)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	store_scan(&scan, store, index, snapshot, keys, nkeys);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		store_read_entry(slot, entry);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Finds a transaction by id.
 */
bool
store_find_entry(Store *store, Snapshot snapshot, int64 id, Entry *entry)
{
	ScanKeyData key;

	id_key(&key, 1, id);
	return find_entry(store, INDEX_TRANSACTIONS_ID, snapshot, &key, 1, entry);
}

/*
 * Finds a transaction by its account and idempotency key.
 */
bool
store_find_key(Store *store, Snapshot snapshot, int64 account_id, text *key,
			   Entry *entry)
{
	ScanKeyData keys[2];

	id_key(&keys[0], 1, account_id);
	text_key(&keys[1], 2, key);
	return find_entry(store, INDEX_TRANSACTIONS_KEY, snapshot, keys, 2, entry);
}

/*
 * Makes an array of draws.
 */
static Datum
draws_datum(Entry *entry)
{
	Datum	   *elements = palloc(2 * entry->ndraws * sizeof(Datum));
	int			dims[2] = {entry->ndraws, 2};
	int			lower_bounds[2] = {1, 1};
	int			i;

	for (i = 0; i < entry->ndraws; i++)
	{
		elements[2 * i] = Int64GetDatum(entry->draws[i].grant_id);
		elements[2 * i + 1] = Int64GetDatum(entry->draws[i].amount);
	}
	return PointerGetDatum(construct_md_array(elements, NULL, 2, dims,
											  lower_bounds, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/*
 * Inserts a transaction into the log.
 */
void
store_insert_entry(Store *store, Entry *entry)
{
	Datum		row[Natts_transactions];
	bool		nulls[Natts_transactions] = {false};
	Datum	   *values = row - 1;	/* by column number */
	bool	   *isnull = nulls - 1;
	bytea	   *b;

#define SET_OR_NULL(a, p) \
	(values[a] = PointerGetDatum(p), isnull[a] = (p) == NULL)
	values[Anum_transactions_id] = Int64GetDatum(entry->id);
	values[Anum_transactions_account_id] = Int64GetDatum(entry->account_id);
	values[Anum_transactions_created_at] =
		TimestampTzGetDatum(entry->created_at);
	values[Anum_transactions_amount] = Int64GetDatum(entry->amount);
	values[Anum_transactions_held] = Int64GetDatum(entry->held);
	values[Anum_transactions_balance_after] =
		Int64GetDatum(entry->balance_after);
	values[Anum_transactions_held_after] = Int64GetDatum(entry->held_after);
	values[Anum_transactions_target_id] = Int64GetDatum(entry->target_id);
	isnull[Anum_transactions_target_id] = !entry->has_target;
	values[Anum_transactions_request] = Int64GetDatum(entry->request);
	isnull[Anum_transactions_request] = !entry->has_request;
	values[Anum_transactions_kind] = CStringGetTextDatum(entry->kind);
	values[Anum_transactions_role] = CStringGetTextDatum(entry->role);
	SET_OR_NULL(Anum_transactions_idempotency_key, entry->key);
	SET_OR_NULL(Anum_transactions_operation, entry->operation);
	SET_OR_NULL(Anum_transactions_reference, entry->reference);
	if (entry->has_draws)
		values[Anum_transactions_draws] = draws_datum(entry);
	else
		isnull[Anum_transactions_draws] = true;
	SET_OR_NULL(Anum_transactions_reason, entry->reason);
	SET_OR_NULL(Anum_transactions_metadata, entry->metadata);
	SET_OR_NULL(Anum_transactions_actor, entry->actor);
	b = NULL;
	if (entry->salt)
	{
		b = palloc(VARHDRSZ + SALT_BYTES);
		SET_VARSIZE(b, VARHDRSZ + SALT_BYTES);
		memcpy(VARDATA(b), entry->salt, SALT_BYTES);
	}
	SET_OR_NULL(Anum_transactions_salt, b);
	b = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	SET_VARSIZE(b, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	memcpy(VARDATA(b), entry->hash, PG_SHA256_DIGEST_LENGTH);
	values[Anum_transactions_hash] = PointerGetDatum(b);
#undef SET_OR_NULL

	insert_row(&store->tables[TABLE_TRANSACTIONS], store->estate, row, nulls);
}

/*
 * Inserts an event.  Events are rare: nothing is kept for them.
 */
void
store_insert_event(Datum *values, bool *isnull)
{
	EState	   *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	Table		table = {0};

	resolve();
	table.rel = table_open(known.tables[TABLE_EVENTS], RowExclusiveLock);
	build_table(&table, TABLE_EVENTS, estate);
	AfterTriggerBeginQuery();
	insert_row(&table, estate, values, isnull);
	AfterTriggerEndQuery(estate);
	close_table(&table);
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
}
