/*
 * leaves.h
 *	  The partitions of a table that is partitioned by id.
 */
#ifndef CREDITS_STORE_LEAVES_H
#define CREDITS_STORE_LEAVES_H

#include "store/tables.h"

#pragma GCC visibility push(hidden)

#define MAX_LEAF_INDEXES 16

/* A partition: the rows whose ids are from "from" to below "until" */
typedef struct Leaf
{
	Oid			oid;
	int64		from;
	int64		until;
	bool		rest;			/* the default partition, which has the ids
								 * that no other has */
	/* private to leaves.c */
	bool		checked;
	Oid			indexes[MAX_LEAF_INDEXES];	/* by StoreIndex.leaf_number */
} Leaf;

/* Rows that are to be scanned: of a partition, those with a range of ids */
typedef struct LeafPart
{
	Oid			oid;
	bool		only;			/* does the partition have no others? */
	int64		from;
	int64		until;
} LeafPart;

extern void leaves_lock(StoreTable *table, LOCKMODE mode,
						LOCKMODE rest_mode);
extern const Leaf *leaves_list(StoreTable *table, int *n);
extern bool leaves_concern(const StoreTable *table, Oid oid);
extern bool leaves_has(StoreTable *table, Oid oid);
extern LeafPart *leaves_parts(StoreTable *table, int64 from, int64 to,
							  int *n);
extern Relation leaves_open(StoreTable *table, int64 id, LOCKMODE mode,
							Leaf *leaf);
extern Relation leaves_try_open(StoreTable *table, Oid oid, LOCKMODE mode);
extern Relation leaves_open_index(StoreIndex *index, Relation heap,
								  LOCKMODE mode);
extern Oid	leaves_find_index(StoreIndex *index, Relation heap);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_LEAVES_H */
