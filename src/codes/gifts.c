/*
 * gifts.c
 *	  Gifts: credits for the account that redeems a code, or for many
 *	  accounts at once.
 *
 * A gift with a code is a hold on the giver's account, made by a transaction
 * of kind gift: the credits leave the balance immediately, and are returned
 * when the gift expires.  Redeeming it captures the hold, and the redeemer
 * gets the credits that the hold has drawn as by a transfer, with their expiry
 * and price.  The code expires together with the first of the credits in it.
 */
#include "credits.h"

#include "codes/codes.h"
#include "ledger/ledger.h"
#include "spend/transfer.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_create_gift);
PG_FUNCTION_INFO_V1(credits_cancel_gift);
PG_FUNCTION_INFO_V1(credits_gift_many);

/* largest number of accounts that one call gives to */
#define MAX_RECIPIENTS 1000

/* Arguments of credits_create_gift */
typedef struct Gift
{
	int64		amount;
	Interval   *expires_in;		/* NULL if never */
	Code		code;			/* the row to be inserted */
	Request		request;
} Gift;

/* Arguments of credits_cancel_gift */
typedef struct Cancellation
{
	Code		code;
	Request		request;
} Cancellation;

/* Arguments of credits_gift_many */
typedef struct ManyGifts
{
	int64		amount;			/* for each account */
	int64		total;
	int			n;
	Request		request;
} ManyGifts;

/*
 * Returns the first argument, the account that gives.
 */
static text *
arg_giver(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("from_account must not be null"),
				 errhint("Pass the name of the account that gives.")));
	return arg_account(fcinfo, 0);
}

/*
 * Inserts the code of a new gift, when the posting is written.
 */
static void
write_code(Posting *posting, void *row)
{
	store_insert(posting->store, &codes_table, row);
}

/*
 * Plans a gift.
 */
static bool
plan_create(Posting *posting, void *arg)
{
	Gift	   *gift = arg;
	Code	   *code = &gift->code;
	Entry	   *entry;
	Hold	   *hold;
	JsonObject	json;
	int			i;

	if (!service_allows(posting, KIND_GIFT, NULL) ||
		!guards_may_spend(posting, gift->amount) ||
		!limit_rules_spend(posting, gift->amount, gift->amount))
		return false;

	hold = hold_new(posting, gift->amount,
					gift->expires_in ?
					clock_after(posting->now, gift->expires_in) : DT_NOEND,
					&entry);
	/* a gift must not be redeemed when some of its credits have expired */
	for (i = 0; i < entry->ndraws; i++)
		hold->expires_at = Min(hold->expires_at,
							   grants_get(posting, entry->draws[i].grant_id)->expires_at);
	grants_wake(posting, hold->expires_at);

	code->id = store_next_id(&codes_table);
	code->code = codes_random(NULL);
	code->account_id = posting->account.id;
	code->transaction_id = entry->id;
	code->created_at = entry->created_at;
	code->active_until = hold->expires_at;
	posting_defer(posting, write_code, code);

	json_begin(&json);
	json_instant(&json, "expires_at", hold->expires_at);
	json_int64(&json, "code_id", code->id);
	entry->kind = KIND_GIFT;
	entry->terms = json_document(&json);
	posting->main = entry;
	return true;
}

/*
 * Returns a composite value of type credits.gift.
 */
static Datum
gift_result(FunctionCallInfo fcinfo, const Code *code, const Receipt *receipt)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 3);
	TupleDesc	receipt_desc =
		lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 2)->atttypid, -1);
	Datum		values[3];
	bool		isnull[3] = {false};
	Datum		result;

	values[0] = PointerGetDatum(code->code);
	values[1] = TimestampTzGetDatum(code->active_until);
	isnull[1] = code->active_until == DT_NOEND;
	values[2] = receipts_datum(receipt_desc, receipt);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(receipt_desc);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * SQL function: takes credits from an account, and returns a code with which
 * another account can redeem them.
 */
Datum
credits_create_gift(PG_FUNCTION_ARGS)
{
	Gift		gift = {0};
	Request    *request = &gift.request;
	Code	   *code = &gift.code;
	text	   *account = arg_giver(fcinfo);
	Receipt		receipt;
	Refusal		refusal;

	gift.amount = arg_amount(fcinfo, 1, "amount");
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 3);
	request->reason = arg_text(fcinfo, 4, "message", MAX_REASON_BYTES);
	if (!PG_ARGISNULL(5))
		gift.expires_in = arg_interval(fcinfo, 5, "expires_in");

	code->kind = CODE_GIFT;
	code->credits = gift.amount;
	code->max_uses = NO_LIMIT;
	code->per_account = 1;
	code->active_from = DT_NOBEGIN;
	code->active = true;
	code->message = request->reason;
	code->metadata = request->metadata;

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, kinds_name(KIND_GIFT));
	requests_add_int64(&request->fingerprint, true, gift.amount);
	requests_add_interval(&request->fingerprint, gift.expires_in);

	codes_lock_tables("credits_create_gift()");
	if (!ledger_post("credits_create_gift()", account, 0, request, plan_create,
					 &gift, &receipt, &refusal))
		raise_refusal(&refusal);
	/* a replayed call has made no code: return that of the first call */
	if (receipt.replayed &&
		!codes_find_gift(NULL, store_snapshot(true), receipt.transaction_id,
						 code))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the code of gift " INT64_FORMAT " is missing",
						receipt.transaction_id),
				 errhint("Restore table credits.codes.")));
	return gift_result(fcinfo, code, &receipt);
}

/*
 * Refuses a gift that has been redeemed or cancelled, or has expired.  The
 * SQLSTATE for a cancelled gift is the caller's choice.
 */
static bool
gifts_still_open(Posting *posting, const Hold *hold, int redeem_cancelled)
{
	switch (hold->status)
	{
		case HOLD_CAPTURED:
			return refuse(&posting->refusal, ERRCODE_CONFLICT,
						  "gift has already been redeemed",
						  psprintf("Its " INT64_FORMAT " credits belong to the redeemer now.",
								   hold->reserved),
						  "To repeat a call safely, pass the idempotency key of the first one.");
		case HOLD_RELEASED:
			return refuse(&posting->refusal, redeem_cancelled,
						  "gift has been cancelled",
						  psprintf("Its " INT64_FORMAT " credits have been returned to the giver.",
								   hold->reserved),
						  "Ask the giver for another one.");
		case HOLD_EXPIRED:
			return refuse(&posting->refusal, ERRCODE_GONE,
						  "gift has expired",
						  psprintf("It could be redeemed until %s; its " INT64_FORMAT " credits have been returned to the giver.",
								   timestamptz_to_str(hold->expires_at),
								   hold->reserved),
						  "Ask the giver for another one.");
		default:
			return true;
	}
}

/*
 * Plans to redeem a gift: the first party redeems it, and the second is its
 * giver.
 */
bool
gifts_redeem(Posting *postings, void *arg)
{
	Redemption *redemption = arg;
	Code	   *code = &redemption->code;
	Posting    *to = &postings[0];
	Posting    *from = &postings[1];
	Hold	   *hold = hold_get(from, code->transaction_id);
	int64		amount = hold_left(hold);

	if (!gifts_still_open(to, hold, ERRCODE_GONE))
		return false;
	if (from->account.status == ACCOUNT_CLOSED)
		return refuse(&to->refusal, ERRCODE_GONE,
					  "gift can no longer be redeemed",
					  psprintf("Its giver, account \"%s\", is closed.",
							   rows_account_name(&from->account)),
					  "Redeem another code.");
	if (!transfer_allowed(from, to))
		return false;
	if (!limit_rules_receive(to, &amount, false))
		return false;
	to->main = transfer_receive(from, to,
								hold_capture(from, hold, KIND_GIFT, amount),
								KIND_GIFT, "gift");
	codes_use(to, code, to->main);
	return true;
}

/*
 * Plans to cancel a gift.
 */
static bool
gifts_plan_cancel(Posting *posting, void *arg)
{
	Cancellation *cancellation = arg;
	Hold	   *hold = hold_get(posting, cancellation->code.transaction_id);

	if (!gifts_still_open(posting, hold, ERRCODE_CONFLICT) ||
		!guards_not_closed(posting))
		return false;
	posting->main = hold_release(posting, hold, posting->now,
								 HOLD_RELEASED, NULL);
	return true;
}

/*
 * SQL function: cancels a gift that has not been redeemed.
 */
Datum
credits_cancel_gift(PG_FUNCTION_ARGS)
{
	Cancellation cancellation = {0};
	Request    *request = &cancellation.request;
	Code	   *code = &cancellation.code;
	text	   *given = codes_arg(fcinfo, 0);
	text	   *account = NULL;
	Account		giver;
	Snapshot	snapshot;

	request->key = arg_text(fcinfo, 1, "idempotency_key", MAX_NAME_BYTES);
	request->reason = arg_text(fcinfo, 2, "reason", MAX_REASON_BYTES);
	request->metadata = arg_metadata(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		account = arg_account(fcinfo, 4);

	/* the giver of a gift never changes, so the code needs no lock */
	codes_lock_tables("credits_cancel_gift()");
	snapshot = store_snapshot(true);
	if (account)
		guards_find_account(snapshot, account, &giver);
	if (!codes_find(NULL, snapshot, given, code) || code->kind != CODE_GIFT ||
		(account && giver.id != code->account_id))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 account ? errmsg("account \"%s\" has no gift with that code",
								  text_to_cstring(account))
				 : errmsg("there is no gift with that code"),
				 errhint("Pass the code that credits_create_gift returned.")));

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, "cancel gift");
	requests_add_int64(&request->fingerprint, true, code->id);
	return ledger_call(fcinfo, "credits_cancel_gift()", NULL, code->account_id,
					   request, gifts_plan_cancel, &cancellation);
}

/*
 * Returns the next recipient's share of the giver's entry, for
 * transfer_receive: an entry with draws that add up to "amount".  "position"
 * and "skip" say how far the giver's draws have been used, and are advanced.
 */
static Entry *
next_share(const Entry *given, int *position, int64 *skip, int64 amount)
{
	Entry	   *share = palloc(sizeof(Entry));

	*share = *given;
	share->draws = palloc((given->ndraws - *position) * sizeof(Draw));
	share->ndraws = 0;
	while (amount > 0)
	{
		const Draw *draw = &given->draws[*position];
		int64		part = Min(amount, -draw->amount - *skip);

		CHECK_FOR_INTERRUPTS();
		share->draws[share->ndraws++] = DRAW(draw->grant_id, -part);
		amount -= part;
		*skip += part;
		if (*skip == -draw->amount)
		{
			(*position)++;
			*skip = 0;
		}
	}
	return share;
}

/*
 * Plans gifts from the first party to all others.
 */
static bool
plan_many(Posting *postings, void *arg)
{
	ManyGifts  *gifts = arg;
	Posting    *from = &postings[0];
	int			position = 0;
	int64		skip = 0;
	int			ndraws;
	Draw	   *draws;
	int			i;

	if (!service_allows(from, KIND_GIFT, NULL) ||
		!guards_may_spend(from, gifts->total))
		return false;
	/* refuse all gifts or none: check each before anything is drawn */
	for (i = 1; i <= gifts->n; i++)
	{
		Posting    *to = &postings[i];
		int64		received = gifts->amount;

		CHECK_FOR_INTERRUPTS();
		if (!transfer_allowed(from, to) || !limit_rules_spend(from, gifts->amount, gifts->amount))
			return false;
		if (!limit_rules_receive(to, &received, false))
			return false;
	}
	draws = burn_grants(from, gifts->total, &ndraws);
	from->main = log_add(from, KIND_GIFT, from->now, -gifts->total, draws,
						 ndraws);
	for (i = 1; i <= gifts->n; i++)
		log_describe_part(transfer_receive(from, &postings[i],
										   next_share(from->main, &position,
													  &skip, gifts->amount),
										   KIND_GIFT, "gift"),
						  &gifts->request);
	return true;
}

/*
 * Reads the array of recipients, an argument, into the parties that follow the
 * giver.
 */
static Party *
read_recipients(FunctionCallInfo fcinfo, int n, ManyGifts *gifts)
{
	ArrayType  *array;
	Datum	   *names;
	bool	   *nulls;
	Party	   *parties;
	int			i;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("to_accounts must not be null"),
				 errhint("Pass an array of accounts.")));
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_accounts must have one dimension"),
				 errdetail("It has %d.", ARR_NDIM(array)),
				 errhint("Pass an array of accounts.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls,
					  &gifts->n);
	if (gifts->n < 1 || gifts->n > MAX_RECIPIENTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_accounts must have 1 to %d elements",
						MAX_RECIPIENTS),
				 errdetail("It has %d.", gifts->n),
				 errhint("Give to more accounts in several calls.")));
	parties = palloc0((gifts->n + 1) * sizeof(Party));
	for (i = 0; i < gifts->n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("to_accounts must not have null elements"),
					 errdetail("Element %d is null.", i + 1),
					 errhint("Pass an array of accounts.")));
		parties[i + 1].name = DatumGetTextPP(names[i]);
		check_account_name(parties[i + 1].name);
	}
	return parties;
}

/*
 * SQL function: gives credits from one account to many others, all or none.
 */
Datum
credits_gift_many(PG_FUNCTION_ARGS)
{
	ManyGifts	gifts = {0};
	Request    *request = &gifts.request;
	text	   *account = arg_giver(fcinfo);
	Party	   *parties = read_recipients(fcinfo, 1, &gifts);
	int			i;

	parties[0].name = account;
	gifts.amount = arg_amount(fcinfo, 2, "amount");
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 4);
	request->reason = arg_text(fcinfo, 5, "message", MAX_REASON_BYTES);
	if (pg_mul_s64_overflow(gifts.amount, gifts.n, &gifts.total))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("credits out of range"),
				 errdetail("%d gifts of " INT64_FORMAT " would exceed " INT64_FORMAT ".",
						   gifts.n, gifts.amount, PG_INT64_MAX),
				 errhint("Give less, or to fewer accounts.")));

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, "gift many");
	requests_add_int64(&request->fingerprint, true, gifts.amount);
	for (i = 1; i <= gifts.n; i++)
		requests_add_text(&request->fingerprint, parties[i].name);
	return ledger_call_joint(fcinfo, "credits_gift_many()", parties,
							 gifts.n + 1, request, plan_many, &gifts);
}
