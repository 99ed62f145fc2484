/*
 * store.h
 *	  Access to tables: locking, inserting, updating and deleting rows.
 *
 * A row is held by a struct, whose type is given by the description of its
 * table.
 */
#ifndef CREDITS_STORE_STORE_H
#define CREDITS_STORE_STORE_H

#include "base/base.h"
#include "store/codec.h"
#include "store/leaves.h"
#include "store/scan.h"
#include "store/tables.h"

#include "access/tableam.h"
#include "utils/snapshot.h"

#pragma GCC visibility push(hidden)

extern void store_init(StoreTable *const *tables, int n);
extern bool store_is_table(Relation rel, StoreTable *table);
extern void store_check_writable(const char *function);
extern void store_lock_core(void);
extern void store_lock_table(StoreTable *table);
extern Store *store_open(void);
extern void store_close(Store *store);
extern void store_begin_changes(Store *store);
extern void store_end_changes(Store *store);
extern int64 store_next_id(StoreTable *table);
extern int64 store_newest_id(StoreTable *table);
extern bool store_ids_are_cached(StoreTable *table);
extern void store_insert(Store *store, StoreTable *which, const void *row);
extern TM_Result store_update(Store *store, StoreTable *which,
							  Snapshot snapshot, const void *row);
extern ItemPointer store_place(Store *store, StoreTable *which);
extern void store_write(Store *store, StoreTable *which, Snapshot snapshot,
						const void *row);
extern void store_delete(Store *store, StoreTable *which, Snapshot snapshot,
						 const void *row);
extern bool store_is_being_changed(Store *store, StoreTable *which);
extern bool store_set_nowait(bool value);
extern TM_Result store_lock(Store *store, StoreTable *which, Snapshot snapshot,
							void *row, bool skip_locked);
extern bool store_insert_unless(Store *store, StoreIndex *unique,
								const void *row);
extern void store_insert_alone(StoreTable *which, const void *row);
NORETURN_COMPAT extern void store_raise_changed(const StoreTable *table,
												const void *row);
extern Snapshot store_snapshot(bool fresh);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_STORE_H */
