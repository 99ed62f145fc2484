/*
 * disputes.c
 *	  Disputes: an account objects to a spend, and asks for some of it back.
 *
 * A dispute changes nothing in the log.  It can ask for what can still be refunded of
 * the spend, as credits_refund computes it, and a decision in its favour is such a
 * refund (review.c).  What becomes of the spend meanwhile needs no care here: the
 * refund looks at it again.
 *
 * Whoever opens, changes or ends a dispute holds the row lock of its account, as for
 * a spend; opening one, and resolving one in favour of the account, locks the pool as
 * well that has paid for a member.  A dispute that an account opens is always of one
 * of these accounts.  So nothing else has to be locked, and the unique indexes are
 * there for credits_verify and whoever reads the schema.
 *
 * What people write, the key and the actor are personal: they are in these rows and
 * nowhere else, not in events or in the log.
 *
 * Tested in test/sql/disputes.sql and test/specs/disputes.spec.
 */
#include "credits.h"

#include "disputes/disputes.h"
#include "ledger/roles.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_dispute_position);
PG_FUNCTION_INFO_V1(credits_open_dispute);
PG_FUNCTION_INFO_V1(credits_withdraw_dispute);

const char *const dispute_status_names[] = {
	"open", "in_review", "resolved", "resolved_in_part", "rejected", "withdrawn"
};

static const char *const reason_names[] = {
	"not_received", "not_as_described", "duplicate", "wrong_amount",
	"unauthorized", "other"
};

static const StoreColumn dispute_columns[] = {
	COLUMN_INT64(Dispute, id),
	COLUMN_INT64(Dispute, account_id),
	COLUMN_INT64(Dispute, transaction_id),
	COLUMN_INT64(Dispute, requested),
	COLUMN_INT64(Dispute, refunded),
	COLUMN_INT64(Dispute, refund_id, NULL_IS(0)),
	COLUMN_TIME(Dispute, opened_at),
	COLUMN_TIME(Dispute, reviewed_at, NULL_IS(0)),
	COLUMN_TIME(Dispute, overdue_at, NULL_IS(0)),
	COLUMN_TIME(Dispute, ended_at, NULL_IS(0)),
	COLUMN_INT64(Dispute, request, NULL_UNLESS(Dispute, has_request)),
	COLUMN_ENUM(Dispute, status, dispute_status_names),
	COLUMN_ENUM(Dispute, reason, reason_names),
	COLUMN_TEXT(Dispute, assignee, NULL_IF_ZERO),
	COLUMN_TEXT(Dispute, decided_by, NULL_IF_ZERO),
	COLUMN_CSTRING(Dispute, role),
	COLUMN_TEXT(Dispute, key, AS("idempotency_key"), NULL_IF_ZERO),
	COLUMN_TEXT(Dispute, description, NULL_IF_ZERO),
	COLUMN_TEXT(Dispute, note, NULL_IF_ZERO),
	COLUMN_TEXT(Dispute, actor, NULL_IF_ZERO)
};

StoreTable	disputes_table = {
	.name = "disputes",
	.sequence = "disputes_id_seq",
	ROWS_OF(Dispute, dispute_columns)
};

StoreIndex	disputes_by_id = {
	&disputes_table, "disputes_pkey", {"id"},.unique = true
};
StoreIndex	disputes_by_transaction = {
	&disputes_table, "disputes_transaction_id_idx", {"transaction_id"},
	.unique = true,.predicate = "(ended_at IS NULL)"
};
StoreIndex	disputes_by_opened_at = {
	&disputes_table, "disputes_opened_at_idx", {"opened_at", "id"},
	.predicate = "((ended_at IS NULL) AND (overdue_at IS NULL))"
};
static StoreIndex disputes_by_key = {
	&disputes_table, "disputes_idempotency_key_idx",
	{"account_id", "idempotency_key"},
	.unique = true,.predicate = "(idempotency_key IS NOT NULL)"
};

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Finds a dispute by id.
 */
bool
disputes_find(Store *store, Snapshot snapshot, int64 id, Dispute *dispute)
{
	return scan_find(store, &disputes_by_id, snapshot, dispute, BY_INT64(id));
}

/*
 * Raises the error for a dispute that does not exist or, if an account is named, is
 * not one of its own.
 */
NORETURN_COMPAT static void raise_unknown(int64 id, text *account);
static void
raise_unknown(int64 id, text *account)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 account ? errmsg("account \"%s\" has no dispute " INT64_FORMAT,
							  text_to_cstring(account), id)
			 : errmsg("dispute " INT64_FORMAT " does not exist", id),
			 errhint("Pass the dispute_id that credits_open_dispute returned.")));
}

/*
 * Begins a call that changes a dispute: finds it, and which account is to be locked.
 * Neither its account nor its transaction ever change.
 */
void
disputes_begin(const char *function, int64 id, DisputeCall *call)
{
	ledger_lock_tables(function);
	store_lock_table(&disputes_table);
	if (!disputes_find(NULL, store_snapshot(true), id, &call->dispute))
		raise_unknown(id, NULL);
	call->parties[0].name = NULL;
	call->parties[0].id = call->dispute.account_id;
	call->nparties = 1;
}

/*
 * Returns the posting of the account that has a dispute.
 */
static Posting *
posting_of(Posting *postings, const DisputeCall *call)
{
	int			i;

	for (i = 0; i < call->nparties; i++)
		if (postings[i].account.id == call->dispute.account_id)
			return &postings[i];
	elog(ERROR, "the account of dispute " INT64_FORMAT " is not locked",
		 call->dispute.id);
}

/*
 * Reads a dispute again, now that its account is locked.  Returns the account's
 * posting.
 */
Posting *
disputes_reread(Posting *postings, DisputeCall *call)
{
	Posting    *posting = posting_of(postings, call);

	if (!disputes_find(posting->store, posting->snapshot, call->dispute.id,
					   &call->dispute))
		raise_unknown(call->dispute.id, NULL);
	if (call->dispute.status == DISPUTE_UNKNOWN ||
		call->dispute.reason == REASON_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("dispute " INT64_FORMAT " has an unknown status or reason",
						call->dispute.id),
				 errhint("Run credits_verify.")));
	call->account = posting->account.name;
	return posting;
}

/*
 * Refuses to change a dispute that has ended.
 */
bool
disputes_refuse_ended(Posting *posting, const Dispute *dispute)
{
	return refuse(&posting->refusal, ERRCODE_CONFLICT,
				  psprintf("dispute " INT64_FORMAT " has ended", dispute->id),
				  psprintf("It was %s at %s; " INT64_FORMAT " of " INT64_FORMAT " credits were refunded.",
						   dispute->status == DISPUTE_RESOLVED_IN_PART ?
						   "resolved in part" : dispute_status_names[dispute->status],
						   clock_show(dispute->ended_at), dispute->refunded,
						   dispute->requested),
				  "What has ended stays as it is. Refund more of a spend with credits_refund.");
}

/*
 * Writes the row of a dispute.
 */
static void
write_row(Posting *posting, void *row)
{
	store_write(posting->store, &disputes_table, posting->snapshot, row);
}

/*
 * Has a dispute written together with its account.
 */
void
disputes_write(Posting *posting, Dispute *dispute)
{
	posting_defer(posting, write_row, dispute);
}

/*
 * Announces a step of a dispute.  The event is for the account, too: who of the staff
 * did it is in the row.
 */
void
disputes_announce(Posting *posting, const char *kind, int64 transaction_id,
				  const Dispute *dispute)
{
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "account", rows_account_name(&posting->account));
	json_int64(&json, "dispute_id", dispute->id);
	json_int64(&json, "transaction_id", dispute->transaction_id);
	json_cstring(&json, "reason", reason_names[dispute->reason]);
	json_int64(&json, "requested", dispute->requested);
	json_int64(&json, "refunded", dispute->refunded);
	json_time(&json, "opened_at", dispute->opened_at);
	events_announce_with(posting, kind, transaction_id, &json);
}

/*
 * Makes a credits.dispute.
 */
static Datum
dispute_datum(FunctionCallInfo fcinfo, const DisputeCall *call)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 12);
	const Dispute *dispute = &call->dispute;
	Datum		values[12];
	bool		isnull[12] = {false};
	Datum		result;

	values[0] = Int64GetDatum(dispute->id);
	values[1] = PointerGetDatum(call->account);
	values[2] = Int64GetDatum(dispute->transaction_id);
	values[3] = CStringGetTextDatum(reason_names[dispute->reason]);
	values[4] = Int64GetDatum(dispute->requested);
	values[5] = CStringGetTextDatum(dispute_status_names[dispute->status]);
	values[6] = PointerGetDatum(dispute->assignee);
	isnull[6] = dispute->assignee == NULL;
	values[7] = Int64GetDatum(dispute->refunded);
	values[8] = Int64GetDatum(dispute->refund_id);
	isnull[8] = dispute->refund_id == 0;
	values[9] = TimestampTzGetDatum(dispute->opened_at);
	values[10] = TimestampTzGetDatum(dispute->ended_at);
	isnull[10] = dispute->ended_at == 0;
	values[11] = BoolGetDatum(call->replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Executes a call, for an SQL function that returns a credits.dispute.
 */
Datum
disputes_post(FunctionCallInfo fcinfo, const char *function, DisputeCall *call,
			  PlanFunction plan)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!ledger_post_joint(function, call->parties, call->nparties,
						   &call->request, plan, call, &receipt, &refusal))
		raise_refusal(&refusal);
	return dispute_datum(fcinfo, call);
}

/*
 * SQL function: returns opened_at of the dispute before or after which a page begins,
 * or NULL if none is given.
 */
Datum
credits_dispute_position(PG_FUNCTION_ARGS)
{
	Dispute		dispute;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!disputes_find(NULL, GetActiveSnapshot(), PG_GETARG_INT64(0), &dispute))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("dispute " INT64_FORMAT " does not exist",
						PG_GETARG_INT64(0)),
				 errhint("Pass the dispute_id of the last row of the previous page.")));
	PG_RETURN_TIMESTAMPTZ(dispute.opened_at);
}

/* ------------------------------------------------------------------------
 * opening
 */

/* A dispute that is to be opened */
typedef struct Opening
{
	DisputeCall call;			/* must be first */
	Dispute		asked;			/* as far as the caller says */
} Opening;

/*
 * Looks for an earlier request with the same key.  Returns whether there is one; it is
 * replayed, or refused if it was another.
 */
static bool
find_opened(Posting *posting, Opening *opening)
{
	DisputeCall *call = &opening->call;
	const Dispute *asked = &opening->asked;

	if (asked->key == NULL ||
		!scan_find(posting->store, &disputes_by_key, posting->snapshot,
				   &call->dispute, BY_INT64(asked->account_id),
				   BY_TEXT(asked->key)))
		return false;
	call->replayed = true;
	if (call->dispute.request != asked->request)
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("idempotency key \"%s\" was used for another request",
						text_to_cstring(asked->key)),
			   psprintf("Account \"%s\" used it for dispute " INT64_FORMAT " about transaction " INT64_FORMAT ".",
						rows_account_name(&posting->account), call->dispute.id,
						call->dispute.transaction_id),
			   "Repeat the request with the same arguments, or use a new key.");
	return true;
}

/*
 * Plans to open a dispute, on the accounts of the refund that it asks for.
 */
static bool
plan_dispute(Posting *postings, void *arg)
{
	Opening    *opening = arg;
	DisputeCall *call = &opening->call;
	Dispute    *dispute = &call->dispute;
	Dispute		other;
	Posting    *posting;

	*dispute = opening->asked;
	posting = posting_of(postings, call);
	call->account = posting->account.name;
	call->replayed = false;
	if (find_opened(posting, opening))
		return posting->refusal.sqlstate == 0;
	dispute->requested = refund_amount(postings, &call->refund);
	if (dispute->requested == 0)
		return false;
	if (scan_find(posting->store, &disputes_by_transaction, posting->snapshot,
				  &other, BY_INT64(dispute->transaction_id)))
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("transaction " INT64_FORMAT " is disputed already",
							   dispute->transaction_id),
					  psprintf("Dispute " INT64_FORMAT " was opened at %s, and is not decided yet.",
							   other.id, clock_show(other.opened_at)),
					  "Wait for the decision, or withdraw that one with credits_withdraw_dispute.");
	dispute->id = store_next_id(&disputes_table);
	dispute->opened_at = posting->now;
	disputes_write(posting, dispute);
	disputes_announce(posting, "dispute_opened", dispute->transaction_id, dispute);
	return true;
}

/*
 * SQL function: opens a dispute about a spend.
 */
Datum
credits_open_dispute(PG_FUNCTION_ARGS)
{
	static const char function[] = "credits_open_dispute()";
	Opening		opening = {0};
	Dispute    *asked = &opening.asked;
	Refund	   *refund = &opening.call.refund;
	text	   *name = arg_account(fcinfo, 0);
	Account		account;
	StringInfoData f;

	asked->transaction_id = arg_id(fcinfo, 1, "transaction_id");
	asked->reason = (DisputeReason) ARG_CHOICE(2, "reason", reason_names);
	asked->description = arg_text(fcinfo, 3, "description", MAX_DESCRIPTION_BYTES);
	refund->has_amount = !PG_ARGISNULL(4);
	if (refund->has_amount)
		refund->amount = arg_amount(fcinfo, 4, "requested");
	asked->key = arg_text(fcinfo, 5, "idempotency_key", MAX_NAME_BYTES);
	asked->status = DISPUTE_OPEN;
	asked->role = GetUserNameFromId(GetSessionUserId(), false);
	asked->actor = roles_actor();
	asked->has_request = asked->key != NULL;
	if (asked->has_request)
	{
		initStringInfo(&f);
		requests_add_int64(&f, true, asked->transaction_id);
		requests_add_int64(&f, refund->has_amount, refund->amount);
		asked->request = chain_fingerprint(&f, NULL, 0);
	}

	ledger_lock_tables(function);
	store_lock_table(&disputes_table);
	guards_find_account(store_snapshot(true), name, &account);
	asked->account_id = account.id;
	refund_find(asked->transaction_id, name, function, refund);
	memcpy(opening.call.parties, refund->parties, sizeof(refund->parties));
	opening.call.nparties = refund->nparties;
	return disputes_post(fcinfo, function, &opening.call, plan_dispute);
}

/* ------------------------------------------------------------------------
 * withdrawing
 */

/*
 * Plans to withdraw a dispute.
 */
static bool
plan_withdraw(Posting *postings, void *arg)
{
	DisputeCall *call = arg;
	Dispute    *dispute = &call->dispute;
	Posting    *posting = disputes_reread(postings, call);

	call->replayed = dispute->status == DISPUTE_WITHDRAWN;
	if (call->replayed)
		return true;
	if (dispute->ended_at != 0)
		return disputes_refuse_ended(posting, dispute);
	dispute->status = DISPUTE_WITHDRAWN;
	dispute->ended_at = posting->now;
	disputes_write(posting, dispute);
	disputes_announce(posting, "dispute_withdrawn", dispute->transaction_id,
					  dispute);
	return true;
}

/*
 * SQL function: withdraws a dispute of an account.
 */
Datum
credits_withdraw_dispute(PG_FUNCTION_ARGS)
{
	static const char function[] = "credits_withdraw_dispute()";
	DisputeCall call = {0};
	text	   *name = arg_account(fcinfo, 0);
	int64		id = arg_id(fcinfo, 1, "dispute_id");
	Account		account;

	disputes_begin(function, id, &call);
	guards_find_account(store_snapshot(true), name, &account);
	if (account.id != call.dispute.account_id)
		raise_unknown(id, name);
	return disputes_post(fcinfo, function, &call, plan_withdraw);
}
