/*
 * allocate.c
 *	  Giving grants: credits_allocate.
 */
#include "credits.h"

#include "accounts/allocate.h"
#include "base/money.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_allocate);

/* from then on, adding expires_in might exceed the range of timestamptz */
#define LAST_EFFECTIVE (END_TIMESTAMP - 4000 * 366 * USECS_PER_DAY)

/*
 * Refuses a time that must be later than another but is not.
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
	TimestampTz expires_at = allocation->expires_at;
	int64		amount = allocation->amount;
	Grant	   *grant;
	int64		given;

	if (!guards_not_closed(posting))
		return false;
	if (allocation->expires_in)
		expires_at = clock_after(effective_at, allocation->expires_in);
	if (expires_at <= posting->now)
		return allocation->expires_in ?
			refuse(&posting->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				   "the credits would have expired already",
				   psprintf("They would expire at %s.",
							clock_show(expires_at)),
				   "Pass a longer expires_in, or a later effective_at.") :
			refuse_time(&posting->refusal, "expires_at", expires_at,
						"in the future", posting->now);
	if (!limit_rules_receive(posting, &amount, true))
		return false;
	if (!log_may_grant(posting, amount))
		return false;

	grant = grants_new(posting, amount, allocation->source, effective_at,
					   expires_at);
	if (allocation->has_priority)
		grant->priority = allocation->priority;
	grant->price = allocation->price;
	grant->currency = allocation->currency;

	/* a pending grant is added to the balance when it becomes effective */
	given = grant->status == GRANT_PENDING ? 0 : grant->amount;
	posting->main = log_add(posting, KIND_ALLOCATION, posting->now, given,
							grants_draw(grant, grant->amount), 1);
	grant->transaction_id = posting->main->id;
	posting->main->terms = grants_terms(grant);
	audit_moved(posting, posting->main, AUDIT_ALLOCATION);
	return true;
}

/*
 * Checks the times at which a grant becomes effective and expires.
 */
static bool
valid_times(Refusal *refusal, const Allocation *allocation)
{
	if (allocation->expires_in)
	{
		if (allocation->expires_at != DT_NOEND)
			return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
						  "expires_at and expires_in exclude each other",
						  psprintf("expires_at is %s.",
								   timestamptz_to_str(allocation->expires_at)),
						  "Pass one of them.");
		if (!valid_span(refusal, allocation->expires_in, "expires_in"))
			return false;
	}
	if (!allocation->has_effective_at)
		return true;
	if (TIMESTAMP_NOT_FINITE(allocation->effective_at))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "effective_at must be finite",
					  psprintf("It is %s.",
							   timestamptz_to_str(allocation->effective_at)),
					  "Leave effective_at out to give credits immediately.");
	if (allocation->expires_in && allocation->effective_at > LAST_EFFECTIVE)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "effective_at is too late for expires_in",
					  psprintf("It is %s.",
							   clock_show(allocation->effective_at)),
					  "Pass a time before the year 290000, or leave out expires_in.");
	if (allocation->expires_at <= allocation->effective_at)
		return refuse_time(refusal, "expires_at", allocation->expires_at,
						   "later than effective_at",
						   allocation->effective_at);
	return true;
}

/*
 * Checks the price of a grant and its currency.
 */
static bool
valid_price(Refusal *refusal, const Allocation *allocation)
{
	Numeric		price;

	if ((allocation->price == 0) != (allocation->currency == NULL))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "price and currency must be specified together",
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
	return money_valid_digits(refusal, allocation->price, "price") &&
		money_valid_currency(refusal, allocation->currency);
}

/*
 * Checks the terms of a grant, except for its amount.
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
 * Sets the request's fingerprint: everything that a retry with the same
 * idempotency key must repeat.
 */
void
allocate_fingerprint(Request *request, const Allocation *allocation)
{
	StringInfo	f = &request->fingerprint;

	initStringInfo(f);
	appendStringInfoString(f, kinds_name(KIND_ALLOCATION));
	requests_add_int64(f, true, allocation->amount);
	requests_add_text(f, allocation->source);
	requests_add_int64(f, true, allocation->expires_at);
	if (allocation->expires_in)
		requests_add_interval(f, allocation->expires_in);
	requests_add_int64(f, allocation->has_effective_at,
					   allocation->effective_at);
	requests_add_int64(f, allocation->has_priority, allocation->priority);
	if (allocation->currency)
		appendStringInfoString(f, numeric_normalize(DatumGetNumeric(allocation->price)));
	requests_add_text(f, allocation->currency);
	requests_add_text(f, request->reference);
}

/*
 * SQL function: gives an account a grant.
 */
Datum
credits_allocate(PG_FUNCTION_ARGS)
{
	Allocation	allocation = {0};
	Request		request = {0};
	Refusal		refusal;
	text	   *account = arg_account(fcinfo, 0);

	allocation.amount = arg_amount(fcinfo, 1, "amount");
	request.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request.reference = arg_text(fcinfo, 3, "reference", MAX_NAME_BYTES);
	request.reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	request.metadata = arg_metadata(fcinfo, 5);
	if (PG_ARGISNULL(6))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("source must not be null"),
				 errhint("Leave source out for a manual grant.")));
	allocation.source = arg_text(fcinfo, 6, "source", MAX_NAME_BYTES);
	allocation.expires_at = PG_ARGISNULL(7) ? DT_NOEND :
		PG_GETARG_TIMESTAMPTZ(7);
	if (!PG_ARGISNULL(8))
		allocation.expires_in = PG_GETARG_INTERVAL_P(8);
	allocation.has_effective_at = !PG_ARGISNULL(9);
	if (allocation.has_effective_at)
		allocation.effective_at = PG_GETARG_TIMESTAMPTZ(9);
	allocation.has_priority = !PG_ARGISNULL(10);
	if (allocation.has_priority)
		allocation.priority = PG_GETARG_INT32(10);
	if (!PG_ARGISNULL(11))
		allocation.price = NumericGetDatum(PG_GETARG_NUMERIC(11));
	allocation.currency = arg_text(fcinfo, 12, "currency", MAX_NAME_BYTES);
	if (!allocate_valid(&refusal, &allocation))
		raise_refusal(&refusal);

	allocate_fingerprint(&request, &allocation);
	return ledger_call(fcinfo, "credits_allocate()", account, 0, &request,
					   allocate_plan, &allocation);
}
