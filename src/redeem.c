/*
 * redeem.c
 *	  Redeeming codes of every kind, and slowing down those who guess them.
 *
 * credits_try_redeem records each refusal as an event, in the caller's
 * transaction.  An account that has been refused too often lately is refused
 * without a look at the code.  Failures are counted under the account's lock,
 * so that many calls at once get no more tries than one after the other.
 *
 * What an event says, and a message, never has the code in it.
 */
#include "credits.h"

#include "codes.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_redeem);
PG_FUNCTION_INFO_V1(credits_try_redeem);

static StoreIndex events_by_redeemer = {&events_table, "events_redemption_idx"};

/*
 * Counts an account's failures in the window that ends now, and notes whether
 * one of the events in it says that there have been too many.
 */
static int64
count_failures(Store *store, Snapshot snapshot, int64 account_id,
			   bool *throttled)
{
	Interval   *window = clock_redeem_window();
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	int64		failures = 0;

	*throttled = false;
	if (setting_redeem_failures == 0 || window == NULL)
		return 0;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(clock_before(clock_now(), window)));
	store_scan(&scan, store, &events_by_redeemer, snapshot, keys, 2);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		char	   *kind = TextDatumGetCString(slot_getattr(slot,
															Anum_events_kind,
															&isnull));

		if (strcmp(kind, "redemption_throttled") == 0)
			*throttled = true;
		else
			failures++;
		pfree(kind);
	}
	store_scan_end(&scan);
	return failures;
}

/*
 * Refuses an account that has failed too often.
 */
static bool
may_try(Posting *posting, Redemption *redemption)
{
	bool		known;
	int64		failures = count_failures(posting->store, posting->snapshot,
										  posting->account.id, &known);

	if (setting_redeem_failures == 0 || failures < setting_redeem_failures)
		return true;
	redemption->throttled = true;
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" has failed to redeem codes too often",
						   row_account_name(&posting->account)),
				  psprintf("It has " INT64_FORMAT " failures within %s; %d are allowed.",
						   failures, setting_redeem_window,
						   setting_redeem_failures),
				  "Try again later; see the settings credits.redeem_failures and credits.redeem_window.");
}

/*
 * Plans a redemption: what goes before any look at the code, then what its
 * kind asks for.
 */
static bool
plan_redemption(Posting *postings, void *arg)
{
	Redemption *redemption = arg;

	return may_try(&postings[0], redemption) &&
		ledger_not_closed(&postings[0]) &&
		redemption->plan(postings, redemption);
}

/*
 * Refuses a code that does not exist.
 */
static bool
plan_unknown(Posting *posting, void *arg)
{
	return refuse(&posting->refusal, ERRCODE_NOT_FOUND,
				  "code does not exist", NULL,
				  "Check its spelling; capital and small letters are the same.");
}

/*
 * Refuses a code to the account that it is of.
 */
static bool
plan_own(Posting *posting, void *arg)
{
	Redemption *redemption = arg;

	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  redemption->code.kind == CODE_GIFT ?
				  "a gift cannot be redeemed by its giver" :
				  "a referral code cannot be redeemed by its own account",
				  psprintf("It is of account \"%s\".",
						   row_account_name(&posting->account)),
				  redemption->code.kind == CODE_GIFT ?
				  "To take a gift back, call credits_cancel_gift." :
				  "Give it to somebody else.");
}

/*
 * Posts a redemption.  Returns false, with the refusal filled in, if it must
 * not be.
 */
static bool
post(const char *function, Redemption *redemption, Receipt *receipt,
	 Refusal *refusal)
{
	Code	   *code = &redemption->code;
	Request    *request = &redemption->request;
	Party		parties[2] = {{redemption->account}};
	Account		account;
	Snapshot	snapshot;

	/*
	 * A code's kind and account never change.  They tell what to lock; whether
	 * it can be redeemed is judged under those locks.
	 */
	codes_lock_tables(function);
	snapshot = store_snapshot(true);
	redemption->known = codes_find(NULL, snapshot, redemption->given, code);
	if (redemption->known && code->kind != CODE_PROMOTIONAL &&
		!(row_find_account(NULL, snapshot, redemption->account, 0, &account) &&
		  account.id == code->account_id))
	{
		if (code->kind == CODE_GIFT)
			request->reason = code->message;
		redemption->plan = code->kind == CODE_GIFT ? gifts_redeem :
			referrals_redeem;
		parties[1].id = code->account_id;
		return ledger_post_joint(function, parties, 2, request,
								 plan_redemption, redemption, receipt,
								 refusal);
	}
	redemption->plan = !redemption->known ? plan_unknown :
		code->kind == CODE_PROMOTIONAL ? promo_codes_redeem : plan_own;
	request->lock_first = true;
	return ledger_post(function, redemption->account, 0, request,
					   plan_redemption, redemption, receipt, refusal);
}

/*
 * Reads the arguments, the same of both functions.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Redemption *redemption)
{
	Request    *request = &redemption->request;

	memset(redemption, 0, sizeof(Redemption));
	redemption->account = arg_account(fcinfo, 0);
	redemption->given = arg_code(fcinfo, 1);
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 3);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_REDEMPTION);
	fingerprint_text(&request->fingerprint, redemption->given);
}

/*
 * Redeems a code, or raises an error.
 */
Datum
credits_redeem(PG_FUNCTION_ARGS)
{
	Redemption	redemption;
	Receipt		receipt;
	Refusal		refusal;

	read_arguments(fcinfo, &redemption);
	if (!post("credits_redeem()", &redemption, &receipt, &refusal))
		raise_refusal(&refusal);
	return ledger_result(fcinfo, &receipt);
}

/*
 * Records a refusal as an event, and the one that makes too many of them as
 * another, once in a window.
 */
static void
record_refusal(Redemption *redemption, Refusal *refusal)
{
	TimestampTz now = clock_now();
	StringInfoData json;
	Account		account;
	int64		failures = 0;
	bool		throttled = false;

	/* the account's lock is ours since it was refused */
	account.id = 0;
	if (row_find_account(NULL, store_snapshot(true), redemption->account, 0,
						 &account))
		failures = count_failures(NULL, store_snapshot(true), account.id,
								  &throttled) + 1;
	initStringInfo(&json);
	json_text(&json, "account", redemption->account);
	json_cstring(&json, "code", sqlstate_text(refusal->sqlstate));
	json_cstring(&json, "message", refusal->message);
	if (redemption->known)
		json_int64(&json, "code_id", redemption->code.id);
	else
		json_text(&json, "code_id", NULL);
	alerts_event("redemption_refused", account.id, 0, now,
				 json_document(&json));

	if (setting_redeem_failures > 0 && clock_redeem_window() != NULL &&
		failures >= setting_redeem_failures && !throttled)
	{
		initStringInfo(&json);
		json_text(&json, "account", redemption->account);
		json_int64(&json, "failures", failures);
		json_cstring(&json, "window", setting_redeem_window);
		alerts_event("redemption_throttled", account.id, 0, now,
					 json_document(&json));
	}
	/* the next call counts them, in the same statement too */
	CommandCounterIncrement();
}

/*
 * Redeems a code, or returns why not and records it.
 */
Datum
credits_try_redeem(PG_FUNCTION_ARGS)
{
	Redemption	redemption;
	Receipt		receipt;
	Refusal		refusal;

	read_arguments(fcinfo, &redemption);
	if (post("credits_try_redeem()", &redemption, &receipt, &refusal))
		return ledger_attempt(fcinfo, &receipt, NULL);
	if (!redemption.throttled)
		record_refusal(&redemption, &refusal);
	return ledger_attempt(fcinfo, NULL, &refusal);
}
