/*
 * apply_corrections.c
 *	  Corrections of many accounts: applying one, in batches.
 *
 * First, without a lock on any account, it is checked that the correction is still
 * what was previewed.  Then it is being applied, and the accounts are corrected in
 * order of their ids, some at a time, each batch in a transaction of its own.  So
 * nobody waits for more than one batch.  An account that somebody has locked is left
 * for the end, where it is waited for with nothing else locked: whoever keeps a lock
 * for long so delays the correction, but nobody else.
 *
 * If an account cannot be corrected when its turn comes, mostly because it has spent
 * too much since the check, then the correction is being reverted: every adjustment
 * that was posted is undone, in batches, too.  Credits that were taken go back to the
 * grants that they came from; a grant that was given is claimed back, and what was
 * spent of it is owed, as that of a purchase whose money went back.  Then it is
 * refused.  An account that is closed meanwhile is no reason for that: what was
 * accepted while it was open is posted, and undone, all the same.
 *
 * How far it has come is in the items, which are written with their accounts.  So it
 * can be interrupted at any point, and continued by the same call, or by
 * credits_housekeep.  The row of the correction is locked during each batch, so that
 * several sessions can work at one correction, and no account is corrected twice.
 *
 * Inside a transaction block all is done at once, in the caller's transaction.
 *
 * Tested in test/sql/corrections.sql, test/specs/corrections.spec and
 * test/t/corrections.pl.
 */
#include "credits.h"

#include "admin/corrections.h"
#include "base/numeric.h"
#include "ledger/job.h"
#include "ledger/roles.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_apply_correction);

/* how many accounts are locked at a time */
#define BATCH_ACCOUNTS 100

/* how many accounts can be corrected inside a transaction block */
#define MAX_ATOMIC_ACCOUNTS 10000

static const char apply_function[] = "credits_apply_correction()";

/* a preview that was not applied in time, and some of its items */
static SqlStatement delete_expired = {
	"WITH c AS MATERIALIZED ("
	"SELECT c.id FROM credits.corrections AS c WHERE c.ended_at IS NULL"
	" AND c.status = 'previewed' AND c.expires_at <= $1 ORDER BY c.id LIMIT 1"
	" FOR UPDATE SKIP LOCKED), "
	"i AS MATERIALIZED (SELECT i.correction_id, i.number FROM c"
	" JOIN credits.correction_items AS i ON i.correction_id = c.id"
	" ORDER BY i.number LIMIT $2), "
	"gone AS (DELETE FROM credits.correction_items AS d USING i"
	" WHERE d.correction_id = i.correction_id AND d.number = i.number RETURNING 1), "
	"preview AS (DELETE FROM credits.corrections WHERE id IN (SELECT c.id FROM c)"
	" AND (SELECT count(*) FROM i) < $2 RETURNING 1) "
	"SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM preview)",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/* what another session works at is left to it */
static SqlStatement find_unfinished = {
	"SELECT c.id FROM credits.corrections AS c"
	" WHERE c.ended_at IS NULL AND c.status <> 'previewed' AND c.id > $1"
	" ORDER BY c.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
	(const Oid[]) {INT8OID, InvalidOid}
};

/* What came of a batch */
typedef enum BatchOutcome
{
	BATCH_DONE,					/* there may be more */
	BATCH_ENDED,				/* the correction has ended */
	BATCH_BUSY					/* what is left is locked by others */
} BatchOutcome;

/*
 * A session that works at a correction.  What is kept from one batch to the next only
 * saves work: the items say what is to be done.
 */
typedef struct CorrectionRun
{
	int64		id;				/* of the correction */
	bool		may_wait;		/* for accounts that others have locked? */
	CorrectionStatus status;	/* as of the last batch */
	int			position;		/* number of the last item passed */
	int			skipped;		/* how many were passed that are locked */
	bool		at_skipped;		/* are these processed now? */
	int			alone;			/* how many items to process one by one, since
								 * one of them fails */
} CorrectionRun;

/* One batch */
typedef struct CorrectionBatch
{
	CorrectionRun *run;
	Correction *correction;
	CorrectionItem *items;
	int			nitems;
	int			skipped;
	const CorrectionItem *refused;	/* NULL if none is */
	Refusal		refusal;
} CorrectionBatch;

/* ------------------------------------------------------------------------
 * a batch
 */

/*
 * Is there anything to be done about an item?
 */
static bool
is_to_do(const Correction *correction, const CorrectionItem *item)
{
	if (correction->status == CORRECTION_REVERTING)
		return item->transaction_id != 0 && item->reverted_id == 0;
	return item->code == NULL && item->transaction_id == 0;
}

/*
 * Reads the next items of which something is to be done.
 */
static void
read_items(CorrectionBatch *batch, int limit)
{
	CorrectionItem item;
	StoreScan	scan;

	batch->items = palloc(limit * sizeof(CorrectionItem));
	PushActiveSnapshot(store_snapshot(true));
	scan_begin(&scan, NULL, &correction_items_by_number, GetActiveSnapshot(),
			   BY_INT64(batch->correction->id),
			   BY_INT32_ABOVE(batch->run->position));
	while (batch->nitems < limit && scan_peek(&scan, ForwardScanDirection, &item))
	{
		CHECK_FOR_INTERRUPTS();
		if (is_to_do(batch->correction, &item))
			scan_copy(&scan, &batch->items[batch->nitems++]);
	}
	scan_end(&scan);
	PopActiveSnapshot();
}

/*
 * Processes the items of a batch, in a subtransaction.  Stops at the first one that is
 * refused.
 */
static void
work_on_items(void *arg)
{
	CorrectionBatch *batch = arg;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext row = AllocSetContextCreate(context, "credits correction",
											  ALLOCSET_DEFAULT_SIZES);
	Store	   *store = store_open();
	int			i;

	for (i = 0; i < batch->nitems && batch->refused == NULL; i++)
	{
		CorrectionItem item = batch->items[i];
		CorrectionTurn turn = {batch->correction, &item};
		Party		party = {NULL, item.account_id};
		LedgerCall	call = {
			.parties = &party,
			.nparties = 1,
			.plan = turns_plan,
			.arg = &turn,
			/* an update could not skip a locked row */
			.lock_first = true,
			.skip_locked = !(batch->run->at_skipped && batch->run->may_wait)
		};
		Outcome		outcome;
		Refusal		refusal;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(row);
		outcome = ledger_run(store, &call, &refusal);
		MemoryContextSwitchTo(context);
		if (outcome == BUSY)
			batch->skipped++;
		else if (outcome == REFUSED)
		{
			batch->refused = &batch->items[i];
			batch->refusal.sqlstate = refusal.sqlstate;
		}
		MemoryContextReset(row);
	}
	store_close(store);
	MemoryContextDelete(row);
}

/*
 * Is an error due to an item, so that another try would fail, too?
 */
static bool
is_of_item(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return false;
		default:
			return !job_is_ended_by(error);
	}
}

/*
 * Locks a correction, and reads its newest version.  Returns false if there is no such
 * correction.
 */
static bool
lock_correction(Store *store, StoreIndex *index, ScanBy by, Correction *correction)
{
	bool		found;
	TM_Result	result = TM_Deleted;

	PushActiveSnapshot(store_snapshot(true));
	found = scan_find_by(store, index, GetActiveSnapshot(), correction, &by, 1);
	if (found)
		result = store_lock(store, &corrections_table, GetActiveSnapshot(), correction,
							false);
	PopActiveSnapshot();
	if (found && result != TM_Ok && result != TM_Deleted)
		store_raise_changed(&corrections_table, correction);
	return result == TM_Ok;
}

/*
 * Updates a correction, which is locked.
 */
static void
write_correction(Store *store, const Correction *correction)
{
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	store_write(store, &corrections_table, GetActiveSnapshot(), correction);
	store_end_changes(store);
	PopActiveSnapshot();
}

/*
 * Begins with the first item again.
 */
static void
rewind_run(CorrectionRun *run)
{
	run->position = 0;
	run->skipped = 0;
	run->at_skipped = false;
	run->alone = 0;
}

/*
 * Begins to revert a correction, since an account is refused.
 */
static void
begin_reverting(Store *store, CorrectionBatch *batch, const CorrectionItem *item,
				int sqlstate)
{
	Correction *correction = batch->correction;

	correction->status = CORRECTION_REVERTING;
	correction->refused_id = item->account_id;
	correction->refusal = sqlstate_text(sqlstate);
	write_correction(store, correction);
	rewind_run(batch->run);
	batch->run->status = CORRECTION_REVERTING;
}

/*
 * There are no items left after the position: looks at those that were locked or, if
 * there are none, ends the correction.
 */
static BatchOutcome
reach_end(Store *store, CorrectionRun *run, Correction *correction)
{
	if (run->skipped > 0)
	{
		bool		busy = run->at_skipped;

		rewind_run(run);
		run->at_skipped = true;
		return busy ? BATCH_BUSY : BATCH_DONE;
	}
	correction->status = correction->status == CORRECTION_REVERTING ?
		CORRECTION_REFUSED : CORRECTION_APPLIED;
	correction->ended_at = Max(clock_now(), correction->applied_at);
	write_correction(store, correction);
	return BATCH_ENDED;
}

/*
 * Processes the next items of a correction, which is locked.
 */
static BatchOutcome
work_on_correction(Store *store, CorrectionRun *run, Correction *correction,
				   int limit)
{
	CorrectionBatch batch = {.run = run,.correction = correction};
	ErrorData  *error;

	/* another session may have begun to revert it */
	if (run->status != correction->status)
		rewind_run(run);
	run->status = correction->status;
	/* what is waited for is locked alone */
	if (run->alone > 0 || (run->at_skipped && run->may_wait))
		limit = 1;
	read_items(&batch, limit);
	if (batch.nitems == 0)
		return reach_end(store, run, correction);

	error = catch_error(work_on_items, &batch);
	if (error && !is_of_item(error))
		ReThrowError(error);
	if (error && batch.nitems > 1)
	{
		run->alone = batch.nitems;
		return BATCH_DONE;
	}
	if (error || batch.refused)
	{
		/* what cannot be undone now is tried again */
		if (correction->status == CORRECTION_REVERTING)
		{
			if (error)
				ReThrowError(error);
			elog(ERROR, "account " INT64_FORMAT " refuses what it has given",
				 batch.refused->account_id);
		}
		begin_reverting(store, &batch, error ? &batch.items[0] : batch.refused,
						error ? error->sqlerrcode : batch.refusal.sqlstate);
		return BATCH_DONE;
	}
	run->position = batch.items[batch.nitems - 1].number;
	run->skipped += batch.skipped;
	run->alone = Max(run->alone - batch.nitems, 0);
	return BATCH_DONE;
}

/*
 * Does one batch of a correction.
 */
static BatchOutcome
correct_batch(CorrectionRun *run, int limit)
{
	Correction	correction;
	BatchOutcome outcome = BATCH_ENDED;
	Store	   *store;

	ledger_lock_tables(apply_function);
	store = store_open();
	if (lock_correction(store, &corrections_by_id, BY_INT64(run->id), &correction) &&
		correction.ended_at == 0)
		outcome = work_on_correction(store, run, &correction, limit);
	store_close(store);
	return outcome;
}

/* ------------------------------------------------------------------------
 * all at once, in the caller's transaction
 */

/*
 * Corrects all accounts.
 */
static void
correct_at_once(const Correction *correction)
{
	CorrectionRun run = {.id = correction->id};
	CorrectionBatch batch = {.run = &run,.correction = unconstify(Correction *, correction)};
	BatchItem  *items;
	CorrectionTurn *turns;
	int			i;

	if (correction->accepted > MAX_ATOMIC_ACCOUNTS)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("correction " INT64_FORMAT " is too large for one transaction",
						correction->id),
				 errdetail("It corrects %d accounts; up to %d can be locked at once.",
						   correction->accepted, MAX_ATOMIC_ACCOUNTS),
				 errhint("CALL it by itself, outside of a transaction block.")));
	read_items(&batch, correction->accepted + 1);
	items = palloc0((batch.nitems + 1) * sizeof(BatchItem));
	turns = palloc0((batch.nitems + 1) * sizeof(CorrectionTurn));
	PushActiveSnapshot(store_snapshot(true));
	for (i = 0; i < batch.nitems; i++)
	{
		Account		account;

		CHECK_FOR_INTERRUPTS();
		if (!rows_find_account(NULL, GetActiveSnapshot(), NULL,
							   batch.items[i].account_id, &account))
			elog(ERROR, "account " INT64_FORMAT " does not exist",
				 batch.items[i].account_id);
		turns[i] = (CorrectionTurn)
		{
			correction, &batch.items[i], true
		};
		items[i].account = account.name;
		items[i].request.reason = correction->reason;
		items[i].arg = &turns[i];
	}
	PopActiveSnapshot();
	if (bulk_post(apply_function, items, batch.nitems, turns_plan, true, false))
		return;
	for (i = 0; i < batch.nitems; i++)
		if (items[i].refusal.sqlstate != 0)
			ereport(ERROR,
					(errcode(ERRCODE_CONFLICT),
					 errmsg("correction " INT64_FORMAT " is not what was previewed any more",
							correction->id),
					 errdetail("Account \"%s\" could be corrected, but now it would be refused: %s.",
							   text_to_cstring(items[i].account),
							   items[i].refusal.message),
					 errhint("Nothing was changed.  Call credits_preview_correction again.")));
}

/* ------------------------------------------------------------------------
 * the call
 */

/*
 * Raises the error for a correction that was refused.
 */
NORETURN_COMPAT static void raise_refused(const Correction *correction);
static void
raise_refused(const Correction *correction)
{
	Account		account;

	ereport(ERROR,
			(errcode(ERRCODE_CONFLICT),
			 errmsg("correction " INT64_FORMAT " was refused", correction->id),
			 rows_find_account(NULL, store_snapshot(true), NULL,
							   correction->refused_id, &account) ?
			 errdetail("Account \"%s\" could not be corrected when its turn came (%s).  What was posted before has been undone.",
					   rows_account_name(&account), correction->refusal) : 0,
			 errhint("Call credits_preview_correction again.")));
}

/*
 * Raises the error for a correction that cannot be begun any more.
 */
static void
check_expiry(const Correction *correction)
{
	if (clock_now() < correction->expires_at)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_GONE),
			 errmsg("correction " INT64_FORMAT " has expired", correction->id),
			 errdetail("It could be applied until %s.",
					   clock_show(correction->expires_at)),
			 errhint("Call credits_preview_correction again.")));
}

/*
 * Begins to apply the correction that has a token, unless that was done before.
 * Returns whether it has ended by now; replayed says whether it had before.
 */
static bool
begin_correction(text *token, bool may_commit, Correction *correction,
				 bool *replayed)
{
	Store	   *store;

	ledger_lock_tables(apply_function);
	store = store_open();
	if (!lock_correction(store, &corrections_by_token, BY_TEXT(token), correction))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("no correction has this token"),
				 errhint("Pass the token that credits_preview_correction returned; credits_housekeep deletes what was not applied in time.")));
	*replayed = correction->ended_at != 0;
	if (correction->status == CORRECTION_PREVIEWED)
	{
		check_expiry(correction);
		PushActiveSnapshot(store_snapshot(true));
		corrections_check(correction);
		PopActiveSnapshot();
		if (!may_commit)
			correct_at_once(correction);
		correction->status = may_commit ? CORRECTION_APPLYING : CORRECTION_APPLIED;
		correction->applied_at = Max(clock_now(), correction->previewed_at);
		correction->ended_at = may_commit ? 0 : correction->applied_at;
		correction->applied_role = GetUserNameFromId(GetSessionUserId(), false);
		correction->applied_actor = roles_actor();
		write_correction(store, correction);
	}
	else if (!may_commit && correction->ended_at == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("correction " INT64_FORMAT " is being applied in batches",
						correction->id),
				 errdetail("A commit follows each of them."),
				 errhint("CALL it by itself, outside of a transaction block.")));
	store_close(store);
	return correction->ended_at != 0;
}

/*
 * Ends the transaction, and begins one that sees what others commit, whatever the
 * default: in REPEATABLE READ, a batch would fail whenever one of its accounts spends
 * after the batch has begun.
 */
static void
commit_and_begin(MemoryContext context)
{
	SPI_commit();
	/* as SET TRANSACTION would */
	(void) set_config_option("transaction_isolation", "read committed", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	MemoryContextSwitchTo(context);
	MemoryContextReset(context);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Applies a correction that has begun, to the end.
 */
static void
correct_in_batches(int64 id, MemoryContext context)
{
	CorrectionRun run = {.id = id,.may_wait = true};

	do
		commit_and_begin(context);
	while (correct_batch(&run, BATCH_ACCOUNTS) != BATCH_ENDED);
	commit_and_begin(context);
}

/*
 * SQL procedure: applies a correction that was previewed.
 */
Datum
credits_apply_correction(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext batch = AllocSetContextCreate(context, "credits correction",
												ALLOCSET_DEFAULT_SIZES);
	text	   *token = arg_name(fcinfo, 0, "token");
	Correction	correction;
	bool		ended;
	bool		replayed;
	int64		id;
	TupleDesc	tupdesc;
	Datum		values[4];
	bool		isnull[4] = {false};

	store_check_writable(apply_function);
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	MemoryContextSwitchTo(batch);
	if (may_commit)
		commit_and_begin(batch);
	ended = begin_correction(token, may_commit, &correction, &replayed);
	id = correction.id;
	if (!ended)
		correct_in_batches(id, batch);
	SPI_finish();

	MemoryContextSwitchTo(context);
	PushActiveSnapshot(store_snapshot(true));
	if (!scan_find(NULL, &corrections_by_id, GetActiveSnapshot(), &correction,
				   BY_INT64(id)))
		elog(ERROR, "correction " INT64_FORMAT " does not exist", id);
	PopActiveSnapshot();
	MemoryContextDelete(batch);
	if (correction.status == CORRECTION_REFUSED)
		raise_refused(&correction);
	values[0] = Int64GetDatum(correction.id);
	values[1] = Int32GetDatum(correction.accepted);
	values[2] = multiply(number(correction.delta), number(correction.accepted));
	values[3] = BoolGetDatum(replayed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull)));
}

/* ------------------------------------------------------------------------
 * as a part of credits_housekeep
 */

/* the correction that is continued; those before it have ended, or are locked */
static CorrectionRun swept = {0};
static int64 swept_until = 0;

/*
 * Begins to look for corrections that are not finished, with the first of them.
 */
void
apply_corrections_begin_sweep(void)
{
	swept_until = 0;
	memset(&swept, 0, sizeof(CorrectionRun));
}

/*
 * Deletes previews that were not applied in time, or does a batch of a correction that
 * was begun, unless another session does.  Returns 0 if there is nothing to do.
 */
int64
apply_corrections_sweep(int limit, bool may_commit)
{
	Datum		values[2];
	SqlResult  *result;
	int64		deleted;
	bool		isnull;

	values[0] = TimestampTzGetDatum(clock_now());
	values[1] = Int32GetDatum(limit);
	result = statements_run(&delete_expired, values, NULL);
	deleted = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	if (deleted > 0)
		return deleted;
	for (;;)
	{
		int64		id;
		BatchOutcome outcome;

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum(swept_until);
		result = statements_run(&find_unfinished, values, NULL);
		if (result->nrows == 0)
			return 0;
		id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
		if (swept.id != id)
			swept = (CorrectionRun)
		{
			.id = id
		};
		outcome = correct_batch(&swept, Min(limit, BATCH_ACCOUNTS));
		if (outcome != BATCH_DONE)
			swept_until = id;
		if (outcome != BATCH_BUSY)
			return 1;
	}
}
