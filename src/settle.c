/*
 * settle.c
 *	  The procedure that settles every account that is due.
 *
 * Accounts are taken in order of due_at, a batch at a time, each batch in a
 * transaction of its own where the caller allows that.  Rows that are locked
 * by others are left alone: whoever holds them settles them.  A batch runs in
 * a subtransaction; if an account fails, the batch is done again one account
 * at a time, and only those that fail are left out.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_settle);

#define MAX_BATCH_SIZE 100000

typedef struct DueAccount
{
	TimestampTz due_at;
	int64		id;
} DueAccount;

typedef struct Settling
{
	TimestampTz until;			/* accounts due by then are settled */
	DueAccount	last;			/* the last that was looked at */
	DueAccount *batch;
	int			batch_size;
	int64		settled;
	int64		failed;
} Settling;

/*
 * Makes one member of a row comparison.
 */
static void
row_member(ScanKey key, int flags, AttrNumber attno, Oid type,
		   RegProcedure compare, Datum value)
{
	ScanKeyEntryInitialize(key, SK_ROW_MEMBER | flags, attno,
						   BTGreaterStrategyNumber, type, InvalidOid, compare,
						   value);
}

/*
 * Reads the next batch of accounts: (due_at, id) > last, due_at <= until.
 */
static int
read_batch(Settling *settling)
{
	ScanKeyData keys[2];
	ScanKeyData row[2];
	StoreScan	scan;
	TupleTableSlot *slot;
	int			n = 0;

	row_member(&row[0], 0, 1, TIMESTAMPTZOID, F_TIMESTAMPTZ_CMP,
			   TimestampTzGetDatum(settling->last.due_at));
	row_member(&row[1], SK_ROW_END, 2, INT8OID, F_BTINT8CMP,
			   Int64GetDatum(settling->last.id));
	memset(&keys[0], 0, sizeof(ScanKeyData));
	keys[0].sk_flags = SK_ROW_HEADER;
	keys[0].sk_attno = 1;
	keys[0].sk_strategy = BTGreaterStrategyNumber;
	keys[0].sk_argument = PointerGetDatum(row);
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(settling->until));

	store_lock_tables("credits_settle()");
	PushActiveSnapshot(store_snapshot(true));
	store_scan(&scan, NULL, &accounts_by_due_at, GetActiveSnapshot(), keys,
			   2);
	while (n < settling->batch_size &&
		   (slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		DueAccount *due = &settling->batch[n++];

		due->id = DatumGetInt64(slot_getattr(slot, Anum_accounts_id, &isnull));
		due->due_at = DatumGetTimestampTz(slot_getattr(slot,
													   Anum_accounts_due_at,
													   &isnull));
	}
	store_scan_end(&scan);
	PopActiveSnapshot();
	if (n > 0)
		settling->last = settling->batch[n - 1];
	return n;
}

/*
 * Tells whether the newest event of an account is this one already.
 */
static bool
newest_event_is(int64 account_id, const char *kind, Jsonb *detail)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	bool		same = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, NULL, &events_by_account_id, GetActiveSnapshot(), &key,
			   1);
	slot = store_scan_next(&scan, BackwardScanDirection);
	if (slot)
	{
		bool		isnull;
		Datum		have_kind = slot_getattr(slot, Anum_events_kind, &isnull);
		Datum		have = slot_getattr(slot, Anum_events_detail, &isnull);

		same = strcmp(TextDatumGetCString(have_kind), kind) == 0 &&
			compareJsonbContainers(&DatumGetJsonbP(have)->root,
								   &detail->root) == 0;
	}
	store_scan_end(&scan);
	return same;
}

/*
 * Records that an account could not be settled: a warning at each attempt, one
 * event for as long as the reason stays.
 */
static void
record_failure(int64 account_id, ErrorData *error)
{
	const char *message = error->message ? error->message : "";
	const char *name = "";
	Account		account;
	StringInfoData json;
	Jsonb	   *detail;

	PushActiveSnapshot(store_snapshot(true));
	if (row_find_account(NULL, GetActiveSnapshot(), NULL, account_id,
						 &account))
		name = row_account_name(&account);
	initStringInfo(&json);
	json_cstring(&json, "account", name);
	json_cstring(&json, "code", sqlstate_text(error->sqlerrcode));
	json_cstring(&json, "message", message);
	detail = json_document(&json);
	if (!newest_event_is(account_id, "settle_failed", detail))
		alerts_event("settle_failed", account_id, 0, clock_now(), detail);
	PopActiveSnapshot();
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("account \"%s\" could not be settled: %s",
					name, message),
			 errhint("%s", error->hint ? error->hint :
					 "Run credits_verify on the account.")));
}

/*
 * Settles some accounts in a subtransaction.  Returns false, with nothing
 * done, if one of them fails.
 */
static bool
settle_some(DueAccount *accounts, int n, int64 *settled, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext row = AllocSetContextCreate(context, "credits settle",
											  ALLOCSET_DEFAULT_SIZES);
	volatile bool ok = true;
	volatile int64 done = 0;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		int			i;

		for (i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(row);
			if (ledger_settle(accounts[i].id) == SETTLED)
				done++;
			MemoryContextReset(row);
		}
		MemoryContextSwitchTo(context);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	MemoryContextDelete(row);

	/* these are not the account's fault */
	if (!ok && ((*error)->sqlerrcode == ERRCODE_QUERY_CANCELED ||
				(*error)->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
				(*error)->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE))
		ReThrowError(*error);
	if (ok)
		*settled += done;
	return ok;
}

/*
 * Settles a batch, leaving out accounts that fail.
 */
static void
settle_batch(Settling *settling, int n)
{
	ErrorData  *error;
	int			i;

	if (settle_some(settling->batch, n, &settling->settled, &error))
		return;
	for (i = 0; i < n; i++)
		if (!settle_some(&settling->batch[i], 1, &settling->settled, &error))
		{
			record_failure(settling->batch[i].id, error);
			settling->failed++;
		}
}

/*
 * Settles every account that is due.
 */
Datum
credits_settle(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	Settling	settling = {0};
	MemoryContext context;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		isnull[2] = {false};
	int			n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("batch_size must not be null"),
				 errhint("Leave batch_size out for 1000.")));
	settling.batch_size = PG_GETARG_INT32(0);
	if (settling.batch_size < 1 || settling.batch_size > MAX_BATCH_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be from 1 to %d", MAX_BATCH_SIZE),
				 errdetail("It is %d.", settling.batch_size),
				 errhint("Leave batch_size out for 1000.")));
	store_check_writable("credits_settle()");

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	context = CurrentMemoryContext;
	settling.batch = palloc(settling.batch_size * sizeof(DueAccount));
	settling.until = clock_now();
	settling.last.due_at = DT_NOBEGIN;

	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	while ((n = read_batch(&settling)) > 0)
	{
		settle_batch(&settling, n);
		if (may_commit)
			SPI_commit();
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();

	MemoryContextSwitchTo(context);
	values[0] = Int64GetDatum(settling.settled);
	values[1] = Int64GetDatum(settling.failed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values,
													  isnull)));
}
