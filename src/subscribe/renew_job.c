/*
 * renew_job.c
 *	  The job that renews subscriptions.
 *
 * Tested in test/sql/renew.sql and test/t/renew.pl.
 */
#include "credits.h"

#include "ledger/job.h"
#include "ledger/ledger.h"
#include "subscribe/renew.h"
#include "subscribe/subscriptions.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_renew);

/* A renewal by the job */
typedef struct Renewal
{
	int64		subscription_id;
	bool		more;			/* is it still due after this posting? */
} Renewal;

/*
 * Plans the renewal of a subscription, if that is still due.
 */
static bool
renew_plan(Posting *posting, void *arg)
{
	Renewal    *renewal = arg;
	Subscription *subscription = subscriptions_in(posting,
												  renewal->subscription_id);
	bool		through;

	if (subscription == NULL || subscription->due_at > posting->now)
		return false;
	through = renew_due(posting, subscription);
	if (!through)
	{
		if (!subscription->changed)
			return false;
		/* keep the periods before the one that was refused */
		memset(&posting->refusal, 0, sizeof(Refusal));
	}
	renewal->more = through && subscription->due_at <= posting->now;
	return true;
}

/*
 * Renews a subscription, unless its account is locked by another transaction.
 * One that is very late takes several postings.
 */
static JobOutcome
renew_subscription(const DueItem *item, int *steps)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext once = AllocSetContextCreate(context, "credits renewal",
											   ALLOCSET_DEFAULT_SIZES);
	Renewal		renewal = {.subscription_id = item->id};
	Subscription subscription;
	Outcome		outcome;
	bool		found;

	/* this needs no lock: a subscription never changes its account */
	PushActiveSnapshot(store_snapshot(true));
	found = subscriptions_read(NULL, GetActiveSnapshot(), item->id,
							   &subscription);
	PopActiveSnapshot();
	if (!found)
		return ITEM_SKIPPED;
	do
	{
		Refusal		refusal;

		CHECK_FOR_INTERRUPTS();
		renewal.more = false;
		MemoryContextSwitchTo(once);
		outcome = ledger_post_due("credits_renew()", subscription.account_id,
								  renew_plan, &renewal, NULL, &refusal);
		if (outcome == REFUSED)
			raise_refusal(&refusal);
		MemoryContextSwitchTo(context);
		MemoryContextReset(once);
	} while (renewal.more);
	MemoryContextDelete(once);
	return outcome == POSTED ? ITEM_DONE : ITEM_SKIPPED;
}

/*
 * Records that a subscription could not be renewed.
 */
static void
renew_failed(int64 id, ErrorData *error)
{
	Subscription subscription;
	Account		account;
	JobFailure	failure = {
		.kind = "renewal_failed",
		.announced = true,
		.account = &account,
		.what = psprintf("subscription " INT64_FORMAT " could not be renewed",
						 id),
		.hint = "Run credits_verify on its account."
	};

	PushActiveSnapshot(store_snapshot(true));
	if (subscriptions_read(NULL, GetActiveSnapshot(), id, &subscription) &&
		rows_find_account(NULL, GetActiveSnapshot(), NULL,
						  subscription.account_id, &account))
	{
		json_begin(&failure.detail);
		json_cstring(&failure.detail, "account", rows_account_name(&account));
		json_int64(&failure.detail, "subscription_id", id);
		json_time(&failure.detail, "due_at", subscription.due_at);
		failure.since = subscription.due_at;
		job_record_failure(&failure, error);
	}
	PopActiveSnapshot();
}

static const Job renew_job = {
	.name = "credits_renew",
	.due = &subscriptions_by_due_at,
	.work = renew_subscription,
	.failed = renew_failed
};

/*
 * Renews every subscription that is due.
 */
Datum
credits_renew(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &renew_job);
}
