/*
 * errors.c
 *	  Refusals: errors that are kept as values until it is certain that they
 *	  are to be raised.
 *
 * A posting is first planned without the account's row lock, so a refusal may
 * be based on a row that has changed in the meantime.  It is therefore kept as
 * a value until the ledger has confirmed it under the lock.  Only then is it
 * raised, or returned as a row by the credits_try_* functions.
 */
#include "credits.h"

#include "base/errors.h"

#include "access/xact.h"
#include "utils/resowner.h"

/*
 * Fills in a refusal.  Always returns false, so that a function that returns
 * "is it allowed?" can end with "return refuse(...)".
 *
 * The strings are not copied.
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
 * Returns an SQLSTATE as five characters, palloc'd.
 */
char *
sqlstate_text(int sqlstate)
{
	return pstrdup(unpack_sql_state(sqlstate));
}

/*
 * Returns whether the error being handled in a PG_CATCH block is a violation
 * of the named unique constraint or index.  The caller passes the memory
 * context that was current before PG_TRY, because the error cannot be copied
 * in ErrorContext.
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

/*
 * Calls a function in a subtransaction.  Returns NULL if it succeeds; otherwise
 * what it did is rolled back, and the error is returned for the caller to judge,
 * who must raise those again that it does not expect.
 */
ErrorData *
catch_error(CatchWork work, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		work(arg);
		MemoryContextSwitchTo(context);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}
