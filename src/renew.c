/*
 * renew.c
 *	  Renewing subscriptions: what the clock does to them, and the job that lets
 *	  it.
 *
 * A renewal is a posting on the subscription's account.  Settling that comes
 * first expires what the ending period has left; then the next period's credits
 * are given, and what the plan lets be kept is rolled over.  Grants, log,
 * period and subscription are written together, so each period is renewed once,
 * whoever does it: the period's row has a key, and the subscription's row says
 * which period is the newest.
 *
 * Whoever changes a subscription renews it first, if that is due.  So it makes
 * no difference whether the job was late.
 */
#include "credits.h"

#include "calendar.h"
#include "changes.h"
#include "job.h"
#include "numbers.h"
#include "posting.h"
#include "renew.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_renew);

/* ------------------------------------------------------------------------
 * what is told
 */

/*
 * Records and announces something that happened to a subscription.
 */
void
renew_event(Posting *posting, const Subscription *subscription,
			const char *kind, const Period *period, int64 transaction_id)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	StringInfoData json;

	if (posting->dry)
		return;
	initStringInfo(&json);
	json_cstring(&json, "account", row_account_name(&posting->account));
	json_int64(&json, "subscription", subscription->id);
	json_text(&json, "plan", plan->name);
	json_cstring(&json, "status",
				 subscription_status_names[subscription->status]);
	if (period)
	{
		json_time(&json, "period_start", period->starts_at);
		json_time(&json, "period_end", period->ends_at);
		json_int64(&json, "credits", period->credits);
	}
	if (subscription->cancel_at != DT_NOEND)
		json_time(&json, "cancel_at", subscription->cancel_at);
	alerts_announce_with(posting, kind, transaction_id, &json);
}

/*
 * Logs what has become of a subscription: a transaction that moves nothing.
 */
Entry *
renew_log(Posting *posting, const Subscription *subscription)
{
	Entry	   *entry = log_add(posting, KIND_SUBSCRIPTION, posting->now, 0,
								NULL, 0);
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "subscription", subscription->id);
	json_int64(&json, "plan_id", subscription->plan_id);
	json_cstring(&json, "status",
				 subscription_status_names[subscription->status]);
	if (subscription->cancel_at != DT_NOEND)
	{
		json_time(&json, "cancel_at", subscription->cancel_at);
		json_cstring(&json, "cancel_credits",
					 subscription->cancel_expires ? "expire" : "keep");
	}
	entry->terms = json_document(&json);
	return entry;
}

/* ------------------------------------------------------------------------
 * what the clock does
 */

/*
 * Returns what a part of a period gives, rounded up.
 */
static int64
part_of(int64 credits, TimestampTz from, TimestampTz until, TimestampTz start)
{
	if (start >= from)
		return credits;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 divide(multiply(number(credits),
															 number(until - from)),
													number(until - start), true)));
}

/*
 * Rolls over what a period has left into the one after it, if both were given.
 */
static void
roll_pair(Posting *posting, Subscription *subscription, Period *period,
		  const Period *into)
{
	if (period == NULL || into == NULL ||
		period->ends_at != into->starts_at ||
		period->status != PERIOD_GRANTED || into->status != PERIOD_GRANTED ||
		period->rolled >= 0 || period->ends_at > posting->now)
		return;
	(void) periods_roll(posting, subscription, period, into,
						periods_plan_before(posting, subscription,
											period->ends_at),
						plans_get(into->plan_id), 0);
}

/*
 * Gives a period that is paid or begins a trial, whatever the others, and rolls
 * over on both its sides.  It gives its part of what a period from an earlier
 * instant on would give.  The account must not be closed.  Returns NULL, with
 * the posting's refusal set, if its limits forbid it.
 */
Period *
renew_give(Posting *posting, Subscription *subscription, int64 number,
		   TimestampTz starts_at, TimestampTz ends_at, bool trial,
		   int64 plan_id, TimestampTz whole_from)
{
	const PlanTerms *plan = plans_get(plan_id);
	Period	   *period = periods_in(posting, subscription->id, starts_at);
	Period	   *before;
	Period	   *after;
	int64		amount = trial ? plan->trial_credits :
		part_of(plan->credits, starts_at, ends_at, whole_from);

	if (period && period->status != PERIOD_SKIPPED)
		return period;
	if (period == NULL)
		period = periods_new(subscription, number, starts_at, ends_at,
							 plan_id);
	period->status = trial ? PERIOD_TRIAL : PERIOD_GRANTED;
	if (amount > 0 &&
		!periods_give(posting, subscription, period, plan, amount,
					  amount == plan->credits && !trial ? plan->price : (Datum) 0))
		return NULL;
	periods_keep(posting, period);

	before = periods_before(posting, subscription->id, starts_at);
	roll_pair(posting, subscription, before, period);
	after = periods_in(posting, subscription->id, period->ends_at);
	roll_pair(posting, subscription, period, after);

	if (subscription->period_number < 0 ||
		starts_at >= subscription->period_start)
	{
		subscription->period_number = number;
		subscription->period_start = starts_at;
		subscription->period_end = period->ends_at;
		/* a change within the period may have become known before it */
		if (subscription->plan_id != plan_id &&
			changes_read(posting, subscription->id, starts_at + 1) == NIL)
			periods_change_plan(posting, subscription, starts_at, plan_id,
								"prorate", "(renewal)");
	}
	subscriptions_changed(posting, subscription);
	subscriptions_wake(subscription);
	/* rolls over later what has not ended yet */
	if (before && before->ends_at == starts_at &&
		before->ends_at > posting->now)
		subscription->due_at = Min(subscription->due_at, before->ends_at);
	if (after && period->ends_at > posting->now)
		subscription->due_at = Min(subscription->due_at, period->ends_at);
	return period;
}

/*
 * Rolls over what has ended of periods that were paid before they began.
 */
static void
roll_paid(Posting *posting, Subscription *subscription, TimestampTz since)
{
	TimestampTz pending = DT_NOEND;
	Period	   *into = periods_before(posting, subscription->id, DT_NOEND);

	while (into && into->starts_at >= since)
	{
		Period	   *period = periods_before(posting, subscription->id,
											into->starts_at);

		if (period == NULL)
			break;
		roll_pair(posting, subscription, period, into);
		if (period->ends_at == into->starts_at &&
			period->ends_at > posting->now)
			pending = period->ends_at;
		into = period;
	}
	subscriptions_changed(posting, subscription);
	subscription->due_at = Min(subscription->due_at, pending);
}

/*
 * Begins a period of a subscription that is renewed by the clock: gives its
 * credits, unless it is to be skipped, and rolls over what the one before it
 * has left.  Returns NULL, with the posting's refusal set and nothing else
 * changed, if the account's limits forbid it.
 */
static Period *
begin_period(Posting *posting, Subscription *subscription, int64 number,
			 TimestampTz starts_at, bool first, bool may_skip)
{
	const PlanTerms *rule = plans_get(subscription->plan_id);
	const PlanTerms *plan = rule;
	Subscription next = *subscription;
	bool		changes = next.next_plan_id != 0;
	TimestampTz ends_at;
	Period	   *period;
	int64		amount;
	int64		room;
	int64		granted;
	bool		skip;

	if (changes)
	{
		plan = plans_get(next.next_plan_id);
		if (!changes_same_length(plan, rule))
		{
			next.anchor = starts_at;
			next.first_number = number;
			first = false;
		}
	}
	/* where a zone leaves a day out, a period of a day is empty */
	while ((ends_at = subscriptions_start(&next, plan, number + 1)) <= starts_at)
		number++;
	amount = plan->credits;
	if (first)
	{
		TimestampTz start = subscriptions_start(&next, plan, number);

		if (start < starts_at)
			amount = part_of(amount, starts_at, ends_at, start);
	}

	skip = may_skip && plan->catch_up_latest && ends_at <= posting->now;
	period = periods_new(&next, number, starts_at, ends_at, plan->id);
	period->status = skip ? PERIOD_SKIPPED : PERIOD_GRANTED;
	if (!skip &&
		pg_add_s64_overflow(posting->account.granted, amount, &granted))
	{
		refuse_overflow(posting, amount);
		return NULL;
	}
	/* what is over at once never adds to the balance */
	room = skip || ends_at <= posting->now ? 0 : amount;
	if (room > 0 && !caps_receive(posting, &room, true))
		return NULL;

	/* what is rolled over comes first, so that it burns first */
	if (!skip && rule->rollover != ROLLOVER_NONE &&
		subscription->period_number >= 0 &&
		subscription->period_end == starts_at)
	{
		Period	   *ending = periods_in(posting, subscription->id,
										subscription->period_start);

		if (ending && ending->ends_at == starts_at)
			(void) periods_roll(posting, &next, ending, period, rule, plan,
								room);
	}
	if (!skip && amount > 0 &&
		!periods_give(posting, subscription, period, plan, amount,
					  amount == plan->credits ? plan->price : (Datum) 0))
		return NULL;
	periods_keep(posting, period);

	next.period_number = number;
	next.period_start = starts_at;
	next.period_end = ends_at;
	next.next_plan_id = 0;
	next.next_proration = NULL;
	next.changed = subscription->changed;
	*subscription = next;
	subscriptions_changed(posting, subscription);
	if (changes)
		periods_change_plan(posting, subscription, starts_at, plan->id,
							"prorate", "(renewal)");
	subscriptions_wake(subscription);
	return period;
}

/*
 * Begins a trial.
 */
static bool
begin_trial(Posting *posting, Subscription *subscription)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	TimestampTz starts_at = subscription->period_end;
	Period	   *period;

	period = renew_give(posting, subscription, 0, starts_at,
						calendar_after(subscription->timezone, starts_at,
									   plan->trial), true, plan->id, starts_at);
	if (period == NULL)
		return false;
	renew_event(posting, subscription, "trial_started", period,
				period->transaction_id);
	return true;
}

/*
 * Ends a subscription whose time has come.  The account must not be closed.
 * Returns the transaction that says so.
 */
Entry *
renew_end(Posting *posting, Subscription *subscription)
{
	Entry	   *entry;

	subscription->status = SUBSCRIPTION_CANCELED;
	subscription->ended_at = Min(subscription->cancel_at, posting->now);
	subscriptions_changed(posting, subscription);
	subscriptions_wake(subscription);
	entry = renew_log(posting, subscription);
	if (subscription->cancel_expires)
		periods_take_back(posting, subscription);
	renew_event(posting, subscription, "subscription_canceled", NULL,
				entry->id);
	return entry;
}

/*
 * Ends a subscription whose account was closed: nothing can be given to it.
 */
static void
end_closed(Posting *posting, Subscription *subscription)
{
	TimestampTz since = subscription->due_at;
	StringInfoData json;

	subscription->status = SUBSCRIPTION_CANCELED;
	subscription->cancel_at = Min(subscription->cancel_at, posting->now);
	subscription->ended_at = subscription->cancel_at;
	subscriptions_changed(posting, subscription);
	subscriptions_wake(subscription);
	initStringInfo(&json);
	json_cstring(&json, "account", row_account_name(&posting->account));
	json_int64(&json, "subscription", subscription->id);
	json_time(&json, "due_at", since);
	json_cstring(&json, "code", sqlstate_text(ERRCODE_LOCKED_ACCOUNT));
	json_cstring(&json, "message", "account is closed");
	if (!posting->dry)
		alerts_announce_with(posting, "renewal_failed", 0, &json);
}

/*
 * Tells whether the next period is the first that is no trial: it may begin
 * within a period of the calendar.
 */
static bool
is_first(Posting *posting, const Subscription *subscription)
{
	Period	   *newest;

	if (subscription->period_number != 0)
		return subscription->period_number < 0;
	newest = periods_in(posting, subscription->id,
						subscription->period_start);
	return newest && newest->status == PERIOD_TRIAL;
}

/*
 * Does what the clock does next to a subscription that is due.  Returns false,
 * with the posting's refusal set, if the account's limits forbid it.
 */
static bool
step(Posting *posting, Subscription *subscription)
{
	TimestampTz since = subscription->due_at;
	Period	   *period;

	if (posting->account.status == ACCOUNT_CLOSED)
		end_closed(posting, subscription);
	else if (subscription->cancel_at <= posting->now &&
			 (subscription->cancel_at <= subscription->period_end ||
			  subscription->by_payment ||
			  (subscription->status != SUBSCRIPTION_TRIALING &&
			   subscription->status != SUBSCRIPTION_ACTIVE)))
	{
		if (subscription->by_payment)
			roll_paid(posting, subscription, since);
		(void) renew_end(posting, subscription);
	}
	else if (subscription->status == SUBSCRIPTION_TRIALING &&
			 subscription->period_number < 0)
		return begin_trial(posting, subscription);
	else if (subscription->status == SUBSCRIPTION_TRIALING &&
			 subscription->period_end <= posting->now)
	{
		subscription->status = !subscription->by_payment ?
			SUBSCRIPTION_ACTIVE : SUBSCRIPTION_UNPAID;
		subscriptions_changed(posting, subscription);
		subscriptions_wake(subscription);
		renew_event(posting, subscription, "trial_ended", NULL, 0);
	}
	else if (subscription->status == SUBSCRIPTION_ACTIVE &&
			 !subscription->by_payment &&
			 subscription->period_end <= posting->now)
	{
		period = begin_period(posting, subscription,
							  subscription->period_number + 1,
							  subscription->period_end,
							  is_first(posting, subscription), true);
		if (period == NULL)
			return false;
		if (period->status == PERIOD_GRANTED)
			renew_event(posting, subscription, period->number == 0 ?
						"subscription_started" : "subscription_renewed",
						period, period->transaction_id);
	}
	else
	{
		subscriptions_changed(posting, subscription);
		subscription->due_at = DT_NOEND;
		subscriptions_wake(subscription);
		if (subscription->by_payment)
			roll_paid(posting, subscription, since);
	}
	return true;
}

/*
 * Does what the clock does to a subscription up to now, but no more than so many
 * periods.  Returns false, with the posting's refusal set, if the account's
 * limits forbid one; those before it are given.
 */
bool
renew_due(Posting *posting, Subscription *subscription)
{
	int			n;

	for (n = 0; n < MAX_PERIODS && subscription->due_at <= posting->now; n++)
		if (!step(posting, subscription))
			return false;
	return true;
}

/*
 * Makes a subscription active: gives the period that holds now, unless that was
 * given, and nothing for those missed.  Returns false, with the posting's
 * refusal set, if the account's limits forbid it.
 */
bool
renew_now(Posting *posting, Subscription *subscription, Period **given)
{
	const PlanTerms *plan = plans_get(subscription->plan_id);
	Period	   *newest = NULL;
	bool		first;
	int64		number;
	TimestampTz starts_at;

	*given = NULL;
	if (subscription->period_number >= 0)
		newest = periods_in(posting, subscription->id,
							subscription->period_start);
	first = is_first(posting, subscription);
	if (posting->now < subscription->period_end)
	{
		subscription->status = newest && newest->status == PERIOD_TRIAL ?
			SUBSCRIPTION_TRIALING : SUBSCRIPTION_ACTIVE;
		subscriptions_changed(posting, subscription);
		subscriptions_wake(subscription);
		return true;
	}
	subscription->status = SUBSCRIPTION_ACTIVE;
	if (subscription->by_payment)
	{
		subscriptions_changed(posting, subscription);
		subscriptions_wake(subscription);
		return true;
	}
	number = subscription->first_number +
		calendar_number(subscription->anchor, subscription->timezone,
						plan->period, plan->every, posting->now);
	starts_at = subscriptions_start(subscription, plan, number);
	*given = begin_period(posting, subscription, number,
						  Max(starts_at, subscription->period_end), first,
						  false);
	return *given != NULL;
}

/* ------------------------------------------------------------------------
 * the job
 */

typedef enum RenewResult
{
	RENEW_DONE,
	RENEW_MORE,					/* and it is still due */
	RENEW_NOT_DUE,
	RENEW_SKIPPED,
	RENEW_CHANGED
} RenewResult;

/*
 * Renews a subscription in a posting that has begun.  Without the lock another
 * may have changed the account meanwhile; with it, another that has it is not
 * waited for.
 */
static RenewResult
attempt(Posting *posting, int64 id)
{
	Subscription *subscription = palloc(sizeof(Subscription));
	bool		through;

	if (!subscriptions_read(posting->store, posting->snapshot, id,
							subscription) ||
		!row_find_account(posting->store, posting->snapshot, NULL,
						  subscription->account_id, &posting->account))
		return RENEW_NOT_DUE;
	log_check_idle(posting->account.id);
	if (posting->locked)
	{
		if (!row_lock_account(posting->store, posting->snapshot,
							  &posting->account, true))
			return RENEW_SKIPPED;
		posting->snapshot = posting_renew_snapshot();
		subscription = subscriptions_in(posting, id);
		if (subscription == NULL)
			return RENEW_NOT_DUE;
	}
	else
		posting->subscriptions = list_make1(subscription);
	posting_check(&posting->account);
	posting->now = Max(clock_now(), posting->account.last_at);
	if (subscription->due_at > posting->now)
		return RENEW_NOT_DUE;
	/* a hold that times out gives back to caps, which are locked after it */
	if (!posting->locked && posting_may_release(posting))
		return RENEW_CHANGED;
	if (!posting_lock_members(posting, 1, NULL, NULL, true))
		return RENEW_SKIPPED;
	reserve_settle(posting);
	through = renew_due(posting, subscription);
	if (!through && !subscription->changed)
	{
		/* it must not be on old news */
		if (!posting->locked)
			return RENEW_CHANGED;
		raise_refusal(&posting->refusal);
	}
	if (posting_write(posting, NULL) != POSTED)
		return RENEW_CHANGED;
	return through && subscription->due_at <= posting->now ? RENEW_MORE :
		RENEW_DONE;
}

/*
 * Renews a subscription once, unless another has its account.
 */
static RenewResult
renew_once(int64 id)
{
	Store	   *store = store_open();
	RenewResult result;
	bool		locked = false;

	for (;;)
	{
		Posting		posting;

		posting_begin(&posting, store, locked, true);
		result = attempt(&posting, id);
		PopActiveSnapshot();
		if (result != RENEW_CHANGED || locked)
			break;
		locked = true;
	}
	store_close(store);
	if (result == RENEW_CHANGED)
		posting_raise_changed(id);
	return result;
}

/*
 * Renews a subscription.  One that is very late takes several postings.
 */
static bool
renew_subscription(const DueItem *item)
{
	RenewResult result;

	do
	{
		CHECK_FOR_INTERRUPTS();
		result = renew_once(item->id);
		/* what the next posting needs it reads itself */
		MemoryContextReset(CurrentMemoryContext);
	} while (result == RENEW_MORE);
	return result == RENEW_DONE;
}

/*
 * Tells whether an account has this event already, no older than an instant.
 */
static bool
has_event(int64 account_id, const char *kind, Jsonb *detail, TimestampTz since)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	bool		same = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, NULL, &events_by_account_id, GetActiveSnapshot(), &key,
			   1);
	while (!same &&
		   (slot = store_scan_next(&scan, BackwardScanDirection)) != NULL)
	{
		bool		isnull;

		slot_getallattrs(slot);
		if (DatumGetTimestampTz(slot_getattr(slot, Anum_events_created_at,
											 &isnull)) < since)
			break;
		same = strcmp(TextDatumGetCString(slot_getattr(slot, Anum_events_kind,
													   &isnull)),
					  kind) == 0 &&
			compareJsonbContainers(&DatumGetJsonbP(slot_getattr(slot,
																Anum_events_detail,
																&isnull))->root,
								   &detail->root) == 0;
	}
	store_scan_end(&scan);
	return same;
}

/*
 * Records that a subscription could not be renewed: a warning at each attempt,
 * one event for as long as the period and the reason stay.
 */
static void
renew_failed(int64 id, ErrorData *error)
{
	const char *message = error->message ? error->message : "";
	Subscription subscription;
	Account		account;
	StringInfoData json;
	Jsonb	   *detail;

	PushActiveSnapshot(store_snapshot(true));
	if (subscriptions_read(NULL, GetActiveSnapshot(), id, &subscription) &&
		row_find_account(NULL, GetActiveSnapshot(), NULL,
						 subscription.account_id, &account))
	{
		initStringInfo(&json);
		json_cstring(&json, "account", row_account_name(&account));
		json_int64(&json, "subscription", id);
		json_time(&json, "due_at", subscription.due_at);
		json_cstring(&json, "code", sqlstate_text(error->sqlerrcode));
		json_cstring(&json, "message", message);
		detail = json_document(&json);
		if (!has_event(account.id, "renewal_failed", detail,
					   subscription.due_at))
			alerts_announce("renewal_failed", account.id, 0, clock_now(),
							detail);
	}
	PopActiveSnapshot();
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("subscription " INT64_FORMAT " could not be renewed: %s",
					id, message),
			 errhint("%s", error->hint ? error->hint :
					 "Run credits_verify on its account.")));
}

static const Job renew_job = {
	.name = "credits_renew",
	.due = &subscriptions_by_due_at,
	.anum_due_at = Anum_subscriptions_due_at,
	.anum_id = Anum_subscriptions_id,
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
