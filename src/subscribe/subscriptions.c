/*
 * subscriptions.c
 *	  Subscriptions as rows.
 *
 * A posting reads a subscription once and then changes it in memory, as it does
 * with grants.  It is written together with the account, whose lock protects
 * it.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/subscriptions.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

const char *const subscription_status_names[] = {
	"trialing", "active", "past_due", "unpaid", "paused", "canceled"
};

const char *const proration_names[] = {"prorate", "full", "none"};

const char *const collection_names[] = {"clock", "payment"};

const char *const cancel_credits_names[] = {"keep", "expire"};

static const StoreColumn subscription_columns[] = {
	COLUMN_INT64(Subscription, id),
	COLUMN_INT64(Subscription, account_id),
	COLUMN_INT64(Subscription, plan_id),
	COLUMN_TEXT(Subscription, external_id, NULL_IF_ZERO),
	COLUMN_ENUM(Subscription, status, subscription_status_names),
	COLUMN_EITHER(Subscription, by_payment, collection_names,
				  AS("collection")),
	COLUMN_TEXT(Subscription, timezone),
	COLUMN_TIME(Subscription, anchor),
	COLUMN_INT64(Subscription, first_number),
	COLUMN_INT64(Subscription, period_number),
	COLUMN_TIME(Subscription, period_start),
	COLUMN_TIME(Subscription, period_end),
	COLUMN_INT64(Subscription, next_plan_id, NULL_IF_ZERO),
	COLUMN_ENUM(Subscription, next_proration, proration_names,
				NULL_WHERE(Subscription, next_plan_id, 0)),
	COLUMN_TIME(Subscription, cancel_at, NULL_IS(DT_NOEND)),
	COLUMN_EITHER(Subscription, cancel_expires, cancel_credits_names,
				  AS("cancel_credits"),
				  NULL_WHERE(Subscription, cancel_at, DT_NOEND)),
	COLUMN_TIME(Subscription, due_at),
	COLUMN_TIME(Subscription, created_at),
	COLUMN_TIME(Subscription, started_at),
	COLUMN_TIME(Subscription, ended_at, NULL_IS(DT_NOEND)),
	COLUMN_JSONB(Subscription, metadata, NULL_IF_ZERO)
};

StoreTable	subscriptions_table = {
	.name = "subscriptions",
	.sequence = "subscriptions_id_seq",
	ROWS_OF(Subscription, subscription_columns)
};

StoreIndex	subscriptions_by_account = {
	&subscriptions_table, "subscriptions_account_id_idx", {"account_id", "id"}
};
StoreIndex	subscriptions_by_due_at = {
	&subscriptions_table, "subscriptions_due_at_idx", {"due_at", "id"},
	.predicate = "(due_at < 'infinity'::timestamp with time zone)"
};
StoreIndex	subscriptions_of_account_due = {
	&subscriptions_table, "subscriptions_account_due_at_idx",
	{"account_id", "due_at", "id"},
	.predicate = "(due_at < 'infinity'::timestamp with time zone)"
};
static StoreIndex subscriptions_by_id = {
	&subscriptions_table, "subscriptions_pkey", {"id"},.unique = true
};
static StoreIndex subscriptions_by_external_id = {
	&subscriptions_table, "subscriptions_external_id_key", {"external_id"},
	.unique = true,.predicate = "(external_id IS NOT NULL)"
};

/*
 * Raises the error for a subscription that does not exist.
 */
void
subscriptions_raise_unknown(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 errmsg("subscription " INT64_FORMAT " does not exist", id),
			 errhint("Look for it in view credits.subscription_list.")));
}

/*
 * Refuses a change of a subscription that has ended.
 */
bool
subscriptions_refuse_ended(Posting *posting,
						   const Subscription *subscription)
{
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("subscription " INT64_FORMAT " has ended",
						   subscription->id),
				  psprintf("It ended at %s.",
						   timestamptz_to_str(subscription->ended_at)),
				  "Subscribe the account again with credits_subscribe.");
}

/*
 * Raises an error if the status of a subscription is unknown.
 */
static void
check_status(const Subscription *s)
{
	if (s->status == SUBSCRIPTION_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("subscription " INT64_FORMAT " has an unknown status",
						s->id),
				 errdetail("It belongs to account " INT64_FORMAT ".",
						   s->account_id),
				 errhint("Restore table credits.subscriptions.")));
}

/*
 * Finds a subscription by an index that has one key.
 */
static bool
find_subscription(Store *store, Snapshot snapshot, StoreIndex *index,
				  ScanBy by, Subscription *s)
{
	if (!scan_find(store, index, snapshot, s, by))
		return false;
	check_status(s);
	return true;
}

/*
 * Finds a subscription by id, as a snapshot shows it.
 */
bool
subscriptions_read(Store *store, Snapshot snapshot, int64 id,
				   Subscription *subscription)
{
	return find_subscription(store, snapshot, &subscriptions_by_id,
							 BY_INT64(id), subscription);
}

/*
 * Finds a subscription by id, as it is now.
 */
bool
subscriptions_find(int64 id, Subscription *subscription)
{
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = subscriptions_read(NULL, GetActiveSnapshot(), id, subscription);
	PopActiveSnapshot();
	return found;
}

/*
 * Finds a subscription by its external id, as it is now.
 */
bool
subscriptions_find_external(text *external_id, Subscription *subscription)
{
	bool		found;

	PushActiveSnapshot(store_snapshot(true));
	found = find_subscription(NULL, GetActiveSnapshot(),
							  &subscriptions_by_external_id,
							  BY_TEXT(external_id), subscription);
	PopActiveSnapshot();
	return found;
}

/*
 * Returns a subscription that the posting has read or made, NULL if it has not.
 */
static Subscription *
find_known(Posting *posting, int64 id)
{
	ListCell   *lc;

	foreach(lc, posting->subscriptions)
	{
		Subscription *subscription = lfirst(lc);

		if (subscription->id == id)
			return subscription;
	}
	return NULL;
}

/*
 * Returns a subscription of the posting's account by id, NULL if the account has
 * no such subscription.
 */
Subscription *
subscriptions_in(Posting *posting, int64 id)
{
	Subscription *subscription = find_known(posting, id);

	if (subscription)
		return subscription;
	subscription = palloc(sizeof(Subscription));
	if (!subscriptions_read(posting->store, posting->snapshot, id,
							subscription) ||
		subscription->account_id != posting->account.id)
		return NULL;
	posting->subscriptions = lappend(posting->subscriptions, subscription);
	return subscription;
}

/*
 * Writes a subscription.
 */
static void
write_subscription(Posting *posting, void *row)
{
	store_write(posting->store, &subscriptions_table, posting->snapshot, row);
}

/*
 * Has a subscription written together with the account.
 */
void
subscriptions_changed(Posting *posting, Subscription *subscription)
{
	if (!subscription->changed)
		posting_defer(posting, write_subscription, subscription);
	subscription->changed = true;
}

/*
 * Adds a new subscription to a posting and assigns its id.
 */
void
subscriptions_add(Posting *posting, Subscription *subscription)
{
	ItemPointerSetInvalid(&subscription->tid);
	subscription->changed = false;
	subscription->id = posting->dry ? 0 : store_next_id(&subscriptions_table);
	subscription->account_id = posting->account.id;
	posting->subscriptions = lappend(posting->subscriptions, subscription);
	subscriptions_changed(posting, subscription);
}

/*
 * Returns when a period begins by the calendar, if the subscription has the
 * given plan.
 */
TimestampTz
subscriptions_start(const Subscription *subscription, const PlanTerms *plan,
					int64 number)
{
	return calendar_start(subscription->anchor, subscription->timezone,
						  plan->period, plan->every,
						  number - subscription->first_number);
}

/*
 * Has a subscription wake up when a period ends whose credits may be kept even if
 * no period follows: for a grace, and for ever, which may be once that is over.
 */
static void
wake_at_end(Posting *posting, Subscription *s, const PlanTerms *plan)
{
	TimestampTz until = s->period_end;

	if (plan->grace && plans_keep_credits(plan))
		until = calendar_after(s->timezone, until, plan->grace);
	if (plan->grace == NULL && !plans_keep_credits(plan))
		return;
	if (s->period_end > posting->now)
		s->due_at = s->period_end;
	else if (until > posting->now)
		s->due_at = until;
}

/*
 * Has a subscription looked at again at an instant, if not earlier.
 */
void
subscriptions_expect(Posting *posting, Subscription *s, TimestampTz at)
{
	s->due_at = Min(s->due_at, at);
	posting->account.renews_at = Min(posting->account.renews_at, s->due_at);
}

/*
 * Reads the subscriptions of the posting's account that are due by an instant, and
 * sets the account's renews_at to when the first is due.
 *
 * A change of a subscription may lower renews_at, but leaves it alone if nothing is
 * due any more at that time.  So it may be too early, but never too late.
 */
void
subscriptions_read_due(Posting *posting, TimestampTz until)
{
	TimestampTz next = DT_NOEND;
	Subscription *read = palloc(sizeof(Subscription));
	StoreScan	scan;
	ListCell   *lc;

	scan_begin(&scan, posting->store, &subscriptions_of_account_due,
			   posting->snapshot, BY_INT64(posting->account.id));
	while (next == DT_NOEND && scan_read(&scan, ForwardScanDirection, read))
	{
		/* the posting's copy may be due at another time by now */
		if (find_known(posting, read->id))
			continue;
		check_status(read);
		next = read->due_at;
		if (next <= until)
		{
			posting->subscriptions = lappend(posting->subscriptions, read);
			read = palloc(sizeof(Subscription));
			next = DT_NOEND;
		}
	}
	scan_end(&scan);
	foreach(lc, posting->subscriptions)
		next = Min(next, ((Subscription *) lfirst(lc))->due_at);
	posting->account.renews_at = next;
}

/*
 * Sets due_at, when there is next something to do for a subscription.
 */
void
subscriptions_wake(Posting *posting, Subscription *s)
{
	TimestampTz before = s->due_at;

	s->due_at = DT_NOEND;
	if (s->period_number >= 0 &&
		!(s->status == SUBSCRIPTION_CANCELED && s->cancel_expires))
		wake_at_end(posting, s, plans_get(s->plan_id));
	if (s->status != SUBSCRIPTION_CANCELED)
	{
		/* a trial that a payment provider has need not be one of the plan */
		if ((s->status == SUBSCRIPTION_TRIALING &&
			 (s->period_number >= 0 || plans_get(s->plan_id)->trial)) ||
			(s->status == SUBSCRIPTION_ACTIVE && !s->by_payment))
			s->due_at = Min(s->due_at, s->period_end);
		s->due_at = Min(s->due_at, s->cancel_at);
	}

	/*
	 * A period may have been paid before it began.  Then it waits for the one
	 * before it to end, and to be rolled over, even if the subscription has
	 * ended by then.
	 */
	if (s->by_payment &&
		!(s->status == SUBSCRIPTION_CANCELED && s->cancel_expires))
		s->due_at = Min(s->due_at, before);
	subscriptions_expect(posting, s, s->due_at);
}
