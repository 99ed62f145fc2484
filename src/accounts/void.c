/*
 * void.c
 *	  Voiding a grant: taking back the credits that remain in it.
 */
#include "credits.h"

#include "ledger/ledger.h"

PG_FUNCTION_INFO_V1(credits_void_grant);

/*
 * Plans to void a grant.
 */
static bool
plan_void(Posting *posting, void *arg)
{
	Grant	   *grant = grants_get(posting, *(int64 *) arg);
	Draw	   *draw;
	int64		taken;

	if (grant->status == GRANT_VOIDED)
	{
		posting->already = KIND_VOID;
		return false;
	}
	if (!guards_not_closed(posting))
		return false;
	if (grant->status != GRANT_OPEN && grant->status != GRANT_PENDING)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("nothing remains of grant " INT64_FORMAT,
							   grant->id),
					  psprintf("Of its " INT64_FORMAT " credits none is left; it is %s.",
							   grant->amount,
							   grant_status_names[grant->status]),
					  "Use credits_adjust to take credits from the account's other grants.");

	/* a pending grant has not been added to the balance yet */
	taken = grant->status == GRANT_PENDING ? 0 : grant->remaining;
	draw = grants_lose(grant, grant->remaining);
	grant->remaining = 0;
	grant->status = GRANT_VOIDED;
	grant->changed = true;
	posting->main = log_add(posting, KIND_VOID, posting->now, -taken, draw, 1);
	audit_moved(posting, posting->main, AUDIT_VOID);
	return true;
}

/*
 * SQL function: voids a grant.
 */
Datum
credits_void_grant(PG_FUNCTION_ARGS)
{
	Request		request = {0};
	Grant		grant;
	int64		id = arg_id(fcinfo, 0, "grant_id");

	request.reason = arg_reason(fcinfo, 1);
	request.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	ledger_lock_tables("credits_void_grant()");
	/* a grant never moves to another account, so this needs no lock */
	if (!rows_find_grant(NULL, store_snapshot(true), id, &grant))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("grant " INT64_FORMAT " does not exist", id),
				 errhint("Look for the account's grants in table credits.grants.")));

	initStringInfo(&request.fingerprint);
	appendStringInfoString(&request.fingerprint, kinds_name(KIND_VOID));
	requests_add_int64(&request.fingerprint, true, id);

	return ledger_call(fcinfo, "credits_void_grant()", NULL, grant.account_id,
					   &request, plan_void, &id);
}
