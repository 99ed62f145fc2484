/*
 * holds.c
 *	  Reserving credits, and capturing, releasing or extending what is reserved.
 *
 * A hold that a member made from a pool is settled with both accounts locked,
 * since the keys are the member's.  One that was split over both is two holds:
 * the first, whose id callers know, has the other in its transaction's terms.
 */
#include "credits.h"

#include "spend.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_hold);
PG_FUNCTION_INFO_V1(credits_try_hold);
PG_FUNCTION_INFO_V1(credits_capture);
PG_FUNCTION_INFO_V1(credits_release);
PG_FUNCTION_INFO_V1(credits_extend_hold);

/* a hold, and the other one if it is split */
#define MAX_PARTS 2

/* What a call is about: a hold, and what to do with it */
typedef struct HoldCall
{
	int64		id;
	int			nparts;
	Entry		parts[MAX_PARTS];	/* the transactions that made them */
	int			part_parties[MAX_PARTS];	/* whose postings they are in */
	Party		parties[2];
	int			nparties;
	List	   *way;			/* from member to pool, as keys; or NIL */
	bool		has_amount;		/* or else all that is left */
	int64		amount;
	bool		final;
	bool		allow_more;
	Interval   *expires_in;
	Request		request;
} HoldCall;

/*
 * Reads the arguments, the same of both functions that reserve.
 */
static void
read_arguments(FunctionCallInfo fcinfo, Spend *spend)
{
	Request    *request = &spend->request;

	memset(spend, 0, sizeof(Spend));
	spend->kind = KIND_HOLD;
	spend->account = arg_account(fcinfo, 0);
	spend->amount = arg_amount(fcinfo, 1, "amount");
	spend->expires_in = arg_interval(fcinfo, 2, "expires_in");
	request->key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	request->operation = arg_text(fcinfo, 4, "operation", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 5, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 6);
	spend_read_pool(fcinfo, 7, spend);

	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, KIND_HOLD);
	fingerprint_int64(&request->fingerprint, true, spend->amount);
	fingerprint_interval(&request->fingerprint, spend->expires_in);
	fingerprint_text(&request->fingerprint, request->operation);
	fingerprint_text(&request->fingerprint, request->reference);
	spend_fingerprint_pool(spend);
}

/*
 * Reserves credits, or raises an error.
 */
Datum
credits_hold(PG_FUNCTION_ARGS)
{
	Spend		spend;

	read_arguments(fcinfo, &spend);
	return spend_call(fcinfo, "credits_hold()", &spend);
}

/*
 * Reserves credits, or returns why not and records it.
 */
Datum
credits_try_hold(PG_FUNCTION_ARGS)
{
	Spend		spend;

	read_arguments(fcinfo, &spend);
	return spend_try(fcinfo, "credits_try_hold()", &spend);
}

/*
 * Raises the error for a hold that does not exist.
 */
static void
raise_unknown(int64 id, text *account)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 account ? errmsg("account \"%s\" has no hold " INT64_FORMAT,
							  text_to_cstring(account), id)
			 : errmsg("hold " INT64_FORMAT " does not exist", id),
			 errhint("Pass the transaction_id of credits_hold's receipt.")));
}

/*
 * Finds a hold, its accounts and its parts, none of which ever changes, and
 * checks that it is of the account that the caller says.
 */
static void
find_hold(const char *function, int64 id, text *account, HoldCall *call)
{
	Account		owner;
	Snapshot	snapshot;
	Entry		entry;
	List	   *others;

	store_lock_tables(function);
	snapshot = store_snapshot(true);
	if (account)
		ledger_find_account(snapshot, account, &owner);
	if (!row_find_entry(NULL, snapshot, id, &entry) ||
		(account && owner.id != entry.account_id &&
		 owner.id != entry.member_id))
		raise_unknown(id, account);
	if (strcmp(entry.kind, KIND_HOLD) != 0 || entry.has_target)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("transaction " INT64_FORMAT " is not a hold", id),
				 strcmp(entry.kind, KIND_HOLD) != 0
				 ? errdetail("It is of kind %s.", entry.kind)
				 : errdetail("It is a part of " INT64_FORMAT ".",
							 entry.target_id),
				 errhint("Pass the transaction_id of credits_hold's receipt.")));

	call->id = id;
	call->parts[call->nparts++] = entry;
	call->parties[0].id = entry.account_id;
	call->nparties = 1;
	call->way = caps_add_way_of(NIL, &entry);
	others = terms_ids(&entry, "parts");
	if (others != NIL)
	{
		Entry	   *part = &call->parts[call->nparts];

		if (!row_find_entry(NULL, snapshot, *(int64 *) linitial(others), part))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a part of hold " INT64_FORMAT " is missing", id),
					 errhint("Run credits_verify.")));
		call->way = caps_add_way_of(NIL, part);
		call->parties[call->nparties++].id = part->account_id;
		call->part_parties[call->nparts++] = 1;
	}
	else if (entry.member_id != 0)
	{
		/* the key is the member's, so its account comes first */
		call->parties[0].id = entry.member_id;
		call->parties[call->nparties++].id = entry.account_id;
		call->part_parties[0] = 1;
	}
}

/*
 * Adds the members that a call may count for or give back to.
 */
static List *
add_members(List *keys, Posting *postings, void *arg)
{
	HoldCall   *call = arg;

	return list_concat_copy(keys, call->way);
}

/*
 * Posts a call about a hold for an SQL function.
 */
static Datum
post(FunctionCallInfo fcinfo, const char *function, HoldCall *call,
	 PlanChange plan)
{
	call->request.add_members = add_members;
	if (call->nparties > 1)
		return ledger_call_joint(fcinfo, function, call->parties,
								 call->nparties, &call->request, plan, call);
	return ledger_call(fcinfo, function, NULL, call->parties[0].id,
					   &call->request, plan, call);
}

/*
 * Refuses a hold that is over.  Returns what is left of it, and its parts.
 */
static bool
still_open(Posting *postings, HoldCall *call, Hold **holds, int64 *left)
{
	bool		open = false;
	bool		expired = false;
	int64		reserved = 0;
	int64		captured = 0;
	int64		released = 0;
	int			i;

	*left = 0;
	for (i = 0; i < call->nparts; i++)
	{
		holds[i] = reserve_get(&postings[call->part_parties[i]],
							   call->parts[i].id);
		holds[i]->entry = &call->parts[i];
		if (holds[i]->status == HOLD_OPEN)
		{
			open = true;
			*left += reserve_left(holds[i]);
		}
		expired |= holds[i]->status == HOLD_EXPIRED;
		reserved += holds[i]->reserved;
		captured += holds[i]->captured;
		released += holds[i]->released;
	}
	for (i = 0; i < call->nparties; i++)
		if (!ledger_not_closed(&postings[i]))
		{
			postings[0].refusal = postings[i].refusal;
			return false;
		}
	if (open)
		return true;
	if (expired)
		return refuse(&postings[0].refusal, ERRCODE_GONE,
					  psprintf("hold " INT64_FORMAT " has expired", call->id),
					  psprintf("It reserved " INT64_FORMAT " until %s; what was left has gone back.",
							   reserved, timestamptz_to_str(holds[0]->expires_at)),
					  "Deduct the credits, or make a new hold that lasts longer.");
	return refuse(&postings[0].refusal, ERRCODE_CONFLICT,
				  psprintf("hold " INT64_FORMAT " is already %s", call->id,
						   hold_status_names[holds[0]->status]),
				  psprintf("It reserved " INT64_FORMAT ", of which " INT64_FORMAT " were captured and " INT64_FORMAT " released.",
						   reserved, captured, released),
				  "To repeat a call safely, pass the idempotency key of the first one.");
}

/*
 * Takes what a capture needs beyond the hold from the balance: of a hold that
 * is split, from that of the first account whose part is open.  It counts for
 * the members that the hold was made through, to whom a refund gives it back.
 */
static bool
enlarge(Posting *postings, HoldCall *call, Hold **holds, int64 extra)
{
	int			which = holds[0]->status == HOLD_OPEN ? 0 : 1;
	int			party = call->part_parties[which];
	Posting    *posting = &postings[party];
	List	   *path = NIL;
	StringInfoData terms;
	Entry	   *entry;
	int			i;

	/* neither may be paused, whoever pays */
	for (i = 0; i < call->nparties; i++)
		if (!ledger_may_spend(&postings[i], 0))
		{
			postings[0].refusal = postings[i].refusal;
			return false;
		}
	/* the second party is the pool */
	if (!ledger_enough(posting, extra) ||
		(party > 0 &&
		 !spend_check_caps(posting, call->way, extra, &path)) ||
		!caps_spend(posting, extra, holds[which]->reserved + extra))
	{
		postings[0].refusal = posting->refusal;
		return false;
	}
	caps_use_path(posting, path, extra);
	entry = reserve_enlarge(posting, holds[which], extra);
	initStringInfo(&terms);
	caps_add_way(&terms, path);
	if (terms.len > 0)
		entry->terms = json_document(&terms);
	return true;
}

/*
 * Plans a capture.
 */
static bool
plan_capture(Posting *postings, void *arg)
{
	HoldCall   *call = arg;
	Hold	   *holds[MAX_PARTS];
	Entry	   *captures[MAX_PARTS] = {NULL};
	Entry	   *main = NULL;
	List	   *parts = NIL;
	int64		left;
	int64		rest;
	int			i;

	if (!still_open(postings, call, holds, &left))
		return false;
	rest = call->has_amount ? call->amount : left;
	if (rest > left)
	{
		if (!call->allow_more)
			return refuse(&postings[0].refusal, ERRCODE_CONFLICT,
						  psprintf("cannot capture " INT64_FORMAT " of hold " INT64_FORMAT,
								   rest, call->id),
						  psprintf("It reserved " INT64_FORMAT ", of which " INT64_FORMAT " are left.",
								   holds[0]->reserved +
								   (call->nparts > 1 ? holds[1]->reserved : 0),
								   left),
						  "Capture what is left, or pass allow_more => true to take the rest from the balance.");
		if (!enlarge(postings, call, holds, rest - left))
			return false;
	}
	for (i = 0; i < call->nparts; i++)
	{
		Posting    *posting = &postings[call->part_parties[i]];
		int64		part = Min(rest, reserve_left(holds[i]));
		Entry	   *entry;

		if (part == 0 || holds[i]->status != HOLD_OPEN)
			continue;
		entry = reserve_capture(posting, holds[i], KIND_CAPTURE, part);
		captures[i] = entry;
		rest -= part;
		if (main == NULL)
			main = posting->main = entry;
		else
		{
			parts = lappend(parts, entry);
			log_describe_part(entry, &call->request);
		}
	}
	if (parts != NIL)
		terms_add_parts(main, parts);
	for (i = 0; call->final && i < call->nparts; i++)
		if (holds[i]->status == HOLD_OPEN)
			reserve_release(&postings[call->part_parties[i]], holds[i],
							postings[0].now,
							captures[i] ? HOLD_CAPTURED : HOLD_RELEASED,
							captures[i]);
	return true;
}

/*
 * Plans a release.
 */
static bool
plan_release(Posting *postings, void *arg)
{
	HoldCall   *call = arg;
	Hold	   *holds[MAX_PARTS];
	Posting    *main = NULL;
	int64		left;
	int			i;

	if (!still_open(postings, call, holds, &left))
		return false;
	for (i = 0; i < call->nparts; i++)
	{
		Posting    *posting = &postings[call->part_parties[i]];
		Entry	   *entry;

		if (holds[i]->status != HOLD_OPEN)
			continue;
		entry = reserve_release(posting, holds[i], posting->now,
								HOLD_RELEASED, NULL);
		if (main == NULL)
		{
			main = posting;
			main->main = entry;
			if (entry->amount < left)
				terms_add_total(entry, left);
		}
		else
			log_describe_part(entry, &call->request);
	}
	return true;
}

/*
 * Plans to let a hold last longer.
 */
static bool
plan_extend(Posting *postings, void *arg)
{
	HoldCall   *call = arg;
	Hold	   *holds[MAX_PARTS];
	Posting    *main = NULL;
	TimestampTz until;
	int64		left;
	int			i;

	if (!still_open(postings, call, holds, &left))
		return false;
	until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													TimestampTzGetDatum(postings[0].now),
													IntervalPGetDatum(call->expires_in)));
	for (i = 0; i < call->nparts; i++)
	{
		Posting    *posting = &postings[call->part_parties[i]];
		Entry	   *entry;

		if (holds[i]->status != HOLD_OPEN)
			continue;
		if (until <= holds[i]->expires_at)
			return refuse(&postings[0].refusal, ERRCODE_INVALID_PARAMETER_VALUE,
						  psprintf("hold " INT64_FORMAT " lasts longer already",
								   call->id),
						  psprintf("It lasts until %s.",
								   timestamptz_to_str(holds[i]->expires_at)),
						  "Pass a longer expires_in, which counts from now.");
		entry = reserve_extend(posting, holds[i], until);
		if (main == NULL)
		{
			main = posting;
			main->main = entry;
		}
	}
	return true;
}

/*
 * Begins the fingerprint of a call about a hold.
 */
static StringInfo
begin_fingerprint(HoldCall *call, const char *kind)
{
	StringInfo	f = &call->request.fingerprint;

	initStringInfo(f);
	appendStringInfoString(f, kind);
	fingerprint_int64(f, true, call->id);
	return f;
}

/*
 * Spends what a hold reserves.
 */
Datum
credits_capture(PG_FUNCTION_ARGS)
{
	HoldCall	call = {0};
	int64		id = arg_id(fcinfo, 0, "hold_id");
	text	   *account = NULL;
	StringInfo	f;

	if (!PG_ARGISNULL(1))
	{
		call.has_amount = true;
		call.amount = arg_amount(fcinfo, 1, "amount");
	}
	call.final = arg_bool(fcinfo, 2, "final");
	call.request.key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	call.allow_more = arg_bool(fcinfo, 4, "allow_more");
	call.request.reference = arg_text(fcinfo, 5, "reference", MAX_NAME_BYTES);
	call.request.metadata = arg_metadata(fcinfo, 6);
	if (!PG_ARGISNULL(7))
		account = arg_account(fcinfo, 7);
	find_hold("credits_capture()", id, account, &call);
	/* what is spent is spent on what it was reserved for */
	call.request.operation = call.parts[0].operation;

	f = begin_fingerprint(&call, KIND_CAPTURE);
	fingerprint_int64(f, call.has_amount, call.amount);
	fingerprint_int64(f, true, call.final);
	fingerprint_int64(f, true, call.allow_more);
	fingerprint_text(f, call.request.reference);
	return post(fcinfo, "credits_capture()", &call, plan_capture);
}

/*
 * Gives back what is left of a hold.
 */
Datum
credits_release(PG_FUNCTION_ARGS)
{
	HoldCall	call = {0};
	int64		id = arg_id(fcinfo, 0, "hold_id");
	text	   *account = NULL;

	call.request.key = arg_text(fcinfo, 1, "idempotency_key", MAX_NAME_BYTES);
	call.request.reason = arg_text(fcinfo, 2, "reason", MAX_REASON_BYTES);
	call.request.metadata = arg_metadata(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		account = arg_account(fcinfo, 4);
	find_hold("credits_release()", id, account, &call);
	begin_fingerprint(&call, KIND_RELEASE);
	return post(fcinfo, "credits_release()", &call, plan_release);
}

/*
 * Lets a hold last longer.
 */
Datum
credits_extend_hold(PG_FUNCTION_ARGS)
{
	HoldCall	call = {0};
	int64		id = arg_id(fcinfo, 0, "hold_id");
	text	   *account = NULL;

	call.expires_in = arg_interval(fcinfo, 1, "expires_in");
	call.request.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	if (!PG_ARGISNULL(3))
		account = arg_account(fcinfo, 3);
	find_hold("credits_extend_hold()", id, account, &call);
	fingerprint_interval(begin_fingerprint(&call, KIND_EXTENSION),
						 call.expires_in);
	return post(fcinfo, "credits_extend_hold()", &call, plan_extend);
}
