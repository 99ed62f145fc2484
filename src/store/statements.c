/*
 * statements.c
 *	  Fixed SQL statements, run with the rights of the owner of the
 *	  extension's tables.
 *
 * A statement is prepared when it is first run, and the plan is kept for the
 * session; PostgreSQL replans it when an object that it uses changes.
 * Statements run as the owner of schema credits, since the users who may call
 * the extension's functions have no rights on its tables, and with a search
 * path of pg_catalog only.  Results are copied into the caller's memory
 * context.
 */
#include "credits.h"

#include "store/statements.h"
#include "store/store.h"

#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* trigger depth at which the innermost statement is running, -1 if none is */
static int	running_at = -1;

/*
 * Returns the nesting depth of triggers, 0 outside any trigger.
 */
static int
trigger_depth(void)
{
	return DatumGetInt32(OidFunctionCall0(F_PG_TRIGGER_DEPTH));
}

/*
 * Returns whether the trigger that is being executed was fired directly by a
 * statement of this file, and not by a trigger that such a statement fired.
 */
bool
statements_fired_trigger(void)
{
	return running_at >= 0 && trigger_depth() == running_at + 1;
}

/*
 * Returns the role that owns the schema credits and its tables.
 */
static Oid
owner(void)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACENAME,
										CStringGetDatum("credits"));
	Oid			role;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"credits\" is incomplete in this database"),
				 errdetail("Schema \"credits\" is missing."),
				 errhint("Restore it, or install the extension with CREATE EXTENSION credits.")));
	role = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return role;
}

/*
 * Returns the plan of a statement, which is prepared when it is first run.
 * SPI must be connected.
 */
static SPIPlanPtr
prepare(SqlStatement *statement, int nargs)
{
	SPIPlanPtr	plan;

	if (statement->plan)
		return statement->plan;
	plan = SPI_prepare(statement->text, nargs,
					   unconstify(Oid *, statement->types));
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement: %s",
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	statement->plan = plan;
	return plan;
}

/* Who called, and the state of his settings */
typedef struct Caller
{
	Oid			user;
	int			security;
	int			nest;
} Caller;

/*
 * Becomes the owner of the tables, with a search path of pg_catalog only.  If an
 * error occurs, transaction abort restores user and settings.
 */
static void
become_owner(Caller *before)
{
	GetUserIdAndSecContext(&before->user, &before->security);
	/* as in ri_triggers.c: policies of users must not hide rows from us */
	SetUserIdAndSecContext(owner(), before->security |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	before->nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/*
 * Becomes the caller again.
 */
static void
become_caller(const Caller *before)
{
	AtEOXact_GUC(true, before->nest);
	SetUserIdAndSecContext(before->user, before->security);
}

/*
 * Runs a statement with the given parameters, by the active snapshot or by one
 * that SPI takes.
 */
static SqlResult *
run(SqlStatement *statement, const Datum *values, const bool *isnull,
	bool by_snapshot)
{
	MemoryContext context = CurrentMemoryContext;
	SqlResult  *result = palloc0(sizeof(SqlResult));
	char		nulls[MAX_SQL_ARGS];
	int			nargs = 0;
	bool		pushed = !ActiveSnapshotSet();
	Caller		before;
	int			code;
	int			was_running_at;

	for (; OidIsValid(statement->types[nargs]); nargs++)
	{
		if (nargs == MAX_SQL_ARGS)
			elog(ERROR, "a statement has too many parameters");
		nulls[nargs] = isnull && isnull[nargs] ? 'n' : ' ';
	}

	become_owner(&before);

	/* planning needs a snapshot, and a procedure has none after a COMMIT */
	if (pushed)
		PushActiveSnapshot(store_snapshot(true));
	SPI_connect();
	was_running_at = running_at;
	running_at = trigger_depth();
	PG_TRY();
	{
		code = SPI_execute_plan(prepare(statement, nargs),
								unconstify(Datum *, values), nulls,
								by_snapshot, 0);
	}
	PG_FINALLY();
	{
		running_at = was_running_at;
	}
	PG_END_TRY();
	if (code < 0)
		elog(ERROR, "could not run a statement: %s",
			 SPI_result_code_string(code));
	result->nrows = SPI_processed;
	if (SPI_tuptable)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		uint64		i;

		result->tupdesc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
		result->rows = palloc_extended(Max(result->nrows, 1) * sizeof(HeapTuple),
									   MCXT_ALLOC_HUGE);
		for (i = 0; i < result->nrows; i++)
		{
			CHECK_FOR_INTERRUPTS();
			result->rows[i] = heap_copytuple(SPI_tuptable->vals[i]);
		}
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();

	become_caller(&before);
	return result;
}

/* how many rows statements_visit holds at a time */
#define VISITED_ROWS 200

/*
 * Runs a statement that only reads, by the active snapshot, and calls a function for
 * some of its rows at a time, so that no more than these are held in memory.  No
 * parameter may be null.  The rows are gone after the call, and the function must not
 * run statements.
 */
void
statements_visit(SqlStatement *statement, const Datum *values,
				 void (*visit) (const SqlResult *page, void *arg), void *arg)
{
	Caller		before;
	Portal		portal;
	int			nargs = 0;

	while (OidIsValid(statement->types[nargs]))
		nargs++;
	become_owner(&before);
	SPI_connect();
	portal = SPI_cursor_open(NULL, prepare(statement, nargs),
							 unconstify(Datum *, values), NULL, true);
	for (;;)
	{
		SqlResult	page;

		SPI_cursor_fetch(portal, true, VISITED_ROWS);
		if (SPI_processed == 0)
			break;
		page.nrows = SPI_processed;
		page.tupdesc = SPI_tuptable->tupdesc;
		page.rows = SPI_tuptable->vals;
		visit(&page, arg);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	become_caller(&before);
}

/*
 * Executes statements that change the schema, and are not worth being kept.
 */
void
statements_execute(const char *text)
{
	bool		pushed = !ActiveSnapshotSet();
	Caller		before;
	int			code;

	become_owner(&before);
	if (pushed)
		PushActiveSnapshot(store_snapshot(true));
	SPI_connect();
	code = SPI_execute(text, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute a statement: %s",
			 SPI_result_code_string(code));
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();
	become_caller(&before);
}

/*
 * Runs a statement with the given parameters; isnull may be NULL if none of
 * them is null.  The statement sees what the transaction has done so far and,
 * in READ COMMITTED, what others have committed, unless it is by_snapshot.
 */
SqlResult *
statements_run(SqlStatement *statement, const Datum *values, const bool *isnull)
{
	return run(statement, values, isnull, statement->by_snapshot);
}

/*
 * Runs a statement that only reads, and sees what is committed now, whatever the
 * isolation level.
 */
SqlResult *
statements_run_latest(SqlStatement *statement, const Datum *values,
					  const bool *isnull)
{
	SqlResult  *result;

	PushActiveSnapshot(GetLatestSnapshot());
	result = run(statement, values, isnull, true);
	PopActiveSnapshot();
	return result;
}

/*
 * Returns a value of a result.  Rows are counted from 0, columns from 1.
 */
Datum
statements_value(const SqlResult *result, uint64 row, int column, bool *isnull)
{
	return heap_getattr(result->rows[row], column, result->tupdesc, isnull);
}
