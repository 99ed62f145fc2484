/*
 * turns.c
 *	  Corrections of many accounts: the posting of one account whose turn has come.
 *
 * It is corrected or, if the correction is being reverted, what was posted to it is
 * undone: credits that were taken go back to the grants that they came from, and a
 * grant that was given is claimed back.
 *
 * Tested in test/sql/corrections.sql and test/t/corrections.pl.
 */
#include "credits.h"

#include "accounts/adjust.h"
#include "admin/corrections.h"
#include "ledger/audit.h"

/*
 * Writes an item with its account.
 */
static void
write_correction_item(Posting *posting, void *row)
{
	store_write(posting->store, &correction_items_table, posting->snapshot, row);
}

/*
 * Gives the credits that an adjustment has taken back to its grants.  Those of a grant
 * that has expired since expire now, as they would have.
 */
static Entry *
return_taken(Posting *posting, const Entry *target)
{
	int			max = target->ndraws;
	Draw	   *draws = palloc((max + 1) * sizeof(Draw));
	Draw	   *lost = palloc((max + 1) * sizeof(Draw));
	TransactionKind *lost_as = palloc((max + 1) * sizeof(TransactionKind));
	int			nlost = 0;
	Entry	   *entry;
	int			i;

	for (i = 0; i < max; i++)
	{
		int64		grant_id = target->draws[i].grant_id;
		int64		amount = -target->draws[i].amount;
		TransactionKind kind;

		kind = grants_give_back(posting, grants_get(posting, grant_id), amount,
								target->created_at, posting->now, posting->now,
								NULL);
		draws[i] = DRAW(grant_id, amount);
		if (kind != KIND_NONE)
		{
			lost[nlost] = DRAW(grant_id, -amount);
			lost_as[nlost++] = kind;
		}
	}
	entry = log_add(posting, KIND_ADJUSTMENT, posting->now, -target->amount, draws,
					max);
	entry->has_target = true;
	entry->target_id = target->id;
	for (i = 0; i < nlost; i++)
		log_add_loss(posting, lost_as[i], posting->now, &lost[i], entry->id);
	return entry;
}

/*
 * Claims the grant back that an adjustment has given.
 */
static Entry *
claim_given(Posting *posting, const Entry *target)
{
	int64		grant_id = target->draws[0].grant_id;
	Entry	   *entry = debts_claim(posting, grants_get(posting, grant_id),
									target->amount);

	if (entry == NULL)
		elog(ERROR, "grant " INT64_FORMAT " was claimed already", grant_id);
	entry->has_target = true;
	entry->target_id = target->id;
	return entry;
}

/*
 * Plans to undo the adjustment of an account.
 */
static Entry *
plan_reversion(Posting *posting, const CorrectionItem *item)
{
	Entry		target;
	Entry	   *entry;

	if ((!rows_find_entry(posting->store, posting->snapshot, item->transaction_id,
						  &target) &&
		 !rows_find_archived_entry(posting->store, posting->snapshot,
								   item->transaction_id, &target)) ||
		target.kind != KIND_ADJUSTMENT || target.ndraws == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("an adjustment is missing in the log"),
				 errdetail("Correction " INT64_FORMAT " has transaction " INT64_FORMAT " of account " INT64_FORMAT ".",
						   item->correction_id, item->transaction_id,
						   item->account_id),
				 errhint("Run credits_verify.")));
	entry = target.amount < 0 ? return_taken(posting, &target) :
		claim_given(posting, &target);
	audit_moved(posting, entry, AUDIT_ADJUSTMENT);
	return entry;
}

/*
 * Plans to correct an account, or to undo that.
 */
bool
turns_plan(Posting *posting, void *arg)
{
	CorrectionTurn *turn = arg;
	const Correction *correction = turn->correction;
	CorrectionItem *item = turn->item;
	Request		request = {.reason = correction->reason};

	if (correction->status == CORRECTION_REVERTING)
	{
		posting->main = plan_reversion(posting, item);
		item->reverted_id = posting->main->id;
	}
	else
	{
		if ((turn->at_once && !guards_not_closed(posting)) ||
			!adjust_post(posting, correction->delta))
			return false;
		item->transaction_id = posting->main->id;
	}
	/* a person who was erased meanwhile stays so */
	if (posting->account.status != ACCOUNT_CLOSED)
		log_describe_part(posting->main, &request);
	posting_defer(posting, write_correction_item, item);
	return true;
}
