/*
 * adjust.c
 *	  Corrections of a balance by an administrator.
 *
 * A positive adjustment gives a grant of source "adjustment".  A negative one
 * takes credits in burn order as a spend does, but it is not a spend: it
 * cannot be refunded, and it is possible on a paused account.
 */
#include "credits.h"

#include "accounts/adjust.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_adjust);

/*
 * Checks what an account is to be given or is to lose.
 */
void
adjust_check_delta(int64 delta)
{
	if (delta == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delta must not be 0"),
				 errhint("Pass a positive delta to add credits, a negative one to take them.")));
	if (delta == PG_INT64_MIN)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("delta is out of range"),
				 errdetail("It is " INT64_FORMAT ".", delta),
				 errhint("No balance can be that large.")));
}

/*
 * Adds an adjustment to a posting.  Returns false, with the refusal filled in, if
 * the account has not enough credits, or would have too many.
 */
bool
adjust_post(Posting *posting, int64 delta)
{
	if (delta > 0)
	{
		Grant	   *grant;

		if (!log_may_grant(posting, delta))
			return false;
		grant = grants_new(posting, delta, cstring_to_text("adjustment"),
						   posting->now, DT_NOEND);
		posting->main = log_add(posting, KIND_ADJUSTMENT, posting->now, delta,
								grants_draw(grant, delta), 1);
		grant->transaction_id = posting->main->id;
		posting->main->terms = grants_terms(grant);
	}
	else
	{
		Draw	   *draws;
		int			ndraws;

		if (!guards_enough(posting, -delta))
			return false;
		draws = burn_grants(posting, -delta, &ndraws);
		posting->main = log_add(posting, KIND_ADJUSTMENT, posting->now, delta,
								draws, ndraws);
	}
	audit_moved(posting, posting->main, AUDIT_ADJUSTMENT);
	return true;
}

/*
 * Plans an adjustment.
 */
static bool
plan_adjust(Posting *posting, void *arg)
{
	return guards_not_closed(posting) && adjust_post(posting, *(int64 *) arg);
}

/*
 * SQL function: adds credits to an account or takes credits from it.
 */
Datum
credits_adjust(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	text	   *account = arg_account(fcinfo, 0);
	int64		delta = arg_id(fcinfo, 1, "delta");

	adjust_check_delta(delta);
	request.reason = arg_reason(fcinfo, 2);
	request.key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request.metadata = arg_metadata(fcinfo, 4);

	initStringInfo(&request.fingerprint);
	appendStringInfoString(&request.fingerprint, kinds_name(KIND_ADJUSTMENT));
	requests_add_int64(&request.fingerprint, true, delta);

	return ledger_call(fcinfo, "credits_adjust()", account, 0, &request,
					   plan_adjust, &delta);
}
