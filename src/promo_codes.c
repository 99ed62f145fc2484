/*
 * promo_codes.c
 *	  Promotional codes: making, switching off and redeeming them.
 */
#include "credits.h"

#include "codes.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(credits_create_promo_code);
PG_FUNCTION_INFO_V1(credits_create_promo_codes);
PG_FUNCTION_INFO_V1(credits_deactivate_promo_code);

/* codes that one call makes, at most */
#define MAX_CODES 100000

/* leaves room for what is random */
#define MAX_PREFIX_BYTES 32

/*
 * Refuses a code that cannot be redeemed at this time, whoever wants to.
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
	if (posting->now < code->starts_at)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  "code cannot be redeemed yet",
					  psprintf("Code " INT64_FORMAT " can be from %s on.",
							   code->id, timestamptz_to_str(code->starts_at)),
					  "Try again then.");
	if (posting->now >= code->expires_at)
		return refuse(&posting->refusal, ERRCODE_GONE,
					  "code has expired",
					  psprintf("Code " INT64_FORMAT " could be redeemed until %s.",
							   code->id,
							   timestamptz_to_str(code->expires_at)),
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
 * Refuses a code to an account that has had it, or is not meant by it.
 */
static bool
is_for(Posting *posting, const Code *code)
{
	TimestampTz opened =
		DatumGetTimestampTz(posting->account.values[Anum_accounts_created_at - 1]);

	if (codes_redeemed_by(posting, code->id, posting->account.id,
						  code->per_account) >= code->per_account)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" has redeemed the code already",
							   row_account_name(&posting->account)),
					  psprintf("An account can redeem code " INT64_FORMAT " %d %s.",
							   code->id, code->per_account,
							   code->per_account == 1 ? "time" : "times"),
					  "To repeat a call safely, pass the idempotency key of the first one.");
	if (code->new_accounts_within &&
		clock_after(opened, code->new_accounts_within) <= posting->now)
		return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
					  psprintf("the code is for new accounts, and account \"%s\" is not one",
							   row_account_name(&posting->account)),
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

	/* as it is now that the account is locked */
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
		/* only those that may redeem it come to wait for each other */
		codes_lock(posting->store, posting->snapshot, code);
		if (!is_good(posting, code))
			return false;
	}
	amount = code->credits;
	if (!caps_receive(posting, &amount, true))
		return false;
	grant = grants_new(posting, amount, cstring_to_text("promotional"),
					   posting->now,
					   code->credits_expire_in ?
					   clock_after(posting->now, code->credits_expire_in) :
					   DT_NOEND);
	posting->main = log_add(posting, KIND_REDEMPTION, posting->now, amount,
							grants_draw(grant, amount), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	codes_use(posting, code, posting->main);
	return true;
}

/*
 * Reads what a promotional code gives, when, how often and to whom: the same
 * of both functions that make some, from an argument on.
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
				 errhint("Pass how often the code may be redeemed in all, or NULL for without end.")));
	code->expires_at = PG_ARGISNULL(n + 1) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(n + 1);
	code->starts_at = PG_ARGISNULL(n + 2) ? DT_NOBEGIN :
		PG_GETARG_TIMESTAMPTZ(n + 2);
	if (code->starts_at == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("starts_at must not be infinity"),
				 errhint("Leave starts_at out to let the code start at once.")));
	if (code->expires_at <= code->created_at ||
		code->expires_at <= code->starts_at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at must be in the future, and later than starts_at"),
				 errdetail("It is %s.", timestamptz_to_str(code->expires_at)),
				 errhint("Pass a later expires_at, or none at all.")));
	if (PG_ARGISNULL(n + 3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("per_account must not be null"),
				 errhint("Leave per_account out for once.")));
	code->per_account = PG_GETARG_INT32(n + 3);
	if (code->per_account < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("per_account must be at least 1"),
				 errdetail("It is %d.", code->per_account),
				 errhint("Pass how often one account may redeem the code.")));
	if (!PG_ARGISNULL(n + 4))
		code->credits_expire_in = arg_interval(fcinfo, n + 4,
											   "credits_expire_in");
	if (!PG_ARGISNULL(n + 5))
		code->new_accounts_within = arg_interval(fcinfo, n + 5,
												 "new_accounts_within");
	code->metadata = arg_metadata(fcinfo, n + 6);
}

/*
 * Begins to write codes.
 */
static Store *
begin_writing(const char *function)
{
	Store	   *store;

	store_lock_tables(function);
	store_lock_table(&codes_table);
	store = store_open();
	PushActiveSnapshot(store_snapshot(true));
	store_begin_changes(store);
	return store;
}

/*
 * Ends that.
 */
static void
end_writing(Store *store)
{
	store_end_changes(store);
	PopActiveSnapshot();
	store_close(store);
}

/*
 * Makes a promotional code.
 */
Datum
credits_create_promo_code(PG_FUNCTION_ARGS)
{
	Code		code = {0};
	Store	   *store;

	code.code = arg_code(fcinfo, 0);
	check_code(code.code, "code", MAX_CODE_BYTES);
	code.credits = arg_amount(fcinfo, 1, "credits");
	read_terms(fcinfo, 2, &code);

	store = begin_writing("credits_create_promo_code()");
	code.id = store_next_id(&codes_table);
	if (!codes_insert_unless(store, &codes_by_code, &code))
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("code \"%s\" exists already",
						text_to_cstring(code.code)),
				 errhint("Choose another; a code cannot be used again, not even after it has ended.")));
	end_writing(store);
	PG_RETURN_TEXT_P(code.code);
}

/*
 * Makes promotional codes at random.
 */
Datum
credits_create_promo_codes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Code		code = {0};
	text	   *prefix = NULL;
	int32		count;
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
				 errhint("Make more codes by more calls.")));
	code.credits = arg_amount(fcinfo, 1, "credits");
	if (!PG_ARGISNULL(2))
	{
		prefix = codes_normalise(PG_GETARG_TEXT_PP(2));
		check_code(prefix, "prefix", MAX_PREFIX_BYTES);
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
		code.code = codes_random(prefix);
		codes_insert(store, &code);
		value = PointerGetDatum(code.code);
		tuplestore_putvalues(result->setResult, result->setDesc, &value,
							 &isnull);
		pfree(code.code);
	}
	end_writing(store);
	return (Datum) 0;
}

/*
 * Lets a promotional code be redeemed no more.
 */
Datum
credits_deactivate_promo_code(PG_FUNCTION_ARGS)
{
	text	   *given = arg_code(fcinfo, 0);
	Store	   *store = begin_writing("credits_deactivate_promo_code()");
	Snapshot	snapshot = GetActiveSnapshot();
	Code		code;

	if (!codes_find(store, snapshot, given, &code) ||
		code.kind != CODE_PROMOTIONAL)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("promotional code \"%s\" does not exist",
						text_to_cstring(given)),
				 errhint("Look for it in view credits.promo_codes.")));
	codes_lock(store, snapshot, &code);
	if (!code.active)
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("code \"%s\" is already inactive",
						text_to_cstring(given)),
				 errhint("Nothing needs to be done.")));
	code.active = false;
	(void) codes_update(store, snapshot, &code);
	end_writing(store);
	PG_RETURN_VOID();
}
