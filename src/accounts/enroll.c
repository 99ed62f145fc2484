/*
 * enroll.c
 *	  Opening accounts for the rows of an application's table: by a trigger
 *	  for each new row, or for all existing rows in one call.
 */
#include "credits.h"

#include "accounts/accounts.h"
#include "ledger/ledger.h"

#include "access/table.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_open_account_for_row);
PG_FUNCTION_INFO_V1(credits_open_accounts);

/* A DestReceiver that opens an account for each row of a query */
typedef struct Enroller
{
	DestReceiver pub;
	MemoryContext context;		/* reset after each row */
	char	   *prefix;
	int64		initial_credits;
	Oid			output;			/* output function of the key's type */
	int64		opened;			/* number of accounts opened */
} Enroller;

/*
 * Opens the account that belongs to a key.  Returns false if it existed
 * already.
 */
static bool
open_for_key(const char *prefix, const char *key, int64 initial_credits)
{
	text	   *name;
	Receipt		receipt;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key column must not be null"),
				 errhint("Name a column that every row has a value in, such as the primary key.")));
	name = cstring_to_text(psprintf("%s%s", prefix, key));
	check_account_name(name);
	accounts_open(name, initial_credits, cstring_to_text("credit"), NULL,
				  &receipt);
	return !receipt.replayed;
}

/*
 * Returns the initial credits given in a trigger's third argument, or the
 * setting credits.initial_balance.
 */
static int64
trigger_credits(Trigger *trigger)
{
	int64		credits = setting_initial_balance;

	if (trigger->tgnargs > 2)
		credits = DatumGetInt64(DirectFunctionCall1(int8in,
													CStringGetDatum(trigger->tgargs[2])));
	check_initial_credits(credits);
	return credits;
}

/*
 * Trigger function: opens an account for a new row.
 */
Datum
credits_open_account_for_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Trigger    *trigger;
	TupleDesc	tupdesc;
	int			column;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("credits_open_account_for_row must be called by a trigger AFTER INSERT FOR EACH ROW")));
	trigger = data->tg_trigger;
	if (trigger->tgnargs < 1 || trigger->tgnargs > 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" needs one to three arguments",
						trigger->tgname),
				 errdetail("It has %d.", trigger->tgnargs),
				 errhint("Pass the key column, the name prefix, and optionally the initial credits.")));
	tupdesc = RelationGetDescr(data->tg_relation);
	column = SPI_fnumber(tupdesc, trigger->tgargs[0]);
	if (column == SPI_ERROR_NOATTRIBUTE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						trigger->tgargs[0],
						RelationGetRelationName(data->tg_relation)),
				 errhint("Name the key column in the trigger's first argument.")));

	(void) open_for_key(trigger->tgnargs > 1 ? trigger->tgargs[1] : "",
						SPI_getvalue(data->tg_trigtuple, tupdesc, column),
						trigger_credits(trigger));
	PG_RETURN_POINTER(NULL);
}

/*
 * Looks up the output function of the key's type.
 */
static void
enroller_startup(DestReceiver *self, int operation, TupleDesc tupdesc)
{
	Enroller   *enroller = (Enroller *) self;
	bool		varlena;

	getTypeOutputInfo(TupleDescAttr(tupdesc, 0)->atttypid, &enroller->output,
					  &varlena);
}

/*
 * Opens an account for one row.
 */
static bool
enroller_receive(TupleTableSlot *slot, DestReceiver *self)
{
	Enroller   *enroller = (Enroller *) self;
	MemoryContext old = MemoryContextSwitchTo(enroller->context);
	bool		isnull;
	Datum		key = slot_getattr(slot, 1, &isnull);

	CHECK_FOR_INTERRUPTS();
	if (open_for_key(enroller->prefix,
					 isnull ? NULL : OidOutputFunctionCall(enroller->output, key),
					 enroller->initial_credits))
		enroller->opened++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(enroller->context);
	return true;
}

/*
 * Does nothing, but a DestReceiver must have these callbacks.
 */
static void
enroller_shutdown(DestReceiver *self)
{
}

/*
 * Returns the parse tree of SELECT column FROM relation.  Building it directly
 * avoids quoting the names.
 */
static RawStmt *
column_query(Oid relation, const char *column)
{
	SelectStmt *select = makeNode(SelectStmt);
	ColumnRef  *ref = makeNode(ColumnRef);
	ResTarget  *target = makeNode(ResTarget);
	RawStmt    *raw = makeNode(RawStmt);
	char	   *name = get_rel_name(relation);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation),
				 errhint("Pass the name of a table or view.")));
	ref->fields = list_make1(makeString(pstrdup(column)));
	ref->location = -1;
	target->val = (Node *) ref;
	target->location = -1;
	select->targetList = list_make1(target);
	select->fromClause =
		list_make1(makeRangeVar(get_namespace_name(get_rel_namespace(relation)),
								name, -1));
	raw->stmt = (Node *) select;
	return raw;
}

/*
 * Runs a query with the rights of the caller, and sends its rows to a
 * receiver.
 */
static void
run_query(RawStmt *raw, const char *source, DestReceiver *dest)
{
	List	   *queries = pg_analyze_and_rewrite_fixedparams(raw, source, NULL,
															 0, NULL);
	PlannedStmt *plan = pg_plan_query(linitial_node(Query, queries), source,
									  0, NULL);
	QueryDesc  *query = CreateQueryDesc(plan, source, GetActiveSnapshot(),
										InvalidSnapshot, dest, NULL, NULL, 0);

	ExecutorStart(query, 0);
	ExecutorRun_compat(query);
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
}

/*
 * SQL function: opens an account for each row of a table.
 */
Datum
credits_open_accounts(PG_FUNCTION_ARGS)
{
	Enroller	enroller = {0};
	RawStmt    *raw;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "relation" :
						PG_ARGISNULL(1) ? "key_column" : "prefix"),
				 errhint("Pass the table, its key column, and a prefix that may be empty.")));
	enroller.initial_credits = PG_ARGISNULL(3) ? setting_initial_balance :
		PG_GETARG_INT64(3);
	check_initial_credits(enroller.initial_credits);
	enroller.prefix = text_to_cstring(PG_GETARG_TEXT_PP(2));
	enroller.pub.receiveSlot = enroller_receive;
	enroller.pub.rStartup = enroller_startup;
	enroller.pub.rShutdown = enroller_shutdown;
	enroller.pub.rDestroy = enroller_shutdown;
	enroller.pub.mydest = DestNone;
	enroller.context = AllocSetContextCreate(CurrentMemoryContext,
											 "credits enroll",
											 ALLOCSET_DEFAULT_SIZES);
	store_check_writable("credits_open_accounts()");

	raw = column_query(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)));
	PushActiveSnapshot(store_snapshot(true));
	run_query(raw, "credits_open_accounts", (DestReceiver *) &enroller);
	PopActiveSnapshot();
	MemoryContextDelete(enroller.context);
	PG_RETURN_INT64(enroller.opened);
}
