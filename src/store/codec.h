/*
 * codec.h
 *	  Conversion of rows between tables and the structs that hold them.
 */
#ifndef CREDITS_STORE_CODEC_H
#define CREDITS_STORE_CODEC_H

#include "store/tables.h"

#include "executor/tuptable.h"

#pragma GCC visibility push(hidden)

/* copies everything into the current memory context */
extern void codec_read(const StoreTable *table, TupleTableSlot *slot,
					   void *row);

/* values of variable length may point into the slot */
extern void codec_peek(const StoreTable *table, TupleTableSlot *slot,
					   void *row);

/* sets as many values as columns are described */
extern void codec_write(const StoreTable *table, const void *row,
						Datum *values, bool *isnull);

/* an array of two dimensions, of pairs that are packed into a bytea */
extern Datum codec_unpacked(const bytea *b);

/* name and value of the first column, for error messages */
extern char *codec_name(const StoreTable *table, const void *row);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_CODEC_H */
