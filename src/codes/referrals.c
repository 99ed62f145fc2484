/*
 * referrals.c
 *	  Referral codes: each account has one, and redeeming it gives credits
 *	  to both sides.
 *
 * Redeeming a code is a joint posting: a transaction of the referee, and one
 * of the referrer whose target is the first.  Both are written even if one of
 * them gives no credits, so that concurrent calls notice that the accounts
 * have changed.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_referral_code);

/*
 * SQL function: returns the referral code of an account, which is created when
 * it is first asked for.
 */
Datum
credits_referral_code(PG_FUNCTION_ARGS)
{
	text	   *name = arg_account(fcinfo, 0);
	Code		code = {0};
	Account		account;
	Snapshot	snapshot;
	Store	   *store;

	codes_lock_tables("credits_referral_code()");
	snapshot = store_snapshot(true);
	guards_find_account(snapshot, name, &account);
	if (codes_find_referral(NULL, snapshot, account.id, &code))
		PG_RETURN_TEXT_P(code.code);
	if (account.status == ACCOUNT_CLOSED)
		ereport(ERROR,
				(errcode(ERRCODE_LOCKED_ACCOUNT),
				 errmsg("account \"%s\" is closed", text_to_cstring(name)),
				 errdetail("It has no referral code."),
				 errhint("A closed account can be read, but never changed again.")));

	code.id = store_next_id(&codes_table);
	code.code = codes_random(NULL);
	code.kind = CODE_REFERRAL;
	code.account_id = account.id;
	code.max_uses = NO_LIMIT;
	code.per_account = 1;
	code.active_from = DT_NOBEGIN;
	code.active_until = DT_NOEND;
	code.active = true;
	code.created_at = clock_now();

	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	(void) store_insert_unless(store, &codes_by_referrer, &code);
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
	/* if another session has created one at the same time, return that */
	if (!codes_find_referral(NULL, store_snapshot(true), account.id, &code))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Account \"%s\" has been given a referral code since the transaction's snapshot.",
						   text_to_cstring(name)),
				 errhint("Retry the transaction.")));
	PG_RETURN_TEXT_P(code.code);
}

/*
 * Refuses a referral that the settings do not allow.
 */
static bool
is_allowed(Posting *referee, Posting *referrer, const Code *code)
{
	Interval   *age = clock_referral_account_age();
	TimestampTz opened = referee->account.created_at;
	int			cap = setting_referral_cap;

	if (setting_referral_credits == 0 && setting_referrer_credits == 0)
		return refuse(&referee->refusal, ERRCODE_FORBIDDEN,
					  "referrals are off",
					  "The settings credits.referral_credits and credits.referrer_credits are 0.",
					  "Set at least one of them.");
	if (referrer->account.status == ACCOUNT_CLOSED)
		return refuse(&referee->refusal, ERRCODE_GONE,
					  "referral code can no longer be redeemed",
					  psprintf("Its account \"%s\" is closed.",
							   rows_account_name(&referrer->account)),
					  "Redeem another code.");
	if (codes_was_referred(referee))
		return refuse(&referee->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" has already redeemed a referral code",
							   rows_account_name(&referee->account)),
					  "An account can redeem one in its life.",
					  "To repeat a call safely, pass the idempotency key of the first one.");
	if (age && clock_after(opened, age) <= referee->now)
		return refuse(&referee->refusal, ERRCODE_FORBIDDEN,
					  psprintf("account \"%s\" is too old to redeem a referral code",
							   rows_account_name(&referee->account)),
					  psprintf("It was opened at %s; only accounts younger than %s can.",
							   timestamptz_to_str(opened),
							   setting_referral_account_age),
					  "See the setting credits.referral_account_age.");
	if (cap > 0 && codes_uses(referrer, code->id, cap) >= cap)
		return refuse(&referee->refusal, ERRCODE_FORBIDDEN,
					  "referral code has been redeemed too often",
					  psprintf("It belongs to account \"%s\", which has referred %d accounts.",
							   rows_account_name(&referrer->account), cap),
					  "See the setting credits.referral_cap.");
	return true;
}

/*
 * Adds the entry of one side of a referral, and a grant unless the amount is
 * 0.
 */
static Entry *
referrals_give(Posting *posting, int64 amount)
{
	Grant	   *grant;
	Entry	   *entry;

	if (amount == 0)
		return log_add(posting, KIND_REFERRAL, posting->now, 0, NULL, 0);
	grant = grants_new(posting, amount, cstring_to_text("referral"),
					   posting->now, DT_NOEND);
	entry = log_add(posting, KIND_REFERRAL, posting->now, amount,
					grants_draw(grant, amount), 1);
	grant->transaction_id = entry->id;
	entry->terms = grants_terms(grant);
	return entry;
}

/*
 * Plans to redeem a referral code: the first party redeems it, and the second
 * is the referrer.
 */
bool
referrals_redeem(Posting *postings, void *arg)
{
	Redemption *redemption = arg;
	Code	   *code = &redemption->code;
	Posting    *referee = &postings[0];
	Posting    *referrer = &postings[1];
	int64		amount = setting_referral_credits;
	int64		reward = setting_referrer_credits;
	Entry	   *entry;

	if (!is_allowed(referee, referrer, code))
		return false;
	if (amount > 0 && !limit_rules_receive(referee, &amount, true))
		return false;
	if (reward > 0 && !limit_rules_receive(referrer, &reward, true))
		return false;
	referee->main = referrals_give(referee, amount);
	entry = referrals_give(referrer, reward);
	entry->has_target = true;
	entry->target_id = referee->main->id;
	terms_add_int64(entry, "code_id", code->id);
	codes_use(referee, code, referee->main);
	return true;
}
