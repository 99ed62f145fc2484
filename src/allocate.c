/*
 * allocate.c
 *	  Giving a grant: credits_allocate.
 */
#include "credits.h"

#include "allocate.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_allocate);

/*
 * Refuses a time that does not fit another.
 */
static bool
refuse_time(Refusal *refusal, const char *name, TimestampTz value,
			const char *must, TimestampTz than)
{
	char	   *shown = pstrdup(timestamptz_to_str(value));

	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf("%s must be %s", name, must),
				  psprintf("It is %s, which is not after %s.", shown,
						   timestamptz_to_str(than)),
				  psprintf("Pass a later %s, or none at all.", name));
}

/*
 * Plans an allocation.
 */
bool
allocate_plan(Posting *posting, void *arg)
{
	Allocation *allocation = arg;
	TimestampTz effective_at = allocation->has_effective_at ?
		allocation->effective_at : posting->now;
	int64		amount = allocation->amount;
	int64		granted;
	Grant	   *grant;
	int64		given;

	if (!ledger_not_closed(posting))
		return false;
	if (allocation->expires_at <= posting->now)
		return refuse_time(&posting->refusal, "expires_at",
						   allocation->expires_at, "in the future",
						   posting->now);
	if (!caps_receive(posting, &amount, true))
		return false;
	if (pg_add_s64_overflow(posting->account.granted, amount, &granted))
		return refuse_overflow(posting, amount);

	grant = grants_new(posting, amount, allocation->source, effective_at,
					   allocation->expires_at);
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
 * Checks when a grant becomes effective and expires.
 */
static bool
valid_times(Refusal *refusal, const Allocation *allocation)
{
	if (!allocation->has_effective_at)
		return true;
	if (TIMESTAMP_NOT_FINITE(allocation->effective_at))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "effective_at must be finite",
					  psprintf("It is %s.",
							   timestamptz_to_str(allocation->effective_at)),
					  "Leave effective_at out to give credits at once.");
	if (allocation->expires_at <= allocation->effective_at)
		return refuse_time(refusal, "expires_at", allocation->expires_at,
						   "later than effective_at",
						   allocation->effective_at);
	return true;
}

/*
 * Checks what was paid for a grant.
 */
static bool
valid_price(Refusal *refusal, const Allocation *allocation)
{
	Numeric		price;
	const char *s;

	if ((allocation->price == 0) != (allocation->currency == NULL))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "price and currency go together",
					  psprintf("%s is missing.", allocation->currency ?
							   "price" : "currency"),
					  "Pass both, or neither.");
	if (allocation->price == 0)
		return true;
	price = DatumGetNumeric(allocation->price);
	if (numeric_is_nan(price) || numeric_is_inf(price) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(price),
										 DirectFunctionCall1(int8_numeric,
															 Int64GetDatum(0)))))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "price must be a number of 0 or more",
					  psprintf("It is %s.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   NumericGetDatum(price)))),
					  "Pass the total that was paid for the grant.");
	if (VARSIZE_ANY_EXHDR(price) > MAX_NAME_BYTES)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "price has too many digits", NULL,
					  "Round it to the currency's minor unit.");

	s = VARDATA_ANY(allocation->currency);
	if (VARSIZE_ANY_EXHDR(allocation->currency) != 3 ||
		s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' ||
		s[2] < 'A' || s[2] > 'Z')
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "currency must be an ISO 4217 code",
					  psprintf("It is \"%s\".",
							   text_to_cstring(allocation->currency)),
					  "Pass three capital letters, such as EUR.");
	return true;
}

/*
 * Checks the terms of a grant that is to be given, but for its amount.
 */
bool
allocate_valid(Refusal *refusal, const Allocation *allocation)
{
	int32		priority;

	if (!grants_known_source(refusal, allocation->source, &priority) ||
		!valid_times(refusal, allocation))
		return false;
	if (allocation->has_priority &&
		(allocation->priority < 0 || allocation->priority > MAX_PRIORITY))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("priority must be from 0 to %d", MAX_PRIORITY),
					  psprintf("It is %d.", allocation->priority),
					  "Grants of a lower priority burn first.");
	return valid_price(refusal, allocation);
}

/*
 * Notes what a retry must repeat.
 */
void
allocate_fingerprint(Request *request, const Allocation *allocation)
{
	StringInfo	f = &request->fingerprint;

	initStringInfo(f);
	appendStringInfoString(f, KIND_ALLOCATION);
	fingerprint_int64(f, true, allocation->amount);
	fingerprint_text(f, allocation->source);
	fingerprint_int64(f, true, allocation->expires_at);
	fingerprint_int64(f, allocation->has_effective_at,
					  allocation->effective_at);
	fingerprint_int64(f, allocation->has_priority, allocation->priority);
	if (allocation->currency)
		appendStringInfoString(f, numeric_normalize(DatumGetNumeric(allocation->price)));
	fingerprint_text(f, allocation->currency);
	fingerprint_text(f, request->reference);
}

/*
 * Gives an account a grant of credits.
 */
Datum
credits_allocate(PG_FUNCTION_ARGS)
{
	Allocation	allocation = {0};
	Request		request = {0};
	Refusal		refusal;
	text	   *account = arg_account(fcinfo, 0);

	allocation.amount = arg_amount(fcinfo, 1, "amount");
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source must not be null"),
				 errhint("Leave source out for a manual grant.")));
	allocation.source = arg_text(fcinfo, 2, "source", MAX_NAME_BYTES);
	allocation.expires_at = PG_ARGISNULL(3) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(3);
	allocation.has_effective_at = !PG_ARGISNULL(4);
	if (allocation.has_effective_at)
		allocation.effective_at = PG_GETARG_TIMESTAMPTZ(4);
	allocation.has_priority = !PG_ARGISNULL(5);
	if (allocation.has_priority)
		allocation.priority = PG_GETARG_INT32(5);
	if (!PG_ARGISNULL(6))
		allocation.price = NumericGetDatum(PG_GETARG_NUMERIC(6));
	request.key = arg_text(fcinfo, 7, "idempotency_key", MAX_NAME_BYTES);
	request.reason = arg_text(fcinfo, 8, "reason", MAX_REASON_BYTES);
	request.reference = arg_text(fcinfo, 9, "reference", MAX_NAME_BYTES);
	request.metadata = arg_metadata(fcinfo, 10);
	allocation.currency = arg_text(fcinfo, 11, "currency", MAX_NAME_BYTES);
	if (!allocate_valid(&refusal, &allocation))
		raise_refusal(&refusal);

	allocate_fingerprint(&request, &allocation);
	return ledger_call(fcinfo, "credits_allocate()", account, 0, &request,
					   allocate_plan, &allocation);
}
