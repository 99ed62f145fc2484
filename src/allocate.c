/*
 * allocate.c
 *	  Giving a grant: credits_allocate.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_allocate);

typedef struct Allocation
{
	int64		amount;
	text	   *source;
	bool		has_effective_at;
	TimestampTz effective_at;
	TimestampTz expires_at;		/* DT_NOEND if never */
	bool		has_priority;
	int32		priority;
	Datum		price;
	text	   *currency;
} Allocation;

/*
 * Raises the error for a time that does not fit another.
 */
static void
bad_time(const char *name, TimestampTz value, const char *must,
		 TimestampTz than)
{
	char	   *shown = pstrdup(timestamptz_to_str(value));

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must be %s", name, must),
			 errdetail("It is %s, which is not after %s.", shown,
					   timestamptz_to_str(than)),
			 errhint("Pass a later %s, or none at all.", name)));
}

/*
 * Plans an allocation.
 */
static bool
plan_allocate(Posting *posting, void *arg)
{
	Allocation *allocation = arg;
	TimestampTz effective_at = allocation->has_effective_at ?
		allocation->effective_at : posting->now;
	int64		amount = allocation->amount;
	Grant	   *grant;
	int64		given;

	if (!ledger_not_closed(posting) ||
		!caps_receive(posting, &amount, true))
		return false;
	if (allocation->expires_at <= posting->now)
		bad_time("expires_at", allocation->expires_at, "in the future",
				 posting->now);

	grant = grants_new(posting, amount, allocation->source,
					   effective_at, allocation->expires_at);
	if (allocation->has_priority)
		grant->priority = allocation->priority;
	grant->price = allocation->price;
	grant->currency = allocation->currency;

	/* credits that are not yet effective move the balance when they are */
	given = grant->status == GRANT_PENDING ? 0 : grant->amount;
	posting->main = log_add(posting, KIND_ALLOCATION, posting->now, given,
							grants_draw(grant, grant->amount), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	return true;
}

/*
 * Reads when a grant becomes effective and expires.
 */
static void
read_times(FunctionCallInfo fcinfo, Allocation *allocation)
{
	allocation->expires_at = PG_ARGISNULL(3) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(3);
	if (PG_ARGISNULL(4))
		return;
	allocation->has_effective_at = true;
	allocation->effective_at = PG_GETARG_TIMESTAMPTZ(4);
	if (TIMESTAMP_NOT_FINITE(allocation->effective_at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("effective_at must be finite"),
				 errdetail("It is %s.",
						   timestamptz_to_str(allocation->effective_at)),
				 errhint("Leave effective_at out to give credits at once.")));
	if (allocation->expires_at <= allocation->effective_at)
		bad_time("expires_at", allocation->expires_at,
				 "later than effective_at", allocation->effective_at);
}

/*
 * Reads what was paid for a grant.
 */
static void
read_price(FunctionCallInfo fcinfo, Allocation *allocation)
{
	Numeric		price;
	const char *s;

	if (PG_ARGISNULL(6) != PG_ARGISNULL(11))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("price and currency go together"),
				 errdetail("%s is missing.",
						   PG_ARGISNULL(6) ? "price" : "currency"),
				 errhint("Pass both, or neither.")));
	if (PG_ARGISNULL(6))
		return;
	price = PG_GETARG_NUMERIC(6);
	allocation->price = NumericGetDatum(price);
	if (numeric_is_nan(price) || numeric_is_inf(price) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(price),
										 DirectFunctionCall1(int8_numeric,
															 Int64GetDatum(0)))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("price must be a number of 0 or more"),
				 errdetail("It is %s.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   NumericGetDatum(price)))),
				 errhint("Pass the total that was paid for the grant.")));
	if (VARSIZE_ANY_EXHDR(price) > MAX_NAME_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("price has too many digits"),
				 errhint("Round it to the currency's minor unit.")));

	allocation->currency = arg_text(fcinfo, 11, "currency", MAX_NAME_BYTES);
	s = VARDATA_ANY(allocation->currency);
	if (VARSIZE_ANY_EXHDR(allocation->currency) != 3 ||
		s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' ||
		s[2] < 'A' || s[2] > 'Z')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("currency must be an ISO 4217 code"),
				 errdetail("It is \"%s\".",
						   text_to_cstring(allocation->currency)),
				 errhint("Pass three capital letters, such as EUR.")));
}

/*
 * Gives an account a grant of credits.
 */
Datum
credits_allocate(PG_FUNCTION_ARGS)
{
	Allocation	allocation = {0};
	Request		request = {0};
	text	   *account = arg_account(fcinfo, 0);
	StringInfo	f = &request.fingerprint;

	allocation.amount = arg_amount(fcinfo, 1, "amount");
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source must not be null"),
				 errhint("Leave source out for a manual grant.")));
	allocation.source = arg_text(fcinfo, 2, "source", MAX_NAME_BYTES);
	(void) grants_default_priority(allocation.source);
	read_times(fcinfo, &allocation);
	if (!PG_ARGISNULL(5))
	{
		allocation.has_priority = true;
		allocation.priority = PG_GETARG_INT32(5);
		if (allocation.priority < 0 || allocation.priority > MAX_PRIORITY)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("priority must be from 0 to %d", MAX_PRIORITY),
					 errdetail("It is %d.", allocation.priority),
					 errhint("Grants of a lower priority burn first.")));
	}
	read_price(fcinfo, &allocation);
	request.key = arg_text(fcinfo, 7, "idempotency_key", MAX_NAME_BYTES);
	request.reason = arg_text(fcinfo, 8, "reason", MAX_REASON_BYTES);
	request.reference = arg_text(fcinfo, 9, "reference", MAX_NAME_BYTES);
	request.metadata = arg_metadata(fcinfo, 10);

	initStringInfo(f);
	appendStringInfoString(f, KIND_ALLOCATION);
	fingerprint_int64(f, true, allocation.amount);
	fingerprint_text(f, allocation.source);
	fingerprint_int64(f, true, allocation.expires_at);
	fingerprint_int64(f, allocation.has_effective_at, allocation.effective_at);
	fingerprint_int64(f, allocation.has_priority, allocation.priority);
	if (allocation.currency)
		appendStringInfoString(f, numeric_normalize(DatumGetNumeric(allocation.price)));
	fingerprint_text(f, allocation.currency);
	fingerprint_text(f, request.reference);

	return ledger_call(fcinfo, "credits_allocate()", account, 0, &request,
					   plan_allocate, &allocation);
}
