/*
 * disputes.c
 *	  credits_verify: disputes.
 *
 * What was refunded for a dispute is what the log says, of the transaction that it is
 * about; no transaction is disputed twice at a time; and status and columns agree.
 */
#include "credits.h"

#include "disputes/disputes.h"
#include "verify/verify.h"

#include "utils/snapmgr.h"

/*
 * Returns whether a dispute has what its status says.
 */
static bool
agrees_with_status(const Dispute *dispute)
{
	bool		ended = dispute->ended_at != 0;
	bool		decided = dispute->decided_by != NULL;
	bool		reviewed = dispute->assignee != NULL;

	if (dispute->requested <= 0 ||
		(dispute->refunded != 0) != (dispute->refund_id != 0) ||
		reviewed != (dispute->reviewed_at != 0))
		return false;
	switch (dispute->status)
	{
		case DISPUTE_OPEN:
			return !ended && !decided && !reviewed && dispute->refunded == 0;
		case DISPUTE_IN_REVIEW:
			return !ended && !decided && reviewed && dispute->refunded == 0;
		case DISPUTE_RESOLVED:
			return ended && decided && dispute->refunded == dispute->requested;
		case DISPUTE_RESOLVED_IN_PART:
			return ended && decided && dispute->refunded > 0 &&
				dispute->refunded < dispute->requested;
		case DISPUTE_REJECTED:
			return ended && decided && dispute->refunded == 0;
		case DISPUTE_WITHDRAWN:
			return ended && !decided && dispute->refunded == 0;
		case DISPUTE_UNKNOWN:
			break;
	}
	return false;
}

/*
 * Finds a transaction in the log, or among those that have left it.
 */
static bool
find_in_books(int64 id, Entry *entry)
{
	return rows_find_entry(NULL, GetActiveSnapshot(), id, entry) ||
		rows_find_archived_entry(NULL, GetActiveSnapshot(), id, entry);
}

/*
 * Returns whether a refund is of a transaction, or of the other part of it if that
 * was split.
 */
static bool
is_refund_of(const Entry *refund, int64 transaction_id)
{
	Entry		spend;
	ListCell   *lc;

	if (refund->kind != KIND_REFUND || !refund->has_target)
		return false;
	if (refund->target_id == transaction_id)
		return true;
	if (!find_in_books(transaction_id, &spend))
		return false;
	foreach(lc, terms_ids(&spend, "parts"))
	{
		if (*(int64 *) lfirst(lc) == refund->target_id)
			return true;
	}
	return false;
}

/*
 * Returns what is wrong with the refund of a dispute, NULL if it is right.  One that
 * was exported and dropped from the database cannot be checked.
 */
static const char *
problem_of_refund(const Verification *v, const Dispute *dispute)
{
	Entry		refund;
	int64		amount;

	if (!find_in_books(dispute->refund_id, &refund))
		return dispute->refund_id <= v->left_until ? NULL :
			"names a refund that does not exist";
	if (!is_refund_of(&refund, dispute->transaction_id))
		return "names a transaction that is not a refund of what it is about";
	amount = refund.amount;
	(void) terms_int64(&refund, "total", &amount);
	return amount == dispute->refunded ? NULL :
		"has another amount than its refund";
}

/*
 * Returns whether there is another dispute about the same transaction that has not
 * ended either.
 */
static bool
has_rival(const Dispute *dispute)
{
	StoreScan	scan;
	Dispute		other;
	bool		found = false;

	scan_begin(&scan, NULL, &disputes_by_transaction, GetActiveSnapshot(),
			   BY_INT64(dispute->transaction_id));
	while (!found && scan_peek(&scan, ForwardScanDirection, &other))
		found = other.id != dispute->id;
	scan_end(&scan);
	return found;
}

/*
 * Returns what is wrong with a dispute, NULL if it is right.
 */
static const char *
problem_of_dispute(const Verification *v, const Dispute *dispute, bool has_account)
{
	Entry		spend;

	if (!has_account)
		return "is of an account that does not exist";
	if (dispute->reason == REASON_UNKNOWN || !agrees_with_status(dispute))
		return "is not what its status says";
	if (find_in_books(dispute->transaction_id, &spend))
	{
		if (spend.account_id != dispute->account_id &&
			spend.member_id != dispute->account_id)
			return "is about a transaction of another account";
		if (kinds_info(spend.kind)->undone_by != KIND_REFUND)
			return "is about a transaction that is not a spend";
	}
	else if (dispute->transaction_id > v->left_until)
		return "is about a transaction that does not exist";
	if (dispute->refund_id != 0)
		return problem_of_refund(v, dispute);
	if (dispute->ended_at == 0 && has_rival(dispute))
		return "is not the only one about its transaction";
	return NULL;
}

/*
 * Reports a dispute that does not agree with the log, or with itself.
 */
static void
check_dispute(Verification *v, TupleTableSlot *slot)
{
	Dispute		dispute;
	Account		account;
	bool		has_account;
	const char *problem;

	codec_read(&disputes_table, slot, &dispute);
	has_account = scan_find(NULL, &accounts_by_id, GetActiveSnapshot(), &account,
							BY_INT64(dispute.account_id));
	problem = problem_of_dispute(v, &dispute, has_account);
	if (problem == NULL)
		return;
	v->name = has_account ? account.name : NULL;
	verify_report(v, dispute.transaction_id, "dispute",
				  psprintf("dispute " INT64_FORMAT " %s", dispute.id, problem));
	v->name = NULL;
}

/*
 * Checks all disputes.
 */
void
verify_all_disputes(Verification *v)
{
	verify_each(v, &disputes_by_id, check_dispute);
}
