/*
 * tables.h
 *	  Descriptions of tables and indexes.
 *
 * Each table is described once, in the file of its topic: its columns in
 * order, and how a struct holds them.  From the description, the files of this
 * directory check the table, read and write its rows, and build scan keys.
 */
#ifndef CREDITS_STORE_TABLES_H
#define CREDITS_STORE_TABLES_H

#include "base/base.h"

#include "catalog/pg_type.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

/* How a struct holds a column */
typedef enum StoreForm
{
	FORM_INT64,					/* int64, uint64 or TimestampTz */
	FORM_INT32,
	FORM_BOOL,
	FORM_ENUM,					/* enum, -1 if the name is unknown; and
								 * optionally that name as char * */
	FORM_CODE,					/* enum, stored as a "char"; -1 if the code is
								 * unknown, which another field, a char, keeps */
	FORM_EITHER,				/* bool: true for the second of two names,
								 * false for the first */
	FORM_TEXT,					/* text * */
	FORM_CSTRING,				/* char * */
	FORM_JSONB,					/* Jsonb * */
	FORM_NUMERIC,				/* Datum */
	FORM_INTERVAL,				/* Interval * */
	FORM_TOASTED,				/* Datum, not detoasted */
	FORM_BYTES,					/* uint8 *, and their number */
	FORM_DIGEST,				/* uint8[PG_SHA256_DIGEST_LENGTH], and
								 * optionally their number */
	FORM_INT64S,				/* int64 *, and their number */
	FORM_PAIRS,					/* pointer to structs of two int64, and their
								 * number */
	FORM_PACKED,				/* the same, stored as a bytea: see codec_pack */
	FORM_NONE					/* not at all: never read, and written as NULL */
} StoreForm;

/* How a struct says that a column is NULL */
typedef enum StoreNull
{
	NULLS_NOT,					/* never: the column is NOT NULL */
	NULLS_ZERO,					/* a null pointer, Datum 0, or a count of 0 */
	NULLS_VALUE,				/* a particular value of the field */
	NULLS_FLAG,					/* false in another field, a bool */
	NULLS_OTHER					/* a particular value of another field */
} StoreNull;

/*
 * A column.  What reading and writing a row needs comes first and is small, since
 * each spend goes through some sixty columns.
 */
typedef struct StoreColumn
{
	uint8		form;			/* a StoreForm */
	uint8		nulls;			/* a StoreNull */
	uint16		offset;			/* of the field */
	uint16		other;			/* offset of the field that says whether the
								 * column is NULL */
	uint16		beside;			/* offset of the number of elements, or of the
								 * unknown name; 0 if there is none */
	int64		null;			/* the value that stands for NULL */
	const char *const *names;	/* of an enum */
	const char *codes;			/* of an enum */
	int			nnames;			/* or codes */
	Oid			type;
	const char *field;			/* of the struct */
	const char *as;				/* the column's name, NULL if the same */
} StoreColumn;

/*
 * Descriptions of columns.  Struct and field may be followed by AS(name) if the
 * column has another name than the field, and by one of the NULL_... macros if
 * the column may be NULL.
 */
#define COLUMN_(t, f, s, m, ...) \
	{.field = #m, .type = (t), .form = (f), .offset = offsetof(s, m), __VA_ARGS__}
#define NAMES_(list) \
	.names = (list), .nnames = lengthof(list)
#define COLUMN_INT64(s, m, ...) COLUMN_(INT8OID, FORM_INT64, s, m, __VA_ARGS__)
#define COLUMN_TIME(s, m, ...) \
	COLUMN_(TIMESTAMPTZOID, FORM_INT64, s, m, __VA_ARGS__)
#define COLUMN_XID8(s, m, ...) COLUMN_(XID8OID, FORM_INT64, s, m, __VA_ARGS__)
#define COLUMN_INT32(s, m, ...) COLUMN_(INT4OID, FORM_INT32, s, m, __VA_ARGS__)
#define COLUMN_BOOL(s, m, ...) COLUMN_(BOOLOID, FORM_BOOL, s, m, __VA_ARGS__)
#define COLUMN_ENUM(s, m, list, ...) \
	COLUMN_(TEXTOID, FORM_ENUM, s, m, NAMES_(list), __VA_ARGS__)
#define COLUMN_CODE(s, m, list, ...) \
	COLUMN_(CHAROID, FORM_CODE, s, m, .codes = (list), .nnames = lengthof(list), \
			__VA_ARGS__)
#define COLUMN_EITHER(s, m, list, ...) \
	COLUMN_(TEXTOID, FORM_EITHER, s, m, NAMES_(list), __VA_ARGS__)
#define COLUMN_TEXT(s, m, ...) COLUMN_(TEXTOID, FORM_TEXT, s, m, __VA_ARGS__)
#define COLUMN_CSTRING(s, m, ...) \
	COLUMN_(TEXTOID, FORM_CSTRING, s, m, __VA_ARGS__)
#define COLUMN_JSONB(s, m, ...) COLUMN_(JSONBOID, FORM_JSONB, s, m, __VA_ARGS__)
#define COLUMN_NUMERIC(s, m, ...) \
	COLUMN_(NUMERICOID, FORM_NUMERIC, s, m, __VA_ARGS__)
#define COLUMN_INTERVAL(s, m, ...) \
	COLUMN_(INTERVALOID, FORM_INTERVAL, s, m, __VA_ARGS__)
#define COLUMN_TOASTED(t, s, m, ...) COLUMN_(t, FORM_TOASTED, s, m, __VA_ARGS__)
#define COLUMN_BYTES(s, m, n, ...) \
	COLUMN_(BYTEAOID, FORM_BYTES, s, m, .beside = offsetof(s, n), __VA_ARGS__)
#define COLUMN_DIGEST(s, m, ...) \
	COLUMN_(BYTEAOID, FORM_DIGEST, s, m, __VA_ARGS__)
#define COLUMN_INT64S(s, m, n, ...) \
	COLUMN_(INT8ARRAYOID, FORM_INT64S, s, m, .beside = offsetof(s, n), __VA_ARGS__)
#define COLUMN_PAIRS(s, m, n, ...) \
	COLUMN_(INT8ARRAYOID, FORM_PAIRS, s, m, .beside = offsetof(s, n), __VA_ARGS__)
#define COLUMN_PACKED(s, m, n, ...) \
	COLUMN_(BYTEAOID, FORM_PACKED, s, m, .beside = offsetof(s, n), __VA_ARGS__)
#define COLUMN_UNUSED(t, name) {.field = name, .type = (t), .form = FORM_NONE}

#define AS(name) .as = (name)
#define COUNTED(s, m) .beside = offsetof(s, m)
#define KEEPING_UNKNOWN(s, m) .beside = offsetof(s, m)
#define NULL_IF_ZERO .nulls = NULLS_ZERO
#define NULL_IS(value) .nulls = NULLS_VALUE, .null = (value)
#define NULL_UNLESS(s, flag) .nulls = NULLS_FLAG, .other = offsetof(s, flag)
#define NULL_WHERE(s, m, value) \
	.nulls = NULLS_OTHER, .other = offsetof(s, m), .null = (value)

/*
 * A table
 */
typedef struct StoreTable
{
	const char *name;
	const char *sequence;		/* source of its ids, NULL if none */
	const StoreColumn *columns;
	int			ncolumns;
	size_t		row_size;		/* of a struct that holds a row */
	size_t		tid;			/* offset of the row's TID in the struct */
	size_t		partition_key;	/* offset of the id by which the table is
								 * partitioned, 0 if it is not */
	const char *copies;			/* what the names of partitions begin with
								 * whose indexes need not be unique, NULL if
								 * there are none */

	/*
	 * Private to tables.c: the result of looking the table up, which is valid
	 * as long as its generation is the current one.
	 */
	uint64		generation;
	uint64		checked;		/* generation in which the columns were
								 * checked */
	Oid			oid;
	Oid			sequence_oid;
	int			number;			/* counted from 1; 0 until it is first used */
	struct Leaves *leaves;		/* private to leaves.c */
} StoreTable;

/* the columns, and the struct that holds a row, which must have a field tid */
#define ROWS_OF(s, list) \
	.columns = (list), .ncolumns = lengthof(list), .row_size = sizeof(s), \
	.tid = offsetof(s, tid)

#define MAX_TABLES 64
#define MAX_INDEXES 128
#define MAX_INDEX_KEYS 5

/*
 * A B-tree index, in ascending order, with collation "C" for texts.  On a
 * partitioned table, each partition has one like it.
 */
typedef struct StoreIndex
{
	StoreTable *table;
	const char *name;			/* NULL if the table is partitioned */
	/* column names, or expressions as pg_get_expr shows them, in parentheses */
	const char *keys[MAX_INDEX_KEYS + 1];
	bool		unique;
	const char *predicate;		/* as pg_get_expr shows it, NULL if none */
	/* private to tables.c */
	uint64		generation;
	uint64		checked;
	Oid			oid;
	bool		known;
	int			leaf_number;	/* private to leaves.c */
	int			nkeys;
	Oid			types[MAX_INDEX_KEYS];
} StoreIndex;

extern uint64 tables_generation(void);
extern void tables_init(void);
extern void tables_resolve(StoreTable *table);
extern Relation tables_open(StoreTable *table, LOCKMODE mode);
extern Relation tables_open_index(StoreIndex *index, LOCKMODE mode);
extern void tables_check_columns(Relation rel, const StoreTable *table);
extern bool tables_is_index(Relation rel, StoreIndex *index, Oid table_oid);
NORETURN_COMPAT extern void tables_raise_missing_index(const StoreIndex *index,
													   const char *table);
extern bool tables_are_alike(Relation a, Relation b);
extern bool tables_is_check_of_ours(Relation rel, const Trigger *trigger);
extern bool tables_has_only_our_triggers(Relation rel,
										 const TriggerDesc *triggers);
NORETURN_COMPAT extern void tables_raise_missing(const char *name,
												 const char *hint);

/*
 * Returns the name of a column.
 */
static inline const char *
column_name(const StoreColumn *column)
{
	return column->as ? column->as : column->field;
}

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_TABLES_H */
