/*
 * errors.c
 *	  Refusals: a request that must not be, as a value or as an error.
 *
 * A request is first tried without the account's row lock, so a refusal may
 * rest on a row that has changed meanwhile.  It is therefore kept as a value
 * until the ledger has made sure of it under the lock; only then is it raised,
 * or returned as a row by the credits_try_* functions.
 */
#include "credits.h"

/*
 * Keeps a refusal.  Returns false, for callers to return in turn.
 */
bool
refuse(Refusal *refusal, int sqlstate, char *message, char *detail, char *hint)
{
	refusal->sqlstate = sqlstate;
	refusal->message = message;
	refusal->detail = detail;
	refusal->hint = hint;
	return false;
}

/*
 * Raises a refusal as an error.
 */
void
raise_refusal(const Refusal *refusal)
{
	ereport(ERROR,
			(errcode(refusal->sqlstate),
			 errmsg_internal("%s", refusal->message),
			 refusal->detail ? errdetail_internal("%s", refusal->detail) : 0,
			 refusal->hint ? errhint("%s", refusal->hint) : 0));
	pg_unreachable();
}

/*
 * Returns the five characters of an SQLSTATE, in memory of the caller's.
 */
char *
sqlstate_text(int sqlstate)
{
	return pstrdup(unpack_sql_state(sqlstate));
}

/*
 * Tells whether the error under way, caught in a memory context, is that a
 * unique constraint or index has a key already.
 */
bool
is_unique_violation(MemoryContext context, const char *constraint)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	ErrorData  *error = CopyErrorData();
	bool		violation = error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION &&
		error->constraint_name &&
		strcmp(error->constraint_name, constraint) == 0;

	FreeErrorData(error);
	MemoryContextSwitchTo(old);
	return violation;
}
