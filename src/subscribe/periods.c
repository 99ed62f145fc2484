/*
 * periods.c
 *	  The periods of a subscription as rows, and the credits that they give.
 *
 * A posting reads a period once and then changes it in memory; it is written
 * together with the account.
 *
 * Tested in test/sql/renew.sql and test/sql/subscriptions.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/periods.h"

#include "miscadmin.h"
#include "utils/builtins.h"

static const char *const period_status_names[] = {
	"granted", "skipped", "trial"
};

static const StoreColumn period_columns[] = {
	COLUMN_INT64(Period, subscription_id),
	COLUMN_TIME(Period, starts_at),
	COLUMN_TIME(Period, ends_at),
	COLUMN_INT64(Period, number),
	COLUMN_INT64(Period, account_id),
	COLUMN_INT64(Period, plan_id),
	COLUMN_ENUM(Period, status, period_status_names),
	COLUMN_INT64(Period, credits),
	COLUMN_INT64(Period, given),
	COLUMN_INT64(Period, unused, NULL_IS(-1)),
	COLUMN_INT64(Period, again, NULL_IS(-1)),
	COLUMN_INT64(Period, rolled, NULL_IS(-1)),
	COLUMN_INT64S(Period, rolled_grant_ids, nrolled),
	COLUMN_INT64(Period, grace_grant_id, NULL_IF_ZERO),
	COLUMN_INT64(Period, grace_spent, NULL_IS(-1)),
	COLUMN_INT64(Period, transaction_id, NULL_IF_ZERO),
	COLUMN_INT64(Period, grant_id, NULL_IF_ZERO),
	COLUMN_INT64(Period, withdrawn, NULL_IF_ZERO),
	COLUMN_NUMERIC(Period, price, NULL_IF_ZERO),
	COLUMN_TEXT(Period, currency, NULL_IF_ZERO),
	COLUMN_INT64(Period, claimed, NULL_IF_ZERO),
	COLUMN_INT64(Period, paid, NULL_WHERE(Period, granted, -1)),
	COLUMN_INT64(Period, granted, NULL_IS(-1)),
	COLUMN_INT64(Period, taken, NULL_WHERE(Period, granted, -1)),
	COLUMN_INT64(Period, carried, NULL_WHERE(Period, granted, -1)),
	COLUMN_INT64(Period, credited, NULL_WHERE(Period, granted, -1)),
	COLUMN_INT64(Period, reversed, NULL_WHERE(Period, granted, -1)),
	COLUMN_INT64(Period, late, NULL_WHERE(Period, granted, -1)),
	COLUMN_TIME(Period, changed_at, NULL_IS(DT_NOBEGIN)),
	COLUMN_NUMERIC(Period, earned, NULL_IF_ZERO),
	COLUMN_INT64(Period, earning, NULL_WHERE(Period, changed_at, DT_NOBEGIN)),
	COLUMN_TIME(Period, earning_since, NULL_WHERE(Period, changed_at, DT_NOBEGIN))
};

StoreTable	periods_table = {
	.name = "periods",
	ROWS_OF(Period, period_columns)
};

StoreIndex	periods_by_start = {
	&periods_table, "periods_pkey", {"subscription_id", "starts_at", "ends_at"},
	.unique = true
};

StoreIndex	periods_paid_by_end = {
	&periods_table, "periods_paid_key", {"subscription_id", "ends_at"},
	.unique = true,.predicate = "(granted IS NOT NULL)"
};

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Raises an error if someone has damaged a period.
 */
static void
check_period(const Period *period)
{
	if (period->status == PERIOD_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a period of subscription " INT64_FORMAT " has an unknown status",
						period->subscription_id),
				 errhint("Restore table credits.periods.")));
}

/*
 * Adds a period to those of a posting.  If the posting has a copy of it already,
 * which may begin or end at another instant by now, returns that one.
 */
static Period *
remember(Posting *posting, Period *period)
{
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	if (period->known)
		return period;
	/* there is no copy of one that is new */
	foreach(lc, ItemPointerIsValid(&period->tid) ? posting->periods : NIL)
	{
		Period	   *other = lfirst(lc);

		if (ItemPointerIsValid(&other->tid) &&
			ItemPointerEquals(&other->tid, &period->tid))
			return other;
	}
	period->known = true;
	posting->periods = lappend(posting->periods, period);
	return period;
}

/*
 * Returns the period of a subscription that begins at an instant, NULL if there
 * is none.
 */
Period *
periods_in(Posting *posting, int64 subscription_id, TimestampTz starts_at)
{
	Period	   *period;
	int			i;

	CHECK_FOR_INTERRUPTS();
	/* a late renewal makes many, and asks for the last one each time */
	for (i = list_length(posting->periods) - 1; i >= 0; i--)
	{
		period = list_nth(posting->periods, i);
		if (period->subscription_id == subscription_id &&
			period->starts_at == starts_at)
			return period;
	}
	period = palloc(sizeof(Period));
	if (!scan_find(posting->store, &periods_by_start, posting->snapshot,
				   period, BY_INT64(subscription_id), BY_TIME(starts_at)))
		return NULL;
	check_period(period);
	period = remember(posting, period);
	return period->starts_at == starts_at ? period : NULL;
}

/*
 * Returns the period of a subscription that ends at an instant, if its credits
 * follow what was paid, and else NULL.
 */
Period *
periods_paid(Posting *posting, int64 subscription_id, TimestampTz ends_at)
{
	Period	   *period;
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	foreach(lc, posting->periods)
	{
		period = lfirst(lc);
		if (period->subscription_id == subscription_id &&
			period->ends_at == ends_at && period->granted >= 0)
			return period;
	}
	period = palloc(sizeof(Period));
	if (!scan_find(posting->store, &periods_paid_by_end, posting->snapshot,
				   period, BY_INT64(subscription_id), BY_TIME(ends_at)))
		return NULL;
	check_period(period);
	return remember(posting, period);
}

/*
 * Returns the period that ends next before an instant, or after it, of those
 * whose credits follow what was paid.  NULL if there is none.
 */
Period *
periods_paid_beside(Posting *posting, int64 subscription_id,
					TimestampTz ends_at, bool after)
{
	StoreScan	scan;
	Period	   *read = palloc(sizeof(Period));
	Period	   *found = NULL;
	ListCell   *lc;

	scan_begin(&scan, posting->store, &periods_paid_by_end, posting->snapshot,
			   BY_INT64(subscription_id),
			   after ? BY_TIME_AFTER(ends_at) : BY_TIME_BEFORE(ends_at));
	if (scan_read(&scan, after ? ForwardScanDirection : BackwardScanDirection,
				  read))
	{
		check_period(read);
		found = remember(posting, read);
	}
	scan_end(&scan);
	/* periods that this posting adds are not in the table yet */
	foreach(lc, posting->periods)
	{
		Period	   *other = lfirst(lc);

		if (other->subscription_id == subscription_id && other->granted >= 0 &&
			(after ? other->ends_at > ends_at : other->ends_at < ends_at) &&
			(found == NULL || (after ? other->ends_at < found->ends_at :
							   other->ends_at > found->ends_at)))
			found = other;
	}
	return found;
}

/*
 * Finds the period of a subscription that begins at an instant, as a snapshot
 * shows it.
 */
bool
periods_read(Snapshot snapshot, int64 subscription_id, TimestampTz starts_at,
			 Period *period)
{
	if (!scan_find(NULL, &periods_by_start, snapshot, period,
				   BY_INT64(subscription_id), BY_TIME(starts_at)))
		return false;
	check_period(period);
	return true;
}

/*
 * Finds the period of a subscription that ends at an instant, as a snapshot shows
 * it, of those whose credits follow what was paid.
 */
bool
periods_read_paid(Snapshot snapshot, int64 subscription_id,
				  TimestampTz ends_at, Period *period)
{
	if (!scan_find(NULL, &periods_paid_by_end, snapshot, period,
				   BY_INT64(subscription_id), BY_TIME(ends_at)))
		return false;
	check_period(period);
	return true;
}

/*
 * Returns the last period of a subscription that begins before an instant, NULL
 * if there is none.
 */
Period *
periods_before(Posting *posting, int64 subscription_id, TimestampTz at)
{
	StoreScan	scan;
	Period	   *read = palloc(sizeof(Period));
	Period	   *period = NULL;
	ListCell   *lc;

	scan_begin(&scan, posting->store, &periods_by_start, posting->snapshot,
			   BY_INT64(subscription_id), BY_TIME_BEFORE(at));
	while (period == NULL && scan_read(&scan, BackwardScanDirection, read))
	{
		check_period(read);
		period = remember(posting, read);
		/* this posting may have moved its start */
		if (period->starts_at >= at)
			period = NULL;
		read = palloc(sizeof(Period));
	}
	scan_end(&scan);
	/* periods that this posting adds are not in the table yet */
	foreach(lc, posting->periods)
	{
		Period	   *other = lfirst(lc);

		if (other->subscription_id == subscription_id &&
			other->starts_at < at &&
			(period == NULL || other->starts_at > period->starts_at))
			period = other;
	}
	return period;
}

/*
 * Writes a period.
 */
static void
write_period(Posting *posting, void *row)
{
	store_write(posting->store, &periods_table, posting->snapshot, row);
}

/*
 * Has a period written together with the account.
 */
void
periods_changed(Posting *posting, Period *period)
{
	if (!period->changed)
		posting_defer(posting, write_period, period);
	period->changed = true;
}

/*
 * Has what a period entitles to computed anew, from all changes of plan within
 * it, when the plan is changed next.
 */
void
periods_forget_changes(Posting *posting, Period *period)
{
	period->changed_at = DT_NOBEGIN;
	period->earned = 0;
	periods_changed(posting, period);
}

/*
 * Returns a new period, which has given nothing yet.  It is not written before
 * periods_keep is called for it.
 */
Period *
periods_new(const Subscription *subscription, int64 number,
			TimestampTz starts_at, TimestampTz ends_at, int64 plan_id)
{
	Period	   *period = palloc0(sizeof(Period));

	ItemPointerSetInvalid(&period->tid);
	period->subscription_id = subscription->id;
	period->starts_at = starts_at;
	period->ends_at = ends_at;
	period->number = number;
	period->account_id = subscription->account_id;
	period->plan_id = plan_id;
	period->status = PERIOD_GRANTED;
	period->unused = period->again = period->rolled = period->granted = -1;
	period->grace_spent = -1;
	period->changed_at = DT_NOBEGIN;
	return period;
}

/*
 * Adds a period to a posting, and has it written together with the account.
 */
void
periods_keep(Posting *posting, Period *period)
{
	(void) remember(posting, period);
	periods_changed(posting, period);
}

/* ------------------------------------------------------------------------
 * credits
 */

/*
 * Gives a grant of a period, and returns its transaction, whose terms say what
 * the grant is given as: "rolled", "grace" or, if that is NULL, one of its own.
 * A grant that has expired already is given and expires at once, so that the log
 * has both.
 */
Entry *
periods_give_grant(Posting *posting, const Period *period,
				   const PlanTerms *plan, const char *source, int64 amount,
				   Datum price, TimestampTz effective_at,
				   TimestampTz expires_at, const char *as, Grant **made)
{
	TimestampTz due_at = posting->account.due_at;
	bool		over = expires_at <= posting->now;
	JsonObject	json;
	Grant	   *grant;
	Entry	   *entry;
	int64		given;

	grant = grants_new(posting, amount, cstring_to_text(source), effective_at,
					   expires_at);
	if (plan->priority >= 0)
		grant->priority = plan->priority;
	if (price)
	{
		grant->price = price;
		grant->currency = plan->currency;
	}
	given = grant->status == GRANT_PENDING ? 0 : amount;
	entry = log_add(posting, KIND_ALLOCATION, posting->now, given,
					grants_draw(grant, amount), 1);
	grant->transaction_id = entry->id;
	json_begin(&json);
	grants_add_terms(&json, grant);
	json_int64(&json, "subscription_id", period->subscription_id);
	json_time(&json, "period_start", period->starts_at);
	/* its start may move as more of it is paid, its end does not */
	if (period->granted >= 0)
		json_time(&json, "period_end", period->ends_at);
	if (as)
		json_bool(&json, as, true);
	entry->terms = json_document(&json);
	if (over)
	{
		grant->status = GRANT_EXPIRED;
		grant->remaining = 0;
		log_add(posting, KIND_EXPIRATION, posting->now, -amount,
				grants_lose(grant, amount), 1);
		/* nothing is due at its expiry any more */
		posting->account.due_at = due_at;
	}
	*made = grant;
	return entry;
}

/*
 * Adds what a grant was sold for to the price of its period, which has a currency
 * as long as each of its grants has a price in it.
 */
void
periods_add_price(Period *period, const Grant *grant, bool first)
{
	if (first)
		period->currency = grant->price && grant->currency ?
			DatumGetTextPCopy(PointerGetDatum(grant->currency)) : NULL;
	else if (grant->price == 0 || grant->currency == NULL ||
			 period->currency == NULL ||
			 !same_text(period->currency, grant->currency))
		period->currency = NULL;
	if (grant->price)
		period->price = add(period->price ? period->price : number(0),
							grant->price);
}

/*
 * Adds a grant, which an entry has given, to those of a period.
 */
void
periods_add_grant(Period *period, const Entry *entry, Grant *grant,
				  int64 amount)
{
	periods_add_price(period, grant, period->grant_id == 0);
	if (period->grant_id == 0)
	{
		period->grant_id = grant->id;
		period->transaction_id = entry->id;
		period->credits = amount;
	}
	grant->group_id = period->grant_id;
	if (period->granted >= 0 && grant->expires_at != period->ends_at)
		period->late += amount;
}

/*
 * Gives credits of a period as a grant of its own, when it begins or when a
 * change of plan adds to it.  price is 0 if the grant has none.  The account's
 * limits may cut the amount, or forbid it: then NULL is returned, with the
 * posting's refusal set.
 */
Entry *
periods_give(Posting *posting, Period *period, const PlanTerms *plan,
			 int64 amount, Datum price)
{
	bool		over = period->ends_at <= posting->now;
	Grant	   *grant;
	Entry	   *entry;

	/* credits of a period that is over never get into the balance */
	if (!over && !limit_rules_receive(posting, &amount, true))
		return NULL;
	if (!log_may_grant(posting, amount))
		return NULL;
	entry = periods_give_grant(posting, period, plan,
							   period->status == PERIOD_TRIAL ?
							   "trial" : "subscription", amount, price,
							   period->starts_at, period->ends_at, NULL,
							   &grant);
	periods_add_grant(period, entry, grant, amount);
	period->given += amount;
	if (over)
		period->unused = Max(period->unused, 0) + amount;
	periods_keep(posting, period);
	return entry;
}

/*
 * Takes back an amount of what remains of an open or pending grant.  The terms
 * say why; NULL if its subscription ended.
 */
void
periods_void(Posting *posting, Grant *grant, int64 amount, Jsonb *terms)
{
	/* a pending grant is not in the balance yet */
	int64		taken = grant->status == GRANT_PENDING ? 0 : amount;
	Entry	   *entry = log_add(posting, KIND_VOID, posting->now, -taken,
								grants_lose(grant, amount), 1);

	entry->terms = terms;
	grant->remaining -= amount;
	if (grant->remaining == 0)
		grant->status = GRANT_VOIDED;
}

/*
 * Takes back all that remains of some grants.
 */
static void
void_grants(Posting *posting, List *grants)
{
	ListCell   *lc;

	foreach(lc, grants)
	{
		Grant	   *grant = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (grant->status == GRANT_OPEN || grant->status == GRANT_PENDING)
			periods_void(posting, grant, grant->remaining, NULL);
	}
}

/*
 * Takes back what remains of all grants of a subscription, including those that
 * were rolled over.
 */
void
periods_take_back(Posting *posting, const Subscription *subscription)
{
	StoreScan	scan;
	Period	   *read = palloc(sizeof(Period));
	ListCell   *lc;

	scan_begin(&scan, posting->store, &periods_by_start, posting->snapshot,
			   BY_INT64(subscription->id));
	while (scan_read(&scan, ForwardScanDirection, read))
	{
		check_period(read);
		(void) remember(posting, read);
		read = palloc(sizeof(Period));
	}
	scan_end(&scan);
	foreach(lc, posting->periods)
	{
		Period	   *period = lfirst(lc);
		List	   *grants;
		int64		left;
		int			i;

		if (period->subscription_id != subscription->id)
			continue;
		grants = groups_read(posting, period->grant_id, GROUP_LEFT,
							 PG_INT64_MAX, &left);
		for (i = 0; i < period->nrolled; i++)
			grants = lappend(grants, grants_get(posting,
												period->rolled_grant_ids[i]));
		if (period->grace_grant_id != 0)
			grants = lappend(grants, grants_get(posting,
												period->grace_grant_id));
		void_grants(posting, grants);
	}
}
