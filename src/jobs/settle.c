/*
 * settle.c
 *	  credits_settle: a job that settles all accounts that are due.
 *
 * Accounts that other sessions have locked are skipped, because those sessions
 * settle them.  An account with a lot to do is settled in parts, each in a
 * transaction of its own if the caller allows that, so that a run that is
 * interrupted keeps the parts that it has done.
 */
#include "credits.h"

#include "ledger/job.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_settle);

/*
 * Reports that an account could not be settled.
 */
static void
settle_failed(int64 account_id, ErrorData *error)
{
	Account		account;
	JobFailure	failure = {
		.kind = "settle_failed",
		.account = &account,
		.hint = "Run credits_verify on the account."
	};

	PushActiveSnapshot(store_snapshot(true));
	if (rows_find_account(NULL, GetActiveSnapshot(), NULL, account_id,
						  &account))
	{
		json_begin(&failure.detail);
		json_cstring(&failure.detail, "account", rows_account_name(&account));
		failure.since = account.due_at;
		failure.what = psprintf("account \"%s\" could not be settled",
								rows_account_name(&account));
		job_record_failure(&failure, error);
	}
	PopActiveSnapshot();
}

/*
 * Settles an account, or part of it if it takes more than the given number of
 * steps.
 */
static JobOutcome
settle_due(const DueItem *item, int *steps)
{
	Refusal		refusal;
	Outcome		outcome = ledger_post_due("credits_settle()", item->id, NULL,
										  NULL, steps, &refusal);

	return outcome == POSTED ? ITEM_DONE :
		outcome == MORE_DUE ? ITEM_UNFINISHED : ITEM_SKIPPED;
}

static const Job settle_job = {
	.name = "credits_settle",
	.due = &accounts_by_due_at,
	.work = settle_due,
	.failed = settle_failed
};

/*
 * SQL procedure: settles all accounts that are due.
 */
Datum
credits_settle(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &settle_job);
}
