/*
 * clawbacks.c
 *	  How many credits of a purchase are claimed back for money that was paid
 *	  back.
 *
 * All reversals that stand are added up.  Their share of what was paid is the
 * share that is claimed of each grant, rounded down; if everything was paid
 * back, all of each grant is claimed.  As this depends on the sum alone,
 * reversals may become known in any order, more than once, and before the
 * purchase is known to be paid.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/reversals.h"

#include "miscadmin.h"

/*
 * Adds up the reversals that stand: money and, apart from it, the credits of
 * refunds that were specified in credits.
 */
void
clawbacks_sum(List *reversals, Datum *money, int64 *credits)
{
	ListCell   *lc;

	*money = number(0);
	*credits = 0;
	foreach(lc, reversals)
	{
		const Reversal *reversal = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (reversal->status == REVERSAL_WON ||
			reversal->status == REVERSAL_WITHDRAWN)
			continue;
		*money = add(*money, reversal->money);
		*credits += reversal->credits;
	}
}

/*
 * Returns how much of a grant is claimed, given the sums of the reversals: money
 * of what was paid and, in addition, credits of the main grant, which has main.
 */
int64
clawbacks_share(int64 amount, Datum money, Datum paid, int64 credits,
				int64 main)
{
	Datum		part;
	Datum		whole;

	if (compare(paid, number(0)) == 0)
	{
		/* what was free can be refunded in credits only */
		part = number(credits);
		whole = number(main);
	}
	else
	{
		/* money / paid + credits / main, without a division */
		part = add(multiply(money, number(main)),
				   multiply(paid, number(credits)));
		whole = multiply(paid, number(main));
	}
	/* chargebacks on top of refunds may exceed what was paid */
	if (compare(part, whole) >= 0)
		return amount;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 divide(multiply(number(amount), part),
													whole, false)));
}

/*
 * Returns the price of credits of the main grant, which has main, rounded to the
 * currency's minor unit.
 */
Datum
clawbacks_worth(const Purchase *purchase, int64 credits, int64 main)
{
	if (credits == 0)
		return number(0);
	return money_round(DirectFunctionCall2(numeric_div,
										   multiply(purchase->money, number(credits)),
										   number(main)),
					   Max(money_exponent(purchase->currency), 0));
}

/*
 * Claims from the grants of a purchase what its reversals add up to, except on
 * closed accounts: closed is set if there is one that should change.  Returns
 * the first transaction, NULL if nothing changes.  claimed is set to what is
 * claimed from the first posting's account beyond what was claimed before.
 */
Entry *
clawbacks_claim(Posting *postings, int npostings, List *reversals,
				List *grants, Datum paid, int64 *claimed, bool *closed)
{
	int64		main = ((PurchasedGrant *) linitial(grants))->amount;
	Entry	   *first = NULL;
	Datum		money;
	int64		credits;
	ListCell   *lc;

	clawbacks_sum(reversals, &money, &credits);
	*claimed = 0;
	*closed = false;
	foreach(lc, grants)
	{
		const PurchasedGrant *grant = lfirst(lc);
		int64		after = clawbacks_share(grant->amount, money, paid,
											credits, main);
		Posting    *posting = NULL;
		int64		before;
		Entry	   *entry;
		int			i;

		CHECK_FOR_INTERRUPTS();
		for (i = 0; i < npostings; i++)
			if (postings[i].account.id == grant->account_id)
				posting = &postings[i];
		if (posting == NULL)
			elog(ERROR, "account " INT64_FORMAT " is not locked",
				 grant->account_id);
		before = debts_claimed(posting, grant->id);
		if (before == after)
			continue;
		if (posting->account.status == ACCOUNT_CLOSED)
		{
			*closed = true;
			continue;
		}
		entry = debts_claim(posting, grants_get(posting, grant->id), after);
		if (posting == &postings[0])
			*claimed += after - before;
		if (first == NULL)
			first = entry;
	}
	return first;
}
