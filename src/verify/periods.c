/*
 * periods.c
 *	  credits_verify: periods of subscriptions.
 *
 * Checks that there is a row for each period whose credits were given: if it
 * were lost, they could be given again.  And that the row is right: what is
 * prorated and rolled over is calculated from it.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/paid_parts.h"
#include "subscribe/periods.h"
#include "subscribe/proration.h"
#include "verify/verify.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * Returns whether a period contains a grant: as one of its own, or as
 * one that was rolled over from it or in which its credits lived on.
 */
static bool
names_grant(HTAB *grants, const Period *period, int64 grant_id, bool rolled,
			bool grace)
{
	TimestampTz lasts_until;
	int			i;

	if (grace)
		return period->grace_grant_id == grant_id;
	if (!rolled)
		return verify_group_of(grants, grant_id, &lasts_until) ==
			period->grant_id;
	for (i = 0; i < period->nrolled; i++)
		if (period->rolled_grant_ids[i] == grant_id)
			return true;
	return false;
}

/*
 * Checks the period of a transaction that gives the credits of a subscription.
 */
void
verify_period(Verification *v, HTAB *grants, const Entry *entry)
{
	int64		subscription_id;
	TimestampTz starts_at;
	TimestampTz ends_at;
	bool		rolled;
	bool		grace;
	Period		period;

	if (entry->kind != KIND_ALLOCATION || entry->ndraws != 1 ||
		!terms_int64(entry, "subscription_id", &subscription_id))
		return;
	starts_at = terms_time(entry, "period_start");
	if (starts_at == DT_NOEND)
		return;
	rolled = terms_get(entry, "rolled") != NULL;
	grace = terms_get(entry, "grace") != NULL;
	if (!rolled && !grace)
		verify_note_period(grants, entry->draws[0].grant_id);
	/* the end is the identity of a period whose credits follow what was paid */
	ends_at = terms_time(entry, "period_end");
	if (!(ends_at == DT_NOEND ?
		  periods_read(GetActiveSnapshot(), subscription_id, starts_at,
					   &period) :
		  periods_read_paid(GetActiveSnapshot(), subscription_id, ends_at,
							&period)) ||
		period.account_id != entry->account_id)
		verify_report(v, entry->id, "period",
					  psprintf("the row of a period of subscription " INT64_FORMAT " is missing, so that it could be given again",
							   subscription_id));
	else if (!names_grant(grants, &period, entry->draws[0].grant_id, rolled,
						  grace))
		verify_report(v, entry->id, "period",
					  psprintf("a period of subscription " INT64_FORMAT " does not name grant " INT64_FORMAT ", which it gave",
							   subscription_id, entry->draws[0].grant_id));
}

/*
 * Returns whether two periods were sold for the same.
 */
static bool
same_price(const Period *a, const Period *b)
{
	return (a->price == 0) == (b->price == 0) &&
		(a->price == 0 || compare(a->price, b->price) == 0) &&
		(a->currency == NULL) == (b->currency == NULL) &&
		(a->currency == NULL || same_text(a->currency, b->currency));
}

/*
 * Checks the grants of a period against what its row says that they gave.
 */
static void
check_period_row(Verification *v, HTAB *grants, HTAB *debts,
				 const Period *period)
{
	char	   *what = psprintf("period %s of subscription " INT64_FORMAT,
								clock_show(period->starts_at),
								period->subscription_id);
	StoreScan	scan;
	Grant		grant;
	int64		first = 0;
	int64		first_by = 0;
	int64		given = 0;
	int64		withdrawn = 0;
	int64		late = 0;
	int64		claimed = 0;
	int64		group_owed = 0;
	int64		owed = 0;
	int64		rolled = 0;
	Period		sold = {0};
	bool		is_first = true;
	int64		amount;
	int64		by;
	int64		taken;
	int			i;

	if (period->grant_id != 0 &&
		!verify_find_grant(grants, period->grant_id, &first, &first_by, &taken))
	{
		verify_report(v, 0, "period",
					  psprintf("%s names grant " INT64_FORMAT ", which the account does not have",
							   what, period->grant_id));
		return;
	}
	scan_begin(&scan, NULL, &grants_by_group, GetActiveSnapshot(),
			   BY_INT64(period->grant_id));
	while (scan_peek(&scan, ForwardScanDirection, &grant))
	{
		CHECK_FOR_INTERRUPTS();
		if (!verify_find_grant(grants, grant.id, &amount, &by, &taken))
		{
			verify_report(v, 0, "period",
						  psprintf("%s names grant " INT64_FORMAT ", which the account does not have",
								   what, grant.id));
			continue;
		}
		periods_add_price(&sold, &grant, is_first);
		is_first = false;
		claimed = verify_add(claimed, verify_claimed(debts, grant.id));
		owed = verify_add(owed, verify_owed(debts, grant.id));
		if (grant.id == period->grant_id)
			group_owed = grant.group_owed;
		if (grant.lost_claimed != (grant.lost > 0 &&
								   verify_gone(debts, grant.id) >= grant.lost))
			verify_report(v, 0, "grants",
						  psprintf("grant " INT64_FORMAT " says wrongly whether all that it has lost is claimed",
								   grant.id));
		given = verify_add(given, verify_add(amount, -taken));
		withdrawn = verify_add(withdrawn, taken);
		if (grants_lasts_until(&grant) != period->ends_at)
			late = verify_add(late, amount);
	}
	scan_end(&scan);
	verify_expect(v, 0, "period", psprintf("credits of %s", what),
				  period->credits, first);
	verify_expect(v, 0, "period", psprintf("withdrawn of %s", what),
				  period->withdrawn, withdrawn);
	verify_expect(v, 0, "period", psprintf("claimed of %s", what),
				  period->claimed, claimed);
	verify_expect(v, 0, "period",
				  psprintf("group_owed of the first grant of %s", what),
				  group_owed, owed);
	if (!same_price(period, &sold))
		verify_report(v, 0, "period",
					  psprintf("what %s was sold for is not the sum of the prices of its grants",
							   what));
	if (period->granted >= 0)
	{
		verify_expect(v, 0, "period", psprintf("granted of %s", what),
					  period->granted, given);
		verify_expect(v, 0, "period", psprintf("late of %s", what),
					  period->late, late);
		given = verify_add(given, -period->taken);
	}
	verify_expect(v, 0, "period", psprintf("given of %s", what),
				  period->given, given);
	verify_expect(v, 0, "period", psprintf("transaction_id of %s", what),
				  period->transaction_id, first_by);
	if (!proration_is_kept(GetActiveSnapshot(), period))
		verify_report(v, 0, "period",
					  psprintf("what %s has earned is not what the changes of plan within it come to",
							   what));
	for (i = 0; i < period->nrolled; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!verify_find_grant(grants, period->rolled_grant_ids[i], &amount, &by,
							   &taken))
		{
			verify_report(v, 0, "period",
						  psprintf("%s rolled over into grant " INT64_FORMAT ", which the account does not have",
								   what, period->rolled_grant_ids[i]));
			return;
		}
		rolled = verify_add(rolled, amount);
	}
	verify_expect(v, 0, "period", psprintf("rolled of %s", what),
				  Max(period->rolled, 0), rolled);
	if (period->grace_grant_id != 0 &&
		!verify_find_grant(grants, period->grace_grant_id, &amount, &by, &taken))
		verify_report(v, 0, "period",
					  psprintf("%s lives on in grant " INT64_FORMAT ", which the account does not have",
							   what, period->grace_grant_id));
}

/*
 * Checks a period whose credits follow what was paid against its parts.  carried
 * is what the period before has carried to it.
 */
static void
check_paid_period(Verification *v, HTAB *grants, HTAB *debts,
				  const Period *period, int64 carried, bool closed)
{
	char	   *what = psprintf("period %s of subscription " INT64_FORMAT,
								clock_show(period->starts_at),
								period->subscription_id);
	PaidSums	sums;
	StoreScan	scan;
	PartRow		row;
	int64		claimed = 0;
	int64		less;
	int64		reversed;

	part_sums_begin(&sums);
	scan_begin(&scan, NULL, &paid_parts_by_end, GetActiveSnapshot(),
			   BY_INT64(period->subscription_id), BY_TIME(period->ends_at));
	while (scan_peek(&scan, ForwardScanDirection, &row))
		part_sums_add(&sums, &row.part);
	scan_end(&scan);
	verify_expect(v, 0, "period", psprintf("paid of %s", what),
				  period->paid, sums.positive);
	verify_expect(v, 0, "period", psprintf("credited of %s", what),
				  period->credited, sums.credited);
	verify_expect(v, 0, "period", psprintf("reversed of %s", what),
				  period->reversed, sums.reversed);
	/* nothing is given to a closed account, or taken from it */
	if (closed)
		return;
	part_sums_due(&sums, period->granted, &less, &reversed);
	verify_expect(v, 0, "period", psprintf("taken and carried of %s", what),
				  verify_add(period->taken, period->carried),
				  verify_add(less, carried));
	scan_begin(&scan, NULL, &grants_by_group, GetActiveSnapshot(),
			   BY_INT64(period->grant_id));
	while (scan_next(&scan, ForwardScanDirection) != NULL)
		claimed = verify_add(claimed,
							 verify_claimed(debts,
											DatumGetInt64(scan_key(&scan, 1))));
	scan_end(&scan);
	verify_expect(v, 0, "period",
				  psprintf("what is claimed from the grants of %s", what),
				  claimed, verify_add(period->taken, reversed));
}

/*
 * Checks the periods of a subscription that follow what was paid, by their ends.
 */
static void
check_paid_periods(Verification *v, HTAB *grants, HTAB *debts,
				   int64 subscription_id, bool closed)
{
	StoreScan	scan;
	Period		period;
	int64		carried = 0;

	scan_begin(&scan, NULL, &periods_paid_by_end, GetActiveSnapshot(),
			   BY_INT64(subscription_id));
	while (scan_peek(&scan, ForwardScanDirection, &period))
	{
		MemoryContext old = MemoryContextSwitchTo(v->row);
		int64		carries = period.carried;

		check_paid_period(v, grants, debts, &period, carried, closed);
		carried = carries;
		MemoryContextSwitchTo(old);
		MemoryContextReset(v->row);
	}
	scan_end(&scan);
}

/*
 * Reports a subscription that is due before the account's renews_at: it would not
 * be renewed before the account is changed.
 */
static void
check_renews_at(Verification *v, const Account *account)
{
	StoreScan	scan;
	Subscription first;

	scan_begin(&scan, NULL, &subscriptions_of_account_due,
			   GetActiveSnapshot(), BY_INT64(account->id));
	if (scan_peek(&scan, ForwardScanDirection, &first) &&
		first.due_at < account->renews_at)
		verify_report(v, 0, "due",
					  psprintf("subscription " INT64_FORMAT " is due before the account's renews_at",
							   first.id));
	scan_end(&scan);
}

/*
 * Checks the periods of an account's subscriptions.
 */
void
verify_periods(Verification *v, HTAB *grants, HTAB *debts,
			   const Account *account)
{
	StoreScan	subscriptions;

	check_renews_at(v, account);
	scan_begin(&subscriptions, NULL, &subscriptions_by_account,
			   GetActiveSnapshot(), BY_INT64(account->id));
	while (scan_next(&subscriptions, ForwardScanDirection) != NULL)
	{
		int64		id = DatumGetInt64(scan_key(&subscriptions, 1));
		StoreScan	periods;
		Period		period;

		scan_begin(&periods, NULL, &periods_by_start, GetActiveSnapshot(),
				   BY_INT64(id));
		while (scan_peek(&periods, ForwardScanDirection, &period))
		{
			MemoryContext old = MemoryContextSwitchTo(v->row);

			if (period.account_id != account->id)
				verify_report(v, 0, "period",
							  psprintf("period %s of subscription " INT64_FORMAT " is of another account",
									   clock_show(period.starts_at), id));
			else
				check_period_row(v, grants, debts, &period);
			MemoryContextSwitchTo(old);
			MemoryContextReset(v->row);
		}
		scan_end(&periods);
		check_paid_periods(v, grants, debts, id, account->status == ACCOUNT_CLOSED);
		verify_invoices(v, id);
	}
	scan_end(&subscriptions);
}
