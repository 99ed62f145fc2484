/*
 * internals.h
 *	  The definition of a Store, for the files of this directory only.
 */
#ifndef CREDITS_STORE_INTERNALS_H
#define CREDITS_STORE_INTERNALS_H

#include "store/leaves.h"
#include "store/store.h"

#include "nodes/execnodes.h"

#pragma GCC visibility push(hidden)

/* One table of a Store, or one partition, ready to be read and written */
typedef struct Table
{
	const StoreTable *which;
	Relation	rel;			/* valid during a call only */
	ResultRelInfo *rri;			/* NULL in a partition until it is written */
	List	   *index_oids;		/* in the order of rri's arrays */
	AttrNumber *index_needs;	/* see open_indexes */
	bool		indexes_open;	/* is any of them? */
	TupleTableSlot *slot;		/* a row being written */
	TupleTableSlot *scan_slot;	/* a row being read */
} Table;

struct Store
{
	MemoryContext context;
	uint64		generation;
	bool		keep;			/* may it be reused by the next call? */
	EState	   *estate;
	Table		tables[MAX_TABLES]; /* by StoreTable.number */
	List	   *leaves;			/* of LeafTable *, those used */
	struct LeafTable *last_leaf;	/* the one written last */
};

/* A partition in a Store */
typedef struct LeafTable
{
	Table		table;
	Leaf		leaf;
	uint64		generation;		/* in which its bounds were looked up */
} LeafTable;

extern Table *store_table(Store *store, StoreTable *which);
extern Table *store_leaf(Store *store, StoreTable *which, Oid oid);
extern Table *store_leaf_of(Store *store, StoreTable *which, int64 id);
extern void store_build_table(Table *table);
extern void store_announce_table(Table *table, EState *estate);
extern void store_close_table(Table *table);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_INTERNALS_H */
