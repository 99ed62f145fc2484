/*
 * promo_codes.c
 *	  Promotional codes: creating, deactivating and redeeming them.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_create_promo_code);
PG_FUNCTION_INFO_V1(credits_create_promo_codes);
PG_FUNCTION_INFO_V1(credits_deactivate_promo_code);

/* largest number of codes that one call creates */
#define MAX_CODES 100000

/* leaves enough of MAX_CODE_BYTES for the random part */
#define MAX_PREFIX_BYTES 32

/*
 * Refuses a code that no account can redeem at present.
 */
static bool
is_good(Posting *posting, const Code *code)
{
	if (!code->active)
		return refuse(&posting->refusal, ERRCODE_NOT_FOUND,
					  "code is not active",
					  psprintf("Code " INT64_FORMAT " has been deactivated.",
							   code->id),
					  "Redeem another code.");
	if (posting->now < code->active_from)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  "code cannot be redeemed yet",
					  psprintf("Code " INT64_FORMAT " can be redeemed from %s on.",
							   code->id, timestamptz_to_str(code->active_from)),
					  "Try again then.");
	if (posting->now >= code->active_until)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  "code has expired",
					  psprintf("Code " INT64_FORMAT " could be redeemed until %s.",
							   code->id,
							   timestamptz_to_str(code->active_until)),
					  "Redeem another code.");
	if (code->max_uses != NO_LIMIT && code->uses >= code->max_uses)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  "code is used up",
					  psprintf("Code " INT64_FORMAT " could be redeemed " INT64_FORMAT " times.",
							   code->id, code->max_uses),
					  "Redeem another code.");
	return true;
}

/*
 * Refuses a code to an account that has redeemed it as often as it may, or
 * that is not new enough for it.
 */
static bool
is_for(Posting *posting, const Code *code)
{
	TimestampTz opened = posting->account.created_at;

	if (codes_redeemed_by(posting, code->id, posting->account.id,
						  code->per_account) >= code->per_account)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" has already redeemed the code",
							   rows_account_name(&posting->account)),
					  psprintf("An account can redeem code " INT64_FORMAT " %d %s.",
							   code->id, code->per_account,
							   code->per_account == 1 ? "time" : "times"),
					  "To repeat a call safely, pass the idempotency key of the first one.");
	if (code->new_accounts_within &&
		clock_after(opened, code->new_accounts_within) <= posting->now)
		return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
					  psprintf("the code is for new accounts, and account \"%s\" is not one",
							   rows_account_name(&posting->account)),
					  psprintf("It was opened at %s; code " INT64_FORMAT " is for accounts younger than %s.",
							   pstrdup(timestamptz_to_str(opened)), code->id,
							   DatumGetCString(DirectFunctionCall1(interval_out,
																   IntervalPGetDatum(code->new_accounts_within)))),
					  "Redeem another code.");
	return true;
}

/*
 * Plans to redeem a promotional code.
 */
bool
promo_codes_redeem(Posting *posting, void *arg)
{
	Redemption *redemption = arg;
	Code	   *code = &redemption->code;
	int64		amount;
	Grant	   *grant;

	/* read it again, now with the snapshot of this attempt */
	if (!codes_find(posting->store, posting->snapshot, redemption->given,
					code) ||
		code->kind != CODE_PROMOTIONAL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a code is missing or damaged"),
				 errhint("Restore table credits.codes.")));
	if (!is_good(posting, code) || !is_for(posting, code))
		return false;
	if (code->max_uses != NO_LIMIT)
	{
		/* checked before as well, so that refusals need not wait for the lock */
		codes_lock(posting->store, posting->snapshot, code);
		if (!is_good(posting, code))
			return false;
	}
	amount = code->credits;
	if (!limit_rules_receive(posting, &amount, true))
		return false;
	grant = grants_new(posting, amount, cstring_to_text("promotional"),
					   posting->now,
					   code->expires_in ?
					   clock_after(posting->now, code->expires_in) :
					   DT_NOEND);
	posting->main = log_add(posting, KIND_REDEMPTION, posting->now, amount,
							grants_draw(grant, amount), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	codes_use(posting, code, posting->main);
	return true;
}

/*
 * Reads the arguments that both functions for creating codes have in common,
 * beginning with argument n.
 */
static void
read_terms(FunctionCallInfo fcinfo, int n, Code *code)
{
	code->kind = CODE_PROMOTIONAL;
	code->active = true;
	code->created_at = clock_now();
	code->max_uses = PG_ARGISNULL(n) ? NO_LIMIT : PG_GETARG_INT64(n);
	if (code->max_uses < 1 && !PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_uses must be at least 1"),
				 errdetail("It is " INT64_FORMAT ".", code->max_uses),
				 errhint("Pass how often the code may be redeemed in all, or NULL for no limit.")));
	if (PG_ARGISNULL(n + 1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("per_account must not be null"),
				 errhint("Leave per_account out for once.")));
	code->per_account = PG_GETARG_INT32(n + 1);
	if (code->per_account < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("per_account must be at least 1"),
				 errdetail("It is %d.", code->per_account),
				 errhint("Pass how often one account may redeem the code.")));
	code->active_until = PG_ARGISNULL(n + 3) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(n + 3);
	code->active_from = PG_ARGISNULL(n + 2) ? DT_NOBEGIN :
		PG_GETARG_TIMESTAMPTZ(n + 2);
	if (code->active_from == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("active_from must not be infinity"),
				 errhint("Leave active_from out to let the code start immediately.")));
	if (code->active_until <= code->created_at ||
		code->active_until <= code->active_from)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("active_until must be in the future, and later than active_from"),
				 errdetail("It is %s.", timestamptz_to_str(code->active_until)),
				 errhint("Pass a later active_until, or none at all.")));
	if (!PG_ARGISNULL(n + 4))
		code->expires_in = arg_interval(fcinfo, n + 4,
										"expires_in");
	if (!PG_ARGISNULL(n + 5))
		code->new_accounts_within = arg_interval(fcinfo, n + 5,
												 "new_accounts_within");
	code->metadata = arg_metadata(fcinfo, n + 6);
}

/*
 * Notes in the audit that codes were made, under the id of the first one: the
 * codes themselves are secrets.
 */
static void
audit_new_codes(const Code *code, int64 first_id, int count)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "credits", code->credits);
	if (code->max_uses != NO_LIMIT)
		json_int64(&json, "max_uses", code->max_uses);
	json_int64(&json, "per_account", code->per_account);
	if (code->active_from != DT_NOBEGIN)
		json_instant(&json, "active_from", code->active_from);
	if (code->active_until != DT_NOEND)
		json_instant(&json, "active_until", code->active_until);
	if (code->expires_in)
		json_interval(&json, "expires_in", code->expires_in);
	if (code->new_accounts_within)
		json_interval(&json, "new_accounts_within", code->new_accounts_within);
	if (code->metadata)
		json_jsonb(&json, "metadata", code->metadata);
	json_bool(&json, "active", code->active);
	if (count > 1)
	{
		json_int64(&json, "codes", count);
		json_int64(&json, "last_id", code->id);
	}
	audit_add(AUDIT_PROMO_CODE, cstring_to_text(psprintf(INT64_FORMAT, first_id)), 0,
			  NULL, json_document(&json));
}

/*
 * Notes in the audit that a code that was active is not any more.
 */
static void
audit_deactivation(const Code *code)
{
	JsonObject	old;
	JsonObject	new;

	json_begin(&old);
	json_bool(&old, "active", true);
	json_begin(&new);
	json_bool(&new, "active", false);
	audit_add(AUDIT_PROMO_CODE, cstring_to_text(psprintf(INT64_FORMAT, code->id)), 0,
			  json_document(&old), json_document(&new));
}

/*
 * Prepares to write codes.  The caller must call end_writing.
 */
static Store *
begin_writing(const char *function)
{
	Store	   *store;

	ledger_lock_tables(function);
	store_lock_table(&codes_table);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	return store;
}

/*
 * Ends what begin_writing began.
 */
static void
end_writing(Store *store)
{
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
}

/*
 * SQL function: creates a promotional code.
 */
Datum
credits_create_promo_code(PG_FUNCTION_ARGS)
{
	Code		code = {0};
	Store	   *store;

	code.code = codes_arg(fcinfo, 0);
	codes_check(code.code, "code", MAX_CODE_BYTES);
	code.credits = arg_amount(fcinfo, 1, "credits");
	read_terms(fcinfo, 2, &code);

	store = begin_writing("credits_create_promo_code()");
	code.id = store_next_id(&codes_table);
	if (!store_insert_unless(store, &codes_by_code, &code))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("code \"%s\" already exists",
						text_to_cstring(code.code)),
				 errhint("Choose another code; a code cannot be reused, even after it has ended.")));
	audit_new_codes(&code, code.id, 1);
	end_writing(store);
	PG_RETURN_TEXT_P(code.code);
}

/*
 * SQL function: creates random promotional codes.
 */
Datum
credits_create_promo_codes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Code		code = {0};
	text	   *prefix = NULL;
	int32		count;
	int64		first_id = 0;
	Store	   *store;
	int32		i;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("count must not be null"),
				 errhint("Pass a value for count.")));
	count = PG_GETARG_INT32(0);
	if (count < 1 || count > MAX_CODES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("count must be from 1 to %d", MAX_CODES),
				 errdetail("It is %d.", count),
				 errhint("Create more codes in several calls.")));
	code.credits = arg_amount(fcinfo, 1, "credits");
	if (!PG_ARGISNULL(2))
	{
		prefix = codes_normalise(PG_GETARG_TEXT_PP(2));
		codes_check(prefix, "prefix", MAX_PREFIX_BYTES);
	}
	read_terms(fcinfo, 3, &code);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	store = begin_writing("credits_create_promo_codes()");
	for (i = 0; i < count; i++)
	{
		Datum		value;
		bool		isnull = false;

		CHECK_FOR_INTERRUPTS();
		code.id = store_next_id(&codes_table);
		if (i == 0)
			first_id = code.id;
		code.code = codes_random(prefix);
		store_insert(store, &codes_table, &code);
		value = PointerGetDatum(code.code);
		tuplestore_putvalues(result->setResult, result->setDesc, &value,
							 &isnull);
		pfree(code.code);
	}
	audit_new_codes(&code, first_id, count);
	end_writing(store);
	return (Datum) 0;
}

/*
 * SQL function: deactivates a promotional code, which can then no longer be
 * redeemed.  Returns whether it was active.
 */
Datum
credits_deactivate_promo_code(PG_FUNCTION_ARGS)
{
	text	   *given = codes_arg(fcinfo, 0);
	Store	   *store = begin_writing("credits_deactivate_promo_code()");
	Snapshot	snapshot = GetActiveSnapshot();
	Code		code;
	bool		was_active;

	if (!codes_find(store, snapshot, given, &code) ||
		code.kind != CODE_PROMOTIONAL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("promotional code \"%s\" does not exist",
						text_to_cstring(given)),
				 errhint("Look for it in view credits.promo_codes.")));
	codes_lock(store, snapshot, &code);
	was_active = code.active;
	if (was_active)
	{
		code.active = false;
		store_write(store, &codes_table, snapshot, &code);
		audit_deactivation(&code);
	}
	end_writing(store);
	PG_RETURN_BOOL(was_active);
}
