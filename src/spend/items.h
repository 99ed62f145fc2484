/*
 * items.h
 *	  The items of batches: reading them, and returning what became of them.
 */
#ifndef CREDITS_SPEND_ITEMS_H
#define CREDITS_SPEND_ITEMS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

/* A column of the type of the items of a batch */
typedef struct ItemColumn
{
	const char *name;			/* NULL after the last one */
	Oid			type;
} ItemColumn;

#define MAX_ITEM_COLUMNS 13

/* One item of the argument */
typedef struct ItemRow
{
	const ItemColumn *columns;
	Datum		values[MAX_ITEM_COLUMNS];
	bool		isnull[MAX_ITEM_COLUMNS];
} ItemRow;

/* Reads an item from its row.  Returns false, with its refusal set, if it is
 * not valid. */
typedef bool (*ReadItem) (BatchItem *item, const ItemRow *row);

extern bool items_text(BatchItem *item, const ItemRow *row, int column,
					   int max_bytes, text **value);
extern bool items_name(BatchItem *item, const ItemRow *row, int column,
					   text **value);
extern bool items_amount(BatchItem *item, const ItemRow *row, int column,
						 int64 *amount);
extern bool items_metadata(BatchItem *item, const ItemRow *row, int column);
extern bool items_bool(const ItemRow *row, int column, bool left_out);
extern void items_trim_fingerprint(Request *request);
extern BatchItem *items_read(FunctionCallInfo fcinfo, ReadItem read,
							 const ItemColumn *columns, bool json,
							 int max_items, int *nitems);
extern Datum items_return(FunctionCallInfo fcinfo, const BatchItem *items,
						  int nitems, bool atomic);

#pragma GCC visibility pop

#endif							/* CREDITS_SPEND_ITEMS_H */
