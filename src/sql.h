/*
 * sql.h
 *	  Fixed SQL statements, for what is not done so often that rows must be
 *	  found and written by hand.
 */
#ifndef CREDITS_SQL_H
#define CREDITS_SQL_H

#include "credits.h"

#include "access/htup_details.h"
#include "executor/spi.h"

#pragma GCC visibility push(hidden)

#define MAX_SQL_ARGS 32

/*
 * A statement, static in the file of its topic, and its plan once it has run.
 * Tables are named with their schema; functions and operators are
 * pg_catalog's, which is all of the search path.
 */
typedef struct SqlStatement
{
	const char *text;
	const Oid  *types;			/* of the parameters, then InvalidOid */
	/* the rest is for sql.c */
	SPIPlanPtr	plan;
} SqlStatement;

/* What a statement returned, in the caller's memory */
typedef struct SqlResult
{
	uint64		nrows;			/* returned or, without RETURNING, changed */
	TupleDesc	tupdesc;		/* NULL if it returns none */
	HeapTuple  *rows;
} SqlResult;

extern SqlResult *sql_run(SqlStatement *statement, const Datum *values,
						  const bool *isnull);
extern bool sql_is_running(void);
extern Datum sql_value(const SqlResult *result, uint64 row, int column,
					   bool *isnull);

#pragma GCC visibility pop

#endif							/* CREDITS_SQL_H */
