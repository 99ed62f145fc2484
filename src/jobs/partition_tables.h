/*
 * partition_tables.h
 *	  Making, naming and attaching the tables that are partitions of the log.
 */
#ifndef CREDITS_JOBS_PARTITION_TABLES_H
#define CREDITS_JOBS_PARTITION_TABLES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern char *partition_tables_free_name(const char *name);
extern void partition_tables_make(const char *name, const char *model);
extern void partition_tables_copy(const char *name, const char *query,
								  bool keys_recur);
extern void partition_tables_rename(const char *from, const char *to);
extern void partition_tables_add_bounds(const char *table, int64 from,
										int64 until, bool validate);
extern void partition_tables_drop_bounds(const char *table);
extern void partition_tables_attach(const char *parent, const char *table,
									int64 from, int64 until);
extern void partition_tables_attach_rest(void);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PARTITION_TABLES_H */
