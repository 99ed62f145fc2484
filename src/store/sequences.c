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

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(credits_advance_sequence);

/*
 * Reads where an open sequence is.  Unlike the functions for this, it asks for no
 * privilege.
 */
static int64
read_sequence(Relation rel, bool *called)
{
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page;
	HeapTupleData tuple;
	Form_pg_sequence_data data;
	int64		last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page,
												 PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = data->last_value;
	*called = data->is_called;
	UnlockReleaseBuffer(buffer);
	return last;
}

/*
 * Tells whether a sequence is going to draw an id, or another before it.  Keeps no
 * lock that excludes ours.
 */
static bool
is_behind(Oid sequence, int64 id)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	bool		called;
	int64		last = read_sequence(rel, &called);

	relation_close(rel, AccessShareLock);
	return called ? last < id : last <= id;
}

/*
 * Returns the newest id that was drawn from a sequence.
 */
int64
sequences_newest(Oid sequence)
{
	/* nextval() takes the same lock, so that one of the two costs nothing */
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	bool		called;
	int64		last = read_sequence(rel, &called);

	relation_close(rel, NoLock);
	return called ? last : last - 1;
}

/*
 * Returns how many ids a session draws from a sequence at a time.
 */
int64
sequences_cache(Oid sequence)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	int64		cache;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", sequence);
	cache = ((Form_pg_sequence) GETSTRUCT(tuple))->seqcache;
	ReleaseSysCache(tuple);
	return cache;
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
