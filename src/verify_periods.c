/*
 * verify_periods.c
 *	  Proving that what subscriptions gave is noted: a period whose row is lost
 *	  could be given again.
 */
#include "credits.h"

#include "periods.h"
#include "subscriptions.h"
#include "verify.h"

#include "utils/snapmgr.h"

/*
 * Tells whether a period names a grant: one of its own, or what was rolled over
 * from it.
 */
static bool
names_grant(const Period *period, int64 grant_id, bool rolled)
{
	int			i;

	if (rolled)
		return period->rolled_grant_id == grant_id;
	for (i = 0; i < period->ngrants; i++)
		if (period->grant_ids[i] == grant_id)
			return true;
	return false;
}

/*
 * Checks that the period of a transaction that gives a subscription's credits
 * has a row that says so.
 */
void
verify_period(Verification *v, const Entry *entry)
{
	int64		subscription_id;
	TimestampTz starts_at;
	Period		period;

	if (strcmp(entry->kind, KIND_ALLOCATION) != 0 || entry->ndraws != 1 ||
		!terms_int64(entry, "subscription", &subscription_id))
		return;
	starts_at = terms_time(entry, "period");
	if (starts_at == DT_NOEND)
		return;
	if (!periods_read(GetActiveSnapshot(), subscription_id, starts_at,
					  &period) ||
		period.account_id != entry->account_id)
		verify_report(v, entry->id, "period",
					  psprintf("the row of a period of subscription " INT64_FORMAT " is missing, so that it could be given again",
							   subscription_id));
	else if (!names_grant(&period, entry->draws[0].grant_id,
						  terms_get(entry, "rolled") != NULL))
		verify_report(v, entry->id, "period",
					  psprintf("a period of subscription " INT64_FORMAT " does not name grant " INT64_FORMAT ", which it gave",
							   subscription_id, entry->draws[0].grant_id));
}
