/*
 * versions.c
 *	  Terms that are set for an instant on, and never changed.
 *
 * In force is the version with the latest active_from that has come, of
 * several the last made; if its active_until has come too, none is.
 */
#include "versions.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * Runs a statement that returns the version whose time has come last or, if
 * none has begun, the one that will first.  Refuses what is not in force at the
 * instant, which is the statement's second value.
 */
bool
versions_find(SqlStatement *statement, const Datum *values,
			  const bool *isnull, const VersionKind *kind, text *name,
			  SqlResult **version, Refusal *refusal)
{
	SqlResult  *result = sql_run(statement, values, isnull);
	TimestampTz at = DatumGetTimestampTz(values[1]);
	char	   *shown = text_to_cstring(name);
	TimestampTz from;
	Datum		until;
	bool		none;

	*version = result;
	if (result->nrows == 0)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("%s \"%s\" does not exist", kind->what, shown),
					  NULL, psprintf("Set it with %s.", kind->setter));
	from = DatumGetTimestampTz(sql_value(result, 0, VERSION_FROM, &none));
	if (from > at)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("%s \"%s\" is not active", kind->what, shown),
					  psprintf("It begins at %s, after %s.", clock_show(from),
							   clock_show(at)),
					  psprintf("Wait, or set it from now on with %s.",
							   kind->setter));
	until = sql_value(result, 0, VERSION_UNTIL, &none);
	if (none || DatumGetTimestampTz(until) > at)
		return true;
	return refuse(refusal, kind->ended,
				  psprintf("%s \"%s\" is not active", kind->what, shown),
				  psprintf("It ended at %s.",
						   clock_show(DatumGetTimestampTz(until))),
				  psprintf("Set it anew with %s.", kind->setter));
}
