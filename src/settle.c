/*
 * settle.c
 *	  The procedure that settles every account that is due.
 *
 * Accounts that are locked by others are left alone: whoever holds them settles
 * them.
 */
#include "credits.h"

#include "job.h"

#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_settle);

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
settle_failed(int64 account_id, ErrorData *error)
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
 * Settles an account.
 */
static bool
settle_account(const DueItem *item)
{
	return ledger_settle(item->id) == SETTLED;
}

static const Job settle_job = {
	.name = "credits_settle",
	.due = &accounts_by_due_at,
	.anum_due_at = Anum_accounts_due_at,
	.anum_id = Anum_accounts_id,
	.work = settle_account,
	.failed = settle_failed
};

/*
 * Settles every account that is due.
 */
Datum
credits_settle(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &settle_job);
}
