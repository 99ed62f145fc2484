/*
 * holds.c
 *	  Holds: reserving credits, and capturing, releasing or extending what
 *	  is reserved.
 *
 * If a member has made a hold from a pool, the calls that end it lock both
 * accounts, since idempotency keys belong to the member.  A hold that was
 * split over the member's account and the pool consists of two holds: the
 * first one, whose id the caller knows, names the other in the terms of its
 * transaction.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "spend/items.h"
#include "spend/spend.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_hold);
PG_FUNCTION_INFO_V1(credits_try_hold);
PG_FUNCTION_INFO_V1(credits_hold_up_to);
PG_FUNCTION_INFO_V1(credits_capture);
PG_FUNCTION_INFO_V1(credits_capture_many);
PG_FUNCTION_INFO_V1(credits_capture_many_json);
PG_FUNCTION_INFO_V1(credits_release);
PG_FUNCTION_INFO_V1(credits_extend_hold);

/* a hold and, if it is split, its other part */
#define MAX_PARTS 2

/* all accounts of a batch are locked and in memory at once */
#define MAX_CAPTURES 10000

static const ItemColumn capture_item_columns[] = {
	{"hold_id", INT8OID}, {"amount", INT8OID}, {"idempotency_key", TEXTOID},
	{"reference", TEXTOID}, {"metadata", JSONBOID}, {"final", BOOLOID},
	{"allow_more", BOOLOID}, {"account", TEXTOID}, {NULL}
};

enum
{
	CAPTURE_HOLD_ID,
	CAPTURE_AMOUNT,
	CAPTURE_KEY,
	CAPTURE_REFERENCE,
	CAPTURE_METADATA,
	CAPTURE_FINAL,
	CAPTURE_ALLOW_MORE,
	CAPTURE_ACCOUNT
};

/* A call of credits_capture, credits_release or credits_extend_hold */
typedef struct HoldCall
{
	int64		id;
	int			nparts;
	Entry		parts[MAX_PARTS];	/* the transactions that made its parts */
	int			part_parties[MAX_PARTS];	/* the party that has each part */
	Party		parties[2];
	int			nparties;
	int			places[2];		/* where their postings are */
	List	   *way;			/* keys of the members on the way from member
								 * to pool, or NIL */
	bool		has_amount;		/* false to capture all that is left */
	int64		amount;
	bool		final;
	bool		allow_more;
	Interval   *expires_in;
	Request		request;
} HoldCall;

/*
 * Returns the posting of a party of a call.
 */
static Posting *
hold_party(Posting *postings, const HoldCall *call, int party)
{
	return &postings[call->places[party]];
}

/*
 * Returns the posting of the account that a part of a hold is in.
 */
static Posting *
hold_part(Posting *postings, const HoldCall *call, int part)
{
	return hold_party(postings, call, call->part_parties[part]);
}

/*
 * Sets what a retry of a hold must repeat.
 */
void
holds_fingerprint(Request *request, const Spend *spend)
{
	initStringInfo(&request->fingerprint);
	appendStringInfoString(&request->fingerprint, kinds_name(KIND_HOLD));
	if (spend->up_to)
		appendStringInfoString(&request->fingerprint, " up to");
	requests_add_int64(&request->fingerprint, true, spend->amount);
	requests_add_interval(&request->fingerprint, spend->expires_in);
	requests_add_text(&request->fingerprint, request->operation);
	requests_add_text(&request->fingerprint, request->reference);
}

/*
 * Reads the arguments, which are the same for both functions that make a hold.
 */
static void
holds_read_arguments(FunctionCallInfo fcinfo, Spend *spend, bool up_to)
{
	Request    *request = &spend->request;

	memset(spend, 0, sizeof(Spend));
	spend->kind = KIND_HOLD;
	spend->up_to = up_to;
	spend->account = arg_account(fcinfo, 0);
	spend->amount = arg_amount(fcinfo, 1, "amount");
	request->key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	request->operation = arg_text(fcinfo, 3, "operation", MAX_NAME_BYTES);
	request->reference = arg_text(fcinfo, 4, "reference", MAX_NAME_BYTES);
	request->metadata = arg_metadata(fcinfo, 5);
	spend->expires_in = arg_interval(fcinfo, 6, "expires_in");
	spend_read_pool(fcinfo, 7, spend);

	holds_fingerprint(request, spend);
	spend_fingerprint_pool(spend);
}

/*
 * SQL function: reserves credits, or raises an error.
 */
Datum
credits_hold(PG_FUNCTION_ARGS)
{
	Spend		spend;

	holds_read_arguments(fcinfo, &spend, false);
	return spend_call(fcinfo, "credits_hold()", &spend);
}

/*
 * SQL function: reserves credits, or returns why this is refused and records
 * that.
 */
Datum
credits_try_hold(PG_FUNCTION_ARGS)
{
	Spend		spend;

	holds_read_arguments(fcinfo, &spend, false);
	return spend_try(fcinfo, "credits_try_hold()", &spend);
}

/*
 * SQL function: reserves what there is, up to an amount.
 */
Datum
credits_hold_up_to(PG_FUNCTION_ARGS)
{
	Spend		spend;

	holds_read_arguments(fcinfo, &spend, true);
	return spend_call(fcinfo, "credits_hold_up_to()", &spend);
}

/*
 * Refuses a hold that does not exist, or does not belong to the account given.
 */
static bool
refuse_unknown_hold(Refusal *refusal, int64 id, text *account)
{
	return refuse(refusal, ERRCODE_NOT_FOUND,
				  account ? psprintf("account \"%s\" has no hold " INT64_FORMAT,
									 text_to_cstring(account), id) :
				  psprintf("hold " INT64_FORMAT " does not exist", id),
				  NULL,
				  "Pass the transaction_id of credits_hold's receipt.");
}

/*
 * Finds a hold, its parts and its accounts, and checks that it belongs to the
 * account given, if any.  These never change, so they can be read without a
 * lock.
 */
static bool
find_hold(int64 id, text *account, HoldCall *call, Refusal *refusal)
{
	Account		owner;
	Snapshot	snapshot = store_snapshot(true);
	Entry		entry;
	List	   *others;

	if (account && !rows_find_account(NULL, snapshot, account, 0, &owner))
		return guards_refuse_unknown(refusal, account);
	if (!rows_find_entry(NULL, snapshot, id, &entry))
		return anchors_refuse_archived(id, refusal) &&
			refuse_unknown_hold(refusal, id, account);
	if (account && owner.id != entry.account_id &&
		owner.id != entry.member_id)
		return refuse_unknown_hold(refusal, id, account);
	if (entry.kind != KIND_HOLD || entry.has_target)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("transaction " INT64_FORMAT " is not a hold",
							   id),
					  entry.kind != KIND_HOLD ?
					  psprintf("It is of kind %s.", kinds_name(entry.kind)) :
					  psprintf("It is a part of " INT64_FORMAT ".",
							   entry.target_id),
					  "Pass the transaction_id of credits_hold's receipt.");
	if (entry.amount == 0)
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("hold " INT64_FORMAT " reserves nothing", id),
					  "There was nothing to reserve when it was made.",
					  "Nothing needs to be captured or released.");

	/* the parties are the account of the hold, and the other account if any */
	call->id = id;
	call->parts[call->nparts++] = entry;
	call->parties[0].id = entry.account_id;
	call->nparties = 1;
	call->places[1] = 1;
	call->way = members_add_way_of(NIL, &entry);
	others = terms_ids(&entry, "parts");
	if (others != NIL)
	{
		Entry	   *part = &call->parts[call->nparts];

		if (!rows_find_entry(NULL, snapshot, *(int64 *) linitial(others), part))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a part of hold " INT64_FORMAT " is missing", id),
					 errhint("Run credits_verify.")));
		call->way = members_add_way_of(NIL, part);
		call->parties[call->nparties++].id = part->account_id;
		call->part_parties[call->nparts++] = 1;
	}
	else if (entry.member_id != 0)
	{
		/*
		 * idempotency keys belong to the first party, and this one's to the
		 * member
		 */
		call->parties[0].id = entry.member_id;
		call->parties[call->nparties++].id = entry.account_id;
		call->part_parties[0] = 1;
	}
	return true;
}

/*
 * Finds the hold of a single call, or raises an error.
 */
static void
get_hold(const char *function, int64 id, text *account, HoldCall *call)
{
	Refusal		refusal;

	ledger_lock_tables(function);
	if (!find_hold(id, account, call, &refusal))
		raise_refusal(&refusal);
}

/*
 * Adds the members that a call may change to those to be locked.
 */
static List *
holds_add_members(List *keys, Posting *postings, void *arg)
{
	HoldCall   *call = arg;

	return list_concat_copy(keys, call->way);
}

/*
 * Posts a call, for the three SQL functions.
 */
static Datum
holds_post(FunctionCallInfo fcinfo, const char *function, HoldCall *call,
		   PlanFunction plan)
{
	call->request.add_members = holds_add_members;
	if (call->nparties > 1)
		return ledger_call_joint(fcinfo, function, call->parties,
								 call->nparties, &call->request, plan, call);
	return ledger_call(fcinfo, function, NULL, call->parties[0].id,
					   &call->request, plan, call);
}

/*
 * Refuses a hold that is no longer open.  Otherwise returns its parts, and how
 * much is left of them.
 */
static bool
holds_still_open(Posting *postings, HoldCall *call, Hold **holds, int64 *left)
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
		holds[i] = hold_get(hold_part(postings, call, i),
							call->parts[i].id);
		holds[i]->entry = &call->parts[i];
		if (holds[i]->status == HOLD_OPEN)
		{
			open = true;
			*left += hold_left(holds[i]);
		}
		expired |= holds[i]->status == HOLD_EXPIRED;
		reserved += holds[i]->reserved;
		captured += holds[i]->captured;
		released += holds[i]->released;
	}
	for (i = 0; i < call->nparties; i++)
		if (!guards_not_closed(hold_party(postings, call, i)))
			return false;
	if (open)
		return true;
	if (expired)
		return refuse(&hold_party(postings, call, 0)->refusal, ERRCODE_GONE,
					  psprintf("hold " INT64_FORMAT " has expired", call->id),
					  psprintf("It reserved " INT64_FORMAT " until %s; what was left has been returned.",
							   reserved, timestamptz_to_str(holds[0]->expires_at)),
					  "Deduct the credits, or make a new hold that lasts longer.");
	return refuse(&hold_party(postings, call, 0)->refusal, ERRCODE_CONFLICT,
				  psprintf("hold " INT64_FORMAT " is already %s", call->id,
						   hold_status_names[holds[0]->status]),
				  psprintf("It reserved " INT64_FORMAT ", of which " INT64_FORMAT " were captured and " INT64_FORMAT " released.",
						   reserved, captured, released),
				  "To repeat a call safely, pass the idempotency key of the first one.");
}

/*
 * Adds credits from the balance to a hold that is to be captured beyond what
 * is left of it.  If the hold is split, they come from the first account whose
 * part is open.
 *
 * They count against the caps of the members through whom the hold was made,
 * so that a refund gives them back there.
 */
static bool
enlarge(Posting *postings, HoldCall *call, Hold **holds, int64 extra)
{
	int			which = holds[0]->status == HOLD_OPEN ? 0 : 1;
	int			party = call->part_parties[which];
	Posting    *posting = hold_party(postings, call, party);
	List	   *path = NIL;
	JsonObject	terms;
	Entry	   *entry;
	int			i;

	if (!service_allows(posting, KIND_HOLD, call->parts[0].operation))
		return false;
	/* neither account may be paused, no matter which one pays */
	for (i = 0; i < call->nparties; i++)
		if (!guards_may_spend(hold_party(postings, call, i), 0))
			return false;
	/* caps apply only to the pool, which is the second party */
	if (!guards_enough(posting, extra) ||
		!log_may_spend(posting, hold_left(holds[which]) + extra) ||
		(party > 0 &&
		 !spend_check_caps(posting, call->way, extra, &path)) ||
		!limit_rules_spend(posting, extra, holds[which]->reserved + extra))
		return false;
	members_use_path(posting, path, extra);
	entry = hold_enlarge(posting, holds[which], extra);
	json_begin(&terms);
	members_add_way(&terms, path);
	if (terms.nmembers > 0)
		entry->terms = json_document(&terms);
	return true;
}

/*
 * Releases what is left of a hold that is open.
 */
static void
release_parts(Posting *postings, HoldCall *call, Hold **holds, int64 left)
{
	Posting    *main = NULL;
	int			i;

	for (i = 0; i < call->nparts; i++)
	{
		Posting    *posting = hold_part(postings, call, i);
		Entry	   *entry;

		if (holds[i]->status != HOLD_OPEN)
			continue;
		entry = hold_release(posting, holds[i], posting->now,
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
}

/*
 * Checks an amount to be captured, which may be nothing.
 */
static bool
valid_capture(Refusal *refusal, int64 amount)
{
	if (amount >= 0)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "amount must not be negative",
				  psprintf("It is " INT64_FORMAT ".", amount),
				  "Pass 0 to spend nothing of the hold.");
}

/*
 * Logs a capture of nothing, which leaves the hold as it is.
 */
static void
capture_nothing(Posting *postings, HoldCall *call, Hold **holds)
{
	int			which = holds[0]->status == HOLD_OPEN ? 0 : 1;
	Posting    *posting = hold_part(postings, call, which);
	Entry	   *entry = log_add(posting, KIND_CAPTURE, posting->now, 0, NULL, 0);

	entry->has_target = true;
	entry->target_id = holds[which]->id;
	entry->member_id = call->parts[which].member_id;
	posting->main = entry;
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

	if (!holds_still_open(postings, call, holds, &left))
		return false;
	rest = call->has_amount ? call->amount : left;
	if (rest == 0)
	{
		if (call->final)
			release_parts(postings, call, holds, left);
		else
			capture_nothing(postings, call, holds);
		return true;
	}
	/* an overflow in hold_capture would refuse a whole batch */
	for (i = 0; i < call->nparts; i++)
		if (holds[i]->status == HOLD_OPEN &&
			!log_may_spend(hold_part(postings, call, i), Min(rest, left)))
			return false;
	if (rest > left)
	{
		if (!call->allow_more)
			return refuse(&hold_party(postings, call, 0)->refusal, ERRCODE_CONFLICT,
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
		Posting    *posting = hold_part(postings, call, i);
		int64		part = Min(rest, hold_left(holds[i]));
		Entry	   *entry;

		if (part == 0 || holds[i]->status != HOLD_OPEN)
			continue;
		/* the first part's capture gets the key, and names the other one */
		entry = hold_capture(posting, holds[i], KIND_CAPTURE, part);
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
			hold_release(hold_part(postings, call, i), holds[i],
						 hold_party(postings, call, 0)->now,
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
	int64		left;

	if (!holds_still_open(postings, call, holds, &left))
		return false;
	release_parts(postings, call, holds, left);
	return true;
}

/*
 * Plans to extend a hold.
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

	if (!holds_still_open(postings, call, holds, &left))
		return false;
	until = clock_after(hold_party(postings, call, 0)->now, call->expires_in);
	for (i = 0; i < call->nparts; i++)
	{
		Posting    *posting = hold_part(postings, call, i);
		Entry	   *entry;

		if (holds[i]->status != HOLD_OPEN)
			continue;
		if (until <= holds[i]->expires_at)
			return refuse(&hold_party(postings, call, 0)->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
						  psprintf("hold " INT64_FORMAT " already lasts longer",
								   call->id),
						  psprintf("It lasts until %s.",
								   timestamptz_to_str(holds[i]->expires_at)),
						  "Pass a longer expires_in, which counts from now.");
		entry = hold_extend(posting, holds[i], until);
		if (main == NULL)
		{
			main = posting;
			main->main = entry;
		}
	}
	return true;
}

/*
 * Begins the fingerprint of a call.
 */
static StringInfo
begin_fingerprint(HoldCall *call, TransactionKind kind)
{
	StringInfo	f = &call->request.fingerprint;

	initStringInfo(f);
	appendStringInfoString(f, kinds_name(kind));
	requests_add_int64(f, true, call->id);
	return f;
}

/*
 * Sets what a retry of a capture must repeat.
 */
static void
capture_fingerprint(HoldCall *call)
{
	StringInfo	f = begin_fingerprint(call, KIND_CAPTURE);

	requests_add_int64(f, call->has_amount, call->amount);
	requests_add_int64(f, true, call->final);
	requests_add_int64(f, true, call->allow_more);
	requests_add_text(f, call->request.reference);
}

/*
 * SQL function: spends credits that a hold has reserved.
 */
Datum
credits_capture(PG_FUNCTION_ARGS)
{
	HoldCall	call = {0};
	int64		id = arg_id(fcinfo, 0, "hold_id");
	text	   *account = NULL;
	Refusal		refusal;

	if (!PG_ARGISNULL(1))
	{
		call.has_amount = true;
		call.amount = PG_GETARG_INT64(1);
		if (!valid_capture(&refusal, call.amount))
			raise_refusal(&refusal);
	}
	call.request.key = arg_text(fcinfo, 2, "idempotency_key", MAX_NAME_BYTES);
	call.request.reference = arg_text(fcinfo, 3, "reference", MAX_NAME_BYTES);
	call.request.metadata = arg_metadata(fcinfo, 4);
	call.final = arg_bool(fcinfo, 5, "final");
	call.allow_more = arg_bool(fcinfo, 6, "allow_more");
	if (!PG_ARGISNULL(7))
		account = arg_account(fcinfo, 7);
	get_hold("credits_capture()", id, account, &call);
	/* the capture is attributed to the operation of the hold */
	call.request.operation = call.parts[0].operation;

	capture_fingerprint(&call);
	return holds_post(fcinfo, "credits_capture()", &call, plan_capture);
}

/*
 * Reads an item of credits_capture_many.
 */
static bool
read_capture(BatchItem *item, const ItemRow *row)
{
	HoldCall   *call = palloc0(sizeof(HoldCall));
	Request    *request = &call->request;
	text	   *account = NULL;

	if (row->isnull[CAPTURE_HOLD_ID])
		return refuse_null(&item->refusal, "hold_id");
	if (!row->isnull[CAPTURE_AMOUNT])
	{
		call->has_amount = true;
		call->amount = DatumGetInt64(row->values[CAPTURE_AMOUNT]);
		if (!valid_capture(&item->refusal, call->amount))
			return false;
	}
	if (!items_text(item, row, CAPTURE_KEY, MAX_NAME_BYTES, &request->key) ||
		!items_text(item, row, CAPTURE_REFERENCE, MAX_NAME_BYTES,
					&request->reference) ||
		!items_metadata(item, row, CAPTURE_METADATA) ||
		(!row->isnull[CAPTURE_ACCOUNT] &&
		 !items_name(item, row, CAPTURE_ACCOUNT, &account)))
		return false;
	call->final = items_bool(row, CAPTURE_FINAL, true);
	call->allow_more = items_bool(row, CAPTURE_ALLOW_MORE, false);
	if (!find_hold(DatumGetInt64(row->values[CAPTURE_HOLD_ID]), account, call,
				   &item->refusal))
		return false;

	item->account_id = call->parties[0].id;
	item->other_id = call->nparties > 1 ? call->parties[1].id : 0;
	item->members = call->way;
	item->arg = call;
	/* what was reserved for an operation is spent on that operation */
	request->operation = call->parts[0].operation;
	request->metadata = item->request.metadata;
	if (request->key)
	{
		capture_fingerprint(call);
		items_trim_fingerprint(request);
	}
	item->request = *request;
	return true;
}

/*
 * Plans an item of credits_capture_many.
 */
static bool
plan_capture_item(Posting *postings, BatchItem *item)
{
	HoldCall   *call = item->arg;

	memcpy(call->places, item->places, sizeof(call->places));
	return plan_capture(postings, call);
}

/*
 * Makes many captures, for the two SQL functions below.
 */
static Datum
capture_many(FunctionCallInfo fcinfo, bool json)
{
	bool		atomic = arg_bool(fcinfo, 1, "atomic");
	int			nitems;
	BatchItem  *items;

	ledger_lock_tables("credits_capture_many()");
	items = items_read(fcinfo, read_capture, capture_item_columns, json,
					   MAX_CAPTURES, &nitems);
	(void) bulk_post_joint("credits_capture_many()", items, nitems,
						   plan_capture_item, atomic);
	return items_return(fcinfo, items, nitems, atomic);
}

/*
 * SQL function: makes many captures.
 */
Datum
credits_capture_many(PG_FUNCTION_ARGS)
{
	return capture_many(fcinfo, false);
}

/*
 * SQL function: the same, with the items as JSON.
 */
Datum
credits_capture_many_json(PG_FUNCTION_ARGS)
{
	return capture_many(fcinfo, true);
}

/*
 * SQL function: returns what is left of a hold to the balance.
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
	get_hold("credits_release()", id, account, &call);
	begin_fingerprint(&call, KIND_RELEASE);
	return holds_post(fcinfo, "credits_release()", &call, plan_release);
}

/*
 * SQL function: lets a hold expire later.
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
	get_hold("credits_extend_hold()", id, account, &call);
	requests_add_interval(begin_fingerprint(&call, KIND_EXTENSION),
						  call.expires_in);
	return holds_post(fcinfo, "credits_extend_hold()", &call, plan_extend);
}
