/*
 * sets.c
 *	  Arguments of functions that set something and leave alone what they are
 *	  not given.
 *
 * An optional argument that is null was left out: what there is stays or, where
 * there is nothing yet, it gets its initial value.  To take something away, a
 * caller names it in the last argument, "clear".
 *
 * What is kept is merged into a copy of the call, so that the function reads and
 * checks its arguments in the usual way, and refuses a combination whichever of
 * its parts were kept.
 */
#include "credits.h"

#include "base/base.h"
#include "base/sets.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/*
 * Returns whether an argument can be cleared.
 */
static bool
can_clear(const SetArg *arg)
{
	return arg->rule == SET_KEEPS || arg->rule == SET_KEEPS_OR_NONE;
}

/*
 * Raises the error for a name in "clear" that cannot be there.
 */
static void
refuse_clear(const Set *set, const char *name, bool known)
{
	StringInfoData list;
	int			i;

	initStringInfo(&list);
	for (i = 0; i < set->nargs; i++)
		if (can_clear(&set->args[i]))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "",
							 set->args[i].name);
	if (known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s cannot be cleared", name),
				 errhint("These can be: %s.", list.data)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for clear"),
			 errdetail("There is no argument \"%s\".", show_value(name)),
			 errhint("Use some of %s.", list.data)));
}

/*
 * Reads one name of "clear".
 */
static void
read_clear(Set *set, const char *name)
{
	int			i;

	for (i = 0; i < set->nargs; i++)
		if (strcmp(set->args[i].name, name) == 0)
			break;
	if (i == set->nargs || !can_clear(&set->args[i]))
		refuse_clear(set, name, i < set->nargs);
	if (!set->given->args[i].isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is both given and cleared", name),
				 errhint("Pass a value for %s, or name it in clear.", name)));
	set->clear[i] = true;
}

/*
 * Reads the names of the arguments that a call clears.
 */
void
sets_read(Set *set, FunctionCallInfo fcinfo, const SetArg *args, int nargs)
{
	Datum	   *names;
	bool	   *isnull;
	int			n;
	int			i;

	Assert(nargs <= MAX_SET_ARGS && fcinfo->nargs == nargs + 1);
	memset(set, 0, sizeof(Set));
	set->args = args;
	set->nargs = nargs;
	set->given = fcinfo;
	if (PG_ARGISNULL(nargs))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(nargs), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, &isnull, &n);
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("clear must not contain null"),
					 errhint("Pass the names of the arguments to clear.")));
		read_clear(set, TextDatumGetCString(names[i]));
	}
}

/*
 * Gives an argument its initial value, or none.
 */
static void
reset_arg(Set *set, int n, bool none)
{
	const char *initial = none ? NULL : set->args[n].initial;
	NullableDatum *arg = &set->merged->args[n];
	Oid		   *types;
	int			ntypes;
	Oid			input;
	Oid			param;

	arg->isnull = initial == NULL;
	arg->value = (Datum) 0;
	if (initial == NULL)
		return;
	(void) get_func_signature(set->given->flinfo->fn_oid, &types, &ntypes);
	getTypeInputInfo(types[n], &input, &param);
	arg->value = OidInputFunctionCall(input, unconstify(char *, initial),
									  param, -1);
}

/*
 * Completes the arguments with what there is, which is in the order of the
 * arguments; kept is NULL if there is nothing yet.  May be called again if there
 * is something else by now.
 */
void
sets_merge(Set *set, const Datum *kept, const bool *kept_null)
{
	int			i;

	/* the executor keeps values in a call's arguments for the next row */
	set->merged = palloc(SizeForFunctionCallInfo(set->given->nargs));
	memcpy(set->merged, set->given,
		   SizeForFunctionCallInfo(set->given->nargs));
	set->kept = kept;
	set->kept_null = kept_null;
	for (i = 0; i < set->nargs; i++)
	{
		NullableDatum *arg = &set->merged->args[i];

		if (set->args[i].rule == SET_NAMES || set->args[i].rule == SET_ONCE)
			continue;
		if (set->clear[i])
			reset_arg(set, i, set->args[i].rule == SET_KEEPS_OR_NONE);
		else if (arg->isnull && kept)
		{
			arg->isnull = kept_null[i];
			arg->value = kept[i];
		}
		else if (arg->isnull)
			reset_arg(set, i, false);
	}
}

/*
 * Takes an argument away because it has no effect beside the others.  Returns
 * false if it was given, which the caller has to refuse.
 */
bool
sets_drop(Set *set, int n)
{
	if (!set->given->args[n].isnull)
		return false;
	reset_arg(set, n, false);
	return true;
}

/*
 * Replaces the value of an argument by another one that means the same.
 */
void
sets_replace(Set *set, int n, Datum value)
{
	set->merged->args[n].isnull = false;
	set->merged->args[n].value = value;
}

/*
 * Returns whether two values of a type are the same.
 */
static bool
same_value(Oid type, Datum a, Datum b)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR_FINFO);

	/* '1 month' = '30 days', but not as a span from a given day */
	if (type == INTERVALOID)
		return datumIsEqual(a, b, entry->typbyval, entry->typlen);
	return DatumGetBool(FunctionCall2Coll(&entry->eq_opr_finfo,
										  C_COLLATION_OID, a, b));
}

/*
 * Returns whether the merged call would change nothing of what there is.
 */
bool
sets_unchanged(const Set *set)
{
	Oid		   *types;
	int			ntypes;
	int			i;

	if (set->kept == NULL)
		return false;
	(void) get_func_signature(set->given->flinfo->fn_oid, &types, &ntypes);
	for (i = 0; i < set->nargs; i++)
	{
		NullableDatum *arg = &set->merged->args[i];

		if (set->args[i].rule == SET_NAMES || set->args[i].rule == SET_ONCE)
			continue;
		if (arg->isnull != set->kept_null[i] ||
			(!arg->isnull &&
			 !same_value(types[i], arg->value, set->kept[i])))
			return false;
	}
	return true;
}
