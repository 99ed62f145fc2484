/*
 * sql.c
 *	  Running fixed SQL statements as the owner of the extension's tables.
 *
 * A plan is prepared when its statement first runs, and kept for the session:
 * PostgreSQL makes it anew when what it depends on changes.  Statements run
 * with the rights of the owner of schema credits, since those who may call our
 * functions have none on its tables, and with nothing but pg_catalog on the
 * search path.  What they return is copied into the caller's memory context.
 */
#include "credits.h"

#include "sql.h"

#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* is a statement of ours running? */
static bool running = false;

/*
 * Tells whether a statement of ours is running.
 */
bool
sql_is_running(void)
{
	return running;
}

/*
 * Returns the role that the extension's tables belong to.
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
				 errmsg("extension \"credits\" is not whole in this database"),
				 errdetail("Schema \"credits\" is missing."),
				 errhint("Restore it, or install the extension with CREATE EXTENSION credits.")));
	role = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return role;
}

/*
 * Prepares a statement, unless that was done before.
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

/*
 * Runs a statement with these parameters; isnull may be NULL if none is.  What
 * the transaction did before is seen, and in READ COMMITTED what others have
 * committed.
 */
SqlResult *
sql_run(SqlStatement *statement, const Datum *values, const bool *isnull)
{
	MemoryContext context = CurrentMemoryContext;
	SqlResult  *result = palloc0(sizeof(SqlResult));
	char		nulls[MAX_SQL_ARGS];
	int			nargs = 0;
	int			nest;
	bool		pushed = !ActiveSnapshotSet();
	Oid			user;
	int			security;
	int			code;
	bool		was_running;

	for (; OidIsValid(statement->types[nargs]); nargs++)
		nulls[nargs] = isnull && isnull[nargs] ? 'n' : ' ';
	Assert(nargs <= MAX_SQL_ARGS);

	/* an error restores both */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(owner(), security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);

	/* a procedure that has just committed has none, and analysis wants one */
	if (pushed)
		PushActiveSnapshot(store_snapshot(true));
	SPI_connect();
	was_running = running;
	running = true;
	PG_TRY();
	{
		code = SPI_execute_plan(prepare(statement, nargs),
								unconstify(Datum *, values), nulls, false, 0);
	}
	PG_FINALLY();
	{
		running = was_running;
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
			result->rows[i] = heap_copytuple(SPI_tuptable->vals[i]);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();

	AtEOXact_GUC(true, nest);
	SetUserIdAndSecContext(user, security);
	return result;
}

/*
 * Returns a value of a row, counted from 0, and column, counted from 1.
 */
Datum
sql_value(const SqlResult *result, uint64 row, int column, bool *isnull)
{
	return heap_getattr(result->rows[row], column, result->tupdesc, isnull);
}
