/*
 * subscribe.c
 *	  Subscribing accounts to plans.
 *
 * Tested in test/sql/subscriptions.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/calendar.h"
#include "subscribe/calls.h"
#include "subscribe/plan_history.h"
#include "subscribe/renew.h"
#include "subscribe/subscribe.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_subscribe);

static SqlStatement trials_of = {
	"SELECT 1 FROM credits.subscriptions AS s"
	" JOIN credits.plans AS p ON p.id = s.plan_id"
	" WHERE s.account_id = $1 AND p.name = $2 AND s.status = 'trialing'"
	" AND s.id <> $3"
	" UNION ALL"
	" SELECT 1 FROM credits.subscriptions AS s"
	" JOIN credits.periods AS t ON t.subscription_id = s.id"
	" JOIN credits.plans AS p ON p.id = t.plan_id"
	" WHERE s.account_id = $1 AND p.name = $2 AND t.status = 'trial'"
	" AND s.id <> $3"
	" UNION ALL"
	" SELECT 1 FROM credits.subscriptions AS s"
	" JOIN credits.periods AS t ON t.subscription_id = s.id"
	" JOIN credits.plan_changes AS c ON c.subscription_id = s.id"
	" AND c.at >= t.starts_at AND c.at < t.ends_at"
	" JOIN credits.plans AS p ON p.id = c.plan_id"
	" WHERE s.account_id = $1 AND p.name = $2 AND t.status = 'trial'"
	" AND s.id <> $3"
	" LIMIT 1",
	(const Oid[]) {INT8OID, TEXTOID, INT8OID, InvalidOid}
};

/*
 * Returns whether an account has had a trial of a plan, in any version of it,
 * by another subscription than the given one.
 */
bool
subscribe_had_trial(int64 account_id, text *plan, int64 except)
{
	Datum		values[3];

	values[0] = Int64GetDatum(account_id);
	values[1] = PointerGetDatum(plan);
	values[2] = Int64GetDatum(except);
	return statements_run(&trials_of, values, NULL)->nrows > 0;
}

/*
 * Counts the periods of a subscription that has not begun.  Without an anchor of
 * its own, they are counted from the first one that is no trial.
 */
static void
count_periods(Subscription *s, const PlanTerms *plan, bool trial,
			  bool has_anchor)
{
	TimestampTz first = trial ?
		calendar_after(s->timezone, s->started_at, plan->trial) : s->started_at;

	s->status = trial ? SUBSCRIPTION_TRIALING : SUBSCRIPTION_ACTIVE;
	if (!has_anchor)
		s->anchor = first;

	/*
	 * the period of the calendar that this instant is in comes after the
	 * trial
	 */
	s->first_number = (trial ? 1 : 0) -
		calendar_number(s->anchor, s->timezone, plan->period, plan->every,
						first);
}

/*
 * Has a subscription, which begins with a trial but has not begun yet, begin by
 * a new plan.
 */
void
subscribe_set_start(Subscription *s, const PlanTerms *old,
					const PlanTerms *plan)
{
	bool		trial = plan->trial &&
		!subscribe_had_trial(s->account_id, plan->name, s->id);

	count_periods(s, plan, trial, old->trial == NULL ||
				  s->anchor != calendar_after(s->timezone, s->started_at,
											  old->trial));
}

/*
 * Returns a new subscription, as it is before its first period.
 */
static Subscription *
begin_subscription(Posting *posting, const NewSubscription *wanted,
				   const PlanTerms *plan)
{
	Subscription *s = palloc0(sizeof(Subscription));

	s->plan_id = plan->id;
	s->external_id = wanted->external_id;
	s->by_payment = wanted->by_payment;
	s->timezone = wanted->timezone ? wanted->timezone : cstring_to_text("UTC");
	s->created_at = posting->now;
	s->started_at = wanted->has_starts_at ? wanted->starts_at : posting->now;
	s->period_number = -1;
	s->period_start = s->period_end = s->started_at;
	s->cancel_at = s->ended_at = s->due_at = DT_NOEND;
	s->metadata = wanted->metadata;

	s->anchor = wanted->anchor;
	count_periods(s, plan, wanted->trial && plan->trial &&
				  !subscribe_had_trial(posting->account.id, plan->name, 0),
				  wanted->has_anchor);
	return s;
}

/*
 * Plans to subscribe an account.
 */
static bool
plan_subscribe(Posting *posting, void *arg)
{
	Call	   *call = arg;
	const NewSubscription *wanted = call->wanted;
	const PlanTerms *plan = wanted->plan;
	Subscription *subscription;
	Subscription other;

	if (!guards_not_closed(posting))
		return false;
	/* look now that the account is locked: it may have been added just now */
	if (wanted->external_id &&
		subscriptions_find_external(wanted->external_id, &other))
	{
		call->id = other.id;
		if (other.account_id == posting->account.id)
		{
			call->receipt.replayed = true;
			return true;
		}
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("external id \"%s\" belongs to another account",
							   text_to_cstring(wanted->external_id)),
					  psprintf("It is that of subscription " INT64_FORMAT ".",
							   other.id),
					  "An external id names one subscription.");
	}
	if (plan == NULL)
		plan = plans_offered(wanted->plan_name, &posting->account, 0);
	if (!plans_fit(posting, plan))
		return false;
	subscription = begin_subscription(posting, wanted, plan);
	subscriptions_add(posting, subscription);
	call->id = subscription->id;
	calls_log(posting, call, subscription);
	plan_history_change(posting, subscription, subscription->started_at,
						plan->id, "(start)");
	subscriptions_wake(posting, subscription);
	return renew_due(posting, subscription);
}

/*
 * Subscribes an account to a plan, once for each external id and idempotency
 * key.  Returns the id of the subscription.
 */
int64
subscribe_account(const NewSubscription *wanted, Receipt *receipt)
{
	MemoryContext context = CurrentMemoryContext;
	Call		call = {
		.function = "credits_subscribe()",
		.wanted = wanted
	};
	StringInfo	f = &call.request.fingerprint;
	Refusal		refusal;
	volatile bool posted = false;

	call.request.key = wanted->key;
	call.request.metadata = wanted->metadata;
	initStringInfo(f);
	appendStringInfoString(f, kinds_name(KIND_SUBSCRIPTION));
	requests_add_text(f, wanted->plan ? wanted->plan->name : wanted->plan_name);
	requests_add_int64(f, wanted->has_starts_at, wanted->starts_at);
	requests_add_text(f, wanted->timezone);
	requests_add_int64(f, wanted->has_anchor, wanted->anchor);
	requests_add_text(f, wanted->external_id);
	requests_add_int64(f, true, wanted->trial);
	requests_add_int64(f, true, wanted->by_payment);
	PG_TRY();
	{
		posted = calls_post(&call, plan_subscribe, &refusal);
	}
	PG_CATCH();
	{
		/*
		 * Another account's subscription has taken the external id since we
		 * looked.  Only our own account was locked.
		 */
		if (!is_unique_violation(context, "subscriptions_external_id_key"))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("external id \"%s\" belongs to another account",
						text_to_cstring(wanted->external_id)),
				 errdetail("Another transaction has used it just now."),
				 errhint("An external id names one subscription.")));
	}
	PG_END_TRY();
	if (!posted)
		raise_refusal(&refusal);
	*receipt = call.receipt;
	if (call.id == 0)
	{
		/* a replay: the first call's transaction tells which it made */
		Entry		entry;

		if (!rows_find_entry(NULL, store_snapshot(true),
							 receipt->transaction_id, &entry) ||
			!terms_int64(&entry, "subscription_id", &call.id))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("transaction " INT64_FORMAT " names no subscription",
							receipt->transaction_id),
					 errhint("Run credits_verify.")));
	}
	return call.id;
}

/*
 * Subscribes an account to a plan.
 */
Datum
credits_subscribe(PG_FUNCTION_ARGS)
{
	NewSubscription wanted = {0};
	Receipt		receipt = {0};
	int64		id;

	wanted.account = arg_account(fcinfo, 0);
	ledger_lock_tables("credits_subscribe()");
	store_lock_table(&subscriptions_table);
	wanted.plan_name = arg_name(fcinfo, 1, "plan");
	wanted.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	wanted.metadata = arg_metadata(fcinfo, 3);
	wanted.has_starts_at = calls_arg_instant(fcinfo, 4, "starts_at",
											 &wanted.starts_at);
	wanted.timezone = arg_timezone(fcinfo, 5);
	wanted.has_anchor = calls_arg_instant(fcinfo, 6, "anchor", &wanted.anchor);
	wanted.trial = arg_bool(fcinfo, 7, "trial");
	wanted.by_payment = ARG_CHOICE(8, "collection", collection_names) == 1;
	wanted.external_id = arg_text(fcinfo, 9, "external_id", MAX_NAME_BYTES);
	id = subscribe_account(&wanted, &receipt);
	return calls_state(fcinfo, id, &receipt, receipt.replayed);
}
