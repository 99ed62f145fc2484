/*
 * service.c
 *	  The service switch: a pause of spending for everybody.
 *
 * The switch is the one row of credits.service_pause.  Every spend goes by it, and no
 * spend reads it: a session keeps what it has read until one of the extension's
 * relations is invalidated, and a trigger on the table has whoever changes the row
 * invalidate the table.  A table that is vacuumed or altered is invalidated, too; then
 * the row is read again for nothing.
 *
 * Why no spend commits once credits_pause_service has returned: whoever changes an
 * account locks credits.accounts in ROW EXCLUSIVE mode until his transaction ends, and
 * goes by the switch after that.  The procedure first commits the row, which sends the
 * invalidation, and then looks who has that lock.  Whoever has it is waited for.
 * Whoever gets it later receives the invalidation with it, since it was sent before,
 * and reads the row with a snapshot of that moment, whatever his isolation level.  Those
 * who come later are never made to wait.
 *
 * Tested in test/sql/service.sql, test/specs/service.spec and test/t/service.pl.
 */
#include "credits.h"

#include "ledger/rows.h"
#include "ledger/service.h"

#include "access/genam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_note_service);

static const StoreColumn service_pause_columns[] = {
	COLUMN_INT32(ServicePause, id),
	COLUMN_TEXT(ServicePause, reason),
	COLUMN_TIME(ServicePause, until, NULL_IS(DT_NOEND)),
	COLUMN_TOASTED(TEXTARRAYOID, ServicePause, operations, NULL_IF_ZERO),
	COLUMN_TOASTED(TEXTARRAYOID, ServicePause, kinds, NULL_IF_ZERO),
	COLUMN_TIME(ServicePause, paused_at),
	COLUMN_TEXT(ServicePause, role),
	COLUMN_TEXT(ServicePause, actor, NULL_IF_ZERO)
};

static StoreTable service_pause_table = {
	.name = "service_pause",
	ROWS_OF(ServicePause, service_pause_columns)
};

static StoreIndex service_pause_by_id = {
	&service_pause_table, "service_pause_pkey", {"id"},.unique = true
};

/*
 * The switch as this session has read it: in which generation, 0 if it was not; the
 * pause, NULL if spending is not paused; and the memory context of that.
 */
static uint64 known_generation = 0;
static ServicePause *known_pause = NULL;
static MemoryContext known_context = NULL;

/*
 * Reads the switch.  In a parallel worker, which cannot take a snapshot, what the leader
 * sees is not kept.
 */
static void
read_switch(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits service",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	ServicePause *pause = palloc(sizeof(ServicePause));
	bool		keep = !IsInParallelMode();
	uint64		generation;
	bool		found;

	do
	{
		/* an invalidation that comes from now on concerns what is read now */
		tables_resolve(&service_pause_table);
		generation = tables_generation();
		PushActiveSnapshot(keep ? GetLatestSnapshot() : GetActiveSnapshot());
		found = scan_find(NULL, &service_pause_by_id, GetActiveSnapshot(), pause,
						  BY_INT32(1));
		if (found && pause->operations)
			pause->operations =
				PointerGetDatum(DatumGetArrayTypePCopy(pause->operations));
		if (found && pause->kinds)
			pause->kinds =
				PointerGetDatum(DatumGetArrayTypePCopy(pause->kinds));
		PopActiveSnapshot();
	} while (generation != tables_generation());
	MemoryContextSwitchTo(old);

	/* nothing below can fail */
	MemoryContextSetParent(context, TopMemoryContext);
	if (known_context)
		MemoryContextDelete(known_context);
	known_context = context;
	known_pause = found ? pause : NULL;
	known_generation = keep ? generation : 0;
}

/*
 * Returns whether an array of texts has one of them; an array of Datum 0 has none.
 */
static bool
array_has(Datum array, const text *wanted)
{
	ArrayIterator iterator;
	Datum		value;
	bool		isnull;
	bool		found = false;

	if (array == 0 || wanted == NULL)
		return false;
	iterator = array_create_iterator(DatumGetArrayTypeP(array), 0, NULL);
	while (!found && array_iterate(iterator, &value, &isnull))
		found = !isnull && same_text(DatumGetTextPP(value), wanted);
	array_free_iterator(iterator);
	return found;
}

/*
 * Returns what a pause stops of a change, for the message; NULL if it goes on.
 */
static char *
stopped_by(const ServicePause *pause, TransactionKind kind, text *operation)
{
	if (pause->until <= clock_now())
		return NULL;
	/* to redeem a code is not to spend: it stops only if it is named */
	if (pause->operations == 0 && pause->kinds == 0)
		return kind != KIND_REDEMPTION ? "spending is paused" : NULL;
	if (array_has(pause->operations, operation))
		return psprintf("operation \"%s\" is paused", text_to_cstring(operation));
	if (array_has(pause->kinds, cstring_to_text(kinds_name(kind))))
		return psprintf("transactions of kind %s are paused", kinds_name(kind));
	return NULL;
}

/*
 * Refuses a change that takes credits from an account, of a kind and for an operation
 * that may be NULL, if the service is paused.
 *
 * Whoever writes afterwards must have opened a Store before: see above.
 */
bool
service_allows(Posting *posting, TransactionKind kind, text *operation)
{
	char	   *message;

	Assert(posting->dry || posting->store);
	if (known_generation != tables_generation())
		read_switch();
	if (likely(known_pause == NULL))
		return true;
	message = stopped_by(known_pause, kind, operation);
	if (message == NULL)
		return true;
	return refuse(&posting->refusal, ERRCODE_SERVICE_PAUSED, message,
				  psprintf("The pause lasts until %s.  Reason: %s",
						   known_pause->until == DT_NOEND ?
						   "credits_resume_service is called" :
						   clock_show(known_pause->until),
						   text_to_cstring(known_pause->reason)),
				  "Repeat the call when the pause has ended; its idempotency key is not used up.");
}

/*
 * Waits for all transactions that may change accounts and have begun to do so before
 * the call, prepared ones included.  Nobody has to wait for us.
 *
 * WaitForLockers would also wait for those who vacuum or analyze the table.
 */
void
service_await_others(void)
{
	LockData   *locks;
	int			i;

	tables_resolve(&accounts_table);
	locks = GetLockStatusData();
	for (i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		if (lock->locktag.locktag_type == LOCKTAG_RELATION &&
			lock->locktag.locktag_field1 == MyDatabaseId &&
			lock->locktag.locktag_field2 == accounts_table.oid &&
			(lock->holdMask & LOCKBIT_ON(RowExclusiveLock)) &&
			lock->pid != MyProcPid)
			(void) VirtualXactLock(lock_vxid_compat(lock), true);
	}
}

/*
 * Trigger function on credits.service_pause: has all sessions read it again, once what
 * changes it is committed.
 */
Datum
credits_note_service(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!store_is_table(trigger->tg_relation, &service_pause_table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger must be AFTER on table \"credits.service_pause\""),
				 errhint("It serves that table only.")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
