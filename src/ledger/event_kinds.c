/*
 * event_kinds.c
 *	  The kinds of events, as credits.event_kinds lists them.
 *
 * A session reads them once, into TopMemoryContext, and again when one of the
 * extension's tables may have changed, or when it meets a kind that it does not know:
 * an update of the extension may have added that to the view.
 */
#include "credits.h"

#include "ledger/event_kinds.h"
#include "store/statements.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

static SqlStatement select_kinds = {
	"SELECT kind, told, required, critical FROM credits.event_kinds"
	" ORDER BY kind COLLATE \"C\"",
	(const Oid[]) {InvalidOid}
};

/* in the order of strcmp; NULL until they are first read */
static EventKind *event_kinds = NULL;
static int	nevent_kinds = 0;
static uint64 kinds_generation = 0;

/*
 * Reads the kinds, unless they are known, or "again".
 */
static void
read_kinds(bool again)
{
	SqlResult  *result;
	EventKind  *list;
	bool		isnull;
	uint64		i;

	if (event_kinds && kinds_generation == tables_generation() && !again)
		return;
	result = statements_run(&select_kinds, NULL, NULL);
	list = MemoryContextAllocZero(TopMemoryContext,
								  Max(result->nrows, 1) * sizeof(EventKind));
	for (i = 0; i < result->nrows; i++)
	{
		strlcpy(list[i].name,
				TextDatumGetCString(statements_value(result, i, 1, &isnull)),
				NAMEDATALEN);
		list[i].told = DatumGetBool(statements_value(result, i, 2, &isnull));
		list[i].required = DatumGetBool(statements_value(result, i, 3, &isnull));
		list[i].critical = DatumGetBool(statements_value(result, i, 4, &isnull));
	}
	if (event_kinds)
		pfree(event_kinds);
	event_kinds = list;
	nevent_kinds = (int) result->nrows;
	kinds_generation = tables_generation();
}

/*
 * Compares a name and a kind.
 */
static int
compare_name(const void *name, const void *kind)
{
	return strcmp(name, ((const EventKind *) kind)->name);
}

/*
 * Returns the kind of a name, NULL if there is none.  It is valid until this is
 * called again.
 */
const EventKind *
event_kinds_find(const char *name)
{
	EventKind  *kind;

	read_kinds(false);
	kind = bsearch(name, event_kinds, nevent_kinds, sizeof(EventKind),
				   compare_name);
	if (kind == NULL)
	{
		read_kinds(true);
		kind = bsearch(name, event_kinds, nevent_kinds, sizeof(EventKind),
					   compare_name);
	}
	return kind;
}

/*
 * Returns the kind that an argument names, which must not be null.
 */
const EventKind *
event_kinds_arg(FunctionCallInfo fcinfo, int n)
{
	char	   *name;
	const EventKind *kind;

	if (PG_ARGISNULL(n))
		raise_null("kind");
	name = text_to_cstring(PG_GETARG_TEXT_PP(n));
	kind = event_kinds_find(name);
	if (kind == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown kind of event"),
				 errdetail("It is \"%s\".", show_value(name)),
				 errhint("Pass a kind of credits.event_kinds.")));
	return kind;
}
