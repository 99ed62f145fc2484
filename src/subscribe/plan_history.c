/*
 * plan_history.c
 *	  Which plan a subscription had when: the rows of credits.plan_changes.
 *
 * Tested in test/sql/plan_changes.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "subscribe/periods.h"
#include "subscribe/plan_history.h"

static const StoreColumn plan_change_columns[] = {
	COLUMN_INT64(PlanChanged, subscription_id),
	COLUMN_TIME(PlanChanged, at),
	COLUMN_CSTRING(PlanChanged, reference),
	COLUMN_INT64(PlanChanged, plan_id),
	COLUMN_ENUM(PlanChanged, proration, proration_names),
	COLUMN_NUMERIC(PlanChanged, carried, NULL_IF_ZERO)
};

StoreTable	plan_changes_table = {
	.name = "plan_changes",
	ROWS_OF(PlanChanged, plan_change_columns)
};

static StoreIndex plan_changes_by_instant = {
	&plan_changes_table, "plan_changes_pkey",
	{"subscription_id", "at", "reference"},.unique = true
};

/*
 * Reads the plan changes of a subscription from an instant on, in order.
 */
List *
plan_history_read(Store *store, Snapshot snapshot, int64 subscription_id,
				  TimestampTz from)
{
	List	   *notes = NIL;
	StoreScan	scan;
	PlanChanged *note = palloc(sizeof(PlanChanged));

	scan_begin(&scan, store, &plan_changes_by_instant, snapshot,
			   BY_INT64(subscription_id), BY_TIME_FROM(from));
	while (scan_read(&scan, ForwardScanDirection, note))
	{
		notes = lappend(notes, note);
		note = palloc(sizeof(PlanChanged));
	}
	scan_end(&scan);
	return notes;
}

/*
 * Finds the change with which a period began at an instant, because it ended the
 * one before.
 */
bool
plan_history_find_begun(Posting *posting, int64 subscription_id,
						TimestampTz at, PlanChanged *begun)
{
	StoreScan	scan;
	PlanChanged note;
	bool		found = false;

	scan_begin(&scan, posting->store, &plan_changes_by_instant,
			   posting->snapshot, BY_INT64(subscription_id), BY_TIME(at));
	while (scan_read(&scan, ForwardScanDirection, &note))
		if (note.carried != 0)
		{
			*begun = note;
			found = true;
		}
	scan_end(&scan);
	return found;
}

/*
 * Writes a change of plan.
 */
static void
write_plan_change(Posting *posting, void *row)
{
	store_insert(posting->store, &plan_changes_table, row);
}

/*
 * Has a change of plan written together with the account.
 */
PlanChanged *
plan_history_note(Posting *posting, int64 subscription_id, TimestampTz at,
				  int64 plan_id, Proration proration, const char *reference)
{
	PlanChanged *change = palloc0(sizeof(PlanChanged));

	change->subscription_id = subscription_id;
	change->at = at;
	change->plan_id = plan_id;
	change->proration = proration;
	change->reference = reference;
	posting_defer(posting, write_plan_change, change);
	return change;
}

/*
 * Changes the plan of a subscription from an instant on, for a reason that the
 * reference tells.  The plan is in force now, unless there is a later change
 * that became known first.
 */
void
plan_history_change(Posting *posting, Subscription *subscription,
					TimestampTz at, int64 plan_id, const char *reference)
{
	PlanChanged later;
	Period	   *period = periods_before(posting, subscription->id, at + 1);

	(void) plan_history_note(posting, subscription->id, at, plan_id,
							 PRORATE_BY_TIME, reference);
	if (period && period->earned != 0 && at < period->ends_at)
		periods_forget_changes(posting, period);
	if (!scan_find(posting->store, &plan_changes_by_instant,
				   posting->snapshot, &later, BY_INT64(subscription->id),
				   BY_TIME_AFTER(at)))
		subscription->plan_id = plan_id;
	subscriptions_changed(posting, subscription);
}

/*
 * Returns the plan that a subscription had just before an instant.
 */
const PlanTerms *
plan_history_before(Posting *posting, const Subscription *subscription,
					TimestampTz at)
{
	StoreScan	scan;
	PlanChanged last;
	int64		plan_id = subscription->plan_id;

	scan_begin(&scan, posting->store, &plan_changes_by_instant,
			   posting->snapshot, BY_INT64(subscription->id),
			   BY_TIME_BEFORE(at));
	if (scan_peek(&scan, BackwardScanDirection, &last))
		plan_id = last.plan_id;
	scan_end(&scan);
	return plans_get(plan_id);
}
