/*
 * leaves.c
 *	  The partitions of a table that is partitioned by id.
 *
 * Such a table is only ever read and written one partition at a time, without
 * the executor's tuple routing, so that a call locks and opens no more than it
 * needs.  The list of partitions is read from the catalog once after each
 * invalidation of one of the extension's relations.
 *
 * Nothing here locks the partitioned table itself.  To attach a partition takes
 * an exclusive lock of the default partition, and to detach one takes an
 * exclusive lock of it: so whoever has locked the partition of an id knows that
 * it still is the partition of that id.  A list that is out of date is noticed
 * when the lock is granted, because that processes invalidations.
 *
 * The list covers all ids: what no other partition has belongs to the default one,
 * which is in the list once for each such range.  Usually that is only the last one,
 * above all others.  If somebody has detached a partition, its ids are another.
 *
 * The indexes of a partition are found by what they are, not by their names.
 */
#include "credits.h"

#include "store/leaves.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* The partitions of a table, in order of their ids */
struct Leaves
{
	MemoryContext context;
	uint64		generation;		/* in which the list was read */
	int			n;
	Leaf		leaves[FLEXIBLE_ARRAY_MEMBER];
};

/*
 * Raises the error for a table whose partitions are not by ranges of ids.
 */
static void
raise_altered(const StoreTable *table, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"credits.%s\" has been altered", table->name),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/*
 * Returns one end of a range of ids.
 */
static int64
end_of(const StoreTable *table, List *datums)
{
	PartitionRangeDatum *datum = linitial_node(PartitionRangeDatum, datums);

	switch (datum->kind)
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return PG_INT64_MIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return PG_INT64_MAX;
		case PARTITION_RANGE_DATUM_VALUE:
			break;
	}
	if (list_length(datums) != 1 || !IsA(datum->value, Const) ||
		castNode(Const, datum->value)->consttype != INT8OID)
		raise_altered(table, "It is not partitioned by ranges of ids.",
					  "Restore the table from a backup.");
	return DatumGetInt64(castNode(Const, datum->value)->constvalue);
}

/*
 * Reads the bounds of a partition.  Returns false if it is none any more.
 */
static bool
read_leaf(const StoreTable *table, Oid oid, Leaf *leaf)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(oid));
	bool		isnull = true;
	Datum		value = 0;
	char	   *shown = NULL;
	PartitionBoundSpec *bound;

	if (HeapTupleIsValid(tuple))
	{
		value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound,
								&isnull);
		if (!isnull)
			shown = TextDatumGetCString(value);
		ReleaseSysCache(tuple);
	}
	if (shown == NULL)
		return false;
	bound = stringToNode(shown);
	memset(leaf, 0, sizeof(Leaf));
	leaf->oid = oid;
	leaf->rest = bound->is_default;
	/* until it is known, the default partition is above all others */
	leaf->from = leaf->until = PG_INT64_MAX;
	if (!leaf->rest)
	{
		leaf->from = end_of(table, bound->lowerdatums);
		leaf->until = end_of(table, bound->upperdatums);
	}
	return true;
}

/*
 * qsort comparator: by ids.
 */
static int
compare_leaves(const void *a, const void *b)
{
	const Leaf *x = a;
	const Leaf *y = b;

	return x->from < y->from ? -1 : x->from > y->from ? 1 : 0;
}

/*
 * Covers all ids: adds the default partition, which is the last in the list, where
 * there is a gap between two others.  The list has room for that.
 */
static void
cover_gaps(struct Leaves *list)
{
	Leaf		rest = list->leaves[list->n - 1];
	int			nothers = list->n - 1;
	int64		until = PG_INT64_MIN;
	int			i;

	for (i = 0; i < nothers; i++)
	{
		Leaf	   *gap = &list->leaves[list->n];

		if (list->leaves[i].from > until)
		{
			*gap = rest;
			gap->from = until;
			gap->until = list->leaves[i].from;
			list->n++;
		}
		until = list->leaves[i].until;
	}
	list->leaves[nothers].from = until;
	list->leaves[nothers].until = PG_INT64_MAX;
	qsort(list->leaves, list->n, sizeof(Leaf), compare_leaves);
}

/*
 * Reads the list of a table's partitions.  What comes of it is of no use if "current"
 * is no longer the generation of the tables afterwards.
 */
static struct Leaves *
read_leaves(StoreTable *table, uint64 current)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits partitions",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext scratch = AllocSetContextCreate(context, "credits bounds",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	List	   *oids = find_inheritance_children(table->oid, NoLock);
	struct Leaves *list = MemoryContextAllocZero(context,
												 offsetof(struct Leaves, leaves) +
												 2 * list_length(oids) * sizeof(Leaf));
	ListCell   *lc;

	list->context = context;
	foreach(lc, oids)
		if (read_leaf(table, lfirst_oid(lc), &list->leaves[list->n]))
		list->n++;
	qsort(list->leaves, list->n, sizeof(Leaf), compare_leaves);
	if (list->n > 0 && list->leaves[list->n - 1].rest)
		cover_gaps(list);
	else if (tables_generation() == current)
		raise_altered(table, "It has no default partition.",
					  psprintf("Attach one: ALTER TABLE credits.%s ATTACH PARTITION credits.%s_default DEFAULT.",
							   table->name, table->name));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return list;
}

/*
 * Returns the list of a table's partitions, which is read again if it may be out
 * of date.
 */
static struct Leaves *
resolve_leaves(StoreTable *table)
{
	Assert(table->partition_key != 0);
	for (;;)
	{
		uint64		current;
		struct Leaves *list;

		tables_resolve(table);
		if (table->leaves && table->leaves->generation == tables_generation())
			return table->leaves;
		current = tables_generation();
		list = read_leaves(table, current);
		list->generation = current;
		MemoryContextSetParent(list->context, TopMemoryContext);
		if (table->leaves)
			MemoryContextDelete(table->leaves->context);
		/* if it is out of date already, the next turn reads it again */
		table->leaves = list;
	}
}

/*
 * Returns the partitions of a table, in order of their ids, which they all cover: the
 * default one is last, and also wherever there is a gap between others.  They are valid
 * until the next call of a function of this directory.
 */
const Leaf *
leaves_list(StoreTable *table, int *n)
{
	struct Leaves *list = resolve_leaves(table);

	*n = list->n;
	return list->leaves;
}

/*
 * Returns the partition with an OID, NULL if there is none.
 */
static Leaf *
leaf_with_oid(struct Leaves *list, Oid oid)
{
	int			i;

	for (i = 0; i < list->n; i++)
		if (list->leaves[i].oid == oid)
			return &list->leaves[i];
	return NULL;
}

/*
 * Returns the partition of an id.
 */
static Leaf *
leaf_of_id(struct Leaves *list, int64 id)
{
	int			low = 0;
	int			high = list->n - 1;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (id >= list->leaves[middle].until)
			low = middle + 1;
		else
			high = middle;
	}
	return &list->leaves[low];
}

/*
 * Returns whether a relation is one of the known partitions of a table, or one of
 * their indexes.  The list may be out of date.
 */
bool
leaves_concern(const StoreTable *table, Oid oid)
{
	int			i;
	int			j;

	for (i = 0; i < table->leaves->n; i++)
	{
		const Leaf *leaf = &table->leaves->leaves[i];

		if (leaf->oid == oid)
			return true;
		for (j = 0; j < MAX_LEAF_INDEXES; j++)
			if (leaf->indexes[j] == oid)
				return true;
	}
	return false;
}

/*
 * Returns whether a relation is a partition of a table.
 */
bool
leaves_has(StoreTable *table, Oid oid)
{
	return leaf_with_oid(resolve_leaves(table), oid) != NULL;
}

/*
 * Returns the parts of a table that may have ids from "from" to "to", in order of the
 * ids.
 */
LeafPart *
leaves_parts(StoreTable *table, int64 from, int64 to, int *n)
{
	struct Leaves *list = resolve_leaves(table);
	Leaf	   *last = &list->leaves[list->n - 1];
	int			first = leaf_of_id(list, from) - list->leaves;
	LeafPart   *parts;
	int			i;

	/* often it is a single id, or whatever there is */
	*n = from > to ? 0 : (from == to ? first : leaf_of_id(list, to) - list->leaves) -
		first + 1;
	parts = palloc(Max(*n, 1) * sizeof(LeafPart));
	for (i = 0; i < *n; i++)
	{
		const Leaf *leaf = &list->leaves[first + i];

		parts[i].oid = leaf->oid;
		parts[i].from = leaf->from;
		parts[i].until = leaf->until;
		parts[i].only = !leaf->rest || leaf_with_oid(list, leaf->oid) == last;
	}
	return parts;
}

/*
 * Checks the columns of a partition, unless that was done.
 */
static void
check_leaf(StoreTable *table, Leaf *leaf, Relation rel)
{
	if (leaf->checked)
		return;
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		raise_altered(table,
					  psprintf("Its partition \"%s\" is not a table.",
							   RelationGetRelationName(rel)),
					  "Detach that partition.");
	tables_check_columns(rel, table);
	leaf->checked = true;
}

/*
 * Opens the partition of an id, and returns its bounds.
 */
Relation
leaves_open(StoreTable *table, int64 id, LOCKMODE mode, Leaf *leaf)
{
	for (;;)
	{
		struct Leaves *list = resolve_leaves(table);
		Leaf	   *found = leaf_of_id(list, id);
		Relation	rel = try_table_open(found->oid, mode);

		if (rel && list->generation == tables_generation())
		{
			check_leaf(table, found, rel);
			*leaf = *found;
			return rel;
		}
		/* locking it has processed an invalidation: look it up again */
		if (rel)
			table_close(rel, NoLock);
	}
}

/*
 * Opens a partition that was in a list of partitions before.  Returns NULL if it
 * has been dropped meanwhile.  It may have been detached, and still has the rows
 * that it had.
 */
Relation
leaves_try_open(StoreTable *table, Oid oid, LOCKMODE mode)
{
	Relation	rel = try_table_open(oid, mode);
	Leaf	   *leaf = rel ? leaf_with_oid(resolve_leaves(table), oid) : NULL;

	if (leaf)
		check_leaf(table, leaf, rel);
	else if (rel)
		tables_check_columns(rel, table);
	return rel;
}

/*
 * Returns the number of an index in the lists of indexes of partitions.
 */
static int
leaf_number_of(StoreIndex *index)
{
	static int	next = 1;

	if (index->leaf_number == 0)
	{
		if (next > MAX_LEAF_INDEXES)
			elog(ERROR, "too many indexes of partitions");
		index->leaf_number = next++;
		while (index->keys[index->nkeys])
			index->nkeys++;
	}
	return index->leaf_number - 1;
}

/*
 * Finds the index of a partition that serves as one of the table's.  Returns
 * InvalidOid if it is missing.
 */
Oid
leaves_find_index(StoreIndex *index, Relation heap)
{
	List	   *oids = RelationGetIndexList(heap);
	Oid			found = InvalidOid;
	ListCell   *lc;

	(void) leaf_number_of(index);
	foreach(lc, oids)
	{
		Relation	rel = index_open(lfirst_oid(lc), AccessShareLock);

		if (tables_is_index(rel, index, RelationGetRelid(heap)))
			found = lfirst_oid(lc);
		index_close(rel, NoLock);
		if (OidIsValid(found))
			break;
	}
	list_free(oids);
	return found;
}

/*
 * Opens an index of a partition, which the caller has opened.
 */
Relation
leaves_open_index(StoreIndex *index, Relation heap, LOCKMODE mode)
{
	int			number = leaf_number_of(index);

	for (;;)
	{
		struct Leaves *list = resolve_leaves(index->table);
		uint64		current = list->generation;
		Leaf	   *leaf = leaf_with_oid(list, RelationGetRelid(heap));
		bool		known = leaf && OidIsValid(leaf->indexes[number]);
		Oid			oid = known ? leaf->indexes[number] :
			leaves_find_index(index, heap);
		Relation	rel;

		if (current != tables_generation())
			continue;
		if (!OidIsValid(oid))
			tables_raise_missing_index(index, RelationGetRelationName(heap));
		rel = index_open(oid, mode);
		if (current == tables_generation())
		{
			if (leaf)
				leaf->indexes[number] = oid;
			return rel;
		}
		index_close(rel, NoLock);
	}
}

/*
 * Locks a partitioned table itself and its default partition, unless the mode is
 * NoLock.
 */
void
leaves_lock(StoreTable *table, LOCKMODE mode, LOCKMODE rest_mode)
{
	bool		stale = rest_mode != NoLock;

	tables_resolve(table);
	if (mode != NoLock)
		LockRelationOid(table->oid, mode);
	while (stale)
	{
		struct Leaves *list = resolve_leaves(table);

		LockRelationOid(list->leaves[list->n - 1].oid, rest_mode);
		/* locking it may have processed an invalidation */
		stale = list->generation != tables_generation();
	}
}
