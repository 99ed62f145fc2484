/*
 * plan_changes.c
 *	  Changing the plan of a subscription, now or at the end of the period:
 *	  credits_change_plan, and credits_preview_plan_change, which computes the same
 *	  and writes nothing.
 *
 * A change that takes effect now is a row of credits.plan_changes, and the
 * credits of the period follow from these rows (proration.c).  One for the end
 * of the period is stored in the subscription until then.
 *
 * A change to a plan whose periods have another length ends the period.  What
 * it had given beyond what it had earned, and that could not be taken back,
 * counts as given in the new period, exactly.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/calendar.h"
#include "subscribe/paid_parts.h"
#include "subscribe/period_refunds.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"
#include "subscribe/plans.h"
#include "subscribe/proration.h"
#include "subscribe/renew.h"
#include "subscribe/subscribe.h"
#include "subscribe/subscriptions.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_change_plan);
PG_FUNCTION_INFO_V1(credits_preview_plan_change);

/* When the plan is to change.  The values are a part of fingerprints. */
typedef enum When
{
	WHEN_DEFAULT,				/* now if the plan is worth more */
	WHEN_NOW,
	WHEN_PERIOD_END
} When;

/* A change that is asked for, and its result */
typedef struct ChangeRequest
{
	Request		request;
	int64		subscription_id;
	text	   *plan_name;		/* NULL if read from the log */
	int64		plan_id;
	When		when;
	Proration	proration;
	/* the result */
	const PlanTerms *plan;
	bool		scheduled;
	TimestampTz effective_at;
	Datum		entitlement;	/* numeric, 0 if there is no period */
	int64		given;
	int64		taken;
	TimestampTz period_start;
	TimestampTz period_end;
	int64		balance;
} ChangeRequest;

/* when a plan can be changed, from WHEN_NOW on */
static const char *const when_names[] = {"now", "period_end"};

/*
 * Returns the terms of a transaction that changes a plan.
 */
static Jsonb *
change_terms(const ChangeRequest *change)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "subscription_id", change->subscription_id);
	json_int64(&json, "plan_id", change->plan->id);
	json_cstring(&json, "proration", proration_names[change->proration]);
	json_time(&json, "at", change->effective_at);
	json_bool(&json, "scheduled", change->scheduled);
	json_time(&json, "period_start", change->period_start);
	json_time(&json, "period_end", change->period_end);
	if (change->entitlement)
		json_numeric(&json, "entitlement", change->entitlement);
	json_int64(&json, "given", change->given);
	json_int64(&json, "taken", change->taken);
	return json_document(&json);
}

/*
 * Returns about how many seconds a period of a plan has, for comparing plans:
 * by the mean year of the calendar.
 */
static int64
mean_seconds(const PlanTerms *plan)
{
	static const int64 seconds_of[] = {
		[UNIT_DAY] = SECS_PER_DAY,
		[UNIT_WEEK] = 7 * SECS_PER_DAY,
		[UNIT_MONTH] = 31556952 / 12,
		[UNIT_YEAR] = 31556952
	};

	return seconds_of[plan->period] * plan->every;
}

/*
 * Compares what two plans cost, or give, in the same time.
 */
static int
compare_rates(Datum a, const PlanTerms *plan_a, Datum b,
			  const PlanTerms *plan_b)
{
	return compare(multiply(a, number(mean_seconds(plan_b))),
				   multiply(b, number(mean_seconds(plan_a))));
}

/*
 * Returns whether a plan is worth less than another.  This goes by the price, if
 * both have one in the same currency; if not, or if the price is the same, it
 * goes by the credits.
 */
static bool
is_downgrade(const PlanTerms *from, const PlanTerms *to)
{
	int			order = 0;

	if (from->price && to->price && from->currency && to->currency &&
		same_text(from->currency, to->currency))
		order = compare_rates(to->price, to, from->price, from);
	if (order == 0)
		order = compare_rates(number(to->credits), to,
							  number(from->credits), from);
	return order < 0;
}

/*
 * Refuses to change a subscription that has ended, or to a plan of another unit.
 */
static bool
may_change(Posting *posting, const Subscription *subscription,
		   ChangeRequest *change)
{
	if (subscription->status == SUBSCRIPTION_CANCELED)
		return subscriptions_refuse_ended(posting, subscription);
	return plans_fit(posting, change->plan);
}

/*
 * Moves the anchor of a subscription to an instant, at which the period after
 * the newest one begins.
 */
static void
move_anchor(Subscription *subscription, TimestampTz at)
{
	subscription->anchor = at;
	subscription->first_number = subscription->period_number + 1;
}

/*
 * Plans a change at the end of the period, or withdraws one if the plan is that
 * in force.
 */
static void
plan_later(Posting *posting, Subscription *subscription, ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	const PlanTerms *old = plans_get(subscription->plan_id);
	Subscription next = *subscription;

	if (plan->id == subscription->plan_id)
		subscription->next_plan_id = 0;
	else
	{
		subscription->next_plan_id = plan->id;
		subscription->next_proration = change->proration;
	}
	subscriptions_changed(posting, subscription);

	change->scheduled = true;
	change->effective_at = subscription->period_end;
	change->entitlement = number(plan->credits);
	if (!proration_same_length(old, plan))
		move_anchor(&next, next.period_end);
	change->period_start = next.period_end;
	change->period_end = subscriptions_start(&next, plan,
											 next.period_number + 2);
	(void) proration_log(posting, NULL, 0);
}

/*
 * Ends the current period, and begins one of a plan whose periods have another
 * length.
 */
static bool
begin_anew(Posting *posting, Subscription *subscription, Period *period,
		   PlanChanged *note, ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	TimestampTz at = note->at;
	TimestampTz ends_at = calendar_start(at, subscription->timezone,
										 plan->period, plan->every, 1);
	Entitlement e;
	Datum		carried;

	proration_entitle(posting, subscription, period, at, note, &e, &carried);
	change->taken = proration_log(posting, period,
								  proration_to_take(&e, period->given));
	if (at > period->starts_at)
	{
		carried = proration_carried(&e, period->given);
		period->ends_at = at;
		/* nothing is rolled over: what it gave keeps its expiry */
		period->unused = period->rolled = 0;
		periods_forget_changes(posting, period);
		period = periods_new(subscription, subscription->period_number + 1,
							 at, ends_at, plan->id);
		periods_keep(posting, period);
	}
	else
	{
		period->plan_id = plan->id;
		period->ends_at = ends_at;
		periods_forget_changes(posting, period);
	}
	note->carried = carried;

	if (subscription->cancel_at == subscription->period_end)
		subscription->cancel_at = ends_at;
	subscription->anchor = at;
	subscription->first_number = period->number;
	subscription->period_number = period->number;
	subscription->period_start = at;
	subscription->period_end = ends_at;

	proration_unchanged(&e, at, ends_at, plan->credits, carried);
	change->entitlement = proration_entitlement(&e);
	change->given = proration_to_give(&e, period->given);
	return proration_give(posting, period, plan, &change->given);
}

/*
 * Gives or takes back what a change within a period makes of its entitlement.
 */
static bool
adjust(Posting *posting, Subscription *subscription, Period *period,
	   PlanChanged *note, ChangeRequest *change)
{
	Entitlement e;
	Datum		carried;

	if (period->granted >= 0)
	{
		bool		allowed;

		(void) proration_log(posting, NULL, 0);
		allowed = paid_parts_follow(posting, subscription, period, note, &e,
									&change->given, &change->taken);
		change->entitlement = proration_entitlement(&e);
		return allowed;
	}
	proration_entitle(posting, subscription, period, period->ends_at, note, &e,
					  &carried);
	change->entitlement = proration_entitlement(&e);
	change->given = proration_to_give(&e, period->given);
	change->taken = proration_log(posting, period,
								  proration_to_take(&e, period->given));
	return proration_give(posting, period, change->plan,
						  &change->given);
}

/*
 * Puts a plan into force now, and has the credits of the period follow, which is
 * the current one.  Returns false if the account's limits forbid it.
 */
static bool
plan_now(Posting *posting, Subscription *subscription, Period *period,
		 ChangeRequest *change)
{
	const PlanTerms *plan = change->plan;
	TimestampTz at = posting->now;
	bool		granted = period && period->status != PERIOD_SKIPPED &&
		period->ends_at > at;
	bool		trial = period && period->status == PERIOD_TRIAL;
	const PlanTerms *old = plans_get(subscription->plan_id);
	bool		anew = !proration_same_length(period ?
											  plans_get(period->plan_id) : old,
											  plan);
	PlanChanged *note;
	bool		allowed = true;
	bool		refunded;

	/* a trial keeps its credits if the new plan has none for this account */
	if (trial && (plan->trial == NULL ||
				  subscribe_had_trial(posting->account.id, plan->name,
									  subscription->id)))
		change->proration = PRORATE_NONE;
	note = plan_history_note(posting, subscription->id, at, plan->id,
							 change->proration, NULL);
	subscription->plan_id = plan->id;
	subscription->next_plan_id = 0;
	if (subscription->status == SUBSCRIPTION_TRIALING &&
		subscription->period_number < 0)
		subscribe_set_start(subscription, old, plan);
	change->effective_at = at;
	refunded = granted &&
		period_refunds_release(posting, subscription, period);
	if (anew && granted && !trial && !subscription->by_payment &&
		change->proration != PRORATE_NONE)
		allowed = begin_anew(posting, subscription, period, note, change);
	else
	{
		if (granted)
			allowed = adjust(posting, subscription, period, note, change);
		else
			(void) proration_log(posting, NULL, 0);
		/* the next period is the first one of the new length */
		if (anew && !trial && subscription->status != SUBSCRIPTION_TRIALING)
		{
			/* if the credits follow, the new period begins once it is paid */
			if (subscription->by_payment && granted &&
				change->proration != PRORATE_NONE)
				subscription->period_end = at;
			move_anchor(subscription, Max(subscription->period_end, at));
		}
	}
	if (refunded && allowed)
		period_refunds_claim(posting, subscription, period);
	note->reference = psprintf("%019lld", (long long) posting->main->id);
	change->period_start = subscription->period_start;
	change->period_end = subscription->period_end;
	subscriptions_changed(posting, subscription);
	subscriptions_wake(posting, subscription);
	return allowed;
}

/*
 * Plans a change of plan for an SQL function.
 */
static bool
plan_change_of_plan(Posting *posting, void *arg)
{
	ChangeRequest *change = arg;
	Subscription *subscription =
		subscriptions_in(posting, change->subscription_id);
	When		when = change->when;

	if (!guards_not_closed(posting))
		return false;
	if (subscription == NULL)
		subscriptions_raise_unknown(change->subscription_id);
	/* what is still due now was refused before: say why */
	if (!renew_due(posting, subscription))
		return false;
	change->plan = plans_offered(change->plan_name, &posting->account,
								 subscription->plan_id);
	if (!may_change(posting, subscription, change))
		return false;
	if (when == WHEN_DEFAULT)
		when = subscription->next_plan_id != 0 &&
			change->plan->id == subscription->plan_id ? WHEN_PERIOD_END :
			is_downgrade(plans_get(subscription->plan_id), change->plan) ?
			WHEN_PERIOD_END : WHEN_NOW;
	if (change->plan->id == subscription->plan_id &&
		subscription->next_plan_id == 0)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " already has this plan",
							   subscription->id),
					  psprintf("It is version %d of plan \"%s\".",
							   change->plan->version,
							   text_to_cstring(change->plan->name)),
					  "Name another plan.");
	if (when == WHEN_PERIOD_END &&
		subscription->cancel_at <= subscription->period_end)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("subscription " INT64_FORMAT " ends before its plan would change",
							   subscription->id),
					  psprintf("It ends at %s.",
							   timestamptz_to_str(subscription->cancel_at)),
					  "Change the plan now, or let the subscription go on.");
	if (when == WHEN_PERIOD_END)
		plan_later(posting, subscription, change);
	else if (!plan_now(posting, subscription,
					   periods_in(posting, subscription->id,
								  subscription->period_start),
					   change))
		return false;
	posting->main->terms = change_terms(change);
	/* a preview shows the balance after debts were paid, as the change does */
	if (posting->dry && posting->account.debt > 0)
		debts_pay(posting, posting->now);
	change->balance = posting->account.balance;
	return true;
}

/*
 * Announces that a plan was changed.
 */
static void
announce_change(const ChangeRequest *change, int64 account_id,
				const Receipt *receipt)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "subscription_id", change->subscription_id);
	json_text(&json, "plan", change->plan->name);
	json_time(&json, "at", change->effective_at);
	json_bool(&json, "scheduled", change->scheduled);
	json_int64(&json, "given", change->given);
	json_int64(&json, "taken", change->taken);
	events_announce("plan_changed", account_id, receipt->transaction_id,
					receipt->created_at, &json);
}

/*
 * Reads the arguments that both functions have in common: the first two, and
 * two from argument n on.
 */
static void
read_change(FunctionCallInfo fcinfo, int n, ChangeRequest *change,
			Subscription *subscription)
{
	memset(change, 0, sizeof(ChangeRequest));
	change->subscription_id = arg_id(fcinfo, 0, "subscription_id");
	change->plan_name = arg_name(fcinfo, 1, "plan");
	change->when = PG_ARGISNULL(n) ? WHEN_DEFAULT :
		(When) (WHEN_NOW + ARG_CHOICE(n, "at", when_names));
	change->proration = ARG_CHOICE(n + 1, "proration", proration_names);
	if (!subscriptions_find(change->subscription_id, subscription))
		subscriptions_raise_unknown(change->subscription_id);
}

/*
 * Returns the result of a change as a credits.plan_change.
 */
static Datum
change_datum(FunctionCallInfo fcinfo, const ChangeRequest *change,
			 int64 transaction_id, bool replayed)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 13);
	Datum		values[13];
	bool		isnull[13] = {false};
	Datum		result;

	values[0] = Int64GetDatum(change->subscription_id);
	values[1] = PointerGetDatum(change->plan->name);
	values[2] = Int32GetDatum(change->plan->version);
	values[3] = TimestampTzGetDatum(change->effective_at);
	values[4] = BoolGetDatum(change->scheduled);
	values[5] = TimestampTzGetDatum(change->period_start);
	values[6] = TimestampTzGetDatum(change->period_end);
	values[7] = change->entitlement;
	isnull[7] = change->entitlement == 0;
	values[8] = Int64GetDatum(change->given);
	values[9] = Int64GetDatum(change->taken);
	values[10] = Int64GetDatum(change->balance);
	values[11] = Int64GetDatum(transaction_id);
	isnull[11] = transaction_id == 0;
	values[12] = BoolGetDatum(replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Returns the balance after a transaction and those that were posted with it:
 * the credits that it gave, the debts that these paid, and what is claimed or
 * released because of it.
 */
static int64
balance_with_followers(const Entry *entry)
{
	int64		last = entry->id;
	int64		balance = entry->balance_after;
	int64		targets[2] = {entry->id, 0};
	int			i;

	for (i = 0; i < 2 && targets[i] != 0; i++)
	{
		StoreScan	scan;
		Entry		follower;

		scan_begin_ids(&scan, NULL, &log_by_target_id,
					   store_snapshot(false), targets[i], PG_INT64_MAX,
					   BY_INT64(targets[i]));
		while (scan_peek(&scan, ForwardScanDirection, &follower))
		{
			if (follower.account_id != entry->account_id ||
				follower.id <= last ||
				(follower.kind != KIND_ALLOCATION &&
				 follower.kind != KIND_DEBT_PAYMENT &&
				 follower.kind != KIND_CLAWBACK &&
				 follower.kind != KIND_REINSTATEMENT))
				continue;
			last = follower.id;
			balance = follower.balance_after;
			if (i == 0 && follower.kind == KIND_ALLOCATION)
				targets[1] = follower.id;
		}
		scan_end(&scan);
	}
	return balance;
}

/*
 * Reads the result of a change that was made before from the log.
 */
static void
read_outcome(ChangeRequest *change, int64 transaction_id)
{
	Entry		entry;
	JsonbValue *scheduled;
	bool		found = rows_find_entry(NULL, store_snapshot(true),
										transaction_id, &entry);

	if (!found)
		anchors_check(transaction_id);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("transaction " INT64_FORMAT " does not exist",
						transaction_id),
				 errhint("Run credits_verify.")));
	(void) terms_int64(&entry, "plan_id", &change->plan_id);
	change->plan = plans_get(change->plan_id);
	change->effective_at = terms_time(&entry, "at");
	scheduled = terms_get(&entry, "scheduled");
	change->scheduled = scheduled && scheduled->type == jbvBool &&
		scheduled->val.boolean;
	change->period_start = terms_time(&entry, "period_start");
	change->period_end = terms_time(&entry, "period_end");
	change->entitlement = terms_numeric(&entry, "entitlement");
	(void) terms_int64(&entry, "given", &change->given);
	(void) terms_int64(&entry, "taken", &change->taken);
	change->balance = balance_with_followers(&entry);
}

/*
 * Changes the plan of a subscription.
 */
Datum
credits_change_plan(PG_FUNCTION_ARGS)
{
	ChangeRequest change;
	Subscription subscription;
	Receipt		receipt;
	Refusal		refusal;
	StringInfo	f = &change.request.fingerprint;

	store_check_writable("credits_change_plan()");
	read_change(fcinfo, 3, &change, &subscription);
	change.request.key = arg_text(fcinfo, 2, "idempotency_key",
								  MAX_NAME_BYTES);
	change.request.lock_first = true;
	initStringInfo(f);
	appendStringInfoString(f, kinds_name(KIND_PLAN_CHANGE));
	requests_add_int64(f, true, change.subscription_id);
	requests_add_text(f, change.plan_name);
	requests_add_int64(f, true, change.when);
	requests_add_int64(f, true, change.proration);

	if (!ledger_post("credits_change_plan()", NULL, subscription.account_id,
					 &change.request, plan_change_of_plan, &change, &receipt,
					 &refusal))
		raise_refusal(&refusal);
	if (receipt.replayed)
		read_outcome(&change, receipt.transaction_id);
	else
	{
		change.balance = receipt.balance;
		announce_change(&change, subscription.account_id, &receipt);
	}
	return change_datum(fcinfo, &change, receipt.transaction_id,
						receipt.replayed);
}

/*
 * Shows what a change of plan would do.
 */
Datum
credits_preview_plan_change(PG_FUNCTION_ARGS)
{
	ChangeRequest change;
	Subscription subscription;
	Account		account;
	Refusal		refusal;
	text	   *name = NULL;

	if (!PG_ARGISNULL(4))
	{
		name = arg_account(fcinfo, 4);
		guards_find_account(GetActiveSnapshot(), name, &account);
	}
	read_change(fcinfo, 2, &change, &subscription);
	if (name && account.id != subscription.account_id)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("account \"%s\" has no subscription " INT64_FORMAT,
						text_to_cstring(name), change.subscription_id),
				 errhint("Pass a subscription_id that credits_subscriptions returns for the account.")));
	if (!name &&
		!rows_find_account(NULL, GetActiveSnapshot(), NULL,
						   subscription.account_id, &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist",
						subscription.account_id),
				 errhint("Run credits_verify.")));
	if (!ledger_rehearse(cstring_to_text(rows_account_name(&account)),
						 plan_change_of_plan, &change, &refusal))
		raise_refusal(&refusal);
	return change_datum(fcinfo, &change, 0, false);
}
