/*
 * changes.c
 *	  Changing the plan of a subscription: credits_change_plan, and
 *	  credits_preview_change, which computes the same and writes nothing.
 */
#include "credits.h"

#include "changes.h"
#include "plans.h"
#include "subscriptions.h"

#include "access/stratnum.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_change_plan);
PG_FUNCTION_INFO_V1(credits_preview_change);

/*
 * Returns when a plan is to be changed.
 */
static When
arg_when(FunctionCallInfo fcinfo, int n)
{
	char	   *at;

	if (PG_ARGISNULL(n))
		return WHEN_DEFAULT;
	at = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strcmp(at, "now") == 0)
		return WHEN_NOW;
	if (strcmp(at, "period_end") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("at must be now or period_end"),
				 errdetail("It is \"%.64s\".", at),
				 errhint("Leave at out to change now to a plan that is worth more, and at the end of the period to one that is worth less.")));
	return WHEN_PERIOD_END;
}

/*
 * Returns how the credits of the period are to follow.
 */
static Proration
arg_proration(FunctionCallInfo fcinfo, int n)
{
	char	   *name = text_to_cstring(arg_name(fcinfo, n, "proration"));
	Proration	proration = changes_proration(name);

	if (proration == PRORATE_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown proration"),
				 errdetail("It is \"%.64s\".", name),
				 errhint("Use one of prorate, full, none.")));
	return proration;
}

/*
 * Reads the arguments that both functions have.
 */
static void
read_change(FunctionCallInfo fcinfo, ChangeRequest *change,
			Subscription *subscription)
{
	memset(change, 0, sizeof(ChangeRequest));
	change->subscription_id = arg_id(fcinfo, 0, "subscription");
	change->plan_name = arg_name(fcinfo, 1, "plan");
	change->when = arg_when(fcinfo, 2);
	change->proration = arg_proration(fcinfo, 3);
	change->at = DT_NOBEGIN;
	if (!subscriptions_find(change->subscription_id, subscription))
		subscriptions_raise_unknown(change->subscription_id);
}

/*
 * Makes a credits.plan_change.
 */
static Datum
change_datum(FunctionCallInfo fcinfo, const ChangeRequest *change,
			 int64 transaction_id, bool replayed)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
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
 * Returns the balance after a transaction and those that came with it: what it
 * gave, and the debts that that paid.
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
		ScanKeyData key;
		TupleTableSlot *slot;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(targets[i]));
		store_scan(&scan, NULL, &transactions_by_target_id,
				   store_snapshot(false), &key, 1);
		while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
		{
			Entry		follower;

			row_read_entry(slot, &follower);
			if (follower.account_id != entry->account_id ||
				follower.id <= last ||
				(strcmp(follower.kind, KIND_ALLOCATION) != 0 &&
				 strcmp(follower.kind, KIND_DEBT_PAYMENT) != 0))
				continue;
			last = follower.id;
			balance = follower.balance_after;
			if (i == 0 && strcmp(follower.kind, KIND_ALLOCATION) == 0)
				targets[1] = follower.id;
		}
		store_scan_end(&scan);
	}
	return balance;
}

/*
 * Reads from the log what came of a change that was made before.
 */
static void
read_outcome(ChangeRequest *change, int64 transaction_id)
{
	Entry		entry;
	JsonbValue *scheduled;

	if (!row_find_entry(NULL, store_snapshot(true), transaction_id, &entry))
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
	read_change(fcinfo, &change, &subscription);
	change.request.key = arg_text(fcinfo, 4, "idempotency_key",
								  MAX_NAME_BYTES);
	change.request.lock_first = true;
	initStringInfo(f);
	appendStringInfoString(f, KIND_PLAN_CHANGE);
	fingerprint_int64(f, true, change.subscription_id);
	fingerprint_text(f, change.plan_name);
	fingerprint_int64(f, true, change.when);
	fingerprint_int64(f, true, change.proration);

	if (!ledger_post("credits_change_plan()", NULL, subscription.account_id,
					 &change.request, changes_plan, &change, &receipt,
					 &refusal))
		raise_refusal(&refusal);
	if (receipt.replayed)
		read_outcome(&change, receipt.transaction_id);
	else
	{
		change.balance = receipt.balance;
		changes_announce(&change, subscription.account_id, &receipt);
	}
	return change_datum(fcinfo, &change, receipt.transaction_id,
						receipt.replayed);
}

/*
 * Returns what a change of plan would do, and writes nothing.
 */
Datum
credits_preview_change(PG_FUNCTION_ARGS)
{
	ChangeRequest change;
	Subscription subscription;
	Account		account;
	Refusal		refusal;

	read_change(fcinfo, &change, &subscription);
	if (!row_find_account(NULL, GetActiveSnapshot(), NULL,
						  subscription.account_id, &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist",
						subscription.account_id),
				 errhint("Run credits_verify.")));
	if (!ledger_rehearse(cstring_to_text(row_account_name(&account)),
						 changes_plan, &change, &refusal))
		raise_refusal(&refusal);
	return change_datum(fcinfo, &change, 0, false);
}
