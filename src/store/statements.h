/*
 * statements.h
 *	  Fixed SQL statements, for operations that are not frequent enough to
 *	  justify reading and writing rows directly.
 */
#ifndef CREDITS_STORE_STATEMENTS_H
#define CREDITS_STORE_STATEMENTS_H

#include "store/store.h"

#include "access/htup_details.h"
#include "executor/spi.h"

#pragma GCC visibility push(hidden)

#define MAX_SQL_ARGS 32

/*
 * A statement and its plan, a static variable in the file that uses it.  The
 * search path is pg_catalog only, so the text must name tables with their
 * schema.
 */
typedef struct SqlStatement
{
	const char *text;
	const Oid  *types;			/* of the parameters, ended by InvalidOid */
	bool		by_snapshot;	/* does it only read, by the active snapshot? */
	/* private to statements.c */
	SPIPlanPtr	plan;			/* NULL until it is first run */
} SqlStatement;

/* The result of a statement, in the caller's memory context */
typedef struct SqlResult
{
	uint64		nrows;			/* rows returned, or changed if none are
								 * returned */
	TupleDesc	tupdesc;		/* NULL if the statement returns no rows */
	HeapTuple  *rows;
} SqlResult;

extern SqlResult *statements_run(SqlStatement *statement, const Datum *values,
								 const bool *isnull);
extern SqlResult *statements_run_latest(SqlStatement *statement,
										const Datum *values,
										const bool *isnull);
extern void statements_visit(SqlStatement *statement, const Datum *values,
							 void (*visit) (const SqlResult *page, void *arg),
							 void *arg);
extern void statements_execute(const char *text);
extern bool statements_fired_trigger(void);
extern Datum statements_value(const SqlResult *result, uint64 row, int column,
							  bool *isnull);

#pragma GCC visibility pop

#endif							/* CREDITS_STORE_STATEMENTS_H */
