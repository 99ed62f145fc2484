/*
 * versions.c
 *	  Terms that hold from an instant on and are never changed.
 *
 * The version in force is the one with the latest active_from that has been
 * reached; of several with the same one, the one made last.  If its
 * active_until has been reached too, none is in force: an older version does
 * not come back.
 *
 * A new version starts from the one in force where it begins, which is locked
 * until the end of the transaction: of two that are made at once, the second one
 * starts from the first.  Only versions that begin something new, where there is
 * nothing to lock, do not know of each other.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "ledger/versions.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * Refuses a name that has no version.
 */
bool
versions_refuse_unknown(const VersionKind *kind, text *name, Refusal *refusal)
{
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  psprintf("%s \"%s\" does not exist", kind->what,
						   text_to_cstring(name)),
				  NULL, psprintf("Set it with %s.", kind->setter));
}

/*
 * Refuses if what find has returned is not in force at an instant.
 */
static bool
in_force(const VersionKind *kind, const SqlResult *result, text *name,
		 TimestampTz at, Refusal *refusal)
{
	char	   *shown = text_to_cstring(name);
	TimestampTz from;
	Datum		until;
	bool		isnull;

	if (result->nrows == 0)
		return versions_refuse_unknown(kind, name, refusal);
	from = DatumGetTimestampTz(statements_value(result, 0, VERSION_FROM, &isnull));
	if (from > at)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("%s \"%s\" is not active", kind->what, shown),
					  psprintf("It begins at %s, after %s.", clock_show(from),
							   clock_show(at)),
					  psprintf("Wait, or set it from now on with %s.",
							   kind->setter));
	until = statements_value(result, 0, VERSION_UNTIL, &isnull);
	if (isnull || DatumGetTimestampTz(until) > at)
		return true;
	return refuse(refusal, kind->ended,
				  psprintf("%s \"%s\" is not active", kind->what, shown),
				  psprintf("It ended at %s.",
						   clock_show(DatumGetTimestampTz(until))),
				  psprintf("Set it again with %s.", kind->setter));
}

/*
 * Finds the version that is in force at an instant.  Refuses if there is none.
 */
bool
versions_find(const VersionKind *kind, text *name, text *unit, TimestampTz at,
			  SqlResult **version, Refusal *refusal)
{
	Datum		values[3] = {PointerGetDatum(name), TimestampTzGetDatum(at),
		PointerGetDatum(unit)
	};

	*version = statements_run(kind->find, values, NULL);
	return in_force(kind, *version, name, at, refusal);
}

/*
 * Does what find does, by what is committed now, and locks the version until the
 * end of the transaction.  Sets what keep returns for it, and the instant: the
 * nth argument of the call or, if that is null, the time when it has the lock,
 * after any at which a version begins that was made meanwhile.
 */
static SqlResult *
lock_version(const VersionKind *kind, text *name, text *unit,
			 FunctionCallInfo fcinfo, int n, const char *arg, TimestampTz *at,
			 SqlResult **kept)
{
	Datum		values[3] = {PointerGetDatum(name), 0, PointerGetDatum(unit)};
	int64		locked = 0;

	*at = arg_active_from(fcinfo, n, arg);
	for (;;)
	{
		SqlResult  *version;
		Datum		id;
		bool		none;

		CHECK_FOR_INTERRUPTS();
		if (PG_ARGISNULL(n))
			*at = clock_now();
		values[1] = TimestampTzGetDatum(*at);
		version = statements_run_latest(kind->find, values, NULL);
		if (version->nrows == 0)
			return version;
		id = statements_value(version, 0, VERSION_ID, &none);
		if (DatumGetInt64(id) == locked)
			return version;
		*kept = statements_run(kind->keep, &id, NULL);
		if ((*kept)->nrows == 0)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("The %s \"%s\" has been set since the transaction's snapshot.",
							   kind->what, text_to_cstring(name)),
					 errhint("Retry the transaction.")));
		locked = DatumGetInt64(id);
	}
}

/*
 * Completes the arguments of a setter with what holds when the new version
 * begins.  Returns the id of the version in force then, 0 if none is: what has
 * ended, or has not begun, is kept, too, but not that it ended.
 */
int64
versions_merge(const VersionKind *kind, Set *set, text *name, text *unit)
{
	TimestampTz from;
	SqlResult  *kept;
	SqlResult  *version = lock_version(kind, name, unit, set->given,
									   kind->from_arg, "active_from", &from,
									   &kept);
	Refusal		refusal;
	Datum	   *values;
	bool	   *isnull;
	NullableDatum *until;
	bool		none;

	if (version->nrows == 0)
	{
		sets_merge(set, NULL, NULL);
		sets_replace(set, kind->from_arg, TimestampTzGetDatum(from));
		return 0;
	}
	Assert(kept->tupdesc->natts == set->nargs);
	values = palloc(set->nargs * sizeof(Datum));
	isnull = palloc(set->nargs * sizeof(bool));
	heap_deform_tuple(kept->rows[0], kept->tupdesc, values, isnull);
	sets_merge(set, values, isnull);
	sets_replace(set, kind->from_arg, TimestampTzGetDatum(from));
	until = &set->merged->args[kind->until_arg];
	if (!until->isnull && DatumGetTimestampTz(until->value) <= from)
		(void) sets_drop(set, kind->until_arg);
	if (!in_force(kind, version, name, from, &refusal))
		return 0;
	return DatumGetInt64(statements_value(version, 0, VERSION_ID, &none));
}

/*
 * Runs a statement that adds a version, and returns the version's id.
 */
int64
versions_add(SqlStatement *insert, const Datum *values, const bool *isnull)
{
	SqlResult  *result = statements_run(insert, values, isnull);
	bool		none;

	return DatumGetInt64(statements_value(result, 0, 1, &none));
}

/*
 * Adds the version that the completed arguments of a setter describe, and returns
 * its id; if the one in force is the same, returns that one.
 */
int64
versions_set(const VersionKind *kind, Set *set, int64 current)
{
	Datum		values[MAX_SET_ARGS + 1];
	bool		isnull[MAX_SET_ARGS + 1];
	int			i;

	if (current != 0 && sets_unchanged(set))
		return current;
	for (i = 0; i < set->nargs; i++)
	{
		values[i] = set->merged->args[i].value;
		isnull[i] = set->merged->args[i].isnull;
	}
	values[i] = TimestampTzGetDatum(clock_now());
	isnull[i] = false;
	return versions_add(kind->insert, values, isnull);
}

/*
 * Retires the version that is in force at an instant, the nth argument, from then
 * on.  Returns the id of the version that records this; if it has ended already,
 * that of the one that did.
 */
int64
versions_retire(const VersionKind *kind, text *name, text *unit,
				FunctionCallInfo fcinfo, int n)
{
	TimestampTz at;
	SqlResult  *kept;
	SqlResult  *version = lock_version(kind, name, unit, fcinfo, n, "at", &at,
									   &kept);
	Refusal		refusal;
	Datum		values[3];
	Datum		until;
	bool		isnull;

	if (!in_force(kind, version, name, at, &refusal))
	{
		if (version->nrows == 0)
			raise_refusal(&refusal);
		until = statements_value(version, 0, VERSION_UNTIL, &isnull);
		if (isnull || DatumGetTimestampTz(until) > at)
			raise_refusal(&refusal);
		return DatumGetInt64(statements_value(version, 0, VERSION_ID, &isnull));
	}
	/* a version is never changed, so the end is a version of its own */
	values[0] = statements_value(version, 0, VERSION_ID, &isnull);
	values[1] = TimestampTzGetDatum(at);
	values[2] = TimestampTzGetDatum(clock_now());
	return versions_add(kind->retire, values, NULL);
}
