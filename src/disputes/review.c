/*
 * review.c
 *	  What the staff does about disputes: reviewing and deciding them.
 *
 * A decision that gives something back is a refund, planned under the same locks as
 * credits_refund plans it, and written together with the row of the dispute.  So the
 * ledger's rules hold: no more comes back than is left of the spend, what is lost to
 * an expired grant is lost, a closed account gets nothing.  A decision that gives
 * nothing back needs none of that, and is always possible.
 *
 * Whoever decides is the application's actor if it says so, since all of a staff may
 * share one role, and otherwise the role.
 *
 * Tested in test/sql/disputes.sql and test/specs/disputes.spec.
 */
#include "credits.h"

#include "disputes/disputes.h"
#include "ledger/roles.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_assign_dispute);
PG_FUNCTION_INFO_V1(credits_erase_dispute);
PG_FUNCTION_INFO_V1(credits_resolve_dispute);

/*
 * Returns who makes the call.
 */
static text *
caller(void)
{
	text	   *actor = roles_actor();

	return actor ? actor :
		cstring_to_text(GetUserNameFromId(GetSessionUserId(), false));
}

/* ------------------------------------------------------------------------
 * assigning
 */

/* A dispute, and who is to review it */
typedef struct Assignment
{
	DisputeCall call;			/* must be first */
	text	   *assignee;
} Assignment;

/*
 * Plans to assign a dispute.
 */
static bool
plan_assign(Posting *postings, void *arg)
{
	Assignment *assignment = arg;
	DisputeCall *call = &assignment->call;
	Dispute    *dispute = &call->dispute;
	Posting    *posting = disputes_reread(postings, call);
	bool		begins = dispute->status == DISPUTE_OPEN;

	if (dispute->ended_at != 0)
		return disputes_refuse_ended(posting, dispute);
	call->replayed = !begins &&
		same_text(dispute->assignee, assignment->assignee);
	if (call->replayed)
		return true;
	dispute->assignee = assignment->assignee;
	if (begins)
	{
		dispute->status = DISPUTE_IN_REVIEW;
		dispute->reviewed_at = posting->now;
		disputes_announce(posting, "dispute_in_review", dispute->transaction_id,
						  dispute);
	}
	disputes_write(posting, dispute);
	return true;
}

/*
 * SQL function: says who reviews a dispute.
 */
Datum
credits_assign_dispute(PG_FUNCTION_ARGS)
{
	static const char function[] = "credits_assign_dispute()";
	Assignment	assignment = {0};
	int64		id = arg_id(fcinfo, 0, "dispute_id");

	assignment.assignee = PG_ARGISNULL(1) ? caller() :
		arg_name(fcinfo, 1, "assignee");
	disputes_begin(function, id, &assignment.call);
	return disputes_post(fcinfo, function, &assignment.call, plan_assign);
}

/* ------------------------------------------------------------------------
 * resolving
 */

/* A dispute, and how it is to be decided */
typedef struct Resolution
{
	DisputeCall call;			/* must be first */
	int64		amount;
	text	   *note;
	text	   *decided_by;
} Resolution;

/*
 * Adds the members to whom the refund may give back to those to be locked.
 */
static List *
add_members(List *keys, Posting *postings, void *arg)
{
	Resolution *resolution = arg;

	return refund_add_members(keys, postings, &resolution->call.refund);
}

/*
 * Returns the status of a dispute of which an amount is given back.
 */
static DisputeStatus
status_for(const Dispute *dispute, int64 amount)
{
	return amount == 0 ? DISPUTE_REJECTED :
		amount < dispute->requested ? DISPUTE_RESOLVED_IN_PART :
		DISPUTE_RESOLVED;
}

/*
 * Plans the refund of a dispute.  Returns the id of its transaction, 0 if it is
 * refused.
 */
static int64
plan_refund(Posting *postings, DisputeCall *call)
{
	int			i;

	if (!refund_plan(postings, &call->refund))
		return 0;
	for (i = 0; i < call->nparties; i++)
		if (postings[i].main)
			return postings[i].main->id;
	elog(ERROR, "a refund has no main transaction");
}

/*
 * Plans a decision.
 */
static bool
plan_resolve(Posting *postings, void *arg)
{
	static const char *const kinds[] = {
		[DISPUTE_RESOLVED] = "dispute_resolved",
		[DISPUTE_RESOLVED_IN_PART] = "dispute_resolved_in_part",
		[DISPUTE_REJECTED] = "dispute_rejected"
	};
	Resolution *resolution = arg;
	DisputeCall *call = &resolution->call;
	Dispute    *dispute = &call->dispute;
	Posting    *posting = disputes_reread(postings, call);
	int64		amount = resolution->amount;

	if (dispute->ended_at != 0)
	{
		call->replayed = dispute->decided_by && dispute->refunded == amount;
		return call->replayed || disputes_refuse_ended(posting, dispute);
	}
	if (amount > dispute->requested)
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("dispute " INT64_FORMAT " does not ask for that much",
							   dispute->id),
					  psprintf("It asks for " INT64_FORMAT " credits, not " INT64_FORMAT ".",
							   dispute->requested, amount),
					  "Give more back with credits_refund, or give credits with credits_allocate.");
	dispute->refund_id = 0;
	if (amount > 0)
	{
		dispute->refund_id = plan_refund(postings, call);
		if (dispute->refund_id == 0)
			return false;
	}
	dispute->refunded = amount;
	dispute->status = status_for(dispute, amount);
	dispute->ended_at = posting->now;
	dispute->decided_by = resolution->decided_by;
	dispute->note = resolution->note;
	disputes_write(posting, dispute);
	disputes_announce(posting, kinds[dispute->status],
					  amount > 0 ? dispute->refund_id : dispute->transaction_id,
					  dispute);
	return true;
}

/*
 * SQL function: decides a dispute.
 */
Datum
credits_resolve_dispute(PG_FUNCTION_ARGS)
{
	static const char function[] = "credits_resolve_dispute()";
	Resolution	resolution = {0};
	DisputeCall *call = &resolution.call;
	Refund	   *refund = &call->refund;
	int64		id = arg_id(fcinfo, 0, "dispute_id");

	resolution.amount = arg_id(fcinfo, 1, "amount");
	if (resolution.amount < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount must not be negative"),
				 errdetail("It is " INT64_FORMAT ".", resolution.amount),
				 errhint("Pass 0 to reject the dispute.")));
	resolution.note = arg_text(fcinfo, 2, "note", MAX_DESCRIPTION_BYTES);
	resolution.decided_by = caller();
	disputes_begin(function, id, call);

	/* to reject one, and to be told that it has ended, takes no refund */
	if (resolution.amount > 0 && call->dispute.ended_at == 0)
	{
		refund->has_amount = true;
		refund->amount = resolution.amount;
		refund->request = &call->request;
		refund_find(call->dispute.transaction_id, NULL, function, refund);
		memcpy(call->parties, refund->parties, sizeof(refund->parties));
		call->nparties = refund->nparties;
		call->request.add_members = add_members;
		/* not the note, which is for the account to read where the dispute is */
		call->request.reason = cstring_to_text(psprintf("dispute " INT64_FORMAT,
														id));
	}
	return disputes_post(fcinfo, function, call, plan_resolve);
}

/* ------------------------------------------------------------------------
 * being late
 */

/*
 * Plans to announce that a dispute is overdue.
 */
static bool
plan_overdue(Posting *postings, void *arg)
{
	DisputeCall *call = arg;
	Dispute    *dispute = &call->dispute;
	Posting    *posting = disputes_reread(postings, call);

	/* it may have ended since it was found, or been announced */
	if (dispute->ended_at != 0 || dispute->overdue_at != 0)
		return false;
	dispute->overdue_at = posting->now;
	disputes_write(posting, dispute);
	disputes_announce(posting, "dispute_overdue", dispute->transaction_id,
					  dispute);
	return true;
}

/*
 * Announces once that a dispute is overdue, on behalf of a job.  Returns false if
 * there is nothing to announce, or its account is locked: then the next run does it.
 */
bool
review_announce_overdue(const char *function, int64 id)
{
	DisputeCall call = {0};
	Refusal		refusal;

	disputes_begin(function, id, &call);
	return ledger_post_due(function, call.dispute.account_id, plan_overdue, &call,
						   NULL, &refusal) == POSTED;
}

/* ------------------------------------------------------------------------
 * erasing
 */

/* What is to be erased, and whether there is any */
typedef struct DisputeErasure
{
	DisputeCall call;			/* must be first */
	bool		erased;
} DisputeErasure;

/*
 * Plans to erase what may name a person.
 */
static bool
plan_forget(Posting *postings, void *arg)
{
	DisputeErasure *erasure = arg;
	Dispute    *dispute = &erasure->call.dispute;
	Posting    *posting = disputes_reread(postings, &erasure->call);

	erasure->erased = dispute->description || dispute->note || dispute->key ||
		dispute->actor;
	if (!erasure->erased)
		return true;
	dispute->description = dispute->note = dispute->key = dispute->actor = NULL;
	dispute->has_request = false;
	disputes_write(posting, dispute);
	return true;
}

/*
 * SQL function: erases from a dispute what may name a person.
 */
Datum
credits_erase_dispute(PG_FUNCTION_ARGS)
{
	static const char function[] = "credits_erase_dispute()";
	DisputeErasure erasure = {0};
	DisputeCall *call = &erasure.call;
	Receipt		receipt;
	Refusal		refusal;

	disputes_begin(function, arg_id(fcinfo, 0, "dispute_id"), call);
	if (!ledger_post_joint(function, call->parties, call->nparties,
						   &call->request, plan_forget, &erasure, &receipt,
						   &refusal))
		raise_refusal(&refusal);
	PG_RETURN_BOOL(erasure.erased);
}
