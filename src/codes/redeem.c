/*
 * redeem.c
 *	  Redeeming codes of all kinds, and protection against guessing them.
 *
 * credits_try_redeem counts each refusal in an event, in the caller's
 * transaction.  An account that has been refused too often within
 * credits.refusal_window is refused without looking at the code.  Refusals are
 * counted while the account is locked, so that many concurrent calls get no
 * more attempts than the same number of consecutive ones.
 *
 * Events and messages never contain the code itself.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"
#include "ledger/refusals.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_redeem);
PG_FUNCTION_INFO_V1(credits_try_redeem);

/*
 * Returns how often an account has failed in the window that its first failure began.
 */
static int64
count_failures(Store *store, Snapshot snapshot, int64 account_id)
{
	Event		event;

	if (setting_redeem_failures == 0 ||
		!refusals_find(store, snapshot, account_id, "redemption_refused",
					   &event))
		return 0;
	return refusals_count(&event);
}

/*
 * Refuses an account that has failed too often.
 */
static bool
may_try(Posting *posting, Redemption *redemption)
{
	int64		failures = count_failures(posting->store, posting->snapshot,
										  posting->account.id);

	if (setting_redeem_failures == 0 || failures < setting_redeem_failures)
		return true;
	redemption->throttled = true;
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" has failed to redeem codes too often",
						   rows_account_name(&posting->account)),
				  psprintf("It has " INT64_FORMAT " failures within %s; %d are allowed.",
						   failures, setting_refusal_window,
						   setting_redeem_failures),
				  "Try again later; see the settings credits.redeem_failures and credits.refusal_window.");
}

/*
 * Plans a redemption: first the checks that do not depend on the code, then
 * what its kind requires.
 */
static bool
plan_redemption(Posting *postings, void *arg)
{
	Redemption *redemption = arg;

	return service_allows(&postings[0], KIND_REDEMPTION, NULL) &&
		may_try(&postings[0], redemption) &&
		guards_not_closed(&postings[0]) &&
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
 * Refuses a gift or referral code to the account that it belongs to.
 */
static bool
plan_own(Posting *posting, void *arg)
{
	Redemption *redemption = arg;

	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  redemption->code.kind == CODE_GIFT ?
				  "a gift cannot be redeemed by its giver" :
				  "a referral code cannot be redeemed by its own account",
				  psprintf("It belongs to account \"%s\".",
						   rows_account_name(&posting->account)),
				  redemption->code.kind == CODE_GIFT ?
				  "To take a gift back, call credits_cancel_gift." :
				  "Give it to somebody else.");
}

/*
 * Posts a redemption.  Returns false, with the refusal filled in, if it is
 * refused.
 */
static bool
redeem_post(const char *function, Redemption *redemption, Receipt *receipt,
			Refusal *refusal)
{
	Code	   *code = &redemption->code;
	Request    *request = &redemption->request;
	Party		parties[2] = {{redemption->account}};
	Account		account;
	Snapshot	snapshot;

	/*
	 * A code's kind and account never change, so they can be read without a
	 * lock, and determine which accounts to lock.  Whether the code can be
	 * redeemed is checked under those locks.
	 */
	codes_lock_tables(function);
	snapshot = store_snapshot(true);
	redemption->known = codes_find(NULL, snapshot, redemption->given, code);
	if (redemption->known && code->kind != CODE_PROMOTIONAL &&
		!(rows_find_account(NULL, snapshot, redemption->account, 0, &account) &&
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
	/* the failures are to be counted under the lock, even if it succeeds */
	request->lock_first = true;
	return ledger_post(function, redemption->account, 0, request,
					   plan_redemption, redemption, receipt, refusal);
}

/*
 * Reads the arguments, which are the same for both functions.
 */
static void
redeem_read_arguments(FunctionCallInfo fcinfo, Redemption *redemption)
{
	Request    *request = &redemption->request;

	memset(redemption, 0, sizeof(Redemption));
	redemption->account = arg_account(fcinfo, 0);
	redemption->given = codes_arg(fcinfo, 1);
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 3);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, kinds_name(KIND_REDEMPTION));
	requests_add_text(&request->fingerprint, redemption->given);
}

/*
 * SQL function: redeems a code, or raises an error.
 */
Datum
credits_redeem(PG_FUNCTION_ARGS)
{
	Redemption	redemption;
	Receipt		receipt;
	Refusal		refusal;

	redeem_read_arguments(fcinfo, &redemption);
	if (!redeem_post("credits_redeem()", &redemption, &receipt, &refusal))
		raise_refusal(&refusal);
	return receipts_result(fcinfo, &receipt);
}

/*
 * Records a refusal as an event.  If the account has now failed too often,
 * records that as another event, once within the window.
 */
static void
redeem_record_refusal(Redemption *redemption, Refusal *refusal)
{
	JsonObject	json;
	Event		counted;
	Event		throttled;
	int64		account_id;
	int64		failures;

	json_begin(&json);
	if (redemption->known)
		json_int64(&json, "code_id", redemption->code.id);
	else
		json_null(&json, "code_id");
	failures = refusals_record("redemption_refused", redemption->account,
							   refusal, &json, &account_id);
	if (account_id == 0 || setting_redeem_failures == 0 ||
		failures < setting_redeem_failures ||
		!refusals_find(NULL, store_snapshot(true), account_id,
					   "redemption_refused", &counted))
		return;
	/* the limit may have been changed since */
	if (refusals_find(NULL, store_snapshot(true), account_id,
					  "redemption_throttled", &throttled) &&
		throttled.created_at >= counted.created_at)
		return;
	json_begin(&json);
	json_text(&json, "account", redemption->account);
	json_int64(&json, "failures", failures);
	json_cstring(&json, "window", setting_refusal_window);
	events_add("redemption_throttled", account_id, 0, clock_now(),
			   json_document(&json));
}

/*
 * SQL function: redeems a code, or returns why it is refused and records that.
 */
Datum
credits_try_redeem(PG_FUNCTION_ARGS)
{
	Redemption	redemption;
	Receipt		receipt;
	Refusal		refusal;

	redeem_read_arguments(fcinfo, &redemption);
	if (redeem_post("credits_try_redeem()", &redemption, &receipt, &refusal))
		return receipts_attempt(fcinfo, &receipt, NULL);
	/* while the service is paused, nobody has guessed */
	if (!redemption.throttled && refusal.sqlstate != ERRCODE_SERVICE_PAUSED)
		redeem_record_refusal(&redemption, &refusal);
	return receipts_attempt(fcinfo, NULL, &refusal);
}
