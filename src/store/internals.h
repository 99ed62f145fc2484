/*
 * internals.h
 *	  The definition of a Store, for the files of this directory only.
 */
#ifndef CREDITS_STORE_INTERNALS_H
#define CREDITS_STORE_INTERNALS_H

#include "store/store.h"

#include "nodes/execnodes.h"

#pragma GCC visibility push(hidden)

/* One table of a Store, ready to be read and written */
typedef struct Table
{
	const StoreTable *which;
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
	bool		keep;			/* may it be reused by the next call? */
	EState	   *estate;
	Table		tables[MAX_TABLES]; /* by StoreTable.number */
};

extern Table *store_table(Store *store, StoreTable *which);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_INTERNALS_H */
