/*
 * service.c
 *	  Pausing and resuming the service.  What a pause stops is in
 *	  ledger/service.c.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "ledger/roles.h"
#include "store/statements.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_pause_service);
PG_FUNCTION_INFO_V1(credits_resume_service);

/* how many operations can be paused at once */
#define MAX_OPERATIONS 1000

/* the kinds of transactions that can be paused */
static const char *const kinds_to_pause[] = {
	"deduction", "hold", "transfer", "gift", "redemption"
};

static SqlStatement set_pause = {
	"INSERT INTO credits.service_pause"
	" (id, reason, until, operations, kinds, paused_at, role, actor)"
	" VALUES (1, $1, $2, $3, $4, $5, $6, $7)"
	" ON CONFLICT (id) DO UPDATE SET reason = EXCLUDED.reason,"
	" until = EXCLUDED.until, operations = EXCLUDED.operations,"
	" kinds = EXCLUDED.kinds, paused_at = EXCLUDED.paused_at,"
	" role = EXCLUDED.role, actor = EXCLUDED.actor",
	(const Oid[]) {
		TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID,
		TEXTOID, TEXTOID, InvalidOid
	}
};

static SqlStatement remove_pause = {
	"DELETE FROM credits.service_pause",
	(const Oid[]) {InvalidOid}
};

/*
 * Checks the name of an operation, which need not have a price.
 */
static void
check_operation_to_pause(text *name)
{
	Refusal		refusal;

	if (!valid_text(&refusal, name, "operation", MAX_NAME_BYTES))
		raise_refusal(&refusal);
}

/*
 * Checks the name of a kind of transactions.
 */
static void
check_kind_to_pause(text *name)
{
	Refusal		refusal;
	char	   *kind = text_to_cstring(name);

	if (NAME_FIND(kinds_to_pause, kind) < 0)
	{
		refuse_choice(&refusal, kind, "kind", kinds_to_pause,
					  lengthof(kinds_to_pause));
		raise_refusal(&refusal);
	}
}

/*
 * Checks an argument that is a list of names, or null.
 */
static void
check_names_to_pause(FunctionCallInfo fcinfo, int arg, const char *what,
					 void (*check) (text *name))
{
	ArrayType  *array;
	Datum	   *names;
	bool	   *isnull;
	int			n;
	int			i;

	if (PG_ARGISNULL(arg))
		return;
	array = PG_GETARG_ARRAYTYPE_P(arg);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, &isnull, &n);
	if (ARR_NDIM(array) != 1 || n > MAX_OPERATIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a list of names", what),
				 errdetail("It has %d elements; 1 to %d are allowed.", n,
						   MAX_OPERATIONS),
				 errhint("Leave out both operations and kinds to pause all spending.")));
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			raise_null(psprintf("an element of %s", what));
		check(DatumGetTextPP(names[i]));
	}
}

/*
 * Returns the argument that says when the pause ends, DT_NOEND for never.
 */
static TimestampTz
arg_until(FunctionCallInfo fcinfo, int n)
{
	TimestampTz until = PG_ARGISNULL(n) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(n);
	TimestampTz now = clock_now();

	if (until <= now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("until must be in the future"),
				 errdetail("It is %s, which is not after %s.", clock_show(until),
						   clock_show(now)),
				 errhint("Leave until out for a pause that credits_resume_service ends.")));
	return until;
}

/*
 * SQL procedure: pauses spending, and waits for those who are spending.
 */
Datum
credits_pause_service(PG_FUNCTION_ARGS)
{
	Datum		values[7] = {0};
	bool		isnull[7] = {false};
	TimestampTz until;
	int			i;

	values[0] = PointerGetDatum(arg_reason(fcinfo, 0));
	until = arg_until(fcinfo, 1);
	values[1] = TimestampTzGetDatum(until);
	isnull[1] = until == DT_NOEND;
	check_names_to_pause(fcinfo, 2, "operations", check_operation_to_pause);
	check_names_to_pause(fcinfo, 3, "kinds", check_kind_to_pause);
	for (i = 2; i <= 3; i++)
	{
		isnull[i] = PG_ARGISNULL(i);
		if (!isnull[i])
			values[i] = PG_GETARG_DATUM(i);
	}
	values[4] = TimestampTzGetDatum(clock_now());
	values[5] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[6] = PointerGetDatum(roles_actor());
	isnull[6] = values[6] == (Datum) 0;
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("credits_pause_service cannot run inside a transaction block"),
				 errdetail("It commits the pause before it waits for those who are spending."),
				 errhint("CALL it by itself.")));
	store_check_writable("credits_pause_service()");

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	(void) statements_run(&set_pause, values, isnull);
	/* a pause that others have seen must survive a crash */
	ForceSyncCommit();
	SPI_commit();
	service_await_others();
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * SQL function: ends the pause of the service.  Returns whether there was one.
 */
Datum
credits_resume_service(PG_FUNCTION_ARGS)
{
	store_check_writable("credits_resume_service()");
	PG_RETURN_BOOL(statements_run(&remove_pause, NULL, NULL)->nrows > 0);
}
