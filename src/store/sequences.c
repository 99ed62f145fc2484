/*
 * sequences.c
 *	  Advancing a sequence that is behind the ids of its table.
 *
 * Logical replication copies rows, but not sequences.  setval() sets a sequence
 * to a value whatever others draw from it meanwhile: it can set it back, and
 * then ids are drawn twice.  So a sequence that is behind is locked against
 * nextval(), as ALTER SEQUENCE does it, looked at again, and set only if it is
 * behind still.  One that is not behind is left alone, and nobody waits.
 */
#include "credits.h"

#include "store/sequences.h"
#include "store/store.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_advance_sequence);

/*
 * Reads where a sequence is.  Unlike the functions for this, it takes no lock that
 * excludes ours, and asks for no privilege.
 */
static int64
read_sequence(Oid sequence, bool *called)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	int64		last;
	bool		isnull;

	if (!table_scan_getnextslot(scan, ForwardScanDirection, slot))
		elog(ERROR, "sequence \"%s\" has no row", RelationGetRelationName(rel));
	last = DatumGetInt64(slot_getattr(slot, SEQ_COL_LASTVAL, &isnull));
	*called = DatumGetBool(slot_getattr(slot, SEQ_COL_CALLED, &isnull));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, NoLock);
	return last;
}

/*
 * Tells whether a sequence is going to draw an id, or another before it.
 */
static bool
is_behind(Oid sequence, int64 id)
{
	bool		called;
	int64		last = read_sequence(sequence, &called);

	return called ? last < id : last <= id;
}

/*
 * Returns the newest id that was drawn from a sequence.
 */
int64
sequences_newest(Oid sequence)
{
	bool		called;
	int64		last = read_sequence(sequence, &called);

	return called ? last : last - 1;
}

/*
 * Advances a sequence to an id, unless it is there or ahead of it.
 */
Datum
credits_advance_sequence(PG_FUNCTION_ARGS)
{
	Oid			sequence;
	int64		id;

	if (PG_ARGISNULL(0))
		raise_null("sequence");
	if (PG_ARGISNULL(1))
		raise_null("id");
	sequence = PG_GETARG_OID(0);
	id = PG_GETARG_INT64(1);
	if (get_rel_relkind(sequence) != RELKIND_SEQUENCE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("relation %u is not a sequence", sequence),
				 errhint("Pass the sequence of a table of schema credits.")));
	store_check_writable("credits_sync_sequences()");
	if (is_behind(sequence, id))
	{
		LockRelationOid(sequence, ShareRowExclusiveLock);
		if (is_behind(sequence, id))
			DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
								Int64GetDatum(id));
		/* what was set is set, also if the transaction is rolled back */
		UnlockRelationOid(sequence, ShareRowExclusiveLock);
	}
	PG_RETURN_VOID();
}
